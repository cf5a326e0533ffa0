package tarfile

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"io"
	"path"
	"slices"
	"strings"
)

// Name is the name of something in a layer.
type Name struct {
	Path string // slash-separated, relative, clean
	Type byte   // tar.TypeReg, tar.TypeDir or tar.TypeSymlink
	Link string // where a symbolic link leads, as it says
}

// Whiteout begins the names by which a layer says that a file below is gone.
const Whiteout = ".wh."

// Order compares paths in the Order in which a tree is walked: a folder, then all that is in it, then what follows.
func Order(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			switch {
			case a[i] == '/':
				return -1
			case b[i] == '/':
				return 1
			}
			return cmp.Compare(a[i], b[i])
		}
	}
	return cmp.Compare(len(a), len(b))
}

// ByPath is Order, for searching.
func ByPath(n Name, p string) int { return Order(n.Path, p) }

// Cost is what a listing counts: its texts, and 64 bytes for each name.
func Cost(names []Name) (n int64) {
	for _, e := range names {
		n += int64(64 + len(e.Path) + len(e.Link))
	}
	return n
}

// Digest tells listings apart.
func Digest(names []Name) (d [8]byte) {
	h := sha256.New()
	for _, n := range names {
		io.WriteString(h, string(n.Type)+n.Path+"\x00"+n.Link+"\x00")
	}
	copy(d[:], h.Sum(nil))
	return d
}

// Place is where a regular file's contents are in its layer's tar.
type Place struct{ At, Size int64 }

// Tar is a layer as its tar.
type Tar struct {
	io.ReaderAt
	Names  []Name
	Places []Place // for each of Names
	// Odd means that nobody can say for sure what it looks like unpacked. There are no names then.
	Odd bool
}

// List reads a tar and lists what it is unpacked to.
func List(r io.ReaderAt, size int64) (*Tar, error) {
	l := &Tar{ReaderAt: r}
	type thing struct {
		Name
		place Place
	}
	var (
		things = map[string]thing{}
		gone   []string
		at     int64
	)
	add := func(t thing) {
		old, ok := things[t.Path]
		if ok && (old.Type != tar.TypeDir || t.Type != tar.TypeDir) {
			l.Odd = true
		}
		things[t.Path] = t
	}
	for !l.Odd {
		e, err := Read(r, at, size)
		if err != nil {
			return nil, err
		}
		if e == nil {
			break
		}
		at = e.End()
		if e.Kind() == tar.TypeXGlobalHeader {
			continue
		}
		p, ok := Clean(e.Name)
		if !ok || e.Odd {
			l.Odd = true
			break
		}
		if base := path.Base(p); strings.HasPrefix(base, Whiteout) {
			gone = append(gone, path.Join(path.Dir(p), base[len(Whiteout):]))
			continue
		}
		if p == "" {
			l.Odd = l.Odd || e.Kind() != tar.TypeDir
			continue
		}
		t := thing{Name: Name{Path: p}}
		switch e.Kind() {
		case tar.TypeReg:
			t.Type, t.place = tar.TypeReg, Place{At: e.Data, Size: e.Size}
		case tar.TypeLink:
			target, ok := Clean(e.Link)
			to := things[target]
			if !ok || to.Type != tar.TypeReg {
				l.Odd = true
				break
			}
			t.Type, t.place = tar.TypeReg, to.place
		case tar.TypeSymlink:
			t.Type, t.Link = tar.TypeSymlink, e.Link
			l.Odd = l.Odd || e.Link == ""
		case tar.TypeDir:
			t.Type = tar.TypeDir
		default:
			t.Type = 0 // nothing that is listed, but its name is taken
		}
		add(t)
	}
	if !l.Odd {
		l.Odd = !ended(r, at, size)
	}
	if l.Odd {
		return l, nil
	}
	for p := range things {
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			t, ok := things[d]
			if ok && t.Type == tar.TypeDir {
				break
			}
			if ok || strings.HasPrefix(path.Base(d), Whiteout) {
				l.Odd = true
				return l, nil
			}
			things[d] = thing{Name: Name{Path: d, Type: tar.TypeDir}}
		}
	}
	for _, p := range gone {
		if _, ok := things[p]; ok {
			l.Odd = true
			return l, nil
		}
	}
	all := make([]thing, 0, len(things))
	for _, t := range things {
		if t.Type != 0 {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b thing) int { return Order(a.Path, b.Path) })
	for _, t := range all {
		l.Names, l.Places = append(l.Names, t.Name), append(l.Places, t.place)
	}
	return l, nil
}

// ended reports whether a tar ends at a place, as far as who unpacks it is concerned: a block of zeros, or nothing.
func ended(r io.ReaderAt, at, size int64) bool {
	var b [block]byte
	return at == size || size-at >= block && ReadFull(r, b[:], at) == nil && IsZero(b[:])
}

// Clean is the path that a name in a tar stands for, "" for the root. ok is false if that takes thinking.
func Clean(name string) (p string, ok bool) {
	p = strings.TrimPrefix(strings.TrimPrefix(name, "."), "/")
	if name == "." || p == "" && name != "" {
		return "", true
	}
	if strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "./") {
		p = name
	}
	p = strings.TrimSuffix(p, "/")
	if p == "" || path.Clean("/"+p) != "/"+p || strings.Contains(p, "\x00") {
		return "", false
	}
	for s := range strings.SplitSeq(p, "/") {
		if len(s) > 255 {
			return "", false
		}
	}
	return p, len(p) < 4096-256
}
