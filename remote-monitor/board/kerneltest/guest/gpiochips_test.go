//go:build linux && (arm || arm64)

package guest

import (
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

// Debian's kernels have drivers for expanders on arm and arm64 only, and not the same ones.

// driven is an expander that the kernel has a driver for.
type driven struct {
	expander
	driver string
	resets bool // it makes all lines inputs when it gets the chip
	tells  bool // the chip has directions
}

func TestTheKernelsDriverIsABankToo(t *testing.T) {
	for _, e := range expandersOfTheKernel {
		t.Run(string(e.kind), func(t *testing.T) {
			device, lines := e.make()
			r := newRig(t, map[uint16]boardtest.Device{expanderAddress: device})
			oracle(t, e.driver, string(e.kind), r.bus, expanderAddress)
			e.contract(t, lines, board.Chip{Name: "io", Kind: board.GPIOChip, Device: string(e.kind)})
		})
	}
}

// The kernel's drivers know the chips' registers by themselves. Both sides say the same of lines and of each other's
// outputs.
func TestBoardAndTheKernelAgreeAboutAnExpander(t *testing.T) {
	const mask, levels = 0b1011_0110, 0b1001_0010
	outputs := pins("io", 2, 3, 5, 6, 8)
	for _, e := range expandersOfTheKernel {
		t.Run(string(e.kind), func(t *testing.T) {
			device, lines := e.make()
			r := newRig(t, map[uint16]boardtest.Device{expanderAddress: device})
			own := board.Config{Chips: []board.Chip{r.chip("io", e.kind, expanderAddress)}}

			// Lines that something outside drives.
			own.Inputs = pins("io", 1, 2, 3, 4, 5, 6, 7)
			for i := range 8 {
				lines.SetPin(i+1, map[bool]boardtest.Drive{false: boardtest.Low, true: boardtest.High}[levels>>i&1 == 1])
			}
			b, err := board.Open(t.Context(), own)
			if err != nil {
				t.Fatal(err)
			}
			seen := active(t, scan(t, b))
			closed(t, b)
			dir, release := bind(t, e.driver, string(e.kind), r.bus, expanderAddress)
			if _, values := kernelLines(t, dir); uint16(values&0x7f) != seen || values != levels {
				t.Errorf("board reads %07b and the kernel %08b; want %08b", seen, values, levels)
			}
			release()
			for i := range 8 {
				lines.SetPin(i+1, boardtest.Floating)
			}

			// Outputs of board, as the kernel finds them.
			own.Inputs, own.Outputs = nil, outputs
			if b, err = board.Open(t.Context(), own); err != nil {
				t.Fatal(err)
			}
			if _, err := theBank(t, b).Start(t.Context(), mask, levels); err != nil {
				t.Fatal(err)
			}
			closed(t, b)
			dir, release = bind(t, e.driver, string(e.kind), r.bus, expanderAddress)
			out, values := kernelLines(t, dir)
			wantOut, wantValues := uint8(mask), uint8(levels)
			if e.resets {
				wantOut, wantValues = 0, 0
			}
			if e.tells && out != wantOut || values&mask != wantValues {
				t.Errorf("the kernel sees outputs %08b at %08b; want %08b at %08b", out, values&mask, wantOut, wantValues)
			}

			// Outputs of the kernel, as board finds them.
			b, err = board.Open(t.Context(), board.Config{
				Chips:   []board.Chip{{Name: "io", Kind: board.GPIOChip, Device: gpioChipOf(t, dir)}},
				Outputs: outputs,
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := theBank(t, b).Start(t.Context(), mask, ^uint16(levels)); err != nil {
				t.Fatal(err)
			}
			closed(t, b)
			release()
			found, err := theBank(t, open(t, own)).Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if e.tells && found.Outputs != mask || found.Pins&mask != ^uint16(levels)&mask {
				t.Errorf("board finds %+v; want outputs %08b at %08b", found, mask, ^uint16(levels)&mask)
			}
		})
	}
}

// A driver of the kernel remembers the registers and does not look at them again. So an expander that lost its power
// cannot be set up again through it, but what its lines show is the truth.
func TestABrownOutBehindADriverShowsOnTheLines(t *testing.T) {
	for _, e := range expandersOfTheKernel {
		if !e.tells {
			continue // its lines come back high, with or without a driver
		}
		t.Run(string(e.kind), func(t *testing.T) {
			device, lines := e.make()
			r := newRig(t, map[uint16]boardtest.Device{expanderAddress: device})
			dir := oracle(t, e.driver, string(e.kind), r.bus, expanderAddress)
			bank := theBank(t, open(t, board.Config{
				Chips:   []board.Chip{{Name: "io", Kind: board.GPIOChip, Device: gpioChipOf(t, dir)}},
				Outputs: pins("io", 1, 2),
			}))
			if _, err := bank.Start(t.Context(), 0b11, 0b01); err != nil {
				t.Fatal(err)
			}
			lines.BrownOut()
			got, err := bank.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.Pins != 0 {
				t.Errorf("after a brown-out read %+v; want no line high", got)
			}
		})
	}
}

// gpioChipOf is the name of the GPIO chip in a folder of sysfs.
func gpioChipOf(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(dir + "/gpiochip*")
	if err != nil || len(found) != 1 {
		t.Fatalf("%s has GPIO chips %q", dir, found)
	}
	return filepath.Base(found[0])
}

// kernelLines are the first eight lines of the GPIO chip in a folder of sysfs, asked for as they are.
func kernelLines(t *testing.T, dir string) (outputs, values uint8) {
	t.Helper()
	fd, err := unix.Open("/dev/"+gpioChipOf(t, dir), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	request := unix.GPIOV2LineRequest{Num_lines: 8}
	for i := range request.Num_lines {
		request.Offsets[i] = i
	}
	control(t, fd, unix.GPIO_V2_GET_LINE_IOCTL, unsafe.Pointer(&request))
	defer unix.Close(int(request.Fd))
	v := unix.GPIOV2LineValues{Mask: 0xff}
	control(t, int(request.Fd), unix.GPIO_V2_LINE_GET_VALUES_IOCTL, unsafe.Pointer(&v))
	for i := range request.Num_lines {
		const output = 1 << 3 // GPIO_V2_LINE_FLAG_OUTPUT
		info := unix.GPIOV2LineInfo{Offset: i}
		control(t, fd, unix.GPIO_V2_GET_LINEINFO_IOCTL, unsafe.Pointer(&info))
		if info.Flags&output != 0 {
			outputs |= 1 << i
		}
	}
	return outputs, uint8(v.Bits)
}

func control(t *testing.T, fd int, request uintptr, argument unsafe.Pointer) {
	t.Helper()
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(argument)); e != 0 {
		t.Fatalf("ioctl %#x: %v", request, e)
	}
}

func TestALineInUseIsRefusedWithTheNameOfItsHolder(t *testing.T) {
	device, _ := pca9535.make()
	r := newRig(t, map[uint16]boardtest.Device{expanderAddress: device})
	oracle(t, "pca953x", "pca9535", r.bus, expanderAddress)
	c := board.Config{Chips: []board.Chip{{Name: "io", Kind: board.GPIOChip, Device: "pca9535"}}, Inputs: pins("io", 3)}
	open(t, c)
	b, err := board.Open(t.Context(), c)
	if err == nil {
		closed(t, b)
		t.Fatal("two boards have the same line")
	}
	if want := `line 2 is in use by "remote-monitor"`; !strings.Contains(err.Error(), want) {
		t.Errorf("opening says %q; want it to say %q", err, want)
	}
}
