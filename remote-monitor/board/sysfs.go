package board

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deviceNames are what people may call a device of the kernel by whose folder in sysfs is given: its own name or label,
// and what the chip it hangs on is called. Drivers of I2C chips name a device after its address (1-0068), which says
// little; the chip above it is called mcp3424.
func deviceNames(dir, own string) []string {
	names := []string{own}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		if text, err := os.ReadFile(filepath.Join(filepath.Dir(real), "name")); err == nil {
			if chip := strings.TrimSpace(string(text)); chip != "" && chip != own {
				names = append(names, chip)
			}
		}
	}
	return names
}

// deviceNode is the path of a device file. A container whose engine allows a device and has not made its file (a
// device that came later than the container) gets the file made from what sysfs says. The error is os.ErrNotExist
// when there is no such device.
func deviceNode(root, name, class string) (string, error) {
	path := filepath.Join(root, "/dev", name)
	_, err := os.Stat(path)
	if !errors.Is(err, os.ErrNotExist) {
		return path, err
	}
	text, err := os.ReadFile(filepath.Join(class, "dev"))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, os.ErrNotExist)
	}
	major, minor, err := parseDev(string(text))
	if err != nil {
		return "", fmt.Errorf("%s/dev: %w", class, err)
	}
	if err := unix.Mknod(path, unix.S_IFCHR|0o660, int(unix.Mkdev(major, minor))); err != nil {
		// Not wrapped: the device does exist, whatever this error says.
		return "", fmt.Errorf("%s is on this machine and not in this container, and cannot be made here (%v); add to the service in docker-compose.yml: devices: [%q]",
			name, err, path+":"+path)
	}
	return path, nil
}

// parseDev reads the numbers of a device as sysfs writes them, such as 89:1.
func parseDev(s string) (major, minor uint32, err error) {
	a, b, ok := strings.Cut(strings.TrimSpace(s), ":")
	ma, err1 := strconv.ParseUint(a, 10, 12)
	mi, err2 := strconv.ParseUint(b, 10, 20)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("%.40q is no device number", s)
	}
	return uint32(ma), uint32(mi), nil
}

// openError says why a device file that exists cannot be opened, and what to do.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("open %s: %w; run as a member of the file's group, i2c or gpio (group_add: in docker-compose.yml)", path, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("open %s: %w; this container may not use the device: add devices: [%q] to the service in docker-compose.yml", path, err, path+":"+path)
	default:
		return fmt.Errorf("open %s: %w", path, err)
	}
}

// ioctl calls the kernel; interrupted calls are repeated.
func ioctl(fd int, request uintptr, argument unsafe.Pointer) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(argument))
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}
