// Package page owns what a browser sees of Remote Monitor: the status page, its JSON and its stream of events, the
// buttons behind a token, and the health check. It does not own what any of it means, nor what follows when a button
// is pressed.
package page

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
)

// The bounds of what a browser, or whoever says he is one, may take of a small computer.
const (
	defaultViewers = 8
	connections    = 64
	headerBytes    = 16 << 10
	bodyBytes      = 4 << 10
	stopWithin     = 2 * time.Second
)

// Page is the status page of one monitor. Its fields are set before Handler or Serve is called and not changed
// afterwards; the functions are called from several goroutines.
type Page struct {
	// Snapshot is everything as it stands.
	Snapshot func() monitor.Snapshot
	// Frames gives the scans after a position, oldest first, and the position of the last. Position 0 is before
	// everything that is remembered.
	Frames func(after uint64) ([]monitor.Frame, uint64)
	// Command passes a wish on and returns at once. Nil: there are no buttons.
	Command func(bus.Command)

	Token   string       // what buttons want to be shown; empty: there are no buttons
	Metrics http.Handler // served at /metrics; nil: none
	Viewers int          // pages that may look on at once; 0: 8
	Log     *slog.Logger // nil: nothing is logged
}

// site is a Page that is being served.
type site struct {
	*Page
	log     *slog.Logger
	wrong   tries
	viewers chan struct{}

	mu   sync.Mutex
	last *picture // what the streams share
}

//go:embed static
var static embed.FS

// files are what the page is made of. Scripts and styles are files of their own, so that the policy can forbid all
// others.
var files = map[string]string{
	"/{$}":       "text/html; charset=utf-8",
	"/page.css":  "text/css; charset=utf-8",
	"/page.js":   "text/javascript; charset=utf-8",
	"/view.js":   "text/javascript; charset=utf-8",
	"/signal.js": "text/javascript; charset=utf-8",
	"/icon.svg":  "image/svg+xml",
}

// Handler serves the page. It may be called more than once; what one handler counts, viewers and wrong tokens, the
// others do not know.
func (p *Page) Handler() http.Handler {
	s := &site{Page: p, log: p.Log, viewers: make(chan struct{}, defaultViewers)}
	if p.Viewers > 0 {
		s.viewers = make(chan struct{}, p.Viewers)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}

	mux := http.NewServeMux()
	for path, kind := range files {
		mux.Handle("GET "+path, file(path, kind))
	}
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /api/status", s.status)
	mux.HandleFunc("GET /api/frames", s.frames)
	mux.HandleFunc("POST /api/login", s.login)
	mux.HandleFunc("POST /api/logout", s.logout)
	mux.HandleFunc("POST /api/outputs/{id}", s.output)
	mux.HandleFunc("POST /api/groups/{id}", s.group)
	mux.HandleFunc("GET /healthz", s.health)
	if p.Metrics != nil {
		mux.Handle("GET /metrics", p.Metrics)
	}
	return guard(http.NewCrossOriginProtection().Handler(mux))
}

// Serve answers on l until ctx ends, then gives requests a moment to finish. It closes l.
func (p *Page) Serve(ctx context.Context, l net.Listener) error {
	return serve(ctx, "the status page", l, p.Handler(), p.Log)
}

// Health gives a function that answers /healthz on l, and nothing else, until its ctx ends: for a listener of its own,
// such as the socket that a container's health check asks. It closes l.
func (p *Page) Health(l net.Listener) func(context.Context) error {
	s := &site{Page: &Page{Snapshot: p.Snapshot}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	log := p.Log
	return func(ctx context.Context) error { return serve(ctx, "the health check", l, guard(mux), log) }
}

func serve(ctx context.Context, what string, l net.Listener, h http.Handler, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second, // the stream sets its own, again and again
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		// Streams end with ctx, so that the server can.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		if server.Shutdown(late) != nil {
			server.Close()
		}
	})
	err := server.Serve(bound(l, connections))
	if stop() {
		// It was not ctx that ended it.
		server.Close()
		return fmt.Errorf("serve %s at %s: %w", what, l.Addr(), err)
	}
	<-stopped
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s at %s: %w", what, l.Addr(), err)
}

// guard sets what holds for every answer. The policy lets the page load its own files and nothing else, run no script
// that is not one of them, and be shown in no other page.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
			"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// health is for those who only want to know whether all is well.
func (s *site) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if now := s.Snapshot(); !now.Healthy {
		reason := now.Unhealthy
		if reason == "" {
			reason = "not ready yet"
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, reason)
		return
	}
	fmt.Fprintln(w, "ok")
}

// bounded is a listener with a limit to the connections that are open at once: the others wait to be accepted.
type bounded struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func bound(l net.Listener, limit int) *bounded {
	return &bounded{Listener: l, slots: make(chan struct{}, limit), done: make(chan struct{})}
}

// Accept waits for a slot, then for a connection.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.slots <- struct{}{}:
	case <-b.done:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.slots
		return nil, err
	}
	return &slotted{Conn: c, free: sync.OnceFunc(func() { <-b.slots })}, nil
}

// Close also ends an Accept that waits for a slot.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.done) })
	return b.Listener.Close()
}

// slotted gives its slot back when it is closed.
type slotted struct {
	net.Conn
	free func()
}

func (c *slotted) Close() error {
	defer c.free()
	return c.Conn.Close()
}
