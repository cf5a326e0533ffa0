package zone

import (
	"fmt"
	"slices"
	"time"
)

// qualified is a pulse that stage 5 lets through.
func (p *Panel) qualified(z *track) {
	z.pulse = true
	if p.warming() {
		z.muted = true
		p.suppress(z, StageWarmUp, "the detectors are settling")
		return
	}
	p.emit(Event{Kind: Motion, Zone: z.Name, Group: z.Group, State: z.state(), Percent: z.percent, Volts: z.volts, Reason: "something moves"})
	if z.LongPulse > 0 {
		z.timers[longPulse] = later(p.now, z.rise.Add(z.LongPulse))
	}
	p.counted(z)
}

// counted is stage 6 for one more pulse of a zone, and what it is worth to the others.
func (p *Panel) counted(z *track) {
	z.lastPulse, z.moved, z.silent = p.now, true, false
	z.timers[alarmEnd] = time.Time{}
	if z.SilentAfter > 0 {
		z.timers[silent] = p.now.Add(z.SilentAfter)
	}
	if z.swinger {
		z.timers[swingerEnd] = p.now.Add(z.SwingerQuiet)
	}
	switch {
	case !p.walkUntil.IsZero():
		p.suppress(z, StageWalkTest, "somebody walks on purpose")
		return
	case !z.armed():
		p.suppress(z, StageDisarmed, "the group "+z.Group+" is "+string(z.group.state))
		return
	}
	z.remember(pulse{At: p.now, Polarity: z.polarity, Hold: z.fromHold})
	for _, y := range p.zones {
		if y == z || !p.together(y, z, max(y.Confirm, z.Confirm)) {
			continue
		}
		if z.confirmers[y.index] && p.together(y, z, z.Confirm) {
			z.pulses[len(z.pulses)-1].Seconded = true
		}
		if y.confirmers[z.index] {
			y.second(p.now.Add(-y.Confirm))
		}
	}
	told := z.lastTold
	p.consider(z, "")
	p.confirmOthers(z, z.lastTold != told)
}

// together tells that y moved within a time before now, independently of the pulse that z has now.
func (p *Panel) together(y, z *track, within time.Duration) bool {
	if len(y.pulses) == 0 || !y.armed() {
		return false
	}
	last := y.pulses[len(y.pulses)-1]
	after := p.now.Sub(last.At)
	switch {
	case after > within || last.Hold != 0 && last.Hold == z.fromHold:
		return false
	case y.Signal == Edges && z.Signal == Edges && after <= atOnce:
		// Detectors that report by themselves have no scan, and common causes all the same.
		return false
	}
	return true
}

// atOnce is how close two detectors report only for a common reason.
const atOnce = 20 * time.Millisecond

// confirmOthers lets the pulse z has now second what other zones have. told says that z itself has just told an alarm,
// so that nobody has to be told again.
func (p *Panel) confirmOthers(z *track, told bool) {
	for _, y := range p.zones {
		quiet := told && y.group == z.group // another group has people of its own
		if y == z || !y.confirmers[z.index] || !p.together(y, z, p.confirmWindow(y, z)) {
			continue
		}
		switch {
		case y.pre:
			p.raise(y, z, "", quiet)
		case !y.timers[unconfirmed].IsZero():
			p.seconded(y, z)
		case !y.alarm && !z.confirmers[y.index]:
			p.candidate(y, z, "", quiet)
		}
	}
}

// seconded is an alarm that was told and is now confirmed.
func (p *Panel) seconded(y, by *track) {
	y.timers[unconfirmed] = time.Time{}
	y.confirmed = true
	y.explained(p.now)
	p.emit(Event{Kind: Confirmed, Zone: y.Name, Group: y.Group, State: y.state(), Percent: y.percent, Volts: y.volts, Confirmed: true,
		By: by.Name, Reason: by.Name + " saw it, too"})
}

// confirmWindow is how far apart the pulses of two zones may be; negative: whatever they are, it is not enough. Where
// people arm and disarm, a zone that has pulsed for nothing while nobody was there has to be closer to the other: the
// more a zone pulses, the more it coincides with anything. When both have, one of them has to say it twice. The record
// of a zone that is always armed is mostly of people who live there, and says nothing of what two zones say together.
func (p *Panel) confirmWindow(z, y *track) time.Duration {
	if z.group == nil || y.group == nil {
		return z.Confirm
	}
	a, b := z.doubt(p.now) != "", y.doubt(p.now) != ""
	switch {
	case a && b:
		if z.count(p.now, z.Window)+y.count(p.now, y.Window) < 3 {
			return -1
		}
		return z.Confirm / 4
	case a || b:
		return z.Confirm / 2
	}
	return z.Confirm
}

