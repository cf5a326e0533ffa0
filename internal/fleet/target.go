package fleet

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/wire"
)

// DefaultPoll is how often a device looks at its target when nobody said otherwise, in milliseconds.
const DefaultPoll = 60_000

// minPoll bounds what a variable may ask for, so that a typing error does not become a load test.
const minPoll = 10_000

// Follows is the release a device should run: its pin, else its fleet's target; 0 for none.
func Follows(pin, target int64) int64 {
	if pin != 0 {
		return pin
	}
	return target
}

// Parts is everything a device's target is made of.
type Parts struct {
	Device  Device
	Fleet   Fleet
	Release *Release // the one it follows; nil for none
	// Services of that release.
	Services []Part
	// Variables of the fleet and of the device.
	FleetVariables, DeviceVariables map[string]string
	FleetConfig, DeviceConfig       map[string]string
	// Systems are the host's system and supervisor, where it is said which ones the device should have.
	Systems []System
}

// System is what a device runs below its fleet's services: the host's system, or its supervisor.
type System struct {
	Fleet     Fleet
	IsHost    bool
	Class     string
	Release   Release
	Services  []Part
	Variables map[string]string // of its fleet
	// Updater is the image that puts the system in place; "" if it is not said.
	Updater string
}

// Part is one service of the release with what concerns it.
type Part struct {
	Image Image
	// Labels of the image in this release, and of the service, which win.
	Labels, ServiceLabels map[string]string
	// Variables of the image, of the service, and of the service on this device.
	ImageVariables, ServiceVariables, DeviceVariables map[string]string
	Contract                                          []byte
}

// composition is what a release keeps of its compose file.
type composition struct {
	Services map[string]json.RawMessage `json:"services"`
	Volumes  map[string]json.RawMessage `json:"volumes"`
	Networks map[string]json.RawMessage `json:"networks"`
}

// Target is what a device should be. Later variables win: image, fleet, service, device, device's service. A release
// whose composition cannot be read is an error and not an empty release: that would tell the device to stop all.
func Target(p Parts) (wire.DeviceTarget, error) {
	app := wire.App{
		ID: p.Fleet.ID, Name: p.Fleet.Name, Slug: p.Fleet.Slug, Class: "fleet",
		Releases: map[string]wire.Release{},
	}
	config := Config(p.FleetConfig, p.DeviceConfig)
	if p.Release != nil {
		rel, err := release(*p.Release, p.Services, func(part Part) (map[string]string, map[string]string) {
			return merge(part.ImageVariables, p.FleetVariables, part.ServiceVariables, p.DeviceVariables, part.DeviceVariables),
				labels(merge(part.Labels, part.ServiceLabels), config)
		})
		if err != nil {
			return wire.DeviceTarget{}, fmt.Errorf("compose target of %s: %w", p.Device.UUID, err)
		}
		app.Releases[p.Release.Commit] = rel
	}
	t := wire.DeviceTarget{Name: p.Device.Name, Config: config, Apps: map[string]wire.App{p.Fleet.UUID: app}}
	for _, s := range p.Systems {
		rel, err := release(s.Release, s.Services, s.settings)
		if err != nil {
			return wire.DeviceTarget{}, fmt.Errorf("compose target of %s: %w", p.Device.UUID, err)
		}
		t.Apps[s.Fleet.UUID] = wire.App{
			ID: s.Fleet.ID, Name: s.Fleet.Name, Slug: s.Fleet.Slug, IsHost: s.IsHost, Class: s.Class,
			Releases: map[string]wire.Release{s.Release.Commit: rel},
		}
	}
	return t, nil
}

// settings are the variables and labels of a service of a system. No variable of the device reaches it; those of a host's
// services say where they are kept and what puts them in place (protocol §2.1).
func (s System) settings(part Part) (variables, labels map[string]string) {
	labels = merge(part.Labels, part.ServiceLabels)
	if s.IsHost {
		labels["io.balena.image.store"] = "root"
		if s.Updater != "" {
			labels["io.balena.private.updater"] = s.Updater
		}
	}
	return merge(part.ImageVariables, s.Variables, part.ServiceVariables), labels
}

