package plan_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/engine"
	. "github.com/dunlin/dunlin/internal/plan"
)

// The properties hold from any state to any target: a device may have been stopped, updated by others, or left half
// way anywhere.

func TestNextIsSafeWhateverTheStateAndTheTarget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTarget(t)
		w := newWorld(t, want)
		for range rapid.IntRange(1, 25).Draw(t, "rounds") {
			if rapid.IntRange(0, 9).Draw(t, "changes") == 0 {
				want = drawTarget(t)
				w.want = want
			}
			w.round(t, Next(w.state(), want), false)
		}
	})
}

func TestNextReachesEveryTargetFromEveryState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTarget(t)
		w := newWorld(t, want)
		for range rapid.IntRange(0, 8).Draw(t, "bad rounds") {
			w.round(t, Next(w.state(), want), false)
		}
		w.finish() // what is under way ends
		w.live(t, true)
		for round := 0; ; round++ {
			steps := Next(w.state(), want)
			if len(steps) == 0 {
				break
			}
			if round == 60 {
				t.Fatalf("not at the target after %d rounds; next would be %v\nfrom %s", round, steps, show(w.cur))
			}
			w.round(t, steps, true)
		}
		w.atTarget(t)
	})
}

func TestNextIsAFunctionOfValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTarget(t)
		w := newWorld(t, want)
		cur := w.state()
		for _, ref := range refs {
			if rapid.Bool().Draw(t, "fetching") {
				cur.Fetching[ref] = true
			}
		}
		before := show(cur) + show(want)
		first := Next(cur, want)
		if after := show(cur) + show(want); after != before {
			t.Fatalf("Next changed its input:\n%s", cmp.Diff(before, after))
		}
		for _, shuffled := range []State{shuffle(t, cur), cur} {
			other := Target{Apps: rapid.Permutation(want.Apps).Draw(t, "apps"), Registries: want.Registries}
			for i := range other.Apps {
				other.Apps[i].Services = rapid.Permutation(other.Apps[i].Services).Draw(t, "services")
			}
			if d := cmp.Diff(first, Next(shuffled, other)); d != "" {
				t.Fatalf("the order of the input changed the answer:\n%s", d)
			}
		}
	})
}

func TestNextAsksForNothingThatIsUnderWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTarget(t)
		cur := newWorld(t, want).state()
		steps := Next(cur, want)
		for _, s := range steps {
			if f, ok := s.(Fetch); ok {
				cur.Fetching[f.Image] = true
			} else {
				cur.Busy[s.Subject()] = true
			}
		}
		if again := Next(cur, want); len(again) > 0 {
			t.Fatalf("%v are under way, and Next wants %v", steps, again)
		}
	})
}

