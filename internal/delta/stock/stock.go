// Package stock makes the deltas that balenaEngine applies on devices: images whose layers are librsync deltas (protocol
// §4.5). It does not own the format of those (librsync), nor who is given one.
//
// Such an image has a layer for each of the new one's: a tar with one file, the delta of that layer's tar against the tars
// of all the old image's layers, one behind the other; or an empty tar for a layer that the old image has at that place.
// Labels say which image it is applied to, and what the new one's configuration is.
package stock

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/delta/librsync"
)

// Labels of a delta's configuration.
const (
	LabelBase   = "io.resin.delta.base"   // ID of the old image
	LabelConfig = "io.resin.delta.config" // the new image's configuration, as it is
)

// file is what the only file of a layer is called.
const file = "delta"

// ErrLimit means that the delta would be larger than it may be.
var ErrLimit = errors.New("the delta is larger than it may be")

// Image is a delta: an image in files of a folder.
type Image struct {
	Config []byte
	Layers []Layer // as many as the new image has
	From   string  // IDs of the images that it lies between
	To     string
}

// Layer is a layer of a delta.
type Layer struct {
	Name   string // of the file: a compressed tar
	Digest string // sha256:… of the file
	Size   int64  // bytes of the file
	DiffID string // sha256:… of the tar
	Kept   bool   // the old image has the layer, and the tar is empty
}

// Size is what a device fetches of the layers, in bytes.
func (i Image) Size() (size int64) {
	seen := map[string]bool{}
	for _, l := range i.Layers {
		if !seen[l.Digest] {
			size += l.Size
		}
		seen[l.Digest] = true
	}
	return size
}

// Make makes a delta in a folder that is there. It is the same for the same images. The uncompressed layers of the old
// image are put there meanwhile. limit bounds what a device fetches, in bytes; 0 is no bound. done, if not nil, is called
// with the bytes of the new image's changed layers that are dealt with.
func Make(ctx context.Context, dir string, old, new delta.Image, limit int64, done func(int64)) (_ Image, err error) {
	made := Image{From: id(old.Config), To: id(new.Config)}
	basis, err := join(ctx, filepath.Join(dir, "basis"), old)
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, basis.Close()) }()
	index := librsync.NewOld(basis.data)
	kept := true
	var total int64
	for n, l := range new.Layers {
		if err := ctx.Err(); err != nil {
			return made, err
		}
		kept = kept && n < len(old.Layers) && old.Layers[n].DiffID == l.DiffID
		layer := Layer{Name: fmt.Sprintf("layer-%d", n), Kept: kept}
		var content string
		if !kept {
			content = filepath.Join(dir, "content")
			dealt, err := difference(ctx, content, index, l, func(n int64) {
				if done != nil {
					done(total + n)
				}
			})
			if err != nil {
				return made, fmt.Errorf("layer %d: %w", n, err)
			}
			total += dealt
		}
		if err := layer.pack(dir, content); err != nil {
			return made, fmt.Errorf("layer %d: %w", n, err)
		}
		made.Layers = append(made.Layers, layer)
		if limit > 0 && made.Size() > limit {
			return made, ErrLimit
		}
	}
	made.Config, err = config(made, new.Config)
	return made, err
}

func id(config []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(config)) }

// difference writes the delta of a layer to a file. dealt is the size of the layer's tar.
func difference(ctx context.Context, path string, index *librsync.Old, l delta.Layer, done func(int64)) (dealt int64, err error) {
	r, err := l.Open()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := &summed{r: r, sum: sha256.New()}
	if err := index.Write(ctx, f, sum, done); err != nil {
		return 0, err
	}
	return sum.n, sum.check(l.DiffID)
}

// summed is a tar that is checked as it is read.
type summed struct {
	r   io.Reader
	sum hash.Hash
	n   int64
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	_, _ = s.sum.Write(p[:n]) // a hash takes everything
	return n, err
}

func (s *summed) check(diffID string) error {
	if got := fmt.Sprintf("sha256:%x", s.sum.Sum(nil)); got != diffID {
		return fmt.Errorf("the layer is %s, and should be %s", got, diffID)
	}
	return nil
}

