package code

import (
	"cmp"
	"debug/elf"
	"slices"
)

// tables finds the tables of an ELF file that are not code: those of its linker and loader, and its pointers.
func tables(f *frame) []part {
	var parts []part
	word := int64(f.class / 8)
	unwinding, caught, gopclntab := f.section(".eh_frame"), f.section(".gcc_except_table"), f.section(".gopclntab")
	for i := range f.sections {
		s := &f.sections[i]
		if s.from == s.to {
			continue
		}
		var t table
		switch s.kind {
		case elf.SHT_RELA:
			if s.addr != 0 && f.class == 64 {
				r := relocations{f, f.linked(s)}
				t = relocationTable{records{s, 24, r.read}, r}
			}
		case elf.SHT_REL:
			if s.addr != 0 && f.class == 32 {
				t = records{s, 8, relocations{f, nil}.readShort}
			}
		case packedRelocations:
			t = records{s, word, packed{f}.read}
		case elf.SHT_DYNSYM, elf.SHT_SYMTAB:
			names := place(0)
			if strings := f.linked(s); strings != nil {
				names = f.place(strings.from)
			}
			t = symbolTable{records{s, map[int]int64{64: 24, 32: 16}[f.class], symbols{f, names}.read}, f, names}
		case elf.SHT_GNU_HASH:
			if symbols := f.linked(s); symbols != nil {
				t = hashTable{f, s, symbols}
			}
		case elf.SHT_DYNAMIC:
			t = records{s, 2 * word, dynamic{f}.read}
		case elf.SHT_INIT_ARRAY, elf.SHT_FINI_ARRAY, elf.SHT_PREINIT_ARRAY:
			t = addresses{f, word}
		case elf.SHT_PROGBITS, unwind:
			switch {
			case s.flags&elf.SHF_ALLOC == 0 || s.flags&elf.SHF_EXECINSTR != 0:
			case s.name == ".eh_frame_hdr":
				t = frameHeader{f, s}
			case s.name == ".eh_frame":
				if s != unwinding {
					continue
				}
				frames := newFrames(f, s)
				if frames == nil {
					continue
				}
				if caught != nil {
					parts = append(parts, frames.exceptions(caught)...)
				}
				t = frames
			case s.flags&elf.SHF_STRINGS != 0 || s.name == ".interp":
			case s.name == ".gcc_except_table": // it comes with .eh_frame
			case s.name == ".gopclntab" || s.name == ".data.rel.ro.gopclntab": // what has no fields for Go has none
			case s.flags&elf.SHF_WRITE == 0 && f.class == 64 && gopclntab == nil:
				t = readOnly{addresses{f, word}, s}
			default:
				t = addresses{f, word}
			}
		}
		if t != nil {
			parts = append(parts, part{s.name, s.from, s.to, t})
		}
	}
	return append(parts, f.headerParts()...)
}

// Types of sections that debug/elf has no names for.
const (
	packedRelocations elf.SectionType = 19         // SHT_RELR
	unwind            elf.SectionType = 0x70000001 // of .eh_frame, on x86-64
)

// linked returns the section that another one names as its companion, or nil.
func (f *frame) linked(s *section) *section {
	if s.link == 0 || int(s.link) >= len(f.sections) {
		return nil
	}
	return &f.sections[s.link]
}

// records are a section of records of one size.
type records struct {
	*section
	size int64
	read func(at int64, yield func(Field))
}

func (t records) fields(from, to int64, yield func(Field)) {
	for at := from - (from-t.from)%t.size; at < to && at+t.size <= t.to; at += t.size {
		t.read(at, yield)
	}
}

// relocations tell the loader what to write where. Those with a symbol count from that, the others are addresses.
type relocations struct {
	*frame
	symbols *section
}

func (t relocations) read(at int64, yield func(Field)) {
	yield(Field{At: at, Target: t.u64(at), Kind: Word64})
	if symbol := t.u32(at + 12); symbol == 0 {
		yield(Field{At: at + 16, Target: t.u64(at + 16), Kind: Word64})
	} else if t.symbols != nil {
		base := t.place(t.symbols.from)
		yield(Field{At: at + 12, Target: base + uint64(symbol)*24, Base: base, Unit: 24, Kind: Word32})
	}
}

