package folder

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Git is what git knows of a folder that is in a repository, or is one.
type Git struct {
	Commit  string   // checked out, 40 hex; "" before the first
	Changed []string // slash paths of what differs from that commit or is not in it, in git's order
	Roots   []string // root commits of the history, the first parents' root first; none if the history is cut off
	Shallow bool     // the history is cut off
	Missing []string // submodules that are not checked out, and are sent as empty folders
	Remotes []Remote
}

// Remote is where git pushes to.
type Remote struct{ Name, URL string }

// gitPatience bounds all questions to git together; a push does without answers.
const gitPatience = 20 * time.Second

// ReadGit asks git about a folder. ok is false if there is no git, or it knows nothing in the folder.
func ReadGit(ctx context.Context, dir string) (g Git, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, gitPatience)
	defer cancel()
	said := func(args ...string) string {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
		cmd.Stdout = &out
		cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
		if err := cmd.Run(); err != nil {
			return ""
		}
		return out.String()
	}
	top := strings.TrimSuffix(said("rev-parse", "--show-toplevel"), "\n")
	if top == "" || said("ls-files", "-z", "--", ".") == "" {
		return g, false // somebody's home folder may be a repository, and the folder still none of its
	}
	g.Commit = strings.TrimSpace(said("rev-parse", "--verify", "--quiet", "HEAD^{commit}"))
	g.Changed = changes(said("status", "--porcelain=v1", "-z", "--untracked-files=normal", "--", "."))
	g.Shallow = strings.TrimSpace(said("rev-parse", "--is-shallow-repository")) == "true"
	if !g.Shallow && g.Commit != "" {
		first := strings.Fields(said("rev-list", "--max-parents=0", "--first-parent", "HEAD"))
		for _, root := range slices.Concat(first, strings.Fields(said("rev-list", "--max-parents=0", "HEAD"))) {
			if !slices.Contains(g.Roots, root) {
				g.Roots = append(g.Roots, root)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(top, ".gitmodules")); err == nil {
		for line := range strings.Lines(said("submodule", "status", "--recursive")) {
			if f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3); len(f) >= 2 && strings.HasPrefix(line, "-") && !strings.HasPrefix(f[1], "../") {
				g.Missing = append(g.Missing, f[1])
			}
		}
	}
	for line := range strings.Lines(said("config", "--get-regexp", `^remote\..*\.url$`)) {
		key, url, _ := strings.Cut(strings.TrimSpace(line), " ")
		g.Remotes = append(g.Remotes, Remote{strings.TrimSuffix(strings.TrimPrefix(key, "remote."), ".url"), url})
	}
	return g, true
}

// changes reads `git status --porcelain -z`: two letters, a space and a path each; a rename is followed by the old path.
func changes(status string) (all []string) {
	fields := strings.Split(strings.TrimSuffix(status, "\x00"), "\x00")
	for i := 0; i < len(fields); i++ {
		if len(fields[i]) < 4 {
			continue
		}
		all = append(all, fields[i][3:])
		if strings.ContainsAny(fields[i][:2], "RC") {
			i++
		}
	}
	return all
}
