package dockerengine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"
)

var errForeign = errors.New("something that is not supervised has that name")

// find returns the supervised container of that very name. Engines also take parts of ids for names.
func find(ctx context.Context, api *client.Client, name string) (client.ContainerInspectResult, error) {
	r, err := lookUp(ctx, api, name)
	if err == nil && !supervised(r.Container.Config.Labels) {
		err = fmt.Errorf("container %s: %w", name, engine.ErrNotFound)
	}
	return r, err
}

// lookUp is find for containers that are not supervised too.
func lookUp(ctx context.Context, api *client.Client, name string) (r client.ContainerInspectResult, err error) {
	if named(name) {
		r, err = api.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
		if err != nil && !errdefs.IsNotFound(err) {
			return r, err
		}
	}
	if r.Container.Name != "/"+name || r.Container.Config == nil || r.Container.State == nil {
		return r, fmt.Errorf("container %s: %w", name, engine.ErrNotFound)
	}
	return r, nil
}

// Create keeps the contract.
func (e *Engine) Create(ctx context.Context, c engine.Container) error {
	return e.do(ctx, "create container "+c.Name, func(api *client.Client) error {
		if !named(c.Name) {
			return fmt.Errorf("%q is not a name for a container", c.Name)
		}
		if r, err := lookUp(ctx, api, c.Name); !errors.Is(err, engine.ErrNotFound) {
			if err != nil {
				return err
			}
			return adopt(ctx, api, c, r)
		}
		if err := present(ctx, api, c); err != nil {
			return err
		}
		r, err := request(c)
		if err != nil {
			return err
		}
		if c.MACAddress != "" && versions.LessThan(api.ClientVersion(), "1.44") {
			err = createOld(ctx, api, c.Name, c.MACAddress, r)
		} else {
			_, err = api.ContainerCreate(ctx, client.ContainerCreateOptions{
				Config: r.Config, HostConfig: r.HostConfig, NetworkingConfig: r.NetworkingConfig, Name: c.Name,
			})
		}
		if err != nil && !errdefs.IsConflict(err) {
			return err
		}
		made, lookErr := lookUp(ctx, api, c.Name)
		if lookErr != nil {
			return errors.Join(err, lookErr)
		}
		return adopt(ctx, api, c, made) // ours, or that of another call at the same time
	})
}

// adopt sees that what has the name is what was asked for, and finishes it.
func adopt(ctx context.Context, api *client.Client, c engine.Container, r client.ContainerInspectResult) error {
	had := r.Container.Config.Labels
	if !supervised(had) {
		return errForeign
	}
	for k, v := range c.Labels {
		if old, ok := had[k]; !ok || old != v {
			return errors.New("there is one of that name made for something else")
		}
	}
	return join(ctx, api, r.Container)
}

// join joins a container to those of its networks that it is not joined to yet.
func join(ctx context.Context, api *client.Client, x container.InspectResponse) error {
	all, err := notedEndpoints(x.Config.Labels)
	if err != nil {
		return err
	}
	for _, want := range all {
		if x.NetworkSettings != nil && x.NetworkSettings.Networks[want.Network] != nil {
			continue
		}
		settings, err := endpoint(want)
		if err != nil {
			return err
		}
		if _, err := api.NetworkConnect(ctx, want.Network, client.NetworkConnectOptions{Container: x.ID, EndpointConfig: settings}); err != nil {
			return fmt.Errorf("join network %s: %w", want.Network, err)
		}
	}
	return nil
}

// present sees that the networks and volumes of c are there: an engine would make a volume without our label, and
// find out about a network at the start.
func present(ctx context.Context, api *client.Client, c engine.Container) error {
	for _, want := range c.Networks {
		switch found, err := networksNamed(ctx, api, want.Network); {
		case err != nil:
			return err
		case len(found) == 0 || !supervised(found[0].Labels):
			return fmt.Errorf("network %s: %w", want.Network, engine.ErrNotFound)
		}
	}
	for _, m := range c.Mounts {
		if m.Volume == "" {
			continue
		}
		if _, err := findVolume(ctx, api, m.Volume); err != nil {
			return err
		}
	}
	return nil
}

// createOld makes a container with a MAC address on an engine before API 1.44: the address was a field of the container
// then, which the client does not know any more.
func createOld(ctx context.Context, api *client.Client, name, mac string, r container.CreateRequest) error {
	type oldConfig struct {
		*container.Config
		MacAddress string
	}
	type old struct {
		oldConfig
		HostConfig       any
		NetworkingConfig any
	}
	body, err := json.Marshal(old{oldConfig{r.Config, mac}, r.HostConfig, r.NetworkingConfig})
	if err != nil {
		return err
	}
	target := url.URL{
		Scheme: "http", Host: client.DummyHost, Path: "/v" + api.ClientVersion() + "/containers/create",
		RawQuery: url.Values{"name": {name}}.Encode(),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	dial := api.Dialer() // TLS, if any, is its affair
	once := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
	resp, err := once.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 300 {
		return nil
	}
	var said common.ErrorResponse
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&said); err != nil {
		said.Message = resp.Status
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %s", errdefs.ErrNotFound, said.Message)
	case http.StatusConflict:
		return fmt.Errorf("%w: %s", errdefs.ErrConflict, said.Message)
	}
	return errors.New(said.Message)
}

// Start keeps the contract.
func (e *Engine) Start(ctx context.Context, name string) error {
	return e.do(ctx, "start container "+name, func(api *client.Client) error {
		r, err := find(ctx, api, name)
		if err != nil || r.Container.State.Running {
			return err
		}
		if err := join(ctx, api, r.Container); err != nil {
			return err
		}
		_, err = api.ContainerStart(ctx, r.Container.ID, client.ContainerStartOptions{})
		return err
	})
}

// Stop keeps the contract.
func (e *Engine) Stop(ctx context.Context, name string, grace time.Duration) error {
	return e.do(ctx, "stop container "+name, func(api *client.Client) error {
		r, err := find(ctx, api, name)
		if err != nil {
			return err
		}
		var options client.ContainerStopOptions
		if grace > 0 {
			options.Timeout = seconds(grace)
		}
		_, err = api.ContainerStop(ctx, r.Container.ID, options)
		return err
	})
}

// Rename keeps the contract.
func (e *Engine) Rename(ctx context.Context, name, to string) error {
	return e.do(ctx, "rename container "+name+" to "+to, func(api *client.Client) error {
		r, err := find(ctx, api, name)
		if errors.Is(err, engine.ErrNotFound) {
			if _, there := find(ctx, api, to); there == nil {
				return nil
			}
		}
		if err != nil || name == to {
			return err
		}
		if !named(to) {
			return fmt.Errorf("%q is not a name for a container", to)
		}
		_, err = api.ContainerRename(ctx, r.Container.ID, client.ContainerRenameOptions{NewName: to})
		return err
	})
}

// Remove keeps the contract.
func (e *Engine) Remove(ctx context.Context, name string) error {
	return e.do(ctx, "remove container "+name, func(api *client.Client) error {
		r, err := find(ctx, api, name)
		if errors.Is(err, engine.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = api.ContainerRemove(ctx, r.Container.ID, client.ContainerRemoveOptions{RemoveVolumes: true, Force: true})
		if errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
			return removed(ctx, api, r.Container.ID)
		}
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// removed waits for a removal that another call began.
func removed(ctx context.Context, api *client.Client, id string) error {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		if _, err := api.ContainerInspect(ctx, id, client.ContainerInspectOptions{}); err != nil {
			if errdefs.IsNotFound(err) {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}
