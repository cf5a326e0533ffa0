package resource

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
)

// shapes are what the stock CLI asks (protocol §6.8), with the golden file of each answer.
var shapes = []struct{ name, request string }{
	{"fleet-list", "application?$filter=is_directly_accessible_by__user/any(dau:1 eq 1)&$orderby=app_name asc&$select=id,app_name,slug&$expand=is_for__device_type($select=slug),owns__device($select=is_online)"},
	{"fleet-show", "application?$filter=is_directly_accessible_by__user/any(dau:1 eq 1) and (slug eq 'acme/porch' or uuid eq 'acme/porch')&$expand=is_for__device_type($select=slug),should_be_running__release($select=commit)"},
	{"fleet-type", "application({application})?$select=id&$expand=application_type($select=name,slug,supports_multicontainer),is_for__device_type($select=slug;$expand=is_of__cpu_architecture($select=slug))"},
	{"device-list", "device?$select=id,uuid,device_name,status,is_online,supervisor_version,os_version&$expand=belongs_to__application($select=app_name,slug),is_of__device_type($select=slug),is_running__release($select=commit)&$orderby=device_name asc"},
	{"device-list-of-fleet", "application?$filter=slug eq 'acme/porch'&$select=slug&$expand=owns__device($select=id,device_name;$expand=is_running__release($select=commit);$orderby=device_name asc)"},
	{"device-show", "device(uuid='{uuid}')?$select=device_name,id,overall_status,is_online,ip_address,mac_address,last_connectivity_event,uuid,supervisor_version,is_web_accessible,note,os_version,memory_usage,memory_total,public_address,storage_block_device,storage_usage,storage_total,cpu_usage,cpu_temp,cpu_id,is_undervolted&$expand=belongs_to__application($select=app_name,slug),is_of__device_type($select=slug),is_running__release($select=commit)"},
	{"device-all", "device(uuid='{uuid}')"},
	{"device-by-prefix", "device?$filter=startswith(uuid,'00000')&$select=id,uuid&$orderby=id desc"},
	{"device-for-pin", "device(uuid='{uuid}')?$select=id,uuid,belongs_to__application,is_pinned_on__release,should_be_running__release"},
	{"device-services", "device({device})?$select=uuid&$expand=image_install($select=id,download_progress,status,install_date;$filter=status ne 'deleted';$expand=image($select=id;$expand=is_a_build_of__service($select=id,service_name)),is_provided_by__release($select=id,commit))"},
	{"release-list", "release?$filter=belongs_to__application eq {application}&$orderby=created_at desc&$select=id,commit,created_at,status,raw_version,is_final"},
	{"release-show", "release?$filter=startswith(commit,'0000')&$select=id,commit,created_at,status,raw_version,is_final,build_log,start_timestamp,end_timestamp,semver,version,composition,contract,note&$expand=release_tag&$top=1&$skip=4"},
	{"release-all", "release({draft release})"},
	{"release-images", "release?$select=id&$filter=belongs_to__application eq {application} and status eq 'success'&$expand=release_image($select=id;$expand=image)&$orderby=id desc&$top=1"},
	{"env-fleet", "application_environment_variable?$orderby=name asc&$filter=application eq {application}"},
	{"env-service", "service_environment_variable?$orderby=name asc&$filter=service/any(s:s/application eq {application})&$expand=service"},
	{"env-device-service", "device_service_environment_variable?$filter=service_install/any(si:si/device eq {device})&$expand=service_install($expand=installs__service)"},
	{"service-by-name", "service(application={application},service_name='main')"},
	{"ssh-keys", "user__has__public_key"},
	{"organizations", "organization?$select=name,handle&$orderby=name asc&$filter=organization_membership/any(orm:orm/user eq {user})"},
	{"keys", "api_key?$filter=is_of__actor eq {actor of application} and name ne null"},
	{"device-type-by-alias", "device_type?$top=1&$filter=device_type_alias/any(dta:dta/is_referenced_by__alias eq 'testpi')&$select=id,slug,name&$expand=is_of__cpu_architecture($select=slug),device_type_alias($select=is_referenced_by__alias)"},
	{"counts", "application?$select=id&$expand=owns__device/$count($filter=is_online eq true),owns__release/$count&$filter=owns__device/$count gt 1&$orderby=owns__release/$count desc"},
	{"count", "device/$count?$filter=belongs_to__application/slug eq 'acme/porch'"},
	{"user", "user({user})?$select=id,actor,username,email&$expand=organization_membership($expand=is_member_of__organization($select=handle))"},
}

