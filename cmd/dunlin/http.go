package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/dunlin/dunlin/internal/api"
	"github.com/dunlin/dunlin/internal/deviceapi"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/route"
)

// routes is everything that one origin serves. Paths do not collide, so every host name may point here, and none of
// them matters but to registry tokens. Requests that wait for something end when working does.
func (s *server) routes(working context.Context) http.Handler {
	table := s.table(working)
	return s.metrics.observed(api.CORS(table.Handler()), table)
}

// table is every route by its pattern.
func (s *server) table(working context.Context) route.Table {
	table := route.Table{
		"GET /ping": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := s.db.Ping(r.Context()); err != nil {
				http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
				return
			}
			fmt.Fprint(w, "OK")
		}),
		"GET /connectivity-check": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		"GET /ca.crt":             http.HandlerFunc(s.root),
		"GET /metrics":            s.administratorsOnly(s.metrics.handler()),
		"/v2/":                    s.counted(s.current(s.registry)),
		"/git/":                   s.source,
	}
	maps.Copy(table, (&deviceapi.Server{Store: s.db, Auth: s.auth, Hub: s.hub, Logs: s.logs, Log: s.log, Deltas: askDelta{s.deltas}}).Routes())
	people := &api.API{
		Model: s.model, Auth: s.auth, Logs: s.logs, Keys: s.db, Log: s.log,
		Builder: s.pipeline, Fetch: s.pipeline.Builder.Fetch,
		Config: s.said(), Supervisors: s.db, Events: s.hub, Assets: s.assets, AssetRows: s.db,
	}
	s.model.AssetLink = people.AssetLink
	maps.Copy(table, people.Routes())
	for _, pattern := range []string{
		"GET /device/v3/{uuid}/state", "POST /device/v2/{uuid}/log-stream", "GET /device/v2/{uuid}/logs", "POST /v3/build", "GET /events", "GET /api/v3/delta",
	} {
		table[pattern] = until(working, table[pattern])
	}
	return table
}

// said is what the server says of itself, and writes into the configuration of new devices. Whatever they need of it they
// find at the one public host.
func (s *server) said() api.Config {
	c := api.Config{
		Deployment: "dunlin", APIURL: s.url(), GitServerURL: "ssh://git@" + s.sshHost, DeviceURLs: "devices." + s.hostname(),
		Registry: s.host, DeltaURL: s.url(), VPNHost: s.hostname(), VPNPort: 443,
	}
	if _, port, err := net.SplitHostPort(s.host); err == nil {
		if n, err := strconv.Atoi(port); err == nil {
			c.VPNPort = n
		}
	} else if !s.https() {
		c.VPNPort = 80
	}
	if s.identity != nil {
		c.RootCA = s.identity.RootPEM()
	}
	return c
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

// administratorsOnly lets in the sessions and API keys of those who run the server.
func (s *server) administratorsOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if actor, err := s.auth.Request(r); err != nil || actor.Kind != fleet.UserActor || !actor.Administrator {
			http.Error(w, "Unauthorized: send an administrator's API key as Bearer token", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// current takes registry tokens away that were got with a key or a session that has ended since: the registry then
// asks for another one, which there is none of.
func (s *server) current(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "bearer") {
			good, err := s.auth.Current(r.Context(), token)
			if err != nil {
				s.log.Error("registry token not looked up", "err", err)
				http.Error(w, "the server cannot look up who is asking", http.StatusServiceUnavailable)
				return
			}
			if !good {
				r = r.Clone(r.Context())
				r.Header.Del("Authorization")
			}
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
			if repository, digest, ok := sentWhole(r, c); ok {
				s.deltas.Sent(repository, digest)
			}
		}
	})
}

// sentWhole is what an answer of the registry has sent to its end, if it has: a part counts that is the last.
func sentWhole(r *http.Request, c *counter) (repository, digest string, ok bool) {
	repository, digest, ok = strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
	if !ok {
		repository, digest, ok = strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
	}
	length, err := strconv.ParseInt(c.Header().Get("Content-Length"), 10, 64)
	if !ok || err != nil || c.bytes != length {
		return "", "", false
	}
	if c.status == http.StatusPartialContent {
		part, whole, _ := strings.Cut(strings.TrimPrefix(c.Header().Get("Content-Range"), "bytes "), "/")
		_, last, _ := strings.Cut(part, "-")
		to, err := strconv.ParseInt(last, 10, 64)
		size, err2 := strconv.ParseInt(whole, 10, 64)
		ok = err == nil && err2 == nil && to == size-1
	}
	return repository, digest, ok
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
