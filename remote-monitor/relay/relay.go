// Package relay owns outputs that go off by themselves: how long each may be on, what may be on together, commands
// and their acknowledgements, and the safe state. It does not own who decides that one goes on.
//
// On and off are meant as the load sees them. An output with SafeOn is at rest when it is on: for it Pulse and Off are
// what is limited, and everything said below of on holds for off.
package relay

import (
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
)

// Level is which level of the line means on.
type Level string

// The levels.
const (
	ActiveHigh Level = ""
	ActiveLow  Level = "low"
)

// Retrigger is what a command for an output that is on already does.
type Retrigger string

// The retriggers.
const (
	Extend  Retrigger = ""        // on until the later of the two ends, but never longer than MaxOn from the first
	Ignore  Retrigger = "ignore"  // acknowledged, and nothing changes
	Restart Retrigger = "restart" // MaxOn counts anew from now
)

// Over is what happens to a command for longer than MaxOn.
type Over string

// The choices.
const (
	Reject Over = ""      // rejected, with a reason
	Clamp  Over = "clamp" // shortened to MaxOn
)

// The bounds of every output.
const (
	DefaultMaxOn = 10 * time.Second
	LongestMaxOn = time.Hour
	DefaultOn    = time.Second
	DefaultTTL   = 30 * time.Second
	DefaultDead  = 500 * time.Millisecond
)

// Output describes one output. The zero values of all fields but Name and Pin mean the defaults given there.
type Output struct {
	Name string // unique, for machines: letters, digits, _ and -
	Pin  board.Pin

	Active   Level
	SafeOn   bool          // its safe state is on; its relay should be wired so that no power is on, too
	MaxOn    time.Duration // DefaultMaxOn; more than LongestMaxOn is refused unless Latching
	On       time.Duration // of a command that gives no time; DefaultOn
	Over     Over
	Latching bool          // may be on for ever, as long as its lease is renewed
	Lease    time.Duration // Latching: off when no command came for so long; 0 is refused for a Latching output

	Retrigger  Retrigger
	Exclusive  string        // outputs of one such group are never on together, and Dead passes between them
	Dead       time.Duration // DefaultDead
	MinOff     time.Duration // least time off between two times on; 0: none
	PerMinute  int           // most times on in a minute; 0: 30
	Sources    []string      // who may command it: "rule", "mqtt", "amqp", "page", "schedule"; nil: all
	PulledDown bool          // the line has a pull-down in hardware, so that ActiveHigh is safe on a chip that powers up high
}

// Momentary tells that the output is for pulses: it goes off within seconds by itself, so that nobody has to turn it
// off. A siren that may sound for minutes is none.
func (o Output) Momentary() bool { return !o.Latching && o.MaxOn <= DefaultMaxOn }

// Config is all outputs.
type Config struct {
	Outputs         []Output
	MaxSimultaneous int // outputs on at once, over all; 0: no limit
}

// Action is what a command wants.
type Action string

// The actions.
const (
	Pulse Action = "pulse" // on for Command.For, then off
	On    Action = "on"    // on until off, the lease's end or MaxOn
	Off   Action = "off"
)

// Command is a wish.
type Command struct {
	ID       string // idempotent under this; empty for local rules, and the bus makes one for the original's commands
	Output   string
	Action   Action
	For      time.Duration // 0: the output's own
	IssuedAt time.Time     // by the sender's clock; zero: unknown
	TTL      time.Duration // 0: DefaultTTL
	Source   string        // "rule", "mqtt", …
	Who      string        // for the log: the rule, the topic, the address
	Retained bool          // came from a broker's memory: refused
	Ref      uint64        // the caller's own, given back in Ack.Command; it means nothing here, and a duplicate's answer carries the duplicate's
}

// AckStatus is what became of a command.
type AckStatus string

// The statuses. Accepted is followed by one of the three after it; Rejected is final.
const (
	Accepted  AckStatus = "accepted"
	Rejected  AckStatus = "rejected"
	Done      AckStatus = "done"
	ForcedOff AckStatus = "forced_off"
	Failed    AckStatus = "failed"
)

// Ack answers a command.
type Ack struct {
	Command  Command
	Status   AckStatus
	Reason   string        // for people; empty when all is well
	On       time.Duration // measured, of Done, ForcedOff and Failed
	ReadBack bool          // the pin was read and showed what it should
	Time     time.Time
	Again    bool // the answer to a duplicate: the first answer once more
}

// EventKind is what happened to outputs outside of commands.
type EventKind string

// The kinds of event.
const (
	TurnedOn      EventKind = "on"                 // read back
	TurnedOff     EventKind = "off"                // read back
	Forced        EventKind = "forced_off"         // an output went off before its time; the reason says why
	FoundOn       EventKind = "found_energised"    // at the start an output was on
	Mismatch      EventKind = "output_fault"       // a pin does not show what it is told, twice
	Unconfirmed   EventKind = "output_unconfirmed" // the bus fails while an output should go off; repeated
	ExpanderReset EventKind = "expander_reset"     // an expander lost its power or its registers
	Recovered     EventKind = "output_restore"
)

// Event is one change of an output.
type Event struct {
	Time   time.Time
	Kind   EventKind
	Output string // empty: of a chip
	Chip   string
	Reason string
	Cause  Cause         // of Forced
	On     time.Duration // of TurnedOff and Forced: how long it was on
}

// Cause is why an output was forced off, in one word, for metrics.
type Cause string

// The causes.
const (
	ByLease Cause = "lease" // nobody renewed it
	ByLimit Cause = "limit" // on for MaxOn
	ByFault Cause = "fault" // its pin does not show what it is told
	ByReset Cause = "reset" // its chip lost its power or its registers
	ByBus   Cause = "bus"   // its chip or the board did not answer
	BySafe  Cause = "safe"  // all outputs went safe: a stop, a panic, a loop that hangs
)

// Status is an output as people look at it.
type Status struct {
	Name    string
	On      bool // from read-back
	Wanted  bool
	Since   time.Time
	Until   time.Time // when it goes off by itself; zero when it is off
	Fault   string    // empty when it works
	Source  string    // of the command that turned it on
	TotalOn time.Duration
}
