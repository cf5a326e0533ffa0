package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dunlin/dunlin/internal/asset"
	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/deltajob"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/logs"
	"github.com/dunlin/dunlin/internal/registry"
	"github.com/dunlin/dunlin/internal/release"
	"github.com/dunlin/dunlin/internal/resource"
	"github.com/dunlin/dunlin/internal/source"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/trust"
)

// grace is what requests under way get to end in when the server stops.
const grace = 10 * time.Second

// maxHeader bounds the header of a request with its address, in bytes. The longest in use are queries with lists of ids
// and registry tokens for several repositories.
const maxHeader = 128 << 10

// errStopping is what those read whose requests the stop breaks off.
var errStopping = fault.New(fault.Unavailable, "the server is being restarted; a build under way goes on by itself").
	WithHint("push again in a moment to follow it")

// remembered is how long ago a device may have been heard of to count as one that was here when the server stopped.
const remembered = time.Hour

// rolloutWatch bounds how long a pusher's terminal follows the devices.
const rolloutWatch = 10 * time.Minute

func serverCommand() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the server: git, builder, registry, releases and API in one program",
		Long: `Run the server: git, builder, registry, releases and API in one program.

Every setting is a flag, an environment variable (DUNLIN_ and the flag's name in capitals, for example
DUNLIN_SSH_LISTEN) and a key of the file given by --config; a flag goes before the environment, the environment
before the file.`,
		Example: `  dunlin server --data /var/lib/dunlin
  dunlin server --listen :443 --ssh-listen :22 --host dunlin.example.com --tls files --tls-cert cert.pem --tls-key key.pem
  dunlin server --listen :8443 --host 192.168.1.10:8443      # with a private CA of its own`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(cmd, os.LookupEnv); err != nil {
				return err
			}
			return serve(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.flags(cmd.Flags())
	cmd.AddCommand(userCommand())
	return cmd
}

// server is the rooms, introduced to each other.
type server struct {
	*options
	log      *slog.Logger
	db       *store.DB
	auth     *auth.Auth
	hub      *hub.Hub
	logs     *logs.Store
	registry *registry.Registry
	source   *source.Server
	pipeline *release.Pipeline
	model    *resource.Model
	identity *trust.Identity // nil with plain HTTP
	metrics  *metrics
	assets   *asset.Store
	teller   *teller
	deltas   *deltajob.Jobs
}

// serve runs the server until ctx ends.
func serve(ctx context.Context, o *options, out, errOut io.Writer) (err error) {
	s := &server{options: o}
	if s.log, err = o.logger(errOut); err != nil {
		return err
	}
	unlock, err := lock(o.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := s.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.db.Close()) }()
	if err := s.pipeline.Recover(ctx); err != nil {
		return err
	}
	if err := s.deltas.Recover(ctx); err != nil {
		return err
	}
	seen, err := s.db.SeenSince(ctx, time.Now().Add(-remembered))
	if err != nil {
		return err
	}
	s.hub.Remember(seen)
	web, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "cannot listen on "+o.listen+": "+err.Error()).WithHint("choose another --listen, or stop what listens there")
	}
	git, err := net.Listen("tcp", o.sshListen)
	if err != nil {
		return errors.Join(fault.Wrap(fault.Unavailable, err, "cannot listen on "+o.sshListen+": "+err.Error()).WithHint("choose another --ssh-listen"), web.Close())
	}
	if err := s.firstStart(ctx, out); err != nil {
		return errors.Join(err, web.Close(), git.Close())
	}
	fmt.Fprintf(out, "Dunlin %s is ready: %s, git over ssh://%s\n", version, o.url(), o.sshHost)
	return s.run(ctx, web, git)
}

