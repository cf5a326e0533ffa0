package resource

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// exec is one statement that must do.
func (w *world) exec(statement string, args ...any) {
	w.t.Helper()
	if err := w.db.Write(w.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(statement, args...)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
}

func TestADeviceIsMadeWithEverythingNobodySaid(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	row, err := w.post(me.operator, "device", me.in(`{"belongs_to__application":{application}}`))
	if err != nil {
		t.Fatal(err)
	}
	if uuid, _ := row["uuid"].(string); len(uuid) != 32 || !strings.Contains(row["device_name"].(string), "-") ||
		fmt.Sprint(row["is_of__device_type"]) != "map[__id:1000]" || row["is_active"] != true || row["is_online"] != false || row["overall_status"] != "configuring" {
		t.Errorf("made %v", row)
	}
	at := fmt.Sprintf("device(%v)", row["id"])
	if n := len(w.get(me.observer, at+"?$expand=service_install")[0]["service_install"].([]any)); n != 1 {
		t.Errorf("it can have variables for %d services", n)
	}
	w.golden("device-made", me.observer, at+"?$select="+strings.Join(without(w.schema["device"], "uuid device_name created_at modified_at"), ","))
	types := w.get(me.user, "device_type?$select=id,slug&$filter=slug in ('generic-amd64','raspberrypi3')&$orderby=slug asc")
	for name, c := range map[string]struct {
		actor      fleet.Actor
		body, want string
		kind       fault.Kind
	}{
		"a uuid of another kind":      {me.operator, me.in(`{"belongs_to__application":{application},"uuid":"abc"}`), "uuid", fault.Invalid},
		"a uuid that is there":        {me.operator, me.in(`{"belongs_to__application":{application},"uuid":"{uuid}"}`), `"uuid" must be unique.`, fault.Conflict},
		"a name that is there":        {me.operator, me.in(`{"belongs_to__application":{application},"device_name":"second"}`), `must be unique.`, fault.Conflict},
		"of another architecture":     {me.operator, me.in(fmt.Sprintf(`{"belongs_to__application":{application},"is_of__device_type":%v}`, types[0]["id"])), "cannot run the images", fault.Invalid},
		"of a smaller architecture":   {me.operator, me.in(fmt.Sprintf(`{"belongs_to__application":{application},"is_of__device_type":%v}`, types[1]["id"])), "cannot run the images", fault.Invalid},
		"pinned on a failure":         {me.operator, me.in(`{"belongs_to__application":{application},"is_pinned_on__release":{failed release}}`), "its status is failed", fault.Invalid},
		"without a fleet":             {me.operator, `{}`, "needs belongs_to__application", fault.Invalid},
		"by an observer":              {me.observer, me.in(`{"belongs_to__application":{application}}`), "", fault.Denied},
		"by a device":                 {me.device, me.in(`{"belongs_to__application":{application}}`), "", fault.Denied},
		"by a card":                   {me.provisioning, me.in(`{"belongs_to__application":{application}}`), "", fault.Denied},
		"in another's fleet":          {me.user, other.in(`{"belongs_to__application":{application}}`), "no application", fault.Denied},
		"in one it may only look at":  {me.observer, me.in(`{"belongs_to__application":{application},"note":"x"}`), "", fault.Denied},
		"with a state nobody reports": {me.operator, me.in(`{"belongs_to__application":{application},"api_heartbeat_state":"online"}`), "cannot be set", fault.Invalid},
	} {
		_, err := w.post(c.actor, "device", c.body)
		w.refuses(name, err, c.kind, c.want)
	}
}

// without are the fields of a resource but some.
func without(r *resource, names string) (all []string) {
	for _, f := range r.fields {
		if !called(names, first(f.name)) {
			all = append(all, first(f.name))
		}
	}
	return all
}

func TestADeviceIsMovedByWhoOperatesBothFleets(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	garden := w.secondFleet("testpi-64")
	body := fmt.Sprintf(`{"belongs_to__application":%d}`, garden)
	w.refuses("the friend", w.patch(me.friend, me.in("device({device})"), body), fault.Denied, "")
	w.exec(`INSERT INTO fleet_memberships (created_at, modified_at, user_id, fleet, role) VALUES (1, 1, $1, $2, 4)`, me.ids["friend"], garden)
	w.refuses("the friend, an observer there", w.patch(me.friend, me.in("device({device})"), body), fault.Denied, "may not change")
	w.exec(`UPDATE fleet_memberships SET role = 3 WHERE fleet = $1`, garden)
	w.change(me.friend, me.in("device({device})"), body)
	w.refuses("an observer", w.patch(me.observer, me.in("device({device})"), me.in(`{"belongs_to__application":{application}}`)), fault.Denied, "may look at this device, but not change it")
	if got := w.get(me.user, me.in("device({device})?$select=belongs_to__application"))[0]; fmt.Sprint(got["belongs_to__application"]) != fmt.Sprintf("map[__id:%d]", garden) {
		t.Errorf("it is in %v", got)
	}
}

func TestDevicesAreChangedByTheirOperatorsAndHearOfItWhenTheirTargetIsAnother(t *testing.T) {
	w := newWorld(t)
	me, heard := w.tenants[0], w.listen()
	both := me.in("device?$filter=id in ({device},{second device})")
	one := []string{me.in("{application}/{device}")}
	for _, c := range []struct {
		body string
		want []string
	}{
		{`{"note":"x"}`, nil},
		{`{"device_name":"first"}`, nil}, // it is called so
		{`{"device_name":"porch"}`, one},
		{me.in(`{"is_pinned_on__release":{old release}}`), one},
		{me.in(`{"is_pinned_on__release":{old release},"note":"y"}`), nil},
		{me.in(`{"belongs_to__application":{application}}`), nil},
		{`{"is_pinned_on__release":null}`, one},
		{`{"is_web_accessible":true}`, nil},
		{`{"is_active":false}`, nil}, // refused: it is online
		{`{"is_online":false}`, nil},
		{`{"is_active":false}`, one},
		{`{"is_active":true}`, one},
		{`{"custom_latitude":"41.38","custom_longitude":"","local_id":"7","is_accessible_by_support_until__date":1795340637861,"is_locked_until__date":"2026-03-01T13:00:00Z"}`, nil},
		{`{"os_version":"balenaOS 2.48.0+rev1","os_variant":"prod","supervisor_version":"10.8.0","cpu_usage":34,"is_undervolted":true,"mac_address":"00:11"}`, nil},
	} {
		*heard = nil
		if err := w.patch(me.operator, me.in("device({device})"), c.body); err != nil && !strings.Contains(err.Error(), "online") {
			t.Errorf("%s: %v", c.body, err)
		}
		if !slices.Equal(*heard, c.want) {
			t.Errorf("%s: Changed was told %q, want %q", c.body, *heard, c.want)
		}
	}
	got := w.get(me.observer, me.in("device({device})"))[0]
	for name, want := range map[string]any{
		"custom_latitude": "41.38", "latitude": "41.38", "custom_longitude": "", "local_id": "7", "is_web_accessible": true, "os_variant": "prod",
		"is_accessible_by_support_until__date": "2026-11-22T09:43:57.861Z", "is_locked_until__date": "2026-03-01T13:00:00.000Z",
		"overall_status": "disconnected", "is_online": false, "cpu_usage": 34.0, "is_undervolted": true,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	w.change(me.operator, me.in("device({device})"), `{"is_online":true}`)
	if got := w.get(me.observer, me.in("device({device})?$select=is_online,last_connectivity_event"))[0]; got["is_online"] != true || got["last_connectivity_event"] != "2026-03-01T13:00:00.123Z" {
		t.Errorf("said to be online it is %v", got)
	}
	// All at once or none.
	w.refuses("with a name for both", w.patch(me.operator, both, `{"device_name":"twin"}`), fault.Conflict, "must be unique")
	w.refuses("an observer", w.patch(me.observer, both, `{"note":"mine"}`), fault.Denied, "may look at this device")
	// Who may not even look hears nothing.
	for who, a := range map[string]fleet.Actor{"member": me.member, "other": w.tenants[1].user} {
		if err := w.patch(a, both, `{"note":"mine"}`); err != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
	if rows := w.get(me.user, both+" and note eq 'mine'"); len(rows) != 0 {
		t.Errorf("somebody else wrote %v", rows)
	}
	w.refuses("an observer", w.drop(me.observer, both), fault.Denied, "not delete it")
	if len(w.get(me.user, both)) != 2 {
		t.Error("an observer deleted them")
	}
	if err := w.drop(me.operator, both); err != nil || len(w.get(me.user, both)) != 0 {
		t.Errorf("an operator did not: %v", err)
	}
}

func TestADeactivatedDeviceIsInactiveAndItsOnlineFellowIsNotDeactivated(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	w.refuses("one that is online", w.patch(me.operator, me.in("device({device})"), `{"is_active":false}`), fault.Invalid, "it is online")
	w.change(me.operator, me.in("device({second device})"), `{"is_active":false}`)
	got := w.get(me.observer, me.in("device({second device})?$select=is_active,overall_status"))[0]
	if got["is_active"] != false || got["overall_status"] != "inactive" {
		t.Errorf("it is %v", got)
	}
	d, err := w.db.Device(t.Context(), strings.Replace(me.uuid, "1", "2", 1))
	if err != nil || !d.Deactivated {
		t.Errorf("%+v %v", d, err)
	}
}

// A card may come with images of a release, and the device then says that it is to stay on it (protocol §1.4, step 5).
func TestADevicePinsItselfOnlyWhileItIsBeingProvisioned(t *testing.T) {
	pin := `{"is_pinned_on__release":{old release}}`
	for name, c := range map[string]struct {
		before func(w *world, me tenant)
		body   string
		ok     bool
	}{
		"just registered":          {func(w *world, me tenant) {}, pin, true},
		"with its name":            {func(w *world, me tenant) {}, `{"is_pinned_on__release":{old release},"device_name":"porch"}`, true},
		"to a release that failed": {func(w *world, me tenant) {}, `{"is_pinned_on__release":{failed release}}`, false},
		"and something else":       {func(w *world, me tenant) {}, `{"is_pinned_on__release":{old release},"is_active":false}`, false},
		"an hour later":            {func(w *world, me tenant) { w.clock = w.clock.Add(time.Hour) }, pin, false},
		"after a person pinned it": {func(w *world, me tenant) {
			w.change(me.operator, me.in("device({device})"), me.in(`{"is_pinned_on__release":{release}}`))
		}, pin, false},
		"after a person let it go": {func(w *world, me tenant) {
			w.change(me.operator, me.in("device({device})"), `{"is_pinned_on__release":null}`)
		}, pin, false},
		"once more":                     {func(w *world, me tenant) { w.change(me.device, me.in("device({device})"), me.in(pin)) }, `{"is_pinned_on__release":null}`, true},
		"after a person changed a note": {func(w *world, me tenant) { w.change(me.operator, me.in("device({device})"), `{"note":"x"}`) }, pin, true},
	} {
		w := newWorld(t)
		me := w.tenants[0]
		w.exec(`UPDATE devices SET created_at = $1`, w.clock.Add(-time.Minute).UnixMicro())
		c.before(w, me)
		show := me.in("device({device})?$select=is_pinned_on__release,note,is_active,device_name")
		before := w.get(me.user, show)[0]
		err := w.patch(me.device, me.in("device({device})"), me.in(c.body))
		if changed := !cmp.Equal(before, w.get(me.user, show)[0]); changed != c.ok || c.ok && err != nil {
			t.Errorf("%s: it changed is %v, want %v: %v", name, changed, c.ok, err)
		}
	}
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	w.exec(`UPDATE devices SET created_at = $1`, w.clock.UnixMicro())
	w.refuses("to another's release", w.patch(me.device, me.in("device({device})"), other.in(pin)), fault.Denied, "")
	if err := w.patch(me.device, me.in("device({second device})"), me.in(pin)); err != nil || w.get(me.user, me.in("device({second device})?$select=is_pinned_on__release"))[0]["is_pinned_on__release"] != nil {
		t.Errorf("it pinned its fellow: %v", err)
	}
}

func TestADeviceKeepsItsOwnConfigAsAStockSupervisorWritesIt(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	row, err := w.post(me.device, "device_config_variable", me.in(`{"value":"","device":{device},"name":"RESIN_HOST_FIREWALL_MODE"}`))
	if err != nil || row["value"] != "" {
		t.Errorf("made %v %v", row, err)
	}
	_, err = w.post(me.device, "device_config_variable", me.in(`{"value":"","device":{second device},"name":"RESIN_HOST_FIREWALL_MODE"}`))
	w.refuses("for its fellow", err, fault.Denied, "")
	_, err = w.post(me.operator, "device_config_variable", me.in(`{"value":"vim","device":{device},"name":"BALENA_EDITOR"}`))
	if err != nil {
		t.Errorf("a name that only the device knows: %v", err)
	}
	_, err = w.post(me.operator, "device_config_variable", me.in(`{"value":"vim","device":{device},"name":"EDITOR"}`))
	w.refuses("a name for containers", err, fault.Invalid, "not a config variable")
}

func TestAServicesVariableOnADeviceIsNamedEitherWay(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	row, err := w.post(me.operator, "device_service_environment_variable", me.in(`{"device":{device},"service":{service},"name":"B","value":"1"}`))
	want := map[string]any{"service_install": map[string]any{"__id": float64(me.ids["service_install"])}, "device": map[string]any{"__id": float64(me.ids["device"])},
		"name": "B", "value": "1"}
	if err != nil {
		t.Fatal(err)
	}
	for name := range row {
		if want[name] == nil {
			delete(row, name)
		}
	}
	if diff := cmp.Diff(want, row); diff != "" {
		t.Error(diff)
	}
	for name, body := range map[string]string{
		"both ways":                    me.in(`{"service_install":{service_install},"device":{device},"service":{service},"name":"C","value":"1"}`),
		"half of one":                  me.in(`{"device":{device},"name":"C","value":"1"}`),
		"none":                         `{"name":"C","value":"1"}`,
		"a reserved name":              me.in(`{"device":{device},"service":{service},"name":"RESIN_X","value":"1"}`),
		"another's device and service": other.in(`{"device":{device},"service":{service},"name":"C","value":"1"}`),
		"another's service":            me.in(`{"device":{device},"service":`) + other.in(`{service},"name":"C","value":"1"}`),
		"another's both in one":        other.in(`{"service_install":{service_install},"name":"C","value":"1"}`),
	} {
		if _, err := w.post(me.operator, "device_service_environment_variable", body); !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.golden("device-service-variable", me.observer, fmt.Sprintf("device_service_environment_variable(service_install=%d,name='B')", me.ids["service_install"]))
}

func TestAnImageInstallIsOfTheDevicesOwnFleet(t *testing.T) {
	w := newWorld(t)
	w.registry()
	me, other := w.tenants[0], w.tenants[1]
	row, err := w.post(me.operator, "image_install", me.in(`{"installs__image":{image},"is_provided_by__release":{release},"device":{second device},"download_progress":50,"status":"Downloading","install_date":"2017-10-30"}`))
	if err != nil || row["status"] != "Downloading" || row["install_date"] != "2017-10-30T00:00:00.000Z" {
		t.Fatalf("made %v %v", row, err)
	}
	at := fmt.Sprintf("image_install(%v)", row["id"])
	w.change(me.operator, at, `{"status":"Handing over","download_progress":null}`)
	w.refuses("a state there is not", w.patch(me.operator, at, `{"status":"Fine"}`), fault.Invalid, "no status")
	w.refuses("more than all", w.patch(me.operator, at, `{"download_progress":101}`), fault.Invalid, "percent")
	w.refuses("by another's release", w.patch(me.operator, at, other.in(`{"is_provided_by__release":{release}}`)), fault.Denied, "")
	garden := w.secondFleet("testpi-64")
	stray := w.made(me.developer, "release", fmt.Sprintf(`{"belongs_to__application":%d,"commit":"c0ffee","composition":{}}`, garden))
	w.refuses("by a release of another fleet", w.patch(me.operator, at, fmt.Sprintf(`{"is_provided_by__release":%d}`, stray)), fault.Invalid, "not of the device's fleet")
	service := w.made(me.developer, "service", fmt.Sprintf(`{"application":%d,"service_name":"main"}`, garden))
	image := w.made(me.developer, "image", fmt.Sprintf(`{"is_a_build_of__service":%d}`, service))
	w.refuses("an image of another fleet", w.patch(me.operator, at, fmt.Sprintf(`{"installs__image":%d}`, image)), fault.Invalid, "cannot be set")
	_, err = w.post(me.operator, "image_install", me.in(fmt.Sprintf(`{"installs__image":%d,"is_provided_by__release":{release},"device":{device},"status":"Running"}`, image)))
	w.refuses("a new image of another fleet", err, fault.Invalid, "the image is not of the device's fleet")
	_, err = w.post(me.operator, "image_install", other.in(`{"installs__image":{image},"is_provided_by__release":{release},`)+me.in(`"device":{device},"status":"Running"}`))
	w.refuses("another's image", err, fault.Denied, "")
	_, err = w.post(me.device, "image_install", me.in(`{"installs__image":{image},"is_provided_by__release":{release},"device":{device},"status":"Running"}`))
	w.refuses("twice", err, fault.Conflict, `"device" and "installs__image" must be unique.`)
	if err := w.drop(me.operator, at); err != nil {
		t.Error(err)
	}
	_, err = w.post(me.observer, "image_install", me.in(`{"installs__image":{image},"is_provided_by__release":{release},"device":{second device},"status":"Running"}`))
	w.refuses("by an observer", err, fault.Denied, "")
	w.change(me.device, me.in("image_install({image_install})"), `{"status":"Running"}`)
}

func TestADevicesSystemIsOfAReleaseForIt(t *testing.T) {
	w := newWorld(t)
	me, heard := w.tenants[0], w.listen()
	admin := me.user
	admin.Administrator = true
	host := func(name, deviceType string, is bool) int64 {
		types := w.get(admin, "device_type?$select=id&$filter=slug eq '"+deviceType+"'")
		app := w.made(admin, "application", me.in(fmt.Sprintf(`{"app_name":"%s","is_for__device_type":%v,"organization":{organization},"is_host":%v,"is_public":true}`, name, types[0]["id"], is)))
		return w.made(admin, "release", fmt.Sprintf(`{"belongs_to__application":%d,"commit":"c0ffee","composition":{},"status":"success","semver":"6.0.1"}`, app))
	}
	right, wrong, amd := host("testpi-os", "testpi-64", true), host("amd-os", "generic-amd64", true), host("amd-supervisor", "generic-amd64", false)
	supervisor := host("testpi-supervisor", "testpi-64", false)
	*heard = nil
	at := me.in("device({device})")
	w.change(me.operator, at, fmt.Sprintf(`{"should_be_operated_by__release":%d,"should_be_managed_by__release":%d}`, right, supervisor))
	if want := []string{me.in("{application}/{device}")}; !slices.Equal(*heard, want) {
		t.Errorf("Changed was told %q, want %q", *heard, want)
	}
	if got := w.get(me.observer, fmt.Sprintf("release(%d)?$expand=should_operate__device($select=uuid)", right))[0]["should_operate__device"].([]any); len(got) != 1 {
		t.Errorf("it operates %v", got)
	}
	for body, want := range map[string]string{
		fmt.Sprintf(`{"should_be_operated_by__release":%d}`, wrong):      "is for generic-amd64",
		fmt.Sprintf(`{"should_be_operated_by__release":%d}`, supervisor): "is not for that",
		fmt.Sprintf(`{"should_be_managed_by__release":%d}`, right):       "is not for that",
		fmt.Sprintf(`{"should_be_managed_by__release":%d}`, amd):         "cannot run",
		me.in(`{"should_be_operated_by__release":{failed release}}`):     "its status is failed",
	} {
		want := strings.ReplaceAll(want, "its status", "the status of the release")
		w.refuses(body, w.patch(me.operator, at, body), fault.Invalid, want)
	}
	w.refuses("another's", w.patch(me.operator, at, w.tenants[1].in(`{"should_be_operated_by__release":{release}}`)), fault.Denied, "")
	w.refuses("by itself", w.patch(me.device, at, fmt.Sprintf(`{"should_be_operated_by__release":%d}`, right)), fault.Denied, "")
	w.change(me.operator, at, `{"should_be_operated_by__release":null}`)
}
