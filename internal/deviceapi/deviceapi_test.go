package deviceapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/deviceapi"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/logs"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
	"github.com/dunlin/dunlin/internal/wire"
)

// place is a server with two fleets on a real database, each with a provisioning key.
type place struct {
	t    *testing.T
	db   *store.DB
	auth *auth.Auth
	hub  *hub.Hub
	logs *logs.Store
	url  string
	keys map[int64]string // provisioning key by fleet
}

func open(t *testing.T) *place {
	t.Helper()
	dir := t.TempDir()
	db := storetest.Open(t)
	keyring, err := auth.OpenKeyring(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	p := &place{t: t, db: db, hub: &hub.Hub{Seen: db.Seen, Log: log}, logs: &logs.Store{Dir: filepath.Join(dir, "logs"), Log: log}, keys: map[int64]string{}}
	p.auth = &auth.Auth{Store: db, Keys: keyring, Issuer: "dunlin.test", Service: "dunlin.test", Log: log}
	if _, _, err := p.auth.FirstUser(t.Context(), "admin", "", "correct-horse-battery"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer((&deviceapi.Server{Store: db, Auth: p.auth, Hub: p.hub, Logs: p.logs, Log: log}).Handler())
	t.Cleanup(server.Close)
	p.url = server.URL
	p.exec(`DELETE FROM fleets`) // the catalog's, so that the numbers below are free
	for id, name := range map[int64]string{1: "porch", 2: "attic"} {
		p.exec(`INSERT INTO actors (id, kind) VALUES ($1, 'application')`, 1000+id)
		p.exec(`INSERT INTO fleets (id, created_at, modified_at, actor, organization, name, slug, uuid, device_type, application_type)
			SELECT $1, 1, 1, $2, o.id, $3, $4, $5, t.id, at.id FROM organizations o, device_types t, application_types at
			WHERE t.slug = 'raspberrypi4-64' AND o.handle = 'admin'`, id, 1000+id, name, "admin/"+name, strings.Repeat(fmt.Sprint(id), 32))
		key, err := p.auth.NewKey(t.Context(), auth.KeySpec{Actor: 1000 + id, Role: fleet.RoleProvisioning})
		if err != nil {
			t.Fatal(err)
		}
		p.keys[id] = key
	}
	return p
}

func (p *place) exec(query string, args ...any) {
	p.t.Helper()
	if err := p.db.Write(p.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(p.t.Context(), query, args...)
		return err
	}); err != nil {
		p.t.Fatalf("%s: %v", query, err)
	}
}

// call sends a request and returns status and body.
func (p *place) call(method, path, key, body string, header ...string) (int, string) {
	status, text, _ := p.ask(p.t.Context(), method, path, key, strings.NewReader(body), header...)
	return status, text
}

func (p *place) ask(ctx context.Context, method, path, key string, body io.Reader, header ...string) (int, string, http.Header) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, p.url+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// device registers a device and returns its uuid and key.
func (p *place) device(fleetID int64, digit string) (uuid, key string) {
	p.t.Helper()
	uuid, key = strings.Repeat(digit, 32), strings.Repeat(digit, 31)+"0"
	status, body := p.call("POST", "/device/register", p.keys[fleetID], fmt.Sprintf(
		`{"application":%d,"uuid":%q,"device_type":"raspberrypi4-64","api_key":%q}`, fleetID, uuid, key))
	if status != 201 {
		p.t.Fatalf("register: %d %s", status, body)
	}
	return uuid, key
}

// release makes a successful release of one service the fleet's target and returns its commit and image location.
func (p *place) release(fleetID int64, digit string) (commit, location string) {
	p.t.Helper()
	ctx := p.t.Context()
	commit = strings.Repeat(digit, 32)
	r, _, err := p.db.BeginRelease(ctx, store.NewRelease{Fleet: fleetID, Commit: commit})
	if err != nil {
		p.t.Fatal(err)
	}
	repository := fmt.Sprintf("v2/%d%s", fleetID, commit[1:])
	images, err := p.db.Outlined(ctx, r, store.Outline{Composition: []byte(`{"services":{"main":{"restart":"always"}}}`),
		Services: []store.OutlineService{{Name: "main", Repository: repository, Location: "dunlin.test/" + repository}}})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.db.ImageBuilt(ctx, images[0].ID, store.Built{Digest: "sha256:" + strings.Repeat(digit, 64), Size: 5}); err != nil {
		p.t.Fatal(err)
	}
	if ended, err := p.db.Succeed(ctx, r, ""); err != nil || !ended {
		p.t.Fatal(ended, err)
	}
	return commit, images[0].Location
}

func TestARegistrationGivesTheDeviceAFriendlyNameAndKeepsItsOwnKey(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	d, err := p.db.Device(t.Context(), uuid)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[a-z]+-[a-z]+$`).MatchString(d.Name) || d.DeviceType != "raspberrypi4-64" {
		t.Errorf("the device is %+v", d)
	}
	if status, _ := p.call("GET", "/device/v3/"+uuid+"/state", key, ""); status != 200 {
		t.Errorf("its key does not open its state: %d", status)
	}
	var kind, address string
	if err := p.db.Reader().QueryRow(`SELECT actor_kind, address FROM audit_events WHERE verb = 'create' AND resource = 'device' AND row_id = $1 AND fleet = 1`,
		d.ID).Scan(&kind, &address); err != nil || kind != "application" || address == "" {
		t.Errorf("on the trail it was made by a %s from %q, %v", kind, address, err)
	}
}

func TestARegistrationThatCannotBeIsAnsweredAsTheProtocolSays(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	other := strings.Repeat("c", 32)
	for name, c := range map[string]struct {
		key, body string
		status    int
		text      string
	}{
		"the same uuid again":            {p.keys[1], `{"application":1,"uuid":"` + uuid + `","device_type":"raspberrypi4-64"}`, 409, "\"uuid\" must be unique."},
		"a key that is taken":            {p.keys[1], `{"application":1,"uuid":"` + other + `","device_type":"raspberrypi4-64","api_key":"` + key + `"}`, 409, "\"key\" must be unique."},
		"no key":                         {"", `{"application":1,"uuid":"` + other + `","device_type":"raspberrypi4-64"}`, 401, "{\"error\":\"API key required\"}\n"},
		"another fleet's key":            {p.keys[2], `{"application":1,"uuid":"` + other + `","device_type":"raspberrypi4-64"}`, 401, ""},
		"a device's key":                 {key, `{"application":1,"uuid":"` + other + `","device_type":"raspberrypi4-64"}`, 401, ""},
		"a short uuid":                   {p.keys[1], `{"application":1,"uuid":"abc","device_type":"raspberrypi4-64"}`, 400, ""},
		"no device type":                 {p.keys[1], `{"application":1,"uuid":"` + other + `"}`, 400, ""},
		"an unknown device type":         {p.keys[1], `{"application":1,"uuid":"` + other + `","device_type":"toaster"}`, 400, ""},
		"a type that cannot run it":      {p.keys[1], `{"application":1,"uuid":"` + other + `","device_type":"raspberry-pi"}`, 400, ""},
		"no fleet":                       {p.keys[1], `{"uuid":"` + other + `","device_type":"raspberrypi4-64"}`, 400, ""},
		"no JSON":                        {p.keys[1], `hello`, 400, ""},
		"a fleet as a text with letters": {p.keys[1], `{"application":"porch","uuid":"` + other + `","device_type":"raspberrypi4-64"}`, 400, ""},
	} {
		status, text := p.call("POST", "/device/register", c.key, c.body)
		if status != c.status || c.text != "" && text != c.text {
			t.Errorf("%s: %d %q, want %d %q", name, status, text, c.status, c.text)
		}
	}
	if status, text := p.call("POST", "/device/register/", p.keys[1], `{"application":"1","uuid":"`+other+`","device_type":"raspberrypi4-64"}`); status != 201 {
		t.Errorf("a numeric string and a trailing slash, as stock clients send them: %d %s", status, text)
	}
}

func TestAManyTimesTakenNameStillComesOutUnique(t *testing.T) {
	p := open(t)
	names := map[string]bool{}
	for i := range 60 {
		uuid := fmt.Sprintf("%032x", i+1)
		d, err := p.db.RegisterDevice(t.Context(), store.NewDevice{Fleet: 1, UUID: uuid, KeyHash: uuid, DeviceType: "raspberrypi4-64", Name: "calm-otter",
			Names: func(taken int) string {
				if taken < 3 {
					return "calm-otter"
				}
				return fmt.Sprintf("calm-otter%d", i)
			}})
		if err != nil {
			t.Fatal(err)
		}
		if names[d.Name] {
			t.Fatalf("two devices are called %s", d.Name)
		}
		names[d.Name] = true
	}
}

func TestATargetComesOnceAndThenOnlyWhenItChanges(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	commit, location := p.release(1, "b")
	path := "/device/v3/" + uuid + "/state"
	status, body, header := p.ask(t.Context(), "GET", path, key, nil)
	target, err := wire.ParseTarget([]byte(body), uuid)
	if status != 200 || err != nil {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	svc := target.Apps[strings.Repeat("1", 32)].Releases[commit].Services["main"]
	if want := location + "@sha256:" + strings.Repeat("b", 64); svc.Image != want {
		t.Errorf("the image is %s, want %s", svc.Image, want)
	}
	etag := header.Get("ETag")
	if !strings.HasPrefix(etag, `W/"`) {
		t.Errorf("the ETag %s is not weak", etag)
	}
	if status, body, _ := p.ask(t.Context(), "GET", path, key, nil, "If-None-Match", etag); status != 304 || body != "" {
		t.Errorf("nothing changed: %d %q", status, body)
	}
	p.exec(`INSERT INTO fleet_variables (created_at, modified_at, fleet, name, value) VALUES (1, 1, 1, 'A', 'b')`)
	if status, _, _ := p.ask(t.Context(), "GET", path, key, nil, "If-None-Match", etag); status != 200 {
		t.Errorf("a variable changed: %d", status)
	}
}

