//go:build linux

package guest

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

func TestDetectFindsTheChipsAndTouchesNothing(t *testing.T) {
	io, zero, clock := boardtest.NewMCP23017(), boardtest.NewPCA9535(), boardtest.NewDS3231()
	r := newRig(t, map[uint16]boardtest.Device{
		0x20: io, 0x21: zero, 0x48: boardtest.NewADS1115(), 0x68: clock, 0x6A: boardtest.NewMCP3424(), 0x6B: boardtest.NewMCP3424(),
	})
	zero.SetPin(1, boardtest.High) // that its two ports differ
	dir := oracle(t, "mcp3422", "mcp3424", r.bus, 0x6B)
	b := open(t, board.Config{Chips: []board.Chip{r.chip("io", board.MCP23017, 0x20)}, Outputs: pins("io", 1)})
	if _, err := theBank(t, b).Start(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	io.Forget()

	found, err := board.Detect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Buses) != 1 {
		t.Fatalf("found buses %+v; want one", found.Buses)
	}
	bus := found.Buses[0]
	bus.Adapter = ""
	want := board.FoundBus{Number: r.bus, Chips: []board.FoundChip{
		{Address: 0x20, Kinds: []board.Kind{board.MCP23017}, Sure: true},
		{Address: 0x21, Kinds: []board.Kind{board.PCA9535}, Sure: true},
		{Address: 0x48, Kinds: []board.Kind{board.ADS1115}},
		{Address: 0x68}, // a clock, which no kind of chip is
		{Address: 0x6A, Kinds: []board.Kind{board.MCP3424}, Sure: true},
		{Address: 0x6B, Driver: "mcp3422"},
	}}
	if diff := cmp.Diff(want, bus); diff != "" {
		t.Errorf("found something else (-want +got):\n%s\nit says:\n%s", diff, board.Report(found))
	}
	if len(found.IIO) != 1 || found.IIO[0].Terminals != 4 || !slices.Contains(found.IIO[0].Names, "mcp3424") {
		t.Errorf("found converters %+v; want the one in %s", found.IIO, dir)
	}
	if n := clock.Writes(); n != 0 {
		t.Errorf("%d bytes were written to the clock", n)
	}
	if len(io.Steps())+len(zero.Steps()) != 0 {
		t.Errorf("the expanders went through %v and %v", io.Steps(), zero.Steps())
	}
}
