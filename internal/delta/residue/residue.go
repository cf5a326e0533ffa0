// Package residue codes what is left to say of bytes that were predicted: mostly nothing. It does not know where the
// prediction comes from.
package residue

import "github.com/dunlin/dunlin/internal/delta/entropy"

// Bytes are looked at in blocks of blocks: where a large one is right nothing more is said of it.
const (
	large = 64
	small = 8
	word  = 4
)

// Model is what was learned of the mistakes so far. It takes about 4 MiB.
type Model struct {
	at    int64  // of the next piece in the new file
	right uint64 // which of the last 64 bytes were right; the last one in bit 0
	calm  uint32 // which of the last 32 large blocks were
	since uint32 // bytes since the last mistake
	gap   uint32 // and between it and the one before

	// The last differences, and those of the last bytes, by offset modulo 64.
	last, other byte
	diffs       [64]byte

	large, small judge
	wrong        jury
	value        values
}

// New returns a model that knows nothing yet.
func New() *Model {
	m := &Model{right: ^uint64(0), calm: ^uint32(0)}
	m.large.init(12)
	m.small.init(16)
	m.wrong.init(14)
	m.value.init(13)
	return m
}

// At says where in the new file the next piece is: what is aligned there changes alike. If it is not called, pieces follow
// one another.
func (m *Model) At(offset int64) { m.at = offset }

// piece is what is predicted.
type piece struct {
	predicted, kinds []byte
}

// old is the predicted byte i, 0 beyond the piece.
func (p *piece) old(i int) uint64 {
	if uint(i) < uint(len(p.predicted)) {
		return uint64(p.predicted[i])
	}
	return 0
}

// kind is what byte i is.
func (p *piece) kind(i int) uint64 {
	if uint(i) < uint(len(p.kinds)) {
		return uint64(p.kinds[i] & 15)
	}
	return 0
}

// begins is how many predicted numbers begin in some bytes.
func (p *piece) begins(from, to int) uint64 {
	if p.kinds == nil {
		return 0
	}
	n := uint64(0)
	for _, k := range p.kinds[from:to] {
		if k == 1 {
			n++
		}
	}
	return n
}

// Code writes p, or fills it with what was written. predicted is as long; kinds, as long or nil, is what each byte is
// (code.Plain and so on). The pieces must be the same in both directions. It takes time for the bytes that were predicted
// wrong, and next to none for the others.
func (m *Model) Code(c *entropy.Coder, predicted, kinds, p []byte) {
	in := &piece{predicted, kinds}
	if c.Reading() {
		copy(p, predicted)
	}
	for from := 0; from < len(p); from += large {
		to := min(from+large, len(p))
		n := in.begins(from, to)
		calm := uint64(m.calm)
		quiet := uint64(0)
		for quiet < 31 && calm>>quiet&1 == 1 {
			quiet++
		}
		ask := asked{calm & 0xffff, calm & 255, min(n, 15)<<4 | calm&15, quiet<<4 | n, in.old(from)<<8 | in.old(from+1)}
		right := m.large.code(c, &ask, uint32(calm&15), uint32(min(n, 7)), same(c, p, predicted, from, to))
		m.calm = m.calm<<1 | uint32(right)
		if right == 1 {
			m.right = ^uint64(0)
			m.since += uint32(to - from)
			m.diffs = [64]byte{}
			continue
		}
		m.block(c, in, p, from, to)
	}
	m.at += int64(len(p))
}

// same is 1 if some bytes are as predicted; reading, it does not matter.
func same(c *entropy.Coder, p, predicted []byte, from, to int) int {
	if c.Reading() || string(p[from:to]) != string(predicted[from:to]) {
		return 0
	}
	return 1
}

