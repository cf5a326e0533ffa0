package zone

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// group is an arming group and where it stands.
type group struct {
	Group
	state GroupState
	since time.Time
	until time.Time // the end of the delay that runs
	by    string
	first *track    // GroupEntry: who saw somebody come in
	idle  time.Time // since when it is not armed; zero: it is
	known time.Time // the turn that was next before a restart; the clock may show an earlier time since

	turn   time.Time // when the schedule arms or disarms next; zero: never
	arming bool      // what it does then
}

func newGroup(g Group, at time.Time) *group {
	if g.ExitDelay == 0 {
		g.ExitDelay = 60 * time.Second
	}
	if g.EntryDelay == 0 {
		g.EntryDelay = 30 * time.Second
	}
	s := &group{Group: g, state: GroupDisarmed, since: at, by: "the start", idle: at}
	if g.Armed {
		s.state, s.idle = GroupArmed, time.Time{}
	}
	s.plan(at)
	return s
}

func (g Group) check() error {
	if g.Name == "" {
		return fmt.Errorf("an arming group has no name")
	}
	if g.ExitDelay > time.Hour || g.EntryDelay > time.Hour {
		return fmt.Errorf("group %q: a delay of more than an hour makes no sense", g.Name)
	}
	for _, s := range g.Schedule {
		if s.From < 0 || s.From >= day || s.To < 0 || s.To > day || s.From == s.To {
			return fmt.Errorf("group %q: a time from %v to %v makes no sense", g.Name, s.From, s.To)
		}
	}
	return nil
}

func (p *Panel) group(name string) *group {
	for _, g := range p.groups {
		if g.Name == name {
			return g
		}
	}
	return nil
}

// armed tells that motion in the zone counts. A zone without a group always does.
func (z *track) armed() bool {
	return z.group == nil || z.group.state == GroupArmed || z.group.state == GroupEntry || z.group.state == GroupAlarm
}

func (g *group) set(s GroupState, now time.Time) {
	g.state, g.since, g.until = s, now, time.Time{}
}

// plan finds the schedule's next turn after a time, on the clock of that time's zone.
func (g *group) plan(after time.Time) {
	g.turn = time.Time{}
	consider := func(at time.Time, arm bool) {
		// Where one span ends as the next begins, it stays armed.
		if at.After(after) && (g.turn.IsZero() || at.Before(g.turn) || at.Equal(g.turn) && arm) {
			g.turn, g.arming = at, arm
		}
	}
	y, m, d := after.Date()
	for _, s := range g.Schedule {
		for offset := -1; offset <= 8; offset++ {
			if wd := time.Date(y, m, d+offset, 12, 0, 0, 0, after.Location()).Weekday(); len(s.Days) > 0 && !slices.Contains(s.Days, wd) {
				continue
			}
			clock := func(extra int, since time.Duration) time.Time {
				return time.Date(y, m, d+offset+extra, 0, int(since/time.Minute), int(since%time.Minute/time.Second), 0, after.Location())
			}
			over := 0
			if s.To <= s.From {
				over = 1
			}
			consider(clock(0, s.From), true)
			consider(clock(over, s.To), false)
		}
	}
}

// catchUp does the last of the turns that the schedule took since a time, when nobody could do it.
func (p *Panel) catchUp(g *group, since time.Time) {
	if len(g.Schedule) == 0 {
		return
	}
	took, arm := false, false
	// Each span comes once in a week and a day.
	since = later(since.In(p.now.Location()), p.now.Add(-8*day))
	for g.plan(since); !g.turn.IsZero() && !g.turn.After(p.now); g.plan(g.turn) {
		took, arm = true, g.arming
	}
	g.plan(p.now)
	switch {
	case took && arm:
		p.arm(g, "schedule", g.Force)
	case took:
		p.disarm(g, "schedule")
	}
}

func (g *group) due() time.Time {
	if !g.until.IsZero() && (g.turn.IsZero() || !g.turn.Before(g.until)) {
		return g.until
	}
	return g.turn
}

// groupDue does what is due for a group now.
func (p *Panel) groupDue(g *group) {
	if !g.until.IsZero() && !p.now.Before(g.until) {
		switch g.state {
		case GroupExit:
			p.armed(g)
		case GroupEntry:
			p.entryOver(g)
		}
		return
	}
	arm := g.arming
	g.plan(p.now)
	if arm {
		p.arm(g, "schedule", g.Force)
	} else {
		p.disarm(g, "schedule")
	}
}

// Arm arms a group after its exit delay. force arms it although a zone of it is not normal. by is who asked.
// Arming what is armed changes nothing.
func (p *Panel) Arm(t time.Time, name, by string, force bool) []Event {
	p.advance(t)
	if g := p.group(name); g != nil {
		p.arm(g, by, force || g.Force)
	}
	return p.take()
}

