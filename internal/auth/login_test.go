package auth

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

const right = "the right password"

// quick is a world whose passwords are cheap to try, and ada's is right.
func quick(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.hashing.memory = 8
	if err := w.SetPassword(t.Context(), fleet.Actor{}, w.ada.ID, right); err != nil {
		t.Fatal(err)
	}
	return w
}

// try logs in and says what came of it: "in", "wrong" or "wait".
func (w *world) try(name, password, address string) string {
	w.t.Helper()
	_, err := w.Login(w.t.Context(), name, password, address)
	switch {
	case err == nil:
		return "in"
	case fault.Is(err, fault.Unauthenticated):
		return "wrong"
	case fault.Is(err, fault.Limited) && fault.RetryAfter(err) > 0:
		return "wait"
	}
	w.t.Fatalf("log in as %s from %s: %v", name, address, err)
	return ""
}

func TestWrongPasswordsAreLimitedForAnAccountAndForAName(t *testing.T) {
	w := quick(t)
	for _, name := range []string{"ada", "nobody-here"} { // who cannot tell the two apart
		for i := range 10 {
			if got := w.try(name, "wrong", ""); got != "wrong" {
				t.Fatalf("%s, try %d: %s", name, i, got)
			}
		}
		for _, spelling := range []string{name, strings.ToUpper(name) + " "} {
			if got := w.try(spelling, right, ""); got != "wait" {
				t.Errorf("%s after ten wrong passwords: %s", spelling, got)
			}
		}
	}
	_, err := w.Login(t.Context(), "ada", right, "")
	if wait := fault.RetryAfter(err); wait != 20*60 {
		t.Errorf("told to wait %d s", wait)
	}
	w.now = w.now.Add(20 * time.Minute)
	if got := w.try("ada", right, ""); got != "in" {
		t.Errorf("after that: %s", got)
	}
	// A user without a password is let in by none.
	if got := w.try("eve", "", ""); got != "wrong" {
		t.Errorf("the empty password: %s", got)
	}
	if strings.Contains(w.log.String(), right) {
		t.Error("a password is in the log")
	}
}

func TestRightPasswordsAreNotCounted(t *testing.T) {
	w := quick(t)
	for i := range 150 {
		if got := w.try("ada", right, "192.0.2.1"); got != "in" {
			t.Fatalf("login %d: %s", i, got)
		}
	}
	for i := range 150 {
		if got := w.try("ada", right, ""); got != "in" {
			t.Fatalf("login %d from nowhere: %s", i, got)
		}
	}
}

// A stranger with as many addresses as he likes, at one account, for a day: what reaches the hash.
func TestABruteForceOfADayIsAllowedEightyGuesses(t *testing.T) {
	w := quick(t)
	begin, guesses, refused := w.now, 0, 0
	for i := 0; w.now.Sub(begin) < 24*time.Hour; i++ {
		switch w.try("ada", fmt.Sprint("guess ", i), fmt.Sprintf("198.51.%d.%d", i/250%100, i%250)) {
		case "wrong":
			guesses++
		case "wait":
			refused++
		}
		w.now = w.now.Add(30 * time.Second)
	}
	t.Logf("%d guesses were let through, %d were refused", guesses, refused)
	if guesses > 10+3*24 || guesses < 3*24 {
		t.Errorf("%d guesses in a day", guesses)
	}
}

// The same with one address and all the names there are.
func TestASprayOfADayFromOnePlaceIsBounded(t *testing.T) {
	w := quick(t)
	begin, guesses := w.now, 0
	for i := 0; w.now.Sub(begin) < 24*time.Hour; i++ {
		if w.try(fmt.Sprint("name", i), "Summer2026!", fmt.Sprintf("2001:db8::%x", i)) == "wrong" {
			guesses++
		}
		w.now = w.now.Add(20 * time.Second)
	}
	if guesses > 100+50*24 || guesses < 50*24 {
		t.Errorf("%d guesses in a day", guesses)
	}
	if got := w.try("ada", right, "2001:db8::1"); got == "wrong" {
		t.Error("the right password is wrong")
	}
	if got := w.try("ada", right, "2001:db8:0:1::1"); got != "in" {
		t.Errorf("from another network: %s", got)
	}
}

