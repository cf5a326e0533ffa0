package source

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
)

// The hooks that the server answers.
const (
	preReceive  = "pre-receive"
	postReceive = "post-receive"
)

// What git hands through to a hook.
const (
	envSocket = "DUNLIN_HOOK_SOCKET"
	envSecret = "DUNLIN_HOOK_SECRET"
)

const (
	maxCall    = 64 << 20 // bytes of a call: more refs than a session lets in
	maxOptions = 32
	// maxSocketPath is what fits a unix socket's address on every system.
	maxSocketPath = 100
)

// call is what a hook sends, once: one line of JSON.
type call struct {
	Secret     string   `json:"secret"`
	Hook       string   `json:"hook"`
	Updates    []update `json:"updates"`
	Options    []string `json:"options,omitempty"`
	Quarantine []string `json:"quarantine,omitempty"` // environment that lets git see the pushed objects
}

// update is one ref that a push wants to move. Zeros stand for "not there".
type update struct {
	Old string `json:"old"`
	New string `json:"new"`
	Ref string `json:"ref"`
}

// reply is what the server sends, as lines of JSON: texts, and at the end a code.
type reply struct {
	Text []byte `json:"text,omitempty"`
	Code *int   `json:"code,omitempty"`
}

// Hook is what git runs during a push: it asks the server over the socket named in its environment, shows what the
// server says on standard error (git passes it on as "remote:" lines), and exits with the verdict. args is the name
// of the hook.
func Hook(args []string, stdin io.Reader, _, stderr io.Writer) int {
	code, err := hook(args, stdin, stderr)
	if err != nil {
		complain(stderr, err, "")
		return 1
	}
	return code
}

func hook(args []string, stdin io.Reader, stderr io.Writer) (int, error) {
	socket, secret := os.Getenv(envSocket), os.Getenv(envSecret)
	if len(args) != 1 || socket == "" || secret == "" {
		return 0, fault.New(fault.Invalid, "this command is for git alone, during a push")
	}
	c := call{Secret: secret, Hook: args[0], Options: pushOptions(os.Getenv)}
	for _, name := range []string{"GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH"} {
		if v := os.Getenv(name); v != "" {
			c.Quarantine = append(c.Quarantine, name+"="+v)
		}
	}
	in := bufio.NewScanner(stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		f := strings.SplitN(in.Text(), " ", 3)
		if len(f) != 3 {
			return 0, fault.Newf(fault.Invalid, "git gave the hook a line that is none: %q", in.Text())
		}
		c.Updates = append(c.Updates, update{f[0], f[1], f[2]})
	}
	if err := in.Err(); err != nil {
		return 0, fault.Wrap(fault.Unavailable, err, "the list of refs could not be read")
	}
	lost := func(err error) error {
		return fault.Wrap(fault.Unavailable, err, "the server went away before it had answered").WithHint("push again")
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0, lost(err)
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(c); err != nil {
		return 0, lost(err)
	}
	for dec := json.NewDecoder(conn); ; {
		var r reply
		if err := dec.Decode(&r); err != nil {
			return 0, lost(err)
		}
		if r.Code != nil {
			return *r.Code, nil
		}
		if _, err := stderr.Write(r.Text); err != nil {
			return 1, nil // git is gone, and with it whoever could read why
		}
	}
}

// pushOptions reads git's GIT_PUSH_OPTION_… variables.
func pushOptions(getenv func(string) string) []string {
	n, _ := strconv.Atoi(getenv("GIT_PUSH_OPTION_COUNT"))
	var options []string
	for i := range min(max(n, 0), maxOptions+1) { // one too many is enough to be refused
		options = append(options, getenv("GIT_PUSH_OPTION_"+strconv.Itoa(i)))
	}
	return options
}

// hookServer answers the hooks of one session, over a socket of its own.
type hookServer struct {
	x         *session
	secret    string
	dir       string // to remove at the end, "" for none
	ln        *net.UnixListener
	conns     sync.WaitGroup
	hangUp    context.CancelFunc // ends the connections that say nothing
	closeOnce sync.Once

	mu       sync.Mutex
	stage    string // the last hook that called: each may call once, in order
	accepted bool
	unlock   func() // of the repository's turn; nil when not held
}

// listen opens the socket and answers until close.
func (x *session) listen(ctx context.Context) (*hookServer, error) {
	var random [40]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("listen for hooks: %w", err)
	}
	h := &hookServer{x: x, secret: hex.EncodeToString(random[8:])}
	path := filepath.Join(x.server.runDir(), hex.EncodeToString(random[:8]))
	if len(path) > maxSocketPath {
		dir, err := os.MkdirTemp("", "dunlin-push-")
		if err != nil {
			return nil, fmt.Errorf("listen for hooks: %w", err)
		}
		h.dir, path = dir, filepath.Join(dir, "socket")
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for hooks: %w", err), h.removeDir())
	}
	h.ln = ln
	closing, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	h.hangUp = hangUp
	h.conns.Go(func() {
		for {
			conn, err := ln.AcceptUnix()
			if err != nil {
				return // closed
			}
			h.conns.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(closing, func() { _ = conn.Close() })()
				h.answer(ctx, conn)
			})
		}
	})
	return h, nil
}

