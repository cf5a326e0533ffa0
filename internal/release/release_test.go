package release_test

import (
	"archive/tar"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/release"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

// porch is the fleet of these tests. The catalog has fleets of its own.
const porch = 9001

// place is a pipeline on a real database and a real builder, with a registry that can be made to hold pushes back.
type place struct {
	*release.Pipeline
	t        *testing.T
	dir      string
	database string // see storetest.Source
	gate     func() // called before the registry takes a manifest; nil lets it through
	mu       sync.Mutex
}

func open(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, dir: t.TempDir(), database: storetest.Source(t)}
	images := registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			p.mu.Lock()
			gate := p.gate
			p.mu.Unlock()
			if gate != nil {
				gate()
			}
		}
		images.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.start(strings.TrimPrefix(server.URL, "http://"))
	p.exec(`INSERT INTO actors (id, kind) VALUES (9001, 'application')`)
	p.exec(`INSERT INTO organizations (id, created_at, modified_at, handle, name) VALUES (9001, 1, 1, 'admin', 'admin')`)
	p.exec(`INSERT INTO fleets (id, created_at, modified_at, actor, organization, name, slug, uuid, device_type, application_type)
		SELECT $1, 1, 1, 9001, 9001, 'porch', 'admin/porch', 'f', t.id, a.id FROM device_types t, application_types a WHERE t.slug = 'generic-amd64'`, porch)
	return p
}

// start opens the database and makes a pipeline on it, as the server does at its start.
func (p *place) start(host string) {
	p.t.Helper()
	db := storetest.OpenAt(p.t, p.database)
	log := slog.New(slog.DiscardHandler)
	p.Pipeline = &release.Pipeline{
		Store: db, Hub: &hub.Hub{Seen: db.Seen, Log: log}, Log: log, Registry: host,
		Builder: &build.Builder{Work: filepath.Join(p.dir, "scratch"), GoCache: cache()},
		Token:   func(string) (string, error) { return "", nil },
		Dest:    func(d build.Destination) build.Destination { d.Insecure = true; return d },
		Sources: filepath.Join(p.dir, "sources"), Work: filepath.Join(p.dir, "work"),
	}
}

// cache is shared by all tests and runs, so that the standard library is compiled once.
func cache() string { return filepath.Join(os.TempDir(), "dunlin-test-gocache") }

func (p *place) exec(query string, args ...any) {
	p.t.Helper()
	if err := p.Store.Write(p.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(p.t.Context(), query, args...)
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
}

// cancel marks the fleet's releases under way as cancelled, as the API does, and breaks off their builds.
func (p *place) cancel() {
	p.t.Helper()
	left, err := p.Store.Unfinished(p.t.Context())
	if err != nil {
		p.t.Error(err)
	}
	p.exec(`UPDATE releases SET status = 'cancelled' WHERE fleet = $1 AND status = 'running'`, porch)
	for _, r := range left {
		p.Cancel(r.ID)
	}
}

// target is the fleet's target release.
func (p *place) target() int64 {
	p.t.Helper()
	f, err := p.Store.Fleet(p.t.Context(), porch)
	if err != nil {
		p.t.Fatal(err)
	}
	return f.Target
}

// commit is the n-th commit of a history.
func commit(n int) string { return fmt.Sprintf("%08x%032x", n, 0) }

// push is a push of a Go module whose main function is body.
func push(n int, body string) release.Push {
	return release.Push{Fleet: porch, Ref: "refs/heads/main", GitCommit: commit(n), Roots: []string{commit(0xabc)},
		Archive: func(_ context.Context, w io.Writer) error {
			return archive(w, map[string]string{"go.mod": "module example.com/m\n\ngo 1.24\n", "main.go": "package main\n\nfunc main() { " + body + " }\n"})
		}}
}

func archive(w io.Writer, files map[string]string) error {
	t := tar.NewWriter(w)
	for name, text := range files {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			return err
		}
		if _, err := io.WriteString(t, text); err != nil {
			return err
		}
	}
	return t.Close()
}

