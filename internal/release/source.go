package release

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// Bounds of a source that is received. What an archive holds is bounded again when it is unpacked.
const (
	maxArriving = 16      // at a time
	maxSource   = 4 << 30 // bytes of all files, when Limits does not say
)

// arrivingFiles begin the names of files in Sources that belong to no release yet.
const arrivingFiles = "arriving-*"

// Source is an archive that has arrived whole and waits on disk for its release.
type Source struct {
	Took time.Duration // to arrive
	path string        // "" when a release has it
}

// Discard removes a source that no release has taken.
func (s *Source) Discard() error {
	if s.path == "" {
		return nil
	}
	return os.Remove(s.path)
}

// keep makes the source the one of a release.
func (s *Source) keep(name string) error {
	if err := os.Rename(s.path, name); err != nil {
		return fmt.Errorf("keep source: %w", err)
	}
	s.path = ""
	return nil
}

// Receive reads a tar archive, plain or gzipped, to its end and keeps it. With flatten the one folder at the top of
// the archive, as downloads of repositories have it, is taken away. What is no archive, ends before its end or becomes too
// large is an error and leaves nothing behind. What the archive holds is looked at when it is unpacked.
func (pl *Pipeline) Receive(r io.Reader, flatten bool) (_ *Source, err error) {
	leave, err := pl.arrive()
	if err != nil {
		return nil, err
	}
	defer leave()
	began := time.Now()
	if err := os.MkdirAll(pl.Sources, 0o700); err != nil {
		return nil, fmt.Errorf("receive source: %w", err)
	}
	f, err := os.CreateTemp(pl.Sources, arrivingFiles)
	if err != nil {
		return nil, fmt.Errorf("receive source: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	limit := pl.Limits.Bytes
	if limit <= 0 {
		limit = maxSource
	}
	archive, err := opened(r)
	if err == nil {
		to := &limited{w: f, left: limit + limit/8 + 1<<20} // files, and their headers
		if flatten {
			err = flattened(to, archive)
		} else {
			_, err = io.Copy(to, archive)
		}
	}
	if err == nil {
		err = looksWhole(f)
	}
	if err != nil {
		return nil, errors.Join(damaged(err), f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("receive source: %w", err)
	}
	return &Source{Took: time.Since(began), path: f.Name()}, nil
}

// arrive counts a source in that is being received.
func (pl *Pipeline) arrive() (leave func(), err error) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.stopped {
		return nil, beingRestarted()
	}
	if pl.arriving >= maxArriving {
		return nil, fault.Newf(fault.Limited, "%d sources are being sent to the server", maxArriving).WithHint("push again in a minute")
	}
	pl.arriving++
	return func() {
		pl.mu.Lock()
		defer pl.mu.Unlock()
		pl.arriving--
	}, nil
}

// opened is the tar in an archive, whatever the sender said of it.
func opened(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	begins, err := b.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Equal(begins, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	return gzip.NewReader(b)
}

// looksWhole checks that what was received is a tar archive and holds something. It is what tells a web page or a
// picture from source before there is a release.
func looksWhole(f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := tar.NewReader(f).Next()
	switch {
	case errors.Is(err, io.EOF):
		return fault.New(fault.Invalid, "the source archive is empty")
	case errors.Is(err, tar.ErrInsecurePath):
		return nil // unpacking says which entry
	case err != nil:
		return fault.Wrap(fault.Invalid, err, "the source is no tar archive, gzipped or not (incorrect header check)")
	}
	return nil
}

// damaged tells what is wrong with the archive from what is wrong with the disk.
func damaged(err error) error {
	var disk *fs.PathError
	if errors.As(err, &disk) {
		return fmt.Errorf("receive source: %w", err)
	}
	if fault.KindOf(err) != fault.Internal {
		return err
	}
	return fault.Wrap(fault.Invalid, err, "the source archive is cut short or damaged")
}

// limited refuses to write more than is left.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) Write(b []byte) (int, error) {
	if l.left -= int64(len(b)); l.left < 0 {
		return 0, fault.New(fault.TooLarge, "the source is larger than the server takes").
			WithHint("leave generated files and dependencies out of it")
	}
	return l.w.Write(b)
}

// flattened copies an archive without the one folder that everything in it is in.
func flattened(to io.Writer, archive io.Reader) error {
	in, out := tar.NewReader(archive), tar.NewWriter(to)
	top := ""
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if errors.Is(err, tar.ErrHeader) {
			return fault.Wrap(fault.Invalid, err, "the source is no tar archive, gzipped or not (incorrect header check)")
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		folder, name, below := strings.Cut(path.Clean(h.Name), "/")
		if top == "" {
			top = folder
		}
		if folder != top || !below && h.Typeflag != tar.TypeDir || folder == ".." || folder == "" {
			return fault.New(fault.Invalid, "the archive does not have everything in one folder at its top").
				WithHint("to take it as it is, give shouldFlatten: false")
		}
		if !below {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeDir, tar.TypeSymlink:
		default:
			return fault.Newf(fault.Invalid, "the source archive has %q, which is neither a file nor a folder nor a symbolic link", short200(h.Name))
		}
		plain := &tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, ModTime: h.ModTime.Truncate(time.Second)}
		if err := out.WriteHeader(plain); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}

func short200(name string) string { return name[:min(200, len(name))] }

// source is where the archive of a release under way is kept.
func (pl *Pipeline) source(release int64) string {
	return filepath.Join(pl.Sources, fmt.Sprintf("%d.tar", release))
}

// keepSource writes the archive of a commit to disk, whole or not at all, so that the build no longer needs the pusher.
func (pl *Pipeline) keepSource(ctx context.Context, release int64, archive func(context.Context, io.Writer) error) (err error) {
	if err := os.MkdirAll(pl.Sources, 0o700); err != nil {
		return fmt.Errorf("keep source: %w", err)
	}
	f, err := os.CreateTemp(pl.Sources, arrivingFiles)
	if err != nil {
		return fmt.Errorf("keep source: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := archive(ctx, f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("keep source: %w", err)
	}
	return os.Rename(f.Name(), pl.source(release))
}

// sweep removes what a killed server left of releases that have ended.
func (pl *Pipeline) sweep(left []fleet.Release) error {
	keep := map[string]bool{}
	for _, r := range left {
		keep[pl.source(r.ID)] = true
	}
	files, err := filepath.Glob(filepath.Join(pl.Sources, "*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if !keep[f] {
			err = errors.Join(err, os.Remove(f))
		}
	}
	return errors.Join(err, os.RemoveAll(pl.Work))
}
