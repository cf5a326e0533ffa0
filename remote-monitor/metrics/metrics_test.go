package metrics

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

var _ monitor.Observer = (*Metrics)(nil)

func site() monitor.Snapshot {
	return monitor.Snapshot{
		Version: "1.0.0", Healthy: true, Scans: 12000, LastScan: time.UnixMilli(1_700_000_000_050), Supply: 4.97,
		Zones: []monitor.ZoneView{
			{ID: "hall", Status: zone.Status{Name: "Hall motion", Signal: zone.Loop, State: zone.InAlarm, Motion: true, Known: true, Volts: 2.55}},
			{ID: "door", Status: zone.Status{Name: "Front door", Signal: zone.Contact, State: zone.Normal, Known: true}},
			{ID: "attic", Status: zone.Status{Name: "Attic", Signal: zone.Loop, State: zone.Unfit, Volts: 1.44}},
		},
		Groups:  []zone.GroupStatus{{Name: "house", State: zone.GroupArmed}},
		Outputs: []monitor.OutputView{{ID: "siren", Status: relay.Status{Name: "siren", On: true, TotalOn: 90 * time.Second}}, {ID: "pump", Status: relay.Status{Name: "pump", Fault: "stuck"}}},
		Brokers: []bus.Health{{Name: "mqtt", Connected: true}, {Name: "amqp", Waiting: 12, Dropped: 3}},
	}
}

func read(m *Metrics) string {
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// told has everything happen once or more.
func told(m *Metrics) {
	pin := func(c string) board.Pin { return board.Pin{Chip: c, Number: 1} }
	m.Scanned(21*time.Millisecond, 2*time.Millisecond, []board.Reading{
		{Pin: pin("adc1")}, {Pin: pin("adc1"), Quality: board.NAK}, {Pin: pin("adc1"), Quality: board.NAK}, {Pin: pin("adc2"), Quality: board.Stale}, {Pin: pin("adc2"), Quality: "bent"},
	})
	for _, e := range []zone.Event{
		{Kind: zone.Motion, Zone: "Hall motion", Group: "house"}, {Kind: zone.Alarm, Zone: "Hall motion"}, {Kind: zone.Alarm, Zone: "Hall motion"},
		{Kind: zone.Suppressed, Zone: "Hall motion", Stage: zone.StageCount}, {Kind: zone.Suppressed, Zone: "Front door", Stage: zone.StageWidth},
		{Kind: zone.Suppressed, Zone: "Front door", Stage: zone.StageWidth}, {Kind: zone.CommonMode}, {Kind: zone.Armed, Group: "house"},
		{Kind: zone.Alarm, Zone: "gone"}, {Kind: zone.Alarm, Zone: "gone too"}, {Kind: zone.Warm},
	} {
		m.Zone(e)
	}
	for _, e := range []relay.Event{
		{Kind: relay.TurnedOn, Output: "siren"}, {Kind: relay.Forced, Output: "siren", Cause: relay.ByLimit}, {Kind: relay.Forced, Output: "pump", Cause: relay.ByLimit},
		{Kind: relay.Forced, Output: "pump", Cause: "whim"}, {Kind: relay.ExpanderReset, Chip: "io1"},
	} {
		m.Output(e)
	}
	m.Ack(relay.Ack{Status: relay.Accepted})
	m.Ack(relay.Ack{Status: relay.Rejected})
	m.Ack(relay.Ack{Status: relay.Rejected, Again: true})
}

func TestPrometheusReadsWhatIsKnownAndWhatHappened(t *testing.T) {
	s := site()
	m := New(func() monitor.Snapshot { return s })
	m.now = func() time.Time { return s.LastScan.Add(40 * time.Millisecond) }
	told(m)

	said := read(m)
	lines := strings.Split(said, "\n")
	for _, want := range []string{
		`rm_input_state{input="hall",state="alarm"} 1`, `rm_input_state{input="hall",state="normal"} 0`, `rm_input_state{input="attic",state="fault"} 1`,
		`rm_input_motion{input="hall"} 1`, `rm_input_volts{input="hall"} 2.55`, `rm_input_volts{input="attic"} NaN`,
		`rm_adc_read_seconds_count 1`, `rm_adc_read_seconds_bucket{le="0.03"} 1`, `rm_adc_read_seconds_bucket{le="0.02"} 0`,
		`rm_adc_errors_total{chip="adc1",kind="nak"} 2`, `rm_adc_errors_total{chip="adc2",kind="stale"} 1`, `rm_adc_errors_total{chip="adc2",kind="other"} 1`,
		`rm_events_total{input="hall",kind="alarm"} 2`, `rm_events_total{input="hall",kind="motion"} 1`, `rm_events_total{input="other",kind="alarm"} 2`,
		`rm_suppressed_total{input="hall",stage="count"} 1`, `rm_suppressed_total{input="door",stage="width"} 2`, `rm_common_mode_total 1`,
		`rm_group_state{group="house",state="armed"} 1`, `rm_group_state{group="house",state="alarm"} 0`, `rm_group_events_total{group="house",kind="armed"} 1`,
		`rm_output_state{output="siren"} 1`, `rm_output_state{output="pump"} 0`, `rm_output_fault{output="pump"} 1`, `rm_output_on_seconds_total{output="siren"} 90`,
		`rm_output_forced_off_total{reason="limit"} 2`, `rm_output_forced_off_total{reason="lease"} 0`, `rm_output_forced_off_total{reason="other"} 1`,
		`rm_output_events_total{output="siren",kind="on"} 1`, `rm_chip_events_total{chip="io1",kind="expander_reset"} 1`,
		`rm_commands_total{status="accepted"} 1`, `rm_commands_total{status="rejected"} 1`,
		`rm_broker_connected{broker="mqtt"} 1`, `rm_broker_connected{broker="amqp"} 0`, `rm_spool_depth{broker="amqp"} 12`, `rm_spool_dropped_total{broker="amqp"} 3`,
		`rm_loop_lag_seconds 0.002`, `rm_scans_total 12000`, `rm_last_scan_timestamp_seconds 1.70000000005e+09`, `rm_supply_volts 4.97`,
		`rm_healthy 1`, `rm_board_up 1`, `rm_build_info{version="1.0.0"} 1`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("/metrics does not say %s", want)
		}
	}
	if strings.Contains(said, `rm_input_volts{input="door"}`) {
		t.Error("a contact has a voltage")
	}
	if t.Failed() {
		t.Log(said)
	}
}