// relocationTable is a table of relocations, which knows what is to be written to places.
type relocationTable struct {
	records
	of relocations
}

func (t relocationTable) named(yield func(p place, name uint64)) {
	if t.of.symbols == nil {
		return
	}
	f := t.of.frame
	strings := f.linked(t.of.symbols)
	if strings == nil {
		return
	}
	for i := range min((t.to-t.from)/t.size, maxNamed) {
		at := t.from + i*t.size
		if symbol := int64(f.u32(at + 12)); symbol != 0 {
			if name, ok := f.name(strings.from + int64(f.u32(t.of.symbols.from+symbol*24))); ok {
				yield(f.u64(at), name+2)
			}
		}
	}
}

func (t relocations) readShort(at int64, yield func(Field)) {
	yield(Field{At: at, Target: uint64(t.u32(at)), Kind: Word32})
}

// packed are relocations as addresses, and bits for what follows them.
type packed struct{ *frame }

func (t packed) read(at int64, yield func(Field)) {
	v, kind := t.u64(at), Word64
	if t.class == 32 {
		v, kind = uint64(t.u32(at)), Word32
	}
	if v&1 == 0 {
		yield(Field{At: at, Target: v, Kind: kind})
	}
}

// symbols are names with addresses and sizes.
type symbols struct {
	*frame
	names place // where the names are; 0 if that is not known
}

func (t symbols) read(at int64, yield func(Field)) {
	b := t.at(at, 16)
	if b == nil {
		return
	}
	info, index, kind, width := b[4], elf.SectionIndex(le.Uint16(b[6:])), Word64, int64(8)
	value := at + 8
	if t.class == 32 {
		info, index, kind, width = b[12], elf.SectionIndex(le.Uint16(b[14:])), Word32, 4
		value = at + 4
	}
	if name := t.u32(at); name != 0 && t.names != 0 {
		yield(Field{At: at, Target: t.names + uint64(name), Base: t.names, Kind: Word32})
	}
	if index == elf.SHN_UNDEF || index >= elf.SHN_LORESERVE || elf.SymType(info&15) == elf.STT_TLS {
		return
	}
	p := t.address(value)
	yield(Field{At: value, Target: p, Kind: kind})
	if size := t.address(value + width); size != 0 && elf.SymType(info&15) == elf.STT_FUNC {
		yield(Field{At: value + width, Target: p + size - 1, Base: p, Kind: map[Kind]Kind{Word64: Size64, Word32: Size32}[kind]})
	}
}

// symbolTable is a table of symbols, which knows what places are called.
type symbolTable struct {
	records
	*frame
	names place
}

// maxNamed is how many symbols are believed to have names.
const maxNamed = 1 << 19

func (t symbolTable) named(yield func(p place, name uint64)) {
	names, ok := t.offset(t.names)
	for i := range min((t.to-t.from)/t.records.size, maxNamed) {
		at := t.from + i*t.records.size
		name, known := t.name(names + int64(t.u32(at)))
		if !ok || !known {
			continue
		}
		yield(t.place(at), name)
		t.read(at, func(f Field) {
			if f.Kind == Word64 || f.Kind == Word32 && f.Base == 0 {
				yield(f.Target, name+1)
			}
		})
	}
}

// address reads a word of an address's size.
func (f *frame) address(off int64) uint64 {
	if f.class == 64 {
		return f.u64(off)
	}
	return uint64(f.u32(off))
}

// addressKind is how an address is written.
func (f *frame) addressKind() Kind {
	if f.class == 64 {
		return Word64
	}
	return Word32
}

// hashTable is the table by which the loader finds symbols: after a filter, for each hash the first symbol that has it.
type hashTable struct {
	*frame
	*section
	symbols *section
}

