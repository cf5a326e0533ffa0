package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

// The doors that ask nobody who is there, each with its reason. Every other route is walked with credentials that are
// not good; a new one is, too, without anybody thinking of it.
var openDoors = map[string]string{
	"GET /ping":                   "for load balancers",
	"GET /connectivity-check":     "for devices' network managers",
	"GET /ca.crt":                 "has to be there before anything is trusted",
	"POST /login_":                "takes a password",
	"GET /login/cli/{callback}":   "takes a password, or a cookie",
	"POST /login/cli/{callback}":  "takes a password",
	"GET /login/cli/page.css":     "a style sheet",
	"GET /config":                 "what tools have to know before the login",
	"GET /config/vars":            "as above",
	"GET /device-types/v1":        "as above",
	"GET /device-types/v1/{slug}": "as above",
	"GET /device-types/v1/{slug}/images/{version}/download-size": "as above",
	"PUT /assets/uploads/{upload}/{part}":                        "the address is the secret: who began the upload was told it",
}

// What stands below a pattern that is a whole tree.
var trees = map[string][]string{
	"/v2/": {
		"GET /v2/", "GET /v2/_catalog", "GET /v2/v2/00000000000000000000000000000000/manifests/latest",
		"POST /v2/v2/00000000000000000000000000000000/blobs/uploads/", "DELETE /v2/v2/00000000000000000000000000000000/manifests/latest",
	},
	"/git/": {
		"GET /git/admin/porch.git/info/refs?service=git-upload-pack", "GET /git/admin/porch.git/info/refs?service=git-receive-pack",
		"POST /git/admin/porch.git/git-upload-pack", "POST /git/admin/porch.git/git-receive-pack",
	},
}

// What a tree of resources is asked: every verb, of some of everything.
func resourceCalls(root string) (all []string) {
	for _, resource := range []string{
		"application", "device", "release", "image", "service", "user", "api_key", "organization", "organization_membership",
		"device_environment_variable", "device_config_variable", "device_tag", "device_type", "my_application", "no_such_resource",
	} {
		all = append(all, "GET "+root+resource, "GET "+root+resource+"(1)", "POST "+root+resource, "PATCH "+root+resource+"(1)", "DELETE "+root+resource+"(1)",
			"GET "+root+resource+"/$count", "DELETE "+root+resource)
	}
	return append(all, "GET "+root+"$metadata", "POST "+root+"device(1)/canAccess", "GET "+root)
}

// hall is a whole server with a fleet and a device, without its long-lived work.
type hall struct {
	*server
	t        *testing.T
	web      *httptest.Server
	now      time.Time
	password string
	user     store.Login
	fleet    int64
	device   fleet.Device
	source   string // the database
}

