package delta

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dunlin/dunlin/internal/delta/entropy"
	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

// Make writes the delta that makes new of old. Same images and version, same bytes. The layers' tars are checked against
// their diff IDs, and what was written is applied: if there is no error, the delta makes the new image.
func Make(ctx context.Context, w io.Writer, old, new Image, o Options) (Info, error) {
	e := &encoder{o: o}
	info, err := e.make(ctx, w, old, new)
	return info, errors.Join(err, e.close())
}

// encoder makes a delta.
type encoder struct {
	o         Options
	disk      int64 // bytes in files
	files     []*os.File
	olds      []*tarfile.Tar
	used      []bool // old layers
	done, all int64
	x         *codec
}

// spool copies a layer's tar to a file that is gone when it is closed.
func (e *encoder) spool(ctx context.Context, l Layer) (*os.File, int64, error) {
	r, err := l.Open()
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	f, err := e.temporary()
	if err != nil {
		return nil, 0, err
	}
	h := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(filling{f, e}, h), whileLasting{ctx, r}, make([]byte, 1<<20))
	if err != nil {
		return nil, 0, err
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != l.DiffID {
		return nil, 0, fmt.Errorf("its tar has the digest %s", got)
	}
	return f, n, nil
}

// temporary makes a file that goes when the encoder is closed.
func (e *encoder) temporary() (*os.File, error) {
	f, err := os.CreateTemp(e.o.Dir, "delta-*")
	if err != nil {
		return nil, err
	}
	e.files = append(e.files, f)
	if e.o.Dir == "" {
		// Where an open file can have no name, a crash leaves nothing behind. Whoever names a folder wants to see them.
		os.Remove(f.Name())
	}
	return f, nil
}

// filling counts what is written to temporary files.
type filling struct {
	w io.Writer
	*encoder
}

func (f filling) Write(p []byte) (int, error) {
	if f.disk += int64(len(p)); f.o.Disk > 0 && f.disk > f.o.Disk {
		return 0, ErrDisk
	}
	return f.w.Write(p)
}

// whileLasting reads until the context ends.
type whileLasting struct {
	ctx context.Context
	r   io.Reader
}

func (r whileLasting) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

