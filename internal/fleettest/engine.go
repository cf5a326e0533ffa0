package fleettest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// Engine is a container engine: the machine's own, or one that a test started for a device.
type Engine struct {
	Host string // as DOCKER_HOST
	t    testing.TB
	http *http.Client
}

// MachineEngine is the engine that builds: the one at DUNLIN_TEST_ENGINE, or the usual socket. Without one the test
// is skipped, or fails when DUNLIN_TEST_REQUIRE=1 says that nothing may be skipped.
func MachineEngine(t testing.TB) *Engine {
	t.Helper()
	host := os.Getenv("DUNLIN_TEST_ENGINE")
	if host == "" {
		host = "unix:///var/run/docker.sock"
	}
	e := dial(t, host)
	if err := e.ping(); err != nil {
		unable(t, "no container engine answers at %s: %v", host, err)
	}
	return e
}

// unable skips a test for a reason, or fails it when nothing may be skipped.
func unable(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("DUNLIN_TEST_REQUIRE") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// bridges numbers the bridges of this process's engines.
var bridges atomic.Uint32

// NewEngine starts an engine for one device: a second dockerd with storage, sockets and a bridge of its own. With
// storage > 0 its storage is a file system of that many bytes.
func NewEngine(t testing.TB, storage int64) *Engine {
	t.Helper()
	dockerd, err := exec.LookPath("dockerd")
	if err != nil {
		if dockerd = "/usr/sbin/dockerd"; !there(dockerd) {
			unable(t, "there is no dockerd to start for a device")
		}
	}
	if os.Getuid() != 0 {
		unable(t, "only root can start a container engine for a device")
	}
	// Sockets have short names, so not below t.TempDir.
	dir, err := os.MkdirTemp("", "fleettest-")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if storage > 0 {
			syscall.Unmount(root, syscall.MNT_DETACH) // it may not have been mounted
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("left behind: %v", err)
		}
	})
	if storage > 0 {
		if err := syscall.Mount("tmpfs", root, "tmpfs", 0, fmt.Sprintf("size=%d", storage)); err != nil {
			unable(t, "cannot mount a small file system: %v", err)
		}
	}
	// Without a bridge of its own (--bridge=none) a dockerd deletes the machine's docker0.
	n := bridges.Add(1)
	bridge := fmt.Sprintf("dlt%d.%d", os.Getpid(), n)
	ip := func(args ...string) error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	t.Cleanup(func() { ip("link", "del", bridge) }) // it may not have been made
	if err := errors.Join(ip("link", "add", bridge, "type", "bridge"),
		ip("addr", "add", fmt.Sprintf("10.%d.%d.1/24", 200+n%50, os.Getpid()%250), "dev", bridge),
		ip("link", "set", bridge, "up")); err != nil {
		unable(t, "cannot make a bridge for a device's engine: %v", err)
	}
	host := "unix://" + filepath.Join(dir, "docker.sock")
	p := &process{t: t, name: "dockerd of a device", args: []string{dockerd, "--data-root", root, "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "-H", host, "--bridge", bridge, "--iptables=false", "--ip6tables=false"},
		env: []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}}
	e := dial(t, host)
	t.Cleanup(func() { e.removeAll(); p.stop(syscall.SIGTERM); p.show() })
	p.start()
	Eventually(t, "the device's engine answers", e.ping)
	return e
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func dial(t testing.TB, host string) *Engine {
	path := strings.TrimPrefix(host, "unix://")
	return &Engine{Host: host, t: t, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}}
}

func (e *Engine) ping() error { return e.call("GET", "/_ping", nil) }

func (e *Engine) call(method, path string, into any) error {
	return e.send(method, path, "", nil, into)
}

