package relay_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
)

func TestCommandsThatMakeNoSenseAreRejectedWithAReason(t *testing.T) {
	pulse := relay.Command{Output: "a", Action: relay.Pulse, Source: "mqtt"}
	for _, c := range []struct {
		name   string
		change func(*relay.Command)
		want   string
	}{
		{"an unknown output", func(c *relay.Command) { c.Output = "moon" }, `cannot pulse "moon": there is no such output`},
		{"an unknown action", func(c *relay.Command) { c.Action = "explode" }, "the actions are pulse, on and off"},
		{"no action", func(c *relay.Command) { c.Action = "" }, "the actions are pulse, on and off"},
		{"longer than it may be", func(c *relay.Command) { c.For = 11 * time.Second }, "11s is longer than 10s"},
		{"for ever", func(c *relay.Command) { c.For = math.MaxInt64 }, "is longer than 10s"},
		{"a negative time", func(c *relay.Command) { c.For = -1 }, "-1ns is no time"},
		{"the most negative time", func(c *relay.Command) { c.For = math.MinInt64 }, "is no time"},
		{"a negative time to live", func(c *relay.Command) { c.TTL = -1 }, "no time to live"},
		{"stale", func(c *relay.Command) { c.IssuedAt = epoch.Add(-31 * time.Second) }, "it is stale: it was sent 31s ago and good for 30s"},
		{"stale by its own word", func(c *relay.Command) { c.IssuedAt, c.TTL = epoch.Add(-3*time.Second), 2*time.Second }, "it is stale"},
		{"good for ever", func(c *relay.Command) { c.IssuedAt, c.TTL = epoch.Add(-25*time.Hour), math.MaxInt64 }, "it is stale"},
		{"from long ago", func(c *relay.Command) { c.IssuedAt = time.Unix(0, 0) }, "it is stale"},
		{"from the future", func(c *relay.Command) { c.IssuedAt = epoch.Add(6 * time.Minute) }, "6m0s in the future"},
		{"from the far future", func(c *relay.Command) { c.IssuedAt = epoch.AddDate(4000, 0, 0) }, "in the future"},
		{"retained", func(c *relay.Command) { c.Retained = true }, "kept by the broker"},
		{"an off that was retained", func(c *relay.Command) { c.Retained, c.Action = true, relay.Off }, "kept by the broker"},
		{"from somebody who may not", func(c *relay.Command) { c.Output = "b" }, "mqtt may not; its sources are page, rule"},
		{"an off from somebody who may not", func(c *relay.Command) { c.Output, c.Action = "b", relay.Off }, "mqtt may not"},
		{"an endless id", func(c *relay.Command) { c.ID = strings.Repeat("x", 129) }, "id is longer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, outputs("io1", 2)...)
			g.config.Outputs[1].Sources = []string{"page", "rule"}
			g.boot()
			cmd := pulse
			c.change(&cmd)
			if why := g.rejected(cmd); !strings.Contains(why, c.want) {
				t.Errorf("%s\nwant %s", why, c.want)
			}
			g.pass(tick)
			if g.chips[0].pins() != 0 {
				t.Errorf("lines %b", g.chips[0].pins())
			}
		})
	}
}

func TestCommandsWithinTheBoundsAreAccepted(t *testing.T) {
	for _, c := range []relay.Command{
		{Action: relay.Pulse, For: 10 * time.Second},
		{Action: relay.Pulse, For: time.Nanosecond},
		{Action: relay.On},
		{Action: relay.On, For: 2 * time.Second},
		{Action: relay.Pulse, IssuedAt: epoch.Add(-30 * time.Second)},
		{Action: relay.Pulse, IssuedAt: epoch.Add(5 * time.Minute)},
		{Action: relay.Pulse, IssuedAt: epoch.Add(-time.Hour), TTL: 2 * time.Hour},
	} {
		g := newRig(t, outputs("io1", 1)...)
		c.Output = "a"
		g.accepted(g.do(c))
		g.wantOn("a", true)
	}
}

func TestACommandWithoutATimeTakesTheOutputsOwn(t *testing.T) {
	g := newRig(t, outputs("io1", 1, func(o *relay.Output) { o.On = 4 * time.Second })...)
	g.accepted(g.do(relay.Command{Output: "a", Action: relay.Pulse}))
	g.pass(4*time.Second - tick)
	g.wantOn("a", true)
	g.pass(tick)
	g.wantOn("a", false)
}

