package match

import (
	"cmp"
	"encoding/binary"
	"slices"
)

const (
	nearWidth = 4       // bytes that are looked up
	nearMin   = 4       // bytes of a copy worth trying
	nearReach = 1 << 10 // how far from where it should be
	nearTries = 16      // places of the same bytes
	nearBits  = 12      // of a table's index
	pieceMax  = 8 << 10 // bytes of new that are looked up together
	// pieceFar is how far from where it is known what old has a piece can be, in bytes of new.
	pieceFar = 32 << 10
	// nearWork is how many bytes may be looked at in all, here and before, for each byte of new.
	nearWork = 2 * workMost

	badLeast = 320 // what a part must cost for looking there
	badGap   = 32  // bytes that cost nothing, between parts

	seedsMany = 1 << 12 // that are collected before they are used
)

// near looks for short copies where, after what lies around it, a part of new should be in old.
type near struct {
	p     *parser
	seeds []seed
	heads [1 << nearBits]int32 // by hash, the first place of the part of old, +1
	next  []int32              // by place, the next
}

func nearHash(b []byte) uint32 {
	return binary.LittleEndian.Uint32(b) * 0x9e3779b1 >> (32 - nearBits)
}

// part looks for what new has from a to b. Before it new has old's bytes at one shift, after it at another.
func (x *near) part(a, b int, before, after int64) {
	for from := a; from < b; {
		to := min(b, from+pieceMax)
		if x.p.work > nearWork*(to+workFree) {
			return
		}
		lo, hi := x.window(from, to, before)
		if from-a < pieceFar {
			x.look(from, to, lo, hi, before)
		}
		if l, h := x.window(from, to, after); b-to < pieceFar && (from-a >= pieceFar || l < lo-nearReach/2 || h > hi+nearReach/2) {
			x.look(from, to, l, h, after)
		}
		from = to
	}
}

// window is where in old a piece of new should be.
func (x *near) window(from, to int, shift int64) (lo, hi int64) {
	return max(int64(from)+shift-nearReach, 0), min(int64(to)+shift+nearReach, int64(len(x.p.old)))
}

// look looks for what new has between two places in old from lo to hi, best at a shift.
func (x *near) look(from, to int, lo, hi, shift int64) {
	if hi-lo < nearWidth {
		return
	}
	p := x.p
	clear(x.heads[:])
	old := p.old[lo:hi]
	x.next = slices.Grow(x.next[:0], len(old))[:len(old)]
	for o := len(old) - nearWidth; o >= 0; o-- {
		h := nearHash(old[o:])
		x.next[o] = x.heads[h]
		x.heads[h] = int32(o + 1)
	}
	p.work += len(old)
	const recent = 4
	var last [recent]seed // the last seeds: no use in finding them again a byte later
	for q := max(from-nearWidth+1, 0); q < to && q+nearWidth <= len(p.new); q++ {
		best := seed{pos: q}
		for k, tries := x.heads[nearHash(p.new[q:])], 0; k != 0 && tries < nearTries; k, tries = x.next[k-1], tries+1 {
			s := lo + int64(k-1) - int64(q)
			if end := int64(max(best.known, q+nearMin) - 1); end+s >= int64(len(p.old)) || p.old[end+s] != p.new[end] {
				continue // it is shorter than the best
			}
			n := q + p.equal(q, s, 256)
			if n >= q+nearMin && (n > best.known || n == best.known && distance(s, shift) < distance(best.shift, shift)) {
				best.shift, best.known, best.keep = s, n, n
			}
		}
		if best.known == 0 || slices.ContainsFunc(last[:], func(s seed) bool { return s.shift == best.shift && s.known >= q }) {
			continue
		}
		copy(last[1:], last[:])
		last[0] = best
		x.seeds = append(x.seeds, best)
	}
}

// needed reports whether another copy than the best is worth pursuing at a place still.
func (p *parser) needed(to int) bool {
	for i := range p.lanes {
		if i != p.best && p.lanes[i].keep > to {
			return true
		}
	}
	return false
}

func distance(a, b int64) int64 { return max(a-b, b-a) }

// bad is a part of new that costs something.
type bad struct {
	from, to      int
	before, after int64 // the shifts around it
	cost          int64
}

// refine finds the way again, with short copies near those that a parser has found.
func refine(p *parser, copies []Copy) *parser {
	x := near{p: p}
	q := newParser(p.old, p.new, p.lits)
	q.enter(seed{})
	var part bad
	flush := func() {
		if part.to > part.from && part.cost >= badLeast {
			x.part(part.from, part.to, part.before, part.after)
		}
	}
	shift := int64(0)
	note := func(from, to int, cost int64) {
		if from-part.to > badGap {
			if flush(); len(x.seeds) > seedsMany {
				x.seeds = q.follow(x.seeds, from-nearWidth)
			}
			part = bad{from: from, before: shift, after: shift}
		}
		part.to = max(part.to, to)
		part.cost += cost
	}
	end := 0
	gap := func(to int) {
		if to > end {
			cost := int64(gapCost)
			for i := end; i < to; i++ {
				cost += p.lits.of(i)
			}
			note(end, to, cost)
		}
	}
	for _, c := range copies {
		gap(int(c.New))
		if s := c.Old - c.New; s != shift {
			note(int(c.New), int(c.New), copyCost)
			shift = s
			part.after = s
		}
		end = int(c.New + c.Len)
		x.seeds = append(x.seeds, seed{pos: int(c.New), shift: shift, keep: end, sure: true})
		for i := int(c.New); ; i++ {
			if i += p.equal(i, shift, end-i); i >= end {
				break
			}
			note(i, i+1, missCost)
		}
	}
	gap(len(p.new))
	flush()
	q.follow(x.seeds, len(p.new))
	q.work += p.work
	return q
}

// follow finds the way up to a place, before which all seeds are known, and returns those that come later.
func (p *parser) follow(seeds []seed, to int) []seed {
	slices.SortStableFunc(seeds, func(a, b seed) int { return cmp.Compare(a.pos, b.pos) })
	rest := seeds
	for p.pos < to {
		for len(rest) > 0 && rest[0].pos <= p.pos {
			// What the best copy is equal to anyway needs no other.
			if s := rest[0]; s.sure || p.ahead(s.known-p.pos) < s.known && p.work < nearWork*(p.pos+workFree) {
				p.enter(s)
			}
			rest = rest[1:]
		}
		// Alone, and equal for a while, or equal for long: nothing can be better until another one comes.
		least := runLeast
		if len(p.lanes) > 2 {
			least = runSure
		}
		end := min(p.ahead(least), to)
		if len(rest) > 0 {
			end = min(end, rest[0].pos)
		}
		if end > p.pos+least && !p.needed(end) {
			p.run(end)
			continue
		}
		p.step()
	}
	return append(seeds[:0], rest...)
}
