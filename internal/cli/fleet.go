package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// fleet is `dunlin fleet`.
func (a *app) fleet() *cobra.Command {
	return group(&cobra.Command{Use: "fleet", Short: "Make, list and change fleets"},
		a.fleetCreate(), a.fleetList(), a.fleetShow(), a.fleetRename(), a.fleetRemove(), a.fleetTrack(), a.fleetPin())
}

func (a *app) fleetCreate() *cobra.Command {
	var kind, org string
	cmd := jsonFlag(&cobra.Command{
		Use:   "create NAME --type SLUG",
		Short: "Make a fleet for one kind of device",
		Example: "  dunlin fleet create porch --type raspberrypi4-64\n" +
			"  dunlin fleet create porch --type generic-amd64 --org home",
		Args:              words,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			if kind == "" {
				return fault.New(fault.Invalid, "--type is missing").WithHint("`dunlin device-type list` lists the kinds of device")
			}
			types, err := s.DeviceTypes(ctx, client.Filter("device_type_alias/any(dta:dta/is_referenced_by__alias eq ?)", kind))
			if err != nil {
				return err
			}
			if len(types) == 0 {
				return fault.Newf(fault.NotFound, "there is no device type %q", kind).WithHint("`dunlin device-type list` lists the kinds of device")
			}
			owner, err := s.organization(ctx, org)
			if err != nil {
				return err
			}
			f, err := s.CreateFleet(ctx, client.NewFleet{Name: args[0], Organization: owner.ID, DeviceType: types[0].ID})
			if client.StatusOf(err) == http.StatusConflict {
				return fault.Newf(fault.Conflict, "cannot create fleet: %s already has a fleet %q", owner.Handle, args[0]).WithHint("choose another name")
			}
			if err != nil {
				return fmt.Errorf("cannot create fleet %s: %w", args[0], err)
			}
			if s.asJSON {
				return printJSON(s.out(), f)
			}
			return s.advise(fmt.Sprintf("Created fleet %s for %s.", f.Slug, types[0].Name),
				fmt.Sprintf("Next: `dunlin remote %s` says where to push, `dunlin provisioning-key create %s` lets devices in.", f.Slug, f.Slug))
		}),
	})
	cmd.Flags().StringVarP(&kind, "type", "t", "", "`SLUG` of the kind of device, from 'dunlin device-type list'")
	cmd.Flags().StringVar(&org, "org", "", "`HANDLE` of the organization that owns it; not needed if you are in one only")
	a.completeFlag(cmd, "type", a.deviceTypeNames)
	return cmd
}

// organization is the one with the handle, or the only one the user is in.
func (s *session) organization(ctx context.Context, handle string) (client.Organization, error) {
	me, err := s.me(ctx)
	if err != nil {
		return client.Organization{}, err
	}
	all, err := s.Organizations(ctx, me)
	if err != nil {
		return client.Organization{}, err
	}
	for _, o := range all {
		if o.Handle == strings.ToLower(handle) || handle == "" && len(all) == 1 {
			return o, nil
		}
	}
	yours := strings.Join(each(all, func(o client.Organization) string { return o.Handle }), ", ")
	switch {
	case len(all) == 0:
		return client.Organization{}, fault.New(fault.Denied, "you are in no organization that could own a fleet")
	case handle == "":
		return client.Organization{}, fault.New(fault.Invalid, "you are in several organizations").WithHint("say which with --org: " + yours)
	}
	return client.Organization{}, fault.Newf(fault.NotFound, "you are in no organization %q", handle).WithHint("you are in " + yours)
}

func (a *app) fleetList() *cobra.Command {
	return jsonFlag(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the fleets you work with",
		Example: "  dunlin fleet list\n  dunlin fleet list --json",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			all, err := s.Fleets(ctx, "")
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			if len(all) == 0 {
				s.note("There is no fleet yet. `dunlin fleet create NAME --type SLUG` makes one.")
				return nil
			}
			t := table{header: []string{"FLEET", "TYPE", "DEVICES", "RELEASE"}}
			for _, f := range all {
				t.add(f.Slug, f.Type.Value().Slug, presence(f), releaseLabel(f.Target.Value()))
			}
			return t.print(s.out())
		}),
	})
}

// presence is how many devices a fleet has and how many of them are online.
func presence(f client.Fleet) string {
	online := 0
	for _, d := range f.Devices {
		if d.Online {
			online++
		}
	}
	if len(f.Devices) == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%d online)", len(f.Devices), online)
}

func (a *app) fleetShow() *cobra.Command {
	return jsonFlag(&cobra.Command{
		Use:               "show FLEET",
		Short:             "Show one fleet",
		Example:           "  dunlin fleet show porch\n  dunlin fleet show home/porch --json",
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			f, err := fleetNamed(ctx, args[0], s.Fleets)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), f)
			}
			follows := "the newest release"
			if !f.TrackLatest {
				follows = "pinned"
			}
			var t sheet
			t.line("Fleet", f.Slug)
			t.line("UUID", f.UUID)
			t.line("Type", f.Type.Value().Slug+", "+f.Type.Value().Arch.Value().Slug)
			t.line("Devices", presence(f))
			t.line("Release", releaseLabel(f.Target.Value()))
			t.line("Follows", follows)
			t.line("Created", ago(s.now, f.CreatedAt))
			return t.print(s.out())
		}),
	})
}

