package asset

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
)

// Bounds of an upload in parts.
const (
	minChunk = 64 << 10
	maxChunk = 256 << 20
	maxParts = 10_000
)

// Upload is a file that comes in parts. Whoever knows its ID may send parts, so it is not to be guessed.
type Upload struct {
	ID     string `json:"-"` // 32 hex digits
	For    int64  `json:"for"`
	Name   string `json:"name"`
	Type   string `json:"type"`
	Size   int64  `json:"size"`   // bytes of the whole
	Chunk  int64  `json:"chunk"`  // bytes of every part but the last
	Expiry int64  `json:"expiry"` // seconds since 1970
}

// Part is one part that was sent, as whoever sent it names it.
type Part struct {
	Number int    // from 1
	Tag    string // what PutPart said of it
}

// Parts is how many parts an upload has.
func (u Upload) Parts() int { return int((u.Size + u.Chunk - 1) / u.Chunk) }

// PartSize is how many bytes a part has, from 1.
func (u Upload) PartSize(n int) int64 {
	if n == u.Parts() {
		return u.Size - int64(n-1)*u.Chunk
	}
	return u.Chunk
}

// description is the file that says what an upload is; its parts are beside it.
const description = "upload.json"

var uploadID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Begin makes room for an upload for the row u.For; one that was begun for that row before is given up.
func (s *Store) Begin(u Upload, now time.Time) (Upload, error) {
	if u.Size <= 0 {
		return u, fault.New(fault.Invalid, "size must be the number of bytes of the file, and more than none")
	}
	if u.Size > s.Limit() {
		return u, fault.Newf(fault.TooLarge, "a release asset has at most %d bytes", s.Limit())
	}
	if u.Chunk < minChunk || u.Chunk > maxChunk {
		return u, fault.Newf(fault.Invalid, "chunk_size must be %d to %d bytes", minChunk, maxChunk)
	}
	if u.Parts() > maxParts {
		return u, fault.Newf(fault.Invalid, "a file comes in at most %d parts", maxParts).WithHint("choose a larger chunk_size")
	}
	if err := s.abandon(func(other Upload) bool { return other.For == u.For }); err != nil {
		return u, err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // it never fails
	u.ID, u.Expiry = hex.EncodeToString(random[:]), now.Add(young).Unix()
	about, err := json.Marshal(u)
	if err != nil {
		return u, fmt.Errorf("begin upload: %w", err)
	}
	path := func(File) (string, error) { return filepath.Join(s.upload(u.ID), description), nil }
	if _, err := s.write(context.Background(), bytes.NewReader(about), int64(len(about)), path); err != nil {
		return u, fmt.Errorf("begin upload: %w", err)
	}
	return u, nil
}

// Upload finds an upload that was begun and neither committed nor given up; otherwise it is fault.NotFound.
func (s *Store) Upload(id string, now time.Time) (u Upload, err error) {
	missing := fault.New(fault.NotFound, "there is no such upload")
	if !uploadID.MatchString(id) {
		return u, missing
	}
	about, err := os.ReadFile(filepath.Join(s.upload(id), description))
	if errors.Is(err, fs.ErrNotExist) {
		return u, missing
	}
	if err != nil {
		return u, fmt.Errorf("read upload: %w", err)
	}
	if err := json.Unmarshal(about, &u); err != nil {
		return u, fmt.Errorf("read upload: %w", err)
	}
	if u.ID = id; now.Unix() > u.Expiry {
		return u, missing
	}
	return u, nil
}

// PutPart keeps a part of an upload, in any order and, if it is sent again, the newer one. The tag names its content.
func (s *Store) PutPart(ctx context.Context, id string, n int, r io.Reader, now time.Time) (tag string, err error) {
	u, err := s.Upload(id, now)
	if err != nil {
		return "", err
	}
	if n < 1 || n > u.Parts() {
		return "", fault.Newf(fault.NotFound, "the upload has %d parts", u.Parts())
	}
	f, err := s.write(ctx, r, u.PartSize(n), func(f File) (string, error) {
		if f.Size != u.PartSize(n) {
			return "", fault.Newf(fault.Invalid, "part %d of the upload has %d bytes", n, u.PartSize(n))
		}
		if _, err := s.Upload(id, now); err != nil {
			return "", err // it was given up meanwhile, and its folder is not to be made again
		}
		return s.part(id, n), nil
	})
	if err != nil {
		return "", fmt.Errorf("keep part: %w", err)
	}
	return f.SHA256, nil
}

// Commit makes a file of an upload whose parts have all come, and ends the upload.
func (s *Store) Commit(ctx context.Context, id string, parts []Part, now time.Time) (f File, err error) {
	u, err := s.Upload(id, now)
	if err != nil {
		return f, err
	}
	if len(parts) != u.Parts() {
		return f, fault.Newf(fault.Invalid, "the upload has %d parts, and %d are named", u.Parts(), len(parts))
	}
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b Part) int { return a.Number - b.Number })
	whole := &joined{store: s, id: id, parts: parts}
	f, err = s.Put(ctx, whole)
	if err = errors.Join(err, whole.close()); err != nil {
		return f, err
	}
	return f, s.Cancel(id)
}

