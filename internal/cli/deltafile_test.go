package cli

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/delta"
)

func TestTarsBehindEachOtherAreReadAsOne(t *testing.T) {
	whole := []byte("the first tar, the second, and the third of them")
	var all tars
	end := 0
	for _, n := range []int{14, 0, 12, 22} {
		part := whole[end : end+n]
		end += n
		all = append(all, tarEnd{bytes.NewReader(part), int64(n), int64(end)})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		at, n := random.IntN(len(whole)+2), random.IntN(len(whole)+2)
		got := make([]byte, n)
		read, err := all.ReadAt(got, int64(at))
		want := whole[min(at, len(whole)):min(at+n, len(whole))]
		if !bytes.Equal(got[:read], want) {
			t.Fatalf("%d bytes at %d: %q, want %q", n, at, got[:read], want)
		}
		if short := read < n; short != errors.Is(err, io.EOF) || !short && err != nil {
			t.Fatalf("%d bytes at %d: %d were read, and the error is %v", n, at, read, err)
		}
	}
}

func TestABarSaysHowFarItIs(t *testing.T) {
	for _, row := range []struct {
		done, all int64
		want      string
	}{
		{0, 0, "making…"},
		{5, 0, "making…"},
		{5, 4, "making…"},
		{0, 1000, "making  ────────────────────────   0 %  0 B of 1.0 kB"},
		{500, 1000, "making  ━━━━━━━━━━━━────────────   50 %  500 B of 1.0 kB"},
		{1000, 1000, "making  ━━━━━━━━━━━━━━━━━━━━━━━━ 100 %  1.0 kB of 1.0 kB"},
	} {
		b := &bar{what: "making"}
		b.set(row.done, row.all)
		if got := b.line(); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(row.want), " ") {
			t.Errorf("%d of %d: %q, want %q", row.done, row.all, got, row.want)
		}
	}
}

func TestABarIsNotShownWhereNobodySees(t *testing.T) {
	var out bytes.Buffer
	b := newBar(&out, "making")
	b.set(1, 2)
	b.stop()
	if out.Len() > 0 {
		t.Errorf("%q was written to what is no terminal", out.String())
	}
}

// A delta says itself which layers its old image has. What it says of layers that stay would else be believed.
func TestADeltaThatLiesAboutTheOldImagesLayersIsNotApplied(t *testing.T) {
	layer := func(content string) delta.Layer {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: "app", Size: int64(len(content)), Mode: 0o644}), second(io.WriteString(w, content)), w.Close()); err != nil {
			t.Fatal(err)
		}
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
		return delta.Layer{DiffID: fmt.Sprintf("sha256:%x", sha256.Sum256(b.Bytes())), Open: open}
	}
	config := func(layers ...delta.Layer) []byte {
		var ids []string
		for _, l := range layers {
			ids = append(ids, l.DiffID)
		}
		b, err := json.Marshal(map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	dir := t.TempDir()
	mine, other, more := layer("what is here"), layer("what is said to be here"), layer("more")
	var old bytes.Buffer
	if err := archive.Write(&old, config(mine), nil, []archive.Content{{DiffID: mine.DiffID, Size: 2048, Write: func(w io.Writer) error {
		r, err := mine.Open()
		if err != nil {
			return err
		}
		_, err = io.Copy(w, r)
		return err
	}}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "old.tar"), old.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, lie := range map[string][]delta.Layer{"another layer": {other}, "a layer too many": {mine, other}} {
		t.Run(name, func(t *testing.T) {
			var d bytes.Buffer
			new := append(lie[:len(lie):len(lie)], more)
			if _, err := delta.Make(t.Context(), &d, delta.Image{Config: config(mine), Layers: lie}, delta.Image{Config: config(new...), Layers: new}, delta.Options{}); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "delta")
			if err := os.WriteFile(file, d.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			image, err := archive.Open(filepath.Join(dir, "old.tar"), archive.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer image.Close()
			p, err := openPatch(file, dir)
			if err != nil {
				t.Fatal(err)
			}
			defer p.close()
			if err := p.apply(t.Context(), io.Discard, image, deltaFile{dir: dir}, func(int64, int64) {}); !errors.Is(err, delta.ErrBase) {
				t.Errorf("it was applied, with %v", err)
			}
		})
	}
}

func second(_ int, err error) error { return err }
