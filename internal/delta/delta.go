// Package delta is the difference between two container images: it makes one, and makes the new image of the old one and
// the difference. It owns the format (docs/delta-format.md) and which file of the new image is made of which old ones; it
// does not own where images come from and go to, nor which differences are worth making.
//
// The new layers come out byte for byte, as their diff IDs say. Of the old image a reader needs the files of its layers,
// not its layers' tars: what a container engine has unpacked is enough.
//
// It is a large room because a format is one thing: whoever writes a delta and whoever reads it run the same lines.
package delta

import (
	"errors"
	"io"
	"time"

	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

// MediaType is the media type of a delta, and the artifact type of its manifest in a registry.
const MediaType = "application/vnd.dunlin.delta.v1"

// Errors of reading a delta, which callers branch on.
var (
	// ErrFormat means that these bytes are no delta, or a damaged one.
	ErrFormat = errors.New("this is no delta, or a damaged one")
	// ErrVersion means a delta of a later format.
	ErrVersion = errors.New("this delta is of a later format than this program knows")
	// ErrBase means that the old image is not the one the delta was made from.
	ErrBase = errors.New("the delta was made from another image")
	// ErrResult means that what came out is not the new image: the old one is damaged, or the delta is.
	ErrResult = errors.New("what the delta made is not the new image")
	// ErrDisk means that the images take more room, uncompressed, than there is for making a delta.
	ErrDisk = errors.New("the images are larger than there is room for")
)

// Layer is one layer of an image.
type Layer struct {
	DiffID string // sha256:… of the tar
	// Open opens the uncompressed tar. It may be called more than once.
	Open func() (io.ReadCloser, error)
}

// Image is an image with its layers' tars.
type Image struct {
	Config []byte // as the registry has it: its SHA-256 is the image's ID
	Layers []Layer
}

// Options are how to make a delta. The zero value makes the smallest that is made in reasonable time.
type Options struct {
	Dir string // folder for temporary files, which who kills this removes; "": the system's
	// Memory is how much may be used for the files at hand, in bytes, roughly; 0 means 768 MiB.
	Memory int64
	// Disk is how many bytes temporary files may have in all; 0 is no bound. More is ErrDisk.
	Disk int64
	// Progress is called now and then with the bytes of the new image that are done and those there are; may be nil.
	Progress func(done, all int64)
}

// Info is what a delta says of itself.
type Info struct {
	Version  int         `json:"version"`
	From     string      `json:"from"` // sha256:… of the old image's config
	To       string      `json:"to"`
	Config   []byte      `json:"-"` // of the new image
	Layers   []LayerInfo `json:"layers"`
	FromDiff []string    `json:"fromLayers"` // diff IDs of the old image's layers
}

// LayerInfo is what a delta says of a layer of the new image.
type LayerInfo struct {
	DiffID string `json:"diffId"`
	Size   int64  `json:"size"` // of the tar, in bytes
	// Kept means that the old image has it, at the same place and on the same layers: the delta says nothing of it, and
	// an engine has it already.
	Kept bool `json:"kept"`
}

// Figures are what making or applying took.
type Figures struct {
	Bytes    int64         `json:"bytes"`    // of the delta
	NewBytes int64         `json:"newBytes"` // of the layers that are not kept
	CPU      time.Duration `json:"cpu"`
}

// File is a file of the old image.
type File interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Basis is the old image as who applies a delta has it. Layers are counted from the lowest, 0.
type Basis interface {
	// ID is sha256:… of its config.
	ID() string
	// Names are the paths of a layer's regular files and of its directories and symbolic links, as Names has it.
	Names(layer int) ([]Name, error)
	// Open opens a regular file of a layer by its path.
	Open(layer int, path string) (File, error)
}

// Name is the name of something in a layer.
type Name = tarfile.Name
