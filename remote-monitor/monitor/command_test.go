package monitor_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// running is a monitor that is watched for a while.
func running(t *testing.T) (*bench, *said, *monitor.Monitor) {
	b, s := newBench(), &said{}
	m := watching(b, s)
	stop := start(t, m)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	pass(time.Second)
	return b, s, m
}

func TestACommandIsAnsweredUntilItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, m := running(t)
		a := ask(m, bus.Command{ID: "one", Output: "gate", Action: "pulse", For: 3 * time.Second})
		other := ask(m, bus.Command{ID: "two", Output: "light", Action: "pulse", For: time.Second})
		if !b.on(1) || !b.on(2) {
			t.Fatal("an output is off")
		}
		pass(5 * time.Second)
		if d := cmp.Diff([]string{"accepted", "done"}, a.statuses()); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"accepted", "done"}, other.statuses()); d != "" {
			t.Error(d)
		}
		if k := a.acks[1]; k.ID != "one" || k.Output != "gate" || k.Seconds != 3 || !k.ReadBack {
			t.Errorf("got %+v", k)
		}
	})
}

func TestACommandIsFollowedBetweenTwoScansAndEndsBetweenTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m := watching(b, &said{})
		m.Config.Interval = time.Second
		stop := start(t, m)
		pass(10300 * time.Millisecond)
		ask(m, bus.Command{Output: "gate", Action: "pulse", For: 250 * time.Millisecond})
		if !b.on(2) {
			t.Error("it is off")
		}
		pass(249 * time.Millisecond)
		if !b.on(2) {
			t.Error("it is off too early")
		}
		pass(2 * time.Millisecond)
		if b.on(2) {
			t.Error("it is still on")
		}
		stop()
	})
}

func TestTheSameCommandTwiceIsFollowedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, m := running(t)
		c := bus.Command{ID: "one", Output: "gate", Action: "pulse", For: time.Second}
		first := ask(m, c)
		pass(3 * time.Second)
		second := ask(m, c)
		if b.on(2) {
			t.Error("it is on a second time")
		}
		if d := cmp.Diff(first.statuses(), second.statuses()); d != "" {
			t.Error(d)
		}
	})
}

func TestACommandThatMakesNoSenseIsRejectedWithTheReason(t *testing.T) {
	now := time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC) // in the bubble
	for name, c := range map[string]struct {
		bus.Command
		reason string
	}{
		"an output that is not there": {bus.Command{Output: "siren", Action: "on"}, `there is no output "siren"; there is light, gate`},
		"a group that is not there":   {bus.Command{Group: "shed", Action: "arm"}, `there is no group "shed"; there is house`},
		"nothing":                     {bus.Command{Action: "on"}, "it names neither an output nor a group"},
		"both":                        {bus.Command{Output: "gate", Group: "house", Action: "on"}, "it names an output and a group"},
		"an output is not armed":      {bus.Command{Output: "gate", Action: "arm"}, "actions are"},
		"a group is not pulsed":       {bus.Command{Group: "house", Action: "pulse"}, "it can arm, arm_force and disarm"},
		"retained":                    {bus.Command{Group: "house", Action: "disarm", Retained: true}, "without the retain flag"},
		"retained, of an output":      {bus.Command{Output: "gate", Action: "pulse", Retained: true}, "without the retain flag"},
		"stale":                       {bus.Command{Group: "house", Action: "disarm", IssuedAt: now.Add(-40 * time.Second)}, "it was sent 40s ago and is good for 30s"},
		"stale, by its own bound":     {bus.Command{Group: "house", Action: "disarm", IssuedAt: now.Add(-3 * time.Second), TTL: time.Second}, "is good for 1s"},
		"stale, of an output":         {bus.Command{Output: "gate", Action: "pulse", IssuedAt: now.Add(-40 * time.Second)}, "stale"},
		"of tomorrow":                 {bus.Command{Group: "house", Action: "arm", IssuedAt: now.Add(24 * time.Hour)}, "set the sender's clock"},
		"an endless id":               {bus.Command{ID: strings.Repeat("x", 5000), Group: "house", Action: "arm"}, "its id is longer than 128 characters"},
		"an endless name":             {bus.Command{Output: strings.Repeat("x", 5000), Action: "on"}, `there is no output "` + strings.Repeat("x", 40) + `";`},
		"a stale walk test":           {bus.Command{Action: "walk", IssuedAt: now.Add(-time.Hour)}, "it was sent 1h0m0s ago"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, s, m := running(t)
				if c.ID == "" {
					c.ID = "one"
				}
				a := ask(m, c.Command)
				if got := a.statuses(); len(got) != 1 || got[0] != "rejected" || !strings.Contains(a.reason(), c.reason) {
					t.Errorf("got %q: %s", got, a.reason())
				}
				if b.on(1) || b.on(2) {
					t.Error("an output is on")
				}
				if k := a.acks[0]; !strings.HasPrefix(c.ID, k.ID) || len(k.ID) > 128 || k.Output != c.Output || k.Group != c.Group || k.Time.IsZero() {
					t.Errorf("got %+v", k)
				}
				if told := s.events("rejected"); len(told) != 1 || told[0].Reason != a.reason() {
					t.Errorf("told %+v", told)
				}
			})
		})
	}
}

