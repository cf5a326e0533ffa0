package fleettest

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Project is a git repository that is pushed to a server.
type Project struct {
	s   *Server
	dir string
}

// Project makes a repository with these files and the server as the remote dunlin.
func (s *Server) Project(files map[string]string) *Project {
	s.t.Helper()
	p := &Project{s: s, dir: s.t.TempDir()}
	p.git("init", "-q", "-b", "main")
	p.git("remote", "add", "dunlin", "ssh://git@"+s.SSH+"/admin/porch.git")
	p.Commit(files)
	return p
}

// Commit writes files and commits everything; it returns the first 32 digits of the commit, the release's name.
func (p *Project) Commit(files map[string]string) string {
	p.s.t.Helper()
	for name, text := range files {
		path := filepath.Join(p.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			p.s.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			p.s.t.Fatal(err)
		}
	}
	p.git("add", "-A")
	p.git("-c", "user.name=Test", "-c", "user.email=test@example.com", "commit", "-q", "--allow-empty", "-m", "change")
	return p.Head()
}

// Head is the name of the release that a push now makes.
func (p *Project) Head() string {
	p.s.t.Helper()
	return strings.TrimSpace(p.git("rev-parse", "HEAD"))[:32]
}

func (p *Project) git(args ...string) string {
	p.s.t.Helper()
	return run(p.s.t, p.dir, p.env(), "git", args...)
}

func (p *Project) env() []string {
	return []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_SSH_COMMAND=ssh -i " + filepath.Join(p.s.dir, "id") +
		" -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"}
}

// Push pushes main and returns what the pusher sees.
func (p *Project) Push(options ...string) string {
	p.s.t.Helper()
	out, err := p.TryPush(nil, options...)
	if err != nil {
		p.s.t.Fatalf("git push: %v\n%s", err, out)
	}
	return out
}

// TryPush is Push for one that may be refused. line, if not nil, is called with every line as it comes.
func (p *Project) TryPush(line func(string), options ...string) (string, error) {
	p.s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append(append([]string{"push"}, options...), "dunlin", "main")...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), p.env()...)
	r, w, err := os.Pipe()
	if err != nil {
		p.s.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		p.s.t.Fatal(err)
	}
	w.Close()
	var all strings.Builder
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		all.WriteString(in.Text() + "\n")
		if line != nil {
			line(in.Text())
		}
	}
	return all.String(), cmd.Wait()
}
