package board_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// ioPi is the wiring of one MCP23017, and the chip.
func ioPi(bus *boardtest.Bus, inputs, outputs []board.Pin) (board.Config, *boardtest.MCP23017) {
	chip := boardtest.NewMCP23017()
	bus.Attach(0x20, chip)
	return board.Config{
		Chips:  []board.Chip{{Name: "io1", Kind: board.MCP23017, Addresses: []uint16{0x20}, PullUp: true}},
		Inputs: inputs, Outputs: outputs,
	}, chip
}

// ioZero is the wiring of one PCA9535, and the chip.
func ioZero(bus *boardtest.Bus, inputs, outputs []board.Pin) (board.Config, *boardtest.PCA9535) {
	chip := boardtest.NewPCA9535()
	bus.Attach(0x21, chip)
	return board.Config{
		Chips:  []board.Chip{{Name: "io1", Kind: board.PCA9535, Addresses: []uint16{0x21}}},
		Inputs: inputs, Outputs: outputs,
	}, chip
}

// start starts a bank.
func start(t *testing.T, b board.Bank, outputs, levels uint16) board.Lines {
	t.Helper()
	found, err := b.Start(t.Context(), outputs, levels)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAnExpanderThatJustGotPowerGoesToItsLevelsAtOnce(t *testing.T) {
	bus := &boardtest.Bus{}
	c, mcp := ioPi(bus, nil, pins("io1", 1, 2, 16))
	bank := open(t, bus, c).Banks()[0]
	if found := start(t, bank, 0x8003, 0x0002); found != (board.Lines{}) {
		t.Errorf("found %+v", found)
	}
	if got := mcp.Seen(1) + " " + mcp.Seen(2) + " " + mcp.Seen(16) + " " + mcp.Seen(3); got != "-0 -1 -0 -" {
		t.Errorf("the lines went through %s", got)
	}

	bus = &boardtest.Bus{}
	c, pca := ioZero(bus, nil, pins("io1", 1, 2, 16))
	bank = open(t, bus, c).Banks()[0]
	if found := start(t, bank, 0x8003, 0x0002); found != (board.Lines{Latch: 0xFFFF}) {
		t.Errorf("found %+v", found)
	}
	if got := pca.Seen(1) + " " + pca.Seen(2) + " " + pca.Seen(16) + " " + pca.Seen(3); got != "-0 -1 -0 -" {
		t.Errorf("the lines of the chip that powers up high went through %s", got)
	}
	if mcp := open(t, bus, c).Banks()[0]; !mcp.PowersUpHigh() || mcp.Chip() != "io1" {
		t.Error("the PCA9535 does not say that it powers up high")
	}
}

func TestOutputsThatAFormerProcessLeftOnGoOffInOneStep(t *testing.T) {
	bus := &boardtest.Bus{}
	c, chip := ioPi(bus, pins("io1", 9), pins("io1", 1, 2, 3))
	// It drove all lines of port A: 1 and 4 high, 2 and 3 low.
	chip.Poke(boardtest.OLAT, 0x09)
	chip.Poke(boardtest.IODIR, 0x00)
	chip.Forget()
	b := open(t, bus, c)
	scan(t, b)
	if err := b.Banks()[0].Write(t.Context(), 0); err == nil || chip.Seen(1) != "1" || chip.Seen(4) != "1" {
		t.Errorf("before Start: %v; lines 1 and 4 went through %s and %s", err, chip.Seen(1), chip.Seen(4))
	}
	found := start(t, b.Banks()[0], 0x0007, 0x0004)
	if found.Outputs != 0x00FF || found.Latch != 0x0009 || found.Pins&0x00FF != 0x0009 {
		t.Errorf("found %+v", found)
	}
	for pin, want := range map[int]string{
		1: "10", // on, and goes to its level
		2: "0",  // stays
		3: "01", // goes to its level
		4: "1-", // no output any more: released, and not driven to anything before
		5: "0-",
	} {
		if got := chip.Seen(pin); got != want {
			t.Errorf("line %d went through %s, want %s", pin, got, want)
		}
	}
	if got, err := b.Banks()[0].Read(t.Context()); err != nil || got.Outputs != 0x0007 || got.Latch&0x0007 != 0x0004 || got.Pins&0x000F != 0x0004 {
		t.Errorf("reads back %+v, %v", got, err)
	}
}

// driven is what Seen says without the times when nothing was driven.
func driven(seen string) string {
	var s []byte
	for i := range len(seen) {
		if c := seen[i]; (c == '0' || c == '1') && (len(s) == 0 || s[len(s)-1] != c) {
			s = append(s, c)
		}
	}
	return string(s)
}

// onlyTo reports whether a line whose history is seen was driven to want and, before, to nothing but where it began.
func onlyTo(seen string, want byte) bool {
	d := driven(seen)
	return d == string(want) || len(d) == 2 && d[0] == seen[0] && d[1] == want
}

func TestNoLineGlitchesWhateverAFormerProgramAndNoiseLeft(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bus := &boardtest.Bus{}
		outputs := rapid.Uint16Min(1).Draw(rt, "outputs")
		levels := rapid.Uint16().Draw(rt, "levels")
		var out []board.Pin
		for i := range 16 {
			if outputs&(1<<i) != 0 {
				out = append(out, board.Pin{Chip: "io1", Number: i + 1})
			}
		}
		var c board.Config
		var chip interface {
			Seen(int) string
			Forget()
			Pins() uint16
		}
		if rapid.Bool().Draw(rt, "MCP23017") {
			var mcp *boardtest.MCP23017
			c, mcp = ioPi(bus, nil, out)
			for _, r := range []int{boardtest.OLAT, boardtest.IODIR, boardtest.IPOL, boardtest.GPPU, boardtest.GPINTEN, boardtest.DEFVAL, boardtest.INTCON} {
				mcp.Poke(r, rapid.Byte().Draw(rt, fmt.Sprintf("register %#x", r)))
				mcp.Poke(r+1, rapid.Byte().Draw(rt, fmt.Sprintf("register %#x", r+1)))
			}
			mcp.Poke(boardtest.IOCON, rapid.SampledFrom([]byte{0, 0x02, 0x20, 0x80, 0xA0, 0xFF}).Draw(rt, "IOCON"))
			chip = mcp
		} else {
			var pca *boardtest.PCA9535
			c, pca = ioZero(bus, nil, out)
			for r := boardtest.PCAOutput; r < 8; r++ {
				pca.Poke(r, rapid.Byte().Draw(rt, fmt.Sprintf("register %d", r)))
			}
			chip = pca
		}
		chip.Forget()
		b, err := machine(t, map[int]*boardtest.Bus{1: bus}).Open(t.Context(), c)
		if err != nil {
			rt.Fatal(err)
		}
		// The bus may fail in the middle; then it is tried again.
		bus.FailAfter(rapid.IntRange(0, 20).Draw(rt, "good transactions"), unix.EREMOTEIO, rapid.IntRange(0, 1).Draw(rt, "failing transactions"))
		if _, err := b.Banks()[0].Start(t.Context(), outputs, levels); err != nil {
			if _, err := b.Banks()[0].Start(t.Context(), outputs, levels); err != nil {
				rt.Fatal(err)
			}
		}
		bus.Fail(nil, 0)
		for i := range 16 {
			seen := chip.Seen(i + 1)
			want := "01"[levels>>i&1]
			switch {
			case outputs&(1<<i) == 0 && len(driven(seen)) > 1:
				rt.Fatalf("line %d, which is no output, went through %s", i+1, seen)
			case outputs&(1<<i) != 0 && (!onlyTo(seen, want) || seen[len(seen)-1] != want):
				rt.Fatalf("line %d should go to %c and went through %s", i+1, want, seen)
			}
		}
		l, err := b.Banks()[0].Read(t.Context())
		if err != nil || l.Outputs != outputs || (l.Latch^levels)&outputs != 0 || (l.Pins^levels)&outputs != 0 || l.Pins != chip.Pins() {
			rt.Fatalf("reads back %+v, %v", l, err)
		}
	})
}

