package cli

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// effort is what a command has taken so far.
type effort struct {
	CPU  float64 `json:"cpuSeconds"`
	Wall float64 `json:"wallSeconds"`
	// Memory is the most that the process has had in memory at once, in bytes; 0 where the system does not say.
	Memory int64 `json:"peakMemory"`
}

func effortSince(began time.Time, now time.Time) effort {
	cpu, memory := processUsage()
	// Linux's own count begins with the program; that of getrusage with who started it.
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		for line := range strings.Lines(string(b)) {
			kib, found := strings.CutPrefix(line, "VmHWM:")
			if n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kib), " kB"), 10, 64); found && err == nil {
				memory = n << 10
			}
		}
	}
	return effort{CPU: seconds(cpu), Wall: seconds(now.Sub(began)), Memory: memory}
}

// seconds are in milliseconds' steps: what is finer is noise.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }
