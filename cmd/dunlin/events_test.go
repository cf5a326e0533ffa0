package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/resource"
)

func TestWhatIsWrittenAndBuiltIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		fleets := map[int64]fleet.Fleet{5: {ID: 5, Organization: 2, Slug: "acme/porch", Target: 8, TrackLatest: true}}
		h := &hub.Hub{}
		tell := newTeller(h, func(_ context.Context, id int64) (fleet.Fleet, error) {
			mu.Lock()
			defer mu.Unlock()
			f, ok := fleets[id]
			if !ok {
				return f, fault.New(fault.NotFound, "there is no such fleet")
			}
			return f, nil
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = tell.Run(ctx) })
		defer running.Wait()
		defer cancel()
		at := h.Latest()
		want := func(what string, lines ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			if h.Latest() > at {
				events, err := h.Since(ctx, at, 100)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range events {
					at = e.Sequence
					got = append(got, fmt.Sprint(e.Type, " o", e.Organization, " f", e.Fleet, " d", e.Device, " r", e.Release, " u", e.User, " ", string(e.Data)))
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(lines) {
				t.Errorf("%s is told as\n%q, want\n%q", what, got, lines)
			}
		}
		ada := fleet.Actor{Kind: fleet.UserActor, ID: 3, Name: "ada"}
		tell.wrote(resource.Write{Actor: ada, Verb: "change", Resource: "device", IDs: []int64{7}, Organization: 2, Fleets: map[int64][]int64{5: {7}}})
		want("a device", `resource.change o2 f5 d7 r0 u0 {"by":{"name":"ada","type":"user"},"ids":[7],"resource":"device"}`)
		tell.wrote(resource.Write{Actor: ada, Verb: "create", Resource: "device_tag", IDs: []int64{1, 2}, Organization: 2, Fleets: map[int64][]int64{6: nil, 5: {7, 8}}})
		want("tags of many",
			`resource.create o2 f5 d0 r0 u0 {"by":{"name":"ada","type":"user"},"ids":[1,2],"resource":"device_tag"}`,
			`resource.create o2 f6 d0 r0 u0 {"by":{"name":"ada","type":"user"},"ids":[1,2],"resource":"device_tag"}`)
		tell.wrote(resource.Write{Actor: ada, Verb: "delete", Resource: "team", IDs: []int64{4}, Organization: 2})
		want("a team", `resource.delete o2 f0 d0 r0 u3 {"by":{"name":"ada","type":"user"},"ids":[4],"resource":"team"}`)
		tell.wrote(resource.Write{Actor: fleet.Actor{Kind: fleet.DeviceActor, ID: 3}, Verb: "create", Resource: "api_key", IDs: []int64{4}})
		want("nobody's", `resource.create o0 f0 d0 r0 u0 {"by":{"name":"","type":"device"},"ids":[4],"resource":"api_key"}`)

		release := fleet.Release{ID: 8, Fleet: 5, Commit: "abc", Status: fleet.Running, Revision: -1, Version: fleet.Version{Major: 1}, Created: time.UnixMilli(1795340637861)}
		tell.moved(release)
		want("a build that begins", `release.status o0 f5 d0 r8 u0 {"commit":"abc","is_final":false,"status":"running","version":"1.0.0-1795340637861"}`)
		release.Status, release.Revision = fleet.Success, 2
		tell.moved(release)
		want("a build that ends", `release.status o0 f5 d0 r8 u0 {"commit":"abc","is_final":true,"status":"success","version":"1.0.0+rev2"}`,
			`fleet.target o2 f5 d0 r8 u0 {"should_track_latest_release":true,"slug":"acme/porch"}`)
		tell.moved(release)
		want("the same again", `release.status o0 f5 d0 r8 u0 {"commit":"abc","is_final":true,"status":"success","version":"1.0.0+rev2"}`)
		mu.Lock()
		fleets[5] = fleet.Fleet{ID: 5, Organization: 2, Slug: "acme/porch"}
		mu.Unlock()
		tell.wrote(resource.Write{Actor: ada, Verb: "change", Resource: "application", IDs: []int64{5}, Organization: 2, Fleets: map[int64][]int64{5: nil, 99: nil}})
		want("a fleet that is to run nothing",
			`resource.change o2 f5 d0 r0 u0 {"by":{"name":"ada","type":"user"},"ids":[5],"resource":"application"}`,
			`resource.change o2 f99 d0 r0 u0 {"by":{"name":"ada","type":"user"},"ids":[5],"resource":"application"}`,
			`fleet.target o2 f5 d0 r0 u0 {"should_track_latest_release":false,"slug":"acme/porch"}`)
	})
}