func TestAnswersHaveTheProtocolsShape(t *testing.T) {
	w := newWorld(t)
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			request := w.tenants[0].in(s.request)
			body, err := w.Read(context.Background(), w.tenants[0].user, ask(t, request))
			if err != nil {
				t.Fatal(err)
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, body, "", "  "); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			pretty.WriteByte('\n')
			file := filepath.Join("testdata", s.name+".json")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(file, pretty.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
				t.Errorf("%s (-want +got)\n%s", request, diff)
			}
		})
	}
}

// counter counts the statements that pass.
type counter struct {
	querier
	n int
}

func (c *counter) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	c.n++
	return c.querier.QueryRowContext(ctx, query, args...)
}

func TestAQueryIsOneStatementHoweverDeepItIs(t *testing.T) {
	w := newWorld(t)
	c := &counter{querier: w.reader}
	w.reader = c
	w.get(w.tenants[0].user, "application?$expand=owns__device($expand=device_tag,image_install($expand=image($expand=is_a_build_of__service))),owns__release($expand=release_image($expand=image))")
	if c.n != 1 {
		t.Errorf("it took %d statements", c.n)
	}
}

func TestEveryNameOfTheTableLeadsSomewhere(t *testing.T) {
	w := newWorld(t)
	who := w.tenants[0].user
	for _, r := range w.resources() {
		var names, order []string
		for _, f := range r.fields {
			names = append(names, strings.Fields(f.name)...)
			if f.kind != document {
				order = append(order, first(f.name))
			}
		}
		w.get(who, r.name+"?$select="+strings.Join(names, ",")+"&$orderby="+strings.Join(order, ","))
		for _, synonyms := range relations(r) {
			for _, name := range strings.Fields(synonyms) {
				if _, err := w.schema.relation(r, name); err != nil {
					t.Errorf("%s/%s: %v", r.name, name, err)
				}
			}
			name := first(synonyms)
			w.get(who, r.name+"?$expand="+name)
			w.get(who, r.name+"?$expand="+name+"/$count&$filter="+name+"/any() or not "+name+"/all(x:1 eq 2)")
		}
	}
}

// relations are all steps from r, each with its synonyms.
func relations(r *resource) (all []string) {
	for _, f := range r.fields {
		if f.kind == ref && f.to != "" {
			all = append(all, f.name)
		}
	}
	for _, n := range r.navs {
		all = append(all, n.name)
	}
	return all
}

