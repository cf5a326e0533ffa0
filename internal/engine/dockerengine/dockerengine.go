// Package dockerengine drives a container engine through the Docker API: Docker Engine from 20.10 on, balenaEngine,
// and Podman's service of that API. It keeps the contract of package engine and decides nothing.
//
// Containers log to json-file with two files of 10 MB, whatever the engine's default is: Logs needs a driver that can
// be read, and a device's disk must not fill up with what its containers say.
//
// Engines whose API is older than 1.44 join a new container to one network only. The others are noted in the label
// io.dunlin.endpoints, which Inspect does not show, and joined by Create; Start sees to it that they are, so that an
// agent killed in between does not start half a container.
//
// The package is long for what it does: the contract's container has some fifty fields, and each is written in one
// place (write.go) and read in another (read.go).
package dockerengine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/moby/moby/client"
)

// Engine is an engine.Engine. Make one with New. It holds no state that its engine does not, and no goroutine but
// those of Events, so several may drive one engine.
type Engine struct {
	options []client.Opt
	api     atomic.Pointer[client.Client] // its API version agreed; nil before, and when the engine became another one
	turn    chan struct{}                 // to make networks: older engines make two of one name
}

var _ engine.Engine = (*Engine)(nil)

// New returns the engine at host, such as unix:///run/balena-engine.sock or tcp://10.0.0.7:2375. With "" the
// environment says which (DOCKER_HOST, DOCKER_API_VERSION, DOCKER_CERT_PATH, DOCKER_TLS_VERIFY), or else it is Docker's
// socket. The engine need not be there yet.
func New(host string) (*Engine, error) {
	e := &Engine{options: []client.Opt{client.WithUserAgent("dunlin-agent")}, turn: make(chan struct{}, 1)}
	switch {
	case host == "":
		e.options = append(e.options, client.FromEnv)
	case strings.HasPrefix(host, "unix://"):
		e.options = append(e.options, client.WithHost(host))
	default:
		e.options = append(e.options, client.WithTLSClientConfigFromEnv(), client.WithHost(host))
	}
	c, err := client.New(e.options...) // for what is wrong with the options
	if err != nil {
		return nil, fmt.Errorf("container engine at %q: %w", host, err)
	}
	return e, c.Close()
}

// agree returns a client that speaks the version of the API that the engine does.
func (e *Engine) agree(ctx context.Context) (*client.Client, error) {
	if c := e.api.Load(); c != nil {
		return c, nil
	}
	c, err := client.New(e.options...)
	if err != nil {
		return nil, err
	}
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	e.api.CompareAndSwap(nil, c)
	return c, nil
}

