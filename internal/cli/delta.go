package cli

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// delta is `dunlin delta`.
func (a *app) delta() *cobra.Command {
	return group(&cobra.Command{
		Use:   "delta",
		Short: "See and make the differences that devices download instead of images",
		Long: "See and make the differences that devices download instead of images.\n\n" +
			"The server makes those that devices need by itself, as soon as a release is the target. A delta is named by its number (#12).",
	}, a.deltaList(), a.deltaShow(), a.deltaMake(), a.deltaRemove(), a.deltaCreate(), a.deltaApply(), a.deltaInfo())
}

func (a *app) deltaList() *cobra.Command {
	var most int
	cmd := jsonFlag(&cobra.Command{
		Use:               "list FLEET|RELEASE",
		Aliases:           []string{"ls"},
		Short:             "List the deltas of a fleet, or those that lead to a release",
		Example:           "  dunlin delta list porch\n  dunlin delta list 4f2a91c\n  dunlin delta list 1.2.0 --fleet porch --json",
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			if most < 0 {
				return fault.New(fault.Invalid, "the number of deltas cannot be negative").WithHint("use -n 0 for all")
			}
			filter, what, err := s.deltasOf(ctx, args[0])
			if err != nil {
				return err
			}
			all, err := s.Deltas(ctx, filter, most)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			if len(all) == 0 {
				s.note("There is no delta of %s yet. `dunlin delta make RELEASE` has one made.", what)
				return nil
			}
			t := table{header: []string{"ID", "SERVICE", "FROM", "TO", "STATUS", "SIZE", "INSTEAD OF", "USED"}}
			for _, d := range all {
				t.add(fmt.Sprintf("#%d", d.ID), deltaService(d), deltaRelease(d.Source), deltaRelease(d.Target), deltaStatus(d),
					size(d.Size), size(d.Replaces), strconv.FormatInt(d.Uses, 10))
			}
			return t.print(s.out())
		}),
	})
	cmd.Flags().IntVarP(&most, "number", "n", 50, "at most so many; 0 for all")
	return a.releaseFlags(cmd)
}

// deltasOf is the condition of the deltas that a fleet or a release stands for, and that in words.
func (s *session) deltasOf(ctx context.Context, word string) (filter, what string, err error) {
	if s.cmd.Flags().Lookup("fleet").Value.String() == "" {
		f, err := s.fleet(ctx, word)
		if err == nil {
			return client.OfFleet(f.ID), "fleet " + f.Slug, nil
		}
		if !fault.Is(err, fault.NotFound) {
			return "", "", err
		}
	}
	r, err := s.releaseOf(ctx, word)
	if fault.Is(err, fault.Invalid) && fault.Message(err) == notARelease(word).Error() {
		return "", "", fault.Newf(fault.NotFound, "there is no fleet %q, and no release can be named so", word).
			WithHint("`dunlin fleet list` lists your fleets")
	}
	return client.Filter("produces__image/any(i:i/release_image/any(l:l/is_part_of__release eq ?))", r.ID), "release " + releaseLabel(r), err
}

// deltaService is the name of the service that a delta is of.
func deltaService(d client.Delta) string {
	image := d.To.Value()
	return image.Service.Value().Name
}

// deltaRelease is a release at an end of a delta.
func deltaRelease(r client.Ref[client.Release]) string {
	release := r.Value()
	return releaseLabel(release)
}

// deltaStatus is the state of a delta in words.
func deltaStatus(d client.Delta) string {
	switch d.Status {
	case "running":
		return "being made"
	case "useless":
		return "not worth it"
	case "waiting":
		if d.Attempts > 0 {
			return "waiting to be tried again"
		}
	}
	return d.Status
}

func (a *app) deltaShow() *cobra.Command {
	return jsonFlag(&cobra.Command{
		Use:     "show DELTA",
		Short:   "Show one delta",
		Example: "  dunlin delta show 12\n  dunlin delta show '#12' --json",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			d, err := s.deltaNamed(ctx, args[0])
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), d)
			}
			return s.printDelta(d)
		}),
	})
}

func (s *session) printDelta(d client.Delta) error {
	target := d.Target.Value()
	image := d.To.Value()
	var t sheet
	t.line("Delta", fmt.Sprintf("#%d", d.ID))
	t.line("Fleet", target.Fleet.Value().Slug)
	t.line("Service", deltaService(d))
	t.line("From release", deltaRelease(d.Source))
	t.line("To release", deltaRelease(d.Target))
	t.line("Format", d.Format)
	t.line("Status", deltaStatus(d))
	t.line("Reason", d.Reason)
	t.line("Size", size(d.Size))
	t.line("Instead of", size(d.Replaces))
	t.line("Created", ago(s.now, d.CreatedAt))
	t.line("Making took", took(d.Started, d.Ended))
	if d.Status == "ready" {
		t.line("Image", image.Location+"@"+d.Digest)
		t.line("Used", counted(int(d.Uses), "time"))
	}
	if d.LastUsed != nil {
		t.line("Last used", ago(s.now, *d.LastUsed))
	}
	return t.print(s.out())
}

