package board

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// kind is what there is to know of a kind of chip before one is opened.
type kind struct {
	kind      Kind
	addresses [][2]uint16 // ranges that it can have; nil: it is not on I2C by itself
	most      int         // addresses
	inputs    int         // terminals 1 to inputs can be read
	outputs   [2]int      // terminals that can be written, first and last
	device    bool        // it is found by Chip.Device
}

// kinds are all of them, in the order in which they are listed for people.
func kinds() []kind {
	expander := [][2]uint16{{0x20, 0x27}}
	return []kind{
		{kind: MCP3424, addresses: [][2]uint16{{0x68, 0x6F}}, most: 2, inputs: 4},
		{kind: ADS1115, addresses: [][2]uint16{{0x48, 0x4B}}, most: 1, inputs: 4},
		{kind: MCP23017, addresses: expander, most: 1, inputs: 16, outputs: [2]int{1, 16}},
		{kind: PCA9535, addresses: expander, most: 1, inputs: 16, outputs: [2]int{1, 16}},
		{kind: PCF8574, addresses: [][2]uint16{{0x20, 0x27}, {0x38, 0x3F}}, most: 1, inputs: 8, outputs: [2]int{1, 8}},
		{kind: IIO, inputs: 64, device: true},
		{kind: GPIOChip, inputs: 1023, outputs: [2]int{1, 1023}, device: true},
		{kind: Simulation, inputs: simulatedInputs, outputs: [2]int{simulatedInputs + 1, simulatedInputs + simulatedOutputs}},
	}
}

func kindOf(k Kind) (kind, bool) {
	all := kinds()
	if i := slices.IndexFunc(all, func(x kind) bool { return x.kind == k }); i >= 0 {
		return all[i], true
	}
	return kind{}, false
}

// scaleOf is Chip.Scale with its default.
func scaleOf(c Chip) float64 {
	switch {
	case c.Scale != 0:
		return c.Scale
	case c.Kind == MCP3424:
		return 2.471 // 10 k and 6.8 k, as the maker rounds it
	default:
		return 1
	}
}

// busNumber reads Chip.Bus.
func busNumber(s string) (int, error) {
	if s == "" {
		return 1, nil
	}
	digits := strings.TrimPrefix(strings.TrimPrefix(s, "/dev/"), "i2c-")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || strconv.Itoa(n) != digits {
		return 0, fmt.Errorf("%q is no I2C bus: want its number, such as 1, or its file, such as /dev/i2c-1", s)
	}
	return n, nil
}

// Check says everything that makes no sense in a configuration, before any hardware is touched: one error for each,
// joined. Open begins with it.
func Check(c Config) error {
	k := &checker{chips: map[string]Chip{}, at: map[string]string{}}
	if len(c.Chips) == 0 {
		k.say("no chip is configured, so there is nothing to read; name the chips of the board, or take the simulated board to try it without hardware")
	}
	for _, chip := range c.Chips {
		k.chip(chip)
	}
	used := map[Pin]bool{}
	for _, p := range c.Inputs {
		if used[p] {
			k.say("input %s is given twice; give each input a terminal of its own", p)
		}
		used[p] = true
		k.input(p)
	}
	out := map[Pin]bool{}
	for _, p := range c.Outputs {
		switch {
		case out[p]:
			k.say("output %s is given twice; give each output a terminal of its own", p)
		case used[p]:
			k.say("%s is an input and an output; one terminal cannot be both", p)
		}
		out[p] = true
		k.output(p)
	}
	return errors.Join(k.errs...)
}

// checker gathers what makes no sense.
type checker struct {
	chips map[string]Chip
	names []string
	at    map[string]string // bus and address to the name of the chip there
	errs  []error
}

func (k *checker) say(format string, args ...any) {
	k.errs = append(k.errs, fmt.Errorf(format, args...))
}

