package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// checkZones looks up what zones refer to and fills in what was not said.
func (d *draft) checkZones(taken map[board.Pin]string) {
	names := map[string]bool{}
	for i := range d.zones {
		z := &d.zones[i]
		what := cmp.Or(z.what, "zone "+z.Name)
		bad := func(at place, format string, args ...any) {
			d.wrong(at, "%s: %s", what, fmt.Sprintf(format, args...))
		}
		if z.Name != "" && names[z.Name] {
			bad(z.at, "another zone has this name; choose another one")
		}
		names[z.Name] = true
		var c *draftChip
		switch {
		case z.set.Signal == zone.Edges && z.input.text != "":
			bad(z.input.at, "signal: edges is for recordings and has no input; take the input out, or choose loop, analog or contact")
		case z.input.text == "" && z.set.Signal == zone.Edges:
			d.note("zone %s has signal: edges, so only recordings have readings of it", z.Name)
		case z.input.text == "":
			bad(z.at, "want an input, such as input: adc1:1")
		default:
			z.Pin, c, _ = d.pin(z.input, what, false, taken)
		}
		if c != nil {
			d.signal(z, c, bad)
		}
		d.describeZone(z)
		s := &z.set
		if s.Leave > s.Enter && s.Enter > 0 || s.Leave > 6 && s.Enter == 0 {
			bad(z.analogAt, "motion is over below leave times the noise, so leave cannot be above enter")
		}
		if s.Profile == zone.Legacy && (!z.around || s.Signal != zone.Loop) {
			bad(z.at, "profile: legacy is for loops and needs around: with the normal value and, if there is one, the tamper value")
		}
	}
}

// signal checks that a zone's signal is one that its chip can see.
func (d *draft) signal(z *draftZone, c *draftChip, bad func(at place, format string, args ...any)) {
	f := factsOf(c.Chip)
	s := &z.set
	if c.Kind == "" {
		return
	}
	if s.Signal == "" {
		s.Signal = zone.Contact
		if f.converter {
			s.Signal = zone.Loop
		}
	}
	switch {
	case (s.Signal == zone.Loop || s.Signal == zone.Analog) && !f.converter:
		bad(z.input.at, "signal: %s needs a converter, and %s is a board of kind %s; choose signal: contact, or an input such as adc1:1", s.Signal, c.Name, c.Kind)
	case s.Signal == zone.Contact && f.converter:
		bad(z.input.at, "signal: contact needs a line, and %s is a board of kind %s; choose signal: loop and give its levels", c.Name, c.Kind)
	}
	if z.Invert && s.Signal != zone.Contact {
		bad(z.at, "invert is for signal: contact; a loop says what its levels mean")
	}
	switch c.Kind {
	case board.MCP3424:
		s.Bits = max(c.Bits, 12)
	case board.ADS1115:
		s.Bits = 16
	}
	if s.Signal == zone.Loop && s.Levels == nil && z.levelsAt == (place{}) {
		s.Levels = usualLevels()
	}
	if s.Signal != zone.Loop {
		s.Levels = nil // of the defaults
	}
}

// usualLevels are those of the usual resistors.
func usualLevels() *zone.Levels {
	l, err := zone.Resistors{}.Levels()
	if err != nil {
		panic("config: the usual resistors are no loop: " + err.Error())
	}
	return &l
}

