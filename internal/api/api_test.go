package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/api"
	"github.com/dunlin/dunlin/internal/asset"
	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/logs"
	"github.com/dunlin/dunlin/internal/resource"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

const password = "correct horse battery staple"

// server is a server of real parts, with one user.
type server struct {
	*httptest.Server
	t     *testing.T
	db    *store.DB
	auth  *auth.Auth
	logs  *logs.Store
	model *resource.Model
	api   *api.API
	hub   hub.Hub
	link  link
	log   bytes.Buffer
	token string // API key of the user
	user  fleet.User
}

func newServer(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	db := storetest.Open(t)
	keys, err := auth.OpenKeyring(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, db: db, auth: &auth.Auth{Store: db, Keys: keys}, logs: &logs.Store{Dir: filepath.Join(dir, "logs")}, model: resource.New(db)}
	s.model.SSHFingerprint = auth.ParseSSHKey
	a := &api.API{
		Model: s.model, Auth: s.auth, Logs: s.logs, Keys: db, Heartbeat: 20 * time.Millisecond,
		Config:      api.Config{Deployment: "test", GitServerURL: "ssh://git.example", APIURL: "https://api.example"},
		Log:         slog.New(slog.NewTextHandler(&s.log, nil)),
		Supervisors: db, Events: &s.hub, Assets: &asset.Store{Dir: filepath.Join(dir, "assets")}, AssetRows: db, Link: &s.link,
	}
	s.api = a
	s.model.AssetLink = a.AssetLink
	s.Server = httptest.NewServer(a.Handler())
	t.Cleanup(s.Close)
	s.user, s.token = s.newUser("acme")
	return s
}

// newUser makes a user and a key to the account.
func (s *server) newUser(name string) (fleet.User, string) {
	s.t.Helper()
	user, err := s.auth.NewUser(s.t.Context(), name, name+"@example.org", password)
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := s.auth.NewKey(s.t.Context(), auth.KeySpec{Actor: user.Actor, Role: fleet.RoleUser})
	if err != nil {
		s.t.Fatal(err)
	}
	return user, key
}

// login gives the first user's password for a session.
func (s *server) login() string {
	s.t.Helper()
	return string(s.want(200, "", "POST", "/login_", `{"username":"acme@example.org","password":"`+password+`"}`))
}

// send makes a request. target is as the stock CLI sends it: spaces and quotes encoded, all else literal.
func (s *server) send(token, method, target, body string) (*http.Response, []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+strings.NewReplacer(" ", "%20", "'", "%27").Replace(target), strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, answer
}

// want makes a request that is answered with a status.
func (s *server) want(status int, token, method, target, body string) []byte {
	s.t.Helper()
	resp, answer := s.send(token, method, target, body)
	if resp.StatusCode != status {
		s.t.Fatalf("%s %s %s: %d %s, want %d", method, target, body, resp.StatusCode, answer, status)
	}
	return answer
}

// rows reads rows as the user.
func (s *server) rows(target string) []map[string]any {
	s.t.Helper()
	var rows struct{ D []map[string]any }
	if err := json.Unmarshal(s.want(200, s.token, "GET", target, ""), &rows); err != nil {
		s.t.Fatal(err)
	}
	return rows.D
}

// one reads the row that must be there.
func (s *server) one(target string) map[string]any {
	s.t.Helper()
	rows := s.rows(target)
	if len(rows) != 1 {
		s.t.Fatalf("%s: %d rows", target, len(rows))
	}
	return rows[0]
}

// fleet makes a fleet as the CLI does, and returns its id.
func (s *server) fleet(name string) int64 {
	s.t.Helper()
	kind := s.one("/v7/device_type?$top=1&$filter=device_type_alias/any(dta:dta/is_referenced_by__alias eq 'raspberrypi4-64')&$select=id")
	org := s.one("/v7/organization(handle='acme')?$select=id")
	var made map[string]any
	body := fmt.Sprintf(`{"app_name":%q,"is_for__device_type":%v,"organization":%v,"is_of__class":"fleet"}`, name, kind["id"], org["id"])
	if err := json.Unmarshal(s.want(201, s.token, "POST", "/v7/application", body), &made); err != nil {
		s.t.Fatal(err)
	}
	return int64(made["id"].(float64))
}

