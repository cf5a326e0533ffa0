package recording_test

import (
	stdcmp "cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/recording"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// edge is one line of a recording, seconds after noon.
func edge(seconds float64, zone, value string) string {
	return after(time.Duration(math.Round(seconds*1000))*time.Millisecond).Format("2006-01-02T15:04:05.000Z") + "," + zone + "," + value + "\n"
}

func text(lines ...string) recording.Source { return recording.Bytes([]byte(strings.Join(lines, ""))) }

// told is the seconds after noon and the zone of each event of a kind.
func told(t interface {
	Helper()
	Fatal(...any)
}, c recording.Candidate, src recording.Source, o recording.ReplayOptions, kinds ...zone.Kind) []string {
	t.Helper()
	got := []string{}
	last := time.Time{}
	for e, err := range c.Replay(src, o) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Time.Before(last) {
			t.Fatal("an event is before the one before it", e)
		}
		last = e.Time
		for _, k := range kinds {
			if e.Kind == k && !e.Quiet {
				got = append(got, fmt.Sprintf("%.3f %s", e.Time.Sub(noon).Seconds(), stdcmp.Or(e.Zone, e.Group)))
			}
		}
	}
	return got
}

func site(zones ...zone.Settings) *config.Config {
	c := &config.Config{Site: zone.Config{Zones: zones}}
	for i, z := range zones {
		c.Zones = append(c.Zones, config.Zone{ID: fmt.Sprintf("z%d", i), Name: z.Name})
	}
	return c
}

func TestWithoutAConfigurationEachZoneHasTheDefaults(t *testing.T) {
	src := text(edge(0, "hall", "OFF"), edge(100, "hall", "ON"), edge(101, "hall", "OFF"), edge(110, "hall", "ON"), edge(111, "hall", "OFF"))
	if d := cmp.Diff([]string{"110.000 hall"}, told(t, recording.Candidate{}, src, recording.ReplayOptions{}, zone.Alarm)); d != "" {
		t.Error(d)
	}
}

func TestDetectorsThatReportByThemselvesHaveSettledBeforeTheRecording(t *testing.T) {
	pulses := []string{edge(1, "hall", "ON"), edge(2, "hall", "OFF"), edge(5, "hall", "ON"), edge(6, "hall", "OFF")}
	if d := cmp.Diff([]string{"5.000 hall"}, told(t, recording.Candidate{}, text(pulses...), recording.ReplayOptions{}, zone.Alarm)); d != "" {
		t.Error(d)
	}
	// A sensor that is sampled has not.
	if got := told(t, recording.Candidate{}, text(append(pulses, edge(7, "porch", "2.5"))...), recording.ReplayOptions{}, zone.Alarm); len(got) != 0 {
		t.Errorf("with a sensor that is sampled: %v", got)
	}
}

func TestDeadlinesAfterTheLastRowPass(t *testing.T) {
	src := text(edge(0, "hall", "OFF"), edge(100, "hall", "ON"), edge(101, "hall", "OFF"), edge(110, "hall", "ON"), edge(111, "hall", "OFF"))
	if d := cmp.Diff([]string{"121.000 hall"}, told(t, recording.Candidate{}, src, recording.ReplayOptions{}, zone.Restore)); d != "" {
		t.Error(d)
	}
}

