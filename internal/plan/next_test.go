package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/engine"
	. "github.com/dunlin/dunlin/internal/plan"
)

func container(service, spec, image string, status engine.Status) engine.Container {
	return engine.Container{
		Name: service + "_" + spec + "_" + Content(image), Image: image, Labels: labels("aaa", service, spec),
		Restart: "always", Status: status,
	}
}

func target(services ...Service) Target {
	return Target{Apps: []App{{UUID: "aaa", Services: services}}, Registries: []string{"reg"}}
}

func images(references ...string) []engine.Image {
	var all []engine.Image
	for _, r := range references {
		all = append(all, engine.Image{References: []string{r}})
	}
	return all
}

func TestEachRoundTakesTheStepsThatAreRight(t *testing.T) {
	one, two := ref(1, "one"), ref(2, "two")
	web := func(spec, image string, status engine.Status) engine.Container {
		return container("web", spec, image, status)
	}
	db := container("db", "s", one, engine.Running)
	aged := func(c engine.Container, days int) engine.Container {
		c.CreatedAt = time.Date(2026, 1, days, 0, 0, 0, 0, time.UTC)
		return c
	}
	slow := web("s1", one, engine.Running)
	slow.StopGrace = time.Minute
	wantWeb := func(spec, image string) Service {
		return Service{Name: "web", Container: web(spec, image, "")}
	}
	first := func(s Service, order Strategy) Service { s.Strategy = order; return s }
	once := func(c engine.Container) engine.Container { c.Restart = "no"; return c }
	wantDB := Service{Name: "db", Container: db}
	oldName, newName := "web_s1_sha256:one", "web_s1_sha256:two"

	for _, tt := range []struct {
		name string
		cur  engine.State
		want Target
		step []Step
	}{
		{
			"an empty device fetches", engine.State{}, target(wantWeb("s1", one)), []Step{Fetch{one, ""}},
		},
		{
			"the old container runs on until the new image is here",
			engine.State{Containers: []engine.Container{web("s1", one, engine.Running)}, Images: images(one)},
			target(wantWeb("s1", two)), []Step{Fetch{two, one}},
		},
		{
			"the new container is made beside the old one",
			engine.State{Containers: []engine.Container{web("s1", one, engine.Running)}, Images: images(one, two)},
			target(wantWeb("s1", two)), []Step{Create{"aaa", "web", newName, two}},
		},
		{
			"then the old one stops, in its own time",
			engine.State{Containers: []engine.Container{slow, web("s1", two, engine.Created)}, Images: images(one, two)},
			target(wantWeb("s1", two)), []Step{Stop{"aaa", "web", oldName, time.Minute}},
		},
		{
			"then the new one starts and the old one goes",
			engine.State{Containers: []engine.Container{web("s1", one, engine.Exited), web("s1", two, engine.Created)}, Images: images(one, two)},
			target(wantWeb("s1", two)), []Step{Start{"aaa", "web", newName}, Remove{"aaa", "web", oldName}},
		},
		{
			"the old image stays until the new container has been seen running",
			engine.State{Containers: []engine.Container{web("s1", two, engine.Restarting)}, Images: images(one, two)},
			target(wantWeb("s1", two)), nil,
		},
		{
			"then the old image goes",
			engine.State{Containers: []engine.Container{web("s1", two, engine.Running)}, Images: images(one, two)},
			target(wantWeb("s1", two)), []Step{RemoveImage{one}},
		},
		{
			"but not an image that somebody else brought from a registry the device does not run from",
			engine.State{Containers: []engine.Container{web("s1", two, engine.Running)}, Images: images("other/v2/"+strings.Repeat("0", 32)+"@sha256:z", two)},
			target(wantWeb("s1", two)), nil,
		},
		{
			"one service whose image does not come keeps all of the old release up",
			engine.State{Containers: []engine.Container{db, web("s1", one, engine.Running)}, Images: images(one, two)},
			target(Service{Name: "db", Container: container("db", "s", ref(3, "three"), "")}, wantWeb("s1", two)),
			[]Step{Fetch{ref(3, "three"), one}},
		},
		{
			"and what a crash left down comes up again meanwhile",
			engine.State{Containers: []engine.Container{db, web("s1", one, engine.Exited)}, Images: images(one)},
			target(wantDB, wantWeb("s1", two)), []Step{Fetch{two, one}, Start{"aaa", "web", oldName}},
		},
		{
			"a changed variable concerns its own service alone",
			engine.State{Containers: []engine.Container{db, web("s1", one, engine.Running)}, Images: images(one)},
			target(wantDB, wantWeb("s2", one)), []Step{Create{"aaa", "web", "web_s2_sha256:one", one}},
		},
		{
			"the same content under another name is neither fetched nor restarted",
			engine.State{Containers: []engine.Container{web("s1", one, engine.Running)}, Images: images(one)},
			target(wantWeb("s1", ref(9, "one"))), nil,
		},
		{
			"and a container can be made from it",
			engine.State{Images: images(one)},
			target(wantWeb("s1", ref(9, "one"))), []Step{Create{"aaa", "web", oldName, one}},
		},
		{
			"kill-then-download stops first", engine.State{Containers: []engine.Container{web("s1", one, engine.Running)}, Images: images(one)},
			target(first(wantWeb("s1", two), KillThenDownload)), []Step{Stop{"aaa", "web", oldName, 0}},
		},
		{
			"then downloads", engine.State{Containers: []engine.Container{web("s1", one, engine.Exited)}, Images: images(one)},
			target(first(wantWeb("s1", two), KillThenDownload)), []Step{Fetch{two, one}, Remove{"aaa", "web", oldName}},
		},
		{
			"delete-then-download removes the container first", engine.State{Containers: []engine.Container{web("s1", one, engine.Exited)}, Images: images(one)},
			target(first(wantWeb("s1", two), DeleteThenDownload)), []Step{Remove{"aaa", "web", oldName}},
		},
		{
			"then the image, then downloads", engine.State{Images: images(one)},
			target(first(wantWeb("s1", two), DeleteThenDownload)), []Step{RemoveImage{one}, Fetch{two, ""}},
		},
		{
			"a fetch has the image of the newest predecessor for its base",
			engine.State{Containers: []engine.Container{aged(web("s1", one, engine.Exited), 2), aged(web("s2", ref(4, "four"), engine.Exited), 3)}, Images: images(one, ref(4, "four"))},
			target(wantWeb("s1", two)), []Step{Fetch{two, ref(4, "four")}, Start{"aaa", "web", "web_s2_sha256:four"}},
		},
		{
			"else one of its repository",
			engine.State{Images: images(one, ref(2, "six"), ref(2, "five"))},
			target(wantWeb("s1", two)), []Step{Fetch{two, ref(2, "five")}},
		},
		{
			"and none of another registry, nor one that is to go before it comes",
			engine.State{
				Containers: []engine.Container{web("s1", "other/v2/"+strings.Repeat("0", 32)+"@sha256:z", engine.Running)},
				Images:     images("other/v2/"+strings.Repeat("0", 32)+"@sha256:z", ref(3, "six")),
			},
			target(wantWeb("s1", two), Service{Name: "db", Container: container("db", "s", ref(3, "three"), ""), Strategy: DeleteThenDownload}),
			[]Step{RemoveImage{ref(3, "six")}, Fetch{two, ""}, Fetch{ref(3, "three"), ""}},
		},
		{
			"two services with one image fetch it once",
			engine.State{Containers: []engine.Container{db, web("s1", ref(4, "four"), engine.Running)}, Images: images(one, ref(4, "four"))},
			target(Service{Name: "db", Container: container("db", "s", two, "")}, wantWeb("s1", two)), []Step{Fetch{two, one}},
		},
		{
			"what depends on another starts after it",
			engine.State{Containers: []engine.Container{container("db", "s", one, engine.Created), web("s1", one, engine.Created)}, Images: images(one)},
			target(wantDB, Service{Name: "web", Container: web("s1", one, ""), DependsOn: []string{"db"}}),
			[]Step{Start{"aaa", "db", db.Name}},
		},
		{
			"a circle of dependencies starts all the same",
			engine.State{Containers: []engine.Container{web("s1", one, engine.Created)}, Images: images(one)},
			target(Service{Name: "web", Container: web("s1", one, ""), DependsOn: []string{"web"}}),
			[]Step{Start{"aaa", "web", oldName}},
		},
		{
			"a service that should not run is made and not started",
			engine.State{Images: images(one)},
			target(Service{Name: "web", Container: web("s1", one, ""), Stopped: true}), []Step{Create{"aaa", "web", oldName, one}},
		},
		{
			"and stopped if it runs",
			engine.State{Containers: []engine.Container{web("s1", one, engine.Running)}, Images: images(one)},
			target(Service{Name: "web", Container: web("s1", one, ""), Stopped: true}), []Step{Stop{"aaa", "web", oldName, 0}},
		},
		{
			"one that ended by itself is made anew, to be sure that it starts once it should",
			engine.State{Containers: []engine.Container{once(web("s1", one, engine.Exited))}, Images: images(one)},
			target(Service{Name: "web", Container: once(web("s1", one, "")), Stopped: true}), []Step{Remove{"aaa", "web", oldName}},
		},
		{
			"one that ended by itself and should not be restarted is left alone",
			engine.State{Containers: []engine.Container{once(web("s1", one, engine.Exited))}, Images: images(one)},
			target(Service{Name: "web", Container: once(web("s1", one, ""))}), nil,
		},
		{
			"a service that the release no longer has goes",
			engine.State{Containers: []engine.Container{db, web("s1", one, engine.Running)}, Images: images(one)},
			target(wantDB), []Step{Stop{"aaa", "web", oldName, 0}},
		},
		{
			"an app without a release keeps its volumes and nothing else",
			engine.State{
				Containers: []engine.Container{web("s1", one, engine.Exited)},
				Volumes:    []engine.Volume{{Name: "0_data", Labels: labels("aaa", "", "")}},
			},
			target(), []Step{Remove{"aaa", "web", oldName}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.step, Next(State{State: tt.cur}, tt.want)); d != "" {
				t.Errorf("steps differ (-want +got):\n%s", d)
			}
		})
	}
}

