package relay_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
)

func TestAPulseEndsByItself(t *testing.T) {
	g := newRig(t, outputs("io1", 2)...)
	g.pulse("a", 3*time.Second)
	g.wantOn("a", true)
	g.pass(3*time.Second - tick)
	g.wantOn("a", true)
	g.pass(tick)
	g.wantOn("a", false)
	g.wantKinds("a", relay.TurnedOn, relay.TurnedOff)
	g.wantKinds("b")
	g.wantStatuses("", relay.Accepted, relay.Done)
	if a := g.last(); a.On != 3*time.Second || !a.ReadBack || a.Reason != "" {
		t.Errorf("%+v", a)
	}
	if s := g.status("a"); s.On || s.Wanted || s.TotalOn != 3*time.Second || !s.Until.IsZero() {
		t.Errorf("%+v", s)
	}
}

func TestTheWayFromACommandToTheLineIsOneWrite(t *testing.T) {
	g := newRig(t, outputs("io1", 2)...)
	before := *g.chips[0]
	g.pulse("a", time.Second)
	if e := g.chips[0]; e.writes != before.writes+1 || e.calls != before.calls+1 {
		t.Errorf("%d writes in %d calls, want one", e.writes-before.writes, e.calls-before.calls)
	}
}

func TestOffsThatAreDueTogetherAreOneWrite(t *testing.T) {
	g := newRig(t, outputs("io1", 5)...)
	for _, o := range g.config.Outputs {
		g.pulse(o.Name, time.Second)
	}
	g.now = g.now.Add(time.Second)
	before := g.chips[0].writes
	g.tick()
	if got := g.chips[0].writes - before; got != 1 || g.chips[0].pins() != 0 {
		t.Errorf("%d writes, lines %b", got, g.chips[0].pins())
	}
}

func TestStateIsWhatWasReadBack(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.pulse("a", time.Second)
	if s := g.status("a"); s.On || !s.Wanted || s.Until != g.now.Add(time.Second) || s.Source != "rule" {
		t.Errorf("before the read-back: %+v", s)
	}
	g.pass(tick)
	if s := g.status("a"); !s.On || s.Since != g.now {
		t.Errorf("after it: %+v", s)
	}
}

func TestACommandThatIsLateFindsTheOutputOff(t *testing.T) {
	g := newRig(t, outputs("io1", 1, func(o *relay.Output) { o.MinOff = time.Second })...)
	g.pass(time.Second)
	g.pulse("a", time.Second)
	g.now = g.now.Add(5 * time.Second) // no tick came: the loop was late
	if why := g.rejected(relay.Command{Output: "a", Action: relay.Pulse, For: time.Second}); !strings.Contains(why, "has to be off for 1s") {
		t.Error(why)
	}
	g.wantOn("a", false)
}

func TestRetriggers(t *testing.T) {
	for _, c := range []struct {
		name      string
		retrigger relay.Retrigger
		second    relay.Command // one second after a pulse of three
		ends      time.Duration
		acks      []relay.AckStatus
	}{
		{"extend takes the later end", relay.Extend, relay.Command{Action: relay.Pulse, For: 4 * time.Second}, 5 * time.Second, []relay.AckStatus{relay.Accepted, relay.Accepted, relay.Done, relay.Done}},
		{"extend never shortens", relay.Extend, relay.Command{Action: relay.Pulse, For: time.Second}, 3 * time.Second, []relay.AckStatus{relay.Accepted, relay.Accepted, relay.Done, relay.Done}},
		{"extend stops at max_on from the first", relay.Extend, relay.Command{Action: relay.Pulse, For: 10 * time.Second}, 10 * time.Second, []relay.AckStatus{relay.Accepted, relay.Accepted, relay.Done, relay.ForcedOff}},
		{"ignore changes nothing", relay.Ignore, relay.Command{Action: relay.Pulse, For: 8 * time.Second}, 3 * time.Second, []relay.AckStatus{relay.Accepted, relay.Accepted, relay.Done, relay.Done}},
		{"restart lengthens", relay.Restart, relay.Command{Action: relay.Pulse, For: 10 * time.Second}, 11 * time.Second, []relay.AckStatus{relay.Accepted, relay.Accepted, relay.Done, relay.Done}},
		{"restart shortens", relay.Restart, relay.Command{Action: relay.Pulse, For: time.Second}, 2 * time.Second, []relay.AckStatus{relay.Accepted, relay.Accepted, relay.Done, relay.Done}},
		{"on is until max_on", relay.Extend, relay.Command{Action: relay.On}, 10 * time.Second, []relay.AckStatus{relay.Accepted, relay.Accepted, relay.Done, relay.ForcedOff}},
		{"off ends it", relay.Extend, relay.Command{Action: relay.Off}, time.Second, []relay.AckStatus{relay.Accepted, relay.Accepted, relay.ForcedOff, relay.Done}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, outputs("io1", 1, func(o *relay.Output) { o.Retrigger = c.retrigger })...)
			g.pulse("a", 3*time.Second)
			g.pass(time.Second)
			c.second.Output, c.second.Source = "a", "rule"
			g.accepted(g.do(c.second))
			for g.on("a") {
				g.pass(tick)
			}
			if got := g.now.Sub(epoch); got != c.ends {
				t.Errorf("on until %s, want %s", got, c.ends)
			}
			g.wantStatuses("", c.acks...)
		})
	}
}

