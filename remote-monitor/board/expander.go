package board

import (
	"cmp"
	"context"
	"fmt"
	"sync"
)

// The registers of port A of an MCP23017 with IOCON.BANK clear; port B's are one higher.
const (
	mcpPolarity   = 0x02
	mcpInterrupts = 0x04
	mcpIOCON      = 0x0A
	mcpPullUps    = 0x0C
	mcpPins       = 0x12

	// mcpIOCONBanked is where IOCON is while IOCON.BANK is set.
	mcpIOCONBanked = 0x05
)

// pcaPolarity is a register of a PCA9535.
const pcaPolarity = 4

// registers say where an expander of 16 lines has what both kinds have. In direction 1 is an input.
type registers struct{ direction, latch, pins byte }

// expander is an MCP23017 (Microchip DS20001952) or a PCA9535 (NXP). It implements Bank.
type expander struct {
	registers
	kind    Kind
	chip    string
	wire    *wire
	addr    uint16
	inputs  uint16
	outputs uint16 // of the configuration; Start may be given fewer
	pulled  uint16 // lines with a pull-up
	wants   []want

	prepared bool // the inputs are inputs
	buf      [9]byte

	mu      sync.Mutex
	started uint16 // outputs since Start
	rest    uint16 // latch of the other lines, left as it was found
}

func (e *expander) Chip() string       { return e.chip }
func (e *expander) PowersUpHigh() bool { return e.kind == PCA9535 }

// Start implements Bank.
func (e *expander) Start(ctx context.Context, outputs, levels uint16) (found Lines, err error) {
	if both := outputs & e.inputs; both != 0 {
		return Lines{}, fmt.Errorf("start %s: lines 0x%04x are inputs", e.chip, both)
	}
	if err := e.settle(); err != nil {
		return Lines{}, err
	}
	if found, err = e.Read(ctx); err != nil {
		return Lines{}, err
	}
	// Lines that are about to be released keep their latch until they are: one that was left on goes straight off.
	rest := found.Latch &^ outputs
	e.mu.Lock()
	e.started, e.rest = outputs, rest
	e.mu.Unlock()
	if err := e.set("latch", e.latch, levels&outputs|rest); err != nil {
		return found, err
	}
	if err := e.set("direction", e.direction, ^outputs); err != nil {
		return found, err
	}
	e.prepared = true
	return found, nil
}

// Write implements Bank.
func (e *expander) Write(ctx context.Context, levels uint16) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.mu.Lock()
	started, v := e.started, levels&e.started|e.rest
	e.mu.Unlock()
	if started == 0 {
		return notStarted(e.chip)
	}
	return e.wire.tx(e.addr, []byte{e.latch, byte(v), byte(v >> 8)}, nil)
}

// Read implements Bank. A chip whose other registers are not as Start left them reads as one without outputs, as after
// a brown-out: the rest of it is not to be believed either, and Start puts it in order.
func (e *expander) Read(ctx context.Context) (Lines, error) {
	if err := ctx.Err(); err != nil {
		return Lines{}, err
	}
	direction, settled, err1 := e.health()
	latch, err2 := e.get(e.latch)
	pins, err3 := e.get(e.pins)
	if err := cmp.Or(err1, err2, err3); err != nil || !settled {
		return Lines{}, err
	}
	return Lines{Outputs: ^direction, Latch: latch, Pins: pins}, nil
}

// health is the direction, and whether the registers are still in place and read the lines as they are.
func (e *expander) health() (direction uint16, settled bool, err error) {
	if e.kind == PCA9535 {
		polarity, err1 := e.get(pcaPolarity)
		direction, err2 := e.get(e.direction)
		return direction, polarity == 0, cmp.Or(err1, err2)
	}
	// Direction, polarity and interrupts in one read. If noise moved the registers, the sixth is IOCON; if it stopped
	// the pointer, they repeat.
	e.buf[0] = e.direction
	b := e.buf[1:7]
	err = e.wire.tx(e.addr, e.buf[:1], b)
	return uint16(b[0]) | uint16(b[1])<<8, b[2]|b[3]|b[4]|b[5] == 0, err
}

