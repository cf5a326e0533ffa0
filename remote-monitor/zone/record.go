package zone

import (
	"fmt"
	"slices"
	"time"
)

// A zone's record is stage 9: the pulses and alarms of a zone that no other zone seconded, and what follows from them.

// doubt says why lone alarms of the zone are not believed (stage 9); empty: they are.
func (z *track) doubt(now time.Time) string {
	if z.QuarantineAfter > 0 {
		n := 0
		for _, t := range z.lone {
			if now.Sub(t) < z.quarantineTime(now) {
				n++
			}
		}
		if n >= z.QuarantineAfter {
			return fmt.Sprintf("nobody seconded %s in the last %s", plural(n, "alarm"), short(z.quarantineTime(now)))
		}
	}
	if z.LonePulses > 0 {
		// Pulses so old that nobody will second them any more. Those of one passage count once.
		n := 0
		var last time.Time
		for _, e := range z.pulses {
			if age := now.Sub(e.At); e.Seconded || age <= z.Confirm || age > z.LoneWindow {
				continue
			}
			if last.IsZero() || e.At.Sub(last) > z.Window {
				n++
			}
			last = e.At
		}
		if n >= z.LonePulses {
			return fmt.Sprintf("nobody seconded %s in the last %s", plural(n, "pulse"), short(z.LoneWindow))
		}
	}
	return ""
}

// quarantineTime is for how long an alarm that nobody seconded counts. Where a group says when nobody is there, every
// further one within a week makes it longer: the sun comes back every day.
func (z *track) quarantineTime(now time.Time) time.Duration {
	n := 0
	for _, t := range z.cried {
		if now.Sub(t) < 7*day {
			n++
		}
	}
	if z.group == nil || n == 0 {
		n = 1
	}
	return z.QuarantineFor * time.Duration(min(n, 4))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (z *track) remember(e pulse) {
	keep := max(z.LoneWindow, 2*z.Window, z.Confirm)
	z.pulses = slices.DeleteFunc(z.pulses, func(o pulse) bool { return e.At.Sub(o.At) > keep })
	if len(z.pulses) == maxRemembered {
		z.pulses = slices.Delete(z.pulses, 0, 1)
	}
	z.pulses = append(z.pulses, e)
}

// second marks the pulses since a time as seconded.
func (z *track) second(since time.Time) {
	for i := len(z.pulses) - 1; i >= 0 && !z.pulses[i].At.Before(since); i-- {
		z.pulses[i].Seconded = true
	}
}

// explained takes from the record what the zone told of one passage, the alarms that were quiet among them.
func (z *track) explained(now time.Time) {
	z.lone = slices.DeleteFunc(z.lone, func(t time.Time) bool { return now.Sub(t) <= z.Confirm })
}

// candidateStayedAlone keeps a candidate that was not told in the zone's record. Where a group says that nobody was
// there it weighs as much as an alarm; else it keeps the quarantine up for a third of the time only, because after
// people have left the zone is to be believed again.
func (z *track) candidateStayedAlone(now time.Time) {
	at, last := now.Add(z.QuarantineFor/3-z.QuarantineFor), len(z.lone)-1
	switch {
	case z.group != nil:
		z.lone = z.keepLone(now)
	case last < 0:
		z.lone = append(z.lone, at)
	case at.After(z.lone[last]):
		z.lone[last] = at
	}
}

func (z *track) keepLone(now time.Time) []time.Time {
	lone := slices.DeleteFunc(z.lone, func(t time.Time) bool { return now.Sub(t) >= 4*z.QuarantineFor })
	if len(lone) == maxRemembered {
		lone = slices.Delete(lone, 0, 1)
	}
	return append(lone, now)
}

// stayedAlone is an alarm that nobody seconded in time.
func (p *Panel) stayedAlone(z *track) {
	if !z.quiet {
		z.cried = slices.DeleteFunc(z.cried, func(t time.Time) bool { return p.now.Sub(t) >= 7*day })
		if len(z.cried) < maxRemembered {
			z.cried = append(z.cried, p.now)
		}
	}
	p.quarantine(z)
	if z.quiet || z.SwingerAfter == 0 || z.group == nil {
		return // without a group there are no arming periods
	}
	z.swings++
	if z.swings >= z.SwingerAfter && !z.swinger {
		z.swinger = true
		until := later(p.now, z.lastPulse.Add(z.SwingerQuiet))
		z.timers[swingerEnd] = until
		p.emit(Event{Kind: Swinger, Zone: z.Name, Group: z.Group, State: z.state(), Until: until,
			Reason: fmt.Sprintf("%s that nobody seconded: left out until it is quiet for %s or disarmed", plural(z.swings, "alarm"), short(z.SwingerQuiet))})
	}
}

// quarantine begins or prolongs the time in which lone alarms are not believed.
func (p *Panel) quarantine(z *track) {
	running := !z.timers[quarantineEnd].IsZero()
	if z.renew(p.now) && !running {
		p.emit(Event{Kind: Quarantine, Zone: z.Name, Group: z.Group, State: z.state(), Until: z.timers[quarantineEnd], Reason: z.doubt(p.now)})
	}
}

// renew sets the end of the quarantine that the record asks for, if it does.
func (z *track) renew(now time.Time) bool {
	z.timers[quarantineEnd] = time.Time{}
	if z.QuarantineAfter == 0 || len(z.lone) < z.QuarantineAfter || z.Policy != Prefer {
		return false
	}
	until := z.lone[len(z.lone)-z.QuarantineAfter].Add(z.quarantineTime(now))
	if !until.After(now) {
		return false
	}
	z.timers[quarantineEnd] = until
	return true
}

func (p *Panel) swingOver(z *track, reason string) {
	z.swinger, z.swings = false, 0
	z.timers[swingerEnd] = time.Time{}
	p.emit(Event{Kind: Swinger, Zone: z.Name, Group: z.Group, State: z.state(), Reason: reason})
}
