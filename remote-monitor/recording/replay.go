package recording

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Survey is what a recording holds.
type Survey struct {
	Zones       []Surveyed // in the order in which they first appear in time, without Supply
	Rows        int
	First, Last time.Time
}

// Surveyed is one zone of a recording.
type Surveyed struct {
	Name string
	Kind Kind // Edge or Sample; Unknown if no row says more
	Rows int
}

// Look reads through a recording.
func Look(src Source) (Survey, error) {
	var s Survey
	index := map[string]int{}
	err := each(src, func(row Row) error {
		if s.Rows == 0 {
			s.First = row.Time
		}
		s.Rows++
		s.Last = row.Time
		if row.Zone == Supply {
			return nil
		}
		i, ok := index[row.Zone]
		if !ok {
			i = len(s.Zones)
			index[row.Zone] = i
			s.Zones = append(s.Zones, Surveyed{Name: row.Zone, Kind: Unknown})
		}
		s.Zones[i].Rows++
		if row.Kind != Unknown {
			s.Zones[i].Kind = row.Kind
		}
		return nil
	})
	if err == nil && s.Rows == 0 {
		err = errors.New("the recording is empty; it needs lines such as 2025-01-31T18:04:05.250Z,hall,ON")
	}
	return s, err
}

// each calls f with each row.
func each(src Source, f func(Row) error) error {
	in, err := src()
	if err != nil {
		return err
	}
	defer in.Close() // read only: nothing can be lost
	for r := NewReader(in); ; {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read recording: %w", err)
		}
		if err := f(row); err != nil {
			return err
		}
	}
}

// Arming says when a replay arms the groups.
type Arming string

// The ways to arm.
const (
	// AsConfigured arms as the configuration says: groups that are armed at the start, schedules and key switches.
	AsConfigured Arming = ""
	// Always has all zones armed all the time, without entry delays: the zones never learn when somebody is away.
	Always Arming = "always"
	// ByLabels arms all zones when a time labelled away begins and disarms them when it is over, or the entry that
	// follows, as a person would do.
	ByLabels Arming = "labels"
)

// ReplayOptions are how to replay. The zero value means what the fields say.
type ReplayOptions struct {
	Arming Arming  // AsConfigured
	Labels []Label // for ByLabels
}

// settle is how long the zones' deadlines run on after the last row.
const settle = time.Minute

// Replay runs a configuration over a recording as fast as it can and yields what it decides, in order. Zones are
// found by their name or ID. Without a configuration each zone has the shipped defaults, as an edge or an analog
// detector. A zone that is configured as a loop or an analog detector and was recorded as ON and OFF is taken as
// edges, with its other settings. After an error nothing more is yielded.
func Replay(src Source, c *config.Config, o ReplayOptions) iter.Seq2[zone.Event, error] {
	return Candidate{Name: "given", Config: c}.Replay(src, o)
}

// Replay runs the candidate over a recording, as the function Replay does.
func (c Candidate) Replay(src Source, o ReplayOptions) iter.Seq2[zone.Event, error] {
	return func(yield func(zone.Event, error) bool) {
		survey, err := Look(src)
		if err != nil {
			yield(zone.Event{}, err)
			return
		}
		p, err := c.player(survey, o)
		if err != nil {
			yield(zone.Event{}, err)
			return
		}
		stop := errors.New("the reader has enough")
		tell := func(events []zone.Event) error {
			for _, e := range events {
				if !yield(e, nil) {
					return stop
				}
			}
			return nil
		}
		err = scans(src, survey, p.interval, func(s zone.Scan) error { return tell(p.feed(s)) })
		if err == nil {
			err = tell(p.advance(survey.Last.Add(settle)))
		}
		if err != nil && err != stop {
			yield(zone.Event{}, err)
		}
	}
}

