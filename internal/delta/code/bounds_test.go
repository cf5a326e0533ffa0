package code

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/dunlin/dunlin/internal/delta/entropy"
	"github.com/dunlin/dunlin/internal/delta/match"
)

// How often a program may be looked at: in all to open it, for each of its bytes, and to find the fields of a chunk.
const (
	openWork  = 4
	openFree  = 1 << 17
	chunkWork = 8 << 10
)

const crookedBase = 0x10000

// crooked returns a program of so many bytes, all of them loaded, with these sections, that lie wherever they say.
func crooked(size int, sections ...section) []byte {
	b, names := make([]byte, size), []byte{0}
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], uint16(elf.ET_DYN))
	le.PutUint16(b[18:], uint16(elf.EM_AARCH64))
	le.PutUint64(b[32:], 64)
	le.PutUint64(b[40:], uint64(size))
	for i, v := range []int{56, 1, 64, len(sections) + 1, len(sections)} {
		le.PutUint16(b[54+2*i:], uint16(v))
	}
	le.PutUint32(b[64:], uint32(elf.PT_LOAD))
	le.PutUint32(b[68:], uint32(elf.PF_R))
	for at, v := range map[int]int{80: crookedBase, 96: size, 104: size} {
		le.PutUint64(b[at:], uint64(v))
	}
	var strings []byte
	add := func(s section, from, to uint64) {
		h := make([]byte, 64)
		le.PutUint32(h, uint32(len(names)))
		le.PutUint32(h[4:], uint32(s.kind))
		le.PutUint64(h[8:], uint64(s.flags))
		if s.flags != 0 {
			le.PutUint64(h[16:], crookedBase+from)
		}
		le.PutUint64(h[24:], from)
		le.PutUint64(h[32:], to-from)
		names, strings = append(append(names, s.name...), 0), append(strings, h...)
	}
	for _, s := range sections {
		add(s, uint64(s.from), uint64(s.to))
	}
	at := uint64(size + 64*(len(sections)+1))
	add(section{name: ".shstrtab", kind: elf.SHT_STRTAB}, at, at+uint64(len(names)+10))
	return append(append(b, strings...), names...)
}

func loaded(name string, from, to int) section {
	return section{name: name, kind: elf.SHT_PROGBITS, flags: elf.SHF_ALLOC, from: int64(from), to: int64(to)}
}

// crookedGo returns a program with Go's tables: functions with descriptions of 80 bytes that begin one byte after the
// other, tables by place of so many bytes, all of them 1, and a module in its last KiB.
func crookedGo(size, functions, pcs int, describe func(i int, b []byte), change func(b, module []byte), more ...section) []byte {
	const table, pcsAt = 4096, 144
	module := size - 1024
	b := crooked(size, append([]section{loaded(".gopclntab", table, size-64<<10), loaded(".go.module", module, size)}, more...)...)
	put := func(b []byte, values ...int) {
		for i, v := range values {
			le.PutUint64(b[8*i:], uint64(v))
		}
	}
	g := b[table:]
	le.PutUint32(g, 0xfffffff1)
	g[6], g[7] = 1, 8
	put(g[8:], functions, 1, crookedBase+table, 72, 80, 88, pcsAt, pcsAt+pcs)
	copy(g[pcsAt:], bytes.Repeat([]byte{1}, pcs))
	f := g[pcsAt+pcs:]
	for i := range functions {
		at := functions*8 + 4 + i*80
		le.PutUint32(f[8*i:], uint32(i))
		le.PutUint32(f[8*i+4:], uint32(at))
		le.PutUint32(f[at:], uint32(i))
		describe(i, f[at:][:80])
	}
	m := b[module:]
	put(m, crookedBase+table, crookedBase+table+72)
	put(m[8*22:], crookedBase+table)
	change(b[:size], m)
	return b
}

