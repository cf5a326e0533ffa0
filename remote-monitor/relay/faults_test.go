package relay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/relay"
)

func TestAnOffThatIsNotAcknowledgedIsTriedUntilItIsConfirmed(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: time.Second})
	g.pass(tick)
	g.chips[0].deaf = 1e6
	g.pass(30 * time.Second)
	g.wantOn("a", true)
	g.wantKinds("a", relay.TurnedOn, relay.Unconfirmed, relay.Unconfirmed, relay.Unconfirmed)
	g.wantKinds("", relay.Mismatch) // the chip does not answer
	g.wantStatuses("1", relay.Accepted, relay.Failed)
	if s := g.status("a"); !s.On || s.Wanted || !strings.Contains(s.Fault, "nobody answers") {
		t.Errorf("%+v", s)
	}
	if why := g.rejected(relay.Command{Output: "a", Action: relay.Pulse}); !strings.Contains(why, "does not answer") {
		t.Error(why)
	}
	calls := g.chips[0].calls
	g.pass(10 * time.Second)
	if got := g.chips[0].calls - calls; got < 9 || got > 11 {
		t.Errorf("%d calls in 10 s, want one a second", got)
	}
	g.chips[0].deaf = 0
	g.pass(2 * time.Second)
	g.wantOn("a", false)
	if k := g.kinds("a"); !cmp.Equal(k[len(k)-2:], []relay.EventKind{relay.TurnedOff, relay.Recovered}) {
		t.Errorf("events %v", k)
	}
	g.wantKinds("", relay.Mismatch, relay.Recovered)
	g.wantStatuses("1", relay.Accepted, relay.Failed)
	g.pulse("a", time.Second)
}

func TestAFloodOfOffsDoesNotKeepTheBusBusy(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.pulse("a", 9*time.Second)
	g.pass(time.Second)
	g.chips[0].deaf = 1e6
	calls := g.chips[0].calls
	for range 100 {
		g.do(relay.Command{Output: "a", Action: relay.Off, Source: "mqtt"})
	}
	if got := g.chips[0].calls - calls; got > 2 {
		t.Errorf("%d calls for 100 commands", got)
	}
	g.chips[0].deaf = 0
	g.pass(tick)
	g.wantOn("a", false)
}

func TestAnOffThatIsLateIsDoneAndSaysSo(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: time.Second})
	g.pass(time.Second - tick)
	g.chips[0].deafWrites = 4
	g.pass(time.Second)
	g.wantOn("a", false)
	g.wantStatuses("1", relay.Accepted, relay.Done)
	if a := g.last(); a.On < time.Second+tick || a.On > 1200*time.Millisecond || !strings.Contains(a.Reason, "until that was confirmed") {
		t.Errorf("%+v", a)
	}
	g.wantKinds("a", relay.TurnedOn, relay.Unconfirmed, relay.TurnedOff, relay.Recovered)
}

func TestASingleFailureOfTheBusIsNotNoticed(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.chips[0].deafWrites = 1
	g.pulse("a", time.Second)
	g.wantOn("a", true)
	g.chips[0].deaf = 1
	g.pass(time.Second - tick)
	g.chips[0].deafWrites = 1
	g.pass(tick)
	g.wantOn("a", false)
	g.wantKinds("a", relay.TurnedOn, relay.TurnedOff)
}

func TestAnOnThatFailsIsTakenBack(t *testing.T) {
	for _, half := range []bool{false, true} { // the chip may have understood what it did not acknowledge
		g := newRig(t, outputs("io1", 2)...)
		g.pulse("b", time.Second)
		g.chips[0].half = half
		g.chips[0].deafWrites = 2
		g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse})
		g.wantOn("a", false)
		g.wantOn("b", true)
		g.wantStatuses("1", relay.Accepted, relay.Failed)
		g.wantKinds("a")
		g.pass(time.Second)
		g.pulse("a", time.Second)
	}
}

func TestAnOnThatFailsOnADeadBusIsUnconfirmed(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.chips[0].half = true
	g.chips[0].deaf = 60
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse})
	g.wantStatuses("1", relay.Accepted, relay.Failed)
	g.wantKinds("a", relay.Unconfirmed)
	g.pass(time.Minute)
	g.wantOn("a", false)
	g.wantStatuses("1", relay.Accepted, relay.Failed)
}