// describeZone fills in what people and brokers call a zone.
func (d *draft) describeZone(z *draftZone) {
	classes := map[string]string{"door": "door", "window": "window", "smoke": "smoke", "gas": "gas", "water": "moisture", "leak": "moisture", "glass": "sound", "vibration": "vibration", "garage": "garage_door"}
	if z.Class == "" {
		z.Class = "motion"
		lower := strings.ToLower(z.Type + " " + z.Name)
		for _, word := range []string{"garage", "door", "window", "smoke", "gas", "water", "leak", "glass", "vibration"} {
			if strings.Contains(lower, word) && (z.set.Signal == zone.Contact || strings.Contains(strings.ToLower(z.Type), word)) {
				z.Class = classes[word]
				break
			}
		}
	} else if !slices.Contains(deviceClasses, z.Class) {
		d.wrong(z.at, "zone %s: class: Home Assistant has no class %s; %s", z.Name, quoted(z.Class), instead(z.Class, deviceClasses))
	}
	if !slices.Contains(moving, z.Class) {
		z.sure()
	}
	if z.Type == "" {
		z.Type = "Motion Detector"
		if z.Class != "motion" {
			words := strings.ReplaceAll(z.Class, "_", " ")
			z.Type = strings.ToUpper(words[:1]) + words[1:] + " Detector"
		}
	}
	if z.Tamper == "" {
		z.Tamper = "tamper"
	}
	if z.Key == "" {
		z.Key, z.Label = originalKey(z.Name, z.Type, z.Location), originalLabel(z.Name, z.Type)
	}
	z.set.Name, z.set.Label = z.Name, z.Tamper
	if d.AMQP != nil && !strings.HasSuffix(strings.ToLower(z.Type), "detector") {
		d.note("zone %s is of the type %s; the original's event processor only listens to types that end in Detector", z.Name, z.Type)
	}
}

// sure makes of a detector of something else than motion one that is believed at once, where nothing else is said: a
// door that opens does it once, may stay open, and needs no witness.
func (z *draftZone) sure() {
	s := &z.set
	if s.Sensitivity == "" && s.Pulses == 0 {
		s.Sensitivity = zone.High
	}
	if s.Policy == "" {
		s.Policy = zone.Single
	}
	if s.Stuck == 0 {
		s.Stuck = -1
	}
}

// moving are the classes of detectors that see motion, and see it where there is none.
var moving = []string{"motion", "moving", "occupancy", "presence", "sound", "vibration"}

// deviceClasses are those of Home Assistant's binary sensors.
var deviceClasses = []string{
	"battery", "carbon_monoxide", "cold", "connectivity", "door", "garage_door", "gas", "heat", "light", "lock", "moisture", "motion",
	"moving", "occupancy", "opening", "plug", "power", "presence", "problem", "running", "safety", "smoke", "sound", "tamper", "vibration", "window",
}

// checkGroups looks up the groups of zones, the zones of groups, and who may second whom.
func (d *draft) checkGroups() {
	var names []string
	for i := range d.groups {
		g := &d.groups[i]
		if slices.Contains(names, g.Name) {
			d.wrong(g.at, "group %s: another group has this name; choose another one", g.Name)
		}
		names = append(names, g.Name)
		if g.input.text != "" {
			if z := d.findZone(g.input, "group "+g.Name+": input"); z != nil {
				g.Input = z.Name
			}
		}
	}
	for i := range d.zones {
		z := &d.zones[i]
		if g := z.group; g.text != "" && g.text != unreadable {
			if !slices.Contains(names, g.text) {
				why := "there is none; describe it under groups:"
				if len(names) > 0 {
					why = instead(g.text, names)
				}
				d.wrong(g.at, "zone %s: there is no group %s; %s", z.Name, quoted(g.text), why)
			}
			z.set.Group = g.text
		}
		if z.set.EntryDelay && z.group.text == "" {
			d.wrong(z.at, "zone %s: entry_delay is of a group that is armed; give the zone a group", z.Name)
		}
		if z.confirmWith != nil {
			z.set.ConfirmWith = []string{}
			for _, w := range z.confirmWith {
				// The defaults may name all zones; a zone does not second itself.
				if o := d.findZone(w, cmp.Or(z.what, "zone "+z.Name)+": confirm_with"); o != nil && o != z {
					z.set.ConfirmWith = append(z.set.ConfirmWith, o.Name)
				}
			}
		}
	}
}

