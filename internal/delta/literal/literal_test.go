package literal

import (
	"bytes"
	"compress/flate"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/delta/entropy"
)

// A part is a piece, or bytes that are fed.
type part struct {
	b     []byte
	fed   bool
	allow int64 // how much more may be dense
	near  *near // what is around it
}

type near struct {
	offset          int64
	before, instead []byte
}

func (n *near) tell(m *Model) {
	if n != nil {
		m.Near(n.offset, n.before, n.instead)
	}
}

// write codes parts.
func write(t interface{ Fatal(...any) }, parts []part) []byte {
	var out bytes.Buffer
	c, m := entropy.NewWriter(&out), New()
	m.allow = 0
	for _, p := range parts {
		m.Allow(p.allow)
		p.near.tell(m)
		before := bytes.Clone(p.b)
		if p.fed {
			m.Feed(p.b)
		} else {
			m.Code(c, p.b)
		}
		if !bytes.Equal(before, p.b) {
			t.Fatal("writing changed what is written")
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read reads parts of the same sizes.
func read(t interface{ Fatal(...any) }, stream []byte, parts []part) {
	c, m := entropy.NewReader(bytes.NewReader(stream)), New()
	for i, p := range parts {
		if p.fed {
			m.Feed(p.b)
			continue
		}
		p.near.tell(m)
		b := make([]byte, len(p.b))
		m.Code(c, b)
		if !bytes.Equal(b, p.b) {
			t.Fatal(fmt.Sprintf("part %d of %d, of %d bytes, came out different", i, len(parts), len(p.b)))
		}
	}
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
}

// contents draws contents of one kind or another.
func contents(r *rand.Rand, kind, n int) []byte {
	b := make([]byte, n)
	switch kind {
	case 0: // zeros
	case 1: // noise
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	case 2: // text
		b = prose(r, n)
	case 3: // one thing again and again, of any length
		period := 1 + r.IntN(300)
		for i := range b {
			if b[i] = byte(r.Uint32()); i >= period {
				b[i] = b[i-period]
			}
		}
	case 4: // like x86-64, with calls everywhere, into each other too
		for i := range b {
			b[i] = []byte{0xe8, 0xe9, 0, 0xff, 0x48, 0x8b, byte(r.Uint32())}[r.IntN(7)]
		}
	case 5: // like arm64
		return arm(r, n)
	}
	return b
}

// prose is text with words and phrases that come again, as they do in programs.
func prose(r *rand.Rand, n int) []byte {
	var words []string
	for range 300 {
		w := make([]byte, 2+r.IntN(9))
		for i := range w {
			w[i] = "etaoinshrdlucmfw"[min(r.IntN(16), r.IntN(16))]
		}
		words = append(words, string(w))
	}
	joints := []string{" ", " ", " ", ".", "(", ")", ";\n", ", ", " = ", "{\n\t"}
	var b []byte
	for len(b) < n {
		if r.IntN(12) == 0 && len(b) > 200 {
			at := r.IntN(len(b) - 100)
			b = append(b, b[at:at+min(20+r.IntN(80)*r.IntN(8), len(b)-at)]...)
			if r.IntN(2) == 0 {
				b[len(b)-1-r.IntN(20)] ^= 1
			}
			continue
		}
		b = append(b, words[min(r.IntN(300), r.IntN(300))]...)
		b = append(b, joints[min(r.IntN(10), r.IntN(10))]...)
	}
	return b[:n]
}

// arm is made of words like those of arm64: a few instructions, registers, calls of a few functions.
func arm(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+4)
	for len(b) < n {
		w := []uint32{0xf9400000, 0xaa0003e0, 0x91000000, 0xb4000040}[min(r.IntN(4), r.IntN(4))] | r.Uint32N(8) | r.Uint32N(8)<<5
		switch r.IntN(5) {
		case 0:
			w = 0x94000000 | (r.Uint32N(20)*1000-uint32(len(b))/4)&0x3ffffff
		case 1:
			page := uint32(0x500+r.IntN(3)) - uint32(len(b))>>12
			w = 0x90000000 | page&3<<29 | page>>2&0x7ffff<<5 | r.Uint32N(8)
		}
		b = append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	return b[:n]
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var parts []part
		for range rapid.IntRange(1, 6).Draw(t, "parts") {
			p := part{fed: rapid.Bool().Draw(t, "fed"), allow: rapid.Int64Range(0, 5000).Draw(t, "allow")}
			n := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, 10_000)).Draw(t, "size")
			p.b = contents(r, rapid.IntRange(0, 5).Draw(t, "kind"), n)
			if len(parts) > 0 && rapid.Bool().Draw(t, "again") {
				p.b = bytes.Clone(parts[len(parts)-1].b)
				if len(p.b) > 0 {
					p.b[r.IntN(len(p.b))]++
				}
			}
			if !p.fed && rapid.Bool().Draw(t, "near") {
				p.near = &near{offset: rapid.Int64Min(0).Draw(t, "offset")}
				p.near.before = contents(r, rapid.IntRange(0, 5).Draw(t, "before"), r.IntN(100))
				p.near.instead = bytes.Clone(p.b[:r.IntN(len(p.b)+1)])
				if len(p.near.instead) > 0 {
					p.near.instead[r.IntN(len(p.near.instead))]++
				}
			}
			parts = append(parts, p)
		}
		stream := write(t, parts)
		if again := write(t, parts); !bytes.Equal(stream, again) {
			t.Fatal("written twice, the streams differ")
		}
		read(t, stream, parts)
	})
}

