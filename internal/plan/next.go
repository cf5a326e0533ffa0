package plan

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

// Next returns the steps that can be taken now on the way from cur to want, in an order that depends on their values
// alone. It returns none at the target, and none while everything left to do is under way.
func Next(cur State, want Target) []Step {
	d := look(cur, want)
	for i := range d.apps {
		d.update(&d.apps[i])
	}
	for _, c := range d.foreign {
		d.retire(c)
	}
	d.cancel()
	if d.settled() {
		d.tidy(want)
	}
	slices.SortFunc(d.steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Subject(), b.Subject()))
	})
	return slices.Compact(d.steps)
}

// Settled reports whether the app of that uuid is as the target says: every container there, started if it should
// be, and nothing of an earlier release left.
func Settled(cur State, want Target, uuid string) bool {
	d := look(cur, want)
	for i := range d.apps {
		if d.apps[i].UUID == uuid {
			return d.apps[i].settled()
		}
	}
	return false
}

// Present returns a reference of the engine's that has the content of ref: ref itself if it is there.
func Present(images []engine.Image, ref string) (string, bool) {
	found := ""
	for _, image := range images {
		for _, r := range image.References {
			if r == ref {
				return ref, true
			}
			if Content(r) == Content(ref) && strings.Contains(ref, "@") && (found == "" || r < found) {
				found = r
			}
		}
	}
	return found, found != ""
}

// update brings one app nearer to its target.
func (d *desk) update(a *app) {
	if a.Frozen {
		return
	}
	d.furnish(a)
	whole, ready := true, a.whole()
	for i := range a.services {
		s := &a.services[i]
		d.bring(s)
		if s.have == nil && ready && s.image != "" && d.creatable(a, s) {
			d.add(Create{a.UUID, s.Name, s.Container.Name, s.image})
		}
		if s.have == nil && !d.inTheWay(a, s) && !s.first() {
			whole = false
		}
	}
	whole = whole && ready
	for i := range a.services {
		s := &a.services[i]
		if whole {
			for _, c := range s.old {
				d.retire(c)
			}
		}
		d.run(s, whole)
	}
	if whole {
		for _, c := range a.leftover {
			d.retire(c)
		}
	}
	for _, n := range a.Networks {
		if whole && d.stale(a, n.Name) && !d.attached(n.Name, Up) {
			d.add(RemoveNetwork{n.Name})
		}
	}
}

// furnish makes the networks and volumes that are missing.
func (d *desk) furnish(a *app) {
	for _, n := range a.Networks {
		if _, ok := d.network(n.Name); !ok {
			d.add(CreateNetwork{a.UUID, n.Name})
		}
	}
	for _, v := range a.Volumes {
		if !d.volume(v.Name) {
			d.add(CreateVolume{a.UUID, v.Name})
		}
	}
}

// whole reports whether every image is here that has to be before anything stops.
func (a *app) whole() bool {
	for i := range a.services {
		if s := &a.services[i]; s.missing() && !s.first() {
			return false
		}
	}
	return true
}

// missing reports whether the image has to be fetched; a container that is as it should be needs none.
func (s *service) missing() bool { return s.have == nil && s.image == "" }

// first reports whether the old container goes before the image comes.
func (s *service) first() bool { return s.missing() && s.Strategy != DownloadThenKill }

// bring fetches a service's image, after what its strategy puts before it.
func (d *desk) bring(s *service) {
	if !s.missing() {
		return
	}
	if s.first() {
		gone := true
		for _, c := range s.old {
			if Up(c) || s.Strategy == DeleteThenDownload {
				d.retire(c)
				gone = false
			}
		}
		if !gone {
			return
		}
	}
	if s.Strategy == DeleteThenDownload {
		d.removeImages()
	}
	fetch := Fetch{s.Container.Image, d.base(s)}
	twice := slices.ContainsFunc(d.steps, func(o Step) bool { return o.Subject() == fetch.Subject() })
	if !d.cur.Fetching[fetch.Image] && !twice {
		d.add(fetch)
	}
}

