// Package sentry owns telling a Sentry server of errors and panics: the address, the envelope and a small queue. It does
// not own what is worth telling, and knows nothing of tracing but to pass a trace on.
package sentry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The bounds of what is sent, and how patiently.
const (
	queued   = 30
	sendIn   = 10 * time.Second
	retries  = 3
	flushIn  = 2 * time.Second
	longText = 8192
	longTag  = 200 // as Sentry has it
)

// The levels that are sent.
const (
	fatal = "fatal"
	bad   = "error"
)

// Settings say where to and from whom.
type Settings struct {
	DSN     string // https://<key>@<host>/<project>; empty: nothing is sent
	Release string // version of this program
	Device  string
	Client  *http.Client // nil: one of its own
	Log     *slog.Logger // nil: nothing is logged
}

// Client tells a Sentry server. A nil Client, and one without a DSN, does nothing. Its methods may be called from several
// goroutines, and none but Run, Panicked and Flush ever waits.
type Client struct {
	Settings
	url, auth string
	queue     chan []byte

	mu      sync.Mutex
	pending int           // taken by Capture and not yet sent or given up
	idle    chan struct{} // closed when pending becomes 0; nil: nobody waits
	quiet   time.Time     // the server wants nothing until then
}

// New checks the settings. Events are kept until Run runs.
func New(s Settings) (*Client, error) {
	c := &Client{Settings: s, queue: make(chan []byte, queued)}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Client == nil {
		// A redirect would carry the key elsewhere.
		c.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if s.DSN == "" {
		return c, nil
	}
	var err error
	if c.url, c.auth, err = parse(s.DSN); err != nil {
		return nil, err
	}
	return c, nil
}

// parse makes of a DSN the address of envelopes and what is shown there. The key in a DSN is a secret of a kind, so that
// no error repeats it.
func parse(dsn string) (address, auth string, err error) {
	u, err := url.Parse(dsn)
	bad := errors.New("cannot use the Sentry DSN: want https://<key>@<host>/<project>; copy it from the project's settings")
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User == nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", bad
	}
	path := strings.TrimSuffix(u.Path, "/")
	cut := strings.LastIndexByte(path, '/')
	if cut < 0 || path[cut+1:] == "" || !printable(u.User.Username()) || !printable(path) {
		return "", "", bad
	}
	to := url.URL{Scheme: u.Scheme, Host: u.Host, Path: path[:cut] + "/api/" + path[cut+1:] + "/envelope/"}
	return to.String(), "Sentry sentry_version=7, sentry_client=remote-monitor/1, sentry_key=" + u.User.Username(), nil
}

// printable tells whether s may stand in a header.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == ',' {
			return false
		}
	}
	return s != ""
}

