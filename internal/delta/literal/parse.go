package literal

import "github.com/dunlin/dunlin/internal/delta/entropy"

const (
	block   = 4096    // bytes that are looked at together
	nowhere = 1 << 30 // the price of a place that no way leads to
)

// A node is the cheapest way that was found to a place of the block.
type node struct {
	price uint32
	from  int32 // the node where it comes from, by these steps:
	first step  // if its size is not 0; lit is true then
	lit   bool  // a literal
	step  step
	state uint32 // there, once the node is looked at
	last  [4]uint32
}

// parser finds cheap steps: it tries all that the finder knows, and takes those that together take the fewest bits as the
// probabilities are.
type parser struct {
	find   *finder
	buf    []byte // the window at least, and the piece
	passed int    // how much of buf the finder has

	// Of the piece.
	fast  *fast
	kind  uint32
	words int // where in buf they begin

	nodes [block + 2*longest + 2]node
	reach int // the last node there is
	finds []find
	ahead bool // finds are those of the place where the next block begins
	steps []step

	stale  int // after so many bytes, prices must be looked at again
	fresh  lengthPrices
	repeat lengthPrices
	slot   [4][64]uint32
	near   [4][128]uint32
	align  [16]uint32
}

func newParser() *parser {
	return &parser{find: newFinder(), finds: make([]find, 0, depth+4)}
}

// feed tells the parser of bytes that came otherwise.
func (p *parser) feed(b []byte) {
	for len(b) > 0 {
		p.slide()
		n := min(len(b), Piece)
		p.buf = append(p.buf, b[:n]...)
		b = b[n:]
	}
}

// slide makes room in the buffer.
func (p *parser) slide() {
	if len(p.buf) <= 2*Window {
		return
	}
	p.learn()
	p.buf = p.buf[:copy(p.buf, p.buf[Window:])]
	p.passed -= Window
	p.find.slide(Window)
}

// learn makes the finder know all there is.
func (p *parser) learn() {
	p.find.room(len(p.buf))
	for ; p.passed < len(p.buf); p.passed++ {
		p.find.pass(p.buf, p.passed)
	}
}

// write writes a piece.
func (p *parser) write(c *entropy.Coder, f *fast, piece []byte, kind, phase uint32) {
	p.slide()
	p.learn()
	at := len(p.buf)
	p.buf = append(p.buf, piece...)
	p.passed = len(p.buf)
	p.find.room(len(p.buf))
	p.fast, p.kind, p.words = f, kind, at+int(phase)
	p.ahead = false
	for at < len(p.buf) {
		if p.stale <= 0 {
			p.refresh()
		}
		p.steps = p.steps[:0]
		p.parse(at)
		for i := len(p.steps) - 1; i >= 0; i-- {
			f.write(c, p.buf, at, p.words, kind, p.steps[i])
			at += int(p.steps[i].size)
			p.stale -= int(p.steps[i].size)
		}
	}
}

// place is where in a word pos is.
func (p *parser) place(pos int) uint32 { return uint32(pos-p.words) & places(p.kind) }

// extend makes nodes up to to.
func (p *parser) extend(to int) {
	for p.reach < to {
		p.reach++
		p.nodes[p.reach].price = nowhere
	}
}

// offer offers a way to a node.
func (p *parser) offer(to int, price uint32, from int, s step) {
	if t := &p.nodes[to]; price < t.price {
		t.price, t.from, t.first.size, t.lit, t.step = price, int32(from), 0, false, s
	}
}

// parse appends steps that begin at at to p.steps, in reverse order.
func (p *parser) parse(at int) {
	p.nodes[0] = node{state: p.fast.state, last: p.fast.last}
	p.reach = 0
	cur := 0
	for ; ; cur++ { // to each node leads a way, by a literal from the one before
		n := &p.nodes[cur]
		if cur > 0 {
			p.arrive(n)
			if cur == p.reach || cur >= block {
				break
			}
		}
		pos := at + cur
		if !p.ahead {
			p.finds = p.find.find(p.buf, pos, p.finds[:0])
		}
		p.ahead = false
		if s := p.long(n, pos); s.size > 0 {
			if cur > 0 {
				// What led here is settled; the long one is the next block's.
				p.ahead = true
				break
			}
			for i := 1; i < int(s.size); i++ {
				p.find.pass(p.buf, pos+i)
			}
			p.steps = append(p.steps, s)
			return
		}
		p.look(at, cur)
	}
	for cur > 0 {
		n := &p.nodes[cur]
		p.steps = append(p.steps, n.step)
		if n.lit {
			p.steps = append(p.steps, step{size: 1})
		}
		if n.first.size > 0 {
			p.steps = append(p.steps, n.first)
		}
		cur = int(n.from)
	}
}

