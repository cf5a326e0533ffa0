package folder_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/folder"
)

// plant makes a folder. A text that begins with -> is a link's target; a name that ends in a slash is a folder.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		target, link := strings.CutPrefix(text, "->")
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case link:
			err = os.Symlink(target, path)
		default:
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// read is what of a folder is sent, without the folders that hold something that is.
func read(t *testing.T, dir string, o folder.Options) []string {
	t.Helper()
	f, err := folder.Read(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, h := range archived(t, f) {
		if h.Typeflag != tar.TypeDir {
			names = append(names, h.Name)
		}
	}
	return names
}

type header struct {
	*tar.Header
	text string
}

func archived(t *testing.T, f *folder.Folder) (all []header) {
	t.Helper()
	var b bytes.Buffer
	if err := f.Archive(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, header{h, string(text)})
	}
}

func TestADockerignoreLeavesOutWhatItNames(t *testing.T) {
	all := map[string]string{
		".git/HEAD": "x", "lib/.git": "gitdir: ../.git/modules/lib", "lib/lib.go": "x", "Dockerfile": "FROM scratch", "docker-compose.yml": "x",
		"main.go": "x", "node_modules/a/index.js": "x", "node_modules/a/Dockerfile": "x", "src/a.log": "x", "src/keep.log": "x", "src/Dockerfile.arm": "x",
		".balena/balena.yml": "x", "docs/a.md": "x", "docs/b.md": "x", "src/go/Dockerfile": "x",
	}
	for name, c := range map[string]struct {
		ignore  string
		missing []string
		options folder.Options
	}{
		"none":                                    {"", []string{".git/HEAD", "lib/.git"}, folder.Options{}},
		"a folder":                                {"# dependencies\nnode_modules\n", []string{".git/HEAD", "lib/.git", "node_modules/a/index.js", "node_modules/a/Dockerfile"}, folder.Options{}},
		"a pattern with an exception":             {"**/*.log\n!src/keep.log", []string{".git/HEAD", "lib/.git", "src/a.log"}, folder.Options{}},
		"what the build needs is sent":            {"Dockerfile*\ndocker-compose.yml\n.balena\n.dockerignore", []string{".git/HEAD", "lib/.git"}, folder.Options{}},
		"all but":                                 {"*\n!src", []string{".git/HEAD", "lib/.git", "lib/lib.go", "main.go", "node_modules/a/index.js", "node_modules/a/Dockerfile", "docs/a.md", "docs/b.md"}, folder.Options{}},
		"an exception below a folder":             {"docs\n!docs/b.md", []string{".git/HEAD", "lib/.git", "docs/a.md"}, folder.Options{}},
		"the history, if it is wanted":            {"!.git", []string{"lib/.git"}, folder.Options{}},
		"the Dockerfile that was named":           {"docs", []string{".git/HEAD", "lib/.git", "docs/b.md"}, folder.Options{Keep: []string{"docs/a.md"}}},
		"an absolute path, a comment and a blank": {"/main.go\n\n   # not a comment, but a name\n", []string{".git/HEAD", "lib/.git", "main.go"}, folder.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := plant(t, all)
			var want []string
			for n := range all {
				if !slices.Contains(c.missing, n) {
					want = append(want, n)
				}
			}
			if c.ignore != "" {
				if err := os.WriteFile(filepath.Join(dir, ".dockerignore"), []byte(c.ignore), 0o644); err != nil {
					t.Fatal(err)
				}
				want = append(want, ".dockerignore")
			}
			got := read(t, dir, c.options)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("sent %q\nwant %q", got, want)
			}
		})
	}
}

func TestEachFolderMayFollowADockerignoreOfItsOwn(t *testing.T) {
	dir := plant(t, map[string]string{
		".dockerignore": "*.md\nold\n", "a.md": "x", "web/.dockerignore": "*.js\n", "web/a.md": "x", "web/a.js": "x", "web/.git": "x",
		"web/sub/a.js": "x", "api/a.md": "x", "api/sub/a.md": "x", "old/.dockerignore": "", "old/x": "x",
	})
	for multi, want := range map[bool][]string{
		false: {".dockerignore", "api/sub/a.md", "web/.dockerignore", "web/a.js", "web/a.md", "web/sub/a.js", "api/a.md"},
		true:  {".dockerignore", "api/sub/a.md", "web/.dockerignore", "web/a.md", "web/sub/a.js", "api/a.md"},
	} {
		got := read(t, dir, folder.Options{Multi: multi})
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("multi %v: sent %q\nwant %q", multi, got, want)
		}
	}
}