func newHall(t *testing.T) *hall {
	t.Helper()
	h := &hall{t: t, now: time.Now(), password: "only-for-this-walk", source: storetest.Source(t)}
	dir := t.TempDir()
	o, err := completed(t, []string{"--data", dir, "--database", h.source, "--host", "dunlin.test:8080", "--admin-password", h.password}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	h.server = &server{options: o, log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))}
	if err := h.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.db.Close(); err != nil {
			t.Error(err)
		}
	})
	h.auth.Now = func() time.Time { return h.now }
	if err := h.firstStart(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	if h.user, err = h.db.Login(t.Context(), "admin"); err != nil {
		t.Fatal(err)
	}
	h.web = httptest.NewServer(h.routes(t.Context()))
	t.Cleanup(h.web.Close)

	session := h.session()
	var organizations, types struct{ D []struct{ ID int64 } }
	h.json(session, "GET", "/v7/organization?$filter=handle%20eq%20%27admin%27&$select=id", "", &organizations)
	h.json(session, "GET", "/v7/device_type?$filter=slug%20eq%20%27generic-amd64%27&$select=id", "", &types)
	var made struct{ ID int64 }
	h.json(session, "POST", "/v7/application", fmt.Sprintf(`{"app_name":"porch","organization":%d,"is_for__device_type":%d}`,
		organizations.D[0].ID, types.D[0].ID), &made)
	h.fleet = made.ID
	key := auth.NewSecret()
	if h.device, err = h.db.RegisterDevice(t.Context(), store.NewDevice{Fleet: h.fleet, UUID: strings.Repeat("ab", 16),
		DeviceType: "generic-amd64", KeyHash: auth.HashKey(key), Name: "door"}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hall) session() string {
	h.t.Helper()
	session, err := h.auth.Login(h.t.Context(), "admin", h.password, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return session
}

func (h *hall) key(actor int64, role string, expiry time.Time) string {
	h.t.Helper()
	secret, err := h.auth.NewKey(h.t.Context(), auth.KeySpec{Actor: actor, Role: role, Name: "walk", Expiry: expiry})
	if err != nil {
		h.t.Fatal(err)
	}
	return secret
}

func (h *hall) json(token, method, target, body string, into any) {
	h.t.Helper()
	status, text := h.ask(method, target, body, "Bearer "+token)
	if status >= 300 {
		h.t.Fatalf("%s %s: %d %s", method, target, status, text)
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		h.t.Fatal(err)
	}
}

// ask makes a request and is the status with the beginning of what was answered: some answers have no end.
func (h *hall) ask(method, target, body, authorization string) (int, string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, h.web.URL+target, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	switch {
	case strings.HasPrefix(target, "/git/"):
		path, _, _ := strings.Cut(target, "?")
		req.Header.Set("Content-Type", "application/x-"+path[strings.LastIndexByte(path, '/')+1:]+"-request")
	case strings.HasSuffix(target, "/log-stream"):
		req.Header.Set("Content-Type", "application/x-ndjson")
	default:
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK && (target == "/events" || strings.Contains(target, "stream")) {
		return resp.StatusCode, ""
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, target, err)
	}
	return resp.StatusCode, string(text)
}

var wildcard = regexp.MustCompile(`\{([a-z]+)(\.\.\.)?\}`)

// calls is what is asked of every route, with paths and bodies that would do something if whoever asks might.
func (h *hall) calls() (all []string, bodies func(call string) string) {
	values := map[string]string{
		"uuid": h.device.UUID, "username": "admin", "token": strings.Repeat("0", 64), "path": "v1/reboot", "slug": "generic-amd64", "version": "1.0.0",
	}
	for pattern := range h.table(h.t.Context()) {
		if _, open := openDoors[pattern]; open {
			continue
		}
		method, path, found := strings.Cut(pattern, " ")
		if !found {
			if below, ok := trees[pattern]; ok {
				all = append(all, below...)
			} else {
				all = append(all, resourceCalls(pattern)...)
			}
			continue
		}
		path = wildcard.ReplaceAllStringFunc(path, func(part string) string {
			name := wildcard.FindStringSubmatch(part)[1]
			switch {
			case name == "id" && strings.Contains(path, "/device/"):
				return fmt.Sprint(h.device.ID)
			case name == "id":
				return fmt.Sprint(h.fleet)
			case name == "uuid" && strings.Contains(path, "/fleet/"):
				return h.strings(fmt.Sprintf(`SELECT uuid FROM fleets WHERE id = %d`, h.fleet))[0]
			case values[name] == "":
				h.t.Fatalf("pattern %s: say here what stands for {%s}", pattern, name)
			}
			return values[name]
		})
		all = append(all, method+" "+path)
	}
	all = append(all, "GET /Device/V2/"+h.device.UUID+"/Logs/?stream=1", "POST /api-key/v2/", "GET /ACTOR/v1/whoami/")
	slices.Sort(all)
	registration := fmt.Sprintf(`{"application":%d,"uuid":"%s","device_type":"generic-amd64"}`, h.fleet, strings.Repeat("cd", 16))
	given := map[string]string{
		"POST /device/register":   registration,
		"PATCH /device/v3/state":  fmt.Sprintf(`{"%s":{"status":"Idle","os_version":"changed"}}`, h.device.UUID),
		"POST /user/register":     `{"username":"intruder","password":"long enough"}`,
		"POST /user/v1/password":  `{"currentPassword":"` + h.password + `","newPassword":"something else"}`,
		"POST /api-key/user/full": `{"name":"stolen"}`,
		"POST /api-key/v1":        fmt.Sprintf(`{"actorType":"application","actorTypeId":%d,"roles":["provisioning-api-key"]}`, h.fleet),
		"POST /api-key/v2":        fmt.Sprintf(`{"actorType":"application","actorTypeId":%d,"roles":["provisioning-api-key"],"expiryDate":null}`, h.fleet),
		"POST /api-key/v2/":       fmt.Sprintf(`{"actorType":"device","actorTypeId":%d,"roles":["device-api-key"],"expiryDate":null}`, h.device.ID),
		"POST /v7/device_tag":     fmt.Sprintf(`{"device":%d,"tag_key":"k","value":"v"}`, h.device.ID),
		"PATCH /v7/device(1)":     `{"note":"changed"}`,
		"POST /download-config":   fmt.Sprintf(`{"appId":%d,"deviceType":"generic-amd64","version":"1.0.0"}`, h.fleet),
	}
	return all, func(call string) string {
		if body, ok := given[call]; ok {
			return body
		}
		if strings.HasPrefix(call, "GET ") || strings.HasPrefix(call, "DELETE ") {
			return ""
		}
		return "{}"
	}
}

// state is everything the server keeps: every row of every table, and every file but the database's.
func (h *hall) state() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	query := `SELECT name FROM sqlite_master WHERE type = 'table'`
	if h.db.Dialect() == store.PostgreSQL {
		query = `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'`
	}
	for _, table := range h.strings(query) {
		rows, err := h.db.Reader().Query(`SELECT * FROM ` + table)
		if err != nil {
			h.t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			h.t.Fatal(err)
		}
		var lines []string
		for rows.Next() {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(any)
			}
			if err := rows.Scan(values...); err != nil {
				h.t.Fatal(err)
			}
			line := ""
			for _, v := range values {
				line += fmt.Sprintf("%v|", *v.(*any))
			}
			lines = append(lines, line)
		}
		if err := rows.Err(); err != nil {
			h.t.Fatal(err)
		}
		slices.Sort(lines)
		all["table "+table] = strings.Join(lines, "\n")
	}
	if err := filepath.WalkDir(h.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(path, h.source) {
			return err
		}
		all["file "+path] = "folder"
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			all["file "+path] = string(text)
			return err
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	return all
}

func (h *hall) strings(query string) (all []string) {
	h.t.Helper()
	rows, err := h.db.Reader().Query(query)
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			h.t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	return all
}

// spent is credentials that were good once, or never, by what is wrong with them.
func (h *hall) spent() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	brief := h.now.Add(time.Minute)
	application := h.actor(`SELECT actor FROM fleets WHERE id = $1`, h.fleet)
	holders := map[string]struct {
		actor int64
		role  string
	}{
		"a user's key": {h.user.Actor, fleet.RoleNamedUser}, "a provisioning key": {application, fleet.RoleProvisioning}, "a device's key": {h.device.Actor, fleet.RoleDevice},
	}
	var revoke []string
	for what, holder := range holders {
		all["Bearer, expired: "+what] = "Bearer " + h.key(holder.actor, holder.role, brief)
		gone := h.key(holder.actor, holder.role, time.Time{})
		all["Bearer, revoked: "+what] = "Bearer " + gone
		revoke = append(revoke, gone)
	}
	basic := h.key(h.user.Actor, fleet.RoleNamedUser, brief)
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth("admin", basic)
	all["Basic, expired: a user's key"] = r.Header.Get("Authorization")
	all["Bearer, before a new password: a session"] = "Bearer " + h.session()
	all["Bearer, never good: a key"] = "Bearer " + auth.NewSecret()
	all["Bearer, never good: a session"] = "Bearer eyJhbGciOiJub25lIn0.eyJpZCI6MX0."
	all["Bearer, never good: what is no key"] = "Bearer x"
	all["Basic, never good: the password"] = "Basic YWRtaW46b25seS1mb3ItdGhpcy13YWxr"
	all["another scheme"] = "Digest username=admin"

	h.revoke(revoke...)
	h.password = "another-for-this-walk"
	if err := h.auth.SetPassword(h.t.Context(), fleet.Actor{}, h.user.ID, h.password); err != nil {
		h.t.Fatal(err)
	}
	all["Bearer, expired: a session"] = "Bearer " + h.session()
	h.now = h.now.Add(8 * 24 * time.Hour)
	return all
}

