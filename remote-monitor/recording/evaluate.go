package recording

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Candidate is a way to decide that is to be measured: a configuration, the shipped defaults (the zero value), or what
// Baseline returns.
type Candidate struct {
	Name   string
	Config *config.Config       // nil: each zone of the recording has the shipped defaults
	Tune   func(*zone.Settings) // changes the settings of each zone; nil: they stay

	baseline *rule
}

// within is how long after its start an entry is to be told, if nothing else is asked for.
const within = time.Minute

// Options are how to evaluate. The zero value means what the fields say.
type Options struct {
	Within time.Duration // an entry is detected if it is told within this long after its start; 60 s
	Arming Arming        // Always; baselines are always armed, and of their alarms only those at other times than home count
}

// Report is how candidates did on one recording. The keys of its JSON are stable.
type Report struct {
	Zones   int       `json:"zones"`
	Rows    int       `json:"rows"`
	From    time.Time `json:"from"` // first row
	To      time.Time `json:"to"`   // last row
	Within  float64   `json:"within_s"`
	Arming  Arming    `json:"arming"`
	Results []Result  `json:"results"`         // as the candidates were given
	Notes   []string  `json:"notes,omitempty"` // what a reader should know of the recording and its labels
}

// Result is how one candidate did. What cannot be measured, such as the precision of nothing told, is null in JSON.
type Result struct {
	Config      string   `json:"config"`
	Entries     int      `json:"entries"`                // labelled
	Detected    int      `json:"detected"`               // entries with a told alarm within Report.Within of their start
	Missed      int      `json:"missed"`                 // the others
	FalseAlarms int      `json:"false_alarms"`           // told while away and not while an entry
	AwayHours   Number   `json:"away_hours"`             // labelled away and neither entry nor home
	PerDay      Interval `json:"false_alarms_per_day"`   // over the time away; exact Poisson interval
	Precision   Interval `json:"precision"`              // detected of detected and false; Wilson
	Recall      Interval `json:"recall"`                 // detected of entries; Wilson
	F1          Number   `json:"f1"`                     // harmonic mean of the two
	LatencyP50  Number   `json:"latency_p50_s"`          // from the start of an entry to its first told alarm
	LatencyP95  Number   `json:"latency_p95_s"`          //
	DirtyShare  Number   `json:"dirty_share"`            // of the times labelled away, those with at least one false alarm
	AtHome      int      `json:"alarms_at_home"`         // told while home: neither right nor wrong
	Unlabelled  int      `json:"alarms_unlabelled"`      // told while nothing is labelled: ignored too
	Suppressed  Stages   `json:"suppressed"`             // candidates turned down while away, by stage
	Front       bool     `json:"front,omitempty"`        // see Sweep: no other has fewer false alarms and misses
	FirstFalse  []string `json:"first_false,omitempty"`  // when and where the first ten were
	FirstMissed []string `json:"first_missed,omitempty"` // starts of the first ten missed entries
}

// Stages counts by stage of the pipeline.
type Stages map[zone.Stage]int

// examples is how many false alarms and missed entries a result names.
const examples = 10

// Evaluate runs every candidate over the recording, in one reading of it, and compares what they told with the labels.
//
// Matching is by event: an alarm counts if it is told, which is to say not Quiet. An entry is detected if one is told
// within Options.Within of its start. An alarm that is told while away is false, unless somebody is coming in, from
// the start of a labelled entry until Within after it or its end. Nothing told at home counts.
func Evaluate(src Source, labels []Label, candidates []Candidate, o Options) (Report, error) {
	if o.Within <= 0 {
		o.Within = within
	}
	if o.Arming == AsConfigured {
		o.Arming = Always
	}
	if o.Arming != Always && o.Arming != ByLabels {
		return Report{}, fmt.Errorf("cannot evaluate with arming %q; choose %s or %s", o.Arming, Always, ByLabels)
	}
	if len(candidates) == 0 {
		return Report{}, errors.New("cannot evaluate: no configuration is given; name one, or a baseline")
	}
	survey, err := Look(src)
	if err != nil {
		return Report{}, err
	}
	t := newTruth(labels, o.Within)
	report := Report{Zones: len(survey.Zones), Rows: survey.Rows, From: survey.First, To: survey.Last, Within: o.Within.Seconds(), Arming: o.Arming, Notes: notes(survey, labels, t)}
	scores := make([]score, len(candidates))
	interval := time.Duration(math.MaxInt64)
	for i, c := range candidates {
		p, err := c.player(survey, ReplayOptions{Arming: o.Arming, Labels: labels})
		if err != nil {
			return Report{}, err
		}
		scores[i] = newScore(c.Name, p, &t)
		interval = min(interval, p.interval)
	}
	err = scans(src, survey, interval, func(s zone.Scan) error {
		for i := range scores {
			scores[i].count(scores[i].player.feed(s))
		}
		return nil
	})
	if err != nil {
		return Report{}, err
	}
	for i := range scores {
		scores[i].count(scores[i].player.advance(survey.Last.Add(settle)))
		report.Results = append(report.Results, scores[i].result())
	}
	return report, nil
}

