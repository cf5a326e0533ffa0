package sentry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// patience is a net under the tests: none waits for it unless something is broken.
const patience = 20 * time.Second

func TestADSNIsAnAddress(t *testing.T) {
	for in, want := range map[string]string{
		"https://abc123@o1.ingest.sentry.io/42":      "https://o1.ingest.sentry.io/api/42/envelope/ abc123",
		"https://abc123:old@sentry.example:9000/p/7": "https://sentry.example:9000/p/api/7/envelope/ abc123",
		"http://k@127.0.0.1:1/a/b/3/":                "http://127.0.0.1:1/a/b/api/3/envelope/ k",
	} {
		url, auth, err := parse(in)
		address, key, _ := strings.Cut(want, " ")
		if err != nil || url != address || auth != "Sentry sentry_version=7, sentry_client=remote-monitor/1, sentry_key="+key {
			t.Errorf("%s is %s %s, %v", in, url, auth, err)
		}
	}
	for _, in := range []string{"secret", "https://sentry.io/secret", "https://secret@sentry.io", "https://secret@sentry.io/", "ftp://secret@a/1", "https://secret@/1", "https://@a/1", "https://secret@a/1?x", "https://a,b%0d@a/1", "https://secret@a/%0a", ":secret"} {
		if _, err := New(Settings{DSN: in}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s gives %v", in, err)
		}
	}
}

func FuzzDSN(f *testing.F) {
	f.Add("https://abc123@o1.ingest.sentry.io/42")
	f.Add("https://a:b@[::1]:80/x/../1")
	f.Fuzz(func(t *testing.T, dsn string) {
		address, auth, err := parse(dsn)
		if err != nil {
			return
		}
		if strings.ContainsAny(auth, "\r\n") {
			t.Fatalf("%q would write headers: %q", dsn, auth)
		}
		if _, err := http.NewRequest("POST", address, nil); err != nil {
			t.Fatalf("%q became %q: %v", dsn, address, err)
		}
	})
}

// envelope is what a server reads.
type envelope struct {
	auth, kind string
	event      map[string]any
}

func read(t *testing.T, r *http.Request) envelope {
	b, _ := io.ReadAll(r.Body)
	lines := bytes.SplitN(b, []byte("\n"), 3)
	var head struct {
		EventID string `json:"event_id"`
	}
	var item struct {
		Type   string
		Length int
	}
	e := envelope{auth: r.Header.Get("X-Sentry-Auth")}
	if len(lines) != 3 || json.Unmarshal(lines[0], &head) != nil || json.Unmarshal(lines[1], &item) != nil || item.Length > len(lines[2]) {
		t.Errorf("no envelope: %q", b)
		return e
	}
	if err := json.Unmarshal(lines[2][:item.Length], &e.event); err != nil || string(lines[2][item.Length:]) != "\n" {
		t.Errorf("no event: %v in %q", err, lines[2])
	}
	if e.kind = item.Type; e.event["event_id"] != head.EventID || len(head.EventID) != 32 {
		t.Errorf("the ids are %v and %v", head.EventID, e.event["event_id"])
	}
	return e
}

// server is a Sentry that takes everything.
func server(t *testing.T) (dsn string, got chan envelope) {
	t.Helper()
	got = make(chan envelope, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" || r.URL.Path != "/sub/api/42/envelope/" {
			t.Errorf("asked %s %s", r.Method, r.URL)
		}
		got <- read(t, r)
	}))
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "http://", "http://key@", 1) + "/sub/42", got
}

func TestARedirectDoesNotCarryTheKeyElsewhere(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	asked := make(chan struct{}, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		asked <- struct{}{}
	}))
	defer s.Close()
	c, stop := run(t, Settings{DSN: strings.Replace(s.URL, "http://", "http://key@", 1) + "/42"})
	c.Capture("x", nil, nil)
	c.Flush(patience)
	stop()
	if n := elsewhere.Load(); n > 0 || len(asked) != 1 {
		t.Errorf("it was asked %d times, and somebody else %d times", len(asked), n)
	}
}

