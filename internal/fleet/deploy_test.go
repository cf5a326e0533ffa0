package fleet_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

func TestWhatADeploySaysIsCheckedBeforeDevicesHearIt(t *testing.T) {
	for what, err := range map[string]error{
		"a status there is not":          fleet.CheckStatus("done"),
		"a phase there is not":           fleet.CheckPhase("beta"),
		"an empty commit":                fleet.CheckCommit(""),
		"a commit that is a path":        fleet.CheckCommit("../x"),
		"a commit of two lines":          fleet.CheckCommit("a\nb"),
		"a commit that is hidden":        fleet.CheckCommit(".git"),
		"a service with a space":         fleet.CheckServiceName("a b"),
		"a service that is a path":       fleet.CheckServiceName("a/b"),
		"a digest of another kind":       fleet.CheckDigest("sha512:" + strings.Repeat("0", 64)),
		"a short digest":                 fleet.CheckDigest("sha256:00"),
		"a digest with a tag":            fleet.CheckDigest("sha256:" + strings.Repeat("0", 60) + ":tag"),
		"a variable with a dot":          fleet.CheckImageVariable("a.b", "1"),
		"a label without a name":         fleet.CheckLabel(" ", "1"),
		"a long label":                   fleet.CheckLabel(strings.Repeat("x", 256), "1"),
		"a label with a NUL":             fleet.CheckLabel("a", "\x00"),
		"a profile with a space":         fleet.CheckProfile("a b"),
		"a variant with a plus":          fleet.CheckVariant("a+b"),
		"a fleet uuid of a device":       fleet.CheckFleetUUID(strings.Repeat("0", 62)),
		"a tag of the platform":          fleet.CheckTag("io.balena.x", ""),
		"a tag of the platform of old":   fleet.CheckTag("io.resin.x", ""),
		"a composition that is a list":   fleet.CheckComposition([]byte(`[]`)),
		"a composition that is null":     fleet.CheckComposition([]byte(`null`)),
		"services that are a list":       fleet.CheckComposition([]byte(`{"services":["main"]}`)),
		"a service that is null":         fleet.CheckComposition([]byte(`{"services":{"main":null}}`)),
		"a network with a path's name":   fleet.CheckComposition([]byte(`{"networks":{"a/b":{}}}`)),
		"a volume that is a number":      fleet.CheckComposition([]byte(`{"volumes":{"a":1}}`)),
		"a composition that is not JSON": fleet.CheckComposition([]byte(`{`)),
	} {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"status":       fleet.CheckStatus(fleet.Interrupted),
		"phase":        fleet.CheckPhase("end-of-life"),
		"commit":       fleet.CheckCommit("old-release-commit"),
		"service":      fleet.CheckServiceName("__proto__"),
		"digest":       fleet.CheckDigest("sha256:" + strings.Repeat("0a", 32)),
		"variable":     fleet.CheckImageVariable("BALENA_LEVEL", ""),
		"label":        fleet.CheckLabel("io.balena.features.dbus", "1"),
		"variant":      fleet.CheckVariant("prod"),
		"composition":  fleet.CheckComposition([]byte(`{"version":"2.1","services":{"main":{"build":"."}},"volumes":{"data":null},"networks":null}`)),
		"empty":        fleet.CheckComposition([]byte(`{}`)),
		"fleet's uuid": fleet.CheckFleetUUID(strings.Repeat("0", 32)),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if c := []byte(`{"services":{"main":{}}}`); !fleet.Composes(c, "main") || fleet.Composes(c, "db") || fleet.Composes([]byte(`[]`), "main") {
		t.Error("which services a composition names is wrong")
	}
}

// A composition that is let in can be made a target of: if not, the devices of a fleet would hear nothing any more.
func FuzzACompositionThatIsLetInCanBeATarget(f *testing.F) {
	for _, c := range []string{`{"services":{"main":{"build":{"context":"."},"image":"x"}},"volumes":{"a":null},"networks":{"b":{}}}`, `{"services":null}`, `{"Services":{"a":1}}`, `{"services":{"main":{}},"services":[]}`} {
		f.Add([]byte(c))
	}
	f.Fuzz(func(t *testing.T, composition []byte) {
		if fleet.CheckComposition(composition) != nil {
			return
		}
		target, err := fleet.Target(fleet.Parts{
			Fleet: fleet.Fleet{UUID: "f"}, Release: &fleet.Release{Commit: "c", Composition: composition},
			Services: []fleet.Part{{Image: fleet.Image{ServiceName: "main", Location: "r/v2/x"}}},
		})
		if err != nil {
			t.Fatalf("%q: %v", composition, err)
		}
		var service map[string]any
		c := target.Apps["f"].Releases["c"].Services["main"].Composition
		if err := json.Unmarshal(c, &service); len(c) > 0 && err != nil || service["build"] != nil {
			t.Errorf("%q: the service is composed of %s (%v)", composition, c, err)
		}
	})
}
