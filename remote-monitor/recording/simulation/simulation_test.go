package simulation_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/recording"
	"github.com/dunlin/dunlin/remote-monitor/recording/simulation"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

func simulate(t testing.TB, home string, seed uint64, days int) *simulation.Trace {
	t.Helper()
	h, err := simulation.Named(home)
	if err != nil {
		t.Fatal(err)
	}
	trace, err := simulation.Simulate(h, simulation.Options{Seed: seed, Days: days})
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

func csv(t testing.TB, rows func(func(recording.Row) bool)) []byte {
	t.Helper()
	var b bytes.Buffer
	w := recording.NewWriter(&b)
	if err := w.WriteAll(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTheSameSeedMakesTheSameRecording(t *testing.T) {
	for _, h := range simulation.Homes() {
		a, b := simulate(t, h.Name, 7, 2), simulate(t, h.Name, 7, 2)
		from := a.Labels()[0].Start.Add(9 * time.Hour)
		if !bytes.Equal(csv(t, a.Edges()), csv(t, b.Edges())) || cmp.Diff(a.Labels(), b.Labels()) != "" {
			t.Errorf("%s: two recordings of one seed differ", h.Name)
		}
		if !bytes.Equal(csv(t, a.Volts(from, from.Add(time.Minute), 50*time.Millisecond)), csv(t, b.Volts(from, from.Add(time.Minute), 50*time.Millisecond))) {
			t.Errorf("%s: two recordings of volts of one seed differ", h.Name)
		}
		if bytes.Equal(csv(t, a.Edges()), csv(t, simulate(t, h.Name, 8, 2).Edges())) {
			t.Errorf("%s: recordings of two seeds are the same", h.Name)
		}
	}
}

func TestEdgesAreInOrderAndAlternate(t *testing.T) {
	for _, h := range simulation.Homes() {
		on := map[string]bool{}
		var last time.Time
		n := 0
		for row := range simulate(t, h.Name, 1, 3).Edges() {
			if row.Time.Before(last) {
				t.Fatalf("%s: %v is before %v", h.Name, row.Time, last)
			}
			if !row.Active && !on[row.Zone] || row.Active && on[row.Zone] && h.Faults.LostOff == 0 {
				t.Fatalf("%s: %s says %v twice at %v", h.Name, row.Zone, row.Active, row.Time)
			}
			on[row.Zone], last = row.Active, row.Time
			n++
		}
		if n < 300 {
			t.Errorf("%s: in three days there are %d edges", h.Name, n)
		}
	}
}

func TestLabelsCoverTheTimeWithoutGaps(t *testing.T) {
	for _, h := range simulation.Homes() {
		labels := simulate(t, h.Name, 1, 7).Labels()
		next := map[recording.Truth]recording.Truth{recording.Home: recording.Away, recording.Away: recording.Entry, recording.Entry: recording.Home}
		for i, l := range labels[1:] {
			if before := labels[i]; !before.End.Equal(l.Start) || next[before.Truth] != l.Truth {
				t.Fatalf("%s: after %v comes %v", h.Name, before, l)
			}
		}
		if total := labels[len(labels)-1].End.Sub(labels[0].Start); total != 7*24*time.Hour {
			t.Errorf("%s: the labels are %s long", h.Name, total)
		}
	}
}

func TestAHomeThatMakesNoSenseIsRefused(t *testing.T) {
	for want, change := range map[string]func(*simulation.Home){
		"it needs a room":                      func(h *simulation.Home) { h.Rooms = nil },
		`no room "attic" next to "hall"`:       func(h *simulation.Home) { h.Rooms[0].Next = []string{"attic"} },
		`zone "entrance" looks at a room that`: func(h *simulation.Home) { h.Zones[0].Room = "attic" },
		`two zones "entrance"`:                 func(h *simulation.Home) { h.Zones[1].Name = "entrance" },
		`nobody can get to room "attic"`:       func(h *simulation.Home) { h.Rooms = append(h.Rooms, simulation.Room{Name: "attic"}) },
		`no zone "attic" for a nuisance`:       func(h *simulation.Home) { h.Nuisances[0].Zone = "attic" },
		"never comes":                          func(h *simulation.Home) { h.Nuisances[0].Every = 0 },
	} {
		h, err := simulation.Named("quiet")
		if err != nil {
			t.Fatal(err)
		}
		change(&h)
		if _, err := simulation.Simulate(h, simulation.Options{Days: 1}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := simulation.Named("castle"); err == nil || !strings.Contains(err.Error(), "choose from quiet, contacts") {
		t.Error(err)
	}
	if _, err := simulation.Simulate(simulation.Homes()[0], simulation.Options{}); err == nil {
		t.Error("no days can be simulated")
	}
}

func TestPeopleWhoComeInAreSeenWithinSeconds(t *testing.T) {
	for home, share := range map[string]float64{"quiet": 1, "contacts": 1, "flat": 1, "pets": 1, "studio": 1} {
		trace := simulate(t, home, 3, 20)
		edges := slices.Collect(trace.Edges())
		entries, seen := 0, 0
		for _, l := range trace.Labels() {
			if l.Truth != recording.Entry {
				continue
			}
			entries++
			if slices.ContainsFunc(edges, func(r recording.Row) bool {
				return r.Active && !r.Time.Before(l.Start) && r.Time.Before(l.Start.Add(5*time.Second))
			}) {
				seen++
			}
		}
		if entries < 10 || float64(seen) < share*float64(entries) {
			t.Errorf("%s: of %d entries %d are seen", home, entries, seen)
		}
	}
}

// configured is the configuration of a home whose inputs are sampled: all defaults, and each zone with its signal.
func configured(t testing.TB, home string) *config.Config {
	t.Helper()
	h, err := simulation.Named(home)
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Config{}
	for _, z := range h.Zones {
		s := zone.Settings{Name: z.Name, Signal: zone.Analog}
		switch {
		case z.Loop:
			s.Signal = zone.Loop
		case z.Door:
			s.Signal = zone.Contact
		}
		c.Site.Zones = append(c.Site.Zones, s)
		c.Zones = append(c.Zones, config.Zone{ID: z.Name, Name: z.Name})
	}
	return c
}

// minutes is the labels in a part of the time.
func minutes(labels []recording.Label, from, to time.Time) (part []recording.Label) {
	for _, l := range labels {
		if l.Start.Before(from) {
			l.Start = from
		}
		if l.End.After(to) {
			l.End = to
		}
		if l.Start.Before(l.End) {
			part = append(part, l)
		}
	}
	return part
}

func TestSampledDetectorsSeePeopleComeInAndNothingBefore(t *testing.T) {
	for _, home := range []string{"quiet", "wired"} {
		trace := simulate(t, home, 5, 4)
		entries := 0
		for _, l := range trace.Labels() {
			if l.Truth != recording.Entry || entries == 4 {
				continue
			}
			entries++
			from, to := l.Start.Add(-4*time.Minute), l.End
			src := recording.Bytes(csv(t, trace.Volts(from, to, 50*time.Millisecond)))
			report, err := recording.Evaluate(src, minutes(trace.Labels(), from, to), []recording.Candidate{{Name: home, Config: configured(t, home)}}, recording.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if r := report.Results[0]; r.Detected != 1 || r.FalseAlarms != 0 {
				t.Errorf("%s at %v: %+v", home, l.Start, r)
			}
		}
		if entries == 0 {
			t.Errorf("%s: nobody comes in", home)
		}
	}
}

func TestALoopIsWhereItsResistorsPutIt(t *testing.T) {
	// 16.8 kΩ beside 2k2, or beside 2k2 + 4k7, below 4k7; cut it is 16.8 kΩ alone, and shorted nothing.
	want := map[string]float64{"normal": 29.3, "alarm": 51.0, "open": 78.1, "short": 0}
	seen := map[string]int{}
	between := 0
	for seed := range uint64(4) {
		trace := simulate(t, "wired", seed, 3)
		supply := 5.0
		from := trace.Labels()[0].Start
		for row := range trace.Volts(from, from.Add(72*time.Hour), 5*time.Second) {
			if row.Zone == recording.Supply {
				supply = row.Volts
				continue
			}
			if row.Kind != recording.Sample {
				continue
			}
			percent, at := 100*row.Volts/supply, ""
			for name, w := range want {
				if math.Abs(percent-w) < 1 {
					at = name
				}
			}
			if at == "" {
				between++
			}
			seen[at]++
		}
	}
	for name := range want {
		if seen[name] < 10 {
			t.Errorf("%s was seen %d times: %v", name, seen[name], seen)
		}
	}
	if between > seen["normal"]/20 {
		t.Errorf("%d samples are between the levels: %v", between, seen)
	}
}

func TestInterferenceStepsAllInputsInOneScan(t *testing.T) {
	h, err := simulation.Named("wired")
	if err != nil {
		t.Fatal(err)
	}
	h.Faults = simulation.Faults{EMI: 2000}
	trace, err := simulation.Simulate(h, simulation.Options{Days: 1})
	if err != nil {
		t.Fatal(err)
	}
	start := trace.Labels()[0].Start.Add(3 * time.Hour) // people sleep
	high := map[time.Time]int{}
	for row := range trace.Volts(start, start.Add(30*time.Minute), 50*time.Millisecond) {
		if row.Kind == recording.Sample && row.Zone != recording.Supply && row.Volts > 2.3 {
			high[row.Time]++
		}
	}
	together := 0
	for _, n := range high {
		if n == 3 {
			together++
		}
	}
	if together < 10 {
		t.Errorf("in half an hour all three loops stepped %d times: %v", together, high)
	}
}

// pooled is the sum of what a candidate did over seeds.
type pooled struct {
	entries, detected, wrong int
	days                     float64
	p50                      []float64
}

func (p *pooled) perDay() float64 { return float64(p.wrong) / p.days }
func (p *pooled) recall() float64 { return float64(p.detected) / float64(p.entries) }

// latency is the median of the medians; NaN if nothing was detected.
func (p *pooled) latency() float64 {
	if len(p.p50) == 0 {
		return math.NaN()
	}
	return slices.Sorted(slices.Values(p.p50))[len(p.p50)/2]
}

func (p *pooled) String() string {
	return fmt.Sprintf("%d of %d entries (%.2f), %.2f false a day in %.1f days, median %.1f s", p.detected, p.entries, p.recall(), p.perDay(), p.days, p.latency())
}

// judge runs candidates over a home with several seeds.
func judge(t *testing.T, home string, arming recording.Arming, seeds, days int, names ...string) map[string]*pooled {
	t.Helper()
	all := map[string]*pooled{}
	var candidates []recording.Candidate
	for _, n := range names {
		c, err := recording.Baseline(n)
		if err != nil {
			t.Fatal(err)
		}
		candidates = append(candidates, c)
		all[n] = &pooled{}
	}
	for seed := range seeds {
		trace := simulate(t, home, uint64(seed)+100, days)
		report, err := recording.Evaluate(recording.Bytes(csv(t, trace.Edges())), trace.Labels(), candidates, recording.Options{Arming: arming})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range report.Results {
			p := all[r.Config]
			p.entries += r.Entries
			p.detected += r.Detected
			p.wrong += r.FalseAlarms
			p.days += float64(r.AwayHours) / 24
			if !math.IsNaN(float64(r.LatencyP50)) {
				p.p50 = append(p.p50, float64(r.LatencyP50))
			}
		}
	}
	for _, n := range names {
		t.Logf("%-10s %-6s %-15s %v", home, arming, n, all[n])
	}
	return all
}

// The simulated storm is believable as far as the known filters do on it what they are published to do: of the alarms
// of each edge (86 a day) 21 % are left by 2 in 30 s, 21 % by 1.5 s, 10 % by 5 s and 0.6 % by quarantine; a second
// zone lets none pass. Entries: 22, 18, 18, 15, 18 and 17 of 23.
func TestTheStormIsLikeThePublishedOne(t *testing.T) {
	all := judge(t, "storms", recording.Always, 4, 24, "legacy", "event-processor", "esphome", "home-assistant", "quarantine", "cross-zone")
	each := all["legacy"]
	for name, want := range map[string][2]float64{
		"event-processor": {0.17, 0.25}, "esphome": {0.17, 0.25}, "home-assistant": {0.07, 0.13}, "quarantine": {0.003, 0.015}, "cross-zone": {0, 0.002},
	} {
		if got := all[name].perDay() / each.perDay(); got < want[0] || got > want[1] {
			t.Errorf("%s leaves %.3f of the false alarms, want %v", name, got, want)
		}
	}
	if each.perDay() < 60 || each.perDay() > 115 {
		t.Errorf("each edge is %.1f false alarms a day", each.perDay())
	}
	for name, want := range map[string][2]float64{
		"legacy": {0.85, 1}, "event-processor": {0.65, 0.9}, "esphome": {0.65, 0.9}, "home-assistant": {0.35, 0.75}, "cross-zone": {0.65, 0.85},
	} {
		if got := all[name].recall(); got < want[0] || got > want[1] {
			t.Errorf("%s detects %.2f, want %v", name, got, want)
		}
	}
}
