package board_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// detect looks at a machine with one bus.
func detect(t *testing.T, bus *boardtest.Bus) (board.Host, board.Findings) {
	t.Helper()
	h := machine(t, map[int]*boardtest.Bus{1: bus})
	write(t, h.Root, "sys/class/i2c-dev/i2c-1/name", "bcm2835 (i2c@7e804000)\n")
	f, err := h.Detect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Buses) != 1 {
		t.Fatalf("%d buses", len(f.Buses))
	}
	return h, f
}

func TestDetectKnowsTheChipsAndTouchesNothing(t *testing.T) {
	bus := &boardtest.Bus{}
	_, adcs := adcPi(bus, 12)
	adcs[1].SetVolts(1, -1)
	bits18 := boardtest.NewMCP3424()
	bus.Attach(0x6E, bits18)
	if err := bus.Tx(0x6E, []byte{0x8C}, nil); err != nil {
		t.Fatal(err)
	}
	clock := boardtest.NewDS3231()
	bus.Attach(0x6A, clock)
	mcp, used, pca, pcf := boardtest.NewMCP23017(), boardtest.NewMCP23017(), boardtest.NewPCA9535(), boardtest.NewPCF8574()
	used.Poke(boardtest.IODIR, 0)
	used.Poke(boardtest.OLAT, 0x55)
	used.Poke(boardtest.IOCON, 0x02)
	pca.SetPin(1, boardtest.High)
	pcf.Poke(0x0F)
	bus.Attach(0x20, mcp)
	bus.Attach(0x21, used)
	bus.Attach(0x22, pca)
	bus.Attach(0x23, pcf)
	bus.Attach(0x38, pcf)
	bus.Attach(0x48, boardtest.NewADS1115())
	bus.Attach(0x50, clock) // an unknown chip, which must not be written to either
	for _, c := range []interface{ Forget() }{mcp, used, pca, pcf} {
		c.Forget()
	}

	_, f := detect(t, bus)
	expander := []board.Kind{board.MCP23017, board.PCA9535, board.PCF8574}
	want := []board.FoundChip{
		{Address: 0x20, Kinds: []board.Kind{board.MCP23017}, Sure: true},
		{Address: 0x21, Kinds: []board.Kind{board.MCP23017}, Sure: true},
		{Address: 0x22, Kinds: []board.Kind{board.PCA9535}, Sure: true},
		{Address: 0x23, Kinds: expander},
		{Address: 0x38, Kinds: []board.Kind{board.PCF8574}, Sure: true},
		{Address: 0x48, Kinds: []board.Kind{board.ADS1115}},
		{Address: 0x50},
		{Address: 0x68, Kinds: []board.Kind{board.MCP3424}, Sure: true},
		{Address: 0x69, Kinds: []board.Kind{board.MCP3424}, Sure: true},
		{Address: 0x6A},
		{Address: 0x6E, Kinds: []board.Kind{board.MCP3424}, Sure: true},
	}
	if d := cmp.Diff(want, f.Buses[0].Chips); d != "" {
		t.Error(d)
	}
	for name, c := range map[string]interface{ Steps() []boardtest.Step }{"0x20": mcp, "0x21": used, "0x22": pca, "0x23": pcf} {
		if s := c.Steps(); len(s) > 0 {
			t.Errorf("the chip at %s was written to: %+v", name, s)
		}
	}
	if n := clock.Writes(); n > 0 {
		t.Errorf("%d bytes were written to the clock", n)
	}
	if bits18.Config()&0x7F != 0x0C {
		t.Errorf("the converter has settings %#x now", bits18.Config())
	}
}

func TestDetectTakesNoLineThatIsStuckForAConverter(t *testing.T) {
	bus := &boardtest.Bus{}
	for i, says := range [][]byte{{0xFF}, {0x00}, {0x7F}, {0x00, 0x00, 0x00, 0x01}} {
		bus.Attach(0x68+uint16(i), &parrot{says: says})
	}
	bus.Attach(0x6F, &parrot{says: []byte{0x01, 0x94, 0x90}}) // a converter's words
	_, f := detect(t, bus)
	for _, c := range f.Buses[0].Chips {
		if c.Sure != (c.Address == 0x6F) {
			t.Errorf("0x%02x is %+v", c.Address, c)
		}
	}
}

