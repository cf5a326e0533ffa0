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
	"github.com/dunlin/dunlin/internal/store"
)

// The walk: every resource, every verb, every kind of actor, by every way the model has. A resource, a relation or a
// grant that is added is walked without being named here.

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

// kinds are the actors of a tenant in the order of the matrix.
var kinds = []string{"nobody", "owner", "developer", "operator", "observer", "member", "friend", "teammate", "device", "provisioning"}

// differing are those whose way to rows differs; the rest are between them in rank.
const differing = "nobody owner member friend device provisioning"

func (x tenant) actors() map[string]fleet.Actor {
	return map[string]fleet.Actor{
		"nobody": {}, "owner": x.user, "developer": x.developer, "operator": x.operator, "observer": x.observer,
		"member": x.member, "friend": x.friend, "teammate": x.teammate, "device": x.device, "provisioning": x.provisioning,
	}
}

// dump is everything in the database.
func (w *world) dump() string {
	w.t.Helper()
	var all strings.Builder
	db := w.db.Reader()
	list := `SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`
	if w.db.Dialect() == store.PostgreSQL {
		list = `SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename`
	}
	tables, err := column[string](db.Query(list))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, table := range tables {
		rows, err := db.Query(`SELECT * FROM ` + table + ` ORDER BY 1, 2`)
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

// bare takes most of the built-in catalog away, which is of no interest here and takes long to read.
func (w *world) bare() {
	w.t.Helper()
	err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
		for _, statement := range []string{
			`DELETE FROM fleets WHERE is_host AND slug <> 'balena_os/raspberrypi3'`,
			`DELETE FROM device_types WHERE id NOT IN (SELECT device_type FROM fleets)`,
		} {
			if _, err := tx.Exec(statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// common reports whether the rows of a resource are the same for all tenants.
func common(r *resource) bool {
	return called(empties, r.name) || slices.ContainsFunc(r.access, func(g grant) bool { return g.rows == everyRow })
}

// refused reports whether err is the answer to one who may not.
func refused(err error) bool {
	return fault.Is(err, fault.Denied) || fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Invalid) || fault.Is(err, fault.NotFound)
}

// answer is what an actor gets for a request, in one line.
func (w *world) answer(a fleet.Actor, request string) string {
	body, err := w.Read(context.Background(), a, ask(w.t, request))
	if err != nil {
		return outcome(err)
	}
	return string(body)
}

func outcome(err error) string {
	if err == nil {
		return "done"
	}
	if fault.Is(err, fault.Internal) {
		return "internal: " + err.Error()
	}
	return fmt.Sprint(fault.KindOf(err), ": ", fault.Message(err), " ", fault.Hint(err))
}

// sample says whether to take the nth step of a walk. The race detector makes the engine in this process twenty times
// slower and a walk has nothing for it to find: then every fifth step is taken, and all of them on PostgreSQL.
func (w *world) sample(n int) bool {
	return !raced || w.db.Dialect() != store.SQLite || n%5 == 0
}

// small asks for as little of the rows as can be: most of a walk's time goes into reading statements.
func small(r *resource) string { return r.name + "?$select=" + first(r.fields[0].name) }

// missing is the number of a row that is not there.
const missing = 987654321

// nowhere is x with none of its things there: but what is everybody's is.
func (w *world) nowhere(x tenant) tenant {
	ids := map[string]int64{}
	for name, id := range x.ids {
		ids[name] = id
		if r, ok := w.schema[name]; !ok || !common(r) {
			ids[name] = missing
		}
	}
	x.ids = ids
	return x
}

// alike reports whether two answers differ only in the number of the row that was asked for, and that is the caller's.
func alike(real, absent string, ids map[string]int64) bool {
	if real == absent {
		return true
	}
	for _, id := range ids {
		if strings.ReplaceAll(absent, fmt.Sprint(missing), fmt.Sprint(id)) == real {
			return true
		}
	}
	return false
}

// attempts are the writes of a resource that concern x's things: what would change its row, and make another beside it.
func attempts(w *world, r *resource, x tenant) map[string]func(a fleet.Actor) error {
	ctx := context.Background()
	id := x.ids[r.name]
	byID := fmt.Sprintf("%s(%d)", r.name, id)
	byFilter := fmt.Sprintf("%s?$filter=id eq %d", r.name, id)
	if r.virtual { // some have no field id
		byID = fmt.Sprintf("%s?$filter=%s ne null", r.name, first(r.fields[0].name))
		byFilter = byID
	}
	change, whole := map[string]any{}, map[string]any{}
	for _, f := range r.fields {
		if f.write&onUpdate != 0 {
			change[first(f.name)] = example(x, f)
		}
		if f.write&onCreate != 0 {
			whole[first(f.name)] = example(x, f)
		}
	}
	for _, f := range r.asks {
		if name := first(f.name); name != "username" && name != "service_name" && name != "application" {
			whole[name] = example(x, f)
		}
	}
	if slices.ContainsFunc(r.asks, func(f field) bool { return f.name == "username" }) {
		delete(whole, "user") // a name and a number are both tried
	}
	all := map[string]func(a fleet.Actor) error{
		"DELETE " + r.name + " by id":     func(a fleet.Actor) error { return w.Delete(ctx, a, ask(w.t, byID)) },
		"DELETE " + r.name + " by filter": func(a fleet.Actor) error { return w.Delete(ctx, a, ask(w.t, byFilter)) },
	}
	post := func(body map[string]any) func(a fleet.Actor) error {
		text, _ := json.Marshal(body)
		return func(a fleet.Actor) error {
			_, _, err := w.Create(ctx, a, &odata.Query{Resource: r.name}, text)
			return err
		}
	}
	all["POST "+r.name] = post(whole)
	for _, f := range r.asks {
		if f.name == "username" {
			named, numbered := maps.Clone(whole), maps.Clone(whole)
			named["username"], numbered["user"] = fmt.Sprintf("user-%d", x.ids["user"]), x.ids["user"]
			if x.user.Name != "" && x.ids["user"] != missing {
				named["username"] = x.user.Name
			}
			all["POST "+r.name+" by name"], all["POST "+r.name+" by number"] = post(named), post(numbered)
		}
	}
	// One field at a time, so that no field hides another.
	for name, value := range change {
		text, _ := json.Marshal(map[string]any{name: value})
		all["PATCH "+name+" of "+r.name] = func(a fleet.Actor) error { return w.Update(ctx, a, ask(w.t, byFilter), text) }
	}
	return all
}

// example is a value that the field's rules let through, and that leads to x's things.
func example(x tenant, f field) any {
	switch f.kind {
	case ref:
		return x.ids[f.to]
	case number, big:
		return 7
	case boolean:
		return true
	case moment:
		return "2026-01-01T00:00:00Z"
	case document:
		return map[string]any{}
	}
	switch first(f.name) {
	case "status":
		return "cancelled"
	case "public_key":
		return "ssh-ed25519 BBBB"
	case "is_of__class":
		return "fleet"
	case "invitee":
		return "somebody@example.org"
	}
	return "RESIN_HOST_CONFIG_x"
}

func TestNobodyReachesARowOfAnotherTenantNorLearnsWhetherItIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bare()
	victim, other := w.tenants[0], w.tenants[1]
	absent := w.nowhere(victim)
	before, step := w.dump(), 0
	walked := func() bool { step++; return w.sample(step) }
	for _, r := range w.resources() {
		if _, ok := victim.ids[r.name]; !ok && !common(r) {
			t.Fatalf("the world has no %s; this test must see every resource", r.name)
		}
		theirs, none := victim.ids[r.name], int64(missing)
		var requests []string // %d is the row
		if !common(r) && !r.virtual {
			requests = append(requests, r.name+"(%d)", r.name+"/$count?$filter=id eq %d", r.name+"?$select=id&$filter=not (id ne %d)&$orderby=id desc&$top=1")
		}
		for kind := range strings.FieldsSeq(differing) {
			actor := other.actors()[kind]
			for _, request := range requests {
				if !walked() {
					continue
				}
				got, want := w.answer(actor, fmt.Sprintf(request, theirs)), w.answer(actor, fmt.Sprintf(request, none))
				if got != want || !strings.HasPrefix(got, `{"d":[]}`) && got != `{"d":0}` && !strings.HasPrefix(got, "denied") && !strings.HasPrefix(got, "unauthenticated") {
					t.Errorf("%s: "+request+" is answered %s, and for one that is not there %s", kind, theirs, got, want)
				}
			}
			// What leads to rows that belong to the victim, from any row the actor may read.
			for _, names := range relations(r) {
				rel, err := w.schema.relation(r, first(names))
				if err != nil {
					t.Fatal(err)
				}
				// The test below follows them for all.
				if common(rel.to) || rel.to.virtual || kind != "owner" && kind != "device" {
					continue
				}
				theirs := victim.ids[rel.to.name]
				for _, name := range strings.Fields(names) {
					ways := []string{"&$filter=%[1]s/any(x:x/id eq %[2]d)", "&$filter=not %[1]s/all(x:x/id ne %[2]d)", "&$expand=%[1]s($select=id;$filter=id eq %[2]d)"}
					if rel.single {
						ways = append(ways, "&$filter=%[1]s/id eq %[2]d")
					} else {
						ways = append(ways, "&$filter=%[1]s/$count($filter=id eq %[2]d) gt 0", "&$expand=%[1]s/$count($filter=id eq %[2]d)")
					}
					if name != first(names) {
						if kind != "owner" {
							continue
						}
						ways = ways[2:3]
					}
					for _, way := range ways {
						if !walked() {
							continue
						}
						way := small(r) + way
						got, want := w.answer(actor, fmt.Sprintf(way, name, theirs)), w.answer(actor, fmt.Sprintf(way, name, missing))
						if !alike(got, want, victim.ids) {
							t.Errorf("%s: "+way+" is answered %s, and for one that is not there %s", kind, name, theirs, got, want)
						}
					}
				}
			}
			// What would change the row, or make one beside it.
			real, gone := attempts(w, r, victim), attempts(w, r, absent)
			for _, what := range slices.Sorted(maps.Keys(real)) {
				if what == "POST organization" || !walked() { // anybody makes organizations
					continue
				}
				err, want := real[what](actor), gone[what](actor)
				if err != nil && !refused(err) || err == nil && strings.HasPrefix(what, "POST") {
					t.Errorf("%s: %s: %s", kind, what, outcome(err))
				}
				if got, want := outcome(err), outcome(want); !alike(got, want, victim.ids) && !alike(strings.ReplaceAll(got, victim.user.Name, "?"), strings.ReplaceAll(want, fmt.Sprintf("user-%d", missing), "?"), victim.ids) {
					t.Errorf("%s: %s is answered %q, and for one that is not there %q", kind, what, got, want)
				}
			}
		}
	}
	for _, kind := range kinds {
		for _, r := range []string{"device", "application"} {
			holder, err := w.KeyHolder(context.Background(), other.actors()[kind], r, victim.ids[r])
			_, want := w.KeyHolder(context.Background(), other.actors()[kind], r, missing)
			if !refused(err) || outcome(err) != outcome(want) {
				t.Errorf("%s makes keys for a %s: actor %d, %v, and for one that is not there %v", kind, r, holder, err, want)
			}
		}
	}
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("something was changed (-before +after)\n%s", diff)
	}
}

// Whatever is asked, and however it is sorted, counted and expanded: the answer is the one that a server without the
// other tenant gives.
func TestWhatAnActorReadsDoesNotDependOnAnotherTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bare()
	victim, other := w.tenants[0], w.tenants[1]
	var requests []string
	deep := map[string]bool{} // for the owner alone, who sees most
	for _, r := range w.resources() {
		requests = append(requests, r.name, r.name+"/$count")
		for _, f := range r.fields {
			if f.kind != document {
				request := small(r) + "&$orderby=" + first(f.name) + " desc&$top=3"
				deep[request] = true
				requests = append(requests, request)
			}
		}
		for _, names := range relations(r) {
			name := first(names)
			rel, err := w.schema.relation(r, name)
			if err != nil {
				t.Fatal(err)
			}
			requests = append(requests, small(r)+"&$expand="+name)
			ways := []string{"&$filter=" + name + "/any()", "&$filter=" + name + "/all(x:false)"}
			if rel.single {
				ways = append(ways, "&$orderby="+name+"/"+first(rel.to.fields[0].name))
			} else {
				requests = append(requests, small(r)+"&$expand="+name+"/$count")
				ways = append(ways, "&$filter="+name+"/$count gt 0", "&$orderby="+name+"/$count desc")
			}
			for _, way := range ways {
				request := small(r) + way
				deep[request] = true
				requests = append(requests, request)
			}
			for _, further := range relations(rel.to) {
				request := small(r) + "&$expand=" + name + "($select=" + first(rel.to.fields[0].name) + ";$expand=" + first(further) + ")"
				deep[request] = true
				requests = append(requests, request)
			}
		}
	}
	read := func() map[string]string {
		all := map[string]string{}
		for kind := range strings.FieldsSeq(differing) {
			for i, request := range requests {
				if deep[request] && kind != "owner" || !w.sample(i) {
					continue
				}
				all[kind+": "+request] = w.answer(other.actors()[kind], request)
			}
		}
		return all
	}
	both := read()
	err := w.db.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec(`DELETE FROM organizations WHERE id = $1`, victim.ids["organization"]); err != nil {
			return err
		}
		for _, kind := range []string{"user", "developer", "operator", "observer", "member", "friend", "teammate"} {
			if _, err := tx.Exec(`DELETE FROM users WHERE id = $1`, victim.ids[kind]); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`DELETE FROM audit_events WHERE organization = $1`, victim.ids["organization"])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	alone := read()
	answered := 0
	for _, request := range slices.Sorted(maps.Keys(both)) {
		if both[request] != alone[request] {
			t.Errorf("%s: %s, and alone: %s", request, both[request], alone[request])
		}
		if strings.HasPrefix(both[request], "internal:") {
			t.Errorf("%s: %s", request, both[request])
		}
		if strings.HasPrefix(both[request], `{"d":[{`) {
			answered++
		}
		if strings.Contains(both[request], "SECRET") {
			t.Errorf("%s tells a secret: %s", request, both[request])
		}
	}
	if answered < len(both)/4 {
		t.Errorf("%d of %d requests had rows in their answer: this test sees too little", answered, len(both))
	}
}

// cell is what an actor may do with x's row of a resource.
func (w *world) cell(a fleet.Actor, r *resource, x tenant) string {
	cell := ""
	for i, v := range []verb{read, create, update, remove, hold} {
		c := w.compiler(a)
		rule, err := c.rule(r, "t", v, &odata.Query{Key: []odata.KeyPart{{Name: "uuid"}}})
		may := err == nil
		if may && !called(empties, r.name) {
			row := "TRUE"
			if id, ok := x.ids[r.name]; ok {
				row = "t.id = " + c.arg(id)
			}
			statement := `SELECT EXISTS (SELECT 1 FROM ` + c.table(r) + ` t WHERE ` + row + ` AND ` + rule + `)`
			if err := w.db.Reader().QueryRow(statement, c.args...).Scan(&may); err != nil {
				w.t.Fatalf("%s: %v", r.name, err)
			}
		}
		if may {
			cell += string("rcudk"[i])
		} else {
			cell += "-"
		}
	}
	return cell
}

// The matrix of who may do what is a file, so that a change of it is read by a reviewer. It is about rows of one's own
// tenant; the user, the membership, the SSH key and the audit row in it are the owner's own, the API key is a
// provisioning key, and the membership of the fleet is the friend's. Besides, anybody makes an organization of his own.
func TestWhoMayDoWhatIsAsWritten(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	var got strings.Builder
	fmt.Fprintf(&got, "%-44s", "read create update delete k: make keys")
	for _, kind := range kinds {
		fmt.Fprintf(&got, "  %-5s", kind[:min(len(kind), 5)])
	}
	got.WriteByte('\n')
	for _, r := range w.resources() {
		fmt.Fprintf(&got, "%-44s", r.name)
		for _, kind := range kinds {
			fmt.Fprintf(&got, "  %s", w.cell(me.actors()[kind], r, me))
		}
		got.WriteByte('\n')
	}
	file := filepath.Join("testdata", "access.txt")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}

// What the matrix does not grant is refused, or does nothing, when it is tried.
func TestWhatTheMatrixDeniesCannotBeDone(t *testing.T) {
	w := newWorld(t)
	w.bare()
	me := w.tenants[0]
	before := w.dump()
	for _, r := range w.resources() {
		for _, kind := range kinds {
			actor := me.actors()[kind]
			cell := w.cell(actor, r, me)
			tries := attempts(w, r, me)
			for _, what := range slices.Sorted(maps.Keys(tries)) {
				denied := map[string]byte{"POST": 'c', "PATCH": 'u', "DELETE": 'd'}[strings.Fields(what)[0]]
				// Anybody makes an organization: the matrix is about the one that is there.
				if strings.IndexByte(cell, denied) >= 0 || what == "POST organization" {
					continue
				}
				if err := tries[what](actor); err != nil && !refused(err) && !fault.Is(err, fault.Conflict) {
					t.Errorf("%s: %s: %s", kind, what, outcome(err))
				}
			}
			if cell[0] == '-' && !r.virtual {
				if got := w.answer(actor, fmt.Sprintf("%s(%d)", r.name, me.ids[r.name])); strings.HasPrefix(got, `{"d":[{`) {
					t.Errorf("%s reads %s: %s", kind, r.name, got)
				}
			}
		}
		if after := w.dump(); after != before {
			t.Fatalf("%s: something was changed (-before +after)\n%s", r.name, cmp.Diff(before, after))
		}
	}
}
