package code

import (
	"bytes"
	"strings"
)

// Mask returns a file with every number that may be another one in another build replaced by what is at the place it
// names, for finding copies by: as long as the file, and the file itself if nothing is known of it.
func Mask(file []byte) []byte {
	p, err := Open(bytes.NewReader(file), int64(len(file)))
	if p == nil || err != nil {
		return file
	}
	masked := bytes.Clone(file)
	each := func(yield func(f Field, b []byte)) {
		for n, t := range p.parts {
			p.fields(n, t.from, t.to, func(f Field) {
				if !f.stays() {
					yield(f, masked[f.At:])
				}
			})
		}
	}
	each(func(f Field, b []byte) { f.Kind.store(b, f.Kind.load(b)&^f.Kind.bits()) })
	plain, named := bytes.Clone(masked), p.named()
	each(func(f Field, b []byte) {
		if !f.Kind.far() {
			return
		}
		name, ok := named[f.Target]
		if !ok {
			off, there := p.offset(f.Target)
			if !there || off+labelLen > int64(len(plain)) {
				return
			}
			name = label(plain[off:])
		}
		f.Kind.store(b, f.Kind.load(b)&^f.Kind.bits()|name&labelBits&f.Kind.bits())
	})
	return masked
}

// namer is a table that knows what places are called.
type namer interface {
	// named calls yield with a number for the name of each place it knows.
	named(yield func(p place, name uint64))
}

// named is what is known of places' names.
func (p *Program) named() map[place]uint64 {
	all := map[place]uint64{}
	for _, t := range p.parts {
		if n, ok := t.table.(namer); ok {
			n.named(func(p place, name uint64) { all[p] = name })
		}
	}
	// A stub of the table that calls other programs' functions is called as the word that it jumps by.
	for n, t := range p.parts {
		if !strings.HasPrefix(t.name, "code .plt") {
			continue
		}
		p.fields(n, t.from, t.to, func(f Field) {
			if name, ok := all[f.Target]; ok {
				all[p.place(f.At-(f.At-t.from)%stubSize)] = name + 3
			}
		})
	}
	return all
}

// name is a number for the name that is in the file at an offset and ends with a zero byte; ok is false if it is long.
func (f *frame) name(off int64) (name uint64, ok bool) {
	b := f.at(off, int(min(f.size-off, maxLabel)))
	n := bytes.IndexByte(b, 0)
	if n <= 0 {
		return 0, false
	}
	for _, c := range b[:n] {
		name = (name ^ uint64(c)) * 0x9e3779b97f4a7c15
		name ^= name >> 29
	}
	return name, true
}

// labelLen is how many bytes of what is at a place tell it from others.
const (
	labelLen = 32
	// labelBits are those of a label that are shown: with more of them a number that is another one would seem to
	// cost more than it does.
	labelBits = 1<<16 - 1
	maxLabel  = 1 << 10 // of a name, in bytes
	stubSize  = 16
)

// label is a number for what b begins with.
func label(b []byte) uint64 {
	h := uint64(0)
	for i := 0; i < labelLen; i += 8 {
		h = (h ^ le.Uint64(b[i:])) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return h * 0x9e3779b97f4a7c15
}
