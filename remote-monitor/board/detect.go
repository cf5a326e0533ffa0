package board

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c"
)

// Findings are what Detect sees of a machine's hardware.
type Findings struct {
	Buses []FoundBus
	IIO   []FoundDevice
	GPIO  []FoundDevice
}

// FoundBus is an I2C bus.
type FoundBus struct {
	Number  int
	Adapter string // what drives it; empty if the machine does not say
	Trouble string // why it could not be looked at, or not to the end; empty when it could
	Chips   []FoundChip
}

// FoundChip is an address that somebody answers at, or that a driver of the kernel owns.
type FoundChip struct {
	Address uint16
	Driver  string // of the kernel; such an address is not touched
	Kinds   []Kind // what it can be, of the kinds this program knows
	Sure    bool   // it is the first of Kinds
}

// FoundDevice is a device that a driver of the kernel has.
type FoundDevice struct {
	Name      string   // iio:device0, gpiochip0
	Names     []string // what else it is called: its label, its chip
	Terminals int      // that can be read
	Trouble   string
}

// The addresses that a chip can have; the others are reserved.
const (
	firstAddress = 0x08
	lastAddress  = 0x77
)

// Detect looks at the hardware of this machine. See Host.Detect.
func Detect(ctx context.Context) (Findings, error) { return Host{}.Detect(ctx) }

// Detect lists buses, the chips that answer there, and devices of the kernel. It only reads, and names no register
// when it does: a chip it does not know could take such a name for something to put on its outputs. A program that
// reads the same converters meanwhile may miss a result.
func (h Host) Detect(ctx context.Context) (Findings, error) {
	var f Findings
	for _, n := range h.buses() {
		b, err := h.look(ctx, n)
		if err != nil {
			return f, err
		}
		f.Buses = append(f.Buses, b)
	}
	f.IIO = foundIIO(h.Root)
	f.GPIO = foundGPIO(h.Root)
	return f, ctx.Err()
}

