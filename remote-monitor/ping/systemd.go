package ping

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// Notify tells the service manager something, as sd_notify(3) has it: READY=1, WATCHDOG=1, STOPPING=1, STATUS=…, several
// of them with line ends between. Without a service manager that listens it does nothing.
func Notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	// A name with @ is an abstract socket, which net knows.
	if name[0] != '/' && name[0] != '@' {
		return fmt.Errorf("tell the service manager: cannot use the socket %q: want a path, or @ and a name", name)
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// WatchdogInterval is within what time the service manager wants to hear WATCHDOG=1; 0 if it does not.
func WatchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || us <= 0 || us > int64(24*time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}

// Service keeps the service manager up to date: ready with the first beat, alive while beats come, and stopping.
type Service struct {
	Log *slog.Logger // nil: nothing is logged

	beats atomic.Uint64
}

// Beat is called by the loop. It never waits.
func (s *Service) Beat() { s.beats.Add(1) }

// Run tells until ctx ends, and then that the program stops. It returns at once without a service manager.
func (s *Service) Run(ctx context.Context) error {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	every := 500 * time.Millisecond
	if w := WatchdogInterval(); w > 0 {
		every = min(every, w/3)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var heard uint64
	var last time.Time // told that it lives
	for {
		select {
		case <-ctx.Done():
			s.tell("STOPPING=1")
			return nil
		case <-tick.C:
		}
		now := s.beats.Load()
		switch within := WatchdogInterval(); {
		case now == heard:
			// The loop stands; the service manager will notice.
		case last.IsZero():
			s.tell("READY=1\nWATCHDOG=1")
			last = time.Now()
		case within > 0 && time.Since(last) >= within/3:
			s.tell("WATCHDOG=1")
			last = time.Now()
		}
		heard = now
	}
}

func (s *Service) tell(state string) {
	if err := Notify(state); err != nil && s.Log != nil {
		s.Log.Warn("service manager does not listen", "err", err)
	}
}
