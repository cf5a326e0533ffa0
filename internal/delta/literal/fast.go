package literal

import (
	"math/bits"

	"github.com/dunlin/dunlin/internal/delta/entropy"
)

// The kinds of steps, of which the state keeps the last two.
const (
	stepLiteral = iota
	stepMatch   // of a new distance
	stepAgain   // of one of the last four
	stepByte    // one byte, of the last distance
	states      = 16
)

const (
	shortest = 2 // match
	longest  = shortest + 8 + 8 + 256 - 1
	farBits  = 23 // of a distance
)

// length is a model of a match's length.
type length struct {
	more [2]entropy.Quick // than 8; than 16
	low  [4][8]entropy.Quick
	mid  [4][8]entropy.Quick
	high [256]entropy.Quick
}

func (l *length) code(c *entropy.Coder, place, n uint32) uint32 {
	n -= shortest
	if c.Quick(&l.more[0], least(n, 8)) == 0 {
		return shortest + c.QuickTree(l.low[place][:], 3, n)
	}
	if c.Quick(&l.more[1], least(n, 16)) == 0 {
		return shortest + 8 + c.QuickTree(l.mid[place][:], 3, n-8)
	}
	return shortest + 16 + c.QuickTree(l.high[:], 8, n-16)
}

// least is 1 if n is at least than.
func least(n, than uint32) int {
	if n >= than {
		return 1
	}
	return 0
}

// fast codes bytes as steps: single ones, and matches of what is in the window.
type fast struct {
	state uint32
	last  [4]uint32 // distances

	literal [16 + 8 + 32][768]entropy.Quick
	match   [states][4]entropy.Quick // that a step is one, by where in a word it begins
	again   [states]entropy.Quick
	older   [states][3]entropy.Quick // than the last distance, and so on
	many    [states][4]entropy.Quick // bytes of the last distance, not one
	fresh   length
	repeat  length
	slot    [4][64]entropy.Quick  // of a distance, by the length
	near    [14][32]entropy.Quick // the lower bits of the distances of a slot
	align   [16]entropy.Quick     // the lowest four bits of longer ones
}

func newFast() *fast { return &fast{last: [4]uint32{1, 1, 1, 1}} }

// places is the highest of the places in a word where a step begins; 0 if that means nothing.
func places(kind uint32) uint32 {
	if kind == text || kind == x86 {
		return 0
	}
	return 3
}

// lits are the probabilities of a literal, i bytes from where words begin.
func (f *fast) lits(kind, i uint32, before byte) *[768]entropy.Quick {
	switch kind {
	case text:
		return &f.literal[before>>4]
	case other, x86:
		return &f.literal[16+before>>5]
	}
	return &f.literal[24+(i&3)<<3+uint32(before>>5)]
}

func next(state, step uint32) uint32 { return (state<<2 | step) & 15 }

// slotOf is the slot of a distance from 1 on: how many bits it has, and the second of them.
func slotOf(dist uint32) uint32 {
	d := dist - 1
	if d < 4 {
		return d
	}
	n := uint32(bits.Len32(d))
	return (n-1)<<1 | d>>(n-2)&1
}

func (f *fast) distance(c *entropy.Coder, size, dist uint32) uint32 {
	d := dist - 1
	s := c.QuickTree(f.slot[min(size-shortest, 3)][:], 6, slotOf(dist))
	if s < 4 {
		return s + 1
	}
	n := min(int(s>>1-1), farBits-1)
	base := (2 | s&1) << n
	if s < 14 {
		return base + c.QuickBack(f.near[s][:], n, d) + 1
	}
	base += uint32(c.Raw(n-4, uint64(d&(1<<n-1)>>4))) << 4
	return base + c.QuickBack(f.align[:], 4, d) + 1
}

// instead makes the distance of what an old file has instead, n bytes ago, the last one.
func (f *fast) instead(n uint32) {
	if n > 0 {
		f.last = [4]uint32{n, f.last[0], f.last[1], f.last[2]}
		f.state = next(f.state, stepAgain)
	}
}