func TestAPatternThatCannotBeUnderstoodIsSaid(t *testing.T) {
	for name, text := range map[string]string{"a bracket that is open": "[", "an exception of nothing": "!"} {
		_, err := folder.Read(plant(t, map[string]string{".dockerignore": text, "a": "x"}), folder.Options{})
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), ".dockerignore") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheArchiveKeepsModesLinksAndOrderAndIsTheSameEachTime(t *testing.T) {
	dir := plant(t, map[string]string{
		"b.sh": "#!/bin/sh\n", "a/link": "->../b.sh", "a/folder": "->nowhere", "a/z": "z", "empty/": "", "a.txt": "text", "UPPER": "u",
	})
	if err := os.Chmod(filepath.Join(dir, "b.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := folder.Read(dir, folder.Options{Logins: []byte(`{"h": {}}`)})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range archived(t, f) {
		got = append(got, fmt.Sprintf("%c %s %o %s%s %d:%d", h.Typeflag, h.Name, h.Mode, h.Linkname, strings.TrimSpace(h.text), h.Uid, h.Gid))
	}
	want := []string{
		"0 UPPER 644 u 0:0", "5 a/ 755  0:0", "2 a/folder 777 nowhere 0:0", "2 a/link 777 ../b.sh 0:0", "0 a/z 644 z 0:0", "0 a.txt 644 text 0:0",
		"0 b.sh 755 #!/bin/sh 0:0", "5 empty/ 755  0:0", `0 .balena/registry-secrets.json 600 {"h": {}} 0:0`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("it holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !slices.Equal(f.Skipped, []string{"pipe"}) || f.Files != 6 || f.Bytes != int64(len("#!/bin/sh\n")+1+4+1) {
		t.Errorf("skipped %q, %d files with %d bytes", f.Skipped, f.Files, f.Bytes)
	}
	var one, two bytes.Buffer
	again, err := folder.Read(dir, folder.Options{Logins: []byte(`{"h": {}}`)})
	if err := errors.Join(err, f.Archive(t.Context(), &one), again.Archive(t.Context(), &two)); err != nil || !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Errorf("the same folder gives another archive (%v)", err)
	}
}

func TestGivenAccountsTakeThePlaceOfTheFoldersOwn(t *testing.T) {
	dir := plant(t, map[string]string{".balena/registry-secrets.yml": "mine", ".balena/balena.yml": "x"})
	if got := read(t, dir, folder.Options{}); !slices.Equal(got, []string{".balena/balena.yml", ".balena/registry-secrets.yml"}) {
		t.Errorf("the folder's own: %q", got)
	}
	if got := read(t, dir, folder.Options{Logins: []byte("{}")}); !slices.Equal(got, []string{".balena/balena.yml", ".balena/registry-secrets.json"}) {
		t.Errorf("given ones: %q", got)
	}
}

func TestAFileThatBecomesShorterMeanwhileEndsThePush(t *testing.T) {
	dir := plant(t, map[string]string{"log": strings.Repeat("x", 100)})
	f, err := folder.Read(dir, folder.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "log"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := f.Archive(t.Context(), io.Discard); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "log became shorter") {
		t.Errorf("archived: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "log"), bytes.Repeat([]byte("y"), 300), 0o644); err != nil {
		t.Fatal(err)
	}
	if all := archived(t, f); len(all[0].text) != 100 {
		t.Errorf("of a file that grew, %d bytes are sent", len(all[0].text))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Archive(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("after Ctrl-C: %v", err)
	}
}

func TestTheBiggestAreNamedBiggestFirst(t *testing.T) {
	dir := plant(t, map[string]string{"a/b/c": "12345", "a/d": "12345", "e": "123456", "f": "1", "g": "1"})
	f, err := folder.Read(dir, folder.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(f.Biggest(3)); got != "[{a 10} {e 6} {f 1}]" {
		t.Errorf("the biggest are %s", got)
	}
}

func TestWhatIsNoFolderIsSaid(t *testing.T) {
	dir := plant(t, map[string]string{"file": "x"})
	if _, err := folder.Read(filepath.Join(dir, "nowhere"), folder.Options{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("nothing there: %v", err)
	}
	if _, err := folder.Read(filepath.Join(dir, "file"), folder.Options{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a file: %v", err)
	}
}

// run runs git in a folder as somebody.
func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "protocol.file.allow=always", "-c", "user.name=Ann", "-c", "user.email=ann@example.com"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func needGit(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("DUNLIN_TEST_REQUIRE") != "" {
			t.Fatal("git is not installed")
		}
		t.Skip("git is not installed")
	}
}

func TestGitSaysWhatItKnowsOfTheFolder(t *testing.T) {
	needGit(t)
	if g, ok := folder.ReadGit(t.Context(), plant(t, map[string]string{"a": "x"})); ok {
		t.Errorf("of a folder it does not know, git says %+v", g)
	}
	dir := plant(t, map[string]string{"a": "x", "app/b": "x"})
	run(t, dir, "init", "-q", "-b", "main")
	if g, ok := folder.ReadGit(t.Context(), dir); ok {
		t.Errorf("of a folder it holds nothing of, git says %+v", g)
	}
	run(t, dir, "add", ".")
	if g, ok := folder.ReadGit(t.Context(), dir); !ok || g.Commit != "" || len(g.Changed) != 2 || len(g.Roots) != 0 {
		t.Errorf("before the first commit git says %v %+v", ok, g)
	}
	run(t, dir, "commit", "-qm", "one")
	one := run(t, dir, "rev-parse", "HEAD")
	run(t, dir, "remote", "add", "dunlin", "ssh://git@dunlin.example.com/admin/porch.git")
	run(t, dir, "checkout", "-q", "--orphan", "other")
	run(t, dir, "commit", "-qm", "another beginning")
	other := run(t, dir, "rev-parse", "HEAD")
	run(t, dir, "checkout", "-q", "main")
	run(t, dir, "merge", "-q", "--allow-unrelated-histories", "-m", "both", "other")
	g, ok := folder.ReadGit(t.Context(), filepath.Join(dir, "app"))
	if !ok || g.Commit != run(t, dir, "rev-parse", "HEAD") || len(g.Changed) != 0 || g.Shallow ||
		!slices.Equal(g.Roots, []string{one, other}) || !slices.Equal(g.Remotes, []folder.Remote{{"dunlin", "ssh://git@dunlin.example.com/admin/porch.git"}}) {
		t.Errorf("git says %v %+v", ok, g)
	}
	for name, text := range map[string]string{"a": "changed", "app/new": "x", "app/b": "changed"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, "mv", "app/b", "app/c")
	if g, _ := folder.ReadGit(t.Context(), filepath.Join(dir, "app")); !slices.Equal(g.Changed, []string{"app/c", "app/new"}) {
		t.Errorf("changed: %q", g.Changed)
	}
	home := plant(t, map[string]string{".bashrc": "x", "project/main.go": "x"})
	run(t, home, "init", "-q")
	run(t, home, "add", ".bashrc")
	run(t, home, "commit", "-qm", "dotfiles")
	if g, ok := folder.ReadGit(t.Context(), filepath.Join(home, "project")); ok {
		t.Errorf("of a folder that only lies in a repository, git says %+v", g)
	}
}

func TestGitSaysThatAHistoryIsCutOffAndASubmoduleIsMissing(t *testing.T) {
	needGit(t)
	lib := plant(t, map[string]string{"lib.go": "x"})
	run(t, lib, "init", "-q", "-b", "main")
	run(t, lib, "add", ".")
	run(t, lib, "commit", "-qm", "lib")
	dir := plant(t, map[string]string{"a": "x"})
	run(t, dir, "init", "-q", "-b", "main")
	run(t, dir, "submodule", "--quiet", "add", lib, "lib")
	run(t, dir, "add", ".")
	run(t, dir, "commit", "-qm", "one")
	run(t, dir, "commit", "-qm", "two", "--allow-empty")
	whole, ok := folder.ReadGit(t.Context(), dir)
	if !ok || len(whole.Missing) != 0 || whole.Shallow || len(whole.Roots) != 1 {
		t.Errorf("git says %+v", whole)
	}
	if got := read(t, dir, folder.Options{}); !slices.Equal(got, []string{".gitmodules", "a", "lib/lib.go"}) {
		t.Errorf("sent: %q", got)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	run(t, dir, "clone", "-q", "--depth=1", "file://"+dir, clone)
	g, ok := folder.ReadGit(t.Context(), clone)
	if !ok || !g.Shallow || len(g.Roots) != 0 || !slices.Equal(g.Missing, []string{"lib"}) || g.Commit != whole.Commit || len(g.Changed) != 0 {
		t.Errorf("of the clone git says %+v", g)
	}
}

func FuzzAnyDockerignoreIsReadOrRefused(f *testing.F) {
	for _, seed := range []string{"*", "!a", "**/x\n!**/x/y", "[a-", "a/../..", "\xef\xbb\xbf#", `\`, "a/**/b", "!\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ignore string) {
		dir := t.TempDir()
		for _, name := range []string{"a/b/c", "x", "Dockerfile"} {
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, ".dockerignore"), []byte(ignore), 0o644); err != nil {
			t.Fatal(err)
		}
		read, err := folder.Read(dir, folder.Options{})
		if err != nil {
			if fault.KindOf(err) == fault.Internal {
				t.Fatalf("%q: %v", ignore, err)
			}
			return
		}
		var b bytes.Buffer
		if err := read.Archive(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		sent := false
		for r := tar.NewReader(&b); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || !fs.ValidPath(strings.TrimSuffix(h.Name, "/")) {
				t.Fatalf("%q: %v, %v", ignore, h, err)
			}
			sent = sent || h.Name == "Dockerfile"
		}
		if !sent {
			t.Errorf("%q keeps the Dockerfile from the build", ignore)
		}
	})
}
