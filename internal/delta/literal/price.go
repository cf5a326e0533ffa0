package literal

import (
	"math/bits"

	"github.com/dunlin/dunlin/internal/delta/entropy"
)

// prices is what a bit costs of a probability in 1/4096, in 1/128 of a bit.
var prices = func() (out [4096]uint32) {
	for i := range out {
		// The logarithm's digits, by squaring.
		x := uint64(2*i+1) << 18 // of 2^31
		n := uint32(0)
		lead := bits.Len64(x) - 1
		x <<= 31 - lead
		whole := uint32(31 - lead)
		for range 7 {
			x = x * x >> 31
			n <<= 1
			if x >= 1<<32 {
				x >>= 1
				n |= 1
			}
		}
		out[i] = whole<<7 - n
	}
	return out
}()

// price is that of a bit.
func price(q entropy.Quick, bit uint32) uint32 {
	p := q.P() >> 4
	if bit == 0 {
		p = 4095 - p
	}
	return prices[p&4095]
}

// treePrice is what Coder.QuickTree takes for a number, backPrice what QuickBack and besidePrice what QuickBeside.
func treePrice(q []entropy.Quick, width int, v uint32) uint32 {
	sum := uint32(0)
	node := uint32(1)
	for i := width - 1; i >= 0; i-- {
		bit := v >> i & 1
		sum += price(q[node], bit)
		node = node<<1 | bit
	}
	return sum
}

func backPrice(q []entropy.Quick, width int, v uint32) uint32 {
	sum := uint32(0)
	node := uint32(1)
	for range width {
		bit := v & 1
		v >>= 1
		sum += price(q[node], bit)
		node = node<<1 | bit
	}
	return sum
}

func besidePrice(q *[768]entropy.Quick, beside, v byte) uint32 {
	sum := uint32(0)
	node, off, b := uint32(1), uint32(256), uint32(beside)
	for i := 7; i >= 0; i-- {
		b <<= 1
		bit := uint32(v >> i & 1)
		sum += price(q[off+b&off+node], bit)
		node = node<<1 | bit
		if bit != 0 {
			off &= b
		} else {
			off &^= b
		}
	}
	return sum
}

// lengthPrices are those of each length, by where in a word a match begins.
type lengthPrices [4][longest + 1]uint32

func (p *lengthPrices) refresh(l *length) {
	for place := range p {
		for n := uint32(0); n < 8; n++ {
			p[place][shortest+n] = price(l.more[0], 0) + treePrice(l.low[place][:], 3, n)
			p[place][shortest+8+n] = price(l.more[0], 1) + price(l.more[1], 0) + treePrice(l.mid[place][:], 3, n)
		}
		if place > 0 {
			copy(p[place][shortest+16:], p[0][shortest+16:])
			continue
		}
		for n := uint32(0); n < 256; n++ {
			p[place][shortest+16+n] = price(l.more[0], 1) + price(l.more[1], 1) + treePrice(l.high[:], 8, n)
		}
	}
}

// refresh makes prices of probabilities.
func (p *parser) refresh() {
	f := p.fast
	p.stale = 512
	p.fresh.refresh(&f.fresh)
	p.repeat.refresh(&f.repeat)
	for s := range p.slot {
		for i := range p.slot[s] {
			p.slot[s][i] = treePrice(f.slot[s][:], 6, uint32(i))
			if i >= 14 {
				p.slot[s][i] += uint32(i>>1-5) << 7
			}
		}
		for d := range uint32(128) {
			k := slotOf(d + 1)
			p.near[s][d] = p.slot[s][k]
			if k >= 4 {
				p.near[s][d] += backPrice(f.near[k][:], int(k>>1-1), d)
			}
		}
	}
	for i := range p.align {
		p.align[i] = backPrice(f.align[:], 4, uint32(i))
	}
}

// distance is the price of a distance.
func (p *parser) distance(size, dist uint32) uint32 {
	k := min(size-shortest, 3)
	if dist <= 128 {
		return p.near[k][dist-1]
	}
	return p.slot[k][slotOf(dist)] + p.align[(dist-1)&15]
}

// index is the price of one of the last distances, after that of taking one of them.
func (p *parser) index(state, place uint32, i int) uint32 {
	o := &p.fast.older[state]
	switch i {
	case 0:
		return price(o[0], 0) + price(p.fast.many[state][place], 1)
	case 1:
		return price(o[0], 1) + price(o[1], 0)
	case 2:
		return price(o[0], 1) + price(o[1], 1) + price(o[2], 0)
	}
	return price(o[0], 1) + price(o[1], 1) + price(o[2], 1)
}

// literal is the price of the byte at pos.
func (p *parser) literal(pos int, state uint32, beside byte) uint32 {
	q := p.fast.lits(p.kind, uint32(pos-p.words), back(p.buf, pos, 1))
	sum := price(p.fast.match[state][p.place(pos)], 0)
	if state&3 != stepLiteral {
		return sum + besidePrice(q, beside, p.buf[pos])
	}
	return sum + treePrice(q[:256], 8, uint32(p.buf[pos]))
}
