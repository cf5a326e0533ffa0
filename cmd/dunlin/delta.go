package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dunlin/dunlin/internal/deltajob"
	"github.com/dunlin/dunlin/internal/deviceapi"
	"github.com/dunlin/dunlin/internal/fleet"
)

// openDeltas makes the maker of deltas, which runs this program once more for each.
func (s *server) openDeltas() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	s.deltas = &deltajob.Jobs{
		Store: s.db, Registry: s.registry, Formats: []string{deltajob.Dunlin, deltajob.Librsync}, Parallel: s.deltaJobs, Space: s.deltaBytes,
		Limit: s.deltaTimeout, Wait: s.deltaWait, Dir: filepath.Join(s.data, "deltas"), Log: s.log,
		Encoder: deltajob.Process{Program: self, Args: []string{deltajob.Command}, Memory: s.memoryBytes, Log: s.log},
		Ended:   s.metrics.deltaAttempted, Saved: s.metrics.deltaSavedBytes,
	}
	s.metrics.registry.MustRegister(newDeltas(s.db.CountDeltas))
	return nil
}

// askDelta is the door's question in the words of who makes deltas.
type askDelta struct{ *deltajob.Jobs }

func (a askDelta) Find(ctx context.Context, q deviceapi.DeltaQuestion) (fleet.Delta, error) {
	format := deltajob.Dunlin
	if q.Stock {
		format = deltajob.Librsync
	}
	return a.Jobs.Find(ctx, deltajob.Question{
		Source: q.Source, Target: q.Target, SourceDigest: q.SourceDigest, TargetDigest: q.TargetDigest, Format: format, Device: q.Device,
	})
}

// deltas are the figures that are counted when somebody asks for them.
type deltas struct {
	count func(context.Context) ([]fleet.DeltaCount, error)
	jobs  *prometheus.Desc
	kept  *prometheus.Desc
}

func newDeltas(count func(context.Context) ([]fleet.DeltaCount, error)) *deltas {
	return &deltas{
		count: count,
		jobs:  prometheus.NewDesc("dunlin_delta_jobs", "Deltas by status.", []string{"status"}, nil),
		kept:  prometheus.NewDesc("dunlin_delta_kept_bytes", "Bytes of the deltas that are in the registry.", nil, nil),
	}
}

// Describe is of prometheus.Collector.
func (d *deltas) Describe(to chan<- *prometheus.Desc) {
	to <- d.jobs
	to <- d.kept
}

// Collect is of prometheus.Collector.
func (d *deltas) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	all, err := d.count(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(d.jobs, err)
		return
	}
	counts, bytes := map[fleet.DeltaStatus]int64{}, int64(0)
	for _, c := range all {
		counts[c.Status], bytes = c.Count, bytes+c.Bytes
	}
	for _, status := range []fleet.DeltaStatus{
		fleet.DeltaWaiting, fleet.DeltaRunning, fleet.DeltaReady, fleet.DeltaUseless, fleet.DeltaFailed, fleet.DeltaDropped,
	} {
		to <- prometheus.MustNewConstMetric(d.jobs, prometheus.GaugeValue, float64(counts[status]), string(status))
	}
	to <- prometheus.MustNewConstMetric(d.kept, prometheus.GaugeValue, float64(bytes))
}
