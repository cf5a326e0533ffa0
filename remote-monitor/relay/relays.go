package relay

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
)

// How often things are looked at and told.
const (
	verifyEvery = time.Second      // between two read-backs of a chip
	remindEvery = 10 * time.Second // between two Unconfirmed of an output
	patience    = 2 * time.Second  // silence of a chip, or an off that is not confirmed, before it counts as a failure
	faultHold   = time.Minute      // a faulty pin has to be right for so long before the output is used again
	firstPause  = 20 * time.Millisecond
	longPause   = time.Second // the longest between two attempts to reach a chip that does not answer
)

// Relays drives the outputs of a configuration. One goroutine owns it and the banks: it locks nothing, starts nothing
// and never sleeps; the time is an argument, and should carry its monotonic reading, because that is what outputs are
// timed by. Only IssuedAt of a command, and Memory, are compared with wall clocks.
//
// Every method that takes a context makes a few calls on the bus, bounded by that context. A context that has ended
// keeps no output on, because what turns off is then written without it; but nothing is turned on any more.
type Relays struct {
	// Save keeps the memory, durably, before a command with an ID energises anything; if it fails, the command is
	// rejected. Nil: nothing is kept, and a duplicate that comes after a restart is a new command. It is called
	// within Do and holds up the caller for as long as it takes.
	Save func(Memory) error

	outputs []*output
	named   map[string]*output
	chips   []*chip
	most    int
	due     []*output // on, with an end; the next to go off is the first
	low     bool      // the supply
	memory  memory
	buckets map[string]*bucket
}

// Outcome is what came of a call, in the order it happened.
type Outcome struct {
	Events []Event
	Acks   []Ack
}

// output is one output as it stands. Away means away from its safe state: on, unless SafeOn.
type output struct {
	Output
	chip    *chip
	bit     uint16
	refused string // why it is never driven on this board

	run     *run      // nil: it is at rest, and is meant to be
	found   bool      // on, when the board was opened
	known   bool      // it was read back since the chip was brought up
	away    bool      // as it was last read back
	changed time.Time // of away; zero: never read
	rested  time.Time // when it came to rest, or its chip was brought up
	starts  []time.Time
	total   time.Duration

	fault  string
	faulty time.Time // when it last did not show what it was told
	alarm  time.Time // when Unconfirmed was last told; zero: never, or it was confirmed since
}

// run is one time away from the safe state, from the write until rest was read back.
type run struct {
	command Command
	record  *record // of the command's ID; may be nil
	asked   bool    // by a command: somebody waits for an acknowledgement
	began   time.Time
	end     time.Time // when it goes to rest by itself
	why     endKind   // what end is
	limit   time.Time // no command moves end beyond it; zero: none
	seen    bool      // it was read back away
	over    *ending   // nil: it lasts
}

type endKind int

const (
	timeOver  endKind = iota // the time that the command gave
	limitOver                // MaxOn
	leaseOver
)

// ending is why a run is over, although it may not have been confirmed yet.
type ending struct {
	at     time.Time
	status AckStatus
	cause  Cause // not empty: forced off
	reason string
	told   bool // its acknowledgement was sent
}

// turn is one call: its time, and what came of it so far.
type turn struct {
	now time.Time
	Outcome
}

func (t *turn) event(k EventKind, o *output, reason string) *Event {
	t.Events = append(t.Events, Event{Time: t.now, Kind: k, Output: o.Name, Chip: o.chip.name, Reason: reason})
	return &t.Events[len(t.Events)-1]
}

func (t *turn) chip(k EventKind, c *chip, reason string) {
	t.Events = append(t.Events, Event{Time: t.now, Kind: k, Chip: c.name, Reason: reason})
}

// New checks the whole configuration and reports all that is wrong with it, each thing with the output, the value and
// what to do. The outputs reject commands until Start.
func New(c Config) (*Relays, error) {
	if err := check(c); err != nil {
		return nil, err
	}
	r := &Relays{named: map[string]*output{}, most: c.MaxSimultaneous, buckets: map[string]*bucket{}}
	r.memory.byID = map[string]*record{}
	for _, s := range c.Outputs {
		o := &output{Output: withDefaults(s)}
		o.Sources = slices.Clone(s.Sources)
		r.outputs = append(r.outputs, o)
		r.named[o.Name] = o
	}
	r.wire(nil)
	r.away("the board was not opened yet")
	return r, nil
}

