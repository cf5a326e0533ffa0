package build_test

import (
	"context"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fault"
)

const hello = `package main

import "os"

func main() { os.Stdout.WriteString("hello from " + os.Args[0] + "\n") }
`

func TestAGoModuleIsCrossCompiledAndPushedWithTheSameDigestEachTime(t *testing.T) {
	shelf, b := newShelf(t), builder(t)
	dir := plant(t, map[string]string{"go.mod": "module example.com/porch/lamp/v2\n\ngo 1.22\n", "main.go": hello})
	p := detect(t, dir, "aarch64")
	s := service(t, p, "main")
	if s.Kind != build.KindGo {
		t.Fatalf("kind is %q", s.Kind)
	}
	var out output
	d := shelf.destination("a")
	first, err := b.Build(context.Background(), p, s, d, &out)
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out.String())
	}
	img := shelf.image(t, d, first.Digest)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != "arm64" || config.OS != "linux" || config.Config.Entrypoint[0] != "/bin/lamp" {
		t.Errorf("the image is for %s/%s and starts %v", config.OS, config.Architecture, config.Config.Entrypoint)
	}
	if !config.Created.Time.Equal(time.Unix(0, 0)) {
		t.Errorf("the image was created at %v", config.Created)
	}
	all := files(t, img)
	program, err := elf.NewFile(strings.NewReader(all["bin/lamp"]))
	if err != nil {
		t.Fatal(err)
	}
	if program.Machine != elf.EM_AARCH64 || program.Section(".interp") != nil {
		t.Errorf("the program is for %v, want a static one for arm64", program.Machine)
	}
	if _, ok := all["etc/passwd"]; !ok || !strings.Contains(all["usr/share/zoneinfo/Europe/Vienna"], "TZif") {
		t.Error("the image lacks users or time zones")
	}
	if first.Size < 500_000 || first.Dockerfile != "" || first.Kind != build.KindGo {
		t.Errorf("the result is %+v", first)
	}

	sent := shelf.sent()
	again, err := b.Build(context.Background(), p, s, d, &out)
	if err != nil || again != first {
		t.Errorf("a second build made %+v, %v; want %+v", again, err, first)
	}
	if shelf.sent() != sent {
		t.Errorf("%d layers were sent again", shelf.sent()-sent)
	}
	if left := leftovers(t, b.Work); len(left) > 0 {
		t.Errorf("the scratch folder still has %v", left)
	}
}

func TestTheProgramToBuildIsFound(t *testing.T) {
	main := "package main\nfunc main() {}\n"
	mod := "module example.com/m\n\ngo 1.22\n"
	for _, c := range []struct {
		name string
		tree map[string]string
		want string // entry point
		says string // error
	}{
		{"the root", map[string]string{"main.go": main, "cmd/x/main.go": main}, "/bin/m", ""},
		{"the only command", map[string]string{"lib.go": "package m\n", "cmd/x/main.go": main, "tools/y/main.go": main}, "/bin/x", ""},
		{"the only main package", map[string]string{"deep/er/main.go": main, "testdata/z/main.go": main}, "/bin/er", ""},
		{"several", map[string]string{"cmd/x/main.go": main, "cmd/y/main.go": main}, "", "several main packages: ./cmd/x, ./cmd/y"},
		{"none", map[string]string{"lib.go": "package m\n"}, "", "no main package"},
		{"a folder of the module", map[string]string{"cmd/x/main.go": main, "cmd/y/main.go": main,
			"docker-compose.yml": "services:\n  y:\n    build: ./cmd/y\n"}, "/bin/y", ""},
		{"a module below the top", map[string]string{"go.mod": "", "svc/go.mod": "module example.com/svc\n", "svc/main.go": main,
			"docker-compose.yml": "services:\n  y:\n    build: {context: svc}\n"}, "/bin/svc", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if text, ok := c.tree["go.mod"]; !ok {
				c.tree["go.mod"] = mod
			} else if text == "" {
				delete(c.tree, "go.mod")
			}
			shelf := newShelf(t)
			p := detect(t, plant(t, c.tree), "amd64")
			var out output
			d := shelf.destination("b")
			res, err := builder(t).Build(context.Background(), p, p.Services[0], d, &out)
			if c.says != "" {
				if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), c.says) || fault.Hint(err) == "" {
					t.Errorf("build said %q (%q), want %q and a hint", fault.Message(err), fault.Hint(err), c.says)
				}
				return
			}
			if err != nil {
				t.Fatalf("build: %v\n%s", err, out.String())
			}
			config, err := shelf.image(t, d, res.Digest).ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if config.Config.Entrypoint[0] != c.want {
				t.Errorf("the image starts %v, want %s", config.Config.Entrypoint, c.want)
			}
		})
	}
}