// findZone finds a zone by its name or its id.
func (d *draft) findZone(n name, what string) *draftZone {
	if n.text == unreadable {
		return nil
	}
	var names []string
	for i := range d.zones {
		z := &d.zones[i]
		if z.Name == n.text || n.text != "" && cmp.Or(z.ID, slug(z.Name, "")) == n.text {
			return z
		}
		names = append(names, z.Name)
	}
	d.wrong(n.at, "%s: there is no zone %s; %s", what, quoted(n.text), instead(n.text, names))
	return nil
}

// checkOutputs looks up pins and holds outputs to their bounds.
func (d *draft) checkOutputs(taken map[board.Pin]string) {
	names := map[string]bool{}
	var unbounded []string
	for i := range d.outputs {
		o := &d.outputs[i]
		b := &o.bounds
		what := "output " + o.Name
		bad := func(at place, format string, args ...any) {
			d.wrong(at, "%s: %s", what, fmt.Sprintf(format, args...))
		}
		if o.Name != "" && names[o.Name] {
			bad(o.at, "another output has this name; choose another one")
		}
		names[o.Name] = true
		if o.Type == "" {
			o.Type = "Output"
		}
		o.Key = strings.TrimSpace(o.Location + " " + o.Type)
		var c *draftChip
		if o.pin.text != "" {
			b.Pin, c, _ = d.pin(o.pin, what, true, taken)
		}
		if c != nil && factsOf(c.Chip).powersUpHigh && b.Active == relay.ActiveHigh && !b.PulledDown {
			bad(o.pin.at, "a board of kind %s has its lines high when power comes, so the relay would switch by itself; "+
				"use a relay with active: low, or say pulled_down: true if the line has a pull-down resistor", c.Kind)
		}
		switch {
		case b.Latching && b.Lease == 0:
			bad(o.at, "latching: true needs a lease: the output goes off when no command came for so long, such as lease: 10 min")
		case !b.Latching && b.Lease != 0:
			bad(o.at, "lease is for an output that is latching: true")
		}
		if !o.maxSaid && !b.Latching {
			unbounded = append(unbounded, o.Name)
		}
		if b.MaxOn == 0 && !b.Latching {
			b.MaxOn = relay.DefaultMaxOn
		}
		if most := longestOn(b); b.On > most {
			bad(o.onAt, "pulse: %s is longer than the output may be on, %s", span(b.On), span(most))
		}
		if b.On == 0 && b.MaxOn > 0 && b.MaxOn < relay.DefaultOn {
			b.On = b.MaxOn
		}
		if b.SafeOn && b.Exclusive != "" {
			bad(o.at, "safe: on and exclusive exclude each other: a stop would turn it on beside the others of %s", b.Exclusive)
		}
		if b.Dead != 0 && b.Exclusive == "" {
			bad(o.at, "dead_time is the time between outputs that are exclusive: give exclusive the name of such a set")
		}
	}
	if len(unbounded) > 0 {
		verb := "goes"
		if len(unbounded) > 1 {
			verb = "go"
		}
		d.note("%s %s off after %s at the latest, because no max_on is given", list(unbounded), verb, span(relay.DefaultMaxOn))
	}
}

// longestOn is how long one command may turn an output on.
func longestOn(b *relay.Output) time.Duration { return cmp.Or(b.MaxOn, relay.LongestMaxOn) }

