package code

import (
	"cmp"
	"maps"
	"slices"
	"sort"

	"github.com/dunlin/dunlin/internal/delta/entropy"
)

// Lines of source code move as addresses do, if some are added above them; so a line is a place too: linePlaces, the file
// that it is in, which is an offset of the program's table of files, and its number plus one. Where they are now is told
// in the layout.
const (
	linePlaces place = maxPlace | 1<<61
	maxFile          = 1<<29 - 1
)

// line is a line of source code as a place, counted from line 0 of the same file.
func line(file uint32, number int64) place {
	return linePlaces | uint64(file&maxFile)<<32 | uint64(uint32(number+1))
}

// isLine reports whether a place is a line.
func isLine(p place) bool { return p >= linePlaces && p < unloaded }

// stays reports whether a field is more often what it was than not: lines, and distances within a function. Such tell one
// piece of a table from another.
func (f Field) stays() bool { return f.Kind >= Turn1 || isLine(f.Target) }

// hunk says how far lines have moved, from one on up to the next hunk or the end of its file.
type hunk struct {
	file, line uint32 // of the old program; line is a number plus one
	shift      int32
}

const maxHunks = 1 << 14

// hunks are sorted by file and line.
type hunks []hunk

// now is the number of a line, plus one, in the new program.
func (h hunks) now(p place) place {
	file, number := uint32(p>>32)&maxFile, uint32(p)
	n := sort.Search(len(h), func(i int) bool {
		return h[i].file > file || h[i].file == file && h[i].line > number
	})
	if n == 0 || h[n-1].file != file {
		return uint64(number)
	}
	return uint64(max(int64(number)+int64(h[n-1].shift), 0))
}

// code writes or reads them, of which there are no more than most.
func (h hunks) code(c *entropy.Coder, most int) hunks {
	if most == 0 {
		return nil
	}
	var m struct{ count, file, line, first, shift entropy.Number }
	n := int(min(c.Number(&m.count, uint64(len(h))), uint64(most)))
	last := hunk{}
	for i := range n {
		if c.Reading() {
			h = append(h, hunk{})
		}
		x := &h[i]
		if x.file = last.file + uint32(c.Number(&m.file, uint64(x.file-last.file))); x.file != last.file || i == 0 {
			last = hunk{file: x.file}
			x.line = uint32(c.Number(&m.first, uint64(x.line)))
		} else {
			x.line = last.line + uint32(c.Number(&m.line, uint64(x.line-last.line)))
		}
		x.shift = last.shift + int32(c.Signed(&m.shift, int64(x.shift)-int64(last.shift)))
		last = *x
	}
	return h
}

// hunkGain is how many fields a hunk has to make right.
const hunkGain = 3

// findHunks finds how lines have moved, by what single fields say of it.
func findHunks(votes hunks, most int) hunks {
	slices.SortFunc(votes, func(a, b hunk) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.shift, b.shift))
	})
	var (
		kept    hunks
		current hunk // what holds if no other begins
		open    hunk // what may begin
		gain    int  // what the open one makes right
	)
	keep := func() {
		if gain >= hunkGain && len(kept) < most {
			kept, current = append(kept, open), open
		}
		gain = 0
	}
	for len(votes) > 0 {
		file, line := votes[0].file, votes[0].line
		if file != current.file || file != open.file {
			if keep(); file != current.file {
				current = hunk{file: file}
			}
		}
		n, right, follows := 0, 0, 0
		best, most := int32(0), 0
		for n < len(votes) && votes[n].file == file && votes[n].line == line {
			from, shift := n, votes[n].shift
			for n < len(votes) && votes[n].file == file && votes[n].line == line && votes[n].shift == shift {
				n++
			}
			if shift == current.shift {
				right = n - from
			}
			if gain > 0 && shift == open.shift {
				follows = n - from
			}
			if n-from > most {
				best, most = shift, n-from
			}
		}
		votes = votes[n:]
		if gain > 0 && follows > 0 && follows >= right {
			gain += follows - right
			continue
		}
		if gain > 0 {
			was := current.shift
			if keep(); current.shift != was {
				right = 0
				if best == current.shift {
					continue
				}
			}
		}
		if most > right && line > 1 {
			open, gain = hunk{file, line, best}, most-right
		}
	}
	keep()
	return kept
}