// join puts the tars of an image one behind the other.
func join(ctx context.Context, path string, image delta.Image) (_ *basis, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 256<<10)
	for n, l := range image.Layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := copyLayer(w, l); err != nil {
			return nil, fmt.Errorf("layer %d of the old image: %w", n, err)
		}
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	return mapped(f)
}

func copyLayer(w io.Writer, l delta.Layer) (err error) {
	r, err := l.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sum := &summed{r: r, sum: sha256.New()}
	if _, err := io.Copy(w, sum); err != nil {
		return err
	}
	return sum.check(l.DiffID)
}

// pack makes the compressed tar with that content; none is an empty tar.
func (l *Layer) pack(dir, content string) (err error) {
	f, err := os.Create(filepath.Join(dir, l.Name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum, inner := sha256.New(), sha256.New()
	count := &counted{w: io.MultiWriter(f, sum)}
	z, err := gzip.NewWriterLevel(count, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(io.MultiWriter(z, inner))
	if content != "" {
		if err := add(t, content); err != nil {
			return err
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return err
	}
	l.Size, l.Digest, l.DiffID = count.n, fmt.Sprintf("sha256:%x", sum.Sum(nil)), fmt.Sprintf("sha256:%x", inner.Sum(nil))
	return nil
}

func add(t *tar.Writer, content string) (err error) {
	f, err := os.Open(content)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(content)) }()
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o600, Size: stat.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// description is the configuration of a delta, as far as it has one of its own.
type description struct {
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
	OS           string `json:"os"`
	Config       struct {
		Labels map[string]string `json:"Labels,omitempty"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// config is the configuration of a delta; to is that of the new image.
func config(made Image, to []byte) ([]byte, error) {
	var d description
	if err := json.Unmarshal(to, &d); err != nil {
		return nil, fmt.Errorf("read the configuration of the new image: %w", err)
	}
	d.Config.Labels = map[string]string{LabelBase: made.From, LabelConfig: string(to)}
	d.RootFS.Type, d.RootFS.DiffIDs = "layers", []string{}
	for _, l := range made.Layers {
		d.RootFS.DiffIDs = append(d.RootFS.DiffIDs, l.DiffID)
	}
	return json.Marshal(d)
}

// Info is what the configuration of a delta says: which image it is applied to, and the configuration of the new one. ok
// is false for any other image.
func Info(config []byte) (from string, to []byte, ok bool) {
	var d description
	if err := json.Unmarshal(config, &d); err != nil {
		return "", nil, false
	}
	from, new := d.Config.Labels[LabelBase], d.Config.Labels[LabelConfig]
	return from, []byte(new), from != "" && new != ""
}

// Apply writes the tar of layer n of the new image to w, of the delta's layer (a tar, not compressed), as balenaEngine
// does. base has the tars of the old image one behind the other. to is the configuration of the new image; what comes out
// is checked against it, after it was written.
func Apply(ctx context.Context, w io.Writer, base io.ReaderAt, size int64, layer io.Reader, to []byte, n int) error {
	var d description
	if err := json.Unmarshal(to, &d); err != nil || n >= len(d.RootFS.DiffIDs) {
		return fmt.Errorf("%w: it has no layer %d", delta.ErrFormat, n)
	}
	t := tar.NewReader(layer)
	h, err := t.Next()
	if err != nil || h.Typeflag != tar.TypeReg || strings.TrimPrefix(h.Name, "./") != file {
		return fmt.Errorf("%w: layer %d holds no delta", delta.ErrFormat, n)
	}
	const most = 1 << 40 // what comes out is bounded by who takes it
	sum := sha256.New()
	if err := librsync.Apply(ctx, io.MultiWriter(w, sum), base, size, t, most); err != nil {
		return err
	}
	if got := fmt.Sprintf("sha256:%x", sum.Sum(nil)); got != d.RootFS.DiffIDs[n] {
		return delta.ErrResult
	}
	return nil
}

// Empty reports whether the tar of a delta's layer is that of a kept one.
func Empty(layer io.Reader) (bool, error) {
	var b [1024]byte
	n, err := io.ReadFull(layer, b[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	return bytes.Count(b[:n], []byte{0}) == n, nil
}