func (t hashTable) fields(from, to int64, yield func(Field)) {
	first := t.section.from
	buckets := first + 16 + int64(t.u32(first+8))*int64(t.class/8)
	end := min(buckets+4*int64(t.u32(first)), t.section.to)
	unit := map[int]uint32{64: 24, 32: 16}[t.class]
	base := t.place(t.symbols.from)
	for at := max(buckets, buckets+(from-buckets)&^3); at+4 <= min(to, end); at += 4 {
		if v := t.u32(at); v != 0 {
			yield(Field{At: at, Target: base + uint64(v)*uint64(unit), Base: base, Unit: unit, Kind: Word32})
		}
	}
}

// dynamic is what the loader is told, as pairs of a tag and a word.
type dynamic struct{ *frame }

func (t dynamic) read(at int64, yield func(Field)) {
	word := int64(t.class / 8)
	v := t.address(at + word)
	switch elf.DynTag(t.address(at)) {
	case elf.DT_PLTGOT, elf.DT_HASH, elf.DT_STRTAB, elf.DT_SYMTAB, elf.DT_RELA, elf.DT_REL, 36, elf.DT_JMPREL,
		elf.DT_INIT, elf.DT_FINI, elf.DT_INIT_ARRAY, elf.DT_FINI_ARRAY, elf.DT_PREINIT_ARRAY,
		elf.DT_GNU_HASH, elf.DT_VERSYM, elf.DT_VERDEF, elf.DT_VERNEED:
		yield(Field{At: at + word, Target: v, Kind: t.addressKind()})
	}
}

// addresses are words that are addresses if they look it: aligned, and inside of the program.
type addresses struct {
	*frame
	word int64 // the size of an address, in bytes
}

func (t addresses) fields(from, to int64, yield func(Field)) {
	kind := t.addressKind()
	for at := from + -from&(t.word-1); at+t.word <= to; {
		b := t.at(at, int(min(to-at, pageSize/2)))
		if b == nil {
			return
		}
		for ; int64(len(b)) >= t.word; b, at = b[t.word:], at+t.word {
			v := uint64(le.Uint32(b))
			if t.word == 8 {
				v = le.Uint64(b)
			}
			if t.pointer(v) {
				yield(Field{At: at, Target: v, Kind: kind})
			}
		}
	}
}

// lowest is the lowest address that is believed to be one.
const lowest = 4096

// pointer reports whether a word may be an address.
func (f *frame) pointer(v uint64) bool {
	if v < lowest || v >= maxPlace {
		return false
	}
	for i := range f.loads {
		if s := &f.loads[i]; v >= s.addr && v-s.addr <= s.size {
			return true
		}
	}
	return false
}

// readOnly are constants: addresses, unless a loader would have to fill them in, and the distances to code that switches
// jump by.
type readOnly struct {
	addresses
	*section
}

// A switch has several cases, all in one function.
const (
	jumpNear = 1 << 16 // how far cases are from each other at most, in bytes
	jumpFar  = 1 << 10 // how far they are from the table at least
)

func (t readOnly) fields(from, to int64, yield func(Field)) {
	last, is := t.jump(from + -from&3 - 4)
	for at := from + -from&3; at+4 <= to; at += 4 {
		before, was := last, is
		last, is = t.jump(at)
		if at&7 == 0 && t.frame.kind == elf.ET_EXEC {
			if v := t.u64(at); t.pointer(v) {
				yield(Field{At: at, Target: v, Kind: Word64})
				at += 4
				is = false
				continue
			}
		}
		if !is {
			continue
		}
		next, more := t.jump(at + 4)
		if was && near(before, last) || more && near(last, next) {
			yield(Field{At: at, Target: last, Base: t.place(at), Kind: Here32})
		}
	}
}

// near reports whether two places may be cases of one switch.
func near(a, b place) bool { return a-b < jumpNear || b-a < jumpNear }

// jump is where the distance at an offset leads to; ok is false if there is no code.
func (t readOnly) jump(at int64) (p place, ok bool) {
	if at < t.section.from || at+4 > t.section.to {
		return 0, false
	}
	v := int64(int32(t.u32(at)))
	p = t.place(at) + uint64(v)
	return p, (v >= jumpFar || v <= -jumpFar) && t.code(p)
}

// code reports whether there is code at an address.
func (f *frame) code(v uint64) bool {
	for i := range f.loads {
		if s := &f.loads[i]; s.execute && v >= s.addr && v-s.addr < s.size {
			return true
		}
	}
	return false
}

