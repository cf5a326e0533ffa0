package board_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// twoBuses is an ADC Pi and an IO Pi on bus 1, and the same on bus 2.
func twoBuses() (c board.Config, one, two *boardtest.Bus) {
	one, two = &boardtest.Bus{}, &boardtest.Bus{}
	c, _ = adcPi(one, 12)
	one.Attach(0x20, boardtest.NewMCP23017())
	for _, a := range []uint16{0x68, 0x69} {
		two.Attach(a, boardtest.NewMCP3424())
	}
	two.Attach(0x20, boardtest.NewMCP23017())
	c.Chips = append(c.Chips,
		board.Chip{Name: "io1", Kind: board.MCP23017, Addresses: []uint16{0x20}},
		board.Chip{Name: "far", Kind: board.MCP3424, Bus: "2", Addresses: []uint16{0x68, 0x69}},
		board.Chip{Name: "farIO", Kind: board.MCP23017, Bus: "2", Addresses: []uint16{0x20}},
	)
	c.Inputs = slices.Concat(c.Inputs, pins("far", 1, 5))
	c.Outputs = slices.Concat(pins("io1", 1), pins("farIO", 16))
	return c, one, two
}

func TestABusThatIsPulledLeavesTheOthersAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, one, two := twoBuses()
		b, err := machine(t, map[int]*boardtest.Bus{1: one, 2: two}).Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		near, _ := board.Find(b.Banks(), c.Outputs[0])
		far, _ := board.Find(b.Banks(), c.Outputs[1])
		start(t, near, 1, 1)
		start(t, far, 0x8000, 0)
		two.Fail(unix.ENODEV, -1)
		for range 3 {
			r := scan(t, b)
			if d := cmp.Diff(slices.Concat(same(board.Good, 8), same(board.Away, 2)), qualities(r)); d != "" || !strings.Contains(r[9].Unknown, "bus 2 is gone") {
				t.Errorf("%s it says %q", d, r[9].Unknown)
			}
		}
		if !two.Closed() {
			t.Error("the bus that is gone is held, so that its number cannot come back")
		}
		if err := near.Write(t.Context(), 0); err != nil {
			t.Errorf("an output of the other bus cannot be turned off: %v", err)
		}
		if err := far.Write(t.Context(), 0); !errors.Is(err, board.ErrGone) {
			t.Errorf("an output of the bus that is gone: %v", err)
		}

		time.Sleep(20 * time.Second)
		n := two.Transactions()
		scan(t, b)
		scan(t, b)
		if d := two.Transactions() - n; d != 2 { // once, each converter
			t.Errorf("whether it is back was asked with %d transactions", d)
		}
		two.Fail(unix.EIO, -1) // it can be opened, and does not work
		time.Sleep(20 * time.Second)
		scan(t, b)

		two.Fail(nil, 0)
		time.Sleep(20 * time.Second)
		if _, err := b.Scan(t.Context()); err == nil || !strings.Contains(err.Error(), "far (MCP3424 at 0x68 and 0x69 on bus 2), farIO (MCP23017 at 0x20 on bus 2): back again") {
			t.Errorf("a bus that is back: %v", err)
		}
		if err := b.Close(); err != nil || !one.Closed() || !two.Closed() {
			t.Errorf("closed: %v %v, %v", one.Closed(), two.Closed(), err)
		}
	})
}

func TestABusThatIsNotThereAtTheStartLeavesTheOthersAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, one, two := twoBuses()
		buses := map[int]*boardtest.Bus{1: one}
		h := machine(t, buses)
		b, err := h.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		r := scan(t, b)
		if d := cmp.Diff(slices.Concat(same(board.Good, 8), same(board.Away, 2)), qualities(r)); d != "" || r[9].Unknown != "chip far: there is no bus 2" {
			t.Errorf("%s it says %q", d, r[9].Unknown)
		}
		far, bit := board.Find(b.Banks(), c.Outputs[1])
		if far == nil || bit != 0x8000 {
			t.Fatalf("the output has the bank %v and the bit %x", far, bit)
		}
		_, err1 := far.Start(t.Context(), bit, 0)
		_, err2 := far.Read(t.Context())
		for _, err := range []error{err1, err2, far.Write(t.Context(), 0)} {
			if !errors.Is(err, board.ErrGone) || !strings.Contains(err.Error(), "there is no bus 2") {
				t.Errorf("it is driven: %v", err)
			}
		}
		buses[2] = two
		time.Sleep(20 * time.Second)
		if _, err := b.Scan(t.Context()); err == nil || !strings.Contains(err.Error(), "back again") {
			t.Errorf("a bus that has come: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if b, err = h.Open(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(same(board.Good, 10), qualities(scan(t, b))); d != "" {
			t.Error(d)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		delete(buses, 1)
		delete(buses, 2)
		if _, err := h.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "there is no bus 1") || !strings.Contains(err.Error(), "there is no bus 2") {
			t.Errorf("without any bus: %v", err)
		}
	})
}

func TestABusOfOutputsThatIsPulledIsNoticedWhenItIsWrittenTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &boardtest.Bus{}
		c, _ := ioPi(bus, nil, pins("io1", 1))
		b := open(t, bus, c)
		scan(t, b)
		start(t, b.Banks()[0], 1, 1)
		bus.Fail(unix.ENODEV, -1)
		if err := b.Banks()[0].Write(t.Context(), 0); !errors.Is(err, board.ErrGone) {
			t.Errorf("write gives %v", err)
		}
		if _, err := b.Scan(t.Context()); !errors.Is(err, board.ErrGone) {
			t.Errorf("the board is not to be opened anew: %v", err)
		}
	})
}
