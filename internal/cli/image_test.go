package cli_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dunlin/dunlin/internal/archive"
)

// saveImage writes the archive of an image whose layers are these folders.
func saveImage(name string, folders ...string) error {
	var ids []string
	var layers []archive.Content
	for _, folder := range folders {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := errors.Join(w.AddFS(os.DirFS(folder)), w.Close()); err != nil {
			return err
		}
		id := fmt.Sprintf("sha256:%x", sha256.Sum256(b.Bytes()))
		ids = append(ids, id)
		layers = append(layers, archive.Content{DiffID: id, Size: int64(b.Len()), Write: func(w io.Writer) error {
			_, err := b.WriteTo(w)
			return err
		}})
	}
	config, err := json.Marshal(map[string]any{"os": "linux", "architecture": "arm64", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
	if err != nil {
		return err
	}
	to, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(archive.Write(to, config, nil, layers), to.Close())
}
