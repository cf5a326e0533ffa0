package registry_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"

	"github.com/dunlin/dunlin/internal/fleet"
)

const layout = "docker/registry/v2"

func (s *server) collect(keep ...string) int64 {
	s.t.Helper()
	freed, err := s.images.Collect(s.t.Context(), func(repository string) bool {
		for _, k := range keep {
			if k == repository {
				return true
			}
		}
		return false
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return freed
}

// size is how many bytes the files below a folder of the registry have.
func (s *server) size(below string) (n int64) {
	s.t.Helper()
	err := filepath.WalkDir(filepath.Join(s.dir, below), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func TestCollectRemovesWhatNobodyKeepsAndFreesItsSpace(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	other := repository("e")
	s.image(s.home, other, fleet.Running)
	kept := newImage(t, 50_000, 2)
	more := newImage(t, 70_000, 1)
	layers, err := more.Layers()
	if err != nil {
		t.Fatal(err)
	}
	// The one that goes has the layers of the one that stays, and one of its own.
	gone, err := mutate.AppendLayers(kept, layers...)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(s.ref(s.running), kept, s.as(s.ada)...); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(s.ref(other), gone, s.as(s.ada)...); err != nil {
		t.Fatal(err)
	}

	if freed := s.collect(); freed != 0 {
		t.Errorf("%d bytes freed of what was pushed just now", freed)
	}
	s.same(other, gone, s.ada)

	s.later(4 * time.Hour)
	if freed := s.collect(s.running, other); freed != 0 {
		t.Errorf("%d bytes freed while all is kept", freed)
	}
	s.same(other, gone, s.ada)

	before := s.size("")
	freed := s.collect(s.running)
	after, err := s.images.Size(t.Context())
	if freed < 70_000 || freed > 80_000 || after != before-freed || after != s.size("") || err != nil {
		t.Errorf("%d bytes freed, the folder went from %d to %d, %v", freed, before, after, err)
	}
	s.same(s.running, kept, s.porch)
	if _, err := remote.Image(s.ref(other), s.as(s.ada)...); err == nil {
		t.Error("the image is still there")
	}
	if freed := s.collect(s.running); freed != 0 {
		t.Errorf("%d bytes freed the second time", freed)
	}
	// What went can come again: nothing remembers that it was there.
	if err := remote.Write(s.ref(other), gone, s.as(s.ada)...); err != nil {
		t.Fatal(err)
	}
	s.same(other, gone, s.ada)
}

func TestCollectKeepsTheStagesOfAnImage(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	img := newImage(t, 1000, 1)
	for _, suffix := range []string{"", "-1", "-12"} {
		if err := remote.Write(s.ref(s.running+suffix), img, s.as(s.ada)...); err != nil {
			t.Fatal(err)
		}
	}
	s.later(4 * time.Hour)
	s.collect(s.running)
	s.same(s.running+"-12", img, s.ada)
	s.collect()
	for _, suffix := range []string{"", "-1", "-12"} {
		if _, err := remote.Image(s.ref(s.running+suffix), s.as(s.ada)...); err == nil {
			t.Errorf("%s is still there", s.running+suffix)
		}
	}
}

// upload begins an upload and returns where it goes on.
func (s *server) upload(repository, token string) string {
	s.t.Helper()
	answer := s.get(http.MethodPost, "/v2/"+repository+"/blobs/uploads/", token)
	if answer.StatusCode != http.StatusAccepted {
		s.t.Fatalf("begin upload: %s", answer.Status)
	}
	return answer.Header.Get("Location")
}

// send sends a part of an upload, or with a digest its end.
func (s *server) send(method, location, token, digest string, body io.Reader) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+location, body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/octet-stream")
	if digest != "" {
		q := r.URL.Query()
		q.Set("digest", digest)
		r.URL.RawQuery = q.Encode()
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	answer.Body.Close()
	return answer
}

func TestCollectSparesAPushUnderWay(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	token, err := s.auth.BuilderToken(s.running)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := newImage(t, 5000, 1).Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layer[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	blob, err := layer[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(blob)
	if err != nil {
		t.Fatal(err)
	}
	// One layer has come and no manifest yet; half of another one.
	location := s.upload(s.running, token)
	if answer := s.send(http.MethodPut, location, token, digest.String(), bytes.NewReader(content)); answer.StatusCode != 201 {
		t.Fatalf("push layer: %s", answer.Status)
	}
	half := s.upload(s.running, token)
	answer := s.send(http.MethodPatch, half, token, "", bytes.NewReader(content[:1000]))
	if answer.StatusCode != 202 {
		t.Fatalf("push half a layer: %s", answer.Status)
	}
	half = answer.Header.Get("Location")

	s.later(2 * time.Hour)
	if freed := s.collect(); freed != 0 {
		t.Errorf("%d bytes freed", freed)
	}
	head := "/v2/" + s.running + "/blobs/" + digest.String()
	if answer := s.get(http.MethodHead, head, token); answer.StatusCode != 200 {
		t.Errorf("the layer of a push under way: %s", answer.Status)
	}
	answer = s.send(http.MethodPatch, half, token, "", bytes.NewReader(content[1000:2000]))
	if answer.StatusCode != 202 {
		t.Errorf("go on with an upload: %s", answer.Status)
	}
	half = answer.Header.Get("Location")

	// Hours later the layer goes: no manifest came. The upload stays for a day.
	s.later(2 * time.Hour)
	if freed := s.collect(s.running); freed < int64(len(content)) {
		t.Errorf("%d bytes freed, want the layer's %d", freed, len(content))
	}
	if answer := s.get(http.MethodHead, head, token); answer.StatusCode != 404 {
		t.Errorf("a layer that nothing refers to: %s", answer.Status)
	}
	if answer := s.send(http.MethodPut, half, token, digest.String(), bytes.NewReader(content[2000:])); answer.StatusCode != 201 {
		t.Errorf("end the upload: %s", answer.Status)
	}
	half = s.upload(s.running, token)
	s.later(30 * time.Hour)
	s.collect(s.running)
	if answer := s.send(http.MethodPut, half, token, digest.String(), bytes.NewReader(content)); answer.StatusCode != 404 {
		t.Errorf("an upload that rested for a day goes on: %s", answer.Status)
	}
}

func TestASlowUploadHoldsUpNeitherCollectNorOthers(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	token, err := s.auth.BuilderToken(s.running)
	if err != nil {
		t.Fatal(err)
	}
	location := s.upload(s.running, token)
	body, feed := io.Pipe()
	slow := make(chan int)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+location+"&digest=sha256:"+strings.Repeat("0", 64), body)
		if err != nil {
			panic(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := s.Client().Do(r)
		if err != nil {
			slow <- 0
			return
		}
		answer.Body.Close()
		slow <- answer.StatusCode
	}()
	if _, err := feed.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	for s.size(filepath.Join(layout, "repositories", s.running)) < 50_000 { // until the server is in the middle of it
		time.Sleep(time.Millisecond)
	}
	s.collect() // would never end if it waited for the upload, nor would the push after it
	if err := remote.Write(s.ref(s.running), newImage(t, 100, 1), s.as(s.ada)...); err != nil {
		t.Error(err)
	}
	feed.Close()
	if status := <-slow; status != 400 { // the digest is wrong
		t.Errorf("the slow upload ended with %d", status)
	}
}

func TestAPushWaitsAtItsEndForCollectAndThenSucceeds(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	if err := remote.Write(s.ref(s.running), newImage(t, 1000, 1), s.as(s.ada)...); err != nil {
		t.Fatal(err)
	}
	s.later(4 * time.Hour)
	img := newImage(t, 1000, 1)
	pushed := make(chan error, 1)
	if _, err := s.images.Collect(t.Context(), func(string) bool {
		go func() { pushed <- remote.Write(s.ref(s.running), img, s.as(s.ada)...) }()
		select {
		case err := <-pushed:
			t.Errorf("a push went past Collect: %v", err)
		case <-time.After(200 * time.Millisecond): // long enough for a push that does not wait
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-pushed; err != nil {
		t.Error(err)
	}
	s.same(s.running, img, s.porch)
}

func TestPushesAndCollectsAtOnceHarmNoImage(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	base := newImage(t, 20_000, 2)
	var g errgroup.Group
	for i := range 6 {
		repo := "v2/" + fmt.Sprintf("%032x", i)
		s.image(s.home, repo, fleet.Running)
		layers, err := newImage(t, 3000, 1).Layers()
		if err != nil {
			t.Fatal(err)
		}
		img, err := mutate.AppendLayers(base, layers...)
		if err != nil {
			t.Fatal(err)
		}
		g.Go(func() error {
			if err := remote.Write(s.ref(repo), img, s.as(s.ada)...); err != nil {
				return err
			}
			s.same(repo, img, s.porch)
			return nil
		})
		g.Go(func() error {
			_, err := s.images.Collect(t.Context(), func(string) bool { return true })
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func TestCollectTakesOddRepositoriesInItsStride(t *testing.T) {
	s := newServer(t, httptest.NewServer)
	if freed := s.collect(); freed != 0 {
		t.Errorf("%d bytes freed of an empty registry", freed)
	}
	// An index of nothing: a manifest without any layer.
	ref := s.ref(s.running)
	if err := remote.WriteIndex(ref, empty.Index, s.as(s.ada)...); err != nil {
		t.Fatal(err)
	}
	// What a killed process may leave: a temporary file, and a folder with nothing in it.
	dir := filepath.Join(s.dir, layout, "repositories", s.running)
	if err := os.WriteFile(filepath.Join(dir, "_manifests", "link.0.tmp"), make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.dir, layout, "repositories/v2/x/_uploads"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.later(48 * time.Hour)
	if freed := s.collect(s.running); freed != 100 {
		t.Errorf("%d bytes freed, want the 100 of the temporary file", freed)
	}
	if _, err := remote.Index(ref, s.as(s.ada)...); err != nil {
		t.Error(err)
	}
	s.collect()
	var left []string
	err := filepath.WalkDir(filepath.Join(s.dir, "docker"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, path)
		}
		return err
	})
	if err != nil || len(left) > 0 {
		t.Errorf("nothing is kept, and there are %v, %v", left, err)
	}
}
