package code

import "sort"

// computed is a table that its fields do not say all of: what it holds follows from where everything is now. foretell
// predicts b, which is what the old file has from `from` on; its first byte is now at a place. kinds, as long, becomes
// what each byte is.
type computed interface {
	foretell(m *moves, from int64, now place, b, kinds []byte)
}

// buckets are the table by which a function is found: for every 4096 bytes of code the number of the function that they
// begin in, and for each sixteenth of them how many functions later that begins.
type buckets struct{ *golang }

const (
	bucketCode  = 4096 // how much code a bucket is about, in bytes
	bucketParts = 16
	bucketSize  = 4 + bucketParts
	// How many functions are looked at in a piece to find those of its buckets, and how many more for each of its bytes.
	bucketSteps     = 128
	bucketStepsMore = 4
)

// bucketPart finds the table.
func (g *golang) bucketPart() []part {
	from, ok := g.offset(g.module.buckets)
	if !ok || g.since < 18 || g.text == 0 || g.count == 0 {
		return nil
	}
	entry, _ := g.function(g.count - 1)
	size := (int64(entry)/bucketCode + 1) * bucketSize
	for _, s := range g.loads {
		if from >= s.from && from < s.to {
			return []part{{"go.buckets", from, min(from+size, s.to), buckets{g}}}
		}
	}
	return nil
}

// fields are what the table is recognized by, where it is; the rest follows from it.
func (t buckets) fields(from, to int64, yield func(Field)) {
	begin, _ := t.offset(t.module.buckets)
	base := t.place(t.functions)
	for at := from - (from-begin)%bucketSize; at < to; at += bucketSize {
		if n := int64(t.u32(at)); n < t.count {
			yield(Field{At: at, Target: base + uint64(n*t.pair()), Base: base, Unit: uint32(t.pair()), Kind: Word32})
		}
	}
}

func (t buckets) foretell(m *moves, from int64, now place, b, kinds []byte) {
	off := int64(now - m.now(t.module.buckets))
	text, functions := m.now(t.text), m.now(t.place(t.functions))
	n := int64(-1) // the function found last
	steps := bucketSteps + bucketStepsMore*len(b)
	base := uint64(0)
	of := int64(-1) // the bucket that base is of
	for i := 0; i < len(b); i++ {
		at := off + int64(i)
		if at < 0 {
			continue
		}
		bucket, within := at/bucketSize, at%bucketSize
		if bucket != of {
			n, of = t.covering(m, text+uint64(bucket)*bucketCode, n, &steps), bucket
			base = (m.now(t.place(t.functions+n*t.pair())) - functions) / uint64(t.pair())
		}
		kinds[i] = Operand
		if within < 4 {
			b[i] = byte(base >> (8 * within))
			kinds[i] += byte(within)
			continue
		}
		n = t.covering(m, text+uint64(bucket)*bucketCode+uint64(within-4)*(bucketCode/bucketParts), n, &steps)
		b[i] = byte((m.now(t.place(t.functions+n*t.pair()))-functions)/uint64(t.pair()) - base)
	}
}

// covering returns the function that is at a place of the new program, looking from the n-th on, if that is one, and no
// further than there are steps left.
func (t buckets) covering(m *moves, p place, n int64, steps *int) int64 {
	now := func(i int64) place {
		entry, _ := t.function(i)
		return m.now(t.text + entry)
	}
	if n < 0 {
		// What has moved past others is found by walking from where the others would have it.
		n = int64(sort.Search(int(t.count), func(i int) bool { return now(int64(i)) > p })) - 1
		n = max(n, 0)
	}
	for ; *steps > 0 && n+1 < t.count && now(n+1) <= p; *steps-- {
		n++
	}
	for ; *steps > 0 && n > 0 && now(n) > p; *steps-- {
		n--
	}
	return n
}
