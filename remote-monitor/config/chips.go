package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/remote-monitor/board"
)

// chipFacts are what a kind of chip can do.
type chipFacts struct {
	converter    bool        // has voltages, not lines
	device       bool        // is found by Device rather than by an address
	addresses    int         // on the I2C bus, at most
	ranges       [][2]uint16 // of addresses
	usual        []uint16    // addresses of who gave none
	inputs       int         // terminals 1 to inputs can be read
	outputs      [2]int      // terminals that can be outputs, first and last
	bits, gain   []int
	pullUp       bool
	powersUpHigh bool // the lines are high when power comes
}

func factsOf(c board.Chip) chipFacts {
	low := [][2]uint16{{0x20, 0x27}}
	switch c.Kind {
	case board.MCP3424:
		return chipFacts{converter: true, addresses: 2, ranges: [][2]uint16{{0x68, 0x6F}}, usual: []uint16{0x68, 0x69},
			inputs: 4 * max(len(c.Addresses), 1), bits: []int{12, 14, 16, 18}, gain: []int{1, 2, 4, 8}}
	case board.ADS1115:
		return chipFacts{converter: true, addresses: 1, ranges: [][2]uint16{{0x48, 0x4B}}, usual: []uint16{0x48}, inputs: 4, gain: []int{1, 2, 4, 8, 16}}
	case board.MCP23017:
		return chipFacts{addresses: 1, ranges: low, usual: []uint16{0x20}, inputs: 16, outputs: [2]int{1, 16}, pullUp: true}
	case board.PCA9535:
		return chipFacts{addresses: 1, ranges: low, usual: []uint16{0x20}, inputs: 16, outputs: [2]int{1, 16}, powersUpHigh: true}
	case board.PCF8574:
		return chipFacts{addresses: 1, ranges: [][2]uint16{{0x20, 0x27}, {0x38, 0x3F}}, usual: []uint16{0x20}, inputs: 8, outputs: [2]int{1, 8}, powersUpHigh: true}
	case board.IIO:
		return chipFacts{converter: true, device: true, inputs: 64}
	case board.GPIOChip:
		return chipFacts{device: true, inputs: 1023, outputs: [2]int{1, 1023}, pullUp: true}
	case board.Simulation:
		return chipFacts{converter: true, inputs: simulatedPins, outputs: [2]int{firstSimulated, firstSimulated + simulatedPins - 1}}
	}
	return chipFacts{}
}

// checkChips fills in what was not said of the chips and refuses what cannot be.
func (d *draft) checkChips() {
	type slot struct {
		bus     string
		address uint16
	}
	taken := map[slot]string{}
	for i := range d.chips {
		c := &d.chips[i]
		bad := func(format string, args ...any) {
			d.wrong(c.at, "board %s: %s", c.Name, fmt.Sprintf(format, args...))
		}
		if c.Kind == "" {
			continue // told already
		}
		f := factsOf(c.Chip)
		switch {
		case f.device && len(c.Addresses) > 0:
			bad("a board of kind %s has no address; want device: the name of its driver", c.Kind)
		case f.device && c.Device == "":
			bad("want device: the name of the driver or of the device, such as mcp3424 or gpiochip0")
		case !f.device && c.Device != "":
			bad("a board of kind %s has no device; want an address", c.Kind)
		case f.addresses == 0 && len(c.Addresses) > 0:
			bad("a board of kind %s has no address", c.Kind)
		case len(c.Addresses) > f.addresses && !f.device:
			bad("a board of kind %s has at most %d addresses", c.Kind, f.addresses)
		}
		if f.addresses == 0 && c.Bus != "" {
			bad("a board of kind %s is on no I2C bus", c.Kind)
		}
		if f.addresses > 0 && len(c.Addresses) == 0 {
			c.Addresses = f.usual
		}
		for _, a := range c.Addresses {
			if !slices.ContainsFunc(f.ranges, func(r [2]uint16) bool { return r[0] <= a && a <= r[1] }) {
				var ranges []string
				for _, r := range f.ranges {
					ranges = append(ranges, fmt.Sprintf("%#x to %#x", r[0], r[1]))
				}
				bad("%#x is no address of a board of kind %s; want %s", a, c.Kind, strings.Join(ranges, " or "))
				continue
			}
			s := slot{busName(c.Bus), a}
			if other, ok := taken[s]; ok {
				bad("%s is at address %#x of bus %s as well; each chip needs an address of its own", other, a, s.bus)
			}
			taken[s] = c.Name
		}
		for _, n := range []struct {
			name  string
			value int
			of    []int
		}{{"bits", c.Bits, f.bits}, {"gain", c.Gain, f.gain}} {
			if n.value != 0 && n.of == nil {
				bad("a board of kind %s has no choice of %s", c.Kind, n.name)
			} else if n.value != 0 && !slices.Contains(n.of, n.value) {
				bad("%s: %d: want one of %s", n.name, n.value, strings.Trim(fmt.Sprint(n.of), "[]"))
			}
		}
		if c.Scale != 0 && (!f.converter || c.Kind == board.Simulation) {
			bad("scale is for converters")
		}
		if c.PullUp && !f.pullUp {
			bad("a chip of kind %s has no pull-ups; put a resistor to the supply at each input", c.Kind)
		}
		if c.seed != nil && c.Kind != board.Simulation {
			bad("seed is for simulated boards")
		}
	}
}

