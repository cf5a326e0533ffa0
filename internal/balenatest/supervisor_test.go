package balenatest

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fleettest"
)

// supervisor makes the calls of balena-supervisor 19.0.5, byte by byte as they were seen on the wire.
type supervisor struct {
	s      *fleettest.Server
	people caller // to see what the server makes of the calls
	uuid   string
	key    string
	etag   string
	id     int64  // that the server gave the device
	app    string // uuid of the fleet
}

// do sends one request as the supervisor does. key is what it authorizes itself with.
func (d *supervisor) do(t testing.TB, key, method, path, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, d.s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		r.Body = nil
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("User-Agent", "Supervisor/19.0.5 (Linux; balenaOS 6.0.0; prod)")
	r.Header.Set("Accept", "application/json")
	if d.etag != "" && strings.HasSuffix(path, "/state") && method == "GET" {
		r.Header.Set("If-None-Match", d.etag)
	}
	resp, err := d.s.HTTP.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// ok is do for a request with the device's own key that has to be answered with the status.
func (d *supervisor) ok(t testing.TB, status int, method, path, body string) string {
	t.Helper()
	resp, text := d.do(t, d.key, method, path, body)
	if resp.StatusCode != status {
		t.Fatalf("%s %s: %d, should be %d: %s", method, path, resp.StatusCode, status, text)
	}
	return text
}

// Shapes of the target state, as the supervisor decodes it.
type (
	targetState map[string]struct {
		Name   string
		Config map[string]string
		Apps   map[string]targetApp
	}
	targetApp struct {
		ID       int64
		Name     string
		Class    string
		IsHost   bool `json:"is_host"`
		Releases map[string]targetRelease
	}
	targetRelease struct {
		ID       int64
		Services map[string]struct {
			ID          int64
			ImageID     int64 `json:"image_id"`
			Image       string
			Environment map[string]string
			Labels      map[string]string
			Composition map[string]any
		}
	}
)

// poll asks for the target and echoes the ETag of the last answer; nil if there is nothing new.
func (d *supervisor) poll(t testing.TB) targetState {
	t.Helper()
	resp, text := d.do(t, d.key, "GET", "/device/v3/"+d.uuid+"/state", "")
	if resp.StatusCode == http.StatusNotModified {
		return nil
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("poll: %d %s", resp.StatusCode, text)
	}
	d.etag = resp.Header.Get("ETag")
	var state targetState
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		t.Fatalf("poll: %v\n%s", err, text)
	}
	return state
}

// report sends what the supervisor says of itself; more is one or several further members of the object.
func (d *supervisor) report(t testing.TB, members string) {
	t.Helper()
	d.ok(t, http.StatusOK, "PATCH", "/device/v3/state", `{"`+d.uuid+`":{`+members+`}}`)
}

// apps is what a supervisor reports while it runs one release and, if there is a next one, fetches that.
func apps(app, running string, releases ...string) string {
	return fmt.Sprintf(`"apps":{"%s":{"release_uuid":"%s","releases":{%s}}}`, app, running, strings.Join(releases, ","))
}

func state(commit, update, image, status string, more ...string) string {
	return fmt.Sprintf(`"%s":{"update_status":"%s","services":{"main":{"image":"%s","status":"%s"%s}}}`, commit, update, image, status, strings.Join(more, ""))
}

// logStream is the endless POST of the supervisor's log: gzip, flushed after each line, answered only at its end.
type logStream struct {
	z    *gzip.Writer
	pipe *io.PipeWriter
	end  chan string
}

func (d *supervisor) openLog(t testing.TB) *logStream {
	t.Helper()
	r, w := io.Pipe()
	l := &logStream{z: gzip.NewWriter(w), pipe: w, end: make(chan string, 1)}
	req, err := http.NewRequest("POST", d.s.URL+"/device/v2/"+d.uuid+"/log-stream", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.key)
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Content-Encoding", "gzip")
	go func() {
		resp, err := d.s.HTTP.Do(req)
		if err != nil {
			l.end <- err.Error()
			return
		}
		resp.Body.Close()
		l.end <- resp.Status
	}()
	t.Cleanup(func() { w.Close() })
	return l
}

func (l *logStream) write(t testing.TB, lines string) {
	t.Helper()
	if _, err := io.WriteString(l.z, lines); err != nil {
		t.Fatal(err)
	}
	if err := l.z.Flush(); err != nil { // a sync flush
		t.Fatal(err)
	}
}