// release is a release as a device gets it, with the variables and labels of each service.
func release(r Release, services []Part, settings func(Part) (variables, labels map[string]string)) (wire.Release, error) {
	var c composition
	if err := json.Unmarshal(r.Composition, &c); err != nil {
		return wire.Release{}, fmt.Errorf("composition of release %d: %w", r.ID, err)
	}
	rel := wire.Release{
		ID: r.ID, Services: map[string]wire.Service{},
		Volumes: orEmpty(c.Volumes), Networks: orEmpty(c.Networks),
	}
	for _, part := range services {
		variables, labels := settings(part)
		name := part.Image.ServiceName
		rel.Services[name] = wire.Service{
			ID: part.Image.Service, ImageID: part.Image.ID, Image: strings.ToLower(part.Image.Reference()),
			Environment: variables, Labels: labels,
			Contract: part.Contract, Composition: withoutBuild(c.Services[name]),
		}
	}
	return rel, nil
}

// withoutBuild is a service of a composition without how its image was built, which a client that builds elsewhere
// leaves in.
func withoutBuild(service json.RawMessage) json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal(service, &all) != nil || all["build"] == nil {
		return service
	}
	delete(all, "build")
	rest, err := json.Marshal(all)
	if err != nil {
		return service // it came out of JSON
	}
	return rest
}

// labels are the service's own and, where it has none of them, those that config variables stand for.
func labels(own, config map[string]string) map[string]string {
	all := merge(own)
	for _, v := range []struct{ config, label string }{
		{"SUPERVISOR_UPDATE_STRATEGY", "update.strategy"},
		{"SUPERVISOR_HANDOVER_TIMEOUT", "update.handover-timeout"},
	} {
		value, ok := config["RESIN_"+v.config]
		if !ok {
			value, ok = config["BALENA_"+v.config]
		}
		_, balena := all["io.balena."+v.label]
		_, resin := all["io.resin."+v.label]
		if ok && !balena && !resin {
			all["io.resin."+v.label] = value
		}
	}
	return all
}

// standards are what a device is told where neither its fleet nor itself says otherwise, without prefix. There is no
// VPN for it to connect to, and a device that tries all the same does nothing else for minutes. It asks for deltas, of the one
// version that a stock supervisor and this server both know (protocol §4.4).
var standards = map[string]string{
	"SUPERVISOR_INSTANT_UPDATE_TRIGGER": "true", "SUPERVISOR_VPN_CONTROL": "false",
	"SUPERVISOR_DELTA": "1", "SUPERVISOR_DELTA_VERSION": "3",
}

// Config is the config part of a target: the fleet's config variables overridden by the device's. It always says
// how often to poll.
func Config(fleet, device map[string]string) map[string]string {
	all := merge(fleet, device)
	for name := range all {
		if strings.HasPrefix(name, "BALENA_UI") || strings.HasPrefix(name, "RESIN_UI") || name == "RESIN_HOST_LOG_TO_DISPLAY" {
			delete(all, name)
		}
	}
	poll := DefaultPoll
	for _, name := range []string{"BALENA_SUPERVISOR_POLL_INTERVAL", wire.ConfigPollInterval} {
		if n, err := strconv.Atoi(all[name]); err == nil {
			poll = max(n, minPoll)
		}
		delete(all, name)
	}
	all[wire.ConfigPollInterval] = strconv.Itoa(poll)
	for name, value := range standards {
		if _, said := all["BALENA_"+name]; said {
			continue
		}
		if _, said := all["RESIN_"+name]; !said {
			all["RESIN_"+name] = value
		}
	}
	return all
}

// Poll is how often a device of this config looks at its target, in milliseconds.
func Poll(config map[string]string) int64 {
	n, err := strconv.ParseInt(config[wire.ConfigPollInterval], 10, 64)
	if err != nil {
		return DefaultPoll
	}
	return n
}

// merge is a new map in which later ones win; it is never nil.
func merge(all ...map[string]string) map[string]string {
	m := map[string]string{}
	for _, a := range all {
		maps.Copy(m, a)
	}
	return m
}

func orEmpty(m map[string]json.RawMessage) map[string]json.RawMessage {
	if m == nil {
		return map[string]json.RawMessage{}
	}
	for name, v := range m {
		if len(v) == 0 || string(v) == "null" {
			m[name] = json.RawMessage("{}")
		}
	}
	return m
}
