package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
	"github.com/dunlin/dunlin/internal/wire"
)

const (
	defaultHistory = 1000 // lines
	heartbeat      = 58 * time.Second
	writeTimeout   = 30 * time.Second // for one line to a reader who does not read
)

// logs answers with what a device wrote: the last lines, and with stream=1 the coming ones too (protocol §3.2).
func (a *API) logs(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	if actor.Kind != fleet.UserActor {
		if actor.Kind == fleet.Nobody {
			return unauthorized()
		}
		return fault.New(fault.Denied, "logs are for users to read")
	}
	uuid := r.PathValue("uuid")
	missing := fault.New(fault.NotFound, "there is no such device")
	if fleet.CheckDeviceUUID(uuid) != nil {
		return missing
	}
	var device struct{ UUID string }
	found, err := a.Model.Find(r.Context(), actor, "device(uuid='"+uuid+"')", "$select=uuid", &device)
	if err != nil {
		return err
	}
	if !found {
		return missing
	}
	q := r.URL.Query()
	stream := q.Get("stream") == "1" || q.Get("stream") == "true"
	count := defaultHistory
	if stream {
		count = 0
	}
	switch given := q.Get("count"); given {
	case "":
	case "all":
		count = -1
	default:
		if count, err = strconv.Atoi(given); err != nil || count < 0 {
			return fault.New(fault.Invalid, `count must be a number of lines or "all"`)
		}
	}
	since, err := start(q.Get("start"))
	if err != nil {
		return err
	}
	if stream {
		return a.follow(w, r, uuid, count, since)
	}
	lines, err := a.Logs.Tail(r.Context(), uuid, count, since)
	if err != nil {
		return err
	}
	if lines == nil {
		lines = []wire.LogLine{}
	}
	return show(w, lines)
}

// start is the time a log is wanted from: milliseconds since 1970 or ISO 8601; "" is the beginning.
func start(given string) (time.Time, error) {
	if given == "" {
		return time.Time{}, nil
	}
	if ms, err := strconv.ParseInt(given, 10, 64); err == nil {
		return time.UnixMilli(ms), nil
	}
	return odata.ParseTime(given)
}

// follow sends lines as they come, and an empty one now and then, so that both ends know the other is there; it ends
// then, too, if the reader's credentials or his sight of the device have ended. Once it has begun there is no error to
// answer with: the stream ends, and the reader comes again.
func (a *API) follow(w http.ResponseWriter, r *http.Request, uuid string, count int, since time.Time) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // a server's bound on requests is not meant for this one
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Accel-Buffering", "no")

	var mu sync.Mutex // guards w
	send := func(line []byte) error {
		mu.Lock()
		defer mu.Unlock()
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		defer func() { _ = rc.SetWriteDeadline(time.Time{}) }() // HTTP/2 ends a stream at its deadline, whatever it does then
		if _, err := w.Write(line); err != nil {
			return err
		}
		return rc.Flush()
	}
	if err := rc.Flush(); err != nil { // the reader hears at once that it is connected
		return err
	}
	every := cmp.Or(a.Heartbeat, heartbeat)
	var beating sync.WaitGroup
	beating.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if !a.stillSees(r, uuid) || send([]byte("\n")) != nil {
					cancel()
					return
				}
			}
		}
	})
	err := a.Logs.Follow(ctx, uuid, count, func(l wire.LogLine) error {
		if l.CreatedAt < since.UnixMilli() {
			return nil
		}
		line, err := json.Marshal(l)
		if err != nil {
			return err
		}
		return send(append(line, '\n'))
	})
	gone := ctx.Err() != nil
	cancel()
	beating.Wait()
	if !gone {
		a.log().Info("log stream ended", "device", uuid, "err", err)
	}
	return nil
}

// stillSees reports whether who sent a request some time ago could send it now. What cannot be found out ends nothing.
func (a *API) stillSees(r *http.Request, uuid string) bool {
	actor, err := a.Auth.Request(r)
	if fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Limited) {
		return false
	}
	var device struct{ UUID string }
	found := true
	if err == nil {
		found, err = a.Model.Find(r.Context(), actor, "device(uuid='"+uuid+"')", "$select=uuid", &device)
	}
	return found || err != nil
}
