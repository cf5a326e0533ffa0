package member

// How deflate's Huffman codes come about in zlib: many optimal codes are possible, and a stream is only made again by
// breaking ties as it did. The names are those of RFC 1951, the order of the heap is zlib's.

const (
	literals   = 286 // codes of literals, the end of a block, and lengths
	distances  = 30
	lengths    = 19 // codes of code lengths
	endOfBlock = 256
	heapSize   = 2*literals + 1
)

// kind is one of the three codes that a block has.
type kind struct {
	extra  []uint8 // extra bits, by code from base on
	base   int
	codes  int
	most   int // bits of the longest code
	static []code
}

// code is a code and how many bits it has.
type code struct {
	bits uint16 // turned round: the first bit that is sent is the lowest
	size uint8
}

var (
	lengthExtra   = []uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distanceExtra = []uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
	repeatExtra   = []uint8{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 7}
	lengthOrder   = []uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

	staticLiterals  = fixedLiterals()
	staticDistances = fixedDistances()
	literalKind     = kind{extra: lengthExtra, base: endOfBlock + 1, codes: literals, most: 15, static: staticLiterals}
	distanceKind    = kind{extra: distanceExtra, codes: distances, most: 15, static: staticDistances}
	lengthKind      = kind{extra: repeatExtra, codes: lengths, most: 7}

	lengthCode, lengthBase     = lengthTable()
	distanceCode, distanceBase = distanceTable()
)

// fixedLiterals are the codes of RFC 1951 §3.2.6.
func fixedLiterals() []code {
	sizes := make([]uint8, literals+2)
	for n := range sizes {
		switch {
		case n < 144, n > 279:
			sizes[n] = 8
		case n < 256:
			sizes[n] = 9
		default:
			sizes[n] = 7
		}
	}
	return assign(sizes)
}

func fixedDistances() []code {
	sizes := make([]uint8, distances)
	for n := range sizes {
		sizes[n] = 5
	}
	return assign(sizes)
}

// lengthTable is the code of each length less 3, and the smallest of each code. The longest has a code of its own.
func lengthTable() (of [256]uint8, base [29]int) {
	length := 0
	for c := range 28 {
		base[c] = length
		for range 1 << lengthExtra[c] {
			of[min(length, 255)] = uint8(c)
			length++
		}
	}
	of[255] = 28
	base[28] = 255
	return of, base
}

// distanceTable is the code of each distance less 1, and the smallest of each code.
func distanceTable() (of [32768]uint8, base [30]int) {
	distance := 0
	for c := range distances {
		base[c] = distance
		for range 1 << distanceExtra[c] {
			of[distance] = uint8(c)
			distance++
		}
	}
	return of, base
}

// assign gives codes of these sizes in their order (RFC 1951 §3.2.2).
func assign(sizes []uint8) []code {
	var count, next [16]int
	for _, s := range sizes {
		count[s]++
	}
	at := 0
	for bits := 1; bits < 16; bits++ {
		if bits > 1 {
			at = (at + count[bits-1]) << 1
		}
		next[bits] = at
	}
	codes := make([]code, len(sizes))
	for n, s := range sizes {
		if s == 0 {
			continue
		}
		turned := 0
		for i := range int(s) {
			turned |= next[s] >> i & 1 << (int(s) - 1 - i)
		}
		codes[n] = code{bits: uint16(turned), size: s}
		next[s]++
	}
	return codes
}

// tree is a code under construction.
type tree struct {
	kind
	freq   [heapSize]int
	parent [heapSize]int
	size   [heapSize]uint8
	depth  [heapSize]uint8
	heap   [heapSize + 1]int
	length int // of the heap
	last   int // the greatest code that occurs
}

// reset forgets what was counted.
func (t *tree) reset() {
	clear(t.freq[:t.codes])
}