// show leaves out what is zero, so that a failure can be read.
func show(v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		panic(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, ": null,\n") && !strings.HasSuffix(line, ": 0,\n") && !strings.HasSuffix(line, ": false,\n") && !strings.HasSuffix(line, ": \"\",\n") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func shuffle(t *rapid.T, s State) State {
	s.Containers = rapid.Permutation(s.Containers).Draw(t, "containers")
	s.Images = rapid.Permutation(s.Images).Draw(t, "images")
	s.Networks = rapid.Permutation(s.Networks).Draw(t, "networks")
	s.Volumes = rapid.Permutation(s.Volumes).Draw(t, "volumes")
	return s
}

// The small universe: two apps and one the device has left, three services, four images of which two have the same
// content, and specs that change.
var (
	apps     = []string{"aaa", "bbb", "left"}
	services = []string{"db", "web", "worker"}
	refs     = []string{ref(1, "x"), ref(2, "x"), ref(3, "y"), ref(4, "z")}
	specs    = []string{"s1", "s2"}
)

func ref(location int, digest string) string {
	return fmt.Sprintf("reg/v2/%032x@sha256:%s", location, digest)
}

func labels(app, service, spec string) map[string]string {
	return map[string]string{
		engine.LabelAppUUID: app, engine.LabelAppID: fmt.Sprint(slices.Index(apps, app)),
		engine.LabelServiceName: service, engine.LabelSpec: spec,
	}
}

func drawContainer(t *rapid.T, app, service, network string) engine.Container {
	image := rapid.SampledFrom(refs).Draw(t, "image")
	spec := rapid.SampledFrom(specs).Draw(t, "spec") + network
	c := engine.Container{
		Name: fmt.Sprintf("%s_%s_%s_%s", service, app, spec, Content(image)), Image: image, Labels: labels(app, service, spec),
		Restart:  rapid.SampledFrom([]string{"always", "always", "unless-stopped", "on-failure", "no"}).Draw(t, "restart"),
		Networks: []engine.Endpoint{{Network: app + "_default"}}, Mounts: []engine.Mount{{Volume: app + "_data", Target: "/data"}},
	}
	c.Labels[engine.LabelSpec] += c.Restart
	c.Name += c.Restart
	return c
}

func drawTarget(t *rapid.T) Target {
	want := Target{Registries: []string{"reg"}}
	for _, uuid := range apps[:rapid.IntRange(0, 2).Draw(t, "apps")] {
		network := rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "network")
		a := App{
			UUID: uuid, ID: int64(slices.Index(apps, uuid)), Frozen: rapid.IntRange(0, 9).Draw(t, "frozen") == 0,
			Networks: []engine.Network{{Name: uuid + "_default", Labels: labels(uuid, "", network)}},
			Volumes:  []engine.Volume{{Name: uuid + "_data", Labels: labels(uuid, "", "")}},
		}
		for _, name := range services {
			if rapid.IntRange(0, 3).Draw(t, "not wanted") == 0 {
				continue
			}
			s := Service{
				Name: name, Container: drawContainer(t, uuid, name, network), Stopped: rapid.IntRange(0, 5).Draw(t, "stopped") == 0,
				Strategy:  rapid.SampledFrom([]Strategy{DownloadThenKill, DownloadThenKill, KillThenDownload, DeleteThenDownload}).Draw(t, "strategy"),
				DependsOn: rapid.SliceOfN(rapid.SampledFrom(append(services, "none")), 0, 2).Draw(t, "depends on"),
			}
			if i := len(a.Services) - 1; i >= 0 && !a.Services[i].Stopped && rapid.IntRange(0, 5).Draw(t, "joins") == 0 {
				s.Container.NetworkMode, s.Container.Networks = "container:"+a.Services[i].Container.Name, nil
				s.Container.Name += "_j_" + a.Services[i].Container.Name
				s.Container.Labels[engine.LabelSpec] = s.Container.Name
			}
			a.Services = append(a.Services, s)
		}
		want.Apps = append(want.Apps, a)
	}
	return want
}

// world is a device that does what it is told, sometimes.
type world struct {
	cur      engine.State
	want     Target
	underWay []Step
	clock    int
}

// newWorld draws any state: containers of the target as they should be and others, images here and not.
func newWorld(t *rapid.T, want Target) *world {
	w := &world{want: want}
	statuses := rapid.SampledFrom([]engine.Status{
		engine.Created, engine.Running, engine.Running, engine.Exited, engine.Restarting, engine.Paused, engine.Removing, engine.Dead,
	})
	put := func(c engine.Container) {
		c.Status = statuses.Draw(t, "status")
		if !slices.ContainsFunc(w.cur.Containers, func(o engine.Container) bool { return o.Name == c.Name }) && joined(c) == "" {
			w.cur.Containers = append(w.cur.Containers, c)
			w.hold(c.Image)
		}
	}
	for _, a := range want.Apps {
		for _, s := range a.Services {
			if rapid.Bool().Draw(t, "there") {
				put(s.Container)
			}
		}
	}
	for range rapid.IntRange(0, 4).Draw(t, "others") {
		app := rapid.SampledFrom(apps).Draw(t, "app")
		put(drawContainer(t, app, rapid.SampledFrom(append(services, "gone")).Draw(t, "service"), "n1"))
	}
	for _, r := range append(refs, "docker.io/library/alpine@sha256:w") {
		if rapid.Bool().Draw(t, "here") {
			w.hold(r)
		}
	}
	for _, app := range apps {
		used := slices.ContainsFunc(w.cur.Containers, func(c engine.Container) bool { return c.Labels[engine.LabelAppUUID] == app })
		if used || rapid.Bool().Draw(t, "network") {
			spec := rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "spec")
			w.cur.Networks = append(w.cur.Networks, engine.Network{Name: app + "_default", Labels: labels(app, "", spec)})
		}
		if used || rapid.Bool().Draw(t, "volume") {
			w.cur.Volumes = append(w.cur.Volumes, engine.Volume{Name: app + "_data", Labels: labels(app, "", "")})
		}
	}
	if rapid.Bool().Draw(t, "anonymous volume") {
		w.cur.Volumes = append(w.cur.Volumes, engine.Volume{Name: "mine"})
	}
	return w
}

