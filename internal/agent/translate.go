package agent

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/plan"
	"github.com/dunlin/dunlin/internal/wire"
)

// target is what the server asks for, in the engine's words. It is not changed once it is made.
type target struct {
	config   map[string]string
	plan     plan.Target
	releases map[string]wanted // by fleet uuid
	rejected []rejection
	warnings []string
}

// wanted is a fleet's release in the words a report needs.
type wanted struct {
	commit string
	images map[string]string // reference by service
}

// rejection is a release that cannot run here.
type rejection struct {
	uuid, release string
	err           error
}

// facts are what services are told of their device.
type facts struct {
	uuid, deviceType, arch, name, osVersion string
	apiKey, apiURL, socket                  string
}

// translate says what the engine has to make for a target. An app that cannot be understood is frozen, not stopped.
func translate(t wire.DeviceTarget, f facts) *target {
	out := &target{config: t.Config, releases: map[string]wanted{}}
	for _, uuid := range slices.Sorted(maps.Keys(t.Apps)) {
		from := t.Apps[uuid]
		if from.IsHost {
			// The host's own release is not the agent's to apply; its containers, if any, are somebody's.
			out.plan.Apps = append(out.plan.Apps, plan.App{UUID: uuid, ID: from.ID, Frozen: true})
			continue
		}
		scope := scope{facts: f, fleet: uuid, app: from}
		for commit, release := range from.Releases { // at most one
			scope.commit, scope.release = commit, release
		}
		w := wanted{commit: scope.commit, images: map[string]string{}}
		for name, s := range scope.release.Services {
			w.images[name] = s.Image
		}
		out.releases[uuid] = w
		app, err := scope.translate()
		if err != nil {
			out.rejected = append(out.rejected, rejection{uuid, scope.commit, err})
			app = plan.App{UUID: uuid, ID: from.ID, Frozen: true}
		}
		out.plan.Apps = append(out.plan.Apps, app)
		out.warnings = append(out.warnings, scope.warnings...)
	}
	return out
}

// scope is one app being translated.
type scope struct {
	facts
	fleet    string // its uuid
	app      wire.App
	commit   string
	release  wire.Release
	networks map[string]engine.Network // by the release's name
	volumes  map[string]engine.Volume
	made     map[string]*plan.Service
	warnings []string
}

