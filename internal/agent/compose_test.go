package agent

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/plan"
	"github.com/dunlin/dunlin/internal/wire"
)

func TestACompositionBecomesAContainer(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want engine.Container
	}{
		"nothing":                     {``, engine.Container{}},
		"null":                        {`null`, engine.Container{}},
		"what nobody knows":           {`{"build":".","container_name":"x","logging":{"driver":"none"}}`, engine.Container{}},
		"a command line":              {`{"command":"sh -c \"echo 'a b' $HOME\" x\\ y"}`, engine.Container{Command: []string{"sh", "-c", "echo 'a b' $HOME", "x y"}}},
		"a command in words":          {`{"command":["a","b c",7],"entrypoint":["/e"]}`, engine.Container{Command: []string{"a", "b c", "7"}, Entrypoint: []string{"/e"}}},
		"an entrypoint taken away":    {`{"entrypoint":[]}`, engine.Container{Entrypoint: []string{}}},
		"environment as a list":       {`{"environment":["A=b=c","D"]}`, engine.Container{Env: []string{"A=b=c", "D="}}},
		"environment as a map":        {`{"environment":{"N":null}}`, engine.Container{Env: []string{"N="}}},
		"camel and snake":             {`{"capAdd":["NET_ADMIN"],"cap_drop":["ALL"],"readOnly":true,"workingDir":"/w"}`, engine.Container{CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}, ReadOnly: true, WorkingDir: "/w"}},
		"truths as strings":           {`{"privileged":"true","init":1,"tty":"no"}`, engine.Container{Privileged: true, Init: true}},
		"a user as a number":          {`{"user":1000}`, engine.Container{User: "1000"}},
		"labels as a list":            {`{"labels":["a=b"]}`, engine.Container{Labels: map[string]string{"a": "b"}}},
		"sizes":                       {`{"mem_limit":"512m","mem_reservation":1024,"shm_size":"1.5GB"}`, engine.Container{Memory: 512 << 20, MemoryReservation: 1024, ShmSize: 3 << 29}},
		"sizes with units":            {`{"mem_limit":"64KiB","shm_size":"7b"}`, engine.Container{Memory: 64 << 10, ShmSize: 7}},
		"numbers":                     {`{"cpus":"0.5","cpu_shares":512,"cpuQuota":50000,"pids_limit":"100","oom_score_adj":-500,"cpuset":"0,1"}`, engine.Container{CPUs: 0.5, CPUShares: 512, CPUQuota: 50000, PidsLimit: 100, OOMScoreAdj: -500, Cpuset: "0,1"}},
		"durations":                   {`{"stop_grace_period":"1m30s"}`, engine.Container{StopGrace: 90 * time.Second}},
		"a duration in seconds":       {`{"stopGracePeriod":5}`, engine.Container{StopGrace: 5 * time.Second}},
		"restart":                     {`{"restart":"on-failure:3"}`, engine.Container{Restart: "on-failure:3"}},
		"an unquoted no":              {`{"restart":false}`, engine.Container{Restart: "no"}},
		"one address":                 {`{"dns":"1.1.1.1","dns_search":["a","b"],"tmpfs":"/run"}`, engine.Container{DNS: []string{"1.1.1.1"}, DNSSearch: []string{"a", "b"}, Tmpfs: []string{"/run"}}},
		"hosts":                       {`{"extra_hosts":["a:1.2.3.4","b=::1"]}`, engine.Container{ExtraHosts: []string{"a:1.2.3.4", "b:::1"}}},
		"hosts as a map":              {`{"extraHosts":{"a":"1.2.3.4"}}`, engine.Container{ExtraHosts: []string{"a:1.2.3.4"}}},
		"devices":                     {`{"devices":["/dev/i2c-1",{"source":"/dev/a","target":"/dev/b","permissions":"r"},{"source":"/dev/c"}]}`, engine.Container{Devices: []string{"/dev/i2c-1", "/dev/a:/dev/b:r", "/dev/c:/dev/c:rwm"}}},
		"limits":                      {`{"ulimits":{"nproc":65535,"nofile":{"soft":20000,"hard":40000}}}`, engine.Container{Ulimits: []engine.Ulimit{{Name: "nofile", Soft: 20000, Hard: 40000}, {Name: "nproc", Soft: 65535, Hard: 65535}}}},
		"sysctls":                     {`{"sysctls":{"net.core.somaxconn":1024}}`, engine.Container{Sysctls: map[string]string{"net.core.somaxconn": "1024"}}},
		"a port":                      {`{"ports":["80",8080]}`, engine.Container{Ports: []engine.Port{{Container: 80, Protocol: "tcp"}, {Container: 8080, Protocol: "tcp"}}}},
		"ports":                       {`{"ports":["8080:80/udp","127.0.0.1:1:2","[::1]:3:4"]}`, engine.Container{Ports: []engine.Port{{Host: 8080, Container: 80, Protocol: "udp"}, {HostIP: "127.0.0.1", Host: 1, Container: 2, Protocol: "tcp"}, {HostIP: "::1", Host: 3, Container: 4, Protocol: "tcp"}}}},
		"a range of ports":            {`{"ports":["9000-9001:80-81"]}`, engine.Container{Ports: []engine.Port{{Host: 9000, Container: 80, Protocol: "tcp"}, {Host: 9001, Container: 81, Protocol: "tcp"}}}},
		"a port in full":              {`{"ports":[{"mode":"ingress","target":80,"published":"8080","protocol":"tcp","host_ip":"1.2.3.4"}]}`, engine.Container{Ports: []engine.Port{{HostIP: "1.2.3.4", Host: 8080, Container: 80, Protocol: "tcp"}}}},
		"volumes":                     {`{"volumes":["data:/data","cache:/c:ro"]}`, engine.Container{Mounts: []engine.Mount{{Volume: "data", Target: "/data"}, {Volume: "cache", Target: "/c", ReadOnly: true}}}},
		"volumes in full":             {`{"volumes":[{"type":"volume","source":"data","target":"/d","readOnly":true,"volume":{}},{"type":"tmpfs","target":"/t","tmpfs":{"size":"1m","mode":1023}}]}`, engine.Container{Mounts: []engine.Mount{{Volume: "data", Target: "/d", ReadOnly: true}}, Tmpfs: []string{"/t:size=1048576,mode=1777"}}},
		"a folder of the host":        {`{"volumes":["/etc:/host"]}`, engine.Container{}},
		"networks":                    {`{"networks":["b","a"]}`, engine.Container{Networks: []engine.Endpoint{{Network: "a"}, {Network: "b"}}}},
		"networks in full":            {`{"networks":{"a":{"aliases":["x"],"ipv4_address":"10.0.0.2"},"b":null}}`, engine.Container{Networks: []engine.Endpoint{{Network: "a", Aliases: []string{"x"}, IPv4: "10.0.0.2"}, {Network: "b"}}}},
		"a health check":              {`{"healthcheck":{"test":"curl localhost","interval":"30s","timeout":"5s","retries":3,"startPeriod":"1m"}}`, engine.Container{Healthcheck: &engine.Healthcheck{Test: []string{"CMD-SHELL", "curl localhost"}, Interval: 30 * time.Second, Timeout: 5 * time.Second, Retries: 3, StartPeriod: time.Minute}}},
		"a health check in words":     {`{"healthcheck":{"test":["CMD","true"]}}`, engine.Container{Healthcheck: &engine.Healthcheck{Test: []string{"CMD", "true"}}}},
		"a health check switched off": {`{"healthcheck":{"disable":true}}`, engine.Container{Healthcheck: &engine.Healthcheck{Test: []string{"NONE"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := compose(json.RawMessage(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got.container); d != "" {
				t.Errorf("container differs (-want +got):\n%s", d)
			}
		})
	}
}

func TestACompositionThatCannotBeUnderstoodSaysWhere(t *testing.T) {
	for in, want := range map[string]string{
		`[]`:                               "composition: ",
		`{"ports":["http"]}`:               `ports: "http" is not a port`,
		`{"ports":["1-3:1-2"]}`:            "are not equally many",
		`{"ports":["1-65535","1-65535"]}`:  "more than 4096 ports",
		`{"ports":["80/icmp"]}`:            `no protocol "icmp"`,
		`{"mem_limit":"lots"}`:             `mem_limit: "lots" is not a size`,
		`{"mem_limit":"1e30"}`:             "is not a size",
		`{"stop_grace_period":"soon"}`:     `"soon" is not a duration`,
		`{"restart":"sometimes"}`:          `restart: no policy "sometimes"`,
		`{"restart":"on-failure:x"}`:       "no policy",
		`{"command":"echo 'a"}`:            "ends in the middle of a quotation",
		`{"privileged":"perhaps"}`:         "neither true nor false",
		`{"cpu_shares":1.5}`:               "not a whole number",
		`{"healthcheck":{"retries":"x"}}`:  "healthcheck: retries: ",
		`{"environment":[["a"]]}`:          "environment: want one value",
		`{"volumes":["data"]}`:             `"data" is not VOLUME:PATH`,
		`{"volumes":[{"source":"data"}]}`:  "has no target",
		`{"networks":{"a":{"aliases":5e}}`: "composition: ",
	} {
		if _, err := compose(json.RawMessage(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %q", in, err, want)
		}
	}
}

var porch = facts{
	uuid: deviceUUID, deviceType: "raspberrypi4-64", arch: "aarch64", name: "porch", osVersion: "balenaOS 6.0.0",
	apiKey: deviceKey, apiURL: "https://api.test", socket: "/run/docker.sock",
}

// one translates a target with one service and returns what is made of it.
func one(t *testing.T, s wire.Service) engine.Container {
	t.Helper()
	return translated(t, release(commitA, map[string]wire.Service{"main": s})).Services[0].Container
}

func translated(t *testing.T, d wire.DeviceTarget) plan.App {
	t.Helper()
	out := translate(d, porch)
	for _, r := range out.rejected {
		t.Fatalf("rejected: %v", r.err)
	}
	return out.plan.Apps[0]
}

func TestAServiceIsMadeAsBalenaMakesIt(t *testing.T) {
	app := translated(t, release(commitA, map[string]wire.Service{"main": {
		ID: 21, ImageID: 121, Image: image(1), Environment: map[string]string{"FOO": "bar"},
		Labels:      map[string]string{"io.resin.features.dbus": "1", "mine": "x", engine.LabelSpec: "forged"},
		Composition: json.RawMessage(`{"volumes":["data:/data"],"environment":["FOO=old","BAZ=1"]}`),
	}}))
	got := app.Services[0].Container
	if !strings.HasPrefix(got.Name, "main_") || len(got.Name) != len("main_")+12 || len(got.Labels[engine.LabelSpec]) != 32 {
		t.Errorf("the container is called %q and its spec %q", got.Name, got.Labels[engine.LabelSpec])
	}
	spec := got.Labels[engine.LabelSpec]
	want := engine.Container{
		Name: got.Name, Image: image(1), TTY: true, Restart: "always", IPCMode: "shareable",
		Labels: map[string]string{
			engine.LabelSupervised: "true", engine.LabelAppID: "7", engine.LabelAppUUID: fleetUUID,
			engine.LabelServiceID: "21", engine.LabelServiceName: "main", engine.LabelImage: image(1), engine.LabelImageID: "121",
			engine.LabelRelease: commitA, engine.LabelSpec: spec, "io.balena.features.dbus": "1", "mine": "x",
		},
		Networks: []engine.Endpoint{{Network: fleetUUID + "_default", Aliases: []string{"main"}}},
		Mounts: []engine.Mount{
			{Volume: "7_data", Target: "/data"}, {Host: "/run/dbus", Target: "/host/run/dbus"},
			{Host: "/run/dunlin-agent/services/7/main", Target: "/tmp/balena"},
			{Host: "/run/dunlin-agent/services/7/main", Target: "/tmp/resin"},
		},
		Env: []string{
			"BALENA=1", "BALENA_APP_ID=7", "BALENA_APP_LOCK_PATH=/tmp/balena/updates.lock", "BALENA_APP_NAME=fleet1",
			"BALENA_APP_UUID=" + fleetUUID, "BALENA_DEVICE_ARCH=aarch64", "BALENA_DEVICE_NAME_AT_INIT=porch",
			"BALENA_DEVICE_TYPE=raspberrypi4-64", "BALENA_DEVICE_UUID=" + deviceUUID, "BALENA_HOST_OS_VERSION=balenaOS 6.0.0",
			"BALENA_SERVICE_HANDOVER_COMPLETE_PATH=/tmp/balena/handover-complete", "BALENA_SERVICE_NAME=main", "BAZ=1", "FOO=bar",
			"RESIN=1", "RESIN_APP_ID=7", "RESIN_APP_LOCK_PATH=/tmp/balena/updates.lock", "RESIN_APP_NAME=fleet1",
			"RESIN_APP_UUID=" + fleetUUID, "RESIN_DEVICE_ARCH=aarch64", "RESIN_DEVICE_NAME_AT_INIT=porch",
			"RESIN_DEVICE_TYPE=raspberrypi4-64", "RESIN_DEVICE_UUID=" + deviceUUID, "RESIN_HOST_OS_VERSION=balenaOS 6.0.0",
			"RESIN_SERVICE_HANDOVER_COMPLETE_PATH=/tmp/balena/handover-complete", "RESIN_SERVICE_KILL_ME_PATH=/tmp/balena/handover-complete",
			"RESIN_SERVICE_NAME=main", "USER=root",
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("container differs (-want +got):\n%s", d)
	}
	if len(app.Networks) != 1 || app.Networks[0].Name != fleetUUID+"_default" || len(app.Volumes) != 1 || app.Volumes[0].Name != "7_data" {
		t.Errorf("networks %+v and volumes %+v", app.Networks, app.Volumes)
	}
}

func TestFeaturesComeByLabel(t *testing.T) {
	c := one(t, wire.Service{Image: image(1), Labels: map[string]string{
		"io.balena.features.balena-socket": "1", "io.balena.features.balena-api": "1", "io.balena.features.gpu": "true",
		"io.balena.features.sysfs": "0", "io.balena.features.kernel-modules": "1",
	}})
	for _, e := range []string{"DOCKER_HOST=unix:///host/run/balena-engine.sock", "BALENA_API_KEY=" + deviceKey, "RESIN_API_URL=https://api.test"} {
		if !slices.Contains(c.Env, e) {
			t.Errorf("the environment has no %s", e)
		}
	}
	var targets []string
	for _, m := range c.Mounts {
		targets = append(targets, m.Target)
	}
	if d := cmp.Diff([]string{"/host/run/balena-engine.sock", "/lib/modules", "/tmp/balena", "/tmp/resin"}, targets); d != "" || !c.GPU {
		t.Errorf("mounts differ, or no GPU:\n%s", d)
	}
	plain := one(t, wire.Service{Image: image(1)})
	if slices.ContainsFunc(plain.Env, func(e string) bool { return strings.Contains(e, deviceKey) }) {
		t.Error("a service that did not ask has the device's key")
	}
}

func TestOnlyWhatMattersMakesAnotherContainer(t *testing.T) {
	base := wire.Service{ID: 21, ImageID: 121, Image: image(1), Environment: map[string]string{"FOO": "bar"}, Composition: json.RawMessage(`{"networks":["front"]}`)}
	of := func(commit string, change func(*wire.Service), networks string) engine.Container {
		s := base
		s.Environment = map[string]string{"FOO": "bar"}
		change(&s)
		d := release(commit, map[string]wire.Service{"main": s})
		r := d.Apps[fleetUUID].Releases[commit]
		r.Networks = map[string]json.RawMessage{"front": json.RawMessage(networks)}
		d.Apps[fleetUUID].Releases[commit] = r
		return translated(t, d).Services[0].Container
	}
	none := func(*wire.Service) {}
	first := of(commitA, none, `{}`)
	_, digest, _ := strings.Cut(image(1), "@")
	for name, same := range map[string]engine.Container{
		"a new release":                  of(commitB, none, `{}`),
		"another image id":               of(commitA, func(s *wire.Service) { s.ImageID = 7 }, `{}`),
		"the same content somewhere new": of(commitB, func(s *wire.Service) { s.Image = "reg.test/v2/00000000000000000000000000000077@" + digest }, `{}`),
	} {
		if same.Name != first.Name {
			t.Errorf("%s makes another container", name)
		}
	}
	for name, other := range map[string]engine.Container{
		"a variable":      of(commitA, func(s *wire.Service) { s.Environment["FOO"] = "baz" }, `{}`),
		"a label":         of(commitA, func(s *wire.Service) { s.Labels = map[string]string{"a": "b"} }, `{}`),
		"an image":        of(commitA, func(s *wire.Service) { s.Image = image(2) }, `{}`),
		"the composition": of(commitA, func(s *wire.Service) { s.Composition = json.RawMessage(`{"networks":["front"],"tty":false}`) }, `{}`),
		"its network":     of(commitA, none, `{"internal":true}`),
	} {
		if other.Name == first.Name {
			t.Errorf("%s makes no other container", name)
		}
	}
}

// The fingerprint of a container must not change with the agent, or an agent's update would restart every service.
func TestAFingerprintOutlivesTheAgent(t *testing.T) {
	c := engine.Container{
		Labels: map[string]string{"a": "b"}, Env: []string{"A=b"}, TTY: true, Restart: "always",
		Mounts: []engine.Mount{{Volume: "v", Target: "/v"}}, Networks: []engine.Endpoint{{Network: "n", Aliases: []string{"a"}}},
	}
	if got, want := fingerprint(c, "network"), "619494b14c5ef8ec21adb54edc30d3c7"; got != want {
		t.Errorf("the fingerprint is %s, was %s", got, want)
	}
}

func TestAServiceCanShareTheNetworkOfAnother(t *testing.T) {
	d := release(commitA, map[string]wire.Service{
		"vpn": service(1, image(1), ""), "app": service(2, image(2), `{"network_mode":"service:vpn"}`),
	})
	app := translated(t, d)
	vpn, joined := app.Services[1], app.Services[0]
	if joined.Container.NetworkMode != "container:"+vpn.Container.Name || !slices.Contains(joined.DependsOn, "vpn") || len(joined.Container.Networks) > 0 {
		t.Errorf("app is %+v", joined)
	}
	d.Apps[fleetUUID].Releases[commitA].Services["vpn"].Environment["FOO"] = "baz"
	if again := translated(t, d).Services[0]; again.Container.Name == joined.Container.Name {
		t.Error("another vpn makes no other app, which would keep the network of the old one")
	}
}

func TestAReleaseThatCannotRunIsRejectedAndFrozen(t *testing.T) {
	for want, services := range map[string]map[string]wire.Service{
		"shares a namespace with itself": {"a": service(1, image(1), `{"network_mode":"service:b"}`), "b": service(2, image(2), `{"ipc":"service:a"}`)},
		`there is no service "b"`:        {"a": service(1, image(1), `{"network_mode":"service:b"}`)},
		`there is no network mode "x"`:   {"a": service(1, image(1), `{"network_mode":"x"}`)},
		"cannot be a service":            {"../a": service(1, image(1), "")},
	} {
		out := translate(release(commitA, services), porch)
		if len(out.rejected) != 1 || !strings.Contains(out.rejected[0].err.Error(), want) || !out.plan.Apps[0].Frozen || len(out.plan.Apps[0].Services) > 0 {
			t.Errorf("want rejected with %q, got %+v", want, out.rejected)
		}
	}
}

func TestAFolderOfTheHostIsLeftOutAndSaid(t *testing.T) {
	out := translate(release(commitA, map[string]wire.Service{"main": service(1, image(1), `{"volumes":["/:/host"]}`)}), porch)
	if len(out.warnings) != 1 || !strings.Contains(out.warnings[0], `service main: the volume "/" at /host is not a named volume`) {
		t.Errorf("warnings are %q", out.warnings)
	}
}

func TestStrategiesAndStoppedServicesAreTakenOver(t *testing.T) {
	no := false
	s := service(1, image(1), "")
	s.Labels = map[string]string{"io.resin.update.strategy": "delete-then-download"}
	s.Running = &no
	got := translated(t, release(commitA, map[string]wire.Service{"main": s})).Services[0]
	if got.Strategy != plan.DeleteThenDownload || !got.Stopped {
		t.Errorf("the service is %+v", got)
	}
}

func TestTheHostsOwnReleaseIsNotTouched(t *testing.T) {
	d := release(commitA, nil)
	d.Apps["host"] = wire.App{ID: 9, IsHost: true, Releases: map[string]wire.Release{commitB: {Services: map[string]wire.Service{"hostapp": service(1, image(1), "")}}}}
	out := translate(d, porch)
	i := slices.IndexFunc(out.plan.Apps, func(a plan.App) bool { return a.UUID == "host" })
	if i < 0 || !out.plan.Apps[i].Frozen || len(out.plan.Apps[i].Services) > 0 {
		t.Errorf("apps are %+v", out.plan.Apps)
	}
}

// Whatever a server sends, the agent neither panics nor asks the engine for what it cannot name.
func FuzzTargetToContainers(f *testing.F) {
	for _, composition := range []string{
		`{"ports":["80:80"],"volumes":["data:/data"],"networks":{"a":{"aliases":["b"]}}}`, `{"network_mode":"service:main"}`,
		`{"healthcheck":{"test":["CMD"]},"ulimits":{"n":{"soft":1}},"depends_on":{"main":{}},"memLimit":"1g"}`, `5`,
	} {
		d := release(commitA, map[string]wire.Service{"main": service(21, image(1), composition), "db": service(22, image(2), "")})
		b, err := json.Marshal(wire.Target{deviceUUID: d})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"` + deviceUUID + `":{"apps":{"":{"releases":{"":{"services":{"":{}},"networks":{"":[]}}}}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := wire.ParseTarget(b, deviceUUID)
		if err != nil {
			return
		}
		out := translate(d, porch)
		for _, app := range out.plan.Apps {
			for _, s := range app.Services {
				if !named(s.Container.Name) || s.Container.Image == "" {
					t.Errorf("container %q from image %q", s.Container.Name, s.Container.Image)
				}
			}
		}
		again := translate(d, porch)
		if d := cmp.Diff(out.plan, again.plan); d != "" {
			t.Errorf("the same target made two plans:\n%s", d)
		}
		plan.Next(plan.State{}, out.plan)
	})
}

func FuzzComposition(f *testing.F) {
	f.Add([]byte(`{"command":"a 'b' \\c","ports":["1-3:4-6/udp",{"target":1}],"tmpfs":["/a"],"extra_hosts":{"a":"b"}}`))
	f.Add([]byte(`{"volumes":[{"type":"tmpfs","target":"/a","tmpfs":{"size":"1k","mode":"x"}}],"devices":[{"source":1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := compose(b); err == nil {
			fingerprint(s.container)
		}
	})
}