func TestADeviceThatPrefersToWaitHearsOfAChangeAtOnce(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	path := "/device/v3/" + uuid + "/state"
	_, _, header := p.ask(t.Context(), "GET", path, key, nil)
	etag := header.Get("ETag")

	type answer struct {
		status int
		header http.Header
	}
	got := make(chan answer, 1)
	go func() {
		status, _, header := p.ask(t.Context(), "GET", path, key, nil, "If-None-Match", etag, "Prefer", "wait=50")
		got <- answer{status, header}
	}()
	d, err := p.db.Device(t.Context(), uuid)
	if err != nil {
		t.Fatal(err)
	}
	for !p.hub.Online(d) || p.hub.Count() == 0 { // it is being held, or about to be
		time.Sleep(time.Millisecond)
	}
	p.release(1, "b")
	p.hub.LookAgain(1)
	select {
	case a := <-got:
		if a.status != 200 || a.header.Get("ETag") == etag {
			t.Errorf("%d with tag %s", a.status, a.header.Get("ETag"))
		}
	case <-time.After(40 * time.Second):
		t.Fatal("the change was not heard while waiting")
	}
	_, _, header = p.ask(t.Context(), "GET", path, key, nil)
	if status, _, h := p.ask(t.Context(), "GET", path, key, nil, "If-None-Match", header.Get("ETag"), "Prefer", "wait=1"); status != 304 || h.Get("Preference-Applied") != "wait=1" {
		t.Errorf("the time is up and nothing changed: %d %v", status, h)
	}
}

