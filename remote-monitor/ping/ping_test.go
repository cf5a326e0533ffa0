package ping

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// patience is a net under the tests: none waits for it unless something is broken.
const patience = 20 * time.Second

// far is the other end: what it was asked and when, and what it answers.
type far struct {
	mu     sync.Mutex
	start  time.Time
	asked  []string
	answer func(n int, r *http.Request) (int, error) // of the n-th request; nil: 200
}

var anyID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)

// RoundTrip answers without a network, so that time in a test is its own.
func (f *far) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
	}
	f.mu.Lock()
	f.asked = append(f.asked, strings.TrimSpace(fmt.Sprintf("%s %s%s %s", time.Since(f.start).Round(time.Second), r.URL.Host, anyID.ReplaceAllString(r.URL.RequestURI(), "ID"), body)))
	n := len(f.asked)
	f.mu.Unlock()
	status := 200
	if f.answer != nil {
		var err error
		if status, err = f.answer(n, r); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: http.NoBody, Request: r}, nil
}

func (f *far) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.asked
	f.asked = nil
	return all
}

// live runs a Pinger in a bubble, with beats as a test wants them.
func live(t *testing.T, p *Pinger, answer func(int, *http.Request) (int, error), test func(f *far, beat func(time.Duration, bool, string), stop func())) {
	synctest.Test(t, func(t *testing.T) {
		f := &far{start: time.Now(), answer: answer}
		p.Client = &http.Client{Transport: f}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		ended := false
		stop := func() {
			if !ended {
				ended = true
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		defer stop()
		// Beats and looks never come at the same moment: which is first would be chance.
		time.Sleep(100 * time.Millisecond)
		test(f, func(d time.Duration, healthy bool, body string) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
				p.Beat(time.Now(), healthy, body)
			}
		}, stop)
	})
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}

func TestALifeIsToldFromStartToEnd(t *testing.T) {
	p := &Pinger{URL: "https://hc.example/uuid"}
	live(t, p, nil, func(f *far, beat func(time.Duration, bool, string), stop func()) {
		beat(11*time.Minute, true, "16 zones")
		p.Ends(3)
		stop()
		same(t, f.told(),
			"0s hc.example/uuid/start?rid=ID",
			"1s hc.example/uuid?rid=ID 16 zones",
			"5m1s hc.example/uuid 16 zones",
			"10m1s hc.example/uuid 16 zones",
			"11m0s hc.example/uuid/3?rid=ID 16 zones",
		)
	})
}

func TestADeadLoopIsSilent(t *testing.T) {
	p := &Pinger{URL: "https://hc.example/uuid"}
	live(t, p, nil, func(f *far, beat func(time.Duration, bool, string), stop func()) {
		beat(30*time.Second, true, "")
		same(t, f.told(), "0s hc.example/uuid/start?rid=ID", "1s hc.example/uuid?rid=ID")
		time.Sleep(time.Hour)
		same(t, f.told())
		// One that scans nothing new is as dead.
		now := time.Now()
		for range 600 {
			p.Beat(now, true, "")
			time.Sleep(time.Second)
		}
		if got := f.told(); len(got) > 1 {
			t.Errorf("of a scan that was told for ten minutes: %q", got)
		}
		beat(5*time.Second, true, "back")
		if got := f.told(); len(got) != 1 || !strings.HasSuffix(got[0], "uuid back") {
			t.Errorf("when it lives again: %q", got)
		}
	})
}

func TestBeforeTheFirstBeatNothingIsWell(t *testing.T) {
	live(t, &Pinger{URL: "https://hc.example/uuid"}, nil, func(f *far, _ func(time.Duration, bool, string), stop func()) {
		time.Sleep(time.Hour)
		stop()
		same(t, f.told(), "0s hc.example/uuid/start?rid=ID", "1h0m0s hc.example/uuid/0?rid=ID")
	})
}

func TestTroubleIsToldWhenItLastsAndItsEndAtOnce(t *testing.T) {
	live(t, &Pinger{URL: "https://hc.example/uuid"}, nil, func(f *far, beat func(time.Duration, bool, string), _ func()) {
		beat(10*time.Second, true, "")
		f.told()
		beat(20*time.Second, false, "the broker is away") // a moment, which is for the log alone
		beat(5*time.Second, true, "")
		beat(2*time.Second, false, "the broker is away")
		beat(3*time.Second, true, "")
		same(t, f.told(), "11s hc.example/uuid/log the broker is away")
		beat(7*time.Minute, false, "Attic is not known") // from 40 s
		beat(5*time.Second, true, "all well")
		same(t, f.told(), "1m41s hc.example/uuid/fail Attic is not known", "6m41s hc.example/uuid/fail Attic is not known", "7m41s hc.example/uuid all well")
	})
}

func TestATryThatFailsIsRepeatedFiveTimes(t *testing.T) {
	var log bytes.Buffer
	p := &Pinger{URL: "https://hc.example/secret-uuid", Log: slog.New(slog.NewTextHandler(&log, nil))}
	live(t, p, func(n int, r *http.Request) (int, error) {
		switch {
		case n <= 6:
			return 503, nil // the start
		case n == 7:
			<-r.Context().Done() // it hangs
			return 0, r.Context().Err()
		}
		return 200, nil
	}, func(f *far, beat func(time.Duration, bool, string), _ func()) {
		beat(time.Minute, true, "")
		same(t, f.told(),
			"0s hc.example/secret-uuid/start?rid=ID", "1s hc.example/secret-uuid/start?rid=ID", "3s hc.example/secret-uuid/start?rid=ID",
			"7s hc.example/secret-uuid/start?rid=ID", "15s hc.example/secret-uuid/start?rid=ID", "31s hc.example/secret-uuid/start?rid=ID",
			"32s hc.example/secret-uuid?rid=ID", "43s hc.example/secret-uuid?rid=ID", // 10 s and a pause of 1 s later
		)
	})
	if s := log.String(); !strings.Contains(s, "ping was not heard") || !strings.Contains(s, "it answered 503") || strings.Contains(s, "secret") {
		t.Errorf("the log says %s", s)
	}
}

