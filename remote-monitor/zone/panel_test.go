package zone_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

var start = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// scanned is the time between two scans.
const scanned = 50 * time.Millisecond

// Levels of a loop with the usual resistors, volts.
const (
	idle  = 5 * 0.293
	moved = 5 * 0.51
	open  = 5 * 0.78
	gap   = 5 * 0.41
)

// site is a panel under test and what it said.
type site struct {
	t     testing.TB
	panel *zone.Panel
	now   time.Time
	said  []zone.Event
	volts []float64 // by zone, of the next scan
}

// newSite warms up, unless the configuration says something about that.
func newSite(t testing.TB, c zone.Config) *site {
	t.Helper()
	if c.WarmUp == 0 {
		c.WarmUp = -1
	}
	p, err := zone.New(c, start)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, panel: p, now: start, volts: make([]float64, len(c.Zones))}
	for i, z := range c.Zones {
		if z.Signal == zone.Loop || z.Signal == "" {
			s.volts[i] = idle
		}
	}
	return s
}

func loops(names ...string) zone.Config {
	var c zone.Config
	for _, n := range names {
		c.Zones = append(c.Zones, zone.Settings{Name: n})
	}
	return c
}

func edges(names ...string) zone.Config {
	c := loops(names...)
	for i := range c.Zones {
		c.Zones[i].Signal = zone.Edges
	}
	return c
}

// run scans for a time.
func (s *site) run(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.now = s.now.Add(scanned)
		s.scan()
	}
}

func (s *site) scan() {
	scan := zone.Scan{Time: s.now}
	for i, v := range s.volts {
		scan.Readings = append(scan.Readings, zone.Reading{Zone: i, Volts: v, Active: v > 2})
	}
	s.said = append(s.said, s.panel.Feed(scan)...)
}

// pulse lets the detector of a zone see something for a while, then waits.
func (s *site) pulse(zone int, width, wait time.Duration) {
	was := s.volts[zone]
	s.volts[zone] = moved
	s.run(width)
	s.volts[zone] = was
	s.run(wait)
}

// edge reports a change of a detector after a time.
func (s *site) edge(after time.Duration, z int, active bool) {
	s.now = s.now.Add(after)
	s.said = append(s.said, s.panel.Feed(zone.Scan{Time: s.now, Readings: []zone.Reading{{Zone: z, Active: active}}})...)
}

// seen is a detector that sees something for a second, after a time.
func (s *site) seen(after time.Duration, z int) {
	s.edge(after, z, true)
	s.edge(time.Second, z, false)
}

func (s *site) pass(d time.Duration) {
	s.now = s.now.Add(d)
	s.said = append(s.said, s.panel.Advance(s.now)...)
}

// told is what was said since the last call, but for what is only for metrics and lights.
func (s *site) told() []string {
	var words []string
	for _, e := range s.said {
		switch e.Kind {
		case zone.Motion, zone.Still, zone.Suppressed:
			continue
		}
		w := string(e.Kind)
		if e.Zone != "" {
			w += " " + e.Zone
		} else if e.Group != "" {
			w += " " + e.Group
		}
		if e.Kind == zone.Alarm && e.Confirmed {
			w += " by " + e.By
		}
		if e.Quiet {
			w += " quietly"
		}
		words = append(words, w)
	}
	s.said = nil
	return words
}

func (s *site) expect(want ...string) {
	s.t.Helper()
	if d := cmp.Diff(want, s.told()); d != "" {
		s.t.Errorf("at %v (-want +got):\n%s", s.now.Sub(start), d)
	}
}