// run runs a client for the length of a test.
func run(t *testing.T, s Settings) (c *Client, stop func()) {
	t.Helper()
	c, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once atomic.Bool
	stop = func() {
		if once.CompareAndSwap(false, true) {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return c, stop
}

func one(t *testing.T, got chan envelope) map[string]any {
	t.Helper()
	select {
	case e := <-got:
		if e.kind != "event" || !strings.HasSuffix(e.auth, "sentry_key=key") {
			t.Errorf("the envelope is %q by %q", e.kind, e.auth)
		}
		return e.event
	case <-time.After(patience):
		t.Fatal("nothing was sent")
	}
	return nil
}

// at looks into an event.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p < 0 {
				p += len(l)
			}
			if p < 0 || p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func TestAnErrorArrivesWithWhatBelongsToIt(t *testing.T) {
	dsn, got := server(t)
	c, _ := run(t, Settings{DSN: dsn, Release: "1.0.0", Device: "gate"})
	log := slog.New(c.Handler()).With("bus", "i2c-1").WithGroup("at")
	log.Warn("the bus is slow") // no error
	log.Error("the bus is gone", "chip", "adc1", "err", fmt.Errorf("open: %w", io.ErrUnexpectedEOF))
	e := one(t, got)
	for _, x := range []struct {
		want any
		path []any
	}{
		{"error", []any{"level"}}, {"go", []any{"platform"}}, {"1.0.0", []any{"release"}}, {"gate", []any{"server_name"}}, {"i2c-1", []any{"tags", "bus"}},
		{"the bus is gone", []any{"logentry", "formatted"}}, {"*fmt.wrapError", []any{"exception", "values", 0, "type"}}, {"open: unexpected EOF", []any{"exception", "values", 0, "value"}},
		{"adc1", []any{"tags", "at.chip"}},
	} {
		if got := at(e, x.path...); got != x.want {
			t.Errorf("%v is %v, want %v", x.path, got, x.want)
		}
	}
	c.Capture(strings.Repeat("é\xff", 9000), map[string]string{strings.Repeat("k", 99): strings.Repeat("v", 999)}, nil)
	e = one(t, got)
	if s, _ := at(e, "logentry", "formatted").(string); len(s) > longText || len(s) < longText/2 {
		t.Errorf("a long text has %d bytes", len(s))
	}
	if got := at(e, "tags", strings.Repeat("k", 32)); got != strings.Repeat("v", longTag) {
		t.Errorf("a long tag is %v", got)
	}
}

type brokenPromise struct{ what string }

func (b brokenPromise) Error() string { return b.what }

func promise() { panic(brokenPromise{"an output that is not there"}) }

func TestAPanicThatSomebodyElseRecoveredArrivesToo(t *testing.T) {
	dsn, got := server(t)
	c, _ := run(t, Settings{DSN: dsn})
	func() {
		defer func() { c.Panicked(recover(), debug.Stack()) }()
		promise()
	}()
	if len(got) != 1 {
		t.Fatal("nothing has arrived")
	}
	e := one(t, got)
	if e["level"] != "fatal" || at(e, "exception", "values", 0, "value") != "an output that is not there" || !strings.Contains(fmt.Sprint(at(e, "extra", "stack")), "sentry.promise") ||
		at(e, "exception", "values", 0, "type") != "sentry.brokenPromise" || at(e, "exception", "values", 0, "mechanism", "handled") != false {
		t.Errorf("the event is %v", e)
	}
}

func TestWithoutADSNNothingHappens(t *testing.T) {
	c, _ := run(t, Settings{})
	for _, c := range []*Client{c, nil} {
		c.Capture("x", nil, nil)
		c.Panicked("x", nil)
		c.Flush(time.Hour)
	}
}

// roundTrip answers without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestAServerThatIsAwayHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		tries := 0
		c, stop := run(t, Settings{DSN: "https://secret@a/1", Log: slog.New(slog.NewTextHandler(&log, nil)), Client: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			tries++
			return nil, errors.New("no route")
		})}})
		start := time.Now()
		for range 3 * queued {
			c.Capture("x", nil, nil)
		}
		if time.Since(start) != 0 {
			t.Errorf("it took %s", time.Since(start))
		}
		c.Flush(time.Second)
		if got := time.Since(start); got != time.Second {
			t.Errorf("a flush of a second took %s", got)
		}
		time.Sleep(time.Minute)
		stopping := time.Now()
		stop()
		if got := time.Since(stopping); got > flushIn {
			t.Errorf("the end took %s", got)
		}
		if s := log.String(); !strings.Contains(s, "too many wait") || !strings.Contains(s, "no route") || strings.Contains(s, "secret") || strings.Contains(s, "https:") {
			t.Errorf("the log says %s", s)
		}
		if tries < retries+1 {
			t.Errorf("it was tried %d times", tries)
		}
	})
}

func TestAServerThatHasHadEnoughIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c, _ := run(t, Settings{DSN: "https://k@a/1", Client: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			asked++
			return &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"30"}}, Body: http.NoBody}, nil
		})}})
		ask := func() { c.Capture("x", nil, nil); synctest.Wait() }
		ask()
		ask()
		time.Sleep(29 * time.Second)
		ask()
		if asked != 1 {
			t.Errorf("within half a minute it was asked %d times", asked)
		}
		time.Sleep(2 * time.Second)
		ask()
		if asked != 2 {
			t.Errorf("after it, %d times", asked)
		}
	})
}

func TestWhatIsLeftAtTheEndIsSent(t *testing.T) {
	dsn, got := server(t)
	c, err := New(Settings{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c.Capture("x", nil, nil)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Run(ctx); err != nil {
		t.Error(err)
	}
	if len(got) != 3 {
		t.Errorf("%d arrived", len(got))
	}
}
