package delta

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

// TestCorpus makes and applies the delta of every pair in DUNLIN_CORPUS (PAIR/old.tar and new.tar, as docker save has
// them, or old.bin and new.bin) and prints what it took. DUNLIN_PAIRS is a regular expression of the pairs to look at;
// DUNLIN_CORPUS_BIN prefers the .bin files, and DUNLIN_KEEP is a folder for the deltas.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("DUNLIN_CORPUS")
	if dir == "" {
		t.Skip("DUNLIN_CORPUS is not set")
	}
	want := regexp.MustCompile(os.Getenv("DUNLIN_PAIRS"))
	pairs, err := filepath.Glob(filepath.Join(dir, "[a-z]*"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%-22s %10s %9s %9s %9s %9s %9s %9s | %8s %8s", "pair", "bytes", "head", "entries", "copies", "layout", "residue", "literal", "create", "apply")
	for _, pair := range pairs {
		if !want.MatchString(filepath.Base(pair)) {
			continue
		}
		old, err1 := readImage(t, filepath.Join(pair, "old"))
		new, err2 := readImage(t, filepath.Join(pair, "new"))
		if err := errors.Join(err1, err2); err != nil {
			t.Logf("%-22s %v", filepath.Base(pair), err)
			continue
		}
		var delta bytes.Buffer
		e := &encoder{}
		began := cpu()
		_, err := e.make(t.Context(), &delta, old, new)
		if err := errors.Join(err, e.close()); err != nil {
			t.Errorf("%s: %v", pair, err)
			continue
		}
		made := cpu() - began
		if keep := os.Getenv("DUNLIN_KEEP"); keep != "" {
			if err := os.WriteFile(filepath.Join(keep, filepath.Base(pair)+".delta"), delta.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		began = cpu()
		if err := applied(t.Context(), old, new, delta.Bytes()); err != nil {
			t.Errorf("%s: %v", pair, err)
		}
		p := e.x.parts
		t.Logf("%-22s %10d %9d %9d %9d %9d %9d %9d | %8.2f %8.2f", filepath.Base(pair), delta.Len(),
			p[partHead], p[partEntries], p[partCopies], p[partLayout], p[partResidue], p[partLiteral], made.Seconds(), (cpu() - began).Seconds())
	}
}

// TestApplyingTakesLittleMemory applies the delta DUNLIN_DELTA, which TestCorpus has kept, of the pair DUNLIN_PAIRS, and
// prints how much memory that takes above what there was before.
func TestApplyingTakesLittleMemory(t *testing.T) {
	name := os.Getenv("DUNLIN_DELTA")
	if name == "" {
		t.Skip("DUNLIN_DELTA is not set")
	}
	pair := filepath.Join(os.Getenv("DUNLIN_CORPUS"), os.Getenv("DUNLIN_PAIRS"))
	old, err := readImage(t, filepath.Join(pair, "old"))
	if err != nil {
		t.Fatal(err)
	}
	new, err := readImage(t, filepath.Join(pair, "new"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	debug.SetGCPercent(25)
	before := peak(t)
	began := cpu()
	if err := applied(t.Context(), old, new, b); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %.1f MiB above %.1f, %.2f s", name, float64(peak(t)-before)/1024, float64(before)/1024, (cpu() - began).Seconds())
}

// peak is the most memory this process has had, in KiB.
func peak(t *testing.T) int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return r.Maxrss
}

// cpu is the processor time this process has taken.
func cpu() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// applied makes new of old and a delta, and reports what is wrong with it.
func applied(ctx context.Context, old, new Image, delta []byte) error {
	var tars []io.ReaderAt
	var sizes []int64
	for _, l := range old.Layers {
		r, err := l.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		s := r.(interface {
			io.ReaderAt
			Size() int64
		})
		tars, sizes = append(tars, s), append(sizes, s.Size())
	}
	basis, err := TarBasis(imageID(old.Config), tars, sizes)
	if err != nil {
		return err
	}
	d, err := Open(bytes.NewReader(delta))
	if err != nil {
		return err
	}
	if !bytes.Equal(d.Info().Config, new.Config) {
		return errors.New("the config is another one")
	}
	for i, l := range d.Info().Layers {
		if l.DiffID != new.Layers[i].DiffID {
			return fmt.Errorf("layer %d has diff ID %s", i, l.DiffID)
		}
		if l.Kept {
			continue
		}
		h := sha256.New()
		if err := d.Layer(ctx, i, basis, h); err != nil {
			return err
		}
		if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != l.DiffID {
			return fmt.Errorf("layer %d is %s and should be %s", i, got, l.DiffID)
		}
	}
	return nil
}

// piece is a part of a file.
type piece struct{ *io.SectionReader }

func (piece) Close() error { return nil }

// layerOf is the layer whose tar is in r.
func layerOf(r *io.SectionReader) Layer {
	h := sha256.New()
	io.Copy(h, io.NewSectionReader(r, 0, r.Size()))
	return Layer{"sha256:" + hex.EncodeToString(h.Sum(nil)), func() (io.ReadCloser, error) {
		return piece{io.NewSectionReader(r, 0, r.Size())}, nil
	}}
}

// readImage reads path.tar, a docker-archive, or path.bin, one program.
func readImage(t testing.TB, path string) (Image, error) {
	f, err := os.Open(path + ".tar")
	if os.Getenv("DUNLIN_CORPUS_BIN") != "" || err != nil {
		b, err := os.ReadFile(path + ".bin")
		if err != nil {
			return Image{}, err
		}
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(b))})
		w.Write(b)
		w.Close()
		return Image{Config: []byte("{}"), Layers: []Layer{layerOf(io.NewSectionReader(bytes.NewReader(out.Bytes()), 0, int64(out.Len())))}}, nil
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		return Image{}, err
	}
	var at int64
	files := map[string]*io.SectionReader{}
	for {
		e, err := tarfile.Read(f, at, info.Size())
		if err != nil {
			return Image{}, err
		}
		if e == nil {
			break
		}
		files[e.Name] = io.NewSectionReader(f, e.Data, e.Size)
		at = e.End()
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	b, err := io.ReadAll(files["manifest.json"])
	if err != nil {
		return Image{}, err
	}
	if err := json.Unmarshal(b, &manifest); err != nil {
		return Image{}, err
	}
	var image Image
	if image.Config, err = io.ReadAll(files[manifest[0].Config]); err != nil {
		return Image{}, err
	}
	for _, l := range manifest[0].Layers {
		image.Layers = append(image.Layers, layerOf(files[l]))
	}
	return image, nil
}
