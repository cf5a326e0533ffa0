package delta

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

// FolderBasis is the old image as a container engine has unpacked it: a folder for each layer, the lowest first, that has
// the files which that layer has added or changed (overlay2's diff folders). It follows no symbolic link.
func FolderBasis(id string, folders []string) Basis { return &folderBasis{id, folders} }

type folderBasis struct {
	id      string
	folders []string
}

func (b *folderBasis) ID() string { return b.id }

func (b *folderBasis) Names(layer int) ([]Name, error) {
	if layer >= len(b.folders) {
		return nil, fmt.Errorf("%w: it has %d layers", ErrBase, len(b.folders))
	}
	root, err := os.OpenRoot(b.folders[layer])
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var names []Name
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		n := Name{Path: p}
		switch {
		case strings.HasPrefix(path.Base(p), tarfile.Whiteout):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.Type().IsRegular():
			n.Type = tar.TypeReg
		case d.IsDir():
			n.Type = tar.TypeDir
		case d.Type()&fs.ModeSymlink != 0:
			n.Type = tar.TypeSymlink
			if n.Link, err = root.Readlink(p); err != nil {
				return err
			}
		default:
			return nil
		}
		names = append(names, n)
		return nil
	})
	slices.SortFunc(names, func(a, b Name) int { return tarfile.Order(a.Path, b.Path) })
	return names, err
}

func (b *folderBasis) Open(layer int, p string) (File, error) {
	root, err := os.OpenRoot(b.folders[layer])
	if err != nil {
		return nil, err
	}
	defer root.Close()
	named, err := root.Lstat(p)
	if err != nil {
		return nil, err
	}
	if !named.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no regular file", ErrBase, p)
	}
	f, err := root.Open(p)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(named, info) {
		err = fmt.Errorf("%w: %s was replaced while it was opened", ErrBase, p)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return folderFile{f, info.Size()}, nil
}

type folderFile struct {
	*os.File
	size int64
}

func (f folderFile) Size() int64 { return f.size }

// TarBasis is the old image as its layers' tars.
func TarBasis(id string, layers []io.ReaderAt, sizes []int64) (Basis, error) {
	b := &tarBasis{id: id}
	for i, r := range layers {
		l, err := tarfile.List(r, sizes[i])
		if err != nil {
			return nil, fmt.Errorf("list layer %d: %w", i, err)
		}
		b.layers = append(b.layers, l)
	}
	return b, nil
}

type tarBasis struct {
	id     string
	layers []*tarfile.Tar
}

func (b *tarBasis) ID() string { return b.id }

func (b *tarBasis) Names(layer int) ([]Name, error) {
	if layer >= len(b.layers) || b.layers[layer].Odd {
		return nil, fmt.Errorf("%w: layer %d cannot be listed", ErrBase, layer)
	}
	return b.layers[layer].Names, nil
}

func (b *tarBasis) Open(layer int, p string) (File, error) {
	l := b.layers[layer]
	i, ok := slices.BinarySearchFunc(l.Names, p, tarfile.ByPath)
	if !ok || l.Names[i].Type != tar.TypeReg {
		return nil, fmt.Errorf("%w: layer %d has no file %s", ErrBase, layer, p)
	}
	return tarFile{io.NewSectionReader(l, l.Places[i].At, l.Places[i].Size)}, nil
}

type tarFile struct{ *io.SectionReader }

func (tarFile) Close() error { return nil }
