package resource

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// id is the number of a row as JSON has it.
func id(v any) int64 {
	if m, ok := v.(map[string]any); ok {
		v = m["__id"]
	}
	n, _ := v.(float64)
	return int64(n)
}

// values are one field of the rows of a request.
func (w *world) values(a fleet.Actor, request, field string) []string {
	w.t.Helper()
	all := []string{}
	for _, row := range w.get(a, request) {
		all = append(all, fmt.Sprint(row[field]))
	}
	return all
}

func TestWhoeverMakesAnOrganizationOwnsIt(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	made, err := w.post(me.observer, "organization", `{"name":" Blue  House (2)! "}`)
	if err != nil {
		t.Fatal(err)
	}
	if made["name"] != "Blue  House (2)!" || made["handle"] != "blue_house_2" {
		t.Errorf("%v", made)
	}
	again, err := w.post(me.operator, "organization", `{"name":"Blue House 2"}`)
	if err != nil || again["handle"] != "blue_house_2_2" {
		t.Errorf("one of the same name: %v, %v", again, err)
	}
	role := w.get(me.observer, fmt.Sprintf("organization_membership?$filter=is_member_of__organization eq %d&$expand=user($select=username),organization_membership_role($select=name)", id(made["id"])))
	if len(role) != 1 || fmt.Sprint(role[0]["user"], role[0]["organization_membership_role"]) != "[map[username:acme-observer]] [map[name:owner]]" {
		t.Errorf("its members are %v", role)
	}
	for body, want := range map[string]string{
		`{"name":"x","handle":"acme"}`:                `"handle" must be unique.`,
		`{"name":"x","handle":"Globex"}`:              `"handle" must be unique.`,
		`{"name":"x","handle":"a/b"}`:                 "cannot be an organization's handle",
		`{"name":"x","handle":"-a"}`:                  "cannot be an organization's handle",
		`{"name":" "}`:                                "a name has 1 to 100 bytes",
		`{"name":"` + strings.Repeat("x", 101) + `"}`: "a name has 1 to 100 bytes",
		`{"handle":"x"}`:                              "organization needs name",
	} {
		if _, err := w.post(me.user, "organization", body); !strings.Contains(fault.Message(err), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
	if _, err := w.db.AddUser(t.Context(), store.NewUser{Username: "solo", JWTSecret: "s"}); err != nil {
		t.Fatal(err)
	}
	if err := w.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM organizations WHERE handle = 'solo'`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if made, err := w.post(me.user, "organization", `{"name":"Solo"}`); err != nil || made["handle"] != "solo_2" {
		t.Errorf("the name of a user: %v, %v", made, err)
	}
	if made, err := w.post(me.user, "organization", `{"name":"???"}`); err != nil || made["handle"] != "organization" {
		t.Errorf("a name without letters: %v, %v", made, err)
	}
}

func TestAnotherHandleIsInTheSlugsOfTheFleets(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	var changed []int64
	w.Changed = func(f int64, _ []int64) { changed = append(changed, f) }
	if err := w.patch(me.user, "organization(handle='acme')", `{"handle":"apex"}`); err != nil {
		t.Fatal(err)
	}
	if got := w.values(me.user, "application?$select=slug&$filter=organization/handle eq 'apex'", "slug"); !slices.Equal(got, []string{"apex/porch"}) {
		t.Errorf("the fleets are %v", got)
	}
	if !slices.Equal(changed, []int64{me.ids["application"]}) {
		t.Errorf("changed: %v", changed)
	}
	if err := w.patch(me.user, "organization(handle='apex')", `{"name":"Apex Ltd"}`); err != nil {
		t.Error(err)
	}
	if got := w.values(me.user, "organization", "name"); !slices.Equal(got, []string{"Apex Ltd"}) {
		t.Errorf("it is called %v", got)
	}
}

func TestAnOrganizationGoesWithItsFleets(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	var removed []int64
	var gone []string
	w.Removed = func(_ context.Context, f int64) { removed = append(removed, f) }
	w.DevicesGone = func(_ context.Context, uuids []string) { gone = append(gone, uuids...) }
	w.refuses("a developer", w.drop(me.developer, me.in("organization({organization})")), fault.Denied, "not delete it")
	if len(removed) > 0 {
		t.Fatal("a developer has deleted it")
	}
	if err := w.drop(me.user, me.in("organization({organization})")); err != nil {
		t.Fatal(err)
	}
	if len(gone) != 2 || !slices.Equal(removed, []int64{me.ids["application"]}) {
		t.Errorf("removed %v, gone %v", removed, gone)
	}
	if n := len(w.get(me.user, "application?$filter=is_host eq false")) + len(w.get(me.user, "organization")); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if n := len(w.get(other.user, "application?$filter=is_host eq false")); n != 1 {
		t.Errorf("the other tenant has %d fleets", n)
	}
	trail := w.get(me.user, "audit?$filter=verb eq 'delete'")
	if len(trail) != 1 || fmt.Sprint(trail[0]["details"]) != "map[fleets:[acme/porch]]" {
		t.Errorf("the trail says %v", trail)
	}
}

func TestOwnersSayWhoIsInAnOrganization(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	second, err := w.post(me.user, "organization", `{"name":"second"}`)
	if err != nil {
		t.Fatal(err)
	}
	org := id(second["id"])
	add := func(a fleet.Actor, body string) (map[string]any, error) {
		return w.post(a, "organization_membership", fmt.Sprintf(`{"is_member_of__organization":%d,%s}`, org, body))
	}
	made, err := add(me.user, `"username":"acme-Developer"`)
	if err != nil || id(made["user"]) != me.ids["developer"] {
		t.Fatalf("%v, %v", made, err)
	}
	if got := w.values(me.user, fmt.Sprintf("organization_membership(%d)", id(made["id"])), "effective_seat_role"); !slices.Equal(got, []string{"member"}) {
		t.Errorf("without a role it is %v", got)
	}
	if _, err := add(me.user, fmt.Sprintf(`"user":%d,"organization_membership_role":2`, me.ids["operator"])); err != nil {
		t.Error(err)
	}
	for what, c := range map[string]struct {
		actor fleet.Actor
		body  string
		kind  fault.Kind
		says  string
	}{
		"a stranger by name":     {me.user, `"username":"globex"`, fault.NotFound, `there is no user "globex"`},
		"nobody by name":         {me.user, `"username":"nobody"`, fault.NotFound, `there is no user "nobody"`},
		"a stranger by number":   {me.user, other.in(`"user":{user}`), fault.Denied, "there is no user"},
		"one who is in it":       {me.user, `"username":"acme-developer"`, fault.Conflict, `"user" and "is_member_of__organization" must be unique.`},
		"nobody in particular":   {me.user, `"organization_membership_role":2`, fault.Invalid, "needs user or username"},
		"one in both ways":       {me.user, me.in(`"user":{friend},"username":"acme-friend"`), fault.Invalid, "needs user or username"},
		"with a role of no kind": {me.user, `"username":"acme-friend","organization_membership_role":99`, fault.Denied, "there is no organization_membership_role 99"},
		"by a developer of it":   {me.operator, `"username":"acme-friend"`, fault.Denied, "you may not create this"},
		"by who is not in it":    {other.user, `"username":"globex-friend"`, fault.Denied, "there is no organization"},
	} {
		if made, err := add(c.actor, c.body); !fault.Is(err, c.kind) || !strings.Contains(fault.Message(err), c.says) {
			t.Errorf("%s: %v, %v", what, made, err)
		}
	}
	administrator := me.user
	administrator.Administrator = true
	if _, err := add(administrator, `"username":"globex"`); err != nil {
		t.Errorf("who makes the accounts adds any: %v", err)
	}
	for _, body := range []string{`{"user":1}`, `{"is_member_of__organization":1}`, `{"username":"acme"}`} {
		if err := w.patch(me.user, me.in("organization_membership({organization_membership})"), body); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestAnOrganizationKeepsAnOwner(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	mine := me.in("organization_membership(user={user},is_member_of__organization={organization})")
	for what, try := range map[string]func() error{
		"step back":        func() error { return w.patch(me.user, mine, `{"organization_membership_role":2}`) },
		"leave":            func() error { return w.drop(me.user, mine) },
		"remove everybody": func() error { return w.drop(me.user, me.in("organization_membership?$filter=id gt 0")) },
		"make all members": func() error {
			return w.patch(me.user, "organization_membership?$filter=id gt 0", `{"organization_membership_role":6}`)
		},
	} {
		if err := try(); !fault.Is(err, fault.Conflict) || fault.Hint(err) == "" {
			t.Errorf("the last owner can %s: %v", what, err)
		}
	}
	if err := w.patch(me.user, me.in("organization_membership({membership of developer})"), `{"organization_membership_role":5}`); err != nil {
		t.Fatal(err)
	}
	if err := w.patch(me.user, mine, `{"organization_membership_role":3}`); err != nil {
		t.Fatalf("an owner among others cannot step back: %v", err)
	}
	w.refuses("an operator", w.patch(me.user, mine, `{"organization_membership_role":1}`), fault.Denied, "not change it")
	if got := w.values(me.developer, mine, "effective_seat_role"); !slices.Equal(got, []string{"operator"}) {
		t.Errorf("an operator has made himself %v", got)
	}
	if err := w.drop(me.developer, mine); err != nil {
		t.Fatal(err)
	}
	if n := len(w.get(me.user, "organization")); n != 0 {
		t.Errorf("who was removed sees %d organizations", n)
	}
}

func TestWhoLeavesAnOrganizationHasNothingLeftOfIt(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	for _, who := range []string{"friend", "teammate"} {
		actor := me.actors()[who]
		if n := len(w.get(actor, "application?$filter=is_host eq false")); n != 1 {
			t.Fatalf("the %s sees %d fleets", who, n)
		}
		if err := w.drop(actor, me.in("organization_membership?$filter=id gt 0 and is_member_of__organization eq {organization} and user eq {"+who+"}")); err != nil {
			t.Fatal(err)
		}
		for _, r := range []string{"application?$filter=is_host eq false", "device", "organization", "team", "team_membership", "user_application_membership", "organization_membership"} {
			if rows := w.get(actor, r); len(rows) != 0 {
				t.Errorf("the %s sees %s %v", who, r, rows)
			}
		}
		if _, err := w.post(me.user, "organization_membership", me.in(`{"is_member_of__organization":{organization},"user":{`+who+`}}`)); !fault.Is(err, fault.Denied) {
			t.Errorf("a stranger is added by number: %v", err)
		}
	}
	if n := len(w.get(me.user, "team_membership")) + len(w.get(me.user, "user_application_membership")); n != 0 {
		t.Errorf("%d memberships are left", n)
	}
}

func TestARoleInAFleetIsGivenToMembersOfItsOrganization(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	made, err := w.post(me.user, "user_application_membership", me.in(`{"username":"acme-member","is_member_of__application":{application}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := w.get(me.user, fmt.Sprintf("user_application_membership(user=%d,is_member_of__application=%d)?$expand=application_membership_role($select=name)", me.ids["member"], me.ids["application"])); len(got) != 1 || fmt.Sprint(got[0]["application_membership_role"]) != "[map[name:developer]]" {
		t.Errorf("%v", got)
	}
	if err := w.patch(me.member, me.in("application({application})"), `{"should_track_latest_release":false}`); err != nil {
		t.Errorf("a developer of the fleet: %v", err)
	}
	if got := w.get(me.member, me.in("application({application})?$select=should_track_latest_release")); len(got) != 1 || got[0]["should_track_latest_release"] != false {
		t.Errorf("it was not written: %v", got)
	}
	if err := w.patch(me.user, fmt.Sprintf("user_application_membership(%d)", id(made["id"])), `{"application_membership_role":4}`); err != nil {
		t.Error(err)
	}
	w.refuses("an observer", w.patch(me.member, me.in("application({application})"), `{"should_track_latest_release":true}`), fault.Denied, "not change it")
	if got := w.get(me.member, me.in("application({application})?$select=should_track_latest_release")); len(got) != 1 || got[0]["should_track_latest_release"] != false {
		t.Errorf("an observer has written it: %v", got)
	}
	outside, err := w.post(other.user, "organization", `{"name":"outside"}`)
	if err != nil {
		t.Fatal(err)
	}
	for body, says := range map[string]string{
		`{"username":"acme-member","is_member_of__application":{application}}`:                                      `"user" and "is_member_of__application" must be unique.`,
		`{"username":"globex","is_member_of__application":{application}}`:                                           "there is no user",
		`{"username":"acme-observer","is_member_of__application":{application},"application_membership_role":1}`:    "there is no application_membership_role 1",
		`{"username":"acme-observer","is_member_of__application":{application},"application_membership_role":null}`: "cannot be null",
	} {
		if _, err := w.post(me.user, "user_application_membership", me.in(body)); !strings.Contains(fault.Message(err), says) {
			t.Errorf("%s: %v, want %s", body, err, says)
		}
	}
	// Somebody one knows from another organization.
	if _, err := w.post(other.user, "organization_membership", other.in(fmt.Sprintf(`{"user":{friend},"is_member_of__organization":%d}`, id(outside["id"])))); err != nil {
		t.Fatal(err)
	}
	if err := w.drop(other.user, other.in("organization_membership({membership of friend})")); err != nil {
		t.Fatal(err)
	}
	for resource, body := range map[string]string{
		"user_application_membership": `{"user":{friend},"is_member_of__application":{application}}`,
		"team_membership":             `{"user":{friend},"is_member_of__team":{team}}`,
	} {
		if _, err := w.post(other.user, resource, other.in(body)); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "only a member") {
			t.Errorf("%s: %v", resource, err)
		}
	}
}

func TestATeamGivesItsMembersItsFleets(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	team, err := w.post(me.user, "team", me.in(`{"name":"night","belongs_to__organization":{organization},"description":null}`))
	if err != nil {
		t.Fatal(err)
	}
	n := id(team["id"])
	if _, err := w.post(me.user, "team_membership", fmt.Sprintf(`{"username":"acme-member","is_member_of__team":%d}`, n)); err != nil {
		t.Fatal(err)
	}
	if len(w.get(me.member, "device")) != 0 {
		t.Error("a team without fleets shows devices")
	}
	access, err := w.post(me.user, "team_application_access", me.in(fmt.Sprintf(`{"team":%d,"grants_access_to__application":{application},"application_membership_role":4}`, n)))
	if err != nil {
		t.Fatal(err)
	}
	if len(w.get(me.member, "device")) != 2 {
		t.Error("an observer by a team sees no devices")
	}
	rename := func() []string {
		if err := w.patch(me.member, me.in("device({device})"), `{"device_name":"renamed"}`); err != nil && !fault.Is(err, fault.Denied) {
			t.Fatal(err)
		}
		return w.values(me.user, me.in("device({device})"), "device_name")
	}
	if got := rename(); got[0] != "first" {
		t.Error("an observer by a team renames devices")
	}
	if err := w.patch(me.user, fmt.Sprintf("team_application_access(%d)", id(access["id"])), `{"application_membership_role":3}`); err != nil {
		t.Fatal(err)
	}
	if got := rename(); got[0] != "renamed" {
		t.Error("an operator by a team does not rename devices")
	}
	for what, c := range map[string]struct{ resource, body, says string }{
		"the same team again":   {"team", `{"name":"night","belongs_to__organization":{organization}}`, `"belongs_to__organization" and "name" must be unique.`},
		"the same member again": {"team_membership", fmt.Sprintf(`{"username":"acme-member","is_member_of__team":%d}`, n), `"user" and "is_member_of__team" must be unique.`},
		"the same fleet again":  {"team_application_access", fmt.Sprintf(`{"team":%d,"grants_access_to__application":{application},"application_membership_role":3}`, n), `"team" and "grants_access_to__application" must be unique.`},
	} {
		if _, err := w.post(me.user, c.resource, me.in(c.body)); !fault.Is(err, fault.Conflict) || fault.Message(err) != c.says {
			t.Errorf("%s: %v, want %s", what, err, c.says)
		}
	}
	// The owner of two organizations does not mix them.
	second, err := w.post(me.user, "organization", `{"name":"second"}`)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := w.post(me.user, "team", fmt.Sprintf(`{"name":"day","belongs_to__organization":%d}`, id(second["id"])))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.post(me.user, "team_application_access", me.in(fmt.Sprintf(`{"team":%d,"grants_access_to__application":{application},"application_membership_role":3}`, id(foreign["id"])))); !fault.Is(err, fault.Invalid) {
		t.Errorf("a team of another organization: %v", err)
	}
	if err := w.drop(me.user, fmt.Sprintf("team(%d)", n)); err != nil {
		t.Fatal(err)
	}
	if len(w.get(me.member, "device")) != 0 {
		t.Error("the team is gone and its fleets are seen")
	}
}

func TestAnEmailIsItsOwnersToRead(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	if got := w.values(me.user, "user?$orderby=username asc", "username"); len(got) != 7 || got[0] != "acme" {
		t.Errorf("the fellow members are %v", got)
	}
	if got := w.values(me.user, "user?$orderby=username asc", "email"); got[0] != "acme@example.org" || strings.Count(strings.Join(got, " "), "@") != 1 {
		t.Errorf("their emails are %v", got)
	}
	for _, request := range []string{
		"user?$filter=email eq 'acmedeveloper@example.org'", "user?$filter=startswith(email,'acmed')", "user(email='acmedeveloper@example.org')",
		"user?$filter=email ne null and id ne {user}", "organization?$filter=includes__user/any(m:m/user/email eq 'acmedeveloper@example.org')",
	} {
		if rows := w.get(me.user, me.in(request)); len(rows) != 0 {
			t.Errorf("%s: %v", request, rows)
		}
	}
	administrator := me.user
	administrator.Administrator = true
	if n := len(w.get(administrator, "user?$filter=startswith(username,'globex')")); n != 7 {
		t.Errorf("who makes accounts sees %d of another organization", n)
	}
	if n := len(w.get(administrator, "user?$filter=email ne null")); n != 1 {
		t.Errorf("who makes accounts sees %d emails", n)
	}
}

func TestKeysAreForWhomTheyCouldBeMadeBy(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	w.key(me.ids["actor of device"], fleet.RoleDevice)
	w.key(me.ids["actor of operator"], fleet.RoleNamedUser)
	for _, c := range []struct {
		kind string
		want int
	}{{"owner", 2}, {"developer", 2}, {"operator", 2}, {"observer", 0}, {"member", 0}, {"friend", 1}, {"teammate", 1}} {
		if n := len(w.get(me.actors()[c.kind], "api_key")); n != c.want {
			t.Errorf("the %s sees %d keys, want %d", c.kind, n, c.want)
		}
	}
	if got := w.get(me.user, me.in("api_key({api_key})?$expand=is_of__actor($expand=is_of__application($select=slug)),api_key__has__role($expand=role($select=name))")); fmt.Sprint(got[0]["is_of__actor"].([]any)[0].(map[string]any)["is_of__application"], got[0]["api_key__has__role"].([]any)[0].(map[string]any)["role"]) != "[map[slug:acme/porch]] [map[name:provisioning-api-key]]" {
		t.Errorf("%v", got)
	}
	mine := me.in("api_key({api_key})")
	for body, ok := range map[string]bool{
		`{"name":"door","description":"of the door","expiry_date":"2026-05-01T00:00:00.000Z"}`: true,
		`{"description":"","expiry_date":null}`:                                                true,
		`{"name":""}`:                                                                          false,
		`{"name":" "}`:                                                                         false,
		`{"name":null}`:                                                                        false,
		`{"expiry_date":"tomorrow"}`:                                                           false,
		`{"description":"` + strings.Repeat("x", 151) + `"}`:                                   false,
		`{"name":"` + strings.Repeat("x", 51) + `"}`:                                           false,
		`{"key":"x"}`:                                                                          false,
		`{"is_of__actor":1}`:                                                                   false,
		`{"key_hash":"` + strings.Repeat("0", 64) + `"}`:                                       false,
		`{"role":"user-api-key"}`:                                                              false,
	} {
		if err := w.patch(me.user, mine, body); ok != (err == nil) || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", body, err)
		}
	}
	if err := w.drop(me.operator, mine); err != nil || len(w.get(me.user, mine)) != 1 {
		t.Errorf("an operator revokes a provisioning key: %v", err)
	}
	if err := w.drop(me.developer, mine); err != nil || len(w.get(me.user, mine)) != 0 {
		t.Errorf("a developer does not: %v", err)
	}
}

func TestFieldsOfStockClientsThatMeanNothingAreLetPass(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	if _, err := w.post(me.user, "team", me.in(`{"name":"x","belongs_to__organization":{organization},"is_created_by__user":{user},"logs_channel":null}`)); err != nil {
		t.Error(err)
	}
	if err := w.patch(me.user, me.in("team({team})"), `{"logs_channel":"x"}`); err != nil {
		t.Error(err)
	}
	for _, body := range []string{`{}`, `{"colour":"red"}`, `[]`, `null`, `"name"`} {
		if err := w.patch(me.user, me.in("team({team})"), body); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", body, err)
		}
	}
	if err := w.patch(me.user, me.in("team({team})"), `{"colour":"red"}`); !strings.Contains(fault.Message(err), `"colour"`) {
		t.Errorf("an unknown field is not named: %v", err)
	}
	if err := w.patch(me.user, me.in("device({device})"), `{"cpu_id":"`+strings.Repeat("é", 255)+`"}`); err != nil {
		t.Error(err)
	}
	if err := w.patch(me.user, me.in("device({device})"), `{"cpu_id":"`+strings.Repeat("é", 256)+`"}`); !fault.Is(err, fault.Invalid) {
		t.Errorf("more than a short text: %v", err)
	}
	if err := w.patch(me.user, me.in("team({team})"), `{"description":"`+strings.Repeat("é", 256)+`"}`); err != nil {
		t.Errorf("a long text: %v", err)
	}
}

