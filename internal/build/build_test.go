package build_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fault"
)

const token = "a-token-for-one-repository"

// shelf is a registry in the process that takes the one token and notes what was uploaded.
type shelf struct {
	host string

	mu      sync.Mutex
	uploads int             // blobs sent
	has     map[string]bool // path of a blob in its repository
}

func newShelf(t *testing.T) *shelf { return newShelfAt(t, "127.0.0.1") }

func newShelfAt(t *testing.T, ip string) *shelf {
	t.Helper()
	s := &shelf{has: map[string]bool{}}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Like the real one: a token is good for its repository and not for mounting layers from others.
		if r.Header.Get("Authorization") != "Bearer "+token || r.URL.Query().Has("from") {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/auth/v1/token",service="`+r.Host+`"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		// And a blob is there only in the repository it was sent to.
		repository, blob, _ := strings.Cut(r.URL.Path, "/blobs/")
		s.mu.Lock()
		if r.Method == http.MethodPut && strings.HasPrefix(blob, "uploads/") {
			s.uploads++
			s.has[repository+"/blobs/"+r.URL.Query().Get("digest")] = true
		}
		missing := r.Method == http.MethodHead && blob != "" && !s.has[r.URL.Path]
		s.mu.Unlock()
		if missing {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	s.host = strings.TrimPrefix(server.URL, "http://")
	return s
}

func (s *shelf) sent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uploads
}

// destination names a repository of the shelf by one hex digit.
func (s *shelf) destination(digit string) build.Destination {
	return build.Destination{Repository: s.host + "/v2/" + strings.Repeat(digit, 32), Token: token, Fleet: 7, Insecure: true}
}

func (s *shelf) image(t *testing.T, d build.Destination, digest string) v1.Image {
	t.Helper()
	ref, err := name.NewDigest(d.Repository+"@"+digest, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithAuth(&authn.Bearer{Token: token}))
	if err != nil {
		t.Fatalf("the registry has no %s: %v", ref, err)
	}
	return img
}

// files of an image's layers, by name; the last one counts.
func files(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range untar(t, r) {
			all[strings.TrimPrefix(name, "./")] = text
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// plant writes a source tree. A text that begins with "-> " is a symbolic link.
func plant(t *testing.T, tree map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range tree {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(to, p)
		} else {
			err = os.WriteFile(p, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func target(arch string) build.Target {
	return build.Target{DeviceType: "raspberrypi4-64", Arch: arch, FleetName: "porch", Commit: "0123456789abcdef0123456789abcdef"}
}

func detect(t *testing.T, dir, arch string) *build.Project {
	t.Helper()
	p, err := build.Detect(context.Background(), dir, target(arch))
	if err != nil {
		t.Fatalf("detect: %v (%s)", err, fault.Hint(err))
	}
	return p
}

// builder shares the developer's Go caches: a first build with empty ones compiles the standard library.
func builder(t *testing.T) *build.Builder {
	t.Helper()
	cache := t.TempDir()
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	dirs := strings.Fields(string(out))
	for i, name := range []string{"build", "mod"} {
		if err := os.MkdirAll(dirs[i], 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(dirs[i], filepath.Join(cache, name)); err != nil {
			t.Fatal(err)
		}
	}
	return &build.Builder{Work: t.TempDir(), GoCache: cache}
}

func service(t *testing.T, p *build.Project, name string) build.Service {
	t.Helper()
	for _, s := range p.Services {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no service %s", name)
	return build.Service{}
}

// output is a writer for several builds at once.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// leftovers are the names in a folder that should be empty.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// private is somebody else's registry, which wants an account.
type private struct {
	host string
	auth authn.Authenticator
}

func newPrivate(t *testing.T, username, password string) *private {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != username || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="a private registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return &private{strings.TrimPrefix(server.URL, "http://"), &authn.Basic{Username: username, Password: password}}
}

// made is an image of one layer.
func made(t *testing.T, arch, variant string, all map[string]string) v1.Image {
	t.Helper()
	text := map[string][]byte{}
	for name, s := range all {
		text[name] = []byte(s)
	}
	layer, err := crane.Layer(text)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = "linux", arch, variant
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

func (p *private) put(t *testing.T, repository, arch string, all map[string]string) {
	t.Helper()
	ref, err := name.ParseReference(p.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, made(t, arch, "", all), remote.WithAuth(p.auth)); err != nil {
		t.Fatal(err)
	}
}