func TestACommandThatIsTooLongCanBeClamped(t *testing.T) {
	g := newRig(t, outputs("io1", 1, func(o *relay.Output) { o.Over = relay.Clamp })...)
	out := g.do(relay.Command{Output: "a", Action: relay.Pulse, For: 1e9 * time.Second})
	if a := out.Acks[0]; a.Status != relay.Accepted || !strings.Contains(a.Reason, "shortened") {
		t.Errorf("%+v", a)
	}
	g.pass(10*time.Second - tick)
	g.wantOn("a", true)
	g.pass(tick)
	g.wantOn("a", false)
	g.wantStatuses("", relay.Accepted, relay.Done)
}

func TestADuplicateIsAnsweredAndDoesNothing(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	cmd := relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: 2 * time.Second, Source: "mqtt"}
	first := g.do(cmd).Acks[0]
	g.pass(time.Second)
	again := g.do(cmd)
	if len(again.Acks) != 1 || !again.Acks[0].Again || again.Acks[0].Status != relay.Accepted || again.Acks[0].Time != first.Time {
		t.Errorf("while it runs: %+v", again.Acks)
	}
	g.pass(time.Second)
	g.wantOn("a", false)
	again = g.do(cmd)
	if len(again.Acks) != 2 || again.Acks[1].Status != relay.Done || !again.Acks[1].Again || again.Acks[1].On != 2*time.Second {
		t.Errorf("after it: %+v", again.Acks)
	}
	g.pass(tick)
	g.wantOn("a", false)

	g.boot(g.r.Memory())
	if again = g.do(cmd); len(again.Acks) != 2 || !again.Acks[1].Again {
		t.Errorf("after a restart: %+v", again.Acks)
	}
	g.wantOn("a", false)

	g.pass(tick)
	g.now = g.now.Add(24 * time.Hour)
	g.accepted(g.do(cmd)) // a day later it is new
	g.wantOn("a", true)
}

func TestADuplicateOfARejectedCommandIsRejected(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.r.Brownout(true)
	cmd := relay.Command{ID: "1", Output: "a", Action: relay.Pulse, Source: "mqtt"}
	why := g.rejected(cmd)
	g.r.Brownout(false)
	if a := g.do(cmd).Acks[0]; a.Status != relay.Rejected || !a.Again || a.Reason != why {
		t.Errorf("%+v", a)
	}
}

func TestAnIDIsForOneCommand(t *testing.T) {
	g := newRig(t, outputs("io1", 2)...)
	g.accepted(g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse}))
	for _, c := range []relay.Command{{ID: "1", Output: "b", Action: relay.Pulse}, {ID: "1", Output: "a", Action: relay.Off}} {
		if why := g.rejected(c); !strings.Contains(why, "another command") {
			t.Error(why)
		}
	}
	g.wantOn("a", true)
	g.wantOn("b", false)
}

func TestNothingGoesOnThatCouldNotBeRemembered(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.r.Save = func(relay.Memory) error { return errors.New("disk full") }
	if why := g.rejected(relay.Command{ID: "1", Output: "a", Action: relay.Pulse}); !strings.Contains(why, "cannot be remembered") {
		t.Error(why)
	}
	g.wantOn("a", false)
	g.pulse("a", time.Second) // a rule has no ID
	if why := g.rejected(relay.Command{ID: "2", Output: "a", Action: relay.Pulse, For: 5 * time.Second}); !strings.Contains(why, "cannot be remembered") {
		t.Error(why)
	}
	g.pass(time.Second)
	g.wantOn("a", false)
	g.pulse("a", time.Second)
	g.accepted(g.do(relay.Command{ID: "3", Output: "a", Action: relay.Off}))
	g.wantOn("a", false)
}

func TestTheMemoryIsSavedBeforeTheLineGoesOn(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	var saved relay.Memory
	g.r.Save = func(m relay.Memory) error {
		g.wantOn("a", false)
		saved = overDisk(t, m)
		return nil
	}
	cmd := relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: 5 * time.Second}
	g.accepted(g.do(cmd))
	g.chips[0].brownOut() // power cut: nothing is found on, but the pulse cannot have ended
	g.acks = nil
	g.boot(saved)
	g.wantStatuses("1", relay.ForcedOff)
	if a := g.do(cmd).Acks[0]; a.Status != relay.Accepted || !a.Again {
		t.Errorf("%+v", a)
	}
	g.wantOn("a", false)
}

func TestACommandThatMayHaveEndedIsNotSaidToHaveBeenCutOff(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	var saved relay.Memory
	g.r.Save = func(m relay.Memory) error { saved = overDisk(t, m); return nil }
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: 5 * time.Second})
	g.pass(time.Minute)
	g.acks = nil
	g.boot(saved)
	g.wantStatuses("1")
}

