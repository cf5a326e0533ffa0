package zone_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

func TestADetectorThatLetsGoForAMomentIsStuckAllTheSame(t *testing.T) {
	c := loops("hall")
	c.Zones[0].Policy = zone.Single
	s := newSite(t, c)
	s.volts[0] = moved
	s.run(5 * time.Minute)
	s.volts[0] = idle
	s.run(100 * time.Millisecond)
	s.volts[0] = moved
	s.run(4 * time.Minute)
	s.expect()
	s.run(2 * time.Minute)
	s.expect("fault hall")
	s.volts[0] = idle
	s.run(100 * time.Millisecond)
	s.volts[0] = moved
	s.run(time.Minute)
	s.expect()
	s.volts[0] = idle
	s.run(time.Second)
	s.expect("restore hall")
}

func TestAnAlarmThatBeginsInAShortPulseEnds(t *testing.T) {
	c := loops("hall", "porch")
	c.Zones[0].Policy = zone.Require
	c.Zones[0].MinWidth = 2 * time.Second
	c.Zones[1].Signal = zone.Edges
	s := newSite(t, c)
	s.pulse(0, 3*time.Second, time.Second)
	s.pulse(0, 3*time.Second, time.Second)
	s.expect("pre_alarm hall")
	s.volts[0] = moved
	s.run(500 * time.Millisecond) // too short a pulse
	s.volts[1] = 5
	s.run(500 * time.Millisecond)
	s.volts[0], s.volts[1] = idle, 0
	s.run(time.Minute)
	var ended bool
	for _, e := range s.said {
		ended = ended || e.Zone == "hall" && e.Kind == zone.Restore && e.From == zone.InAlarm
	}
	if !ended || s.state(0).State != zone.Normal {
		t.Errorf("a minute later the zone is %s", s.state(0).State)
	}
}

func TestAKeySwitchWhoseWireIsCutDisarmsNothing(t *testing.T) {
	for name, volts := range map[string]float64{"cut": open, "shorted": 0, "bad": gap} {
		c := loops("key", "hall")
		c.Zones[1].Group = "house"
		c.Groups = []zone.Group{{Name: "house", Input: "key", ExitDelay: -1}}
		s := newSite(t, c)
		s.volts[0] = moved
		s.run(time.Second)
		s.expect("armed house")
		s.volts[0] = volts
		s.run(10 * time.Second)
		if g := s.panel.Groups(s.now)[0]; g.State != zone.GroupArmed {
			t.Errorf("%s: the group is %s", name, g.State)
		}
		s.told()
		s.volts[0] = idle
		s.run(3 * time.Second)
		if g := s.panel.Groups(s.now)[0]; g.State != zone.GroupDisarmed {
			t.Errorf("%s and mended: the group is %s", name, g.State)
		}
	}
}

func TestASpikeTurnsNoKey(t *testing.T) {
	c := loops("key", "hall")
	c.Zones[0].Signal = zone.Contact
	c.Zones[1].Group = "house"
	c.Groups = []zone.Group{{Name: "house", Input: "key", ExitDelay: -1}}
	s := newSite(t, c)
	s.volts[0] = 5
	s.run(time.Second)
	s.expect("armed house")
	s.volts[0] = 0
	s.run(scanned)
	s.volts[0] = 5
	s.run(time.Second)
	s.expect()
	s.volts[0] = 0
	s.run(time.Second)
	s.expect("disarmed house")
}

func TestARestartTurnsNoKey(t *testing.T) {
	c := edges("key", "hall")
	c.WarmUp = -1
	c.Zones[0].Signal = zone.Contact
	c.Zones[1].Group = "house"
	c.Groups = []zone.Group{{Name: "house", Input: "key", ExitDelay: -1}}
	s := newSite(t, c)
	s.run(time.Second)
	s.said = append(s.said, s.panel.Arm(s.now, "house", "telephone", false)...)
	s.run(time.Second)
	s.expect("armed house")
	s.restart(c, time.Minute)
	s.run(time.Second)
	s.expect()
	s.restart(c, time.Minute)
	s.volts[0] = 5 // turned on and, in the next absence, off
	s.run(time.Second)
	s.restart(c, time.Minute)
	s.volts[0] = 0
	s.run(time.Second)
	s.expect("disarmed house")
}

// restart is the program killed, and started after a while.
func (s *site) restart(c zone.Config, away time.Duration) {
	s.t.Helper()
	b, err := json.Marshal(s.panel.Memory())
	if err != nil {
		s.t.Fatal(err)
	}
	var m zone.Memory
	if err := json.Unmarshal(b, &m); err != nil {
		s.t.Fatal(err)
	}
	s.now = s.now.Add(away)
	if s.panel, err = zone.New(c, s.now); err != nil {
		s.t.Fatal(err)
	}
	s.said = append(s.said, s.panel.Resume(m, s.now)...)
}

