package hub_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/store"
)

// told reports whether a token waits.
func told(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestLookAgainReachesTheDevicesItNamesAndNobodyElse(t *testing.T) {
	h := &hub.Hub{}
	porch, stop1 := h.Await("a", 1)
	attic, stop2 := h.Await("b", 1)
	other, stop3 := h.Await("c", 2)
	defer stop1()
	defer stop2()
	defer stop3()
	h.LookAgain(1, "a")
	if !told(porch) || told(attic) || told(other) {
		t.Error("one device was named; it alone should have been told")
	}
	h.LookAgain(1)
	h.LookAgain(1)
	if !told(porch) || !told(attic) || told(other) {
		t.Error("a fleet was named; its two devices alone should have been told")
	}
	if told(porch) {
		t.Error("two tokens did not become one")
	}
}

func TestADeviceThatLeftIsForgotten(t *testing.T) {
	h := &hub.Hub{}
	porch, stop := h.Await("a", 1)
	again, stop2 := h.Await("a", 1)
	stop()
	h.LookAgain(1)
	if told(porch) || !told(again) {
		t.Error("the request that ended was told, or the one that goes on was not")
	}
	stop2()
	h.LookAgain(1, "a")
}

func TestWhoeverWatchesAFleetHearsOfItsReports(t *testing.T) {
	h := &hub.Hub{}
	watch, stop := h.Watch(1)
	h.Reported(2)
	if told(watch) {
		t.Error("another fleet's report was heard")
	}
	h.Reported(1)
	if !told(watch) {
		t.Error("the report was not heard")
	}
	stop()
	h.Reported(1)
	if told(watch) {
		t.Error("a watcher that left was told")
	}
}

// ledger takes presence as the store does.
type ledger struct {
	mu     sync.Mutex
	writes int
	seen   map[int64]store.Sighting
	err    error
}

func (l *ledger) take(_ context.Context, batch map[int64]store.Sighting) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes++
	for id, s := range batch {
		if l.seen == nil {
			l.seen = map[int64]store.Sighting{}
		}
		l.seen[id] = s
	}
	return l.err
}

// now is what was taken so far.
func (l *ledger) now() (writes int, seen map[int64]store.Sighting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writes, maps.Clone(l.seen)
}

func TestPresenceIsWrittenInBatchesAndOnceMoreAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		h := &hub.Hub{Seen: l.take, Log: slog.New(slog.DiscardHandler)}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- h.Run(ctx) }()

		one, two := fleet.Device{ID: 1, UUID: "a"}, fleet.Device{ID: 2, UUID: "b"}
		for range 100 {
			h.Heard(one, 60_000)
			h.Heard(two, 30_000)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if writes, seen := l.now(); writes != 1 || len(seen) != 2 || seen[2].Poll != 30_000 {
			t.Errorf("200 heartbeats became %d writes of %v, want one write of two devices", writes, seen)
		}
		time.Sleep(time.Minute)
		if writes, _ := l.now(); writes != 1 {
			t.Errorf("nothing happened and %d writes were made", writes)
		}
		h.Heard(one, 0)
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if writes, seen := l.now(); writes != 2 || seen[1].Poll != 60_000 {
			t.Errorf("the last heartbeat was lost at the end, or its interval forgotten: %d writes, %v", writes, seen)
		}
	})
}

func TestADeviceThatHoldsARequestStaysOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{err: errors.New("the database is away")}
		h := &hub.Hub{Seen: l.take, Log: slog.New(slog.DiscardHandler)}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- h.Run(ctx) }()
		d := fleet.Device{ID: 1, UUID: "a"}
		if h.Online(d) {
			t.Error("a device nobody heard of is online")
		}
		h.Heard(d, 60_000)
		release := h.Hold(d)
		time.Sleep(10 * time.Minute)
		if !h.Online(d) || h.Count() != 1 {
			t.Error("a device that holds a request is offline")
		}
		_, seen := l.now()
		if age := time.Now().UnixMicro() - seen[1].Micros; age > (40 * time.Second).Microseconds() {
			t.Errorf("the database last heard of it %d s ago", age/1e6)
		}
		release(false)
		time.Sleep(104 * time.Second)
		if !h.Online(d) {
			t.Error("it went offline too early")
		}
		time.Sleep(2 * time.Second)
		if h.Online(d) || h.Count() != 0 {
			t.Error("it has been silent for one and a half intervals and more, and is online")
		}
		stop()
		<-ended
	})
}

func TestADeviceThatBreaksItsRequestOffIsOfflineUntilItCallsAgain(t *testing.T) {
	h := &hub.Hub{}
	d := fleet.Device{ID: 1, UUID: "a", LastSeen: time.Now()}
	h.Heard(d, 60_000)
	one, two := h.Hold(d), h.Hold(d)
	one(true)
	if !h.Online(d) {
		t.Error("it holds another request and is offline")
	}
	two(true)
	if h.Online(d) || h.Count() != 0 {
		t.Error("it hung up and is online")
	}
	h.Heard(d, 0)
	if !h.Online(d) || h.Count() != 1 {
		t.Error("it called again and is offline")
	}
}

func TestBytesAreCountedByDevice(t *testing.T) {
	h := &hub.Hub{}
	h.Sent("a", 3)
	h.Sent("a", 4)
	h.Sent("b", 1)
	if got := h.Travelled("a"); got != 7 {
		t.Errorf("7 bytes travelled, %d were counted", got)
	}
}