func TestALatchedOutputIsOnAsLongAsItsLeaseIsRenewed(t *testing.T) {
	g := newRig(t, outputs("io1", 1, func(o *relay.Output) { o.Latching, o.Lease = true, time.Minute })...)
	on := relay.Command{Output: "a", Action: relay.On, Source: "page"}
	for range 200 {
		g.accepted(g.do(on))
		g.pass(45 * time.Second)
	}
	g.wantOn("a", true)
	g.pass(time.Minute)
	g.wantOn("a", false)
	g.wantKinds("a", relay.TurnedOn, relay.Forced)
	if a := g.last(); a.Status != relay.ForcedOff || !strings.Contains(a.Reason, "lease of 1m0s ran out") {
		t.Errorf("%+v", a)
	}
	if e := g.events[len(g.events)-1]; e.Cause != relay.ByLease || e.On != 200*45*time.Second+15*time.Second {
		t.Errorf("%+v", e)
	}
}

func TestALeaseIsRenewedWhateverTheRetrigger(t *testing.T) {
	g := newRig(t, outputs("io1", 1, func(o *relay.Output) { o.Latching, o.Lease, o.Retrigger = true, time.Minute, relay.Ignore })...)
	for range 4 {
		g.accepted(g.do(relay.Command{Output: "a", Action: relay.On}))
		g.pass(45 * time.Second)
	}
	g.wantOn("a", true)
}

func TestAnOutputThatIsSafeOnIsLimitedInItsTimeOff(t *testing.T) {
	g := newRig(t, outputs("io1", 1, func(o *relay.Output) { o.SafeOn, o.MaxOn = true, 5*time.Second })...)
	g.wantOn("a", true)
	if s := g.status("a"); !s.On || !s.Wanted {
		t.Errorf("at rest: %+v", s)
	}
	g.accepted(g.do(relay.Command{Output: "a", Action: relay.Off, Source: "page"}))
	g.wantOn("a", false)
	g.pass(5 * time.Second)
	g.wantOn("a", true)
	g.wantKinds("a", relay.TurnedOff, relay.Forced)
	g.accepted(g.do(relay.Command{Output: "a", Action: relay.Pulse, For: 2 * time.Second, Source: "page"}))
	g.pass(time.Second)
	g.wantOn("a", false)
	g.accepted(g.do(relay.Command{Output: "a", Action: relay.On, Source: "page"}))
	g.wantOn("a", true)
	g.wantKinds("a", relay.TurnedOff, relay.Forced, relay.TurnedOff, relay.TurnedOn)
	g.accepted(g.do(relay.Command{Output: "a", Action: relay.Pulse, For: 2 * time.Second, Source: "page"}))
	g.took(g.r.Safe(t.Context(), g.now, "stop"))
	g.wantOn("a", true)
}

