package source_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/source"
)

// gitlink commits a submodule without fetching it.
func (w *world) gitlink(dir, path, url, commit string) {
	w.t.Helper()
	check(w.t, os.MkdirAll(filepath.Join(dir, path), 0o755))
	if url != "" {
		w.git(dir, "config", "-f", ".gitmodules", "submodule."+path+".path", path)
		w.git(dir, "config", "-f", ".gitmodules", "submodule."+path+".url", url)
		w.git(dir, "add", ".gitmodules")
	}
	w.git(dir, "update-index", "--add", "--cacheinfo", "160000,"+commit+","+path)
	w.git(dir, "commit", "--quiet", "--message", "with "+path)
}

// upstream is a public git server elsewhere: repositories org/one and org/two, over TLS, by the name localhost.
type upstream struct {
	*source.Server
	url    string // https://localhost:port/git/org
	caFile string
	one    string // folder of the bare repository
	two    string
	web    *httptest.Server
}

func newUpstream(t *testing.T, wrap func(http.Handler) http.Handler) *upstream {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	up := &upstream{Server: &source.Server{
		Dir: filepath.Join(t.TempDir(), "git"), Hook: []string{self, "git-hook"},
		Credential: func(*http.Request) (fleet.Actor, error) { return fleet.Actor{Kind: fleet.UserActor, Name: "all"}, nil },
		Lookup: func(_ context.Context, _ fleet.Actor, slug string, write bool) (source.Repository, error) {
			return source.Repository{Fleet: map[string]int64{"org/one": 1, "org/two": 2}[slug], Slug: slug}, nil
		},
	}}
	check(t, up.Create(t.Context(), 1))
	check(t, up.Create(t.Context(), 2))
	up.one, up.two = filepath.Join(up.Dir, "1.git"), filepath.Join(up.Dir, "2.git")
	var handler http.Handler = up.Server
	if wrap != nil {
		handler = wrap(handler)
	}
	cert, pemText := certificate(t, "localhost", "nowhere.invalid")
	up.caFile = filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(up.caFile, pemText, 0o600))
	up.web = httptest.NewUnstartedServer(handler)
	up.web.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	up.web.StartTLS()
	t.Cleanup(up.web.Close)
	up.url = strings.Replace(up.web.URL, "127.0.0.1", "localhost", 1) + "/git/org"
	return up
}

// host is how Submodules.Private names the upstream.
func (up *upstream) host() string {
	return strings.TrimSuffix(strings.TrimPrefix(up.url, "https://"), "/git/org")
}

