package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fleet"
)

// linkLife is how long an address that carries its own credentials is good: long enough to follow it.
const linkLife = 15 * time.Minute

// linked is who an address was made for. It is no session and no API key, and opens nothing but what takes it.
type linked struct {
	Kind   fleet.ActorKind `json:"k"`
	Actor  int64           `json:"a,omitempty"`
	ID     int64           `json:"i,omitempty"`
	Fleet  int64           `json:"f,omitempty"`
	Key    int64           `json:"y,omitempty"` // the API key that asked for the address; it must still be good
	Expiry int64           `json:"e"`           // seconds since 1970
}

// Link is what an address carries that stock clients fetch without credentials: in their place, for a quarter of an
// hour, the actor's own. It has letters, digits, dashes, underscores and one dot.
func (a *Auth) Link(actor fleet.Actor) string {
	about, err := json.Marshal(linked{actor.Kind, actor.Actor, actor.ID, actor.Fleet, actor.Key, a.now().Add(linkLife).Unix()})
	if err != nil {
		panic(err) // numbers always encode
	}
	return base64.RawURLEncoding.EncodeToString(about) + "." + base64.RawURLEncoding.EncodeToString(a.seal(about))
}

// Linked is the actor that a Link was made for. What has been changed, is too old, or was made with an API key that is
// gone, is fault.Unauthenticated.
func (a *Auth) Linked(ctx context.Context, link string) (fleet.Actor, error) {
	body, mac, _ := strings.Cut(link, ".")
	about, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || len(link) > maxToken {
		return fleet.Actor{}, errCredentials()
	}
	given, err := base64.RawURLEncoding.DecodeString(mac)
	if err != nil || !hmac.Equal(given, a.seal(about)) {
		return fleet.Actor{}, errCredentials()
	}
	var l linked
	if json.Unmarshal(about, &l) != nil || a.now().Unix() > l.Expiry {
		return fleet.Actor{}, errCredentials()
	}
	if l.Key != 0 {
		stands, err := a.Store.KeyStands(ctx, l.Key, a.now())
		if err != nil {
			return fleet.Actor{}, err
		}
		if !stands {
			return fleet.Actor{}, errCredentials()
		}
	}
	return fleet.Actor{Kind: l.Kind, Actor: l.Actor, ID: l.ID, Fleet: l.Fleet, Key: l.Key}, nil
}

// seal is what only this server can make of an address. Its key is another than that of sessions.
func (a *Auth) seal(about []byte) []byte {
	derived := hmac.New(sha256.New, a.Keys.session)
	derived.Write([]byte("address with credentials"))
	mac := hmac.New(sha256.New, derived.Sum(nil))
	mac.Write(about)
	return mac.Sum(nil)
}
