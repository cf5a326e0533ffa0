package recording_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/recording"
)

// noon is a time with milliseconds.
var noon = time.Date(2025, 1, 31, 12, 0, 0, 250e6, time.UTC)

func after(d time.Duration) time.Time { return noon.Add(d) }

func rows(r io.Reader) ([]recording.Row, error) {
	var all []recording.Row
	for in := recording.NewReader(r); ; {
		row, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, row)
	}
}

// unnumbered is rows without their lines.
func unnumbered(rows []recording.Row) []recording.Row {
	for i := range rows {
		rows[i].Line = 0
	}
	return rows
}

func TestARecordingIsReadHoweverItIsWritten(t *testing.T) {
	on := recording.Row{Time: noon, Zone: "hall", Active: true}
	with := func(change func(*recording.Row)) []recording.Row {
		r := on
		change(&r)
		return []recording.Row{r}
	}
	for _, c := range []struct {
		name, text string
		want       []recording.Row
	}{
		{"with a header", "timestamp,zone,value\n2025-01-31T12:00:00.250Z,hall,ON\n", []recording.Row{on}},
		{"without, and without an end", "2025-01-31T12:00:00.250Z,hall,ON", []recording.Row{on}},
		{"from a spreadsheet", "\ufeffTimestamp, Zone, Value\r\n\r\n2025-01-31 12:00:00.250, hall , on\r\n", []recording.Row{on}},
		{"with an offset", "2025-01-31T13:30:00.250+01:30,hall,ON", []recording.Row{on}},
		{"with an offset without a colon", "2025-01-31 07:00:00.25-0500,hall,ON", []recording.Row{on}},
		{"with an offset of hours", "2025-01-31T13:00:00.250000+01,hall,ON", []recording.Row{on}},
		{"without seconds", "2025-01-31T12:00,hall,ON", with(func(r *recording.Row) { r.Time = noon.Truncate(time.Minute) })},
		{"with nanoseconds", "2025-01-31T12:00:00.123456789Z,hall,ON", with(func(r *recording.Row) { r.Time = noon.Truncate(time.Second).Add(123456789) })},
		{"a contact that opens", "2025-01-31T12:00:00.250Z,hall,Open", []recording.Row{on}},
		{"a contact that closes", "2025-01-31T12:00:00.250Z,hall,closed", with(func(r *recording.Row) { r.Active = false })},
		{"one volt is not on", "2025-01-31T12:00:00.250Z,hall,1", with(func(r *recording.Row) { r.Kind, r.Active, r.Volts = recording.Sample, false, 1 })},
		{"a little below zero", "2025-01-31T12:00:00.250Z,hall,-2.5e-3", with(func(r *recording.Row) { r.Kind, r.Active, r.Volts = recording.Sample, false, -0.0025 })},
		{"not readable", "2025-01-31T12:00:00.250Z,hall,unavailable", with(func(r *recording.Row) { r.Kind, r.Active = recording.Unknown, false })},
		{"a name in quotes", `2025-01-31T12:00:00.250Z,"hall, ""upper""" ,ON`, with(func(r *recording.Row) { r.Zone = `hall, "upper"` })},
		{"two files joined and sorted", "2025-01-31T12:00:00.250Z,hall,ON\ntimestamp,zone,value\n", []recording.Row{on}},
		{"nothing", "", nil},
	} {
		got, err := rows(strings.NewReader(c.text))
		if d := cmp.Diff(c.want, unnumbered(got)); err != nil || d != "" {
			t.Errorf("%s: %v %s", c.name, err, d)
		}
	}
}