// base is the image that the one of s most likely resembles: that of its newest predecessor, else one of the same
// repository; none where the room of the old image is wanted for the new one.
func (d *desk) base(s *service) string {
	image := s.Container.Image
	if s.Strategy == DeleteThenDownload {
		return ""
	}
	fits := func(ref string) bool { return Pushed(image) && Pushed(ref) && Registry(ref) == Registry(image) }
	base, made := "", time.Time{}
	for _, c := range s.old {
		if ref, ok := Present(d.cur.Images, c.Image); ok && fits(ref) && (base == "" || c.CreatedAt.After(made)) {
			base, made = ref, c.CreatedAt
		}
	}
	if base != "" {
		return base
	}
	for _, i := range d.cur.Images {
		for _, ref := range i.References {
			if fits(ref) && location(ref) == location(image) && (base == "" || ref < base) {
				base = ref
			}
		}
	}
	return base
}

// run starts and stops what is as it should be; whole says that the release may take over.
func (d *desk) run(s *service, whole bool) {
	switch {
	case s.have != nil && s.Stopped:
		if Up(*s.have) {
			d.add(stop(*s.have))
		} else if s.have.Status == engine.Exited && !restarts(*s.have) {
			// Only one that was never started is sure to be started once it should be.
			d.add(remove(*s.have))
		}
	case slices.ContainsFunc(s.old, Up):
		// Its successor waits for the stop.
	case s.due() && (whole || s.last() == nil):
		if !slices.ContainsFunc(s.dependsOn, func(on *service) bool { return on.pending(whole) }) {
			d.add(start(*s.have))
		}
	case !whole && !s.first() && !s.Stopped && (s.have == nil || !Up(*s.have)) && s.last() != nil:
		// Until the release can take over, what it replaces need not be down.
		d.add(start(*s.last()))
	}
}

// last is the newest old container that can be started again, or nil.
func (s *service) last() *engine.Container {
	var last *engine.Container
	for i, c := range s.old {
		if c.Status == engine.Exited && restarts(c) && (last == nil || c.CreatedAt.After(last.CreatedAt)) {
			last = &s.old[i]
		}
	}
	return last
}

// due reports whether the container of s is there and has to be started. One that ended by itself and is not to be
// restarted is left alone.
func (s *service) due() bool {
	return s.have != nil && !s.Stopped && (s.have.Status == engine.Created || s.have.Status == engine.Exited && restarts(*s.have))
}

// pending reports whether those that depend on s have to wait. A predecessor serves them too while the release
// cannot take over.
func (s *service) pending(whole bool) bool {
	return !s.Stopped && (s.have == nil || s.due()) && (whole || !slices.ContainsFunc(s.old, Up))
}

func (d *desk) creatable(a *app, s *service) bool {
	if d.inTheWay(a, s) {
		return false
	}
	for _, e := range s.Container.Networks {
		if _, ok := d.network(e.Network); !ok {
			return false
		}
	}
	for _, m := range s.Container.Mounts {
		if m.Volume != "" && !d.volume(m.Volume) {
			return false
		}
	}
	for _, name := range joins(s.Container) {
		if !slices.ContainsFunc(a.services, func(o service) bool { return o.have != nil && o.have.Name == name }) {
			return false
		}
	}
	return true
}

// inTheWay reports whether something has to go before the container of s can be made: a network that is to be
// another one, a container of its name, or what is in the way of one it joins.
func (d *desk) inTheWay(a *app, s *service) bool {
	seen := map[*service]bool{}
	ahead := []*service{s}
	for len(ahead) > 0 {
		s := ahead[len(ahead)-1]
		ahead = ahead[:len(ahead)-1]
		if seen[s] || s.have != nil {
			continue
		}
		seen[s] = true
		if slices.ContainsFunc(s.old, func(c engine.Container) bool { return c.Name == s.Container.Name }) ||
			slices.ContainsFunc(s.Container.Networks, func(e engine.Endpoint) bool { return d.stale(a, e.Network) }) {
			return true
		}
		for _, name := range joins(s.Container) {
			for i := range a.services {
				if a.services[i].Container.Name == name {
					ahead = append(ahead, &a.services[i])
				}
			}
		}
	}
	return false
}

