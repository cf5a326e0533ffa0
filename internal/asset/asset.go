// Package asset owns the files that people keep with releases: each once, under the SHA-256 of its content, in a
// folder; whole or uploaded in parts. It does not own the rows that say which release has which file, nor who may read
// or write one.
package asset

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
)

// MaxSize is how large a file may be when Store.Max does not say, in bytes.
const MaxSize = 2 << 30

// young is how long a file that no row names is left alone: its row may be about to be written.
const young = 24 * time.Hour

// Store keeps files. Its methods may be called concurrently.
type Store struct {
	Dir string // it is made when the first file comes
	Max int64  // bytes a file may have; 0 is MaxSize
}

// File is a kept file.
type File struct {
	SHA256 string // of its content, 64 hex digits
	Size   int64  // bytes
}

// unfinished begins the names of files that are being written.
const unfinished = "new-"

var digest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Limit is how large a file may be, in bytes.
func (s *Store) Limit() int64 {
	if s.Max > 0 {
		return s.Max
	}
	return MaxSize
}

// Put keeps what r has. The file is there whole or not at all; one that is there already is left as it is. A file over
// the limit is fault.TooLarge.
func (s *Store) Put(ctx context.Context, r io.Reader) (f File, err error) {
	staged, err := s.Stage(ctx, r)
	if err != nil {
		return f, err
	}
	return staged.File, staged.Keep()
}

// Staged is a file that has arrived and is not kept yet: whether it may be is still to be found out.
type Staged struct {
	File
	store *Store
	path  string // "" once it is kept or dropped
}

// Stage takes what r has. Keep or Drop must follow.
func (s *Store) Stage(ctx context.Context, r io.Reader) (*Staged, error) {
	staged := &Staged{store: s}
	var err error
	staged.File, err = s.write(ctx, r, s.Limit(), func(f File) (string, error) {
		if f.Size > s.Limit() {
			return "", fault.Newf(fault.TooLarge, "a release asset has at most %d bytes", s.Limit())
		}
		staged.path = filepath.Join(s.Dir, unfinished+rand.Text())
		return staged.path, nil
	})
	if err != nil {
		return nil, fmt.Errorf("take asset: %w", err)
	}
	return staged, nil
}

// Keep puts the file where the files are.
func (g *Staged) Keep() error {
	path := g.store.path(g.SHA256)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep asset: %w", err)
	}
	if err := os.Rename(g.path, path); err != nil {
		return fmt.Errorf("keep asset: %w", err)
	}
	g.path = ""
	return syncDir(filepath.Dir(path))
}

// Drop removes the file, unless it is kept.
func (g *Staged) Drop() error {
	if g.path == "" {
		return nil
	}
	err := os.Remove(g.path)
	g.path = ""
	return err
}

// write puts what r has, up to one byte over the limit, where at says that a file of that content belongs: whole or not
// at all, and over one that is there, so that the file is young again.
func (s *Store) write(ctx context.Context, r io.Reader, limit int64, at func(File) (path string, err error)) (f File, err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return f, err
	}
	temp, err := os.CreateTemp(s.Dir, unfinished+"*")
	if err != nil {
		return f, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, temp.Close(), os.Remove(temp.Name()))
		}
	}()
	sum := sha256.New()
	if f.Size, err = io.Copy(io.MultiWriter(temp, sum), io.LimitReader(&stopping{ctx, r}, limit+1)); err != nil {
		return f, err
	}
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	path, err := at(f)
	if err != nil {
		return f, err
	}
	if err := temp.Sync(); err != nil {
		return f, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return f, err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return f, err
	}
	return f, errors.Join(temp.Close(), syncDir(filepath.Dir(path)))
}

// syncDir makes a new name in a folder last.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Open opens a kept file for reading; the caller closes it. One that is not kept is fault.NotFound.
func (s *Store) Open(sha string) (*os.File, error) {
	if !digest.MatchString(sha) {
		return nil, fault.New(fault.NotFound, "there is no such asset")
	}
	f, err := os.Open(s.path(sha))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "there is no such asset")
	}
	if err != nil {
		return nil, fmt.Errorf("open asset: %w", err)
	}
	return f, nil
}

func (s *Store) path(sha string) string { return filepath.Join(s.Dir, "files", sha[:2], sha) }

// Collect removes files that keep does not name, and uploads that nobody has gone on with, once they are a day old. It
// returns how many bytes that freed.
func (s *Store) Collect(ctx context.Context, keep func(sha string) bool, now time.Time) (freed int64, err error) {
	for _, pattern := range []string{"files/*/*", unfinished + "*"} {
		found, err := filepath.Glob(filepath.Join(s.Dir, pattern))
		if err != nil {
			return freed, fmt.Errorf("collect assets: %w", err)
		}
		for _, path := range found {
			if err := ctx.Err(); err != nil {
				return freed, err
			}
			if name := filepath.Base(path); digest.MatchString(name) && keep(name) {
				continue
			}
			info, err := os.Lstat(path)
			if err == nil && now.Sub(info.ModTime()) > young {
				if err = os.Remove(path); err == nil {
					freed += info.Size()
				}
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return freed, fmt.Errorf("collect assets: %w", err)
			}
		}
	}
	return freed, s.abandon(func(u Upload) bool { return now.Unix() > u.Expiry })
}

// stopping reads until ctx ends.
type stopping struct {
	ctx context.Context // of the one copy
	r   io.Reader
}

func (s *stopping) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(b)
}