func TestAPushBecomesANumberedReleaseAndTheFleetsTarget(t *testing.T) {
	p := open(t)
	var out bytes.Buffer
	one, err := p.Push(t.Context(), push(1, ""), &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if one.Status != fleet.Success || one.Revision != 0 || one.Commit != commit(1)[:32] || p.target() != one.ID {
		t.Errorf("release %d, target %d", one.ID, p.target())
	}
	for _, want := range []string{"Building 0000000", "Release 0.0.0 (revision 0", "built in"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the pusher is not told %q:\n%s", want, &out)
		}
	}
	parts, err := p.Store.Parts(t.Context(), fleet.Device{Fleet: porch})
	if err != nil || len(parts.Services) != 1 || !strings.HasPrefix(parts.Services[0].Image.Digest, "sha256:") {
		t.Errorf("the target is made of %+v (%v)", parts.Services, err)
	}
	two, err := p.Push(t.Context(), push(2, "println()"), io.Discard)
	if err != nil || two.Revision != 1 || p.target() != two.ID {
		t.Errorf("the second release is %d with revision %d (%v), target %d", two.ID, two.Revision, err, p.target())
	}
	if left, err := filepath.Glob(filepath.Join(p.dir, "sources", "*")); err != nil || len(left) != 0 {
		t.Errorf("sources left behind: %v %v", left, err)
	}
}

