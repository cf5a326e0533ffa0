package source_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/dunlin/dunlin/internal/source"
)

// dial opens an SSH connection without the real client's manners.
func (w *world) dial(user string) *ssh.Client {
	w.t.Helper()
	pem, err := os.ReadFile(w.keys[user])
	check(w.t, err)
	key, err := ssh.ParsePrivateKey(pem)
	check(w.t, err)
	c, err := ssh.Dial("tcp", w.ssh, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(w.HostKey.PublicKey()),
	})
	check(w.t, err)
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestWhoLogsInIsToldWhatToDo(t *testing.T) {
	w := newWorld(t)
	host, port, _ := net.SplitHostPort(w.ssh)
	cmd := exec.Command("sh", "-c", w.sshCommand("ana")+" -p "+port+" whoever@"+host)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	says(t, string(out), "Hello ana: keys work.", "git push dunlin main")
}

func TestHostileRequestsAreRefusedAndTheServerGoesOn(t *testing.T) {
	w := newWorld(t)
	c := w.dial("ana")
	for _, kind := range []string{"direct-tcpip", "x11", "forwarded-tcpip", ""} {
		if _, _, err := c.OpenChannel(kind, []byte{0, 0, 0, 9, 'x'}); err == nil {
			t.Errorf("a channel of kind %q was opened", kind)
		}
	}
	for _, request := range []string{"tcpip-forward", "streamlocal-forward@openssh.com", "no-such"} {
		if ok, _, err := c.SendRequest(request, true, []byte("\xff\xff\xff\xff")); ok || err != nil {
			t.Errorf("global request %s: %v %v", request, ok, err)
		}
	}
	for _, r := range []struct {
		kind    string
		payload []byte
		want    bool
	}{
		{"env", []byte("\xff\xff\xff\xff"), false},
		{"env", ssh.Marshal(struct{ A, B string }{"LD_PRELOAD", "/tmp/x.so"}), false},
		{"env", ssh.Marshal(struct{ A, B string }{"GIT_PROTOCOL", "version=2\nGIT_DIR=/"}), false},
		{"env", ssh.Marshal(struct{ A, B string }{"GIT_PROTOCOL", "version=2"}), true},
		{"subsystem", ssh.Marshal(struct{ A string }{"sftp"}), false},
		{"exec", []byte{0, 0}, false},
		{"exec", nil, false},
		{"signal", []byte("x"), false},
		{"window-change", nil, false},
		{strings.Repeat("x", 1000), bytes.Repeat([]byte{0xff}, 10000), false},
	} {
		ch, reqs, err := c.OpenChannel("session", nil)
		check(t, err)
		go ssh.DiscardRequests(reqs)
		if ok, err := ch.SendRequest(r.kind, true, r.payload); ok != r.want || err != nil {
			t.Errorf("%.20s %q: %v %v", r.kind, r.payload[:min(len(r.payload), 40)], ok, err)
		}
		check(t, ch.Close())
	}
	for line, want := range map[string]string{
		"rm -rf /":                          "only git push, git fetch and git clone work here",
		"git-upload-archive 'acme/porch'":   "git archive does not work here",
		"git-upload-pack '../../etc'":       `"../../etc" does not name a fleet`,
		"git-upload-pack 'acme/\x1b[31mx'":  "does not name a fleet",
		"git-upload-pack '" + w.Dir + "/1'": "does not name a fleet",
	} {
		s, err := c.NewSession()
		check(t, err)
		out, err := s.CombinedOutput(line)
		if err == nil {
			t.Errorf("%q succeeded", line)
		}
		says(t, string(out), want, "hint: ")
		if bytes.ContainsRune(out, '\x1b') {
			t.Error("an escape sequence came back")
		}
	}
	raw, err := net.Dial("tcp", w.ssh)
	check(t, err)
	_, _ = raw.Write(bytes.Repeat([]byte("SSH-2.0-x\r\n\x00\x00\xff"), 1000))
	check(t, raw.Close())
	w.git(w.repository("acme/porch", nil), "push", "dunlin", "main")
}

func TestOneConnectionHasBoundedSessions(t *testing.T) {
	w := newWorld(t)
	c := w.dial("ana")
	refused := false
	for range 20 {
		ch, reqs, err := c.OpenChannel("session", nil)
		if err != nil {
			refused = true
			break
		}
		go ssh.DiscardRequests(reqs)
		defer ch.Close()
	}
	if !refused {
		t.Error("twenty sessions were opened on one connection")
	}
}

