package release

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// Push is one arrival of source: a commit that came by git, or a folder that came as an archive.
type Push struct {
	Fleet        int64
	Actor        fleet.Actor // who pushed
	Ref          string
	GitCommit    string   // 40 hex; of a folder: the commit that it holds unchanged, or ""
	Roots        []string // root commits of its history, the first parents' root first; none for a folder without one
	Draft        bool
	NoCache      bool
	ForceHistory bool
	Dockerfile   string        // path in the source of the Dockerfile to use; "" lets the builder look
	Received     time.Duration // how long the source took to arrive; 0 if nobody measured
	// Archive writes the source of a commit. It is called once the release is recorded.
	Archive func(ctx context.Context, w io.Writer) error
	// Source is a folder's, instead of Archive: what Receive took. Its release gets a commit of its own.
	Source *Source
	// Begun is told the release as soon as it is recorded, before anything is written about it. A commit that has its
	// release begins none. May be nil.
	Begun func(fleet.Release)
}

// Commit is the name of the release that is made of a git commit: its first 32 digits.
func Commit(gitCommit string) string { return gitCommit[:min(32, len(gitCommit))] }

// Push builds what arrived and makes it the fleet's release. It returns when the release has ended; an error says
// why there is none, and the fleet is then as it was. out gets the build as it happens.
//
// A commit's push is over when ctx is: git moves no ref for a pusher who left. A folder's goes on without its pusher
// from when its release begins, and ends early only by Cancel and Stop.
func (pl *Pipeline) Push(ctx context.Context, p Push, out io.Writer) (fleet.Release, error) {
	if p.Source == nil {
		return pl.pushCommit(ctx, p, out)
	}
	leave, err := pl.admit()
	if err != nil {
		return fleet.Release{}, err
	}
	defer leave()
	j, err := pl.begin(ctx, p, out)
	if err != nil {
		return fleet.Release{}, err
	}
	return j.finish(context.WithoutCancel(ctx), p)
}

// Start begins the release of a source and returns it while it is being built. Nobody is told how it ends but the
// release; Wait waits for that.
func (pl *Pipeline) Start(ctx context.Context, p Push) (fleet.Release, error) {
	leave, err := pl.admit()
	if err != nil {
		return fleet.Release{}, err
	}
	defer leave()
	j, err := pl.begin(ctx, p, io.Discard)
	if err != nil {
		return fleet.Release{}, err
	}
	pl.background.Go(func() { _, _ = j.finish(context.WithoutCancel(ctx), p) }) // the release and the log say how it ended
	return j.release, nil
}

// Check is nil if Push and Start would take a folder's source, whatever it holds: a client need not send it otherwise.
func (pl *Pipeline) Check(ctx context.Context, p Push) error {
	f, err := pl.check(ctx, p)
	if err != nil {
		return err
	}
	if err := pl.line(f); err != nil {
		return err
	}
	pl.unline(f.ID)
	return nil
}

// check finds the fleet of a push whose history may go there.
func (pl *Pipeline) check(ctx context.Context, p Push) (fleet.Fleet, error) {
	f, err := pl.Store.Fleet(ctx, p.Fleet)
	if err != nil {
		return f, err
	}
	return f, checkHistory(f, p)
}