func TestAStartThatFailsHalfWayDrivesNothingButTheLevels(t *testing.T) {
	for good := range 30 {
		bus := &boardtest.Bus{}
		c, chip := ioZero(bus, nil, pins("io1", 1))
		bank := open(t, bus, c).Banks()[0]
		bus.FailAfter(good, unix.ENXIO, -1)
		_, err := bank.Start(t.Context(), 1, 0)
		bus.Fail(nil, 0)
		if got := chip.Seen(1); got != "-" && got != "-0" {
			t.Errorf("after %d transactions the line went through %s", good, got)
		}
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "nobody answers at 0x21 on bus 1") {
			t.Errorf("it says %v", err)
		}
	}
	t.Error("it never came to an end")
}

func TestAChipThatKeepsNothingIsNotDriven(t *testing.T) {
	bus := &boardtest.Bus{}
	c, chip := ioZero(bus, nil, pins("io1", 1))
	bank := open(t, bus, c).Banks()[0]
	chip.Deaf(true)
	_, err := bank.Start(t.Context(), 1, 0)
	if err == nil || !strings.Contains(err.Error(), "latch reads 0xffff after 0xfffe was written") {
		t.Errorf("it says %v", err)
	}
	for _, s := range chip.Steps() {
		t.Errorf("it has %+v", s)
	}

	c, mcp := ioPi(bus, nil, pins("io1", 1))
	bank = open(t, bus, c).Banks()[0]
	mcp.Poke(boardtest.IOCON, 0x02)
	mcp.Deaf(true)
	if _, err := bank.Start(t.Context(), 1, 0); err == nil || !strings.Contains(err.Error(), "IOCON reads 0x0202") {
		t.Errorf("it says %v", err)
	}
}

