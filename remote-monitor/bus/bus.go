// Package bus owns the way to brokers: MQTT 5 with Home Assistant's discovery, AMQP 0-9-1 as the original spoke it,
// and the outbox on disk that bridges the time a broker is away. It does not own what a message means.
//
// It is larger than other rooms because two protocols live here; they share the contract in bus.go, the outbox in
// outbox.go and what every connection needs in link.go, and know nothing of each other.
package bus

import "time"

// Site is what is told of: the things a broker's clients see. It does not change while the program runs.
type Site struct {
	ID      string // for topics and ids: letters, digits, _ and -
	Name    string // for people
	Model   string // of the hardware, e.g. ADC Pi + IO Pi
	Version string // of the program
	Zones   []Zone
	Outputs []Output
	Groups  []string // arming groups that can be armed and disarmed; ids
}

// Zone is an input with a meaning.
type Zone struct {
	ID       string // for topics
	Name     string // for people, e.g. Hall motion; also the key of events
	Type     string // as the original has it: Motion Detector
	Location string
	Class    string // Home Assistant's device class: motion, door, window …; empty: motion
	Analog   bool   // has a voltage
	Group    string

	// What the original's consumers know it by. Empty ones are made as the original made them.
	Key    string // device_key: "<name> <type> (<location>)"
	Label  string // device_label: "<name> <type>"
	Tamper string // event_detail of a tamper: "tamper"
}

// Output is a relay.
type Output struct {
	ID        string
	Name      string
	Type      string // as the original has it
	Location  string
	Momentary bool   // a pulse output: a button rather than a switch
	Key       string // the original's device_key; empty: "<location> <type>"
}

// ZoneState is a zone as it stands.
type ZoneState struct {
	Time    time.Time
	State   string // normal, pre_alarm, alarm, tamper, fault
	Motion  bool   // a qualified pulse stands
	Alarm   bool
	Tamper  bool
	Problem bool
	Volts   float64
	Percent float64
	Detail  string // why, for people
}

// OutputState is an output as it was read back.
type OutputState struct {
	Time    time.Time
	On      bool
	Problem string
}

// GroupState is an arming group as it stands: disarmed, exit, armed, entry, alarm.
type GroupState struct {
	Time  time.Time
	State string
	By    string
}

// Event is one change to tell, in the words of the rooms it comes from. It is what the event topic and the outbox
// carry.
type Event struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"` // UTC
	Kind      string    `json:"event"`
	Zone      string    `json:"zone,omitempty"` // Zone.ID
	Output    string    `json:"output,omitempty"`
	Group     string    `json:"group,omitempty"`
	From      string    `json:"from,omitempty"`
	State     string    `json:"state,omitempty"`
	Seconds   float64   `json:"duration,omitempty"` // spent in From
	Percent   *float64  `json:"value,omitempty"`
	Volts     *float64  `json:"volts,omitempty"`
	Confirmed bool      `json:"confirmed,omitempty"`
	Quiet     bool      `json:"quiet,omitempty"` // the state changed, nobody is to be notified
	Pulses    int       `json:"pulses,omitempty"`
	By        string    `json:"by,omitempty"`
	Stage     string    `json:"stage,omitempty"` // of a candidate that came to nothing
	Until     time.Time `json:"until,omitzero"`  // UTC: the end of a delay, a quarantine, a walk test
	Reason    string    `json:"reason"`
	Replayed  bool      `json:"replayed,omitempty"` // it waited on disk
}

// Command is a wish that came over a broker.
type Command struct {
	ID       string
	Output   string // Output.ID, or empty
	Group    string // arming group, or empty
	Action   string // pulse, on, off; arm, disarm
	For      time.Duration
	IssuedAt time.Time
	TTL      time.Duration
	Source   string // mqtt or amqp
	Who      string // topic or routing key
	Retained bool

	// Answer sends an acknowledgement to whoever asked; never nil, never blocks, may be called more than once.
	Answer func(Ack)
}

// Ack answers a command.
type Ack struct {
	ID       string    `json:"id,omitempty"`
	Output   string    `json:"output,omitempty"`
	Group    string    `json:"group,omitempty"`
	Status   string    `json:"status"` // accepted, rejected, done, forced_off, failed
	Reason   string    `json:"reason,omitempty"`
	Seconds  float64   `json:"on_seconds,omitempty"`
	ReadBack bool      `json:"read_back"`
	Time     time.Time `json:"time"`
}

// Broker is one way out. Its methods but Run return at once and may be called from several goroutines, before, while
// and after Run runs. Run blocks until ctx ends; it connects by itself, again and again, and fails only when its
// settings can never work.
type Broker interface {
	Zone(id string, s ZoneState)
	Output(id string, s OutputState)
	Group(id string, s GroupState)
	Event(e Event)
	Heartbeat(now time.Time)

	// Health says whether the broker is connected, since when it is as it is, and what waits in the outbox.
	Health() Health
}

// Health of a broker.
type Health struct {
	Name      string // mqtt or amqp
	Connected bool
	Since     time.Time
	Waiting   int    // events in the outbox
	Dropped   uint64 // events lost because the outbox was full
	Trouble   string // why it is not connected
}
