package board

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// pcf8574 is an expander of 8 lines that are each pulled up weakly or driven low (NXP PCF8574). It has no registers:
// what is written goes to the lines, what is read comes from them. It implements Bank.
type pcf8574 struct {
	chip    string
	wire    *wire
	addr    uint16
	inputs  uint16
	outputs uint16 // of the configuration
	wants   []want

	prepared bool
	buf      [1]byte

	mu      sync.Mutex
	started uint16
}

func (p *pcf8574) Chip() string       { return p.chip }
func (p *pcf8574) PowersUpHigh() bool { return true }

// Start implements Bank. There is no direction; a line that is no output is let go, which is high.
func (p *pcf8574) Start(ctx context.Context, outputs, levels uint16) (found Lines, err error) {
	if both := outputs & (p.inputs | 0xFF00); both != 0 {
		return Lines{}, fmt.Errorf("start %s: lines 0x%04x are inputs or do not exist", p.chip, both)
	}
	if found, err = p.Read(ctx); err != nil {
		return Lines{}, err
	}
	p.mu.Lock()
	p.started = outputs
	p.mu.Unlock()
	if err := p.Write(ctx, levels); err != nil {
		return found, err
	}
	now, err := p.Read(ctx)
	if err != nil {
		return found, err
	}
	if high := now.Pins & outputs &^ levels; high != 0 {
		return found, &trouble{quality: Stale, text: fmt.Sprintf("%s (0x%02x on bus %s): lines 0x%02x stay high after low was written; the chip is broken, or is not a %s",
			p.chip, p.addr, p.wire.name, high, PCF8574)}
	}
	p.prepared = true
	return found, nil
}

// Write implements Bank.
func (p *pcf8574) Write(ctx context.Context, levels uint16) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	started := p.started
	p.mu.Unlock()
	if started == 0 {
		return notStarted(p.chip)
	}
	v := levels | ^started
	return p.wire.tx(p.addr, []byte{byte(v)}, nil)
}

// Read implements Bank. The chip does not tell its latch; the lines stand for it.
func (p *pcf8574) Read(ctx context.Context) (Lines, error) {
	if err := ctx.Err(); err != nil {
		return Lines{}, err
	}
	pins, err := p.look()
	if err != nil {
		return Lines{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	outputs := p.started
	if outputs == 0 {
		outputs = 0xFF // of a former program, any line may be one
	}
	return Lines{Outputs: outputs, Latch: pins, Pins: pins}, nil
}

// scan implements inputChip. Only lines that are let go can be read; a chip with outputs is written to by Start first.
func (p *pcf8574) scan(readings []Reading) {
	var pins uint16
	var err error
	switch {
	case p.prepared:
	case p.outputs != 0:
		err = &trouble{quality: Stale, text: p.chip + " is not set up yet", err: errors.ErrUnsupported}
	default:
		err = p.wire.tx(p.addr, []byte{0xFF}, nil)
	}
	if err == nil {
		pins, err = p.look()
	}
	// Without outputs it is written to again after it was away.
	p.prepared = err == nil || p.prepared && p.outputs != 0
	report(readings, p.wants, pins, err)
}

func (p *pcf8574) look() (uint16, error) {
	err := p.wire.tx(p.addr, nil, p.buf[:])
	return uint16(p.buf[0]), err
}
