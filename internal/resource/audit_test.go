package resource

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// key adds an API key.
func (w *world) key(actor int64, role string) {
	w.t.Helper()
	if _, err := w.db.AddKey(w.t.Context(), store.NewKey{Actor: actor, Role: role, Hash: fmt.Sprintf("SECRET-%d", actor)}); err != nil {
		w.t.Fatal(err)
	}
}

// trail is what the trail says beyond the fixture, oldest first, a line for each row.
func (w *world) trail(a fleet.Actor) []string {
	w.t.Helper()
	all := []string{}
	for _, row := range w.get(a, "audit?$filter=address ne '192.0.2.1'&$orderby=id asc") {
		details, err := json.Marshal(row["details"])
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, fmt.Sprint(row["actor_kind"], " ", row["actor_name"], " ", row["address"], " ", row["verb"], " ", row["resource"], " ",
			row["row_id"], " of ", id(row["organization"]), "/", id(row["application"]), " ", string(details)))
	}
	return all
}

func TestEveryWriteIsOnTheTrail(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	me.user.Address, me.device.Address, me.device.Name = "2001:db8::7", "198.51.100.2", me.uuid
	org, app := me.ids["organization"], me.ids["application"]
	made, err := w.post(me.user, "device_environment_variable", me.in(`{"device":{device},"name":"PASSWORD","value":"hunter2"}`))
	if err != nil {
		t.Fatal(err)
	}
	v := id(made["id"])
	if err := w.patch(me.user, me.in("device({device})"), `{"device_name":"attic","note":"the code is 1234"}`); err != nil {
		t.Fatal(err)
	}
	if err := w.patch(me.device, me.in("device_tag({device_tag})"), `{"value":"hunter3"}`); err != nil {
		t.Fatal(err)
	}
	if err := w.drop(me.user, fmt.Sprintf("device_environment_variable(%d)", v)); err != nil {
		t.Fatal(err)
	}
	invited, err := w.post(me.user, "organization_invite", me.in(`{"invitee":"bob@example.org","is_invited_to__organization":{organization}}`))
	if err != nil {
		t.Fatal(err)
	}
	// These come to nothing.
	if err := w.drop(me.user, "device_environment_variable(999)"); err != nil {
		t.Fatal(err)
	}
	if err := w.patch(me.user, me.in("device({device})"), `{"device_name":"second"}`); !fault.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
	if err := w.patch(me.observer, me.in("device({device})"), `{"device_name":"mine"}`); !fault.Is(err, fault.Denied) {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintf(`user acme 2001:db8::7 create device_environment_variable %d of %d/%d {"device":%d,"name":"PASSWORD","withheld":["value"]}`, v, org, app, me.ids["device"]),
		fmt.Sprintf(`user acme 2001:db8::7 change device %d of %d/%d {"device_name":"attic","withheld":["note"]}`, me.ids["device"], org, app),
		fmt.Sprintf(`device %s 198.51.100.2 change device_tag %d of %d/%d {"withheld":["value"]}`, me.uuid, me.ids["device_tag"], org, app),
		fmt.Sprintf(`user acme 2001:db8::7 delete device_environment_variable %d of %d/%d {}`, v, org, app),
		fmt.Sprintf(`user acme 2001:db8::7 create organization_invite %d of %d/0 {"invitee":"bob@example.org","is_invited_to__organization":%d}`, id(invited["id"]), org, org),
	}
	if diff := cmp.Diff(want, w.trail(me.user)); diff != "" {
		t.Error(diff)
	}
	for _, row := range w.get(me.user, "audit?$filter=actor_kind eq 'device'&$expand=application($select=slug),organization($select=handle),actor") {
		if fmt.Sprint(row["application"], row["organization"], row["api_key"]) != "[map[slug:acme/porch]] [map[handle:acme]] map[__id:1]" {
			t.Errorf("%v", row)
		}
	}
	if kept := w.dump(); strings.Contains(kept, "hunter2") || strings.Contains(kept, fmt.Sprint(invited["invitationToken"])) {
		t.Error("a secret is kept")
	}
}

