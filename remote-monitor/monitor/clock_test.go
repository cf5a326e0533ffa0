package monitor

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

func TestTheClockNeverGoesBackUnlessItWasSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := clock{zone: time.UTC}
		wall, mono := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Duration(0)
		last, _ := c.now(wall, mono)
		for range rapid.IntRange(1, 200).Draw(t, "n") {
			passed := time.Duration(rapid.IntRange(0, 200).Draw(t, "passed")) * time.Millisecond
			jump := time.Duration(0)
			if rapid.IntRange(0, 9).Draw(t, "set") == 0 {
				jump = time.Duration(rapid.IntRange(-20000, 20000).Draw(t, "jump")) * time.Millisecond
			}
			mono += passed
			wall = wall.Add(passed + jump)
			now, set := c.now(wall, mono)
			stepped := set != 0
			if !stepped && now.Before(last) {
				t.Fatalf("it went back by %v", last.Sub(now))
			}
			if off := now.Sub(wall); off > clockStep || off < 0 {
				t.Fatalf("it is %v off the wall's", off)
			}
			if stepped && !now.Equal(wall) {
				t.Fatalf("it was set to %v, and is %v", wall, now)
			}
			last = now
		}
		for range 2 * int(clockStep/time.Second) {
			mono, wall = mono+time.Second, wall.Add(time.Second)
			last, _ = c.now(wall, mono)
		}
		if !last.Equal(wall) {
			t.Fatalf("it has not caught up: %v off", last.Sub(wall))
		}
	})
}

func TestAComputerWithoutABatteryIsSetOnce(t *testing.T) {
	c := clock{zone: time.UTC}
	boot := time.Date(1970, 1, 1, 0, 0, 10, 0, time.UTC)
	c.now(boot, 0)
	if _, by := c.now(boot.Add(time.Second), time.Second); by != 0 {
		t.Error("a second is no step")
	}
	set := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	if now, by := c.now(set, 2*time.Second); by != set.Sub(boot)-2*time.Second || !now.Equal(set) {
		t.Errorf("it is %v, set by %v", now, by)
	}
	if now, by := c.now(set.Add(time.Second), 3*time.Second); by != 0 || !now.Equal(set.Add(time.Second)) {
		t.Errorf("it is %v, set by %v", now, by)
	}
}

func TestADelayThatRunsIsNotCutShortByAClockThatIsSet(t *testing.T) {
	for name, by := range map[string]time.Duration{"forward": 56 * 365 * 24 * time.Hour, "back": -3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &Monitor{Config: config.Config{
					TimeZone: time.UTC, Interval: 50 * time.Millisecond,
					Zones: []config.Zone{{ID: "hall", Name: "Hall", Pin: board.Pin{Chip: "sim", Number: 1}}},
					Site:  zone.Config{Zones: []zone.Settings{{Name: "Hall", Group: "house"}}, Groups: []zone.Group{{Name: "house"}}},
				}}
				m.Emit = func(any) error { return nil }
				m.Open = func(context.Context) (board.Board, error) {
					return board.NewSimulated("sim", 1, time.Now(), map[board.Pin]board.Loop{{Chip: "sim", Number: 1}: {Idle: 0.29, Active: 0.29, Open: 0.29}}), nil
				}
				m.init()
				l, err := m.newLoop()
				if err != nil {
					t.Fatal(err)
				}
				off := time.Duration(0)
				l.wall = func() time.Time { return time.Now().Add(off) }
				l.start(t.Context())
				l.turn(t.Context(), time.Now())
				a := make(chan bus.Ack, 9)
				l.follow(t.Context(), received{bus.Command{Group: "house", Action: Arm, Answer: func(k bus.Ack) { a <- k }}, time.Now()})
				group := func() zone.GroupStatus { return m.Snapshot().Groups[0] }
				if g := group(); g.State != zone.GroupExit {
					t.Fatalf("it is %s", g.State)
				}
				turns := func(n int) {
					for range n {
						time.Sleep(time.Second)
						l.turn(t.Context(), time.Now())
					}
				}
				turns(30)
				off = by
				turns(28)
				if g := group(); g.State != zone.GroupExit {
					t.Errorf("after 58 of 60 seconds it is %s", g.State)
				}
				turns(4)
				if g := group(); g.State != zone.GroupArmed {
					t.Errorf("after 62 seconds it is %s", g.State)
				}
				if z := m.Snapshot().Zones[0]; z.WarmUp {
					t.Error("the detectors warm up again")
				}
				if len(a) != 2 {
					t.Errorf("%d answers", len(a))
				}
			})
		})
	}
}
