package code

import (
	"bytes"
	"cmp"
	"debug/elf"
	"slices"
)

// Bounds of what is believed of a program's headers.
const (
	maxSections = 128
	maxSegments = 64
	maxLoads    = 16
	maxName     = 64
	maxSize     = 3 << 30   // of a file, in bytes: keys have 32 bits
	maxTail     = 256 << 20 // of memory that has no bytes in the file
	maxPlace    = 1 << 62   // above are marks
)

// readFrame reads the outline of an ELF file; nil if it is none, or of no use.
func readFrame(v *view) (*frame, error) {
	if v.size < 64 || v.size > maxSize {
		return nil, nil
	}
	f := &frame{view: v}
	h := slices.Clone(f.at(0, 64))
	if h == nil {
		return nil, f.err
	}
	f.kind, f.machine = elf.Type(le.Uint16(h[16:])), elf.Machine(le.Uint16(h[18:]))
	if string(h[:4]) != elf.ELFMAG || elf.Data(h[elf.EI_DATA]) != elf.ELFDATA2LSB || f.kind != elf.ET_EXEC && f.kind != elf.ET_DYN {
		return nil, nil
	}
	names := 0
	switch elf.Class(h[elf.EI_CLASS]) {
	case elf.ELFCLASS64:
		f.class = 64
		f.segmentsAt = headers{le.Uint64(h[32:]), int64(le.Uint16(h[54:])), int64(le.Uint16(h[56:]))}
		f.sectionsAt = headers{le.Uint64(h[40:]), int64(le.Uint16(h[58:])), int64(le.Uint16(h[60:]))}
		names = int(le.Uint16(h[62:]))
	case elf.ELFCLASS32:
		f.class = 32
		f.segmentsAt = headers{uint64(le.Uint32(h[28:])), int64(le.Uint16(h[42:])), int64(le.Uint16(h[44:]))}
		f.sectionsAt = headers{uint64(le.Uint32(h[32:])), int64(le.Uint16(h[46:])), int64(le.Uint16(h[48:]))}
		names = int(le.Uint16(h[50:]))
	default:
		return nil, nil
	}
	f.readSegments()
	f.readSections(names)
	if f.err != nil || len(f.loads) == 0 {
		return nil, f.err
	}
	f.arrange()
	return f, nil
}

// headers are a table of headers in a file.
type headers struct {
	at   uint64
	unit int64
	n    int64
}

// index is the number of the header that a byte of the file, not before the first, lies in.
func (h headers) index(off int64) int64 { return (off - int64(h.at)) / h.unit }

// header returns the i-th header; nil if it is not in the file.
func (f *frame) header(h headers, i int64) []byte {
	if h.at > maxSize || i >= h.n {
		return nil
	}
	return f.at(int64(h.at)+i*h.unit, int(h.unit))
}

// readSegments reads the program headers.
func (f *frame) readSegments() {
	if f.segmentsAt.n > maxSegments || f.segmentsAt.unit != map[int]int64{64: 56, 32: 32}[f.class] {
		f.segmentsAt.n = 0
	}
	for i := range f.segmentsAt.n {
		h := f.header(f.segmentsAt, i)
		if h == nil {
			f.segmentsAt.n = i
			break
		}
		s, from, size := segment{}, uint64(0), uint64(0)
		kind, flags := elf.ProgType(le.Uint32(h)), uint32(0)
		if f.class == 64 {
			flags, from, s.addr, size, s.size = le.Uint32(h[4:]), le.Uint64(h[8:]), le.Uint64(h[16:]), le.Uint64(h[32:]), le.Uint64(h[40:])
		} else {
			flags, from, s.addr, size, s.size = le.Uint32(h[24:]), word(h[4:]), word(h[8:]), word(h[16:]), word(h[20:])
		}
		if kind != elf.PT_LOAD || s.size == 0 || s.addr >= maxPlace || s.size >= maxPlace ||
			from > uint64(f.size) || size > uint64(f.size)-from || size > s.size {
			continue
		}
		s.from, s.to = int64(from), int64(from+size)
		s.execute = flags&uint32(elf.PF_X) != 0
		f.loads = append(f.loads, s)
	}
	slices.SortStableFunc(f.loads, func(a, b segment) int { return cmp.Compare(a.addr, b.addr) })
	kept := f.loads[:0]
	for _, s := range f.loads {
		if n := len(kept); n == 0 || kept[n-1].addr+kept[n-1].size <= s.addr {
			kept = append(kept, s)
		}
	}
	f.loads = kept[:min(len(kept), maxLoads)]
}