func (k *checker) chip(c Chip) {
	if c.Name == "" || strings.ContainsAny(c.Name, ": \t\n") {
		k.say("%q is no name for a chip: want one word without a colon, such as adc1", c.Name)
	}
	if _, ok := k.chips[c.Name]; ok {
		k.say("two chips are called %s; rename one", c.Name)
	}
	k.chips[c.Name] = c
	k.names = append(k.names, c.Name)
	about, ok := kindOf(c.Kind)
	if !ok {
		var names []string
		for _, x := range kinds() {
			names = append(names, string(x.kind))
		}
		k.say("chip %s: there is no kind %q; there are %s", c.Name, c.Kind, strings.Join(names, ", "))
		return
	}
	if math.IsNaN(c.Scale) || math.IsInf(c.Scale, 0) || c.Scale < 0 {
		k.say("chip %s: scale %v makes no sense; give the volts at the terminal for a volt at the chip", c.Name, c.Scale)
	}
	if c.Kind == MCP3424 && !slices.Contains([]int{0, 12, 14, 16, 18}, c.Bits) {
		k.say("chip %s: %d bits is not possible; choose 12, 14, 16 or 18", c.Name, c.Bits)
	}
	if c.Kind == MCP3424 && !slices.Contains([]int{0, 1, 2, 4, 8}, c.Gain) {
		k.say("chip %s: gain %d is not possible; choose 1, 2, 4 or 8", c.Name, c.Gain)
	}
	if c.Kind == ADS1115 && !slices.Contains([]int{0, 1, 2, 4, 8, 16}, c.Gain) {
		k.say("chip %s: gain %d is not possible; choose 1, 2, 4, 8 or 16, or none for the range of 6.144 V", c.Name, c.Gain)
	}
	if c.PullUp && c.Kind != MCP23017 && c.Kind != GPIOChip {
		k.say("chip %s: kind %s has no pull-ups to switch on; put resistors there", c.Name, c.Kind)
	}
	if about.device && c.Device == "" {
		k.say("chip %s: kind %s needs a device, such as %s", c.Name, c.Kind, map[Kind]string{IIO: "iio:device0 or mcp3424", GPIOChip: "gpiochip0 or pca9535"}[c.Kind])
	}
	if about.addresses == nil {
		if len(c.Addresses) > 0 {
			k.say("chip %s: kind %s has no address on I2C; leave it out", c.Name, c.Kind)
		}
		return
	}
	k.addresses(c, about)
}

func (k *checker) addresses(c Chip, about kind) {
	bus, err := busNumber(c.Bus)
	if err != nil {
		k.say("chip %s: %w", c.Name, err)
	}
	if n := len(c.Addresses); n == 0 || n > about.most {
		k.say("chip %s: kind %s has %s, not %d; they are from %s", c.Name, c.Kind, map[int]string{1: "one address", 2: "one address or two"}[about.most], n, ranges(about.addresses))
	}
	for _, a := range c.Addresses {
		if !slices.ContainsFunc(about.addresses, func(r [2]uint16) bool { return r[0] <= a && a <= r[1] }) {
			k.say("chip %s: kind %s cannot have address 0x%02x; they are from %s", c.Name, c.Kind, a, ranges(about.addresses))
		}
		key := fmt.Sprintf("%d/%d", bus, a)
		if other, ok := k.at[key]; ok {
			k.say("chips %s and %s both have address 0x%02x on bus %d; set the jumpers of one to another address", other, c.Name, a, bus)
		}
		k.at[key] = c.Name
	}
}

func ranges(all [][2]uint16) string {
	var s []string
	for _, r := range all {
		s = append(s, fmt.Sprintf("0x%02x to 0x%02x", r[0], r[1]))
	}
	return strings.Join(s, " or ")
}

// find is the chip of a pin, if it makes sense to go on with.
func (k *checker) find(what string, p Pin) (Chip, kind, bool) {
	c, ok := k.chips[p.Chip]
	if !ok {
		k.say("%s %s: there is no chip %q; there are: %s", what, p, p.Chip, strings.Join(k.names, ", "))
		return c, kind{}, false
	}
	about, ok := kindOf(c.Kind)
	return c, about, ok
}

func (k *checker) input(p Pin) {
	c, about, ok := k.find("input", p)
	if !ok {
		return
	}
	last := about.inputs
	if c.Kind == MCP3424 {
		last *= len(c.Addresses)
	}
	switch {
	case p.Number < 1 || p.Number > last:
		k.say("input %s: the inputs of kind %s are 1 to %d", p, c.Kind, last)
	case c.Kind == MCP23017 && p.Number%8 == 0:
		k.say("input %s: the newer datasheets of the MCP23017 have pins 8 and 16 (GPA7 and GPB7) as outputs only, because as inputs they can disturb the bus; use another pin", p)
	}
}

func (k *checker) output(p Pin) {
	c, about, ok := k.find("output", p)
	switch {
	case !ok:
	case about.outputs[1] == 0:
		k.say("output %s: kind %s has no outputs; use an expander or a GPIO chip", p, c.Kind)
	case p.Number < about.outputs[0] || p.Number > about.outputs[1]:
		k.say("output %s: the outputs of kind %s are %d to %d", p, c.Kind, about.outputs[0], about.outputs[1])
	}
}