func TestAScheduleIsFollowedWhenItsTurnPassedInARestart(t *testing.T) {
	c := edges("hall")
	c.WarmUp = -1
	c.Zones[0].Group = "house"
	c.Groups = []zone.Group{{Name: "house", ExitDelay: -1, Schedule: []zone.Span{{From: 22 * time.Hour, To: 6 * time.Hour}}}}
	s := newSite(t, c)
	s.pass(21*time.Hour + 59*time.Minute)
	s.expect()
	s.restart(c, 2*time.Minute)
	s.expect("armed house")
	s.said = s.panel.Disarm(s.now, "house", "telephone")
	s.expect("disarmed house")
	s.restart(c, 2*time.Minute) // and no turn passed in that one
	s.expect()
	s.restart(c, 48*time.Hour)
	s.expect("armed house")
	s.restart(c, 8*time.Hour)
	s.expect("disarmed house")
}

func TestAClockThatIsSetChangesNoMind(t *testing.T) {
	for name, by := range map[string]time.Duration{"forward": 400 * 24 * time.Hour, "back": -5 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			c := loops("hall", "porch", "shed")
			c.WarmUp = 10 * time.Second
			for i := range c.Zones {
				c.Zones[i].Group = "house"
			}
			c.Groups = []zone.Group{{Name: "house", Armed: true}}
			say := func(set time.Duration) []zone.Event {
				s := newSite(t, c)
				s.volts[2] = open
				s.run(12 * time.Second)
				s.pulse(0, time.Second, 3*time.Second)
				s.volts[0] = moved
				s.run(50 * time.Millisecond) // in the middle of a pulse
				before := len(s.said)
				if set != 0 {
					s.now = s.now.Add(set)
					s.said = append(s.said, s.panel.ClockSet(s.now, set)...)
				}
				s.run(time.Second)
				s.volts[0] = idle
				s.run(20 * time.Second)
				s.pulse(1, time.Second, 20*time.Second)
				s.said = append(s.said, s.panel.WalkTest(s.now, s.now.Add(time.Minute))...)
				s.pass(7 * time.Hour)
				after := s.said[before:]
				for i := range after {
					after[i].Time, after[i].ID = after[i].Time.Add(-set), ""
					if !after[i].Until.IsZero() {
						after[i].Until = after[i].Until.Add(-set)
					}
				}
				return after
			}
			if d := cmp.Diff(say(0), say(by)); d != "" {
				t.Errorf("(-not set +set):\n%s", d)
			}
		})
	}
}

func TestAClockThatIsSetOverATurnOfTheScheduleFollowsIt(t *testing.T) {
	c := edges("hall")
	c.Zones[0].Group = "house"
	c.Groups = []zone.Group{{Name: "house", ExitDelay: -1, Schedule: []zone.Span{{From: 22 * time.Hour, To: 6 * time.Hour}}}}
	s := newSite(t, c)
	s.pass(21 * time.Hour)
	s.now = s.now.Add(2 * time.Hour)
	s.said = append(s.said, s.panel.ClockSet(s.now, 2*time.Hour)...)
	s.expect("armed house")
	s.pass(7 * time.Hour)
	s.expect("disarmed house")

	// A computer without a battery for its clock: no turn passed between the stop at noon and the start.
	s.pass(6 * time.Hour)
	s.said = append(s.said, s.panel.Arm(s.now, "house", "telephone", false)...)
	s.expect("armed house")
	noon := s.now
	s.restart(c, -400*24*time.Hour)
	by := noon.Add(time.Minute).Sub(s.now)
	s.now = s.now.Add(by)
	s.said = append(s.said, s.panel.ClockSet(s.now, by)...)
	s.expect()
}

func TestATamperIsNotMendedByABadJoint(t *testing.T) {
	s := newSite(t, loops("hall"))
	s.run(time.Second)
	s.volts[0] = open
	s.run(time.Second)
	s.expect("tamper hall")
	s.restart(zone.Config{WarmUp: -1, Zones: []zone.Settings{{Name: "hall"}}}, time.Minute)
	s.expect("tamper hall")
	s.volts[0] = gap
	s.run(5 * time.Second)
	s.expect("fault hall")
	s.volts[0] = idle
	s.run(2 * time.Second)
	if d := cmp.Diff([]zone.State{zone.Tampered, zone.Normal}, []zone.State{s.said[0].State, s.said[1].State}); d != "" {
		t.Error(d)
	}
	s.expect("restore hall", "restore hall")
}

func TestAnAlarmThatEndsUnderATamperRestoresNothing(t *testing.T) {
	c := loops("hall")
	c.Zones[0].Sensitivity = zone.High
	s := newSite(t, c)
	s.run(time.Second)
	s.pulse(0, time.Second, 0)
	s.volts[0] = open
	s.run(30 * time.Second)
	s.expect("alarm hall", "tamper hall")
	s.volts[0] = idle
	s.run(time.Second)
	s.expect("restore hall")
}