func TestDetectLeavesAddressesOfTheKernelAlone(t *testing.T) {
	bus, clock := &boardtest.Bus{}, boardtest.NewDS3231()
	bus.Attach(0x68, clock)
	h, _ := detect(t, bus)
	own(t, h.Root, "1-0068", "rtc-ds1307")
	clock.Hang(true) // whoever asks it would know
	bus.Detach(0x68)
	asked := bus.Transactions()
	f, err := h.Detect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]board.FoundChip{{Address: 0x68, Driver: "rtc-ds1307"}}, f.Buses[0].Chips); d != "" {
		t.Error(d)
	}
	if n := bus.Transactions() - asked; n != 0x77-0x08 {
		t.Errorf("it asked %d addresses", n)
	}
}

func TestDetectGivesUpOnABusThatHangs(t *testing.T) {
	bus, chip := &boardtest.Bus{}, boardtest.NewMCP3424()
	bus.Attach(0x68, chip)
	chip.Hang(true)
	_, f := detect(t, bus)
	if b := f.Buses[0]; len(b.Chips) > 0 || !strings.Contains(b.Trouble, "the bus hangs while asking 0x08") || bus.Transactions() > 3 {
		t.Errorf("%+v after %d transactions", b, bus.Transactions())
	}
}

func TestTheReportIsInPlainWords(t *testing.T) {
	f := board.Findings{
		Buses: []board.FoundBus{
			{Number: 1, Adapter: "bcm2835 (i2c@7e804000)", Chips: []board.FoundChip{
				{Address: 0x20, Kinds: []board.Kind{board.MCP23017}, Sure: true},
				{Address: 0x21, Kinds: []board.Kind{board.MCP23017, board.PCA9535, board.PCF8574}},
				{Address: 0x50},
				{Address: 0x57, Driver: "at24"},
				{Address: 0x68, Driver: "rtc-ds1307"},
				{Address: 0x69, Kinds: []board.Kind{board.MCP3424}, Sure: true},
				{Address: 0x6A},
			}},
			{Number: 2},
			{Number: 20, Adapter: "fef04500.i2c", Trouble: "the bus hangs while asking 0x08 on bus 20"},
		},
		IIO:  []board.FoundDevice{{Name: "iio:device0", Names: []string{"1-0068", "mcp3424"}, Terminals: 4}},
		GPIO: []board.FoundDevice{{Name: "gpiochip0", Names: []string{"pinctrl-bcm2711"}, Terminals: 58}, {Name: "gpiochip1", Trouble: "permission denied"}},
	}
	path := filepath.Join("testdata", "detect.golden")
	got := board.Report(f)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
	if got := board.Report(board.Findings{}); !strings.Contains(got, "There is no I2C bus. Switch I2C on") || strings.Contains(got, "To mind") {
		t.Error(got)
	}
}

func TestDetectListsDevicesOfTheKernel(t *testing.T) {
	root := t.TempDir()
	const base = "sys/bus/iio/devices/iio:device3/"
	write(t, root, base+"name", "ads1015\n")
	write(t, root, base+"in_voltage0_raw", "1\n")
	write(t, root, base+"in_voltage1_raw", "1\n")
	write(t, root, base+"in_voltage0-voltage1_raw", "1\n")
	write(t, root, "dev/gpiochip0", "a file")
	write(t, root, "dev/i2c-1", "a file")
	f, err := board.Host{Root: root}.Detect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]board.FoundDevice{{Name: "iio:device3", Names: []string{"ads1015"}, Terminals: 2}}, f.IIO); d != "" {
		t.Error(d)
	}
	if len(f.GPIO) != 1 || !strings.Contains(f.GPIO[0].Trouble, "is no GPIO chip") {
		t.Errorf("%+v", f.GPIO)
	}
	if len(f.Buses) != 1 || !strings.Contains(f.Buses[0].Trouble, "is no I2C bus") {
		t.Errorf("%+v", f.Buses)
	}
}
