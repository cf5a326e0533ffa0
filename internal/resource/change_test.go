package resource

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/odata"
)

// listen collects what Changed is told, as "fleet/device" or "fleet/all".
func (w *world) listen() *[]string {
	var heard []string
	w.Changed = func(fleet int64, devices []int64) {
		if devices == nil {
			heard = append(heard, fmt.Sprintf("%d/all", fleet))
		}
		for _, d := range devices {
			heard = append(heard, fmt.Sprintf("%d/%d", fleet, d))
		}
	}
	return &heard
}

func TestAFleetIsMadeWithEverythingNobodySaid(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	var made []string
	w.Created = func(_ context.Context, id int64, slug string) error {
		made = append(made, fmt.Sprint(id, " ", slug))
		return nil
	}
	got, err := w.post(me.user, "application", me.in(`{"app_name":"Garden_1","is_for__device_type":{device_type},"organization":{"__id":{organization}},"is_of__class":"fleet"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got["slug"] != "acme/garden_1" || got["should_track_latest_release"] != true || got["app_name"] != "Garden_1" {
		t.Errorf("made %v", got)
	}
	if uuid, _ := got["uuid"].(string); len(uuid) != 32 || uuid[12] != '4' || !strings.Contains("89ab", uuid[16:17]) {
		t.Errorf("its uuid %q is not a version 4 one", got["uuid"])
	}
	if want := []string{fmt.Sprint(got["id"], " acme/garden_1")}; !slices.Equal(made, want) {
		t.Errorf("Created was told %q, want %q", made, want)
	}
	var kind string
	if err := w.db.Reader().QueryRow(`SELECT kind FROM actors a JOIN fleets f ON f.actor = a.id WHERE f.id = $1`, got["id"]).Scan(&kind); err != nil || kind != "application" {
		t.Errorf("its actor is %q, %v", kind, err)
	}

	for name, c := range map[string]struct {
		body, want string
		kind       fault.Kind
	}{
		"taken":         {`{"app_name":"garden_1","is_for__device_type":{device_type},"organization":{organization}}`, "must be unique", fault.Conflict},
		"taken twice":   {`{"app_name":"Garden_1","is_for__device_type":{device_type},"organization":{organization}}`, "must be unique", fault.Conflict},
		"short":         {`{"app_name":"abc","is_for__device_type":{device_type},"organization":{organization}}`, "cannot be a fleet's name", fault.Invalid},
		"path":          {`{"app_name":"../../x","is_for__device_type":{device_type},"organization":{organization}}`, "cannot be a fleet's name", fault.Invalid},
		"class":         {`{"app_name":"garden2","is_of__class":"x","is_for__device_type":{device_type},"organization":{organization}}`, "class is fleet, app or block", fault.Invalid},
		"no type":       {`{"app_name":"garden2","organization":{organization}}`, "needs is_for__device_type", fault.Invalid},
		"unknown type":  {`{"app_name":"garden2","is_for__device_type":999,"organization":{organization}}`, "no device_type 999", fault.Denied},
		"unknown field": {`{"app_name":"garden2","is_for__device_type":{device_type},"organization":{organization},"colour":"red"}`, `no field "colour"`, fault.Invalid},
		"own slug":      {`{"app_name":"garden2","is_for__device_type":{device_type},"organization":{organization},"slug":"acme/x"}`, "cannot be set", fault.Invalid},
		"not an object": {`[1]`, "not a JSON object", fault.Invalid},
		"null":          {`null`, "not a JSON object", fault.Invalid},
	} {
		_, err := w.post(me.user, "application", me.in(c.body))
		if fault.KindOf(err) != c.kind || !strings.Contains(fault.Message(err), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestAFleetWhoseRepositoryCannotBeMadeIsNotThere(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	before := w.dump()
	w.Created = func(context.Context, int64, string) error { return errors.New("disk on fire") }
	_, err := w.post(me.user, "application", me.in(`{"app_name":"garden","is_for__device_type":{device_type},"organization":{organization}}`))
	if err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Fatal(err)
	}
	trim := func(dump string) string { // what counts rows ever made, and the trail, which says that it was tried
		lines := strings.Split(dump, "\n")
		return strings.Join(slices.DeleteFunc(lines, func(l string) bool {
			return strings.HasPrefix(l, "sqlite_sequence") || strings.HasPrefix(l, "audit_events")
		}), "\n")
	}
	if diff := cmp.Diff(trim(before), trim(w.dump())); diff != "" {
		t.Error(diff)
	}
}

func TestADeletedFleetTakesEverythingWithIt(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	var removed []int64
	w.Removed = func(_ context.Context, id int64) { removed = append(removed, id) }
	gone := map[string]int{
		"fleets": 1, "devices": 2, "releases": 5, "services": 1, "images": 1, "fleet_variables": 1, "device_tags": 1, "api_keys": 1,
		"actors": 3, "release_assets": 1, "fleet_profiles": 1, "build_variables": 1, "service_labels": 1, "image_profiles": 1,
		"fleet_memberships": 1, "team_fleets": 1, "teams": 0, "users": 0, "organizations": 0,
	}
	before := map[string]int{}
	for table := range gone {
		var n int
		if err := w.db.Reader().QueryRow(`SELECT COUNT(*) FROM ` + table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		before[table] = n
	}
	if err := w.drop(me.user, me.in("application({application})")); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(removed, []int64{me.ids["application"]}) {
		t.Errorf("Removed was told %v", removed)
	}
	for table, rows := range gone {
		var n int
		if err := w.db.Reader().QueryRow(`SELECT COUNT(*) FROM ` + table).Scan(&n); err != nil || before[table]-n != rows {
			t.Errorf("%d rows of %s are gone, want %d: %v", before[table]-n, table, rows, err)
		}
	}
	if err := w.drop(me.user, me.in("application({application})")); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted again: %v", err)
	}
	if err := w.drop(me.user, me.in("device({device})")); err != nil {
		t.Errorf("a device that is gone: %v", err)
	}
	if err := w.drop(me.user, "device"); !fault.Is(err, fault.Invalid) {
		t.Errorf("all devices at once: %v", err)
	}
	if err := w.patch(me.user, "device", `{"note":"x"}`); !fault.Is(err, fault.Invalid) {
		t.Errorf("all devices at once: %v", err)
	}
}

func TestARenamedFleetHasAnotherSlug(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	if err := w.patch(me.user, me.in("application({application})"), `{"app_name":"Veranda"}`); err != nil {
		t.Fatal(err)
	}
	if got := w.get(me.user, me.in("application({application})?$select=app_name,slug"))[0]; got["slug"] != "acme/veranda" || got["app_name"] != "Veranda" {
		t.Errorf("it is %v", got)
	}
}

func TestADeviceIsRenamedAndItsNameIsItsOwn(t *testing.T) {
	w := newWorld(t)
	me, heard := w.tenants[0], w.listen()
	if err := w.patch(me.user, me.in("device?$filter=id in ({device})"), `{"device_name":"porch light"}`); err != nil {
		t.Fatal(err)
	}
	if got := w.get(me.user, me.in("device({device})?$select=device_name"))[0]["device_name"]; got != "porch light" {
		t.Errorf("it is called %v", got)
	}
	if want := []string{me.in("{application}/{device}")}; !slices.Equal(*heard, want) {
		t.Errorf("Changed was told %q, want %q", *heard, want)
	}
	for body, want := range map[string]string{
		`{"device_name":"second"}`:         `"belongs_to__application" and "device_name" must be unique.`,
		`{"device_name":""}`:               "cannot be empty",
		`{"device_name":"a\nb"}`:           "line breaks",
		`{"device_name":null}`:             "cannot be null",
		`{"device_name":7}`:                "must be a string",
		`{"device_name":"a\u0000b"}`:       "NUL",
		`{"uuid":"00"}`:                    "cannot be set",
		`{}`:                               "no fields",
		`{"is_connected_to_vpn":true}`:     "cannot be set",
		`{"api_heartbeat_state":"online"}`: "cannot be set",
		`{"os_variant":"x"}`:               "prod or dev",
		`{"update_status":"x"}`:            "no update_status",
		`{"should_be_running__release":1}`: "cannot be set",
	} {
		if err := w.patch(me.user, me.in("device({device})"), body); !strings.Contains(fault.Message(err), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
	if err := w.patch(me.user, me.in("device({device})"), `{"note":"it's here"}`); err != nil {
		t.Fatal(err)
	}
	if err := w.patch(me.user, me.in("device({device})"), `{"note":null}`); err != nil {
		t.Fatal(err)
	}
}

func TestADeviceIsPinnedOnlyOnASuccessOfItsFleet(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	const show = "device({device})?$select=is_pinned_on__release,should_be_running__release"
	if err := w.patch(me.user, me.in("device?$filter=id in ({device})"), me.in(`{"is_pinned_on__release":{old release}}`)); err != nil {
		t.Fatal(err)
	}
	pin := map[string]any{"__id": float64(me.ids["old release"])}
	if diff := cmp.Diff(map[string]any{"is_pinned_on__release": pin, "should_be_running__release": pin}, w.get(me.user, me.in(show))[0]); diff != "" {
		t.Error(diff)
	}
	for _, release := range []string{"failed release", "running release"} {
		err := w.patch(me.user, me.in("device({device})"), me.in(`{"is_pinned_on__release":{`+release+`}}`))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "its status is") {
			t.Errorf("%s: %v", release, err)
		}
	}
	if err := w.patch(me.user, me.in("device({device})"), `{"is_pinned_on__release":null}`); err != nil {
		t.Fatal(err)
	}
	follows := map[string]any{"is_pinned_on__release": nil, "should_be_running__release": map[string]any{"__id": float64(me.ids["release"])}}
	if diff := cmp.Diff(follows, w.get(me.user, me.in(show))[0]); diff != "" {
		t.Error(diff)
	}
}

// secondFleet makes another fleet of the first tenant, with a service.
func (w *world) secondFleet(deviceType string) int64 {
	w.t.Helper()
	me := w.tenants[0]
	types := w.get(me.user, "device_type?$select=id&$filter=slug eq '"+deviceType+"'")
	made, err := w.post(me.user, "application", me.in(fmt.Sprintf(`{"app_name":"garden-%v","is_for__device_type":%v,"organization":{organization}}`, types[0]["id"], types[0]["id"])))
	if err != nil {
		w.t.Fatal(err)
	}
	id := int64(made["id"].(float64))
	if err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO services (created_at, modified_at, fleet, name) VALUES (1, 1, $1, 'sensor')`, id)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return id
}

func TestAMovedDeviceIsAtHomeInItsNewFleet(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	garden := w.secondFleet("testpi-64")
	if err := w.patch(me.user, me.in("device({device})"), me.in(`{"is_pinned_on__release":{old release}}`)); err != nil {
		t.Fatal(err)
	}
	heard := w.listen()
	if err := w.patch(me.user, me.in("device?$filter=id in ({device})"), fmt.Sprintf(`{"belongs_to__application":%d}`, garden)); err != nil {
		t.Fatal(err)
	}
	got := w.get(me.user, me.in("device({device})?$select=belongs_to__application,is_pinned_on__release,is_running__release&$expand=service_install($select=id;$expand=service($select=service_name))"))[0]
	installs := got["service_install"].([]any)
	if got["is_pinned_on__release"] != nil || got["is_running__release"] != nil || len(installs) != 1 ||
		fmt.Sprint(installs[0].(map[string]any)["service"]) != "[map[service_name:sensor]]" {
		t.Errorf("it is %v", got)
	}
	if want := []string{me.in("{application}/{device}"), fmt.Sprintf("%d/%d", garden, me.ids["device"])}; !slices.Equal(*heard, want) {
		t.Errorf("Changed was told %q, want %q", *heard, want)
	}
	amd := w.secondFleet("generic-amd64")
	err := w.patch(me.user, me.in("device({device})"), fmt.Sprintf(`{"belongs_to__application":%d}`, amd))
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "cannot run the images of") {
		t.Errorf("to a fleet of another architecture: %v", err)
	}
	// A device with the name of another one there.
	if err := w.patch(me.user, me.in("device({second device})"), `{"device_name":"first"}`); err != nil {
		t.Fatal(err)
	}
	if err := w.patch(me.user, me.in("device({second device})"), fmt.Sprintf(`{"belongs_to__application":%d}`, garden)); !fault.Is(err, fault.Conflict) {
		t.Errorf("to a fleet with a device of that name: %v", err)
	}
}

