package logs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/logs"
	"github.com/dunlin/dunlin/internal/wire"
)

const device = "3f2a9c0d11e84b7fa6d05c8812345678"

// failer is what a test and a property have in common.
type failer interface {
	Helper()
	Fatal(...any)
}

func lines(from, to int) []wire.LogLine {
	var l []wire.LogLine
	for i := from; i < to; i++ {
		l = append(l, wire.LogLine{Message: fmt.Sprint("line ", i), Timestamp: int64(i + 1)})
	}
	return l
}

func messages(l []wire.LogLine) []string {
	m := []string{}
	for _, x := range l {
		m = append(m, x.Message)
	}
	return m
}

func tail(t failer, s *logs.Store, count int) []wire.LogLine {
	t.Helper()
	l, err := s.Tail(context.Background(), device, count, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func files(t failer, dir string) []string {
	t.Helper()
	f, err := filepath.Glob(filepath.Join(dir, device, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestALineComesBackAsItWasWithTheTimeItWasTaken(t *testing.T) {
	at := time.Date(2025, 3, 1, 12, 0, 0, 5e6, time.UTC)
	s := &logs.Store{Dir: t.TempDir(), Now: func() time.Time { return at }}
	service := int64(7)
	in := wire.LogLine{Message: "motion <hall> & \"door\"\nsecond \x00 row", Timestamp: 12, IsStdErr: true, IsSystem: true, ServiceID: &service}
	if err := s.Append(t.Context(), device, []wire.LogLine{in}); err != nil {
		t.Fatal(err)
	}
	want := in
	want.CreatedAt = at.UnixMilli()
	if d := cmp.Diff([]wire.LogLine{want}, tail(t, s, -1)); d != "" {
		t.Error(d)
	}
}

func TestTheLastLinesAreTheNewestOnes(t *testing.T) {
	s := &logs.Store{Dir: t.TempDir(), SegmentBytes: 200}
	if err := s.Append(t.Context(), device, lines(0, 20)); err != nil {
		t.Fatal(err)
	}
	for count, want := range map[int][]wire.LogLine{0: {}, 1: lines(19, 20), 7: lines(13, 20), 20: lines(0, 20), 21: lines(0, 20), -1: lines(0, 20)} {
		if d := cmp.Diff(messages(want), messages(tail(t, s, count))); d != "" {
			t.Errorf("last %d: %s", count, d)
		}
	}
}

func TestSinceLeavesOutWhatWasTakenBefore(t *testing.T) {
	at := time.Now()
	s := &logs.Store{Dir: t.TempDir(), Now: func() time.Time { return at }}
	for i := range 5 {
		if err := s.Append(t.Context(), device, lines(i, i+1)); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Minute)
	}
	got, err := s.Tail(t.Context(), device, -1, at.Add(-2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(messages(lines(3, 5)), messages(got)); d != "" {
		t.Error(d)
	}
}

func TestADeviceThatNeverWroteHasNoLinesAndLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	s := &logs.Store{Dir: dir}
	if got := tail(t, s, -1); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if err := s.Remove(device); err != nil {
		t.Error(err)
	}
	if e, _ := os.ReadDir(dir); len(e) != 0 {
		t.Errorf("found %v", e)
	}
}

func TestANameThatIsNoUUIDNeverReachesTheDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	s := &logs.Store{Dir: dir}
	for _, name := range []string{"", ".", "..", "../x", "a/b", "AB", "0x", "a\x00", "a\n", strings.Repeat("a", 65)} {
		if err := s.Append(t.Context(), name, lines(0, 1)); !fault.Is(err, fault.Invalid) {
			t.Errorf("append to %q: %v", name, err)
		}
		if _, err := s.Tail(t.Context(), name, 1, time.Time{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("tail of %q: %v", name, err)
		}
		if err := s.Remove(name); !fault.Is(err, fault.Invalid) {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("something was made on the disk")
	}
}

func TestAnOverlongMessageIsCutBetweenCharacters(t *testing.T) {
	s := &logs.Store{Dir: t.TempDir()}
	for _, m := range []string{strings.Repeat("\x01", 2*wire.MaxLogMessage), strings.Repeat("é", wire.MaxLogMessage), strings.Repeat("\xff", wire.MaxLogLine)} {
		if err := s.Append(t.Context(), device, []wire.LogLine{{Message: m}}); err != nil {
			t.Fatal(err)
		}
	}
	got := tail(t, s, -1)
	if len(got) != 3 {
		t.Fatalf("%d lines came back", len(got))
	}
	if got[0].Message != strings.Repeat("\x01", wire.MaxLogMessage) || got[1].Message != strings.Repeat("é", wire.MaxLogMessage/2) {
		t.Error("a message was not cut where it should be")
	}
}

func TestADiskThatRefusesIsSaidAndForgottenWhenItWorksAgain(t *testing.T) {
	dir := t.TempDir()
	s := &logs.Store{Dir: dir}
	folder := filepath.Join(dir, device)
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), device, lines(0, 1)); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("got %v, want unavailable", err)
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), device, lines(1, 3)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(messages(lines(1, 3)), messages(tail(t, s, -1))); d != "" {
		t.Error(d)
	}
}

func TestConcurrentWritersLoseNothingAndKeepTheirOwnOrder(t *testing.T) {
	s := &logs.Store{Dir: t.TempDir(), SegmentBytes: 1000}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := s.Append(t.Context(), device, []wire.LogLine{{Message: fmt.Sprint(w), Timestamp: int64(i)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := map[string]int64{}
	for _, l := range tail(t, s, -1) {
		if l.Timestamp != next[l.Message] {
			t.Fatalf("writer %s: line %d came where %d was due", l.Message, l.Timestamp, next[l.Message])
		}
		next[l.Message]++
	}
	if len(next) != 8 || next["0"] != 50 {
		t.Errorf("got %v", next)
	}
}

func TestNoFileStaysOpenWhenNobodyWrites(t *testing.T) {
	s := &logs.Store{Dir: t.TempDir()}
	for i := range 200 {
		if err := s.Append(t.Context(), fmt.Sprintf("%032x", i), lines(0, 2)); err != nil {
			t.Fatal(err)
		}
	}
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(open) > 100 {
		t.Errorf("%d files are open after 200 devices wrote", len(open))
	}
}

// encoded is the bytes a line takes on the disk.
func encoded(t failer, l wire.LogLine) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What was appended and is within retention comes back in order, whatever the segment sizes, restarts, torn tails
// and sweeps in between.
func TestWhatIsWithinRetentionComesBackInOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "logs")
		if err != nil {
			r.Fatal(err)
		}
		at := time.UnixMilli(1_700_000_000_000)
		segment := rapid.Int64Range(1, 2000).Draw(r, "segment bytes")
		keep := rapid.Int64Range(1, 10_000).Draw(r, "device bytes")
		age := 24 * time.Hour
		open := func() *logs.Store {
			return &logs.Store{Dir: dir, SegmentBytes: segment, DeviceBytes: keep, MaxAge: age, Now: func() time.Time { return at }}
		}
		s := open()
		var all []wire.LogLine
		r.Repeat(map[string]func(*rapid.T){
			"append": func(r *rapid.T) {
				batch := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) wire.LogLine {
					return wire.LogLine{Message: rapid.String().Draw(r, "message"), Timestamp: rapid.Int64Range(0, 1<<53).Draw(r, "timestamp"), IsStdErr: rapid.Bool().Draw(r, "stderr")}
				}), 1, 12).Draw(r, "batch")
				if err := s.Append(t.Context(), device, batch); err != nil {
					r.Fatal(err)
				}
				for _, l := range batch {
					l.CreatedAt = at.UnixMilli()
					all = append(all, l)
				}
			},
			"restart": func(r *rapid.T) { s = open() },
			"killed in the middle of a line": func(r *rapid.T) {
				f := files(r, dir)
				if len(f) == 0 {
					r.Skip("nothing to tear")
				}
				b := encoded(r, wire.LogLine{Message: "torn", Timestamp: 1, CreatedAt: at.UnixMilli()})
				n := rapid.IntRange(0, len(b)-1).Draw(r, "bytes that reached the disk")
				w, err := os.OpenFile(f[len(f)-1], os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					r.Fatal(err)
				}
				if _, err := w.Write(b[:n]); err != nil {
					r.Fatal(err)
				}
				if err := w.Close(); err != nil {
					r.Fatal(err)
				}
				s = open()
			},
			"time passes": func(r *rapid.T) {
				at = at.Add(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(r, "time")))
			},
			"sweep": func(r *rapid.T) {
				if err := logs.Sweep(t.Context(), s); err != nil {
					r.Fatal(err)
				}
			},
			"": func(r *rapid.T) {
				got := tail(r, s, -1)
				if len(got) > len(all) || !slices.EqualFunc(got, all[len(all)-len(got):], func(a, b wire.LogLine) bool { return cmp.Equal(a, b) }) {
					r.Fatalf("what came back is not the end of what went in: %s", cmp.Diff(all, got))
				}
				// The next older line is missing only because it is too old, or there was no room for it.
				if i := len(all) - len(got) - 1; i >= 0 && all[i].CreatedAt >= at.Add(-age).UnixMilli() {
					room := int64(len(encoded(r, all[i])))
					for _, l := range got {
						room += int64(len(encoded(r, l)))
					}
					if room <= keep-segment {
						r.Fatalf("line %d is gone although there was room", i)
					}
				}
				n := rapid.IntRange(0, 5).Draw(r, "count")
				if d := cmp.Diff(messages(got[max(0, len(got)-n):]), messages(tail(r, s, n))); d != "" {
					r.Fatalf("last %d: %s", n, d)
				}
			},
		})
	})
}

