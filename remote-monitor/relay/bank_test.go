package relay_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
)

var errNAK = errors.New("nobody answers")

// expander is a chip as board.Bank describes one, with the ways in which one fails. It follows what its lines do, at
// the time of the rig, as somebody with a scope would.
type expander struct {
	name   string
	high   bool   // powers up high
	pulled uint16 // the levels that the wiring gives lines that are no outputs

	dir, latch       uint16
	stuckUp, stuckDn uint16
	deaf             int  // calls that fail from now
	deafWrites       int  // writes that fail from now
	deafReads        int  // reads that fail from now
	half             bool // a write that fails has been understood
	loose            bool // the latch forgets the next write

	calls, writes int
	shown         uint16
	watch         func(pins uint16)
}

func (e *expander) Chip() string       { return e.name }
func (e *expander) PowersUpHigh() bool { return e.high }

func (e *expander) pins() uint16 {
	return ((e.latch&e.dir | e.pulled&^e.dir) | e.stuckUp) &^ e.stuckDn
}

// moved tells the scope.
func (e *expander) moved() {
	if p := e.pins(); p != e.shown {
		e.shown = p
		if e.watch != nil {
			e.watch(p)
		}
	}
}

func (e *expander) fails() bool {
	e.calls++
	if e.deaf > 0 {
		e.deaf--
		return true
	}
	return false
}

func (e *expander) Start(ctx context.Context, outputs, levels uint16) (board.Lines, error) {
	if e.fails() || ctx.Err() != nil {
		return board.Lines{}, errNAK
	}
	found := board.Lines{Outputs: e.dir, Latch: e.latch, Pins: e.pins()}
	e.latch = levels
	e.moved()
	e.dir = outputs
	e.moved()
	return found, nil
}

func (e *expander) Write(ctx context.Context, levels uint16) error {
	e.writes++
	failing := e.fails() || ctx.Err() != nil
	if e.deafWrites > 0 {
		e.deafWrites--
		failing = true
	}
	if !failing || e.half {
		if !e.loose {
			e.latch = levels
		}
		e.loose = false
		e.moved()
	}
	if failing {
		return errNAK
	}
	return nil
}

func (e *expander) Read(ctx context.Context) (board.Lines, error) {
	failing := e.fails() || ctx.Err() != nil
	if e.deafReads > 0 {
		e.deafReads--
		failing = true
	}
	if failing {
		return board.Lines{}, errNAK
	}
	return board.Lines{Outputs: e.dir, Latch: e.latch, Pins: e.pins()}, nil
}

// brownOut is a dip of the chip's supply.
func (e *expander) brownOut() {
	e.dir, e.latch = 0, 0
	if e.high {
		e.latch = 0xffff
	}
	e.moved()
}

// rig is relays on expanders, and what came of it.
type rig struct {
	t      testing.TB
	r      *relay.Relays
	config relay.Config
	chips  []*expander
	now    time.Time
	events []relay.Event
	acks   []relay.Ack
}

const tick = 50 * time.Millisecond

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// outputs are so many outputs on the pins of one chip, changed by each of changes.
func outputs(chip string, n int, changes ...func(*relay.Output)) []relay.Output {
	var all []relay.Output
	for i := range n {
		o := relay.Output{Name: string(rune('a' + i)), Pin: board.Pin{Chip: chip, Number: i + 1}}
		for _, c := range changes {
			c(&o)
		}
		all = append(all, o)
	}
	return all
}

// newRig starts relays on one expander, io1, that powers up low.
func newRig(t testing.TB, outputs ...relay.Output) *rig {
	t.Helper()
	g := &rig{t: t, config: relay.Config{Outputs: outputs}, now: epoch}
	g.plug(&expander{name: "io1"})
	g.boot()
	return g
}

func (g *rig) plug(e *expander) {
	e.shown = e.pins()
	g.chips = append(g.chips, e)
}

// boot is a new run of the program on the chips as they are.
func (g *rig) boot(memory ...relay.Memory) {
	g.t.Helper()
	r, err := relay.New(g.config)
	if err != nil {
		g.t.Fatal(err)
	}
	g.r = r
	for _, m := range memory {
		g.r.Resume(overDisk(g.t, m), g.now)
	}
	g.start()
}

