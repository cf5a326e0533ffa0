package archive

import (
	"encoding/json"
	"fmt"
	"strings"
)

// document is a small file of an archive.
type document struct {
	name    string
	content []byte
}

// An archive is a `docker save` and an OCI layout (image-spec, image-layout.md) in one: engines that keep images in
// containerd's store go by the layout, and take it without layers that they have already; others go by manifest.json.
const (
	layoutFile = "oci-layout"
	blobFolder = "blobs/sha256/"

	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"

	// nameKey is the annotation by which containerd names an image.
	nameKey = "io.containerd.image.name"
)

// descriptor is a reference to a blob (image-spec, descriptor.md).
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// describe makes all files of an archive but the layers.
func describe(config []byte, tags []string, layers []Content) ([]document, error) {
	m := manifest{Config: blob(digest(config)), RepoTags: tags, Layers: []string{}}
	image := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{2, manifestType, descriptor{MediaType: configType, Digest: digest(config), Size: int64(len(config))}, []descriptor{}}
	for _, l := range layers {
		m.Layers = append(m.Layers, l.file())
		d := descriptor{MediaType: layerType, Digest: l.DiffID, Size: l.Size}
		if l.Packed != "" {
			d.MediaType, d.Digest = layerType+"+gzip", l.Packed
		}
		image.Layers = append(image.Layers, d)
	}
	manifest, err := json.Marshal(image)
	if err != nil {
		return nil, fmt.Errorf("write an image: %w", err)
	}
	index := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, indexType, nil}
	one := descriptor{MediaType: manifestType, Digest: digest(manifest), Size: int64(len(manifest))}
	for _, t := range tags {
		named := one
		named.Annotations = map[string]string{nameKey: full(t)}
		index.Manifests = append(index.Manifests, named)
	}
	if len(tags) == 0 {
		index.Manifests = append(index.Manifests, one)
	}
	files := []document{{layoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	for _, d := range []struct {
		name  string
		value any
	}{{indexFile, index}, {manifestFile, []any{m}}} {
		b, err := json.Marshal(d.value)
		if err != nil {
			return nil, fmt.Errorf("write an image: %w", err)
		}
		files = append(files, document{d.name, b})
	}
	return append(files, document{blob(digest(manifest)), manifest}, document{blob(digest(config)), config}), nil
}

func blob(digest string) string { return blobFolder + hexOf(digest) }

// full is a tag with its registry, as containerd has it: docker.io/library/porch:latest for porch:latest.
func full(tag string) string {
	first, _, path := strings.Cut(tag, "/")
	switch {
	case !path:
		return "docker.io/library/" + tag
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		return "docker.io/" + tag
	}
	return tag
}
