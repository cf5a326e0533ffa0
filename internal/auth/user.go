package auth

import (
	"context"
	"net/mail"
	"regexp"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// username is also the handle of the user's organization, and so a part of paths and host-neutral slugs.
var username = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9_-]{0,37}[a-z0-9])?$`)

// FirstUser makes the administrator's account, with an organization of the same name, if there is no account at
// all; otherwise it does nothing and made is false. Without a password it makes one, and oneTime is that password,
// which is kept nowhere else.
func (a *Auth) FirstUser(ctx context.Context, name, email, password string) (made bool, oneTime string, err error) {
	if there, err := a.Store.HasUsers(ctx); err != nil || there {
		return false, "", err
	}
	if password == "" {
		oneTime = readable()
		password = oneTime
	}
	n, err := a.newUser(ctx, name, email, password)
	if err != nil {
		return false, "", err
	}
	u, made, err := a.Store.AddFirstUser(ctx, n)
	if err != nil || !made {
		return false, "", err
	}
	a.log().Info("made the first user", "user", u.Username)
	return true, oneTime, nil
}

// NewUser makes a further account with an organization of the same name. A name, email or handle that is taken is
// fault.Conflict.
func (a *Auth) NewUser(ctx context.Context, name, email, password string) (fleet.User, error) {
	n, err := a.newUser(ctx, name, email, password)
	if err != nil {
		return fleet.User{}, err
	}
	return a.Store.AddUser(ctx, n)
}

func (a *Auth) newUser(ctx context.Context, name, email, password string) (store.NewUser, error) {
	n := store.NewUser{Username: name, Email: strings.ToLower(email), JWTSecret: random(32, alphanumeric)}
	if !username.MatchString(name) {
		return n, fault.Newf(fault.Invalid, "%q cannot be a user name", name).
			WithHint("use 1 to 39 lower-case letters, digits, dashes and underscores")
	}
	if email != "" {
		if parsed, err := mail.ParseAddress(email); err != nil || parsed.Address != email || len(email) > 254 {
			return n, fault.Newf(fault.Invalid, "%q is not an email address", email)
		}
	}
	if err := checkPassword(password); err != nil {
		return n, err
	}
	var err error
	n.PasswordHash, err = a.hash(ctx, password)
	return n, err
}

// SetPassword gives a user another password and ends every session the user has.
func (a *Auth) SetPassword(ctx context.Context, user int64, password string) error {
	if err := checkPassword(password); err != nil {
		return err
	}
	hash, err := a.hash(ctx, password)
	if err != nil {
		return err
	}
	return a.Store.SetPassword(ctx, user, hash, random(32, alphanumeric))
}

func checkPassword(password string) error {
	switch {
	case len(password) < minPassword:
		return fault.Newf(fault.Invalid, "the password is too short").WithHint("use at least 8 characters; a few words are easy to keep in mind")
	case len(password) > maxPassword:
		return fault.Newf(fault.Invalid, "the password is over %d bytes", maxPassword)
	}
	return nil
}
