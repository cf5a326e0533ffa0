package recording

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// rule is a known way to make alarms of what a detector says, in the terms of all of them. The zero rule alarms at each
// OFF → ON.
type rule struct {
	delay      time.Duration // the zone has to stay on for this long
	pulses     int           // OFF → ON of the zone,
	window     time.Duration // closer than this, counted in whole seconds
	latch      time.Duration // no alarm of the zone this long after its last one
	confirm    time.Duration // another zone has to turn on this close to it
	quarantine time.Duration // ask for confirm only this long after an alarm without it; 0: always
}

// rules are the baselines in the order in which they are shown.
var rules = []struct {
	name string
	rule rule
	what string
}{
	// The original debounces by level: what stays on is told once.
	{"legacy", rule{}, "the original: each OFF → ON"},
	// Its event processor counts each message as an attempt, drops those within the latch, and wants two within 30
	// seconds. That messages of other inputs open the latch again is a defect and left out, which is in its favour.
	{"event-processor", rule{pulses: 2, window: 30 * time.Second, latch: time.Minute}, "the original with its event processor: 2 in 30 s, then nothing for 60 s"},
	// A timer that any OFF cancels.
	{"esphome", rule{delay: 1500 * time.Millisecond}, "ESPHome with delayed_on: 1.5 s"},
	{"home-assistant", rule{delay: 5 * time.Second}, "Home Assistant with for: 5 s"},
	{"cross-zone", rule{confirm: 2 * time.Minute}, "two zones within 120 s"},
	{"quarantine", rule{pulses: 2, window: 30 * time.Second, latch: time.Minute, confirm: 2 * time.Minute, quarantine: 6 * time.Hour},
		"2 in 30 s, and for 6 h after an alarm of one zone alone only with a second zone within 120 s"},
}

// Default is the name of the candidate that has the shipped defaults.
const Default = "default"

// Baselines are the names that Baseline takes, with what each does.
func Baselines() (names, what []string) {
	names, what = []string{Default}, []string{"the shipped defaults"}
	for _, r := range rules {
		names, what = append(names, r.name), append(what, r.what)
	}
	return names, what
}

// Baseline is the candidate of a name in Baselines.
func Baseline(name string) (Candidate, error) {
	if name == Default {
		return Candidate{Name: name}, nil
	}
	for _, r := range rules {
		if r.name == name {
			return Candidate{Name: name, baseline: &r.rule}, nil
		}
	}
	names, _ := Baselines()
	return Candidate{}, fmt.Errorf("there is no baseline %q; choose from %s", name, list(names))
}

// baseline is the engine of a rule. Its alarms have no duration.
type baseline struct {
	rule  rule
	zones []track
	count int // of events
}

// track is what a baseline knows of a zone.
type track struct {
	name     string
	sampled  bool
	normal   float64 // percent of 5 V, as first read
	known    bool    // normal is
	active   bool
	due      time.Time   // when the delay is over; zero if none runs
	attempts []time.Time // OFF → ON, the last few
	alarmed  time.Time   // last, zero if never
	lone     time.Time   // last alarm that nobody seconded
}

// kept is how many attempts a zone's history has: those of the event processor.
const kept = 120

func newBaseline(r rule, s Survey) *baseline {
	b := &baseline{rule: r}
	for _, z := range s.Zones {
		b.zones = append(b.zones, track{name: z.Name, sampled: z.Kind == Sample})
	}
	return b
}

// Feed takes one scan.
func (b *baseline) Feed(s zone.Scan) []zone.Event {
	events := b.Advance(s.Time)
	for _, r := range s.Readings {
		if r.Unknown != "" {
			continue
		}
		z := &b.zones[r.Zone]
		active := r.Active
		if z.sampled {
			// As the original does it, whose normal value an installer reads off a quiet detector.
			n := r.Volts / 5 * 100
			if !z.known {
				z.normal, z.known = n, true
			}
			active = math.Abs(n-z.normal) > 10
		}
		if active == z.active {
			continue
		}
		z.active, z.due = active, time.Time{}
		if !active {
			continue
		}
		if len(z.attempts) == kept {
			z.attempts = slices.Delete(z.attempts, 0, 1)
		}
		z.attempts = append(z.attempts, s.Time)
		if b.rule.delay > 0 {
			z.due = s.Time.Add(b.rule.delay)
			continue
		}
		events = b.decide(events, r.Zone, s.Time)
	}
	return events
}

// Advance lets the delays up to t pass.
func (b *baseline) Advance(t time.Time) (events []zone.Event) {
	for {
		first := -1
		for i, z := range b.zones {
			if !z.due.IsZero() && !z.due.After(t) && (first < 0 || z.due.Before(b.zones[first].due)) {
				first = i
			}
		}
		if first < 0 {
			return events
		}
		at := b.zones[first].due
		b.zones[first].due = time.Time{}
		events = b.decide(events, first, at)
	}
}

// decide is asked when a zone has turned on, or has stayed on long enough.
func (b *baseline) decide(events []zone.Event, i int, t time.Time) []zone.Event {
	z := &b.zones[i]
	if !z.alarmed.IsZero() && t.Sub(z.alarmed) < b.rule.latch {
		return events
	}
	pulses := 0
	for _, a := range z.attempts {
		if t.Sub(a).Truncate(time.Second) < b.rule.window {
			pulses++
		}
	}
	if pulses < b.rule.pulses {
		return events
	}
	seconded := false
	for j, other := range b.zones {
		if n := len(other.attempts); j != i && n > 0 && t.Sub(other.attempts[n-1]) <= b.rule.confirm {
			seconded = b.rule.confirm > 0
		}
	}
	quarantined := b.rule.quarantine == 0 || !z.lone.IsZero() && t.Sub(z.lone) < b.rule.quarantine
	if b.rule.confirm > 0 && quarantined && !seconded {
		return events
	}
	if z.alarmed = t; !seconded {
		z.lone = t
	}
	b.count++
	return append(events, zone.Event{
		ID: "b" + strconv.Itoa(b.count), Time: t, Kind: zone.Alarm, Zone: z.name, State: zone.InAlarm, Percent: 100,
		Confirmed: seconded, Pulses: pulses, Reason: "baseline",
	})
}
