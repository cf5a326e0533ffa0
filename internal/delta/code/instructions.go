package code

import "debug/elf"

// instructions finds a program's machine code.
func instructions(f *frame) []part {
	var reader func(c code) table
	switch {
	case f.machine == elf.EM_AARCH64 && f.class == 64:
		reader = func(c code) table { return &arm64{code: c} }
	case f.machine == elf.EM_X86_64 && f.class == 64:
		reader = func(c code) table { return amd64{c} }
	case f.machine == elf.EM_ARM && f.class == 32:
		reader = func(c code) table { return &arm{c} }
	default:
		return nil
	}
	var parts []part
	for _, s := range f.sections {
		if s.flags&elf.SHF_EXECINSTR != 0 && s.addr != 0 && s.from < s.to {
			parts = append(parts, part{"code " + s.name, s.from, s.to, reader(code{f, s.from, s.to, s.addr})})
		}
	}
	return parts
}

// code is a section of machine code. It is read in blocks, so that which instructions there are does not depend on where
// somebody begins to read; what a block needs to know of the one before it is found by beginning a little earlier.
type code struct {
	f        *frame
	from, to int64
	addr     place
}

// codeBlock is the size of a block, in bytes.
const codeBlock = chunkSize

// blocks calls yield for the blocks that have some of the bytes from `from` to `to`: with the bytes from lead before the
// block to tail behind it, and where in them the block begins and ends.
func (c code) blocks(from, to, lead, tail int64, yield func(b []byte, at int64, begin, end int)) {
	for at := from - (from-c.from)%codeBlock; at < to; at += codeBlock {
		if at > from && to-at <= overlap {
			return // nothing that begins in the chunk asked for begins here
		}
		first, last := max(at-lead, c.from), min(at+codeBlock+tail, c.to)
		b := c.f.at(first, int(last-first))
		if b == nil {
			return
		}
		yield(b, first, int(at-first), int(min(at+codeBlock, c.to)-first))
	}
}

// names reports whether the program has something at a place.
func (f *frame) names(p place) bool {
	for i := range f.loads {
		if s := &f.loads[i]; p >= s.addr && p-s.addr < s.size {
			return true
		}
	}
	return false
}
