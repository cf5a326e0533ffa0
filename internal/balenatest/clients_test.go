package balenatest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/fleettest"
)

// patience is how long one command of a client may take.
const patience = 5 * time.Minute

// clients is the folder that scripts/test installs balena's clients in, as testdata/npm has them.
type clients string

// installed finds the clients: where DUNLIN_TEST_BALENA says, or where scripts/test puts them. Without them the test is
// skipped, or fails when DUNLIN_TEST_REQUIRE=1 says that nothing may be skipped.
func installed(t testing.TB) clients {
	t.Helper()
	dir := os.Getenv("DUNLIN_TEST_BALENA")
	if dir == "" {
		lock, err := os.ReadFile(filepath.Join("testdata", "npm", "package-lock.json"))
		if err != nil {
			t.Fatal(err)
		}
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(lock)
		dir = filepath.Join(cache, "dunlin", "balena-"+hex.EncodeToString(sum[:])[:12])
	}
	if _, err := os.Stat(filepath.Join(dir, "complete")); err != nil {
		say := t.Skipf
		if os.Getenv("DUNLIN_TEST_REQUIRE") == "1" {
			say = t.Fatalf
		}
		say("balena's clients are not installed; scripts/test does that: %v", err)
	}
	return clients(dir)
}

// node is the Node that the clients want; the distribution's is another.
func (c clients) node() string {
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	return filepath.Join(string(c), "node_modules", "node-linux-"+arch, "bin", "node")
}

// person sits at a terminal with the stock CLI, set up for the server as docs/balena.md says.
type person struct {
	clients
	s    *fleettest.Server
	home string
	env  []string
}

// sit gives the CLI a home of its own, in which nobody has logged in, with the settings of docs/balena.md.
func sit(t testing.TB, c clients, s *fleettest.Server) *person {
	t.Helper()
	p := &person{clients: c, s: s, home: t.TempDir()}
	p.write(t, "", map[string]string{".balenarc.yml": "apiUrl: " + s.URL + "\nbalenaUrl: " + host(s) + "\ndashboardUrl: " + s.URL + "\n"})
	p.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.home, "TZ=UTC", "BALENARC_BUILDER_URL=" + s.URL,
		"BALENARC_NO_SENTRY=1", "BALENARC_NO_ANALYTICS=1", "BALENARC_UNSUPPORTED=1"}
	if s.RootFile != "" {
		p.env = append(p.env, "NODE_EXTRA_CA_CERTS="+s.RootFile)
	}
	return p
}

// host is the server's host and port.
func host(s *fleettest.Server) string { return s.URL[strings.Index(s.URL, "://")+3:] }

// login logs in as the first user.
func (p *person) login(t testing.TB) *person {
	t.Helper()
	p.balena(t, "login", "--credentials", "--email", fleettest.Email, "--password", fleettest.Password)
	return p
}

// command is one command of the CLI, run in the person's home.
func (p *person) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.node(), append([]string{filepath.Join(string(p.clients), "node_modules", "balena-cli", "bin", "run.js")}, args...)...)
	cmd.Dir, cmd.Env = p.home, p.env
	return cmd
}

// said is what a command has printed.
type said struct {
	out, err string
	failed   error
}

func (s said) String() string { return s.out + s.err }

func (p *person) run(t testing.TB, args ...string) said {
	t.Helper()
	cmd := p.command(args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer end.Stop()
	err := cmd.Wait()
	return said{out.String(), errOut.String(), err}
}

// balena runs a command, which has to succeed, and returns what it prints.
func (p *person) balena(t testing.TB, args ...string) string {
	t.Helper()
	s := p.run(t, args...)
	if s.failed != nil {
		t.Fatalf("balena %s: %v\n%s", strings.Join(args, " "), s.failed, s)
	}
	return s.out
}

// shown runs a command, which has to succeed, and looks for parts in what it prints.
func (p *person) shown(t testing.TB, parts []string, args ...string) string {
	t.Helper()
	out := p.balena(t, args...)
	for _, part := range parts {
		if !strings.Contains(out, part) {
			t.Errorf("balena %s does not say %q but\n%s", strings.Join(args, " "), part, out)
		}
	}
	return out
}

// refused runs a command that has to fail, and looks for a part of the reason in what it prints.
func (p *person) refused(t testing.TB, reason string, args ...string) {
	t.Helper()
	s := p.run(t, args...)
	var exit *exec.ExitError
	if !errors.As(s.failed, &exit) || !strings.Contains(s.String(), reason) {
		t.Errorf("balena %s should fail because of %q: %v\n%s", strings.Join(args, " "), reason, s.failed, s)
	}
}

// json runs a command that prints JSON and decodes it.
func (p *person) json(t testing.TB, into any, args ...string) {
	t.Helper()
	out := p.balena(t, args...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("balena %s prints no JSON of that shape: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// write makes a file or files in the person's home and returns the folder they are in.
func (p *person) write(t testing.TB, folder string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(p.home, folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(p.home, folder)
}

// row finds the line of a table that has the text, and splits it into its fields.
func row(t testing.TB, table, text string) []string {
	t.Helper()
	for line := range strings.Lines(table) {
		if strings.Contains(line, text) {
			return strings.Fields(line)
		}
	}
	t.Fatalf("no row has %q:\n%s", text, table)
	return nil
}

// want compares what is there with what should be, as they are printed.
func want(t testing.TB, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s is %v, should be %v", what, got, want)
	}
}
