package build_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/build"
	"github.com/dunlin/dunlin/internal/fault"
)

func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := h.Uname // the text of a file
		h.Uname = ""
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(body))
		}
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil && h.Typeflag == tar.TypeReg {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func reg(name, text string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: text}
}

func link(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

func untar(t testing.TB, r io.Reader) map[string]string {
	t.Helper()
	all := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = string(text)
	}
}

func TestUnpackKeepsTextsPermissionsTimesAndLinks(t *testing.T) {
	dir := t.TempDir()
	when := time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC)
	in := archive(t,
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "a commit"}},
		tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeReg, Name: "./run.sh", Mode: 0o6775, ModTime: when, Uname: "#!/bin/sh\n"},
		reg("deep/er/file", "text"),
		link("outside", "/etc/passwd"),
		reg("twice", "first"), reg("twice", "second"),
	)
	if err := build.Unpack(bytes.NewReader(in), dir, build.Limits{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "run.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o775 || !info.ModTime().Equal(when) {
		t.Errorf("run.sh is %v of %v, want -rwxrwxr-x of %v", info.Mode(), info.ModTime(), when)
	}
	if to, err := os.Readlink(filepath.Join(dir, "outside")); err != nil || to != "/etc/passwd" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	for name, want := range map[string]string{"deep/er/file": "text", "twice": "second"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestAHostileArchiveWritesNothingOutside(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []tar.Header
		kind fault.Kind
	}{
		{"a name with ..", []tar.Header{reg("../escaped", "x")}, fault.Invalid},
		{"a name with .. inside", []tar.Header{reg("a/../../escaped", "x")}, fault.Invalid},
		{"an absolute name", []tar.Header{reg("/escaped", "x")}, fault.Invalid},
		{"a file through a link", []tar.Header{link("d", ".."), reg("d/escaped", "x")}, fault.Invalid},
		{"a file through a link inside", []tar.Header{reg("real/a", "x"), link("d", "real"), reg("d/escaped", "x")}, fault.Invalid},
		{"a folder over a link", []tar.Header{link("d", ".."), {Typeflag: tar.TypeDir, Name: "d"}, reg("d/escaped", "x")}, fault.Invalid},
		{"a file over a folder", []tar.Header{reg("d/a", "x"), reg("d", "x")}, fault.Invalid},
		{"a hard link", []tar.Header{{Typeflag: tar.TypeLink, Name: "escaped", Linkname: "/etc/passwd"}}, fault.Invalid},
		{"a device", []tar.Header{{Typeflag: tar.TypeChar, Name: "escaped", Devmajor: 1, Devminor: 3}}, fault.Invalid},
		{"a pipe", []tar.Header{{Typeflag: tar.TypeFifo, Name: "escaped"}}, fault.Invalid},
		{"a backslash", []tar.Header{reg(`..\escaped`, "x")}, fault.Invalid},
		{"a path too deep", []tar.Header{reg(strings.Repeat("a/", 500)+"b", "x")}, fault.Invalid},
		{"a name too long", []tar.Header{reg("a/"+strings.Repeat("b", 256), "x")}, fault.Invalid},
		{"too many files", []tar.Header{reg("a", ""), reg("b", ""), reg("c", ""), reg("d", ""), reg("e", "")}, fault.TooLarge},
		{"too many folders", []tar.Header{reg("a/b/c/d/e/f", ""), reg("x", "")}, fault.TooLarge},
		{"too many bytes", []tar.Header{reg("a", strings.Repeat("x", 600)), reg("b", strings.Repeat("x", 600))}, fault.TooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			above := t.TempDir()
			dir := filepath.Join(above, "tree")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			err := build.Unpack(bytes.NewReader(archive(t, c.in...)), dir, build.Limits{Files: 4, Bytes: 1000})
			if !fault.Is(err, c.kind) {
				t.Errorf("unpack said %v, want a fault of kind %v", err, c.kind)
			}
			err = filepath.WalkDir(above, func(p string, e fs.DirEntry, err error) error {
				if err == nil && strings.Contains(e.Name(), "escaped") {
					t.Errorf("unpack made %s", p)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestAnArchiveThatIsCutShortIsTheSendersFault(t *testing.T) {
	whole := archive(t, reg("a", strings.Repeat("x", 5000)))
	for _, n := range []int{100, 600, 3000} {
		if err := build.Unpack(bytes.NewReader(whole[:n]), t.TempDir(), build.Limits{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d bytes of an archive: %v, want a fault of kind invalid", n, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, reg("a/b", "text"), link("l", "a"), reg("l/x", "text")))
	f.Add(archive(f, reg("../a", "text"), tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "a"}))
	f.Add([]byte(strings.Repeat("\x00", 1024)))
	f.Fuzz(func(t *testing.T, in []byte) {
		above := t.TempDir()
		dir := filepath.Join(above, "tree")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		err := build.Unpack(bytes.NewReader(in), dir, build.Limits{Files: 50, Bytes: 1 << 16})
		if err != nil && fault.KindOf(err) == fault.Internal {
			t.Errorf("the archive's fault is said to be the server's: %v", err)
		}
		if diff := cmp.Diff([]string{"tree"}, leftovers(t, above)); diff != "" {
			t.Errorf("unpack wrote beside its folder:\n%s", diff)
		}
	})
}
