package config

import (
	"fmt"
	"slices"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// samples describes a house that was not described: three zones, and a lamp that comes on when somebody is at the
// porch.
func (d *draft) samples() {
	d.Samples = true
	settings := d.inputSettings()
	at := place{source: "the samples"}
	for i, z := range []struct{ name, location string }{{"Hall", "Ground floor"}, {"Porch", "Outside"}, {"Landing", "First floor"}} {
		s := draftZone{set: settings, at: at, number: i + 1, input: name{originalInputs[i], at}}
		if settings.Profile == zone.Legacy {
			open := 78.0
			s.aroundLevels(29, &open)
		}
		s.Name, s.Type, s.Location = z.name, "Motion Detector", z.location
		d.zones = append(d.zones, s)
	}
	o := draftOutput{at: at, pin: name{originalRelays[0], at}, maxSaid: true}
	o.Name, o.Type, o.Location = "Porch lamp", "Lamp", "Outside"
	o.bounds.On, o.bounds.MaxOn = relay.DefaultMaxOn, relay.DefaultMaxOn
	d.outputs = append(d.outputs, o)
	d.rules = append(d.rules, draftRule{
		Rule: Rule{Name: "light at the porch", On: []zone.Kind{zone.Motion}, Action: relay.Pulse},
		at:   at, zones: []name{{"Porch", at}}, outputs: []name{{"Porch lamp", at}},
	})
	if !d.boardsSaid {
		d.chips = append(d.chips, originalChips()...)
	}
}

// The simulated board's inputs and outputs.
const (
	simulation     = "sim"
	simulatedPins  = 16
	firstSimulated = 17 // output
)

// simulate puts one simulated board in the place of all others. The original's inputs keep their numbers.
func (d *draft) simulate() {
	at := place{source: "REMOTE_MONITOR_BOARD"}
	taken := map[int]bool{}
	for _, z := range d.zones {
		taken[z.number] = true
	}
	next := 1
	for i := range d.zones {
		z := &d.zones[i]
		if z.set.Signal == zone.Edges {
			continue
		}
		n := z.number
		if n == 0 {
			for taken[next] {
				next++
			}
			n = next
			next++
		}
		if n > simulatedPins {
			d.wrong(at, "a simulated board has %d inputs, and there are more zones", simulatedPins)
			return
		}
		z.Pin = board.Pin{Chip: simulation, Number: n}
		if z.set.Signal == zone.Contact && !slices.ContainsFunc(d.groups, func(g draftGroup) bool { return g.Input == z.Name }) {
			// A line of the simulation never moves, which is right for a key switch only.
			z.set.Signal, z.set.Levels, z.Invert = zone.Loop, usualLevels(), false
		}
	}
	if len(d.outputs) > simulatedPins {
		d.wrong(at, "a simulated board has %d outputs, and there are %d", simulatedPins, len(d.outputs))
		return
	}
	for i := range d.outputs {
		d.outputs[i].bounds.Pin = board.Pin{Chip: simulation, Number: firstSimulated + i}
	}
	if d.Supply != (board.Pin{}) {
		d.Supply = board.Pin{}
		d.note("the supply is not measured on a simulated board")
	}
	d.chips = []draftChip{{Chip: board.Chip{Name: simulation, Kind: board.Simulation}}}
}

// loopOf is a simulated detector as its zone expects it.
func loopOf(z draftZone) board.Loop {
	if z.around {
		return around(z.set.Normal, z.set.Tamper)
	}
	l := z.set.Levels
	share := func(b zone.Band, otherwise float64) float64 {
		if b.High < b.Low {
			return otherwise
		}
		return (max(b.Low, 0) + min(b.High, 100)) / 200
	}
	idle := share(l.Normal, 0.29)
	away := 1.0
	if idle > 0.5 {
		away = 0
	}
	active := share(l.Alarm, away)
	return board.Loop{Idle: idle, Active: active, Open: share(l.Open, share(l.Short, active))}
}

// around is a detector of the original's two numbers. An alarm stands about 22 points from normal, as it does with
// the usual resistors, and away from the tamper level; a detector whose tamper level nobody gave is cut to 0 or 100 %.
func around(normal float64, tamper *float64) board.Loop {
	open := 100.0
	if normal > 50 {
		open = 0
	}
	if tamper != nil {
		open = *tamper
	}
	for _, d := range []float64{22, -22, 44, -44, 66, -66} {
		active := normal + d
		if active >= 0 && active <= 95 && max(active-open, open-active) > 15 {
			return board.Loop{Idle: normal / 100, Active: active / 100, Open: open / 100}
		}
	}
	panic(fmt.Sprintf("config: no alarm level between %v %% and %v %%", normal, open))
}
