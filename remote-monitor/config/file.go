package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Bounds.
const (
	day        = 24 * time.Hour
	mostPulses = 20 // zone's
)

// file reads the YAML file. The format is described in example.yaml; each function here is one of its parts.
func (d *draft) file(m *mapping) {
	m.text("device", &d.Device)
	d.timeZone(m)
	m.text("data", &d.Data)
	m.duration("interval", &d.Interval, leastInterval, mostInterval)
	m.duration("heartbeat", &d.Heartbeat, time.Second, day)
	m.durationOr(-1, "warm_up", &d.Site.WarmUp, 0, time.Hour)
	m.durationOr(-1, "common_hold", &d.Site.CommonHold, 0, 10*time.Second)
	m.text("watchdog", &d.Watchdog)

	m.under("boards", "", func(m *mapping) {
		d.boardsSaid = true
		for _, k := range m.keys {
			m.under(k.name, "board "+k.name, func(b *mapping) { d.chip(b, k) })
		}
	})
	m.under("supply", "supply", func(m *mapping) {
		if m.name("input", &d.supply); d.supply.text == "" {
			m.wrong(m.at, "want the input that measures the supply, such as input: adc1:8")
		}
		m.number("scale", &d.SupplyScale, 0.1, 100)
		m.number("nominal", &d.Site.Supply, 1, 60)
	})

	defaults := draftZone{}
	m.under("defaults", "defaults", func(m *mapping) { d.settings(m, &defaults) })
	d.zonesAt, _ = m.each("zones", "zone", func(m *mapping) { d.zone(m, defaults) })
	m.each("groups", "group", d.group)
	d.outputsAt, _ = m.each("outputs", "output", d.output)
	m.whole("max_simultaneous", &d.Relay.MaxSimultaneous, 1, 64)
	m.each("rules", "rule", d.rule)
	if len(d.zones) == 0 {
		d.zonesAt = place{}
	}
	if len(d.outputs) == 0 {
		d.outputsAt = place{}
	}

	d.integrations(m)
	m.done()
}

func (d *draft) timeZone(m *mapping) {
	var name string
	if at, ok := m.text("time_zone", &name); ok {
		tz, err := location(name)
		if err != nil {
			m.wrong(at, "time_zone: %v", err)
			return
		}
		d.TimeZone = tz
	}
}

func location(name string) (*time.Location, error) {
	tz, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("there is no time zone %s; want one such as Europe/Berlin or UTC", quoted(name))
	}
	return tz, nil
}

// chip reads one of the boards. Its name is the key.
func (d *draft) chip(m *mapping, k key) {
	c := draftChip{Chip: board.Chip{Name: k.name}, at: k.at}
	if !isID(k.name) {
		m.wrong(k.at, "want a name of letters, digits, _ and -, such as adc1")
	}
	if s, ok := m.value("kind"); ok && slices.Contains(products, strings.ToLower(s.text)) {
		m.wrong(s.at, "kind: %s is a product; its chip is %s", s.shown, productChip(s.text))
	} else if ok {
		choice(m, "kind", &c.Kind, chipKinds...)
	} else if _, _, given := m.ask("kind"); !given {
		m.wrong(k.at, "want its kind: one of %s", list(wordNames(chipKinds)))
	}
	m.text("bus", &c.Bus)
	m.text("device", &c.Device)
	addresses, given := m.scalars("address")
	for _, s := range addresses {
		n, err := strconv.ParseUint(s.text, 0, 16)
		if err != nil {
			m.wrong(s.at, "address: %s: want an address such as 0x20", s.shown)
			c.Kind = "" // nothing more is to be said of it
		}
		c.Addresses = append(c.Addresses, uint16(n))
	}
	if given && len(addresses) == 0 {
		m.wrong(k.at, "address has no value; write one such as 0x20, or leave the key out")
		c.Kind = ""
	}
	var bits, gain int
	m.whole("bits", &bits, 8, 24)
	m.whole("gain", &gain, 1, 16)
	c.Bits, c.Gain = bits, gain
	m.number("scale", &c.Scale, 0.001, 1000)
	m.yes("pull_up", &c.PullUp)
	if s, ok := m.value("seed"); ok {
		if n, err := strconv.ParseUint(s.text, 10, 64); err != nil {
			m.wrong(s.at, "seed: %s: want a whole number, zero or more", s.shown)
		} else {
			c.seed = &n
		}
	}
	if slices.ContainsFunc(d.chips, func(o draftChip) bool { return o.Name == c.Name }) {
		return // told already
	}
	d.chips = append(d.chips, c)
}

// products are boards as they are sold. A board may have several chips, so each chip has a name of its own here.
var products = []string{"adc-pi", "adcpi", "adc pi", "io-pi", "iopi", "io pi", "io pi plus", "io zero 32", "io-zero-32"}