// headerParts are the file's headers.
func (f *frame) headerParts() []part {
	header := map[int]int64{64: 64, 32: 52}[f.class]
	parts := []part{{"header", 0, header, programHeader{f}}}
	if h := f.segmentsAt; h.n > 0 {
		parts = append(parts, part{"segments", int64(h.at), int64(h.at) + h.n*h.unit, segmentHeaders{f}})
	}
	if h := f.sectionsAt; h.n > 0 {
		parts = append(parts, part{"sections", int64(h.at), int64(h.at) + h.n*h.unit, sectionHeaders{f}})
	}
	return parts
}

// programHeader is the beginning of the file: where it starts running, and where its headers are.
type programHeader struct{ *frame }

func (t programHeader) fields(from, to int64, yield func(Field)) {
	word, kind := int64(t.class/8), t.addressKind()
	yield(Field{At: 24, Target: t.address(24), Kind: kind})
	for at := 24 + word; at < 24+3*word; at += word {
		if v := t.address(at); v != 0 {
			yield(Field{At: at, Target: unloaded + v, Base: unloaded, Kind: kind})
		}
	}
}

// sectionHeaders say where the sections are.
type sectionHeaders struct{ *frame }

func (t sectionHeaders) fields(from, to int64, yield func(Field)) {
	word, kind := int64(t.class/8), t.addressKind()
	for i := t.sectionsAt.index(from); i < t.sectionsAt.n && int64(t.sectionsAt.at)+i*t.sectionsAt.unit < to; i++ {
		at, s, n := int64(t.sectionsAt.at)+i*t.sectionsAt.unit+8+word, &t.sections[i], place(i)
		if s.addr != 0 {
			yield(Field{At: at, Target: markAddr + n, Kind: kind})
		}
		// A section that is not believed has none of what its header says.
		if int64(t.address(at+word)) == s.from && t.address(at+2*word) == s.size {
			yield(Field{At: at + word, Target: markOffset + n, Base: unloaded, Kind: kind})
			yield(Field{At: at + 2*word, Target: markEnd + n, Base: markAddr + n, Kind: kind})
		}
	}
}

// segmentHeaders say what of the file is loaded where.
type segmentHeaders struct{ *frame }

func (t segmentHeaders) fields(from, to int64, yield func(Field)) {
	kind := t.addressKind()
	for i := t.segmentsAt.index(from); i < t.segmentsAt.n; i++ {
		at := int64(t.segmentsAt.at) + i*t.segmentsAt.unit
		if at >= to {
			return
		}
		off, addr, physical, size, memory := at+8, at+16, at+24, at+32, at+40
		if t.class == 32 {
			off, addr, physical, size, memory = at+4, at+8, at+12, at+16, at+20
		}
		begins := t.address(addr)
		base := t.edge(begins)
		yield(Field{At: off, Target: t.start(int64(t.address(off))), Base: unloaded, Kind: kind})
		yield(Field{At: addr, Target: base, Kind: kind})
		if t.address(physical) == begins {
			yield(Field{At: physical, Target: base, Kind: kind})
		}
		for _, at := range []int64{size, memory} {
			if v := t.address(at); v != 0 {
				yield(Field{At: at, Target: t.edge(begins + v), Base: base, Kind: kind})
			}
		}
	}
}

// edge is the mark of the section that begins or ends at an address, or else the address.
func (f *frame) edge(p place) place {
	n, begins := slices.BinarySearchFunc(f.memory, p, func(i int, p place) int { return cmp.Compare(f.sections[i].addr, p) })
	if begins {
		return markAddr + place(f.memory[n])
	}
	n, ends := slices.BinarySearchFunc(f.ends, p, func(i int, p place) int { return cmp.Compare(f.end(i), p) })
	if ends {
		return markEnd + place(f.ends[n])
	}
	return p
}

// start is the mark of the section that begins at an offset of the file, or else the place there.
func (f *frame) start(off int64) place {
	for i := range f.sections {
		if s := &f.sections[i]; s.from == off && s.to > s.from {
			return markOffset + place(i)
		}
	}
	return unloaded + uint64(off)
}