func TestFiltersSelectWhatTheySay(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	for _, c := range []struct {
		request string
		want    int
	}{
		{"device", 2},
		{"device({device})", 1},
		{"device(99)", 0},
		{"device?$filter=device_name eq 'first'", 1},
		{"device?$filter=device_name ne 'first'", 1},
		{"device?$filter=note ne 'x'", 2},
		{"device?$filter=note eq null", 2},
		{"device?$filter=not(device_name eq 'first')", 1},
		{"device?$filter=device_name in ('first','second','third')", 2},
		{"device?$filter=id in ({device},{second device}) and id gt {second device}", 1},
		{"device?$filter=memory_usage ge 512.0", 1},
		{"device?$filter=is_online", 1},
		{"device?$filter=is_online eq false", 1},
		{"device?$filter=contains(device_name,'irs') and endswith(device_name,'st') and startswith(tolower(device_name),'f')", 1},
		{"device?$filter=endswith(device_name,'afirst')", 0},
		{"device?$filter=startswith(device_name,'%25')", 0},
		{"device?$filter=belongs_to__application/organization/handle eq 'acme'", 2},
		{"device?$filter=is_running__release/commit ne null", 1},
		{"device?$filter=device_tag/any(t:t/tag_key eq 'room' and t/value eq 'attic')", 1},
		{"device?$filter=device_tag/all(t:t/value eq 'attic')", 2},
		{"device?$filter=device_tag/all(t:t/value eq 'cellar')", 1},
		{"device?$filter=belongs_to__application/any(a:a/owns__device/any(d:d/device_name eq 'second' and a/app_name eq 'porch'))", 2},
		{"device?$filter=belongs_to__application/owns__device/$count eq 2", 2},
		{"device?$filter=created_at eq datetime'2026-03-01T12:00:00.123Z'", 2},
		{"device?$filter=created_at gt datetime'2026-03-01T12:00:00.123Z'", 0},
		{"device?$filter=created_at lt '2026-03-01T12:00:00.124Z'", 2},
		{"device?$filter=1 eq 1 and 'a' lt 'b' and true", 2},
		{"device?$filter=1 eq 2 or null eq null", 2},
		{"device?$top=1&$skip=1", 1},
		{"device?$skip=1", 1},
		{"device?$top=0", 0},
		{"release?$filter=should_be_running_on__device/any(d:d/id eq {device})", 1},
		{"release?$filter=is_final eq true and is_invalidated eq false and belongs_to__application eq {application}", 2},
		{"release(commit='00000000000000000000000000000000')", 0},
		{"application?$filter=owns__device/any(d:d/is_online)", 1},
		{"image?$filter=image_size gt 5", 1},
	} {
		if got := len(w.get(me.user, me.in(c.request))); got != c.want {
			t.Errorf("%s: %d rows, want %d", c.request, got, c.want)
		}
	}
}

func TestAnExpansionKeepsItsOrder(t *testing.T) {
	w := newWorld(t)
	for _, order := range []string{"asc", "desc"} {
		apps := w.get(w.tenants[0].user, w.tenants[0].in("application({application})?$expand=owns__release($select=id;$orderby=commit "+order+";$top=3)"))
		var ids []float64
		for _, r := range apps[0]["owns__release"].([]any) {
			ids = append(ids, r.(map[string]any)["id"].(float64))
		}
		if order == "desc" {
			slices.Reverse(ids)
		}
		if len(ids) != 3 || !slices.IsSorted(ids) {
			t.Errorf("%s: %v", order, ids)
		}
	}
}

func TestAQueryThatMakesNoSenseIsRefusedWithAReason(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		request, want string
		kind          fault.Kind
	}{
		{"planet", `no resource "planet"`, fault.NotFound},
		{"device?$select=api_secret", `no field "api_secret"`, fault.Invalid},
		{"api_key?$select=key_hash", `no field "key_hash"`, fault.Invalid},
		{"user?$filter=startswith(password_hash,'S')", `no field "password_hash"`, fault.Invalid},
		{"device?$expand=uuid", `no relation "uuid"`, fault.Invalid},
		{"device?$expand=local_id", `no relation "local_id"`, fault.Invalid},
		{"device?$expand=device_tag,device_tag", "expanded twice", fault.Invalid},
		{"device?$filter=device_tag/value eq 'x'", "ask with any or all", fault.Invalid},
		{"device?$filter=uuid", "alone is no condition", fault.Invalid},
		{"device?$filter=5", "alone is no condition", fault.Invalid},
		{"device?$filter=uuid eq 5", "cannot be compared", fault.Invalid},
		{"device?$filter=uuid eq id", "cannot be compared", fault.Invalid},
		{"device?$filter=id eq 'x'", "cannot be compared", fault.Invalid},
		{"device?$filter=id gt null", "neither more nor less", fault.Invalid},
		{"release?$filter=composition eq '{}'", "JSON cannot be compared", fault.Invalid},
		{"release?$orderby=composition", "sorted by JSON", fault.Invalid},
		{"device?$filter=tolower(id) eq 'x'", "cannot be compared", fault.Invalid},
		{"device?$filter=created_at eq 'yesterday'", "is not a time", fault.Invalid},
		{"device(is_online='x')", "no key", fault.Invalid},
		{"application?$expand=owns__device($expand=belongs_to__application($expand=owns__device))", "followed twice", fault.Invalid},
		{"device?$filter=device_tag/any(a:a/device/device_tag/$count gt 1)", "followed twice", fault.Invalid},
	} {
		_, err := w.Read(context.Background(), w.tenants[0].user, ask(t, c.request))
		if fault.KindOf(err) != c.kind || !strings.Contains(fault.Message(err), c.want) {
			t.Errorf("%s: %v, want %q", c.request, err, c.want)
		}
	}
}

