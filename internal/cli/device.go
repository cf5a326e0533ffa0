package cli

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// device is `dunlin device`.
func (a *app) device() *cobra.Command {
	return group(&cobra.Command{
		Use:   "device",
		Short: "List and change devices",
		Long: "List and change devices.\n\nA device is named by its name, by fleet/name or organization/fleet/name if others have the name too, " +
			"or by the first digits of its uuid.",
	}, a.deviceList(), a.deviceShow(), a.deviceRename(), a.deviceNote(), a.deviceMove(), a.deviceRemove(), a.devicePin(), a.deviceTrack())
}

func (a *app) deviceList() *cobra.Command {
	var of string
	cmd := jsonFlag(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List devices, of all fleets or of one",
		Example: "  dunlin device list\n  dunlin device list --fleet porch --json",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			filter, note := "", "There is no device yet. `dunlin provisioning-key create FLEET` lets one in."
			if of != "" {
				f, err := s.fleet(ctx, of)
				if err != nil {
					return err
				}
				filter = client.Filter("belongs_to__application eq ?", f.ID)
				note = fmt.Sprintf("Fleet %s has no device yet. `dunlin provisioning-key create %s` lets one in.", f.Slug, f.Slug)
			}
			all, err := s.Devices(ctx, filter)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), all)
			}
			if len(all) == 0 {
				s.note("%s", note)
				return nil
			}
			t := table{header: []string{"NAME", "UUID", "FLEET", "TYPE", "STATE", "RELEASE"}}
			for _, d := range all {
				t.add(d.Name, abbreviated(d.UUID), d.Fleet.Value().Slug, d.Type.Value().Slug, s.state(d), progress(d))
			}
			return t.print(s.out())
		}),
	})
	cmd.Flags().StringVarP(&of, "fleet", "f", "", "only devices of this `FLEET`")
	a.completeFlag(cmd, "fleet", a.fleetNames)
	return cmd
}

// state is whether a device is there, in a word.
func (s *session) state(d client.Device) string {
	switch {
	case d.Online:
		return "online"
	case d.LastSeen == nil:
		return "never seen"
	}
	return "offline " + short(s.now.Sub(*d.LastSeen))
}

// progress is the release a device runs, and the one it is on its way to.
func progress(d client.Device) string {
	running, target := d.Running.Value(), d.Target.Value()
	label := releaseLabel(running)
	if target.Commit != "" && target.Commit != running.Commit {
		label = strings.TrimSpace(label + " → " + releaseLabel(target))
	}
	if d.Pin.Value().Commit != "" {
		label += ", pinned"
	}
	return label
}

func (a *app) deviceShow() *cobra.Command {
	return jsonFlag(&cobra.Command{
		Use:               "show DEVICE",
		Short:             "Show one device, with its services",
		Example:           "  dunlin device show brave-heron\n  dunlin device show 7cf02a6 --json",
		Args:              words,
		ValidArgsFunction: a.complete(a.deviceNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			found, err := s.device(ctx, args[0])
			if err != nil {
				return err
			}
			d, err := s.Device(ctx, found.ID)
			if err != nil {
				return err
			}
			if s.asJSON {
				return printJSON(s.out(), d)
			}
			return s.printDevice(d)
		}),
	})
}

func (s *session) printDevice(d client.Device) error {
	var t sheet
	t.line("Name", d.Name)
	t.line("UUID", d.UUID)
	t.line("Fleet", d.Fleet.Value().Slug)
	t.line("Type", d.Type.Value().Slug)
	t.line("State", s.state(d))
	if d.Online {
		t.line("Doing", strings.TrimSpace(d.Status+" "+percent(d.Progress)))
	}
	t.line("Release", progress(d))
	t.line("Update", d.UpdateStatus)
	t.line("OS", strings.TrimSpace(d.OSVersion+" "+d.OSVariant))
	t.line("Agent", d.Supervisor)
	t.line("Address", d.IPAddress)
	t.line("Public", d.Public)
	t.line("MAC", d.MACAddress)
	t.line("CPU", percent(d.CPUUsage))
	if d.CPUTemp != nil {
		t.line("Temperature", fmt.Sprintf("%d °C", *d.CPUTemp))
	}
	t.line("Memory", usage(d.MemoryUsage, d.MemoryTotal))
	t.line("Storage", usage(d.StorageUsage, d.StorageTotal))
	if d.Undervolted {
		t.line("Power", "under-voltage")
	}
	t.line("Note", d.Note)
	t.line("Joined", ago(s.now, d.CreatedAt))
	if err := t.print(s.out()); err != nil || len(d.Installs) == 0 {
		return err
	}
	slices.SortFunc(d.Installs, func(a, b client.Install) int { return strings.Compare(service(a), service(b)) })
	services := table{header: []string{"SERVICE", "STATE", "RELEASE"}}
	for _, i := range d.Installs {
		services.add(service(i), strings.TrimSpace(strings.ToLower(i.Status)+" "+percent(i.Progress)), releaseLabel(i.Release.Value()))
	}
	if err := s.say(""); err != nil {
		return err
	}
	return services.print(s.out())
}

func service(i client.Install) string { return i.Image.Value().Service.Value().Name }

func percent(n *int64) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf("%d %%", *n)
}

func usage(used, total *int64) string {
	if used == nil || total == nil {
		return ""
	}
	return fmt.Sprintf("%d of %d MB", *used, *total)
}

