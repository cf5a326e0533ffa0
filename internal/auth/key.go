package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// KeySpec describes an API key to make.
type KeySpec struct {
	Actor             int64  // who will hold it
	Role              string // a fleet.Role that fits the actor's kind
	Name, Description string // a named-user-api-key needs a name
	Expiry            time.Time
	Secret            string      // chosen by a device; "" lets the server make one
	By                fleet.Actor // who makes it; the zero Actor is the server itself
}

var keyText = regexp.MustCompile(`^[A-Za-z0-9_-]{32,255}$`)

// NewKey makes an API key and returns it for the only time: the database has its hash alone. A key that is there
// already is fault.Conflict with the protocol's words, `"key" must be unique.`. Whether the caller may make a key
// for that actor is for the caller to know.
func (a *Auth) NewKey(ctx context.Context, spec KeySpec) (secret string, err error) {
	secret = spec.Secret
	if secret == "" {
		secret = NewSecret()
	}
	if err := CheckKey(secret); err != nil {
		return "", err
	}
	if spec.Role == fleet.RoleNamedUser && strings.TrimSpace(spec.Name) == "" {
		return "", fault.New(fault.Invalid, "an API key of a user needs a name")
	}
	if !spec.Expiry.IsZero() && !spec.Expiry.After(a.now()) {
		return "", fault.New(fault.Invalid, "the expiry date has passed already")
	}
	if _, err := a.Store.AddKey(ctx, store.NewKey{Actor: spec.Actor, Role: spec.Role, Hash: HashKey(secret),
		Name: spec.Name, Description: spec.Description, Expiry: spec.Expiry, By: spec.By}); err != nil {
		return "", err
	}
	return secret, nil
}

// CheckKey says whether a key that a device chose is one the server takes. A key has no dot, so that it cannot be
// mistaken for a session.
func CheckKey(secret string) error {
	if !keyText.MatchString(secret) {
		return fault.New(fault.Invalid, "an API key is 32 to 255 letters, digits, dashes and underscores")
	}
	return nil
}

// HashKey is the form in which the database knows an API key: hex SHA-256. A key is random and long, so a fast hash
// without salt is enough.
func HashKey(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// NewSecret makes an API key: 32 letters and digits, 190 bits.
func NewSecret() string { return random(32, alphanumeric) }

const (
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	// unmistakable leaves out what looks or sounds alike, and vowels, so that no word comes out.
	unmistakable = "bcdfghjkmnpqrstvwxz23456789"
)

// NewPassword makes a password to copy by hand: five groups of four, 95 bits.
func NewPassword() string {
	groups := make([]string, 5)
	for i := range groups {
		groups[i] = random(4, unmistakable)
	}
	return strings.Join(groups, "-")
}

// random is n letters of an alphabet, each as likely as any other.
func random(n int, alphabet string) string {
	text := make([]byte, 0, n)
	limit := 256 - 256%len(alphabet) // bytes from here on would favour the first letters
	buf := make([]byte, 2*n)
	for len(text) < n {
		rand.Read(buf) // it never fails
		for _, b := range buf {
			if int(b) < limit && len(text) < n {
				text = append(text, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(text)
}
