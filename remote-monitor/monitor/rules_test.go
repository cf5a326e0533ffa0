package monitor

import (
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// clockTime is a time of the day.
func clockTime(h, m int) time.Duration {
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
}

func TestARuleRunsWhenItsEventComesAndAllConditionsHold(t *testing.T) {
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC) // a Monday
	motion := zone.Event{Kind: zone.Motion, Zone: "Hall", Group: "house", Time: noon}
	with := func(f func(*zone.Event)) zone.Event {
		e := motion
		f(&e)
		return e
	}
	base := config.Rule{Name: "r", Zones: []string{"Hall", "Door"}, On: []zone.Kind{zone.Motion, zone.Alarm}, Outputs: []string{"light"}, Action: relay.On}
	rule := func(f func(*config.Rule)) config.Rule {
		r := base
		f(&r)
		return r
	}
	stands := func(s zone.GroupState) []zone.GroupStatus {
		return []zone.GroupStatus{{Name: "shed"}, {Name: "house", State: s}}
	}
	for name, c := range map[string]struct {
		rule   config.Rule
		event  zone.Event
		groups []zone.GroupStatus
		want   int
	}{
		"motion in its zone":          {base, motion, nil, 1},
		"in another of its zones":     {base, with(func(e *zone.Event) { e.Zone = "Door" }), nil, 1},
		"in a zone it does not name":  {base, with(func(e *zone.Event) { e.Zone = "Attic" }), nil, 0},
		"of a kind it does not name":  {base, with(func(e *zone.Event) { e.Kind = zone.Still }), nil, 0},
		"suppressed":                  {rule(func(r *config.Rule) { r.On = []zone.Kind{zone.Suppressed} }), with(func(e *zone.Event) { e.Kind = zone.Suppressed }), nil, 0},
		"a quiet alarm":               {base, with(func(e *zone.Event) { e.Kind, e.Quiet = zone.Alarm, true }), nil, 0},
		"an alarm":                    {base, with(func(e *zone.Event) { e.Kind = zone.Alarm }), nil, 1},
		"of the site":                 {base, with(func(e *zone.Event) { e.Zone, e.Group = "", "" }), nil, 0},
		"any zone":                    {rule(func(r *config.Rule) { r.Zones = nil }), with(func(e *zone.Event) { e.Zone = "Attic" }), nil, 1},
		"any zone of a group":         {rule(func(r *config.Rule) { r.Zones, r.Groups = nil, []string{"house"} }), motion, nil, 1},
		"any zone of another group":   {rule(func(r *config.Rule) { r.Zones, r.Groups = nil, []string{"shed"} }), motion, nil, 0},
		"a group is armed":            {rule(func(r *config.Rule) { r.Groups, r.On = []string{"house"}, []zone.Kind{zone.Armed} }), zone.Event{Kind: zone.Armed, Group: "house", Time: noon}, nil, 1},
		"another group is armed":      {rule(func(r *config.Rule) { r.Groups, r.On = []string{"house"}, []zone.Kind{zone.Armed} }), zone.Event{Kind: zone.Armed, Group: "shed", Time: noon}, nil, 0},
		"armed as it wants":           {rule(func(r *config.Rule) { r.Armed = []string{"house"} }), motion, stands(zone.GroupArmed), 1},
		"in alarm is armed":           {rule(func(r *config.Rule) { r.Armed = []string{"house"} }), motion, stands(zone.GroupAlarm), 1},
		"the entry delay is armed":    {rule(func(r *config.Rule) { r.Armed = []string{"house"} }), motion, stands(zone.GroupEntry), 1},
		"the exit delay is not armed": {rule(func(r *config.Rule) { r.Armed = []string{"house"} }), motion, stands(zone.GroupExit), 0},
		"nor disarmed":                {rule(func(r *config.Rule) { r.Disarmed = []string{"house"} }), motion, stands(zone.GroupExit), 0},
		"disarmed as it wants":        {rule(func(r *config.Rule) { r.Disarmed = []string{"house"} }), motion, stands(zone.GroupDisarmed), 1},
		"disarmed and wants armed":    {rule(func(r *config.Rule) { r.Armed = []string{"house"} }), motion, stands(zone.GroupDisarmed), 0},
		"a group that always is":      {rule(func(r *config.Rule) { r.Armed = []string{"attic"} }), motion, nil, 1},
		"within its hours":            {rule(func(r *config.Rule) { r.Between = []zone.Span{{From: clockTime(11, 0), To: clockTime(13, 0)}} }), motion, nil, 1},
		"outside of its hours":        {rule(func(r *config.Rule) { r.Between = []zone.Span{{From: clockTime(13, 0), To: clockTime(11, 0)}} }), motion, nil, 0},
		"on its day": {rule(func(r *config.Rule) {
			r.Between = []zone.Span{{Days: []time.Weekday{time.Monday}, To: clockTime(24, 0)}}
		}), motion, nil, 1},
		"on another day": {rule(func(r *config.Rule) {
			r.Between = []zone.Span{{Days: []time.Weekday{time.Sunday}, To: clockTime(24, 0)}}
		}), motion, nil, 0},
		"two outputs": {rule(func(r *config.Rule) { r.Outputs = []string{"light", "gate"} }), motion, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			got := newRules([]config.Rule{c.rule}, time.UTC).decide(c.event, c.groups)
			if len(got) != c.want {
				t.Errorf("%d commands, want %d: %+v", len(got), c.want, got)
			}
		})
	}
}

