package simulation

import (
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/recording"
)

// The electrics; the reasons are in the comment of the package.
const (
	rest      = 2.5   // V, an analog detector that sees nothing
	noise     = 0.015 // V
	threshold = 0.15  // V
	drift     = 0.03  // V
	driftTime = 10 * time.Minute
	step      = 0.002471 // V, of 12 bits
	pullUp    = 4700.0   // Ω
	endOfLine = 2200.0
	contact   = 4700.0
	input     = 16800.0
	hum       = 0.004 // V, at a loop
	sag       = 0.15  // of the supply in a dip, at most
)

// fault is something wrong with a loop.
type fault struct {
	interval
	series float64 // Ω at its end; +Inf: cut
	short  bool
}

// sampled is an input while volts are made.
type sampled struct {
	zone   int
	on     []interval // the contact is open
	next   int        // of passed: the first that is still to come
	seen   []stimulus // those that are passing
	faults []fault
	rng    *rand.Rand
	phase  float64
}

// Volts is the recording of a part of the time with inputs that are sampled, in order: loops and analog detectors in
// volts, the supply, and the door as a contact.
func (t *Trace) Volts(from, until time.Time, every time.Duration) iter.Seq[recording.Row] {
	return func(yield func(recording.Row) bool) {
		begin, end := from.Sub(t.start), min(until.Sub(t.start), t.end)
		inputs := t.inputs()
		rng := t.rng("supply")
		var emi []time.Duration
		for at := range poisson(t.rng("emi"), day, t.home.Faults.EMI, t.end) {
			emi = append(emi, at)
		}
		door := map[string]bool{}
		for at := max(begin, 0); at < end; at += every {
			now := t.start.Add(at)
			supply := 5 + 0.02*math.Sin(2*math.Pi*at.Hours()) + 0.002*rng.NormFloat64()
			for _, d := range t.dips {
				if at >= d.from && at < d.to {
					supply *= 1 - sag*math.Sin(math.Pi*float64(at-d.from)/float64(d.to-d.from))
				}
			}
			if !yield(volts(now, recording.Supply, supply)) {
				return
			}
			spike := false
			for len(emi) > 0 && emi[0] < at {
				spike = spike || at-emi[0] < every
				emi = emi[1:]
			}
			for _, in := range inputs {
				z := t.home.Zones[in.zone]
				row := recording.Row{Time: now, Zone: z.Name}
				switch {
				case z.Door && !z.Loop:
					row.Active = in.active(at)
					if said, ok := door[z.Name]; ok && said == row.Active {
						continue
					}
					door[z.Name] = row.Active
				case z.Loop:
					row = volts(now, z.Name, in.loop(at, supply, spike))
				default:
					row = volts(now, z.Name, in.analog(at, t.passed[in.zone], spike))
				}
				if !yield(row) {
					return
				}
			}
		}
	}
}

// inputs are the home's zones at the beginning.
func (t *Trace) inputs() []*sampled {
	var inputs []*sampled
	for i, z := range t.home.Zones {
		in := &sampled{zone: i, on: t.on(i), rng: t.rng("volts", i)}
		in.phase = 2 * math.Pi * in.rng.Float64()
		if z.Loop {
			for at := range poisson(in.rng, day, t.home.Faults.Wiring, t.end) {
				f := fault{interval: interval{at, at + around(in.rng, 10*time.Minute, 1)}}
				switch in.rng.IntN(3) {
				case 0:
					f.series = math.Inf(1)
				case 1:
					f.short = true
				case 2:
					f.series = 500 + 2500*in.rng.Float64()
				}
				in.faults = append(in.faults, f)
			}
		}
		inputs = append(inputs, in)
	}
	return inputs
}

func volts(at time.Time, zone string, v float64) recording.Row {
	v = math.Round(min(max(v, 0), 5.06)/step) * step
	return recording.Row{Time: at, Zone: zone, Kind: recording.Sample, Volts: v}
}

// active tells that the contact is open. Time does not go back.
func (in *sampled) active(at time.Duration) bool {
	for len(in.on) > 0 && in.on[0].to <= at {
		in.on = in.on[1:]
	}
	return len(in.on) > 0 && in.on[0].from <= at
}

// loop is the voltage of a supervised loop.
func (in *sampled) loop(at time.Duration, supply float64, spike bool) float64 {
	down := endOfLine
	if in.active(at) {
		down += contact
	}
	for _, f := range in.faults {
		switch {
		case at < f.from || at >= f.to:
		case f.short:
			down = 0
		case math.IsInf(f.series, 1):
			down = math.Inf(1)
		default: // corrodes
			down += f.series * float64(at-f.from) / float64(f.to-f.from)
		}
	}
	toGround := 1 / (1/down + 1/input)
	v := supply*toGround/(toGround+pullUp) + hum*in.rng.NormFloat64()
	if spike {
		v += 1 + in.rng.Float64()
	}
	return v
}

// analog is the voltage of an analog detector.
func (in *sampled) analog(at time.Duration, passed []stimulus, spike bool) float64 {
	v := rest + noise*in.rng.NormFloat64() + drift*math.Sin(2*math.Pi*float64(at)/float64(driftTime)+in.phase)
	for ; in.next < len(passed) && passed[in.next].at <= at; in.next++ {
		in.seen = append(in.seen, passed[in.next])
	}
	in.seen = slices.DeleteFunc(in.seen, func(s stimulus) bool { return at >= s.at+s.width })
	for _, s := range in.seen {
		share := float64(at-s.at) / float64(s.width)
		if s.slow {
			v += threshold * s.amp * math.Pow(math.Sin(math.Pi*share), 2)
		} else {
			v += threshold * s.amp * math.Sin(2*math.Pi*share)
		}
	}
	if spike {
		v += 1 + in.rng.Float64()
	}
	return v
}
