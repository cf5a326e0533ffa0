// Package api is the front door of people and their tools: the OData resources below /v7/, login, API keys, names of
// config variables and the reading of logs, as balena's clients ask for them. It translates between HTTP and the rooms
// that do the work; it owns no rule, no SQL and no access decision.
package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/resource"
	"github.com/dunlin/dunlin/internal/wire"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 1 << 20

const bodyTimeout = 30 * time.Second

// API answers people's tools. Its fields are set before Handler is called.
type API struct {
	Model  *resource.Model
	Auth   Auth
	Logs   Logs
	Keys   PublicKeys
	Config Config
	Log    *slog.Logger // nil: slog.Default
	// Heartbeat is the time between two signs of life of a log stream; 0 means the protocol's 58 s.
	Heartbeat time.Duration
	// BodyTimeout is how long a body may take to arrive; 0 means 30 s.
	BodyTimeout time.Duration
}

// Auth knows who is asking; auth.Auth is one.
type Auth interface {
	// Request is who sent r: the zero Actor if r has no credentials, fault.Unauthenticated if they are not good.
	Request(r *http.Request) (fleet.Actor, error)
	// Fresh is nil if r comes with a session whose user gave a password just now.
	Fresh(r *http.Request) error
	Login(ctx context.Context, username, password, remoteIP string) (session string, err error)
	Refresh(ctx context.Context, actor fleet.Actor, password string) (session string, err error)
	NewKey(ctx context.Context, spec auth.KeySpec) (secret string, err error)
}

// Logs has the devices' logs; logs.Store is one.
type Logs interface {
	// Tail is the last count lines, oldest first, without those taken before since. A negative count is all.
	Tail(ctx context.Context, device string, count int, since time.Time) ([]wire.LogLine, error)
	// Follow calls line for the last count lines and then for each new one, until ctx ends or line fails.
	Follow(ctx context.Context, device string, count int, line func(wire.LogLine) error) error
}

// PublicKeys has the users' SSH keys; store.DB is one.
type PublicKeys interface {
	// AuthorizedKeys are the keys of a user that open the devices of a fleet.
	AuthorizedKeys(ctx context.Context, username string, fleet int64) ([]string, error)
}

// Config is what the server says of itself to anyone.
type Config struct {
	Deployment   string `json:"deployment"`
	GitServerURL string `json:"gitServerUrl"` // ssh://HOST:PORT
	APIURL       string `json:"apiUrl"`
}

// call is the handler of one route. An error is answered in the protocol's way.
type call func(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error

// Handler serves all routes of this room, each with and without a slash at its end. What it does not know is 404.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, f := range map[string]call{
		"GET /user/v1/refresh-token":                  a.refresh,
		"POST /user/v1/refresh-token":                 a.refresh,
		"GET /user/v1/whoami":                         a.user,
		"GET /actor/v1/whoami":                        a.actor,
		"GET /auth/v1/public-keys/{username}":         a.publicKeys,
		"POST /application/{id}/generate-api-key":     a.fleetKey,
		"POST /api-key/application/{id}/provisioning": a.fleetKey,
		"POST /api-key/device/{id}/device-key":        a.deviceKey,
		"POST /api-key/user/full":                     a.userKey,
		"POST /api-key/v1":                            a.key,
		"POST /api-key/v2":                            a.keyWithExpiry,
		"GET /device/v2/{uuid}/logs":                  a.logs,
	} {
		handler := a.known(f)
		mux.Handle(pattern, handler)
		mux.Handle(pattern+"/{$}", handler)
	}
	for pattern, f := range map[string]call{
		"POST /login_":     a.login,
		"GET /config":      a.config,
		"GET /config/vars": a.configVars,
	} {
		handler := a.open(f)
		mux.Handle(pattern, handler)
		mux.Handle(pattern+"/{$}", handler)
	}
	mux.Handle("/v7/", a.known(resources(a.Model)))
	return CORS(mux)
}

