// Package simulation owns labelled recordings that are made up: homes with people, pets, drafts, sun, heat and bad
// wiring, and what their detectors would say. It does not own what anybody makes of it. Everything here is simulated;
// no number was recorded in a real home.
//
// # The model
//
// A home is rooms that one can walk between, and detectors that look at them. The same seed makes the same recording.
//
// People leave and come back at times drawn around habits. At home they walk from room to room, stay for about twenty
// minutes, and move in bouts of about three seconds with stillness between: a dozen seconds when busy, a minute when
// resting, a quarter of an hour asleep. Whoever moves crosses an edge of a lens zone about twice a second: half a metre
// between zones at 1 m/s, as for a Fresnel lens at three metres.
//
// Each crossing has an amplitude in thresholds of the detector: the contrast between a clothed body (34 °C) and the
// room, 4 thresholds at 12 K, times a lognormal factor (σ 0.4) for distance and direction. A room of 22 °C gives 4
// thresholds and no miss; one of 33 °C a third of a threshold, so that in a heat wave detectors see people badly.
// Pets are a quarter as large, and a pet lens takes off half of that again.
//
// What is not a body moves one detector alone (Nuisance): heat storms (a pulse a minute at their height for hours,
// swelling with the sun and in gusts of minutes), sun patches, drafts of a heating that starts every half hour, insects
// on the lens, headlights. The time above the threshold in a storm is lognormal; with median 0.14 s and σ 2.67, plus
// the detector's hold of 0.3 s, one pulse in five lasts longer than 1.5 s and one in eleven longer than 5 s. These two
// shares are those of the published false alarm rates of ESPHome's and Home Assistant's filters in a home with storms,
// as are the pulse rate and the share of entries that are hardly seen; the shape of everything else is reason.
//
// An edge detector turns on 50 to 200 ms after a crossing of more than one threshold and off when its hold is over.
// Some ONs stay for 5 or 12 hours, and some OFFs are lost, as in logs of real detectors. When the supply of wired
// detectors dips, all of them open their contacts at once and settle for half a minute.
//
// A sampled detector gives volts at 12 bits. A loop has the resistors 4k7, 2k2 and 4k7 at an input of 16.8 kΩ, and can
// be cut, shorted, or corrode. An analog detector rests at 2.5 V with noise of 15 mV; each crossing is one cycle of
// 0.4 to 1.5 s whose amplitude is 150 mV for a threshold, with drifts of 30 mV in ten minutes. Interference steps all
// inputs in one scan.
package simulation

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/recording"
)

// Home is a home and what goes on in it.
type Home struct {
	Name, About string
	Rooms       []Room // the first is where people come in
	Zones       []Zone
	People      int
	Absences    []Absence // in the order of the day
	Climate     Climate
	Nuisances   []Nuisance
	Pets        []Pet
	Faults      Faults
}

// Room is a place to be in.
type Room struct {
	Name string
	Next []string // where one can go from here; passages work both ways
	Stay float64  // how much people like to be here, relative to the others; 0: they only pass
	Bed  bool     // people sleep here
}

// Zone is a detector.
type Zone struct {
	Name  string
	Room  string        // that it looks at
	Also  string        // that it sees a part of, with half the amplitude; empty: none
	Hold  time.Duration // how long it stays on after a crossing
	Small float64       // amplitude of pets; 0: 0.25, a lens for pets 0.12
	Door  bool          // it is a contact of the door at the first room
	Loop  bool          // sampled: a loop; else analog
}

// Absence is a habit of going out.
type Absence struct {
	At, Spread time.Duration // time of the day, and its standard deviation
	For        time.Duration // median
	Vary       float64       // σ of its logarithm
	Share      float64       // of the days it happens on
	Weekdays   bool          // only from Monday to Friday
}

// Climate is the temperature inside: warmest at 17 h, coldest at 5 h.
type Climate struct {
	Peak, Vary float64 // of a usual day, °C
	Hot        float64 // share of hot days
	HotPeak    float64 // °C
	HotVary    float64
	Swing      float64 // K between the warmest and the coldest
}

// Nuisance is what moves one detector and is nobody. It comes in spells.
type Nuisance struct {
	Zone     string
	Share    float64 // of the days it comes on
	Hot      bool    // only on hot days
	From, To time.Duration
	Spells   float64       // mean number between From and To; 0: one that fills it
	Lasts    time.Duration // median of a spell
	Every    time.Duration // mean time between pulses at the height of a spell
	Gusts    bool          // it comes and goes within minutes
	Sudden   bool          // a spell is at its height all the time; else it swells and fades like half a sine
	Width    time.Duration // median time above the threshold
	Vary     float64       // σ of the logarithm of that
}

