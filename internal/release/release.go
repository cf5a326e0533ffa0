// Package release owns the whole road of a push: source → images → release → the fleet's target → the devices that
// take it. Every leg is a row before it is walked, so that a server killed anywhere goes on from there. It does not
// own git, SQL or HTTP.
package release

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/store"
)

// Causes with which builds are ended from outside.
var (
	errStopping  = errors.New("the server is stopping")    // by Stop
	errCancelled = errors.New("the release was cancelled") // by Cancel
)

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
	// Moved is told of each release that began, ended or became final, as it is then. It must not block; may be nil.
	Moved func(fleet.Release)
	// DeltaFormat is the format of the deltas that whoever follows a rollout is told of; "" is of none.
	DeltaFormat string

	left []fleet.Release // what Recover found

	once  sync.Once
	slots chan struct{} // a place for each image being built

	background sync.WaitGroup // sources between their arrival and the end of their releases

	mu        sync.Mutex
	queues    map[int64]chan struct{} // one place per fleet
	waiting   map[int64]int           // sources of a fleet that are being built or wait for it
	arriving  int                     // sources that are being received
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

// Wait returns when what Push and Start took of folders is over. It is called after Stop.
func (pl *Pipeline) Wait() { pl.background.Wait() }

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
	bases   map[int64]int    // devices that were to come from another release, by that one
}

// announce tells the devices of a fleet to look at a release.
func (pl *Pipeline) announce(ctx context.Context, r fleet.Release) {
	bases, err := pl.Store.RunningReleases(ctx, r)
	if err != nil {
		pl.Log.Warn("what devices come from is not told to whoever follows the release", "release", r.ID, "err", err)
	}
	pl.mu.Lock()
	if pl.announced == nil {
		pl.announced = map[int64]announcement{}
	}
	pl.announced[r.Fleet] = announcement{release: r.ID, at: time.Now(), sent: pl.Hub.AllTravelled(), bases: bases}
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
		j := pl.job(f, r, io.Discard)
		if _, err := os.Stat(pl.source(id)); err != nil {
			defer pl.moved(ctx, id)
			return pl.Store.Fail(ctx, id, fleet.Interrupted, "the server stopped before the source had arrived; push again", "")
		}
		j.say("Going on after a restart of the server")
		ctx, end := pl.cancellable(ctx, id)
		defer end()
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

// NewLocation makes the place of a new image: its repository, and where that is.
func (pl *Pipeline) NewLocation() (repository, location string) {
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
