package zone

import "time"

// Memory is what must survive a restart of the program. It is for encoding/json.
type Memory struct {
	Seq    uint64
	Zones  map[string]ZoneMemory
	Groups map[string]GroupMemory
}

// ZoneMemory is the part of one zone.
type ZoneMemory struct {
	Tamper    string      `json:",omitempty"` // what is wrong, as it was told
	Alarm     bool        `json:",omitempty"`
	Since     time.Time   // of the state
	LastPulse time.Time   `json:",omitzero"`
	LastTold  time.Time   `json:",omitzero"`
	Lone      []time.Time `json:",omitempty"`
	Cried     []time.Time `json:",omitempty"`
	Pulses    []pulse     `json:",omitempty"`
	Swings    int         `json:",omitempty"`
	Swinger   bool        `json:",omitempty"`
	Alarms    []time.Time `json:",omitempty"`
	Key       string      `json:",omitempty"` // of a key switch: keyOn or keyOff, where it was
}

// GroupMemory is the part of one group.
type GroupMemory struct {
	State GroupState
	Since time.Time
	Until time.Time `json:",omitzero"`
	Idle  time.Time `json:",omitzero"` // since when it is not armed
	By    string
	First string    `json:",omitempty"`
	Turn  time.Time `json:",omitzero"` // of the schedule, that has not been done
}

// Positions of a key switch.
const (
	keyOn  = "on"
	keyOff = "off"
)

// Memory returns what must survive. It shares nothing with the panel.
func (p *Panel) Memory() Memory {
	m := Memory{Seq: p.seq, Zones: map[string]ZoneMemory{}, Groups: map[string]GroupMemory{}}
	for _, z := range p.zones {
		zm := ZoneMemory{
			Tamper: z.tamper, Alarm: z.alarm && !z.quiet, Since: z.since, LastTold: z.lastTold, Lone: append([]time.Time(nil), z.lone...),
			Cried: append([]time.Time(nil), z.cried...), Pulses: append([]pulse(nil), z.pulses...), Swings: z.swings, Swinger: z.swinger,
			Alarms: append([]time.Time(nil), z.alarms...),
		}
		if z.moved {
			zm.LastPulse = z.lastPulse
		}
		switch {
		case z.keyed && z.turned:
			zm.Key = keyOn
		case z.keyed:
			zm.Key = keyOff
		}
		m.Zones[z.Name] = zm
	}
	for _, g := range p.groups {
		gm := GroupMemory{State: g.state, Since: g.since, Until: g.until, Idle: g.idle, By: g.by}
		if len(g.Schedule) > 0 {
			gm.Turn = later(g.turn, g.known)
		}
		if g.first != nil {
			gm.First = g.first.Name
		}
		m.Groups[g.Name] = gm
	}
	return m
}

