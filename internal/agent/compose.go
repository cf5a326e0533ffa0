package agent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/engine"
)

// composed is one service of a compose file. Its container's networks and volumes have the names of the release.
type composed struct {
	container engine.Container
	dependsOn []string
	warnings  []string
}

// compose reads the composition of a service: what the supervisor applies of it (protocol §5.6), in camelCase or
// snake_case, in short forms or long. What it does not know it leaves out, as the supervisor does.
func compose(raw json.RawMessage) (composed, error) {
	var s composed
	if trimmed := bytes.TrimSpace(raw); len(trimmed) == 0 || string(trimmed) == "null" {
		return s, nil
	}
	fields, err := object(raw)
	if err != nil {
		return s, fmt.Errorf("composition: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := bytes.TrimSpace(fields[key])
		if string(value) == "null" {
			continue
		}
		if err := s.field(key, value); err != nil {
			return s, fmt.Errorf("%s: %w", key, err)
		}
	}
	return s, nil
}

// set puts what parse makes of a value into a field.
func set[T any](field *T, parse func(json.RawMessage) (T, error), raw json.RawMessage) error {
	v, err := parse(raw)
	if err == nil {
		*field = v
	}
	return err
}

func (s *composed) field(key string, raw json.RawMessage) error {
	c := &s.container
	switch key {
	case "command":
		return set(&c.Command, command, raw)
	case "entrypoint":
		return set(&c.Entrypoint, command, raw)
	case "environment":
		return s.environment(raw)
	case "labels":
		return set(&c.Labels, pairs, raw)
	case "working_dir":
		return set(&c.WorkingDir, text, raw)
	case "user":
		return set(&c.User, text, raw)
	case "hostname":
		return set(&c.Hostname, text, raw)
	case "domainname":
		return set(&c.Domainname, text, raw)
	case "mac_address":
		return set(&c.MACAddress, text, raw)
	case "tty":
		return set(&c.TTY, truth, raw)
	case "init":
		return set(&c.Init, truth, raw)
	case "read_only":
		return set(&c.ReadOnly, truth, raw)
	case "privileged":
		return set(&c.Privileged, truth, raw)
	case "restart":
		return set(&c.Restart, restart, raw)
	case "stop_signal":
		return set(&c.StopSignal, text, raw)
	case "stop_grace_period":
		return set(&c.StopGrace, duration, raw)
	case "healthcheck":
		return set(&c.Healthcheck, healthcheck, raw)
	case "depends_on":
		return set(&s.dependsOn, names, raw)
	default:
		return s.resource(key, raw)
	}
}

// resource reads what a container may have and use.
func (s *composed) resource(key string, raw json.RawMessage) error {
	c := &s.container
	switch key {
	case "cap_add":
		return set(&c.CapAdd, texts, raw)
	case "cap_drop":
		return set(&c.CapDrop, texts, raw)
	case "security_opt":
		return set(&c.SecurityOpt, texts, raw)
	case "group_add":
		return set(&c.GroupAdd, texts, raw)
	case "devices":
		return set(&c.Devices, devices, raw)
	case "device_cgroup_rules":
		return set(&c.DeviceCgroupRules, texts, raw)
	case "sysctls":
		return set(&c.Sysctls, pairs, raw)
	case "ulimits":
		return set(&c.Ulimits, ulimits, raw)
	case "mem_limit":
		return set(&c.Memory, size, raw)
	case "mem_reservation":
		return set(&c.MemoryReservation, size, raw)
	case "shm_size":
		return set(&c.ShmSize, size, raw)
	case "cpus":
		return set(&c.CPUs, float, raw)
	case "cpu_shares":
		return set(&c.CPUShares, whole, raw)
	case "cpu_quota":
		return set(&c.CPUQuota, whole, raw)
	case "cpuset":
		return set(&c.Cpuset, text, raw)
	case "pids_limit":
		return set(&c.PidsLimit, whole, raw)
	case "oom_score_adj":
		return set(&c.OOMScoreAdj, func(r json.RawMessage) (int, error) { n, err := whole(r); return int(n), err }, raw)
	case "oom_kill_disable":
		return set(&c.OOMKillDisable, truth, raw)
	case "cgroup_parent":
		return set(&c.CgroupParent, text, raw)
	case "tmpfs":
		list, err := texts(raw)
		c.Tmpfs = append(c.Tmpfs, list...)
		return err
	case "volumes":
		return s.volumes(raw)
	default:
		return s.networking(key, raw)
	}
}

func (s *composed) networking(key string, raw json.RawMessage) error {
	c := &s.container
	switch key {
	case "network_mode":
		return set(&c.NetworkMode, text, raw)
	case "networks":
		return set(&c.Networks, endpoints, raw)
	case "ports":
		return set(&c.Ports, ports, raw)
	case "extra_hosts":
		return set(&c.ExtraHosts, hosts, raw)
	case "dns":
		return set(&c.DNS, texts, raw)
	case "dns_search":
		return set(&c.DNSSearch, texts, raw)
	case "dns_opt":
		return set(&c.DNSOpt, texts, raw)
	case "pid":
		return set(&c.PIDMode, text, raw)
	case "ipc":
		return set(&c.IPCMode, text, raw)
	case "userns_mode":
		return set(&c.UsernsMode, text, raw)
	}
	return nil
}

func (s *composed) environment(raw json.RawMessage) error {
	m, err := pairs(raw)
	if err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		s.container.Env = append(s.container.Env, k+"="+m[k])
	}
	return nil
}