// build finds the codes, and how many bits all of it takes with them, and with the fixed ones.
func (t *tree) build() (codes []code, dynamic, static int) {
	t.length, t.last = 0, -1
	top := heapSize
	for n := range t.codes {
		t.size[n] = 0
		if t.freq[n] != 0 {
			t.length++
			t.heap[t.length] = n
			t.last = n
			t.depth[n] = 0
		}
	}
	for t.length < 2 { // a code of one symbol needs another that never comes
		node := 0
		if t.last < 2 {
			t.last++
			node = t.last
		}
		t.length++
		t.heap[t.length] = node
		t.freq[node] = 1
		t.depth[node] = 0
		dynamic--
		if t.static != nil {
			static -= int(t.static[node].size)
		}
	}
	for n := t.length / 2; n >= 1; n-- {
		t.sink(n)
	}
	for node := t.codes; ; node++ {
		n := t.heap[1]
		t.heap[1] = t.heap[t.length]
		t.length--
		t.sink(1)
		m := t.heap[1]
		t.heap[top-1], t.heap[top-2] = n, m
		top -= 2
		t.freq[node] = t.freq[n] + t.freq[m]
		t.depth[node] = max(t.depth[n], t.depth[m]) + 1
		t.parent[n], t.parent[m] = node, node
		t.heap[1] = node
		t.sink(1)
		if t.length < 2 {
			break
		}
	}
	top--
	t.heap[top] = t.heap[1]
	d, s := t.sizes(top)
	return assign(t.size[:t.last+1]), dynamic + d, static + s
}

// sink restores the heap below k.
func (t *tree) sink(k int) {
	v := t.heap[k]
	for j := 2 * k; j <= t.length; j *= 2 {
		if j < t.length && t.less(t.heap[j+1], t.heap[j]) {
			j++
		}
		if t.less(v, t.heap[j]) {
			break
		}
		t.heap[k] = t.heap[j]
		k = j
	}
	t.heap[k] = v
}

func (t *tree) less(n, m int) bool {
	return t.freq[n] < t.freq[m] || t.freq[n] == t.freq[m] && t.depth[n] <= t.depth[m]
}

// sizes finds how long each code is; those that would be too long take from others.
func (t *tree) sizes(top int) (dynamic, static int) {
	var count [16]int
	overflow := 0
	t.size[t.heap[top]] = 0
	h := top + 1
	for ; h < heapSize; h++ {
		n := t.heap[h]
		size := int(t.size[t.parent[n]]) + 1
		if size > t.most {
			size = t.most
			overflow++
		}
		t.size[n] = uint8(size)
		if n > t.last || n >= t.codes {
			continue // not a leaf
		}
		count[size]++
		extra := 0
		if n >= t.base {
			extra = int(t.extra[n-t.base])
		}
		dynamic += t.freq[n] * (size + extra)
		if t.static != nil {
			static += t.freq[n] * (int(t.static[n].size) + extra)
		}
	}
	if overflow == 0 {
		return dynamic, static
	}
	for ; overflow > 0; overflow -= 2 {
		size := t.most - 1
		for count[size] == 0 {
			size--
		}
		count[size]--
		count[size+1] += 2
		count[t.most]--
	}
	for size := t.most; size > 0; size-- {
		for n := count[size]; n > 0; {
			h--
			m := t.heap[h]
			if m > t.last || m >= t.codes {
				continue
			}
			if int(t.size[m]) != size {
				dynamic += (size - int(t.size[m])) * t.freq[m]
				t.size[m] = uint8(size)
			}
			n--
		}
	}
	return dynamic, static
}

// runs calls yield for each code of code lengths that describes these sizes, with the repeat count where it has one.
func runs(sizes []code, yield func(code, repeat int)) {
	previous, count := -1, 0
	for n := range sizes {
		current, next := int(sizes[n].size), -1
		if n+1 < len(sizes) {
			next = int(sizes[n+1].size)
		}
		most, least := 7, 4
		switch {
		case current == 0:
			most, least = 138, 3
		case current == previous:
			most, least = 6, 3
		}
		count++
		switch {
		case count < most && current == next:
			continue
		case count < least:
			for range count {
				yield(current, 0)
			}
		case current != 0:
			if current != previous {
				yield(current, 0)
				count--
			}
			yield(16, count-3)
		case count <= 10:
			yield(17, count-3)
		default:
			yield(18, count-11)
		}
		count, previous = 0, current
	}
}
