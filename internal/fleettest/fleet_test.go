package fleettest_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dunlin/dunlin/internal/fleettest"
)

var bin fleettest.Binaries

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "fleettest-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if bin, err = fleettest.Build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// program is a service: it says its version and its greeting, and ends when it is asked to, after linger seconds.
func program(version string, linger int) string {
	return fmt.Sprintf(`package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	fmt.Println("this is %s, greeting", os.Getenv("GREETING"))
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, syscall.SIGTERM)
	<-ask
	time.Sleep(%d * time.Second)
}
`, version, linger)
}

const goMod = "module example.com/service\n\ngo 1.24\n"

// compose gives a project one service, main. Without it a project of one container is privileged, as balena has it,
// and not every machine that runs tests may start such a container.
const compose = "services:\n  main:\n    build: .\n"

// goModule is a project that is a Go module without a Dockerfile.
func goModule(version string, linger int) map[string]string {
	return map[string]string{"docker-compose.yml": compose, "go.mod": goMod, "main.go": program(version, linger)}
}

// compiled is a static binary of a program, as the text of a file.
func compiled(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": goMod, "main.go": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", "service", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "service"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// says waits until the device's log, read through the server, has the text.
func says(t *testing.T, s *fleettest.Server, a *fleettest.Agent, text string) {
	t.Helper()
	fleettest.Eventually(t, a.Name+" says "+text, func() error {
		if log := s.CLI("logs", "-n", "1000", a.Name); !strings.Contains(log, text) {
			return fmt.Errorf("its log is\n%s", log)
		}
		return nil
	})
}

func want(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in\n%s", part, text)
		}
	}
}

func TestAPushRunsOnTheDeviceAndTheNextOneReplacesIt(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	s := fleettest.Start(t, bin, machine.Host)
	engine := fleettest.NewEngine(t, 0)
	a := s.Device(engine.Host)
	p := s.Project(goModule("version one", 0))
	out := p.Push()
	want(t, out, "remote:", "Release 0.0.0 (revision 0", "built in", a.Name+": running after", "travelled", "running on 1 of 1")
	says(t, s, a, "this is version one, greeting")
	before := engine.Running("main")

	commit := p.Commit(goModule("version two", 0))
	want(t, p.Push(), "Release 0.0.0+rev1 (revision 1", "running on 1 of 1")
	a.Runs(commit)
	says(t, s, a, "this is version two")
	if after := engine.Running("main"); after.ID == before.ID {
		t.Error("the old container still runs")
	}
	t.Logf("server RSS %d MB, agent RSS %d MB", s.RSS()>>20, a.RSS()>>20)
}

func TestTwoServicesOfOneReleaseAndAVariableThatConcernsOneOfThem(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	s := fleettest.Start(t, bin, machine.Host)
	engine := fleettest.NewEngine(t, 0)
	a := s.Device(engine.Host)
	p := s.Project(map[string]string{
		"docker-compose.yml": `services:
  door:
    build: ./door
    environment:
      GREETING: from the compose file
    volumes:
      - kept:/data
  bell:
    build: ./bell
    depends_on:
      - door
volumes:
  kept: {}
`,
		"door/go.mod":     goMod,
		"door/main.go":    program("the door", 0),
		"bell/Dockerfile": "FROM scratch\nCOPY service /service\nENTRYPOINT [\"/service\"]\n",
		"bell/service":    compiled(t, program("the bell", 0)),
	})
	want(t, p.Push(), "door", "bell", "running on 1 of 1")
	says(t, s, a, "this is the door, greeting from the compose file")
	says(t, s, a, "this is the bell, greeting")
	door, bell := engine.Running("door"), engine.Running("bell")

	s.CLI("env", "set", "GREETING=hello door", "--fleet", "porch", "--service", "door")
	says(t, s, a, "this is the door, greeting hello door")
	if got := engine.Running("bell"); got.ID != bell.ID {
		t.Error("the bell was restarted, though nothing of it changed")
	}
	if got := engine.Running("door"); got.ID == door.ID {
		t.Error("the door runs on with the old variable")
	}
	bell = engine.Running("bell")
	s.CLI("env", "set", "GREETING=hello bell", "--device", a.Name, "--service", "bell")
	says(t, s, a, "this is the bell, greeting hello bell")
}

func TestADockerfileOnDebianIsBuiltAndRuns(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	image := fleettest.DebianImage(t, machine)
	s := fleettest.Start(t, bin, machine.Host)
	engine := fleettest.NewEngine(t, 0)
	a := s.Device(engine.Host)
	p := s.Project(map[string]string{"docker-compose.yml": compose, "Dockerfile.template": "FROM " + image + `
RUN echo "made for %%BALENA_MACHINE_NAME%% (%%BALENA_ARCH%%)" > /made
CMD ["sh", "-c", "cat /made /etc/debian_version; exec sleep 1000000"]
`})
	want(t, p.Push(), "running on 1 of 1")
	says(t, s, a, "made for generic-amd64 (amd64)")
}