func certificate(t *testing.T, names ...string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// trusted lets a world fetch from up.
func (up *upstream) trusted(w *world) {
	w.Submodules.Private, w.Submodules.CAFile = []string{up.host()}, up.caFile
}

func TestASubmoduleInAnotherFleetIsMerged(t *testing.T) {
	w := newWorld(t)
	lib := w.repository("acme/garden", map[string]string{"lib.go": "package lib\n"})
	w.git(lib, "push", "dunlin", "main:lib")
	commit := w.git(lib, "rev-parse", "HEAD")
	dir := w.repository("acme/porch", map[string]string{"main.go": "package main\n"})
	w.gitlink(dir, "third party/lib", "../garden.git", commit)
	w.git(dir, "push", "dunlin", "main")
	got := w.built(w.git(dir, "rev-parse", "HEAD"))
	if got["third party/lib/lib.go"].content != "package lib\n" || got["main.go"].content != "package main\n" {
		t.Errorf("the archive has %v", got)
	}
	for name := range got {
		if strings.Contains(name, ".git/") || strings.HasSuffix(name, ".git") {
			t.Errorf("the archive has %s", name)
		}
	}

	w.gitlink(dir, "third party/lib", "../garden.git", strings.Repeat("1", 40))
	out, err := w.try("ana", dir, "push", "dunlin", "main")
	if err == nil {
		t.Error("a commit that is nowhere was taken")
	}
	says(t, out, "error: cannot fetch submodule third party/lib (../garden.git): commit 1111111111111111111111111111111111111111 is not there",
		"hint: push the submodule first")
}

func TestASubmoduleOverHTTPSIsFetchedOnceAndItsOwnSubmodulesToo(t *testing.T) {
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"any commit is given out": nil,
		"only tips of branches are": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				r.Header.Del("Git-Protocol") // versions before 2 are that strict
				h.ServeHTTP(rw, r)
			})
		},
		"it moved": func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if moved, ok := strings.CutPrefix(r.URL.Path, "/git/org/"); ok && r.Method == http.MethodGet {
					http.Redirect(rw, r, "/git/ORG/"+moved+"?"+r.URL.RawQuery, http.StatusMovedPermanently)
					return
				}
				h.ServeHTTP(rw, r)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			up := newUpstream(t, wrap)
			w := newWorld(t, up.trusted)
			two := w.repository("acme/porch", map[string]string{"two": "2"})
			inner := w.git(two, "rev-parse", "HEAD")
			w.commit(two, "later", map[string]string{"two": "3"})
			w.git(two, "push", "--quiet", up.two, "main")
			one := w.repository("acme/porch", map[string]string{"one": "1"})
			w.gitlink(one, "deep", "../two", inner)
			outer := w.git(one, "rev-parse", "HEAD")
			w.commit(one, "later", map[string]string{"one": "2"})
			w.git(one, "push", "--quiet", up.one, "main")

			dir := w.repository("acme/porch", map[string]string{"main": "0"})
			w.gitlink(dir, "lib", up.url+"/one.git", outer)
			says(t, w.git(dir, "push", "dunlin", "main"), "remote: fetching submodule lib from "+up.url+"/one.git", "remote: fetching submodule lib/deep from "+up.url+"/two")
			got := w.built(w.git(dir, "rev-parse", "HEAD"))
			if got["main"].content != "0" || got["lib/one"].content != "1" || got["lib/deep/two"].content != "2" {
				t.Errorf("the archive has %v", got)
			}

			up.web.Close()
			w.commit(dir, "again", map[string]string{"main": "1"})
			if out := w.git(dir, "push", "dunlin", "main"); strings.Contains(out, "fetching") {
				t.Error("it was fetched again")
			}
		})
	}
}

func TestGitConnectsToTheAddressThatWasChecked(t *testing.T) {
	up := newUpstream(t, nil)
	w := newWorld(t, up.trusted)
	check(t, w.Create(t.Context(), 1))
	dir := w.repository("acme/porch", nil)
	w.git(dir, "push", "--quiet", up.one, "main")
	at := strings.Replace(up.host(), "localhost", "nowhere.invalid", 1) // a name that nothing resolves
	if err := w.FetchPinned(t.Context(), "https://"+at+"/git/org/one.git", at+":127.0.0.1", w.git(dir, "rev-parse", "HEAD")); err != nil {
		t.Error(err)
	}
}

func TestASubmoduleThatCannotBeFetchedIsRefusedWithTheReason(t *testing.T) {
	commit := strings.Repeat("1", 40)
	w := newWorld(t)
	dir := w.repository("acme/porch", map[string]string{"main": "0"})
	base := w.git(dir, "rev-parse", "HEAD")
	for url, want := range map[string]string{
		"":                               "cannot fetch submodule lib: .gitmodules has no url for it",
		"ssh://git@example.org/a/b.git":  "(ssh://git@example.org/a/b.git): the server has no ssh key to fetch it with\nremote: hint: use a https url",
		"http://example.org/a/b.git":     "http is open to anybody on the way",
		"https://localhost/a/b.git":      "localhost is not on the public internet",
		"https://169.254.169.254/latest": "169.254.169.254 is not on the public internet",
		"https://me:hunter2@example.org": "(https://xxxxx@example.org): its url carries a password",
		"../../bobs/cellar.git":          `there is no fleet "bobs/cellar" here, or it is not yours to see`,
		"../nothing.git":                 `there is no fleet "acme/nothing" here, or it is not yours to see`,
	} {
		w.git(dir, "reset", "--quiet", "--hard", base)
		w.gitlink(dir, "lib", url, commit)
		out, err := w.try("ana", dir, "push", "--force", "dunlin", "main")
		if err == nil {
			t.Errorf("%s was taken", url)
		}
		says(t, strings.Join(strings.Fields(out), " "), strings.ReplaceAll(want, "\n", " "))
		if strings.Contains(out, "hunter2") {
			t.Error("the password was shown")
		}
	}
	if left, _ := os.ReadDir(filepath.Join(w.Dir, "submodules")); len(left) > 5 {
		t.Errorf("refused urls made %d caches", len(left))
	}
}

