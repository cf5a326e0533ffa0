package deltajob

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"

	"github.com/dunlin/dunlin/internal/delta/stock"
	"github.com/dunlin/dunlin/internal/registry"
)

// Librsync is the format of balenaEngine, for devices with a stock supervisor.
const Librsync = "librsync"

// MakeLibrsync makes a delta for balenaEngine: an image in the repository of the target, under a tag, which a device pulls
// like any other.
func MakeLibrsync(ctx context.Context, t Task) (Made, error) {
	image, err := stock.Make(ctx, t.Dir, t.Old.plain(), t.New.plain(), t.Limit, nil)
	if errors.Is(err, stock.ErrLimit) {
		return Made{}, ErrUseless
	}
	if err != nil {
		return Made{}, err
	}
	const schema2 = "application/vnd.docker."
	config := File{Digest: registry.Digest(image.Config), Bytes: image.Config}
	m := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        Descriptor   `json:"config"`
		Layers        []Descriptor `json:"layers"`
	}{
		SchemaVersion: 2, MediaType: schema2 + "distribution.manifest.v2+json",
		Config: Descriptor{MediaType: schema2 + "container.image.v1+json", Digest: config.Digest, Size: int64(len(config.Bytes))},
		Layers: []Descriptor{},
	}
	files, seen := []File{config}, map[string]bool{}
	for _, l := range image.Layers {
		m.Layers = append(m.Layers, Descriptor{MediaType: schema2 + "image.rootfs.diff.tar.gzip", Digest: l.Digest, Size: l.Size})
		if !seen[l.Digest] {
			files = append(files, File{Digest: l.Digest, Name: filepath.Base(l.Name)})
		}
		seen[l.Digest] = true
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return Made{}, err
	}
	return Made{
		Manifest: manifest, Tag: tag(t.Old.ID), Files: files,
		Size: image.Size() + int64(len(image.Config)), From: image.From, To: image.To,
	}, nil
}

// tag is what balena's server calls the delta from an image.
func tag(from string) string {
	return "delta-" + strings.TrimPrefix(from, "sha256:")[:16]
}
