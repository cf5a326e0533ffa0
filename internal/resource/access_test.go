package resource

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
)

func TestARowCannotBeGivenToOrPointedAtAnotherTenant(t *testing.T) {
	w := newWorld(t)
	victim, other := w.tenants[0], w.tenants[1]
	before := w.dump()
	for _, c := range []struct{ mine, body string }{
		{"device({device})", `{"belongs_to__application":{application}}`},
		{"device({device})", `{"is_pinned_on__release":{release}}`},
		{"application({application})", `{"should_be_running__release":{release}}`},
		{"device?$filter=id in ({device},{second device})", `{"belongs_to__application":{application}}`},
	} {
		for kind, actor := range other.actors() {
			// Who may not change his own finds none to change.
			if err := w.patch(actor, other.in(c.mine), victim.in(c.body)); !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Unauthenticated) && (err != nil || kind == "owner") {
				t.Errorf("%s: %s %s: %v", kind, c.mine, c.body, err)
			}
		}
	}
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("something was changed (-before +after)\n%s", diff)
	}
}

// The rows are checked again after the change: what a device may read says nothing about where it may go.
func TestADeviceCannotTakeItselfToAFleetItCouldSee(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	garden := w.secondFleet("testpi-64")
	w.schema["application"].access = append(w.schema["application"].access, grant{who: device, may: read, rows: everyRow})
	if err := w.patch(me.device, me.in("device({device})"), fmt.Sprintf(`{"belongs_to__application":%d}`, garden)); !fault.Is(err, fault.Denied) {
		t.Errorf("it moved: %v", err)
	}
	if got := w.get(me.user, me.in("device({device})?$select=belongs_to__application"))[0]; fmt.Sprint(got["belongs_to__application"]) != fmt.Sprintf("map[__id:%d]", me.ids["application"]) {
		t.Errorf("it is in %v", got)
	}
}

func TestADevicesKeyIsGoodForItselfAndItsFleetOnly(t *testing.T) {
	w := newWorld(t)
	w.clock = w.clock.Add(time.Second) // the hour in which a new device may pin itself is over
	me := w.tenants[0]
	for _, c := range []struct {
		request string
		want    int // rows; -1: refused
	}{
		{"device", 1},
		{"device({second device})", 0},
		{"application?$filter=is_host eq false", 1},
		{"release?$filter=belongs_to__application eq {application}", 5},
		{"image", 1},
		{"service", 1},
		{"device_environment_variable", 1},
		{"device_config_variable", 1},
		{"application_environment_variable", 1},
		{"application_config_variable", 1},
		{"service_environment_variable", 1},
		{"device_service_environment_variable", 1},
		{"service_install", 1},
		{"image_install", 1},
		{"device_tag", 1},
		{"application_tag", 1},
		{"release_tag", 1},
		{"device_type?$top=1", 1},
		{"application?$expand=owns__device&$filter=owns__device/$count eq 1", 1},
		{"user", -1},
		{"organization", -1},
		{"api_key", -1},
		{"user__has__public_key", -1},
		{"application?$expand=organization", -1},
		{"application?$filter=organization/handle eq 'acme'", -1},
		{"application?$orderby=organization/handle", -1},
		{"application?$filter=is_directly_accessible_by__user/any()", -1},
	} {
		body, err := w.Read(context.Background(), me.device, ask(t, me.in(c.request)))
		if c.want < 0 {
			if !fault.Is(err, fault.Denied) {
				t.Errorf("%s: %v, want it denied", c.request, err)
			}
			continue
		}
		var rows struct{ D []any }
		if err != nil || json.Unmarshal(body, &rows) != nil || len(rows.D) != c.want {
			t.Errorf("%s: %v, %s, want %d rows", c.request, err, body, c.want)
		}
	}
	for _, c := range []struct {
		request, body string
		ok            bool
	}{
		{"device({device})", `{"device_name":"porch light"}`, true},
		{"device({device})", `{"device_name":"porch light","note":"by the door"}`, true},
		{"device({device})", `{"belongs_to__application":{application}}`, false},
		{"application({application})", `{"app_name":"hijack"}`, false},
		{"release({release})", `{"note":"x"}`, false},
		{"application_environment_variable({application_environment_variable})", `{"value":"x"}`, false},
		{"service_environment_variable({service_environment_variable})", `{"value":"x"}`, false},
		{"device_config_variable({device_config_variable})", `{"value":"5"}`, true},
	} {
		if err := w.patch(me.device, me.in(c.request), me.in(c.body)); (err == nil) != c.ok {
			t.Errorf("PATCH %s %s: %v", c.request, c.body, err)
		}
	}
	if err := w.patch(me.device, me.in("device({second device})"), `{"device_name":"stolen"}`); err != nil {
		t.Errorf("a row that is not the device's own looks as if it were not there: %v", err)
	}
	if err := w.patch(me.device, me.in("device({device})"), me.in(`{"note":"pinned","is_pinned_on__release":{old release}}`)); err != nil {
		t.Error(err)
	}
	if got := w.get(me.user, me.in("device({device})"))[0]; got["is_pinned_on__release"] != nil || got["note"] != "by the door" {
		t.Errorf("it has pinned itself: %v", got)
	}
	if got := w.get(me.user, me.in("device({second device})?$select=device_name"))[0]["device_name"]; got != "second" {
		t.Errorf("the second device is called %v", got)
	}
	if _, err := w.post(me.device, "device_tag", me.in(`{"device":{device},"tag_key":"own","value":"1"}`)); err != nil {
		t.Error(err)
	}
	if _, err := w.post(me.device, "device_tag", me.in(`{"device":{second device},"tag_key":"own","value":"1"}`)); !fault.Is(err, fault.Denied) {
		t.Errorf("a tag on the second device: %v", err)
	}
	if err := w.drop(me.device, me.in("device({device})")); !fault.Is(err, fault.Denied) {
		t.Errorf("it deletes itself: %v", err)
	}
}

