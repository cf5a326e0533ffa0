package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// killDelay is what git gets between being asked to end and being killed; it removes its quarantine and locks
	// in that time.
	killDelay = 5 * time.Second
	// maxOutput bounds what is read of a git command whose answer is kept in memory, in bytes.
	maxOutput = 16 << 20
)

// repo is a folder with objects, and the environment that lets git see the quarantine of a push.
type repo struct {
	dir string
	env []string
}

// environ is the environment of every git process: nothing of this process's own but where programs and temporary
// files are.
func (s *Server) environ() []string {
	env := []string{
		"HOME=" + s.etcDir(), "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + filepath.Join(s.etcDir(), "gitconfig"),
		"GIT_ATTR_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_NO_REPLACE_OBJECTS=1",
	}
	for _, name := range []string{"PATH", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func (s *Server) binary() string {
	if s.Git != "" {
		return s.Git
	}
	return "git"
}

// command is a git process in a group of its own, so that it can be ended with its children.
func (s *Server) command(r repo, args ...string) *exec.Cmd {
	return s.isolate(exec.Command(s.binary(), args...), r)
}

// quick is a git command that ends, children and all, when ctx does.
func (s *Server) quick(ctx context.Context, r repo, args ...string) *exec.Cmd {
	return s.isolate(exec.CommandContext(ctx, s.binary(), args...), r)
}

func (s *Server) isolate(cmd *exec.Cmd, r repo) *exec.Cmd {
	cmd.Env = append(s.environ(), r.env...)
	if r.dir != "" {
		cmd.Env = append(cmd.Env, "GIT_DIR="+r.dir)
	}
	cmd.Dir = s.etcDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if cmd.Cancel != nil { // it has a context
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
		cmd.WaitDelay = killDelay
	}
	return cmd
}

// output runs a short git command to its end. What git said to standard error is in the error.
func (s *Server) output(ctx context.Context, r repo, args ...string) ([]byte, error) {
	return finish(ctx, "git "+args[0], s.quick(ctx, r, args...))
}

// finish runs cmd to its end; name is what errors call it.
func finish(ctx context.Context, name string, cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr head
	stdout.max, stderr.max = maxOutput, 4<<10
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	if err != nil {
		return nil, &gitError{name: name, stderr: strings.TrimSpace(stderr.String()), err: err}
	}
	if stdout.cut {
		return nil, fmt.Errorf("%s: more than %d bytes of output", name, maxOutput)
	}
	return stdout.Bytes(), nil
}

// gitError is a git command that ended badly.
type gitError struct {
	name, stderr string
	err          error
}

func (e *gitError) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("%s: %v: %s", e.name, e.err, e.stderr), ": ")
}

func (e *gitError) Unwrap() error { return e.err }

// head keeps the first max bytes written to it and swallows the rest, so that the writer never blocks.
type head struct {
	bytes.Buffer
	max int
	cut bool
}

func (t *head) Write(p []byte) (int, error) {
	if room := t.max - t.Len(); len(p) > room {
		t.cut = true
		t.Buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return t.Buffer.Write(p)
}

// ReadFrom hides bytes.Buffer's, which knows no bound.
func (t *head) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{t}, r)
}

// sweepAll takes away what processes that were killed, or a machine that lost power, left in the repositories.
// Nothing runs yet when it is called.
func (s *Server) sweepAll() error {
	repos, err := filepath.Glob(filepath.Join(globQuote(s.Dir), "*.git"))
	if err != nil {
		return err
	}
	caches, err := filepath.Glob(filepath.Join(globQuote(s.submoduleDir()), "*.git"))
	if err != nil {
		return err
	}
	for _, dir := range append(repos, caches...) {
		if err := sweep(dir); err != nil {
			return err
		}
	}
	left, err := os.ReadDir(s.runDir())
	if err != nil {
		return err
	}
	for _, e := range left {
		if err := os.RemoveAll(filepath.Join(s.runDir(), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// quarantines are where receive-pack keeps what is not accepted yet. It does not take them away when it is ended by
// a signal.
var quarantines = []string{"objects/incoming-*", "objects/tmp_objdir-*"}

// sweep removes quarantines, half received packs and locks nobody holds. The caller knows that no git runs in dir.
func sweep(dir string) error {
	if err := remove(dir, append([]string{"*.lock", "objects/pack/tmp_*", "objects/pack/.tmp-*"}, quarantines...)...); err != nil {
		return err
	}
	var gone []string
	err := filepath.WalkDir(filepath.Join(dir, "refs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".lock") { // no ref can have such a name
			gone = append(gone, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, path := range gone {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// remove takes away what is in dir under one of the patterns.
func remove(dir string, patterns ...string) error {
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(globQuote(dir), pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// Run keeps the repositories small until ctx ends: it packs those that were pushed to, one at a time, and removes
// caches of submodules that nothing has asked for in a month. Then it gives the sessions under way, of both
// transports, Limits.Grace to end, and ends them. Pushes work without it.
func (s *Server) Run(ctx context.Context) error {
	if err := s.prepare(); err != nil {
		return err
	}
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		if err := s.dropOldCaches(ctx, time.Now().Add(-30*24*time.Hour)); err != nil && ctx.Err() == nil {
			s.log().Warn("remove unused submodule caches", "err", err)
		}
	wait:
		for {
			select {
			case <-ctx.Done():
				s.endSessions()
				return nil
			case <-day.C:
				break wait
			case id := <-s.stale:
				_, err := s.output(ctx, repo{dir: s.path(id)}, "gc", "--auto", "--quiet")
				if _, gone := os.Stat(s.path(id)); err != nil && ctx.Err() == nil && gone == nil {
					s.log().Warn("pack repository", "fleet", id, "err", err)
				}
			}
		}
	}
}

// endSessions waits for the sessions under way, within bounds, and tells those that remain that the server stops.
func (s *Server) endSessions() {
	open := s.running(0)
	grace := time.NewTimer(s.Limits.orDefaults().Grace)
	defer grace.Stop()
	over := false
	for _, x := range open {
		if !over {
			select {
			case <-x.ended:
			case <-grace.C:
				over = true
			}
		}
	}
	for _, x := range open {
		x.cancel(errStopping)
	}
	for _, x := range open {
		<-x.ended
	}
}
