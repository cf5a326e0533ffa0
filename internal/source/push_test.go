package source_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/source"
)

func TestAPushToMainIsHandedOnAndKept(t *testing.T) {
	for name, url := range map[string]func(*world) string{
		"over ssh":                      func(w *world) string { return w.sshURL("acme/porch") },
		"over ssh, without .git":        func(w *world) string { return "ssh://" + w.ssh + "/ACME/porch" },
		"over ssh, with http's path":    func(w *world) string { return "ssh://" + w.ssh + "/git/acme/porch.git" },
		"over http":                     func(w *world) string { return w.webURL("ana", "acme/porch") },
		"over http, without .git":       func(w *world) string { return strings.TrimSuffix(w.webURL("ana", "acme/porch"), ".git") },
		"over http, larger than memory": func(w *world) string { return w.webURL("ana", "acme/porch") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			files := map[string]string{"Dockerfile": "FROM scratch\n", "src/a b.txt": "x"}
			if strings.Contains(name, "larger") {
				files["noise"] = noise(3 << 20) // more than http.postBuffer: chunked
			}
			dir := w.repository("acme/porch", files)
			commit := w.git(dir, "rev-parse", "HEAD")
			says(t, w.git(dir, "push", "-o", "draft", "-o", "nocache", url(w), "main"), "remote: built first")
			if got := w.ref("acme/porch", "refs/heads/main"); got != commit {
				t.Errorf("main is %q, want %q", got, commit)
			}
			if len(w.handed()) != 1 {
				t.Fatalf("%d pushes were handed on, want 1", len(w.handed()))
			}
			p := w.handed()[0]
			p.Archive = nil
			want := source.Push{
				Fleet: 1, Slug: "acme/porch", Actor: p.Actor, Ref: "refs/heads/main", Branch: "main", Commit: commit, Subject: "first",
				Roots: []string{commit}, Options: map[string]string{"draft": "", "nocache": ""}, Created: true,
			}
			if diff := cmp.Diff(want, p); diff != "" || p.Actor.Name != "ana" {
				t.Errorf("the push of %q (-want +got):\n%s", p.Actor.Name, diff)
			}
			if got := w.built(commit)["src/a b.txt"]; got.content != "x" || got.mode != 0o644 {
				t.Errorf("the archive has %+v", got)
			}
			clone := t.TempDir()
			w.git(clone, "clone", "--quiet", url(w), ".")
			if got := w.git(clone, "rev-parse", "HEAD"); got != commit {
				t.Errorf("a clone has %q, want %q", got, commit)
			}
			says(t, w.git(dir, "push", url(w), "main"), "Everything up-to-date")
		})
	}
}

