package balenatest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fleettest"
)

// world is a server with the stock CLI and somebody who uses it. Each part of the test has fleets of its own there.
type world struct {
	s       *fleettest.Server
	machine *fleettest.Engine
	p       *person
	api     caller
}

// fleet makes a fleet with the CLI and returns its id.
func (w *world) fleet(t testing.TB, name string) int64 {
	t.Helper()
	w.p.balena(t, "fleet", "create", name, "--type", fleettest.DeviceType, "--organization", "admin")
	return id(w.api.one(t, "application?$select=id&$filter=slug eq 'admin/"+name+"'"))
}

// register makes a device with the CLI that is never there, and returns its uuid.
func (w *world) register(t testing.TB, fleet, uuid string) string {
	t.Helper()
	w.p.balena(t, "device", "register", "admin/"+fleet, "--uuid", uuid)
	return uuid
}

// TestTheStockCLIWorksUnchanged runs every command of the CLI that has to do with a server, and looks at what it
// prints and at what it changes. Its parts share a server and run side by side.
func TestTheStockCLIWorksUnchanged(t *testing.T) {
	c := installed(t)
	machine := fleettest.MachineEngine(t)
	t.Parallel()
	s := fleettest.Start(t, bin, machine.Host)
	w := &world{s: s, machine: machine, p: sit(t, c, s).login(t), api: user(t, s)}
	for name, part := range map[string]func(*testing.T, *world){
		"people log in, have keys and belong to organizations": people,
		"fleets are made, shown, renamed and removed":          fleets,
		"devices are registered, shown, changed and removed":   devices,
		"variables of every level are set, listed and removed": variables,
		"tags are set, listed and removed":                     tags,
		"a folder is pushed and becomes a release":             pushes,
		"releases are finalized, invalidated and carry assets": releases,
		"an image that was built here is deployed":             deploys,
		"configurations are made for a fleet and for a device": configurations,
		"device types and OS versions are listed":              types,
		"a device that is away cannot be reached":              device,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			part(t, w)
		})
	}
}

func people(t *testing.T, w *world) {
	who := w.p.balena(t, "whoami")
	want(t, "the name whoami prints", row(t, who, "USERNAME:"), []string{"USERNAME:", "admin"})
	want(t, "the URL whoami prints", row(t, who, "URL:"), []string{"URL:", host(w.s)})

	other := sit(t, w.p.clients, w.s)
	other.refused(t, "Login required", "whoami")
	other.refused(t, "Invalid login credentials", "login", "--credentials", "--email", fleettest.Email, "--password", "wrong")

	made := w.p.shown(t, []string{"Registered api key 'for tests'"}, "api-key", "generate", "for tests", "never")
	key := strings.Fields(made[strings.Index(made, "for tests'"):])[2]
	w.p.balena(t, "api-key", "generate", "short lived", "2124-01-01")
	other.shown(t, []string{"Successfully logged in as: admin"}, "login", "--token", key)
	other.shown(t, []string{"admin/porch"}, "fleet", "list")
	other.refused(t, "cannot be run when logged in with an API key", "api-key", "generate", "a child", "never")
	list := w.p.balena(t, "api-key", "list", "--user")
	number := row(t, list, "for tests")[0]
	if got := row(t, list, "short lived"); !strings.Contains(strings.Join(got, " "), "2124-01-01T00:00:00.000Z") {
		t.Errorf("the key's end is not listed: %v", got)
	}
	w.p.shown(t, []string{"Successfully revoked"}, "api-key", "revoke", number)
	if out := w.p.balena(t, "api-key", "list"); strings.Contains(out, "for tests") {
		t.Errorf("the revoked key is listed:\n%s", out)
	}
	other.refused(t, "Login required", "fleet", "list")

	want(t, "the organization", row(t, w.p.balena(t, "organization", "list"), "admin"), []string{"admin", "admin"})

	const sshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA/aFILlDEaVaF+295yapWUfjcT9eixkBhL6mJUbyLbN"
	file := filepath.Join(w.p.write(t, "keys", map[string]string{"laptop.pub": sshKey + " me@laptop\n"}), "laptop.pub")
	w.p.balena(t, "ssh-key", "add", "laptop", file)
	number = row(t, w.p.balena(t, "ssh-key", "list"), "laptop")[0]
	w.p.shown(t, []string{"laptop", sshKey}, "ssh-key", number)
	w.p.balena(t, "ssh-key", "rm", number, "--yes")
	if got := w.api.rows(t, "user__has__public_key?$filter=title eq 'laptop'"); len(got) != 0 {
		t.Errorf("the removed SSH key is there: %v", got)
	}

	guest := sit(t, w.p.clients, w.s).login(t)
	guest.balena(t, "logout")
	guest.refused(t, "Login required", "fleet", "list")
}

