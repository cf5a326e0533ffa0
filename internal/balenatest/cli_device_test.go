package balenatest

import (
	"bufio"
	"fmt"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fleettest"
)

// TestTheStockCLIAndADeviceThatIsThere has an agent on an engine of its own, which runs what it is told and ships its
// logs.
func TestTheStockCLIAndADeviceThatIsThere(t *testing.T) {
	c := installed(t)
	machine := fleettest.MachineEngine(t)
	t.Parallel()
	s := fleettest.Start(t, bin, machine.Host)
	p, api := sit(t, c, s).login(t), user(t, s)
	a := s.Device(fleettest.NewEngine(t, 0).Host)
	project1 := s.Project(project("version one"))
	first := project1.Head()
	project1.Push()
	second := project1.Commit(project("version two"))
	project1.Push()
	a.Runs(second)

	got := row(t, p.balena(t, "device", "list", "--fleet", "admin/porch"), a.UUID[:7])
	want(t, "is_online in the list", got[6], "true")
	want(t, "online_devices in the list", row(t, p.balena(t, "fleet", "list"), "admin/porch")[5], "1")
	p.shown(t, []string{second, "admin/porch"}, "device", a.UUID)

	says := func(text string, args ...string) {
		t.Helper()
		fleettest.Eventually(t, "the log has "+text, func() error {
			if out := p.balena(t, append([]string{"device", "logs", a.UUID}, args...)...); !strings.Contains(out, text) {
				return fmt.Errorf("the log is\n%s", out)
			}
			return nil
		})
	}
	says("[main] this is version two, greeting")
	says("Started service 'main", "--system")
	if out := p.balena(t, "device", "logs", a.UUID, "--service", "nobody"); strings.Contains(out, "this is version") {
		t.Errorf("the log of no service has\n%s", out)
	}

	tail := p.command("device", "logs", a.UUID, "--tail")
	r, err := tail.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	defer tail.Process.Kill() // it may have ended
	asked := false
	for in := bufio.NewScanner(r); ; {
		if !in.Scan() {
			t.Fatalf("the tail ended: %v", in.Err())
		}
		if strings.Contains(in.Text(), "this is version two") && !asked {
			asked = true
			p.balena(t, "env", "set", "GREETING", "hello", "--device", a.UUID, "--service", "main")
		}
		if strings.Contains(in.Text(), "greeting hello") {
			break
		}
	}
	tail.Process.Kill() // as a Ctrl-C
	tail.Wait()         // it was killed

	p.balena(t, "device", "pin", a.UUID, first)
	p.shown(t, []string{"currently pinned to " + first}, "device", "pin", a.UUID)
	a.Runs(first)
	p.balena(t, "device", "track-fleet", a.UUID)
	a.Runs(second)
	p.shown(t, []string{"not currently pinned"}, "device", "pin", a.UUID)
	p.balena(t, "fleet", "pin", "admin/porch", first)
	a.Runs(first)
	p.balena(t, "fleet", "track-latest", "admin/porch")
	a.Runs(second)
	fleettest.Eventually(t, "the one image of the device runs", func() error {
		all := api.rows(t, "image_install?$select=status&$filter=device/uuid eq '"+a.UUID+"' and status ne 'deleted'")
		if len(all) != 1 || all[0]["status"] != "Running" {
			return fmt.Errorf("its images are %v", all)
		}
		return nil
	})
	away(t, p, a.UUID)
	for _, command := range []string{"start-service", "stop-service"} {
		p.refused(t, "is not online", "device", command, a.UUID, "main")
		p.refused(t, "not found on device", "device", command, a.UUID, "nobody")
	}
	p.refused(t, "is not online", "device", "restart", a.UUID, "--service", "main")
}

// away asks for what only a supervisor with a standing connection does. Without one, the proxy says that nobody is
// there (protocol §6.7).
func away(t *testing.T, p *person, uuid string) {
	t.Helper()
	p.refused(t, "is not online", "device", "restart", uuid)
	p.refused(t, "is not online", "device", "shutdown", uuid)
	p.refused(t, "is not online", "device", "identify", uuid)
	p.refused(t, "No online device(s) found", "device", "reboot", uuid)
	p.refused(t, "No online device(s) found", "device", "purge", uuid)
}

func device(t *testing.T, w *world) {
	w.fleet(t, "attic")
	away(t, w.p, w.register(t, "attic", "a771c000111122223333444455556666"))
}
