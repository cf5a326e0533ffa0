// Package hub owns what is known of live devices: when each was last heard of, who waits for a change of its target,
// who watches a fleet's reports, and how many bytes travelled to it. It keeps this in memory and writes presence
// in batches. It does not own what a target is, nor the requests devices make.
package hub

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// flush is how often presence reaches the database: no heartbeat writes by itself.
const flush = 5 * time.Second

// Hub knows the live devices. Its methods may be called concurrently; none of them blocks on a device.
type Hub struct {
	// Seen writes presence; see store.DB.Seen.
	Seen func(ctx context.Context, seen map[int64]store.Sighting) error
	Log  *slog.Logger

	events  events
	mu      sync.Mutex
	devices map[string]*presence              // by uuid
	waiting map[string]map[chan struct{}]bool // devices that wait for their target to change, by uuid
	fleets  map[string]int64                  // fleet of each waiting device, by uuid
	watched map[int64]map[chan struct{}]bool  // people who watch a fleet's reports
}

type presence struct {
	id      int64
	fleet   int64
	poll    int64
	seen    time.Time
	written time.Time
	held    int   // requests that are open now
	left    bool  // it broke off a request that was open, and has not called since
	told    bool  // those who follow events think that it is online
	sent    int64 // bytes of images sent to it since the server started
}

// Heard notes that a device has called and means to call again within poll milliseconds; 0 if it did not say.
func (h *Hub) Heard(d fleet.Device, poll int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.presence(d.UUID)
	p.id, p.fleet, p.seen, p.left = d.ID, d.Fleet, time.Now(), false
	if poll > 0 {
		p.poll = poll
	}
	h.tell(d.UUID, p, true)
}

// Remember takes what a server knew before it was restarted: devices that were heard of lately, and how often each
// meant to call.
func (h *Hub) Remember(seen []store.Sighted) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range seen {
		p := h.presence(s.UUID)
		if at := store.Time(s.Micros); p.seen.Before(at) {
			p.id, p.fleet, p.poll, p.seen, p.written = s.ID, s.Fleet, s.Poll, at, at
			p.told = p.online(time.Now())
		}
	}
}

// tell publishes that a device comes or goes, if that is news. The caller holds mu.
func (h *Hub) tell(uuid string, p *presence, online bool) {
	if p.told == online {
		return
	}
	p.told = online
	what := "device.offline"
	if online {
		what = "device.online"
	}
	h.Publish(Event{Type: what, Fleet: p.fleet, Device: p.id, Data: fmt.Appendf(nil, `{"uuid":%q}`, uuid)})
}

// online reports whether a device counts as online. The caller holds mu.
func (p *presence) online(now time.Time) bool {
	poll := p.poll
	if poll == 0 {
		poll = fleet.DefaultPoll
	}
	return p.held > 0 || !p.left && fleet.Online(p.seen, poll, now)
}

// Hold notes that a device has a request open, and counts it as online until release is called. A device that broke
// the request off counts as offline at once, and not when its next poll is overdue.
func (h *Hub) Hold(d fleet.Device) (release func(brokenOff bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.presence(d.UUID)
	p.id, p.fleet = d.ID, d.Fleet
	p.held++
	h.tell(d.UUID, p, true)
	return func(brokenOff bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		p.held--
		p.seen, p.left = time.Now(), brokenOff
		h.tell(d.UUID, p, p.online(p.seen))
	}
}

// Online reports whether a device counts as online now.
func (h *Hub) Online(d fleet.Device) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, seen, poll := h.devices[d.UUID], d.LastSeen, int64(fleet.DefaultPoll)
	if p != nil {
		if p.held > 0 || p.left {
			return p.held > 0
		}
		if p.poll > 0 {
			poll = p.poll
		}
		if p.seen.After(seen) {
			seen = p.seen
		}
	}
	return fleet.Online(seen, poll, time.Now())
}

// Sent counts bytes of images that went to a device.
func (h *Hub) Sent(uuid string, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.presence(uuid).sent += bytes
}

// Travelled is how many bytes of images went to a device since the server started.
func (h *Hub) Travelled(uuid string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.presence(uuid).sent
}

