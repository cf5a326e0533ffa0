package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/delta/stock"
)

// stockVersion is what balenaOS calls this kind of delta (RESIN_SUPERVISOR_DELTA_VERSION).
const stockVersion = 3

// makeStock writes a delta as stock balenaOS devices apply it: the archive of an image.
func makeStock(ctx context.Context, w io.Writer, old, new *archive.Image, o delta.Options) (bytes, newBytes int64, err error) {
	dir, err := os.MkdirTemp(o.Dir, "dunlin-delta-")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	made, err := stock.Make(ctx, dir, imageOf(old), imageOf(new), 0, func(done int64) { newBytes = done })
	if err != nil {
		return 0, 0, err
	}
	var layers []archive.Content
	for _, l := range made.Layers {
		layers = append(layers, archive.Content{DiffID: l.DiffID, Packed: l.Digest, Size: l.Size, Write: func(w io.Writer) error {
			return copyFile(w, filepath.Join(dir, l.Name))
		}})
	}
	return made.Size() + int64(len(made.Config)), newBytes, archive.Write(w, made.Config, nil, layers)
}

// openStock opens the archive of a delta that a stock device would apply.
func openStock(name, dir string) (*patch, error) {
	stat, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	image, err := archive.Open(name, archive.Options{Dir: dir})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", delta.ErrFormat, err)
	}
	p, err := stockPatch(image)
	if err != nil {
		return nil, errors.Join(err, image.Close())
	}
	p.bytes = stat.Size()
	return p, nil
}

func stockPatch(image *archive.Image) (*patch, error) {
	from, config, ok := stock.Info(image.Config)
	if !ok {
		return nil, delta.ErrFormat
	}
	ids, err := archive.DiffIDs(config)
	if err != nil || len(ids) != len(image.Layers) {
		return nil, fmt.Errorf("%w: it has not as many layers as its new image", delta.ErrFormat)
	}
	sum := sha256.Sum256(config)
	p := &patch{close: image.Close, Info: delta.Info{Version: stockVersion, From: from, To: "sha256:" + hex.EncodeToString(sum[:]), Config: config}}
	for i, id := range ids {
		r, err := image.Layers[i].Open()
		if err != nil {
			return nil, err
		}
		kept, err := stock.Empty(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, fmt.Errorf("read layer %d: %w", i, err)
		}
		p.Layers = append(p.Layers, delta.LayerInfo{DiffID: id, Kept: kept})
	}
	p.ready = func(ctx context.Context, old *archive.Image, dir string) (func(context.Context, int, io.Writer) error, error) {
		return p.readyStock(ctx, image, old, dir)
	}
	return p, nil
}

// readyStock makes the new layers in temporary files: how long they are, which an archive says before them, nothing else
// tells.
func (p *patch) readyStock(ctx context.Context, image, old *archive.Image, dir string) (func(context.Context, int, io.Writer) error, error) {
	base, all, err := joined(old, p)
	if err != nil {
		return nil, err
	}
	dir, err = os.MkdirTemp(dir, "dunlin-delta-")
	if err != nil {
		return nil, err
	}
	closing := p.close
	p.close = func() error { return errors.Join(closing(), os.RemoveAll(dir)) }
	name := func(i int) string { return filepath.Join(dir, fmt.Sprintf("layer-%d", i)) }
	for i, l := range p.Layers {
		if l.Kept {
			continue
		}
		r, err := image.Layers[i].Open()
		if err != nil {
			return nil, err
		}
		p.Layers[i].Size, err = writeWhole(name(i), func(w io.Writer) error { return stock.Apply(ctx, w, base, all, r, p.Config, i) })
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, fmt.Errorf("make layer %s: %w", l.DiffID, err)
		}
	}
	return func(_ context.Context, i int, w io.Writer) error { return copyFile(w, name(i)) }, nil
}

// joined is the tars of the old image one behind the other, and how long they are. The patch is told how long those are
// that are kept.
func joined(old *archive.Image, p *patch) (io.ReaderAt, int64, error) {
	var all tars
	end := int64(0)
	for i := range old.Layers {
		r, n, err := old.Random(i)
		if err != nil {
			return nil, 0, err
		}
		end += n
		all = append(all, tarEnd{r, n, end})
		if i < len(p.Layers) && p.Layers[i].Kept {
			if p.Layers[i].DiffID != old.Layers[i].DiffID {
				return nil, 0, delta.ErrBase
			}
			p.Layers[i].Size = n
		}
	}
	for i := len(old.Layers); i < len(p.Layers); i++ {
		if p.Layers[i].Kept {
			return nil, 0, delta.ErrBase
		}
	}
	return all, end, nil
}

// tars are files that are read as one.
type tars []tarEnd

type tarEnd struct {
	io.ReaderAt
	size, end int64 // of the file, and where it ends among the others
}

func (t tars) ReadAt(b []byte, at int64) (n int, err error) {
	for _, part := range t {
		if at >= part.end || n == len(b) {
			continue
		}
		want := b[n:min(len(b), n+int(min(part.end-at, int64(len(b)))))]
		got, err := part.ReadAt(want, at-(part.end-part.size))
		n, at = n+got, at+int64(got)
		if got < len(want) {
			return n, err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func copyFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}
