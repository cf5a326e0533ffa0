package cli

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/folder"
)

const (
	muchToSend   = 100 << 20 // bytes of files; above it people hear what they send
	maxPushRoots = 50        // that the server takes
	maxLogins    = 128 << 10 // bytes of a file with accounts at registries
	cancelWithin = 10 * time.Second
)

// pushFlags are what was asked for.
type pushFlags struct {
	source, dockerfile, logins, note string
	tags                             []string
	draft, nocache, detached         bool
	forceHistory, multi              bool
}

// push is `dunlin push`.
func (a *app) push() *cobra.Command {
	var p pushFlags
	cmd := jsonFlag(&cobra.Command{
		Use:   "push [FLEET]",
		Short: "Build a folder and make it what a fleet runs, without git",
		Long: `Build a folder and make it what a fleet runs, without git.

The folder is sent as it is, changes that are not committed and submodules that are checked out included; what a
.dockerignore names is left out. The server builds it as it builds what git pushes, and what it says is printed, until
the devices have the release. Ctrl-C cancels the build; when it has ended, Ctrl-C stops watching the devices and nothing
else.

Without FLEET the folder's git remotes say which fleet is meant, or it is the only one you have.`,
		Example: `  dunlin push porch
  dunlin push --draft --note 'night mode, to be tried'
  dunlin push admin/porch --source ./app --release-tag ci=1234 --release-tag branch=main`,
		Args:              words,
		ValidArgsFunction: a.complete(a.fleetNames),
		RunE: a.run(func(ctx context.Context, s *session, args []string) error {
			return s.push(ctx, args, p)
		}),
	})
	f := cmd.Flags()
	f.StringVarP(&p.source, "source", "s", ".", "push this `DIR`")
	f.BoolVar(&p.draft, "draft", false, "make a draft: no device takes it until 'dunlin release finalize'")
	f.BoolVar(&p.nocache, "nocache", false, "build every step again")
	f.BoolVarP(&p.detached, "detached", "d", false, "do not wait for the build")
	f.StringArrayVar(&p.tags, "release-tag", nil, "put a tag `KEY=VALUE` on the release; may be given several times")
	f.StringVar(&p.note, "note", "", "write a note `TEXT` on the release")
	f.StringVarP(&p.logins, "registry-secrets", "R", "", "`FILE` with the accounts at private registries, as JSON or YAML: {HOST: {username, password}}")
	f.StringVar(&p.dockerfile, "dockerfile", "", "build with the Dockerfile at this `PATH` in the folder")
	f.BoolVar(&p.forceHistory, "force-history", false, "push though the folder's git history is not the fleet's")
	f.BoolVarP(&p.multi, "multi-dockerignore", "m", false, "folders with a .dockerignore of their own follow that one")
	return cmd
}

