package board

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"periph.io/x/conn/v3/i2c"
)

// Host is the machine that the chips are wired to. The zero value is this one.
type Host struct {
	// Root is the folder in which dev and sys are; empty is /.
	Root string
	// I2C opens a bus by its number; nil is Linux's own.
	I2C func(number int) (i2c.BusCloser, error)
}

// Open makes a Board of the chips of this machine. See Host.Open.
func Open(ctx context.Context, c Config) (Board, error) { return Host{}.Open(ctx, c) }

// Open makes a Board of the chips that the configuration has. It changes no output. A chip on a bus need not answer
// yet: its readings say so until it does. So do those of a chip that cannot even be opened, because its bus is missing
// for instance, as long as another chip can; it is looked for, and once it is there a Scan fails so that the board is
// opened again. An error says what of the configuration or the machine is wrong.
//
// Readings come in the order of Config.Inputs. Buses and devices of the kernel are read side by side, all converters
// of a bus at once.
func (h Host) Open(ctx context.Context, c Config) (_ Board, err error) {
	if err := errors.Join(ctx.Err(), Check(c)); err != nil {
		return nil, err
	}
	s := &site{host: h, config: c}
	for _, p := range c.Inputs {
		s.blank = append(s.blank, Reading{Pin: p})
	}
	var errs []error
	buses := map[int]*busLane{}
	for i, chip := range c.Chips {
		var wants []want
		var outputs []int
		for n, p := range c.Inputs {
			if p.Chip == chip.Name {
				wants = append(wants, want{terminal: p.Number - 1, reading: n})
			}
		}
		for _, p := range c.Outputs {
			if p.Chip == chip.Name {
				outputs = append(outputs, p.Number)
			}
		}
		if err := h.chip(s, buses, uint64(i), chip, wants, outputs); err != nil {
			errs = append(errs, err)
			s.missing(chip, outputs, err)
		}
		s.names = append(s.names, describe(chip))
	}
	if len(errs) == len(c.Chips) {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// chip opens the nth chip.
func (h Host) chip(s *site, buses map[int]*busLane, nth uint64, chip Chip, wants []want, outputs []int) error {
	switch chip.Kind {
	case Simulation:
		s.simulate(chip, nth, wants)
	case IIO:
		l, err := openIIO(h.Root, chip, wants)
		if err != nil {
			return err
		}
		s.add(l, chip)
	case GPIOChip:
		l, err := openGPIO(h.Root, chip, wants, outputs)
		if err != nil {
			return err
		}
		s.add(l, chip)
		for _, b := range l.banks {
			s.banks = append(s.banks, b)
		}
	default:
		l, err := h.bus(buses, chip)
		if err != nil {
			return fmt.Errorf("chip %s: %w", chip.Name, err)
		}
		s.add(l, chip)
		s.wire(l, chip, wants, outputs)
	}
	return nil
}

// bus is the lane of a chip's bus, opened if it is the first there.
func (h Host) bus(buses map[int]*busLane, c Chip) (*busLane, error) {
	number, err := busNumber(c.Bus)
	if err != nil {
		return nil, err
	}
	for _, a := range c.Addresses {
		if driver := h.driver(number, a); driver != "" {
			return nil, fmt.Errorf("address 0x%02x on bus %d belongs to the kernel's driver %s; %s", a, number, driver, instead(driver))
		}
	}
	if l, ok := buses[number]; ok {
		return l, nil
	}
	open := h.I2C
	if open == nil {
		open = func(n int) (i2c.BusCloser, error) { return openI2C(h.Root, n) }
	}
	bus, err := open(number)
	if err != nil {
		return nil, err
	}
	l := &busLane{wire: &wire{name: strconv.Itoa(number), bus: bus}}
	buses[number] = l
	return l, nil
}

// driver is the driver of the kernel that owns an address, empty if there is none. I2C_RDWR does not ask it.
func (h Host) driver(bus int, addr uint16) string {
	target, err := os.Readlink(filepath.Join(h.Root, fmt.Sprintf("/sys/bus/i2c/devices/%d-%04x/driver", bus, addr)))
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}

// instead says what to do about a driver that has a chip.
func instead(driver string) string {
	switch {
	case strings.HasPrefix(driver, "rtc-"):
		return "that is a real-time clock; set the jumpers of the board to another address"
	case strings.HasPrefix(driver, "mcp342"), strings.HasPrefix(driver, "ads1"):
		return "use the chip through it, with kind iio, or take its dtoverlay out of config.txt"
	case strings.HasPrefix(driver, "mcp23"), strings.HasPrefix(driver, "pca95"), strings.HasPrefix(driver, "pcf857"):
		return "use the chip through it, with kind gpiochip, or take its dtoverlay out of config.txt"
	default:
		return "take its dtoverlay out of config.txt, or set the jumpers of the board to another address"
	}
}

// describe is a chip in a few words.
func describe(c Chip) string {
	switch {
	case c.Kind == Simulation:
		return c.Name + " (simulated)"
	case len(c.Addresses) == 0:
		return fmt.Sprintf("%s (%s %s)", c.Name, c.Kind, c.Device)
	}
	var at []string
	for _, a := range c.Addresses {
		at = append(at, fmt.Sprintf("0x%02x", a))
	}
	number, _ := busNumber(c.Bus) // checked
	return fmt.Sprintf("%s (%s at %s on bus %d)", c.Name, strings.ToUpper(string(c.Kind)), strings.Join(at, " and "), number)
}

// site is the Board of a configuration.
type site struct {
	host   Host
	config Config
	names  []string
	blank  []Reading // of a scan, pins only
	parts  []*part
	banks  []Bank
}

// add adds a chip on a lane, which may be there already.
func (s *site) add(l lane, c Chip) {
	for _, p := range s.parts {
		if p.lane == l {
			p.chips = append(p.chips, c)
			return
		}
	}
	s.parts = append(s.parts, &part{lane: l, chips: []Chip{c}})
}

// simulate adds a simulated chip. Two of them have different people.
func (s *site) simulate(chip Chip, nth uint64, wants []want) {
	loops := map[Pin]Loop{}
	at := map[Pin]int{}
	for _, t := range wants {
		p := Pin{chip.Name, t.terminal + 1}
		at[p] = t.reading
		loops[p] = usualLoop
		if l, ok := s.config.Loops[p]; ok {
			loops[p] = l
		}
	}
	sim := NewSimulated(chip.Name, s.config.Seed+nth, time.Now(), loops)
	for i := range sim.inputs {
		sim.inputs[i].reading = at[sim.inputs[i].pin]
	}
	s.add(sim, chip)
	s.banks = append(s.banks, &sim.bank)
}

// wire adds a chip on an I2C bus.
func (s *site) wire(l *busLane, c Chip, wants []want, outputs []int) {
	var in, out uint16
	for _, t := range wants {
		l.wants = append(l.wants, t.reading)
		in |= 1 << (t.terminal % 16)
	}
	for _, n := range outputs {
		out |= 1 << (n - 1)
	}
	switch c.Kind {
	case MCP3424, ADS1115:
		for i, a := range c.Addresses {
			conv := &converter{addr: a}
			for _, t := range wants {
				if t.terminal/4 == i {
					conv.wants = append(conv.wants, want{t.terminal % 4, t.reading})
				}
			}
			if c.Kind == ADS1115 {
				conv.model = &ads1115{gain: c.Gain, scale: scaleOf(c)}
			} else {
				conv.model = &mcp3424{bits: max(c.Bits, 12), gain: max(c.Gain, 1), scale: scaleOf(c)}
			}
			l.converters = append(l.converters, conv)
		}
	case MCP23017, PCA9535:
		e := &expander{kind: c.Kind, chip: c.Name, wire: l.wire, addr: c.Addresses[0], inputs: in, outputs: out, wants: wants}
		e.registers = registers{direction: 0x00, latch: 0x14, pins: mcpPins}
		if c.Kind == PCA9535 {
			e.registers = registers{direction: 6, latch: 2, pins: 0}
		}
		if c.PullUp {
			e.pulled = in
		}
		s.expander(l, e, e, len(wants), len(outputs))
	case PCF8574:
		p := &pcf8574{chip: c.Name, wire: l.wire, addr: c.Addresses[0], inputs: in, outputs: out, wants: wants}
		s.expander(l, p, p, len(wants), len(outputs))
	}
}

// expander adds the side or sides of an expander that are used.
func (s *site) expander(l *busLane, in inputChip, out Bank, inputs, outputs int) {
	if inputs > 0 {
		l.expanders = append(l.expanders, in)
	}
	if outputs > 0 {
		s.banks = append(s.banks, out)
	}
}

// Name implements Board.
func (s *site) Name() string { return strings.Join(s.names, ", ") }

// Scan implements Board.
func (s *site) Scan(ctx context.Context) ([]Reading, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	readings := make([]Reading, len(s.blank))
	copy(readings, s.blank)
	if len(s.parts) == 1 {
		// Almost every site: nobody to wait for.
		if err := s.parts[0].scan(ctx, readings); err != nil {
			return nil, err
		}
		return readings, nil
	}
	// No context of the group: a lane that is gone does not cut the others short.
	var g errgroup.Group
	errs := make([]error, len(s.parts))
	works := 0
	for i, p := range s.parts {
		if p.lane == nil {
			continue
		}
		works++
		g.Go(func() error {
			errs[i] = p.scan(ctx, readings)
			return nil
		})
	}
	if err := errors.Join(g.Wait(), ctx.Err()); err != nil {
		return nil, err
	}
	gone := 0
	for _, err := range errs {
		if err != nil {
			gone++
		}
	}
	if gone == works {
		return nil, errors.Join(errs...)
	}
	for i, p := range s.parts {
		if errs[i] != nil {
			// Held, it could not come back: its number stays taken. That it is closed badly is no news.
			_ = p.close()
			p.away(errs[i])
		}
		if p.lane == nil {
			p.fail(readings)
		}
	}
	if err := s.search(ctx); err != nil {
		return nil, err
	}
	return readings, nil
}

// Banks implements Board.
func (s *site) Banks() []Bank { return s.banks }

// Close implements Board.
func (s *site) Close() error {
	var errs []error
	for _, p := range s.parts {
		if p.lane != nil {
			errs = append(errs, p.close())
		}
	}
	s.parts = nil
	return errors.Join(errs...)
}
