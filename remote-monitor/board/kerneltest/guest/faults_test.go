//go:build linux

package guest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// house is a rig like an ADC Pi and an IO Pi, with all that is wired to them.
type house struct {
	rig
	first, second *boardtest.MCP3424
	io            *boardtest.MCP23017
	config        board.Config
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{first: boardtest.NewMCP3424(), second: boardtest.NewMCP3424(), io: boardtest.NewMCP23017()}
	h.rig = newRig(t, map[uint16]boardtest.Device{0x68: h.first, 0x69: h.second, 0x20: h.io})
	for i := range 4 {
		h.first.SetVolts(i+1, 1+float64(i)/2)
		h.second.SetVolts(i+1, 1+float64(i)/2)
	}
	h.config = board.Config{
		Chips:   []board.Chip{h.chip("adc", board.MCP3424, 0x68, 0x69), h.chip("io", board.MCP23017, 0x20)},
		Inputs:  slices.Concat(pins("adc", 1, 2, 3, 4, 5, 6, 7, 8), pins("io", 9)),
		Outputs: pins("io", 1, 2),
	}
	return h
}

// sees holds the next scan to qualities: of the first converter, the second, and the expander's line.
func (h *house) sees(t *testing.T, when string, b board.Board, first, second, line board.Quality) []board.Reading {
	t.Helper()
	readings := scan(t, b)
	want := slices.Concat(each(4, first), each(4, second), each(1, line))
	if diff := cmp.Diff(want, qualities(readings)); diff != "" {
		t.Errorf("%s readings have other qualities (-want +got):\n%s", when, diff)
	}
	for _, r := range readings {
		if (r.Unknown == "") != (r.Quality == board.Good || r.Quality == board.Saturated) {
			t.Errorf("%s %s is %q and the reason is %q", when, r.Pin, r.Quality, r.Unknown)
		}
	}
	return readings
}

func TestAChipThatDoesNotAnswerIsUnknownAndTheOthersAreNot(t *testing.T) {
	h := newHouse(t)
	b := open(t, h.config)
	h.sees(t, "in good health", b, board.Good, board.Good, board.Good)
	h.second.NAK(-1)
	h.sees(t, "without the second converter", b, board.Good, board.NAK, board.Good)
	h.io.NAK(-1)
	h.sees(t, "without the expander too", b, board.Good, board.NAK, board.NAK)
	// What the kernel says of it is the adapter's choice: this one's is ENXIO.
	if _, err := theBank(t, b).Read(t.Context()); !errors.Is(err, unix.ENXIO) {
		t.Errorf("reading the expander says %v; want ENXIO", err)
	}
	h.second.NAK(0)
	h.io.NAK(0)
	h.sees(t, "once they answer again", b, board.Good, board.Good, board.Good)
}

func TestAByteThatIsNotAcknowledgedFailsTheWrite(t *testing.T) {
	h := newHouse(t)
	bank := theBank(t, open(t, h.config))
	if _, err := bank.Start(t.Context(), 0b11, 0); err != nil {
		t.Fatal(err)
	}
	h.io.NAKData(1)
	if err := bank.Write(t.Context(), 0b01); !errors.Is(err, unix.ENXIO) {
		t.Errorf("writing says %v; want ENXIO", err)
	}
	shows(t, bank, 0b11, 0)
	if err := bank.Write(t.Context(), 0b10); err != nil {
		t.Fatal(err)
	}
	shows(t, bank, 0b11, 0b10)
}

func TestAConverterThatIsNeverReadyTimesOut(t *testing.T) {
	h := newHouse(t)
	b := open(t, h.config)
	h.first.NeverReady(true)
	h.sees(t, "with a slow converter", b, board.Timeout, board.Good, board.Good)
	h.first.NeverReady(false)
	h.sees(t, "once it is ready", b, board.Good, board.Good, board.Good)
}

func TestAResultOfAnotherTerminalIsStale(t *testing.T) {
	h := newHouse(t)
	b := open(t, h.config)
	before := h.sees(t, "in good health", b, board.Good, board.Good, board.Good)
	h.first.Stale(true)
	readings := scan(t, b)
	// The result which it repeats is the fourth terminal's, and passes for a new one there.
	want := slices.Concat(each(3, board.Stale), each(6, board.Good))
	if diff := cmp.Diff(want, qualities(readings)); diff != "" {
		t.Errorf("readings have other qualities (-want +got):\n%s", diff)
	}
	if readings[3].Code != before[3].Code {
		t.Errorf("terminal 4 has code %d; want %d", readings[3].Code, before[3].Code)
	}
	h.first.Stale(false)
	h.sees(t, "once it listens again", b, board.Good, board.Good, board.Good)
}

func TestAConverterThatLosesItsSettingsInAConversionIsStale(t *testing.T) {
	h := newHouse(t)
	// The longest conversion leaves time to get in between.
	h.config.Chips[0].Bits = 18
	h.config.Inputs = pins("adc", 2)
	b := open(t, h.config)
	result := make(chan []board.Reading, 1)
	go func() {
		readings, err := b.Scan(t.Context())
		if err != nil {
			t.Error(err)
		}
		result <- readings
	}()
	const oneShotAt18Bits, notReady = 0x2C, 0x80
	if err := await("the conversion begins", func() (bool, error) { return h.first.Config() == oneShotAt18Bits|notReady, nil }); err != nil {
		t.Fatal(err)
	}
	h.first.BrownOut()
	if readings := <-result; len(readings) != 1 || readings[0].Quality != board.Stale {
		t.Errorf("read %+v; want it stale", readings)
	}
	if readings := scan(t, b); readings[0].Quality != board.Good {
		t.Errorf("then read %+v; want it good", readings)
	}
}