func TestADeletedDevicesKeyDiesWithIt(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	if err := w.drop(me.user, me.in("device?$filter=id in ({device})")); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := w.db.Reader().QueryRow(`SELECT COUNT(*) FROM actors WHERE id = $1`, me.ids["actor of device"]).Scan(&n); err != nil || n != 0 {
		t.Errorf("its actor is still there: %v", err)
	}
	if n := len(w.get(me.user, "device")); n != 1 {
		t.Errorf("%d devices are left", n)
	}
}

func TestAFinalizedReleaseHasARevisionAndIsFollowed(t *testing.T) {
	w := newWorld(t)
	me, heard := w.tenants[0], w.listen()
	draft := me.in("release({draft release})")
	if err := w.patch(me.user, draft, `{"is_final":true}`); err != nil {
		t.Fatal(err)
	}
	got := w.get(me.user, draft+"?$select=is_final,revision,raw_version")[0]
	if got["is_final"] != true || got["revision"] != 0.0 || got["raw_version"] != "1.0.0-rc.1" {
		t.Errorf("it is %v", got)
	}
	// It is older than the target, so that nothing moves.
	if len(*heard) != 0 {
		t.Errorf("Changed was told %q", *heard)
	}
	if err := w.patch(me.user, draft, `{"is_final":false}`); !fault.Is(err, fault.Conflict) {
		t.Errorf("a draft again: %v", err)
	}
	if err := w.patch(me.user, me.in("release({release})"), `{"is_invalidated":true,"invalidation_reason":"smoke"}`); err != nil {
		t.Fatal(err)
	}
	target := w.get(me.user, me.in("application({application})?$select=should_be_running__release"))[0]["should_be_running__release"]
	if target.(map[string]any)["__id"] != float64(me.ids["old release"]) {
		t.Errorf("without the latest the fleet runs %v", target)
	}
	if want := []string{me.in("{application}/all")}; !slices.Equal(*heard, want) {
		t.Errorf("Changed was told %q, want %q", *heard, want)
	}
	if err := w.patch(me.user, me.in("release({release})"), `{"is_invalidated":false}`); err != nil {
		t.Fatal(err)
	}
	target = w.get(me.user, me.in("application({application})?$select=should_be_running__release"))[0]["should_be_running__release"]
	if target.(map[string]any)["__id"] != float64(me.ids["release"]) {
		t.Errorf("with the latest valid again the fleet runs %v", target)
	}
	for _, release := range []string{"release({failed release})", "release({running release})"} {
		if err := w.patch(me.user, me.in(release), `{"is_final":true}`); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", release, err)
		}
	}
}

