package code

import (
	"bytes"
	"debug/elf"
)

// golang is a program that the Go linker has made: the tables that its runtime finds functions and types by. What their
// fields mean is in Go's runtime/symtab.go, runtime/runtime2.go, internal/abi/type.go and cmd/link/internal/ld/pcln.go.
type golang struct {
	*frame
	since int   // the Go 1 version that the tables' form is of: 16, 18 or 20
	word  int64 // of an address, in bytes
	// What distances in code are counted in, in bytes.
	quantum uint64

	// Offsets in the file: of the table of functions, and of what it counts from.
	header, names, units, files, pcs, functions int64
	end                                         int64 // where the table ends, at the latest
	count                                       int64 // of the functions

	text   place   // what code is counted from
	starts *labels // of the functions' descriptions
	module module

	inlined inlinedFiles
}

// module is what the runtime knows of the whole program. Places are 0 if they are not known.
type module struct {
	types, typesEnd place
	rodata          place // what the descriptions of stacks count from
	funcdata        place // what functions count their data from
	buckets         place // the table that finds a function by its address
}

// The tables' first four bytes, by the version of Go that they came with.
var magics = map[uint32]int{0xfffffffa: 16, 0xfffffff0: 18, 0xfffffff1: 20}

// golangParts finds the tables of a Go program.
func golangParts(f *frame) []part {
	g := findGolang(f)
	if g == nil {
		return nil
	}
	g.prepare()
	parts := []part{
		{"go.header", g.header, g.header + 8 + 8*g.word, pclnHeader{g}},
		{"go.units", g.units, g.files, offsets{f, 4, g.place(g.files)}},
		{"go.functions", g.functions, g.functions + g.count*g.pair(), functionTable{g}},
	}
	if t, ok := newLineTables(g); ok {
		parts = append(parts, part{"go.lines", g.pcs, g.functions, t})
	}
	if g.starts != nil {
		parts = append(parts, part{"go.descriptions", g.starts.from, g.starts.to, descriptions{g}})
	}
	parts = append(parts, g.bucketPart()...)
	parts = append(parts, g.funcdataParts()...)
	parts = append(parts, g.typeParts()...)
	return parts
}

// prepare finds what is not in the table of functions, and what is in it.
func (g *golang) prepare() {
	g.findModule()
	if g.text == 0 {
		if s := g.section(".text"); s != nil {
			g.text = s.addr
		}
	}
	g.index()
	if g.since >= 20 {
		g.findInlined()
	}
}

// findGolang finds the table of functions: it has a section of its own, or lies in another one.
func findGolang(f *frame) *golang {
	named, known := false, false
	for i := range f.sections {
		switch s := &f.sections[i]; s.name {
		case ".gopclntab", ".data.rel.ro.gopclntab":
			if g := readGolang(f, s.from, s.to); g != nil {
				return g
			}
			known = true
		case ".go.buildinfo", ".note.go.buildid":
			known = true
		case "":
		default:
			named = true
		}
	}
	if named && !known {
		return nil
	}
	left := f.size // so that it takes no longer however often sections have the same bytes
	for i := range f.sections {
		s := &f.sections[i]
		if s.kind != elf.SHT_PROGBITS || s.flags&elf.SHF_ALLOC == 0 || left < s.to-s.from {
			continue
		}
		left -= s.to - s.from
		if g := scanGolang(f, s.from, s.to); g != nil {
			return g
		}
	}
	return nil
}

// scanGolang looks for a table of functions from `from` to `to`.
func scanGolang(f *frame, from, to int64) *golang {
	for from < to {
		b := f.at(from, int(min(to-from, pageSize/2)))
		if b == nil {
			return nil
		}
		for i := 0; i+8 <= len(b); {
			// All forms end alike, and after the magic two zero bytes follow.
			n := bytes.Index(b[i:], []byte{0xff, 0xff, 0xff, 0, 0})
			if n < 0 {
				break
			}
			if i += n; i > 0 && magics[le.Uint32(b[i-1:])] != 0 {
				if g := readGolang(f, from+int64(i)-1, to); g != nil {
					return g
				}
				if b = f.at(from, len(b)); b == nil {
					return nil
				}
			}
			i++
		}
		from += max(int64(len(b))-8, 1)
	}
	return nil
}

// readGolang reads the header of a table of functions; nil if it is none.
func readGolang(f *frame, from, to int64) *golang {
	b := f.at(from, 8)
	if b == nil || b[4] != 0 || b[5] != 0 || b[6] != 1 && b[6] != 2 && b[6] != 4 || int(b[7])*8 != f.class {
		return nil
	}
	g := &golang{frame: f, since: magics[le.Uint32(b)], word: int64(b[7]), quantum: uint64(b[6]), header: from, end: to}
	if g.since == 0 {
		return nil
	}
	at := from + 8
	next := func() uint64 {
		at += g.word
		return g.address(at - g.word)
	}
	count := next()
	next() // of the files
	if g.since >= 18 {
		g.text = next() // 0 since Go 1.26
	}
	for _, field := range []*int64{&g.names, &g.units, &g.files, &g.pcs, &g.functions} {
		off := next()
		if off >= uint64(to-from) {
			return nil
		}
		*field = from + int64(off)
	}
	if g.names < at || g.units < g.names || g.files < g.units || g.pcs < g.files || g.functions < g.pcs ||
		count == 0 || count >= uint64(to-g.functions)/uint64(g.pair()) {
		return nil
	}
	g.count = int64(count)
	return g
}

