package asset_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/asset"
	"github.com/dunlin/dunlin/internal/fault"
)

var noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *asset.Store {
	return &asset.Store{Dir: filepath.Join(t.TempDir(), "assets"), Max: 1 << 20}
}

func content(t *testing.T, s *asset.Store, sha string) string {
	t.Helper()
	f, err := s.Open(sha)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// files are the names of all files in the store.
func files(t *testing.T, s *asset.Store) (all []string) {
	t.Helper()
	err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

// age makes every file of the store that old.
func age(t *testing.T, s *asset.Store, at time.Time) {
	t.Helper()
	for _, path := range files(t, s) {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFileIsKeptOnceUnderItsContent(t *testing.T) {
	s := open(t)
	for range 2 {
		f, err := s.Put(t.Context(), strings.NewReader("hello"))
		sum := sha256.Sum256([]byte("hello"))
		if err != nil || f.Size != 5 || f.SHA256 != hex.EncodeToString(sum[:]) {
			t.Fatalf("%+v %v", f, err)
		}
		if got := content(t, s, f.SHA256); got != "hello" {
			t.Errorf("it holds %q", got)
		}
	}
	if got := files(t, s); len(got) != 1 {
		t.Errorf("the store has %v", got)
	}
}

func TestAFileThatIsTooLargeOrBreaksOffLeavesNothing(t *testing.T) {
	s := open(t)
	if _, err := s.Put(t.Context(), io.LimitReader(zero{}, 1<<20+1)); !fault.Is(err, fault.TooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := s.Put(t.Context(), io.LimitReader(zero{}, 1<<20)); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if err := os.RemoveAll(s.Dir); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if _, err := s.Put(t.Context(), io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("broken off: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(ctx, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if got := files(t, s); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
}

type zero struct{}

func (zero) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestWhatIsNoDigestOpensNothing(t *testing.T) {
	s := open(t)
	for _, sha := range []string{"", "..", "../../etc/passwd", strings.Repeat("a", 64), strings.Repeat("A", 64), "a/" + strings.Repeat("a", 62)} {
		if f, err := s.Open(sha); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q: %v %v", sha, f, err)
		}
	}
}

func TestCollectingRemovesWhatNoRowNamesOnceItIsADayOld(t *testing.T) {
	s := open(t)
	kept, err := s.Put(t.Context(), strings.NewReader("kept"))
	if err != nil {
		t.Fatal(err)
	}
	loose, err := s.Put(t.Context(), strings.NewReader("loose"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "new-1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	keep := func(sha string) bool { return sha == kept.SHA256 }
	age(t, s, noon)
	if freed, err := s.Collect(t.Context(), keep, noon.Add(24*time.Hour)); freed != 0 || err != nil {
		t.Errorf("within a day %d bytes went: %v", freed, err)
	}
	freed, err := s.Collect(t.Context(), keep, noon.Add(24*time.Hour+time.Second))
	if freed != int64(len("loose")+len("half")) || err != nil {
		t.Errorf("%d bytes went: %v", freed, err)
	}
	if got := content(t, s, kept.SHA256); got != "kept" {
		t.Errorf("the kept file holds %q", got)
	}
	if _, err := s.Open(loose.SHA256); !fault.Is(err, fault.NotFound) {
		t.Errorf("the loose file: %v", err)
	}
	if _, err := (&asset.Store{Dir: filepath.Join(t.TempDir(), "never")}).Collect(t.Context(), keep, noon); err != nil {
		t.Errorf("a store that was never used: %v", err)
	}
}

func TestAFileInPartsIsTheWholeOne(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := &asset.Store{Dir: t.TempDir()}
		const chunk = 64 << 10
		whole := bytes.Repeat([]byte(rapid.StringN(1, 20, -1).Draw(r, "text")), rapid.IntRange(1, 30_000).Draw(r, "times"))
		u, err := s.Begin(asset.Upload{For: 1, Size: int64(len(whole)), Chunk: chunk}, noon)
		if err != nil {
			r.Fatal(err)
		}
		order := rapid.Permutation(numbers(u.Parts())).Draw(r, "order")
		var parts []asset.Part
		for _, n := range order {
			piece := whole[(n-1)*chunk : min(n*chunk, len(whole))]
			if int64(len(piece)) != u.PartSize(n) {
				r.Fatalf("part %d has %d bytes, the upload says %d", n, len(piece), u.PartSize(n))
			}
			tag, err := s.PutPart(t.Context(), u.ID, n, bytes.NewReader(piece), noon)
			if err != nil {
				r.Fatal(err)
			}
			parts = append(parts, asset.Part{Number: n, Tag: tag})
		}
		f, err := s.Commit(t.Context(), u.ID, parts, noon)
		if err != nil {
			r.Fatal(err)
		}
		if content(t, s, f.SHA256) != string(whole) || f.Size != int64(len(whole)) {
			r.Fatal("it is another file")
		}
		if _, err := s.Upload(u.ID, noon); !fault.Is(err, fault.NotFound) {
			r.Fatalf("the upload is still there: %v", err)
		}
	})
}

func numbers(n int) (all []int) {
	for i := range n {
		all = append(all, i+1)
	}
	return all
}

func begin(t *testing.T, s *asset.Store) asset.Upload {
	t.Helper()
	u, err := s.Begin(asset.Upload{For: 1, Size: 100_000, Chunk: 64 << 10}, noon)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func put(t *testing.T, s *asset.Store, u asset.Upload, n int, fill string) string {
	t.Helper()
	tag, err := s.PutPart(t.Context(), u.ID, n, strings.NewReader(strings.Repeat(fill, int(u.PartSize(n)))), noon)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

func TestAnUploadThatIsNotWholeIsNoFile(t *testing.T) {
	s := open(t)
	u := begin(t, s)
	one := put(t, s, u, 1, "a")
	two := put(t, s, u, 2, "b")
	for name, parts := range map[string][]asset.Part{
		"no parts":     nil,
		"one part":     {{1, one}},
		"a part twice": {{1, one}, {1, one}},
		"a wrong tag":  {{1, one}, {2, one}},
		"a part 3":     {{1, one}, {3, two}},
		"a part 0":     {{0, one}, {1, one}},
		"too many":     {{1, one}, {2, two}, {3, two}},
	} {
		if f, err := s.Commit(t.Context(), u.ID, parts, noon); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %+v %v", name, f, err)
		}
	}
	again := put(t, s, u, 1, "c") // a part that is sent again replaces the first
	if f, err := s.Commit(t.Context(), u.ID, []asset.Part{{1, one}, {2, two}}, noon); !fault.Is(err, fault.Invalid) {
		t.Errorf("a part that was replaced: %+v %v", f, err)
	}
	f, err := s.Commit(t.Context(), u.ID, []asset.Part{{2, two}, {1, again}}, noon)
	if err != nil || content(t, s, f.SHA256)[:1] != "c" {
		t.Errorf("%+v %v", f, err)
	}
	if got := files(t, s); len(got) != 1 {
		t.Errorf("beside the file there is %v", got)
	}
}

func TestAPartThatDoesNotFitIsRefused(t *testing.T) {
	s := open(t)
	u := begin(t, s)
	for name, c := range map[string]struct {
		id   string
		n    int
		size int64
		kind fault.Kind
	}{
		"too short":        {u.ID, 1, u.PartSize(1) - 1, fault.Invalid},
		"too long":         {u.ID, 1, u.PartSize(1) + 1, fault.Invalid},
		"a long last one":  {u.ID, 2, u.PartSize(1), fault.Invalid},
		"no such part":     {u.ID, 3, 1, fault.NotFound},
		"part nought":      {u.ID, 0, 1, fault.NotFound},
		"no such upload":   {strings.Repeat("a", 32), 1, 1, fault.NotFound},
		"no upload at all": {"../..", 1, 1, fault.NotFound},
	} {
		if tag, err := s.PutPart(t.Context(), c.id, c.n, io.LimitReader(zero{}, c.size), noon); !fault.Is(err, c.kind) {
			t.Errorf("%s: %q %v", name, tag, err)
		}
	}
	if got := files(t, s); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
}

func TestAnUploadIsBounded(t *testing.T) {
	s := open(t)
	for name, c := range map[string]struct {
		u    asset.Upload
		kind fault.Kind
	}{
		"nothing":       {asset.Upload{For: 1, Chunk: 64 << 10}, fault.Invalid},
		"less":          {asset.Upload{For: 1, Size: -1, Chunk: 64 << 10}, fault.Invalid},
		"too large":     {asset.Upload{For: 1, Size: 1<<20 + 1, Chunk: 64 << 10}, fault.TooLarge},
		"tiny parts":    {asset.Upload{For: 1, Size: 1 << 20, Chunk: 1}, fault.Invalid},
		"no parts":      {asset.Upload{For: 1, Size: 1 << 20}, fault.Invalid},
		"giant parts":   {asset.Upload{For: 1, Size: 1 << 20, Chunk: 1 << 40}, fault.Invalid},
		"negative ones": {asset.Upload{For: 1, Size: 1 << 20, Chunk: -5}, fault.Invalid},
	} {
		if _, err := s.Begin(c.u, noon); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := &asset.Store{Dir: t.TempDir()}
	if _, err := many.Begin(asset.Upload{For: 1, Size: asset.MaxSize, Chunk: 64 << 10}, noon); !fault.Is(err, fault.Invalid) {
		t.Errorf("too many parts: %v", err)
	}
}

func TestAnUploadEndsWithTheNextOneForItsRowAndWithItsDay(t *testing.T) {
	s := open(t)
	first := begin(t, s)
	put(t, s, first, 1, "a")
	other, err := s.Begin(asset.Upload{For: 2, Size: 10, Chunk: 64 << 10}, noon)
	if err != nil {
		t.Fatal(err)
	}
	second := begin(t, s)
	if _, err := s.Upload(first.ID, noon); !fault.Is(err, fault.NotFound) {
		t.Errorf("the first upload: %v", err)
	}
	for _, u := range []asset.Upload{other, second} {
		if got, err := s.Upload(u.ID, noon.Add(24*time.Hour)); err != nil || got != u {
			t.Errorf("%+v became %+v %v", u, got, err)
		}
		if _, err := s.Upload(u.ID, noon.Add(25*time.Hour)); !fault.Is(err, fault.NotFound) {
			t.Errorf("after its day: %v", err)
		}
	}
	nothing := func(string) bool { return false }
	if _, err := s.Collect(t.Context(), nothing, noon.Add(23*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Upload(second.ID, noon); err != nil {
		t.Errorf("an upload under way was collected: %v", err)
	}
	if _, err := s.Collect(t.Context(), nothing, noon.Add(25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := files(t, s); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
	third := begin(t, s)
	if err := s.Cancel(third.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutPart(t.Context(), third.ID, 1, strings.NewReader("x"), noon); !fault.Is(err, fault.NotFound) {
		t.Errorf("a part of one that was given up: %v", err)
	}
}
