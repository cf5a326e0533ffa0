package recording_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/recording"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

func label(from, to float64, truth recording.Truth) recording.Label {
	d := func(s float64) time.Time { return after(time.Duration(s * float64(time.Second))) }
	return recording.Label{Start: d(from), End: d(to), Truth: truth}
}

func candidates(t *testing.T, names ...string) (c []recording.Candidate) {
	t.Helper()
	for _, n := range names {
		b, err := recording.Baseline(n)
		if err != nil {
			t.Fatal(err)
		}
		c = append(c, b)
	}
	return c
}

// example is two days away in three times, with three entries. The original alarms at each ON.
func example() (recording.Source, []recording.Label) {
	const day = 86400
	on := func(at float64) string { return edge(at, "hall", "ON") + edge(at+0.2, "hall", "OFF") }
	src := text(
		on(10), on(500), // false, in the first time away
		on(day),                  // to the moment of the entry: right, after 0 s
		on(day+30),               // the same entry
		on(day+100), on(1.1*day), // at home
		on(2*day+60),    // the second entry, just in time
		on(2*day+60.5),  // too late for it, and still while its label lasts
		on(2.5*day),     // nothing is labelled
		on(3*day+60.01), // the third entry, too late: missed, and false again
		on(3*day+61),    // false
		edge(4*day, "hall", "OFF"),
	)
	return src, []recording.Label{
		label(0, day, recording.Away), label(day, day+60, recording.Entry), label(day+60, 1.5*day, recording.Home),
		label(1.5*day, 2*day, recording.Away), label(2*day, 2*day+120, recording.Entry),
		label(3*day, 3.5*day, recording.Away), label(3*day, 3*day, recording.Entry),
	}
}

