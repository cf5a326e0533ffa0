package auth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

const (
	tokenLife   = 4 * time.Hour
	builderLife = 2 * time.Hour
	clockSkew   = 10 * time.Second

	maxRegistryToken = 64 << 10 // bytes; one for maxScopes scopes has about 8,000
)

// tokenClaims are the claims that distribution's token checker reads, and by what credentials the token was got.
type tokenClaims struct {
	Access []scope `json:"access"`
	jwt.RegisteredClaims
	origin
}

// origin is the API key, or the user and a mark of the user's sessions, that a registry token was got with. A
// builder's has none.
type origin struct {
	Key  int64  `json:"dunlin_key,omitempty"`
	User int64  `json:"dunlin_user,omitempty"`
	Mark string `json:"dunlin_mark,omitempty"`
}

// RegistryToken makes a token for the registry that carries, of what is asked, what the actor may do: a device pulls
// the images of its own fleet's releases; a user pulls the images of the organizations the user is in, and pushes
// those of them that are being made; anybody else does nothing. What is refused comes back without actions, not as
// an error; a scope that is none is fault.Invalid.
//
// A token is good for 4 hours, while the key or the session it was got with is: see Current.
func (a *Auth) RegistryToken(ctx context.Context, actor fleet.Actor, scopes []string) (string, error) {
	asked, err := parseScopes(scopes)
	if err != nil {
		return "", err
	}
	var names []string
	for _, s := range asked {
		if base := baseRepository(s); base != "" {
			names = append(names, base)
		}
	}
	var may map[string]store.RepositoryAccess
	switch actor.Kind {
	case fleet.DeviceActor:
		may, err = a.Store.DeviceRepositories(ctx, actor.ID, names)
	case fleet.UserActor:
		may, err = a.Store.UserRepositories(ctx, actor.ID, names)
	}
	if err != nil {
		return "", err
	}
	for i, s := range asked {
		allowed := may[baseRepository(s)]
		asked[i].Actions = slices.DeleteFunc(s.Actions, func(action string) bool {
			return !(action == "pull" && allowed.Pull || action == "push" && allowed.Push)
		})
	}
	from := origin{Key: actor.Key}
	if actor.Kind == fleet.UserActor && actor.Key == 0 {
		user, err := a.Store.LoginOf(ctx, actor.ID)
		if err != nil {
			return "", err
		}
		from = origin{User: user.ID, Mark: mark(user.JWTSecret)}
	}
	return a.sign(actor.Name, asked, from, tokenLife)
}

// Current reports whether the key or the session that a registry token was got with is still good; the registry itself
// asks nobody. It does not check the token, which is the registry's to do: what is no registry token is current.
func (a *Auth) Current(ctx context.Context, token string) (bool, error) {
	var c tokenClaims
	if len(token) > maxRegistryToken {
		return false, nil
	}
	if _, _, err := jwt.NewParser().ParseUnverified(token, &c); err != nil {
		return true, nil
	}
	switch {
	case c.Key != 0:
		return a.Store.KeyStands(ctx, c.Key, a.now())
	case c.User != 0:
		user, err := a.Store.LoginOf(ctx, c.User)
		if fault.Is(err, fault.NotFound) {
			return false, nil
		}
		return err == nil && subtle.ConstantTimeCompare([]byte(mark(user.JWTSecret)), []byte(c.Mark)) == 1, err
	}
	return true, nil
}

// mark tells sessions from before a new password from those after it, and gives nothing away.
func mark(secret string) string { return HashKey("registry " + secret)[:32] }

// baseRepository is the repository of the image that a scope is about, or "" if it is about none.
func baseRepository(s scope) string {
	if m := repositoryName.FindStringSubmatch(s.Name); m != nil && s.Type == "repository" {
		return m[1]
	}
	return ""
}

// BuilderToken makes a token to pull from and push to one repository, v2/<32 hex>, and nothing else.
func (a *Auth) BuilderToken(repository string) (string, error) {
	if !repositoryName.MatchString(repository) {
		return "", fault.Newf(fault.Invalid, "%q is not the repository of an image", repository)
	}
	life := a.BuilderLife
	if life == 0 {
		life = builderLife
	}
	return a.sign("builder", []scope{{Type: "repository", Name: repository, Actions: []string{"pull", "push"}}}, origin{}, life)
}

func (a *Auth) sign(subject string, access []scope, from origin, life time.Duration) (string, error) {
	if access == nil {
		access = []scope{}
	}
	now := a.now()
	t := jwt.NewWithClaims(jwt.SigningMethodES256, tokenClaims{Access: access, origin: from, RegisteredClaims: jwt.RegisteredClaims{
		ID:        random(32, alphanumeric),
		Issuer:    a.Issuer,
		Audience:  jwt.ClaimStrings{a.Service},
		Subject:   subject,
		NotBefore: jwt.NewNumericDate(now.Add(-clockSkew)),
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(life)),
	}})
	t.Header["kid"] = a.Keys.id
	token, err := t.SignedString(a.Keys.token)
	if err != nil {
		return "", fmt.Errorf("sign registry token: %w", err)
	}
	return token, nil
}
