package board

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// model is a kind of converter: how to start a conversion and how to fetch its result.
type model interface {
	// start begins a conversion of a terminal, counted from 0.
	start(w *wire, addr uint16, terminal int) error
	// fetch asks for the result. Not ready is no error; why says what came instead of a result, and what that
	// makes of the reading if it stays so.
	fetch(w *wire, addr uint16, terminal int) (code int, ready bool, why trouble, err error)
	// takes is the longest a conversion takes in good health.
	takes() time.Duration
	// volts is what a code is at the terminal, and whether it is at the end of the range.
	volts(code int) (v float64, saturated bool)
}

// want is a terminal that is read.
type want struct {
	terminal int // of one converter or expander, from 0
	reading  int // index into the scan
}

// converter is one converter chip, which does one conversion at a time.
type converter struct {
	model
	addr  uint16
	wants []want

	next  int       // of wants; len(wants) when the scan is done with the chip
	due   time.Time // when to ask for the result
	until time.Time // when it is late for good
}

// begin starts the conversion of the next terminal. A chip that cannot be asked is done for this scan.
func (c *converter) begin(w *wire, readings []Reading) {
	if c.next == len(c.wants) {
		return
	}
	if err := c.start(w, c.addr, c.wants[c.next].terminal); err != nil {
		c.giveUp(readings, err)
		return
	}
	now := time.Now()
	c.due, c.until = now.Add(c.takes()), now.Add(3*c.takes())
}

// step asks for the result, and goes on to the next terminal when this one is over.
func (c *converter) step(w *wire, readings []Reading) {
	t := c.wants[c.next]
	code, ready, why, err := c.fetch(w, c.addr, t.terminal)
	now := time.Now()
	switch r := &readings[t.reading]; {
	case err != nil:
		c.giveUp(readings, err)
		return
	case ready:
		v, saturated := c.volts(code)
		r.Time, r.Code, r.Volts = now, code, v
		if saturated {
			r.Quality = Saturated
		}
	case now.Before(c.until):
		c.due = now.Add(max(c.takes()/8, time.Millisecond/4))
		return
	case why.quality == Timeout:
		// The other terminals have the same converter; they would wait as long for as little.
		never := why
		c.giveUp(readings, &never)
		return
	default:
		r.Time, r.Quality, r.Unknown = now, why.quality, why.text
	}
	c.next++
	c.begin(w, readings)
}

// giveUp leaves what is left of the chip's terminals unknown.
func (c *converter) giveUp(readings []Reading, err error) {
	for ; c.next < len(c.wants); c.next++ {
		readings[c.wants[c.next].reading].fail(err)
	}
}

// fail says that the input could not be read, and why.
func (r *Reading) fail(err error) {
	r.Time, r.Quality, r.Unknown = time.Now(), Away, err.Error()
	if t := (*trouble)(nil); errors.As(err, &t) {
		r.Quality, r.Unknown = t.quality, t.text
	}
}

// lane is a part of the board that is read on its own: a bus, or a device of the kernel. Lanes are read at the same
// time; within one it is one thing after the other.
type lane interface {
	// scan fills in the readings of the lane. An error means that the lane is away as a whole.
	scan(ctx context.Context, readings []Reading) error
	close() error
}

// busLane is an I2C bus with the chips on it that have inputs.
type busLane struct {
	*wire
	converters []*converter
	expanders  []inputChip
	wants      []int // indexes of the lane's readings
	timer      *time.Timer
}

// inputChip is an expander some of whose lines are inputs.
type inputChip interface {
	scan(readings []Reading)
}

// scan keeps all converters of the bus busy: it starts each, and goes to the one that is due next.
func (l *busLane) scan(ctx context.Context, readings []Reading) error {
	for _, c := range l.converters {
		c.next = 0
		c.begin(l.wire, readings)
	}
	for _, e := range l.expanders {
		e.scan(readings) // while the converters convert
	}
	for {
		var c *converter
		for _, other := range l.converters {
			if other.next < len(other.wants) && (c == nil || other.due.Before(c.due)) {
				c = other
			}
		}
		if c == nil {
			return l.verdict(readings)
		}
		if err := l.wait(ctx, c.due); err != nil {
			return err
		}
		c.step(l.wire, readings)
	}
}

// wait returns when it is t.
func (l *busLane) wait(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err()
	}
	if l.timer == nil {
		l.timer = time.NewTimer(d)
	} else {
		l.timer.Reset(d)
	}
	select {
	case <-ctx.Done():
		l.timer.Stop()
		return ctx.Err()
	case <-l.timer.C:
		return nil
	}
}

// verdict is an error if the bus is gone: because it says so, or because nothing on it could be asked at all.
func (l *busLane) verdict(readings []Reading) error {
	if err := l.lost(); err != nil {
		return err
	}
	for _, i := range l.wants {
		if readings[i].Quality != Away {
			return nil
		}
	}
	if len(l.wants) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrGone, readings[l.wants[0]].Unknown)
}
