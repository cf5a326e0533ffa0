package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
)

func TestAnInvitationsTokenIsToldOnceAndOnlyItsHashKept(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	for _, c := range []struct{ resource, of, role, otherwise string }{
		{"invitee__is_invited_to__organization", `"is_invited_to__organization":{organization}`, "organization_membership_role", "member"},
		{"invitee__is_invited_to__application", `"is_invited_to__application":{application}`, "application_membership_role", "developer"},
	} {
		made, err := w.post(me.user, c.resource, me.in(`{"invitee":" Bob@Example.org ","message":"come",`+c.of+`}`))
		if err != nil {
			t.Fatal(err)
		}
		token, _ := made["invitationToken"].(string)
		if len(token) != 64 {
			t.Fatalf("%v", made)
		}
		sum := sha256.Sum256([]byte(token))
		if kept := w.dump(); strings.Contains(kept, token) || !strings.Contains(kept, hex.EncodeToString(sum[:])) {
			t.Error("the token is kept, or its hash is not")
		}
		row := fmt.Sprintf("%s(%d)", c.resource, id(made["id"]))
		got := w.get(me.user, row+"?$select=message&$expand=invitee($select=email),is_created_by__user($select=username),"+c.role+"($select=name)")
		want := []map[string]any{{
			"message": "come", "invitee": []any{map[string]any{"email": "bob@example.org"}},
			"is_created_by__user": []any{map[string]any{"username": "acme"}}, c.role: []any{map[string]any{"name": c.otherwise}},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if _, err := w.post(me.user, c.resource, me.in(`{"invitee":"bob@example.org",`+c.of+`}`)); !fault.Is(err, fault.Conflict) || !strings.HasPrefix(fault.Message(err), `"invitee" and "is_invited_to__`) {
			t.Errorf("invited twice: %v", err)
		}
		for _, address := range []string{"", "bob", "Bob <bob@example.org>", "a@b@c", strings.Repeat("x", 250) + "@example.org"} {
			if _, err := w.post(me.user, c.resource, me.in(fmt.Sprintf(`{"invitee":%q,%s}`, address, c.of))); !fault.Is(err, fault.Invalid) {
				t.Errorf("%q: %v", address, err)
			}
		}
		if _, err := w.db.AcceptInvite(t.Context(), other.user, hex.EncodeToString(sum[:])); err != nil {
			t.Fatal(err)
		}
		if got := w.values(me.user, me.in("organization_membership?$filter=user eq "+fmt.Sprint(other.ids["user"])), "effective_seat_role"); !slices.Equal(got, []string{"member"}) {
			t.Errorf("who accepts is in the organization as %v", got)
		}
	}
	if n := len(w.get(other.user, me.in("application({application})"))); n != 1 {
		t.Error("who was invited to the fleet does not see it")
	}
}

func TestARevokedInvitationLeavesNoAddress(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	var invitees []int64
	for _, x := range []tenant{me, other, me} {
		made, err := w.post(x.user, "organization_invite", x.in(`{"invitee":"bob@example.org","is_invited_to__organization":{organization}}`))
		if err != nil && !fault.Is(err, fault.Conflict) {
			t.Fatal(err)
		}
		if err == nil {
			invitees = append(invitees, id(made["invitee"]))
		}
	}
	// One row for both would tell each that the other has invited him, too.
	if len(invitees) != 2 || invitees[0] == invitees[1] {
		t.Errorf("the invitees are %v", invitees)
	}
	if err := w.drop(me.user, me.in("organization_invite?$filter=invitee/email eq 'bob@example.org'")); err != nil {
		t.Fatal(err)
	}
	if got := w.values(me.user, "invitee", "email"); !slices.Equal(got, []string{"new@example.org"}) {
		t.Errorf("invited are %v", got)
	}
	if got := w.values(other.user, "invitee?$orderby=email asc", "email"); !slices.Equal(got, []string{"bob@example.org", "new@example.org"}) {
		t.Errorf("of the other tenant: %v", got)
	}
}