func TestAWriteIsOneTransactionAndLeavesTheOtherLinesAlone(t *testing.T) {
	bus := &boardtest.Bus{}
	c, chip := ioPi(bus, pins("io1", 3), pins("io1", 1, 16))
	b := open(t, bus, c)
	bank := b.Banks()[0]
	start(t, bank, 0x8001, 0)
	chip.Forget()
	before := bus.Transactions()
	if err := bank.Write(t.Context(), 0xFFFF); err != nil {
		t.Fatal(err)
	}
	if n := bus.Transactions() - before; n != 1 {
		t.Errorf("it took %d transactions", n)
	}
	if chip.Seen(1) != "01" || chip.Seen(16) != "01" || chip.Seen(2) != "-" || chip.Seen(3) != "u" {
		t.Errorf("lines 1, 16, 2, 3 went through %s %s %s %s", chip.Seen(1), chip.Seen(16), chip.Seen(2), chip.Seen(3))
	}
	if chip.Register(boardtest.OLAT) != 1 || chip.Register(boardtest.OLAT+1) != 0x80 {
		t.Error("the latch of other lines changed")
	}
	if _, err := bank.Start(t.Context(), 0x0004, 0); err == nil {
		t.Error("an input became an output")
	}
}

func TestAnOutputThatDoesNotFollowIsSeenAtThePins(t *testing.T) {
	bus := &boardtest.Bus{}
	c, chip := ioPi(bus, nil, pins("io1", 1, 2))
	bank := open(t, bus, c).Banks()[0]
	start(t, bank, 3, 3)
	chip.Short(1, boardtest.Low)
	if l, err := bank.Read(t.Context()); err != nil || l.Latch&3 != 3 || l.Pins&3 != 2 {
		t.Errorf("it reads %+v, %v", l, err)
	}
}