// event is what Sentry calls one; https://develop.sentry.dev/sdk/data-model/event-payloads/ says what it has.
type event struct {
	ID        string            `json:"event_id"`
	Timestamp string            `json:"timestamp"`
	Platform  string            `json:"platform"`
	Level     string            `json:"level"`
	Server    string            `json:"server_name,omitempty"`
	Release   string            `json:"release,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
	Message   *message          `json:"logentry,omitempty"`
	Exception *exceptions       `json:"exception,omitempty"`
	Extra     map[string]string `json:"extra,omitempty"`
	Contexts  map[string]any    `json:"contexts"`
}

type message struct {
	Formatted string `json:"formatted"`
}

type exceptions struct {
	Values []exception `json:"values"`
}

type exception struct {
	Type      string     `json:"type"`
	Value     string     `json:"value"`
	Mechanism *mechanism `json:"mechanism,omitempty"`
}

type mechanism struct {
	Type    string `json:"type"`
	Handled bool   `json:"handled"`
}

// Capture queues an error; what there is no room for is dropped. Tags are short words to search by; err may be nil.
func (c *Client) Capture(text string, tags map[string]string, err error) {
	if c == nil || c.url == "" {
		return
	}
	e := c.event(bad, text, tags)
	if err != nil {
		e.Exception = &exceptions{[]exception{{Type: fmt.Sprintf("%T", err), Value: short(err.Error(), longText)}}}
	}
	c.put(e)
}

// Panicked tells of a panic that somebody else has recovered, with the text of its stack as runtime/debug has it, and
// waits two seconds at most until it is sent.
func (c *Client) Panicked(value any, stack []byte) {
	if c == nil || c.url == "" {
		return
	}
	e := c.event(fatal, "", nil)
	name := "panic"
	if err, ok := value.(error); ok {
		name = fmt.Sprintf("%T", err)
	}
	e.Exception = &exceptions{[]exception{{Type: name, Value: short(fmt.Sprint(value), longText), Mechanism: &mechanism{"panic", false}}}}
	if len(stack) > 0 {
		e.Extra = map[string]string{"stack": short(string(stack), 2*longText)}
	}
	c.put(e)
	c.Flush(flushIn)
}

func (c *Client) event(level, text string, tags map[string]string) event {
	id := make([]byte, 16)
	rand.Read(id)
	e := event{
		ID: hex.EncodeToString(id), Timestamp: time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), Platform: "go", Level: level,
		Server: c.Device, Release: c.Release,
		Contexts: map[string]any{
			"runtime": map[string]string{"name": "go", "version": runtime.Version()},
			"os":      map[string]string{"name": runtime.GOOS},
			"device":  map[string]string{"arch": runtime.GOARCH},
		},
	}
	if text != "" {
		e.Message = &message{short(text, longText)}
	}
	for k, v := range tags {
		if e.Tags == nil {
			e.Tags = map[string]string{}
		}
		e.Tags[short(k, 32)] = short(v, longTag)
	}
	return e
}

func short(s string, room int) string {
	if len(s) > room {
		s = s[:room]
	}
	return strings.ToValidUTF8(s, "")
}

// put queues an envelope: a line about it, a line about the event, the event.
func (c *Client) put(e event) {
	payload, err := json.Marshal(e)
	if err != nil {
		panic("sentry: " + err.Error()) // it is made of strings
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"event_id":%q,"sent_at":%q}`+"\n"+`{"type":"event","content_type":"application/json","length":%d}`+"\n", e.ID, e.Timestamp, len(payload))
	b.Write(append(payload, '\n'))
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.queue <- b.Bytes():
		c.pending++
	default:
		c.Log.Warn("sentry event dropped: too many wait")
	}
}

// Flush waits until everything is sent or given up, but not longer than within. Run has to run.
func (c *Client) Flush(within time.Duration) {
	if c == nil {
		return
	}
	c.mu.Lock()
	if c.pending == 0 {
		c.mu.Unlock()
		return
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-idle:
	case <-late.C:
	}
}

func (c *Client) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending--; c.pending == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// Run sends until ctx ends, and then what is left, for two seconds at most.
func (c *Client) Run(ctx context.Context) error {
	if c == nil || c.url == "" {
		<-ctx.Done()
		return nil
	}
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(flushIn, cancel) })
	defer stop()
	for {
		select {
		case b := <-c.queue:
			c.send(late, b)
			c.done()
		case <-ctx.Done():
			for {
				select {
				case b := <-c.queue:
					c.send(late, b)
					c.done()
				default:
					return nil
				}
			}
		}
	}
}

// send tries a few times. A server that has had enough is left alone as long as it says.
func (c *Client) send(ctx context.Context, b []byte) {
	pause := time.Second
	for try := 0; ; try++ {
		c.mu.Lock()
		quiet := time.Now().Before(c.quiet)
		c.mu.Unlock()
		if quiet {
			return
		}
		err, again := c.once(ctx, b)
		if err == nil {
			return
		}
		if !again || try == retries || ctx.Err() != nil {
			c.Log.Warn("sentry event lost", "err", err)
			return
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
		pause *= 2
	}
}

func (c *Client) once(ctx context.Context, b []byte) (err error, again bool) {
	ctx, cancel := context.WithTimeout(ctx, sendIn)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(b))
	if err != nil {
		return errors.New("its address cannot be used"), false
	}
	r.Header.Set("Content-Type", "application/x-sentry-envelope")
	r.Header.Set("User-Agent", "remote-monitor")
	r.Header.Set("X-Sentry-Auth", c.auth)
	resp, err := c.Client.Do(r)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		return err, true
	}
	io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
	resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		wait := time.Minute
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
			wait = min(time.Duration(s)*time.Second, time.Hour)
		}
		c.mu.Lock()
		c.quiet = time.Now().Add(wait)
		c.mu.Unlock()
		return fmt.Errorf("it wants nothing for %s", wait), false
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil, false
	}
	return fmt.Errorf("it answered %s", resp.Status), resp.StatusCode >= 500
}
