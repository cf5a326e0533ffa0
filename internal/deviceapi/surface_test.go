package deviceapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/wire"
)

// user makes a user with a role in the organization of the fleets, and a key to the account.
func (p *place) user(name, role string) string {
	p.t.Helper()
	u, err := p.auth.NewUser(p.t.Context(), name, "", "correct-horse-battery")
	if err != nil {
		p.t.Fatal(err)
	}
	if role != "" {
		p.exec(`INSERT INTO organization_memberships (created_at, modified_at, user_id, organization, role)
			SELECT 1, 1, $1, o.id, r.id FROM organizations o, roles r WHERE o.handle = 'admin' AND r.name = $2`, u.ID, role)
	}
	key, err := p.auth.NewKey(p.t.Context(), auth.KeySpec{Actor: u.Actor, Role: fleet.RoleUser})
	if err != nil {
		p.t.Fatal(err)
	}
	return key
}

// value reads one value.
func value[T any](p *place, query string, args ...any) (v T) {
	p.t.Helper()
	if err := p.db.Reader().QueryRowContext(p.t.Context(), query, args...).Scan(&v); err != nil {
		p.t.Fatalf("%s: %v", query, err)
	}
	return v
}

func TestAFleetHasATargetOfItsOwnForImagesThatAreMadeInAdvance(t *testing.T) {
	p := open(t)
	first, location := p.release(1, "a")
	second, _ := p.release(1, "b")
	p.release(2, "c")
	p.exec(`INSERT INTO fleet_variables (created_at, modified_at, fleet, name, value) VALUES (1, 1, 1, 'A', 'b')`)
	_, device := p.device(1, "d")
	operator, observer, stranger := p.user("otto", "operator"), p.user("olga", "observer"), p.user("eve", "")
	uuid := strings.Repeat("1", 32)
	for query, commit := range map[string]string{"": second, "/?releaseUuid=" + first: first, "?releaseUuid=" + second: second} {
		for _, key := range []string{operator, device, p.keys[1]} {
			status, body := p.call("GET", "/device/v3/fleet/"+uuid+"/state"+query, key, "")
			var got wire.Target
			if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
				t.Fatalf("%s: %d %s", query, status, body)
			}
			release, ok := got[uuid].Apps[uuid].Releases[commit]
			if got[uuid].Name != "porch" || !ok || len(got[uuid].Apps) != 1 || release.Services["main"].Environment["A"] != "b" ||
				commit == first && !strings.HasPrefix(release.Services["main"].Image, location) {
				t.Errorf("%s: %s", query, body)
			}
		}
	}
	for name, c := range map[string][2]string{
		"nobody": {uuid, ""}, "another tenant": {uuid, stranger}, "an observer": {uuid, observer}, "another fleet's key": {uuid, p.keys[2]},
		"no such fleet": {strings.Repeat("f", 32), operator}, "no such release": {uuid + "/state/?releaseUuid=" + strings.Repeat("e", 32) + "&", operator},
		"another fleet's release": {uuid + "/state/?releaseUuid=" + strings.Repeat("c", 32) + "&", operator},
	} {
		status, body := p.call("GET", "/device/v3/fleet/"+strings.TrimSuffix(c[0], "&")+map[bool]string{true: "", false: "/state"}[strings.Contains(c[0], "?")], c[1], "")
		if status != 401 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestADeviceGivesItselfTags(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	other, otherKey := p.device(1, "b")
	tags := func() string {
		var all []string
		rows, err := p.db.Reader().QueryContext(t.Context(), `SELECT tag_key, value FROM device_tags t JOIN devices d ON d.id = t.device WHERE d.uuid = $1 ORDER BY tag_key`, uuid)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var k, v string
			if err := rows.Scan(&k, &v); err != nil {
				t.Fatal(err)
			}
			all = append(all, k+"="+v)
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct{ body, want string }{
		{`{"a":"1","b":"2"}`, "a=1 b=2"}, {`{"a":"3","c":null}`, "a=3 b=2"}, {`{"b":null,"a":null,"d":""}`, "d="}, {`{}`, "d="},
	} {
		if status, body := p.call("PATCH", "/device/v3/tags/", key, fmt.Sprintf(`{%q:%s}`, uuid, c.body)); status != 200 || body != "" || tags() != c.want {
			t.Errorf("%s: %d %s, and they are %s", c.body, status, body, tags())
		}
	}
	for name, c := range map[string]struct {
		key, body string
		status    int
	}{
		"another device": {otherKey, fmt.Sprintf(`{%q:{"a":"1"}}`, uuid), 401}, "nobody": {"", fmt.Sprintf(`{%q:{"a":"1"}}`, uuid), 401},
		"no such device": {key, fmt.Sprintf(`{%q:{"a":"1"}}`, strings.Repeat("f", 32)), 401}, "a person": {p.user("otto", "owner"), fmt.Sprintf(`{%q:{"a":"1"}}`, uuid), 401},
		"a key of the platform's": {key, fmt.Sprintf(`{%q:{"io.balena.x":"1"}}`, uuid), 400}, "no JSON": {key, `x`, 400},
	} {
		if status, body := p.call("PATCH", "/device/v3/tags", c.key, c.body); status != c.status {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if got := tags(); got != "d=" {
		t.Errorf("what was refused left %s", got)
	}
	_ = other
	if n := value[int](p, `SELECT COUNT(*) FROM audit_events WHERE resource = 'device_tag' AND actor_kind = 'device'`); n != 3 {
		t.Errorf("%d entries on the trail", n)
	}
}

func TestAnOldSupervisorIsServed(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	commit, location := p.release(1, "a")
	status, body, header := p.ask(t.Context(), "GET", "/device/v2/"+uuid+"/state", key, strings.NewReader(""))
	var got struct {
		Local struct {
			Apps map[string]struct {
				Commit    string
				ReleaseID int64
				Services  map[string]map[string]any
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	app := got.Local.Apps["1"]
	if app.Commit != commit || len(app.Services) != 1 {
		t.Fatalf("%s", body)
	}
	for _, s := range app.Services {
		if s["serviceName"] != "main" || s["running"] != true || s["restart"] != "always" || !strings.HasPrefix(s["image"].(string), location+"@sha256:") {
			t.Errorf("%v", s)
		}
	}
	if status, _ := p.call("GET", "/device/v2/"+uuid+"/state", key, "", "If-None-Match", header.Get("ETag")); status != 304 {
		t.Errorf("what it has already: %d", status)
	}
	if status, _ := p.call("GET", "/device/v2/"+strings.Repeat("f", 32)+"/state", key, ""); status != 304 {
		t.Errorf("a device that is not there: %d", status)
	}
	image := value[int64](p, `SELECT id FROM images`)
	p.release(2, "c")
	foreign, theirs := value[int64](p, `SELECT MAX(id) FROM images`), value[int64](p, `SELECT MAX(release) FROM release_images`)
	report := fmt.Sprintf(`{"local":{"status":"Idle","supervisor_version":"10.6.27","is_on__commit":%q,"apps":{"1":{"services":{"%d":{"status":"Running","releaseId":%d},"9999":{"status":"Running","releaseId":1},"%d":{"status":"Running","releaseId":%d}}}}}}`,
		commit, image, app.ReleaseID, foreign, theirs)
	if status, body := p.call("PATCH", "/device/v2/"+uuid+"/state", key, report); status != 200 || body != "" {
		t.Errorf("a report: %d %s", status, body)
	}
	if got := value[string](p, `SELECT d.status || ' ' || r.commit_id || ' ' || i.status FROM devices d JOIN releases r ON r.id = d.running_release
		JOIN image_installs i ON i.device = d.id WHERE d.uuid = $1`, uuid); got != "Idle "+commit+" Running" {
		t.Errorf("it is known as %s", got)
	}
	if status, _ := p.call("PATCH", "/device/v2/"+uuid+"/state", key, `{"local":{"apps":{}}}`); status != 200 {
		t.Errorf("nothing on it: %d", status)
	}
	if got := value[string](p, `SELECT status FROM image_installs`); got != "deleted" {
		t.Errorf("the image is %s", got)
	}
	_, other := p.device(1, "b")
	for name, c := range map[string]struct {
		uuid, key, body string
		status          int
	}{
		"no such device": {strings.Repeat("f", 32), key, `{}`, 200}, "another device": {uuid, other, `{}`, 401}, "no JSON": {uuid, key, `x`, 400},
		"nobody": {uuid, "", `{}`, 401},
	} {
		if status, body := p.call("PATCH", "/device/v2/"+c.uuid+"/state", c.key, c.body); status != c.status {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	lines := `[{"message":"one","timestamp":1000},{"message":"two","timestamp":1001,"isSystem":true}]`
	if status, body := p.call("POST", "/device/v2/"+uuid+"/logs", key, lines); status != 201 {
		t.Errorf("logs: %d %s", status, body)
	}
	kept, err := p.logs.Tail(t.Context(), uuid, -1, time.Time{})
	if err != nil || len(kept) != 2 || kept[0].Message != "one" || !kept[1].IsSystem {
		t.Errorf("%+v %v", kept, err)
	}
	if status, _ := p.call("POST", "/device/v2/"+uuid+"/logs", other, lines); status != 401 {
		t.Errorf("another device's logs: %d", status)
	}
	if status, _ := p.call("POST", "/device/v2/"+strings.Repeat("f", 32)+"/logs", key, lines); status != 401 {
		t.Errorf("logs of a device that is not there: %d", status)
	}
}

func TestTheHostsServicesAreAllNamed(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	_, other := p.device(1, "b")
	for _, k := range []string{key, ""} {
		status, body := p.call("GET", "/os/v1/config/", k, "")
		var got struct {
			Services map[string]map[string]*string
			Config   struct{ Overrides map[string]*string }
			Schema   string `json:"schema_version"`
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || got.Schema != "1.0.0" || got.Config.Overrides == nil || len(got.Config.Overrides) != 0 {
			t.Fatalf("%d %s %v", status, body, err)
		}
		if vpn := got.Services["openvpn"]; vpn["config"] == nil || vpn["ca"] == nil || got.Services["ssh"]["authorized_keys"] == nil {
			t.Errorf("%s", body)
		}
	}
	if status, _ := p.call("GET", "/os/v1/config", "wrong", ""); status != 401 {
		t.Errorf("a wrong key: %d", status)
	}
	for i, role := range []string{"operator", "observer"} {
		p.user(role, role)
		p.exec(`INSERT INTO ssh_keys (created_at, modified_at, user_id, title, public_key, fingerprint)
			SELECT 1, 1, u.id, 't', $1, $2 FROM users u WHERE u.username = $3`, "ssh-ed25519 "+role, fmt.Sprint(i), role)
	}
	if status, body := p.call("GET", "/access/v1/hostos/"+uuid, key, ""); status != 200 || body != "ssh-ed25519 operator\n" {
		t.Errorf("keys of the host: %d %q", status, body)
	}
	for name, c := range map[string][2]string{"another device": {uuid, other}, "nobody": {uuid, ""}, "no such device": {strings.Repeat("f", 32), key}} {
		if status, body := p.call("GET", "/access/v1/hostos/"+c[0], c[1], ""); status != 401 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestATargetHasTheSystemsADeviceShouldHave(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	p.exec(`INSERT INTO actors (id, kind) VALUES (2003, 'application'), (2004, 'application')`)
	for id, name := range map[int64]string{3: "system", 4: "updater"} {
		p.exec(`INSERT INTO fleets (id, created_at, modified_at, actor, organization, name, slug, uuid, class, is_host, is_public, device_type, application_type)
			SELECT $1, 1, 1, $2, o.id, $3, $4, $5, 'app', $6, TRUE, t.id, at.id FROM organizations o, device_types t, application_types at
			WHERE t.slug = 'raspberrypi4-64' AND o.handle = 'balena_os'`, id, 2000+id, name, "balena_os/"+name, strings.Repeat(fmt.Sprint(id), 32), id == 3)
	}
	commit, location := p.release(3, "a")
	_, updater := p.release(4, "b")
	supervisor, _ := p.release(2, "c")
	p.exec(`UPDATE fleets SET updated_by = 4 WHERE id = 3`)
	p.exec(`INSERT INTO device_variables (created_at, modified_at, device, name, value) SELECT 1, 1, id, 'SECRET', 'x' FROM devices`)
	p.exec(`INSERT INTO fleet_variables (created_at, modified_at, fleet, name, value) VALUES (1, 1, 3, 'SYSTEM', 'y')`)
	target := func() wire.DeviceTarget {
		t.Helper()
		_, body := p.call("GET", "/device/v3/"+uuid+"/state", key, "")
		got, err := wire.ParseTarget([]byte(body), uuid)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := target(); len(got.Apps) != 1 || got.Config["RESIN_SUPERVISOR_VPN_CONTROL"] != "false" || got.Config["RESIN_SUPERVISOR_INSTANT_UPDATE_TRIGGER"] != "true" {
		t.Errorf("where nothing is said: %+v", got)
	}
	p.exec(`UPDATE devices SET operated_by = (SELECT id FROM releases WHERE commit_id = $1), managed_by = (SELECT id FROM releases WHERE commit_id = $2)`, commit, supervisor)
	p.exec(`INSERT INTO device_config_variables (created_at, modified_at, device, name, value) SELECT 1, 1, id, 'BALENA_SUPERVISOR_VPN_CONTROL', 'true' FROM devices`)
	got := target()
	host := got.Apps[strings.Repeat("3", 32)]
	main := host.Releases[commit].Services["main"]
	if len(got.Apps) != 3 || !host.IsHost || host.Class != "app" || !strings.HasPrefix(main.Image, location) ||
		main.Labels["io.balena.image.store"] != "root" || !strings.HasPrefix(main.Labels["io.balena.private.updater"], updater+"@sha256:") ||
		main.Environment["SYSTEM"] != "y" || main.Environment["SECRET"] != "" {
		t.Errorf("the system is %+v", host)
	}
	managed := got.Apps[strings.Repeat("2", 32)]
	if labels := managed.Releases[supervisor].Services["main"].Labels; managed.IsHost || len(labels) != 0 || got.Apps[strings.Repeat("1", 32)].ID != 1 {
		t.Errorf("the supervisor is %+v", managed)
	}
	if _, there := got.Config["RESIN_SUPERVISOR_VPN_CONTROL"]; there || got.Config["BALENA_SUPERVISOR_VPN_CONTROL"] != "true" {
		t.Errorf("what the device is told of itself does not go first: %v", got.Config)
	}
	// It may pull what it should have.
	may, err := p.db.DeviceRepositories(t.Context(), value[int64](p, `SELECT id FROM devices`), []string{strings.TrimPrefix(location, "dunlin.test/")})
	if err != nil || len(may) != 1 {
		t.Errorf("it may pull %v: %v", may, err)
	}
}

func TestWhatADeviceSaysIsToldToWhoFollows(t *testing.T) {
	p := open(t)
	at := p.hub.Latest()
	told := func() (types []string, last hub.Event) {
		t.Helper()
		events, err := p.hub.Since(t.Context(), at, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			at, last, types = e.Sequence, e, append(types, e.Type)
		}
		return types, last
	}
	uuid, key := p.device(1, "a")
	if got, e := told(); !slices.Equal(got, []string{"device.registered"}) || e.Fleet != 1 || e.Device == 0 {
		t.Errorf("a registration: %v %+v", got, e)
	}
	commit, location := p.release(1, "a")
	p.call("GET", "/device/v3/"+uuid+"/state", key, "")
	if got, _ := told(); !slices.Equal(got, []string{"device.online"}) {
		t.Errorf("a first look: %v", got)
	}
	report := fmt.Sprintf(`{%q:{"status":"Idle","cpu_usage":5,"apps":{%q:{"release_uuid":%q,"releases":{%[3]q:{"update_status":"done","services":{"main":{"image":%q,"status":"Running"}}}}}}}}`,
		uuid, strings.Repeat("1", 32), commit, location)
	if status, body := p.call("PATCH", "/device/v3/state", key, report); status != 200 {
		t.Fatal(status, body)
	}
	got, e := told()
	var data map[string]any
	if err := json.Unmarshal(e.Data, &data); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []string{"device.state"}) || data["commit"] != commit || data["status"] != "Idle" || data["update_status"] != "done" || data["uuid"] != uuid || len(data["images"].([]any)) != 1 {
		t.Errorf("a report: %v %v", got, data)
	}
	if _, there := data["cpu_usage"]; there {
		t.Error("what changes all the time is told")
	}
	before := p.hub.Latest()
	p.call("PATCH", "/device/v3/state", key, fmt.Sprintf(`{%q:{"cpu_usage":7,"memory_usage":1}}`, uuid))
	if now := p.hub.Latest(); now != before {
		t.Errorf("%d events of a report of measurements", now-before)
	}
}
