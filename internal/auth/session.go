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
		actor:  actorOf(user),
		proved: time.UnixMilli(c.AuthTime),
	}, nil
}

// Sibling is another session of the user whose session this is, as fresh as it is, and who that is.
func (a *Auth) Sibling(ctx context.Context, token string) (sibling string, actor fleet.Actor, err error) {
	if !isSession(token) || len(token) > maxToken {
		return "", fleet.Actor{}, errCredentials()
	}
	s, err := a.session(ctx, token)
	if err != nil {
		return "", fleet.Actor{}, err
	}
	user, err := a.Store.LoginOf(ctx, s.actor.ID)
	if err != nil {
		return "", fleet.Actor{}, err
	}
	sibling, err = a.newSession(user, s.proved)
	return sibling, s.actor, err
}
