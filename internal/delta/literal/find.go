package literal

import (
	"encoding/binary"
	"math/bits"
)

// finder finds matches in a buffer: by a table of where each few bytes were last, and in binary trees of the positions by
// what follows them. Positions are kept plus 1: 0 is none.
type finder struct {
	two   []int32 // the last position by two bytes, and so on
	three []int32
	four  []int32
	root  []int32 // of trees, by four bytes
	tree  []int32 // the two branches of each position of the window, smaller and larger
	// grown is how many positions are in the trees. Only those are that have enough bytes after them: what comes later
	// must not change their order.
	grown int
}

const (
	threeBits = 16
	fourBits  = 18
	depth     = 48  // branches that are followed
	enough    = 128 // a match as long is taken
)

// A find is a match: its length, and the shortest distance it has.
type find struct{ size, dist uint32 }

func newFinder() *finder {
	return &finder{
		two: make([]int32, 1<<16), three: make([]int32, 1<<threeBits),
		four: make([]int32, 1<<fourBits), root: make([]int32, 1<<fourBits),
	}
}

// slide forgets the first n bytes of the buffer, a multiple of Window.
func (f *finder) slide(n int32) {
	f.grown -= int(n)
	for _, t := range [][]int32{f.two, f.three, f.four, f.root, f.tree} {
		for i, v := range t {
			t[i] = max(v-n, 0)
		}
	}
}

// alike is how many bytes of a and b are alike, from from on, up to the length of b. a is as long at least.
func alike(a, b []byte, from int) int {
	a = a[:len(b)]
	n := from
	for ; n+8 <= len(b); n += 8 {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
	}
	for n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// room makes room for the positions of a buffer of so many bytes.
func (f *finder) room(size int) {
	if need := 2 * min(size+1, Window); need > len(f.tree) {
		f.tree = append(f.tree, make([]int32, min(max(need, 2*len(f.tree)), 2*Window)-len(f.tree))...)
	}
}

// grow puts all positions before at into the trees that can be.
func (f *finder) grow(buf []byte, at int) {
	for f.grown < at && f.grown+enough <= len(buf) {
		f.climb(buf, f.grown, nil, 0)
	}
}

// pass takes note of the position at, without looking for matches.
func (f *finder) pass(buf []byte, at int) {
	if len(buf)-at >= 4 {
		f.recent(buf, at, nil)
	}
	f.grow(buf, at+1)
}

// find takes note of the position at, and appends to out the matches there, each longer than the one before it.
func (f *finder) find(buf []byte, at int, out []find) []find {
	if len(buf)-at < 4 {
		return out
	}
	f.grow(buf, at)
	out = f.recent(buf, at, out)
	best := uint32(3)
	if len(out) > 0 {
		best = max(best, out[len(out)-1].size)
	}
	return f.climb(buf, at, out, int(best))
}

// recent finds what the tables know. With a nil out, it finds nothing.
func (f *finder) recent(buf []byte, at int, out []find) []find {
	b := buf[at:min(len(buf), at+longest)]
	v := binary.LittleEndian.Uint32(b)
	self := int32(at) + 1
	oldest := max(self-Window+1, 1)
	best := uint32(1)
	for i, last := range [...]*int32{
		&f.two[v&0xffff], &f.three[v<<8*0x9E3779B1>>(32-threeBits)], &f.four[v*0x9E3779B1>>(32-fourBits)],
	} {
		p := *last
		*last = self
		if p < oldest || out == nil {
			continue
		}
		if n := uint32(alike(buf[p-1:], b, 0)); n > best && n >= uint32(i)+2 {
			best = n
			out = append(out, find{n, uint32(self - p)})
		}
	}
	return out
}

// climb goes up the tree of the position at. If it is the next one and has enough bytes after it, it becomes the tree's
// root on the way. Matches longer than best are appended to out, unless best is 0.
func (f *finder) climb(buf []byte, at int, out []find, best int) []find {
	b := buf[at:min(len(buf), at+longest)]
	plant := at == f.grown && len(b) >= enough
	if best == 0 {
		b, best = b[:enough], longest
	}
	self := int32(at) + 1
	oldest := max(self-Window+1, 1)
	root := &f.root[binary.LittleEndian.Uint32(b)*0x9E3779B1>>(32-fourBits)]
	p := *root
	var none [2]int32
	left, right := &none[0], &none[1]
	if plant {
		f.grown++
		*root = self
		i := 2 * (self & (Window - 1))
		left, right = &f.tree[i], &f.tree[i+1]
	}
	end := min(len(b), enough)
	nl, nr := 0, 0
	for tries := depth; p >= oldest && tries > 0; tries-- {
		n := alike(buf[p-1:], b, min(nl, nr))
		if n > best {
			best = n
			out = append(out, find{uint32(n), uint32(self - p)})
		}
		i := 2 * (p & (Window - 1))
		branch := f.tree[i : i+2 : i+2]
		if n >= end {
			if plant {
				*left, *right = branch[0], branch[1]
			}
			return out
		}
		if buf[int(p)-1+n] < b[n] {
			if plant {
				*left = p
				left = &branch[1]
			}
			p = branch[1]
			nl = n
		} else {
			if plant {
				*right = p
				right = &branch[0]
			}
			p = branch[0]
			nr = n
		}
	}
	if plant {
		*left, *right = 0, 0
	}
	return out
}