func TestOnlyTheCommandThatAnOutputWasOnByIsSaidToHaveBeenCutOff(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	var saved relay.Memory
	g.r.Save = func(m relay.Memory) error { saved = overDisk(t, m); return nil }
	g.do(relay.Command{ID: "0", Output: "a", Action: relay.Pulse, For: 4 * time.Second})
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: time.Second}) // changes nothing
	beforeLast := saved
	g.do(relay.Command{ID: "2", Output: "a", Action: relay.Pulse, For: 5 * time.Second})
	g.acks = nil
	g.boot(saved)
	g.wantStatuses("0")
	g.wantStatuses("1")
	g.wantStatuses("2", relay.ForcedOff)

	g.acks = nil
	g.boot(beforeLast)
	g.wantStatuses("0", relay.ForcedOff)
	g.wantStatuses("1")
}

func TestAMemoryThatMakesNoSenseDoesNoHarm(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	pulse := func(id string) relay.Remembered {
		return relay.Remembered{ID: id, Output: "a", Action: relay.Pulse, At: g.now, First: relay.Answer{Status: relay.Accepted}}
	}
	noAnswer, moon := pulse("1"), pulse("2")
	noAnswer.First = relay.Answer{}
	moon.Output, moon.Until = "moon", g.now.Add(time.Hour)
	g.boot(relay.Memory{Commands: []relay.Remembered{noAnswer, moon, pulse(""), pulse(strings.Repeat("x", 200)), pulse("3"), pulse("3")}})
	if n := len(g.r.Memory().Commands); n != 2 || len(g.acks) != 0 {
		t.Errorf("%d commands, acknowledgements %+v", n, g.acks)
	}
	g.accepted(g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse}))
}

func TestAFloodOfCommandsIsLimitedAndOffsPass(t *testing.T) {
	g := newRig(t, outputs("io1", 2, func(o *relay.Output) { o.PerMinute = 1000 })...)
	accepted := 0
	for i := range 1000 {
		o := g.do(relay.Command{ID: fmt.Sprint(i), Output: "a", Action: relay.On, Source: "mqtt"})
		if o.Acks[0].Status == relay.Accepted {
			accepted++
		}
	}
	if accepted != 40 {
		t.Errorf("%d accepted at once, want 40", accepted)
	}
	g.accepted(g.do(relay.Command{ID: "page", Output: "b", Action: relay.On, Source: "page"}))
	g.pulse("b", time.Second)
	g.accepted(g.do(relay.Command{ID: "off", Output: "a", Action: relay.Off, Source: "mqtt"}))
	g.wantOn("a", false)
	if n := len(g.r.Memory().Commands); n != 41 {
		t.Errorf("%d commands remembered, want 41", n)
	}
	g.pass(time.Second)
	for range 5 {
		g.accepted(g.do(relay.Command{Output: "a", Action: relay.On, Source: "mqtt"}))
	}
	g.rejected(relay.Command{Output: "a", Action: relay.On, Source: "mqtt"})
}

func TestTheMemoryIsBounded(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	for i := range 10_050 {
		g.do(relay.Command{ID: fmt.Sprint(i), Output: "a", Action: relay.Off, Source: "rule"})
	}
	m := g.r.Memory()
	if len(m.Commands) != 10_000 || m.Commands[0].ID != "50" {
		t.Errorf("%d commands, the first %q", len(m.Commands), m.Commands[0].ID)
	}
	g.now = g.now.Add(24 * time.Hour)
	g.do(relay.Command{ID: "new", Output: "a", Action: relay.Off})
	if m = g.r.Memory(); len(m.Commands) != 1 {
		t.Errorf("%d commands a day later", len(m.Commands))
	}
}

func TestWhatWasRememberedOutOfOrderIsForgottenOnItsOwn(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	off := func(id string) relay.Command { return relay.Command{ID: id, Output: "a", Action: relay.Off} }
	g.do(off("late"))
	m := g.r.Memory()
	m.Commands = append(m.Commands, m.Commands[0])
	m.Commands[1].ID, m.Commands[1].At = "early", g.now.Add(-24*time.Hour+time.Minute)
	g.boot(m)
	g.now = g.now.Add(2 * time.Minute)
	g.accepted(g.do(off("early"))) // new: the other was more than a day ago
	g.now = g.now.Add(24*time.Hour - time.Minute)
	g.accepted(g.do(off("late")))
	if a := g.do(off("early")).Acks[0]; !a.Again {
		t.Errorf("%+v", a)
	}
}

