package code

import (
	"bytes"
	"strings"
)

// Mask returns a file with every number that may be another one in another build replaced by what is at the place it
// names, for finding copies by: as long as the file, and the file itself if nothing is known of it.
func Mask(file []byte) []byte {
	p := inMemory(file)
	if p == nil {
		return file
	}
	masked, named := bytes.Clone(file), p.named()
	var shown []sign
	for n, t := range p.parts {
		p.fields(n, t.from, t.to, func(f Field) {
			if f.stays() {
				return
			}
			b := masked[f.At:]
			f.Kind.store(b, f.Kind.load(b)&^f.Kind.bits())
			if !f.Kind.far() {
				return
			}
			if name, ok := named[f.Target]; ok {
				shown = append(shown, sign{at: uint32(f.At), label: uint16(name), kind: f.Kind})
			} else if off, ok := p.offset(f.Target); ok && off+labelLen <= int64(len(masked)) {
				shown = append(shown, sign{at: uint32(f.At), of: uint32(off), kind: f.Kind, unnamed: true})
			}
		})
	}
	// Labels are made of what has no numbers any more, and no labels yet.
	for i := range shown {
		if s := &shown[i]; s.unnamed {
			s.label = uint16(label(masked[s.of:]))
		}
	}
	for _, s := range shown {
		b, bits := masked[s.at:], s.kind.bits()
		s.kind.store(b, s.kind.load(b)&^bits|uint64(s.label)&bits)
	}
	return masked
}

// sign is what is shown in the place of a number. A label has few bits: with more of them a number that is another one
// would seem to cost more than it does.
type sign struct {
	at, of  uint32 // offsets: of the number, and of what it names if that has no name
	label   uint16
	kind    Kind
	unnamed bool
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
	maxLabel = 1 << 10 // of a name, in bytes
	stubSize = 16
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