func TestAProvisioningKeyFindsADeviceByItsUUIDAndListsNone(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	for _, request := range []string{"device?$select=id&$filter=uuid eq '{uuid}'", "device(uuid='{uuid}')?$expand=belongs_to__application", "device?$filter=uuid eq '{uuid}' and id gt 0"} {
		if n := len(w.get(me.provisioning, me.in(request))); n != 1 {
			t.Errorf("%s: %d rows", request, n)
		}
	}
	for _, request := range []string{
		"device", "device({device})", "device/$count", "device?$filter=uuid ne null", "device?$filter=uuid eq '{uuid}' or id gt 0",
		"device?$filter=not (uuid eq '{uuid}')", "device?$filter=uuid eq uuid", "application?$expand=owns__device($filter=uuid eq '{uuid}')",
		"application?$filter=owns__device/any(d:d/uuid eq '{uuid}')", "release", "application_environment_variable",
	} {
		if body, err := w.Read(context.Background(), me.provisioning, ask(t, me.in(request))); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %s %v", request, body, err)
		}
	}
	if _, err := w.KeyHolder(context.Background(), me.provisioning, "application", me.ids["application"]); !fault.Is(err, fault.Denied) {
		t.Errorf("a provisioning key makes another: %v", err)
	}
	if _, err := w.KeyHolder(context.Background(), me.device, "device", me.ids["device"]); !fault.Is(err, fault.Denied) {
		t.Errorf("a device makes a key: %v", err)
	}
	if holder, err := w.KeyHolder(context.Background(), me.user, "application", me.ids["application"]); err != nil || holder != me.ids["actor of application"] {
		t.Errorf("a fleet's key: actor %d, %v", holder, err)
	}
}

// The answer to a registration may be lost, and the device asks for its key again with the card's (protocol §1.4). The
// card's key may have leaked, too.
func TestAProvisioningKeyMakesKeysOnlyForADeviceThatIsJustRegistering(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	const second = 1_000_000 // microseconds
	now := w.clock.UnixMicro()
	for name, c := range map[string]struct {
		created int64
		seen    any
		status  any
		ok      bool
	}{
		"registered a minute ago":           {now - 60*second, now - 60*second, nil, true},
		"registered, by a clock not set":    {now - 60*second, nil, nil, true},
		"registered a minute and hour ago":  {now - 3660*second, now - 3660*second, nil, false},
		"it asked for its target since":     {now - 60*second, now - 30*second, nil, false},
		"it reported since":                 {now - 60*second, now - 60*second, "Idle", false},
		"it has long run":                   {now - 1e6*second, now - second, "Idle", false},
		"it has long run, and lies offline": {now - 1e6*second, now - 1e5*second, "Idle", false},
	} {
		err := w.db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.Exec(`UPDATE devices SET created_at = $1, last_seen = $2, status = $3 WHERE id = $4`, c.created, c.seen, c.status, me.ids["device"])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		holder, err := w.KeyHolder(t.Context(), me.provisioning, "device", me.ids["device"])
		if c.ok && (err != nil || holder != me.ids["actor of device"]) || !c.ok && !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: actor %d, %v", name, holder, err)
		}
		if holder, err := w.KeyHolder(t.Context(), me.user, "device", me.ids["device"]); err != nil || holder != me.ids["actor of device"] {
			t.Errorf("%s: for the user: actor %d, %v", name, holder, err)
		}
	}
}