func TestTheTrailIsForOwnersAndForOnesOwnDeedsAndNobodyWritesIt(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	if err := w.patch(me.operator, me.in("device({device})"), `{"note":"x"}`); err != nil {
		t.Fatal(err)
	}
	if err := w.db.Audit(t.Context(), store.Audit{Verb: "refuse", Resource: "user"}); err != nil {
		t.Fatal(err)
	}
	administrator := other.user
	administrator.Administrator = true
	for _, c := range []struct {
		who   string
		actor fleet.Actor
		want  int
	}{
		{"the owner", me.user, 2}, {"the operator who did it", me.operator, 1}, {"a developer", me.developer, 0}, {"another tenant", other.user, 1},
		{"an administrator, what is nobody's besides", administrator, 2},
	} {
		if rows := w.get(c.actor, "audit"); len(rows) != c.want {
			t.Errorf("%s sees %v", c.who, rows)
		}
	}
	for _, a := range []fleet.Actor{me.user, administrator, me.device, me.provisioning, {}} {
		_, err := w.post(a, "audit", `{"verb":"create","resource":"x"}`)
		for _, err := range []error{err, w.patch(a, me.in("audit({audit})"), `{"verb":"x"}`), w.drop(a, me.in("audit({audit})"))} {
			if !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%v writes the trail: %v", a.Kind, err)
			}
		}
	}
	// What was an organization's outlives it.
	if err := w.drop(me.user, me.in("organization({organization})")); err != nil {
		t.Fatal(err)
	}
	if n := len(w.get(administrator, me.in("audit?$filter=organization eq {organization}"))); n != 3 {
		t.Errorf("of an organization that is gone, %d rows are left", n)
	}
}

func TestAChangeOfManyRowsHasABoundedTrail(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	for i := range 150 {
		if _, err := w.post(me.user, "device_tag", me.in(fmt.Sprintf(`{"device":{device},"tag_key":"k%d","value":"x"}`, i))); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (rows int) {
		if err := w.db.Reader().QueryRow(`SELECT COUNT(*) FROM audit_events WHERE verb = 'delete'`).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	if err := w.drop(me.user, "device_tag?$filter=startswith(tag_key,'k')"); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != auditedRows+1 {
		t.Errorf("150 rows deleted are %d rows of the trail", n)
	}
	trail := w.trail(me.user)
	if got, want := trail[len(trail)-1], fmt.Sprintf(`user acme  delete device_tag <nil> of %d/%d {"rows":50}`, me.ids["organization"], me.ids["application"]); got != want {
		t.Errorf("the last of them is %s, want %s", got, want)
	}
}

func TestWritesAreToldAfterTheyAreCommitted(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	var told []Write
	w.Wrote = func(x Write) {
		// A reader sees it already.
		if n := len(w.get(me.user, "audit")); n < 2 {
			t.Errorf("told before it was written: %+v", x)
		}
		x.Actor = fleet.Actor{}
		told = append(told, x)
	}
	org, app := me.ids["organization"], me.ids["application"]
	made, err := w.post(me.user, "application_tag", me.in(`{"application":{application},"tag_key":"x","value":"1"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.patch(me.user, me.in("device?$filter=belongs_to__application eq {application}"), `{"note":"x"}`); err != nil {
		t.Fatal(err)
	}
	if err := w.patch(me.user, me.in("organization({organization})"), `{"name":"x"}`); err != nil {
		t.Fatal(err)
	}
	if err := w.drop(me.user, "device_tag(999)"); err != nil {
		t.Fatal(err)
	}
	if err := w.patch(me.user, me.in("device({device})"), `{"device_name":"second"}`); !fault.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
	devices := []int64{me.ids["second device"], me.ids["device"]}
	want := []Write{
		{Verb: "create", Resource: "application_tag", IDs: []int64{id(made["id"])}, Fleets: map[int64][]int64{app: nil}, Organization: org},
		{Verb: "change", Resource: "device", IDs: devices, Fleets: map[int64][]int64{app: devices}, Organization: org},
		{Verb: "change", Resource: "organization", IDs: []int64{org}, Fleets: map[int64][]int64{}, Organization: org},
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

func TestADeviceThatGoesToAnotherOrganizationIsOnBothTrails(t *testing.T) {
	w := newWorld(t)
	me, other := w.tenants[0], w.tenants[1]
	err := w.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO organization_memberships (created_at, modified_at, user_id, organization, role) VALUES (1, 1, $1, $2, 2)`, me.ids["user"], other.ids["organization"])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var told []int64
	w.Wrote = func(x Write) { told = append(told, x.Organization) }
	if err := w.patch(me.user, me.in("device({device})"), other.in(`{"device_name":"moved","belongs_to__application":{application}}`)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []int64{me.ids["organization"], other.ids["organization"]}) {
		t.Errorf("told of %v", told)
	}
	for _, x := range []tenant{me, other} {
		if n := len(w.get(x.user, x.in("audit?$filter=resource eq 'device' and organization eq {organization}"))); n != 1 {
			t.Errorf("%d rows on the trail of %s", n, x.user.Name)
		}
	}
}
