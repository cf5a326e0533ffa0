package entropy

import (
	"hash/crc32"
	"math"
	"testing"
)

// The tables decide what a stream means, so they must never change, on no processor.
func TestTablesAreTheSameEverywhere(t *testing.T) {
	sum := crc32.NewIEEE()
	add := func(v uint32) { sum.Write([]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}) }
	for _, v := range squash {
		add(uint32(v))
	}
	for _, v := range stretch {
		add(uint32(v))
	}
	for _, v := range rates {
		add(uint32(v))
	}
	for h := range 256 {
		add(uint32(History(h).After(0)))
		add(uint32(History(h).After(1)))
	}
	said := NewSaid(18)
	for _, p := range said {
		add(uint32(p))
	}
	if got, want := sum.Sum32(), uint32(0xa0df1958); got != want {
		t.Errorf("the tables' CRC is %#x; streams were written with those of %#x", got, want)
	}
}

func TestOddsAreTheLogarithmOfProbabilities(t *testing.T) {
	for x := -Sure; x <= Sure; x++ {
		want := 65536 / (1 + math.Exp(-float64(x)/256))
		if got := float64(Squash(int32(x))); math.Abs(got-want) > 1+want*(1-want/65536)/100 {
			t.Errorf("odds of %d are a probability of %.0f/65536, want %.1f", x, got, want)
		}
	}
	for i, got := range stretch {
		p := (float64(i) + 0.5) / 4096
		if want := 256 * math.Log(p/(1-p)); math.Abs(float64(got)-want) > 1 {
			t.Errorf("a probability of %.5f is odds of %d, want %.1f", p, got, want)
		}
	}
	if Squash(-1<<30) != Squash(-Sure) || Squash(1<<30) != Squash(Sure) {
		t.Error("odds beyond those that are sure are others")
	}
}

func TestHistoriesRemember(t *testing.T) {
	reached := map[History]bool{0: true}
	for todo := []History{0}; len(todo) > 0; todo = todo[1:] {
		h := todo[0]
		for bit := range 2 {
			n := h.After(bit)
			if n == 0 {
				t.Fatalf("after a bit, history %d is that of nothing", h)
			}
			seen, other := ones[n], zeros[h]
			if bit == 0 {
				seen, other = zeros[n], ones[h]
			}
			if seen == 0 || lasts[n] != uint32(bit) {
				t.Errorf("history %d, which follows %d by a %d, does not know it", n, h, bit)
			}
			if less := zeros[n] + ones[n] - seen; less > other {
				t.Errorf("history %d, which follows %d by a %d, has seen the other bit more often", n, h, bit)
			}
			if !reached[n] {
				reached[n] = true
				todo = append(todo, n)
			}
		}
		if h > 0 && zeros[h]+ones[h] < zeros[h-1]+ones[h-1] {
			t.Errorf("history %d has seen less than the one below it", h)
		}
	}
	if len(reached) < 150 {
		t.Errorf("only %d histories occur", len(reached))
	}
}

// Whoever is right is believed in the end.
func TestWeightsLearnWhomToBelieve(t *testing.T) {
	var a, b Weights
	x := uint32(1)
	wrong := 0
	for i := range 2000 {
		x = x*1664525 + 1013904223
		bit := int(x >> 31)
		in := Inputs{int32(x>>8&1023) - 512, 300, 7: 256}
		in[2] = int32(bit*2-1) * 200
		p := Squash(Mix(&a, &b, &in))
		if i > 1000 && (p > 32768) != (bit == 1) {
			wrong++
		}
		Learn(&a, &b, &in, p, bit, 6)
	}
	if wrong > 10 {
		t.Errorf("one of three models was always right, and the mix was wrong %d times of 1000", wrong)
	}
}
