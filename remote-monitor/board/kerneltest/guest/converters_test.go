//go:build linux

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// The driver mcp3422 is the judge: its author read the datasheet on his own.
func TestAnADCPiGivesTheCodesThatTheKernelGets(t *testing.T) {
	first, second := boardtest.NewMCP3424(), boardtest.NewMCP3424()
	// The driver does not ask whether a result is new, and its wait is shorter than a conversion or cut short where
	// ticks of a busy machine come late and all at once.
	first.Speed, second.Speed = 100, 100
	r := newRig(t, map[uint16]boardtest.Device{0x68: first, 0x69: second})
	// An idle loop, an alarm, a cut wire that saturates, and a terminal below ground.
	for i, volts := range []float64{1.447, 2.551, 5.4, -0.731} {
		first.SetVolts(i+1, volts)
		second.SetVolts(4-i, volts)
	}
	for _, c := range []struct {
		bits, gain int
		rate       string // as the driver calls the bits
		scale      string // as it calls the gain, which depends on the bits
		channels   []int
	}{
		{12, 1, "240", "0.001000000", []int{1, 2, 3, 4, 5, 6, 7, 8}},
		{12, 8, "240", "0.000125000", []int{1, 2, 4, 8}},
		{14, 1, "60", "0.000250000", []int{1, 2, 3, 4, 5, 6, 7, 8}},
		{16, 2, "15", "0.000031250", []int{1, 2, 4, 8}},
		{18, 1, "3", "0.000015625", []int{2, 8}},
	} {
		t.Run(fmt.Sprintf("%d bits, gain %d", c.bits, c.gain), func(t *testing.T) {
			adc := r.chip("adc", board.MCP3424, 0x68, 0x69)
			adc.Bits, adc.Gain = c.bits, c.gain
			own := open(t, board.Config{Chips: []board.Chip{adc}, Inputs: pins("adc", c.channels...)})
			got := scan(t, own)

			dirs := [2]string{
				converterOf(t, oracle(t, "mcp3422", "mcp3424", r.bus, 0x68)),
				converterOf(t, oracle(t, "mcp3422", "mcp3424", r.bus, 0x69)),
			}
			var want []int
			cfg := board.Config{}
			for i, dir := range dirs {
				write(t, dir+"/in_voltage_sampling_frequency", c.rate)
				name := fmt.Sprint("kernel", i)
				cfg.Chips = append(cfg.Chips, board.Chip{Name: name, Kind: board.IIO, Device: filepath.Base(dir), Scale: 2.471})
			}
			for _, n := range c.channels {
				file := fmt.Sprintf("%s/in_voltage%d", dirs[(n-1)/4], (n-1)%4)
				write(t, file+"_scale", c.scale)
				// The driver does not wait when the terminal stays the same, whatever else was changed.
				read(t, fmt.Sprintf("%s/in_voltage%d_raw", dirs[(n-1)/4], n%4))
				code, err := strconv.Atoi(read(t, file+"_raw"))
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, code)
				cfg.Inputs = append(cfg.Inputs, pins(fmt.Sprint("kernel", (n-1)/4), (n-1)%4+1)...)
			}
			if diff := cmp.Diff(want, codes(t, got)); diff != "" {
				t.Errorf("codes differ (-kernel +board):\n%s", diff)
			}

			// The same chips once more, through the driver and board's kind for it.
			through := scan(t, open(t, cfg))
			if diff := cmp.Diff(want, codes(t, through)); diff != "" {
				t.Errorf("codes through sysfs differ (-kernel +board):\n%s", diff)
			}
			for i := range got {
				if d := through[i].Volts - got[i].Volts; d < -1e-9 || d > 1e-9 {
					t.Errorf("%s has %v V through sysfs and %v V without", got[i].Pin, through[i].Volts, got[i].Volts)
				}
			}
		})
	}
}

func TestAnADS1115GivesTheCodesThatTheKernelGets(t *testing.T) {
	adc := boardtest.NewADS1115()
	r := newRig(t, map[uint16]boardtest.Device{0x48: adc})
	for i, volts := range []float64{1.447, 3.317, -0.25, 0.0625} {
		adc.SetVolts(i+1, volts)
	}
	for _, c := range []struct {
		gain  int
		scale string // millivolts for a step
	}{{0, "0.1875"}, {1, "0.125"}, {4, "0.03125"}} {
		t.Run(fmt.Sprint("gain ", c.gain), func(t *testing.T) {
			chip := r.chip("adc", board.ADS1115, 0x48)
			chip.Gain = c.gain
			got := scan(t, open(t, board.Config{Chips: []board.Chip{chip}, Inputs: pins("adc", 1, 2, 3, 4)}))

			dir := converterOf(t, oracle(t, "ads1015", "ads1115", r.bus, 0x48))
			var want []int
			for i := range 4 {
				file := fmt.Sprintf("%s/in_voltage%d", dir, i)
				write(t, file+"_scale", c.scale)
				code, err := strconv.Atoi(read(t, file+"_raw"))
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, code)
			}
			if diff := cmp.Diff(want, codes(t, got)); diff != "" {
				t.Errorf("codes differ (-kernel +board):\n%s", diff)
			}
			through := scan(t, open(t, board.Config{
				Chips:  []board.Chip{{Name: "kernel", Kind: board.IIO, Device: filepath.Base(dir)}},
				Inputs: pins("kernel", 1, 2, 3, 4),
			}))
			for i := range got {
				if d := through[i].Volts - got[i].Volts; d < -1e-9 || d > 1e-9 {
					t.Errorf("%s has %v V through sysfs and %v V without", got[i].Pin, through[i].Volts, got[i].Volts)
				}
			}
		})
	}
}

func TestAChipThatTheKernelHasIsLeftToIt(t *testing.T) {
	r := newRig(t, map[uint16]boardtest.Device{0x68: boardtest.NewMCP3424()})
	oracle(t, "mcp3422", "mcp3424", r.bus, 0x68)
	before := r.wire.Transactions()
	_, err := board.Open(t.Context(), board.Config{Chips: []board.Chip{r.chip("adc", board.MCP3424, 0x68)}, Inputs: pins("adc", 1)})
	want := fmt.Sprintf("chip adc: address 0x68 on bus %d belongs to the kernel's driver mcp3422; use the chip through it, with kind iio, or take its dtoverlay out of config.txt", r.bus)
	if err == nil || err.Error() != want {
		t.Errorf("opening says %v\nwant %s", err, want)
	}
	if n := r.wire.Transactions() - before; n != 0 {
		t.Errorf("the chip was asked %d times nevertheless", n)
	}
}

// converterOf is the IIO device in a folder of sysfs.
func converterOf(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(dir + "/iio:device*")
	if err != nil || len(found) != 1 {
		entries, _ := os.ReadDir(dir)
		t.Fatalf("%s has converters %q, among %v", dir, found, entries)
	}
	return found[0]
}
