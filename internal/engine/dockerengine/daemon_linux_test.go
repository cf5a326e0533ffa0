package dockerengine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/enginetest"
	"github.com/moby/moby/client"
)

// island is a network namespace of its own, since a second dockerd on the host's would take away the bridge of the
// first ("--bridge=none" removes docker0). What it does, and the processes it starts, see only its own loopback.
type island chan func()

func newIsland(t *testing.T) (island, error) {
	t.Helper()
	work, up := make(island), make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is no use to anyone else and ends with this goroutine
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		if err == nil {
			err = loopbackUp()
		}
		up <- err
		for do := range work {
			do()
		}
	}()
	t.Cleanup(func() { close(work) })
	return work, <-up
}

// do runs f on the island and waits for it.
func (i island) do(f func()) {
	done := make(chan struct{})
	i <- func() { defer close(done); f() }
	<-done
}

// loopbackUp is "ip link set lo up" (netdevice(7)).
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	request := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	copy(request.name[:], "lo")
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// daemon is a Docker Engine of the test's own, on an island with a registry.
type daemon struct {
	place
	shelf *shelf
	on    island
	args  []string
	cmd   *exec.Cmd
	log   bytes.Buffer
}

// newDaemon starts an engine with storage of that size; flags are more flags for it. Where there can be none, as there
// is no dockerd or the test is not root, it says why.
func newDaemon(t *testing.T, size string, flags ...string) (*daemon, error) {
	t.Helper()
	program, err := exec.LookPath("dockerd")
	if err != nil {
		return nil, err
	}
	return startDaemon(t, program, "{}", size, append(flags, "--storage-driver=overlay2")...)
}

// startDaemon is newDaemon for any dockerd and configuration. What it needs of containerd's is beside it, or where
// everything else is.
func startDaemon(t *testing.T, program, configuration, size string, flags ...string) (*daemon, error) {
	t.Helper()
	if os.Getuid() != 0 {
		return nil, errors.New("it needs root")
	}
	on, err := newIsland(t)
	if err != nil {
		return nil, fmt.Errorf("a network of its own: %w", err)
	}
	dir, err := os.MkdirTemp("", "dunlin") // not t.TempDir: a socket's path has 107 bytes
	ok(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	root := filepath.Join(dir, "root")
	ok(t, os.Mkdir(root, 0o700))
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size="+size); err != nil {
		return nil, fmt.Errorf("storage of its own: %w", err)
	}
	t.Cleanup(func() { syscall.Unmount(root, syscall.MNT_DETACH) })
	config := filepath.Join(dir, "daemon.json")
	ok(t, os.WriteFile(config, []byte(configuration), 0o600))
	host := "unix://" + filepath.Join(dir, "s")
	d := &daemon{on: on, args: append([]string{
		program, "--data-root", root, "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"), "-H", host,
		"--config-file", config,
		"--containerd-namespace", unique(), "--containerd-plugins-namespace", unique(), // beside what another engine has in the same containerd
	}, flags...)}
	d.place = place{host, func() (l net.Listener, err error) {
		on.do(func() { l, err = net.Listen("tcp", "127.0.0.1:0") })
		return l, err
	}}
	d.shelf = newShelf(t, d.place)
	t.Cleanup(func() { d.stop(t) })
	d.start(t)
	return d, nil
}

// newSmallDaemon is newDaemon without a bridge, for a test that makes no sense elsewhere.
func newSmallDaemon(t *testing.T, size string) *daemon {
	t.Helper()
	d, err := newDaemon(t, size, "--bridge=none", "--iptables=false", "--ip6tables=false")
	if err != nil && os.Getenv("DUNLIN_TEST_REQUIRE") == "1" {
		t.Fatalf("no engine of the test's own: %v", err)
	}
	if err != nil {
		t.Skipf("no engine of the test's own: %v", err)
	}
	return d
}

func (d *daemon) start(t *testing.T) {
	t.Helper()
	d.cmd = exec.Command(d.args[0], d.args[1:]...)
	beside := filepath.Dir(filepath.Dir(d.args[0])) // of /usr/sbin/dockerd
	d.cmd.Env = append(os.Environ(), "PATH="+filepath.Join(beside, "bin")+":"+os.Getenv("PATH"))
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // a test that is killed leaves no engine
	var err error
	d.on.do(func() { err = d.cmd.Start() }) // a child is born where the thread is that makes it
	ok(t, err)
	api, err := client.New(client.WithHost(d.host))
	ok(t, err)
	defer api.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := api.Ping(ctx, client.PingOptions{})
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			d.stop(t)
			t.Fatalf("dockerd does not start: %v\n%s", err, d.log.String())
		case <-again.C:
		}
	}
}

