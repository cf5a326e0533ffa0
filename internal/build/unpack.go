package build

import (
	"archive/tar"
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
)

// Limits bound what Unpack writes. A zero field has the default beside it.
type Limits struct {
	Files int   // entries of any kind and folders: 200,000
	Bytes int64 // of all files together: 4 GiB
}

// The longest path of an entry and name in it, in bytes, which Linux bounds; and in names, which keeps walks cheap.
const (
	maxPath  = 4000
	maxName  = 255
	maxDepth = 128
)

// Unpack writes the tar archive r into the empty folder dir. Only files, folders and symbolic links are taken. Links are
// kept as they are for the image they go into and are never followed here: an entry below a link, outside dir, or of
// another kind is fault.Invalid, and more than the limits allow is fault.TooLarge (one deep path may pass Files a little). After an error dir holds what came
// before it. Files keep their modification time (a commit's, in an archive of git) and their permissions, without the
// set-user-id and sticky bits.
func Unpack(r io.Reader, dir string, limits Limits) error {
	if limits.Files <= 0 {
		limits.Files = 200_000
	}
	if limits.Bytes <= 0 {
		limits.Bytes = 4 << 30
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the folder for the source: %w", err)
	}
	defer root.Close()
	u := unpacker{root: root, kinds: map[string]byte{".": tar.TypeDir}, left: limits.Bytes}
	archive := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, tar.ErrInsecurePath):
			return fault.Newf(fault.Invalid, "the source archive has an entry %q that leaves it", shorten(h.Name, 200))
		case errors.Is(err, tar.ErrHeader):
			return fault.Wrap(fault.Invalid, err, "the source is not a tar archive")
		case err != nil:
			return fault.Wrap(fault.Invalid, err, "the source archive is cut short or damaged")
		case n >= limits.Files || len(u.kinds) > limits.Files:
			// Folders that an entry only implies count too.
			return fault.Newf(fault.TooLarge, "the source has more than %d files", limits.Files).
				WithHint("leave generated files and dependencies out of the repository")
		}
		if err := u.entry(h, archive); err != nil {
			return err
		}
	}
}

type unpacker struct {
	root  *os.Root
	kinds map[string]byte // of what has been written, by cleaned path
	left  int64           // bytes
}

func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // git puts the commit there
	}
	shown := shorten(h.Name, 200)
	if strings.ContainsAny(h.Name, "\x00\\") || strings.HasPrefix(h.Name, "/") || len(h.Name) > maxPath {
		return fault.Newf(fault.Invalid, "the source archive has an entry with the unusable name %q", shown)
	}
	name := path.Clean(h.Name)
	if name == "." && h.Typeflag == tar.TypeDir {
		return nil
	}
	if name == "." || !filepath.IsLocal(name) || strings.Count(name, "/") >= maxDepth {
		return fault.Newf(fault.Invalid, "the source archive has an entry %q that leaves it or lies too deep", shown)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxName {
			return fault.Newf(fault.Invalid, "the source archive has an entry %q with a name that is too long", shown)
		}
	}
	if err := u.parents(path.Dir(name), shown); err != nil {
		return err
	}
	have, there := u.kinds[name]
	if there && (have == tar.TypeDir) != (h.Typeflag == tar.TypeDir) {
		return fault.Newf(fault.Invalid, "the source archive has %q both as a folder and as something else", shown)
	}
	if there && have != tar.TypeDir {
		// The later entry counts, as tar does it.
		if err := u.root.Remove(name); err != nil {
			return fmt.Errorf("unpack the source: %w", err)
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if !there {
			return u.mkdir(name)
		}
		return nil
	case tar.TypeReg:
		u.kinds[name] = tar.TypeReg
		return u.file(name, h, body)
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxPath || strings.ContainsRune(h.Linkname, 0) {
			return fault.Newf(fault.Invalid, "the source archive has a symbolic link %q with an unusable target", shown)
		}
		u.kinds[name] = tar.TypeSymlink
		if err := u.root.Symlink(h.Linkname, name); err != nil {
			return fmt.Errorf("unpack the source: %w", err)
		}
		return nil
	case tar.TypeLink:
		return fault.Newf(fault.Invalid, "the source archive has a hard link %q", shown).
			WithHint("archives may hold files, folders and symbolic links")
	default:
		return fault.Newf(fault.Invalid, "the source archive has %q, which is neither a file nor a folder nor a symbolic link", shown)
	}
}

// parents makes the folders of an entry that the archive did not name itself.
func (u *unpacker) parents(dir, shown string) error {
	switch kind, there := u.kinds[dir]; {
	case there && kind == tar.TypeDir:
		return nil
	case there:
		return fault.Newf(fault.Invalid, "the source archive has an entry %q below a file or a symbolic link", shown)
	}
	if err := u.parents(path.Dir(dir), shown); err != nil {
		return err
	}
	return u.mkdir(dir)
}

func (u *unpacker) mkdir(name string) error {
	u.kinds[name] = tar.TypeDir
	if err := u.root.Mkdir(name, 0o755); err != nil {
		return fmt.Errorf("unpack the source: %w", err)
	}
	// The server's umask is not to show in images.
	if err := u.root.Chmod(name, 0o755); err != nil {
		return fmt.Errorf("unpack the source: %w", err)
	}
	return nil
}

func (u *unpacker) file(name string, h *tar.Header, body io.Reader) (err error) {
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("unpack the source: %w", err)
	}
	defer func() {
		if cerr := f.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("unpack the source: %w", cerr)
		}
		if err == nil {
			if err = u.root.Chtimes(name, modified(h), modified(h)); err != nil {
				err = fmt.Errorf("unpack the source: %w", err)
			}
		}
	}()
	n, err := io.Copy(f, io.LimitReader(body, u.left+1))
	u.left -= n
	if u.left < 0 {
		return fault.New(fault.TooLarge, "the source is larger than the server takes").
			WithHint("leave generated files and dependencies out of the repository")
	}
	if onDisk := new(fs.PathError); errors.As(err, &onDisk) {
		return fmt.Errorf("unpack the source: %w", err)
	}
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "the source archive is cut short or damaged")
	}
	if err := f.Chmod(os.FileMode(h.Mode)&0o777 | 0o600); err != nil {
		return fmt.Errorf("unpack the source: %w", err)
	}
	return nil
}

// modified is an entry's time, or 1970 if no file system would take it.
func modified(h *tar.Header) time.Time {
	if y := h.ModTime.Year(); y < 1970 || y > 2200 {
		return time.Unix(0, 0)
	}
	return h.ModTime
}
