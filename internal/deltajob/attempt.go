package deltajob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/registry"
)

// maxReason bounds what is kept of why a delta was not made, in bytes.
const maxReason = 500

// make makes a delta that was claimed and records the outcome.
func (j *Jobs) make(ctx context.Context, d fleet.Delta) {
	began := time.Now()
	err := j.attempt(ctx, &d)
	took := time.Since(began)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	defer j.settled(d.ID)
	log := j.log().With("delta", d.ID, "from", d.Source.Repository, "to", d.Target.Repository, "format", d.Format,
		"took", took.Round(time.Millisecond))
	var until time.Time
	switch {
	case err == nil:
		log.Info("delta made", "bytes", d.Artifact.Size, "replaces", d.Replaces)
		if j.Ended != nil {
			j.Ended(d, took)
		}
		return
	case errors.Is(err, errUnneeded), ctx.Err() != nil:
		if err := j.Store.PutBackDelta(last, d); err != nil {
			log.Warn("delta not put back; its lease ends by itself", "err", err)
		}
		if ctx.Err() == nil {
			log.Info("delta given up: nobody needs it any more")
			j.Poke()
		}
		return
	case errors.Is(err, ErrUseless):
		d.Status, d.Reason = fleet.DeltaUseless, err.Error()
		log.Info("delta is not worth it", "replaces", d.Replaces)
	case fault.Is(err, fault.Invalid), errors.Is(err, registry.ErrNotHere), errors.Is(err, errRoom) && j.Parallel <= 1, d.Attempts >= attempts:
		d.Status, d.Reason = fleet.DeltaFailed, err.Error()
		log.Error("delta not made", "err", err)
	default:
		d.Status, d.Reason = fleet.DeltaWaiting, err.Error()
		until = j.now().Add(j.backoff(d.Attempts))
		log.Warn("delta not made; tried again", "err", err, "at", until.UTC().Format(time.RFC3339))
	}
	d.Reason = strings.ToValidUTF8(d.Reason[:min(len(d.Reason), maxReason)], "")
	if _, err := j.Store.EndDelta(last, d, until); err != nil {
		log.Warn("outcome of a delta not recorded; it is made again", "err", err)
		return
	}
	if j.Ended != nil {
		j.Ended(d, took)
	}
}

// attempt makes a delta, puts it into the registry and records that it is there. d gets what is learnt of it.
func (j *Jobs) attempt(ctx context.Context, d *fleet.Delta) error {
	old, err := j.image(d.Source)
	if err != nil {
		return fmt.Errorf("read the source image: %w", err)
	}
	defer old.close()
	new, err := j.image(d.Target)
	if err != nil {
		return fmt.Errorf("read the target image: %w", err)
	}
	defer new.close()
	if d.Replaces = new.replaced(old); d.Replaces == 0 {
		return fmt.Errorf("%w: the images have the same layers", ErrUseless)
	}
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	dir, err := os.MkdirTemp(j.Dir, fmt.Sprintf("%d-", d.ID))
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			j.log().Warn("what a delta was made of is not removed; the next start does it", "delta", d.ID, "err", err)
		}
	}()

	limited, end := context.WithTimeoutCause(ctx, j.limit(), fmt.Errorf("it takes longer than %v", j.limit()))
	defer end()
	limited, stop := context.WithCancelCause(limited)
	defer stop(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		j.watch(limited, *d, stop)
	}()
	made, err := j.Encoder.Encode(limited, Task{Format: d.Format, Old: old, New: new, Limit: d.Replaces - 1, Dir: dir, Disk: j.workSpace()})
	cause := context.Cause(limited)
	stop(nil)
	<-watched
	if err != nil {
		if cause != nil {
			return cause
		}
		return err
	}
	return j.keep(ctx, d, made, dir)
}

// watch keeps the lease of an attempt and an eye on the room it takes, and stops it when it is not to go on.
func (j *Jobs) watch(ctx context.Context, d fleet.Delta, stop context.CancelCauseFunc) {
	every := time.NewTicker(j.lease() / 3)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		needed, err := j.Store.KeepDelta(ctx, d, j.lease(), j.now().Add(-patience))
		switch {
		case err != nil && ctx.Err() == nil:
			j.log().Warn("lease of a delta not extended", "delta", d.ID, "err", err)
		case err == nil && !needed:
			stop(errUnneeded)
			return
		}
		j.keeping.Lock()
		err = j.makeRoom(ctx)
		j.keeping.Unlock()
		if errors.Is(err, errRoom) {
			stop(err)
			return
		}
	}
}

// keep puts a delta into the registry. Its row names it before it is there, so that nothing is there that no row names.
func (j *Jobs) keep(ctx context.Context, d *fleet.Delta, made Made, dir string) error {
	sum := registry.Digest(made.Manifest)
	d.Artifact = fleet.Artifact{Manifest: sum, Name: "@" + sum, Blob: made.Blob, Size: made.Size, From: made.From, To: made.To}
	if made.Tag != "" {
		d.Artifact.Name = ":" + made.Tag
	}
	var content []registry.Blob
	for _, f := range made.Files {
		b := registry.Blob{Digest: f.Digest, Bytes: f.Bytes}
		if f.Name != "" {
			b.Path = filepath.Join(dir, filepath.Base(f.Name))
		}
		content = append(content, b)
	}
	j.keeping.Lock()
	defer j.keeping.Unlock()
	// What was at work is the delta now: it is counted once.
	if err := j.makeRoom(ctx); err != nil {
		return err
	}
	if named, err := j.Store.NameDelta(ctx, *d); err != nil || !named {
		return errors.Join(err, unneeded(named))
	}
	if err := j.Registry.Put(d.Target.Repository, content, made.Manifest, made.Tag); err != nil {
		return err
	}
	d.Status, d.Reason = fleet.DeltaReady, ""
	ended, err := j.Store.EndDelta(ctx, *d, time.Time{})
	if err != nil || !ended {
		return errors.Join(err, unneeded(ended), j.drop(context.WithoutCancel(ctx), *d))
	}
	j.know(*d)
	return nil
}

func unneeded(still bool) error {
	if still {
		return nil
	}
	return errUnneeded
}
