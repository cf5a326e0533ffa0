package relay_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
)

// scope watches the lines of all chips and knows what must never be seen there.
type scope struct {
	*rig
	rt   *rapid.T
	disk relay.Memory // what a kill leaves

	lines     []line
	doing     string            // the output of the command that is followed right now
	energised map[string]string // by ID: the output it turned on or kept on
	commands  map[string]*fate  // by Command.Who
	low       bool
}

// line is what was seen of one output's line.
type line struct {
	relay.Output
	chip    *expander
	bit     uint16
	rest    uint16 // its level at rest
	away    bool
	since   time.Time // of away
	rested  time.Time
	begins  []time.Time
	renewed time.Time // when a command for it was last accepted
}

type fate struct{ accepted, finals, rejected int }

func (s *scope) longest(l *line) time.Duration {
	switch {
	case l.Latching && l.MaxOn == 0:
		return relay.LongestMaxOn
	case l.MaxOn == 0:
		return relay.DefaultMaxOn
	}
	return l.MaxOn
}

// seen is told the lines of a chip whenever they change.
func (s *scope) seen(chip *expander, pins uint16) {
	for i := range s.lines {
		l := &s.lines[i]
		away := l.chip == chip && pins&l.bit != l.rest
		if l.chip != chip || away == l.away {
			continue
		}
		l.away, l.since = away, s.now
		if !away {
			l.rested = s.now
			continue
		}
		if s.doing != l.Name {
			s.rt.Fatalf("%s left its safe state, and no new command was for it", l.Name)
		}
		if s.low {
			s.rt.Fatalf("%s left its safe state while the supply was low", l.Name)
		}
		s.leaves(l)
	}
}

// leaves checks what has to hold when an output leaves its safe state.
func (s *scope) leaves(l *line) {
	if !l.rested.IsZero() && s.now.Sub(l.rested) < l.MinOff {
		s.rt.Fatalf("%s was at rest for %s only, of %s", l.Name, s.now.Sub(l.rested), l.MinOff)
	}
	l.begins = append(slices.DeleteFunc(l.begins, func(at time.Time) bool { return s.now.Sub(at) >= time.Minute }), s.now)
	if l.PerMinute > 0 && len(l.begins) > l.PerMinute {
		s.rt.Fatalf("%s was on %d times in a minute, of %d", l.Name, len(l.begins), l.PerMinute)
	}
	on := 0
	for i := range s.lines {
		p := &s.lines[i]
		if p.away {
			on++
		}
		if p == l || l.Exclusive == "" || p.Exclusive != l.Exclusive {
			continue
		}
		dead := max(l.Dead, p.Dead, 1)
		if l.Dead == 0 || p.Dead == 0 {
			dead = max(dead, relay.DefaultDead)
		}
		if p.away {
			s.rt.Fatalf("%s and %s are on together", l.Name, p.Name)
		}
		if !p.rested.IsZero() && s.now.Sub(p.rested) < dead {
			s.rt.Fatalf("%s came on %s after %s, and the dead time is %s", l.Name, s.now.Sub(p.rested), p.Name, dead)
		}
	}
	if s.config.MaxSimultaneous > 0 && on > s.config.MaxSimultaneous {
		s.rt.Fatalf("%d outputs are on, of %d", on, s.config.MaxSimultaneous)
	}
}

// bounded checks that nothing is on for longer than it may be.
func (s *scope) bounded() {
	for i := range s.lines {
		l := &s.lines[i]
		if !l.away {
			continue
		}
		from := l.since
		if l.Retrigger == relay.Restart || l.Latching && l.MaxOn == 0 {
			from = l.renewed
		}
		if on := s.now.Sub(from); on > s.longest(l)+tick {
			s.rt.Fatalf("%s is on for %s, and may be for %s", l.Name, on, s.longest(l))
		}
	}
}