func TestNoLogRepeatsTheAddress(t *testing.T) {
	var log bytes.Buffer
	p := &Pinger{URL: "https://hc.example/secret-uuid", Log: slog.New(slog.NewTextHandler(&log, nil))}
	live(t, p, func(int, *http.Request) (int, error) { return 0, io.ErrUnexpectedEOF }, func(_ *far, beat func(time.Duration, bool, string), _ func()) {
		beat(time.Minute, true, "")
		if s := log.String(); !strings.Contains(s, "unexpected EOF") || strings.Contains(s, "secret") {
			t.Errorf("the log says %s", s)
		}
	})
}

func TestWhatIsNoLongerTrueIsNotRepeated(t *testing.T) {
	live(t, &Pinger{URL: "https://hc.example/uuid"}, func(n int, _ *http.Request) (int, error) {
		if n > 1 {
			return 0, io.ErrUnexpectedEOF
		}
		return 200, nil
	}, func(f *far, beat func(time.Duration, bool, string), _ func()) {
		beat(2*time.Second, true, "")
		// The loop dies while the first sign of life is being repeated: at 1, 2, 4, 8, 16 s; it is stale from 32 s on.
		time.Sleep(10 * time.Minute)
		got := f.told()
		if len(got) != 6 || got[5] != "16s hc.example/uuid?rid=ID" {
			t.Errorf("told %q", got)
		}
	})
}

func TestAnAddressThatIsWrongIsNotRepeated(t *testing.T) {
	live(t, &Pinger{URL: "https://hc.example/uuid"}, func(int, *http.Request) (int, error) { return 404, nil }, func(f *far, beat func(time.Duration, bool, string), _ func()) {
		beat(4*time.Minute, true, "")
		same(t, f.told(), "0s hc.example/uuid/start?rid=ID", "1s hc.example/uuid?rid=ID")
	})
}

func TestCronitorIsToldTheSame(t *testing.T) {
	for given, base := range map[string]string{
		"gate": "cronitor.link/gate", "key/gate": "cronitor.link/p/key/gate", "https://cronitor.example/p/key/gate?env=home": "cronitor.example/p/key/gate",
	} {
		env := ""
		if strings.Contains(given, "env") {
			env = "env=home&"
		}
		p := &Pinger{Cronitor: given, Host: "gate"}
		live(t, p, nil, func(f *far, beat func(time.Duration, bool, string), stop func()) {
			beat(2*time.Second, true, "16 zones")
			beat(62*time.Second, false, "no bus")
			p.Ends(1)
			stop()
			same(t, f.told(),
				"0s "+base+"?"+env+"host=gate&series=ID&state=run",
				"1s "+base+"?"+env+"host=gate&message=16+zones&series=ID&state=complete",
				"1m3s "+base+"?"+env+"host=gate&message=no+bus&state=fail",
				"1m4s "+base+"?"+env+"host=gate&message=no+bus&series=ID&state=fail&status_code=1",
			)
		})
	}
}

func TestOneServiceThatHangsDoesNotHoldUpTheOther(t *testing.T) {
	live(t, &Pinger{URL: "https://hc.example/uuid?create=1", Cronitor: "gate"}, func(_ int, r *http.Request) (int, error) {
		if r.URL.Host == "hc.example" {
			<-r.Context().Done()
			return 0, r.Context().Err()
		}
		return 200, nil
	}, func(f *far, beat func(time.Duration, bool, string), stop func()) {
		beat(5*time.Second, true, "")
		got := f.told()
		if !slices.Contains(got, "1s cronitor.link/gate?series=ID&state=complete") {
			t.Errorf("told %q", got)
		}
		if !slices.Contains(got, "0s hc.example/uuid/start?create=1&rid=ID") {
			t.Errorf("told %q", got)
		}
		began := time.Now()
		stop()
		if took := time.Since(began); took > endIn {
			t.Errorf("the end took %s", took)
		}
	})
}

func TestAddressesThatCannotWorkEndItAtOnce(t *testing.T) {
	for _, p := range []*Pinger{{URL: "hc-ping.com/secret"}, {URL: "ftp://a/secret"}, {URL: "https://a"}, {URL: "https:// /secret"}, {Cronitor: "https://secret"}} {
		if err := p.Run(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q ends with %v", p.URL+p.Cronitor, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := new(Pinger).Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestOverRealSockets(t *testing.T) {
	asked := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		asked <- r.Method + " " + r.URL.Path + " " + string(b)
	}))
	defer s.Close()
	p := &Pinger{URL: s.URL + "/uuid/", Every: 10 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	next := func() string {
		t.Helper()
		select {
		case s := <-asked:
			return s
		case <-time.After(patience):
			t.Fatal("nothing was asked")
		}
		return ""
	}
	if got := next(); got != "POST /uuid/start " {
		t.Errorf("first: %q", got)
	}
	p.Beat(time.Now(), true, strings.Repeat("x", 2*longestBody))
	for range 3 {
		if got := next(); got != "POST /uuid/ "+strings.Repeat("x", longestBody) {
			t.Errorf("then: %.40q", got)
		}
	}
	p.Ends(2)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	close(asked)
	last := ""
	for s := range asked {
		last = s
	}
	if !strings.HasPrefix(last, "POST /uuid/2 ") {
		t.Errorf("last: %.40q", last)
	}
}
