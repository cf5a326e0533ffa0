package main

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/agent"
)

// do runs the program as a person would and returns what it said.
func do(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), args, func(k string) string { return env[k] }, &out, &errs)
	return code, out.String(), errs.String()
}

func TestFlagsAndEnvironmentAgreeAndFlagsWin(t *testing.T) {
	env := map[string]string{"DUNLIN_SERVER": "https://env.test", "DUNLIN_KEY": "envkey", "DUNLIN_DEVICE_TYPE": "raspberrypi5", "DUNLIN_LOG_LEVEL": "debug"}
	o, err := parse("run", []string{"--server", "https://flag.test/", "--fleet", "7", "--data", t.TempDir()}, func(k string) string { return env[k] }, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.configure(); err != nil {
		t.Fatal(err)
	}
	c, err := agent.LoadConfig(o.data)
	if err != nil {
		t.Fatal(err)
	}
	if c.APIEndpoint != "https://flag.test" || c.APIKey != "envkey" || c.DeviceType != "raspberrypi5" || c.ApplicationID != "7" || o.level.String() != "DEBUG" {
		t.Errorf("the config is %+v at level %s", c, o.level)
	}
}

func TestAFleetMayBeNamed(t *testing.T) {
	o := options{server: "https://s.test", key: "k", fleet: "home/sensors", data: t.TempDir()}
	if err := o.configure(); err != nil {
		t.Fatal(err)
	}
	if c, err := agent.LoadConfig(o.data); err != nil || c.ApplicationSlug != "home/sensors" || c.ApplicationID != "" {
		t.Errorf("the config is %+v, %v", c, err)
	}
}

func TestARegisteredDeviceKeepsItsIdentityWhateverItIsGiven(t *testing.T) {
	data := t.TempDir()
	if err := (agent.Config{APIEndpoint: "https://old.test", ApplicationID: "7", UUID: "u", DeviceAPIKey: "d", RegisteredAt: "5", DeviceID: 9}).Save(data); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(`{"apiEndpoint":"https://new.test","applicationId":8,"apiKey":"p"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (options{config: file, key: "p", fleet: "8", data: data}).configure(); err != nil {
		t.Fatal(err)
	}
	c, err := agent.LoadConfig(data)
	if err != nil || c.APIEndpoint != "https://new.test" || c.ApplicationID != "7" || c.UUID != "u" || c.APIKey != "" {
		t.Errorf("the config is %+v, %v", c, err)
	}
}

func TestWhatIsMissingOrWrongIsSaid(t *testing.T) {
	none := t.TempDir()
	for name, tt := range map[string]struct {
		args []string
		code int
		say  []string
	}{
		"nothing given":    {[]string{"--data", none}, 1, []string{"does not know its server", "hint: give --server URL"}},
		"no URL":           {[]string{"--data", none, "--server", "dunlin", "--key", "k"}, 1, []string{`"dunlin" is not the URL of a server`, "hint: "}},
		"no certificate":   {[]string{"--data", none, "--server", "https://s", "--key", "k", "--ca", "main.go"}, 1, []string{"main.go holds no PEM certificate"}},
		"no such command":  {[]string{"fly"}, 2, []string{`there is no command "fly"`, "usage:"}},
		"no such flag":     {[]string{"run", "--wings"}, 2, []string{"-wings"}},
		"a word too many":  {[]string{"run", "now"}, 2, []string{`takes no "now"`}},
		"not a device yet": {[]string{"status", "--data", none}, 1, []string{"not a device yet", "hint: "}},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := do(t, nil, tt.args...)
			for _, s := range tt.say {
				if !strings.Contains(stderr, s) {
					t.Errorf("said %q, want %q in it", stderr, s)
				}
			}
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
		})
	}
}

func TestHelpShowsEveryFlag(t *testing.T) {
	code, _, stderr := do(t, nil, "--help")
	for _, s := range []string{"install", "-server", "-fleet", "-key", "-device-type", "-name", "-data", "-engine", "-ca", "-log-level", "-config"} {
		if code != 0 || !strings.Contains(stderr, s) {
			t.Errorf("help (exit code %d) does not show %s", code, s)
		}
	}
}

func TestInstallPutsEverythingInItsPlaceAndDoneAgainChangesNothing(t *testing.T) {
	root := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"install", "--root", root, "--server", "https://dunlin.test:8443", "--key", "k", "--ca", file, "--engine", "unix:///run/podman/podman.sock"}
	read := func() map[string]string {
		got := map[string]string{}
		for _, path := range []string{binaryPath, unitPath, "/etc/docker/certs.d/dunlin.test:8443/ca.crt", defaultData + "/config.json"} {
			b, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				t.Fatal(err)
			}
			got[path] = string(b)
		}
		return got
	}
	if code, _, stderr := do(t, nil, args...); code != 0 {
		t.Fatalf("install failed: %s", stderr)
	}
	first := read()
	if code, _, stderr := do(t, nil, args...); code != 0 {
		t.Fatalf("install failed when done again: %s", stderr)
	}
	for path, was := range first {
		if now := read()[path]; now != was {
			t.Errorf("%s changed", path)
		}
	}
	if first["/etc/docker/certs.d/dunlin.test:8443/ca.crt"] != string(ca) {
		t.Error("the engine does not trust the registry")
	}
	for _, s := range []string{
		"ExecStart=/usr/local/bin/dunlin-agent run --data /var/lib/dunlin-agent --engine unix:///run/podman/podman.sock\n",
		"Restart=always", "After=network-online.target docker.service", "WantedBy=multi-user.target",
	} {
		if !strings.Contains(first[unitPath], s) {
			t.Errorf("the unit has no %q:\n%s", s, first[unitPath])
		}
	}
	if strings.Contains(first[unitPath], "--key") || !strings.Contains(first[defaultData+"/config.json"], base64.StdEncoding.EncodeToString(ca)) {
		t.Error("the key is in the unit, or the authority not in the config")
	}
	if info, err := os.Stat(filepath.Join(root, binaryPath)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the binary has mode %v, %v", info.Mode(), err)
	}

	if code, _, stderr := do(t, nil, "uninstall", "--root", root); code != 0 {
		t.Fatalf("uninstall failed: %s", stderr)
	}
	for _, path := range []string{binaryPath, unitPath} {
		if _, err := os.Stat(filepath.Join(root, path)); !os.IsNotExist(err) {
			t.Errorf("%s is still there", path)
		}
	}
	if _, err := os.Stat(filepath.Join(root, defaultData)); err != nil {
		t.Errorf("the device's identity is gone: %v", err)
	}
	if code, _, stderr := do(t, nil, "uninstall", "--root", root, "--purge"); code != 0 {
		t.Fatalf("uninstall failed when done again: %s", stderr)
	}
	if _, err := os.Stat(filepath.Join(root, defaultData)); !os.IsNotExist(err) {
		t.Error("--purge left the device's identity")
	}
}

func TestAUnitQuotesWhatSystemdWouldRead(t *testing.T) {
	if got := unit("/data dir/50%", "", "DEBUG"); !strings.Contains(got, `ExecStart=/usr/local/bin/dunlin-agent run --data "/data dir/50%%" --log-level DEBUG`) {
		t.Errorf("unit is\n%s", got)
	}
}

func TestStatusTellsWhatTheDeviceIs(t *testing.T) {
	data := t.TempDir()
	if err := (agent.Config{APIEndpoint: "https://s.test", UUID: "abc", DeviceAPIKey: "secret", RegisteredAt: "5"}).Save(data); err != nil {
		t.Fatal(err)
	}
	ledger := `{"uuid":"abc","target":{"abc":{"name":"quick-heron","apps":{"f":{"name":"sensors","releases":{"c2":{}}}}}},"releases":{"f":"c1"}}`
	if err := os.WriteFile(filepath.Join(data, "ledger.json"), []byte(ledger), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"status"}, {"status", "--json"}} {
		code, stdout, _ := do(t, nil, append(args, "--data", data, "--engine", "unix:///nowhere/engine.sock")...)
		for _, s := range []string{"quick-heron", "abc", "https://s.test", "sensors", "c1", "c2"} {
			if code != 0 || !strings.Contains(stdout, s) {
				t.Errorf("%v (exit code %d) does not say %q:\n%s", args, code, s, stdout)
			}
		}
		if strings.Contains(stdout, "secret") {
			t.Errorf("%v shows the device's key", args)
		}
	}
}
