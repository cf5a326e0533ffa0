package entropy

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestQuickModelsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		beside := rapid.SliceOfN(rapid.Byte(), len(b), len(b)).Draw(t, "beside")
		code := func(c *Coder, in []byte) (out []byte) {
			var (
				bit  Quick
				tree [256]Quick
				back [256]Quick
				next [768]Quick
			)
			for i := range b {
				v := byte(0)
				if in != nil {
					v = in[i]
				}
				switch i & 3 {
				case 0:
					v = byte(c.QuickTree(tree[:], 8, uint32(v)))
				case 1:
					v = byte(c.QuickBack(back[:], 8, uint32(v)))
				case 2:
					v = c.QuickBeside(&next, beside[i], v)
				case 3:
					v = byte(c.Quick(&bit, int(v&1))) | byte(c.Raw(7, uint64(v>>1)))<<1
				}
				out = append(out, v)
			}
			return out
		}
		var stream bytes.Buffer
		w := NewWriter(&stream)
		code(w, b)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r := NewReader(&stream)
		if got := code(r, nil); !bytes.Equal(got, b) {
			t.Fatalf("wrote % x, read % x", b, got)
		}
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
	})
}

// The interval is kept around a number of which all upper bits change at once, for longer than the writer's buffer: whether
// they do is decided by the last bits.
func TestACarryGoesThroughAllThatWaitsForIt(t *testing.T) {
	for _, n := range []int{40, 1000, 20 * buffer} {
		for _, up := range []bool{false, true} {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			var stream bytes.Buffer
			w := NewWriter(&stream)
			var ps, bits []uint32
			around := uint64(1) << 63
			for i := range n {
				p := 1 + r.Uint32N(65535)
				bound := w.width >> 16 * uint64(p)
				bit := uint32(0)
				if shifted := len(w.buf) > 0 || stream.Len() > 0; !shifted && around-w.at < bound || shifted && w.at+bound < w.at {
					bit = 1
				}
				if i >= n-8 {
					bit = 1
					if up {
						bit = 0
					}
				}
				w.Likely(p, int(bit))
				ps, bits = append(ps, p), append(bits, bit)
			}
			if n > 8*buffer && len(w.buf) < buffer {
				t.Fatal("nothing waits for a carry")
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if first := stream.Bytes()[0]; up != (first == 0x80) {
				t.Errorf("the stream begins with %#x, and that it was carried is %v", first, up)
			}
			c := NewReader(&stream)
			for i, p := range ps {
				if got := c.Likely(p, 0); got != int(bits[i]) {
					t.Fatalf("bit %d of %d was written as %d and read as %d", i, n, bits[i], got)
				}
			}
			if err := c.Err(); err != nil {
				t.Error(err)
			}
		}
	}
}

// All that a stream takes beyond what its symbols do is four bytes.
func TestLittleIsLostAtTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 200).Draw(t, "bits")
		var stream bytes.Buffer
		w := NewWriter(&stream)
		for range n {
			w.Likely(1<<15, rapid.IntRange(0, 1).Draw(t, "bit"))
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if stream.Len()*8 > n+32 {
			t.Fatalf("%d bits took %d bytes", n, stream.Len())
		}
	})
}

type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestAWriterThatFailsIsToldOf(t *testing.T) {
	c := NewWriter(&failing{after: buffer})
	for range 3 * buffer {
		c.Raw(8, 0x5a)
	}
	if err := c.Close(); err != io.ErrClosedPipe {
		t.Errorf("closing: %v", err)
	}
}

// stuttering reads a byte at a time, and nothing every other time.
type stuttering struct {
	r    io.Reader
	turn bool
}

func (s *stuttering) Read(p []byte) (int, error) {
	if s.turn = !s.turn; s.turn || len(p) == 0 {
		return 0, nil
	}
	return s.r.Read(p[:1])
}

func TestAStreamMayComeInBits(t *testing.T) {
	var stream bytes.Buffer
	w := NewWriter(&stream)
	for i := range uint64(1000) {
		w.Raw(32, i*0x9E3779B1)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c := NewReader(&stuttering{r: &stream})
	for i := range uint64(1000) {
		if got := c.Raw(32, 0); got != i*0x9E3779B1&0xffffffff {
			t.Fatalf("number %d is %#x", i, got)
		}
	}
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}