func restart(raw json.RawMessage) (string, error) {
	s, err := text(raw)
	if err != nil {
		return "", err
	}
	policy, times, limited := strings.Cut(s, ":")
	switch policy {
	case "no", "false": // what YAML makes of an unquoted no
		return "no", nil
	case "", "always", "unless-stopped":
		return cmp.Or(policy, "always"), nil
	case "on-failure":
		if limited && (times == "" || strings.Trim(times, "0123456789") != "" || len(times) > 9) {
			break
		}
		return s, nil
	}
	return "", fmt.Errorf("no policy %q; there are no, always, unless-stopped and on-failure[:N]", s)
}

func healthcheck(raw json.RawMessage) (*engine.Healthcheck, error) {
	m, err := object(raw)
	if err != nil {
		return nil, err
	}
	if off := false; m["disable"] != nil {
		if err := set(&off, truth, m["disable"]); err != nil {
			return nil, fmt.Errorf("disable: %w", err)
		}
		if off {
			return &engine.Healthcheck{Test: []string{"NONE"}}, nil
		}
	}
	var h engine.Healthcheck
	for _, key := range slices.Sorted(maps.Keys(m)) {
		value := m[key]
		var err error
		switch key {
		case "test":
			if t := bytes.TrimSpace(value); len(t) > 0 && t[0] != '[' {
				var line string
				if line, err = text(value); err == nil && line != "" {
					h.Test = []string{"CMD-SHELL", line}
				}
			} else {
				err = set(&h.Test, texts, value)
			}
		case "interval":
			err = set(&h.Interval, duration, value)
		case "timeout":
			err = set(&h.Timeout, duration, value)
		case "start_period":
			err = set(&h.StartPeriod, duration, value)
		case "retries":
			var n int64
			err = set(&n, whole, value)
			h.Retries = int(min(max(n, 0), 1<<20))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return &h, nil
}

// names are the keys of a map or the words of a list, sorted.
func names(raw json.RawMessage) ([]string, error) {
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '{' {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, err
		}
		return slices.Sorted(maps.Keys(m)), nil
	}
	list, err := texts(raw)
	slices.Sort(list)
	return slices.Compact(list), err
}

func devices(raw json.RawMessage) ([]string, error) {
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	var list []string
	for _, r := range all {
		if trimmed := bytes.TrimSpace(r); len(trimmed) == 0 || trimmed[0] != '{' {
			s, err := text(r)
			if err != nil {
				return nil, err
			}
			list = append(list, s)
			continue
		}
		var d struct{ Source, Target, Permissions string }
		if err := json.Unmarshal(r, &d); err != nil {
			return nil, err
		}
		list = append(list, strings.Join([]string{d.Source, cmp.Or(d.Target, d.Source), cmp.Or(d.Permissions, "rwm")}, ":"))
	}
	return list, nil
}

func ulimits(raw json.RawMessage) ([]engine.Ulimit, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	var list []engine.Ulimit
	for _, name := range slices.Sorted(maps.Keys(m)) {
		u := engine.Ulimit{Name: name}
		var err error
		if trimmed := bytes.TrimSpace(m[name]); len(trimmed) > 0 && trimmed[0] == '{' {
			var both struct{ Soft, Hard int64 }
			err = json.Unmarshal(m[name], &both)
			u.Soft, u.Hard = both.Soft, both.Hard
		} else {
			err = set(&u.Soft, whole, m[name])
			u.Hard = u.Soft
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, u)
	}
	return list, nil
}

// hosts is a list of name:address or name=address, or a map.
func hosts(raw json.RawMessage) ([]string, error) {
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '{' {
		m, err := pairs(raw)
		if err != nil {
			return nil, err
		}
		var list []string
		for _, name := range slices.Sorted(maps.Keys(m)) {
			list = append(list, name+":"+m[name])
		}
		return list, nil
	}
	list, err := texts(raw)
	for i, s := range list {
		if name, address, ok := strings.Cut(s, "="); ok {
			list[i] = name + ":" + address
		}
	}
	return list, err
}

func endpoints(raw json.RawMessage) ([]engine.Endpoint, error) {
	list, err := names(raw)
	if err != nil {
		return nil, err
	}
	var long map[string]json.RawMessage
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '{' {
		if err := json.Unmarshal(raw, &long); err != nil {
			return nil, err
		}
	}
	var all []engine.Endpoint
	for _, name := range list {
		e := engine.Endpoint{Network: name}
		m, err := object(long[name])
		if long[name] != nil && err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for key, field := range map[string]func(json.RawMessage) error{
			"aliases":        func(r json.RawMessage) error { return set(&e.Aliases, texts, r) },
			"ipv4_address":   func(r json.RawMessage) error { return set(&e.IPv4, text, r) },
			"ipv6_address":   func(r json.RawMessage) error { return set(&e.IPv6, text, r) },
			"link_local_ips": func(r json.RawMessage) error { return set(&e.LinkLocal, texts, r) },
		} {
			if m[key] == nil {
				continue
			}
			if err := field(m[key]); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", name, key, err)
			}
		}
		all = append(all, e)
	}
	return all, nil
}

