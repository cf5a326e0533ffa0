package code

import (
	"cmp"
	"slices"
)

// How the tables of stack frames write addresses, as far as it is known here: DWARF's DW_EH_PE_….
const (
	peHere  = 0x1b // four signed bytes, from the field's own place
	peTable = 0x3b // four signed bytes, from the beginning of the table
	peNone  = 0xff
)

// frameHeader is the sorted table by which the description of a stack frame is found: pairs of where the code begins and
// where its description is.
type frameHeader struct {
	*frame
	*section
}

func (t frameHeader) fields(from, to int64, yield func(Field)) {
	b := t.at(t.from, 12)
	if b == nil || b[0] != 1 || b[1] != peHere || b[3] != peTable {
		return
	}
	base, at := t.section.addr, t.from+4
	here := t.place(at)
	yield(Field{At: at, Target: here + uint64(int64(int32(t.u32(at)))), Base: here, Kind: Here32})
	for at = max(t.from+12, from&^3); at+4 <= to; at += 4 {
		yield(Field{At: at, Target: base + uint64(int64(int32(t.u32(at)))), Base: base, Kind: Int32})
	}
}

// frames are the descriptions of stack frames: how to find the caller's from any place in a function.
type frames struct {
	*frame
	*section
	starts *labels // of the descriptions
}

// Descriptions are one for a function (labelled 1), which name one for many (labelled 2).
const (
	frameFunction = 1
	frameCommon   = 2
	maxFrame      = 2 << 10 // of a description, the bytes that are read
	maxShape      = 64      // of a common one
)

// newFrames finds the descriptions in a section.
func newFrames(f *frame, s *section) *frames {
	t := &frames{f, s, f.labels(s.from, s.to)}
	if t.starts == nil {
		return nil
	}
	for at := s.from; at+8 <= s.to; {
		size := int64(f.u32(at))
		if size < 4 || size > s.to-at-4 {
			break
		}
		if f.u32(at+4) == 0 {
			t.starts.put(at, frameCommon)
		} else {
			t.starts.put(at, frameFunction)
		}
		at += 4 + size
	}
	return t
}

func (t *frames) fields(from, to int64, yield func(Field)) {
	var s shapes
	for at := t.starts.last(from+1, from-maxFrame); at < to; at = t.starts.next(at+4, to) {
		switch t.starts.get(at) {
		case frameCommon:
			if s := t.shape(at); s.personality > 0 {
				t.here(s.personality, yield)
			}
		case frameFunction:
			field := at + 4
			of := field - int64(t.u32(field))
			if t.starts.get(of) != frameCommon {
				continue
			}
			yield(Field{At: field, Target: t.place(field), Base: t.place(of), Kind: Word32})
			how := s.get(t, of)
			if how.code != peHere {
				continue
			}
			begin := t.here(at+8, yield)
			if size := t.u32(at + 12); size != 0 {
				yield(Field{At: at + 12, Target: begin + uint64(size) - 1, Base: begin, Kind: Size32})
			}
			if data := t.data(at, how); data != 0 {
				t.here(data, yield)
			}
			if b := t.at(at+16, 1); how.known && b != nil && b[0] < 128 {
				t.advances(at+17+int64(b[0]), min(at+4+int64(t.u32(at)), at+maxFrame), to, begin, how.unit, yield)
			}
		}
	}
}

// data is where the description at `at` has where its function's data are, if it has any; or 0.
func (t *frames) data(at int64, how shape) int64 {
	if b := t.at(at+16, 1); how.data == peHere && b != nil && b[0] >= 4 && b[0] < 128 && t.u32(at+17) != 0 {
		return at + 17
	}
	return 0
}

