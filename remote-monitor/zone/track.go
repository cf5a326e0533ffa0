package zone

import (
	"fmt"
	"math"
	"time"
)

// track is a zone and all that is remembered of it.
type track struct {
	Settings
	index      int
	group      *group // nil: always armed
	key        *group // the group it arms; nil: it is a detector
	confirmers []bool // by index of zone: may second this one
	alone      bool   // nobody may

	told  State // the state that was told last; empty is Normal
	since time.Time

	// Stage 0.
	known  bool
	unread string // why the input cannot be read, since some time
	// Faults, each empty when there is none.
	faults [3]string
	tamper string // what is wrong with the wire or the lid

	// Stages 1 to 3.
	seen    bool
	raw     float64 // percent, of the last scan
	window  [5]float64
	samples int // in window
	percent float64
	volts   float64
	stirred bool // something was seen while decisions were held

	// Stage 4.
	place        place
	pending      place
	pendingSince time.Time
	analog       analog

	// Stage 5.
	active   bool      // the detector says motion, as of the last decision
	rise     time.Time // of the pulse that runs or may begin; zero: none
	fall     time.Time // since when it is inactive; zero: it is active
	pulse    bool      // the pulse is wide enough
	muted    bool      // but the detectors are still settling
	strong   bool      // and its amplitude says enough
	polarity int       // of an analog signal: 1 above the baseline, -1 below
	fromHold int       // the hold the pulse appeared from; 0: none

	// Stages 6 to 9; see decide.go.
	pulses    []pulse   // while it is armed, oldest first
	lastPulse time.Time // the last qualified one; the start of the panel before the first
	moved     bool      // there was one
	alarm     bool
	quiet     bool // the alarm was not told
	pre       bool
	preStage  Stage
	confirmed bool // the alarm or pre-alarm has been seconded
	began     time.Time
	lastTold  time.Time   // of the last alarm that was told
	lone      []time.Time // alarms and candidates that nobody seconded
	cried     []time.Time // alarms that were told and nobody seconded, of a week
	swings    int
	swinger   bool
	silent    bool

	original *level    // Legacy: the abnormal value that was told last; nil when all is quiet
	keyed    bool      // key: its position has been read
	turned   bool      // key: it is
	turning  bool      // key: its other position has been read
	turnedAt time.Time // key: since then

	reason string
	timers [nTimers]time.Time

	recent     []Event     // Suppressed, newest first
	alarms     []time.Time // told, of the last day
	suppressed []time.Time
}

// pulse is one qualified pulse.
type pulse struct {
	At       time.Time
	Polarity int
	Hold     int
	Seconded bool // another zone moved around the same time
}

// Kinds of fault.
const (
	unreadFault = iota
	gapFault
	stuckFault
)

// timer names a deadline of a zone. Of the same time the first comes first.
type timer int

const (
	readLost timer = iota
	qualify        // Edges: the pulse is wide enough
	pulseEnd       // the gap after a pulse is too long to merge
	longPulse
	stuck
	alarmEnd
	preEnd
	countEnd      // a pulse stayed alone in its window
	unconfirmed   // an alarm stayed alone
	quarantineEnd // lone alarms are believed again
	swingerEnd
	silent
	nTimers
)

func (z *track) due() (at time.Time, which timer) {
	for i, t := range z.timers {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at, which = t, timer(i)
		}
	}
	return at, which
}

// timer does what is due. It has been taken off.
func (p *Panel) timer(z *track, which timer) {
	z.timers[which] = time.Time{}
	switch which {
	case readLost:
		z.known = false
		if z.active {
			z.active = false
			p.falls(z)
		}
		p.fault(z, unreadFault, z.unread)
	case qualify:
		p.qualified(z)
	case pulseEnd:
		p.pulseOver(z)
	case longPulse:
		p.consider(z, "one pulse of "+short(z.LongPulse))
	case stuck:
		p.stuck(z)
	case alarmEnd:
		p.alarmOver(z, "nothing moved for "+short(z.Quiet))
	case preEnd:
		p.preOver(z)
	case countEnd:
		p.suppress(z, StageCount, "one pulse is too few")
	case unconfirmed:
		p.stayedAlone(z)
	case quarantineEnd:
		p.emit(Event{Kind: Quarantine, Zone: z.Name, Group: z.Group, Reason: "a lone alarm is believed again"})
	case swingerEnd:
		p.swingOver(z, "nothing moved for "+short(z.SwingerQuiet))
	case silent:
		z.silent = true
		p.emit(Event{Kind: Silent, Zone: z.Name, Group: z.Group, State: z.state(), Reason: "nothing has moved for " + short(z.SilentAfter)})
	}
}

