package auth

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

func TestAKeyIsGivenOnceAndKeptHashed(t *testing.T) {
	w := newWorld(t)
	secret := w.key(KeySpec{Actor: w.ada.Actor, Role: fleet.RoleNamedUser, Name: "ci", Description: "the build server"})
	if !regexp.MustCompile(`^[A-Za-z0-9]{32}$`).MatchString(secret) {
		t.Errorf("made the key %q", secret)
	}
	var hash, name, description string
	if err := w.Store.Reader().QueryRow(`SELECT key_hash, name, description FROM api_keys WHERE role = $1`,
		fleet.RoleNamedUser).Scan(&hash, &name, &description); err != nil {
		t.Fatal(err)
	}
	if hash != HashKey(secret) || hash == secret || name != "ci" || description != "the build server" {
		t.Errorf("kept hash %q, name %q, description %q", hash, name, description)
	}
}

func TestADeviceChoosesItsKeyIfItIsLongAndNew(t *testing.T) {
	w := newWorld(t)
	chosen := strings.Repeat("0123456789abcdef", 2)
	spec := KeySpec{Actor: w.porch.Actor, Role: fleet.RoleDevice, Secret: chosen}
	if got := w.key(spec); got != chosen {
		t.Errorf("got %q", got)
	}
	spec.Actor = w.trap.Actor
	if _, err := w.NewKey(t.Context(), spec); !fault.Is(err, fault.Conflict) || fault.Message(err) != `"key" must be unique.` {
		t.Errorf("another device with the same key: %v", err)
	}
	for what, bad := range map[string]KeySpec{
		"a short key":                   {Actor: w.porch.Actor, Role: fleet.RoleDevice, Secret: chosen[1:]},
		"a key with dots":               {Actor: w.porch.Actor, Role: fleet.RoleDevice, Secret: chosen + ".a.b"},
		"a key with a line break":       {Actor: w.porch.Actor, Role: fleet.RoleDevice, Secret: chosen + "\n"},
		"a very long key":               {Actor: w.porch.Actor, Role: fleet.RoleDevice, Secret: strings.Repeat("a", 256)},
		"a user's role for a device":    {Actor: w.porch.Actor, Role: fleet.RoleUser},
		"a device's role for a fleet":   {Actor: w.home.Actor, Role: fleet.RoleDevice},
		"provisioning for a user":       {Actor: w.ada.Actor, Role: fleet.RoleProvisioning},
		"an unknown role":               {Actor: w.ada.Actor, Role: "admin"},
		"nobody":                        {Actor: 999, Role: fleet.RoleUser},
		"a named key without a name":    {Actor: w.ada.Actor, Role: fleet.RoleNamedUser, Name: " "},
		"a key that has expired before": {Actor: w.ada.Actor, Role: fleet.RoleUser, Expiry: w.now.Add(-time.Second)},
	} {
		if _, err := w.NewKey(t.Context(), bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want invalid", what, err)
		}
	}
}

func TestRandomTextIsOfItsAlphabetAndNeverTheSame(t *testing.T) {
	seen, letters := map[string]bool{}, map[rune]bool{}
	for range 500 {
		s := random(32, alphanumeric)
		if len(s) != 32 || seen[s] {
			t.Fatalf("got %q again, or too short", s)
		}
		seen[s] = true
		for _, r := range s {
			letters[r] = true
		}
	}
	if len(letters) != len(alphanumeric) {
		t.Errorf("%d letters turned up of %d", len(letters), len(alphanumeric))
	}
	if p := NewPassword(); !regexp.MustCompile(`^([b-df-hjkmnp-tv-xz2-9]{4}-){4}[b-df-hjkmnp-tv-xz2-9]{4}$`).MatchString(p) {
		t.Errorf("made the password %q", p)
	}
}
