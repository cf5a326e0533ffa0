package dockerengine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// read is what the engine says of a container in the words of the contract. One that an engine cannot describe in
// full, since its removal failed by half, is described as far as it goes.
func read(r client.ContainerInspectResult) engine.Container {
	x := r.Container
	x.Config, x.HostConfig = cmp.Or(x.Config, &container.Config{}), cmp.Or(x.HostConfig, &container.HostConfig{})
	x.State, x.NetworkSettings = cmp.Or(x.State, &container.State{}), cmp.Or(x.NetworkSettings, &container.NetworkSettings{})
	c := engine.Container{Name: strings.TrimPrefix(x.Name, "/"), ID: x.ID}
	readNetworks(&c, x)
	readConfig(&c, x.Config)
	readHost(&c, x.HostConfig)
	readMounts(&c, x.HostConfig)
	readState(&c, x)
	if len(c.Networks) > 0 {
		c.MACAddress = readMAC(x, r.Raw)
	}
	return c
}

func readConfig(c *engine.Container, x *container.Config) {
	c.Image, c.Labels = x.Image, maps.Clone(x.Labels)
	delete(c.Labels, labelEndpoints)
	c.Entrypoint, c.Command = x.Entrypoint, x.Cmd
	c.Env = slices.Sorted(slices.Values(x.Env))
	c.WorkingDir, c.User, c.Hostname, c.Domainname = x.WorkingDir, x.User, x.Hostname, x.Domainname
	c.TTY, c.StopSignal = x.Tty, x.StopSignal
	if x.StopTimeout != nil {
		c.StopGrace = time.Duration(*x.StopTimeout) * time.Second
	}
	if h := x.Healthcheck; h != nil {
		c.Healthcheck = &engine.Healthcheck{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries,
		}
	}
}

func readHost(c *engine.Container, h *container.HostConfig) {
	c.Init = h.Init != nil && *h.Init
	c.ReadOnly, c.Privileged = h.ReadonlyRootfs, h.Privileged
	c.CapAdd, c.CapDrop = capabilities(h.CapAdd), capabilities(h.CapDrop)
	c.SecurityOpt, c.GroupAdd, c.DeviceCgroupRules = h.SecurityOpt, h.GroupAdd, h.DeviceCgroupRules
	for _, d := range h.Devices {
		c.Devices = append(c.Devices, d.PathOnHost+":"+d.PathInContainer+":"+d.CgroupPermissions)
	}
	for _, path := range slices.Sorted(maps.Keys(h.Tmpfs)) {
		if options := h.Tmpfs[path]; options != "" {
			path += ":" + options
		}
		c.Tmpfs = append(c.Tmpfs, path)
	}
	c.ExtraHosts, c.DNSSearch, c.DNSOpt = h.ExtraHosts, h.DNSSearch, h.DNSOptions
	for _, a := range h.DNS {
		c.DNS = append(c.DNS, a.String())
	}
	c.PIDMode, c.IPCMode, c.UsernsMode, c.CgroupParent = string(h.PidMode), string(h.IpcMode), string(h.UsernsMode), h.CgroupParent
	c.Sysctls = filled(h.Sysctls)
	for _, u := range h.Ulimits {
		c.Ulimits = append(c.Ulimits, engine.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	c.Restart = string(h.RestartPolicy.Name)
	if n := h.RestartPolicy.MaximumRetryCount; n > 0 {
		c.Restart += ":" + strconv.Itoa(n)
	}
	for _, r := range h.DeviceRequests {
		c.GPU = c.GPU || slices.ContainsFunc(r.Capabilities, func(all []string) bool { return slices.Contains(all, "gpu") })
	}
	c.Memory, c.MemoryReservation, c.ShmSize = h.Memory, h.MemoryReservation, h.ShmSize
	c.CPUs, c.CPUShares, c.CPUQuota, c.Cpuset = float64(h.NanoCPUs)/1e9, h.CPUShares, h.CPUQuota, h.CpusetCpus
	if h.PidsLimit != nil {
		c.PidsLimit = *h.PidsLimit
	}
	c.OOMScoreAdj, c.OOMKillDisable = h.OomScoreAdj, h.OomKillDisable != nil && *h.OomKillDisable
	for port, bindings := range h.PortBindings {
		for _, b := range bindings {
			p := engine.Port{Container: port.Num(), Protocol: string(port.Proto())}
			if b.HostIP.IsValid() {
				p.HostIP = b.HostIP.String()
			}
			if n, err := strconv.ParseUint(b.HostPort, 10, 16); err == nil { // "": any free one
				p.Host = uint16(n)
			}
			c.Ports = append(c.Ports, p)
		}
	}
	slices.SortFunc(c.Ports, func(a, b engine.Port) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), strings.Compare(a.Protocol, b.Protocol),
			strings.Compare(a.HostIP, b.HostIP), cmp.Compare(a.Host, b.Host))
	})
}

