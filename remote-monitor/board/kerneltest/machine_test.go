package kerneltest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// machine is a computer that QEMU emulates, with the kernel that it runs and the architecture of the guest.
type machine struct {
	debian  string   // architecture of the kernel
	pkg     string   // of Debian; depends on the newest kernel
	modules []string // those that are wanted; their dependencies come by themselves
	goarch  string   // environment of go
	qemu    []string
	console string
}

// Which drivers a kernel has is Debian's choice: the guest has a test for each of them.
var (
	amd64 = machine{
		debian: "amd64", pkg: "linux-image-amd64", goarch: "GOARCH=amd64", console: "ttyS0",
		qemu:    []string{"qemu-system-x86_64", "-M", "q35"},
		modules: []string{"i2c-dev", "i2c-tiny-usb", "vhci-hcd", "mcp3422", "ti-ads1015"},
	}
	i386 = machine{ // 32-bit structures through the compatible system calls of a 64-bit kernel
		debian: amd64.debian, pkg: amd64.pkg, goarch: "GOARCH=386", console: amd64.console,
		qemu: amd64.qemu, modules: amd64.modules,
	}
	arm64 = machine{
		debian: "arm64", pkg: "linux-image-arm64", goarch: "GOARCH=arm64", console: "ttyAMA0",
		qemu:    []string{"qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53"},
		modules: append([]string{"gpio-pca953x"}, amd64.modules...),
	}
	armhf = machine{
		debian: "armhf", pkg: "linux-image-armmp", goarch: "GOARCH=arm GOARM=6", console: "ttyAMA0",
		qemu:    []string{"qemu-system-arm", "-M", "virt,highmem=off", "-cpu", "cortex-a15"},
		modules: append([]string{"pinctrl-mcp23s08-i2c", "gpio-pcf857x"}, arm64.modules...),
	}
)

// patience is how long a machine may run. It is a safety net: a machine takes some twenty seconds.
const patience = 4 * time.Minute

// readSources opens the files that the guest is made of. The go command remembers a test's success for as long as the
// files stay the same that it is built of or that it opens, and does not see what build compiles.
func readSources() error {
	for _, pattern := range []string{"guest/*.go", "../*.go", "../boardtest/*.go", "../../go.mod", "../../go.sum"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("there are no files %s", pattern)
		}
		for _, f := range files {
			if _, err := os.ReadFile(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// build compiles the guest for m.
func (m machine) build(ctx context.Context, to string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", to, "./guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	cmd.Env = append(cmd.Env, strings.Fields(m.goarch)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest for %s: %w\n%s", m.goarch, err, out)
	}
	return nil
}

// result is what one test of the guest came to.
type result struct {
	name    string
	verdict string // PASS, FAIL or SKIP
	took    string // in the guest
	log     []string
}

// run boots m and returns what the guest says on the console. An error means that it did not come to the end.
func (m machine) run(ctx context.Context, dir string, k kernel, init string) (console []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	archive, err := initramfs(init, k.modules)
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(dir, "initramfs")
	if err := os.WriteFile(initrd, archive, 0o666); err != nil {
		return nil, err
	}
	// One processor, as more of them make emulation slower. panic=-1 with -no-reboot: when init ends, so does QEMU.
	// What follows -- are the arguments of init; GOMAXPROCS becomes its environment, so that the chips can answer
	// while a driver waits in a system call.
	args := append(slices.Clone(m.qemu[1:]), "-accel", "tcg", "-smp", "1", "-m", "256", "-nodefaults", "-no-reboot", "-display", "none",
		"-serial", "stdio", "-kernel", k.image, "-initrd", initrd,
		"-append", "console="+m.console+" loglevel=1 panic=-1 GOMAXPROCS=4 -- -test.v -test.timeout=3m30s")
	cmd := exec.CommandContext(ctx, m.qemu[0], args...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		console = append(console, strings.TrimRight(lines.Text(), "\r"))
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		err = fmt.Errorf("the machine did not end in %v", patience)
	}
	return console, err
}

var (
	started = regexp.MustCompile(`^=== (?:RUN|CONT|NAME) +(\S+)$`)
	ended   = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \((\S+)\)$`)
)

// parse reads the output of go test -v and of the guest's end. Tests of the guest do not run in parallel, so lines
// belong to the test named last. A test that began and did not end has failed. The error says that the tests did not
// come to their end, or that one failed whose name is not among the results.
func parse(console []string) (results []result, err error) {
	index := map[string]int{}
	current := -1
	failed, end := false, ""
	for _, line := range console {
		if m := started.FindStringSubmatch(line); m != nil {
			i, ok := index[m[1]]
			if !ok {
				i = len(results)
				index[m[1]] = i
				results = append(results, result{name: m[1], verdict: "FAIL"})
			}
			current = i
		} else if m := ended.FindStringSubmatch(line); m != nil {
			if i, ok := index[m[2]]; ok {
				results[i].verdict, results[i].took = m[1], m[3]
			}
			current = -1
		} else if strings.HasPrefix(line, "DONE ") {
			end = line
		} else if current >= 0 {
			results[current].log = append(results[current].log, line)
		}
	}
	for _, r := range results {
		failed = failed || r.verdict == "FAIL"
	}
	switch {
	case end == "":
		return results, errors.New("the machine ended before its tests did")
	case len(results) == 0:
		return results, errors.New("the guest ran no test")
	case (end != "DONE 0") != failed:
		return results, fmt.Errorf("the guest ended with %q, which is not what its tests say", end)
	}
	return results, nil
}

// report makes a test of one of the guest.
func (r result) report(t *testing.T) {
	log := strings.TrimSpace(r.took + "\n" + strings.Join(r.log, "\n"))
	switch r.verdict {
	case "PASS":
		t.Log(log)
	case "SKIP":
		t.Skip(log)
	default:
		t.Error(log)
	}
}
