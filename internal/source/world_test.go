package source_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/source"
)

// TestMain lets the test binary be the hook.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "git-hook" {
		os.Exit(source.Hook(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// patience is a safety net: nothing in a test that passes takes this long.
const patience = time.Minute

// world is a server with three fleets and two people: ana owns acme/porch and acme/garden, bob owns bobs/cellar.
type world struct {
	*source.Server
	t       *testing.T
	ssh     string // host:port
	web     string // http://host:port
	home    string // of the git clients
	fleets  map[string]int64
	owners  map[string]string // organization → user
	keys    map[string]string // user → private key file
	stop    func() error      // ends both transports and waits for what they serve
	mu      sync.Mutex
	pushes  []source.Push
	tars    map[string]map[string]file // commit → path → file
	refusal error
}

type file struct {
	mode    int64
	content string // of a link, where it leads
	kind    byte
}

// newWorld starts a server. change may set its fields before that.
func newWorld(t *testing.T, change ...func(*world)) *world {
	t.Helper()
	t.Parallel()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Fatal("the tests need a real ssh client: apt-get install openssh-client")
	}
	w := &world{
		t: t, home: t.TempDir(), keys: map[string]string{}, tars: map[string]map[string]file{},
		fleets: map[string]int64{"acme/porch": 1, "acme/garden": 2, "bobs/cellar": 3},
		owners: map[string]string{"acme": "ana", "bobs": "bob"},
	}
	self, err := os.Executable()
	check(t, err)
	users := map[string]string{}
	for i, user := range []string{"ana", "bob", "stranger"} {
		w.keys[user] = filepath.Join(w.home, user)
		fingerprint := newKey(t, w.keys[user])
		if i < 2 {
			users[fingerprint] = user
		}
	}
	dir := t.TempDir()
	host, err := source.LoadHostKey(filepath.Join(dir, "host_key"))
	check(t, err)
	actor := func(name string) fleet.Actor {
		return fleet.Actor{Kind: fleet.UserActor, ID: int64(len(name)), Name: name}
	}
	w.Server = &source.Server{
		Dir: filepath.Join(dir, "git"), Hook: []string{self, "git-hook"}, HostKey: host,
		Log: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Lookup: func(_ context.Context, a fleet.Actor, slug string, write bool) (source.Repository, error) {
			org, _, _ := strings.Cut(slug, "/")
			if w.fleets[slug] == 0 || w.owners[org] != a.Name {
				return source.Repository{}, fault.New(fault.NotFound, "no such fleet")
			}
			return source.Repository{Fleet: w.fleets[slug], Slug: slug}, nil
		},
		Key: func(_ context.Context, k ssh.PublicKey) (fleet.Actor, error) {
			if user, ok := users[ssh.FingerprintSHA256(k)]; ok {
				return actor(user), nil
			}
			return fleet.Actor{}, fault.New(fault.Unauthenticated, "no such key")
		},
		Credential: func(r *http.Request) (fleet.Actor, error) {
			if _, password, ok := r.BasicAuth(); ok && (password == "ana" || password == "bob") {
				return actor(password), nil
			}
			return fleet.Actor{}, nil
		},
		OnPush: func(ctx context.Context, p source.Push, out io.Writer) error {
			var b bytes.Buffer
			if err := p.Archive(ctx, &b); err != nil {
				return err
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.pushes, w.tars[p.Commit] = append(w.pushes, p), untar(t, &b)
			fmt.Fprintf(out, "built %s\n", p.Subject)
			return w.refusal
		},
	}
	for _, c := range change {
		c(w)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	w.ssh = ln.Addr().String()
	web := httptest.NewServer(w.Server)
	w.web = web.URL
	check(t, os.WriteFile(filepath.Join(w.home, "known_hosts"),
		[]byte(knownHost(w.ssh, host.PublicKey())), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- w.ServeSSH(ctx, ln) }()
	w.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-served:
			web.Close() // waits too
			return err
		case <-time.After(patience):
			return fmt.Errorf("the server did not stop")
		}
	})
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		w.clean()
	})
	return w
}

