package delta_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/dunlin/dunlin/internal/delta"
)

// large is a tar with one large file, which is made as it is read: like noise, but for a few bytes in the middle.
type large struct {
	head []byte
	size int64
	mark []byte
}

func newLarge(t *testing.T, size int64, mark string) *large {
	t.Helper()
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: "large", Mode: 0o644, Size: size}); err != nil {
		t.Fatal(err)
	}
	return &large{b.Bytes(), size, []byte(mark)}
}

func (l *large) Size() int64 { return int64(len(l.head)) + l.size + 1024 }

func (l *large) ReadAt(p []byte, at int64) (int, error) {
	n := 0
	for ; n < len(p) && at < l.Size(); n, at = n+1, at+1 {
		in := at - int64(len(l.head))
		switch middle := in - l.size/2; {
		case in < 0:
			p[n] = l.head[at]
		case in >= l.size:
			p[n] = 0
		case middle >= 0 && middle < int64(len(l.mark)):
			p[n] = l.mark[middle]
		default:
			p[n] = byte(uint64(in) * uint64(in) * 0x9e3779b97f4a7c15 >> 40)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (l *large) image() delta.Image {
	h := sha256.New()
	io.Copy(h, io.NewSectionReader(l, 0, l.Size()))
	return delta.Image{Config: []byte("{}"), Layers: []delta.Layer{{
		DiffID: "sha256:" + hex.EncodeToString(h.Sum(nil)),
		Open:   func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(l, 0, l.Size())), nil },
	}}}
}

// meter measures what is in memory while something is written to it.
type meter struct {
	n, last int64
	most    uint64
}

func (m *meter) Write(p []byte) (int, error) {
	if m.n += int64(len(p)); m.n-m.last >= 4<<20 || m.last == 0 {
		m.last = m.n
		m.most = max(m.most, inUse())
	}
	return len(p), nil
}

func inUse() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func TestLargeFilesTakeLittleMemory(t *testing.T) {
	const size = 10 << 20
	old, new := newLarge(t, size, "before"), newLarge(t, size, "and after")
	var b bytes.Buffer
	var last int64
	o := delta.Options{Memory: 8 << 20, Progress: func(done, all int64) {
		if done < last || done > all {
			t.Errorf("progress went from %d to %d of %d", last, done, all)
		}
		last = done
	}}
	if _, err := delta.Make(t.Context(), &b, old.image(), new.image(), o); err != nil {
		t.Fatal(err)
	}
	if last != new.Size() {
		t.Errorf("progress ended at %d of %d", last, new.Size())
	}
	if b.Len() > 300 {
		t.Errorf("nine bytes of %d took %d", size, b.Len())
	}
	before := inUse()
	d, err := delta.Open(&b)
	if err != nil {
		t.Fatal(err)
	}
	basis, err := delta.TarBasis(id([]byte("{}")), []io.ReaderAt{old}, []int64{old.Size()})
	if err != nil {
		t.Fatal(err)
	}
	var m meter
	if err := d.Layer(t.Context(), 0, basis, &m); err != nil {
		t.Fatal(err)
	}
	if m.n != new.Size() {
		t.Errorf("%d bytes came out of %d", m.n, new.Size())
	}
	if over := int64(m.most) - int64(before); over > 24<<20 {
		t.Errorf("applying took %d bytes of memory", over)
	}
}

// testdata/old.gz and new.gz are texts that differ by a line and three words, as gzip -9n compresses them.
func TestWhatIsCompressedIsComparedByWhatIsInIt(t *testing.T) {
	layer := func(name string) [][]byte {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{pack(t, file{Header: tar.Header{Name: "usr/share/doc/changelog.gz"}, content: b})}
	}
	old, new := layer("old.gz"), layer("new.gz")
	if b := same(t, old, new); len(b) > 350 {
		t.Errorf("%d bytes", len(b))
	}
	// What nothing is like is opened too.
	if b := same(t, nil, new); len(b) > len(new[0])*3/4 {
		t.Errorf("%d bytes of %d without an old one", len(b), len(new[0]))
	}
}