func TestZonesAreFoundByNameOrID(t *testing.T) {
	c := recording.Candidate{Config: site(zone.Settings{Name: "Hall upstairs", Signal: zone.Edges}, zone.Settings{Name: "Porch", Signal: zone.Edges, Pulses: 1})}
	for _, name := range []string{"Porch", "porch", "z1"} {
		if d := cmp.Diff([]string{"100.000 Porch"}, told(t, c, text(edge(0, "Hall upstairs", "OFF"), edge(100, name, "ON")), recording.ReplayOptions{}, zone.Alarm)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func failure(src recording.Source, c *config.Config) string {
	for _, err := range recording.Replay(src, c, recording.ReplayOptions{}) {
		if err != nil {
			return err.Error()
		}
	}
	return ""
}

func TestWhatCannotBeReplayedIsSaid(t *testing.T) {
	hall := zone.Settings{Name: "Hall", Signal: zone.Contact}
	for _, c := range []struct {
		name string
		src  recording.Source
		c    *config.Config
		want string
	}{
		{"a zone that is not configured", text(edge(0, "hall", "ON"), edge(0, "attic", "ON")), site(hall, zone.Settings{Name: "Porch"}),
			"the recording has zones that the configuration does not have; recorded are hall, attic; configured are Hall (z0), Porch (z1); rename them"},
		{"one zone under two names", text(edge(0, "hall", "ON"), edge(0, "z0", "ON")), site(hall), `zones "hall" and "z0" of the recording are both zone "Hall"`},
		{"volts of a contact", text(edge(0, "hall", "2.5")), site(hall), `zone "hall" has volts in the recording and is configured as contact; configure it as loop or analog`},
		{"an empty recording", text("timestamp,zone,value\n"), nil, "the recording is empty"},
		{"a wrong line", text(edge(0, "hall", "perhaps")), nil, "read recording: line 1"},
		{"no file", recording.File(filepath.Join(t.TempDir(), "none.csv")), nil, "open recording"},
		{"settings that make no sense", text(edge(0, "hall", "ON")), site(zone.Settings{Name: "Hall", Signal: zone.Edges, ConfirmWith: []string{"cellar"}}), "cellar"},
	} {
		if got := failure(c.src, c.c); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAReplayEndsWhenTheReaderHasEnough(t *testing.T) {
	n := 0
	for range recording.Replay(text(edge(0, "hall", "OFF"), edge(100, "hall", "ON"), edge(200, "hall", "ON")), nil, recording.ReplayOptions{}) {
		n++
		break
	}
	if n != 1 {
		t.Error(n)
	}
}

func TestALoopThatWasRecordedAsOnAndOffKeepsItsOtherSettings(t *testing.T) {
	src := text(edge(0, "hall", "OFF"), edge(100, "hall", "ON"), edge(103, "hall", "OFF"), edge(140, "hall", "ON"), edge(141, "hall", "OFF"))
	tamper := 78.0
	for _, c := range []struct {
		name string
		z    zone.Settings
		want []string
	}{
		{"a loop", zone.Settings{Name: "hall", LongPulse: 2 * time.Second}, []string{"102.000 hall"}},
		{"the original's", zone.Settings{Name: "hall", Profile: zone.Legacy, Normal: 29, Tamper: &tamper}, []string{"100.000 hall", "140.000 hall"}},
	} {
		if d := cmp.Diff(c.want, told(t, recording.Candidate{Config: site(c.z)}, src, recording.ReplayOptions{}, zone.Alarm, zone.Tamper)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

// Two loops step in one scan, which is common mode and no alarm; ten milliseconds apart they are in one scan, too, and
// a hundred apart they are not.
func TestSamplesOfOneTimeAreOneScan(t *testing.T) {
	for _, c := range []struct {
		apart, every float64
		together     bool
	}{{0, 0.05, true}, {0.01, 0.05, true}, {0.1, 0.2, false}} {
		var lines []string
		for i := range 200 {
			at, v := 100+float64(i)*c.every, "1.45"
			if i >= 100 {
				v = "2.55"
			}
			lines = append(lines, edge(at, "@supply", "5"), edge(at, "hall", v), edge(at+c.apart, "porch", v))
		}
		got := told(t, recording.Candidate{Config: site(zone.Settings{Name: "hall"}, zone.Settings{Name: "porch"})}, text(lines...), recording.ReplayOptions{}, zone.CommonMode)
		if (len(got) > 0) != c.together {
			t.Errorf("%v s apart: common mode %v", c.apart, got)
		}
	}
}

func TestTheSupplyIsThatOfItsOwnTime(t *testing.T) {
	// 29 % of 5 V, and of 3 V: the original's algorithm alarms at one sample that is off.
	c := recording.Candidate{Config: site(zone.Settings{Name: "hall", Profile: zone.Legacy, Normal: 29})}
	for name, lines := range map[string][]string{
		"supply first": {edge(0, "@supply", "5"), edge(0, "hall", "1.45"), edge(1, "@supply", "3"), edge(1, "hall", "0.87")},
		"supply last":  {edge(0, "hall", "1.45"), edge(0, "@supply", "5"), edge(1, "hall", "0.87"), edge(1, "@supply", "3")},
	} {
		if got := told(t, c, text(lines...), recording.ReplayOptions{}, zone.Alarm); len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := told(t, c, text(edge(0, "hall", "1.45"), edge(1, "hall", "0.87")), recording.ReplayOptions{}, zone.Alarm); len(got) != 1 {
		t.Errorf("without a measured supply: %v", got)
	}
}

func TestGroupsAreArmedAsAsked(t *testing.T) {
	labels := []recording.Label{
		{Start: after(100 * time.Second), End: after(200 * time.Second), Truth: recording.Away},
		{Start: after(200 * time.Second), End: after(260 * time.Second), Truth: recording.Entry},
	}
	var lines []string
	for _, s := range []float64{90, 150, 230, 300} {
		lines = append(lines, edge(s, "hall", "ON"), edge(s+1, "hall", "OFF"))
	}
	c := recording.Candidate{Config: site(zone.Settings{Name: "hall", Signal: zone.Edges, Group: "house", Pulses: 1, EntryDelay: true, Policy: zone.Single, Refractory: -1, SwingerAfter: -1})}
	c.Config.Site.WarmUp = -1
	c.Config.Site.Groups = []zone.Group{{Name: "house"}}
	for arming, want := range map[recording.Arming][]string{
		recording.AsConfigured: {},
		recording.Always:       {"90.000 hall", "150.000 hall", "230.000 hall", "300.000 hall"},
		recording.ByLabels:     {"180.000 hall", "230.000 hall"},
	} {
		if d := cmp.Diff(want, told(t, c, text(lines...), recording.ReplayOptions{Arming: arming, Labels: labels}, zone.Alarm)); d != "" {
			t.Errorf("%q: %s", arming, d)
		}
	}
	got := told(t, c, text(lines...), recording.ReplayOptions{Arming: recording.ByLabels, Labels: labels}, zone.Armed, zone.Disarmed)
	if d := cmp.Diff([]string{"100.000 house", "260.000 house"}, got); d != "" {
		t.Error(d)
	}
	// The configuration itself is as it was.
	if g := c.Config.Site.Groups[0]; g.Force || g.ExitDelay != 0 || !c.Config.Site.Zones[0].EntryDelay {
		t.Errorf("the configuration was changed: %+v", g)
	}
}

func TestAKeySwitchIsNoDetectorHoweverItIsArmed(t *testing.T) {
	c := recording.Candidate{Config: site(
		zone.Settings{Name: "hall", Signal: zone.Edges, Group: "house", Pulses: 1},
		zone.Settings{Name: "key", Signal: zone.Contact, Pulses: 1},
	)}
	c.Config.Site.WarmUp = -1
	c.Config.Site.Groups = []zone.Group{{Name: "house", Input: "key"}}
	src := text(edge(0, "key", "OFF"), edge(100, "key", "ON"), edge(101, "key", "OFF"), edge(400, "hall", "ON"), edge(401, "hall", "OFF"))
	labels := []recording.Label{{Start: after(90 * time.Second), End: after(500 * time.Second), Truth: recording.Away}}
	for _, arming := range []recording.Arming{recording.Always, recording.ByLabels} {
		if d := cmp.Diff([]string{"400.000 hall"}, told(t, c, src, recording.ReplayOptions{Arming: arming, Labels: labels}, zone.Alarm)); d != "" {
			t.Errorf("%s: %s", arming, d)
		}
	}
}

func TestSeveralFilesAreOneRecording(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.csv"), filepath.Join(dir, "b.csv")
	for name, lines := range map[string]string{a: "timestamp,zone,value\n" + strings.TrimSpace(edge(1, "hall", "ON")), b: "timestamp,zone,value\n" + edge(0, "porch", "ON")} {
		if err := os.WriteFile(name, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := recording.Look(recording.File(a, b))
	want := recording.Survey{
		Zones: []recording.Surveyed{{Name: "porch", Rows: 1}, {Name: "hall", Rows: 1}},
		Rows:  2, First: noon, Last: after(time.Second),
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Error(err, d)
	}
}

// step is a change of a zone, in milliseconds after noon.
type step struct {
	at   int
	zone int
	on   bool
}

// stream draws a recording of three zones.
func stream(r *rapid.T) (steps []step, src recording.Source) {
	at := 0
	var b strings.Builder
	for range rapid.IntRange(1, 60).Draw(r, "edges") {
		at += rapid.OneOf(rapid.IntRange(0, 3000), rapid.IntRange(0, 150_000)).Draw(r, "gap")
		s := step{at, rapid.IntRange(0, 2).Draw(r, "zone"), rapid.Bool().Draw(r, "on")}
		steps = append(steps, s)
		value := "OFF"
		if s.on {
			value = "ON"
		}
		b.WriteString(edge(float64(at)/1000, fmt.Sprint("z", s.zone), value))
	}
	return steps, recording.Bytes([]byte(b.String()))
}

// The baselines once more, in the plainest words: over all turns from off to on, and how long they lasted.
func TestBaselinesAreWhatTheySay(t *testing.T) {
	type turn struct{ at, zone, until int } // until -1: it never turned off
	plain := map[string]func(turns []turn) (alarms []turn){
		"legacy": func(turns []turn) []turn { return turns },
		"esphome": func(turns []turn) (alarms []turn) {
			for _, x := range turns {
				if x.until < 0 || x.until-x.at >= 1500 {
					alarms = append(alarms, turn{at: x.at + 1500, zone: x.zone})
				}
			}
			return alarms
		},
		"home-assistant": func(turns []turn) (alarms []turn) {
			for _, x := range turns {
				if x.until < 0 || x.until-x.at >= 5000 {
					alarms = append(alarms, turn{at: x.at + 5000, zone: x.zone})
				}
			}
			return alarms
		},
		"cross-zone": func(turns []turn) (alarms []turn) {
			for i, x := range turns {
				for _, y := range turns[:i] {
					if y.zone != x.zone && x.at-y.at <= 120_000 {
						alarms = append(alarms, x)
						break
					}
				}
			}
			return alarms
		},
		"event-processor": func(turns []turn) (alarms []turn) {
			accepted := map[int]int{}
			for i, x := range turns {
				if last, ok := accepted[x.zone]; ok && x.at-last < 60_000 {
					continue
				}
				n := 0
				for _, y := range turns[:i+1] {
					if y.zone == x.zone && (x.at-y.at)/1000 < 30 {
						n++
					}
				}
				if n >= 2 {
					accepted[x.zone] = x.at
					alarms = append(alarms, x)
				}
			}
			return alarms
		},
	}
	for name, alarms := range plain {
		rapid.Check(t, func(r *rapid.T) {
			steps, src := stream(r)
			var turns []turn
			open := map[int]int{}
			for _, s := range steps {
				i, on := open[s.zone]
				switch {
				case s.on && !on:
					open[s.zone] = len(turns)
					turns = append(turns, turn{s.at, s.zone, -1})
				case !s.on && on:
					turns[i].until = s.at
					delete(open, s.zone)
				}
			}
			want := map[string]int{}
			for _, x := range alarms(turns) {
				want[fmt.Sprintf("%.3f z%d", float64(x.at)/1000, x.zone)]++
			}
			c, err := recording.Baseline(name)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]int{}
			for _, x := range told(t, c, src, recording.ReplayOptions{}, zone.Alarm) {
				got[x]++
			}
			if d := cmp.Diff(want, got); d != "" {
				r.Fatalf("%s: %s", name, d)
			}
		})
	}
}

func TestBaselinesKeepTheirTimesToTheMillisecond(t *testing.T) {
	pulse := func(at float64, zone string) string { return edge(at, zone, "ON") + edge(at+0.1, zone, "OFF") }
	for _, c := range []struct {
		name string
		src  recording.Source
		want []string
	}{
		{"event-processor", text(pulse(0, "hall"), pulse(1, "hall"), pulse(60.999, "hall"), pulse(61.2, "hall")), []string{"1.000 hall", "61.200 hall"}},
		{"event-processor", text(pulse(0, "hall"), pulse(1, "hall"), pulse(60, "hall"), pulse(61, "hall")), []string{"1.000 hall", "61.000 hall"}},
		{"event-processor", text(pulse(0, "hall"), pulse(29.999, "hall"), pulse(100, "hall"), pulse(130, "hall")), []string{"29.999 hall"}},
		{"cross-zone", text(pulse(0, "hall"), pulse(120, "porch")), []string{"120.000 porch"}},
		{"cross-zone", text(pulse(0, "hall"), pulse(120.001, "porch")), []string{}},
	} {
		b, err := recording.Baseline(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, told(t, b, c.src, recording.ReplayOptions{}, zone.Alarm)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestQuarantineAsksForASecondZoneAfterALoneAlarm(t *testing.T) {
	c, err := recording.Baseline("quarantine")
	if err != nil {
		t.Fatal(err)
	}
	twice := func(at float64, zone string) string {
		return edge(at, zone, "ON") + edge(at+1, zone, "OFF") + edge(at+2, zone, "ON") + edge(at+3, zone, "OFF")
	}
	const h = 3600
	src := text(twice(0, "hall"), twice(h, "hall"), edge(2*h-60, "porch", "ON"), twice(2*h, "hall"), twice(6*h+1, "hall"), twice(7*h, "porch"))
	want := []string{"2.000 hall", "7202.000 hall", "21603.000 hall"}
	if d := cmp.Diff(want, told(t, c, src, recording.ReplayOptions{}, zone.Alarm)[:3]); d != "" {
		t.Error(d)
	}
}

func TestABaselineReadsVoltsAsTheOriginalDoes(t *testing.T) {
	c, err := recording.Baseline("legacy")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i, v := range []string{"1.45", "1.94", "1.96", "UNKNOWN", "2.55", "0.96", "0.94", "1.45"} {
		lines = append(lines, edge(float64(i), "hall", v))
	}
	// 1.96 V is more than ten points from 1.45 V; 0.96 V is not, 0.94 V is.
	if d := cmp.Diff([]string{"2.000 hall", "6.000 hall"}, told(t, c, text(lines...), recording.ReplayOptions{}, zone.Alarm)); d != "" {
		t.Error(d)
	}
}

func TestAnUnknownBaselineNamesTheOthers(t *testing.T) {
	if _, err := recording.Baseline("frigate"); err == nil || !strings.Contains(err.Error(), `"frigate"; choose from default, legacy, event-processor, esphome, home-assistant, cross-zone, quarantine`) {
		t.Error(err)
	}
}
