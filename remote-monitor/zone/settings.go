package zone

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Config is a site: its zones and its arming groups. The zero values of all fields mean the defaults given there.
type Config struct {
	Zones  []Settings
	Groups []Group // a group that a zone names and that is not here is always armed

	WarmUp     time.Duration // after the start and after the supply came back: no motion is believed; 60 s, negative: none
	CommonHold time.Duration // how long decisions are held when several inputs step in one scan; 500 ms, negative: never
	Supply     float64       // nominal volts of the supply; 5
}

// Profile chooses the algorithm of a zone.
type Profile string

// The profiles.
const (
	Pipeline Profile = ""       // the ten stages
	Legacy   Profile = "legacy" // the original's: a value more than 10 points from normal is an alarm
)

// Sensitivity is a preset of pulse count and window.
type Sensitivity string

// The presets. Pulses and Window override them.
const (
	Low    Sensitivity = "low"    // 3 pulses in 60 s
	Medium Sensitivity = "normal" // 2 pulses in 30 s
	High   Sensitivity = "high"   // each pulse
)

// Policy says what a candidate of one zone alone is worth.
type Policy string

// The policies.
const (
	Single  Policy = "single"          // an alarm, whatever the zone's record
	Prefer  Policy = "prefer_confirm"  // an alarm, unless the zone is in quarantine; a second zone makes it faster and surer
	Require Policy = "require_confirm" // a pre-alarm until a second zone seconds it
)

// Settings describe one zone. The zero values of all fields but Name mean the defaults given there.
type Settings struct {
	Name    string // unique
	Group   string // arming group; empty: always armed
	Signal  Signal // Loop
	Profile Profile

	Levels *Levels  // Loop; nil: those of the resistors 4k7, 2k2, 4k7
	Filter Filter   // Loop and Analog: MedianOfThree
	Normal float64  // Legacy: percent of the supply when all is quiet
	Tamper *float64 // Legacy: percent when somebody meddles; nil if that cannot be told from an alarm
	Label  string   // Legacy and Around: what a tamper is called; tamper

	// Analog.
	Enter    float64       // how many times the noise is motion; 6
	Leave    float64       // below how many times the noise it is over; 3
	Baseline time.Duration // time constant of the baseline; 30 s
	Bits     int           // resolution of the converter: the floor of the noise is 4 steps; 12
	Bipolar  bool          // pulses count only if they alternate in polarity

	Sensitivity Sensitivity   // Medium
	Pulses      int           // 0: as Sensitivity says
	Window      time.Duration // 0: as Sensitivity says
	MinWidth    time.Duration // least pulse: 100 ms, for Edges 0; negative: 0
	MergeGap    time.Duration // pulses closer than this are one; 200 ms, negative: none
	LongPulse   time.Duration // one pulse this long is enough; 0: off
	Strong      float64       // Analog: one pulse of this many thresholds is enough; 5, negative: off
	Stuck       time.Duration // active for longer is a fault; 10 min, negative: never

	Hold       time.Duration // an alarm lasts at least this long; 1 s
	Quiet      time.Duration // and until nothing moved for this long; 10 s
	Refractory time.Duration // least time between two notifications; 60 s, negative: none

	Policy      Policy        // Prefer
	ConfirmWith []string      // zones that may second; nil: all others; empty and not nil: none
	Confirm     time.Duration // how far apart the two may be; 120 s
	Sequential  time.Duration // alarms of two zones this close confirm each other; 30 min

	QuarantineAfter int           // unconfirmed alarms within QuarantineFor; 1, negative: never
	QuarantineFor   time.Duration // 6 h
	LonePulses      int           // pulses nobody seconded, within LoneWindow; 2, negative: never
	LoneWindow      time.Duration // 3 h
	SwingerAfter    int           // unconfirmed alarms in one arming period; 2, negative: never
	SwingerQuiet    time.Duration // restored after this long without a pulse; 8 h
	SilentAfter     time.Duration // 0: never told
	EntryDelay      bool          // when armed, motion here starts the entry delay of the group instead of an alarm
	ExitRoute       bool          // a fault or a tamper here is no reason to refuse arming: people go through it on their way out
}

// Filter is how single samples that are out of line are taken out.
type Filter string

// The filters.
const (
	MedianOfThree Filter = ""       // the median of the last three: one sample later
	Hampel        Filter = "hampel" // a sample far from the median of five is replaced by it: two samples later, and smoother signals stay as they are
	NoFilter      Filter = "none"
)

// Group is what is armed and disarmed together.
type Group struct {
	Name       string
	ExitDelay  time.Duration // 60 s, negative: none
	EntryDelay time.Duration // 30 s, negative: none; for zones that have Settings.EntryDelay
	Armed      bool          // at the first start; later it is as it was left
	Schedule   []Span        // when it is armed by the clock
	Input      string        // zone of a key switch: armed while it is active; it alarms nothing itself
	Force      bool          // arm although a zone is not normal; that zone is left out until it restores
}

