package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// release is `dunlin release`.
func (a *app) release() *cobra.Command {
	return group(&cobra.Command{
		Use:   "release",
		Short: "List and change releases",
		Long:  "List and change releases.\n\nA release is named by the first digits of its commit, by its number (#12) or by its version (1.2.0).",
	}, a.releaseList(), a.releaseShow(), a.releasePin(), a.releaseFinalize(), a.releaseInvalidate(), a.releaseValidate(), a.releaseNote(), a.asset())
}

func (a *app) releaseList() *cobra.Command {
	var most int
	cmd := jsonFlag(&cobra.Command{
		Use:               "list FLEET",
		Aliases:           []string{"ls"},
		Short:             "List the releases of a fleet, newest first",
		Example:           "  dunlin release list porch\n  dunlin release list porch -n 5 --json",
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			if most < 0 {
				return fault.New(fault.Invalid, "the number of releases cannot be negative").WithHint("use -n 0 for all")
			}
			f, err := s.fleet(ctx, args[0])
			if err != nil {
				return err
			}
			all, err := s.Releases(ctx, client.Filter("belongs_to__application eq ?", f.ID), most)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			if len(all) == 0 {
				s.note("Fleet %s has no release yet. `dunlin remote %s` says where to push.", f.Slug, f.Slug)
				return nil
			}
			t := table{header: []string{"ID", "COMMIT", "VERSION", "STATUS", "CREATED", "NOTE"}}
			for _, r := range all {
				t.add(fmt.Sprintf("#%d", r.ID), abbreviated(r.Commit), version(r), releaseStatus(r, f), ago(s.now, r.CreatedAt), r.Note)
			}
			return t.print(s.out())
		}),
	})
	cmd.Flags().IntVarP(&most, "number", "n", 20, "at most so many; 0 for all")
	return cmd
}

// releaseStatus is the state of a release in words, with what makes it stand out.
func releaseStatus(r client.Release, f client.Fleet) string {
	status := r.Status
	if status == "success" && !r.Final {
		status = "draft"
	}
	if r.Invalidated {
		status += ", invalidated"
	}
	if r.ID == f.Target.ID && r.ID != 0 {
		status += ", current"
	}
	return status
}

func (a *app) releaseShow() *cobra.Command {
	var showLog bool
	cmd := jsonFlag(&cobra.Command{
		Use:               "show RELEASE",
		Short:             "Show one release, with its images",
		Example:           "  dunlin release show 4f2a91c\n  dunlin release show 1.2.0 --fleet porch\n  dunlin release show '#12' --log",
		Args:              words,
		ValidArgsFunction: a.complete(a.releaseNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			found, err := s.releaseOf(ctx, args[0])
			if err != nil {
				return err
			}
			r, err := s.Release(ctx, found.ID)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), r)
			}
			return s.printRelease(r, showLog)
		}),
	})
	cmd.Flags().BoolVar(&showLog, "log", false, "print the build log too")
	return a.releaseFlags(cmd)
}

func (s *session) printRelease(r client.Release, showLog bool) error {
	var t sheet
	t.line("Release", fmt.Sprintf("#%d", r.ID))
	t.line("Commit", r.Commit)
	t.line("Version", r.Version)
	t.line("Fleet", r.Fleet.Value().Slug)
	t.line("Status", releaseStatus(r, client.Fleet{}))
	t.line("Created", ago(s.now, r.CreatedAt))
	t.line("Build took", took(r.Started, r.Ended))
	t.line("Note", r.Note)
	if err := t.print(s.out()); err != nil {
		return err
	}
	if len(r.Images) > 0 {
		images := table{header: []string{"SERVICE", "STATUS", "SIZE", "DIGEST"}}
		for _, i := range r.Images {
			image := i.Image.Value()
			digest := strings.TrimPrefix(image.Digest, "sha256:")
			images.add(image.Service.Value().Name, image.Status, size(image.Size), digest[:min(12, len(digest))])
		}
		if err := s.say(""); err != nil {
			return err
		}
		if err := images.print(s.out()); err != nil {
			return err
		}
	}
	if !showLog || r.BuildLog == "" {
		return nil
	}
	return s.say("\n%s", plain(strings.TrimRight(r.BuildLog, "\n"), colours(s.out())))
}