// crookedPrograms are made to be laborious, each in its own way.
func crookedPrograms() map[string][]byte {
	const mib = 1 << 20
	all := map[string][]byte{"small": small()}

	var sections []section
	for range maxSections / 2 {
		sections = append(sections, loaded(".eh_frame", 4096, 4*mib), loaded(".gcc_except_table", 4096, 4*mib))
	}
	frames := crooked(4*mib, sections[:maxSections-2]...)
	common := []byte("\x14\x00\x00\x00\x00\x00\x00\x00\x01zLR\x00\x01\x78\x1e\x02\x1b\x1b\x00\x00\x00\x00\x00")
	copy(frames[4096:], common)
	for at := 4096 + len(common); at+24 < 4*mib; at += 24 {
		le.PutUint32(frames[at:], 20)
		le.PutUint32(frames[at+4:], uint32(at+4-4096))
		frames[at+16] = 4
		le.PutUint32(frames[at+17:], uint32(5000-at-17+at/24))
	}
	all["frames"] = frames

	sections = nil
	for range maxSections - 2 {
		sections = append(sections, loaded(".data", 4096, mib))
	}
	sections[0].name = ".gopclntab"
	copy(sections[1:], []section{loaded(".go.buildinfo", 0, 64)})
	same := crooked(mib, sections...)
	copy(same[4096:], []byte{0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8, 1})
	for i, v := range []int{0, 72, 80, 88, 96, 104} {
		le.PutUint64(same[4096+24+8*i:], uint64(v))
	}
	all["sections"] = same

	nothing := func(_ int, _ []byte) {}
	unchanged := func(_, _ []byte) {}
	all["one table"] = crookedGo(2*mib, 2, 3*mib/2, func(_ int, b []byte) { le.PutUint32(b[16:], 1) }, unchanged)
	all["no new tables"] = crookedGo(2*mib, 20000, 64<<10, func(i int, b []byte) {
		le.PutUint32(b[16:], 1)
		le.PutUint32(b[20:], uint32(1+i/19000*60000))
	}, unchanged)
	all["many tables"] = crookedGo(2*mib, 10000, 64<<10, func(i int, b []byte) {
		le.PutUint32(b[16:], uint32(i))
		le.PutUint32(b[24:], uint32(i))
		le.PutUint32(b[28:], 5)
	}, unchanged)
	all["inlined"] = crookedGo(2*mib, 10000, mib, func(_ int, b []byte) {
		le.PutUint32(b[16:], 1)
		le.PutUint32(b[20:], 1)
		le.PutUint32(b[28:], 3) // and so many further ones, and four data
		b[43] = 4
		le.PutUint32(b[52:], 1)
	}, func(b, module []byte) { le.PutUint64(module[8*40:], crookedBase+uint64(len(b))-32<<10) })
	all["data"] = crookedGo(2*mib, 20000, 1024, func(_ int, b []byte) {
		b[43] = 5
		le.PutUint32(b[56:], 8<<10) // the calls that were inlined, which all have in common
	}, func(b, module []byte) {
		at := len(b) - 32<<10
		le.PutUint64(module[8*40:], crookedBase+uint64(at))
		le.PutUint64(b[at:], 1<<40)
	})
	all["methods"] = crookedGo(4*mib, 2, 1024, nothing, func(b, module []byte) {
		from, to := mib, 4*mib-128<<10
		le.PutUint64(module[8*37:], crookedBase+uint64(from))
		le.PutUint64(module[8*38:], crookedBase+uint64(to))
		for at := from; at+80 < to; at += 72 {
			copy(b[at+20:], []byte{flagUncommon, 1, 1, 26})
			le.PutUint32(b[at+40:], 8)
			le.PutUint32(b[at+48:], 1)
			le.PutUint16(b[at+52:], maxMethods)
			le.PutUint32(b[at+56:], 16)
		}
	})
	all["interfaces"] = crookedGo(4*mib, 2, 1024, nothing, func(b, module []byte) {
		from, to := mib, 4*mib-128<<10
		le.PutUint64(module[8*37:], crookedBase+uint64(from))
		le.PutUint64(module[8*38:], crookedBase+uint64(to))
		for at := from; at+80 < to; at += 80 {
			copy(b[at+20:], []byte{0, 1, 1, 20})
			le.PutUint32(b[at+40:], 8)
			le.PutUint64(b[at+56:], crookedBase+uint64(from))
			le.PutUint64(b[at+64:], maxMethods)
		}
	})
	return all
}

