package code

import (
	"debug/elf"
	"testing"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/delta/match"
)

// moving returns the moves of a program all of whose sections stay, by copies.
func moving(t interface{ Fatal(...any) }, size int, copies []match.Copy, anchors ...span) (*Program, *moves) {
	p := open(t, link(elf.EM_AARCH64, make([]byte, size), make([]byte, 64)))
	l := newLayout(p.frame, p.frame)
	l.anchors = anchors
	return p, newMoves(p.frame, l, copies)
}

func TestAPlaceMovesWithItsCopy(t *testing.T) {
	const text = 0x1000 // where it is in the file
	p, m := moving(t, 0x400, []match.Copy{
		{New: text, Old: text, Len: 0x100},
		{New: text + 0x110, Old: text + 0x100, Len: 0x100},
		{New: text + 0x300, Old: text + 0x180, Len: 0x10}, // as the longer one has it
		{New: text + 0x240, Old: text + 0x280, Len: 0x80},
	})
	if p.section(".text").from != text {
		t.Fatal("the text is elsewhere")
	}
	for name, c := range map[string]struct{ old, new place }{
		"nothing":                             {0, 0},
		"in the first copy":                   {textAddr + 0x80, textAddr + 0x80},
		"in the second":                       {textAddr + 0x104, textAddr + 0x114},
		"in a shorter one too":                {textAddr + 0x184, textAddr + 0x194},
		"in none, nearer to the one before":   {textAddr + 0x210, textAddr + 0x220},
		"in none, nearer to the one after":    {textAddr + 0x270, textAddr + 0x230},
		"in memory alone":                     {bssAddr + 0x10, bssAddr + 0x10},
		"the end of the last section":         {bssAddr + bssSize, bssAddr + bssSize},
		"in the file alone":                   {unloaded + text - 0x800, unloaded + text - 0x800},
		"nowhere":                             {1 << 40, 1 << 40},
		"the mark of where the text begins":   {markAddr + 1, textAddr},
		"the mark of where the text ends":     {markEnd + 1, textAddr + 0x400},
		"the mark of where it is in the file": {markOffset + 1, unloaded + text},
	} {
		if got := m.now(c.old); got != c.new {
			t.Errorf("%s: %#x is now at %#x instead of %#x", name, c.old, got, c.new)
		}
	}
}

func TestAnchorsAreBelievedMoreThanCopies(t *testing.T) {
	p, _ := moving(t, 0x400, nil)
	bss, _ := p.key(bssAddr)
	_, m := moving(t, 0x400, []match.Copy{{New: 0x1000, Old: 0x1000, Len: 0x400}},
		span{0x1010, 0x1020, 8}, span{uint32(bss) + 0x20, uint32(bss) + 0x40, -16})
	for old, want := range map[place]place{
		textAddr + 0x0f: textAddr + 0x0f, textAddr + 0x10: textAddr + 0x18, textAddr + 0x1f: textAddr + 0x27, textAddr + 0x20: textAddr + 0x20,
		bssAddr + 0x1f: bssAddr + 0x1f, bssAddr + 0x20: bssAddr + 0x10, bssAddr + 0x40: bssAddr + 0x40,
	} {
		if got := m.now(old); got != want {
			t.Errorf("%#x is now at %#x instead of %#x", old, got, want)
		}
	}
}

// Whatever the copies and anchors are, the spans are in order, and one that covers a place alone says where it is.
func TestSpansAreInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var copies []match.Copy
		covered := make([]int, 0x2000)
		for range rapid.IntRange(0, 12).Draw(t, "copies") {
			c := match.Copy{Old: rapid.Int64Range(0x1000, 0x13ff).Draw(t, "old"), New: rapid.Int64Range(0x1000, 0x1200).Draw(t, "new")}
			c.Len = rapid.Int64Range(1, 0x1400-max(c.Old, c.New)).Draw(t, "length")
			for i := range c.Len {
				covered[c.Old+i]++
			}
			copies = append(copies, c)
		}
		var anchors []span
		for at := uint32(0x1000); len(anchors) < 4; {
			a := span{from: at + rapid.Uint32Range(0, 200).Draw(t, "gap"), shift: rapid.Int64Range(-64, 64).Draw(t, "shift")}
			a.to = a.from + rapid.Uint32Range(1, 100).Draw(t, "size")
			for i := a.from; i < a.to; i++ {
				covered[i] = -1
			}
			anchors, at = append(anchors, a), a.to
		}
		_, m := moving(t, 0x400, copies, anchors...)
		for i, s := range m.spans {
			if s.from >= s.to || i > 0 && s.from < m.spans[i-1].to {
				t.Fatalf("span %d of %+v", i, m.spans)
			}
		}
		for _, a := range anchors {
			if m.shift(int64(a.from)) != a.shift || m.shift(int64(a.to-1)) != a.shift {
				t.Fatalf("%+v is not among %+v", a, m.spans)
			}
		}
		for _, c := range copies {
			for i := range c.Len {
				if covered[c.Old+i] == 1 && m.shift(c.Old+i) != c.New-c.Old {
					t.Fatalf("%#x is not where its only copy %+v is", c.Old+i, c)
				}
			}
		}
	})
}
