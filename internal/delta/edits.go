package delta

import "github.com/dunlin/dunlin/internal/delta/entropy"

// Bounds of what is remembered of edits.
const (
	editBits    = 15       // of how many there are
	placeBits   = 16       // of the table by which they are found
	editBytes   = 1 << 20  // of all gaps
	editMax     = 4 << 10  // bytes of a gap that is remembered
	around      = 12       // old bytes on each side by which an edit is known again
	feedMax     = 4 << 20  // bytes of the old files, for the literals to be fed with them
	feedBefore  = 24       // bytes before a gap that the literals are fed with
	windowSize  = 64 << 10 // bytes of an old file that are held, and at least
	windowLeast = 4 << 10
)

// edit is what was done at a place of an old file, and may be done again where another has the same there.
type edit struct {
	key             uint32
	at              uint32 // of the gap's bytes, in all that were remembered
	same, gap, skip int32
	hits            uint8 // whether it was the one, the last few times it could have been
}

// edits are the edits that were done, and the models of those to come.
type edits struct {
	all    []edit   // a ring
	count  uint32   // of all there were
	places []uint32 // by key, the number of an edit, and 1
	bytes  []byte   // of their gaps, a ring
	used   uint32   // of all there were
	next   uint32   // the edit that is expected
	streak int      // how often that was right, up to 3
	was    int      // what the last three steps were

	old  *joined
	buf  []byte // some of old
	from int64
	most int // bytes that the next look at old takes, which grows while looks follow one another
	work func(n int64)

	what  [stepKinds * stepKinds * stepKinds * 4]entropy.Byte
	here  [8]entropy.Prob // whether a known edit is the one, by its hits
	now   [4]entropy.Prob // the same for the expected one, by the streak
	again [12]entropy.Prob
	same  entropy.Number
	gap   entropy.Number
	plain [4]entropy.Prob
	skip  [2]entropy.Number
}

func (e *edits) begin(old *joined, work func(n int64)) {
	if e.all == nil {
		e.all, e.places, e.bytes = make([]edit, 1<<editBits), make([]uint32, 1<<placeBits), make([]byte, editBytes)
		e.buf = make([]byte, windowSize)
	}
	e.old, e.from, e.buf, e.most, e.work = old, 0, e.buf[:0], windowLeast, work
}

// read returns n bytes of the old file, or fewer if it ends before. They are there until the next read.
func (e *edits) read(off int64, n int) ([]byte, error) {
	have := int64(len(e.buf))
	if off < e.from || off+int64(n) > e.from+have && e.from+have < e.old.size {
		if e.most *= 2; off < e.from || off > e.from+have+windowLeast {
			e.most = windowLeast
		}
		e.most = min(max(e.most, n+2*feedBefore), windowSize)
		e.from = max(0, off-2*feedBefore)
		e.buf = e.buf[:min(int64(e.most), e.old.size-e.from)]
		e.work(int64(len(e.buf)))
		if _, err := e.old.ReadAt(e.buf, e.from); err != nil {
			e.buf = e.buf[:0]
			return nil, err
		}
	}
	b := e.buf[min(off-e.from, int64(len(e.buf))):]
	return b[:min(n, len(b))], nil
}

// A key is a hash of 2*around bytes that can be moved on by a byte.
const keyBy = 0x9e3779b97f4a7c15

var keyOut = func() uint64 { // what a byte counts when it leaves
	x := uint64(1)
	for range 2 * around {
		x *= keyBy
	}
	return x
}()

func keyOf(b []byte) (h uint64) {
	for _, c := range b {
		h = h*keyBy + uint64(c) + 1
	}
	return h
}

// index is a key's place in the table, and check what is kept of it there.
func index(h uint64) uint64 {
	h ^= h >> 29
	return h * 0xbf58476d1ce4e5b9 >> (64 - placeBits)
}

func check(h uint64) uint32 { return uint32(h>>32) ^ uint32(h) }

// key is by what an edit at off is known again; ok is false at the ends of a file.
func (e *edits) key(off int64) (h uint64, ok bool, err error) {
	if off < around || off+around > e.old.size {
		return 0, false, nil
	}
	b, err := e.read(off-around, 2*around)
	if err != nil || len(b) < 2*around {
		return 0, false, err
	}
	return keyOf(b), true, nil
}

func (e *edits) get(i uint32) *edit { return &e.all[i&(1<<editBits-1)] }

// kept reports whether an edit is remembered still, and all of its bytes.
func (e *edits) kept(i uint32) bool {
	return i != e.count && e.count-i <= 1<<editBits && e.used-e.get(i).at <= editBytes-editMax
}

// find finds the edit that is known by a key: the expected one, or the last.
func (e *edits) find(h uint64) (uint32, bool) {
	if e.kept(e.next) && e.get(e.next).key == check(h) {
		return e.next, true
	}
	i := e.places[index(h)] - 1
	return i, i != ^uint32(0) && e.kept(i) && e.get(i).key == check(h)
}

// scan finds the first place from off on, and before end, where an edit is known.
func (e *edits) scan(off, end int64) (at int64, i uint32, ok bool, err error) {
	off, end = max(off, around), min(end, e.old.size-around+1)
	for off < end {
		b, err := e.read(off-around, windowSize/2)
		if err != nil || len(b) < 2*around {
			return 0, 0, false, err
		}
		h := keyOf(b[:2*around])
		for j := 2 * around; ; j++ {
			if i, ok := e.find(h); ok {
				return off, i, true, nil
			}
			if off++; j == len(b) || off >= end {
				break
			}
			h = h*keyBy + uint64(b[j]) + 1 - (uint64(b[j-2*around])+1)*keyOut
		}
	}
	return 0, 0, false, nil
}

// text is what an edit put in place.
func (e *edits) text(k *edit, b []byte) []byte {
	for j := range uint32(k.gap) {
		b = append(b, e.bytes[(k.at+j)%editBytes])
	}
	return b
}

// remember remembers the bytes of a gap.
func (e *edits) remember(b []byte) {
	for _, c := range b {
		e.bytes[e.used%editBytes] = c
		e.used++
	}
}

// is reports whether an edit is the step at hand, whose bytes come next but for those that are the same. left is how many
// bytes of the new file there are from the gap on.
func (e *edits) is(k *edit, s step, left int64, p port, b []byte) (bool, error) {
	if int64(k.gap) != s.gap || int64(k.skip) != s.skip && left > s.gap {
		return false, nil
	}
	got := b[:s.gap]
	if err := p.peek(s.same, got); err != nil {
		return false, err
	}
	return string(got) == string(e.text(k, nil)), nil
}
