// Package board owns the hardware: converters, expanders and GPIO lines on Linux, read and written by name. It does
// not own what volts mean, nor when an output is on.
//
// It is larger than most rooms because it has a file for each kind of chip. Above them are open.go, which makes a Board
// of a configuration, and converter.go, which scans; below them are i2c.go and i2cdev.go, the bus.
package board

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Board is the wiring of a site: all its chips, read together. One goroutine owns a Board and its Banks; no method may
// be called concurrently with another.
type Board interface {
	// Name says in a few words what the board is.
	Name() string

	// Scan reads every input once. It may take as long as the converters need, tens of milliseconds, and returns
	// early when ctx ends. An input that cannot be read has a Reading that says so; an error means that the board
	// as a whole is away: the caller closes it and opens it again.
	Scan(ctx context.Context) ([]Reading, error)

	// Banks are the chips that have outputs.
	Banks() []Bank

	// Close lets go of the hardware; outputs stay as they are. Called once, after the last Scan.
	Close() error
}

// ErrGone is in the chain of an error of Scan or of a Bank when the bus or the device is away as a whole: an adapter
// that was pulled, for instance. Nothing works again before the board is closed and opened.
var ErrGone = errors.New("the device is gone")

// Quality says what a reading is worth.
type Quality string

// The qualities.
const (
	Good      Quality = ""
	Saturated Quality = "saturated" // at the end of the converter's range; the value is a bound
	Timeout   Quality = "timeout"   // the converter was never ready
	NAK       Quality = "nak"       // nobody answered at the address
	Stale     Quality = "stale"     // what was read is not from this conversion
	Away      Quality = "away"      // the bus or the device is gone
)

// Reading is what one input said.
type Reading struct {
	Pin     Pin
	Time    time.Time // when the conversion ended
	Code    int       // of the converter; 0 or 1 of a line
	Volts   float64   // at the terminal; of a line 0 or FullScale
	Active  bool      // of a line: it is high
	Quality Quality
	Unknown string // why the input could not be read, for people; empty when it was
}

// line fills in what a line shows.
func (r *Reading) line(high bool) {
	r.Time, r.Active = time.Now(), high
	if high {
		r.Code, r.Volts = 1, FullScale
	}
}

// FullScale is the nominal supply of the detectors' loops, in volts.
const FullScale = 5.0

// Pin is one terminal of a chip, written chip:number, as in adc1:3. Numbers start at 1, as printed on the boards.
type Pin struct {
	Chip   string
	Number int
}

// String writes the pin as ParsePin reads it; the zero Pin is empty.
func (p Pin) String() string {
	if p == (Pin{}) {
		return ""
	}
	return p.Chip + ":" + strconv.Itoa(p.Number)
}

// ParsePin reads chip:number.
func ParsePin(s string) (Pin, error) {
	chip, number, ok := strings.Cut(strings.TrimSpace(s), ":")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if !ok || err != nil || n < 1 || strings.TrimSpace(chip) == "" {
		return Pin{}, fmt.Errorf("%q is no terminal: want the name of a chip and a number from 1, such as adc1:3", s)
	}
	return Pin{Chip: strings.TrimSpace(chip), Number: n}, nil
}

// Kind is a kind of chip, or a driver of the kernel.
type Kind string

// The kinds.
const (
	MCP3424    Kind = "mcp3424"   // ADC Pi: two converters of four channels; terminals 1-4 at the first address, 5-8 at the second
	ADS1115    Kind = "ads1115"   // converter of four channels
	MCP23017   Kind = "mcp23017"  // IO Pi: expander of 16 lines
	PCA9535    Kind = "pca9535"   // IO Zero 32: expander of 16 lines, powers up with its outputs high
	PCF8574    Kind = "pcf8574"   // expander of 8 lines, powers up high; for relays that are active low
	IIO        Kind = "iio"       // a converter that a driver of the kernel has
	GPIOChip   Kind = "gpiochip"  // lines of the kernel: the header's own, or an expander that a driver has
	Simulation Kind = "simulated" // a house where people walk about; 16 inputs, and 16 outputs on pins 17 to 32
)

// Chip is a named part of the wiring. Of a GPIOChip of up to 16 lines, an expander, terminal 1 is line 0; of a larger
// one, the processor's own, terminal n is line n, so that header:17 is GPIO17.
type Chip struct {
	Name      string
	Kind      Kind
	Bus       string   // I2C: the bus's number or its /dev path; empty: 1
	Addresses []uint16 // I2C: MCP3424 one or two, the others one
	Device    string   // IIO: name of the driver or iio:deviceN; GPIOChip: label, gpiochipN or path
	Bits      int      // MCP3424: 12, 14, 16 or 18; 0: 12
	Gain      int      // MCP3424: 1, 2, 4 or 8; 0: 1. ADS1115: 1 (4.096 V), 2, 4, 8 or 16; 0: 6.144 V
	Scale     float64  // volts at the terminal for a volt at the chip; 0: 2.471 for MCP3424 (the ADC Pi's divider), else 1
	// PullUp pulls inputs up, of an MCP23017 or a GPIOChip. The kernel's drivers of expanders may take it and do
	// nothing, mcp23s08 up to Linux 6.1 among them, and no error says so: there, put resistors.
	PullUp bool
}

// Config is what of the hardware is used.
type Config struct {
	Chips   []Chip
	Inputs  []Pin
	Outputs []Pin
	// Loops and Seed are for the Simulation.
	Loops map[Pin]Loop
	Seed  uint64
}

// Bank is the output side of one chip: up to 16 lines that are written together. In masks bit 0 is pin 1, or First if
// the Bank has that method: see Find. A chip of more than 16 lines has several.
type Bank interface {
	Chip() string

	// PowersUpHigh tells that the chip drives or pulls its lines high when power comes.
	PowersUpHigh() bool

	// Start makes the lines of outputs outputs that show levels. The latch is written before the direction, and both
	// are read back, so that a line goes to its level without another in between. It returns what was found before
	// anything was written. Start may be repeated, after a brown-out for instance.
	Start(ctx context.Context, outputs, levels uint16) (found Lines, err error)

	// Write sets the levels of all outputs in one write to the chip. Unlike the other methods it may be called at any
	// time, also while another goroutine is in a method of the Board: a watchdog turns outputs off with it.
	Write(ctx context.Context, levels uint16) error

	// Read reads back direction, latch and pins.
	Read(ctx context.Context) (Lines, error)
}

// Lines are the registers of an expander.
type Lines struct {
	Outputs uint16 // direction: 1 is an output
	Latch   uint16 // what the outputs are told to show
	Pins    uint16 // what the lines do show
}

// Find returns the bank that has a pin, and the pin's bit in its masks; nil and 0 if there is none.
func Find(banks []Bank, p Pin) (Bank, uint16) {
	for _, b := range banks {
		first := 1
		if f, ok := b.(interface{ First() int }); ok {
			first = f.First()
		}
		if n := p.Number - first; b.Chip() == p.Chip && n >= 0 && n < 16 {
			return b, 1 << n
		}
	}
	return nil, 0
}