// device registers a device and returns it with its key.
func (s *server) device(fleetID int64, name string) (fleet.Device, string) {
	s.t.Helper()
	var random [16]byte
	_, _ = rand.Read(random[:])
	key := auth.NewSecret()
	d, err := s.db.RegisterDevice(s.t.Context(), store.NewDevice{
		Fleet: fleetID, UUID: hex.EncodeToString(random[:]), DeviceType: "raspberrypi4-64", KeyHash: auth.HashKey(key), Name: name,
		Names: func(taken int) string { return fmt.Sprint("device-", taken) },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return d, key
}

// release makes a release that succeeded, as the pipeline does.
func (s *server) release(fleetID int64, commit string, draft bool) fleet.Release {
	s.t.Helper()
	ctx := s.t.Context()
	r, _, err := s.db.BeginRelease(ctx, store.NewRelease{Fleet: fleetID, Commit: strings.Repeat(commit, 32/len(commit)), Draft: draft})
	if err != nil {
		s.t.Fatal(err)
	}
	images, err := s.db.Outlined(ctx, r, store.Outline{Composition: []byte(`{"services":{"main":{}}}`), Services: []store.OutlineService{{
		Name: "main", Repository: "v2/" + r.Commit, Location: "h/v2/" + r.Commit,
	}}})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.db.ImageBuilt(ctx, images[0].ID, store.Built{Digest: "sha256:00", Size: 1}); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.db.Succeed(ctx, r, "log"); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// The walk of the stock CLI through protocol §6.8: what each command asks, in its order.
func TestTheCommandsOfTheStockCLIAreAnswered(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	app := fmt.Sprintf("/v7/application(%d)", id)
	const accessible = "is_directly_accessible_by__user/any(dau:1 eq 1) and (slug eq 'acme/porch' or uuid eq 'acme/porch')"

	t.Log("whoami")
	var who map[string]any
	if err := json.Unmarshal(s.want(200, s.token, "GET", "/actor/v1/whoami", ""), &who); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{
		"id": float64(s.user.Actor), "actorType": "user", "actorTypeId": float64(s.user.ID), "username": "acme", "email": "acme@example.org",
	}, who); diff != "" {
		t.Error(diff)
	}

	t.Log("fleet list, fleet show")
	if got := s.one("/v7/application?$filter=is_directly_accessible_by__user/any(dau:1 eq 1)&$orderby=app_name asc&$select=id,app_name,slug&$expand=is_for__device_type($select=slug),owns__device($select=is_online)"); got["slug"] != "acme/porch" {
		t.Errorf("the fleet is %v", got)
	}
	if got := s.one("/v7/application?$filter=" + accessible + "&$expand=is_for__device_type($select=slug),should_be_running__release($select=commit)"); len(got["should_be_running__release"].([]any)) != 0 {
		t.Errorf("a new fleet runs %v", got)
	}

	first, second := s.release(id, "a1", false), s.release(id, "b2", false)
	draft := s.release(id, "c3", true)
	dev, _ := s.device(id, "")

	t.Log("device list, device show")
	if got := s.one("/v7/device?$select=id,uuid,device_name,status,is_online,supervisor_version,os_version&$expand=belongs_to__application($select=app_name,slug),is_of__device_type($select=slug),is_running__release($select=commit)&$orderby=device_name asc"); got["uuid"] != dev.UUID {
		t.Errorf("the device is %v", got)
	}
	byUUID := "/v7/device(uuid='" + dev.UUID + "')"
	if got := s.one(byUUID + "?$select=device_name,id,overall_status,is_online,is_web_accessible,note&$expand=belongs_to__application($select=app_name,slug)"); got["device_name"] != dev.Name {
		t.Errorf("the device is %v", got)
	}
	if got := s.one("/v7/device?$filter=startswith(uuid,'" + dev.UUID[:7] + "')&$select=id"); got["id"] != float64(dev.ID) {
		t.Errorf("the device is %v", got)
	}

	t.Log("device rename, note, pin, track-fleet")
	s.one("/v7/device?$filter=uuid eq '" + dev.UUID + "'&$select=id")
	patch := func(body string) {
		t.Helper()
		if answer := s.want(200, s.token, "PATCH", fmt.Sprintf("/v7/device?$filter=id in (%d)", dev.ID), body); len(answer) != 0 {
			t.Errorf("PATCH is answered %q", answer)
		}
	}
	patch(`{"device_name":"lamp"}`)
	patch(`{"note":"on the left"}`)
	found := s.one(fmt.Sprintf("/v7/release?$filter=commit eq '%s' and belongs_to__application eq %d and status eq 'success'&$select=id", first.Commit, id))
	patch(fmt.Sprintf(`{"is_pinned_on__release":%v}`, found["id"]))
	show := byUUID + "?$select=device_name,note,is_pinned_on__release,should_be_running__release"
	ref := func(r fleet.Release) any { return map[string]any{"__id": float64(r.ID)} }
	if diff := cmp.Diff(map[string]any{"device_name": "lamp", "note": "on the left", "is_pinned_on__release": ref(first), "should_be_running__release": ref(first)}, s.one(show)); diff != "" {
		t.Error(diff)
	}
	patch(`{"is_pinned_on__release":null}`)
	if got := s.one(show); got["is_pinned_on__release"] != nil || !cmp.Equal(got["should_be_running__release"], ref(second)) {
		t.Errorf("unpinned it is %v", got)
	}

	t.Log("release list, show, finalize")
	if got := s.rows(fmt.Sprintf("/v7/release?$filter=belongs_to__application eq %d&$orderby=created_at desc&$select=id,commit,created_at,status,raw_version,is_final", id)); len(got) != 3 || got[0]["is_final"] != false || got[1]["raw_version"] != "0.0.0+rev1" {
		t.Errorf("the releases are %v", got)
	}
	if got := s.one("/v7/release?$filter=startswith(commit,'" + draft.Commit[:7] + "')&$select=id,commit,created_at,status,raw_version,is_final,build_log,start_timestamp,end_timestamp&$expand=release_tag"); got["build_log"] != "log" {
		t.Errorf("the release is %v", got)
	}
	s.want(200, s.token, "PATCH", fmt.Sprintf("/v7/release(%d)", draft.ID), `{"is_final":true}`)
	if got := s.one(app + "?$select=should_be_running__release"); !cmp.Equal(got["should_be_running__release"], ref(draft)) {
		t.Errorf("after finalize the fleet runs %v", got)
	}

	t.Log("fleet pin, track-latest, rename")
	s.want(200, s.token, "PATCH", app, fmt.Sprintf(`{"should_be_running__release":%d,"should_track_latest_release":false}`, first.ID))
	s.want(200, s.token, "PATCH", app, fmt.Sprintf(`{"should_be_running__release":%d,"should_track_latest_release":true}`, draft.ID))
	s.want(200, s.token, "PATCH", app, `{"app_name":"veranda"}`)
	if got := s.one(app + "?$filter=is_directly_accessible_by__user/any(dau:1 eq 1)&$select=app_name,slug"); got["slug"] != "acme/veranda" {
		t.Errorf("renamed it is %v", got)
	}

	t.Log("env set, list, rename, rm")
	s.want(200, s.token, "GET", "/config/vars", "")
	service := s.one(fmt.Sprintf("/v7/service(application=%d,service_name='main')", id))
	install := s.one(fmt.Sprintf("/v7/service_install?$filter=device eq %d and installs__service eq %v", dev.ID, service["id"]))
	for _, v := range []struct{ resource, body, list string }{
		{"application_environment_variable", fmt.Sprintf(`"application":%d,"name":"A"`, id), fmt.Sprintf("?$orderby=name asc&$filter=application eq %d", id)},
		{"application_config_variable", fmt.Sprintf(`"application":%d,"name":"RESIN_SUPERVISOR_DELTA"`, id), fmt.Sprintf("?$filter=application eq %d", id)},
		{"service_environment_variable", fmt.Sprintf(`"service":%v,"name":"A"`, service["id"]), fmt.Sprintf("?$orderby=name asc&$filter=service/any(s:s/application eq %d)&$expand=service", id)},
		{"device_environment_variable", fmt.Sprintf(`"device":%d,"name":"A"`, dev.ID), fmt.Sprintf("?$filter=device eq %d", dev.ID)},
		{"device_config_variable", fmt.Sprintf(`"device":%d,"name":"RESIN_SUPERVISOR_DELTA"`, dev.ID), fmt.Sprintf("?$filter=device eq %d", dev.ID)},
		{"device_service_environment_variable", fmt.Sprintf(`"service_install":%v,"name":"A"`, install["id"]), fmt.Sprintf("?$filter=service_install/any(si:si/device eq %d)&$expand=service_install($expand=installs__service)", dev.ID)},
	} {
		s.want(201, s.token, "POST", "/v7/"+v.resource, `{"value":"1",`+v.body+`}`)
		row := s.one("/v7/" + v.resource + v.list)
		s.want(200, s.token, "PATCH", fmt.Sprintf("/v7/%s(%v)", v.resource, row["id"]), `{"value":"2"}`)
		s.want(200, s.token, "DELETE", fmt.Sprintf("/v7/%s(%v)", v.resource, row["id"]), "")
		if left := s.rows("/v7/" + v.resource + v.list); len(left) != 0 {
			t.Errorf("%s: %v is left", v.resource, left)
		}
	}

	t.Log("ssh-key list, add, rm")
	const public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ"
	s.want(201, s.token, "POST", "/v7/user__has__public_key", `{"title":"laptop","public_key":"`+public+` me@here"}`)
	key := s.one("/v7/user__has__public_key")
	if string(s.want(200, s.token, "GET", "/auth/v1/public-keys/acme", "")) != key["public_key"].(string)+"\n" || !strings.HasPrefix(key["public_key"].(string), public) {
		t.Errorf("the key is %v", key)
	}
	s.want(400, s.token, "POST", "/v7/user__has__public_key", `{"title":"laptop","public_key":"ssh-rsa nonsense"}`)
	s.want(200, s.token, "DELETE", fmt.Sprintf("/v7/user__has__public_key(%v)", key["id"]), "")

	t.Log("device move, rm; fleet rm")
	other := s.fleet("garden")
	patch(fmt.Sprintf(`{"belongs_to__application":%d}`, other))
	if got := s.one(byUUID + "?$expand=belongs_to__application($select=slug)"); fmt.Sprint(got["belongs_to__application"]) != "[map[slug:acme/garden]]" {
		t.Errorf("it is in %v", got["belongs_to__application"])
	}
	s.want(200, s.token, "DELETE", fmt.Sprintf("/v7/device?$filter=id in (%d)", dev.ID), "")
	if got := s.rows(byUUID); len(got) != 0 {
		t.Errorf("it is still %v", got)
	}
	s.want(200, s.token, "DELETE", app, "")
	s.want(404, s.token, "DELETE", app, "")
}

func TestAnErrorIsSaidAsTheProtocolSaysIt(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	_, key := s.device(id, "")
	org := s.one("/v7/organization?$select=id")["id"]
	kind := s.one("/v7/device_type?$top=1&$select=id")["id"]
	for name, c := range map[string]struct {
		token, method, target, body string
		status                      int
		contentType, want           string
	}{
		"unknown resource":      {s.token, "GET", "/v7/planet", "", 404, "text/plain; charset=utf-8", `there is no resource "planet"`},
		"unknown field":         {s.token, "GET", "/v7/device?$select=colour", "", 400, "text/plain; charset=utf-8", `device has no field "colour"`},
		"parse error":           {s.token, "GET", "/v7/device?$filter=a eq", "", 400, "text/plain; charset=utf-8", "$filter at character 5"},
		"rule with a hint":      {s.token, "PATCH", fmt.Sprintf("/v7/application(%d)", id), `{"app_name":"a"}`, 400, "text/plain; charset=utf-8", "\nhint: choose another name"},
		"nobody":                {"", "GET", "/v7/device", "", 401, "text/plain; charset=utf-8", "Unauthorized"},
		"nobody, publicly":      {"", "GET", "/v7/device_type/$count", "", 200, "application/json; charset=utf-8", `{"d":`},
		"wrong key":             {"nonsense", "GET", "/v7/device_type", "", 401, "text/plain; charset=utf-8", "credentials are wrong"},
		"a device's key":        {key, "POST", "/v7/application", `{}`, 401, "text/plain; charset=utf-8", "may not create application"},
		"unique":                {s.token, "POST", "/v7/application", fmt.Sprintf(`{"app_name":"porch","organization":%v,"is_for__device_type":%v}`, org, kind), 409, "application/json; charset=utf-8", `must be unique."`},
		"patch of nothing":      {s.token, "PATCH", "/v7/device(5)", `{}`, 400, "text/plain; charset=utf-8", "no fields"},
		"patch of nobody":       {s.token, "PATCH", "/v7/device(5)", `{"note":"x"}`, 200, "", ""},
		"method":                {s.token, "PUT", "/v7/device(5)", `{}`, 405, "text/plain; charset=utf-8", "no method PUT"},
		"no JSON":               {s.token, "POST", "/v7/device_tag", `{`, 400, "text/plain; charset=utf-8", "not a JSON object"},
		"long":                  {s.token, "POST", "/v7/device_tag", `"` + strings.Repeat("x", 1<<20) + `"`, 413, "text/plain; charset=utf-8", "over 1048576 bytes"},
		"unknown path":          {s.token, "GET", "/v8/device", "", 404, "text/plain; charset=utf-8", ""},
		"wrong password":        {"", "POST", "/login_", `{"username":"acme","password":"x"}`, 401, "text/plain; charset=utf-8", ""},
		"whoami of nobody":      {"", "GET", "/actor/v1/whoami", "", 401, "text/plain; charset=utf-8", "Unauthorized"},
		"user whoami of device": {key, "GET", "/user/v1/whoami", "", 401, "text/plain; charset=utf-8", "Unauthorized"},
	} {
		resp, answer := s.send(c.token, c.method, c.target, c.body)
		if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != c.contentType || !strings.Contains(string(answer), c.want) {
			t.Errorf("%s: %d %s %q; want %d %s %q", name, resp.StatusCode, resp.Header.Get("Content-Type"), answer, c.status, c.contentType, c.want)
		}
	}
}

func TestAnInternalErrorTellsTheCallerItsNumberAndTheLogTheReason(t *testing.T) {
	s := newServer(t)
	s.model.Created = func(context.Context, int64, string) error { return fmt.Errorf("mkdir /secret/place: no space") }
	org, kind := s.one("/v7/organization?$select=id")["id"], s.one("/v7/device_type?$top=1&$select=id")["id"]
	resp, answer := s.send(s.token, "POST", "/v7/application", fmt.Sprintf(`{"app_name":"porch","organization":%v,"is_for__device_type":%v}`, org, kind))
	id := resp.Header.Get("X-Request-Id")
	if resp.StatusCode != 500 || string(answer) != "internal error; request "+id || len(id) != 16 {
		t.Errorf("%d %q, request %q", resp.StatusCode, answer, id)
	}
	if !strings.Contains(s.log.String(), "/secret/place") || !strings.Contains(s.log.String(), id) {
		t.Errorf("the log has only %s", s.log.String())
	}
}

func TestAMadeRowIsAnsweredAloneWithItsPlace(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	resp, answer := s.send(s.token, "POST", "/v7/application_tag/", fmt.Sprintf(`{"application":%d,"tag_key":"a","value":"b"}`, id))
	var row map[string]any
	if err := json.Unmarshal(answer, &row); err != nil || resp.StatusCode != 201 || row["tag_key"] != "a" {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	if want := fmt.Sprintf("/v7/application_tag(@id)?@id=%v", row["id"]); resp.Header.Get("Location") != want {
		t.Errorf("it is at %s, want %s", resp.Header.Get("Location"), want)
	}
	if got := s.one(strings.Replace(resp.Header.Get("Location"), "@id)", "@id)/", 1)); !cmp.Equal(got, row) {
		t.Errorf("there is %v", got)
	}
	answer = s.want(201, s.token, "POST", "/v7/application_tag?returnResource=false", fmt.Sprintf(`{"application":%d,"tag_key":"b","value":"b"}`, id))
	if !strings.HasPrefix(string(answer), `{"id":`) || strings.Contains(string(answer), "tag_key") {
		t.Errorf("without the resource: %s", answer)
	}
}

func TestAnyWebPageMayCallButBringsItsOwnCredentials(t *testing.T) {
	s := newServer(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.URL+"/v7/device", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://dash.example")
	req.Header.Set("Access-Control-Request-Method", "PATCH")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	h := resp.Header
	if resp.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "X-Balena-Client") ||
		!strings.Contains(h.Get("Access-Control-Allow-Methods"), "PATCH") || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%d %v", resp.StatusCode, h)
	}
	if resp, _ := s.send("", "GET", "/config/vars", ""); resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%v", resp.Header)
	}
}

func TestASessionIsRenewed(t *testing.T) {
	s := newServer(t)
	session := s.login()
	for _, method := range []string{"GET", "POST"} {
		token := string(s.want(200, session, method, "/user/v1/refresh-token/", ""))
		s.want(200, token, "GET", "/user/v1/whoami", "")
		s.want(401, token, "POST", "/api-key/user/full", `{"name":"x"}`) // its password was not given again
	}
	fresh := string(s.want(200, session, "POST", "/user/v1/refresh-token", `{"password":"`+password+`"}`))
	s.want(200, fresh, "POST", "/api-key/user/full", `{"name":"x"}`)
	s.want(401, "", "GET", "/user/v1/refresh-token", "")
	s.want(401, s.token, "GET", "/user/v1/refresh-token", "") // an API key is not traded for a session
	if got := string(s.want(200, fresh, "GET", "/user/v1/whoami/", "")); got != fmt.Sprintf(`{"id":%d,"username":"acme","email":"acme@example.org"}`, s.user.ID) {
		t.Errorf("whoami is %s", got)
	}
}

// key reads the JSON string that a new key is.
func (s *server) key(token, target, body string) string {
	s.t.Helper()
	var key string
	if err := json.Unmarshal(s.want(200, token, "POST", target, body), &key); err != nil {
		s.t.Fatal(err)
	}
	return key
}

func TestKeysAreMadeForWhatOneMayChange(t *testing.T) {
	s := newServer(t)
	s.token = s.login()
	id := s.fleet("porch")
	dev, devKey := s.device(id, "")
	_, other := s.newUser("globex")
	whoami := func(key string) string {
		t.Helper()
		var who struct{ ActorType, Slug, UUID, Username string }
		if err := json.Unmarshal(s.want(200, key, "GET", "/actor/v1/whoami", ""), &who); err != nil {
			t.Fatal(err)
		}
		return who.ActorType + " " + who.Slug + who.UUID + who.Username
	}
	soon := time.Now().Add(10 * time.Minute).UTC().Format(time.RFC3339)
	v2 := func(kind string, id int64, role, more string) string {
		return fmt.Sprintf(`{"actorType":%q,"actorTypeId":%d,"roles":[%q]%s}`, kind, id, role, more)
	}
	provisioning := s.key(s.token, fmt.Sprintf("/application/%d/generate-api-key", id), "")
	for name, c := range map[string]struct{ target, body, want string }{
		"provisioning": {fmt.Sprintf("/api-key/application/%d/provisioning", id), `{"name":"card"}`, "application acme/porch"},
		"v2":           {"/api-key/v2/", v2("application", id, "provisioning-api-key", `,"expiryDate":"`+soon+`"`), "application acme/porch"},
		"v1":           {"/api-key/v1", v2("application", id, "provisioning-api-key", ``), "application acme/porch"},
		"device":       {"/api-key/v2", v2("device", dev.ID, "device-api-key", `,"expiryDate":null`), "device " + dev.UUID},
		"device-key":   {fmt.Sprintf("/api-key/device/%d/device-key", dev.ID), ``, "device " + dev.UUID},
		"user":         {"/api-key/v2", v2("user", s.user.ID, "named-user-api-key", `,"name":"ci","expiryDate":null`), "user acme"},
		"full":         {"/api-key/user/full", `{"name":"ci","expiryDate":null}`, "user acme"},
	} {
		if got := whoami(s.key(s.token, c.target, c.body)); got != c.want {
			t.Errorf("%s: it is %s, want %s", name, got, c.want)
		}
	}
	// A device that lost its key takes a new one that it chose (protocol §1.4).
	chosen := strings.Repeat("0123456789abcdef", 2)
	if got := s.key(provisioning, fmt.Sprintf("/api-key/device/%d/device-key", dev.ID), `{"apiKey":"`+chosen+`"}`); got != chosen {
		t.Errorf("the key is %s", got)
	}
	if got := whoami(chosen); got != "device "+dev.UUID {
		t.Errorf("it is %s", got)
	}
	// One that is at work has its key, and the card's opens it no more.
	old, _ := s.device(id, "")
	if err := s.db.Seen(t.Context(), map[int64]store.Sighting{old.ID: {Micros: time.Now().Add(time.Second).UnixMicro(), Poll: 60000}}); err != nil {
		t.Fatal(err)
	}
	s.want(404, provisioning, "POST", fmt.Sprintf("/api-key/device/%d/device-key", old.ID), ``)
	s.want(404, provisioning, "POST", "/api-key/v1", v2("device", old.ID, "device-api-key", ``))
	if resp, answer := s.send(provisioning, "POST", fmt.Sprintf("/api-key/device/%d/device-key", dev.ID), `{"apiKey":"`+chosen+`"}`); resp.StatusCode != 409 || !strings.Contains(string(answer), `must be unique.`) {
		t.Errorf("the same again: %d %s", resp.StatusCode, answer)
	}

	full := s.key(s.token, "/api-key/user/full", `{"name":"ci"}`)
	for name, c := range map[string]struct {
		token, target, body string
		status              int
	}{
		"another tenant's fleet":         {other, fmt.Sprintf("/api-key/application/%d/provisioning", id), ``, 404},
		"another tenant's fleet, old":    {other, fmt.Sprintf("/application/%d/generate-api-key", id), ``, 404},
		"another tenant's device":        {other, fmt.Sprintf("/api-key/device/%d/device-key", dev.ID), ``, 404},
		"another tenant's device, v1":    {other, "/api-key/v1", v2("device", dev.ID, "device-api-key", ``), 404},
		"another user":                   {other, "/api-key/v1", v2("user", s.user.ID, "user-api-key", ``), 403},
		"a fleet that is not there":      {s.token, "/api-key/application/99/provisioning", ``, 404},
		"a fleet that is no number":      {s.token, "/api-key/application/x/provisioning", ``, 404},
		"a device":                       {devKey, fmt.Sprintf("/api-key/application/%d/provisioning", id), ``, 403},
		"a device for itself":            {devKey, fmt.Sprintf("/api-key/device/%d/device-key", dev.ID), ``, 403},
		"a provisioning key":             {provisioning, fmt.Sprintf("/api-key/application/%d/provisioning", id), ``, 403},
		"a provisioning key, an account": {provisioning, "/api-key/user/full", `{"name":"x"}`, 401},
		"a key makes an account's key":   {full, "/api-key/user/full", `{"name":"x"}`, 401},
		"nobody":                         {"", fmt.Sprintf("/api-key/application/%d/provisioning", id), ``, 401},
		"nobody's account":               {"", "/api-key/user/full", `{"name":"x"}`, 401},
		"a role that does not fit":       {s.token, "/api-key/v1", v2("application", id, "user-api-key", ``), 400},
		"no role":                        {s.token, "/api-key/v1", fmt.Sprintf(`{"actorType":"application","actorTypeId":%d}`, id), 400},
		"v2 without expiry":              {s.token, "/api-key/v2", v2("application", id, "provisioning-api-key", ``), 400},
		"an expiry in the past":          {s.token, "/api-key/v2", v2("application", id, "provisioning-api-key", `,"expiryDate":"2001-01-01T00:00:00Z"`), 400},
		"an expiry that is no time":      {s.token, "/api-key/v2", v2("application", id, "provisioning-api-key", `,"expiryDate":7}`[:len(`,"expiryDate":7`)]), 400},
		"a user's key without a name":    {s.token, "/api-key/user/full", ``, 400},
		"a short key":                    {s.token, fmt.Sprintf("/api-key/device/%d/device-key", dev.ID), `{"apiKey":"x"}`, 400},
		"a long name":                    {s.token, "/api-key/user/full", `{"name":"` + strings.Repeat("x", 51) + `"}`, 400},
	} {
		if resp, answer := s.send(c.token, "POST", c.target, c.body); resp.StatusCode != c.status {
			t.Errorf("%s: %d %s, want %d", name, resp.StatusCode, answer, c.status)
		}
	}
}

func TestSSHKeysAreForTheirUserAndTheDevicesHeMayEnter(t *testing.T) {
	s := newServer(t)
	_, key := s.device(s.fleet("porch"), "")
	const public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ"
	s.want(201, s.token, "POST", "/v7/user__has__public_key", `{"title":"laptop","public_key":"`+public+`"}`)
	_, other := s.newUser("globex")
	s.want(201, other, "POST", "/v7/user__has__public_key", `{"title":"theirs","public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"}`)

	if got := string(s.want(200, key, "GET", "/auth/v1/public-keys/acme", "")); got != public+"\n" {
		t.Errorf("a device of the fleet reads %q", got)
	}
	if got := string(s.want(200, key, "GET", "/auth/v1/public-keys/globex", "")); got != "" {
		t.Errorf("of a stranger it reads %q", got)
	}
	if got := string(s.want(200, key, "GET", "/auth/v1/public-keys/nobody", "")); got != "" {
		t.Errorf("of nobody it reads %q", got)
	}
	s.want(403, other, "GET", "/auth/v1/public-keys/acme", "")
	s.want(401, "", "GET", "/auth/v1/public-keys/acme", "")
}

func TestTheNamesOfConfigVariablesAreAllThere(t *testing.T) {
	s := newServer(t)
	var got map[string]any
	if err := json.Unmarshal(s.want(200, "", "GET", "/config/vars?deviceType=raspberrypi4-64", ""), &got); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"reservedNames", "reservedNamespaces", "whiteListedNames", "whiteListedNamespaces", "blackListedNames"} {
		if names, ok := got[list].([]any); !ok || len(names) == 0 {
			t.Errorf("%s is %v", list, got[list])
		}
	}
	for _, name := range got["whiteListedNames"].([]any) {
		if err := fleet.CheckConfigVariable(name.(string), ""); err != nil {
			t.Errorf("%s is offered and refused: %v", name, err)
		}
	}
	for name := range got["configVarSchema"].(map[string]any)["properties"].(map[string]any) {
		if err := fleet.CheckConfigVariable(name, ""); err != nil {
			t.Errorf("%s is offered and refused: %v", name, err)
		}
	}
}

