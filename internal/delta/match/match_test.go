package match

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// noise is bytes that have nothing in common with any others.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// check fails unless the copies are valid.
func check(t interface{ Fatalf(string, ...any) }, old, new []byte, copies []Copy) {
	end := int64(0)
	for i, c := range copies {
		if c.New < end || c.Len < 1 || c.Old < 0 || c.Old+c.Len > int64(len(old)) || c.New+c.Len > int64(len(new)) {
			t.Fatalf("copy %d of %d is %+v after the end of the last at %d; %d old bytes, %d new", i, len(copies), c, end, len(old), len(new))
		}
		end = c.New + c.Len
	}
}

// price is about what copies, what differs in them, and the other bytes cost, in bytes.
func price(old, new []byte, copies []Copy) int {
	all, end := 0, int64(0)
	for _, c := range copies {
		all += 5 + int(c.New-end)
		end = c.New + c.Len
		for i := range c.Len {
			if old[c.Old+i] != new[c.New+i] {
				all++
			}
		}
	}
	return all + len(new) - int(end)
}

// related draws two files, the second made of pieces of the first, changed here and there, and bytes of its own.
func related(t *rapid.T) (old, new []byte) {
	letters := rapid.SampledFrom([]int{1, 2, 4, 256}).Draw(t, "letters")
	bytesOf := func(what string, most int) []byte {
		b := noise(rapid.Uint64().Draw(t, what), rapid.IntRange(0, most).Draw(t, what+" length"))
		for i := range b {
			b[i] = byte(int(b[i]) % letters)
		}
		return b
	}
	old = bytesOf("old", 4000)
	for range rapid.IntRange(0, 8).Draw(t, "pieces") {
		if rapid.Bool().Draw(t, "own") {
			new = append(new, bytesOf("own bytes", 300)...)
			continue
		}
		from := rapid.IntRange(0, len(old)).Draw(t, "from")
		piece := bytes.Clone(old[from:rapid.IntRange(from, len(old)).Draw(t, "to")])
		for range rapid.IntRange(0, 5).Draw(t, "changes") {
			if len(piece) > 0 {
				piece[rapid.IntRange(0, len(piece)-1).Draw(t, "at")]++
			}
		}
		new = append(new, piece...)
	}
	return old, new
}

func TestCopiesAreValidAndAlwaysTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, new := related(t)
		copies := Find(old, new)
		check(t, old, new, copies)
		if again := Find(old, new); !slices.Equal(copies, again) {
			t.Fatalf("found %v, and then %v", copies, again)
		}
	})
}

func TestWhatIsTheSameIsOneCopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := noise(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(64, 100_000).Draw(t, "size"))
		from := rapid.IntRange(0, len(old)-64).Draw(t, "from")
		to := rapid.IntRange(from+64, len(old)).Draw(t, "to")
		want := []Copy{{0, int64(from), int64(to - from)}}
		if got := Find(old, old[from:to]); !slices.Equal(got, want) {
			t.Fatalf("found %v and should have found %v", got, want)
		}
	})
}

func TestBytesThatDifferStayInTheCopy(t *testing.T) {
	old := noise(1, 50_000)
	new := bytes.Clone(old[1000:])
	for i := 500; i < len(new)-10; i += 97 {
		new[i]++
	}
	want := []Copy{{0, 1000, int64(len(new))}}
	if got := Find(old, new); !slices.Equal(got, want) {
		t.Errorf("found %d copies, of which the first is %v", len(got), got[0])
	}
}

func TestACopyEndsWhereTheNextIsBetter(t *testing.T) {
	old := noise(1, 20_000)
	new := slices.Concat(old[100:9_000], old[12_000:19_000])
	want := []Copy{{0, 100, 8_900}, {8_900, 12_000, 7_000}}
	if got := Find(old, new); !slices.Equal(got, want) {
		t.Errorf("found %v and should have found %v", got, want)
	}
	// Both differ from new near where one ends and the other begins.
	new[8_880]++
	new[8_920]++
	if got := Find(old, new); !slices.Equal(got, want) {
		t.Errorf("with differing bytes, found %v and should have found %v", got, want)
	}
}

func TestEditsCostWhatTheyAre(t *testing.T) {
	type edit struct {
		name string
		do   func(r *rand.Rand, b []byte) []byte
		each int // what one may cost, in bytes
	}
	for _, e := range []edit{
		{"insert", func(r *rand.Rand, b []byte) []byte {
			at := r.IntN(len(b))
			return slices.Insert(b, at, noise(r.Uint64(), 10)...)
		}, 16},
		{"delete", func(r *rand.Rand, b []byte) []byte {
			at := r.IntN(len(b) - 100)
			return slices.Delete(b, at, at+50)
		}, 6},
		{"replace", func(r *rand.Rand, b []byte) []byte {
			at := r.IntN(len(b) - 100)
			copy(b[at:], noise(r.Uint64(), 12))
			return b
		}, 18},
		{"move", func(r *rand.Rand, b []byte) []byte {
			from, to := r.IntN(len(b)-1000), r.IntN(len(b)-1000)
			moved := bytes.Clone(b[from : from+1000])
			return slices.Insert(slices.Delete(b, from, from+1000), to, moved...)
		}, 18},
		{"small pieces", func(r *rand.Rand, b []byte) []byte { // with 14 bytes left between insertions: only near places are looked at so closely
			at := r.IntN(len(b) - 1000)
			for i := range 10 {
				b = slices.Insert(b, at+i*16, byte(r.Uint32()), byte(r.Uint32()))
			}
			return b
		}, 90},
	} {
		const edits = 25
		old := noise(7, 256<<10)
		new := bytes.Clone(old)
		r := rand.New(rand.NewPCG(1, 2))
		for range edits {
			new = e.do(r, new)
		}
		copies := Find(old, new)
		check(t, old, new, copies)
		if got := price(old, new, copies); got > edits*e.each {
			t.Errorf("%d times %s costs %d bytes in %d copies, and may cost %d", edits, e.name, got, len(copies), edits*e.each)
		}
	}
}

