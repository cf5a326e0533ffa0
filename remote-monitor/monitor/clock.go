package monitor

import "time"

// A wall clock that is further off than this has been set; one that is less far off is followed.
const clockStep = 5 * time.Second

// clock is the time of the zones: the wall's, which schedules need, but never going backwards, which durations need.
// A computer without a battery for its clock starts at some past date and is set when the network is there.
type clock struct {
	zone *time.Location
	told time.Time     // last answer
	mono time.Duration // when that was, by a clock that is never set
}

// now takes both clocks and returns the time, and by how much the wall clock was set if it was: the time may go either
// way then.
func (c *clock) now(wall time.Time, mono time.Duration) (t time.Time, set time.Duration) {
	wall = wall.Round(0).In(c.zone)
	passed := mono - c.mono
	off := wall.Sub(c.told) - passed
	switch {
	case c.told.IsZero():
		t = wall
	case off > clockStep || off < -clockStep:
		t, set = wall, off
	case off < 0:
		// Half the speed until the wall has caught up.
		t = later(wall, c.told.Add(passed/2))
	default:
		t = wall
	}
	c.told, c.mono = t, mono
	return t, set
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