func TestAlarmsAreMatchedWithLabels(t *testing.T) {
	src, labels := example()
	report, err := recording.Evaluate(src, labels, candidates(t, "legacy"), recording.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := report.Results[0]
	want := recording.Result{
		Config: "legacy", Entries: 3, Detected: 2, Missed: 1, FalseAlarms: 4,
		AwayHours: recording.Number(48 - 60.0/3600), // but for the third entry
		PerDay:    r.PerDay, Precision: r.Precision, Recall: r.Recall,
		F1: recording.Number(4.0 / 9), LatencyP50: 30, LatencyP95: 57, DirtyShare: recording.Number(2.0 / 3),
		AtHome: 2, Unlabelled: 1, Suppressed: recording.Stages{},
		FirstFalse:  []string{"2025-01-31T12:00:10.250Z hall", "2025-01-31T12:08:20.250Z hall", "2025-02-03T12:01:00.260Z hall", "2025-02-03T12:01:01.250Z hall"},
		FirstMissed: []string{"2025-02-03T12:00:00.250Z"},
	}
	near := cmp.Comparer(func(a, b recording.Number) bool { return math.Abs(float64(a-b)) < 1e-9 })
	if d := cmp.Diff(want, r, near); d != "" {
		t.Error(d)
	}
	for _, c := range []struct {
		name string
		got  recording.Interval
		want [3]float64
	}{
		{"false alarms a day", r.PerDay, [3]float64{4 / (47.983333 / 24), 1.089865 / (47.983333 / 24), 10.24159 / (47.983333 / 24)}},
		{"precision", r.Precision, [3]float64{1.0 / 3, 0.0967714, 0.7000067}},
		{"recall", r.Recall, [3]float64{2.0 / 3, 0.2076596, 0.9385081}},
	} {
		for i, v := range []recording.Number{c.got.Value, c.got.Low, c.got.High} {
			if math.Abs(float64(v)-c.want[i]) > 1e-5 {
				t.Errorf("%s is %v, want %v", c.name, c.got, c.want)
			}
		}
	}
}

func TestAnAlarmAtTheEndOfItsMinuteIsInTime(t *testing.T) {
	labels := []recording.Label{label(0, 3600, recording.Away), label(1800, 1800, recording.Entry)}
	for at, want := range map[float64][2]int{1800: {1, 0}, 1860: {1, 0}, 1860.001: {0, 1}, 1799.999: {0, 1}} {
		report, err := recording.Evaluate(text(edge(at, "hall", "ON"), edge(3600, "hall", "OFF")), labels, candidates(t, "legacy"), recording.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if r := report.Results[0]; r.Detected != want[0] || r.FalseAlarms != want[1] {
			t.Errorf("at %v s: %d detected, %d false, want %v", at, r.Detected, r.FalseAlarms, want)
		}
	}
}

func TestOnlyAlarmsThatAreToldCount(t *testing.T) {
	each := recording.Candidate{Name: "each", Config: site(zone.Settings{Name: "hall", Signal: zone.Edges, Pulses: 1, Policy: zone.Single, SwingerAfter: -1})}
	pulse := func(at float64) string { return edge(at, "hall", "ON") + edge(at+1, "hall", "OFF") }
	src := text(edge(0, "hall", "OFF"), pulse(100), pulse(130), pulse(170), edge(3600, "hall", "OFF"))
	report, err := recording.Evaluate(src, []recording.Label{label(0, 3600, recording.Away)}, []recording.Candidate{each}, recording.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r := report.Results[0]; r.FalseAlarms != 2 || r.Suppressed[zone.StageRefractory] != 1 {
		t.Errorf("got %+v", r)
	}
}

func TestNothingToMeasureIsNull(t *testing.T) {
	report, err := recording.Evaluate(text(edge(0, "hall", "OFF")), nil, candidates(t, "default"), recording.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := report.JSON(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "nothing.json", b.Bytes())
}

func TestAReportIsATableOrJSON(t *testing.T) {
	src, labels := example()
	report, err := recording.Evaluate(src, labels, candidates(t, "legacy", "event-processor", "cross-zone"), recording.Options{})
	if err != nil {
		t.Fatal(err)
	}
	report.MarkFront()
	var table, object bytes.Buffer
	if err := report.Table(&table); err != nil {
		t.Fatal(err)
	}
	if err := report.JSON(&object); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", table.Bytes())
	var back struct {
		Results []map[string]any
	}
	if err := json.Unmarshal(object.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	for _, key := range strings.Fields("config entries detected missed false_alarms away_hours false_alarms_per_day precision recall f1 latency_p50_s latency_p95_s dirty_share alarms_at_home alarms_unlabelled suppressed") {
		if _, ok := back.Results[1][key]; !ok {
			t.Errorf("a result has no %s", key)
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Error(d)
	}
}

func TestANoteSaysWhatIsOdd(t *testing.T) {
	for _, c := range []struct {
		name   string
		labels []recording.Label
		want   string
	}{
		{"nothing", []recording.Label{label(0, 7200, recording.Away), label(7200, 7260, recording.Entry)}, ""},
		{"no labels", nil, "there are no labels"},
		{"a contradiction", []recording.Label{label(0, 7200, recording.Away), label(3600, 7200, recording.Home)}, "1h0m0s are labelled both away and home; they count as home"},
		{"another time", []recording.Label{label(-7200, 0, recording.Away)}, "2h0m0s labelled away are before the first or after the last row"},
		{"an entry of another time", []recording.Label{label(9000, 9060, recording.Entry)}, "1 entries are before the first or after the last row"},
	} {
		report, err := recording.Evaluate(text(edge(0, "hall", "OFF"), edge(7300, "hall", "OFF")), c.labels, candidates(t, "legacy"), recording.Options{})
		got := strings.Join(report.Notes, "\n")
		if err != nil || !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func TestWhatCannotBeEvaluatedIsSaid(t *testing.T) {
	src := text(edge(0, "hall", "ON"))
	for _, c := range []struct {
		candidates []recording.Candidate
		arming     recording.Arming
		want       string
	}{
		{nil, "", "no configuration is given"},
		{candidates(t, "legacy"), "sometimes", `arming "sometimes"; choose always or labels`},
		{[]recording.Candidate{{Name: "mine", Config: site(zone.Settings{Name: "cellar"})}}, "", "recorded are hall; configured are cellar (z0)"},
	} {
		if _, err := recording.Evaluate(src, nil, c.candidates, recording.Options{Arming: c.arming}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestASweepIsAGrid(t *testing.T) {
	src, labels := example()
	base := candidates(t, "default")[0]
	grid := recording.DefaultSweep(false).Candidates(base)
	var names []string
	for _, c := range grid {
		names = append(names, c.Name)
	}
	if len(grid) != 13 || names[0] != "default N=1" || names[1] != "default N=2 M=15s" || names[12] != "default N=4 M=120s" {
		t.Fatal(names)
	}
	report, err := recording.Evaluate(src, labels, grid, recording.Options{})
	if err != nil {
		t.Fatal(err)
	}
	report.MarkFront()
	one, four := report.Results[0], report.Results[12]
	if one.Detected != 2 || four.Detected != 0 || !one.Front {
		t.Errorf("N=1 is %+v, N=4 is %+v", one, four)
	}
	if n := len(recording.DefaultSweep(true).Candidates(base)); n != 13*4 {
		t.Errorf("with k there are %d", n)
	}
}

func TestTheFrontIsWhatNothingBeats(t *testing.T) {
	result := func(missed, wrong int) recording.Result { return recording.Result{Missed: missed, FalseAlarms: wrong} }
	r := recording.Report{Results: []recording.Result{result(0, 9), result(1, 9), result(3, 3), result(3, 3), result(4, 2), result(4, 4)}}
	r.MarkFront()
	var got []bool
	for _, x := range r.Results {
		got = append(got, x.Front)
	}
	if d := cmp.Diff([]bool{true, false, true, true, true, false}, got); d != "" {
		t.Error(d)
	}
}

// Labels in any order and overlap are counted as second for second.
func TestTimesAwayAreCountedAsSecondForSecond(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		const n = 200
		var labels []recording.Label
		var is [n + 200]map[recording.Truth]bool
		for range rapid.IntRange(1, 8).Draw(r, "labels") {
			from := rapid.IntRange(0, n-1).Draw(r, "from")
			to := rapid.IntRange(from, n-1).Draw(r, "to")
			truth := rapid.SampledFrom([]recording.Truth{recording.Away, recording.Away, recording.Home, recording.Entry}).Draw(r, "truth")
			labels = append(labels, label(float64(from), float64(to), truth))
			if truth == recording.Entry {
				to = max(to, from+10)
			}
			for s := from; s < to; s++ {
				if is[s] == nil {
					is[s] = map[recording.Truth]bool{}
				}
				is[s][truth] = true
			}
		}
		src := strings.Builder{}
		away, wrong, home, nothing := 0, 0, 0, 0
		for s, truths := range is {
			src.WriteString(edge(float64(s)+0.5, "hall", "ON") + edge(float64(s)+0.6, "hall", "OFF"))
			switch {
			case truths[recording.Entry]:
			case truths[recording.Home]:
				home++
			case truths[recording.Away]:
				away++
				wrong++
			default:
				nothing++
			}
		}
		report, err := recording.Evaluate(recording.Bytes([]byte(src.String())), labels, candidates(t, "legacy"), recording.Options{Within: 10 * time.Second})
		if err != nil {
			r.Fatal(err)
		}
		got := report.Results[0]
		if math.Abs(float64(got.AwayHours)*3600-float64(away)) > 0.001 || got.FalseAlarms != wrong || got.AtHome != home || got.Unlabelled != nothing {
			r.Fatalf("away %d s, false %d, home %d, nothing %d; got %+v", away, wrong, home, nothing, got)
		}
	})
}