func TestAFailedBuildLeavesTheFleetAsItWasAndIsKeptWithItsLog(t *testing.T) {
	p := open(t)
	good, err := p.Push(t.Context(), push(1, ""), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := p.Push(t.Context(), push(2, "undefined()"), io.Discard)
	if !fault.Is(err, fault.Invalid) {
		t.Fatalf("the broken program is answered: %v", err)
	}
	if p.target() != good.ID {
		t.Error("the target moved")
	}
	if r, err := p.Store.Release(t.Context(), bad.ID); err != nil || r.Status != fleet.Failed {
		t.Errorf("the release is %+v (%v)", r, err)
	}
	var log string
	if err := p.Store.Reader().QueryRow(`SELECT build_log FROM releases WHERE id = $1`, bad.ID).Scan(&log); err != nil || !strings.Contains(log, "undefined: undefined") {
		t.Errorf("the kept log is %q (%v)", log, err)
	}
	mended, err := p.Push(t.Context(), push(2, ""), io.Discard)
	if err != nil || mended.Status != fleet.Success || mended.Revision != 1 {
		t.Errorf("the same commit, mended from outside: %+v (%v)", mended, err)
	}
}

func TestTheSameCommitFindsItsReleaseAndComesBackAsTheTarget(t *testing.T) {
	p := open(t)
	one, err := p.Push(t.Context(), push(1, ""), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Push(t.Context(), push(2, "println()"), io.Discard); err != nil {
		t.Fatal(err)
	}
	again := push(1, "")
	again.Archive = func(context.Context, io.Writer) error { t.Error("it was built again"); return nil }
	again.NoCache = true
	var out bytes.Buffer
	r, err := p.Push(t.Context(), again, &out)
	if err != nil || r.ID != one.ID || p.target() != one.ID {
		t.Errorf("release %d (%v), target %d, want %d", r.ID, err, p.target(), one.ID)
	}
	if !strings.Contains(out.String(), "built already") || !strings.Contains(out.String(), "--allow-empty") {
		t.Errorf("the pusher is told\n%s", &out)
	}
}

func TestADraftIsNobodysTargetUntilItIsFinal(t *testing.T) {
	p := open(t)
	d := push(1, "")
	d.Draft = true
	draft, err := p.Push(t.Context(), d, io.Discard)
	if err != nil || !draft.Draft() || p.target() != 0 {
		t.Fatalf("%+v (%v), target %d", draft, err, p.target())
	}
	d.Draft = false
	final, err := p.Push(t.Context(), d, io.Discard)
	if err != nil || final.ID != draft.ID || final.Draft() || p.target() != draft.ID {
		t.Errorf("%+v (%v), target %d", final, err, p.target())
	}
}

func TestAnUnrelatedHistoryIsRefusedUnlessForced(t *testing.T) {
	p := open(t)
	if _, err := p.Push(t.Context(), push(1, ""), io.Discard); err != nil {
		t.Fatal(err)
	}
	other := push(2, "println()")
	other.Roots = []string{commit(0xdef)}
	_, err := p.Push(t.Context(), other, io.Discard)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Hint(err), "force-history") {
		t.Fatalf("answered %v, hint %q", err, fault.Hint(err))
	}
	merged := push(3, "println(1)")
	merged.Roots = []string{commit(0xdef), commit(0xabc)}
	if _, err := p.Push(t.Context(), merged, io.Discard); err != nil {
		t.Errorf("a merge of both histories: %v", err)
	}
	other.ForceHistory = true
	if _, err := p.Push(t.Context(), other, io.Discard); err != nil {
		t.Errorf("forced: %v", err)
	}
	if _, err := p.Push(t.Context(), push(4, "println(2)"), io.Discard); !fault.Is(err, fault.Conflict) {
		t.Errorf("the history that was replaced is taken: %v", err)
	}
}

func TestAFailedFirstPushDoesNotBindTheFleetToItsHistory(t *testing.T) {
	p := open(t)
	if _, err := p.Push(t.Context(), push(1, "undefined()"), io.Discard); err == nil {
		t.Fatal("taken")
	}
	other := push(2, "")
	other.Roots = []string{commit(0xdef)}
	if _, err := p.Push(t.Context(), other, io.Discard); err != nil {
		t.Errorf("the right folder, after the wrong one: %v", err)
	}
}

func TestAPusherWhoBreaksOffCancelsTheRelease(t *testing.T) {
	p := open(t)
	ctx, leave := context.WithCancel(t.Context())
	p.gate = leave
	r, err := p.Push(ctx, push(1, ""), io.Discard)
	if err == nil {
		t.Fatal("the push succeeded")
	}
	if got, err := p.Store.Release(t.Context(), r.ID); err != nil || got.Status != fleet.Cancelled || p.target() != 0 {
		t.Errorf("%+v (%v), target %d", got, err, p.target())
	}
}

func TestAReleaseThatSomebodyCancelsIsNotBuiltToItsEnd(t *testing.T) {
	p := open(t)
	p.gate = func() {
		p.cancel()
	}
	r, err := p.Push(t.Context(), push(1, ""), io.Discard)
	if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Message(err), "cancelled") {
		t.Fatalf("the pusher is told %v", err)
	}
	if got, err := p.Store.Release(t.Context(), r.ID); err != nil || got.Status != fleet.Cancelled || p.target() != 0 {
		t.Errorf("%+v (%v), target %d", got, err, p.target())
	}
	if left, _ := filepath.Glob(filepath.Join(p.Sources, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAServerThatStopsInTheMiddleOfABuildGoesOnWithItAfterTheStart(t *testing.T) {
	p := open(t)
	p.gate = p.Stop
	r, err := p.Push(t.Context(), push(1, ""), io.Discard)
	if !fault.Is(err, fault.Unavailable) {
		t.Fatalf("the pusher is told %v", err)
	}
	if got, err := p.Store.Release(t.Context(), r.ID); err != nil || got.Status != fleet.Running {
		t.Fatalf("%+v (%v)", got, err)
	}
	p.gate = nil
	p.start(p.Registry)
	if err := errors.Join(p.Recover(t.Context()), p.Run(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Store.Release(t.Context(), r.ID); err != nil || got.Status != fleet.Success || p.target() != r.ID {
		t.Errorf("%+v (%v), target %d", got, err, p.target())
	}
	again, err := p.Push(t.Context(), push(1, ""), io.Discard)
	if err != nil || again.ID != r.ID {
		t.Errorf("the push after the restart makes release %d (%v), want %d", again.ID, err, r.ID)
	}
}

func TestAServerKilledAtAnyLegComesToTheSameEnd(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, p *place, r fleet.Release){
		"before the source arrived": func(t *testing.T, p *place, r fleet.Release) {},
		"before anything was built": func(t *testing.T, p *place, r fleet.Release) { p.keep(r) },
		"after an image was recorded, before it was built": func(t *testing.T, p *place, r fleet.Release) {
			p.keep(r)
			p.outline(r)
		},
		"after all images were built": func(t *testing.T, p *place, r fleet.Release) {
			p.keep(r)
			images := p.outline(r)
			if err := p.Store.ImageBuilt(t.Context(), images[0].ID, store.Built{Digest: "sha256:" + strings.Repeat("a", 64), Size: 1}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t)
			r, begun, err := p.Store.BeginRelease(t.Context(), store.NewRelease{Fleet: porch, Commit: commit(1)[:32], GitCommit: commit(1)})
			if err != nil || !begun {
				t.Fatal(begun, err)
			}
			leave(t, p, r)
			if err := os.MkdirAll(p.Sources, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(p.Sources, "arriving-1"), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			p.start(p.Registry)
			if err := errors.Join(p.Recover(t.Context()), p.Run(t.Context())); err != nil {
				t.Fatal(err)
			}
			got, err := p.Store.Release(t.Context(), r.ID)
			if err != nil {
				t.Fatal(err)
			}
			if name == "before the source arrived" {
				if got.Status != fleet.Interrupted || p.target() != 0 {
					t.Errorf("%+v, target %d", got, p.target())
				}
			} else if got.Status != fleet.Success || p.target() != r.ID {
				t.Errorf("%+v, target %d", got, p.target())
			}
			if name == "after all images were built" {
				parts, err := p.Store.Parts(t.Context(), fleet.Device{Fleet: porch})
				if err != nil || parts.Services[0].Image.Digest != "sha256:"+strings.Repeat("a", 64) {
					t.Errorf("the image that was there was built again: %+v (%v)", parts.Services, err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(p.Sources, "*")); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			if r, err := p.Push(t.Context(), push(1, ""), io.Discard); err != nil || r.Status != fleet.Success {
				t.Errorf("the same push afterwards: %+v %v", r, err)
			}
		})
	}
}

// keep lays down the source of a release as a server that was killed has left it.
func (p *place) keep(r fleet.Release) {
	p.t.Helper()
	if err := os.MkdirAll(p.Sources, 0o700); err != nil {
		p.t.Fatal(err)
	}
	var b bytes.Buffer
	if err := push(1, "").Archive(p.t.Context(), &b); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.Sources, fmt.Sprintf("%d.tar", r.ID)), b.Bytes(), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// outline records an image that has not been built yet.
func (p *place) outline(r fleet.Release) []fleet.Image {
	p.t.Helper()
	repository := "v2/" + strings.Repeat("9", 32)
	images, err := p.Store.Outlined(p.t.Context(), r, store.Outline{Composition: []byte("{}"),
		Services: []store.OutlineService{{Name: "main", Repository: repository, Location: p.Registry + "/" + repository}}})
	if err != nil {
		p.t.Fatal(err)
	}
	return images
}

func TestTwoPushesToOneFleetWaitForEachOther(t *testing.T) {
	p := open(t)
	inside, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.gate = func() { once.Do(func() { close(inside); <-goOn }) }
	first := make(chan error, 1)
	go func() {
		_, err := p.Push(t.Context(), push(1, ""), io.Discard)
		first <- err
	}()
	<-inside
	waiting := make(chan struct{})
	second := make(chan error, 1)
	go func() {
		_, err := p.Push(t.Context(), push(2, "println()"), notice{"waiting for it", waiting, &sync.Once{}})
		second <- err
	}()
	<-waiting
	if left, err := p.Store.Unfinished(t.Context()); err != nil || len(left) != 1 {
		t.Errorf("%d releases are under way (%v), want one", len(left), err)
	}
	close(goOn)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Fatal(err)
	}
}

// notice closes a channel when something that contains text is written.
type notice struct {
	text string
	c    chan struct{}
	once *sync.Once
}

func (n notice) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(n.text)) {
		n.once.Do(func() { close(n.c) })
	}
	return len(b), nil
}

func TestTheRolloutTellsWhoRunsItAndWhoIsAway(t *testing.T) {
	p := open(t)
	r, err := p.Push(t.Context(), push(1, ""), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	near, far := p.device("near"), p.device("far")
	p.exec(`UPDATE devices SET last_seen = 1 WHERE id = $1`, far.ID)
	p.Hub.Heard(near, 60_000)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	told := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- p.Rollout(ctx, r, io.MultiWriter(&out, notice{"downloading 40 %", told, &sync.Once{}}))
	}()
	image := func() string {
		parts, err := p.Store.Parts(t.Context(), near)
		if err != nil {
			t.Fatal(err)
		}
		return parts.Services[0].Image.Location
	}()
	forty := int64(40)
	observe := func(o store.Observation) {
		t.Helper()
		if err := p.Store.Observe(t.Context(), near, o); err != nil {
			t.Fatal(err)
		}
		p.Hub.Reported(porch)
	}
	observe(store.Observation{Apps: true, UpdateStatus: "downloading", Installs: []store.Install{{Location: image, Commit: r.Commit, Status: "Downloading", Progress: &forty}}})
	<-told
	p.Hub.Sent(near.UUID, 1_300_000)
	observe(store.Observation{Apps: true, UpdateStatus: "done", Running: r.Commit, Installs: []store.Install{{Location: image, Commit: r.Commit, Status: "Running"}}})
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"near: main downloading 40 %", "near: running after ", "1.3 MB travelled", "running on 1 of 2, 1 offline"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
}

// device adds a device to the fleet.
func (p *place) device(name string) fleet.Device {
	p.t.Helper()
	uuid := strings.Repeat(fmt.Sprintf("%x", len(name)), 32)
	if _, err := p.Store.RegisterDevice(p.t.Context(), store.NewDevice{Fleet: porch, UUID: uuid, KeyHash: uuid, DeviceType: "generic-amd64", Name: name}); err != nil {
		p.t.Fatal(err)
	}
	d, err := p.Store.Device(p.t.Context(), uuid)
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}