func (s *site) expectSuppressed(want ...zone.Stage) {
	s.t.Helper()
	var got []zone.Stage
	for _, e := range s.said {
		if e.Kind == zone.Suppressed {
			got = append(got, e.Stage)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		s.t.Errorf("suppressed at %v (-want +got):\n%s", s.now.Sub(start), d)
	}
}

func (s *site) state(z int) zone.Status { return s.panel.Zones(s.now)[z] }

func TestTwoPulsesInHalfAMinuteAreAnAlarmAndOneIsNot(t *testing.T) {
	s := newSite(t, loops("hall"))
	s.run(time.Second)
	s.pulse(0, time.Second, 40*time.Second)
	s.expectSuppressed(zone.StageCount)
	s.expect()
	s.pulse(0, time.Second, 5*time.Second)
	s.expect()
	s.pulse(0, time.Second, 5*time.Second)
	s.expect("alarm hall")
	s.run(10 * time.Second)
	s.expect("restore hall")
}

func TestAnotherZoneMakesOnePulseAnAlarmAtOnce(t *testing.T) {
	s := newSite(t, loops("hall", "kitchen"))
	s.run(time.Second)
	s.pulse(0, time.Second, 3*time.Second)
	s.volts[1] = moved
	s.run(300 * time.Millisecond)
	s.expect("alarm kitchen by hall")
}

func TestAlarmsThatNobodySecondsAreNotBelievedForSixHours(t *testing.T) {
	s := newSite(t, edges("window", "hall"))
	s.seen(time.Minute, 0)
	s.seen(10*time.Second, 0)
	s.pass(5 * time.Minute)
	s.expect("alarm window", "restore window", "quarantine window")
	// The sun stays for hours.
	for range 20 {
		s.seen(10*time.Minute, 0)
		s.seen(10*time.Second, 0)
	}
	s.pass(3 * time.Minute)
	for _, w := range s.told() {
		if strings.HasPrefix(w, "alarm") {
			t.Errorf("told: %s", w)
		}
	}
	// A person is believed all the same.
	s.seen(10*time.Minute, 0)
	s.seen(20*time.Second, 1)
	s.pass(time.Minute)
	if got := s.told(); len(got) == 0 || got[0] != "alarm hall by window" {
		t.Errorf("a person came and it said %q", got)
	}
	s.pass(7 * time.Hour)
	s.told()
	s.seen(time.Minute, 0)
	s.seen(10*time.Second, 0)
	s.expect("alarm window")
}

func TestLonePulsesMakeADetectorDoubtful(t *testing.T) {
	s := newSite(t, edges("window", "hall"))
	for range 3 {
		s.seen(5*time.Minute, 0)
	}
	s.pass(5 * time.Minute)
	s.expect()
	s.seen(time.Second, 0)
	s.seen(10*time.Second, 0)
	s.expect("pre_alarm window")
	s.pass(3 * time.Minute)
	s.expectSuppressed(zone.StageQuarantine)
	s.expect("restore window quietly", "quarantine window")
}

func TestAPreAlarmThatIsSecondedIsAnAlarm(t *testing.T) {
	c := edges("window", "hall")
	c.Zones[0].Policy = zone.Require
	s := newSite(t, c)
	s.seen(time.Minute, 0)
	s.seen(10*time.Second, 0)
	s.expect("pre_alarm window")
	s.seen(20*time.Second, 1)
	// The hall tells; the window does not tell the same a second time.
	s.expect("alarm hall by window", "alarm window by hall quietly", "restore window quietly")
}

func TestAnAlarmIsConfirmedByWhoComesLater(t *testing.T) {
	s := newSite(t, edges("porch", "hall"))
	s.seen(time.Minute, 0)
	s.seen(10*time.Second, 0)
	s.expect("alarm porch")
	s.seen(50*time.Second, 1)
	s.expect("restore porch", "alarm hall by porch", "confirmed porch")
	s.pass(5 * time.Minute)
	s.expect("restore hall") // and no quarantine
}

func TestAnAlarmIsNotToldAgainWithinAMinute(t *testing.T) {
	c := edges("porch", "hall")
	c.Zones[0].Policy = zone.Single
	s := newSite(t, c)
	s.seen(time.Minute, 0)
	s.seen(5*time.Second, 0)
	s.seen(15*time.Second, 0)
	s.seen(5*time.Second, 0)
	s.pass(20 * time.Second)
	s.expectSuppressed(zone.StageRefractory)
	s.expect("alarm porch", "restore porch", "alarm porch quietly", "restore porch quietly")
	s.seen(50*time.Second, 0)
	s.seen(5*time.Second, 0)
	s.expect("alarm porch")
}

func TestTooManyAlarmsInAnArmingPeriodLeaveTheZoneOut(t *testing.T) {
	c := edges("porch", "hall")
	for i := range c.Zones {
		c.Zones[i].Group = "house"
		c.Zones[i].QuarantineAfter = -1
		c.Zones[i].LonePulses = -1
	}
	c.Groups = []zone.Group{{Name: "house", Armed: true, ExitDelay: -1}}
	s := newSite(t, c)
	alarm := func() {
		s.seen(10*time.Minute, 0)
		s.seen(5*time.Second, 0)
		s.pass(5 * time.Minute)
	}
	alarm()
	alarm()
	s.expect("alarm porch", "restore porch", "alarm porch", "restore porch", "swinger porch")
	alarm()
	s.expect("pre_alarm porch", "restore porch quietly")
	s.said = append(s.said, s.panel.Disarm(s.now, "house", "me")...)
	s.expect("disarmed house", "swinger porch")
	s.said = append(s.said, s.panel.Arm(s.now, "house", "me", false)...)
	alarm()
	s.expect("armed house", "alarm porch", "restore porch")
	alarm()
	s.told()
	s.pass(7 * time.Hour)
	alarm() // it is not quiet
	s.told()
	s.pass(7 * time.Hour)
	s.expect()
	s.pass(2 * time.Hour)
	s.expect("swinger porch")
}

func TestADetectorThatDoesNotLetGoIsAFault(t *testing.T) {
	s := newSite(t, edges("hall"))
	s.edge(time.Minute, 0, true)
	s.pass(11 * time.Minute)
	s.expect("fault hall")
	s.edge(time.Hour, 0, false)
	s.pass(time.Second)
	s.expect("restore hall")
	s.edge(time.Hour, 0, true)
	s.pass(11 * time.Minute)
	s.told()
	// The end of that was lost: two new pulses are two pulses.
	s.edge(5*time.Hour, 0, true)
	s.edge(5*time.Second, 0, false)
	s.edge(5*time.Second, 0, true)
	s.expect("restore hall", "alarm hall")
}

func TestAZoneWhereSomebodyMayBeSecondsNobody(t *testing.T) {
	c := edges("porch", "kitchen")
	c.Zones[1].Group = "home"
	c.Groups = []zone.Group{{Name: "home"}}
	s := newSite(t, c)
	s.seen(time.Minute, 1)
	s.seen(5*time.Second, 0)
	s.pass(time.Minute)
	s.expect()
	s.said = append(s.said, s.panel.Arm(s.now, "home", "me", false)...)
	s.pass(2 * time.Minute)
	s.seen(time.Second, 1)
	s.said = append(s.said, s.panel.Disarm(s.now, "home", "me")...)
	s.seen(5*time.Second, 0)
	s.expect("exit home", "armed home", "disarmed home")
}

func TestADoubtfulZoneAndAnotherHaveToMoveCloserTogetherWherePeopleArm(t *testing.T) {
	grouped := func() zone.Config {
		c := edges("window", "hall")
		for i := range c.Zones {
			c.Zones[i].Group = "house"
		}
		c.Groups = []zone.Group{{Name: "house", Armed: true}}
		return c
	}
	for _, k := range []struct {
		name  string
		c     zone.Config
		hall  int // lone pulses of the hall before
		after time.Duration
		want  []string
	}{
		{"close together", grouped(), 0, 45 * time.Second, []string{"alarm hall by window"}},
		{"apart", grouped(), 0, 90 * time.Second, nil},
		{"apart, and always armed", edges("window", "hall"), 0, 90 * time.Second, []string{"alarm hall by window"}},
		{"both in doubt, and each only once", grouped(), 4, 20 * time.Second, nil},
	} {
		t.Run(k.name, func(t *testing.T) {
			s := newSite(t, k.c)
			for range k.hall {
				s.seen(10*time.Minute, 1)
			}
			for range 4 {
				s.seen(10*time.Minute, 0)
			}
			s.pass(9 * time.Minute)
			s.seen(time.Minute, 0)
			s.seen(k.after, 1)
			s.expect(k.want...)
		})
	}
	s := newSite(t, grouped())
	for _, z := range []int{0, 1, 0, 1, 0, 1} {
		s.seen(10*time.Minute, z)
	}
	s.pass(10 * time.Minute)
	s.seen(time.Second, 0)
	s.seen(5*time.Second, 1)
	s.seen(5*time.Second, 1)
	if got := s.told(); len(got) == 0 || got[len(got)-1] != "alarm hall by window" {
		t.Errorf("both in doubt, and one said it twice: %q", got)
	}
}

func TestOnlyWhatAZoneDidWhileArmedIsHeldAgainstIt(t *testing.T) {
	c := edges("window", "hall")
	for i := range c.Zones {
		c.Zones[i].Group = "house"
	}
	c.Groups = []zone.Group{{Name: "house", Armed: true, ExitDelay: -1}}
	s := newSite(t, c)
	do := func(events []zone.Event) { s.said = append(s.said, events...) }
	alarm := func() {
		s.seen(time.Hour, 0)
		s.seen(5*time.Second, 0)
	}
	alarm()
	s.pass(5 * time.Minute)
	s.expect("alarm window", "restore window", "quarantine window")
	do(s.panel.Disarm(s.now, "house", "me"))
	for range 10 { // people at home
		s.seen(time.Hour, 1)
	}
	s.pass(14 * time.Hour)
	do(s.panel.Arm(s.now, "house", "me", false))
	s.told()
	alarm()
	s.expect("pre_alarm window") // a day later, but an hour of being armed
	s.seen(10*time.Minute, 1)
	s.seen(5*time.Second, 1)
	s.expect("restore window quietly", "alarm hall") // its people were no false alarms
	// Whoever disarms right after an alarm has explained it.
	do(s.panel.Disarm(s.now.Add(time.Minute), "house", "me"))
	do(s.panel.Arm(s.now.Add(time.Hour), "house", "me", false))
	s.now = s.now.Add(time.Hour)
	s.told()
	s.seen(2*time.Hour, 1)
	s.seen(5*time.Second, 1)
	s.expect("alarm hall")
}

func TestAfterPeopleHaveLeftAZoneThatIsAlwaysArmedIsSoonBelievedAgain(t *testing.T) {
	s := newSite(t, edges("living", "hall"))
	s.seen(time.Minute, 0)
	s.seen(5*time.Second, 0)
	for range 40 { // somebody reads for hours
		s.seen(10*time.Minute, 0)
		s.seen(5*time.Second, 0)
	}
	s.pass(150 * time.Minute)
	s.told()
	s.pass(time.Hour) // the lone pulses are old, too
	s.seen(time.Minute, 0)
	s.seen(5*time.Second, 0)
	s.expect("alarm living")
}

func TestPulsesThatWereSecondedMakeNobodyDoubtful(t *testing.T) {
	s := newSite(t, edges("window", "hall"))
	for range 4 {
		s.seen(10*time.Minute, 0)
		s.seen(time.Second, 1)
	}
	s.pass(10 * time.Minute)
	s.told()
	s.seen(time.Second, 0)
	s.seen(5*time.Second, 0)
	s.expect("alarm window", "confirmed window")
}

func TestAlarmsOfTwoZonesWithinHalfAnHourConfirmEachOther(t *testing.T) {
	s := newSite(t, edges("window", "hall"))
	s.seen(time.Minute, 0)
	s.seen(5*time.Second, 0)
	s.seen(20*time.Minute, 1)
	s.seen(5*time.Second, 1)
	s.expect("alarm window", "restore window", "quarantine window", "alarm hall", "confirmed hall")
}

func TestAZoneThatNobodyCanSecondIsAskedForMore(t *testing.T) {
	s := newSite(t, edges("hall"))
	s.seen(time.Minute, 0)
	s.seen(5*time.Second, 0)
	s.pass(10 * time.Minute)
	s.expect("alarm hall", "restore hall", "quarantine hall")
	s.seen(5*time.Second, 0)
	s.seen(5*time.Second, 0)
	s.seen(5*time.Second, 0)
	s.pass(2 * time.Minute)
	s.expect()
	for range 4 {
		s.seen(5*time.Second, 0)
	}
	s.expect("alarm hall")
}

func TestOneStrongSwingIsEnough(t *testing.T) {
	for _, k := range []struct {
		swing float64 // volts
		want  []string
	}{{0.2, nil}, {0.5, []string{"alarm hall"}}} {
		s := newSite(t, zone.Config{Zones: []zone.Settings{{Name: "hall", Signal: zone.Analog}}})
		s.volts[0] = 2.5
		s.run(time.Minute)
		s.volts[0] = 2.5 + k.swing
		s.run(300 * time.Millisecond)
		s.volts[0] = 2.5
		s.run(time.Second)
		s.expect(k.want...)
	}
}

func TestALevelAtTheEndOfItsBandDoesNotChatter(t *testing.T) {
	l := zone.Around(29, nil)
	s := newSite(t, zone.Config{Zones: []zone.Settings{{Name: "hall", Levels: &l, Sensitivity: zone.High}}})
	for i := range 200 {
		s.volts[0] = (38.5 + float64(i/10%2)) / 20 // either side of 39 %
		s.run(scanned)
	}
	s.expect()
}

func TestAfterARestartALoopHasToBeSeenWhole(t *testing.T) {
	s := newSite(t, loops("hall"))
	s.volts[0] = open
	s.run(2 * time.Second)
	m := s.panel.Memory()
	s = newSite(t, loops("hall"))
	s.said = append(s.said, s.panel.Resume(m, s.now)...)
	s.expect("tamper hall")
	s.run(500 * time.Millisecond)
	s.expect()
	s.run(300 * time.Millisecond)
	s.expect("restore hall")
}

func TestATamperIsToldArmedOrNotAndAfterHalfASecond(t *testing.T) {
	c := loops("hall")
	c.Zones[0].Group = "house"
	c.Groups = []zone.Group{{Name: "house"}}
	s := newSite(t, c)
	s.run(time.Second)
	s.volts[0] = open
	s.run(450 * time.Millisecond)
	s.expect()
	s.run(200 * time.Millisecond)
	s.expect("tamper hall")
	s.volts[0] = 0
	s.run(time.Second)
	s.expect("tamper hall")
	s.volts[0] = idle
	s.run(time.Second)
	s.expect("restore hall")
}

func TestALevelBetweenTwoStatesIsAFault(t *testing.T) {
	s := newSite(t, loops("hall"))
	s.run(time.Second)
	s.volts[0] = gap
	s.run(900 * time.Millisecond)
	s.expect()
	s.run(300 * time.Millisecond)
	s.expect("fault hall")
	s.volts[0] = idle
	s.run(2 * time.Second)
	s.expect("restore hall")
}

func TestAnInputThatCannotBeReadIsAFaultAfterThreeSecondsAndNothingElse(t *testing.T) {
	s := newSite(t, loops("hall"))
	s.run(time.Second)
	feed := func(r zone.Reading) {
		s.said = append(s.said, s.panel.Feed(zone.Scan{Time: s.now, Readings: []zone.Reading{r}})...)
	}
	feed(zone.Reading{Unknown: "nobody answers"})
	s.pass(2900 * time.Millisecond)
	s.expect()
	feed(zone.Reading{Volts: math.NaN()})
	s.pass(200 * time.Millisecond)
	s.expect("fault hall")
	s.run(time.Second)
	s.expect("restore hall")
}

func TestInputsThatStepTogetherAreNotAPerson(t *testing.T) {
	c := loops("hall", "kitchen", "porch")
	for i := range c.Zones {
		c.Zones[i].Sensitivity = zone.High
	}
	s := newSite(t, c)
	s.run(time.Second)
	all := func(v float64, d time.Duration) {
		for i := range s.volts {
			s.volts[i] = v
		}
		s.run(d)
	}
	all(moved, 300*time.Millisecond)
	all(idle, time.Minute)
	s.expectSuppressed(zone.StageCommonMode, zone.StageCommonMode, zone.StageCommonMode)
	s.expect("common_mode")
	// One that goes on for longer is an alarm, and none seconds the other.
	all(moved, 2*time.Second)
	s.expect("common_mode", "alarm hall", "alarm kitchen", "alarm porch")
}

func TestASagOfTheSupplyIsNotAPerson(t *testing.T) {
	c := loops("hall")
	c.Zones[0].Sensitivity = zone.High
	c.WarmUp = time.Second
	s := newSite(t, c)
	supply := 5.0
	run := func(d time.Duration, ratio float64) {
		for end := s.now.Add(d); s.now.Before(end); {
			s.now = s.now.Add(scanned)
			s.said = append(s.said, s.panel.Feed(zone.Scan{Time: s.now, Supply: supply, Readings: []zone.Reading{{Volts: supply * ratio}}})...)
		}
	}
	run(time.Second, 0.293)
	supply = 3.4 // the same share of less is the same state
	run(20*time.Second, 0.293)
	s.expect("warm", "common_mode")
	supply = 1
	run(5*time.Second, 0)
	s.expect("fault hall")
	supply = 5
	run(500*time.Millisecond, 0.293)
	if !s.state(0).WarmUp {
		t.Error("the detectors lost their supply, and are believed at once")
	}
}

func TestAJammerDoesNotBlindForLong(t *testing.T) {
	c := loops("hall", "kitchen")
	c.Zones[0].Sensitivity = zone.High
	s := newSite(t, c)
	s.run(time.Second)
	for i := range 400 {
		s.volts[0], s.volts[1] = moved, idle+float64(i%2)
		if i%2 == 0 {
			s.volts[0] += 0.3
		}
		s.now = s.now.Add(scanned)
		s.scan()
	}
	found := false
	for _, w := range s.told() {
		found = found || strings.HasPrefix(w, "alarm hall")
	}
	if !found {
		t.Error("somebody walked in while the inputs were jammed, and it said nothing for 20 s")
	}
}

func TestMotionIsMutedWhileDetectorsSettle(t *testing.T) {
	c := loops("hall")
	c.Zones[0].Sensitivity = zone.High
	c.WarmUp = 60 * time.Second
	s := newSite(t, c)
	s.run(time.Second)
	s.pulse(0, time.Second, time.Second)
	s.expectSuppressed(zone.StageWarmUp)
	s.volts[0] = open
	s.run(time.Second)
	s.volts[0] = idle
	s.run(time.Minute)
	s.expect("tamper hall", "restore hall", "warm")
	s.pulse(0, time.Second, time.Second)
	s.expect("alarm hall")
}

func TestAWalkTestShowsMotionAndNothingAlarms(t *testing.T) {
	c := edges("hall")
	c.Zones[0].Sensitivity = zone.High
	s := newSite(t, c)
	s.said = append(s.said, s.panel.WalkTest(s.now, s.now.Add(time.Minute))...)
	s.seen(time.Second, 0)
	s.expectSuppressed(zone.StageWalkTest)
	s.pass(2 * time.Minute)
	s.expect("walk_test", "walk_test")
	s.seen(time.Second, 0)
	s.expect("alarm hall")
}

func TestAZoneInWhichNothingMovesForDaysIsToldOnce(t *testing.T) {
	c := edges("hall")
	c.Zones[0].SilentAfter = 72 * time.Hour
	s := newSite(t, c)
	s.seen(time.Hour, 0)
	s.pass(240 * time.Hour)
	s.expect("silent hall")
	if !s.state(0).Silent {
		t.Error("it is not shown")
	}
	s.seen(time.Hour, 0)
	if s.state(0).Silent {
		t.Error("it is still shown")
	}
}

func TestAGroupIsArmedAfterTheExitDelayAndAlarmsAfterTheEntryDelay(t *testing.T) {
	c := edges("hall", "bedroom")
	for i := range c.Zones {
		c.Zones[i].Group, c.Zones[i].Sensitivity = "house", zone.High
	}
	c.Zones[0].EntryDelay = true
	c.Groups = []zone.Group{{Name: "house"}}
	s := newSite(t, c)
	s.seen(time.Second, 0)
	s.expectSuppressed(zone.StageDisarmed)
	s.said = append(s.said, s.panel.Arm(s.now, "house", "me", false)...)
	s.said = append(s.said, s.panel.Arm(s.now, "house", "me", false)...)
	s.seen(time.Second, 0)
	s.pass(time.Minute)
	s.expect("exit house", "armed house")
	s.seen(time.Second, 0)
	s.said = append(s.said, s.panel.Disarm(s.now.Add(20*time.Second), "house", "me")...)
	s.expect("entry hall", "disarmed house")
	s.pass(time.Hour)
	s.said = append(s.said, s.panel.Arm(s.now, "house", "me", false)...)
	s.pass(time.Hour)
	s.told()
	s.seen(time.Second, 0)
	s.pass(40 * time.Second)
	s.expect("entry hall", "alarm hall", "restore hall")
	if g := s.panel.Groups(s.now)[0]; g.State != zone.GroupAlarm {
		t.Errorf("the group is %s", g.State)
	}
	s.said = append(s.said, s.panel.Disarm(s.now, "house", "me")...)
	s.told()
	s.said = append(s.said, s.panel.Arm(s.now, "house", "me", false)...)
	s.pass(time.Hour)
	s.seen(time.Second, 1)
	s.pass(time.Minute)
	s.expect("exit house", "armed house", "alarm bedroom", "restore bedroom")
}

func TestAGroupWithABrokenZoneIsArmedOnlyByForce(t *testing.T) {
	c := loops("hall")
	c.Zones[0].Group = "house"
	c.Groups = []zone.Group{{Name: "house", ExitDelay: -1}}
	s := newSite(t, c)
	s.volts[0] = open
	s.run(2 * time.Second)
	s.said = append(s.said, s.panel.Arm(s.now, "house", "me", false)...)
	s.said = append(s.said, s.panel.Arm(s.now, "house", "me", true)...)
	s.expect("tamper hall", "refused house", "armed house")
}

func TestAScheduleArmsByTheClockOverMidnightAndSummerTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	c := edges("hall")
	c.Zones[0].Group = "house"
	night := zone.Span{Days: []time.Weekday{time.Saturday}, From: 22 * time.Hour, To: 6 * time.Hour}
	noon := zone.Span{From: 12 * time.Hour, To: 12*time.Hour + 30*time.Minute}
	c.Groups = []zone.Group{{Name: "house", ExitDelay: -1, Schedule: []zone.Span{night, noon}}}
	c.WarmUp = -1
	at := time.Date(2025, 3, 29, 13, 0, 0, 0, berlin) // the night in which clocks go forward
	p, err := zone.New(c, at)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range p.Advance(at.Add(48 * time.Hour)) {
		got = append(got, fmt.Sprint(e.Time.In(berlin).Format("02 15:04"), " ", e.Kind, " ", e.By))
	}
	// The 31st at noon, an hour earlier by the sun.
	want := []string{"29 22:00 armed schedule", "30 06:00 disarmed schedule", "30 12:00 armed schedule", "30 12:30 disarmed schedule", "31 12:00 armed schedule", "31 12:30 disarmed schedule"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestAKeySwitchArmsWhileItIsTurned(t *testing.T) {
	c := edges("hall", "key")
	c.Zones[0].Group = "house"
	c.Groups = []zone.Group{{Name: "house", ExitDelay: -1, Input: "key"}}
	s := newSite(t, c)
	s.edge(time.Second, 1, false)
	s.edge(time.Second, 1, true)
	s.edge(time.Second, 1, true)
	s.edge(time.Second, 1, false)
	s.expect("armed house", "disarmed house")
}

func TestTheOriginalAlarmsAtOnceAndTellsALevelOnce(t *testing.T) {
	tamper := 78.0
	c := zone.Config{Zones: []zone.Settings{{Name: "hall", Profile: zone.Legacy, Normal: 29, Tamper: &tamper}}}
	for _, k := range []struct {
		name   string
		values []float64 // percent
		want   []string
	}{
		{"quiet", []float64{29, 20, 38.9, 19, 39}, nil},
		{"one sample is enough", []float64{29, 39.1, 29}, []string{"alarm hall", "restore hall"}},
		{"a level that was told", []float64{29, 51, 55, 45, 51}, []string{"alarm hall"}},
		{"ten points on", []float64{29, 51, 61.5}, []string{"alarm hall", "alarm hall"}},
		{"a tamper", []float64{29, 70, 78, 29}, []string{"tamper hall", "restore hall"}},
		{"an alarm, then a tamper", []float64{29, 51, 78}, []string{"alarm hall", "tamper hall"}},
	} {
		t.Run(k.name, func(t *testing.T) {
			s := newSite(t, c)
			for _, v := range k.values {
				s.volts[0] = v / 20
				s.run(scanned)
			}
			s.expect(k.want...)
		})
	}
}

func TestAnalogDetectorsFollowTheirBaselineAndSeePeople(t *testing.T) {
	c := zone.Config{Zones: []zone.Settings{{Name: "hall", Signal: zone.Analog}}, WarmUp: 60 * time.Second}
	s := newSite(t, c)
	x := uint32(1)
	random := func() float64 { // noise of a converter, volts
		x = x*1664525 + 1013904223
		return (float64(x>>8)/(1<<24) - 0.5) * 0.02
	}
	base := 2.5
	for range 20 * 180 {
		base += 0.00005 // 3 % of the supply in three minutes
		s.volts[0] = base + random()
		s.run(scanned)
	}
	s.expect("warm")
	st := s.state(0)
	if math.Abs(st.Baseline-base*20) > 1 || st.Noise < 0.05 || st.Noise > 0.5 {
		t.Errorf("baseline %.2f %%, noise %.3f %%, and the signal is around %.2f %%", st.Baseline, st.Noise, base*20)
	}
	// A person: a swing of 1 Hz for two seconds.
	for i := range 40 {
		s.volts[0] = base + 0.15*math.Sin(2*math.Pi*float64(i)/20) + random()
		s.run(scanned)
	}
	s.volts[0] = base
	s.run(time.Second)
	s.expect("alarm hall")
}

func TestWrongConfigurationsAreRefused(t *testing.T) {
	for _, k := range []struct {
		c    zone.Config
		want string
	}{
		{loops("a", "a"), `there are two zones "a"`},
		{loops(""), "a zone has no name"},
		{zone.Config{Zones: []zone.Settings{{Name: "a", ConfirmWith: []string{"b"}}}}, `zone "a": there is no zone "b" to confirm it`},
		{zone.Config{Zones: []zone.Settings{{Name: "a", ConfirmWith: []string{"a"}}}}, `zone "a" cannot confirm itself`},
		{zone.Config{Zones: []zone.Settings{{Name: "a", Signal: "x"}}}, `zone "a": there is no signal "x"; there are loop, analog, contact and edges`},
		{zone.Config{Zones: []zone.Settings{{Name: "a", Enter: 2, Leave: 4}}}, `zone "a": motion is over below 4 times the noise, which is more than the 2 it begins at`},
		{zone.Config{Groups: []zone.Group{{Name: "g", Input: "k"}}}, `group "g": there is no zone "k" to arm it`},
	} {
		_, err := zone.New(k.c, start)
		if err == nil || err.Error() != k.want {
			t.Errorf("got %v, want %s", err, k.want)
		}
	}
}

func TestBandsComeFromResistors(t *testing.T) {
	p := zone.Resistors{}.Points()
	got := fmt.Sprintf("%.0f %.0f %.0f %.0f", p.Short, p.Normal, p.Alarm, p.Open)
	if got != "0 29 51 78" {
		t.Errorf("4k7, 2k2, 4k7 on an ADC Pi: %s", got)
	}
	p = zone.Resistors{EndOfLine: 4700}.Points()
	if got := fmt.Sprintf("%.0f %.0f %.0f %.0f", p.Short, p.Normal, p.Alarm, p.Open); got != "0 44 56 78" {
		t.Errorf("4k7, 4k7, 4k7: %s", got)
	}
	if _, err := (zone.Resistors{Alarm: 100}).Levels(); err == nil || !strings.Contains(err.Error(), "too close") {
		t.Errorf("levels that cannot be told apart: %v", err)
	}
	if _, err := (zone.Resistors{PullUp: -1}).Levels(); err == nil {
		t.Error("a negative resistor is accepted")
	}
}

// drawSite is any configuration of up to four zones of any signal.
func drawSite(t *rapid.T) zone.Config {
	c := zone.Config{WarmUp: rapid.SampledFrom([]time.Duration{-1, 2 * time.Second}).Draw(t, "warm-up")}
	for i := range rapid.IntRange(1, 4).Draw(t, "zones") {
		s := zone.Settings{
			Name:        string(rune('a' + i)),
			Signal:      rapid.SampledFrom([]zone.Signal{zone.Loop, zone.Analog, zone.Contact, zone.Edges}).Draw(t, "signal"),
			Policy:      rapid.SampledFrom([]zone.Policy{zone.Single, zone.Prefer, zone.Require}).Draw(t, "policy"),
			Sensitivity: rapid.SampledFrom([]zone.Sensitivity{zone.Low, zone.Medium, zone.High}).Draw(t, "sensitivity"),
			Filter:      rapid.SampledFrom([]zone.Filter{zone.MedianOfThree, zone.Hampel}).Draw(t, "filter"),
			SilentAfter: rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "silent"),
			LongPulse:   rapid.SampledFrom([]time.Duration{0, 2 * time.Second}).Draw(t, "long"),
		}
		if rapid.Bool().Draw(t, "short times") {
			s.Confirm, s.QuarantineFor, s.Refractory, s.Stuck, s.LoneWindow = 10*time.Second, 20*time.Second, 5*time.Second, 15*time.Second, time.Minute
		}
		if rapid.Bool().Draw(t, "grouped") {
			s.Group, s.EntryDelay = "g", rapid.Bool().Draw(t, "entry")
		}
		c.Zones = append(c.Zones, s)
	}
	c.Groups = []zone.Group{{Name: "g", Armed: true, ExitDelay: 3 * time.Second, EntryDelay: 2 * time.Second}}
	return c
}

// drawScans is what a site may read: mostly quiet, with everything that happens to wires.
func drawScans(t *rapid.T, c zone.Config, most int) []zone.Scan {
	var scans []zone.Scan
	now := start
	value := make([]float64, len(c.Zones))
	for range rapid.IntRange(1, most).Draw(t, "scans") {
		now = now.Add(rapid.SampledFrom([]time.Duration{scanned, scanned, scanned, scanned, time.Second, 7 * time.Second}).Draw(t, "after"))
		s := zone.Scan{Time: now, Supply: rapid.SampledFrom([]float64{0, 5, 5, 4.7, 1}).Draw(t, "supply")}
		for i := range c.Zones {
			if rapid.IntRange(0, 4).Draw(t, "what") == 0 {
				value[i] = rapid.SampledFrom([]float64{idle, idle, moved, open, gap, 0, math.NaN()}).Draw(t, "volts")
			} else if value[i] == 0 {
				value[i] = idle
			}
			r := zone.Reading{Zone: i, Volts: value[i], Active: value[i] == moved}
			if rapid.IntRange(0, 20).Draw(t, "unknown") == 0 {
				r.Unknown = "nobody answers"
			}
			s.Readings = append(s.Readings, r)
		}
		scans = append(scans, s)
	}
	return scans
}

func TestWhatIsSaidDoesNotDependOnHowItIsFed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawSite(t)
		scans := drawScans(t, c, 60)
		end := scans[len(scans)-1].Time.Add(time.Hour)
		one, err := zone.New(c, start)
		if err != nil {
			t.Fatal(err)
		}
		two, _ := zone.New(c, start)
		var a, b []zone.Event
		last := start
		for _, s := range scans {
			a = append(a, one.Feed(s)...)
			for range rapid.IntRange(0, 3).Draw(t, "looks") {
				between := last.Add(time.Duration(rapid.Int64Range(0, int64(s.Time.Sub(last))).Draw(t, "at")))
				b = append(b, two.Advance(between)...)
				two.Zones(between)
				two.Memory()
			}
			b = append(b, two.Feed(s)...)
			last = s.Time
		}
		a = append(a, one.Advance(end)...)
		for at := last; at.Before(end); at = at.Add(time.Minute) {
			b = append(b, two.Advance(at)...)
		}
		b = append(b, two.Advance(end)...)
		if d := cmp.Diff(a, b); d != "" {
			t.Fatalf("(-at once +in pieces):\n%s", d)
		}
	})
}