func noise(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

func TestFetchingWorksInEveryProtocolVersion(t *testing.T) {
	w := newWorld(t)
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	w.git(dir, "push", "dunlin", "main")
	// Enough commits to make a client compress what it asks for.
	var history strings.Builder
	for i := range 40 {
		fmt.Fprintf(&history, "commit refs/heads/long\nmark :%d\ncommitter Ana <ana@example.org> %d +0000\ndata 1\nx\n", i+1, 1767323045+i)
		fmt.Fprintf(&history, "reset refs/tags/v%d\nfrom :%d\n\n", i, i+1)
	}
	imported := w.client("ana", dir, "fast-import", "--quiet")
	imported.Stdin = strings.NewReader(history.String())
	check(t, imported.Run())
	says(t, w.git(dir, "push", "--tags", "dunlin"), "remote: and 35 more are kept")
	for _, url := range []string{w.sshURL("acme/porch"), w.webURL("ana", "acme/porch")} {
		for _, version := range []string{"0", "1", "2"} {
			says(t, w.git(dir, "-c", "protocol.version="+version, "ls-remote", url), "refs/heads/main", "refs/tags/v39")
			clone := t.TempDir()
			w.git(clone, "-c", "protocol.version="+version, "clone", "--quiet", "--depth=1", "--branch=v3", url, ".")
			w.git(clone, "-c", "protocol.version="+version, "fetch", "--quiet", "--unshallow", "--tags", url)
			if got, want := w.git(clone, "rev-parse", "v39"), w.git(dir, "rev-parse", "v39"); got != want {
				t.Errorf("version %s: v39 is %s, want %s", version, got, want)
			}
		}
	}
	cmd := w.client("ana", dir, "-c", "protocol.version=2", "ls-remote", w.sshURL("acme/porch"))
	cmd.Env = append(cmd.Env, "GIT_TRACE_PACKET=1")
	out, err := cmd.CombinedOutput()
	check(t, err)
	says(t, string(out), "< version 2") // GIT_PROTOCOL came through
}

func TestARefusedPushLeavesTheRepositoryAsItWas(t *testing.T) {
	w := newWorld(t)
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	w.git(dir, "push", "dunlin", "main")
	before := w.ref("acme/porch", "refs/heads/main")
	w.refuse(fault.New(fault.Invalid, "the build failed: exit status 1").WithHint("read the lines above"))
	for _, url := range []string{w.sshURL("acme/porch"), w.webURL("ana", "acme/porch")} {
		after := w.commit(dir, "broken", map[string]string{"a": "2"})
		out, err := w.try("ana", dir, "push", url, "main", "HEAD:refs/heads/other")
		if err == nil {
			t.Fatal("the push succeeded")
		}
		says(t, out, "remote: built broken", "remote: error: the build failed: exit status 1", "remote: hint: read the lines above", "pre-receive hook declined")
		if got := w.ref("acme/porch", "refs/heads/main"); got != before || w.ref("acme/porch", "refs/heads/other") != "" {
			t.Errorf("the refs moved: main is %q", got)
		}
		if w.has("acme/porch", after) {
			t.Error("the refused commit is in the repository")
		}
	}
	w.refuse(errors.New("secret: the database is at 10.0.0.3"))
	out, err := w.try("ana", dir, "push", "dunlin", "main")
	if err == nil || strings.Contains(out, "secret") {
		t.Error("an unclassified error got out, or did not refuse the push")
	}
	says(t, out, "remote: error: internal error (reference ")
	w.refuse(nil)
	w.git(dir, "push", "dunlin", "main")
}

func TestWhatTheBuildSaysArrivesLive(t *testing.T) {
	for _, transport := range []string{"ssh", "http"} {
		t.Run(transport, func(t *testing.T) {
			heard, watched := make(chan struct{}), make(chan struct{})
			w := newWorld(t, func(w *world) {
				w.OnPush = func(ctx context.Context, p source.Push, out io.Writer) error {
					fmt.Fprintln(out, "step 1")
					select { // goes on only when the pusher has read it
					case <-heard:
					case <-ctx.Done():
						return ctx.Err()
					}
					fmt.Fprintln(out, "step 2")
					return nil
				}
				w.OnPushed = func(ctx context.Context, p source.Push, out io.Writer) {
					fmt.Fprintln(out, "running on 1 of 2")
					select {
					case <-watched:
					case <-ctx.Done():
					}
				}
			})
			dir := w.repository("acme/porch", map[string]string{"a": "1"})
			url := w.sshURL("acme/porch")
			if transport == "http" {
				url = w.webURL("ana", "acme/porch")
			}
			cmd := w.client("ana", dir, "push", url, "main")
			stderr, err := cmd.StderrPipe()
			check(t, err)
			check(t, cmd.Start())
			var all []string
			for lines := bufio.NewScanner(stderr); lines.Scan(); {
				line := strings.TrimSpace(lines.Text())
				all = append(all, line)
				switch line {
				case "remote: step 1":
					close(heard)
				case "remote: running on 1 of 2":
					if w.ref("acme/porch", "refs/heads/main") == "" {
						t.Error("OnPushed ran before the ref had moved")
					}
					close(watched)
				}
			}
			check(t, cmd.Wait())
			says(t, strings.Join(all, "\n"), "remote: step 1\nremote: step 2\nremote: running on 1 of 2")
		})
	}
}

func TestAPushToAnotherBranchIsKeptAndSaysSo(t *testing.T) {
	w := newWorld(t)
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	w.git(dir, "tag", "v1")
	says(t, w.git(dir, "push", "dunlin", "main:feature/x", "v1"),
		"remote: branch feature/x is kept; push to main to deploy", "remote: tag v1 is kept; push to main to deploy")
	if len(w.handed()) != 0 {
		t.Error("it was handed on")
	}
	if w.ref("acme/porch", "refs/heads/feature/x") == "" || w.ref("acme/porch", "refs/tags/v1") == "" {
		t.Error("it was not kept")
	}
	w.git(dir, "push", "dunlin", ":feature/x")
	if w.ref("acme/porch", "refs/heads/feature/x") != "" {
		t.Error("another branch could not be deleted")
	}
}

func TestMainAndMasterBothDeployButNotTogether(t *testing.T) {
	w := newWorld(t)
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	out, err := w.try("ana", dir, "push", "dunlin", "main", "main:master")
	if err == nil || len(w.handed()) != 0 {
		t.Error("both were taken")
	}
	says(t, out, "remote: error: main and master cannot be pushed together", "remote: hint: push the one you mean")
	w.git(dir, "push", "dunlin", "main:master")
	if len(w.handed()) != 1 || w.handed()[0].Branch != "master" {
		t.Errorf("handed on: %+v", w.handed())
	}
	clone := t.TempDir()
	w.git(clone, "clone", "--quiet", w.sshURL("acme/porch"), ".")
	if got := w.git(clone, "branch", "--show-current"); got != "master" {
		t.Errorf("a clone checks out %q, want what was deployed", got)
	}
	out, err = w.try("ana", dir, "push", "dunlin", ":master")
	if err == nil || w.ref("acme/porch", "refs/heads/master") == "" {
		t.Error("master could be deleted")
	}
	says(t, out, "remote: error: branch master cannot be deleted")
}

func TestAForcedPushMayRewriteHistoryAndTellsItsRoots(t *testing.T) {
	w := newWorld(t)
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	first := w.git(dir, "rev-parse", "HEAD")
	w.git(dir, "push", "dunlin", "main")
	w.git(dir, "checkout", "--quiet", "--orphan", "new")
	second := w.commit(dir, "another beginning", map[string]string{"b": "1"})
	w.git(dir, "merge", "--quiet", "--allow-unrelated-histories", "--strategy=ours", "-m", "join", "main")
	w.git(dir, "push", "--force", "-o", "force-history", "dunlin", "new:main")
	p := w.handed()[1]
	if diff := cmp.Diff([]string{second, first}, p.Roots); diff != "" {
		t.Errorf("roots (-want +got):\n%s", diff)
	}
	if _, ok := p.Options[source.OptionForceHistory]; !ok || p.Created {
		t.Errorf("options %v, created %v", p.Options, p.Created)
	}
}

func TestAnUnknownPushOptionIsRefusedWithTheKnownOnes(t *testing.T) {
	w := newWorld(t)
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	out, err := w.try("ana", dir, "push", "-o", "no-cache", "dunlin", "main")
	if err == nil || len(w.handed()) != 0 {
		t.Error("it was taken")
	}
	says(t, out, `error: there is no push option "no-cache"`, "hint: the options are -o draft (make a draft release), -o force-history")
	if out, err = w.try("ana", dir, "push", "-o", "draft=yes", "dunlin", "main"); err == nil {
		t.Error("a value was taken")
	}
	says(t, out, `error: push option "draft" takes no value`)
}

func TestAForeignFleetAndOneThatIsNotThereLookTheSame(t *testing.T) {
	w := newWorld(t)
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	w.git(dir, "push", w.sshURL("acme/porch"), "main")
	for _, url := range []func(string) string{w.sshURL, func(slug string) string { return w.webURL("ana", slug) }} {
		for _, verb := range []string{"push", "fetch"} {
			foreign, err1 := w.try("ana", dir, verb, url("bobs/cellar"), "main")
			missing, err2 := w.try("ana", dir, verb, url("bobs/nothin"), "main")
			if err1 == nil || err2 == nil {
				t.Errorf("%s succeeded", verb)
			}
			if foreign = strings.ReplaceAll(foreign, "cellar", "nothin"); foreign != missing {
				t.Errorf("%s tells them apart:\n%s\n%s", verb, foreign, missing)
			}
			says(t, missing, `there is no fleet "bobs/nothin" here, or it is not yours to see`)
		}
	}
	if entries, _ := os.ReadDir(w.Dir + "/3.git"); len(entries) > 0 {
		t.Error("a refused push made the repository")
	}
}

func TestWhoOwnsNoKeyGetsIn(t *testing.T) {
	w := newWorld(t)
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	if out, err := w.try("stranger", dir, "push", "dunlin", "main"); err == nil {
		t.Errorf("a stranger's key was taken:\n%s", out)
	}
	out, err := w.try("ana", dir, "push", w.webURL("wrong", "acme/porch"), "main")
	if err == nil {
		t.Error("a wrong password was taken")
	}
	says(t, out, "Authentication failed")
	if out, err = w.try("ana", dir, "ls-remote", w.web+"/git/acme/porch.git"); err == nil {
		t.Errorf("nobody was let in:\n%s", out)
	}
}

func TestAClientThatLeavesEndsTheBuild(t *testing.T) {
	for _, transport := range []string{"ssh", "ssh, one session of a connection", "http"} {
		t.Run(transport, func(t *testing.T) {
			building, ended := make(chan struct{}), make(chan error, 1)
			w := newWorld(t, func(w *world) {
				w.OnPush = func(ctx context.Context, p source.Push, out io.Writer) error {
					close(building)
					<-ctx.Done()
					ended <- context.Cause(ctx)
					return ctx.Err()
				}
			})
			dir := w.repository("acme/porch", map[string]string{"a": "1"})
			url := w.sshURL("acme/porch")
			if transport == "http" {
				url = w.webURL("ana", "acme/porch")
			}
			cmd := w.client("ana", dir, "push", url, "main")
			if strings.Contains(transport, "connection") {
				cmd.Env[len(cmd.Env)-1] += " -S " + w.master()
			}
			check(t, cmd.Start())
			receive(t, building, "the build")
			check(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
			_ = cmd.Wait()
			receive(t, ended, "the end of the build")
			check(t, w.stop()) // and what is left is looked at
			if w.ref("acme/porch", "refs/heads/main") != "" {
				t.Error("the ref moved")
			}
		})
	}
}

// master opens an SSH connection that stays when the sessions on it go, and returns its control socket.
func (w *world) master() string {
	w.t.Helper()
	short, err := os.MkdirTemp("", "d")
	check(w.t, err)
	socket := short + "/s"
	host, port, _ := net.SplitHostPort(w.ssh)
	line := w.sshCommand("ana") + " -S " + socket + " -p " + port
	cmd := exec.Command("sh", "-c", "exec "+line+" -M -N "+host)
	check(w.t, cmd.Start())
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(short)
	})
	for deadline := time.Now().Add(patience); exec.Command("sh", "-c", line+" -O check "+host).Run() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("the connection did not come up")
		}
	}
	return socket
}

