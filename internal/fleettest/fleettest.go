// Package fleettest owns a whole fleet for tests, on real parts: the server and the agents as processes of their own,
// container engines of their own, the real git. Tests of single rooms do not need it; it is for what only shows
// when all of them meet.
package fleettest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/store/storetest"
)

// patience is how long anything may take before a test gives up on it. Nothing is asserted about time.
const patience = 2 * time.Minute

// DeviceType is the type that all devices of a test have: the machine the tests run on.
const DeviceType = "generic-amd64"

// Binaries are the programs under test, built once for a run.
type Binaries struct{ Dunlin, Agent string }

// Build compiles the programs into dir.
func Build(dir string) (Binaries, error) {
	b := Binaries{Dunlin: filepath.Join(dir, "dunlin"), Agent: filepath.Join(dir, "dunlin-agent")}
	for path, room := range map[string]string{b.Dunlin: "dunlin", b.Agent: "dunlin-agent"} {
		if err := compile(path, room); err != nil {
			return b, err
		}
	}
	return b, nil
}

// BuildAgent compiles the agent alone into dir.
func BuildAgent(dir string) (path string, err error) {
	path = filepath.Join(dir, "dunlin-agent")
	return path, compile(path, "dunlin-agent")
}

func compile(path, room string) error {
	cmd := exec.Command("go", "build", "-o", path, "github.com/dunlin/dunlin/cmd/"+room)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", room, err, out)
	}
	return nil
}

// Email and Password are the first user's, who is called admin.
const (
	Email    = "admin@example.com"
	Password = "only-for-this-test"
)

// Server is a server process with a fleet called porch and everything a person needs to push to it.
type Server struct {
	process
	bin     Binaries
	URL     string
	SSH     string
	FleetID string
	// HTTP trusts the server's own certificate authority, if it has one.
	HTTP *http.Client
	// RootFile holds the root certificate of that authority; "" with plain HTTP.
	RootFile string
	dir      string // the person's: configuration, keys
	data     string // the server's
}

// Start starts a server with an empty data folder and the first user's fleet.
func Start(t testing.TB, bin Binaries, engine string) *Server {
	t.Helper()
	return startServer(t, bin, engine, "http")
}

// StartTLS is Start for a server with a certificate authority of its own.
func StartTLS(t testing.TB, bin Binaries, engine string) *Server {
	t.Helper()
	return startServer(t, bin, engine, "https", "--tls", "own")
}

func startServer(t testing.TB, bin Binaries, engine, scheme string, more ...string) *Server {
	t.Helper()
	s := &Server{bin: bin, dir: t.TempDir(), data: t.TempDir(), HTTP: http.DefaultClient}
	// One cache of compiled packages for all servers of all runs: each would compile the standard library for itself.
	cache := filepath.Join(os.TempDir(), "dunlin-test-gocache")
	if err := errors.Join(os.MkdirAll(cache, 0o700), os.Symlink(cache, filepath.Join(s.data, "gocache"))); err != nil {
		t.Fatal(err)
	}
	web, ssh := freeAddress(t), freeAddress(t)
	s.URL, s.SSH = scheme+"://"+web, ssh
	s.process = process{t: t, name: "dunlin server", args: append([]string{bin.Dunlin, "server", "--data", s.data,
		"--listen", web, "--ssh-listen", ssh, "--engine", engine, "--log-level", "debug", "--admin-email", Email}, more...),
		env: append(storetest.Environment(t), "DUNLIN_ADMIN_PASSWORD="+Password)}
	t.Cleanup(func() { s.stop(syscall.SIGTERM); s.show() })
	login := []string{"login", s.URL, "--user", "admin", "--password-stdin"}
	if scheme == "https" {
		s.RootFile = filepath.Join(s.data, "tls", "ca.crt")
		s.HTTP = &http.Client{Transport: &http.Transport{DialTLSContext: s.dial}}
		login = append(login, "--ca", s.RootFile)
	}
	s.Restart()
	s.in(Password, login...)
	s.CLI("fleet", "create", "porch", "--type", DeviceType)
	var f struct {
		ID json.Number `json:"id"`
	}
	s.JSON(&f, "fleet", "show", "porch")
	s.FleetID = f.ID.String()
	key := filepath.Join(s.dir, "id")
	run(t, s.dir, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	s.CLI("key", "add", key+".pub")
	return s
}

// Restart starts the server that was killed or stopped, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.start()
	Eventually(s.t, "the server answers", func() error {
		resp, err := s.HTTP.Get(s.URL + "/ping")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	})
}