func TestOnlyARunningReleaseIsCancelled(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	running := me.in("release({running release})")
	if err := w.patch(me.user, running, `{"status":"success"}`); !fault.Is(err, fault.Invalid) {
		t.Errorf("a success by decree: %v", err)
	}
	if err := w.patch(me.user, running, `{"status":"cancelled","note":"never mind"}`); err != nil {
		t.Fatal(err)
	}
	if got := w.get(me.user, running+"?$select=status,note")[0]; got["status"] != "cancelled" || got["note"] != "never mind" {
		t.Errorf("it is %v", got)
	}
	if err := w.patch(me.user, running, `{"status":"cancelled"}`); !fault.Is(err, fault.Conflict) {
		t.Errorf("cancelled again: %v", err)
	}
}

func TestAFleetIsPinnedAndTracksTheLatestAgain(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	app := me.in("application({application})")
	if err := w.patch(me.user, app, me.in(`{"should_be_running__release":{old release},"should_track_latest_release":false}`)); err != nil {
		t.Fatal(err)
	}
	target := func() any {
		return w.get(me.user, app+"?$select=should_be_running__release")[0]["should_be_running__release"].(map[string]any)["__id"]
	}
	if target() != float64(me.ids["old release"]) {
		t.Errorf("pinned, it runs %v", target())
	}
	if err := w.patch(me.user, app, me.in(`{"should_be_running__release":{failed release}}`)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a failed release: %v", err)
	}
	heard := w.listen()
	if err := w.patch(me.user, app, `{"should_track_latest_release":true}`); err != nil {
		t.Fatal(err)
	}
	if target() != float64(me.ids["release"]) {
		t.Errorf("tracking the latest, it runs %v", target())
	}
	if want := []string{me.in("{application}/all")}; !slices.Equal(*heard, want) {
		t.Errorf("Changed was told %q, want %q", *heard, want)
	}
}

