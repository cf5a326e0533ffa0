package tarfile

import (
	"path"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/delta/entropy"
)

// numbers codes the numbers of a header.
func (h *Heads) numbers(b, pred *[block]byte, name string, changed bool) {
	kind := uint32(pred[fieldType])
	dir := hashed(path.Dir(name))
	ext := hashed(path.Ext(name))
	base := path.Base(name)
	stem := hashed(base[:len(base)-len(strings.TrimLeftFunc(base, letter))])
	about := uint32(0)
	if changed {
		about = 1
	}
	for i, n := range []struct {
		field
		in [5]uint32
	}{
		{fieldMode, [5]uint32{spread(kind, dir, ext), spread(kind, dir), spread(kind, ext), kind}},
		{fieldUID, [5]uint32{dir, kind, 1}},
		{fieldGID, [5]uint32{dir, kind, 1}},
		{fieldMtime, [5]uint32{spread(dir, about), spread(kind, 1), spread(stem, 2), spread(dir, ext, 3), spread(about, 4)}},
		{fieldMajor, [5]uint32{kind}},
		{fieldMinor, [5]uint32{kind}},
	} {
		v, _ := n.number(b)
		n.set(pred, h.guess[i].code(h.c, v, n.in[:], int(about)))
	}
	h.owned(&h.owners, fieldUID, fieldUname, pred)
	h.owned(&h.groups, fieldGID, fieldGname, pred)
}

func letter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }

// own remembers an owner's name.
func (h *Heads) own(t *[64]owner, id, name field, b *[block]byte) {
	v, _ := id.number(b)
	o := &t[v&63]
	o.id, o.set = v, true
	copy(o.name[:], name.of(b))
}

// owned writes the name of an owner as it was before.
func (h *Heads) owned(t *[64]owner, id, name field, b *[block]byte) {
	v, _ := id.number(b)
	if o := &t[v&63]; o.set && o.id == v {
		copy(name.of(b), o.name[:])
	}
}

// guesser is a model of a number that is likely to be what it was in one of several contexts.
type guesser struct {
	seen  [1 << 12]seen
	right [5][4][2][2]entropy.Prob
	other entropy.Number
	last  int64
}

type seen struct {
	v     int64
	times uint8
}

func (g *guesser) code(c *entropy.Coder, v int64, in []uint32, about int) int64 {
	found := false
	var out int64
	var tried [5]int64
	n := 0
	for i, h := range in {
		if h == 0 {
			continue
		}
		s := &g.seen[spread(h, uint32(i))&(1<<12-1)]
		if found || slices.Contains(tried[:n], s.v) {
			continue
		}
		tried[n] = s.v
		n++
		if c.Bool(&g.right[i][s.times][about][min(n-1, 1)], v == s.v) {
			found, out = true, s.v
		}
	}
	if !found {
		out = g.last + c.Signed(&g.other, v-g.last)
	}
	for i, h := range in {
		if h == 0 {
			continue
		}
		s := &g.seen[spread(h, uint32(i))&(1<<12-1)]
		switch {
		case s.v != out:
			s.v, s.times = out, 0
		case s.times < 3:
			s.times++
		}
	}
	g.last = out
	return out
}

func spread(v ...uint32) uint32 {
	h := uint32(0x811c9dc5)
	for _, x := range v {
		h = (h ^ x) * 0x9e3779b1
		h ^= h >> 15
	}
	return h | 1<<31
}

func hashed(s string) uint32 {
	h := uint32(0x811c9dc5)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 0x01000193
	}
	return h ^ h>>15
}
