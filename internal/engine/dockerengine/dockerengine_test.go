package dockerengine_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/dockerengine"
	"github.com/dunlin/dunlin/internal/engine/enginetest"
	"github.com/moby/moby/client"
)

func TestDockerKeepsTheContract(t *testing.T) {
	p := somewhere(t)
	enginetest.Run(t, func(t *testing.T) (engine.Engine, enginetest.Fixture) {
		return open(t, p.host), fixture(p)
	})
	for name, f := range map[string]func(*testing.T, place){
		"AContainerThatWasMadeByHalfIsFinishedBeforeItRuns":   madeByHalf,
		"AnImageOfTwoNamesKeepsTheOneThatAContainerUses":      twoNames,
		"ContainersLogToABoundedFileThatCanBeRead":            boundedLog,
		"AMissingFolderOfTheHostIsMadeAndAMissingVolumeIsNot": missingMounts,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, p)
		})
	}
}

func madeByHalf(t *testing.T, p place) {
	e, ctx := open(t, p.host), context.Background()
	api, err := client.New(client.WithHost(p.host))
	ok(t, err)
	defer api.Close()
	ref := newShelf(t, p).put(t, image(t, random(t, 1000)))
	name := unique()
	t.Cleanup(func() {
		ok(t, e.Remove(ctx, name))
		ok(t, e.RemoveImage(ctx, ref))
		ok(t, e.RemoveNetwork(ctx, name+"-1"))
		ok(t, e.RemoveNetwork(ctx, name+"-2"))
	})
	ok(t, e.Pull(ctx, ref, engine.Credentials{}, nil))
	ok(t, e.CreateNetwork(ctx, engine.Network{Name: name + "-1"}))
	ok(t, e.CreateNetwork(ctx, engine.Network{Name: name + "-2"}))
	c := engine.Container{Name: name, Image: ref, Networks: []engine.Endpoint{{Network: name + "-1"}, {Network: name + "-2", Aliases: []string{"eye"}}}}
	joined := func() bool {
		r, err := api.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
		ok(t, err)
		n := r.Container.NetworkSettings.Networks[name+"-2"]
		return n != nil && slices.Contains(n.Aliases, "eye")
	}
	// What a kill between making it and joining it leaves.
	halve := func() {
		_, err := api.NetworkDisconnect(ctx, name+"-2", client.NetworkDisconnectOptions{Container: name, Force: true})
		ok(t, err)
		if joined() {
			t.Fatal("the test did not take the network away")
		}
	}
	ok(t, e.Create(ctx, c))
	if !joined() {
		t.Fatal("Create did not join the second network")
	}
	halve()
	ok(t, e.Create(ctx, c))
	if !joined() {
		t.Error("a second Create did not finish the container")
	}
	state, err := e.Inspect(ctx)
	ok(t, err)
	for _, c := range state.Containers {
		if c.Labels["io.dunlin.endpoints"] != "" {
			t.Error("the driver's own label is shown")
		}
	}
	halve()
	ok(t, e.Start(ctx, name))
	if !joined() {
		t.Error("Start did not finish the container")
	}
}

func twoNames(t *testing.T, p place) {
	e, ctx, s := open(t, p.host), context.Background(), newShelf(t, p)
	i, name := image(t, random(t, 1000)), unique()
	used, other := s.put(t, i), s.put(t, i)
	t.Cleanup(func() {
		ok(t, e.Remove(ctx, name))
		ok(t, e.RemoveImage(ctx, used))
		ok(t, e.RemoveImage(ctx, other))
	})
	ok(t, e.Pull(ctx, used, engine.Credentials{}, nil))
	ok(t, e.Pull(ctx, other, engine.Credentials{}, nil))
	ok(t, e.Create(ctx, engine.Container{Name: name, Image: used}))
	if err := e.RemoveImage(ctx, used); err == nil {
		t.Error("the name that a container uses was removed")
	}
	ok(t, e.RemoveImage(ctx, other))
	state, err := e.Inspect(ctx)
	ok(t, err)
	for _, i := range state.Images {
		if slices.Contains(i.References, used) && len(i.References) == 1 {
			return
		}
	}
	t.Errorf("images: %+v", state.Images)
}

func missingMounts(t *testing.T, p place) {
	e, ctx := open(t, p.host), context.Background()
	api, err := client.New(client.WithHost(p.host))
	ok(t, err)
	defer api.Close()
	ref, name := newShelf(t, p).put(t, image(t, random(t, 1000))), unique()
	folder := filepath.Join(t.TempDir(), "made", "here")
	t.Cleanup(func() {
		ok(t, e.Remove(ctx, name))
		ok(t, e.RemoveImage(ctx, ref))
	})
	ok(t, e.Pull(ctx, ref, engine.Credentials{}, nil))
	c := engine.Container{Name: name, Image: ref, NetworkMode: "none", Mounts: []engine.Mount{{Volume: name, Target: "/v"}}}
	if err := e.Create(ctx, c); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("without its volume: %v", err)
	}
	if _, err := api.VolumeInspect(ctx, name, client.VolumeInspectOptions{}); err == nil {
		t.Error("a volume was made that nobody will remove")
	}
	c.Mounts = []engine.Mount{{Host: folder, Target: "/f"}}
	ok(t, e.Create(ctx, c))
	ok(t, e.Start(ctx, name))
}

