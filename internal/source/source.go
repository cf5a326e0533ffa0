// Package source owns the fleets' bare git repositories: push and fetch over SSH and smart HTTP with the real git
// binary, submodules, and the archive of a commit. It does not own what a push means: it knows no build, no release
// and no SQL, and asks its owner who may do what.
//
// A push travels so: a transport (ssh.go, http.go) finds out who is asking and runs git receive-pack (session.go);
// git calls its pre-receive hook, a tiny script that runs this program again (Hook in hook.go), which calls back
// over a socket made for this push alone; push.go looks at the refs, asks OnPush, and answers. All that time the
// new objects lie in git's quarantine, so a refused push leaves nothing behind.
//
// It is a large room, because both transports, the hook and the archive meet in one git process: each alone would
// have to hand that process, and the promise that nothing of it is left, to the others.
package source

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/dunlin/dunlin/internal/fleet"
)

// Server serves the repositories below Dir. Its fields are set before the first call and not changed after it; its
// methods may be called concurrently. One process at a time owns Dir.
type Server struct {
	// Dir is the folder of the repositories, named by fleet id so that renaming a fleet moves nothing. It is made
	// when missing, for this user alone.
	Dir string
	// Hook is the command line that ends in the function Hook, e.g. {"/usr/bin/dunlin", "git-hook"}; the first word
	// is an absolute path. The name of the hook is added as the last argument.
	Hook []string
	// Lookup finds the repository of a slug, "org/fleet" in lower case, for an actor who wants to read or to write.
	// A fleet that is not there and one that the actor may not know of are both fault.NotFound.
	Lookup func(ctx context.Context, actor fleet.Actor, slug string, write bool) (Repository, error)
	// Key says whose public key this is; an error means that it opens nothing.
	Key func(ctx context.Context, key ssh.PublicKey) (fleet.Actor, error)
	// Credential says who is asking over HTTP. Nobody, without an error, is asked for a password.
	Credential func(r *http.Request) (fleet.Actor, error)
	// OnPush decides on a push to main or master before any ref moves; an error refuses the push, and the pusher
	// reads its fault sentence. What it writes to out reaches the pusher at once. Pushes to one repository are
	// decided one after the other. ctx ends when the pusher leaves. May be nil. out takes concurrent writes.
	OnPush func(ctx context.Context, p Push, out io.Writer) error
	// OnPushed runs after the refs have moved, while the pusher is still there to read; ctx ends when it leaves. A
	// pusher who left before is not worth the call. May be nil.
	OnPushed func(ctx context.Context, p Push, out io.Writer)
	// Submodules bounds what the server fetches for an archive.
	Submodules Submodules
	// HostKey is the server's SSH identity; see LoadHostKey.
	HostKey ssh.Signer
	// Limits bounds what one client may use.
	Limits Limits
	// Git is the git binary; "" means git from PATH.
	Git string
	// Log may be nil.
	Log *slog.Logger

	pushes keyed // held while a push to the repository is decided
	caches keyed // held while a submodule's cache changes
	doors  keyed // held while sessions of a repository are counted in, and while it is swept

	mu       sync.Mutex
	ready    bool
	sessions map[*session]struct{}
	dirty    map[int64]bool // repositories in which a git did not end well
	stale    chan int64     // repositories that were pushed to, for Run
}

// Limits bounds what one client may use. A zero field means its default.
type Limits struct {
	Pack      int64         // bytes of one push; 1 GiB
	Archive   int64         // bytes of the files of one archive, submodules included; 4 GiB
	Files     int           // entries of one archive; 500,000
	Sessions  int           // git processes at a time, over both transports; 64
	Handshake time.Duration // from connection to authentication; 20 s
	Idle      time.Duration // without a byte in either direction, builds aside; 10 min
	Grace     time.Duration // what sessions get to end in when the server stops; 10 s
}

// Repository is what a slug stands for.
type Repository struct {
	Fleet int64
	Slug  string // org/fleet
}

// Push is one arrival of source on main or master.
type Push struct {
	Fleet   int64
	Slug    string
	Actor   fleet.Actor
	Ref     string            // refs/heads/main or refs/heads/master
	Branch  string            // main or master
	Commit  string            // 40 hex
	Subject string            // first line of the commit's message, cut at 200 characters
	Roots   []string          // commits without parents, the one at the end of the first parents first
	Options map[string]string // by the names of the constants Option…; values are "" so far
	Created bool              // the ref is new
	// Archive writes a tar of the commit's tree with its submodules merged at their paths. It holds exactly what the
	// tree holds (no export-ignore, no export-subst), with the commit's time on every entry, so that the same commit
	// gives the same bytes. It may be called while OnPush or OnPushed runs, more than once and concurrently.
	Archive func(ctx context.Context, w io.Writer) error
}

// The push options a pusher may give (git push -o NAME).
const (
	OptionNoCache      = "nocache"       // build without the cache
	OptionDraft        = "draft"         // make a draft release
	OptionForceHistory = "force-history" // accept a history unrelated to the one before
)

func (l Limits) orDefaults() Limits {
	l.Pack = or(l.Pack, 1<<30)
	l.Archive = or(l.Archive, 4<<30)
	l.Files = or(l.Files, 500_000)
	l.Sessions = or(l.Sessions, 64)
	l.Handshake = or(l.Handshake, 20*time.Second)
	l.Idle = or(l.Idle, 10*time.Minute)
	l.Grace = or(l.Grace, 10*time.Second)
	return l
}