// pcTable reads a table by place in the code: values, each with where it ends.
type pcTable struct {
	g       *golang
	at, end int64
	value   int64
	pc      uint64 // where it ends, counted from the function
	started bool
	width   int // of the difference to the last value, in bytes
	step    int // of what the code is long that has it
}

// table returns the table at an offset; limit is where it ends at the latest.
func (g *golang) table(off uint32, limit int64) pcTable {
	return pcTable{g: g, at: g.pcs + int64(off), end: min(limit, g.functions), value: -1}
}

// next reads the next value.
func (t *pcTable) next() bool {
	b := t.g.at(t.at, int(min(20, max(t.end-t.at, 0))))
	v, n := varint(b)
	if n == 0 || v == 0 && t.started {
		return false
	}
	pc, m := varint(b[n:])
	if m == 0 {
		return false
	}
	t.value += int64(v>>1) ^ -int64(v&1)
	t.pc += pc * t.g.quantum
	t.at += int64(n + m)
	t.width, t.step, t.started = n, m, true
	return true
}

// varint reads a number of at most 32 bits in groups of seven; n is 0 if there is none.
func varint(b []byte) (v uint64, n int) {
	for i := 0; i < len(b) && i < 5; i++ {
		v |= uint64(b[i]&127) << (7 * i)
		if b[i] < 128 {
			return uint64(uint32(v)), i + 1
		}
	}
	return 0, 0
}

// file is the file of a value in a function's table of files; ok is false if there is none.
func (g *golang) file(d description, value int64) (uint32, bool) {
	unit := g.u32(d.tail + 28)
	if value < 0 || unit == 1<<32-1 || value > maxFile {
		return 0, false
	}
	at := g.units + (int64(unit)+value)*4
	if at >= g.files {
		return 0, false
	}
	off := g.u32(at)
	return off, off <= maxFile
}

// fileOf is the file that a function begins in.
func (g *golang) fileOf(d description) uint32 {
	if off := g.u32(d.tail + 16); off != 0 {
		if t := g.table(off, g.functions); t.next() {
			file, _ := g.file(d, t.value)
			return file
		}
	}
	return 0
}

// inlinedFiles are the files of functions that were inlined somewhere, by where their names are.
type inlinedFiles []struct{ name, file uint32 }

func (s inlinedFiles) file(name uint32) (uint32, bool) {
	n := sort.Search(len(s), func(i int) bool { return s[i].name >= name })
	if n == len(s) || s[n].name != name {
		return 0, false
	}
	return s[n].file, true
}

const (
	pcInlined  = 2 // which of a function's tables tells what was inlined there
	maxInlined = 1 << 15
	stepBytes  = 16 // bytes of the program for each step to find what was inlined
)

// findInlined finds the files of inlined functions.
func (g *golang) findInlined() {
	all := map[uint32]uint32{}
	steps := g.size / stepBytes
	g.eachDescription(func(d description) {
		g.eachInlined(d, &steps, func(at int64, file uint32) {
			name := g.u32(at + 4)
			if was, ok := all[name]; ok && file < was || !ok && len(all) < maxInlined {
				all[name] = file
			}
		})
	})
	if !g.take(int64(len(all)) * 8) {
		return
	}
	g.inlined = make(inlinedFiles, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		g.inlined = append(g.inlined, struct{ name, file uint32 }{name, all[name]})
	}
}

// eachInlined calls yield for the calls that were inlined in a function, and the file of what is called: the one that the
// code is of where no deeper call is. It takes so many steps at most.
func (g *golang) eachInlined(d description, steps *int64, yield func(at int64, file uint32)) {
	data, ok := g.data(d, dataInlined)
	first, in := g.offset(data)
	table := d.pcs + 4*pcInlined
	if !ok || !in || table+4 > d.funcdata || g.u32(table) == 0 || g.u32(d.tail+16) == 0 {
		return
	}
	calls, files := g.table(g.u32(table), g.functions), g.table(g.u32(d.tail+16), g.functions)
	for highest := int64(-1); *steps > 0; *steps-- {
		begin := calls.pc
		if !calls.next() {
			return
		}
		for *steps > 0 && files.pc <= begin && files.next() {
			*steps--
		}
		if calls.value <= highest || calls.value > maxDescription {
			continue
		}
		highest = calls.value
		if file, ok := g.file(d, files.value); ok {
			yield(first+highest*sizeInlined, file)
		}
	}
}