// pair is the size of an entry of the table of functions, in bytes.
func (g *golang) pair() int64 {
	if g.since < 18 {
		return 2 * g.word
	}
	return 8
}

// findModule finds the runtime's description of the program: it begins with the addresses of the table of functions and
// of the names in it.
func (g *golang) findModule() {
	first, second := g.place(g.header), g.place(g.names)
	left := 2 * g.size
	for _, name := range []string{".go.module", ".noptrdata", ".data", ""} {
		for i := range g.sections {
			s := &g.sections[i]
			if name != "" && s.name != name || s.kind != elf.SHT_PROGBITS || s.flags&elf.SHF_ALLOC == 0 || s.flags&elf.SHF_EXECINSTR != 0 || left < s.to-s.from {
				continue
			}
			left -= s.to - s.from
			at := s.from + int64(-s.addr&uint64(g.word-1))
			for ; at+2*g.word <= s.to && g.err == nil; at += g.word {
				if g.address(at) == first && g.address(at+g.word) == second {
					g.readModule(at)
					return
				}
			}
		}
	}
}

// readModule reads the runtime's description of the program, in the order of its words.
func (g *golang) readModule(at int64) {
	word := func(i int) place { return g.address(at + int64(i)*g.word) }
	i := 19 // after the header's address and six slices
	g.module.buckets = word(i)
	if text := word(i + 3); text != 0 {
		g.text = text
	}
	i += 13 // the bounds of the text, the data, and so on
	if g.since >= 20 {
		i += 2 // counters of coverage
	}
	i += 3
	if types, end := word(i), word(i+1); types < end {
		g.module.types, g.module.typesEnd = types, end
	}
	if g.since >= 18 {
		g.module.rodata, g.module.funcdata = word(i+2), word(i+3)
	}
}

// index finds the descriptions of the functions, and stops the table of functions where it is damaged: so that both its
// columns grow.
func (g *golang) index() {
	from := g.functions + g.count*g.pair() + g.pair()/2
	last, lastAt := uint64(0), int64(0)
	for i := range g.count {
		entry, at := g.function(i)
		if at = g.functions + at; entry < last || at <= lastAt || at < from || at >= g.end {
			g.count = i
			break
		}
		last, lastAt = entry, at
	}
	if g.starts = g.labels(from, min(g.end, lastAt+maxDescription)); g.starts == nil {
		return
	}
	for i := int64(0); i < g.count && g.err == nil; i++ {
		_, at := g.function(i)
		g.starts.put(g.functions+at, 1)
	}
	d, _ := g.describe(lastAt)
	g.starts.to = min(g.starts.to, max(d.end, from))
}

// function reads an entry of the table of functions: what says where the function begins, and where its description is,
// counted from the table.
func (g *golang) function(i int64) (entry uint64, at int64) {
	off := g.functions + i*g.pair()
	if g.since < 18 {
		return g.address(off), int64(min(g.address(off+g.word), maxSize))
	}
	return uint64(g.u32(off)), int64(g.u32(off + 4))
}

// pclnHeader is the beginning of the table of functions.
type pclnHeader struct{ *golang }

func (t pclnHeader) fields(from, to int64, yield func(Field)) {
	base := t.place(t.header)
	at := t.header + 8
	put := func(f Field) {
		if f.At = at; f.At >= from && f.At+t.word <= to {
			yield(f)
		}
		at += t.word
	}
	kind := t.addressKind()
	functions := t.place(t.functions)
	put(Field{Target: functions + uint64(t.address(at)*uint64(t.pair())), Base: functions, Unit: uint32(t.pair()), Kind: kind})
	at += t.word
	if t.since >= 18 {
		put(Field{Target: t.address(at), Kind: kind})
	}
	for range 5 {
		put(Field{Target: base + t.address(at), Base: base, Kind: kind})
	}
}

// functionTable is the table of functions: where each begins, and where its description is.
type functionTable struct{ *golang }

func (t functionTable) fields(from, to int64, yield func(Field)) {
	size, base := t.pair(), t.place(t.functions)
	kind, text := Word32, t.text
	if t.since < 18 {
		kind, text = t.addressKind(), 0
	}
	for i := max(from-t.functions, 0) / size; i < t.count; i++ {
		at := t.functions + i*size
		if at >= to {
			break
		}
		entry, off := t.function(i)
		if at >= from && at+size/2 <= to && t.text != 0 {
			yield(Field{At: at, Target: text + entry, Base: text, Kind: kind})
		}
		if at += size / 2; at >= from && at+size/2 <= to {
			yield(Field{At: at, Target: base + uint64(off), Base: base, Kind: kind})
		}
	}
}

