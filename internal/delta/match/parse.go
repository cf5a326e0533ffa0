package match

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

const (
	lanesMax = 8             // copies that are pursued at a time
	histMax  = 1 << 14       // bytes before the present place in which a copy can turn out to have begun
	staleMax = 16            // how badly a copy may go before it is given up
	backMost = 16 * byteCost // how much worse a copy may become, followed backwards, before it is better
	backIdle = 512           // for how many bytes it may become no better
	backSure = 64            // and if where it begins was found before
	runLeast = 32            // bytes worth going through at once
	runSure  = 64            // and if that gives up other copies, near which others were found before
)

// lane is a copy that is being pursued, or the bytes that are in none.
type lane struct {
	shift   int64 // from a place in new to the place in old; noShift: in no copy
	cost    int64 // of the best way to make all of new up to here that ends in this lane
	start   int   // where in new that way enters the lane
	before  int32 // the node from which it does
	own     int32 // the lane's node, or -1: there is none yet
	begin   int64 // what it costs to begin the lane after the way of node beginAt
	beginAt int32
	known   int     // up to where in new it is known to be equal
	keep    int     // up to where it is not to be given up
	stale   int32   // how badly it went lately
	missed  bool    // the last byte differed
	diff    [2]byte // by how much the last bytes differed that did
}

const noShift = -1 << 62

// node is a step of a way: a lane entered at a place.
type node struct {
	shift  int64
	start  int
	before int32 // -1: the beginning
	lines  lines
}

// past is the best way to a place.
type past struct {
	cost int64
	node int32
}

// parser finds the cheapest way to make new of pieces of old and bytes of its own, among the copies it is told of. It goes
// through new once, and knows at every place the best way for each lane.
type parser struct {
	old, new []byte
	lits     *literals
	pos      int
	lanes    []lane // the first is that of bytes in no copy
	best     int    // the cheapest lane
	nodes    []node
	hist     []past // of the places from histBase on
	histBase int
	work     int // bytes that were looked at
}

func newParser(old, new []byte, lits *literals) *parser {
	p := &parser{old: old, new: new, lits: lits}
	p.lanes = append(make([]lane, 0, lanesMax+1), lane{shift: noShift, before: -1, own: -1})
	return p
}

// node returns the node of a lane's present way.
func (p *parser) node(l *lane) int32 {
	if l.own < 0 {
		x := node{shift: l.shift, start: l.start, before: l.before}
		if l.before >= 0 {
			x.lines = p.nodes[l.before].lines
		}
		if l.shift != noShift {
			x.lines = x.lines.turn(l.shift)
		}
		p.nodes = append(p.nodes, x)
		l.own = int32(len(p.nodes) - 1)
	}
	return l.own
}

// lane is the lane of a shift, or nil.
func (p *parser) lane(shift int64) *lane {
	for i := range p.lanes {
		if p.lanes[i].shift == shift {
			return &p.lanes[i]
		}
	}
	return nil
}

// equal returns how many bytes of new from i on are those of old at a shift, at most limit.
func (p *parser) equal(i int, shift int64, limit int) int {
	j := int64(i) + shift
	if j < 0 || j >= int64(len(p.old)) {
		return 0
	}
	n := common(p.new[i:min(i+limit, len(p.new))], p.old[j:])
	p.work += n/8 + 1
	return n
}

// common is how many bytes a and b have in common at their beginning.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	k := 0
	for ; k+8 <= n; k += 8 {
		if x := binary.LittleEndian.Uint64(a[k:]) ^ binary.LittleEndian.Uint64(b[k:]); x != 0 {
			return k + bits.TrailingZeros64(x)>>3
		}
	}
	for k < n && a[k] == b[k] {
		k++
	}
	return k
}

// seed is a reason to pursue a copy.
type seed struct {
	pos   int
	shift int64
	known int  // up to where it is known to be equal
	keep  int  // up to where it is worth pursuing in any case
	sure  bool // it was found before, with where it begins
}

// enter begins to pursue a copy at the present place. It may turn out to have begun before.
func (p *parser) enter(s seed) {
	if at := int64(p.pos) + s.shift; at < 0 || at >= int64(len(p.old)) {
		return
	}
	if l := p.lane(s.shift); l != nil {
		l.stale, l.keep = 0, max(l.keep, s.keep)
		return
	}
	p.remember()
	l := p.back(s)
	if len(p.lanes) <= lanesMax {
		p.lanes = append(p.lanes, l)
		p.choose()
		return
	}
	// Whoever has least to hope for goes.
	hope := func(l *lane) int64 { return l.cost - int64(max(l.keep-p.pos, 0))*literalCost }
	worst, at := hope(&l), -1
	for i := 1; i < len(p.lanes); i++ {
		if h := hope(&p.lanes[i]); h > worst && i != p.best {
			worst, at = h, i
		}
	}
	if at >= 0 {
		p.lanes[at] = l
		p.choose()
	}
}