func TestWatchingARolloutHoldsNoOtherPushUp(t *testing.T) {
	watching := make(chan struct{}, 2)
	w := newWorld(t, func(w *world) {
		w.OnPushed = func(ctx context.Context, p source.Push, out io.Writer) {
			watching <- struct{}{}
			if p.Created { // the first of the two: until its pusher leaves
				<-ctx.Done()
			}
		}
	})
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	first := w.client("ana", dir, "push", "dunlin", "main")
	check(t, first.Start())
	receive(t, watching, "the first rollout")
	w.commit(dir, "second", nil)
	w.git(dir, "push", "dunlin", "main")
	check(t, syscall.Kill(-first.Process.Pid, syscall.SIGKILL))
	_ = first.Wait()
}

func TestPushesToOneRepositoryWaitForEachOther(t *testing.T) {
	first, second := make(chan struct{}), make(chan struct{})
	builds := 0
	w := newWorld(t, func(w *world) {
		w.OnPush = func(ctx context.Context, p source.Push, out io.Writer) error {
			builds++ // unguarded: the race detector would see two builds at a time
			if builds == 1 {
				close(first)
				select {
				case <-second:
				case <-ctx.Done():
				}
			}
			return nil
		}
	})
	a := w.repository("acme/porch", map[string]string{"a": "1"})
	b := w.repository("acme/porch", map[string]string{"b": "1"})
	one := w.client("ana", a, "push", "dunlin", "main")
	check(t, one.Start())
	receive(t, first, "the first build")
	two := w.client("ana", b, "push", w.webURL("ana", "acme/porch"), "main")
	stderr, err := two.StderrPipe()
	check(t, err)
	check(t, two.Start())
	var said []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), "waiting for another push to acme/porch to end") {
			close(second)
		}
	}
	check(t, one.Wait())
	if two.Wait() == nil {
		t.Error("the second push overran the first")
	}
	says(t, strings.Join(said, "\n"), "error: another push moved main meanwhile", "hint: fetch, merge and push again")
	if builds != 1 {
		t.Errorf("%d builds, want 1: the second could not have been kept", builds)
	}
	if got, want := w.ref("acme/porch", "refs/heads/main"), w.git(a, "rev-parse", "HEAD"); got != want {
		t.Errorf("main is %s, want %s", got, want)
	}
}

