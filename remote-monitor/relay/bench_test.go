package relay_test

import (
	"testing"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/relay"
)

// BenchmarkFromDecisionToRelayWrite is the way from a rule's command to the end of the write that turns the output on:
// "write" of one that was at rest, on a bank in memory, and through the driver of an MCP23017 to a simulated chip. To
// that comes the time of the bits, 0.4 ms at 100 kHz: an address and three bytes.
func BenchmarkFromDecisionToRelayWrite(b *testing.B) {
	measure := func(b *testing.B, g *rig) {
		cmd := relay.Command{Output: g.config.Outputs[0].Name, Action: relay.Pulse, Source: "rule"}
		var spent time.Duration
		b.ReportAllocs()
		for b.Loop() {
			g.now = g.now.Add(time.Minute)
			g.r.Tick(b.Context(), g.now) // the last one goes off
			start := time.Now()
			out := g.r.Do(b.Context(), g.now, cmd)
			spent += time.Since(start)
			if out.Acks[0].Status != relay.Accepted {
				b.Fatal(out)
			}
		}
		b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "ns/write")
	}
	b.Run("memory", func(b *testing.B) { measure(b, newRig(b, outputs("io1", 16)...)) })
	b.Run("driver", func(b *testing.B) { measure(b, newBench(b, gate()).rig) })
}

// BenchmarkTick is what outputs cost the loop while nothing happens: one tick of 50 ms with 16 outputs, every
// twentieth of which reads them back.
func BenchmarkTick(b *testing.B) {
	g := newRig(b, outputs("io1", 16)...)
	b.ReportAllocs()
	for b.Loop() {
		g.now = g.now.Add(tick)
		g.r.Tick(b.Context(), g.now)
	}
}
