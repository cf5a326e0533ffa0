package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/wire"
)

// mortal is an engine as an agent sees it that is killed at its nth call that changes something: before the call
// reached the engine, in the middle of it, or after it was done and before the agent knew.
type mortal struct {
	engine.Engine
	left atomic.Int64 // calls until death
	when string
	kill context.CancelFunc
	dead atomic.Bool
}

func (m *mortal) call(ctx context.Context, do func(context.Context) error) error {
	if m.dead.Load() {
		return context.Canceled
	}
	if m.left.Add(-1) != 0 {
		return do(ctx)
	}
	var err error
	switch m.when {
	case "during":
		inner, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second, cancel)
		err = do(inner)
		cancel()
	case "after":
		err = do(ctx)
	}
	m.dead.Store(true)
	m.kill()
	if err == nil {
		err = context.Canceled
	}
	return err
}

func (m *mortal) Pull(ctx context.Context, ref string, auth engine.Credentials, progress func(int)) error {
	return m.call(ctx, func(ctx context.Context) error { return m.Engine.Pull(ctx, ref, auth, progress) })
}

func (m *mortal) Load(ctx context.Context, archive io.Reader) error {
	return m.call(ctx, func(ctx context.Context) error { return m.Engine.Load(ctx, archive) })
}

func (m *mortal) RemoveImage(ctx context.Context, ref string) error {
	return m.call(ctx, func(ctx context.Context) error { return m.Engine.RemoveImage(ctx, ref) })
}

func (m *mortal) CreateNetwork(ctx context.Context, n engine.Network) error {
	return m.call(ctx, func(ctx context.Context) error { return m.Engine.CreateNetwork(ctx, n) })
}

func (m *mortal) RemoveNetwork(ctx context.Context, name string) error {
	return m.call(ctx, func(ctx context.Context) error { return m.Engine.RemoveNetwork(ctx, name) })
}

func (m *mortal) CreateVolume(ctx context.Context, v engine.Volume) error {
	return m.call(ctx, func(ctx context.Context) error { return m.Engine.CreateVolume(ctx, v) })
}

func (m *mortal) Create(ctx context.Context, c engine.Container) error {
	return m.call(ctx, func(ctx context.Context) error { return m.Engine.Create(ctx, c) })
}

func (m *mortal) Start(ctx context.Context, name string) error {
	return m.call(ctx, func(ctx context.Context) error { return m.Engine.Start(ctx, name) })
}

func (m *mortal) Stop(ctx context.Context, name string, grace time.Duration) error {
	return m.call(ctx, func(ctx context.Context) error { return m.Engine.Stop(ctx, name, grace) })
}

func (m *mortal) Remove(ctx context.Context, name string) error {
	return m.call(ctx, func(ctx context.Context) error { return m.Engine.Remove(ctx, name) })
}

// TestAnAgentKilledAnywhereIsFollowedByOneThatGetsThere kills the agent at every call of an update that replaces one
// service, changes a variable of another, puts a third on another network, adds a fourth and drops a fifth.
func TestAnAgentKilledAnywhereIsFollowedByOneThatGetsThere(t *testing.T) {
	before := map[string]wire.Service{
		"main": service(21, image(1), ""), "db": service(22, image(2), ""), "web": service(23, image(3), `{"networks":["front"]}`),
		"gone": service(24, image(4), ""),
	}
	after := map[string]wire.Service{
		"main": service(21, image(5), `{"depends_on":["db"]}`), "db": service(22, image(2), `{"command":["env:FOO"]}`),
		"web": service(23, image(3), `{"networks":["front"]}`), "more": service(25, image(6), `{"network_mode":"service:web"}`),
	}
	want := map[string]int{"main": 5, "db": 2, "web": 3, "more": 6}
	for _, when := range []string{"before", "during", "after"} {
		t.Run(when, func(t *testing.T) {
			for n := int64(1); ; n++ {
				died := false
				synctest.Test(t, func(t *testing.T) { died = killAt(t, n, when, before, after, want) })
				if !died {
					if n < 18 {
						t.Fatalf("the update took only %d calls", n-1)
					}
					return
				}
				if t.Failed() {
					t.Fatalf("killed %s call %d", when, n)
				}
			}
		})
	}
}

func killAt(t *testing.T, n int64, when string, before, after map[string]wire.Service, want map[string]int) bool {
	b := newBench(t)
	b.push(1, 2, 3, 4, 5, 6)
	b.cloud.want(release(commitA, before))
	off := b.on()
	wait(20 * time.Second)
	b.mustRun(map[string]int{"main": 1, "db": 2, "web": 3, "gone": 4})
	off()

	d := release(commitB, after)
	d.Apps[fleetUUID].Releases[commitB] = func(r wire.Release) wire.Release {
		r.Networks = map[string]json.RawMessage{"front": json.RawMessage(`{"internal":true}`)}
		return r
	}(d.Apps[fleetUUID].Releases[commitB])
	b.cloud.want(d)

	stop := b.watch(after)
	ctx, kill := context.WithCancel(t.Context())
	m := &mortal{Engine: b.engine, when: when, kill: kill}
	m.left.Store(n)
	ended := make(chan error, 1)
	first := b.agent(m)
	go func() { ended <- first.Run(ctx) }()
	wait(30 * time.Second)
	kill()
	if err := <-ended; err != nil {
		t.Errorf("the killed agent ended with %v", err)
	}
	first.HTTP.CloseIdleConnections()
	off = b.on()
	wait(30 * time.Second)
	stop()
	off()
	b.mustRun(want)
	if s := b.engine.All(); len(s.Containers) != len(want) || len(s.Images) != 4 || len(s.Networks) != 2 || len(s.Volumes) != 1 {
		t.Errorf("left over: %d containers, %d images, %d networks, %d volumes", len(s.Containers), len(s.Images), len(s.Networks), len(s.Volumes))
	}
	return m.dead.Load()
}

// watch looks at the engine at every change until it is told to stop: no service that ran and is still wanted may be down
// while an image that the update needs is missing.
func (b *bench) watch(wanted map[string]wire.Service) (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	ran, changes := b.running(), b.engine.Events(ctx)
	go func() {
		defer close(done)
		for range changes {
			here := map[string]bool{}
			for _, i := range b.engine.All().Images {
				for _, ref := range i.References {
					here[ref] = true
				}
			}
			missing := ""
			for name, s := range wanted {
				if !here[s.Image] {
					missing = fmt.Sprintf("%s (%s)", name, s.Image)
				}
			}
			up := b.running()
			for name := range ran {
				_, still := wanted[name]
				if _, ok := up[name]; !ok && still && missing != "" {
					b.t.Errorf("%s is down while the image of %s is missing", name, missing)
					return
				}
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
