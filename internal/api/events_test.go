package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
)

// reader reads a stream of events.
type reader struct {
	t     *testing.T
	lines *bufio.Scanner
	stop  func()
	id    string // last that was read
	beats int
}

func (s *server) follow(token, query string, header ...string) *reader {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/events"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		s.t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	r := &reader{t: s.t, lines: bufio.NewScanner(resp.Body)}
	r.stop = func() { cancel(); resp.Body.Close() }
	s.t.Cleanup(r.stop)
	return r
}

// next is the next event; ok is false when the stream has ended. The test's own deadline is the bound.
func (r *reader) next() (e map[string]any, ok bool) {
	r.t.Helper()
	for r.lines.Scan() {
		line := r.lines.Text()
		if id, found := strings.CutPrefix(line, "id: "); found {
			r.id = id
		}
		if strings.HasPrefix(line, ":") {
			r.beats++
		}
		if data, found := strings.CutPrefix(line, "data: "); found {
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				r.t.Fatalf("%v in %q", err, line)
			}
			return e, true
		}
	}
	return nil, false
}

// want reads events of these types.
func (r *reader) want(types ...string) (last map[string]any) {
	r.t.Helper()
	for _, want := range types {
		e, ok := r.next()
		if !ok || e["type"] != want {
			r.t.Fatalf("the next event is %v (%v), want %s", e, ok, want)
		}
		last = e
	}
	return last
}

func TestEventsAreToldToWhoMayLook(t *testing.T) {
	s := newServer(t)
	mine := s.fleet("porch")
	other, stranger := s.newUser("globex")
	org := int64(s.one("/v7/organization(handle='acme')?$select=id")["id"].(float64))
	me, him := s.follow(s.token, ""), s.follow(stranger, "")
	me.want("start")
	him.want("start")
	publish := func(e hub.Event) { s.hub.Publish(e) }
	publish(hub.Event{Type: "mine", Fleet: mine, Device: 7, Release: 8, Data: json.RawMessage(`{"a":1}`)})
	publish(hub.Event{Type: "nobody's fleet", Fleet: mine + 1000})
	publish(hub.Event{Type: "my organization", Organization: org})
	publish(hub.Event{Type: "me", User: s.user.ID})
	publish(hub.Event{Type: "nobody"})
	publish(hub.Event{Type: "him", User: other.ID})
	publish(hub.Event{Type: "me again", User: s.user.ID})
	e := me.want("mine")
	at, err := time.Parse(time.RFC3339Nano, e["time"].(string))
	if err != nil || at.Location() != time.UTC || e["fleet"] != float64(mine) || e["device"] != 7.0 || e["release"] != 8.0 || fmt.Sprint(e["data"]) != "map[a:1]" {
		t.Errorf("it is %v: %v", e, err)
	}
	me.want("my organization", "me", "me again")
	him.want("him")
}

func TestWhoComesBackHasWhatHappenedMeanwhileOrIsToldToLookAnew(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	r := s.follow(s.token, "")
	r.want("start")
	s.hub.Publish(hub.Event{Type: "one", Fleet: id})
	r.want("one")
	r.stop()
	for i := range 3 {
		s.hub.Publish(hub.Event{Type: fmt.Sprint("away ", i), Fleet: id})
	}
	again := s.follow(s.token, "", "Last-Event-ID", r.id)
	again.want("away 0", "away 1", "away 2")
	s.follow(s.token, "?lastEventId="+r.id).want("away 0")
	for name, last := range map[string]string{"long ago": "1", "never": "99999999999999999", "no number": "x"} {
		lost := s.follow(s.token, "", "Last-Event-ID", last)
		lost.want("reset")
		s.hub.Publish(hub.Event{Type: name, Fleet: id})
		lost.want(name)
	}
	for range 17_000 { // more than are kept, while somebody reads
		s.hub.Publish(hub.Event{Type: "many", User: -1})
	}
	s.follow(s.token, "", "Last-Event-ID", again.id).want("reset")
}

func TestAReaderChoosesFleetsDevicesAndTypes(t *testing.T) {
	s := newServer(t)
	a, b := s.fleet("porch"), s.fleet("attic")
	for query, want := range map[string][]string{
		"":                                {"device.online", "device.state", "release.status", "device.online"},
		fmt.Sprintf("?fleet=%d", b):       {"device.online"},
		fmt.Sprintf("?fleet=%d,%d", a, b): {"device.online", "device.state", "release.status", "device.online"},
		fmt.Sprintf("?fleet=%d&fleet=%d&types=release", a, b): {"release.status"},
		"?device=1":                           {"device.online", "device.state"},
		"?types=device":                       {"device.online", "device.state", "device.online"},
		"?types=device.online,release.status": {"device.online", "release.status", "device.online"},
		"?types=devic":                        nil,
	} {
		r := s.follow(s.token, query)
		r.want("start")
		s.hub.Publish(hub.Event{Type: "device.online", Fleet: a, Device: 1})
		s.hub.Publish(hub.Event{Type: "device.state", Fleet: a, Device: 1})
		s.hub.Publish(hub.Event{Type: "release.status", Fleet: a, Release: 1})
		s.hub.Publish(hub.Event{Type: "device.online", Fleet: b, Device: 2})
		r.want(want...)
		beats := r.beats
		for len(want) == 0 && r.beats == beats { // nothing but signs of life
			if !r.lines.Scan() || strings.HasPrefix(r.lines.Text(), "data:") {
				t.Fatalf("%s: %q", query, r.lines.Text())
			}
			if strings.HasPrefix(r.lines.Text(), ":") {
				r.beats++
			}
		}
		r.stop()
	}
	s.want(400, s.token, "GET", "/events?fleet=porch", "")
	s.want(401, "", "GET", "/events", "")
	_, device := s.device(a, "")
	s.want(401, device, "GET", "/events", "")
}

func TestAReaderWhoMayLookNoMoreIsToldNoMore(t *testing.T) {
	s := newServer(t)
	s.api.Sight = time.Nanosecond
	id := s.fleet("porch")
	user, key := s.colleague("olga", "observer")
	r := s.follow(key, "")
	r.want("start")
	s.hub.Publish(hub.Event{Type: "one", Fleet: id})
	r.want("one")
	s.exec(`DELETE FROM organization_memberships WHERE user_id = $1`, user.ID)
	s.hub.Publish(hub.Event{Type: "two", Fleet: id})
	s.hub.Publish(hub.Event{Type: "his own", User: user.ID})
	r.want("his own")
	actor, err := s.auth.Token(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	s.exec(`DELETE FROM api_keys WHERE id = $1`, actor.Key)
	if e, ok := r.next(); ok {
		t.Errorf("without a key: %v", e)
	}
	key, err = s.auth.NewKey(t.Context(), auth.KeySpec{Actor: s.user.Actor, Role: fleet.RoleUser})
	if err != nil {
		t.Fatal(err)
	}
	if r := s.follow(key, ""); r.want("start") == nil {
		t.Error("the others are not told either")
	}
}