// clean checks that nothing of a push is left in the repositories.
func (w *world) clean() {
	w.t.Helper()
	for _, pattern := range []string{"*.git/objects/tmp_objdir-*", "*.git/objects/incoming-*", "*.git/*.lock", "*.git/refs/heads/*.lock", "run/*"} {
		if left, _ := filepath.Glob(filepath.Join(w.Dir, pattern)); len(left) > 0 {
			w.t.Errorf("left behind: %v", left)
		}
	}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func newKey(t *testing.T, path string) (fingerprint string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	check(t, err)
	check(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	public, err := ssh.NewPublicKey(pub)
	check(t, err)
	return ssh.FingerprintSHA256(public)
}

func knownHost(addr string, key ssh.PublicKey) string {
	host, port, _ := net.SplitHostPort(addr)
	return fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(key))
}

func (w *world) sshURL(slug string) string { return "ssh://git@" + w.ssh + "/" + slug + ".git" }

func (w *world) webURL(user, slug string) string {
	return strings.Replace(w.web, "http://", "http://x:"+user+"@", 1) + "/git/" + slug + ".git"
}

// env is the environment of a client who owns user's key and nothing else.
func (w *world) env(user string) []string {
	return append(os.Environ(),
		"HOME="+w.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C", "SSH_AUTH_SOCK=",
		"GIT_AUTHOR_NAME=Ana", "GIT_AUTHOR_EMAIL=ana@example.org", "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME=Ana", "GIT_COMMITTER_EMAIL=ana@example.org", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z",
		"GIT_ALLOW_PROTOCOL=file:ssh:http:https",
		"GIT_SSH_COMMAND="+w.sshCommand(user))
}

func (w *world) sshCommand(user string) string {
	return "ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile=" + filepath.Join(w.home, "known_hosts") + " -i " + w.keys[user]
}

// client is a git command of user in dir, in a process group of its own.
func (w *world) client(user, dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = dir, w.env(user)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// try runs git as user and returns all it said.
func (w *world) try(user, dir string, args ...string) (string, error) {
	w.t.Helper()
	out, err := w.client(user, dir, args...).CombinedOutput()
	w.t.Logf("%s: git %s\n%s", user, strings.Join(args, " "), out)
	return string(out), err
}

func (w *world) git(dir string, args ...string) string {
	w.t.Helper()
	out, err := w.try("ana", dir, args...)
	if err != nil {
		w.t.Fatalf("git %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(out)
}

// repository makes a work tree with one commit on main that holds files, and the remote dunlin.
func (w *world) repository(slug string, files map[string]string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	w.git(dir, "init", "--quiet", "--initial-branch=main")
	w.git(dir, "remote", "add", "dunlin", w.sshURL(slug))
	w.commit(dir, "first", files)
	return dir
}

func (w *world) commit(dir, subject string, files map[string]string) string {
	w.t.Helper()
	for name, content := range files {
		check(w.t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		check(w.t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	w.git(dir, "add", "--all", "--force")
	w.git(dir, "commit", "--quiet", "--allow-empty", "--message", subject)
	return w.git(dir, "rev-parse", "HEAD")
}

// inside runs git on the server's side.
func (w *world) inside(slug string, args ...string) (string, error) {
	w.t.Helper()
	dir := filepath.Join(w.Dir, fmt.Sprint(w.fleets[slug])+".git")
	out, err := w.client("ana", dir, append([]string{"--git-dir=" + dir}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// ref is what a ref of a fleet's repository points at, "" for none.
func (w *world) ref(slug, ref string) string {
	w.t.Helper()
	out, err := w.inside(slug, "rev-parse", "--verify", "--quiet", ref)
	if err != nil {
		return ""
	}
	return out
}

func (w *world) has(slug, commit string) bool {
	w.t.Helper()
	_, err := w.inside(slug, "cat-file", "-e", commit)
	return err == nil
}

// handed are the pushes that OnPush has seen so far.
func (w *world) handed() []source.Push {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pushes)
}

// built is what the archive of a commit held.
func (w *world) built(commit string) map[string]file {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tars[commit]
}

// refuse makes every further push fail with err.
func (w *world) refuse(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusal = err
}

func untar(t *testing.T, r io.Reader) map[string]file {
	files := map[string]file{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Errorf("read the archive: %v", err)
			return files
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Errorf("read the archive: %v", err)
		}
		if h.Typeflag == tar.TypeSymlink {
			b = []byte(h.Linkname)
		}
		files[h.Name] = file{h.Mode, string(b), h.Typeflag}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// says fails the test unless text holds every one of parts.
func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("it does not say %q:\n%s", p, text)
		}
	}
}

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not happen", what)
		panic("unreachable")
	}
}