// stale reports whether the network is there but should be another one.
func (d *desk) stale(a *app, name string) bool {
	have, ok := d.network(name)
	return ok && slices.ContainsFunc(a.Networks, func(n engine.Network) bool { return n.Name == name && !sameSpec(have.Labels, n.Labels) })
}

// cancel ends the fetches that nobody waits for.
func (d *desk) cancel() {
	for ref := range d.cur.Fetching {
		wanted := false
		for i := range d.apps {
			a := &d.apps[i]
			wanted = wanted || slices.ContainsFunc(a.services, func(s service) bool { return s.missing() && s.Container.Image == ref })
		}
		if !wanted {
			d.steps = append(d.steps, Cancel{ref})
		}
	}
}

func (d *desk) settled() bool {
	for i := range d.apps {
		if !d.apps[i].settled() {
			return false
		}
	}
	return len(d.foreign) == 0
}

func (a *app) settled() bool {
	for i := range a.services {
		s := &a.services[i]
		if s.have == nil || len(s.old) > 0 || s.due() || s.have.Status == engine.Restarting || s.Stopped && Up(*s.have) {
			return false
		}
	}
	return len(a.leftover) == 0 && !a.Frozen
}

// tidy removes what is left once everything is as it should be. Until then it may be needed to go back to.
func (d *desk) tidy(want Target) {
	d.removeImages()
	for _, n := range d.cur.Networks {
		wanted := false
		for _, a := range want.Apps {
			wanted = wanted || slices.ContainsFunc(a.Networks, func(w engine.Network) bool { return w.Name == n.Name })
		}
		if !wanted && !d.attached(n.Name, func(engine.Container) bool { return true }) {
			d.add(RemoveNetwork{n.Name})
		}
	}
	for _, v := range d.cur.Volumes {
		// A target without any app is more likely a mistake than a wish to lose all data, and a volume that
		// says of nobody that it is his may be anybody's.
		stays := len(want.Apps) == 0 || v.Labels[engine.LabelAppUUID] == "" && v.Labels[engine.LabelAppID] == ""
		for _, a := range want.Apps {
			stays = stays || a.Owns(v.Labels) || slices.ContainsFunc(a.Volumes, func(w engine.Volume) bool { return w.Name == v.Name })
		}
		if !stays {
			d.add(RemoveVolume{v.Name})
		}
	}
}

// removeImages gives up the images that no container uses and no service wants, of the target's registries: an image
// of any other was brought by somebody else, who may want it.
func (d *desk) removeImages() {
	used := map[string]bool{}
	for _, c := range d.cur.Containers {
		used[Content(c.Image)] = true
	}
	for i := range d.apps {
		for _, s := range d.apps[i].services {
			used[Content(s.Container.Image)] = true
		}
	}
	for _, image := range d.cur.Images {
		if slices.ContainsFunc(image.References, func(ref string) bool { return used[Content(ref)] }) {
			continue
		}
		for _, ref := range image.References {
			// One being fetched has its name before the fetch has ended.
			if Pushed(ref) && !d.cur.Fetching[ref] && slices.Contains(d.want.Registries, Registry(ref)) {
				d.add(RemoveImage{ref})
			}
		}
	}
}

// Registry is the host that a reference begins with.
func Registry(ref string) string {
	host, _, _ := strings.Cut(ref, "/")
	return host
}

// location is a reference without its digest.
func location(ref string) string {
	at, _, _ := strings.Cut(ref, "@")
	return at
}

// Pushed reports whether ref is named as a release's images are, HOST/v2/HEX@DIGEST. Others were brought by others.
func Pushed(ref string) bool {
	_, hex, ok := strings.Cut(location(ref), "/v2/")
	if len(hex) > 32 && hex[32] == '-' {
		hex = hex[:32]
	}
	return ok && len(hex) == 32 && strings.Trim(hex, "0123456789abcdef") == ""
}

// retire stops c, or removes it once it is not up.
func (d *desk) retire(c engine.Container) {
	switch {
	case Up(c):
		d.add(stop(c))
	case c.Status != engine.Removing:
		d.add(remove(c))
	}
}

func (d *desk) add(s Step) {
	if !d.cur.Busy[s.Subject()] {
		d.steps = append(d.steps, s)
	}
}
