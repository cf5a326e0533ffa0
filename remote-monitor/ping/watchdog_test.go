package ping

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// device is a file where a driver would be: it takes what it is fed.
func device(t *testing.T) (path string, fed func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, func() string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func TestTheHardwareWatchdogIsFedWhileBeatsCome(t *testing.T) {
	path, fed := device(t)
	synctest.Test(t, func(t *testing.T) {
		w := &Watchdog{Path: path}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		beat := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				w.Beat()
			}
		}
		// Starting may take a while.
		time.Sleep(20 * time.Second)
		n := len(fed())
		if n < 4 {
			t.Errorf("in 20 s before the first beat it is fed %d times", n)
		}
		// While beats come it is fed well within its time.
		for range 10 {
			beat(5 * time.Second)
			if now := len(fed()); now == n {
				t.Errorf("in 5 s it is not fed")
			} else {
				n = now
			}
		}
		// The loop stands: after what was under way, nothing more.
		time.Sleep(2 * time.Second)
		n = len(fed())
		time.Sleep(time.Hour)
		if now := len(fed()); now != n {
			t.Errorf("of a loop that stands it is fed %d times", now-n)
		}
		beat(5 * time.Second)
		if now := len(fed()); now == n {
			t.Error("it is not fed again when the loop goes on")
		}
		if strings.Contains(fed(), "V") {
			t.Error("it was stopped while the program ran")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s := fed(); strings.Count(s, "V") != 1 || !strings.HasSuffix(s, "V") {
			t.Errorf("an orderly end writes %q", s)
		}
	})
}

func TestALoopThatNeverBeatsIsNotFedForEver(t *testing.T) {
	path, fed := device(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- (&Watchdog{Path: path}).Run(ctx) }()
		time.Sleep(firstBeatIn + time.Second)
		n := len(fed())
		time.Sleep(time.Hour)
		if now := len(fed()); n == 0 || now != n {
			t.Errorf("it is fed %d times in the first minute and %d times later", n, now-n)
		}
		cancel()
		<-done
	})
}

func TestAWatchdogThatCannotBeOpenedOrFedSaysSo(t *testing.T) {
	err := (&Watchdog{Path: filepath.Join(t.TempDir(), "none")}).Run(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "open the hardware watchdog: ") {
		t.Errorf("it ends with %v", err)
	}
	// /dev/full takes nothing.
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full")
	}
	w := &Watchdog{Path: "/dev/full", Timeout: 100 * time.Millisecond}
	err = w.Run(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "feed the hardware watchdog: ") || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		t.Errorf("it ends with %v", err)
	}
}
