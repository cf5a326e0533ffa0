package match

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

var errYield = errors.New("enough")

// exactly is what Exact finds, which must be valid and the same to the byte.
func exactly(t interface{ Fatalf(string, ...any) }, x Exact, old, new []byte) []Copy {
	var all []Copy
	err := x.Find(context.Background(), bytes.NewReader(old), int64(len(old)), bytes.NewReader(new), func(c Copy) error {
		all = append(all, c)
		return nil
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	check(t, old, new, all)
	for _, c := range all {
		if !bytes.Equal(old[c.Old:c.Old+c.Len], new[c.New:c.New+c.Len]) {
			t.Fatalf("%+v is no copy", c)
		}
	}
	return all
}

// cost is what it costs to make n bytes of copies.
func (x Exact) cost(n int, copies []Copy) int {
	cost, end := 0, int64(0)
	for _, c := range append(slices.Clone(copies), Copy{New: int64(n)}) {
		if c.New > end {
			cost += x.Gap + x.Literal*int(c.New-end)
		}
		if c.Len > 0 {
			cost += x.Copy
		}
		end = c.New + c.Len
	}
	return cost
}

// cheapest is the cost of the cheapest way, tried out.
func (x Exact) cheapest(old, new []byte) int {
	n := len(new)
	in, out := make([]int, n+1), make([]int, n+1) // so much of new made, its last byte in a copy, or in none
	for i := range n {
		in[i+1], out[i+1] = math.MaxInt/2, math.MaxInt/2
	}
	in[0], out[0] = 0, math.MaxInt/2
	for i := range n {
		out[i+1] = min(out[i+1], in[i]+x.Gap+x.Literal, out[i]+x.Literal)
		longest := 0
		for o := range old {
			longest = max(longest, common(old[o:], new[i:]))
		}
		if longest < x.Min {
			continue
		}
		for k := 1; k <= longest; k++ {
			in[i+k] = min(in[i+k], min(in[i], out[i])+x.Copy)
		}
	}
	return min(in[n], out[n])
}

func TestExactCopiesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, new := related(t)
		exactly(t, Exact{Min: rapid.IntRange(1, 40).Draw(t, "min"), Copy: 6, Literal: 1, Gap: 1}, old, new)
	})
}

func TestExactCopiesAreTheCheapest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := noise(rapid.Uint64().Draw(t, "seed"), 400)
		var new []byte
		for range rapid.IntRange(0, 8).Draw(t, "pieces") {
			from := rapid.IntRange(0, len(old)).Draw(t, "from")
			new = append(new, old[from:min(len(old), from+rapid.IntRange(0, 60).Draw(t, "length"))]...)
			new = append(new, noise(rapid.Uint64().Draw(t, "own"), rapid.IntRange(0, 10).Draw(t, "own length"))...)
		}
		x := Exact{Min: 11, Copy: rapid.IntRange(1, 20).Draw(t, "copy"), Literal: 1}
		if got, want := x.cost(len(new), exactly(t, x, old, new)), x.cheapest(old, new); got > want {
			t.Fatalf("costs %d and could cost %d", got, want)
		}
	})
}

func TestExactCopiesGoOnOverBlocks(t *testing.T) {
	old := noise(1, 2*blockSize+1000)
	new := slices.Concat(noise(2, 100), old[77:], noise(3, 100))
	want := []Copy{{100, 77, int64(len(old) - 77)}}
	if got := exactly(t, Exact{Min: 24, Copy: 6, Literal: 1}, old, new); !slices.Equal(got, want) {
		t.Errorf("found %v and should have found %v", got, want)
	}
}

func TestLongRunsAreFewExactCopies(t *testing.T) {
	// The longest run is not the first, and there are many.
	var old []byte
	for i := range 200 {
		old = append(append(old, make([]byte, 1000+i*37%100*10)...), noise(uint64(i), 50)...)
	}
	old = append(old, make([]byte, 500_000)...)
	new := make([]byte, 3_000_000)
	if got := exactly(t, Exact{Min: 24, Copy: 6, Literal: 1}, old, new); len(got) > 8 {
		t.Errorf("3,000,000 zeros are %d copies of runs of up to 500,000", len(got))
	}
}

func TestTheMemoryOfExactIsBounded(t *testing.T) {
	old := noise(1, 4<<20)
	x := Exact{Min: 24, Copy: 6, Literal: 1, Memory: 512 << 10}
	g, err := x.index(t.Context(), bytes.NewReader(old), int64(len(old)))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(g.slots)*4 + len(g.check); got > 600<<10 {
		t.Errorf("the index has %d bytes", got)
	}
	// What is long is still found.
	new := slices.Concat(noise(2, 1000), old[1_000_001:1_002_000])
	if got, want := exactly(t, x, old, new), []Copy{{1000, 1_000_001, 1999}}; !slices.Equal(got, want) {
		t.Errorf("found %v and should have found %v", got, want)
	}
}

func TestExactTellsWhatWentWrong(t *testing.T) {
	old := noise(1, 100_000)
	x := Exact{Min: 24, Copy: 6, Literal: 1}
	none := func(Copy) error { return nil }
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		old   io.ReaderAt
		size  int64
		new   io.Reader
		yield func(Copy) error
		want  error
	}{
		"old is shorter than said": {bytes.NewReader(old), 100_001, bytes.NewReader(old), none, io.ErrUnexpectedEOF},
		"new cannot be read":       {bytes.NewReader(old), 100_000, io.MultiReader(bytes.NewReader(old), iotest.ErrReader(broken)), none, broken},
		"yield has had enough":     {bytes.NewReader(old), 100_000, bytes.NewReader(old), func(Copy) error { return errYield }, errYield},
	} {
		if err := x.Find(t.Context(), test.old, test.size, test.new, test.yield); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Find(ctx, bytes.NewReader(old), 100_000, bytes.NewReader(noise(2, 2*blockSize)), none); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context has ended: %v", err)
	}
}

func BenchmarkExact(b *testing.B) {
	old := noise(1, 16<<20)
	for name, new := range map[string][]byte{"same": old, "unrelated": noise(2, 16<<20)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(new)))
			for b.Loop() {
				exactly(b, Exact{Min: 24, Copy: 6, Literal: 1}, old, new)
			}
		})
	}
}
