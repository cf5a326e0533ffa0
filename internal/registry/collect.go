package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver"
)

// distribution's layout, below the folder.
const (
	repositories = "docker/registry/v2/repositories"
	blobs        = "docker/registry/v2/blobs"
)

const (
	// young is how long what was pushed is left alone whether or not anything refers to it: a push brings the
	// layers first and the manifest last. It is longer than a builder's token lives.
	young = 3 * time.Hour
	// abandoned is how long an upload rests before nobody is thought to go on with it.
	abandoned = 24 * time.Hour
)

// repository is what Collect found of one.
type repository struct {
	newest    time.Time            // when a file of it was last written
	manifests bool                 // it has, or had, a manifest
	layers    []string             // digests of layers linked into it
	uploads   map[string]time.Time // folder of an upload → when it last grew
}

// Collect removes the repositories that keep does not want, uploads that nobody goes on with, and layers and
// manifests that nothing refers to; what was written within the last three hours stays. keep is asked by name,
// v2/<32 hex>, also for the stages v2/<32 hex>-<n> that a build keeps beside an image. Pulls and uploads go on
// meanwhile; a push waits, at the end of a layer or a manifest, until Collect is done. freed is in bytes, and true
// also beside an error.
func (r *Registry) Collect(ctx context.Context, keep func(repository string) bool) (freed int64, err error) {
	r.collecting.Lock()
	defer r.collecting.Unlock()
	now := r.now()
	s := &sweeper{StorageDriver: r.driver, registry: r, now: now, spared: map[string]bool{}}
	defer func() { freed = s.freed }()

	all, err := r.survey(ctx, s)
	if err != nil {
		return 0, fmt.Errorf("collect: survey repositories: %w", err)
	}
	for name, repo := range all {
		if err := r.tidy(ctx, s, name, repo, keep); err != nil {
			return 0, fmt.Errorf("collect: repository %s: %w", name, err)
		}
	}
	if err := storage.MarkAndSweep(ctx, s, r.images, storage.GCOpts{Quiet: true}); err != nil {
		return 0, fmt.Errorf("collect: %w", err)
	}
	return 0, ctx.Err()
}

// survey walks all repositories. On its way it removes temporary files that a killed process left.
func (r *Registry) survey(ctx context.Context, s *sweeper) (map[string]*repository, error) {
	all := map[string]*repository{}
	root := r.path(repositories)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an upload that was cancelled meanwhile
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name, part, rest := split(filepath.ToSlash(rel))
		if part == "" {
			return nil
		}
		repo := all[name]
		if repo == nil {
			repo = &repository{uploads: map[string]time.Time{}}
			all[name] = repo
		}
		repo.manifests = repo.manifests || part == "_manifests"
		info, err := d.Info()
		if err != nil {
			return skipGone(err)
		}
		upload, _, _ := strings.Cut(rest, "/")
		if part == "_uploads" && upload != "" && info.ModTime().After(repo.uploads[upload]) {
			repo.uploads[upload] = info.ModTime()
		}
		if d.IsDir() {
			return nil
		}
		if strings.HasSuffix(path, ".tmp") && s.now.Sub(info.ModTime()) > abandoned {
			return s.remove(ctx, path)
		}
		if info.ModTime().After(repo.newest) {
			repo.newest = info.ModTime()
		}
		if layer, ok := strings.CutSuffix(rest, "/link"); ok && part == "_layers" {
			repo.layers = append(repo.layers, layer)
		}
		return nil
	})
	return all, err
}

// split takes v2/ab/_layers/sha256/cd/link apart: the repository, the first part with an underscore, the rest.
func split(rel string) (name, part, rest string) {
	i := strings.Index("/"+rel, "/_")
	if i < 0 {
		return rel, "", ""
	}
	part, rest, _ = strings.Cut(rel[i:], "/")
	return strings.TrimSuffix(rel[:i], "/"), part, rest
}

// stage is the end of the name of a repository that goes with another one.
var stage = regexp.MustCompile(`-[0-9]+$`)

// tidy removes a repository or what is stale in it, and spares what is young from the sweep.
func (r *Registry) tidy(ctx context.Context, s *sweeper, name string, repo *repository, keep func(string) bool) error {
	dir := r.path(repositories, name)
	isYoung := s.now.Sub(repo.newest) <= young
	if !isYoung && !keep(stage.ReplaceAllString(name, "")) {
		for _, part := range []string{"_manifests", "_layers", "_uploads"} {
			if err := s.remove(ctx, filepath.Join(dir, part)); err != nil {
				return err
			}
		}
		_ = os.Remove(dir) // unless another repository's name begins with this one's
		r.log.Info("removed repository", "repository", name)
		return nil
	}
	if isYoung {
		s.spared[name] = true
		for _, layer := range repo.layers {
			s.spared[layer] = true
		}
	}
	for upload, grew := range repo.uploads {
		if s.now.Sub(grew) > abandoned {
			if err := s.remove(ctx, filepath.Join(dir, "_uploads", upload)); err != nil {
				return err
			}
		}
	}
	if repo.manifests {
		// A repository of manifests alone has no such folder, and the sweep would stop there.
		return os.MkdirAll(filepath.Join(dir, "_layers"), 0o700)
	}
	return nil
}

// sweeper is the storage driver as the sweep sees it: what is spared is not deleted, and what is deleted is counted.
type sweeper struct {
	driver.StorageDriver
	registry *Registry
	now      time.Time
	spared   map[string]bool // repositories by name, blobs as sha256/<hex>
	freed    int64
}

// Delete is how the sweep removes a blob (its folder) and a link to a layer.
func (s *sweeper) Delete(ctx context.Context, path string) error {
	if rel, ok := strings.CutPrefix(path, "/"+repositories+"/"); ok {
		if name, _, _ := split(rel); s.spared[name] {
			return nil
		}
	} else if rel, ok := strings.CutPrefix(path, "/"+blobs+"/"); ok {
		algorithm, _, _ := strings.Cut(rel, "/")
		if s.spared[algorithm+"/"+filepath.Base(path)] {
			return nil
		}
		// A layer whose push ended before its link was made.
		info, err := os.Stat(s.registry.path(path, "data"))
		if err == nil && s.now.Sub(info.ModTime()) <= young {
			return nil
		}
	}
	return s.remove(ctx, s.registry.path(path))
}

// remove deletes a file or a folder, if it is there, and counts it.
func (s *sweeper) remove(ctx context.Context, path string) error {
	n, err := sizeOf(ctx, path)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	s.freed += n
	return nil
}

// path is where a path of distribution's is on the disk.
func (r *Registry) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

// sizeOf is how many bytes the files below a path have. Files that go meanwhile, or are not there, have none.
func sizeOf(ctx context.Context, root string) (n int64, err error) {
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err := errors.Join(skipGone(err), ctx.Err()); err != nil {
			return err
		}
		if d == nil || d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return skipGone(err)
		}
		n += info.Size()
		return nil
	})
	return n, err
}

func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