// back returns a new lane, entered where that is cheapest: here or before.
func (p *parser) back(s seed) lane {
	l := lane{shift: s.shift, cost: 1 << 62, start: p.pos, own: -1, beginAt: -1, known: s.known, keep: s.keep}
	var (
		cost     int64 // of the bytes from q to here
		missed   bool
		diff     [2]byte
		begin    int64 // what it costs to begin it after the way to q
		lastNode = int32(-1 << 31)
	)
	here, idle := p.hist[len(p.hist)-1].cost, backIdle
	if s.sure {
		idle = backSure
	}
	for q := p.pos; ; q-- {
		h := p.hist[q-p.histBase]
		if h.node != lastNode {
			begin, lastNode = p.nodes[h.node].lines.open(s.shift), h.node
		}
		if c := h.cost + begin + cost; c < l.cost {
			l.cost, l.start, l.before = c, q, h.node
		}
		if q == p.histBase || int64(q)+s.shift <= 0 || l.start-q > idle || cost-(here-h.cost) > backMost {
			p.work += p.pos - q
			return l
		}
		if d := p.new[q-1] - p.old[int64(q-1)+s.shift]; d == 0 {
			if cost += hitCost; missed {
				cost += backCost
			}
			missed = false
		} else {
			cost += differing(d, missed, &diff)
			missed = true
		}
	}
}

// choose finds the cheapest lane.
func (p *parser) choose() {
	p.best = 0
	for i := range p.lanes {
		if p.lanes[i].cost < p.lanes[p.best].cost {
			p.best = i
		}
	}
}

// remember notes the best way to the present place.
func (p *parser) remember() {
	switch p.histBase + len(p.hist) {
	case p.pos + 1:
		return
	case p.pos:
	default:
		p.hist = p.hist[:0]
	}
	if len(p.hist) == histMax {
		p.hist = p.hist[:copy(p.hist, p.hist[histMax/2:])]
	}
	b := &p.lanes[p.best]
	p.hist = append(p.hist, past{b.cost, p.node(b)})
	p.histBase = p.pos + 1 - len(p.hist)
}

// step takes one byte of new.
func (p *parser) step() {
	p.remember()
	here := p.hist[len(p.hist)-1]
	b, from := p.new[p.pos], &p.nodes[here.node].lines
	p.work += len(p.lanes)
	none := &p.lanes[0]
	if c := here.cost + gapCost; c < none.cost {
		none.cost, none.start, none.before, none.own = c, p.pos, here.node, -1
	}
	none.cost += p.lits.of(p.pos)
	kept := 1
	for i := 1; i < len(p.lanes); i++ {
		l := &p.lanes[i]
		j := int64(p.pos) + l.shift
		if j >= int64(len(p.old)) {
			continue
		}
		again := false
		if i != p.best {
			if l.beginAt != here.node {
				l.begin, l.beginAt = from.open(l.shift), here.node
			}
			if c := here.cost + l.begin; c < l.cost {
				l.cost, l.start, l.before, l.own, l.missed = c, p.pos, here.node, -1, false
				again = true
			}
		}
		if d := b - p.old[j]; d == 0 {
			if l.cost += hitCost; l.missed {
				l.cost += backCost
			}
			l.missed = false
			l.stale = max(l.stale-1, 0)
		} else {
			l.cost += differing(d, l.missed, &l.diff)
			l.missed = true
			if l.stale++; again && l.stale > staleMax && p.pos >= l.keep {
				continue
			}
		}
		if kept != i {
			p.lanes[kept] = *l
		}
		kept++
	}
	p.lanes = p.lanes[:kept]
	p.pos++
	p.choose()
}

// run takes the bytes of new up to a place, which the best lane is known to be equal to, and gives up the other lanes.
func (p *parser) run(to int) {
	b := p.lanes[p.best]
	if b.cost += int64(to-p.pos) * hitCost; b.missed {
		b.cost += backCost
	}
	b.missed, b.stale = false, 0
	none := lane{shift: noShift, cost: b.cost + gapCost, start: to, before: p.node(&b), own: -1}
	p.lanes = append(p.lanes[:0], none, b)
	p.best = 1
	p.pos = to
	p.hist = p.hist[:0]
}

// ahead returns up to where the best lane is known to be equal, having looked at least so many bytes ahead.
func (p *parser) ahead(least int) int {
	b := &p.lanes[p.best]
	if b.shift == noShift {
		return p.pos
	}
	if b.known < p.pos+least {
		b.known = p.pos + p.equal(p.pos, b.shift, len(p.new))
	}
	return b.known
}

// copies are those of the best way.
func (p *parser) copies() []Copy {
	var all []Copy
	end := p.pos
	for n := p.node(&p.lanes[p.best]); n >= 0; n = p.nodes[n].before {
		x := p.nodes[n]
		if x.shift != noShift && end > x.start {
			all = append(all, Copy{int64(x.start), int64(x.start) + x.shift, int64(end - x.start)})
		}
		end = x.start
	}
	slices.Reverse(all)
	return all
}
