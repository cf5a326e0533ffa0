package entropy_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/delta/entropy"
)

// script codes the values it is given with models of every kind, and returns what travelled.
func script(c *entropy.Coder, kinds []byte, values []uint64) []uint64 {
	var (
		out    []uint64
		bit    entropy.Prob
		byt    entropy.Byte
		number entropy.Number
		signed entropy.Number
	)
	for i, k := range kinds {
		v := uint64(0)
		if values != nil {
			v = values[i]
		}
		switch k {
		case 0:
			out = append(out, uint64(c.Bit(&bit, int(v&1))))
		case 1:
			out = append(out, uint64(c.Byte(&byt, byte(v))))
		case 2:
			out = append(out, c.Number(&number, v))
		case 3:
			out = append(out, uint64(c.Signed(&signed, int64(v))))
		}
	}
	return out
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kinds := rapid.SliceOf(rapid.ByteRange(0, 3)).Draw(t, "kinds")
		values := make([]uint64, len(kinds))
		for i, k := range kinds {
			values[i] = rapid.OneOf(rapid.Uint64(), rapid.Uint64Max(300), rapid.SampledFrom([]uint64{0, 1, 2, 3, math.MaxInt64, math.MaxUint64})).Draw(t, "value")
			switch k {
			case 0:
				values[i] &= 1
			case 1:
				values[i] &= 255
			}
		}
		var b bytes.Buffer
		w := entropy.NewWriter(&b)
		script(w, kinds, values)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r := entropy.NewReader(&b)
		for i, got := range script(r, kinds, nil) {
			if got != values[i] {
				t.Fatalf("value %d of kind %d: wrote %d, read %d", i, kinds[i], values[i], got)
			}
		}
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWhatIsLikelyIsCheap(t *testing.T) {
	var b bytes.Buffer
	w := entropy.NewWriter(&b)
	var p entropy.Prob
	for range 100_000 {
		w.Bit(&p, 0)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 100 {
		t.Errorf("100,000 equal bits took %d bytes", b.Len())
	}
}

func TestAStreamThatEndsEarlyIsToldOf(t *testing.T) {
	var b bytes.Buffer
	w := entropy.NewWriter(&b)
	w.Raw(64, 0x123456789abcdef0)
	w.Raw(64, 0x123456789abcdef0)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := entropy.NewReader(bytes.NewReader(b.Bytes()[:6]))
	r.Raw(64, 0)
	r.Raw(64, 0)
	if err := r.Err(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a stream of 6 bytes of 16 ended with %v", err)
	}
}
