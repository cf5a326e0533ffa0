package recording_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/recording"
)

func TestLabelsAreReadAndSorted(t *testing.T) {
	got, err := recording.ReadLabels(strings.NewReader("Start,End,Label\r\n" +
		"2025-01-31T12:01:00.250Z,,entry\r\n" +
		"2025-01-31 12:00:00.250, 2025-01-31 13:01:00.250+01:00, AWAY\r\n\r\n" +
		"2025-01-31T12:01:00.250Z,2025-01-31T12:01:30.250Z,home"))
	want := []recording.Label{
		{Start: noon, End: after(time.Minute), Truth: recording.Away},
		{Start: after(time.Minute), End: after(time.Minute), Truth: recording.Entry},
		{Start: after(time.Minute), End: after(90 * time.Second), Truth: recording.Home},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Fatal(err, d)
	}
	var b bytes.Buffer
	if err := recording.WriteLabels(&b, got); err != nil {
		t.Fatal(err)
	}
	again, err := recording.ReadLabels(&b)
	if d := cmp.Diff(want, again); err != nil || d != "" {
		t.Error(err, d)
	}
}

func TestAWrongLabelIsNamedWithWhatToWrite(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"2025-01-31T12:00:00Z,2025-01-31T12:00:00Z,out", `line 1: "out" is no label; write away, home or entry`},
		{"\n2025-01-31T12:00:00Z,2025-01-31T11:00:00Z,away", "line 2: it ends before it starts"},
		{"2025-01-31T12:00:00Z,,away", `line 1: "" is no time`},
		{"noon,2025-01-31T11:00:00Z,away", `line 1: "noon" is no time`},
		{"2025-01-31T12:00:00Z,away", "line 1: found 2 columns and not 3; write start,end,label"},
	} {
		if _, err := recording.ReadLabels(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %s", c.text, err, c.want)
		}
	}
}

func FuzzReadLabels(f *testing.F) {
	f.Add([]byte("start,end,label\n2025-01-31T12:00:00Z,2025-01-31T12:00:00Z,away\n2025-01-31T12:00:00Z,,entry"))
	f.Fuzz(func(t *testing.T, text []byte) {
		labels, err := recording.ReadLabels(bytes.NewReader(text))
		if err != nil {
			return
		}
		for i, l := range labels {
			if l.End.Before(l.Start) || i > 0 && l.Start.Before(labels[i-1].Start) {
				t.Fatalf("label %d is %v", i, l)
			}
		}
		// Whatever labels say, they can be evaluated.
		c, err := recording.Baseline("legacy")
		if err != nil {
			t.Fatal(err)
		}
		report, err := recording.Evaluate(recording.Bytes([]byte("2025-01-31T12:00:00Z,hall,ON")), labels, []recording.Candidate{c}, recording.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if r := report.Results[0]; r.AwayHours < 0 || r.Detected > r.Entries || r.FalseAlarms+r.AtHome+r.Unlabelled > 1 {
			t.Fatalf("got %+v", r)
		}
	})
}
