package entropy_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/dunlin/dunlin/internal/delta/entropy"
)

// noise is a sequence of bits of which one in eight is a 1.
func noise(n int) []byte {
	out := make([]byte, n)
	x := uint32(1)
	for i := range out {
		x = x*1664525 + 1013904223
		if x>>29 == 0 {
			out[i] = 1
		}
	}
	return out
}

func BenchmarkBit(b *testing.B) {
	in := noise(1 << 16)
	var stream bytes.Buffer
	w := entropy.NewWriter(&stream)
	var p [64]entropy.Prob
	for i, bit := range in {
		w.Bit(&p[i&63], int(bit))
	}
	w.Close()
	b.Run("write", func(b *testing.B) {
		c := entropy.NewWriter(io.Discard)
		var p [64]entropy.Prob
		for i := 0; b.Loop(); i++ {
			c.Bit(&p[i&63], int(in[i&0xffff]))
		}
	})
	b.Run("read", func(b *testing.B) {
		var p [64]entropy.Prob
		c := entropy.NewReader(bytes.NewReader(stream.Bytes()))
		for i := 0; b.Loop(); i++ {
			if i&0xffff == 0 {
				c, p = entropy.NewReader(bytes.NewReader(stream.Bytes())), [64]entropy.Prob{}
			}
			c.Bit(&p[i&63], 0)
		}
	})
}
