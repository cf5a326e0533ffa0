// Package metrics owns what Prometheus is told of the monitor: names, labels, what is counted, and the text it is told
// in. It does not own when something happens.
//
// The text is written here rather than by Prometheus' own library, which would be a sixth of the whole program; the
// tests read it with that library.
package metrics

import (
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// other is the label of what the snapshot does not know, so that labels have bounds whatever happens.
const other = "other"

// Metrics counts what passes and reads the rest from the snapshot when it is asked. It is a monitor.Observer and an
// http.Handler; its methods may be called from several goroutines.
type Metrics struct {
	snapshot func() monitor.Snapshot
	now      func() time.Time

	mu         sync.Mutex
	read       histogram
	errors     map[[2]string]float64 // chip, kind
	events     map[[2]string]float64 // name of the zone, kind
	suppressed map[[2]string]float64 // name of the zone, stage
	groups     map[[2]string]float64 // group, kind
	outputs    map[[2]string]float64 // output, kind
	chips      map[[2]string]float64 // chip of outputs, kind
	acks       map[string]float64
	forced     map[string]float64
	common     float64
	lag        [2]peak // of this half minute and of the one before
}

// peak is the greatest of the times since it began.
type peak struct {
	since time.Time
	most  time.Duration
}

const halfMinute = 30 * time.Second

// New makes the metrics. Snapshot is called whenever they are read.
func New(snapshot func() monitor.Snapshot) *Metrics {
	return &Metrics{
		snapshot: snapshot, now: time.Now,
		errors: map[[2]string]float64{}, events: map[[2]string]float64{}, suppressed: map[[2]string]float64{},
		groups: map[[2]string]float64{}, outputs: map[[2]string]float64{}, chips: map[[2]string]float64{}, acks: map[string]float64{}, forced: map[string]float64{},
	}
}

// Scanned counts a scan. It allocates nothing while all inputs answer.
func (m *Metrics) Scanned(took, lag time.Duration, readings []board.Reading) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read.observe(took.Seconds())
	if now.Sub(m.lag[0].since) >= halfMinute {
		m.lag[1], m.lag[0] = m.lag[0], peak{since: now}
	}
	m.lag[0].most = max(m.lag[0].most, lag)
	for i := range readings {
		if r := &readings[i]; r.Quality != board.Good {
			m.errors[[2]string{r.Pin.Chip, quality(r.Quality)}]++
		}
	}
}

// quality keeps the label to the words that the board has.
func quality(q board.Quality) string {
	switch q {
	case board.Saturated, board.Timeout, board.NAK, board.Stale, board.Away:
		return string(q)
	}
	return other
}

// Zone counts an event of a zone, of a group or of the site.
func (m *Metrics) Zone(e zone.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case e.Kind == zone.CommonMode:
		m.common++
	case e.Kind == zone.Suppressed:
		m.suppressed[[2]string{e.Zone, string(e.Stage)}]++
	case e.Zone != "":
		m.events[[2]string{e.Zone, string(e.Kind)}]++
	case e.Group != "":
		m.groups[[2]string{e.Group, string(e.Kind)}]++
	}
}

// Output counts an event of an output.
func (m *Metrics) Output(e relay.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Output == "" {
		m.chips[[2]string{e.Chip, string(e.Kind)}]++
		return
	}
	m.outputs[[2]string{e.Output, string(e.Kind)}]++
	if e.Kind == relay.Forced {
		m.forced[cause(e.Cause)]++
	}
}

// causes are why an output is forced off.
var causes = [...]relay.Cause{relay.ByLease, relay.ByLimit, relay.ByFault, relay.ByReset, relay.ByBus, relay.BySafe}

// cause keeps the label to the words that relay has.
func cause(c relay.Cause) string {
	if slices.Contains(causes[:], c) {
		return string(c)
	}
	return other
}

