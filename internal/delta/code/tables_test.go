package code

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/dunlin/dunlin/internal/delta/entropy"
	"github.com/dunlin/dunlin/internal/delta/match"
)

// installed returns a program of this system that a C compiler has made.
func installed(t *testing.T) []byte {
	t.Helper()
	for _, name := range []string{"bash", "perl", "sh"} {
		if path, err := exec.LookPath(name); err == nil {
			if b, err := os.ReadFile(path); err == nil && bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
				return b
			}
		}
	}
	if os.Getenv("DUNLIN_TEST_REQUIRE") != "" {
		t.Fatal("there is no program here that a C compiler has made")
	}
	t.Skip("there is no program here that a C compiler has made")
	return nil
}

// What a field says must be what the file has: where nothing has moved, every prediction is the old bytes.
func TestNothingChangesWhereNothingHasMoved(t *testing.T) {
	for name, b := range map[string][]byte{
		"amd64":     goProgram(t, "amd64"),
		"amd64 pie": goProgram(t, "amd64", "-buildmode=pie"),
		"arm64":     goProgram(t, "arm64"),
		"arm":       goProgram(t, "arm", "-ldflags=-s -w"),
		"installed": installed(t),
	} {
		t.Run(name, func(t *testing.T) {
			p, all := allFields(t, b)
			l := newLayout(p.frame, p.frame)
			m := newMoves(p.frame, l, []match.Copy{{Len: int64(len(b))}})
			for part, fields := range all {
				for _, f := range fields {
					base := f.Base
					if !f.Kind.here() {
						base = m.now(base)
					}
					was := f.Kind.load(b[f.At:]) & f.Kind.bits()
					if v, ok := f.Kind.write(m.now(f.Target), base, f.Unit); ok && v != was {
						t.Fatalf("%s: %+v becomes %#x, and was %#x", part, f, v, was)
					}
				}
			}
		})
	}
}

// Every symbol is found where debug/elf has it.
func TestSymbolsAreFound(t *testing.T) {
	b := goProgram(t, "amd64")
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil || len(symbols) < 500 {
		t.Fatal(len(symbols), err)
	}
	p, all := allFields(t, b)
	values, names := map[place]bool{}, map[place]bool{}
	for _, x := range all[".symtab"] {
		values[x.Target] = values[x.Target] || x.Kind == Word64
		names[x.Target] = true
	}
	strings := p.section(".strtab")
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF && s.Section < elf.SHN_LORESERVE && elf.ST_TYPE(s.Info) != elf.STT_TLS && !values[s.Value] {
			t.Fatalf("%s at %#x is not found", s.Name, s.Value)
		}
		if at := bytes.Index(b[strings.from:strings.to], append([]byte("\x00"+s.Name), 0)); at < 0 {
			t.Fatalf("%s has no name", s.Name)
		}
	}
	if len(names) < len(symbols)/2 {
		t.Error(len(names), "places are named by", len(symbols), "symbols")
	}
}

// The sorted table by which descriptions of stack frames are found names each of them, with the code that it is of.
func TestFramesAreThoseThatTheirTableNames(t *testing.T) {
	b := installed(t)
	p, all := allFields(t, b)
	begins := map[int64]place{}
	for _, x := range all[".eh_frame"] {
		begins[x.At] = x.Target
	}
	var pairs []Field
	for _, x := range all[".eh_frame_hdr"] {
		if x.Kind == Int32 {
			pairs = append(pairs, x)
		}
	}
	if len(pairs) < 100 || len(pairs)%2 != 0 {
		t.Fatal(len(pairs), "fields of pairs")
	}
	for i := 0; i < len(pairs); i += 2 {
		at, ok := p.offset(pairs[i+1].Target)
		if !ok || begins[at+8] != pairs[i].Target {
			t.Fatalf("the description at %#x is of %#x, not of %#x", at, begins[at+8], pairs[i].Target)
		}
	}
}

