package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"time"
)

// The times of every connection.
const (
	firstPause = 250 * time.Millisecond // before the second attempt to connect
	longPause  = 30 * time.Second       // the longest between two
	stoodLong  = 10 * time.Second       // a connection that stood so long was a good one: pauses begin anew
	patience   = 10 * time.Second       // for an answer of the broker
	farewell   = time.Second            // at the end, for what is still to be sent
	syncEvery  = time.Second            // what waits longer is brought to the medium
	mostAcks   = 256                    // that wait to be sent
)

// pause is how long to wait after n failures in a row, 0 for the first attempt. Half of it is random, so that all
// devices of a site do not come back at the same moment.
func pause(n int) time.Duration {
	if n <= 0 {
		return 0
	}
	p := longPause
	if n < 8 {
		p = min(longPause, firstPause<<(n-1))
	}
	return p/2 + rand.N(p/2)
}

// standing is what Health tells of a connection.
type standing struct {
	name string
	log  *slog.Logger

	mu        sync.Mutex
	connected bool
	since     time.Time
	trouble   string
}

func (s *standing) up(now time.Time) {
	s.mu.Lock()
	s.connected, s.since, s.trouble = true, now, ""
	s.mu.Unlock()
	s.log.Info("connected to broker", "broker", s.name)
}

// down notes why there is no connection. The same reason again is not logged again.
func (s *standing) down(now time.Time, why string) {
	s.mu.Lock()
	news := s.connected || kindOf(s.trouble) != kindOf(why)
	if s.connected || s.since.IsZero() {
		s.since = now
	}
	s.connected, s.trouble = false, why
	s.mu.Unlock()
	if news {
		s.log.Warn("no connection to broker", "broker", s.name, "err", why)
	}
}

// kindOf is a text without its numbers: the port that a connection happened to come from makes no other trouble.
func kindOf(why string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, why)
}

// stopped notes the end of Run.
func (s *standing) stopped(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected, s.since, s.trouble = false, now, "stopped"
}

// complain notes what does not work although the connection stands; nothing: it works again.
func (s *standing) complain(why string) {
	s.mu.Lock()
	news := s.trouble != why
	s.trouble = why
	s.mu.Unlock()
	if news && why != "" {
		s.log.Warn("broker refuses", "broker", s.name, "err", why)
	}
}

func (s *standing) health(o *Outbox) Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Health{Name: s.name, Connected: s.connected, Since: s.since, Trouble: s.trouble, Waiting: o.Waiting(), Dropped: o.Dropped()}
}

// living gives a context for what is sent over a connection: it ends with link, when ended is called, or a moment after
// ctx does, so that what is on its way at the end may arrive.
func living(ctx, link context.Context) (live context.Context, ended func()) {
	live, cut := context.WithCancel(link)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(farewell):
			cut()
		case <-live.Done():
		}
	})
	return live, func() { stop(); cut() }
}

// bell wakes whoever waits on it; several rings before that are one.
type bell chan struct{}

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// keep stores what is put into the outbox, until ctx ends and all is stored, and rings for each time. It runs apart
// from the sending, so that an event is on disk even while a broker takes its time.
func keep(ctx context.Context, o *Outbox, stored bell, log *slog.Logger) {
	store := func(f func() error) {
		if err := f(); err != nil {
			log.Warn("outbox", "err", err)
		}
	}
	due := time.NewTimer(0)
	defer due.Stop()
	armed := true
	for {
		select {
		case <-ctx.Done():
			store(o.Store)
			store(o.Sync)
			return
		case <-o.Added():
			store(o.Store)
			stored.ring()
			if !armed {
				due.Reset(syncEvery)
				armed = true
			}
		case <-due.C:
			armed = false
			store(o.Sync)
		}
	}
}

// answers are acknowledgements on their way to a broker; when there are too many the oldest go.
type answers[T any] struct {
	mu   sync.Mutex
	list []T
}

func (a *answers[T]) put(t T) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.list) >= mostAcks {
		a.list = append(a.list[:0], a.list[1:]...)
	}
	a.list = append(a.list, t)
}

// next takes the oldest.
func (a *answers[T]) next() (t T, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.list) == 0 {
		return t, false
	}
	t = a.list[0]
	a.list = a.list[1:]
	return t, true
}

// plain are the ids that topics and Home Assistant bear.
var plain = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// sayable makes an event one that JSON can say.
func sayable(e Event) Event {
	e.Time, e.Percent, e.Volts = utc(e.Time), finite(e.Percent), finite(e.Volts)
	if finite(&e.Seconds) == nil {
		e.Seconds = 0
	}
	return e
}

// utc is t in UTC, or no time if JSON cannot say it.
func utc(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// finite is v if JSON can say it.
func finite(v *float64) *float64 {
	if v == nil || math.IsNaN(*v) || math.IsInf(*v, 0) {
		return nil
	}
	return v
}

// encode makes JSON of what is ours and sayable, which cannot fail.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("bus: encode: " + err.Error())
	}
	return b
}

// seconds makes a duration of a number of seconds that somebody sent. What is longer than a duration can be is as long
// as one can be.
func seconds(s float64) (time.Duration, error) {
	switch {
	case math.IsNaN(s) || math.IsInf(s, 0):
		return 0, fmt.Errorf("%v is no number of seconds", s)
	case s < 0:
		return 0, fmt.Errorf("%v s is less than no time", s)
	case s >= math.MaxInt64/float64(time.Second):
		return math.MaxInt64, nil
	}
	return time.Duration(s * float64(time.Second)), nil
}

// moment is the time that a sender means by seconds since 1970; zero if it means none that can be written.
func moment(unix float64) time.Time {
	if !(unix > 0 && unix < 253402300799) { // the end of year 9999
		return time.Time{}
	}
	whole, part := math.Modf(unix)
	return time.Unix(int64(whole), int64(part*1e9)).UTC()
}
