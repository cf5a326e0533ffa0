package deltajob

import (
	"context"
	"slices"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// comeBack is when somebody is to ask again who did not wait long enough.
const comeBack = 5 * time.Second

// Question is who asks for the delta between which images, by their repositories.
type Question struct {
	Source, Target             string // v2/<32 hex>
	SourceDigest, TargetDigest string // of the manifests; "" is whatever they have
	Format                     string
	Device                     int64 // 0 is somebody who may only look
}

// Find is the delta that is asked for. One that is being made is waited for, for a short while. fault.NotFound means that
// there is none, nor will be soon: what it would save is to be fetched whole. fault.Unavailable means that it is being made;
// its wait says when to ask again.
func (j *Jobs) Find(ctx context.Context, q Question) (fleet.Delta, error) {
	j.init()
	if !slices.Contains(j.Formats, q.Format) {
		return fleet.Delta{}, none()
	}
	if j.Parallel == 0 {
		q.Device = 0
	}
	d, found, err := j.Store.AskDelta(ctx, store.DeltaQuestion{
		Source: q.Source, Target: q.Target, SourceDigest: q.SourceDigest, TargetDigest: q.TargetDigest,
		Format: q.Format, Device: q.Device, Most: perAsker,
	})
	if err != nil {
		return d, err
	}
	timer := time.NewTimer(j.Wait)
	defer timer.Stop()
	for last := false; ; {
		switch {
		case !found:
			return d, none()
		case d.Status == fleet.DeltaReady:
			j.use(d.ID, 0)
			return d, nil
		case d.Status.Settled(), j.Parallel == 0:
			return d, none()
		case last:
			return d, fault.New(fault.Unavailable, "the delta is being made").WithWait(comeBack)
		}
		j.call()
		if d, found, last, err = j.wait(ctx, d.ID, timer.C); err != nil {
			return d, err
		}
	}
}

// wait waits for the end of an attempt at a delta and returns how it stands then; last says that the time is up.
func (j *Jobs) wait(ctx context.Context, id int64, up <-chan time.Time) (d fleet.Delta, found, last bool, err error) {
	ended, leave := j.await(id)
	defer leave()
	// Once more after await: an end between the two would be missed.
	if d, found, err = j.Store.Delta(ctx, id); err != nil || !found || d.Status.Settled() {
		return d, found, false, err
	}
	select {
	case <-ended:
	case <-up:
		last = true
	case <-ctx.Done():
		return d, true, true, nil
	}
	d, found, err = j.Store.Delta(ctx, id)
	return d, found, last, err
}

func none() error { return fault.New(fault.NotFound, "there is no delta between these images") }

// attempts of a delta that somebody awaits.
type awaited struct {
	ended chan struct{} // closed at the end of the next one
	by    int
}

// await is closed when an attempt at a delta has ended. leave must be called.
func (j *Jobs) await(id int64) (ended <-chan struct{}, leave func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	a := j.waiting[id]
	if a == nil {
		a = &awaited{ended: make(chan struct{})}
		j.waiting[id] = a
	}
	a.by++
	return a.ended, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		if a.by--; a.by == 0 && j.waiting[id] == a {
			delete(j.waiting, id)
		}
	}
}

// settled tells who awaits a delta that an attempt at it has ended.
func (j *Jobs) settled(id int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if a := j.waiting[id]; a != nil {
		close(a.ended)
		delete(j.waiting, id)
	}
}

// key is how a device's fetching of a delta shows in the registry.
func key(d fleet.Delta) string {
	if d.Artifact.Blob != "" {
		return d.Target.Repository + "@" + d.Artifact.Blob
	}
	return d.Target.Repository + "@" + d.Artifact.Manifest
}

// know remembers a delta that is ready.
func (j *Jobs) know(d fleet.Delta) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.kept[key(d)] = kept{id: d.ID, saves: d.Replaces - d.Artifact.Size}
}

// Sent tells that the end of a blob or a manifest of a repository was sent to a device. It does not block.
func (j *Jobs) Sent(repository, digest string) {
	j.init()
	j.mu.Lock()
	k, ok := j.kept[repository+"@"+digest]
	j.mu.Unlock()
	if !ok {
		return
	}
	j.use(k.id, 1)
	if j.Saved != nil {
		j.Saved(k.saves)
	}
}

// use notes that a delta was used.
func (j *Jobs) use(id, times int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	u := j.uses[id]
	u.Times, u.Last = u.Times+times, j.now()
	j.uses[id] = u
}

// write records the uses since it last did.
func (j *Jobs) write(ctx context.Context) {
	j.mu.Lock()
	uses := j.uses
	j.uses = map[int64]fleet.DeltaUse{}
	j.mu.Unlock()
	if err := j.Store.UsedDeltas(ctx, uses); err != nil {
		j.log().Warn("use of deltas not recorded", "err", err)
	}
}