func (a *app) deltaMake() *cobra.Command {
	var from string
	cmd := jsonFlag(a.releaseFlags(&cobra.Command{
		Use:   "make RELEASE",
		Short: "Have the deltas made that lead to a release",
		Long: "Have the deltas made that lead to a release: from each release that devices of its fleet run now, or from one that is named.\n\n" +
			"The server makes those that devices need by itself. What is asked for by hand is made first; what has come to nothing is tried again.",
		Example:           "  dunlin delta make 4f2a91c\n  dunlin delta make 1.2.0 --from 1.1.0 --fleet porch",
		Args:              words,
		ValidArgsFunction: a.complete(a.releaseNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			to, err := s.releaseOf(ctx, args[0])
			if err != nil {
				return err
			}
			f := client.Fleet{Row: client.Row{ID: to.Fleet.ID}, Slug: to.Fleet.Value().Slug}
			var bases []client.Release
			if from != "" {
				base, err := s.releaseNamed(ctx, from, f)
				if err != nil {
					return err
				}
				bases = []client.Release{base}
			} else if bases, err = s.RunningReleases(ctx, f.ID, to.ID); err != nil {
				return err
			}
			if len(bases) == 0 {
				return fault.Newf(fault.Invalid, "no device of fleet %s says that it runs another release", f.Slug).
					WithHint("say where the delta is to begin: --from RELEASE")
			}
			made, err := s.makeDeltas(ctx, bases, to)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), made)
			}
			for _, d := range made {
				if err := s.say("Delta #%d of service %s, %s → %s, is %s.", d.ID, deltaService(d), deltaRelease(d.Source), deltaRelease(d.Target), deltaStatus(d)); err != nil {
					return err
				}
			}
			return nil
		}),
	}))
	cmd.Flags().StringVar(&from, "from", "", "the `RELEASE` that the deltas begin with (default: each that devices run now)")
	a.completeFlag(cmd, "from", a.releaseNames)
	return cmd
}

// makeDeltas has the deltas of all services made that two releases have and that differ.
func (s *session) makeDeltas(ctx context.Context, bases []client.Release, to client.Release) (made []client.Delta, err error) {
	target, err := s.Release(ctx, to.ID)
	if err != nil {
		return nil, err
	}
	for _, b := range bases {
		base, err := s.Release(ctx, b.ID)
		if err != nil {
			return made, err
		}
		old := map[int64]client.Image{}
		for _, i := range base.Images {
			image := i.Image.Value()
			old[image.Service.ID] = image
		}
		for _, i := range target.Images {
			image := i.Image.Value()
			source, ok := old[image.Service.ID]
			if !ok || source.Digest == image.Digest {
				continue
			}
			d, err := s.makeDelta(ctx, source.ID, image.ID)
			if err != nil {
				return made, fmt.Errorf("cannot make the delta of service %s, %s → %s: %w", image.Service.Value().Name, releaseLabel(base), releaseLabel(target), err)
			}
			made = append(made, d)
		}
	}
	if len(made) == 0 {
		return nil, fault.Newf(fault.Invalid, "there is nothing to make: no service of release %s has another image before", releaseLabel(to))
	}
	return made, nil
}

// makeDelta has one delta made, also if one has come to nothing.
func (s *session) makeDelta(ctx context.Context, from, to int64) (client.Delta, error) {
	d, err := s.NewDelta(ctx, from, to)
	if err == nil {
		return s.Client.Delta(ctx, d.ID)
	}
	if client.StatusOf(err) != http.StatusConflict {
		return d, err
	}
	there, err := s.Deltas(ctx, client.Filter("originates_from__image eq ? and produces__image eq ? and format eq 'dunlin'", from, to), 1)
	if err != nil {
		return d, err
	}
	if len(there) == 0 {
		return d, fault.New(fault.Conflict, "somebody has just removed it").WithHint("try again")
	}
	if err := s.RetryDelta(ctx, there[0].ID); err != nil && client.StatusOf(err) != http.StatusConflict {
		return d, err
	}
	return s.Client.Delta(ctx, there[0].ID)
}

func (a *app) deltaRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "rm DELTA...",
		Aliases: []string{"remove"},
		Short:   "Remove deltas; those that devices need are made again",
		Example: "  dunlin delta rm 12\n  dunlin delta rm '#12' '#13'",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			for _, word := range args {
				d, err := s.deltaNamed(ctx, word)
				if err != nil {
					return err
				}
				if err := s.Delete(ctx, client.Key("delta", d.ID), client.Query{}); err != nil {
					return fmt.Errorf("cannot remove delta #%d: %w", d.ID, err)
				}
				if err := s.say("Removed delta #%d of service %s, %s → %s.", d.ID, deltaService(d), deltaRelease(d.Source), deltaRelease(d.Target)); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// deltaNamed finds a delta by its number.
func (s *session) deltaNamed(ctx context.Context, word string) (client.Delta, error) {
	id, err := strconv.ParseInt(strings.TrimPrefix(word, "#"), 10, 64)
	if err != nil || id <= 0 {
		return client.Delta{}, fault.Newf(fault.Invalid, "%q does not name a delta", word).WithHint("name it by its number, as `dunlin delta list FLEET` shows it")
	}
	d, err := s.Client.Delta(ctx, id)
	if client.StatusOf(err) == http.StatusNotFound {
		return d, fault.Newf(fault.NotFound, "there is no delta #%d", id).WithHint("`dunlin delta list FLEET` lists the deltas of a fleet")
	}
	return d, err
}