// newScope draws a configuration on two chips and boots it.
func newScope(t *testing.T, rt *rapid.T) *scope {
	s := &scope{rig: &rig{t: t, now: epoch}, rt: rt, energised: map[string]string{}, commands: map[string]*fate{}}
	seconds := func(label string, from, to int) time.Duration {
		return time.Duration(rapid.IntRange(from, to).Draw(rt, label)) * time.Second / 2
	}
	for _, name := range []string{"io1", "io2"} {
		s.plug(&expander{name: name, high: name == "io2"})
	}
	for i := range rapid.IntRange(1, 5).Draw(rt, "outputs") {
		chip := rapid.IntRange(0, 1).Draw(rt, "chip")
		o := relay.Output{
			Name:       string(rune('a' + i)),
			Pin:        board.Pin{Chip: s.chips[chip].name, Number: i + 1},
			Active:     rapid.SampledFrom([]relay.Level{relay.ActiveHigh, relay.ActiveLow}).Draw(rt, "active"),
			SafeOn:     rapid.IntRange(0, 3).Draw(rt, "safe on") == 0,
			MaxOn:      seconds("max on", 1, 10),
			Over:       rapid.SampledFrom([]relay.Over{relay.Reject, relay.Clamp}).Draw(rt, "over"),
			Retrigger:  rapid.SampledFrom([]relay.Retrigger{relay.Extend, relay.Ignore, relay.Restart}).Draw(rt, "retrigger"),
			MinOff:     seconds("min off", 0, 2),
			Dead:       seconds("dead", 0, 2),
			PerMinute:  rapid.SampledFrom([]int{0, 2, 5}).Draw(rt, "per minute"),
			PulledDown: rapid.Bool().Draw(rt, "pulled down"),
		}
		if rapid.IntRange(0, 3).Draw(rt, "latching") == 0 {
			o.Latching, o.Lease = true, seconds("lease", 1, 6)
			if rapid.Bool().Draw(rt, "without max on") {
				o.MaxOn = 0
			}
		}
		if !o.SafeOn && rapid.Bool().Draw(rt, "exclusive") {
			o.Exclusive = "motor"
		}
		s.config.Outputs = append(s.config.Outputs, o)
		l := line{Output: o, chip: s.chips[chip], bit: 1 << i}
		if o.SafeOn == (o.Active == relay.ActiveHigh) {
			l.rest = l.bit
			l.chip.pulled |= l.bit
		}
		s.lines = append(s.lines, l)
	}
	s.config.MaxSimultaneous = rapid.SampledFrom([]int{0, 1, 2}).Draw(rt, "max simultaneous")
	for _, c := range s.chips {
		c.shown = c.pins()
		c.watch = func(pins uint16) { s.seen(c, pins) }
	}
	s.reboot()
	return s
}

func (s *scope) reboot() {
	s.boot(s.disk)
	s.r.Save = func(m relay.Memory) error {
		s.disk = overDisk(s.t, m)
		return nil
	}
	s.r.Brownout(s.low)
}

// command draws a command and follows it. Where faults happen, other outputs may end for reasons of their own.
func (s *scope) command(faults bool) {
	rt := s.rt
	l := &s.lines[rapid.IntRange(0, len(s.lines)-1).Draw(rt, "output")]
	cmd := relay.Command{
		ID:     rapid.SampledFrom([]string{"", "1", "2", "3", "4", "5", "6", "7", "8"}).Draw(rt, "id"),
		Output: l.Name,
		Action: rapid.SampledFrom([]relay.Action{relay.Pulse, relay.Pulse, relay.On, relay.Off}).Draw(rt, "action"),
		For:    rapid.SampledFrom([]time.Duration{0, 0, 30 * time.Millisecond, 400 * time.Millisecond, time.Second, 3 * time.Second, time.Minute}).Draw(rt, "for"),
		Source: "rule",
		Who:    fmt.Sprint(len(s.commands)),
	}
	s.commands[cmd.Who] = &fate{}
	before := s.r.Status(s.now)
	due := s.r.Next()
	if owner, known := s.energised[cmd.ID]; !known || cmd.ID == "" || owner != l.Name {
		s.doing = l.Name
	} // else it is a duplicate: nobody may leave the safe state
	duplicate := s.doing == ""
	out := s.do(cmd)
	s.doing = ""
	if duplicate {
		for _, a := range out.Acks {
			if a.Command.Who == cmd.Who && !a.Again && a.Status != relay.Rejected {
				rt.Fatalf("a duplicate was followed: %+v", a)
			}
		}
	}
	rests := cmd.Action == relay.Off && !l.SafeOn || cmd.Action == relay.On && l.SafeOn
	for _, a := range out.Acks {
		if a.Command.Who == cmd.Who && a.Status == relay.Accepted && !a.Again && !rests {
			l.renewed = s.now
			if cmd.ID != "" {
				s.energised[cmd.ID] = l.Name
			}
		}
	}
	for i, after := range s.r.Status(s.now) {
		expired := !before[i].Until.IsZero() && !before[i].Until.After(s.now)
		other := after.Name != l.Name || duplicate
		if other && !expired && !faults && after.Until != before[i].Until {
			rt.Fatalf("%+v moved the end of %s from %s to %s (next end was %s)", cmd, after.Name, before[i].Until, after.Until, due)
		}
	}
}

// answered counts the answers of all commands so far.
func (s *scope) answered() {
	for _, a := range s.acks {
		f := s.commands[a.Command.Who]
		switch {
		case f == nil || a.Again:
		case a.Status == relay.Accepted:
			f.accepted++
		case a.Status == relay.Rejected:
			f.rejected++
		default:
			f.finals++
		}
	}
	s.acks = nil
	for who, f := range s.commands {
		if f.accepted > 1 || f.rejected > 1 || f.accepted > 0 && f.rejected > 0 || f.finals > f.accepted {
			s.rt.Fatalf("command %s was accepted %d times, rejected %d, and ended %d", who, f.accepted, f.rejected, f.finals)
		}
	}
}

