package board_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

func TestAConfigurationThatMakesNoSenseIsRefusedWithWhatToDo(t *testing.T) {
	adc := board.Chip{Name: "adc1", Kind: board.MCP3424, Addresses: []uint16{0x68, 0x69}}
	io := board.Chip{Name: "io1", Kind: board.MCP23017, Addresses: []uint16{0x20}}
	with := func(c board.Chip, change func(*board.Chip)) []board.Chip {
		change(&c)
		return []board.Chip{c}
	}
	for says, c := range map[string]board.Config{
		"no chip is configured":                                  {},
		`"" is no name for a chip`:                               {Chips: with(adc, func(c *board.Chip) { c.Name = "" })},
		`"a:b" is no name for a chip`:                            {Chips: with(adc, func(c *board.Chip) { c.Name = "a:b" })},
		"two chips are called adc1; rename one":                  {Chips: []board.Chip{adc, adc}},
		`there is no kind "mcp3425"; there are mcp3424, ads1115`: {Chips: with(adc, func(c *board.Chip) { c.Kind = "mcp3425" })},
		"scale -1 makes no sense":                                {Chips: with(adc, func(c *board.Chip) { c.Scale = -1 })},
		"13 bits is not possible; choose 12, 14, 16 or 18":       {Chips: with(adc, func(c *board.Chip) { c.Bits = 13 })},
		"gain 3 is not possible; choose 1, 2, 4 or 8":            {Chips: with(adc, func(c *board.Chip) { c.Gain = 3 })},
		"chip ads: gain 3 is not possible": {Chips: with(adc, func(c *board.Chip) {
			*c = board.Chip{Name: "ads", Kind: board.ADS1115, Addresses: []uint16{0x48}, Gain: 3}
		})},
		"kind pca9535 has no pull-ups":                                                            {Chips: with(io, func(c *board.Chip) { c.Kind, c.PullUp = board.PCA9535, true })},
		"kind iio needs a device, such as iio:":                                                   {Chips: []board.Chip{{Name: "x", Kind: board.IIO}}},
		"kind gpiochip has no address on I2C":                                                     {Chips: []board.Chip{{Name: "x", Kind: board.GPIOChip, Device: "gpiochip0", Addresses: []uint16{0x20}}}},
		`"one" is no I2C bus: want its number`:                                                    {Chips: with(adc, func(c *board.Chip) { c.Bus = "one" })},
		"kind mcp3424 has one address or two, not 3; they are from 0x68 to 0x6f":                  {Chips: with(adc, func(c *board.Chip) { c.Addresses = []uint16{0x68, 0x69, 0x6A} })},
		"kind mcp23017 has one address, not 0":                                                    {Chips: with(io, func(c *board.Chip) { c.Addresses = nil })},
		"kind mcp3424 cannot have address 0x67; they are from 0x68 to 0x6f":                       {Chips: with(adc, func(c *board.Chip) { c.Addresses = []uint16{0x67} })},
		"chips adc1 and adc2 both have address 0x69 on bus 1; set the jumpers":                    {Chips: []board.Chip{adc, {Name: "adc2", Kind: board.MCP3424, Bus: "/dev/i2c-1", Addresses: []uint16{0x69}}}},
		`input adc2:1: there is no chip "adc2"; there are: adc1`:                                  {Chips: []board.Chip{adc}, Inputs: pins("adc2", 1)},
		"input adc1:9: the inputs of kind mcp3424 are 1 to 8":                                     {Chips: []board.Chip{adc}, Inputs: pins("adc1", 9)},
		"the inputs of kind mcp3424 are 1 to 4":                                                   {Chips: with(adc, func(c *board.Chip) { c.Addresses = c.Addresses[:1] }), Inputs: pins("adc1", 5)},
		"input adc1:2 is given twice":                                                             {Chips: []board.Chip{adc}, Inputs: pins("adc1", 2, 2)},
		"output io1:2 is given twice":                                                             {Chips: []board.Chip{io}, Outputs: pins("io1", 2, 2)},
		"io1:2 is an input and an output; one terminal cannot be both":                            {Chips: []board.Chip{io}, Inputs: pins("io1", 2), Outputs: pins("io1", 2)},
		"input io1:8: the newer datasheets of the MCP23017 have pins 8 and 16 (GPA7 and GPB7) as": {Chips: []board.Chip{io}, Inputs: pins("io1", 8)},
		"input io1:16: the newer datasheets":                                                      {Chips: []board.Chip{io}, Inputs: pins("io1", 16)},
		"output io1:17: the outputs of kind mcp23017 are 1 to 16":                                 {Chips: []board.Chip{io}, Outputs: pins("io1", 17)},
		"output adc1:1: kind mcp3424 has no outputs; use an expander":                             {Chips: []board.Chip{adc}, Outputs: pins("adc1", 1)},
		"output s:16: the outputs of kind simulated are 17 to 32":                                 {Chips: []board.Chip{{Name: "s", Kind: board.Simulation}}, Outputs: pins("s", 16)},
	} {
		bus := &boardtest.Bus{}
		_, err := machine(t, map[int]*boardtest.Bus{1: bus}).Open(t.Context(), c)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, got %v", says, err)
		}
		if strings.Contains(says, "two chips") {
			continue // have the same addresses, too
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("one mistake, several errors: %v", err)
		}
		if bus.Transactions() > 0 {
			t.Errorf("%q: the bus was used", says)
		}
	}
}

