package monitor_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/bus"
)

func TestALineThatNobodyReadsHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m := watching(b, nil)
		read := make(chan struct{})
		m.Emit = func(any) error { <-read; return nil }
		stop := start(t, m)
		pass(time.Second)
		b.set(func() { b.percent[1] = active })
		b.set(func() {})
		if !b.on(1) {
			t.Error("the light is off")
		}
		began := time.Now()
		err := stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the stop took %v", took)
		}
		if err == nil || !strings.Contains(err.Error(), "nobody reads") {
			t.Errorf("it ended with %v", err)
		}
		if b.on(1) {
			t.Error("the light is on after the stop")
		}
		close(read)
	})
}

func TestLinesThatWereLostAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		m := watching(b, s)
		m.Config.Heartbeat = time.Second
		gate := make(chan struct{})
		m.Emit = func(l any) error { <-gate; return s.emit(l) }
		stop := start(t, m)
		pass(20*time.Minute + 500*time.Millisecond)
		close(gate)
		pass(2 * time.Second)
		stop()
		lost := s.own("lost")
		if len(lost) != 1 || lost[0].Reason != fmt.Sprintf("%d lines are missing here: nobody read them", 1+1200-1025) {
			t.Errorf("got %+v", lost)
		}
	})
}

func TestAStopMakesTheOutputsSafeBeforeAnythingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		m := watching(b, s)
		k := newBroker(&b.journal)
		m.Brokers = []bus.Broker{k}
		stop := start(t, m)
		pass(time.Second)
		b.set(func() { b.percent[1] = active })
		pass(time.Second)
		a := ask(m, bus.Command{Output: "gate", Action: "pulse", For: 5 * time.Second})
		pass(time.Second)
		before := len(b.journal.all())
		if err := stop(); err != nil {
			t.Error(err)
		}
		after := b.journal.all()[before:]
		if len(after) < 3 || after[0] != "write 0000" {
			t.Fatalf("got %q", after)
		}
		if slices.Contains(after[1:], "write 0000") {
			t.Errorf("the chip was written more than once: %q", after)
		}
		if !slices.Contains(after, "output light on=false") || !slices.Contains(after, "output gate on=false") {
			t.Errorf("brokers were not told: %q", after)
		}
		lines := s.since(0)
		if d := cmp.Diff([]string{"forced_off light", "forced_off gate", "stop"}, lines[len(lines)-3:]); d != "" {
			t.Error(d)
		}
		if last := s.own("stop"); last[0].Reason != "terminated signal received" {
			t.Errorf("it stopped because %q", last[0].Reason)
		}
		if d := cmp.Diff([]string{"accepted", "forced_off"}, a.statuses()); d != "" {
			t.Error(d)
		}
		late := ask(m, bus.Command{Output: "gate", Action: "pulse"})
		if d := cmp.Diff([]string{"rejected"}, late.statuses()); d != "" {
			t.Error(d)
		}
	})
}

func TestAScanThatHangsMakesTheOutputsSafeAndEndsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		m := watching(b, s)
		var rescued string
		var code int
		var ended time.Time
		m.Rescue = func(reason string) { rescued = reason }
		m.Exit = func(c int) { code, ended = c, time.Now() }
		stop := start(t, m)
		pass(time.Second)
		b.set(func() { b.percent[1] = active })
		pass(time.Second)
		hang := make(chan struct{})
		b.set(func() { b.hang = hang })
		hung := time.Now()
		pass(1500 * time.Millisecond)
		if !b.on(1) {
			t.Fatal("the light is off before the loop is late")
		}
		pass(1500 * time.Millisecond)
		if b.on(1) {
			t.Error("the light is still on")
		}
		if code != 1 || rescued == "" || ended.Sub(hung) > 2500*time.Millisecond {
			t.Errorf("exit code %d after %v, rescued because %q", code, ended.Sub(hung), rescued)
		}
		if v := m.Snapshot(); v.Healthy {
			t.Error("a monitor that hangs says it is healthy")
		}
		close(hang)
		if err := stop(); err == nil || !strings.Contains(err.Error(), "stuck") {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestTheOutputsAreMadeSafeAlsoWhileTheZonesHang(t *testing.T) {
	b, s := newBench(), &said{}
	m := watching(b, s)
	turn, stop, err := m.Turns(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	turn()
	rescued := make(chan string, 1)
	m.Rescue = func(reason string) { rescued <- reason }
	letGo := m.Hold() // as a turn does that never comes back from the zones
	defer letGo()
	go m.MakeSafe("it hangs")
	select {
	case <-rescued:
	case <-time.After(10 * time.Second):
		t.Error("nobody made the outputs safe")
	}
}

func TestAStopThatCannotReachAChipIsTriedByTheOtherWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m := watching(b, &said{})
		rescued, forever := make(chan string, 9), make(chan struct{})
		defer close(forever)
		m.Rescue = func(reason string) {
			rescued <- reason
			<-forever
		}
		stop := start(t, m)
		pass(time.Second)
		ask(m, bus.Command{Output: "gate", Action: "pulse", For: 5 * time.Second})
		b.set(func() {})
		b.set(func() { b.deaf = errors.New("remote I/O error") })
		began := time.Now()
		_ = stop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the stop took %v", took)
		}
		if len(rescued) != 1 {
			t.Errorf("rescued %d times", len(rescued))
		}
	})
}

func TestASlowScanIsNoReasonToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m := watching(b, &said{})
		m.Config.Interval = 3 * time.Second // longer than the loop may be late
		exits := 0
		m.Exit = func(int) { exits++ }
		stop := start(t, m)
		pass(30 * time.Second)
		hang := make(chan struct{})
		b.set(func() { b.hang = hang })
		pass(3 * time.Second) // the scan has begun
		pass(4 * time.Second)
		close(hang)
		pass(10 * time.Second)
		if err := stop(); err != nil || exits > 0 {
			t.Errorf("%v, %d exits", err, exits)
		}
	})
}

func TestAPanicInTheLoopMakesTheOutputsSafeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		m := watching(b, s)
		var told any
		on := true
		m.Panicked = func(v any, stack []byte) { told, on = v, b.on(1) }
		stop := start(t, m)
		pass(time.Second)
		b.walk(1)
		if !b.on(1) {
			t.Fatal("the light is off")
		}
		b.set(func() { b.crash = "out of range" })
		err := stop()
		if err == nil || !strings.Contains(err.Error(), "panic: out of range") {
			t.Errorf("it ended with %v", err)
		}
		if told != "out of range" || on || b.on(1) {
			t.Errorf("told %v while the light was on: %v; it is on: %v", told, on, b.on(1))
		}
		if lines := s.own("stop"); len(lines) != 1 || !strings.Contains(lines[0].Reason, "panic") {
			t.Errorf("stop lines: %+v", lines)
		}
	})
}

func TestABoardThatGoesAwayWhileAnOutputIsOnIsTriedUntilItIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		m := watching(b, s)
		stop := start(t, m)
		pass(time.Minute)
		a := ask(m, bus.Command{Output: "light", Action: "pulse", For: 30 * time.Second})
		b.set(func() {})
		b.set(func() { b.away = errors.New("no such device") })
		pass(5 * time.Minute)
		if !b.on(1) {
			t.Fatal("nobody could have turned the light off")
		}
		tries := b.count(&b.tries)
		pass(time.Minute)
		if n := b.count(&b.tries) - tries; n < 25 {
			t.Errorf("the board was tried %d times in a minute while an output was on", n)
		}
		b.set(func() { b.away = nil })
		pass(3 * time.Second)
		if b.on(1) {
			t.Error("the light is on although the board is back")
		}
		if got := a.statuses(); len(got) != 2 || got[0] != "accepted" || got[1] != "failed" && got[1] != "forced_off" {
			t.Errorf("answers: %q", got)
		}
		if len(s.events("output_unconfirmed")) < 10 {
			t.Errorf("%d reminders", len(s.events("output_unconfirmed")))
		}
		stop()
	})
}

func TestAChipThatDoesNotAnswerIsTriedOverANewHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m := watching(b, &said{})
		stop := start(t, m)
		pass(time.Minute)
		b.set(func() { b.deaf = errors.New("remote I/O error") })
		pass(30 * time.Second)
		if b.count(&b.opened) < 2 || b.count(&b.opened) > 4 {
			t.Errorf("the board was opened %d times in half a minute", b.count(&b.opened))
		}
		pass(time.Hour)
		if b.count(&b.opened) > 16 {
			t.Errorf("the board was opened %d times in an hour", b.count(&b.opened))
		}
		b.set(func() { b.deaf = nil })
		pass(5 * time.Second)
		opened := b.count(&b.opened)
		pass(time.Hour)
		if b.count(&b.opened) != opened {
			t.Errorf("the board was opened %d times after the chip answered again", b.count(&b.opened)-opened)
		}
		if v := m.Snapshot(); !v.Healthy {
			t.Error(v.Unhealthy)
		}
		stop()
	})
}

func TestNothingGoesOnWhileTheSupplyIsLow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		b.percent[8] = 100
		m := watching(b, s)
		m.Config.Supply, m.Config.SupplyScale = adc(8), 1
		under := false
		m.Undervoltage = func() bool { return under }
		stop := start(t, m)
		pass(10 * time.Second)
		if v := m.Snapshot(); v.Supply != 5 {
			t.Errorf("the supply is %v V", v.Supply)
		}
		try := func(want string) {
			t.Helper()
			a := ask(m, bus.Command{Output: "gate", Action: "pulse"})
			if got := a.statuses(); len(got) == 0 || got[0] != want {
				t.Errorf("got %q, %s", got, a.reason())
			}
			pass(2 * time.Second)
		}
		try("accepted")
		b.set(func() { b.percent[8] = 84 })
		try("rejected")
		b.set(func() { b.percent[8] = 86 }) // not yet good
		try("rejected")
		b.set(func() { b.percent[8] = 0 })
		try("rejected")
		b.set(func() { b.percent[8] = 100 })
		try("accepted")
		b.set(func() { under = true })
		pass(3 * time.Second)
		try("rejected")
		b.set(func() { under = false })
		pass(3 * time.Second)
		try("accepted")
		b.set(func() { b.quality[8] = board.Timeout })
		pass(5 * time.Second)
		if v := m.Snapshot(); v.Supply != 0 {
			t.Errorf("a supply that cannot be read is %v V", v.Supply)
		}
		var reasons []string
		for _, e := range s.events("fault") {
			if e.Zone == "" {
				reasons = append(reasons, e.Reason)
			}
		}
		want := []string{
			"the supply of the loops is at 4.20 V: no output goes on until it is back",
			"the computer's supply is too low: no output goes on until it is back",
			"the supply of the loops cannot be measured, and is taken to be what it should be: no answer from 0x68",
		}
		if d := cmp.Diff(want, reasons); d != "" {
			t.Error(d)
		}
		stop()
	})
}
