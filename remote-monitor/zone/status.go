package zone

import (
	"slices"
	"time"
)

// Zones tells where each zone stands at a time, in the order of the configuration. It changes nothing: what is due is
// left for Feed and Advance.
func (p *Panel) Zones(t time.Time) []Status {
	all := make([]Status, 0, len(p.zones))
	for _, z := range p.zones {
		s := Status{
			Name: z.Name, Group: z.Group, Signal: z.Signal, State: z.state(), Since: z.since, Motion: z.pulse && !z.muted,
			Known: z.known, Percent: z.percent, Volts: z.volts, Reason: z.why(), Quarantined: z.timers[quarantineEnd], Swinger: z.swinger,
			WarmUp: p.warming(), Silent: z.silent, Recent: slices.Clone(z.recent), AlarmsToday: since(z.alarms, t), SuppressedToday: since(z.suppressed, t),
		}
		if z.moved {
			s.LastMotion = z.lastPulse
		}
		switch {
		case z.Profile == Legacy:
			s.Thresholds = Around(z.Normal, z.Tamper).thresholds()
		case z.Signal == Loop:
			s.Thresholds = z.Levels.thresholds()
		case z.Signal == Analog:
			a := &z.analog
			s.Baseline, s.Noise = a.baseline, a.noise
			s.Thresholds = []Threshold{
				{"enter", a.baseline - z.Enter*a.noise}, {"leave", a.baseline - z.Leave*a.noise},
				{"leave", a.baseline + z.Leave*a.noise}, {"enter", a.baseline + z.Enter*a.noise},
			}
		}
		all = append(all, s)
	}
	return all
}

// why is the reason of the state the zone is in.
func (z *track) why() string {
	switch {
	case z.faulty() != "":
		return z.faulty()
	case z.tamper != "":
		return z.tamper
	case z.alarm || z.pre:
		return z.reason
	}
	return ""
}

// since counts the times of the last day.
func since(times []time.Time, now time.Time) int {
	n := 0
	for _, t := range times {
		if now.Sub(t) < day {
			n++
		}
	}
	return n
}

// Groups tells where each arming group stands, in the order of the configuration.
func (p *Panel) Groups(time.Time) []GroupStatus {
	var all []GroupStatus
	for _, g := range p.groups {
		all = append(all, GroupStatus{Name: g.Name, State: g.state, Since: g.since, Until: g.until, By: g.by})
	}
	return all
}
