package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
)

// chip is the outputs that are written together.
type chip struct {
	name    string
	outputs []*output
	bank    board.Bank // nil while the board is away

	mask, rest uint16 // the lines that are ours, and their levels when all outputs are at rest
	want       uint16 // the levels as they are meant to be
	ready      bool   // it was brought up
	dirty      bool   // want is not known to be in the latch
	check      bool   // it was written and not read since
	looked     time.Time
	brought    time.Time // when it was last brought up

	why   string    // why it cannot be used; empty while it answers
	since time.Time // when it stopped to answer; zero while it answers
	told  bool      // that it does not answer was told
	retry time.Time // not to be tried before
	pause time.Duration
}

// wire finds out which output is on which of a board's banks. A chip of many lines has several.
func (r *Relays) wire(banks []board.Bank) {
	told := map[string]bool{}
	for _, c := range r.chips {
		told[c.name] = told[c.name] || c.told
	}
	r.chips = nil
	for _, o := range r.outputs {
		bank, bit := board.Find(banks, o.Pin)
		i := slices.IndexFunc(r.chips, func(c *chip) bool { return c.name == o.Pin.Chip && c.bank == bank })
		if i < 0 {
			i = len(r.chips)
			r.chips = append(r.chips, &chip{name: o.Pin.Chip, bank: bank, why: "it was not brought up yet", told: told[o.Pin.Chip] && bank != nil})
		}
		r.chips[i].add(o, bit)
	}
}

// add makes an output one of the chip's.
func (c *chip) add(o *output, bit uint16) {
	c.outputs = append(c.outputs, o)
	c.mask |= bit
	o.chip, o.bit, o.refused, o.known, o.found = c, bit, "", false, false
	switch {
	case c.bank == nil:
		o.refused = fmt.Sprintf("the board has no output %s; see which chips and pins the configuration names", o.Pin)
	case o.high(false):
		c.rest |= bit
	case c.bank.PowersUpHigh() && !o.PulledDown:
		o.refused = fmt.Sprintf("%s powers up with its lines high, so that it would be %s until the program runs; use a relay that is active low, or a pull-down resistor and hardware_pulldown: true",
			c.name, o.word(true))
	}
}

// high reports the level of the line when the output is away from rest, or at rest.
func (o *output) high(away bool) bool {
	return (away != o.SafeOn) == (o.Active == ActiveHigh)
}

// set changes what the output's line is meant to show. It is written by write.
func (c *chip) set(o *output, away bool) {
	c.want &^= o.bit
	if o.high(away) {
		c.want |= o.bit
	}
	c.dirty = true
}

// lost forgets the bank. The outputs are meant to be at rest when there is one again.
func (c *chip) lost(why string) {
	c.bank, c.ready, c.why, c.since, c.told = nil, false, why, time.Time{}, false
}

// failed plans the next attempt at a chip that does not answer.
func (c *chip) failed(t *turn, err error) {
	if c.since.IsZero() {
		c.since = t.now
	}
	c.why = fmt.Sprintf("%s does not answer: %v", c.name, err)
	c.pause = min(max(2*c.pause, firstPause), longPause)
	c.retry = t.now.Add(c.pause)
}

// answers is called after a chip was read.
func (c *chip) answers(t *turn) {
	c.why, c.since, c.retry, c.pause = "", time.Time{}, time.Time{}, 0
	if c.told {
		c.told = false
		t.chip(Recovered, c, "it answers again")
	}
}

// awayIn is the lines that are not at rest in some levels.
func (c *chip) awayIn(levels uint16) uint16 { return (levels ^ c.rest) & c.mask }

// differs is the lines that are not told, or do not show, what they are meant to.
func (c *chip) differs(l board.Lines) uint16 {
	return ((l.Latch ^ c.want) | (l.Pins ^ c.want)) & c.mask
}

// forgot reports whether a chip that powers up high shows that of all its lines, although one was on and read back. A
// PCF8574 has no direction that would tell of a lost supply.
func (c *chip) forgot(l board.Lines) bool {
	return c.bank.PowersUpHigh() && l.Latch&c.mask == c.mask && slices.ContainsFunc(c.outputs, func(o *output) bool {
		return o.run != nil && o.run.seen && o.run.over == nil && c.want&o.bit == 0
	})
}