// AllTravelled is Travelled of every device, by uuid.
func (h *Hub) AllTravelled() map[string]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make(map[string]int64, len(h.devices))
	for uuid, p := range h.devices {
		all[uuid] = p.sent
	}
	return all
}

// presence is the device's entry; the caller holds mu.
func (h *Hub) presence(uuid string) *presence {
	p := h.devices[uuid]
	if p == nil {
		p = &presence{}
		if h.devices == nil {
			h.devices = map[string]*presence{}
		}
		h.devices[uuid] = p
	}
	return p
}

// Await gives a channel that gets a token whenever the device should look at its target again. Tokens coalesce. stop
// must be called.
func (h *Hub) Await(uuid string, fleetID int64) (look <-chan struct{}, stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan struct{}, 1)
	if h.waiting == nil {
		h.waiting, h.fleets = map[string]map[chan struct{}]bool{}, map[string]int64{}
	}
	if h.waiting[uuid] == nil {
		h.waiting[uuid] = map[chan struct{}]bool{}
	}
	h.waiting[uuid][c] = true
	h.fleets[uuid] = fleetID
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.waiting[uuid], c)
		if len(h.waiting[uuid]) == 0 {
			delete(h.waiting, uuid)
			delete(h.fleets, uuid)
		}
	}
}

// LookAgain tells waiting devices that their target may have changed: the named ones, or all of the fleet. A device
// that does not hear it finds out at its next poll.
func (h *Hub) LookAgain(fleetID int64, uuids ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(uuids) == 0 {
		for uuid, f := range h.fleets {
			if f == fleetID {
				tell(h.waiting[uuid])
			}
		}
	}
	for _, uuid := range uuids {
		tell(h.waiting[uuid])
	}
}

// Watch gives a channel that gets a token whenever a device of the fleet has reported. Tokens coalesce. stop must be
// called.
func (h *Hub) Watch(fleetID int64) (reported <-chan struct{}, stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan struct{}, 1)
	if h.watched == nil {
		h.watched = map[int64]map[chan struct{}]bool{}
	}
	if h.watched[fleetID] == nil {
		h.watched[fleetID] = map[chan struct{}]bool{}
	}
	h.watched[fleetID][c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watched[fleetID], c)
		if len(h.watched[fleetID]) == 0 {
			delete(h.watched, fleetID)
		}
	}
}

// Reported tells those who watch the fleet that a device of it has reported.
func (h *Hub) Reported(fleetID int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tell(h.watched[fleetID])
}

func tell(all map[chan struct{}]bool) {
	for c := range all {
		select {
		case c <- struct{}{}:
		default: // a token waits already
		}
	}
}

// Run writes presence in batches until ctx ends, and once more then.
func (h *Hub) Run(ctx context.Context) error {
	tick := time.NewTicker(flush)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.miss(time.Now())
			h.flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flush)
			defer cancel()
			h.flush(last)
			return nil
		}
	}
}

// miss publishes the devices that are overdue.
func (h *Hub) miss(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for uuid, p := range h.devices {
		if p.told && !p.online(now) {
			h.tell(uuid, p, false)
		}
	}
}

func (h *Hub) flush(ctx context.Context) {
	batch := h.due(time.Now())
	if len(batch) == 0 {
		return
	}
	if err := h.Seen(ctx, batch); err != nil {
		h.Log.Warn("presence not written", "devices", len(batch), "err", err)
	}
}

// due is the presence that the database does not have yet.
func (h *Hub) due(now time.Time) map[int64]store.Sighting {
	h.mu.Lock()
	defer h.mu.Unlock()
	batch := map[int64]store.Sighting{}
	for _, p := range h.devices {
		poll := p.poll
		if poll == 0 {
			poll = fleet.DefaultPoll
		}
		if p.held > 0 && now.Sub(p.written) > time.Duration(poll)*time.Millisecond/2 {
			p.seen = now // an open request is as good as a call; twice in a poll interval is enough
		}
		if p.id == 0 || !p.seen.After(p.written) {
			continue
		}
		batch[p.id] = store.Sighting{Micros: store.Micros(p.seen), Poll: poll}
		p.written = p.seen
	}
	return batch
}

// Count is how many devices count as online, for the metrics.
func (h *Hub) Count() (online int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for _, p := range h.devices {
		if p.online(now) {
			online++
		}
	}
	return online
}
