// Package zone owns what samples mean: motion, alarm, tamper, fault and restore, seen over all zones of a site
// together, and which of them are armed. It is pure: samples, commands and the time in, events out. It owns no input
// and reads no clock.
package zone

import "time"

// Signal is how an input tells its zone what the detector sees.
type Signal string

// The signals.
const (
	// Loop is a wire with end-of-line resistors: levels of voltage for normal, alarm, short and open.
	Loop Signal = "loop"
	// Analog is the amplified signal of a pyroelectric sensor, which swings around a baseline.
	Analog Signal = "analog"
	// Contact is a line that is scanned and is either active or not.
	Contact Signal = "contact"
	// Edges is a detector that reports its changes by itself; between two reports nothing is read.
	Edges Signal = "edges"
)

// Scan is one look at the site: what some or all zones read at one time.
type Scan struct {
	Time     time.Time
	Supply   float64 // measured supply of the loops, volts; 0 if there is no reference input, then it is taken as 5 V
	Readings []Reading
}

// Reading is what one zone's input said. A zone that a scan has no reading of stays as it was.
type Reading struct {
	Zone    int     // index into Config.Zones
	Volts   float64 // Loop and Analog
	Active  bool    // Contact and Edges
	Unknown string  // why the input could not be read; empty when it was. An unknown reading is neither normal nor alarm.
}

// Kind is what an event says.
type Kind string

// The kinds of event.
const (
	// Of a zone.
	Motion     Kind = "motion"     // a qualified pulse has begun; it says nothing about an intruder
	Still      Kind = "still"      // the pulse has ended
	PreAlarm   Kind = "pre_alarm"  // a candidate that wants confirmation by another zone
	Alarm      Kind = "alarm"      // the zone alarms; see Event.Confirmed and Event.Quiet
	Confirmed  Kind = "confirmed"  // another zone has seconded an alarm that was already told
	Tamper     Kind = "tamper"     // somebody meddles with the detector or its wire; told armed or not
	Fault      Kind = "fault"      // nothing can be known of the zone: unreadable, between bands, stuck
	Restore    Kind = "restore"    // back to normal from what Event.From says
	Silent     Kind = "silent"     // nothing has moved in the zone for days: is the detector alive?
	Suppressed Kind = "suppressed" // a candidate came to nothing; Event.Stage says where. For metrics and for people who tune.
	Quarantine Kind = "quarantine" // the zone's lone alarms are no longer believed, until Event.Until; Until zero: over
	Swinger    Kind = "swinger"    // the zone alarmed too often in this arming period and is left out; Until as above

	// Of a group.
	Exit     Kind = "exit"     // arming: the exit delay runs, until Event.Until
	Armed    Kind = "armed"    // the group is armed
	Entry    Kind = "entry"    // somebody came in: disarm until Event.Until, or it alarms
	Disarmed Kind = "disarmed" // the group is disarmed
	Refused  Kind = "refused"  // it could not be armed; the reason says why

	// Of the site.
	CommonMode Kind = "common_mode" // several inputs stepped at once, or the supply did: decisions are held
	Warm       Kind = "warm"        // the warm-up is over
	WalkTest   Kind = "walk_test"   // a walk test has begun (Until is set) or ended
)

// Stage names the stage of the pipeline that turned a candidate down.
type Stage string

// The stages, as numbered in docs/detection.md.
const (
	StageSpike      Stage = "spike"       // 2: gone after the median
	StageCommonMode Stage = "common_mode" // 3: stepped together with other inputs or the supply
	StageWidth      Stage = "width"       // 5: shorter than the least pulse
	StageCount      Stage = "count"       // 6: too few pulses in the window
	StageRefractory Stage = "refractory"  // 7: told less than the refractory time ago
	StageConfirm    Stage = "confirm"     // 8: the policy asks for a second zone and none came
	StageQuarantine Stage = "quarantine"  // 9: lone alarms of this zone were false before
	StageSwinger    Stage = "swinger"     // 9: too many alarms in this arming period
	StageWarmUp     Stage = "warm_up"     // 10: the detectors are still settling
	StageWalkTest   Stage = "walk_test"   // 10: somebody walks on purpose
	StageDisarmed   Stage = "disarmed"    // the group is not armed
)

// Event is one change.
type Event struct {
	ID    string    // unique and the same in each replay: the time and a number
	Time  time.Time // of the deciding sample, or of the deadline that passed
	Kind  Kind
	Zone  string // name of the zone; empty for a group or the site
	Group string // name of the group the zone belongs to, or that the event is about

	From     State         // of a zone: the state it leaves; empty when the state stays
	State    State         // of a zone: the state it is in from now
	Duration time.Duration // spent in From

	Percent float64 // of the supply, the value that decided; 0 or 100 for Contact and Edges
	Volts   float64

	Confirmed bool      // Alarm: a second zone saw it too
	Quiet     bool      // Alarm and its Restore: within the refractory time, so the state changes and nobody is to be notified
	Stage     Stage     // Suppressed: which stage turned the candidate down
	Until     time.Time // Exit, Entry, Quarantine, Swinger, WalkTest
	Reason    string    // for people, lower case, no full stop
	Pulses    int       // evidence: pulses within the window
	By        string    // evidence: the zone that seconded; of a group: who asked
}

// State is where a zone stands. Of several, the first in the order of the constants wins.
type State string

// The states.
const (
	Unfit      State = "fault"
	Tampered   State = "tamper"
	InAlarm    State = "alarm"
	InPreAlarm State = "pre_alarm"
	Normal     State = "normal"
)

// GroupState is where an arming group stands.
type GroupState string

// The states of a group.
const (
	GroupDisarmed GroupState = "disarmed"
	GroupExit     GroupState = "exit"  // armed when the exit delay is over
	GroupArmed    GroupState = "armed" // and quiet
	GroupEntry    GroupState = "entry" // alarms when the entry delay is over
	GroupAlarm    GroupState = "alarm" // a zone has alarmed since it was armed
)

// Status is a zone as people look at it.
type Status struct {
	Name, Group     string
	Signal          Signal
	State           State
	Since           time.Time // of State
	Motion          bool      // a qualified pulse stands
	LastMotion      time.Time // zero if never
	Known           bool      // the last reading was good
	Percent         float64   // after stages 1 and 2
	Volts           float64
	Baseline        float64 // Analog: percent; with Noise it says where the thresholds are
	Noise           float64 // Analog: one standard deviation, percent
	Thresholds      []Threshold
	Reason          string    // of State
	Quarantined     time.Time // until when; zero: it is not
	Swinger         bool
	WarmUp          bool
	Silent          bool
	Recent          []Event // the last few Suppressed, newest first
	AlarmsToday     int     // Alarm events that were not Quiet, in the last 24 hours
	SuppressedToday int     // candidates turned down in the last 24 hours
}

// Threshold is a line to draw in the picture of a zone's signal.
type Threshold struct {
	Name    string // of a band, "short", "normal", "alarm" or "open": one of its ends; of an analog signal "enter" or "leave"
	Percent float64
}

// GroupStatus is an arming group as people look at it.
type GroupStatus struct {
	Name  string
	State GroupState
	Since time.Time
	Until time.Time // of the delay that runs
	By    string    // who armed or disarmed it
}