func TestEventsAreInOrderAndEachGoesOnFromTheLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawSite(t)
		p, err := zone.New(c, start)
		if err != nil {
			t.Fatal(err)
		}
		var last time.Time
		state := map[string]zone.State{}
		ids := map[string]bool{}
		check := func(events []zone.Event) {
			for _, e := range events {
				if e.Time.Before(last) {
					t.Fatalf("%s at %v comes after an event of %v", e.Kind, e.Time, last)
				}
				last = e.Time
				if ids[e.ID] {
					t.Fatalf("two events %s", e.ID)
				}
				ids[e.ID] = true
				if e.Reason == "" {
					t.Fatalf("%s gives no reason", e.Kind)
				}
				if e.From == "" {
					continue
				}
				was := state[e.Zone]
				if was == "" {
					was = zone.Normal
				}
				if e.From != was || e.Duration < 0 {
					t.Fatalf("%s of %s leaves %s after %v, and the zone was %s", e.Kind, e.Zone, e.From, e.Duration, was)
				}
				state[e.Zone] = e.State
			}
		}
		scans := drawScans(t, c, 80)
		for _, s := range scans {
			check(p.Feed(s))
			switch rapid.IntRange(0, 12).Draw(t, "command") {
			case 0:
				check(p.Arm(s.Time, "g", "test", rapid.Bool().Draw(t, "force")))
			case 1:
				check(p.Disarm(s.Time, "g", "test"))
			case 2:
				check(p.WalkTest(s.Time, s.Time.Add(10*time.Second)))
			}
			for _, z := range p.Zones(s.Time) {
				if was := state[z.Name]; was != z.State && (was != "" || z.State != zone.Normal) {
					t.Fatalf("%s is %s, and it was told that it is %s", z.Name, z.State, was)
				}
			}
		}
		check(p.Advance(scans[len(scans)-1].Time.Add(100 * time.Hour)))
	})
}

func TestASingleSampleThatIsOutOfLineIsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		signal := rapid.SampledFrom([]zone.Signal{zone.Loop, zone.Analog, zone.Contact}).Draw(t, "signal")
		c := zone.Config{WarmUp: -1, CommonHold: -1, Zones: []zone.Settings{{
			Name: "a", Signal: signal, Sensitivity: zone.High,
			Filter: rapid.SampledFrom([]zone.Filter{zone.MedianOfThree, zone.Hampel}).Draw(t, "filter"),
		}}}
		p, err := zone.New(c, start)
		if err != nil {
			t.Fatal(err)
		}
		every := rapid.SampledFrom([]time.Duration{10 * time.Millisecond, scanned, 200 * time.Millisecond, 3 * time.Second}).Draw(t, "every")
		until := rapid.IntRange(0, 10).Draw(t, "first")
		now := start
		for i := range 200 {
			now = now.Add(every)
			r := zone.Reading{Volts: idle + rapid.Float64Range(-0.003, 0.003).Draw(t, "noise")}
			if until == i {
				r.Volts, r.Active = rapid.Float64Range(-1, 6).Draw(t, "outlier"), true
				until += rapid.IntRange(6, 30).Draw(t, "next")
			}
			for _, e := range p.Feed(zone.Scan{Time: now, Readings: []zone.Reading{r}}) {
				if e.Kind != zone.Suppressed {
					t.Fatalf("sample %d: %s: %s", i, e.Kind, e.Reason)
				}
			}
		}
	})
}