func FuzzAnyRequestIsAnswered(f *testing.F) {
	f.Add("GET", "/v7/device(1)?$expand=a", "")
	f.Add("POST", "/api-key/v2/", `{"actorType":"user","actorTypeId":1,"roles":["user-api-key"]}`)
	f.Add("PATCH", "/v7/application?$filter=id eq 1", `{"app_name":"x"}`)
	f.Add("POST", "/login_", `{"username":1}`)
	db := storetest.Open(f)
	keys, err := auth.OpenKeyring(filepath.Join(f.TempDir(), "keys"))
	if err != nil {
		f.Fatal(err)
	}
	a := &auth.Auth{Store: db, Keys: keys}
	user, err := a.NewUser(f.Context(), "acme", "", password)
	if err != nil {
		f.Fatal(err)
	}
	key, err := a.NewKey(f.Context(), auth.KeySpec{Actor: user.Actor, Role: fleet.RoleUser})
	if err != nil {
		f.Fatal(err)
	}
	handler := (&api.API{Model: resource.New(db), Auth: a, Logs: &logs.Store{Dir: f.TempDir()}, Keys: db, Log: slog.New(slog.DiscardHandler)}).Handler()
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || method == "" || strings.Contains(target, "login_") && len(body) > 40 {
			return // no request, or one that costs a password hash
		}
		r := httptest.NewRequest("GET", "/", strings.NewReader(body)).WithContext(t.Context())
		r.Method, r.URL = method, u
		r.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != 503 {
			t.Errorf("%s %s %q: %d %s", method, target, body, w.Code, w.Body)
		}
	})
}

