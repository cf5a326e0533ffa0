package build

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// featureOf says which label gives a service what it asks of the host with a bind mount, and where it then finds it.
var featureOf = map[string]struct{ label, target string }{
	"/var/run/docker.sock":        {"io.balena.features.balena-socket", "the socket that DOCKER_HOST names"},
	"/run/docker.sock":            {"io.balena.features.balena-socket", "the socket that DOCKER_HOST names"},
	"/var/run/balena-engine.sock": {"io.balena.features.balena-socket", "the socket that DOCKER_HOST names"},
	"/run/balena-engine.sock":     {"io.balena.features.balena-socket", "the socket that DOCKER_HOST names"},
	"/sys":                        {"io.balena.features.sysfs", "/sys"},
	"/proc":                       {"io.balena.features.procfs", "/proc"},
	"/lib/modules":                {"io.balena.features.kernel-modules", "/lib/modules"},
	"/lib/firmware":               {"io.balena.features.firmware", "/lib/firmware"},
	"/run/dbus":                   {"io.balena.features.dbus", "/host/run/dbus"},
	"/var/run/dbus":               {"io.balena.features.dbus", "/host/run/dbus"},
	"/run/dbus/system_bus_socket": {"io.balena.features.dbus", "/host/run/dbus"},
	"/var/log/journal":            {"io.balena.features.journal-logs", "/var/log/journal"},
	"/run/log/journal":            {"io.balena.features.journal-logs", "/run/log/journal"},
}

var securityOption = regexp.MustCompile(`^(no-new-privileges([:=](true|false))?|(seccomp|apparmor|systempaths)[:=]unconfined|label[:=]disable)$`)

// shortForm collects the fields of a composition that are set, in the short forms every supervisor reads.
type shortForm map[string]any

func set[T comparable](f shortForm, key string, v T) {
	var zero T
	if v != zero {
		f[key] = v
	}
}

func list[T ~[]string](f shortForm, key string, v T) {
	if len(v) > 0 {
		f[key] = []string(v)
	}
}