// TestAStockSupervisorsCallsInOrder replays protocol §1 to §4 over TLS with the server's own certificate authority: a
// device is registered, loses its key and gets it back, is told what to run, reports, ships its log, pulls and is
// updated.
func TestAStockSupervisorsCallsInOrder(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	t.Parallel()
	s := fleettest.StartTLS(t, bin, machine.Host)
	if _, err := http.Get(s.URL + "/ping"); err == nil {
		t.Fatal("the server's certificate is trusted without its root; nothing here shows that the root is what counts")
	}
	d := &supervisor{s: s, people: user(t, s), uuid: "5ea4ae56dadb4ceca87ce2b79983b355", key: "e6f3366f2db74a2fb1d2924826e649ba"}
	d.app = d.people.one(t, "application("+s.FleetID+")")["uuid"].(string)
	p := s.Project(project("version one"))
	first := p.Head()
	p.Push()
	d.registers(t)
	image := d.boots(t, first)
	d.describes(t)
	d.updates(t, p, first, image)

	// A device that is removed keeps what it runs.
	d.people.expect(t, 200, "DELETE", fmt.Sprintf("/v7/device(%d)", d.id), nil)
	if state := d.poll(t); state != nil {
		t.Errorf("a removed device is told to be %+v", state)
	}
	d.ok(t, 401, "PATCH", "/device/v3/state", `{"`+d.uuid+`":{"status":"Idle"}}`)
}

// registers gets an identity, and gets it again after a lost answer and after a lost key.
func (d *supervisor) registers(t *testing.T) {
	var provisioning string
	if err := json.Unmarshal(d.people.expect(t, 200, "POST", "/api-key/application/"+d.s.FleetID+"/provisioning", nil), &provisioning); err != nil {
		t.Fatal(err)
	}
	registration := func(key string) string {
		return `{"application":` + d.s.FleetID + `,"uuid":"` + d.uuid + `","device_type":"generic-amd64","api_key":"` + key + `","supervisor_version":"19.0.5",` +
			`"os_version":"balenaOS 6.0.0","os_variant":"prod","mac_address":"02:FC:00:00:00:01 F2:FB:3A:9D:B1:90 0E:50:2D:63:7E:65"}`
	}
	resp, text := d.do(t, d.key, "GET", "/device/v3/"+d.uuid+"/state", "")
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusNotModified {
		t.Errorf("a poll before the registration: %d %s", resp.StatusCode, text)
	}
	if resp, text := d.do(t, "no key at all", "POST", "/device/register", registration(d.key)); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("registration with a bad key: %d %s", resp.StatusCode, text)
	}
	resp, text = d.do(t, provisioning, "POST", "/device/register", registration(d.key))
	var registered struct {
		ID     int64
		UUID   string
		APIKey string `json:"api_key"`
	}
	if err := json.Unmarshal([]byte(text), &registered); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("register: %d %v %s", resp.StatusCode, err, text)
	}
	if registered.UUID != d.uuid || registered.APIKey != d.key || registered.ID == 0 {
		t.Fatalf("register: %+v", registered)
	}
	d.id = registered.ID

	// The answer was lost: the supervisor registers again, and asks for itself with the key it chose.
	resp, text = d.do(t, provisioning, "POST", "/device/register", registration(d.key))
	want(t, "a second registration", fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(text)), `409 "uuid" must be unique.`)
	self := "/v7/device?$select=id&$filter=" + strings.ReplaceAll(url.QueryEscape("uuid eq '"+d.uuid+"'"), "+", "%20")
	want(t, "the device by its own key", strings.TrimSpace(d.ok(t, 200, "GET", self, "")), fmt.Sprintf(`{"d":[{"id":%d}]}`, d.id))

	// It lost the key: it learns its id with the provisioning key, and trades that for the key it has made now.
	d.key = "0123456789abcdef0123456789abcdef"
	if resp, text := d.do(t, d.key, "GET", self, ""); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("with a key that nobody knows: %d %s", resp.StatusCode, text)
	}
	resp, text = d.do(t, provisioning, "GET", self, "")
	want(t, "the device by the provisioning key", fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(text)), fmt.Sprintf(`200 {"d":[{"id":%d}]}`, d.id))
	resp, text = d.do(t, provisioning, "POST", fmt.Sprintf("/api-key/device/%d/device-key", d.id), `{"apiKey":"`+d.key+`"}`)
	want(t, "the key exchange", fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(text)), `200 "`+d.key+`"`)
	want(t, "the device by its new key", strings.TrimSpace(d.ok(t, 200, "GET", self, "")), fmt.Sprintf(`{"d":[{"id":%d}]}`, d.id))
}

