package auth

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

const (
	// placeKnown is how long a place a user logged in from stays the user's own.
	placeKnown = 90 * 24 * time.Hour
	// accountsKept is more than there are accounts: what is counted for one is never forgotten to make room.
	accountsKept  = 100_000
	strangersKept = 10_000 // about 1.5 MB
)

// limits bound what may be tried. All of it is in memory: a restart forgets it.
//
// Wrong passwords for one account are counted in two ways, so that a stranger who gives them on purpose does not lock
// the user out. From a place where the user logged in before they count for that place alone; from everywhere else
// together. Who is on the way somewhere new while the account is under attack has to use an API key, or a session
// that is open, or to try again: what is let through goes to whoever comes first.
type limits struct {
	addresses *limit // wrong passwords from one place, whatever the account
	accounts  *limit // wrong passwords for one account, from places it does not know
	own       *limit // wrong passwords for one account, from one place it knows or with one of its sessions
	names     *limit // wrong passwords for a name that has no account
	accountOf *limit // accounts asked for, from one place
	newcomers *limit // accounts asked for, from everywhere
	tokens    *limit // keys and sessions that are not good, from one place
	refusals  *limit // rows of the audit trail about wrong passwords
}

func newLimits() *limits {
	return &limits{
		addresses: &limit{burst: 100, every: 72 * time.Second, keep: strangersKept},
		accounts:  &limit{burst: 10, every: 20 * time.Minute, keep: accountsKept},
		own:       &limit{burst: 10, every: 20 * time.Minute, keep: accountsKept},
		// As for accounts, so that nobody learns which names have one. Here room is made by forgetting, since anybody
		// can think of names; who gives some ten thousand others first does find out.
		names:     &limit{burst: 10, every: 20 * time.Minute, keep: strangersKept},
		accountOf: &limit{burst: 20, every: 6 * time.Minute, keep: strangersKept},
		newcomers: &limit{burst: 200, every: time.Minute, keep: 1},
		tokens:    &limit{burst: 1000, every: 100 * time.Millisecond, keep: strangersKept},
		refusals:  &limit{burst: 1000, every: time.Minute, keep: 1},
	}
}

func (a *Auth) bounds() *limits {
	a.once.Do(func() { a.limits = newLimits() })
	return a.limits
}

// Login trades a user name or email and a password for a session of 7 days. Wrong passwords are limited, by place and
// by account; address is the IP address they come from, or "". Anything wrong is the same fault.Unauthenticated after
// the same work.
func (a *Auth) Login(ctx context.Context, username, password, address string) (string, error) {
	user, err := a.prove(ctx, attempt{name: strings.ToLower(strings.TrimSpace(username)), password: password, address: address})
	if err != nil {
		a.log().Info("login refused", "address", address, "err", err)
		return "", err
	}
	by := actorOf(user)
	by.Address = address
	if err := a.Store.LoggedIn(ctx, by, place(address)); err != nil {
		return "", err
	}
	return a.newSession(user, a.now())
}

// Refresh gives the holder of a session a new one. With the user's password it is a fresh one (see Fresh), without
// ("") it is not. An API key cannot be traded for a session, which would outlive it.
func (a *Auth) Refresh(ctx context.Context, actor fleet.Actor, password string) (string, error) {
	if actor.Kind != fleet.UserActor || actor.Key != 0 {
		return "", fault.New(fault.Unauthenticated, "only a session can be renewed").WithHint("log in with user name and password")
	}
	if password != "" {
		user, err := a.prove(ctx, attempt{name: actor.Name, password: password, address: actor.Address, holder: actor.ID})
		if err != nil {
			return "", err
		}
		return a.newSession(user, a.now())
	}
	user, err := a.Store.LoginOf(ctx, actor.ID)
	if fault.Is(err, fault.NotFound) {
		return "", errCredentials()
	}
	if err != nil {
		return "", err
	}
	return a.newSession(user, time.Time{})
}

// attempt is somebody who says to be a user.
type attempt struct {
	name, password, address string
	holder                  int64 // the user whose session or key comes with it; 0 for none
}

// prove is the user of that name, if the password is theirs.
func (a *Auth) prove(ctx context.Context, t attempt) (store.Login, error) {
	l, now, from := a.bounds(), a.now(), place(t.address)
	if wait := l.addresses.take(now, from); wait > 0 {
		return store.Login{}, limited("too many wrong passwords", wait)
	}
	user, err := a.Store.Login(ctx, t.name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return store.Login{}, err
	}
	// Of an unknown user (0) no place is known, and that takes as long to find out.
	known, err := a.Store.KnowsPlace(ctx, user.ID, from, now.Add(-placeKnown))
	if err != nil {
		return store.Login{}, err
	}
	count, key := l.names, t.name
	switch {
	case t.holder != 0 && t.holder == user.ID:
		count, key = l.own, fmt.Sprintf("%d holds a session", user.ID)
	case known:
		count, key = l.own, fmt.Sprintf("%d at %s", user.ID, from)
	case user.ID != 0:
		count, key = l.accounts, fmt.Sprint(user.ID)
	}
	if wait := count.take(now, key); wait > 0 {
		l.addresses.giveBack(from) // nothing was tried
		return store.Login{}, limited("too many wrong passwords", wait)
	}
	// An unknown user costs as much as a known one: the empty hash is worked on and never matches.
	same, err := a.hashing.verify(ctx, user.PasswordHash, t.password)
	if err != nil { // nothing was learnt
		l.addresses.giveBack(from)
		count.giveBack(key)
		return store.Login{}, err
	}
	if !same {
		a.refused(ctx, t, user)
		return store.Login{}, fault.New(fault.Unauthenticated, "the user name or the password is wrong")
	}
	l.addresses.giveBack(from)
	if count == l.own {
		count.forget(key)
	} else {
		count.giveBack(key) // the rest is perhaps somebody else's
	}
	if a.hashing.cheap(user.PasswordHash) {
		if err := a.rehash(ctx, user, t.password); err != nil {
			a.log().Warn("password hash not renewed; tried again at the next login", "user", user.Username, "err", err)
		}
	}
	return user, nil
}

// rehash keeps a password that was just proved under today's parameters.
func (a *Auth) rehash(ctx context.Context, user store.Login, password string) error {
	hash, err := a.hashing.hash(ctx, password)
	if err != nil {
		return err
	}
	return a.Store.Rehash(ctx, user.ID, user.PasswordHash, hash)
}

// refused puts a wrong password on the audit trail, without the password, and without a name that is none: people
// type their password there at times. A flood of them is counted in the log alone.
func (a *Auth) refused(ctx context.Context, t attempt, user store.Login) {
	if a.bounds().refusals.take(a.now(), "all") > 0 {
		return
	}
	details := map[string]any{}
	if user.ID != 0 {
		details["username"] = user.Username
	}
	if err := a.Store.Audit(ctx, store.Audit{Actor: fleet.Actor{Address: t.address}, Verb: "refuse", Resource: "user",
		Row: user.ID, Details: details}); err != nil {
		a.log().Warn("refused login not on the audit trail", "err", err)
	}
}

func limited(what string, wait time.Duration) error {
	return fault.New(fault.Limited, what).WithWait(wait).
		WithHint(fmt.Sprintf("try again in %s", max(wait.Round(time.Second), time.Second)))
}

func actorOf(user store.Login) fleet.Actor {
	return fleet.Actor{Kind: fleet.UserActor, Actor: user.Actor, ID: user.ID, Name: user.Username, Administrator: user.Administrator}
}
