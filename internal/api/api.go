// Package api is the front door of people and their tools, as balena's clients ask: the OData resources below /v7/, login,
// API keys, the builder, configurations of new devices, what the server says of itself, logs, the files of releases,
// calls to supervisors, events. It translates between HTTP and the rooms that do the work; it owns no rule, no SQL and no
// access decision. It is larger than a room should be because the surface is: one file for each part of it, and no part
// knows another.
package api

import (
	"cmp"
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
	"github.com/dunlin/dunlin/internal/route"
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
	// Link reaches devices, nil reaches none; Supervisors knows how their own APIs are called there.
	Link        Link
	Supervisors Supervisors
	Events      Events // nil: none are told
	// Assets keeps files, nil keeps none; AssetRows knows whose they are.
	Assets    Assets
	AssetRows AssetRows
	// Builder takes pushes of folders; nil means that this server builds nothing.
	Builder Builder
	// Fetch downloads a source that is named by its url, and reaches no private network; set if Builder is.
	Fetch func(ctx context.Context, url string) (io.ReadCloser, error)
	Log   *slog.Logger // nil: slog.Default
	// Heartbeat is the time between two signs of life of a stream; 0 means 58 s for logs, as the protocol has it, and 25 s
	// for events and builds.
	Heartbeat time.Duration
	// Sight is how long what a reader of events may see is believed; 0 means 3 s.
	Sight time.Duration
	// BodyTimeout is how long a body may take to arrive; 0 means 30 s.
	BodyTimeout time.Duration
}