// firstAlarm is how long after the start it first told an alarm; a very long time if it did not.
func firstAlarm(t *rapid.T, c zone.Config, scans []zone.Scan) time.Duration {
	p, err := zone.New(c, start)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scans {
		for _, e := range p.Feed(s) {
			if e.Kind == zone.Alarm {
				return e.Time.Sub(start)
			}
		}
	}
	return math.MaxInt64
}

func TestAMoreSensitiveZoneNeverAlarmsLater(t *testing.T) {
	for name, more := range map[string]func(*zone.Settings){
		"fewer pulses":      func(s *zone.Settings) { s.Pulses-- },
		"a longer window":   func(s *zone.Settings) { s.Window *= 2 },
		"a lower threshold": func(s *zone.Settings) { s.Enter /= 2; s.Leave /= 2 },
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				signal := rapid.SampledFrom([]zone.Signal{zone.Loop, zone.Analog, zone.Contact, zone.Edges}).Draw(t, "signal")
				c := zone.Config{WarmUp: -1, Zones: []zone.Settings{{
					Name: "a", Signal: signal, Pulses: 3, Window: 5 * time.Second, Enter: 8, Leave: 4,
					Filter: zone.NoFilter, MinWidth: -1, MergeGap: -1, Strong: -1, Stuck: -1,
				}}}
				if name == "a lower threshold" {
					c.Zones[0].Pulses = 1
				}
				scans := drawScans(t, c, 100)
				for i := range scans {
					scans[i].Supply = 0
				}
				less := firstAlarm(t, c, scans)
				c.Zones[0] = func() zone.Settings { s := c.Zones[0]; more(&s); return s }()
				if sooner := firstAlarm(t, c, scans); sooner > less {
					t.Fatalf("the more sensitive one alarms after %v, the other after %v", sooner, less)
				}
			})
		})
	}
}