// Nobody can be locked out of the places where he logs in, also not over a restart of the server.
func TestAnAttackDoesNotLockOutTheUserAtHome(t *testing.T) {
	w := quick(t)
	if got := w.try("ada", right, "192.0.2.1"); got != "in" {
		t.Fatal(got)
	}
	attack := func(n int) {
		for i := range n {
			w.try("ada", "wrong", fmt.Sprintf("198.51.100.%d", i))
		}
	}
	for day := range 5 {
		attack(30)
		if got := w.try("ada", right, "198.51.100.77"); got != "wait" {
			t.Fatalf("day %d, somewhere new: %s", day, got)
		}
		// She mistypes it too.
		if first, then := w.try("ada", "teh right password", "192.0.2.1"), w.try("ada", right, "192.0.2.1"); first != "wrong" || then != "in" {
			t.Fatalf("day %d, at home: %s, then %s", day, first, then)
		}
		w.limits = newLimits() // the restart
		attack(30)
		w.now = w.now.Add(24 * time.Hour)
	}
	// A right one at home forgives all that went wrong there before.
	for range 3 {
		for range 9 {
			w.try("ada", "wrong", "192.0.2.1")
		}
		if got := w.try("ada", right, "192.0.2.1"); got != "in" {
			t.Fatalf("after nine wrong ones at home: %s", got)
		}
	}
	// Whoever is in the same place can, for a while.
	for range 10 {
		w.try("ada", "wrong", "192.0.2.1")
	}
	if got := w.try("ada", right, "192.0.2.1"); got != "wait" {
		t.Errorf("after ten wrong ones at home: %s", got)
	}
	w.now = w.now.Add(placeKnown + time.Hour)
	attack(30)
	if got := w.try("ada", right, "192.0.2.1"); got != "wait" {
		t.Errorf("a place of long ago: %s", got)
	}
}

// The user's own login from somewhere new gives the attacker no fresh guesses.
func TestARightPasswordForgivesNobodyElse(t *testing.T) {
	w := quick(t)
	for range 9 {
		w.try("ada", "wrong", "198.51.100.1")
	}
	if got := w.try("ada", right, "203.0.113.1"); got != "in" {
		t.Fatal(got)
	}
	if tenth, next := w.try("ada", "wrong", "198.51.100.2"), w.try("ada", "wrong", "198.51.100.3"); tenth != "wrong" || next != "wait" {
		t.Errorf("the tenth guess: %s, the one after it: %s", tenth, next)
	}
}

func TestTheLatestPlacesAreRemembered(t *testing.T) {
	w := quick(t)
	for i := range 40 {
		w.now = w.now.Add(time.Minute)
		if got := w.try("ada", right, fmt.Sprintf("192.0.2.%d", i)); got != "in" {
			t.Fatal(got)
		}
	}
	var n int
	if err := w.Store.Reader().QueryRow(`SELECT COUNT(*) FROM login_places`).Scan(&n); err != nil || n != 16 {
		t.Errorf("%d places are remembered, %v", n, err)
	}
	for place, want := range map[string]bool{"192.0.2.39": true, "192.0.2.24": true, "192.0.2.23": false} {
		if known, err := w.Store.KnowsPlace(t.Context(), w.ada.ID, place, w.now.Add(-time.Hour)); known != want || err != nil {
			t.Errorf("%s is known: %v, %v", place, known, err)
		}
	}
	if known, err := w.Store.KnowsPlace(t.Context(), w.eve.ID, "192.0.2.39", w.now.Add(-time.Hour)); known || err != nil {
		t.Errorf("ada's place is eve's: %v", err)
	}
}

// Names without end take no more memory than ten thousand, and no account's count is lost among them.
func TestAFloodOfNamesForgetsNoAccount(t *testing.T) {
	w := quick(t)
	for range 10 {
		w.try("ada", "wrong", "")
	}
	for i := range 200_000 {
		w.limits.names.take(w.now, fmt.Sprint("name ", i))
		w.limits.addresses.take(w.now, fmt.Sprint("place ", i))
	}
	if n, m := len(w.limits.names.keys), len(w.limits.addresses.keys); n != strangersKept || m != strangersKept {
		t.Errorf("%d names and %d places are remembered", n, m)
	}
	if got := w.try("ada", right, ""); got != "wait" {
		t.Errorf("ada after the flood: %s", got)
	}
}

