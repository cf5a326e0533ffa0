package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dunlin/dunlin/internal/fault"
)

// maxText bounds a Dockerfile, go.mod, contract or other text that is read as a whole, in bytes.
const maxText = 1 << 20

// tree reads the files of a push. Symbolic links are followed as long as they stay inside; nothing outside is ever read.
type tree struct {
	dir  string // absolute, without symbolic links
	root *os.Root
}

func openTree(dir string) (*tree, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return nil, fmt.Errorf("open the source: %w", err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("open the source: %w", err)
	}
	return &tree{dir: abs, root: root}, nil
}

func (t *tree) close() { _ = t.root.Close() }

// read returns a file's text; ok is false if there is none. One that is too large, or reached through a link that leaves
// the tree, is an error.
func (t *tree) read(name string) (text []byte, ok bool, err error) {
	return t.readUpTo(name, maxText)
}

func (t *tree) readUpTo(name string, limit int64) (text []byte, ok bool, err error) {
	// Stat before opening: opening a device or a pipe could block or act. Unpack makes none, but a tree need not come from it.
	info, err := t.root.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return nil, false, nil
	case err != nil:
		return nil, false, fault.Wrap(fault.Invalid, err, name+" cannot be read; a symbolic link may lead out of the project")
	case info.IsDir():
		return nil, false, nil
	case !info.Mode().IsRegular():
		return nil, false, fault.Newf(fault.Invalid, "%s is not a file", name)
	case info.Size() > limit:
		return nil, false, fault.Newf(fault.TooLarge, "%s is larger than %d KiB", name, limit>>10)
	}
	f, err := t.root.Open(name)
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	text, err = io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", name, err)
	}
	return text, true, nil
}

// folder reports whether name is a folder of the tree.
func (t *tree) folder(name string) bool {
	info, err := t.root.Stat(name)
	return err == nil && info.IsDir()
}

// has reports whether name is a file of the tree, without reading it.
func (t *tree) has(name string) bool {
	info, err := t.root.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// join adds a path of the project's author to a folder of the tree. ok is false if it leads out of the tree.
func join(folder, name string) (joined string, ok bool) {
	if path.IsAbs(name) || strings.ContainsAny(name, "\x00\\") {
		return "", false
	}
	joined = path.Join(folder, name)
	return joined, filepath.IsLocal(joined)
}

// on is where a folder of the tree lies on the server, symbolic links resolved; they were found to stay inside.
func (t *tree) on(folder string) (string, error) {
	p, err := filepath.EvalSymlinks(filepath.Join(t.dir, filepath.FromSlash(folder)))
	if err != nil {
		return "", fmt.Errorf("open %s: %w", folder, err)
	}
	if p != t.dir && !strings.HasPrefix(p, t.dir+string(filepath.Separator)) {
		return "", fault.Newf(fault.Invalid, "%s leads out of the project", folder)
	}
	return p, nil
}
