package resource

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
)

// old is the world by the names of /v6.
func (w *world) old() *world {
	old := *w
	old.Model = w.V6()
	return &old
}

func TestOldClientsPinADeviceByTheNameTheyKnow(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	old := w.old()
	pinned := func(w *world, field string) any {
		return w.get(me.user, me.in("device({device})?$select="+field))[0][field]
	}
	release := map[string]any{"__id": float64(me.ids["old release"])}
	if got := pinned(old, "should_be_running__release"); got != nil {
		t.Errorf("a device that follows its fleet is pinned on %v", got)
	}
	if err := old.patch(me.user, me.in("device({device})"), me.in(`{"should_be_running__release":{old release}}`)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(any(release), pinned(old, "should_be_running__release")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(any(release), pinned(w, "is_pinned_on__release")); diff != "" {
		t.Error(diff)
	}
	for request, want := range map[string]int{
		"device?$filter=should_be_running__release eq {old release}":                              1,
		"device?$filter=should_be_running__release/commit ne null":                                1,
		"release?$filter=should_be_running_on__device/any(d:d/id eq {device})":                    1,
		"release({old release})?$expand=should_be_running_on__device":                             1,
		"device({device})?$expand=should_be_running__release($select=commit),is_running__release": 1,
	} {
		if got := len(old.get(me.user, me.in(request))); got != want {
			t.Errorf("%s: %d rows, want %d", request, got, want)
		}
	}
	// The rule of a pin is the rule of a pin: the failed release cannot be run.
	if err := old.patch(me.user, me.in("device({device})"), me.in(`{"should_be_running__release":{failed release}}`)); !fault.Is(err, fault.Invalid) {
		t.Errorf("pinned on a failed release: %v", err)
	}
	if err := w.patch(me.user, me.in("device({device})"), me.in(`{"should_be_running__release":null}`)); !fault.Is(err, fault.Invalid) {
		t.Errorf("/v7 lets what is computed be written: %v", err)
	}
}

func TestOldClientsFindWhatOnlyTheyAskFor(t *testing.T) {
	w := newWorld(t)
	me, old := w.tenants[0], w.old()
	row := old.get(me.user, me.in("device({device})"))[0]
	for _, name := range []string{"logs_channel", "vpn_address", "is_managed_by__device", "should_be_running__release"} {
		if v, there := row[name]; !there || v != nil {
			t.Errorf("%s of a device is %v, %v", name, v, there)
		}
	}
	if _, there := row["is_pinned_on__release"]; there {
		t.Error("a device shows a field that /v6 does not know")
	}
	if row["overall_status"] != "idle" {
		t.Errorf("a device that runs is %v", row["overall_status"])
	}
	if got := old.get(me.user, me.in("device({second device})?$select=overall_status"))[0]["overall_status"]; got != "configuring" {
		t.Errorf("a device that was never seen is %v", got)
	}
	for release, want := range map[string]string{"release": "final", "draft release": "draft"} {
		if got := old.get(me.user, me.in("release({"+release+"})?$select=release_type"))[0]["release_type"]; got != want {
			t.Errorf("the %s is %v", release, got)
		}
	}
	if got := old.get(me.user, me.in("application({application})?$select=depends_on__application"))[0]; got["depends_on__application"] != nil {
		t.Errorf("a fleet depends on %v", got)
	}
	mine := old.get(me.user, "my_application?$select=slug&$expand=owns__device($select=id)&$orderby=app_name asc")
	if len(mine) != 1 || mine[0]["slug"] != "acme/porch" || len(mine[0]["owns__device"].([]any)) != 2 {
		t.Errorf("my applications are %v", mine)
	}
	for _, request := range []string{
		"supervisor_release?$select=supervisor_version,image_name&$filter=should_manage__device/any(d:d/uuid eq '{uuid}')",
		"gateway_download?$filter=is_downloaded_by__device eq {device}",
	} {
		for _, actor := range []string{"owner", "device"} {
			if rows := old.get(me.actors()[actor], me.in(request)); len(rows) != 0 {
				t.Errorf("%s %s: %v", actor, request, rows)
			}
		}
	}
	for _, name := range []string{"my_application", "supervisor_release", "gateway_download"} {
		if _, err := w.Read(context.Background(), me.user, ask(t, name)); !fault.Is(err, fault.NotFound) {
			t.Errorf("/v7 has %s: %v", name, err)
		}
	}
}

// Whatever the version, a row is its owner's.
func TestOldNamesAreNoWayAroundARule(t *testing.T) {
	w := newWorld(t)
	me, other, old := w.tenants[0], w.tenants[1], w.old()
	for _, request := range []string{
		"device({device})", "my_application({application})", "release?$filter=should_be_running_on__application/any(a:a/id eq {application})",
		"device?$filter=should_be_running__release eq {release}", "my_application?$filter=owns__device/any(d:d/id eq {device})",
	} {
		for kind, actor := range other.actors() {
			if body, err := old.Read(context.Background(), actor, ask(t, me.in(request))); err == nil && string(body) != `{"d":[]}` || err != nil && !refused(err) {
				t.Errorf("%s reads %s: %s %v", kind, request, body, err)
			}
		}
	}
	if err := old.patch(other.user, other.in("device({device})"), me.in(`{"should_be_running__release":{release}}`)); !fault.Is(err, fault.Denied) {
		t.Errorf("pinned on another tenant's release: %v", err)
	}
}