// gone is an Auth whose request's context ends while it thinks.
type gone struct{ api.Auth }

func (gone) Request(r *http.Request) (fleet.Actor, error) {
	return fleet.Actor{}, r.Context().Err()
}

// slow is an Auth that thinks for long.
type slow struct {
	api.Auth
	think time.Duration
}

func (a slow) Request(r *http.Request) (fleet.Actor, error) {
	time.Sleep(a.think)
	return fleet.Actor{}, r.Context().Err()
}

func TestARequestThatEndedWithoutAnAnswerIsNoEmptySuccess(t *testing.T) {
	s := newServer(t)
	h := (&api.API{Model: s.model, Auth: gone{s.auth}}).Handler()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		h.ServeHTTP(w, r.WithContext(ctx))
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(&s.log, nil), slog.LevelError)
	srv.Start()
	t.Cleanup(srv.Close)
	if resp, err := http.Get(srv.URL + "/v7/device"); err == nil {
		resp.Body.Close()
		t.Errorf("it is answered %s", resp.Status)
	}
	if s.log.Len() > 0 {
		t.Errorf("it is logged: %s", s.log.String())
	}
}

func TestABodyThatDoesNotComeHoldsNoConnection(t *testing.T) {
	s := newServer(t)
	quick := s.serve(100 * time.Millisecond)
	for name, head := range map[string]string{
		"with a length":   "Content-Length: 10\r\n\r\n{",
		"in chunks":       "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		"nothing at all":  "Content-Length: 10\r\n\r\n",
		"one not wanted ": "X-HTTP: 1\r\nContent-Length: 300\r\n\r\n{",
	} {
		for _, line := range []string{"POST /login_", "PATCH /v7/device(1)", "GET /config"} {
			c, err := net.Dial("tcp", quick.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, line+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+s.token+"\r\n"+head); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%s, %s: the server still waits", line, name)
			}
		}
	}
}