// stop stops the engine, and waits until it has.
func (d *daemon) stop(t *testing.T) {
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(time.Minute, func() { d.cmd.Process.Kill() })
	defer late.Stop()
	d.cmd.Wait() // how it ended is of no matter
	d.cmd = nil
}

func TestAFullDiskIsSaidAndWhatRunsRunsOn(t *testing.T) {
	t.Parallel()
	d, ctx := newSmallDaemon(t, "48m"), t.Context()
	e, s := open(t, d.host), d.shelf
	ref := s.put(t, image(t, random(t, 1000)))
	ok(t, e.Pull(ctx, ref, engine.Credentials{}, nil))
	ok(t, e.Create(ctx, engine.Container{Name: "old", Image: ref, NetworkMode: "none", Command: []string{"out:here"}}))
	ok(t, e.Start(ctx, "old"))

	// One that does not fit as it arrives, and one that does, but not unpacked.
	for _, layer := range []int{64 << 20, 30 << 20} {
		big := s.put(t, image(t, random(t, layer)))
		if err := e.Pull(ctx, big, engine.Credentials{}, nil); !errors.Is(err, engine.ErrDiskFull) {
			t.Errorf("pull of %d MB: %v", layer>>20, err)
		}
		state, err := e.Inspect(ctx)
		ok(t, err)
		if len(state.Images) != 1 || state.Images[0].References[0] != ref {
			t.Errorf("images: %+v", state.Images)
		}
		if len(state.Containers) != 1 || state.Containers[0].Status != engine.Running {
			t.Errorf("containers: %+v", state.Containers)
		}
	}
	fits := s.put(t, image(t, random(t, 5<<20))) // what the others left behind does not fill the disk
	ok(t, e.Pull(ctx, fits, engine.Credentials{}, nil))
}

func TestAHealthCheckThatFindsNoChangeIsNoEvent(t *testing.T) {
	t.Parallel()
	d, ctx := newSmallDaemon(t, "32m"), t.Context()
	e := open(t, d.host)
	ref := d.shelf.put(t, image(t, random(t, 1000)))
	ok(t, e.Pull(ctx, ref, engine.Credentials{}, nil))
	ok(t, e.Create(ctx, engine.Container{
		Name: "well", Image: ref, NetworkMode: "none",
		Healthcheck: &engine.Healthcheck{Test: []string{"CMD", "/probe", "exit:0"}, Interval: 200 * time.Millisecond},
	}))
	ok(t, e.Start(ctx, "well"))
	events := e.Events(ctx)
	for healthy := false; !healthy; {
		<-events
		s, err := e.Inspect(ctx)
		ok(t, err)
		healthy = s.Containers[0].Health == "healthy"
	}
	quiet(t, events)
	select {
	case <-events:
		t.Error("a token came, and nothing changed")
	case <-time.After(1500 * time.Millisecond):
	}
}

func TestAnEngineMayRestart(t *testing.T) {
	t.Parallel()
	d := newSmallDaemon(t, "48m")
	e, ctx := open(t, d.host), t.Context()
	s, large := d.shelf, random(t, 4<<20)
	ref := s.put(t, image(t, random(t, 1000)))
	ok(t, e.Pull(ctx, ref, engine.Credentials{}, nil))
	for _, c := range []engine.Container{{Name: "no", Restart: "no"}, {Name: "always", Restart: "always"}, {Name: "stopped", Restart: "unless-stopped"}} {
		c.Image, c.NetworkMode = ref, "none"
		ok(t, e.Create(ctx, c))
		ok(t, e.Start(ctx, c.Name))
	}
	ok(t, e.Stop(ctx, "stopped", time.Second))
	events := e.Events(ctx)
	quiet(t, events)

	// A pull is under way when the engine goes.
	slow := s.put(t, image(t, large))
	release := s.stall(t, large)
	began := make(chan struct{}, 100)
	pulled := make(chan error, 1)
	go func() {
		pulled <- e.Pull(ctx, slow, engine.Credentials{}, func(int) { began <- struct{}{} })
	}()
	select {
	case <-began:
	case err := <-pulled:
		t.Fatalf("the pull ended: %v", err)
	}
	d.stop(t)
	if err := <-pulled; !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("a pull that its engine left: %v", err)
	}
	if _, err := e.Inspect(ctx); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("an engine that is away: %v", err)
	}
	quiet(t, events)
	d.start(t)
	select {
	case _, open := <-events:
		if !open {
			t.Fatal("the events ended with the engine")
		}
	case <-time.After(time.Minute):
		t.Fatal("no token came when the engine was back")
	}
	release()
	ok(t, e.Pull(ctx, slow, engine.Credentials{}, nil))
	state, err := e.Inspect(ctx)
	ok(t, err)
	var got []string
	for _, c := range state.Containers {
		got = append(got, c.Name+" "+string(c.Status))
	}
	if want := "always running, no exited, stopped exited"; strings.Join(got, ", ") != want {
		t.Errorf("after the restart: %s, want %s", strings.Join(got, ", "), want)
	}
	for _, c := range state.Containers {
		ok(t, e.Remove(ctx, c.Name))
	}
}

