package zone

import (
	"math"
	"slices"
	"time"
)

// analog is stage 4b: the signal of a pyroelectric sensor against its own baseline and noise, percent of the supply.
type analog struct {
	baseline float64
	noise    float64
	polarity int // 1 above the baseline, -1 below, 0 at rest
	began    time.Time
	last     time.Time

	deviations [noiseSamples]float64 // a ring
	kept       int                   // in deviations
	next       int
	lastKept   time.Time
}

const (
	noiseEvery   = 500 * time.Millisecond
	noiseSamples = 120 // a minute of them
	slew         = 0.5 // most points a second that the baseline may follow
	// One step of a 12-bit ADC Pi, percent of the supply; a bit more halves it.
	step12 = 100 * 0.002471 / 5
)

// step takes a sample and says whether something moves. While it does, baseline and noise stay as they are.
func (a *analog) step(s *Settings, v float64, now time.Time, active, warming bool) bool {
	floor := 4 * step12 * math.Pow(2, float64(12-s.Bits))
	if a.began.IsZero() {
		a.baseline, a.noise, a.began, a.last = v, floor, now, now
		return false
	}
	passed := now.Sub(a.last)
	a.last = now
	away := v - a.baseline

	threshold := s.Enter * a.noise
	if active {
		threshold = s.Leave * a.noise
	}
	moving := !warming && math.Abs(away) > threshold
	if moving {
		switch {
		case away > s.Enter*a.noise:
			a.polarity = 1
		case -away > s.Enter*a.noise:
			a.polarity = -1
		}
		return true
	}
	a.polarity = 0

	memory := s.Baseline
	if warming {
		// The sensor settles: follow it faster at first.
		memory = min(memory, max(now.Sub(a.began)/4, 200*time.Millisecond))
	}
	follow := away
	if memory > 0 {
		follow *= 1 - math.Exp(-passed.Seconds()/memory.Seconds())
	}
	if most := slew * passed.Seconds(); !warming {
		follow = max(-most, min(most, follow))
	}
	a.baseline += follow

	if now.Sub(a.lastKept) >= noiseEvery {
		a.lastKept = now
		a.deviations[a.next] = away
		a.next = (a.next + 1) % noiseSamples
		a.kept = min(a.kept+1, noiseSamples)
		a.noise = max(floor, robust*a.spread())
	}
	return false
}

// spread is the median absolute deviation from the median: where the baseline lags behind a drift makes no noise.
func (a *analog) spread() float64 {
	sorted := a.deviations
	kept := sorted[:a.kept]
	slices.Sort(kept)
	median := kept[len(kept)/2]
	for i, d := range kept {
		kept[i] = math.Abs(d - median)
	}
	slices.Sort(kept)
	return kept[len(kept)/2]
}

// amplitude is how many thresholds the signal is away from the baseline.
func (a *analog) amplitude(s *Settings, v float64) float64 {
	return math.Abs(v-a.baseline) / (s.Enter * a.noise)
}

// relearn forgets baseline and noise.
func (a *analog) relearn() { *a = analog{} }
