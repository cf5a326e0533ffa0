package cli

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/fault"
)

// People name things as short as they can. The functions here find the one thing that is meant, or say which
// ones it could be.

const minUUIDPrefix = 4

var (
	hexWord     = regexp.MustCompile(`^[0-9a-f]+$`)
	fullUUID    = regexp.MustCompile(`^[0-9a-f]{32}([0-9a-f]{30})?$`)
	versionWord = regexp.MustCompile(`^v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})([-+].*)?$`)
)

// fleetNamed finds a fleet by slug (org/name), by name or by uuid; list is how it is read.
func fleetNamed(ctx context.Context, word string, list func(ctx context.Context, filter string) ([]client.Fleet, error)) (client.Fleet, error) {
	lower := strings.ToLower(word)
	filter := client.Filter("slug eq ?", lower)
	if !strings.Contains(word, "/") {
		filter = client.Filter("app_name eq ? or endswith(slug,?)", word, "/"+lower)
		if fullUUID.MatchString(word) {
			filter = client.Filter("uuid eq ?", word)
		}
	}
	found, err := list(ctx, filter)
	switch {
	case err != nil:
		return client.Fleet{}, err
	case len(found) == 0:
		return client.Fleet{}, fault.Newf(fault.NotFound, "there is no fleet %q", word).WithHint("`dunlin fleet list` lists your fleets")
	case len(found) > 1:
		return client.Fleet{}, ambiguous(word, "fleets", each(found, func(f client.Fleet) string { return f.Slug }))
	}
	return found[0], nil
}

// fleet finds a fleet by what people call it, with what client.FleetNames reads.
func (s *session) fleet(ctx context.Context, word string) (client.Fleet, error) {
	return fleetNamed(ctx, word, s.FleetNames)
}

// device finds a device by its name (alone, or behind its fleet: fleet/name, org/fleet/name), or by the first
// digits of its uuid, with id, uuid, name and fleet.
func (s *session) device(ctx context.Context, word string) (client.Device, error) {
	found, err := s.devices(ctx, word)
	switch {
	case err != nil:
		return client.Device{}, err
	case len(found) == 0:
		return client.Device{}, fault.Newf(fault.NotFound, "there is no device %q", word).WithHint("`dunlin device list` lists your devices")
	case len(found) > 1:
		return client.Device{}, ambiguous(word, "devices", each(found, fullName))
	}
	return found[0], nil
}

// devices are the devices that a word can mean, and that no better match of it can.
func (s *session) devices(ctx context.Context, word string) ([]client.Device, error) {
	filters := []string{client.Filter("device_name eq ?", word)}
	fleetPart, name := "", ""
	if i := strings.LastIndexByte(word, '/'); i > 0 {
		fleetPart, name = strings.ToLower(word[:i]), word[i+1:]
		match := client.Filter("a/slug eq ?", fleetPart)
		if !strings.Contains(fleetPart, "/") {
			match = client.Filter("endswith(a/slug,?)", "/"+fleetPart)
		}
		filters = append(filters, client.Filter("device_name eq ?", name)+" and belongs_to__application/any(a:"+match+")")
	}
	prefix := strings.ToLower(word)
	if len(prefix) >= minUUIDPrefix && hexWord.MatchString(prefix) {
		filters = append(filters, client.Filter("startswith(uuid,?)", prefix))
	}
	found, err := s.DeviceNames(ctx, "("+strings.Join(filters, ") or (")+")")
	if err != nil {
		return nil, err
	}
	for _, better := range []func(client.Device) bool{
		func(d client.Device) bool { return d.UUID == prefix },
		func(d client.Device) bool { return d.Name == word },
	} {
		if best := slices.DeleteFunc(slices.Clone(found), func(d client.Device) bool { return !better(d) }); len(best) > 0 {
			return best, nil
		}
	}
	return found, nil
}

// fullName names a device so that no other has the name: org/fleet/name.
func fullName(d client.Device) string {
	if slug := d.Fleet.Value().Slug; slug != "" {
		return slug + "/" + d.Name
	}
	return d.UUID
}

