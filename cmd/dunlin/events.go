package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/resource"
)

// teller makes events of what the rooms say (docs/api.md). What a fleet's target is now it looks up by itself, so that
// nobody who says something waits.
type teller struct {
	Publish func(hub.Event)
	Fleet   func(ctx context.Context, id int64) (fleet.Fleet, error)
	Log     *slog.Logger

	wake   chan struct{}   // holds one token
	target map[int64]int64 // told last, by fleet; Run's alone

	mu   sync.Mutex
	look map[int64]bool // fleets whose target may be another one
}

func newTeller(h *hub.Hub, find func(ctx context.Context, id int64) (fleet.Fleet, error), log *slog.Logger) *teller {
	return &teller{Publish: h.Publish, Fleet: find, Log: log, look: map[int64]bool{}, wake: make(chan struct{}, 1), target: map[int64]int64{}}
}

// wrote tells of a change of rows: for each fleet it concerns, else for the organization, else for the user alone.
func (t *teller) wrote(w resource.Write) {
	data := encode(map[string]any{"resource": w.Resource, "ids": w.IDs, "by": map[string]any{"type": w.Actor.Kind.String(), "name": w.Actor.Name}})
	e := hub.Event{Type: "resource." + w.Verb, Organization: w.Organization, Data: data}
	if len(w.IDs) == 1 && w.Resource == "release" {
		e.Release = w.IDs[0]
	}
	if len(w.Fleets) == 0 {
		if w.Actor.Kind == fleet.UserActor {
			e.User = w.Actor.ID
		}
		t.Publish(e)
		return
	}
	for _, f := range slices.Sorted(maps.Keys(w.Fleets)) {
		e.Fleet, e.Device = f, 0
		if devices := w.Fleets[f]; len(devices) == 1 {
			e.Device = devices[0]
		}
		t.Publish(e)
		if w.Resource == "application" || w.Resource == "release" {
			t.check(f)
		}
	}
}

// moved tells of a release that began or ended, or that a push made final. A person who makes one final is told of by wrote.
func (t *teller) moved(r fleet.Release) {
	version := r.Version.RawDraft(r.Created.UnixMilli())
	if !r.Draft() {
		version = r.Version.Raw(r.Revision)
	}
	t.Publish(hub.Event{Type: "release.status", Fleet: r.Fleet, Release: r.ID, Data: encode(map[string]any{
		"commit": r.Commit, "status": r.Status, "version": version, "is_final": !r.Draft(),
	})})
	if r.Status == fleet.Success {
		t.check(r.Fleet)
	}
}

// check has the target of a fleet looked at.
func (t *teller) check(id int64) {
	t.mu.Lock()
	t.look[id] = true
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default: // a token waits already
	}
}

// Run tells of fleets' targets until ctx ends.
func (t *teller) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.wake:
		}
		t.mu.Lock()
		ids := slices.Sorted(maps.Keys(t.look))
		clear(t.look)
		t.mu.Unlock()
		for _, id := range ids {
			f, err := t.Fleet(ctx, id)
			switch known, ok := t.target[id]; {
			case fault.Is(err, fault.NotFound):
				delete(t.target, id)
			case err != nil:
				if ctx.Err() == nil {
					t.Log.Warn("target not told", "fleet", id, "err", err)
				}
			case !ok || known != f.Target:
				t.target[id] = f.Target
				t.Publish(hub.Event{Type: "fleet.target", Organization: f.Organization, Fleet: id, Release: f.Target,
					Data: encode(map[string]any{"slug": f.Slug, "should_track_latest_release": f.TrackLatest})})
			}
		}
	}
}

// encode is an object as JSON.
func encode(v map[string]any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts, numbers and booleans always encode
	}
	return b
}
