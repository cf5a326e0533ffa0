package entropy

import "math/bits"

// Sure is the greatest of odds, and -Sure the least. Odds are the logarithm of p/(1-p), in 1/256: what adds up when
// several models speak of one bit.
const Sure = 12*256 - 1

// squash is 65536·p of odds, every second of them, from -Sure on; stretch is the odds of p, every 1/4096. They are made
// with integers alone, so that they are the same everywhere.
var squash, stretch = func() (sq [Sure + 1]uint16, st [4096]int16) {
	// e to the 1/256 in 1/2^62: the sum of 1/(256^n·n!).
	step, term := uint64(1)<<62, uint64(1)<<62
	for n := uint64(1); term > 0; n++ {
		term /= 256 * n
		step += term
	}
	p := func(e uint64) uint32 { // of e to the odds, in 1/2^32: the probability of a 1 with the odds negative
		hi, lo := bits.Mul64(1<<32, 1<<32)
		q, _ := bits.Div64(hi, lo, 1<<32+e)
		return uint32(min(q, 1<<32-1))
	}
	var fine [Sure + 1]uint32 // p of -x, in 1/2^32
	e := uint64(1) << 32
	for x := range fine {
		fine[x] = p(e)
		hi, lo := bits.Mul64(e, step)
		e = hi<<2 | lo>>62
	}
	for i := range sq {
		if x := 2*i - Sure; x < 0 {
			sq[i] = uint16(max(fine[-x]>>16, 1))
		} else {
			sq[i] = uint16(min(65536-fine[x]>>16, 65535))
		}
	}
	x := 0
	for i := len(st)/2 - 1; i >= 0; i-- {
		for x < Sure && fine[x] > uint32(2*i+1)<<19 {
			x++
		}
		st[i], st[len(st)-1-i] = int16(-x), int16(x)
	}
	return sq, st
}()

// Odds are those of a 1.
func (p Prob) Odds() int32 { return int32(stretch[uint32(p^half)>>20]) }

// Squash is the probability that belongs to odds, in 1/65536.
func Squash(odds int32) uint32 {
	return uint32(squash[uint32(min(max(odds, -Sure), Sure)+Sure)>>1])
}

// Inputs are what several models say of one bit, as odds. By custom the last of them is constant.
type Inputs [8]int32

// Weights are how much each of the models is believed, in 1/65536. They learn. Where one model is good in one place and
// another elsewhere, there are several Weights to choose from.
type Weights [8]int32

// Mix is the odds of what the models say together, each believed as much as two Weights say together: they are chosen by
// two things that are known of the place.
func Mix(a, b *Weights, in *Inputs) int32 {
	sum := int64(a[0]+b[0])*int64(in[0]) + int64(a[1]+b[1])*int64(in[1]) + int64(a[2]+b[2])*int64(in[2]) +
		int64(a[3]+b[3])*int64(in[3]) + int64(a[4]+b[4])*int64(in[4]) + int64(a[5]+b[5])*int64(in[5]) +
		int64(a[6]+b[6])*int64(in[6]) + int64(a[7]+b[7])*int64(in[7])
	return int32(min(max(sum>>16, -Sure), Sure))
}

// Learn moves both Weights towards what would have been better. p is the probability they led to, and pace how far to go:
// 4 to 10 is good.
func Learn(a, b *Weights, in *Inputs, p uint32, bit int, pace int32) {
	m := int64((int32(bit)<<16 - int32(p)) * pace)
	for i := range in {
		d := int32((int64(in[i])*m + 1<<17) >> 18)
		a[i] += d
		b[i] += d
	}
}

// FewInputs and FewWeights are Inputs and Weights of fewer models, which take less time.
type (
	FewInputs  [6]int32
	FewWeights [6]int32
)

// MixFew is Mix.
func MixFew(a, b *FewWeights, in *FewInputs) int32 {
	sum := int64(a[0]+b[0])*int64(in[0]) + int64(a[1]+b[1])*int64(in[1]) + int64(a[2]+b[2])*int64(in[2]) +
		int64(a[3]+b[3])*int64(in[3]) + int64(a[4]+b[4])*int64(in[4]) + int64(a[5]+b[5])*int64(in[5])
	return int32(min(max(sum>>16, -Sure), Sure))
}

// LearnFew is Learn.
func LearnFew(a, b *FewWeights, in *FewInputs, p uint32, bit int, pace int32) {
	m := int64((int32(bit)<<16 - int32(p)) * pace)
	for i := range in {
		d := int32((int64(in[i])*m + 1<<17) >> 18)
		a[i] += d
		b[i] += d
	}
}
