package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/odata"
)

const (
	eventsBeat  = 25 * time.Second // between two signs of life
	eventsBatch = 500              // events that are looked through at a time
	eventsSight = 3 * time.Second  // how long what a reader may see is believed
	eventsRetry = 3 * time.Second  // after which a reader whose stream broke comes back
)

// Events tells what happens; hub.Hub does.
type Events interface {
	// Latest is the sequence of the newest event.
	Latest() int64
	// Since waits for events after that sequence, at most max; hub.ErrGap if some of them are gone.
	Since(ctx context.Context, after int64, max int) ([]hub.Event, error)
}

// told is an event as it travels.
type told struct {
	Type         string          `json:"type"`
	Time         time.Time       `json:"time,omitzero"`
	Organization int64           `json:"organization,omitempty"`
	Fleet        int64           `json:"fleet,omitempty"`
	Device       int64           `json:"device,omitempty"`
	Release      int64           `json:"release,omitempty"`
	Data         json.RawMessage `json:"data,omitempty"`
}

// events streams what happens to what the user may look at (docs/api.md), until the reader leaves or his credentials
// end. A reader that is too slow, or was away too long, is told to look at everything anew.
func (a *API) events(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
	if actor.Kind != fleet.UserActor {
		return unauthorized()
	}
	wanted, err := wantedEvents(r)
	if err != nil {
		return err
	}
	if a.Events == nil {
		return fault.New(fault.Unavailable, "this server tells of no events")
	}
	after, came := a.Events.Latest(), r.Header.Get("Last-Event-ID")
	if came == "" {
		came = r.URL.Query().Get("lastEventId")
	}
	s := &eventStream{w: w, control: http.NewResponseController(w)}
	_ = s.control.SetReadDeadline(time.Time{}) // a server's bound on requests is not meant for this one
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	fmt.Fprintf(&s.pending, "retry: %d\n\n", eventsRetry.Milliseconds())
	if came == "" {
		s.add(after, told{Type: "start"})
	} else if last, err := strconv.ParseInt(came, 10, 64); err == nil {
		after = last
	} else {
		s.add(after, told{Type: "reset"})
	}
	sight := &sight{api: a, request: r, actor: actor}
	every := cmp.Or(a.Heartbeat, eventsBeat)
	for {
		if s.flush() != nil {
			return nil // the reader has gone, and comes back with what he had
		}
		waiting, cancel := context.WithTimeout(r.Context(), every)
		found, err := a.Events.Since(waiting, after, eventsBatch)
		cancel()
		switch {
		case r.Context().Err() != nil:
			return nil
		case errors.Is(err, hub.ErrGap):
			after = a.Events.Latest()
			s.add(after, told{Type: "reset"})
		case err != nil: // nothing happened for a while
			if !sight.refresh(true) {
				return nil
			}
			fmt.Fprintf(&s.pending, ": alive\nid: %d\n\n", after)
		}
		for _, e := range found {
			after = e.Sequence
			if !wanted.has(e) {
				continue
			}
			if !sight.refresh(false) {
				return nil
			}
			if sight.sees(e) {
				s.add(e.Sequence, told{e.Type, e.Time.UTC(), e.Organization, e.Fleet, e.Device, e.Release, e.Data})
			}
		}
	}
}

// eventStream writes events in the form of server-sent events.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	pending bytes.Buffer
}

func (s *eventStream) add(sequence int64, e told) {
	data, err := json.Marshal(e)
	if err != nil {
		return // its data is not JSON; the next one's is
	}
	fmt.Fprintf(&s.pending, "id: %d\ndata: %s\n\n", sequence, data)
}

func (s *eventStream) flush() error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := s.w.Write(s.pending.Bytes())
	s.pending.Reset()
	err = errors.Join(err, s.control.Flush())
	_ = s.control.SetWriteDeadline(time.Time{}) // HTTP/2 ends a stream at its deadline, whether it is being written or not
	return err
}

// sight is what a reader may see now.
type sight struct {
	api                   *API
	request               *http.Request // of the one stream
	actor                 fleet.Actor
	fleets, organizations map[int64]bool
	looked                time.Time
}

// refresh looks again what the reader may see, if that is long ago or must be. It is false once his credentials are
// good no more.
func (v *sight) refresh(must bool) bool {
	if !must && time.Since(v.looked) < cmp.Or(v.api.Sight, eventsSight) {
		return true
	}
	now, err := v.api.Auth.Request(v.request)
	if err != nil || now.Kind != fleet.UserActor || now.ID != v.actor.ID {
		return false
	}
	ctx := v.request.Context()
	if v.fleets, err = v.ids(ctx, "application", "$select=id&$filter=is_directly_accessible_by__user/any(u:1 eq 1)"); err == nil {
		v.organizations, err = v.ids(ctx, "organization", "$select=id")
	}
	if err != nil {
		if ctx.Err() == nil {
			v.api.log().Warn("event stream ended", "user", v.actor.Name, "err", err)
		}
		return false
	}
	v.looked = time.Now()
	return true
}

// ids are the ids of the rows of a resource that the reader may see.
func (v *sight) ids(ctx context.Context, resource, options string) (map[int64]bool, error) {
	q, err := odata.Parse(resource, options)
	if err != nil {
		return nil, err
	}
	body, err := v.api.Model.Read(ctx, v.actor, q)
	if err != nil {
		return nil, err
	}
	var rows struct {
		D []struct{ ID int64 } `json:"d"`
	}
	if err := json.Unmarshal(body, &rows); err != nil {
		return nil, fmt.Errorf("read %s: %w", resource, err)
	}
	all := make(map[int64]bool, len(rows.D))
	for _, row := range rows.D {
		all[row.ID] = true
	}
	return all, nil
}

func (v *sight) sees(e hub.Event) bool {
	switch {
	case e.Fleet != 0:
		return v.fleets[e.Fleet]
	case e.Organization != 0:
		return v.organizations[e.Organization]
	}
	return e.User != 0 && e.User == v.actor.ID
}

// choice is which events a reader wants; an empty part of it chooses nothing away.
type choice struct {
	fleets, devices map[int64]bool
	types           []string
}

func wantedEvents(r *http.Request) (c choice, err error) {
	q := r.URL.Query()
	for name, into := range map[string]*map[int64]bool{"fleet": &c.fleets, "device": &c.devices} {
		for _, list := range q[name] {
			for text := range strings.SplitSeq(list, ",") {
				id, err := strconv.ParseInt(text, 10, 64)
				if err != nil {
					return c, fault.Newf(fault.Invalid, "%s must be ids with commas between", name)
				}
				if *into == nil {
					*into = map[int64]bool{}
				}
				(*into)[id] = true
			}
		}
	}
	for _, list := range q["types"] {
		for t := range strings.SplitSeq(list, ",") {
			if t = strings.TrimSpace(t); t != "" {
				c.types = append(c.types, t)
			}
		}
	}
	return c, nil
}

// has reports whether the reader wants an event. A type also stands for all that begin with it and a dot.
func (c choice) has(e hub.Event) bool {
	if c.fleets != nil && !c.fleets[e.Fleet] || c.devices != nil && !c.devices[e.Device] {
		return false
	}
	for _, t := range c.types {
		if e.Type == t || strings.HasPrefix(e.Type, t+".") {
			return true
		}
	}
	return len(c.types) == 0
}
