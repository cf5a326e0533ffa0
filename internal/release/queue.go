package release

import (
	"context"
	"io"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// maxWaiting is how many sources of one fleet may be built or wait for it at a time. Pushes by git wait with their
// pushers and are not counted.
const maxWaiting = 8

// enter waits until no other push to the fleet is under way.
func (pl *Pipeline) enter(ctx context.Context, fleetID int64, out io.Writer) (leave func(), err error) {
	pl.mu.Lock()
	if pl.queues == nil {
		pl.queues = map[int64]chan struct{}{}
	}
	q := pl.queues[fleetID]
	if q == nil {
		q = make(chan struct{}, 1)
		pl.queues[fleetID] = q
	}
	pl.mu.Unlock()
	select {
	case q <- struct{}{}:
	default:
		(&transcript{out: out}).line("Another push to this fleet is being built; waiting for it…")
		select {
		case q <- struct{}{}:
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Unavailable, context.Cause(ctx), "the push was broken off while it waited for another one").
				WithHint("push again")
		}
	}
	return func() { <-q }, nil
}

// admit lets a source in while the server runs, and keeps Wait from returning before leave is called.
func (pl *Pipeline) admit() (leave func(), err error) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.stopped {
		return nil, beingRestarted()
	}
	pl.background.Add(1)
	return pl.background.Done, nil
}

// line counts a source in among those that are built or wait, unless there are too many.
func (pl *Pipeline) line(f fleet.Fleet) error {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.waiting == nil {
		pl.waiting = map[int64]int{}
	}
	if pl.waiting[f.ID] >= maxWaiting {
		return fault.Newf(fault.Limited, "%d pushes to %s are being built or waiting", maxWaiting, f.Slug).WithHint("wait until one has ended")
	}
	pl.waiting[f.ID]++
	return nil
}

func (pl *Pipeline) unline(fleetID int64) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.waiting[fleetID]--; pl.waiting[fleetID] == 0 {
		delete(pl.waiting, fleetID)
	}
}

func beingRestarted() error {
	return fault.New(fault.Unavailable, "the server is being restarted").WithHint("push again in a moment")
}
