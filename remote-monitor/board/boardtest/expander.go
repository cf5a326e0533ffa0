package boardtest

// Expander is what the simulators of expanders have in common: a Chip with lines that outputs show on. It is part of
// each; its methods may be called while the bus is in use.
type Expander struct {
	Chip
	lines  lines
	drives func() string // the Drive of each line
	looked func()        // the lines may have changed from outside
}

func (e *Expander) init(count int, drives func() string, reset func()) {
	e.lines.count = count
	e.drives = func() string {
		if e.off {
			return "----------------"[:count]
		}
		return drives()
	}
	e.por = func() {
		reset()
		e.wrote(-1, 0)
	}
	reset()
	e.lines.first = e.drives()
}

// SetPin has something outside, such as a contact, drive the line of a pin, from 1, to Low or High, or let go of it
// (Floating). A line that the chip drives does not follow.
func (e *Expander) SetPin(pin int, d Drive) { e.outside(pin, d, false) }

// Short ties the line of a pin to Low or High harder than the chip can drive it, or lets go of it (Floating).
func (e *Expander) Short(pin int, d Drive) { e.outside(pin, d, true) }

func (e *Expander) outside(pin int, d Drive, hard bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines.set(pin, d, hard)
	if e.looked != nil {
		e.looked()
	}
}

// Deaf makes the chip acknowledge what is written to its registers and keep nothing of it; or hear again.
func (e *Expander) Deaf(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines.deaf = on
}

// Pins is what the lines show; bit 0 is pin 1.
func (e *Expander) Pins() uint16 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lines.pins(e.drives())
}

// Steps is what happened since the chip was made or Forget was called, oldest first.
func (e *Expander) Steps() []Step {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Step(nil), e.lines.steps...)
}

// Seen is what the chip did to the line of a pin since it was made or Forget was called: its Drives in their order,
// each change once, the one it began with first. "-1" is a line that floated and then was driven high; "-010" has a
// glitch.
func (e *Expander) Seen(pin int) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lines.seen(pin)
}

// Forget makes Steps and Seen begin anew.
func (e *Expander) Forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines.steps, e.lines.first = nil, e.drives()
}

// wrote records that a register has a new value.
func (e *Expander) wrote(register int, value byte) {
	e.lines.record(Step{Time: e.now(), Register: register, Value: value, Lines: e.drives()})
}

// read16 is what the lines show.
func (e *Expander) read16() uint16 { return e.lines.pins(e.drives()) }
