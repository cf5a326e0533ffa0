package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/internal/fault"
)

// completed is what the server makes of flags, an environment and a config file.
func completed(t *testing.T, args []string, environment map[string]string, file string) (*options, error) {
	t.Helper()
	cmd := serverCommand()
	o := &options{}
	cmd.ResetFlags()
	o.flags(cmd.Flags())
	if file != "" {
		path := filepath.Join(t.TempDir(), "server.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return o, o.complete(cmd, func(name string) (string, bool) { v, ok := environment[name]; return v, ok })
}

func TestAFlagGoesBeforeTheEnvironmentAndTheEnvironmentBeforeTheFile(t *testing.T) {
	o, err := completed(t, []string{"--data", "flag"},
		map[string]string{"DUNLIN_DATA": "environment", "DUNLIN_SSH_LISTEN": "127.0.0.1:1"},
		"data: file\nssh-listen: 127.0.0.1:2\nlog-format: json\nadmin-password: 0123456\nengine:\nprivate-host: [a.example, b.example]\n")
	if err != nil {
		t.Fatal(err)
	}
	for what, is := range map[string]bool{
		"the flag's":                  o.data == "flag",
		"the environment's":           o.sshListen == "127.0.0.1:1",
		"the file's":                  o.logFormat == "json",
		"a password of digits":        o.adminPass == "0123456",
		"nothing, for an empty value": o.engine == "",
		"a list":                      strings.Join(o.privateHosts, " ") == "a.example b.example",
	} {
		if !is {
			t.Errorf("%s is not what it should be: %+v", what, o)
		}
	}
}

func TestTheDatabaseIsAFileOfTheDataFolderUnlessItIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		args, file  string
		environment map[string]string
		want        string
	}{
		"nothing":         {"--data /d", "", nil, "/d/dunlin.db"},
		"the environment": {"--data /d", "", map[string]string{"DUNLIN_DATABASE": "postgres://h/d"}, "postgres://h/d"},
		"the file":        {"--data /d", "database: postgres://h/f", nil, "postgres://h/f"},
		"the flag":        {"--data /d --database /x.db", "database: postgres://h/f", map[string]string{"DUNLIN_DATABASE": "postgres://h/d"}, "/x.db"},
	} {
		if o, err := completed(t, strings.Fields(c.args), c.environment, c.file); err != nil || o.database != c.want {
			t.Errorf("%s: %q, %v; want %q", name, o.database, err, c.want)
		}
	}
}

func TestThePublicAddressFollowsFromTheListenAddressAndTLS(t *testing.T) {
	for _, c := range []struct {
		args               string
		url, ssh, registry string
	}{
		{"", "http://127.0.0.1:8080", "127.0.0.1:2222", "127.0.0.1:8080"},
		{"--listen :443 --host Dunlin.Example.com", "https://dunlin.example.com", "dunlin.example.com:2222", "dunlin.example.com"},
		{"--listen :8443 --host 192.168.1.10:8443 --ssh-listen :22", "https://192.168.1.10:8443", "192.168.1.10:22", "192.168.1.10:8443"},
		{"--listen :8080 --tls off --behind-proxy --host dunlin.example.com:443", "https://dunlin.example.com", "dunlin.example.com:2222", "dunlin.example.com"},
		{"--listen [::1]:8080", "http://[::1]:8080", "[::1]:2222", "[::1]:8080"},
	} {
		o, err := completed(t, strings.Fields(c.args), nil, "")
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		if o.url() != c.url || o.sshHost != c.ssh || o.host != c.registry {
			t.Errorf("%s: %s, %s, %s; want %s, %s, %s", c.args, o.url(), o.sshHost, o.host, c.url, c.ssh, c.registry)
		}
	}
}

func TestSettingsThatCannotWorkAreRefusedWithASentence(t *testing.T) {
	for name, c := range map[string]struct{ args, file string }{
		"an unknown key":               {"", "lissten: :80"},
		"the file in itself":           {"", "config: x"},
		"a nested value":               {"", "data: {a: b}"},
		"no YAML":                      {"", "data: [x"},
		"a number that is none":        {"", "build-timeout: soon"},
		"an address without a port":    {"--listen localhost", ""},
		"every address and no name":    {"--listen :443", ""},
		"plain HTTP for all the world": {"--listen :80 --tls off --host dunlin.example.com", ""},
		"files that are not named":     {"--tls files", ""},
		"another way of TLS":           {"--tls maybe", ""},
		"no time to build":             {"--build-timeout 1s", ""},
		"another way to register":      {"--registration perhaps", ""},
		"a proxy and none in front":    {"--proxy 10.0.0.1", ""},
		"a proxy that is no address":   {"--behind-proxy --proxy nginx", ""},
	} {
		_, err := completed(t, strings.Fields(c.args), nil, c.file)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := completed(t, []string{"--config", "/nowhere"}, nil, ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestProxiesAreAddressesOrNetworks(t *testing.T) {
	o, err := completed(t, strings.Fields("--behind-proxy --proxy 10.1.2.3/8 --proxy 192.0.2.1,fd00::/8"), nil, "")
	if got := fmt.Sprint(o.proxyNets); err != nil || got != "[10.0.0.0/8 192.0.2.1/32 fd00::/8]" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestWhatIsNoSettingIsNotReadFromTheEnvironment(t *testing.T) {
	o := &options{}
	cmd := &cobra.Command{}
	o.flags(cmd.Flags())
	email := cmd.Flags().String("email", "", "of the command itself")
	set := map[string]string{"DUNLIN_EMAIL": "x", "DUNLIN_DATA": "y"}
	if err := o.complete(cmd, func(name string) (string, bool) { v, ok := set[name]; return v, ok }); err != nil || *email != "" || o.data != "y" {
		t.Errorf("email %q, data %q, %v", *email, o.data, err)
	}
}
