package code

import (
	"bytes"
	"debug/elf"
	"testing"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/delta/match"
)

// Where things are in a program that link makes.
const (
	textAddr = 0x410000
	dataAddr = 0x430000
	bssAddr  = 0x440000
	bssSize  = 0x1000
)

// link makes a program of some code and data, and 4 KiB of memory without bytes in the file.
func link(machine elf.Machine, text, data []byte) []byte {
	const head, names = 0x1000, "\x00.text\x00.data\x00.bss\x00.shstrtab\x00"
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&15)...) }
	file := make([]byte, head)
	textAt := len(file)
	file = pad(append(file, text...))
	dataAt := len(file)
	file = pad(append(file, data...))
	namesAt := len(file)
	file = pad(append(file, names...))
	sectionsAt := len(file)
	copy(file, elf.ELFMAG+"\x02\x01\x01")
	le.PutUint16(file[16:], uint16(elf.ET_EXEC))
	le.PutUint16(file[18:], uint16(machine))
	le.PutUint64(file[32:], 64)
	le.PutUint64(file[40:], uint64(sectionsAt))
	for i, n := range []uint16{64, 56, 2, 64, 5, 4} {
		le.PutUint16(file[52+2*i:], n)
	}
	segment := func(i int, flags elf.ProgFlag, at int, addr, size, memory uint64) {
		h := file[64+56*i:]
		le.PutUint32(h, uint32(elf.PT_LOAD))
		le.PutUint32(h[4:], uint32(flags))
		for j, v := range []uint64{uint64(at), addr, addr, size, memory, 16} {
			le.PutUint64(h[8+8*j:], v)
		}
	}
	segment(0, elf.PF_R|elf.PF_X, textAt, textAddr, uint64(len(text)), uint64(len(text)))
	segment(1, elf.PF_R|elf.PF_W, dataAt, dataAddr, uint64(len(data)), bssAddr+bssSize-dataAddr)
	section := func(name string, kind elf.SectionType, flags elf.SectionFlag, addr uint64, at, size int) {
		h := make([]byte, 64)
		le.PutUint32(h, uint32(bytes.Index([]byte(names), []byte(name+"\x00"))))
		le.PutUint32(h[4:], uint32(kind))
		for j, v := range []uint64{uint64(flags), addr, uint64(at), uint64(size)} {
			le.PutUint64(h[8+8*j:], v)
		}
		le.PutUint64(h[48:], 16)
		file = append(file, h...)
	}
	section("", elf.SHT_NULL, 0, 0, 0, 0)
	section(".text", elf.SHT_PROGBITS, elf.SHF_ALLOC|elf.SHF_EXECINSTR, textAddr, textAt, len(text))
	section(".data", elf.SHT_PROGBITS, elf.SHF_ALLOC|elf.SHF_WRITE, dataAddr, dataAt, len(data))
	section(".bss", elf.SHT_NOBITS, elf.SHF_ALLOC|elf.SHF_WRITE, bssAddr, namesAt, bssSize)
	section(".shstrtab", elf.SHT_STRTAB, 0, 0, namesAt, len(names))
	return file
}

// open opens what must be a program.
func open(t interface{ Fatal(...any) }, file []byte) *Program {
	p, err := Open(bytes.NewReader(file), int64(len(file)))
	if err != nil || p == nil {
		t.Fatal("not a program:", err)
	}
	return p
}

// predict returns what the copies of a file are predicted to be, piece by piece.
func predict(t interface{ Fatal(...any) }, x *Predictor, old []byte, c match.Copy, i, piece int) (b, kinds []byte) {
	b = bytes.Clone(old[c.Old:][:c.Len])
	kinds = make([]byte, len(b))
	for at := 0; at < len(b); at += piece {
		end := min(at+piece, len(b))
		if err := x.Predict(i, int64(at), b[at:end], kinds[at:end]); err != nil {
			t.Fatal(err)
		}
	}
	return b, kinds
}

func TestTheOutlineOfAProgramIsRead(t *testing.T) {
	file := link(elf.EM_AARCH64, make([]byte, 64), make([]byte, 32))
	p := open(t, file)
	if len(p.sections) != 5 || len(p.loads) != 2 {
		t.Fatalf("%d sections and %d segments", len(p.sections), len(p.loads))
	}
	text := p.section(".text")
	if text == nil || text.addr != textAddr || text.to-text.from != 64 {
		t.Fatalf("text is %+v", text)
	}
	if off, ok := p.offset(textAddr + 8); !ok || off != text.from+8 {
		t.Errorf("the text's eighth byte is at %d, %v", off, ok)
	}
	if got := p.place(text.from + 8); got != textAddr+8 {
		t.Errorf("and there is %#x", got)
	}
	if _, ok := p.offset(bssAddr + 8); ok {
		t.Error("memory without bytes has an offset")
	}
	if key, ok := p.key(bssAddr + 8); !ok || key < p.size {
		t.Errorf("the key of memory without bytes is %d, %v", key, ok)
	}
}

