package member

import (
	"encoding/binary"
	"io"
)

// Deflate as zlib and gzip do it, to the byte: the greedy and the lazy search, the order in which candidates are looked
// at, and where blocks end. What goes into a stream depends on its content and on a dialect alone.

const (
	minMatch     = 3
	maxMatch     = 258
	minLookahead = maxMatch + minMatch + 1
	window       = 32 << 10
	maxDistance  = window - minLookahead
	tooFar       = 4096 // a match of three bytes from farther off is worth less than three literals
)

// dialect is who compressed, and how hard.
type dialect struct {
	GZIP   bool // the program of that name, which has its own ways; else zlib
	Level  int  // 1 to 9
	Memory int  // zlib's memLevel: 8 or 9
}

// effort is what a level means.
type effort struct{ good, lazy, nice, chain int }

var efforts = [10]effort{
	1: {4, 4, 8, 4}, 2: {4, 5, 16, 8}, 3: {4, 6, 32, 32},
	4: {4, 4, 16, 16}, 5: {8, 16, 32, 32}, 6: {8, 16, 128, 128}, 7: {8, 32, 128, 256}, 8: {32, 128, 258, 1024}, 9: {32, 258, 258, 4096},
}

// deflater compresses what is written to it. It is for one stream.
type deflater struct {
	dialect
	effort
	out  bits
	data [2*window + maxMatch]byte
	prev [window]uint16
	head []uint16

	waiting []byte // what was written and is not in data yet
	ending  bool

	hash, shift, mask uint32
	start             int // where it is in data
	ahead             int // bytes from there on
	block             int // where the block began; may be negative
	matchAt           int
	matchLen          int
	prevLen           int
	pending           bool // the byte before start is not told yet

	symbols   []symbol
	matches   int
	full      int // symbols that a block has at most
	literal   tree
	distance  tree
	codeSizes tree
}

// symbol is a literal, or a match if its distance is not 0.
type symbol struct {
	distance uint16
	value    uint8 // the byte, or the length less 3
}

func newDeflater(w io.Writer, d dialect) *deflater {
	z := &deflater{dialect: d, effort: efforts[d.Level], out: bits{w: w}, matchLen: minMatch - 1, prevLen: minMatch - 1}
	hashBits := d.Memory + 7
	z.full = 1<<(d.Memory+6) - 1
	if d.GZIP {
		hashBits, z.full = 15, 1<<15-1
	}
	z.head = make([]uint16, 1<<hashBits)
	z.shift, z.mask = uint32(hashBits+minMatch-1)/minMatch, uint32(1<<hashBits-1)
	z.literal.kind, z.distance.kind, z.codeSizes.kind = literalKind, distanceKind, lengthKind
	z.literal.freq[endOfBlock] = 1
	return z
}

func (z *deflater) Write(p []byte) (int, error) {
	// The window is always filled as far as it goes, so that what comes out does not depend on how it was written.
	for rest := p; len(rest) > 0 && z.out.err == nil; {
		n := min(len(rest), 2*window-len(z.waiting))
		z.waiting = append(z.waiting, rest[:n]...)
		rest = rest[n:]
		if len(z.waiting) == 2*window {
			z.run()
		}
	}
	return len(p), z.out.err
}

// Close ends the stream.
func (z *deflater) Close() error {
	z.ending = true
	z.run()
	if z.pending {
		z.tally(0, z.data[z.start-1])
	}
	z.flush(true)
	z.out.align()
	z.out.send()
	return z.out.err
}

// run compresses as much as can be without knowing what follows.
func (z *deflater) run() {
	for z.out.err == nil {
		if z.ahead < minLookahead {
			if !z.ending && len(z.waiting) < 2*window {
				return
			}
			z.fill()
			if z.ahead == 0 {
				return
			}
		}
		if z.Level < 4 {
			z.greedy()
		} else {
			z.lazily()
		}
	}
}

// fill takes in what is waiting, after making room for it.
func (z *deflater) fill() {
	for z.ahead < minLookahead && len(z.waiting) > 0 {
		if z.start >= window+maxDistance {
			copy(z.data[:window], z.data[window:2*window])
			z.start -= window
			z.matchAt -= window
			z.block -= window
			for i, at := range z.head {
				z.head[i] = older(at)
			}
			for i, at := range z.prev {
				z.prev[i] = older(at)
			}
		}
		first := z.start == 0 && z.ahead == 0
		n := copy(z.data[z.start+z.ahead:2*window], z.waiting)
		z.waiting = append(z.waiting[:0], z.waiting[n:]...)
		z.ahead += n
		if first {
			z.roll(0)
			z.roll(1)
		}
	}
	if len(z.waiting) == 0 && z.GZIP {
		clear(z.data[z.start+z.ahead : z.start+z.ahead+minMatch-1])
	}
}