// do calls f with a client and says what its error means to the contract.
func (e *Engine) do(ctx context.Context, doing string, f func(api *client.Client) error) error {
	api, err := e.agree(ctx)
	if err == nil {
		err = f(api)
	}
	if err == nil {
		return nil
	}
	if api != nil && otherVersion(err) {
		e.api.CompareAndSwap(api, nil)
		err = fmt.Errorf("%w: %w", engine.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", doing, meaning(ctx, err))
}

// otherVersion reports whether the engine was exchanged for one that does not speak the API version agreed on.
func otherVersion(err error) bool {
	text := err.Error()
	return strings.Contains(text, "client version") && (strings.Contains(text, "is too old") || strings.Contains(text, "is too new"))
}

// meaning adds the contract's word for err to it.
func meaning(ctx context.Context, err error) error {
	var network *net.OpError
	for _, known := range []error{engine.ErrNotFound, engine.ErrDiskFull, engine.ErrDenied, engine.ErrUnavailable} {
		if errors.Is(err, known) {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		if errors.Is(err, ctx.Err()) {
			return err
		}
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	case full(err.Error()):
		return fmt.Errorf("%w: %w", engine.ErrDiskFull, err)
	case client.IsErrConnectionFailed(err), errors.As(err, &network), errdefs.IsUnavailable(err),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", engine.ErrUnavailable, err)
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%w: %w", engine.ErrNotFound, err)
	}
	return err
}

// full reports whether an engine says that its storage is: it has no code for it, only the kernel's texts for ENOSPC
// and EDQUOT.
func full(text string) bool {
	return strings.Contains(text, "no space left on device") || strings.Contains(text, "disk quota exceeded")
}

// named reports whether s can be a name in a path of the API. Docker's own rule is stricter.
func named(s string) bool {
	return s != "" && !strings.HasPrefix(s, ".") && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '_' && r != '-' && r != '.'
	})
}

func supervised(labels map[string]string) bool {
	_, ok := labels[engine.LabelSupervised]
	return ok
}

// mine filters lists for what the agent made.
func mine() client.Filters { return client.Filters{}.Add("label", engine.LabelSupervised) }

// Info keeps the contract.
func (e *Engine) Info(ctx context.Context) (engine.Info, error) {
	var info engine.Info
	err := e.do(ctx, "ask the engine what it is", func(api *client.Client) error {
		v, err := api.ServerVersion(ctx, client.ServerVersionOptions{})
		if err != nil {
			return err
		}
		i, err := api.Info(ctx, client.InfoOptions{})
		if err != nil {
			return err
		}
		info = engine.Info{Name: v.Platform.Name, Version: v.Version, Arch: v.Arch, Root: i.Info.DockerRootDir}
		if info.Name == "" && len(v.Components) > 0 {
			info.Name = v.Components[0].Name
		}
		if info.Name == "" || info.Name == "Engine" { // what Docker's own packages and Debian's say
			info.Name = "Docker Engine"
		}
		return nil
	})
	return info, err
}

// Inspect keeps the contract.
func (e *Engine) Inspect(ctx context.Context) (engine.State, error) {
	var s engine.State
	err := e.do(ctx, "inspect the engine", func(api *client.Client) error {
		var err error
		if s.Containers, err = containers(ctx, api); err != nil {
			return fmt.Errorf("containers: %w", err)
		}
		if s.Images, err = images(ctx, api); err != nil {
			return fmt.Errorf("images: %w", err)
		}
		if s.Networks, err = networks(ctx, api); err != nil {
			return fmt.Errorf("networks: %w", err)
		}
		if s.Volumes, err = volumes(ctx, api); err != nil {
			return fmt.Errorf("volumes: %w", err)
		}
		return nil
	})
	if err != nil {
		return engine.State{}, err
	}
	return s, nil
}

func containers(ctx context.Context, api *client.Client) ([]engine.Container, error) {
	list, err := api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: mine()})
	if err != nil {
		return nil, err
	}
	var all []engine.Container
	names := map[string]string{}
	for _, x := range list.Items {
		r, err := api.ContainerInspect(ctx, x.ID, client.ContainerInspectOptions{})
		if errdefs.IsNotFound(err) { // removed since the list was made
			continue
		}
		if err != nil {
			return nil, err
		}
		c := read(r)
		all = append(all, c)
		names[c.ID] = c.Name
	}
	for i, c := range all { // engines keep the id of the container whose network another one shares
		if id, ok := strings.CutPrefix(c.NetworkMode, "container:"); ok && names[id] != "" {
			all[i].NetworkMode = "container:" + names[id]
		}
	}
	slices.SortFunc(all, func(a, b engine.Container) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func images(ctx context.Context, api *client.Client) ([]engine.Image, error) {
	list, err := api.ImageList(ctx, client.ImageListOptions{})
	if err != nil {
		return nil, err
	}
	var all []engine.Image
	for _, x := range list.Items {
		// An image of containerd's whose layers came by Load has its reference among the tags.
		refs := slices.DeleteFunc(slices.Concat(x.RepoDigests, x.RepoTags), func(r string) bool {
			name, _, digest := strings.Cut(r, "@sha256:")
			return !digest || name == "<none>" || name == loadedName
		})
		if len(refs) == 0 {
			continue
		}
		slices.Sort(refs)
		all = append(all, engine.Image{ID: x.ID, References: slices.Compact(refs), Size: x.Size})
	}
	slices.SortFunc(all, func(a, b engine.Image) int { return strings.Compare(a.References[0], b.References[0]) })
	return all, nil
}

func networks(ctx context.Context, api *client.Client) ([]engine.Network, error) {
	list, err := api.NetworkList(ctx, client.NetworkListOptions{Filters: mine()})
	if err != nil {
		return nil, err
	}
	var all []engine.Network
	for _, x := range list.Items {
		all = append(all, readNetwork(x.Network))
	}
	slices.SortFunc(all, func(a, b engine.Network) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func volumes(ctx context.Context, api *client.Client) ([]engine.Volume, error) {
	list, err := api.VolumeList(ctx, client.VolumeListOptions{Filters: mine()})
	if err != nil {
		return nil, err
	}
	var all []engine.Volume
	for _, x := range list.Items {
		all = append(all, engine.Volume{Name: x.Name, Labels: filled(x.Labels), DriverOpts: filled(x.Options)})
	}
	slices.SortFunc(all, func(a, b engine.Volume) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}
