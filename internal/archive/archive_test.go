package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/fault"
)

// sample is an image that tests make.
type sample struct {
	config []byte
	layers [][]byte // tars
}

func sha(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

func newSample(platform string, contents ...string) sample {
	var s sample
	var ids []string
	for _, c := range contents {
		b := tarOf(file{"file", []byte(c)})
		s.layers, ids = append(s.layers, b), append(ids, sha(b))
	}
	parts := strings.Split(platform+"//", "/")
	s.config = toJSON(map[string]any{
		"os": parts[0], "architecture": parts[1], "variant": parts[2], "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	return s
}

func toJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

type file struct {
	name    string
	content []byte
}

func tarOf(files ...file) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.content)), Mode: 0o644}
		if to, ok := bytes.CutPrefix(f.content, []byte("-> ")); ok {
			h = &tar.Header{Typeflag: tar.TypeSymlink, Name: f.name, Linkname: string(to)}
			f.content = nil
		}
		if err := errors.Join(w.WriteHeader(h), second(w.Write(f.content))); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func second(_ int, err error) error { return err }

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if err := errors.Join(second(w.Write(b)), w.Close()); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

func plain(b []byte) []byte { return b }

// docker is the sample as Docker 20.10 saves it. A layer that comes twice is a link to the first, as there.
func (s sample) docker(compress func([]byte) []byte) []file {
	m := map[string]any{"Config": hexOf(sha(s.config)) + ".json", "RepoTags": []string{"porch:1"}}
	var names []string
	var files []file
	first := map[string]string{}
	for i, l := range s.layers {
		name := fmt.Sprintf("%064d/layer.tar", i)
		names = append(names, name)
		if of, ok := first[sha(l)]; ok {
			files = append(files, file{name, []byte("-> ../" + of)})
			continue
		}
		first[sha(l)] = name
		files = append(files, file{name, compress(l)})
	}
	m["Layers"] = names
	return append(files, file{hexOf(sha(s.config)) + ".json", s.config}, file{"manifest.json", toJSON([]any{m})})
}

type descriptor map[string]any

// oci is the sample in an image layout, and the descriptor of its manifest.
func (s sample) oci(compress func([]byte) []byte) ([]file, descriptor) {
	var files []file
	add := func(mediaType string, b []byte) descriptor {
		files = append(files, file{"blobs/sha256/" + hexOf(sha(b)), b})
		return descriptor{"mediaType": mediaType, "digest": sha(b), "size": len(b)}
	}
	m := map[string]any{"schemaVersion": 2, "config": add("application/vnd.oci.image.config.v1+json", s.config)}
	var layers []descriptor
	for _, l := range s.layers {
		layers = append(layers, add("application/vnd.oci.image.layer.v1.tar", compress(l)))
	}
	m["layers"] = layers
	return files, add("application/vnd.oci.image.manifest.v1+json", toJSON(m))
}

func index(of ...descriptor) []byte {
	return toJSON(map[string]any{"schemaVersion": 2, "manifests": of})
}

// asTar and asFolder put an archive's files where they can be opened.
func asTar(t *testing.T, files ...file) string {
	return asFile(t, tarOf(files...))
}

func asFile(t *testing.T, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func asFolder(t *testing.T, files ...file) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mustBe opens an archive and compares everything in it with the sample, in both ways in which layers are read.
func (s sample) mustBe(t *testing.T, name string, o archive.Options) {
	t.Helper()
	o.Dir = t.TempDir()
	image, err := archive.Open(name, o)
	if err != nil {
		t.Fatal(err)
	}
	s.mustEqual(t, image)
	if err := image.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(o.Dir)
	if err != nil || len(left) != 0 {
		t.Fatalf("temporary files were left: %v, %v", left, err)
	}
}

func (s sample) mustEqual(t *testing.T, image *archive.Image) {
	t.Helper()
	if image.ID != sha(s.config) || !bytes.Equal(image.Config, s.config) || len(image.Layers) != len(s.layers) {
		t.Fatalf("the image is %s with %d layers, want %s with %d", image.ID, len(image.Layers), sha(s.config), len(s.layers))
	}
	for i, want := range s.layers {
		if image.Layers[i].DiffID != sha(want) {
			t.Fatalf("layer %d is %s, want %s", i, image.Layers[i].DiffID, sha(want))
		}
		for range 2 {
			r, err := image.Layers[i].Open()
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("layer %d read as a stream has other bytes: %d, want %d", i, len(got), len(want))
			}
		}
		r, size, err := image.Random(i)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, size)
		if _, err := r.ReadAt(got, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("layer %d read at random has other bytes: %d, want %d", i, len(got), len(want))
		}
	}
}

