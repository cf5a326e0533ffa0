package auth

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

func TestARegistryTokenIsReadBesideTheRegistryAsTheRegistryReadsIt(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.Auth.Now = func() time.Time { return now }
	porch := fleet.Actor{Kind: fleet.DeviceActor, ID: w.porch.ID, Fleet: w.home.ID, Name: w.porch.UUID}
	scopes := []string{"repository:" + w.done + ":pull,push", "repository:" + w.bad + ":pull", "repository:" + w.running + ":push"}
	token, err := w.RegistryToken(t.Context(), porch, scopes)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Pulling(t.Context(), token)
	if err != nil || p.Subject != w.porch.UUID || !p.May(w.done) || p.May(w.bad) || p.May(w.running) || p.May("") {
		t.Errorf("%+v, %v", p, err)
	}

	sign := func(change func(c *tokenClaims), method jwt.SigningMethod, key any) string {
		var c tokenClaims
		if _, _, err := jwt.NewParser().ParseUnverified(token, &c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		text, err := jwt.NewWithClaims(method, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := func(*tokenClaims) {}
	other := newWorld(t)
	for name, bad := range map[string]string{
		"nothing":                 "",
		"a session":               "a.b.c",
		"cut short":               token[:len(token)-4],
		"too long":                token + strings.Repeat("x", maxRegistryToken),
		"of another server's key": sign(good, jwt.SigningMethodES256, other.Keys.token),
		"not signed":              sign(good, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"signed otherwise":        sign(good, jwt.SigningMethodHS256, []byte("secret")),
		"of another issuer":       sign(func(c *tokenClaims) { c.Issuer = "x" }, jwt.SigningMethodES256, w.Keys.token),
		"for another registry":    sign(func(c *tokenClaims) { c.Audience = jwt.ClaimStrings{"x"} }, jwt.SigningMethodES256, w.Keys.token),
		"without an end":          sign(func(c *tokenClaims) { c.ExpiresAt = nil }, jwt.SigningMethodES256, w.Keys.token),
		"not good yet":            sign(func(c *tokenClaims) { c.NotBefore = jwt.NewNumericDate(now.Add(time.Hour)) }, jwt.SigningMethodES256, w.Keys.token),
		"of a key that is gone":   sign(func(c *tokenClaims) { c.Key = 987654321 }, jwt.SigningMethodES256, w.Keys.token),
	} {
		if p, err := w.Pulling(t.Context(), bad); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("one %s: %+v, %v", name, p, err)
		}
	}
	now = now.Add(tokenLife + time.Minute)
	if _, err := w.Pulling(t.Context(), token); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("one that has ended: %v", err)
	}
}