// Pet roams about.
type Pet struct {
	Walks   float64 // a day
	Asleep  time.Duration
	Through int // rooms it goes through on a walk, at most
}

// Faults are what goes wrong with the technology; rates are per day.
type Faults struct {
	Stick   float64 // per zone: an ON stays for 5 or 12 hours
	LostOff float64 // share of the OFFs that never arrive
	Dips    float64 // of the supply
	EMI     float64 // sampled inputs: all step in one scan
	Wiring  float64 // per loop: cut, shorted or corroding, for a while
}

// Options are what to simulate.
type Options struct {
	Seed  uint64
	Days  int       // at least 1
	Start time.Time // midnight, UTC; zero: 2025-06-02, a Monday
}

// Trace is a simulated time in a home.
type Trace struct {
	home   Home
	seed   uint64
	start  time.Time
	end    time.Duration
	hot    []bool    // by day
	peak   []float64 // by day
	gone   []interval
	passed [][]stimulus // by zone, in order
	open   []interval   // the door
	dips   []interval
}

// interval is a time since the start.
type interval struct{ from, to time.Duration }

// stimulus is one thing that passes before one detector.
type stimulus struct {
	at    time.Duration
	width time.Duration // a crossing: of its cycle; a nuisance: above the threshold
	amp   float64       // in thresholds
	slow  bool          // a nuisance
}

// Simulate makes up what happens in a home.
func Simulate(h Home, o Options) (*Trace, error) {
	if o.Days < 1 || o.Days > 3650 {
		return nil, fmt.Errorf("cannot simulate %d days; choose 1 to 3650", o.Days)
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2025, 6, 2, 0, 0, 0, 0, time.UTC)
	}
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("cannot simulate home %q: %w", h.Name, err)
	}
	t := &Trace{home: h, seed: o.Seed, start: o.Start, end: time.Duration(o.Days) * day, passed: make([][]stimulus, len(h.Zones))}
	weather := t.rng("weather")
	for range o.Days {
		hot := weather.Float64() < h.Climate.Hot
		peak := h.Climate.Peak + h.Climate.Vary*weather.NormFloat64()
		if hot {
			peak = h.Climate.HotPeak + h.Climate.HotVary*weather.NormFloat64()
		}
		t.hot, t.peak = append(t.hot, hot), append(t.peak, peak)
	}
	t.leave()
	t.people()
	t.pets()
	for i, n := range h.Nuisances {
		t.nuisance(n, t.rng("nuisance", i))
	}
	power := t.rng("power")
	for at := range poisson(power, day, h.Faults.Dips, t.end) {
		t.dips = append(t.dips, interval{at, at + between(power, 100*time.Millisecond, 2*time.Second)})
	}
	for i := range t.passed {
		slices.SortStableFunc(t.passed[i], func(a, b stimulus) int { return cmp.Compare(a.at, b.at) })
	}
	return t, nil
}

const day = 24 * time.Hour

// check says what of a home makes no sense.
func (h Home) check() error {
	room := func(name string) bool {
		return slices.ContainsFunc(h.Rooms, func(r Room) bool { return r.Name == name })
	}
	if len(h.Rooms) == 0 || len(h.Zones) == 0 || h.People < 1 {
		return fmt.Errorf("it needs a room, a zone and somebody who lives there")
	}
	for _, r := range h.Rooms {
		for _, next := range r.Next {
			if !room(next) {
				return fmt.Errorf("there is no room %q next to %q", next, r.Name)
			}
		}
	}
	for i, z := range h.Zones {
		if !room(z.Room) || z.Also != "" && !room(z.Also) {
			return fmt.Errorf("zone %q looks at a room that is not there", z.Name)
		}
		if slices.ContainsFunc(h.Zones[:i], func(other Zone) bool { return other.Name == z.Name }) {
			return fmt.Errorf("there are two zones %q", z.Name)
		}
	}
	for _, n := range h.Nuisances {
		if !slices.ContainsFunc(h.Zones, func(z Zone) bool { return z.Name == n.Zone }) {
			return fmt.Errorf("there is no zone %q for a nuisance", n.Zone)
		}
		if n.Every <= 0 || n.To <= n.From {
			return fmt.Errorf("a nuisance of zone %q never comes", n.Zone)
		}
	}
	for i := range h.Rooms {
		if h.path(0, i) == nil {
			return fmt.Errorf("nobody can get to room %q", h.Rooms[i].Name)
		}
	}
	return nil
}