func productChip(product string) string {
	switch p := strings.ToLower(product); {
	case strings.HasPrefix(p, "adc"):
		return "mcp3424, with both of its addresses: {kind: mcp3424, address: [0x68, 0x69]}"
	case strings.Contains(p, "zero"):
		return "pca9535, of which it has two: {kind: pca9535, address: 0x20} and one at 0x21"
	default:
		return "mcp23017, of which it has two: {kind: mcp23017, address: 0x20} and one at 0x21"
	}
}

func wordNames[T any](words []word[T]) (names []string) {
	for _, w := range words {
		names = append(names, w.name)
	}
	return names
}

// zone reads one zone on top of the defaults.
func (d *draft) zone(m *mapping, defaults draftZone) {
	z := defaults
	z.at = m.at
	if at, ok := m.text("name", &z.Name); ok {
		z.at = at
		m.what = "zone " + z.Name
	} else {
		m.wrong(m.at, "want a name")
	}
	z.what = m.what
	z.idAt, _ = m.text("id", &z.ID)
	m.name("input", &z.input)
	m.yes("invert", &z.Invert)
	m.text("type", &z.Type)
	m.text("location", &z.Location)
	d.settings(m, &z)
	d.zones = append(d.zones, z)
}

// settings reads what zones and the defaults for all zones have in common.
func (d *draft) settings(m *mapping, z *draftZone) {
	s := &z.set
	choice(m, "signal", &s.Signal, signals...)
	choice(m, "profile", &s.Profile, profiles...)
	m.text("class", &z.Class)
	m.text("tamper_label", &z.Tamper)
	if _, _, given := m.ask("group"); given {
		m.name("group", &z.group)
	}
	d.levels(m, z)
	choice(m, "filter", &s.Filter, filters...)

	_, analog := m.under("analog", "analog", func(m *mapping) {
		m.number("enter", &s.Enter, 1, 100)
		m.number("leave", &s.Leave, 0.5, 100)
		m.duration("baseline", &s.Baseline, time.Second, day)
		m.yes("bipolar", &s.Bipolar)
		if v, ok := m.value("strong"); ok && isOff(v.text) {
			s.Strong = -1
		} else if ok {
			m.number("strong", &s.Strong, 1, 1000)
		}
	})
	if analog {
		_, z.analogAt, _ = m.ask("analog")
	}

	if _, ok := choice(m, "sensitivity", &s.Sensitivity, sensitivities...); ok {
		s.Pulses, s.Window = 0, 0 // of the defaults
	}
	m.whole("pulses", &s.Pulses, 1, mostPulses)
	m.duration("window", &s.Window, time.Second, day)
	m.durationOr(-1, "min_width", &s.MinWidth, 0, time.Minute)
	m.durationOr(-1, "merge_gap", &s.MergeGap, 0, time.Minute)
	m.durationOr(0, "long_pulse", &s.LongPulse, 100*time.Millisecond, time.Hour)
	m.durationOr(-1, "stuck", &s.Stuck, time.Second, 30*day)
	m.duration("hold", &s.Hold, 100*time.Millisecond, time.Hour)
	m.duration("quiet", &s.Quiet, 100*time.Millisecond, time.Hour)
	m.durationOr(-1, "refractory", &s.Refractory, time.Second, day)

	choice(m, "policy", &s.Policy, policies...)
	if with, given := m.scalars("confirm_with"); given {
		z.confirmWith = []name{}
		for _, w := range with {
			z.confirmWith = append(z.confirmWith, name{w.text, w.at})
		}
	}
	m.duration("confirm_within", &s.Confirm, time.Second, day)
	m.duration("sequential", &s.Sequential, time.Second, day)
	m.under("quarantine", "quarantine", func(m *mapping) {
		m.wholeOrOff("after", &s.QuarantineAfter, 1, 100)
		m.duration("for", &s.QuarantineFor, time.Minute, 30*day)
		m.wholeOrOff("lone_pulses", &s.LonePulses, 1, 1000)
		m.duration("lone_window", &s.LoneWindow, time.Minute, 7*day)
	})
	m.under("swinger", "swinger", func(m *mapping) {
		m.wholeOrOff("after", &s.SwingerAfter, 1, 100)
		m.duration("quiet", &s.SwingerQuiet, time.Minute, 30*day)
	})
	m.durationOr(0, "silent_after", &s.SilentAfter, time.Hour, 366*day)
	m.yes("entry_delay", &s.EntryDelay)
	m.yes("exit_route", &s.ExitRoute)
}

