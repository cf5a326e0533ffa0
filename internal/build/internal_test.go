package build

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestTheAssemblersIncludesAreReadAsItReadsThem(t *testing.T) {
	for text, line := range map[string]int{
		"#include \"textflag.h\"\nTEXT ·f(SB),0,$0\n":  0,
		"// #include \"/etc/passwd\"\n":                0,
		"/* #include \"/etc/passwd\" */ RET\n":         0,
		"DATA x+0(SB)/8, $\"#include\"\n":              0,
		"#define include(x) x\n":                       0,
		"\n#include \"/etc/passwd\"\n":                 2,
		"#include\t\"../x.h\"\n":                       1,
		"#include \"sub/x.h\"\n":                       1,
		"#include \"x.txt\"\n":                         1,
		"#include \".h\"\n":                            1,
		"#include \"\\x2fetc/passwd\"\n":               1,
		"#include <stdio.h>\n":                         1,
		"#/**/include \"/etc/passwd\"\n":               1,
		"# // x\n include \"/etc/passwd\"\n":           0, // the assembler ends the directive with the line
		"##include \"/etc/passwd\"\n":                  1,
		"#ifdef X\n#include \"/etc/passwd\"\n#endif\n": 2,
		"MOVQ $'\"', AX\n#include \"/etc/passwd\"\n":   2,
	} {
		if got := badInclude([]byte(text)); got != line {
			t.Errorf("%q: line %d, want %d", text, got, line)
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
