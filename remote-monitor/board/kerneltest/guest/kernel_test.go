//go:build linux

package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const i2cDevices = "/sys/bus/i2c/devices/"

// buses are the I2C buses of adapters that are plugged in.
func buses() (map[int]bool, error) {
	names, err := filepath.Glob(i2cDevices + "i2c-*/name")
	if err != nil {
		return nil, err
	}
	found := map[int]bool{}
	for _, file := range names {
		name, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue // pulled out just now
		}
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(file)), "i2c-"))
		if err != nil {
			return nil, err
		}
		// The node in /dev comes a moment later.
		if _, err := os.Stat(fmt.Sprintf("/dev/i2c-%d", n)); err == nil && strings.HasPrefix(string(name), "i2c-tiny-usb") {
			found[n] = true
		}
	}
	return found, nil
}

// oracle lets a driver of the kernel have the chip at an address until the test ends. It returns the device's folder in
// sysfs.
func oracle(t *testing.T, driver, chip string, bus int, address uint16) (dir string) {
	t.Helper()
	dir, _ = bind(t, driver, chip, bus, address)
	return dir
}

// bind is oracle that ends earlier when release is called.
func bind(t *testing.T, driver, chip string, bus int, address uint16) (dir string, release func()) {
	t.Helper()
	adapter := fmt.Sprintf("%si2c-%d/", i2cDevices, bus)
	write(t, adapter+"new_device", fmt.Sprintf("%s %#x", chip, address))
	release = sync.OnceFunc(func() { write(t, adapter+"delete_device", fmt.Sprintf("%#x", address)) })
	t.Cleanup(release)
	dir = fmt.Sprintf("%s%d-%04x", i2cDevices, bus, address)
	bound, err := os.Readlink(dir + "/driver")
	if err != nil || filepath.Base(bound) != driver {
		t.Fatalf("the %s has driver %q, %v; want %s; the kernel says:\n%s", chip, bound, err, driver, messages())
	}
	return dir, release
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0); err != nil {
		t.Fatalf("%v; the kernel says:\n%s", err, messages())
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; the kernel says:\n%s", err, messages())
	}
	return strings.TrimSpace(string(b))
}

// messages are the last lines of the kernel's log.
func messages() string {
	log := make([]byte, 1<<12)
	const readAll = 3
	n, err := unix.Klogctl(readAll, log)
	if err != nil {
		return err.Error()
	}
	return string(log[:n])
}

// await waits for something that happens in its own time. The limit is a safety net.
func await(what string, done func() (bool, error)) error {
	limit := time.After(30 * time.Second)
	for {
		switch ok, err := done(); {
		case err != nil:
			return fmt.Errorf("wait until %s: %w", what, err)
		case ok:
			return nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-limit:
			return fmt.Errorf("waited in vain until %s; the kernel says:\n%s", what, messages())
		}
	}
}
