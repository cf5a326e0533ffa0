package recording

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// JSON writes the report as one indented object.
func (r Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// Table writes the report for people: a line for each candidate, aligned.
func (r Report) Table(w io.Writer) error {
	rows := [][]string{{"config", "entries", "detected", "false", "away h", "false/day (95 %)", "precision (95 %)", "recall (95 %)", "F1", "p50 s", "p95 s", "dirty"}}
	for _, x := range r.Results {
		name := x.Config
		if x.Front {
			name += " *"
		}
		rows = append(rows, []string{
			name, fmt.Sprint(x.Entries), fmt.Sprint(x.Detected), fmt.Sprint(x.FalseAlarms), figure(x.AwayHours, 1),
			ranged(x.PerDay, 2), ranged(x.Precision, 2), ranged(x.Recall, 2), figure(x.F1, 2),
			figure(x.LatencyP50, 1), figure(x.LatencyP95, 1), figure(x.DirtyShare, 2),
		})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString(cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		b.WriteByte('\n')
	}
	for _, n := range r.Notes {
		b.WriteString("note: " + n + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func figure(n Number, decimals int) string {
	if math.IsNaN(float64(n)) {
		return "-"
	}
	return fmt.Sprintf("%.*f", decimals, float64(n))
}

func ranged(i Interval, decimals int) string {
	if math.IsNaN(float64(i.Value)) {
		return "-"
	}
	return fmt.Sprintf("%s (%s-%s)", figure(i.Value, decimals), figure(i.Low, decimals), figure(i.High, decimals))
}

// Sweep is a grid of settings, for the curve of misses against false alarms (DET). An empty axis stays as it is.
type Sweep struct {
	Pulses  []int           // N
	Windows []time.Duration // M
	Enter   []float64       // k, times the noise, of analog zones; they leave at half of it
}

// DefaultSweep goes from the most to the least sensitive that makes sense. The axis of k is there for analog zones
// alone.
func DefaultSweep(analog bool) Sweep {
	s := Sweep{Pulses: []int{1, 2, 3, 4}, Windows: []time.Duration{15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute}}
	if analog {
		s.Enter = []float64{4, 6, 8, 12}
	}
	return s
}

// Candidates are base with each setting of the grid, named after it. One pulse needs no window, and is there once.
func (s Sweep) Candidates(base Candidate) (grid []Candidate) {
	pulses, windows, enter := s.Pulses, s.Windows, s.Enter
	if len(pulses) == 0 {
		pulses = []int{0}
	}
	if len(windows) == 0 {
		windows = []time.Duration{0}
	}
	if len(enter) == 0 {
		enter = []float64{0}
	}
	for _, n := range pulses {
		for i, m := range windows {
			if n == 1 && i > 0 {
				continue
			}
			for _, k := range enter {
				c := base
				var name []string
				if n > 0 {
					name = append(name, fmt.Sprintf("N=%d", n))
				}
				if m > 0 && n != 1 {
					name = append(name, fmt.Sprintf("M=%.0fs", m.Seconds()))
				}
				if k > 0 {
					name = append(name, fmt.Sprintf("k=%g", k))
				}
				c.Name = strings.TrimSpace(base.Name + " " + strings.Join(name, " "))
				c.Tune = func(z *zone.Settings) {
					if base.Tune != nil {
						base.Tune(z)
					}
					if n > 0 {
						z.Pulses = n
					}
					if m > 0 {
						z.Window = m
					}
					if k > 0 && z.Signal == zone.Analog {
						z.Enter, z.Leave = k, k/2
					}
				}
				grid = append(grid, c)
			}
		}
	}
	return grid
}

// MarkFront marks the results that no other beats: none has fewer misses without more false alarms, or the reverse.
func (r Report) MarkFront() {
	for i := range r.Results {
		a := &r.Results[i]
		a.Front = true
		for _, b := range r.Results {
			if b.Missed <= a.Missed && b.FalseAlarms <= a.FalseAlarms && (b.Missed < a.Missed || b.FalseAlarms < a.FalseAlarms) {
				a.Front = false
				break
			}
		}
	}
}
