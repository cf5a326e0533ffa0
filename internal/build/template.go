package build

import (
	"regexp"
	"sort"
	"strings"
)

// dockerfile is the text that builds a service and where it came from.
type dockerfile struct {
	path     string // below the project's folder; "" without a Dockerfile
	text     string // after expansion
	template bool   // text differs from the file by what was expanded
}

var templateVariable = regexp.MustCompile(`%%((?:BALENA|RESIN)_[A-Z0-9_]*)%%`)

// expand puts the values of a template's variables in. Text between percent signs that does not begin with BALENA_ or
// RESIN_ is left alone; such a name that nobody knows is an error with its line.
func expand(file, text, service string, t Target) (string, error) {
	values := map[string]string{
		"BALENA_MACHINE_NAME": t.DeviceType, "RESIN_MACHINE_NAME": t.DeviceType,
		"BALENA_ARCH": t.Arch, "RESIN_ARCH": t.Arch,
		"BALENA_SERVICE_NAME": service, "BALENA_APP_NAME": t.FleetName, "BALENA_RELEASE_HASH": t.Commit,
		"RESIN_SERVICE_NAME": service, "RESIN_APP_NAME": t.FleetName, "RESIN_RELEASE_HASH": t.Commit,
	}
	for _, m := range templateVariable.FindAllStringSubmatchIndex(text, -1) {
		name := text[m[2]:m[3]]
		if _, ok := values[name]; !ok {
			var known []string
			for k := range values {
				if strings.HasPrefix(k, "BALENA_") {
					known = append(known, "%%"+k+"%%")
				}
			}
			sort.Strings(known)
			return "", at(file, 1+strings.Count(text[:m[0]], "\n"), "%%%%%s%%%% is no template variable", name).
				WithHint("there are " + strings.Join(known, ", "))
		}
	}
	return templateVariable.ReplaceAllStringFunc(text, func(s string) string {
		return values[strings.Trim(s, "%")]
	}), nil
}
