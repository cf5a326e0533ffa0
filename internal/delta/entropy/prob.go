package entropy

import "math/bits"

// Prob is a probability that learns. Its zero value is one half.
type Prob uint32 // 22 bits of probability, the highest turned round; 10 bits of how often it was asked

const (
	half  = 1 << 31
	limit = 127 // how often it was asked, at most: from there on old answers fade
)

// rates is how far an answer moves a Prob that was asked n times, in 1/65536.
var rates = func() (r [1024]int32) {
	for n := range r {
		r[n] = 65536 * 2 / int32(2*n+3)
	}
	return r
}()

// P is the probability of a 1, in 1/65536, from 1 to 65535.
func (p Prob) P() uint32 { return uint32(p^half)>>16 | 1 }

// Learn tells it what came.
func (p *Prob) Learn(bit int) { *p = p.after(bit, limit) }

// LearnOf is Learn, but old answers fade from so many on, at most 1023.
func (p *Prob) LearnOf(bit int, memory uint32) { *p = p.after(bit, memory) }

// Guess is a Prob to begin with: p/65536, and soon another.
func Guess(p uint32) Prob { return Prob(p<<16|8) ^ half }

// after is p when a bit has come, and no more than so many are remembered.
func (p Prob) after(bit int, limit uint32) Prob {
	n := uint32(p) & 1023
	now := int64(uint32(p^half) >> 10)
	now += (int64(-bit)&(1<<22-1) - now) * int64(rates[n]) >> 16
	if n < limit {
		n++
	}
	return Prob(uint32(now)<<10|n) ^ half
}

// Bit codes a bit.
func (c *Coder) Bit(p *Prob, bit int) int {
	old := *p
	bit = c.Likely(old.P(), bit)
	*p = old.after(bit, limit)
	return bit
}

// Bool is Bit for a bool.
func (c *Coder) Bool(p *Prob, v bool) bool {
	bit := 0
	if v {
		bit = 1
	}
	return c.Bit(p, bit) == 1
}

// Tree codes a number of so many bits, its highest bit first; p has 1<<width of them.
func (c *Coder) Tree(p []Prob, width int, v uint32) uint32 {
	node := uint32(1)
	for i := width - 1; i >= 0; i-- {
		node = node<<1 | uint32(c.Bit(&p[node], int(v>>i&1)))
	}
	return node - 1<<width
}

// Byte is a model of bytes that come from one source.
type Byte [256]Prob

// Byte codes a byte.
func (c *Coder) Byte(m *Byte, v byte) byte { return byte(c.Tree(m[:], 8, uint32(v))) }

// Number is a model of numbers of any size, small ones being cheap. What it learns is their sizes, and the two bits after
// the highest.
type Number struct {
	size [128]Prob
	top  [65][4]Prob
}

// Number codes a number.
func (c *Coder) Number(m *Number, v uint64) uint64 {
	size := int(min(c.Tree(m.size[:], 7, uint32(bits.Len64(v))), 64))
	if size < 2 {
		return uint64(size)
	}
	known := min(size-1, 2)
	rest := size - 1 - known
	out := uint64(1)<<known | uint64(c.Tree(m.top[size][:], known, uint32(v>>rest)&(1<<known-1)))
	return out<<rest | c.Raw(rest, v)
}

// Signed codes a number that may be negative.
func (c *Coder) Signed(m *Number, v int64) int64 {
	u := c.Number(m, uint64(v)<<1^uint64(v>>63))
	return int64(u>>1) ^ -int64(u&1)
}
