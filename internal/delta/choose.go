package delta

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"path"
	"slices"

	"github.com/dunlin/dunlin/internal/delta/match"
	"github.com/dunlin/dunlin/internal/delta/member"
	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

// Which old files are worth comparing.
const (
	indexPart = 64 << 20 // bytes of a new file that are looked up at once
	tiny      = 16       // bytes of a file that is shorter said than where something like it is
)

// oldFiles are the old image's files by what they can be found by.
type oldFiles struct {
	layers []*tarfile.Tar
	bySum  map[[sha256.Size]byte][]source
	byPath map[string][]source // topmost first
	byRole map[string][]source // by path, versions left out
	all    []source            // as the index counts them
	index  *match.Index
	plain  map[source]int64 // the sizes of what is in compressed ones
}

// role is a path without the numbers in it: foo-1.2.3/bar and foo-1.2.4/bar are the same file to whoever wrote it.
func role(p string) string {
	b := make([]byte, 0, len(p))
	for i := range len(p) {
		c := p[i]
		if c >= '0' && c <= '9' {
			c = '0'
		}
		if c == '0' && len(b) > 0 && (b[len(b)-1] == '0' || b[len(b)-1] == '.' && len(b) > 1 && b[len(b)-2] == '0') {
			continue
		}
		b = append(b, c)
	}
	return string(b)
}

// gather reads all old files.
func gather(ctx context.Context, layers []*tarfile.Tar) (*oldFiles, error) {
	var total int64
	for _, l := range layers {
		for _, p := range l.Places {
			total += p.Size
		}
	}
	o := &oldFiles{
		layers: layers,
		bySum:  map[[sha256.Size]byte][]source{}, byPath: map[string][]source{}, byRole: map[string][]source{},
		index: match.NewIndex(total), plain: map[source]int64{},
	}
	for layer := len(layers) - 1; layer >= 0; layer-- {
		links := map[tarfile.Place]source{}
		for i, n := range layers[layer].Names {
			at := layers[layer].Places[i]
			if n.Type != tar.TypeReg || at.Size == 0 {
				continue
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			s := source{layer, i}
			o.byPath[n.Path] = append(o.byPath[n.Path], s)
			o.byRole[role(n.Path)] = append(o.byRole[role(n.Path)], s)
			if first, ok := links[at]; ok {
				if size, ok := o.plain[first]; ok {
					o.plain[s] = size
				}
				continue
			}
			links[at] = s
			if err := o.read(s, io.NewSectionReader(layers[layer], at.At, at.Size)); err != nil {
				return nil, err
			}
		}
	}
	return o, nil
}

// read makes a file known by what is in it.
func (o *oldFiles) read(s source, r *io.SectionReader) error {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	sum := [sha256.Size]byte(h.Sum(nil))
	first := len(o.bySum[sum]) == 0
	o.bySum[sum] = append(o.bySum[sum], s)
	var content io.Reader = io.NewSectionReader(r, 0, r.Size())
	size := r.Size()
	if size <= member.Limit {
		b := make([]byte, size)
		if err := tarfile.ReadFull(r, b, 0); err != nil {
			return err
		}
		if plain := member.Plain(b); plain != nil {
			b = plain
			o.plain[s] = int64(len(plain))
		}
		content, size = bytes.NewReader(b), int64(len(b))
	}
	if !first {
		return nil
	}
	o.all = append(o.all, s)
	return o.index.Add(len(o.all)-1, size, content)
}

// choose finds the old files that new ones are made of.
func (e *encoder) choose(ctx context.Context, news []*newLayer) error {
	e.used = make([]bool, len(e.olds))
	old, err := gather(ctx, e.olds)
	if err != nil {
		return err
	}
	for _, l := range news {
		l.like = e.alike(l)
		if l.like >= 0 {
			e.used[l.like] = true
		}
		last := source{-1, -1}
		for i := range l.units {
			u := &l.units[i]
			if u.length == 0 {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := old.choose(l, u, last); err != nil {
				return err
			}
			for _, s := range u.sources {
				e.used[s.layer] = true
			}
			if len(u.sources) > 0 {
				last = u.sources[0]
			}
		}
	}
	return nil
}

// alike is the old layer that has most of a new one's names, or -1.
func (e *encoder) alike(l *newLayer) int {
	like, most := -1, 0
	for i, o := range e.olds {
		n := 0
		for _, u := range l.units {
			if _, ok := slices.BinarySearchFunc(o.Names, u.path, tarfile.ByPath); ok {
				n++
			}
		}
		if n > most || n == most && n > 0 && i == l.at {
			like, most = i, n
		}
	}
	return like
}

// choose decides what contents are made of. last is what was used before.
func (o *oldFiles) choose(l *newLayer, u *newUnit, last source) error {
	if list := o.bySum[u.sum]; list != nil {
		u.kind, u.sources = same, []source{o.best(list, u.path, l.like, last)}
		return nil
	}
	u.kind = fresh
	if u.length < tiny {
		return nil
	}
	var own *source
	if list := o.byPath[u.path]; list != nil {
		s := o.best(list, u.path, l.like, last)
		own = &s
	} else if list := o.byRole[role(u.path)]; list != nil && u.path != "" {
		s := o.best(list, u.path, l.like, last)
		own = &s
	}
	var total int64
	plainSize := u.length
	add := func(s source) {
		size := o.layers[s.layer].Places[s.index].Size
		if plain, ok := o.plain[s]; u.opened && (size > member.Limit || ok && !worthReading(plain, plainSize) || !ok && !worthReading(size, plainSize)) {
			return
		}
		if !slices.Contains(u.sources, s) && len(u.sources) < sourcesLimit && worthReading(total+size, u.length) {
			u.sources = append(u.sources, s)
			total += size
		}
	}
	b := make([]byte, min(u.length, indexPart))
	for at := int64(0); at < u.length; at += indexPart {
		b = b[:min(u.length-at, indexPart)]
		if err := tarfile.ReadFull(l.r, b, u.body+at); err != nil {
			return err
		}
		look := b
		if u.length <= member.Limit {
			if plain, r := member.Unpack(b); r != nil && r.Size()/densest <= u.length {
				u.opened, look, plainSize = true, plain, r.Size()
			}
		}
		for _, v := range o.index.Sources(look) {
			// Of files that are the same, the one that is easily named.
			s := o.all[v.File]
			if own != nil && o.equal(s, *own) {
				s = *own
			}
			add(s)
		}
	}
	if own != nil {
		add(*own)
	}
	if len(u.sources) > 0 {
		u.kind = patched
	}
	if u.opened && len(u.sources) > 1 {
		u.sources = u.sources[:1]
	}
	return nil
}

// equal reports whether two old files are at the same place of one tar, or have the same path.
func (o *oldFiles) equal(a, b source) bool {
	return a == b || a.layer == b.layer && o.layers[a.layer].Places[a.index] == o.layers[b.layer].Places[b.index]
}

// best is the one of several old files that is most easily named: the one with the path, in the layer at hand if possible,
// or the one behind the last.
func (o *oldFiles) best(list []source, p string, like int, last source) source {
	score := func(s source) (n int) {
		if s.layer == like {
			n++
		}
		if s.layer == last.layer && s.index > last.index && s.index < last.index+16 {
			n += 2
		}
		if o.layers[s.layer].Names[s.index].Path == p {
			n += 8
		} else if path.Base(o.layers[s.layer].Names[s.index].Path) == path.Base(p) {
			n += 4
		}
		return n
	}
	best := list[0]
	for _, s := range list[1:] {
		if score(s) > score(best) {
			best = s
		}
	}
	return best
}
