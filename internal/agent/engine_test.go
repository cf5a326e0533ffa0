package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/dockerengine"
	"github.com/dunlin/dunlin/internal/wire"
)

// plot is a real engine of which an agent sees only what belongs to one fleet and one registry: the engine of the
// machine that runs the test has other things to do as well.
type plot struct {
	engine.Engine
	fleet, registry string
}

func (p plot) Inspect(ctx context.Context) (engine.State, error) {
	s, err := p.Engine.Inspect(ctx)
	others := func(labels map[string]string) bool { return labels[engine.LabelAppUUID] != p.fleet }
	s.Containers = slices.DeleteFunc(s.Containers, func(c engine.Container) bool { return others(c.Labels) })
	s.Networks = slices.DeleteFunc(s.Networks, func(n engine.Network) bool { return others(n.Labels) })
	s.Volumes = slices.DeleteFunc(s.Volumes, func(v engine.Volume) bool { return others(v.Labels) })
	s.Images = slices.DeleteFunc(s.Images, func(i engine.Image) bool {
		return !slices.ContainsFunc(i.References, func(r string) bool { return strings.HasPrefix(r, p.registry) })
	})
	return s, err
}

// clean removes all there is on the plot.
func (p plot) clean(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := p.Inspect(ctx)
	check := func(err error) {
		if err != nil {
			t.Errorf("clean up: %v", err)
		}
	}
	check(err)
	for _, c := range s.Containers {
		check(p.Remove(ctx, c.Name))
	}
	for _, n := range s.Networks {
		check(p.RemoveNetwork(ctx, n.Name))
	}
	for _, v := range s.Volumes {
		check(p.RemoveVolume(ctx, v.Name))
	}
	for _, i := range s.Images {
		for _, ref := range i.References {
			check(p.RemoveImage(ctx, ref))
		}
	}
}

// realEngine is the engine that tests may use; without one the test is skipped.
func realEngine(t *testing.T) engine.Engine {
	t.Helper()
	host := os.Getenv("DUNLIN_TEST_ENGINE")
	if host == "" {
		host = "unix:///var/run/docker.sock"
	}
	e, err := dockerengine.New(host)
	if err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err = e.Info(ctx)
	}
	if err != nil {
		if os.Getenv("DUNLIN_TEST_REQUIRE") == "1" {
			t.Fatalf("no container engine: %v", err)
		}
		t.Skipf("no container engine: %v", err)
	}
	return e
}

// shelf is a registry of images made by the test.
type shelf struct {
	host string
	mu   sync.Mutex
	blob map[string][]byte // by digest
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{blob: map[string][]byte{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		_, digest, _ := strings.Cut(r.URL.Path, "sha256:")
		s.mu.Lock()
		blob, ok := s.blob["sha256:"+digest]
		s.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
			w.Header().Set("Docker-Content-Digest", "sha256:"+digest)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
		if r.Method != http.MethodHead {
			w.Write(blob)
		}
	}))
	t.Cleanup(server.Close)
	s.host = strings.TrimPrefix(server.URL, "http://")
	return s
}

func (s *shelf) add(blob []byte) string {
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(blob))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blob[digest] = blob
	return digest
}

// image makes an image FROM scratch with one program, and returns its reference.
func (s *shelf) image(t *testing.T, n int, program []byte) string {
	t.Helper()
	var plain, packed bytes.Buffer
	w := tar.NewWriter(&plain)
	for name, content := range map[string][]byte{"probe": program} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	w.Close()
	z := gzip.NewWriter(&packed)
	z.Write(plain.Bytes())
	z.Close()
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Entrypoint": []string{"/probe"}, "Labels": map[string]string{"n": fmt.Sprint(n)}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(plain.Bytes()))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	part := func(kind string, b []byte) map[string]any {
		return map[string]any{"mediaType": "application/vnd.docker." + kind, "size": len(b), "digest": s.add(b)}
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
		"config": part("container.image.v1+json", config), "layers": []any{part("image.rootfs.diff.tar.gzip", packed.Bytes())},
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s/v2/%032x@%s", s.host, n, s.add(manifest))
}

func probeProgram(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "../engine/enginetest/testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the probe: %v: %s", err, out)
	}
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// eventually waits for what a real engine takes its time for.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestARealEngineRunsAReleaseAndTheNextOne(t *testing.T) {
	real := realEngine(t)
	program, registry := probeProgram(t), newShelf(t)
	fleet := token()
	p := plot{real, fleet, registry.host}
	id := int64(os.Getpid()) // of the fleet: it names the volumes
	t.Cleanup(func() {
		p.clean(t)
		os.RemoveAll(fmt.Sprintf("%s/%d", sharedFolders, id)) // if the engine is on this machine
	})
	first, second := registry.image(t, 1, program), registry.image(t, 2, program)

	b := newBench(t)
	target := func(commit string, main wire.Service) wire.DeviceTarget {
		d := release(commit, map[string]wire.Service{"main": main, "db": service(22, first, `{"command":["write:/data/x:kept","out:db up"],"volumes":["data:/data"]}`)})
		d.Apps = map[string]wire.App{fleet: d.Apps[fleetUUID]}
		app := d.Apps[fleet]
		app.ID = id
		d.Apps[fleet] = app
		return d
	}
	done := func(commit string) func() bool {
		return func() bool {
			r := b.cloud.lastApps()[fleet]
			return r.ReleaseUUID == commit && r.Releases[commit].UpdateStatus == wire.Done
		}
	}
	lines := func(want string) func() bool {
		return func() bool { return slices.Contains(b.cloud.messages(), want) }
	}

	b.cloud.want(target(commitA, service(21, first, `{"command":["env:FOO","lookup:db"],"depends_on":["db"]}`)))
	off := b.onWith(p)
	eventually(t, "release 1 to run", done(commitA))
	eventually(t, "its lines", lines("21: FOO=bar"))
	eventually(t, "the other service to be found", lines("21: found db"))

	before, err := p.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	off()
	off = b.onWith(p)
	b.cloud.want(target(commitB, service(21, second, `{"command":["env:FOO","cat:/data/x"],"volumes":["data:/data"]}`)))
	eventually(t, "release 2 to run", done(commitB))
	eventually(t, "the volume to be the same", lines("21: kept"))
	off()

	after, err := p.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a, b := of(before, "db"), of(after, "db"); a.ID != b.ID || !a.StartedAt.Equal(b.StartedAt) || b.Status != engine.Running {
		t.Errorf("a service that did not change was touched: %s from %v, then %s from %v", a.ID, a.StartedAt, b.ID, b.StartedAt)
	}
	if len(after.Containers) != 2 || of(after, "main").Image != second {
		t.Errorf("after the update the containers are %+v", after.Containers)
	}
	if got := b.cloud.of("22"); !slices.Equal(got, []string{"22: db up"}) {
		t.Errorf("over a restart of the agent db said %q", got)
	}
}

func of(s engine.State, service string) engine.Container {
	for _, c := range s.Containers {
		if c.Labels[engine.LabelServiceName] == service {
			return c
		}
	}
	return engine.Container{}
}
