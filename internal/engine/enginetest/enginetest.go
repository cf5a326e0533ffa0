// Package enginetest holds what the engine contract is tested with: a suite that holds any driver to every promise of
// engine.Engine, and Fake, an engine in memory that keeps the same promises and has faults at will. It does not own
// the contract, and nothing but tests may import it. Its files are the suite (suite_*.go) and the fake (fake*.go); they
// are one package, and longer than most, because the suite's images and the fake's containers run one program, Probe.
package enginetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

// Fixture is what the suite needs around an engine. Images hold the program Probe describes as their entrypoint, and
// are new to the engine. What a Fixture makes it removes when its test ends.
type Fixture struct {
	// Image puts a small image into a registry the engine pulls from and returns its reference.
	Image func(t *testing.T) string
	// Slow is Image with a small layer that arrives and a large one that does so in part only, until release is
	// called.
	Slow func(t *testing.T) (ref string, release func())
	// Private is Image in a registry that asks for credentials.
	Private func(t *testing.T) (ref string, who engine.Credentials)
	// Forged is Image with content that is not what the digest of its reference says.
	Forged func(t *testing.T) string
	// Successor puts two images that share their lowest layers into one registry. Both print "here" by the words out:here.
	Successor func(t *testing.T) Successor
	// Foreign makes a running container, a network and a volume without the agent's label, all three of that name;
	// intact says how they are not as they were.
	Foreign func(t *testing.T, name string) (intact func() error)
	// Lost names fields of engine.Container that this engine cannot give back from Inspect, each with the reason.
	Lost map[string]string
}

// Successor is an image and the one that follows it.
type Successor struct {
	Old, New string
	ID       string   // of New's config
	DiffIDs  []string // of Old
	// Archive is New without the layers that it shares with Old, for Load.
	Archive []byte
	// Travelled is how many bytes of New the registry has sent, all repositories together.
	Travelled func() int64
}

// Check is one promise of the contract as a test.
type Check struct {
	Name string
	Do   func(t *testing.T, e engine.Engine, f Fixture)
}

// Run holds the engine that open returns to every promise of engine.Engine, each in a parallel subtest with an engine
// of its own or a shared one: the names it makes are unique.
func Run(t *testing.T, open func(t *testing.T) (engine.Engine, Fixture)) {
	for _, c := range Checks() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			e, f := open(t)
			c.Do(t, e, f)
		})
	}
}

// Checks are what Run runs, for a caller that has to wrap each, as in a synctest bubble.
func Checks() []Check {
	var all []Check
	for _, c := range slices.Concat(imageChecks, layerChecks, containerChecks, fieldChecks, worldChecks, logChecks) {
		all = append(all, Check{c.name, func(t *testing.T, e engine.Engine, f Fixture) {
			c.do(&trial{T: t, Engine: e, fixture: f, prefix: "dunlin-test-" + strings.ToLower(rand.Text()[:10])})
		}})
	}
	return all
}

type check struct {
	name string
	do   func(*trial)
}

// trial is one check on one engine: names of its own, the engine's methods with the test's context, and a clean-up.
type trial struct {
	*testing.T
	engine.Engine
	fixture Fixture
	prefix  string
	image   string // of container, pulled once
}

// patience is how long an engine may take for anything; only a broken one does.
const patience = 60 * time.Second

// subnet is three bytes of a network that no other test has.
func (t *trial) subnet() string {
	var b [2]byte
	rand.Read(b[:])
	return fmt.Sprintf("10.%d.%d", 100+b[0]%150, b[1])
}

func (t *trial) name(of string) string { return t.prefix + "-" + of }

func (t *trial) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *trial) mustBe(want, err error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// pull pulls ref and has it removed when the test ends.
func (t *trial) pull(ref string, who engine.Credentials) {
	t.Helper()
	t.must(t.Pull(t.Context(), ref, who, nil))
	t.Cleanup(func() { t.RemoveImage(context.Background(), ref) })
}

// container is a container of the suite's image, whose words Probe describes; it is not made yet, but removed at the end.
func (t *trial) container(of string, words ...string) engine.Container {
	t.Helper()
	if t.image == "" {
		t.image = t.fixture.Image(t.T)
		t.pull(t.image, engine.Credentials{})
	}
	t.Cleanup(func() { t.Remove(context.Background(), t.name(of)) })
	return engine.Container{
		Name: t.name(of), Image: t.image, Command: words, Restart: "no",
		Labels: map[string]string{engine.LabelSupervised: "true", engine.LabelSpec: of},
	}
}

// start makes and starts a container.
func (t *trial) start(c engine.Container) {
	t.Helper()
	t.must(t.Create(t.Context(), c))
	t.must(t.Start(t.Context(), c.Name))
}

// look returns the container of that full name.
func (t *trial) look(name string) (engine.Container, bool) {
	t.Helper()
	s, err := t.Inspect(t.Context())
	t.must(err)
	i := slices.IndexFunc(s.Containers, func(c engine.Container) bool { return c.Name == name })
	if i < 0 {
		return engine.Container{}, false
	}
	return s.Containers[i], true
}

// until looks at a container again and again until it is as ok says, and returns it.
func (t *trial) until(name, what string, ok func(engine.Container) bool) engine.Container {
	t.Helper()
	var c engine.Container
	t.eventually(func() bool {
		var there bool
		c, there = t.look(name)
		return there && ok(c)
	}, func() { t.Fatalf("container %s is not %s: %+v", name, what, c) })
	return c
}

func (t *trial) status(name string, s engine.Status) engine.Container {
	t.Helper()
	return t.until(name, string(s), func(c engine.Container) bool { return c.Status == s })
}

// eventually asks ok until it says yes, and after a long time otherwise.
func (t *trial) eventually(ok func() bool, otherwise func()) {
	t.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-end.C:
			otherwise()
			return
		case <-again.C:
		}
	}
}

// lines returns what a container wrote until it ended.
func (t *trial) lines(name string) []engine.Line {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all []engine.Line
	t.must(t.Logs(ctx, name, time.Time{}, func(l engine.Line) { all = append(all, l) }))
	return all
}

// output is lines without their times; lines of stderr have "! " before them.
func (t *trial) output(name string) []string {
	t.Helper()
	return texts(t.lines(name))
}

func texts(lines []engine.Line) []string {
	var all []string
	for _, l := range lines {
		if l.Stderr {
			l.Message = "! " + l.Message
		}
		all = append(all, l.Message)
	}
	return all
}

// percents collects progress and says what is wrong with it.
type percents struct {
	sync.Mutex
	seen []int
}

func (p *percents) add(percent int) {
	p.Lock()
	defer p.Unlock()
	p.seen = append(p.seen, percent)
}

func (p *percents) all() []int {
	p.Lock()
	defer p.Unlock()
	return slices.Clone(p.seen)
}
