package logs_test

import (
	"context"
	"errors"
	"fmt"
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

// follower collects what a follower is told, and why it ended.
type follower struct {
	got  []wire.LogLine
	err  error
	stop func()
}

func follow(t testing.TB, s *logs.Store, count int, slow time.Duration) *follower {
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{}
	var wg sync.WaitGroup
	wg.Go(func() {
		f.err = s.Follow(ctx, device, count, func(l wire.LogLine) error {
			f.got = append(f.got, l)
			if slow > 0 {
				time.Sleep(slow)
			}
			return nil
		})
	})
	f.stop = func() { cancel(); wg.Wait() }
	return f
}

func TestAFollowerReadsHistoryThenEachLineAsItComes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &logs.Store{Dir: dir, SegmentBytes: 200}
		if err := s.Append(t.Context(), device, lines(0, 10)); err != nil {
			t.Fatal(err)
		}
		f := follow(t, s, 3, 0)
		synctest.Wait()
		if d := cmp.Diff(messages(lines(7, 10)), messages(f.got)); d != "" {
			t.Errorf("history: %s", d)
		}
		for i := 10; i < 15; i++ {
			if err := s.Append(t.Context(), device, lines(i, i+1)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if d := cmp.Diff(messages(lines(7, i+1)), messages(f.got)); d != "" {
				t.Fatalf("after line %d: %s", i, d)
			}
		}
		f.stop()
		if !errors.Is(f.err, context.Canceled) {
			t.Errorf("it ended with %v", f.err)
		}
	})
}

func TestAFollowerOfADeviceThatNeverWroteSeesItsFirstLine(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &logs.Store{Dir: dir}
		f := follow(t, s, 0, 0)
		synctest.Wait()
		if err := s.Append(t.Context(), device, lines(0, 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if d := cmp.Diff(messages(lines(0, 1)), messages(f.got)); d != "" {
			t.Error(d)
		}
		f.stop()
	})
}

// Whatever the sizes and the moment it starts, a follower gets each line once and in order.
func TestAFollowerSeesNoGapAndNoLineTwice(t *testing.T) {
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		dir := fmt.Sprint(root, "/", n)
		segment := rapid.Int64Range(1, 1000).Draw(r, "segment bytes")
		before := rapid.IntRange(0, 20).Draw(r, "lines before")
		count := rapid.IntRange(-1, 25).Draw(r, "count")
		batches := rapid.SliceOfN(rapid.IntRange(1, 9), 1, 8).Draw(r, "batches")
		slow := time.Duration(rapid.IntRange(0, 3).Draw(r, "ms a line takes")) * time.Millisecond
		var got []string
		total := before
		synctest.Test(t, func(t *testing.T) {
			s := &logs.Store{Dir: dir, SegmentBytes: segment}
			if err := s.Append(t.Context(), device, lines(0, before)); err != nil {
				t.Fatal(err)
			}
			f := follow(t, s, count, slow)
			synctest.Wait()
			for _, b := range batches {
				if err := s.Append(t.Context(), device, lines(total, total+b)); err != nil {
					t.Fatal(err)
				}
				total += b
				time.Sleep(2 * time.Millisecond)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			f.stop()
			got = messages(f.got)
		})
		first := 0
		if count >= 0 {
			first = max(0, before-count)
		}
		if d := cmp.Diff(messages(lines(first, total)), got); d != "" {
			r.Fatal(d)
		}
	})
}

func TestASlowFollowerHoldsNobodyUpAndIsToldWhatItMissed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &logs.Store{Dir: dir, SegmentBytes: 300, DeviceBytes: 1500}
		f := follow(t, s, 0, time.Hour)
		synctest.Wait()
		start := time.Now()
		const total = 500
		for i := range total {
			if err := s.Append(t.Context(), device, lines(i, i+1)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if time.Since(start) != 0 {
			t.Errorf("the writer waited %v for a reader", time.Since(start))
		}
		time.Sleep(total * time.Hour)
		synctest.Wait()
		f.stop()

		at, missed := 0, 0
		for _, l := range f.got {
			if l.IsSystem {
				n := 0
				if _, err := fmt.Sscanf(l.Message, "%d log lines are missing here", &n); err != nil {
					t.Fatalf("%q: %v", l.Message, err)
				}
				at, missed = at+n, missed+n
				continue
			}
			if want := fmt.Sprint("line ", at); l.Message != want {
				t.Fatalf("%q came where %q was due", l.Message, want)
			}
			at++
		}
		if at != total || missed == 0 {
			t.Errorf("told of %d lines, %d of them as missed; want %d and some", at, missed, total)
		}
	})
}

func TestAFollowerEndsWhenItsReaderFailsOrTheLogIsRemoved(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &logs.Store{Dir: dir}
		if err := s.Append(t.Context(), device, lines(0, 1)); err != nil {
			t.Fatal(err)
		}
		broken := errors.New("connection reset")
		if err := s.Follow(t.Context(), device, -1, func(wire.LogLine) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("it ended with %v", err)
		}
		f := follow(t, s, 0, 0)
		synctest.Wait()
		if err := s.Remove(device); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		f.stop()
		if !fault.Is(f.err, fault.NotFound) {
			t.Errorf("it ended with %v", f.err)
		}
		if got := tail(t, s, -1); len(got) != 0 {
			t.Errorf("%d lines survived", len(got))
		}
		if err := s.Append(t.Context(), device, lines(5, 6)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(messages(lines(5, 6)), messages(tail(t, s, -1))); d != "" {
			t.Error(d)
		}
	})
}
