package monitor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Pauses between two attempts to open a board.
const (
	firstPause  = time.Second
	longPause   = time.Minute
	urgentPause = 2 * time.Second  // while an output is on that nothing can turn off
	anewFirst   = 10 * time.Second // age of a board that is opened anew because a chip with outputs does not answer
	anewLast    = 10 * time.Minute // grows to this while it does not help: other outputs go off by it
)

// turn is one round of the loop: scan, decide, act, tell. Due is when it should have begun.
func (l *loop) turn(ctx context.Context, due time.Time) {
	began := time.Now()
	lag := began.Sub(due)
	readings, ok := l.scan(ctx)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	took := now.Sub(began)
	t := l.now(ctx)
	scan := zone.Scan{Time: t, Readings: l.read(now, readings, ok)}
	scan.Supply = l.supply.volts
	for i, r := range scan.Readings {
		l.values[i] = l.percent(i, r)
	}

	if l.OnScan != nil {
		l.OnScan(scan)
	}
	var events []zone.Event
	l.mu.Lock()
	func() {
		defer l.mu.Unlock() // also if a zone panics
		l.seen.scanned(now, lag, took, ok, scan, l.values)
		events = l.seen.panel.Feed(scan)
	}()
	l.happened(ctx, t, events)
	l.watchSupply(now)
	l.outcome(l.relays.Tick(ctx, time.Now()))

	if ok {
		for _, o := range l.Observers {
			o.Scanned(took, lag, readings)
		}
	}
	if !now.Before(l.secondAt) {
		l.secondAt = now.Add(time.Second)
		l.second(now, t)
	}
}

// scan reads the board, or tries to get it back.
func (l *loop) scan(ctx context.Context) (readings []board.Reading, ok bool) {
	now := time.Now()
	if l.board != nil && l.hopeless(now) {
		l.anew = min(2*l.anew, anewLast)
		l.lose(ctx, now, errors.New("a chip with outputs does not answer: the board is opened anew"))
	}
	if l.board == nil && !l.open(ctx, now) {
		return nil, false
	}
	// A scan may take as long as the configuration gives it; only what comes on top is late.
	l.watch.expect(l.interval())
	defer l.watch.expect(0)
	within, cancel := context.WithTimeout(ctx, l.interval()+l.Late*3/4)
	defer cancel()
	readings, err := l.board.Scan(within)
	if ctx.Err() != nil {
		return nil, false
	}
	if err != nil {
		l.lose(ctx, time.Now(), err)
		return nil, false
	}
	if l.trouble != "" {
		l.trouble = ""
		l.aboutSite(time.Now(), Restore, "the board answers: "+l.board.Name())
	}
	return readings, true
}

// hopeless says that only a new handle of the bus may help: an output may be on that cannot be turned off, or none can
// be used.
func (l *loop) hopeless(now time.Time) bool {
	if len(l.deaf) == 0 {
		l.anew = anewFirst
		return false
	}
	return now.Sub(l.opened) >= l.anew && (len(l.deaf) == l.chips || l.astray(l.deaf))
}

// open makes the board ready when it is time to try again, and its outputs safe.
func (l *loop) open(ctx context.Context, now time.Time) bool {
	if now.Before(l.retry) {
		return false
	}
	l.watch.expect(openWithin)
	defer l.watch.expect(0)
	within, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	b, err := l.Open(within)
	if err != nil {
		l.away(ctx, time.Now(), err)
		return false
	}
	l.board, l.opened = b, time.Now()
	l.mu.Lock()
	l.seen.board = b.Name()
	l.mu.Unlock()
	levels := safe(b.Banks(), l.Config.Relay.Outputs)
	l.safeLevels.Store(&levels)
	l.outcome(l.relays.Start(ctx, time.Now(), b.Banks()))
	l.lookAtOutputs(time.Now())
	return true
}

// close lets go of the board.
func (l *loop) close() error {
	l.safeLevels.Store(nil)
	b := l.board
	l.board = nil
	return b.Close()
}

// lose lets go of a board that is away. The next attempt comes at once: an output may be on.
func (l *loop) lose(ctx context.Context, now time.Time, err error) {
	err = errors.Join(err, l.close())
	l.outcome(l.relays.Lost(now, oneLine(err)))
	l.away(ctx, now, err)
	l.lookAtOutputs(now)
	if now.Sub(l.opened) >= anewFirst {
		l.pause, l.retry = 0, now
	}
}

