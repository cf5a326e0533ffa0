package match

import "math/bits"

// Costs are in 1/64 of a byte of the delta. They are what the coders of copies, of what differs in them and of other bytes
// make of these on average.
const (
	byteCost    = 64
	literalCost = 51  // a byte in no copy, where nothing is known of it
	gapCost     = 64  // the first of several, besides
	hitCost     = 1   // a byte of a copy that is as in the old file
	backCost    = 8   // the first of them after one that is not, besides
	missCost    = 100 // a byte of a copy that is not as in the old file
	moreCost    = 68  // one that follows such a one
	likeCost    = 24  // one that differs by as much as one of the last two that did
	copyCost    = 128 // a copy that goes on where the last one ended, or as far away from there as in the new file
	farCost     = 14  // each bit of how far away from there it is, besides
	lineBits    = 4   // saying that it is another copy than the last where it goes on is worth so many
)

// lines are the last shifts of a way's copies, the last first: after a detour a copy goes on where the one before it
// ended. Their number is even less than that of those that a coder remembers.
type lines [4]int64

// turn puts a shift first.
func (l lines) turn(shift int64) lines {
	i := 0
	for i < len(l)-1 && l[i] != shift {
		i++
	}
	copy(l[1:i+1], l[:i])
	l[0] = shift
	return l
}

// open is what it costs to begin a copy at a shift.
func (l *lines) open(shift int64) int64 {
	far := bits.Len64(uint64(max(shift-l[0], l[0]-shift)))
	for _, s := range l[1:] {
		far = min(far, lineBits+bits.Len64(uint64(max(shift-s, s-shift))))
	}
	return copyCost + farCost*int64(far)
}

// differing is what a byte costs that differs in a copy, by d. It remembers d.
func differing(d byte, missed bool, last *[2]byte) int64 {
	c := int64(missCost)
	switch {
	case d == last[0]:
		return likeCost
	case d == last[1]:
		c = likeCost
	case missed:
		c = moreCost
	}
	last[1], last[0] = last[0], d
	return c
}

// literals is what bytes of a file cost that are in no copy: an estimate of what a coder that learns makes of them, from
// how often they follow the byte before them in all of the file.
type literals struct {
	file            []byte
	pairs           [1 << 16]uint32 // how often a byte follows another
	firsts, singles [256]uint32
	count           uint32
	costs           [1 << 16]uint8 // by pair, those that were asked for
}

const (
	sampleMax   = 4 << 20 // bytes that are looked at, roughly,
	sampleBlock = 4 << 10 // in pieces of so many
)

func newLiterals(file []byte) *literals {
	t := &literals{file: file}
	every := max(len(file)/sampleMax, 1)
	for at := 0; at < len(file); at += sampleBlock * every {
		last := byte(0)
		for _, b := range file[at:min(at+sampleBlock, len(file))] {
			t.pairs[int(last)<<8|int(b)]++
			t.firsts[last]++
			t.singles[b]++
			last = b
			t.count++
		}
	}
	return t
}

// of is what byte i costs.
func (t *literals) of(i int) int64 {
	if i == 0 {
		return literalCost
	}
	a, b := t.file[i-1], t.file[i]
	pair := int(a)<<8 | int(b)
	if t.costs[pair] == 0 {
		// How often the byte comes at all is worth as much as having seen 16 pairs.
		alone := 16 * 64 * uint64(t.singles[b]+1) / uint64(t.count+256)
		c := logarithm(t.firsts[a]*64+16*64) - logarithm(t.pairs[pair]*64+uint32(alone))
		t.costs[pair] = uint8(min(max(c/8, 4), 96))
	}
	return int64(t.costs[pair])
}

// logarithm is that of n+1 to the base of 2, in 1/64.
func logarithm(n uint32) int {
	n++
	b := bits.Len32(n) - 1
	return b<<6 | int(uint64(n)<<6>>b&63)
}
