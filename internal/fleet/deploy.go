package fleet

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
)

// This file is about what somebody who builds elsewhere, and not by a push, may say of a release and its images. All
// of it goes into the targets of devices.

var (
	commitName  = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`)
	serviceName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,254}$`)
	// The stock SDK's own suite has letters beyond f in its digests. An engine refuses those by itself.
	contentHash = regexp.MustCompile(`^sha256:[0-9a-z]{64}$`)
)

// statuses are what a release or an image can be.
var statuses = map[Status]bool{
	Running: true, Success: true, Failed: true, Errored: true, Cancelled: true, Interrupted: true,
}

// CheckStatus says whether there is such a status.
func CheckStatus(s Status) error {
	if !statuses[s] {
		return fault.Newf(fault.Invalid, "%q is no status", string(s)).
			WithHint("a build is running, success, failed, error, cancelled or interrupted")
	}
	return nil
}

// CheckPhase says whether there is such a phase of a release's life.
func CheckPhase(phase string) error {
	switch phase {
	case "next", "current", "sunset", "end-of-life":
		return nil
	}
	return fault.Newf(fault.Invalid, "%q is no phase of a release", phase).WithHint("it is next, current, sunset or end-of-life")
}

// CheckCommit says whether a release may be called so. It is a key in targets and reports.
func CheckCommit(commit string) error {
	if !commitName.MatchString(commit) {
		return fault.Newf(fault.Invalid, "%q cannot be a release's commit", commit).
			WithHint("use up to 255 letters, digits, dots, dashes and underscores, and a letter or digit first")
	}
	return nil
}

// CheckServiceName says whether a service may be called so.
func CheckServiceName(name string) error {
	if !serviceName.MatchString(name) {
		return fault.Newf(fault.Invalid, "%q cannot be a service's name", name).
			WithHint("use up to 255 letters, digits, dots, dashes and underscores")
	}
	return nil
}

// CheckDigest says whether a manifest may have this digest: an image is pulled by it.
func CheckDigest(digest string) error {
	if !contentHash.MatchString(digest) {
		return fault.Newf(fault.Invalid, "%q is no digest of an image", digest).WithHint("a digest is sha256: and 64 hex digits")
	}
	return nil
}

// CheckImageVariable says whether an image may bring this environment variable. Unlike a person's it may have a name
// that is reserved: the platform's own value comes later and wins.
func CheckImageVariable(name, value string) error {
	if !shellName.MatchString(name) || len(name) > 255 {
		return fault.Newf(fault.Invalid, "%q cannot be a variable's name", name).
			WithHint("use letters, digits and underscores, and no digit first")
	}
	return checkValue(name, value)
}

// CheckLabel says whether a service or an image may have this label.
func CheckLabel(name, value string) error {
	if strings.TrimSpace(name) == "" || len(name) > 255 || strings.IndexByte(name, 0) >= 0 {
		return fault.Newf(fault.Invalid, "%q cannot be a label's name", name).WithHint("use 1 to 255 bytes")
	}
	return checkValue(name, value)
}

// CheckProfile says whether a compose profile may be called so.
func CheckProfile(name string) error {
	if !serviceName.MatchString(name) {
		return fault.Newf(fault.Invalid, "%q cannot be a profile's name", name).
			WithHint("use up to 255 letters, digits, dots, dashes and underscores")
	}
	return nil
}

// CheckComposition says whether a target can be made of a composition: an object whose services, volumes and networks
// are objects of objects, or nothing.
func CheckComposition(doc []byte) error {
	refused := func(what string) error {
		return fault.Newf(fault.Invalid, "the composition cannot be run: %s", what).
			WithHint("it is a JSON object with services, volumes and networks, as in a compose file")
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(doc, &object) != nil || object == nil {
		return refused("it is not an object")
	}
	var c composition
	if json.Unmarshal(doc, &c) != nil {
		return refused("its services, volumes and networks are not objects")
	}
	for _, part := range []struct {
		name  string
		named map[string]json.RawMessage
	}{{"service", c.Services}, {"volume", c.Volumes}, {"network", c.Networks}} {
		for _, name := range slices.Sorted(maps.Keys(part.named)) {
			if err := CheckServiceName(name); err != nil {
				return refused(part.name + "s have a name that no container can have")
			}
			var body map[string]json.RawMessage
			if json.Unmarshal(part.named[name], &body) != nil || body == nil && part.name == "service" {
				return refused(part.name + " " + name + " is not an object")
			}
		}
	}
	return nil
}

// Composes reports whether a composition names a service. One that cannot be read names none.
func Composes(doc []byte, service string) bool {
	var c composition
	if json.Unmarshal(doc, &c) != nil {
		return false
	}
	_, ok := c.Services[service]
	return ok
}
