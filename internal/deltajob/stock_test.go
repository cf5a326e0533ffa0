package deltajob_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/delta/stock"
	"github.com/dunlin/dunlin/internal/deltajob"
	"github.com/dunlin/dunlin/internal/fleet"
)

func TestADeltaForAStockDeviceIsAnImageThatItPullsByATag(t *testing.T) {
	s := open(t, deltajob.Librsync)
	base, app := noise("base", 60_000), noise("app", 200_000)
	changed := bytes.Clone(app)
	copy(changed[1000:], "a few other bytes")
	s.release(home, 1, base, app)
	s.release(home, 2, base, changed)
	s.target(home, 2)
	s.run()
	d := s.outcome()
	if d.Status != fleet.DeltaReady || d.Artifact.Size > 4000 || d.Artifact.Blob != "" {
		t.Fatalf("%+v", d)
	}
	tag, found := strings.CutPrefix(d.Artifact.Name, ":")
	if from := strings.TrimPrefix(d.Artifact.From, "sha256:"); !found || tag != "delta-"+from[:16] {
		t.Fatalf("it is called %q, and made from %s", d.Artifact.Name, d.Artifact.From)
	}
	// What the device does: pull the tag, look at the labels, patch each layer.
	manifest := s.read(d.Target.Repository, tag)
	if digest(manifest) != d.Artifact.Manifest {
		t.Error("the tag is another manifest's")
	}
	var m struct {
		MediaType string
		Config    struct{ Digest string }
		Layers    []struct{ Digest string }
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		t.Fatal(err)
	}
	if m.MediaType != "application/vnd.docker.distribution.manifest.v2+json" || len(m.Layers) != 2 {
		t.Fatalf("the manifest is %s", manifest)
	}
	from, to, ok := stock.Info(s.read(d.Target.Repository, m.Config.Digest))
	if !ok || from != d.Artifact.From || digest(to) != d.Artifact.To {
		t.Fatalf("it says that it makes %s of %s (%t)", to, from, ok)
	}
	var basis []byte
	for i, file := range [][]byte{base, app} {
		_, tar := plainLayer(i, file)
		basis = append(basis, tar...)
	}
	kept := s.unpacked(d.Target.Repository, m.Layers[0].Digest)
	if empty, err := stock.Empty(bytes.NewReader(kept)); err != nil || !empty {
		t.Errorf("the layer that the device has travels again (%v)", err)
	}
	var out bytes.Buffer
	layer := s.unpacked(d.Target.Repository, m.Layers[1].Digest)
	if err := stock.Apply(t.Context(), &out, bytes.NewReader(basis), int64(len(basis)), bytes.NewReader(layer), to, 1); err != nil {
		t.Fatal(err)
	}
	if _, want := plainLayer(1, changed); !bytes.Equal(out.Bytes(), want) {
		t.Error("the layer comes out differently")
	}
}

// plainLayer is the tar of a release's file.
func plainLayer(i int, content []byte) (diffID string, tar []byte) {
	packed, diffID := layer("file"+string(rune('0'+i)), content)
	return diffID, unzip(packed)
}

func unzip(packed []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		panic(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		panic(err)
	}
	return b
}

// read is content of the registry by a digest, or a manifest by its tag.
func (s *shop) read(repository, name string) []byte {
	s.t.Helper()
	if !strings.HasPrefix(name, "sha256:") {
		link, err := os.ReadFile(filepath.Join(s.dir, "registry/docker/registry/v2/repositories", repository, "_manifests/tags", name, "current/link"))
		if err != nil {
			s.t.Fatal(err)
		}
		name = string(link)
	}
	b, err := s.images.Read(repository, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *shop) unpacked(repository, blob string) []byte {
	s.t.Helper()
	f, err := s.images.Open(repository, blob)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close() // only read
	b, err := io.ReadAll(f)
	if err != nil {
		s.t.Fatal(err)
	}
	return unzip(b)
}
