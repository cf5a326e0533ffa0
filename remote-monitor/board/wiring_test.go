package board_test

import (
	"fmt"
	"testing"
	"time"

	"periph.io/x/conn/v3/i2c"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// machine is a host with simulated buses and an empty sysfs.
func machine(t *testing.T, buses map[int]*boardtest.Bus) board.Host {
	t.Helper()
	return board.Host{Root: t.TempDir(), I2C: func(n int) (i2c.BusCloser, error) {
		b, ok := buses[n]
		if !ok {
			return nil, fmt.Errorf("there is no bus %d", n)
		}
		b.Reopen()
		return b, nil
	}}
}

// open opens a configuration on bus 1.
func open(t *testing.T, bus *boardtest.Bus, c board.Config) board.Board {
	t.Helper()
	b, err := machine(t, map[int]*boardtest.Bus{1: bus}).Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// scan scans and fails the test if the board is away.
func scan(t *testing.T, b board.Board) []board.Reading {
	t.Helper()
	r, err := b.Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pins are terminals of a chip.
func pins(chip string, numbers ...int) (all []board.Pin) {
	for _, n := range numbers {
		all = append(all, board.Pin{Chip: chip, Number: n})
	}
	return all
}

// adcPi is the wiring of an ADC Pi with all its terminals, and its two converters.
func adcPi(bus *boardtest.Bus, bits int) (board.Config, [2]*boardtest.MCP3424) {
	chips := [2]*boardtest.MCP3424{boardtest.NewMCP3424(), boardtest.NewMCP3424()}
	bus.Attach(0x68, chips[0])
	bus.Attach(0x69, chips[1])
	return board.Config{
		Chips:  []board.Chip{{Name: "adc1", Kind: board.MCP3424, Addresses: []uint16{0x68, 0x69}, Bits: bits}},
		Inputs: pins("adc1", 1, 2, 3, 4, 5, 6, 7, 8),
	}, chips
}

// qualities are what the readings are worth, in their order.
func qualities(readings []board.Reading) (all []board.Quality) {
	for _, r := range readings {
		all = append(all, r.Quality)
	}
	return all
}

// took is how long a scan takes.
func took(t *testing.T, b board.Board) time.Duration {
	t.Helper()
	start := time.Now()
	scan(t, b)
	return time.Since(start)
}

// parrot is a chip that says the same at each read, its last byte over and over, whatever it is told.
type parrot struct {
	says []byte
	at   int
}

func (p *parrot) Start(bool) bool { p.at = 0; return true }
func (p *parrot) Write(byte) bool { return true }
func (p *parrot) Stop()           {}

func (p *parrot) Read() byte {
	b := p.says[min(p.at, len(p.says)-1)]
	p.at++
	return b
}
