// Package monitor owns the loop: it scans the board, gives each zone its samples and says what changed. It does not
// own what a sample means or where events go.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Zone decides what the samples of one input mean. It is fed in the order of time, by one goroutine.
type Zone interface {
	Feed(...zone.Sample) []zone.Event
	State() zone.State
}

// Input is an input of the board that has a meaning.
type Input struct {
	Number int
	Name   string // of its zone
	Zone   Zone
}

// Monitor watches a board. Set all fields; call Run once.
type Monitor struct {
	Version, Device string
	Greeting        string // reason of the start event

	// Open makes the board ready. It is called again, ever more rarely, until it succeeds, and after the board was away.
	Open      func(context.Context) (board.Board, error)
	Inputs    []Input
	Interval  time.Duration // between two scans
	Heartbeat time.Duration // between two signs of life
	Emit      func(Event) error

	board   board.Board
	trouble string        // why there is no board, as it was told
	retry   time.Time     // when to open the board
	pause   time.Duration // before the retry after that
}

// Pauses between two attempts to open a board.
const (
	firstPause = time.Second
	longPause  = time.Minute
)

// Run emits a start event, watches the board until ctx ends, and emits a stop event. It fails only if Emit does.
func (m *Monitor) Run(ctx context.Context) error {
	zones := len(m.Inputs)
	if err := m.Emit(Event{Time: time.Now(), Event: Start, Version: m.Version, Device: m.Device, Zones: &zones, Reason: m.Greeting}); err != nil {
		return err
	}
	scan := time.NewTicker(m.Interval)
	defer scan.Stop()
	beat := time.NewTicker(m.Heartbeat)
	defer beat.Stop()

	var err error
	for err == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-scan.C:
			err = m.look(ctx)
		case <-beat.C:
			err = m.Emit(Event{Time: time.Now(), Event: Heartbeat, Reason: m.status()})
		}
	}
	if m.board != nil {
		err = errors.Join(err, m.board.Close())
	}
	if err != nil {
		return err
	}
	return m.Emit(Event{Time: time.Now(), Event: Stop, Reason: context.Cause(ctx).Error()})
}

// look scans the board once, or tries to get it back.
func (m *Monitor) look(ctx context.Context) error {
	if m.board == nil {
		if time.Now().Before(m.retry) {
			return nil
		}
		b, err := m.Open(ctx)
		if err != nil {
			return m.fail(ctx, err)
		}
		m.board = b
	}
	readings, err := m.board.Scan(ctx)
	if err != nil {
		err = errors.Join(err, m.board.Close())
		m.board = nil
		return m.fail(ctx, err)
	}
	if m.trouble != "" {
		m.trouble = ""
		if err := m.Emit(Event{Time: time.Now(), Event: Restore, Reason: "the board answers: " + m.board.Name()}); err != nil {
			return err
		}
	}
	m.pause = 0
	return m.feed(readings)
}

// fail plans the next attempt and says why there is no board, once for each reason.
func (m *Monitor) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	now := time.Now()
	m.pause = min(max(2*m.pause, firstPause), longPause)
	m.retry = now.Add(m.pause)
	reason := strings.ReplaceAll(err.Error(), "\n", "; ")
	if reason == m.trouble {
		return nil
	}
	m.trouble = reason
	return m.Emit(Event{Time: now, Event: Fault, Reason: reason})
}

// feed gives each zone its reading. A zone the board has none for is told so.
func (m *Monitor) feed(readings []board.Reading) error {
	now := time.Now()
	for _, in := range m.Inputs {
		s := zone.Sample{Time: now, Unknown: fmt.Sprintf("the board has no input %d", in.Number)}
		for _, r := range readings {
			if r.Input == in.Number {
				s = zone.Sample{Time: r.Time, Value: r.Volts / board.FullScale * 100, Unknown: r.Unknown}
			}
		}
		for _, e := range in.Zone.Feed(s) {
			value := math.Round(e.Value*10) / 10
			if err := m.Emit(Event{Time: e.Time, Event: Kind(e.Kind), Zone: in.Name, Input: in.Number, Value: &value, Reason: e.Reason}); err != nil {
				return err
			}
		}
	}
	return nil
}

// status is the house in a few words.
func (m *Monitor) status() string {
	if m.trouble != "" {
		return m.trouble
	}
	var words []string
	for _, in := range m.Inputs {
		if s := in.Zone.State(); s != zone.Normal {
			words = append(words, fmt.Sprintf("%s: %s", in.Name, s))
		}
	}
	if len(words) == 0 {
		return "all zones are normal"
	}
	return strings.Join(words, "; ")
}