// open makes every room and introduces those that must not know each other.
func (s *server) open(ctx context.Context) (err error) {
	if s.db, err = store.Open(ctx, s.database); err != nil {
		return err
	}
	keys, err := auth.OpenKeyring(filepath.Join(s.data, "keys"))
	if err != nil {
		return err
	}
	s.auth = &auth.Auth{Store: s.db, Keys: keys, Issuer: s.host, Service: s.host, Log: s.log, BuilderLife: s.buildTimeout + 30*time.Minute,
		Registration: s.registration, BehindProxy: s.behindProxy, Proxies: s.proxyNets}
	s.hub = &hub.Hub{Seen: s.db.Seen, Log: s.log}
	s.teller = newTeller(s.hub, s.db.Fleet, s.log)
	s.assets = &asset.Store{Dir: filepath.Join(s.data, "assets")}
	s.logs = &logs.Store{Dir: filepath.Join(s.data, "logs"), Log: s.log}
	s.metrics = newMetrics(s.hub)
	if err := s.openTLS(); err != nil {
		return err
	}
	if s.registry, err = registry.New(ctx, registry.Config{
		Dir: filepath.Join(s.data, "registry"), Service: s.host, Issuer: s.host, TokenPath: "/auth/v1/token", JWKS: keys.JWKS(), Log: s.log,
	}); err != nil {
		return err
	}
	s.pipeline = &release.Pipeline{
		Store: s.db, Hub: s.hub, Registry: s.host, Token: s.auth.BuilderToken, Log: s.log, Ended: s.metrics.releaseEnded,
		Sources: filepath.Join(s.data, "sources"), Work: filepath.Join(s.data, "work"),
		Dest: s.destination,
		Builder: &build.Builder{
			Engine: s.engine, Go: s.goCommand, Work: filepath.Join(s.data, "scratch"), GoCache: filepath.Join(s.data, "gocache"),
			Timeout: s.buildTimeout, Private: s.privateHosts, Log: s.log,
		},
	}
	// What a killed build left; nothing in it is kept.
	if err := os.RemoveAll(s.pipeline.Builder.Work); err != nil {
		s.log.Warn("scratch folder not cleared", "err", err)
	}
	if err := s.openSource(ctx); err != nil {
		return err
	}
	if err := s.openDeltas(); err != nil {
		return err
	}
	s.model = resource.New(s.db)
	s.model.SSHFingerprint = auth.ParseSSHKey
	s.model.Location = s.pipeline.NewLocation
	s.model.Changed = s.changed
	s.model.Wrote = func(w resource.Write) {
		s.teller.wrote(w)
		if w.Resource == "delta" {
			s.deltas.Poke()
		}
	}
	s.pipeline.Moved = func(r fleet.Release) {
		s.teller.moved(r)
		s.deltas.Poke()
	}
	if s.deltaJobs > 0 {
		s.model.DeltaFormats, s.pipeline.DeltaFormat = s.deltas.Formats, s.deltas.Formats[0]
	}
	s.model.DeltasGone = s.deltas.Gone
	s.model.Cancelled = s.pipeline.Cancel
	s.model.DevicesGone = s.devicesGone
	s.model.Created = func(ctx context.Context, id int64, _ string) error { return s.source.Create(ctx, id) }
	s.model.Removed = func(ctx context.Context, id int64) {
		if err := s.source.Remove(ctx, id); err != nil {
			s.log.Warn("repository not removed", "fleet", id, "err", err)
		}
	}
	return nil
}

// openTLS gets the certificate, if the server ends TLS itself.
func (s *server) openTLS() (err error) {
	switch s.tls {
	case tlsOwn:
		dir := filepath.Join(s.data, "tls")
		if s.identity, err = trust.Load(dir, []string{s.hostname(), "localhost", "127.0.0.1"}, time.Now()); err != nil {
			return err
		}
		// For people to hand on; the server itself does not read it.
		return os.WriteFile(filepath.Join(dir, "ca.crt"), s.identity.RootPEM(), 0o644)
	case tlsFiles:
		s.identity, err = trust.Files(s.tlsCert, s.tlsKey)
	}
	return err
}