// body is a service without build and image. It goes into s without labels and environment too. A bind mount that a label
// stands for becomes the label.
func (c *composer) body(in types.ServiceConfig, s *Service) (shortForm, error) {
	here := func(more ...string) []string { return append([]string{"services", in.Name}, more...) }
	f := shortForm{}
	for key, v := range map[string][]string{
		"cap_add": in.CapAdd, "cap_drop": in.CapDrop, "device_cgroup_rules": in.DeviceCgroupRules, "dns": in.DNS,
		"dns_opt": in.DNSOpts, "dns_search": in.DNSSearch, "group_add": in.GroupAdd, "security_opt": in.SecurityOpt, "tmpfs": in.Tmpfs,
	} {
		list(f, key, v)
	}
	for key, v := range map[string]string{
		"cgroup_parent": in.CgroupParent, "cpuset": in.CPUSet, "domainname": in.DomainName, "hostname": in.Hostname, "ipc": in.Ipc,
		"mac_address": in.MacAddress, "network_mode": in.NetworkMode, "pid": in.Pid, "restart": in.Restart, "stop_signal": in.StopSignal,
		"user": in.User, "userns_mode": in.UserNSMode, "working_dir": in.WorkingDir,
	} {
		set(f, key, v)
	}
	for key, v := range map[string]int64{
		"cpu_quota": in.CPUQuota, "cpu_shares": in.CPUShares, "mem_limit": int64(in.MemLimit), "mem_reservation": int64(in.MemReservation),
		"oom_score_adj": in.OomScoreAdj, "pids_limit": in.PidsLimit, "shm_size": int64(in.ShmSize),
	} {
		set(f, key, v)
	}
	set(f, "privileged", in.Privileged)
	set(f, "read_only", in.ReadOnly)
	set(f, "tty", in.Tty)
	if in.CPUS != 0 {
		// Through text, or 0.1 would become 0.10000000149011612.
		f["cpus"] = json.Number(strconv.FormatFloat(float64(in.CPUS), 'f', -1, 32))
	}
	if in.Init != nil {
		f["init"] = *in.Init
	}
	if in.Command != nil {
		f["command"] = []string(in.Command)
	}
	if in.Entrypoint != nil {
		f["entrypoint"] = []string(in.Entrypoint)
	}
	if in.StopGracePeriod != nil {
		f["stop_grace_period"] = in.StopGracePeriod.String()
	}
	if hosts := in.ExtraHosts.AsList(":"); len(hosts) > 0 {
		slices.Sort(hosts)
		f["extra_hosts"] = hosts
	}
	if len(in.Sysctls) > 0 {
		f["sysctls"] = in.Sysctls
	}
	if len(in.DependsOn) > 0 {
		f["depends_on"] = slices.Sorted(maps.Keys(in.DependsOn))
	}
	for name, d := range in.DependsOn {
		if d.Condition != "" && d.Condition != types.ServiceConditionStarted {
			return nil, c.at(here("depends_on", name, "condition"), "service %s: depends_on %s: the condition %s is not supported", in.Name, name, d.Condition).
				WithHint("devices only know service_started; let the service wait by itself")
		}
	}
	for _, mode := range []struct{ key, value string }{{"network_mode", in.NetworkMode}, {"pid", in.Pid}, {"ipc", in.Ipc}} {
		service := strings.HasPrefix(mode.value, "service:")
		if strings.HasPrefix(mode.value, "container:") || service && mode.key != "network_mode" {
			return nil, c.at(here(mode.key), "service %s: %s %s is not supported", in.Name, mode.key, mode.value)
		}
	}
	for _, o := range in.SecurityOpt {
		if !securityOption.MatchString(o) {
			return nil, c.at(here("security_opt"), "service %s: security_opt %s is not supported", in.Name, shorten(o, 80)).
				WithHint("there are no-new-privileges, and seccomp, apparmor or systempaths with :unconfined")
		}
	}
	for _, d := range in.Devices {
		text := d.Source
		if d.Target != "" {
			text += ":" + d.Target
		}
		if d.Permissions != "" {
			text += ":" + d.Permissions
		}
		add(f, "devices", text)
	}
	for _, p := range in.Ports {
		add(f, "ports", port(p))
	}
	if len(in.Ulimits) > 0 {
		limits := map[string]any{}
		for name, u := range in.Ulimits {
			limits[name] = map[string]int{"soft": u.Soft, "hard": u.Hard}
			if u.Single != 0 {
				limits[name] = u.Single
			}
		}
		f["ulimits"] = limits
	}
	if h := in.HealthCheck; h != nil {
		f["healthcheck"] = health(h)
	}
	if len(in.Networks) > 0 {
		networks := map[string]any{}
		for name, n := range in.Networks {
			e := shortForm{}
			if n != nil {
				list(e, "aliases", n.Aliases)
				set(e, "ipv4_address", n.Ipv4Address)
				set(e, "ipv6_address", n.Ipv6Address)
				list(e, "link_local_ips", n.LinkLocalIPs)
			}
			networks[name] = e
		}
		f["networks"] = networks
	}
	if in.ContainerName != "" {
		c.warn(here("container_name"), "service %s: container_name is ignored: the device names its containers", in.Name)
	}
	if err := c.mounts(in, s, f); err != nil {
		return nil, err
	}
	var err error
	if s.Composition, err = json.Marshal(f); err != nil {
		return nil, fmt.Errorf("write the composition of %s: %w", in.Name, err)
	}
	if len(s.Labels) > 0 {
		f["labels"] = s.Labels
	}
	if len(s.Environment) > 0 {
		f["environment"] = s.Environment
	}
	return f, nil
}

func add(f shortForm, key, text string) {
	l, _ := f[key].([]string)
	f[key] = append(l, text)
}

func port(p types.ServicePortConfig) string {
	text := strconv.FormatUint(uint64(p.Target), 10)
	if p.Published != "" {
		text = p.Published + ":" + text
	} else if p.HostIP != "" {
		text = ":" + text
	}
	if p.HostIP != "" {
		ip := p.HostIP
		if strings.Contains(ip, ":") && !strings.HasPrefix(ip, "[") {
			ip = "[" + ip + "]"
		}
		text = ip + ":" + text
	}
	if p.Protocol != "" {
		text += "/" + p.Protocol
	}
	return text
}

func health(h *types.HealthCheckConfig) shortForm {
	f := shortForm{}
	if h.Disable {
		f["test"] = []string{"NONE"}
		return f
	}
	list(f, "test", h.Test)
	for key, d := range map[string]*types.Duration{"interval": h.Interval, "timeout": h.Timeout, "start_period": h.StartPeriod} {
		if d != nil {
			f[key] = d.String()
		}
	}
	if h.Retries != nil {
		f["retries"] = *h.Retries
	}
	return f
}