func (a *app) fleetRename() *cobra.Command {
	return &cobra.Command{
		Use:               "rename FLEET NAME",
		Short:             "Give a fleet another name; the address to push to changes with it",
		Example:           "  dunlin fleet rename porch veranda",
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			f, err := s.fleet(ctx, args[0])
			if err != nil {
				return err
			}
			err = s.Patch(ctx, client.Key("application", f.ID), client.Query{}, map[string]any{"app_name": args[1]})
			if client.StatusOf(err) == http.StatusConflict {
				return fault.Newf(fault.Conflict, "cannot rename fleet %s: %q is taken", f.Slug, args[1]).WithHint("choose another name")
			}
			if err != nil {
				return fmt.Errorf("cannot rename fleet %s: %w", f.Slug, err)
			}
			renamed, err := s.FleetNames(ctx, client.Filter("id eq ?", f.ID))
			if err != nil || len(renamed) == 0 {
				return err
			}
			return s.advise(fmt.Sprintf("Renamed fleet %s to %s.", f.Slug, renamed[0].Slug),
				fmt.Sprintf("Next: `git remote set-url dunlin …` with what `dunlin remote %s` says.", renamed[0].Slug))
		}),
	}
}

func (a *app) fleetRemove() *cobra.Command {
	return yesFlag(&cobra.Command{
		Use:               "rm FLEET",
		Aliases:           []string{"remove"},
		Short:             "Remove a fleet with its devices, releases, images and variables",
		Example:           "  dunlin fleet rm porch\n  dunlin fleet rm porch --yes",
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			f, err := fleetNamed(ctx, args[0], s.Fleets)
			if err != nil {
				return err
			}
			what := fmt.Sprintf("Fleet %s, its %s, and all its releases, images and variables will be gone for good.", f.Slug, counted(len(f.Devices), "device"))
			if err := confirm(ctx, s.cmd, f.Slug, what); err != nil {
				return err
			}
			if err := s.Delete(ctx, client.Key("application", f.ID), client.Query{}); err != nil {
				return fmt.Errorf("cannot remove fleet %s: %w", f.Slug, err)
			}
			return s.say("Removed fleet %s.", f.Slug)
		}),
	})
}

func (a *app) fleetTrack() *cobra.Command {
	return &cobra.Command{
		Use:               "track-latest FLEET",
		Aliases:           []string{"track"},
		Short:             "Let a fleet run its newest release, now and from now on",
		Example:           "  dunlin fleet track-latest porch",
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			f, err := s.fleet(ctx, args[0])
			if err != nil {
				return err
			}
			if err := s.TrackLatest(ctx, f.ID); err != nil {
				return fmt.Errorf("cannot track the newest release of %s: %w", f.Slug, err)
			}
			return s.say("Fleet %s runs its newest release.", f.Slug)
		}),
	}
}

func (a *app) fleetPin() *cobra.Command {
	return &cobra.Command{
		Use:               "pin FLEET RELEASE",
		Short:             "Let a fleet run one release, whatever is pushed later",
		Example:           "  dunlin fleet pin porch 1.2.0\n  dunlin fleet pin porch 4f2a91c",
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames, a.releaseNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			f, err := s.fleet(ctx, args[0])
			if err != nil {
				return err
			}
			r, err := s.releaseNamed(ctx, args[1], f)
			if err != nil {
				return err
			}
			return s.pinFleet(ctx, f, r)
		}),
	}
}

func (s *session) pinFleet(ctx context.Context, f client.Fleet, r client.Release) error {
	if err := s.PinFleet(ctx, f.ID, r.ID); err != nil {
		return fmt.Errorf("cannot pin fleet %s: %w", f.Slug, err)
	}
	return s.advise(fmt.Sprintf("Pinned fleet %s to %s.", f.Slug, releaseLabel(r)),
		fmt.Sprintf("Devices that are pinned themselves keep their release. `dunlin fleet track-latest %s` undoes this.", f.Slug))
}

// deviceType is `dunlin device-type`.
func (a *app) deviceType() *cobra.Command {
	return group(&cobra.Command{Use: "device-type", Short: "List the kinds of device"},
		jsonFlag(&cobra.Command{
			Use:     "list",
			Aliases: []string{"ls"},
			Short:   "List the kinds of device a fleet can be for",
			Example: "  dunlin device-type list",
			Args:    words,
			RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
				all, err := s.DeviceTypes(ctx, "")
				if err != nil {
					return err
				}
				if s.asJSON {
					return printJSON(s.out(), all)
				}
				t := table{header: []string{"SLUG", "NAME", "ARCHITECTURE", "ALSO"}}
				for _, dt := range all {
					var also []string
					for _, alias := range dt.Aliases {
						if alias.Alias != dt.Slug {
							also = append(also, alias.Alias)
						}
					}
					t.add(dt.Slug, dt.Name, dt.Arch.Value().Slug, strings.Join(also, ", "))
				}
				return t.print(s.out())
			}),
		}))
}
