package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Levels of a loop with the usual resistors, percent of the supply.
const (
	idle   = 29.0
	active = 51.0
	open   = 78.0
)

func adc(n int) board.Pin { return board.Pin{Chip: "adc1", Number: n} }
func io(n int) board.Pin  { return board.Pin{Chip: "io1", Number: n} }

// bench is a board whose wires are in the test's hand: loops on adc1 and an expander io1. The registers of the
// expander outlive the program, as those of a real one do.
type bench struct {
	journal journal

	mu      sync.Mutex
	percent map[int]float64
	quality map[int]board.Quality
	away    error // of Open, Scan and the expander
	deaf    error // of the expander alone
	crash   any   // Scan panics with it
	hang    chan struct{}
	scans   int
	tries   int
	opened  int
	closed  int

	wrote func(levels uint16) // is told of writes

	outputs, latch uint16 // the registers
}

// expander is the bank of a bench.
type expander struct{ *bench }

func newBench() *bench {
	return &bench{percent: map[int]float64{1: idle, 2: idle}, quality: map[int]board.Quality{}}
}

func (b *bench) open(context.Context) (board.Board, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tries++
	if b.away != nil {
		return nil, b.away
	}
	b.opened++
	return b, nil
}

func (b *bench) Name() string { return "bench" }

func (b *bench) Scan(ctx context.Context) (r []board.Reading, err error) {
	b.mu.Lock()
	hang := b.hang
	b.mu.Unlock()
	if hang != nil {
		<-hang // not even the end of ctx helps
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.scans++
	if b.crash != nil {
		panic(b.crash)
	}
	for _, n := range slices.Sorted(maps.Keys(b.percent)) {
		in := board.Reading{Pin: adc(n), Time: time.Now(), Volts: b.percent[n] / 100 * board.FullScale, Quality: b.quality[n]}
		if in.Quality != board.Good && in.Quality != board.Saturated {
			in.Unknown = "no answer from 0x68"
		}
		r = append(r, in)
	}
	return r, b.away
}

func (b *bench) Banks() []board.Bank { return []board.Bank{expander{b}} }

func (b *bench) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed++
	return nil
}

func (e expander) Chip() string       { return "io1" }
func (e expander) PowersUpHigh() bool { return false }

func (e expander) Start(_ context.Context, outputs, levels uint16) (board.Lines, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	found := e.lines()
	if err := errors.Join(e.away, e.deaf); err != nil {
		return board.Lines{}, err
	}
	e.latch, e.outputs = levels, outputs
	e.journal.add("start %04b", levels)
	return found, nil
}

func (e expander) Write(_ context.Context, levels uint16) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := errors.Join(e.away, e.deaf); err != nil {
		return err
	}
	if e.wrote != nil {
		e.wrote(levels)
	}
	e.latch = levels
	e.journal.add("write %04b", levels)
	return nil
}

func (e expander) Read(context.Context) (board.Lines, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lines(), errors.Join(e.away, e.deaf)
}

func (b *bench) lines() board.Lines {
	return board.Lines{Outputs: b.outputs, Latch: b.latch, Pins: b.latch & b.outputs}
}

// on says whether the lines of the expander are high.
func (b *bench) on(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines().Pins&(1<<(n-1)) != 0
}

// count reads one of the bench's counters.
func (b *bench) count(n *int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return *n
}

// pass lets time pass, and all that happens in it be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// set changes something on the bench and lets at least one scan pass.
func (b *bench) set(f func()) {
	b.mu.Lock()
	f()
	b.mu.Unlock()
	pass(100 * time.Millisecond)
}

// walk lets somebody pass a detector.
func (b *bench) walk(n int) {
	b.set(func() { b.percent[n] = active })
	pass(400 * time.Millisecond)
	b.set(func() { b.percent[n] = idle })
	pass(400 * time.Millisecond)
}

// journal is what happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// broker writes down what it is told.
type broker struct {
	*journal
	health bus.Health

	mu      sync.Mutex
	zones   map[string]bus.ZoneState
	outputs map[string]bus.OutputState
	groups  map[string]bus.GroupState
	events  []bus.Event
	beats   int
}

func newBroker(j *journal) *broker {
	return &broker{
		journal: j, health: bus.Health{Name: "mqtt", Connected: true}, zones: map[string]bus.ZoneState{},
		outputs: map[string]bus.OutputState{}, groups: map[string]bus.GroupState{},
	}
}

