package delivery

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/engine"
)

// Task is a delta to be applied.
type Task struct {
	Delta    string   `json:"delta"` // the file
	From, To string   // the images that it was offered for, sha256:…
	Folders  []string `json:"folders,omitempty"` // of the old image's layers, as the engine has unpacked them
	Image    string   `json:"image,omitempty"`   // an archive of the old image, where there are no Folders
	DiffIDs  []string `json:"diffIds,omitempty"` // of the old image's layers; nil where the engine does not know them
}

// Applier makes the new image of a task and writes it to w: a line that says how large it is, then an archive of it under
// the name engine.Loaded, without the layers that the old image has. If it fails, what it has written lacks its end.
type Applier func(ctx context.Context, t Task, w io.Writer) error

// head is the line before an archive.
type head struct {
	Bytes int64 `json:"bytes"` // of the layers in the archive
}

// mostHead bounds the line, in bytes.
const mostHead = 1 << 10

// readHead reads the line before an archive.
func readHead(r *bufio.Reader) (bytes int64, err error) {
	line, err := r.ReadSlice('\n')
	var h head
	if err == nil && len(line) <= mostHead {
		err = json.Unmarshal(line, &h)
	}
	if err == nil && h.Bytes < 0 {
		err = errors.New("it has less than no bytes")
	}
	if err != nil {
		return 0, fmt.Errorf("read what will be made: %w", err)
	}
	return h.Bytes, nil
}

// Apply is an Applier that works in this process.
func Apply(ctx context.Context, t Task, w io.Writer) error {
	f, err := os.Open(t.Delta)
	if err != nil {
		return err
	}
	defer f.Close()
	x, err := delta.Open(bufio.NewReaderSize(f, 64<<10))
	if err != nil {
		return err
	}
	info := x.Info()
	switch id := fmt.Sprintf("sha256:%x", sha256.Sum256(info.Config)); {
	case info.From != t.From || info.To != t.To:
		return fmt.Errorf("%w: it is for other images than it was offered for", delta.ErrFormat)
	case id != info.To:
		return fmt.Errorf("%w: its image is %s and not %s", delta.ErrFormat, id, info.To)
	case t.DiffIDs != nil && !slices.Equal(t.DiffIDs, info.FromDiff):
		return fmt.Errorf("%w: its layers are others", delta.ErrBase)
	}
	basis, done, err := t.basis()
	if err != nil {
		return err
	}
	defer done()
	var all int64
	var contents []archive.Content
	for i, l := range info.Layers {
		c := archive.Content{DiffID: l.DiffID, Size: l.Size}
		if !l.Kept {
			all += l.Size
			c.Write = func(w io.Writer) error { return x.Layer(ctx, i, basis, w) }
		}
		contents = append(contents, c)
	}
	return t.write(w, info, all, contents)
}

func (t Task) write(w io.Writer, info delta.Info, all int64, contents []archive.Content) error {
	buffer := bufio.NewWriterSize(w, 64<<10)
	if err := json.NewEncoder(buffer).Encode(head{all}); err != nil {
		return err
	}
	// Whoever reads learns how large it will be before it is begun.
	if err := buffer.Flush(); err != nil {
		return err
	}
	if err := archive.Write(buffer, info.Config, []string{engine.Loaded}, contents); err != nil {
		return err // what is in the buffer is not written: the end is missing
	}
	return buffer.Flush()
}

// basis is the old image.
func (t Task) basis() (_ delta.Basis, done func(), err error) {
	if t.Folders != nil {
		return delta.FolderBasis(t.From, t.Folders), func() {}, nil
	}
	image, err := archive.Open(t.Image, archive.Options{Dir: filepath.Dir(t.Image)})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: read the export of the old image: %w", delta.ErrBase, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, image.Close())
		}
	}()
	tars, sizes := make([]io.ReaderAt, len(image.Layers)), make([]int64, len(image.Layers))
	for i := range image.Layers {
		if tars[i], sizes[i], err = image.Random(i); err != nil {
			return nil, nil, err
		}
	}
	basis, err := delta.TarBasis(image.ID, tars, sizes)
	return basis, func() { _ = image.Close() }, err // its files were only read, and go with their folder
}