func TestAMemoryFromAClockThatWasAheadIsKept(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	cmd := relay.Command{ID: "1", Output: "a", Action: relay.Pulse, Source: "mqtt"}
	g.do(cmd)
	m := g.r.Memory()
	g.now = g.now.Add(-400 * 24 * time.Hour)
	g.boot(m)
	g.now = g.now.Add(23 * time.Hour)
	if a := g.do(cmd).Acks[0]; !a.Again {
		t.Errorf("%+v", a)
	}
	g.now = g.now.Add(time.Hour)
	g.accepted(g.do(cmd))
}

func TestALaterCommandTakesTheOutputOverAndTheEarlierIsDone(t *testing.T) {
	g := newRig(t, outputs("io1", 1)...)
	g.do(relay.Command{ID: "1", Output: "a", Action: relay.Pulse, For: 3 * time.Second, Source: "mqtt"})
	g.pass(time.Second)
	g.do(relay.Command{ID: "2", Output: "a", Action: relay.Pulse, For: 5 * time.Second, Source: "page"})
	g.wantStatuses("1", relay.Accepted, relay.Done)
	if s := g.status("a"); s.Source != "page" {
		t.Errorf("%+v", s)
	}
	g.pass(5 * time.Second)
	g.wantStatuses("2", relay.Accepted, relay.Done)
	if a := g.last(); a.On != 6*time.Second {
		t.Errorf("%+v", a)
	}
}

func TestEachSettingThatMakesNoSenseIsNamedWithAWayOut(t *testing.T) {
	good := relay.Output{Name: "gate", Pin: board.Pin{Chip: "io1", Number: 1}}
	for _, c := range []struct {
		name   string
		change func(*relay.Output)
		want   string
	}{
		{"too long", func(o *relay.Output) { o.MaxOn = 2 * time.Hour }, "max_on 2h0m0s is longer than 1h0m0s; shorten it, or make the output latching"},
		{"negative", func(o *relay.Output) { o.MaxOn = -time.Second }, "max_on -1s is negative"},
		{"longer than max_on", func(o *relay.Output) { o.On = 11 * time.Second }, "on 11s is longer than its max_on of 10s"},
		{"latching without a lease", func(o *relay.Output) { o.Latching = true }, "has no lease"},
		{"a lease for nothing", func(o *relay.Output) { o.Lease = time.Minute }, "has no use unless it is latching"},
		{"negative dead time", func(o *relay.Output) { o.Dead = -1 }, "dead -1ns is negative"},
		{"negative rest", func(o *relay.Output) { o.MinOff = -1 }, "min_off -1ns is negative"},
		{"negative rate", func(o *relay.Output) { o.PerMinute = -1 }, "per_minute -1"},
		{"an unknown level", func(o *relay.Output) { o.Active = "up" }, `active "up"`},
		{"an unknown retrigger", func(o *relay.Output) { o.Retrigger = "again" }, `retrigger "again"`},
		{"an unknown choice", func(o *relay.Output) { o.Over = "cut" }, `over "cut"`},
		{"an unknown source", func(o *relay.Output) { o.Sources = []string{"phone"} }, `no source "phone"`},
		{"safe on and exclusive", func(o *relay.Output) { o.SafeOn, o.Exclusive = true, "motor" }, `exclusive group "motor"`},
		{"no pin", func(o *relay.Output) { o.Pin = board.Pin{} }, "it has no pin"},
		{"a name with spaces", func(o *relay.Output) { o.Name = "front gate" }, `output "front gate": the name may have`},
		{"no name", func(o *relay.Output) { o.Name = "" }, `output "": the name may have`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			c.change(&o)
			_, err := relay.New(relay.Config{Outputs: []relay.Output{o}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v\nwant %s", err, c.want)
			}
			if !strings.Contains(err.Error(), fmt.Sprintf("output %q", o.Name)) {
				t.Errorf("the output is not named: %v", err)
			}
		})
	}
	_, err := relay.New(relay.Config{Outputs: []relay.Output{good, good}, MaxSimultaneous: -1})
	for _, want := range []string{"the name is taken", `pin io1:1 drives output "gate" already`, "max_simultaneous -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	for _, o := range []relay.Output{good, {Name: "a", Pin: good.Pin, Latching: true, Lease: time.Minute}, {Name: "a", Pin: good.Pin, MaxOn: time.Millisecond}, {Name: "a", Pin: good.Pin, MaxOn: 24 * time.Hour, Latching: true, Lease: time.Hour}} {
		if _, err := relay.New(relay.Config{Outputs: []relay.Output{o}}); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
