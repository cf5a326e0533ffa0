package monitor_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

func TestAChangeOnAWireIsAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		stop := start(t, watching(b, s))
		b.set(func() {})
		b.walk(2)
		b.set(func() { b.percent[1] = open })
		pass(15 * time.Second)
		if err := stop(); err != nil {
			t.Error(err)
		}
		want := []string{"start", "motion door", "alarm door", "still door", "tamper hall", "restore door", "stop"}
		if d := cmp.Diff(want, s.since(0)); d != "" {
			t.Error(d)
		}
		if e := s.events("alarm")[0]; *e.Percent != 51 || *e.Volts != 2.55 || e.Reason == "" || e.ID == "" {
			t.Errorf("got %+v", e)
		}
		if b.count(&b.opened) != 1 || b.count(&b.closed) != 1 {
			t.Errorf("the board was opened %d times and closed %d times", b.count(&b.opened), b.count(&b.closed))
		}
	})
}

func TestTheBoardIsScannedTwentyTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m := watching(b, &said{})
		stop := start(t, m)
		pass(10*time.Second + time.Millisecond)
		s := m.Snapshot()
		stop()
		if b.count(&b.scans) != 201 || s.Scans != 201 { // one of them at once
			t.Errorf("%d scans in ten seconds, %d counted", b.count(&b.scans), s.Scans)
		}
	})
}

func TestABoardThatGoesAwayIsSaidOnceAndUsedAgainWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		m := watching(b, s)
		stop := start(t, m)
		pass(time.Minute)
		b.set(func() { b.away = errors.New("no such device") })
		pass(10 * time.Minute)
		if d := cmp.Diff([]string{"start", "fault", "fault hall", "fault door"}, slices.DeleteFunc(s.since(0), isBeat)); d != "" {
			t.Error(d)
		}
		if e := s.events("fault")[0]; e.Reason != "no such device" {
			t.Errorf("got %+v", e)
		}
		if beats := s.own("heartbeat"); len(beats) != 10 || beats[9].Reason != "no such device" {
			t.Errorf("heartbeats: %+v", beats)
		}
		if b.count(&b.tries) < 10 || b.count(&b.tries) > 20 {
			t.Errorf("the board was tried %d times in ten minutes", b.count(&b.tries))
		}
		if v := m.Snapshot(); v.Healthy || v.Trouble != "no such device" || v.Zones[0].State != zone.Unfit {
			t.Errorf("healthy %v, trouble %q, hall %s", v.Healthy, v.Trouble, v.Zones[0].State)
		}
		n := len(s.since(0))
		b.set(func() { b.away = nil })
		pass(time.Minute)
		stop()
		if d := cmp.Diff([]string{"restore", "restore hall", "restore door", "stop"}, slices.DeleteFunc(s.since(n), isBeat)); d != "" {
			t.Error(d)
		}
		if b.count(&b.opened) != 2 || b.count(&b.closed) != 2 {
			t.Errorf("the board was opened %d times and closed %d times", b.count(&b.opened), b.count(&b.closed))
		}
	})
}

func isBeat(line string) bool { return line == "heartbeat" }

func TestAnInputThatCannotBeReadIsAFaultOfItsZoneAndOneAtTheEndOfItsRangeIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		delete(b.percent, 2)
		b.quality[1] = board.Saturated
		m := watching(b, s)
		stop := start(t, m)
		pass(4 * time.Second)
		if v := m.Snapshot(); v.Unhealthy != "Door cannot be read" {
			t.Errorf("unhealthy: %q", v.Unhealthy)
		}
		b.set(func() { b.quality[1] = board.NAK })
		pass(4 * time.Second)
		stop()
		if d := cmp.Diff([]string{"start", "fault door", "fault hall", "stop"}, s.since(0)); d != "" {
			t.Fatal(d)
		}
		f := s.events("fault")
		if f[0].Reason != "the board has no input adc1:2" || f[1].Reason != "no answer from 0x68" {
			t.Errorf("got %q and %q", f[0].Reason, f[1].Reason)
		}
	})
}

func TestAnInvertedLineIsActiveWhenItIsLow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		m := watching(b, s)
		m.Config.Zones[0].Invert = true
		m.Config.Site.Zones[0].Signal = zone.Contact // the bench has no lines: what it reads is low
		stop := start(t, m)
		pass(time.Second)
		if v := m.Snapshot(); !v.Zones[0].Motion || v.Zones[1].Motion {
			t.Errorf("motion: hall %v, door %v", v.Zones[0].Motion, v.Zones[1].Motion)
		}
		stop()
	})
}

