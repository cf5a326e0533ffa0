package delta

import (
	"context"
	"errors"

	"github.com/dunlin/dunlin/internal/delta/match"
)

// Texts are made of old ones by scripts, because the same edits come again: in the next file of a kind, in the bundle, in
// the bundle's map. A script is a list of steps, and a step that was done before is said in a fraction of a bit.

// step is a step of a script: so many bytes are as in the old file; then come so many others; and the old file goes on so
// many bytes after where it was left.
type step struct{ same, gap, skip int64 }

// What a step is.
const (
	stepOther    = iota // said in full
	stepKnown           // it ends at a place where an edit is known
	stepLast            // the rest is as in the old file
	stepExpected        // it is the step that came after the one before, when that came last
	stepKinds
)

// script codes contents as a script; writing, steps is it.
func (x *codec) script(ctx context.Context, f *contents, steps []step, p port) error {
	e := &x.edits
	e.begin(f.old, x.work)
	// The old text is known to the literals as well: what was moved is said there.
	if f.old.size <= feedMax {
		if x.work(workFed * f.old.size); x.failed() != nil {
			return x.failed()
		}
		for at := int64(0); at < f.old.size; at += pieceSize {
			b := x.buf[:min(pieceSize, f.old.size-at)]
			if _, err := f.old.ReadAt(b, at); err != nil {
				return err
			}
			x.lit.Feed(b)
		}
	}
	var n, o int64 // where the step begins, in the new file and in the old
	for n < f.size {
		x.count(partCopies)
		var s step
		if !x.c.Reading() {
			s, steps = steps[0], steps[1:]
		}
		what, known, err := x.place(&s, n, o, f, p)
		if err != nil {
			return err
		}
		if err := x.same(ctx, f, o, s.same, p); err != nil {
			return err
		}
		if n, o = n+s.same, o+s.same; what == stepLast {
			break
		}
		before := n - s.same
		if what == stepExpected {
			k := e.get(known)
			e.next, e.streak = known+1, min(e.streak+1, 3)
			text := e.text(k, x.pred[:0])
			if err := errors.Join(p.fill(text), p.drain(text)); err != nil {
				return err
			}
			s.gap, s.skip = int64(k.gap), int64(k.skip)
		} else if err := x.edit(ctx, &s, n, o, f, p); err != nil {
			return err
		} else if e.streak = 0; what == stepKnown {
			e.next = known + 1
		}
		if n += s.gap; n == f.size {
			break
		}
		// Only the first step may write nothing, so that there is an end to them.
		if o += s.skip; o < 0 || o > f.old.size || n == before && n > 0 {
			x.fail(ErrFormat)
			return x.failed()
		}
	}
	return x.failed()
}

// place codes where a step's edit is, and whether it is a known one. What it returns is stepLast, stepExpected if the edit
// is known altogether, stepKnown if only its place is, or stepOther.
func (x *codec) place(s *step, n, o int64, f *contents, p port) (what byte, known uint32, err error) {
	e := &x.edits
	left := f.size - n
	limit := min(left, f.old.size-o) // of the bytes that are the same
	expected := e.kept(e.next) && int64(e.get(e.next).same) <= limit && int64(e.get(e.next).same)+int64(e.get(e.next).gap) <= left
	if !x.c.Reading() {
		if expected && int64(e.get(e.next).same) == s.same {
			ok, err := e.is(e.get(e.next), *s, left-s.same, p, x.buf)
			if err != nil {
				return 0, 0, err
			}
			if ok {
				what = stepExpected
			}
		}
		if what == stepOther && s.same == left {
			what = stepLast
		}
		if what == stepOther {
			h, ok, err := e.key(o + s.same)
			if err != nil {
				return 0, 0, err
			}
			if _, found := e.find(h); ok && found {
				what = stepKnown
			}
		}
	}
	what = x.c.Byte(&e.what[e.was<<2|e.streak], what)
	if what >= stepKinds || what == stepExpected && !expected {
		x.fail(ErrFormat)
		return 0, 0, x.failed()
	}
	e.was = (e.was<<2 | int(what)) & (stepKinds*stepKinds*stepKinds - 1)
	switch what {
	case stepExpected:
		s.same = int64(e.get(e.next).same)
		return what, e.next, nil
	case stepLast:
		if s.same = left; left > limit {
			x.fail(ErrFormat)
		}
		return what, 0, x.failed()
	case stepOther:
		s.same = int64(x.c.Number(&e.same, uint64(s.same)))
		if s.same < 0 || s.same > limit {
			x.fail(ErrFormat)
		}
		return what, 0, x.failed()
	}
	for at := o; ; at++ {
		var ok bool
		if at, known, ok, err = e.scan(at, o+limit+1); err != nil {
			return 0, 0, err
		}
		if !ok {
			x.fail(ErrFormat)
			return 0, 0, x.failed()
		}
		k := e.get(known)
		here := &e.here[k.hits&7]
		if known == e.next {
			here = &e.now[e.streak]
		}
		k.hits <<= 1
		if x.c.Bool(here, at == o+s.same) {
			k.hits |= 1
			s.same = at - o
			break
		}
		if err := x.failed(); err != nil {
			return 0, 0, err
		}
	}
	k := e.get(known)
	if left -= s.same; int64(k.gap) > left {
		return stepKnown, known, nil
	}
	again := false
	if !x.c.Reading() {
		if again, err = e.is(k, *s, left, p, x.buf); err != nil {
			return 0, 0, err
		}
	}
	by := &e.again[k.hits>>1&7]
	if known == e.next {
		by = &e.again[8+e.streak]
	}
	if x.c.Bool(by, again) {
		what = stepExpected
	}
	return what, known, x.failed()
}

