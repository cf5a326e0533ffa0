package entropy

// History is what came so far in a place, in a byte: about how many zeros and ones, and which of them last. 0 is nothing
// yet; higher ones have seen more. What a History means is learned by a Said: so a place that was asked once is believed
// as much as such places deserve.
type History uint8

// Meaning is the probability of a 1, in 1/2^32, that learns at one pace.
type Meaning uint32

const slow = 8 // an answer moves a Meaning by 1/256

// Odds are those of a 1.
func (m Meaning) Odds() int32 { return int32(stretch[m>>20]) }

// Learn tells it what came.
func (m *Meaning) Learn(bit int) { *m += Meaning(uint32(-bit)>>slow) - *m>>slow }

// Said is the probability of a 1 after each History.
type Said [256]Meaning

// NewSaid returns what histories mean as a rule: what came n times and nothing else fails to come once in rare·n times;
// and of what came now and then the last is the likelier. rare is at least 2.
func NewSaid(rare uint32) (s Said) {
	for h := range s {
		n0, n1 := zeros[h], ones[h]
		p := (10*n1 + 5 + 9*lasts[h]) * 65536 / (10*(n0+n1) + 19)
		switch {
		case n0+n1 == 0:
			p = 65536 / 2
		case n0 == 0:
			p = 65536 - 65536/(rare*n1)
		case n1 == 0:
			p = 65536 / (rare * n0)
		}
		s[h] = Meaning(p << 16)
	}
	return s
}

// After is the history that follows by a bit.
func (h History) After(bit int) History { return after[h][bit&1] }

// most is how many of the more frequent bit are counted, by how many there are of the other.
var most = [...]int{40, 22, 10, 7, 6, 5}

// after is the history that follows another by a bit, and zeros, ones and lasts what each has seen.
var after, zeros, ones, lasts = func() (after [256][2]History, zeros, ones, lasts [256]uint32) {
	type seen struct{ n0, n1, last int }
	fits := func(n0, n1 int) bool {
		return min(n0, n1) < len(most) && max(n0, n1) <= most[min(n0, n1)]
	}
	var all []seen
	index := map[seen]History{}
	for sum := 0; sum <= 2*most[0]; sum++ {
		for n0 := 0; n0 <= sum; n0++ {
			if n1 := sum - n0; fits(n0, n1) {
				for last := range 2 {
					if n0 == 0 && last == 0 && n1 > 0 || n1 == 0 && last == 1 {
						continue // it never came
					}
					s := seen{n0, n1, last}
					index[s] = History(len(all))
					all = append(all, s)
				}
			}
		}
	}
	fade := func(n int) int { // a bit makes the others less likely than their number says
		switch {
		case n < 3:
			return n
		case n < 4:
			return 2
		case n < 8:
			return 3
		case n < 16:
			return 4
		case n < 32:
			return 5
		}
		return 6
	}
	for i, s := range all {
		zeros[i], ones[i], lasts[i] = uint32(s.n0), uint32(s.n1), uint32(s.last)
		for bit := range 2 {
			n := seen{fade(s.n0), s.n1 + 1, 1}
			if bit == 0 {
				n = seen{s.n0 + 1, fade(s.n1), 0}
			}
			for !fits(n.n0, n.n1) {
				if n.n0 > n.n1 {
					n.n0--
				} else {
					n.n1--
				}
			}
			after[i][bit] = index[n]
		}
	}
	return after, zeros, ones, lasts
}()