// send is a call with a body.
func (e *Engine) send(method, path, contentType string, body io.Reader, into any) error {
	r, err := http.NewRequest(method, "http://docker"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", contentType)
	resp, err := e.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	// An import answers 200 before it has failed.
	if resp.StatusCode >= 300 || strings.Contains(string(text), `"errorDetail"`) {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// Import makes an image of the one file service, which is executable.
func (e *Engine) Import(name, service string) error {
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	if err := w.WriteHeader(&tar.Header{Name: "service", Mode: 0o755, Size: int64(len(service))}); err != nil {
		return err
	}
	if _, err := io.WriteString(w, service); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return e.send("POST", "/images/create?fromSrc=-&tag=latest&repo="+name, "application/x-tar", &image, nil)
}

// Remove removes an image.
func (e *Engine) Remove(name string) error { return e.call("DELETE", "/images/"+name+"?force=1", nil) }

// StartsPrivileged says why the engine cannot start a privileged container that runs the binary, if it cannot.
func (e *Engine) StartsPrivileged(binary string) (err error) {
	const name = "dunlin-test-privileged"
	if err := e.Import(name, binary); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Remove(name)) }()
	var made struct{ ID string }
	if err := e.send("POST", "/containers/create", "application/json",
		strings.NewReader(`{"Image":"`+name+`","Cmd":["/service"],"HostConfig":{"Privileged":true}}`), &made); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.call("DELETE", "/containers/"+made.ID+"?force=1", nil)) }()
	return e.call("POST", "/containers/"+made.ID+"/start", nil)
}

// Container is a container as the engine lists it.
type Container struct {
	ID      string `json:"Id"`
	Image   string
	ImageID string
	State   string
	Labels  map[string]string
}

// Containers are the containers of a service, running or not.
func (e *Engine) Containers(service string) []Container {
	e.t.Helper()
	var all []Container
	filter := url.QueryEscape(`{"label":["io.balena.service-name=` + service + `"]}`)
	if err := e.call("GET", "/containers/json?all=1&filters="+filter, &all); err != nil {
		e.t.Fatal(err)
	}
	return all
}

// Running is the one running container of a service; it fails the test if there are none or several.
func (e *Engine) Running(service string) Container {
	e.t.Helper()
	all := e.Containers(service)
	if len(all) != 1 || all[0].State != "running" {
		e.t.Fatalf("service %s should have one running container, has %+v", service, all)
	}
	return all[0]
}

// removeAll removes what the agents made and would outlive the engine: containers and the bridges of networks.
func (e *Engine) removeAll() {
	filter := "filters=" + url.QueryEscape(`{"label":["io.balena.supervised"]}`)
	for _, kind := range []struct{ list, remove string }{{"/containers/json?all=1&", "/containers/%s?force=1"}, {"/networks?", "/networks/%s"}} {
		var all []struct{ ID string }
		if err := e.call("GET", kind.list+filter, &all); err != nil {
			return // it has ended already
		}
		for _, one := range all {
			if err := e.call("DELETE", fmt.Sprintf(kind.remove, one.ID), nil); err != nil {
				e.t.Logf("left behind: %v", err)
			}
		}
	}
}

// DebianImage is the name of a Debian image on the engine, made from the distribution's packages at the first call.
func DebianImage(t testing.TB, e *Engine) string {
	t.Helper()
	const name = "dunlin-test-debian"
	if e.call("GET", "/images/"+name+"/json", nil) == nil {
		return name
	}
	mmdebstrap, err := exec.LookPath("mmdebstrap")
	if err != nil {
		unable(t, "mmdebstrap is not installed, so there is no Debian image to build on")
	}
	// The machine's own suite and package sources are the ones that are known to be reached.
	debian := exec.Command("sh", "-c", `. /etc/os-release && exec "$0" --quiet --variant=essential "$VERSION_CODENAME" -`, mmdebstrap)
	var stderr strings.Builder
	debian.Stderr = &stderr
	out, err := debian.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := debian.Start(); err != nil {
		t.Fatal(err)
	}
	err = e.send("POST", "/images/create?fromSrc=-&tag=latest&repo="+name, "application/x-tar", out, nil)
	if err = errors.Join(err, debian.Wait()); err != nil {
		e.call("DELETE", "/images/"+name+"?force=1", nil) // half an image would pass for a whole one
		t.Fatalf("import a Debian image: %v\n%s", err, stderr.String())
	}
	return name
}