// changeDevice makes a command that finds a device and changes one thing.
func (a *app) changeDevice(cmd *cobra.Command, what string, change func(ctx context.Context, s *session, d client.Device, args []string) (columns map[string]any, done string, err error)) *cobra.Command {
	cmd.Args = words
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = a.complete(a.deviceNames)
	}
	cmd.RunE = a.run(func(ctx context.Context, s *session, args []string) error {
		d, err := s.device(ctx, args[0])
		if err != nil {
			return err
		}
		columns, done, err := change(ctx, s, d, args[1:])
		if err != nil {
			return err
		}
		err = s.PatchDevice(ctx, d.ID, columns)
		if name, renames := columns["device_name"]; renames && client.StatusOf(err) == http.StatusConflict {
			return fault.Newf(fault.Conflict, "cannot rename %s: %q is taken in its fleet", fullName(d), name).WithHint("choose another name")
		}
		if err != nil {
			return fmt.Errorf("cannot %s %s: %w", what, fullName(d), err)
		}
		return s.say("%s", plain(done, false))
	})
	return cmd
}

func (a *app) deviceRename() *cobra.Command {
	return a.changeDevice(&cobra.Command{
		Use:     "rename DEVICE NAME",
		Short:   "Give a device another name",
		Example: "  dunlin device rename brave-heron porch-left",
	}, "rename", func(_ context.Context, _ *session, d client.Device, args []string) (map[string]any, string, error) {
		return map[string]any{"device_name": args[0]}, fmt.Sprintf("Renamed %s to %s.", fullName(d), args[0]), nil
	})
}

func (a *app) deviceNote() *cobra.Command {
	return a.changeDevice(&cobra.Command{
		Use:     "note DEVICE TEXT",
		Short:   "Write a note on a device; an empty one removes it",
		Example: "  dunlin device note brave-heron 'behind the water tank'\n  dunlin device note brave-heron ''",
	}, "write a note on", func(_ context.Context, _ *session, d client.Device, args []string) (map[string]any, string, error) {
		if args[0] == "" {
			return map[string]any{"note": nil}, fmt.Sprintf("Removed the note on %s.", fullName(d)), nil
		}
		return map[string]any{"note": args[0]}, fmt.Sprintf("Wrote the note on %s.", fullName(d)), nil
	})
}

func (a *app) deviceMove() *cobra.Command {
	return a.changeDevice(&cobra.Command{
		Use:               "move DEVICE FLEET",
		Short:             "Move a device to another fleet; it takes that fleet's release",
		Example:           "  dunlin device move brave-heron garden",
		ValidArgsFunction: a.complete(a.deviceNames, a.fleetNames),
	}, "move", func(ctx context.Context, s *session, d client.Device, args []string) (map[string]any, string, error) {
		f, err := s.fleet(ctx, args[0])
		if err != nil {
			return nil, "", err
		}
		return map[string]any{"belongs_to__application": f.ID}, fmt.Sprintf("Moved %s to %s.", fullName(d), f.Slug), nil
	})
}

func (a *app) devicePin() *cobra.Command {
	return a.changeDevice(&cobra.Command{
		Use:               "pin DEVICE RELEASE",
		Short:             "Let a device run one release, whatever its fleet does",
		Example:           "  dunlin device pin brave-heron 1.2.0\n  dunlin device pin brave-heron 4f2a91c",
		ValidArgsFunction: a.complete(a.deviceNames, a.releaseNames),
	}, "pin", func(ctx context.Context, s *session, d client.Device, args []string) (map[string]any, string, error) {
		r, err := s.releaseNamed(ctx, args[0], client.Fleet{Row: client.Row{ID: d.Fleet.ID}, Slug: d.Fleet.Value().Slug})
		if err != nil {
			return nil, "", err
		}
		return map[string]any{"is_pinned_on__release": r.ID}, fmt.Sprintf("Pinned %s to %s.", fullName(d), releaseLabel(r)), nil
	})
}

func (a *app) deviceTrack() *cobra.Command {
	return a.changeDevice(&cobra.Command{
		Use:     "track DEVICE",
		Short:   "Let a device run what its fleet runs",
		Example: "  dunlin device track brave-heron",
	}, "unpin", func(_ context.Context, _ *session, d client.Device, _ []string) (map[string]any, string, error) {
		return map[string]any{"is_pinned_on__release": nil}, fmt.Sprintf("%s follows its fleet.", fullName(d)), nil
	})
}

func (a *app) deviceRemove() *cobra.Command {
	return yesFlag(&cobra.Command{
		Use:               "rm DEVICE",
		Aliases:           []string{"remove"},
		Short:             "Remove a device with its variables, logs and key",
		Example:           "  dunlin device rm brave-heron\n  dunlin device rm brave-heron --yes",
		Args:              words,
		ValidArgsFunction: a.complete(a.deviceNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			d, err := s.device(ctx, args[0])
			if err != nil {
				return err
			}
			what := fmt.Sprintf("Device %s and its variables and logs will be gone for good. It goes on running what it has, and cannot come back with its old key.", fullName(d))
			if err := confirm(ctx, s.cmd, d.Name, what); err != nil {
				return err
			}
			if err := s.Delete(ctx, client.Key("device", d.ID), client.Query{}); err != nil {
				return fmt.Errorf("cannot remove %s: %w", fullName(d), err)
			}
			return s.say("Removed %s.", plain(fullName(d), false))
		}),
	})
}