func (s *scope) translate() (plan.App, error) {
	app := plan.App{UUID: s.fleet, ID: s.app.ID}
	if !named(s.fleet) {
		return app, fmt.Errorf("%q cannot be the uuid of a fleet", s.fleet)
	}
	if len(s.app.Releases) == 0 {
		return app, nil
	}
	s.networks, s.volumes, s.made = map[string]engine.Network{}, map[string]engine.Volume{}, map[string]*plan.Service{}
	for _, name := range slices.Sorted(maps.Keys(s.release.Networks)) {
		if err := s.network(name, s.release.Networks[name]); err != nil {
			return app, fmt.Errorf("network %s: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.release.Volumes)) {
		if err := s.volume(name, s.release.Volumes[name]); err != nil {
			return app, fmt.Errorf("volume %s: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.release.Services)) {
		if _, err := s.service(name); err != nil {
			return app, fmt.Errorf("service %s: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.made)) {
		app.Services = append(app.Services, *s.made[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.networks)) {
		app.Networks = append(app.Networks, s.networks[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.volumes)) {
		app.Volumes = append(app.Volumes, s.volumes[name])
	}
	return app, nil
}

// labels are what everything of the app carries, over what its own author gave it.
func (s *scope) labels(own map[string]string) map[string]string {
	all := map[string]string{}
	for k, v := range own {
		if rest, old := strings.CutPrefix(k, "io.resin."); old {
			k = "io.balena." + rest
		}
		all[k] = v
	}
	all[engine.LabelSupervised] = "true"
	all[engine.LabelAppID] = strconv.FormatInt(s.app.ID, 10)
	all[engine.LabelAppUUID] = s.fleet
	return all
}

func (s *scope) network(name string, raw json.RawMessage) error {
	if !named(name) {
		return fmt.Errorf("%q cannot be a name", name)
	}
	n := engine.Network{Name: s.fleet + "_" + name, Labels: s.labels(nil)}
	m, err := definition(raw)
	if err != nil {
		return err
	}
	if m["labels"] != nil {
		own, err := pairs(m["labels"])
		if err != nil {
			return fmt.Errorf("labels: %w", err)
		}
		n.Labels = s.labels(own)
	}
	for _, f := range []struct {
		key string
		set func(json.RawMessage) error
	}{
		{"internal", func(r json.RawMessage) error { return set(&n.Internal, truth, r) }},
		{"enable_ipv6", func(r json.RawMessage) error { return set(&n.EnableIPv6, truth, r) }},
		{"driver_opts", func(r json.RawMessage) error { return set(&n.Options, pairs, r) }},
		{"ipam", func(r json.RawMessage) error { return set(&n.IPAM, pools, r) }},
	} {
		if m[f.key] == nil {
			continue
		}
		if err := f.set(m[f.key]); err != nil {
			return fmt.Errorf("%s: %w", f.key, err)
		}
	}
	n.Labels[engine.LabelSpec] = fingerprint(n)
	s.networks[name] = n
	return nil
}

func pools(raw json.RawMessage) ([]engine.IPAMPool, error) {
	m, err := definition(raw)
	if err != nil || m["config"] == nil {
		return nil, err
	}
	var all []json.RawMessage
	if err := json.Unmarshal(m["config"], &all); err != nil {
		return nil, err
	}
	var list []engine.IPAMPool
	for _, r := range all {
		m, err := object(r)
		if err != nil {
			return nil, err
		}
		var p engine.IPAMPool
		for _, f := range []struct {
			key   string
			field *string
		}{{"subnet", &p.Subnet}, {"gateway", &p.Gateway}, {"ip_range", &p.IPRange}} {
			if m[f.key] == nil {
				continue
			}
			if err := set(f.field, text, m[f.key]); err != nil {
				return nil, fmt.Errorf("%s: %w", f.key, err)
			}
		}
		list = append(list, p)
	}
	return list, nil
}

func (s *scope) volume(name string, raw json.RawMessage) error {
	if !named(name) {
		return fmt.Errorf("%q cannot be a name", name)
	}
	v := engine.Volume{Name: strconv.FormatInt(s.app.ID, 10) + "_" + name, Labels: s.labels(nil)}
	m, err := definition(raw)
	if err != nil {
		return err
	}
	if m["labels"] != nil {
		own, err := pairs(m["labels"])
		if err != nil {
			return fmt.Errorf("labels: %w", err)
		}
		v.Labels = s.labels(own)
	}
	if m["driver_opts"] != nil {
		if err := set(&v.DriverOpts, pairs, m["driver_opts"]); err != nil {
			return fmt.Errorf("driver_opts: %w", err)
		}
	}
	s.volumes[name] = v
	return nil
}

// definition is an object, or nothing.
func definition(raw json.RawMessage) (map[string]json.RawMessage, error) {
	if trimmed := bytes.TrimSpace(raw); len(trimmed) == 0 || string(trimmed) == "null" {
		return nil, nil
	}
	return object(raw)
}

// service makes the container of a service, after those it joins: its name depends on theirs. A nil entry marks one
// being made.
func (s *scope) service(name string) (*plan.Service, error) {
	if done, ok := s.made[name]; ok {
		if done == nil {
			return nil, fmt.Errorf("it shares a namespace with itself, by way of others")
		}
		return done, nil
	}
	from, ok := s.release.Services[name]
	if !ok {
		return nil, fmt.Errorf("there is no service %q", name)
	}
	s.made[name] = nil
	if !named(name) || from.Image == "" || strings.ContainsAny(from.Image, " \n\t") {
		return nil, fmt.Errorf("%q with the image %q cannot be a service", name, from.Image)
	}
	with, err := compose(from.Composition)
	if err != nil {
		return nil, err
	}
	c := with.container
	c.Labels = s.serviceLabels(name, from, c.Labels)
	if err := s.place(name, &c); err != nil {
		return nil, err
	}
	joined, err := s.join(&c)
	if err != nil {
		return nil, err
	}
	s.defaults(&c, with.container, from.Composition)
	s.mounts(name, &c)
	s.environment(name, from, &c)
	for _, w := range with.warnings {
		s.warnings = append(s.warnings, "service "+name+": "+w)
	}

	c.Labels[engine.LabelSpec] = fingerprint(c, s.networksOf(c)...)
	c.Name = name + "_" + fingerprint([]string{s.fleet, name, c.Labels[engine.LabelSpec], plan.Content(from.Image)})[:12]
	c.Image = from.Image
	c.Labels[engine.LabelImage] = from.Image
	c.Labels[engine.LabelImageID] = strconv.FormatInt(from.ImageID, 10)
	c.Labels[engine.LabelRelease] = s.commit
	s.made[name] = &plan.Service{
		Name: name, Container: c, Strategy: strategy(c.Labels), DependsOn: append(with.dependsOn, joined...),
		Stopped: from.Running != nil && !*from.Running,
	}
	return s.made[name], nil
}

func (s *scope) serviceLabels(name string, from wire.Service, own map[string]string) map[string]string {
	own = maps.Clone(own)
	if own == nil {
		own = map[string]string{}
	}
	maps.Copy(own, from.Labels)
	all := s.labels(own)
	all[engine.LabelServiceID] = strconv.FormatInt(from.ID, 10)
	all[engine.LabelServiceName] = name
	return all
}

// place turns the release's names of networks and volumes into the engine's, and makes those it forgot to declare.
func (s *scope) place(name string, c *engine.Container) error {
	if c.NetworkMode != "" {
		c.Networks = nil
	} else if len(c.Networks) == 0 {
		c.Networks = []engine.Endpoint{{Network: "default"}}
	}
	for i, e := range c.Networks {
		if _, ok := s.networks[e.Network]; !ok {
			if err := s.network(e.Network, nil); err != nil {
				return fmt.Errorf("network %s: %w", e.Network, err)
			}
		}
		c.Networks[i].Network = s.networks[e.Network].Name
		if !slices.Contains(e.Aliases, name) {
			c.Networks[i].Aliases = append([]string{name}, e.Aliases...)
		}
	}
	for i, m := range c.Mounts {
		if _, ok := s.volumes[m.Volume]; !ok {
			if err := s.volume(m.Volume, nil); err != nil {
				return fmt.Errorf("volume %s: %w", m.Volume, err)
			}
		}
		c.Mounts[i].Volume = s.volumes[m.Volume].Name
	}
	return nil
}

// join turns service:NAME into the container of that service, and returns the names.
func (s *scope) join(c *engine.Container) ([]string, error) {
	var joined []string
	for _, mode := range []*string{&c.NetworkMode, &c.IPCMode, &c.PIDMode} {
		name, ok := strings.CutPrefix(*mode, "service:")
		if !ok {
			continue
		}
		other, err := s.service(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", *mode, err)
		}
		*mode = "container:" + other.Container.Name
		joined = append(joined, name)
	}
	switch mode, _, _ := strings.Cut(c.NetworkMode, ":"); mode {
	case "", "bridge", "host", "none", "container":
		return joined, nil
	}
	return nil, fmt.Errorf("there is no network mode %q; use bridge, host, none or service:NAME", c.NetworkMode)
}

// defaults are what balena gives a container that does not say (protocol §7.5).
func (s *scope) defaults(c *engine.Container, said engine.Container, composition json.RawMessage) {
	c.Restart = cmp.Or(c.Restart, "always")
	c.IPCMode = cmp.Or(c.IPCMode, "shareable")
	if fields, err := definition(composition); err == nil && !said.TTY && fields["tty"] == nil {
		c.TTY = true
	}
}

// mounts adds the folder a service shares with the agent, and what its labels ask for of the host (protocol §7.4).
func (s *scope) mounts(name string, c *engine.Container) {
	shared := sharedFolders + "/" + strconv.FormatInt(s.app.ID, 10) + "/" + name
	add := func(host, target string, readOnly bool) {
		if !slices.ContainsFunc(c.Mounts, func(m engine.Mount) bool { return m.Target == target }) {
			c.Mounts = append(c.Mounts, engine.Mount{Host: host, Target: target, ReadOnly: readOnly})
		}
	}
	add(shared, sharedTarget, false)
	add(shared, "/tmp/resin", false)
	for _, f := range []struct {
		feature, host, target string
		readOnly              bool
	}{
		{"dbus", "/run/dbus", "/host/run/dbus", false},
		{"sysfs", "/sys", "/sys", false},
		{"procfs", "/proc", "/proc", false},
		{"kernel-modules", "/lib/modules", "/lib/modules", false},
		{"firmware", "/lib/firmware", "/lib/firmware", false},
		{"journal-logs", "/var/log/journal", "/var/log/journal", true},
		{"journal-logs", "/run/log/journal", "/run/log/journal", true},
		{"journal-logs", "/etc/machine-id", "/etc/machine-id", true},
		{"balena-socket", s.socket, "/host/run/balena-engine.sock", false},
	} {
		if f.host != "" && feature(c.Labels, f.feature) {
			add(f.host, f.target, f.readOnly)
		}
	}
	slices.SortFunc(c.Mounts, func(a, b engine.Mount) int { return strings.Compare(a.Target, b.Target) })
	c.GPU = c.GPU || feature(c.Labels, "gpu")
}

// feature reports whether a service's labels ask for a feature.
func feature(labels map[string]string, name string) bool {
	switch strings.ToLower(labels["io.balena.features."+name]) {
	case "1", "true", "yes", "on":
		return true
	}
	return false
}

// environment is the composition's, then the variables' and then what every service is told (protocol §7.3).
func (s *scope) environment(name string, from wire.Service, c *engine.Container) {
	env := map[string]string{"USER": "root"}
	for _, e := range c.Env {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	maps.Copy(env, from.Environment)
	told := map[string]string{
		"APP_ID": strconv.FormatInt(s.app.ID, 10), "APP_UUID": s.fleet, "APP_NAME": s.app.Name, "SERVICE_NAME": name,
		"DEVICE_UUID": s.uuid, "DEVICE_TYPE": s.deviceType, "DEVICE_ARCH": s.arch, "DEVICE_NAME_AT_INIT": s.name,
		"HOST_OS_VERSION": s.osVersion, "APP_LOCK_PATH": "/tmp/balena/updates.lock",
		"SERVICE_HANDOVER_COMPLETE_PATH": "/tmp/balena/handover-complete",
	}
	if feature(c.Labels, "balena-api") || feature(c.Labels, "resin-api") {
		told["API_KEY"], told["API_URL"] = s.apiKey, s.apiURL
	}
	for k, v := range told {
		env["BALENA_"+k], env["RESIN_"+k] = v, v
	}
	env["BALENA"], env["RESIN"] = "1", "1"
	env["RESIN_SERVICE_KILL_ME_PATH"] = "/tmp/balena/handover-complete"
	if s.socket != "" && feature(c.Labels, "balena-socket") {
		env["DOCKER_HOST"] = "unix:///host/run/balena-engine.sock"
	}
	c.Env = nil
	for _, k := range slices.Sorted(maps.Keys(env)) {
		if k != "" && !strings.ContainsAny(k, "=\x00") && !strings.Contains(env[k], "\x00") {
			c.Env = append(c.Env, k+"="+env[k])
		}
	}
}

// networksOf are the fingerprints of the networks a container is on: with another network it is another container.
func (s *scope) networksOf(c engine.Container) []any {
	var all []any
	for _, e := range c.Networks {
		for _, n := range s.networks {
			if n.Name == e.Network {
				all = append(all, n.Labels[engine.LabelSpec])
			}
		}
	}
	return all
}

// strategy is the update strategy a service's labels name. hand-over needs both containers up at once, which
// download-then-kill comes nearest to.
func strategy(labels map[string]string) plan.Strategy {
	switch labels["io.balena.update.strategy"] {
	case "kill-then-download":
		return plan.KillThenDownload
	case "delete-then-download":
		return plan.DeleteThenDownload
	default:
		return plan.DownloadThenKill
	}
}

// fingerprint is 32 hex digits that stand for a value and more. A struct's fields that are zero do not count, so that
// an agent that knows more fields than its predecessor makes the same fingerprints and restarts nothing.
func fingerprint(v any, more ...any) string {
	h := sha256.New()
	for _, part := range append([]any{v}, more...) {
		x := reflect.ValueOf(part)
		if x.Kind() != reflect.Struct {
			writeJSON(h, part)
			continue
		}
		for i := range x.NumField() {
			if f := x.Field(i); !f.IsZero() {
				fmt.Fprintf(h, "%s=", x.Type().Field(i).Name)
				writeJSON(h, f.Interface())
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func writeJSON(to interface{ Write([]byte) (int, error) }, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("encode a part of a container: " + err.Error()) // all are plain data
	}
	to.Write(append(b, '\n'))
}