// rng is a source of chance of its own for each matter, so that one does not disturb the others.
func (t *Trace) rng(matter ...any) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintln(h, t.home.Name, matter)
	return rand.New(rand.NewPCG(t.seed, h.Sum64()))
}

// Labels are what was true.
func (t *Trace) Labels() []recording.Label {
	var labels []recording.Label
	add := func(from, to time.Duration, truth recording.Truth) {
		if to > from {
			labels = append(labels, recording.Label{Start: t.start.Add(from), End: t.start.Add(to), Truth: truth})
		}
	}
	home := time.Duration(0)
	for _, g := range t.gone {
		add(home, g.from+leaving, recording.Home)
		add(g.from+leaving, g.to, recording.Away)
		home = min(g.to+entering, t.end)
		add(g.to, home, recording.Entry)
	}
	add(home, t.end, recording.Home)
	return labels
}

const (
	leaving  = 45 * time.Second // until detectors have calmed down after the door was closed
	entering = time.Minute
)

// Edges is the recording of the home with detectors that report their changes, in order.
func (t *Trace) Edges() iter.Seq[recording.Row] {
	var rows []recording.Row
	for i, z := range t.home.Zones {
		rng := t.rng("edges", i)
		for _, on := range t.stuck(t.on(i), rng) {
			rows = append(rows, recording.Row{Time: t.start.Add(on.from).Truncate(time.Millisecond), Zone: z.Name, Active: true})
			if rng.Float64() >= t.home.Faults.LostOff || z.Door {
				rows = append(rows, recording.Row{Time: t.start.Add(on.to).Truncate(time.Millisecond), Zone: z.Name})
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b recording.Row) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Zone, b.Zone))
	})
	return slices.Values(rows)
}

// on is when a detector says that something moves.
func (t *Trace) on(i int) []interval {
	z := t.home.Zones[i]
	if z.Door {
		return t.open
	}
	rng := t.rng("detector", i)
	var on []interval
	for _, s := range t.passed[i] {
		if s.amp < 1 {
			continue
		}
		from := s.at + between(rng, 50*time.Millisecond, 200*time.Millisecond)
		to := from + z.Hold
		if s.slow {
			to += s.width
		} else {
			// The share of a cycle that is above the threshold.
			to += time.Duration(float64(s.width) * 2 / math.Pi * math.Acos(1/s.amp))
		}
		on = append(on, interval{from, to})
	}
	for _, d := range t.dips {
		// It opens its contact, and settles.
		on = append(on, interval{d.from, d.to + 30*time.Second})
	}
	return union(on)
}

// stuck makes some times much longer.
func (t *Trace) stuck(on []interval, rng *rand.Rand) []interval {
	for at := range poisson(rng, day, t.home.Faults.Stick, t.end) {
		i, _ := slices.BinarySearchFunc(on, at, func(o interval, at time.Duration) int { return cmp.Compare(o.from, at) })
		if i == len(on) {
			break
		}
		on[i].to += 5 * time.Hour
		if rng.IntN(2) == 0 {
			on[i].to += 7 * time.Hour
		}
		on = union(on)
	}
	return on
}

// union joins intervals that touch.
func union(s []interval) []interval {
	s = slices.Clone(s)
	slices.SortFunc(s, func(a, b interval) int { return cmp.Compare(a.from, b.from) })
	var joined []interval
	for _, x := range s {
		if n := len(joined); n > 0 && x.from <= joined[n-1].to {
			joined[n-1].to = max(joined[n-1].to, x.to)
			continue
		}
		joined = append(joined, x)
	}
	return joined
}

// temperature inside, °C.
func (t *Trace) temperature(at time.Duration) float64 {
	d := min(int(at/day), len(t.peak)-1)
	hour := (at - time.Duration(d)*day).Hours()
	return t.peak[d] - t.home.Climate.Swing*(1-math.Cos(2*math.Pi*(hour-17)/24))/2
}

// between is a time that is as likely anywhere between two.
func between(rng *rand.Rand, a, b time.Duration) time.Duration {
	return a + time.Duration(rng.Float64()*float64(b-a))
}

// around is a lognormal time.
func around(rng *rand.Rand, median time.Duration, sigma float64) time.Duration {
	return time.Duration(float64(median) * math.Exp(sigma*rng.NormFloat64()))
}

// poisson yields the times of a Poisson process with so many events in each unit of time.
func poisson(rng *rand.Rand, unit time.Duration, rate float64, until time.Duration) iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		if rate <= 0 {
			return
		}
		mean := float64(unit) / rate
		for at := rng.ExpFloat64() * mean; at < float64(until); at += rng.ExpFloat64() * mean {
			if !yield(time.Duration(at)) {
				return
			}
		}
	}
}