func TestAWrongLineIsNamedWithWhatToWrite(t *testing.T) {
	const good = "timestamp,zone,value\n\n2025-01-31T12:00:00Z,hall,ON\n"
	for _, c := range []struct{ name, text, want string }{
		{"no time", good + "yesterday,hall,ON", `line 4: "yesterday" is no time; write it as 2025-01-31T18:04:05.250Z`},
		{"no day", good + "2025-02-29T12:00:00Z,hall,ON", `line 4: "2025-02-29T12:00:00Z" is no time`},
		{"no hour", good + "2025-02-28T24:00:00Z,hall,ON", "line 4"},
		{"half an offset", good + "2025-02-28T12:00:00+1,hall,ON", "line 4"},
		{"American", good + "02/28/2025 12:00:00,hall,ON", "line 4"},
		{"too long ago", good + "1969-12-31T12:00:00Z,hall,ON", "line 4"},
		{"two columns", good + "2025-01-31T12:00:00Z,ON", "line 4: found 2 columns and not 3; write timestamp,zone,value"},
		{"four columns", good + "2025-01-31T12:00:00Z,hall,ON,", "line 4: found 4 columns"},
		{"semicolons", good + "2025-01-31T12:00:00Z;hall;ON", "line 4: found 1 columns"},
		{"no name", good + "2025-01-31T12:00:00Z,,ON", "line 4: the zone has no name"},
		{"an open quote", good + `2025-01-31T12:00:00Z,"hall,ON`, "line 4: a double quote is not closed"},
		{"after a quote", good + `2025-01-31T12:00:00Z,"hall"way,ON`, "line 4: there is text after a closing double quote"},
		{"no value", good + "2025-01-31T12:00:00Z,hall,maybe", `line 4: "maybe" is no value; write ON or OFF, a number of volts, or UNKNOWN`},
		{"true", good + "2025-01-31T12:00:00Z,hall,true", "line 4"},
		{"no number", good + "2025-01-31T12:00:00Z,porch,1.2.3", `line 4: "1.2.3" is no number of volts`},
		{"not finite", good + "2025-01-31T12:00:00Z,porch,+Inf", "line 4"},
		{"millivolts", good + "2025-01-31T12:00:00Z,porch,2451", "line 4: \"2451\" is more than 100 V; is it in millivolts?"},
		{"both kinds", good + "2025-01-31T12:00:00Z,hall,2.5", `line 4: zone "hall" has ON or OFF in one line and volts in another (line 3)`},
		{"a supply that is on", good + "2025-01-31T12:00:00Z,@supply,ON", "line 4: @supply is the measured supply; write it in volts"},
		{"something else", good + strings.Repeat("x", 5000), "line 4: it is longer than 4096 bytes; is this a CSV file?"},
		{"not UTF-8", good + "2025-01-31T12:00:00Z,h\xe4ll,ON", "line 4: the zone's name is not UTF-8"},
	} {
		_, err := rows(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

func TestTooManyZonesAreAnError(t *testing.T) {
	var b strings.Builder
	for i := range 1025 {
		fmt.Fprintf(&b, "2025-01-31T12:00:00Z,z%d,ON\n", i)
	}
	if _, err := rows(strings.NewReader(b.String())); err == nil || !strings.Contains(err.Error(), "line 1025: there are more than 1024 zones") {
		t.Error(err)
	}
}

func TestRowsOutOfOrderAreSortedAndRowsOfOneTimeAreNot(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		seconds := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 30).Draw(r, "seconds")
		var b strings.Builder
		for _, s := range seconds {
			fmt.Fprintf(&b, "2025-01-31T12:00:0%dZ,hall,ON\n", s)
		}
		got, err := rows(strings.NewReader(b.String()))
		if err != nil || len(got) != len(seconds) {
			r.Fatalf("%d of %d rows, %v", len(got), len(seconds), err)
		}
		for i, row := range got {
			if row.Time.Second() != seconds[row.Line-1] {
				r.Fatalf("line %d has second %d", row.Line, row.Time.Second())
			}
			if i > 0 && (row.Time.Before(got[i-1].Time) || row.Time.Equal(got[i-1].Time) && row.Line < got[i-1].Line) {
				r.Fatalf("line %d comes after line %d", row.Line, got[i-1].Line)
			}
		}
	})
}

// ticks writes one row a second, and one late row after n of them.
type ticks struct{ n, at int }

func (s *ticks) Read(p []byte) (int, error) {
	if s.at > s.n {
		return 0, io.EOF
	}
	at := time.Duration(s.at) * time.Second
	if s.at == s.n {
		at = -time.Second
	}
	s.at++
	return copy(p, after(at).Format("2006-01-02T15:04:05.000Z")+",hall,ON\n"), nil
}

func TestARowThatIsFarTooLateIsAnErrorAndAlmostTooLateIsNot(t *testing.T) {
	if got, err := rows(&ticks{n: 65535}); err != nil || len(got) != 65536 || !got[0].Time.Before(noon) {
		t.Errorf("almost too late: %d rows, %v", len(got), err)
	}
	if _, err := rows(&ticks{n: 65537}); err == nil || !strings.Contains(err.Error(), "line 65538: the row is out of order by more than 65536 rows; sort the recording") {
		t.Errorf("too late: %v", err)
	}
}

// repeated is the same line again and again.
type repeated struct {
	line string
	n    int
}

func (s *repeated) Read(p []byte) (int, error) {
	if s.n == 0 {
		return 0, io.EOF
	}
	s.n--
	return copy(p, s.line), nil
}

func TestMemoryDoesNotGrowWithTheRecording(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for in := recording.NewReader(&repeated{"2025-01-31T12:00:00.250Z,hall,2.5\n", 1_000_000}); ; n++ {
		if _, err := in.Next(); err != nil {
			break
		}
	}
	runtime.ReadMemStats(&after)
	// All rows would be more than 60 MB; those that are sorted are 5, in a buffer that has doubled up to twice that.
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; n != 1_000_000 || mb > 40 {
		t.Errorf("%d rows took %d MB", n, mb)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("timestamp,zone,value\n2025-01-31T12:00:00.250Z,hall,ON\n2025-01-31T12:00:00.250Z,\"a,\"\"b\",2.5\n"))
	f.Add([]byte("\ufeff2025-01-31 12:00,hall,UNKNOWN\r\n\r\n2025-01-30 12:00:01.5+01:30,hall,OFF"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := rows(bytes.NewReader(text))
		var b bytes.Buffer
		w := recording.NewWriter(&b)
		for i, row := range got {
			if i > 0 && row.Time.Before(got[i-1].Time) {
				t.Fatalf("row %d is before the one before it", i)
			}
			if math.IsNaN(row.Volts) || math.Abs(row.Volts) > 100 {
				t.Fatalf("row %d has %v V", i, row.Volts)
			}
			if err := w.Write(row); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
		}
		if w.Close(); err != nil {
			return
		}
		again, err := rows(&b)
		if err != nil || len(again) != len(got) {
			t.Fatalf("%d rows were read, %d again: %v", len(got), len(again), err)
		}
		for i, row := range again {
			want := got[i]
			if !row.Time.Equal(want.Time.Truncate(time.Millisecond)) || row.Zone != want.Zone || row.Kind != want.Kind || row.Active != want.Active || math.Abs(row.Volts-want.Volts) > 1e-5 {
				t.Fatalf("row %d was %v and is %v", i, want, row)
			}
		}
	})
}