func (e *encoder) close() error {
	var errs []error
	for _, f := range e.files {
		errs = append(errs, f.Close())
		if err := os.Remove(f.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (e *encoder) make(ctx context.Context, w io.Writer, old, new Image) (Info, error) {
	t := &top{Info: Info{From: imageID(old.Config), Config: new.Config}}
	var listed int64
	for i, l := range old.Layers {
		f, size, err := e.spool(ctx, l)
		if err != nil {
			return Info{}, fmt.Errorf("read layer %d of the old image, %s: %w", i, l.DiffID, err)
		}
		layer, err := tarfile.List(f, size)
		if err != nil {
			return Info{}, fmt.Errorf("list layer %d of the old image: %w", i, err)
		}
		if listed += tarfile.Cost(layer.Names); listed > listingLimit {
			// Nothing can be made of it: a device has not the memory to know all of its names.
			listed -= tarfile.Cost(layer.Names)
			layer.Odd, layer.Names, layer.Places = true, nil, nil
		}
		e.olds = append(e.olds, layer)
		t.FromDiff = append(t.FromDiff, l.DiffID)
	}
	kept := true
	var news []*newLayer
	for i, l := range new.Layers {
		kept = kept && i < len(old.Layers) && old.Layers[i].DiffID == l.DiffID
		if kept {
			size, err := e.files[i].Seek(0, io.SeekEnd)
			if err != nil {
				return Info{}, err
			}
			t.Layers = append(t.Layers, LayerInfo{l.DiffID, size, true})
			continue
		}
		f, size, err := e.spool(ctx, l)
		if err != nil {
			return Info{}, fmt.Errorf("read layer %d of the new image, %s: %w", i, l.DiffID, err)
		}
		t.Layers = append(t.Layers, LayerInfo{l.DiffID, size, false})
		news = append(news, &newLayer{r: f, size: size, at: i})
		e.all += size
	}
	if len(t.FromDiff) > layersLimit || len(t.Layers) > layersLimit || len(t.Config) > configLimit {
		return Info{}, errors.New("an image with this many layers, or so large a config, is not compared")
	}
	for _, l := range news {
		if err := e.scan(ctx, l); err != nil {
			return Info{}, err
		}
	}
	if err := e.choose(ctx, news); err != nil {
		return Info{}, err
	}

	made, err := e.temporary()
	if err != nil {
		return Info{}, err
	}
	out := bufio.NewWriter(io.MultiWriter(w, filling{made, e}))
	out.WriteString(magic)
	out.WriteByte(version)
	x := newCodec(entropy.NewWriter(out))
	x.lit.Allow(e.all / 40) // so that reading a delta costs no more than pulling the layers
	e.x = x
	x.basis = &tarBasis{layers: e.olds}
	x.listings, x.lastIndex = make([][]Name, len(e.olds)), make([]int, len(e.olds))
	t.used, t.listing = e.used, make([][8]byte, len(e.olds))
	for i, l := range e.olds {
		if e.used[i] {
			x.listings[i], t.listing[i] = l.Names, tarfile.Digest(l.Names)
		}
	}
	if err := t.code(x); err != nil {
		return Info{}, err
	}
	for _, l := range news {
		if err := x.enter(l.like); err != nil {
			return Info{}, err
		}
		if err := x.layer(ctx, e.next(l), nil); err != nil {
			return Info{}, err
		}
	}
	x.count(partHead)
	if err := x.c.Close(); err != nil {
		return Info{}, err
	}
	if err := out.Flush(); err != nil {
		return Info{}, err
	}
	return t.Info, e.check(ctx, made, t)
}

// check applies a delta as who gets it will.
func (e *encoder) check(ctx context.Context, made *os.File, t *top) error {
	if _, err := made.Seek(0, io.SeekStart); err != nil {
		return err
	}
	d, err := Open(bufio.NewReaderSize(made, 64<<10))
	if err != nil {
		return fmt.Errorf("check the delta: %w", err)
	}
	e.done = 0
	basis := &tarBasis{id: t.From, layers: e.olds}
	for i, l := range t.Layers {
		if l.Kept {
			continue
		}
		if err := d.Layer(ctx, i, basis, checking{e}); err != nil {
			return fmt.Errorf("check the delta's layer %d: %w", i, err)
		}
	}
	e.progress(e.all, e.all)
	return nil
}

// checking takes the layers that a check makes.
type checking struct{ *encoder }

func (c checking) Write(p []byte) (int, error) {
	c.done += int64(len(p))
	c.progress(c.all, c.done)
	return len(p), nil
}

// progress tells how much of the new image is coded and how much is checked, which is the lesser work.
func (e *encoder) progress(coded, checked int64) {
	if e.o.Progress != nil {
		e.o.Progress(coded-coded/4+checked/4, e.all)
	}
}

func imageID(config []byte) string {
	sum := sha256.Sum256(config)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// newLayer is a layer of the new image.
type newLayer struct {
	r    *os.File
	size int64
	at   int // in the image
	like int // the old layer whose names it has, or -1
	// units are what the tar consists of. Headers are read again when they are coded.
	units []newUnit
}

// newUnit is something in a new layer.
type newUnit struct {
	what     byte
	at, size int64 // in the tar
	body     int64 // where contents begin, and their length
	length   int64
	path     string
	sum      [sha256.Size]byte
	contents
}

// scan finds what a layer's tar consists of.
func (e *encoder) scan(ctx context.Context, l *newLayer) error {
	for at := int64(0); at < l.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		entry, err := tarfile.Read(l.r, at, l.size)
		if err != nil {
			return err
		}
		u := newUnit{what: unitEntry, at: at}
		if entry != nil {
			u.size, u.body, u.length = entry.End()-at, entry.Data, entry.Size
			u.path, _ = tarfile.Clean(entry.Name)
		} else {
			n, err := zeros(l.r, at, l.size)
			if err != nil {
				return err
			}
			if u.what, u.size = unitZeros, n; n == 0 {
				u.what, u.size, u.body, u.length = unitRaw, l.size-at, at, l.size-at
			}
		}
		if u.length > 0 {
			h := sha256.New()
			if _, err := io.Copy(h, io.NewSectionReader(l.r, u.body, u.length)); err != nil {
				return err
			}
			h.Sum(u.sum[:0])
		}
		at += u.size
		l.units = append(l.units, u)
	}
	l.units = append(l.units, newUnit{what: unitEnd})
	return nil
}

// zeros counts the blocks of zeros at a place, in bytes; what is behind the last whole block counts if it ends the tar.
func zeros(r io.ReaderAt, at, size int64) (n int64, err error) {
	b := make([]byte, pieceSize)
	for at+n < size {
		b = b[:min(int64(len(b)), size-at-n)]
		if err := tarfile.ReadFull(r, b, at+n); err != nil {
			return 0, err
		}
		i := 0
		for i < len(b) && b[i] == 0 {
			i++
		}
		if n += int64(i); i < len(b) {
			return n &^ (tarfile.Block - 1), nil
		}
	}
	return n, nil
}

// next returns what a layer's tar consists of, one after the other.
func (e *encoder) next(l *newLayer) func() (*unit, error) {
	i := 0
	return func() (*unit, error) {
		n := &l.units[i]
		i++
		u := &unit{what: n.what, n: n.size, contents: n.contents}
		u.contents.size = n.length
		if n.what == unitEntry {
			entry, err := tarfile.Read(l.r, n.at, l.size)
			if err != nil {
				return nil, err
			}
			u.Entry = *entry
		}
		u.body = io.NewSectionReader(l.r, n.body, n.length)
		u.how = e.plan
		e.progress(e.done, 0)
		e.done += n.size
		return u, nil
	}
}