func TestAPushThatIsTooLargeIsRefusedWithItsReason(t *testing.T) {
	w := newWorld(t, func(w *world) { w.Limits.Pack = 1 << 20 })
	dir := w.repository("acme/porch", map[string]string{"noise": noise(8 << 20)})
	for _, url := range []string{w.sshURL("acme/porch"), w.webURL("ana", "acme/porch")} {
		out, err := w.try("ana", dir, "push", url, "main")
		if err == nil || len(w.handed()) != 0 {
			t.Error("it was taken")
		}
		says(t, out, "pack exceeds maximum allowed size")
	}
}

func TestABrokenObjectIsRefused(t *testing.T) {
	w := newWorld(t)
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	blob := w.git(dir, "rev-parse", "HEAD:a")
	mktree := w.client("ana", dir, "hash-object", "-t", "tree", "-w", "--stdin", "--literally")
	mktree.Stdin = strings.NewReader("100644 ..\x00" + string(unhex(t, blob)))
	tree, err := mktree.Output()
	check(t, err)
	commit := w.git(dir, "commit-tree", "-m", "hostile", strings.TrimSpace(string(tree)))
	out, err := w.try("ana", dir, "push", "dunlin", commit+":refs/heads/main")
	if err == nil || len(w.handed()) != 0 {
		t.Error("it was taken")
	}
	says(t, out, "hasDotdot")
}

