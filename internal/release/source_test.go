package release_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/release"
)

// module is the files of a Go module whose main function is body.
func module(body string) map[string]string {
	return map[string]string{"go.mod": "module example.com/m\n\ngo 1.24\n", "main.go": "package main\n\nfunc main() { " + body + " }\n"}
}

// packed is files as the stock CLI sends them.
func packed(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := errors.Join(archive(z, files), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// folder is a push of a folder of files.
func (p *place) folder(files map[string]string) release.Push {
	p.t.Helper()
	source, err := p.Receive(bytes.NewReader(packed(p.t, files)), false)
	if err != nil {
		p.t.Fatal(err)
	}
	return release.Push{Fleet: porch, Source: source, Actor: fleet.Actor{Kind: fleet.UserActor, Name: "ann", Actor: 77, Address: "192.0.2.7"}}
}

// stored is what the database says of a release.
func (p *place) stored(id int64) fleet.Release {
	p.t.Helper()
	r, err := p.Store.Release(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// sources are the files that are kept.
func (p *place) sources() []string {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(p.Sources, "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	return files
}

func TestAFolderBecomesAReleaseWithACommitOfItsOwn(t *testing.T) {
	p := open(t)
	var order []string
	p.Moved = func(r fleet.Release) { order = append(order, fmt.Sprintf("%d %s", r.ID, r.Status)) }
	p.exec(`INSERT INTO users (id, created_at, modified_at, actor, username, email, password_hash, jwt_secret) VALUES (5, 1, 1, 9001, 'ann', 'ann@example.com', '', '')`)
	push := p.folder(module(""))
	push.Actor.ID = 5
	var out bytes.Buffer
	push.Begun = func(r fleet.Release) {
		order = append(order, fmt.Sprintf("begun %d with %d bytes written", r.ID, out.Len()))
		if got := p.stored(r.ID); got.Status != fleet.Running {
			t.Errorf("told of a release that is %+v", got)
		}
	}
	r, err := p.Push(t.Context(), push, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	want := []string{fmt.Sprintf("%d running", r.ID), fmt.Sprintf("begun %d with 0 bytes written", r.ID), fmt.Sprintf("%d success", r.ID)}
	if !slices.Equal(order, want) {
		t.Errorf("it went %q, want %q", order, want)
	}
	if len(r.Commit) != 32 || strings.Trim(r.Commit, "0123456789abcdef") != "" || r.GitCommit != "" || p.target() != r.ID {
		t.Errorf("%+v, target %d", r, p.target())
	}
	again, err := p.Push(t.Context(), p.folder(module("")), io.Discard)
	if err != nil || again.ID == r.ID || again.Commit == r.Commit {
		t.Errorf("the same folder once more: %+v (%v)", again, err)
	}
	var verb, name, address, details string
	var by int64
	if err := p.Store.Reader().QueryRow(`SELECT a.verb, a.actor_name, a.address, a.details, r.created_by FROM audit_events a
		JOIN releases r ON r.id = a.row_id WHERE a.resource = 'release' AND a.row_id = $1`, r.ID).Scan(&verb, &name, &address, &details, &by); err != nil {
		t.Fatal(err)
	}
	if verb != "push" || name != "ann" || address != "192.0.2.7" || by != 5 || !strings.Contains(details, r.Commit) {
		t.Errorf("the trail says %s %s %s %s, the release is by %d", verb, name, address, details, by)
	}
	if left := p.sources(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestASourceThatIsNoneIsRefusedAndLeavesNothingBehind(t *testing.T) {
	p := open(t)
	p.Limits = build.Limits{Bytes: 1 << 20}
	whole := packed(t, module(""))
	var plain, nothing, bomb bytes.Buffer
	if err := errors.Join(archive(&plain, module("")), tar.NewWriter(&nothing).Close()); err != nil {
		t.Fatal(err)
	}
	z, _ := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	if err := tar.NewWriter(z).WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(z, zeros{}, 8<<20); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body []byte
		kind fault.Kind
		says string
	}{
		"cut short":            {whole[:len(whole)/2], fault.Invalid, "cut short"},
		"cut short by a byte":  {whole[:len(whole)-1], fault.Invalid, "cut short"},
		"changed on its way":   {append(slices.Clone(whole[:len(whole)-8]), 1, 2, 3, 4, 5, 6, 7, 8), fault.Invalid, "damaged"},
		"a web page":           {[]byte("<!DOCTYPE html><html>" + strings.Repeat(" ", 2000)), fault.Invalid, "incorrect header check"},
		"nothing":              {nil, fault.Invalid, "empty"},
		"an archive of naught": {nothing.Bytes(), fault.Invalid, "empty"},
		"a bomb":               {bomb.Bytes(), fault.TooLarge, "larger than the server takes"},
	} {
		if _, err := p.Receive(bytes.NewReader(c.body), false); !fault.Is(err, c.kind) || !strings.Contains(fault.Message(err), c.says) {
			t.Errorf("%s: answered %v", name, err)
		}
		if left := p.sources(); len(left) != 0 {
			t.Fatalf("%s: left behind %v", name, left)
		}
	}
	if _, err := p.Receive(io.MultiReader(bytes.NewReader(whole[:100]), broken{}), false); !fault.Is(err, fault.Invalid) || len(p.sources()) != 0 {
		t.Errorf("a connection that broke: %v, left behind %v", err, p.sources())
	}
	s, err := p.Receive(&plain, false)
	if err != nil || len(p.sources()) != 1 {
		t.Fatalf("an archive that is not compressed: %v", err)
	}
	if err := s.Discard(); err != nil || len(p.sources()) != 0 {
		t.Errorf("discarded: %v, left behind %v", err, p.sources())
	}
}

// zeros never ends; broken ends at once, badly.
type (
	zeros  struct{}
	broken struct{}
)

func (zeros) Read(b []byte) (int, error)  { clear(b); return len(b), nil }
func (broken) Read(b []byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestTheOneFolderOfADownloadIsTakenAway(t *testing.T) {
	for name, c := range map[string]struct {
		names []string
		want  []string
		says  string
	}{
		"a repository's download": {[]string{"m-1.0/", "m-1.0/go.mod", "m-1.0/cmd/m/main.go"}, []string{"go.mod", "cmd/m/main.go"}, ""},
		"with dots":               {[]string{"./m/", "./m/go.mod"}, []string{"go.mod"}, ""},
		"two folders":             {[]string{"a/x", "b/y"}, nil, "one folder at its top"},
		"a file beside it":        {[]string{"a/x", "y"}, nil, "one folder at its top"},
		"out of it":               {[]string{"../x"}, nil, "one folder at its top"},
		"absolute":                {[]string{"/a/x"}, nil, "one folder at its top"},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t)
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, n := range c.names {
				h := &tar.Header{Name: n, Mode: 0o755, Typeflag: tar.TypeReg}
				if strings.HasSuffix(n, "/") {
					h.Typeflag = tar.TypeDir
				}
				if err := w.WriteHeader(h); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			_, err := p.Receive(&b, true)
			if c.says != "" {
				if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), c.says) {
					t.Errorf("answered %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(p.sources()[0])
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var got []string
			for r := tar.NewReader(f); ; {
				h, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, h.Name)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("it holds %q, want %q", got, c.want)
			}
		})
	}
}

func TestAFolderIsBuiltToItsEndThoughItsPusherLeaves(t *testing.T) {
	p := open(t)
	ctx, leave := context.WithCancel(t.Context())
	push := p.folder(module(""))
	push.Begun = func(fleet.Release) { leave() }
	r, err := p.Push(ctx, push, io.Discard)
	if err != nil || r.Status != fleet.Success || p.target() != r.ID {
		t.Errorf("%+v (%v), target %d", r, err, p.target())
	}
}

func TestAFolderIsBuiltWhileNobodyWaits(t *testing.T) {
	p := open(t)
	goOn := make(chan struct{})
	p.gate = func() { <-goOn }
	r, err := p.Start(t.Context(), p.folder(module("")))
	if err != nil || p.stored(r.ID).Status != fleet.Running {
		t.Fatalf("%+v (%v)", r, err)
	}
	close(goOn)
	p.Wait()
	if got := p.stored(r.ID); got.Status != fleet.Success || p.target() != r.ID {
		t.Errorf("%+v, target %d", got, p.target())
	}
}

func TestAFolderCanBeCancelledWhileItIsBuiltAndWhileItWaits(t *testing.T) {
	p := open(t)
	inside, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.gate = func() { once.Do(func() { close(inside); <-goOn }) }
	first, err := p.Start(t.Context(), p.folder(module("")))
	if err != nil {
		t.Fatal(err)
	}
	<-inside
	waiting := make(chan struct{})
	push := p.folder(module("println()"))
	begun := make(chan fleet.Release, 1)
	push.Begun = func(r fleet.Release) { begun <- r }
	ended := make(chan error, 1)
	go func() {
		_, err := p.Push(t.Context(), push, notice{"waiting for it", waiting, &sync.Once{}})
		ended <- err
	}()
	second := <-begun // though the first has not ended
	<-waiting
	p.cancel() // both
	if err := <-ended; !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Message(err), "cancelled") {
		t.Errorf("the pusher who waited is told %v", err)
	}
	close(goOn)
	p.Wait()
	for _, r := range []fleet.Release{first, second} {
		if got := p.stored(r.ID); got.Status != fleet.Cancelled {
			t.Errorf("%+v", got)
		}
	}
	if p.target() != 0 || len(p.sources()) != 0 {
		t.Errorf("target %d, left behind %v", p.target(), p.sources())
	}
	var log string
	if err := p.Store.Reader().QueryRow(`SELECT build_log FROM releases WHERE id = $1`, first.ID).Scan(&log); err != nil || !strings.Contains(log, "Building "+first.Commit[:7]) {
		t.Errorf("the kept log of what was built before the cancel is %q (%v)", log, err)
	}
}

func TestAFolderThatIsCancelledAtOnceIsNotBuilt(t *testing.T) {
	p := open(t)
	p.gate = func() { t.Error("it was built") }
	push := p.folder(module(""))
	push.Begun = func(fleet.Release) { p.cancel() } // before there is anything to break off
	r, err := p.Push(t.Context(), push, io.Discard)
	if !fault.Is(err, fault.Conflict) || p.stored(r.ID).Status != fleet.Cancelled || len(p.sources()) != 0 {
		t.Errorf("%+v (%v), left behind %v", r, err, p.sources())
	}
}

func TestAFolderOfAnUnrelatedHistoryIsRefusedBeforeItIsSentAndAfter(t *testing.T) {
	p := open(t)
	mine, foreign := commit(0xabc), commit(0xdef)
	first := p.folder(module(""))
	first.Roots, first.GitCommit = []string{mine}, commit(1)
	r, err := p.Push(t.Context(), first, io.Discard)
	if err != nil || r.GitCommit != commit(1) {
		t.Fatalf("%+v (%v)", r, err)
	}
	other := release.Push{Fleet: porch, Roots: []string{foreign}}
	if err := p.Check(t.Context(), other); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Hint(err), "dunlin push --force-history") {
		t.Errorf("before it is sent: %v, hint %q", err, fault.Hint(err))
	}
	wrong := p.folder(module("println()"))
	wrong.Roots = other.Roots
	if _, err := p.Push(t.Context(), wrong, io.Discard); !fault.Is(err, fault.Conflict) {
		t.Errorf("after it was sent: %v", err)
	}
	if err := wrong.Source.Discard(); err != nil || len(p.sources()) != 0 {
		t.Errorf("left behind: %v (%v)", p.sources(), err)
	}
	byGit := push(2, "println()")
	byGit.Roots = other.Roots
	if _, err := p.Push(t.Context(), byGit, io.Discard); !fault.Is(err, fault.Conflict) {
		t.Errorf("git, after a folder: %v", err)
	}
	none := p.folder(module("println(1)"))
	if _, err := p.Push(t.Context(), none, io.Discard); err != nil {
		t.Errorf("a folder without a history: %v", err)
	}
	forced := p.folder(module("println(2)"))
	forced.Roots, forced.ForceHistory = other.Roots, true
	if _, err := p.Push(t.Context(), forced, io.Discard); err != nil {
		t.Errorf("forced: %v", err)
	}
	if err := p.Check(t.Context(), release.Push{Fleet: porch, Roots: []string{mine}}); !fault.Is(err, fault.Conflict) {
		t.Errorf("the history that was replaced: %v", err)
	}
}

func TestAHistoryThatWaitedIsHeldToTheOneThatCameFirst(t *testing.T) {
	p := open(t)
	inside, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.gate = func() { once.Do(func() { close(inside); <-goOn }) }
	mine := p.folder(module(""))
	mine.Roots = []string{commit(0xabc)}
	first, err := p.Start(t.Context(), mine)
	if err != nil {
		t.Fatal(err)
	}
	<-inside
	foreign := p.folder(module("println()"))
	foreign.Roots = []string{commit(0xdef)}
	second, err := p.Start(t.Context(), foreign)
	if err != nil {
		t.Fatal(err)
	}
	waiting, byGit := make(chan struct{}), make(chan error, 1)
	go func() {
		other := push(2, "println(2)")
		other.Roots = foreign.Roots
		_, err := p.Push(t.Context(), other, notice{"waiting for it", waiting, &sync.Once{}})
		byGit <- err
	}()
	<-waiting
	close(goOn)
	p.Wait()
	if err := <-byGit; !fault.Is(err, fault.Conflict) {
		t.Errorf("the commit that waited: %v", err)
	}
	if a, b := p.stored(first.ID).Status, p.stored(second.ID).Status; a != fleet.Success || b != fleet.Failed || p.target() != first.ID {
		t.Errorf("the first is %s, the second %s, the target %d", a, b, p.target())
	}
}

func TestAServerThatStopsGoesOnWithAFolderAfterTheStart(t *testing.T) {
	p := open(t)
	p.gate = p.Stop
	files := module("")
	files["Dockerfile"] = "FROM nowhere.invalid/not-there\n" // what it would build, if it forgot what it was told
	push := p.folder(files)
	push.Dockerfile, push.Draft = "go.mod", true
	r, err := p.Push(t.Context(), push, io.Discard)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Hint(err), "dunlin release list admin/porch") {
		t.Fatalf("the pusher is told %v, hint %q", err, fault.Hint(err))
	}
	if got := p.stored(r.ID); got.Status != fleet.Running || len(p.sources()) != 1 {
		t.Fatalf("%+v, kept %v", got, p.sources())
	}
	if _, err := p.Receive(bytes.NewReader(packed(t, files)), false); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a source that arrives meanwhile: %v", err)
	}
	p.gate = nil
	p.start(p.Registry)
	if err := errors.Join(p.Recover(t.Context()), p.Run(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := p.stored(r.ID); got.Status != fleet.Success || !got.Draft() || p.target() != 0 || len(p.sources()) != 0 {
		t.Errorf("%+v, target %d, left behind %v", got, p.target(), p.sources())
	}
}

func TestSoManyFoldersOfAFleetWaitAndNoMore(t *testing.T) {
	p := open(t)
	goOn := make(chan struct{})
	p.gate = func() { <-goOn }
	for range 8 {
		if _, err := p.Start(t.Context(), p.folder(module(""))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Check(t.Context(), release.Push{Fleet: porch}); !fault.Is(err, fault.Limited) {
		t.Errorf("the ninth, before it is sent: %v", err)
	}
	ninth := p.folder(module(""))
	if _, err := p.Start(t.Context(), ninth); !fault.Is(err, fault.Limited) {
		t.Errorf("the ninth: %v", err)
	}
	close(goOn)
	p.Wait()
	if _, err := p.Push(t.Context(), ninth, io.Discard); err != nil {
		t.Errorf("when they have ended: %v", err)
	}
}

func TestPasswordsOfRegistriesAreGoneWhenTheBuildIs(t *testing.T) {
	p := open(t)
	const secret = "hunter2-of-the-registry"
	for name, files := range map[string]map[string]string{
		"a build that ends well":    module("println()"),
		"a build that ends badly":   module("undefined()"),
		"passwords nobody can read": module(""),
	} {
		files[".balena/registry-secrets.json"] = `{"registry.invalid": {"username": "ann", "password": "` + secret + `"}}`
		if name == "passwords nobody can read" {
			files[".balena/registry-secrets.json"] = "{\"registry.invalid\": {\"username\" \"ann\", \"password\": \"" + secret + "\"\n" + secret
		}
		var out bytes.Buffer
		_, err := p.Push(t.Context(), p.folder(files), &out)
		if strings.Contains(out.String()+fmt.Sprint(err), secret) {
			t.Errorf("%s: the pusher reads\n%s%v", name, &out, err)
		}
	}
	if err := filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("it is in %s", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	rows, err := p.Store.Reader().Query(`SELECT COALESCE(build_log, '') || COALESCE(error_message, '') || composition FROM releases`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil || strings.Contains(text, secret) {
			t.Errorf("a release says %q (%v)", text, err)
		}
	}
}
