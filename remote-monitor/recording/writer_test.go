package recording_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/recording"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

func TestScansBecomeSamplesAndChanges(t *testing.T) {
	var b bytes.Buffer
	rec := &recording.Recorder{
		Writer: recording.NewWriter(&b),
		Zones:  []zone.Settings{{Name: "hall"}, {Name: "door", Signal: zone.Contact}, {Name: "porch, left", Signal: zone.Analog}},
	}
	scan := func(n int, supply float64, readings ...zone.Reading) {
		t.Helper()
		if err := rec.Scan(zone.Scan{Time: after(time.Duration(n) * 50 * time.Millisecond), Supply: supply, Readings: readings}); err != nil {
			t.Fatal(err)
		}
	}
	scan(0, 0, zone.Reading{Zone: 0, Volts: 1.4512345678}, zone.Reading{Zone: 1}, zone.Reading{Zone: 2, Volts: 2.5})
	scan(1, 4.98, zone.Reading{Zone: 0, Unknown: "timeout"}, zone.Reading{Zone: 1})
	scan(2, 0, zone.Reading{Zone: 0, Volts: 1.5}, zone.Reading{Zone: 1, Active: true})
	scan(3, 0, zone.Reading{Zone: 1, Unknown: "nak"})
	scan(4, 0, zone.Reading{Zone: 1, Unknown: "nak"})
	scan(5, 0, zone.Reading{Zone: 1, Active: true})
	if err := rec.Writer.Close(); err != nil {
		t.Fatal(err)
	}
	want := `timestamp,zone,value
2025-01-31T12:00:00.250Z,hall,1.45123
2025-01-31T12:00:00.250Z,door,OFF
2025-01-31T12:00:00.250Z,"porch, left",2.5
2025-01-31T12:00:00.300Z,@supply,4.98
2025-01-31T12:00:00.300Z,hall,UNKNOWN
2025-01-31T12:00:00.350Z,hall,1.5
2025-01-31T12:00:00.350Z,door,ON
2025-01-31T12:00:00.400Z,door,UNKNOWN
2025-01-31T12:00:00.500Z,door,ON
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestAZoneThatCannotBeReadBackIsNotWritten(t *testing.T) {
	w := recording.NewWriter(&bytes.Buffer{})
	for _, name := range []string{"", "a\nb", "\xff", strings.Repeat("x", 201)} {
		if err := w.Write(recording.Row{Time: noon, Zone: name}); err == nil {
			t.Errorf("zone %q was written", name)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestARecordingGoesOnWhereACrashLeftIt(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.csv")
	for _, left := range []string{"", "time", "timestamp,zone,value\n", "timestamp,zone,value\n2025-01-31T12:00:00.000Z," + strings.Repeat("x", 150)} {
		if err := os.WriteFile(name, []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := recording.Create(name, 0, 0)
		if err != nil {
			t.Fatalf("%q: %v", left, err)
		}
		if err := errors.Join(w.Write(recording.Row{Time: noon, Zone: "hall", Active: true}), w.Close()); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff("timestamp,zone,value\n2025-01-31T12:00:00.250Z,hall,ON\n", read(t, name)); d != "" {
			t.Errorf("%q: %s", left, d)
		}
	}
	if err := os.WriteFile(name, []byte("a letter"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := recording.Create(name, 0, 0); err == nil || read(t, name) != "a letter" {
		t.Errorf("something else was written over: %v", err)
	}
}

func TestWhatIsWrittenReachesTheFileWithinASecond(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.csv")
	w, err := recording.Create(name, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := range 21 {
		if err := w.Write(recording.Row{Time: after(time.Duration(i) * 50 * time.Millisecond), Zone: "hall", Kind: recording.Sample}); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(read(t, name), "\n"); n != 22 {
		t.Errorf("after a second the file has %d lines", n)
	}
}

func TestFilesAreRotatedAndReadTogether(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.csv")
	w, err := recording.Create(name, 125, 2)
	if err != nil {
		t.Fatal(err)
	}
	var want []recording.Row
	for i := range 10 {
		row := recording.Row{Time: after(time.Duration(i) * time.Second), Zone: "hall", Active: i%2 == 0}
		if want = append(want, row); w.Write(row) != nil {
			t.Fatal("cannot write")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// Three rows fit into 125 bytes: 10 are 3 + 3 + 3 + 1, of which the first 3 are gone.
	in, err := recording.File(name+".2", name+".1", name)()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got, err := rows(in)
	if d := cmp.Diff(want[3:], unnumbered(got)); err != nil || d != "" {
		t.Error(err, d)
	}
	if _, err := os.Stat(name + ".3"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("more than two old files are kept: %v", err)
	}
}