// everyField is a layout that predicts everything.
func everyField(p *Program) *Layout {
	l := newLayout(p.frame, p.frame)
	for range p.parts {
		l.on = append(l.on, ^uint32(0))
	}
	return l
}

// worked fails if a program was too much work to open, or has remembered too much, or if finding the fields of any of its
// chunks is too much.
func worked(t testing.TB, p *Program) {
	t.Helper()
	if p.took > openWork*p.size+openFree {
		t.Errorf("opening it took %d looks at %d bytes", p.took, p.size)
	}
	if p.taken < 0 || p.taken > maxIndex {
		t.Errorf("%d bytes are taken", p.taken)
	}
	for n, s := range p.parts {
		for at := s.from; at < s.to; at += chunkSize {
			before := p.took
			c := p.chunk(n, at)
			if took := p.took - before; took > chunkWork {
				t.Fatalf("the chunk of %s at %#x took %d looks", s.name, at, took)
			}
			if len(c.fields) > chunkSize || cap(c.fields) > 2*chunkSize {
				t.Fatalf("the chunk of %s at %#x has %d fields and room for %d", s.name, at, len(c.fields), cap(c.fields))
			}
		}
	}
}

func TestACrookedProgramTakesLittleWork(t *testing.T) {
	for name, b := range crookedPrograms() {
		t.Run(name, func(t *testing.T) {
			p := open(t, b)
			t.Logf("%d looks at %d bytes, %d KiB, %d parts", p.took, p.size, p.taken>>10, len(p.parts))
			worked(t, p)
		})
	}
}

