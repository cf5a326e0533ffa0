package delta

import (
	"math/bits"

	"github.com/dunlin/dunlin/internal/delta/match"
)

// lines are the distances between the two places of a copy, which come again: after a detour, a copy goes on where the
// one before the detour ended.
type lines [8]int64

// bend is how much a distance may be off a line's, in bits, for the line to be the better way to say it.
const bend = 20

// near is the line by which a distance is said.
func (l *lines) near(distance int64) int {
	best, least := 0, bend
	for i, d := range l {
		if d -= distance; d < 0 {
			d = -d
		}
		if n := 2*bits.Len64(uint64(d)) + bits.Len(uint(i)); n < 2*least {
			best, least = i, (n+1)/2
		}
	}
	return best
}

// put puts a distance first. The line it was said by makes room, unless it is far from it.
func (l *lines) put(distance int64, by int) {
	if d := distance - l[by]; d < -lineBreak || d > lineBreak {
		by = len(l) - 1
	}
	copy(l[1:by+1], l[:by])
	l[0] = distance
}

const lineBreak = 4096

// copyList codes the copies of a file.
func (x *codec) copyList(copies []match.Copy, f *contents) []match.Copy {
	m := &x.copies
	n := x.c.Number(&m.count, uint64(len(copies)))
	if n > copiesLimit || n > uint64(f.size) {
		x.fail(ErrFormat)
		return nil
	}
	if x.c.Reading() {
		copies = make([]match.Copy, n)
	}
	var (
		at   int64 // where the last one ended
		l    lines
		was  = 0 // the line of the last one, up to 3
		turn = 0 // how far it was off its line, in steps of four bits
	)
	for i := range int(n) {
		c := &copies[i]
		gap := int64(x.c.Number(&m.gap[turn], uint64(c.New-at)))
		by := x.c.Tree(m.line[was][:], 3, uint32(l.near(c.Old-c.New)))
		off := x.c.Signed(&m.off[by][min(bits.Len64(uint64(gap)), 3)], c.Old-c.New-l[by])
		turn = min(bits.Len64(uint64(max(off, -off)))/4, len(m.gap)-1)
		size := int64(x.c.Number(&m.len[turn], uint64(c.Len)))
		if gap < 0 || gap > f.size-at || size < 1 || size > f.size-at-gap || off < -sizeLimit || off > sizeLimit {
			x.fail(ErrFormat)
			return nil
		}
		c.New, c.Len = at+gap, size
		c.Old = c.New + l[by] + off
		if c.Old < 0 || size > f.old.size-c.Old || x.failed() != nil {
			x.fail(ErrFormat)
			return nil
		}
		l.put(c.Old-c.New, int(by))
		was, at = min(int(by), 3), c.New+c.Len
	}
	return copies
}

// firstOf are the copies of the first of several old files, and where among them each copy is, -1 for those it is not of; nil
// if there is one file.
func firstOf(copies []match.Copy, ends []int64) (first []match.Copy, number []int32) {
	end := ends[0]
	if len(ends) == 1 {
		return copies, nil
	}
	for _, c := range copies {
		if c.Old+c.Len > end {
			number = append(number, -1)
			continue
		}
		number = append(number, int32(len(first)))
		first = append(first, c)
	}
	return first, number
}
