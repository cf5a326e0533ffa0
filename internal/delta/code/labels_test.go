package code

import (
	"testing"

	"pgregory.net/rapid"
)

func TestLabelsAreFoundWhereTheyWerePut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Int64Range(0, 50).Draw(t, "from")
		to := from + rapid.Int64Range(1, 600).Draw(t, "size")
		m := newLabels(from, to)
		is := map[int64]bool{}
		for _, n := range rapid.SliceOfN(rapid.Int64Range(0, 149), 0, 6).Draw(t, "labels") {
			at := from + 4*n
			m.put(at, 1+uint64(n)%3)
			is[at] = at < to
		}
		off := from + rapid.Int64Range(-20, 620).Draw(t, "off")
		limit := from + rapid.Int64Range(0, 620).Draw(t, "limit")
		next := min(limit, to)
		for at := next - 1; at >= off; at-- {
			if is[at] {
				next = at
			}
		}
		if got := m.next(off, limit); got != next {
			t.Fatalf("the next from %d, no further than %d, is at %d and not %d", off, limit, got, next)
		}
	})
}
