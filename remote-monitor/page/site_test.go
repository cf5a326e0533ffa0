package page

import (
	"fmt"
	"math"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

const token = "a token of the tests"

// house is a site whose state a test sets, and that remembers what was pressed.
type house struct {
	mu       sync.Mutex
	now      monitor.Snapshot
	scans    []monitor.Frame // frames[i] has position i+1
	commands []bus.Command
	answer   func(bus.Command) // nil: accepted
}

// loopBands are the ends of the bands of the usual resistors.
func loopBands() []zone.Threshold {
	return []zone.Threshold{
		{Name: "short", Percent: 11}, {Name: "normal", Percent: 18}, {Name: "normal", Percent: 37}, {Name: "alarm", Percent: 43},
		{Name: "alarm", Percent: 62}, {Name: "open", Percent: 68},
	}
}

// newHouse has one zone of each kind of trouble, outputs in each state, and a minute of signals.
func newHouse(at time.Time) *house {
	ago := func(d time.Duration) time.Time { return at.Add(-d) }
	pin := func(n int) board.Pin { return board.Pin{Chip: "adc1", Number: n} }
	turned := func(ago_ time.Duration, stage zone.Stage, reason string) zone.Event {
		return zone.Event{Time: ago(ago_), Kind: zone.Suppressed, Stage: stage, Reason: reason, Percent: 51.2, Pulses: 1}
	}
	h := &house{now: monitor.Snapshot{
		Time: at, Started: ago(26 * time.Hour), Version: "1.0.0", Device: "Gate house", Board: "ADC Pi and IO Pi", Supply: 4.97,
		Scans: 1872000, LastScan: ago(30 * time.Millisecond), Lag: 800 * time.Microsecond, Took: 21 * time.Millisecond, Healthy: true,
		Zones: []monitor.ZoneView{
			{ID: "hall", Type: "Motion Detector", Location: "Ground floor", Pin: pin(1), Status: zone.Status{
				Name: "Hall motion", Group: "house", Signal: zone.Loop, State: zone.InAlarm, Since: ago(14 * time.Second), Motion: true, Known: true, Percent: 51.3, Volts: 2.55,
				Thresholds: loopBands(), Reason: "2 pulses in 30 s, seconded by Front door", AlarmsToday: 1, SuppressedToday: 2,
				Recent: []zone.Event{turned(11*time.Minute, zone.StageCount, "1 pulse of 2 in 30 s"), turned(3*time.Hour, zone.StageCommonMode, "4 inputs stepped together")},
			}},
			{ID: "door", Type: "Contact Detector", Location: "Ground floor", Pin: board.Pin{Chip: "io1", Number: 3}, Status: zone.Status{
				Name: "Front door", Group: "house", Signal: zone.Contact, State: zone.Normal, Since: ago(2 * time.Hour), Known: true, LastMotion: ago(20 * time.Second),
			}},
			{ID: "porch", Type: "Motion Detector", Location: "Outside", Pin: pin(2), Status: zone.Status{
				Name: "Porch", Group: "garden", Signal: zone.Analog, State: zone.Normal, Since: ago(40 * time.Minute), Known: true, Percent: 48.2, Volts: 2.4, Baseline: 48, Noise: 0.4,
				Thresholds:  []zone.Threshold{{Name: "enter", Percent: 45.6}, {Name: "leave", Percent: 46.8}, {Name: "leave", Percent: 49.2}, {Name: "enter", Percent: 50.4}},
				Quarantined: at.Add(5 * time.Hour), SuppressedToday: 37,
				Recent: []zone.Event{
					turned(70*time.Second, zone.StageQuarantine, "lone alarms of this zone were false before"),
					turned(4*time.Minute, zone.StageConfirm, "no second zone within 120 s"),
					turned(9*time.Minute, zone.StageWidth, "60 ms, shorter than 100 ms"),
					turned(30*time.Minute, zone.StageSpike, "gone after the median"),
				},
			}},
			{ID: "cellar", Type: "Motion Detector", Location: "Cellar", Pin: pin(3), Status: zone.Status{
				Name: "Cellar", Group: "house", Signal: zone.Loop, State: zone.Tampered, Since: ago(3 * time.Minute), Known: true, Percent: 78.1, Volts: 3.88,
				Thresholds: loopBands(), Reason: "the loop is open: cut wire or opened lid",
			}},
			{ID: "attic", Type: "Motion Detector", Location: "Attic", Pin: pin(4), Status: zone.Status{
				Name: "Attic", Group: "house", Signal: zone.Loop, State: zone.Unfit, Since: ago(50 * time.Second), Percent: 29.9, Volts: 1.48, // of before
				Thresholds: loopBands(), Reason: "cannot be read: nobody answers at 0x69", Silent: true,
			}},
			{ID: "shed", Type: "Motion Detector", Location: "Garden", Pin: pin(5), Status: zone.Status{
				Name: "Shed", Group: "garden", Signal: zone.Loop, State: zone.InPreAlarm, Since: ago(8 * time.Second), Known: true, Percent: 50, Volts: 2.48,
				Thresholds: loopBands(), Reason: "waits for a second zone", Swinger: true, WarmUp: true,
			}},
		},
		Groups: []zone.GroupStatus{
			{Name: "house", State: zone.GroupAlarm, Since: ago(7 * time.Hour), By: "schedule"},
			{Name: "garden", State: zone.GroupDisarmed, Since: ago(30 * time.Hour), By: "mqtt"},
			{Name: "garage", State: zone.GroupExit, Since: ago(20 * time.Second), Until: at.Add(40 * time.Second), By: "page"},
		},
		Outputs: []monitor.OutputView{
			{ID: "siren", Label: "Siren", Type: "Siren", Location: "Roof", Pin: board.Pin{Chip: "io1", Number: 1}, Status: relay.Status{
				Name: "siren", On: true, Wanted: true, Since: ago(14 * time.Second), Until: at.Add(46 * time.Second), Source: "rule", TotalOn: time.Hour,
			}},
			{ID: "light", Label: "Porch light", Type: "Light", Location: "Outside", Pin: board.Pin{Chip: "io1", Number: 2}, Status: relay.Status{Name: "light", Since: ago(time.Hour)}},
			{ID: "gate", Label: "Gate", Type: "Gate", Location: "Drive", Pin: board.Pin{Chip: "io1", Number: 15}, Momentary: true, Status: relay.Status{Name: "gate", Since: ago(time.Hour)}},
			{ID: "pump", Label: "Pump", Type: "Pump", Location: "Cellar", Pin: board.Pin{Chip: "io1", Number: 16}, Status: relay.Status{Name: "pump", Since: ago(time.Minute), Fault: "the pin shows on and was told off, twice"}},
		},
		Brokers: []bus.Health{
			{Name: "mqtt", Connected: true, Since: ago(25 * time.Hour)},
			{Name: "amqp", Since: ago(6 * time.Minute), Waiting: 12, Trouble: "dial tcp 192.0.2.7:5672: connection refused"},
		},
		Events: []bus.Event{
			{ID: "8", Time: ago(14 * time.Second), Kind: "on", Output: "siren", Reason: "rule intruder"},
			{ID: "7", Time: ago(14 * time.Second), Kind: "alarm", Zone: "hall", State: "alarm", From: "normal", Confirmed: true, Pulses: 2, By: "Front door", Reason: "2 pulses in 30 s, seconded by Front door", Percent: new(51.3), Volts: new(math.NaN())},
			{ID: "6", Time: ago(15 * time.Second), Kind: "motion", Zone: "hall", Reason: "left the normal band"},
			{ID: "5", Time: ago(20 * time.Second), Kind: "exit", Group: "garage", By: "page", Reason: "arming"},
			{ID: "4", Time: ago(50 * time.Second), Kind: "fault", Zone: "attic", State: "fault", From: "normal", Seconds: 8210.5, Reason: "cannot be read: nobody answers at 0x69", Replayed: true},
			{ID: "3", Time: ago(3 * time.Minute), Kind: "tamper", Zone: "cellar", State: "tamper", From: "normal", Reason: "the loop is open: cut wire or opened lid", Volts: new(3.88)},
			{ID: "2", Time: ago(7 * time.Hour), Kind: "armed", Group: "house", By: "schedule", Reason: "by the clock"},
			{ID: "1", Time: ago(26 * time.Hour), Kind: "start", Reason: "Hello from Remote Monitor"},
		},
	}}
	for i := -59 * 20; i <= 0; i++ {
		h.scans = append(h.scans, scan(at.Add(time.Duration(i)*50*time.Millisecond), i+59*20))
	}
	return h
}

// scan is what the zones of a house read in the i-th scan: a little noise, a door that opens, two people and a wire that
// was cut.
func scan(t time.Time, i int) monitor.Frame {
	noise := func(n int) float64 { return math.Sin(float64(i*(n+3))*1.7) * math.Cos(float64(i)*0.37) }
	f := monitor.Frame{Time: t, Values: []float64{29 + 0.4*noise(0), 0, 48 + 0.5*noise(2), 78 + 0.3*noise(3), 30 + 0.3*noise(4), 29 + 0.4*noise(5)}}
	s := float64(i) / 20
	if s > 38 && s < 39.1 || s > 45 && s < 48 || s > 56 {
		f.Values[0] += 22
	}
	if s > 36 && s < 41 {
		f.Values[1] = 100
	}
	if s > 20 && s < 24 {
		f.Values[2] += 4.5 * math.Sin((s-20)*math.Pi)
	}
	if s > 10 {
		f.Values[4] = math.NaN()
	}
	if s > 52 {
		f.Values[5] += 21
	}
	return f
}

func (h *house) snapshot() monitor.Snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.now
	s.Zones, s.Outputs, s.Groups, s.Events = append([]monitor.ZoneView(nil), s.Zones...), append([]monitor.OutputView(nil), s.Outputs...), append([]zone.GroupStatus(nil), s.Groups...), append([]bus.Event(nil), s.Events...)
	return s
}

