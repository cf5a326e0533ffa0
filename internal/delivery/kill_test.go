package delivery_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/delivery"
	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/dockerengine"
	"github.com/dunlin/dunlin/internal/fleettest"
)

// errand is what a device in a process of its own is to do.
type errand struct {
	Engine, Server, Dir, Image, Base string
	Agent                            string // the program that applies
}

// TestADeviceOfItsOwn is the other process of the tests below; by itself it is none.
func TestADeviceOfItsOwn(t *testing.T) {
	text := os.Getenv("DUNLIN_TEST_ERRAND")
	if text == "" {
		t.Skip("this is the process of a device that another test starts")
	}
	var o errand
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	e, err := dockerengine.New(o.Engine)
	if err != nil {
		t.Fatal(err)
	}
	d := delivery.New(delivery.Options{Dir: o.Dir, Engine: e, Apply: delivery.Process{Program: o.Agent, Args: []string{delivery.Command}}.Apply, Server: delivery.Server{URL: o.Server, User: user, Password: key, HTTP: http.DefaultClient}})
	d.Recover(t.Context())
	if _, err := e.Inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, stop := context.WithCancel(t.Context())
	peak := make(chan int64, 1)
	go func() { peak <- mostOfChildren(ctx) }()
	if err := d.Bring(t.Context(), delivery.Order{
		Image: o.Image, Base: o.Base, Policy: standard, Failed: func(err error) { t.Errorf("the delta failed: %v", err) },
	}); err != nil {
		t.Fatal(err)
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	stop()
	var child syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &child); err != nil {
		t.Fatal(err)
	}
	ms := time.Duration(used.Utime.Nano() + used.Stime.Nano() + child.Utime.Nano() + child.Stime.Nano()).Milliseconds()
	most := <-peak
	if most == 0 {
		t.Fatal("the process that applies was not seen")
	}
	fmt.Printf("above idle %d kB, CPU %d ms\n", most+int64(after.HeapSys-before.HeapSys)>>10, ms)
}