// begin records the release of a source and takes the source over.
func (pl *Pipeline) begin(ctx context.Context, p Push, out io.Writer) (*job, error) {
	f, err := pl.check(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := pl.line(f); err != nil {
		return nil, err
	}
	// From here on a pusher who leaves would leave half a release.
	ctx = context.WithoutCancel(ctx)
	var name [16]byte
	rand.Read(name[:]) // never fails
	j, err := pl.record(ctx, f, p, hex.EncodeToString(name[:]), out)
	if err == nil {
		err = p.Source.keep(pl.source(j.release.ID))
		if err != nil {
			err = j.end(ctx, err)
		}
	}
	if err != nil {
		pl.unline(f.ID)
		return nil, err
	}
	if p.Begun != nil {
		p.Begun(j.release)
	}
	j.hello(p)
	return j, nil
}

// finish waits for the fleet's turn and builds.
func (j *job) finish(ctx context.Context, p Push) (fleet.Release, error) {
	defer j.unline(j.fleet.ID)
	ctx, end := j.stoppable(ctx)
	defer end()
	ctx, end = j.cancellable(ctx, j.release.ID)
	defer end()
	leave, err := j.enter(ctx, j.fleet.ID, j.log)
	if err != nil {
		return j.release, j.end(ctx, err)
	}
	defer leave()
	j.began = time.Now()
	// It may have been cancelled before there was anything to cancel.
	now, err := j.Store.Release(ctx, j.release.ID)
	if err == nil && now.Status.Ended() {
		err = errCancelled
	}
	if err == nil {
		_, err = j.check(ctx, p) // the push before it may have been the fleet's first
	}
	if err != nil {
		return j.release, j.end(ctx, err)
	}
	return j.run(ctx)
}

// pushCommit is Push for what came by git.
func (pl *Pipeline) pushCommit(ctx context.Context, p Push, out io.Writer) (fleet.Release, error) {
	ctx, end := pl.stoppable(ctx)
	defer end()
	if errors.Is(context.Cause(ctx), errStopping) {
		return fleet.Release{}, beingRestarted()
	}
	if _, err := pl.check(ctx, p); err != nil {
		return fleet.Release{}, err
	}
	leave, err := pl.enter(ctx, p.Fleet, out)
	if err != nil {
		return fleet.Release{}, err
	}
	defer leave()
	f, err := pl.check(ctx, p) // the push before it may have been the fleet's first
	if err != nil {
		return fleet.Release{}, err
	}
	done, found, err := pl.Store.Succeeded(ctx, p.Fleet, Commit(p.GitCommit))
	if err != nil {
		return fleet.Release{}, err
	}
	if found {
		// A history that is new, or was forced, is the fleet's from now on.
		if root := newRoot(f, p); root != "" {
			if err := pl.Store.RememberRoot(ctx, p.Fleet, root); err != nil {
				return done, err
			}
		}
		return pl.again(ctx, f, done, p, out)
	}
	j, err := pl.record(ctx, f, p, Commit(p.GitCommit), out)
	if err != nil {
		return fleet.Release{}, err
	}
	if p.Begun != nil {
		p.Begun(j.release)
	}
	ctx, end = pl.cancellable(ctx, j.release.ID)
	defer end()
	j.hello(p)
	if err := pl.keepSource(ctx, j.release.ID, p.Archive); err != nil {
		return j.release, j.end(ctx, err)
	}
	return j.run(ctx)
}

// record begins a release in the database.
func (pl *Pipeline) record(ctx context.Context, f fleet.Fleet, p Push, commit string, out io.Writer) (*job, error) {
	n := store.NewRelease{
		Fleet: f.ID, Commit: commit, GitCommit: p.GitCommit, Ref: p.Ref, Draft: p.Draft, NoCache: p.NoCache,
		Root: newRoot(f, p), Dockerfile: p.Dockerfile,
	}
	if p.Actor.Kind == fleet.UserActor {
		n.User = p.Actor.ID
	}
	r, _, err := pl.Store.BeginRelease(ctx, n)
	if err != nil {
		return nil, err
	}
	if pl.Moved != nil {
		pl.Moved(r)
	}
	j := pl.job(f, r, out)
	if err := pl.audit(ctx, f, r, p); err != nil {
		return nil, j.end(ctx, err)
	}
	return j, nil
}

func (pl *Pipeline) job(f fleet.Fleet, r fleet.Release, out io.Writer) *job {
	return &job{Pipeline: pl, fleet: f, release: r, log: &transcript{out: out}, began: time.Now()}
}

// hello is what the pusher reads first.
func (j *job) hello(p Push) {
	j.say("Building %s for %s (%s)", short(j.release.Commit), j.fleet.Slug, j.fleet.Arch)
	if p.Received > 0 {
		j.say("source received in %s", seconds(p.Received))
	}
}

// audit puts a push on the trail.
func (pl *Pipeline) audit(ctx context.Context, f fleet.Fleet, r fleet.Release, p Push) error {
	details := map[string]any{"commit": r.Commit}
	for name, value := range map[string]string{"ref": p.Ref, "git_commit": p.GitCommit, "dockerfile": p.Dockerfile} {
		if value != "" {
			details[name] = value
		}
	}
	for name, value := range map[string]bool{"draft": p.Draft, "nocache": p.NoCache, "force_history": p.ForceHistory} {
		if value {
			details[name] = true
		}
	}
	return pl.Store.Audit(ctx, store.Audit{
		Actor: p.Actor, Verb: "push", Resource: "release", Row: r.ID, Organization: f.Organization, Fleet: f.ID, Details: details,
	})
}

// newRoot is the root commit that becomes the fleet's with a push, or "".
func newRoot(f fleet.Fleet, p Push) string {
	if len(p.Roots) > 0 && !slices.Contains(p.Roots, f.RootCommit) {
		return p.Roots[0]
	}
	return ""
}

// checkHistory refuses a history that has nothing to do with the fleet's.
func checkHistory(f fleet.Fleet, p Push) error {
	if f.RootCommit == "" || p.ForceHistory || len(p.Roots) == 0 || slices.Contains(p.Roots, f.RootCommit) {
		return nil
	}
	hint := "is this the right folder and the right remote? To replace the fleet's history: git push --force -o force-history …"
	if p.Archive == nil {
		hint = "is this the right folder and the right fleet? To replace the fleet's history: dunlin push --force-history …"
	}
	return fault.Newf(fault.Conflict, "this history is unrelated to what was pushed to %s before (it starts at %s, the fleet's at %s)",
		f.Slug, short(p.Roots[0]), short(f.RootCommit)).WithHint(hint)
}

// again answers the push of a commit that has its release.
func (pl *Pipeline) again(ctx context.Context, f fleet.Fleet, r fleet.Release, p Push, out io.Writer) (fleet.Release, error) {
	if err := pl.audit(ctx, f, r, p); err != nil {
		return r, err
	}
	t := &transcript{out: out}
	t.line("Commit %s is built already: release %s", short(r.Commit), name(r))
	if p.NoCache {
		t.line("it is not built again; for a fresh build of the same source: git commit --allow-empty")
	}
	if r.Draft() && !p.Draft {
		if err := pl.Store.Finalize(ctx, r); err != nil {
			return r, err
		}
		pl.moved(ctx, r.ID)
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
			pl.moved(ctx, r.ID) // its fleet has another target
			t.line("the fleet's target is %s again", name(r))
		}
		if f, err := pl.Store.Fleet(ctx, r.Fleet); err == nil && f.TrackLatest && f.Target != r.ID {
			t.line("it does not become the fleet's target, because it is invalidated or failed its tests")
		}
	}
	pl.announce(ctx, r)
	return r, nil
}

// moved tells of a release as it is now.
func (pl *Pipeline) moved(ctx context.Context, id int64) {
	if pl.Moved == nil {
		return
	}
	r, err := pl.Store.Release(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return // its fleet was removed
	}
	if err != nil {
		pl.Log.Warn("nobody is told how a release stands", "release", id, "err", err)
		return
	}
	pl.Moved(r)
}