func (h *hookServer) env() []string {
	return []string{envSocket + "=" + h.ln.Addr().String(), envSecret + "=" + h.secret}
}

// close ends the socket and waits for what is being answered. The session's git has ended, so that every hook has.
func (h *hookServer) close() {
	h.closeOnce.Do(func() {
		_ = h.ln.Close() // removes the socket too
		h.hangUp()
		h.conns.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.unlock != nil {
			h.unlock()
		}
		if h.accepted && h.stage == preReceive {
			h.x.server.log().Warn("push was accepted but git did not move the ref", "fleet", h.x.repo.Slug, "actor", h.x.actor.Name)
		}
		if err := h.removeDir(); err != nil {
			h.x.server.log().Warn("remove the folder of a push", "err", err)
		}
	})
}

func (h *hookServer) removeDir() error {
	if h.dir == "" {
		return nil
	}
	return os.RemoveAll(h.dir)
}

// answer reads one call, acts on it and sends the verdict.
func (h *hookServer) answer(ctx context.Context, conn *net.UnixConn) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := &replies{conn: conn, patience: h.x.server.Limits.orDefaults().Idle, cancel: cancel}

	in := bufio.NewReader(io.LimitReader(conn, maxCall))
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	var c call
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c)
	}
	if err != nil || subtle.ConstantTimeCompare([]byte(c.Secret), []byte(h.secret)) != 1 {
		h.x.server.log().Warn("something else than this push's hook called", "fleet", h.x.repo.Slug, "err", err)
		complain(out, fault.New(fault.Denied, "this is not a hook of this push"), "")
		out.verdict(1)
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	h.x.hooked.Store(true)

	// A hook says nothing more; when its end closes, the push is over.
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = in.ReadByte()
		cancel(errLeft)
	}()
	release := h.x.idle.hold()
	code := h.decide(ctx, c, out)
	release()
	out.verdict(code)
	cancel(nil)
	_ = conn.Close()
	<-left
}

// decide lets each hook call once and in order.
func (h *hookServer) decide(ctx context.Context, c call, out io.Writer) int {
	h.mu.Lock()
	order := h.stage == "" && c.Hook == preReceive || h.stage == preReceive && c.Hook == postReceive
	if order {
		h.stage = c.Hook
	}
	unlock := h.unlock
	h.mu.Unlock()
	switch {
	case !order:
		complain(out, fault.Newf(fault.Invalid, "the hook %q is not expected now", c.Hook), "")
		return 1
	case c.Hook == postReceive:
		if unlock != nil {
			unlock() // the refs have moved; the next push need not wait for the rollout to be watched
		}
		h.x.pushed(ctx, c, out)
		return 0
	}
	unlock, err := h.x.judge(ctx, c, out)
	h.mu.Lock()
	h.unlock, h.accepted = unlock, err == nil
	h.mu.Unlock()
	if err == nil {
		return 0
	}
	ref := reference()
	if ctx.Err() != nil {
		err = context.Cause(ctx) // what OnPush says of an end that others decided on is beside the point
		h.x.told.Store(true)
	} else {
		h.x.server.log().Info("push refused", "fleet", h.x.repo.Slug, "actor", h.x.actor.Name, "reference", ref, "err", err)
	}
	complain(out, err, "reference "+ref)
	return 1
}

// replies sends text to a hook. It takes concurrent writes: a connection sends one buffer after the other.
type replies struct {
	conn     net.Conn
	patience time.Duration // for a pusher that does not read
	cancel   context.CancelCauseFunc
}

// Write sends p as it is, at once. When the pusher is gone, the push's context ends with it.
func (w *replies) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := w.send(reply{Text: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *replies) verdict(code int) { _ = w.send(reply{Code: &code}) }

func (w *replies) send(r reply) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_ = w.conn.SetWriteDeadline(time.Now().Add(w.patience))
	if _, err := w.conn.Write(append(b, '\n')); err != nil {
		err = fmt.Errorf("%w: %w", errLeft, err)
		w.cancel(err)
		return err
	}
	return nil
}