// notes are what is odd about labels and recording.
func notes(s Survey, labels []Label, t truth) (n []string) {
	if len(labels) == 0 {
		n = append(n, "there are no labels: nothing can be right or wrong")
	}
	if t.overlap > 0 {
		n = append(n, fmt.Sprintf("%s are labelled both away and home; they count as home", t.overlap.Round(time.Second)))
	}
	if out := t.empty - total(subtract(t.away, outside(s))); out > max(time.Hour, t.empty/20) {
		n = append(n, fmt.Sprintf("%s labelled away are before the first or after the last row of the recording; they count as quiet", out.Round(time.Second)))
	}
	missing := 0
	for _, e := range t.entries {
		if e.from.Before(s.First) || e.from.After(s.Last) {
			missing++
		}
	}
	if missing > 0 {
		n = append(n, fmt.Sprintf("%d entries are before the first or after the last row of the recording; they count as missed", missing))
	}
	return n
}

// outside is all time that the recording does not cover.
func outside(s Survey) []span {
	return []span{{time.Time{}, s.First}, {s.Last, s.Last.AddDate(1000, 0, 0)}}
}

// score counts for one candidate while it runs.
type score struct {
	name    string
	player  *player
	truth   *truth
	first   []time.Time // by entry: the first told alarm
	dirty   []bool      // by period away
	res     Result
	waiting int // the first entry whose window is not yet over
}

func newScore(name string, p *player, t *truth) score {
	return score{
		name: name, player: p, truth: t,
		first: make([]time.Time, len(t.entries)), dirty: make([]bool, len(t.periods)), res: Result{Suppressed: Stages{}},
	}
}

// count takes events, in the order of their times.
func (s *score) count(events []zone.Event) {
	for _, e := range events {
		switch {
		case e.Kind == zone.Suppressed && find(s.truth.away, e.Time) >= 0:
			s.res.Suppressed[e.Stage]++
		case e.Kind == zone.Alarm && !e.Quiet:
			s.told(e)
		}
	}
}

func (s *score) told(e zone.Event) {
	entries := s.truth.entries
	for s.waiting < len(entries) && entries[s.waiting].to.Before(e.Time) {
		s.waiting++
	}
	for i := s.waiting; i < len(entries) && !entries[i].from.After(e.Time); i++ {
		if s.first[i].IsZero() {
			s.first[i] = e.Time
		}
	}
	switch {
	case find(s.truth.entry, e.Time) >= 0:
	case find(s.truth.away, e.Time) >= 0:
		s.res.FalseAlarms++
		s.dirty[find(s.truth.periods, e.Time)] = true
		if len(s.res.FirstFalse) < examples {
			s.res.FirstFalse = append(s.res.FirstFalse, string(appendTime(nil, e.Time))+" "+e.Zone)
		}
	case find(s.truth.home, e.Time) >= 0:
		s.res.AtHome++
	default:
		s.res.Unlabelled++
	}
}

func (s *score) result() Result {
	r := s.res
	r.Config, r.Entries = s.name, len(s.truth.entries)
	var latencies []float64
	for i, at := range s.first {
		if at.IsZero() {
			if len(r.FirstMissed) < examples {
				r.FirstMissed = append(r.FirstMissed, string(appendTime(nil, s.truth.entries[i].from)))
			}
			continue
		}
		r.Detected++
		latencies = append(latencies, at.Sub(s.truth.entries[i].from).Seconds())
	}
	r.Missed = r.Entries - r.Detected
	r.AwayHours = Number(s.truth.empty.Hours())
	r.PerDay = poisson(r.FalseAlarms, s.truth.empty.Hours()/24)
	r.Precision = wilson(r.Detected, r.Detected+r.FalseAlarms)
	r.Recall = wilson(r.Detected, r.Entries)
	r.F1 = Number(math.NaN())
	if n := 2*r.Detected + r.FalseAlarms + r.Missed; n > 0 {
		r.F1 = Number(2 * float64(r.Detected) / float64(n))
	}
	r.LatencyP50, r.LatencyP95 = quantile(latencies, 0.5), quantile(latencies, 0.95)
	dirty := 0
	for _, d := range s.dirty {
		if d {
			dirty++
		}
	}
	r.DirtyShare = wilson(dirty, len(s.dirty)).Value
	return r
}
