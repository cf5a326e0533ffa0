package archive

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/dunlin/dunlin/internal/fault"
)

const (
	// maxLayer is the most that a compressed layer or archive may become, in bytes. A disk full of zeroes is 20 KB.
	maxLayer = 64 << 30
	// maxWindow is the most memory that decompressing may take: what zstd --long takes without being told more.
	maxWindow = 128 << 20
)

// Image is an image that is read. Close gives back its files; nothing of it may be used after that. Its layers may be
// read at the same time.
type Image struct {
	ID     string   // sha256:… of Config
	Config []byte   // as it was saved
	Tags   []string // what the archive calls it; may be empty
	Layers []Layer  // lowest first

	closers []io.Closer
}

// Layer is one layer of an image.
type Layer struct {
	DiffID string // sha256:… of the tar, as the config says; nobody has checked it

	dir  string // for what must be decompressed to be read at random
	open func() (section, error)
}

// Close closes the files and removes the temporary ones.
func (i *Image) Close() error {
	var errs []error
	for _, c := range i.closers {
		errs = append(errs, c.Close())
	}
	i.closers = nil
	return errors.Join(errs...)
}

// Open opens the layer's tar, decompressed. It may be called more than once.
func (l Layer) Open() (io.ReadCloser, error) {
	s, err := l.open()
	if err != nil {
		return nil, fmt.Errorf("open layer %s: %w", l.DiffID, err)
	}
	r, err := decompressed(s.reader())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open layer %s: %w", l.DiffID, err), s.Close())
	}
	return stream{r, s}, nil
}

// Random is the layer's tar with access to any byte, and its size. A layer that is compressed goes through a temporary
// file, which the image's Close removes; two calls make two.
func (i *Image) Random(layer int) (io.ReaderAt, int64, error) {
	l := i.Layers[layer]
	s, err := l.open()
	if err != nil {
		return nil, 0, fmt.Errorf("open layer %s: %w", l.DiffID, err)
	}
	if !compressed(s.ReaderAt) {
		i.closers = append(i.closers, s)
		return s.ReaderAt, s.size, nil
	}
	f, err := spool(l.dir, func(w io.Writer) error {
		r, err := decompressed(s.reader())
		if err != nil {
			return err
		}
		return copyAtMost(w, r)
	})
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, 0, fmt.Errorf("decompress layer %s: %w", l.DiffID, err)
	}
	i.closers = append(i.closers, f)
	return f.ReaderAt, f.size, nil
}

// section is a file in an archive, or a file.
type section struct {
	io.ReaderAt
	size  int64
	close func() error // may be nil
}

func (s section) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

func (s section) reader() io.Reader { return io.NewSectionReader(s, 0, s.size) }

// document is all of a short file.
func (s section) document() ([]byte, error) {
	if s.size > maxDocument {
		return nil, fmt.Errorf("it has %d bytes; %d is the most", s.size, maxDocument)
	}
	b := make([]byte, s.size)
	if _, err := io.ReadFull(s.reader(), b); err != nil {
		return nil, err
	}
	return b, nil
}

// stream reads from one thing and closes another.
type stream struct {
	io.Reader
	io.Closer
}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

func compressed(r io.ReaderAt) bool {
	head := make([]byte, len(zstdMagic))
	n, _ := r.ReadAt(head, 0) // what cannot be read will not be read later either
	return bytes.HasPrefix(head[:n], gzipMagic) || bytes.HasPrefix(head[:n], zstdMagic)
}

// decompressed is r's content, whether r is compressed or not. What the bytes are tells more than what they are called:
// engines have called gzip's bytes a plain tar.
func decompressed(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(len(zstdMagic))
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, err
		}
		return z, nil
	case bytes.HasPrefix(head, zstdMagic):
		// With a concurrency of one nothing runs beside the reader that would have to be closed.
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z, nil
	}
	return b, nil
}

func copyAtMost(w io.Writer, r io.Reader) error {
	n, err := io.Copy(w, io.LimitReader(r, maxLayer+1))
	if err == nil && n > maxLayer {
		err = fault.Newf(fault.TooLarge, "the image is over %d GiB when it is decompressed", maxLayer>>30)
	}
	return err
}

// spool is a temporary file with what write writes. Its Close removes it.
func spool(dir string, write func(io.Writer) error) (section, error) {
	f, err := os.CreateTemp(dir, "dunlin-image-")
	if err != nil {
		return section{}, err
	}
	s := section{ReaderAt: f, close: func() error { return errors.Join(f.Close(), os.Remove(f.Name())) }}
	err = write(f)
	if err == nil {
		s.size, err = f.Seek(0, io.SeekCurrent)
	}
	if err != nil {
		return section{}, errors.Join(err, s.Close())
	}
	return s, nil
}