// write writes want, twice if it has to and the chip has answered so far.
func (r *Relays) write(ctx context.Context, t *turn, c *chip) error {
	err := c.bank.Write(ctx, c.want)
	if err != nil && c.since.IsZero() {
		err = c.bank.Write(lasting(ctx), c.want)
	}
	if err != nil {
		c.dirty = true
		c.failed(t, err)
		return err
	}
	c.dirty, c.check = false, true
	return nil
}

// read reads the chip, twice if it has to and the chip has answered so far.
func (r *Relays) read(ctx context.Context, t *turn, c *chip) (board.Lines, error) {
	l, err := c.bank.Read(ctx)
	if err != nil && c.since.IsZero() {
		l, err = c.bank.Read(lasting(ctx))
	}
	if err != nil {
		c.failed(t, err)
	}
	return l, err
}

// push writes chips, all of them before the first is read back.
func (r *Relays) push(ctx context.Context, t *turn, chips ...*chip) {
	var failed map[*chip]bool
	for _, c := range chips {
		if c.ready && c.dirty && r.write(ctx, t, c) != nil {
			if failed == nil {
				failed = map[*chip]bool{}
			}
			failed[c] = true
		}
	}
	for _, c := range chips {
		if c.ready && !failed[c] {
			r.look(ctx, t, c)
		}
	}
}

// bring brings a chip up with all its outputs at rest.
func (r *Relays) bring(ctx context.Context, t *turn, c *chip) {
	c.ready, c.want = false, c.rest
	found, err := c.bank.Start(lasting(ctx), c.mask, c.rest)
	for _, o := range c.outputs {
		if o.bit&found.Outputs&(c.awayIn(found.Latch)|c.awayIn(found.Pins)) != 0 && !o.found {
			o.found = true
			t.event(FoundOn, o, "it was "+o.word(true)+" when the board was opened")
			r.phantom(t, o, "it was found "+o.word(true))
		}
	}
	var lines board.Lines
	if err == nil {
		lines, err = c.bank.Read(lasting(ctx))
	}
	if err == nil && lines.Outputs&c.mask != c.mask {
		err = fmt.Errorf("it has outputs %016b, and was told to have %016b", lines.Outputs&c.mask, c.mask)
	}
	if err != nil {
		c.failed(t, err)
		if !c.told {
			c.told = true
			t.chip(Mismatch, c, "it cannot be brought up: "+err.Error())
		}
		return
	}
	c.ready, c.dirty, c.brought = true, false, t.now
	for _, o := range c.outputs {
		o.rested = t.now // what was on a moment ago is not known, so MinOff and Dead count from here
	}
	r.judge(ctx, t, c, lines)
}

// phantom is a time on that nobody asked for: it is over, and lasts until the output is confirmed at rest.
func (r *Relays) phantom(t *turn, o *output, reason string) {
	if o.run == nil {
		o.run = &run{began: t.now, seen: true, over: &ending{at: t.now, reason: reason}}
	}
}

// look reads a chip back and judges what it shows.
func (r *Relays) look(ctx context.Context, t *turn, c *chip) {
	if lines, err := r.read(ctx, t, c); err == nil {
		r.judge(ctx, t, c, lines)
	}
}

// judge compares what a chip shows with what it is meant to. What differs is written once more; an output that differs
// again is faulty and goes to rest. A chip that lost its direction has lost everything.
func (r *Relays) judge(ctx context.Context, t *turn, c *chip, lines board.Lines) {
	if lines.Outputs&c.mask != c.mask || c.forgot(lines) {
		r.reset(t, c)
		return
	}
	if bad := c.differs(lines); bad != 0 {
		var err error
		if lines, err = r.again(ctx, t, c); err != nil {
			return
		}
		still := c.differs(lines)
		for _, o := range c.outputs {
			switch {
			case still&o.bit != 0:
				r.fault(t, o, lines)
			case bad&o.bit != 0 && o.fault == "":
				t.event(Recovered, o, "it did not show what it was told; that was written again, and it does")
			}
		}
		if c.dirty { // faulty ones go to rest
			if lines, err = r.again(ctx, t, c); err != nil {
				return
			}
		}
	}
	c.looked, c.check = t.now, false
	c.answers(t)
	for _, o := range c.outputs {
		r.settle(t, o, lines)
	}
}