func (w *world) hold(ref string) {
	for i, image := range w.cur.Images {
		if Content(image.References[0]) == Content(ref) {
			if !slices.Contains(image.References, ref) {
				w.cur.Images[i].References = append(slices.Clone(image.References), ref)
			}
			return
		}
	}
	w.cur.Images = append(w.cur.Images, engine.Image{References: []string{ref}})
}

func (w *world) state() State {
	s := State{State: w.cur, Fetching: map[string]bool{}, Busy: map[string]bool{}}
	s.Containers, s.Images = slices.Clone(s.Containers), slices.Clone(s.Images)
	s.Networks, s.Volumes = slices.Clone(s.Networks), slices.Clone(s.Volumes)
	for _, u := range w.underWay {
		if f, ok := u.(Fetch); ok {
			s.Fetching[f.Image] = true
		} else {
			s.Busy[u.Subject()] = true
		}
	}
	return s
}

// round judges the steps, then takes them in any order. Without all it takes some, and leaves some under way.
func (w *world) round(t *rapid.T, steps []Step, all bool) {
	for _, s := range steps {
		w.judge(t, s)
	}
	for _, s := range rapid.Permutation(steps).Draw(t, "order") {
		fate := "done"
		if !all {
			fate = rapid.SampledFrom([]string{"done", "done", "failed", "under way"}).Draw(t, "fate")
		}
		switch fate {
		case "done":
			w.apply(s)
		case "under way":
			w.underWay = append(w.underWay, s)
		}
	}
	if all || rapid.Bool().Draw(t, "finish") {
		w.finish()
	}
	w.live(t, all)
}

func (w *world) finish() {
	for _, s := range w.underWay {
		w.apply(s)
	}
	w.underWay = nil
}

// live lets the engine do what engines do by themselves.
func (w *world) live(t *rapid.T, calm bool) {
	w.cur.Containers = slices.DeleteFunc(w.cur.Containers, func(c engine.Container) bool { return c.Status == engine.Removing })
	for i := range w.cur.Containers {
		c := &w.cur.Containers[i]
		if c.Status == engine.Restarting {
			c.Status = engine.Running
		}
		if oneShot := c.Restart == "no" || c.Restart == "on-failure"; c.Status == engine.Running && oneShot && rapid.Bool().Draw(t, "ends") {
			c.Status = engine.Exited
		}
		if !calm && c.Status == engine.Running && rapid.IntRange(0, 5).Draw(t, "crashes") == 0 {
			c.Status = engine.Restarting
		}
	}
}

func (w *world) container(name string) *engine.Container {
	for i := range w.cur.Containers {
		if w.cur.Containers[i].Name == name {
			return &w.cur.Containers[i]
		}
	}
	return nil
}

func (w *world) network(name string) *engine.Network {
	for i := range w.cur.Networks {
		if w.cur.Networks[i].Name == name {
			return &w.cur.Networks[i]
		}
	}
	return nil
}

func (w *world) here(ref string) bool {
	return slices.ContainsFunc(w.cur.Images, func(i engine.Image) bool { return slices.Contains(i.References, ref) })
}

func (w *world) app(uuid string) *App {
	for i := range w.want.Apps {
		if w.want.Apps[i].UUID == uuid {
			return &w.want.Apps[i]
		}
	}
	return nil
}

func (w *world) service(app, name string) *Service {
	if a := w.app(app); a != nil {
		for i := range a.Services {
			if a.Services[i].Name == name {
				return &a.Services[i]
			}
		}
	}
	return nil
}

