package enginetest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

var containerChecks = []check{
	{"AContainerIsMadeOnceAndNotStarted", func(t *trial) {
		c := t.container("c")
		t.must(t.Create(t.Context(), c))
		first, ok := t.look(c.Name)
		if !ok || first.Status != engine.Created || first.ID == "" || first.CreatedAt.IsZero() || !first.StartedAt.IsZero() {
			t.Fatalf("a new container is %+v", first)
		}
		t.must(t.Create(t.Context(), c))
		if second, _ := t.look(c.Name); second.ID != first.ID {
			t.Error("the second Create made another container")
		}
		t.start(c)
		t.must(t.Create(t.Context(), c))
		if third, _ := t.look(c.Name); third.ID != first.ID || third.Status != engine.Running {
			t.Errorf("Create did not leave a running container as it was: %+v", third)
		}
	}},
	{"AContainerOfTheSameNameForSomethingElseIsAnError", func(t *trial) {
		c := t.container("c")
		t.must(t.Create(t.Context(), c))
		first, _ := t.look(c.Name)
		c.Labels = maps.Clone(c.Labels)
		c.Labels[engine.LabelSpec] = "other"
		if err := t.Create(t.Context(), c); err == nil {
			t.Error("no error for a name that is taken")
		}
		if now, _ := t.look(c.Name); now.ID != first.ID || now.Labels[engine.LabelSpec] != "c" {
			t.Error("the container that was there is not there any more")
		}
	}},
	{"AContainerIsSupervisedEvenIfItsLabelsDoNotSaySo", func(t *trial) {
		c := t.container("c")
		c.Labels = nil
		t.must(t.Create(t.Context(), c))
		if _, ok := t.look(c.Name); !ok {
			t.Error("a container made here is not shown")
		}
		t.must(t.Create(t.Context(), c))
	}},
	{"AContainerNeedsItsImageNetworksAndVolumes", func(t *trial) {
		c := t.container("c")
		for what, bad := range map[string]func(*engine.Container){
			"image": func(c *engine.Container) {
				c.Image = c.Image[:strings.Index(c.Image, "@")] + "@sha256:" + strings.Repeat("1", 64)
			},
			"network": func(c *engine.Container) { c.Networks = []engine.Endpoint{{Network: t.name("nowhere")}} },
			"volume":  func(c *engine.Container) { c.Mounts = []engine.Mount{{Volume: t.name("nothing"), Target: "/data"}} },
		} {
			broken := c
			bad(&broken)
			t.mustBe(engine.ErrNotFound, t.Create(t.Context(), broken))
			if _, ok := t.look(c.Name); ok {
				t.Errorf("a container without its %s is there", what)
			}
		}
		t.must(t.Create(t.Context(), c))
	}},
	{"AContainerRunsTheImagesProgramWithItsEnvironment", func(t *trial) {
		c := t.container("c", "env:GREETING", "env:EMPTY", "exit:0")
		c.Env = []string{"EMPTY=", "GREETING=hello = world"}
		t.start(c)
		if got := t.output(c.Name); !slices.Equal(got, []string{"GREETING=hello = world", "EMPTY="}) {
			t.Errorf("it wrote %q", got)
		}
	}},
	{"StartAndStopDoNothingTwice", func(t *trial) {
		c := t.container("c")
		t.start(c)
		first := t.status(c.Name, engine.Running)
		if first.StartedAt.IsZero() || !first.FinishedAt.IsZero() {
			t.Errorf("a running container is %+v", first)
		}
		t.must(t.Start(t.Context(), c.Name))
		if again, _ := t.look(c.Name); !again.StartedAt.Equal(first.StartedAt) {
			t.Error("Start restarted what ran")
		}
		t.must(t.Stop(t.Context(), c.Name, 0))
		ended, _ := t.look(c.Name)
		if ended.Status != engine.Exited || ended.ExitCode != 0 || ended.FinishedAt.IsZero() {
			t.Errorf("a stopped container is %+v", ended)
		}
		t.must(t.Stop(t.Context(), c.Name, time.Second))
		pause(10 * time.Millisecond)
		t.must(t.Start(t.Context(), c.Name))
		if again := t.status(c.Name, engine.Running); !again.StartedAt.After(first.StartedAt) {
			t.Error("a stopped container was not started again")
		}
	}},
	{"AContainerThatIsNotThereIsNotFound", func(t *trial) {
		name := t.name("nobody")
		t.mustBe(engine.ErrNotFound, t.Start(t.Context(), name))
		t.mustBe(engine.ErrNotFound, t.Stop(t.Context(), name, time.Second))
		t.mustBe(engine.ErrNotFound, t.Rename(t.Context(), name, t.name("other")))
		t.mustBe(engine.ErrNotFound, t.Logs(t.Context(), name, time.Time{}, func(engine.Line) {}))
		t.must(t.Remove(t.Context(), name))
	}},
	{"APartOfAnIDIsNotAName", func(t *trial) {
		c := t.container("c")
		t.start(c)
		id := t.status(c.Name, engine.Running).ID
		for _, part := range []string{id, id[:12]} {
			t.mustBe(engine.ErrNotFound, t.Stop(t.Context(), part, time.Second))
			t.must(t.Remove(t.Context(), part))
		}
		t.status(c.Name, engine.Running)
	}},
	{"StopOfACreatedContainerLeavesItAsItIs", func(t *trial) {
		c := t.container("c")
		t.must(t.Create(t.Context(), c))
		t.must(t.Stop(t.Context(), c.Name, time.Second))
		if now, _ := t.look(c.Name); now.Status != engine.Created {
			t.Errorf("it is %s", now.Status)
		}
	}},
	{"ExitCodesAreKept", func(t *trial) {
		c := t.container("c", "exit:3")
		t.start(c)
		if ended := t.status(c.Name, engine.Exited); ended.ExitCode != 3 || ended.Restarts != 0 || ended.FinishedAt.IsZero() {
			t.Errorf("it ended as %+v", ended)
		}
	}},
	{"StopGivesGraceAndThenKills", func(t *trial) {
		c := t.container("c", "deaf", "out:deaf")
		t.start(c)
		t.wrote(c.Name, "deaf")
		began := time.Now()
		t.must(t.Stop(t.Context(), c.Name, 1500*time.Millisecond)) // whole seconds, rounded up: 2
		took := time.Since(began)
		ended, _ := t.look(c.Name)
		if ended.Status != engine.Exited || ended.ExitCode != 137 {
			t.Errorf("it ended as %+v", ended)
		}
		if took < 1900*time.Millisecond {
			t.Errorf("it was killed after %v", took)
		}
	}},
	{"StopWithoutGraceTakesTheContainersOwn", func(t *trial) {
		c := t.container("c", "deaf", "out:deaf")
		c.StopGrace = time.Second
		t.start(c)
		t.wrote(c.Name, "deaf")
		began := time.Now()
		t.must(t.Stop(t.Context(), c.Name, 0))
		if took := time.Since(began); took < 900*time.Millisecond || took > 9*time.Second {
			t.Errorf("it was killed after %v, its own grace is 1s", took)
		}
	}},
	{"StopEndsWithItsContextAndCanBeDoneAgain", func(t *trial) {
		c := t.container("c", "deaf", "out:deaf")
		t.start(c)
		t.wrote(c.Name, "deaf")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		t.mustBe(context.DeadlineExceeded, t.Stop(ctx, c.Name, 30*time.Second))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("Stop returned %v after its context had ended", took)
		}
		t.must(t.Stop(t.Context(), c.Name, time.Second))
		t.status(c.Name, engine.Exited)
	}},
	{"AStoppedContainerIsNotBroughtBack", func(t *trial) {
		policies := []string{"always", "unless-stopped", "on-failure"}
		for _, policy := range policies {
			c := t.container(policy, "exit:1")
			c.Restart = policy
			t.start(c)
		}
		restarts := map[string]int{}
		for _, policy := range policies {
			t.until(t.name(policy), "restarted", func(c engine.Container) bool { return c.Restarts > 0 })
			t.must(t.Stop(t.Context(), t.name(policy), time.Second))
			restarts[policy] = t.status(t.name(policy), engine.Exited).Restarts
		}
		pause(500 * time.Millisecond)
		for _, policy := range policies {
			if now, _ := t.look(t.name(policy)); now.Status != engine.Exited || now.Restarts != restarts[policy] {
				t.Errorf("%s brought it back: %+v", policy, now)
			}
		}
	}},
	{"OnFailureRestartsSoOften", func(t *trial) {
		fails, ends := t.container("fails", "exit:7"), t.container("ends", "exit:0")
		fails.Restart, ends.Restart = "on-failure:2", "on-failure:2"
		t.start(fails)
		t.start(ends)
		if ended := t.status(fails.Name, engine.Exited); ended.Restarts != 2 || ended.ExitCode != 7 {
			t.Errorf("it ended as %+v", ended)
		}
		if ended := t.status(ends.Name, engine.Exited); ended.Restarts != 0 {
			t.Errorf("it ended as %+v", ended)
		}
	}},
	{"RenameKeepsWhatRuns", func(t *trial) {
		c, other := t.container("old"), t.container("other")
		t.Cleanup(func() { t.Remove(context.Background(), t.name("new")) })
		t.start(c)
		first := t.status(c.Name, engine.Running)
		t.must(t.Create(t.Context(), other))
		if err := t.Rename(t.Context(), c.Name, other.Name); err == nil {
			t.Error("a taken name was given away")
		}
		t.must(t.Rename(t.Context(), c.Name, c.Name))
		t.must(t.Rename(t.Context(), c.Name, t.name("new")))
		t.must(t.Rename(t.Context(), c.Name, t.name("new")))
		if _, ok := t.look(c.Name); ok {
			t.Error("the old name is there")
		}
		if now, _ := t.look(t.name("new")); now.ID != first.ID || now.Status != engine.Running || !now.StartedAt.Equal(first.StartedAt) {
			t.Errorf("renamed, it is %+v", now)
		}
	}},
	{"RemoveRemovesWhatRuns", func(t *trial) {
		c := t.container("c", "deaf")
		c.Restart = "always"
		t.start(c)
		t.must(t.Remove(t.Context(), c.Name))
		if _, ok := t.look(c.Name); ok {
			t.Error("it is there")
		}
		t.must(t.Remove(t.Context(), c.Name))
		t.must(t.Create(t.Context(), c))
	}},
	{"HealthIsSeen", func(t *trial) {
		well := t.container("well")
		well.Healthcheck = &engine.Healthcheck{Test: []string{"CMD", "/probe", "exit:0"}, Interval: time.Second}
		ill := t.container("ill")
		ill.Healthcheck = &engine.Healthcheck{Test: []string{"CMD", "/probe", "exit:1"}, Interval: time.Second, Retries: 2}
		none := t.container("none")
		t.must(t.Create(t.Context(), well))
		if now, _ := t.look(well.Name); now.Health != "" {
			t.Errorf("a container that never ran is %s", now.Health)
		}
		t.must(t.Start(t.Context(), well.Name))
		if now, _ := t.look(well.Name); now.Health != "starting" && now.Health != "healthy" {
			t.Errorf("just started it is %q", now.Health)
		}
		t.start(ill)
		t.start(none)
		t.until(well.Name, "healthy", func(c engine.Container) bool { return c.Health == "healthy" })
		t.until(ill.Name, "unhealthy", func(c engine.Container) bool { return c.Health == "unhealthy" })
		if now, _ := t.look(none.Name); now.Health != "" {
			t.Errorf("without a check it is %q", now.Health)
		}
		t.must(t.Stop(t.Context(), well.Name, time.Second))
		if now, _ := t.look(well.Name); now.Health != "" {
			t.Errorf("stopped it is %q", now.Health)
		}
	}},
	{"AnEndedContextEndsEveryCall", func(t *trial) {
		c := t.container("c")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, info := t.Info(ctx)
		_, inspect := t.Inspect(ctx)
		for call, err := range map[string]error{
			"Info": info, "Inspect": inspect, "Create": t.Create(ctx, c), "Start": t.Start(ctx, c.Name),
			"Stop": t.Stop(ctx, c.Name, time.Second), "Rename": t.Rename(ctx, c.Name, t.name("d")), "Remove": t.Remove(ctx, c.Name),
			"Pull": t.Pull(ctx, c.Image, engine.Credentials{}, nil), "RemoveImage": t.RemoveImage(ctx, c.Image),
			"CreateNetwork": t.CreateNetwork(ctx, engine.Network{Name: t.name("n")}), "RemoveNetwork": t.RemoveNetwork(ctx, t.name("n")),
			"CreateVolume": t.CreateVolume(ctx, engine.Volume{Name: t.name("v")}), "RemoveVolume": t.RemoveVolume(ctx, t.name("v")),
			"Logs": t.Logs(ctx, c.Name, time.Time{}, func(engine.Line) {}),
		} {
			if err == nil {
				t.Errorf("%s did its work", call)
				continue
			}
			t.mustBe(context.Canceled, err)
		}
		for range t.Events(ctx) {
			// A token may come for nothing; the promise is that the channel closes.
		}
	}},
}

// wrote waits until a running container has written a line.
func (t *trial) wrote(name, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found := false
	err := t.Logs(ctx, name, time.Time{}, func(l engine.Line) {
		if l.Message == text {
			found = true
			cancel()
		}
	})
	if !found {
		t.Fatalf("%s did not write %q: %v", name, text, err)
	}
}

// pause lets an engine do what it should not.
func pause(d time.Duration) { <-time.After(d) }
