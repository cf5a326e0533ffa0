package dockerengine

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

// labelEndpoints notes the networks of a container but the first, as JSON.
const labelEndpoints = "io.dunlin.endpoints"

// request is a container in the words of the API.
func request(c engine.Container) (container.CreateRequest, error) {
	config, err := config(c)
	if err != nil {
		return container.CreateRequest{}, err
	}
	host, err := hostConfig(c)
	if err != nil {
		return container.CreateRequest{}, err
	}
	r := container.CreateRequest{Config: config, HostConfig: host}
	if len(c.Networks) > 0 {
		first, err := endpoint(c.Networks[0])
		if err != nil {
			return container.CreateRequest{}, err
		}
		if c.MACAddress != "" {
			mac, err := net.ParseMAC(c.MACAddress)
			if err != nil {
				return container.CreateRequest{}, err
			}
			first.MacAddress = network.HardwareAddr(mac)
		}
		host.NetworkMode = container.NetworkMode(c.Networks[0].Network)
		r.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{c.Networks[0].Network: first}}
	}
	return r, nil
}

func config(c engine.Container) (*container.Config, error) {
	x := &container.Config{
		Hostname: c.Hostname, Domainname: c.Domainname, User: c.User, Tty: c.TTY, Env: c.Env, Cmd: c.Command, Image: c.Image,
		WorkingDir: c.WorkingDir, Entrypoint: c.Entrypoint, Labels: owned(c.Labels), StopSignal: c.StopSignal,
	}
	if c.StopGrace > 0 {
		x.StopTimeout = seconds(c.StopGrace)
	}
	if h := c.Healthcheck; h != nil {
		x.Healthcheck = &container.HealthConfig{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries,
		}
	}
	if len(c.Networks) > 1 {
		text, err := json.Marshal(c.Networks[1:])
		if err != nil {
			return nil, err
		}
		x.Labels[labelEndpoints] = string(text)
	}
	for _, p := range c.Ports {
		port, err := portOf(p)
		if err != nil {
			return nil, err
		}
		if x.ExposedPorts == nil {
			x.ExposedPorts = network.PortSet{}
		}
		x.ExposedPorts[port] = struct{}{}
	}
	return x, nil
}

func hostConfig(c engine.Container) (*container.HostConfig, error) {
	h := &container.HostConfig{
		LogConfig:   container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "10m", "max-file": "2"}},
		NetworkMode: container.NetworkMode(c.NetworkMode),
		CapAdd:      capabilities(c.CapAdd), CapDrop: capabilities(c.CapDrop),
		DNSOptions: c.DNSOpt, DNSSearch: c.DNSSearch, ExtraHosts: c.ExtraHosts, GroupAdd: c.GroupAdd,
		IpcMode: container.IpcMode(c.IPCMode), PidMode: container.PidMode(c.PIDMode), UsernsMode: container.UsernsMode(c.UsernsMode),
		OomScoreAdj: c.OOMScoreAdj, Privileged: c.Privileged, ReadonlyRootfs: c.ReadOnly, SecurityOpt: c.SecurityOpt,
		ShmSize: c.ShmSize, Sysctls: c.Sysctls,
	}
	h.Resources = container.Resources{
		CPUShares: c.CPUShares, Memory: c.Memory, NanoCPUs: int64(c.CPUs*1e9 + 0.5), CgroupParent: c.CgroupParent, CPUQuota: c.CPUQuota,
		CpusetCpus: c.Cpuset, DeviceCgroupRules: c.DeviceCgroupRules, MemoryReservation: c.MemoryReservation,
	}
	if c.PidsLimit != 0 {
		h.PidsLimit = &c.PidsLimit
	}
	if c.OOMKillDisable {
		h.OomKillDisable = &c.OOMKillDisable
	}
	if c.Init {
		h.Init = &c.Init
	}
	if c.GPU {
		h.DeviceRequests = []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
	}
	for _, u := range c.Ulimits {
		h.Ulimits = append(h.Ulimits, &container.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	for _, d := range c.Devices {
		h.Devices = append(h.Devices, device(d))
	}
	for _, t := range c.Tmpfs {
		if h.Tmpfs == nil {
			h.Tmpfs = map[string]string{}
		}
		path, options, _ := strings.Cut(t, ":")
		h.Tmpfs[path] = options
	}
	return h, errors.Join(dns(h, c), restart(h, c), mounts(h, c), ports(h, c))
}

func dns(h *container.HostConfig, c engine.Container) error {
	for _, s := range c.DNS {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("DNS server: %w", err)
		}
		h.DNS = append(h.DNS, a)
	}
	return nil
}

