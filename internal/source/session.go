package source

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// The services of git's protocol.
const (
	receivePack = "git-receive-pack"
	uploadPack  = "git-upload-pack"
)

// drainTime is how long a pusher may go on sending after git has answered: one whose push was too large reads why
// only when it has stopped writing.
const drainTime = 5 * time.Second

// Why a session was ended.
var (
	errRemoved  = fault.New(fault.NotFound, "the fleet was removed")
	errIdle     = fault.New(fault.Unavailable, "nothing was sent or read for too long").WithHint("try again")
	errStopping = fault.New(fault.Unavailable, "the server is stopping").WithHint("try again in a moment")
	errLeft     = errors.New("the client left")
)

// session is one git process that serves one client.
type session struct {
	server  *Server
	actor   fleet.Actor
	repo    Repository
	service string
	cancel  context.CancelCauseFunc
	ended   chan struct{} // closed when git and its children are gone
	idle    *idleness
	hooked  atomic.Bool // git has run a hook, which waits for the server's word or has had it
	told    atomic.Bool // the pusher has read why the session was ended
}

// stream is the client's side of a session.
type stream struct {
	in       io.Reader
	out      io.Writer
	errOut   io.Writer
	args     []string // further arguments of the service
	protocol string   // value of GIT_PROTOCOL, "" for none
	// finish tells the client how git ended; nothing is written after it. The client may still be sending.
	finish func(code int)
	// stopReading makes reads from the client end. What was written still reaches it.
	stopReading func()
	// abort makes every read and write fail at once, for a client that does neither.
	abort func()
}

// open finds the repository that an actor means and checks that it may be used so.
func (s *Server) open(ctx context.Context, actor fleet.Actor, slug, service string) (Repository, error) {
	r, err := s.Lookup(ctx, actor, slug, service == receivePack)
	if fault.Is(err, fault.NotFound) {
		return r, notHere(slug) // one sentence for "not there" and "not yours"
	}
	if err != nil {
		return r, fmt.Errorf("look up %s: %w", slug, err)
	}
	return r, s.Create(ctx, r.Fleet) // a repository lost, or not made when the fleet was, is an empty one
}

func notHere(slug string) error {
	return fault.Newf(fault.NotFound, "there is no fleet %q here, or it is not yours to see", slug).
		WithHint("check the address in `git remote -v`, and that your key belongs to the right account")
}

// serve runs the service until it ends, the client leaves (ctx), or it must end. An error means that git did not
// start and finish was not called.
func (s *Server) serve(ctx context.Context, actor fleet.Actor, r Repository, service string, c stream) error {
	limits := s.Limits.orDefaults()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	x := &session{server: s, actor: actor, repo: r, service: service, cancel: cancel, ended: make(chan struct{})}
	if err := s.enter(ctx, x, limits.Sessions); err != nil {
		return err
	}
	clean := true
	defer func() { s.leave(x, clean) }()
	x.idle = newIdleness(limits.Idle, func() { cancel(errIdle) })
	defer x.idle.stop()

	git := repo{}
	if c.protocol != "" {
		git.env = append(git.env, "GIT_PROTOCOL="+c.protocol)
	}
	room := int64(64 << 20) // wants and haves, or commands and options
	var hooks *hookServer
	if service == receivePack {
		room += limits.Pack
		var err error
		if hooks, err = x.listen(ctx); err != nil {
			return err
		}
		defer hooks.close()
		git.env = append(git.env, hooks.env()...)
	}
	args := append([]string{service[len("git-"):]}, c.args...)
	cmd := s.command(git, append(args, s.path(r.Fleet))...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("run %s: %w", service, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("run %s: %w", service, err)
	}
	stderr := &head{max: 4 << 10}
	cmd.Stderr = io.MultiWriter(stderr, c.errOut)
	cmd.WaitDelay = killDelay
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", service, err)
	}

	done := make(chan struct{})
	killed := make(chan struct{})
	stopKill := context.AfterFunc(ctx, func() {
		defer close(killed)
		if !x.end(cmd.Process.Pid, done) {
			c.abort()
		}
	})

	received := make(chan struct{})
	go func() {
		defer close(received)
		in := io.LimitReader(&watched{r: c.in, idle: x.idle}, room)
		_, _ = io.Copy(stdin, in)
		_ = stdin.Close()
		_, _ = io.Copy(io.Discard, in) // git may end before the client has said all
	}()
	_, copyErr := io.Copy(&watched{w: c.out, idle: x.idle}, stdout)
	if copyErr != nil {
		cancel(fmt.Errorf("%w: %w", errLeft, copyErr))
		_, _ = io.Copy(io.Discard, stdout) // git ends in order, not by a broken pipe
	}
	err = cmd.Wait()
	close(done)
	if !stopKill() {
		<-killed
	}
	if hooks != nil {
		hooks.close() // no hook outlives its push
	}

	code := cmd.ProcessState.ExitCode()
	if code < 0 { // a signal
		code = 1
	}
	if cause := context.Cause(ctx); cause != nil {
		code = max(code, 1)
		if ours(cause) && !x.told.Load() {
			complain(c.errOut, cause, "")
		}
	}
	clean = cmd.ProcessState.Success()
	if !clean {
		s.log().Debug("git ended badly", "fleet", r.Slug, "actor", actor.Name, "service", service, "err", err, "stderr", stderr.String())
	}
	c.finish(code)
	// A client that has said all is heard to its end in a moment. One that is cut off instead loses its connection:
	// HTTP takes the cut for the client's leaving, and would tell so to the next request on it.
	select {
	case <-received:
	case <-ctx.Done():
	case <-time.After(drainTime):
	}
	if service == receivePack && err == nil {
		select {
		case s.stale <- r.Fleet:
		default: // packed after another push
		}
	}
	select {
	case <-received:
	default:
		c.stopReading()
		<-received
	}
	return nil
}

