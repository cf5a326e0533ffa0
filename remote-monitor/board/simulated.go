package board

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Loop is the wiring of one simulated detector: a resistor from the supply to the terminal, and to ground a loop
// whose resistance tells three states. Each is given as the share of the supply that stands at the terminal.
type Loop struct {
	Idle   float64 // nothing moves
	Active float64 // the detector's relay is open
	Open   float64 // the lid is off or the wire is cut
}

// The physical model of the simulated board. The supply wanders around FullScale (Ornstein-Uhlenbeck) under a mains
// ripple, and feeds all loops alike, as a cheap power supply does. Readings have the noise and the steps of an
// MCP3424 at 12 bit behind an ADC Pi's divider.
const (
	supplyDeviation = 0.005            // of the supply, one standard deviation
	supplyMemory    = 30 * time.Second // after which the supply has wandered elsewhere
	rippleVolts     = 0.010
	rippleHertz     = 100
	noiseVolts      = 0.0025 // one standard deviation
	stepVolts       = 0.002471
	topVolts        = 2047 * stepVolts
)

// People and vandals of the simulation. A person passes through a detector's view in a few pulses; the first one
// comes within seconds, so that a new installation shows something.
const (
	visitEvery  = 40 * time.Second // mean
	firstVisit  = 5 * time.Second  // at most
	tamperEvery = 15 * time.Minute // mean
)

// Simulated is a board of PIR detectors in a house where people walk about. The same seed and the same times of
// Scan give the same readings; when people walk does not depend on when Scan looks.
type Simulated struct {
	start  time.Time
	last   time.Time
	inputs []int
	loops  map[int]*simulatedLoop
	supply float64 // share above or below FullScale
	noise  *rand.Rand
}

type simulatedLoop struct {
	Loop
	motion timeline
	tamper timeline
}

// NewSimulated makes a board with loops by input number. Its time begins at start.
func NewSimulated(seed uint64, start time.Time, loops map[int]Loop) *Simulated {
	s := &Simulated{start: start, last: start, loops: map[int]*simulatedLoop{}, noise: rand.New(rand.NewPCG(seed, 0))}
	s.inputs = slices.Sorted(maps.Keys(loops))
	for n, l := range loops {
		s.loops[n] = &simulatedLoop{
			Loop:   l,
			motion: timeline{rand: rand.New(rand.NewPCG(seed, uint64(n)<<1)), next: visit},
			tamper: timeline{rand: rand.New(rand.NewPCG(seed, uint64(n)<<1|1)), next: meddling},
		}
	}
	return s
}

// Name implements Board.
func (s *Simulated) Name() string {
	return fmt.Sprintf("simulated board with %d inputs", len(s.inputs))
}

// Scan implements Board. It takes no time.
func (s *Simulated) Scan(ctx context.Context) ([]Reading, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := time.Now()
	at := now.Sub(s.start)
	volts := s.volts(now, at)
	readings := make([]Reading, 0, len(s.inputs))
	for _, n := range s.inputs {
		v := volts*s.loops[n].share(at) + noiseVolts*s.noise.NormFloat64()
		v = math.Round(v/stepVolts) * stepVolts
		readings = append(readings, Reading{Input: n, Time: now, Volts: min(max(v, 0), topVolts)})
	}
	return readings, nil
}

// Close implements Board.
func (s *Simulated) Close() error { return nil }

// volts is the supply at this moment.
func (s *Simulated) volts(now time.Time, at time.Duration) float64 {
	kept := math.Exp(-float64(max(0, now.Sub(s.last))) / float64(supplyMemory))
	s.last = now
	s.supply = s.supply*kept + supplyDeviation*math.Sqrt(1-kept*kept)*s.noise.NormFloat64()
	return FullScale*(1+s.supply) + rippleVolts*math.Sin(2*math.Pi*rippleHertz*at.Seconds())
}

func (l *simulatedLoop) share(at time.Duration) float64 {
	switch {
	case l.tamper.covers(at):
		return l.Open
	case l.motion.covers(at):
		return l.Active
	default:
		return l.Idle
	}
}

// span is a stretch of time, from the start of the simulation.
type span struct{ from, to time.Duration }

// timeline is what happens to one loop, made up as time goes on.
type timeline struct {
	rand  *rand.Rand
	next  func(r *rand.Rand, after time.Duration) []span
	ahead []span // in order, without overlap
	end   time.Duration
}

// covers reports whether at is in one of the spans. at may not go back.
func (t *timeline) covers(at time.Duration) bool {
	for {
		for len(t.ahead) > 0 && t.ahead[0].to <= at {
			t.ahead = t.ahead[1:]
		}
		if len(t.ahead) > 0 {
			return t.ahead[0].from <= at
		}
		t.ahead = t.next(t.rand, t.end)
		t.end = t.ahead[len(t.ahead)-1].to
	}
}

// visit is a person who passes by after some time: one to four pulses of two to four seconds.
func visit(r *rand.Rand, after time.Duration) []span {
	at := after + exponential(r, visitEvery)
	if after == 0 {
		at = uniform(r, time.Second, firstVisit)
	}
	var pulses []span
	for range 1 + r.IntN(4) {
		p := span{at, at + uniform(r, 2*time.Second, 4*time.Second)}
		pulses = append(pulses, p)
		at = p.to + uniform(r, time.Second, 5*time.Second)
	}
	return pulses
}

// meddling is a lid that is taken off for a while.
func meddling(r *rand.Rand, after time.Duration) []span {
	at := after + exponential(r, tamperEvery)
	return []span{{at, at + uniform(r, 3*time.Second, 15*time.Second)}}
}

func exponential(r *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(r.ExpFloat64() * float64(mean))
}

func uniform(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Float64()*float64(high-low))
}
