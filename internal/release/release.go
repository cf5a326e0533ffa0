// Package release owns the whole road of a push: source → images → release → the fleet's target → the devices that
// take it. Every leg is a row before it is walked, so that a server killed anywhere goes on from there. It does not
// own git, SQL or HTTP.
package release

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/store"
)

// Causes with which builds are ended from outside.
var (
	errStopping  = errors.New("the server is stopping")    // by Stop
	errCancelled = errors.New("the release was cancelled") // by Cancel
)

// maxLog bounds the build log that a release keeps, in bytes; the end of a longer one is kept.
const maxLog = 300 << 10

// parallel is how many images are built at the same time, of all releases together.
const parallel = 2

// Pipeline walks pushes from source to running devices. Its methods may be called concurrently; pushes to one fleet
// wait for each other.
type Pipeline struct {
	Store   *store.DB
	Hub     *hub.Hub
	Builder *build.Builder
	Limits  build.Limits // of a source archive

	Registry string                                    // host (and port) that image locations begin with
	Token    func(repository string) (string, error)   // good to push one repository
	Dest     func(build.Destination) build.Destination // adds how the registry is reached; may be nil

	Sources string // folder of the archives of releases under way
	Work    string // folder of unpacked sources
	Log     *slog.Logger
	// Ended is told how each release ended and how long it took; may be nil.
	Ended func(status fleet.Status, took time.Duration)

	left []fleet.Release // what Recover found

	once  sync.Once
	slots chan struct{} // a place for each image being built

	mu        sync.Mutex
	queues    map[int64]chan struct{} // one place per fleet
	announced map[int64]announcement  // by fleet
	stopped   bool
	jobs      map[int64]context.CancelCauseFunc // by release
	builds    map[*context.CancelCauseFunc]bool // under way
}

// Stop breaks off the builds under way, and those that begin after it, without ending their releases: the next start
// goes on with them. It is called before anything that a build needs goes away, such as the registry.
func (pl *Pipeline) Stop() {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	pl.stopped = true
	for cancel := range pl.builds {
		(*cancel)(errStopping)
	}
}

// Cancel breaks off the build of a release that somebody has marked as cancelled. A release that is not being built
// is left alone.
func (pl *Pipeline) Cancel(release int64) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if cancel := pl.jobs[release]; cancel != nil {
		cancel(errCancelled)
	}
}

// cancellable is a context that Cancel ends. end must be called.
func (pl *Pipeline) cancellable(ctx context.Context, release int64) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.jobs == nil {
		pl.jobs = map[int64]context.CancelCauseFunc{}
	}
	pl.jobs[release] = cancel
	return ctx, func() {
		pl.mu.Lock()
		defer pl.mu.Unlock()
		delete(pl.jobs, release)
		cancel(nil)
	}
}

// stoppable is a context that Stop ends. end must be called.
func (pl *Pipeline) stoppable(ctx context.Context) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.stopped {
		cancel(errStopping)
	}
	if pl.builds == nil {
		pl.builds = map[*context.CancelCauseFunc]bool{}
	}
	pl.builds[&cancel] = true
	return ctx, func() {
		pl.mu.Lock()
		defer pl.mu.Unlock()
		delete(pl.builds, &cancel)
		cancel(nil)
	}
}

// announcement is the moment the devices of a fleet were told of a release. What they do is measured from here, and
// not from when the pusher begins to watch.
type announcement struct {
	release int64
	at      time.Time
	sent    map[string]int64 // bytes that had travelled to each device, by uuid
}

// announce tells the devices of a fleet to look at a release.
func (pl *Pipeline) announce(r fleet.Release) {
	pl.mu.Lock()
	if pl.announced == nil {
		pl.announced = map[int64]announcement{}
	}
	pl.announced[r.Fleet] = announcement{release: r.ID, at: time.Now(), sent: pl.Hub.AllTravelled()}
	pl.mu.Unlock()
	pl.Hub.LookAgain(r.Fleet)
}

// announcementOf is when a release was announced. One that is not remembered, as after a restart, counts from now.
func (pl *Pipeline) announcementOf(r fleet.Release) (a announcement, remembered bool) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if a := pl.announced[r.Fleet]; a.release == r.ID {
		return a, true
	}
	return announcement{release: r.ID, at: time.Now(), sent: pl.Hub.AllTravelled()}, false
}

// Push is one arrival of source.
type Push struct {
	Fleet        int64
	User         int64
	Ref          string
	GitCommit    string   // 40 hex
	Roots        []string // root commits of its history, the first parents' root first
	Draft        bool
	NoCache      bool
	ForceHistory bool
	Received     time.Duration // how long the source took to arrive; 0 if nobody measured
	Archive      func(ctx context.Context, w io.Writer) error
}

// commit is the release's name for a git commit.
func (p Push) commit() string { return Commit(p.GitCommit) }

// Commit is the name of the release that is made of a git commit: its first 32 digits.
func Commit(gitCommit string) string { return gitCommit[:min(32, len(gitCommit))] }

