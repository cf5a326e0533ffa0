package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
)

// Options are how an image is read. The zero value reads the only one there is.
type Options struct {
	// Platform, such as "linux/arm64" or "linux/arm/v7", chooses among the images of several platforms.
	Platform string
	// Dir is the folder for temporary files; "": the system's.
	Dir string
}

// Open reads an image from a file or a folder: what `docker save` wrote, or an OCI image layout; a file may be compressed
// with gzip or zstd. Errors are for who named the path.
func Open(name string, o Options) (*Image, error) {
	if _, err := parsePlatform(o.Platform); err != nil {
		return nil, err
	}
	f, err := openFiles(name, o)
	if err == nil {
		return read(f, name, o)
	}
	var known *fault.Error
	switch {
	case errors.As(err, &known):
		return nil, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.Newf(fault.NotFound, "cannot read the image %s: there is no such file", name)
	}
	return nil, fault.Newf(fault.Invalid, "cannot read the image %s: %v", name, err).WithHint(hintArchive)
}

const hintArchive = "give the archive that `docker save IMAGE -o FILE` writes, or an OCI image layout"

func openFiles(name string, o Options) (files, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if info.IsDir() {
		root, err := os.OpenRoot(name)
		return folderFiles{root}, errors.Join(err, file.Close())
	}
	whole := section{ReaderAt: file, size: info.Size(), close: file.Close}
	if !info.Mode().IsRegular() || compressed(file) {
		// A pipe, or compressed: what is in the middle can only be reached through what is before.
		whole, err = spool(o.Dir, func(w io.Writer) error {
			r, err := decompressed(file)
			if err != nil {
				return err
			}
			return copyAtMost(w, r)
		})
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
	}
	t, err := readTar(whole)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read it as a tar: %w", err), whole.Close())
	}
	return t, nil
}

// read finds the image in an archive, which is the image's from here on.
func read(f files, name string, o Options) (*Image, error) {
	image, err := find(f, name, o)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	image.closers = append(image.closers, f)
	return image, nil
}

func find(f files, name string, o Options) (*Image, error) {
	s, err := f.open(manifestFile)
	if errors.Is(err, fs.ErrNotExist) {
		return findOCI(f, name, o)
	}
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "cannot read the image %s: %v", name, err)
	}
	b, err := s.document()
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, fault.Newf(fault.Invalid, "cannot read the image %s: %s: %v", name, manifestFile, err)
	}
	var list []manifest
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fault.Newf(fault.Invalid, "cannot read the image %s: %s: %v", name, manifestFile, err).WithHint(hintArchive)
	}
	// Today's engines write an OCI layout beside it, which alone tells of all platforms.
	layout := has(f, indexFile)
	if len(list) != 1 {
		if layout {
			return findOCI(f, name, o)
		}
		var tags []string
		for _, m := range list {
			tags = append(tags, m.RepoTags...)
		}
		return nil, fault.Newf(fault.Invalid, "%s has %d images and not one: %s", name, len(list), someOf(tags)).
			WithHint("save the one that is meant alone: docker save IMAGE -o FILE")
	}
	image, err := fromManifest(f, list[0], o)
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "cannot read the image %s: %v", name, err).WithHint(hintArchive)
	}
	if err := image.mustBe(o.Platform); err != nil {
		if layout {
			return findOCI(f, name, o)
		}
		return nil, fault.Newf(fault.NotFound, "cannot read the image %s: %v", name, err)
	}
	return image, nil
}

func has(f files, name string) bool {
	s, err := f.open(name)
	return err == nil && s.Close() == nil
}

// fromManifest is the image of which manifest.json tells.
func fromManifest(f files, m manifest, o Options) (*Image, error) {
	s, err := f.open(m.Config)
	if err != nil {
		return nil, err
	}
	config, err := s.document()
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", m.Config, err)
	}
	return newImage(config, m.RepoTags, len(m.Layers), func(i int) (section, error) { return f.open(m.Layers[i]) }, o)
}

func newImage(config []byte, tags []string, n int, open func(i int) (section, error), o Options) (*Image, error) {
	c, err := readConfig(config)
	if err != nil {
		return nil, err
	}
	if len(c.RootFS.DiffIDs) != n {
		return nil, fmt.Errorf("its config names %d layers, and it has %d", len(c.RootFS.DiffIDs), n)
	}
	image := &Image{ID: digest(config), Config: config, Tags: tags, Layers: make([]Layer, n)}
	for i, id := range c.RootFS.DiffIDs {
		image.Layers[i] = Layer{DiffID: id, dir: o.Dir, open: func() (section, error) {
			s, err := open(i)
			if errors.Is(err, fs.ErrNotExist) {
				err = fault.New(fault.NotFound, "the archive does not have layer "+id).
					WithHint("save the image whole: docker save IMAGE -o FILE")
			}
			return s, err
		}}
	}
	return image, nil
}

// platform is an operating system, an architecture and perhaps a variant of it.
type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

func (p platform) String() string {
	return strings.TrimSuffix(strings.Join([]string{p.OS, p.Architecture, p.Variant}, "/"), "/")
}

// is reports whether p is what want asks for. Whoever asks for no variant asks for any.
func (p platform) is(want platform) bool {
	return p.OS == want.OS && p.Architecture == want.Architecture && (want.Variant == "" || p.Variant == want.Variant)
}

func parsePlatform(s string) (platform, error) {
	if s == "" {
		return platform{}, nil
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return platform{}, fault.Newf(fault.Invalid, "%q is not a platform", s).WithHint("platforms are such as linux/amd64, linux/arm64 and linux/arm/v7")
	}
	p := platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 && s != "linux/arm64/v8" { // the only one there is, which often goes without saying
		p.Variant = parts[2]
	}
	return p, nil
}

// mustBe is an error if the image is of another platform than the one asked for.
func (i *Image) mustBe(asked string) error {
	want, err := parsePlatform(asked)
	if err != nil || asked == "" {
		return err
	}
	c, err := readConfig(i.Config)
	if err != nil {
		return err
	}
	if is := (platform{c.OS, c.Architecture, c.Variant}); !is.is(want) {
		return fmt.Errorf("it is for %v and not for %s", is, asked)
	}
	return nil
}

// someOf names the first few.
func someOf(all []string) string {
	const most = 5
	if len(all) == 0 {
		return "none has a name"
	}
	if len(all) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
	}
	return strings.Join(all, ", ")
}
