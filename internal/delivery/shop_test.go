package delivery_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/internal/delivery"
	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/enginetest"
)

const (
	host = "hub.test"
	user = "d_0123"
	key  = "secret"
)

// shop is a server with deltas, and the network to it: requests are answered in memory, so that it lives in a synctest
// bubble.
type shop struct {
	mu       sync.Mutex
	deltas   map[string]ware             // by "BASE IMAGE"
	doors    []func(http.ResponseWriter) // what the next questions are answered with
	cuts     []int64                     // after how many bytes the next transfers break off
	still    int64                       // a transfer that stops there without breaking off; 0: none
	damage   int                         // how many transfers from the start bring a wrong byte
	anew     bool                        // ranges are ignored
	expired  bool                        // the tokens that were given are no good
	asked    []time.Time
	ranges   []string // of transfers
	sent     int64    // bytes of transfers
	tokens   int
	watchers []func() // called when bytes are sent
}

// ware is a delta on offer.
type ware struct {
	bytes    []byte
	from, to string
}

func (s *shop) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	pr, pw := io.Pipe()
	a := &answer{header: http.Header{}, body: pw, began: make(chan struct{}), ctx: r.Context()}
	context.AfterFunc(r.Context(), func() {
		pr.CloseWithError(r.Context().Err())
		pw.CloseWithError(r.Context().Err())
	})
	go func() {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			} else if p != nil {
				pw.CloseWithError(io.ErrUnexpectedEOF)
			}
			a.WriteHeader(http.StatusOK)
			pw.Close()
		}()
		s.serve(a, r)
	}()
	select {
	case <-a.began:
		return &http.Response{StatusCode: a.status, Header: a.header, Body: pr, Request: r, ContentLength: -1}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

type answer struct {
	header http.Header
	status int
	body   *io.PipeWriter
	once   sync.Once
	began  chan struct{}
	ctx    context.Context // of the request
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	a.once.Do(func() {
		a.status = status
		close(a.began)
	})
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (s *shop) serve(w *answer, r *http.Request) {
	switch {
	case r.URL.Host != host:
		http.Error(w, "who?", http.StatusTeapot)
	case r.URL.Path == "/auth/v1/token":
		name, password, _ := r.BasicAuth()
		if name != user || password != key || r.URL.Query().Get("service") != host || len(r.URL.Query()["scope"]) != 2 {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		s.mu.Lock()
		s.tokens++
		s.expired = false
		token := fmt.Sprint("token", s.tokens)
		s.mu.Unlock()
		json.NewEncoder(w).Encode(map[string]string{"token": token})
	case !s.good(r):
		http.Error(w, "no", http.StatusUnauthorized)
	case r.URL.Path == "/api/v3/delta":
		s.door(w, r)
	default:
		s.blob(w, r)
	}
}

func (s *shop) good(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.expired && r.Header.Get("Authorization") == fmt.Sprint("Bearer token", s.tokens)
}

func (s *shop) door(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, time.Now())
	if len(s.doors) > 0 {
		next := s.doors[0]
		s.doors = s.doors[1:]
		next(w)
		return
	}
	q := r.URL.Query()
	d, ok := s.deltas[q.Get("src")+" "+q.Get("dest")]
	if !ok || r.Header.Get("Accept") != delta.MediaType+"+json" {
		http.Error(w, "no delta", http.StatusNotFound)
		return
	}
	repository, _, _ := strings.Cut(q.Get("dest"), "@")
	json.NewEncoder(w).Encode(map[string]any{
		"name": repository + "@" + digest([]byte("manifest")), "blob": digest(d.bytes), "size": len(d.bytes), "from": d.from, "to": d.to,
	})
}

func (s *shop) blob(w *answer, r *http.Request) {
	s.mu.Lock()
	var content []byte
	for pair, d := range s.deltas {
		_, image, _ := strings.Cut(pair, " ")
		repository, _, _ := strings.Cut(strings.TrimPrefix(image, host+"/"), "@")
		if r.URL.Path == "/v2/"+repository+"/blobs/"+digest(d.bytes) {
			content = slices.Clone(d.bytes)
		}
	}
	if content == nil {
		s.mu.Unlock()
		http.NotFound(w, r)
		return
	}
	first := int64(0)
	s.ranges = append(s.ranges, r.Header.Get("Range"))
	if n, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && !s.anew {
		first, _ = strconv.ParseInt(strings.TrimSuffix(n, "-"), 10, 64)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, len(content)-1, len(content)))
		w.WriteHeader(http.StatusPartialContent)
	}
	if s.damage > 0 && first == 0 {
		s.damage--
		content[len(content)/2] ^= 1
	}
	cut := int64(len(content))
	if len(s.cuts) > 0 {
		cut = first + s.cuts[0]
		s.cuts = s.cuts[1:]
	}
	still := s.still
	s.mu.Unlock()
	for at := first; at < int64(len(content)); {
		n := min(int64(len(content))-at, 1000, max(cut-at, 0))
		if n == 0 {
			panic(http.ErrAbortHandler)
		}
		if still > 0 && at >= still {
			<-w.ctx.Done()
			return
		}
		m, err := w.Write(content[at : at+n])
		s.mu.Lock()
		s.sent += int64(m)
		watchers := s.watchers
		s.mu.Unlock()
		for _, f := range watchers {
			f()
		}
		if err != nil {
			return
		}
		at += n
	}
}