func TestWhatIsNoProgramIsNotOpened(t *testing.T) {
	good := link(elf.EM_AARCH64, make([]byte, 64), make([]byte, 32))
	for name, change := range map[string]func(b []byte) []byte{
		"empty":               func(b []byte) []byte { return nil },
		"only its beginning":  func(b []byte) []byte { return b[:63] },
		"another magic":       func(b []byte) []byte { b[0] = 'M'; return b },
		"big-endian":          func(b []byte) []byte { b[elf.EI_DATA] = 2; return b },
		"an object file":      func(b []byte) []byte { b[16] = byte(elf.ET_REL); return b },
		"a class of its own":  func(b []byte) []byte { b[elf.EI_CLASS] = 9; return b },
		"without segments":    func(b []byte) []byte { b[56] = 0; return b },
		"segments elsewhere":  func(b []byte) []byte { le.PutUint64(b[32:], 1<<63); return b },
		"a segment too large": func(b []byte) []byte { le.PutUint64(b[64+32:], 1<<63); return b[:64+56] },
	} {
		b := change(bytes.Clone(good))
		if p, err := Open(bytes.NewReader(b), int64(len(b))); p != nil || err != nil {
			t.Errorf("%s: got %v, %v", name, p, err)
		}
		if got := Mask(b); !bytes.Equal(got, b) {
			t.Errorf("%s: it is masked", name)
		}
	}
}

// A file that says odd things of itself must be predicted within bounds, and alike each time.
func TestNoFileIsTooOdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		machine := rapid.SampledFrom([]elf.Machine{elf.EM_AARCH64, elf.EM_X86_64, elf.EM_ARM}).Draw(t, "machine")
		file := link(machine, rapid.SliceOfN(rapid.Byte(), 64, 4096).Draw(t, "text"), rapid.SliceOfN(rapid.Byte(), 16, 256).Draw(t, "data"))
		for range rapid.IntRange(0, 8).Draw(t, "changes") {
			at := rapid.OneOf(rapid.IntRange(16, 64+2*56-1), rapid.IntRange(len(file)-5*64, len(file)-1)).Draw(t, "at")
			file[at] = rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte{0, 1, 0x7f, 0x80, 0xff})).Draw(t, "byte")
		}
		odd(t, file, rapid.SliceOfN(rapid.Uint64(), 0, 64).Draw(t, "numbers"))
	})
}

func FuzzProgram(f *testing.F) {
	for _, m := range []elf.Machine{elf.EM_AARCH64, elf.EM_X86_64, elf.EM_ARM} {
		f.Add(link(m, bytes.Repeat([]byte{0xe8, 0x10, 0, 0, 0x94, 1, 2, 3}, 64), make([]byte, 32)), []byte("\x10\x20\x30\x40\x50\x60\x70\x80"))
	}
	f.Fuzz(func(t *testing.T, file, numbers []byte) {
		var n []uint64
		for ; len(numbers) >= 4 && len(n) < 64; numbers = numbers[4:] {
			n = append(n, uint64(le.Uint32(numbers)))
		}
		odd(t, file, n)
	})
}

// odd predicts what copies of a file, made of numbers, look like in a new file of a layout made of them too.
func odd(t interface{ Fatal(...any) }, file []byte, numbers []uint64) {
	if len(Mask(file)) != len(file) {
		t.Fatal("the mask has another length")
	}
	p, err := Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if p == nil {
		return
	}
	next := func(n int) int64 {
		if len(numbers) == 0 {
			return 0
		}
		v := numbers[0]
		numbers = numbers[1:]
		return int64(v % uint64(n))
	}
	l := &Layout{areas: make([]area, len(p.sections)), on: make([]uint32, len(p.parts))}
	for i := range l.on {
		l.on[i] = ^uint32(0)
	}
	for i, s := range p.sections {
		l.areas[i] = area{addr: s.addr + uint64(next(1<<20)), off: s.from + next(1<<12), size: s.size, gone: next(8) == 1}
	}
	l.arrange(p.frame)
	var copies []match.Copy
	for at := int64(0); len(numbers) > 1; {
		c := match.Copy{New: at + next(64), Old: next(len(file))}
		c.Len = 1 + next(len(file)-int(c.Old))
		copies = append(copies, c)
		at = c.New + c.Len
	}
	copies = append(copies, match.Copy{New: int64(len(file)) * 64, Len: int64(len(file))})
	x, again := p.Predictor(l, copies), open(t, file).Predictor(l, copies)
	for i := range copies {
		i, j := i, len(copies)-1-i
		predict(t, again, file, copies[j], j, 512)
		b, _ := predict(t, x, file, copies[i], i, 512)
		c, _ := predict(t, again, file, copies[i], i, 512)
		if !bytes.Equal(b, c) {
			t.Fatal("what is predicted depends on what was predicted before")
		}
	}
}