// CORS lets web pages of any origin call next (protocol §0). That gives them nothing: every call carries its
// credentials itself, and none is a cookie.
func CORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Methods", "GET, PUT, POST, PATCH, DELETE, OPTIONS, HEAD")
		h.Set("Access-Control-Allow-Headers", "Content-Type, Authorization, Application-Record-Count, MaxDataServiceVersion, X-Requested-With, X-Balena-Client")
		h.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// known finds out who asks before f is called. Nobody is an actor too: f decides.
func (a *API) known(f call) http.Handler {
	return a.open(func(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
		actor, err := a.Auth.Request(r)
		if err != nil {
			return err
		}
		return f(w, r, actor)
	})
}

// open calls f for anyone and answers its error.
func (a *API) open(f call) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var random [8]byte
		_, _ = rand.Read(random[:]) // it never fails
		id := hex.EncodeToString(random[:])
		w.Header().Set("X-Request-Id", id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		a.hurry(w, r)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := f(w, r, fleet.Actor{}); err != nil {
			a.refuse(w, r, id, err)
		}
	})
}

// hurry bounds the time in which a body arrives. net/http lifts the bound once the body is read, so that what is done
// with it may take its time; of a request without one it would be a bound on the answer.
func (a *API) hurry(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		return
	}
	within := a.BodyTimeout
	if within == 0 {
		within = bodyTimeout
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(within)) // a test's recorder has no deadline
}

var statuses = map[fault.Kind]int{
	fault.Invalid: http.StatusBadRequest, fault.Unauthenticated: http.StatusUnauthorized, fault.Denied: http.StatusForbidden,
	fault.NotFound: http.StatusNotFound, fault.Conflict: http.StatusConflict, fault.TooLarge: http.StatusRequestEntityTooLarge,
	fault.Limited: http.StatusTooManyRequests, fault.Unavailable: http.StatusServiceUnavailable, fault.Internal: http.StatusInternalServerError,
}

// refuse answers an error: the sentence a caller may read, and its hint on a line of its own. Of a conflict it is a
// JSON string, of everything else plain text (protocol §6.3).
func (a *API) refuse(w http.ResponseWriter, r *http.Request, id string, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // a plain return would be an empty 200, should somebody listen after all
	}
	kind := fault.KindOf(err)
	text := fault.Message(err)
	if hint := fault.Hint(err); hint != "" {
		text += "\nhint: " + hint
	}
	switch kind {
	case fault.Internal:
		text += "; request " + id
		a.log().Error("request failed", "method", r.Method, "path", r.URL.Path, "request", id, "err", err)
	case fault.Unavailable:
		w.Header().Set("Retry-After", "5")
		a.log().Warn("request failed", "method", r.Method, "path", r.URL.Path, "request", id, "err", err)
	case fault.Conflict:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(text)
		return
	case fault.Denied:
		// Of a resource, no permission and no credentials are one answer.
		if strings.HasPrefix(r.URL.Path, "/v7/") {
			kind = fault.Unauthenticated
		}
	}
	say(w, statuses[kind], text)
}

// say answers with plain text.
func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// show answers with JSON.
func show(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(body)
	return nil
}

// body reads what a request carries.
func body(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return nil, fault.Newf(fault.TooLarge, "the body is over %d bytes", maxBody)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the body cannot be read")
	}
	return b, nil
}

// decode reads what a request carries as JSON. Nothing at all leaves v as it is.
func decode(r *http.Request, v any) error {
	b, err := body(r)
	if err != nil || len(strings.TrimSpace(string(b))) == 0 {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fault.Wrap(fault.Invalid, err, "the body is not the JSON that is wanted here")
	}
	return nil
}

func (a *API) log() *slog.Logger {
	if a.Log != nil {
		return a.Log
	}
	return slog.Default()
}

// unauthorized is the answer to nobody where somebody is wanted.
func unauthorized() error { return fault.New(fault.Unauthenticated, "Unauthorized") }
