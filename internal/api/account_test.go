package api_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fleet"
)

// say makes a request that is answered with a status, and is the text of the answer.
func (s *server) say(status int, token, method, target, body string) string {
	s.t.Helper()
	return string(s.want(status, token, method, target, body))
}

// who is the user name of a token, "" if it opens nothing.
func (s *server) who(token string) string {
	s.t.Helper()
	resp, body := s.send(token, "GET", "/actor/v1/whoami", "")
	if resp.StatusCode == http.StatusUnauthorized {
		return ""
	}
	var who struct{ Username string }
	if err := json.Unmarshal(body, &who); err != nil {
		s.t.Fatalf("%d %s: %v", resp.StatusCode, body, err)
	}
	return who.Username
}

func TestALoginThatIsTriedTooOftenSaysWhenToTryAgain(t *testing.T) {
	s := newServer(t)
	wrong := `{"username":"acme","password":"not the password"}`
	for range 10 {
		resp, body := s.send("", "POST", "/login_", wrong)
		if resp.StatusCode != 401 || resp.Header.Get("Retry-After") != "" {
			t.Fatalf("%d %s %s", resp.StatusCode, body, resp.Header)
		}
	}
	resp, body := s.send("", "POST", "/login_", wrong)
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != 429 || err != nil || seconds < 1 || seconds > 20*60 {
		t.Errorf("%d %s, wait %q", resp.StatusCode, body, resp.Header.Get("Retry-After"))
	}
	if !strings.Contains(resp.Header.Get("Access-Control-Expose-Headers"), "Retry-After") {
		t.Error("a page cannot read how long to wait")
	}
}

func TestASessionIsRenewedAndIsFreshWithThePassword(t *testing.T) {
	s := newServer(t)
	session := s.login()
	key := `{"name":"laptop","expiryDate":null}`
	for what, renewed := range map[string]string{
		"GET":  s.say(200, session, "GET", "/user/v1/refresh-token", ""),
		"POST": s.say(200, session, "POST", "/user/v1/refresh-token", ""),
	} {
		if s.who(renewed) != "acme" {
			t.Errorf("%s: not a session: %s", what, renewed)
		}
		if got := s.say(401, renewed, "POST", "/api-key/user/full", key); !strings.HasPrefix(got, "Fresh authentication token required") {
			t.Errorf("%s: a key to the account by a session without password: %s", what, got)
		}
	}
	renewed := s.say(200, session, "POST", "/user/v1/refresh-token", `{"password":"`+password+`"}`)
	s.want(200, renewed, "POST", "/api-key/user/full", strings.Replace(key, "laptop", "desk", 1))
	s.want(401, session, "POST", "/user/v1/refresh-token", `{"password":"not the password"}`)
	s.want(401, s.token, "GET", "/user/v1/refresh-token", "") // an API key is no session
	s.want(401, "", "GET", "/user/v1/refresh-token", "")
}

// What the SDK calls register: an email and a password, and a session comes back.
func TestAnAccountIsMadeAsTheServerAllows(t *testing.T) {
	s := newServer(t)
	account := func(name string) string {
		return fmt.Sprintf(`{"email":"%s@example.org","password":"long enough"}`, name)
	}
	if got := s.say(403, "", "POST", "/user/register", account("grace")); !strings.Contains(got, "no accounts for strangers") {
		t.Errorf("closed: %s", got)
	}
	s.want(403, s.token, "POST", "/user/register", account("grace")) // no administrator
	s.auth.Registration = auth.RegistrationInvited
	if got := s.say(403, "", "POST", "/user/register", account("grace")); !strings.Contains(got, "by invitation") {
		t.Errorf("by invitation: %s", got)
	}
	s.auth.Registration = auth.RegistrationOpen
	if got := s.who(s.say(201, "", "POST", "/user/register", account("grace"))); got != "grace" {
		t.Errorf("the session is %q's", got)
	}
	if got := s.say(409, "", "POST", "/user/register", account("grace")); got != `"This email is already taken"`+"\n" {
		t.Errorf("an email twice: %s", got)
	}
	if got := s.say(400, "", "POST", "/user/register", `{"email":"foobarbaz","password":"long enough"}`); !strings.HasPrefix(got, "Invalid email") {
		t.Errorf("no email: %s", got)
	}
	if got := s.say(400, "", "POST", "/user/register", `{"email":"x@example.org","password":"password1"}`); !strings.Contains(got, "password") {
		t.Errorf("a weak password: %s", got)
	}
	s.want(403, "", "POST", "/user/register", `{"username":"boss","password":"long enough","is_administrator":true}`)
	s.want(401, strings.Repeat("x", 32), "POST", "/user/register", account("hopper"))
	s.auth.Registration = auth.RegistrationClosed
	if err := s.db.SetAdministrator(t.Context(), fleet.Actor{}, s.user.ID, true); err != nil {
		t.Fatal(err)
	}
	if got := s.who(s.say(201, s.token, "POST", "/user/register", `{"username":"boss","password":"long enough","is_administrator":true}`)); got != "boss" {
		t.Errorf("the session is %q's", got)
	}
}

