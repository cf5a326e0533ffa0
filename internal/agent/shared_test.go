package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/wire"
)

const mainsLock = "run/dunlin-agent/services/7/main/updates.lock"

func (b *bench) waits() int {
	return strings.Count(strings.Join(b.cloud.messages(), "\n"), "system: Waiting for the update lock of ")
}

func TestARunningServiceHoldsTheUpdateWithALock(t *testing.T) {
	for name, tt := range map[string]struct {
		lock   string
		before func(b *bench)
		config string
		want   int // image of main after the update
	}{
		"no lock":                 {want: 2},
		"its own lock":            {lock: mainsLock, want: 1},
		"the lock's old name":     {lock: "run/dunlin-agent/services/7/main/resin-updates.lock", want: 1},
		"another service's lock":  {lock: "run/dunlin-agent/services/7/db/updates.lock", want: 1},
		"another fleet's lock":    {lock: "run/dunlin-agent/services/8/main/updates.lock", want: 2},
		"overridden":              {lock: mainsLock, config: "BALENA_SUPERVISOR_OVERRIDE_LOCK=1", want: 2},
		"overridden the old way":  {lock: mainsLock, config: "RESIN_OVERRIDE_LOCK=true", want: 2},
		"not overridden":          {lock: mainsLock, config: "RESIN_SUPERVISOR_OVERRIDE_LOCK=0", want: 1},
		"a crashed service's one": {lock: "run/dunlin-agent/services/7/db/updates.lock", want: 2, before: (*bench).crash},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.push(1, 2, 3)
				db := service(22, image(3), `{"restart":"no"}`)
				b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), ""), "db": db}))
				defer b.on()()
				wait(20 * time.Second)
				b.mustRun(map[string]int{"main": 1, "db": 3})
				if tt.lock != "" {
					b.file(tt.lock, "")
				}
				want := map[string]int{"main": tt.want, "db": 3}
				if tt.before != nil {
					tt.before(b)
					delete(want, "db")
				}
				next := release(commitB, map[string]wire.Service{"main": service(21, image(2), ""), "db": db})
				if k, v, ok := strings.Cut(tt.config, "="); ok {
					next.Config[k] = v
				}
				b.cloud.want(next)
				wait(10 * time.Minute)
				b.mustRun(want)
				if said := b.waits(); said != 2-tt.want {
					t.Errorf("said %d times that it waits: %q", said, b.cloud.messages())
				}
				if tt.lock == "" || tt.want == 2 {
					return
				}
				if got := b.cloud.lastApps()[fleetUUID].Releases[commitB].UpdateStatus; got != wire.Applying {
					t.Errorf("an update that waits is reported as %q", got)
				}
				if err := os.Remove(filepath.Join(b.root, tt.lock)); err != nil {
					t.Fatal(err)
				}
				wait(lockedMost + 5*time.Second)
				b.mustRun(map[string]int{"main": 2, "db": 3})
			})
		})
	}
}

func TestALockHoldsItsOwnFleetAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.file(mainsLock, "")
		c := &convergence{device: &device{host: newHost(b.root)}}
		state := engine.State{Containers: []engine.Container{{
			Labels: map[string]string{engine.LabelAppUUID: "a", engine.LabelServiceName: "main"}, Status: engine.Running,
			Mounts: []engine.Mount{{Host: sharedFolders + "/7/main", Target: sharedTarget}},
		}}}
		if a, other := c.locker("a", state), c.locker("b", state); a != "main" || other != "" {
			t.Errorf("the lock of a is held by %q and that of b by %q", a, other)
		}
	})
}

// crash ends db, which is not restarted.
func (b *bench) crash() {
	for _, c := range b.containers("db") {
		if err := b.engine.Stop(b.t.Context(), c.Name, 0); err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestALockHoldsAServiceThatLeftTheRelease(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1, 2)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), ""), "db": service(22, image(2), "")}))
		defer b.on()()
		wait(20 * time.Second)
		b.file(mainsLock, "")
		b.cloud.want(release(commitB, map[string]wire.Service{"main": service(21, image(1), "")}))
		wait(10 * time.Minute)
		b.mustRun(map[string]int{"main": 1, "db": 2})
		b.cloud.want(release(commitB, nil))
		wait(time.Minute)
		b.mustRun(map[string]int{"main": 1, "db": 2})
	})
}

func TestASharedFolderIsForEveryUserInAFolderForNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.push(1)
		b.cloud.want(release(commitA, map[string]wire.Service{"main": service(21, image(1), "")}))
		modes := func() {
			t.Helper()
			for folder, want := range map[string]os.FileMode{"": 0o700, "services": 0o700, "services/7": 0o700, "services/7/main": 0o777} {
				info, err := os.Lstat(filepath.Join(b.root, "run/dunlin-agent", folder))
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode() != os.ModeDir|want {
					t.Errorf("%q is %v, want %v", folder, info.Mode(), want)
				}
			}
		}
		off := b.on()
		wait(20 * time.Second)
		modes()
		off()
		// After a boot the engine starts the container first, and makes the folder in its own way.
		if err := os.RemoveAll(filepath.Join(b.root, "run/dunlin-agent")); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(b.root, filepath.Dir(mainsLock)), 0o755); err != nil {
			t.Fatal(err)
		}
		b.cloud.set(func(c *cloud) { c.down = true })
		defer b.on()()
		wait(20 * time.Second)
		modes()
		for _, c := range b.containers("main") {
			for _, m := range c.Mounts {
				if strings.HasPrefix(m.Host, "/tmp/") {
					t.Errorf("%s is bound to %s, where anybody may put a link", m.Target, m.Host)
				}
			}
			if c.Status != engine.Running {
				t.Errorf("main is %s", c.Status)
			}
		}
	})
}