func TestALoadThatItsEngineLeavesLeavesNothing(t *testing.T) {
	t.Parallel()
	d := newSmallDaemon(t, "48m")
	e, ctx := open(t, d.host), t.Context()
	s := successor(t, d.place)
	ok(t, e.Pull(ctx, s.Old, engine.Credentials{}, nil))
	r, w := io.Pipe()
	loaded := make(chan error, 1)
	go func() {
		loaded <- e.Load(ctx, r)
		r.Close()
	}()
	_, err := w.Write(s.Archive[:len(s.Archive)/2])
	ok(t, err)
	d.stop(t)
	w.Write(s.Archive[len(s.Archive)/2:]) // nobody reads it
	if err := <-loaded; !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("a load that its engine left: %v", err)
	}
	d.start(t)
	if _, err := e.Layers(ctx, engine.Loaded); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("half an image is there: %v", err)
	}
	ok(t, e.Load(ctx, bytes.NewReader(s.Archive)))
	ok(t, e.Pull(ctx, s.New, engine.Credentials{}, nil))
	if n := s.Travelled(); n > 2000 {
		t.Errorf("%d bytes travelled of an image that was loaded", n)
	}
}

// Engine 29 keeps images in containerd's store by itself, 28 when it is told to. Debian 12 has neither: the test wants
// the dockerd of one, with its containerd in the folder bin beside the dockerd's.
func TestDockerWithContainerdsImagesLoadsToo(t *testing.T) {
	program := os.Getenv("DUNLIN_TEST_DOCKERD")
	if program == "" {
		t.Skip("DUNLIN_TEST_DOCKERD names no dockerd of Engine 28 or later")
	}
	d, err := startDaemon(t, program, `{"features":{"containerd-snapshotter":true}}`, "512m", "--bridge=none", "--iptables=false", "--ip6tables=false")
	ok(t, err)
	for _, c := range enginetest.Checks() {
		if strings.HasPrefix(c.Name, "AnImage") || strings.Contains(c.Name, "Pull") {
			t.Run(c.Name, func(t *testing.T) { c.Do(t, open(t, d.host), fixture(d.place)) })
		}
	}
	t.Run("TheFoldersOfAnImageThatRunsAreFound", func(t *testing.T) {
		e, s := open(t, d.host), successor(t, d.place)
		ok(t, e.Pull(t.Context(), s.Old, engine.Credentials{}, nil))
		name := unique()
		ok(t, e.Create(t.Context(), engine.Container{Name: name, Image: s.Old, NetworkMode: "none", Command: []string{"out:here"}}))
		ok(t, e.Start(t.Context(), name))
		l, err := e.Layers(t.Context(), s.Old)
		ok(t, err)
		ok(t, e.Remove(t.Context(), name))
		if len(l.Folders) != 2 {
			t.Fatalf("folders %v", l.Folders)
		}
		for i, want := range []string{"probe", "random-*"} {
			if files, err := filepath.Glob(filepath.Join(l.Folders[i], want)); err != nil || len(files) != 1 {
				t.Errorf("layer %d has not %s: %v, %v", i, want, files, err)
			}
		}
		ok(t, e.RemoveImage(t.Context(), s.Old))
	})
}

// quiet takes what tokens there are.
func quiet(t *testing.T, events <-chan struct{}) {
	t.Helper()
	for {
		select {
		case <-events:
		case <-time.After(300 * time.Millisecond):
			return
		}
	}
}

func TestAnEngineOfATestLeavesTheHostsBridgeAlone(t *testing.T) {
	before, err := net.Interfaces()
	ok(t, err)
	d := newSmallDaemon(t, "32m")
	var inside []net.Interface
	d.on.do(func() { inside, err = net.Interfaces() })
	ok(t, err)
	if len(inside) != 1 {
		t.Errorf("the engine sees %v", inside)
	}
	after, err := net.Interfaces()
	ok(t, err)
	for _, i := range before { // containers of others come and go; bridges stay
		if strings.HasPrefix(i.Name, "docker") && !slices.ContainsFunc(after, func(j net.Interface) bool { return j.Index == i.Index }) {
			t.Errorf("%s is gone", i.Name)
		}
	}
}
