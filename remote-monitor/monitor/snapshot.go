package monitor

import (
	"fmt"
	"slices"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// How much is remembered for people, and how long something may be wrong before they are told.
const (
	rememberedEvents = 200
	rememberedFor    = time.Minute // of frames
	mostFrames       = 6000
	unknownFor       = 3 * time.Second
	brokerAway       = 10 * time.Minute
)

// view is what others than the loop may see, under Monitor.mu.
type view struct {
	ended    bool
	started  time.Time
	panel    *zone.Panel
	fed      time.Time // of the zones: the last scan
	board    string
	trouble  string
	supply   float64
	outputs  []relay.Status
	events   []bus.Event // oldest first
	known    []time.Time // when each zone was last read
	scans    uint64
	lastScan time.Time
	lag      time.Duration
	took     time.Duration

	frames []Frame // a ring: number n is at (n-1) % len
	number uint64  // of the last frame, from 1
}

func (v *view) init(c config.Config) {
	interval := c.Interval
	if interval <= 0 {
		interval = 50 * time.Millisecond
	}
	n := min(int(rememberedFor/interval)+1, mostFrames)
	v.known = make([]time.Time, len(c.Zones))
	v.frames = make([]Frame, n)
	values := make([]float64, n*len(c.Zones))
	for i := range v.frames {
		v.frames[i].Values = values[i*len(c.Zones) : (i+1)*len(c.Zones)]
	}
}

// scanned takes one turn's scan; ok says that the board answered.
func (v *view) scanned(now time.Time, lag, took time.Duration, ok bool, s zone.Scan, percent []float64) {
	v.fed, v.supply = s.Time, s.Supply
	if ok {
		v.scans++
		v.lastScan, v.lag, v.took = now, lag, took
	}
	for i, r := range s.Readings {
		if r.Unknown == "" {
			v.known[i] = now
		}
	}
	v.number++
	f := &v.frames[(v.number-1)%uint64(len(v.frames))]
	f.Time = s.Time
	copy(f.Values, percent)
}

func (v *view) remember(e bus.Event) {
	if len(v.events) == 2*rememberedEvents {
		v.events = append(v.events[:0], v.events[rememberedEvents:]...)
	}
	v.events = append(v.events, e)
}

// unhealthy says why the site is not watched as it should be; empty when it is.
func (v *view) unhealthy(c config.Config, brokers []bus.Health, now time.Time) string {
	switch {
	case v.lastScan.IsZero() && v.trouble != "":
		return v.trouble
	case v.lastScan.IsZero():
		return "nothing has been scanned yet"
	case now.Sub(v.lastScan) > max(3*c.Interval, time.Second):
		if v.trouble != "" {
			return v.trouble
		}
		return fmt.Sprintf("nothing has been scanned for %v", now.Sub(v.lastScan).Round(time.Second))
	}
	for i, at := range v.known {
		if now.Sub(later(at, v.started)) > unknownFor {
			return c.Zones[i].Name + " cannot be read"
		}
	}
	for i, o := range v.outputs {
		if o.Fault != "" {
			return c.Outputs[i].Name + ": " + o.Fault
		}
	}
	for _, b := range brokers {
		if away := now.Sub(later(b.Since, v.started)); !b.Connected && away > brokerAway {
			return fmt.Sprintf("%s has been away for %v", b.Name, away.Round(time.Minute))
		}
	}
	return ""
}

func (m *Monitor) brokers() []bus.Health {
	var all []bus.Health
	for _, b := range m.Brokers {
		all = append(all, b.Health())
	}
	return all
}

// Snapshot is everything as it stands.
func (m *Monitor) Snapshot() Snapshot {
	m.init()
	now := time.Now()
	brokers := m.brokers()
	c := m.Config
	m.mu.Lock()
	defer m.mu.Unlock()
	v := &m.seen
	s := Snapshot{
		Time: now, Started: v.started, Version: m.Version, Device: c.Device, Board: v.board, Trouble: v.trouble, Supply: v.supply,
		Brokers: brokers, Scans: v.scans, LastScan: v.lastScan, Lag: v.lag, Took: v.took,
	}
	s.Unhealthy = v.unhealthy(c, brokers, now)
	s.Healthy = s.Unhealthy == ""
	if v.panel != nil {
		s.Groups = v.panel.Groups(v.fed)
		for i, z := range v.panel.Zones(v.fed) {
			w := c.Zones[i]
			s.Zones = append(s.Zones, ZoneView{Status: z, ID: w.ID, Type: w.Type, Location: w.Location, Pin: w.Pin})
		}
	}
	for i, o := range v.outputs {
		w, settings := c.Outputs[i], c.Relay.Outputs[i]
		s.Outputs = append(s.Outputs, OutputView{
			Status: o, ID: w.ID, Type: w.Type, Location: w.Location, Label: w.Name, Pin: settings.Pin, Momentary: settings.Momentary(),
		})
	}
	s.Events = slices.Clone(v.events[max(0, len(v.events)-rememberedEvents):])
	slices.Reverse(s.Events)
	return s
}

// Frames returns the scans after a position, oldest first, and the position of the last; those of about the last
// minute are remembered. Position 0 is before all of them.
func (m *Monitor) Frames(after uint64) ([]Frame, uint64) {
	m.init()
	m.mu.Lock()
	defer m.mu.Unlock()
	v := &m.seen
	if after > v.number {
		after = 0 // it was given by a monitor that is no more
	}
	if n := uint64(len(v.frames)); v.number > n {
		after = max(after, v.number-n)
	}
	frames := make([]Frame, 0, v.number-after)
	for n := after; n < v.number; n++ {
		f := v.frames[n%uint64(len(v.frames))]
		f.Values = slices.Clone(f.Values)
		frames = append(frames, f)
	}
	return frames, v.number
}