func TestCommandsBeyondTheBoundAreRejectedAtOnceAndOldOnesWhenTheyAreReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m := watching(b, &said{})
		m.Late = time.Hour
		stop := start(t, m)
		hang := make(chan struct{})
		b.set(func() { b.hang = hang })
		var all []*asked
		for range 70 {
			all = append(all, ask(m, bus.Command{Output: "gate", Action: "pulse"}))
		}
		for i, a := range all {
			if got, want := len(a.statuses()), 0; i < 64 && got != want {
				t.Errorf("command %d: %q", i, a.statuses())
			} else if i >= 64 && !strings.Contains(a.reason(), "64 commands are waiting already") {
				t.Errorf("command %d: %q", i, a.reason())
			}
		}
		pass(31 * time.Second)
		close(hang)
		b.set(func() { b.hang = nil })
		if got := all[0]; !strings.Contains(got.reason(), "it waited here for 31s") || b.on(2) {
			t.Errorf("%q, the gate is on: %v", got.reason(), b.on(2))
		}
		stop()
	})
}

func TestArmingIsAcceptedAndThenDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s, m := running(t)
		a := ask(m, bus.Command{ID: "one", Group: "house", Action: "arm", Who: "rm/gate/group/house/set"})
		second := ask(m, bus.Command{Group: "house", Action: "arm"})
		if d := cmp.Diff([]string{"accepted"}, a.statuses()); d != "" {
			t.Error(d)
		}
		pass(61 * time.Second)
		for _, a := range []*asked{a, second, ask(m, bus.Command{ID: "one", Group: "house", Action: "arm"})} {
			if got := a.statuses(); got[len(got)-1] != "done" {
				t.Errorf("got %q", got)
			}
		}
		if v := m.Snapshot().Groups[0]; v.State != zone.GroupArmed || v.By != "mqtt rm/gate/group/house/set" {
			t.Errorf("got %+v", v)
		}
		if d := cmp.Diff([]string{"done"}, ask(m, bus.Command{Group: "house", Action: "arm"}).statuses()); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"done"}, ask(m, bus.Command{Group: "house", Action: "disarm"}).statuses()); d != "" {
			t.Error(d)
		}
		// The first command comes once more, and must not arm again.
		ask(m, bus.Command{ID: "one", Group: "house", Action: "arm"})
		if v := m.Snapshot().Groups[0]; v.State != zone.GroupDisarmed {
			t.Errorf("the group is %s", v.State)
		}
		b.set(func() { b.percent[1] = open })
		pass(time.Second)
		r := ask(m, bus.Command{Group: "house", Action: "arm"})
		if r.statuses()[0] != "rejected" || !strings.Contains(r.reason(), "Hall (tamper)") {
			t.Errorf("%q: %s", r.statuses(), r.reason())
		}
		f := ask(m, bus.Command{Group: "house", Action: "arm_force"})
		ask(m, bus.Command{Group: "house", Action: "disarm"})
		if d := cmp.Diff([]string{"accepted", "failed"}, f.statuses()); d != "" {
			t.Error(d)
		}
		if n := len(s.events("armed")); n != 1 {
			t.Errorf("armed %d times", n)
		}
	})
}