func (h *house) frames(after uint64) ([]monitor.Frame, uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := uint64(len(h.scans))
	return append([]monitor.Frame(nil), h.scans[min(after, n):]...), n
}

// change changes the state and lets time pass.
func (h *house) change(f func(*monitor.Snapshot)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now.Time = h.now.Time.Add(time.Second)
	f(&h.now)
}

// goOn adds scans.
func (h *house) goOn(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range n {
		last := h.scans[len(h.scans)-1].Time
		h.scans = append(h.scans, scan(last.Add(50*time.Millisecond), len(h.scans)))
		h.now.Time = last
	}
}

func (h *house) command(c bus.Command) {
	h.mu.Lock()
	answer := h.answer
	h.commands = append(h.commands, c)
	h.mu.Unlock()
	if answer != nil {
		answer(c)
		return
	}
	c.Answer(bus.Ack{ID: c.ID, Output: c.Output, Group: c.Group, Status: "accepted", ReadBack: true, Time: c.IssuedAt})
	c.Answer(bus.Ack{ID: c.ID, Output: c.Output, Group: c.Group, Status: "done", Seconds: 1, ReadBack: true, Time: c.IssuedAt})
}

func (h *house) pressed() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, c := range h.commands {
		all = append(all, fmt.Sprintf("%s%s %s %s", c.Output, c.Group, c.Action, c.For))
	}
	return all
}

func (h *house) page() *Page {
	return &Page{Snapshot: h.snapshot, Frames: h.frames, Command: h.command, Token: token}
}

// open serves a page of a house.
func open(t testing.TB, p *Page) string {
	t.Helper()
	s := httptest.NewServer(p.Handler())
	t.Cleanup(s.Close)
	return s.URL
}
