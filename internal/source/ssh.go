package source

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

const (
	maxAuthTries = 20 // an agent may hold that many keys
	maxChannels  = 8  // sessions at a time on one connection
)

// LoadHostKey reads the SSH identity in the file at path, and makes an ed25519 one there, for this user alone, when
// there is none.
func LoadHostKey(path string) (ssh.Signer, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		text, err = makeHostKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("load host key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("load host key %s: %w", path, err)
	}
	return key, nil
}

func makeHostKey(path string) (text []byte, err error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "dunlin")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	text = pem.EncodeToMemory(block)
	// Written aside and linked, so that it is whole or not there, and never replaces another.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".host-key-") // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(tmp.Name(), path); errors.Is(err, os.ErrExist) {
		return os.ReadFile(path)
	} else if err != nil {
		return nil, err
	}
	return text, nil
}

// ServeSSH answers git over SSH on ln until ctx ends, and closes it. Then it takes nothing new, gives the sessions
// under way Limits.Grace to end, and returns when all of them have.
func (s *Server) ServeSSH(ctx context.Context, ln net.Listener) error {
	if s.HostKey == nil {
		return errors.New("serve ssh: no host key")
	}
	if err := s.prepare(); err != nil {
		return errors.Join(err, ln.Close())
	}
	d := &sshDoor{server: s, limits: s.Limits.orDefaults()}
	// Sessions outlive ctx for a while; hard is what ends them.
	hard, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()

	var conns sync.WaitGroup
	most := make(chan struct{}, 2*d.limits.Sessions)
	var err error
	for pause := time.Duration(0); ; {
		var conn net.Conn
		if conn, err = ln.Accept(); err != nil {
			var passing interface{ Temporary() bool }
			if ctx.Err() == nil && errors.As(err, &passing) && passing.Temporary() { // out of files, for now
				pause = min(max(2*pause, 5*time.Millisecond), time.Second)
				s.log().Warn("accept ssh connection", "err", err)
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
				continue
			}
			break
		}
		pause = 0
		select {
		case most <- struct{}{}:
		default:
			s.log().Warn("too many ssh connections", "remote", conn.RemoteAddr().String())
			_ = conn.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-most }()
			d.connection(hard, conn)
		})
	}
	_ = ln.Close()
	d.drain()
	cancel(errStopping)
	conns.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve ssh: %w", err)
}

// sshDoor is one ServeSSH under way.
type sshDoor struct {
	server *Server
	limits Limits

	mu       sync.Mutex
	stopping bool
	sessions sync.WaitGroup // Add only while not stopping
}

// begin counts a session in, unless the server is stopping.
func (d *sshDoor) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping {
		return false
	}
	d.sessions.Add(1)
	return true
}

// drain lets nothing begin any more and waits for what has, within bounds.
func (d *sshDoor) drain() {
	d.mu.Lock()
	d.stopping = true
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		d.sessions.Wait() // ends soon after the hard end at the latest
		close(done)
	}()
	wait(done, d.limits.Grace)
}

// actorKey is where the handshake leaves who the key belongs to.
type actorKey struct{}

// connection serves one client until it leaves or ctx ends.
func (d *sshDoor) connection(ctx context.Context, raw net.Conn) {
	s := d.server
	defer raw.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	config := &ssh.ServerConfig{
		MaxAuthTries:  maxAuthTries,
		ServerVersion: "SSH-2.0-Dunlin",
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			actor, err := s.Key(ctx, key)
			if err == nil && actor.Kind == fleet.Nobody {
				err = fault.New(fault.Unauthenticated, "nobody has this key")
			}
			if err != nil {
				if fault.KindOf(err) == fault.Internal && ctx.Err() == nil {
					s.log().Error("look up ssh key", "fingerprint", ssh.FingerprintSHA256(key), "err", err)
				}
				return nil, err
			}
			return &ssh.Permissions{ExtraData: map[any]any{actorKey{}: actor}}, nil
		},
	}
	config.AddHostKey(s.HostKey)

	conn := &patient{Conn: raw, patience: d.limits.Idle}
	handshake, done := context.WithTimeout(ctx, d.limits.Handshake)
	late := context.AfterFunc(handshake, func() { _ = raw.Close() })
	sc, channels, requests, err := ssh.NewServerConn(conn, config)
	inTime := late()
	done()
	if !inTime || err != nil {
		s.log().Debug("ssh handshake", "remote", raw.RemoteAddr().String(), "err", err)
		return
	}
	actor, _ := sc.Permissions.ExtraData[actorKey{}].(fleet.Actor)
	actor.Address, _, _ = net.SplitHostPort(raw.RemoteAddr().String()) // "" if it has none
	// A connection without a session is of no use to anybody for long.
	unused := time.AfterFunc(d.limits.Idle, func() { _ = sc.Close() })
	defer unused.Stop()
	var sessions, others sync.WaitGroup
	defer others.Wait()
	defer sc.Close()
	var open sync.Mutex
	count := 0
	gone := make(chan struct{})
	others.Go(func() { ssh.DiscardRequests(requests) })
	others.Go(func() { d.ping(sc, gone) })
	others.Go(func() {
		select {
		case <-gone:
			return
		case <-ctx.Done():
		}
		open.Lock()
		busy := count > 0
		open.Unlock()
		if busy {
			wait(gone, 3*killDelay) // the sessions tell their clients, who then leave
		}
		_ = sc.Close()
	})
	for nc := range channels {
		open.Lock()
		full := count >= maxChannels
		open.Unlock()
		switch {
		case nc.ChannelType() != "session":
			_ = nc.Reject(ssh.UnknownChannelType, "only sessions are served here")
			continue
		case full:
			_ = nc.Reject(ssh.ResourceShortage, "too many sessions on one connection")
			continue
		case !d.begin():
			_ = nc.Reject(ssh.ConnectionFailed, errStopping.Message)
			continue
		}
		ch, reqs, err := nc.Accept()
		if err != nil {
			d.sessions.Done()
			continue
		}
		open.Lock()
		count++
		unused.Stop()
		open.Unlock()
		sessions.Go(func() {
			defer d.sessions.Done()
			d.channel(ctx, actor, ch, reqs)
			open.Lock()
			defer open.Unlock()
			if count--; count == 0 {
				unused.Reset(d.limits.Idle)
			}
		})
	}
	close(gone)
	cancel(errLeft)
	sessions.Wait()
}