func TestAGoModuleIsRefusedWithTheFileAndTheLine(t *testing.T) {
	main := "package main\nfunc main() {}\n"
	for _, c := range []struct {
		name string
		tree map[string]string
		says string
	}{
		{"a replacement outside", map[string]string{"go.mod": "module m\n\ngo 1.22\n\nreplace example.com/x => ../../x\n", "main.go": main},
			"go.mod:5: replace example.com/x => ../../x leads out of the project"},
		{"an absolute replacement", map[string]string{"go.mod": "module m\nreplace example.com/x => /etc\n", "main.go": main},
			"go.mod:2: replace example.com/x => /etc leads out of the project"},
		{"a replacement outside from where a link leads", map[string]string{"a/b/c": "-> ../../m", "m/go.mod": "module m\nreplace example.com/x => ../../x\n", "m/main.go": main,
			"docker-compose.yml": "services:\n  x:\n    build: a/b/c\n"}, "a/b/c/go.mod:2: replace example.com/x => ../../x leads out of the project"},
		{"a link outside in a folder reached by a link", map[string]string{"m/go.mod": "module m\n", "m/main.go": main, "m/sub": "-> ../other", "other/x.go": "-> /etc/passwd",
			"docker-compose.yml": "services:\n  x:\n    build: m\n"}, "other/x.go is a symbolic link"},
		{"a link to a file outside", map[string]string{"go.mod": "module m\n", "main.go": main, "shadow.go": "-> /etc/passwd"}, "shadow.go is a symbolic link"},
		{"a link to a folder outside", map[string]string{"go.mod": "module m\n", "main.go": main, "sub/etc": "-> /etc"}, "sub/etc is a symbolic link"},
		{"go.mod is a link outside", map[string]string{"go.mod": "-> /etc/passwd", "main.go": main}, "there is nothing to build"},
		{"a newer language", map[string]string{"go.mod": "module m\n\ngo 1.99\n", "main.go": main}, "go.mod:3: it asks for go1.99, and the server has go1."},
		{"a newer toolchain", map[string]string{"go.mod": "module m\n\ngo 1.22\n\ntoolchain go1.99.1\n", "main.go": main},
			"go.mod:5: it asks for the toolchain go1.99.1, and the server has go1."},
		{"a compile error", map[string]string{"go.mod": "module m\n", "main.go": "package main\n\nfunc main() { nothing() }\n"}, "go build: ./main.go:3:15: undefined: nothing"},
		{"a syntax error in go.mod", map[string]string{"go.mod": "module m\nwhatever 3\n", "main.go": main}, "go.mod:2: unknown directive: whatever"},
		{"an include of a file of the server", map[string]string{"go.mod": "module m\n", "main.go": "package main\nfunc f()\nfunc main() { f() }\n",
			"f_amd64.s": "\n# /* */ include \"\\x2fetc/passwd\"\n"}, "f_amd64.s:2: assembly may only include headers of its own module"},
		{"an include of a header of the server", map[string]string{"go.mod": "module m\n", "main.go": "package main\nfunc f()\nfunc main() { f() }\n",
			"f_amd64.s": "#include \"../../../../../../../../../../usr/include/stdio.h\"\n"}, "f_amd64.s:1: assembly may only include"},
		{"an include made by a macro", map[string]string{"go.mod": "module m\n", "main.go": "package main\nfunc f()\nfunc main() { f() }\n",
			"f_amd64.s": "#define H #\nH include \"/etc/passwd\"\n"}, "f_amd64.s:1: assembly may only use #"},
		{"an include in a header the toolchain copies", map[string]string{"go.mod": "module m\n", "main.go": "package main\nconst X = 1\nfunc f()\nfunc main() { f() }\n",
			"f_amd64.s": "#include \"go_asm.h\"\n#ifdef const_X\n#include \"x_GOOS.h\"\n#endif\n", "x_linux.h": "#include \"/etc/passwd\"\n"},
			"f_amd64.s:3: assembly may only include"},
		{"an include a header begins", map[string]string{"go.mod": "module m\n", "main.go": "package main\nfunc f()\nfunc main() { f() }\n",
			"f_amd64.s": "#include \"x.h\"\ninclude \"/etc/passwd\"\n", "x.h": "#"}, "x.h:1: assembly may only use #"},
		{"such an include in a header", map[string]string{"go.mod": "module m\n", "main.go": "package main\nfunc f()\nfunc main() { f() }\n",
			"f_amd64.s": "#include \"x_windows.h\"\n", "x_windows.h": "#include \"../m/x\"\n"}, "x_windows.h:1: assembly may only include"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := build.Detect(context.Background(), plant(t, c.tree), target("amd64"))
			var out output
			if err == nil {
				_, err = builder(t).Build(context.Background(), p, p.Services[0], newShelf(t).destination("c"), &out)
			}
			if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), c.says) {
				t.Errorf("it said %q, want %q\n%v\n%s", fault.Message(err), c.says, err, out.String())
			}
			if strings.Contains(out.String(), "root:x:") {
				t.Error("a file of the server is in the output")
			}
		})
	}
}

