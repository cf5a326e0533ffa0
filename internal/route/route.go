// Package route matches request paths the way balena's clients write them (protocol §0): a slash at the end is
// optional, and the fixed parts of a path are found in any case. It also reads the array form of query parameters. It
// knows no handler's business; patterns are those of net/http's ServeMux.
package route

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Table is handlers by pattern: "METHOD /path/{name}", written in the case that is documented and without a slash at
// its end, unless it stands for everything below ("/v7/").
type Table map[string]http.Handler

// Handler serves the table. What is not in it is 404, another method of what is in it 405, both in plain text.
func (t Table) Handler() http.Handler {
	mux := http.NewServeMux()
	known := &tree{}
	for pattern, h := range t {
		mux.Handle(pattern, h)
		_, path, ok := strings.Cut(pattern, " ")
		if !ok {
			path = pattern
		}
		known.add(strings.Split(strings.TrimPrefix(path, "/"), "/"))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, plain(r, known))
	})
}

// plain is the request as the patterns are written. A request that is so already is not copied.
func plain(r *http.Request, known *tree) *http.Request {
	escaped := r.URL.EscapedPath()
	path, below := known.spell(escaped)
	query := r.URL.RawQuery
	if !below {
		query = arrays(query) // a resource reads its own query
	}
	if path == escaped && query == r.URL.RawQuery {
		return r
	}
	unescaped, err := url.PathUnescape(path)
	if err != nil {
		return r
	}
	u := *r.URL
	u.Path, u.RawPath, u.RawQuery = unescaped, path, query
	again := new(http.Request)
	*again = *r
	again.URL = &u
	return again
}

// tree is the patterns, part by part.
type tree struct {
	fixed map[string]*branch // by the part in lower case
	any   *tree              // below a wildcard
	ends  bool               // a pattern ends here
	below bool               // a pattern stands for everything from here on
}

// branch is a fixed part in the spelling of the pattern.
type branch struct {
	spelling string
	next     *tree
}

func (t *tree) add(parts []string) {
	switch {
	case len(parts) == 0:
		t.ends = true
	case parts[0] == "" && len(parts) == 1, strings.HasSuffix(parts[0], "...}"):
		t.below = true
	case parts[0] == "{$}":
		t.ends = true
	case strings.HasPrefix(parts[0], "{"):
		if t.any == nil {
			t.any = &tree{}
		}
		t.any.add(parts[1:])
	default:
		if t.fixed == nil {
			t.fixed = map[string]*branch{}
		}
		low := strings.ToLower(parts[0])
		if t.fixed[low] == nil {
			t.fixed[low] = &branch{spelling: parts[0], next: &tree{}}
		}
		t.fixed[low].next.add(parts[1:])
	}
}

// spell is the escaped path in the spelling of the pattern it fits; below says that the pattern is one for everything
// below its path. A path that fits none stays as it is.
func (t *tree) spell(escaped string) (path string, below bool) {
	rest, ok := strings.CutPrefix(escaped, "/")
	if !ok || rest == "" {
		return escaped, false
	}
	whole := strings.Split(rest, "/")
	parts := whole
	if parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
	}
	if spelled, ok := t.fit(parts); ok {
		return "/" + strings.Join(spelled, "/"), false
	}
	if spelled, ok := t.under(whole); ok {
		return "/" + strings.Join(spelled, "/"), true
	}
	return escaped, false
}

// fit spells a path that one pattern fits to its end.
func (t *tree) fit(parts []string) ([]string, bool) {
	if len(parts) == 0 {
		return nil, t.ends
	}
	if b := t.fixed[strings.ToLower(parts[0])]; b != nil {
		if spelled, ok := b.next.fit(parts[1:]); ok {
			return slices.Concat([]string{b.spelling}, spelled), true
		}
	}
	if t.any != nil {
		if spelled, ok := t.any.fit(parts[1:]); ok {
			return slices.Concat(parts[:1], spelled), true
		}
	}
	return nil, false
}

// under spells a path below the longest pattern that stands for everything below it.
func (t *tree) under(parts []string) ([]string, bool) {
	if len(parts) > 0 {
		if b := t.fixed[strings.ToLower(parts[0])]; b != nil {
			if spelled, ok := b.next.under(parts[1:]); ok {
				return slices.Concat([]string{b.spelling}, spelled), true
			}
		}
		if t.any != nil {
			if spelled, ok := t.any.under(parts[1:]); ok {
				return slices.Concat(parts[:1], spelled), true
			}
		}
	}
	return parts, t.below && len(parts) > 0
}

var indexed = regexp.MustCompile(`^([^\[\]]+)\[(\d{0,4})\]$`)

// arrays gives parameters of the form name[0]=a&name[1]=b the plain form name=a&name=b, in the order of their indices.
func arrays(query string) string {
	if !strings.Contains(query, "[") && !strings.Contains(strings.ToLower(query), "%5b") {
		return query
	}
	type pair struct {
		name, value string
		index       int
	}
	var pairs []pair
	changed := false
	for part := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		p := pair{name: name, value: value}
		if plain, err := url.QueryUnescape(name); err == nil {
			if m := indexed.FindStringSubmatch(plain); m != nil {
				p.name, changed = url.QueryEscape(m[1]), true
				p.index, _ = strconv.Atoi(m[2]) // "" is name[], all of them alike
			}
		}
		pairs = append(pairs, p)
	}
	if !changed {
		return query
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return a.index - b.index })
	parts := make([]string, len(pairs))
	for i, p := range pairs {
		parts[i] = p.name + "=" + p.value
	}
	return strings.Join(parts, "&")
}