func TestWhatAServerOfASubmoduleMayAnswer(t *testing.T) {
	var secret http.HandlerFunc = func(http.ResponseWriter, *http.Request) { t.Error("a redirect led to a private host") }
	inside := httptest.NewTLSServer(secret)
	t.Cleanup(inside.Close)
	up := newUpstream(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			switch strings.TrimSuffix(r.URL.Path, "/info/refs") {
			case "/git/org/locked":
				rw.WriteHeader(http.StatusUnauthorized)
			case "/git/org/gone":
				rw.WriteHeader(http.StatusNotFound)
			case "/git/org/page":
				_, _ = io.WriteString(rw, "<html>welcome")
			case "/git/org/ill":
				rw.WriteHeader(http.StatusBadGateway)
			case "/git/org/away":
				http.Redirect(rw, r, inside.URL+"/x/info/refs?service=git-upload-pack", http.StatusFound)
			case "/git/org/plain":
				http.Redirect(rw, r, "http://"+r.Host+r.URL.RequestURI(), http.StatusFound)
			default:
				h.ServeHTTP(rw, r)
			}
		})
	})
	w := newWorld(t, up.trusted, func(w *world) { w.Submodules.Size = 1 << 20 })
	big := w.repository("acme/porch", map[string]string{"noise": noise(4 << 20)})
	w.git(big, "push", "--quiet", up.two, "main")
	large := w.git(big, "rev-parse", "HEAD")
	commit := strings.Repeat("1", 40)
	dir := w.repository("acme/porch", map[string]string{"main": "0"})
	base := w.git(dir, "rev-parse", "HEAD")
	for _, c := range []struct{ url, commit, want string }{
		{"/locked", commit, "authentication required\nremote: hint: make it public or vendor it"},
		{"/gone", commit, "there is no such repository"},
		{"/page", commit, "what answers there is no git repository"},
		{"/ill", commit, "its server answered 502"},
		{"/away", commit, "127.0.0.1 is not on the public internet"},
		{"/plain", commit, ""}, // Private allows http; the listener speaks TLS alone
		{"/one.git", commit, "commit " + commit + " is not there"},
		{"/two.git", large, "it has more than 1 MB"},
	} {
		w.git(dir, "reset", "--quiet", "--hard", base)
		w.gitlink(dir, "lib", up.url+c.url, c.commit)
		out, err := w.try("ana", dir, "push", "--force", "dunlin", "main")
		if err == nil {
			t.Errorf("%s was taken", c.url)
		}
		says(t, strings.Join(strings.Fields(out), " "), "cannot fetch submodule lib ("+up.url+c.url+"): "+strings.ReplaceAll(c.want, "\n", " "))
	}
	if left, _ := filepath.Glob(filepath.Join(w.Dir, "submodules/*.git/objects/pack/*tmp*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestASubmoduleMustComeInTime(t *testing.T) {
	up := newUpstream(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	})
	w := newWorld(t, up.trusted, func(w *world) { w.Submodules.Timeout = 300 * time.Millisecond })
	dir := w.repository("acme/porch", nil)
	w.gitlink(dir, "lib", up.url+"/one.git", strings.Repeat("1", 40))
	out, err := w.try("ana", dir, "push", "dunlin", "main")
	if err == nil {
		t.Error("it was taken")
	}
	says(t, out, "error: cannot fetch submodule lib ("+up.url+"/one.git): it took longer than 300ms")
}

