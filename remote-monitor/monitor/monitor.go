// Package monitor owns the loop: it scans the board, has the zones decide, follows the local rules, drives the outputs
// and tells the brokers, in this order. It does not own what a sample means, how long an output may be on, or how a
// broker is spoken to.
//
// It is longer than a room should be, because all of it hangs on one goroutine: run.go and turn.go are the loop,
// rules.go and command.go what moves outputs, tell.go and snapshot.go what is said of it, watch.go and keep.go what
// must work when the loop does not.
package monitor

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Monitor watches one site. Set the fields, then call Run once. Config, Open and Emit are needed; the others may be
// left out. The methods but Run may be called from any goroutine, before, while and after Run runs.
type Monitor struct {
	Version  string
	Greeting string // reason of the start line
	Config   config.Config

	// Open makes the board ready. It is called again, ever more rarely, until it succeeds, and after the board was
	// away. It returns when its context ends.
	Open func(context.Context) (board.Board, error)

	// Brokers are told of everything. Whoever runs them ends them after Run has returned, so that they can pass its
	// last words on.
	Brokers   []bus.Broker
	Observers []Observer

	// Emit writes one line: a Line or a bus.Event. It is called by one goroutine, which is not the loop: lines that
	// nobody reads hold nothing up. An error ends the monitor.
	Emit func(line any) error

	// Beat is called from inside the loop after a turn, once a second at most, and returns at once: who is waiting for
	// it knows that the loop turns. Status is what the heartbeat line says.
	Beat func(now time.Time, healthy bool, status string)

	// OnScan is given what the zones are given, before they are: to record it. Called from inside the loop; it may keep
	// nothing of the scan.
	OnScan func(zone.Scan)

	// Undervoltage tells that the computer's own supply is too low; called every few seconds from inside the loop.
	Undervoltage func() bool

	// Rescue turns the outputs off by a way of its own, a fresh handle of the bus for instance, when the loop is stuck
	// or its own way failed, while the monitor tries it with the open board. It has a second.
	Rescue func(reason string)

	// Exit ends the process after the loop got stuck; nil: os.Exit.
	Exit func(code int)

	// Panicked is told of a panic in the loop, after the outputs are safe.
	Panicked func(value any, stack []byte)

	State StateFile     // what survives a restart; zero: nothing does
	Late  time.Duration // how late the loop may be before it counts as stuck; 0: 2 s
	Log   *slog.Logger  // nil: nothing is logged

	once     sync.Once
	commands chan received // waiting for the loop

	safeLevels atomic.Pointer[[]safeLevels] // of the open board, for when the loop is stuck, be it with mu held

	mu   sync.Mutex // guards the fields below; never held while anything is waited for
	seen view
}

// init makes what the methods need before Run does.
func (m *Monitor) init() {
	m.once.Do(func() {
		if m.Log == nil {
			m.Log = slog.New(slog.DiscardHandler)
		}
		if m.Exit == nil {
			m.Exit = os.Exit
		}
		if m.Late == 0 {
			m.Late = DefaultLate
		}
		m.commands = make(chan received, waitingCommands)
		m.seen.init(m.Config)
	})
}

// Snapshot is everything as it stands, for the status page, the metrics and health checks. It shares nothing with the
// loop.
type Snapshot struct {
	Time    time.Time
	Started time.Time
	Version string
	Device  string
	Board   string  // name of the board
	Trouble string  // why the board is away; empty when it answers
	Supply  float64 // volts; 0 if it is not measured

	Zones   []ZoneView
	Groups  []zone.GroupStatus
	Outputs []OutputView
	Brokers []bus.Health
	Events  []bus.Event // the last 200, newest first; those that are Suppressed are in the zones

	Scans     uint64 // since the start
	LastScan  time.Time
	Lag       time.Duration // how late the last scan began
	Took      time.Duration // how long it took
	Healthy   bool          // scanned lately, every zone known, no output faulty
	Unhealthy string        // why not
}

// ZoneView is a zone with what people call it.
type ZoneView struct {
	zone.Status
	ID, Type, Location string
	Pin                board.Pin
}

// OutputView is an output with what people call it.
type OutputView struct {
	relay.Status
	ID, Type, Location string
	Label              string // Config's Output.Name
	Pin                board.Pin
	Momentary          bool
}

// Frame is the values of one scan, for pictures of the signals.
type Frame struct {
	Time   time.Time
	Values []float64 // percent, by zone; NaN where it is not known
}

// Observer is told what passes, from within the loop: its methods return at once. The readings are the board's, and good
// until they return.
type Observer interface {
	Scanned(took, lag time.Duration, readings []board.Reading)
	Zone(zone.Event)
	Output(relay.Event)
	Ack(relay.Ack)
}