func TestAnActiveLowOutputRestsHigh(t *testing.T) {
	g := &rig{t: t, now: epoch, config: relay.Config{Outputs: outputs("io1", 1, func(o *relay.Output) { o.Active = relay.ActiveLow })}}
	g.plug(&expander{name: "io1", high: true, latch: 0xffff, pulled: 0xffff})
	var seen []uint16
	g.chips[0].watch = func(pins uint16) { seen = append(seen, pins&1) }
	g.boot()
	g.wantKinds("a")
	g.pulse("a", time.Second)
	g.pass(2 * time.Second)
	if !cmp.Equal(seen, []uint16{0, 1}) {
		t.Errorf("the line went through %v, want low and high again", seen)
	}
	g.wantKinds("a", relay.TurnedOn, relay.TurnedOff)
}

func TestExclusiveOutputsAreNeverOnTogetherAndDeadTimePasses(t *testing.T) {
	g := newRig(t, outputs("io1", 3, func(o *relay.Output) {
		if o.Name != "c" {
			o.Exclusive = "motor"
		}
	})...)
	if why := g.rejected(relay.Command{Output: "a", Action: relay.Pulse}); !strings.Contains(why, "a moment ago") {
		t.Errorf("right after the start: %s", why)
	}
	g.pass(relay.DefaultDead)
	g.pulse("a", time.Second)
	g.pulse("c", time.Second)
	if why := g.rejected(relay.Command{Output: "b", Action: relay.Pulse}); !strings.Contains(why, `"a" of the same group "motor" is on`) {
		t.Error(why)
	}
	g.pass(time.Second)
	if why := g.rejected(relay.Command{Output: "b", Action: relay.Pulse}); !strings.Contains(why, "try again in 500ms") {
		t.Error(why)
	}
	g.pass(relay.DefaultDead)
	g.pulse("b", time.Second)
}

func TestAnExclusiveOutputWaitsUntilTheOthersAreSeenToBeOff(t *testing.T) {
	g := &rig{t: t, now: epoch}
	g.config.Outputs = outputs("io1", 2, func(o *relay.Output) { o.Exclusive = "motor" })
	g.config.Outputs[1].Pin.Chip = "io2"
	g.plug(&expander{name: "io1"})
	g.plug(&expander{name: "io2", dir: 2, latch: 2, deaf: 1e6}) // on since the last run of the program
	g.boot()
	g.pass(relay.DefaultDead)
	if why := g.rejected(relay.Command{Output: "a", Action: relay.Pulse}); !strings.Contains(why, `"b" of the same group`) {
		t.Error(why)
	}
	g.chips[1].deaf = 0
	g.pass(time.Second + relay.DefaultDead)
	g.pulse("a", time.Second)
}

func TestTheLongerDeadTimeOfTwoOutputsPassesBetweenThem(t *testing.T) {
	g := newRig(t, outputs("io1", 2, func(o *relay.Output) {
		o.Exclusive, o.Dead = "motor", time.Second
		if o.Name == "b" {
			o.Dead = 3 * time.Second
		}
	})...)
	for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}} {
		g.pass(3 * time.Second)
		g.pulse(pair[0], time.Second)
		g.pass(3 * time.Second)
		if why := g.rejected(relay.Command{Output: pair[1], Action: relay.Pulse}); !strings.Contains(why, "try again in 1s") {
			t.Error(why)
		}
	}
}

func TestAnOutputThatWasToStayOnUntilOffIsDoneThen(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.do(relay.Command{ID: "on", Output: "a", Action: relay.On, Source: "page"})
	g.pass(3 * time.Second)
	g.do(relay.Command{ID: "off", Output: "a", Action: relay.Off, Source: "page"})
	g.wantStatuses("on", relay.Accepted, relay.Done)
	g.wantStatuses("off", relay.Accepted, relay.Done)
	if a := g.last(); a.On != 3*time.Second || !a.ReadBack {
		t.Errorf("%+v", a)
	}
	g.do(relay.Command{ID: "again", Output: "a", Action: relay.Off, Source: "page"})
	if a := g.last(); a.Status != relay.Done || a.On != 0 || a.Reason != "it was off already" {
		t.Errorf("%+v", a)
	}
}