// short writes a duration without zero parts.
func short(d time.Duration) string {
	s := d.String()
	for _, tail := range []string{"m0s", "h0m"} {
		if len(s) > len(tail) && s[len(s)-len(tail):] == tail {
			s = s[:len(s)-2]
		}
	}
	return s
}

// read is stages 0 to 4 for one reading.
func (p *Panel) read(z *track, r Reading) {
	if r.Unknown == "" && z.Signal != Contact && z.Signal != Edges {
		switch {
		case math.IsNaN(r.Volts) || math.IsInf(r.Volts, 0):
			r.Unknown = "the value is not a number"
		case p.supply.lost:
			r.Unknown = fmt.Sprintf("the supply of the loops is at %.0f %%", 100*p.supply.last)
		}
	}
	if r.Unknown != "" {
		if z.timers[readLost].IsZero() && z.faults[unreadFault] == "" {
			z.timers[readLost] = p.now.Add(unreadable)
		}
		z.unread = r.Unknown
		return
	}
	z.timers[readLost] = time.Time{}

	switch {
	case z.Signal == Edges || z.Signal == Contact:
		z.known = true
		z.percent, z.volts = 0, 0
		if r.Active {
			z.percent, z.volts = 100, p.supply.nominal
		}
		p.unfault(z, unreadFault, "it can be read again")
		switch {
		case z.key != nil:
			p.turnKey(z, r.Active)
		case z.Profile == Legacy:
			p.asOriginal(z)
		case z.Signal == Edges && r.Active && z.active && z.faults[stuckFault] != "":
			// It has been active for so long that the end of that must have been lost: this is a new pulse.
			p.level(z, false)
			p.pulseOver(z)
			p.level(z, true)
		default:
			p.sampled(z, r.Active)
		}
		return
	case z.Profile == Legacy:
		z.known = true
		z.volts, z.percent = r.Volts, p.percent(r.Volts)
		p.unfault(z, unreadFault, "it can be read again")
		p.asOriginal(z)
		return
	}
	z.volts = r.Volts
	v, ok := z.filtered(p.percent(r.Volts))
	if !ok {
		return
	}
	z.known, z.percent = true, v
	p.unfault(z, unreadFault, "it can be read again")
	if z.Signal == Analog {
		p.sampled(z, z.analog.step(&z.Settings, v, p.now, z.active, p.warming()))
		return
	}
	if z.key != nil {
		p.inBand(z, v)
		// A wire that is cut or shorted says nothing of where the key is: whoever cuts it disarms nothing.
		if z.place == inNormal || z.place == inAlarm {
			p.turnKey(z, z.place == inAlarm)
		}
		return
	}
	p.sampled(z, p.inBand(z, v))
}

// sampled takes what stage 4 says of a sample, unless decisions are held.
func (p *Panel) sampled(z *track, active bool) {
	if z.Signal != Edges && p.guard.held(p.now) {
		z.stirred = z.stirred || active && !z.active
		return
	}
	hold := 0
	if z.stirred {
		z.stirred = false
		if active {
			hold = p.guard.count
		} else {
			p.suppress(z, StageCommonMode, "it stepped together with other inputs or the supply")
		}
	}
	if active && !z.active {
		z.fromHold = hold
	}
	if active && z.active && z.Signal == Analog && z.analog.polarity != z.polarity && z.pulse && z.analog.polarity != 0 {
		// The signal swung to the other side: a person who walks through makes such pulses.
		z.polarity = z.analog.polarity
		p.counted(z)
	}
	p.level(z, active)
}

// level is stage 5: pulses that are wide enough, with small gaps closed.
func (p *Panel) level(z *track, active bool) {
	was := z.active
	z.active = active
	switch {
	case active && !was:
		z.fall = time.Time{}
		z.timers[pulseEnd] = time.Time{}
		if z.rise.IsZero() {
			p.rises(z)
		} else {
			p.deadlines(z) // the gap was too small to be one
		}
	case !active && was:
		p.falls(z)
		return
	}
	// A scanned input has to be seen active again after the least width; one sample is none.
	if active && !z.pulse && !z.rise.IsZero() && z.Signal != Edges && p.now.Sub(z.rise) >= z.MinWidth {
		p.qualified(z)
	}
	if active && z.pulse && !z.muted && !z.strong && z.Signal == Analog && z.Strong > 0 && z.analog.amplitude(&z.Settings, z.percent) >= z.Strong {
		z.strong = true
		p.consider(z, "")
	}
}