func TestARuleSaysWhoItIs(t *testing.T) {
	r := newRules([]config.Rule{{Name: "porch light", On: []zone.Kind{zone.Motion}, Outputs: []string{"light"}, Action: relay.Pulse, For: time.Minute}}, time.UTC)
	got := r.decide(zone.Event{Kind: zone.Motion, Zone: "Hall", Time: time.Unix(1, 0)}, nil)
	want := []relay.Command{{Output: "light", Action: relay.Pulse, For: time.Minute, Source: "rule", Who: "porch light"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestARuleRunsNoOftenerThanItMay(t *testing.T) {
	r := newRules([]config.Rule{{Name: "x", On: []zone.Kind{zone.Motion}, Outputs: []string{"light"}, Every: time.Minute}}, time.UTC)
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		at   time.Duration
		want int
	}{
		{0, 1}, {0, 0}, {59 * time.Second, 0}, {time.Minute, 1}, {119 * time.Second, 0}, {2 * time.Minute, 1},
		{-time.Hour, 1}, // the clock was set back
		{-time.Hour + time.Second, 0}, {-time.Hour + time.Minute, 1},
	} {
		if got := r.decide(zone.Event{Kind: zone.Motion, Zone: "Hall", Time: noon.Add(c.at)}, nil); len(got) != c.want {
			t.Errorf("at %v: %d commands, want %d", c.at, len(got), c.want)
		}
	}
}

func TestHoursAreThoseOfTheClockOnTheWall(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	night := []zone.Span{{From: clockTime(22, 0), To: clockTime(6, 0)}}
	friday := []zone.Span{{Days: []time.Weekday{time.Friday}, From: clockTime(22, 0), To: clockTime(6, 0)}}
	early := []zone.Span{{From: clockTime(2, 0), To: clockTime(3, 0)}}
	for name, c := range map[string]struct {
		spans []zone.Span
		utc   string
		want  bool
	}{
		"before the night":                                   {night, "2026-01-10T20:59:59Z", false},
		"the night begins":                                   {night, "2026-01-10T21:00:00Z", true},
		"after midnight":                                     {night, "2026-01-10T23:30:00Z", true},
		"the last second":                                    {night, "2026-01-11T04:59:59Z", true},
		"the night is over":                                  {night, "2026-01-11T05:00:00Z", false},
		"an hour earlier by UTC in summer":                   {night, "2026-07-10T20:00:00Z", true},
		"Friday night on Saturday morning":                   {friday, "2026-01-10T02:00:00Z", true},
		"Thursday night on Friday morning":                   {friday, "2026-01-09T02:00:00Z", false},
		"Saturday night":                                     {friday, "2026-01-10T22:00:00Z", false},
		"the hour that is left out, before":                  {early, "2026-03-29T00:59:59Z", false},
		"the hour that is left out, after":                   {early, "2026-03-29T01:00:00Z", false},
		"the hour that comes twice, first":                   {early, "2026-10-25T00:30:00Z", true},
		"the hour that comes twice, second":                  {early, "2026-10-25T01:30:00Z", true},
		"after the hour that comes twice":                    {early, "2026-10-25T02:00:00Z", false},
		"the night in which the clock goes forward, its end": {night, "2026-03-29T03:59:59Z", true},
		"and after it":                                       {night, "2026-03-29T04:00:00Z", false},
		"the night in which the clock goes back, its end":    {night, "2026-10-25T04:59:59Z", true},
		"and after that":                                     {night, "2026-10-25T05:00:00Z", false},
	} {
		t.Run(name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, c.utc)
			if err != nil {
				t.Fatal(err)
			}
			if got := within(c.spans, at.In(berlin)); got != c.want {
				t.Errorf("%v: %v", at.In(berlin), got)
			}
		})
	}
}

