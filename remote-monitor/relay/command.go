package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What a sender may do.
const (
	clockSkew   = 5 * time.Minute // a command may come from so far in the future: clocks differ
	commandRate = 5.0             // commands a second of one source, on average
	commandPeak = 40.0            // and at once
)

// by is who commands, for people.
func by(c Command) string {
	return strings.TrimSpace(cmp.Or(c.Source, "somebody") + " " + shorten(c.Who))
}

// shorten keeps foreign text within bounds.
func shorten(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

// Do follows a command, or says why not. What turns an output on is one write to its chip, within this call; it is
// read back by the next Tick. What turns it off is written and read back at once.
//
// The answer to a command is Rejected, or Accepted and later, once, Done, ForcedOff or Failed. A command with an ID
// that came before, today, is answered as it was then, with its last answer too if there is one, and does nothing
// else. A command that prolongs the time of an output that is on takes it over: the earlier command is then Done.
//
// Rules and schedules may command as often as they like. Any other source may send 40 commands at once and 5 a second;
// beyond that, what turns an output off is followed all the same, but its ID is not remembered.
//
// IssuedAt is compared with the wall clock of now. It may be up to five minutes ahead of it; a sender whose clock is
// late by more than the TTL is rejected as stale. A TTL counts for at most a day, as long as IDs are remembered.
func (r *Relays) Do(ctx context.Context, now time.Time, cmd Command) Outcome {
	t := &turn{now: now}
	if len(r.due) > 0 && !r.due[0].run.end.After(now) {
		r.expire(lasting(ctx), t)
	}
	r.do(ctx, t, cmd)
	r.alarms(t)
	return t.Outcome
}

func (r *Relays) do(ctx context.Context, t *turn, cmd Command) {
	reject := func(rec *record, why error) {
		r.ack(t, rec, Ack{Command: cmd, Status: Rejected, Reason: fmt.Sprintf("cannot %s %q: %v", verb(cmd.Action), shorten(cmd.Output), why)})
	}
	if cmd.Retained {
		reject(nil, errors.New("the command was kept by the broker and may be of any age; send it without retain"))
		return
	}
	if len(cmd.ID) > longestID {
		reject(nil, fmt.Errorf("its id is longer than %d characters; send a UUID", longestID))
		return
	}
	allowed := r.allow(cmd.Source, t.now)
	if rec := r.memory.find(cmd.ID, t.now); rec != nil {
		if rec.Output != cmd.Output || rec.Action != cmd.Action {
			reject(nil, errors.New("its id was used for another command; give each command its own"))
			return
		}
		t.repeat(cmd, rec.First, rec.Last)
		return
	}
	o := r.named[cmd.Output]
	if o == nil {
		reject(nil, errors.New("there is no such output; see the configuration for their names"))
		return
	}
	ends := o.rests(cmd.Action)
	if !allowed && !ends { // an off is followed all the same, and not remembered
		reject(nil, fmt.Errorf("too many commands from %s; send at most %g in a second", by(cmd), commandRate))
		return
	}
	var rec *record
	if cmd.ID != "" && allowed {
		rec = &record{Remembered: Remembered{ID: cmd.ID, Output: cmd.Output, Action: cmd.Action, At: t.now}}
		r.memory.add(rec)
	}
	if err := o.refuses(cmd, t.now); err != nil {
		reject(rec, err)
		return
	}
	if ends {
		r.turnOff(ctx, t, o, cmd, rec)
		return
	}
	w, err := o.wish(cmd)
	if err == nil {
		err = o.usable(ctx)
	}
	if err == nil && o.run == nil {
		err = r.mayBegin(o, t.now)
	}
	if err != nil {
		reject(rec, err)
		return
	}
	next, changes := run{command: cmd, record: rec, asked: true, began: t.now}, true
	if o.run == nil {
		next.lasts(o, w, t.now)
	} else {
		next = *o.run
		next.command, next.record = cmd, rec
		changes = o.prolong(&next, w, t.now)
	}
	until := next.end
	if !changes {
		until = time.Time{}
	}
	if rec != nil && !r.keep(rec, until) {
		reject(rec, errors.New("it cannot be remembered, so that a duplicate could turn it on twice; see why the data folder cannot be written"))
		return
	}
	r.ack(t, rec, Ack{Command: cmd, Status: Accepted, Reason: w.note})
	switch {
	case o.run == nil:
		r.begin(ctx, t, o, &next)
	case changes:
		r.ack(t, o.run.record, Ack{Command: o.run.command, Status: Done, On: t.now.Sub(o.run.began), ReadBack: o.run.seen,
			Reason: "a later command took over; it stays " + o.word(true)})
		*o.run = next
		r.schedule(o)
	default:
		r.ack(t, rec, Ack{Command: cmd, Status: Done, ReadBack: next.seen,
			Reason: fmt.Sprintf("nothing changes: it is %s already, for another %s", o.word(true), next.end.Sub(t.now).Round(time.Millisecond))})
	}
}

// keep saves the command as accepted, before anything else comes of it.
func (r *Relays) keep(rec *record, until time.Time) bool {
	rec.Until = until
	if r.Save == nil {
		return true
	}
	rec.First = Answer{Status: Accepted, At: rec.At}
	err := r.Save(r.Memory())
	rec.First = Answer{} // ack fills it in
	return err == nil
}

func verb(a Action) string {
	switch a {
	case Pulse:
		return "pulse"
	case On, Off:
		return "turn " + string(a)
	}
	return "follow " + fmt.Sprintf("%q for", shorten(string(a)))
}

// rests reports whether an action brings the output to its safe state.
func (o *output) rests(a Action) bool {
	if o.SafeOn {
		return a == On
	}
	return a == Off
}

// refuses says what is wrong with a command whatever the output does.
func (o *output) refuses(cmd Command, now time.Time) error {
	ttl := min(cmp.Or(cmd.TTL, DefaultTTL), rememberFor)
	age := now.Round(0).Sub(cmd.IssuedAt.Round(0))
	switch {
	case cmd.Action != Pulse && cmd.Action != On && cmd.Action != Off:
		return fmt.Errorf("the actions are %s, %s and %s", Pulse, On, Off)
	case o.Sources != nil && !slices.Contains(o.Sources, cmd.Source):
		return fmt.Errorf("%s may not; its sources are %s", cmp.Or(cmd.Source, "somebody"), strings.Join(o.Sources, ", "))
	case cmd.For < 0:
		return fmt.Errorf("%s is no time; send one above zero", cmd.For)
	case cmd.TTL < 0:
		return fmt.Errorf("%s is no time to live; send one above zero", cmd.TTL)
	case cmd.IssuedAt.IsZero():
		return nil
	case age > ttl:
		return fmt.Errorf("it is stale: it was sent %s ago and good for %s", age.Round(time.Millisecond), ttl)
	case age < -clockSkew:
		return fmt.Errorf("it was sent %s in the future; see whether the clocks of the sender and of this device are right", (-age).Round(time.Millisecond))
	}
	return nil
}

// wish is what a command comes to: how long, and what its end is.
type wish struct {
	length time.Duration
	why    endKind
	note   string // for the acknowledgement
}

// wish makes a command fit the output's bounds.
func (o *output) wish(cmd Command) (wish, error) {
	longest := o.longest()
	switch {
	case cmd.For == 0 && cmd.Action != Pulse && o.Latching:
		return wish{length: o.Lease, why: leaseOver}, nil
	case cmd.For == 0 && cmd.Action != Pulse:
		return wish{length: longest, why: limitOver}, nil
	case cmd.For == 0:
		return wish{length: o.On}, nil
	case cmd.For <= longest:
		return wish{length: cmd.For}, nil
	case o.Over == Clamp:
		return wish{length: longest, note: fmt.Sprintf("shortened from %s to %s, the longest it may be %s", cmd.For, longest, o.word(true))}, nil
	}
	return wish{}, fmt.Errorf("%s is longer than %s, the longest it may be %s; send a shorter time", cmd.For, longest, o.word(true))
}

// usable says why an output cannot be turned on at all.
func (o *output) usable(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the program is stopping: %w", context.Cause(ctx))
	case o.trouble() != "":
		return errors.New(o.trouble())
	case o.run != nil && o.run.over != nil:
		return fmt.Errorf("it is not confirmed that it is %s; try again", o.word(false))
	}
	return nil
}

