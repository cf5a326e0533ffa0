package registry_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/dunlin/dunlin/internal/registry"
)

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// artifact puts one beside an image, of a file, and returns the digests of its manifest and of its content.
func (s *server) artifact(repository, kind, tag string, content []byte) (manifest, blob string) {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "content")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		s.t.Fatal(err)
	}
	text := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":%q,
		"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},
		"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`, kind, digest([]byte("{}")), kind, digest(content), len(content))
	if err := s.images.Put(repository, []registry.Blob{
		{Digest: digest([]byte("{}")), Bytes: []byte("{}")}, {Digest: digest(content), Path: path},
	}, text, tag); err != nil {
		s.t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		s.t.Error("the file is still where it was")
	}
	return digest(text), digest(content)
}

// fetch gets something of a repository as a client does, from a byte on.
func (s *server) fetch(key, repository, what string, from int) (int, []byte) {
	s.t.Helper()
	r, err := http.NewRequest("GET", s.URL+"/auth/v1/token?service="+service+"&scope=repository:"+repository+":pull", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.SetBasicAuth("d_uuid", key)
	token := s.body(r)
	token = token[bytes.IndexByte(token, ':')+2 : bytes.LastIndexByte(token, '"')]
	if r, err = http.NewRequest("GET", s.URL+"/v2/"+repository+"/"+what, nil); err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+string(token))
	if from > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, b
}

func (s *server) body(r *http.Request) []byte {
	s.t.Helper()
	answer, err := s.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 200 {
		s.t.Fatal(answer.Status, string(b), err)
	}
	return b
}

func TestAnArtifactThatTheServerPutsIsFetchedAsIfAClientHadPushedIt(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	image := newImage(t, 20_000, 2)
	if err := remote.Write(s.ref(s.running), image, s.as(s.ada)...); err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("delta"), 3000)
	manifest, blob := s.artifact(s.running, "x/delta", "delta-0123456789abcdef", content)
	for _, reference := range []string{":delta-0123456789abcdef", "@" + manifest} {
		ref, err := name.ParseReference(s.host + "/" + s.running + reference)
		if err != nil {
			t.Fatal(err)
		}
		got, err := remote.Get(ref, s.as(s.porch)...)
		if err != nil || got.Digest.String() != manifest {
			t.Errorf("%s: %v, %v", reference, got, err)
		}
	}
	if status, got := s.fetch(s.porch, s.running, "blobs/"+blob, 0); status != 200 || !bytes.Equal(got, content) {
		t.Errorf("%d, %d bytes", status, len(got))
	}
	if status, got := s.fetch(s.porch, s.running, "blobs/"+blob, 14_990); status != 206 || !bytes.Equal(got, content[14_990:]) {
		t.Errorf("%d, %d bytes", status, len(got))
	}
	if status, _ := s.fetch(s.trap, s.running, "blobs/"+blob, 0); status == 200 {
		t.Error("another tenant's device fetches it")
	}
	s.same(s.running, image, s.porch)

	// It is kept as long as its image is, and its image goes on being there without it.
	s.later(4 * time.Hour)
	s.collect(s.running)
	if status, got := s.fetch(s.porch, s.running, "blobs/"+blob, 0); status != 200 || !bytes.Equal(got, content) {
		t.Errorf("after a collection: %d, %d bytes", status, len(got))
	}
	freed, err := s.images.Drop(t.Context(), s.running, manifest, blob)
	if err != nil || freed < int64(len(content)) {
		t.Errorf("%d bytes freed, %v", freed, err)
	}
	for _, what := range []string{"blobs/" + blob, "manifests/" + manifest, "manifests/delta-0123456789abcdef"} {
		if status, _ := s.fetch(s.porch, s.running, what, 0); status != 404 {
			t.Errorf("%s is answered with %d", what, status)
		}
	}
	if _, err := s.images.Drop(t.Context(), s.running, manifest, blob); err != nil {
		t.Errorf("dropped twice: %v", err)
	}
	s.collect(s.running)
	s.same(s.running, image, s.porch)
	// What went can come again.
	again, _ := s.artifact(s.running, "x/delta", "", content)
	if status, got := s.fetch(s.porch, s.running, "blobs/"+blob, 0); status != 200 || !bytes.Equal(got, content) || again != manifest {
		t.Errorf("the second time: %d, %d bytes", status, len(got))
	}
}