// agent is the agent's own program, as devices have it: without the race detector, whose memory nobody can bound.
func agent(t *testing.T) string {
	t.Helper()
	path, err := fleettest.BuildAgent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// mostOfChildren is what a child of this process has in memory at most until ctx ends, in kB, but for its program, which
// is in memory already. (The kernel's own account of children counts this process too, which each of them was at first.)
func mostOfChildren(ctx context.Context) (kB int64) {
	for {
		tasks, _ := filepath.Glob("/proc/self/task/*/children")
		for _, task := range tasks {
			children, _ := os.ReadFile(task)
			for _, pid := range strings.Fields(string(children)) {
				text, err := os.ReadFile("/proc/" + pid + "/status")
				if err != nil {
					continue
				}
				figures := map[string]int64{}
				for line := range strings.Lines(string(text)) {
					if f := strings.Fields(line); len(f) > 1 {
						figures[f[0]], _ = strconv.ParseInt(f[1], 10, 64)
					}
				}
				if figures["RssFile:"] > 0 { // else it is about to begin, or has ended
					kB = max(kB, figures["VmHWM:"]-figures["RssFile:"])
				}
			}
		}
		select {
		case <-ctx.Done():
			return kB
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// device starts a process for an errand.
func device(t *testing.T, o errand) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestADeviceOfItsOwn$", "-test.v")
	cmd.Env = append(os.Environ(), "DUNLIN_TEST_ERRAND="+string(text))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &out
}

// store is a server with a registry on loopback, where engines want no TLS, and one delta.
type store struct {
	*httptest.Server
	registry http.Handler
	offer    []byte // the door's answer
	delta    []byte
}

func newStore(t *testing.T) *store {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &store{registry: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	s.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/auth/v1/token":
			io.WriteString(w, `{"token":"t"}`)
		case r.URL.Path == "/api/v3/delta":
			w.Write(s.offer)
		case s.delta != nil && strings.HasSuffix(r.URL.Path, "/blobs/"+digest(s.delta)):
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.delta))
		default:
			s.registry.ServeHTTP(w, r)
		}
	})}}
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// push makes an image of layers in the registry.
func (s *store) push(t *testing.T, layers ...[]byte) picture {
	t.Helper()
	i := mutate.ConfigMediaType(empty.Image, types.DockerConfigJSON)
	var all []v1.Layer
	for _, l := range layers {
		all = append(all, static.NewLayer(l, types.DockerUncompressedLayer))
	}
	i, err := mutate.AppendLayers(i, all...)
	if err != nil {
		t.Fatal(err)
	}
	repository, err := name.NewRepository(strings.TrimPrefix(s.URL, "http://")+"/v2/"+strings.Repeat("0a", 16), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	config, err := i.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(repository.Tag("latest"), i); err != nil {
		t.Fatal(err)
	}
	return picture{repository.Digest(manifest.String()).String(), config, layers}
}

// sell makes the delta that the server offers.
func (s *store) sell(t *testing.T, from, to picture) {
	t.Helper()
	var d bytes.Buffer
	if _, err := delta.Make(t.Context(), &d, from.image(), to.image(), delta.Options{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	offer, err := json.Marshal(map[string]any{"blob": digest(d.Bytes()), "size": d.Len(), "from": from.id(), "to": to.id()})
	if err != nil {
		t.Fatal(err)
	}
	s.offer, s.delta = offer, d.Bytes()
}

// like is b with some bytes of every block changed.
func like(b []byte, block int) []byte {
	b = slices.Clone(b)
	for i := block / 2; i < len(b); i += block {
		b[i] += 3
		b[min(i+40, len(b)-1)] += 5
	}
	return b
}

// engines are the machine's own, with storage of its own.
func realEngine(t *testing.T) (*dockerengine.Engine, string) {
	t.Helper()
	host := fleettest.NewEngine(t, 2<<30).Host
	e, err := dockerengine.New(host)
	if err != nil {
		t.Fatal(err)
	}
	return e, host
}

func TestADeviceKilledAtAnyMomentLeavesImagesWholeAndGoesOn(t *testing.T) {
	e, host := realEngine(t)
	s := newStore(t)
	base := layer(t, file{"base", noise(1, 1_000_000)})
	app := bytes.Repeat(noise(2, 1_500_000), 8)
	old := s.push(t, base, layer(t, file{"app", app}))
	next := s.push(t, base, layer(t, file{"app", like(app, 300_000)}, file{"more", noise(7, 50_000)}))
	s.sell(t, old, next)
	if err := e.Pull(t.Context(), old.ref, engine.Credentials{}, nil); err != nil {
		t.Fatal(err)
	}
	o := errand{host, s.URL, filepath.Join(t.TempDir(), "delta"), next.ref, old.ref, agent(t)}
	whole := func() time.Duration {
		t.Helper()
		began := time.Now()
		cmd, out := device(t, o)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("the device ended with %v\n%s", err, out)
		}
		took := time.Since(began)
		l, err := e.Layers(t.Context(), next.ref)
		if err != nil || l.ID != next.id() {
			t.Fatalf("the image is %+v, %v", l, err)
		}
		if _, err := e.Layers(t.Context(), engine.Loaded); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("what was loaded is there still: %v", err)
		}
		if files, err := os.ReadDir(o.Dir); err != nil || len(files) > 0 {
			t.Errorf("left over: %v, %v", files, err)
		}
		if err := e.RemoveImage(t.Context(), next.ref); err != nil {
			t.Fatal(err)
		}
		return took
	}
	took := whole()
	r := rand.New(rand.NewPCG(1, 2))
	killed := 0
	for i := range 12 {
		cmd, _ := device(t, o)
		// Moments all over the delivery, and somewhat after it.
		time.Sleep(took * time.Duration(i*100+r.IntN(100)) / 1100)
		cmd.Process.Kill()
		cmd.Wait()
		if cmd.ProcessState.ExitCode() < 0 {
			killed++
		}
		state, err := e.Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range state.Images {
			if want := map[string]string{old.ref: old.id(), next.ref: next.id()}[i.References[0]]; i.ID != want {
				t.Errorf("after the kill there is %+v", i)
			}
		}
		if _, err := e.Layers(t.Context(), old.ref); err != nil {
			t.Fatalf("the old image: %v", err)
		}
		whole()
	}
	if killed < 6 {
		t.Errorf("only %d devices lived when they were killed", killed)
	}
	t.Logf("a delivery took %v; %d of 12 were killed", took.Round(time.Millisecond), killed)
}

func TestApplyingALargeLayerTakesLittleMemory(t *testing.T) {
	e, host := realEngine(t)
	s := newStore(t)
	files := func(change func([]byte) []byte) (all []file) {
		for i := range uint64(3) {
			all = append(all, file{fmt.Sprint("app", i), change(noise(20+i, 12<<20))})
		}
		return all
	}
	old := s.push(t, layer(t, files(func(b []byte) []byte { return b })...))
	next := s.push(t, layer(t, files(func(b []byte) []byte { return like(b, 1<<20) })...))
	began := time.Now()
	s.sell(t, old, next)
	t.Logf("a delta of %d bytes was made in %v", len(s.delta), time.Since(began).Round(time.Millisecond))
	if err := e.Pull(t.Context(), old.ref, engine.Credentials{}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd, out := device(t, errand{host, s.URL, filepath.Join(t.TempDir(), "delta"), next.ref, old.ref, agent(t)})
	context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the device ended with %v\n%s", err, out)
	}
	var kB, ms int64
	for line := range strings.Lines(out.String()) {
		fmt.Sscanf(line, "above idle %d kB, CPU %d ms", &kB, &ms)
	}
	t.Logf("a layer of %d bytes took %d kB above idle and %d ms of CPU", next.size(), kB, ms)
	if kB <= 0 || kB > 32<<10 {
		t.Errorf("applying took %d kB above idle; a device has 32 MB for it", kB)
	}
}

// TestCorpus brings the images of DUNLIN_CORPUS (PAIR/old.tar and new.tar, as docker save has them) as deltas, and prints
// what that took of the device beside what a pull takes of the engine's registry.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("DUNLIN_CORPUS")
	if dir == "" {
		t.Skip("DUNLIN_CORPUS is not set")
	}
	pairs, err := filepath.Glob(filepath.Join(dir, "*", "new.tar"))
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(os.Getenv("DUNLIN_PAIRS"))
	for _, pair := range pairs {
		pair = filepath.Dir(pair)
		if !want.MatchString(filepath.Base(pair)) {
			continue
		}
		t.Run(filepath.Base(pair), func(t *testing.T) {
			e, host := realEngine(t)
			s := newStore(t)
			old, next := s.push(t, saved(t, filepath.Join(pair, "old.tar"))...), s.push(t, saved(t, filepath.Join(pair, "new.tar"))...)
			s.sell(t, old, next)
			if err := e.Pull(t.Context(), old.ref, engine.Credentials{}, nil); err != nil {
				t.Fatal(err)
			}
			cmd, out := device(t, errand{host, s.URL, filepath.Join(t.TempDir(), "delta"), next.ref, old.ref, agent(t)})
			if err := cmd.Wait(); err != nil {
				t.Fatalf("the device ended with %v\n%s", err, out)
			}
			for line := range strings.Lines(out.String()) {
				if strings.HasPrefix(line, "above idle") {
					t.Logf("%d bytes for %d: %s", len(s.delta), next.size(), strings.TrimSpace(line))
				}
			}
		})
	}
}

// saved are the layers of an archive.
func saved(t *testing.T, path string) (layers [][]byte) {
	t.Helper()
	i, err := archive.Open(path, archive.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	for _, l := range i.Layers {
		r, err := l.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, b)
	}
	return layers
}
