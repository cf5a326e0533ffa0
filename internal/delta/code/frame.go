package code

import (
	"debug/elf"
	"io"
)

// frame is the outline of a program: where its parts are in the file and in memory.
type frame struct {
	*view
	kind       elf.Type
	machine    elf.Machine
	class      int // 32 or 64
	segmentsAt headers
	sectionsAt headers
	sections   []section // in the order of their headers; the segments, if there are none
	memory     []int     // those that are in memory, by address
	loads      []segment // sorted by address, not overlapping
	ends       []int     // as memory, by where they end
	extent     int64     // one more than the last key
	taken      int64     // of maxIndex
}

// section is a section of a program, as its header says, checked: what is in the file lies in the file, and what is in
// memory ends below maxPlace.
type section struct {
	name       string // "" if it is not known
	kind       elf.SectionType
	flags      elf.SectionFlag
	addr       place  // 0: not loaded
	from, to   int64  // in the file; equal if it has nothing there
	size       uint64 // in memory; with nothing in the file, more than to-from
	link, info uint32
	align      uint64
	unit       uint64 // of an entry, in bytes; 0 if it has none
}

// segment is a piece of the file that is loaded.
type segment struct {
	addr     place
	size     uint64 // in memory, at least to-from
	from, to int64  // in the file
	tail     int64  // the key of what is behind `to`
	execute  bool
}

// section returns the first section of that name, or nil.
func (f *frame) section(name string) *section {
	for i := range f.sections {
		if f.sections[i].name == name {
			return &f.sections[i]
		}
	}
	return nil
}

// offset is where a place is in the file; ok is false if it is nowhere there.
func (f *frame) offset(p place) (off int64, ok bool) {
	off, ok = f.key(p)
	return off, ok && off < f.size
}

// key is a number for a place: where it is in the file, or, if it is in memory alone, a number after all of those.
func (f *frame) key(p place) (key int64, ok bool) {
	if p >= unloaded {
		p -= unloaded
		return int64(p), p < uint64(f.size)
	}
	for i := range f.loads {
		s := &f.loads[i]
		if p < s.addr {
			break
		}
		if n := p - s.addr; n < uint64(s.to-s.from) {
			return s.from + int64(n), true
		} else if n < s.size {
			key = s.tail + int64(n) - (s.to - s.from)
			return key, key < f.extent
		}
	}
	return 0, false
}

// place is what is at an offset of the file.
func (f *frame) place(off int64) place {
	p, _ := f.run(off)
	return p
}

// run returns what is at an offset of the file, and how many bytes from there on follow it in memory.
func (f *frame) run(off int64) (place, int64) {
	next := f.size
	for i := range f.loads {
		s := &f.loads[i]
		if off >= s.from && off < s.to {
			return s.addr + uint64(off-s.from), s.to - off
		}
		if s.from > off {
			next = min(next, s.from)
		}
	}
	return unloaded + uint64(off), next - off
}

// view reads a file through pages, some of which it keeps.
type view struct {
	file io.ReaderAt
	size int64
	all  []byte // the file, if it is at hand: then there is nothing to read
	err  error  // the first error of reading
	took int64  // how often something was looked at, which is the work that finding fields is
	page [pages]page
}

// page is a piece of the file. It overlaps the next one by half, so that whatever is asked for is whole in one.
type page struct {
	from int64
	b    []byte
}

const (
	pages    = 64
	pageSize = 16 << 10
	pageStep = pageSize / 2
)

// at returns the n bytes at off, at most pageStep of them, which are good until the next call; nil if the file does not
// have them all, or cannot be read.
func (v *view) at(off int64, n int) []byte {
	v.took++
	if off < 0 || n < 0 || off > v.size-int64(n) {
		return nil
	}
	if v.all != nil {
		if n > pageStep {
			return nil
		}
		return v.all[off:][:n:n]
	}
	p := &v.page[off/pageStep%(pages/2)*2]
	if i := off - p.from; i >= 0 && i+int64(n) <= int64(len(p.b)) {
		return p.b[i:][:n:n]
	}
	return v.load(off, n)
}

// load finds a page where pages that were used less lately are, or reads it.
func (v *view) load(off int64, n int) []byte {
	if n > pageStep || v.err != nil {
		return nil
	}
	// Two pages have each place: what is read in turns does not drive each other out.
	two := v.page[off/pageStep%(pages/2)*2:][:2]
	two[0], two[1] = two[1], two[0]
	p := &two[0]
	if i := off - p.from; i >= 0 && i+int64(n) <= int64(len(p.b)) {
		return p.b[i:][:n:n]
	}
	if p.b == nil {
		p.b = make([]byte, pageSize)
	}
	p.from = off - off%pageStep
	p.b = p.b[:min(pageSize, v.size-p.from)]
	if m, err := v.file.ReadAt(p.b, p.from); m < len(p.b) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		v.err, v.page = err, [pages]page{} // nothing more is found, so that whoever reads comes to an end soon
		return nil
	}
	return p.b[off-p.from:][:n:n]
}

// u32 and u64 read a number, 0 if it is not in the file.

func (v *view) u32(off int64) uint32 {
	if b := v.at(off, 4); b != nil {
		return le.Uint32(b)
	}
	return 0
}

func (v *view) u64(off int64) uint64 {
	if b := v.at(off, 8); b != nil {
		return le.Uint64(b)
	}
	return 0
}
