package balenatest

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func configurations(t *testing.T, w *world) {
	fleet := w.fleet(t, "barn")
	file := filepath.Join(w.p.home, "fleet.json")
	w.p.shown(t, []string{"generic-amd64", w.s.URL}, "config", "generate", "--fleet", "admin/barn", "--version", "6.0.0",
		"--network", "ethernet", "--appUpdatePollInterval", "10", "--provisioning-key-name", "for the barn", "--output", file)
	var c map[string]any
	if err := json.Unmarshal([]byte(read(t, file)), &c); err != nil {
		t.Fatal(err)
	}
	want(t, "the fleet's configuration", []any{id(c["applicationId"]), c["deviceType"], c["apiEndpoint"], c["appUpdatePollInterval"]},
		[]any{fleet, "generic-amd64", w.s.URL, 600000})
	// The key is good for what it is there for, and for nothing else.
	key, _ := c["apiKey"].(string)
	const uuid = "ba590000111122223333444455556666"
	device := caller{s: w.s, key: key}
	device.expect(t, 201, "POST", "/device/register", map[string]any{"application": fleet, "uuid": uuid, "device_type": "generic-amd64"})
	device.expect(t, 401, "GET", "/v7/user", nil)
	actor := id(w.api.one(t, fmt.Sprintf("application(%d)?$select=actor", fleet))["actor"])
	want(t, "the key's row", len(w.api.rows(t, fmt.Sprintf("api_key?$filter=is_of__actor eq %d and name eq 'for the barn'", actor))), 1)
	w.p.shown(t, []string{"for the barn"}, "api-key", "list", "--fleet", "admin/barn")

	file = filepath.Join(w.p.home, "device.json")
	w.p.balena(t, "config", "generate", "--device", uuid, "--version", "6.0.0", "--network", "wifi", "--wifiSsid", "the net", "--wifiKey", "secret",
		"--appUpdatePollInterval", "10", "--output", file)
	c = nil
	if err := json.Unmarshal([]byte(read(t, file)), &c); err != nil {
		t.Fatal(err)
	}
	want(t, "the device's configuration", []any{c["uuid"], c["wifiSsid"], c["apiKey"], id(c["deviceId"])},
		[]any{uuid, "the net", nil, id(w.api.device(t, uuid))})
	device.key, _ = c["deviceApiKey"].(string)
	device.expect(t, 200, "GET", "/device/v3/"+uuid+"/state", nil)
	w.p.refused(t, "Application not found", "config", "generate", "--fleet", "admin/nowhere", "--version", "6.0.0", "--network", "ethernet", "--appUpdatePollInterval", "10")
}

func types(t *testing.T, w *world) {
	want(t, "the row of the type", row(t, w.p.balena(t, "device-type", "list"), "generic-amd64 "), []string{"generic-amd64", "amd64", "Generic", "x86_64", "(GPT)"})
	versions := strings.Fields(w.p.balena(t, "os", "versions", "generic-amd64"))
	if len(versions) == 0 || !strings.HasPrefix(versions[0], "v") {
		t.Fatalf("os versions prints %q", versions)
	}
	newest := strings.TrimPrefix(versions[0], "v")
	w.p.refused(t, "Device type slug not recognized", "os", "versions", "no-such-type")

	w.fleet(t, "belfry")
	uuid := w.register(t, "belfry", "be1f0000111122223333444455556666")
	w.p.refused(t, "current os version of the device is not available", "device", "os-update", uuid, "--version", newest, "--yes")
	w.reports(t, uuid, map[string]any{"os_version": "balenaOS 6.0.0", "os_variant": "prod", "supervisor_version": "17.0.0"})
	w.p.refused(t, "is not in the Host OS update targets", "device", "os-update", uuid, "--version", "9999.0.0", "--yes")
	w.p.shown(t, []string{"The balena OS update has started"}, "device", "os-update", uuid, "--version", newest, "--yes")
	d := w.api.one(t, "device(uuid='"+uuid+"')?$expand=should_be_operated_by__release($select=raw_version)")
	want(t, "the release of the system", d["should_be_operated_by__release"].([]any)[0].(map[string]any)["raw_version"], newest)
}

// reports says something in the name of a device that is not there.
func (w *world) reports(t testing.TB, uuid string, what map[string]any) {
	t.Helper()
	var key string
	made := w.api.expect(t, 200, "POST", fmt.Sprintf("/api-key/device/%d/device-key", id(w.api.device(t, uuid))), map[string]any{})
	if err := json.Unmarshal(made, &key); err != nil {
		t.Fatal(err)
	}
	caller{w.s, key}.expect(t, 200, "PATCH", "/device/v3/state", map[string]any{uuid: what})
}
