package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
)

// hurry ends a program that does not end by itself.
const hurry = 30 * time.Second

// program builds the real thing, once.
func program(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "remote-monitor")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=1.2.3", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

func command(t *testing.T, bin string, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), bin)
	cmd.Env = append([]string{"BALENA_DEVICE_NAME_AT_INIT=calm-otter"}, env...)
	timer := time.AfterFunc(hurry, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() { timer.Stop() })
	return cmd
}

// code is the exit code of a program that was waited for.
func code(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

func TestTheRealProgram(t *testing.T) {
	bin := program(t)

	t.Run("is small", func(t *testing.T) {
		info, err := os.Stat(bin)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 12<<20 {
			t.Errorf("it has %d bytes; the budget is 12 MB", info.Size())
		}
	})

	t.Run("speaks from start to stop and ends with 0 when told to", func(t *testing.T) {
		cmd := command(t, bin, "REMOTE_MONITOR_BOARD=simulated")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var events []monitor.Event
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e monitor.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Errorf("%q: %v", lines.Text(), err)
			}
			events = append(events, e)
			if e.Event == "alarm" {
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
		}
		if c := code(t, cmd.Wait()); c != 0 {
			t.Errorf("it ended with %d", c)
		}
		if n := len(events); n < 3 || events[n-1].Event != monitor.Stop {
			t.Fatalf("got %+v", events)
		}
		first := events[0]
		if first.Event != monitor.Start || first.Version != "1.2.3" || first.Device != "calm-otter" || *first.Zones != 3 || !strings.HasPrefix(first.Reason, hello) {
			t.Errorf("it started with %+v", first)
		}
	})

	t.Run("stays up without a board and says what to set", func(t *testing.T) {
		cmd := command(t, bin)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() && !strings.Contains(lines.Text(), `"fault"`) {
		}
		if !strings.Contains(lines.Text(), "set REMOTE_MONITOR_BOARD=simulated") {
			t.Errorf("it said %q", lines.Text())
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
		}
		if c := code(t, cmd.Wait()); c != 0 {
			t.Errorf("it ended with %d", c)
		}
	})

	t.Run("stops although nobody reads what it says", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		if _, err := w.Write(make([]byte, 64<<10)); err != nil { // the pipe is full
			t.Fatal(err)
		}
		cmd := command(t, bin, "OUTPUT_1_TYPE=Siren")
		cmd.Stdout = w
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(stderr).ReadString('\n'); err != nil { // it is about to start
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if c := code(t, cmd.Wait()); c != 1 {
			t.Errorf("it ended with %d", c)
		}
	})

	t.Run("refuses a configuration that makes no sense", func(t *testing.T) {
		cmd := command(t, bin, "REMOTE_MONITOR_BOARD=simulatd")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if c := code(t, cmd.Run()); c != 2 {
			t.Errorf("it ended with %d", c)
		}
		if !strings.Contains(stderr.String(), "did you mean simulated?") {
			t.Errorf("it said %q", stderr.String())
		}
	})
}

func TestTheCommandLine(t *testing.T) {
	for _, c := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"version"}, 0, "remote-monitor " + version, ""},
		{[]string{"--help"}, 0, "REMOTE_MONITOR_BOARD", ""},
		{[]string{"start"}, 2, "", `unknown command "start"`},
		{[]string{"run", "fast"}, 2, "", "environment variables"},
	} {
		var stdout, stderr bytes.Buffer
		if got := run(c.args, &stdout, &stderr); got != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%v: %d, %q, %q", c.args, got, stdout.String(), stderr.String())
		}
	}
}

// Whatever levels are configured, the simulated detector shows three states that its zone can tell apart.
func TestASimulatedDetectorFitsItsInput(t *testing.T) {
	apart := func(a, b float64) bool { return max(a-b, b-a) > 0.10+1e-9 }
	for normal := range 101 {
		for tamper := -1; tamper <= 100; tamper++ {
			in := config.Input{Number: 1, Normal: normal}
			if tamper >= 0 {
				if apart(float64(normal)/100, float64(tamper)/100) {
					in.Tamper = &tamper
				} else {
					continue // config refuses it
				}
			}
			l := loop(in)
			if !apart(l.Idle, l.Active) || !apart(l.Idle, l.Open) || !apart(l.Active, l.Open) || min(l.Idle, l.Active, l.Open) < 0 || max(l.Idle, l.Active, l.Open) > 1 {
				t.Errorf("normal %d, tamper %d: %+v", normal, tamper, l)
			}
		}
	}
}
