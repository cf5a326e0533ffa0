package stock_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/delta/stock"
)

func sum(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// layer is the tar of one file.
func layer(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func image(t *testing.T, architecture string, layers ...[]byte) delta.Image {
	t.Helper()
	i := delta.Image{}
	diffIDs := []string{}
	for _, l := range layers {
		diffIDs = append(diffIDs, sum(l))
		i.Layers = append(i.Layers, delta.Layer{DiffID: sum(l), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l)), nil }})
	}
	var err error
	i.Config, err = json.Marshal(map[string]any{"architecture": architecture, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestADeviceMakesTheNewLayersOfTheOldImageAndTheDelta(t *testing.T) {
	base, old := layer(t, "base", noise(1, 50_000)), layer(t, "app", noise(2, 90_000))
	changed := bytes.Clone(noise(2, 90_000))
	changed[40_000] ^= 1
	// The moved layer has another place, so an engine does not have it.
	layers := [][]byte{base, layer(t, "app", changed), old}
	from, to := image(t, "arm64", base, old), image(t, "arm64", layers...)
	dir := t.TempDir()
	made, err := stock.Make(t.Context(), dir, from, to, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if made.Size() > 1500 {
		t.Errorf("a changed bit takes %d bytes", made.Size())
	}
	id, config, ok := stock.Info(made.Config)
	if !ok || id != sum(from.Config) || !bytes.Equal(config, to.Config) {
		t.Errorf("it says of itself that it is from %s to %s (%t)", id, config, ok)
	}
	var said struct {
		Architecture string
		RootFS       struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(made.Config, &said); err != nil || said.Architecture != "arm64" || len(said.RootFS.DiffIDs) != len(layers) {
		t.Fatalf("its configuration is %s (%v)", made.Config, err)
	}
	basis := append(bytes.Clone(base), old...)
	for n, l := range made.Layers {
		packed, err := os.ReadFile(filepath.Join(dir, l.Name))
		if err != nil {
			t.Fatal(err)
		}
		if sum(packed) != l.Digest || int64(len(packed)) != l.Size {
			t.Errorf("layer %d is not what it is called", n)
		}
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		if sum(content) != l.DiffID || l.DiffID != said.RootFS.DiffIDs[n] {
			t.Errorf("the tar of layer %d is not what it is called", n)
		}
		empty, err := stock.Empty(bytes.NewReader(content))
		if err != nil || empty != l.Kept || l.Kept != (n == 0) {
			t.Errorf("layer %d is kept: %t; empty: %t (%v)", n, l.Kept, empty, err)
		}
		if l.Kept {
			continue
		}
		var out bytes.Buffer
		if err := stock.Apply(t.Context(), &out, bytes.NewReader(basis), int64(len(basis)), bytes.NewReader(content), config, n); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), layers[n]) {
			t.Errorf("layer %d comes out differently", n)
		}
		if err := stock.Apply(t.Context(), io.Discard, bytes.NewReader(basis[1:]), int64(len(basis)-1), bytes.NewReader(content), config, n); err == nil {
			t.Errorf("layer %d was made of another image", n)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if !strings.HasPrefix(f.Name(), "layer-") && f.Name() != "basis" {
			t.Errorf("%s is left", f.Name())
		}
	}
}

func TestTheSameImagesMakeTheSameDelta(t *testing.T) {
	from, to := image(t, "amd64", layer(t, "a", noise(1, 1000))), image(t, "amd64", layer(t, "a", noise(3, 1000)))
	var digests [2]string
	for i := range digests {
		made, err := stock.Make(t.Context(), t.TempDir(), from, to, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		digests[i] = made.Layers[0].Digest + string(made.Config)
	}
	if digests[0] != digests[1] {
		t.Error("they differ")
	}
}

func TestADeltaThatIsTooLargeIsNotMade(t *testing.T) {
	from, to := image(t, "amd64", layer(t, "a", noise(1, 1000))), image(t, "amd64", layer(t, "a", noise(3, 10_000)))
	if _, err := stock.Make(t.Context(), t.TempDir(), from, to, 5000, nil); !errors.Is(err, stock.ErrLimit) {
		t.Error(err)
	}
}

func TestALayerThatIsNotWhatItIsCalledIsRefused(t *testing.T) {
	good, bad := image(t, "amd64", layer(t, "a", nil)), image(t, "amd64", layer(t, "a", nil))
	bad.Layers[0].DiffID = sum([]byte("another"))
	for name, pair := range map[string][2]delta.Image{"old": {bad, good}, "new": {good, bad}} {
		if _, err := stock.Make(t.Context(), t.TempDir(), pair[0], pair[1], 0, nil); err == nil || !strings.Contains(err.Error(), "should be") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAMakerEndsWhenItIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	i := image(t, "amd64", layer(t, "a", nil))
	if _, err := stock.Make(ctx, t.TempDir(), i, i, 0, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
