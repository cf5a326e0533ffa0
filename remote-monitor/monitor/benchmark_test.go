package monitor_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/board/boardtest"
	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// sixteen is a site of sixteen loops on two ADC Pis, a relay, and a rule from each zone to it.
func sixteen() config.Config {
	c := config.Config{
		TimeZone: time.UTC, Interval: 50 * time.Millisecond, Heartbeat: time.Minute,
		Site:    zone.Config{WarmUp: -1},
		Outputs: []config.Output{{ID: "light", Name: "Light"}},
		Relay:   relay.Config{Outputs: []relay.Output{{Name: "light", Pin: io(1), PerMinute: 1 << 30}}},
		Rules:   []config.Rule{{Name: "light", On: []zone.Kind{zone.Motion}, Outputs: []string{"light"}, Action: relay.Pulse}},
		Board: board.Config{
			Chips: []board.Chip{
				{Name: "adc1", Kind: board.MCP3424, Addresses: []uint16{0x68, 0x69}}, {Name: "adc2", Kind: board.MCP3424, Addresses: []uint16{0x6a, 0x6b}},
				{Name: "io1", Kind: board.MCP23017, Addresses: []uint16{0x20}},
			},
			Outputs: []board.Pin{io(1)},
		},
	}
	for i := range 16 {
		name := fmt.Sprintf("Zone %d", i+1)
		pin := board.Pin{Chip: fmt.Sprintf("adc%d", 1+i/8), Number: 1 + i%8}
		c.Board.Inputs = append(c.Board.Inputs, pin)
		c.Zones = append(c.Zones, config.Zone{ID: fmt.Sprintf("zone_%d", i+1), Name: name, Pin: pin})
		c.Site.Zones = append(c.Site.Zones, zone.Settings{Name: name})
	}
	return c
}

// table is a board that takes no time: sixteen readings that tremble a little.
type table struct {
	bench
	n        int
	readings []board.Reading
	levels   []float64
}

func newTable(c config.Config) *table {
	b := &table{levels: make([]float64, 16)}
	for i, p := range c.Board.Inputs {
		b.levels[i] = idle
		b.readings = append(b.readings, board.Reading{Pin: p})
	}
	return b
}

func (b *table) Scan(context.Context) ([]board.Reading, error) {
	b.n++
	for i := range b.readings {
		b.readings[i].Volts = (b.levels[i] + float64((b.n+i)%3)/20) / 20
	}
	return b.readings, nil
}

// BenchmarkATurnOfSixteenInputs is what the loop costs: everything but the board, with a board that takes no time; and
// everything with the drivers of the real chips on a simulated bus, where the time is the processor's, because a scan
// mostly waits. The simulated chips, which a real house has not, are part of that.
func BenchmarkATurnOfSixteenInputs(b *testing.B) {
	b.Run("without board", func(b *testing.B) {
		c := sixteen()
		t := newTable(c)
		turn := turns(b, c, func(context.Context) (board.Board, error) { return t, nil })
		b.ReportAllocs()
		for b.Loop() {
			turn()
		}
		b.ReportMetric(100*20*b.Elapsed().Seconds()/float64(b.N), "%core@20Hz")
	})
	b.Run("with drivers", func(b *testing.B) {
		c := sixteen()
		sim := &boardtest.Bus{}
		for a := range uint16(4) {
			chip := boardtest.NewMCP3424()
			for n := 1; n <= 4; n++ {
				chip.SetVolts(n, idle/20)
			}
			sim.Attach(0x68+a, chip)
		}
		sim.Attach(0x20, boardtest.NewMCP23017())
		host := board.Host{Root: b.TempDir(), I2C: func(int) (i2c.BusCloser, error) { return sim, nil }}
		turn := turns(b, c, func(ctx context.Context) (board.Board, error) { return host.Open(ctx, c.Board) })
		b.ReportAllocs()
		before := processor(b)
		for b.Loop() {
			turn()
		}
		used := (processor(b) - before).Seconds() / float64(b.N)
		b.ReportMetric(used*1e9, "cpu-ns/op")
		b.ReportMetric(100*20*used, "%core@20Hz")
	})
}

// turns makes a monitor of a configuration with an open board, a broker and a listener to its heart.
func turns(b *testing.B, c config.Config, open func(context.Context) (board.Board, error)) (turn func()) {
	b.Helper()
	k := &broker{journal: &journal{}, zones: map[string]bus.ZoneState{}, outputs: map[string]bus.OutputState{}}
	m := &monitor.Monitor{Config: c, Open: open, Emit: func(any) error { return nil }, Brokers: []bus.Broker{k}, Beat: func(time.Time, bool, string) {}}
	turn, stop, err := m.Turns(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(stop)
	turn()
	if v := m.Snapshot(); !v.Healthy || len(v.Zones) != 16 {
		b.Fatal(v.Unhealthy)
	}
	return turn
}

// processor is the time this process has had of a processor.
func processor(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFromDecidingSampleToRelayWrite is the time from the end of the scan that decides to the write that turns
// the relay on.
func BenchmarkFromDecidingSampleToRelayWrite(b *testing.B) {
	c := sixteen()
	for i := range c.Site.Zones {
		// Each sample decides; the zones are in no group, alarm at once and are forgiven everything.
		z := &c.Site.Zones[i]
		z.Filter, z.MinWidth, z.MergeGap, z.Sensitivity, z.Policy = zone.NoFilter, -1, -1, zone.High, zone.Single
	}
	c.Site.CommonHold = -1
	c.Relay.Outputs[0].On = time.Microsecond
	t := &timed{table: newTable(c)}
	turn := turns(b, c, func(context.Context) (board.Board, error) { return t, nil })
	t.total, t.writes = 0, 0
	for b.Loop() {
		if t.writes%100 == 99 {
			// Outputs remember how often they went on in a minute, which no real one does ten thousand times.
			b.StopTimer()
			turn = turns(b, c, func(context.Context) (board.Board, error) { return t, nil })
			b.StartTimer()
		}
		t.levels[0] = active
		turn()
		turn()
		t.levels[0] = idle
		turn()
		turn()
	}
	if t.writes < b.N {
		b.Fatalf("the relay went on %d times, and somebody walked by %d times", t.writes, b.N)
	}
	b.ReportMetric(float64(t.total.Nanoseconds())/float64(t.writes), "ns/decision")
}

// timed is a table that knows when it was last scanned, and how long it took until an output went on.
type timed struct {
	*table
	scanned time.Time
	total   time.Duration
	writes  int
}

func (t *timed) Scan(ctx context.Context) ([]board.Reading, error) {
	r, err := t.table.Scan(ctx)
	t.scanned = time.Now()
	return r, err
}

func (t *timed) Banks() []board.Bank { return []board.Bank{timedBank{expander{&t.bench}, t}} }

type timedBank struct {
	expander
	t *timed
}

func (b timedBank) Write(ctx context.Context, levels uint16) error {
	if levels != 0 {
		b.t.total += time.Since(b.t.scanned)
		b.t.writes++
	}
	b.journal.mu.Lock()
	b.journal.lines = b.journal.lines[:0]
	b.journal.mu.Unlock()
	return b.expander.Write(ctx, levels)
}