func TestADeviceThatIsNotThereKeepsWhatItHas(t *testing.T) {
	p := open(t)
	if status, _ := p.call("GET", "/device/v3/"+strings.Repeat("9", 32)+"/state", "", ""); status != 304 {
		t.Errorf("an unknown device is answered %d, want 304", status)
	}
}

func TestADeactivatedDeviceKeepsWhatItHasUntilItIsActiveAgain(t *testing.T) {
	p := open(t)
	p.release(1, "5")
	uuid, key := p.device(1, "a")
	state := "/device/v3/" + uuid + "/state"
	p.exec(`UPDATE devices SET is_active = FALSE WHERE uuid = $1`, uuid)
	if status, body, header := p.ask(t.Context(), "GET", state, key, nil); status != http.StatusNotModified || header.Get("ETag") != "" {
		t.Errorf("inactive: %d %s %q", status, body, header.Get("ETag"))
	}
	if status, _ := p.call("PATCH", "/device/v3/state", key, `{"`+uuid+`":{"status":"Idle"}}`); status != http.StatusOK {
		t.Errorf("it reports: %d", status)
	}
	p.exec(`UPDATE devices SET is_active = TRUE WHERE uuid = $1`, uuid)
	if status, body := p.call("GET", state, key, ""); status != http.StatusOK || !strings.Contains(body, strings.Repeat("5", 32)) {
		t.Errorf("active again: %d %s", status, body)
	}
}

