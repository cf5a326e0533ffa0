package plan

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/engine"
)

// desk is one decision in the making.
type desk struct {
	cur     State
	want    Target
	apps    []app
	foreign []engine.Container // of no app of the target
	steps   []Step
}

// app is what is there and what should be, side by side.
type app struct {
	App
	services []service
	leftover []engine.Container // of services the app no longer has
}

type service struct {
	Service
	have      *engine.Container  // as the target says
	old       []engine.Container // of the same service, otherwise
	image     string             // a reference that is here with the wanted content, or ""
	dependsOn []*service         // without circles
}

// look sorts what is there by whom it belongs to.
func look(cur State, want Target) *desk {
	d := &desk{cur: cur, want: want}
	apps := slices.Clone(want.Apps)
	slices.SortStableFunc(apps, func(a, b App) int { return strings.Compare(a.UUID, b.UUID) })
	containers := slices.Clone(cur.Containers)
	slices.SortStableFunc(containers, func(a, b engine.Container) int { return strings.Compare(a.Name, b.Name) })
	for _, a := range apps {
		var mine []engine.Container
		rest := containers[:0:0]
		for _, c := range containers {
			if a.Owns(c.Labels) {
				mine = append(mine, c)
			} else {
				rest = append(rest, c)
			}
		}
		containers = rest
		d.apps = append(d.apps, d.compare(a, mine))
	}
	d.foreign = containers
	return d
}

func (d *desk) compare(a App, mine []engine.Container) app {
	out := app{App: a}
	services := slices.Clone(a.Services)
	slices.SortStableFunc(services, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	services = slices.CompactFunc(services, func(a, b Service) bool { return a.Name == b.Name })
	for _, s := range services {
		v := service{Service: s}
		v.image, _ = Present(d.cur.Images, s.Container.Image)
		out.services = append(out.services, v)
	}
	for _, c := range mine {
		s := out.service(c.Labels[engine.LabelServiceName])
		switch {
		case s == nil:
			out.leftover = append(out.leftover, c)
		case s.Is(c) && !d.unhinged(&out, c):
			s.have = &c
		default:
			s.old = append(s.old, c)
		}
	}
	for i := range out.services {
		s := &out.services[i]
		for _, name := range s.DependsOn {
			if on := out.service(name); on != nil && on != s && !out.leadsTo(on, s) {
				s.dependsOn = append(s.dependsOn, on)
			}
		}
	}
	return out
}

// unhinged reports whether somebody took a network away from under c, or put another in its place: it has to be made
// anew to get onto the right one.
func (d *desk) unhinged(a *app, c engine.Container) bool {
	return slices.ContainsFunc(c.Networks, func(e engine.Endpoint) bool {
		_, ok := d.network(e.Network)
		return d.stale(a, e.Network) || !ok && !Up(c)
	})
}

func (a *app) service(name string) *service {
	i, ok := slices.BinarySearchFunc(a.services, name, func(s service, name string) int { return strings.Compare(s.Name, name) })
	if !ok {
		return nil
	}
	return &a.services[i]
}

// leadsTo reports whether from depends on to, at whatever distance.
func (a *app) leadsTo(from, to *service) bool {
	seen := map[*service]bool{}
	ahead := []*service{from}
	for len(ahead) > 0 {
		s := ahead[len(ahead)-1]
		ahead = ahead[:len(ahead)-1]
		if s == to {
			return true
		}
		if seen[s] {
			continue
		}
		seen[s] = true
		for _, name := range s.DependsOn {
			if on := a.service(name); on != nil {
				ahead = append(ahead, on)
			}
		}
	}
	return false
}

func (d *desk) network(name string) (engine.Network, bool) {
	for _, n := range d.cur.Networks {
		if n.Name == name {
			return n, true
		}
	}
	return engine.Network{}, false
}

func (d *desk) volume(name string) bool {
	return slices.ContainsFunc(d.cur.Volumes, func(v engine.Volume) bool { return v.Name == name })
}

// attached reports whether a container that is so is on the network.
func (d *desk) attached(network string, so func(engine.Container) bool) bool {
	return slices.ContainsFunc(d.cur.Containers, func(c engine.Container) bool {
		return so(c) && slices.ContainsFunc(c.Networks, func(e engine.Endpoint) bool { return e.Network == network })
	})
}

func sameSpec(a, b map[string]string) bool { return a[engine.LabelSpec] == b[engine.LabelSpec] }

// restarts reports whether the engine is to bring c back whatever ended it.
func restarts(c engine.Container) bool { return c.Restart == "always" || c.Restart == "unless-stopped" }

// joins are the containers whose namespaces c shares.
func joins(c engine.Container) []string {
	var names []string
	for _, mode := range []string{c.NetworkMode, c.IPCMode, c.PIDMode} {
		if name, ok := strings.CutPrefix(mode, "container:"); ok {
			names = append(names, name)
		}
	}
	return names
}

func owns(uuid string, id int64, labels map[string]string) bool {
	if has, ok := labels[engine.LabelAppUUID]; ok {
		return has == uuid
	}
	// Older supervisors labelled with the id alone.
	return labels[engine.LabelAppID] == strconv.FormatInt(id, 10)
}

func start(c engine.Container) Start {
	return Start{c.Labels[engine.LabelAppUUID], c.Labels[engine.LabelServiceName], c.Name}
}

func stop(c engine.Container) Stop {
	return Stop{c.Labels[engine.LabelAppUUID], c.Labels[engine.LabelServiceName], c.Name, c.StopGrace}
}

func remove(c engine.Container) Remove {
	return Remove{c.Labels[engine.LabelAppUUID], c.Labels[engine.LabelServiceName], c.Name}
}

// rank puts room before downloads and downloads before the rest, so that an agent that goes through the list in
// order starts the long work early.
func rank(s Step) int {
	switch s.(type) {
	case Cancel:
		return 0
	case RemoveImage:
		return 1
	case Fetch:
		return 2
	case CreateNetwork, CreateVolume:
		return 3
	case Create:
		return 4
	case Stop:
		return 5
	case Start:
		return 6
	case Remove:
		return 7
	default:
		return 8
	}
}