func TestNoMoreOutputsAreOnThanTheSupplyBears(t *testing.T) {
	g := newRig(t, outputs("io1", 3)...)
	g.config.MaxSimultaneous = 2
	g.boot()
	g.pulse("a", time.Second)
	g.pulse("b", time.Second)
	if why := g.rejected(relay.Command{Output: "c", Action: relay.Pulse}); !strings.Contains(why, "max_simultaneous is 2") {
		t.Error(why)
	}
	g.pass(time.Second)
	g.pulse("c", time.Second)
}

func TestAnOutputRestsBetweenTwoTimesOn(t *testing.T) {
	g := newRig(t, outputs("io1", 1, func(o *relay.Output) { o.MinOff = 5 * time.Second })...)
	if why := g.rejected(relay.Command{Output: "a", Action: relay.Pulse}); !strings.Contains(why, "try again in 5s") {
		t.Errorf("right after the start: %s", why)
	}
	g.pass(5 * time.Second)
	g.pulse("a", time.Second)
	g.pass(3 * time.Second)
	if why := g.rejected(relay.Command{Output: "a", Action: relay.Pulse}); !strings.Contains(why, "try again in 3s") {
		t.Error(why)
	}
	g.pass(3 * time.Second)
	g.pulse("a", time.Second)
}

func TestAnOutputGoesOnOnlySoOftenInAMinute(t *testing.T) {
	g := newRig(t, outputs("io1", 1, func(o *relay.Output) { o.PerMinute = 3 })...)
	for range 3 {
		g.pulse("a", time.Second)
		g.pass(2 * time.Second)
	}
	if why := g.rejected(relay.Command{Output: "a", Action: relay.Pulse}); !strings.Contains(why, "3 times in the last minute") {
		t.Error(why)
	}
	g.pass(54 * time.Second)
	g.pulse("a", time.Second)
}

func TestWhileTheSupplyIsLowNothingGoesOnAndOffsWork(t *testing.T) {
	g := newRig(t, outputs("io1", 2)...)
	g.pulse("a", time.Second)
	g.r.Brownout(true)
	if why := g.rejected(relay.Command{Output: "b", Action: relay.Pulse}); !strings.Contains(why, "supply is low") {
		t.Error(why)
	}
	g.pulse("a", 5*time.Second) // not on anew, only for longer
	g.pass(4 * time.Second)
	g.wantOn("a", true)
	g.accepted(g.do(relay.Command{Output: "a", Action: relay.Off}))
	g.wantOn("a", false)
	g.r.Brownout(false)
	g.pulse("b", time.Second)
	g.r.Brownout(true)
	g.pass(time.Second)
	g.wantOn("b", false)
}

func TestAfterSafeNothingIsOn(t *testing.T) {
	g := newRig(t, outputs("io1", 4)...)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: 9 * time.Second, Source: "mqtt"})
	g.pulse("b", 5*time.Second)
	g.pass(time.Second)
	before := g.chips[0].writes
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // a stop is when contexts end
	out := g.took(g.r.Safe(ctx, g.now, "the program stops"))
	if g.chips[0].pins() != 0 || g.chips[0].writes != before+1 {
		t.Errorf("lines %b after %d writes", g.chips[0].pins(), g.chips[0].writes-before)
	}
	g.wantStatuses("1", relay.Accepted, relay.ForcedOff)
	if a := out.Acks[0]; a.Reason != "the program stops" || a.On != time.Second || !a.ReadBack {
		t.Errorf("%+v", a)
	}
	g.wantKinds("a", relay.TurnedOn, relay.Forced)
	if a := g.r.Do(ctx, g.now, relay.Command{Output: "a", Action: relay.Pulse}).Acks[0]; a.Status != relay.Rejected || !strings.Contains(a.Reason, "stopping") {
		t.Errorf("%+v", a)
	}
}

func TestSafeWritesAlsoWhereNothingIsOn(t *testing.T) {
	g := newRig(t, outputs("io1", 2)...)
	g.chips[0].latch = 2 // noise, and nobody can see it
	g.chips[0].deafReads = 2
	g.took(g.r.Safe(t.Context(), g.now, "stop"))
	if g.chips[0].pins() != 0 {
		t.Errorf("lines %b", g.chips[0].pins())
	}
}

