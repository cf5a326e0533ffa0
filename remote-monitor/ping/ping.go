// Package ping owns telling others that the monitor lives: Healthchecks and Cronitor over HTTP, systemd over its socket,
// and the hardware watchdog. All are fed by the loop itself, so that they fall silent when it does. It does not own what
// healthy means.
package ping

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// How patient a Pinger is.
const (
	defaultEvery = 5 * time.Minute
	defaultFresh = 30 * time.Second
	unwell       = time.Minute      // unhealthy for less is not told: a broker that is away for a moment wakes nobody
	answerIn     = 10 * time.Second // one try
	retries      = 5
	endIn        = 10 * time.Second // the last word, all tries together
	longestBody  = 10_000
)

// Pinger tells Healthchecks, Cronitor or both. Its exported fields are set before Run and not changed afterwards; with
// neither URL nor Cronitor it does nothing.
type Pinger struct {
	URL      string        // of a check: https://hc-ping.com/<uuid>; empty: none
	Cronitor string        // a monitor's URL, <API key>/<monitor key>, or a monitor key; empty: none
	Every    time.Duration // between two signs of life; 0: 5 min
	Fresh    time.Duration // a beat is worth something for so long; 0: 30 s
	Host     string        // name of this device, for Cronitor
	Client   *http.Client  // nil: one of its own
	Log      *slog.Logger  // nil: nothing is logged

	mu    sync.Mutex
	beats int       // how many there were
	scan  time.Time // of the last beat
	at    time.Time // when it came, by this computer's steady clock
	well  bool
	since time.Time // of well
	body  string
	code  int
}

// Beat is called by the loop: now is the time of the scan it comes from, body says how things stand. A second beat of the
// same scan is none. It never waits.
func (p *Pinger) Beat(now time.Time, healthy bool, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.beats > 0 && now.Equal(p.scan) {
		return
	}
	// The loop's clock may be set at any time, so that how old a beat is is measured here.
	p.scan, p.at = now, time.Now()
	if p.beats == 0 || healthy != p.well {
		p.since = p.at
	}
	p.beats++
	p.well, p.body = healthy, body
}

// Ends says with which exit code the program is about to end; without it that is 0. It is called before the ctx of Run
// ends.
func (p *Pinger) Ends(code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code = code
}

// health is what the beats say at this moment.
type health int

const (
	silent health = iota // no beat, or none lately: nothing may be told
	well
	ailing // unhealthy, but not for long
	ill
)

func (p *Pinger) health() (health, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch now := time.Now(); {
	case p.beats == 0 || now.Sub(p.at) > or(p.Fresh, defaultFresh):
		return silent, ""
	case p.well:
		return well, p.body
	case now.Sub(p.since) < unwell:
		return ailing, p.body
	}
	return ill, p.body
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// signal is what is told.
type signal struct {
	kind string // start, ok, log, fail or exit
	code int    // of exit
	body string
	rid  string // of the run; empty: of none
}

// service is one that is told.
type service struct {
	name    string
	logs    bool // takes a line for its log that is neither good news nor bad: a trouble that has not lasted yet
	request func(context.Context, signal) (*http.Request, error)
}

// services are those that are configured.
func (p *Pinger) services() ([]service, error) {
	var all []service
	if p.URL != "" {
		base, err := parse("Healthchecks", p.URL)
		if err != nil {
			return nil, err
		}
		all = append(all, service{"healthchecks", true, func(ctx context.Context, s signal) (*http.Request, error) { return healthchecks(ctx, base, s) }})
	}
	if p.Cronitor != "" {
		at := p.Cronitor
		switch {
		case strings.Contains(at, "://"):
		case strings.Contains(at, "/"):
			at = "https://cronitor.link/p/" + at
		default:
			at = "https://cronitor.link/" + at
		}
		base, err := parse("Cronitor", at)
		if err != nil {
			return nil, err
		}
		all = append(all, service{"cronitor", false, func(ctx context.Context, s signal) (*http.Request, error) { return cronitor(ctx, base, p.Host, s) }})
	}
	return all, nil
}

// parse checks an address. It is a secret of a kind, so that no error repeats it.
func parse(who, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") == "" {
		return nil, fmt.Errorf("cannot ping %s: its address is not one; want https://host/path", who)
	}
	return u, nil
}

