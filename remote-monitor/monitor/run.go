package monitor

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// loop is what belongs to the one goroutine that scans, decides and acts.
type loop struct {
	*Monitor
	watch  *watch
	out    *out
	keeper *keeper
	relays *relay.Relays
	rules  *rules
	names  names
	clock  clock
	wall   func() time.Time // what the clock on the wall shows
	began  time.Time

	board   board.Board
	trouble string          // why there is no board, as it was told
	opened  time.Time       // when the board was opened
	retry   time.Time       // when to open it again
	pause   time.Duration   // before the retry after that
	chips   int             // that have outputs
	deaf    map[string]bool // those of them that do not answer
	anew    time.Duration   // the board has to be that old before it is opened anew because of them

	at       []int          // where each zone's reading was in the last scan
	readings []zone.Reading // of one scan, used again for the next
	values   []float64
	supply   supply
	low      bool // as the outputs were told

	unmeasured bool // the supply, as was told
	panicked   bool

	ref    uint64
	asked  map[uint64]bus.Command // whose end has not been told, by relay.Command.Ref
	arming []bus.Command          // that wait for the end of an exit delay

	kept     Kept
	soon     bool // something must survive
	keptAt   time.Time
	events   uint64 // for ids
	zones    []bus.ZoneState
	outputs  []bus.OutputState
	groups   []bus.GroupState
	beatAt   time.Time // next sign of life on lines and brokers
	secondAt time.Time // next look at what need not be looked at in every turn
}

// Run says that it starts, watches the site until ctx ends, and says that it stops. When it returns, the outputs are
// in their safe states, as far as the hardware obeys. It fails if the configuration makes no sense, if Emit fails or
// never returns, and after a panic in the loop.
func (m *Monitor) Run(ctx context.Context) error {
	m.init()
	l, err := m.newLoop()
	if err != nil {
		return err
	}
	ctx, stuck := context.WithCancelCause(ctx)
	defer stuck(nil)
	watching, unwatch := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { m.guard(watching, l.watch, stuck) })
	go l.out.run()    // awaited by stop, for as long as that may take
	go l.keeper.run() // the same

	err = l.run(ctx)
	err = errors.Join(err, l.stop(context.Cause(ctx), err))
	unwatch()
	wg.Wait()
	return err
}

func (m *Monitor) newLoop() (*loop, error) {
	c := m.Config
	now := time.Now()
	l := &loop{
		Monitor: m, watch: newWatch(m.Late), out: newOut(m.Emit), keeper: newKeeper(m.State, m.Log),
		clock: clock{zone: c.TimeZone}, wall: time.Now, began: now, names: newNames(c),
		at: make([]int, len(c.Zones)+1), readings: make([]zone.Reading, len(c.Zones)), values: make([]float64, len(c.Zones)),
		asked: map[uint64]bus.Command{}, deaf: map[string]bool{},
		zones: make([]bus.ZoneState, len(c.Zones)), outputs: make([]bus.OutputState, len(c.Outputs)),
		groups: make([]bus.GroupState, len(c.Site.Groups)),
		beatAt: now.Add(c.Heartbeat),
	}
	if l.clock.zone == nil {
		l.clock.zone = time.Local
	}
	chips := map[string]bool{}
	for _, o := range c.Relay.Outputs {
		chips[o.Pin.Chip] = true
	}
	l.chips = len(chips)
	l.rules = newRules(c.Rules, l.clock.zone)
	var err error
	if l.relays, err = relay.New(c.Relay); err != nil {
		return nil, fmt.Errorf("set up the outputs: %w", err)
	}
	l.relays.Save = l.keepOutputs
	t, _ := l.clock.now(now, 0)
	panel, err := zone.New(c.Site, t)
	if err != nil {
		return nil, fmt.Errorf("set up the zones: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen.started, m.seen.panel, m.seen.ended = now, panel, false
	return l, nil
}

// run turns until ctx ends. A panic becomes its error, after the outputs are safe.
func (l *loop) run(ctx context.Context) (err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		stack := debug.Stack()
		reason := fmt.Sprintf("panic: %v", v)
		l.panicked = true
		l.safe(reason)
		l.Log.Error("the loop panicked; the outputs are safe and the process ends", "panic", v, "stack", string(stack))
		if l.Panicked != nil {
			l.Panicked(v, stack)
		}
		err = fmt.Errorf("the loop ended by a %s", reason)
	}()

	l.start(ctx)
	tick := time.NewTicker(l.interval())
	defer tick.Stop()
	off := time.NewTimer(time.Hour) // when an output goes off by itself, which need not wait for the next scan
	defer off.Stop()
	l.turn(ctx, time.Now())
	for {
		l.keep(false)
		if next := l.relays.Next(); !next.IsZero() {
			off.Reset(max(time.Until(next), 0))
		}
		l.watch.expect(l.interval())
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); errors.Is(cause, errStuck) {
				return cause
			}
			return nil
		case err := <-l.out.fails:
			return err
		case due := <-tick.C:
			l.watch.expect(0)
			l.turn(ctx, due)
		case <-off.C:
			l.watch.expect(0)
			l.outcome(l.relays.Tick(ctx, time.Now()))
		case c := <-l.commands:
			l.watch.expect(0)
			l.follow(ctx, c)
		}
	}
}

