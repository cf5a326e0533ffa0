package auth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

func TestTheFirstUserIsAdministratorAndLogsInWithTheOneTimePassword(t *testing.T) {
	w := newWorld(t)
	w.hashing.memory = 64
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
		if a, err := w.ask("Bearer "+session, "/"); err != nil || a.Name != "admin" || !a.Administrator {
			t.Errorf("session of %q is %+v's, %v", name, a, err)
		}
	}
	if made, password, err := w.FirstUser(ctx, "other", "", "long enough"); made || password != "" || err != nil {
		t.Errorf("a second start: made %v, password %q, %v", made, password, err)
	}
	if strings.Contains(w.log.String(), password) {
		t.Error("the password is in the log")
	}
	if u, err := w.NewUser(ctx, "second", "", "long enough"); err != nil {
		t.Error(err)
	} else if l, err := w.Store.LoginOf(ctx, u.ID); err != nil || l.Administrator {
		t.Errorf("the second user: %+v, %v", l, err)
	}
}

func TestAnAccountNeedsASoundNameEmailAndPassword(t *testing.T) {
	w := newWorld(t)
	w.hashing.memory = 64
	for _, c := range []struct {
		name, email, password string
		want                  fault.Kind
	}{
		{"", "", "long enough", fault.Invalid},
		{"Ada", "", "long enough", fault.Invalid},
		{"a@b", "", "long enough", fault.Invalid},
		{"../etc", "", "long enough", fault.Invalid},
		{"-a", "", "long enough", fault.Invalid},
		{"balena_os", "", "long enough", fault.Invalid},
		{"builder", "", "long enough", fault.Invalid},
		{strings.Repeat("a", 40), "", "long enough", fault.Invalid},
		{"bob", "bob", "long enough", fault.Invalid},
		{"bob", "Bob <bob@example.org>", "long enough", fault.Invalid},
		{"bob", "", "short", fault.Invalid},
		{"bob", "", "bob-bob-bob-bob", fault.Invalid},
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
	if _, err := w.NewUser(t.Context(), "bobby", "BOB@example.org", "long enough"); !fault.Is(err, fault.Conflict) || fault.Message(err) != "This email is already taken" {
		t.Errorf("the same email: %v", err)
	}
}

// invite makes an invitation of ada's organization, or of her fleet, and is its token.
func (w *world) invite(email, role string, fleetID int64) string {
	w.t.Helper()
	token := NewSecret()
	w.write(`INSERT INTO invitees (created_at, modified_at, organization, email) VALUES (1, 1, $1, $2) ON CONFLICT DO NOTHING`,
		w.home.Organization, email)
	table, column, of := "organization_invites", "organization", w.home.Organization
	if fleetID != 0 {
		table, column, of = "fleet_invites", "fleet", fleetID
	}
	w.write(`INSERT INTO `+table+` (created_at, modified_at, invitee, `+column+`, role, token_hash)
		SELECT $1, $1, e.id, $2, r.id, $3 FROM invitees e, roles r WHERE e.email = $4 AND r.name = $5`,
		w.now.UnixMicro(), of, HashKey(token), email, role)
	return token
}

func TestWhoMayMakeAnAccountIsTheServersToSay(t *testing.T) {
	w := newWorld(t)
	w.hashing.memory = 8
	ctx := t.Context()
	root := fleet.Actor{Kind: fleet.UserActor, Actor: w.eve.Actor, ID: w.eve.ID, Name: "eve", Administrator: true}
	user := fleet.Actor{Kind: fleet.UserActor, ID: w.ada.ID, Name: "ada"}
	provisioning := fleet.Actor{Kind: fleet.FleetActor, ID: w.home.ID, Fleet: w.home.ID, Administrator: true} // no such thing
	n := 0
	for _, c := range []struct {
		mode                     string
		stranger, invited, mayBe fault.Kind
	}{
		// Internal is no fault at all.
		{"", fault.Denied, fault.Denied, fault.Denied},
		{RegistrationClosed, fault.Denied, fault.Denied, fault.Denied},
		{RegistrationInvited, fault.Denied, fault.Internal, fault.NotFound},
		{RegistrationOpen, fault.Internal, fault.Internal, fault.NotFound},
	} {
		w.Registration = c.mode
		w.limits = newLimits()
		for _, r := range []struct {
			who        string
			by         fleet.Actor
			invitation string
			want       fault.Kind
		}{
			{"a stranger", fleet.Actor{}, "", c.stranger},
			{"a user", user, "", c.stranger},
			{"a provisioning key", provisioning, "", c.stranger},
			{"somebody invited", fleet.Actor{}, w.invite(fmt.Sprint("guest", n, "@example.org"), "observer", 0), c.invited},
			{"somebody who guesses", fleet.Actor{}, NewSecret(), c.mayBe},
			{"an administrator", root, "", fault.Internal},
		} {
			n++
			name := fmt.Sprint("newcomer", n)
			session, err := w.Register(ctx, r.by, NewAccount{Username: name, Password: "long enough", Invitation: r.invitation})
			if r.want != fault.Internal {
				if !fault.Is(err, r.want) {
					t.Errorf("%q, %s: %v, want %v", c.mode, r.who, err, r.want)
				}
				if taken, err := w.Store.NameTaken(ctx, name); taken || err != nil {
					t.Errorf("%q, %s: there is an account all the same, %v", c.mode, r.who, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%q, %s: %v", c.mode, r.who, err)
				continue
			}
			if a, err := w.ask("Bearer "+session, "/"); err != nil || a.Name != name || a.Administrator {
				t.Errorf("%q, %s: the session is %+v's, %v", c.mode, r.who, a, err)
			}
		}
	}
	for _, by := range []fleet.Actor{{}, user, provisioning} {
		if _, err := w.Register(ctx, by, NewAccount{Username: "boss", Password: "long enough", Administrator: true}); !fault.Is(err, fault.Denied) {
			t.Errorf("%+v makes an administrator: %v", by, err)
		}
	}
	if _, err := w.Register(ctx, root, NewAccount{Username: "boss", Password: "long enough", Administrator: true}); err != nil {
		t.Error(err)
	}
}

func TestAnAccountGetsANameFromItsEmail(t *testing.T) {
	w := newWorld(t)
	w.hashing.memory = 8
	w.Registration = RegistrationOpen
	for _, c := range []struct{ email, want string }{
		{"Grace.Hopper+x@example.org", "grace-hopper-x"},
		{"ada@example.org", "ada-"}, // taken
		{"__@example.org", "user"},
		{"builder@example.org", "builder-"}, // reserved
		{strings.Repeat("long", 15) + "@example.org", strings.Repeat("long", 7) + "lo"},
	} {
		session, err := w.Register(t.Context(), fleet.Actor{}, NewAccount{Email: c.email, Password: "long enough"})
		if err != nil {
			t.Errorf("%s: %v", c.email, err)
			continue
		}
		a, err := w.ask("Bearer "+session, "/")
		if err != nil || a.Name != c.want && !(strings.HasSuffix(c.want, "-") && strings.HasPrefix(a.Name, c.want) && len(a.Name) == len(c.want)+4) {
			t.Errorf("%s is %q, %v", c.email, a.Name, err)
		}
	}
	for _, account := range []NewAccount{{Password: "long enough"}, {Email: "nothing", Password: "long enough"}} {
		if _, err := w.Register(t.Context(), fleet.Actor{}, account); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", account, err)
		}
	}
}

func TestAccountsAskedForAreLimited(t *testing.T) {
	w := newWorld(t)
	w.hashing.memory = 8
	w.Registration = RegistrationInvited
	made := func(address string) bool {
		_, err := w.Register(t.Context(), fleet.Actor{Address: address}, NewAccount{Username: "x", Password: "long enough", Invitation: "guess"})
		if !fault.Is(err, fault.Limited) && !fault.Is(err, fault.NotFound) {
			t.Fatal(err)
		}
		return fault.Is(err, fault.NotFound)
	}
	n := 0
	for range 50 {
		if made("192.0.2.1") {
			n++
		}
	}
	if n != 20 {
		t.Errorf("%d were looked at of one place", n)
	}
	for i := range 500 {
		if made(fmt.Sprintf("198.51.%d.%d", i/250, i%250)) {
			n++
		}
	}
	if n != 200 {
		t.Errorf("%d were looked at of all places", n)
	}
}

func TestAnInvitationMakesAMemberOnce(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	eve := fleet.Actor{Kind: fleet.UserActor, Actor: w.eve.Actor, ID: w.eve.ID, Name: "eve", Address: "192.0.2.1"}
	rank := func() fleet.Rank {
		t.Helper()
		r, err := w.Store.Rank(ctx, w.eve.ID, w.home.ID)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	token := w.invite("eve@example.org", "operator", 0)
	for what, actor := range map[string]fleet.Actor{"nobody": {}, "a device": {Kind: fleet.DeviceActor, ID: w.eve.ID}, "a fleet": {Kind: fleet.FleetActor, ID: w.eve.ID}} {
		if _, err := w.Accept(ctx, actor, token); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s accepts: %v", what, err)
		}
		if err := w.Decline(ctx, actor, token); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s declines: %v", what, err)
		}
	}
	if _, err := w.Accept(ctx, eve, NewSecret()); !fault.Is(err, fault.NotFound) {
		t.Errorf("a token that is none: %v", err)
	}
	if _, err := w.Accept(ctx, eve, HashKey(token)); !fault.Is(err, fault.NotFound) {
		t.Errorf("the hash for the token: %v", err)
	}
	i, err := w.Invitation(ctx, token)
	if diff := cmp.Diff([]string{"ada", "operator", "eve@example.org"}, []string{i.Name, i.Role, i.Email}); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if got := rank(); got != fleet.Member {
		t.Fatalf("before: %d", got)
	}
	if _, err := w.Accept(ctx, eve, token); err != nil || rank() != fleet.Operator {
		t.Fatalf("accepted: %v, rank %d", err, rank())
	}
	if _, err := w.Accept(ctx, eve, token); !fault.Is(err, fault.NotFound) {
		t.Errorf("accepted again: %v", err)
	}
	var left int
	if err := w.Store.Reader().QueryRow(`SELECT COUNT(*) FROM invitees`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d addresses of invited people are kept, %v", left, err)
	}

	// A lower role changes nothing, a higher one does.
	if _, err := w.Accept(ctx, eve, w.invite("eve@example.org", "observer", 0)); err != nil || rank() != fleet.Operator {
		t.Errorf("invited for less: %v, rank %d", err, rank())
	}
	if _, err := w.Accept(ctx, eve, w.invite("eve@example.org", "developer", 0)); err != nil || rank() != fleet.Developer {
		t.Errorf("invited for more: %v, rank %d", err, rank())
	}
	// To a fleet alone.
	w.write(`DELETE FROM organization_memberships WHERE user_id = $1 AND organization = $2`, w.eve.ID, w.home.Organization)
	if _, err := w.Accept(ctx, eve, w.invite("eve@example.org", "observer", w.home.ID)); err != nil || rank() != fleet.Observer {
		t.Errorf("invited to the fleet: %v, rank %d", err, rank())
	}
	if r, err := w.Store.Rank(ctx, w.eve.ID, w.barn.ID); err != nil || r != 0 {
		t.Errorf("and to another fleet: rank %d, %v", r, err)
	}

	old := w.invite("eve@example.org", "developer", w.home.ID)
	w.now = w.now.Add(store.InviteLife)
	if _, err := w.Accept(ctx, eve, old); !fault.Is(err, fault.NotFound) {
		t.Errorf("an old one: %v", err)
	}
	if _, err := w.Invitation(ctx, old); !fault.Is(err, fault.NotFound) {
		t.Errorf("an old one is shown: %v", err)
	}
	declined := w.invite("new@example.org", "developer", w.home.ID)
	if err := w.Decline(ctx, eve, declined); err != nil {
		t.Error(err)
	}
	if _, err := w.Accept(ctx, eve, declined); !fault.Is(err, fault.NotFound) || rank() != fleet.Observer {
		t.Errorf("one that was declined: %v", err)
	}
	want := []string{
		`accept invitee__is_invited_to__organization 1 by user eve from 192.0.2.1 {"role":"operator"}`,
		`accept invitee__is_invited_to__organization 2 by user eve from 192.0.2.1 {"role":"observer"}`,
		`accept invitee__is_invited_to__organization 3 by user eve from 192.0.2.1 {"role":"developer"}`,
		`accept invitee__is_invited_to__application 1 by user eve from 192.0.2.1 {"role":"observer"}`,
		`decline invitee__is_invited_to__application 3 by user eve from 192.0.2.1 {"role":"developer"}`,
	}
	if diff := cmp.Diff(want, w.trail("accept", "decline")); diff != "" {
		t.Error(diff)
	}
}

func TestAnAccountMadeByInvitationIsAMemberOrIsNotMade(t *testing.T) {
	w := newWorld(t)
	w.hashing.memory = 8
	w.Registration = RegistrationInvited
	ctx := t.Context()
	token := w.invite("grace@example.org", "developer", 0)
	if _, err := w.Register(ctx, fleet.Actor{}, NewAccount{Username: "ada", Password: "long enough", Invitation: token}); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a name that is taken: %v", err)
	}
	// The invitation is still good, and says the email.
	session, err := w.Register(ctx, fleet.Actor{Address: "192.0.2.1"}, NewAccount{Password: "long enough", Invitation: token})
	if err != nil {
		t.Fatal(err)
	}
	a, err := w.ask("Bearer "+session, "/")
	if err != nil || a.Name != "grace" {
		t.Fatalf("the session is %+v's, %v", a, err)
	}
	if err := w.May(ctx, a, w.home.ID, fleet.Developer); err != nil {
		t.Error(err)
	}
	if err := w.May(ctx, a, w.home.ID, fleet.Owner); !fault.Is(err, fault.Denied) {
		t.Errorf("owner: %v", err)
	}
	if l, err := w.Store.LoginOf(ctx, a.ID); err != nil || l.Email != "grace@example.org" {
		t.Errorf("%+v, %v", l.User, err)
	}
	if _, err := w.Register(ctx, fleet.Actor{}, NewAccount{Username: "twice", Password: "long enough", Invitation: token}); !fault.Is(err, fault.NotFound) {
		t.Errorf("used twice: %v", err)
	}
	if taken, err := w.Store.NameTaken(ctx, "twice"); taken || err != nil {
		t.Errorf("an account without its invitation: %v", err)
	}
	trail := w.trail("create")
	if want := fmt.Sprintf(`create user %d by user grace from 192.0.2.1 {"username":"grace"}`, a.ID); trail[len(trail)-1] != want {
		t.Errorf("on the trail is %s", trail[len(trail)-1])
	}
}