// reference names something that went wrong, to its user and in the log.
func reference() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// wait reports whether done closed within d.
func wait(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// ours reports whether it was this server that ended a session, rather than the client.
func ours(cause error) bool { return fault.KindOf(cause) != fault.Internal }

// end asks the process group of a session to end, then sees to it. It reports whether being asked was enough.
func (x *session) end(pid int, done <-chan struct{}) bool {
	// A push that has come to its hooks ends by itself: one that was accepted moves its refs, and any other is
	// refused, with the reason when there is somebody to read it.
	if x.hooked.Load() && wait(done, killDelay) {
		return true
	}
	_ = syscall.Kill(-pid, syscall.SIGTERM)
	if wait(done, killDelay) {
		return true
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	return false
}

func (s *Server) enter(ctx context.Context, x *session, most int) error {
	unlock, err := s.doors.lock(ctx, fmt.Sprint(x.repo.Fleet), nil)
	if err != nil {
		return err
	}
	defer unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) >= most {
		return fault.Newf(fault.Limited, "the server is busy with %d pushes and fetches", most).WithHint("try again in a minute")
	}
	s.sessions[x] = struct{}{}
	return nil
}

// running are the sessions of one fleet's repository, of every one for 0.
func (s *Server) running(fleetID int64) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*session
	for x := range s.sessions {
		if fleetID == 0 || x.repo.Fleet == fleetID {
			all = append(all, x)
		}
	}
	return all
}

// leave counts a session out. When its git did not end well, the quarantine may be left, whose name only git knew;
// so the last session of the repository takes away what there is.
func (s *Server) leave(x *session, clean bool) {
	defer close(x.ended)
	id := x.repo.Fleet
	s.mu.Lock()
	delete(s.sessions, x)
	if !clean {
		s.dirty[id] = true
	}
	dirty := s.dirty[id]
	s.mu.Unlock()
	if !dirty {
		return
	}
	unlock, err := s.doors.lock(context.Background(), fmt.Sprint(id), nil) // held for moments only
	if err != nil {
		return
	}
	defer unlock()
	if len(s.running(id)) > 0 {
		return
	}
	s.mu.Lock()
	delete(s.dirty, id)
	s.mu.Unlock()
	if err := remove(s.path(id), quarantines...); err != nil {
		s.log().Warn("remove what a push left behind", "fleet", x.repo.Slug, "err", err)
	}
}

// complain tells a pusher or fetcher what went wrong: the sentence for it, and what to do. An error that nobody
// classified is named by reference, under which the log has the rest.
func complain(w io.Writer, err error, reference string) {
	var b bytes.Buffer
	message, hint := fault.Message(err), fault.Hint(err)
	if fault.KindOf(err) == fault.Internal && reference != "" {
		message += " (" + reference + ")"
		hint = "the server's log says more under that reference"
	}
	fmt.Fprintf(&b, "error: %s\n", message)
	if hint != "" {
		fmt.Fprintf(&b, "hint: %s\n", hint)
	}
	_, _ = w.Write(b.Bytes()) // one write, so that lines of others stay apart
}

// idleness calls expired when nothing has happened for a while, hooks under way aside.
type idleness struct {
	after time.Duration
	start time.Time
	timer *time.Timer
	last  atomic.Int64 // when something happened, in nanoseconds since start
	busy  atomic.Int32
}

func newIdleness(after time.Duration, expired func()) *idleness {
	i := &idleness{after: after, start: time.Now()}
	armed := make(chan struct{})
	i.timer = time.AfterFunc(after, func() {
		<-armed
		busy := i.busy.Load() > 0
		left := after - (time.Since(i.start) - time.Duration(i.last.Load()))
		switch {
		case busy:
			i.timer.Reset(after)
		case left > 0:
			i.timer.Reset(left)
		default:
			expired()
		}
	})
	close(armed)
	return i
}

func (i *idleness) touch() { i.last.Store(int64(time.Since(i.start))) }
func (i *idleness) stop()  { i.timer.Stop() }

// hold keeps the session from being idle until release is called.
func (i *idleness) hold() (release func()) {
	i.busy.Add(1)
	return func() {
		i.touch() // before: whoever finds it not busy finds it touched
		i.busy.Add(-1)
	}
}

// watched is a reader or a writer whose use is activity.
type watched struct {
	r    io.Reader
	w    io.Writer
	idle *idleness
}

func (x *watched) Read(p []byte) (int, error) {
	n, err := x.r.Read(p)
	if n > 0 {
		x.idle.touch()
	}
	return n, err
}

func (x *watched) Write(p []byte) (int, error) {
	n, err := x.w.Write(p)
	if n > 0 {
		x.idle.touch()
	}
	return n, err
}