func (l *loop) interval() time.Duration {
	if l.Config.Interval > 0 {
		return l.Config.Interval
	}
	return 50 * time.Millisecond
}

// start says hello and remembers what was before.
func (l *loop) start(ctx context.Context) {
	l.watch.expect(openWithin) // the disk may be slow, too
	zones := len(l.Config.Zones)
	now := time.Now()
	l.out.say(now, Line{Time: now.UTC(), Event: Start, Version: l.Version, Device: l.Config.Device, Zones: &zones, Reason: l.Greeting})
	kept, err := l.State.Load()
	if err != nil {
		l.Log.Warn("nothing is remembered from before", "err", err)
	}
	l.kept = kept
	if l.kept.Asked == nil {
		l.kept.Asked = map[string]Answered{}
	}
	if kept.Version != 0 {
		l.relays.Resume(kept.Outputs, now)
	}
	l.open(ctx, now) // before the zones tell what stood: a rule may want an output

	t := l.now(ctx)
	var events []zone.Event
	if kept.Version != 0 {
		l.withPanel(func(p *zone.Panel) { events = p.Resume(kept.Zones, t) })
	}
	l.happened(ctx, t, events)
	l.publish(time.Now(), t, false)
}

// stop makes the outputs safe before anything else, says so, and takes at most stopWithin for it if the hardware
// obeys. Broken is what ended the loop, if it was not the end of the context.
func (l *loop) stop(cause, broken error) error {
	began := time.Now()
	l.watch.expect(stopWithin + rescueIn)
	reason := "stopped"
	switch {
	case broken != nil:
		reason = broken.Error()
	case cause != nil:
		reason = cause.Error()
	}
	safe := l.safe(reason)

	now := time.Now()
	l.outcome(safe)
	l.mu.Lock()
	l.seen.ended = true
	l.mu.Unlock()
	for len(l.commands) > 0 {
		c := <-l.commands
		c.Answer(rejected(c.Command, now, "the monitor is stopping"))
	}
	for _, c := range l.arming {
		c.Answer(bus.Ack{ID: c.ID, Group: c.Group, Status: string(relay.Failed), Reason: "the monitor is stopping", Time: now.UTC()})
	}
	l.arming = nil
	l.lookAtOutputs(now)
	if !l.panicked { // what a broken loop remembers is worth less than what is on the disk
		l.keep(true)
	}
	l.out.say(now, Line{Time: now.UTC(), Event: Stop, Reason: reason})

	var err error
	if l.board != nil {
		if e := l.close(); e != nil {
			err = fmt.Errorf("close the board: %w", e)
		}
	}
	l.keeper.end()
	l.out.end()
	// Both have been writing all the while; whoever is slow leaves the other a moment.
	err = errors.Join(l.out.wait(max(stopWithin-time.Since(began), lastMoment)), err)
	l.keeper.wait(max(stopWithin-time.Since(began), lastMoment))
	return err
}

// safe turns all outputs to their safe states, by the second way if the first does not work.
func (l *loop) safe(reason string) (o relay.Outcome) {
	defer func() {
		if v := recover(); v != nil {
			l.Log.Error("the outputs could not be made safe by the loop", "panic", v)
			l.rescue(reason)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin*6/10)
	defer cancel()
	o = l.relays.Safe(ctx, time.Now(), reason)
	if l.astray(nil) {
		l.rescue(reason)
	}
	return o
}

// astray says whether an output was last seen away from its safe state, on one of some chips or, if they are nil, any.
func (l *loop) astray(chips map[string]bool) bool {
	for i, s := range l.relays.Status(time.Now()) {
		o := l.Config.Relay.Outputs[i]
		if !s.Since.IsZero() && s.On != o.SafeOn && (chips == nil || chips[o.Pin.Chip]) {
			return true
		}
	}
	return false
}

// withPanel lets f use the zones while nobody else looks at them.
func (l *loop) withPanel(f func(*zone.Panel)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.seen.panel)
}

// now is the time of the zones. When the wall clock was set, all that they remember moves along: a delay that runs would
// else end at once, or never.
func (l *loop) now(ctx context.Context) time.Time {
	t, set := l.clock.now(l.wall(), time.Since(l.began))
	if set == 0 {
		return t
	}
	l.Log.Warn("the clock was set", "by", set)
	var events []zone.Event
	l.withPanel(func(p *zone.Panel) { events = p.ClockSet(t, set) })
	l.soon = true
	l.happened(ctx, t, events)
	return t
}
