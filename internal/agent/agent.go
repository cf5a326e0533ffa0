// Package agent lives on a device: it provisions it, asks what it should run, has the container engine get there, and
// reports and ships logs. It owns the device's files and its talk with the server; it does not decide (plan does) and
// knows no engine but the contract.
//
// It is one package because it is one life: every part works on the same identity, the same target and the same look
// at the engine. The parts meet in Run and share values through cells, nothing else.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/dunlin/dunlin/internal/delivery"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/fault"
)

// Agent is a device's agent. The fields are set before Run and not changed after.
type Agent struct {
	Data    string // the folder of its config.json and ledger; only one agent at a time runs in it
	Engine  engine.Engine
	Socket  string // of the engine on the host, for services that may have it; "" if there is none
	Version string
	HTTP    *http.Client // nil: one that trusts the system's roots and the config's
	Root    string       // where the host's /proc, /sys and /etc are; "" is /
	Log     *slog.Logger
	// Apply makes new images of deltas; nil does it in this process.
	Apply delivery.Applier
}

// device is an agent at work: who it is, and what its parts know.
type device struct {
	*Agent
	config Config
	server *server
	ledger *ledger
	host   *host
	// delivery brings images; it is there once the device has its key.
	delivery *delivery.Delivery

	target   cell[*target] // nil until one is known
	seen     cell[look]
	progress cell[map[string]int] // percent by image reference
	lines    *buffer
}

// Run provisions the device if need be and serves it until ctx ends; what runs on the device goes on. It returns nil
// when ctx ended, and an error only for what no waiting can mend: a folder that is not its own, a configuration
// that names no server.
func (a *Agent) Run(ctx context.Context) error {
	unlock, err := lock(a.Data)
	if err != nil {
		return err
	}
	defer unlock()
	config, err := LoadConfig(a.Data)
	if err != nil {
		return err
	}
	d, err := a.device(config)
	if err != nil {
		return err
	}
	if err := d.provision(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	d.ledger = openLedger(a.Data, d.config.UUID, a.Log)
	d.delivery = delivery.New(delivery.Options{
		Dir: filepath.Join(a.Data, "delta"), Engine: a.Engine, Log: a.Log, Apply: a.Apply,
		Server: delivery.Server{
			URL: d.config.APIEndpoint, User: d.username(), Password: d.config.DeviceAPIKey, HTTP: d.server.http, UserAgent: d.userAgent(),
		},
	})
	d.resume()
	d.system("Agent starting")
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{d.poll, d.converge, d.report, d.follow, d.ship} {
		g.Go(func() error { return part(ctx) })
	}
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, d.ledger.saveCursors())
}

func (a *Agent) device(config Config) (*device, error) {
	if config.APIEndpoint == "" {
		return nil, fault.New(fault.Invalid, "this device has no server: its config.json has no apiEndpoint").
			WithHint("run dunlin-agent with --server URL, or with --config FILE made by the server")
	}
	client := a.HTTP
	if client == nil {
		var err error
		if client, err = newHTTP(config.RootCA); err != nil {
			return nil, err
		}
	}
	d := &device{Agent: a, config: config, host: newHost(cmp.Or(a.Root, "/")), lines: newBuffer()}
	d.server = newServer(config.APIEndpoint, client, d.userAgent())
	return d, nil
}

// username is who the device is to a registry.
func (d *device) username() string { return "d_" + d.config.UUID }

func (d *device) userAgent() string {
	return fmt.Sprintf("dunlin-agent/%s (linux; %s)", cmp.Or(d.Version, "0"), cmp.Or(d.host.osVersion(), "unknown OS"))
}

// resume takes up the last good target, so that a device without a network converges all the same.
func (d *device) resume() {
	body, _ := d.ledger.target()
	if body == nil {
		return
	}
	if err := d.accept(body); err != nil {
		d.Log.Warn("the kept target cannot be used; asking for another", "err", err)
		d.ledger.write(func(b *book) { b.Target, b.ETag = nil, "" })
	}
}

// lock makes sure of being alone in the folder. The kernel gives the lock back when the process ends, however it ends.
func lock(data string) (unlock func(), err error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fault.Wrap(fault.Conflict, err, "another dunlin-agent runs with "+data).
			WithHint("stop it (systemctl stop dunlin-agent), or give this one another --data")
	}
	return func() { f.Close() }, nil
}

// cell holds the latest of a value; whoever waits for a change sees the last one and perhaps not all. What is put in
// is not changed any more.
type cell[T any] struct {
	mu      sync.Mutex
	value   T
	changed chan struct{}
}

// get returns the value, and a channel that closes when there is another.
func (c *cell[T]) get() (T, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.value, c.changed
}

func (c *cell[T]) set(v T) { c.update(func(T) T { return v }) }

func (c *cell[T]) update(f func(T) T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value = f(c.value)
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// sleep waits for d or the end of ctx, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// backoff is the time to the next try: first, then doubling to most.
type backoff struct {
	first, most time.Duration
	failures    int
}

func (b *backoff) next() time.Duration {
	d := min(b.first<<min(b.failures, 16), b.most) // 16: far from overflow
	b.failures++
	return spread(d)
}

func (b *backoff) reset() { b.failures = 0 }

// spread lengthens d by up to a quarter, so that a fleet that failed together does not come back together.
func spread(d time.Duration) time.Duration { return d + rand.N(d/4+1) }
