package hub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/store"
)

// types are what a follower who stands at after would read now.
func types(t *testing.T, h *hub.Hub, after int64) (all []string) {
	t.Helper()
	if h.Latest() == after {
		return nil
	}
	events, err := h.Since(t.Context(), after, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		if e.Sequence != after+int64(i)+1 || e.Time.IsZero() {
			t.Errorf("event %d is %+v", i, e)
		}
		all = append(all, e.Type)
	}
	return all
}

func TestEventsComeInOrderToWhoeverComesBack(t *testing.T) {
	h := &hub.Hub{}
	start := h.Latest()
	for i := range 5 {
		h.Publish(hub.Event{Type: fmt.Sprint(i)})
	}
	for from := range 6 {
		got := types(t, h, start+int64(from))
		if len(got) != 5-from || from < 5 && got[0] != fmt.Sprint(from) {
			t.Errorf("from %d on: %v", from, got)
		}
	}
	two, err := h.Since(t.Context(), start, 2)
	if err != nil || len(two) != 2 || two[1].Type != "1" {
		t.Errorf("at most two: %v %v", two, err)
	}
}

func TestEventsThatAreGoneAreAGapAndNotSkipped(t *testing.T) {
	h := &hub.Hub{}
	start := h.Latest()
	const more = 20_000 // than are kept
	for range more {
		h.Publish(hub.Event{})
	}
	if _, err := h.Since(t.Context(), start, 10); !errors.Is(err, hub.ErrGap) {
		t.Errorf("from the start: %v", err)
	}
	if _, err := h.Since(t.Context(), h.Latest()+1, 10); !errors.Is(err, hub.ErrGap) {
		t.Errorf("from a number that never was: %v", err)
	}
	oldest := int64(-1)
	for after := start; after < start+more; after++ {
		if got, err := h.Since(t.Context(), after, more); err == nil {
			oldest = after
			if len(got) != int(start+more-after) || got[0].Sequence != after+1 || got[len(got)-1].Sequence != start+more {
				t.Errorf("after %d there are %d, from %d to %d", after, len(got), got[0].Sequence, got[len(got)-1].Sequence)
			}
			break
		}
	}
	if kept := start + more - oldest; kept < 10_000 || kept > 20_000 {
		t.Errorf("%d events are kept", kept)
	}
}

func TestNumbersRiseOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := &hub.Hub{}
		for range 1000 {
			before.Publish(hub.Event{})
		}
		time.Sleep(2 * time.Millisecond)
		after := &hub.Hub{}
		if after.Latest() <= before.Latest() {
			t.Errorf("it begins at %d, after %d", after.Latest(), before.Latest())
		}
		if _, err := after.Since(t.Context(), before.Latest(), 10); !errors.Is(err, hub.ErrGap) {
			t.Errorf("a place before the restart: %v", err)
		}
	})
}

func TestAFollowerWaitsAndABurstWakesItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub.Hub{}
		at := h.Latest()
		var got [][]hub.Event
		var following sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		following.Go(func() {
			for after := at; ; {
				events, err := h.Since(ctx, after, 100)
				if err != nil {
					return
				}
				got = append(got, events)
				after = events[len(events)-1].Sequence
			}
		})
		synctest.Wait()
		for range 3 {
			for range 10 {
				h.Publish(hub.Event{})
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		cancel()
		following.Wait()
		if len(got) != 3 || len(got[0]) != 10 || len(got[2]) != 10 {
			t.Errorf("it was woken %d times", len(got))
		}
	})
}

func TestADeviceThatComesAndGoesIsToldOnceEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub.Hub{Log: slog.New(slog.DiscardHandler), Seen: func(context.Context, map[int64]store.Sighting) error { return nil }}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = h.Run(ctx) })
		defer running.Wait()
		defer cancel()
		d := fleet.Device{ID: 7, UUID: "u", Fleet: 5}
		at := h.Latest()
		step := func(what string, do func(), want ...string) {
			t.Helper()
			do()
			synctest.Wait()
			got := types(t, h, at)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
			at = h.Latest()
		}
		step("the first call", func() { h.Heard(d, 10_000) }, "device.online")
		step("the next ones", func() { time.Sleep(9 * time.Second); h.Heard(d, 0); h.Heard(d, 10_000) })
		step("late, within its grace", func() { time.Sleep(29 * time.Second) })
		step("overdue", func() { time.Sleep(10 * time.Second) }, "device.offline")
		step("for good", func() { time.Sleep(time.Minute) })
		var release func(bool)
		step("an open request", func() { release = h.Hold(d) }, "device.online")
		step("held for long", func() { time.Sleep(time.Hour) })
		step("broken off", func() { release(true) }, "device.offline")
		step("and back", func() { h.Heard(d, 10_000) }, "device.online")
		event, err := h.Since(ctx, at-1, 1)
		if err != nil || event[0].Device != 7 || event[0].Fleet != 5 || string(event[0].Data) != `{"uuid":"u"}` {
			t.Errorf("%+v %v", event, err)
		}
	})
}

func TestARestartedServerTellsOfDevicesThatDoNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub.Hub{Log: slog.New(slog.DiscardHandler), Seen: func(context.Context, map[int64]store.Sighting) error { return nil }}
		now := time.Now()
		h.Remember([]store.Sighted{
			{ID: 1, Fleet: 5, UUID: "here", Sighting: store.Sighting{Micros: store.Micros(now.Add(-time.Second)), Poll: 10_000}},
			{ID: 2, Fleet: 5, UUID: "gone", Sighting: store.Sighting{Micros: store.Micros(now.Add(-10 * time.Minute)), Poll: 10_000}},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = h.Run(ctx) })
		at := h.Latest()
		time.Sleep(time.Minute)
		synctest.Wait()
		events, err := h.Since(ctx, at, 10)
		if err != nil || len(events) != 1 || events[0].Type != "device.offline" || events[0].Device != 1 {
			t.Errorf("%+v %v", events, err)
		}
		cancel()
		running.Wait()
	})
}