// Resume goes on from a memory, right after New. A tamper that stood stands, and is told again, until its loop is seen
// whole; an alarm that stood ends when nothing moves. Zones and groups that are not in the memory begin anew; what it
// has more is forgotten. Times in the memory that are yet to come, because the clock was wrong, count as at.
func (p *Panel) Resume(m Memory, at time.Time) []Event {
	p.advance(at)
	past := func(t time.Time) time.Time {
		if t.After(p.now) {
			return p.now
		}
		return t
	}
	p.seq = max(p.seq, m.Seq)
	for _, g := range p.groups {
		gm, ok := m.Groups[g.Name]
		if !ok {
			continue
		}
		if g.idle = past(gm.Idle); g.idle.IsZero() && (gm.State == GroupDisarmed || gm.State == GroupExit) {
			g.idle = p.now
		}
		switch gm.State {
		case GroupDisarmed, GroupArmed, GroupAlarm:
			g.state, g.since, g.by = gm.State, past(gm.Since), gm.By
		case GroupExit, GroupEntry:
			g.state, g.since, g.by, g.first = gm.State, past(gm.Since), gm.By, p.zone(gm.First)
			g.until = gm.Until
			if delay := max(g.ExitDelay, g.EntryDelay); g.until.IsZero() || g.until.Sub(p.now) > delay {
				g.until = p.now.Add(delay)
			}
		}
	}
	for _, z := range p.zones {
		zm, ok := m.Zones[z.Name]
		if !ok {
			continue
		}
		if !zm.LastPulse.IsZero() {
			z.lastPulse, z.moved = past(zm.LastPulse), true
			if z.SilentAfter > 0 {
				z.timers[silent] = later(p.now, z.lastPulse.Add(z.SilentAfter))
			}
		}
		z.lastTold = past(zm.LastTold)
		// Only a key that was turned meanwhile arms or disarms.
		z.keyed, z.turned = zm.Key == keyOn || zm.Key == keyOff, zm.Key == keyOn
		for _, t := range zm.Lone[max(0, len(zm.Lone)-maxRemembered):] {
			z.lone = append(z.lone, past(t))
		}
		for _, t := range zm.Cried[max(0, len(zm.Cried)-maxRemembered):] {
			z.cried = append(z.cried, past(t))
		}
		for _, e := range zm.Pulses[max(0, len(zm.Pulses)-maxRemembered):] {
			e.At, e.Hold = past(e.At), 0
			z.pulses = append(z.pulses, e)
		}
		for _, t := range zm.Alarms[max(0, len(zm.Alarms)-maxADay):] {
			z.alarms = append(z.alarms, past(t))
		}
		if z.armed() {
			z.renew(p.now)
		}
		z.swings, z.swinger = zm.Swings, zm.Swinger
		if z.swinger {
			z.timers[swingerEnd] = later(p.now, z.lastPulse.Add(z.SwingerQuiet))
		}
		if zm.Alarm {
			z.alarm, z.told, z.since = true, InAlarm, past(zm.Since)
			z.timers[alarmEnd] = p.now.Add(max(z.Quiet, z.Hold))
			if z.Profile == Legacy {
				z.original = &level{Value: -1000}
			}
		}
		if zm.Tamper != "" && (z.Signal == Loop || z.Profile == Legacy) {
			z.told, z.since = Tampered, past(zm.Since)
			z.tamper = zm.Tamper
			if z.Profile == Legacy {
				z.original = &level{Value: -1000, Tamper: true}
			}
			p.change(z, Event{Kind: Tamper, Reason: zm.Tamper + "; it stood when the program stopped"})
			// Only a loop that is seen whole ends it, whichever kind of signal says so.
			z.place, z.pending = inOpen, inOpen
		}
	}
	for _, g := range p.groups {
		if g.known = m.Groups[g.Name].Turn; !g.known.IsZero() {
			p.catchUp(g, g.known.Add(-1))
		}
	}
	return p.take()
}

// ClockSet goes on after the clock that times are of was set: what was a minute ago still was, and what is due in a
// minute still is. t is what the clock shows now, and by how much later that is than it would have shown. Schedules
// follow the clock: of the turns that it was set over, the last is done.
func (p *Panel) ClockSet(t time.Time, by time.Duration) []Event {
	was := p.now
	move := func(times ...*time.Time) {
		for _, at := range times {
			if !at.IsZero() {
				*at = at.Add(by)
			}
		}
	}
	each := func(times []time.Time) {
		for i := range times {
			move(&times[i])
		}
	}
	move(&p.now, &p.warmUntil, &p.walkUntil, &p.supply.time, &p.guard.until, &p.guard.began, &p.guard.calm)
	for _, g := range p.groups {
		move(&g.since, &g.until, &g.idle)
	}
	for _, z := range p.zones {
		move(&z.since, &z.pendingSince, &z.analog.began, &z.analog.last, &z.analog.lastKept, &z.rise, &z.fall, &z.lastPulse, &z.began,
			&z.lastTold, &z.turnedAt)
		for i := range z.pulses {
			move(&z.pulses[i].At)
		}
		for i := range z.recent {
			move(&z.recent[i].Time)
		}
		each(z.lone)
		each(z.cried)
		each(z.alarms)
		each(z.suppressed)
		each(z.timers[:])
	}
	p.now = p.now.In(t.Location())
	for _, g := range p.groups {
		p.catchUp(g, later(was, g.known.Add(-1)))
	}
	p.advance(t)
	return p.take()
}