func TestAnExpanderThatLostItsPowerIsSeenAndStartedAgainWithoutAGlitch(t *testing.T) {
	bus := &boardtest.Bus{}
	c, chip := ioZero(bus, nil, pins("io1", 1, 2))
	bank := open(t, bus, c).Banks()[0]
	start(t, bank, 3, 1)
	chip.BrownOut()
	if l, err := bank.Read(t.Context()); err != nil || l.Outputs != 0 || l.Latch != 0xFFFF {
		t.Errorf("after a dip it reads %+v, %v", l, err)
	}
	// A write that did not know changes the latch alone.
	if err := bank.Write(t.Context(), 0); err != nil || chip.Seen(1) != "-1-" {
		t.Errorf("%v; the line went through %s", err, chip.Seen(1))
	}
	chip.PowerOff()
	if _, err := bank.Read(t.Context()); err == nil {
		t.Error("it reads without power")
	}
	if err := bank.Write(t.Context(), 3); err == nil {
		t.Error("it writes without power")
	}
	chip.PowerOn()
	chip.Forget()
	start(t, bank, 3, 0)
	if chip.Seen(1) != "-0" || chip.Seen(2) != "-0" {
		t.Errorf("the lines went through %s and %s", chip.Seen(1), chip.Seen(2))
	}
}

func TestRegistersThatNoiseChangedReadAsALostChipAndAStartMendsThem(t *testing.T) {
	bus := &boardtest.Bus{}
	c, mcp := ioPi(bus, nil, pins("io1", 1, 9))
	bank := open(t, bus, c).Banks()[0]
	for name, poke := range map[string]func(){
		"another map":       func() { mcp.Poke(boardtest.IOCON, 0x80) },
		"another map, fast": func() { mcp.Poke(boardtest.IOCON, 0xA0) },
		"a pointer stopped": func() { mcp.Poke(boardtest.IOCON, 0x20) },
		"upside down":       func() { mcp.Poke(boardtest.IPOL+1, 0x01) },
	} {
		start(t, bank, 0x0101, 0x0100)
		if l, err := bank.Read(t.Context()); err != nil || l.Outputs != 0x0101 {
			t.Fatalf("before: %+v, %v", l, err)
		}
		mcp.Forget()
		poke()
		if l, err := bank.Read(t.Context()); err != nil || l != (board.Lines{}) {
			t.Errorf("%s: reads %+v, %v", name, l, err)
		}
		start(t, bank, 0x0101, 0x0100)
		if l, err := bank.Read(t.Context()); err != nil || l != (board.Lines{Outputs: 0x0101, Latch: 0x0100, Pins: 0x0100}) {
			t.Errorf("%s: mended it reads %+v, %v", name, l, err)
		}
		if mcp.Seen(1) != "0" || mcp.Seen(9) != "1" {
			t.Errorf("%s: the lines went through %s and %s", name, mcp.Seen(1), mcp.Seen(9))
		}
	}

	c, pca := ioZero(bus, nil, pins("io1", 1))
	bank = open(t, bus, c).Banks()[0]
	start(t, bank, 1, 1)
	pca.Poke(boardtest.PCAPolarity, 1)
	if l, err := bank.Read(t.Context()); err != nil || l != (board.Lines{}) {
		t.Errorf("upside down: reads %+v, %v", l, err)
	}
}

func TestAWatchdogMayWriteDuringAScan(t *testing.T) {
	bus := &boardtest.Bus{}
	c, chip := ioPi(bus, pins("io1", 3), pins("io1", 1))
	b := open(t, bus, c)
	start(t, b.Banks()[0], 1, 1)
	var g sync.WaitGroup
	g.Go(func() {
		for range 200 {
			if err := b.Banks()[0].Write(t.Context(), 0); err != nil {
				t.Error(err)
			}
		}
	})
	for range 200 {
		if r := scan(t, b); r[0].Unknown != "" || !r[0].Active {
			t.Fatalf("got %+v", r)
		}
		if l, err := b.Banks()[0].Read(t.Context()); err != nil || l.Outputs != 1 {
			t.Fatalf("got %+v, %v", l, err)
		}
	}
	g.Wait()
	if got := chip.Seen(1); got != "-10" {
		t.Errorf("the line went through %s", got)
	}
}

