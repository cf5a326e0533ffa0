// Package code knows what happens to machine code and its tables when a program is built again: what moves takes every
// number along that names its place. It reads the old file, is told which parts of it the new one has copied, and
// predicts those numbers, so that only what it got wrong must travel. Both ends predict alike: from the old file's bytes,
// the copies and the Layout, and from nothing else.
//
// A program may be meant to make whoever reads it run out of memory or time. Opening one takes time for its size, predicting
// for each KiB of it that copies touch, and a Program and its Predictor take 8 MiB at most, whatever the bytes are and
// besides the copies. An error of the file that is read ends both.
//
// A field is such a number; a table finds the fields of one part of a program; a frame says where the parts are; moves say
// where everything is now. A file for each processor, and for each family of tables, makes this a large package.
package code

import (
	"io"

	"github.com/dunlin/dunlin/internal/delta/match"
)

// Program is what is known of an old file. It may be read by one goroutine at a time.
type Program struct {
	*frame
	parts  []part // by offset, not overlapping
	chunks [chunks]chunk
}

// Open looks at an old file. nil means that it is none whose code anybody here knows. Errors are those of reading it: what
// is damaged, or says strange things of itself, is simply not known. A reader that fails ends it soon, and any Predict.
func Open(old io.ReaderAt, size int64) (*Program, error) { return look(&view{file: old, size: size}) }

// inMemory looks at a file that is at hand.
func inMemory(file []byte) *Program {
	p, _ := look(&view{all: file, size: int64(len(file))})
	return p
}

func look(v *view) (*Program, error) {
	f, err := readFrame(v)
	if f == nil {
		return nil, err
	}
	p := &Program{frame: f}
	for _, model := range models() {
		for _, t := range model(f) {
			p.parts = insert(p.parts, t)
		}
	}
	if f.err != nil || len(p.parts) == 0 {
		return nil, f.err
	}
	return p, nil
}

// Kinds of bytes, for whoever codes what the prediction got wrong.
const (
	Plain   = 0 // as it was in the old file
	Operand = 1 // the first byte of a predicted number; Operand+n is its byte n, up to 7
)

// Predictor predicts what copies look like in the new file.
type Predictor struct {
	p      *Program
	l      *Layout
	moves  *moves
	copies []match.Copy
}

// Predictor returns one for a new file of these copies.
func (p *Program) Predictor(l *Layout, copies []match.Copy) *Predictor {
	return &Predictor{p, l, newMoves(p.frame, l, copies), copies}
}

// Predict predicts a piece of copy i, from its offset at on. b is what the old file has there, and becomes what the new
// one should have; kinds, as long, becomes what each byte is. Numbers that are not whole in b are left as they are, so
// both ends must ask for the same pieces.
func (x *Predictor) Predict(i int, at int64, b, kinds []byte) error {
	clear(kinds)
	if x.copies[i].Len < shortest {
		return nil
	}
	old, now := x.copies[i].Old+at, x.copies[i].New+at
	x.p.each(old, old+int64(len(b)), func(n int, from, to int64) {
		on := x.l.on[n]
		if on == 0 {
			return
		}
		was, _ := x.p.run(from)
		is, _ := x.l.run(now + from - old)
		if t, ok := x.p.parts[n].table.(computed); ok {
			t.foretell(x.moves, from, is, b[from-old:to-old], kinds[from-old:to-old])
			return
		}
		x.p.fields(n, from, to, func(f Field) {
			if on>>f.Kind&1 != 0 {
				x.predict(f, x.copies[i], is-was, b[f.At-old:], kinds[f.At-old:])
			}
		})
	})
	return x.p.err
}

// predict predicts a field of a copy that has moved by so much.
func (x *Predictor) predict(f Field, c match.Copy, moved uint64, b, kinds []byte) {
	base := f.Base + moved
	if !f.Kind.here() {
		base = x.moves.now(f.Base)
	} else if off, ok := x.p.offset(f.Target); ok && off >= c.Old && off-c.Old < c.Len {
		return // both have moved
	}
	all := f.Kind.bits()
	if v, ok := f.Kind.write(x.moves.now(f.Target), base, f.Unit); ok {
		f.Kind.store(b, f.Kind.load(b)&^all|v)
	}
	for n := range f.Kind.width() {
		if byte(all>>(8*n)) != 0 {
			kinds[n] = Operand + byte(n)
		}
	}
}
