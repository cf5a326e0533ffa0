package zone

import (
	"fmt"
	"time"
)

// inBand is stage 4a: whether the level of a loop means motion. Tampers and faults are told on the way.
func (p *Panel) inBand(z *track, v float64) (active bool) {
	where := z.Levels.next(z.place, v)
	if where != z.pending {
		z.pending, z.pendingSince = where, p.now
	}
	if where != z.place && p.now.Sub(z.pendingSince) >= max(settle(where), settle(z.place)) {
		z.place = where
		switch where {
		case inOpen:
			p.tampered(z, z.Label+": the loop is open: a wire is cut or a lid is off")
		case inShort:
			p.tampered(z, z.Label+": the loop is shorted")
		case inGap: // a loop that was tampered with is not whole by that
			p.fault(z, gapFault, fmt.Sprintf("the loop is at %.0f %%, between two states: a joint or a resistor is bad", v))
		}
		if where != inGap {
			p.unfault(z, gapFault, "the loop is in a state it should have")
		}
		if where == inNormal || where == inAlarm {
			p.untampered(z)
		}
	}
	return z.place == inAlarm
}

// settle is how long a level has to be somewhere to be believed there. That of an alarm is the width of a pulse,
// which is measured later.
func settle(w place) time.Duration {
	switch w {
	case inOpen, inShort:
		return openFor
	case inGap:
		return gapFor
	}
	return 0
}
