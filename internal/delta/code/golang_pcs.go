package code

import (
	"math/bits"
	"slices"
)

// lineTables are the tables that tell the line for each place in the code, among those that tell other things. Tables that
// are alike are there once, in the order of the functions that they come in first.
type lineTables struct {
	*golang
	newer  []uint64  // a bit for each function: it has a table that begins after all of those before it
	blocks []pcBlock // of pcBlockSize bytes each
}

// pcBlock says where reading a piece of the tables begins.
type pcBlock struct {
	function uint32 // the first that has the last table that begins before the block, or with it
	last     uint32 // the last table that functions before that one have
}

const (
	pcBlockSize = chunkSize
	maxTable    = 4 << 10 // of a table, the bytes that are read
	maxFurther  = 6       // of a function's further tables, those that are read
	maxOwners   = 64      // functions whose tables are read for a chunk
	maxPassed   = 1 << 16 // functions that are passed over meanwhile
)

// newLineTables finds the tables; ok is false if there are none, or it would take too much memory.
func newLineTables(g *golang) (t lineTables, ok bool) {
	n := int((g.functions-g.pcs)/pcBlockSize + 1)
	if g.since < 20 || g.starts == nil || !g.take(int64(n)*8+(g.count/64+1)*8) {
		return t, false
	}
	t = lineTables{g, make([]uint64, g.count/64+1), make([]pcBlock, 0, n)}
	var (
		tables []uint32
		of     pcBlock
		last   uint32
	)
	for i := int64(0); i < g.count && g.err == nil; i++ {
		d, ok := t.describeFunction(i)
		if !ok {
			continue
		}
		if tables = t.tables(d, tables[:0]); slices.Max(tables) <= last {
			continue
		}
		t.newer[i/64] |= 1 << (i % 64)
		slices.Sort(tables)
		before := last
		for _, off := range tables {
			if off <= last {
				continue
			}
			for len(t.blocks) < n && int64(len(t.blocks))*pcBlockSize < int64(off) {
				t.blocks = append(t.blocks, of)
			}
			of, last = pcBlock{uint32(i), before}, off
		}
	}
	for len(t.blocks) < n {
		t.blocks = append(t.blocks, of)
	}
	return t, true
}

// describeFunction reads the description of the i-th function.
func (g *golang) describeFunction(i int64) (description, bool) {
	_, at := g.function(i)
	return g.describe(g.functions + at)
}

// tables adds the tables by place in the code of a function.
func (g *golang) tables(d description, out []uint32) []uint32 {
	out = append(out, g.u32(d.tail+12), g.u32(d.tail+16), g.u32(d.tail+20))
	for at := d.pcs; at+4 <= min(d.funcdata, d.pcs+4*maxFurther); at += 4 {
		out = append(out, g.u32(at))
	}
	return out
}

// next returns the first function from i on, but before end, that has newer tables; end if there is none.
func (t lineTables) next(i, end int64) int64 {
	for ; i < end; i = (i/64 + 1) * 64 {
		if rest := t.newer[i/64] >> (i % 64); rest != 0 {
			return min(i+int64(bits.TrailingZeros64(rest)), end)
		}
	}
	return end
}

func (t lineTables) fields(from, to int64, yield func(Field)) {
	block := t.blocks[(from-t.pcs)/pcBlockSize]
	last, first := block.last, int64(block.function)
	chunks := max((to-from-overlap+chunkSize-1)/chunkSize, 1) // that are asked for: one, but by tests
	end := min(t.count, first+maxPassed*chunks)
	// A table is read when it is known where the next one begins.
	var (
		of     description
		at     uint32
		buf    [3 + maxFurther]uint32
		tables = buf[:0]
	)
	owners := maxOwners * chunks
	for i := t.next(first, end); i < end; i = t.next(i+1, end) {
		if owners--; owners < 0 {
			return
		}
		d, ok := t.describeFunction(i)
		if !ok {
			continue
		}
		tables = t.tables(d, tables[:0])
		slices.Sort(tables)
		for _, off := range tables {
			if off <= last {
				continue
			}
			last = off
			if at != 0 {
				t.read(of, at, t.pcs+int64(off), from, to, yield)
			}
			if t.pcs+int64(off) >= to {
				return
			}
			of, at = d, off
		}
	}
	if at != 0 && end == t.count {
		t.read(of, at, t.functions, from, to, yield)
	}
}

// read yields the fields of one table, as far as they begin before `to`; limit is where the next table begins.
func (t lineTables) read(d description, off uint32, limit, from, to int64, yield func(Field)) {
	if limit = min(limit, t.pcs+int64(off)+maxTable); limit <= from {
		return
	}
	if off == t.u32(d.tail+20) {
		t.lines(d, off, limit, to, yield)
		return
	}
	for r := t.table(off, limit); r.at < to; {
		begin := r.pc
		if !r.next() {
			return
		}
		t.step(d, &r, begin, yield)
	}
}

// step yields how long the code is that has a value.
func (t lineTables) step(d description, r *pcTable, begin uint64, yield func(Field)) {
	if r.step <= 3 && d.entry != 0 {
		yield(Field{At: r.at - int64(r.step), Target: d.entry + r.pc, Base: d.entry + begin, Unit: uint32(t.quantum), Kind: Step1 + Kind(r.step-1)})
	}
}

// lines yields the fields of a table of lines.
func (t lineTables) lines(d description, off uint32, limit, to int64, yield func(Field)) {
	lines, files := t.table(off, limit), t.table(t.u32(d.tail+16), t.functions)
	base, known, ahead := place(0), true, 4
	of, file, ok := files.value, uint32(0), false // the file of a value, and before all there is none
	for lines.at < to {
		at, begin := lines.at, lines.pc
		if !lines.next() {
			return
		}
		// A file is hardly ever told without a line.
		for ahead++; ahead > 0 && files.pc <= begin && files.next(); ahead-- {
		}
		if files.value != of {
			of = files.value
			file, ok = t.file(d, of)
		}
		now := line(file, lines.value)
		if base == 0 {
			base = line(file, -1)
		}
		if ok && known && lines.width <= 3 && lines.value >= 0 {
			yield(Field{At: at, Target: now, Base: base, Kind: Turn1 + Kind(lines.width-1)})
		}
		t.step(d, &lines, begin, yield)
		base, known = now, ok
	}
}