func (h *hall) actor(query string, id int64) (actor int64) {
	h.t.Helper()
	if err := h.db.Reader().QueryRow(query, id).Scan(&actor); err != nil {
		h.t.Fatal(err)
	}
	return actor
}

func (h *hall) revoke(secrets ...string) {
	h.t.Helper()
	session := h.session()
	for _, secret := range secrets {
		id := h.strings(fmt.Sprintf(`SELECT CAST(id AS TEXT) FROM api_keys WHERE key_hash = '%s'`, auth.HashKey(secret)))[0]
		if status, text := h.ask("DELETE", "/v7/api_key("+id+")", "", "Bearer "+session); status != http.StatusOK {
			h.t.Fatalf("revoke: %d %s", status, text)
		}
	}
}

// The key of somebody who left, on every door there is: none opens, and nothing happens behind one.
func TestCredentialsThatAreNotGoodOpenNoRouteAndHaveNoEffect(t *testing.T) {
	h := newHall(t)
	spent := h.spent()
	calls, bodies := h.calls()
	before := h.state()
	walked := 0
	for _, what := range slices.Sorted(maps.Keys(spent)) {
		for _, call := range calls {
			method, target, _ := strings.Cut(call, " ")
			h.now = h.now.Add(time.Second) // very many wrong ones are limited, which is another test
			status, text := h.ask(method, target, bodies(call), spent[what])
			if status != http.StatusUnauthorized && status != http.StatusForbidden {
				t.Errorf("%s: %s: %d %.200s", what, call, status, text)
			}
			walked++
		}
	}
	for _, call := range calls { // and as it stands in a query
		method, target, _ := strings.Cut(call, " ")
		if strings.HasPrefix(target, "/v2/") {
			continue // a registry token has no such form
		}
		with := "?"
		if strings.Contains(target, "?") {
			with = "&"
		}
		h.now = h.now.Add(time.Second)
		token := strings.TrimPrefix(spent["Bearer, revoked: a user's key"], "Bearer ")
		if status, text := h.ask(method, target+with+"apikey="+token, bodies(call), ""); status != http.StatusUnauthorized && status != http.StatusForbidden {
			t.Errorf("in the query: %s: %d %.200s", call, status, text)
		}
	}
	after := h.state()
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if was, there := before[name]; !there || was != after[name] {
			t.Errorf("%s changed:\n%.2000s\nwas:\n%.2000s", name, after[name], was)
		}
	}
	for name := range before {
		if _, there := after[name]; !there {
			t.Errorf("%s is gone", name)
		}
	}
	t.Logf("%d requests to %d routes and resources", walked, len(calls))
}