// Ack counts the answer to a command.
func (m *Metrics) Ack(a relay.Ack) {
	if a.Again {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acks[string(a.Status)]++
}

// The families.
var (
	inputState  = family{gauge, "rm_input_state", "State of the input: 1 for the one it is in, 0 for the others.", []string{"input", "state"}}
	inputVolts  = family{gauge, "rm_input_volts", "Voltage at the input's terminal.", []string{"input"}}
	inputMotion = family{gauge, "rm_input_motion", "1 while the input reports motion.", []string{"input"}}
	adcErrors   = family{counter, "rm_adc_errors_total", "Readings that were bad.", []string{"chip", "kind"}}
	events      = family{counter, "rm_events_total", "Events of the input.", []string{"input", "kind"}}
	suppressed  = family{counter, "rm_suppressed_total", "Candidates for an alarm that were turned down, by the stage that did it.", []string{"input", "stage"}}
	common      = family{counter, "rm_common_mode_total", "Times several inputs, or the supply, stepped at once.", nil}
	groupState  = family{gauge, "rm_group_state", "State of the arming group: 1 for the one it is in, 0 for the others.", []string{"group", "state"}}
	groupEvents = family{counter, "rm_group_events_total", "Events of the arming group.", []string{"group", "kind"}}
	outputState = family{gauge, "rm_output_state", "1 while the output is on, as it was read back.", []string{"output"}}
	outputFault = family{gauge, "rm_output_fault", "1 while the output does not do what it is told.", []string{"output"}}
	outputOn    = family{counter, "rm_output_on_seconds_total", "Time the output was on.", []string{"output"}}
	outputForce = family{counter, "rm_output_forced_off_total", "Times an output went off before its time, by what did it.", []string{"reason"}}
	outputEvent = family{counter, "rm_output_events_total", "Events of the output.", []string{"output", "kind"}}
	chipEvents  = family{counter, "rm_chip_events_total", "Events of the chip that drives outputs.", []string{"chip", "kind"}}
	acks        = family{counter, "rm_commands_total", "Answers to commands.", []string{"status"}}
	connected   = family{gauge, "rm_broker_connected", "1 while the broker is connected.", []string{"broker"}}
	spool       = family{gauge, "rm_spool_depth", "Events that wait on disk for the broker.", []string{"broker"}}
	dropped     = family{counter, "rm_spool_dropped_total", "Events that were lost because the disk's share was full.", []string{"broker"}}
	lag         = family{gauge, "rm_loop_lag_seconds", "How late a scan began: the worst of the last half to whole minute, or how long none has begun.", nil}
	scans       = family{counter, "rm_scans_total", "Scans since the start.", nil}
	lastScan    = family{gauge, "rm_last_scan_timestamp_seconds", "When the last scan was.", nil}
	supply      = family{gauge, "rm_supply_volts", "Measured supply of the loops.", nil}
	healthy     = family{gauge, "rm_healthy", "1 while the monitor says it is well.", nil}
	boardUp     = family{gauge, "rm_board_up", "1 while the board answers.", nil}
	build       = family{gauge, "rm_build_info", "Always 1; the version is the label.", []string{"version"}}
)

// ServeHTTP answers with everything as it stands, in Prometheus' text format.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s := m.snapshot()
	t := &text{}
	m.mu.Lock()
	t.histogram("rm_adc_read_seconds", "Time to read all inputs once.", m.read)
	t.snapshot(s)
	m.counts(t, s)
	t.add(lag, m.worst(s).Seconds())
	m.mu.Unlock()
	t.process()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(t.bytes()) // whoever asked has gone, if it fails
}

// worst is the greatest lag lately. A loop that stands still tells nothing, so that the time since its last scan counts.
func (m *Metrics) worst(s monitor.Snapshot) time.Duration {
	worst := max(m.lag[0].most, m.lag[1].most, s.Lag)
	if quiet := m.now().Sub(s.LastScan); !s.LastScan.IsZero() && quiet > time.Second {
		worst = max(worst, quiet)
	}
	return worst
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// snapshot writes how things stand.
func (t *text) snapshot(s monitor.Snapshot) {
	for _, z := range s.Zones {
		for _, state := range []zone.State{zone.Normal, zone.InPreAlarm, zone.InAlarm, zone.Tampered, zone.Unfit} {
			t.add(inputState, bit(z.State == state), z.ID, string(state))
		}
		t.add(inputMotion, bit(z.Motion), z.ID)
		if z.Signal == zone.Loop || z.Signal == zone.Analog || z.Signal == "" {
			volts := z.Volts
			if !z.Known {
				volts = math.NaN()
			}
			t.add(inputVolts, volts, z.ID)
		}
	}
	for _, g := range s.Groups {
		for _, state := range []zone.GroupState{zone.GroupDisarmed, zone.GroupExit, zone.GroupArmed, zone.GroupEntry, zone.GroupAlarm} {
			t.add(groupState, bit(g.State == state), g.Name, string(state))
		}
	}
	for _, o := range s.Outputs {
		t.add(outputState, bit(o.On), o.ID)
		t.add(outputFault, bit(o.Fault != ""), o.ID)
		t.add(outputOn, o.TotalOn.Seconds(), o.ID)
	}
	for _, b := range s.Brokers {
		t.add(connected, bit(b.Connected), b.Name)
		t.add(spool, float64(b.Waiting), b.Name)
		t.add(dropped, float64(b.Dropped), b.Name)
	}
	t.add(scans, float64(s.Scans))
	if !s.LastScan.IsZero() {
		t.add(lastScan, float64(s.LastScan.UnixMilli())/1000)
	}
	if s.Supply != 0 {
		t.add(supply, s.Supply)
	}
	t.add(healthy, bit(s.Healthy))
	t.add(boardUp, bit(s.Trouble == ""))
	t.add(build, 1, s.Version)
}