func boundedLog(t *testing.T, p place) {
	e, ctx := open(t, p.host), context.Background()
	api, err := client.New(client.WithHost(p.host))
	ok(t, err)
	defer api.Close()
	ref, name := newShelf(t, p).put(t, image(t, random(t, 1000))), unique()
	t.Cleanup(func() {
		ok(t, e.Remove(ctx, name))
		ok(t, e.RemoveImage(ctx, ref))
	})
	ok(t, e.Pull(ctx, ref, engine.Credentials{}, nil))
	ok(t, e.Create(ctx, engine.Container{Name: name, Image: ref}))
	r, err := api.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	ok(t, err)
	if l := r.Container.HostConfig.LogConfig; l.Type != "json-file" || l.Config["max-size"] != "10m" || l.Config["max-file"] != "2" {
		t.Errorf("it logs to %+v", l)
	}
}

func TestAnEngineThatIsNotThereIsUnavailable(t *testing.T) {
	e := open(t, "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	_, info := e.Info(t.Context())
	_, inspect := e.Inspect(t.Context())
	for call, err := range map[string]error{
		"Info": info, "Inspect": inspect, "Start": e.Start(t.Context(), "x"),
		"Pull": e.Pull(t.Context(), "127.0.0.1:1/v2/x@sha256:"+strings.Repeat("0", 64), engine.Credentials{}, nil),
		"Logs": e.Logs(t.Context(), "x", time.Time{}, func(engine.Line) {}),
	} {
		if !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

func TestAnAddressThatIsNoneIsRefused(t *testing.T) {
	for _, host := range []string{"docker.sock", "tcp://", "unix://"} {
		if _, err := dockerengine.New(host); err == nil {
			t.Errorf("%q was taken for an engine", host)
		}
	}
}

func TestNamesThatMeanSomethingElseInAPathAreRefused(t *testing.T) {
	e := open(t, standIn(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_ping" {
			t.Errorf("the engine was asked for %s", r.URL)
		}
	}))
	digest := "@sha256:" + strings.Repeat("0", 64)
	for _, name := range []string{"", "..", "a/b", "../images/x", "a?force=1", "a b", "a%2fb", ".", "a\nb"} {
		for call, err := range map[string]error{
			"Create": e.Create(t.Context(), engine.Container{Name: name}), "Start": e.Start(t.Context(), name),
			"Stop": e.Stop(t.Context(), name, 0), "Rename": e.Rename(t.Context(), name, name),
			"CreateNetwork": e.CreateNetwork(t.Context(), engine.Network{Name: name}), "CreateVolume": e.CreateVolume(t.Context(), engine.Volume{Name: name}),
			"Pull":        e.Pull(t.Context(), name+"/../x"+digest, engine.Credentials{}, nil),
			"RemoveImage": e.RemoveImage(t.Context(), name),
		} {
			if err == nil {
				t.Errorf("%s(%q) did something", call, name)
			}
		}
		e.Remove(t.Context(), name)
		e.RemoveNetwork(t.Context(), name)
		e.RemoveVolume(t.Context(), name)
	}
}

func TestAnEngineExchangedForANewerOneIsSpokenToAgain(t *testing.T) {
	var newer atomic.Bool
	e := open(t, standIn(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if newer.Load() && strings.HasPrefix(r.URL.Path, "/v1.41/") {
			w.WriteHeader(http.StatusBadRequest)
			json.NewEncoder(w).Encode(map[string]string{"message": "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version"})
			return
		}
		switch r.URL.Path {
		case "/_ping":
			version := "1.41"
			if newer.Load() {
				version = "1.52"
			}
			w.Header().Set("Api-Version", version)
		default:
			json.NewEncoder(w).Encode(map[string]string{"Version": strings.Split(r.URL.Path, "/")[1]})
		}
	}))
	i, err := e.Info(t.Context())
	ok(t, err)
	if i.Version != "v1.41" {
		t.Errorf("spoke %s", i.Version)
	}
	newer.Store(true)
	if _, err := e.Info(t.Context()); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	i, err = e.Info(t.Context())
	ok(t, err)
	if i.Version != "v1.52" {
		t.Errorf("spoke %s", i.Version)
	}
}

// standIn answers as an engine on a socket.
func standIn(t *testing.T, f http.HandlerFunc) (host string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "e.sock")
	l, err := net.Listen("unix", path)
	ok(t, err)
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: f}}
	s.Start()
	t.Cleanup(s.Close)
	return "unix://" + path
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
