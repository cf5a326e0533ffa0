package api_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/google/go-containerregistry/pkg/registry"
)

// needEngine skips the test without a container engine, unless DUNLIN_TEST_REQUIRE is set.
func needEngine(t *testing.T) {
	t.Helper()
	address := os.Getenv("DUNLIN_TEST_ENGINE")
	if address == "" {
		address = "unix:///var/run/docker.sock"
	}
	c, err := net.DialTimeout("unix", strings.TrimPrefix(address, "unix://"), 10*time.Second)
	if err == nil {
		c.Close()
		return
	}
	if os.Getenv("DUNLIN_TEST_REQUIRE") == "1" {
		t.Fatalf("no container engine: %v", err)
	}
	t.Skipf("no container engine: %v", err)
}

// newBase is a registry, HOST:PORT, that wants an account and has an image base with a file from-base.
func newBase(t *testing.T, user, password string) string {
	t.Helper()
	images := registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="base"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		images.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "from-base", Mode: 0o644, Size: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "yes"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", "amd64", v1.Time{Time: time.Now()} // an engine that knows it would not ask for it
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(host + "/base")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: user, Password: password})); err != nil {
		t.Fatal(err)
	}
	return host
}

// contents are the files of an image in a registry, with their texts.
func contents(t *testing.T, location string) map[string]string {
	t.Helper()
	ref, err := name.ParseReference(location)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	r := mutate.Extract(image)
	defer r.Close()
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			files[strings.TrimPrefix(h.Name, "/")] = string(text)
		}
	}
}
