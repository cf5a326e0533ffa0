package enginetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/dunlin/dunlin/internal/engine"
)

// layerChecks are one check with several steps: an engine loads one image at a time.
var layerChecks = []check{
	{"AnImageCanBeLoadedOnItsPredecessor", func(t *trial) {
		s := t.fixture.Successor(t.T)
		_, err := t.Layers(t.Context(), s.Old)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip("the engine does not load images without all of their layers")
		}
		t.mustBe(engine.ErrNotFound, err)
		t.mustBe(engine.ErrNotFound, t.Export(t.Context(), s.Old, io.Discard))
		t.Cleanup(func() {
			t.RemoveImage(context.Background(), engine.Loaded)
			t.RemoveImage(context.Background(), s.Old)
		})
		// gone is sure of there being nothing loaded.
		gone := func(t *trial) {
			t.Helper()
			_, err := t.Layers(t.Context(), engine.Loaded)
			t.mustBe(engine.ErrNotFound, err)
		}
		for _, step := range []check{
			{"to no use before its predecessor is here", func(t *trial) {
				if t.Load(t.Context(), bytes.NewReader(s.Archive)) == nil {
					t.must(t.RemoveImage(t.Context(), engine.Loaded))
				}
				gone(t)
				t.must(t.Pull(t.Context(), s.Old, engine.Credentials{}, nil))
			}},
			{"whose layers the engine tells", func(t *trial) {
				l, err := t.Layers(t.Context(), s.Old)
				t.must(err)
				if l.DiffIDs != nil && !slices.Equal(l.DiffIDs, s.DiffIDs) {
					t.Errorf("layers %v, want %v", l.DiffIDs, s.DiffIDs)
				}
				for _, f := range l.Folders {
					if files, err := filepath.Glob(filepath.Join(f, "*")); err != nil || len(files) != 1 {
						t.Errorf("in a layer of one file are %v, %v", files, err)
					}
				}
				if l.Folders != nil && len(l.Folders) != len(s.DiffIDs) {
					t.Errorf("%d folders for %d layers", len(l.Folders), len(s.DiffIDs))
				}
			}},
			{"and gives", func(t *trial) {
				var b bytes.Buffer
				t.must(t.Export(t.Context(), s.Old, &b))
				here := contents(t.T, b.Bytes())
				for _, id := range s.DiffIDs {
					if !here[id] {
						t.Errorf("layer %s is not in the export", id)
					}
				}
			}},
			{"to no use if a layer is not what its diff ID says", func(t *trial) {
				// Another one, for an engine need not read again what it has seen of a layer.
				s := t.fixture.Successor(t.T)
				t.pull(s.Old, engine.Credentials{})
				damaged := slices.Clone(s.Archive)
				damaged[len(damaged)*3/4] ^= 1
				if t.Load(t.Context(), bytes.NewReader(damaged)) == nil {
					t.must(t.Pull(t.Context(), s.New, engine.Credentials{}, nil))
					if n := s.Travelled(); n < 50_000 {
						t.Errorf("%d bytes travelled of an image that was damaged here", n)
					}
					t.must(t.RemoveImage(t.Context(), s.New))
					t.must(t.RemoveImage(t.Context(), engine.Loaded))
				}
				gone(t)
			}},
			{"not if its archive breaks off", func(t *trial) {
				cut := errors.New("cut off")
				for _, n := range []int{0, 700, len(s.Archive) / 2, len(s.Archive) - 1} {
					t.mustBe(cut, t.Load(t.Context(), io.MultiReader(bytes.NewReader(s.Archive[:n]), iotest.ErrReader(cut))))
					gone(t)
				}
			}},
			{"not if it is called off", func(t *trial) {
				ctx, cancel := context.WithCancel(t.Context())
				r, w := io.Pipe()
				go func() {
					w.Write(s.Archive[:len(s.Archive)/2])
					cancel()
					w.CloseWithError(ctx.Err())
				}()
				t.mustBe(context.Canceled, t.Load(ctx, r))
				gone(t)
			}},
			{"and given up", func(t *trial) {
				t.must(t.Load(t.Context(), bytes.NewReader(s.Archive)))
				t.must(t.Load(t.Context(), bytes.NewReader(s.Archive)))
				l, err := t.Layers(t.Context(), engine.Loaded)
				t.must(err)
				if l.ID != "" && l.ID != s.ID {
					t.Errorf("the image is %s, want %s", l.ID, s.ID)
				}
				if _, ok := t.find(s.New); ok {
					t.Error("an image that was loaded has the name of one that was pulled")
				}
				t.must(t.RemoveImage(t.Context(), engine.Loaded))
				gone(t)
				t.must(t.RemoveImage(t.Context(), engine.Loaded))
			}},
			{"and named by its manifest alone", func(t *trial) {
				t.must(t.Load(t.Context(), bytes.NewReader(s.Archive)))
				var p percents
				t.must(t.Pull(t.Context(), s.New, engine.Credentials{}, p.add))
				t.Cleanup(func() { t.RemoveImage(context.Background(), s.New) })
				if n := s.Travelled(); n > 2000 {
					t.Errorf("%d bytes travelled of an image that was here", n)
				}
				t.must(t.RemoveImage(t.Context(), engine.Loaded))
				gone(t)
				i, ok := t.find(s.New)
				if !ok || len(i.References) != 1 {
					t.Fatalf("the image is %+v", i)
				}
				l, err := t.Layers(t.Context(), s.New)
				t.must(err)
				if l.ID != "" && l.ID != s.ID {
					t.Errorf("its ID is %s, want %s", l.ID, s.ID)
				}
			}},
			{"and runs without it", func(t *trial) {
				t.must(t.RemoveImage(t.Context(), s.Old))
				t.Cleanup(func() { t.Remove(context.Background(), t.name("loaded")) })
				t.start(engine.Container{
					Name: t.name("loaded"), Image: s.New, Command: []string{"out:here", "exit:0"}, NetworkMode: "none", Restart: "no",
					Labels: map[string]string{engine.LabelSupervised: "true"},
				})
				t.status(t.name("loaded"), engine.Exited)
				if got := t.output(t.name("loaded")); !slices.Equal(got, []string{"here"}) {
					t.Errorf("it said %q", got)
				}
			}},
		} {
			t.Log("loaded " + step.name)
			step.do(t)
		}
	}},
}

// contents are the digests of an archive's files, as they are and without gzip.
func contents(t *testing.T, archive []byte) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		_, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[digest(b)] = true
		if z, err := gzip.NewReader(bytes.NewReader(b)); err == nil {
			if b, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
			all[digest(b)] = true
		}
	}
}