// The window goes round, and the writer's buffer slides, with both ways in turn and what was fed between.
func TestMoreThanTheWindowIsReadAsItWasWritten(t *testing.T) {
	if raced {
		t.Skip("tens of megabytes take minutes under the race detector, and nothing here is concurrent")
	}
	r := rand.New(rand.NewPCG(1, 2))
	first := contents(r, 1, 40_000)
	var parts []part
	add := func(n int, fed bool) {
		for ; n > 0; n -= Piece {
			parts = append(parts, part{b: make([]byte, min(n, Piece)), fed: fed})
		}
	}
	dense := part{b: contents(r, 2, 10_000), allow: 10_000}
	parts = append(parts, part{b: first}, dense)
	add(Window-60_000, false)
	parts = append(parts, part{b: first}, part{b: dense.b, allow: 10_000})
	fed := make([]byte, 2*Window)
	copy(fed[Window+12345:], first)
	parts = append(parts, part{b: fed, fed: true}, part{b: first, allow: int64(len(first))})
	add(2*Window+77, true)
	parts = append(parts, part{b: first}, part{b: dense.b, allow: 10_000}, part{b: dense.b})
	stream := write(t, parts)
	read(t, stream, parts)
	// The first time and the last the noise is not in the window.
	if n := len(stream); n < 2*len(first) || n > 2*len(first)+15_000 {
		t.Errorf("noise of %d bytes, twice, took %d", len(first), n)
	}
}

// The buffer grows while it is looked at, and what comes later differs.
func TestMatchesAreMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		all := contents(r, 3, 4000)
		for range 40 {
			all[r.IntN(len(all))] ^= 1
		}
		most := rapid.IntRange(1, 300).Draw(t, "bytes at once")
		f := newFinder()
		for at, end := 0, 0; at < len(all); {
			end = min(end+1+r.IntN(most), len(all))
			buf := all[:end:end]
			f.room(end)
			for ; at < end; at++ {
				if r.IntN(3) == 0 {
					f.pass(buf, at)
					continue
				}
				last := uint32(0)
				for _, m := range f.find(buf, at, make([]find, 0, 8)) {
					from := at - int(m.dist)
					if from < 0 || at+int(m.size) > end || !bytes.Equal(buf[from:from+int(m.size)], buf[at:at+int(m.size)]) {
						t.Fatalf("at %d of %d bytes, %d from %d before are not the same", at, end, m.size, m.dist)
					}
					if m.size <= last {
						t.Fatalf("at %d, a match of %d bytes comes after one of %d", at, m.size, last)
					}
					last = m.size
				}
			}
		}
	})
}

func TestTheFilesKindIsSeen(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	x := make([]byte, 0, 100_000)
	for len(x) < 100_000 {
		x = append(x, 0x48, byte(r.Uint32()), 0x24, byte(r.Uint32()), 0xe8, byte(r.Uint32()), byte(r.Uint32()), byte(r.IntN(2)*255), 0)
		x[len(x)-1] = x[len(x)-2]
	}
	for _, c := range []struct {
		of    string
		b     []byte
		kind  uint32
		phase uint32
	}{
		{"text", prose(r, 10_000), text, 0},
		{"noise", contents(r, 1, 10_000), other, 0},
		{"x86-64", x, x86, 0},
		{"arm64", arm(r, 10_000), arm64, 0},
		{"arm64 from the middle of an instruction on", arm(r, 10_000)[3:], arm64, 1},
		{"nothing", nil, text, 0},
	} {
		if kind, phase := guess(c.b); kind != c.kind || phase != c.phase {
			t.Errorf("%s is taken for kind %d, phase %d; want %d, %d", c.of, kind, phase, c.kind, c.phase)
		}
	}
}

func TestFiltersAreUndone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		b := contents(r, rapid.IntRange(0, 5).Draw(t, "contents"), rapid.IntRange(0, 500).Draw(t, "size"))
		at := rapid.Uint32().Draw(t, "at")
		kind := rapid.Uint32Range(0, 3).Draw(t, "kind")
		phase := rapid.Uint32Range(0, 3).Draw(t, "phase")
		got := bytes.Clone(b)
		filter(got, at, kind, phase)
		unfilter(got, at, kind, phase)
		if !bytes.Equal(got, b) {
			t.Fatalf("kind %d at %d, phase %d: % x became % x", kind, at, phase, b, got)
		}
	})
}

