package board

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
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
	topSteps        = 2047
)

// People and vandals of the simulation. A person passes through a detector's view in a few pulses; the first one
// comes within seconds, so that a new installation shows something.
const (
	visitEvery  = 40 * time.Second // mean
	firstVisit  = 5 * time.Second  // at most
	tamperEvery = 15 * time.Minute // mean
)

// The terminals of a simulated board: inputs from 1, outputs after them.
const (
	simulatedInputs  = 16
	simulatedOutputs = 16
)

// usualLoop is that of the resistors 4k7, 2k2 and 4k7, for inputs nobody described.
var usualLoop = Loop{Idle: 0.29, Active: 0.51, Open: 0.78}

// Simulated is a board of PIR detectors in a house where people walk about, with outputs that nothing hangs on. The
// same seed and the same times of Scan give the same readings; when people walk does not depend on when Scan looks.
type Simulated struct {
	start  time.Time
	last   time.Time
	inputs []simulatedInput
	supply float64 // share above or below FullScale
	noise  *rand.Rand
	bank   memory
}

type simulatedInput struct {
	Loop
	pin     Pin
	reading int
	motion  timeline
	tamper  timeline
}

// NewSimulated makes a board of one chip with loops by input. Its time begins at start.
func NewSimulated(chip string, seed uint64, start time.Time, loops map[Pin]Loop) *Simulated {
	s := &Simulated{start: start, last: start, noise: rand.New(rand.NewPCG(seed, 0)), bank: memory{chip: chip}}
	pins := slices.SortedFunc(maps.Keys(loops), func(a, b Pin) int { return cmp.Compare(a.Number, b.Number) })
	for i, p := range pins {
		s.inputs = append(s.inputs, simulatedInput{
			Loop: loops[p], pin: p, reading: i,
			motion: timeline{rand: rand.New(rand.NewPCG(seed, uint64(p.Number)<<1)), next: visit},
			tamper: timeline{rand: rand.New(rand.NewPCG(seed, uint64(p.Number)<<1|1)), next: meddling},
		})
	}
	return s
}

// Name implements Board.
func (s *Simulated) Name() string {
	return fmt.Sprintf("simulated board with %d inputs", len(s.inputs))
}

// Scan implements Board; readings come by number. It takes no time.
func (s *Simulated) Scan(ctx context.Context) ([]Reading, error) {
	readings := make([]Reading, len(s.inputs))
	for _, in := range s.inputs {
		readings[in.reading].Pin = in.pin
	}
	return readings, s.scan(ctx, readings)
}

// Banks implements Board.
func (s *Simulated) Banks() []Bank { return []Bank{&s.bank} }

// Close implements Board.
func (s *Simulated) Close() error { return nil }

// scan implements lane.
func (s *Simulated) scan(ctx context.Context, readings []Reading) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now()
	at := now.Sub(s.start)
	volts := s.volts(now, at)
	for i := range s.inputs {
		in := &s.inputs[i]
		steps := math.Round((volts*in.share(at) + noiseVolts*s.noise.NormFloat64()) / stepVolts)
		steps = min(max(steps, 0), topSteps)
		r := &readings[in.reading]
		r.Time, r.Code, r.Volts = now, int(steps), steps*stepVolts
	}
	return nil
}

func (s *Simulated) close() error { return nil }

// memory is a Bank that is nothing but memory.
type memory struct {
	chip string
	mu   sync.Mutex
	now  Lines
}

func (m *memory) Chip() string       { return m.chip }
func (m *memory) PowersUpHigh() bool { return false }
func (m *memory) First() int         { return simulatedInputs + 1 }

func (m *memory) Start(_ context.Context, outputs, levels uint16) (found Lines, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found = m.now
	m.now = Lines{Outputs: outputs, Latch: levels & outputs, Pins: levels & outputs}
	return found, nil
}

func (m *memory) Write(_ context.Context, levels uint16) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Latch = levels & m.now.Outputs
	m.now.Pins = m.now.Latch
	return nil
}

func (m *memory) Read(context.Context) (Lines, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now, nil
}

// volts is the supply at this moment.
func (s *Simulated) volts(now time.Time, at time.Duration) float64 {
	kept := math.Exp(-float64(max(0, now.Sub(s.last))) / float64(supplyMemory))
	s.last = now
	s.supply = s.supply*kept + supplyDeviation*math.Sqrt(1-kept*kept)*s.noise.NormFloat64()
	return FullScale*(1+s.supply) + rippleVolts*math.Sin(2*math.Pi*rippleHertz*at.Seconds())
}

func (l *simulatedInput) share(at time.Duration) float64 {
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