func TestVariablesAreMadeChangedAndRemovedAndTheirDevicesHear(t *testing.T) {
	w := newWorld(t)
	me, heard := w.tenants[0], w.listen()
	for _, c := range []struct{ resource, parent, name, hears string }{
		{"application_environment_variable", `"application":{application}`, "B", "{application}/all"},
		{"application_config_variable", `"application":{application}`, "BALENA_HOST_CONFIG_x", "{application}/all"},
		{"service_environment_variable", `"service":{service}`, "B", "{application}/all"},
		{"device_environment_variable", `"device":{device}`, "B", "{application}/{device}"},
		{"device_config_variable", `"device":{device}`, "RESIN_SUPERVISOR_DELTA", "{application}/{device}"},
		{"device_service_environment_variable", `"service_install":{service_install}`, "B", "{application}/{device}"},
	} {
		*heard = nil
		body := me.in(`{` + c.parent + `,"name":"` + c.name + `","value":"1"}`)
		made, err := w.post(me.user, c.resource, body)
		if err != nil {
			t.Errorf("%s: %v", c.resource, err)
			continue
		}
		row := fmt.Sprintf("%s(%v)", c.resource, made["id"])
		if _, err := w.post(me.user, c.resource, body); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Message(err), `"name" must be unique.`) {
			t.Errorf("%s twice: %v", c.resource, err)
		}
		if err := w.patch(me.user, row, `{"value":"2"}`); err != nil {
			t.Errorf("%s: %v", c.resource, err)
		}
		if got := w.get(me.user, row)[0]; got["value"] != "2" || got["name"] != c.name {
			t.Errorf("%s is %v", c.resource, got)
		}
		if err := w.patch(me.user, row, `{"value":"`+strings.Repeat("x", 100_001)+`"}`); err == nil {
			t.Errorf("%s takes any length", c.resource)
		}
		if err := w.drop(me.user, row); err != nil {
			t.Errorf("%s: %v", c.resource, err)
		}
		if want := slices.Repeat([]string{me.in(c.hears)}, 3); !slices.Equal(*heard, want) {
			t.Errorf("%s: Changed was told %q, want %q", c.resource, *heard, want)
		}
		wrong := "BALENA_X"
		if strings.Contains(c.resource, "config") {
			wrong = "B"
		}
		if _, err := w.post(me.user, c.resource, me.in(`{`+c.parent+`,"name":"`+wrong+`","value":"1"}`)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s takes the name %s: %v", c.resource, wrong, err)
		}
		if _, err := w.post(me.user, c.resource, me.in(`{`+c.parent+`,"name":"1 B","value":"1"}`)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s takes any name: %v", c.resource, err)
		}
	}
}

