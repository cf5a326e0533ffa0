package deltajob

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/dunlin/dunlin/internal/delta"
)

// Dunlin is the format of our own agent.
const Dunlin = "dunlin"

// ErrUseless means that a delta is not smaller than what it would replace.
var ErrUseless = errors.New("it is not smaller than the layers it would replace")

// Task is a delta to be made.
type Task struct {
	Format   string
	Old, New *Image
	Limit    int64  // bytes: what is larger is ErrUseless
	Dir      string // for the files of the delta, and for those that are needed meanwhile
	Disk     int64  // bytes that files may have meanwhile; 0 is no bound
	Memory   int64  // bytes that may be used, roughly; 0 is the maker's default
}

// Made is a delta and its manifest. It is the same for the same images and the same maker.
type Made struct {
	Manifest []byte
	Tag      string // of the manifest; "" is none
	Files    []File // that the manifest names
	Blob     string // digest of what a device fetches; "" if it pulls the manifest by its name
	Size     int64  // bytes that a device fetches
	From, To string // IDs of the images
}

// File is a file in a task's folder, or a few bytes.
type File struct {
	Digest string // sha256:…
	Name   string // in the folder; "" if it is Bytes
	Bytes  []byte
}

// Maker makes deltas of one format. It is run in a process of its own.
type Maker func(ctx context.Context, t Task) (Made, error)

// Makers are the makers by format.
func Makers() map[string]Maker {
	return map[string]Maker{Dunlin: MakeDunlin, Librsync: MakeLibrsync}
}

// MakeDunlin makes a delta of our own format: an OCI artifact of one blob, whose subject is the target.
func MakeDunlin(ctx context.Context, t Task) (_ Made, err error) {
	const name = "delta"
	f, err := os.OpenFile(filepath.Join(t.Dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return Made{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	work := filepath.Join(t.Dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		return Made{}, err
	}
	sum := sha256.New()
	b := bufio.NewWriterSize(io.MultiWriter(f, sum), 256<<10)
	to := &bounded{w: b, left: t.Limit}
	_, err = delta.Make(ctx, to, t.Old.plain(), t.New.plain(), delta.Options{Dir: work, Memory: t.Memory, Disk: t.Disk})
	if to.left < 0 {
		return Made{}, ErrUseless
	}
	if err = errors.Join(err, b.Flush()); err != nil {
		return Made{}, err
	}
	return artifact(t, File{Name: name, Digest: fmt.Sprintf("sha256:%x", sum.Sum(nil))}, t.Limit-to.left, delta.MediaType), nil
}

// bounded refuses to write more than is left.
type bounded struct {
	w    io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, ErrUseless
	}
	return b.w.Write(p)
}

// plain is an image with its layers' tars.
func (i *Image) plain() delta.Image {
	image := delta.Image{Config: i.Config}
	for _, l := range i.Layers {
		image.Layers = append(image.Layers, delta.Layer{DiffID: l.DiffID, Open: l.tar})
	}
	return image
}

// tar opens the tar of a layer, however it is compressed: engines go by the first bytes too.
func (l Layer) tar() (io.ReadCloser, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(l.File, 0, l.Size), 64<<10)
	magic, err := r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case len(magic) == 4 && string(magic[:2]) == "\x1f\x8b":
		return gzip.NewReader(r)
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}
