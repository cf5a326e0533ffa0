package ping

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// manager listens as a service manager does.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return l
}

func heard(t *testing.T, l *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 4096)
	l.SetReadDeadline(time.Now().Add(patience))
	n, err := l.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestTheServiceManagerHears(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@remote-monitor-test-" + strconv.Itoa(os.Getpid())} {
		l := manager(t, name)
		if err := Notify("STATUS=16 zones"); err != nil {
			t.Fatal(err)
		}
		if got := heard(t, l); got != "STATUS=16 zones" {
			t.Errorf("over %s it hears %q", name, got)
		}
	}
}

func TestWithoutAServiceManagerNothingHappens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil {
		t.Error(err)
	}
	if err := new(Service).Run(t.Context()); err != nil {
		t.Error(err)
	}
	for _, name := range []string{filepath.Join(t.TempDir(), "nobody"), "vsock:2:1"} {
		t.Setenv("NOTIFY_SOCKET", name)
		if err := Notify("READY=1"); err == nil || !strings.HasPrefix(err.Error(), "tell the service manager: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheWatchdogIntervalIsWhatTheManagerSays(t *testing.T) {
	for _, x := range []struct {
		us, pid string
		want    time.Duration
	}{
		{"30000000", "", 30 * time.Second}, {"30000000", strconv.Itoa(os.Getpid()), 30 * time.Second}, {"30000000", "1", 0},
		{"", "", 0}, {"0", "", 0}, {"-5", "", 0}, {"soon", "", 0}, {"9223372036854775807", "", 0},
	} {
		t.Setenv("WATCHDOG_USEC", x.us)
		t.Setenv("WATCHDOG_PID", x.pid)
		if got := WatchdogInterval(); got != x.want {
			t.Errorf("%+v gives %s", x, got)
		}
	}
}

func TestTheServiceIsReadyWithTheFirstBeatAndAliveWhileBeatsCome(t *testing.T) {
	l := manager(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "60000")
	t.Setenv("WATCHDOG_PID", "")
	s := &Service{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()

	quiet := func(why string) {
		t.Helper()
		l.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := l.Read(make([]byte, 100)); err == nil {
			t.Errorf("%s it hears %d bytes", why, n)
		}
	}
	quiet("before the first beat")
	s.Beat()
	if got := heard(t, l); got != "READY=1\nWATCHDOG=1" {
		t.Errorf("with the first beat it hears %q", got)
	}
	beating, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-tick.C:
				s.Beat()
			case <-beating.Done():
				tick.Stop()
				return
			}
		}
	}()
	for range 3 {
		if got := heard(t, l); got != "WATCHDOG=1" {
			t.Errorf("while beats come it hears %q", got)
		}
	}
	stop()
	<-stopped
	// What was under way may still come.
	for {
		l.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := l.Read(make([]byte, 100)); err != nil {
			break
		}
	}
	quiet("when the loop stands")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := heard(t, l); got != "STOPPING=1" {
		t.Errorf("at the end it hears %q", got)
	}
}
