package dockerengine_test

import (
	"archive/tar"
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/dockerengine"
	"github.com/dunlin/dunlin/internal/engine/enginetest"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// place is an engine that tests may use and the network on which it finds their registries.
type place struct {
	host   string
	listen func() (net.Listener, error)
}

// somewhere is a place for containers. DUNLIN_TEST_ENGINE says which engine; otherwise it is one of the test's own, and
// only where that cannot be, the machine's: an agent that runs there takes all that is supervised for its own, and
// removes it.
func somewhere(t *testing.T) place {
	t.Helper()
	host := os.Getenv("DUNLIN_TEST_ENGINE")
	if host == "" {
		d, err := newDaemon(t, "512m")
		if err == nil {
			return d.place
		}
		t.Logf("no engine of the test's own: %v", err)
		host = "unix:///var/run/docker.sock"
	}
	api, err := client.New(client.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := api.Ping(ctx, client.PingOptions{}); err != nil {
		if os.Getenv("DUNLIN_TEST_REQUIRE") == "1" {
			t.Fatalf("no container engine: %v", err)
		}
		t.Skipf("no container engine: %v", err)
	}
	return place{host, func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }}
}

func open(t *testing.T, host string) *dockerengine.Engine {
	t.Helper()
	e, err := dockerengine.New(host)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// probe is the suite's program as a layer, compiled once.
var probe = sync.OnceValues(func() (v1.Layer, error) {
	dir, err := os.MkdirTemp("", "dunlin-probe-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "probe")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "../enginetest/testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the probe: %w: %s", err, out)
	}
	program, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return layer(map[string][]byte{"probe": program})
})

func layer(files map[string][]byte) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return static.NewLayer(b.Bytes(), types.DockerUncompressedLayer), nil
}

// random is a layer of its own of that many bytes.
func random(t *testing.T, bytes int) v1.Layer {
	t.Helper()
	content := make([]byte, bytes)
	crand.Read(content)
	l, err := layer(map[string][]byte{"random-" + crand.Text(): content})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// image has the probe as its entrypoint, a label, a variable and layers.
func image(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	program, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	i, err := mutate.AppendLayers(empty.Image, append([]v1.Layer{program}, layers...)...)
	if err != nil {
		t.Fatal(err)
	}
	config, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	i, err = mutate.ConfigFile(i, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, RootFS: config.RootFS,
		Config: v1.Config{Entrypoint: []string{"/probe"}, Labels: map[string]string{"maker": "the suite"}, Env: []string{"IMAGE=1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// shelf is a registry in this process, and what tests do to the requests it gets.
type shelf struct {
	http.Handler
	host string
	mu   sync.Mutex
	edit []func(w http.ResponseWriter, r *http.Request, next http.Handler) (handled bool)
}

func newShelf(t *testing.T, p place) *shelf {
	t.Helper()
	l, err := p.listen() // on loopback, where engines take registries without TLS
	if err != nil {
		t.Fatal(err)
	}
	s := &shelf{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), host: l.Addr().String()}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		edit := s.edit
		s.mu.Unlock()
		for _, f := range edit {
			if f(w, r, s.Handler) {
				return
			}
		}
		s.Handler.ServeHTTP(w, r)
	})}}
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

// RoundTrip lets tests push without the network that the registry may be on.
func (s *shelf) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	s.Handler.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// put pushes an image into a repository of its own and returns its reference.
func (s *shelf) put(t *testing.T, i v1.Image) string {
	t.Helper()
	var id [16]byte
	crand.Read(id[:])
	repository, err := name.NewRepository(fmt.Sprintf("%s/v2/%x", s.host, id), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(repository.Tag("latest"), i, remote.WithTransport(s)); err != nil {
		t.Fatal(err)
	}
	return repository.Digest(digest.String()).String()
}

// when has f answer requests from now on; f says whether it did.
func (s *shelf) when(f func(w http.ResponseWriter, r *http.Request, next http.Handler) (handled bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.edit = append(s.edit, f)
}

// stall has the blob of l arrive by half until release is called.
func (s *shelf) stall(t *testing.T, l v1.Layer) (release func()) {
	t.Helper()
	digest, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	size, err := l.Size()
	if err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	var once sync.Once
	release = func() { once.Do(func() { close(gate) }) }
	t.Cleanup(release)
	s.when(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/blobs/"+digest.String()) {
			return false
		}
		next.ServeHTTP(&halting{ResponseWriter: w, left: size / 2, wait: func() {
			select {
			case <-gate:
			case <-r.Context().Done():
			}
		}}, r)
		return true
	})
	return release
}

// halting waits before it writes what is beyond left bytes.
type halting struct {
	http.ResponseWriter
	left int64
	wait func()
}

func (h *halting) Write(p []byte) (int, error) {
	if int64(len(p)) <= h.left {
		h.left -= int64(len(p))
		return h.ResponseWriter.Write(p)
	}
	n, err := h.ResponseWriter.Write(p[:h.left])
	if err != nil {
		return n, err
	}
	h.ResponseWriter.(http.Flusher).Flush()
	h.wait()
	h.left = 1 << 62
	m, err := h.ResponseWriter.Write(p[n:])
	return n + m, err
}

// ask has the registry ask for credentials.
func (s *shelf) ask(who engine.Credentials) {
	s.when(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if user, password, ok := r.BasicAuth(); ok && user == who.Username && password == who.Password {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return true
	})
}

func fixture(p place) enginetest.Fixture {
	return enginetest.Fixture{
		Image: func(t *testing.T) string { return newShelf(t, p).put(t, image(t, random(t, 1000))) },
		Slow: func(t *testing.T) (string, func()) {
			s, large := newShelf(t, p), random(t, 4<<20)
			ref := s.put(t, image(t, random(t, 1000), large))
			return ref, s.stall(t, large)
		},
		Private: func(t *testing.T) (string, engine.Credentials) {
			s, who := newShelf(t, p), engine.Credentials{Username: "d_1", Password: "secret"}
			ref := s.put(t, image(t, random(t, 1000)))
			s.ask(who)
			return ref, who
		},
		Forged: func(t *testing.T) string {
			s := newShelf(t, p)
			forged := image(t, random(t, 2000))
			s.put(t, forged)
			ref := s.put(t, image(t, random(t, 1000)))
			manifest, err := forged.RawManifest()
			if err != nil {
				t.Fatal(err)
			}
			s.when(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				w.Header().Set("Content-Type", string(types.DockerManifestSchema2))
				w.Write(manifest)
				return true
			})
			return ref
		},
		Successor: func(t *testing.T) enginetest.Successor { return successor(t, p) },
		Foreign:   func(t *testing.T, name string) func() error { return foreign(t, p, name) },
	}
}

// successor puts two images into a registry that share the layer with the probe and have one of their own.
func successor(t *testing.T, p place) enginetest.Successor {
	t.Helper()
	s, top := newShelf(t, p), random(t, 100_000)
	first, second := image(t, random(t, 100_000)), image(t, top)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	out := enginetest.Successor{Old: s.put(t, first), New: s.put(t, second)}
	ids := func(i v1.Image) (all []string) {
		config, err := i.ConfigFile()
		must(err)
		for _, d := range config.RootFS.DiffIDs {
			all = append(all, d.String())
		}
		return all
	}
	out.DiffIDs = ids(first)
	id, err := second.ConfigName()
	must(err)
	out.ID = id.String()
	config, err := second.RawConfigFile()
	must(err)
	size, err := top.Size()
	must(err)
	var b bytes.Buffer
	next := ids(second)
	must(archive.Write(&b, config, []string{engine.Loaded}, []archive.Content{{DiffID: next[0]}, {DiffID: next[1], Size: size, Write: func(w io.Writer) error {
		r, err := top.Uncompressed()
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(w, r)
		return err
	}}}))
	out.Archive = b.Bytes()
	repository, _, _ := strings.Cut(strings.TrimPrefix(out.New, s.host+"/"), "@")
	var sent atomic.Int64
	s.when(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !strings.HasPrefix(r.URL.Path, "/v2/"+repository+"/") {
			return false
		}
		next.ServeHTTP(&counting{w, &sent}, r)
		return true
	})
	out.Travelled = sent.Load
	return out
}