// advances yields how far it is from one place in a function to the next, at each of which something about its frame
// changes, as far as that is said before `to`.
func (t *frames) advances(at, end, to int64, from place, unit uint64, yield func(Field)) {
	advance := func(at int64, delta uint64, kind Kind) {
		next := from + delta*unit
		yield(Field{At: at, Target: next, Base: from, Unit: uint32(unit), Kind: kind})
		from = next
	}
	numbers := func(n int) bool {
		for range n {
			_, size := varint(t.at(at, int(min(5, max(end-at, 0)))))
			if size == 0 {
				return false
			}
			at += int64(size)
		}
		return true
	}
	for at < min(end, to) {
		b := t.at(at, int(min(5, end-at)))
		if b == nil {
			return
		}
		op, ok := b[0], true
		switch at++; {
		case op>>6 == 1:
			if op&63 != 0 {
				advance(at-1, uint64(op&63), Low6)
			}
		case op>>6 == 2:
			ok = numbers(1)
		case op>>6 == 3, op == 0x00, op == 0x0a, op == 0x0b, op == 0x2d:
		case op == 0x02 && len(b) > 1:
			advance(at, uint64(b[1]), Word8)
			at++
		case op == 0x03 && len(b) > 2:
			advance(at, uint64(le.Uint16(b[1:])), Word16)
			at += 2
		case op == 0x04 && len(b) > 4:
			advance(at, uint64(le.Uint32(b[1:])), Word32)
			at += 4
		case op == 0x06, op == 0x07, op == 0x08, op == 0x0d, op == 0x0e, op == 0x13, op == 0x2e:
			ok = numbers(1)
		case op == 0x05, op == 0x09, op == 0x0c, op == 0x11, op == 0x12, op == 0x14, op == 0x15:
			ok = numbers(2)
		case op == 0x0f, op == 0x10, op == 0x16: // an expression
			if ok = op == 0x0f || numbers(1); ok {
				n, size := varint(t.at(at, int(min(5, max(end-at, 0)))))
				ok = size > 0
				at += int64(size) + int64(n)
			}
		default:
			ok = false
		}
		if !ok {
			return
		}
	}
}

// here yields a field that counts from its own place, and returns what it names.
func (t *frames) here(at int64, yield func(Field)) place {
	base := t.place(at)
	target := base + uint64(int64(int32(t.u32(at))))
	yield(Field{At: at, Target: target, Base: base, Kind: Here32})
	return target
}

// shape is how descriptions write addresses.
type shape struct {
	code, data  byte
	unit        uint64 // of distances in code
	known       bool   // all of it is understood
	personality int64  // where the address of the function that unwinds is, if it is written peHere; or 0
}

// shape reads the description of many at `at`.
func (t *frames) shape(at int64) shape {
	s := shape{data: peNone}
	b := t.at(at+8, int(min(maxShape, t.section.to-at-8)))
	if len(b) < 2 || b[0] != 1 || b[1] != 'z' {
		return s
	}
	i := 1
	for i < len(b) && b[i] != 0 {
		i++
	}
	letters := b[2:max(min(i, len(b)), 2)]
	i++
	if i < len(b) {
		s.unit = uint64(b[i])
	}
	for range 2 { // the units of code and of data
		for i < len(b) && b[i] >= 128 {
			i++
		}
		i++
	}
	i++ // the register of the return address
	i++ // how long what the letters say is
	for _, c := range letters {
		if i+5 > len(b) {
			return shape{data: peNone}
		}
		switch c {
		case 'L':
			s.data = b[i]
			i++
		case 'R':
			s.code = b[i]
			i++
		case 'P':
			if b[i]&^0x80 != peHere {
				return shape{data: peNone}
			}
			s.personality = at + 8 + int64(i) + 1
			i += 5
		case 'S', 'B', 'G':
		default:
			return shape{data: peNone}
		}
	}
	s.known = s.code == peHere && s.unit > 0 && s.unit < 128
	return s
}

// shapes remembers the shape that was read last.
type shapes struct {
	of int64
	shape
}

func (s *shapes) get(t *frames, of int64) shape {
	if s.of != of || of == 0 {
		s.of, s.shape = of, t.shape(of)
	}
	return s.shape
}