// Disarm disarms a group, ends its alarms and lets its swingers in again.
func (p *Panel) Disarm(t time.Time, name, by string) []Event {
	p.advance(t)
	if g := p.group(name); g != nil {
		p.disarm(g, by)
	}
	return p.take()
}

func (p *Panel) arm(g *group, by string, force bool) {
	if g.state != GroupDisarmed {
		return
	}
	var unready []string
	for _, z := range p.zones {
		if s := z.state(); z.group == g && !z.ExitRoute && (s == Unfit || s == Tampered) {
			unready = append(unready, z.Name+" ("+string(s)+")")
		}
	}
	if len(unready) > 0 && !force {
		p.emit(Event{Kind: Refused, Group: g.Name, By: by, Reason: "not armed: " + strings.Join(unready, ", ") + "; mend it, or arm by force"})
		return
	}
	g.by = by
	if g.ExitDelay <= 0 {
		p.armed(g)
		return
	}
	g.set(GroupExit, p.now)
	g.until = p.now.Add(g.ExitDelay)
	p.emit(Event{Kind: Exit, Group: g.Name, By: by, Until: g.until, Reason: "armed in " + short(g.ExitDelay)})
}

func (p *Panel) armed(g *group) {
	g.set(GroupArmed, p.now)
	if !g.idle.IsZero() {
		away := p.now.Sub(g.idle)
		g.idle = time.Time{}
		for _, z := range p.zones {
			if z.group == g {
				z.wake(p.now, away)
			}
		}
	}
	p.emit(Event{Kind: Armed, Group: g.Name, By: g.by, Reason: "armed by " + g.by})
}

func (p *Panel) disarm(g *group, by string) {
	if g.state == GroupDisarmed {
		return
	}
	if g.state != GroupExit {
		g.idle = p.now
	}
	g.set(GroupDisarmed, p.now)
	g.by, g.first = by, nil
	p.emit(Event{Kind: Disarmed, Group: g.Name, By: by, Reason: "disarmed by " + by})
	for _, z := range p.zones {
		if z.group != g {
			continue
		}
		z.sleep(p.now)
		if z.pre {
			z.pre = false
			p.change(z, Event{Kind: Restore, Quiet: true, Reason: "disarmed"})
		}
		p.alarmOver(z, "disarmed")
		z.lastTold = time.Time{} // what comes after this is told however soon
		if z.tamper == "" {
			z.original = nil
		}
		z.swings = 0
		if z.swinger {
			p.swingOver(z, "disarmed")
		}
	}
}

// sleep stops the clock of a zone's record: what it did while armed is what counts, and for how long it was armed since.
func (z *track) sleep(now time.Time) {
	// Whoever disarmed made the last of it.
	if !z.timers[unconfirmed].IsZero() {
		z.explained(now)
	}
	z.pulses = slices.DeleteFunc(z.pulses, func(e pulse) bool { return now.Sub(e.At) <= z.Confirm })
	for _, t := range []timer{countEnd, preEnd, unconfirmed, quarantineEnd} {
		z.timers[t] = time.Time{}
	}
}

// wake lets the clock of a zone's record go on after it stood for a while.
func (z *track) wake(now time.Time, stood time.Duration) {
	for i := range z.lone {
		z.lone[i] = z.lone[i].Add(stood)
	}
	for i := range z.pulses {
		z.pulses[i].At = z.pulses[i].At.Add(stood)
	}
	z.renew(now)
}

// enter is somebody who may belong here.
func (p *Panel) enter(g *group, z *track) {
	g.set(GroupEntry, p.now)
	g.until, g.first = p.now.Add(g.EntryDelay), z
	p.emit(Event{Kind: Entry, Zone: z.Name, Group: g.Name, State: z.state(), Percent: z.percent, Volts: z.volts, Until: g.until,
		Reason: "somebody came in by " + z.Name + ": disarm within " + short(g.EntryDelay)})
}

// entryOver is somebody who came in and did not disarm.
func (p *Panel) entryOver(g *group) {
	z := g.first
	g.set(GroupAlarm, p.now)
	g.first = nil
	if z != nil && !z.alarm {
		p.raise(z, nil, "not disarmed within "+short(g.EntryDelay), false)
		// Time confirmed it: nobody who belongs here came in.
		z.timers[unconfirmed] = time.Time{}
		z.confirmed = true
		z.explained(p.now)
	}
}

// turnKey follows the position of a key switch, which has to hold as long as a pulse.
func (p *Panel) turnKey(z *track, active bool) {
	if z.keyed && z.turned == active {
		z.turning = false
		return
	}
	if !z.turning {
		z.turning, z.turnedAt = true, p.now
	}
	if z.keyed && p.now.Sub(z.turnedAt) < z.MinWidth {
		return
	}
	z.keyed, z.turned, z.turning = true, active, false
	if active {
		p.arm(z.key, z.Name, z.key.Force)
	} else {
		p.disarm(z.key, z.Name)
	}
}