func TestAWalkTestIsBoundedAndCanBeEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, m := running(t)
		ask(m, bus.Command{Action: "walk", For: 100 * time.Hour})
		w := s.events("walk_test")
		if len(w) != 1 {
			t.Fatalf("%d walk tests", len(w))
		}
		pass(time.Minute)
		if a := ask(m, bus.Command{Action: "walk_end"}); a.statuses()[0] != "done" {
			t.Errorf("%q", a.statuses())
		}
		ask(m, bus.Command{Action: "walk"})
		pass(11 * time.Minute)
		if n := len(s.events("walk_test")); n != 4 {
			t.Errorf("%d begins and ends", n)
		}
		ask(m, bus.Command{Action: "walk", For: 100 * time.Hour})
		pass(61 * time.Minute)
		if n := len(s.events("walk_test")); n != 6 {
			t.Errorf("%d begins and ends", n)
		}
	})
}

func TestAFloodOfCommandsWithIDsIsForgottenInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, m := running(t)
		for i := range 5000 {
			ask(m, bus.Command{ID: fmt.Sprint(i), Group: "house", Action: "disarm"})
			if i%100 == 0 {
				pass(time.Second)
			}
		}
		ask(m, bus.Command{Group: "house", Action: "arm"})
		pass(2 * time.Minute)
		ask(m, bus.Command{ID: "4999", Group: "house", Action: "disarm"})
		if v := m.Snapshot().Groups[0]; v.State != zone.GroupArmed {
			t.Error("a command of a minute ago is followed again")
		}
	})
}

func TestARestartInThePulseTurnsTheOutputOffAndRemembersTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state.json")
		b, s := newBench(), &said{}
		m := watching(b, s)
		m.State.Path = file
		stop := start(t, m)
		pass(time.Second)
		c := bus.Command{ID: "one", Output: "gate", Action: "pulse", For: 5 * time.Second, IssuedAt: time.Now()}
		ask(m, c)
		ask(m, bus.Command{ID: "two", Group: "house", Action: "arm"})
		b.set(func() { b.percent[2] = open })
		pass(2 * time.Second)

		// The power goes: what is on the disk and in the expander is all there is.
		killed := newBench()
		killed.percent[2] = open
		killed.latch, killed.outputs = b.latch, b.outputs
		after := filepath.Join(t.TempDir(), "state.json")
		copyFile(t, file, after)
		stop()
		if !killed.on(2) {
			t.Fatal("the gate was not on when the power went")
		}

		s = &said{}
		m = watching(killed, s)
		m.State.Path = after
		start(t, m)
		if killed.on(2) {
			t.Error("the gate is on after the start")
		}
		if found := s.events("found_energised"); len(found) != 1 || found[0].Output != "gate" {
			t.Errorf("found %+v", found)
		}
		if told := s.events("tamper"); len(told) != 1 || told[0].Zone != "door" {
			t.Errorf("the tamper was not told again: %+v", told)
		}
		again := ask(m, c)
		if got := again.statuses(); len(got) == 0 || got[0] != "accepted" || killed.on(2) {
			t.Errorf("%q, the gate is on: %v", got, killed.on(2))
		}
		pass(time.Minute)
		if g := m.Snapshot().Groups[0]; g.State != zone.GroupArmed {
			t.Errorf("the group is %s", g.State)
		}
		if v := m.Snapshot().Zones[1]; v.State != zone.Tampered {
			t.Errorf("the door is %s", v.State)
		}
		ask(m, bus.Command{Group: "house", Action: "disarm"})
		ask(m, bus.Command{ID: "two", Group: "house", Action: "arm"})
		if g := m.Snapshot().Groups[0]; g.State != zone.GroupDisarmed {
			t.Errorf("a command from before the restart is followed again: the group is %s", g.State)
		}
	})
}
