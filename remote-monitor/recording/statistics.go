package recording

import (
	"encoding/json"
	"math"
	"slices"
)

// Number is a figure of a report; NaN, where there is nothing to measure, is null in JSON.
type Number float64

// MarshalJSON writes null for what is not a finite number, and at most six decimals.
func (n Number) MarshalJSON() ([]byte, error) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(math.Round(f*1e6) / 1e6)
}

// Interval is a figure with its 95 % interval of confidence.
type Interval struct {
	Value Number `json:"value"`
	Low   Number `json:"low"`
	High  Number `json:"high"`
}

// z is the normal deviate of a two-sided 95 % interval.
const z = 1.959963984540054

// wilson is k of n with Wilson's score interval, which holds for small n and near 0 and 1 too.
func wilson(k, n int) Interval {
	if n == 0 {
		nan := Number(math.NaN())
		return Interval{nan, nan, nan}
	}
	m, p := float64(n), float64(k)/float64(n)
	mid := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return Interval{Number(p), Number(max(0, mid-half)), Number(min(1, mid+half))}
}

// poisson is k events over an exposure as a rate, with the exact interval (Garwood 1936).
func poisson(k int, exposure float64) Interval {
	if exposure <= 0 {
		nan := Number(math.NaN())
		return Interval{nan, nan, nan}
	}
	low := 0.0
	if k > 0 {
		// The mean that makes k or more as rare as 2.5 %.
		low = solve(func(mean float64) float64 { return 1 - poissonAtMost(k-1, mean) }, 0.025, k)
	}
	high := solve(func(mean float64) float64 { return 1 - poissonAtMost(k, mean) }, 0.975, k)
	return Interval{Number(float64(k) / exposure), Number(low / exposure), Number(high / exposure)}
}

// solve is where f, which rises with the mean from 0 to 1, has the value p.
func solve(f func(float64) float64, p float64, k int) float64 {
	low, high := 0.0, float64(k)+10*math.Sqrt(float64(k)+1)+10
	for range 200 {
		mid := (low + high) / 2
		if f(mid) < p {
			low = mid
		} else {
			high = mid
		}
	}
	return (low + high) / 2
}

// poissonAtMost is the probability of k or fewer events where mean are expected: one less the regularised lower
// incomplete gamma function P(k+1, mean), by its series, whose terms are all positive. The mean is
// no more than some tens of standard deviations from k.
func poissonAtMost(k int, mean float64) float64 {
	if mean <= 0 {
		return 1
	}
	a := float64(k) + 1
	gamma, _ := math.Lgamma(a)
	// The first factor is taken in, so that no term overflows.
	term := math.Exp(a*math.Log(mean) - mean - gamma - math.Log(a))
	sum := term
	for n := a + 1; term > sum*1e-16; n++ {
		term *= mean / n
		sum += term
	}
	return max(0, 1-sum)
}

// quantile is a quantile of values, interpolated between the two nearest; NaN of none.
func quantile(values []float64, q float64) Number {
	if len(values) == 0 {
		return Number(math.NaN())
	}
	s := slices.Sorted(slices.Values(values))
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 >= len(s) {
		return Number(s[len(s)-1])
	}
	return Number(s[i] + (at-float64(i))*(s[i+1]-s[i]))
}