func TestAKeyThatEndsDoesNotMakeItselfLast(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	newest := func() int64 {
		return int64(w.get(me.developer, "api_key?$select=id&$orderby=id%20desc&$top=1")[0]["id"].(float64))
	}
	w.key(me.ids["actor of developer"], fleet.RoleNamedUser)
	id := newest()
	holder := me.developer
	holder.Key = id
	itself := fmt.Sprintf("api_key(%d)", id)
	for _, body := range []string{`{"expiry_date":null}`, `{"name":"x","expiry_date":"2036-01-01T00:00:00.000Z"}`} {
		if err := w.patch(holder, itself, body); !fault.Is(err, fault.Denied) {
			t.Errorf("by the key itself, %s: %v", body, err)
		}
		if err := w.patch(me.developer, itself, body); err != nil {
			t.Errorf("with a session, %s: %v", body, err)
		}
	}
	if err := w.patch(holder, itself, `{"description":"mine"}`); err != nil {
		t.Errorf("what it says of itself: %v", err)
	}
	w.key(me.ids["actor of application"], fleet.RoleProvisioning)
	cards := fmt.Sprintf("api_key(%d)", newest())
	if err := w.patch(holder, cards, `{"expiry_date":null}`); err != nil {
		t.Errorf("a provisioning key's end: %v", err)
	}
}
