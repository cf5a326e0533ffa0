package dockerengine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/moby/moby/client"
)

// CreateNetwork keeps the contract.
func (e *Engine) CreateNetwork(ctx context.Context, n engine.Network) error {
	return e.do(ctx, "create network "+n.Name, func(api *client.Client) error {
		select { // engines before API 1.44 make a second network of the same name
		case <-ctx.Done():
			return ctx.Err()
		case e.turn <- struct{}{}:
			defer func() { <-e.turn }()
		}
		if there, err := ourNetwork(ctx, api, n.Name); err != nil || there {
			return err
		}
		options, err := networkOptions(n)
		if err != nil {
			return err
		}
		if _, err = api.NetworkCreate(ctx, n.Name, options); errdefs.IsConflict(err) {
			if there, lookErr := ourNetwork(ctx, api, n.Name); lookErr != nil || there {
				return lookErr
			}
		}
		return err
	})
}

func networkOptions(n engine.Network) (client.NetworkCreateOptions, error) {
	o := client.NetworkCreateOptions{Driver: "bridge", Internal: n.Internal, Options: n.Options, Labels: owned(n.Labels)}
	if n.EnableIPv6 {
		o.EnableIPv6 = &n.EnableIPv6
	}
	for _, p := range n.IPAM {
		var pool network.IPAMConfig
		var err error
		if p.Subnet != "" {
			if pool.Subnet, err = netip.ParsePrefix(p.Subnet); err != nil {
				return o, fmt.Errorf("subnet: %w", err)
			}
		}
		if p.IPRange != "" {
			if pool.IPRange, err = netip.ParsePrefix(p.IPRange); err != nil {
				return o, fmt.Errorf("address range: %w", err)
			}
		}
		if p.Gateway != "" {
			if pool.Gateway, err = netip.ParseAddr(p.Gateway); err != nil {
				return o, fmt.Errorf("gateway: %w", err)
			}
		}
		if o.IPAM == nil {
			o.IPAM = &network.IPAM{}
		}
		o.IPAM.Config = append(o.IPAM.Config, pool)
	}
	return o, nil
}

// ourNetwork reports whether a supervised network has the name; another one that has it is an error.
func ourNetwork(ctx context.Context, api *client.Client, name string) (bool, error) {
	found, err := networksNamed(ctx, api, name)
	if err != nil || len(found) == 0 {
		return false, err
	}
	if !supervised(found[0].Labels) {
		return false, errForeign
	}
	return true, nil
}

// networksNamed returns the networks of that very name, supervised ones first.
func networksNamed(ctx context.Context, api *client.Client, name string) ([]network.Network, error) {
	if !named(name) {
		return nil, fmt.Errorf("%q is not a name for a network", name)
	}
	list, err := api.NetworkList(ctx, client.NetworkListOptions{Filters: client.Filters{}.Add("name", name)}) // finds parts of names too
	if err != nil {
		return nil, err
	}
	var ours, others []network.Network
	for _, x := range list.Items {
		switch {
		case x.Name != name:
		case supervised(x.Labels):
			ours = append(ours, x.Network)
		default:
			others = append(others, x.Network)
		}
	}
	return slices.Concat(ours, others), nil
}

// RemoveNetwork keeps the contract.
func (e *Engine) RemoveNetwork(ctx context.Context, name string) error {
	return e.do(ctx, "remove network "+name, func(api *client.Client) error {
		found, err := networksNamed(ctx, api, name)
		if err != nil {
			return err
		}
		for _, n := range found {
			if !supervised(n.Labels) {
				continue
			}
			if _, err := api.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}); err != nil && !errdefs.IsNotFound(err) {
				return err
			}
		}
		return nil
	})
}

// CreateVolume keeps the contract.
func (e *Engine) CreateVolume(ctx context.Context, v engine.Volume) error {
	return e.do(ctx, "create volume "+v.Name, func(api *client.Client) error {
		if !named(v.Name) {
			return fmt.Errorf("%q is not a name for a volume", v.Name)
		}
		there, err := api.VolumeInspect(ctx, v.Name, client.VolumeInspectOptions{})
		if errdefs.IsNotFound(err) {
			var made client.VolumeCreateResult
			made, err = api.VolumeCreate(ctx, client.VolumeCreateOptions{
				Name: v.Name, Driver: "local", DriverOpts: v.DriverOpts, Labels: owned(v.Labels),
			})
			there.Volume = made.Volume // an engine gives back the one that is there, if somebody made it meanwhile
		}
		if err == nil && !supervised(there.Volume.Labels) {
			err = errForeign
		}
		return err
	})
}

// findVolume returns the supervised volume of that name.
func findVolume(ctx context.Context, api *client.Client, name string) (v volume.Volume, err error) {
	if named(name) {
		var r client.VolumeInspectResult
		if r, err = api.VolumeInspect(ctx, name, client.VolumeInspectOptions{}); err != nil && !errdefs.IsNotFound(err) {
			return v, err
		}
		v = r.Volume
	}
	if v.Name != name || !supervised(v.Labels) {
		return v, fmt.Errorf("volume %s: %w", name, engine.ErrNotFound)
	}
	return v, nil
}

// RemoveVolume keeps the contract.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	return e.do(ctx, "remove volume "+name, func(api *client.Client) error {
		_, err := findVolume(ctx, api, name)
		if err == nil {
			_, err = api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
		}
		if errdefs.IsNotFound(err) || errors.Is(err, engine.ErrNotFound) {
			return nil
		}
		return err
	})
}

// The pauses before Events asks again an engine that is away.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// Events keeps the contract. It sends a token whenever it begins to listen, since it cannot know what it missed.
func (e *Engine) Events(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		pause := firstPause
		for {
			if e.listen(ctx, out) {
				pause = firstPause
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
				pause = min(2*pause, longestPause)
			}
		}
	}()
	return out
}

// told are the events that change what Inspect shows. Health checks run in the container all the time; what they
// execute is not among them.
func told() client.Filters {
	return client.Filters{}.
		Add("type", "container", "network", "volume", "image").
		Add("event", "create", "start", "die", "pause", "unpause", "rename", "update", "destroy", "remove", "health_status",
			"pull", "tag", "untag", "delete", "import", "load")
}

// listen sends tokens until the engine goes away or ctx ends, and reports whether it heard the engine at all.
func (e *Engine) listen(ctx context.Context, out chan<- struct{}) (heard bool) {
	send := func() {
		select {
		case out <- struct{}{}:
		default: // one is waiting already
		}
	}
	e.do(ctx, "listen for events", func(api *client.Client) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream := api.Events(ctx, client.EventsListOptions{Filters: told()})
		select {
		case err := <-stream.Err:
			return err
		default:
		}
		heard = true
		send()
		for {
			select {
			case err := <-stream.Err:
				return err
			case m := <-stream.Messages:
				// Only events of containers carry labels.
				if m.Type != events.ContainerEventType || supervised(m.Actor.Attributes) {
					send()
				}
			}
		}
	})
	return heard
}