// Span is a time of the week, in the site's zone of time. From after To goes over midnight.
type Span struct {
	Days     []time.Weekday // of From; empty: every day
	From, To time.Duration  // since midnight
}

// day is for bounds.
const day = 24 * time.Hour

// Filled is the settings as a Panel takes them: with the defaults in place of zero values and zero in place of negative
// ones.
func (s Settings) Filled() Settings {
	length := func(d *time.Duration, otherwise time.Duration) {
		switch {
		case *d == 0:
			*d = otherwise
		case *d < 0:
			*d = 0
		}
	}
	count := func(n *int, otherwise int) {
		switch {
		case *n == 0:
			*n = otherwise
		case *n < 0:
			*n = 0
		}
	}
	number := func(f *float64, otherwise float64) {
		switch {
		case *f == 0:
			*f = otherwise
		case *f < 0:
			*f = 0
		}
	}
	if s.Signal == "" {
		s.Signal = Loop
	}
	if s.Sensitivity == "" {
		s.Sensitivity = Medium
	}
	if s.Policy == "" {
		s.Policy = Prefer
	}
	if s.Label == "" {
		s.Label = "tamper"
	}
	pulses, window := 2, 30*time.Second
	switch s.Sensitivity {
	case Low:
		pulses, window = 3, 60*time.Second
	case High:
		pulses = 1
	}
	count(&s.Pulses, pulses)
	length(&s.Window, window)
	width := 100 * time.Millisecond
	if s.Signal == Edges {
		width = 0
	}
	length(&s.MinWidth, width)
	length(&s.MergeGap, 200*time.Millisecond)
	length(&s.LongPulse, 0)
	length(&s.Stuck, 10*time.Minute)
	number(&s.Strong, 5)
	number(&s.Enter, 6)
	number(&s.Leave, 3)
	length(&s.Baseline, 30*time.Second)
	count(&s.Bits, 12)
	length(&s.Hold, time.Second)
	length(&s.Quiet, 10*time.Second)
	length(&s.Refractory, 60*time.Second)
	length(&s.Confirm, 120*time.Second)
	length(&s.Sequential, 30*time.Minute)
	count(&s.QuarantineAfter, 1)
	length(&s.QuarantineFor, 6*time.Hour)
	count(&s.LonePulses, 2)
	length(&s.LoneWindow, 3*time.Hour)
	count(&s.SwingerAfter, 2)
	length(&s.SwingerQuiet, 8*time.Hour)
	length(&s.SilentAfter, 0)
	if s.Levels == nil {
		l, _ := Resistors{}.Levels()
		s.Levels = &l
	}
	if s.Levels.Hysteresis == 0 {
		l := *s.Levels
		l.Hysteresis = 2
		s.Levels = &l
	}
	return s
}

// check refuses settings that make no sense. s is what Filled returns.
func (s Settings) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("zone %q: "+format, append([]any{s.Name}, args...)...)
	}
	switch {
	case s.Name == "":
		return errors.New("a zone has no name")
	case !slices.Contains([]Signal{Loop, Analog, Contact, Edges}, s.Signal):
		return bad("there is no signal %q; there are loop, analog, contact and edges", s.Signal)
	case s.Profile != Pipeline && s.Profile != Legacy:
		return bad("there is no profile %q; there is legacy, and the pipeline when none is given", s.Profile)
	case !slices.Contains([]Sensitivity{Low, Medium, High}, s.Sensitivity):
		return bad("there is no sensitivity %q; there are low, normal and high", s.Sensitivity)
	case !slices.Contains([]Policy{Single, Prefer, Require}, s.Policy):
		return bad("there is no policy %q; there are single, prefer_confirm and require_confirm", s.Policy)
	case !slices.Contains([]Filter{MedianOfThree, Hampel, NoFilter}, s.Filter):
		return bad("there is no filter %q; there are hampel and none, and the median of three when none is given", s.Filter)
	case s.Pulses < 1 || s.Pulses > maxPulses:
		return bad("%d pulses make no sense; want 1 to %d", s.Pulses, maxPulses)
	case s.Window > day || s.Confirm > day || s.Refractory > day || s.Hold > day || s.Quiet > day || s.LoneWindow > 7*day:
		return bad("a window of more than a day makes no sense")
	case slices.ContainsFunc([]float64{s.Enter, s.Leave, s.Strong, s.Normal}, func(f float64) bool { return math.IsNaN(f) || math.IsInf(f, 0) }):
		return bad("%v, %v, %v and %v have to be numbers", s.Enter, s.Leave, s.Strong, s.Normal)
	case s.Leave > s.Enter:
		return bad("motion is over below %v times the noise, which is more than the %v it begins at", s.Leave, s.Enter)
	case s.Bits < 8 || s.Bits > 24:
		return bad("a converter of %d bits makes no sense", s.Bits)
	}
	if err := s.Levels.check(); err != nil {
		return bad("%w", err)
	}
	return nil
}
