package bus

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// safety is how long a test waits for what has to come; it is only used up when something is broken.
const safety = time.Minute

// need gives the path of an installed program, and ends the test if there is none.
func need(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("DUNLIN_TEST_REQUIRE") == "1" {
		t.Fatalf("%v is not installed", names)
	}
	t.Skipf("%v is not installed", names)
	return ""
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// program is a server that a test starts and ends.
type program struct {
	t    *testing.T
	path string
	args []string
	env  []string
	dir  string
	addr string // where it listens when it is ready
	cmd  *exec.Cmd
	out  *syncBuffer
}

func (p *program) start() {
	p.t.Helper()
	p.out = &syncBuffer{}
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.dir, append(os.Environ(), p.env...), p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, p.path+" listens", func() bool {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

// stop ends the program with all that it has started, at once: this is how brokers go away.
func (p *program) stop() {
	if p.cmd == nil {
		return
	}
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	p.cmd.Wait()
	p.cmd = nil
}

// syncBuffer is what a program or logger said.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), safety)
	defer stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v for: %s", safety, what)
		case <-tick.C:
		}
	}
}

// running runs a broker until stop is called or the test ends.
func running(t *testing.T, b Broker, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	var once sync.Once
	stop = func() {
		t.Helper()
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("run: %v", err)
				}
			case <-time.After(safety):
				t.Error("run does not end")
			}
			if b.Health().Connected {
				t.Error("connected after its end")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func connected(t *testing.T, b Broker) {
	t.Helper()
	eventually(t, "a connection", func() bool { return b.Health().Connected })
}

// logger logs to the test, and into the buffer.
func logger(t *testing.T) (*slog.Logger, *syncBuffer) {
	b := &syncBuffer{}
	return slog.New(slog.NewTextHandler(io.MultiWriter(b, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug})), b
}

// gate is a way to a broker that can be shut.
type gate struct {
	t      *testing.T
	to     string
	addr   string
	listen net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	shut  bool
	conns []net.Conn
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, to: to, addr: l.Addr().String(), listen: l}
	g.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.pass(c)
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.close()
		g.wg.Wait()
	})
	return g
}

func (g *gate) pass(in net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		in.Close()
		return
	}
	out, err := net.Dial("tcp", g.to)
	if err != nil {
		in.Close()
		return
	}
	g.conns = append(g.conns, in, out)
	for _, p := range [][2]net.Conn{{in, out}, {out, in}} {
		g.wg.Go(func() {
			io.Copy(p[0], p[1])
			p[0].Close()
			p[1].Close()
		})
	}
}

// close breaks all connections and lets no new one through.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for _, c := range g.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	g.conns = nil
}

func (g *gate) open() {
	g.mu.Lock()
	g.shut = false
	g.mu.Unlock()
}

// mosquitto starts a broker of its own for a test.
func mosquitto(t *testing.T) *program {
	t.Helper()
	path := need(t, "mosquitto", "/usr/sbin/mosquitto")
	dir, port := t.TempDir(), freePort(t)
	conf := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listener %d 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n", port), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, path: path, args: []string{"-c", conf}, dir: dir, addr: fmt.Sprintf("127.0.0.1:%d", port)}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("mosquitto: %s", p.out)
		}
	})
	p.start()
	return p
}

// at is a time of the tests.
func at(sec int) time.Time {
	return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(sec) * time.Second)
}

func ptr(f float64) *float64 { return &f }

// house is a site that has everything.
func house() Site {
	return Site{
		ID: "gate", Name: "Gate monitor", Model: "ADC Pi + IO Pi", Version: "1.0.0",
		Zones: []Zone{
			{ID: "hall", Name: "Hall", Type: "Motion Detector", Location: "Hall", Analog: true, Group: "house"},
			{ID: "back_door", Name: "Back door", Type: "Door Detector", Location: "Kitchen", Class: "door", Group: "house"},
		},
		Outputs: []Output{
			{ID: "siren", Name: "Siren", Type: "Siren", Location: "Roof"},
			{ID: "gate", Name: "Gate", Type: "Gate Opener", Location: "Drive", Momentary: true},
		},
		Groups: []string{"house"},
	}
}

// events makes alarms numbered from to to, exclusively.
func events(from, to int) (list []Event) {
	for i := from; i < to; i++ {
		list = append(list, Event{ID: fmt.Sprint("e", i), Time: at(i), Kind: "alarm", Zone: "hall", From: "normal", State: "alarm", Percent: ptr(51), Reason: "two pulses in 30 s"})
	}
	return list
}
