package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/monitor"
)

// The pace of a stream: the signals flow four times a second, the rest twice if it differs, and the levels once, which
// is also the sign of life.
const (
	framesEvery  = 250 * time.Millisecond
	pictureEvery = 500 * time.Millisecond
	levelsEvery  = time.Second
	writeWithin  = 10 * time.Second
)

// file serves one embedded file. A browser keeps it and asks whether it is still the same.
func file(path, kind string) http.Handler {
	name := strings.TrimPrefix(path, "/")
	if name == "{$}" {
		name = "index.html"
	}
	content, err := static.ReadFile("static/" + name)
	if err != nil {
		panic("page: " + err.Error())
	}
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}

// status answers with everything as it stands.
func (s *site) status(w http.ResponseWriter, r *http.Request) {
	now := s.Snapshot()
	var all struct {
		head
		live
		Session bool         `json:"session"` // buttons may be pressed with what this request showed
		Buttons string       `json:"buttons"` // why there are none; empty: there are
		Zones   []zoneView   `json:"zones"`
		Groups  []groupView  `json:"groups"`
		Outputs []outputView `json:"outputs"`
		Brokers []brokerView `json:"brokers"`
		Events  []eventView  `json:"events"`
	}
	all.head, all.live = viewHead(now), viewLive(now)
	all.Session, all.Buttons = s.known(r), s.noButtons()
	all.Zones, all.Events = make([]zoneView, 0, len(now.Zones)), make([]eventView, 0, len(now.Events))
	for _, z := range now.Zones {
		v := viewZone(z)
		v.level = viewLevel(z)
		all.Zones = append(all.Zones, v)
	}
	for _, e := range now.Events {
		all.Events = append(all.Events, viewEvent(e))
	}
	all.Groups, all.Outputs, all.Brokers = viewGroups(now.Groups), viewOutputs(now.Outputs), viewBrokers(now.Brokers)
	reply(w, http.StatusOK, all)
}

// frames answers with the scans after a position: {"next": position, "frames": [[milliseconds, percent, …], …]}.
func (s *site) frames(w http.ResponseWriter, r *http.Request) {
	var after uint64
	if q := r.URL.Query().Get("after"); q != "" {
		n, err := strconv.ParseUint(q, 10, 64)
		if err != nil {
			fail(w, http.StatusBadRequest, "cannot read after: want a whole number, the \"next\" of an earlier answer")
			return
		}
		after = n
	}
	all, next := s.Frames(after)
	reply(w, http.StatusOK, struct {
		Next   uint64          `json:"next"`
		Frames json.RawMessage `json:"frames"`
	}{next, frames(nil, all)})
}

// picture is how things stand, shared by all streams.
func (s *site) picture() *picture {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Each stream asks at its own time; half a pace old is as good as new.
	if now := time.Now(); s.last == nil || now.Sub(s.last.at) >= pictureEvery/2 {
		s.last = draw(s.Snapshot(), now, s.last)
	}
	return s.last
}

// events is the stream: hello, one status with everything, then frames and deltas. Each status and delta has the number
// that follows that of the one before it; the id of frames is where a browser that comes again goes on.
func (s *site) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.viewers <- struct{}{}:
		defer func() { <-s.viewers }()
	default:
		w.Header().Set("Retry-After", "10")
		fail(w, http.StatusServiceUnavailable, fmt.Sprintf("cannot show the monitor once more: it is open %d times already; close one of them", cap(s.viewers)))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	// A proxy that collects what it passes on would break the stream.
	w.Header().Set("X-Accel-Buffering", "no")

	v := &viewer{control: http.NewResponseController(w), w: w, epoch: s.Snapshot().Started.UnixMilli()}
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = r.URL.Query().Get("last")
	}
	v.after = v.position(last)
	v.send("hello", "", encode(map[string]any{"epoch": v.epoch, "after": v.after, "session": s.known(r), "buttons": s.noButtons()}))
	v.picture(s.picture(), true)
	v.frames(s.Frames)
	v.run(r.Context(), s)
}

