package delta

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/dunlin/dunlin/internal/delta/entropy"
	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

// Delta is a delta being read. It is read once, in order.
type Delta struct {
	top
	x    *codec
	next int   // layers before this one are read
	err  error // what went wrong: nothing can be read any more
}

// Open reads the beginning of a delta.
func Open(r io.Reader) (*Delta, error) {
	var b [len(magic) + 1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = ErrFormat
		}
		return nil, err
	}
	if string(b[:len(magic)]) != magic {
		return nil, ErrFormat
	}
	if b[len(magic)] != version {
		return nil, fmt.Errorf("%w: %d", ErrVersion, b[len(magic)])
	}
	d := &Delta{x: newCodec(entropy.NewReader(r))}
	if err := d.top.code(d.x); err != nil {
		return nil, err
	}
	return d, nil
}

// Info is what the delta says of itself.
func (d *Delta) Info() Info { return d.top.Info }

// Layer writes the tar of layer i of the new image, which must not be kept, to w. Layers are asked for in their order.
// What it has written is the layer only if there is no error: the end of the tar is written last, after all before it was
// checked. basis must be the same for all layers.
func (d *Delta) Layer(ctx context.Context, i int, basis Basis, w io.Writer) error {
	if d.err == nil {
		d.err = d.layer(ctx, i, basis, w)
	}
	return d.err
}

func (d *Delta) layer(ctx context.Context, i int, basis Basis, w io.Writer) error {
	for d.next < len(d.Layers) && d.Layers[d.next].Kept {
		d.next++
	}
	if i != d.next || i >= len(d.Layers) {
		return fmt.Errorf("layer %d of a delta cannot be read now: layer %d is next", i, d.next)
	}
	d.next++
	if d.x.basis == nil {
		if err := d.base(basis); err != nil {
			return err
		}
	}
	out := &checked{w: w, hash: sha256.New(), left: d.Layers[i].Size}
	if err := d.x.enter(-1); err != nil {
		return err
	}
	if err := d.x.layer(ctx, nil, out); err != nil {
		return err
	}
	return out.end(d.Layers[i].DiffID)
}

// base checks the old image, as far as names go.
func (d *Delta) base(basis Basis) error {
	if basis.ID() != d.From {
		return fmt.Errorf("%w: %s, and this is %s", ErrBase, d.From, basis.ID())
	}
	x := d.x
	x.listings, x.lastIndex = make([][]Name, len(d.used)), make([]int, len(d.used))
	var listed int64
	for i, used := range d.used {
		if !used {
			continue
		}
		names, err := basis.Names(i)
		if err != nil {
			return fmt.Errorf("list layer %d: %w", i, err)
		}
		if listed += tarfile.Cost(names); listed > listingLimit {
			return fmt.Errorf("%w: the layers it is made of have more names than are held", ErrFormat)
		}
		if !slices.IsSortedFunc(names, func(a, b Name) int { return tarfile.Order(a.Path, b.Path) }) {
			names = slices.Clone(names)
			slices.SortFunc(names, func(a, b Name) int { return tarfile.Order(a.Path, b.Path) })
		}
		if tarfile.Digest(names) != d.listing[i] {
			return fmt.Errorf("%w: the files of layer %d are others", ErrBase, i)
		}
		x.listings[i] = names
	}
	x.basis = basis
	return nil
}

// checked passes a tar on, but for the last of it, which waits until all was checked.
type checked struct {
	w    io.Writer
	hash hash.Hash
	left int64 // bytes to come
	held []byte
}

// holdBack is how much of a tar waits, in bytes.
const holdBack = 1024

var errTooLong = errors.New("it is longer than it says")

func (c *checked) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		return 0, fmt.Errorf("%w: %w", ErrResult, errTooLong)
	}
	c.left -= int64(len(p))
	c.hash.Write(p)
	now := p[:max(0, len(p)-int(max(0, holdBack-c.left)))]
	c.held = append(c.held, p[len(now):]...)
	if len(now) > 0 {
		if _, err := c.w.Write(now); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// end writes what was held back, if what there is has the right digest.
func (c *checked) end(id string) error {
	if c.left != 0 {
		return fmt.Errorf("%w: %d bytes are missing", ErrResult, c.left)
	}
	if got := "sha256:" + hex.EncodeToString(c.hash.Sum(nil)); got != id {
		return fmt.Errorf("%w: a layer came out as %s and should be %s", ErrResult, got, id)
	}
	_, err := c.w.Write(c.held)
	return err
}
