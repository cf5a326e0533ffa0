package zone

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Constants of the legacy profile.
const (
	// Tolerance is how far a value may be from a level and still count as that level, in points of percent.
	Tolerance = 10
	// UnknownFor is how long an input may be unreadable before its zone is at fault.
	UnknownFor = 3 * time.Second
)

// Legacy is the profile of the original Remote Monitor: a value more than Tolerance from the normal level is an
// alarm, at once and from a single sample; near the tamper level it is a tamper. A level that has been told is not
// told again while it stays within Tolerance of where it was. The original never says that a zone is back to normal,
// and ends when an input cannot be read; here these are a Restore and a Fault.
//
// Set the exported fields before the first Feed. It is not safe for concurrent use.
type Legacy struct {
	Normal int    // percent of the supply when all is quiet
	Tamper *int   // percent of the supply when somebody meddles; nil if that cannot be told from an alarm
	Label  string // what a tamper is called

	told    *level    // what was told last, nil when all is quiet
	unknown time.Time // of the first of the samples that could not be read, zero after one that could
	fault   bool
	last    float64 // known value
}

// level is an abnormal value that was told.
type level struct {
	value  float64
	tamper bool
}

// Feed takes samples in the order of their times and returns what they changed. How samples are spread over calls
// makes no difference.
func (z *Legacy) Feed(samples ...Sample) []Event {
	var events []Event
	for _, s := range samples {
		if e, ok := z.step(s); ok {
			events = append(events, e)
		}
	}
	return events
}

// State is where the zone is after the samples it was fed.
func (z *Legacy) State() State {
	switch {
	case z.fault:
		return Unfit
	case z.told == nil:
		return Normal
	case z.told.tamper:
		return Tampered
	default:
		return InAlarm
	}
}

func (z *Legacy) step(s Sample) (Event, bool) {
	if s.Unknown == "" && (math.IsNaN(s.Value) || math.IsInf(s.Value, 0)) {
		s.Unknown = "the value is not a number"
	}
	if s.Unknown != "" {
		return z.unread(s)
	}
	wasFault := z.fault
	z.unknown, z.fault, z.last = time.Time{}, false, s.Value

	if near(s.Value, float64(z.Normal)) {
		quiet := z.told == nil && !wasFault
		z.told = nil
		return z.event(s, Restore, fmt.Sprintf("back to normal, which is %d %%", z.Normal)), !quiet
	}
	now := level{value: s.Value, tamper: z.Tamper != nil && near(s.Value, float64(*z.Tamper))}
	if z.told != nil && now.tamper == z.told.tamper && near(now.value, z.told.value) {
		return Event{}, false
	}
	z.told = &now
	if now.tamper {
		return z.event(s, Tamper, fmt.Sprintf("%s: near %d %%", z.Label, *z.Tamper)), true
	}
	away := math.Abs(s.Value - float64(z.Normal))
	return z.event(s, Alarm, fmt.Sprintf("%s points from normal, which is %d %%", strconv.FormatFloat(away, 'f', 1, 64), z.Normal)), true
}

// unread is the step of a sample without a value: it is neither normal nor an alarm.
func (z *Legacy) unread(s Sample) (Event, bool) {
	if z.unknown.IsZero() {
		z.unknown = s.Time
	}
	if z.fault || s.Time.Sub(z.unknown) < UnknownFor {
		return Event{}, false
	}
	// What is wrong after the fault is told again: nobody knows what happened in between.
	z.fault, z.told = true, nil
	s.Value = z.last
	return z.event(s, Fault, s.Unknown), true
}

func (z *Legacy) event(s Sample, k Kind, reason string) Event {
	return Event{Time: s.Time, Kind: k, Value: s.Value, Reason: reason}
}

func near(a, b float64) bool { return math.Abs(a-b) <= Tolerance }
