//go:build linux

package guest

import (
	"slices"
	"strconv"
	"testing"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// rig is an adapter in a USB port of the machine, and the wire behind it.
type rig struct {
	wire *boardtest.Bus
	bus  int // its number in the kernel
}

// plugged is the adapter that tests share, as plugging one in takes the kernel half a second. TestMain sets it.
var plugged rig

// newRig puts chips on the wire until the test ends.
func newRig(t *testing.T, chips map[uint16]boardtest.Device) rig {
	t.Helper()
	for address, c := range chips {
		plugged.wire.Attach(address, c)
		t.Cleanup(func() { plugged.wire.Detach(address) })
	}
	return plugged
}

// chip is how board is told of a chip of the rig.
func (r rig) chip(name string, kind board.Kind, addresses ...uint16) board.Chip {
	return board.Chip{Name: name, Kind: kind, Bus: strconv.Itoa(r.bus), Addresses: addresses}
}

// pins are terminals of a chip.
func pins(chip string, numbers ...int) []board.Pin {
	var all []board.Pin
	for _, n := range numbers {
		all = append(all, board.Pin{Chip: chip, Number: n})
	}
	return all
}

// open opens a board, until the test ends.
func open(t *testing.T, c board.Config) board.Board {
	t.Helper()
	b, err := board.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, b) })
	return b
}

// closed closes a board that is not closed by open.
func closed(t *testing.T, b board.Board) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func scan(t *testing.T, b board.Board) []board.Reading {
	t.Helper()
	readings, err := b.Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return readings
}

// codes are the codes of good or saturated readings.
func codes(t *testing.T, readings []board.Reading) []int {
	t.Helper()
	var all []int
	for _, r := range readings {
		if r.Quality != board.Good && r.Quality != board.Saturated {
			t.Fatalf("%s is %s: %s", r.Pin, r.Quality, r.Unknown)
		}
		all = append(all, r.Code)
	}
	return all
}

// qualities are the qualities of readings in order.
func qualities(readings []board.Reading) []board.Quality {
	var all []board.Quality
	for _, r := range readings {
		all = append(all, r.Quality)
	}
	return all
}

// each is a list of n equal qualities.
func each(n int, q board.Quality) []board.Quality { return slices.Repeat([]board.Quality{q}, n) }

// active tells which lines of readings are high; bit 0 is the first.
func active(t *testing.T, readings []board.Reading) (bits uint16) {
	t.Helper()
	for i, code := range codes(t, readings) {
		if (code == 1) != readings[i].Active {
			t.Errorf("%s has code %d and active %v", readings[i].Pin, code, readings[i].Active)
		}
		bits |= uint16(code) << i
	}
	return bits
}