// size is a number of bytes for people.
func size(n client.Bytes) string {
	switch {
	case n == 0:
		return ""
	case n < 1e3:
		return fmt.Sprintf("%d B", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}

func (a *app) releasePin() *cobra.Command {
	return a.releaseFlags(&cobra.Command{
		Use:               "pin RELEASE",
		Short:             "Let its fleet run a release, whatever is pushed later",
		Example:           "  dunlin release pin 4f2a91c\n  dunlin release pin 1.2.0 --fleet porch",
		Args:              words,
		ValidArgsFunction: a.complete(a.releaseNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			r, err := s.releaseOf(ctx, args[0])
			if err != nil {
				return err
			}
			return s.pinFleet(ctx, client.Fleet{Row: client.Row{ID: r.Fleet.ID}, Slug: r.Fleet.Value().Slug}, r)
		}),
	})
}

func (a *app) releaseFinalize() *cobra.Command {
	return a.releaseFlags(&cobra.Command{
		Use:               "finalize RELEASE",
		Aliases:           []string{"finalise"},
		Short:             "Make a draft a release that fleets may follow",
		Example:           "  dunlin release finalize 4f2a91c",
		Args:              words,
		ValidArgsFunction: a.complete(a.releaseNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			r, err := s.releaseOf(ctx, args[0])
			if err != nil {
				return err
			}
			if r.Final {
				return s.say("Release %s is final already.", releaseLabel(r))
			}
			if err := s.Patch(ctx, client.Key("release", r.ID), client.Query{}, map[string]any{"is_final": true}); err != nil {
				return fmt.Errorf("cannot finalize release %s: %w", releaseLabel(r), err)
			}
			if r, err = s.Release(ctx, r.ID); err != nil {
				return err
			}
			return s.say("Finalized release %s.", releaseLabel(r))
		}),
	})
}

func (a *app) releaseInvalidate() *cobra.Command {
	var reason string
	cmd := a.judged("invalidate", "Say that a release is no good: no fleet follows it any more", func() map[string]any {
		columns := map[string]any{"is_invalidated": true}
		if reason != "" {
			columns["invalidation_reason"] = reason
		}
		return columns
	})
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY`, for those who find it later")
	return cmd
}

func (a *app) releaseValidate() *cobra.Command {
	return a.judged("validate", "Take back that a release is no good", func() map[string]any {
		return map[string]any{"is_invalidated": false, "invalidation_reason": nil}
	})
}

// judged is a command that says of a release whether fleets may follow it.
func (a *app) judged(verb, short string, columns func() map[string]any) *cobra.Command {
	return a.releaseFlags(&cobra.Command{
		Use:               verb + " RELEASE",
		Short:             short,
		Example:           "  dunlin release " + verb + " 4f2a91c",
		Args:              words,
		ValidArgsFunction: a.complete(a.releaseNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			r, err := s.releaseOf(ctx, args[0])
			if err != nil {
				return err
			}
			if err := s.Patch(ctx, client.Key("release", r.ID), client.Query{}, columns()); err != nil {
				return fmt.Errorf("cannot %s release %s: %w", verb, releaseLabel(r), err)
			}
			return s.say("Release %s is %sd.", releaseLabel(r), verb)
		}),
	})
}

func (a *app) releaseNote() *cobra.Command {
	return a.releaseFlags(&cobra.Command{
		Use:               "note RELEASE TEXT",
		Short:             "Write a note on a release; an empty one removes it",
		Example:           "  dunlin release note 4f2a91c 'fixes the night mode'",
		Args:              words,
		ValidArgsFunction: a.complete(a.releaseNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			r, err := s.releaseOf(ctx, args[0])
			if err != nil {
				return err
			}
			var note any
			if args[1] != "" {
				note = args[1]
			}
			if err := s.Patch(ctx, client.Key("release", r.ID), client.Query{}, map[string]any{"note": note}); err != nil {
				return fmt.Errorf("cannot write a note on release %s: %w", releaseLabel(r), err)
			}
			if note == nil {
				return s.say("Removed the note on release %s.", releaseLabel(r))
			}
			return s.say("Wrote the note on release %s.", releaseLabel(r))
		}),
	})
}

// releaseFlags gives a command --fleet, which tells releases of the same version apart.
func (a *app) releaseFlags(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringP("fleet", "f", "", "look for the release in this `FLEET` only")
	a.completeFlag(cmd, "fleet", a.fleetNames)
	return cmd
}

// releaseOf finds a release, in the fleet of --fleet if it is given.
func (s *session) releaseOf(ctx context.Context, word string) (client.Release, error) {
	of, err := s.cmd.Flags().GetString("fleet")
	if err != nil {
		return client.Release{}, err
	}
	var f client.Fleet
	if of != "" {
		if f, err = s.fleet(ctx, of); err != nil {
			return client.Release{}, err
		}
	}
	return s.releaseNamed(ctx, word, f)
}
