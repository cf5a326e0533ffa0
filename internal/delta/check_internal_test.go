package delta

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

func TestADeltaThatDoesNotMakeTheNewImageIsNotMade(t *testing.T) {
	content := make([]byte, 200_000)
	rand.NewChaCha8([32]byte{}).Read(content)
	layer := func(content []byte) Layer {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
		return Layer{fmt.Sprintf("sha256:%x", sha256.Sum256(b.Bytes())), open}
	}
	changed := bytes.Clone(content)
	copy(changed[150_000:], "something else")
	old := Image{Config: []byte(`{"a":1}`), Layers: []Layer{layer(content)}}
	new := Image{Config: []byte(`{"a":2}`), Layers: []Layer{layer(changed)}}

	var out bytes.Buffer
	e := &encoder{o: Options{Dir: t.TempDir()}}
	defer e.close()
	info, err := e.make(t.Context(), &out, old, new)
	if err != nil {
		t.Fatal(err)
	}
	made, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	if _, err := made.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	head := &top{Info: info}
	if err := e.check(t.Context(), made, head); err != nil {
		t.Fatal(err)
	}
	if _, err := made.WriteAt([]byte{out.Bytes()[out.Len()-4] ^ 1}, int64(out.Len()-4)); err != nil {
		t.Fatal(err)
	}
	if err := e.check(t.Context(), made, head); !errors.Is(err, ErrResult) && !errors.Is(err, ErrFormat) {
		t.Errorf("a delta of which a bit is wrong: %v", err)
	}
}

func TestMakeAppliesWhatItHasWritten(t *testing.T) {
	old := Image{Config: []byte(`{}`)}
	new := Image{Config: []byte(`{"a":2}`), Layers: []Layer{{
		DiffID: fmt.Sprintf("sha256:%x", sha256.Sum256(make([]byte, 4096))),
		Open:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(make([]byte, 4096))), nil },
	}}}
	var done []int64
	o := Options{Dir: t.TempDir(), Progress: func(d, all int64) { done = append(done, d*100/all) }}
	if _, err := Make(t.Context(), io.Discard, old, new, o); err != nil {
		t.Fatal(err)
	}
	// Coding is three quarters of it, checking the rest.
	if len(done) < 3 || done[0] != 0 || done[len(done)-1] != 100 || done[len(done)-2] < 75 {
		t.Errorf("the progress was %v", done)
	}
}