func fleets(t *testing.T, w *world) {
	w.p.shown(t, []string{`Fleet created: slug "admin/harbour", device type "generic-amd64"`}, "fleet", "create", "harbour",
		"--type", "generic-amd64", "--organization", "admin")
	w.p.refused(t, `already exists in organization "admin"`, "fleet", "create", "harbour", "--type", "generic-amd64", "--organization", "admin")
	w.p.refused(t, "Organization not found", "fleet", "create", "elsewhere", "--type", "generic-amd64", "--organization", "nobody")
	w.p.refused(t, "Device type slug not recognized", "fleet", "create", "elsewhere", "--type", "no-such-type", "--organization", "admin")

	got := row(t, w.p.balena(t, "fleet", "list"), "admin/harbour")
	number := got[0]
	want(t, "the row of the fleet", got[1:], []string{"harbour", "admin/harbour", "generic-amd64", "0", "0"})
	var all []struct {
		Slug    string `json:"slug"`
		Devices int    `json:"device_count"`
	}
	w.p.json(t, &all, "fleet", "list", "--json")
	if len(all) < 2 {
		t.Errorf("fleet list --json has %v", all)
	}
	w.p.shown(t, []string{"== harbour", "generic-amd64", number}, "fleet", "admin/harbour")
	var one struct {
		ID         int64
		Slug       string
		DeviceType string `json:"device_type"`
	}
	w.p.json(t, &one, "fleet", "harbour", "--json")
	want(t, "fleet --json", one.Slug+" "+one.DeviceType, "admin/harbour generic-amd64")

	w.p.shown(t, []string{"Fleet renamed", "slug: admin/haven"}, "fleet", "rename", "admin/harbour", "haven")
	want(t, "the renamed fleet", w.api.one(t, "application("+number+")")["app_name"], "haven")
	w.p.refused(t, "already exists", "fleet", "rename", "admin/haven", "porch")
	w.p.refused(t, "may only include characters [a-zA-Z0-9_-]", "fleet", "rename", "admin/haven", "no blanks")

	// Nobody is there to restart or to purge. Of a purge the CLI takes that for nothing to do.
	w.p.balena(t, "fleet", "purge", "admin/haven")
	w.p.refused(t, "No online device(s) found", "fleet", "restart", "admin/haven")

	w.p.shown(t, []string{`Block created: slug "admin/brick"`}, "block", "create", "brick", "--type", "generic-amd64", "--organization", "admin")
	want(t, "the block's class", w.api.one(t, "application?$filter=slug eq 'admin/brick'")["is_of__class"], "block")

	w.p.balena(t, "support", "enable", "--fleet", "admin/haven", "--duration", "1h")
	if got := w.api.one(t, "application("+number+")")["is_accessible_by_support_until__date"]; got == nil {
		t.Error("support is not enabled")
	}
	w.p.balena(t, "support", "disable", "--fleet", "admin/haven")
	if got := w.api.one(t, "application("+number+")")["is_accessible_by_support_until__date"]; got != nil {
		t.Errorf("support is enabled until %v", got)
	}

	w.p.balena(t, "fleet", "rm", "admin/haven", "--yes")
	if got := w.api.rows(t, "application("+number+")"); len(got) != 0 {
		t.Errorf("the removed fleet is there: %v", got)
	}
	w.p.refused(t, "not found", "fleet", "admin/haven")
}