// edit codes an edit at a place, and remembers it.
func (x *codec) edit(ctx context.Context, s *step, n, o int64, f *contents, p port) error {
	e := &x.edits
	s.gap = int64(x.c.Number(&e.gap, uint64(s.gap)))
	if s.gap < 0 || s.gap > f.size-n {
		x.fail(ErrFormat)
		return x.failed()
	}
	if n+s.gap < f.size {
		some := 0
		if s.gap > 0 {
			some = 1
		}
		if x.c.Bool(&e.plain[some], s.skip == s.gap) {
			s.skip = s.gap
		} else if x.c.Bool(&e.plain[2+some], s.skip == 0) {
			s.skip = 0
		} else {
			s.skip = s.gap + x.c.Signed(&e.skip[some], s.skip-s.gap)
		}
		if s.skip < -o || s.skip > f.old.size-o {
			x.fail(ErrFormat)
		}
	} else {
		s.skip = 0
	}
	if err := x.failed(); err != nil {
		return err
	}
	h, ok, err := e.key(o)
	if err != nil {
		return err
	}
	at := e.used
	x.count(partLiteral)
	if s.gap > 0 {
		before := min(o, feedBefore)
		b, err := e.read(o-before, int(before))
		if err != nil {
			return err
		}
		x.lit.Feed(b)
	}
	keep := ok && s.gap <= editMax && s.same == int64(int32(s.same)) && s.skip == int64(int32(s.skip))
	err = x.gap(ctx, s.gap, p, func(b []byte) {
		if keep {
			e.remember(b)
		}
	})
	if keep {
		*e.get(e.count) = edit{key: check(h), at: at, same: int32(s.same), gap: int32(s.gap), skip: int32(s.skip), hits: 1}
		e.count++
		e.places[index(h)] = e.count
	}
	return err
}

// same passes bytes of the old file on.
func (x *codec) same(ctx context.Context, f *contents, at, n int64, p port) error {
	if p.w == nil {
		return p.skip(n)
	}
	for n > 0 {
		b := x.buf[:min(pieceSize, n)]
		if _, err := f.old.ReadAt(b, at); err != nil {
			return err
		}
		if err := errors.Join(p.drain(b), ctx.Err()); err != nil {
			return err
		}
		at += int64(len(b))
		n -= int64(len(b))
	}
	return nil
}

// Which copies an encoder makes steps of.
const (
	moveMin  = 64 // bytes of a copy that does not go on where the last one ended
	stayMin  = 16 // of one that does, or leaves a little out
	littleBy = 64 // bytes
	equalMin = 4  // bytes between two that differ, for them to be two edits
)

// toScript makes a script of copies. It is exact: what differs within a copy becomes a gap.
func toScript(old, new []byte, copies []match.Copy) []step {
	var all []step
	var n, o int64 // what comes before is said
	say := func(same, gap, skip int64) {
		n, o = n+same+gap, o+same+skip
		if k := len(all) - 1; k >= 0 && same == 0 {
			all[k].gap += gap
			all[k].skip += skip
		} else if k >= 0 && all[k].gap == 0 && all[k].skip == 0 {
			all[k] = step{all[k].same + same, gap, skip}
		} else {
			all = append(all, step{same, gap, skip})
		}
	}
	for _, c := range copies {
		// What was moved is among the old bytes that the literals know.
		least := int64(moveMin)
		if by := c.Old - o; by == c.New-n || by >= 0 && by < littleBy {
			least = stayMin
		}
		if c.Len < least && len(all) > 0 {
			continue
		}
		if c.New > n || c.Old != o {
			say(0, c.New-n, c.Old-o)
		}
		for i := int64(0); i < c.Len; {
			if old[c.Old+i] == new[c.New+i] {
				i++
				continue
			}
			j, equal := i+1, int64(0)
			for ; j < c.Len && equal < equalMin; j++ {
				if old[c.Old+j] != new[c.New+j] {
					equal = 0
				} else {
					equal++
				}
			}
			j -= equal
			same := c.New + i - n
			say(same, j-i, j-i)
			i = j
		}
		if end := c.New + c.Len; end > n {
			say(end-n, 0, 0)
		}
	}
	if left := int64(len(new)) - n; left > 0 {
		say(0, left, 0)
	}
	return all
}
