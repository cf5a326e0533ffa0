package zone

import "fmt"

// level is an abnormal value that the original told.
type level struct {
	Value  float64
	Tamper bool
}

// asOriginal is the original's algorithm for a value that was read: more than ten points from normal is an alarm, at
// once and from a single sample; near the tamper level it is a tamper; and a level that was told is not told again
// while it stays within ten points of where it was. The original never says that a zone is back to normal; this does.
func (p *Panel) asOriginal(z *track) {
	v := max(z.percent, 0) // the original's library makes 0 of what is negative
	near := func(a, b float64) bool { return max(a-b, b-a) <= tolerance }
	if near(v, z.Normal) {
		if z.original != nil {
			z.original = nil
			z.alarm, z.tamper = false, ""
			p.change(z, Event{Kind: Restore, Reason: fmt.Sprintf("back to normal, which is %.0f %%", z.Normal)})
		}
		return
	}
	now := level{Value: v, Tamper: z.Tamper != nil && near(v, *z.Tamper)}
	if z.original != nil && now.Tamper == z.original.Tamper && near(now.Value, z.original.Value) {
		return
	}
	z.original = &now
	z.lastPulse, z.moved, z.silent = p.now, true, false
	if z.SilentAfter > 0 {
		z.timers[silent] = p.now.Add(z.SilentAfter)
	}
	if now.Tamper {
		z.alarm, z.tamper = false, fmt.Sprintf("%s: near %.0f %%", z.Label, *z.Tamper)
		p.change(z, Event{Kind: Tamper, Reason: z.tamper})
		return
	}
	if z.tamper = ""; !z.armed() {
		if z.told == Tampered {
			p.change(z, Event{Kind: Restore, Reason: "it is no longer near the level of a tamper"})
		}
		p.suppress(z, StageDisarmed, "the group "+z.Group+" is "+string(z.group.state))
		return
	}
	z.alarm, z.began, z.lastTold, z.quiet = true, p.now, p.now, false
	z.alarms = dayOf(z.alarms, p.now)
	p.change(z, Event{Kind: Alarm, Pulses: 1, Reason: fmt.Sprintf("%.1f points from normal, which is %.0f %%", max(v-z.Normal, z.Normal-v), z.Normal)})
	if z.group != nil && (z.group.state == GroupArmed || z.group.state == GroupEntry) {
		z.group.set(GroupAlarm, p.now)
	}
}