func TestABranchThatPointsAtNoCommitIsRefusedBeforeTheBuild(t *testing.T) {
	w := newWorld(t)
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	cmd := w.client("ana", dir, "send-pack", w.sshURL("acme/porch"), "HEAD^{tree}:refs/heads/main")
	out, err := cmd.CombinedOutput()
	if err == nil || len(w.handed()) != 0 {
		t.Errorf("it was taken:\n%s", out)
	}
}

func TestTheServerStopsAndTellsWhoIsPushing(t *testing.T) {
	building := make(chan struct{})
	w := newWorld(t, func(w *world) {
		w.Limits.Grace = 1 // as good as none
		w.OnPush = func(ctx context.Context, p source.Push, out io.Writer) error {
			close(building)
			<-ctx.Done()
			return ctx.Err()
		}
	})
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := w.client("ana", dir, "push", "dunlin", "main").CombinedOutput()
		done <- result{string(out), err}
	}()
	receive(t, building, "the build")
	check(t, w.stop())
	r := receive(t, done, "the end of the push")
	if r.err == nil {
		t.Error("the push succeeded")
	}
	says(t, r.out, "remote: error: the server is stopping", "remote: hint: try again in a moment")
	w.clean()
}

func TestAPusherOverHTTPIsToldThatTheServerStops(t *testing.T) {
	building := make(chan struct{})
	w := newWorld(t, func(w *world) {
		w.Limits.Grace = 1
		w.OnPush = func(ctx context.Context, p source.Push, out io.Writer) error {
			close(building)
			<-ctx.Done()
			return ctx.Err()
		}
	})
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	ctx, stop := context.WithCancel(t.Context())
	ran, done := make(chan error, 1), make(chan string, 1)
	go func() { ran <- w.Run(ctx) }()
	go func() {
		out, _ := w.client("ana", dir, "push", w.webURL("ana", "acme/porch"), "main").CombinedOutput()
		done <- string(out)
	}()
	receive(t, building, "the build")
	stop()
	check(t, receive(t, ran, "the end of Run"))
	says(t, receive(t, done, "the end of the push"), "remote: error: the server is stopping")
}