// maxDescription is how long a function's description is taken for, at most.
const maxDescription = 4 << 10

// description is what is known of a function's description.
type description struct {
	at    int64 // an offset in the file, as those below
	entry place // 0 if it is not known
	tail  int64 // where the fields of fixed number end

	pcs           int64 // its tables by place in the code
	funcdata, end int64
}

// describe reads a function's description.
func (g *golang) describe(at int64) (d description, ok bool) {
	head := int64(4)
	if g.since < 18 {
		head = g.word
	}
	d = description{at: at, tail: at + head}
	d.pcs = at + head + 36
	if g.since >= 20 {
		d.pcs += 4
	}
	limit := min(g.starts.next(at+4, at+maxDescription), g.starts.to)
	if d.pcs > limit {
		return d, false
	}
	if entry := g.address(at); head == 8 || g.word == 4 && g.since < 18 {
		d.entry = entry
	} else if g.text != 0 {
		d.entry = g.text + uint64(g.u32(at))
	}
	d.funcdata = min(d.pcs+int64(g.u32(d.tail+24))*4, limit)
	unit := int64(4)
	if g.since < 18 {
		unit = g.word
		d.funcdata += -(d.funcdata - g.functions) & (g.word - 1)
	}
	count := int64(0)
	if b := g.at(d.pcs-1, 1); b != nil {
		count = int64(b[0])
	}
	d.end = min(d.funcdata+count*unit, limit)
	return d, true
}

// data returns where the n-th data of a function are.
func (g *golang) data(d description, n int64) (place, bool) {
	if g.since < 18 {
		if at := d.funcdata + n*g.word; at+g.word <= d.end {
			p := g.address(at)
			return p, p != 0
		}
		return 0, false
	}
	at := d.funcdata + n*4
	if at+4 > d.end || g.module.funcdata == 0 || g.u32(at) == 1<<32-1 {
		return 0, false
	}
	return g.module.funcdata + uint64(g.u32(at)), true
}

// descriptions are those of the functions.
type descriptions struct{ *golang }

func (t descriptions) fields(from, to int64, yield func(Field)) {
	names, units, pcs := t.place(t.names), t.place(t.units), t.place(t.pcs)
	emit := func(f Field, size int64) {
		if f.At >= from && f.At+size <= to {
			yield(f)
		}
	}
	for at := t.starts.last(from+1, from-maxDescription); at < to; at = t.starts.next(at+4, to) {
		if t.starts.get(at) == 0 {
			continue
		}
		d, ok := t.describe(at)
		if !ok {
			continue
		}
		table := func(at int64) {
			if v := t.u32(at); v != 0 {
				emit(Field{At: at, Target: pcs + uint64(v), Base: pcs, Kind: Word32}, 4)
			}
		}
		if t.since < 18 {
			emit(Field{At: at, Target: d.entry, Kind: t.addressKind()}, t.word)
		} else if d.entry != 0 {
			emit(Field{At: at, Target: d.entry, Base: t.text, Kind: Word32}, 4)
		}
		emit(Field{At: d.tail, Target: names + uint64(t.u32(d.tail)), Base: names, Kind: Word32}, 4)
		if v := t.u32(d.tail + 8); v != 0 && d.entry != 0 {
			emit(Field{At: d.tail + 8, Target: d.entry + uint64(v), Base: d.entry, Kind: Word32}, 4)
		}
		table(d.tail + 12)
		table(d.tail + 16)
		table(d.tail + 20)
		if v := t.u32(d.tail + 28); v != 1<<32-1 {
			emit(Field{At: d.tail + 28, Target: units + uint64(v)*4, Base: units, Unit: 4, Kind: Word32}, 4)
		}
		if t.since >= 20 {
			file := t.fileOf(d)
			emit(Field{At: d.tail + 32, Target: line(file, int64(t.u32(d.tail+32))), Base: line(file, 0), Kind: Word32}, 4)
		}
		for at := d.pcs; at+4 <= d.funcdata; at += 4 {
			table(at)
		}
		base, unit, kind := t.module.funcdata, int64(4), Word32
		if t.since < 18 {
			base, unit, kind = 0, t.word, t.addressKind()
		}
		for n := int64(0); d.funcdata+(n+1)*unit <= d.end; n++ {
			if p, ok := t.data(d, n); ok {
				emit(Field{At: d.funcdata + n*unit, Target: p, Base: base, Kind: kind}, unit)
			}
		}
	}
}

// offsets are numbers of four bytes that count from base.
type offsets struct {
	f    *frame
	skip int64 // from one to the next
	base place
}

func (t offsets) fields(from, to int64, yield func(Field)) {
	for at := (from + 3) &^ 3; at+4 <= to; at += t.skip {
		if v := t.f.u32(at); v != 1<<32-1 {
			yield(Field{At: at, Target: t.base + uint64(v), Base: t.base, Kind: Word32})
		}
	}
}
