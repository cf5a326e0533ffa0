package monitor

import (
	"context"
	"time"
)

// Turns returns what runs one turn of the loop of m, for benchmarks, and what ends it. Turns follow each other without
// a pause, and each twentieth does what the loop does once a second.
func (m *Monitor) Turns(ctx context.Context) (turn, stop func(), err error) {
	m.init()
	l, err := m.newLoop()
	if err != nil {
		return nil, nil, err
	}
	go l.out.run()
	go l.keeper.run()
	l.start(ctx)
	n := 0
	turn = func() {
		if n++; n%20 == 0 {
			l.secondAt = time.Time{}
		}
		l.turn(ctx, time.Now())
		l.keep(false)
	}
	stop = func() {
		l.out.end()
		l.keeper.end()
		_ = l.out.wait(time.Second)
		l.keeper.wait(time.Second)
	}
	return turn, stop, nil
}

// Hold keeps what the loop and the page share, as a turn does while the zones decide, until the returned function is
// called.
func (m *Monitor) Hold() (letGo func()) {
	m.mu.Lock()
	return m.mu.Unlock
}

// MakeSafe does what the watchdog does with the outputs.
func (m *Monitor) MakeSafe(reason string) { m.rescue(reason) }