// total is how many bytes of transfers were sent.
func (s *shop) total() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// transfers are the ranges that were asked for.
func (s *shop) transfers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ranges)
}

func (s *shop) set(f func(*shop)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// file is a file of a layer.
type file struct {
	name    string
	content []byte
}

func layer(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// picture is an image of a test.
type picture struct {
	ref    string
	config []byte
	layers [][]byte
}

func (p picture) id() string { return digest(p.config) }

func (p picture) size() (n int64) {
	for _, l := range p.layers {
		n += int64(len(l))
	}
	return n
}

func (p picture) image() delta.Image {
	i := delta.Image{Config: p.config}
	for _, l := range p.layers {
		i.Layers = append(i.Layers, delta.Layer{DiffID: digest(l), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l)), nil }})
	}
	return i
}

// paint makes an image in repository n.
func paint(t testing.TB, n int, layers ...[]byte) picture {
	t.Helper()
	var ids []string
	for _, l := range layers {
		ids = append(ids, digest(l))
	}
	config, err := json.Marshal(map[string]any{"os": "linux", "n": n, "rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
	if err != nil {
		t.Fatal(err)
	}
	return picture{fmt.Sprintf("%s/v2/%032x@%s", host, n, digest(append(config, '\n'))), config, layers}
}

// noise are bytes that do not compress, always the same for a seed.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// image is a picture as a fake's registry has it.
func image(p picture) enginetest.Image {
	return enginetest.Image{Size: p.size(), Config: p.config, Layers: p.layers}
}

// bench is a device with an engine, a shop, and three images: old, middle and next, which share their lowest layer.
type bench struct {
	*testing.T
	shop              *shop
	engine            *enginetest.Fake
	dir               string
	room              func(path string) (int64, error)
	apply             delivery.Applier
	old, middle, next picture
	failed            []error
	offered           []int64
	percents          []int
}

func newBench(t *testing.T) *bench {
	b := &bench{T: t, shop: &shop{deltas: map[string]ware{}}, engine: enginetest.NewFake(), dir: filepath.Join(t.TempDir(), "delta")}
	base := layer(t, file{"base", noise(1, 20_000)})
	changed := func(seed uint64) []byte {
		content := append(noise(2, 90_000), noise(seed, 40_000)...)
		return layer(t, file{"app", content}, file{"notes", []byte(strings.Repeat(fmt.Sprint("release ", seed, "\n"), 100))})
	}
	b.old, b.middle, b.next = paint(t, 1, base, changed(3)), paint(t, 1, base, changed(4)), paint(t, 1, base, changed(5))
	for _, p := range []picture{b.old, b.middle, b.next} {
		b.engine.Push(p.ref, image(p))
	}
	b.offer(b.old, b.next)
	b.must(b.engine.Pull(t.Context(), b.old.ref, engine.Credentials{}, nil))
	return b
}

// on runs a test with a bench and a clock of its own.
func on(t *testing.T, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(newBench(t))
		time.Sleep(time.Minute) // the shop's answers end
	})
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// made holds the deltas by the IDs of their images, for one is made as often as it is offered.
var made sync.Map

// offer has the shop make a delta.
func (b *bench) offer(from, to picture) {
	b.Helper()
	d, ok := made.Load(from.id() + to.id())
	if !ok {
		var w bytes.Buffer
		_, err := delta.Make(b.Context(), &w, from.image(), to.image(), delta.Options{Dir: b.TempDir()})
		b.must(err)
		d = w.Bytes()
		made.Store(from.id()+to.id(), d)
	}
	b.shop.set(func(s *shop) { s.deltas[from.ref+" "+to.ref] = ware{d.([]byte), from.id(), to.id()} })
}

func (b *bench) ware(from, to picture) ware {
	b.shop.mu.Lock()
	defer b.shop.mu.Unlock()
	return b.shop.deltas[from.ref+" "+to.ref]
}

func (b *bench) delivery() *delivery.Delivery {
	return delivery.New(delivery.Options{
		Dir: b.dir, Engine: b.engine, Apply: b.apply, Log: slog.New(slog.NewTextHandler(b.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), Free: b.room,
		Server: delivery.Server{URL: "http://" + host, User: user, Password: key, HTTP: &http.Client{Transport: b.shop}},
	})
}

var standard = delivery.Policy{Deltas: true, Retries: 30, Interval: 10 * time.Second, RequestTimeout: 59 * time.Second}

// bring brings an image, with old for its base.
func (b *bench) bring(ctx context.Context, p picture, policy delivery.Policy) error {
	b.failed, b.offered, b.percents = nil, nil, nil
	return b.delivery().Bring(ctx, delivery.Order{
		Image: p.ref, Base: b.old.ref, Policy: policy,
		Progress: func(percent int) { b.percents = append(b.percents, percent) },
		Offered:  func(n int64) { b.offered = append(b.offered, n) },
		Failed:   func(err error) { b.failed = append(b.failed, err) },
	})
}

// here is sure of the image being there as a pull would have it, and nothing besides.
func (b *bench) here(p picture) {
	b.Helper()
	l, err := b.engine.Layers(b.Context(), p.ref)
	b.must(err)
	if l.ID != p.id() {
		b.Errorf("the image is %s, want %s", l.ID, p.id())
	}
	b.tidy()
	if files, err := os.ReadDir(b.dir); err == nil && len(files) > 0 {
		b.Errorf("left over: %v", files)
	}
}

// tidy is sure of nothing being loaded, nor exported.
func (b *bench) tidy() {
	b.Helper()
	if _, err := b.engine.Layers(b.Context(), engine.Loaded); !errors.Is(err, engine.ErrNotFound) {
		b.Errorf("an image that was loaded is there still: %v", err)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "base")); err == nil {
		b.Error("the export of the old image is there still")
	}
}

// asDelta is sure of p having come as a delta.
func (b *bench) asDelta(p picture) {
	b.Helper()
	b.here(p)
	if n := b.engine.Fetched(p.ref); n > 1000 {
		b.Errorf("%d bytes of the image came from the registry", n)
	}
	if len(b.failed) > 0 || len(b.offered) != 1 {
		b.Errorf("failures %v, offers %v", b.failed, b.offered)
	}
}

// asPull is sure of p having come whole, and of how many deltas had failed.
func (b *bench) asPull(p picture, failed int) {
	b.Helper()
	b.here(p)
	if n := b.engine.Fetched(p.ref); n != p.size() {
		b.Errorf("%d bytes of the image came from the registry, want all %d", n, p.size())
	}
	if len(b.failed) != failed {
		b.Errorf("failures %v, want %d", b.failed, failed)
	}
	if n := len(b.percents); n == 0 || !slices.IsSorted(b.percents) || b.percents[n-1] != 100 {
		b.Errorf("percents %v", b.percents)
	}
}
