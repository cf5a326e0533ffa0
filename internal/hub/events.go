package hub

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"
)

// keep is how many events are kept for those who come back: an hour of a busy fleet, and a few megabytes.
const keep = 16 << 10

// gather is how long a follower waits for company after the first event, so that a burst wakes it once.
const gather = 50 * time.Millisecond

// Event is one thing that happened to something people watch.
type Event struct {
	// Sequence rises with every event, also over a restart; Publish gives it.
	Sequence int64
	Time     time.Time // the zero time is the moment of Publish
	Type     string    // what happened, for example device.online; see docs/api.md
	// What it is about, by id; 0 for what it is not about. Whoever may look at the fleet may read it; one without a
	// fleet is for the members of the organization, one with neither for the user alone, and otherwise for nobody.
	Organization, Fleet, Device, Release, User int64
	Data                                       json.RawMessage // an object of the type's own shape; nil for none
}

// ErrGap says that events between the last one that was read and the oldest one that is kept are gone: whoever follows
// must look at everything anew.
var ErrGap = errors.New("events were missed")

// events are the last ones, in a ring that grows to its size. Followers hold a place in it and nothing else, so that a
// slow one costs nothing and a thousand cost a thousand places.
type events struct {
	mu   sync.Mutex // guards what is below
	ring []Event    // the event with sequence n is at n-first modulo its length
	head int        // index of the oldest
	last int64      // sequence of the newest; 0 before the first was asked for
	more chan struct{}
}

// Publish tells all who follow. It never blocks.
func (h *Hub) Publish(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	v := &h.events
	v.mu.Lock()
	defer v.mu.Unlock()
	v.begin()
	v.last++
	e.Sequence = v.last
	if len(v.ring) < keep {
		v.ring = append(v.ring, e)
	} else {
		v.ring[v.head] = e
		v.head = (v.head + 1) % keep
	}
	close(v.more)
	v.more = make(chan struct{})
}

// begin starts the count at the clock's microseconds: no server publishes a million events a second for long, so the
// numbers of a restarted one are above all that came before. The caller holds mu.
func (v *events) begin() {
	if v.last == 0 {
		v.last = time.Now().UnixMicro()
		v.more = make(chan struct{})
	}
}

// Latest is the sequence of the newest event: where one begins who wants only what comes.
func (h *Hub) Latest() int64 {
	h.events.mu.Lock()
	defer h.events.mu.Unlock()
	h.events.begin()
	return h.events.last
}

// Since waits for events after that sequence and returns them in order, at most max. It returns ErrGap if some of them
// are not kept any more, or if this hub never published that sequence; the context's error when that ends.
func (h *Hub) Since(ctx context.Context, after int64, max int) ([]Event, error) {
	for {
		found, more, err := h.events.since(after, max)
		if err != nil || len(found) > 0 {
			return found, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		select {
		case <-time.After(gather):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (v *events) since(after int64, max int) ([]Event, <-chan struct{}, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.begin()
	if after > v.last || after < v.last-int64(len(v.ring)) {
		return nil, nil, ErrGap
	}
	n := int(v.last - after) // newer ones
	found := make([]Event, 0, min(n, max))
	for i := len(v.ring) - n; i < len(v.ring) && len(found) < max; i++ {
		found = append(found, v.ring[(v.head+i)%len(v.ring)])
	}
	return slices.Clip(found), v.more, nil
}
