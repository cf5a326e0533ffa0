package entropy

// Quick is a probability that learns, cheaper than a Prob to ask and to keep. Its zero value is one half.
type Quick uint16 // of a 1, in 1/65536, the highest bit turned round

const pace = 5 // an answer moves a Quick by 1/32

// P is the probability of a 1, in 1/65536, from 1 to 65535.
func (q Quick) P() uint32 { return uint32(q^0x8000) | 1 }

// Quick codes a bit.
func (c *Coder) Quick(q *Quick, bit int) int {
	p := uint32(*q ^ 0x8000)
	if bit = c.Likely(p|1, bit); bit != 0 {
		*q = Quick(p+(65535-p)>>pace) ^ 0x8000
	} else {
		*q = Quick(p-p>>pace) ^ 0x8000
	}
	return bit
}

// QuickTree codes a number of so many bits, its highest bit first; q has 1<<width of them.
func (c *Coder) QuickTree(q []Quick, width int, v uint32) uint32 {
	node := uint32(1)
	if !c.reading {
		for i := width - 1; i >= 0; i-- {
			node = node<<1 | uint32(c.Quick(&q[node], int(v>>i&1)))
		}
		return node - 1<<width
	}
	full, at := c.width, c.at
	q = q[:1<<width]
	for node < uint32(len(q)) {
		p := uint32(q[node] ^ 0x8000)
		bound := full >> 16 * uint64(p|1)
		if at < bound {
			full = bound
			q[node] = Quick(p+(65535-p)>>pace) ^ 0x8000
			node = node<<1 | 1
		} else {
			at -= bound
			full -= bound
			q[node] = Quick(p-p>>pace) ^ 0x8000
			node <<= 1
		}
		if full < least {
			c.width, c.at = full, at
			c.shift()
			full, at = c.width, c.at
		}
	}
	c.width, c.at = full, at
	return node - 1<<width
}

// QuickBack is QuickTree with the lowest bit first.
func (c *Coder) QuickBack(q []Quick, width int, v uint32) uint32 {
	node, out := uint32(1), uint32(0)
	for i := range width {
		bit := uint32(c.Quick(&q[node], int(v>>i&1)))
		node = node<<1 | bit
		out |= bit << i
	}
	return out
}

// QuickBeside codes a byte that is probably not the one beside it, but like it in its upper bits: q[256] and q[512] on are
// asked as long as it is.
func (c *Coder) QuickBeside(q *[768]Quick, beside, v byte) byte {
	node := uint32(1)
	off := uint32(256)
	b := uint32(beside)
	if !c.reading {
		for i := 7; i >= 0; i-- {
			b <<= 1
			side := b & off
			bit := c.Quick(&q[off+side+node], int(v>>i&1))
			node = node<<1 | uint32(bit)
			if bit != 0 {
				off &= b
			} else {
				off &^= b
			}
		}
		return byte(node)
	}
	full, at := c.width, c.at
	for node < 256 {
		b <<= 1
		side := b & off
		x := &q[off+side+node]
		p := uint32(*x ^ 0x8000)
		bound := full >> 16 * uint64(p|1)
		if at < bound {
			full = bound
			*x = Quick(p+(65535-p)>>pace) ^ 0x8000
			node = node<<1 | 1
			off &= b
		} else {
			at -= bound
			full -= bound
			*x = Quick(p-p>>pace) ^ 0x8000
			node <<= 1
			off &^= b
		}
		if full < least {
			c.width, c.at = full, at
			c.shift()
			full, at = c.width, c.at
		}
	}
	c.width, c.at = full, at
	return byte(node)
}
