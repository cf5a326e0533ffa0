package main

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/route"
)

// metrics are the server's figures for Prometheus. No label names a device or a fleet.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	releases *prometheus.CounterVec
	builds   prometheus.Histogram
	sent     prometheus.Counter

	deltaSeconds prometheus.Histogram
	deltaEnded   *prometheus.CounterVec
	deltaMade    prometheus.Counter
	deltaSaved   prometheus.Counter
}

func newMetrics(h *hub.Hub) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dunlin_http_requests_total", Help: "HTTP requests answered, by door and status."}, []string{"door", "status"}),
		releases: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dunlin_release_ended_total", Help: "Releases ended, by status."}, []string{"status"}),
		builds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dunlin_release_duration_seconds", Help: "From the arrival of the source to the end of the release.",
			Buckets: prometheus.ExponentialBuckets(0.5, 2, 13)}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dunlin_registry_sent_bytes_total", Help: "Bytes of manifests and layers sent by the registry."}),
		deltaSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dunlin_delta_duration_seconds", Help: "What making a delta took, whatever came of it.",
			Buckets: prometheus.ExponentialBuckets(0.1, 2, 15)}),
		deltaEnded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dunlin_delta_ended_total", Help: "Attempts to make a delta that ended, by what became of it; waiting: it is tried again."}, []string{"status"}),
		deltaMade: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dunlin_delta_made_bytes_total", Help: "Bytes of the deltas that were made."}),
		deltaSaved: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dunlin_delta_saved_bytes_total", Help: "Bytes that devices did not fetch because they fetched a delta."}),
	}
	m.registry.MustRegister(m.requests, m.releases, m.builds, m.sent, m.deltaSeconds, m.deltaEnded, m.deltaMade, m.deltaSaved,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "dunlin_hub_online_devices", Help: "Devices that count as online."},
			func() float64 { return float64(h.Count()) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *metrics) releaseEnded(status fleet.Status, took time.Duration) {
	m.releases.WithLabelValues(string(status)).Inc()
	m.builds.Observe(took.Seconds())
}

func (m *metrics) deltaAttempted(d fleet.Delta, took time.Duration) {
	m.deltaSeconds.Observe(took.Seconds())
	m.deltaEnded.WithLabelValues(string(d.Status)).Inc()
	if d.Status == fleet.DeltaReady {
		m.deltaMade.Add(float64(d.Artifact.Size))
	}
}

func (m *metrics) deltaSavedBytes(bytes int64) { m.deltaSaved.Add(float64(bytes)) }

func (m *metrics) registrySent(bytes int64) { m.sent.Add(float64(bytes)) }

// observed counts requests to h by the first part of their path. What no route begins with is "other", so that strangers
// cannot make series.
func (m *metrics) observed(h http.Handler, routes route.Table) http.Handler {
	doors := map[string]bool{}
	for pattern := range routes {
		_, path, _ := strings.Cut(pattern, "/")
		doors[door("/"+path)] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &counter{ResponseWriter: w}
		h.ServeHTTP(c, r)
		if c.status == 0 {
			c.status = http.StatusOK
		}
		first := door(r.URL.Path)
		if !doors[first] {
			first = "other"
		}
		m.requests.WithLabelValues(first, strconv.Itoa(c.status)).Inc()
	})
}

// door is the first part of a path.
func door(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return first
}
