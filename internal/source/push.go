package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/dunlin/dunlin/internal/fault"
)

const (
	branchPrefix = "refs/heads/"
	tagPrefix    = "refs/tags/"
	maxSubject   = 200 // characters
	maxRoots     = 1000
	maxKept      = 5 // refs that are named one by one
)

// known are the push options and what they do, for the sentence that lists them.
var known = map[string]string{
	OptionNoCache:      "build without the cache",
	OptionDraft:        "make a draft release",
	OptionForceHistory: "accept an unrelated history",
}

func (u update) created() bool { return isZero(u.Old) }
func (u update) deleted() bool { return isZero(u.New) }
func (u update) deploys() bool { return u.Ref == branchPrefix+"main" || u.Ref == branchPrefix+"master" }

func isZero(id string) bool { return strings.Trim(id, "0") == "" }

// isObjectID reports whether id is what git calls a SHA-1 object.
func isObjectID(id string) bool {
	return len(id) == 40 && strings.Trim(id, "0123456789abcdef") == ""
}

// sortOut says which update of a push deploys, nil for none, and what its options are.
func sortOut(updates []update, options []string) (deploy *update, chosen map[string]string, err error) {
	chosen = map[string]string{}
	if len(options) > maxOptions {
		return nil, nil, fault.Newf(fault.Invalid, "more than %d push options", maxOptions).WithHint("the options are " + optionList())
	}
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		if _, ok := known[name]; !ok {
			return nil, nil, fault.Newf(fault.Invalid, "there is no push option %q", clean(name, 60)).WithHint("the options are " + optionList())
		}
		if value != "" {
			return nil, nil, fault.Newf(fault.Invalid, "push option %q takes no value", name).WithHint("write -o " + name)
		}
		chosen[name] = ""
	}
	for i, u := range updates {
		switch {
		case !isObjectID(u.Old) || !isObjectID(u.New) || !strings.HasPrefix(u.Ref, "refs/"):
			return nil, nil, fault.New(fault.Invalid, "git described the push in a way this server does not know")
		case !u.deploys():
		case u.deleted():
			branch := strings.TrimPrefix(u.Ref, branchPrefix)
			return nil, nil, fault.Newf(fault.Invalid, "branch %s cannot be deleted: it is what the fleet runs", branch).
				WithHint("to run something else push it to " + branch)
		case deploy != nil:
			return nil, nil, fault.New(fault.Invalid, "main and master cannot be pushed together: both deploy, and the fleet runs one of them").
				WithHint("push the one you mean, for example: git push dunlin main")
		default:
			deploy = &updates[i]
		}
	}
	return deploy, chosen, nil
}

func optionList() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(known)) {
		list = append(list, fmt.Sprintf("-o %s (%s)", name, known[name]))
	}
	return strings.Join(list, ", ")
}

// judge decides in pre-receive. On success it returns the repository's turn, held, when the push deploys: it is
// given back when the ref has moved.
func (x *session) judge(ctx context.Context, c call, out io.Writer) (unlock func(), err error) {
	deploy, options, err := sortOut(c.Updates, c.Options)
	if err != nil || deploy == nil {
		return nil, err
	}
	unlock, err = x.server.pushes.lock(ctx, fmt.Sprint(x.repo.Fleet), func() {
		fmt.Fprintf(out, "waiting for another push to %s to end\n", x.repo.Slug)
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock()
			unlock = nil
		}
	}()
	r := repo{dir: x.server.path(x.repo.Fleet)}
	now, err := x.server.refValue(ctx, r, deploy.Ref)
	if err != nil {
		return unlock, fmt.Errorf("read %s of %s: %w", deploy.Ref, x.repo.Slug, err)
	}
	if now != deploy.Old {
		// Git would refuse it too, but only after a build.
		return unlock, fault.Newf(fault.Conflict, "another push moved %s meanwhile", strings.TrimPrefix(deploy.Ref, branchPrefix)).
			WithHint("fetch, merge and push again")
	}
	r.env = quarantine(c.Quarantine)
	p, err := x.push(ctx, r, *deploy, options, out)
	if err != nil {
		return unlock, err
	}
	if x.server.OnPush == nil {
		return unlock, nil
	}
	return unlock, x.server.OnPush(ctx, p, out)
}

