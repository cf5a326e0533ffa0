package kerneltest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheDriversWorkOnRealKernels(t *testing.T) {
	if testing.Short() {
		t.Skip("boots four machines")
	}
	machines := []machine{amd64, i386, arm64, armhf}
	for _, m := range machines {
		if _, err := exec.LookPath(m.qemu[0]); err != nil {
			unable(t, "needs %s; install the Debian packages qemu-system-x86 and qemu-system-arm", m.qemu[0])
		}
	}
	if err := readSources(); err != nil {
		t.Fatal(err)
	}
	cached, err := kernels(t.Context(), t, machines)
	if err != nil {
		unable(t, "needs kernels of Debian: %v", err)
	}
	for _, m := range machines {
		t.Run(strings.NewReplacer("GOARCH=", "", " ", "_").Replace(m.goarch), func(t *testing.T) {
			t.Parallel()
			k := cached[m.debian]
			init := filepath.Join(t.TempDir(), "init")
			if err := m.build(t.Context(), init); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			console, err := m.run(t.Context(), t.TempDir(), k, init)
			took := time.Since(start)
			results, incomplete := parse(console)
			if err := errors.Join(err, incomplete); err != nil {
				t.Errorf("%v; its console:\n%s", err, strings.Join(console, "\n"))
			}
			t.Logf("%s, %d tests, ran %.1fs", k.version, len(results), took.Seconds())
			for _, r := range results {
				t.Run(r.name, r.report)
			}
		})
	}
}

// unable skips the test, or fails it where everything has to be there.
func unable(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("DUNLIN_TEST_REQUIRE") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func TestWhatTheGuestSaysIsNotTakenForBetterThanItIs(t *testing.T) {
	for _, c := range []struct {
		name, console string
		want          string // verdicts in order
		complete      bool
	}{
		{"all is well", "=== RUN   A\n    log\n--- PASS: A (0.10s)\n=== RUN   B\n--- SKIP: B (0.00s)\nPASS\nDONE 0", "PASS SKIP", true},
		{"one fails", "=== RUN   A\n=== RUN   A/x\n=== RUN   A/y\n--- FAIL: A (1.00s)\n    --- PASS: A/x (0.50s)\n    --- FAIL: A/y (0.50s)\nFAIL\nDONE 1", "FAIL PASS FAIL", true},
		{"one does not end", "=== RUN   A\n--- PASS: A (0.10s)\n=== RUN   B\npanic: so it goes", "PASS FAIL", false},
		{"power fails", "=== RUN   A\n--- PASS: A (0.10s)", "PASS", false},
		{"one fails whose name is lost", "=== RUN   A\n--- PASS: A (0.10s)\nFAIL\nDONE 1", "PASS", false},
		{"no test", "testing: warning: no tests to run\nDONE 0", "", false},
		{"nothing", "", "", false},
	} {
		results, err := parse(strings.Split(c.console, "\n"))
		var got []string
		for _, r := range results {
			got = append(got, r.verdict)
		}
		if strings.Join(got, " ") != c.want || (err == nil) != c.complete {
			t.Errorf("%s: %q, %v; want %q, complete %v", c.name, got, err, c.want, c.complete)
		}
	}
}