// boots takes the first target and says what the card was made with; it returns the image of the release.
func (d *supervisor) boots(t *testing.T, commit string) (image string) {
	target := d.poll(t)[d.uuid]
	if target.Name == "" || target.Config["RESIN_SUPERVISOR_POLL_INTERVAL"] == "" || len(target.Apps) != 1 {
		t.Fatalf("the target is %+v", target)
	}
	app := target.Apps[d.app]
	want(t, "the app", []any{app.ID, app.Name, app.Class, app.IsHost}, []any{d.s.FleetID, "porch", "fleet", false})
	service := app.Releases[commit].Services["main"]
	location, digest, ok := strings.Cut(service.Image, "@")
	if !ok || service.ID == 0 || service.ImageID == 0 || !strings.HasPrefix(digest, "sha256:") {
		t.Fatalf("the service is %+v", service)
	}
	if d.poll(t) != nil {
		t.Error("nothing has changed, and the target is sent again")
	}

	// First boot: local configuration goes to the server, then the name and the pin of a preloaded card.
	d.ok(t, 201, "POST", "/v7/device_config_variable", fmt.Sprintf(`{"value":"","device":%d,"name":"RESIN_HOST_FIREWALL_MODE"}`, d.id))
	d.ok(t, 200, "PATCH", fmt.Sprintf("/v7/device(%d)", d.id), `{"device_name":"the porch light"}`)
	release := d.ok(t, 200, "GET", "/v7/release?$select=id&$filter="+strings.ReplaceAll(url.QueryEscape(
		"belongs_to__application eq "+d.s.FleetID+" and commit eq '"+commit+"' and status eq 'success'"), "+", "%20"), "")
	var found struct{ D []struct{ ID int64 } }
	if err := json.Unmarshal([]byte(release), &found); err != nil || len(found.D) != 1 {
		t.Fatalf("the release by its commit: %v %s", err, release)
	}
	d.ok(t, 200, "PATCH", fmt.Sprintf("/v7/device(%d)", d.id), fmt.Sprintf(`{"is_pinned_on__release":%d}`, found.D[0].ID))
	target = d.poll(t)[d.uuid]
	mode, ok := target.Config["RESIN_HOST_FIREWALL_MODE"]
	want(t, "the name and the configuration after first boot", []any{target.Name, mode, ok}, []any{"the porch light", "", true})
	row := d.people.device(t, d.uuid)
	want(t, "the pin", id(row["is_pinned_on__release"]), found.D[0].ID)
	d.logs(t, service.ID)
	d.pulls(t, location, digest)
	return service.Image
}

// describes reports what a supervisor knows of its device, and asks for what the system asks for.
func (d *supervisor) describes(t *testing.T) {
	d.report(t, `"api_port":48484,"api_secret":"cc865d11cdc84ed48a025a52b26b9c79","os_version":"balenaOS 6.0.0","os_variant":"prod",`+
		`"mac_address":"02:FC:00:00:00:01 F2:FB:3A:9D:B1:90 0E:50:2D:63:7E:65","ip_address":"192.168.1.7 fe80::1","supervisor_version":"19.0.5",`+
		`"provisioning_progress":null,"provisioning_state":"","status":"Idle","logs_channel":null,"is_online":true,"name":"the porch light","update_pending":true,`+
		`"update_failed":false,"update_downloaded":false,"cpu_usage":63,"cpu_temp":41,"cpu_id":"000000000a1b2c3d","memory_usage":1066,"memory_total":24105,`+
		`"storage_block_device":"/dev/mmcblk0p6","storage_usage":2000,"storage_total":28000,"is_undervolted":false`)
	row := d.people.device(t, d.uuid)
	got := map[string]any{}
	for _, field := range []string{"os_version", "os_variant", "mac_address", "ip_address", "supervisor_version", "status", "api_port", "cpu_usage", "cpu_temp",
		"cpu_id", "memory_usage", "memory_total", "storage_block_device", "storage_usage", "storage_total", "is_undervolted", "is_online", "provisioning_progress", "overall_status"} {
		got[field] = row[field]
	}
	reported := map[string]any{"os_version": "balenaOS 6.0.0", "os_variant": "prod", "mac_address": "02:FC:00:00:00:01 F2:FB:3A:9D:B1:90 0E:50:2D:63:7E:65",
		"ip_address": "192.168.1.7 fe80::1", "supervisor_version": "19.0.5", "status": "Idle", "api_port": 48484., "cpu_usage": 63., "cpu_temp": 41.,
		"cpu_id": "000000000a1b2c3d", "memory_usage": 1066., "memory_total": 24105., "storage_block_device": "/dev/mmcblk0p6", "storage_usage": 2000.,
		"storage_total": 28000., "is_undervolted": false, "is_online": true, "provisioning_progress": nil, "overall_status": "operational"}
	if diff := cmp.Diff(reported, got); diff != "" {
		t.Errorf("what was reported and what is known (-reported +known):\n%s", diff)
	}

	d.ok(t, 204, "GET", "/connectivity-check", "")
	var os struct {
		Services map[string]json.RawMessage
		Config   struct{ Overrides map[string]any }
		Schema   string `json:"schema_version"`
	}
	if err := json.Unmarshal([]byte(d.ok(t, 200, "GET", "/os/v1/config/", "")), &os); err != nil {
		t.Fatal(err)
	}
	if os.Services["openvpn"] == nil || os.Services["ssh"] == nil || os.Config.Overrides == nil || os.Schema != "1.0.0" {
		t.Errorf("the OS' configuration is %+v", os)
	}
	d.ok(t, 200, "PATCH", "/device/v3/tags", `{"`+d.uuid+`":{"shelf":"2","gone":"soon"}}`)
	d.ok(t, 200, "PATCH", "/device/v3/tags", `{"`+d.uuid+`":{"gone":null}}`)
	tags := d.people.rows(t, "device_tag?$select=tag_key,value&$filter=device/uuid eq '"+d.uuid+"'")
	if diff := cmp.Diff([]map[string]any{{"tag_key": "shelf", "value": "2"}}, tags); diff != "" {
		t.Errorf("the tags (-sent +known):\n%s", diff)
	}
}