// viewer is one stream.
type viewer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	epoch   int64  // of the program: positions of an earlier one mean nothing
	after   uint64 // position of the last frame that was sent
	number  uint64 // of the last status or delta
	sent    *picture
	buf     []byte
	err     error // why it ended
}

// run goes on until the browser leaves, is too slow, or ctx ends.
func (v *viewer) run(ctx context.Context, s *site) {
	tick := time.NewTicker(framesEvery)
	defer tick.Stop()
	for n := 1; v.err == nil; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		v.frames(s.Frames)
		if n%int(pictureEvery/framesEvery) == 0 {
			v.picture(s.picture(), n%int(levelsEvery/framesEvery) == 0)
		}
	}
}

// position reads the id of frames: epoch-position. What is not one of this program's is the beginning.
func (v *viewer) position(id string) uint64 {
	epoch, after, ok := strings.Cut(id, "-")
	n, err := strconv.ParseUint(after, 10, 64)
	if !ok || err != nil || epoch != strconv.FormatInt(v.epoch, 10) {
		return 0
	}
	return n
}

// send writes one event. It waits for a slow browser, but not for long.
func (v *viewer) send(event, id string, data []byte) {
	if v.err != nil {
		return
	}
	b := append(append(v.buf[:0], "event: "...), event...)
	if id != "" {
		b = append(append(b, "\nid: "...), id...)
	}
	b = append(append(append(b, "\ndata: "...), data...), "\n\n"...)
	v.buf = b
	if v.err = v.control.SetWriteDeadline(time.Now().Add(writeWithin)); v.err != nil {
		return
	}
	if _, v.err = v.w.Write(b); v.err == nil {
		v.err = v.control.Flush()
	}
}

// frames sends what was scanned since the last time.
func (v *viewer) frames(get func(uint64) ([]monitor.Frame, uint64)) {
	all, next := get(v.after)
	if v.after = next; len(all) == 0 {
		return
	}
	v.send("frames", fmt.Sprintf("%d-%d", v.epoch, next), frames(nil, all))
}

// picture sends what differs from what was sent before; levels too, if it is their turn.
func (v *viewer) picture(now *picture, levels bool) {
	before := v.sent
	v.sent = now
	kind := "delta"
	if before == nil || !slices.EqualFunc(before.zones, now.zones, func(a, b part) bool { return a.id == b.id }) {
		kind, before, levels = "status", &picture{}, true
	}
	m := map[string]any{}
	whole := func(key string, a, b json.RawMessage) {
		if !bytes.Equal(a, b) {
			m[key] = b
		}
	}
	whole("head", before.head, now.head)
	whole("groups", before.groups, now.groups)
	whole("outputs", before.outputs, now.outputs)
	whole("brokers", before.brokers, now.brokers)
	var zones []json.RawMessage
	for i, z := range now.zones {
		if kind == "status" || !samePart(before.zones[i], z) {
			zones = append(zones, z.raw)
		}
	}
	if zones != nil || kind == "status" {
		m["zones"] = slices.Concat([]json.RawMessage{}, zones)
	}
	if fresh, all := news(before.events, now.events); len(fresh) > 0 || kind == "status" {
		m["events"], m["allEvents"] = fresh, all || kind == "status"
	}
	if len(m) == 0 && !levels {
		return
	}
	m["live"], m["levels"] = now.live, now.levels
	v.number++
	m["seq"] = v.number
	v.send(kind, "", encode(m))
}

// news are the events that came before the newest one known; all tells that none of those known are among them.
func news(before, now []part) (fresh []json.RawMessage, all bool) {
	fresh = []json.RawMessage{}
	for _, e := range now {
		if len(before) > 0 && samePart(before[0], e) {
			return fresh, false
		}
		fresh = append(fresh, e.raw)
	}
	return fresh, true
}

// reply writes v as JSON.
func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(encode(v), '\n'))
}

// fail writes why something cannot be done.
func fail(w http.ResponseWriter, status int, why string) {
	reply(w, status, map[string]string{"error": why})
}