// mayBegin says why an output at rest may not leave it now.
func (r *Relays) mayBegin(o *output, now time.Time) error {
	if r.low {
		return errors.New("the supply is low; try again when it has recovered")
	}
	if wait := o.rested.Add(o.MinOff).Sub(now); o.MinOff > 0 && wait > 0 {
		return fmt.Errorf("it has to be %s for %s between two times; try again in %s", o.word(false), o.MinOff, wait.Round(time.Millisecond))
	}
	o.starts = slices.DeleteFunc(o.starts, func(at time.Time) bool { return now.Sub(at) >= time.Minute })
	if len(o.starts) >= o.PerMinute {
		return fmt.Errorf("it was %s %d times in the last minute, and may not be more often; try again later", o.word(true), len(o.starts))
	}
	running := 0
	for _, p := range r.outputs {
		if p.run != nil {
			running++
		}
		if p == o || o.Exclusive == "" || p.Exclusive != o.Exclusive {
			continue
		}
		if p.run != nil || !p.known {
			return fmt.Errorf("%q of the same group %q is on, or cannot be seen to be off; turn that off first", p.Name, o.Exclusive)
		}
		if wait := p.rested.Add(max(o.Dead, p.Dead)).Sub(now); wait > 0 {
			return fmt.Errorf("%q of the same group %q was on a moment ago; try again in %s", p.Name, o.Exclusive, wait.Round(time.Millisecond))
		}
	}
	if r.most > 0 && running >= r.most {
		return fmt.Errorf("%d outputs are on and max_simultaneous is %d; turn another off first", running, r.most)
	}
	return nil
}

