package resource

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

func TestAFleetIsMadeByDevelopersOfItsOrganizationAndDeletedByOwners(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	const body = `{"app_name":"garden","is_for__device_type":{device_type},"organization":{organization},"is_of__class":"fleet"`
	for who, a := range map[string]fleet.Actor{"operator": me.operator, "observer": me.observer, "member": me.member, "friend": me.friend, "teammate": me.teammate, "other": other.user, "device": me.device, "card": me.provisioning} {
		_, err := w.post(a, "application", me.in(body+`}`))
		w.refuses(who, err, fault.Denied, "")
	}
	row, err := w.post(me.developer, "application", me.in(body+`,"uuid":"0123456789abcdef0123456789abcdef","is_public":false,"is_host":false,"is_stored_at__repository_url":"https://git.test/garden"}`))
	if err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("application(%v)", row["id"])
	if row["uuid"] != "0123456789abcdef0123456789abcdef" || row["slug"] != "acme/garden" {
		t.Errorf("made %v", row)
	}
	w.golden("application-made", me.observer, at)
	_, err = w.post(me.developer, "application", me.in(`{"app_name":"orchard","is_for__device_type":{device_type},"organization":{organization},"uuid":"0123456789abcdef0123456789abcdef"}`))
	w.refuses("with the uuid of another", err, fault.Conflict, `"uuid" must be unique.`)
	_, err = w.post(me.developer, "application", me.in(`{"app_name":"orchard","is_for__device_type":{device_type},"organization":{organization},"uuid":"no"}`))
	w.refuses("with a uuid that is none", err, fault.Invalid, "32 lower-case hex digits")
	_, err = w.post(me.developer, "application", me.in(`{"app_name":"orchard","is_for__device_type":{device_type},"organization":{organization},"is_stored_at__repository_url":"javascript:alert(1)"}`))
	w.refuses("with a script for an address", err, fault.Invalid, "https://")

	w.change(me.developer, at, `{"app_name":"orchard","is_archived":true,"is_accessible_by_support_until__date":1795340637861}`)
	w.refuses("an operator", w.patch(me.operator, at, `{"app_name":"meadow"}`), fault.Denied, "may look at this application")
	if got := w.get(me.user, at)[0]; got["slug"] != "acme/orchard" || got["is_archived"] != true || got["is_accessible_by_support_until__date"] != "2026-11-22T09:43:57.861Z" {
		t.Errorf("it is %v", got)
	}
	w.refuses("updated by itself", w.patch(me.developer, at, fmt.Sprintf(`{"is_updated_by__application":%v}`, row["id"])), fault.Invalid, "itself")
	w.refuses("deleted by a developer", w.drop(me.developer, at), fault.Denied, "not delete it")
	if n := len(w.get(me.user, at)); n != 1 {
		t.Error("a developer deleted it")
	}
	if err := w.drop(me.user, at); err != nil {
		t.Error(err)
	}
}

func TestAFleetWhoseRepositoryCannotBeMadeIsTakenAwayFromADeveloperToo(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	w.Created = func(ctx context.Context, id int64, slug string) error { return fmt.Errorf("disk on fire") }
	var removed []int64
	w.Removed = func(_ context.Context, id int64) { removed = append(removed, id) }
	if _, err := w.post(me.developer, "application", me.in(`{"app_name":"garden","is_for__device_type":{device_type},"organization":{organization}}`)); err == nil {
		t.Error("it is made")
	}
	if n := len(w.get(me.user, "application?$filter=app_name eq 'garden'")); n != 0 || len(removed) != 1 {
		t.Errorf("%d are left, Removed was told %v", n, removed)
	}
}

func TestOnlyAnAdministratorMakesAFleetPublicOrAnOperatingSystem(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	admin := me.user
	admin.Administrator = true
	for _, field := range []string{"is_public", "is_host"} {
		at := me.in("application({application})")
		_, err := w.post(me.user, "application", me.in(`{"app_name":"garden","is_for__device_type":{device_type},"organization":{organization},"`+field+`":true}`))
		w.refuses(field, err, fault.Denied, "only an administrator")
		w.refuses(field, w.patch(me.user, at, `{"`+field+`":true}`), fault.Denied, "only an administrator")
		w.change(me.user, at, `{"`+field+`":false}`)
		w.change(admin, at, `{"`+field+`":true}`)
		w.change(me.user, at, `{"`+field+`":true,"is_archived":false}`)
		w.refuses(field, w.patch(me.user, at, `{"`+field+`":false}`), fault.Denied, "only an administrator")
	}
}

