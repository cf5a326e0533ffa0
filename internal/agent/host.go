package agent

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// host is the machine the agent runs on: what it is and how it does. Whatever cannot be read is left out.
type host struct {
	root string

	mu         sync.Mutex
	idle, busy uint64 // of the CPU when it was last asked, in ticks
}

func newHost(root string) *host { return &host{root: root} }

func (h *host) read(path string) string {
	b, err := os.ReadFile(filepath.Join(h.root, path))
	if err != nil {
		return ""
	}
	return strings.Trim(string(b), " \n\x00")
}

func (h *host) release(key string) string {
	for line := range strings.Lines(h.read("etc/os-release")) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && k == key {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

// osVersion is what the system calls itself, as "Debian GNU/Linux 12 (bookworm)".
func (h *host) osVersion() string { return h.release("PRETTY_NAME") }

func (h *host) osVariant() string {
	if v := h.release("VARIANT_ID"); v == "dev" || v == "prod" {
		return v
	}
	return "prod"
}

// arch is balena's word for what the machine runs.
func (h *host) arch() string {
	switch runtime.GOARCH {
	case "arm64":
		return "aarch64"
	case "386":
		return "i386"
	case "arm":
		var u unix.Utsname
		if unix.Uname(&u) == nil && strings.HasPrefix(unix.ByteSliceToString(u.Machine[:]), "armv6") {
			return "rpi"
		}
		return "armv7hf"
	default:
		return runtime.GOARCH
	}
}

// deviceType is the slug of the board's device type, or of a generic one of its architecture.
func (h *host) deviceType() string {
	wide := runtime.GOARCH == "arm64"
	model := h.read("proc/device-tree/model")
	for _, board := range []struct{ model, narrow, wide string }{
		{"Raspberry Pi 5", "raspberrypi5-32", "raspberrypi5"},
		{"Raspberry Pi Compute Module 5", "raspberrypi5-32", "raspberrypi5"},
		{"Raspberry Pi 400", "raspberrypi4-32", "raspberrypi400-64"},
		{"Raspberry Pi 4", "raspberrypi4-32", "raspberrypi4-64"},
		{"Raspberry Pi Compute Module 4", "raspberrypi4-32", "raspberrypicm4-ioboard"},
		{"Raspberry Pi 3", "raspberrypi3", "raspberrypi3-64"},
		{"Raspberry Pi Zero 2", "raspberrypi0-2w-32", "raspberrypi0-2w-64"},
		{"Raspberry Pi 2", "raspberry-pi2", "raspberrypi3-64"},
		{"Raspberry Pi", "raspberry-pi", "generic-aarch64"},
	} {
		if strings.HasPrefix(model, board.model) {
			if wide {
				return board.wide
			}
			return board.narrow
		}
	}
	switch h.arch() {
	case "aarch64":
		return "generic-aarch64"
	case "armv7hf":
		return "generic-armv7ahf"
	case "rpi":
		return "raspberry-pi"
	case "i386":
		return "qemux86"
	default:
		return "generic-amd64"
	}
}

// interfaces are the machine's own network interfaces, without those of its containers.
func interfaces() []net.Interface {
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(i net.Interface) bool {
		dockerBridge := strings.HasPrefix(i.Name, "br-") && len(i.Name) == len("br-")+12
		return i.Flags&net.FlagLoopback != 0 || dockerBridge || slices.ContainsFunc([]string{"docker", "veth", "balena", "supervisor", "cni", "podman"}, func(p string) bool {
			return strings.HasPrefix(i.Name, p)
		})
	})
}

// macs are the hardware addresses, as "AA:BB:… CC:DD:…".
func (h *host) macs() string {
	var list []string
	for _, i := range interfaces() {
		if len(i.HardwareAddr) > 0 {
			list = append(list, strings.ToUpper(i.HardwareAddr.String()))
		}
	}
	return strings.Join(slices.Compact(list), " ")
}

// addresses are the IP addresses, but those that are good on one link alone.
func (h *host) addresses() string {
	var list []string
	for _, i := range interfaces() {
		addresses, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
				list = append(list, n.IP.String())
			}
		}
	}
	return strings.Join(list, " ")
}

// cpuID is the serial number of the board.
func (h *host) cpuID() string {
	for line := range strings.Lines(h.read("proc/cpuinfo")) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "Serial" {
			return strings.TrimSpace(v)
		}
	}
	return cmp.Or(h.read("proc/device-tree/serial-number"), h.read("sys/class/dmi/id/product_uuid"))
}

// cpu is how busy all cores were since it was last asked, in percent.
func (h *host) cpu() (percent int64, ok bool) {
	line, _, _ := strings.Cut(h.read("proc/stat"), "\n")
	f := strings.Fields(line)
	if len(f) < 5 || f[0] != "cpu" {
		return 0, false
	}
	var idle, all uint64
	for i, s := range f[1:] {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return 0, false
		}
		if i < 8 { // what guests used is in user time already
			all += n
		}
		if i == 3 || i == 4 { // idle and waiting for a disk
			idle += n
		}
	}
	busy := all - idle
	h.mu.Lock()
	defer h.mu.Unlock()
	spent := busy - h.busy
	total := spent + idle - h.idle
	backwards := busy < h.busy || idle < h.idle
	h.busy, h.idle = busy, idle
	if backwards || total == 0 {
		return 0, false
	}
	return int64((spent*100 + total/2) / total), true
}

// memory is in MB; what a cache could give back counts as free.
func (h *host) memory() (used, total int64, ok bool) {
	kB := map[string]int64{}
	s := bufio.NewScanner(strings.NewReader(h.read("proc/meminfo")))
	for s.Scan() {
		k, v, _ := strings.Cut(s.Text(), ":")
		if n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64); err == nil {
			kB[k] = n
		}
	}
	total, free := kB["MemTotal"], kB["MemAvailable"]
	return (total - free) / 1024, total / 1024, total > 0
}

// temperature is in °C.
func (h *host) temperature() (int64, bool) {
	n, err := strconv.ParseInt(h.read("sys/class/thermal/thermal_zone0/temp"), 10, 64)
	return n / 1000, err == nil
}

// undervolted reports whether a Raspberry Pi finds its supply too weak.
func (h *host) undervolted() bool {
	names, _ := filepath.Glob(filepath.Join(h.root, "sys/class/hwmon/hwmon*/name"))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil && string(bytes.TrimSpace(b)) == "rpi_volt" {
			b, err = os.ReadFile(filepath.Join(filepath.Dir(name), "in0_lcrit_alarm"))
			return err == nil && string(bytes.TrimSpace(b)) == "1"
		}
	}
	return false
}

// storage is the file system that holds path, in MB.
func (h *host) storage(path string) (device string, used, total int64, ok bool) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Statfs(path, &fs) != nil || unix.Stat(path, &st) != nil {
		return "", 0, 0, false
	}
	block := uint64(fs.Bsize)
	total = int64(fs.Blocks * block >> 20)
	used = int64((fs.Blocks - fs.Bfree) * block >> 20)
	dev := uint64(st.Dev) // its width differs between architectures
	id := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	for line := range strings.Lines(h.read("proc/self/mountinfo")) {
		// ID PARENT MAJOR:MINOR ROOT POINT OPTIONS … - TYPE SOURCE …
		f := strings.Fields(line)
		if i := slices.Index(f, "-"); len(f) > 3 && f[2] == id && i > 0 && i+2 < len(f) && strings.HasPrefix(f[i+2], "/dev/") {
			device = f[i+2]
			break
		}
	}
	return device, used, total, true
}
