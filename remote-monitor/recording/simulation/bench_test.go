package simulation_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/recording"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// perRow reports how many rows a second went by.
func perRow(b *testing.B, text []byte) {
	b.ReportMetric(float64(bytes.Count(text, []byte{'\n'}))*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkRead(b *testing.B) {
	text := csv(b, simulate(b, "storms", 1, 10).Edges())
	for b.Loop() {
		for r := recording.NewReader(bytes.NewReader(text)); ; {
			if _, err := r.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
	perRow(b, text)
}

func replay(b *testing.B, text []byte, events func(recording.Source) func(func(zone.Event, error) bool)) {
	for b.Loop() {
		for _, err := range events(recording.Bytes(text)) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	perRow(b, text)
}

func BenchmarkReplayEdges(b *testing.B) {
	text := csv(b, simulate(b, "storms", 1, 10).Edges())
	replay(b, text, func(src recording.Source) func(func(zone.Event, error) bool) {
		return recording.Replay(src, nil, recording.ReplayOptions{Arming: recording.Always})
	})
}

func BenchmarkReplayVolts(b *testing.B) {
	trace := simulate(b, "quiet", 1, 1)
	from := trace.Labels()[0].Start.Add(7 * time.Hour)
	text := csv(b, trace.Volts(from, from.Add(30*time.Minute), 50*time.Millisecond))
	replay(b, text, func(src recording.Source) func(func(zone.Event, error) bool) {
		return recording.Replay(src, configured(b, "quiet"), recording.ReplayOptions{Arming: recording.Always})
	})
}

func BenchmarkEvaluateSevenCandidates(b *testing.B) {
	trace := simulate(b, "storms", 1, 10)
	text := csv(b, trace.Edges())
	names, _ := recording.Baselines()
	var all []recording.Candidate
	for _, n := range names {
		c, err := recording.Baseline(n)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, c)
	}
	for b.Loop() {
		if _, err := recording.Evaluate(recording.Bytes(text), trace.Labels(), all, recording.Options{}); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b, text)
}

func BenchmarkSimulateADay(b *testing.B) {
	for b.Loop() {
		n := 0
		for range simulate(b, "quiet", 1, 1).Edges() {
			n++
		}
	}
}