// Damaged programs are read within bounds, and alike each time.
func TestDamagedTablesAreReadWithinBounds(t *testing.T) {
	for _, whole := range [][]byte{goProgram(t, "arm64", "-ldflags=-s -w"), installed(t)} {
		p, _ := allFields(t, whole)
		for seed := range uint64(2) {
			r := rand.New(rand.NewPCG(seed, 2))
			b := bytes.Clone(whole)
			for _, s := range p.parts {
				for range 1 + (s.to-s.from)/8192 {
					// What is at the beginning of a table is more often what the rest hangs on.
					at := s.from + r.Int64N(s.to-s.from)>>r.IntN(8)
					b[at] = []byte{0, 1, 0x7f, 0xff, byte(r.Uint32())}[r.IntN(5)]
				}
			}
			copy(b[:64], whole)
			var numbers []uint64
			for range 6 {
				numbers = append(numbers, r.Uint64())
			}
			odd(t, b, numbers)
		}
	}
}

// small is a program of a few functions that has Go's tables and nothing else, not even sections.
func small() []byte {
	const base = 0x400000
	b := make([]byte, 0x1000)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], uint16(elf.ET_EXEC))
	le.PutUint16(b[18:], uint16(elf.EM_AARCH64))
	le.PutUint64(b[32:], 64) // the program headers: where, how long, how many
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 2)
	put := func(at int, values ...any) {
		w := bytes.NewBuffer(b[at:at])
		for _, v := range values {
			if err := binary.Write(w, le, v); err != nil {
				panic(err)
			}
		}
	}
	put(64, uint32(elf.PT_LOAD), uint32(elf.PF_X|elf.PF_R), []uint64{0, base, base, 0x400, 0x400, 0x400})
	put(64+56, uint32(elf.PT_LOAD), uint32(elf.PF_W|elf.PF_R), []uint64{0x400, base + 0x400, base + 0x400, 0xc00, 0xc00, 0x400})
	const (
		text, table, functions, data, types, module = 0x100, 0x400, 0x160, 0x700, 0x800, 0xa00
	)
	put(table, uint32(0xfffffff1), []byte{0, 0, 4, 8}, []uint64{2, 1, base + text, 72, 0xa0, 0xb0, 0xc0, functions})
	put(table+72, []byte("main.main\x00main.other\x00"))
	put(table+0xa0, []uint32{0, 8})
	put(table+0xb0, []byte("main.go\x00a.go\x00"))
	// For each place in the first function the line, the file, and the inlined call; and the lines of the second one.
	put(table+0xc0, []byte{0, 0x16, 4, 2, 4, 0, 2, 4, 2, 4, 0, 0, 4, 2, 4, 0, 0x20, 2, 3, 2, 0})
	put(table+functions, []uint32{0, 24, 0x40, 100, 0x80})
	described := func(entry, name, lines uint32) []any {
		return []any{[]uint32{entry, name, 0, 4, 0, 6, lines, 3, 0, 10}, []byte{0, 0, 0, 4}, []uint32{0, 0, 11}, []uint32{^uint32(0), 1, 8, 0x20}}
	}
	put(table+functions+24, described(0, 0, 1)...)
	put(table+functions+100, described(0x40, 10, 16)...)
	put(data, []uint32{0, 0, 1, 0, 0, 8, 8, 0x20, 0, 10, 4, 7})
	put(types, []uint64{16, 8}, uint32(77), []byte{1, 8, 8, 25}, []uint64{0, 0}, []uint32{0x80, 0}, []uint64{0, 0, 0, 0})
	put(types+80, uint32(0x80), []uint16{1, 1}, []uint32{16, 0}, []uint32{0x80, 0x10, 4, 4})
	put(types+0x80, []byte("\x01\x04name"))
	words := make([]uint64, 42)
	words[0], words[1] = base+table, base+table+72
	words[19], words[22] = base+0x780, base+text
	words[37], words[38], words[39], words[40] = base+types, base+types+0x100, base+types, base+data
	put(module, words)
	put(0x780, []uint32{0, 0, 0, 0, 0})
	return b
}

