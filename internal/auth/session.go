package auth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

const (
	sessionLife = 7 * 24 * time.Hour
	freshFor    = 20 * time.Minute
)

// sessionClaims are the claims of balena's session token: HS256, with the user's own secret in it.
type sessionClaims struct {
	User     int64  `json:"id"`
	Secret   string `json:"jwt_secret"`
	AuthTime int64  `json:"authTime"` // milliseconds since 1970; 0 if no password was given for this token
	jwt.RegisteredClaims
}

type session struct {
	actor  fleet.Actor
	proved time.Time // when the user gave a password
}

// isSession tells a session from an API key, which never has a dot.
func isSession(token string) bool { return strings.Count(token, ".") == 2 }

func (a *Auth) newSession(user store.Login, proved time.Time) (string, error) {
	now := a.now()
	c := sessionClaims{User: user.ID, Secret: user.JWTSecret, RegisteredClaims: jwt.RegisteredClaims{
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(sessionLife))}}
	if !proved.IsZero() {
		c.AuthTime = proved.UnixMilli()
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(a.Keys.session)
	if err != nil {
		return "", fmt.Errorf("sign session: %w", err)
	}
	return token, nil
}

// session checks a session token against the key, the clock and the user's secret, which a new password changes.
func (a *Auth) session(ctx context.Context, token string) (session, error) {
	var c sessionClaims
	_, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return a.Keys.session, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(a.now))
	if err != nil {
		return session{}, errCredentials()
	}
	user, err := a.Store.LoginOf(ctx, c.User)
	if fault.Is(err, fault.NotFound) {
		return session{}, errCredentials()
	}
	if err != nil {
		return session{}, err
	}
	if subtle.ConstantTimeCompare([]byte(user.JWTSecret), []byte(c.Secret)) != 1 {
		return session{}, errCredentials()
	}
	return session{
		actor:  fleet.Actor{Kind: fleet.UserActor, Actor: user.Actor, ID: user.ID, Name: user.Username},
		proved: time.UnixMilli(c.AuthTime),
	}, nil
}

// Login trades a user name or email and a password for a session of 7 days. Ten wrong tries for one name within two
// hours make further ones fault.Limited until the two hours are over, as do a hundred from one address; an empty
// remoteIP is not counted. Anything wrong is the same fault.Unauthenticated after the same work.
func (a *Auth) Login(ctx context.Context, username, password, remoteIP string) (string, error) {
	user, err := a.prove(ctx, strings.ToLower(strings.TrimSpace(username)), password, remoteIP)
	if err != nil {
		a.log().Info("login refused", "address", remoteIP, "err", err)
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
		user, err := a.prove(ctx, actor.Name, password, "")
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