func TestAFetchNobodyWantsIsCancelled(t *testing.T) {
	one, two := ref(1, "one"), ref(2, "two")
	cur := State{Fetching: map[string]bool{one: true, two: true}}
	got := Next(cur, target(Service{Name: "web", Container: container("web", "s", two, "")}))
	if d := cmp.Diff([]Step{Cancel{one}}, got); d != "" {
		t.Error(d)
	}
}

func TestAServiceInACircleOfDependenciesDoesNotWaitForItself(t *testing.T) {
	one := ref(1, "one")
	a, b := container("a", "s", one, engine.Created), container("b", "s", one, engine.Created)
	cur := State{State: engine.State{Containers: []engine.Container{a, b}, Images: images(one)}}
	got := Next(cur, target(Service{Name: "a", Container: a, DependsOn: []string{"b"}}, Service{Name: "b", Container: b, DependsOn: []string{"a"}}))
	if d := cmp.Diff([]Step{Start{"aaa", "a", a.Name}, Start{"aaa", "b", b.Name}}, got); d != "" {
		t.Error(d)
	}
}

func TestAnImageWhoseFetchIsUnderWayIsNotRemoved(t *testing.T) {
	old := ref(2, "two")
	web := container("web", "s", ref(1, "one"), engine.Running)
	cur := State{
		State:    engine.State{Containers: []engine.Container{web}, Images: images(web.Image, old)},
		Fetching: map[string]bool{old: true},
	}
	want := target(Service{Name: "web", Container: web})
	if d := cmp.Diff([]Step{Cancel{old}}, Next(cur, want)); d != "" {
		t.Errorf("while it is fetched (-want +got):\n%s", d)
	}
	cur.Fetching = nil
	if d := cmp.Diff([]Step{RemoveImage{old}}, Next(cur, want)); d != "" {
		t.Errorf("once the fetch has ended (-want +got):\n%s", d)
	}
}