func TestLinesAreReadAsContacts(t *testing.T) {
	for _, kind := range []board.Kind{board.MCP23017, board.PCA9535, board.PCF8574} {
		bus := &boardtest.Bus{}
		c := board.Config{
			Chips:  []board.Chip{{Name: "io1", Kind: kind, Addresses: []uint16{0x27}, PullUp: kind == board.MCP23017}},
			Inputs: pins("io1", 7, 1, 2),
		}
		var chip interface {
			boardtest.Device
			SetPin(int, boardtest.Drive)
			BrownOut()
			NAK(int)
		}
		switch kind {
		case board.MCP23017:
			mcp := boardtest.NewMCP23017()
			mcp.Poke(boardtest.IPOL, 0xFF) // left upside down
			chip = mcp
		case board.PCA9535:
			pca := boardtest.NewPCA9535()
			pca.Poke(boardtest.PCAPolarity, 0xFF)
			chip = pca
		default:
			pcf := boardtest.NewPCF8574()
			pcf.Poke(0x00) // left driving the lines
			chip = pcf
		}
		bus.Attach(0x27, chip)
		chip.SetPin(7, boardtest.High)
		chip.SetPin(1, boardtest.Low)
		b := open(t, bus, c)
		r := scan(t, b)
		got := []bool{r[0].Active, r[1].Active, r[2].Active}
		want := []bool{true, false, kind != board.PCA9535} // nothing pulls the third one up there
		if d := cmp.Diff(want, got); d != "" || r[0].Volts != board.FullScale || r[0].Code != 1 || r[1].Volts != 0 {
			t.Errorf("%s: %s %+v", kind, d, r)
		}
		chip.SetPin(1, boardtest.High)
		if r := scan(t, b); !r[1].Active {
			t.Errorf("%s: a contact that opened is not seen", kind)
		}
		chip.NAK(1)
		if d := cmp.Diff(same(board.NAK, 3), qualities(scan(t, b))); d != "" {
			t.Errorf("%s: %s", kind, d)
		}
		chip.BrownOut()
		scan(t, b) // may notice
		if r := scan(t, b); !r[0].Active || r[2].Active != want[2] || r[2].Unknown != "" {
			t.Errorf("%s: after a dip: %+v", kind, r)
		}
	}
}

func TestPullUpsThatWentWithThePowerMakeAReadingUnknown(t *testing.T) {
	bus := &boardtest.Bus{}
	c, chip := ioPi(bus, pins("io1", 1), nil)
	b := open(t, bus, c)
	if r := scan(t, b); !r[0].Active {
		t.Fatalf("an open contact reads %+v", r)
	}
	chip.BrownOut()
	if r := scan(t, b); r[0].Quality != board.Stale || !strings.Contains(r[0].Unknown, "lost its power") {
		t.Errorf("an open contact without its pull-up reads %+v", r)
	}
	if r := scan(t, b); !r[0].Active || r[0].Unknown != "" {
		t.Errorf("and then %+v", r)
	}
}

func TestAnInputThatAFormerProgramDroveIsReadBeforeTheOutputsStart(t *testing.T) {
	bus := &boardtest.Bus{}
	c, chip := ioPi(bus, pins("io1", 3), pins("io1", 1))
	chip.Poke(boardtest.OLAT, 0x01)
	chip.Poke(boardtest.IODIR, 0x00)
	chip.SetPin(3, boardtest.High)
	chip.Forget()
	if r := scan(t, open(t, bus, c)); !r[0].Active || r[0].Unknown != "" || chip.Seen(1) != "1" {
		t.Errorf("reads %+v; line 1 went through %s", r, chip.Seen(1))
	}
}