// older is a place after the window moved on; 0 is no place.
func older(at uint16) uint16 {
	if at < window {
		return 0
	}
	return at - window
}

func (z *deflater) roll(at int) { z.hash = (z.hash<<z.shift ^ uint32(z.data[at])) & z.mask }

// insert makes the place findable, and returns the last one that begins alike; 0 is none.
func (z *deflater) insert(at int) int {
	z.roll(at + minMatch - 1)
	found := z.head[z.hash]
	z.prev[at%window] = found
	z.head[z.hash] = uint16(at)
	return int(found)
}

func (z *deflater) greedy() {
	found := 0
	if z.ahead >= minMatch {
		found = z.insert(z.start)
	}
	if found != 0 && z.start-found <= maxDistance {
		z.matchLen = z.longest(found)
	}
	var full bool
	if z.matchLen >= minMatch {
		full = z.tally(z.start-z.matchAt, uint8(z.matchLen-minMatch))
		z.ahead -= z.matchLen
		if z.matchLen <= z.lazy && (z.GZIP || z.ahead >= minMatch) {
			for range z.matchLen - 1 {
				z.start++
				z.insert(z.start)
			}
			z.start++
		} else {
			z.start += z.matchLen
			z.hash = uint32(z.data[z.start])
			z.roll(z.start + 1)
		}
		z.matchLen = 0
	} else {
		full = z.tally(0, z.data[z.start])
		z.start++
		z.ahead--
	}
	if full {
		z.flush(false)
	}
}

// lazily takes a match only if the next byte begins no longer one.
func (z *deflater) lazily() {
	found := 0
	if z.ahead >= minMatch {
		found = z.insert(z.start)
	}
	prevAt := z.matchAt
	z.prevLen, z.matchLen = z.matchLen, minMatch-1
	if found != 0 && z.prevLen < z.lazy && z.start-found <= maxDistance {
		z.matchLen = z.longest(found)
		if z.matchLen == minMatch && z.start-z.matchAt > tooFar {
			z.matchLen = minMatch - 1
		}
	}
	switch {
	case z.prevLen >= minMatch && z.matchLen <= z.prevLen:
		last := z.start + z.ahead - minMatch
		full := z.tally(z.start-1-prevAt, uint8(z.prevLen-minMatch))
		z.ahead -= z.prevLen - 1
		for range z.prevLen - 2 {
			if z.start++; z.GZIP || z.start <= last {
				z.insert(z.start)
			}
		}
		z.pending, z.matchLen = false, minMatch-1
		z.start++
		if full {
			z.flush(false)
		}
	case z.pending:
		if z.tally(0, z.data[z.start-1]) {
			z.flush(false)
		}
		z.start++
		z.ahead--
	default:
		z.pending = true
		z.start++
		z.ahead--
	}
}

// longest is the length of the longest match, beginning the search at a place; matchAt becomes where it is.
func (z *deflater) longest(at int) int {
	chain, best, nice := z.chain, z.prevLen, z.nice
	if best >= z.good {
		chain >>= 2
	}
	if !z.GZIP {
		nice = min(nice, z.ahead)
	}
	limit := max(z.start-maxDistance, 0)
	scan := z.data[z.start : z.start+maxMatch]
	for {
		other := z.data[at : at+maxMatch]
		if other[best] == scan[best] && other[best-1] == scan[best-1] && other[0] == scan[0] && other[1] == scan[1] {
			n := common(scan, other)
			if n > best {
				z.matchAt, best = at, n
				if n >= nice {
					break
				}
			}
		}
		at = int(z.prev[at%window])
		if chain--; at <= limit || chain == 0 {
			break
		}
	}
	return min(best, z.ahead)
}

// common is how many bytes two places have in common, of maxMatch at most.
func common(a, b []byte) int {
	for n := 2; n < maxMatch; n++ {
		if a[n] != b[n] {
			return n
		}
	}
	return maxMatch
}

