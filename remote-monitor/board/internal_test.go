package board

import (
	"math"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// instant is a converter that need not be waited for.
type instant struct{ model }

func (instant) takes() time.Duration { return 0 }

// BenchmarkAScanOfSixteenInputs is what a scan of two ADC Pis costs the processor, without the waiting: the drivers
// and the simulated chips, but no kernel.
func BenchmarkAScanOfSixteenInputs(b *testing.B) {
	bus := &boardtest.Bus{}
	var inputs []Pin
	for i, a := range []uint16{0x68, 0x69, 0x6A, 0x6B} {
		chip := boardtest.NewMCP3424()
		chip.Speed = 1e12
		bus.Attach(a, chip)
		for n := range 4 {
			inputs = append(inputs, Pin{[]string{"adc1", "adc2"}[i/2], i%2*4 + n + 1})
		}
	}
	h := Host{Root: b.TempDir(), I2C: func(int) (i2c.BusCloser, error) { return bus, nil }}
	site16, err := h.Open(b.Context(), Config{Inputs: inputs, Chips: []Chip{
		{Name: "adc1", Kind: MCP3424, Addresses: []uint16{0x68, 0x69}},
		{Name: "adc2", Kind: MCP3424, Addresses: []uint16{0x6A, 0x6B}},
	}})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range site16.(*site).parts[0].lane.(*busLane).converters {
		c.model = instant{c.model}
	}
	b.ReportAllocs()
	for b.Loop() {
		readings, err := site16.Scan(b.Context())
		if err != nil || len(readings) != 16 || readings[15].Quality != Good {
			b.Fatalf("%+v, %v", readings, err)
		}
	}
}

func TestStructuresOfTheKernelHaveItsSizes(t *testing.T) {
	word := unsafe.Sizeof(uintptr(0))
	if got, want := unsafe.Sizeof(i2cMessage{}), 8+word; got != want {
		t.Errorf("struct i2c_msg has %d bytes, want %d", got, want)
	}
	if got, want := unsafe.Sizeof(i2cTransfer{}), 2*word; got != want {
		t.Errorf("struct i2c_rdwr_ioctl_data has %d bytes, want %d", got, want)
	}
	// The size is part of the number of this ioctl.
	if got := unsafe.Sizeof(unix.GPIOV2LineConfig{}); got != gpioSetConfig>>16&0x3FFF {
		t.Errorf("struct gpio_v2_line_config has %d bytes", got)
	}
}

func TestLevelsOfScatteredLinesArePackedAndUnpacked(t *testing.T) {
	if got := pack(0b1000_0000_0001_0010, 0b1000_0000_0000_0010); got != 0b101 {
		t.Errorf("packed to %b", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		mask, levels := rapid.Uint16().Draw(t, "mask"), rapid.Uint16().Draw(t, "levels")
		if got := unpack(mask, pack(mask, levels)); got != levels&mask {
			t.Fatalf("%016b becomes %016b", levels&mask, got)
		}
	})
	c := outputConfig(0b101, 3)
	if c.Flags != gpioOutput || c.Num_attrs != 1 || c.Attrs[0].Attr.Flags != 0b101 || c.Attrs[0].Mask != 0b111 || c.Attrs[0].Attr.Id != 2 {
		t.Errorf("the kernel is told %+v", c)
	}
}

func TestTerminalsOfAGPIOChipAreLines(t *testing.T) {
	for _, c := range []struct{ lines, terminal, want int }{{16, 1, 0}, {16, 16, 15}, {8, 8, 7}, {58, 17, 17}, {54, 1, 1}} {
		if got := gpioOffset(c.lines, c.terminal); got != c.want {
			t.Errorf("terminal %d of %d lines is line %d", c.terminal, c.lines, got)
		}
	}
	for label, want := range map[string]bool{"pca9535": true, "tca9555": true, "pcf8574": true, "mcp23017": false, "pinctrl-bcm2835": false} {
		if powersUpHigh([]string{"1-0020", label}) != want {
			t.Errorf("%s powers up high: %v", label, !want)
		}
	}
}

func FuzzPins(f *testing.F) {
	for _, s := range []string{"adc1:3", " io1 : 16", "a:b:1", ":", "", "x:0", "x:-1", "x:99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePin(s)
		if err != nil {
			if p != (Pin{}) {
				t.Errorf("%q is refused and is %v", s, p)
			}
			return
		}
		if again, err := ParsePin(p.String()); err != nil || again != p || p.Number < 1 {
			t.Errorf("%q is %v, which is %v, %v", s, p, again, err)
		}
	})
}

// FuzzText is every parser of what a person or the kernel wrote.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "1", "/dev/i2c-1", "i2c-20", "/dev/1", "01", "-1", "89:1\n", "1:3", "4096:0", ":", "0.001000000\n", "1e400", "NaN", "-0.1", "0x1p-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := busNumber(s); err == nil && n < 0 {
			t.Errorf("%q is bus %d", s, n)
		}
		if ma, mi, err := parseDev(s); err == nil && (ma > 0xFFF || mi > 0xFFFFF) {
			t.Errorf("%q is %d:%d", s, ma, mi)
		}
		for _, chip := range []string{"mcp3424", "ads1015"} {
			if v, err := parseScale(s, []string{"1-0068", chip}); err == nil && !(v >= 0 && v < math.Inf(1)) {
				t.Errorf("%q is %v V", s, v)
			}
		}
		if got := cString([]byte(s)); slices.Contains([]byte(got), 0) {
			t.Errorf("%q ends at no end", s)
		}
	})
}

// FuzzRecognize reads what any chip may send.
func FuzzRecognize(f *testing.F) {
	f.Add([]byte{0, 0, 0x10}, []byte{0, 0, 0x90})
	f.Add([]byte{0xFF}, []byte{0xFF})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		fill := func(b []byte) []byte {
			if len(b) == 0 {
				b = []byte{0}
			}
			// The last byte is sent over and over.
			for len(b) < sampleLength {
				b = append(b, b[len(b)-1])
			}
			return b[:sampleLength]
		}
		first, again := fill(a), fill(b)
		for _, k := range kinds() {
			left, sure := recognize([]Kind{k.kind}, first, again)
			if sure && (len(left) == 0 || left[0] == MCP3424 && k.kind != MCP3424) {
				t.Errorf("%v of a %s, for sure", left, k.kind)
			}
		}
		for _, bits := range []int{12, 14, 16, 18} {
			m := mcp3424{bits: bits, gain: 1, scale: 1}
			code, sane := m.decode(first[:m.length()])
			if v, _ := m.volts(code); sane && math.Abs(v) > 2.048 {
				t.Errorf("% x is %v V", first[:3], v)
			}
		}
	})
}
