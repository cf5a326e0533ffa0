package enginetest

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

var fieldChecks = []check{
	{"EveryFieldComesBackAsItWasSet", func(t *trial) {
		network, second, volume := t.name("net"), t.name("second"), t.name("vol")
		net := t.subnet()
		t.network(engine.Network{Name: network, IPAM: []engine.IPAMPool{{Subnet: net + ".0/24"}}})
		t.network(engine.Network{Name: second})
		t.volume(engine.Volume{Name: volume})
		seen := map[string]bool{}
		for i, set := range []func(c *engine.Container){
			func(c *engine.Container) {
				c.Entrypoint, c.Command = []string{"/probe", "out:a b"}, []string{"out:c", `out:"d"`}
				c.Env = []string{"A=1", "B=", "C=x=y"}
				c.WorkingDir, c.User, c.Hostname, c.Domainname = "/work", "1000:1000", "porch", "example.org"
				c.TTY, c.Init, c.ReadOnly = true, true, true
				c.CapAdd, c.CapDrop = []string{"CAP_NET_ADMIN", "CAP_SYS_TIME"}, []string{"ALL"}
				c.SecurityOpt, c.GroupAdd = []string{"no-new-privileges"}, []string{"20", "audio"}
				c.Devices = []string{"/dev/null:/dev/nothing:rw", "/dev/zero:/dev/zero:rwm"}
				c.DeviceCgroupRules = []string{"c 189:* rmw"}
				c.Mounts = []engine.Mount{
					{Volume: volume, Target: "/a", ReadOnly: true}, {Host: "/etc", Target: "/b", ReadOnly: true},
					{Volume: volume, Target: "/c"}, {Host: "/tmp", Target: "/d"},
				}
				c.Tmpfs = []string{"/run", "/var/tmp:size=1m,mode=1777"}
				c.Networks = []engine.Endpoint{{Network: network, Aliases: []string{"cam", "porch"}, IPv4: net + ".7"}, {Network: second, Aliases: []string{"eye"}}}
				c.Ports = []engine.Port{
					{Container: 53, Protocol: "udp", Host: 20053}, {Container: 80, Protocol: "tcp"},
					{Container: 80, Protocol: "tcp", HostIP: "127.0.0.1", Host: 20080},
				}
				c.ExtraHosts, c.DNS = []string{"gate:10.0.0.1", "hub:10.0.0.2"}, []string{"1.1.1.1", "9.9.9.9"}
				c.DNSSearch, c.DNSOpt = []string{"lan"}, []string{"ndots:1"}
				c.MACAddress = "02:42:0a:d5:4d:07"
				c.CgroupParent = "dunlin-test"
				c.Sysctls = map[string]string{"net.ipv4.ip_forward": "1"}
				c.Ulimits = []engine.Ulimit{{Name: "nofile", Soft: 1024, Hard: 2048}}
				c.Restart, c.StopSignal, c.StopGrace = "on-failure:4", "SIGINT", 25*time.Second
				c.Healthcheck = &engine.Healthcheck{
					Test: []string{"CMD", "/probe", "exit:0"}, Interval: time.Minute, Timeout: 5 * time.Second, StartPeriod: 2 * time.Second, Retries: 4,
				}
				c.Memory, c.MemoryReservation, c.ShmSize = 64<<20, 32<<20, 8<<20
				c.CPUs, c.CPUShares, c.Cpuset, c.PidsLimit, c.OOMScoreAdj = 0.5, 512, "0", 100, 300
			},
			func(c *engine.Container) {
				c.NetworkMode, c.PIDMode, c.IPCMode, c.UsernsMode = "host", "host", "host", "host"
				c.Privileged, c.GPU, c.Restart, c.CPUQuota = true, true, "unless-stopped", 50_000
				c.Memory, c.OOMKillDisable = 64<<20, true
			},
			func(c *engine.Container) { c.NetworkMode, c.IPCMode, c.Restart = "none", "shareable", "always" },
			func(c *engine.Container) { c.NetworkMode = "bridge" },
			func(c *engine.Container) { c.Healthcheck = &engine.Healthcheck{Test: []string{"NONE"}} },
			func(c *engine.Container) { c.Networks = []engine.Endpoint{{Network: network}} },
			func(c *engine.Container) { c.NetworkMode = "container:" + t.name("0") },
			func(c *engine.Container) { c.Labels["io.dunlin.other"] = "with spaces, \"quotes\" and ünïcode" },
		} {
			c := t.container(string(rune('0' + i)))
			set(&c)
			t.must(t.Create(t.Context(), c))
			got, _ := t.look(c.Name)
			t.sameFields(c, got, seen)
		}
		typ := reflect.TypeFor[engine.Container]()
		for i := range typ.NumField() {
			if f := typ.Field(i).Name; !seen[f] && !slices.Contains([]string{"ID", "Status", "Health", "ExitCode", "Restarts", "StartedAt", "FinishedAt", "CreatedAt"}, f) {
				t.Errorf("no container of this test sets %s", f)
			}
		}
	}},
	{"FieldsComeBackInTheirNormalForm", func(t *trial) {
		volume := t.name("vol")
		t.volume(engine.Volume{Name: volume})
		c := t.container("c")
		c.CapAdd, c.Devices = []string{"sys_time", "NET_ADMIN"}, []string{"/dev/zero", "/dev/null:/dev/nothing"}
		c.Mounts = []engine.Mount{{Volume: volume, Target: "/z"}, {Host: "/etc", Target: "/a"}}
		c.Ports = []engine.Port{{Container: 81, Host: 20081}, {Container: 80, Host: 20082}}
		c.Env, c.StopGrace = []string{"B=1", "A=2"}, 1500*time.Millisecond
		t.must(t.Create(t.Context(), c))
		got, _ := t.look(c.Name)
		c.CapAdd, c.Devices = []string{"CAP_NET_ADMIN", "CAP_SYS_TIME"}, []string{"/dev/zero:/dev/zero:rwm", "/dev/null:/dev/nothing:rwm"}
		slices.Reverse(c.Mounts)
		c.Ports = []engine.Port{{Container: 80, Protocol: "tcp", Host: 20082}, {Container: 81, Protocol: "tcp", Host: 20081}}
		c.Env, c.StopGrace = []string{"A=2", "B=1"}, 2*time.Second
		t.sameFields(c, got, map[string]bool{})
	}},
	{"WhatANetworkAndAVolumeAreComesBack", func(t *trial) {
		net := t.subnet()
		n := engine.Network{
			Name: t.name("n"), Labels: map[string]string{engine.LabelSupervised: "true", engine.LabelSpec: "7"}, Internal: true,
			Options: map[string]string{"com.docker.network.driver.mtu": "1400"},
			IPAM:    []engine.IPAMPool{{Subnet: net + ".0/24", Gateway: net + ".1", IPRange: net + ".128/25"}},
		}
		t.network(n)
		v := engine.Volume{
			Name: t.name("v"), Labels: map[string]string{engine.LabelSupervised: "true", engine.LabelSpec: "8"},
			DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"},
		}
		t.volume(v)
		plain := engine.Volume{Name: t.name("w")}
		t.volume(plain)
		s, err := t.Inspect(t.Context())
		t.must(err)
		if i := slices.IndexFunc(s.Networks, func(x engine.Network) bool { return x.Name == n.Name }); i < 0 || !reflect.DeepEqual(s.Networks[i], n) {
			t.Errorf("network %+v came back as %+v", n, s.Networks)
		}
		if i := slices.IndexFunc(s.Volumes, func(x engine.Volume) bool { return x.Name == v.Name }); i < 0 || !reflect.DeepEqual(s.Volumes[i], v) {
			t.Errorf("volume %+v came back as %+v", v, s.Volumes)
		}
		plain.Labels = map[string]string{engine.LabelSupervised: "true"}
		if i := slices.IndexFunc(s.Volumes, func(x engine.Volume) bool { return x.Name == plain.Name }); i < 0 || !reflect.DeepEqual(s.Volumes[i], plain) {
			t.Errorf("volume %+v came back as %+v", plain, s.Volumes)
		}
	}},
	{"WhatIsShownIsSortedByName", func(t *trial) {
		for _, of := range []string{"b", "c", "a"} {
			t.must(t.Create(t.Context(), t.container(of)))
			t.network(engine.Network{Name: t.name(of), IPAM: []engine.IPAMPool{{Subnet: t.subnet() + ".0/24"}}})
			t.volume(engine.Volume{Name: t.name(of)})
		}
		s, err := t.Inspect(t.Context())
		t.must(err)
		var got [3][]string
		for _, c := range s.Containers {
			got[0] = append(got[0], c.Name)
		}
		for _, n := range s.Networks {
			got[1] = append(got[1], n.Name)
		}
		for _, v := range s.Volumes {
			got[2] = append(got[2], v.Name)
		}
		for _, names := range got {
			if !slices.IsSorted(names) {
				t.Errorf("not sorted: %v", names)
			}
			names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, t.prefix) })
			if len(names) != 3 {
				t.Errorf("of a, b and c these are there: %v", names)
			}
		}
	}},
}

// sameFields says which of the fields that want sets got has not, and marks them as seen.
func (t *trial) sameFields(want, got engine.Container, seen map[string]bool) {
	t.Helper()
	w, g := reflect.ValueOf(want), reflect.ValueOf(got)
	for i := range w.NumField() {
		name := w.Type().Field(i).Name
		if w.Field(i).IsZero() {
			continue
		}
		seen[name] = true
		a, b := w.Field(i).Interface(), g.Field(i).Interface()
		if why, ok := t.fixture.Lost[name]; ok {
			if !reflect.DeepEqual(a, b) {
				t.Logf("%s does not come back from this engine: %s", name, why)
			}
			continue
		}
		switch name { // the image adds its own
		case "Labels":
			maps.DeleteFunc(got.Labels, func(k, _ string) bool { _, set := want.Labels[k]; return !set })
			b = got.Labels
		case "Env":
			b = slices.DeleteFunc(got.Env, func(v string) bool { return !slices.Contains(want.Env, v) })
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s was set to %+v and came back as %+v", name, a, b)
		}
	}
}