func TestARestartNeverLosesATamper(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := loops("a", "b")
		if rapid.Bool().Draw(t, "warm-up") {
			c.WarmUp = time.Minute
		}
		p, err := zone.New(c, start)
		if err != nil {
			t.Fatal(err)
		}
		now, level := start, idle
		tampered := false // as it was told
		tell := func(events []zone.Event) {
			for _, e := range events {
				if e.Zone != "a" {
					continue
				}
				if e.State != "" && e.From != "" {
					tampered = e.State == zone.Tampered
				}
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "acts") {
			switch rapid.IntRange(0, 3).Draw(t, "act") {
			case 0:
				level = rapid.SampledFrom([]float64{idle, moved, open, 0}).Draw(t, "level")
			case 1: // killed, and started after a while
				b, err := json.Marshal(p.Memory())
				if err != nil {
					t.Fatal(err)
				}
				var m zone.Memory
				if err := json.Unmarshal(b, &m); err != nil {
					t.Fatal(err)
				}
				now = now.Add(time.Duration(rapid.IntRange(0, 3600).Draw(t, "away")) * time.Second)
				if p, err = zone.New(c, now); err != nil {
					t.Fatal(err)
				}
				before := tampered
				tell(p.Resume(m, now))
				if before && !tampered {
					t.Fatal("the restart forgot the tamper before it saw the loop")
				}
			default:
				for range rapid.IntRange(1, 30).Draw(t, "scans") {
					now = now.Add(scanned)
					tell(p.Feed(zone.Scan{Time: now, Readings: []zone.Reading{{Volts: level}, {Zone: 1, Volts: idle}}}))
				}
				continue
			}
		}
		for range 40 {
			now = now.Add(scanned)
			tell(p.Feed(zone.Scan{Time: now, Readings: []zone.Reading{{Volts: level}, {Zone: 1, Volts: idle}}}))
		}
		if want := level == open || level == 0; tampered != want || (p.Zones(now)[0].State == zone.Tampered) != want {
			t.Fatalf("the loop is at %.1f V, and it was told tampered=%v", level, tampered)
		}
	})
}