// counting counts the bytes of an answer.
type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// foreign makes objects that the agent did not.
func foreign(t *testing.T, p place, name string) (intact func() error) {
	t.Helper()
	ctx := context.Background()
	api, err := client.New(client.WithHost(p.host))
	if err != nil {
		t.Fatal(err)
	}
	ref := newShelf(t, p).put(t, image(t, random(t, 1000)))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		api.ContainerRemove(ctx, name, client.ContainerRemoveOptions{Force: true})
		api.NetworkRemove(ctx, name, client.NetworkRemoveOptions{})
		api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
		api.ImageRemove(ctx, ref, client.ImageRemoveOptions{PruneChildren: true})
		api.Close()
	})
	pull, err := api.ImagePull(ctx, ref, client.ImagePullOptions{})
	must(err)
	must(pull.Wait(ctx))
	made, err := api.ContainerCreate(ctx, client.ContainerCreateOptions{Name: name, Config: &container.Config{Image: ref}})
	must(err)
	_, err = api.ContainerStart(ctx, made.ID, client.ContainerStartOptions{})
	must(err)
	net, err := api.NetworkCreate(ctx, name, client.NetworkCreateOptions{Driver: "bridge"})
	must(err)
	vol, err := api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name})
	must(err)
	return func() error {
		c, err := api.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
		if err != nil || c.Container.ID != made.ID || !c.Container.State.Running {
			return fmt.Errorf("the container: %+v, %w", c.Container, err)
		}
		n, err := api.NetworkInspect(ctx, name, client.NetworkInspectOptions{})
		if err != nil || n.Network.ID != net.ID || len(n.Network.Containers) > 0 {
			return fmt.Errorf("the network: %+v, %w", n.Network, err)
		}
		v, err := api.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
		if err != nil || v.Volume.CreatedAt != vol.Volume.CreatedAt {
			return errors.Join(fmt.Errorf("the volume: %+v", v.Volume), err)
		}
		return nil
	}
}

// unique is a name that no other test has.
func unique() string { return "dunlin-test-" + strings.ToLower(crand.Text()[:10]) }