func TestPrometheusFindsNothingToComplainOf(t *testing.T) {
	s := site()
	s.Zones[0].ID = `a "hall" \ with
a line end` // which an id never is
	m := New(func() monitor.Snapshot { return s })
	told(m)
	problems, err := promlint.New(strings.NewReader(read(m))).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestBeforeTheFirstScanThereAreMetricsToo(t *testing.T) {
	m := New(func() monitor.Snapshot { return monitor.Snapshot{Trouble: "no such bus"} })
	want := `# HELP rm_board_up 1 while the board answers.
# TYPE rm_board_up gauge
rm_board_up 0
# HELP rm_loop_lag_seconds How late a scan began: the worst of the last half to whole minute, or how long none has begun.
# TYPE rm_loop_lag_seconds gauge
rm_loop_lag_seconds 0
`
	said := read(m)
	for block := range strings.SplitSeq(want, "# HELP") {
		if !strings.Contains(said, block) {
			t.Errorf("it does not say %s", block)
		}
	}
	for _, absent := range []string{"rm_supply_volts", "rm_last_scan_timestamp_seconds"} {
		if strings.Contains(said, absent) {
			t.Errorf("it says %s", absent)
		}
	}
}

func TestALagIsSeenUntilSomebodyHasLooked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := site()
		m := New(func() monitor.Snapshot { return s })
		seen := func() time.Duration { return m.worst(s) }
		scan := func(lag time.Duration) { s.LastScan = time.Now(); m.Scanned(time.Millisecond, lag, nil) }
		scan(300 * time.Millisecond)
		for range 29 {
			time.Sleep(time.Second)
			scan(time.Millisecond)
		}
		if got := seen(); got != 300*time.Millisecond {
			t.Errorf("29 s later the lag is %s", got)
		}
		for range 16 {
			time.Sleep(time.Second)
			scan(time.Millisecond)
		}
		if got := seen(); got != 300*time.Millisecond {
			t.Errorf("45 s later the lag is %s", got)
		}
		for range 15 {
			time.Sleep(time.Second)
			scan(time.Millisecond)
		}
		if got := seen(); got != time.Millisecond {
			t.Errorf("a minute later the lag is %s", got)
		}
		time.Sleep(7 * time.Second)
		if got := seen(); got != 7*time.Second {
			t.Errorf("of a loop that stands for 7 s the lag is %s", got)
		}
	})
}

func TestAScanWithoutErrorsAllocatesNothing(t *testing.T) {
	m := New(site)
	readings := make([]board.Reading, 16)
	if n := testing.AllocsPerRun(100, func() { m.Scanned(time.Millisecond, time.Millisecond, readings) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkScanned(b *testing.B) {
	m := New(site)
	readings := make([]board.Reading, 16)
	b.ReportAllocs()
	for b.Loop() {
		m.Scanned(21*time.Millisecond, time.Millisecond, readings)
	}
}
