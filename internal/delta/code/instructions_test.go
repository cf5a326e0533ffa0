package code

import (
	"debug/elf"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// want is what a test expects of a field.
type want struct {
	At     int64 // in the code
	Kind   Kind
	Target place
}

// read returns the fields of some code at textAddr.
func read(t *testing.T, machine elf.Machine, text []byte) []want {
	t.Helper()
	p := open(t, link(machine, text, make([]byte, 64)))
	s := p.section(".text")
	out := []want{}
	for _, f := range p.list(s.from, s.to, nil) {
		out = append(out, want{f.At - s.from, f.Kind, f.Target})
	}
	return out
}

// A64 words, as an assembler writes them.
func TestOperandsOfA64AreFound(t *testing.T) {
	for name, c := range map[string]struct {
		code string // words in hex
		want []want
	}{
		"b .+8":                           {"14000002 d503201f d503201f", []want{{0, Branch26, textAddr + 8}}},
		"bl .-4":                          {"d503201f 97ffffff", []want{{4, Branch26, textAddr}}},
		"b.ne .+8":                        {"54000041 d503201f d503201f", []want{{0, Branch19, textAddr + 8}}},
		"cbz w0, .+8":                     {"34000040 d503201f d503201f", []want{{0, Branch19, textAddr + 8}}},
		"cbnz x3, .+4":                    {"b5000023 d503201f", []want{{0, Branch19, textAddr + 4}}},
		"tbz w1, #3, .+8":                 {"36180041 d503201f d503201f", []want{{0, Branch14, textAddr + 8}}},
		"tbnz x1, #40, .+4":               {"b7400021 d503201f", []want{{0, Branch14, textAddr + 4}}},
		"adr x2, .+4":                     {"10000022 d503201f", []want{{0, Near21, textAddr + 4}}},
		"ldr x2, .+8":                     {"58000042 d503201f d503201f", []want{{0, Branch19, textAddr + 8}}},
		"adrp x0, data; add x0, x0, #16":  {"90000100 91004000", []want{{0, Page21, dataAddr + 16}, {4, Low12, dataAddr + 16}}},
		"adrp x1, data; ldr x0, [x1, #8]": {"90000101 f9400420", []want{{0, Page21, dataAddr + 8}, {4, Low12, dataAddr + 8}}},
		"adrp x1, bss; strb w0, [x1, #5]": {"90000181 39001420", []want{{0, Page21, bssAddr + 5}, {4, Low12, bssAddr + 5}}},
		"adrp x1, bss; ldr q0, [x1, #32]": {"90000181 3dc00820", []want{{0, Page21, bssAddr + 32}, {4, Low12, bssAddr + 32}}},
		"two uses of an adrp": {"90000181 b9400420 b9400822", []want{
			{0, Page21, bssAddr + 4}, {4, Low12, bssAddr + 4}, {8, Low12, bssAddr + 8}}},
		"an adrp whose register is gone":     {"90000181 aa0203e1 b9400420", []want{{0, Page21, bssAddr}}},
		"an adrp before a call":              {"90000181 94000001 b9400420", []want{{0, Page21, bssAddr}, {4, Branch26, textAddr + 8}}},
		"a register that a call leaves":      {"90000193 94000001 b9400660", []want{{0, Page21, bssAddr + 4}, {4, Branch26, textAddr + 8}, {8, Low12, bssAddr + 4}}},
		"a branch to where nothing is":       {"14800000 d503201f", []want{}},
		"add x0, x0, #16 without an adrp":    {"91004000", []want{}},
		"add x0, x0, #16, lsl #12 after one": {"90000100 91404000", []want{{0, Page21, dataAddr}}},
	} {
		var text []byte
		for _, w := range strings.Fields(c.code) {
			b, err := hex.DecodeString(w)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, b[3], b[2], b[1], b[0])
		}
		if diff := cmp.Diff(c.want, read(t, elf.EM_AARCH64, text)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestOperandsOfX86AreFound(t *testing.T) {
	for name, c := range map[string]struct {
		code string
		want []want
	}{
		"call .+5":                          {"e8 00000000 90", []want{{1, Here32, textAddr + 5}}},
		"jmp .+7":                           {"e9 02000000 9090 90", []want{{1, Here32, textAddr + 7}}},
		"je .+6":                            {"0f84 00000000 90", []want{{2, Here32, textAddr + 6}}},
		"jne .+3":                           {"7501 90 90", []want{{1, Here8, textAddr + 3}}},
		"jmp .+2":                           {"eb00 90", []want{{1, Here8, textAddr + 2}}},
		"lea data(%rip), %rax":              {"488d05 f9ff0100", []want{{3, Here32, dataAddr}}},
		"cmpl $1, data(%rip)":               {"833d f9ff0100 01", []want{{2, Here32, dataAddr}}},
		"movl $7, data(%rip)":               {"c705 f6ff0100 07000000", []want{{2, Here32, dataAddr}}},
		"testb $1, data(%rip)":              {"f605 f9ff0100 01", []want{{2, Here32, dataAddr}}},
		"call *data(%rip)":                  {"ff15 faff0100", []want{{2, Here32, dataAddr}}},
		"vmovups data(%rip), %ymm0":         {"c5fc1005 f8ff0100", []want{{4, Here32, dataAddr}}},
		"vpshufd $1, data(%rip), %xmm0":     {"c5f97005 f7ff0100 01", []want{{4, Here32, dataAddr}}},
		"vmovdqu8 data(%rip), %zmm0":        {"62f17f486f05 f6ff0100", []want{{6, Here32, dataAddr}}},
		"palignr $8, data(%rip), %xmm0":     {"660f3a0f05 f6ff0100 08", []want{{5, Here32, dataAddr}}},
		"mov $data, %edi":                   {"bf 00004300", []want{{1, Word32, dataAddr}}},
		"jmp *data(,%rax,8)":                {"ff24c5 00004300", []want{{3, Word32, dataAddr}}},
		"movabs $…, %rax is passed over":    {"48b8 e800000000e80000 e8 00000000 90", []want{{11, Here32, textAddr + 15}}},
		"a call in a number is none":        {"b8 e8000000 05 e8000000 90", []want{}},
		"after bytes that are none":         {"0606 e8 00000000 90", []want{{3, Here32, textAddr + 7}}},
		"mov $1, %ax has two bytes":         {"66b80100 e8 00000000 90", []want{{5, Here32, textAddr + 9}}},
		"enter $1, $2 has three":            {"c8010002 e8 00000000 90", []want{{5, Here32, textAddr + 9}}},
		"test $…, %rcx has a number":        {"48f7c1 e8e8e8e8 e8 00000000 90", []want{{8, Here32, textAddr + 12}}},
		"not %rcx has none":                 {"48f7d1 e8 00000000 90", []want{{4, Here32, textAddr + 8}}},
		"mov (%rbp,%rax), %ecx with a byte": {"8b4c0500 e8 00000000 90", []want{{5, Here32, textAddr + 9}}},
		"a call to where nothing is":        {"e8 00000070 90", []want{}},
	} {
		text, err := hex.DecodeString(strings.ReplaceAll(c.code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, read(t, elf.EM_X86_64, text)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Every kind writes what an assembler would, for a field at place 0x410000.
func TestKindsWriteWhatAssemblersDo(t *testing.T) {
	for _, c := range []struct {
		name         string
		kind         Kind
		unit         uint32
		target, base place
		old, want    uint64
		cannot       bool
	}{
		{name: "bl .+0x1000", kind: Branch26, target: 0x411000, base: 0x410000, old: 0x94000000, want: 0x94000400},
		{name: "b .-4", kind: Branch26, target: 0x40fffc, base: 0x410000, old: 0x14000000, want: 0x17ffffff},
		{name: "b too far", kind: Branch26, target: 0x8410000, base: 0x410000, cannot: true},
		{name: "b to an odd place", kind: Branch26, target: 0x410002, base: 0x410000, cannot: true},
		{name: "b.ne .+8", kind: Branch19, target: 0x410008, base: 0x410000, old: 0x54ffffe1, want: 0x54000041},
		{name: "tbz w1, #3, .+8", kind: Branch14, target: 0x410008, base: 0x410000, old: 0x361fffe1, want: 0x36180041},
		{name: "adr x2, .+5", kind: Near21, target: 0x410005, base: 0x410000, old: 0x10000002, want: 0x30000022},
		{name: "adrp x0, .+0x20000", kind: Page21, target: 0x430010, base: 0x410ffc, old: 0x90000000, want: 0x90000100},
		{name: "add x0, x0, #0x10", kind: Low12, unit: 1, target: 0x430010, old: 0x91000000, want: 0x91004000},
		{name: "ldr x0, [x1, #8]", kind: Low12, unit: 8, target: 0x430008, old: 0xf9400020, want: 0xf9400420},
		{name: "ldr x0, [x1, #4]", kind: Low12, unit: 8, target: 0x430004, cannot: true},
		{name: "bl .+16 of A32", kind: Branch24, target: 0x410010, base: 0x410008, old: 0xeb000000, want: 0xeb000002},
		{name: "bl .+8 of T32", kind: Thumb24, target: 0x410008, base: 0x410004, old: 0xf800f000, want: 0xf802f000},
		{name: "bl .-4 of T32", kind: Thumb24, target: 0x40fffc, base: 0x410004, old: 0xf800f000, want: 0xfffcf7ff},
		{name: "four bytes back", kind: Here32, target: 0x40fffc, base: 0x410000, want: 0xfffffffc},
		{name: "a byte back", kind: Here8, target: 0x40ffff, base: 0x410000, want: 0xff},
		{name: "too far for a byte", kind: Here8, target: 0x410080, base: 0x410000, cannot: true},
		{name: "an address", kind: Word64, target: 0x123456789abc, want: 0x123456789abc},
		{name: "an address of four bytes", kind: Word32, target: 0x430000, want: 0x430000},
		{name: "too large for four bytes", kind: Word32, target: 1 << 32, cannot: true},
		{name: "a negative offset", kind: Word32, target: 1, base: 2, cannot: true},
		{name: "a negative offset that may be", kind: Int32, target: 1, base: 2, want: 0xffffffff},
		{name: "the third entry of 24 bytes", kind: Word32, unit: 24, target: 0x1048, base: 0x1000, want: 3},
		{name: "between two entries", kind: Word32, unit: 24, target: 0x1049, base: 0x1000, cannot: true},
	} {
		bits, ok := c.kind.write(c.target, c.base, c.unit)
		if ok == c.cannot {
			t.Errorf("%s: ok is %v", c.name, ok)
			continue
		}
		if got := c.old&^c.kind.bits() | bits; ok && got != c.want {
			t.Errorf("%s: %#x instead of %#x", c.name, got, c.want)
		}
	}
}

// What is written is what is found, for branches to anywhere they reach.
func TestABranchThatIsWrittenIsFound(t *testing.T) {
	near := &frame{view: &view{size: 1 << 31}, kind: elf.ET_DYN, loads: []segment{{addr: 1 << 30, size: 1 << 30, to: 1 << 30}}}
	const at, place = 1 << 28, 1<<30 + 1<<28
	c := code{near, 0, 1 << 30, 1 << 30}
	a64 := &arm64{code: c}
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.SampledFrom([]struct {
			Kind
			opcode, base, reach, unit int64
		}{
			{Branch26, 0x94000000, 0, 1 << 27, 4},
			{Branch19, 0x54000001, 0, 1 << 20, 4},
			{Branch14, 0x36180001, 0, 1 << 15, 4},
			{Near21, 0x10000003, 0, 1 << 20, 1},
			{Thumb24, 0xd000f000, 4, 1 << 24, 2}, // BL
			{Thumb24, 0x9000f000, 4, 1 << 24, 2}, // B.W
		}).Draw(t, "kind")
		away := rapid.Int64Range(-k.reach/k.unit, k.reach/k.unit-1).Draw(t, "away") * k.unit
		want := Field{At: at, Target: uint64(place + k.base + away), Base: uint64(place + k.base), Kind: k.Kind}
		bits, ok := k.write(want.Target, want.Base, 1)
		if !ok {
			t.Fatalf("%d bytes away cannot be written", away)
		}
		var b [4]byte
		k.store(b[:], uint64(k.opcode)&^k.bits()|bits)
		var got []Field
		if k.Kind == Thumb24 {
			(&arm{c}).thumb(b[:], at, 4, func(f Field) { got = append(got, f) })
		} else {
			a64.block(b[:], at, 4)
			got = a64.found
		}
		if diff := cmp.Diff([]Field{want}, got); diff != "" {
			t.Fatal(diff)
		}
	})
}