// program is code that was built: functions of noise in which every 20th word is the address of one of them.
func program(lengths []int) []byte {
	starts := make([]uint32, len(lengths))
	at := uint32(0x400000)
	for i, n := range lengths {
		starts[i] = at
		at += uint32(n) * 4
	}
	var b []byte
	for i, n := range lengths {
		f := noise(uint64(i), n*4)
		for w := 5; w < n; w += 20 {
			binary.LittleEndian.PutUint32(f[w*4:], starts[(i*31+w)%len(lengths)])
		}
		b = append(b, f...)
	}
	return b
}

func TestMovedAddressesDoNotBreakCopies(t *testing.T) {
	lengths := make([]int, 1000)
	for i := range lengths {
		lengths[i] = 50 + i*37%200
	}
	old := program(lengths)
	for _, i := range []int{100, 500, 900} {
		lengths[i] += 9
	}
	new := program(lengths)
	copies := Find(old, new)
	check(t, old, new, copies)
	if len(copies) > 12 {
		t.Errorf("three functions that have grown make %d copies", len(copies))
	}
	covered := int64(0)
	for _, c := range copies {
		covered += c.Len
	}
	if left := int64(len(new)) - covered; left > 3*9*4+40 {
		t.Errorf("%d bytes are in no copy", left)
	}
}

// hard are pairs of files that are hard to compare.
func hard(n int) map[string][2][]byte {
	period := func(k, n int) []byte { return bytes.Repeat(noise(uint64(k), k), n/k+1)[:n] }
	sprinkled := func(b []byte, every int) []byte {
		b = bytes.Clone(b)
		for i := every; i < len(b); i += every {
			b[i] = byte(i / every)
		}
		return b
	}
	two := func(seed uint64) []byte { // words of two letters
		b := noise(seed, n)
		for i := range b {
			b[i] &= 1
		}
		return b
	}
	runs := func(a, b int) []byte {
		var out []byte
		for i := 0; len(out) < n; i++ {
			out = append(append(out, make([]byte, a+i*7%b)...), byte(i), byte(i>>8))
		}
		return out
	}
	return map[string][2][]byte{
		"zeros":             {make([]byte, n), make([]byte, n)},
		"zeros, then noise": {make([]byte, n), noise(1, n)},
		"noise":             {noise(1, n), noise(2, n)},
		"a period":          {period(17, n), period(17, n)},
		"two periods":       {period(300, n), period(301, n)},
		"changed periods":   {sprinkled(period(40, n), 500), sprinkled(period(40, n), 333)},
		"changed zeros":     {sprinkled(make([]byte, n), 40), sprinkled(make([]byte, n), 50)},
		"two letters":       {two(1), two(2)},
		"runs of zeros":     {runs(20, 100), runs(30, 90)},
	}
}

func TestWorkIsInProportionToSize(t *testing.T) {
	for name, pair := range hard(32 << 10) {
		old, new := pair[0], pair[1]
		p := find(old, new, newLiterals(new))
		if p.work > workMost*5/4*(len(new)+workFree) {
			t.Errorf("%s: %d bytes looked at for each", name, p.work/len(new))
		}
		first := p.work
		q := refine(p, p.copies())
		if q.work > nearWork*2*(len(new)+workFree) {
			t.Errorf("%s: %d bytes looked at for each to refine what took %d", name, q.work/len(new), first/len(new))
		}
		if len(p.nodes)+len(q.nodes) > len(new) {
			t.Errorf("%s: %d nodes", name, len(p.nodes)+len(q.nodes))
		}
		check(t, old, new, q.copies())
	}
}

func TestTheTableOfALargeFileIsBounded(t *testing.T) {
	for _, size := range []int{0, 1, 100, 1 << 20, 9 << 20, 200 << 20} {
		table := newTable(make([]byte, size))
		if got := len(table.slots) * 4; got > size*7+256 || size > 8<<20 && got > size*5 || got > memoryMax {
			t.Errorf("the table of %d bytes has %d", size, got)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	old := noise(1, 8<<20)
	edited := bytes.Clone(old)
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		edited[r.IntN(len(edited))]++
	}
	for name, new := range map[string][]byte{"edited": edited, "unrelated": noise(2, 8<<20)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(new)))
			for b.Loop() {
				Find(old, new)
			}
		})
	}
	for name, pair := range hard(1 << 20) {
		b.Run(fmt.Sprintf("hard/%s", name), func(b *testing.B) {
			b.SetBytes(int64(len(pair[1])))
			for b.Loop() {
				Find(pair[0], pair[1])
			}
		})
	}
}
