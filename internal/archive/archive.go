// Package archive owns images as files: the archives that `docker save` writes and OCI image layouts, as a folder or in
// a tar; reading them with access to any byte, writing them as a stream. It does not own what is made of an image, and
// it asks no registry.
//
// What it reads is of unknown origin: every count and every length is bounded, and no name leads out of the archive.
package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

const (
	manifestFile = "manifest.json" // of docker save
	indexFile    = "index.json"    // of an OCI layout

	maxDocument = 8 << 20 // bytes of a config, manifest or index
	maxLayers   = 1024    // engines stop at 127
)

// manifest is an image in manifest.json.
type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// imageConfig is what is read of an image's config.
type imageConfig struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
	RootFS       struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// DiffIDs are the digests of an image's layers, lowest first, as its config names them.
func DiffIDs(config []byte) ([]string, error) {
	c, err := readConfig(config)
	return c.RootFS.DiffIDs, err
}

func readConfig(b []byte) (imageConfig, error) {
	var c imageConfig
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read the image's config: %w", err)
	}
	if len(c.RootFS.DiffIDs) > maxLayers {
		return c, fmt.Errorf("read the image's config: it has %d layers; %d is the most", len(c.RootFS.DiffIDs), maxLayers)
	}
	for _, d := range c.RootFS.DiffIDs {
		if !isDigest(d) {
			return c, fmt.Errorf("read the image's config: %q is no digest", d)
		}
	}
	return c, nil
}

// digest is the digest of b, as configs and manifests name each other.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

func isDigest(s string) bool {
	h, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(h) == 2*sha256.Size && strings.Trim(h, "0123456789abcdef") == ""
}
