package code

import (
	"cmp"
	"math"
	"slices"

	"github.com/dunlin/dunlin/internal/delta/entropy"
)

// Layout is what a reader must be told of the new file before its copies: where its parts are in memory, and which
// tables and code are worth predicting.
type Layout struct {
	areas   []area   // of the old program's sections, in their order
	on      []uint32 // of its parts: a bit for each kind of fields that is predicted
	anchors []span   // what moves otherwise than the copies say, by key
	lines   hunks    // how lines of source code have moved
	order   []int    // the areas that are in the file, by offset
}

// area is where a section is in the new program.
type area struct {
	addr place
	off  int64
	size uint64
	gone bool
}

// newLayout pairs the sections of two programs by name.
func newLayout(old, new *frame) *Layout {
	l := &Layout{areas: make([]area, len(old.sections))}
	taken := make([]bool, len(new.sections))
	for i, s := range old.sections {
		a := area{addr: s.addr, off: s.from, size: s.size, gone: true}
		for j, n := range new.sections {
			if !taken[j] && n.name == s.name && n.kind == s.kind {
				taken[j] = true
				a = area{addr: n.addr, off: n.from, size: n.size}
				break
			}
		}
		l.areas[i] = a
	}
	l.arrange(old)
	return l
}

// arrange orders the areas, for finding what is at an offset.
func (l *Layout) arrange(old *frame) {
	for i, s := range old.sections {
		if !l.areas[i].gone && s.addr != 0 && s.to > s.from {
			l.order = append(l.order, i)
		}
	}
	slices.SortStableFunc(l.order, func(a, b int) int { return cmp.Compare(l.areas[a].off, l.areas[b].off) })
}

// run returns what is at an offset of the new file, and how many bytes from there on follow it in memory.
func (l *Layout) run(off int64) (place, int64) {
	n, found := slices.BinarySearchFunc(l.order, off, func(i int, off int64) int { return cmp.Compare(l.areas[i].off, off) })
	if found {
		n++
	}
	left := int64(math.MaxInt64)
	if n < len(l.order) {
		left = l.areas[l.order[n]].off - off
	}
	if len(l.order) == 0 {
		return unloaded + uint64(off), left
	}
	a := &l.areas[l.order[max(n-1, 0)]] // the headers, before the first one, go with it
	// The file is padded up to the next section, but not up to what is never loaded.
	if n == len(l.order) {
		if left = a.off + int64(a.size) - off; left <= 0 {
			return unloaded + uint64(off), math.MaxInt64
		}
	}
	return a.addr + uint64(off-a.off), left
}

// mark is where a mark is.
func (l *Layout) mark(p place) place {
	i := int(p & (1<<16 - 1))
	if i >= len(l.areas) {
		return p
	}
	switch a := &l.areas[i]; p &^ (1<<16 - 1) {
	case markAddr:
		return a.addr
	case markEnd:
		return a.addr + a.size
	default:
		return unloaded + uint64(a.off)
	}
}

// Code writes or reads the layout; writing, l is what Lay returned, and not nil.
func (p *Program) Code(c *entropy.Coder, l *Layout) *Layout {
	var m struct {
		gone           entropy.Prob
		on             entropy.Prob
		but            entropy.Number
		addr, off, end entropy.Number
	}
	if l == nil || c.Reading() {
		l = &Layout{areas: make([]area, len(p.frame.sections)), on: make([]uint32, len(p.parts))}
		defer l.arrange(p.frame)
	}
	var old, now end
	for i := range l.areas {
		s, a := &p.frame.sections[i], &l.areas[i]
		if a.gone = c.Bool(&m.gone, a.gone); a.gone {
			a.addr, a.off, a.size = s.addr, s.from, s.size
			continue
		}
		if s.addr != 0 {
			guess := follow(s.addr, old.addr, now.addr, s.align)
			a.addr = guess + uint64(c.Signed(&m.addr, int64(a.addr-guess)))
			guess = uint64(s.from) + a.addr - s.addr + now.gap
			a.off = int64(guess) + c.Signed(&m.off, a.off-int64(guess))
			now.gap = uint64(a.off-s.from) - (a.addr - s.addr)
		} else {
			guess := int64(follow(uint64(s.from), old.off, now.off, s.align))
			a.off = guess + c.Signed(&m.off, a.off-guess)
		}
		a.size = s.size + uint64(c.Signed(&m.end, int64(a.size-s.size)))
		old.addr, old.off = s.addr+s.size, uint64(s.from)+s.size
		now.addr, now.off = a.addr+a.size, uint64(a.off)+a.size
		if s.from == s.to { // in memory alone
			old.off, now.off = uint64(s.from), uint64(a.off)
		}
	}
	for i := range l.on {
		if c.Bool(&m.on, l.on[i] != 0) {
			l.on[i] = ^uint32(c.Number(&m.but, uint64(^l.on[i])))
		}
	}
	l.anchors = p.anchors(c, l.anchors)
	l.lines = l.lines.code(c, p.mostHunks())
	return l
}

// anchors writes or reads the anchors of a layout.
func (p *Program) anchors(c *entropy.Coder, anchors []span) []span {
	var m struct{ count, gap, size, shift entropy.Number }
	n := int(min(c.Number(&m.count, uint64(len(anchors))), uint64(p.mostAnchors())))
	if c.Reading() {
		anchors = nil
	}
	var last span
	for i := range n {
		var a span
		if !c.Reading() {
			a = anchors[i]
		}
		from := uint64(last.to) + min(c.Number(&m.gap, uint64(a.from-last.to)), 1<<32)
		to := from + 1 + min(c.Number(&m.size, uint64(a.to-a.from-1)), 1<<32)
		shift := last.shift + c.Signed(&m.shift, a.shift-last.shift)
		if to > uint64(p.extent) {
			break
		}
		last = span{uint32(from), uint32(to), shift}
		if c.Reading() {
			anchors = append(anchors, last)
		}
	}
	return anchors
}

// mostAnchors and mostHunks are how many a layout has at most.

func (p *Program) mostAnchors() int { return int(min(p.extent/sparse, maxAnchors)) }

func (p *Program) mostHunks() int {
	n := int64(0)
	for _, t := range p.parts {
		if _, ok := t.table.(lineTables); ok {
			n += t.to - t.from
		}
	}
	return int(min(n/sparse, maxHunks))
}

// end is where the last section ended.
type end struct{ addr, off, gap uint64 }

// follow guesses where something begins in the new program that began at `at` in the old one, where the one before it
// ended at old and now ends at now: aligned as it was.
func follow(at, old, now, align uint64) uint64 {
	up := func(n, a uint64) uint64 { return (n + a - 1) &^ (a - 1) }
	if align > 0 && align&(align-1) == 0 && align <= 1<<20 && up(old, align) == at {
		return up(now, align)
	}
	for a := uint64(1 << 16); a > 0; a >>= 1 {
		if up(old, a) == at {
			return up(now, a)
		}
	}
	return at - old + now
}