// A stolen session is no way round the limit, and the owner's session no victim of others' wrong passwords.
func TestAPasswordWithASessionIsCountedApart(t *testing.T) {
	w := quick(t)
	actor := fleet.Actor{Kind: fleet.UserActor, ID: w.ada.ID, Name: "ada", Address: "203.0.113.1"}
	for i := range 30 {
		w.try("ada", "wrong", fmt.Sprintf("198.51.100.%d", i))
	}
	if _, err := w.Refresh(t.Context(), actor, right); err != nil {
		t.Errorf("refresh while strangers try: %v", err)
	}
	for i := range 10 {
		if _, err := w.Refresh(t.Context(), actor, "wrong"); !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	if _, err := w.Refresh(t.Context(), actor, right); !fault.Is(err, fault.Limited) {
		t.Errorf("after ten wrong ones: %v", err)
	}
	if _, err := w.ChangePassword(t.Context(), actor, right, "another password"); !fault.Is(err, fault.Limited) {
		t.Errorf("a change of the password: %v", err)
	}
}

func TestKeysAndSessionsThatAreNotGoodAreLimitedAndGoodOnesPass(t *testing.T) {
	w := newWorld(t)
	wrong := "Bearer " + strings.Repeat("x", 32)
	for i := range 1000 {
		if _, err := w.ask(wrong, "/"); !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	if _, err := w.ask(wrong, "/"); !fault.Is(err, fault.Limited) || fault.RetryAfter(err) != 1 {
		t.Errorf("the next: %v, wait %d", err, fault.RetryAfter(err))
	}
	if a, err := w.ask("Bearer "+w.porchKey, "/"); err != nil || a.ID != w.porch.ID {
		t.Errorf("a device beside it: %+v, %v", a, err)
	}
	w.now = w.now.Add(time.Second)
	if _, err := w.ask(wrong, "/"); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a second later: %v", err)
	}
}

func TestAHashOfLessWorkIsRenewedAtTheLogin(t *testing.T) {
	w := quick(t)
	before, err := w.Store.LoginOf(t.Context(), w.ada.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.hashing.memory = 64
	if got := w.try("ada", "wrong", ""); got != "wrong" {
		t.Fatal(got)
	}
	if login, err := w.Store.LoginOf(t.Context(), w.ada.ID); err != nil || login != before {
		t.Errorf("a wrong password changed %+v to %+v, %v", before, login, err)
	}
	if got := w.try("ada", right, ""); got != "in" {
		t.Fatal(got)
	}
	after, err := w.Store.LoginOf(t.Context(), w.ada.ID)
	if err != nil || !strings.Contains(after.PasswordHash, "m=64,") || after.JWTSecret != before.JWTSecret {
		t.Errorf("kept as %+v, was %+v, %v", after, before, err)
	}
	for _, memory := range []uint32{64, 8} { // and is not renewed again, nor made weaker
		w.hashing.memory = memory
		if got := w.try("ada", right, ""); got != "in" {
			t.Fatal(got)
		}
		if again, err := w.Store.LoginOf(t.Context(), w.ada.ID); err != nil || again != after {
			t.Errorf("with %d: kept as %+v, was %+v, %v", memory, again, after, err)
		}
	}
	// One whose password was changed meanwhile keeps the new one.
	if err := w.Store.Rehash(t.Context(), w.ada.ID, before.PasswordHash, "stale"); err != nil {
		t.Fatal(err)
	}
	if again, err := w.Store.LoginOf(t.Context(), w.ada.ID); err != nil || again != after {
		t.Errorf("a stale hash came through: %+v, %v", again, err)
	}
}

// trail is what the audit trail has of the verbs, in order, without the making of the world.
func (w *world) trail(verbs ...string) (all []string) {
	w.t.Helper()
	rows, err := w.Store.Reader().Query(`SELECT verb, resource, actor_kind, actor_name, address, COALESCE(row_id, 0), details FROM audit_events ORDER BY id`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var verb, resource, kind, name, address, details string
		var row int64
		if err := rows.Scan(&verb, &resource, &kind, &name, &address, &row, &details); err != nil {
			w.t.Fatal(err)
		}
		if !json.Valid([]byte(details)) || strings.Contains(details, right) {
			w.t.Errorf("details %s", details)
		}
		if slices.Contains(verbs, verb) {
			all = append(all, fmt.Sprintf("%s %s %d by %s %s from %s %s", verb, resource, row, kind, name, address, details))
		}
	}
	return all
}

func TestLoginsAreOnTheTrailWithoutTheirPasswords(t *testing.T) {
	w := quick(t)
	w.try("ada", right, "192.0.2.1")
	w.try("ada", "mistyped", "192.0.2.2")
	w.try(right, "typed in the wrong field", "192.0.2.3")
	want := []string{
		fmt.Sprintf("login user %d by user ada from 192.0.2.1 {}", w.ada.ID),
		fmt.Sprintf(`refuse user %d by nobody  from 192.0.2.2 {"username":"ada"}`, w.ada.ID),
		"refuse user 0 by nobody  from 192.0.2.3 {}",
	}
	if diff := cmp.Diff(want, w.trail("login", "refuse")); diff != "" {
		t.Error(diff)
	}
	// A flood of them does not fill the disk.
	for i := range 1500 {
		w.Auth.refused(t.Context(), attempt{address: fmt.Sprint(i)}, store.Login{})
	}
	if n := len(w.trail("refuse")); n != 1000 {
		t.Errorf("%d rows after 1502 refusals", n)
	}
}