func TestAnInvitationIsShownAcceptedAndUsedUp(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	_, guest := s.newUser("guest")
	invite := func(resource, to, of string) string {
		t.Helper()
		var made struct {
			Token string `json:"invitationToken"`
		}
		body := fmt.Sprintf(`{"invitee":"guest@example.org","message":"come in","%s":%v}`, to, of)
		if err := json.Unmarshal(s.want(201, s.token, "POST", "/v7/"+resource, body), &made); err != nil || made.Token == "" {
			t.Fatalf("%+v, %v", made, err)
		}
		return made.Token
	}
	organization := fmt.Sprint(s.one("/v7/organization(handle='acme')?$select=id")["id"])
	for _, c := range []struct {
		path, token, kind, name, then string
	}{
		{"/org/v1/invitation/", invite("invitee__is_invited_to__organization", "is_invited_to__organization", organization), "organization", "acme",
			"/v7/organization(handle='acme')?$select=handle"},
		{"/user/v1/invitation/", invite("invitee__is_invited_to__application", "is_invited_to__application", fmt.Sprint(id)), "application", "acme/porch",
			fmt.Sprintf("/v7/application(%d)?$select=app_name", id)},
	} {
		var shown map[string]any
		if err := json.Unmarshal(s.want(200, "", "GET", c.path+c.token, ""), &shown); err != nil {
			t.Fatal(err)
		}
		if shown["invited_to"] != c.kind || shown["name"] != c.name || shown["invitee"] != "guest@example.org" || shown["message"] != "come in" {
			t.Errorf("shown as %v", shown)
		}
		if got := s.say(200, guest, "GET", c.then, ""); got != `{"d":[]}` {
			t.Errorf("the guest sees it before: %s", got)
		}
		s.want(401, "", "POST", c.path+c.token, "")
		s.want(404, guest, "POST", c.path+strings.Repeat("0", 64), "")
		s.want(200, guest, "POST", c.path+c.token, "")
		if got := s.say(200, guest, "GET", c.then, ""); got == `{"d":[]}` {
			t.Errorf("the guest sees no %s after", c.kind)
		}
		s.want(404, guest, "POST", c.path+c.token, "")
		s.want(404, "", "GET", c.path+c.token, "")
	}
	declined := invite("invitee__is_invited_to__organization", "is_invited_to__organization", organization)
	s.want(200, guest, "DELETE", "/org/v1/invitation/"+declined, "")
	s.want(404, guest, "POST", "/org/v1/invitation/"+declined, "")
}

func TestAPasswordIsChangedAndAnAccountDeleted(t *testing.T) {
	s := newServer(t)
	s.auth.Registration = auth.RegistrationOpen
	session := s.say(201, "", "POST", "/user/register", `{"email":"grace@example.org","password":"long enough"}`)
	s.want(401, session, "POST", "/user/v1/password", `{"currentPassword":"not this","newPassword":"longer than long"}`)
	s.want(401, "", "POST", "/user/v1/password", `{"currentPassword":"long enough","newPassword":"longer than long"}`)
	s.want(400, session, "POST", "/user/v1/password", `{"currentPassword":"long enough","newPassword":"short"}`)
	fresh := s.say(200, session, "POST", "/user/v1/password", `{"currentPassword":"long enough","newPassword":"longer than long"}`)
	if old, now := s.who(session), s.who(fresh); old != "" || now != "grace" {
		t.Errorf("the old session is %q's, the new one %q's", old, now)
	}
	s.want(401, "", "DELETE", "/user/v1/account", "")
	s.want(401, s.say(200, fresh, "GET", "/user/v1/refresh-token", ""), "DELETE", "/user/v1/account", "")
	s.want(401, s.token, "DELETE", "/user/v1/account", "") // a key gives no password
	s.fleet("porch")
	if got := s.say(409, s.login(), "DELETE", "/user/v1/account", ""); !strings.Contains(got, "acme") {
		t.Errorf("the owner of a fleet: %s", got)
	}
	s.want(200, fresh, "DELETE", "/user/v1/account", "")
	if got := s.who(fresh); got != "" {
		t.Errorf("the session is %q's", got)
	}
	s.want(401, "", "POST", "/login_", `{"username":"grace","password":"longer than long"}`)
}