// The bound is on the body alone: what takes long afterwards is not cut off, nor is the next request.
func TestABodyThatCameInTimeBoundsNothingElse(t *testing.T) {
	s := newServer(t)
	const within = 100 * time.Millisecond
	id := s.fleet("porch")
	ctx := make(chan context.Context, 1)
	s.model.Created = func(c context.Context, _ int64, _ string) error {
		ctx <- c
		time.Sleep(3 * within)
		return c.Err()
	}
	s.Server = s.serve(within)
	org := s.one("/v7/organization(handle='acme')?$select=id")
	kind := s.one(fmt.Sprintf("/v7/application(%d)?$select=is_for__device_type", id))["is_for__device_type"].(map[string]any)["__id"]
	// Nor is one without a body.
	srv := httptest.NewServer((&api.API{Model: s.model, Auth: slow{s.auth, 3 * within}, BodyTimeout: within}).Handler())
	t.Cleanup(srv.Close)
	if resp, err := http.Get(srv.URL + "/v7/device_type/$count"); err != nil || resp.StatusCode != 200 {
		t.Errorf("without a body: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	for _, name := range []string{"garden", "attic"} {
		s.want(201, s.token, "POST", "/v7/application", fmt.Sprintf(`{"app_name":%q,"is_for__device_type":%v,"organization":%v}`, name, kind, org["id"]))
		<-ctx
		time.Sleep(2 * within)
	}
}

// serve serves the same with another bound on bodies.
func (s *server) serve(within time.Duration) *httptest.Server {
	srv := httptest.NewServer((&api.API{Model: s.model, Auth: s.auth, Logs: s.logs, Keys: s.db, BodyTimeout: within,
		Heartbeat: 20 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&s.log, nil))}).Handler())
	s.t.Cleanup(srv.Close)
	return srv
}