func word(b []byte) uint64 { return uint64(le.Uint32(b)) }

// readSections reads the section headers. If there are none, segments stand in for them.
func (f *frame) readSections(names int) {
	if f.sectionsAt.n > maxSections || f.sectionsAt.unit != map[int]int64{64: 64, 32: 40}[f.class] {
		f.sectionsAt.n = 0
	}
	var name []uint32
	for i := range f.sectionsAt.n {
		h := f.header(f.sectionsAt, i)
		if h == nil {
			f.sectionsAt.n = i
			break
		}
		s, from := section{kind: elf.SectionType(le.Uint32(h[4:]))}, uint64(0)
		if f.class == 64 {
			s.flags, s.addr, from, s.size = elf.SectionFlag(le.Uint64(h[8:])), le.Uint64(h[16:]), le.Uint64(h[24:]), le.Uint64(h[32:])
			s.link, s.info, s.align, s.unit = le.Uint32(h[40:]), le.Uint32(h[44:]), le.Uint64(h[48:]), le.Uint64(h[56:])
		} else {
			s.flags, s.addr, from, s.size = elf.SectionFlag(word(h[8:])), word(h[12:]), word(h[16:]), word(h[20:])
			s.link, s.info, s.align, s.unit = le.Uint32(h[24:]), le.Uint32(h[28:]), word(h[32:]), word(h[36:])
		}
		empty := s.kind == elf.SHT_NOBITS || s.kind == elf.SHT_NULL
		if s.addr >= maxPlace || s.size >= maxPlace || from > uint64(f.size) || !empty && s.size > uint64(f.size)-from {
			s, from, empty = section{kind: elf.SHT_NULL}, 0, true
		}
		if s.flags&elf.SHF_ALLOC == 0 {
			s.addr = 0
		}
		s.from, s.to = int64(from), int64(from)
		if !empty {
			s.to += int64(s.size)
		}
		f.sections = append(f.sections, s)
		name = append(name, le.Uint32(h))
	}
	if names < len(f.sections) {
		strings := f.sections[names]
		for i := range f.sections {
			f.sections[i].name = f.text(strings.from+int64(name[i]), strings.to)
		}
	}
	if len(f.sections) > 0 {
		return
	}
	for _, s := range f.loads {
		flags := elf.SHF_ALLOC
		if s.execute {
			flags |= elf.SHF_EXECINSTR
		}
		f.sections = append(f.sections, section{kind: elf.SHT_PROGBITS, flags: flags, addr: s.addr, from: s.from, to: s.to, size: s.size})
	}
}

// text reads a string that ends with a zero byte before end; "" if it is none, or long.
func (f *frame) text(off, end int64) string {
	b := f.at(off, int(max(min(maxName, end-off), 0)))
	if i := bytes.IndexByte(b, 0); i > 0 {
		return string(b[:i])
	}
	return ""
}

// arrange orders what is in memory, for finding it by its address.
func (f *frame) arrange() {
	f.extent = f.size
	for i := range f.loads {
		s := &f.loads[i]
		s.tail = f.extent
		f.extent = min(f.extent+int64(s.size)-(s.to-s.from), f.size+maxTail)
	}
	for i, s := range f.sections {
		if s.addr != 0 && s.size > 0 && s.flags&elf.SHF_TLS == 0 {
			f.memory = append(f.memory, i)
		}
	}
	slices.SortStableFunc(f.memory, func(a, b int) int { return cmp.Compare(f.sections[a].addr, f.sections[b].addr) })
	f.ends = slices.Clone(f.memory)
	slices.SortStableFunc(f.ends, func(a, b int) int { return cmp.Compare(f.end(a), f.end(b)) })
}

// end is where a section ends in memory.
func (f *frame) end(i int) place { return f.sections[i].addr + f.sections[i].size }

// within returns the section that an address lies in, or else the last one before it; -1 if there is none.
func (f *frame) within(p place) int {
	n, found := slices.BinarySearchFunc(f.memory, p, func(i int, p place) int { return cmp.Compare(f.sections[i].addr, p) })
	if found {
		return f.memory[n]
	}
	if n == 0 {
		return -1
	}
	return f.memory[n-1]
}
