package literal

import "github.com/dunlin/dunlin/internal/delta/entropy"

const (
	contexts = 4       // that are hashed
	lines    = 1 << 16 // of four places
	whereLog = 17
	refined  = 1 << 11
	steps    = 25 // of 256 odds each
	believed = 16 // a match as long is not given up for one byte
	sure     = 32 // a match as long is asked for whole bytes
)

// A place is what is known of half a byte in a context: a check, and the history of each of the 15 bits that may be asked.
type place = [16]entropy.History

// A refinement is what odds have meant, 256 of them apart, in 1/65536.
type refinement = [steps]uint16

// dense codes bytes by mixing what several contexts say of each bit.
type dense struct {
	places [lines][4]place
	first  [256][256]entropy.History // by the byte before, of each bit
	said   [contexts + 1]entropy.Said
	goesOn [32]entropy.Prob // that a match of some length does for another bit
	whole  [64]entropy.Prob // or byte

	byBits  [256]entropy.Weights // by the bits of the byte so far
	byMatch [64]entropy.Weights  // by the match's length and how many contexts are known
	alone   [256]refinement      // by the bits so far
	after   [refined]refinement  // and by the byte before

	where  [1 << whereLog]uint32 // by a hash of six bytes, where the one after them is; 0 is nowhere
	next   uint32                // where the byte is that may come again
	long   uint32                // for how many bytes it was so; 0 is no match
	missed uint32                // how many bytes since it was not

	last  uint64 // bytes, the last one lowest
	word  uint32 // a hash of the letters at the end
	known uint32 // how many bytes it has seen, modulo 2^32
	touch entropy.History
}

func newDense() *dense {
	d := &dense{}
	for i := range d.said {
		d.said[i] = entropy.NewSaid(18)
	}
	d.said[contexts] = entropy.NewSaid(5)
	for i := range d.goesOn {
		d.goesOn[i] = entropy.Guess(65535 - 65536/(4*uint32(i)+4))
	}
	for i := range d.whole {
		d.whole[i] = entropy.Guess(62500)
	}
	for j := range contexts + 2 {
		for i := range d.byBits {
			d.byBits[i][j] = 8000
		}
		for i := range d.byMatch {
			d.byMatch[i][j] = 8000
		}
	}
	for j := range steps {
		p := uint16(entropy.Squash(int32(j-steps/2) * 256))
		for i := range d.alone {
			d.alone[i][j] = p
		}
		for i := range d.after {
			d.after[i][j] = p
		}
	}
	return d
}

// learn tells it of the bytes in the window up to at.
func (d *dense) learn(window []byte, at uint32) {
	if at-d.known > Window {
		d.known = at - Window
	}
	for ; d.known != at; d.known++ {
		d.see(window, window[d.known&(Window-1)])
	}
}

// near tells it what comes before the next byte, and that so many of the last bytes in the window are what it may be like.
func (d *dense) near(before []byte, instead uint32) {
	if len(before) > 0 {
		d.last, d.word = 0, 0
		for _, b := range before {
			d.follow(b)
		}
	}
	if instead > 0 {
		d.long, d.missed, d.next = believed, 0, d.known-instead
	}
}

// code codes p.
func (d *dense) code(c *entropy.Coder, window []byte, p []byte, kind, phase uint32) {
	for i := range p {
		p[i] = d.byte(c, window, p[i], kind, uint32(i)-phase)
		window[d.known&(Window-1)] = p[i]
		d.see(window, p[i])
		d.known++
	}
}

// hash spreads a context; salt tells one kind of them from another.
func hash(a uint64, salt uint32) uint32 {
	h := (a + uint64(salt)<<56) * 0x9E3779B97F4A7C15
	return uint32(h>>32) ^ uint32(h>>15)
}

// find is the place of a context.
func (d *dense) find(h uint32) *place {
	check := entropy.History(h >> 24)
	l := &d.places[h&(lines-1)]
	switch check {
	case l[0][0]:
		return &l[0]
	case l[1][0]:
		return &l[1]
	case l[2][0]:
		return &l[2]
	case l[3][0]:
		return &l[3]
	}
	// The one that has seen least goes.
	low := 0
	for i := range l {
		if l[i][1] < l[low][1] {
			low = i
		}
	}
	l[low] = place{check}
	return &l[low]
}

// meet finds the places of all contexts.
func (d *dense) meet(hs *[contexts]uint32, ps *[contexts]*place) {
	// Memory is slow: all are asked for before any is waited for.
	d.touch = d.places[hs[0]&(lines-1)][0][0] + d.places[hs[1]&(lines-1)][0][0] + d.places[hs[2]&(lines-1)][0][0] +
		d.places[hs[3]&(lines-1)][0][0]
	for i, h := range hs {
		ps[i] = d.find(h)
	}
}