func TestAnArchiveHoldsTheTreeAsItIs(t *testing.T) {
	w := newWorld(t, func(w *world) {
		build := w.OnPush
		w.OnPush = func(ctx context.Context, p source.Push, out io.Writer) error {
			var once, twice bytes.Buffer
			if err := errors.Join(p.Archive(ctx, &once), p.Archive(ctx, &twice)); err != nil {
				return err
			}
			if !bytes.Equal(once.Bytes(), twice.Bytes()) {
				t.Error("the same commit gives different archives")
			}
			return build(ctx, p, out)
		}
	})
	dir := w.repository("acme/porch", nil)
	files := map[string]string{
		".gitattributes": "secret export-ignore\nversion export-subst\n*.bin filter=lfs\n", "secret": "s", "version": "$Format:%H$",
		"model.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n", "ümläut/ \"q\"": "1", "empty": "",
		strings.Repeat("long/", 60) + "file": "l", "docs/lfs.md": "version https://git-lfs.github.com/ is a page\n",
	}
	for name, content := range files {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	check(t, os.WriteFile(filepath.Join(dir, "run.sh"), []byte("#!/bin/sh\n"), 0o755))
	check(t, os.Symlink("../../etc/passwd", filepath.Join(dir, "link")))
	commit := w.commit(dir, "all kinds", nil)
	says(t, w.git(dir, "push", "dunlin", "main"), "remote: warning: model.bin is a Git LFS pointer; LFS is not supported")
	got := w.built(commit)
	for name, content := range files {
		if got[name].content != content || got[name].mode != 0o644 {
			t.Errorf("%s is %+v, want %q", name, got[name], content)
		}
	}
	if got["run.sh"].mode != 0o755 || got["link"].content != "../../etc/passwd" || got["ümläut/"].mode != 0o755 {
		t.Errorf("run.sh %+v, link %+v, folder %+v", got["run.sh"], got["link"], got["ümläut/"])
	}
}

func TestAnArchiveIsBounded(t *testing.T) {
	w := newWorld(t, func(w *world) { w.Limits.Archive, w.Limits.Files = 1<<20, 50 })
	dir := w.repository("acme/porch", map[string]string{"zeros": strings.Repeat("\x00", 2<<20)}) // nothing, packed
	out, err := w.try("ana", dir, "push", "dunlin", "main")
	if err == nil {
		t.Error("it was taken")
	}
	says(t, out, "error: the files of the commit are larger than 1 MB together")
	many := map[string]string{"zeros": ""}
	for i := range 60 {
		many[strings.Repeat("x", i+1)] = ""
	}
	w.commit(dir, "many", many)
	if out, err = w.try("ana", dir, "push", "dunlin", "main"); err == nil {
		t.Error("it was taken")
	}
	says(t, out, "error: the commit has more than 50 files")
}

func TestATreeOfASubmoduleCannotEscape(t *testing.T) {
	w := newWorld(t)
	check(t, w.Create(t.Context(), w.fleets["acme/garden"]))
	garden := filepath.Join(w.Dir, "2.git") // filled directly, past every check, as a server elsewhere may be
	dir := w.repository("acme/porch", map[string]string{"main": "0"})
	base := w.git(dir, "rev-parse", "HEAD")
	blob := w.git(dir, "rev-parse", "HEAD:main")
	sub := w.git(dir, "rev-parse", "HEAD^{tree}")
	for name, entries := range map[string][][3]string{
		"a folder above":             {{"40000", "..", sub}},
		"a file above":               {{"100644", "..", blob}},
		"git's own folder":           {{"40000", ".GIT", sub}},
		"a slash in a name":          {{"100644", "../../x", blob}},
		"a link and a folder at one": {{"120000", "a", blob}, {"40000", "a", sub}},
		"a name through a link":      {{"120000", "a", blob}, {"100644", "a/x", blob}},
		"a name twice":               {{"100644", "a", blob}, {"100644", "a", blob}},
	} {
		var tree bytes.Buffer
		for _, e := range entries {
			tree.WriteString(e[0] + " " + e[1] + "\x00")
			tree.Write(unhex(t, e[2]))
		}
		cmd := w.client("ana", dir, "hash-object", "-t", "tree", "-w", "--stdin", "--literally")
		cmd.Stdin = &tree
		id, err := cmd.Output()
		check(t, err)
		hostile := w.git(dir, "commit-tree", "-m", "hostile", strings.TrimSpace(string(id)))
		w.git(dir, "push", "--quiet", "--force", garden, hostile+":refs/heads/main")
		w.git(dir, "reset", "--quiet", "--hard", base)
		w.gitlink(dir, "lib", "../garden.git", hostile)
		out, err := w.try("ana", dir, "push", "--force", "dunlin", "main")
		if err == nil {
			t.Errorf("%s: it was taken", name)
		}
		says(t, out, `error: file "lib/`)
	}
}