// ping asks the client now and then whether it is there; its answers, or their absence, are patient's business.
func (d *sshDoor) ping(sc *ssh.ServerConn, gone <-chan struct{}) {
	tick := time.NewTicker(d.limits.Idle / 4)
	defer tick.Stop()
	for {
		select {
		case <-gone:
			return
		case <-tick.C:
			if _, _, err := sc.SendRequest("keepalive@openssh.com", true, nil); err != nil {
				return
			}
		}
	}
}

// patient is a connection that fails when the other end has not been heard of, or has not read, for too long.
type patient struct {
	net.Conn
	patience time.Duration
}

func (p *patient) Read(b []byte) (int, error) {
	_ = p.SetReadDeadline(time.Now().Add(p.patience))
	return p.Conn.Read(b)
}

func (p *patient) Write(b []byte) (int, error) {
	_ = p.SetWriteDeadline(time.Now().Add(p.patience))
	return p.Conn.Write(b)
}

// channel serves one session: of its requests, the first exec or shell counts.
func (d *sshDoor) channel(ctx context.Context, actor fleet.Actor, ch ssh.Channel, reqs <-chan *ssh.Request) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	defer work.Wait()
	defer ch.Close()
	var protocol string
	started := false
	late := time.AfterFunc(d.limits.Handshake, func() { _ = ch.Close() }) // a client opens a channel to use it
	defer late.Stop()
	for req := range reqs {
		ok := false
		switch req.Type {
		case "env":
			var kv struct{ Name, Value string }
			if ssh.Unmarshal(req.Payload, &kv) == nil && kv.Name == "GIT_PROTOCOL" && protocolVersion.MatchString(kv.Value) && !started {
				protocol, ok = kv.Value, true
			}
		case "pty-req":
			ok = !started // whoever logs in gets a sentence; a refusal would come before it
		case "exec":
			var line struct{ Command string }
			if ok = !started && ssh.Unmarshal(req.Payload, &line) == nil; ok {
				started = true
				late.Stop()
				work.Go(func() { d.exec(ctx, actor, line.Command, protocol, ch) })
			}
		case "shell":
			if ok = !started; ok {
				started = true
				late.Stop()
				work.Go(func() { d.greet(actor, ch) })
			}
		}
		if req.WantReply {
			_ = req.Reply(ok, nil)
		}
	}
	cancel(errLeft) // the channel is closed
}

func (d *sshDoor) greet(actor fleet.Actor, ch ssh.Channel) {
	defer ch.Close()
	fmt.Fprintf(ch, "Hello %s: keys work. There is no shell here; use git push, for example:\r\n"+
		"  git remote add dunlin ssh://HOST:PORT/ORG/FLEET.git\r\n  git push dunlin main\r\n", clean(actor.Name, 100))
	exit(ch, 1)
}

// exec runs the service that the client asks for.
func (d *sshDoor) exec(ctx context.Context, actor fleet.Actor, line, protocol string, ch ssh.Channel) {
	defer ch.Close()
	service, slug, err := parseCommand(line)
	if service == receivePack {
		protocol = "" // receive-pack speaks version 0 alone
	}
	var r Repository
	if err == nil {
		r, err = d.server.open(ctx, actor, slug, service)
	}
	if err == nil {
		err = d.server.serve(ctx, actor, r, service, stream{
			in: ch, out: ch, errOut: ch.Stderr(), protocol: protocol,
			finish:      func(code int) { exit(ch, code) },
			stopReading: func() { _ = ch.Close() },
			abort:       func() { _ = ch.Close() },
		})
	}
	if err != nil {
		ref := reference()
		if fault.KindOf(err) == fault.Internal && ctx.Err() == nil {
			d.server.log().Error("serve git over ssh", "slug", slug, "actor", actor.Name, "reference", ref, "err", err)
		}
		complain(ch.Stderr(), err, "reference "+ref)
		exit(ch, 1)
	}
}

// exit tells the client that the program has ended; it may still be sending.
func exit(ch ssh.Channel, code int) {
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(code)}))
	_ = ch.CloseWrite()
}
