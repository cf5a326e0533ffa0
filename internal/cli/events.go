package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
)

// events is `dunlin events`.
func (a *app) events() *cobra.Command {
	var inFleet, onDevice, after string
	var types []string
	cmd := jsonFlag(&cobra.Command{
		Use:   "events",
		Short: "Watch what happens to fleets and devices, as it happens",
		Long: "Watch what happens to fleets, devices and releases, as it happens, until Ctrl-C.\n\n" +
			"With --json each event is an object on a line of its own; --after takes the id of the last one you know, and goes on\n" +
			"from there. An event of type reset says that some were missed: look at everything anew.",
		Example: "  dunlin events\n  dunlin events --fleet porch --type device.online,device.offline\n  dunlin events --json --after 1763836800000000",
		Args:    words,
		RunE: a.run(func(ctx context.Context, s *session, _ []string) error {
			o := client.EventOptions{Types: types, After: after, Lost: func(err error) { s.note("note: %s; trying again", plain(err.Error(), false)) }}
			if inFleet != "" {
				f, err := s.fleet(ctx, inFleet)
				if err != nil {
					return err
				}
				o.Fleets = []int64{f.ID}
			}
			if onDevice != "" {
				d, err := s.device(ctx, onDevice)
				if err != nil {
					return err
				}
				o.Devices = []int64{d.ID}
			}
			names := &eventNames{s: s, fleets: map[int64]string{}, devices: map[int64]string{}}
			return s.Events(ctx, o, func(e client.Event) error {
				if s.asJSON {
					return json.NewEncoder(s.out()).Encode(e)
				}
				return names.print(ctx, e)
			})
		}),
	})
	cmd.Flags().StringVarP(&inFleet, "fleet", "f", "", "only what happens in this `FLEET`")
	cmd.Flags().StringVarP(&onDevice, "device", "d", "", "only what happens to this `DEVICE`")
	cmd.Flags().StringSliceVarP(&types, "type", "t", nil, "only events of these `TYPES`, such as device.online, or device for all of a device's")
	cmd.Flags().StringVar(&after, "after", "", "go on after the event with this `ID`")
	a.completeFlag(cmd, "fleet", a.fleetNames)
	a.completeFlag(cmd, "device", a.deviceNames)
	return cmd
}

// eventNames prints events with names for ids, each asked for once.
type eventNames struct {
	s               *session
	fleets, devices map[int64]string
}

func (n *eventNames) print(ctx context.Context, e client.Event) error {
	if e.Type == client.EventStart {
		n.s.note("Waiting for something to happen. Ctrl-C ends it.")
		return nil
	}
	about := ""
	switch {
	case e.Device != 0:
		about = n.device(ctx, e.Device)
	case e.Fleet != 0:
		about = n.fleet(ctx, e.Fleet)
	}
	if e.Release != 0 {
		about += fmt.Sprintf(" release #%d", e.Release)
	}
	at := e.Time
	if at.IsZero() {
		at = n.s.now
	}
	return n.s.say("%s  %s  %s  %s", at.Local().Format(time.TimeOnly), plain(e.Type, false), cellText(about), cellText(details(e.Data)))
}

func (n *eventNames) device(ctx context.Context, id int64) string {
	if _, known := n.devices[id]; !known {
		n.devices[id] = fmt.Sprintf("device %d", id) // one that is gone has no name any more
		if found, err := n.s.DeviceNames(ctx, client.Filter("id eq ?", id)); err == nil && len(found) == 1 {
			n.devices[id] = fullName(found[0])
		}
	}
	return n.devices[id]
}

func (n *eventNames) fleet(ctx context.Context, id int64) string {
	if _, known := n.fleets[id]; !known {
		n.fleets[id] = fmt.Sprintf("fleet %d", id)
		if found, err := n.s.FleetNames(ctx, client.Filter("id eq ?", id)); err == nil && len(found) == 1 {
			n.fleets[id] = found[0].Slug
		}
	}
	return n.fleets[id]
}