func TestAFleetIsHandedToAnotherOrganizationByWhoOwnsItAndMayMakeOneThere(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	at := me.in("application({application})")
	body := other.in(`{"organization":{organization}}`)
	w.refuses("to one that is not there for him", w.patch(me.user, at, body), fault.Denied, "no organization")
	w.exec(`INSERT INTO organization_memberships (created_at, modified_at, user_id, organization, role) VALUES (1, 1, $1, $2, 3)`, me.user.ID, other.ids["organization"])
	w.refuses("as an operator there", w.patch(me.user, at, body), fault.Denied, "may not move")
	w.exec(`INSERT INTO organization_memberships (created_at, modified_at, user_id, organization, role) VALUES (1, 1, $1, $2, 2)`, me.developer.ID, other.ids["organization"])
	w.refuses("as a developer here", w.patch(me.developer, at, body), fault.Denied, "may not move")
	w.exec(`UPDATE organization_memberships SET role = 2 WHERE user_id = $1 AND organization = $2`, me.user.ID, other.ids["organization"])
	w.refuses("where its name is taken", w.patch(me.user, at, body), fault.Conflict, "must be unique")
	var gone []string
	w.DevicesGone = func(_ context.Context, uuids []string) { gone = append(gone, uuids...) }
	w.change(me.user, at, other.in(`{"organization":{organization},"app_name":"veranda"}`))
	if got := w.get(other.user, at)[0]; got["slug"] != "globex/veranda" {
		t.Errorf("it is %v", got)
	}
	for who, a := range map[string]fleet.Actor{"friend": me.friend, "teammate": me.teammate, "observer": me.observer} {
		if n := len(w.get(a, at)); n != 0 {
			t.Errorf("the %s of old still sees it", who)
		}
	}
	if n := len(w.get(other.user, me.in("api_key({api_key})"))); n != 0 {
		t.Errorf("%d provisioning keys that others know are left", n)
	}
	if len(gone) != 2 {
		t.Errorf("what is kept of %q by uuid is forgotten, want that of both devices", gone)
	}
}

func TestAFleetIsForATypeThatItsDevicesCanBe(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	kind := func(slug string) any {
		return w.get(me.user, "device_type?$select=id&$filter=slug eq '"+slug+"'")[0]["id"]
	}
	at := me.in("application({application})")
	w.refuses("of another architecture", w.patch(me.developer, at, fmt.Sprintf(`{"is_for__device_type":%v}`, kind("generic-amd64"))), fault.Invalid, "cannot run what is built")
	w.change(me.developer, at, fmt.Sprintf(`{"is_for__device_type":%v}`, kind("raspberrypi3"))) // 64 bit runs 32
	w.refuses("a device of a type it cannot be", w.patch(me.operator, me.in("device({device})"), fmt.Sprintf(`{"is_of__device_type":%v}`, kind("raspberry-pi"))), fault.Invalid, "cannot run the images")
}