// Cancel gives an upload up. One that is not there is no error.
func (s *Store) Cancel(id string) error {
	if !uploadID.MatchString(id) {
		return nil
	}
	if err := os.RemoveAll(s.upload(id)); err != nil {
		return fmt.Errorf("give up upload: %w", err)
	}
	return nil
}

func (s *Store) upload(id string) string { return filepath.Join(s.Dir, "uploads", id) }

func (s *Store) part(id string, n int) string { return filepath.Join(s.upload(id), strconv.Itoa(n)) }

// abandon gives up the uploads that which chooses. One without its description is what is left of one that was given up,
// and which sees the zero Upload.
func (s *Store) abandon(which func(Upload) bool) error {
	entries, err := os.ReadDir(filepath.Join(s.Dir, "uploads"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look through uploads: %w", err)
	}
	for _, e := range entries {
		var u Upload
		about, err := os.ReadFile(filepath.Join(s.upload(e.Name()), description))
		if err == nil {
			err = json.Unmarshal(about, &u)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look through uploads: %w", err)
		}
		if which(u) {
			if err := s.Cancel(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// joined reads parts one after the other, and checks that each is the one that was meant.
type joined struct {
	store *Store
	id    string
	parts []Part
	next  int // index into parts
	file  *os.File
	sum   interface {
		io.Writer
		Sum([]byte) []byte
	}
}

func (j *joined) Read(b []byte) (int, error) {
	for {
		if j.file == nil {
			if j.next == len(j.parts) {
				return 0, io.EOF
			}
			if err := j.open(); err != nil {
				return 0, err
			}
		}
		n, err := j.file.Read(b)
		j.sum.Write(b[:n]) // a hash takes everything
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		if tag := hex.EncodeToString(j.sum.Sum(nil)); tag != j.parts[j.next].Tag {
			return n, fault.Newf(fault.Invalid, "part %d is not the one that was sent", j.parts[j.next].Number)
		}
		if err := j.close(); err != nil {
			return n, err
		}
		if j.next++; n > 0 {
			return n, nil
		}
	}
}

func (j *joined) open() (err error) {
	n := j.parts[j.next].Number
	missing := fault.Newf(fault.Invalid, "part %d has not come", j.next+1)
	if n != j.next+1 {
		return missing
	}
	j.file, err = os.Open(j.store.part(j.id, n))
	if errors.Is(err, fs.ErrNotExist) {
		return missing
	}
	if err != nil {
		return fmt.Errorf("read part: %w", err)
	}
	j.sum = sha256.New()
	return nil
}

func (j *joined) close() error {
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}
