package code

// kindWords are how many words of an address's size follow a type's common part, by its kind. Maps have had two forms.
var kindWords = [...]int64{
	17: 3, // array
	18: 2, // channel
	19: 1, // function
	20: 4, // interface
	22: 1, // pointer
	23: 1, // slice
	25: 4, // struct
	26: 0,
}

const (
	kindMap  = 21
	kindMask = 31

	flagUncommon = 1 // the type has methods or a package

	sizeUncommon = 16
	sizeMethod   = 16
	maxMethods   = 4096
	maxAlign     = 64
)

// typeParts finds the types, and the list of those that have no name.
func (g *golang) typeParts() []part {
	from, ok := g.offset(g.module.types)
	size := int64(g.module.typesEnd - g.module.types)
	if !ok || size <= 0 || size > g.size-from {
		return nil
	}
	var parts []part
	for _, name := range []string{".typelink", ".data.rel.ro.typelink"} {
		if s := g.section(name); s != nil {
			parts = append(parts, part{"go.typelinks", s.from, s.to, offsets{g.frame, 4, g.module.types}})
		}
	}
	t := typeReader{g, g.frame.labels(from, from+size), uint64(size), size / sizeMethod * 2}
	if t.labels == nil {
		return parts
	}
	for at := from; at < from+size && g.err == nil; {
		if n := t.read(at); n > 0 {
			at += n
		} else {
			at += g.word
		}
	}
	return append(parts, part{"go.types", from, from + size, labelled{
		labels: t.labels, f: g.frame, bases: [4]place{labelName: g.module.types, labelText: g.text}, words: addresses{g.frame, g.word},
	}})
}

// typeReader finds the types among the names and other things that lie between them.
type typeReader struct {
	*golang
	labels *labels
	size   uint64 // of all types, in bytes
	left   int64  // how many methods are still read: no more than there is room for
}

// common is how long the part of a type is that all have, in bytes.
func (t *typeReader) common() int64 { return 4*t.word + 16 }

// read labels what is at `at` if that looks like a type, and returns how long it is at least; 0 if it looks like none.
func (t *typeReader) read(at int64) int64 {
	b := t.at(at, int(t.common()))
	if b == nil {
		return 0
	}
	w := int(t.word)
	address := func(i int) uint64 {
		if w == 8 {
			return le.Uint64(b[i:])
		}
		return uint64(le.Uint32(b[i:]))
	}
	size, pointers := address(0), address(w)
	flags, align, fieldAlign, kind := b[2*w+4], b[2*w+5], b[2*w+6], int(b[2*w+7]&kindMask)
	name, pointer := uint64(le.Uint32(b[4*w+8:])), uint64(le.Uint32(b[4*w+12:]))
	power := func(n byte) bool { return n > 0 && n <= maxAlign && n&(n-1) == 0 }
	switch {
	case pointers > size || size > maxSize || pointers%t.alignment() != 0,
		!power(align) || !power(fieldAlign) || size%uint64(align) != 0,
		kind == 0 || kind > 26,
		name == 0 || name >= t.size || pointer >= t.size,
		!t.inside(address(2*w+8)) || !t.inside(address(3*w+8)):
		return 0
	}
	t.labels.put(at+4*t.word+8, labelName)
	if pointer != 0 {
		t.labels.put(at+4*t.word+12, labelName)
	}
	end := at + t.common()
	if kind == kindMap {
		end += 5 * t.word // the shorter form; the longer one is not known by anything
		if flags&flagUncommon != 0 && !t.uncommon(end) {
			t.uncommon(end + 3*t.word)
		}
		return end - at
	}
	end += kindWords[kind%len(kindWords)] * t.word
	if kind == 20 {
		t.interfaceMethods(end - 3*t.word)
	}
	if flags&flagUncommon != 0 {
		t.uncommon(end)
	}
	return end - at
}

// alignment is that of an address.
func (g *golang) alignment() uint64 { return uint64(g.word) }

// inside reports whether an address is in the program, or none.
func (g *golang) inside(p place) bool {
	return p == 0 || len(g.memory) > 0 && p >= g.sections[g.memory[0]].addr
}

// uncommon labels what a type with methods has, if that is what is at `at`.
func (t *typeReader) uncommon(at int64) bool {
	b := t.at(at, sizeUncommon)
	if b == nil {
		return false
	}
	methods, exported, off := le.Uint16(b[4:]), le.Uint16(b[6:]), int64(le.Uint32(b[8:]))
	if uint64(le.Uint32(b)) >= t.size || methods < exported || off < sizeUncommon || off >= int64(t.size) || le.Uint32(b[12:]) != 0 {
		return false
	}
	t.offset(at, labelName)
	for i := range t.methods(uint64(methods)) {
		m := at + off + i*sizeMethod
		t.offset(m, labelName)
		t.offset(m+4, labelName)
		t.offset(m+8, labelText)
		t.offset(m+12, labelText)
	}
	return true
}

// interfaceMethods labels the methods of an interface, of which there is a slice at `at`.
func (t *typeReader) interfaceMethods(at int64) {
	const size = 8
	first, ok := t.golang.offset(t.address(at))
	if !ok {
		return
	}
	for i := range t.methods(t.address(at + t.word)) {
		t.offset(first+i*size, labelName)
		t.offset(first+i*size+4, labelName)
	}
}

// methods is how many methods are read of a type that says it has n.
func (t *typeReader) methods(n uint64) int64 {
	n = min(n, maxMethods, uint64(t.left))
	t.left -= int64(n)
	return int64(n)
}

// offset labels an offset, unless it is one of those that stand for nothing.
func (t *typeReader) offset(at int64, label uint64) {
	if v := t.u32(at); v != 0 && v != 1<<32-1 {
		t.labels.put(at, label)
	}
}
