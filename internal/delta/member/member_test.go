package member_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/delta/entropy"
	"github.com/dunlin/dunlin/internal/delta/member"
)

// contents are of the kinds that make a compressor choose differently.
func contents(t testing.TB) map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	var words bytes.Buffer
	for words.Len() < 150_000 {
		fmt.Fprintf(&words, "line %d of %d: %s\n", r.IntN(1000), r.IntN(50), []string{"opened", "closed", "moved", "failed with error"}[r.IntN(4)])
	}
	few := make([]byte, 60_000)
	for i := range few {
		few[i] = "abcd"[r.IntN(4)]
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program = program[:150_000]
	return map[string][]byte{
		"nothing": nil, "a byte": []byte("x"), "noise": noise, "words": words.Bytes(), "few letters": few, "zeros": make([]byte, 80_000),
		"all of it": bytes.Join([][]byte{noise[:70_000], words.Bytes()[:90_000], noise[:60_000]}, nil), "a program": program,
	}
}

// again takes a file apart and makes it again of its parts, the recipe having travelled.
func again(t interface {
	Helper()
	Fatal(...any)
}, file []byte, piece int) (plain, out []byte, opened bool) {
	t.Helper()
	plain, r := member.Unpack(file)
	if r == nil {
		return nil, nil, false
	}
	var stream bytes.Buffer
	c := entropy.NewWriter(&stream)
	r.Code(c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if r = new(member.Recipe).Code(entropy.NewReader(&stream)); r == nil {
		t.Fatal("the recipe did not arrive")
	}
	if r.Size() != int64(len(plain)) {
		t.Fatal("the recipe is for", r.Size(), "bytes, and there are", len(plain))
	}
	var b bytes.Buffer
	w := r.Writer(&b)
	for rest := plain; len(rest) > 0; {
		n := min(len(rest), piece)
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return plain, b.Bytes(), true
}

func tool(t *testing.T, content []byte, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("DUNLIN_TEST_REQUIRE") != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(content)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatGzipMadeIsMadeAgain(t *testing.T) {
	for name, content := range contents(t) {
		for level := 1; level <= 9; level++ {
			if name != "all of it" && level != 1 && level != 6 && level != 9 {
				continue // in all of it is what makes levels differ
			}
			file := tool(t, content, "gzip", "-n", fmt.Sprint("-", level))
			plain, out, opened := again(t, file, 10_000)
			if !opened {
				t.Errorf("%s, -%d: not opened", name, level)
				continue
			}
			if !bytes.Equal(out, file) {
				t.Errorf("%s, -%d: comes out differently", name, level)
			}
			if !bytes.Contains(plain, content) {
				t.Errorf("%s, -%d: the plain form is not plain", name, level)
			}
		}
	}
}

func TestWhatZlibMadeIsMadeAgain(t *testing.T) {
	const program = `
import sys, zlib
content = sys.stdin.buffer.read()
for level in map(int, sys.argv[1]):
    for memory in 8, 9:
        z = zlib.compressobj(level, zlib.DEFLATED, 31, memory)
        file = z.compress(content) + z.flush()
        sys.stdout.buffer.write(len(file).to_bytes(4, "big") + file)`
	for name, content := range contents(t) {
		levels := "6"
		if name == "all of it" {
			levels = "13469"
		}
		files := tool(t, content, "python3", "-c", program, levels)
		for n := 0; len(files) > 0; n++ {
			size := 4 + int(binary.BigEndian.Uint32(files))
			file := files[4:size]
			files = files[size:]
			if _, out, opened := again(t, file, 70_000); !opened || !bytes.Equal(out, file) {
				t.Errorf("%s, file %d: opened %t, comes out the same %t", name, n, opened, bytes.Equal(out, file))
			}
		}
	}
}

func TestTheMembersOfAnArchiveAreOpenedOneByOne(t *testing.T) {
	const program = `
import io, sys, zipfile
b = io.BytesIO()
with zipfile.ZipFile(b, "w", zipfile.ZIP_DEFLATED) as z:
    for n in range(5):
        z.writestr("text%d.py" % n, ("print('this is line')\n" * 40) + str(n))
    z.writestr("stored.bin", b"PK\3\4 is not always a member", zipfile.ZIP_STORED)
    z.writestr("last", sys.stdin.buffer.read())
sys.stdout.buffer.write(b.getvalue())`
	last := bytes.Repeat([]byte("the last of them "), 5000)
	file := tool(t, last, "python3", "-c", program)
	plain, out, opened := again(t, file, 333)
	if !opened || !bytes.Equal(out, file) {
		t.Fatalf("opened %t, comes out the same %t", opened, bytes.Equal(out, file))
	}
	if n := bytes.Count(plain, []byte("print('this is line')")); n != 200 || !bytes.Contains(plain, last) {
		t.Errorf("%d lines of 200 are plain, and the last member: %t", n, bytes.Contains(plain, last))
	}
}

func TestWhatNobodyKnowsHowToMakeIsLeftAsItIs(t *testing.T) {
	var file bytes.Buffer
	w, _ := gzip.NewWriterLevel(&file, gzip.DefaultCompression)
	_, _ = w.Write(bytes.Repeat([]byte("Go's own compressor takes other matches than zlib; "), 200))
	for i := range 20_000 {
		fmt.Fprintf(w, "%d %d\n", i*7919%1000, i%13)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, r := member.Unpack(file.Bytes()); r != nil {
		t.Error("a stream of another compressor was said to be made again")
	}
	if plain := member.Plain(file.Bytes()); !bytes.Contains(plain, []byte("other matches than zlib")) {
		t.Error("of an old file, such a stream was not opened")
	}
}

func TestBytesThatOnlyLookCompressedAreNotTriedForEver(t *testing.T) {
	header := make([]byte, 30)
	copy(header, "PK\x03\x04")
	header[8] = 8
	broken := append(bytes.Clone(header), 7) // there is no third kind of block
	good := append(bytes.Clone(header), 3, 0)
	few := append(bytes.Repeat(broken, 500), good...)
	if member.Plain(few) == nil {
		t.Error("a stream was not opened for the broken ones before it")
	}
	if many := append(bytes.Repeat(broken, 5000), good...); member.Plain(many) != nil {
		t.Error("5,000 broken streams were tried")
	}
}

func TestAnOldFileIsOpenedAsANewOne(t *testing.T) {
	content := bytes.Repeat([]byte("changelog entry\n"), 1000)
	file := tool(t, content, "gzip", "-9n")
	file = append(append(file, file...), "and something behind"...)
	plain, r := member.Unpack(file)
	if r == nil {
		t.Fatal("not opened")
	}
	if !bytes.Equal(plain, member.Plain(file)) {
		t.Error("the two plain forms differ")
	}
	if bytes.Contains(plain, binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(content))) {
		t.Error("the checksum is in the plain form, though it can be computed")
	}
}

func TestAnyBytesAreTakenApartAndPutTogether(t *testing.T) {
	seeds := contents(t)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"a byte", "words", "nothing"}).Draw(t, "content")
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(seeds[name][:min(len(seeds[name]), 2000)])
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		file := b.Bytes()
		for range rapid.IntRange(0, 3).Draw(t, "damages") {
			file[rapid.IntRange(0, len(file)-1).Draw(t, "at")] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		}
		member.Plain(file)
		if _, out, opened := again(t, file, 50); opened && !bytes.Equal(out, file) {
			t.Fatal("comes out differently")
		}
	})
}