// releaseNamed finds a release by the first digits of its commit, by #id, or by its version. fleet 0 is any fleet.
func (s *session) releaseNamed(ctx context.Context, word string, fleet client.Fleet) (client.Release, error) {
	filter, match, err := releaseFilter(word)
	if err != nil {
		return client.Release{}, err
	}
	where := ""
	if fleet.ID != 0 {
		filter = client.And(client.Filter("belongs_to__application eq ?", fleet.ID), filter)
		where = " of " + fleet.Slug
	}
	found, err := s.Releases(ctx, filter, 0)
	if err != nil {
		return client.Release{}, err
	}
	found = slices.DeleteFunc(found, func(r client.Release) bool { return !match(r) })
	if exact := slices.DeleteFunc(slices.Clone(found), func(r client.Release) bool { return r.Version != strings.TrimPrefix(word, "v") }); len(exact) > 0 {
		found = exact
	}
	if good := slices.DeleteFunc(slices.Clone(found), func(r client.Release) bool { return r.Status != "success" }); len(good) > 0 && sameCommit(found) {
		found = good // a commit whose build failed at first
	}
	switch {
	case len(found) == 0:
		hint := "`dunlin release list FLEET` lists the releases of a fleet"
		return client.Release{}, fault.Newf(fault.NotFound, "there is no release %q%s", word, where).WithHint(hint)
	case len(found) > 1 && sameCommit(found):
		return found[0], nil // the newest attempt at one commit
	case len(found) > 1:
		return client.Release{}, ambiguous(word, "releases", each(found, func(r client.Release) string {
			return fmt.Sprintf("#%d %s of %s", r.ID, releaseLabel(r), r.Fleet.Value().Slug)
		}))
	}
	return found[0], nil
}

// sameCommit reports whether all releases are builds of one commit of one fleet.
func sameCommit(rs []client.Release) bool {
	return !slices.ContainsFunc(rs, func(r client.Release) bool { return r.Commit != rs[0].Commit || r.Fleet.ID != rs[0].Fleet.ID })
}

// releaseFilter is how the server is asked for the releases that word can mean, and which of those it does mean.
func releaseFilter(word string) (filter string, match func(client.Release) bool, err error) {
	all := func(client.Release) bool { return true }
	lower := strings.ToLower(word)
	if number, found := strings.CutPrefix(word, "#"); found {
		id, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return "", nil, notARelease(word)
		}
		return client.Filter("id eq ?", id), all, nil
	}
	// No shell takes a bare #12, and no commit is named by fewer than four digits.
	if id, err := strconv.ParseInt(word, 10, 64); err == nil && len(word) < minUUIDPrefix {
		return client.Filter("id eq ?", id), all, nil
	}
	if m := versionWord.FindStringSubmatch(word); m != nil {
		major, _ := strconv.Atoi(m[1]) // at most nine digits
		minor, _ := strconv.Atoi(m[2])
		patch, _ := strconv.Atoi(m[3])
		wanted := strings.TrimPrefix(word, "v")
		// A version without more stands for all its revisions, 1.2.0+rev1 too; the columns are asked for, because
		// raw_version is computed.
		return client.Filter("semver_major eq ? and semver_minor eq ? and semver_patch eq ?", major, minor, patch),
			func(r client.Release) bool { return r.Version == wanted || r.Semver == wanted }, nil
	}
	if len(lower) >= minUUIDPrefix && hexWord.MatchString(lower) {
		return client.Filter("startswith(commit,?)", lower[:min(32, len(lower))]), all, nil // of a git commit, 32 digits are kept
	}
	return "", nil, notARelease(word)
}

func notARelease(word string) error {
	return fault.Newf(fault.Invalid, "%q does not name a release", word).
		WithHint("name it by at least 4 digits of its commit, by its number (#12) or by its version (1.2.0)")
}

// service finds a service of a fleet by name.
func (s *session) service(ctx context.Context, fleet client.Fleet, name string) (client.Service, error) {
	all, err := s.Services(ctx, fleet.ID)
	if err != nil {
		return client.Service{}, err
	}
	for _, svc := range all {
		if svc.Name == name {
			return svc, nil
		}
	}
	e := fault.Newf(fault.NotFound, "fleet %s has no service %q", fleet.Slug, name)
	if len(all) == 0 {
		return client.Service{}, e.WithHint("services appear with the first release: push one")
	}
	return client.Service{}, e.WithHint("it has " + strings.Join(each(all, func(s client.Service) string { return s.Name }), ", "))
}

// ambiguous says what a word could mean.
func ambiguous(word, what string, candidates []string) error {
	const most = 10
	slices.Sort(candidates)
	hint := "say which: "
	if len(candidates) > most {
		hint, candidates = fmt.Sprintf("say which; the first %d are ", most), candidates[:most]
	}
	return fault.Newf(fault.Invalid, "%q could be several %s", word, what).WithHint(hint + strings.Join(candidates, ", "))
}

// each is f of all of s.
func each[T, R any](s []T, f func(T) R) []R {
	out := make([]R, len(s))
	for i, v := range s {
		out[i] = f(v)
	}
	return out
}