// levels reads one of the three ways to say what a loop's levels mean.
func (d *draft) levels(m *mapping, z *draftZone) {
	given := 0
	begin := func(at place) {
		given++
		z.levelsAt, z.around = at, false
		z.set.Levels, z.set.Normal, z.set.Tamper = nil, 0, nil
		if given > 1 {
			m.wrong(at, "resistors, levels and around exclude each other; keep one")
		}
	}
	m.under("resistors", "resistors", func(m *mapping) {
		begin(m.at)
		var r zone.Resistors
		for _, part := range []struct {
			name string
			to   *float64
		}{{"pull_up", &r.PullUp}, {"end_of_line", &r.EndOfLine}, {"alarm", &r.Alarm}, {"input", &r.Input}} {
			s, ok := m.value(part.name)
			if !ok {
				continue
			}
			f, ok := ohms(s.text)
			if !ok || math.IsInf(f, 1) && part.name != "input" {
				m.wrong(s.at, "%s: %s: want a resistance in ohms, such as 4700, 4.7k or 4k7", part.name, s.shown)
				return
			}
			*part.to = f
		}
		l, err := r.Levels()
		if err != nil {
			m.wrong(m.at, "%v", err)
			return
		}
		z.set.Levels = &l
	})
	m.under("levels", "levels", func(m *mapping) {
		begin(m.at)
		z.set.Levels = d.bands(m)
	})
	m.under("around", "around", func(m *mapping) {
		begin(m.at)
		var normal, tamper float64
		if _, ok := m.number("normal", &normal, 0, 100); !ok {
			if _, _, there := m.ask("normal"); !there {
				m.wrong(m.at, "want normal: the percentage of the supply when all is quiet")
			}
			return
		}
		var meddled *float64
		if at, ok := m.number("tamper", &tamper, 0, 100); ok {
			meddled = &tamper
			if math.Abs(tamper-normal) <= tolerance {
				m.wrong(at, "tamper: %s: it is within %d of normal, %s, and would never be seen", number(tamper), tolerance, number(normal))
			}
		}
		z.aroundLevels(normal, meddled)
	})
}

// aroundLevels gives a zone the meaning of the original's two numbers.
func (z *draftZone) aroundLevels(normal float64, tamper *float64) {
	l := zone.Around(normal, tamper)
	z.around = true
	z.set.Levels, z.set.Normal, z.set.Tamper = &l, normal, tamper
}

// bands reads levels: either all of them as points in the middle of their bands, or all as bands.
func (d *draft) bands(m *mapping) *zone.Levels {
	before := len(d.found)
	var points, ranges int
	said := map[string]zone.Band{}
	for _, name := range bandNames {
		values, given := m.scalars(name)
		if !given {
			continue
		}
		var ends []float64
		for _, v := range values {
			f, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(v.text, "%")), 64)
			if err != nil || !(f >= -20 && f <= 120) {
				m.wrong(v.at, "%s: %s: want a percentage of the supply, 0 to 100", name, v.shown)
				return nil
			}
			ends = append(ends, f)
		}
		_, at, _ := m.ask(name)
		switch {
		case len(ends) == 1:
			said[name] = zone.Band{Low: ends[0], High: ends[0]}
			points++
		case len(ends) == 2 && ends[0] < ends[1]:
			said[name] = zone.Band{Low: ends[0], High: ends[1]}
			ranges++
		default:
			m.wrong(at, "%s: want one percentage, or the lower and the upper end of a band: [22, 36]", name)
			return nil
		}
	}
	var hysteresis float64
	m.number("hysteresis", &hysteresis, 0.1, 20)
	for _, name := range []string{"normal", "alarm"} {
		if _, ok := said[name]; !ok {
			m.wrong(m.at, "want normal and alarm: the percentages of the supply when all is quiet and when something moves")
			return nil
		}
	}
	if points > 0 && ranges > 0 {
		m.wrong(m.at, "give all levels as one percentage each, or all as bands")
		return nil
	}
	l, err := zone.Levels{}, error(nil)
	if points > 0 {
		l, err = aroundPoints(said)
	} else {
		l, err = asBands(said)
	}
	if err != nil {
		m.wrong(m.at, "%v", err)
	}
	if len(d.found) > before {
		return nil
	}
	l.Hysteresis = hysteresis
	return &l
}

// group reads one arming group.
func (d *draft) group(m *mapping) {
	g := draftGroup{at: m.at}
	if at, ok := m.text("name", &g.Name); !ok {
		m.wrong(m.at, "want a name")
	} else {
		g.at = at
		m.what = "group " + g.Name
		if !isID(g.Name) {
			m.wrong(at, "want a name of letters, digits, _ and -, such as %s", slug(g.Name, "house"))
		}
	}
	m.durationOr(-1, "exit_delay", &g.ExitDelay, time.Second, time.Hour)
	m.durationOr(-1, "entry_delay", &g.EntryDelay, time.Second, time.Hour)
	m.yes("armed", &g.Armed)
	g.Schedule = m.spans("schedule")
	m.name("input", &g.input)
	m.yes("force", &g.Force)
	d.groups = append(d.groups, g)
}

