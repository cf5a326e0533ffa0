package board

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// iioLane is a converter that a driver of the kernel has. A read of its files is a conversion.
type iioLane struct {
	chip   string
	inputs []iioInput
	buf    [64]byte
}

type iioInput struct {
	raw     *os.File
	volts   float64 // at the terminal for a step
	reading int
}

const iioDevices = "/sys/bus/iio/devices"

// openIIO opens the terminals of a chip that are read.
func openIIO(root string, c Chip, wants []want) (_ *iioLane, err error) {
	dir, err := findIIO(root, c.Device)
	if err != nil {
		return nil, fmt.Errorf("chip %s: %w", c.Name, err)
	}
	l := &iioLane{chip: c.Name}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	name, _ := os.ReadFile(filepath.Join(dir, "name"))
	names := deviceNames(dir, strings.TrimSpace(string(name)))
	for _, t := range wants {
		channel := filepath.Join(dir, "in_voltage"+strconv.Itoa(t.terminal))
		f, err := os.Open(channel + "_raw")
		if errors.Is(err, os.ErrNotExist) {
			return l, fmt.Errorf("chip %s: %s has no terminal %d (there is no %s_raw)", c.Name, c.Device, t.terminal+1, channel)
		}
		if err != nil {
			return l, fmt.Errorf("chip %s: %w", c.Name, err)
		}
		in := iioInput{raw: f, reading: t.reading}
		l.inputs = append(l.inputs, in)
		text, err := os.ReadFile(channel + "_scale")
		if errors.Is(err, os.ErrNotExist) {
			text, err = os.ReadFile(filepath.Join(dir, "in_voltage_scale"))
		}
		if err != nil {
			return l, fmt.Errorf("chip %s: scale of terminal %d: %w", c.Name, t.terminal+1, err)
		}
		step, err := parseScale(string(text), names)
		if err != nil {
			return l, fmt.Errorf("chip %s: scale of terminal %d: %w", c.Name, t.terminal+1, err)
		}
		l.inputs[len(l.inputs)-1].volts = step * scaleOf(c)
	}
	return l, nil
}

// findIIO is the folder of a device, by its number (iio:device0) or its chip (mcp3424).
func findIIO(root, device string) (string, error) {
	base := filepath.Join(root, iioDevices)
	entries, err := os.ReadDir(base)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	var found, have []string
	for _, e := range entries {
		dir := filepath.Join(base, e.Name())
		name, err := os.ReadFile(filepath.Join(dir, "name"))
		if err != nil {
			continue
		}
		names := deviceNames(dir, strings.TrimSpace(string(name)))
		if e.Name() == device {
			return dir, nil
		}
		if slices.Contains(names, device) {
			found = append(found, dir)
		}
		have = append(have, fmt.Sprintf("%s (%s)", e.Name(), strings.Join(names, ", ")))
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fmt.Errorf("several converters are called %s; say which: %s", device, strings.Join(have, ", "))
	case len(have) == 0:
		return "", fmt.Errorf("there is no IIO device %s: no driver of this kernel has a converter; load its overlay, or use the chip by its I2C address", device)
	default:
		return "", fmt.Errorf("there is no IIO device %s; there are: %s", device, strings.Join(have, ", "))
	}
}

// parseScale reads a scale as volts for a step. The kernel's unit is the millivolt, but the driver of the MCP342x has
// given volts since it was written. The two cannot be confused: its steps are 0.002 mV to 1 mV.
func parseScale(s string, names []string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || !(v > 0) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%.40q is no scale", s)
	}
	mcp342x := slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "mcp342") })
	if mcp342x && v <= 0.001 {
		return v, nil
	}
	return v / 1000, nil
}

// scan implements lane.
func (l *iioLane) scan(ctx context.Context, readings []Reading) error {
	away := 0
	for _, in := range l.inputs {
		if err := ctx.Err(); err != nil {
			return err
		}
		r := &readings[in.reading]
		code, err := l.read(in.raw)
		if err != nil {
			r.fail(l.explain(err))
			if r.Quality == Away {
				away++
			}
			continue
		}
		r.Time, r.Code, r.Volts = time.Now(), code, float64(code)*in.volts
	}
	if away == len(l.inputs) && away > 0 {
		return fmt.Errorf("%w: %s", ErrGone, readings[l.inputs[0].reading].Unknown)
	}
	return nil
}

// read is one conversion.
func (l *iioLane) read(f *os.File) (int, error) {
	n, err := f.ReadAt(l.buf[:], 0)
	if n == 0 {
		return 0, err
	}
	return strconv.Atoi(string(bytes.TrimSpace(l.buf[:n])))
}

func (l *iioLane) explain(err error) error {
	text := l.chip + ": the kernel's driver says: " + err.Error()
	switch {
	case errors.Is(err, unix.EREMOTEIO), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EIO):
		return &trouble{NAK, text, err}
	case errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EAGAIN):
		return &trouble{Timeout, text, err}
	case errors.Is(err, strconv.ErrSyntax), errors.Is(err, strconv.ErrRange):
		return &trouble{Stale, text, err}
	default:
		return &trouble{Away, text, err}
	}
}

func (l *iioLane) close() error {
	var errs []error
	for _, in := range l.inputs {
		errs = append(errs, in.raw.Close())
	}
	return errors.Join(errs...)
}