func TestMemoryOfAnotherSiteOrAnotherTimeDoesNoHarm(t *testing.T) {
	m := zone.Memory{Zones: map[string]zone.ZoneMemory{
		"hall": {LastTold: start.Add(1e6 * time.Hour), Lone: []time.Time{start.Add(1e6 * time.Hour)}},
		"gone": {Tamper: "cut"},
	}, Groups: map[string]zone.GroupMemory{"house": {State: "nonsense"}, "gone": {State: zone.GroupArmed}}}
	c := edges("hall")
	c.Zones[0].Group = "house"
	c.Groups = []zone.Group{{Name: "house", Armed: true}}
	s := newSite(t, c)
	s.said = append(s.said, s.panel.Resume(m, s.now)...)
	if g := s.panel.Groups(s.now)[0]; g.State != zone.GroupArmed {
		t.Errorf("the group is %q", g.State)
	}
	s.pass(7 * time.Hour)
	s.seen(time.Minute, 0)
	s.seen(5*time.Second, 0)
	s.expect("quarantine hall", "alarm hall")
}

func BenchmarkAScanOfSixteenZones(b *testing.B) {
	var c zone.Config
	for i := range 16 {
		s := zone.Settings{Name: fmt.Sprint("z", i)}
		if i%4 == 3 {
			s.Signal = zone.Analog
		}
		c.Zones = append(c.Zones, s)
	}
	c.Groups = []zone.Group{{Name: "house", Armed: true}}
	p, err := zone.New(c, start)
	if err != nil {
		b.Fatal(err)
	}
	scan := zone.Scan{Time: start, Supply: 5, Readings: make([]zone.Reading, 16)}
	b.ReportAllocs()
	for i := range b.N {
		scan.Time = scan.Time.Add(scanned)
		for z := range scan.Readings {
			scan.Readings[z] = zone.Reading{Zone: z, Volts: idle + float64((i+z)%5)*0.001}
		}
		p.Feed(scan)
	}
}

func BenchmarkOneZone(b *testing.B) {
	p, err := zone.New(loops("hall"), start)
	if err != nil {
		b.Fatal(err)
	}
	scan := zone.Scan{Time: start, Readings: make([]zone.Reading, 1)}
	b.ReportAllocs()
	for i := range b.N {
		scan.Time = scan.Time.Add(scanned)
		scan.Readings[0] = zone.Reading{Volts: idle + float64(i%5)*0.001}
		p.Feed(scan)
	}
}
