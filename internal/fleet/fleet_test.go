package fleet_test

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/wire"
)

func TestAFriendlyNameIsAnAdjectiveAndANounThatADeviceMayHave(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[string]bool{}
	for range 2000 {
		n := fleet.RandomName(r.IntN, 0)
		if strings.Count(n, "-") != 1 || strings.ToLower(n) != n || fleet.CheckDeviceName(n) != nil {
			t.Fatalf("%q is not a friendly name", n)
		}
		seen[n] = true
	}
	if len(seen) < 1800 {
		t.Errorf("2000 names were only %d different ones", len(seen))
	}
}

func TestANameThatIsOftenTakenGetsANumber(t *testing.T) {
	n := fleet.RandomName(rand.New(rand.NewPCG(1, 2)).IntN, 4)
	if !strings.ContainsAny(n, "23456789") {
		t.Errorf("the fifth try is %q and will collide like the others", n)
	}
}

func TestNamesThatMakeNoSenseAreRefusedWithASentence(t *testing.T) {
	for what, err := range map[string]error{
		"a short fleet name":         fleet.CheckFleetName("abc"),
		"a fleet name with a slash":  fleet.CheckFleetName("a/bcdef"),
		"an empty device name":       fleet.CheckDeviceName("  "),
		"a device name of two lines": fleet.CheckDeviceName("a\nb"),
		"a long device name":         fleet.CheckDeviceName(strings.Repeat("x", 256)),
		"an upper-case uuid":         fleet.CheckDeviceUUID(strings.Repeat("A", 32)),
		"a uuid of 40 digits":        fleet.CheckDeviceUUID(strings.Repeat("a", 40)),
		"a reserved variable":        fleet.CheckVariable("BALENA_UUID", "x"),
		"a variable with a dash":     fleet.CheckVariable("A-B", "x"),
		"a variable with a NUL":      fleet.CheckVariable("A", "x\x00"),
		"a plain config variable":    fleet.CheckConfigVariable("LOG_LEVEL", "x"),
		"a tag with a space":         fleet.CheckTag("a b", "x"),
	} {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := fleet.CheckVariable("A", strings.Repeat("x", fleet.MaxVariable+1)); !fault.Is(err, fault.TooLarge) {
		t.Errorf("an endless value: %v", err)
	}
	for what, err := range map[string]error{
		"fleet":    fleet.CheckFleetName("remote_Monitor-2"),
		"device":   fleet.CheckDeviceName("Back porch (été)"),
		"uuid 32":  fleet.CheckDeviceUUID(strings.Repeat("a", 32)),
		"uuid 62":  fleet.CheckDeviceUUID(strings.Repeat("0", 62)),
		"variable": fleet.CheckVariable("_LOG_LEVEL2", ""),
		"config":   fleet.CheckConfigVariable("BALENA_HOST_CONFIG_gpu_mem", "16"),
		"tag":      fleet.CheckTag("site", ""),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAUUIDIsOfVersionFour(t *testing.T) {
	u := fleet.NewUUID([16]byte{0: 0xff, 6: 0xff, 8: 0xff})
	if len(u) != 32 || u[12] != '4' || u[16] != 'b' {
		t.Errorf("uuid is %s", u)
	}
}

func TestAVersionIsReadAsSemverSays(t *testing.T) {
	for text, want := range map[string]fleet.Version{
		"1.2.3":            {Major: 1, Minor: 2, Patch: 3},
		"v0.10.0-rc.1+b-7": {Minor: 10, Prerelease: "rc.1", Build: "b-7"},
	} {
		got, err := fleet.ParseVersion(text)
		if err != nil || got != want {
			t.Errorf("%s is read as %+v (%v)", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "1.2", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.9999999999", "a.b.c"} {
		if _, err := fleet.ParseVersion(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q was taken for a version (%v)", text, err)
		}
	}
}

func TestARawVersionCarriesTheRevisionAsBalenaWritesIt(t *testing.T) {
	v := fleet.Version{Major: 1, Minor: 2, Patch: 3, Prerelease: "rc1", Build: "abc"}
	for revision, want := range map[int64]string{0: "1.2.3-rc1+abc", 3: "1.2.3-rc1+abc.rev3"} {
		if got := v.Raw(revision); got != want {
			t.Errorf("revision %d is %s, want %s", revision, got, want)
		}
	}
	if got := (fleet.Version{Variant: "dev"}).Raw(2); got != "0.0.0+rev2.dev" {
		t.Errorf("with a variant it is %s", got)
	}
	if got := (fleet.Version{Build: "rev2"}).Raw(2); got != "0.0.0+rev2" {
		t.Errorf("a revision that is there already is repeated: %s", got)
	}
	if got := (fleet.Version{Major: 1}).RawDraft(1700000000000); got != "1.0.0-1700000000000" {
		t.Errorf("a draft is %s", got)
	}
}

func TestAVersionSurvivesWritingAndReading(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 999_999_999)
		part := rapid.StringMatching(`[a-z][a-z0-9]{0,5}(\.[a-z][a-z0-9]{0,5})?`)
		want := fleet.Version{Major: n.Draw(t, "major"), Minor: n.Draw(t, "minor"), Patch: n.Draw(t, "patch"),
			Prerelease: rapid.OneOf(rapid.Just(""), part).Draw(t, "prerelease"), Build: rapid.OneOf(rapid.Just(""), part).Draw(t, "build")}
		got, err := fleet.ParseVersion(want.String())
		if err != nil || got != want {
			t.Fatalf("%s came back as %+v (%v)", want, got, err)
		}
	})
}

func parts() fleet.Parts {
	return fleet.Parts{
		Device:  fleet.Device{ID: 7, UUID: strings.Repeat("a", 32), Name: "calm-otter"},
		Fleet:   fleet.Fleet{ID: 5, Name: "porch", Slug: "admin/porch", UUID: strings.Repeat("f", 32)},
		Release: &fleet.Release{ID: 9, Commit: strings.Repeat("c", 32), Composition: []byte(`{"services":{"main":{"restart":"always"}},"volumes":{"data":null}}`)},
		Services: []fleet.Part{{
			Image:            fleet.Image{ID: 3, Service: 2, ServiceName: "main", Location: "Host.example/v2/00", Digest: "sha256:11"},
			Labels:           map[string]string{"io.balena.features.dbus": "1"},
			ImageVariables:   map[string]string{"A": "image", "B": "image", "C": "image", "D": "image", "E": "image"},
			ServiceVariables: map[string]string{"C": "service", "D": "service", "E": "service"},
			DeviceVariables:  map[string]string{"E": "device service"},
		}},
		FleetVariables:  map[string]string{"B": "fleet", "C": "fleet", "D": "fleet", "E": "fleet"},
		DeviceVariables: map[string]string{"D": "device", "E": "device"},
		FleetConfig:     map[string]string{"BALENA_HOST_CONFIG_gpu_mem": "16", "BALENA_UI_X": "1", "RESIN_SUPERVISOR_POLL_INTERVAL": "5"},
		DeviceConfig:    map[string]string{"BALENA_HOST_CONFIG_gpu_mem": "32"},
	}
}

// target is the target of parts that make one.
func target(t *testing.T, p fleet.Parts) wire.DeviceTarget {
	t.Helper()
	got, err := fleet.Target(p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestATargetThatCannotBeComposedIsAnErrorAndNotAnEmptyOne(t *testing.T) {
	p := parts()
	p.Release.Composition = []byte("{")
	if got, err := fleet.Target(p); err == nil {
		t.Errorf("a device would be told to stop everything: %+v", got)
	}
}

func TestATargetIsWhatTheProtocolSays(t *testing.T) {
	got, err := json.MarshalIndent(target(t, parts()), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "name": "calm-otter",
  "config": {
    "BALENA_HOST_CONFIG_gpu_mem": "32",
    "RESIN_SUPERVISOR_DELTA": "1",
    "RESIN_SUPERVISOR_DELTA_VERSION": "3",
    "RESIN_SUPERVISOR_INSTANT_UPDATE_TRIGGER": "true",
    "RESIN_SUPERVISOR_POLL_INTERVAL": "10000",
    "RESIN_SUPERVISOR_VPN_CONTROL": "false"
  },
  "apps": {
    "ffffffffffffffffffffffffffffffff": {
      "id": 5,
      "name": "porch",
      "slug": "admin/porch",
      "is_host": false,
      "class": "fleet",
      "releases": {
        "cccccccccccccccccccccccccccccccc": {
          "id": 9,
          "services": {
            "main": {
              "id": 2,
              "image_id": 3,
              "image": "host.example/v2/00@sha256:11",
              "environment": {
                "A": "image",
                "B": "fleet",
                "C": "service",
                "D": "device",
                "E": "device service"
              },
              "labels": {
                "io.balena.features.dbus": "1"
              },
              "composition": {
                "restart": "always"
              }
            }
          },
          "volumes": {
            "data": {}
          },
          "networks": {}
        }
      }
    }
  }
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestADeviceWithoutAReleaseKeepsItsFleetAndRunsNothing(t *testing.T) {
	p := parts()
	p.Release, p.Services = nil, nil
	app := target(t, p).Apps[p.Fleet.UUID]
	if app.Releases == nil || len(app.Releases) != 0 {
		t.Errorf("releases are %v, want an empty object", app.Releases)
	}
}

func TestConfigVariablesStandForLabelsThatAServiceLacks(t *testing.T) {
	p := parts()
	p.FleetConfig["RESIN_SUPERVISOR_UPDATE_STRATEGY"] = "kill-then-download"
	label := func() string {
		return target(t, p).Apps[p.Fleet.UUID].Releases[p.Release.Commit].Services["main"].Labels["io.resin.update.strategy"]
	}
	if got := label(); got != "kill-then-download" {
		t.Errorf("the label is %q", got)
	}
	p.Services[0].Labels["io.balena.update.strategy"] = "hand-over"
	if got := label(); got != "" {
		t.Errorf("the service has its own strategy, yet %q was added", got)
	}
}

func TestATargetTakesNothingFromItsCallerAndIsAFunction(t *testing.T) {
	p := parts()
	before, _ := json.Marshal(p)
	one, two := target(t, p), target(t, p)
	one.Config["X"] = "changed"
	one.Apps[p.Fleet.UUID].Releases[p.Release.Commit].Services["main"].Environment["A"] = "changed"
	if after, _ := json.Marshal(p); string(before) != string(after) {
		t.Error("the parts were changed")
	}
	if diff := cmp.Diff(two, target(t, p)); diff != "" {
		t.Error(diff)
	}
	if _, err := json.Marshal(wire.Target{p.Device.UUID: two}); err != nil {
		t.Error(err)
	}
}

func TestAPinGoesBeforeTheFleetsTarget(t *testing.T) {
	for _, c := range []struct{ pin, target, want int64 }{{0, 0, 0}, {0, 4, 4}, {3, 4, 3}, {3, 0, 3}} {
		if got := fleet.Follows(c.pin, c.target); got != c.want {
			t.Errorf("pin %d, target %d: follows %d, want %d", c.pin, c.target, got, c.want)
		}
	}
}

func TestADeviceIsOnlineForOneAndAHalfPollsAndALittle(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for after, want := range map[time.Duration]bool{0: true, 104 * time.Second: true, 106 * time.Second: false} {
		if got := fleet.Online(now.Add(-after), 60_000, now); got != want {
			t.Errorf("%s after it was heard of: online %v", after, got)
		}
	}
	if fleet.Online(time.Time{}, 60_000, now) {
		t.Error("a device that was never heard of is online")
	}
}

func TestABoardRunsTheImagesOfSmallerOnes(t *testing.T) {
	for _, c := range []struct {
		device, image string
		want          bool
	}{{"aarch64", "aarch64", true}, {"aarch64", "armv7hf", true}, {"aarch64", "rpi", true}, {"armv7hf", "aarch64", false}, {"rpi", "armv7hf", false}, {"amd64", "aarch64", false}} {
		if got := fleet.MayRun(c.device, c.image); got != c.want {
			t.Errorf("%s on %s: %v", c.image, c.device, got)
		}
	}
}
