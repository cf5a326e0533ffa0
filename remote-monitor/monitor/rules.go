package monitor

import (
	"slices"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// rules decide what outputs do when something happens. They are pure but for the memory of when each ran last.
type rules struct {
	all  []config.Rule
	zone *time.Location
	ran  []time.Time // by rule; zero: never
}

func newRules(all []config.Rule, zone *time.Location) *rules {
	return &rules{all: all, zone: zone, ran: make([]time.Time, len(all))}
}

// decide returns the commands that follow from one event while the groups stand as they do, in the order of the rules
// and of their outputs. What nobody is to be notified of, and what came to nothing, moves no output.
func (r *rules) decide(e zone.Event, groups []zone.GroupStatus) []relay.Command {
	if e.Kind == zone.Suppressed || e.Quiet {
		return nil
	}
	var wishes []relay.Command
	for i, rule := range r.all {
		if !about(rule, e) || !standing(rule, groups) || !within(rule.Between, e.Time.In(r.zone)) {
			continue
		}
		// A clock that was set back must not keep a rule from running until it has caught up.
		since := e.Time.Sub(r.ran[i])
		if !r.ran[i].IsZero() && since >= 0 && since < rule.Every {
			continue
		}
		r.ran[i] = e.Time
		for _, id := range rule.Outputs {
			wishes = append(wishes, relay.Command{Output: id, Action: rule.Action, For: rule.For, Source: "rule", Who: rule.Name})
		}
	}
	return wishes
}

// about says whether a rule is about an event. One that names neither zones nor groups is about all of them.
func about(rule config.Rule, e zone.Event) bool {
	if !slices.Contains(rule.On, e.Kind) {
		return false
	}
	return len(rule.Zones) == 0 && len(rule.Groups) == 0 ||
		e.Zone != "" && slices.Contains(rule.Zones, e.Zone) ||
		e.Group != "" && slices.Contains(rule.Groups, e.Group)
}

// standing says whether the groups stand as a rule wants them. A group that is not listed is always armed.
func standing(rule config.Rule, groups []zone.GroupStatus) bool {
	state := func(name string) zone.GroupState {
		for _, g := range groups {
			if g.Name == name {
				return g.State
			}
		}
		return zone.GroupArmed
	}
	for _, name := range rule.Armed {
		if s := state(name); s == zone.GroupDisarmed || s == zone.GroupExit {
			return false
		}
	}
	for _, name := range rule.Disarmed {
		if state(name) != zone.GroupDisarmed {
			return false
		}
	}
	return true
}

// within says whether the clock on the wall shows a time in one of the spans; without spans it always does. An hour
// that a change to winter time repeats counts both times, one that is left out does not come.
func within(spans []zone.Span, t time.Time) bool {
	clock := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second +
		time.Duration(t.Nanosecond())
	today := t.Weekday()
	yesterday := (today + 6) % 7
	on := func(s zone.Span, day time.Weekday) bool { return len(s.Days) == 0 || slices.Contains(s.Days, day) }
	for _, s := range spans {
		switch {
		case s.From < s.To:
			if on(s, today) && clock >= s.From && clock < s.To {
				return true
			}
		case on(s, today) && clock >= s.From, on(s, yesterday) && clock < s.To:
			return true
		}
	}
	return len(spans) == 0
}