func TestAChipOfInputsLetsGoOfWhatAFormerProgramDrove(t *testing.T) {
	bus := &boardtest.Bus{}
	c, chip := ioPi(bus, pins("io1", 1), nil)
	chip.Poke(boardtest.OLAT+1, 0xFF)
	chip.Poke(boardtest.IODIR+1, 0x00)
	chip.Forget()
	b := open(t, bus, c)
	scan(t, b)
	if got := chip.Seen(9); got != "1-" || len(b.Banks()) != 0 {
		t.Errorf("line 9 went through %s; %d banks", got, len(b.Banks()))
	}
}

func TestAPCF8574DrivesLowAndLetsGo(t *testing.T) {
	bus, chip := &boardtest.Bus{}, boardtest.NewPCF8574()
	bus.Attach(0x3F, chip)
	c := board.Config{
		Chips:  []board.Chip{{Name: "io1", Kind: board.PCF8574, Addresses: []uint16{0x3F}}},
		Inputs: pins("io1", 8), Outputs: pins("io1", 1, 2),
	}
	chip.Poke(0x7E) // left on: line 1, active low; and line 8 driven
	chip.Forget()
	b := open(t, bus, c)
	if r := scan(t, b); r[0].Quality != board.Stale || chip.Seen(1) != "0" {
		t.Errorf("before its outputs are set up it reads %+v, line 1 went through %s", r, chip.Seen(1))
	}
	bank := b.Banks()[0]
	if !bank.PowersUpHigh() || bank.Chip() != "io1" {
		t.Error("it does not say that it powers up high")
	}
	if err := bank.Write(t.Context(), 0); err == nil || chip.Latch() != 0x7E {
		t.Errorf("a write before Start: %v, latch %#x", err, chip.Latch())
	}
	if found := start(t, bank, 0x03, 0x03); found != (board.Lines{Outputs: 0xFF, Latch: 0x7E, Pins: 0x7E}) {
		t.Errorf("found %+v", found)
	}
	if err := bank.Write(t.Context(), 0x01); err != nil {
		t.Fatal(err)
	}
	if chip.Seen(1) != "0u" || chip.Seen(2) != "u0" || chip.Seen(3) != "u" || chip.Seen(8) != "0u" {
		t.Errorf("lines 1, 2, 3, 8 went through %s %s %s %s", chip.Seen(1), chip.Seen(2), chip.Seen(3), chip.Seen(8))
	}
	chip.SetPin(8, boardtest.Low)
	if r := scan(t, b); r[0].Active || r[0].Unknown != "" {
		t.Errorf("a closed contact reads %+v", r)
	}
	if l, err := bank.Read(t.Context()); err != nil || l != (board.Lines{Outputs: 0x03, Latch: 0x7D, Pins: 0x7D}) {
		t.Errorf("reads back %+v, %v", l, err)
	}
	chip.Deaf(true)
	if _, err := bank.Start(t.Context(), 0x03, 0x00); err == nil || !strings.Contains(err.Error(), "stay high") {
		t.Errorf("a chip that keeps nothing: %v", err)
	}
	for _, outputs := range []uint16{0x80, 0x100} {
		if _, err := bank.Start(t.Context(), outputs, 0); err == nil {
			t.Errorf("lines %#x became outputs", outputs)
		}
	}
}

func TestFindKnowsTheBankAndTheBit(t *testing.T) {
	bus := &boardtest.Bus{}
	c, _ := ioPi(bus, nil, pins("io1", 1))
	b := open(t, bus, c)
	for n, want := range map[int]uint16{0: 0, 1: 1, 16: 0x8000, 17: 0, math.MaxInt: 0} {
		bank, bit := board.Find(b.Banks(), board.Pin{Chip: "io1", Number: n})
		if bit != want || (bank != nil) != (want != 0) {
			t.Errorf("pin %d is bit %#x", n, bit)
		}
	}
}