// dial trusts the root certificate that the server writes when it starts, and nothing else.
func (s *Server) dial(ctx context.Context, network, address string) (net.Conn, error) {
	root, err := os.ReadFile(s.RootFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	return (&tls.Dialer{Config: &tls.Config{RootCAs: pool}}).DialContext(ctx, network, address)
}

// Kill is kill -9: nothing is said goodbye to.
func (s *Server) Kill() { s.t.Helper(); s.stop(syscall.SIGKILL) }

// Stop is the stop that systemd makes: the server ends in order.
func (s *Server) Stop() { s.t.Helper(); s.stop(syscall.SIGTERM) }

// RSS is the server's resident memory in bytes.
func (s *Server) RSS() int64 { return rss(s.t, s.cmd.Process.Pid) }

// DataFolder is the server's.
func (s *Server) DataFolder() string { return s.data }

// Administrator is a session of the first user.
func (s *Server) Administrator() string {
	s.t.Helper()
	body := strings.NewReader(`{"username":"admin","password":"` + Password + `"}`)
	resp, err := s.HTTP.Post(s.URL+"/login_", "application/json", body)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	session, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("log in: %s %s %v", resp.Status, session, err)
	}
	return string(session)
}

// CLI runs the command line and returns what it prints; a failure fails the test.
func (s *Server) CLI(args ...string) string { s.t.Helper(); return s.in("", args...) }

// JSON runs a command with --json and decodes what it prints.
func (s *Server) JSON(into any, args ...string) {
	s.t.Helper()
	out := s.CLI(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		s.t.Fatalf("dunlin %s prints no JSON of that shape: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (s *Server) in(stdin string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(s.bin.Dunlin, args...)
	cmd.Env = append(environ(), "XDG_CONFIG_HOME="+s.dir)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("dunlin %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// Agent is an agent process on an engine: a device.
type Agent struct {
	process
	s    *Server
	Data string
	UUID string
	Name string
}

// Device starts an agent with an empty folder on an engine and waits until it has registered.
func (s *Server) Device(engine string) *Agent {
	s.t.Helper()
	var key struct {
		Key string `json:"key"`
	}
	s.JSON(&key, "provisioning-key", "create", "porch")
	a := &Agent{s: s, Data: s.t.TempDir()}
	a.process = process{t: s.t, name: "dunlin-agent", args: []string{s.bin.Agent, "--server", s.URL, "--fleet", s.FleetID, "--key", key.Key,
		"--device-type", DeviceType, "--data", a.Data, "--engine", engine, "--log-level", "debug"}}
	s.t.Cleanup(func() { a.stop(syscall.SIGTERM); a.show() })
	known := map[string]bool{}
	for _, d := range s.Devices() {
		known[d.UUID] = true
	}
	a.start()
	Eventually(s.t, "the device has registered", func() error {
		for _, d := range s.Devices() {
			if !known[d.UUID] {
				a.UUID, a.Name = d.UUID, d.Name
				return nil
			}
		}
		return fmt.Errorf("%d devices, none of them new", len(known))
	})
	return a
}

// Kill is kill -9 of the agent; its containers run on.
func (a *Agent) Kill() { a.t.Helper(); a.stop(syscall.SIGKILL) }

// Restart starts the agent again on what it left behind.
func (a *Agent) Restart() { a.t.Helper(); a.start() }

// RSS is the agent's resident memory in bytes.
func (a *Agent) RSS() int64 { return rss(a.t, a.cmd.Process.Pid) }

// Key is the API key the agent made for itself.
func (a *Agent) Key() string {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join(a.Data, "config.json"))
	if err != nil {
		a.t.Fatal(err)
	}
	var c struct {
		DeviceAPIKey string `json:"deviceApiKey"`
	}
	if err := json.Unmarshal(text, &c); err != nil || c.DeviceAPIKey == "" {
		a.t.Fatalf("no key in %s: %v", text, err)
	}
	return c.DeviceAPIKey
}

// Device is a device as the command line lists it.
type Device struct {
	UUID    string `json:"uuid"`
	Name    string `json:"device_name"`
	Online  bool   `json:"is_online"`
	Release []struct {
		Commit string `json:"commit"`
	} `json:"is_running__release"`
}

// Runs is the commit the device says it runs, or "".
func (d Device) Runs() string {
	if len(d.Release) == 0 {
		return ""
	}
	return d.Release[0].Commit
}

// Devices are the devices of the fleet.
func (s *Server) Devices() []Device {
	s.t.Helper()
	var all []Device
	s.JSON(&all, "device", "list", "--fleet", "porch")
	return all
}

// Runs waits until the server says that the device runs the commit.
func (a *Agent) Runs(commit string) {
	a.t.Helper()
	Eventually(a.t, a.Name+" runs "+commit[:7], func() error {
		for _, d := range a.s.Devices() {
			if d.UUID == a.UUID {
				if d.Runs() == commit {
					return nil
				}
				return fmt.Errorf("it says it runs %q", d.Runs())
			}
		}
		return fmt.Errorf("it is not in the list")
	})
}

// Eventually waits until what holds, and fails the test with the last error when patience ends.
func Eventually(t testing.TB, what string, holds func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = holds(); err == nil {
			return
		}
	}
	t.Fatalf("waited in vain until %s: %v", what, err)
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