func (g *rig) start() relay.Outcome {
	var banks []board.Bank
	for _, c := range g.chips {
		banks = append(banks, c)
	}
	return g.took(g.r.Start(g.t.Context(), g.now, banks))
}

func (g *rig) took(o relay.Outcome) relay.Outcome {
	g.events = append(g.events, o.Events...)
	g.acks = append(g.acks, o.Acks...)
	return o
}

func (g *rig) do(c relay.Command) relay.Outcome {
	return g.took(g.r.Do(g.t.Context(), g.now, c))
}

// pulse commands a pulse and fails unless it is accepted.
func (g *rig) pulse(output string, d time.Duration) {
	g.t.Helper()
	g.accepted(g.do(relay.Command{Output: output, Action: relay.Pulse, For: d, Source: "rule"}))
}

func (g *rig) accepted(o relay.Outcome) {
	g.t.Helper()
	if len(o.Acks) == 0 || !slices.ContainsFunc(o.Acks, func(a relay.Ack) bool { return a.Status == relay.Accepted && !a.Again }) {
		g.t.Fatalf("not accepted: %+v", o.Acks)
	}
}

// rejected fails unless the command was rejected and nothing else, and returns why.
func (g *rig) rejected(c relay.Command) string {
	g.t.Helper()
	var all []relay.Ack
	for _, a := range g.do(c).Acks {
		if a.Command == c {
			all = append(all, a)
		}
	}
	if len(all) != 1 || all[0].Status != relay.Rejected || all[0].Reason == "" {
		g.t.Fatalf("want a rejection with a reason, got %+v", all)
	}
	return all[0].Reason
}

func (g *rig) tick() relay.Outcome { return g.took(g.r.Tick(g.t.Context(), g.now)) }

// pass lets time pass, with its ticks.
func (g *rig) pass(d time.Duration) {
	for end := g.now.Add(d); g.now.Before(end); {
		g.now = g.now.Add(min(tick, end.Sub(g.now)))
		g.tick()
	}
}

// on reports whether the line of an output of io1 is high.
func (g *rig) on(output string) bool {
	i := slices.IndexFunc(g.config.Outputs, func(o relay.Output) bool { return o.Name == output })
	return g.chips[0].pins()&(1<<(g.config.Outputs[i].Pin.Number-1)) != 0
}

func (g *rig) wantOn(output string, want bool) {
	g.t.Helper()
	if g.on(output) != want {
		g.t.Fatalf("at %s the line of %s is high: %v, want %v", g.now.Sub(epoch), output, !want, want)
	}
}

// kinds are the events so far of one output, or of chips if it is empty.
func (g *rig) kinds(output string) []relay.EventKind {
	var kinds []relay.EventKind
	for _, e := range g.events {
		if e.Output == output {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

func (g *rig) wantKinds(output string, want ...relay.EventKind) {
	g.t.Helper()
	if got := g.kinds(output); !slices.Equal(got, want) {
		g.t.Fatalf("events of %q: %v, want %v\n%+v", output, got, want, g.events)
	}
}

// statuses are the acknowledgements so far of commands with an ID, or without.
func (g *rig) statuses(id string) []relay.AckStatus {
	var all []relay.AckStatus
	for _, a := range g.acks {
		if a.Command.ID == id {
			all = append(all, a.Status)
		}
	}
	return all
}

func (g *rig) wantStatuses(id string, want ...relay.AckStatus) {
	g.t.Helper()
	if got := g.statuses(id); !slices.Equal(got, want) {
		g.t.Fatalf("acknowledgements of %q: %v, want %v\n%+v", id, got, want, g.acks)
	}
}

func (g *rig) last() relay.Ack {
	g.t.Helper()
	if len(g.acks) == 0 {
		g.t.Fatal("nothing was acknowledged")
	}
	return g.acks[len(g.acks)-1]
}

func (g *rig) status(output string) relay.Status {
	g.t.Helper()
	for _, s := range g.r.Status(g.now) {
		if s.Name == output {
			return s
		}
	}
	g.t.Fatalf("no status of %s", output)
	return relay.Status{}
}

// overDisk is the memory as it comes back from a file.
func overDisk(t testing.TB, m relay.Memory) relay.Memory {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back relay.Memory
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	return back
}