func TestAnAcceptedPushMovesItsRefThoughThePusherHasLeft(t *testing.T) {
	building := make(chan struct{})
	w := newWorld(t, func(w *world) {
		w.OnPush = func(ctx context.Context, p source.Push, out io.Writer) error {
			close(building)
			<-ctx.Done()
			return nil // too late to go back
		}
	})
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	cmd := w.client("ana", dir, "push", "dunlin", "main")
	check(t, cmd.Start())
	receive(t, building, "the build")
	check(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	_ = cmd.Wait()
	check(t, w.stop())
	if w.ref("acme/porch", "refs/heads/main") == "" {
		t.Error("what was accepted is not kept")
	}
}

func TestAStoppingServerLetsAPushEnd(t *testing.T) {
	building, finish := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(w *world) {
		w.Limits.Grace = patience
		w.OnPush = func(ctx context.Context, p source.Push, out io.Writer) error {
			close(building)
			<-finish
			return ctx.Err()
		}
	})
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	done := make(chan error, 1)
	go func() { done <- w.client("ana", dir, "push", "dunlin", "main").Run() }()
	receive(t, building, "the build")
	stopped := make(chan error, 1)
	go func() { stopped <- w.stop() }()
	for w.client("ana", dir, "ls-remote", "dunlin").Run() == nil { // until nothing new is taken
	}
	close(finish)
	check(t, receive(t, done, "the end of the push"))
	check(t, receive(t, stopped, "the stop"))
	if w.ref("acme/porch", "refs/heads/main") == "" {
		t.Error("the push was not kept")
	}
}

func TestRemovingAFleetEndsItsPushesAndTakesItsRepository(t *testing.T) {
	building := make(chan struct{})
	w := newWorld(t, func(w *world) {
		w.OnPush = func(ctx context.Context, p source.Push, out io.Writer) error {
			close(building)
			<-ctx.Done()
			return ctx.Err()
		}
	})
	dir := w.repository("acme/porch", map[string]string{"a": "1"})
	done := make(chan string, 1)
	go func() {
		out, _ := w.client("ana", dir, "push", "dunlin", "main").CombinedOutput()
		done <- string(out)
	}()
	receive(t, building, "the build")
	check(t, w.Remove(t.Context(), 1))
	says(t, receive(t, done, "the end of the push"), "remote: error: the fleet was removed")
	if _, err := os.Stat(w.Dir + "/1.git"); !os.IsNotExist(err) {
		t.Errorf("the repository is there: %v", err)
	}
	check(t, w.Remove(t.Context(), 1))
}

func unhex(t *testing.T, id string) []byte {
	t.Helper()
	b, err := hex.DecodeString(id)
	check(t, err)
	return b
}
