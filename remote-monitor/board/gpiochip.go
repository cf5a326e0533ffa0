package board

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What golang.org/x/sys has not of linux/gpio.h, version 2 of its interface (Linux 5.10).
const (
	gpioSetConfig = 0xc110b40d

	gpioMost = 64 // lines of a request

	gpioUsed   = 1 << 0
	gpioInput  = 1 << 2
	gpioOutput = 1 << 3
	gpioPullUp = 1 << 8
)

const gpioDevices = "/sys/bus/gpio/devices"

// gpioConsumer is who the kernel says uses the lines.
const gpioConsumer = "remote-monitor"

// gpioLane is a chip of lines that a driver of the kernel has.
type gpioLane struct {
	chip   string
	fd     int // of the chip
	lines  int // how many it has
	high   bool
	inputs *gpioLines
	wants  []want // terminals are positions in inputs
	banks  []*gpioBank
	gone   atomic.Bool // as a bank found out
}

// gpioLines are lines that were asked for together. Their bits are in the order of offsets.
type gpioLines struct {
	fd      int
	offsets []uint32
}

// gpioOffset is the line of a terminal, from 1. See GPIOChip.
func gpioOffset(lines, terminal int) int {
	if lines <= 16 {
		return terminal - 1
	}
	return terminal
}

// openGPIO opens a chip, asks for its inputs and prepares banks for its outputs. The outputs stay as they are.
func openGPIO(root string, c Chip, inputs []want, outputs []int) (_ *gpioLane, err error) {
	path, err := findGPIO(root, c.Device)
	if err != nil {
		return nil, fmt.Errorf("chip %s: %w", c.Name, err)
	}
	fd, info, err := openGPIOChip(path)
	if err != nil {
		return nil, fmt.Errorf("chip %s: %w", c.Name, err)
	}
	l := &gpioLane{chip: c.Name, fd: fd, lines: int(info.Lines), high: powersUpHigh(gpioNames(root, info))}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if len(inputs) > gpioMost {
		return l, fmt.Errorf("chip %s: the kernel reads %d lines at once, not %d; name the chip twice and share them out", c.Name, gpioMost, len(inputs))
	}
	flags := uint64(gpioInput)
	if c.PullUp {
		flags |= gpioPullUp
	}
	var offsets []uint32
	for i, t := range inputs {
		o, err := l.offset(t.terminal + 1)
		if err != nil {
			return l, err
		}
		offsets = append(offsets, o)
		l.wants = append(l.wants, want{terminal: i, reading: t.reading})
	}
	if len(offsets) > 0 {
		if l.inputs, err = l.request(offsets, flags); err != nil {
			return l, err
		}
	}
	for _, n := range slices.Sorted(slices.Values(outputs)) {
		if _, err := l.offset(n); err != nil {
			return l, err
		}
		first := bankOf(n)
		if len(l.banks) == 0 || l.banks[len(l.banks)-1].first != first {
			l.banks = append(l.banks, &gpioBank{lane: l, first: first})
		}
	}
	return l, nil
}

func (l *gpioLane) offset(terminal int) (uint32, error) {
	o := gpioOffset(l.lines, terminal)
	if o >= l.lines {
		return 0, fmt.Errorf("chip %s: terminal %d does not exist; it has %d lines", l.chip, terminal, l.lines)
	}
	return uint32(o), nil
}

