package archive

import (
	"archive/tar"
	"cmp"
	"fmt"
	"io"
	"time"
)

// Content is a layer that is written.
type Content struct {
	DiffID string // sha256:… of the tar
	Size   int64  // of what Write writes, in bytes
	// Write writes the tar, Size bytes. nil leaves the layer out: an engine that has it already does not look for it.
	Write func(io.Writer) error
	// Packed is the digest of what Write writes, if that is the tar compressed with gzip; "" if it is the tar.
	Packed string
}

// file is what the layer is called in the archive.
func (c Content) file() string { return blob(cmp.Or(c.Packed, c.DiffID)) }

// Write writes an image as `docker save` does and `docker load` reads it, in one pass and with the memory of a buffer.
// config are the very bytes whose SHA-256 is the image's ID; tags, such as "porch:latest", may be empty. The layers are in
// the order of the config, which must name them; their Write functions are called in that order, one after the other. The
// manifest and the config come first. A layer that comes twice is written once: its second Write goes nowhere.
//
// When it fails, what it has written is no archive: it lacks the end of a tar.
func Write(w io.Writer, config []byte, tags []string, layers []Content) error {
	named, err := DiffIDs(config)
	if err != nil {
		return err
	}
	if len(named) != len(layers) {
		return fmt.Errorf("write an image: its config names %d layers, and there are %d", len(named), len(layers))
	}
	for i, l := range layers {
		if l.DiffID != named[i] {
			return fmt.Errorf("write an image: layer %d is %s, and the config names %s", i, l.DiffID, named[i])
		}
		if l.Packed != "" && !isDigest(l.Packed) {
			return fmt.Errorf("write an image: %q is no digest of a layer", l.Packed)
		}
	}
	documents, err := describe(config, tags, layers)
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	for _, d := range documents {
		if err := add(out, d.name, int64(len(d.content)), func(w io.Writer) error {
			_, err := w.Write(d.content)
			return err
		}); err != nil {
			return err
		}
	}
	written := map[string]bool{}
	for _, l := range layers {
		switch {
		case l.Write == nil:
		case written[l.DiffID]:
			if err := l.Write(io.Discard); err != nil {
				return fmt.Errorf("write layer %s: %w", l.DiffID, err)
			}
		default:
			written[l.DiffID] = true
			if err := add(out, l.file(), l.Size, l.Write); err != nil {
				return err
			}
		}
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("write an image: %w", err)
	}
	return nil
}

// add writes one file of the archive. Its header says nothing that would differ from one writing to the next.
func add(out *tar.Writer, name string, size int64, write func(io.Writer) error) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
	if err := out.WriteHeader(h); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := write(out); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := out.Flush(); err != nil { // says whether there was less than the header promised
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