// updates fetches the release of its target, and then the next one.
func (d *supervisor) updates(t *testing.T, p *fleettest.Project, first, image string) {
	pin := id(d.people.device(t, d.uuid)["is_pinned_on__release"])
	// The release of the target is fetched and started.
	d.report(t, apps(d.app, "", state(first, "downloading", image, "Downloading", `,"download_progress":40`)))
	row := d.people.device(t, d.uuid)
	want(t, "the device while it downloads", []any{row["overall_status"], row["overall_progress"], row["update_status"]}, []any{"updating", 40, "downloading"})
	d.report(t, apps(d.app, first, state(first, "done", image, "Running")))
	row = d.people.device(t, d.uuid)
	want(t, "the device that runs it", []any{row["overall_status"], row["update_status"], id(row["is_running__release"])}, []any{"operational", "done", pin})

	// An update: the pin holds the device back, until it tracks its fleet.
	second := p.Commit(project("version two"))
	p.Push()
	if state := d.poll(t); state != nil {
		t.Errorf("a pinned device has a new target: %+v", state)
	}
	d.people.expect(t, 200, "PATCH", fmt.Sprintf("/v7/device(%d)", d.id), map[string]any{"is_pinned_on__release": nil})
	next, ok := d.poll(t)[d.uuid].Apps[d.app].Releases[second]
	if !ok {
		t.Fatal("the update is not in the target")
	}
	d.delta(t, image, next.Services["main"].Image)
	d.report(t, apps(d.app, first, state(second, "downloading", next.Services["main"].Image, "Downloading", `,"download_progress":93`),
		state(first, "done", image, "Running")))
	row = d.people.device(t, d.uuid)
	want(t, "the device while it updates", []any{row["overall_status"], id(row["is_running__release"])}, []any{"updating", pin})
	d.report(t, apps(d.app, second, state(second, "done", next.Services["main"].Image, "Running")))
	row = d.people.one(t, "device("+fmt.Sprint(d.id)+")?$expand=is_running__release,image_install($filter=status ne 'deleted')")
	want(t, "what it runs", row["is_running__release"].([]any)[0].(map[string]any)["commit"], second)
	want(t, "its images", len(row["image_install"].([]any)), 1)
}