// openSource makes the git server and the repositories that a killed server had no time to make.
func (s *server) openSource(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	dir, err := filepath.Abs(filepath.Join(s.data, "git"))
	if err != nil {
		return fmt.Errorf("find the data folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of repositories: %w", err)
	}
	key, err := source.LoadHostKey(filepath.Join(s.data, "keys", "ssh_host_ed25519_key"))
	if err != nil {
		return err
	}
	s.source = &source.Server{
		Dir: dir, Hook: []string{self, hookCommand}, HostKey: key, Log: s.log,
		Key:        s.auth.SSHKey,
		Credential: s.auth.Request,
		Lookup:     s.lookup, OnPush: s.onPush, OnPushed: s.onPushed,
		Submodules: source.Submodules{Private: s.privateHosts},
	}
	ids, err := s.db.FleetIDs(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := s.source.Create(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// firstStart makes the first user and says the password if one was made.
func (s *server) firstStart(ctx context.Context, out io.Writer) error {
	made, password, err := s.auth.FirstUser(ctx, s.adminUser, s.adminEmail, s.adminPass)
	if err != nil {
		return err
	}
	if made && password != "" {
		fmt.Fprintf(out, "The first user is %s with the password %s (it is shown only now)\n", s.adminUser, password)
	}
	return nil
}

// destination adds how the builder reaches the registry.
func (s *server) destination(d build.Destination) build.Destination {
	d.Insecure = !s.https()
	if s.identity != nil {
		if root := s.identity.RootPEM(); len(root) > 0 {
			d.RootCA = x509.NewCertPool()
			d.RootCA.AppendCertsFromPEM(root)
		}
	}
	return d
}

// lookup finds the repository of a fleet for whoever may use it.
func (s *server) lookup(ctx context.Context, actor fleet.Actor, slug string, write bool) (source.Repository, error) {
	f, err := s.auth.Fleet(ctx, actor, slug)
	if err != nil {
		return source.Repository{}, err
	}
	if err := s.auth.MayPush(ctx, actor, f.ID, write); err != nil {
		return source.Repository{}, err
	}
	return source.Repository{Fleet: f.ID, Slug: f.Slug}, nil
}

// onPush builds a push before its refs move.
func (s *server) onPush(ctx context.Context, p source.Push, out io.Writer) error {
	has := func(option string) bool { _, ok := p.Options[option]; return ok }
	_, err := s.pipeline.Push(ctx, release.Push{
		Fleet: p.Fleet, Actor: p.Actor, Ref: p.Ref, GitCommit: p.Commit, Roots: p.Roots, Archive: p.Archive,
		Draft: has(source.OptionDraft), NoCache: has(source.OptionNoCache), ForceHistory: has(source.OptionForceHistory),
	}, out)
	return err
}

// onPushed shows the pusher how the devices take the release.
func (s *server) onPushed(ctx context.Context, p source.Push, out io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, rolloutWatch)
	defer cancel()
	r, found, err := s.db.Succeeded(ctx, p.Fleet, release.Commit(p.Commit))
	if err == nil && found {
		err = s.pipeline.Rollout(ctx, r, out)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("rollout not shown", "fleet", p.Slug, "err", err)
	}
}

// changed tells devices to look again after something they are made of was written.
func (s *server) changed(fleetID int64, devices []int64) {
	s.deltas.Poke()
	if len(devices) == 0 {
		s.hub.LookAgain(fleetID)
		return
	}
	uuids, err := s.db.DeviceUUIDs(context.Background(), devices)
	if err != nil {
		s.log.Warn("devices not told to look again; they find out at their next poll", "fleet", fleetID, "err", err)
		return
	}
	if len(uuids) > 0 {
		s.hub.LookAgain(fleetID, uuids...)
	}
}

// devicesGone removes the logs of devices that left: they belong to whoever had the device, not to the device.
func (s *server) devicesGone(_ context.Context, uuids []string) {
	for _, uuid := range uuids {
		if err := s.logs.Remove(uuid); err != nil {
			s.log.Warn("logs of a device that is gone not removed", "device", uuid, "err", err)
		}
	}
}

// run serves until ctx ends, then stops in order: no new requests, builds kept for the next start, presence written.
func (s *server) run(ctx context.Context, web, git net.Listener) error {
	working, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	// Requests outlive the work, so that one that is being written is written and answered.
	requests, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abandon(nil)
	var handlers sync.WaitGroup
	h := newHTTPServer(counting(&handlers, s.routes(working)), s.log)
	h.BaseContext = func(net.Listener) context.Context { return requests }
	g, failed := errgroup.WithContext(working)
	g.Go(func() error {
		err := s.serveHTTP(h, web)
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve HTTP: %w", err)
	})
	g.Go(func() error { return s.source.ServeSSH(working, git) })
	g.Go(func() error { return s.source.Run(working) })
	g.Go(func() error { return s.hub.Run(working) })
	g.Go(func() error { return s.teller.Run(working) })
	g.Go(func() error { return s.logs.Run(working) })
	g.Go(func() error { return s.pipeline.Run(working) })
	g.Go(func() error { return s.deltas.Run(working) })
	g.Go(func() error { return s.collect(working) })
	if s.identity != nil {
		s.identity.Log = s.log
		g.Go(func() error { return s.identity.Run(working) })
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
			s.log.Info("stopping")
		case <-failed.Done():
		}
		s.pipeline.Stop()
		stop(errStopping)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		err := h.Shutdown(last)
		abandon(errStopping)
		if err != nil {
			err = h.Close()
		}
		handlers.Wait() // the database closes after this
		s.pipeline.Wait()
		return err
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// newHTTPServer bounds what a request may take before anybody looks at it. What it may take after that is the
// handlers' business: a push lasts as long as its build.
func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// counting counts the requests that are being answered.
func counting(handlers *sync.WaitGroup, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers.Add(1)
		defer handlers.Done()
		h.ServeHTTP(w, r)
	})
}

// until ends the requests of a handler that waits, when ctx ends; other requests are answered to their end.
func until(ctx context.Context, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		waiting, end := context.WithCancelCause(r.Context())
		defer end(nil)
		defer context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })()
		h.ServeHTTP(w, r.WithContext(waiting))
	})
}

func (s *server) serveHTTP(h *http.Server, l net.Listener) error {
	if s.identity == nil {
		return h.Serve(l)
	}
	h.TLSConfig = s.identity.TLSConfig()
	return h.ServeTLS(l, "", "")
}

// collect removes deltas, images and release assets that nobody refers to, once a day.
func (s *server) collect(ctx context.Context) error {
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-day.C:
		}
		if err := s.deltas.Collect(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("deltas not collected; tried again tomorrow", "err", err)
		}
		keep, err := s.db.ImageRepositories(ctx)
		if err == nil {
			var freed int64
			freed, err = s.registry.Collect(ctx, func(repository string) bool { return keep[repository] })
			s.log.Info("images nobody refers to are removed", "bytes", freed)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("images not collected; tried again tomorrow", "err", err)
		}
		files, err := s.db.AssetFiles(ctx)
		if err == nil {
			var freed int64
			freed, err = s.assets.Collect(ctx, func(sha string) bool { return files[sha] }, time.Now())
			s.log.Info("release assets nobody refers to are removed", "bytes", freed)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("release assets not collected; tried again tomorrow", "err", err)
		}
	}
}