// seconder is the zone that moved last of those that may second z, nil if none did in time.
func (p *Panel) seconder(z *track) *track {
	var by *track
	for _, y := range p.zones {
		if y == z || !z.confirmers[y.index] || y.faulty() != "" || !p.together(y, z, p.confirmWindow(z, y)) {
			continue
		}
		if by == nil || y.lastPulse.After(by.lastPulse) {
			by = y
		}
	}
	return by
}

// count is how many pulses the window holds. Of a bipolar zone only changes of polarity count.
func (z *track) count(now time.Time, window time.Duration) int {
	n, last := 0, 0
	for _, e := range z.pulses {
		if now.Sub(e.At) > window || z.Bipolar && z.Signal == Analog && e.Polarity == last {
			continue
		}
		n, last = n+1, e.Polarity
	}
	return n
}

// consider is stage 6: whether the pulses so far are a candidate. reason is one more way to be enough.
func (p *Panel) consider(z *track, reason string) {
	if !z.armed() || !p.walkUntil.IsZero() || len(z.pulses) == 0 {
		return
	}
	by := p.seconder(z)
	need, window := z.Pulses, z.Window
	if z.alone && (z.swinger || z.Policy == Prefer && z.doubt(p.now) != "") {
		// Nobody can ever second it: ask for more instead.
		need, window = max(3, 2*need), 2*window
	}
	n := z.count(p.now, window)
	switch {
	case by != nil:
		reason = "motion, and " + by.Name + " moved " + p.now.Sub(by.lastPulse).Round(100*time.Millisecond).String() + " before"
	case n >= need:
		reason = fmt.Sprintf("%s in %s", plural(n, "pulse"), short(window))
	case reason != "" && need == z.Pulses:
	case z.strong && need == z.Pulses:
		reason = fmt.Sprintf("one pulse more than %v times the threshold", z.Strong)
	default:
		if z.timers[countEnd].IsZero() && !z.alarm && !z.pre {
			z.timers[countEnd] = p.now.Add(window)
		}
		return
	}
	p.candidate(z, by, reason, false)
}

// candidate is stages 8 and 9. by is who seconded it, nil if nobody did.
func (p *Panel) candidate(z, by *track, reason string, quiet bool) {
	z.timers[countEnd] = time.Time{}
	switch {
	case z.alarm:
		if by != nil && !z.timers[unconfirmed].IsZero() {
			p.seconded(z, by)
		}
		return
	case z.pre && by == nil:
		return
	}
	if by != nil {
		p.raise(z, by, reason, quiet)
		return
	}
	stage, why := Stage(""), z.doubt(p.now)
	switch {
	case z.Policy == Require:
		stage, why = StageConfirm, "it takes a second zone"
	case z.swinger && !z.alone:
		stage, why = StageSwinger, "too many alarms in this arming period"
	case z.Policy == Prefer && why != "" && !z.alone:
		stage = StageQuarantine
	}
	if stage == "" {
		p.raise(z, nil, reason, quiet)
		return
	}
	z.pre, z.preStage, z.began = true, stage, p.now
	z.timers[preEnd] = p.now.Add(z.Confirm)
	p.change(z, Event{Kind: PreAlarm, Pulses: z.count(p.now, z.Window), Reason: reason + "; " + why})
}

