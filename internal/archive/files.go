package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

const (
	maxEntries = 100_000 // files of an archive; engines write a few per layer
	maxLinks   = 8       // links to links
)

// files is where an archive's files are.
type files interface {
	// open opens a regular file by its slash path; fs.ErrNotExist says that there is none.
	open(name string) (section, error)
	io.Closer
}

// folderFiles is an image layout in a folder. No link leads out of it.
type folderFiles struct{ root *os.Root }

func (f folderFiles) Close() error { return f.root.Close() }

func (f folderFiles) open(name string) (section, error) {
	file, err := f.root.Open(filepath.FromSlash(name))
	if err != nil {
		return section{}, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", name)
	}
	if err != nil {
		return section{}, errors.Join(err, file.Close())
	}
	return section{ReaderAt: file, size: info.Size(), close: file.Close}, nil
}

// tarFiles is an archive in a tar that is not compressed.
type tarFiles struct {
	whole section
	at    map[string]span   // regular files
	links map[string]string // symbolic and hard links to files of the archive
}

type span struct{ start, size int64 }

func (t *tarFiles) Close() error { return t.whole.Close() }

func (t *tarFiles) open(name string) (section, error) {
	for range maxLinks {
		if at, ok := t.at[name]; ok {
			return section{ReaderAt: io.NewSectionReader(t.whole, at.start, at.size), size: at.size}, nil
		}
		to, ok := t.links[name]
		if !ok {
			break
		}
		name = to
	}
	return section{}, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// readTar finds out where in a tar its files are. It reads headers only. Of files of one name the last counts, as it does
// for who unpacks.
func readTar(whole section) (*tarFiles, error) {
	t := &tarFiles{whole: whole, at: map[string]span{}, links: map[string]string{}}
	r := io.NewSectionReader(whole, 0, whole.size)
	headers := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := headers.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		if n == maxEntries {
			return nil, fmt.Errorf("it has over %d files", maxEntries)
		}
		name := path.Clean(h.Name)
		delete(t.at, name)
		delete(t.links, name)
		switch h.Typeflag {
		case tar.TypeReg:
			// The tar package reads block by block, so the content begins where the reader is now.
			start, err := r.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			if !sparse(h) {
				t.at[name] = span{start, h.Size}
			}
		case tar.TypeSymlink:
			t.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			t.links[name] = path.Clean(h.Linkname)
		}
	}
}

func sparse(h *tar.Header) bool {
	for _, key := range []string{"GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.numblocks"} {
		if _, ok := h.PAXRecords[key]; ok {
			return true
		}
	}
	return false
}
