//go:build linux

package guest

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// expander is a kind of expander, and what contract may expect of it.
type expander struct {
	kind board.Kind
	make func() (boardtest.Device, *boardtest.Expander)
	rest byte // what it does to a line by itself
	high byte // what it does to an output that is high
	wide bool // it has 16 lines
}

var (
	mcp23017 = expander{board.MCP23017, func() (boardtest.Device, *boardtest.Expander) {
		m := boardtest.NewMCP23017()
		return m, &m.Expander
	}, '-', '1', true}
	pca9535 = expander{board.PCA9535, func() (boardtest.Device, *boardtest.Expander) {
		p := boardtest.NewPCA9535()
		return p, &p.Expander
	}, '-', '1', true}
	pcf8574 = expander{board.PCF8574, func() (boardtest.Device, *boardtest.Expander) {
		p := boardtest.NewPCF8574()
		return p, &p.Expander
	}, 'u', 'u', false}
)

const expanderAddress = 0x20

func TestAnExpanderChangesItsLinesAsToldAndNotOtherwise(t *testing.T) {
	for _, e := range []expander{mcp23017, pca9535, pcf8574} {
		t.Run(string(e.kind), func(t *testing.T) {
			device, lines := e.make()
			r := newRig(t, map[uint16]boardtest.Device{expanderAddress: device})
			e.contract(t, lines, r.chip("io", e.kind, expanderAddress))
		})
	}
}

// contract holds a chip to what Bank and Board promise, over any of the ways to reach it.
func (e expander) contract(t *testing.T, lines *boardtest.Expander, chip board.Chip) {
	outputs := pins("io", 1, 2, 3)
	inputs := pins("io", 5, 6, 7)
	const mask, safe, on = 0b0111, 0b0010, 0b0101 // the relay of terminal 2 is active low
	if e.wide {
		outputs = append(outputs, pins("io", 12)...)
		inputs = append(inputs, pins("io", 10)...)
	}
	c := board.Config{Chips: []board.Chip{chip}, Inputs: inputs, Outputs: outputs}
	seen := func(when string, want ...string) {
		t.Helper()
		for i, w := range want {
			if got := lines.Seen(i + 1); got != w {
				t.Errorf("%s line %d has gone through %q; want %q", when, i+1, got, w)
			}
		}
	}
	rest, high := string(e.rest), string(e.high)
	if rest == high {
		rest = "" // no change to be seen between the two
	}

	b, err := board.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	seen("before the start", string(e.rest), string(e.rest), string(e.rest))
	bank := theBank(t, b)
	if got, want := bank.PowersUpHigh(), e.kind != board.MCP23017; got != want {
		t.Errorf("powers up high: %v; want %v", got, want)
	}
	if _, err := bank.Start(t.Context(), mask, safe); err != nil {
		t.Fatal(err)
	}
	low := string(e.rest) + "0"
	seen("after the start", low, rest+high, low)
	shows(t, bank, mask, safe)

	if err := bank.Write(t.Context(), on); err != nil {
		t.Fatal(err)
	}
	seen("switched on,", low+high, rest+high+"0", low+high)
	shows(t, bank, mask, on)

	for i := range 1 << len(inputs) {
		for n, p := range inputs {
			drive := boardtest.Low
			if i>>n&1 == 1 {
				drive = boardtest.High
			}
			lines.SetPin(p.Number, drive)
		}
		if got := active(t, scan(t, b)); got != uint16(i) {
			t.Fatalf("inputs driven to %04b read %04b", i, got)
		}
	}

	// The program dies with its outputs on, and the next one makes them safe.
	closed(t, b)
	seen("after the end", low+high, rest+high+"0", low+high)
	b = open(t, c)
	bank = theBank(t, b)
	scan(t, b)
	seen("opened again,", low+high, rest+high+"0", low+high)
	found, err := bank.Start(t.Context(), mask, safe)
	if err != nil {
		t.Fatal(err)
	}
	if found.Pins&mask != on || found.Latch&mask != on {
		t.Errorf("found %+v; want the outputs that were left on, %04b", found, on)
	}
	seen("after the second start", low+high+"0", rest+high+"0"+high, low+high+"0")

	random := rand.New(rand.NewPCG(3, 2))
	for range 50 {
		levels := uint16(random.Uint32()) & mask
		if err := bank.Write(t.Context(), levels); err != nil {
			t.Fatal(err)
		}
		shows(t, bank, mask, levels)
	}
	if got, want := lines.Seen(4), string(e.rest); got != want {
		t.Errorf("line 4, which nobody uses, has gone through %q; want %q", got, want)
	}
}

// theBank is the only bank of b.
func theBank(t *testing.T, b board.Board) board.Bank {
	t.Helper()
	banks := b.Banks()
	if len(banks) != 1 {
		t.Fatalf("the board has %d banks; want 1", len(banks))
	}
	return banks[0]
}

// shows holds a bank to its levels.
func shows(t *testing.T, bank board.Bank, mask, levels uint16) {
	t.Helper()
	got, err := bank.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got = board.Lines{Outputs: got.Outputs & mask, Latch: got.Latch & mask, Pins: got.Pins & mask}
	if diff := cmp.Diff(board.Lines{Outputs: mask, Latch: levels, Pins: levels}, got); diff != "" {
		t.Errorf("%s differs (-want +read):\n%s", bank.Chip(), diff)
	}
}
