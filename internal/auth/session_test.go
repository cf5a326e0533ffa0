package auth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

func TestALoginThatWaitsForOthersGivesUpWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Auth{}
		release := make(chan struct{})
		for range hashesAtOnce {
			go a.hashing.argon(t.Context(), func() { <-release }) // it only takes the place
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := a.hashing.argon(ctx, func() { t.Error("a third one ran") }); !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v", err)
		}
		close(release)
		synctest.Wait()
		if err := a.hashing.argon(t.Context(), func() {}); err != nil {
			t.Error(err)
		}
	})
}

func TestOnlyASessionIsRenewedAndOnlyAPasswordMakesItFresh(t *testing.T) {
	w := newWorld(t)
	w.hashing.memory = 64
	ctx := t.Context()
	if err := w.SetPassword(ctx, fleet.Actor{}, w.ada.ID, "right password"); err != nil {
		t.Fatal(err)
	}
	fresh := func(token string) error {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		return w.Fresh(r)
	}
	session, err := w.Login(ctx, "ada", "right password", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh(session); err != nil {
		t.Errorf("a new session is not fresh: %v", err)
	}
	w.now = w.now.Add(freshFor)
	if err := fresh(session); !fault.Is(err, fault.Unauthenticated) || fault.Message(err) != "Fresh authentication token required" {
		t.Errorf("after 20 minutes: %v", err)
	}
	actor, err := w.ask("Bearer "+session, "/")
	if err != nil {
		t.Fatal(err)
	}
	if session, err = w.Refresh(ctx, actor, ""); err != nil {
		t.Fatal(err)
	}
	if err := fresh(session); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a session renewed without a password is fresh: %v", err)
	}
	w.now = w.now.Add(sessionLife - time.Minute)
	if _, err := w.ask("Bearer "+session, "/"); err != nil {
		t.Errorf("a renewed session does not last: %v", err)
	}
	if session, err = w.Refresh(ctx, actor, "right password"); err != nil {
		t.Fatal(err)
	}
	if err := fresh(session); err != nil {
		t.Errorf("a session renewed with the password: %v", err)
	}
	if _, err := w.Refresh(ctx, actor, "wrong password"); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a wrong password: %v", err)
	}
	key := w.key(KeySpec{Actor: w.ada.Actor, Role: fleet.RoleUser})
	if err := fresh(key); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("an API key is fresh: %v", err)
	}
	holder, err := w.ask("Bearer "+key, "/")
	if err != nil {
		t.Fatal(err)
	}
	for who, actor := range map[string]fleet.Actor{"an API key": holder, "nobody": {}, "a device": {Kind: fleet.DeviceActor, ID: w.ada.ID}} {
		for _, password := range []string{"", "right password"} {
			if _, err := w.Refresh(ctx, actor, password); !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%s got a session: %v", who, err)
			}
		}
	}
}

func TestAPasswordIsKeptAsAnExpensiveHashOfItsOwnSalt(t *testing.T) {
	var a Auth
	first, err := a.hashing.hash(t.Context(), "the same")
	if err != nil || !strings.HasPrefix(first, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("kept as %q, %v", first, err)
	}
	a.hashing.memory = 64 // what is verified is the hash's own cost
	if second, err := a.hashing.hash(t.Context(), "the same"); err != nil || second[len(second)-43:] == first[len(first)-43:] {
		t.Errorf("the same password is kept as %q and %q, %v", first, second, err)
	}
	if same, err := a.hashing.verify(t.Context(), first, "the same"); err != nil || !same {
		t.Errorf("the right password: %v, %v", same, err)
	}
	if same, err := a.hashing.verify(t.Context(), first, "another"); err != nil || same {
		t.Errorf("a wrong password: %v, %v", same, err)
	}
}

func TestAHashThatCostsTooMuchIsNotWorkedOn(t *testing.T) {
	salt, key := strings.Repeat("A", 22), strings.Repeat("A", 43)
	for _, c := range []struct {
		phc string
		ok  bool
	}{
		{"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + key, true},
		{"$argon2id$v=19$m=1048576,t=2,p=1$" + salt + "$" + key, false},
		{"$argon2id$v=19$m=19456,t=99,p=1$" + salt + "$" + key, false},
		{"$argon2id$v=19$m=19456,t=0,p=1$" + salt + "$" + key, false},
		{"$argon2id$v=19$m=19456,t=2,p=0$" + salt + "$" + key, false},
		{"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$", false},
		{"$argon2i$v=19$m=19456,t=2,p=1$" + salt + "$" + key, false},
		{"$2y$10$abcdefghijklmnopqrstuv", false},
		{"", false},
	} {
		if _, ok := parsePHC(c.phc); ok != c.ok {
			t.Errorf("%q: %v, want %v", c.phc, ok, c.ok)
		}
	}
}