// What a client asks before any login: balena device-type list and os versions.
func TestAPublicFleetIsForAllToReadAndWhatItKeepsIsNot(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	release, app := me.in("release?$filter=belongs_to__application eq {application}"), me.in("application?$filter=id eq {application}")
	anyone := map[string]fleet.Actor{"nobody": {}, "another user": other.user, "another device": other.device}
	reads := func(a fleet.Actor, request string) int {
		q := ask(t, request)
		body, err := w.Read(t.Context(), a, q)
		if err != nil {
			return -1
		}
		return strings.Count(string(body), `"id":`)
	}
	for who, a := range anyone {
		for _, request := range []string{app + "&$select=id", release + "&$select=id", me.in("application_tag({application_tag})?$select=id"), me.in("release_tag({release_tag})?$select=id")} {
			if n := reads(a, request); n > 0 {
				t.Errorf("private: %s reads %d of %s", who, n, request)
			}
		}
	}
	w.exec(`UPDATE fleets SET is_public = TRUE WHERE id = $1`, me.ids["application"])
	for who, a := range anyone {
		want := 1
		if who == "nobody" {
			want = 0
		}
		if n := reads(a, app+"&$select=id"); n != want {
			t.Errorf("public, and no system: %s reads %d of it", who, n)
		}
	}
	w.exec(`UPDATE fleets SET is_host = TRUE WHERE id = $1`, me.ids["application"])
	versions := me.in(`application?$select=is_for__device_type&$expand=application_tag($select=tag_key,value),is_for__device_type($select=slug),owns__release($select=id,known_issue_list,raw_version,variant,phase;` +
		`$expand=release_tag($select=tag_key,value);$filter=is_final eq true and is_invalidated eq false and status eq 'success')&$filter=is_host eq true and is_for__device_type/any(dt:dt/slug in ('testpi-64'))`)
	for who, a := range anyone {
		rows := w.get(a, versions)
		if len(rows) != 1 || len(rows[0]["owns__release"].([]any)) != 2 || len(rows[0]["application_tag"].([]any)) != 1 {
			t.Errorf("%s reads %v", who, rows)
		}
		types := w.get(a, `device_type?$select=slug&$filter=is_default_for__application/any(idfa:idfa/is_host eq true and idfa/is_archived eq false and idfa/owns__release/any(r:r/status eq 'success' and r/is_final eq true and r/is_invalidated eq false)) and slug eq 'testpi-64'`)
		if len(types) != 1 {
			t.Errorf("%s sees no such type: %v", who, types)
		}
		for _, private := range []string{
			"application_environment_variable", "application_config_variable", "build_environment_variable", "service_environment_variable", "application_profile",
			"device", "device_environment_variable", "device_tag", "service_install", "image_install", "api_key", "organization_membership", "team_application_access", "audit",
		} {
			if n := reads(a, me.in(fmt.Sprintf("%s({%s})?$select=id", private, private))); n > 0 {
				t.Errorf("%s reads %d of %s", who, n, private)
			}
		}
		for _, request := range []string{
			app + "&$expand=owns__device($select=id)&$select=app_name", app + "&$expand=application_environment_variable&$select=app_name",
			release + "&$select=build_log", app + " and owns__device/any()&$select=id", app + "&$expand=is_directly_accessible_by__user&$select=app_name",
		} {
			if n := reads(a, request); n > 0 && !(who == "another user" && strings.Contains(request, "build_log")) {
				t.Errorf("%s reads %d by %s", who, n, request)
			}
		}
		if err := w.patch(a, me.in("application({application})"), `{"app_name":"mine"}`); err == nil && w.get(me.user, app)[0]["app_name"] != "porch" {
			t.Errorf("%s renamed it", who)
		}
	}
	for _, hidden := range []string{"service", "image", "release_image", "image_label", "release_asset"} {
		if n := reads(fleet.Actor{}, me.in(fmt.Sprintf("%s({%s})?$select=id", hidden, hidden))); n > 0 {
			t.Errorf("nobody reads %d of %s", n, hidden)
		}
		if n := reads(other.user, me.in(fmt.Sprintf("%s({%s})?$select=id", hidden, hidden))); n != 1 {
			t.Errorf("a user reads %d of %s", n, hidden)
		}
	}
	repository := fmt.Sprintf("v2/%032x", 0)
	if got, err := w.db.UserRepositories(t.Context(), other.user.ID, []string{repository}); err != nil || !got[repository].Pull || got[repository].Push {
		t.Errorf("another user may %v, %v", got, err)
	}
	if got, err := w.db.DeviceRepositories(t.Context(), other.device.ID, []string{repository}); err != nil || !got[repository].Pull {
		t.Errorf("another device may %v, %v", got, err)
	}
	if n := reads(me.provisioning, release); n > 0 {
		t.Errorf("a card reads %d releases", n)
	}
}

