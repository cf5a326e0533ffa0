package fleet

import "time"

// grace is what a device may be late beyond one and a half poll intervals before it counts as offline (protocol §2.2).
const grace = 15 * time.Second

// Online reports whether a device that was last heard of at seen, and means to call every poll milliseconds, counts
// as online.
func Online(seen time.Time, poll int64, now time.Time) bool {
	return !seen.IsZero() && now.Sub(seen) <= time.Duration(poll)*time.Millisecond*3/2+grace
}
