package folder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/dunlin/dunlin/internal/fault"
)

const ignoreFile = ".dockerignore"

// rules are the patterns of one .dockerignore, as Docker understands them, below the folder it lies in.
type rules struct {
	base    string // slash path of the folder, "" for the top
	matcher *patternmatcher.PatternMatcher
}

// verdict is what the rules say of a path; what is below it is judged with it.
type verdict struct {
	ignored bool
	info    patternmatcher.MatchInfo
}

// readRules reads the .dockerignore of a folder. Without one there are no rules, but at the top, where the history is
// left out unless a pattern asks for it.
func readRules(dir, base string, top bool) (*rules, error) {
	file := filepath.Join(dir, filepath.FromSlash(base), ignoreFile)
	shown := strings.TrimPrefix(base+"/"+ignoreFile, "/")
	patterns := []string{"**/.git"}
	f, err := os.Open(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !top:
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fault.Newf(fault.Invalid, "cannot read %s: %s", shown, reason(err))
	default:
		defer f.Close() // only read
		own, err := ignorefile.ReadAll(f)
		if err != nil {
			return nil, fault.Newf(fault.Invalid, "cannot read %s: %s", shown, reason(err))
		}
		patterns = append(patterns, own...)
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "%s: %v", shown, err)
	}
	return &rules{base: base, matcher: m}, nil
}

// judge says whether a path is ignored, given what its folder is.
func (r *rules) judge(name string, above verdict) (verdict, error) {
	ignored, info, err := r.matcher.MatchesUsingParentResults(r.below(name), above.info)
	if err != nil {
		return verdict{}, fault.Newf(fault.Invalid, "%s: %v", strings.TrimPrefix(r.base+"/"+ignoreFile, "/"), err)
	}
	return verdict{ignored, info}, nil
}

// mayReturn reports whether something in a folder that is ignored may not be: whether an exception reaches into it.
func (r *rules) mayReturn(name string) bool {
	if !r.matcher.Exclusions() {
		return false
	}
	name = r.below(name)
	for _, p := range r.matcher.Patterns() {
		pattern := filepath.ToSlash(p.String())
		if p.Exclusion() && (strings.ContainsAny(pattern, `*?[\`) || strings.HasPrefix(pattern, name+"/")) {
			return true
		}
	}
	return false
}

func (r *rules) below(name string) string {
	return filepath.FromSlash(strings.TrimPrefix(strings.TrimPrefix(name, r.base), "/"))
}