// findGPIO is the device file of a chip, by its path, its number (gpiochip0), its label (pinctrl-bcm2711) or the chip
// that it is (pca9535).
func findGPIO(root, device string) (string, error) {
	if strings.HasPrefix(device, "/") {
		return filepath.Join(root, device), nil
	}
	var found, have []string
	for _, name := range gpioChips(root) {
		path, err := deviceNode(root, name, filepath.Join(root, gpioDevices, name))
		if name == device {
			return path, err
		}
		if err != nil {
			have = append(have, name)
			continue
		}
		fd, info, err := openGPIOChip(path)
		if err != nil {
			have = append(have, name)
			continue
		}
		names := gpioNames(root, info)
		have = append(have, fmt.Sprintf("%s (%s)", name, strings.Join(names, ", ")))
		if err := unix.Close(fd); err != nil {
			return "", err
		}
		if slices.Contains(names, device) {
			found = append(found, path)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fmt.Errorf("several GPIO chips are called %s; say which: %s", device, strings.Join(have, ", "))
	case len(have) == 0:
		return "", fmt.Errorf("there is no GPIO chip %s: this machine has none, or this container may not use them; add devices: [\"/dev/gpiochip0:/dev/gpiochip0\"] to the service in docker-compose.yml", device)
	}
	return "", fmt.Errorf("there is no GPIO chip %s; there are: %s", device, strings.Join(have, ", "))
}

// gpioNames are what people may call a chip by.
func gpioNames(root string, info unix.GPIOChipInfo) []string {
	return deviceNames(filepath.Join(root, gpioDevices, cString(info.Name[:])), cString(info.Label[:]))
}

// gpioChips are the chips of the machine, gpiochip0 and so on.
func gpioChips(root string) []string {
	var names []string
	for _, pattern := range []string{"/dev/gpiochip*", gpioDevices + "/gpiochip*"} {
		paths, _ := filepath.Glob(filepath.Join(root, pattern))
		for _, p := range paths {
			names = append(names, filepath.Base(p))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func openGPIOChip(path string) (fd int, info unix.GPIOChipInfo, err error) {
	fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return -1, info, fmt.Errorf("there is no %s", path)
	}
	if err != nil {
		return -1, info, openError(path, err)
	}
	if err := ioctl(fd, unix.GPIO_GET_CHIPINFO_IOCTL, unsafe.Pointer(&info)); err != nil {
		return -1, info, errors.Join(fmt.Errorf("%s is no GPIO chip: %w", path, err), unix.Close(fd))
	}
	return fd, info, nil
}

// request asks for lines: inputs, or with no flags as they are.
func (l *gpioLane) request(offsets []uint32, flags uint64) (*gpioLines, error) {
	r := unix.GPIOV2LineRequest{Num_lines: uint32(len(offsets))}
	copy(r.Offsets[:], offsets)
	copy(r.Consumer[:len(r.Consumer)-1], gpioConsumer)
	r.Config.Flags = flags
	if err := ioctl(l.fd, unix.GPIO_V2_GET_LINE_IOCTL, unsafe.Pointer(&r)); err != nil {
		return nil, fmt.Errorf("chip %s: ask for its lines: %w%s", l.chip, err, l.holders(offsets))
	}
	return &gpioLines{fd: int(r.Fd), offsets: offsets}, nil
}

// holders says who has lines that are in use.
func (l *gpioLane) holders(offsets []uint32) string {
	var s string
	for _, o := range offsets {
		if info, err := l.info(o); err == nil && info.Flags&gpioUsed != 0 {
			s += fmt.Sprintf("; line %d is in use by %q", o, cString(info.Consumer[:]))
		}
	}
	return s
}

func (l *gpioLane) info(offset uint32) (unix.GPIOV2LineInfo, error) {
	info := unix.GPIOV2LineInfo{Offset: offset}
	err := ioctl(l.fd, unix.GPIO_V2_GET_LINEINFO_IOCTL, unsafe.Pointer(&info))
	return info, err
}

// scan implements lane.
func (l *gpioLane) scan(ctx context.Context, readings []Reading) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.gone.Load() {
		return fmt.Errorf("%w: %s has no driver any more", ErrGone, l.chip)
	}
	if l.inputs == nil {
		return nil
	}
	bits, err := l.inputs.values()
	for _, t := range l.wants {
		if err != nil {
			readings[t.reading].fail(l.explain(err))
			continue
		}
		readings[t.reading].line(bits&(1<<t.terminal) != 0)
	}
	if err != nil && isGone(err) {
		return l.explain(err)
	}
	return nil
}

func (l *gpioLane) explain(err error) error {
	text := fmt.Sprintf("%s: the kernel's driver says: %v", l.chip, err)
	switch {
	case isGone(err):
		l.gone.Store(true)
		return &trouble{Away, text, fmt.Errorf("%w: %w", ErrGone, err)}
	case errors.Is(err, unix.EREMOTEIO), errors.Is(err, unix.ENXIO):
		return &trouble{NAK, text, err}
	case errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EAGAIN):
		return &trouble{Timeout, text, err}
	default:
		return &trouble{Away, text, err}
	}
}

// close lets go of the chip. Its banks may be used afterwards; they say that it is gone.
func (l *gpioLane) close() error {
	l.gone.Store(true)
	var errs []error
	for _, b := range l.banks {
		errs = append(errs, b.close())
	}
	if l.inputs != nil {
		errs = append(errs, unix.Close(l.inputs.fd))
	}
	return errors.Join(append(errs, unix.Close(l.fd))...)
}

// values reads all the lines.
func (g *gpioLines) values() (uint64, error) {
	v := unix.GPIOV2LineValues{Mask: 1<<len(g.offsets) - 1}
	err := ioctl(g.fd, unix.GPIO_V2_LINE_GET_VALUES_IOCTL, unsafe.Pointer(&v))
	return v.Bits, err
}

// gpioBank is 16 terminals of a chip, some of which are outputs. It implements Bank, and First.
type gpioBank struct {
	lane  *gpioLane
	first int

	mu      sync.Mutex
	outputs uint16
	lines   *gpioLines // those of outputs, in order; nil before Start
}

func (b *gpioBank) Chip() string { return b.lane.chip }
func (b *gpioBank) First() int   { return b.first }

func (b *gpioBank) PowersUpHigh() bool { return b.lane.high }

// Start implements Bank. The lines are asked for as they are, looked at, and made outputs together with their levels;
// the kernel's drivers write the level before the direction.
func (b *gpioBank) Start(ctx context.Context, outputs, levels uint16) (found Lines, err error) {
	if err := ctx.Err(); err != nil {
		return Lines{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lane.gone.Load() { // its number may be another file's by now
		return Lines{}, b.lane.explain(os.ErrClosed)
	}
	if b.lines != nil && b.outputs != outputs {
		err := unix.Close(b.lines.fd)
		b.lines = nil
		if err != nil {
			return Lines{}, err
		}
	}
	if b.lines == nil {
		var offsets []uint32
		for i := range 16 {
			if outputs&(1<<i) == 0 {
				continue
			}
			o, err := b.lane.offset(b.first + i)
			if err != nil {
				return Lines{}, err
			}
			offsets = append(offsets, o)
		}
		if len(offsets) == 0 {
			return Lines{}, nil
		}
		if b.lines, err = b.lane.request(offsets, 0); err != nil {
			return Lines{}, err
		}
		b.outputs = outputs
	}
	if found, err = b.look(); err != nil {
		return Lines{}, err
	}
	config := outputConfig(pack(outputs, levels), len(b.lines.offsets))
	if err := ioctl(b.lines.fd, gpioSetConfig, unsafe.Pointer(&config)); err != nil {
		return found, b.lane.explain(err)
	}
	now, err := b.look()
	if err == nil && now.Outputs != outputs {
		err = fmt.Errorf("%s: lines 0x%04x are no outputs after they were made outputs", b.lane.chip, outputs&^now.Outputs)
	}
	return found, err
}

// Write implements Bank.
func (b *gpioBank) Write(ctx context.Context, levels uint16) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lane.gone.Load() {
		return b.lane.explain(os.ErrClosed)
	}
	if b.lines == nil {
		return notStarted(b.lane.chip)
	}
	v := unix.GPIOV2LineValues{Bits: pack(b.outputs, levels), Mask: 1<<len(b.lines.offsets) - 1}
	if err := ioctl(b.lines.fd, unix.GPIO_V2_LINE_SET_VALUES_IOCTL, unsafe.Pointer(&v)); err != nil {
		return b.lane.explain(err)
	}
	return nil
}

// Read implements Bank. The kernel tells no latch apart from the pins; the pins stand for it.
func (b *gpioBank) Read(ctx context.Context) (Lines, error) {
	if err := ctx.Err(); err != nil {
		return Lines{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lane.gone.Load() {
		return Lines{}, b.lane.explain(os.ErrClosed)
	}
	if b.lines == nil {
		return Lines{}, nil
	}
	return b.look()
}

func (b *gpioBank) look() (Lines, error) {
	bits, err := b.lines.values()
	if err != nil {
		return Lines{}, b.lane.explain(err)
	}
	l := Lines{Latch: unpack(b.outputs, bits), Pins: unpack(b.outputs, bits)}
	for i, o := range b.lines.offsets {
		info, err := b.lane.info(o)
		if err != nil {
			return Lines{}, b.lane.explain(err)
		}
		if info.Flags&gpioOutput != 0 {
			l.Outputs |= unpack(b.outputs, 1<<i)
		}
	}
	return l, nil
}

func (b *gpioBank) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lines == nil {
		return nil
	}
	err := unix.Close(b.lines.fd)
	b.lines = nil
	return err
}

// outputConfig makes the n lines of a request outputs that show bits.
func outputConfig(bits uint64, n int) unix.GPIOV2LineConfig {
	c := unix.GPIOV2LineConfig{Flags: gpioOutput, Num_attrs: 1}
	c.Attrs[0].Attr = unix.GPIOV2LineAttribute{Id: unix.GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES, Flags: bits}
	c.Attrs[0].Mask = 1<<n - 1
	return c
}

// pack gathers the bits of levels that are in mask, lowest first.
func pack(mask, levels uint16) (bits uint64) {
	n := 0
	for i := range 16 {
		if mask&(1<<i) != 0 {
			bits |= uint64(levels>>i&1) << n
			n++
		}
	}
	return bits
}

// unpack spreads bits over the mask; the inverse of pack.
func unpack(mask uint16, bits uint64) (levels uint16) {
	for i := range 16 {
		if mask&(1<<i) != 0 {
			levels |= uint16(bits&1) << i
			bits >>= 1
		}
	}
	return levels
}

// powersUpHigh tells by its names whether a chip is an expander of the families that power up high. The pins of a
// processor are inputs then, with pulls that are the board's business.
func powersUpHigh(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		return strings.HasPrefix(n, "pca95") || strings.HasPrefix(n, "tca95") || strings.HasPrefix(n, "pcf857")
	})
}

// cString is text of the kernel up to its end.
func cString(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}