// raise is stage 7: the zone alarms, unless its group gives people time to disarm.
func (p *Panel) raise(z, by *track, reason string, quiet bool) {
	if g := z.group; g != nil && z.EntryDelay && g.EntryDelay > 0 {
		switch g.state {
		case GroupArmed:
			p.enter(g, z)
			return
		case GroupEntry:
			return
		}
	}
	if reason == "" && by != nil {
		reason = "seconded by " + by.Name
	}
	z.pre = false
	z.timers[preEnd], z.timers[countEnd] = time.Time{}, time.Time{}
	z.alarm, z.confirmed, z.began = true, by != nil, p.now
	if by != nil && !z.timers[unconfirmed].IsZero() {
		// It seconds the alarm that was told just before, too.
		z.timers[unconfirmed] = time.Time{}
		z.explained(p.now)
	}
	if !z.lastTold.IsZero() && p.now.Sub(z.lastTold) < z.Refractory {
		quiet = true
		p.suppress(z, StageRefractory, "told "+p.now.Sub(z.lastTold).Round(time.Second).String()+" ago")
	}
	z.quiet = quiet
	e := Event{Kind: Alarm, Confirmed: by != nil, Quiet: quiet, Pulses: z.count(p.now, z.Window), Reason: reason}
	if by != nil {
		e.By = by.Name
	}
	p.change(z, e)
	if z.rise.IsZero() {
		p.restPending(z)
	}
	if by == nil {
		z.lone = z.keepLone(p.now)
		z.timers[unconfirmed] = time.Time{}
		if z.Confirm > 0 {
			z.timers[unconfirmed] = p.now.Add(z.Confirm)
		}
		if other := p.sequential(z); other != nil && !quiet {
			z.confirmed = true
			p.emit(Event{Kind: Confirmed, Zone: z.Name, Group: z.Group, State: z.state(), Percent: z.percent, Volts: z.volts, Confirmed: true, By: other.Name,
				Reason: fmt.Sprintf("%s alarmed %s before", other.Name, p.now.Sub(other.lastTold).Round(time.Second))})
		}
	}
	if quiet {
		return
	}
	z.lastTold = p.now
	z.alarms = dayOf(z.alarms, p.now)
	if z.group != nil && (z.group.state == GroupArmed || z.group.state == GroupEntry) {
		z.group.set(GroupAlarm, p.now)
	}
}

// sequential is another zone that told an alarm within the sequential window, nil if none did.
func (p *Panel) sequential(z *track) *track {
	for _, y := range p.zones {
		if y != z && z.confirmers[y.index] && !y.lastTold.IsZero() && p.now.Sub(y.lastTold) <= z.Sequential && p.together(y, z, z.Sequential) {
			return y
		}
	}
	return nil
}

// restPending plans the end of an alarm: held for its least time, and nothing moved for a while.
func (p *Panel) restPending(z *track) {
	if !z.alarm {
		return
	}
	moved := z.fall
	if moved.IsZero() {
		moved = z.lastPulse
	}
	z.timers[alarmEnd] = later(p.now, z.began.Add(z.Hold), moved.Add(z.Quiet))
}

func (p *Panel) alarmOver(z *track, reason string) {
	z.timers[alarmEnd] = time.Time{}
	if z.alarm {
		z.alarm = false
		p.change(z, Event{Kind: Restore, Quiet: z.quiet, Reason: reason})
	}
}

// preOver is a pre-alarm that nobody seconded.
func (p *Panel) preOver(z *track) {
	z.timers[preEnd] = time.Time{}
	if !z.pre {
		return
	}
	z.pre = false
	z.candidateStayedAlone(p.now)
	p.suppress(z, z.preStage, "nobody seconded it in "+short(z.Confirm))
	p.change(z, Event{Kind: Restore, Quiet: true, Reason: "nobody seconded it"})
	p.quarantine(z)
}

// suppress tells that a candidate came to nothing.
func (p *Panel) suppress(z *track, stage Stage, reason string) {
	p.emit(Event{Kind: Suppressed, Zone: z.Name, Group: z.Group, State: z.state(), Percent: z.percent, Volts: z.volts, Stage: stage,
		Pulses: z.count(p.now, z.Window), Reason: reason})
	const shown = 5
	if len(z.recent) < shown {
		z.recent = append(z.recent, Event{})
	}
	copy(z.recent[1:], z.recent)
	z.recent[0] = p.out[len(p.out)-1]
	z.suppressed = dayOf(z.suppressed, p.now)
}

// dayOf adds a time and forgets those of more than a day before.
func dayOf(times []time.Time, now time.Time) []time.Time {
	times = slices.DeleteFunc(times, func(t time.Time) bool { return now.Sub(t) >= day })
	if len(times) == maxADay {
		times = slices.Delete(times, 0, 1)
	}
	return append(times, now)
}

const maxADay = 1000

func later(times ...time.Time) time.Time {
	last := times[0]
	for _, t := range times[1:] {
		if t.After(last) {
			last = t
		}
	}
	return last
}