// Push builds what arrived and makes it the fleet's release. It returns when the release has ended; an error says
// why there is none, and the fleet is then as it was. out gets the build as it happens.
func (pl *Pipeline) Push(ctx context.Context, p Push, out io.Writer) (fleet.Release, error) {
	ctx, end := pl.stoppable(ctx)
	defer end()
	if errors.Is(context.Cause(ctx), errStopping) {
		return fleet.Release{}, fault.New(fault.Unavailable, "the server is being restarted").WithHint("push again in a moment")
	}
	f, err := pl.Store.Fleet(ctx, p.Fleet)
	if err != nil {
		return fleet.Release{}, err
	}
	if err := checkHistory(f, p); err != nil {
		return fleet.Release{}, err
	}
	leave, err := pl.enter(ctx, p.Fleet, out)
	if err != nil {
		return fleet.Release{}, err
	}
	defer leave()

	done, found, err := pl.Store.Succeeded(ctx, p.Fleet, p.commit())
	if err != nil {
		return fleet.Release{}, err
	}
	// A history that is new, or was forced, is the fleet's from now on.
	var root string
	if len(p.Roots) > 0 && !slices.Contains(p.Roots, f.RootCommit) {
		root = p.Roots[0]
	}
	if found {
		if root != "" {
			if err := pl.Store.RememberRoot(ctx, p.Fleet, root); err != nil {
				return done, err
			}
		}
		return pl.again(ctx, done, p, out)
	}
	r, _, err := pl.Store.BeginRelease(ctx, store.NewRelease{
		Fleet: p.Fleet, Commit: p.commit(), GitCommit: p.GitCommit, Ref: p.Ref, User: p.User, Draft: p.Draft, NoCache: p.NoCache, Root: root,
	})
	if err != nil {
		return fleet.Release{}, err
	}
	j := &job{Pipeline: pl, fleet: f, release: r, log: &transcript{out: out}, began: time.Now()}
	j.say("Building %s for %s (%s)", short(r.Commit), f.Slug, f.Arch)
	if p.Received > 0 {
		j.say("source received in %s", seconds(p.Received))
	}
	if err := pl.keepSource(ctx, r.ID, p.Archive); err != nil {
		return r, j.end(ctx, err)
	}
	return j.run(ctx)
}

// checkHistory refuses a history that has nothing to do with the fleet's.
func checkHistory(f fleet.Fleet, p Push) error {
	if f.RootCommit == "" || p.ForceHistory || len(p.Roots) == 0 || slices.Contains(p.Roots, f.RootCommit) {
		return nil
	}
	return fault.Newf(fault.Conflict, "this history is unrelated to what was pushed to %s before (it starts at %s, the fleet's at %s)",
		f.Slug, short(p.Roots[0]), short(f.RootCommit)).
		WithHint("is this the right folder and the right remote? To replace the fleet's history: git push --force -o force-history …")
}

// again answers the push of a commit that has its release.
func (pl *Pipeline) again(ctx context.Context, r fleet.Release, p Push, out io.Writer) (fleet.Release, error) {
	t := &transcript{out: out}
	t.line("Commit %s is built already: release %s", short(r.Commit), name(r))
	if p.NoCache {
		t.line("it is not built again; for a fresh build of the same source: git commit --allow-empty")
	}
	if r.Draft() && !p.Draft {
		if err := pl.Store.Finalize(ctx, r); err != nil {
			return r, err
		}
		t.line("the draft is final now")
	}
	r, err := pl.Store.Release(ctx, r.ID)
	if err != nil {
		return r, err
	}
	if !r.Draft() && !p.Draft {
		moved, err := pl.Store.Retarget(ctx, r)
		if err != nil {
			return r, err
		}
		if moved {
			t.line("the fleet's target is %s again", name(r))
		}
		if f, err := pl.Store.Fleet(ctx, r.Fleet); err == nil && f.TrackLatest && f.Target != r.ID {
			t.line("it does not become the fleet's target, because it is invalidated or failed its tests")
		}
	}
	pl.announce(r)
	return r, nil
}

// enter waits until no other push to the fleet is under way.
func (pl *Pipeline) enter(ctx context.Context, fleetID int64, out io.Writer) (leave func(), err error) {
	pl.mu.Lock()
	if pl.queues == nil {
		pl.queues = map[int64]chan struct{}{}
	}
	q := pl.queues[fleetID]
	if q == nil {
		q = make(chan struct{}, 1)
		pl.queues[fleetID] = q
	}
	pl.mu.Unlock()
	select {
	case q <- struct{}{}:
	default:
		(&transcript{out: out}).line("Another push to this fleet is being built; waiting for it…")
		select {
		case q <- struct{}{}:
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Unavailable, context.Cause(ctx), "the push was broken off while it waited for another one").
				WithHint("push again")
		}
	}
	return func() { <-q }, nil
}