// Start takes a board that was just opened: on each chip it latches the safe state and reads it back, then sets the
// direction and reads it back, and only then are commands accepted. Nothing is adopted from before: what was on goes
// off, with an event and, if it was on by a command, its acknowledgement. A chip that cannot be brought up is tried
// again by Tick. Nobody knows when outputs were last on, so MinOff and Dead count from here. Start is repeated whenever
// the board was opened again.
func (r *Relays) Start(ctx context.Context, now time.Time, banks []board.Bank) Outcome {
	t := &turn{now: now}
	for _, o := range r.outputs {
		r.finish(t, o, ending{status: ForcedOff, cause: ByBus, reason: "the board was opened again"})
	}
	r.wire(banks)
	for _, o := range r.outputs {
		if o.refused != "" {
			t.event(Mismatch, o, o.refused)
		}
	}
	for _, c := range r.chips {
		if c.bank != nil {
			r.bring(ctx, t, c)
		}
	}
	r.orphans(t)
	r.alarms(t)
	return t.Outcome
}

// Lost tells that the board is away. Commands are rejected until Start, and outputs that were on are over: when the
// board is back they go off.
func (r *Relays) Lost(now time.Time, why string) Outcome {
	t := &turn{now: now}
	for _, o := range r.outputs {
		r.finish(t, o, ending{status: ForcedOff, cause: ByBus, reason: "the board is away: " + why})
	}
	r.away("the board is away: " + why)
	r.alarms(t)
	return t.Outcome
}

// away forgets the board.
func (r *Relays) away(why string) {
	for _, c := range r.chips {
		c.lost(why)
	}
	for _, o := range r.outputs {
		o.refused, o.known = "", false
	}
}

// Tick does what is due, and should be called some twenty times a second: outputs whose time or lease is over go off,
// chips that do not answer are tried again, each chip is read back once a second and after each write, and alarms that
// still stand are repeated.
func (r *Relays) Tick(ctx context.Context, now time.Time) Outcome {
	t := &turn{now: now}
	ctx = lasting(ctx)
	r.expire(ctx, t)
	for _, c := range r.chips {
		switch {
		case !c.ready || now.Before(c.retry):
		case c.dirty:
			r.push(ctx, t, c)
		case c.check || now.Sub(c.looked) >= verifyEvery:
			r.look(ctx, t, c)
		}
		if c.bank != nil && !c.ready && !now.Before(c.retry) {
			r.bring(ctx, t, c)
		}
		r.silence(ctx, t, c)
	}
	r.alarms(t)
	return t.Outcome
}

// Safe brings all outputs to their safe state, with one write to each chip before any is read back, and acknowledges
// what was on as forced off, or as failed where it cannot be confirmed. It is for a stop, a panic or a loop that is
// late; commands are accepted afterwards as before, if any come.
func (r *Relays) Safe(ctx context.Context, now time.Time, reason string) Outcome {
	t := &turn{now: now}
	ctx = lasting(ctx)
	for _, o := range r.outputs {
		r.finish(t, o, ending{status: ForcedOff, cause: BySafe, reason: reason})
	}
	var ready []*chip
	for _, c := range r.chips {
		if c.ready {
			c.dirty = true
			ready = append(ready, c)
		}
	}
	r.push(ctx, t, ready...)
	for _, c := range r.chips {
		if !c.ready && c.bank != nil {
			r.bring(ctx, t, c)
		}
	}
	for _, o := range r.outputs {
		if o.run != nil {
			r.answer(t, o, Failed, reason+"; it cannot be confirmed that it is "+o.word(false)+": "+o.trouble())
		}
	}
	r.alarms(t)
	return t.Outcome
}

// Brownout tells whether the supply is low. While it is, nothing is turned on; what is on stays, may be extended, and
// goes off as always.
func (r *Relays) Brownout(low bool) { r.low = low }

// Next is when the next output goes off by itself, for a caller that can wake up between two ticks; zero if none is on.
func (r *Relays) Next() time.Time {
	if len(r.due) == 0 {
		return time.Time{}
	}
	return r.due[0].run.end
}