func TestAHeartbeatSaysWhatIsNotNormal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		m := watching(b, s)
		k := newBroker(&b.journal)
		m.Brokers = []bus.Broker{k}
		stop := start(t, m)
		pass(62 * time.Second)
		b.set(func() { b.percent[2] = open })
		pass(62 * time.Second)
		stop()
		var got []string
		for _, l := range s.own("heartbeat") {
			got = append(got, l.Reason)
		}
		if d := cmp.Diff([]string{"all zones are normal", "Door: tamper"}, got); d != "" {
			t.Error(d)
		}
		if k.beats != 2 {
			t.Errorf("the broker got %d heartbeats", k.beats)
		}
	})
}

func TestAnEventThatCannotBeSaidEndsTheMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		stop := start(t, watching(b, s))
		b.set(func() {})
		s.mu.Lock()
		s.fail = errors.New("broken pipe")
		s.mu.Unlock()
		b.walk(2)
		pass(time.Second)
		if b.count(&b.closed) != 1 {
			t.Error("the board was not closed")
		}
		if err := stop(); !errors.Is(err, s.fail) {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestTheLightGoesOnInTheTurnThatSeesMotionAndBeforeAnybodyIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		m := watching(b, s)
		m.Brokers = []bus.Broker{newBroker(&b.journal)}
		stop := start(t, m)
		pass(time.Second)
		began := len(b.journal.all())
		b.set(func() { b.percent[1] = active })
		pass(time.Second)
		motion := s.events("motion")
		if len(motion) != 1 {
			t.Fatalf("%d motions", len(motion))
		}
		told := b.journal.all()[began:]
		want := []string{"write 0001", "zone hall normal motion=true", "output light on=true", "event on"}
		if d := cmp.Diff(want, slices.DeleteFunc(told, func(s string) bool { return !slices.Contains(want, s) })); d != "" {
			t.Error(d)
		}
		// The scan that decided is the one whose time the event has, and time has not passed since: it is the same turn.
		if on := s.events("on"); len(on) != 1 || on[0].Time.Sub(motion[0].Time) != 0 || on[0].Output != "light" {
			t.Errorf("motion %v, on %+v", motion[0].Time, on)
		}
		pass(10 * time.Second)
		off := s.events("off")
		if len(off) != 1 || off[0].Seconds != 10 {
			t.Errorf("off: %+v", off)
		}
		stop()
	})
}

func TestAMonitorIsUnhealthyWhenABrokerIsAwayForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m := watching(b, &said{})
		k := newBroker(&b.journal)
		k.health = bus.Health{Name: "mqtt", Trouble: "connection refused"} // never connected
		m.Brokers = []bus.Broker{k}
		type beat struct {
			healthy bool
			status  string
		}
		var mu sync.Mutex
		var heard []beat
		m.Beat = func(_ time.Time, healthy bool, status string) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, beat{healthy, status})
		}
		beats := func() []beat {
			mu.Lock()
			defer mu.Unlock()
			return heard
		}
		if v := m.Snapshot(); v.Healthy {
			t.Error("it is healthy before it runs")
		}
		stop := start(t, m)
		pass(9 * time.Minute)
		all := beats()
		if v := m.Snapshot(); !v.Healthy || !all[len(all)-1].healthy || v.Brokers[0].Trouble == "" {
			t.Errorf("%q after nine minutes: %+v", v.Unhealthy, all[len(all)-1])
		}
		if len(all) < 530 || len(all) > 550 {
			t.Errorf("%d beats in nine minutes", len(all))
		}
		pass(2 * time.Minute)
		all = beats()
		last := all[len(all)-1]
		if v := m.Snapshot(); v.Healthy || last.healthy || !strings.Contains(last.status, "mqtt has been away") {
			t.Errorf("%q after eleven minutes: %+v", v.Unhealthy, last)
		}
		stop()
	})
}

func TestASnapshotSharesNothingWithTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m := watching(b, &said{})
		m.Config.Site.Zones[1].Policy = zone.Single
		m.Config.Site.Zones[1].SwingerAfter = -1
		stop := start(t, m)
		for range 120 {
			b.walk(2)
			pass(80 * time.Second)
		}
		s := m.Snapshot()
		if len(s.Events) != 200 || len(s.Zones) != 2 || len(s.Outputs) != 2 || len(s.Groups) != 1 {
			t.Fatalf("%d events, %d zones, %d outputs, %d groups", len(s.Events), len(s.Zones), len(s.Outputs), len(s.Groups))
		}
		if s.Events[0].Time.Before(s.Events[1].Time) || time.Since(s.Events[0].Time) > 3*time.Minute {
			t.Errorf("the newest is %v, and then %v", s.Events[0].Time, s.Events[1].Time)
		}
		if z := s.Zones[1]; z.ID != "door" || z.Type != "Motion Detector" || z.Pin != adc(2) || !z.Known {
			t.Errorf("got %+v", z)
		}
		if o := s.Outputs[1]; o.ID != "gate" || o.Label != "Gate" || o.Pin != io(2) || !o.Momentary {
			t.Errorf("got %+v", o)
		}
		s.Events[0].Reason = "changed"
		s.Zones[1].Thresholds[0].Name = "changed"
		again := m.Snapshot()
		if slices.ContainsFunc(again.Events, func(e bus.Event) bool { return e.Reason == "changed" }) || again.Zones[1].Thresholds[0].Name == "changed" {
			t.Error("a change of a snapshot is seen in the next")
		}
		stop()
	})
}

func TestFramesAreTheLastMinuteFromAPositionOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m := watching(b, &said{})
		if f, at := m.Frames(0); len(f) != 0 || at != 0 {
			t.Errorf("%d frames at %d before it runs", len(f), at)
		}
		stop := start(t, m)
		pass(5*time.Second + time.Millisecond)
		f, at := m.Frames(0)
		if len(f) != 101 || at != 101 || math.Round(f[0].Values[0]) != 29 {
			t.Fatalf("%d frames, position %d", len(f), at)
		}
		b.set(func() { b.percent[1], b.quality[2] = 51, board.NAK })
		f, at = m.Frames(at)
		if len(f) != 2 || at != 103 || math.Round(f[1].Values[0]) != 51 || !math.IsNaN(f[1].Values[1]) {
			t.Fatalf("%d frames, position %d, %+v", len(f), at, f)
		}
		f[1].Values[0] = 0
		if f, _ := m.Frames(at - 1); math.Round(f[0].Values[0]) != 51 {
			t.Error("a change of a frame is seen in the next")
		}
		pass(2 * time.Minute)
		if f, at = m.Frames(3); len(f) != 1201 || at != 103+2400 || !f[0].Time.Before(f[1200].Time) {
			t.Errorf("%d frames, position %d", len(f), at)
		}
		if f, _ = m.Frames(at); len(f) != 0 {
			t.Errorf("%d frames after the last", len(f))
		}
		if f, _ = m.Frames(1 << 60); len(f) != 1201 {
			t.Errorf("%d frames after a position of another life", len(f))
		}
		stop()
	})
}

func TestObserversAreToldOfAllThatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		s := &said{}
		m := watching(b, s)
		m.Config.Site.Zones[1].Sensitivity = zone.Low
		o := &observer{}
		m.Observers = []monitor.Observer{o}
		stop := start(t, m)
		pass(time.Second)
		b.walk(1)
		b.walk(2)
		pass(2 * time.Minute)
		stop()
		for _, want := range []string{"zone motion", "zone suppressed", "output on", "output off", "ack accepted", "ack done"} {
			if !slices.Contains(o.seen, want) {
				t.Errorf("no %q in %q", want, o.seen)
			}
		}
		if told := s.events("suppressed"); len(told) > 0 {
			t.Errorf("lines tell what came to nothing: %+v", told)
		}
		if o.scans < b.count(&b.scans)-1 { // the stop may have come during the last
			t.Errorf("%d scans of %d", o.scans, b.count(&b.scans))
		}
	})
}

type observer struct {
	seen  []string
	scans int
}

func (o *observer) Scanned(_, _ time.Duration, r []board.Reading) {
	if len(r) == 2 {
		o.scans++
	}
}
func (o *observer) Zone(e zone.Event)    { o.seen = append(o.seen, "zone "+string(e.Kind)) }
func (o *observer) Output(e relay.Event) { o.seen = append(o.seen, "output "+string(e.Kind)) }
func (o *observer) Ack(a relay.Ack)      { o.seen = append(o.seen, "ack "+string(a.Status)) }

func TestAConfigurationThatMakesNoSenseIsSaidAtOnce(t *testing.T) {
	m := watching(newBench(), &said{})
	m.Config.Site.Zones[1].Name = "Hall"
	if err := m.Run(context.Background()); err == nil || !strings.Contains(err.Error(), `two zones "Hall"`) {
		t.Errorf("got %v", err)
	}
	m = watching(newBench(), &said{})
	m.Config.Relay.Outputs[0].MaxOn = 2 * time.Hour
	if err := m.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "max_on") {
		t.Errorf("got %v", err)
	}
}
