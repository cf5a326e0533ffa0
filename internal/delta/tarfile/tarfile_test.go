package tarfile_test

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/delta/entropy"
	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

func pack(t testing.TB, headers ...tar.Header) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		w.Write(make([]byte, h.Size))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

func TestATarIsListedAsItIsUnpacked(t *testing.T) {
	r := pack(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir},
		tar.Header{Name: "./b/", Typeflag: tar.TypeDir},
		tar.Header{Name: "./b/", Typeflag: tar.TypeDir},
		tar.Header{Name: "./b/file", Typeflag: tar.TypeReg, Size: 3},
		tar.Header{Name: "./b/hard", Typeflag: tar.TypeLink, Linkname: "./b/file"},
		tar.Header{Name: "./b/soft", Typeflag: tar.TypeSymlink, Linkname: "nowhere/../file"},
		tar.Header{Name: "./b-c", Typeflag: tar.TypeReg},
		tar.Header{Name: "dev/null", Typeflag: tar.TypeChar},
		tar.Header{Name: "gone/.wh.it", Typeflag: tar.TypeReg},
		tar.Header{Name: "a/" + strings.Repeat("long/", 50) + "name", Typeflag: tar.TypeReg},
	)
	l, err := tarfile.List(r, r.Size())
	if err != nil || l.Odd {
		t.Fatal(err, "odd:", l.Odd)
	}
	var got []string
	for _, n := range l.Names {
		if strings.HasPrefix(n.Path, "a/") && n.Type == tar.TypeDir {
			continue
		}
		got = append(got, string(n.Type)+" "+n.Path+" "+n.Link)
	}
	want := []string{"5 a ", "0 a/" + strings.Repeat("long/", 50) + "name ", "5 b ", "0 b/file ", "0 b/hard ", "2 b/soft nowhere/../file", "0 b-c ", "5 dev "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if l.Places[len(l.Places)-5] != l.Places[len(l.Places)-4] || l.Places[len(l.Places)-5].Size != 3 {
		t.Errorf("a hard link is elsewhere than its file: %+v", l.Places)
	}
}

func TestATarThatCouldBeUnpackedInTwoWaysIsOdd(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	for name, headers := range map[string][]tar.Header{
		"a file twice":               {file("a"), file("a")},
		"a folder that was a file":   {file("a"), {Name: "a/", Typeflag: tar.TypeDir}},
		"a file in a file":           {file("a"), file("a/b")},
		"a path through a link":      {{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "b"}, file("a/c")},
		"a path going up":            {file("../a")},
		"a path with an empty part":  {file("a//b")},
		"a name too long for a disk": {file(strings.Repeat("n", 256))},
		"a link to what is not here": {{Name: "a", Typeflag: tar.TypeLink, Linkname: "b"}},
		"a whiteout of what is here": {file("a"), file(".wh.a")},
		"a file in a whiteout":       {file(".wh.a/b")},
		"a file in a device":         {{Name: "a", Typeflag: tar.TypeChar}, file("a/b")},
	} {
		r := pack(t, headers...)
		l, err := tarfile.List(r, r.Size())
		if err != nil {
			t.Fatal(err)
		}
		if !l.Odd || l.Names != nil {
			t.Errorf("%s: it is not odd, but %v", name, l.Names)
		}
	}
	r := bytes.NewReader([]byte("no tar at all"))
	if l, err := tarfile.List(r, r.Size()); err != nil || !l.Odd {
		t.Error("what is no tar is not odd:", err)
	}
}

func TestOrderIsThatOfAWalk(t *testing.T) {
	path := rapid.StringMatching(`[a/.\-]{1,6}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := path.Draw(t, "a"), path.Draw(t, "b"), path.Draw(t, "c")
		as, bs := strings.Split(a, "/"), strings.Split(b, "/")
		want := 0
		for i := 0; want == 0 && (i < len(as) || i < len(bs)); i++ {
			switch {
			case i == len(as):
				want = -1
			case i == len(bs):
				want = 1
			default:
				want = strings.Compare(as[i], bs[i])
			}
		}
		if got := tarfile.Order(a, b); got != want {
			t.Fatalf("%q and %q: %d, and should be %d", a, b, got, want)
		}
		if tarfile.Order(a, b) <= 0 && tarfile.Order(b, c) <= 0 && tarfile.Order(a, c) > 0 {
			t.Fatalf("%q %q %q is no order", a, b, c)
		}
	})
}

// coded is the headers in a tar, as they come out of a coder.
func coded(t testing.TB, b []byte, names []tarfile.Name) []*tarfile.Entry {
	t.Helper()
	var in []*tarfile.Entry
	r := bytes.NewReader(b)
	for at := int64(0); ; {
		e, err := tarfile.Read(r, at, r.Size())
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			break
		}
		in = append(in, e)
		at = e.End()
	}
	var stream bytes.Buffer
	w := entropy.NewWriter(&stream)
	h := &tarfile.Heads{}
	h.Begin(names)
	for _, e := range in {
		e := *e
		if err := h.Code(w, &e, func(string, byte, int) (int64, bool, error) { return e.Size, false, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c := entropy.NewReader(&stream)
	h = &tarfile.Heads{}
	h.Begin(names)
	for i, want := range in {
		got := &tarfile.Entry{}
		if err := h.Code(c, got, func(string, byte, int) (int64, bool, error) { return want.Size, false, nil }); err != nil {
			t.Fatal(err)
		}
		if got.Head != want.Head || got.Name != want.Name || len(got.Metas) != len(want.Metas) {
			t.Fatalf("entry %d of %d came out as %+v and was %+v", i, len(in), got, want)
		}
		for j, m := range want.Metas {
			if got.Metas[j].Head != m.Head || !bytes.Equal(got.Metas[j].Body, m.Body) {
				t.Fatalf("record %d of entry %d came out as %+v and was %+v", j, i, got.Metas[j], m)
			}
		}
	}
	return in
}

// FuzzHeaders reads and codes whatever is taken for entries of a tar.
func FuzzHeaders(f *testing.F) {
	seed := func(h tar.Header) {
		r := pack(f, h)
		b := make([]byte, r.Size())
		r.Read(b)
		f.Add(b)
	}
	seed(tar.Header{Name: "a/b", Typeflag: tar.TypeReg, Size: 5, Mode: 0o644})
	seed(tar.Header{Name: "a/link", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("far/", 60)})
	seed(tar.Header{Name: strings.Repeat("deep/", 60), Typeflag: tar.TypeDir, Format: tar.FormatGNU})
	seed(tar.Header{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}})
	names := []tarfile.Name{{Path: "a", Type: tar.TypeDir}, {Path: "a/b", Type: tar.TypeReg}, {Path: "a/link", Type: tar.TypeSymlink, Link: "b"}}
	f.Fuzz(func(t *testing.T, b []byte) {
		coded(t, b, names)
		// A damaged stream is an error, or other headers, and nothing worse.
		h := &tarfile.Heads{}
		h.Begin(names)
		c := entropy.NewReader(bytes.NewReader(b))
		for range 100 {
			e := &tarfile.Entry{}
			if h.Code(c, e, func(string, byte, int) (int64, bool, error) { return 0, false, nil }) != nil {
				return
			}
		}
	})
}