func TestOneBusHoldsManyChipsAndAnotherTheSameAddresses(t *testing.T) {
	one, two := &boardtest.Bus{}, &boardtest.Bus{}
	h := machine(t, map[int]*boardtest.Bus{1: one, 2: two})
	c := board.Config{Chips: []board.Chip{
		{Name: "adc1", Kind: board.MCP3424, Addresses: []uint16{0x68, 0x69}},
		{Name: "io1", Kind: board.MCP23017, Addresses: []uint16{0x20}},
		{Name: "adc2", Kind: board.MCP3424, Bus: "2", Addresses: []uint16{0x68}},
		{Name: "house", Kind: board.Simulation},
	}, Outputs: pins("io1", 8, 16)}
	b, err := h.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if want := "adc1 (MCP3424 at 0x68 and 0x69 on bus 1), io1 (MCP23017 at 0x20 on bus 1), adc2 (MCP3424 at 0x68 on bus 2), house (simulated)"; b.Name() != want {
		t.Errorf("it is called %q", b.Name())
	}
	if r, err := b.Scan(t.Context()); err != nil || len(r) != 0 {
		t.Errorf("without inputs it reads %v, %v", r, err)
	}
	if err := b.Close(); err != nil || !one.Closed() || !two.Closed() {
		t.Errorf("closed: %v, %v, %v", err, one.Closed(), two.Closed())
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Open(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("it opens although nobody waits: %v", err)
	}
}

// write makes a file under a root.
func write(t *testing.T, root, path, text string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// own makes a driver of the kernel own an address.
func own(t *testing.T, root, device, driver string) {
	t.Helper()
	dir := filepath.Join(root, "sys/bus/i2c/devices", device)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../bus/i2c/drivers/"+driver, filepath.Join(dir, "driver")); err != nil {
		t.Fatal(err)
	}
}

func TestAnAddressThatADriverOfTheKernelOwnsIsRefused(t *testing.T) {
	for driver, says := range map[string]string{
		"rtc-ds1307": "address 0x68 on bus 1 belongs to the kernel's driver rtc-ds1307; that is a real-time clock; set the jumpers",
		"mcp3422":    "with kind iio",
		"pca953x":    "with kind gpiochip",
		"mpu6050":    "take its dtoverlay out of config.txt",
	} {
		bus := &boardtest.Bus{}
		c, _ := adcPi(bus, 12)
		h := machine(t, map[int]*boardtest.Bus{1: bus, 2: bus})
		own(t, h.Root, "1-0068", driver)
		if _, err := h.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), says) || !strings.HasPrefix(err.Error(), "chip adc1: ") {
			t.Errorf("%s: %v", driver, err)
		}
		c.Chips[0].Bus = "2"
		b, err := h.Open(t.Context(), c)
		if err != nil {
			t.Fatalf("the same address of another bus: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestABusOfLinuxThatCannotBeOpenedSaysWhatToDo(t *testing.T) {
	c := board.Config{Chips: []board.Chip{{Name: "adc1", Kind: board.MCP3424, Addresses: []uint16{0x68}, Bus: "7"}}}
	fails := func(root string) string {
		t.Helper()
		_, err := board.Host{Root: root}.Open(t.Context(), c)
		if err == nil {
			t.Fatal("it opened")
		}
		return err.Error()
	}

	root := t.TempDir()
	if got := fails(root); !strings.Contains(got, "there is no I2C bus 7 on this machine; switch I2C on") {
		t.Error(got)
	}
	write(t, root, "dev/i2c-7", "a file")
	if got := fails(root); !strings.Contains(got, "is no I2C bus") {
		t.Error(got)
	}

	// The device is there, its file is not, as in a container that is older than the device. Its numbers are those of
	// the null device, which an unprivileged test can open.
	root = t.TempDir()
	write(t, root, "sys/class/i2c-dev/i2c-7/dev", "1:3\n")
	if got := fails(root); !strings.Contains(got, "cannot be made here") || !strings.Contains(got, "add to the service in docker-compose.yml: devices:") {
		t.Error("without a folder for it: ", got)
	}
	if err := os.Mkdir(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	got := fails(root)
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "dev/i2c-7"), &st); err != nil {
		if os.Getuid() == 0 {
			t.Logf("root may not make devices here: %v", err)
		}
		if !strings.Contains(got, "cannot be made here") {
			t.Error(got)
		}
		return
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || unix.Major(uint64(st.Rdev)) != 1 || unix.Minor(uint64(st.Rdev)) != 3 {
		t.Errorf("made %+v", st)
	}
	// The null device knows no I2C; a file system without devices does not even open it.
	if !strings.Contains(got, "is no I2C bus") && !strings.Contains(got, "permission denied") {
		t.Error(got)
	}
	write(t, root, "sys/class/i2c-dev/i2c-8/dev", "many")
	c.Chips[0].Bus = "8"
	if got := fails(root); !strings.Contains(got, `"many" is no device number`) {
		t.Error(got)
	}
}

func TestAGPIOChipThatIsNotThereSaysWhatIs(t *testing.T) {
	root := t.TempDir()
	c := board.Config{Chips: []board.Chip{{Name: "header", Kind: board.GPIOChip, Device: "pca9535"}}, Inputs: pins("header", 17)}
	if _, err := (board.Host{Root: root}).Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "chip header: there is no GPIO chip pca9535: this machine has none") {
		t.Error(err)
	}
	write(t, root, "dev/gpiochip0", "a file")
	if _, err := (board.Host{Root: root}).Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "there is no GPIO chip pca9535; there are: gpiochip0") {
		t.Error(err)
	}
	for _, device := range []string{"gpiochip0", "/dev/gpiochip0"} {
		c.Chips[0].Device = device
		if _, err := (board.Host{Root: root}).Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "gpiochip0 is no GPIO chip: ") {
			t.Error(err)
		}
	}
	c.Chips[0].Device = "/dev/gpiochip9"
	if _, err := (board.Host{Root: root}).Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "there is no ") {
		t.Error(err)
	}
}