// block codes a large block with a mistake in it.
func (m *Model) block(c *entropy.Coder, in *piece, p []byte, from, to int) {
	found := false
	for s := from; s < to; s += small {
		e := min(s+small, to)
		right := 0
		if found || e < to { // else it must be here
			r, n := m.right, in.begins(s, e)
			past := uint64(0) // which of the last small blocks were right
			for k := range 8 {
				if byte(r>>(8*k)) == 255 {
					past |= 1 << k
				}
			}
			a := in.old(s) | in.old(s+1)<<8 | in.old(s+2)<<16 | in.old(s+3)<<24
			b := in.old(s+4) | in.old(s+5)<<8 | in.old(s+6)<<16 | in.old(s+7)<<24
			ask := asked{r & 0xffff, a, a<<32 | b, past&15<<32 | n<<24 | uint64(s-from), uint64(min(m.since, 255))<<16 | uint64(min(m.gap, 255))<<8 | uint64(m.at+int64(s))&7}
			right = m.small.code(c, &ask, uint32(past&15), uint32(n)|uint32(s-from)>>3<<3, same(c, p, in.predicted, s, e))
		}
		if right == 1 {
			m.right = m.right<<8 | 255
			m.since += uint32(e - s)
			for i := s; i < e; i++ {
				m.diffs[(m.at+int64(i))&63] = 0
			}
			continue
		}
		found = true
		m.bytes(c, in, p, s, e)
	}
}

// bytes codes a small block with a mistake in it.
func (m *Model) bytes(c *entropy.Coder, in *piece, p []byte, from, to int) {
	found := false
	for s := from; s < to; s += word {
		e := min(s+word, to)
		found = m.word(c, in, p, s, e, e == to && !found) || found
	}
}

// word codes up to four bytes, one of which is wrong if must is set, and reports whether one is.
func (m *Model) word(c *entropy.Coder, in *piece, p []byte, from, to int, must bool) bool {
	var os, ks uint64 // the predicted bytes, and what they are
	for i := from + word - 1; i >= from; i-- {
		os, ks = os<<8|in.old(i), ks<<4|in.kind(i)
	}
	r, phase := m.right, uint64(m.at+int64(from))&3
	ps := m.wrong.meet(&[inputs - 1]uint64{
		r&0xffff | ks<<16 | phase<<32,
		os>>16 | ks&255<<16 | r&1<<24 | phase<<32,
		r&255 | ks<<16 | phase<<32 | uint64(min(m.since, 63))<<40 | uint64(min(m.gap, 63))<<48,
		os&0xffff | in.old(from-1)<<16 | r&1<<24 | phase<<32,
	})
	node := uint32(1)
	for i := from; i < to; i++ {
		at := m.at + int64(i)
		k, o := in.kind(i), in.old(i)
		d := func(n int64) uint64 { return uint64(m.diffs[(at-n)&63]) }
		var carry uint64
		if i > 0 && p[i-1] < in.predicted[i-1] {
			carry = 1
		}
		wrong := 1
		if i+1 < to || !must || node != 1<<(to-from-1) {
			last := o | k<<8 | carry<<16 | d(1)<<24
			wrong = m.wrong.code(c, &ps, node, last, uint32(ks&15<<4)|node, uint32(carry|m.right>>3&1<<1|m.right>>7&1<<2|phase<<3|k<<5),
				1-same(c, p, in.predicted, i, i+1))
		}
		node = node<<1 | uint32(wrong)
		m.right = m.right<<1 | uint64(1-wrong)
		if wrong == 0 {
			m.since++
			m.diffs[at&63] = 0
			continue
		}
		m.gap, m.since = m.since, 0
		w := i - int(at&3)
		code := in.old(w+3)<<8 | in.old(w+2) // the upper half of an aligned word
		v := m.value.code(c, &asked{
			in.old(i-1) | o<<8 | in.old(i+1)<<16 | in.old(i+2)<<24 | k<<32,
			uint64(at)&3 | code<<8 | k<<24 | d(1)<<32 | carry<<40,
			uint64(m.last) | uint64(m.other)<<8 | k<<16,
			d(1) | d(4)<<8 | d(8)<<16 | k<<24 | carry<<32,
			o | k<<8 | uint64(m.last)<<16,
		}, uint32(k), p[i]-in.predicted[i])
		p[i] = in.predicted[i] + v
		m.diffs[at&63] = v
		m.last, m.other = v, m.last
	}
	return node != 1<<(to-from)
}
