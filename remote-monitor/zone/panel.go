package zone

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// Panel is all zones and groups of a site. It is not safe for concurrent use.
//
// A Panel is a fold: the events depend on the scans and commands and their times, not on how they are spread over
// calls. What happens because time passes happens at its own time, which an event carries, and before whatever comes
// at the same moment.
type Panel struct {
	zones  []*track
	groups []*group

	now time.Time
	seq uint64
	out []Event

	warmUp    time.Duration
	warmUntil time.Time // zero: it is over
	walkUntil time.Time // zero: nobody walks
	supply    supply
	guard     guard
}

// supply is the measured supply of the loops.
type supply struct {
	nominal   float64
	last      float64 // share of the nominal one; 1 if it is not measured
	reference float64 // where it has been lately; 0 before the first
	time      time.Time
	lost      bool
}

// guard is stage 3.
type guard struct {
	hold  time.Duration
	until time.Time // decisions are held; zero: they are not
	began time.Time
	calm  time.Time // held for too long: not again before this
	count int       // of holds, so that pulses of one hold are known as such
}

// Stage 3.
const (
	loopStep      = 5.0              // points between two scans that are a step
	supplyStep    = 0.03             // share of the supply that is a step
	supplyMemory  = 10 * time.Second // time constant of where the supply has been lately
	longestHold   = 5 * time.Second  // held for longer, somebody may be jamming: go on deciding
	supplyLost    = 0.5              // below this share of the nominal supply nothing can be said of a loop
	simultaneous  = 2                // zones that step in one scan
	maxPulses     = 20
	unreadable    = 3 * time.Second // unknown for this long is a fault
	openFor       = 500 * time.Millisecond
	gapFor        = time.Second
	maxRemembered = 64 // of anything that a zone remembers
)

// New makes a panel whose time begins at at. The error names the zone or group that makes no sense.
func New(c Config, at time.Time) (*Panel, error) {
	p := &Panel{now: at, warmUp: c.WarmUp, guard: guard{hold: c.CommonHold}, supply: supply{nominal: c.Supply, last: 1}}
	if p.warmUp == 0 {
		p.warmUp = 60 * time.Second
	}
	if p.guard.hold == 0 {
		p.guard.hold = 500 * time.Millisecond
	}
	if p.supply.nominal == 0 {
		p.supply.nominal = 5
	}
	if !(p.supply.nominal > 0) || math.IsInf(p.supply.nominal, 0) {
		return nil, fmt.Errorf("a supply of %v V makes no sense", c.Supply)
	}
	if p.warmUp > 0 {
		p.warmUntil = at.Add(p.warmUp)
	}
	for _, g := range c.Groups {
		if p.group(g.Name) != nil {
			return nil, fmt.Errorf("there are two groups %q", g.Name)
		}
		if err := g.check(); err != nil {
			return nil, err
		}
		p.groups = append(p.groups, newGroup(g, at))
	}
	for i, s := range c.Zones {
		s = s.Filled()
		if err := s.check(); err != nil {
			return nil, err
		}
		if p.zone(s.Name) != nil {
			return nil, fmt.Errorf("there are two zones %q", s.Name)
		}
		z := &track{Settings: s, index: i, since: at, group: p.group(s.Group), lastPulse: at}
		if s.SilentAfter > 0 {
			z.timers[silent] = at.Add(s.SilentAfter)
		}
		p.zones = append(p.zones, z)
	}
	for _, z := range p.zones {
		if err := p.link(z); err != nil {
			return nil, err
		}
	}
	for _, g := range p.groups {
		if g.Input == "" {
			continue
		}
		key := p.zone(g.Input)
		if key == nil {
			return nil, fmt.Errorf("group %q: there is no zone %q to arm it", g.Name, g.Input)
		}
		key.key = g
	}
	return p, nil
}

// link finds the zones that may second z.
func (p *Panel) link(z *track) error {
	z.confirmers = make([]bool, len(p.zones))
	if z.ConfirmWith == nil {
		for i := range z.confirmers {
			z.confirmers[i] = i != z.index
		}
	}
	for _, name := range z.ConfirmWith {
		other := p.zone(name)
		if other == nil {
			return fmt.Errorf("zone %q: there is no zone %q to confirm it", z.Name, name)
		}
		if other == z {
			return fmt.Errorf("zone %q cannot confirm itself", z.Name)
		}
		z.confirmers[other.index] = true
	}
	z.alone = !slices.Contains(z.confirmers, true)
	return nil
}

func (p *Panel) zone(name string) *track {
	for _, z := range p.zones {
		if z.Name == name {
			return z
		}
	}
	return nil
}

// Feed takes one scan, after letting pass what was due until then. A scan from before the last one counts as of the
// same time as that.
func (p *Panel) Feed(s Scan) []Event {
	p.advance(s.Time)
	s.Time = p.now
	p.measure(s)
	p.guardAgainst(s)
	for _, r := range s.Readings {
		if r.Zone >= 0 && r.Zone < len(p.zones) {
			p.read(p.zones[r.Zone], r)
		}
	}
	return p.take()
}

// Advance lets time pass until t.
func (p *Panel) Advance(t time.Time) []Event {
	p.advance(t)
	return p.take()
}

// WalkTest lets motion be told and nothing alarm until a time; the zero time ends a walk test.
func (p *Panel) WalkTest(t, until time.Time) []Event {
	p.advance(t)
	switch {
	case until.After(p.now):
		p.walkUntil = until
		p.emit(Event{Kind: WalkTest, Until: until, Reason: "a walk test: motion is shown and nothing alarms"})
	case !p.walkUntil.IsZero():
		p.endWalk()
	}
	return p.take()
}

