package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/fault"
)

func TestTheAssemblersIncludesAreReadAsItReadsThem(t *testing.T) {
	for text, want := range map[string]struct {
		All   []include
		Stray int
	}{
		"": {},
		"#include \"textflag.h\"\nTEXT ·f(SB),0,$0\n":   {All: []include{{"textflag.h", 1}}},
		"// #include \"/etc/passwd\"\n":                 {},
		"/* #include \"/etc/passwd\" */ RET\n":          {},
		"DATA x+0(SB)/8, $\"#include\"\n":               {},
		"#define include(x) x\n":                        {},
		"#define A(x) \\\n\tRET; \\\n\tx\n\n#undef A\n": {},
		"\n#include\t\"/etc/passwd\"\n":                 {All: []include{{"/etc/passwd", 2}}},
		"#include \"\\x2fetc/passwd\"\n":                {All: []include{{"/etc/passwd", 1}}},
		"#include <stdio.h>\n":                          {All: []include{{"", 1}}},
		"#/**/include \"/etc/passwd\"\n":                {All: []include{{"/etc/passwd", 1}}},
		"#ifdef X\n#include \"/etc/passwd\"\n#endif\n":  {All: []include{{"/etc/passwd", 2}}},
		"MOVQ $'\"', AX\n#include \"/etc/passwd\"\n":    {All: []include{{"/etc/passwd", 2}}},
		// A "#" that is not where it is read, or not what it seems.
		"# // x\n include \"/etc/passwd\"\n":             {Stray: 1},
		"##include \"/etc/passwd\"\n":                    {Stray: 1},
		"\n#define H #\nH include \"/etc/passwd\"\n":     {Stray: 2},
		"#define M(x) # x\nM(include) \"/etc/passwd\"\n": {Stray: 1},
		"#define M(x) x\nM(#) include \"/etc/passwd\"\n": {Stray: 2},
		"#define M(undef) \\\n#undef X\nM(include)\n":    {Stray: 2},
		"#define M(undef) \\ /* \n */ \n#undef X\n":      {Stray: 3},
		"#define M x /*\n*/ # y\n":                       {Stray: 2},
		"#line 3 \"x\"\n":                                {Stray: 1},
		// The file that includes these would write the rest.
		"RET\n#":                   {Stray: 2},
		"#include \"textflag.h\"":  {Stray: 1},
		"#define M(undef, X)":      {Stray: 1},
		"#define M(undef, X) \\\n": {Stray: 2},
		"#define M(x) x\nM(":       {Stray: 2},
	} {
		got := want
		got.All, got.Stray = includes([]byte(text))
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(include{})); diff != "" {
			t.Errorf("%q, -want +got:\n%s", text, diff)
		}
	}
}

