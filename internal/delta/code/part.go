package code

import (
	"cmp"
	"slices"
)

// within reports whether a field lies in the file's bytes from `from` to `to`.
func (f Field) within(from, to int64) bool {
	return f.Kind < kinds && f.At >= from && f.At <= to-int64(f.Kind.width())
}

// insert adds a part, or what the parts there are have left of it.
func insert(parts []part, t part) []part {
	i := 0
	for t.from < t.to {
		for i < len(parts) && parts[i].to <= t.from {
			i++
		}
		rest := t
		if i < len(parts) {
			t.to = min(t.to, parts[i].from)
		}
		if t.from < t.to {
			parts = slices.Insert(parts, i, t)
			i++
		}
		if i == len(parts) {
			break
		}
		t = rest
		t.from = max(t.from, parts[i].to)
	}
	return parts
}

// each calls yield for the parts that have some of the bytes from `from` to `to`, and which they have.
func (p *Program) each(from, to int64, yield func(n int, from, to int64)) {
	n, _ := slices.BinarySearchFunc(p.parts, from+1, func(t part, from int64) int { return cmp.Compare(t.to, from) })
	for ; n < len(p.parts) && p.parts[n].from < to; n++ {
		yield(n, max(from, p.parts[n].from), min(to, p.parts[n].to))
	}
}

// Fields are found a chunk at a time, and some chunks remembered: copies that follow each other have often their bytes
// in the same one.
const (
	chunkSize = 1 << 10 // bytes of a part
	chunks    = 32
	overlap   = 8 // bytes behind a chunk in which its fields may end
)

// chunk is a piece of a part, with the fields that begin in it, sorted.
type chunk struct {
	part   int
	from   int64
	fields []Field // nil: the chunk is not used yet
}

// fields calls yield for the fields that lie whole in the file's bytes from `from` to `to`, which lie in part n.
func (p *Program) fields(n int, from, to int64, yield func(Field)) {
	begin := p.parts[n].from
	for at := from - (from-begin)%chunkSize; at < to; at += chunkSize {
		fields := p.chunk(n, at).fields
		i := 0
		if at < from {
			i, _ = slices.BinarySearchFunc(fields, from, func(f Field, from int64) int { return cmp.Compare(f.At, from) })
		}
		for ; i < len(fields); i++ {
			if fields[i].At+int64(fields[i].Kind.width()) <= to {
				yield(fields[i])
			} else if fields[i].At >= to {
				return
			}
		}
	}
}

// chunk returns the chunk of part n that begins at an offset. It is good until the next call.
func (p *Program) chunk(n int, at int64) *chunk {
	c := &p.chunks[at/chunkSize%chunks]
	if c.fields != nil && c.part == n && c.from == at {
		return c
	}
	t := &p.parts[n]
	*c = chunk{n, at, c.fields[:0]}
	if c.fields == nil {
		c.fields = make([]Field, 0, chunkSize/8)
	}
	end, sorted := min(at+chunkSize, t.to), true
	t.table.fields(at, min(end+overlap, t.to), func(f Field) {
		if f.At < end && f.within(at, t.to) && len(c.fields) < chunkSize {
			sorted = sorted && (len(c.fields) == 0 || c.fields[len(c.fields)-1].At <= f.At)
			c.fields = append(c.fields, f)
		}
	})
	if !sorted {
		slices.SortFunc(c.fields, func(a, b Field) int { return cmp.Compare(a.At, b.At) })
	}
	return c
}
