package monitor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
)

// The bounds of what the loop does between two signs of life.
const (
	DefaultLate = 2 * time.Second
	openWithin  = 5 * time.Second
	stopWithin  = time.Second // from the end of the context to the return of Run
	lastMoment  = 50 * time.Millisecond
	rescueIn    = time.Second
)

// errStuck is why Run ends when the loop comes back after all.
var errStuck = errors.New("the loop was stuck")

// watch sees whether the loop is alive. It shares nothing with it but one number, so that whatever the loop hangs in
// does not hold it up.
type watch struct {
	late  time.Duration
	start time.Time
	due   atomic.Int64 // since start: when the loop has to be heard of next
}

func newWatch(late time.Duration) *watch {
	w := &watch{late: late, start: time.Now()}
	w.expect(0)
	return w
}

// expect says that the loop is alive and will say so again within d.
func (w *watch) expect(d time.Duration) { w.due.Store(int64(time.Since(w.start) + d)) }

// silent is for how long the loop has been overdue.
func (w *watch) silent() time.Duration { return time.Since(w.start) - time.Duration(w.due.Load()) }

// guard waits until ctx ends, or until the loop is later than it may be; then it makes the outputs safe by the second
// way and ends the process. Should Exit return, stuck tells the loop to end when it comes back.
func (m *Monitor) guard(ctx context.Context, w *watch, stuck context.CancelCauseFunc) {
	tick := time.NewTicker(w.late / 8)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if silent := w.silent(); silent > w.late {
			reason := fmt.Sprintf("the loop has not been heard of for %v", (silent).Round(time.Millisecond))
			m.Log.Error("outputs are made safe and the process ends", "reason", reason)
			m.rescue(reason)
			stuck(fmt.Errorf("%w: %s", errStuck, reason))
			m.Exit(1)
			return
		}
	}
}

// rescue makes the outputs safe without the loop: by a write to each chip of the open board, which a hung scan does not
// keep from the bus unless the bus itself hangs, and by Rescue. It waits for both, but not for ever.
func (m *Monitor) rescue(reason string) {
	var safe []safeLevels
	if levels := m.safeLevels.Load(); levels != nil {
		safe = *levels
	}
	ctx, cancel := context.WithTimeout(context.Background(), rescueIn)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, s := range safe {
			if err := s.bank.Write(ctx, s.levels); err != nil {
				m.Log.Error("a chip could not be made safe", "chip", s.bank.Chip(), "err", err)
			}
		}
	})
	if m.Rescue != nil {
		wg.Go(func() { m.Rescue(reason) })
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		m.Log.Error("the outputs could not be made safe in time", "reason", reason)
	}
}

// safeLevels is what a bank shows when all its outputs are safe.
type safeLevels struct {
	bank   board.Bank
	levels uint16
}

func safe(banks []board.Bank, outputs []relay.Output) []safeLevels {
	var all []safeLevels
	for _, b := range banks {
		s := safeLevels{bank: b}
		used := false
		for _, o := range outputs {
			found, bit := board.Find(banks, o.Pin)
			if found != b {
				continue
			}
			used = true
			if o.SafeOn == (o.Active == relay.ActiveHigh) {
				s.levels |= bit
			}
		}
		if used {
			all = append(all, s)
		}
	}
	return all
}