func TestAQueryThatTakesTooLongIsCutShort(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
		for i := range 3000 {
			if _, err := tx.Exec(`INSERT INTO fleet_tags (created_at, modified_at, fleet, tag_key, value) VALUES (1, 1, $1, $2, 'a')`, me.ids["application"], fmt.Sprint("k", i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.patience = 20 * time.Millisecond
	const slow = "application_tag?$filter=application/application_tag/all(t:t/value ne tolower(t/tag_key))&$expand=application($expand=application_tag)"
	_, err = w.Read(context.Background(), me.user, ask(t, slow))
	if !fault.Is(err, fault.TooLarge) {
		t.Errorf("it ended with %v", err)
	}
	w.patience = readPatience
	w.get(me.user, "application") // the connection is good for the next one
}

func TestASecretIsNowhereInAnAnswer(t *testing.T) {
	w := newWorld(t)
	for name := range w.schema {
		body, err := w.Read(context.Background(), w.tenants[0].user, ask(t, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if bytes.Contains(body, []byte("SECRET")) {
			t.Errorf("%s shows a secret: %s", name, body)
		}
	}
}

func TestAVersionIsWrittenAsTheFleetRoomWritesIt(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		v := fleet.Version{
			Major: rapid.Int64Range(0, 20).Draw(t, "major"), Minor: rapid.Int64Range(0, 20).Draw(t, "minor"), Patch: rapid.Int64Range(0, 20).Draw(t, "patch"),
			Prerelease: rapid.SampledFrom([]string{"", "rc", "beta.2"}).Draw(t, "prerelease"),
			Build:      rapid.SampledFrom([]string{"", "rev2", "REV3", "x.rev1.y", "xrev1"}).Draw(t, "build"),
			Variant:    rapid.SampledFrom([]string{"", "prod"}).Draw(t, "variant"),
		}
		revision := rapid.Int64Range(-1, 3).Draw(t, "revision")
		release := w.tenants[0].ids["draft release"]
		err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
			_, err := tx.Exec(`UPDATE releases SET semver_major = $1, semver_minor = $2, semver_patch = $3, semver_prerelease = $4,
				semver_build = $5, variant = $6, revision = CASE WHEN $7 < 0 THEN NULL ELSE $7 + 100 * 0 END WHERE id = $8`,
				v.Major+100, v.Minor, v.Patch, v.Prerelease, v.Build, v.Variant, revision, release)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		v.Major += 100
		raw := v.Raw(revision)
		if revision < 0 {
			raw = v.RawDraft(began.UnixMilli())
		}
		got := w.get(w.tenants[0].user, fmt.Sprintf("release(%d)?$select=raw_version,semver,version,is_final", release))[0]
		version := got["version"].(map[string]any)
		if got["raw_version"] != raw || got["semver"] != v.String() || version["raw"] != raw || got["is_final"] != (revision >= 0) {
			t.Fatalf("%+v revision %d: got %v, want raw %q semver %q", v, revision, got, raw, v.String())
		}
		if pre := version["prerelease"].([]any); len(pre) != len(strings.FieldsFunc(v.Prerelease, func(r rune) bool { return r == '.' })) {
			t.Fatalf("prerelease %v of %q", pre, v.Prerelease)
		}
	})
}

func TestADeviceIsOnlineWhenTheFleetRoomSaysSo(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		poll := rapid.Int64Range(1000, 600_000).Draw(t, "poll")
		ago := time.Duration(rapid.Int64Range(0, 2*poll+30_000).Draw(t, "ago")) * time.Millisecond
		seen := w.clock.Add(-ago)
		err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
			_, err := tx.Exec(`UPDATE devices SET poll_interval_ms = $1, last_seen = $2 WHERE id = $3`, poll, seen.UnixMicro(), w.tenants[0].ids["device"])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		got := w.get(w.tenants[0].user, w.tenants[0].in("device({device})?$select=is_online,api_heartbeat_state,overall_status,last_connectivity_event"))[0]
		want := fleet.Online(seen, poll, w.clock)
		if got["is_online"] != want {
			t.Fatalf("poll %d ms, seen %v ago: %v", poll, ago, got)
		}
		if (got["overall_status"] == "disconnected") == want || (got["api_heartbeat_state"] == "offline") == want {
			t.Fatalf("poll %d ms, seen %v ago: %v", poll, ago, got)
		}
		if got["last_connectivity_event"] != seen.Format("2006-01-02T15:04:05.000Z") {
			t.Fatalf("seen %v is written %v", seen, got["last_connectivity_event"])
		}
	})
}

func TestADeviceTellsHowFarItsUpdateIs(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	for _, c := range []struct {
		change   string
		status   string
		progress any
	}{
		{`UPDATE devices SET status = status WHERE id = $1`, "operational", nil},
		{`UPDATE image_installs SET status = 'Downloading', download_progress = 40 WHERE device = $1`, "updating", 40.0},
		{`UPDATE image_installs SET status = 'Downloaded', download_progress = NULL WHERE device = $1`, "operational", nil},
		{`UPDATE devices SET provisioning_progress = 7, provisioning_state = 'x' WHERE id = $1`, "configuring", 7.0},
		{`UPDATE devices SET provisioning_state = 'Post-Provisioning' WHERE id = $1`, "post-provisioning", 7.0},
		{`UPDATE devices SET provisioning_progress = NULL, provisioning_state = NULL, last_seen = last_seen - 62000000 WHERE id = $1`, "reduced-functionality", nil},
		{`UPDATE devices SET last_seen = last_seen - 20000000 WHERE id = $1`, "disconnected", nil},
		{`UPDATE devices SET last_seen = NULL WHERE id = $1`, "configuring", nil},
	} {
		err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
			_, err := tx.Exec(c.change, me.ids["device"])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		got := w.get(me.user, me.in("device({device})?$select=overall_status,overall_progress"))[0]
		if got["overall_status"] != c.status || got["overall_progress"] != c.progress {
			t.Errorf("after %s: %v, want %s %v", c.change, got, c.status, c.progress)
		}
	}
}

func FuzzAQueryIsAnsweredOrRefused(f *testing.F) {
	for _, s := range shapes {
		path, query, _ := strings.Cut(s.request, "?")
		f.Add(path, strings.ReplaceAll(query, " ", "%20"))
	}
	f.Add("device", "$filter=device_tag/any(a:a/device/device_tag/any(b:b/value%20eq%20a/value%20and%20not%20(a/id%20gt%20b/id)))")
	f.Add("device", "$filter=memory_usage%20add%201.5%20mul%203%20gt%20floor(cpu_temp%20div%200)%20or%20year(now()%20sub%20duration'P1D')%20eq%202026")
	f.Add("device", "$filter=concat(uuid,substring(device_name,1,2))%20eq%20replace(note,'a','b')%20or%20owns__device/$count($filter=id%20eq%201)%20gt%202")
	f.Add("device_tag", "$filter=device/any(d:d/note%20eq%20value)%20and%20startswith(value,'a')&$expand=device($expand=belongs_to__application)")
	f.Add("release", "$orderby=belongs_to__application/owns__device/$count%20desc,raw_version&$top=5&$select=version")
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, path, query string) {
		q, err := odata.Parse(path, query)
		if err != nil {
			return
		}
		body, err := w.Read(context.Background(), w.tenants[0].user, q)
		if err != nil {
			if k := fault.KindOf(err); k == fault.Internal {
				t.Fatalf("%q?%q: %v", path, query, err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatalf("%q?%q: no JSON: %s", path, query, body)
		}
	})
}

func TestNoAskerTakesWhatOthersWaitFor(t *testing.T) {
	w := newWorld(t)
	w.patience = 200 * time.Millisecond
	me, other := w.tenants[0].user, w.tenants[1].user
	q := ask(t, "device_type?$select=id&$top=1")
	read := func(a fleet.Actor) error {
		_, err := w.Read(context.Background(), a, q)
		return err
	}
	for who, c := range map[string]struct {
		actor  fleet.Actor
		places int
	}{"nobody": {fleet.Actor{}, ofNobody}, "a user": {me, ofOne}} {
		var leave []func()
		for range c.places {
			l, err := w.gate.enter(t.Context(), c.actor, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			leave = append(leave, l)
		}
		if err := read(c.actor); !fault.Is(err, fault.Limited) {
			t.Errorf("%s: one more question: %v", who, err)
		}
		if _, err := w.V6().Read(context.Background(), c.actor, q); !fault.Is(err, fault.Limited) {
			t.Errorf("%s: one more of /v6: %v", who, err)
		}
		asks := ask(t, "application/canAccess?$filter=id%20eq%201")
		if _, err := w.CanAccess(context.Background(), c.actor, asks, []byte(`{"action":"read"}`)); !fault.Is(err, fault.Limited) {
			t.Errorf("%s: one more question of access: %v", who, err)
		}
		if c.actor.Kind == fleet.UserActor {
			if err := w.patch(c.actor, "device(1)", `{"note":"x"}`); !fault.Is(err, fault.Limited) {
				t.Errorf("%s: which rows to change: %v", who, err)
			}
		}
		if err := read(other); err != nil {
			t.Errorf("%s: another has to wait: %v", who, err)
		}
		leave[0]()
		if err := read(c.actor); err != nil {
			t.Errorf("%s: when one has ended: %v", who, err)
		}
		for _, l := range leave[1:] {
			l()
		}
	}
	if len(w.gate.askers) != 0 || len(w.gate.all) != 0 {
		t.Errorf("%d askers and %d questions are left", len(w.gate.askers), len(w.gate.all))
	}
}

func TestQuestionsLeaveSomeReadersToOthers(t *testing.T) {
	w := newWorld(t)
	for i := range questions {
		leave, err := w.gate.enter(t.Context(), fleet.Actor{Kind: fleet.UserActor, Actor: int64(1000 + i)}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
	}
	w.patience = 50 * time.Millisecond
	if _, err := w.Read(context.Background(), w.tenants[0].user, ask(t, "device_type?$top=1")); !fault.Is(err, fault.Limited) {
		t.Errorf("one more: %v", err)
	}
	if _, err := w.gate.enter(cancelled(t), w.tenants[0].user, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("one who left: %v", err)
	}
	if len(w.gate.askers) != questions {
		t.Errorf("%d askers are known, want %d", len(w.gate.askers), questions)
	}
}

func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