func TestAWriterKnowsWhenAllIsWritten(t *testing.T) {
	file := tool(t, []byte("some content, and more of it, and more of it"), "gzip", "-9n")
	plain, r := member.Unpack(file)
	if r == nil {
		t.Fatal("not opened")
	}
	w := r.Writer(&bytes.Buffer{})
	if _, err := w.Write(plain[:len(plain)-1]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("a file without its last byte was called whole")
	}
	w = r.Writer(&bytes.Buffer{})
	if _, err := w.Write(append(plain, 'x')); err == nil {
		t.Error("a byte too many was taken")
	}
}

func FuzzPlain(f *testing.F) {
	f.Add([]byte("PK\x03\x04\x14\x00\x00\x00\x08\x00"))
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, file []byte) {
		if plain := member.Plain(file); len(plain) > member.Limit {
			t.Errorf("%d bytes are more than the limit", len(plain))
		}
		if _, out, opened := again(t, file, 4096); opened && !bytes.Equal(out, file) {
			t.Error("comes out differently")
		}
	})
}

func FuzzRecipe(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := new(member.Recipe).Code(entropy.NewReader(bytes.NewReader(stream)))
		if r == nil {
			return
		}
		if r.Size() > member.Limit {
			t.Errorf("a recipe for %d bytes was believed", r.Size())
		}
		var out bytes.Buffer
		w := r.Writer(&out)
		_, _ = w.Write(make([]byte, min(r.Size(), 1<<20)))
		_ = w.Close()
	})
}