func TestAnExpanderThatLostItsRegistersIsNotEnergisedByAWrite(t *testing.T) {
	h := newHouse(t)
	bank := theBank(t, open(t, h.config))
	if _, err := bank.Start(t.Context(), 0b11, 0b10); err != nil {
		t.Fatal(err)
	}
	h.io.BrownOut()
	got, err := bank.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Outputs != 0 || got.Latch != 0 {
		t.Errorf("after a brown-out read %+v; want no outputs", got)
	}
	if err := bank.Write(t.Context(), 0b11); err != nil {
		t.Fatal(err)
	}
	if _, err := bank.Start(t.Context(), 0b11, 0b10); err != nil {
		t.Fatal(err)
	}
	shows(t, bank, 0b11, 0b10)
	for pin, want := range map[int]string{1: "-0-0", 2: "-1-1"} {
		if seen := h.io.Seen(pin); seen != want {
			t.Errorf("line %d has gone through %q; want %q", pin, seen, want)
		}
	}
}

func TestPowerMayGoAndCome(t *testing.T) {
	h := newHouse(t)
	b := open(t, h.config)
	bank := theBank(t, b)
	if _, err := bank.Start(t.Context(), 0b11, 0b01); err != nil {
		t.Fatal(err)
	}
	for _, chip := range []interface{ PowerOff() }{h.first, h.io} {
		chip.PowerOff()
	}
	h.sees(t, "without power", b, board.NAK, board.Good, board.NAK)
	if err := bank.Write(t.Context(), 0); err == nil {
		t.Error("a chip without power took a write")
	}
	for _, chip := range []interface{ PowerOn() }{h.first, h.io} {
		chip.PowerOn()
	}
	h.sees(t, "with power again", b, board.Good, board.Good, board.Good)
	found, err := bank.Start(t.Context(), 0b11, 0b01)
	if err != nil {
		t.Fatal(err)
	}
	if found.Outputs != 0 {
		t.Errorf("found outputs %b on a chip that just got power", found.Outputs)
	}
	if seen := h.io.Seen(1); seen != "-1-1" {
		t.Errorf("line 1 has gone through %q", seen)
	}
}

func TestABusThatHangsIsUnknownUntilItIsLetGo(t *testing.T) {
	h := newHouse(t)
	h.config.Inputs = pins("adc", 1)
	b := open(t, h.config)
	if _, err := b.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.io.Hang(true)
	// The driver of this adapter gives up after two seconds, with EIO, and then there is nothing left on the board
	// that answers.
	if readings, err := b.Scan(t.Context()); !errors.Is(err, board.ErrGone) {
		t.Errorf("on a bus that hangs a scan says %+v, %v; want %v", readings, err, board.ErrGone)
	}
	h.io.Hang(false)
	if readings := scan(t, b); readings[0].Quality != board.Good {
		t.Errorf("then read %+v; want it good", readings)
	}
}

func TestAnAdapterThatIsPulledIsGoneAndComesBack(t *testing.T) {
	h := newHouse(t)
	wire := &boardtest.Bus{}
	wire.Attach(0x68, h.first)
	wire.Attach(0x69, h.second)
	wire.Attach(0x20, h.io)
	const port = 1
	number, pull, err := plug(port, wire)
	if err != nil {
		t.Fatal(err)
	}
	for i := range h.config.Chips {
		h.config.Chips[i].Bus = fmt.Sprint(number)
	}
	b, err := board.Open(t.Context(), h.config)
	if err != nil {
		t.Fatal(err)
	}
	bank := theBank(t, b)
	if _, err := bank.Start(t.Context(), 0b11, 0b01); err != nil {
		t.Fatal(err)
	}
	if err := pull(); err != nil {
		t.Fatal(err)
	}
	if readings, err := b.Scan(t.Context()); !errors.Is(err, board.ErrGone) {
		t.Errorf("without the adapter a scan says %+v, %v; want %v", readings, err, board.ErrGone)
	}
	if err := bank.Write(t.Context(), 0); !errors.Is(err, board.ErrGone) {
		t.Errorf("without the adapter a write says %v; want %v", err, board.ErrGone)
	}
	if _, err := board.Open(t.Context(), h.config); err == nil {
		t.Error("a bus that is not there was opened")
	}
	closed(t, b)

	if number, pull, err = plug(port, wire); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pull(); err != nil {
			t.Error(err)
		}
	})
	for i := range h.config.Chips {
		h.config.Chips[i].Bus = fmt.Sprint("/dev/i2c-", number)
	}
	b = open(t, h.config)
	h.sees(t, "plugged in again", b, board.Good, board.Good, board.Good)
	found, err := theBank(t, b).Start(t.Context(), 0b11, 0)
	if err != nil {
		t.Fatal(err)
	}
	if found.Pins&0b11 != 0b01 {
		t.Errorf("found %+v; want the output that was left on", found)
	}
}
