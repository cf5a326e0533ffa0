//go:build linux

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
)

func TestMain(m *testing.M) {
	if os.Getpid() != 1 {
		fmt.Println("these tests run in a machine of kerneltest only")
		return
	}
	if code, err := run(m); err != nil {
		fmt.Println("the machine:", err)
	} else {
		fmt.Println("DONE", code)
	}
	// The kernel does not survive an end of init.
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("power off:", err)
	}
}

func run(m *testing.M) (code int, err error) {
	if err := start(); err != nil {
		return 0, err
	}
	plugged.wire = &boardtest.Bus{}
	bus, pull, err := plug(0, plugged.wire)
	if err != nil {
		return 0, err
	}
	plugged.bus = bus
	code = m.Run()
	return code, pull()
}

// start does what the kernel leaves to init.
func start() error {
	for fs, dir := range map[string]string{"proc": "/proc", "sysfs": "/sys", "devtmpfs": "/dev"} {
		if err := unix.Mount(fs, dir, fs, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	modules, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, name := range modules {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
			return fmt.Errorf("load %s: %w", filepath.Base(name), err)
		}
		f.Close()
	}
	return nil
}
