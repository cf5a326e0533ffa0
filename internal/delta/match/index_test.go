package match

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// indexed is an index of files, numbered as they come.
func indexed(t interface{ Fatal(...any) }, files ...[]byte) *Index {
	size := int64(0)
	for _, f := range files {
		size += int64(len(f))
	}
	x := NewIndex(size)
	for i, f := range files {
		if err := x.Add(i, int64(len(f)), bytes.NewReader(f)); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

func sources(votes []Vote) []int {
	var all []int
	for _, v := range votes {
		all = append(all, v.File)
	}
	return all
}

func TestContentIsFoundWhereverItWasMoved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		var files [][]byte
		for i := range uint64(8) {
			files = append(files, noise(seed+i, 12_000))
		}
		x := indexed(t, files...)
		want := rapid.IntRange(0, 7).Draw(t, "file")
		from := rapid.IntRange(0, 6_000).Draw(t, "from")
		content := slices.Concat(noise(seed+100, rapid.IntRange(0, 5000).Draw(t, "own bytes")), files[want][from:], noise(seed+101, 100))
		votes := x.Sources(content)
		if !slices.Equal(sources(votes), []int{want}) {
			t.Fatalf("found %v and should have found file %d", votes, want)
		}
		if n := len(files[want]) - from; votes[0].Score < n/2 || votes[0].Score > n*2 {
			t.Errorf("%d common bytes have a score of %d", n, votes[0].Score)
		}
	})
}

func TestSmallFilesAreFound(t *testing.T) {
	var files [][]byte
	for i := range uint64(500) {
		files = append(files, noise(i, 300+int(i)*5))
	}
	x := indexed(t, files...)
	missed := 0
	for i, f := range files {
		content := append([]byte("# another first line\n"), f...)
		if got := sources(x.Sources(content)); !slices.Equal(got, []int{i}) {
			missed++
		}
	}
	if missed > 0 {
		t.Errorf("%d of %d small files are not found", missed, len(files))
	}
}

func TestTheNextSourceIsTheOneThatAddsMost(t *testing.T) {
	a, b, c := noise(1, 60_000), noise(2, 40_000), noise(3, 20_000)
	most := slices.Concat(a, b[:10_000])
	x := indexed(t, b, most, a, c) // a adds nothing to most
	votes := x.Sources(slices.Concat(c, a, b))
	if got := sources(votes); !slices.Equal(got, []int{1, 0, 3}) {
		t.Errorf("the sources are %v", votes)
	}
}

func TestWhatIsInManyFilesTellsNothing(t *testing.T) {
	licence := noise(1, 30_000)
	var files [][]byte
	for i := range uint64(30) {
		files = append(files, slices.Concat(licence, make([]byte, 30_000), noise(100+i, 8_000)))
	}
	x := indexed(t, files...)
	if got := sources(x.Sources(files[17])); !slices.Equal(got, []int{17}) {
		t.Errorf("the sources of file 17 are %v", got)
	}
	if got := x.Sources(slices.Concat(licence, make([]byte, 30_000))); len(got) > 0 {
		t.Errorf("what all files have has the sources %v", got)
	}
}

func TestTheSameIndexAnswersTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, content := related(t)
		two, _ := related(t)
		ask := func() []Vote { return indexed(t, one, two, slices.Concat(two, one)).Sources(content) }
		first := ask()
		if again := ask(); !slices.Equal(first, again) {
			t.Fatalf("answered %v, and then %v", first, again)
		}
		for i, v := range first {
			if v.File < 0 || v.File > 2 || slices.Contains(sources(first[:i]), v.File) || v.Score < 0 {
				t.Fatalf("answered %v", first)
			}
		}
	})
}

func TestAnIndexThatGetsMoreThanItWasMadeForForgetsEvenly(t *testing.T) {
	x := NewIndex(100_000)
	slots := len(x.slots)
	files := make([][]byte, 50)
	for i := range files {
		n := 200_000
		if i%2 == 1 {
			n = 5_000
		}
		files[i] = noise(uint64(i), n)
		if err := x.Add(i, int64(n), bytes.NewReader(files[i])); err != nil {
			t.Fatal(err)
		}
	}
	if len(x.slots) != slots || x.used > slots {
		t.Errorf("it has grown from %d to %d slots, %d of them used", slots, len(x.slots), x.used)
	}
	for i := 0; i < len(files); i += 2 {
		if got := sources(x.Sources(files[i])); !slices.Equal(got, []int{i}) {
			t.Errorf("the sources of large file %d are %v", i, got)
		}
	}
}

func TestAnIndexIsSmall(t *testing.T) {
	for _, size := range []int64{0, 1 << 20, 400 << 20, 100 << 30} {
		x := NewIndex(size)
		if got := int64(len(x.slots)) * 8; got > max(size/4, 16<<10) || got > 64<<20 {
			t.Errorf("an index for %d bytes takes %d", size, got)
		}
	}
}

func TestPiecesOfAnyLengthAreOneFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := noise(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 3000).Draw(t, "size"))
		var whole, pieces sampler
		want := whole.write(nil, content, 2)
		var got []uint64
		for rest := content; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			got = pieces.write(got, rest[:n], 2)
			rest = rest[n:]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%d samples in pieces, %d in one", len(got), len(want))
		}
	})
}

func TestAFileThatCannotBeReadIsToldOf(t *testing.T) {
	broken := errors.New("broken")
	if err := NewIndex(1000).Add(0, 1000, iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("adding it: %v", err)
	}
}

func BenchmarkIndex(b *testing.B) {
	content := noise(1, 8<<20)
	x := NewIndex(int64(len(content)))
	b.Run("add", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			if err := x.Add(0, int64(len(content)), bytes.NewReader(content)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sources", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			x.Sources(content)
		}
	})
}