// again writes a chip and reads it back.
func (r *Relays) again(ctx context.Context, t *turn, c *chip) (board.Lines, error) {
	if err := r.write(ctx, t, c); err != nil {
		return board.Lines{}, err
	}
	lines, err := r.read(ctx, t, c)
	if err == nil && lines.Outputs&c.mask != c.mask {
		r.reset(t, c)
		err = errReset
	}
	return lines, err
}

var errReset = errors.New("the chip lost its registers")

// reset ends all that was on at a chip that lost its power or its registers; Tick brings it up again, with everything
// at rest. One that does so again and again is not brought up at every tick.
func (r *Relays) reset(t *turn, c *chip) {
	const reason = "the chip lost its power or its registers"
	t.chip(ExpanderReset, c, reason+"; what was on there stays off")
	for _, o := range c.outputs {
		r.finish(t, o, ending{status: ForcedOff, cause: ByReset, reason: reason})
		o.known = false
	}
	c.ready, c.why = false, reason
	if t.now.Sub(c.brought) < longPause {
		c.retry = t.now.Add(longPause)
	}
}

// fault marks an output whose pin does not show what it is told, and ends its time on.
func (r *Relays) fault(t *turn, o *output, l board.Lines) {
	o.faulty = t.now
	if o.fault != "" {
		return
	}
	c := o.chip
	away := c.want&o.bit != c.rest&o.bit
	o.fault = fmt.Sprintf("it is told to be %s, and its pin %s does not show that", o.word(away), o.Pin)
	t.event(Mismatch, o, o.fault+", twice")
	status := Failed
	if o.run != nil && o.run.seen {
		status = ForcedOff
	}
	r.finish(t, o, ending{status: status, cause: ByFault, reason: o.fault})
	if c.awayIn(l.Pins)&o.bit != 0 {
		r.phantom(t, o, o.fault)
	}
}

// settle takes note of what an output shows.
func (r *Relays) settle(t *turn, o *output, l board.Lines) {
	away := o.chip.awayIn(l.Pins)&o.bit != 0
	if away != o.away || o.changed.IsZero() {
		o.away, o.changed = away, t.now
	}
	o.known = true
	switch {
	case o.run == nil:
	case o.run.over == nil && away && !o.run.seen:
		o.run.seen = true
		t.event(o.turned(true), o, "by "+by(o.run.command))
	case o.run.over != nil && !away && !o.chip.dirty:
		r.confirm(t, o)
	}
	if o.fault != "" && o.chip.differs(l)&o.bit == 0 && t.now.Sub(o.faulty) >= faultHold {
		o.fault = ""
		t.event(Recovered, o, fmt.Sprintf("its pin has shown what it is told for %s", faultHold))
	}
}

// confirm ends a run whose output was read back at rest.
func (r *Relays) confirm(t *turn, o *output) {
	run, e := o.run, o.run.over
	on := run.lasted(t.now)
	reason := e.reason
	if late := t.now.Sub(e.at); late > 0 {
		reason = fmt.Sprintf("%s; it took %s until that was confirmed", reason, late.Round(time.Millisecond))
	}
	switch {
	case e.cause != "" && (run.seen || e.status != Failed):
		ev := t.event(Forced, o, reason)
		ev.On, ev.Cause = on, e.cause
	case e.cause == "":
		t.event(o.turned(false), o, reason).On = on
	}
	r.answer(t, o, e.status, explain(e, reason))
	o.total += on
	o.rested = t.now
	o.run = nil
	if !o.alarm.IsZero() {
		o.alarm = time.Time{}
		t.event(Recovered, o, "it is confirmed to be "+o.word(false))
	}
}

// explain is the reason of an acknowledgement: none when all went as it was asked.
func explain(e *ending, reason string) string {
	if e.status == Done && reason == e.reason {
		return ""
	}
	return reason
}

// silence gives up on a chip that has not answered for a while: what is on there can neither be seen nor, for the
// moment, be turned off, so it goes off as soon as the chip answers.
func (r *Relays) silence(ctx context.Context, t *turn, c *chip) {
	if c.since.IsZero() || t.now.Sub(c.since) < patience || c.told {
		return
	}
	c.told = true
	t.chip(Mismatch, c, c.why)
	for _, o := range c.outputs {
		r.finish(t, o, ending{status: ForcedOff, cause: ByBus, reason: c.why})
	}
	if c.dirty {
		r.push(ctx, t, c)
	}
}
