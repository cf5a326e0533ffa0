package resource

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
)

// resources are all of them once, by name.
func (w *world) resources() []*resource {
	byName := map[string]*resource{}
	for _, r := range w.schema {
		byName[r.name] = r
	}
	var all []*resource
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, byName[name])
	}
	return all
}

func (x tenant) actors() map[string]fleet.Actor {
	return map[string]fleet.Actor{"nobody": {}, "user": x.user, "device": x.device, "provisioning": x.provisioning}
}

// dump is everything in the database.
func (w *world) dump() string {
	w.t.Helper()
	var all strings.Builder
	db := w.db.Reader()
	var tables []string
	rows, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`)
	if err != nil {
		w.t.Fatal(err)
	}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			w.t.Fatal(err)
		}
		tables = append(tables, name)
	}
	for _, table := range tables {
		rows, err := db.Query(`SELECT * FROM ` + table)
		if err != nil {
			w.t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			w.t.Fatal(err)
		}
		for rows.Next() {
			row := make([]any, len(columns))
			to := make([]any, len(columns))
			for i := range row {
				to[i] = &row[i]
			}
			if err := rows.Scan(to...); err != nil {
				w.t.Fatal(err)
			}
			fmt.Fprintln(&all, table, row)
		}
		if err := rows.Err(); err != nil {
			w.t.Fatal(err)
		}
	}
	return all.String()
}

// public are the resources that have no owner.
func public(r *resource) bool { return r.access[0].who == anyone }

// refused reports whether err is the answer to one who may not.
func refused(err error) bool {
	return fault.Is(err, fault.Denied) || fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Invalid) || fault.Is(err, fault.NotFound)
}

func TestNobodyReachesARowOfAnotherTenant(t *testing.T) {
	w := newWorld(t)
	victim, other := w.tenants[0], w.tenants[1]
	before := w.dump()
	ctx := context.Background()
	for _, r := range w.resources() {
		id, ok := victim.ids[r.name]
		if !ok {
			t.Fatalf("the world has no %s; this test must see every resource", r.name)
		}
		for kind, actor := range other.actors() {
			// What leads to the row.
			byID := fmt.Sprintf("%s(%d)", r.name, id)
			byFilter := fmt.Sprintf("%s?$filter=id eq %d", r.name, id)
			if r.virtual {
				byID = fmt.Sprintf("%s?$filter=has_direct_access_to__application eq %d", r.name, id)
				byFilter = byID
			}
			if !public(r) {
				for _, request := range []string{byID, byFilter} {
					if body, err := w.Read(ctx, actor, ask(t, request)); err == nil && string(body) != `{"d":[]}` || err != nil && !refused(err) {
						t.Errorf("%s reads %s: %s %v", kind, request, body, err)
					}
				}
				path, query, _ := strings.Cut(byFilter, "?")
				if body, err := w.Read(ctx, actor, ask(t, path+"/$count?"+query)); err == nil && string(body) != `{"d":0}` {
					t.Errorf("%s counts %s: %s", kind, byFilter, body)
				}
			}
			// What leads to rows that belong to the victim, from any row the actor may read.
			for _, names := range relations(r) {
				name := first(names)
				rel, err := w.schema.relation(r, name)
				if err != nil {
					t.Fatal(err)
				}
				if public(rel.to) || rel.to.virtual {
					continue
				}
				theirs := victim.ids[rel.to.name]
				for _, request := range []string{
					fmt.Sprintf("%s?$filter=%s/any(x:x/id eq %d)", r.name, name, theirs),
					fmt.Sprintf("%s?$filter=not %s/all(x:x/id ne %d)", r.name, name, theirs),
				} {
					if body, err := w.Read(ctx, actor, ask(t, request)); err == nil && string(body) != `{"d":[]}` || err != nil && !refused(err) {
						t.Errorf("%s learns by %s: %s %v", kind, request, body, err)
					}
				}
				request := fmt.Sprintf("%s?$expand=%s($filter=id eq %d)", r.name, name, theirs)
				body, err := w.Read(ctx, actor, ask(t, request))
				if err != nil {
					if !refused(err) {
						t.Errorf("%s: %v", request, err)
					}
					continue
				}
				var rows struct{ D []map[string]any }
				if err := json.Unmarshal(body, &rows); err != nil {
					t.Fatal(err)
				}
				for _, row := range rows.D {
					if list, ok := row[name].([]any); !ok || len(list) > 0 {
						t.Errorf("%s reads %s: %s", kind, request, body)
					}
				}
			}
			// What would change the row.
			if err := w.Delete(ctx, actor, ask(t, byFilter)); err != nil && !refused(err) {
				t.Errorf("%s deletes %s: %v", kind, byFilter, err)
			}
			if !r.virtual {
				if err := w.Delete(ctx, actor, ask(t, byID)); err != nil && !refused(err) {
					t.Errorf("%s deletes %s: %v", kind, byID, err)
				}
			}
			change := map[string]any{}
			for _, f := range r.fields {
				if f.write&onUpdate != 0 {
					change[first(f.name)] = example(victim, f)
				}
			}
			body, _ := json.Marshal(change)
			if err := w.Update(ctx, actor, ask(t, byFilter), body); err != nil && !refused(err) {
				t.Errorf("%s writes %s to %s: %v", kind, body, byFilter, err)
			}
			// What would make another row beside it.
			whole := map[string]any{}
			for _, f := range r.fields {
				if f.write&onCreate != 0 {
					whole[first(f.name)] = example(victim, f)
				}
			}
			body, _ = json.Marshal(whole)
			if _, _, err := w.Create(ctx, actor, &odata.Query{Resource: r.name}, body); !refused(err) {
				t.Errorf("%s makes a %s: %v", kind, r.name, err)
			}
		}
	}
	for kind, actor := range other.actors() {
		for _, r := range []string{"device", "application"} {
			if holder, err := w.KeyHolder(ctx, actor, r, victim.ids[r]); !refused(err) {
				t.Errorf("%s makes keys for a %s: actor %d, %v", kind, r, holder, err)
			}
		}
	}
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("something was changed (-before +after)\n%s", diff)
	}
}

// example is a value that the field's rules let through, and that leads to x's things.
func example(x tenant, f field) any {
	switch f.kind {
	case ref:
		if f.to == "" {
			return x.ids["actor of user"]
		}
		return x.ids[f.to]
	case number, big:
		return 7
	case boolean:
		return true
	case moment:
		return "2026-01-01T00:00:00Z"
	}
	switch first(f.name) {
	case "status":
		return "cancelled"
	case "public_key":
		return "ssh-ed25519 BBBB"
	case "is_of__class":
		return "fleet"
	}
	return "RESIN_HOST_CONFIG_x"
}

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
			if err := w.patch(actor, other.in(c.mine), victim.in(c.body)); !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Unauthenticated) {
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
	me := w.tenants[0]
	for _, c := range []struct {
		request string
		want    int // rows; -1: refused
	}{
		{"device", 1},
		{"device({second device})", 0},
		{"application", 1},
		{"release", 5},
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
		{"device({device})", `{"is_pinned_on__release":{old release}}`, false},
		{"device({device})", `{"note":"x","is_pinned_on__release":null}`, false},
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

// The matrix of who may do what is a file, so that a change of it is read by a reviewer.
func TestWhoMayDoWhatIsAsWritten(t *testing.T) {
	w := newWorld(t)
	var got strings.Builder
	kinds := []fleet.Actor{{}, w.tenants[0].user, w.tenants[0].device, w.tenants[0].provisioning}
	for _, r := range w.resources() {
		fmt.Fprintf(&got, "%-44s", r.name)
		for _, a := range kinds {
			cell := ""
			for i, v := range []verb{read, create, update, remove, hold} {
				_, err := w.compiler(a).rule(r, "t", v, &odata.Query{Key: []odata.KeyPart{{Name: "uuid"}}})
				if err == nil {
					cell += string("rcudk"[i])
				} else {
					cell += "-"
				}
			}
			fmt.Fprintf(&got, "  %s", cell)
		}
		got.WriteByte('\n')
	}
	file := filepath.Join("testdata", "access.txt")
	text := fmt.Sprintf("%-44s  %-5s  %-5s  %-5s  %-5s\n%s", "read create update delete make-keys", "none", "user", "devic", "prov", got.String())
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Error(diff)
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
		if _, there := w.get(me.user, c.resource)[0][c.field]; !there {
			t.Errorf("a user's %s has no %s", c.resource, c.field)
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