func or[T int | int64 | time.Duration](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

func (s *Server) path(fleetID int64) string {
	return filepath.Join(s.Dir, strconv.FormatInt(fleetID, 10)+".git")
}

func (s *Server) etcDir() string { return filepath.Join(s.Dir, "etc") } // what prepare writes
func (s *Server) runDir() string { return filepath.Join(s.Dir, "run") } // sockets of pushes under way

// prepare makes the folders, git's configuration and the hook scripts, and takes away what a server that was killed
// left behind. Everything that runs git calls it first.
func (s *Server) prepare() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		return nil
	}
	if !filepath.IsAbs(s.Dir) {
		return fmt.Errorf("prepare repositories: %q is not an absolute path", s.Dir)
	}
	if len(s.Hook) == 0 || !filepath.IsAbs(s.Hook[0]) {
		return fmt.Errorf("prepare repositories: the hook's program %q is not an absolute path", s.Hook)
	}
	for _, dir := range []string{s.runDir(), s.submoduleDir(), filepath.Join(s.etcDir(), "hooks")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("prepare repositories: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.etcDir(), "gitconfig"), []byte(s.gitConfig()), 0o600); err != nil {
		return fmt.Errorf("prepare repositories: %w", err)
	}
	for _, stage := range []string{preReceive, postReceive} {
		script := "#!/bin/sh\nexec"
		for _, word := range slices.Concat(s.Hook, []string{stage}) {
			script += " '" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		if err := writeProgram(filepath.Join(s.etcDir(), "hooks", stage), script+"\n"); err != nil {
			return fmt.Errorf("prepare repositories: %w", err)
		}
	}
	if err := s.sweepAll(); err != nil {
		return fmt.Errorf("prepare repositories: %w", err)
	}
	s.sessions, s.dirty = map[*session]struct{}{}, map[int64]bool{}
	s.stale = make(chan int64, 256)
	s.ready = true
	return nil
}

// writeProgram replaces by rename: a git of a server before this one may be running the old file.
func writeProgram(path, text string) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o700); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// gitConfig is the whole configuration of every git process: the machine's and the user's are shut out, and
// repositories hold only what git init wrote. The faults in old commits that fsck is told to ignore come from old
// tools and mislead nothing that reads them here.
func (s *Server) gitConfig() string {
	return fmt.Sprintf(`[core]
	hooksPath = %s
	fsync = committed,reference
[safe]
	directory = *
[protocol]
	allow = never
[init]
	defaultBranch = main
[gc]
	autoDetach = false
[transfer]
	fsckObjects = true
[fetch]
	fsckObjects = false
	unpackLimit = 1
[receive]
	advertisePushOptions = true
	autogc = false
	maxInputSize = %d
	denyDeleteCurrent = ignore
[receive "fsck"]
	zeroPaddedFilemode = ignore
	missingSpaceBeforeDate = ignore
	badTimezone = ignore
[uploadpack]
	allowFilter = true
[http]
	followRedirects = false
	lowSpeedLimit = 1000
	lowSpeedTime = 60
`, configQuote(filepath.Join(s.etcDir(), "hooks")), s.Limits.orDefaults().Pack)
}

func configQuote(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(v) + `"`
}

// Create makes the empty repository of a fleet. Making it again changes nothing.
func (s *Server) Create(ctx context.Context, fleetID int64) error {
	if err := s.prepare(); err != nil {
		return err
	}
	if _, err := os.Stat(s.path(fleetID)); err == nil {
		return nil
	}
	// Made aside and renamed, so that a repository is there whole or not at all.
	tmp, err := os.MkdirTemp(s.runDir(), "new-")
	if err != nil {
		return fmt.Errorf("create repository of fleet %d: %w", fleetID, err)
	}
	defer os.RemoveAll(tmp)
	if _, err := s.output(ctx, repo{}, "init", "--quiet", "--bare", "--template=", "--object-format=sha1", tmp); err != nil {
		return fmt.Errorf("create repository of fleet %d: %w", fleetID, err)
	}
	if err := os.Rename(tmp, s.path(fleetID)); err != nil {
		if _, there := os.Stat(s.path(fleetID)); there == nil {
			return nil // another made it meanwhile
		}
		return fmt.Errorf("create repository of fleet %d: %w", fleetID, err)
	}
	return nil
}

// Remove ends the sessions of a fleet's repository and removes it with all it holds. Removing it again is no error.
func (s *Server) Remove(ctx context.Context, fleetID int64) error {
	if err := s.prepare(); err != nil {
		return err
	}
	open := s.running(fleetID)
	for _, x := range open {
		x.cancel(errRemoved)
	}
	for _, x := range open {
		select {
		case <-x.ended:
		case <-ctx.Done():
			return fmt.Errorf("remove repository of fleet %d: %w", fleetID, context.Cause(ctx))
		}
	}
	trash, err := os.MkdirTemp(s.runDir(), "old-")
	if err != nil {
		return fmt.Errorf("remove repository of fleet %d: %w", fleetID, err)
	}
	if err := os.Rename(s.path(fleetID), filepath.Join(trash, "repository")); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove repository of fleet %d: %w", fleetID, err)
	}
	if err := os.RemoveAll(trash); err != nil {
		return fmt.Errorf("remove repository of fleet %d: %w", fleetID, err)
	}
	return nil
}
