package cli_test

import (
	"io"
	stdlog "log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/release"
)

// builder is what builds the folders that are pushed: Go modules, which need no engine.
func (w *world) builder(dir string) *release.Pipeline {
	store := registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))
	images := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.held.Load() && r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			io.Copy(io.Discard, r.Body) // who goes away is noticed only when nothing is left to read
			<-r.Context().Done()        // until the build gives up
			return
		}
		store.ServeHTTP(rw, r)
	}))
	w.t.Cleanup(images.Close)
	log := slog.New(slog.DiscardHandler)
	return &release.Pipeline{
		Store: w.db, Hub: &hub.Hub{Seen: w.db.Seen, Log: log}, Log: log, Registry: strings.TrimPrefix(images.URL, "http://"),
		Builder: &build.Builder{
			Engine: "unix:///there/is/no/engine.sock", Work: filepath.Join(dir, "scratch"),
			GoCache: filepath.Join(os.TempDir(), "dunlin-test-gocache"), // shared with the tests of other packages
		},
		Token:   func(string) (string, error) { return "", nil },
		Dest:    func(d build.Destination) build.Destination { d.Insecure = true; return d },
		Sources: filepath.Join(dir, "sources"), Work: filepath.Join(dir, "work"),
	}
}