// settle puts everything but direction and latch in order. No line that is an output changes.
func (e *expander) settle() error {
	if e.kind == PCA9535 {
		return e.put(pcaPolarity, 0)
	}
	// Noise that sets IOCON.BANK moves all registers, and then 0x0A, where IOCON is otherwise, is a latch. So the first
	// write goes where IOCON is in that case. In the other it switches off interrupts, which nobody uses.
	if err := e.wire.tx(e.addr, []byte{mcpIOCONBanked, 0}, nil); err != nil {
		return err
	}
	if err := e.wire.tx(e.addr, []byte{mcpIOCON, 0}, nil); err != nil {
		return err
	}
	v, err := e.get(mcpIOCON)
	if err == nil && v != 0 {
		err = e.differs("IOCON", v, 0)
	}
	for _, r := range []struct {
		register byte
		value    uint16
	}{{mcpPolarity, 0}, {mcpInterrupts, 0}, {mcpPullUps, e.pulled}} {
		if err == nil {
			err = e.put(r.register, r.value)
		}
	}
	return err
}

// prepare makes the inputs inputs. Outputs stay as they are, because only Start knows their safe levels; a chip that
// has none lets go of all its lines.
func (e *expander) prepare() error {
	if err := e.settle(); err != nil {
		return err
	}
	found, err := e.get(e.direction)
	if err != nil {
		return err
	}
	direction := found | e.inputs
	if e.outputs == 0 {
		direction = 0xFFFF
	}
	if direction != found {
		if err := e.set("direction", e.direction, direction); err != nil {
			return err
		}
	}
	e.prepared = true
	return nil
}

// scan implements inputChip.
func (e *expander) scan(readings []Reading) {
	var pins uint16
	var err error
	if !e.prepared {
		err = e.prepare()
	}
	if err == nil {
		pins, err = e.look()
	}
	if err != nil {
		e.prepared = false
	}
	report(readings, e.wants, pins, err)
}

// look reads the lines, and the pull-ups with them: a chip that lost its power has none, and its inputs would read
// anything.
func (e *expander) look() (pins uint16, err error) {
	if e.pulled == 0 {
		return e.get(e.pins)
	}
	e.buf[0] = mcpPullUps
	b := e.buf[1:]
	if err := e.wire.tx(e.addr, e.buf[:1], b); err != nil {
		return 0, err
	}
	if v := uint16(b[0]) | uint16(b[1])<<8; v != e.pulled {
		return 0, &trouble{quality: Stale, text: fmt.Sprintf("the expander at 0x%02x on bus %s lost its power; it is set up again", e.addr, e.wire.name)}
	}
	at := mcpPins - mcpPullUps
	return uint16(b[at]) | uint16(b[at+1])<<8, nil
}

// get reads a pair of registers.
func (e *expander) get(register byte) (uint16, error) {
	e.buf[0] = register
	b := e.buf[1:3]
	err := e.wire.tx(e.addr, e.buf[:1], b)
	return uint16(b[0]) | uint16(b[1])<<8, err
}

// put writes a pair of registers.
func (e *expander) put(register byte, v uint16) error {
	e.buf[0], e.buf[1], e.buf[2] = register, byte(v), byte(v>>8)
	return e.wire.tx(e.addr, e.buf[:3], nil)
}

// set writes a pair of registers and reads them back.
func (e *expander) set(what string, register byte, v uint16) error {
	if err := e.put(register, v); err != nil {
		return err
	}
	got, err := e.get(register)
	if err == nil && got != v {
		err = e.differs(what, got, v)
	}
	return err
}

func (e *expander) differs(what string, got, wrote uint16) error {
	return &trouble{quality: Stale, text: fmt.Sprintf("%s (0x%02x on bus %s): %s reads 0x%04x after 0x%04x was written; the chip is broken, or is not an %s",
		e.chip, e.addr, e.wire.name, what, got, wrote, e.kind)}
}

// notStarted is the answer to a Write before Start: only Start learns what the other lines of the latch are.
func notStarted(chip string) error { return fmt.Errorf("%s has no outputs yet", chip) }

// report turns lines into readings.
func report(readings []Reading, wants []want, pins uint16, err error) {
	for _, t := range wants {
		r := &readings[t.reading]
		if err != nil {
			r.fail(err)
			continue
		}
		r.line(pins&(1<<t.terminal) != 0)
	}
}
