package config

import (
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Example is a YAML file that has every key, with what each means.
//
//go:embed example.yaml
var Example string

// Describe says in words what was understood, for people who check it. It has no secrets in it.
func (c Config) Describe() string {
	w := &writer{}
	c.describeSite(w)
	c.describeZones(w)
	c.describeOutputs(w)
	c.describeRules(w)
	c.describeOthers(w)
	if len(c.Notes) > 0 {
		w.title("Notes")
		for _, n := range c.Notes {
			w.line(1, "- %s", n)
		}
	}
	return w.String()
}

// writer writes lines with their depth.
type writer struct{ strings.Builder }

func (w *writer) line(depth int, format string, args ...any) {
	fmt.Fprintf(w, "%s%s\n", strings.Repeat("  ", depth), fmt.Sprintf(format, args...))
}

func (w *writer) title(format string, args ...any) {
	if w.Len() > 0 {
		w.WriteByte('\n')
	}
	w.line(0, format, args...)
}

func (c Config) describeSite(w *writer) {
	w.title("Device %s", c.Device)
	if c.NoStart {
		w.line(1, "does nothing")
		return
	}
	w.line(1, "time zone %s", c.TimeZone)
	if c.Data == "" {
		w.line(1, "nothing is kept over restarts")
	} else {
		w.line(1, "kept over restarts in %s", c.Data)
	}
	w.line(1, "a scan every %s, a sign of life every %s", span(c.Interval), span(c.Heartbeat))
	switch {
	case c.Site.WarmUp < 0:
		w.line(1, "motion is believed at once")
	default:
		w.line(1, "motion is believed %s after the start", span(or(c.Site.WarmUp, time.Minute)))
	}
	if c.Supply != (board.Pin{}) {
		w.line(1, "the supply of %s V is measured at %s, %s V for a volt there", number(orNumber(c.Site.Supply, board.FullScale)), c.Supply, number(c.SupplyScale))
	} else {
		w.line(1, "the supply is taken as %s V", number(orNumber(c.Site.Supply, board.FullScale)))
	}
	if c.Watchdog != "" {
		w.line(1, "hardware watchdog %s", c.Watchdog)
	}
	if len(c.Board.Chips) == 0 {
		w.title("No boards")
		return
	}
	w.title("Boards")
	for _, chip := range c.Board.Chips {
		w.line(1, "%s", describeChip(chip, c.Board.Seed))
	}
}

func describeChip(c board.Chip, seed uint64) string {
	s := fmt.Sprintf("%s: %s", c.Name, c.Kind)
	var addresses []string
	for _, a := range c.Addresses {
		addresses = append(addresses, fmt.Sprintf("%#x", a))
	}
	switch {
	case c.Kind == board.Simulation:
		return s + fmt.Sprintf(" house, seed %d", seed)
	case len(addresses) > 0:
		s += fmt.Sprintf(" at %s of I2C bus %s", list(addresses), busName(c.Bus))
	case c.Device != "":
		s += " of the kernel, " + c.Device
	}
	if c.Kind == board.MCP3424 {
		s += fmt.Sprintf(", %d bits", max(c.Bits, 12))
	}
	if c.Gain > 1 {
		s += fmt.Sprintf(", gain %d", c.Gain)
	}
	if c.Scale != 0 {
		s += fmt.Sprintf(", %v V for a volt at the chip", c.Scale)
	}
	if c.PullUp {
		s += ", inputs pulled up"
	}
	return s
}

func (c Config) describeZones(w *writer) {
	if len(c.Zones) == 0 {
		w.title("No zones")
		return
	}
	w.title("Zones")
	if c.Samples {
		w.line(1, "(samples, because none were described)")
	}
	for i, z := range c.Zones {
		s := c.Site.Zones[i]
		where := z.Type
		if z.Location != "" {
			where += ", " + z.Location
		}
		pin := "in recordings"
		if z.Pin != (board.Pin{}) {
			pin = "at " + z.Pin.String()
		}
		w.line(1, "%s (%s) %s: %s", z.Name, z.ID, pin, where)
		for _, l := range describeSignal(z, s) {
			w.line(2, "%s", l)
		}
		if g := c.switches(z.Name); g != "" {
			w.line(2, "switches the group %s, and alarms nothing", g)
			continue
		}
		if s.Profile == zone.Legacy {
			w.line(2, "the original's algorithm: each value away from normal is an alarm")
		} else {
			for _, l := range describePipeline(s, c.seconded(z.Name)) {
				w.line(2, "%s", l)
			}
		}
		w.line(2, "%s", describeArming(s))
	}
	if len(c.Site.Groups) == 0 {
		return
	}
	w.title("Groups")
	for _, g := range c.Site.Groups {
		parts := []string{
			"exit delay " + describeOr(g.ExitDelay, 60*time.Second, "none"),
			"entry delay " + describeOr(g.EntryDelay, 30*time.Second, "none"),
		}
		if g.Armed {
			parts = append(parts, "armed at the first start")
		}
		if g.Input != "" {
			parts = append(parts, "armed while "+g.Input+" is active")
		}
		if len(g.Schedule) > 0 {
			parts = append(parts, "armed "+describeSpans(g.Schedule))
		}
		if g.Force {
			parts = append(parts, "armed although a zone is not normal, without that zone")
		}
		w.line(1, "%s: %s", g.Name, strings.Join(parts, "; "))
	}
}

// seconded tells whether there is another zone that could second one.
func (c Config) seconded(name string) bool {
	return slices.ContainsFunc(c.Zones, func(z Zone) bool { return z.Name != name && c.switches(z.Name) == "" })
}

// switches is the group that a zone arms and disarms; empty: none.
func (c Config) switches(name string) string {
	for _, g := range c.Site.Groups {
		if g.Input == name {
			return g.Name
		}
	}
	return ""
}

func describeSpans(spans []zone.Span) string {
	var all []string
	for _, s := range spans {
		all = append(all, showSpan(s))
	}
	return list(all)
}

// describeSignal says what the zone's input means.
func describeSignal(z Zone, s zone.Settings) []string {
	switch s.Signal {
	case zone.Analog:
		f := s.Filled()
		return []string{fmt.Sprintf("analog: motion begins at %s times the noise and ends below %s times; the baseline follows in %s",
			number(f.Enter), number(f.Leave), span(f.Baseline))}
	case zone.Contact:
		if z.Invert {
			return []string{"contact: active when the line is low"}
		}
		return []string{"contact: active when the line is high"}
	case zone.Edges:
		return []string{"reports its changes by itself"}
	}
	l := s.Levels
	if l == nil {
		return nil
	}
	if math.IsInf(l.Alarm.Low, -1) && math.IsInf(l.Alarm.High, 1) {
		line := "loop: normal " + band(l.Normal)
		if l.Open.Low <= l.Open.High {
			line += ", " + z.Tamper + " " + band(l.Open)
		}
		return []string{line + ", everything else is an alarm"}
	}
	var parts []string
	for _, b := range []struct {
		name string
		zone.Band
	}{{"short", l.Short}, {"normal", l.Normal}, {"alarm", l.Alarm}, {"open", l.Open}} {
		if b.Low <= b.High {
			parts = append(parts, b.name+" "+band(b.Band))
		}
	}
	lines := []string{"loop: " + strings.Join(parts, ", ") + ", everything else is a fault"}
	if l.Open.Low <= l.Open.High || l.Short.Low <= l.Short.High {
		lines = append(lines, "short and open are called "+z.Tamper)
	}
	return lines
}

func band(b zone.Band) string {
	switch {
	case math.IsInf(b.Low, -1):
		return "up to " + percent(b.High)
	case math.IsInf(b.High, 1):
		return "from " + percent(b.Low)
	default:
		return number(b.Low) + " to " + percent(b.High)
	}
}

// describePipeline says what makes an alarm of pulses; others tells whether there are zones that could second it.
func describePipeline(s zone.Settings, others bool) []string {
	s = s.Filled()
	candidate := fmt.Sprintf("a candidate is %d pulses in %s", s.Pulses, span(s.Window))
	if s.Pulses == 1 {
		candidate = "a candidate is each pulse"
	}
	if s.LongPulse > 0 {
		candidate += ", or one of " + span(s.LongPulse)
	}
	second := "another zone"
	if s.ConfirmWith != nil {
		second = strings.Join(s.ConfirmWith, " or ")
	}
	alone := !others || s.ConfirmWith != nil && len(s.ConfirmWith) == 0
	if !alone && s.Pulses > 1 {
		candidate += ", or one pulse that is seconded"
	}
	alarm := "it is an alarm; after false ones, only when it is seconded"
	switch {
	case s.Policy == zone.Require:
		alarm = "it is a pre-alarm, and an alarm when it is seconded"
	case s.Policy == zone.Single || s.QuarantineAfter == 0 && s.LonePulses == 0:
		alarm = "it is an alarm"
	case alone:
		alarm = "it is an alarm; after false ones, only when there are twice the pulses in twice the time"
	}
	lines := []string{candidate, alarm, fmt.Sprintf("seconded by %s within %s", second, span(s.Confirm))}
	if alone {
		lines[2] = "no zone seconds it"
	}
	told := "told at most once in " + span(s.Refractory)
	if s.Refractory == 0 {
		told = "told each time"
	}
	if s.Stuck > 0 {
		told += fmt.Sprintf("; active for %s is a fault", span(s.Stuck))
	}
	if s.SilentAfter > 0 {
		told += fmt.Sprintf("; silence for %s is told", span(s.SilentAfter))
	}
	return append(lines, told)
}

func describeArming(s zone.Settings) string {
	if s.Group == "" {
		return "always armed"
	}
	line := "armed with the group " + s.Group
	if s.EntryDelay {
		line += ", after its entry delay"
	}
	if s.ExitRoute {
		line += ", on its exit route"
	}
	return line
}