func TestASmallGoProgramIsKnown(t *testing.T) {
	const base = 0x400000
	_, all := allFields(t, small())
	got := map[int64]Field{}
	for _, fields := range all {
		for _, f := range fields {
			got[f.At] = f
		}
	}
	for _, want := range []struct {
		what   string
		at     int64
		target place
		kind   Kind
	}{
		{"how many functions there are", 0x408, base + 0x570, Word64},
		{"where the second function begins", 0x568, base + 0x140, Word32},
		{"where its description is", 0x56c, base + 0x5c4, Word32},
		{"the same in the description", 0x5c4, base + 0x140, Word32},
		{"its name", 0x5c8, base + 0x452, Word32},
		{"where it runs what it has deferred", 0x5d0, base + 0x144, Word32},
		{"its lines", 0x5dc, base + 0x4d0, Word32},
		{"its unit", 0x5e4, base + 0x4a0, Word32},
		{"the line that it begins at", 0x5e8, line(0, 10), Word32},
		{"its stack", 0x604, base + 0x708, Word32},
		{"the second file of the unit", 0x4a4, base + 0x4b8, Word32},
		{"a line of the first function", 0x4c1, line(0, 10), Turn1},
		{"how far it goes", 0x4c2, base + 0x110, Step1},
		{"a line from another file", 0x4c3, line(8, 11), Turn1},
		{"which pointers are on a stack", 0x71c, base + 0x820, Word32},
		{"what was inlined", 0x724, base + 0x452, Word32},
		{"where that begins", 0x72c, line(8, 7), Word32},
		{"the name of a type", 0x828, base + 0x880, Word32},
		{"the type of its method", 0x864, base + 0x810, Word32},
		{"the method", 0x868, base + 0x104, Word32},
		{"where the types are", 0xa00 + 37*8, base + 0x800, Word64},
	} {
		if f := got[want.at]; f.Target != want.target || f.Kind != want.kind {
			t.Errorf("%s: %+v, not %#x as kind %d", want.what, f, want.target, want.kind)
		}
	}
}

// The instructions for finding a caller say how far it is from one to the next.
func TestFramesAdvanceFromPlaceToPlace(t *testing.T) {
	program := []byte{
		0x41, 0x0e, 16, // one unit, then something else
		0x02, 10, 0x86, 2, // ten units
		0x0f, 3, 1, 2, 3, // an expression
		0x03, 0x00, 0x01, 0x0a, // 256 units
		0x04, 0, 0, 1, 0, // 65536 units
		0x3f, 0x41, // unknown, so what follows is not read
	}
	f := &frames{frame: &frame{view: &view{file: bytes.NewReader(program), size: int64(len(program))}}}
	var got []Field
	f.advances(0, int64(len(program)), int64(len(program)), 0x1000, 4, func(f Field) { got = append(got, f) })
	want := []Field{
		{At: 0, Target: 0x1004, Base: 0x1000, Unit: 4, Kind: Low6},
		{At: 4, Target: 0x102c, Base: 0x1004, Unit: 4, Kind: Word8},
		{At: 13, Target: 0x142c, Base: 0x102c, Unit: 4, Kind: Word16},
		{At: 17, Target: 0x4142c, Base: 0x142c, Unit: 4, Kind: Word32},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, and not %+v", got, want)
	}
}

// Lines move as the fields say that both programs have; what few say is not worth telling.
func TestHunksTravel(t *testing.T) {
	want := hunks{{3, 10, 2}, {3, 100, -5}, {70000, 1, 1 << 20}}
	var b bytes.Buffer
	w := entropy.NewWriter(&b)
	want.code(w, maxHunks)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := hunks(nil).code(entropy.NewReader(&b), maxHunks)
	if !slices.Equal(got, want) {
		t.Fatalf("%+v, and not %+v", got, want)
	}
	for _, x := range []struct {
		file uint32
		line int64
		now  uint64
	}{{3, 8, 9}, {3, 9, 12}, {3, 98, 101}, {3, 99, 95}, {4, 99, 100}, {2, 99, 100}, {70000, 0, 1<<20 + 1}} {
		if now := got.now(line(x.file, x.line)); now != x.now {
			t.Errorf("line %d of file %d is now %d, and not %d", x.line+1, x.file, now, x.now)
		}
	}
}

func FuzzGoTables(f *testing.F) {
	f.Add(small(), []byte("\x10\x20\x30\x40\x50\x60\x70\x80"))
	f.Fuzz(func(t *testing.T, file, numbers []byte) {
		var n []uint64
		for ; len(numbers) >= 4 && len(n) < 64; numbers = numbers[4:] {
			n = append(n, uint64(le.Uint32(numbers)))
		}
		odd(t, file, n)
	})
}