// pushed runs in post-receive: the refs in c have moved.
func (x *session) pushed(ctx context.Context, c call, out io.Writer) {
	deploy, options, err := sortOut(c.Updates, c.Options)
	if err != nil {
		complain(out, err, "")
		return
	}
	kept := 0
	for _, u := range c.Updates {
		if u.deleted() || u.deploys() {
			continue
		}
		if kept++; kept > maxKept {
			continue
		}
		what := u.Ref
		if branch, ok := strings.CutPrefix(u.Ref, branchPrefix); ok {
			what = "branch " + branch
		} else if tag, ok := strings.CutPrefix(u.Ref, tagPrefix); ok {
			what = "tag " + tag
		}
		fmt.Fprintf(out, "%s is kept; push to main to deploy\n", clean(what, 200))
	}
	if kept > maxKept {
		fmt.Fprintf(out, "and %d more are kept\n", kept-maxKept)
	}
	if deploy == nil {
		return
	}
	r := repo{dir: x.server.path(x.repo.Fleet)}
	// A clone checks out what was deployed last.
	if _, err := x.server.output(ctx, r, "symbolic-ref", "HEAD", deploy.Ref); err != nil && ctx.Err() == nil {
		x.server.log().Warn("point HEAD", "fleet", x.repo.Slug, "err", err)
	}
	if x.server.OnPushed == nil {
		return
	}
	p, err := x.push(ctx, r, *deploy, options, out)
	if err != nil {
		if ctx.Err() == nil {
			x.server.log().Error("describe a push that has arrived", "fleet", x.repo.Slug, "commit", deploy.New, "err", err)
		}
		return
	}
	x.server.OnPushed(ctx, p, out)
}

// push describes the update u.
func (x *session) push(ctx context.Context, r repo, u update, options map[string]string, out io.Writer) (Push, error) {
	p := Push{
		Fleet: x.repo.Fleet, Slug: x.repo.Slug, Actor: x.actor,
		Ref: u.Ref, Branch: strings.TrimPrefix(u.Ref, branchPrefix), Commit: u.New,
		Options: options, Created: u.created(),
	}
	// Git checks this when it moves the ref; that is after the build.
	kind, err := x.server.output(ctx, r, "cat-file", "-t", u.New)
	if err != nil {
		return p, fmt.Errorf("describe %s: %w", u.New, err)
	}
	if k := strings.TrimSpace(string(kind)); k != "commit" {
		return p, fault.Newf(fault.Invalid, "branch %s cannot point at a %s", p.Branch, k).WithHint("push a commit")
	}
	subject, err := x.server.output(ctx, r, "log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%s", u.New)
	if err != nil {
		return p, fmt.Errorf("describe %s: %w", u.New, err)
	}
	p.Subject = clean(string(subject), maxSubject)
	if p.Roots, err = x.server.roots(ctx, r, u.New); err != nil {
		return p, fmt.Errorf("describe %s: %w", u.New, err)
	}
	p.Archive = func(ctx context.Context, w io.Writer) error {
		return x.server.archive(ctx, tree{repo: r, commit: u.New, origin: origin{slug: x.repo.Slug}, actor: x.actor}, w, out)
	}
	return p, nil
}

// roots lists the commits without parents that commit descends from, the one its first parents lead to first.
func (s *Server) roots(ctx context.Context, r repo, commit string) ([]string, error) {
	var roots []string
	for _, args := range [][]string{{"--first-parent"}, {fmt.Sprintf("--max-count=%d", maxRoots)}} {
		list, err := s.output(ctx, r, append(append([]string{"rev-list", "--max-parents=0"}, args...), commit)...)
		if err != nil {
			return nil, err
		}
		for id := range strings.FieldsSeq(string(list)) {
			if !slices.Contains(roots, id) {
				roots = append(roots, id)
			}
		}
	}
	return roots, nil
}

// refValue is what ref points at, zeros when it is not there.
func (s *Server) refValue(ctx context.Context, r repo, ref string) (string, error) {
	out, err := s.output(ctx, r, "rev-parse", "--verify", "--quiet", "--end-of-options", ref)
	var bad *gitError
	if errors.As(err, &bad) && bad.stderr == "" {
		return strings.Repeat("0", 40), nil
	}
	return string(bytes.TrimSpace(out)), err
}

// quarantine picks what git may be told of the objects of a push.
func quarantine(env []string) []string {
	var picked []string
	for _, e := range env {
		switch name, _, _ := strings.Cut(e, "="); name {
		case "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH":
			picked = append(picked, e)
		}
	}
	return picked
}

// clean makes foreign text fit for one line on a terminal: valid UTF-8, no control characters, at most n characters.
func clean(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
	if r := []rune(strings.TrimSpace(text)); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return strings.TrimSpace(text)
}
