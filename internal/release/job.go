package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// job is one release being built. Its source is on disk.
type job struct {
	*Pipeline
	fleet   fleet.Fleet
	release fleet.Release
	log     *transcript
	began   time.Time
}

func (j *job) say(format string, args ...any) { j.log.line(format, args...) }

// run builds the images and ends the release, one way or the other. ctx is one that Cancel ends.
func (j *job) run(ctx context.Context) (fleet.Release, error) {
	if err := j.build(ctx); err != nil {
		return j.release, j.end(ctx, err)
	}
	took := time.Since(j.began)
	ended, err := j.Store.Succeed(ctx, j.release, j.log.text())
	if err != nil {
		return j.release, j.end(ctx, err)
	}
	// From here on the release is there, whether or not its pusher still is.
	ctx = context.WithoutCancel(ctx)
	if !ended {
		return j.release, j.end(ctx, errCancelled)
	}
	if j.release, err = j.Store.Release(ctx, j.release.ID); err != nil {
		return j.release, err
	}
	j.announce(ctx, j.release)
	if j.Moved != nil {
		j.Moved(j.release)
	}
	j.say("Release %s built in %s", name(j.release), seconds(took))
	j.done(fleet.Success, took)
	return j.release, nil
}

// build makes the images that are not there yet.
func (j *job) build(ctx context.Context) error {
	dir, err := j.unpack()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // the next start sweeps what stays

	variables, err := j.Store.BuildVariables(ctx, j.fleet.ID)
	if err != nil {
		return err
	}
	project, err := build.Detect(ctx, dir, build.Target{
		DeviceType: j.fleet.DeviceType, Arch: j.fleet.Arch, FleetName: j.fleet.Name, Commit: j.release.Commit, Dockerfile: j.release.Dockerfile,
		Variables: variables,
	})
	if err != nil {
		return err
	}
	for _, w := range project.Warnings {
		j.say("warning: %s", w)
	}
	images, err := j.outline(ctx, project)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range project.Services {
		if images[i].Status == fleet.Success {
			j.say("%s: built before the restart", s.Name)
			continue
		}
		g.Go(func() error { return j.image(ctx, project, s, images[i]) })
	}
	return g.Wait()
}

// unpack lays the source out in a folder of its own.
func (j *job) unpack() (dir string, err error) {
	if err := os.MkdirAll(j.Work, 0o700); err != nil {
		return "", fmt.Errorf("unpack source: %w", err)
	}
	f, err := os.Open(j.source(j.release.ID))
	if err != nil {
		return "", fmt.Errorf("unpack source: %w", err)
	}
	defer f.Close()
	dir, err = os.MkdirTemp(j.Work, fmt.Sprintf("release-%d-", j.release.ID))
	if err != nil {
		return "", fmt.Errorf("unpack source: %w", err)
	}
	if err := build.Unpack(f, dir, j.Limits); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return filepath.Clean(dir), nil
}

// outline records what the release will be made of before any of it is made.
func (j *job) outline(ctx context.Context, p *build.Project) ([]fleet.Image, error) {
	o := store.Outline{Composition: p.Composition, Contract: p.Contract}
	if p.Version != "" {
		v, err := fleet.ParseVersion(p.Version)
		if err != nil {
			return nil, fault.Newf(fault.Invalid, "balena.yml: version: %s", fault.Message(err)).WithHint(fault.Hint(err))
		}
		o.Version = v
	}
	for _, s := range p.Services {
		repository, location := j.NewLocation()
		o.Services = append(o.Services, store.OutlineService{
			Name: s.Name, Repository: repository, Location: location, ProjectType: s.Kind,
			Labels: s.Labels, Variables: s.Environment, Contract: json.RawMessage(s.Contract),
		})
	}
	return j.Store.Outlined(ctx, j.release, o)
}

// image builds one image into the registry and records it.
func (j *job) image(ctx context.Context, p *build.Project, s build.Service, i fleet.Image) error {
	_, repository, _ := strings.Cut(i.Location, "/")
	token, err := j.Token(repository)
	if err != nil {
		return fmt.Errorf("make a registry token: %w", err)
	}
	d := build.Destination{Repository: i.Location, Token: token, Fleet: j.fleet.ID, NoCache: j.release.NoCache}
	if j.Dest != nil {
		d = j.Dest(d)
	}
	leave, err := j.slot(ctx)
	if err != nil {
		return err
	}
	defer leave()
	built, err := j.Builder.Build(ctx, p, s, d, j.log)
	if err != nil {
		return fmt.Errorf("service %s: %w", s.Name, err)
	}
	if err := j.Store.ImageBuilt(ctx, i.ID, store.Built{
		Digest: built.Digest, Size: built.Size, ProjectType: built.Kind, Dockerfile: built.Dockerfile,
	}); err != nil {
		return err
	}
	return nil
}

// end records why there is no release and returns what the pusher is told.
func (j *job) end(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStopping) {
		if _, e := os.Stat(j.source(j.release.ID)); e != nil {
			return fault.Wrap(fault.Unavailable, err, "the server is being restarted, and the source had not arrived").
				WithHint("push again in a moment")
		}
		hint := "push again in a moment to follow it"
		if j.release.GitCommit == "" || Commit(j.release.GitCommit) != j.release.Commit {
			hint = "`dunlin release list " + j.fleet.Slug + "` says in a moment how it ends" // another push would be another release
		}
		return fault.Wrap(fault.Unavailable, err, "the server is being restarted; it goes on with this build by itself").WithHint(hint)
	}
	status := fleet.Failed
	switch {
	case errors.Is(context.Cause(ctx), errCancelled), errors.Is(err, errCancelled):
		status = fleet.Cancelled
		err = fault.Wrap(fault.Conflict, err, "the release was cancelled while it was being built")
	case ctx.Err() != nil:
		status = fleet.Cancelled
		err = fault.Wrap(fault.Unavailable, err, "the push was broken off")
	case fault.KindOf(err) == fault.Internal:
		status = fleet.Errored
		j.Log.Error("build ended in an internal error", "release", j.release.ID, "fleet", j.fleet.Slug, "err", err)
	}
	j.log.keep("error: " + fault.Message(err) + "\n") // the pusher is told by whoever gets the error
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if e := j.Store.Fail(last, j.release.ID, status, fault.Message(err), j.log.text()); e != nil {
		err = errors.Join(err, e)
	}
	j.moved(last, j.release.ID)
	j.done(status, time.Since(j.began))
	return err
}

// done forgets the source and tells how it ended.
func (j *job) done(status fleet.Status, took time.Duration) {
	if err := os.Remove(j.source(j.release.ID)); err != nil && !errors.Is(err, os.ErrNotExist) {
		j.Log.Warn("source not removed", "release", j.release.ID, "err", err)
	}
	if j.Ended != nil {
		j.Ended(status, took)
	}
	j.Log.Info("release ended", "release", j.release.ID, "fleet", j.fleet.Slug, "commit", j.release.Commit,
		"status", string(status), "took", took.Round(time.Millisecond))
}
