package code

// What labels say of four bytes of a table of Go.
const (
	labelName = 1 // an offset from the names of functions, or from the types
	labelText = 2 // an offset from the program's text
	labelRead = 3 // an offset from the read-only data
)

// The data of functions that name places.
const (
	dataStack   = 2 // the objects on its stack
	dataInlined = 3 // the calls in it that were inlined
	dataWrapped = 7 // the function it wraps

	sizeInlined = 16 // of a call, since Go 1.20
)

// labelled are numbers of four bytes that labels say the base of, and, between them, addresses.
type labelled struct {
	*labels
	f     *frame
	bases [4]place
	words table // nil if there are none

	inlined inlinedFiles // if names are those of inlined calls, whose lines follow
}

func (t labelled) fields(from, to int64, yield func(Field)) {
	for at := t.next(from-8, to); at < to; at = t.next(at+4, to) {
		if base := t.bases[t.get(at)]; base != 0 {
			v := t.f.u32(at)
			if file, ok := t.file(at, v); ok {
				yield(Field{At: at + 8, Target: line(file, int64(t.f.u32(at+8))), Base: line(file, 0), Kind: Word32})
			}
			yield(Field{At: at, Target: base + uint64(v), Base: base, Kind: Word32})
		}
	}
	if t.words == nil {
		return
	}
	t.words.fields(from, to, func(f Field) {
		if t.get(f.At) == 0 && (f.Kind == Word32 || t.get(f.At+4) == 0) {
			yield(f)
		}
	})
}

// file is the file of the inlined function whose name is said at `at`, if one is.
func (t labelled) file(at int64, name uint32) (uint32, bool) {
	if len(t.inlined) == 0 || t.get(at) != labelName {
		return 0, false
	}
	return t.inlined.file(name)
}

// eachDescription calls yield for the functions' descriptions.
func (g *golang) eachDescription(yield func(d description)) {
	if g.starts == nil {
		return
	}
	for at := g.starts.next(0, g.starts.to); at < g.starts.to && g.err == nil; at = g.starts.next(at+4, g.starts.to) {
		if d, ok := g.describe(at); ok {
			yield(d)
		}
	}
}

// funcdataParts finds the data of functions that name places.
func (g *golang) funcdataParts() []part {
	from, ok := g.offset(g.module.funcdata)
	if !ok || g.since < 18 || g.starts == nil {
		return nil
	}
	to := from
	for _, s := range g.loads {
		if from >= s.from && from < s.to {
			to = s.to
		}
	}
	each := func(yield func(at int64)) {
		g.eachDescription(func(d description) {
			for n := range int64(8) {
				if p, ok := g.data(d, n); ok {
					yield(from + int64(p-g.module.funcdata))
				}
			}
		})
	}
	last := from
	each(func(at int64) { last = max(last, min(at, to)) })
	to = min(to, last+maxDescription)
	begins := g.labels(from, to)
	defer g.drop(begins)
	each(func(at int64) { begins.put(at, 1) })
	marks, end := g.labels(from, to), from
	if marks == nil || begins == nil {
		return nil
	}
	put := func(at int64, label uint64) {
		marks.put(at, label)
		end = max(end, min(at+4, to))
	}
	g.eachDescription(func(d description) {
		// What several functions have is read once, as what the first one says it is.
		data := func(n int64) (at, limit int64, ok bool) {
			p, ok := g.data(d, n)
			at = from + int64(p-g.module.funcdata)
			if !ok || begins.get(at) != 1 {
				return 0, 0, false
			}
			begins.put(at, 2)
			return at, begins.next(at+4, at+maxDescription), true
		}
		if at, limit, ok := data(dataStack); ok {
			const size = 16
			n := int64(min(g.address(at), maxDescription/size))
			for i := range n {
				if at+g.word+(i+1)*size > limit {
					break
				}
				put(at+g.word+i*size+12, labelRead)
			}
		}
		if at, limit, ok := data(dataInlined); ok {
			name, size := int64(4), int64(sizeInlined)
			if g.since < 20 {
				name, size = 12, 20
			}
			for ; at+size <= limit; at += size {
				if int64(g.u32(at+name)) >= g.units-g.names || g.since >= 20 && g.u32(at)>>8 != 0 {
					break // behind the last data there is something else
				}
				put(at+name, labelName)
			}
		}
		if at, _, ok := data(dataWrapped); ok {
			put(at, labelText)
		}
	})
	if end == from {
		return nil
	}
	return []part{{"go.funcdata", from, end, labelled{
		labels: marks, f: g.frame, bases: [4]place{labelName: g.place(g.names), labelText: g.text, labelRead: g.module.rodata}, inlined: g.inlined,
	}}}
}