func TestAFleetIsOnceAmongThoseOfAUserHoweverManyWaysLeadThere(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	w.exec(`INSERT INTO fleet_memberships (created_at, modified_at, user_id, fleet, role) VALUES (1, 1, $1, $2, 4)`, me.developer.ID, me.ids["application"])
	w.exec(`INSERT INTO team_memberships (created_at, modified_at, user_id, team) VALUES (1, 1, $1, $2)`, me.developer.ID, me.ids["team"])
	for who, want := range map[string]int{"developer": 1, "observer": 1, "friend": 1, "teammate": 1, "member": 0} {
		a := map[string]fleet.Actor{"developer": me.developer, "observer": me.observer, "friend": me.friend, "teammate": me.teammate, "member": me.member}[who]
		if n := len(w.get(a, "user__has_direct_access_to__application")); n != want {
			t.Errorf("the %s has access to %d fleets", who, n)
		}
		if n := len(w.get(a, "application?$filter=is_directly_accessible_by__user/any(dau:1 eq 1)")); n != want {
			t.Errorf("the %s is shown %d fleets", who, n)
		}
	}
}

func TestAFleetsVariablesWakeWhomTheyConcern(t *testing.T) {
	w := newWorld(t)
	me, heard := w.tenants[0], w.listen()
	for _, c := range []struct {
		request, body string
		want          []string
	}{
		{"build_environment_variable({build_environment_variable})", `{"value":"x"}`, nil},
		{"application_environment_variable({application_environment_variable})", `{"value":"fleet"}`, nil}, // as it is
		{"application_environment_variable({application_environment_variable})", `{"value":"x"}`, []string{"{application}/all"}},
		{"service_label({service_label})", `{"value":"0"}`, []string{"{application}/all"}},
		{"application_profile({application_profile})", `{"activates__profile_name":"release"}`, []string{"{application}/all"}},
		{"application_tag({application_tag})", `{"value":"x"}`, nil},
	} {
		*heard = nil
		w.change(me.developer, me.in(c.request), c.body)
		var want []string
		for _, h := range c.want {
			want = append(want, me.in(h))
		}
		if !slices.Equal(*heard, want) {
			t.Errorf("%s %s: Changed was told %q, want %q", c.request, c.body, *heard, want)
		}
		w.refuses("an operator", w.patch(me.operator, me.in(c.request), c.body), fault.Denied, "may look at this")
	}
	_, err := w.post(me.developer, "application_tag", me.in(`{"application":{application},"tag_key":"io.balena.x","value":"1"}`))
	w.refuses("a reserved tag", err, fault.Invalid, "reserved")
	_, err = w.post(me.developer, "build_environment_variable", me.in(`{"application":{application},"name":"a b","value":"1"}`))
	w.refuses("a build variable's name", err, fault.Invalid, "cannot be a variable's name")
	_, err = w.post(me.developer, "application_profile", me.in(`{"application":{application},"activates__profile_name":"","on__application":{application}}`))
	w.refuses("a profile without a name", err, fault.Invalid, "cannot be a profile's name")
	_, err = w.post(me.developer, "application_profile", me.in(`{"application":{application},"activates__profile_name":"x","on__application":`)+w.tenants[1].in(`{application}}`))
	w.refuses("on another's fleet", err, fault.Denied, "")
}

func TestWhichNamesAreTakenInAPublicFleetIsNotForStrangersToTry(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	w.exec(`UPDATE fleets SET is_public = TRUE WHERE id = $1`, me.ids["application"])
	w.made(me.developer, "application_environment_variable", me.in(`{"application":{application},"name":"TOKEN","value":"1"}`))
	for _, name := range []string{"TOKEN", "FREE"} {
		_, err := w.post(other.user, "application_environment_variable", me.in(`{"application":{application},"name":"`+name+`","value":"1"}`))
		w.refuses(name, err, fault.Denied, "you may not create this application_environment_variable")
	}
	_, err := w.post(me.developer, "application_environment_variable", me.in(`{"application":{application},"name":"TOKEN","value":"1"}`))
	w.refuses("one's own", err, fault.Conflict, "must be unique")
}