func TestAFailedBuildRefusesThePushAndLeavesTheFleetAsItWas(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	s := fleettest.Start(t, bin, machine.Host)
	engine := fleettest.NewEngine(t, 0)
	a := s.Device(engine.Host)
	p := s.Project(goModule("the good one", 0))
	p.Push()
	before := engine.Running("main")

	p.Commit(map[string]string{"main.go": "package main\n\nfunc main() { undefined() }\n"})
	out, err := p.TryPush(nil)
	if err == nil {
		t.Fatalf("the push was taken:\n%s", out)
	}
	want(t, out, "undefined: undefined", "main.go:3", "remote rejected")
	if got := engine.Running("main"); got.ID != before.ID {
		t.Error("the device did something")
	}
	if !strings.Contains(s.CLI("release", "list", "porch"), "failed") {
		t.Error("the failed release is not listed as one")
	}

	want(t, func() string { p.Commit(goModule("the mended one", 0)); return p.Push() }(), "revision 1", "running on 1 of 1")
	says(t, s, a, "this is the mended one")
}

func TestADeviceThatWasAwayCatchesUpAndAPinnedOneStays(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	s := fleettest.Start(t, bin, machine.Host)
	one, two := fleettest.NewEngine(t, 0), fleettest.NewEngine(t, 0)
	near, far := s.Device(one.Host), s.Device(two.Host)
	p := s.Project(goModule("version one", 0))
	first := p.Commit(nil)
	p.Push()
	near.Runs(first)
	far.Runs(first)

	far.Kill()
	s.CLI("device", "pin", near.Name, first)
	before := one.Running("main")
	second := p.Commit(goModule("version two", 0))
	out, err := p.TryPush(nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	far.Restart()
	far.Runs(second)
	says(t, s, far, "this is version two")
	if got := one.Running("main"); got.ID != before.ID {
		t.Error("the pinned device moved")
	}
	s.CLI("device", "track", near.Name)
	near.Runs(second)
	says(t, s, near, "this is version two")
}

// noise is text that no compression makes small.
func noise(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return string(b)
}

// slow is a Dockerfile project whose build waits long enough to be killed in the middle, after it has said so.
func slow(t *testing.T, version string) map[string]string {
	return map[string]string{
		"docker-compose.yml": compose,
		"Dockerfile":         "FROM scratch\nCOPY wait service /\nRUN [\"/wait\"]\nENTRYPOINT [\"/service\"]\n",
		"service":            compiled(t, program(version, 0)),
		"wait": compiled(t, `package main

import (
	"fmt"
	"time"
)

func main() {
	fmt.Println("in the middle of the build")
	time.Sleep(4 * time.Second)
}
`),
	}
}

func TestAServerThatEndsInTheMiddleOfABuildGoesOnWithIt(t *testing.T) {
	for name, end := range map[string]func(*fleettest.Server){"killed": (*fleettest.Server).Kill, "stopped": (*fleettest.Server).Stop} {
		t.Run(name, func(t *testing.T) {
			machine := fleettest.MachineEngine(t)
			s := fleettest.Start(t, bin, machine.Host)
			engine := fleettest.NewEngine(t, 0)
			a := s.Device(engine.Host)
			p := s.Project(slow(t, "what survived"))
			var once sync.Once
			out, err := p.TryPush(func(line string) {
				if strings.Contains(line, "in the middle of the build") {
					once.Do(func() { end(s) })
				}
			})
			if err == nil {
				t.Fatalf("the server ended and the push succeeded:\n%s", out)
			}
			s.Restart()
			a.Runs(p.Head())
			says(t, s, a, "this is what survived")
		})
	}
}

func TestAServerKilledWhileDevicesReportLosesNoUpdate(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	s := fleettest.Start(t, bin, machine.Host)
	engine := fleettest.NewEngine(t, 0)
	a := s.Device(engine.Host)
	p := s.Project(goModule("version one", 0))
	p.Push()
	commit := p.Commit(goModule("version two", 0))
	killed := false
	// The branch has moved when the first line about the device comes; from here the devices go on by themselves.
	out, _ := p.TryPush(func(line string) {
		if strings.Contains(line, a.Name+":") && !killed {
			killed = true
			s.Kill()
		}
	})
	want(t, out, "built in")
	if !killed {
		t.Fatalf("nothing was said of the device, so the server was not killed:\n%s", out)
	}
	s.Restart()
	a.Runs(commit)
	says(t, s, a, "this is version two")
}

func TestAnAgentKilledBetweenStopAndStartStartsTheNewOne(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	s := fleettest.Start(t, bin, machine.Host)
	engine := fleettest.NewEngine(t, 0)
	a := s.Device(engine.Host)
	p := s.Project(goModule("the slow leaver", 8))
	p.Push()
	says(t, s, a, "this is the slow leaver")
	old := engine.Running("main")
	commit := p.Commit(goModule("the successor", 0))
	pushed := make(chan string, 1)
	go func() {
		out, err := p.TryPush(nil)
		pushed <- fmt.Sprintf("%s%v", out, err)
	}()
	// The old container takes its time to leave, and its successor waits for that.
	says(t, s, a, "Killing service 'main")
	a.Kill()
	for _, c := range engine.Containers("main") {
		if c.ID != old.ID && c.State == "running" {
			t.Fatalf("the kill came too late to show anything: %+v", c)
		}
	}
	a.Restart()
	a.Runs(commit)
	says(t, s, a, "this is the successor")
	if now := engine.Running("main"); now.ID == old.ID {
		t.Error("the old container runs on")
	}
	want(t, <-pushed, "built in")
}

func TestAFullDiskKeepsTheOldReleaseRunning(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	s := fleettest.Start(t, bin, machine.Host)
	engine := fleettest.NewEngine(t, 48<<20)
	a := s.Device(engine.Host)
	s.CLI("env", "set", "BALENA_SUPERVISOR_DELTA=0", "--device", a.Name) // it would wait for one of the ballast
	p := s.Project(map[string]string{
		"docker-compose.yml": compose,
		"Dockerfile":         "FROM scratch\nCOPY service /service\nENTRYPOINT [\"/service\"]\n",
		"service":            compiled(t, program("the small one", 0)),
	})
	first := p.Commit(nil)
	p.Push()
	a.Runs(first)
	before := engine.Running("main")

	big := p.Commit(map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\nENTRYPOINT [\"/service\"]\n", "ballast": noise(96 << 20)})
	quit := make(chan struct{})
	go func() {
		defer close(quit)
		p.TryPush(nil) // it watches a rollout that cannot end; the next push is the end of it
	}()
	fleettest.Eventually(t, "the device says that its disk is full", func() error {
		if log := s.CLI("logs", "-n", "1000", a.Name); !strings.Contains(log, "disk is full") {
			return fmt.Errorf("its log is\n%s", log)
		}
		return nil
	})
	if got := engine.Running("main"); got.ID != before.ID {
		t.Error("the old release does not run any more")
	}
	for _, d := range s.Devices() {
		if d.Runs() == big {
			t.Error("it says that it runs what it has no room for")
		}
	}
	last := p.Commit(map[string]string{"Dockerfile": "FROM scratch\nCOPY service /service\nENTRYPOINT [\"/service\"]\nENV GREETING=again\n"})
	p.Push()
	a.Runs(last)
	says(t, s, a, "this is the small one, greeting again")
	<-quit
}

func TestADevicesKeyOpensNothingOfAnotherDevice(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	s := fleettest.Start(t, bin, machine.Host)
	one, two := fleettest.NewEngine(t, 0), fleettest.NewEngine(t, 0)
	near, far := s.Device(one.Host), s.Device(two.Host)
	s.Project(goModule("version one", 0)).Push()
	get := func(path, key string) int {
		r, err := http.NewRequest("GET", s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := get("/device/v3/"+near.UUID+"/state", near.Key()); got != 200 {
		t.Fatalf("a device's own state: %d", got)
	}
	for _, path := range []string{"/device/v3/" + near.UUID + "/state", "/device/v2/" + near.UUID + "/logs"} {
		if got := get(path, far.Key()); got != 401 && got != 403 && got != 404 {
			t.Errorf("another device reads %s: %d", path, got)
		}
	}
}

func TestAProjectOfOneContainerRunsAsBalenaHasIt(t *testing.T) {
	machine := fleettest.MachineEngine(t)
	if err := machine.StartsPrivileged(compiled(t, program("", 0))); err != nil {
		t.Skipf("this machine starts no privileged container, which a project of one container is: %v", err)
	}
	s := fleettest.Start(t, bin, machine.Host)
	engine := fleettest.NewEngine(t, 0)
	a := s.Device(engine.Host)
	p := s.Project(map[string]string{"go.mod": goMod, "main.go": program("alone", 0)})
	want(t, p.Push(), "running on 1 of 1")
	says(t, s, a, "this is alone")
}