// judge is what must never happen, before each step.
func (w *world) judge(t *rapid.T, s Step) {
	t.Helper()
	switch s := s.(type) {
	case Fetch:
		if w.here(s.Image) {
			t.Fatalf("%v: it is here", s)
		}
		if s.Base != "" && !slices.ContainsFunc(w.cur.Images, func(i engine.Image) bool { return slices.Contains(i.References, s.Base) }) {
			t.Fatalf("%v: its base is not here", s)
		}
	case Stop:
		c, next := w.container(s.Name), w.service(s.App, s.Service)
		if c == nil || !Up(*c) {
			t.Fatalf("stops %s, which is not up", s.Name)
		}
		if a := w.app(s.App); a != nil && a.Frozen {
			t.Fatalf("stops %s of a frozen app", s.Name)
		}
		if next == nil {
			return
		}
		astray := slices.ContainsFunc(c.Networks, func(e engine.Endpoint) bool {
			n := w.network(e.Network)
			return n == nil || n.Labels[engine.LabelSpec] != w.app(s.App).Networks[0].Labels[engine.LabelSpec]
		})
		if next.Is(*c) && !next.Stopped && !astray {
			t.Fatalf("stops %s, which is as it should be", s.Name)
		}
		if _, ok := Present(w.cur.Images, next.Container.Image); !ok && next.Strategy == DownloadThenKill && !next.Is(*c) {
			t.Fatalf("stops %s before the image of its successor is here\n%s", s.Name, show(w.cur))
		}
		for _, o := range w.app(s.App).Services {
			// A release takes over as a whole.
			_, ok := Present(w.cur.Images, o.Container.Image)
			there := w.container(o.Container.Name)
			if !ok && o.Strategy == DownloadThenKill && (there == nil || !o.Is(*there)) && next.Strategy == DownloadThenKill && !next.Is(*c) {
				t.Fatalf("stops %s while %s waits for its image", s.Name, o.Name)
			}
		}
	case Remove:
		c := w.container(s.Name)
		if c == nil || Up(*c) {
			t.Fatalf("removes %s, which is up or not there", s.Name)
		}
	case Start:
		c := w.container(s.Name)
		if c == nil || Up(*c) {
			t.Fatalf("starts %s, which is up or not there", s.Name)
		}
		for _, o := range w.cur.Containers {
			if Up(o) && o.Labels[engine.LabelAppUUID] == s.App && o.Labels[engine.LabelServiceName] == s.Service {
				t.Fatalf("starts %s beside %s", s.Name, o.Name)
			}
		}
	case Create:
		if !w.here(s.Image) || w.container(s.Name) != nil {
			t.Fatalf("creates %s without image or twice", s.Name)
		}
		want := w.service(s.App, s.Service).Container
		if Content(s.Image) != Content(want.Image) {
			t.Fatalf("creates %s from %s, want the content of %s", s.Name, s.Image, want.Image)
		}
		for _, e := range want.Networks {
			if n := w.network(e.Network); n == nil || n.Labels[engine.LabelSpec] != w.app(s.App).Networks[0].Labels[engine.LabelSpec] {
				t.Fatalf("creates %s before its network is as it should be", s.Name)
			}
		}
		if name := joined(want); name != "" && w.container(name) == nil {
			t.Fatalf("creates %s before %s, which it joins", s.Name, name)
		}
	case RemoveImage:
		if strings.HasPrefix(s.Image, "docker.io") {
			t.Fatalf("removes %s, which others brought", s.Image)
		}
		for _, c := range w.cur.Containers {
			if Content(c.Image) == Content(s.Image) {
				t.Fatalf("removes %s, which %s uses", s.Image, c.Name)
			}
		}
		for _, a := range w.want.Apps {
			for _, o := range a.Services {
				if Content(o.Container.Image) == Content(s.Image) {
					t.Fatalf("removes %s, which %s is to use", s.Image, o.Name)
				}
			}
		}
	case RemoveNetwork:
		for _, c := range w.cur.Containers {
			if Up(c) && slices.ContainsFunc(c.Networks, func(e engine.Endpoint) bool { return e.Network == s.Name }) {
				t.Fatalf("removes network %s from under %s", s.Name, c.Name)
			}
		}
	case RemoveVolume:
		if len(w.want.Apps) == 0 || s.Name == "mine" || w.app(strings.TrimSuffix(s.Name, "_data")) != nil {
			t.Fatalf("removes volume %s", s.Name)
		}
		for _, c := range w.cur.Containers {
			if slices.ContainsFunc(c.Mounts, func(m engine.Mount) bool { return m.Volume == s.Name }) {
				t.Fatalf("removes volume %s, which %s uses", s.Name, c.Name)
			}
		}
	}
}

func joined(c engine.Container) string {
	name, _ := strings.CutPrefix(c.NetworkMode, "container:")
	return name
}

