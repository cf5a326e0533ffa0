package code

import (
	"cmp"
	"slices"

	"github.com/dunlin/dunlin/internal/delta/match"
)

// Marks are places that the layout knows exactly: a section's first address, the one after its last, and where it begins
// in the file. They are for the headers.
const (
	markAddr place = maxPlace + iota<<16
	markEnd
	markOffset
)

// moves know where each place of the old program is in the new one.
type moves struct {
	f     *frame
	l     *Layout
	spans []span   // by key, not overlapping
	first []uint32 // for each block of keys the first span that ends behind the block's beginning
	bits  int      // of the keys in a block
}

// span is a piece of the old program that moves as one. It lies in one piece of memory in both programs.
type span struct {
	from, to uint32 // keys
	shift    int64  // from the old place to the new one
}

const (
	blockBits  = 12      // of a block's keys, at least
	maxBlocks  = 1 << 16 // which are larger in larger programs
	maxSpans   = 1 << 17
	maxAnchors = 1 << 14
)

// newMoves works out the moves that copies imply, and the layout says. Where several copies have the same bytes, the
// longest is believed.
func newMoves(f *frame, l *Layout, copies []match.Copy) *moves {
	m := &moves{f: f, l: l}
	copies = copies[:min(len(copies), maxSpans)]
	byOld := make([]uint32, len(copies))
	for i := range byOld {
		byOld[i] = uint32(i)
	}
	slices.SortFunc(byOld, func(a, b uint32) int {
		x, y := copies[a], copies[b]
		return cmp.Or(cmp.Compare(x.Old, y.Old), cmp.Compare(y.Len, x.Len), cmp.Compare(a, b))
	})
	m.spans = make([]span, 0, len(copies)+2*len(l.anchors)+maxSections)
	anchors := l.anchors
	var last match.Copy // not yet among the spans
	for _, i := range byOld {
		c := copies[i]
		if c.Len <= 0 || c.Old < 0 || c.Len > f.size || c.Old > f.size-c.Len {
			continue
		}
		if cut := last.Old - c.Old; cut > 0 { // what it has before the last, one before that has too
			if c.Old, c.New, c.Len = c.Old+cut, c.New+cut, c.Len-cut; c.Len <= 0 {
				continue
			}
		}
		if over := last.Old + last.Len - c.Old; over > 0 {
			if c.Len > last.Len {
				last.Len -= over
			} else if over >= c.Len {
				continue
			} else {
				c.Old, c.New, c.Len = c.Old+over, c.New+over, c.Len-over
			}
		}
		anchors = m.copied(last, anchors)
		last = c
	}
	anchors = m.copied(last, anchors)
	// What is in memory alone moves with its section.
	for _, i := range f.memory {
		s := &f.sections[i]
		if from, ok := f.key(s.addr); ok && from >= f.size {
			to := min(from+int64(s.size), f.extent)
			anchors = m.add(span{uint32(from), uint32(to), int64(l.areas[i].addr - s.addr)}, anchors)
		}
	}
	m.spans = append(m.spans, anchors...)
	for m.bits = blockBits; f.extent>>m.bits >= maxBlocks; m.bits++ {
	}
	m.first = make([]uint32, f.extent>>m.bits+1)
	n := 0
	for i := range m.first {
		for n < len(m.spans) && int64(m.spans[n].to) <= int64(i)<<m.bits {
			n++
		}
		m.first[i] = uint32(n)
	}
	return m
}

// copied adds the spans of a copy: one, or more where it goes on from one piece of memory into another.
func (m *moves) copied(c match.Copy, anchors []span) []span {
	for c.Len > 0 {
		old, n := m.f.run(c.Old)
		now, k := m.l.run(c.New)
		if n = min(n, k, c.Len); n <= 0 {
			n = c.Len // a layout that cannot be
		}
		if (old >= unloaded) == (now >= unloaded) { // else it is what a section is padded with
			anchors = m.add(span{uint32(c.Old), uint32(c.Old + n), int64(now - old)}, anchors)
		}
		c.Old, c.New, c.Len = c.Old+n, c.New+n, c.Len-n
	}
	return anchors
}

// add adds a span, or what the anchors leave of it, behind the ones there are; it returns the anchors that come later.
func (m *moves) add(s span, anchors []span) []span {
	for len(anchors) > 0 && anchors[0].from < s.to && len(m.spans) < 2*maxSpans {
		a := anchors[0]
		if s.from < a.from {
			m.spans = append(m.spans, span{s.from, a.from, s.shift})
		}
		s.from = max(s.from, a.to)
		if a.to > s.to {
			return anchors // it may have some of the next span too
		}
		m.spans = append(m.spans, a)
		anchors = anchors[1:]
	}
	if s.from < s.to && len(m.spans) < 2*maxSpans {
		m.spans = append(m.spans, s)
	}
	return anchors
}

// now is where a place is in the new program.
func (m *moves) now(p place) place {
	if p == 0 || p == unloaded {
		return p
	}
	if key, ok := m.f.key(p); ok {
		return p + uint64(m.shift(key))
	}
	switch {
	case p >= unloaded:
		return p
	case p >= linePlaces:
		return m.l.lines.now(p)
	case p >= maxPlace:
		return m.l.mark(p)
	}
	i := m.f.within(p)
	if i < 0 {
		return p
	}
	s, a := &m.f.sections[i], m.l.areas[i]
	if p-s.addr >= s.size { // what is behind a section goes with its end
		return p + a.addr + a.size - s.addr - s.size
	}
	return p + a.addr - s.addr
}

// shift is how far what has a key has moved: as the span there, or else the one nearest to it.
func (m *moves) shift(key int64) int64 {
	n := int(key >> m.bits)
	i, end := int(m.first[n]), len(m.spans)
	if n+1 < len(m.first) {
		end = min(int(m.first[n+1])+1, end)
	}
	for end-i > 8 { // most blocks have few
		if half := (i + end) / 2; int64(m.spans[half].to) <= key {
			i = half + 1
		} else {
			end = half + 1
		}
	}
	for i < len(m.spans) && int64(m.spans[i].to) <= key {
		i++
	}
	switch {
	case len(m.spans) == 0:
		return 0
	case i == len(m.spans):
		i--
	case i > 0 && int64(m.spans[i].from)-key > key-int64(m.spans[i-1].to):
		i--
	}
	return m.spans[i].shift
}