func TestARunningStoreRemovesWhatIsTooOldAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &logs.Store{Dir: dir, SegmentBytes: 300}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		if err := s.Append(ctx, device, lines(0, 10)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(29 * 24 * time.Hour)
		if err := s.Append(ctx, device, lines(10, 12)); err != nil {
			t.Fatal(err)
		}
		if got := len(tail(t, s, -1)); got != 12 {
			t.Errorf("after 29 days %d lines are left, want 12", got)
		}
		time.Sleep(2 * 24 * time.Hour)
		if d := cmp.Diff(messages(lines(10, 12)), messages(tail(t, s, -1))); d != "" {
			t.Errorf("after 31 days: %s", d)
		}
		if got := len(files(t, dir)); got > 2 {
			t.Errorf("after 31 days %d segments are left", got)
		}
		time.Sleep(30 * 24 * time.Hour)
		if _, err := os.Stat(filepath.Join(dir, device)); !errors.Is(err, os.ErrNotExist) {
			t.Error("the folder of a device without lines is still there")
		}
		if err := s.Append(ctx, device, lines(12, 13)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(messages(lines(12, 13)), messages(tail(t, s, -1))); d != "" {
			t.Error(d)
		}
		cancel()
		wg.Wait()
	})
}

func FuzzASegmentOfAnyBytesIsReadAndWrittenOn(f *testing.F) {
	f.Add([]byte(""), 3)
	f.Add([]byte(`{"message":"a","timestamp":1,"createdAt":1700000000000}`+"\n"+`{"mess`), 1)
	f.Add([]byte("\x00\x00\n\n{}\nnull\n[1]\n"), 0)
	f.Add(bytes.Repeat([]byte("x"), 300_000), -1)
	f.Fuzz(func(t *testing.T, b []byte, count int) {
		dir := t.TempDir()
		at := time.UnixMilli(1_700_000_000_000)
		folder := filepath.Join(dir, device)
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "0000000000000000-1700000000000.ndjson"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := &logs.Store{Dir: dir, Now: func() time.Time { return at }}
		tail(t, s, count)
		if err := s.Append(t.Context(), device, lines(0, 2)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(messages(lines(0, 2)), messages(tail(t, s, 2))); d != "" {
			t.Error(d)
		}
		if got := tail(t, s, -1); len(got) < 2 {
			t.Errorf("%d lines came back", len(got))
		}
	})
}

func TestALogRemovedWhileOthersWriteStartsAgainWhole(t *testing.T) {
	s := &logs.Store{Dir: t.TempDir(), SegmentBytes: 500}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 100 {
				if err := s.Append(t.Context(), device, lines(i, i+1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 100 {
		if err := s.Remove(device); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if err := s.Remove(device); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), device, lines(0, 3)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(messages(lines(0, 3)), messages(tail(t, s, -1))); d != "" {
		t.Error(d)
	}
}