// The SDK sets by POST and, if that is refused as not unique, by PATCH with a filter.
func TestATagIsSetAsTheSDKSetsIt(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	_, err := w.post(me.user, "device_tag", me.in(`{"device":{device},"tag_key":"room","value":"cellar"}`))
	if !fault.Is(err, fault.Conflict) || fault.Message(err) != `"device" and "tag_key" must be unique.` {
		t.Fatal(err)
	}
	if err := w.patch(me.user, me.in("device_tag?$filter=device eq {device} and tag_key eq 'room'"), `{"value":"cellar"}`); err != nil {
		t.Fatal(err)
	}
	if got := w.get(me.user, me.in("device_tag(device={device},tag_key='room')"))[0]["value"]; got != "cellar" {
		t.Errorf("it is %v", got)
	}
	if err := w.drop(me.user, me.in("device_tag?$filter=device eq {device} and tag_key eq 'room'")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.post(me.user, "release_tag", me.in(`{"release":{release},"tag_key":"white space","value":""}`)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a key with a space: %v", err)
	}
	if n := len(w.get(me.user, "device_tag")); n != 0 {
		t.Errorf("%d tags are left", n)
	}
}

func TestAnSSHKeyIsAddedForOneselfOnce(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	made, err := w.post(me.user, "user__has__public_key", `{"title":" desk ","public_key":"ssh-ed25519 CCCC me@desk\n"}`)
	if err != nil {
		t.Fatal(err)
	}
	if made["title"] != "desk" || made["public_key"] != "ssh-ed25519 CCCC me@desk" || made["user"].(map[string]any)["__id"] != float64(me.user.ID) {
		t.Errorf("made %v", made)
	}
	if _, err := w.post(other.user, "user__has__public_key", `{"title":"theirs","public_key":"ssh-ed25519 CCCC me@desk"}`); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Message(err), "unique") {
		t.Errorf("for another user: %v", err)
	}
	for _, body := range []string{`{"title":"","public_key":"ssh-ed25519 D"}`, `{"title":"x","public_key":"hello"}`, `{"title":"x"}`} {
		if _, err := w.post(me.user, "user__has__public_key", body); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", body, err)
		}
	}
	if err := w.drop(me.user, fmt.Sprintf("user__has__public_key(%v)", made["id"])); err != nil {
		t.Fatal(err)
	}
	if n := len(w.get(me.user, "user_public_key")); n != 1 {
		t.Errorf("%d keys are left", n)
	}
}