func TestASupplyThatIsNoLongerMeasuredIsTakenToBeWhatItShouldBe(t *testing.T) {
	s := newSite(t, loops("hall"))
	feed := func(d time.Duration, supply, volts float64) {
		for end := s.now.Add(d); s.now.Before(end); {
			s.now = s.now.Add(scanned)
			s.said = append(s.said, s.panel.Feed(zone.Scan{Time: s.now, Supply: supply, Readings: []zone.Reading{{Volts: volts}}})...)
		}
	}
	feed(10*time.Second, 5, idle)
	feed(5*time.Second, 1, 0.2*idle)
	s.told()
	feed(10*time.Second, 0, idle)
	if z := s.state(0); z.State != zone.Normal || z.Percent < 28 || z.Percent > 30 {
		t.Errorf("it is %s at %.0f %%: %s", z.State, z.Percent, z.Reason)
	}
}

func TestAnAlarmThatWasConfirmedIsNoReasonToDoubt(t *testing.T) {
	s := newSite(t, edges("hall", "porch"))
	s.seen(time.Second, 0)
	s.seen(5*time.Second, 0)
	s.pass(15 * time.Second)
	s.seen(10*time.Second, 0)
	s.expect("alarm hall", "restore hall", "pre_alarm hall")
	s.seen(20*time.Second, 1)
	s.told()
	s.pass(10 * time.Minute)
	if z := s.state(0); !z.Quarantined.IsZero() {
		t.Errorf("it is in quarantine until %v", z.Quarantined)
	}
	s.seen(time.Second, 0)
	s.seen(5*time.Second, 0)
	if got := strings.Join(s.told(), ", "); got != "restore porch, alarm hall, confirmed hall" {
		t.Errorf("then it is not believed alone: %q", got)
	}
}

func TestAnAlarmOfTheNextArmingIsToldHoweverSoon(t *testing.T) {
	c := edges("hall")
	c.Zones[0].Group, c.Zones[0].Sensitivity = "house", zone.High
	c.Groups = []zone.Group{{Name: "house", Armed: true, ExitDelay: -1}}
	s := newSite(t, c)
	s.seen(time.Second, 0)
	s.expect("alarm hall")
	s.said = append(s.said, s.panel.Disarm(s.now, "house", "me")...)
	s.said = append(s.said, s.panel.Arm(s.now, "house", "me", false)...)
	s.told()
	s.seen(10*time.Second, 0)
	s.expect("alarm hall")
}

func TestAZoneThatIsDisarmedSecondsNobodyHoweverLongTheOtherWaits(t *testing.T) {
	c := edges("hall", "porch")
	c.Zones[0].Confirm = 10 * time.Minute
	c.Zones[1].Group, c.Zones[1].Confirm = "house", 10*time.Second
	c.Groups = []zone.Group{{Name: "house", Armed: true}}
	s := newSite(t, c)
	s.seen(time.Second, 1)
	s.pass(time.Minute)
	s.said = append(s.said, s.panel.Disarm(s.now, "house", "me")...)
	s.told()
	s.seen(time.Minute, 0)
	s.expect()
}

func TestTheOriginalTellsThatATamperIsOverAlsoWhenDisarmed(t *testing.T) {
	tamper := 80.0
	c := loops("hall")
	c.Zones[0].Profile, c.Zones[0].Normal, c.Zones[0].Tamper, c.Zones[0].Group = zone.Legacy, 29, &tamper, "house"
	c.Groups = []zone.Group{{Name: "house"}}
	s := newSite(t, c)
	s.volts[0] = 4
	s.run(time.Second)
	s.expect("tamper hall")
	s.volts[0] = 2.6
	s.run(time.Second)
	s.expect("restore hall")
	s.said = append(s.said, s.panel.Disarm(s.now, "house", "me")...)
	s.volts[0] = idle
	s.run(time.Second)
	s.expect()
}

func TestTheOriginalIsSilentOnlyWhenNothingMoves(t *testing.T) {
	c := loops("hall")
	c.Zones[0].Profile, c.Zones[0].Normal, c.Zones[0].SilentAfter = zone.Legacy, 29, time.Hour
	s := newSite(t, c)
	for range 4 {
		s.pulse(0, time.Second, scanned)
		s.pass(40 * time.Minute)
	}
	for _, w := range s.told() {
		if w == "silent hall" {
			t.Error("a zone in which something moves is silent")
		}
	}
	s.pass(time.Hour)
	s.expect("silent hall")
}

func TestANumberThatIsNoneIsRefused(t *testing.T) {
	nan := zone.Settings{Name: "a", Signal: zone.Analog}
	nan.Enter = nan.Enter / nan.Leave
	for _, c := range []zone.Config{{Zones: []zone.Settings{nan}}, {Supply: nan.Enter}, {Supply: -5}} {
		if _, err := zone.New(c, start); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