// healthchecks asks as https://healthchecks.io/docs/http_api/ has it.
func healthchecks(ctx context.Context, base *url.URL, s signal) (*http.Request, error) {
	u := *base
	switch s.kind {
	case "start", "fail", "log":
		u = *u.JoinPath(s.kind)
	case "exit":
		u = *u.JoinPath(strconv.Itoa(s.code))
	}
	if s.rid != "" {
		q := u.Query()
		q.Set("rid", s.rid)
		u.RawQuery = q.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(s.body[:min(len(s.body), longestBody)]))
	if err == nil {
		r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	return r, err
}

// cronitor asks as https://cronitor.io/docs/telemetry-api has it.
func cronitor(ctx context.Context, base *url.URL, host string, s signal) (*http.Request, error) {
	u := *base
	q := u.Query()
	state := map[string]string{"start": "run", "ok": "complete", "fail": "fail", "exit": "complete"}[s.kind]
	if s.kind == "exit" {
		if s.code != 0 {
			state = "fail"
		}
		q.Set("status_code", strconv.Itoa(s.code))
	}
	q.Set("state", state)
	if s.rid != "" {
		q.Set("series", s.rid)
	}
	if host != "" {
		q.Set("host", host)
	}
	if s.body != "" {
		q.Set("message", strings.ToValidUTF8(s.body[:min(len(s.body), 1000)], ""))
	}
	u.RawQuery = q.Encode()
	return http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
}

// Run says that the program starts, then, while beats come, that all is well or that it is not, and when ctx ends, how
// the program ends. It fails only when the addresses can never work.
func (p *Pinger) Run(ctx context.Context) error {
	all, err := p.services()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		<-ctx.Done()
		return nil
	}
	var wg sync.WaitGroup
	for _, s := range all {
		wg.Go(func() { p.tell(ctx, s) })
	}
	wg.Wait()
	return nil
}

// tell tells one service, whatever the others do.
func (p *Pinger) tell(ctx context.Context, s service) {
	every, rid := or(p.Every, defaultEvery), uuid()
	p.send(ctx, s, signal{kind: "start", rid: rid}, nil)

	look := time.NewTicker(min(time.Second, every))
	defer look.Stop()
	var last string // what was told last
	var told, logged time.Time
	first := rid
	for {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			end := signal{kind: "exit", code: p.code, body: p.body, rid: rid}
			p.mu.Unlock()
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), endIn)
			defer cancel()
			p.send(late, s, end, nil)
			return
		case <-look.C:
		}
		h, body := p.health()
		// What is being told has to be true until it is heard.
		still := func() bool {
			now, _ := p.health()
			return now == h
		}
		if h == ailing && s.logs && (logged.IsZero() || time.Since(logged) >= every) {
			logged = time.Now()
			p.send(ctx, s, signal{kind: "log", body: body}, still)
			continue
		}
		kind := map[health]string{well: "ok", ill: "fail"}[h]
		if kind == "" || kind == last && time.Since(told) < every {
			continue
		}
		// Tried counts as told, or a service that is away would be asked all the time.
		last, told = kind, time.Now()
		if p.send(ctx, s, signal{kind: kind, body: body, rid: first}, still) {
			first = "" // the run that began has been answered; what follows is no end of it
		}
	}
}

// send tries until it is heard, five times more at most, as long as it is still true.
func (p *Pinger) send(ctx context.Context, s service, what signal, still func() bool) bool {
	pause := time.Second
	for try := 0; ; try++ {
		err, again := p.once(ctx, s, what)
		if err == nil {
			return true
		}
		if !again || try == retries || ctx.Err() != nil {
			if p.Log != nil {
				p.Log.Warn("ping was not heard", "service", s.name, "ping", what.kind, "err", err)
			}
			return false
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return false
		case <-wait.C:
		}
		if still != nil && !still() {
			return false
		}
		pause *= 2
	}
}

// once asks once; again tells that another try may help.
func (p *Pinger) once(ctx context.Context, s service, what signal) (err error, again bool) {
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	r, err := s.request(ctx, what)
	if err != nil {
		return errors.New("its address cannot be used"), false
	}
	r.Header.Set("User-Agent", "remote-monitor")
	client := p.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(r)
	if err != nil {
		// The error repeats the address, which is nobody's business.
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return err, true
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // so that the connection can be used again
	resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil, false
	}
	again = resp.StatusCode >= 500 || resp.StatusCode == http.StatusRequestTimeout || resp.StatusCode == http.StatusTooManyRequests
	return fmt.Errorf("it answered %s", resp.Status), again
}

// uuid makes a random one, RFC 9562 version 4.
func uuid() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
