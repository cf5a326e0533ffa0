package cli

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/fault"
)

// deltaFormat is one way of writing down the difference between two images.
type deltaFormat struct {
	name string
	// make writes the delta to w, and says how many bytes a device downloads (0: all of what was written) and how many the
	// layers have that the old image has not.
	make func(ctx context.Context, w io.Writer, old, new *archive.Image, o delta.Options) (bytes, newBytes int64, err error)
	// open opens the file of a delta. That it is of another format is delta.ErrFormat.
	open func(name, dir string) (*patch, error)
}

// deltaFormats are the formats there are; the first is meant if none is named.
func deltaFormats() []deltaFormat {
	return []deltaFormat{{"dunlin", makeDelta, openDelta}, {"librsync", makeStock, openStock}}
}

// patch is a delta that was opened.
type patch struct {
	format, name string // of the delta, and of the file
	bytes        int64  // of the file
	delta.Info
	// ready makes ready to make the new layers of the old image, with temporary files in a folder, and adds to Info what
	// only the old image tells. The function it returns writes a layer that is not kept.
	ready func(ctx context.Context, old *archive.Image, dir string) (layer func(ctx context.Context, i int, w io.Writer) error, err error)
	close func() error
}

func makeDelta(ctx context.Context, w io.Writer, old, new *archive.Image, o delta.Options) (bytes, newBytes int64, err error) {
	info, err := delta.Make(ctx, w, imageOf(old), imageOf(new), o)
	return 0, newLayers(info), err
}

// newLayers are the bytes of the layers that the old image has not.
func newLayers(info delta.Info) (n int64) {
	for _, l := range info.Layers {
		if !l.Kept {
			n += l.Size
		}
	}
	return n
}

// imageOf is an image as the delta's room wants it.
func imageOf(i *archive.Image) delta.Image {
	image := delta.Image{Config: i.Config}
	for _, l := range i.Layers {
		image.Layers = append(image.Layers, delta.Layer{DiffID: l.DiffID, Open: l.Open})
	}
	return image
}

// openPatch opens the file of a delta, whatever its format. It must be closed.
func openPatch(name, dir string) (*patch, error) {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Newf(fault.NotFound, "there is no file %s", name)
	}
	var first error
	for _, format := range deltaFormats() {
		p, err := format.open(name, dir)
		if err == nil {
			p.format, p.name = format.name, name
			return p, nil
		}
		if first = cmp.Or(first, err); !errors.Is(err, delta.ErrFormat) {
			return nil, deltaFault(err, "cannot read "+name)
		}
	}
	return nil, deltaFault(first, "cannot read "+name)
}

func openDelta(name, _ string) (*patch, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fault.New(fault.Invalid, "cannot read the delta: "+err.Error())
	}
	stat, err := file.Stat()
	if err == nil && stat.IsDir() {
		err = delta.ErrFormat
	}
	var d *delta.Delta
	if err == nil {
		d, err = delta.Open(bufio.NewReaderSize(file, 64<<10))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	ready := func(_ context.Context, old *archive.Image, _ string) (func(context.Context, int, io.Writer) error, error) {
		var layers []string
		for _, l := range old.Layers {
			layers = append(layers, l.DiffID)
		}
		if !slices.Equal(layers, d.Info().FromDiff) {
			return nil, fmt.Errorf("%w: its layers are others", delta.ErrBase)
		}
		basis, err := basisOf(old)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, i int, w io.Writer) error { return d.Layer(ctx, i, basis, w) }, nil
	}
	return &patch{bytes: stat.Size(), Info: d.Info(), ready: ready, close: file.Close}, nil
}

// deltaFault says for people what is wrong with a delta, or with what it was applied to.
func deltaFault(err error, doing string) error {
	for _, known := range []struct {
		is   error
		kind fault.Kind
		hint string
	}{
		{delta.ErrVersion, fault.Invalid, "get the newest dunlin"},
		{delta.ErrFormat, fault.Invalid, "if it was downloaded, download it again"},
		{delta.ErrBase, fault.Conflict, "give the image that the delta was made from as --from"},
		{delta.ErrResult, fault.Conflict, "get the delta and the old image again"},
	} {
		if errors.Is(err, known.is) {
			return fault.New(known.kind, doing+": "+err.Error()).WithHint(known.hint)
		}
	}
	return err
}

// print says what a delta is of.
func (p *patch) print(w io.Writer) error {
	var t sheet
	t.line("Format", fmt.Sprintf("%s, version %d", p.format, p.Version))
	t.line("Size", size(client.Bytes(p.bytes)))
	t.line("From image", p.From)
	t.line("To image", p.To)
	if err := t.print(w); err != nil {
		return err
	}
	if len(p.Layers) == 0 {
		return nil
	}
	layers := table{header: []string{"LAYER", "SIZE", "IS", "DIFF ID"}}
	for i, l := range p.Layers {
		state := "new"
		if l.Kept {
			state = "kept"
		}
		layers.add(strconv.Itoa(i+1), size(client.Bytes(l.Size)), state, l.DiffID)
	}
	_, err := fmt.Fprintln(w)
	return cmp.Or(err, layers.print(w))
}

// apply writes the new image. Layers that the old image has are copied, the others made.
func (p *patch) apply(ctx context.Context, w io.Writer, old *archive.Image, f deltaFile, progress func(done, all int64)) error {
	layer, err := p.ready(ctx, old, f.dir)
	if err != nil {
		return err
	}
	done, all := int64(0), int64(0)
	var layers []archive.Content
	for i, l := range p.Layers {
		c := archive.Content{DiffID: l.DiffID, Size: l.Size}
		if !f.onlyNew || !l.Kept {
			all += l.Size
			c.Write = func(to io.Writer) error {
				w := through(func(b []byte) (int, error) {
					if err := ctx.Err(); err != nil {
						return 0, err
					}
					n, err := to.Write(b)
					done += int64(n)
					progress(done, all)
					return n, err
				})
				if l.Kept {
					return copyLayer(w, old.Layers[i])
				}
				return layer(ctx, i, w)
			}
		}
		layers = append(layers, c)
	}
	return archive.Write(w, p.Config, f.tags, layers)
}

// through is an io.Writer that is a function.
type through func([]byte) (int, error)

func (f through) Write(p []byte) (int, error) { return f(p) }

// copyLayer copies a layer as it is, which must be what its diff ID says.
func copyLayer(w io.Writer, l archive.Layer) error {
	r, err := l.Open()
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(w, sum), r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if "sha256:"+hex.EncodeToString(sum.Sum(nil)) != l.DiffID {
		return fmt.Errorf("%w: its layer %s is damaged", delta.ErrResult, l.DiffID)
	}
	return nil
}

func basisOf(old *archive.Image) (delta.Basis, error) {
	var tars []io.ReaderAt
	var sizes []int64
	for i := range old.Layers {
		r, n, err := old.Random(i)
		if err != nil {
			return nil, err
		}
		tars, sizes = append(tars, r), append(sizes, n)
	}
	return delta.TarBasis(old.ID, tars, sizes)
}