func (s *session) push(ctx context.Context, args []string, p pushFlags) error {
	tags, err := readTags(p.tags)
	if err != nil {
		return err
	}
	o := client.PushOptions{
		Draft: p.draft, NoCache: p.nocache, Detached: p.detached, Rollout: true, ForceHistory: p.forceHistory,
	}
	read := folder.Options{Multi: p.multi}
	if p.dockerfile != "" {
		o.Dockerfile = path.Clean(strings.ReplaceAll(p.dockerfile, `\`, "/"))
		if path.IsAbs(o.Dockerfile) || o.Dockerfile == ".." || strings.HasPrefix(o.Dockerfile, "../") {
			return fault.Newf(fault.Invalid, "the Dockerfile %s is outside the folder", p.dockerfile).WithHint("give its path in the folder of --source")
		}
		read.Keep = []string{o.Dockerfile}
	}
	if p.logins != "" {
		if read.Logins, err = loginsFile(p.logins); err != nil {
			return err
		}
	}
	source, err := folder.Read(p.source, read)
	if err != nil {
		return err
	}
	git, inGit := folder.ReadGit(ctx, p.source)
	f, err := s.fleetToPush(ctx, args, git)
	if err != nil {
		return err
	}
	o.Fleet = f.Slug
	s.warn(source, git, inGit)
	o.Roots = git.Roots[:min(len(git.Roots), maxPushRoots)]
	if len(git.Changed) == 0 {
		o.Commit = git.Commit
	}
	release, err := s.send(ctx, o, source)
	if err != nil {
		return err
	}
	return s.pushed(ctx, release, p, tags)
}

// pushed gives the release what was asked for it, and ends the command.
func (s *session) pushed(ctx context.Context, release int64, p pushFlags, tags []client.Tag) error {
	for _, t := range tags {
		if err := s.SetTag(ctx, client.Tagged{Release: release}, t.Key, t.Value); err != nil {
			return fmt.Errorf("release #%d is there, but cannot be tagged %s: %w", release, t.Key, err)
		}
	}
	if p.note != "" {
		if err := s.Patch(ctx, client.Key("release", release), client.Query{}, map[string]any{"note": p.note}); err != nil {
			return fmt.Errorf("release #%d is there, but has no note: %w", release, err)
		}
	}
	switch {
	case s.asJSON:
		r, err := s.Release(ctx, release)
		if err != nil {
			return err
		}
		return printJSON(s.out(), r)
	case p.detached:
		return s.advise(fmt.Sprintf("Release #%d is being built.", release), fmt.Sprintf("`dunlin release show '#%d' --log` says how it ends.", release))
	}
	return nil
}

// send pushes the folder and prints what the server says. A build that was under way when ctx ended is cancelled.
func (s *session) send(ctx context.Context, o client.PushOptions, source *folder.Folder) (release int64, err error) {
	to := s.out()
	if s.asJSON {
		to = s.cmd.ErrOrStderr()
	}
	reading, writing := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := s.upload(ctx, writing, source)
		writing.CloseWithError(err) // nil is the end
		sent <- err
	}()
	began := int64(0)
	release, err = s.Push(ctx, o, reading, func(m client.PushMessage) {
		if m.Release != 0 {
			began = m.Release
			return
		}
		_, _ = fmt.Fprintln(to, plain(m.Line, colours(to))) // the build does not depend on who reads
	})
	reading.Close() // never fails; it ends an upload that nobody waits for
	if own := <-sent; own != nil && !errors.Is(own, io.ErrClosedPipe) && ctx.Err() == nil {
		return 0, own // the server only saw the upload break off
	}
	if err == nil {
		return release, nil
	}
	if ctx.Err() != nil && began != 0 {
		return began, s.cancelled(ctx, began)
	}
	var failed *client.BuildError
	if errors.As(err, &failed) {
		return began, fault.New(fault.Unavailable, failed.Message).WithHint(failed.Hint)
	}
	return began, err
}

// cancelled ends the build of a release after Ctrl-C, and says how the release stands.
func (s *session) cancelled(ctx context.Context, id int64) error {
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelWithin)
	defer stop()
	if err := s.CancelRelease(last, id); err != nil {
		return fmt.Errorf("release #%d is still being built, and cannot be cancelled: %w", id, err)
	}
	r, err := s.Release(last, id)
	if err != nil {
		return err
	}
	if r.Status == "cancelled" {
		s.note("Release #%d is cancelled.", id)
	} else {
		s.note("Release #%d stays: %s. The devices go on by themselves.", id, r.Status)
	}
	return ctx.Err()
}

// upload writes the archive, and beside it how far it is.
func (s *session) upload(ctx context.Context, to io.Writer, source *folder.Folder) error {
	began := time.Now()
	counted := &counting{w: to}
	done := make(chan struct{})
	shown := make(chan struct{})
	errOut := s.cmd.ErrOrStderr()
	live := colours(errOut) // a terminal that can take a line back
	go func() {
		defer close(shown)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for live {
			select {
			case <-tick.C:
				_, _ = fmt.Fprintf(errOut, "\rsending %s…\x1b[K", size(client.Bytes(counted.n.Load()))) // for the eye alone
			case <-done:
				_, _ = fmt.Fprint(errOut, "\r\x1b[K") // likewise
				return
			}
		}
	}()
	z := gzip.NewWriter(counted)
	err := source.Archive(ctx, z)
	if err == nil {
		err = z.Close()
	}
	close(done)
	<-shown
	if err == nil {
		s.note("sent %s (%d files) in %.1f s", size(client.Bytes(counted.n.Load())), source.Files, time.Since(began).Seconds())
	}
	return err
}

type counting struct {
	w io.Writer
	n atomic.Int64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// warn says what may surprise about what is sent.
func (s *session) warn(source *folder.Folder, git folder.Git, inGit bool) {
	if len(source.Skipped) > 0 {
		s.note("warning: not sent, because neither files nor folders nor links: %s", someOf(source.Skipped))
	}
	if source.Bytes > muchToSend {
		big := slices.DeleteFunc(source.Biggest(3), func(b folder.Share) bool { return b.Bytes < source.Bytes/20 })
		s.note("warning: this is much to send: %s in %d files, most of them in %s. What the build does not need, a .dockerignore keeps out.",
			size(client.Bytes(source.Bytes)), source.Files, someOf(each(big, func(b folder.Share) string {
				return fmt.Sprintf("%s (%s)", b.Name, size(client.Bytes(b.Bytes)))
			})))
	}
	switch {
	case !inGit:
		return
	case len(git.Changed) > 0 && git.Commit != "":
		s.note("not committed, and sent as it is: %s (beside commit %s)", someOf(git.Changed), abbreviated(git.Commit))
	case len(git.Changed) > 0:
		s.note("nothing is committed yet; the folder is sent as it is")
	}
	if len(git.Missing) > 0 {
		s.note("warning: submodules that are not checked out are empty in the build: %s. To get them: git submodule update --init --recursive", someOf(git.Missing))
	}
	if git.Shallow {
		s.note("the git history is cut off, so the server cannot tell whether this is the fleet's folder")
	}
}

// someOf names the first few.
func someOf(all []string) string {
	const most = 5
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

// fleetToPush is the fleet that is named, the one a git remote of the folder leads to, or the only one there is.
func (s *session) fleetToPush(ctx context.Context, args []string, git folder.Git) (client.Fleet, error) {
	if len(args) > 0 && args[0] != "" {
		return s.fleet(ctx, args[0])
	}
	if len(git.Remotes) > 0 {
		info, err := s.Info(ctx)
		if err != nil {
			return client.Fleet{}, err
		}
		var slugs []string
		for _, r := range git.Remotes {
			slug, ok := slugOf(r.URL, s.URL, info.GitServerURL)
			if ok && r.Name == "dunlin" {
				slugs = []string{slug}
				break
			}
			if ok && !slices.Contains(slugs, slug) {
				slugs = append(slugs, slug)
			}
		}
		switch len(slugs) {
		case 0:
		case 1:
			return s.meant(ctx, slugs[0])
		default:
			return client.Fleet{}, fault.New(fault.Invalid, "FLEET is missing, and the folder's git remotes lead to several: "+someOf(slugs)).
				WithHint("usage: " + s.cmd.UseLine())
		}
	}
	all, err := s.FleetNames(ctx, "")
	if err != nil {
		return client.Fleet{}, err
	}
	switch len(all) {
	case 0:
		return client.Fleet{}, fault.New(fault.NotFound, "there is no fleet to push to").WithHint("make one with `dunlin fleet create`")
	case 1:
		s.note("pushing to %s, your only fleet", all[0].Slug)
		return all[0], nil
	}
	return client.Fleet{}, fault.New(fault.Invalid, "FLEET is missing: you have "+someOf(each(all, func(f client.Fleet) string { return f.Slug }))).
		WithHint("usage: " + s.cmd.UseLine())
}

// meant finds the fleet that a remote names.
func (s *session) meant(ctx context.Context, slug string) (client.Fleet, error) {
	f, err := s.fleet(ctx, slug)
	if err == nil {
		s.note("pushing to %s, where the folder's git remote leads", f.Slug)
	}
	return f, err
}

// slugOf is the fleet in the address of a git remote, if it is one of this server's.
func slugOf(remote string, servers ...string) (slug string, ok bool) {
	if host, rest, found := strings.Cut(remote, ":"); found && !strings.Contains(remote, "://") && !strings.Contains(host, "/") {
		remote = "ssh://" + host + "/" + strings.TrimPrefix(rest, "/") // user@host:path
	}
	u, err := url.Parse(remote)
	if err != nil || u.Hostname() == "" || !slices.ContainsFunc(servers, func(server string) bool {
		s, err := url.Parse(server)
		return err == nil && s.Hostname() == u.Hostname()
	}) {
		return "", false
	}
	slug = strings.TrimSuffix(strings.TrimPrefix(strings.Trim(u.Path, "/"), "git/"), ".git")
	if strings.Count(slug, "/") != 1 {
		return "", false
	}
	return strings.ToLower(slug), true
}

// loginsFile reads the accounts at registries. What is in it, the server reads.
func loginsFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fault.New(fault.NotFound, "cannot read the file of --registry-secrets: "+err.Error())
	}
	defer f.Close() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxLogins+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case len(b) > maxLogins:
		return nil, fault.Newf(fault.TooLarge, "%s is over %d KiB", name, maxLogins>>10)
	}
	return b, nil
}