var compressions = map[string]func([]byte) []byte{"not compressed": plain, "compressed with gzip": gzipped, "compressed with zstd": zstded}

func TestAnImageIsReadAsItWasSavedWhateverTheArchive(t *testing.T) {
	s := newSample("linux/arm64", "below", "above", "below", strings.Repeat("large ", 50_000))
	for how, compress := range compressions {
		oci, of := s.oci(compress)
		oci = append(oci, file{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, file{"index.json", index(of)})
		t.Run("layers "+how, func(t *testing.T) {
			t.Run("docker save", func(t *testing.T) { s.mustBe(t, asTar(t, s.docker(compress)...), archive.Options{}) })
			t.Run("OCI layout in a tar", func(t *testing.T) { s.mustBe(t, asTar(t, oci...), archive.Options{}) })
			t.Run("OCI layout in a folder", func(t *testing.T) { s.mustBe(t, asFolder(t, oci...), archive.Options{}) })
		})
		t.Run("all of it "+how, func(t *testing.T) {
			s.mustBe(t, asFile(t, compress(tarOf(s.docker(plain)...))), archive.Options{})
		})
	}
}

func TestNamesThatBeginWithADotAreReadAsWell(t *testing.T) {
	s := newSample("linux/amd64", "x")
	files := s.docker(plain)
	for i := range files {
		files[i].name = "./" + files[i].name
	}
	s.mustBe(t, asTar(t, files...), archive.Options{})
}

func TestWhatIsWrittenIsReadAsTheSameImage(t *testing.T) {
	s := newSample("linux/amd64", "one", "two", "one")
	write := func(t *testing.T, leaveOut int) string {
		var layers []archive.Content
		for i, l := range s.layers {
			c := archive.Content{DiffID: sha(l), Size: int64(len(l)), Write: func(w io.Writer) error { return second(w.Write(l)) }}
			if i == leaveOut {
				c.Write = nil
			}
			layers = append(layers, c)
		}
		var b bytes.Buffer
		if err := archive.Write(&b, s.config, []string{"porch:2"}, layers); err != nil {
			t.Fatal(err)
		}
		return asFile(t, b.Bytes())
	}
	s.mustBe(t, write(t, -1), archive.Options{})
	if b, err := os.ReadFile(write(t, -1)); err != nil || bytes.Count(b, s.layers[0]) != 1 {
		t.Errorf("the layer that comes twice was written %d times, %v", bytes.Count(b, s.layers[0]), err)
	}

	var packed []archive.Content
	for _, l := range s.layers {
		z := gzipped(l)
		packed = append(packed, archive.Content{DiffID: sha(l), Packed: sha(z), Size: int64(len(z)), Write: func(w io.Writer) error { return second(w.Write(z)) }})
	}
	var b bytes.Buffer
	if err := archive.Write(&b, s.config, nil, packed); err != nil {
		t.Fatal(err)
	}
	s.mustBe(t, asFile(t, b.Bytes()), archive.Options{})
	packed[0].Packed = "sha256:../../x"
	if err := archive.Write(io.Discard, s.config, nil, packed); err == nil {
		t.Error("a layer was written to a name that is no digest")
	}

	image, err := archive.Open(write(t, 1), archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close() // only read
	if image.ID != sha(s.config) || !cmp.Equal(image.Tags, []string{"porch:2"}) {
		t.Errorf("image %s is called %v", image.ID, image.Tags)
	}
	if _, err := image.Layers[1].Open(); !fault.Is(err, fault.NotFound) {
		t.Errorf("opening the layer that was left out: %v, want that it is not found", err)
	}
	if r, err := image.Layers[2].Open(); err != nil {
		t.Errorf("the layer above it: %v", err)
	} else if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnArchiveIsNotWrittenOfWhatIsNotTheImage(t *testing.T) {
	s := newSample("linux/amd64", "one", "two")
	content := func(b []byte, size int64) archive.Content {
		return archive.Content{DiffID: sha(b), Size: size, Write: func(w io.Writer) error { return second(w.Write(b)) }}
	}
	size := int64(len(s.layers[0]))
	for name, layers := range map[string][]archive.Content{
		"a layer too few":   {content(s.layers[0], size)},
		"the wrong order":   {content(s.layers[1], size), content(s.layers[0], size)},
		"less than is said": {content(s.layers[0], size), content(s.layers[1], size+1)},
		"more than is said": {content(s.layers[0], size), content(s.layers[1], size-512)},
		"an error": {content(s.layers[0], size), {DiffID: sha(s.layers[1]), Size: 1, Write: func(io.Writer) error {
			return errors.New("the disk is gone")
		}}},
	} {
		err := archive.Write(io.Discard, s.config, nil, layers)
		if err == nil {
			t.Errorf("%s: an archive was written", name)
		} else if strings.Contains(name, "said") && !strings.Contains(err.Error(), hexOf(sha(s.layers[1]))) {
			t.Errorf("%s: %v, want that it names the layer", name, err)
		}
	}
}

func TestOneOfSeveralPlatformsIsChosen(t *testing.T) {
	samples := map[string]sample{}
	var files []file
	var of []descriptor
	for _, p := range []string{"linux/amd64", "linux/arm64", "linux/arm/v6", "linux/arm/v7"} {
		samples[p] = newSample(p, "for "+p)
		more, d := samples[p].oci(plain)
		parts := strings.Split(p+"//", "/")
		d["platform"] = map[string]string{"os": parts[0], "architecture": parts[1], "variant": parts[2]}
		files, of = append(files, more...), append(of, d)
	}
	// What engines and build tools put beside the images.
	of = append(of,
		descriptor{"digest": sha([]byte("s390x")), "platform": map[string]string{"os": "linux", "architecture": "s390x"}},
	)
	how, d := newSample("unknown/unknown", "how it was built").oci(plain)
	d["annotations"] = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	files, of = append(files, how...), append(of, d)
	inner := index(of...)
	files = append(files, file{"blobs/sha256/" + hexOf(sha(inner)), inner},
		file{"index.json", index(descriptor{"digest": sha(inner), "annotations": map[string]string{"io.containerd.image.name": "docker.io/library/porch:1"}})})
	name := asTar(t, files...)

	for asked, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/arm64": "linux/arm64", "linux/arm64/v8": "linux/arm64", "linux/arm/v6": "linux/arm/v6", "linux/arm/v7": "linux/arm/v7",
	} {
		samples[want].mustBe(t, name, archive.Options{Platform: asked})
	}
	for asked, want := range map[string]struct {
		kind fault.Kind
		text string
	}{
		"":            {fault.Invalid, "4 images and not one: for linux/amd64, linux/arm64, linux/arm/v6, linux/arm/v7"},
		"linux/arm":   {fault.Invalid, "2 images for linux/arm"},
		"linux/s390x": {fault.NotFound, "not for linux/s390x"},
		"windows":     {fault.Invalid, "not a platform"},
		"linux//v8":   {fault.Invalid, "not a platform"},
	} {
		_, err := archive.Open(name, archive.Options{Platform: asked})
		if !fault.Is(err, want.kind) || !strings.Contains(fault.Message(err), want.text) || fault.Hint(err) == "" && want.kind == fault.Invalid {
			t.Errorf("--platform %q: %v (hint %q), want %q", asked, err, fault.Hint(err), want.text)
		}
	}

	// Docker writes one of them into a manifest.json as well, which is the one if nobody asks for another.
	both := append(samples["linux/amd64"].docker(plain), files...)
	samples["linux/amd64"].mustBe(t, asTar(t, both...), archive.Options{})
	samples["linux/arm64"].mustBe(t, asTar(t, both...), archive.Options{Platform: "linux/arm64"})
}

func TestWhatIsNoImageIsRefusedInWords(t *testing.T) {
	s := newSample("linux/amd64", "x")
	oci, of := s.oci(plain)
	ociIndex := file{"index.json", index(of)}
	without := func(files []file, part string) []file {
		var left []file
		for _, f := range files {
			if !strings.Contains(f.name, part) {
				left = append(left, f)
			}
		}
		return left
	}
	one := func(m string) []file {
		return append(without(s.docker(plain), "manifest"), file{"manifest.json", []byte(m)})
	}
	loop := s.docker(plain)
	loop[1] = file{loop[1].name, []byte("-> " + loop[1].name)}
	twisted := strings.Replace(string(s.config), `"diff_ids":["`, `"diff_ids":["../`, 1)
	deep := index(of)
	nested := append([]file{}, oci...)
	for range 10 {
		nested = append(nested, file{"blobs/sha256/" + hexOf(sha(deep)), deep})
		deep = index(descriptor{"digest": sha(deep)})
	}
	for name, c := range map[string]struct {
		path string
		want string
	}{
		"nothing there":           {filepath.Join(t.TempDir(), "none.tar"), "no such file"},
		"an empty file":           {asFile(t, nil), "neither manifest.json nor index.json"},
		"something else":          {asFile(t, []byte("#!/bin/sh\necho hello\n")), "as a tar"},
		"a layer, not an image":   {asFile(t, s.layers[0]), "neither manifest.json nor index.json"},
		"half of an archive":      {asFile(t, tarOf(s.docker(plain)...)[:1000]), "unexpected EOF"},
		"half of a gzip file":     {asFile(t, gzipped(tarOf(s.docker(plain)...))[:100]), "unexpected EOF"},
		"an empty folder":         {t.TempDir(), "neither manifest.json nor index.json"},
		"two images":              {asTar(t, one(`[{"RepoTags":["a:1"]},{"RepoTags":["b:1"]}]`)...), "a:1, b:1"},
		"no image":                {asTar(t, one(`[]`)...), "0 images"},
		"no JSON":                 {asTar(t, one(`{`)...), "manifest.json"},
		"a path out of it":        {asTar(t, one(`[{"Config":"../../etc/passwd"}]`)...), "not exist"},
		"no config":               {asTar(t, without(s.docker(plain), ".json")...), "neither"},
		"a link to itself":        {asTar(t, loop...), "not exist"},
		"too few layers":          {asTar(t, one(`[{"Config":"`+hexOf(sha(s.config))+`.json","Layers":[]}]`)...), "names 1 layers, and it has 0"},
		"a digest that is a path": {asTar(t, file{"c", []byte(twisted)}, file{"manifest.json", []byte(`[{"Config":"c","Layers":["l"]}]`)}), "is no digest"},
		"a folder for a manifest": {asFolder(t, file{"manifest.json/x", nil}), "is no file"},
		"a large document":        {asTar(t, file{"manifest.json", make([]byte, 9<<20)}), "bytes"},
		"an index without blobs":  {asTar(t, ociIndex), "does not have them"},
		"a damaged blob": {asTar(t, ociIndex, file{"blobs/sha256/" + hexOf(of["digest"].(string)), []byte("{}")}),
			"is damaged"},
		"a digest of another kind": {asTar(t, file{"index.json", index(descriptor{"digest": "sha512:00"})}), "no digest that is known"},
		"an index without end":     {asTar(t, append(nested, file{"index.json", deep})...), "deep"},
		"a delta": {asTar(t, file{"blobs/sha256/" + hexOf(sha([]byte(`{"config":{"mediaType":"application/vnd.oci.empty.v1+json"}}`))),
			[]byte(`{"config":{"mediaType":"application/vnd.oci.empty.v1+json"}}`)},
			file{"index.json", index(descriptor{"digest": sha([]byte(`{"config":{"mediaType":"application/vnd.oci.empty.v1+json"}}`))})}), "there is none in it"},
	} {
		o := archive.Options{Dir: t.TempDir()}
		image, err := archive.Open(c.path, o)
		if err == nil {
			t.Errorf("%s: opened %s", name, image.ID)
			continue
		}
		if fault.KindOf(err) == fault.Internal || !strings.Contains(fault.Message(err), c.want) || !strings.Contains(fault.Message(err), path.Base(c.path)) {
			t.Errorf("%s: %v, want a sentence with %q", name, err, c.want)
		}
		if left, err := os.ReadDir(o.Dir); err != nil || len(left) > 0 {
			t.Errorf("%s: temporary files were left: %v, %v", name, left, err)
		}
	}
}

func TestNoLinkLeadsOutOfAFolder(t *testing.T) {
	s := newSample("linux/amd64", "x")
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, s.config, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := asFolder(t, s.docker(plain)...)
	config := filepath.Join(dir, hexOf(sha(s.config))+".json")
	if err := errors.Join(os.Remove(config), os.Symlink(outside, config)); err != nil {
		t.Fatal(err)
	}
	if image, err := archive.Open(dir, archive.Options{}); err == nil {
		t.Errorf("a config outside the folder was read: %s", image.ID)
	}
}

func FuzzNoArchiveBreaksTheReader(f *testing.F) {
	s := newSample("linux/amd64", "x", "y", "x")
	f.Add(tarOf(s.docker(plain)...))
	f.Add(gzipped(tarOf(s.docker(zstded)...)))
	oci, of := s.oci(gzipped)
	f.Add(tarOf(append(oci, file{"index.json", index(of)})...))
	f.Fuzz(func(t *testing.T, b []byte) {
		image, err := archive.Open(asFile(t, b), archive.Options{Dir: t.TempDir()})
		if err != nil {
			if fault.KindOf(err) == fault.Internal {
				t.Fatalf("no sentence for a person: %v", err)
			}
			return
		}
		for i := range image.Layers {
			if r, err := image.Layers[i].Open(); err == nil {
				_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20)) // may be damaged
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := image.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