func TestAConverterOfTheKernelIsReadThroughItsFiles(t *testing.T) {
	root := t.TempDir()
	const base = "sys/bus/iio/devices/"
	write(t, root, base+"iio:device0/name", "mcp3424\n")
	for i, raw := range []string{"404", "-3"} {
		channel := base + "iio:device0/in_voltage" + string(rune('0'+i))
		write(t, root, channel+"_raw", raw+"\n")
		write(t, root, channel+"_scale", "0.001000000\n") // volts, as this driver has it
	}
	write(t, root, base+"iio:device1/name", "ads1015\n")
	write(t, root, base+"iio:device1/in_voltage3_raw", "1000\n")
	write(t, root, base+"iio:device1/in_voltage_scale", "3.000000\n") // millivolts
	c := board.Config{
		Chips: []board.Chip{
			{Name: "adc", Kind: board.IIO, Device: "mcp3424", Scale: 2.471},
			{Name: "ads", Kind: board.IIO, Device: "iio:device1"},
		},
		Inputs: append(pins("adc", 2, 1), pins("ads", 4)...),
	}
	h := board.Host{Root: root}
	b, err := h.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r := scan(t, b)
	for i, want := range []float64{-0.007413, 0.998284, 3} {
		if d := r[i].Volts - want; d > 1e-9 || d < -1e-9 || r[i].Unknown != "" || r[i].Time.IsZero() {
			t.Errorf("%+v, want %v V", r[i], want)
		}
	}
	write(t, root, base+"iio:device0/in_voltage0_raw", "505\n")
	if r := scan(t, b); r[1].Code != 505 {
		t.Errorf("it reads %+v again", r[1])
	}
	write(t, root, base+"iio:device0/in_voltage0_raw", "many\n")
	if r := scan(t, b); r[1].Quality != board.Stale || r[0].Quality != board.Good {
		t.Errorf("no number reads as %+v", r[1])
	}
	write(t, root, base+"iio:device1/in_voltage3_raw", "")
	if r := scan(t, b); r[2].Quality != board.Away || r[0].Quality != board.Good {
		t.Errorf("a device whose files are empty reads as %+v, and the other as %+v", r[2], r[0])
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}

	// Drivers name a device after its address; the chip above it has the name that people know.
	real := "sys/devices/i2c-0/0-006a/"
	write(t, root, real+"name", "mcp3422\n")
	write(t, root, real+"iio:device7/name", "0-006a\n")
	write(t, root, real+"iio:device7/in_voltage0_raw", "1000\n")
	write(t, root, real+"iio:device7/in_voltage0_scale", "0.000015625\n")
	if err := os.Symlink("../../../devices/i2c-0/0-006a/iio:device7", filepath.Join(root, base, "iio:device7")); err != nil {
		t.Fatal(err)
	}
	for _, device := range []string{"mcp3422", "0-006a", "iio:device7"} {
		b, err := h.Open(t.Context(), board.Config{Chips: []board.Chip{{Name: "adc", Kind: board.IIO, Device: device}}, Inputs: pins("adc", 1)})
		if err != nil {
			t.Fatal(err)
		}
		if r := scan(t, b); math.Abs(r[0].Volts-0.015625) > 1e-9 {
			t.Errorf("%s: %+v", device, r[0])
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}

	c.Chips, c.Inputs = c.Chips[:1], c.Inputs[:2]
	for device, says := range map[string]string{
		"mcp3424x": "there is no IIO device mcp3424x; there are: iio:device0 (mcp3424), iio:device1 (ads1015), iio:device7 (0-006a, mcp3422)",
		"ads1015":  "chip adc: ads1015 has no terminal 2",
	} {
		c.Chips[0].Device = device
		if _, err := h.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, got %v", says, err)
		}
	}
	write(t, root, base+"iio:device2/name", "mcp3424\n")
	c.Chips[0].Device = "mcp3424"
	if _, err := h.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "several converters are called mcp3424; say which: iio:device0") {
		t.Error(err)
	}
	c.Chips[0].Device = "iio:device0"
	write(t, root, base+"iio:device0/in_voltage0_scale", "0\n")
	if _, err := h.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), `"0\n" is no scale`) {
		t.Error(err)
	}
	if _, err := (board.Host{Root: t.TempDir()}).Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "no driver of this kernel has a converter") {
		t.Error(err)
	}
}
