package residue

import "github.com/dunlin/dunlin/internal/delta/entropy"

const (
	inputs = 5  // contexts
	rate   = 10 // how fast weights learn
)

type (
	// asked is what a bit or several are thought to depend on.
	asked [inputs]uint64
	// histories are those of a bit in its contexts.
	histories [inputs]*entropy.History
	// A place is what is known of up to four bits in a context: the history of each of the 15 that may be asked.
	place [16]entropy.History
	// places are those of bits in their contexts.
	places [inputs]*place
	// A line is what is known of a byte in a context, and as much as memory gives at once: a check and the upper half, and
	// three lower ones with the upper half they follow.
	line [4]place
)

// spread is a hash.
func spread(a uint64) uint64 {
	h := a * 0x9E3779B97F4A7C15
	h ^= h >> 29
	return h * 0xBF58476D1CE4E5B9
}

// mixed codes bits by what came in several contexts.
type mixed struct {
	said [inputs]entropy.Said
	one  [256]entropy.FewWeights
	two  [256]entropy.FewWeights
}

func (m *mixed) init() {
	for i := range m.said {
		m.said[i] = entropy.NewSaid(12)
	}
	for i := range m.one {
		for k := range inputs {
			m.one[i][k], m.two[i][k] = 12600, 12600
		}
	}
}

// bit codes a bit, by its histories and by two things that say whom to believe.
func (m *mixed) bit(c *entropy.Coder, came *histories, one, two uint32, bit int) int {
	var (
		in   entropy.FewInputs
		said [inputs]*entropy.Meaning
	)
	for i, h := range came {
		said[i] = &m.said[i][*h]
		in[i] = said[i].Odds()
	}
	in[inputs] = 256
	a, b := &m.one[one&255], &m.two[two&255]
	p := entropy.Squash(entropy.MixFew(a, b, &in))
	bit = c.Likely(p, bit)
	entropy.LearnFew(a, b, &in, p, bit, rate)
	for i, h := range came {
		said[i].Learn(bit)
		*h = h.After(bit)
	}
	return bit
}

// A judge says of one thing whether it is right.
type judge struct {
	mixed
	came  [inputs][]entropy.History
	shift uint
}

// init makes a judge with 1<<size histories for each context.
func (j *judge) init(size uint) {
	j.mixed.init()
	j.shift = 64 - size
	for i := range j.came {
		j.came[i] = make([]entropy.History, 1<<size)
	}
}

// code codes a bit.
func (j *judge) code(c *entropy.Coder, ask *asked, one, two uint32, bit int) int {
	var came histories
	for i, a := range ask {
		came[i] = &j.came[i][spread(a)>>(j.shift&63)]
	}
	return j.bit(c, &came, one, two, bit)
}

// A jury says of each of four bytes whether it is wrong. All contexts but the last are those of the four.
type jury struct {
	mixed
	came  [inputs - 1][]place
	last  []entropy.History
	shift uint // of places; there are 16 times as many histories
}

func (j *jury) init(size uint) {
	j.mixed.init()
	j.shift = 64 - size
	for i := range j.came {
		j.came[i] = make([]place, 1<<size)
	}
	j.last = make([]entropy.History, 16<<size)
}

// meet finds the places of four bytes.
func (j *jury) meet(ask *[inputs - 1]uint64) (ps [inputs - 1]*place) {
	for i, a := range ask {
		ps[i] = &j.came[i][spread(a)>>(j.shift&63)]
	}
	return ps
}

// code codes whether a byte is wrong, which node says of those before it in the four, after a 1.
func (j *jury) code(c *entropy.Coder, ps *[inputs - 1]*place, node uint32, last uint64, one, two uint32, bit int) int {
	var came histories
	for i, p := range ps {
		came[i] = &p[node&15]
	}
	came[inputs-1] = &j.last[spread(last)>>((j.shift-4)&63)]
	return j.bit(c, &came, one, two, bit)
}

// values codes what is wrong with bytes.
type values struct {
	upper, lower mixed
	came         [inputs][]line
	shift        uint
}

func (v *values) init(size uint) {
	v.upper.init()
	v.lower.init()
	v.shift = 64 - size
	for i := range v.came {
		v.came[i] = make([]line, 1<<size)
	}
}

// code codes a byte, the upper half first.
func (v *values) code(c *entropy.Coder, ask *asked, kind uint32, b byte) byte {
	var (
		lines [inputs]*line
		ps    places
	)
	for i, a := range ask {
		h := spread(a)
		l := &v.came[i][h>>(v.shift&63)]
		if check := entropy.History(h >> 8); l[0][0] != check {
			*l = line{{check}}
		}
		lines[i], ps[i] = l, &l[0]
	}
	high := v.upper.half(c, &ps, 0, kind, uint32(b>>4))
	for i, l := range lines {
		ps[i] = l.lower(entropy.History(16 + high))
	}
	return byte(high<<4 | v.lower.half(c, &ps, high<<4, kind, uint32(b&15)))
}

// half codes four bits, the highest first.
func (m *mixed) half(c *entropy.Coder, ps *places, one, kind, v uint32) uint32 {
	node := uint32(1)
	for i := 3; i >= 0; i-- {
		var came histories
		for k, p := range ps {
			came[k] = &p[node&15]
		}
		node = node<<1 | uint32(m.bit(c, &came, one|node, kind<<2|uint32(i), int(v>>i&1)))
	}
	return node & 15
}

// lower is the place of the lower half of a byte. If it has none yet, the one that has seen least goes.
func (l *line) lower(check entropy.History) *place {
	least := &l[1]
	for i := 1; i < len(l); i++ {
		p := &l[i]
		if p[0] == check {
			return p
		}
		if p[1] < least[1] {
			least = p
		}
	}
	*least = place{check}
	return least
}