func TestAssemblyIncludesHeadersOfItsOwnModuleAlone(t *testing.T) {
	module := filepath.Join(t.TempDir(), "module")
	dir := filepath.Join(module, "deep", "er")
	for name, text := range map[string]string{
		"../outside.h": "RET\n", "math/x.h": "#include \"textflag.h\"\n", "math/bad.h": "#include \"../../../outside.h\"\n", "deep/er/own.h": "RET\n",
	} {
		p := filepath.Join(module, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The kernel follows a link before the ".." behind it; whoever cleans the path first looks at another file.
	if err := os.Symlink(filepath.Join(module, "math"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(module, "own.h"), []byte("#include \"/etc/passwd\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, fine := range map[string]bool{
		"link/x.h": true, "link/../own.h": false, "textflag.h": true, "own.h": true, "../../math/x.h": true, "../../math/bad.h": false, "../../../outside.h": false,
		"own.txt": false, ".h": false, "/etc/passwd": false, "/usr/include/stdio.h": false, "../../math/none.h": false,
		"none.h": false, "go_asm.h": true, "copied_GOOS.h": false,
	} {
		if err := os.WriteFile(filepath.Join(dir, "f.s"), []byte("\n#include \""+name+"\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := newAssembly(dir, module)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.check("f.s"); (err == nil) != fine || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("include of %s: %v", name, err)
		}
	}
}

func TestOnlyPublicAddressesAreReached(t *testing.T) {
	r := &reach{}
	for address, public := range map[string]bool{
		"8.8.8.8:443": true, "[2606:4700::1111]:443": true, "registry.example.com:443": true,
		"127.0.0.1:80": false, "127.9.9.9:80": false, "[::1]:80": false, "[::]:80": false, "[::ffff:127.0.0.1]:80": false, "0.0.0.0:80": false,
		"10.0.0.1:80": false, "172.16.0.1:80": false, "192.168.1.1:80": false, "169.254.169.254:80": false, "[fe80::1%eth0]:80": false,
		"[fc00::1]:80": false, "100.64.0.1:80": false, "224.0.0.1:80": false, "255.255.255.255:80": false, "[64:ff9b::7f00:1]:80": false, "[fec0::1]:80": false, "[2001::1]:80": false,
		"localhost:80": false, "LOCALHOST.:80": false, "x.localhost:80": false, "nothing": false,
	} {
		if r.public(address) != public {
			t.Errorf("%s is public: %t", address, !public)
		}
	}
}

func TestANameIsLookedAtAgainWhenItHasBeenLookedUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, allowed := range []bool{false, true} {
		r := &reach{}
		if allowed {
			r.hosts = []string{"localhost"}
		}
		c, err := r.transport().DialContext(t.Context(), "tcp4", "localhost:"+port)
		if err == nil {
			_ = c.Close()
		}
		if allowed != (err == nil) || !allowed && !errors.Is(err, errPrivate) {
			t.Errorf("allowed %t: %v", allowed, err)
		}
	}
}

func TestAForeignFrontendIsRefused(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0", 64)
	for text, says := range map[string]string{
		"FROM x\n": "", "# syntax=docker/dockerfile:1\n": "", "#syntax = docker.io/docker/dockerfile:1.7-labs" + digest + "\n": "", "# nothing\n# syntax=x/y\n": "",
		"# syntax=docker/dockerfile\n": "", "# syntax=docker/dockerfile:1 debug\n": "", "# syntax=docker/dockerfile" + digest + "\n": "",
		"# escape=`\n# SYNTAX=x/y\n":                  "Dockerfile:2: syntax=x/y names another frontend",
		"#!/bin/sh\n# syntax=x/y\n":                   "Dockerfile:2: syntax=x/y names",
		"\xef\xbb\xbf// syntax=x/y\n":                 "Dockerfile:1: syntax=x/y names",
		"{\"syntax\": \"x/y\"}":                       "Dockerfile:1: syntax=x/y names",
		"# syntax=docker/dockerfile-upstream\n":       "Dockerfile:1: syntax=docker/dockerfile-upstream names",
		"# syntax=evil.example/docker/dockerfile:1\n": "Dockerfile:1: ",
		"# syntax=docker/dockerfile:1/../x\n":         "Dockerfile:1: ",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Detect(t.Context(), dir, Target{Arch: "amd64"})
		if says == "" && err != nil || says != "" && (!fault.Is(err, fault.Invalid) || !strings.HasPrefix(fault.Message(err), says) || fault.Hint(err) == "") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("FROM x:%%BALENA_ARCH%%\n", "main")
	f.Add("%%%%RESIN_ARCH%%%% %%BALENA_NO%%", "%%BALENA_ARCH%%")
	f.Fuzz(func(t *testing.T, text, service string) {
		target := Target{DeviceType: "a-type", Arch: "an-arch", FleetName: "a-fleet", Commit: "a-commit"}
		got, err := expand("Dockerfile.template", text, service, target)
		if err != nil {
			return
		}
		if !strings.Contains(text, "%%") && got != text {
			t.Errorf("%q without variables became %q", text, got)
		}
		if strings.Count(got, "\n") != strings.Count(text, "\n")+strings.Count(service, "\n")*strings.Count(text, "_SERVICE_NAME%%") {
			t.Errorf("the lines of %q and %q differ", text, got)
		}
	})
}

func FuzzYAML(f *testing.F) {
	f.Add("a: &x [1, 'b', !!str 3]\nc:\n  <<: {d: *x}\n  e: |\n    text\n")
	f.Add("- - ? a\n    : b\n---\n...\n%YAML 1.2\n")
	f.Add("services:\n  web:\n    build: {context: .}\n    ports: [80]\n")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseYAML("a.yml", []byte(text))
		if err != nil {
			if fault.KindOf(err) == fault.Internal {
				t.Errorf("the file's fault is said to be the server's: %v", err)
			}
			return
		}
		if n.size > maxYAMLNodes {
			t.Errorf("%d nodes", n.size)
		}
		if _, err := json.Marshal(n.plain()); err != nil {
			t.Errorf("%q is not plain: %v", text, err)
		}
		_ = checkCompose("a.yml", n) // must bear any shape
	})
}

func FuzzMountSecrets(f *testing.F) {
	f.Add("FROM x\nRUN a \\\n && b\nrun [\"c\"]\n# RUN d\nENV RUN=e\n")
	f.Add("# escape=`\nFROM x\nRUN <<E\nRUN not\nE\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := mountSecrets("Dockerfile", text, []string{"key"})
		if err != nil {
			return
		}
		const mount = "--mount=type=secret,id=key,target=/run/secrets/key "
		if back := strings.ReplaceAll(got, mount, ""); back != strings.ReplaceAll(text, mount, "") {
			t.Errorf("%q became %q, which differs by more than mounts", text, got)
		}
	})
}

func TestEveryRunSeesTheSecretsAndNothingElseDoes(t *testing.T) {
	const in = "FROM x\nRUN a \\\n && b\n  run [\"c\"]\n# RUN d\nENV RUN=e\nRUN <<E\nRUN not\nE\n"
	const m = "--mount=type=secret,id=k,target=/run/secrets/k "
	const want = "FROM x\nRUN " + m + "a \\\n && b\n  run " + m + "[\"c\"]\n# RUN d\nENV RUN=e\nRUN " + m + "<<E\nRUN not\nE\n"
	got, err := mountSecrets("Dockerfile", in, []string{"k"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestALineForAPersonHoldsNoControlsAndNoFoldersOfTheServer(t *testing.T) {
	var out bytes.Buffer
	l := newLines(&out, "[web] ", "/srv/project", "/srv/work/build-1")
	if _, err := l.Write([]byte("\x1b[1mbold\x1b[0m \x1b]0;title\x07done\n10%\r50%\r100%\nin /srv/project/a/b.go and /srv/work/build-1/tmp\nno end")); err != nil {
		t.Fatal(err)
	}
	l.flush()
	want := "[web] bold done\n[web] 100%\n[web] in a/b.go and tmp\n[web] no end\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLinesComeWholeHoweverTheyArrive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOf(rapid.StringMatching(`[a-zäß %]{0,12}`)).Draw(t, "lines")
		whole := strings.Join(text, "\n")
		var out bytes.Buffer
		l := newLines(&out, "", "/nowhere")
		for rest := []byte(whole); len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			if _, err := l.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		l.flush()
		want := whole
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if out.String() != want {
			t.Fatalf("got %q, want %q", out.String(), want)
		}
	})
}
