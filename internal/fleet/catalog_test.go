package fleet_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fleet"
)

func TestASlugOrAliasNamesOneDeviceTypeOfAKnownArchitecture(t *testing.T) {
	slug := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	slugs, names := map[string]string{}, map[string]string{}
	for _, d := range fleet.DeviceTypes {
		for _, s := range append([]string{d.Slug}, d.Aliases...) {
			if other, taken := slugs[s]; taken {
				t.Errorf("%q names both %s and %s", s, other, d.Slug)
			}
			slugs[s] = d.Slug
			if !slug.MatchString(s) {
				t.Errorf("%q of %s is no slug", s, d.Slug)
			}
		}
		if other, taken := names[d.Name]; taken || d.Name == "" {
			t.Errorf("%s and %s are both called %q", other, d.Slug, d.Name)
		}
		names[d.Name] = d.Slug
		if _, ok := fleet.ArchitectureOf(d.Arch); !ok {
			t.Errorf("%s is of the unknown architecture %q", d.Slug, d.Arch)
		}
	}
}

func TestEveryArchitectureSaysHowToBuildForIt(t *testing.T) {
	for _, a := range fleet.Architectures {
		want := a.OS + "/" + a.Arch
		if a.Variant != "" {
			want += "/" + a.Variant
		}
		if a.OS != "linux" || a.GoArch != a.Arch || a.Platform != want || strings.TrimPrefix(a.Variant, "v") != a.GoArm {
			t.Errorf("%s contradicts itself: %+v", a.Slug, a)
		}
	}
}

func TestWhatAnArchitectureRunsIsKnownAndComplete(t *testing.T) {
	for _, a := range fleet.Architectures {
		for _, r := range a.Runs {
			further, ok := fleet.ArchitectureOf(r)
			if !ok {
				t.Errorf("%s runs images of the unknown architecture %q", a.Slug, r)
			}
			if fleet.MayRun(r, a.Slug) {
				t.Errorf("%s and %s run each other's images", a.Slug, r)
			}
			for _, f := range further.Runs {
				if !slices.Contains(a.Runs, f) {
					t.Errorf("%s runs %s, which runs %s, which %s does not", a.Slug, r, f, a.Slug)
				}
			}
		}
	}
}

func TestTheBoardsPeopleHaveAreInTheCatalog(t *testing.T) {
	for slug, arch := range map[string]string{
		"raspberry-pi": "rpi", "raspberry-pi2": "armv7hf", "raspberrypi3": "armv7hf", "raspberrypi3-64": "aarch64",
		"raspberrypi4-32": "armv7hf", "raspberrypi4-64": "aarch64", "raspberrypi5-32": "armv7hf", "raspberrypi5": "aarch64",
		"raspberrypi0-2w-32": "armv7hf", "raspberrypi0-2w-64": "aarch64", "generic-amd64": "amd64",
		"generic-aarch64": "aarch64", "jetson-nano": "aarch64", "intel-nuc": "amd64",
	} {
		if !slices.ContainsFunc(fleet.DeviceTypes, func(d fleet.DeviceType) bool { return d.Slug == slug && d.Arch == arch }) {
			t.Errorf("no %s of architecture %s", slug, arch)
		}
	}
}