// exceptions are what functions say of what happens when they are unwound: which code lies in the reach of which handler.
type exceptions struct {
	*frame
	*section
	code []codeOf // sorted by data
}

// codeOf says whose data something is.
type codeOf struct {
	data  uint32 // an offset in the file
	frame uint32 // where its description is
}

const (
	maxCodeOf    = 1 << 16
	maxException = 2 << 10 // of a function's, the bytes that are read
)

// exceptions finds the functions that a section has the data of.
func (t *frames) exceptions(s *section) []part {
	x := exceptions{frame: t.frame, section: s}
	var how shapes
	for at := t.starts.next(0, t.starts.to); at < t.starts.to && t.err == nil; at = t.starts.next(at+4, t.starts.to) {
		of := at + 4 - int64(t.u32(at+4))
		if t.starts.get(at) != frameFunction || t.starts.get(of) != frameCommon || len(x.code) == maxCodeOf {
			continue
		}
		shape := how.get(t, of)
		if data := t.data(at, shape); data != 0 && shape.code == peHere {
			off, ok := t.offset(t.place(data) + uint64(int64(int32(t.u32(data)))))
			if ok && off >= s.from && off < s.to {
				x.code = append(x.code, codeOf{uint32(off), uint32(at)})
			}
		}
	}
	slices.SortFunc(x.code, func(a, b codeOf) int { return cmp.Or(cmp.Compare(a.data, b.data), cmp.Compare(a.frame, b.frame)) })
	x.code = slices.Clone(slices.CompactFunc(x.code, func(a, b codeOf) bool { return a.data == b.data }))
	if len(x.code) == 0 || !t.take(int64(len(x.code))*8) {
		return nil
	}
	return []part{{s.name, s.from, s.to, x}}
}

func (t exceptions) fields(from, to int64, yield func(Field)) {
	// What lies before the last one that begins before `from` ends there.
	n, _ := slices.BinarySearchFunc(t.code, from+1, func(c codeOf, at int64) int { return cmp.Compare(int64(c.data), at) })
	for n = max(n-1, 0); n < len(t.code) && int64(t.code[n].data) < to; n++ {
		end := t.section.to
		if n+1 < len(t.code) {
			end = int64(t.code[n+1].data)
		}
		if end > from {
			t.read(t.code[n], min(end, int64(t.code[n].data)+maxException), to, yield)
		}
	}
}

// read yields the fields of a function's table: for each piece of its code where it begins, how long it is, and where what
// handles it is, in numbers of seven-bit groups.
func (t exceptions) read(c codeOf, end, to int64, yield func(Field)) {
	at := int64(c.data)
	number := func() (v uint64, size int, ok bool) {
		v, size = varint(t.at(at, int(min(5, max(end-at, 0)))))
		at += int64(size)
		return v, size, size > 0
	}
	b := t.at(at, 2)
	if b == nil || b[0] != peNone {
		return
	}
	types := b[1]
	if at += 2; types != peNone {
		if _, _, ok := number(); !ok {
			return
		}
	}
	if b = t.at(at, 1); b == nil || b[0] != 1 {
		return
	}
	at++
	size, _, ok := number()
	if !ok {
		return
	}
	end = min(end, at+int64(size))
	step := func(target, base place, size int) {
		if size <= 3 {
			yield(Field{At: at - int64(size), Target: target, Base: base, Kind: Step1 + Kind(size-1)})
		}
	}
	code := t.place(int64(c.frame)+8) + uint64(int64(int32(t.u32(int64(c.frame)+8))))
	for at < min(end, to) {
		begin, n, ok := number()
		if !ok {
			return
		}
		step(code+begin, code, n)
		long, n, ok := number()
		if !ok {
			return
		}
		step(code+begin+long, code+begin, n)
		handler, n, ok := number()
		if !ok {
			return
		}
		if handler != 0 {
			step(code+handler, code, n)
		}
		if _, _, ok := number(); !ok {
			return
		}
	}
}
