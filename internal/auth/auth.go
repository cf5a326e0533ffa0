// Package auth owns who is asking and what they may reach: users, sessions, API keys, SSH keys, device keys and
// registry tokens. It reads credentials from HTTP requests; it does not own HTTP's answers, nor which rows of a
// resource an actor sees. Accounts, sessions, keys, registry tokens and the limits on guessing have a file each, and only
// together they are one answer, which is why it is longer than a room should be.
package auth

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// Auth answers who is asking. Its fields are set before the first call; its methods may be called concurrently.
type Auth struct {
	Store *store.DB
	Keys  *Keyring
	// Issuer and Service are the issuer and the audience of registry tokens: the server's public host:port.
	Issuer, Service string
	// BuilderLife is how long a builder's registry token is good; 0 means 2 hours, longer than a build may take.
	BuilderLife time.Duration
	// Registration is who may have an account made, one of the Registration constants; "" means closed.
	Registration string
	// BehindProxy: requests come through a proxy that says in X-Forwarded-For where from. Proxies are the addresses of
	// such proxies: the one that connects, if there are any here, and those before it. Without, whoever connects is one.
	BehindProxy bool
	Proxies     []netip.Prefix
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log may be nil.
	Log *slog.Logger

	hashing hashing
	once    sync.Once // of limits
	limits  *limits
}

// maxToken bounds what is looked at as a token, in bytes. A session has about 350.
const maxToken = 4096

// errCredentials says nothing about which part was wrong, and whether the account exists.
func errCredentials() error {
	return fault.New(fault.Unauthenticated, "the credentials are wrong, expired or revoked").
		WithHint("log in again, or use another API key")
}

// Request finds out who sent a request: by an Authorization header (Bearer with a session or an API key, or Basic
// with one of them as the password, whatever the user name), else by an apikey in the query. A request without any
// credentials is nobody's: an Actor with an address and nothing else. Wrong credentials are fault.Unauthenticated, never
// nobody; very many of them from one place are fault.Limited, while good ones from there pass.
func (a *Auth) Request(r *http.Request) (fleet.Actor, error) {
	address := a.Address(r)
	token, given := credentials(r)
	if !given {
		return fleet.Actor{Address: address}, nil
	}
	actor, err := a.Token(r.Context(), token)
	if fault.Is(err, fault.Unauthenticated) {
		if wait := a.bounds().tokens.take(a.now(), place(address)); wait > 0 {
			return fleet.Actor{}, limited("too many wrong keys and sessions", wait)
		}
	}
	if err != nil {
		return fleet.Actor{}, err
	}
	actor.Address = address
	return actor, nil
}

// Token is who holds a session or an API key.
func (a *Auth) Token(ctx context.Context, token string) (fleet.Actor, error) {
	switch {
	case token == "" || len(token) > maxToken:
		return fleet.Actor{}, errCredentials()
	case isSession(token):
		s, err := a.session(ctx, token)
		return s.actor, err
	}
	actor, err := a.Store.KeyActor(ctx, HashKey(token), a.now())
	if fault.Is(err, fault.NotFound) {
		return fleet.Actor{}, errCredentials()
	}
	return actor, err
}

// Fresh says whether a request comes with a session whose user gave a password in the last 20 minutes; the
// protocol wants that before a key to the whole account is made. Otherwise it is fault.Unauthenticated.
func (a *Auth) Fresh(r *http.Request) error {
	if token, _ := credentials(r); isSession(token) && len(token) <= maxToken {
		s, err := a.session(r.Context(), token)
		if err != nil {
			return err
		}
		if a.now().Sub(s.proved) < freshFor {
			return nil
		}
	}
	return fault.New(fault.Unauthenticated, "Fresh authentication token required")
}

// credentials takes the one token out of a request; given is false if there is no attempt at all.
func credentials(r *http.Request) (token string, given bool) {
	headers := r.Header.Values("Authorization")
	if len(headers) > 1 {
		return "", true // which of them is meant is anybody's guess
	}
	if len(headers) == 1 && strings.TrimSpace(headers[0]) != "" {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(headers[0]), " ")
		switch {
		case strings.EqualFold(scheme, "bearer"):
			return strings.TrimSpace(rest), true
		case strings.EqualFold(scheme, "basic"):
			_, password, _ := r.BasicAuth()
			return password, true
		}
		return "", true
	}
	token = r.URL.Query().Get("apikey")
	return token, token != ""
}

// May says whether a user's rank in a fleet is need or more. Who may not even look is told that the fleet is not
// there. Keys of devices and fleets have no rank: what they may do is for others to say.
func (a *Auth) May(ctx context.Context, actor fleet.Actor, fleetID int64, need fleet.Rank) error {
	switch actor.Kind {
	case fleet.UserActor:
	case fleet.Nobody:
		return fault.New(fault.Unauthenticated, "who is asking is not known").WithHint("log in, or send an API key")
	default:
		return fault.Newf(fault.Denied, "a key of one %s may not do this", actor.Kind)
	}
	rank, err := a.Store.Rank(ctx, actor.ID, fleetID)
	switch {
	case err != nil:
		return err
	case rank < fleet.Observer:
		return fault.New(fault.NotFound, "there is no such fleet")
	case rank < need:
		return fault.New(fault.Denied, "your role in this fleet does not allow it").
			WithHint("ask an owner of the organization for the role of " + roleOf[need])
	}
	return nil
}

// roleOf is what an owner has to give somebody who needs a rank.
var roleOf = map[fleet.Rank]string{
	fleet.Observer: "observer", fleet.Operator: "operator", fleet.Developer: "developer", fleet.Owner: "owner",
}

// MayPush says whether an actor may read a fleet's source, or write it. Both are for developers: source has what a
// release has not, and who may read it may also see every version of it. For devices and provisioning keys no source
// is.
func (a *Auth) MayPush(ctx context.Context, actor fleet.Actor, fleetID int64, write bool) error {
	if err := onlyUsers(actor, write); err != nil {
		return err
	}
	return a.May(ctx, actor, fleetID, fleet.Developer)
}

// Fleet finds a fleet that a user may at least look at by its slug, in any case of letters. A fleet that is not there
// and one that is somebody else's are the same fault.NotFound.
func (a *Auth) Fleet(ctx context.Context, actor fleet.Actor, slug string) (fleet.Fleet, error) {
	if err := onlyUsers(actor, false); err != nil {
		return fleet.Fleet{}, err
	}
	return a.Store.MemberFleet(ctx, actor.ID, strings.ToLower(slug))
}

func onlyUsers(actor fleet.Actor, write bool) error {
	verb := "read"
	if write {
		verb = "push"
	}
	switch actor.Kind {
	case fleet.UserActor:
		return nil
	case fleet.Nobody:
		return fault.Newf(fault.Unauthenticated, "who wants to %s this source is not known", verb).
			WithHint("use an API key as the password, or add your SSH key")
	}
	return fault.Newf(fault.Denied, "a key of one %s may not %s source", actor.Kind, verb)
}

func (a *Auth) now() time.Time {
	if a.Now != nil {
		return a.Now()
	}
	return time.Now()
}

func (a *Auth) log() *slog.Logger {
	if a.Log != nil {
		return a.Log
	}
	return slog.New(slog.DiscardHandler)
}