// The walk is worth something: every call of it is let in for somebody.
func TestEveryCallOfTheWalkIsLetInForSomebody(t *testing.T) {
	h := newHall(t)
	calls, bodies := h.calls()
	application := h.actor(`SELECT actor FROM fleets WHERE id = $1`, h.fleet)
	registryToken := func() string {
		var got struct{ Token string }
		h.json(h.session(), "GET", "/auth/v1/token?service=dunlin.test:8080&scope=registry:catalog:*", "", &got)
		return got.Token
	}
	for _, call := range calls {
		method, target, _ := strings.Cut(call, " ")
		switch {
		case strings.HasPrefix(target, "/v2/"): // is let in by a registry token: see below
			continue
		case strings.Contains(target, "/v7/"), strings.Contains(target, "/v6/"), strings.HasPrefix(target, "/resin/"):
			continue // the rules of resources are another room's, and its tests'
		case call == "DELETE /user/v1/account":
			continue // it would be the end of the walk
		}
		var last string
		in := slices.ContainsFunc([]string{
			h.session(), h.key(h.user.Actor, fleet.RoleUser, time.Time{}), h.key(h.device.Actor, fleet.RoleDevice, time.Time{}),
			h.key(application, fleet.RoleProvisioning, time.Time{}), registryToken(),
		}, func(token string) bool {
			status, text := h.ask(method, target, bodies(call), "Bearer "+token)
			last = fmt.Sprint(status, " ", text)
			return status != http.StatusUnauthorized && status != http.StatusForbidden
		})
		if !in {
			t.Errorf("%s: nobody is let in: %s", call, last)
		}
		if call == "POST /user/v1/password" {
			h.password = "something else"
		}
	}
}

// A registry token is good for hours by itself, and for no longer than what it was got with.
func TestARegistryTokenEndsWithTheKeyItWasGotWith(t *testing.T) {
	h := newHall(t)
	key := h.key(h.user.Actor, fleet.RoleNamedUser, time.Time{})
	brief := h.key(h.user.Actor, fleet.RoleNamedUser, h.now.Add(time.Minute))
	token := func(credential string) string {
		t.Helper()
		var got struct{ Token string }
		h.json(credential, "GET", "/auth/v1/token?service=dunlin.test:8080&scope=registry:catalog:*", "", &got)
		return got.Token
	}
	tokens := map[string]string{"a key's": token(key), "a brief key's": token(brief), "a session's": token(h.session())}
	want := func(when string, let map[string]bool) {
		t.Helper()
		for what, token := range tokens {
			for _, scheme := range []string{"Bearer ", "bearer "} {
				status, text := h.ask("GET", "/v2/", "", scheme+token)
				if in := status == http.StatusOK; in != let[what] || !in && status != http.StatusUnauthorized {
					t.Errorf("%s, %s: %d %s", when, what, status, text)
				}
			}
		}
	}
	want("at first", map[string]bool{"a key's": true, "a brief key's": true, "a session's": true})
	h.now = h.now.Add(time.Minute)
	want("after the brief key's end", map[string]bool{"a key's": true, "a session's": true})
	h.revoke(key)
	want("after the key was revoked", map[string]bool{"a session's": true})
	if err := h.auth.SetPassword(t.Context(), fleet.Actor{}, h.user.ID, "another-for-this-walk"); err != nil {
		t.Fatal(err)
	}
	want("after a new password", nil)
}

func TestTheHeaderOfARequestIsBounded(t *testing.T) {
	web := httptest.NewUnstartedServer(nil)
	web.Config = newHTTPServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), slog.New(slog.DiscardHandler))
	web.Start()
	defer web.Close()
	for size, want := range map[int]int{64 << 10: http.StatusOK, 256 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Long", strings.Repeat("x", size))
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d bytes: %s", size, resp.Status)
		}
	}
}
