package monitor

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The supply of the loops, as a share of the nominal one.
const (
	supplyLow  = 0.85 // below this no output goes on
	supplyGood = 0.88 // and from this on it may again
)

const (
	supplyMemory = 3 * time.Second // for how long the last measured supply stands in for one that cannot be read
	underEvery   = 2 * time.Second // between two looks at the computer's own
)

// supply is what feeds the loops, and the computer.
type supply struct {
	volts   float64 // 0: not measured
	read    time.Time
	unknown string // why it cannot be measured; empty when it is

	low        bool
	under      bool // the computer's own
	underAsked time.Time
}

// measured takes a reading of the supply.
func (s *supply) measured(now time.Time, volts float64, unknown string) {
	if unknown == "" {
		s.volts, s.read, s.unknown = volts, now, ""
	} else if now.Sub(s.read) > supplyMemory {
		s.volts, s.unknown = 0, unknown
	}
}

// judge says whether the supply is too low for an output to go on.
func (s *supply) judge(nominal float64) bool {
	switch share := s.volts / nominal; {
	case s.volts == 0:
		s.low = false
	case share < supplyLow:
		s.low = true
	case share >= supplyGood:
		s.low = false
	}
	return s.low || s.under
}

// FirmwareUndervoltage reads what a Raspberry Pi's firmware says of its supply; sys is /sys. On other computers it
// is nil.
func FirmwareUndervoltage(sys string) func() bool {
	names, _ := filepath.Glob(filepath.Join(sys, "class/hwmon/hwmon*/name"))
	for _, name := range names {
		if b, err := os.ReadFile(name); err != nil || strings.TrimSpace(string(b)) != "rpi_volt" {
			continue
		}
		alarm := filepath.Join(filepath.Dir(name), "in0_lcrit_alarm")
		return func() bool {
			b, err := os.ReadFile(alarm)
			return err == nil && strings.TrimSpace(string(b)) == "1"
		}
	}
	return nil
}
