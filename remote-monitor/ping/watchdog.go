package ping

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The hardware watchdog's times. 15 s is the longest that a Raspberry Pi's can.
const (
	hardware    = 15 * time.Second
	firstBeatIn = time.Minute
)

// Watchdog feeds the hardware watchdog while beats come: if the loop, the program or the kernel hangs, the computer
// starts anew. A program that dies leaves it running, so that its successor has some seconds to take over; only an
// orderly end stops it.
type Watchdog struct {
	Path    string        // /dev/watchdog
	Timeout time.Duration // 0: 15 s
	Log     *slog.Logger  // nil: nothing is logged

	beats atomic.Uint64
}

// Beat is called by the loop. It never waits.
func (w *Watchdog) Beat() { w.beats.Add(1) }

// Run opens the watchdog, which starts it, and feeds it until ctx ends. It fails when it cannot be opened or fed. Until
// the first beat, a minute at most, it is fed without one: hardware that takes long to start must not keep the computer
// starting for ever.
func (w *Watchdog) Run(ctx context.Context) (err error) {
	log := w.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f, err := os.OpenFile(w.Path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open the hardware watchdog: %w", err)
	}
	timeout, err := setTimeout(f, or(w.Timeout, hardware))
	if err != nil {
		// Not every driver can be set; its own time holds, and feeding it often is never wrong.
		log.Warn("hardware watchdog keeps its own time", "path", w.Path, "err", err)
	}
	log.Info("hardware watchdog runs", "path", w.Path, "timeout", timeout)

	tick := time.NewTicker(min(timeout/5, time.Second))
	defer tick.Stop()
	start, fed := time.Now(), time.Now()
	var heard uint64
	for {
		select {
		case <-ctx.Done():
			// The letter V before closing is the driver's sign that it is meant.
			_, err := f.Write([]byte("V"))
			if err = errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("stop the hardware watchdog: %w", err)
			}
			return nil
		case <-tick.C:
		}
		now := w.beats.Load()
		if now == heard && !(heard == 0 && time.Since(start) < firstBeatIn) {
			continue
		}
		heard = now
		if time.Since(fed) < timeout/4 {
			continue
		}
		if _, err := f.Write([]byte{0}); err != nil {
			return errors.Join(fmt.Errorf("feed the hardware watchdog: %w", err), f.Close())
		}
		fed = time.Now()
	}
}

// setTimeout asks for a time and returns the one that holds: drivers round.
func setTimeout(f *os.File, want time.Duration) (time.Duration, error) {
	c, err := f.SyscallConn()
	if err != nil {
		return want, err
	}
	holds := want
	var failed error
	err = c.Control(func(fd uintptr) {
		failed = unix.IoctlSetPointerInt(int(fd), unix.WDIOC_SETTIMEOUT, int(max(1, want/time.Second)))
		if s, err := unix.IoctlGetInt(int(fd), unix.WDIOC_GETTIMEOUT); err == nil && s > 0 {
			holds = time.Duration(s) * time.Second
		}
	})
	return holds, errors.Join(err, failed)
}