// away plans the next attempt and says why there is no board, once for each reason.
func (l *loop) away(ctx context.Context, now time.Time, err error) {
	if ctx.Err() != nil {
		return
	}
	l.pause = min(max(2*l.pause, firstPause), longPause)
	wait := l.pause
	if l.astray(nil) {
		wait = min(wait, urgentPause)
	}
	l.retry = now.Add(wait)
	reason := oneLine(err)
	if reason == l.trouble {
		return
	}
	l.trouble = reason
	l.aboutSite(now, Fault, reason)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// read makes of the board's readings those of the zones. A zone the board has none for is told so.
func (l *loop) read(now time.Time, readings []board.Reading, ok bool) []zone.Reading {
	for i, z := range l.Config.Zones {
		r := zone.Reading{Zone: i}
		switch in := l.find(i, z.Pin, readings); {
		case !ok && l.trouble == "":
			r.Unknown = "the board is not ready"
		case !ok:
			r.Unknown = l.trouble
		case in == nil:
			r.Unknown = "the board has no input " + z.Pin.String()
		case unknown(in) != "":
			r.Unknown = unknown(in)
		default:
			r.Volts, r.Active = in.Volts, in.Active != z.Invert
		}
		l.readings[i] = r
	}
	if pin := l.Config.Supply; ok && pin != (board.Pin{}) {
		scale := l.Config.SupplyScale
		if scale == 0 {
			scale = 1
		}
		switch in := l.find(len(l.Config.Zones), pin, readings); {
		case in == nil:
			l.supply.measured(now, 0, "the board has no input "+pin.String())
		case unknown(in) != "":
			l.supply.measured(now, 0, unknown(in))
		default:
			l.supply.measured(now, max(in.Volts*scale, 0.001), "") // 0 is a supply that is not measured
		}
	}
	return l.readings
}

// unknown is why a reading says nothing. One at the end of the converter's range does say something.
func unknown(r *board.Reading) string {
	if r.Unknown != "" || r.Quality == board.Good || r.Quality == board.Saturated {
		return r.Unknown
	}
	return "the input cannot be read: " + string(r.Quality)
}

// find returns the reading of a pin, which is mostly where it was in the last scan.
func (l *loop) find(slot int, pin board.Pin, readings []board.Reading) *board.Reading {
	if i := l.at[slot]; i < len(readings) && readings[i].Pin == pin {
		return &readings[i]
	}
	for i := range readings {
		if readings[i].Pin == pin {
			l.at[slot] = i
			return &readings[i]
		}
	}
	return nil
}

// percent is what a picture of the signal shows: the reading itself, before any filter.
func (l *loop) percent(i int, r zone.Reading) float64 {
	switch s := l.Config.Site.Zones[i].Signal; {
	case r.Unknown != "":
		return math.NaN()
	case (s == zone.Contact || s == zone.Edges) && r.Active:
		return 100
	case s == zone.Contact || s == zone.Edges:
		return 0
	}
	volts := l.supply.volts
	if volts == 0 {
		volts = l.nominal()
	}
	return r.Volts / volts * 100
}

func (l *loop) nominal() float64 {
	if l.Config.Site.Supply > 0 {
		return l.Config.Site.Supply
	}
	return board.FullScale
}

// watchSupply keeps outputs from going on while the supply is too low for their relays.
func (l *loop) watchSupply(now time.Time) {
	if l.Undervoltage != nil && now.Sub(l.supply.underAsked) >= underEvery {
		l.supply.underAsked = now
		l.supply.under = l.Undervoltage()
	}
	if lost := l.supply.unknown != ""; lost != l.unmeasured {
		l.unmeasured = lost
		if lost {
			l.aboutSite(now, Fault, "the supply of the loops cannot be measured, and is taken to be what it should be: "+l.supply.unknown)
		} else {
			l.aboutSite(now, Restore, "the supply of the loops is measured again")
		}
	}
	was := l.low
	l.low = l.supply.judge(l.nominal())
	if l.low == was {
		return
	}
	l.relays.Brownout(l.low)
	switch {
	case !l.low:
		l.aboutSite(now, Restore, "the supply is good again")
	case l.supply.low:
		l.aboutSite(now, Fault, fmt.Sprintf("the supply of the loops is at %.2f V: no output goes on until it is back", l.supply.volts))
	default:
		l.aboutSite(now, Fault, "the computer's supply is too low: no output goes on until it is back")
	}
}

// happened acts on events of zones and groups, and only then tells of them.
func (l *loop) happened(ctx context.Context, t time.Time, events []zone.Event) {
	if len(events) == 0 {
		return
	}
	var groups []zone.GroupStatus
	l.withPanel(func(p *zone.Panel) { groups = p.Groups(t) })
	var outcomes []relay.Outcome
	for _, e := range events {
		if t.Sub(e.Time) > relay.DefaultTTL {
			continue // a deadline that passed while nothing could be done: nobody expects the light now
		}
		for _, wish := range l.rules.decide(e, groups) {
			outcomes = append(outcomes, l.relays.Do(ctx, time.Now(), wish))
		}
	}
	for _, e := range events {
		l.told(e)
	}
	for _, o := range outcomes {
		l.outcome(o)
	}
	l.publish(time.Now(), t, false)
}
