package api_test

import (
	"bytes"
	"compress/gzip"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fleet"
)

// object reads what is answered as a JSON object.
func (s *server) object(token, method, target, body string) (o map[string]any) {
	s.t.Helper()
	if err := json.Unmarshal(s.want(200, token, method, target, body), &o); err != nil {
		s.t.Fatal(err)
	}
	return o
}

// colleague makes a user with a role in the first user's organization, and a key to the account.
func (s *server) colleague(name, role string) (fleet.User, string) {
	s.t.Helper()
	user, key := s.newUser(name)
	s.exec(`INSERT INTO organization_memberships (created_at, modified_at, user_id, organization, role)
		SELECT 1, 1, $1, o.id, r.id FROM organizations o, roles r WHERE o.handle = 'acme' AND r.name = $2`, user.ID, role)
	return user, key
}

func (s *server) exec(query string, args ...any) {
	s.t.Helper()
	if err := s.db.Write(s.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(s.t.Context(), query, args...)
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
}

func strs(v any) (all []string) {
	list, _ := v.([]any)
	for _, x := range list {
		all = append(all, x.(string))
	}
	return all
}

func TestTheNamesOfConfigVariablesAreCompleteAndForAnyone(t *testing.T) {
	s := newServer(t)
	o := s.object("", "GET", "/Config/VARS/", "")
	white, black := strs(o["whiteListedNames"]), strs(o["blackListedNames"])
	for _, name := range []string{
		"APP_RESTART_POLICY", "APP_RESTART_RETRIES", "DEPENDENT_DEVICES_HOOK_ADDRESS", "OVERRIDE_LOCK", "SUPERVISOR_CONNECTIVITY_CHECK",
		"SUPERVISOR_HANDOVER_TIMEOUT", "SUPERVISOR_LOCAL_MODE", "SUPERVISOR_LOG_CONTROL", "SUPERVISOR_POLL_INTERVAL", "SUPERVISOR_UPDATE_STRATEGY",
		"SUPERVISOR_VPN_CONTROL", "SUPERVISOR_PERSISTENT_LOGGING", "SUPERVISOR_INSTANT_UPDATE_TRIGGER", "SUPERVISOR_HARDWARE_METRICS",
		"SUPERVISOR_DELTA", "SUPERVISOR_DELTA_VERSION", "SUPERVISOR_DELTA_REQUEST_TIMEOUT", "SUPERVISOR_DELTA_APPLY_TIMEOUT",
		"SUPERVISOR_DELTA_RETRY_COUNT", "SUPERVISOR_DELTA_RETRY_INTERVAL",
	} {
		for _, prefix := range []string{"RESIN_", "BALENA_"} {
			if !contains(white, prefix+name) {
				t.Errorf("%s%s is not on the white list", prefix, name)
			}
		}
	}
	for _, name := range []string{"RESTART", "DEVICE_RESTART", "SUPERVISOR_OVERRIDE_LOCK", "SUPERVISOR_NATIVE_LOGGER", "HOST_LOG_TO_DISPLAY"} {
		if !contains(black, "RESIN_"+name) || !contains(black, "BALENA_"+name) || contains(white, "RESIN_"+name) {
			t.Errorf("%s is not on the black list alone", name)
		}
	}
	for name, want := range map[string]any{
		"reservedNames": []any{"RESIN", "BALENA", "USER"}, "reservedNamespaces": []any{"RESIN_", "BALENA_"}, "invalidRegex": `/^\d|\W/`,
		"whiteListedNamespaces": []any{"RESIN_HOST_", "RESIN_UI_", "BALENA_HOST_", "BALENA_UI_"},
	} {
		if diff := cmp.Diff(want, o[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func contains(all []string, one string) bool {
	for _, x := range all {
		if x == one {
			return true
		}
	}
	return false
}

func TestTheSchemaOfConfigVariablesGoesByTheDeviceType(t *testing.T) {
	s := newServer(t)
	properties := func(query string) map[string]any {
		return s.object("", "GET", "/config/vars"+query, "")["configVarSchema"].(map[string]any)["properties"].(map[string]any)
	}
	for query, want := range map[string]map[string]bool{
		"":                                   {"BALENA_SUPERVISOR_HARDWARE_METRICS": true, "BALENA_HOST_CONFIG_hdmi_mode": false, "RESIN_HOST_EXTLINUX_fdt": false},
		"?deviceType=raspberrypi":            {"BALENA_SUPERVISOR_HARDWARE_METRICS": true, "BALENA_HOST_CONFIG_hdmi_mode": true, "RESIN_HOST_CONFIG_gpu_mem": true},
		"?deviceType=jetson-nano":            {"BALENA_HOST_CONFIG_hdmi_mode": false, "RESIN_HOST_EXTLINUX_fdt": true},
		"?deviceType[0]=generic-amd64":       {"BALENA_HOST_CONFIG_hdmi_mode": false, "RESIN_SUPERVISOR_DELTA": true},
		"?deviceType=jetson-tx2&irrelevant=": {"BALENA_HOST_ODMDATA_configuration": true},
	} {
		got := properties(query)
		for name, there := range want {
			if _, ok := got[name]; ok != there {
				t.Errorf("%s: %s there is %v", query, name, ok)
			}
		}
		for name, p := range got {
			about, _ := p.(map[string]any)
			if kind := about["type"]; kind != "boolean" && kind != "integer" && kind != "string" || about["description"] == "" {
				t.Errorf("%s: %s is %v", query, name, p)
			}
			if err := fleet.CheckConfigVariable(name, "1"); err != nil {
				t.Errorf("%s is no config variable to the rules: %v", name, err)
			}
		}
	}
	if p := properties("?deviceType=raspberrypi4-64")["BALENA_HOST_CONFIG_gpu_mem"].(map[string]any); p["will_reboot"] != true || p["default"] != 16.0 {
		t.Errorf("gpu_mem is %v", p)
	}
	s.want(400, "", "GET", "/config/vars?deviceType=toaster", "")
}

func TestTheServerSaysWhereItIsAndSendsNobodyElsewhere(t *testing.T) {
	s := newServer(t)
	s.api.Config.DeviceURLs = "devices.example"
	o := s.object("", "GET", "/config", "")
	for name, want := range map[string]any{
		"deployment": "test", "apiUrl": "https://api.example", "adminUrl": "https://api.example", "gitServerUrl": "ssh://git.example",
		"deviceUrlsBase": "devices.example", "mixpanelToken": "",
	} {
		if o[name] != want {
			t.Errorf("%s is %v", name, o[name])
		}
	}
}

func TestTheCatalogIsAsToolsConfigureImagesByIt(t *testing.T) {
	s := newServer(t)
	var all []map[string]any
	if err := json.Unmarshal(s.want(200, "", "GET", "/device-types/v1", ""), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != len(fleet.DeviceTypes) {
		t.Errorf("%d device types", len(all))
	}
	for _, m := range all {
		for _, name := range []string{
			"slug", "name", "arch", "state", "aliases", "options", "initialization", "configuration", "yocto", "imageDownloadAlerts",
			"instructions", "gettingStartedLink", "versions", "logoUrl",
		} {
			if _, ok := m[name]; !ok {
				t.Errorf("%s has no %s", m["slug"], name)
			}
		}
		var names []string
		for _, g := range m["options"].([]any) {
			g := g.(map[string]any)
			names = append(names, g["name"].(string))
			for _, q := range g["options"].([]any) {
				names = append(names, q.(map[string]any)["name"].(string))
			}
		}
		if got := strings.Join(names, " "); got != "network network wifiSsid wifiKey advanced appUpdatePollInterval" {
			t.Errorf("%s asks for %s", m["slug"], got)
		}
		config := m["configuration"].(map[string]any)["config"].(map[string]any)
		if config["path"] != "/config.json" || config["partition"] == nil {
			t.Errorf("%s: the configuration is %v", m["slug"], config)
		}
	}
	pi := s.object("", "GET", "/device-types/v1/raspberrypi", "")
	if pi["slug"] != "raspberry-pi" || pi["yocto"].(map[string]any)["deployArtifact"] != "balena-image-raspberrypi.balenaos-img" || pi["latest"] != "7.4.0+rev7" {
		t.Errorf("the alias raspberrypi is %v", pi)
	}
	if nano := s.object("", "GET", "/device-types/v1/jetson-nano", ""); nano["configuration"].(map[string]any)["config"].(map[string]any)["partition"] != 12.0 {
		t.Errorf("jetson-nano is %v", nano)
	}
	s.want(404, "", "GET", "/device-types/v1/toaster", "")
	s.want(404, "", "GET", "/device-types/v1/toaster/images/1.0.0/download-size", "")
	s.want(404, "", "GET", "/device-types/v1/raspberrypi5/images/7.4.0+rev7/download-size", "")
	if got := string(s.want(501, s.token, "GET", "/download?deviceType=raspberrypi5&version=7.4.0%2Brev7", "")); !strings.Contains(got, "https://api.balena-cloud.com/download?deviceType=raspberrypi5&version=7.4.0%2Brev7") {
		t.Errorf("an image: %s", got)
	}
	s.want(404, s.token, "GET", "/download?deviceType=toaster", "")
}

func TestSupportedDeviceTypesAndTheirSystemsAreForAnyone(t *testing.T) {
	s := newServer(t)
	var rows struct{ D []map[string]any }
	supported := "/v7/device_type?$select=slug&$orderby=slug asc&$filter=is_default_for__application/any(idfa:idfa/is_host eq true and idfa/is_archived eq false and " +
		"idfa/owns__release/any(r:r/status eq 'success' and r/is_final eq true and r/is_invalidated eq false))"
	for _, token := range []string{"", s.token} {
		if err := json.Unmarshal(s.want(200, token, "GET", supported, ""), &rows); err != nil {
			t.Fatal(err)
		}
		var want, got []string
		for _, d := range fleet.DeviceTypes {
			if d.OS != nil {
				want = append(want, d.Slug)
			}
		}
		for _, row := range rows.D {
			got = append(got, row["slug"].(string))
		}
		if len(got) != len(want) || contains(got, "raspberrypi4-32") || !contains(got, "raspberrypi4-64") {
			t.Errorf("%q: supported are %v, want %v", token, got, want)
		}
		versions := "/v7/application?$select=is_for__device_type&$expand=application_tag($select=tag_key,value),is_for__device_type($select=slug)," +
			"owns__release($select=id,raw_version,variant,phase;$expand=release_tag($select=tag_key,value);$filter=is_final eq true and is_invalidated eq false and status eq 'success')" +
			"&$filter=is_host eq true and is_for__device_type/any(dt:dt/slug in ('raspberrypi5','intel-nuc'))"
		if err := json.Unmarshal(s.want(200, token, "GET", versions, ""), &rows); err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprint(rows.D); len(rows.D) != 2 || !strings.Contains(text, "7.4.0+rev7") || !strings.Contains(text, "7.9.3+rev3") {
			t.Errorf("%q: the versions are %s", token, text)
		}
	}
	if got := s.rows("/v7/application?$select=id&$filter=is_directly_accessible_by__user/any(dau:1 eq 1)"); len(got) != 0 {
		t.Errorf("a user without fleets has %v", got)
	}
	s.want(401, s.token, "POST", "/v7/application", `{"app_name":"mine","organization":1,"is_for__device_type":1}`)
}

func TestAConfigurationMakesADeviceOfTheFleet(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	s.api.Config.Registry, s.api.Config.DeltaURL, s.api.Config.VPNHost, s.api.Config.VPNPort = "registry2.example", "https://delta.example", "cloudlink.example", 443
	s.api.Config.RootCA = []byte("-----BEGIN CERTIFICATE-----\n")
	// As the stock CLI sends it.
	got := s.object(s.token, "POST", "/download-config", fmt.Sprintf(`{"network":"ethernet","version":"6.0.0","developmentMode":false,"secureBoot":false,
		"deviceType":"raspberrypi4-64","appUpdatePollInterval":10,"provisioningKeyName":"cards","provisioningKeyExpiryDate":"2036-01-01T00:00:00.000Z","appId":%d,"app":"x"}`, id))
	key, _ := got["apiKey"].(string)
	delete(got, "apiKey")
	want := map[string]any{
		"applicationId": float64(id), "deviceType": "raspberrypi4-64", "userId": float64(s.user.ID), "appUpdatePollInterval": 600000.0, "listenPort": 48484.0,
		"apiEndpoint": "https://api.example", "registryEndpoint": "registry2.example", "deltaEndpoint": "https://delta.example",
		"vpnEndpoint": "cloudlink.example", "vpnPort": 443.0, "mixpanelToken": "", "developmentMode": false,
		"balenaRootCA": base64.StdEncoding.EncodeToString(s.api.Config.RootCA),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	actor, err := s.auth.Token(t.Context(), key)
	if err != nil || actor.Kind != fleet.FleetActor || actor.Fleet != id {
		t.Errorf("its key is of %+v: %v", actor, err)
	}
	row := s.one("/v7/api_key?$select=name,expiry_date&$filter=name eq 'cards'")
	if row["expiry_date"] != "2036-01-01T00:00:00.000Z" {
		t.Errorf("its key is %v", row)
	}
	s.api.Config.LogsURL = "https://logs.example"
	if got := s.object(s.token, "GET", fmt.Sprintf("/download-config?appId=%d&version=6.0.0&developmentMode=true&secureboot=true&hostname=porch-1&wifiSsid=a%%20b&wifiKey=c", id), ""); got["logsEndpoint"] != "https://logs.example" ||
		got["developmentMode"] != true || got["hostname"] != "porch-1" || got["wifiSsid"] != "a b" || got["wifiKey"] != "c" ||
		got["installer"].(map[string]any)["secureboot"] != true {
		t.Errorf("by GET: %v", got)
	}
	form := url.Values{"appId": {fmt.Sprint(id)}, "version": {"v2.12.7+rev1"}, "ip": {"10.0.0.2"}, "netmask": {"255.255.255.0"}, "gateway": {"10.0.0.1"}, "appUpdatePollInterval": {"1"}}.Encode()
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/download-config", strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !bytes.Contains(text, []byte(`IPv4 = 10.0.0.2/255.255.255.0/10.0.0.1`)) || !bytes.Contains(text, []byte(`"appUpdatePollInterval":60000`)) {
		t.Errorf("by form: %d %s %v", resp.StatusCode, text, err)
	}
}

func TestAConfigurationThatCannotBeIsRefused(t *testing.T) {
	s := newServer(t)
	id := s.fleet("porch")
	for name, body := range map[string]string{
		"no fleet":               `{"version":"6.0.0"}`,
		"a fleet by its name":    `{"appId":"porch","version":"6.0.0"}`,
		"no version":             `{"appId":%d}`,
		"a version that is none": `{"appId":%d,"version":"latest"}`,
		"an unknown type":        `{"appId":%d,"version":"6.0.0","deviceType":"toaster"}`,
		"another architecture":   `{"appId":%d,"version":"6.0.0","deviceType":"generic-amd64"}`,
		"a poll interval of 0":   `{"appId":%d,"version":"6.0.0","appUpdatePollInterval":0}`,
		"a network of its own":   `{"appId":%d,"version":"6.0.0","network":"token ring"}`,
		"wifi without a name":    `{"appId":%d,"version":"6.0.0","network":"wifi"}`,
		"a name of two lines":    `{"appId":%d,"version":"6.0.0","wifiSsid":"a\nPassphrase = b"}`,
		"half an address":        `{"appId":%d,"version":"6.0.0","ip":"10.0.0.2"}`,
		"an address with more":   `{"appId":%d,"version":"6.0.0","ip":"10.0.0.2\n","netmask":"255.0.0.0","gateway":"10.0.0.1"}`,
		"a mask with holes":      `{"appId":%d,"version":"6.0.0","ip":"10.0.0.2","netmask":"255.0.255.0","gateway":"10.0.0.1"}`,
		"a host name with dots":  `{"appId":%d,"version":"6.0.0","hostname":"a.b"}`,
		"a flag that is none":    `{"appId":%d,"version":"6.0.0","developmentMode":"perhaps"}`,
		"an expiry that is none": `{"appId":%d,"version":"6.0.0","provisioningKeyExpiryDate":"tomorrow"}`,
		"no object":              `[]`,
	} {
		if strings.Contains(body, "%d") {
			body = fmt.Sprintf(body, id)
		}
		if resp, answer := s.send(s.token, "POST", "/download-config", body); resp.StatusCode != 400 {
			t.Errorf("%s: %d %s", name, resp.StatusCode, answer)
		}
	}
	good := fmt.Sprintf(`{"appId":%d,"version":"6.0.0"}`, id)
	_, stranger := s.newUser("globex")
	_, operator := s.colleague("olga", "operator")
	_, developer := s.colleague("dora", "developer")
	_, device := s.device(id, "")
	for name, c := range map[string]struct {
		token string
		body  string
		want  int
	}{
		"nobody": {"", good, 401}, "another tenant": {stranger, good, 401}, "an operator": {operator, good, 401}, "a developer": {developer, good, 200},
		"a device": {device, good, 401}, "no such fleet": {s.token, `{"appId":987654,"version":"6.0.0"}`, 401},
	} {
		if resp, answer := s.send(c.token, "POST", "/download-config", c.body); resp.StatusCode != c.want {
			t.Errorf("%s: %d %s, want %d", name, resp.StatusCode, answer, c.want)
		}
	}
	if keys := s.rows("/v7/api_key?$select=id&$filter=name eq 'config.json'"); len(keys) != 1 {
		t.Errorf("what was refused left %d keys", len(keys)-1)
	}
}

func TestLargeAnswersAreCompressedForWhoeverTakesIt(t *testing.T) {
	s := newServer(t)
	plain := s.want(200, "", "GET", "/device-types/v1", "")
	for accept, want := range map[string]bool{"gzip": true, "gzip, deflate": true, "deflate;q=1, GZIP;q=0.5": true, "gzip;q=0": false, "": false, "br": false, "gzip;q=x": true} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/device-types/v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header["Accept-Encoding"] = []string{accept}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body := io.Reader(resp.Body)
		zipped := resp.Header.Get("Content-Encoding") == "gzip"
		if zipped {
			if body, err = gzip.NewReader(resp.Body); err != nil {
				t.Fatal(err)
			}
		}
		got, err := io.ReadAll(body)
		resp.Body.Close()
		if zipped != want || err != nil || !bytes.Equal(got, plain) || resp.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: compressed %v, want %v; %d bytes, %v", accept, zipped, want, len(got), err)
		}
	}
}