func TestArtifactsThatNobodyNamesAreCollected(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	image := newImage(t, 20_000, 1)
	for _, repository := range []string{s.running, s.evesImage} {
		key := map[string]string{s.running: s.ada, s.evesImage: s.eve}[repository]
		if err := remote.Write(s.ref(repository), image, s.as(key)...); err != nil {
			t.Fatal(err)
		}
	}
	wanted, one := s.artifact(s.running, "x/delta", "", []byte("one"))
	_, two := s.artifact(s.running, "x/delta", "delta-2", []byte("two"))
	_, three := s.artifact(s.evesImage, "x/delta", "", []byte("three"))
	_, other := s.artifact(s.running, "x/signature", "", []byte("four"))
	asked := map[string]bool{}
	keep := func(repository, manifest string) (bool, error) {
		asked[repository] = true
		return manifest == wanted, nil
	}
	if err := s.images.CollectArtifacts(t.Context(), "x/delta", keep); err != nil || len(asked) != 2 {
		t.Errorf("asked of %v, %v", asked, err)
	}
	s.later(4 * time.Hour)
	s.collect(s.running, s.evesImage)
	for blob, c := range map[string]struct {
		key, repository string
		want            int
	}{
		one: {s.porch, s.running, 200}, other: {s.porch, s.running, 200}, two: {s.porch, s.running, 404}, three: {s.trap, s.evesImage, 404},
	} {
		if status, _ := s.fetch(c.key, c.repository, "blobs/"+blob, 0); status != c.want {
			t.Errorf("%s is answered with %d, not %d", blob, status, c.want)
		}
	}
	s.same(s.running, image, s.porch)
	s.same(s.evesImage, image, s.trap)
	// While it cannot be said what is named, nothing goes.
	failed := errors.New("no database")
	if err := s.images.CollectArtifacts(t.Context(), "x/delta", func(string, string) (bool, error) { return false, failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if _, err := s.images.Read(s.running, wanted); err != nil {
		t.Error(err)
	}
}

func TestTheServerReadsOnlyWhatARepositoryHas(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	image := newImage(t, 20_000, 1)
	if err := remote.Write(s.ref(s.running), image, s.as(s.ada)...); err != nil {
		t.Fatal(err)
	}
	d, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.images.Read(s.running, d.String()); err != nil || digest(b) != d.String() {
		t.Errorf("%s, %v", b, err)
	}
	for _, c := range [][2]string{
		{s.evesImage, d.String()}, {s.running, digest([]byte("nothing"))}, {"v2/../" + s.running[3:], d.String()}, {"../../../../etc", d.String()},
		{s.running, "sha256:" + strings.Repeat("0", 63)}, {s.running, "sha256:../../../../../passwd"}, {s.running, ""},
	} {
		if _, err := s.images.Read(c[0], c[1]); err == nil {
			t.Errorf("%s of %s was read", c[1], c[0])
		}
	}
	hex := strings.TrimPrefix(d.String(), "sha256:")
	if err := os.WriteFile(filepath.Join(s.dir, layout, "blobs/sha256", hex[:2], hex, "data"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.images.Read(s.running, d.String()); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged manifest: %v", err)
	}
	if err := s.images.Put("../x", nil, []byte("{}"), ""); err == nil {
		t.Error("something was put outside")
	}
	if err := s.images.Put(s.running, nil, []byte("{}"), "../x"); err == nil {
		t.Error("something was tagged outside")
	}
}
