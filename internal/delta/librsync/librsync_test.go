package librsync_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/delta/librsync"
)

func difference(t interface{ Fatal(...any) }, old, new []byte) []byte {
	var d bytes.Buffer
	if err := librsync.NewOld(old).Write(context.Background(), &d, bytes.NewReader(new), nil); err != nil {
		t.Fatal(err)
	}
	return d.Bytes()
}

func applied(old, delta []byte, most int64) ([]byte, error) {
	var out bytes.Buffer
	err := librsync.Apply(context.Background(), &out, bytes.NewReader(old), int64(len(old)), bytes.NewReader(delta), most)
	return out.Bytes(), err
}

// edited is content that has something of old and something of its own.
func edited(t *rapid.T, old []byte) []byte {
	var b []byte
	for range rapid.IntRange(0, 8).Draw(t, "edits") {
		if len(old) > 0 && rapid.Bool().Draw(t, "copy") {
			from := rapid.IntRange(0, len(old)-1).Draw(t, "from")
			to := rapid.IntRange(from, len(old)).Draw(t, "to")
			b = append(b, old[from:to]...)
		} else {
			b = append(b, rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "new")...)
		}
	}
	return b
}

// content is noise, or something that repeats.
func content(t *rapid.T) []byte {
	n := rapid.IntRange(0, 5000).Draw(t, "size")
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	letters := rapid.SampledFrom([]int{1, 2, 256}).Draw(t, "letters")
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(letters))
	}
	return b
}

func TestTheNewFileComesOutAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := content(t)
		new := edited(t, old)
		d := difference(t, old, new)
		got, err := applied(old, d, int64(len(new)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, new) {
			t.Fatal("comes out differently")
		}
		if !bytes.Equal(d, difference(t, old, new)) {
			t.Fatal("a second time, it is another delta")
		}
	})
}

// program is a large file, and one where a little was put in, taken away and moved.
func program(t testing.TB) (old, new []byte) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	old = self[:min(len(self), 4<<20)]
	third := len(old) / 3
	new = append(append(append([]byte{}, old[third:2*third]...), "something that was not there"...), old[:third]...)
	new = append(new, old[2*third+7:]...)
	for at := 10_000; at < len(new); at += 40_000 {
		binary.LittleEndian.PutUint32(new[at:], uint32(at))
	}
	return old, new
}

func TestLibrsyncAppliesIt(t *testing.T) {
	rdiff := tool(t)
	old, new := program(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "old"), old)
	write(t, filepath.Join(dir, "delta"), difference(t, old, new))
	if out, err := exec.Command(rdiff, "patch", filepath.Join(dir, "old"), filepath.Join(dir, "delta"), filepath.Join(dir, "new")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "new")); err != nil || !bytes.Equal(got, new) {
		t.Errorf("librsync makes something else of it (%v)", err)
	}
}

func TestItIsSmallerThanLibrsyncsOwn(t *testing.T) {
	rdiff := tool(t)
	old, new := program(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "old"), old)
	write(t, filepath.Join(dir, "new"), new)
	// balenaEngine's way: blocks of 512 bytes.
	for _, args := range [][]string{{"-b", "512", "-S", "32", "signature", "old", "signature"}, {"delta", "signature", "new", "delta"}} {
		cmd := exec.Command(rdiff, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	theirs, err := os.ReadFile(filepath.Join(dir, "delta"))
	if err != nil {
		t.Fatal(err)
	}
	ours := difference(t, old, new)
	if got, err := applied(old, theirs, int64(len(new))); err != nil || !bytes.Equal(got, new) {
		t.Errorf("librsync's own delta is not applied: %v", err)
	}
	if a, b := packed(t, ours), packed(t, theirs); a*10 > b*6 {
		t.Errorf("packed, it has %d bytes, and librsync's %d", a, b)
	}
}

func TestRepetitionIsNoTrap(t *testing.T) {
	// Each would take hours if every place were compared with every other.
	for name, old := range map[string][]byte{
		"zeros": make([]byte, 4<<20), "a period": bytes.Repeat([]byte("0123456789abcdefg"), 200_000), "a long period": bytes.Repeat(make([]byte, 4099), 800),
	} {
		new := append([]byte("x"), old...)
		new[len(new)/2] = 'y'
		if d := difference(t, old, new); len(d) > 100 {
			t.Errorf("%s: %d bytes", name, len(d))
		}
	}
}

func TestADeltaThatAsksForTooMuchIsRefused(t *testing.T) {
	old := []byte("what the old file has")
	magic := binary.BigEndian.AppendUint32(nil, librsync.Magic)
	for name, delta := range map[string][]byte{
		"nothing":                   {},
		"another magic":             {0x72, 0x73, 1, 0x36, 0},
		"no end":                    append(magic[:4:4], 1, 'x'),
		"a literal cut short":       append(magic[:4:4], 5, 'x'),
		"a copy from behind":        append(magic[:4:4], 0x45, 20, 5, 0),
		"a copy with a wrong place": append(magic[:4:4], 0x54-3, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0),
		"an unknown command":        append(magic[:4:4], 0x55, 0),
		"more than it may":          append(magic[:4:4], 0x45, 0, 20, 0x45, 0, 20, 0),
		"more after the end":        append(magic[:4:4], 0, 0),
		"a length below nothing":    append(magic[:4:4], 0x44, 255, 255, 255, 255, 255, 255, 255, 255),
	} {
		if _, err := applied(old, delta, 30); !errors.Is(err, librsync.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestItEndsWhenItIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := librsync.NewOld(nil).Write(ctx, &bytes.Buffer{}, bytes.NewReader([]byte("x")), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte("old"), binary.BigEndian.AppendUint32(nil, librsync.Magic))
	f.Fuzz(func(t *testing.T, old, delta []byte) {
		const most = 1 << 16
		if out, err := applied(old, delta, most); len(out) > most {
			t.Errorf("%d bytes came out (%v)", len(out), err)
		}
	})
}

func packed(t *testing.T, b []byte) int {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Len()
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func tool(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("rdiff")
	if err != nil {
		if os.Getenv("DUNLIN_TEST_REQUIRE") != "" {
			t.Fatal("rdiff is not installed")
		}
		t.Skip("rdiff is not installed")
	}
	return path
}
