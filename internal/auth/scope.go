package auth

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
)

// maxScopes bounds one token. A push with layers from many other repositories asks for a dozen.
const maxScopes = 64

// ScopesOf reads the scopes that a registry client asks for, in its order: scope= repeated, as Docker sends it, or
// scope[0]= and so on, as balena's tools do, each of them one scope or several with spaces between.
func ScopesOf(query url.Values) []string {
	type indexed struct {
		index  int
		values []string
	}
	var found []indexed
	for name, values := range query {
		index, ok := strings.CutPrefix(name, "scope")
		if !ok {
			continue
		}
		if index == "" || index == "[]" {
			found = append(found, indexed{-1, values})
			continue
		}
		if len(index) < 3 || index[0] != '[' || index[len(index)-1] != ']' {
			continue
		}
		if n, err := strconv.ParseUint(index[1:len(index)-1], 10, 16); err == nil {
			found = append(found, indexed{int(n), values})
		}
	}
	slices.SortFunc(found, func(a, b indexed) int {
		if a.index != b.index {
			return a.index - b.index
		}
		return slices.Compare(a.values, b.values) // scope=, scope[]= and scope[0]=, scope[00]=
	})
	var scopes []string
	for _, f := range found {
		for _, v := range f.values {
			scopes = append(scopes, strings.Fields(v)...)
		}
	}
	return scopes
}

// scope is one entry of a registry token's access claim.
type scope struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

var (
	scopeType   = regexp.MustCompile(`^[a-z0-9]+(?:\([a-z0-9]+\))?$`)
	scopeName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$`)
	scopeAction = regexp.MustCompile(`^(?:[a-z]{1,32}|\*)$`)
	// repositoryName is an image's repository, or with a number one of the stages its build keeps beside it.
	repositoryName = regexp.MustCompile(`^(v2/[0-9a-f]{32})(?:-[0-9]{1,4})?$`)
)

// parseScope reads type:name:action,action. The name may have colons: a host and its port.
func parseScope(text string) (scope, error) {
	first, last := strings.IndexByte(text, ':'), strings.LastIndexByte(text, ':')
	if first == last {
		return scope{}, badScope(text)
	}
	s := scope{Type: text[:first], Name: text[first+1 : last], Actions: []string{}}
	if !scopeType.MatchString(s.Type) || !scopeName.MatchString(s.Name) {
		return scope{}, badScope(text)
	}
	for action := range strings.SplitSeq(text[last+1:], ",") {
		switch {
		case action == "": // docker asks for nothing at times
		case !scopeAction.MatchString(action):
			return scope{}, badScope(text)
		case !slices.Contains(s.Actions, action):
			s.Actions = append(s.Actions, action)
		}
	}
	return s, nil
}

// parseScopes reads scopes and joins those of one repository.
func parseScopes(texts []string) ([]scope, error) {
	if len(texts) > maxScopes {
		return nil, fault.Newf(fault.Invalid, "%d scopes are too many for one token", len(texts))
	}
	var all []scope
	for _, text := range texts {
		s, err := parseScope(text)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(have scope) bool { return have.Type == s.Type && have.Name == s.Name })
		if i < 0 {
			all = append(all, s)
			continue
		}
		for _, action := range s.Actions {
			if !slices.Contains(all[i].Actions, action) {
				all[i].Actions = append(all[i].Actions, action)
			}
		}
	}
	return all, nil
}

func badScope(text string) error {
	if len(text) > 100 {
		text = text[:100] + "…"
	}
	return fault.Newf(fault.Invalid, "%q is not a scope", text).WithHint("a scope is repository:NAME:pull,push")
}