func (p *Panel) rises(z *track) {
	z.rise, z.pulse, z.muted, z.strong = p.now, false, false, false
	z.polarity = z.analog.polarity
	if z.Signal == Edges {
		if z.MinWidth == 0 {
			p.qualified(z)
		} else {
			z.timers[qualify] = p.now.Add(z.MinWidth)
		}
	}
	p.deadlines(z)
}

// deadlines are those of a pulse that runs, from where it rose.
func (p *Panel) deadlines(z *track) {
	if z.Stuck > 0 && z.faults[stuckFault] == "" {
		z.timers[stuck] = later(p.now, z.rise.Add(z.Stuck))
	}
	if at := z.rise.Add(z.LongPulse); z.LongPulse > 0 && z.pulse && !z.muted && at.After(p.now) {
		z.timers[longPulse] = at
	}
}

func (p *Panel) falls(z *track) {
	z.fall = p.now
	z.timers[qualify], z.timers[longPulse], z.timers[stuck] = time.Time{}, time.Time{}, time.Time{}
	if z.pulse && z.MergeGap > 0 {
		z.timers[pulseEnd] = p.now.Add(z.MergeGap)
		return
	}
	p.pulseOver(z)
}

// pulseOver ends a pulse at the time it fell.
func (p *Panel) pulseOver(z *track) {
	z.timers[pulseEnd] = time.Time{}
	if z.rise.IsZero() {
		return
	}
	p.unfault(z, stuckFault, "the detector has let go")
	width := z.fall.Sub(z.rise)
	switch {
	case z.muted:
	case !z.pulse:
		p.suppress(z, StageWidth, "it lasted only "+width.Round(time.Millisecond).String())
	default:
		p.emit(Event{Kind: Still, Zone: z.Name, Group: z.Group, State: z.state(), Percent: z.percent, Volts: z.volts,
			Duration: width, Reason: "the pulse is over"})
	}
	p.restPending(z) // also of an alarm that began while this was not yet a pulse
	z.rise, z.fall, z.pulse, z.muted, z.strong = time.Time{}, time.Time{}, false, false, false
}

// stuck is a detector that does not let go.
func (p *Panel) stuck(z *track) {
	if z.alarm || z.pre {
		z.timers[alarmEnd], z.timers[preEnd] = time.Time{}, time.Time{}
		z.alarm, z.pre = false, false
	}
	if z.Signal == Analog {
		// What stood for so long is the new rest.
		z.analog.relearn()
	}
	p.fault(z, stuckFault, "active for "+short(z.Stuck)+" on end: it is stuck or masked")
}

func (p *Panel) warming() bool { return !p.warmUntil.IsZero() }

// state is where the zone stands.
func (z *track) state() State {
	switch {
	case z.faulty() != "":
		return Unfit
	case z.tamper != "":
		return Tampered
	case z.alarm:
		return InAlarm
	case z.pre:
		return InPreAlarm
	}
	return Normal
}

func (z *track) faulty() string {
	for _, f := range z.faults {
		if f != "" {
			return f
		}
	}
	return ""
}

func (p *Panel) fault(z *track, kind int, reason string) {
	if z.faults[kind] == "" {
		z.faults[kind] = reason
		p.change(z, Event{Kind: Fault, Reason: reason})
	}
}

func (p *Panel) unfault(z *track, kind int, reason string) {
	if z.faults[kind] != "" {
		z.faults[kind] = ""
		p.change(z, Event{Kind: Restore, Reason: reason})
	}
}

func (p *Panel) tampered(z *track, reason string) {
	if z.tamper != reason {
		z.tamper = reason
		p.change(z, Event{Kind: Tamper, Reason: reason})
	}
}

func (p *Panel) untampered(z *track) {
	if z.tamper != "" {
		z.tamper = ""
		p.change(z, Event{Kind: Restore, Reason: "the loop is whole"})
	}
}

// change tells that the state of a zone is another one, or has another reason. Nothing is restored while something
// worse still stands: who hears of a restore takes the zone to be well.
func (p *Panel) change(z *track, e Event) {
	from, to := z.told, z.state()
	if from == "" {
		from = Normal
	}
	e.Zone, e.Group, e.From, e.State, e.Duration = z.Name, z.Group, from, to, p.now.Sub(z.since)
	e.Percent, e.Volts = z.percent, z.volts
	if e.Kind == Restore && from == to {
		return
	}
	z.reason = e.Reason
	if from != to {
		z.told, z.since = to, p.now
	}
	p.emit(e)
}