func TestAChangedPasswordEndsTheSessionsAndNotTheKeys(t *testing.T) {
	w := quick(t)
	ctx := t.Context()
	session, err := w.Login(ctx, "ada", right, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	key := w.key(KeySpec{Actor: w.ada.Actor, Role: fleet.RoleUser})
	actor, err := w.ask("Bearer "+session, "/")
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		actor        fleet.Actor
		current, new string
		want         fault.Kind
	}{
		"a wrong password":  {actor, "wrong", "another password", fault.Unauthenticated},
		"the same password": {actor, right, right, fault.Invalid},
		"a weak password":   {actor, right, "password123", fault.Invalid},
		"a device":          {fleet.Actor{Kind: fleet.DeviceActor, ID: w.ada.ID, Name: "ada"}, right, "another password", fault.Unauthenticated},
		"nobody":            {fleet.Actor{}, right, "another password", fault.Unauthenticated},
	} {
		if _, err := w.ChangePassword(ctx, c.actor, c.current, c.new); !fault.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := w.ask("Bearer "+session, "/"); err != nil {
		t.Fatalf("a refused change ends the session: %v", err)
	}
	fresh, err := w.ChangePassword(ctx, actor, right, "another password")
	if err != nil {
		t.Fatal(err)
	}
	w.refusedToken("the old session", session)
	for what, token := range map[string]string{"the new session": fresh, "an API key": key} {
		if a, err := w.ask("Bearer "+token, "/"); err != nil || a.ID != w.ada.ID {
			t.Errorf("%s: %+v, %v", what, a, err)
		}
	}
	if old, now := w.try("ada", right, ""), w.try("ada", "another password", ""); old != "wrong" || now != "in" {
		t.Errorf("the old password is %s, the new one %s", old, now)
	}
	trail := w.trail("change")
	if want := fmt.Sprintf(`change user %d by user ada from 192.0.2.1 {"changed":["password"]}`, w.ada.ID); trail[len(trail)-1] != want {
		t.Errorf("on the trail is %s", trail[len(trail)-1])
	}
}

func (w *world) refusedToken(what, token string) {
	w.t.Helper()
	if _, err := w.ask("Bearer "+token, "/"); !fault.Is(err, fault.Unauthenticated) {
		w.t.Errorf("%s: %v", what, err)
	}
}

func TestAnAccountEndsUnlessSomethingIsLeftWithoutAnOwner(t *testing.T) {
	w := newWorld(t)
	w.hashing.memory = 8
	ctx := t.Context()
	actor := func(u fleet.User) fleet.Actor {
		return fleet.Actor{Kind: fleet.UserActor, Actor: u.Actor, ID: u.ID, Name: u.Username}
	}
	if err := w.DeleteAccount(ctx, actor(w.ada)); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Message(err), "ada") {
		t.Errorf("the owner of fleets: %v", err)
	}
	if err := w.DeleteAccount(ctx, fleet.Actor{Kind: fleet.DeviceActor, ID: w.ada.ID}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a device: %v", err)
	}
	bob := w.user("bob")
	key, session := w.key(KeySpec{Actor: bob.Actor, Role: fleet.RoleUser}), w.session(bob)
	join := func(user, organization int64, role string) {
		w.write(`INSERT INTO organization_memberships (created_at, modified_at, user_id, organization, role)
			SELECT 1, 1, $1, $2, id FROM roles WHERE name = $3`, user, organization, role)
	}
	organization := func(u fleet.User) (id int64) {
		if err := w.Store.Reader().QueryRow(`SELECT id FROM organizations WHERE handle = $1`, u.Username).Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	// Others are in his organization, and none of them owns it.
	join(w.eve.ID, organization(bob), "developer")
	if err := w.DeleteAccount(ctx, actor(bob)); !fault.Is(err, fault.Conflict) {
		t.Errorf("the owner of others' organization: %v", err)
	}
	w.write(`DELETE FROM organization_memberships WHERE user_id = $1 AND organization = $2`, w.eve.ID, organization(bob))
	if err := w.Store.SetAdministrator(ctx, fleet.Actor{}, bob.ID, true); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteAccount(ctx, actor(bob)); !fault.Is(err, fault.Conflict) {
		t.Errorf("the last administrator: %v", err)
	}
	if err := w.Store.SetAdministrator(ctx, fleet.Actor{}, bob.ID, false); !fault.Is(err, fault.Conflict) {
		t.Errorf("the last administrator is none any more: %v", err)
	}
	if err := w.Store.SetAdministrator(ctx, fleet.Actor{}, w.eve.ID, true); err != nil {
		t.Fatal(err)
	}
	join(bob.ID, w.home.Organization, "owner") // one of two
	if err := w.DeleteAccount(ctx, actor(bob)); err != nil {
		t.Fatal(err)
	}
	w.refusedToken("his key", key)
	w.refusedToken("his session", session)
	if taken, err := w.Store.NameTaken(ctx, "bob"); taken || err != nil {
		t.Errorf("his name and organization are there: %v", err)
	}
	if err := w.May(ctx, actor(w.ada), w.home.ID, fleet.Owner); err != nil {
		t.Errorf("what he owned with others: %v", err)
	}
	if err := w.Store.DeleteUser(ctx, fleet.Actor{}, bob.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("again: %v", err)
	}
	// With a second owner ada may go, and her fleets stay.
	join(w.eve.ID, w.home.Organization, "owner")
	if err := w.DeleteAccount(ctx, actor(w.ada)); err != nil {
		t.Error(err)
	}
	if _, err := w.Store.MemberFleet(ctx, w.eve.ID, "ada/home"); err != nil {
		t.Errorf("her fleet: %v", err)
	}
}

func TestARegistryTokenEndsWithWhatItWasGotWith(t *testing.T) {
	w := newWorld(t)
	w.hashing.memory = 8
	ctx := t.Context()
	token := func(actor fleet.Actor) string {
		t.Helper()
		token, err := w.RegistryToken(ctx, actor, []string{"repository:" + w.done + ":pull"})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	asked := func(secret string) fleet.Actor {
		t.Helper()
		a, err := w.ask("Bearer "+secret, "/")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	current := func(what, token string, want bool) {
		t.Helper()
		if got, err := w.Current(ctx, token); got != want || err != nil {
			t.Errorf("%s is current: %v, %v", what, got, err)
		}
	}
	builders, err := w.BuilderToken(w.running)
	if err != nil {
		t.Fatal(err)
	}
	key := w.key(KeySpec{Actor: w.ada.Actor, Role: fleet.RoleNamedUser, Name: "ci"})
	brief := w.key(KeySpec{Actor: w.ada.Actor, Role: fleet.RoleNamedUser, Name: "brief", Expiry: w.now.Add(time.Minute)})
	ofKey, ofBrief := token(asked(key)), token(asked(brief))
	ofSession, ofDevice, ofNobody := token(asked(w.session(w.ada))), token(asked(w.porchKey)), token(fleet.Actor{})
	all := map[string]string{"a key's": ofKey, "a brief key's": ofBrief, "a session's": ofSession, "a device's": ofDevice,
		"nobody's": ofNobody, "a builder's": builders, "what is no token": key, "nothing": ""}
	for what, token := range all {
		current(what, token, true)
	}
	current("a very long token", strings.Repeat("a", maxRegistryToken+1), false)
	w.now = w.now.Add(time.Minute)
	current("an expired key's", ofBrief, false)
	current("another key's", ofKey, true)
	w.write(`DELETE FROM api_keys WHERE key_hash = $1`, HashKey(key))
	current("a revoked key's", ofKey, false)
	if err := w.SetPassword(ctx, fleet.Actor{}, w.ada.ID, "another password"); err != nil {
		t.Fatal(err)
	}
	current("an ended session's", ofSession, false)
	w.write(`DELETE FROM devices WHERE id = $1`, w.porch.ID)
	current("a deleted device's", ofDevice, false)
	current("a builder's", builders, true)
	ofEve := token(asked(w.session(w.eve)))
	w.write(`DELETE FROM users WHERE id = $1`, w.eve.ID)
	current("a deleted user's", ofEve, false)
}