// output reads one output.
func (d *draft) output(m *mapping) {
	o := draftOutput{at: m.at}
	b := &o.bounds
	if at, ok := m.text("name", &o.Name); ok {
		o.at = at
		m.what = "output " + o.Name
	} else {
		m.wrong(m.at, "want a name")
	}
	o.idAt, _ = m.text("id", &o.ID)
	if m.name("pin", &o.pin); o.pin.text == "" {
		m.wrong(o.at, "want a pin, such as pin: io1:1")
	}
	m.text("type", &o.Type)
	m.text("location", &o.Location)
	choice(m, "active", &b.Active, word[relay.Level]{"high", relay.ActiveHigh}, word[relay.Level]{"low", relay.ActiveLow})
	choice(m, "safe", &b.SafeOn, word[bool]{"off", false}, word[bool]{"on", true})
	m.yes("latching", &b.Latching)
	m.duration("lease", &b.Lease, time.Second, 30*day)
	most := relay.LongestMaxOn
	if b.Latching {
		most = 366 * day
	}
	if s, ok := m.value("max_on"); ok {
		if dur, known := parseDuration(s.text); known && dur > most {
			m.wrong(s.at, "max_on: %s: want at most %s; only an output that is latching: true, and has a lease, may be on for longer", s.shown, span(most))
		} else {
			m.duration("max_on", &b.MaxOn, 10*time.Millisecond, most)
		}
		o.maxSaid = true
	}
	o.onAt, _ = m.duration("pulse", &b.On, 10*time.Millisecond, most)
	choice(m, "too_long", &b.Over, word[relay.Over]{"reject", relay.Reject}, word[relay.Over]{"clamp", relay.Clamp})
	choice(m, "retrigger", &b.Retrigger, word[relay.Retrigger]{"extend", relay.Extend},
		word[relay.Retrigger]{"ignore", relay.Ignore}, word[relay.Retrigger]{"restart", relay.Restart})
	m.text("exclusive", &b.Exclusive)
	m.duration("dead_time", &b.Dead, 10*time.Millisecond, time.Minute)
	m.durationOr(0, "min_off", &b.MinOff, 10*time.Millisecond, time.Hour)
	m.whole("per_minute", &b.PerMinute, 1, 600)
	if sources, given := m.scalars("sources"); given {
		b.Sources = []string{}
		for _, s := range sources {
			if !slices.Contains(commanders, s.text) {
				m.wrong(s.at, "sources: %s commands nothing; %s", s.shown, instead(s.text, commanders))
			}
			b.Sources = append(b.Sources, s.text)
		}
	}
	m.yes("pulled_down", &b.PulledDown)
	d.outputs = append(d.outputs, o)
}

// rule reads one local rule.
func (d *draft) rule(m *mapping) {
	r := draftRule{at: m.at}
	r.Name = fmt.Sprintf("rule %d", len(d.rules)+1)
	if at, ok := m.text("name", &r.Name); ok {
		r.at = at
		m.what = "rule " + r.Name
	}
	names := func(key string) (all []name) {
		values, _ := m.scalars(key)
		for _, v := range values {
			all = append(all, name{v.text, v.at})
		}
		return all
	}
	when, given := m.scalars("when")
	if !given || len(when) == 0 {
		m.wrong(r.at, "want when: what has to happen, such as when: alarm")
	}
	all := slices.Concat(zoneKinds, groupKinds)
	for _, w := range when {
		if kind := zone.Kind(w.text); slices.Contains(all, kind) {
			r.On = append(r.On, kind)
			continue
		}
		var words []string
		for _, k := range all {
			words = append(words, string(k))
		}
		m.wrong(w.at, "when: %s never happens; %s", w.shown, instead(w.text, words))
	}
	r.zones, r.groups, r.armed, r.disarmed = names("zones"), names("groups"), names("armed"), names("disarmed")
	r.Between = m.spans("between")
	if r.outputs = names("outputs"); len(r.outputs) == 0 {
		m.wrong(r.at, "want outputs: what it drives")
	}
	r.Action = relay.Pulse
	r.actionAt, _ = choice(m, "action", &r.Action, same(relay.Pulse, relay.On, relay.Off)...)
	r.forAt, _ = m.duration("for", &r.For, 10*time.Millisecond, 366*day)
	m.durationOr(0, "every", &r.Every, time.Second, 366*day)
	d.rules = append(d.rules, r)
}
