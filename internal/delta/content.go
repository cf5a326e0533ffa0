package delta

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/delta/code"
	"github.com/dunlin/dunlin/internal/delta/match"
	"github.com/dunlin/dunlin/internal/delta/member"
	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

// Bounds of the format.
const (
	pieceSize    = 64 << 10 // bytes of a copy or of a gap that are coded at once
	instead      = 64       // bytes of an old file in the place of a gap, by which it is coded
	copiesLimit  = 1 << 17  // of a file
	listingLimit = 12 << 20 // bytes of all names of the layers that are used
	sourcesLimit = 8        // of a file
	densest      = 1100     // plain bytes of a byte of an opened file, at most
)

// What a file's contents are.
const (
	none    = iota // there are none
	same           // those of an old file
	patched        // like those of old files
	fresh
	kindCount
)

// source is a regular file of the old image.
type source struct{ layer, index int }

// contents are the contents of a file.
type contents struct {
	kind    byte
	size    int64
	sources []source
	// opened means that what was compressed in the file is compared, and compressed again.
	opened bool
	old    *joined // the sources one behind the other, open
}

// contents codes what the contents of a file are: which old files they are made of, and how long they are.
func (x *codec) contents(f *contents, p string, typ byte, class int) {
	t := 0
	if typ == tar.TypeReg || typ == 0 {
		t = 1
	}
	f.kind = x.c.Byte(&x.what[class][t<<2|int(x.wasWhat)], f.kind)
	if f.kind >= kindCount {
		x.fail(ErrFormat)
		return
	}
	if f.kind != none {
		x.wasWhat = f.kind
	}
	if f.kind == patched || f.kind == fresh {
		f.opened = x.c.Bool(&x.opened[x.wasOpened], f.opened)
		x.wasOpened = 0
		if f.opened {
			x.wasOpened = 1
		}
	}
	switch f.kind {
	case none:
		f.size = 0
		return
	case fresh:
		f.size = int64(x.c.Number(&x.freshSize, uint64(f.size)))
		if f.size < 0 {
			x.fail(ErrFormat)
		}
		return
	}
	n := 1
	if f.kind == patched {
		n = 1 + int(min(x.c.Number(&x.sourceCount, uint64(len(f.sources)-1)), sourcesLimit))
	}
	if n > sourcesLimit || f.opened && n > 1 {
		x.fail(ErrFormat)
		return
	}
	if x.c.Reading() {
		f.sources = make([]source, n)
	}
	for i := range f.sources {
		f.sources[i] = x.source(f.sources[i], p)
		if x.failed() != nil {
			return
		}
	}
	for _, s := range f.sources {
		x.work(workFile + workFolder*int64(strings.Count(x.listings[s.layer][s.index].Path, "/")))
	}
	if x.failed() != nil {
		return
	}
	old, err := join(x.basis, x.listings, f.sources)
	if err != nil {
		x.fail(err)
		return
	}
	f.old = old
	if f.kind == same {
		f.size = old.size
		return
	}
	f.size = old.size + x.c.Signed(&x.patchedSize, f.size-old.size)
	if f.size < 0 || !worthReading(old.size, f.size) {
		x.fail(ErrFormat)
	}
}

// worthReading reports whether a file may be made of so many old bytes.
func worthReading(old, size int64) bool { return old <= oldFree || (old-oldFree)/oldTimes <= size }

// source codes which old file a file with path p is made of.
func (x *codec) source(s source, p string) source {
	s.layer = int(x.c.Byte(&x.sourceLayer, byte(s.layer)))
	if s.layer >= len(x.listings) || x.listings[s.layer] == nil {
		x.fail(ErrFormat)
		return s
	}
	names := x.listings[s.layer]
	own, found := slices.BinarySearchFunc(names, p, tarfile.ByPath)
	if found = found && names[own].Type == tar.TypeReg; found {
		if x.c.Bool(&x.sourceOwn, s.index == own) {
			s.index = own
			x.lastIndex[s.layer] = own
			return s
		}
	}
	next := x.lastIndex[s.layer] + 1
	for next < len(names) && names[next].Type != tar.TypeReg {
		next++
	}
	if x.c.Bool(&x.sourceNext, s.index == next) {
		s.index = next
	} else {
		s.index = next + int(x.c.Signed(&x.sourceJump, int64(s.index-next)))
	}
	if s.index < 0 || s.index >= len(names) || names[s.index].Type != tar.TypeReg {
		x.fail(ErrFormat)
		return s
	}
	x.lastIndex[s.layer] = s.index
	return s
}