// busName is the number of a bus, however it is written.
func busName(bus string) string {
	if bus == "" {
		return "1"
	}
	return strings.TrimPrefix(strings.TrimPrefix(bus, "/dev/"), "i2c-")
}

// chipNamed finds a chip.
func (d *draft) chipNamed(name string) *draftChip {
	for i := range d.chips {
		if d.chips[i].Name == name {
			return &d.chips[i]
		}
	}
	for i := range d.chips {
		if strings.EqualFold(d.chips[i].Name, name) {
			return &d.chips[i]
		}
	}
	return nil
}

// pin looks a terminal up. what says what it is for.
func (d *draft) pin(n name, what string, output bool, taken map[board.Pin]string) (board.Pin, *draftChip, bool) {
	bad := func(format string, args ...any) (board.Pin, *draftChip, bool) {
		d.wrong(n.at, "%s: %s", what, fmt.Sprintf(format, args...))
		return board.Pin{}, nil, false
	}
	if n.text == unreadable {
		return board.Pin{}, nil, false
	}
	p, err := board.ParsePin(n.text)
	if err != nil {
		return bad("%v", err)
	}
	c := d.chipNamed(p.Chip)
	if c == nil {
		if len(d.chips) == 0 {
			return bad("%s: there is no board %s; describe it under boards:", p, quoted(p.Chip))
		}
		var names []string
		for _, c := range d.chips {
			names = append(names, c.Name)
		}
		return bad("%s: there is no board %s; %s", p, quoted(p.Chip), instead(p.Chip, names))
	}
	p.Chip = c.Name
	if c.Kind == "" {
		return p, c, false
	}
	f := factsOf(c.Chip)
	switch first, last := f.outputs[0], f.outputs[1]; {
	case output && last == 0:
		return bad("%s: a board of kind %s has no outputs; want one such as io1:1", p, c.Kind)
	case output && (p.Number < first || p.Number > last):
		return bad("%s: the outputs of %s are %d to %d", p, c.Name, first, last)
	case !output && p.Number > f.inputs:
		return bad("%s: the inputs of %s are 1 to %d", p, c.Name, f.inputs)
	case !output && c.Kind == board.MCP23017 && p.Number%8 == 0:
		return bad("%s: the terminals 8 and 16 of an mcp23017 may be outputs only, as its newer datasheets say; use another one", p)
	}
	if other, ok := taken[p]; ok {
		return bad("%s is %s already", p, other)
	}
	taken[p] = what
	return p, c, true
}
