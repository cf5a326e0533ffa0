package auth

import (
	"context"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// Pull is who holds a registry token, and what may be pulled with it.
type Pull struct {
	Subject      string // the device's uuid, or the user's name
	repositories []string
}

// May reports whether a repository may be pulled, v2/<32 hex>.
func (p Pull) May(repository string) bool { return slices.Contains(p.repositories, repository) }

// Pulling reads a registry token as the registry does, for what is beside it and takes the same tokens. One that is no
// registry token of this server, is no longer good, or was got with a key or a session that is no longer good, is
// fault.Unauthenticated.
func (a *Auth) Pulling(ctx context.Context, token string) (Pull, error) {
	var c tokenClaims
	if token == "" || len(token) > maxRegistryToken {
		return Pull{}, errCredentials()
	}
	if _, err := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}), jwt.WithIssuer(a.Issuer),
		jwt.WithAudience(a.Service), jwt.WithExpirationRequired(), jwt.WithTimeFunc(a.now),
	).ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return a.Keys.PublicKey(), nil }); err != nil {
		return Pull{}, errCredentials()
	}
	good, err := a.Current(ctx, token)
	if err != nil {
		return Pull{}, err
	}
	if !good {
		return Pull{}, errCredentials()
	}
	p := Pull{Subject: c.Subject}
	for _, s := range c.Access {
		if s.Type == "repository" && slices.Contains(s.Actions, "pull") {
			p.repositories = append(p.repositories, s.Name)
		}
	}
	return p, nil
}
