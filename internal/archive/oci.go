package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/dunlin/dunlin/internal/fault"
)

const (
	maxDepth     = 4    // indexes in indexes
	maxManifests = 1000 // that are read before one is chosen
)

// node is an index or a manifest: what it has tells which.
type node struct {
	ArtifactType string       `json:"artifactType"`
	Manifests    []descriptor `json:"manifests"`
	Config       *descriptor  `json:"config"`
	Layers       []descriptor `json:"layers"`
}

// found is an image of a layout that may be meant.
type found struct {
	platform platform
	name     string
	config   []byte
	layers   []descriptor
}

// layout is an OCI image layout that is searched for images.
type layout struct {
	files  files
	found  []found
	seen   map[string]bool // digests of manifests and indexes
	absent bool            // some are named and not there, as other platforms are where one alone was saved
}

// findOCI finds the image in an OCI image layout.
func findOCI(f files, name string, o Options) (*Image, error) {
	s, err := f.open(indexFile)
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "cannot read the image %s: it has neither %s nor %s", name, manifestFile, indexFile).WithHint(hintArchive)
	}
	b, err := s.document()
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, fault.Newf(fault.Invalid, "cannot read the image %s: %s: %v", name, indexFile, err)
	}
	l := &layout{files: f, seen: map[string]bool{}}
	if err := l.search(b, descriptor{}, 0); err != nil {
		return nil, fault.Newf(fault.Invalid, "cannot read the image %s: %v", name, err).WithHint(hintArchive)
	}
	chosen, err := l.choose(name, o.Platform)
	if err != nil {
		return nil, err
	}
	var tags []string
	if chosen.name != "" {
		tags = []string{chosen.name}
	}
	image, err := newImage(chosen.config, tags, len(chosen.layers), func(i int) (section, error) {
		name, err := blobName(chosen.layers[i].Digest)
		if err != nil {
			return section{}, err
		}
		return f.open(name)
	}, o)
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "cannot read the image %s: %v", name, err)
	}
	return image, nil
}

// choose is the one image there is for a platform.
func (l *layout) choose(name, asked string) (found, error) {
	want, err := parsePlatform(asked)
	if err != nil {
		return found{}, err
	}
	var fit []found
	var platforms, names []string
	for _, i := range l.found {
		platforms = append(platforms, i.platform.String())
		if asked == "" || i.platform.is(want) {
			fit = append(fit, i)
			if i.name != "" {
				names = append(names, i.name)
			}
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(l.found) == 0:
		why := "there is none in it"
		if l.absent {
			why = "it names images, but does not have them"
		}
		return found{}, fault.Newf(fault.NotFound, "cannot read the image %s: %s", name, why).WithHint(hintArchive)
	case len(fit) == 0:
		return found{}, fault.Newf(fault.NotFound, "cannot read the image %s: it is for %s and not for %s", name, someOf(platforms), asked)
	case asked == "":
		return found{}, fault.Newf(fault.Invalid, "%s has %d images and not one: for %s", name, len(fit), someOf(platforms)).
			WithHint("choose one with --platform, or save it alone")
	}
	return found{}, fault.Newf(fault.Invalid, "%s has %d images for %s and not one: %s", name, len(fit), asked, someOf(names)).
		WithHint("save the one that is meant alone: docker save IMAGE -o FILE")
}

// search collects the images that b, an index or a manifest, leads to. from is what referred to it.
func (l *layout) search(b []byte, from descriptor, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("its indexes are %d deep", depth)
	}
	var n node
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("read %s: %w", orIndex(from.Digest), err)
	}
	if n.Config != nil {
		return l.image(n, from)
	}
	for _, d := range n.Manifests {
		if d.Annotations["vnd.docker.reference.type"] != "" || l.seen[d.Digest] {
			continue // how an image was built, or one that is here under two names
		}
		if len(l.seen) == maxManifests {
			return fmt.Errorf("it has over %d manifests", maxManifests)
		}
		l.seen[d.Digest] = true
		child, err := l.blob(d.Digest)
		if errors.Is(err, fs.ErrNotExist) {
			l.absent = true
			continue
		}
		if err != nil {
			return err
		}
		if d.Annotations == nil {
			d.Annotations = from.Annotations // the name of an index is its images' name
		}
		if err := l.search(child, d, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// image adds the image of a manifest, if it is of one.
func (l *layout) image(n node, from descriptor) error {
	switch n.Config.MediaType {
	case configType, "application/vnd.docker.container.image.v1+json":
	default:
		return nil // a signature, a delta or another thing that is kept as images are
	}
	if n.ArtifactType != "" || len(n.Layers) > maxLayers {
		return nil
	}
	config, err := l.blob(n.Config.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		l.absent = true
		return nil
	}
	if err != nil {
		return err
	}
	c, err := readConfig(config)
	if err != nil {
		return err
	}
	i := found{platform: platform{c.OS, c.Architecture, c.Variant}, config: config, layers: n.Layers}
	if from.Platform != nil && from.Platform.Variant != "" {
		i.platform.Variant = from.Platform.Variant // configs often lack it
	}
	for _, key := range []string{nameKey, "org.opencontainers.image.ref.name"} {
		if i.name == "" {
			i.name = from.Annotations[key]
		}
	}
	l.found = append(l.found, i)
	return nil
}

// blob is all of a document, which must be what its digest says.
func (l *layout) blob(of string) ([]byte, error) {
	name, err := blobName(of)
	if err != nil {
		return nil, err
	}
	s, err := l.files.open(name)
	if err != nil {
		return nil, err
	}
	b, err := s.document()
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if got := digest(b); got != of {
		return nil, fmt.Errorf("%s is damaged: its digest is %s", name, got)
	}
	return b, nil
}

func blobName(digest string) (string, error) {
	if !isDigest(digest) {
		return "", fmt.Errorf("%q is no digest that is known here", digest)
	}
	return blob(digest), nil
}

func orIndex(digest string) string {
	if digest == "" {
		return indexFile
	}
	return digest
}