func TestABusyServerSaysSo(t *testing.T) {
	building, finish := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(w *world) {
		w.Limits.Sessions = 1
		w.OnPush = func(ctx context.Context, p source.Push, out io.Writer) error {
			close(building)
			<-finish
			return nil
		}
	})
	dir := w.repository("acme/porch", nil)
	done := make(chan error, 1)
	go func() { done <- w.client("ana", dir, "push", "dunlin", "main").Run() }()
	receive(t, building, "the build")
	for _, url := range []string{w.sshURL("acme/garden"), w.webURL("ana", "acme/garden")} {
		out, err := w.try("ana", dir, "ls-remote", url)
		if err == nil {
			t.Error("more was served than the bound")
		}
		if strings.HasPrefix(url, "ssh") {
			says(t, out, "error: the server is busy with 1 pushes and fetches")
		} else {
			says(t, out, "503")
		}
	}
	close(finish)
	check(t, receive(t, done, "the end of the push"))
}

func TestASilentClientIsSentAway(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.Limits.Idle, w.Limits.Handshake = time.Second, patience
	})
	check(t, w.Create(t.Context(), 1))
	check(t, os.MkdirAll(filepath.Join(w.Dir, "1.git", "objects", "tmp_objdir-incoming-x"), 0o700))
	s, err := w.dial("ana").NewSession()
	check(t, err)
	stdin, err := s.StdinPipe()
	check(t, err)
	defer stdin.Close()
	var stderr bytes.Buffer
	s.Stderr = &stderr
	if err := s.Run("git-receive-pack 'acme/porch'"); err == nil {
		t.Error("it ended well")
	}
	says(t, stderr.String(), "error: nothing was sent or read for too long")
	// A git ended by a signal leaves its quarantine; that it is swept away shows when the server has stopped.
	raw, err := net.Dial("tcp", w.ssh)
	check(t, err)
	defer raw.Close()
	_ = raw.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, raw); err != nil { // until the server hangs up
		t.Errorf("a connection that says nothing: %v", err)
	}
}

func TestSomethingElseThanTheHookIsSentAway(t *testing.T) {
	short, err := os.MkdirTemp("", "d") // the socket is then below Dir
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	w := newWorld(t, func(w *world) {
		w.Dir = filepath.Join(short, "git")
		w.OnPush = func(ctx context.Context, p source.Push, out io.Writer) error {
			sockets, err := filepath.Glob(filepath.Join(w.Dir, "run", "*"))
			if err != nil || len(sockets) != 1 {
				return fmt.Errorf("sockets %v: %w", sockets, err)
			}
			for _, say := range []string{
				`{"secret":"` + strings.Repeat("0", 64) + `","hook":"post-receive"}`, `{"hook":"post-receive"}`, `}`, "\xff", "",
			} {
				conn, err := net.Dial("unix", sockets[0])
				if err != nil {
					return err
				}
				fmt.Fprintln(conn, say)
				var all []byte
				code := 0
				for dec := json.NewDecoder(bufio.NewReader(conn)); ; {
					var r struct {
						Text []byte
						Code *int
					}
					if dec.Decode(&r) != nil {
						break
					}
					all = append(all, r.Text...)
					if r.Code != nil {
						code = *r.Code
					}
				}
				_ = conn.Close()
				if code != 1 || !strings.Contains(string(all), "this is not a hook of this push") {
					t.Errorf("%q was answered %d %q", say, code, all)
				}
			}
			// One that says nothing must not hold the push up.
			_, err = net.Dial("unix", sockets[0])
			return err
		}
		w.OnPushed = func(context.Context, source.Push, io.Writer) {}
	})
	w.git(w.repository("acme/porch", nil), "push", "dunlin", "main")
	var stderr bytes.Buffer
	if code := source.Hook([]string{"pre-receive"}, strings.NewReader(""), io.Discard, &stderr); code != 1 {
		t.Errorf("a hook outside of a push ends with %d", code)
	}
	says(t, stderr.String(), "error: this command is for git alone, during a push")
}