func (b *broker) Zone(id string, s bus.ZoneState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.zones[id] = s
	b.add("zone %s %s motion=%v", id, s.State, s.Motion)
}

func (b *broker) Output(id string, s bus.OutputState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outputs[id] = s
	b.add("output %s on=%v", id, s.On)
}

func (b *broker) Group(id string, s bus.GroupState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.groups[id] = s
	b.add("group %s %s", id, s.State)
}

func (b *broker) Event(e bus.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
	b.add("event %s", e.Kind)
}

func (b *broker) Heartbeat(time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.beats++
}

func (b *broker) Health() bus.Health {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.health
}

// said is what a monitor emitted.
type said struct {
	mu    sync.Mutex
	lines []any
	fail  error
}

func (s *said) emit(line any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	return s.fail
}

// since returns the lines from the i-th on in short.
func (s *said) since(i int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	short := []string{}
	for _, line := range s.lines[i:] {
		switch l := line.(type) {
		case monitor.Line:
			short = append(short, l.Event)
		case bus.Event:
			short = append(short, strings.TrimSpace(l.Kind+" "+l.Zone+l.Output))
		}
	}
	return short
}

// events returns the events of a kind.
func (s *said) events(kind string) (all []bus.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.lines {
		if e, ok := line.(bus.Event); ok && e.Kind == kind {
			all = append(all, e)
		}
	}
	return all
}

// own returns the program's own lines of a kind.
func (s *said) own(kind string) (all []monitor.Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.lines {
		if l, ok := line.(monitor.Line); ok && l.Event == kind {
			all = append(all, l)
		}
	}
	return all
}

// site is two loops and two outputs; motion in the hall turns the light on.
func site() config.Config {
	return config.Config{
		Device: "calm-otter", TimeZone: time.UTC, Interval: 50 * time.Millisecond, Heartbeat: 61 * time.Second,
		Zones: []config.Zone{
			{ID: "hall", Name: "Hall", Pin: adc(1), Type: "Motion Detector"},
			{ID: "door", Name: "Door", Pin: adc(2), Type: "Motion Detector"},
		},
		Site: zone.Config{
			WarmUp: -1,
			Zones: []zone.Settings{
				{Name: "Hall", Sensitivity: zone.High, Group: "house"},
				{Name: "Door", Sensitivity: zone.High},
			},
			Groups: []zone.Group{{Name: "house"}},
		},
		Outputs: []config.Output{{ID: "light", Name: "Light"}, {ID: "gate", Name: "Gate"}},
		Relay: relay.Config{Outputs: []relay.Output{
			{Name: "light", Pin: io(1), MaxOn: time.Minute}, {Name: "gate", Pin: io(2), MaxOn: 5 * time.Second},
		}},
		Rules: []config.Rule{{
			Name: "light", Zones: []string{"Hall"}, On: []zone.Kind{zone.Motion}, Outputs: []string{"light"}, Action: relay.Pulse, For: 10 * time.Second,
		}},
	}
}

func watching(b *bench, s *said) *monitor.Monitor {
	return &monitor.Monitor{Version: "1.2.3", Greeting: "hello", Config: site(), Open: b.open, Emit: s.emit, Exit: func(int) {}}
}

// start runs m until the returned function is called, which returns what Run did. It may be called again.
func start(t *testing.T, m *monitor.Monitor) (stop func() error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	pass(7 * time.Millisecond) // so that nothing a test does falls on the moment of a scan
	once := sync.OnceValue(func() error {
		cancel(errors.New("terminated signal received"))
		return <-done
	})
	t.Cleanup(func() { _ = once() })
	return once
}

// asked is a command's answers.
type asked struct {
	mu   sync.Mutex
	acks []bus.Ack
}

func (a *asked) answer(k bus.Ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acks = append(a.acks, k)
}

func (a *asked) statuses() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := []string{}
	for _, k := range a.acks {
		all = append(all, k.Status)
	}
	return all
}

func (a *asked) reason() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.acks) == 0 {
		return ""
	}
	return a.acks[len(a.acks)-1].Reason
}

// ask sends a command and lets the loop see it.
func ask(m *monitor.Monitor, c bus.Command) *asked {
	a := &asked{}
	c.Answer = a.answer
	if c.Source == "" {
		c.Source = "mqtt"
	}
	m.Command(c)
	synctest.Wait()
	return a
}
