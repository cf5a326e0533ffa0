package deltajob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/dunlin/dunlin/internal/fleet"
)

// makeRoom drops deltas, those first that were not used for the longest time, until what is kept and what is at work
// are within Space. errRoom says that what is at work takes more than its part. keeping is held.
func (j *Jobs) makeRoom(ctx context.Context) error {
	if j.Space <= 0 {
		return nil
	}
	at, err := sizeOf(j.Dir)
	if err != nil {
		return fmt.Errorf("measure what is at work: %w", err)
	}
	if at > j.workSpace() {
		return fmt.Errorf("%w (%d bytes of %d)", errRoom, at, j.workSpace())
	}
	j.write(ctx) // the last use counts
	all, err := j.Store.KeptDeltas(ctx)
	if err != nil {
		return err
	}
	total := at
	for _, d := range all {
		total += d.Artifact.Size
	}
	for _, d := range all {
		if total <= j.Space {
			return nil
		}
		dropped, err := j.Store.DropDelta(ctx, d.ID, "it made room for other deltas; it is made again when a device asks for it")
		if err != nil {
			return err
		}
		total -= d.Artifact.Size
		if !dropped {
			continue
		}
		if err := j.drop(ctx, d); err != nil {
			return err
		}
		j.log().Info("delta dropped to make room", "delta", d.ID, "bytes", d.Artifact.Size)
	}
	if total > j.Space {
		return fmt.Errorf("%w (%d bytes of %d)", errRoom, total, j.Space)
	}
	return nil
}

// workSpace is what all that is at work may take: what one delta needs for a while does not cost all others.
func (j *Jobs) workSpace() int64 { return j.Space / 2 }

// drop takes the artifact of a delta that no row names any more out of the registry. keeping is held.
func (j *Jobs) drop(ctx context.Context, d fleet.Delta) error {
	j.mu.Lock()
	delete(j.kept, key(d))
	j.mu.Unlock()
	if d.Artifact.Manifest == "" {
		return nil
	}
	if named, err := j.Store.ArtifactNamed(ctx, d.Target.Repository, d.Artifact.Manifest); err != nil || named {
		return err
	}
	var own []string
	if d.Artifact.Blob != "" {
		named, err := j.Store.BlobNamed(ctx, d.Artifact.Blob)
		if err != nil {
			return err
		}
		if !named {
			own = append(own, d.Artifact.Blob)
		}
	}
	_, err := j.Registry.Drop(ctx, d.Target.Repository, d.Artifact.Manifest, own...)
	return err
}

// Gone takes the artifacts of deltas whose rows were deleted out of the registry. What it cannot, Collect does.
func (j *Jobs) Gone(ctx context.Context, all []fleet.Delta) {
	j.init()
	j.keeping.Lock()
	defer j.keeping.Unlock()
	for _, d := range all {
		if err := j.drop(ctx, d); err != nil {
			j.log().Warn("delta not removed from the registry; the next collection does it", "delta", d.ID, "err", err)
		}
	}
	j.Poke()
}

// sizeOf is how many bytes the files below a folder have. Files that go meanwhile have none.
func sizeOf(root string) (n int64, err error) {
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