func TestACrookedProgramTakesLittleMemory(t *testing.T) {
	for name, b := range crookedPrograms() {
		t.Run(name, func(t *testing.T) {
			var copies []match.Copy
			for at := int64(0); at+16 < int64(len(b)); at += 24 {
				copies = append(copies, match.Copy{Old: at, New: int64(len(copies)) * 16, Len: 16})
			}
			var before, opened, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			p := open(t, b)
			runtime.ReadMemStats(&opened)
			if n := opened.TotalAlloc - before.TotalAlloc; n > 8<<20 {
				t.Errorf("opening it took %d KiB in all", n>>10)
			}
			x := p.Predictor(everyField(p), copies)
			now, kinds := make([]byte, 16), make([]byte, 16)
			for i := 0; i < len(copies); i += 16 {
				if err := x.Predict(i, 0, now, kinds); err != nil {
					t.Fatal(err)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if n := int64(after.HeapAlloc) - int64(before.HeapAlloc) - int64(len(copies))*24; n > 7<<20 {
				t.Errorf("it takes %d KiB", n>>10)
			}
			runtime.KeepAlive(x)
			runtime.KeepAlive(b)
			runtime.KeepAlive(copies)
		})
	}
}

// The budget is for all parts together, and what there is none left for has no fields.
func TestWhatIsRememberedComesOutOfOneBudget(t *testing.T) {
	f := &frame{}
	half := f.labels(0, maxIndex*8)
	if half == nil || f.taken != maxIndex/2 {
		t.Fatalf("%d bytes are taken", f.taken)
	}
	if f.labels(0, maxIndex*8+1) != nil || f.take(-1) || f.take(1<<62) {
		t.Error("there is more than all")
	}
	if f.drop(half); f.taken != 0 || !f.take(maxIndex) || f.take(1) {
		t.Errorf("%d bytes are taken", f.taken)
	}
}

// Buckets whose functions lie anywhere are looked for only so far.
func TestBucketsTakeLittleWork(t *testing.T) {
	const count = 20000
	at := 2 << 20
	b := crookedGo(4<<20, count, 1024, func(int, []byte) {}, func(b, module []byte) {
		le.PutUint64(module[8*19:], crookedBase+uint64(at))
		le.PutUint32(b[4096+144+1024+8*(count-1):], 200<<20)
	}, loaded(".buckets", at, at+1<<20))
	p := open(t, b)
	l := everyField(p)
	// Each function goes elsewhere, now up and now down.
	var copies []match.Copy
	for i := range int64(count) {
		copies = append(copies, match.Copy{Old: 4096 + i, New: i * 7919 % count, Len: 1})
	}
	copies = append(copies, match.Copy{Old: int64(at), New: int64(at), Len: 64 << 10})
	x := p.Predictor(l, copies)
	for _, n := range []int{8, 256, 64 << 10} {
		before := p.took
		now, kinds := bytes.Clone(b[at:][:n]), make([]byte, n)
		if err := x.Predict(count, 0, now, kinds); err != nil {
			t.Fatal(err)
		}
		if kinds[0] != Operand {
			t.Fatal("these are no buckets")
		}
		// Two numbers are read of a function, and one function's are for each byte without looking any further.
		if took := p.took - before; took > int64(2*(2*bucketSteps+(bucketStepsMore+3)*n)) {
			t.Errorf("%d bytes took %d looks", n, took)
		}
	}
}

// Where thousands of copies lie in one block, each place is still found where it went.
func TestManySpansInABlockAreFound(t *testing.T) {
	var copies []match.Copy
	for i := range int64(6000) {
		copies = append(copies, match.Copy{Old: 0x1000 + 2*i, New: 0x1000 + (5999-i)*2, Len: 1 + i&1})
	}
	p, m := moving(t, 0x4000, copies)
	for i, c := range copies {
		key, now := c.Old, int64(0)
		if now = key + m.shift(key); now-key != c.New-c.Old {
			t.Fatalf("copy %d goes from %#x to %#x, and not %#x", i, key, now, c.New)
		}
	}
	if len(m.first) > maxBlocks+1 || p.extent < 0x4000 {
		t.Error("there are too many blocks")
	}
}

// A layout tells no more than there may be in a program, whatever somebody writes.
func TestALayoutIsNoLargerThanItsProgram(t *testing.T) {
	p := open(t, crooked(8<<10, loaded(".data", 4096, 8<<10)))
	l := everyField(p)
	for i := range uint32(60000) {
		l.lines = append(l.lines, hunk{0, i, 1})
		if i%2 == 0 && i < 8000 {
			l.anchors = append(l.anchors, span{i, i + 1, 4})
		}
	}
	var b bytes.Buffer
	w := entropy.NewWriter(&b)
	p.Code(w, l)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := p.Code(entropy.NewReader(&b), nil)
	if len(got.lines) != 0 || len(got.anchors) > int(p.extent/sparse) {
		t.Errorf("there are %d hunks and %d anchors", len(got.lines), len(got.anchors))
	}
	g := open(t, crookedGo(1<<20, 2, 512<<10, func(int, []byte) {}, func(_, _ []byte) {}))
	if n := g.mostHunks(); n == 0 || n > 512<<10/sparse {
		t.Errorf("there are %d hunks", n)
	}
}

// Copies of less than a few numbers are not worth finding those of their whole chunk.
func TestShortCopiesAreNotPredicted(t *testing.T) {
	p := open(t, link(elf.EM_AARCH64, bytes.Repeat([]byte{1, 0, 0, 0x94}, 64), make([]byte, 64)))
	text := p.section(".text").from
	x := p.Predictor(everyField(p), []match.Copy{{Old: text, New: 0, Len: shortest - 1}, {Old: text, New: shortest - 1, Len: shortest}})
	for i, want := range []bool{false, true} {
		kinds := make([]byte, x.copies[i].Len)
		if err := x.Predict(i, 0, make([]byte, len(kinds)), kinds); err != nil {
			t.Fatal(err)
		}
		if got := bytes.ContainsFunc(kinds, func(k rune) bool { return k != Plain }); got != want {
			t.Errorf("copy %d: %v", i, kinds)
		}
	}
}

// What is common to descriptions of frames is read for each that names another one than the last, so it must be short.
func TestLongShapesAreNotRead(t *testing.T) {
	for letters, want := range map[int]bool{1: true, 40: true, 60: false} {
		b := make([]byte, 4096)
		copy(b[8:], append(append([]byte("\x01z"), bytes.Repeat([]byte("S"), letters)...), "R\x00\x01\x78\x1e\x01\x1b"...))
		f := &frames{frame: &frame{view: &view{all: b, size: 4096}}, section: &section{to: 4096}}
		if got := f.shape(0).known; got != want {
			t.Errorf("%d letters: %t", letters, got)
		}
	}
}

// reads ends reading after a while, as a context does that is done.
type reads struct {
	io.ReaderAt
	left, after int
	v           *view
	took        int64 // what had been looked at when reading ended
}

func (r *reads) ReadAt(b []byte, at int64) (int, error) {
	if r.left--; r.left < 0 {
		r.after++
		r.took = r.v.took
		return 0, context.Canceled
	}
	return r.ReaderAt.ReadAt(b, at)
}

// Whoever gives the file ends opening and predicting by an error: it is not asked again, and little is done after it.
func TestAnErrorOfReadingEndsIt(t *testing.T) {
	for name, b := range crookedPrograms() {
		for _, n := range []int{0, 1, 3, 10, 60} {
			r := &reads{ReaderAt: bytes.NewReader(b), left: n}
			r.v = &view{file: r, size: int64(len(b))}
			p, err := look(r.v)
			if r.left >= 0 {
				continue // it needs no more
			}
			if p != nil || !errors.Is(err, context.Canceled) || r.after != 1 {
				t.Errorf("%s: after %d reads: %v, asked %d times more", name, n, err, r.after)
			}
			if took := r.v.took - r.took; took > 4*maxMethods+100 {
				t.Errorf("%s: after %d reads %d more looks were taken", name, n, took)
			}
		}
	}
}

func FuzzWork(f *testing.F) {
	f.Add(small(), uint32(0), uint64(0))
	f.Add(crooked(16<<10, loaded(".eh_frame", 4096, 8192), loaded(".gcc_except_table", 8192, 12<<10), loaded(".eh_frame", 4096, 8192)), uint32(4096), uint64(20))
	f.Add(crookedGo(128<<10, 300, 4096, func(i int, b []byte) {
		le.PutUint32(b[16:], uint32(i))
		le.PutUint32(b[28:], 3)
		b[43] = 4
	}, func(_, _ []byte) {}), uint32(4096+8), uint64(200))
	f.Fuzz(func(t *testing.T, file []byte, at uint32, v uint64) {
		if len(file) < 64 {
			return
		}
		le.PutUint64(file[int(at)%(len(file)-8):], v)
		p, err := Open(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if p == nil {
			return
		}
		worked(t, p)
		whole := []match.Copy{{Len: int64(len(file))}}
		x := p.Predictor(everyField(p), whole)
		before := p.took
		if _, kinds := predict(t, x, file, whole[0], 0, 64<<10); len(kinds) != len(file) {
			t.Fatal("it has another size")
		}
		most := int64(2*len(p.parts)+len(file)/chunkSize+len(file)/(64<<10)+2) * chunkWork
		if took := p.took - before; took > most {
			t.Fatalf("predicting %d bytes took %d looks", len(file), took)
		}
	})
}

// Functions without tables of their own may lie between those that have some, but not any number of them.
func TestTablesAreFoundPastFunctionsWithoutTheirOwn(t *testing.T) {
	for functions, want := range map[int]bool{3: true, 1000: true, 1<<16 + 2: false} {
		b := crookedGo(8<<20, functions, 8<<10, func(i int, b []byte) {
			le.PutUint32(b[16:], 1)
			if i == functions-1 {
				le.PutUint32(b[20:], 3000)
			}
		}, func(_, _ []byte) {})
		p := open(t, b)
		for n, s := range p.parts {
			if s.name == "go.lines" {
				if got := len(p.chunk(n, s.from).fields) > 100; got != want {
					t.Errorf("%d functions: there are fields: %t", functions, got)
				}
			}
		}
	}
}
