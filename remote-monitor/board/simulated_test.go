package board_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/board"
)

var loop = board.Loop{Idle: 0.29, Active: 0.51, Open: 0.78}

// watch scans a simulated board for some time and returns the percentages of its one input.
func watch(t *testing.T, seed uint64, every, long time.Duration) (got []float64) {
	synctest.Test(t, func(t *testing.T) {
		b := board.NewSimulated(seed, time.Now(), map[int]board.Loop{1: loop})
		for start := time.Now(); time.Since(start) < long; time.Sleep(every) {
			r, err := b.Scan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(r) != 1 || r[0].Input != 1 || r[0].Unknown != "" || !r[0].Time.Equal(time.Now()) {
				t.Fatalf("got %+v", r)
			}
			got = append(got, r[0].Volts/board.FullScale*100)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return got
}

// levels are the values rounded to the state of the loop they stand for.
func levels(t *testing.T, values []float64) []string {
	var s []string
	for _, v := range values {
		switch {
		case math.Abs(v-29) < 3:
			s = append(s, "idle")
		case math.Abs(v-51) < 3:
			s = append(s, "active")
		case math.Abs(v-78) < 3:
			s = append(s, "open")
		default:
			t.Fatalf("%.1f %% is no state of the loop", v)
		}
	}
	return s
}

func TestTheSameSeedRepeatsItself(t *testing.T) {
	a := watch(t, 7, 50*time.Millisecond, time.Minute)
	if d := cmp.Diff(a, watch(t, 7, 50*time.Millisecond, time.Minute)); d != "" {
		t.Error(d)
	}
	if cmp.Equal(a, watch(t, 8, 50*time.Millisecond, time.Minute)) {
		t.Error("another seed gives the same readings")
	}
}

func TestPeopleWalkWhenTheyWalkHoweverOftenSomebodyLooks(t *testing.T) {
	fine := levels(t, watch(t, 3, time.Second, time.Hour))
	coarse := levels(t, watch(t, 3, 4*time.Second, time.Hour))
	for i, l := range coarse {
		if l != fine[4*i] {
			t.Fatalf("after %d s: %s when scanned every 4 s, %s every second", 4*i, l, fine[4*i])
		}
	}
}

func TestAnHourHasSomeMotionSeldomATamperAndMostlyQuiet(t *testing.T) {
	for seed := range uint64(5) {
		values := watch(t, seed, time.Second, 4*time.Hour)
		count, first := map[string]float64{}, -1
		for i, l := range levels(t, values) {
			count[l]++
			if l == "active" && first < 0 {
				first = i
			}
		}
		n := float64(len(values))
		if q := count["idle"] / n; q < 0.5 || q > 0.98 {
			t.Errorf("seed %d: quiet for %.0f %% of the time", seed, 100*q)
		}
		if o := count["open"] / n; o == 0 || o > 0.05 {
			t.Errorf("seed %d: tampered with for %.1f %% of the time", seed, 100*o)
		}
		if first < 0 || first > 6 {
			t.Errorf("seed %d: the first motion comes after %d s", seed, first)
		}
	}
}

func TestReadingsHaveTheNoiseAndTheStepsOfAConverter(t *testing.T) {
	different := map[float64]bool{}
	for _, v := range watch(t, 1, 50*time.Millisecond, time.Minute) {
		different[v] = true
		if steps := v / 100 * board.FullScale / 0.002471; math.Abs(steps-math.Round(steps)) > 1e-6 {
			t.Fatalf("%v %% is not a whole number of steps", v)
		}
	}
	if len(different) < 10 {
		t.Errorf("only %d different readings in a minute", len(different))
	}
}

func TestAScanEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := board.NewSimulated(1, time.Now(), nil).Scan(ctx); err == nil {
		t.Error("it went on")
	}
}