// Recover finds the releases that a stopped or killed server left under way, for Run, and removes what it left of
// others. It is called before the first push can arrive.
func (pl *Pipeline) Recover(ctx context.Context) (err error) {
	if pl.left, err = pl.Store.Unfinished(ctx); err != nil {
		return err
	}
	if err := pl.sweep(pl.left); err != nil {
		pl.Log.Warn("old sources not removed", "err", err)
	}
	return nil
}

// Run goes on with every release that Recover found, and returns when they have ended or ctx does.
func (pl *Pipeline) Run(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, r := range pl.left {
		g.Go(func() error {
			pl.resume(ctx, r.ID)
			return nil
		})
	}
	return g.Wait()
}

func (pl *Pipeline) resume(ctx context.Context, id int64) {
	ctx, end := pl.stoppable(ctx)
	defer end()
	err := func() error {
		r, err := pl.Store.Release(ctx, id)
		if err != nil {
			return err
		}
		leave, err := pl.enter(ctx, r.Fleet, io.Discard)
		if err != nil {
			return err
		}
		defer leave()
		if r, err = pl.Store.Release(ctx, id); err != nil || r.Status.Ended() {
			return err // a push of the same commit was here first
		}
		f, err := pl.Store.Fleet(ctx, r.Fleet)
		if err != nil {
			return err
		}
		j := &job{Pipeline: pl, fleet: f, release: r, log: &transcript{out: io.Discard}, began: time.Now()}
		if _, err := os.Stat(pl.source(id)); err != nil {
			return pl.Store.Fail(ctx, id, fleet.Interrupted, "the server stopped before the source had arrived; push again", "")
		}
		j.say("Going on after a restart of the server")
		_, err = j.run(ctx)
		return err
	}()
	switch {
	case ctx.Err() != nil:
		pl.Log.Info("release left by the last run is left to the next one", "release", id)
	case err != nil:
		pl.Log.Warn("release left by the last run did not succeed", "release", id, "err", err)
	default:
		pl.Log.Info("release left by the last run has ended", "release", id)
	}
}

// source is where the archive of a release under way is kept.
func (pl *Pipeline) source(release int64) string {
	return filepath.Join(pl.Sources, fmt.Sprintf("%d.tar", release))
}

// keepSource writes the archive to disk, whole or not at all, so that the build no longer needs the pusher.
func (pl *Pipeline) keepSource(ctx context.Context, release int64, archive func(context.Context, io.Writer) error) (err error) {
	if err := os.MkdirAll(pl.Sources, 0o700); err != nil {
		return fmt.Errorf("keep source: %w", err)
	}
	f, err := os.CreateTemp(pl.Sources, "arriving-*")
	if err != nil {
		return fmt.Errorf("keep source: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := archive(ctx, f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("keep source: %w", err)
	}
	return os.Rename(f.Name(), pl.source(release))
}

// sweep removes what a killed server left of releases that have ended.
func (pl *Pipeline) sweep(left []fleet.Release) error {
	keep := map[string]bool{}
	for _, r := range left {
		keep[pl.source(r.ID)] = true
	}
	files, err := filepath.Glob(filepath.Join(pl.Sources, "*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if !keep[f] {
			err = errors.Join(err, os.Remove(f))
		}
	}
	return errors.Join(err, os.RemoveAll(pl.Work))
}

// slot waits for a place to build an image in.
func (pl *Pipeline) slot(ctx context.Context) (leave func(), err error) {
	pl.once.Do(func() { pl.slots = make(chan struct{}, parallel) })
	select {
	case pl.slots <- struct{}{}:
		return func() { <-pl.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// location makes the place of a new image.
func (pl *Pipeline) location() (repository, location string) {
	var b [16]byte
	rand.Read(b[:]) // never fails
	repository = "v2/" + hex.EncodeToString(b[:])
	return repository, pl.Registry + "/" + repository
}

// short is a commit as people write it.
func short(commit string) string { return commit[:min(7, len(commit))] }

// name is a release as people write it.
func name(r fleet.Release) string {
	if r.Draft() {
		return fmt.Sprintf("%s (draft, commit %s)", r.Version.RawDraft(r.Created.UnixMilli()), short(r.Commit))
	}
	return fmt.Sprintf("%s (revision %d, commit %s)", r.Version.Raw(r.Revision), r.Revision, short(r.Commit))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// transcript sends lines to whoever watches and keeps the end of them for the release. It may be written to
// concurrently; a watcher that went away does not end the build by itself.
type transcript struct {
	mu   sync.Mutex
	out  io.Writer
	kept bytes.Buffer
}

func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out.Write(b) // the watcher's going shows in the context
	t.kept.Write(b)
	if over := t.kept.Len() - maxLog; over > maxLog/4 {
		t.kept.Next(over)
	}
	return len(b), nil
}

// keep adds text to what is kept, and says nothing.
func (t *transcript) keep(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept.WriteString(text)
}

func (t *transcript) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

func (t *transcript) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.kept.Bytes()
	if len(b) > maxLog {
		b = b[len(b)-maxLog:]
	}
	return string(bytes.ToValidUTF8(b, []byte("�")))
}