func devices(t *testing.T, w *world) {
	yard, field := w.fleet(t, "yard"), w.fleet(t, "field")
	const uuid, other = "7cf02a60000011112222333344445555", "7cf02a61111122223333444455556666"
	w.p.shown(t, []string{"Registering to admin/yard: " + uuid}, "device", "register", "admin/yard", "--uuid", uuid)
	w.p.refused(t, "must be unique", "device", "register", "admin/yard", "--uuid", uuid)
	w.register(t, "yard", other)
	made := w.api.device(t, uuid)
	want(t, "the device's fleet", id(made["belongs_to__application"]), yard)
	name := made["device_name"].(string)

	out := w.p.balena(t, "device", "list", "--fleet", "admin/yard")
	got := row(t, out, name+" ")
	want(t, "the row of the device", []string{got[1], got[3], got[4]}, []string{uuid[:7], "generic-amd64", "admin/yard"})
	var all []map[string]any
	w.p.json(t, &all, "device", "list", "--fleet", "admin/yard", "--json")
	want(t, "the number of devices", len(all), 2)
	w.p.shown(t, []string{uuid[:7], "admin/yard"}, "device", "list")

	w.p.shown(t, []string{"== " + strings.ToUpper(strings.ReplaceAll(name, "-", " ")), uuid, "configuring", "admin/yard"}, "device", uuid)
	var shown map[string]any
	w.p.json(t, &shown, "device", uuid, "--json")
	want(t, "device --json", []any{shown["device_name"], shown["fleet"], shown["overall_status"], shown["commit"]}, []any{name, "admin/yard", "configuring", "N/a"})
	w.p.refused(t, "ambiguous", "device", "7cf02a6")
	w.p.refused(t, "not found", "device", "7cf02a7")

	w.p.balena(t, "device", "rename", uuid, "the shed")
	want(t, "the new name", w.api.device(t, uuid)["device_name"], "the shed")
	w.p.balena(t, "device", "note", "behind the rake", "--device", uuid)
	want(t, "the note", w.api.device(t, uuid)["note"], "behind the rake")
	w.p.refused(t, "Missing note content", "device", "note", "", "--device", other)

	w.p.refused(t, "Public URL is not enabled", "device", "public-url", uuid)
	w.p.balena(t, "device", "public-url", uuid, "--enable")
	want(t, "is_web_accessible", w.api.device(t, uuid)["is_web_accessible"], true)
	w.p.shown(t, []string{"true"}, "device", "public-url", uuid, "--status")
	w.p.shown(t, []string{uuid}, "device", "public-url", uuid)
	w.p.balena(t, "device", "public-url", uuid, "--disable")
	want(t, "is_web_accessible", w.api.device(t, uuid)["is_web_accessible"], false)

	w.p.shown(t, []string{"is DISABLED"}, "device", "local-mode", uuid)
	w.p.refused(t, "not yet fully provisioned", "device", "local-mode", uuid, "--enable")
	w.reports(t, uuid, map[string]any{"os_version": "balenaOS 6.0.0", "os_variant": "dev", "supervisor_version": "19.0.5"})
	w.p.shown(t, []string{"now ENABLED"}, "device", "local-mode", uuid, "--enable")
	want(t, "local mode", w.api.one(t, "device_config_variable?$filter=device/uuid eq '"+uuid+"'")["value"], "1")
	w.p.shown(t, []string{"true"}, "device", "local-mode", uuid, "--status")
	w.p.shown(t, []string{"now DISABLED"}, "device", "local-mode", uuid, "--disable")

	w.p.balena(t, "support", "enable", "--device", uuid, "--duration", "2d")
	if w.api.device(t, uuid)["is_accessible_by_support_until__date"] == nil {
		t.Error("support is not enabled")
	}
	w.p.balena(t, "support", "disable", "--device", uuid)
	w.p.refused(t, "is online", "device", "deactivate", uuid, "--yes") // it has just reported
	w.p.balena(t, "device", "deactivate", other, "--yes")
	want(t, "is_active", w.api.device(t, other)["is_active"], false)

	w.p.shown(t, []string{"Device " + uuid + " was moved to fleet admin/field"}, "device", "move", uuid, "--fleet", "admin/field")
	want(t, "the device's new fleet", id(w.api.device(t, uuid)["belongs_to__application"]), field)

	w.p.balena(t, "device", "rm", uuid+","+other, "--yes")
	if got := w.api.rows(t, "device?$filter=startswith(uuid,'7cf02a6')"); len(got) != 0 {
		t.Errorf("the removed devices are there: %v", got)
	}
}

func tags(t *testing.T, w *world) {
	w.fleet(t, "hedge")
	uuid := w.register(t, "hedge", "7a9000000000111122223333444455ff")
	for _, what := range []string{"--fleet admin/hedge", "--device " + uuid} {
		of := strings.Fields(what)
		w.p.refused(t, "No tags found", append([]string{"tag", "list"}, of...)...)
		w.p.balena(t, append([]string{"tag", "set", "colour", "green"}, of...)...)
		w.p.balena(t, append([]string{"tag", "set", "colour", "dark green"}, of...)...)
		w.p.balena(t, append([]string{"tag", "set", "empty"}, of...)...)
		w.p.shown(t, []string{"colour  dark green"}, append([]string{"tag", "list"}, of...)...)
		w.p.balena(t, append([]string{"tag", "rm", "colour"}, of...)...)
		if out := w.p.balena(t, append([]string{"tag", "list"}, of...)...); strings.Contains(out, "colour") || !strings.Contains(out, "empty") {
			t.Errorf("the tags of %s are\n%s", what, out)
		}
	}
	want(t, "the device's tags", len(w.api.rows(t, "device_tag?$filter=device/uuid eq '"+uuid+"'")), 1)
}

// read is the text of a file.
func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTheStockCLITrustsTheServersOwnAuthority goes through TLS, with the root in NODE_EXTRA_CA_CERTS.
func TestTheStockCLITrustsTheServersOwnAuthority(t *testing.T) {
	c := installed(t)
	machine := fleettest.MachineEngine(t)
	t.Parallel()
	s := fleettest.StartTLS(t, bin, machine.Host)
	p := sit(t, c, s).login(t)
	p.shown(t, []string{"admin/porch"}, "fleet", "list")
	p.shown(t, []string{"Release 0.0.0"}, "push", "admin/porch", "--source", p.write(t, "porch", project("over TLS")))
	var config struct{ BalenaRootCA []byte }
	file := filepath.Join(p.home, "config.json")
	p.balena(t, "config", "generate", "--fleet", "admin/porch", "--version", "6.0.0", "--network", "ethernet", "--appUpdatePollInterval", "10", "--output", file)
	if err := json.Unmarshal([]byte(read(t, file)), &config); err != nil {
		t.Fatal(err)
	}
	want(t, "the authority that a device is told to trust", string(config.BalenaRootCA), read(t, s.RootFile))
}
