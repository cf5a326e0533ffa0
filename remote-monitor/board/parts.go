package board

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// lookEvery is how often chips that are away are looked for.
const lookEvery = 10 * time.Second

// part is a lane with the chips on it, or chips that are away: a bus that was pulled keeps no other from being read, and
// no output elsewhere from going off.
type part struct {
	lane  // nil: away
	chips []Chip
	why   *trouble // when away
	look  time.Time
}

// away makes a part one that is away.
func (p *part) away(err error) {
	p.lane = nil
	p.why = &trouble{quality: Away, text: strings.TrimPrefix(err.Error(), ErrGone.Error()+": "), err: errors.Join(ErrGone, err)}
	p.look = time.Now().Add(lookEvery)
}

// has reports whether a pin is on one of the part's chips.
func (p *part) has(pin Pin) bool {
	return slices.ContainsFunc(p.chips, func(c Chip) bool { return c.Name == pin.Chip })
}

// fail makes the readings of a part that is away unknown.
func (p *part) fail(readings []Reading) {
	for i := range readings {
		if p.has(readings[i].Pin) {
			readings[i] = Reading{Pin: readings[i].Pin}
			readings[i].fail(p.why)
		}
	}
}

// missing adds a chip that cannot be opened.
func (s *site) missing(c Chip, outputs []int, err error) {
	p := &part{chips: []Chip{c}}
	p.away(err)
	s.parts = append(s.parts, p)
	var firsts []int
	for _, n := range outputs {
		if first := bankOf(n); !slices.Contains(firsts, first) {
			firsts = append(firsts, first)
			s.banks = append(s.banks, &missingBank{chip: c.Name, first: first, high: c.Kind == PCA9535 || c.Kind == PCF8574, why: p.why})
		}
	}
}

// back reports whether the chips of a part that is away can be opened and asked.
func (s *site) back(ctx context.Context, p *part) bool {
	c := Config{Chips: p.chips}
	for _, pin := range s.config.Inputs {
		if p.has(pin) {
			c.Inputs = append(c.Inputs, pin)
		}
	}
	for _, pin := range s.config.Outputs {
		if p.has(pin) {
			c.Outputs = append(c.Outputs, pin)
		}
	}
	b, err := s.host.Open(ctx, c)
	if err != nil {
		return false
	}
	_, err = b.Scan(ctx)
	return errors.Join(err, b.Close()) == nil
}

// search looks for the parts that are away. Its error is that one is back: only a board that is opened anew has it, and
// the others' outputs are begun anew with it.
func (s *site) search(ctx context.Context) error {
	for _, p := range s.parts {
		if p.lane != nil || time.Now().Before(p.look) {
			continue
		}
		p.look = time.Now().Add(lookEvery)
		if s.back(ctx, p) {
			var names []string
			for _, c := range p.chips {
				names = append(names, describe(c))
			}
			return fmt.Errorf("%s: back again; the board is opened anew", strings.Join(names, ", "))
		}
	}
	return nil
}

// missingBank is the outputs of a chip that cannot be opened. It implements Bank, and First.
type missingBank struct {
	chip  string
	first int
	high  bool
	why   *trouble
}

func (b *missingBank) Chip() string                        { return b.chip }
func (b *missingBank) First() int                          { return b.first }
func (b *missingBank) PowersUpHigh() bool                  { return b.high }
func (b *missingBank) Write(context.Context, uint16) error { return b.why }
func (b *missingBank) Read(context.Context) (Lines, error) { return Lines{}, b.why }
func (b *missingBank) Start(context.Context, uint16, uint16) (Lines, error) {
	return Lines{}, b.why
}

// bankOf is the first terminal of the bank that a terminal is in.
func bankOf(terminal int) int { return (terminal-1)/16*16 + 1 }