// Auth knows who is asking; auth.Auth is one.
type Auth interface {
	// Request is who sent r: an Actor of kind Nobody if r has no credentials, fault.Unauthenticated if they are not good.
	Request(r *http.Request) (fleet.Actor, error)
	// Fresh is nil if r comes with a session whose user gave a password just now.
	Fresh(r *http.Request) error
	// Address is the IP address a request came from, through whatever proxies.
	Address(r *http.Request) string
	Login(ctx context.Context, username, password, address string) (session string, err error)
	Refresh(ctx context.Context, actor fleet.Actor, password string) (session string, err error)
	// Sibling is another session of the user whose session is given, as fresh as that one.
	Sibling(ctx context.Context, session string) (sibling string, actor fleet.Actor, err error)
	NewKey(ctx context.Context, spec auth.KeySpec) (secret string, err error)
	// Link is what an address carries instead of the actor's credentials, and Linked who one was made for;
	// fault.Unauthenticated once it is good no more.
	Link(actor fleet.Actor) string
	Linked(ctx context.Context, link string) (fleet.Actor, error)
	Register(ctx context.Context, by fleet.Actor, account auth.NewAccount) (session string, err error)
	ChangePassword(ctx context.Context, actor fleet.Actor, current, password string) (session string, err error)
	DeleteAccount(ctx context.Context, actor fleet.Actor) error
	// Invitation is what the token of one is for; Accept makes the actor a member by it, Decline uses it up.
	Invitation(ctx context.Context, token string) (auth.Invitation, error)
	Accept(ctx context.Context, actor fleet.Actor, token string) (auth.Invitation, error)
	Decline(ctx context.Context, actor fleet.Actor, token string) error
	// Fleet finds the fleet of a slug for an actor who may see its source; one that is not there and one that is
	// somebody else's are the same fault.NotFound.
	Fleet(ctx context.Context, actor fleet.Actor, slug string) (fleet.Fleet, error)
	// MayPush is nil if the actor may read a fleet's source, or write it.
	MayPush(ctx context.Context, actor fleet.Actor, fleetID int64, write bool) error
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

// call is the handler of one route. An error is answered in the protocol's way.
type call func(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error

// Handler serves all routes of this room. What it does not know is 404.
func (a *API) Handler() http.Handler { return CORS(a.Routes().Handler()) }

// Routes are the handlers of this room by pattern.
func (a *API) Routes() route.Table {
	table := route.Table{}
	for pattern, f := range map[string]call{
		"GET /user/v1/refresh-token":                  a.refresh,
		"POST /user/v1/refresh-token":                 a.refresh,
		"GET /user/v1/whoami":                         a.user,
		"GET /actor/v1/whoami":                        a.actor,
		"POST /user/register":                         a.register,
		"POST /user/v1/password":                      a.password,
		"DELETE /user/v1/account":                     a.deleteAccount,
		"GET /org/v1/invitation/{token}":              a.invitation,
		"POST /org/v1/invitation/{token}":             a.accept,
		"DELETE /org/v1/invitation/{token}":           a.decline,
		"GET /user/v1/invitation/{token}":             a.invitation,
		"POST /user/v1/invitation/{token}":            a.accept,
		"DELETE /user/v1/invitation/{token}":          a.decline,
		"GET /auth/v1/public-keys/{username}":         a.publicKeys,
		"POST /application/{id}/generate-api-key":     a.fleetKey,
		"POST /api-key/application/{id}/provisioning": a.fleetKey,
		"POST /api-key/device/{id}/device-key":        a.deviceKey,
		"POST /api-key/user/full":                     a.userKey,
		"POST /api-key/v1":                            a.key,
		"POST /api-key/v2":                            a.keyWithExpiry,
		"GET /device/v2/{uuid}/logs":                  a.logs,
		"GET /events":                                 a.events,
		"GET /download-config":                        a.downloadConfig,
		"POST /download-config":                       a.downloadConfig,
		"GET /download":                               a.download,
		"POST /supervisor/{path...}":                  a.supervisor,
		"POST /application/{id}/restart":              a.restartFleet,
	} {
		table[pattern] = a.known(f)
	}
	for pattern, f := range map[string]call{
		"POST /login_":                a.login,
		"GET /login/cli/{callback}":   a.cliLogin,
		"POST /login/cli/{callback}":  a.cliLoggingIn,
		"GET /login/cli/page.css":     a.loginStyle,
		"GET /config":                 a.config,
		"GET /config/vars":            a.configVars,
		"GET /assets/{id}":            a.assetFile,
		"GET /device-types/v1":        a.deviceTypes,
		"GET /device-types/v1/{slug}": a.deviceType,
		"GET /device-types/v1/{slug}/images/{version}/download-size": a.downloadSize,
	} {
		table[pattern] = a.open(f)
	}
	// Bodies of any size, which these read as they come and bound themselves.
	table["PUT /assets/uploads/{upload}/{part}"] = a.answered(a.putPart)
	if a.Builder != nil {
		table["POST /v3/build"] = a.streaming(a.build)
		table["POST /v3/buildFromUrl"] = a.known(a.buildFromURL)
	}
	table["/v7/"] = a.streaming(a.v7(resources(a.Model)))
	table["/v6/"] = a.known(resources(a.Model)) // it has no assets
	table["/resin/"] = table["/v6/"]
	return table
}

// CORS lets web pages of any origin call next (protocol §0). That gives them nothing: every call carries its
// credentials itself, and none is a cookie.
func CORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Methods", "GET, PUT, POST, PATCH, DELETE, OPTIONS, HEAD")
		h.Set("Access-Control-Allow-Headers", "Content-Type, Authorization, Application-Record-Count, MaxDataServiceVersion, X-Requested-With, X-Balena-Client, Last-Event-ID, Range")
		h.Set("Access-Control-Expose-Headers", "ETag, X-Request-Id, Retry-After")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// known finds out who asks before f is called. Nobody is an actor too: f decides.
func (a *API) known(f call) http.Handler { return a.open(a.asked(f)) }

// streaming is known for an f that reads the body as it comes, however long it is and takes.
func (a *API) streaming(f call) http.Handler { return a.answered(a.asked(f)) }

func (a *API) asked(f call) call {
	return func(w http.ResponseWriter, r *http.Request, _ fleet.Actor) error {
		actor, err := a.Auth.Request(r)
		if err != nil {
			return err
		}
		return f(w, r, actor)
	}
}

// open calls f for anyone, with a body that is bounded in size and time.
func (a *API) open(f call) http.Handler {
	return a.answered(func(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
		a.hurry(w, r)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		return f(w, r, actor)
	})
}

// answered calls f and answers its error.
func (a *API) answered(f call) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var random [8]byte
		_, _ = rand.Read(random[:]) // it never fails
		id := hex.EncodeToString(random[:])
		w.Header().Set("X-Request-Id", id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
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
	within := cmp.Or(a.BodyTimeout, bodyTimeout)
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(within)) // a test's recorder has no deadline
}

// body reads what a request carries, JSON nearly always.
func body(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return nil, fault.Newf(fault.TooLarge, "the body is over %d bytes", maxBody)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the body cannot be read")
	}
	return b, shallow(b)
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
