package auth

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

func TestTheFirstUserLogsInWithTheOneTimePassword(t *testing.T) {
	w := newWorld(t)
	w.passwords.memory = 64
	w.write(`DELETE FROM users`)
	w.write(`DELETE FROM organizations`)
	ctx := t.Context()
	made, password, err := w.FirstUser(ctx, "admin", "Admin@Example.org", "")
	if err != nil || !made || len(password) < 20 {
		t.Fatalf("made %v, password %q, %v", made, password, err)
	}
	for _, name := range []string{"admin", " Admin ", "admin@example.org", "ADMIN@example.org"} {
		session, err := w.Login(ctx, name, password, "192.0.2.1")
		if err != nil {
			t.Fatalf("login as %q: %v", name, err)
		}
		if a, err := w.ask("Bearer "+session, "/"); err != nil || a.Name != "admin" {
			t.Errorf("session of %q is %+v's, %v", name, a, err)
		}
	}
	if made, password, err := w.FirstUser(ctx, "other", "", "long enough"); made || password != "" || err != nil {
		t.Errorf("a second start: made %v, password %q, %v", made, password, err)
	}
	if strings.Contains(w.log.String(), password) {
		t.Error("the password is in the log")
	}
}

func TestAnAccountNeedsASoundNameEmailAndPassword(t *testing.T) {
	w := newWorld(t)
	w.passwords.memory = 64
	for _, c := range []struct {
		name, email, password string
		want                  fault.Kind
	}{
		{"", "", "long enough", fault.Invalid},
		{"Ada", "", "long enough", fault.Invalid},
		{"a@b", "", "long enough", fault.Invalid},
		{"../etc", "", "long enough", fault.Invalid},
		{"-a", "", "long enough", fault.Invalid},
		{strings.Repeat("a", 40), "", "long enough", fault.Invalid},
		{"bob", "bob", "long enough", fault.Invalid},
		{"bob", "Bob <bob@example.org>", "long enough", fault.Invalid},
		{"bob", "", "short", fault.Invalid},
		{"bob", "", strings.Repeat("x", maxPassword+1), fault.Invalid},
		{"ada", "", "long enough", fault.Conflict},
	} {
		if _, err := w.NewUser(t.Context(), c.name, c.email, c.password); !fault.Is(err, c.want) {
			t.Errorf("%q %q: got %v, want %v", c.name, c.email, err, c.want)
		}
	}
	if u, err := w.NewUser(t.Context(), "bob", "Bob@Example.org", "long enough"); err != nil || u.Email != "bob@example.org" {
		t.Errorf("got %+v, %v", u, err)
	}
}

func TestWrongPasswordsAreCountedPerNameAndRightOnesForgiven(t *testing.T) {
	w := newWorld(t)
	w.passwords.memory = 64
	ctx := t.Context()
	if err := w.SetPassword(ctx, w.ada.ID, "right password"); err != nil {
		t.Fatal(err)
	}
	try := func(name, password string, want fault.Kind) {
		t.Helper()
		if _, err := w.Login(ctx, name, password, ""); !fault.Is(err, want) {
			t.Errorf("%s with %q: got %v, want %v", name, password, err, want)
		}
	}
	letIn := func(name, password string) {
		t.Helper()
		if _, err := w.Login(ctx, name, password, ""); err != nil {
			t.Errorf("%s with %q: %v", name, password, err)
		}
	}
	for range triesPerName - 1 {
		try("ada", "wrong", fault.Unauthenticated)
	}
	letIn("ada", "right password") // and so the count starts again
	for range triesPerName {
		try("ada", "wrong", fault.Unauthenticated)
	}
	try("ada", "right password", fault.Limited)
	try("ADA ", "right password", fault.Limited)
	// An account that does not exist is limited the same way, and says the same.
	for range triesPerName {
		try("nobody", "wrong", fault.Unauthenticated)
	}
	try("nobody", "wrong", fault.Limited)
	// eve has no password, and "" is not it.
	try("eve", "", fault.Unauthenticated)
	// A session cannot be used to guess on.
	actor := fleet.Actor{Kind: fleet.UserActor, ID: w.ada.ID, Name: "ada"}
	if _, err := w.Refresh(ctx, actor, "right password"); !fault.Is(err, fault.Limited) {
		t.Errorf("refresh with a password while limited: %v", err)
	}
	w.now = w.now.Add(triesWithin)
	letIn("ada", "right password")
	if strings.Contains(w.log.String(), "right password") {
		t.Error("a password is in the log")
	}
}

func TestTriesAreCountedPerAddressInBoundedMemory(t *testing.T) {
	var count tries
	now := time.Now()
	for i := range triesPerAddress {
		if wait := count.take(now, address(fmt.Sprintf("2001:db8::%x", i)), triesPerAddress); wait != 0 {
			t.Fatalf("try %d has to wait %v", i, wait)
		}
	}
	if wait := count.take(now, address("2001:db8::ffff:1%eth0"), triesPerAddress); wait != triesWithin {
		t.Errorf("the next try of the same network waits %v", wait)
	}
	if wait := count.take(now, address("2001:db8:0:1::1"), triesPerAddress); wait != 0 {
		t.Errorf("another network waits %v", wait)
	}
	if address("192.0.2.1") != address("::ffff:192.0.2.1") {
		t.Error("an IPv4 address counts twice")
	}
	for i := range triesRemembered {
		count.take(now.Add(time.Second), fmt.Sprint("name ", i), 1)
	}
	if n := len(count.windows); n > triesRemembered {
		t.Errorf("%d windows are remembered, want at most %d", n, triesRemembered)
	}
	// The windows of all those names are over: one more makes room at once.
	count.take(now.Add(triesWithin+time.Minute), "name", 1)
	if n := len(count.windows); n != 1 {
		t.Errorf("%d windows after all were over, want 1", n)
	}
}

func TestALoginThatWaitsForOthersGivesUpWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Auth{}
		release := make(chan struct{})
		for range hashesAtOnce {
			go a.argon(t.Context(), func() { <-release }) // it only takes the place
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := a.argon(ctx, func() { t.Error("a third one ran") }); !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v", err)
		}
		close(release)
		synctest.Wait()
		if err := a.argon(t.Context(), func() {}); err != nil {
			t.Error(err)
		}
	})
}

func TestOnlyASessionIsRenewedAndOnlyAPasswordMakesItFresh(t *testing.T) {
	w := newWorld(t)
	w.passwords.memory = 64
	ctx := t.Context()
	if err := w.SetPassword(ctx, w.ada.ID, "right password"); err != nil {
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
	first, err := a.hash(t.Context(), "the same")
	if err != nil || !strings.HasPrefix(first, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("kept as %q, %v", first, err)
	}
	a.passwords.memory = 64 // what is verified is the hash's own cost
	if second, err := a.hash(t.Context(), "the same"); err != nil || second[len(second)-43:] == first[len(first)-43:] {
		t.Errorf("the same password is kept as %q and %q, %v", first, second, err)
	}
	if same, err := a.verify(t.Context(), first, "the same"); err != nil || !same {
		t.Errorf("the right password: %v, %v", same, err)
	}
	if same, err := a.verify(t.Context(), first, "another"); err != nil || same {
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
