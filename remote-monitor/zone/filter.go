package zone

import (
	"math"
	"slices"
)

// filtered is stage 2. It has a value only when it has seen enough.
func (z *track) filtered(v float64) (float64, bool) {
	n := 3
	switch z.Filter {
	case NoFilter:
		return v, true
	case Hampel:
		n = 5
	}
	copy(z.window[:], z.window[1:n])
	z.window[n-1] = v
	if z.samples < n {
		z.samples++
		if z.samples < n {
			return 0, false
		}
	}
	if n == 3 {
		a, b, c := z.window[0], z.window[1], z.window[2]
		return max(min(a, b), min(max(a, b), c)), true
	}
	sorted := z.window
	slices.Sort(sorted[:])
	median, middle := sorted[2], z.window[2]
	var deviations [5]float64
	for i, w := range z.window {
		deviations[i] = math.Abs(w - median)
	}
	slices.Sort(deviations[:])
	if math.Abs(middle-median) > 3*robust*deviations[2] {
		return median, true
	}
	return middle, true
}

// robust makes a median absolute deviation a standard deviation.
const robust = 1.4826