// tally notes a literal, or a match and its length less 3. It reports whether the block is full.
func (z *deflater) tally(distance int, value uint8) bool {
	z.symbols = append(z.symbols, symbol{uint16(distance), value})
	if distance == 0 {
		z.literal.freq[value]++
	} else {
		z.matches++
		z.literal.freq[endOfBlock+1+int(lengthCode[value])]++
		z.distance.freq[distanceCode[distance-1]]++
	}
	if z.GZIP && z.Level > 2 && len(z.symbols)&0xfff == 0 {
		// gzip ends a block early where it compresses well with few matches.
		out := len(z.symbols) * 8
		for c, n := range z.distance.freq[:distances] {
			out += n * (5 + int(distanceExtra[c]))
		}
		if z.matches < len(z.symbols)/2 && out>>3 < (z.start-z.block)/2 {
			return true
		}
	}
	return len(z.symbols) == z.full
}

// flush writes the block so far in the way that takes least.
func (z *deflater) flush(last bool) {
	literal, ld, ls := z.literal.build()
	distance, dd, ds := z.distance.build()
	count := func(c, _ int) { z.codeSizes.freq[c]++ }
	runs(literal, count)
	runs(distance, count)
	sizes, sd, _ := z.codeSizes.build()
	sent := lengths
	for sent > 4 && (int(lengthOrder[sent-1]) >= len(sizes) || sizes[lengthOrder[sent-1]].size == 0) {
		sent--
	}
	best := (ld + dd + sd + 3*sent + 5 + 5 + 4 + 3 + 7) >> 3
	static := (ls + ds + 3 + 7) >> 3
	best = min(best, static)
	end := uint32(0)
	if last {
		end = 1
	}
	stored := z.start - z.block
	switch {
	case stored+4 <= best && z.block >= 0:
		z.out.put(end, 3)
		z.out.align()
		z.out.put(uint32(stored), 16)
		z.out.put(^uint32(stored)&0xffff, 16)
		z.out.b = append(z.out.b, z.data[z.block:z.start]...)
	case static == best:
		z.out.put(1<<1|end, 3)
		z.write(staticLiterals, staticDistances)
	default:
		z.out.put(2<<1|end, 3)
		z.out.put(uint32(len(literal)-257), 5)
		z.out.put(uint32(len(distance)-1), 5)
		z.out.put(uint32(sent-4), 4)
		for _, c := range lengthOrder[:sent] {
			size := uint8(0)
			if int(c) < len(sizes) {
				size = sizes[c].size
			}
			z.out.put(uint32(size), 3)
		}
		tell := func(c, repeat int) {
			z.out.code(sizes[c])
			z.out.put(uint32(repeat), int(repeatExtra[c]))
		}
		runs(literal, tell)
		runs(distance, tell)
		z.write(literal, distance)
	}
	z.out.send()
	z.block = z.start
	z.symbols, z.matches = z.symbols[:0], 0
	z.literal.reset()
	z.distance.reset()
	z.codeSizes.reset()
	z.literal.freq[endOfBlock] = 1
}

// write writes the block's symbols.
func (z *deflater) write(literal, distance []code) {
	for _, s := range z.symbols {
		if s.distance == 0 {
			z.out.code(literal[s.value])
			continue
		}
		c := lengthCode[s.value]
		z.out.code(literal[endOfBlock+1+int(c)])
		z.out.put(uint32(int(s.value)-lengthBase[c]), int(lengthExtra[c]))
		d := distanceCode[s.distance-1]
		z.out.code(distance[d])
		z.out.put(uint32(int(s.distance)-1-distanceBase[d]), int(distanceExtra[d]))
	}
	z.out.code(literal[endOfBlock])
}

// bits are written lowest first.
type bits struct {
	w   io.Writer
	b   []byte
	acc uint64
	n   int
	err error
}

func (o *bits) put(v uint32, n int) {
	o.acc |= uint64(v) << o.n
	if o.n += n; o.n >= 32 {
		o.b = binary.LittleEndian.AppendUint32(o.b, uint32(o.acc))
		o.acc >>= 32
		o.n -= 32
	}
}

func (o *bits) code(c code) { o.put(uint32(c.bits), int(c.size)) }

// align fills up the byte.
func (o *bits) align() {
	for ; o.n > 0; o.n -= 8 {
		o.b = append(o.b, byte(o.acc))
		o.acc >>= 8
	}
	o.acc, o.n = 0, 0
}

// send passes on the whole bytes.
func (o *bits) send() {
	if o.err == nil && len(o.b) > 0 {
		_, o.err = o.w.Write(o.b)
	}
	o.b = o.b[:0]
}
