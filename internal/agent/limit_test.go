package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/wire"
)

// hanging is an engine that once does not answer a call of op.
type hanging struct {
	engine.Engine
	op string

	mu   sync.Mutex
	hung bool
}

// hang waits for the end of ctx, the first time.
func (h *hanging) hang(ctx context.Context, op string) error {
	h.mu.Lock()
	now := op == h.op && !h.hung
	h.hung = h.hung || now
	h.mu.Unlock()
	if !now {
		return nil
	}
	<-ctx.Done()
	return fmt.Errorf("%s: %w", op, ctx.Err())
}

func (h *hanging) Inspect(ctx context.Context) (engine.State, error) {
	if err := h.hang(ctx, "inspect"); err != nil {
		return engine.State{}, err
	}
	return h.Engine.Inspect(ctx)
}

func (h *hanging) Info(ctx context.Context) (engine.Info, error) {
	if err := h.hang(ctx, "info"); err != nil {
		return engine.Info{}, err
	}
	return h.Engine.Info(ctx)
}

func (h *hanging) CreateNetwork(ctx context.Context, n engine.Network) error {
	if err := h.hang(ctx, "create network"); err != nil {
		return err
	}
	return h.Engine.CreateNetwork(ctx, n)
}

func (h *hanging) Create(ctx context.Context, c engine.Container) error {
	if err := h.hang(ctx, "create"); err != nil {
		return err
	}
	return h.Engine.Create(ctx, c)
}

func (h *hanging) Start(ctx context.Context, name string) error {
	if err := h.hang(ctx, "start"); err != nil {
		return err
	}
	return h.Engine.Start(ctx, name)
}

func (h *hanging) Stop(ctx context.Context, name string, grace time.Duration) error {
	if err := h.hang(ctx, "stop"); err != nil {
		return err
	}
	return h.Engine.Stop(ctx, name, grace)
}

func TestAnEngineThatHangsIsAskedAgain(t *testing.T) {
	for op, within := range map[string]time.Duration{
		"inspect": time.Minute, "create network": 5 * time.Minute, "create": 5 * time.Minute, "start": 5 * time.Minute,
	} {
		t.Run(op, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.push(1)
				b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
				defer b.onWith(&hanging{Engine: b.engine, op: op})()
				wait(within - time.Second)
				if got := b.running(); len(got) > 0 {
					t.Fatalf("%v runs although the engine hangs", got)
				}
				wait(15 * time.Second)
				b.mustRun(map[string]int{"main": 1})
			})
		})
	}
	t.Run("stop", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bench) {
			b.push(1, 2)
			b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), `{"stop_grace_period":"10m"}`)}))
			defer b.onWith(&hanging{Engine: b.engine, op: "stop"})()
			wait(10 * time.Second)
			b.cloud.want(release(commitB, map[string]wire.Service{"main": service(21, image(2), "")}))
			wait(12 * time.Minute)
			b.mustRun(map[string]int{"main": 1})
			wait(15 * time.Second)
			b.mustRun(map[string]int{"main": 2})
		})
	})
	t.Run("info", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bench) {
			defer b.onWith(&hanging{Engine: b.engine, op: "info"})()
			wait(70 * time.Second)
			b.cloud.set(func(c *cloud) {
				if len(c.reports) == 0 {
					t.Error("nothing is reported because the engine hung once")
				}
			})
		})
	})
}

func TestAFetchThatStallsIsBegunAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		release1 := b.engine.Hold(image(1))
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		pulls := func() int { return strings.Count(strings.Join(b.engine.Trace(), "\n"), "pull "+image(1)) }
		wait(stall - time.Second)
		if n := pulls(); n != 1 {
			t.Errorf("%d pulls before the first had stalled for long", n)
		}
		wait(10 * time.Second)
		if n := pulls(); n != 2 {
			t.Errorf("%d pulls after the first stalled, want another one", n)
		}
		release1()
		wait(10 * time.Second)
		b.mustRun(map[string]int{"main": 1})
	})
}

// A fetch under way counts from its last progress, not from its begin.
func TestASlowFetchIsLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.pushSlow(1, 5*stall)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		defer b.on()()
		wait(5*stall + time.Minute)
		b.mustRun(map[string]int{"main": 1})
		if n := strings.Count(strings.Join(b.engine.Trace(), "\n"), "pull "); n != 1 {
			t.Errorf("%d pulls of an image that was on its way all the time", n)
		}
	})
}

// Neither the engine's events nor a server that says the same again in other words make a failing fetch more frequent.
func TestAFailingFetchIsTriedAtGrowingTimesWhateverElseHappens(t *testing.T) {
	for name, disturb := range map[string]func(b *bench){
		"the engine's events": func(b *bench) {
			b.engine.Put(engine.State{Networks: []engine.Network{{Name: "somebody's"}}})
		},
		"another setting": func(b *bench) { b.cloud.want(settled(time.Now().String())) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				var mu sync.Mutex
				var tries []time.Time
				b.engine.Before("pull "+image(1), func() error {
					mu.Lock()
					defer mu.Unlock()
					tries = append(tries, time.Now())
					return engine.ErrDiskFull
				})
				b.cloud.holds = false
				b.cloud.want(settled("first"))
				off := b.on()
				for range 600 {
					time.Sleep(time.Second)
					disturb(b)
				}
				off()
				if n := len(tries); n < 8 || n > 10 {
					t.Errorf("%d tries in ten minutes, want 8 to 10", n)
				}
				for i := 1; i < len(tries); i++ {
					if least, got := min(time.Second<<(i-1), 5*time.Minute), tries[i].Sub(tries[i-1]); got < least {
						t.Errorf("try %d came after %v, want at least %v", i+1, got, least)
					}
				}
			})
		})
	}
}

// settled is a target with a setting that changes no container, of a device that polls every second.
func settled(setting string) wire.DeviceTarget {
	d := release(commitA, map[string]wire.Service{"main": service(21, image(1), "")})
	d.Config["RESIN_SUPERVISOR_POLL_INTERVAL"], d.Config["N"] = "1000", setting
	return d
}

func TestAFetchThatEndsAfterNobodyWantsItIsNoHarm(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1, 2)
		first := release(commitA, map[string]wire.Service{"main": service(21, image(1), "")})
		b.cloud.want(first)
		// The image has its name a while before the pull returns.
		b.engine.After("pull "+image(2), func() error {
			time.Sleep(10 * time.Second)
			return nil
		})
		defer b.on()()
		wait(10 * time.Second)
		b.cloud.want(release(commitB, map[string]wire.Service{"main": service(21, image(2), ""), "db": service(22, image(3), "")}))
		wait(5 * time.Second)
		b.cloud.want(first)
		wait(3 * time.Minute)
		b.mustRun(map[string]int{"main": 1})
		if slices.ContainsFunc(b.engine.All().Images, func(i engine.Image) bool { return slices.Contains(i.References, image(2)) }) {
			t.Error("an image that nobody wants is still here")
		}
	})
}

func TestTheEndOfAStepThatIsForgottenIsIgnored(t *testing.T) {
	c := &convergence{efforts: map[string]*effort{"image b": newEffort()}}
	c.ended(outcome{subject: "image a"})
	c.ended(outcome{subject: "image b"})
}