// mounts takes named volumes and tmpfs. Folders of the host are refused, but for those that a label stands for.
func (c *composer) mounts(in types.ServiceConfig, s *Service, f shortForm) error {
	for _, v := range in.Volumes {
		where := c.mountLine(in.Name, v)
		ro := ""
		if v.ReadOnly {
			ro = ":ro"
		}
		switch {
		case v.Target == "" || !path.IsAbs(v.Target) || strings.ContainsAny(v.Target, ":\x00"):
			return at(c.file, where, "service %s: a volume needs an absolute path in the container, not %q", in.Name, shorten(v.Target, 100))
		case v.Type == types.VolumeTypeVolume && v.Source == "":
			return at(c.file, where, "service %s: the volume at %s has no name", in.Name, v.Target).
				WithHint("declare it under volumes and mount NAME:" + v.Target)
		case v.Type == types.VolumeTypeVolume:
			add(f, "volumes", v.Source+":"+v.Target+ro)
		case v.Type == types.VolumeTypeTmpfs:
			text := v.Target
			var options []string
			if v.Tmpfs != nil && v.Tmpfs.Size > 0 {
				options = append(options, "size="+strconv.FormatInt(int64(v.Tmpfs.Size), 10))
			}
			if v.Tmpfs != nil && v.Tmpfs.Mode > 0 {
				options = append(options, "mode="+strconv.FormatUint(uint64(v.Tmpfs.Mode), 8))
			}
			if len(options) > 0 {
				text += ":" + strings.Join(options, ",")
			}
			add(f, "tmpfs", text)
		case v.Type == types.VolumeTypeBind:
			feature, ok := featureOf[path.Clean(v.Source)]
			if !ok {
				return at(c.file, where, "service %s: the bind mount of %s is not supported: a device's folders are not the repository's", in.Name, shorten(v.Source, 100)).
					WithHint("copy files in the Dockerfile, keep data in a named volume; for parts of the host there are labels: io.balena.features.balena-socket, dbus, sysfs, procfs, kernel-modules, firmware, journal-logs")
			}
			s.Labels[feature.label] = "1"
			found := feature.target
			if found == v.Target {
				found = "the same place"
			}
			c.project.Warnings = append(c.project.Warnings, at(c.file, where,
				"service %s: the bind mount of %s becomes the label %s; the container finds it at %s", in.Name, v.Source, feature.label, found).Message)
		default:
			return at(c.file, where, "service %s: a mount of type %s is not supported", in.Name, shorten(v.Type, 40)).
				WithHint("there are volume and tmpfs")
		}
	}
	return nil
}

// mountLine is the line of the entry that mounts v, or of the entries it must be among.
func (c *composer) mountLine(service string, v types.ServiceVolumeConfig) int {
	mounts := c.root.get("services").get(service).get("volumes")
	if mounts != nil {
		for _, i := range mounts.items {
			text, short := i.text()
			if target, _ := i.get("target").text(); target == v.Target && target != "" {
				return i.line
			}
			parts := strings.Split(text, ":")
			if short && (slices.Contains(parts, v.Target) || slices.Contains(parts, v.Source)) {
				return i.line
			}
		}
	}
	return c.root.lineAt("services", service, "volumes")
}

// composition puts the services, networks and volumes together.
func (c *composer) composition(in *types.Project, services map[string]shortForm) error {
	networks, volumes := map[string]any{}, map[string]any{}
	for name, n := range in.Networks {
		if c.root.get("networks").get(name) == nil {
			continue // the default one, which nobody declared
		}
		if n.Driver != "" && n.Driver != "bridge" && n.Driver != "default" {
			return c.at([]string{"networks", name, "driver"}, "network %s: the driver %s is not supported", name, n.Driver).WithHint("remove it: devices have bridge networks")
		}
		f := shortForm{}
		set(f, "internal", n.Internal)
		if n.EnableIPv6 != nil {
			f["enable_ipv6"] = *n.EnableIPv6
		}
		if len(n.DriverOpts) > 0 {
			f["driver_opts"] = n.DriverOpts
		}
		if len(n.Labels) > 0 {
			f["labels"] = n.Labels
		}
		ipam := shortForm{}
		for _, p := range n.Ipam.Config {
			pool := shortForm{}
			set(pool, "subnet", p.Subnet)
			set(pool, "gateway", p.Gateway)
			set(pool, "ip_range", p.IPRange)
			pools, _ := ipam["config"].([]shortForm)
			ipam["config"] = append(pools, pool)
		}
		set(ipam, "driver", n.Ipam.Driver)
		if len(ipam) > 0 {
			f["ipam"] = ipam
		}
		networks[name] = f
	}
	for name, v := range in.Volumes {
		if v.Driver != "" && v.Driver != "local" && v.Driver != "default" {
			return c.at([]string{"volumes", name, "driver"}, "volume %s: the driver %s is not supported", name, v.Driver).WithHint("remove it: devices keep volumes on their own disk")
		}
		f := shortForm{}
		if len(v.DriverOpts) > 0 {
			f["driver_opts"] = v.DriverOpts
		}
		if len(v.Labels) > 0 {
			f["labels"] = v.Labels
		}
		volumes[name] = f
	}
	var err error
	c.project.Composition, err = json.Marshal(map[string]any{"services": services, "networks": networks, "volumes": volumes})
	if err != nil {
		return fmt.Errorf("write the composition: %w", err)
	}
	return nil
}