func TestManyRowsChangeAtOnce(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
		for i := range 1200 {
			if _, err := tx.Exec(`INSERT INTO fleet_tags (created_at, modified_at, fleet, tag_key, value) VALUES (1, 1, $1, $2, 'a')`, me.ids["application"], fmt.Sprint("k", i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.patch(me.user, "application_tag?$filter=value eq 'a'", `{"value":"b"}`); err != nil {
		t.Fatal(err)
	}
	body, err := w.Read(context.Background(), me.user, ask(t, "application_tag/$count?$filter=value eq 'b'"))
	if err != nil || string(body) != `{"d":1200}` {
		t.Errorf("%s %v", body, err)
	}
	if err := w.drop(me.user, "application_tag?$filter=value eq 'b'"); err != nil {
		t.Fatal(err)
	}
	if n := len(w.get(me.user, "application_tag")); n != 1 {
		t.Errorf("%d are left", n)
	}
}

func FuzzABodyIsWrittenOrRefused(f *testing.F) {
	f.Add("device", `{"device_name":"x","note":null}`)
	f.Add("device", `{"belongs_to__application":{"__id":1}}`)
	f.Add("application", `{"app_name":"garden","is_for__device_type":1000,"organization":1}`)
	f.Add("device_tag", `{"device":"2","tag_key":"k","value":"\u0000"}`)
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, name, body string) {
		me := w.tenants[0]
		_, _, err := w.Create(context.Background(), me.user, &odata.Query{Resource: name}, []byte(body))
		if err != nil && fault.Is(err, fault.Internal) {
			t.Errorf("POST %s %q: %v", name, body, err)
		}
		q := &odata.Query{Resource: name, Key: []odata.KeyPart{{Value: odata.Literal{Value: int64(1)}}}}
		if err := w.Update(context.Background(), me.user, q, []byte(body)); err != nil && fault.Is(err, fault.Internal) {
			t.Errorf("PATCH %s %q: %v", name, body, err)
		}
	})
}

func TestADevicePatchedToWhereItIsKeepsItsPin(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	garden := w.secondFleet("testpi-64")
	const both = "device?$filter=id in ({device},{second device})"
	if err := w.patch(me.user, me.in(both), me.in(`{"is_pinned_on__release":{old release}}`)); err != nil {
		t.Fatal(err)
	}
	pins := func() (all []any) {
		for _, d := range w.get(me.user, "device?$select=is_pinned_on__release&$orderby=device_name asc") {
			all = append(all, d["is_pinned_on__release"])
		}
		return all
	}
	pin := map[string]any{"__id": float64(me.ids["old release"])}
	if err := w.patch(me.user, me.in(both), me.in(`{"belongs_to__application":{application}}`)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{pin, pin}, pins()); diff != "" {
		t.Error(diff)
	}
	if err := w.patch(me.user, me.in("device({device})"), fmt.Sprintf(`{"belongs_to__application":%d}`, garden)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{nil, pin}, pins()); diff != "" {
		t.Error(diff)
	}
	// Back, with one that stayed.
	if err := w.patch(me.user, me.in(both), me.in(`{"belongs_to__application":{application}}`)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{nil, pin}, pins()); diff != "" {
		t.Error(diff)
	}
	// There and pinned in one.
	if err := w.patch(me.user, me.in("device({device})"), me.in(`{"belongs_to__application":{application},"is_pinned_on__release":{release}}`)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{map[string]any{"__id": float64(me.ids["release"])}, pin}, pins()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsKeptOfADeviceElsewhereGoesWithIt(t *testing.T) {
	second := func(x tenant) string { return strings.Replace(x.uuid, "1", "2", 1) }
	for name, c := range map[string]struct {
		do   func(w *world, me, other tenant) error
		want func(me tenant) []string
	}{
		"a device by its key": {
			func(w *world, me, _ tenant) error { return w.drop(me.user, me.in("device({device})")) },
			func(me tenant) []string { return []string{me.uuid} },
		},
		"devices by a filter": {
			func(w *world, me, _ tenant) error { return w.drop(me.user, me.in("device?$filter=id gt 0")) },
			func(me tenant) []string { return []string{second(me), me.uuid} },
		},
		"a fleet": {
			func(w *world, me, _ tenant) error { return w.drop(me.user, me.in("application({application})")) },
			func(me tenant) []string { return []string{second(me), me.uuid} },
		},
		"to another organization": {
			func(w *world, me, other tenant) error {
				if err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
					if _, err := tx.Exec(`UPDATE devices SET name = 'moved' WHERE id = $1`, me.ids["device"]); err != nil {
						return err
					}
					_, err := tx.Exec(`INSERT INTO organization_memberships (created_at, modified_at, user_id, organization) VALUES (1, 1, $1, $2)`, me.user.ID, other.ids["organization"])
					return err
				}); err != nil {
					return err
				}
				return w.patch(me.user, me.in("device({device})"), other.in(`{"belongs_to__application":{application}}`))
			},
			func(me tenant) []string { return []string{me.uuid} },
		},
		"within the organization": {
			func(w *world, me, _ tenant) error {
				return w.patch(me.user, me.in("device({device})"), fmt.Sprintf(`{"belongs_to__application":%d}`, w.secondFleet("testpi-64")))
			},
			func(tenant) []string { return nil },
		},
		"another tenant's": {
			func(w *world, me, other tenant) error { return w.drop(other.user, me.in("device({device})")) },
			func(tenant) []string { return nil },
		},
		"a name": {
			func(w *world, me, _ tenant) error {
				return w.patch(me.user, me.in("device({device})"), `{"device_name":"x"}`)
			},
			func(tenant) []string { return nil },
		},
		"a move that is refused": {
			func(w *world, me, other tenant) error {
				if err := w.patch(me.user, me.in("device({device})"), other.in(`{"belongs_to__application":{application}}`)); !fault.Is(err, fault.Denied) {
					return fmt.Errorf("moved: %w", err)
				}
				return nil
			},
			func(tenant) []string { return nil },
		},
	} {
		w := newWorld(t)
		var gone []string
		w.DevicesGone = func(ctx context.Context, uuids []string) {
			if err := w.db.Write(ctx, func(*sql.Tx) error { return nil }); err != nil { // nobody else is writing
				t.Error(err)
			}
			gone = append(gone, uuids...)
		}
		if err := c.do(w, w.tenants[0], w.tenants[1]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want := c.want(w.tenants[0]); !slices.Equal(gone, want) {
			t.Errorf("%s: gone are %q, want %q", name, gone, want)
		}
	}
}

func TestTheBuilderHearsOfACancelledRelease(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	var cancelled []int64
	w.Cancelled = func(release int64) {
		var status string
		if err := w.db.Reader().QueryRow(`SELECT status FROM releases WHERE id = $1`, release).Scan(&status); err != nil || status != "cancelled" {
			t.Errorf("it is %s, %v", status, err)
		}
		cancelled = append(cancelled, release)
	}
	for request, body := range map[string]string{
		"release({running release})": `{"note":"soon"}`, "release({release})": `{"status":"cancelled"}`,
		"release?$filter=id in ({running release},{release})": `{"status":"cancelled"}`, // the second is refused, and with it the first
	} {
		_ = w.patch(me.user, me.in(request), body)
	}
	if len(cancelled) != 0 {
		t.Errorf("cancelled are %v", cancelled)
	}
	if err := w.patch(me.user, me.in("release({running release})"), `{"status":"cancelled"}`); err != nil {
		t.Fatal(err)
	}
	if want := []int64{me.ids["running release"]}; !slices.Equal(cancelled, want) {
		t.Errorf("cancelled are %v, want %v", cancelled, want)
	}
}

// A filter is a caller's, and may take seconds.
func TestAFilterIsNotAtWorkWhileOthersWaitToWrite(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := w.db.Write(t.Context(), func(*sql.Tx) error { // the one writer is taken
		if err := w.Delete(ctx, me.user, ask(t, "device?$filter=contains(note,'no such')")); err != nil {
			t.Errorf("DELETE: %v", err)
		}
		if err := w.Update(ctx, me.user, ask(t, "device?$filter=contains(note,'no such')"), []byte(`{"note":"x"}`)); err != nil {
			t.Errorf("PATCH: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// meanwhile does something between the choice of rows and their change.
type meanwhile struct {
	querier
	do func()
}

func (m meanwhile) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	defer m.do()
	return m.querier.QueryRowContext(ctx, query, args...)
}

func TestARowThatBecameAnothersMeanwhileIsLeftAlone(t *testing.T) {
	for name, do := range map[string]func(w *world) error{
		"deleted": func(w *world) error { return w.drop(w.tenants[0].user, w.tenants[0].in("device?$filter=id gt 0")) },
		"changed": func(w *world) error {
			return w.patch(w.tenants[0].user, w.tenants[0].in("device?$filter=id gt 0"), `{"note":"mine"}`)
		},
	} {
		w := newWorld(t)
		me, other := w.tenants[0], w.tenants[1]
		w.reader = meanwhile{w.reader, func() {
			if err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
				_, err := tx.Exec(`UPDATE devices SET fleet = $1, name = 'moved' WHERE id = $2`, other.ids["application"], me.ids["device"])
				return err
			}); err != nil {
				t.Error(err)
			}
		}}
		var gone []string
		w.DevicesGone = func(_ context.Context, uuids []string) { gone = append(gone, uuids...) }
		if err := do(w); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var theirs, notes int
		if err := w.db.Reader().QueryRow(`SELECT COUNT(*), COUNT(note) FROM devices WHERE id = $1`, me.ids["device"]).Scan(&theirs, &notes); err != nil || theirs != 1 || notes != 0 {
			t.Errorf("%s: the other's: %d rows, %d notes, %v", name, theirs, notes, err)
		}
		var left, noted int
		if err := w.db.Reader().QueryRow(`SELECT COUNT(*), COUNT(note) FROM devices WHERE id = $1`, me.ids["second device"]).Scan(&left, &noted); err != nil || left == 1 && noted == 0 {
			t.Errorf("%s: one's own: %d rows, %d notes, %v", name, left, noted, err)
		}
		if slices.Contains(gone, me.uuid) {
			t.Errorf("%s: gone are %q", name, gone)
		}
	}
}
