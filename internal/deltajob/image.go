package deltajob

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/registry"
)

// maxLayers bounds the layers of an image; engines take no more than 127.
const maxLayers = 127

// Descriptor names content of the registry, as manifests do.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
	} `json:"platform,omitempty"`
}

// Image is an image in the registry, with its layers' files open.
type Image struct {
	Manifest Descriptor
	Config   []byte
	ID       string // sha256:… of Config
	Layers   []Layer
}

// Layer is a layer as the registry has it, which as a rule is compressed.
type Layer struct {
	DiffID string // sha256:… of the tar
	Size   int64  // bytes of the file
	File   *os.File
}

// image opens an image. close must be called.
func (j *Jobs) image(i fleet.DeltaImage) (*Image, error) {
	descriptor, manifest, err := j.manifest(i.Repository, i.Digest, true)
	if err != nil {
		return nil, err
	}
	var m struct {
		Config Descriptor   `json:"config"`
		Layers []Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "its manifest is damaged")
	}
	image := &Image{Manifest: descriptor, ID: m.Config.Digest}
	if image.Config, err = j.Registry.Read(i.Repository, m.Config.Digest); err != nil {
		return nil, err
	}
	var c struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(image.Config, &c); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "its configuration is damaged")
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) || len(m.Layers) > maxLayers {
		return nil, fault.Newf(fault.Invalid, "its manifest has %d layers, its configuration %d", len(m.Layers), len(c.RootFS.DiffIDs))
	}
	for n, l := range m.Layers {
		f, err := j.Registry.Open(i.Repository, l.Digest)
		if err != nil {
			return nil, errors.Join(err, image.close())
		}
		info, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close(), image.close())
		}
		image.Layers = append(image.Layers, Layer{DiffID: c.RootFS.DiffIDs[n], Size: info.Size(), File: f})
	}
	return image, nil
}

// manifest reads the manifest of one image, also where it is the one image in an index.
func (j *Jobs) manifest(repository, digest string, index bool) (d Descriptor, manifest []byte, err error) {
	if manifest, err = j.Registry.Read(repository, digest); err != nil {
		return d, nil, err
	}
	var m struct {
		MediaType string       `json:"mediaType"`
		Manifests []Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		return d, nil, fault.Wrap(fault.Invalid, err, "its manifest is damaged")
	}
	if len(m.Manifests) == 0 {
		if m.MediaType == "" {
			m.MediaType = "application/vnd.oci.image.manifest.v1+json"
		}
		return Descriptor{MediaType: m.MediaType, Digest: digest, Size: int64(len(manifest))}, manifest, nil
	}
	var images []string
	for _, d := range m.Manifests {
		// What BuildKit says of a build is beside it as an image of no platform.
		if d.Platform == nil || d.Platform.OS != "unknown" {
			images = append(images, d.Digest)
		}
	}
	if len(images) != 1 || !index {
		return d, nil, fault.Newf(fault.Invalid, "it is %d images, for several platforms", len(images))
	}
	return j.manifest(repository, images[0], false)
}

func (i *Image) close() (err error) {
	for _, l := range i.Layers {
		err = errors.Join(err, l.File.Close())
	}
	return err
}

// replaced is how many bytes a device with the old image fetches of the new one without a delta: all layers but those that
// both begin with.
func (i *Image) replaced(old *Image) (n int64) {
	same := 0
	for same < min(len(i.Layers), len(old.Layers)) && i.Layers[same].DiffID == old.Layers[same].DiffID {
		same++
	}
	for _, l := range i.Layers[same:] {
		n += l.Size
	}
	return n
}

// empty is the configuration of an artifact that needs none, as the OCI image specification has it.
const empty = "{}"

// artifact is the manifest of a delta that is one blob, and the files it names.
func artifact(t Task, blob File, size int64, mediaType string) Made {
	subject := t.New.Manifest
	subject.Annotations, subject.Platform = nil, nil
	m := struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		ArtifactType  string            `json:"artifactType"`
		Config        Descriptor        `json:"config"`
		Layers        []Descriptor      `json:"layers"`
		Subject       Descriptor        `json:"subject"`
		Annotations   map[string]string `json:"annotations"`
	}{
		SchemaVersion: 2, MediaType: "application/vnd.oci.image.manifest.v1+json", ArtifactType: mediaType,
		Config:      Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: registry.Digest([]byte(empty)), Size: int64(len(empty))},
		Layers:      []Descriptor{{MediaType: mediaType, Digest: blob.Digest, Size: size}},
		Subject:     subject,
		Annotations: map[string]string{"io.dunlin.delta.from": t.Old.ID, "io.dunlin.delta.to": t.New.ID},
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		panic(err) // texts and numbers always encode
	}
	return Made{
		Manifest: manifest, Files: []File{{Digest: registry.Digest([]byte(empty)), Bytes: []byte(empty)}, blob},
		Blob: blob.Digest, Size: size, From: t.Old.ID, To: t.New.ID,
	}
}