// someRules draws rules, and someEvents events in the order of time, of a small site, so that they often meet.
func someRules(t *rapid.T) []config.Rule {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2, rapid.ID)
	seldom := rapid.Custom(func(t *rapid.T) []string {
		if rapid.IntRange(0, 3).Draw(t, "at all") > 0 {
			return nil
		}
		return names.Draw(t, "names")
	})
	hours := rapid.Custom(func(t *rapid.T) zone.Span {
		return zone.Span{
			Days: rapid.SliceOfN(rapid.SampledFrom([]time.Weekday{0, 1, 2, 3, 4, 5, 6}), 0, 2).Draw(t, "days"),
			From: time.Duration(rapid.IntRange(0, 23).Draw(t, "from")) * time.Hour,
			To:   time.Duration(rapid.IntRange(0, 24).Draw(t, "to")) * time.Hour,
		}
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) config.Rule {
		return config.Rule{
			Name: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name"), Zones: names.Draw(t, "zones"), Groups: names.Draw(t, "groups"),
			On:    rapid.SliceOfN(rapid.SampledFrom([]zone.Kind{zone.Motion, zone.Alarm, zone.Restore, zone.Suppressed, zone.Armed}), 1, 3).Draw(t, "on"),
			Armed: seldom.Draw(t, "armed"), Disarmed: seldom.Draw(t, "disarmed"), Between: rapid.SliceOfN(hours, 0, rapid.IntRange(0, 1).Draw(t, "spans")).Draw(t, "between"),
			Outputs: rapid.SliceOfN(rapid.SampledFrom([]string{"light", "gate"}), 1, 2).Draw(t, "outputs"), Action: relay.Pulse,
			Every: time.Duration(rapid.IntRange(0, 3600).Draw(t, "every")) * time.Second,
		}
	}), 1, 4).Draw(t, "rules")
}

func someEvents(t *rapid.T) []zone.Event {
	at := time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) zone.Event {
		at = at.Add(time.Duration(rapid.IntRange(0, 7200).Draw(t, "later")) * time.Second)
		return zone.Event{
			Time: at, Kind: rapid.SampledFrom([]zone.Kind{zone.Motion, zone.Alarm, zone.Restore, zone.Suppressed, zone.Armed}).Draw(t, "kind"),
			Zone: rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "zone"), Group: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "group"),
			Quiet: rapid.Bool().Draw(t, "quiet"),
		}
	}), 0, 30).Draw(t, "events")
}

func someGroups(t *rapid.T) []zone.GroupStatus {
	states := rapid.SampledFrom([]zone.GroupState{zone.GroupDisarmed, zone.GroupExit, zone.GroupArmed, zone.GroupEntry, zone.GroupAlarm})
	return []zone.GroupStatus{{Name: "a", State: states.Draw(t, "a")}, {Name: "b", State: states.Draw(t, "b")}}
}

func TestNoRuleRunsWithoutReasonTooOftenOrDifferentlyTheNextTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, events, groups := someRules(t), someEvents(t), someGroups(t)
		for i := range all {
			all[i].Name = string(rune('p' + i))
		}
		r, again := newRules(all, time.UTC), newRules(all, time.UTC)
		last := map[string]time.Time{}
		for _, e := range events {
			got := r.decide(e, groups)
			if d := cmp.Diff(got, again.decide(e, groups)); d != "" {
				t.Fatalf("the same rules decide differently: %s", d)
			}
			if (e.Quiet || e.Kind == zone.Suppressed) && got != nil {
				t.Fatalf("%+v moved %+v", e, got)
			}
			ran := map[string]bool{}
			for _, c := range got {
				i := int(c.Who[0] - 'p')
				rule := all[i]
				if c.Source != "rule" || !slices.Contains(rule.Outputs, c.Output) || !slices.Contains(rule.On, e.Kind) {
					t.Fatalf("%+v by %+v", c, rule)
				}
				for _, g := range groups {
					off := g.State == zone.GroupDisarmed || g.State == zone.GroupExit
					if slices.Contains(rule.Armed, g.Name) && off || slices.Contains(rule.Disarmed, g.Name) && g.State != zone.GroupDisarmed {
						t.Fatalf("%s is %s, and %+v ran", g.Name, g.State, rule)
					}
				}
				if slices.Contains(rule.Disarmed, "c") {
					t.Fatalf("c is always armed, and %+v ran", rule)
				}
				if before, ok := last[rule.Name]; ok && !ran[rule.Name] && e.Time.Sub(before) < rule.Every {
					t.Fatalf("%+v ran after %v", rule, e.Time.Sub(before))
				}
				ran[rule.Name] = true
				last[rule.Name] = e.Time
			}
		}
	})
}

func TestASpanAndTheHoursLeftFromItAreTheWholeWeek(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := time.Duration(rapid.IntRange(0, 24*60-1).Draw(t, "from")) * time.Minute
		to := time.Duration(rapid.IntRange(0, 24*60-1).Draw(t, "to")) * time.Minute
		if from == to {
			return
		}
		at := time.Unix(rapid.Int64Range(1.7e9, 1.9e9).Draw(t, "at"), 0).UTC()
		in, out := within([]zone.Span{{From: from, To: to}}, at), within([]zone.Span{{From: to, To: from}}, at)
		if in == out {
			t.Fatalf("from %v to %v: %v, and the rest of the day: %v", from, to, in, out)
		}
	})
}