func restart(h *container.HostConfig, c engine.Container) error {
	name, times, limited := strings.Cut(c.Restart, ":")
	h.RestartPolicy.Name = container.RestartPolicyMode(name)
	if limited {
		n, err := strconv.Atoi(times)
		if err != nil || n < 0 {
			return fmt.Errorf("restart policy %q: how often?", c.Restart)
		}
		h.RestartPolicy.MaximumRetryCount = n
	}
	return container.ValidateRestartPolicy(h.RestartPolicy)
}

// mounts gives volumes as mounts, and folders of the host as binds, since an engine makes those that are missing.
func mounts(h *container.HostConfig, c engine.Container) error {
	for _, m := range c.Mounts {
		if m.Volume != "" {
			h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeVolume, Source: m.Volume, Target: m.Target, ReadOnly: m.ReadOnly})
			continue
		}
		if !strings.HasPrefix(m.Host, "/") || strings.Contains(m.Host+m.Target, ":") {
			return fmt.Errorf("mount of %q at %q: not an absolute path without a colon", m.Host, m.Target)
		}
		bind := m.Host + ":" + m.Target
		if m.ReadOnly {
			bind += ":ro"
		}
		h.Binds = append(h.Binds, bind)
	}
	return nil
}

func ports(h *container.HostConfig, c engine.Container) error {
	for _, p := range c.Ports {
		port, err := portOf(p)
		if err != nil {
			return err
		}
		var b network.PortBinding
		if p.HostIP != "" {
			if b.HostIP, err = netip.ParseAddr(p.HostIP); err != nil {
				return fmt.Errorf("port %d: %w", p.Container, err)
			}
		}
		if p.Host != 0 {
			b.HostPort = strconv.Itoa(int(p.Host))
		}
		if h.PortBindings == nil {
			h.PortBindings = network.PortMap{}
		}
		h.PortBindings[port] = append(h.PortBindings[port], b)
	}
	return nil
}

func portOf(p engine.Port) (network.Port, error) {
	protocol := network.IPProtocol(p.Protocol)
	if protocol == "" {
		protocol = network.TCP
	}
	port, ok := network.PortFrom(p.Container, protocol)
	if !ok || p.Container == 0 {
		return port, fmt.Errorf("port %d/%s: no such port", p.Container, p.Protocol)
	}
	return port, nil
}

func endpoint(e engine.Endpoint) (*network.EndpointSettings, error) {
	x := &network.EndpointSettings{Aliases: e.Aliases}
	var addresses network.EndpointIPAMConfig
	for text, a := range map[string]*netip.Addr{e.IPv4: &addresses.IPv4Address, e.IPv6: &addresses.IPv6Address} {
		if text == "" {
			continue
		}
		var err error
		if *a, err = netip.ParseAddr(text); err != nil {
			return nil, fmt.Errorf("address on network %s: %w", e.Network, err)
		}
	}
	for _, text := range e.LinkLocal {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("link-local address on network %s: %w", e.Network, err)
		}
		addresses.LinkLocalIPs = append(addresses.LinkLocalIPs, a)
	}
	if e.IPv4 != "" || e.IPv6 != "" || len(e.LinkLocal) > 0 {
		x.IPAMConfig = &addresses
	}
	return x, nil
}

// device reads HOST[:CONTAINER[:rwm]]; HOST:rwm, which compose files have, is the same path with these permissions.
func device(text string) container.DeviceMapping {
	parts := strings.SplitN(text, ":", 3)
	d := container.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
	if len(parts) == 2 && !strings.HasPrefix(parts[1], "/") {
		d.CgroupPermissions = parts[1]
	} else if len(parts) > 1 {
		d.PathInContainer = parts[1]
	}
	if len(parts) == 3 {
		d.CgroupPermissions = parts[2]
	}
	return d
}

// capabilities are in the form engines keep them in.
func capabilities(names []string) []string {
	var all []string
	for _, n := range names {
		if n = strings.ToUpper(n); n != "ALL" && !strings.HasPrefix(n, "CAP_") {
			n = "CAP_" + n
		}
		all = append(all, n)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// seconds rounds up: no grace becomes shorter than it was asked for.
func seconds(d time.Duration) *int {
	n := int((d + time.Second - 1) / time.Second)
	return &n
}

// owned is a copy of labels that says whose they are.
func owned(labels map[string]string) map[string]string {
	all := maps.Clone(labels)
	if all == nil {
		all = map[string]string{}
	}
	if !supervised(all) {
		all[engine.LabelSupervised] = "true"
	}
	return all
}
