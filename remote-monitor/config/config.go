// Package config owns what Remote Monitor is told: one YAML file, the original's environment and its app.conf, read
// into one configuration that has been checked. It does not own running it, nor where secrets come from.
//
// What wins: a variable is used instead of the same setting of the YAML file, and a note says so, because a variable
// belongs to one device and the file to all. Zones and outputs are lists, of which nobody could say what winning
// means: the file describes them, or INPUT_… and OUTPUT_… (or app.conf) do; both is an error. Zones in one and
// outputs in the other go together. app.conf says less than a variable, and its boards are those of the original's
// wiring, which also stands where inputs come from variables alone.
//
// It is larger than other rooms because three formats meet in it. yaml.go and values.go read, file.go and
// integrations.go are the YAML format, appconf.go, original.go and variables.go are the original's; all of them fill
// one draft, which chips.go and check.go look over, finish.go and simulate.go complete, and describe.go and tell.go
// put in words.
package config

import (
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Config is a configuration that makes sense: every name it mentions exists, every value is within its bounds.
type Config struct {
	Device   string         // name of this device, for people and brokers
	TimeZone *time.Location // of schedules and rules
	Data     string         // folder for what is kept over restarts; empty: nothing is kept

	Board       board.Config
	Supply      board.Pin     // input that measures the supply of the loops; zero: none
	SupplyScale float64       // volts of the supply for a volt at that input
	Interval    time.Duration // between two scans
	Samples     bool          // the built-in example zones run, because a simulated board has no inputs given
	Zones       []Zone        // in the order of Site.Zones
	Site        zone.Config   // Site.Zones[i] are the settings of Zones[i]
	Outputs     []Output
	Relay       relay.Config // Relay.Outputs[i] are the settings of Outputs[i]
	Rules       []Rule

	Heartbeat time.Duration // between two signs of life on standard output and on the brokers
	MQTT      *MQTT         // nil: off
	AMQP      *AMQP         // nil: off
	Page      *Page         // nil: off
	Ping      Ping
	Syslog    *Syslog // nil: off
	Sentry    string  // DSN; empty: off
	Watchdog  string  // /dev/watchdog; empty: off
	NoStart   bool    // stay up and do nothing: somebody wants to look at the device

	// Notes are what a person should know and nothing fails for: variables that have no use here, and defaults that
	// were taken because something was not given. One sentence each.
	Notes []string
}

// Zone is an input with a meaning, as people and brokers know it. Its settings are in Site.
type Zone struct {
	ID       string // of Name: letters, digits, _ and -
	Name     string // also zone.Settings.Name
	Pin      board.Pin
	Invert   bool   // a line is active when it is low
	Type     string // as the original has it: Motion Detector
	Location string
	Class    string // Home Assistant's device class
	Key      string // the original's device_key: "<name> <type> (<location>)"
	Label    string // the original's device_label: "<name> <type>"
	Tamper   string // what a tamper is called, for event_detail
}

// Output is a relay as people and brokers know it. Its settings are in Relay.
type Output struct {
	ID       string // also relay.Output.Name
	Name     string
	Type     string
	Location string
	Key      string // the original's device_key: "<location> <type>"
}

// Rule is a local decision: when something happens to a zone, and all conditions hold, outputs are driven.
type Rule struct {
	Name     string
	Zones    []string     // names; any of them
	On       []zone.Kind  // any of them: motion, alarm, pre_alarm, confirmed, tamper, fault, restore
	Groups   []string     // arming groups whose events count (On: armed, disarmed, entry, exit)
	Armed    []string     // groups that have to be armed (or in alarm)
	Disarmed []string     // groups that have to be disarmed
	Between  []zone.Span  // time of the week; none: always
	Outputs  []string     // IDs
	Action   relay.Action // pulse, on or off
	For      time.Duration
	Every    time.Duration // least time between two runs of the rule; 0: none
}

// MQTT is how to reach an MQTT broker.
type MQTT struct {
	URL        string // mqtt://, mqtts://, ws:// or wss://
	User       string
	Password   string
	ClientID   string
	CA         string // file; empty: the system's
	Cert, Key  string // files; empty: none
	Insecure   bool   // accept any certificate
	Prefix     string // of topics; "rm"
	Discovery  string // Home Assistant's prefix, "homeassistant"; "-": off
	Components bool   // discovery by one message a component, for old versions of Home Assistant
	Expire     time.Duration
	Outbox     int // events kept on disk
}

// AMQP is how to reach a RabbitMQ broker as the original does.
type AMQP struct {
	URL      string // amqp:// or amqps://, user and password included
	Exchange string // home_automation; commands come from <Exchange>_control
	Topic    string // ioboard
	Level    bool   // mark an input triggered in every message while it alarms, not only in the first
	CA       string
	Outbox   int
}

// Page is the status page and the metrics.
type Page struct {
	Listen  string // host:port
	Token   string // for buttons; empty: no buttons
	Metrics bool
}

// Ping is who is told from inside the loop that all is well.
type Ping struct {
	URL      string        // Healthchecks; empty: none
	Cronitor string        // Cronitor's monitor key; empty: none
	Every    time.Duration // 5 min
}

// Syslog is where logs and events go besides standard output.
type Syslog struct {
	Network string // udp, tcp or tls
	Address string
	CA      string
}