// buses are the numbers of the machine's I2C buses.
func (h Host) buses() []int {
	var all []int
	for _, pattern := range []string{"/dev/i2c-*", "/sys/class/i2c-dev/i2c-*"} {
		paths, _ := filepath.Glob(filepath.Join(h.Root, pattern))
		for _, p := range paths {
			if n, err := busNumber(filepath.Base(p)); err == nil {
				all = append(all, n)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// look asks every address of a bus.
func (h Host) look(ctx context.Context, number int) (b FoundBus, err error) {
	b.Number = number
	name, _ := os.ReadFile(filepath.Join(h.Root, "/sys/class/i2c-dev", "i2c-"+strconv.Itoa(number), "name"))
	b.Adapter = strings.TrimSpace(string(name))
	open := h.I2C
	if open == nil {
		open = func(n int) (i2c.BusCloser, error) { return openI2C(h.Root, n) }
	}
	bus, err := open(number)
	if err != nil {
		b.Trouble = err.Error()
		return b, nil
	}
	w := &wire{name: strconv.Itoa(number), bus: bus}
	defer func() { err = errors.Join(err, w.close()) }()
	for addr := uint16(firstAddress); addr <= lastAddress; addr++ {
		if err := ctx.Err(); err != nil {
			return b, err
		}
		if d := h.driver(number, addr); d != "" {
			b.Chips = append(b.Chips, FoundChip{Address: addr, Driver: d})
			continue
		}
		var one [1]byte
		err := w.tx(addr, nil, one[:])
		switch t := (*trouble)(nil); {
		case err == nil:
			b.Chips = append(b.Chips, identify(w, addr))
		case errors.As(err, &t) && t.quality == NAK:
		default:
			// A bus that hangs does so at every address.
			b.Trouble = err.Error()
			return b, nil
		}
	}
	return b, nil
}

// identify tells what can be at an address that answers.
func identify(w *wire, addr uint16) FoundChip {
	c := FoundChip{Address: addr}
	for _, k := range kinds() {
		if slices.ContainsFunc(k.addresses, func(r [2]uint16) bool { return r[0] <= addr && addr <= r[1] }) {
			c.Kinds = append(c.Kinds, k.kind)
		}
	}
	// A line that changes while it is read spoils a pattern; it will not every time.
	for range 3 {
		first, again := make([]byte, sampleLength), make([]byte, sampleLength)
		if len(c.Kinds) == 0 || w.tx(addr, nil, first) != nil || w.tx(addr, nil, again) != nil {
			return c
		}
		if kinds, sure := recognize(c.Kinds, first, again); sure {
			return FoundChip{Address: addr, Kinds: kinds, Sure: sure}
		} else if slices.Equal(c.Kinds, []Kind{MCP3424}) {
			c.Kinds = kinds
		}
	}
	return c
}

// sampleLength is longer than the registers of a real-time clock, so that one never looks like a converter that
// repeats itself, and a multiple of the 22 registers of an MCP23017.
const sampleLength = 88

// recognize tells from two long reads which of the kinds a chip is. What is left is what it can still be.
func recognize(among []Kind, first, again []byte) (left []Kind, sure bool) {
	switch {
	case slices.Contains(among, MCP3424):
		if repeatsSettings(first, again) {
			return []Kind{MCP3424}, true
		}
		return nil, false
	case slices.Contains(among, MCP23017):
		switch {
		case repeats(first, 1):
			return among, false // lines as they are, or registers that are all alike
		case repeats(first, 2):
			return []Kind{PCA9535}, true
		case repeats(first, 22) && hasIOCON(first[:22]):
			return []Kind{MCP23017}, true
		}
		return nil, false
	case slices.Contains(among, PCF8574):
		return among, repeats(first, 1)
	}
	return among, false
}

// repeats reports whether b repeats itself after n bytes.
func repeats(b []byte, n int) bool { return slices.Equal(b[:len(b)-n], b[n:]) }

// hasIOCON reports whether b can be all registers of an MCP23017 from somewhere on: there is IOCON twice in a row, and
// its bits 0 and 7 are clear.
func hasIOCON(b []byte) bool {
	for at := range b {
		v, next := b[at], b[(at+1)%len(b)]
		polarity := b[(at+len(b)-8)%len(b)]
		if v == next && v&0x81 == 0 && polarity == 0 {
			return true
		}
	}
	return false
}

// repeatsSettings reports whether two reads are an MCP3424's: a result, then its settings for as long as one reads.
func repeatsSettings(first, again []byte) bool {
	m := mcp3424{}
	for _, m.bits = range []int{12, 14, 16, 18} {
		n := m.length()
		settings := first[n] &^ mcpReady
		same := func(b byte) bool { return b&^mcpReady == settings }
		if int(settings>>2&3) != (m.bits-12)/2 || slices.ContainsFunc(slices.Concat(first[n:], again[n:]), func(b byte) bool { return !same(b) }) {
			continue
		}
		if _, sane := m.decode(first[:n]); !sane {
			continue
		}
		// A single conversion is new once. All ones are a line that nobody pulls down.
		oneShot := settings&0x10 == 0
		return (!oneShot || again[n]&mcpReady != 0) && first[0]&first[n] != 0xFF
	}
	return false
}

// foundIIO lists the converters of the kernel's drivers.
func foundIIO(root string) (all []FoundDevice) {
	entries, _ := os.ReadDir(filepath.Join(root, iioDevices))
	for _, e := range entries {
		dir := filepath.Join(root, iioDevices, e.Name())
		name, err := os.ReadFile(filepath.Join(dir, "name"))
		if err != nil {
			continue
		}
		channels, _ := filepath.Glob(filepath.Join(dir, "in_voltage[0-9]*_raw"))
		channels = slices.DeleteFunc(channels, func(p string) bool { return strings.Contains(filepath.Base(p), "-") })
		all = append(all, FoundDevice{Name: e.Name(), Names: deviceNames(dir, strings.TrimSpace(string(name))), Terminals: len(channels)})
	}
	return all
}

// foundGPIO lists the chips of lines.
func foundGPIO(root string) (all []FoundDevice) {
	for _, name := range gpioChips(root) {
		d := FoundDevice{Name: name}
		path, err := deviceNode(root, name, filepath.Join(root, gpioDevices, name))
		if err == nil {
			fd, info, oerr := openGPIOChip(path)
			if err = oerr; err == nil {
				d.Names, d.Terminals = gpioNames(root, info), int(info.Lines)
				err = unix.Close(fd)
			}
		}
		if err != nil {
			d.Trouble = err.Error()
		}
		all = append(all, d)
	}
	return all
}

// Report says findings in plain words, a line for each, and what is in the way.
func Report(f Findings) string {
	var s strings.Builder
	if len(f.Buses) == 0 {
		s.WriteString("There is no I2C bus. Switch I2C on (raspi-config, or dtparam=i2c_arm=on in config.txt), load i2c-dev,\nand in a container allow the device (devices: in docker-compose.yml).\n")
	}
	var mind []string
	for _, b := range f.Buses {
		fmt.Fprintf(&s, "I2C bus %d", b.Number)
		if b.Adapter != "" {
			fmt.Fprintf(&s, " (%s)", b.Adapter)
		}
		s.WriteByte('\n')
		for _, c := range b.Chips {
			fmt.Fprintf(&s, "  0x%02x  %s\n", c.Address, c.words())
			if note := c.conflict(b.Number); note != "" {
				mind = append(mind, note)
			}
		}
		switch {
		case b.Trouble != "":
			fmt.Fprintf(&s, "  not looked at to the end: %s\n", b.Trouble)
			mind = append(mind, fmt.Sprintf("Bus %d: %s.", b.Number, b.Trouble))
		case len(b.Chips) == 0:
			s.WriteString("  nobody answers\n")
		}
	}
	devices(&s, "Converters of the kernel's drivers (kind iio)", f.IIO, "inputs")
	devices(&s, "GPIO chips (kind gpiochip)", f.GPIO, "lines")
	if len(mind) > 0 {
		s.WriteString("\nTo mind:\n")
		for _, m := range mind {
			s.WriteString("- " + m + "\n")
		}
	}
	return s.String()
}

func devices(s *strings.Builder, title string, all []FoundDevice, what string) {
	if len(all) == 0 {
		return
	}
	s.WriteString(title + "\n")
	for _, d := range all {
		if d.Trouble != "" {
			fmt.Fprintf(s, "  %s  cannot be used: %s\n", d.Name, d.Trouble)
			continue
		}
		fmt.Fprintf(s, "  %s  %s, %d %s\n", d.Name, strings.Join(d.Names, ", "), d.Terminals, what)
	}
}

// words are what a chip is.
func (c FoundChip) words() string {
	about := map[Kind]string{
		MCP3424:  "MCP3424, a converter of 4 channels (an ADC Pi has two)",
		ADS1115:  "ADS1115, a converter of 4 channels",
		MCP23017: "MCP23017, an expander of 16 lines (an IO Pi has two)",
		PCA9535:  "PCA9535, an expander of 16 lines (an IO Zero 32 has two)",
		PCF8574:  "PCF8574, an expander of 8 lines",
	}
	switch {
	case c.Driver != "":
		return "belongs to the kernel's driver " + c.Driver
	case c.Sure:
		return "probably " + about[c.Kinds[0]]
	case len(c.Kinds) > 0:
		var names []string
		for _, k := range c.Kinds {
			names = append(names, strings.ToUpper(string(k)))
		}
		return "somebody answers; it may be " + strings.Join(names, ", ") + ", or something else with this address"
	default:
		return "somebody answers; it is no chip this program knows"
	}
}

// conflict says what is in the way of a chip of this program, empty if nothing is.
func (c FoundChip) conflict(bus int) string {
	var here []string
	for _, k := range kinds() {
		if slices.ContainsFunc(k.addresses, func(r [2]uint16) bool { return r[0] <= c.Address && c.Address <= r[1] }) {
			here = append(here, strings.ToUpper(string(k.kind)))
		}
	}
	if len(here) == 0 {
		return ""
	}
	at := fmt.Sprintf("0x%02x on bus %d", c.Address, bus)
	whose := strings.Join(here, ", ")
	switch {
	case c.Driver != "":
		return fmt.Sprintf("%s, an address of %s, belongs to the kernel's driver %s: %s.", at, whose, c.Driver, instead(c.Driver))
	case len(c.Kinds) == 0: // only an MCP3424 can be ruled out
		return fmt.Sprintf("What answers at %s does not read as an MCP3424. Real-time clocks (DS1307, DS3231) and motion sensors have such addresses; if an ADC Pi is there too, set its jumpers to another address.", at)
	}
	return ""
}