// joined is old files one behind the other.
type joined struct {
	files []File
	ends  []int64
	size  int64
}

func join(basis Basis, listings [][]Name, sources []source) (*joined, error) {
	j := &joined{}
	for _, s := range sources {
		f, err := basis.Open(s.layer, listings[s.layer][s.index].Path)
		if err != nil {
			j.Close()
			return nil, err
		}
		j.files = append(j.files, f)
		j.size += f.Size()
		j.ends = append(j.ends, j.size)
	}
	return j, nil
}

func (j *joined) Close() error {
	var errs []error
	for _, f := range j.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// ReadAt reads all of p or fails.
func (j *joined) ReadAt(p []byte, at int64) (int, error) {
	n, from := 0, int64(0)
	for i, end := range j.ends {
		if at < end && n < len(p) {
			k := int(min(end-at, int64(len(p)-n)))
			if err := tarfile.ReadFull(j.files[i], p[n:n+k], at-from); err != nil {
				return n, fmt.Errorf("%w: read an old file: %w", ErrBase, err)
			}
			n += k
			at += int64(k)
		}
		from = end
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// maker makes the plan of contents, writing. program is what is known of the first of the old files, or nil.
type maker func(program *code.Program, old *joined, new io.ReaderAt, size int64) (plan, error)

// port is where contents come from, writing a delta, or go to, reading it.
type port struct {
	r reader
	w io.Writer
}

type reader interface {
	io.ReadSeeker
	io.ReaderAt
}

func (p port) fill(b []byte) error {
	if p.r == nil {
		return nil
	}
	_, err := io.ReadFull(p.r, b)
	return err
}

func (p port) drain(b []byte) error {
	if p.w == nil {
		return nil
	}
	_, err := p.w.Write(b)
	return err
}

// peek reads what comes so many bytes ahead, and skip passes over it. Both are for writing.
func (p port) peek(ahead int64, b []byte) error {
	at, err := p.r.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	return tarfile.ReadFull(p.r, b, at+ahead)
}

func (p port) skip(n int64) error {
	_, err := p.r.Seek(n, io.SeekCurrent)
	return err
}

// data codes contents. f.old is open if there are sources, and is closed by the caller. how makes the plan, writing.
func (x *codec) data(ctx context.Context, f *contents, how maker, p port) error {
	switch f.kind {
	case none:
		return nil
	case same:
		return x.same(ctx, f, 0, f.size, p)
	}
	if f.opened {
		return x.inside(ctx, f, how, p)
	}
	return x.body(ctx, f, how, p)
}

// inside codes contents by their plain form.
func (x *codec) inside(ctx context.Context, f *contents, how maker, p port) error {
	var (
		recipe *member.Recipe
		plain  []byte
		out    *counted
	)
	in := *f
	if x.c.Reading() {
		out = &counted{w: p.w}
	} else {
		b := make([]byte, f.size)
		if err := p.fill(b); err != nil {
			return err
		}
		plain, recipe = member.Unpack(b)
	}
	recipe = recipe.Code(x.c)
	if err := x.failed(); err != nil {
		return err
	}
	if recipe == nil || recipe.Size() < 0 || recipe.Size() > member.Limit || recipe.Size()/densest > f.size {
		x.fail(ErrFormat)
		return x.failed()
	}
	in.size = recipe.Size()
	pieces, streams := recipe.Pieces()
	if x.work(workPiece*pieces + workDeflate*streams); x.failed() != nil {
		return x.failed()
	}
	if f.kind == patched {
		if f.old.size > member.Limit {
			x.fail(ErrFormat)
			return x.failed()
		}
		// What is opened may be much more than the file, but not more than so many bytes.
		if x.work(4*f.old.size + member.Limit/8); x.failed() != nil {
			return x.failed()
		}
		b := make([]byte, f.old.size)
		if _, err := f.old.ReadAt(b, 0); err != nil {
			return err
		}
		if opened := member.Plain(b); opened != nil {
			b = opened
		}
		if in.old = inMemory(b); !worthReading(in.old.size, in.size) {
			x.fail(ErrFormat)
			return x.failed()
		}
	}
	if !x.c.Reading() {
		return x.body(ctx, &in, how, port{r: bytes.NewReader(plain)})
	}
	w := recipe.Writer(out)
	if err := x.body(ctx, &in, how, port{w: w}); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if out.n != f.size {
		return fmt.Errorf("%w: a file has another size than it says", ErrResult)
	}
	return nil
}

// counted counts what is written.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// inMemory is an old file whose content is at hand.
func inMemory(b []byte) *joined {
	return &joined{files: []File{memoryFile{bytes.NewReader(b)}}, ends: []int64{int64(len(b))}, size: int64(len(b))}
}

type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }

// until is an old file that cannot be read any more when ctx is done: so whoever reads it for long ends, too.
type until struct {
	ctx context.Context
	old io.ReaderAt
}

func (u until) ReadAt(b []byte, at int64) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.old.ReadAt(b, at)
}

// body codes contents as they are.
func (x *codec) body(ctx context.Context, f *contents, how maker, p port) error {
	if f.kind == fresh {
		x.count(partLiteral)
		x.lit.Near(0, nil, nil)
		return x.gap(ctx, f.size, p, nil)
	}
	if x.work(f.old.ends[0]); x.failed() != nil {
		return x.failed()
	}
	program, err := code.Open(until{ctx, f.old}, f.old.ends[0])
	if err != nil {
		return err
	}
	var made plan
	if !x.c.Reading() {
		if made, err = how(program, f.old, p.r, f.size); err != nil {
			return err
		}
	}
	x.count(partCopies)
	if program == nil && x.c.Bool(&x.asScript, made.steps != nil) {
		return x.script(ctx, f, made.steps, p)
	}
	made.copies = x.copyList(made.copies, f)
	x.work(workCopy * int64(len(made.copies)))
	if err := x.failed(); err != nil {
		return err
	}
	var (
		known  *code.Predictor
		number []int32 // of each copy, as the predictor counts them
	)
	x.count(partLayout)
	if program != nil && x.c.Bool(&x.laid, made.layout != nil) {
		made.layout = program.Code(x.c, made.layout)
		if err := x.failed(); err != nil {
			return err
		}
		var first []match.Copy
		first, number = firstOf(made.copies, f.old.ends)
		known = program.Predictor(made.layout, first)
	}
	var (
		at   int64  // in the new file
		from int64  // in the old one, after the copy before
		last []byte // of that copy, what is in x.buf
	)
	for i := 0; i <= len(made.copies); i++ {
		c := match.Copy{New: f.size}
		if i < len(made.copies) {
			c = made.copies[i]
		}
		known, which := known, i
		if number != nil && c.Len > 0 {
			which = int(number[i])
		}
		if which < 0 {
			known = nil
		}
		x.count(partLiteral)
		if c.New > at {
			instead := x.pred[:min(f.old.size-from, instead)]
			if _, err := f.old.ReadAt(instead, from); err != nil {
				return err
			}
			x.lit.Near(at, last, instead)
		}
		if err := x.gap(ctx, c.New-at, p, nil); err != nil {
			return err
		}
		x.count(partResidue)
		for off := int64(0); off < c.Len; {
			n := min(pieceSize, c.Len-off)
			b, pred, kinds := x.buf[:n], x.pred[:n], []byte(nil)
			if _, err := f.old.ReadAt(pred, c.Old+off); err != nil {
				return err
			}
			if known != nil {
				if x.work(workChunk * (2 + n>>10)); x.failed() != nil {
					return x.failed()
				}
				kinds = x.kinds[:n]
				if err := known.Predict(which, off, pred, kinds); err != nil {
					return err
				}
			}
			if err := p.fill(b); err != nil {
				return err
			}
			x.res.At(c.New + off)
			x.res.Code(x.c, pred, kinds, b)
			if err := errors.Join(x.failed(), ctx.Err()); err != nil {
				return err
			}
			if err := p.drain(b); err != nil {
				return err
			}
			off += n
			last = b
		}
		at, from = c.New+c.Len, c.Old+c.Len
	}
	return nil
}

// gap codes bytes that no old file has, and shows them to tap, which may be nil.
func (x *codec) gap(ctx context.Context, n int64, p port, tap func([]byte)) error {
	for n > 0 {
		b := x.buf[:min(pieceSize, n)]
		if err := p.fill(b); err != nil {
			return err
		}
		if tap != nil && !x.c.Reading() {
			tap(b)
		}
		x.lit.Code(x.c, b)
		if err := errors.Join(x.failed(), ctx.Err()); err != nil {
			return err
		}
		if tap != nil && x.c.Reading() {
			tap(b)
		}
		if err := p.drain(b); err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}