func (p *Panel) endWalk() {
	p.walkUntil = time.Time{}
	p.emit(Event{Kind: WalkTest, Reason: "the walk test is over"})
}

// advance fires what is due until t, in the order of time; of the same time the site's first, then the groups', then
// the zones', each in the order of the configuration.
func (p *Panel) advance(t time.Time) {
	for {
		at, fire := t, func() {}
		found := false
		soonest := func(due time.Time, f func()) {
			if !due.IsZero() && !due.After(t) && (!found || due.Before(at)) {
				at, fire, found = due, f, true
			}
		}
		if !p.warmUntil.IsZero() {
			soonest(p.warmUntil, p.warm)
		}
		if !p.walkUntil.IsZero() {
			soonest(p.walkUntil, p.endWalk)
		}
		for _, g := range p.groups {
			if due := g.due(); !due.IsZero() && !due.After(t) {
				soonest(due, func() { p.groupDue(g) })
			}
		}
		for _, z := range p.zones {
			if due, which := z.due(); !due.IsZero() && !due.After(t) {
				soonest(due, func() { p.timer(z, which) })
			}
		}
		if !found {
			break
		}
		if at.After(p.now) {
			p.now = at.In(t.Location()) // schedules turn by the clock of the caller
		}
		fire()
	}
	if t.After(p.now) {
		p.now = t
	}
}

func (p *Panel) warm() {
	p.warmUntil = time.Time{}
	p.emit(Event{Kind: Warm, Reason: "the warm-up is over"})
}

func (p *Panel) take() []Event {
	out := p.out
	p.out = nil
	return out
}

// emit adds an event of now.
func (p *Panel) emit(e Event) {
	p.seq++
	e.Time = p.now
	e.ID = strconv.FormatInt(p.now.UnixMilli(), 36) + "-" + strconv.FormatUint(p.seq, 36)
	p.out = append(p.out, e)
}

// measure is stage 1, as far as the supply goes.
func (p *Panel) measure(s Scan) {
	u := &p.supply
	if s.Supply == 0 && !u.time.IsZero() {
		// It is no longer measured, so it is taken to be what it should be.
		moved := math.Abs(u.last-1) > supplyStep
		p.supply = supply{nominal: u.nominal, last: 1}
		if moved {
			p.holdDecisions("the supply is no longer measured")
		}
		return
	}
	if !(s.Supply > 0) || math.IsInf(s.Supply, 0) {
		return
	}
	u.last = s.Supply / u.nominal
	switch {
	case u.last < supplyLost:
		u.lost, u.time = true, s.Time
		return
	case u.lost:
		u.lost = false
		u.reference = u.last
		if p.warmUp > 0 {
			// Detectors start anew, too.
			p.warmUntil = s.Time.Add(p.warmUp)
			for _, z := range p.zones {
				z.analog.relearn()
			}
		}
	case u.reference == 0:
		u.reference = u.last
	}
	moved := math.Abs(u.last-u.reference) > supplyStep*u.reference
	if !u.time.IsZero() {
		share := 1 - math.Exp(-s.Time.Sub(u.time).Seconds()/supplyMemory.Seconds())
		u.reference += share * (u.last - u.reference)
	}
	u.time = s.Time
	if moved {
		p.holdDecisions("the supply moved")
	}
}

// guardAgainst is stage 3: zones that step together step for a common reason, which is not a person.
func (p *Panel) guardAgainst(s Scan) {
	if p.guard.hold < 0 {
		return
	}
	steps := 0
	for _, r := range s.Readings {
		if r.Zone < 0 || r.Zone >= len(p.zones) || r.Unknown != "" {
			continue
		}
		z := p.zones[r.Zone]
		if z.key != nil {
			continue
		}
		raw, step := 0.0, loopStep
		switch z.Signal {
		case Edges:
			continue // it reports by itself: that two reports come together says nothing
		case Contact:
			if r.Active {
				raw = 100
			}
		case Analog:
			raw = p.percent(r.Volts)
			step = max(step, z.Enter*z.analog.noise)
		default:
			raw = p.percent(r.Volts)
		}
		if z.seen && math.Abs(raw-z.raw) > step {
			steps++
		}
		z.seen, z.raw = true, raw
	}
	if steps >= simultaneous {
		p.holdDecisions(fmt.Sprintf("%d inputs stepped at once", steps))
	}
	if g := &p.guard; !g.until.IsZero() && !p.now.Before(g.until) {
		g.until = time.Time{}
	}
}

func (p *Panel) holdDecisions(reason string) {
	g := &p.guard
	switch {
	case g.hold < 0 || p.now.Before(g.calm):
		return
	case g.until.IsZero() || !p.now.Before(g.until):
		g.began = p.now
		g.count++
		p.emit(Event{Kind: CommonMode, Reason: reason})
	case p.now.Sub(g.began) > longestHold:
		g.until, g.calm = time.Time{}, p.now.Add(longestHold)
		p.supply.reference = p.supply.last
		return
	}
	g.until = p.now.Add(g.hold)
}

func (g *guard) held(now time.Time) bool { return now.Before(g.until) }

// percent is stage 1: volts as a share of the supply that feeds the loops.
func (p *Panel) percent(volts float64) float64 {
	return 100 * volts / (p.supply.nominal * p.supply.last)
}
