package match

import (
	"encoding/binary"
	"math/bits"
)

// table finds the places in old that begin with the same bytes.
type table struct {
	old   []byte
	width int // of the bytes
	step  int // every which place of old is in it
	// slots are, by hash, in the next free slot, some of the hash above the number of the place, +1; or 0.
	slots []uint32
	bits  int // of the number
}

const (
	wide      = 16       // bytes that are looked up
	narrow    = 8        // in small files
	smallFile = 64 << 10 // bytes
	triesMax  = 16       // places of the same bytes
	memoryMax = 256 << 20
)

// newTable returns a table of the right size.
func newTable(old []byte) *table {
	t := &table{old: old, width: wide, step: 1}
	if len(old) < smallFile {
		t.width = narrow
	}
	for len(old) > 8<<20*t.step && t.step < 2 || len(old)/t.step*20/3 > memoryMax {
		t.step *= 2
	}
	n := max(len(old)-t.width+t.step, 0) / t.step // places
	t.bits = bits.Len(uint(n))
	t.slots = make([]uint32, n*5/3+64)
	return t
}

// fill puts the places in, which newTable has not done.
func (t *table) fill() *table {
	var asked [batch]question
	for from := 0; from+t.width <= len(t.old); from += len(asked) * t.step {
		n := min(len(asked), (len(t.old)-t.width-from)/t.step+1)
		for k := range n {
			asked[k].slot, asked[k].check = t.slot(t.old[from+k*t.step:])
		}
		for k := range n {
			asked[k].first = t.slots[asked[k].slot]
		}
		for k, a := range asked[:n] {
			t.put(a, from/t.step+k)
		}
	}
	return t
}

// put puts a place in the first free slot.
func (t *table) put(a question, number int) {
	i, e := a.slot, a.first
	if e == 0 {
		e = t.slots[i] // it may have been taken since
	}
	// Of bytes that are everywhere a few places will do.
	for same := 0; e != 0; e = t.slots[i] {
		if e>>t.bits == a.check {
			if same++; same == triesMax {
				return
			}
		}
		if i++; i == len(t.slots) {
			i = 0
		}
	}
	t.slots[i] = a.check<<t.bits | uint32(number+1)
}

// slot returns the first slot for what b begins with, and what is above the number in its slots.
func (t *table) slot(b []byte) (int, uint32) {
	h := binary.LittleEndian.Uint64(b) * 0x9e3779b97f4a7c15
	if t.width == wide {
		h = (bits.RotateLeft64(h, 29) ^ binary.LittleEndian.Uint64(b[8:])) * 0xc2b2ae3d27d4eb4f
	}
	h = (h ^ h>>31) * 0x9e3779b97f4a7c15
	i, _ := bits.Mul64(h, uint64(len(t.slots)))
	return int(i), uint32(h) >> t.bits
}

// question is where bytes are to be found. Memory takes its time to answer, so several are asked at once.
type question struct {
	slot  int
	check uint32
	first uint32 // what is in the slot
}

const batch = 16

// lookups looks the places of new up in a table.
type lookups struct {
	*table
	new   []byte
	from  int // of the places that were asked for
	count int
	asked [batch]question
}

// each calls yield for the places in old that may begin as new does at a place, which has enough bytes after it.
func (l *lookups) each(at int, yield func(place int)) {
	if at < l.from || at >= l.from+l.count {
		l.from, l.count = at, min(len(l.asked), len(l.new)-l.width+1-at)
		for k := range l.count {
			l.asked[k].slot, l.asked[k].check = l.slot(l.new[at+k:])
		}
		for k := range l.count {
			l.asked[k].first = l.slots[l.asked[k].slot]
		}
	}
	a := &l.asked[at-l.from]
	i := a.slot
	for e := a.first; e != 0; e = l.slots[i] {
		if e>>l.bits == a.check {
			yield(int(e&(1<<l.bits-1)-1) * l.step)
		}
		if i++; i == len(l.slots) {
			i = 0
		}
	}
}