// begin turns an output on.
func (r *Relays) begin(ctx context.Context, t *turn, o *output, next *run) {
	o.run = next
	o.starts = append(o.starts, t.now)
	o.chip.set(o, true)
	if r.write(ctx, t, o.chip) == nil {
		r.schedule(o)
		return
	}
	// The chip may have understood all the same.
	r.finish(t, o, ending{status: Failed, cause: ByBus, reason: o.chip.why})
	r.push(lasting(ctx), t, o.chip)
	if o.run != nil {
		r.answer(t, o, Failed, o.chip.why)
	}
}

// lasts sets the end of a run, and the limit that no command moves it beyond.
func (run *run) lasts(o *output, w wish, now time.Time) {
	if o.MaxOn > 0 {
		run.limit = now.Add(o.MaxOn)
	}
	run.until(w, now)
}

func (run *run) until(w wish, now time.Time) {
	run.end, run.why = now.Add(w.length), w.why
	if !run.limit.IsZero() && run.end.After(run.limit) {
		run.end, run.why = run.limit, limitOver
	}
}

// prolong is what a command for an output that is on already does to its run. It reports whether that changes.
func (o *output) prolong(run *run, w wish, now time.Time) bool {
	before := run.end
	switch {
	case o.Retrigger == Restart:
		run.lasts(o, w, now)
		return true
	case o.Retrigger == Ignore && w.why != leaseOver: // a lease is there to be renewed
	case now.Add(w.length).After(run.end):
		run.until(w, now)
	}
	return !run.end.Equal(before)
}

// turnOff follows a command for the safe state.
func (r *Relays) turnOff(ctx context.Context, t *turn, o *output, cmd Command, rec *record) {
	if c := o.chip; !c.ready || o.bit == 0 {
		r.ack(t, rec, Ack{Command: cmd, Status: Rejected, Reason: fmt.Sprintf("cannot %s %q: %s; it goes %s as soon as that is over",
			verb(cmd.Action), o.Name, o.trouble(), o.word(false))})
		return
	}
	r.ack(t, rec, Ack{Command: cmd, Status: Accepted})
	var on time.Duration
	note := "it was " + o.word(false) + " already"
	if o.run != nil {
		on, note = t.now.Sub(o.run.began), ""
		e := ending{status: ForcedOff, reason: "turned " + o.word(false) + " by " + by(cmd)}
		if o.run.command.Action != Pulse && o.run.command.For == 0 {
			e.status = Done // it was wanted until now
		}
		r.finish(t, o, e)
		if !t.now.Before(o.chip.retry) { // a chip that does not answer is not asked at every command
			o.chip.dirty = true
			r.push(lasting(ctx), t, o.chip)
		}
	}
	if o.run != nil {
		r.ack(t, rec, Ack{Command: cmd, Status: Failed, On: on, Reason: "it is not confirmed that it is " + o.word(false) + ": " + o.trouble() + "; it is tried until it is"})
		return
	}
	r.ack(t, rec, Ack{Command: cmd, Status: Done, On: on, ReadBack: o.chip.why == "", Reason: note})
}

// bucket limits the commands of a source.
type bucket struct {
	left float64
	at   time.Time
}

// allow reports whether a source may send another command now.
func (r *Relays) allow(source string, now time.Time) bool {
	if source == fromRule || source == fromSchedule {
		return true
	}
	if !slices.Contains(sources, source) {
		source = "" // whoever it is shares one
	}
	b := r.buckets[source]
	if b == nil {
		b = &bucket{left: commandPeak, at: now}
		r.buckets[source] = b
	}
	b.left = min(b.left+max(0, now.Sub(b.at).Seconds())*commandRate, commandPeak)
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