// size is what contents take in pieces, densely or not.
func size(t *testing.T, b []byte, dense bool) int {
	var parts []part
	for ; len(b) > 0; b = b[min(len(b), 64<<10):] {
		p := part{b: b[:min(len(b), 64<<10)]}
		if dense {
			p.allow = int64(len(p.b))
		}
		parts = append(parts, p)
	}
	return len(write(t, parts))
}

func deflated(t *testing.T, b []byte) int {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, 9)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Len()
}

// The bounds are a little above what it is now.
func TestItIsSmallerThanDeflate(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct {
		of          string
		b           []byte
		fast, dense float64 // of what deflate makes of it
	}{
		{"text", prose(r, 60_000), 0.95, 0.76},
		{"a little text", prose(r, 3000), 1.17, 1.02},
		{"arm64", arm(r, 60_000), 0.62, 0.55},
	} {
		d := float64(deflated(t, c.b))
		fast, dense := float64(size(t, c.b, false))/d, float64(size(t, c.b, true))/d
		t.Logf("%s: deflate %.0f, fast %.3f of it, dense %.3f", c.of, d, fast, dense)
		if fast > c.fast || dense > c.dense {
			t.Errorf("%s: fast %.3f of deflate, want %.2f; dense %.3f, want %.2f", c.of, fast, c.fast, dense, c.dense)
		}
	}
}

func TestWhatIsKnownTakesNoPlace(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	b := contents(r, 1, 50_000)
	for _, fed := range []bool{true, false} {
		for _, allow := range []int64{0, 50_000} {
			n := len(write(t, []part{{b: b, fed: fed}, {b: b, allow: allow}}))
			if !fed {
				n -= len(b)
			}
			if n > 1200 {
				t.Errorf("fed %v, dense %v: the same again took %d bytes", fed, allow > 0, n)
			}
		}
	}
	if n := len(write(t, []part{{b: make([]byte, 100_000), allow: Piece}, {b: make([]byte, 100_000)}})); n > 250 {
		t.Errorf("200,000 zeros took %d bytes", n)
	}
	for _, allow := range []int64{0, 50_000} {
		if n := len(write(t, []part{{b: b, allow: allow}})); n > len(b)+len(b)/50 {
			t.Errorf("dense %v: %d bytes of noise took %d", allow > 0, len(b), n)
		}
		if n := len(write(t, []part{{b: b[:60], allow: allow, near: &near{0, b[:20], b[:64]}}})); n > 12 {
			t.Errorf("dense %v: 60 bytes that are as before took %d", allow > 0, n)
		}
	}
}

// FuzzRead reads arbitrary streams: whatever they are, it must fill the pieces and end.
func FuzzRead(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 10))
	for kind := range 6 {
		b := contents(r, kind, 3000)
		f.Add(write(f, []part{{b: b}, {b: b, allow: 3000}, {b: b[:1000]}}))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		var sums [2][]byte
		for i := range sums {
			c, m := entropy.NewReader(bytes.NewReader(stream)), New()
			for k := range 4 {
				b := make([]byte, 3000)
				if k > 1 {
					m.Near(int64(k), stream, b[:k*20])
				}
				m.Code(c, b)
				m.Feed(b[:100])
				sums[i] = append(sums[i], b...)
			}
		}
		if !bytes.Equal(sums[0], sums[1]) {
			t.Error("read twice, it came out different")
		}
	})
}

// What was written once must be read for ever: testdata/stream is of these parts. UPDATE=1 writes it again, after the
// format's version has changed.
func TestAStreamOfOldIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	var parts []part
	for kind := range 6 {
		b := contents(r, kind, 600)
		parts = append(parts, part{b: b, allow: 600}, part{b: contents(r, 2, 100), fed: true}, part{b: contents(r, kind, 600)},
			part{b: b[100:300], allow: 200, near: &near{100, b[:100], b[120:]}}, part{b: b[101:300], near: &near{101, b[:100], b[120:]}})
	}
	const name = "testdata/stream"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(name, write(t, parts), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	read(t, stream, parts)
}

func BenchmarkModel(b *testing.B) {
	r := rand.New(rand.NewPCG(13, 14))
	for _, c := range []struct {
		of string
		b  []byte
	}{{"text", prose(r, Piece)}, {"arm64", arm(r, Piece)}} {
		for _, allow := range []int64{0, Piece} {
			way := map[bool]string{false: "fast", true: "dense"}[allow > 0]
			parts := []part{{b: c.b, allow: allow}}
			stream := write(b, parts)
			b.Run(c.of+"/"+way+"/write", func(b *testing.B) {
				b.SetBytes(Piece)
				b.ReportAllocs()
				for b.Loop() {
					write(b, parts)
				}
			})
			b.Run(c.of+"/"+way+"/read", func(b *testing.B) {
				b.SetBytes(Piece)
				b.ReportAllocs()
				for b.Loop() {
					read(b, stream, parts)
				}
			})
		}
	}
}
