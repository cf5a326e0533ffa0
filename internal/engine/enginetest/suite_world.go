package enginetest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

var worldChecks = []check{
	{"NetworksJoinContainersUnderTheirAliases", func(t *trial) {
		one, two := t.name("one"), t.name("two")
		t.network(engine.Network{Name: one})
		t.network(engine.Network{Name: two})
		server := t.container("server")
		server.Networks = []engine.Endpoint{{Network: one, Aliases: []string{"front"}}, {Network: two, Aliases: []string{"back"}}}
		t.start(server)
		clients := []struct {
			of, network string
			want        []string
		}{
			{"first", one, []string{"found front", "no back"}},
			{"second", two, []string{"found back", "no front"}},
		}
		for _, c := range clients { // at once: an engine may ask the world for the names that are not there
			client := t.container(c.of, "lookup:"+strings.Fields(c.want[0])[1], "lookup:"+strings.Fields(c.want[1])[1], "exit:0")
			client.Networks = []engine.Endpoint{{Network: c.network}}
			t.start(client)
		}
		for _, c := range clients {
			if got := t.output(t.name(c.of)); !slices.Equal(got, c.want) {
				t.Errorf("on network %s: %q, want %q", c.network, got, c.want)
			}
		}
		if err := t.RemoveNetwork(t.Context(), one); err == nil {
			t.Error("a network that a running container uses was removed")
		}
		t.must(t.Stop(t.Context(), server.Name, time.Second))
		t.must(t.RemoveNetwork(t.Context(), one))
		t.must(t.RemoveNetwork(t.Context(), one))
		if err := t.Start(t.Context(), server.Name); err == nil {
			t.Error("a container started without its network")
		}
		if c, ok := t.look(server.Name); !ok || c.Status == engine.Running {
			t.Errorf("after a failed start it is %+v", c)
		}
	}},
	{"ANetworkIsMadeOnce", func(t *trial) {
		n := engine.Network{Name: t.name("n"), Labels: map[string]string{engine.LabelSpec: "1"}}
		t.Cleanup(func() { t.RemoveNetwork(context.Background(), n.Name) })
		done := make(chan error, 4)
		for range cap(done) {
			go func() { done <- t.CreateNetwork(t.Context(), n) }()
		}
		for range cap(done) {
			t.must(<-done)
		}
		n.Labels = map[string]string{engine.LabelSpec: "2"}
		t.must(t.CreateNetwork(t.Context(), n))
		s, err := t.Inspect(t.Context())
		t.must(err)
		found := slices.DeleteFunc(s.Networks, func(x engine.Network) bool { return x.Name != n.Name })
		if len(found) != 1 || found[0].Labels[engine.LabelSpec] != "1" || !supervised(found[0].Labels) {
			t.Errorf("networks of that name: %+v", found)
		}
		t.must(t.RemoveNetwork(t.Context(), n.Name))
	}},
	{"AVolumeOutlivesContainers", func(t *trial) {
		v := engine.Volume{Name: t.name("v"), Labels: map[string]string{engine.LabelSpec: "1"}}
		t.volume(v)
		writer := t.container("writer", "write:/data/x:kept", "exit:0")
		writer.Mounts = []engine.Mount{{Volume: v.Name, Target: "/data"}}
		t.start(writer)
		t.status(writer.Name, engine.Exited)
		if err := t.RemoveVolume(t.Context(), v.Name); err == nil {
			t.Error("a volume that a container uses was removed")
		}
		t.must(t.Remove(t.Context(), writer.Name))
		t.must(t.CreateVolume(t.Context(), v))
		reader := t.container("reader", "cat:/data/x", "exit:0")
		reader.Mounts = writer.Mounts
		t.start(reader)
		if got := t.output(reader.Name); !slices.Equal(got, []string{"kept"}) {
			t.Errorf("in the volume is %q", got)
		}
		t.must(t.Remove(t.Context(), reader.Name))
		t.must(t.RemoveVolume(t.Context(), v.Name))
		t.must(t.RemoveVolume(t.Context(), v.Name))
		t.must(t.CreateVolume(t.Context(), v))
		again := t.container("again", "cat:/data/x", "exit:0")
		again.Mounts = writer.Mounts
		t.start(again)
		if got := t.output(again.Name); !slices.Equal(got, []string{"no /data/x"}) {
			t.Errorf("in the new volume is %q", got)
		}
	}},
	{"WhatIsNotSupervisedIsNeitherShownNorTouched", func(t *trial) {
		name := t.name("foreign")
		intact := t.fixture.Foreign(t.T, name)
		c := t.container("mine")
		t.must(t.Create(t.Context(), c))
		s, err := t.Inspect(t.Context())
		t.must(err)
		if slices.ContainsFunc(s.Containers, func(c engine.Container) bool { return c.Name == name }) ||
			slices.ContainsFunc(s.Networks, func(n engine.Network) bool { return n.Name == name }) ||
			slices.ContainsFunc(s.Volumes, func(v engine.Volume) bool { return v.Name == name }) {
			t.Error("it is shown")
		}
		t.mustBe(engine.ErrNotFound, t.Start(t.Context(), name))
		t.mustBe(engine.ErrNotFound, t.Stop(t.Context(), name, time.Second))
		t.mustBe(engine.ErrNotFound, t.Rename(t.Context(), name, t.name("x")))
		t.mustBe(engine.ErrNotFound, t.Logs(t.Context(), name, time.Time{}, func(engine.Line) {}))
		t.must(t.Remove(t.Context(), name))
		t.must(t.RemoveNetwork(t.Context(), name))
		t.must(t.RemoveVolume(t.Context(), name))
		taken := c
		taken.Name = name
		for what, err := range map[string]error{
			"Create": t.Create(t.Context(), taken), "Rename": t.Rename(t.Context(), c.Name, name),
			"CreateNetwork": t.CreateNetwork(t.Context(), engine.Network{Name: name}),
			"CreateVolume":  t.CreateVolume(t.Context(), engine.Volume{Name: name}),
		} {
			if err == nil {
				t.Errorf("%s took a foreign name", what)
			}
		}
		joined := t.container("joined")
		joined.Networks = []engine.Endpoint{{Network: name}}
		t.mustBe(engine.ErrNotFound, t.Create(t.Context(), joined))
		mounted := t.container("mounted")
		mounted.Mounts = []engine.Mount{{Volume: name, Target: "/data"}}
		t.mustBe(engine.ErrNotFound, t.Create(t.Context(), mounted))
		t.must(intact())
	}},
	{"EventsTellOfChanges", func(t *trial) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events := t.Events(ctx)
		c := t.container("c")
		t.must(t.Create(t.Context(), c))
		t.token(events, "a container was made")
		t.must(t.Start(t.Context(), c.Name))
		t.token(events, "a container was started")
		t.must(t.Stop(t.Context(), c.Name, time.Second))
		t.token(events, "a container was stopped")
		t.must(t.Remove(t.Context(), c.Name))
		t.token(events, "a container was removed")
		crash := t.container("crash", "wait:300ms", "exit:1")
		t.start(crash)
		t.token(events, "a container was started")
		t.status(crash.Name, engine.Exited)
		t.token(events, "a container ended by itself")
		cancel()
		end := time.After(patience)
		for {
			select {
			case _, open := <-events:
				if !open {
					return
				}
			case <-end:
				t.Fatal("the channel is open after its context has ended")
			}
		}
	}},
	{"EventsCoalesce", func(t *trial) {
		events := t.Events(t.Context())
		c := t.container("c", "exit:0")
		for range 3 {
			t.must(t.Create(t.Context(), c))
			t.must(t.Remove(t.Context(), c.Name))
		}
		t.token(events, "containers were made and removed")
		if cap(events) > 1 {
			t.Errorf("the channel holds %d tokens; one says all", cap(events))
		}
	}},
}

// token waits for an event and for those that come right behind it.
func (t *trial) token(events <-chan struct{}, what string) {
	t.Helper()
	select {
	case _, open := <-events:
		if !open {
			t.Fatalf("the channel closed; %s", what)
		}
	case <-time.After(patience):
		t.Fatalf("no token; %s", what)
	}
	for {
		select {
		case <-events:
		case <-time.After(200 * time.Millisecond):
			return
		}
	}
}

// network makes a network and has it removed.
func (t *trial) network(n engine.Network) {
	t.Helper()
	t.Cleanup(func() { t.RemoveNetwork(context.Background(), n.Name) })
	t.must(t.CreateNetwork(t.Context(), n))
}

// volume makes a volume and has it removed.
func (t *trial) volume(v engine.Volume) {
	t.Helper()
	t.Cleanup(func() { t.RemoveVolume(context.Background(), v.Name) })
	t.must(t.CreateVolume(t.Context(), v))
}