func TestADeviceReachesNothingOfAnother(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	_, neighbour := p.device(1, "b")
	_, stranger := p.device(2, "c")
	commit, location := p.release(1, "d")
	foreign, foreignLocation := p.release(2, "e")
	for name, k := range map[string]string{"a neighbour": neighbour, "another fleet's device": stranger, "a provisioning key": p.keys[1], "nobody": "", "a wrong key": strings.Repeat("z", 32)} {
		for _, c := range []struct{ method, path, body string }{
			{"GET", "/device/v3/" + uuid + "/state", ""},
			{"PATCH", "/device/v3/state", `{"` + uuid + `":{"status":"Idle"}}`},
			{"POST", "/device/v2/" + uuid + "/log-stream", ""},
		} {
			if status, body := p.call(c.method, c.path, k, c.body, "Content-Type", wire.ContentTypeLogs); status != 401 {
				t.Errorf("%s: %s %s: %d %s", name, c.method, c.path, status, body)
			}
		}
	}
	app := strings.Repeat("1", 32)
	for name, body := range map[string]string{
		"a release of another fleet": `{"` + uuid + `":{"apps":{"` + app + `":{"release_uuid":"` + foreign + `"}}}}`,
		"an image of another fleet":  `{"` + uuid + `":{"apps":{"` + app + `":{"releases":{"` + commit + `":{"services":{"main":{"image":"` + foreignLocation + `","status":"Running"}}}}}}}}`,
		"an unknown device as well":  `{"` + uuid + `":{"status":"Idle"},"` + strings.Repeat("9", 32) + `":{"status":"Idle"}}`,
	} {
		if status, text := p.call("PATCH", "/device/v3/state", key, body); status != 401 {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if status, text := p.call("PATCH", "/device/v3/state", key,
		`{"`+uuid+`":{"apps":{"`+app+`":{"releases":{"`+commit+`":{"services":{"main":{"image":"`+location+`","status":"Running"}}}}}}}}`); status != 200 {
		t.Errorf("its own release: %d %s", status, text)
	}
	scope := func(repository string) string { return "repository:" + repository + ":pull" }
	pull := func(k string) string {
		status, body := p.call("GET", "/auth/v1/token?service=dunlin.test&scope="+scope(location[len("dunlin.test/"):])+"&scope="+scope(foreignLocation[len("dunlin.test/"):]), k, "")
		if status != 200 {
			t.Fatalf("token: %d %s", status, body)
		}
		var a struct{ Token string }
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			t.Fatal(err)
		}
		return claims(t, a.Token)
	}
	opens := func(claims, commit string) bool { return strings.Contains(claims, commit[1:]+`","actions":["pull"]`) }
	if mine := pull(key); !opens(mine, commit) || opens(mine, foreign) {
		t.Errorf("the device's token opens %s", mine)
	}
	if theirs := pull(stranger); opens(theirs, commit) {
		t.Errorf("a stranger's token opens %s", theirs)
	}
}

func TestAReportIsWhatPeopleSee(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	commit, location := p.release(1, "b")
	app := strings.Repeat("1", 32)
	report := func(text string) {
		t.Helper()
		if status, body := p.call("PATCH", "/device/v3/state", key, text); status != 200 || body != "" {
			t.Fatalf("%d %s", status, body)
		}
	}
	watch, stop := p.hub.Watch(1)
	defer stop()
	report(`{"` + uuid + `":{"os_version":"Debian 12","cpu_usage":7,"is_undervolted":true,"apps":{"` + app + `":{"releases":{"` + commit + `":{"update_status":"downloading","services":{"main":{"image":"` + strings.ToUpper(location[:4]) + location[4:] + `@sha256:00","status":"Downloading","download_progress":40}}}}}}}}`)
	select {
	case <-watch:
	default:
		t.Error("nobody was told of the report")
	}
	r, found, err := p.db.Succeeded(t.Context(), 1, commit)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	all, err := p.db.Rollout(t.Context(), r)
	if err != nil || len(all) != 1 || len(all[0].Installs) != 1 {
		t.Fatalf("%+v %v", all, err)
	}
	if i := all[0].Installs[0]; i.Status != wire.StatusDownloading || i.Progress != 40 || all[0].Device.UpdateState != "downloading" {
		t.Errorf("%+v", all[0])
	}
	report(`{"` + uuid + `":{"apps":{"` + app + `":{"release_uuid":"` + commit + `","releases":{"` + commit + `":{"update_status":"done","services":{"main":{"image":"` + location + `","status":"Running"}}}}}}}}`)
	if all, err = p.db.Rollout(t.Context(), r); err != nil || all[0].Device.Running != r.ID || all[0].Installs[0].Status != wire.StatusRunning || all[0].Installs[0].Progress != -1 {
		t.Errorf("%+v %v", all, err)
	}
	report(`{"` + uuid + `":{"apps":{}}}`)
	if all, err = p.db.Rollout(t.Context(), r); err != nil || len(all[0].Installs) != 0 {
		t.Errorf("an image that is not mentioned is still there: %+v %v", all, err)
	}
}

func TestAFieldThatIsReportedAsNullIsClearedAndOneThatIsNotReportedStays(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	for _, c := range []struct {
		report string
		want   sql.NullInt64
	}{
		{`{"provisioning_progress":40}`, sql.NullInt64{Int64: 40, Valid: true}},
		{`{"status":"Idle"}`, sql.NullInt64{Int64: 40, Valid: true}},
		{`{"provisioning_progress":null}`, sql.NullInt64{}},
	} {
		if status, body := p.call("PATCH", "/device/v3/state", key, `{"`+uuid+`":`+c.report+`}`); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		var got sql.NullInt64
		if err := p.db.Reader().QueryRow(`SELECT provisioning_progress FROM devices WHERE uuid = $1`, uuid).Scan(&got); err != nil || got != c.want {
			t.Errorf("after %s it is %v (%v), want %v", c.report, got, err, c.want)
		}
	}
}

func TestAPersonWhoLooksIsNotTheDevice(t *testing.T) {
	p := open(t)
	uuid, _ := p.device(1, "a")
	user, err := p.auth.Login(t.Context(), "admin", "correct-horse-battery", "")
	if err != nil {
		t.Fatal(err)
	}
	p.exec(`UPDATE devices SET last_seen = 1`)
	if status, _ := p.call("GET", "/device/v3/"+uuid+"/state", user, ""); status != 200 {
		t.Errorf("a member of the organization may look: %d", status)
	}
	if d, err := p.db.Device(t.Context(), uuid); err != nil || p.hub.Online(d) {
		t.Errorf("the device is online since somebody looked (%v)", err)
	}
	if status, _ := p.call("PATCH", "/device/v3/state", user, `{"`+uuid+`":{"status":"Idle"}}`); status != 401 {
		t.Errorf("a person speaks for the device: %d", status)
	}
}

func TestALogStreamIsKeptAsItComesAndAnsweredOnlyAtItsEnd(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	body, pipe := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		status, _, _ := p.ask(t.Context(), "POST", "/device/v2/"+uuid+"/log-stream", key, body, "Content-Type", wire.ContentTypeLogs, "Content-Encoding", "gzip")
		ended <- status
	}()
	z := gzip.NewWriter(pipe)
	say := func(text string) {
		t.Helper()
		if _, err := io.WriteString(z, text); err != nil {
			t.Fatal(err)
		}
		if err := z.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	kept := func(n int) []wire.LogLine {
		t.Helper()
		for range 4000 {
			lines, err := p.logs.Tail(t.Context(), uuid, -1, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if len(lines) >= n {
				return lines
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatalf("%d lines did not arrive", n)
		return nil
	}
	say("{\"message\":\"one\",\"timestamp\":1,\"serviceId\":3}\n\n{\"message\":\"half")
	kept(1)
	select {
	case status := <-ended:
		t.Fatalf("answered %d in the middle of the stream", status)
	default:
	}
	say(" two\",\"timestamp\":2}\n" + strings.Repeat("x", wire.MaxLogLine+10) + "\n{\"message\":\"foreign\",\"timestamp\":2,\"uuid\":\"x\"}\n{\"message\":\"three\",\"timestamp\":3}\n")
	lines := kept(3)
	if lines[1].Message != "half two" || lines[2].Message != "three" || *lines[0].ServiceID != 3 || lines[0].CreatedAt == 0 {
		t.Errorf("kept %+v", lines)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	pipe.Close()
	if status := <-ended; status != 201 {
		t.Errorf("the end is answered %d", status)
	}
}

func TestALogStreamThatIsNoneIsRefused(t *testing.T) {
	p := open(t)
	uuid, key := p.device(1, "a")
	path := "/device/v2/" + uuid + "/log-stream"
	if status, _ := p.call("POST", path, key, "[]", "Content-Type", "application/json"); status != 415 {
		t.Errorf("another type: %d", status)
	}
	if status, _ := p.call("POST", path, key, "plain", "Content-Type", wire.ContentTypeLogs, "Content-Encoding", "gzip"); status != 400 {
		t.Errorf("no gzip: %d", status)
	}
	if status, _ := p.call("POST", path, key, "{\"message\":\n", "Content-Type", wire.ContentTypeLogs); status != 400 {
		t.Errorf("broken JSON: %d", status)
	}
	if status, _ := p.call("POST", path, key, "{\"message\":\"whole\",\"timestamp\":1}\n{\"message\":", "Content-Type", wire.ContentTypeLogs); status != 201 {
		t.Errorf("a stream that breaks off in a line: %d", status)
	}
	if lines, err := p.logs.Tail(t.Context(), uuid, -1, time.Time{}); err != nil || len(lines) != 1 {
		t.Errorf("what arrived whole is lost: %v %v", lines, err)
	}
}

func TestTheOSIsToldThatThereIsNoVPN(t *testing.T) {
	p := open(t)
	status, body := p.call("GET", "/os/v1/config/", "", "")
	if status != 200 || !strings.Contains(body, `"openvpn"`) || !strings.Contains(body, `"overrides":{}`) {
		t.Errorf("%d %s", status, body)
	}
}

func FuzzTheDoorsNeverFall(f *testing.F) {
	f.Add("PATCH", "/device/v3/state", []byte(`{"a":{"apps":{"1":{"releases":{"c":{"services":{"s":{}}}}}}}}`))
	f.Add("POST", "/device/register", []byte(`{"application":1,"uuid":7}`))
	f.Add("GET", "/device/v3/%00/state", []byte(nil))
	f.Add("POST", "/device/v2/a/log-stream", []byte("{}\n{"))
	f.Add("GET", "/auth/v1/token?scope=repository:::&scope[0]=x", []byte(nil))
	dir := f.TempDir()
	db := storetest.Open(f)
	keyring, err := auth.OpenKeyring(filepath.Join(dir, "keys"))
	if err != nil {
		f.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	h := (&deviceapi.Server{Store: db, Auth: &auth.Auth{Store: db, Keys: keyring, Log: log}, Hub: &hub.Hub{Log: log},
		Logs: &logs.Store{Dir: dir, Log: log}, Log: log}).Handler()
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		r, err := http.NewRequest(method, "http://dunlin.test"+path, bytes.NewReader(body))
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s %q with %q: %d %s", method, path, body, w.Code, w.Body)
		}
	})
}

// claims is the middle part of a token, as text.
func claims(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no token", token)
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
