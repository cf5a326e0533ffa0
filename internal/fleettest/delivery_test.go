package fleettest_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fleettest"
)

// announced is how the device's log tells of a delta, with its size.
var announced = regexp.MustCompile(`Downloading delta for image '[^']*' \((\d+) KiB\)`)

// Two devices get a second release as a delta of a few KiB. A third, which has deltas off, gets it whole; all of them
// have the same image then.
func TestASecondReleaseArrivesAsADelta(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	s := fleettest.Start(t, bin, machine.Host)
	p := s.Project(goModule("version one", 0))
	var engines []*fleettest.Engine
	var devices []*fleettest.Agent
	for range 3 {
		e := fleettest.NewEngine(t, 0)
		engines, devices = append(engines, e), append(devices, s.Device(e.Host))
	}
	s.CLI("env", "set", "BALENA_SUPERVISOR_DELTA=0", "--device", devices[2].Name)
	p.Push()
	first := p.Head()
	for _, a := range devices {
		a.Runs(first)
	}
	second := p.Commit(goModule("version two", 0))
	p.Push()
	var ids []string
	for i, a := range devices {
		a.Runs(second)
		says(t, s, a, "this is version two")
		log := s.CLI("logs", "-n", "1000", a.Name)
		found := announced.FindStringSubmatch(log)
		if as := found != nil; as != (i < 2) {
			t.Errorf("device %d: that it came as a delta is %v\n%s", i, as, log)
			continue
		}
		if strings.Contains(log, "Failed to download delta") {
			t.Errorf("device %d: the delta failed\n%s", i, log)
		}
		if i < 2 {
			kib, err := strconv.Atoi(found[1])
			if err != nil || kib > 100 {
				t.Errorf("device %d: a line was changed, and the delta has %s KiB", i, found[1])
			}
			t.Logf("device %d: %s; RSS %d MB", i, found[0], a.RSS()>>20)
		}
		ids = append(ids, engines[i].Running("main").ImageID)
	}
	if len(ids) == 3 && (ids[0] != ids[2] || ids[1] != ids[2] || ids[0] == "") {
		t.Errorf("the images are %v", ids)
	}
}
