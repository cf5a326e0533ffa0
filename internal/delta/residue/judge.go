package residue

import "github.com/dunlin/dunlin/internal/delta/entropy"

const (
	inputs = 7 // contexts
	rate   = 5 // how fast weights learn
)

// A judge codes bits by what came in several contexts, mixed.
type judge struct {
	came  [inputs][]entropy.History // as many as a power of two
	said  [inputs]entropy.Said
	shift uint
	one   [256]entropy.Weights
	two   [256]entropy.Weights
}

// init makes a judge with 1<<size places for each context.
func (j *judge) init(size uint) {
	j.shift = 64 - size
	for i := range j.said {
		j.came[i] = make([]entropy.History, 1<<size)
		j.said[i] = entropy.NewSaid(12)
	}
	for i := range j.one {
		for k := range inputs {
			j.one[i][k], j.two[i][k] = 9000, 9000
		}
	}
}

// code codes a bit, by its contexts and by two things that say whom to believe.
func (j *judge) code(c *entropy.Coder, ask *[inputs]uint64, one, two uint32, bit int) int {
	var (
		in   entropy.Inputs
		came [inputs]*entropy.History
		said [inputs]*entropy.Prob
	)
	for i, a := range ask {
		h := a * 0x9E3779B97F4A7C15
		h ^= h >> 29
		h *= 0xBF58476D1CE4E5B9
		x := &j.came[i][h>>(j.shift&63)]
		came[i], said[i] = x, &j.said[i][*x]
		in[i] = said[i].Odds()
	}
	in[inputs] = 256
	a, b := &j.one[one&255], &j.two[two&255]
	p := entropy.Squash(entropy.Mix(a, b, &in))
	bit = c.Likely(p, bit)
	entropy.Learn(a, b, &in, p, bit, rate)
	for i := range inputs {
		said[i].LearnOf(bit, 255)
		*came[i] = came[i].After(bit)
	}
	return bit
}