// logs ships lines, which are there to read while the stream is open.
func (d *supervisor) logs(t *testing.T, service int64) {
	now := time.Now().UnixMilli()
	log := d.openLog(t)
	log.write(t, fmt.Sprintf(`{"message":"Supervisor starting","isSystem":true,"timestamp":%d}`+"\n\n", now))
	log.write(t, fmt.Sprintf(`{"message":"hello from v1\r","isStdErr":false,"timestamp":%d,"serviceId":%d}`+"\n"+
		`{"message":"of another device","timestamp":%d,"uuid":"aaaaaaaabbbbccccddddeeeeeeeeeeee"}`+"\n", now+1, service, now+2))
	type line struct {
		Message   string
		IsSystem  bool
		IsStdErr  bool
		ServiceID int64 `json:"serviceId"`
		Timestamp int64
	}
	sent := []line{{"Supervisor starting", true, false, 0, now}, {"hello from v1\r", false, false, service, now + 1}}
	fleettest.Eventually(t, "the lines are there", func() error {
		var read []line
		if err := json.Unmarshal(d.people.expect(t, 200, "GET", "/device/v2/"+d.uuid+"/logs", nil), &read); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sent, read); diff != "" {
			return fmt.Errorf("(-sent +read):\n%s", diff)
		}
		return nil
	})
	select {
	case status := <-log.end:
		t.Fatalf("the stream was answered while it was open: %s", status)
	default:
	}
	if err := log.z.Close(); err != nil {
		t.Fatal(err)
	}
	log.pipe.Close()
	want(t, "the answer at the end of the stream", <-log.end, "201 Created")

	r, err := http.NewRequest("POST", d.s.URL+"/device/v2/"+d.uuid+"/log-stream", bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+d.key)
	r.Header.Set("Content-Type", "application/json")
	resp, err := d.s.HTTP.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	want(t, "a stream of another type", resp.StatusCode, http.StatusUnsupportedMediaType)
}

// token asks for a registry token as the supervisor does: the device's key as a password, a scope for each repository.
func (d *supervisor) token(t testing.TB, locations ...string) string {
	t.Helper()
	host, _, _ := strings.Cut(locations[0], "/")
	query := "service=" + host
	for _, l := range locations {
		_, name, _ := strings.Cut(l, "/")
		query += "&scope=repository:" + name + ":pull"
	}
	r, err := http.NewRequest("GET", d.s.URL+"/auth/v1/token?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("d_"+d.uuid, d.key)
	resp, err := d.s.HTTP.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("token: %d %v", resp.StatusCode, err)
	}
	return answer.Token
}

// pulls fetches the manifest as the engine does, by its digest, and what a device may not.
func (d *supervisor) pulls(t *testing.T, location, digest string) {
	host, name, _ := strings.Cut(location, "/")
	want(t, "the registry", "https://"+host, d.s.URL)
	const foreign = "v2/11111111111111111111111111111aaa"
	token := d.token(t, location, host+"/"+foreign)
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("the token is %q", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Sub    string
		Aud    any // one, or a list of one
		Access []struct {
			Name    string
			Actions []string
		}
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	want(t, "whom the token is for", claims.Sub, d.uuid)
	want(t, "who takes the token", strings.Trim(fmt.Sprint(claims.Aud), "[]"), host)
	for _, a := range claims.Access {
		if a.Name == foreign && len(a.Actions) > 0 {
			t.Errorf("the token opens a repository of somebody else: %v", a)
		}
	}
	get := func(path string) int {
		t.Helper()
		resp, _ := (&supervisor{s: d.s}).do(t, token, "GET", path, "")
		return resp.StatusCode
	}
	want(t, "the manifest by its digest", get("/v2/"+name+"/manifests/"+digest), 200)
	want(t, "a repository of somebody else", get("/v2/"+foreign+"/manifests/latest"), 401)
}

// delta asks for the difference of two images, again while it is being made, and fetches the manifest of what it is told
// of, as balenaEngine does; or is told that there is none, which sends it to the whole image.
func (d *supervisor) delta(t *testing.T, from, to string) {
	locations := []string{to, from}
	for i, l := range locations {
		locations[i], _, _ = strings.Cut(l, "@")
	}
	token := d.token(t, locations...)
	for {
		resp, text := d.do(t, token, "GET", "/api/v3/delta?src="+from+"&dest="+to, "")
		if resp.StatusCode == http.StatusGatewayTimeout {
			continue // the server held the question until now
		}
		want(t, "the delta", resp.StatusCode, 200)
		var answer struct{ Name string }
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatalf("the answer is %s: %v", text, err)
		}
		name, tag, _ := strings.Cut(strings.TrimPrefix(answer.Name, strings.SplitN(locations[0], "/", 2)[0]+"/"), ":delta-")
		if !strings.HasSuffix(locations[0], "/"+name) || len(tag) != 16 {
			t.Fatalf("the answer is %s", text)
		}
		resp, text = (&supervisor{s: d.s}).do(t, token, "GET", "/v2/"+name+"/manifests/delta-"+tag, "")
		want(t, "the manifest of the delta", resp.StatusCode, 200)
		if !strings.Contains(text, `"layers"`) {
			t.Errorf("the manifest is %s", text)
		}
		return
	}
}