// apply does what an engine would: what cannot be done changes nothing.
func (w *world) apply(s Step) {
	w.clock++
	switch s := s.(type) {
	case Fetch:
		w.hold(s.Image)
	case Cancel:
		w.underWay = slices.DeleteFunc(w.underWay, func(u Step) bool { return u.Subject() == s.Subject() })
	case RemoveImage:
		if slices.ContainsFunc(w.cur.Containers, func(c engine.Container) bool { return Content(c.Image) == Content(s.Image) }) {
			return
		}
		for i := range w.cur.Images {
			w.cur.Images[i].References = slices.DeleteFunc(slices.Clone(w.cur.Images[i].References), func(r string) bool { return r == s.Image })
		}
		w.cur.Images = slices.DeleteFunc(w.cur.Images, func(i engine.Image) bool { return len(i.References) == 0 })
	case CreateNetwork:
		if a := w.app(s.App); a != nil && w.network(s.Name) == nil {
			w.cur.Networks = append(w.cur.Networks, a.Networks[0])
		}
	case RemoveNetwork:
		if slices.ContainsFunc(w.cur.Containers, func(c engine.Container) bool {
			return Up(c) && slices.ContainsFunc(c.Networks, func(e engine.Endpoint) bool { return e.Network == s.Name })
		}) {
			return
		}
		w.cur.Networks = slices.DeleteFunc(w.cur.Networks, func(n engine.Network) bool { return n.Name == s.Name })
	case CreateVolume:
		if a := w.app(s.App); a != nil {
			w.cur.Volumes = append(w.cur.Volumes, a.Volumes[0])
		}
	case RemoveVolume:
		if slices.ContainsFunc(w.cur.Containers, func(c engine.Container) bool {
			return slices.ContainsFunc(c.Mounts, func(m engine.Mount) bool { return m.Volume == s.Name })
		}) {
			return
		}
		w.cur.Volumes = slices.DeleteFunc(w.cur.Volumes, func(v engine.Volume) bool { return v.Name == s.Name })
	case Create:
		if next := w.service(s.App, s.Service); next != nil && next.Container.Name == s.Name && w.container(s.Name) == nil && w.here(s.Image) {
			c := next.Container
			c.Image, c.Status = s.Image, engine.Created
			w.cur.Containers = append(w.cur.Containers, c)
		}
	case Start:
		c := w.container(s.Name)
		if c == nil || slices.ContainsFunc(c.Networks, func(e engine.Endpoint) bool { return w.network(e.Network) == nil }) {
			return
		}
		c.Status = engine.Running
	case Stop:
		if c := w.container(s.Name); c != nil && Up(*c) {
			c.Status = engine.Exited
		}
	case Remove:
		w.cur.Containers = slices.DeleteFunc(w.cur.Containers, func(c engine.Container) bool { return c.Name == s.Name })
	}
}

// atTarget says what is not as the target says.
func (w *world) atTarget(t *rapid.T) {
	wanted := map[string]bool{}
	frozen := slices.ContainsFunc(w.want.Apps, func(a App) bool { return a.Frozen })
	for _, a := range w.want.Apps {
		if a.Frozen {
			continue
		}
		if !Settled(w.state(), w.want, a.UUID) {
			t.Fatalf("nothing left to do, and %s is not settled\n%s", a.UUID, show(w.cur))
		}
		for _, s := range a.Services {
			wanted[s.Container.Name] = true
			c := w.container(s.Container.Name)
			switch {
			case c == nil || !s.Is(*c):
				t.Fatalf("%s is not there", s.Name)
			case s.Stopped == Up(*c) && (s.Stopped || c.Restart == "always" || c.Restart == "unless-stopped"):
				t.Fatalf("%s is %s", s.Name, c.Status)
			case !s.Stopped && c.Status == engine.Created:
				t.Fatalf("%s was never started", s.Name)
			}
		}
		for _, n := range a.Networks {
			if have := w.network(n.Name); have == nil || have.Labels[engine.LabelSpec] != n.Labels[engine.LabelSpec] {
				t.Fatalf("network %s is not as it should be", n.Name)
			}
		}
	}
	for _, c := range w.cur.Containers {
		if a := w.app(c.Labels[engine.LabelAppUUID]); !wanted[c.Name] && (a == nil || !a.Frozen) {
			t.Fatalf("%s is left over", c.Name)
		}
	}
	if frozen {
		return
	}
	for _, i := range w.cur.Images {
		if used := slices.ContainsFunc(w.cur.Containers, func(c engine.Container) bool { return Content(c.Image) == Content(i.References[0]) }); !used &&
			!strings.HasPrefix(i.References[0], "docker.io") {
			t.Fatalf("image %s is left over", i.References[0])
		}
	}
	for _, n := range w.cur.Networks {
		if w.app(n.Labels[engine.LabelAppUUID]) == nil {
			t.Fatalf("network %s is left over", n.Name)
		}
	}
	for _, v := range w.cur.Volumes {
		if v.Name != "mine" && w.app(v.Labels[engine.LabelAppUUID]) == nil && len(w.want.Apps) > 0 {
			t.Fatalf("volume %s is left over", v.Name)
		}
	}
}