// Status is all outputs in the order of the configuration. TotalOn is the time away from the safe state.
func (r *Relays) Status(now time.Time) []Status {
	all := make([]Status, 0, len(r.outputs))
	for _, o := range r.outputs {
		s := Status{Name: o.Name, On: !o.changed.IsZero() && o.away != o.SafeOn, Wanted: o.SafeOn, Since: o.changed, Fault: o.trouble(), TotalOn: o.total}
		if o.run != nil {
			s.Source = o.run.command.Source
			s.TotalOn += now.Sub(o.run.began)
			if o.run.over == nil {
				s.Wanted = !o.SafeOn
				s.Until = o.run.end
			}
		}
		all = append(all, s)
	}
	return all
}

// trouble is why the output cannot be used; empty when it can.
func (o *output) trouble() string {
	switch {
	case o.refused != "":
		return o.refused
	case o.chip.why != "":
		return o.chip.why
	case o.fault != "":
		return o.fault
	case o.alarm.IsZero():
		return ""
	}
	return "it was not confirmed that it is " + o.word(false)
}

// word is what people call the safe state, or away from it.
func (o *output) word(away bool) string {
	if away != o.SafeOn {
		return "on"
	}
	return "off"
}

// turned is the kind of event of a change.
func (o *output) turned(away bool) EventKind {
	if away != o.SafeOn {
		return TurnedOn
	}
	return TurnedOff
}

// schedule puts an output's end in order.
func (r *Relays) schedule(o *output) {
	r.unschedule(o)
	i, _ := slices.BinarySearchFunc(r.due, o, func(a, b *output) int {
		return cmp.Or(a.run.end.Compare(b.run.end), -1) // after those that end at the same time
	})
	r.due = slices.Insert(r.due, i, o)
}

func (r *Relays) unschedule(o *output) {
	if i := slices.Index(r.due, o); i >= 0 {
		r.due = slices.Delete(r.due, i, i+1)
	}
}

// expire turns off what is due, before anything else is done, in one write to each chip.
func (r *Relays) expire(ctx context.Context, t *turn) {
	var late []*chip
	for len(r.due) > 0 && !r.due[0].run.end.After(t.now) {
		o := r.due[0]
		e := ending{status: Done, reason: "its time is over"}
		switch o.run.why {
		case limitOver:
			e = ending{status: ForcedOff, cause: ByLimit, reason: fmt.Sprintf("it was %s for %s, the longest it may be", o.word(true), o.MaxOn)}
		case leaseOver:
			e = ending{status: ForcedOff, cause: ByLease, reason: fmt.Sprintf("its lease of %s ran out: no command renewed it", o.Lease)}
		}
		r.finish(t, o, e)
		if !slices.Contains(late, o.chip) {
			late = append(late, o.chip)
		}
	}
	r.push(ctx, t, late...)
}

// finish makes a run over: from now its output is meant to be at rest. The chip is written by push.
func (r *Relays) finish(t *turn, o *output, e ending) {
	if o.run == nil || o.run.over != nil {
		return
	}
	e.at = t.now
	o.run.over = &e
	r.unschedule(o)
	o.chip.set(o, false)
}

// alarms tells again of what is still not confirmed to be at rest, and gives up waiting with the acknowledgement.
func (r *Relays) alarms(t *turn) {
	for _, o := range r.outputs {
		if o.run == nil || o.run.over == nil {
			continue
		}
		why := "it is told to be " + o.word(false) + " and that is not confirmed: " + cmp.Or(o.trouble(), "its pin was not read")
		if t.now.Sub(o.run.over.at) >= patience {
			r.answer(t, o, Failed, o.run.over.reason+"; "+why)
		}
		if o.alarm.IsZero() || t.now.Sub(o.alarm) >= remindEvery {
			t.event(Unconfirmed, o, why+"; it is tried until it is")
			o.alarm = t.now
		}
	}
}

// answer sends the last acknowledgement of a run's command, if it was not sent yet.
func (r *Relays) answer(t *turn, o *output, status AckStatus, reason string) {
	run := o.run
	if run.over.told || !run.asked {
		return
	}
	run.over.told = true
	r.ack(t, run.record, Ack{Command: run.command, Status: status, Reason: reason, On: run.lasted(t.now), ReadBack: status != Failed && run.seen})
}

// lasted is the measured time away from rest. A pin that never showed it was never away.
func (run *run) lasted(now time.Time) time.Duration {
	if !run.seen && run.over != nil && run.over.cause == ByFault {
		return 0
	}
	return now.Sub(run.began)
}

// lasting is ctx, or if that has ended, a context that has not.
func lasting(ctx context.Context) context.Context {
	if ctx.Err() != nil {
		return context.WithoutCancel(ctx)
	}
	return ctx
}