func TestHTTPServesNothingButGit(t *testing.T) {
	w := newWorld(t)
	w.git(w.repository("acme/porch", nil), "push", "dunlin", "main")
	for _, c := range []struct {
		method, path, kind, body string
		want                     int
	}{
		{"GET", "/git/acme/porch.git/info/refs?service=git-upload-pack", "", "", 200},
		{"GET", "/git/acme/porch.git/info/refs", "", "", 400},
		{"GET", "/git/acme/porch.git/info/refs?service=git-upload-archive", "", "", 400},
		{"POST", "/git/acme/porch.git/info/refs?service=git-upload-pack", "", "", 404},
		{"GET", "/git/acme/porch.git/HEAD", "", "", 404},
		{"GET", "/git/acme/porch.git/objects/info/packs", "", "", 404},
		{"GET", "/git/acme/porch.git/../../../etc/passwd", "", "", 404},
		{"GET", "/git/..%2f..%2fetc/info/refs?service=git-upload-pack", "", "", 404},
		{"GET", "/git/acme%00/porch/info/refs?service=git-upload-pack", "", "", 404},
		{"GET", "/elsewhere", "", "", 404},
		{"POST", "/git/acme/porch.git/git-receive-pack", "text/plain", "0000", 400},
		{"POST", "/git/acme/porch.git/git-receive-pack", "application/x-git-receive-pack-request", "0000", 200},
		{"POST", "/git/acme/porch.git/git-upload-archive", "application/x-git-upload-archive-request", "0000", 404},
		{"POST", "/git/acme/porch.git/git-upload-pack", "application/x-git-upload-pack-request", "garbage", 500},
	} {
		req, err := http.NewRequest(c.method, w.web+c.path, strings.NewReader(c.body))
		check(t, err)
		req.SetBasicAuth("x", "ana")
		req.Header.Set("Content-Type", c.kind)
		resp, err := http.DefaultClient.Do(req)
		check(t, err)
		if resp.StatusCode != c.want {
			t.Errorf("%s %s answers %d, want %d", c.method, c.path, resp.StatusCode, c.want)
		}
		_ = resp.Body.Close()
	}
	resp, err := http.Get(w.web + "/git/acme/porch.git/info/refs?service=git-upload-pack")
	check(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != 401 || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("nobody is answered %d %q", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	}
}

func TestTheHostKeyIsMadeOnceAndForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "key")
	one, err := source.LoadHostKey(path)
	check(t, err)
	two, err := source.LoadHostKey(path)
	check(t, err)
	if ssh.FingerprintSHA256(one.PublicKey()) != ssh.FingerprintSHA256(two.PublicKey()) {
		t.Error("the second start has another key")
	}
	info, err := os.Stat(path)
	check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v", info.Mode())
	}
	check(t, os.WriteFile(path, []byte("garbage"), 0o600))
	if _, err := source.LoadHostKey(path); err == nil {
		t.Error("garbage was taken for a key")
	}
}

func TestWhatAKilledServerLeftIsSweptAway(t *testing.T) {
	w := newWorld(t)
	w.fleets["acme/spare"] = 9
	check(t, os.MkdirAll(filepath.Join(w.Dir, "9.git"), 0o700))
	dir := w.repository("acme/porch", nil)
	first := &source.Server{Dir: filepath.Join(t.TempDir(), "git"), Hook: w.Hook}
	check(t, first.Create(t.Context(), 1))
	repo := filepath.Join(first.Dir, "1.git")
	w.git(dir, "push", "--quiet", repo, "main")
	left := []string{
		"objects/tmp_objdir-incoming-x/pack/a", "refs/heads/main.lock", "packed-refs.lock", "objects/pack/tmp_pack_x", "../run/old",
	}
	for _, name := range left {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(repo, name)), 0o700))
		check(t, os.WriteFile(filepath.Join(repo, name), nil, 0o600))
	}
	second := &source.Server{Dir: first.Dir, Hook: w.Hook}
	check(t, second.Create(t.Context(), 2))
	for _, name := range left {
		if _, err := os.Stat(filepath.Join(repo, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if out, err := w.try("ana", dir, "ls-remote", repo); err != nil || !strings.Contains(out, "refs/heads/main") {
		t.Errorf("the repository suffered: %v", err)
	}
}

func TestHousekeepingPacksWhatWasPushedAndDropsOldCaches(t *testing.T) {
	w := newWorld(t)
	dir := w.repository("acme/porch", nil)
	w.git(dir, "push", "dunlin", "main")
	old, young := filepath.Join(w.Dir, "submodules", "old.git"), filepath.Join(w.Dir, "submodules", "young.git")
	check(t, os.MkdirAll(old, 0o700))
	check(t, os.MkdirAll(young, 0o700))
	past := time.Now().Add(-40 * 24 * time.Hour)
	check(t, os.Chtimes(old, past, past))
	// Enough loose objects for git to think of packing them (gc.auto).
	loose := filepath.Join(w.Dir, "1.git", "objects", "17")
	check(t, os.MkdirAll(loose, 0o700))
	for i := range 30 {
		check(t, os.WriteFile(filepath.Join(loose, fmt.Sprintf("%038x", i)), nil, 0o600))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		packs, _ := filepath.Glob(filepath.Join(w.Dir, "1.git", "objects", "pack", "*.pack"))
		_, gone := os.Stat(old)
		if len(packs) > 0 && os.IsNotExist(gone) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("packs %v, old cache %v", packs, gone)
		}
	}
	cancel()
	check(t, receive(t, done, "the end of Run"))
	if _, err := os.Stat(young); err != nil {
		t.Error("a young cache was dropped")
	}
}
