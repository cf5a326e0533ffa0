package delta

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

// What comes next in a tar.
const (
	unitEntry = iota
	unitZeros // so many zeros
	unitRaw   // bytes that are no tar
	unitEnd
	unitCount
)

// enter begins a layer; like is the old layer that names are compared with, or -1.
func (x *codec) enter(like int) error {
	like = int(x.c.Byte(&x.likeLayer, byte(like+1))) - 1
	if like >= len(x.listings) || like >= 0 && x.listings[like] == nil {
		x.fail(ErrFormat)
		return x.failed()
	}
	var names []Name
	if like >= 0 {
		names = x.listings[like]
	}
	x.heads.Begin(names)
	return x.failed()
}

// unit is something in a tar, in the order in which it is there.
type unit struct {
	what byte
	tarfile.Entry
	contents
	n    int64             // zeros
	body *io.SectionReader // writing: the contents
	how  maker
}

// layer codes a layer: writing, next returns what comes next in its tar; reading, it goes to w.
func (x *codec) layer(ctx context.Context, next func() (*unit, error), w io.Writer) error {
	for {
		x.count(partEntries)
		u := &unit{}
		if next != nil {
			var err error
			if u, err = next(); err != nil {
				return err
			}
		}
		if u.what = x.c.Byte(&x.item, u.what); u.what == unitEnd {
			return x.failed()
		}
		if err := x.unit(ctx, u, w); err != nil {
			return err
		}
	}
}

func (x *codec) unit(ctx context.Context, u *unit, w io.Writer) (err error) {
	defer func() {
		if u.old != nil {
			err = errors.Join(err, u.old.Close())
		}
	}()
	p := x.port(u.body, w)
	if x.work(workUnit); x.failed() != nil {
		return x.failed()
	}
	switch u.what {
	case unitZeros:
		u.n = int64(x.c.Number(&x.zeros, uint64(u.n)))
		if u.n < 1 || x.failed() != nil {
			x.fail(ErrFormat)
			return x.failed()
		}
		for n := u.n; n > 0 && p.w != nil; {
			b := x.buf[:min(n, pieceSize)]
			clear(b)
			if err := errors.Join(p.drain(b), ctx.Err()); err != nil {
				return err
			}
			n -= int64(len(b))
		}
		return nil
	case unitRaw:
		if x.contents(&u.contents, "", tar.TypeReg, 0); u.contents.size < 1 {
			x.fail(ErrFormat)
		}
		if err := x.failed(); err != nil {
			return err
		}
		return x.data(ctx, &u.contents, u.how, p)
	case unitEntry:
		err := x.heads.Code(x.c, &u.Entry, func(p string, kind byte, class int) (int64, bool, error) {
			x.contents(&u.contents, p, kind, class)
			return u.contents.size, u.kind != none && u.kind != same, x.failed()
		})
		if x.failed() != nil {
			return x.failed()
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		for _, m := range u.Metas {
			for _, b := range [][]byte{m.Head[:], m.Body, make([]byte, tarfile.Padding(int64(len(m.Body))))} {
				if err := p.drain(b); err != nil {
					return err
				}
			}
		}
		if err := p.drain(u.Head[:]); err != nil {
			return err
		}
		if err := x.data(ctx, &u.contents, u.how, p); err != nil {
			return err
		}
		pad := u.Pad
		if x.c.Reading() {
			pad = make([]byte, tarfile.Padding(u.contents.size))
		}
		if len(pad) > 0 && x.c.Bool(&x.padded, !tarfile.IsZero(pad)) {
			x.raw(pad)
		}
		return p.drain(pad)
	}
	x.fail(ErrFormat)
	return x.failed()
}
