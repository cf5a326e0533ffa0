package fleet

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
)

// Version is a semantic version (semver.org 2.0.0) with balena's variant. The zero value is 0.0.0.
type Version struct {
	Major, Minor, Patch int64
	Prerelease          string // dot-separated, without the leading dash
	Build               string // dot-separated, without the leading plus
	Variant             string // of OS releases: prod, dev
}

var semver = regexp.MustCompile(`^v?(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})` +
	`(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
	`(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$`)

// ParseVersion reads a semantic version.
func ParseVersion(s string) (Version, error) {
	m := semver.FindStringSubmatch(s)
	if m == nil || len(s) > 255 {
		return Version{}, fault.Newf(fault.Invalid, "%q is not a semantic version", s).
			WithHint("write it as MAJOR.MINOR.PATCH, for example 1.4.0")
	}
	var v Version
	for i, p := range []*int64{&v.Major, &v.Minor, &v.Patch} {
		*p, _ = strconv.ParseInt(m[i+1], 10, 64) // at most nine digits
	}
	v.Prerelease, v.Build = m[4], m[5]
	return v, nil
}

var variantName = regexp.MustCompile(`^[0-9a-zA-Z-]{1,50}$`)

// CheckVariant says whether a version may have this variant: it becomes a part of the build part.
func CheckVariant(variant string) error {
	if !variantName.MatchString(variant) {
		return fault.Newf(fault.Invalid, "%q cannot be a version's variant", variant).WithHint("use letters, digits and dashes")
	}
	return nil
}

// String is the version without revision.
func (v Version) String() string {
	s := fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
	if v.Prerelease != "" {
		s += "-" + v.Prerelease
	}
	if build := v.build(0); build != "" {
		s += "+" + build
	}
	return s
}

// Raw is balena's raw_version of a final release: the build part carries the revision, if it is not the first, and
// the variant.
func (v Version) Raw(revision int64) string {
	s := Version{Major: v.Major, Minor: v.Minor, Patch: v.Patch, Prerelease: v.Prerelease}.String()
	if build := v.build(revision); build != "" {
		s += "+" + build
	}
	return s
}

// RawDraft is balena's raw_version of a draft made at createdMillis.
func (v Version) RawDraft(createdMillis int64) string {
	s := fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
	if v.Prerelease != "" {
		return fmt.Sprintf("%s-%s.%d", s, v.Prerelease, createdMillis)
	}
	return fmt.Sprintf("%s-%d", s, createdMillis)
}

func (v Version) build(revision int64) string {
	var parts []string
	if v.Build != "" {
		parts = append(parts, v.Build)
	}
	if rev := fmt.Sprintf("rev%d", revision); revision > 0 && !strings.Contains("."+v.Build+".", "."+rev+".") {
		parts = append(parts, rev)
	}
	if v.Variant != "" {
		parts = append(parts, v.Variant)
	}
	return strings.Join(parts, ".")
}