// read fills the window from pos on with n bytes. Distances may be any number: the window is a ring, and what is not there
// yet is 0.
func (f *fast) read(c *entropy.Coder, win []byte, pos uint32, n int, kind, phase uint32) {
	win = win[:Window]
	mask := places(kind)
	for i := uint32(0); i < uint32(n); {
		place := (i - phase) & mask
		before := win[(pos+i-1)&(Window-1)]
		if c.Quick(&f.match[f.state][place], 0) == 0 {
			q := f.lits(kind, i-phase, before)
			var b byte
			if f.state&3 != stepLiteral {
				b = c.QuickBeside(q, win[(pos+i-f.last[0])&(Window-1)], 0)
			} else {
				b = byte(c.QuickTree(q[:256], 8, 0))
			}
			win[(pos+i)&(Window-1)] = b
			f.state = next(f.state, stepLiteral)
			i++
			continue
		}
		var size uint32
		if c.Quick(&f.again[f.state], 0) == 0 {
			size = f.fresh.code(c, place, 0)
			d := f.distance(c, size, 1)
			f.last = [4]uint32{d, f.last[0], f.last[1], f.last[2]}
			f.state = next(f.state, stepMatch)
		} else {
			o := &f.older[f.state]
			if c.Quick(&o[0], 0) == 0 {
				if c.Quick(&f.many[f.state][place], 0) == 0 {
					win[(pos+i)&(Window-1)] = win[(pos+i-f.last[0])&(Window-1)]
					f.state = next(f.state, stepByte)
					i++
					continue
				}
			} else if c.Quick(&o[1], 0) == 0 {
				f.last = [4]uint32{f.last[1], f.last[0], f.last[2], f.last[3]}
			} else if c.Quick(&o[2], 0) == 0 {
				f.last = [4]uint32{f.last[2], f.last[0], f.last[1], f.last[3]}
			} else {
				f.last = [4]uint32{f.last[3], f.last[0], f.last[1], f.last[2]}
			}
			size = f.repeat.code(c, place, 0)
			f.state = next(f.state, stepAgain)
		}
		size = min(size, uint32(n)-i)
		to := (pos + i) & (Window - 1)
		from := (to - f.last[0]) & (Window - 1)
		i += size
		if from+size <= Window && to+size <= Window && (from+size <= to || to < from) {
			copy(win[to:to+size], win[from:from+size])
			continue
		}
		for ; size > 0; size-- {
			win[to&(Window-1)] = win[from&(Window-1)]
			to++
			from++
		}
	}
}

// A step is size bytes from a distance; 0 is a literal, and index what of the last distances it is, or -1.
type step struct {
	size, dist uint32
	index      int32
}

// write writes a step, which makes the bytes at buf[at:]. Words begin at start.
func (f *fast) write(c *entropy.Coder, buf []byte, at, start int, kind uint32, s step) {
	i := uint32(at - start)
	place := i & places(kind)
	if s.dist == 0 {
		c.Quick(&f.match[f.state][place], 0)
		q := f.lits(kind, i, back(buf, at, 1))
		if f.state&3 != stepLiteral {
			c.QuickBeside(q, back(buf, at, f.last[0]), buf[at])
		} else {
			c.QuickTree(q[:256], 8, uint32(buf[at]))
		}
	} else {
		c.Quick(&f.match[f.state][place], 1)
		if s.index < 0 {
			c.Quick(&f.again[f.state], 0)
			f.fresh.code(c, place, s.size)
			f.distance(c, s.size, s.dist)
		} else {
			c.Quick(&f.again[f.state], 1)
			for k := range min(s.index+1, 3) {
				c.Quick(&f.older[f.state][k], least(uint32(s.index), uint32(k)+1))
			}
			many := least(s.size, 2)
			if s.index > 0 || c.Quick(&f.many[f.state][place], many) == 1 {
				f.repeat.code(c, place, s.size)
			}
		}
	}
	f.state, f.last = stateAfter(f.state, s), lastAfter(f.last, s)
}

// back is the byte so far before at, 0 if there is none.
func back(buf []byte, at int, dist uint32) byte {
	if int64(dist) > int64(at) {
		return 0
	}
	return buf[at-int(dist)]
}

// lastAfter is the last distances after a step.
func lastAfter(l [4]uint32, s step) [4]uint32 {
	switch {
	case s.dist == 0 || s.index == 0:
		return l
	case s.index == 1:
		return [4]uint32{l[1], l[0], l[2], l[3]}
	case s.index == 2:
		return [4]uint32{l[2], l[0], l[1], l[3]}
	case s.index == 3:
		return [4]uint32{l[3], l[0], l[1], l[2]}
	}
	return [4]uint32{s.dist, l[0], l[1], l[2]}
}

// stateAfter is the state after a step.
func stateAfter(state uint32, s step) uint32 {
	switch {
	case s.dist == 0:
		return next(state, stepLiteral)
	case s.index < 0:
		return next(state, stepMatch)
	case s.size == 1:
		return next(state, stepByte)
	}
	return next(state, stepAgain)
}
