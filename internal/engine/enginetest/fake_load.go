package enginetest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"

	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/engine"
)

// manifestSize is what of an image travels that was loaded before it is pulled, in bytes.
const manifestSize = 600

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// id is the digest of the image's config; a Fake makes one up for an image without.
func (i *Image) id(manifest string) string {
	if i.Config == nil {
		return digest([]byte(manifest))
	}
	return digest(i.Config)
}

// diffIDs are the digests of the layers.
func (i *Image) diffIDs() []string {
	var all []string
	for _, l := range i.Layers {
		all = append(all, digest(l))
	}
	return all
}

// known returns the image of a reference, or the loaded one, if it is here. The caller holds the lock.
func (f *Fake) known(ref string) *image {
	if ref == engine.Loaded {
		return f.loaded
	}
	return f.image(ref)
}

// Layers keeps the contract. A Fake has no folders.
func (f *Fake) Layers(ctx context.Context, ref string) (engine.Layers, error) {
	if err := f.look(ctx, "layers"); err != nil {
		return engine.Layers{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.known(ref)
	if i == nil {
		return engine.Layers{}, fmt.Errorf("layers of %s: %w", ref, engine.ErrNotFound)
	}
	l := engine.Layers{ID: i.ID}
	if i.of != nil {
		l.DiffIDs = i.of.diffIDs()
	}
	return l, nil
}

// Export keeps the contract.
func (f *Fake) Export(ctx context.Context, ref string, w io.Writer) error {
	if err := f.look(ctx, "export"); err != nil {
		return err
	}
	f.mu.Lock()
	i := f.known(ref)
	f.mu.Unlock()
	if i == nil {
		return fmt.Errorf("export %s: %w", ref, engine.ErrNotFound)
	}
	if i.of == nil || i.of.Config == nil {
		return fmt.Errorf("export %s: nobody said what is in it", ref)
	}
	var layers []archive.Content
	for n, id := range i.of.diffIDs() {
		layers = append(layers, archive.Content{DiffID: id, Size: int64(len(i.of.Layers[n])), Write: func(w io.Writer) error {
			_, err := w.Write(i.of.Layers[n])
			return err
		}})
	}
	return archive.Write(w, i.of.Config, nil, layers)
}

// Load keeps the contract. What a container of the image does is what the registry's image of the same config says.
func (f *Fake) Load(ctx context.Context, from io.Reader) error {
	if err := f.enter(ctx, "load", engine.Loaded); err != nil {
		return err
	}
	if err := f.load(ctx, from); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return f.call(&f.after, "load", engine.Loaded)
}

func (f *Fake) load(ctx context.Context, from io.Reader) error {
	files := map[string][]byte{}
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if files[path.Clean(h.Name)], err = io.ReadAll(r); err != nil {
			return err
		}
	}
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil {
		return err
	}
	if len(manifest) != 1 || !slices.Equal(manifest[0].RepoTags, []string{engine.Loaded}) {
		return errors.New("it is not one image with the name for it")
	}
	m := manifest[0]
	i := &Image{Config: files[m.Config]}
	var config struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(i.Config, &config); err != nil {
		return err
	}
	ids := config.RootFS.DiffIDs
	if len(ids) != len(m.Layers) {
		return errors.New("its config has other layers")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.away {
		return engine.ErrUnavailable
	}
	f.loaded = nil
	for n, name := range m.Layers {
		l := f.layer(ids[:n+1])
		if l == nil {
			l = files[path.Clean(name)]
			i.Size += int64(len(l))
		}
		if digest(l) != ids[n] {
			return fmt.Errorf("layer %d is missing or not what its diff ID says", n)
		}
		i.Layers = append(i.Layers, l)
	}
	if f.capacity > 0 && f.used()+i.Size > f.capacity {
		return engine.ErrDiskFull
	}
	for _, ref := range slices.Sorted(maps.Keys(f.registry)) {
		if of := f.registry[ref]; bytes.Equal(of.Config, i.Config) {
			i.Run, i.Labels = of.Run, of.Labels
		}
	}
	f.loaded = &image{Image: engine.Image{ID: digest(i.Config), Size: i.Size}, of: i}
	f.touch()
	return nil
}

// layer returns the layer that an image here has on the same ones below, or nil.
func (f *Fake) layer(chain []string) []byte {
	for _, i := range f.images {
		if i.of == nil || len(i.of.Layers) < len(chain) {
			continue
		}
		if slices.Equal(i.of.diffIDs()[:len(chain)], chain) {
			return i.of.Layers[len(chain)-1]
		}
	}
	return nil
}

// used is how many bytes the images take.
func (f *Fake) used() int64 {
	var n int64
	for _, i := range f.images {
		n += i.Size
	}
	return n
}

// name gives the loaded image the name of the registry's, if it is the same, and reports whether it is.
func (f *Fake) name(ref, manifest string, of *Image) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away || f.loaded == nil || of.Config == nil || of.Forged || f.loaded.ID != of.id(manifest) || f.images[manifest] != nil {
		return false
	}
	f.fetched[ref] += manifestSize
	f.images[manifest] = &image{Image: engine.Image{ID: f.loaded.ID, References: []string{ref}, Size: of.Size}, of: of}
	f.touch()
	return true
}
