package enginetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

// normal is a copy of c in the normal form that Inspect promises.
func normal(c engine.Container) engine.Container {
	c.Labels, c.Sysctls = maps.Clone(c.Labels), maps.Clone(c.Sysctls)
	for _, s := range []*[]string{
		&c.Entrypoint, &c.Command, &c.Env, &c.CapAdd, &c.CapDrop, &c.SecurityOpt, &c.GroupAdd, &c.Devices,
		&c.DeviceCgroupRules, &c.Tmpfs, &c.ExtraHosts, &c.DNS, &c.DNSSearch, &c.DNSOpt,
	} {
		*s = slices.Clone(*s)
	}
	c.Mounts, c.Networks, c.Ports, c.Ulimits = slices.Clone(c.Mounts), slices.Clone(c.Networks), slices.Clone(c.Ports), slices.Clone(c.Ulimits)
	for i := range c.Networks {
		c.Networks[i].Aliases, c.Networks[i].LinkLocal = slices.Clone(c.Networks[i].Aliases), slices.Clone(c.Networks[i].LinkLocal)
	}
	if c.Healthcheck != nil {
		h := *c.Healthcheck
		h.Test = slices.Clone(h.Test)
		c.Healthcheck = &h
	}
	slices.Sort(c.Env)
	slices.Sort(c.Tmpfs)
	for _, caps := range [][]string{c.CapAdd, c.CapDrop} {
		for i, name := range caps {
			if name = strings.ToUpper(name); name != "ALL" && !strings.HasPrefix(name, "CAP_") {
				name = "CAP_" + name
			}
			caps[i] = name
		}
		slices.Sort(caps)
	}
	for i, d := range c.Devices {
		parts := strings.Split(d, ":")
		if len(parts) == 1 {
			parts = append(parts, parts[0])
		}
		if len(parts) == 2 {
			parts = append(parts, "rwm")
		}
		c.Devices[i] = strings.Join(parts, ":")
	}
	slices.SortFunc(c.Mounts, func(a, b engine.Mount) int { return strings.Compare(a.Target, b.Target) })
	slices.SortFunc(c.Networks, func(a, b engine.Endpoint) int { return strings.Compare(a.Network, b.Network) })
	for i := range c.Ports {
		if c.Ports[i].Protocol == "" {
			c.Ports[i].Protocol = "tcp"
		}
	}
	slices.SortFunc(c.Ports, func(a, b engine.Port) int {
		key := func(p engine.Port) string {
			return fmt.Sprintf("%05d %s %s %05d", p.Container, p.Protocol, p.HostIP, p.Host)
		}
		return strings.Compare(key(a), key(b))
	})
	c.StopGrace = wholeSeconds(c.StopGrace)
	return c
}