// arrive finds out how things are at a node.
func (p *parser) arrive(n *node) {
	from := &p.nodes[n.from]
	n.state, n.last = from.state, from.last
	if n.first.size > 0 {
		n.state, n.last = stateAfter(n.state, n.first), lastAfter(n.last, n.first)
	}
	if n.lit {
		n.state = next(n.state, stepLiteral)
	}
	n.state, n.last = stateAfter(n.state, n.step), lastAfter(n.last, n.step)
}

// long is a match that is long enough to look for nothing else, if there is one.
func (p *parser) long(n *node, pos int) (s step) {
	b := p.buf[pos:min(len(p.buf), pos+longest)]
	for i, d := range n.last {
		if int64(d) > int64(pos) {
			continue
		}
		if k := alike(p.buf[pos-int(d):], b, 0); k >= enough && uint32(k) > s.size {
			s = step{uint32(k), d, int32(i)}
		}
	}
	if k := len(p.finds) - 1; k >= 0 && p.finds[k].size >= enough && p.finds[k].size > s.size {
		s = step{p.finds[k].size, p.finds[k].dist, -1}
		for i, d := range n.last {
			if d == s.dist {
				s.index = int32(i)
			}
		}
	}
	return s
}

// look offers the ways from a node on.
func (p *parser) look(at, cur int) {
	n := &p.nodes[cur]
	pos := at + cur
	b := p.buf[pos:min(len(p.buf), pos+longest)]
	place, state := p.place(pos), n.state
	f := p.fast
	beside := back(p.buf, pos, n.last[0])
	near := int64(n.last[0]) <= int64(pos)

	p.extend(cur + 1)
	lit := n.price + p.literal(pos, state, beside)
	p.offer(cur+1, lit, cur, step{size: 1})
	matched := n.price + price(f.match[state][place], 1)
	again := matched + price(f.again[state], 1)
	if near && beside == b[0] {
		p.offer(cur+1, again+price(f.older[state][0], 0)+price(f.many[state][place], 0), cur, step{1, n.last[0], 0})
	}
	if len(b) < shortest {
		return
	}
	if near && beside != b[0] {
		p.beyond(at, cur, lit, step{dist: n.last[0]})
	}
	for i, d := range n.last {
		if int64(d) > int64(pos) {
			continue
		}
		k := alike(p.buf[pos-int(d):], b, 0)
		if k < shortest {
			continue
		}
		c := again + p.index(state, place, i)
		p.extend(cur + k)
		for s := shortest; s <= k; s++ {
			p.offer(cur+s, c+p.repeat[place][s], cur, step{uint32(s), d, int32(i)})
		}
		p.beyond(at, cur, c+p.repeat[place][k], step{uint32(k), d, int32(i)})
	}
	c := matched + price(f.again[state], 0)
	s := uint32(shortest)
	for _, m := range p.finds {
		p.extend(cur + int(m.size))
		for ; s <= m.size; s++ {
			p.offer(cur+int(s), c+p.fresh[place][s]+p.distance(s, m.dist), cur, step{s, m.dist, -1})
		}
		p.beyond(at, cur, c+p.fresh[place][m.size]+p.distance(m.size, m.dist), step{m.size, m.dist, -1})
	}
}

// beyond offers a way from a node by a match, a literal, and the same distance again, where the two steps cost price if
// the match is of no bytes, and the match alone otherwise.
func (p *parser) beyond(at, cur int, cost uint32, m step) {
	pos := at + cur + int(m.size) // of the literal
	b := p.buf[pos:min(len(p.buf), pos+1+longest)]
	if len(b) < 1+shortest {
		return
	}
	o := p.buf[pos-int(m.dist):]
	if o[1] != b[1] || o[2] != b[2] {
		return
	}
	size := alike(o, b, 3) - 1
	state := p.nodes[cur].state
	if m.size > 0 {
		state = stateAfter(state, m)
		cost += p.literal(pos, state, o[0])
	}
	state = next(state, stepLiteral)
	place := p.place(pos + 1)
	f := p.fast
	cost += price(f.match[state][place], 1) + price(f.again[state], 1) + p.index(state, place, 0) + p.repeat[place][size]
	to := cur + int(m.size) + 1 + size
	p.extend(to)
	if t := &p.nodes[to]; cost < t.price {
		t.price, t.from, t.first, t.lit, t.step = cost, int32(cur), m, true, step{uint32(size), m.dist, 0}
	}
}
