// Package zone owns what the samples of one input mean: alarm, tamper, fault and restore. It is pure: samples in,
// events out. It owns no input and reads no clock.
package zone

import "time"

// Sample is one reading of an input.
type Sample struct {
	Time    time.Time
	Value   float64 // percent of the supply
	Unknown string  // why the value could not be read; empty when it was
}

// Kind is what happened to a zone.
type Kind string

// The kinds of event, in the alarm industry's words.
const (
	Alarm   Kind = "alarm"   // the detector says that something moves
	Tamper  Kind = "tamper"  // somebody meddles with the detector or its wire
	Fault   Kind = "fault"   // the input cannot be read, so nothing is known of the zone
	Restore Kind = "restore" // the zone is back to normal
)

// Event is a change of a zone.
type Event struct {
	Time   time.Time // of the sample that decided
	Kind   Kind
	Value  float64 // percent of the supply; the last known one for a fault
	Reason string
}

// State is where a zone is: the last event that has not been restored.
type State string

// The states. A zone that was never read is Normal: no event said otherwise.
const (
	Normal   State = "normal"
	InAlarm  State = "alarm"
	Tampered State = "tamper"
	Unfit    State = "fault"
)