func TestWhatIsOnAtAChipThatFallsSilentGoesOffWhenItAnswers(t *testing.T) {
	g := newRig(t, outputs("io1", 1, func(o *relay.Output) { o.MaxOn = time.Minute })...)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: time.Minute})
	g.pass(time.Second)
	g.chips[0].deaf = 1e6
	g.pass(10 * time.Second)
	g.wantKinds("", relay.Mismatch)
	g.wantKinds("a", relay.TurnedOn, relay.Unconfirmed)
	g.chips[0].deaf = 0
	g.pass(time.Second)
	g.wantOn("a", false)
	g.wantKinds("a", relay.TurnedOn, relay.Unconfirmed, relay.Forced, relay.Recovered)
	g.wantStatuses("1", relay.Accepted, relay.Failed)
}

func TestASilentChipWithNothingOnIsToldOnceAndAskedRarely(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.chips[0].deaf = 1e6
	g.pass(10 * time.Second)
	calls := g.chips[0].calls
	g.pass(10 * time.Second)
	if got := g.chips[0].calls - calls; got < 9 || got > 11 {
		t.Errorf("%d calls in 10 s, want one a second", got)
	}
	g.wantKinds("", relay.Mismatch)
	g.wantKinds("a")
}

func TestAChipThatIsSilentForAMomentKeepsWhatIsOn(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.pulse("a", 8*time.Second)
	g.pass(time.Second)
	g.chips[0].deaf = 6 // calls: with pauses in between, most of a second
	g.pass(4 * time.Second)
	g.wantOn("a", true)
	g.pass(4 * time.Second)
	g.wantKinds("a", relay.TurnedOn, relay.TurnedOff)
}

func TestABrownOutOfTheExpanderEndsAPulseAndNothingComesOnAgain(t *testing.T) {
	g := newRig(t, outputs("io1", 2)...)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: 9 * time.Second})
	g.pass(3 * time.Second)
	g.chips[0].brownOut()
	var seen []uint16
	g.chips[0].watch = func(pins uint16) { seen = append(seen, pins) }
	g.pulse("b", 5*time.Second) // nobody has noticed yet
	g.pass(2 * time.Second)
	g.wantKinds("", relay.ExpanderReset)
	g.wantKinds("a", relay.TurnedOn, relay.Forced)
	g.wantStatuses("1", relay.Accepted, relay.ForcedOff)
	g.pass(10 * time.Second)
	if len(seen) != 0 {
		t.Errorf("the lines went through %b", seen)
	}
	if g.chips[0].dir != 3 {
		t.Errorf("the direction is %b", g.chips[0].dir)
	}
	g.pulse("b", time.Second)
	g.wantOn("b", true)
}

func TestAChipThatResetsAgainAndAgainIsNotBroughtUpAtEveryTick(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	for range 100 {
		g.chips[0].brownOut()
		g.pass(tick)
		g.r.Do(t.Context(), g.now, relay.Command{Output: "a", Action: relay.Pulse, Source: "rule"}) // makes each tick look
	}
	if n := len(g.kinds("")); n == 0 || n > 10 {
		t.Errorf("%d resets told in 5 s", n)
	}
}

func TestAPinThatDoesNotComeOnIsAFault(t *testing.T) {
	g := newRig(t, outputs("io1", 2)...)
	g.chips[0].stuckDn = 1
	g.pulse("b", 5*time.Second)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: 5 * time.Second})
	g.pass(tick)
	g.wantKinds("a", relay.Mismatch)
	g.wantStatuses("1", relay.Accepted, relay.Failed)
	if a := g.last(); a.On != 0 || a.ReadBack {
		t.Errorf("%+v", a)
	}
	if g.chips[0].latch != 2 {
		t.Errorf("latch %b: a is at rest, and b is on", g.chips[0].latch)
	}
	if why := g.rejected(relay.Command{Output: "a", Action: relay.Pulse}); !strings.Contains(why, "io1:1") {
		t.Error(why)
	}
	g.chips[0].stuckDn = 0
	g.pass(55 * time.Second)
	g.wantKinds("a", relay.Mismatch)
	g.pass(10 * time.Second)
	g.wantKinds("a", relay.Mismatch, relay.Recovered)
	g.pulse("a", time.Second)
}