func TestThereIsNoSecondFactor(t *testing.T) {
	s := newServer(t)
	session := s.login()
	for _, path := range []string{"GET /auth/totp/setup", "POST /auth/totp/verify", "POST /auth/totp/disable", "POST /user/v1/verify-email", "GET /auth/saml/x"} {
		method, target, _ := strings.Cut(path, " ")
		s.want(404, session, method, target, "")
	}
	var who map[string]any
	if err := json.Unmarshal(s.want(200, session, "GET", "/actor/v1/whoami", ""), &who); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"actorType", "actorTypeId", "email", "id", "username"}, sortedKeys(who)); diff != "" {
		t.Error(diff)
	}
	if claims := claimsOf(t, session); claims["twoFactorRequired"] != nil || claims["id"] == nil || claims["authTime"] == nil {
		t.Errorf("the session says %v", claims)
	}
}

func TestKeysAreMadeForThoseWhoMayHoldThem(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	d, deviceKey := s.device(id, "door")
	_, eve := s.newUser("eve")
	session := s.login()
	text := func(token, target, body string) string {
		t.Helper()
		var key string
		if err := json.Unmarshal(s.want(200, token, "POST", target, body), &key); err != nil || len(key) < 32 {
			t.Fatalf("%q, %v", key, err)
		}
		return key
	}
	provisioning := text(s.token, fmt.Sprintf("/api-key/application/%d/provisioning", id), `{"name":"cards"}`)
	for _, c := range []struct {
		what, target, body string
		status             map[string]int // by token
	}{
		{"a provisioning key, the old way", fmt.Sprintf("/application/%d/generate-api-key", id), "",
			map[string]int{s.token: 200, eve: 404, deviceKey: 403, provisioning: 403, "": 401}},
		{"a provisioning key", fmt.Sprintf("/api-key/application/%d/provisioning", id), `{}`,
			map[string]int{s.token: 200, eve: 404, deviceKey: 403, provisioning: 403, "": 401}},
		{"a device's key", fmt.Sprintf("/api-key/device/%d/device-key", d.ID), "",
			map[string]int{s.token: 200, eve: 404, deviceKey: 403, provisioning: 200, "": 401}},
		{"by v1", "/api-key/v1", fmt.Sprintf(`{"actorType":"application","actorTypeId":%d,"roles":["provisioning-api-key"]}`, id),
			map[string]int{s.token: 200, eve: 404, deviceKey: 403, provisioning: 403, "": 401}},
		{"by v2, with a slash", "/api-key/v2/", fmt.Sprintf(`{"actorType":"device","actorTypeId":%d,"roles":["device-api-key"],"expiryDate":null}`, d.ID),
			map[string]int{s.token: 200, eve: 404, deviceKey: 403, "": 401}},
		{"by v2 without an expiry", "/api-key/v2", fmt.Sprintf(`{"actorType":"device","actorTypeId":%d,"roles":["device-api-key"]}`, d.ID),
			map[string]int{s.token: 400}},
		{"a user's", "/api-key/user/full", `{"name":"a"}`,
			map[string]int{session: 200, s.token: 401, eve: 401, deviceKey: 401, provisioning: 401, "": 401}},
		{"a user's without a name", "/api-key/user/full", `{}`, map[string]int{session: 400}},
		{"a user's by v1", "/api-key/v1", fmt.Sprintf(`{"actorType":"user","actorTypeId":%d,"roles":["named-user-api-key"],"name":"b"}`, s.user.ID),
			map[string]int{session: 200, eve: 403, s.token: 401}},
		{"one that has expired", "/api-key/v2", fmt.Sprintf(`{"actorType":"application","actorTypeId":%d,"roles":["provisioning-api-key"],"expiryDate":"2020-01-01T00:00:00.000Z"}`, id),
			map[string]int{s.token: 400}},
		{"a role that does not fit", "/api-key/v1", fmt.Sprintf(`{"actorType":"application","actorTypeId":%d,"roles":["user-api-key"]}`, id),
			map[string]int{s.token: 400}},
		{"two roles", "/api-key/v1", fmt.Sprintf(`{"actorType":"application","actorTypeId":%d,"roles":["user-api-key","device-api-key"]}`, id),
			map[string]int{s.token: 400}},
	} {
		for token, want := range c.status {
			if resp, body := s.send(token, "POST", c.target, c.body); resp.StatusCode != want {
				t.Errorf("%s: %d %s, want %d", c.what, resp.StatusCode, body, want)
			}
		}
	}
	// One with an end stops by itself.
	now := time.Now()
	s.auth.Now = func() time.Time { return now }
	end := now.Add(time.Minute).UTC().Format("2006-01-02T15:04:05.000Z")
	brief := text(session, "/api-key/user/full", `{"name":"brief","expiryDate":"`+end+`"}`)
	if got := s.who(brief); got != "acme" {
		t.Errorf("before its end it is %q's", got)
	}
	now = now.Add(time.Minute)
	if got := s.who(brief); got != "" {
		t.Errorf("after its end it is %q's", got)
	}

	// Every key that was made is on the trail, with who made it and without itself.
	rows, err := s.db.Reader().Query(`SELECT actor_name, address, COALESCE(fleet, 0), details FROM audit_events WHERE resource = 'api_key' AND verb = 'create' ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	seen := map[string]int{}
	for rows.Next() {
		var name, address, details string
		var of int64
		if err := rows.Scan(&name, &address, &of, &details); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(details, brief) || strings.Contains(details, provisioning) {
			t.Errorf("a key is on the trail: %s", details)
		}
		if name != "" && address != "127.0.0.1" {
			t.Errorf("%s made a key from %q", name, address)
		}
		if strings.Contains(details, "user-api-key") != (of == 0) {
			t.Errorf("%s is of fleet %d", details, of)
		}
		seen[name]++
	}
	if diff := cmp.Diff(map[string]int{"": 2, "acme": 9, "acme/porch": 1}, seen); diff != "" { // "": newUser's
		t.Error(diff)
	}
}

// What was opened with a key does not outlive it: whoever took the key away need not wait for the reader to leave.
func TestALogStreamEndsWithTheKeyItWasOpenedWith(t *testing.T) {
	s := newServer(t)
	porch := s.fleet("porch")
	session := s.login()
	for what, end := range map[string]func(key, device int64) string{
		"a revoked key":    func(key, _ int64) string { return fmt.Sprintf("/v7/api_key(%d)", key) },
		"a deleted device": func(_, device int64) string { return fmt.Sprintf("/v7/device(%d)", device) },
	} {
		d, _ := s.device(porch, what)
		key, err := s.auth.NewKey(t.Context(), auth.KeySpec{Actor: s.user.Actor, Role: fleet.RoleUser})
		if err != nil {
			t.Fatal(err)
		}
		var id int64
		if err := s.db.Reader().QueryRow(`SELECT id FROM api_keys WHERE key_hash = $1`, auth.HashKey(key)).Scan(&id); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), browserPatience) // a net: nothing is asserted about time
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/device/v2/"+d.UUID+"/logs?stream=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		beats := make([]byte, 3) // it lives
		if _, err := io.ReadFull(resp.Body, beats); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %s, %v", what, resp.Status, err)
		}
		s.want(200, session, "DELETE", end(id, d.ID), "")
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestABodyIsBoundedInSizeAndDepth(t *testing.T) {
	s := newServer(t)
	nested := func(n int) string { return `{"username":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	if got := s.say(400, "", "POST", "/login_", nested(64)); !strings.Contains(got, "levels deep") {
		t.Errorf("65 levels: %s", got)
	}
	if got := s.say(400, "", "POST", "/login_", nested(63)); strings.Contains(got, "levels deep") {
		t.Errorf("64 levels: %s", got)
	}
	s.want(400, s.token, "POST", "/v7/application", nested(100_000))
	s.want(401, "", "POST", "/login_", `{"username":"`+strings.Repeat(`[\"{`, 100)+`","password":"x"}`) // a text is not nested
	s.want(413, "", "POST", "/login_", `{"username":"`+strings.Repeat("x", 1<<20)+`"}`)
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// claimsOf is what a session says of itself.
func claimsOf(t *testing.T, session string) (claims map[string]any) {
	t.Helper()
	parts := strings.Split(session, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %s", session)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}
