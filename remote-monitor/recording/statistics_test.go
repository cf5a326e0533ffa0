package recording

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// Figures of the specification's table, and of Garwood's.
func TestIntervalsAreThoseOfTheTables(t *testing.T) {
	for _, c := range []struct {
		name string
		got  Interval
		want [3]float64
	}{
		{"0 in a day", poisson(0, 1), [3]float64{0, 0, 3.688879}},
		{"1 in two days", poisson(1, 2), [3]float64{0.5, 0.0253178 / 2, 5.571643 / 2}},
		{"10 in a day", poisson(10, 1), [3]float64{10, 4.795389, 18.39036}},
		{"100 in a day", poisson(100, 1), [3]float64{100, 81.36399, 121.6272}},
		// By the normal approximation, which is good to a part in ten thousand here.
		{"100,000 in a day", poisson(100_000, 1), [3]float64{100_000, 99381.15, 100621.74}},
		{"18 of 23", wilson(18, 23), [3]float64{18.0 / 23, 0.5810, 0.9034}},
		{"74 of 74", wilson(74, 74), [3]float64{1, 0.9506, 1}},
		{"0 of 5", wilson(0, 5), [3]float64{0, 0, 0.4345}},
	} {
		for i, v := range []Number{c.got.Value, c.got.Low, c.got.High} {
			if math.Abs(float64(v)-c.want[i]) > 1e-4*max(1, c.want[i]) {
				t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
			}
		}
	}
	if !math.IsNaN(float64(wilson(0, 0).Low)) || !math.IsNaN(float64(poisson(1, 0).High)) {
		t.Error("of nothing there is an interval")
	}
}

func TestPoissonIsTheSumOfItsTerms(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		k, mean := rapid.IntRange(0, 60).Draw(r, "k"), rapid.Float64Range(0.001, 150).Draw(r, "mean")
		sum, term := 0.0, math.Exp(-mean)
		for i := 0; i <= k; i++ {
			sum += term
			term *= mean / float64(i+1)
		}
		if got := poissonAtMost(k, mean); math.Abs(got-sum) > 1e-9 {
			r.Fatalf("got %v, want %v", got, sum)
		}
	})
}

func TestQuantilesLieBetweenTheNearestValues(t *testing.T) {
	v := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 0.95: 3.85, 1: 4} {
		if got := quantile(v, q); math.Abs(float64(got)-want) > 1e-9 {
			t.Errorf("%v: %v, want %v", q, got, want)
		}
	}
	if v[0] != 4 {
		t.Error("the values were sorted in place")
	}
}