// A build's log and errors quote the source and what it was built with.
func TestWhatABuildSaidIsForUsersOnly(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	for _, c := range []struct{ resource, field string }{
		{"release", "build_log"}, {"image", "build_log"}, {"image", "dockerfile"}, {"image", "error_message"},
	} {
		for _, request := range []string{
			"%s?$select=%s", "%s?$filter=startswith(%s,'x')", "%s?$filter=%s eq null", "%s?$orderby=%s", "%s(%s='x')", "%s/$count?$filter=%s ne null",
		} {
			request = fmt.Sprintf(request, c.resource, c.field)
			if body, err := w.Read(t.Context(), me.device, ask(t, request)); !fault.Is(err, fault.Invalid) {
				t.Errorf("a device reads %s: %s %v", request, body, err)
			}
			if _, err := w.Read(t.Context(), me.user, ask(t, request)); err != nil {
				t.Errorf("a user reads %s: %v", request, err)
			}
		}
		if _, there := w.get(me.device, c.resource)[0][c.field]; there {
			t.Errorf("a device's %s has %s", c.resource, c.field)
		}
		if _, there := w.get(me.user, c.resource+"?$select="+c.field)[0][c.field]; !there {
			t.Errorf("a user's %s has no %s", c.resource, c.field)
		}
		if _, there := w.get(me.user, c.resource)[0][c.field]; there != (c.field != "build_log") {
			t.Errorf("a user who asks for nothing in particular of a %s gets %s: %v", c.resource, c.field, there)
		}
	}
	for _, request := range []string{
		"release_image?$expand=image($select=build_log)", "release_image?$filter=image/dockerfile ne null", "service?$expand=is_built_by__image($select=error_message)",
		"service?$filter=is_built_by__image/any(i:contains(i/build_log,'x'))", "device?$filter=is_running__release/build_log ne null",
		"release_image?$orderby=image/build_log",
	} {
		if body, err := w.Read(t.Context(), me.device, ask(t, request)); !fault.Is(err, fault.Invalid) {
			t.Errorf("a device reads %s: %s %v", request, body, err)
		}
	}
	body, err := w.Read(t.Context(), me.device, ask(t, "release_image?$expand=image,release"))
	if err != nil || strings.Contains(string(body), "build_log") || !strings.Contains(string(body), "content_hash") {
		t.Errorf("%s %v", body, err)
	}
}

func TestAResourceWithoutAGrantIsClosed(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	w.schema["closed"] = &resource{name: "closed", table: "users", fields: []field{{name: "id", kind: number}, {"username", text, "", "", mandatory}}}
	w.schema["user"].navs = append(w.schema["user"].navs, nav{"closed", "closed", "id"})
	for _, kind := range kinds {
		actor, want := me.actors()[kind], fault.Denied
		if kind == "nobody" {
			want = fault.Unauthenticated
		}
		_, err := w.post(actor, "closed", `{"username":"x"}`)
		errs := []error{err, w.patch(actor, "closed(1)", `{"username":"x"}`), w.drop(actor, "closed(1)")}
		for _, request := range []string{"closed", "closed(1)", "closed/$count", "user?$expand=closed", "user?$filter=closed/any()", "user?$orderby=closed/$count"} {
			_, err := w.Read(t.Context(), actor, ask(t, request))
			errs = append(errs, err)
		}
		for i, err := range errs {
			if !fault.Is(err, want) {
				t.Errorf("%s, try %d: %v", kind, i, err)
			}
		}
	}
}

// Two names of one thing in a resource would hide each other.
func TestNoNameOfTheModelMeansTwoThings(t *testing.T) {
	names := map[string]string{}
	for _, r := range table() {
		for name := range strings.FieldsSeq(r.name) {
			if other, twice := names[name]; twice {
				t.Errorf("%s is a name of %s and of %s", name, other, first(r.name))
			}
			names[name] = first(r.name)
		}
		here := map[string]bool{"id": !r.virtual, "created_at": !r.virtual, "modified_at": !r.virtual}
		for _, f := range r.fields {
			for name := range strings.FieldsSeq(f.name) {
				if here[name] {
					t.Errorf("%s has two fields or relations %s", first(r.name), name)
				}
				here[name] = true
			}
		}
		for _, n := range r.navs {
			for name := range strings.FieldsSeq(n.name) {
				if here[name] {
					t.Errorf("%s has two fields or relations %s", first(r.name), name)
				}
				here[name] = true
			}
		}
	}
}