// contexts are hashes of what the next byte is thought to depend on.
func (d *dense) contexts(hs *[contexts]uint32, kind, at uint32) {
	l := d.last
	hs[0] = hash(l&0xffff, 2)
	hs[1] = hash(l&0xffffff, 3)
	hs[2] = hash(l&0xffffffff, 4)
	switch kind {
	case text:
		hs[3] = hash(uint64(d.word)<<8|l&0xff, 7)
	case arm64:
		at &= 3
		now := l & (1<<(8*at) - 1) // of this word
		past := l >> (8 * at)      // the one before, and what is left of the one before that
		hs[0] = hash(l&0xffff|uint64(at)<<32, 2)
		hs[1] = hash(l&0xffffff|uint64(at)<<32, 3)
		hs[3] = hash(now|past&0xff000000|past&0xff000000_00000000>>8, 9|at<<4)
	default:
		hs[3] = hash(l>>16&0xffff, 10)
	}
}

// byte codes a byte at offset at.
func (d *dense) byte(c *entropy.Coder, window []byte, b byte, kind, at uint32) byte {
	expect := uint32(0) // the match's byte, with 256; it is the bits so far, as long as they are as it says
	if d.long > 0 {
		e := window[d.next&(Window-1)]
		if d.long < sure {
			expect = uint32(e) | 256
		} else {
			right := 0
			if e == b {
				right = 1
			}
			if c.Bit(&d.whole[min(d.long>>3, 15)<<2|min(d.missed>>3, 3)], right) == 1 {
				return e
			}
			d.long = believed // for see, which finds that it was wrong
		}
	}
	var (
		hs [contexts]uint32
		ps [contexts]*place
		ss [contexts]*entropy.Meaning
		in entropy.Inputs
	)
	d.contexts(&hs, kind, at)
	d.meet(&hs, &ps)
	in[contexts+2] = 256
	last := uint32(d.last) & 255
	first := &d.first[last]
	match := min(d.long, uint32(len(d.goesOn)-1))
	node, half := uint32(1), uint32(1) // the bits so far after a 1, of the byte and of half of it
	for i := 7; i >= 0; i-- {
		if i == 3 {
			for k, h := range hs {
				h += node * 0x3D4D51CB
				hs[k] = h ^ h>>13
			}
			d.meet(&hs, &ps)
			half = 1
		}
		order := uint32(0) // how many contexts are known
		for k := range contexts {
			h := ps[k][half&15]
			if h != 0 {
				order++
			}
			ss[k] = &d.said[k][h]
			in[k] = ss[k].Odds()
		}
		direct := &first[node&255]
		s := &d.said[contexts][*direct]
		in[contexts] = s.Odds()
		set := order
		in[contexts+1] = 0
		follows := expect>>(i+1) == node
		if follows {
			o := d.goesOn[match].Odds()
			if expect>>i&1 == 0 {
				o = -o
			}
			in[contexts+1] = o
			set = 8 + match>>2<<3 + order
		}
		w, v := &d.byBits[node&255], &d.byMatch[set&63]
		odds := entropy.Mix(w, v, &in)
		p := entropy.Squash(odds)

		// What such odds have meant, between two steps of them.
		step, part := uint32(odds+steps/2*256)>>8, uint32(odds)&255
		alone, after := &d.alone[node&255], &d.after[(last<<8|node)*0x9E3779B1>>21]
		q := (uint32(alone[step])*(256-part) + uint32(alone[step+1])*part) >> 8
		r := (uint32(after[step])*(256-part) + uint32(after[step+1])*part) >> 8
		bit := c.Likely(min(max((p+q+2*r)>>2, 1), 65535), int(b>>i&1))

		step += part >> 7
		aim := int32(-bit) & 65535
		alone[step] += uint16((aim - int32(alone[step])) >> 5)
		after[step] += uint16((aim - int32(after[step])) >> 5)
		entropy.Learn(w, v, &in, p, bit, 6)
		for k := range contexts {
			ss[k].Learn(bit)
			h := &ps[k][half&15]
			*h = h.After(bit)
		}
		s.Learn(bit)
		*direct = direct.After(bit)
		if follows {
			d.goesOn[match].LearnOf(int(expect>>i&1)^bit^1, 1023)
		}
		node = node<<1 | uint32(bit)
		half = half<<1 | uint32(bit)
	}
	return byte(node)
}

// see takes note of a byte, which is in the window already.
func (d *dense) see(window []byte, b byte) {
	switch {
	case d.long > 0 && window[d.next&(Window-1)] == b:
		d.long++
		d.missed++
		d.next++
	case d.long >= believed:
		d.long, d.missed = 1, 0
		d.next++
	default:
		d.long, d.missed = 0, 0
	}
	d.follow(b)
	h := d.last << 16 * 0x9E3779B97F4A7C15 >> (64 - whereLog)
	if m := d.where[h]; m != 0 && d.long < believed {
		n := uint32(0)
		for n < 32 && window[(m-1-n)&(Window-1)] == window[(d.known-n)&(Window-1)] {
			n++
		}
		if n >= 6 && n > d.long {
			d.long, d.next = n, m
		}
	}
	d.where[h] = d.known + 1
}

// follow makes b the last byte.
func (d *dense) follow(b byte) {
	d.last = d.last<<8 | uint64(b)
	if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b >= 128 {
		d.word = (d.word + uint32(b) + 1) * 0x2F0B4C47
	} else {
		d.word = 0
	}
}
