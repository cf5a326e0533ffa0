package residue

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

// A copy is a piece that was predicted. at is where it is, or -1 after the one before it.
type copied struct {
	at                     int64
	predicted, kinds, made []byte
}

func write(t interface{ Fatal(...any) }, pieces []copied) []byte {
	var out bytes.Buffer
	c, m := entropy.NewWriter(&out), New()
	for _, p := range pieces {
		if p.at >= 0 {
			m.At(p.at)
		}
		m.Code(c, p.predicted, p.kinds, p.made)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(t interface{ Fatal(...any) }, stream []byte, pieces []copied) {
	c, m := entropy.NewReader(bytes.NewReader(stream)), New()
	for i, p := range pieces {
		if p.at >= 0 {
			m.At(p.at)
		}
		b := make([]byte, len(p.made))
		m.Code(c, p.predicted, p.kinds, b)
		if !bytes.Equal(b, p.made) {
			t.Fatal(fmt.Sprintf("piece %d of %d came out different", i, len(pieces)))
		}
	}
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var pieces []copied
		for range rapid.IntRange(1, 5).Draw(t, "pieces") {
			p := copied{at: rapid.OneOf(rapid.Just(int64(-1)), rapid.Int64Min(0)).Draw(t, "at")}
			n := rapid.OneOf(rapid.IntRange(0, 20), rapid.IntRange(0, 3000)).Draw(t, "size")
			every := rapid.SampledFrom([]int{1, 2, 10, 500, 1 << 30}).Draw(t, "a mistake every")
			p.predicted = make([]byte, n)
			for i := range p.predicted {
				few := r.Uint32() // bits; two of them make a bit of it
				p.predicted[i] = byte(few) & byte(few>>8)
			}
			p.made = bytes.Clone(p.predicted)
			for i := range p.made {
				if r.IntN(every) == 0 {
					p.made[i] += byte(r.Uint32())
				}
			}
			if rapid.Bool().Draw(t, "kinds") {
				p.kinds = make([]byte, n)
				for i := range p.kinds {
					p.kinds[i] = byte(r.Uint32()) // of any value
				}
			}
			pieces = append(pieces, p)
		}
		stream := write(t, pieces)
		if again := write(t, pieces); !bytes.Equal(stream, again) {
			t.Fatal("written twice, the streams differ")
		}
		read(t, stream, pieces)
	})
}

func TestWhatIsRightTakesNoPlace(t *testing.T) {
	b := make([]byte, 64<<10)
	for i := range b {
		b[i] = byte(i * i >> 3)
	}
	var pieces []copied
	for range 64 {
		pieces = append(pieces, copied{-1, b, nil, b})
	}
	if n := len(write(t, pieces)); n > 32 {
		t.Errorf("%d bytes that were predicted right took %d", 64*len(b), n)
	}
}

// program is a piece like code that has moved: words, some of which name a place by its distance, which is now another
// one by the same number; some of the places have moved by another.
func program(r *rand.Rand, n int) copied {
	p := copied{at: 0}
	for len(p.predicted) < n {
		old := []uint32{0xf9400000, 0xaa0003e0, 0x91000000, 0xb4000040}[r.IntN(4)] | r.Uint32N(32) | r.Uint32N(32)<<5
		made := old
		if r.IntN(6) == 0 {
			to := r.Uint32N(500)
			old = 0x94000000 | to*771&0x3ffffff
			made = old
			switch {
			case to < 20:
				made += 0x135
			case to < 30:
				made += 0x31
			}
		}
		for s := 0; s < 32; s += 8 {
			p.predicted = append(p.predicted, byte(old>>s))
			p.made = append(p.made, byte(made>>s))
		}
	}
	return p
}

func TestItIsSmallerThanDeflatedDifferences(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var (
		pieces []copied
		out    bytes.Buffer
	)
	w, err := flate.NewWriter(&out, 9)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		p := program(r, 32<<10)
		p.at = int64(i) * 32 << 10
		pieces = append(pieces, p)
		d := bytes.Clone(p.made)
		for i := range d {
			d[i] -= p.predicted[i]
		}
		if _, err := w.Write(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	n := len(write(t, pieces))
	t.Logf("deflate %d, this %d", out.Len(), n)
	if n*100 > out.Len()*45 {
		t.Errorf("deflated differences are %d bytes, and this is %d", out.Len(), n)
	}
}

// FuzzRead reads arbitrary streams: whatever they are, it must fill the pieces and end.
func FuzzRead(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	p := program(r, 3000)
	f.Add(write(f, []copied{p}), p.predicted, p.predicted[:100])
	f.Add([]byte{}, []byte("abc"), []byte{})
	f.Fuzz(func(t *testing.T, stream, predicted, kinds []byte) {
		if len(kinds) < len(predicted) {
			kinds = nil
		} else {
			kinds = kinds[:len(predicted)]
		}
		var got [2][]byte
		for i := range got {
			c, m := entropy.NewReader(bytes.NewReader(stream)), New()
			for range 3 {
				b := make([]byte, len(predicted))
				m.Code(c, predicted, kinds, b)
				got[i] = append(got[i], b...)
			}
		}
		if !bytes.Equal(got[0], got[1]) {
			t.Error("read twice, it came out different")
		}
	})
}

func BenchmarkRead(b *testing.B) {
	var pieces []copied
	for i := range 64 {
		p := program(rand.New(rand.NewPCG(uint64(i), 6)), 64<<10)
		p.at = -1
		pieces = append(pieces, p)
	}
	stream := write(b, pieces)
	made := make([]byte, 64<<10)
	b.SetBytes(int64(len(pieces) * len(made)))
	b.ReportAllocs()
	for b.Loop() {
		c, m := entropy.NewReader(bytes.NewReader(stream)), New()
		for _, p := range pieces {
			m.Code(c, p.predicted, p.kinds, made)
		}
	}
}

// What was written once must be read for ever: testdata/stream is of these pieces. UPDATE=1 writes it again, after the
// format's version has changed.
func TestAStreamOfOldIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var pieces []copied
	for i := range 16 {
		p := program(r, 3000)
		p.at = int64(i * 3001)
		if i&1 == 0 {
			p.kinds = make([]byte, len(p.made))
			for k := range p.kinds {
				p.kinds[k] = byte(r.IntN(9))
			}
		}
		for range 20 {
			p.made[r.IntN(len(p.made))] += byte(r.Uint32())
		}
		pieces = append(pieces, p)
	}
	// Mistakes at the end of a large block, one that is right, and a mistake again.
	apart := copied{at: 64 << 10, predicted: make([]byte, 3*large), made: make([]byte, 3*large)}
	apart.made[large-4], apart.made[large-1], apart.made[2*large] = 1, 2, 3
	pieces = append(pieces, apart)
	const name = "testdata/stream"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(name, write(t, pieces), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	read(t, stream, pieces)
}