// volumes reads mounts. Folders of the host are not for a release to name; what a service may have of them it gets by
// its labels.
func (s *composed) volumes(raw json.RawMessage) error {
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	for _, r := range all {
		if trimmed := bytes.TrimSpace(r); len(trimmed) > 0 && trimmed[0] == '{' {
			if err := s.longVolume(r); err != nil {
				return err
			}
			continue
		}
		short, err := text(r)
		if err != nil {
			return err
		}
		parts := strings.Split(short, ":")
		if len(parts) < 2 || len(parts) > 3 {
			return fmt.Errorf("%q is not VOLUME:PATH or VOLUME:PATH:ro", short)
		}
		readOnly := len(parts) == 3 && slices.Contains(strings.Split(parts[2], ","), "ro")
		s.mount(parts[0], parts[1], readOnly)
	}
	return nil
}

func (s *composed) longVolume(raw json.RawMessage) error {
	m, err := object(raw)
	if err != nil {
		return err
	}
	var kind, source, target string
	var readOnly bool
	for key, field := range map[string]func(json.RawMessage) error{
		"type":      func(r json.RawMessage) error { return set(&kind, text, r) },
		"source":    func(r json.RawMessage) error { return set(&source, text, r) },
		"target":    func(r json.RawMessage) error { return set(&target, text, r) },
		"read_only": func(r json.RawMessage) error { return set(&readOnly, truth, r) },
	} {
		if m[key] == nil {
			continue
		}
		if err := field(m[key]); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if target == "" {
		return fmt.Errorf("a %s has no target", cmp.Or(kind, "volume"))
	}
	if kind == "tmpfs" {
		var options struct {
			Tmpfs struct {
				Size json.RawMessage
				Mode json.Number
			}
		}
		if err := json.Unmarshal(raw, &options); err != nil {
			return err
		}
		var with []string
		if options.Tmpfs.Size != nil {
			n, err := size(options.Tmpfs.Size)
			if err != nil {
				return fmt.Errorf("tmpfs: %w", err)
			}
			with = append(with, fmt.Sprintf("size=%d", n))
		}
		if mode, err := options.Tmpfs.Mode.Int64(); err == nil && mode > 0 {
			with = append(with, fmt.Sprintf("mode=%04o", mode))
		}
		s.container.Tmpfs = append(s.container.Tmpfs, strings.TrimSuffix(target+":"+strings.Join(with, ","), ":"))
		return nil
	}
	s.mount(source, target, readOnly)
	return nil
}

func (s *composed) mount(source, target string, readOnly bool) {
	if !named(source) {
		s.warnings = append(s.warnings, fmt.Sprintf("the volume %q at %s is not a named volume and is left out", source, target))
		return
	}
	s.container.Mounts = append(s.container.Mounts, engine.Mount{Volume: source, Target: target, ReadOnly: readOnly})
}

// named reports whether s can be the name of a volume, network, service or container.
func named(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '_' && r != '.' && r != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 128
}