// readMounts reads binds of volumes too: that is how Podman gives all mounts back.
func readMounts(c *engine.Container, h *container.HostConfig) {
	for _, m := range h.Mounts {
		switch m.Type {
		case mount.TypeVolume:
			c.Mounts = append(c.Mounts, engine.Mount{Volume: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
		case mount.TypeBind:
			c.Mounts = append(c.Mounts, engine.Mount{Host: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
		}
	}
	for _, b := range h.Binds {
		parts := strings.SplitN(b, ":", 3)
		if len(parts) < 2 {
			continue
		}
		m := engine.Mount{Volume: parts[0], Target: parts[1]}
		if strings.HasPrefix(parts[0], "/") {
			m.Volume, m.Host = "", parts[0]
		}
		m.ReadOnly = len(parts) == 3 && slices.Contains(strings.Split(parts[2], ","), "ro")
		c.Mounts = append(c.Mounts, m)
	}
	slices.SortFunc(c.Mounts, func(a, b engine.Mount) int { return strings.Compare(a.Target, b.Target) })
}

func readNetworks(c *engine.Container, x container.InspectResponse) {
	mode := x.HostConfig.NetworkMode
	if mode == network.NetworkBridge || mode.IsHost() || mode.IsNone() || mode.IsContainer() {
		c.NetworkMode = string(mode)
		return
	}
	if mode.IsDefault() || mode == "" {
		return
	}
	noted := map[string]engine.Endpoint{} // what was asked for; an engine adds the host name to its aliases
	if all, err := notedEndpoints(x.Config.Labels); err == nil {
		for _, e := range all {
			noted[e.Network] = e
		}
	}
	for name, e := range x.NetworkSettings.Networks {
		if e, ok := noted[name]; ok {
			c.Networks = append(c.Networks, e)
			continue
		}
		ours := engine.Endpoint{Network: name}
		for _, alias := range e.Aliases {
			if !strings.HasPrefix(x.ID, alias) { // engines before 25 add the short id
				ours.Aliases = append(ours.Aliases, alias)
			}
		}
		if a := e.IPAMConfig; a != nil {
			if a.IPv4Address.IsValid() {
				ours.IPv4 = a.IPv4Address.String()
			}
			if a.IPv6Address.IsValid() {
				ours.IPv6 = a.IPv6Address.String()
			}
			for _, l := range a.LinkLocalIPs {
				ours.LinkLocal = append(ours.LinkLocal, l.String())
			}
		}
		c.Networks = append(c.Networks, ours)
	}
	slices.SortFunc(c.Networks, func(a, b engine.Endpoint) int { return strings.Compare(a.Network, b.Network) })
}

// notedEndpoints are the networks that labels say a container has beside its first.
func notedEndpoints(labels map[string]string) (all []engine.Endpoint, err error) {
	text, ok := labels[labelEndpoints]
	if !ok {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("label %s: %w", labelEndpoints, err)
	}
	return all, nil
}

// readMAC is the address asked for: of the container before API 1.44, of its first endpoint since.
func readMAC(x container.InspectResponse, raw []byte) string {
	var old struct {
		Config struct{ MacAddress string }
	}
	if json.Unmarshal(raw, &old) == nil && old.Config.MacAddress != "" {
		return old.Config.MacAddress
	}
	if e := x.NetworkSettings.Networks[string(x.HostConfig.NetworkMode)]; e != nil && len(e.MacAddress) > 0 {
		return e.MacAddress.String()
	}
	return ""
}

func readState(c *engine.Container, x container.InspectResponse) {
	s := x.State
	c.Status, c.ExitCode, c.Restarts = engine.Status(s.Status), s.ExitCode, x.RestartCount
	c.CreatedAt, c.StartedAt, c.FinishedAt = readTime(x.Created), readTime(s.StartedAt), readTime(s.FinishedAt)
	if c.Status == engine.Running {
		c.FinishedAt = time.Time{} // the engine's is of the run before
		if s.Health != nil && s.Health.Status != container.NoHealthcheck {
			c.Health = string(s.Health.Status)
		}
	}
}

// readTime reads what engines write for never as the zero time.
func readTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

func readNetwork(x network.Network) engine.Network {
	n := engine.Network{
		Name: x.Name, Labels: filled(x.Labels), Internal: x.Internal, EnableIPv6: x.EnableIPv6, Options: filled(x.Options),
	}
	for _, p := range x.IPAM.Config {
		var pool engine.IPAMPool
		if p.Subnet.IsValid() {
			pool.Subnet = p.Subnet.String()
		}
		if p.Gateway.IsValid() {
			pool.Gateway = p.Gateway.String()
		}
		if p.IPRange.IsValid() {
			pool.IPRange = p.IPRange.String()
		}
		n.IPAM = append(n.IPAM, pool)
	}
	return n
}

// filled is m, or nil if nothing is in it.
func filled(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}
