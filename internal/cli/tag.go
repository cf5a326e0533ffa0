package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// tag is `dunlin tag`.
func (a *app) tag() *cobra.Command {
	return group(&cobra.Command{
		Use:   "tag",
		Short: "Write keys and values on fleets, devices and releases",
		Long: "Write keys and values on fleets, devices and releases.\n\n" +
			"Tags are for people and their scripts; containers do not see them.",
	}, a.tagSet(), a.tagList(), a.tagRemove())
}

func (a *app) tagSet() *cobra.Command {
	return a.taggedFlags(&cobra.Command{
		Use:               "set KEY=VALUE...",
		Short:             "Set tags",
		Example:           "  dunlin tag set room=cellar --device brave-heron\n  dunlin tag set tested=yes --release 4f2a91c",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			all, err := readTags(args)
			if err != nil {
				return err
			}
			of, name, err := s.tagged(ctx)
			if err != nil {
				return err
			}
			for _, t := range all {
				if err := s.SetTag(ctx, of, t.Key, t.Value); err != nil {
					return fmt.Errorf("cannot set tag %s of %s: %w", t.Key, name, err)
				}
				if err := s.say("Set tag %s of %s.", plain(t.Key, false), name); err != nil {
					return err
				}
			}
			return nil
		}),
	})
}

func (a *app) tagList() *cobra.Command {
	return jsonFlag(a.taggedFlags(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List tags",
		Example: "  dunlin tag list --fleet porch\n  dunlin tag list --device brave-heron --json",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			of, name, err := s.tagged(ctx)
			if err != nil {
				return err
			}
			all, err := s.Tags(ctx, of)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			if len(all) == 0 {
				s.note("There is no tag on %s.", name)
				return nil
			}
			t := table{header: []string{"KEY", "VALUE"}}
			for _, tag := range all {
				t.add(tag.Key, tag.Value)
			}
			return t.print(s.out())
		}),
	}))
}

func (a *app) tagRemove() *cobra.Command {
	return a.taggedFlags(&cobra.Command{
		Use:               "rm KEY...",
		Aliases:           []string{"remove"},
		Short:             "Remove tags",
		Example:           "  dunlin tag rm room --device brave-heron",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			of, name, err := s.tagged(ctx)
			if err != nil {
				return err
			}
			for _, key := range args {
				if err := s.RemoveTag(ctx, of, key); err != nil {
					return fmt.Errorf("cannot remove tag %s of %s: %w", key, name, err)
				}
				if err := s.say("Removed tag %s of %s.", plain(key, false), name); err != nil {
					return err
				}
			}
			return nil
		}),
	})
}

// taggedFlags gives a command the flags that say what is tagged.
func (a *app) taggedFlags(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringP("fleet", "f", "", "tags of this `FLEET`; with --release, the fleet to look for the release in")
	cmd.Flags().StringP("device", "d", "", "tags of this `DEVICE`")
	cmd.Flags().StringP("release", "r", "", "tags of this `RELEASE`")
	a.completeFlag(cmd, "fleet", a.fleetNames)
	a.completeFlag(cmd, "device", a.deviceNames)
	a.completeFlag(cmd, "release", a.releaseNames)
	return cmd
}

// tagged reads the flags of taggedFlags; name is for people.
func (s *session) tagged(ctx context.Context) (of client.Tagged, name string, err error) {
	flag := func(name string) string { return s.cmd.Flags().Lookup(name).Value.String() }
	inFleet, onDevice, onRelease := flag("fleet"), flag("device"), flag("release")
	switch {
	case onDevice != "" && inFleet == "" && onRelease == "":
		d, err := s.device(ctx, onDevice)
		return client.Tagged{Device: d.ID}, plain(fullName(d), false), err
	case onDevice == "" && onRelease != "":
		r, err := s.releaseOf(ctx, onRelease)
		return client.Tagged{Release: r.ID}, releaseLabel(r), err
	case onDevice == "" && inFleet != "":
		f, err := s.fleet(ctx, inFleet)
		return client.Tagged{Fleet: f.ID}, f.Slug, err
	}
	return of, "", fault.New(fault.Invalid, "say whose tags: of one fleet, one device or one release").
		WithHint("use --fleet FLEET, --device DEVICE or --release RELEASE")
}

// readTags reads tags as people write them: KEY=VALUE.
func readTags(words []string) (all []client.Tag, err error) {
	for _, w := range words {
		key, value, found := strings.Cut(w, "=")
		if !found || key == "" || strings.ContainsAny(key, " \t\r\n") {
			return nil, fault.Newf(fault.Invalid, "%q is no tag", w).WithHint("write it as KEY=VALUE, the key without spaces; KEY= sets it to nothing")
		}
		all = append(all, client.Tag{Key: key, Value: value})
	}
	return all, nil
}