// wait lets time pass, in ticks that are not always in time.
func (s *scope) wait(faults bool) {
	for range rapid.IntRange(1, 40).Draw(s.rt, "ticks") {
		s.now = s.now.Add(tick)
		s.tick()
		if !faults {
			s.bounded()
		}
	}
}

func (s *scope) safe(faults bool) {
	s.took(s.r.Safe(s.t.Context(), s.now, "asked"))
	if !faults {
		s.allAtRest("after Safe")
	}
}

func (s *scope) allAtRest(when string) {
	for _, l := range s.lines {
		if l.away {
			s.rt.Fatalf("%s is on %s", l.Name, when)
		}
	}
}

func (s *scope) supply() {
	s.low = !s.low
	s.r.Brownout(s.low)
}

// kill ends the program without a word, and starts it again.
func (s *scope) kill() {
	s.answered()
	s.commands = map[string]*fate{} // who waits for the last word of an earlier one waits in vain
	for i := range s.lines {
		s.lines[i].begins = nil // how often it was on in the last minute is not known any more
	}
	s.reboot()
}

func TestWhateverIsCommandedTheBoundsHold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newScope(t, rt)
		rt.Repeat(map[string]func(*rapid.T){
			"command": func(*rapid.T) { s.command(false) },
			"again":   func(*rapid.T) { s.command(false) },
			"wait":    func(*rapid.T) { s.wait(false) },
			"safe":    func(*rapid.T) { s.safe(false) },
			"supply":  func(*rapid.T) { s.supply() },
			"kill": func(*rapid.T) {
				s.kill()
				s.allAtRest("after a start")
			},
			"": func(*rapid.T) { s.answered() },
		})
		s.pass(6 * time.Second) // the longest lease is three
		for range 24 {
			s.pass(3 * time.Minute)
		}
		s.allAtRest("although nothing was commanded for more than an hour")
		s.wantAllAnswered()
	})
}

func (s *scope) wantAllAnswered() {
	s.answered()
	for who, f := range s.commands {
		if f.finals != f.accepted {
			s.rt.Fatalf("command %s was accepted and never ended", who)
		}
	}
}

func TestWhateverFailsNothingComesOnByItselfAndAllGoesOffInTheEnd(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newScope(t, rt)
		chip := func() *expander { return s.chips[rapid.IntRange(0, 1).Draw(rt, "failing chip")] }
		rt.Repeat(map[string]func(*rapid.T){
			"command": func(*rapid.T) { s.command(true) },
			"again":   func(*rapid.T) { s.command(true) },
			"wait":    func(*rapid.T) { s.wait(true) },
			"safe":    func(*rapid.T) { s.safe(true) },
			"kill":    func(*rapid.T) { s.kill() },
			"deaf":    func(*rapid.T) { chip().deaf = rapid.IntRange(0, 12).Draw(rt, "calls") },
			"deaf to writes": func(*rapid.T) {
				c := chip()
				c.deafWrites, c.half = rapid.IntRange(0, 12).Draw(rt, "writes"), rapid.Bool().Draw(rt, "understood")
			},
			"brown-out": func(*rapid.T) { chip().brownOut() },
			"lost": func(*rapid.T) {
				s.took(s.r.Lost(s.now, "the bus is gone"))
				s.wait(true)
				s.start()
			},
			"": func(*rapid.T) { s.answered() },
		})
		for _, c := range s.chips {
			c.deaf, c.deafWrites = 0, 0
		}
		s.pass(3 * time.Second) // all is well again
		s.bounded2(s.now)
		for range 24 {
			s.pass(3 * time.Minute)
		}
		s.allAtRest("although nothing was commanded for more than an hour")
		s.wantAllAnswered()
		for _, st := range s.r.Status(s.now) {
			l := s.lines[slices.IndexFunc(s.lines, func(l line) bool { return l.Name == st.Name })]
			if st.On != l.SafeOn || st.Wanted != l.SafeOn || st.Fault != "" && !(l.chip.high && l.rest == 0 && !l.PulledDown) {
				rt.Fatalf("in the end: %+v", st)
			}
		}
	})
}

// bounded2 checks, after failures, that what is on is meant to be.
func (s *scope) bounded2(now time.Time) {
	for i, st := range s.r.Status(now) {
		if l := s.lines[i]; l.away && st.Wanted == l.SafeOn {
			s.rt.Fatalf("%s is on, and nobody wants it: %+v", l.Name, st)
		}
	}
}