func TestAPinThatStaysOnIsAFaultAndRemindsOfIt(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: time.Second})
	g.pass(time.Second - tick)
	g.chips[0].stuckUp = 1
	g.pass(12 * time.Second)
	g.wantKinds("a", relay.TurnedOn, relay.Mismatch, relay.Unconfirmed, relay.Unconfirmed)
	g.wantStatuses("1", relay.Accepted, relay.Failed)
	if s := g.status("a"); !s.On || s.Wanted || s.Fault == "" {
		t.Errorf("%+v", s)
	}
	g.chips[0].stuckUp = 0
	g.pass(2 * time.Minute)
	g.wantKinds("a", relay.TurnedOn, relay.Mismatch, relay.Unconfirmed, relay.Unconfirmed, relay.TurnedOff, relay.Recovered, relay.Recovered)
}

func TestAnOutputThatComesOnByItselfIsAFaultAndBlocksItsGroup(t *testing.T) {
	g := newRig(t, outputs("io1", 2, func(o *relay.Output) { o.Exclusive = "motor" })...)
	g.pass(2 * time.Second)
	g.chips[0].stuckUp = 1
	g.pass(2 * time.Second)
	g.wantKinds("a", relay.Mismatch, relay.Unconfirmed)
	if why := g.rejected(relay.Command{Output: "b", Action: relay.Pulse}); !strings.Contains(why, `"a"`) {
		t.Error(why)
	}
}

func TestALatchThatForgotIsWrittenOnceMore(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.chips[0].loose = true
	g.pulse("a", 5*time.Second)
	g.wantOn("a", false)
	g.pass(tick)
	g.wantOn("a", true)
	g.wantKinds("a", relay.Recovered, relay.TurnedOn)
	g.chips[0].latch = 0
	g.pass(2 * time.Second)
	g.wantOn("a", true)
	g.wantKinds("a", relay.Recovered, relay.TurnedOn, relay.Recovered)
}

func TestALostBoardEndsWhatWasOn(t *testing.T) {
	g := newRig(t, outputs("io1", 2)...)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: 9 * time.Second})
	g.pass(time.Second)
	g.took(g.r.Lost(g.now, "the bus is gone"))
	g.wantKinds("a", relay.TurnedOn, relay.Unconfirmed)
	for _, a := range []relay.Action{relay.Pulse, relay.Off} {
		if why := g.rejected(relay.Command{Output: "a", Action: a}); !strings.Contains(why, "the bus is gone") {
			t.Error(why)
		}
	}
	g.pass(time.Second)
	g.wantStatuses("1", relay.Accepted)
	g.start()
	g.wantOn("a", false)
	g.wantStatuses("1", relay.Accepted, relay.ForcedOff)
	g.wantKinds("a", relay.TurnedOn, relay.Unconfirmed, relay.FoundOn, relay.Forced, relay.Recovered)
	g.pulse("a", time.Second)
}

func TestABoardThatStaysAwayFailsTheCommandAndReminds(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: 9 * time.Second})
	g.pass(time.Second)
	g.took(g.r.Lost(g.now, "the bus is gone"))
	g.pass(25 * time.Second)
	g.wantStatuses("1", relay.Accepted, relay.Failed)
	g.wantKinds("a", relay.TurnedOn, relay.Unconfirmed, relay.Unconfirmed, relay.Unconfirmed)
}

func TestAChipThatIsAwayAtTheStartIsBroughtUpLater(t *testing.T) {
	g := &rig{t: t, now: epoch}
	g.config.Outputs = outputs("io1", 1)
	g.plug(&expander{name: "io1", dir: 1, latch: 1, deaf: 10})
	g.boot()
	g.wantKinds("", relay.Mismatch)
	if why := g.rejected(relay.Command{Output: "a", Action: relay.Pulse}); !strings.Contains(why, "nobody answers") {
		t.Error(why)
	}
	g.pass(20 * time.Second)
	g.wantKinds("", relay.Mismatch, relay.Recovered)
	g.wantKinds("a", relay.FoundOn, relay.TurnedOff)
	g.pulse("a", time.Second)
}

func TestSafeBringsUpAChipThatWasNot(t *testing.T) {
	g := &rig{t: t, now: epoch}
	g.config.Outputs = outputs("io1", 1)
	g.plug(&expander{name: "io1", dir: 1, latch: 1, deaf: 1})
	g.boot()
	g.wantOn("a", true)
	g.took(g.r.Safe(t.Context(), g.now, "stop"))
	g.wantOn("a", false)
}