func TestNoCodeOfAPushRunsWhileItIsCompiled(t *testing.T) {
	dir := t.TempDir()
	trap := filepath.Join(dir, "sprung")
	b := builder(t)
	t.Setenv("GOFLAGS", "-toolexec=/bin/false")
	t.Setenv("GOTOOLCHAIN", "go1.99.0")
	t.Setenv("DUNLIN_SECRET", "a-secret-of-the-server")
	tree := plant(t, map[string]string{
		"go.mod":  "module example.com/m\n\ngo 1.22\n",
		"go.work": "go 1.99\n\nuse /etc\n",
		"main.go": "package main\n\n//go:generate touch " + trap + "\n\nfunc main() {}\n",
		"cgo.go":  "package main\n\n// #cgo CFLAGS: -fplugin=" + trap + "\n// #include </etc/passwd>\nimport \"C\"\n",
	})
	p := detect(t, tree, "amd64")
	var out output
	shelf := newShelf(t)
	d := shelf.destination("d")
	res, err := b.Build(context.Background(), p, p.Services[0], d, &out)
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out.String())
	}
	if _, err := os.Stat(trap); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something of the push ran: %v", err)
	}
	for name, text := range files(t, shelf.image(t, d, res.Digest)) {
		if strings.Contains(text, tree) || strings.Contains(text, "a-secret-of-the-server") {
			t.Errorf("%s holds a path or a secret of the server", name)
		}
	}
}

func TestACancelledBuildLeavesNothing(t *testing.T) {
	b := builder(t)
	p := detect(t, plant(t, map[string]string{"go.mod": "module m\n", "main.go": hello}), "amd64")
	ctx, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("the pusher went away")
	// The first line of output comes from within the build.
	w := writerFunc(func(p []byte) (int, error) { cancel(gone); return len(p), nil })
	d := newShelf(t).destination("e")
	d.NoCache = true // compile everything, so that there is something to cancel
	if _, err := b.Build(ctx, p, p.Services[0], d, w); !errors.Is(err, gone) {
		t.Errorf("the build ended with %v", err)
	}
	if left := leftovers(t, b.Work); len(left) > 0 {
		t.Errorf("the scratch folder still has %v", left)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestABuildThatTakesTooLongSaysSo(t *testing.T) {
	b := builder(t)
	b.Timeout = time.Nanosecond
	p := detect(t, plant(t, map[string]string{"go.mod": "module m\n", "main.go": hello}), "amd64")
	_, err := b.Build(context.Background(), p, p.Services[0], newShelf(t).destination("f"), &output{})
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Message(err), "not built within 1ns") {
		t.Errorf("the build ended with %v", err)
	}
}

func TestAServerWithoutGoSaysSo(t *testing.T) {
	b := builder(t)
	b.Go = filepath.Join(t.TempDir(), "go")
	p := detect(t, plant(t, map[string]string{"go.mod": "module m\n", "main.go": hello}), "amd64")
	_, err := b.Build(context.Background(), p, p.Services[0], newShelf(t).destination("f"), &output{})
	if !fault.Is(err, fault.Unavailable) || fault.Message(err) != "the server has no Go toolchain" {
		t.Errorf("the build ended with %v", err)
	}
}
