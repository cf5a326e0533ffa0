package code

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/dunlin/dunlin/internal/delta/match"
)

// Lay finds the layout of a new file. nil means that predicting is not worth it.
func Lay(p *Program, old, new []byte, copies []match.Copy) *Layout {
	now := inMemory(new)
	if now == nil || now.machine != p.machine || now.class != p.class {
		return nil
	}
	p.all = old
	defer func() { p.all = nil }()
	l := newLayout(p.frame, now.frame)
	l.on = make([]uint32, len(p.parts))
	var moved votes
	moved.collect(p, now, copies)
	l.lines = findHunks(moved.lines, p.mostHunks())
	l.anchors = findAnchors(moved.places, newMoves(p.frame, l, copies), p.mostAnchors())
	worth := false
	for n, kinds := range score(p, l, old, new, copies) {
		sum := tally{}
		on := ^uint32(0)
		for k, s := range kinds {
			if s.wrong > s.right {
				on &^= 1 << k
				continue
			}
			sum.right, sum.wrong = sum.right+s.right, sum.wrong+s.wrong
		}
		if sum.right > sum.wrong {
			l.on[n], worth = on, true
		}
	}
	if !worth {
		return nil
	}
	return l
}

// tally is what predicting some fields does, in bytes of the new file.
type tally struct {
	right int // became right
	wrong int // were right and became wrong
}

// count counts a prediction.
func (t *tally) count(then, predicted, now []byte) {
	for i, v := range now {
		switch {
		case predicted[i] == v && then[i] != v:
			t.right++
		case predicted[i] != v && then[i] == v:
			t.wrong++
		}
	}
}

// score counts what predicting does to the fields of each part and kind.
func score(p *Program, l *Layout, old, new []byte, copies []match.Copy) [][kinds]tally {
	x := p.Predictor(l, copies)
	out := make([][kinds]tally, len(p.parts))
	var b, what [8]byte
	for _, c := range copies {
		if c.Len < shortest {
			continue
		}
		p.each(c.Old, c.Old+c.Len, func(n int, from, to int64) {
			was, _ := p.run(from)
			is, _ := l.run(c.New + from - c.Old)
			if t, ok := p.parts[n].table.(computed); ok {
				then, now := old[from:to], new[c.New+from-c.Old:][:to-from]
				b := bytes.Clone(then)
				t.foretell(x.moves, from, is, b, make([]byte, len(b)))
				out[n][0].count(then, b, now)
				return
			}
			p.fields(n, from, to, func(f Field) {
				w := f.Kind.width()
				then, now := old[f.At:][:w], new[c.New+f.At-c.Old:][:w]
				copy(b[:], then)
				x.predict(f, c, is-was, b[:w], what[:])
				out[n][f.Kind].count(then, b[:w], now)
			})
		})
	}
	return out
}

// vote says that a field names what has a key in the old program, and something that is so far from it in the new one.
type vote struct {
	key   uint32
	shift int64
}

// votes are those of the fields that copies have in both programs.
type votes struct {
	places []vote
	lines  hunks // each of one field
}

func (v *votes) collect(p, now *Program, copies []match.Copy) {
	pairs(p, now, copies, func(f, g *Field) {
		switch {
		case isLine(f.Target):
			if isLine(g.Target) {
				v.lines = append(v.lines, hunk{uint32(f.Target>>32) & maxFile, uint32(f.Target), int32(uint32(g.Target) - uint32(f.Target))})
			}
		case f.Kind.far():
			key, ok := p.key(f.Target)
			if _, there := now.key(g.Target); ok && there && (f.Target >= unloaded) == (g.Target >= unloaded) {
				v.places = append(v.places, vote{uint32(key), int64(g.Target - f.Target)})
			}
		}
	})
}

// findAnchors finds what has moved otherwise than m, what copies say. An anchor has to make more fields right than it costs.
func findAnchors(votes []vote, m *moves, most int) []span {
	slices.SortFunc(votes, func(a, b vote) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.shift, b.shift)) })
	var (
		anchors []span
		open    span
		gain    int // of the open anchor: fields that become right
	)
	keep := func() {
		if gain >= anchorGain && len(anchors) < most {
			anchors = append(anchors, open)
		}
		gain = 0
	}
	for len(votes) > 0 {
		key := votes[0].key
		n := 0
		right, follows := 0, 0 // fields that are right without an anchor, and with the open one
		best, most := int64(0), 0
		without := m.shift(int64(key))
		for n < len(votes) && votes[n].key == key {
			from, shift := n, votes[n].shift
			for n < len(votes) && votes[n].key == key && votes[n].shift == shift {
				n++
			}
			if shift == without {
				right = n - from
			}
			if gain > 0 && shift == open.shift {
				follows = n - from
			}
			if n-from > most {
				best, most = shift, n-from
			}
		}
		votes = votes[n:]
		if gain > 0 && follows == most { // it goes on
			open.to = key + 1
			gain += follows - right
			continue
		}
		if most > right || gain > 0 && follows < right {
			keep()
		}
		if most > right {
			open, gain = span{key, key + 1, best}, most-right
		}
	}
	keep()
	return anchors
}

// anchorGain is how many fields an anchor has to make right.
const anchorGain = 4

// pairs calls yield for the fields of both programs that copies have made the same.
func pairs(p, now *Program, copies []match.Copy, yield func(f, g *Field)) {
	var then, new []Field
	for _, c := range copies {
		for c.Len > 0 {
			n := min(c.Len, 1<<20)
			then, new = p.list(c.Old, c.Old+n, then[:0]), now.list(c.New, c.New+n, new[:0])
			for i, j := 0, 0; i < len(then) && j < len(new); {
				switch a, b := then[i].At-c.Old, new[j].At-c.New; {
				case a < b:
					i++
				case a > b:
					j++
				default:
					if then[i].Kind == new[j].Kind {
						yield(&then[i], &new[j])
					}
					i++
					j++
				}
			}
			c.Old, c.New, c.Len = c.Old+n, c.New+n, c.Len-n
		}
	}
}

// list adds the fields of the file's bytes from `from` to `to`, sorted.
func (p *Program) list(from, to int64, out []Field) []Field {
	p.each(from, to, func(n int, from, to int64) {
		p.fields(n, from, to, func(f Field) { out = append(out, f) })
	})
	return out
}
