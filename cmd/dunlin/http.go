package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dunlin/dunlin/internal/api"
	"github.com/dunlin/dunlin/internal/deviceapi"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// routes is everything that one origin serves. Paths do not collide, so every host name may point here.
// Requests that wait for something end when working does.
func (s *server) routes(working context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, r *http.Request) {
		if err := s.db.Ping(r.Context()); err != nil {
			http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "OK")
	})
	mux.HandleFunc("GET /connectivity-check", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /ca.crt", s.root)
	mux.Handle("GET /metrics", s.usersOnly(s.metrics.handler()))

	mux.Handle("/v2/", s.counted(s.registry))
	mux.Handle("/git/", s.source)

	devices := (&deviceapi.Server{Store: s.db, Auth: s.auth, Hub: s.hub, Logs: s.logs, Log: s.log}).Handler()
	for _, path := range []string{"/device/register", "/device/v3/", "/auth/v1/token", "/os/v1/config"} {
		mux.Handle(path, devices)
		if !strings.HasSuffix(path, "/") {
			mux.Handle(path+"/{$}", devices)
		}
	}
	people := (&api.API{
		Model: s.model, Auth: s.auth, Logs: s.logs, Keys: s.db, Log: s.log,
		Config: api.Config{Deployment: "dunlin", GitServerURL: "ssh://git@" + s.sshHost, APIURL: s.url()},
	}).Handler()
	mux.Handle("/", people)
	for path, h := range map[string]http.Handler{
		"GET /device/v3/{uuid}/state": devices, "POST /device/v2/{uuid}/log-stream": devices, "GET /device/v2/{uuid}/logs": people,
	} {
		mux.Handle(path, until(working, h))
		mux.Handle(path+"/{$}", until(working, h))
	}
	return s.metrics.observed(mux)
}

// root gives the root certificate of the server's private CA to whoever is to trust it.
func (s *server) root(w http.ResponseWriter, r *http.Request) {
	if s.identity == nil || len(s.identity.RootPEM()) == 0 {
		http.Error(w, "this server has no private CA", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Write(s.identity.RootPEM()) // as above
}

// usersOnly lets in people's sessions and API keys.
func (s *server) usersOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if actor, err := s.auth.Request(r); err != nil || actor.Kind != fleet.UserActor {
			http.Error(w, "Unauthorized: send a user's API key as Bearer token", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// counted adds up what of the registry travels to which device.
func (s *server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &counter{ResponseWriter: w}
		h.ServeHTTP(c, r)
		if r.Method != http.MethodGet || c.status >= 300 || c.bytes == 0 {
			return
		}
		s.metrics.registrySent(c.bytes)
		if uuid := subject(r); fleet.CheckDeviceUUID(uuid) == nil {
			s.hub.Sent(uuid, c.bytes)
		}
	})
}

// subject is who the registry's token was made for. The registry has checked the token: it answered with content.
func subject(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var c struct {
		Subject string `json:"sub"`
	}
	if json.Unmarshal(claims, &c) != nil {
		return ""
	}
	return c.Subject
}

// counter counts what a handler writes.
type counter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.bytes += int64(n)
	return n, err
}

// ReadFrom keeps the kernel's copy from file to socket.
func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.bytes += n
	return n, err
}

// Flush is for handlers that stream and ask for an http.Flusher.
func (c *counter) Flush() {
	http.NewResponseController(c.ResponseWriter).Flush() // a writer that cannot has nothing to flush
}

// Unwrap is for http.ResponseController.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// logger makes the log the options ask for.
func (o *options) logger(out io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, fault.Newf(fault.Invalid, "--log-level is %q", o.logLevel).WithHint("choose debug, info, warn or error")
	}
	how := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(out, how)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(out, how)), nil
	}
	return nil, fault.Newf(fault.Invalid, "--log-format is %q", o.logFormat).WithHint("choose text or json")
}

// lock makes the data folder this process's own: two servers on one would undo each other's work.
func lock(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Newf(fault.Unavailable, "cannot make the data folder: %v", err).WithHint("choose one that this user may write, with --data")
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.Newf(fault.Unavailable, "cannot write to the data folder: %v", err).WithHint("choose one that this user may write, with --data")
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close() // nothing was written
		return nil, fault.Newf(fault.Conflict, "another dunlin server uses %s", dir).WithHint("stop it, or choose another --data")
	}
	return f.Close, nil
}