// scans joins rows to scans and calls f with each; Reading.Zone is an index into Survey.Zones, and the readings are
// good until f returns. Samples within one interval are one scan, at the time of its first, and a second sample of a
// zone begins the next; an ON or OFF is a scan of its own.
func scans(src Source, survey Survey, interval time.Duration, f func(zone.Scan) error) error {
	index := map[string]int{}
	for i, z := range survey.Zones {
		index[z.Name] = i
	}
	var (
		scan   zone.Scan
		in     = make([]bool, len(survey.Zones)) // the scan has it
		supply float64                           // as last measured
	)
	finish := func() error {
		if len(scan.Readings) == 0 {
			return nil
		}
		err := f(scan)
		for _, r := range scan.Readings {
			in[r.Zone] = false
		}
		scan.Readings = scan.Readings[:0]
		return err
	}
	err := each(src, func(row Row) error {
		if row.Zone == Supply {
			if row.Kind == Unknown {
				return nil
			}
			// The supply belongs to the samples of its own time, which may come before or after it.
			if len(scan.Readings) > 0 && row.Time.After(scan.Time) {
				if err := finish(); err != nil {
					return err
				}
			}
			supply, scan.Supply = row.Volts, row.Volts
			return nil
		}
		i := index[row.Zone]
		edge := row.Kind == Edge || survey.Zones[i].Kind != Sample
		if edge || in[i] || len(scan.Readings) > 0 && row.Time.Sub(scan.Time) >= interval {
			if err := finish(); err != nil {
				return err
			}
		}
		if len(scan.Readings) == 0 {
			scan.Time, scan.Supply = row.Time, supply
		}
		r := zone.Reading{Zone: i, Volts: row.Volts, Active: row.Active}
		if row.Kind == Unknown {
			r.Unknown = "recorded as unknown"
		}
		in[i] = true
		scan.Readings = append(scan.Readings, r)
		if edge {
			return finish()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return finish()
}

// engine is what decides: a zone.Panel or a baseline.
type engine interface {
	Feed(zone.Scan) []zone.Event
	Advance(time.Time) []zone.Event
}

// armer is an engine that can be armed.
type armer interface {
	Arm(t time.Time, group, by string, force bool) []zone.Event
	Disarm(t time.Time, group, by string) []zone.Event
}

// player feeds an engine.
type player struct {
	engine   engine
	index    []int // engine's zone of a surveyed one
	interval time.Duration
	readings []zone.Reading
	commands []command // that are still to come
	groups   []string
}

// command arms or disarms all groups.
type command struct {
	at  time.Time
	arm bool
}

func (p *player) feed(s zone.Scan) []zone.Event {
	events := p.obey(s.Time)
	p.readings = p.readings[:0]
	for _, r := range s.Readings {
		r.Zone = p.index[r.Zone]
		p.readings = append(p.readings, r)
	}
	s.Readings = p.readings
	return join(events, p.engine.Feed(s))
}

func (p *player) advance(t time.Time) []zone.Event {
	events := p.obey(t)
	return join(events, p.engine.Advance(t))
}

// join appends, and spares the copy where there is nothing to append to.
func join(a, b []zone.Event) []zone.Event {
	if len(a) == 0 {
		return b
	}
	return append(a, b...)
}

// obey carries out the commands up to t.
func (p *player) obey(t time.Time) (events []zone.Event) {
	panel, ok := p.engine.(armer)
	for ok && len(p.commands) > 0 && !p.commands[0].at.After(t) {
		c := p.commands[0]
		p.commands = p.commands[1:]
		for _, g := range p.groups {
			if c.arm {
				events = append(events, panel.Arm(c.at, g, "labels", true)...)
			} else {
				events = append(events, panel.Disarm(c.at, g, "labels")...)
			}
		}
	}
	return events
}

// player makes the candidate ready to be fed with the recording.
func (c Candidate) player(s Survey, o ReplayOptions) (*player, error) {
	p := &player{interval: defaultInterval}
	if c.Config != nil && c.Config.Interval > 0 {
		p.interval = c.Config.Interval
	}
	if c.baseline != nil {
		p.engine = newBaseline(*c.baseline, s)
		for i := range s.Zones {
			p.index = append(p.index, i)
		}
		return p, nil
	}
	site, index, err := c.site(s)
	if err != nil {
		return nil, err
	}
	p.index = index
	if c.Tune != nil {
		for i := range site.Zones {
			c.Tune(&site.Zones[i])
		}
	}
	switch o.Arming {
	case Always:
		always(&site)
	case ByLabels:
		p.groups = byLabels(&site)
		p.commands = commands(o.Labels)
	}
	p.engine, err = zone.New(site, s.First)
	if err != nil {
		return nil, fmt.Errorf("cannot replay with configuration %s: %w", c.Name, err)
	}
	return p, nil
}

// defaultInterval is how often inputs are scanned if nothing else is configured.
const defaultInterval = 50 * time.Millisecond

// site is the candidate's configuration for the recording, and where in it the recording's zones are.
func (c Candidate) site(s Survey) (zone.Config, []int, error) {
	var site zone.Config
	var index []int
	if c.Config == nil {
		// Detectors that report by themselves had settled long before somebody began to record them.
		site.WarmUp = -1
		for i, z := range s.Zones {
			signal := zone.Edges
			if z.Kind == Sample {
				signal, site.WarmUp = zone.Analog, 0
			}
			site.Zones = append(site.Zones, zone.Settings{Name: z.Name, Signal: signal})
			index = append(index, i)
		}
		return site, index, nil
	}
	site = c.Config.Site
	site.Zones = slices.Clone(site.Zones)
	taken := make([]string, len(site.Zones))
	for _, z := range s.Zones {
		i := slices.IndexFunc(c.Config.Zones, func(have config.Zone) bool { return have.Name == z.Name || have.ID == z.Name })
		if i < 0 {
			i = slices.IndexFunc(c.Config.Zones, func(have config.Zone) bool {
				return strings.EqualFold(have.Name, z.Name) || strings.EqualFold(have.ID, z.Name)
			})
		}
		if i < 0 || i >= len(site.Zones) {
			return site, nil, c.stranger(s)
		}
		if taken[i] != "" {
			return site, nil, fmt.Errorf("cannot replay: zones %q and %q of the recording are both zone %q of the configuration; rename one of them", taken[i], z.Name, c.Config.Zones[i].Name)
		}
		taken[i] = z.Name
		index = append(index, i)
		set := &site.Zones[i]
		sampled := set.Signal == "" || set.Signal == zone.Loop || set.Signal == zone.Analog
		switch {
		case z.Kind == Edge && sampled:
			// Of the legacy profile 0 % is off and 100 % is on, and no level is a tamper.
			set.Signal, set.Normal, set.Tamper = zone.Edges, 0, nil
		case z.Kind == Sample && !sampled:
			return site, nil, fmt.Errorf("cannot replay: zone %q has volts in the recording and is configured as %s; configure it as loop or analog", z.Name, set.Signal)
		}
	}
	return site, index, nil
}

// stranger is the error of zones that the configuration does not have.
func (c Candidate) stranger(s Survey) error {
	var recorded, configured []string
	for _, z := range s.Zones {
		recorded = append(recorded, z.Name)
	}
	for _, z := range c.Config.Zones {
		name := z.Name
		if z.ID != z.Name {
			name += " (" + z.ID + ")"
		}
		configured = append(configured, name)
	}
	return fmt.Errorf("cannot replay: the recording has zones that the configuration does not have; recorded are %s; configured are %s; rename them in one of the two",
		list(recorded), list(configured))
}

// list is names in one line.
func list(names []string) string {
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > 40:
		names = append(slices.Clip(names[:40]), fmt.Sprintf("and %d more", len(names)-40))
	}
	return strings.Join(names, ", ")
}

// always takes the zones out of their groups, which arms them for good and leaves no entry delay. The groups stay, so
// that a key switch stays one.
func always(site *zone.Config) {
	for i := range site.Zones {
		site.Zones[i].Group = ""
	}
}

// byLabels leaves arming to commands and returns the groups they go to. Labels begin when people are gone: there is no
// exit delay.
func byLabels(site *zone.Config) (groups []string) {
	site.Groups = slices.Clone(site.Groups)
	for i := range site.Zones {
		z := &site.Zones[i]
		if z.Group == "" {
			z.Group = "labels"
		}
		if !slices.ContainsFunc(site.Groups, func(g zone.Group) bool { return g.Name == z.Group }) {
			site.Groups = append(site.Groups, zone.Group{Name: z.Group})
		}
	}
	for i := range site.Groups {
		g := &site.Groups[i]
		groups = append(groups, g.Name)
		if g.Input != "" {
			// What turns is still a key, of something that holds no zone.
			site.Groups = append(site.Groups, zone.Group{Name: g.Name + " (key)", Input: g.Input})
			g = &site.Groups[i]
		}
		g.ExitDelay, g.Armed, g.Schedule, g.Input, g.Force = -1, false, nil, "", true
	}
	return groups
}

// commands arm at the start of each time away and disarm at its end, or at the end of the entry in which it ends.
func commands(labels []Label) (c []command) {
	t := newTruth(labels, within)
	for _, away := range t.periods {
		end := away.to
		if i := find(t.entry, end); i >= 0 {
			end = t.entry[i].to
		}
		if n := len(c); n > 0 && !c[n-1].at.Before(away.from) {
			c[n-1].at = end // they came in for no longer than an entry lasts
			continue
		}
		c = append(c, command{away.from, true}, command{end, false})
	}
	return c
}