func TestSafeThatCannotBeConfirmedSaysSo(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: 9 * time.Second})
	g.pass(time.Second)
	g.chips[0].deaf = 1e6
	g.took(g.r.Safe(t.Context(), g.now, "the program stops"))
	g.wantStatuses("1", relay.Accepted, relay.Failed)
	g.wantKinds("a", relay.TurnedOn, relay.Unconfirmed)
}

func TestWhatIsFoundOnGoesOffWithoutAGlitch(t *testing.T) {
	g := newRig(t, outputs("io1", 3)...)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: 9 * time.Second})
	g.pulse("b", 9*time.Second)
	g.pass(time.Second)
	m := g.r.Memory()
	var seen []uint16
	g.chips[0].watch = func(pins uint16) { seen = append(seen, pins) }
	g.events, g.acks = nil, nil
	g.boot(m) // kill -9, and a new run of the program
	if !cmp.Equal(seen, []uint16{0}) {
		t.Errorf("the lines went through %b, want straight to 0", seen)
	}
	g.wantKinds("a", relay.FoundOn, relay.TurnedOff)
	g.wantKinds("b", relay.FoundOn, relay.TurnedOff)
	g.wantKinds("c")
	g.wantStatuses("1", relay.ForcedOff)
	g.pass(20 * time.Second)
	if len(seen) != 1 {
		t.Errorf("something came on again: %b", seen)
	}
}

func TestActiveHighIsRefusedOnAChipThatPowersUpHigh(t *testing.T) {
	g := &rig{t: t, now: epoch, config: relay.Config{Outputs: []relay.Output{
		{Name: "a", Pin: board.Pin{Chip: "io1", Number: 1}},
		{Name: "b", Pin: board.Pin{Chip: "io1", Number: 2}, Active: relay.ActiveLow},
		{Name: "c", Pin: board.Pin{Chip: "io1", Number: 3}, PulledDown: true},
		{Name: "d", Pin: board.Pin{Chip: "io1", Number: 4}, SafeOn: true},
	}}}
	g.plug(&expander{name: "io1", high: true, latch: 0xffff})
	g.boot()
	g.wantKinds("a", relay.Mismatch)
	if why := g.rejected(relay.Command{Output: "a", Action: relay.Pulse}); !strings.Contains(why, "powers up with its lines high") {
		t.Error(why)
	}
	g.wantOn("a", false)
	g.pulse("b", time.Second)
	g.pulse("c", time.Second)
	g.pulse("d", time.Second)
}

func TestAnOutputThatTheBoardHasNotIsAFault(t *testing.T) {
	g := &rig{t: t, now: epoch, config: relay.Config{Outputs: outputs("io9", 1)}}
	g.plug(&expander{name: "io1"})
	g.boot()
	for _, a := range []relay.Action{relay.Pulse, relay.Off} {
		if why := g.rejected(relay.Command{Output: "a", Action: a}); !strings.Contains(why, "no output io9:1") {
			t.Error(why)
		}
	}
	g.pass(time.Minute)
	g.wantKinds("a", relay.Mismatch)
	if s := g.status("a"); s.On || s.Fault == "" {
		t.Errorf("%+v", s)
	}
}

func TestBeforeTheStartCommandsAreRejected(t *testing.T) {
	r, err := relay.New(relay.Config{Outputs: outputs("io1", 1)})
	if err != nil {
		t.Fatal(err)
	}
	out := r.Do(t.Context(), epoch, relay.Command{Output: "a", Action: relay.Pulse})
	if len(out.Acks) != 1 || out.Acks[0].Status != relay.Rejected {
		t.Errorf("%+v", out)
	}
	r.Tick(t.Context(), epoch)
	r.Safe(t.Context(), epoch, "stop")
	if s := r.Status(epoch); s[0].On || s[0].Fault == "" {
		t.Errorf("%+v", s)
	}
}

func TestTheNextEndIsKnown(t *testing.T) {
	g := newRig(t, outputs("io1", 3)...)
	if !g.r.Next().IsZero() {
		t.Error("an end, and nothing is on")
	}
	g.pulse("a", 5*time.Second)
	g.pulse("b", 2*time.Second)
	g.pulse("c", 3*time.Second)
	g.pulse("b", 4*time.Second)
	if got := g.r.Next().Sub(epoch); got != 3*time.Second {
		t.Errorf("next end after %s", got)
	}
}
