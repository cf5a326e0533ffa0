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

var hall = board.Pin{Chip: "house", Number: 1}

var loop = board.Loop{Idle: 0.29, Active: 0.51, Open: 0.78}

// watch scans a simulated board for some time and returns the percentages of its one input.
func watch(t *testing.T, seed uint64, every, long time.Duration) (got []float64) {
	synctest.Test(t, func(t *testing.T) {
		b := board.NewSimulated("house", seed, time.Now(), map[board.Pin]board.Loop{hall: loop})
		for start := time.Now(); time.Since(start) < long; time.Sleep(every) {
			r, err := b.Scan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(r) != 1 || r[0].Pin != hall || r[0].Quality != board.Good || r[0].Unknown != "" || !r[0].Time.Equal(time.Now()) {
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
	if _, err := board.NewSimulated("house", 1, time.Now(), nil).Scan(ctx); err == nil {
		t.Error("it went on")
	}
}

func TestASimulatedBoardIsOpenedByItsName(t *testing.T) {
	pins := []board.Pin{{Chip: "house", Number: 16}, {Chip: "house", Number: 2}}
	b, err := board.Open(t.Context(), board.Config{
		Chips: []board.Chip{{Name: "house", Kind: board.Simulation}}, Inputs: pins,
		Outputs: []board.Pin{{Chip: "house", Number: 17}, {Chip: "house", Number: 32}}, Seed: 1,
		Loops: map[board.Pin]board.Loop{pins[0]: {Idle: 0.9, Active: 0.9, Open: 0.9}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(r) != 2 || r[0].Pin != pins[0] || math.Abs(r[0].Volts-4.5) > 0.2 || r[1].Pin != pins[1] || math.Abs(r[1].Volts-1.45) > 0.2 {
		t.Errorf("got %+v", r)
	}
	bank, first := board.Find(b.Banks(), board.Pin{Chip: "house", Number: 17})
	_, last := board.Find(b.Banks(), board.Pin{Chip: "house", Number: 32})
	if first != 1 || last != 1<<15 {
		t.Fatalf("pins 17 and 32 are bits %#x and %#x", first, last)
	}
	if other, bit := board.Find(b.Banks(), pins[0]); other != nil || bit != 0 {
		t.Error("an input has a bank")
	}
	start := func(outputs, levels uint16) board.Lines {
		t.Helper()
		found, err := bank.Start(t.Context(), outputs, levels)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := start(0x8001, 0); found != (board.Lines{}) {
		t.Errorf("found %+v on a new board", found)
	}
	if err := bank.Write(t.Context(), 0xFFFF); err != nil {
		t.Fatal(err)
	}
	want := board.Lines{Outputs: 0x8001, Latch: 0x8001, Pins: 0x8001}
	if got, err := bank.Read(t.Context()); err != nil || got != want {
		t.Errorf("read back %+v, %v; want %+v", got, err, want)
	}
	if found := start(1, 0); found != want {
		t.Errorf("found %+v, want %+v", found, want)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