// checkRules looks up what rules refer to.
func (d *draft) checkRules() {
	names := map[string]bool{}
	var groups []string
	for _, g := range d.groups {
		groups = append(groups, g.Name)
	}
	for i := range d.rules {
		r := &d.rules[i]
		what := "rule " + r.Name
		bad := func(at place, format string, args ...any) {
			d.wrong(at, "%s: %s", strings.Replace(what, "rule rule", "rule", 1), fmt.Sprintf(format, args...))
		}
		if names[r.Name] {
			bad(r.at, "another rule has this name; choose another one")
		}
		names[r.Name] = true
		for _, n := range r.zones {
			if z := d.findZone(n, what); z != nil {
				r.Zones = append(r.Zones, z.Name)
			}
		}
		for _, ref := range []struct {
			from []name
			to   *[]string
		}{{r.groups, &r.Groups}, {r.armed, &r.Armed}, {r.disarmed, &r.Disarmed}} {
			for _, n := range ref.from {
				if !slices.Contains(groups, n.text) {
					why := "describe it under groups:"
					if len(groups) > 0 {
						why = instead(n.text, groups)
					}
					bad(n.at, "there is no group %s; %s", quoted(n.text), why)
				}
				*ref.to = append(*ref.to, n.text)
			}
		}
		for _, g := range r.Armed {
			if slices.Contains(r.Disarmed, g) {
				bad(r.at, "group %s cannot be armed and disarmed at once", g)
			}
		}
		d.checkWhen(r, bad)
		d.checkDrive(r, bad)
	}
}

// checkWhen refuses a rule that can never run.
func (d *draft) checkWhen(r *draftRule, bad func(at place, format string, args ...any)) {
	for _, k := range r.On {
		switch ofGroup := slices.Contains(groupKinds, k); {
		case ofGroup && len(d.groups) == 0:
			bad(r.at, "when: %s is of a group, and there are no groups", k)
		case ofGroup && len(r.zones) > 0 && len(r.groups) == 0:
			bad(r.at, "when: %s is of a group; give groups: rather than zones:", k)
		case !ofGroup && len(d.zones) == 0:
			bad(r.at, "when: %s is of a zone, and there are no zones", k)
		}
	}
}

// checkDrive looks up a rule's outputs and holds it to their bounds.
func (d *draft) checkDrive(r *draftRule, bad func(at place, format string, args ...any)) {
	if r.Action == relay.Off && r.For != 0 {
		bad(r.forAt, "for is how long an output is on; action: off has none")
	}
	var names []string
	for _, o := range d.outputs {
		names = append(names, o.Name)
	}
	for _, n := range r.outputs {
		i := slices.IndexFunc(d.outputs, func(o draftOutput) bool {
			return o.Name == n.text || n.text != "" && cmp.Or(o.ID, slug(o.Name, "")) == n.text
		})
		if i < 0 {
			bad(n.at, "there is no output %s; %s", quoted(n.text), instead(n.text, names))
			continue
		}
		o := d.outputs[i]
		r.Outputs = append(r.Outputs, strconv.Itoa(i)) // the id when it is known
		b := &o.bounds
		if most := longestOn(b); r.For > most && b.Over == relay.Reject {
			bad(r.forAt, "for: %s is longer than output %s may be on, %s; shorten it, or raise max_on", span(r.For), o.Name, span(most))
		}
		if b.Sources != nil && !slices.Contains(b.Sources, "rule") {
			bad(n.at, "output %s takes no commands from rules; add rule to its sources", o.Name)
		}
	}
}

// checkTimes notes what a converter cannot do in time. A conversion of an MCP3424 takes as long as its bits say, and
// each of its two chips does four inputs in turn.
func (d *draft) checkTimes() {
	for _, c := range d.chips {
		if c.Kind != board.MCP3424 {
			continue
		}
		conversion := map[int]time.Duration{0: 4167, 12: 4167, 14: 16667, 16: 66667, 18: 266667}[c.Bits] * time.Microsecond
		var perChip [2]int
		for _, z := range d.zones {
			if z.Pin.Chip == c.Name {
				perChip[min(1, (z.Pin.Number-1)/4)]++
			}
		}
		took := time.Duration(max(perChip[0], perChip[1])) * (conversion*105/100 + 1200*time.Microsecond)
		if took > d.Interval {
			d.note("board %s needs about %s for its inputs at %d bits, more than the interval of %s; scans come as fast as it can",
				c.Name, took.Round(10*time.Millisecond), max(c.Bits, 12), span(d.Interval))
		}
	}
}
