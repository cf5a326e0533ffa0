package delta_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/delta"
)

// image is an image of these layers' tars.
func image(tars ...[]byte) delta.Image {
	var ids []string
	var out delta.Image
	for _, t := range tars {
		sum := sha256.Sum256(t)
		id := "sha256:" + hex.EncodeToString(sum[:])
		ids = append(ids, `"`+id+`"`)
		out.Layers = append(out.Layers, delta.Layer{DiffID: id, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(t)), nil
		}})
	}
	out.Config = []byte(`{"architecture":"arm64","rootfs":{"type":"layers","diff_ids":[` + strings.Join(ids, ",") + `]}}`)
	return out
}

func id(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func made(t interface {
	Helper()
	Fatal(...any)
}, old, new [][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := delta.Make(context.Background(), &b, image(old...), image(new...), delta.Options{}); err != nil {
		t.Fatal("make: ", err)
	}
	return b.Bytes()
}

func tarBasis(old [][]byte) (delta.Basis, error) {
	var readers []io.ReaderAt
	var sizes []int64
	for _, b := range old {
		readers, sizes = append(readers, bytes.NewReader(b)), append(sizes, int64(len(b)))
	}
	return delta.TarBasis(id(image(old...).Config), readers, sizes)
}

// apply returns the layers that a delta makes, nil for kept ones.
func apply(basis delta.Basis, b []byte) (info delta.Info, layers [][]byte, err error) {
	d, err := delta.Open(bytes.NewReader(b))
	if err != nil {
		return info, nil, err
	}
	info = d.Info()
	for i, l := range info.Layers {
		if l.Kept {
			layers = append(layers, nil)
			continue
		}
		var out bytes.Buffer
		if err := d.Layer(context.Background(), i, basis, &out); err != nil {
			if int64(out.Len()) >= l.Size {
				return info, layers, fmt.Errorf("all of layer %d was written, and then: %v", i, err)
			}
			return info, append(layers, out.Bytes()), err
		}
		layers = append(layers, out.Bytes())
	}
	return info, layers, nil
}

// same fails unless the delta of two images makes the one of the other.
func same(t interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}, old, new [][]byte) []byte {
	t.Helper()
	b := made(t, old, new)
	basis, err := tarBasis(old)
	if err != nil {
		t.Fatal(err)
	}
	info, layers, err := apply(basis, b)
	if err != nil {
		t.Fatal("apply: ", err)
	}
	if want := image(new...).Config; !bytes.Equal(info.Config, want) || info.To != id(want) || info.From != id(image(old...).Config) {
		t.Fatalf("the delta says of itself: %+v %s", info, info.Config)
	}
	if len(layers) != len(new) {
		t.Fatalf("%d layers came out of %d", len(layers), len(new))
	}
	for i := range new {
		if info.Layers[i].Size != int64(len(new[i])) || info.Layers[i].DiffID != id(new[i]) {
			t.Fatalf("layer %d: %+v", i, info.Layers[i])
		}
		kept := i < len(old) && bytes.Equal(old[i], new[i]) && (i == 0 || info.Layers[i-1].Kept)
		if info.Layers[i].Kept != kept {
			t.Fatalf("layer %d: kept is %v", i, !kept)
		}
		if !kept && !bytes.Equal(layers[i], new[i]) {
			t.Fatalf("layer %d is another", i)
		}
	}
	return b
}

// file is something in a tar.
type file struct {
	tar.Header
	content []byte
}

// pack writes a tar as Go does.
func pack(t interface {
	Helper()
	Fatal(...any)
}, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		f.Size = int64(len(f.content))
		if f.Typeflag == 0 {
			f.Typeflag = tar.TypeReg
		}
		if f.Mode == 0 {
			f.Mode = 0o644
		}
		if err := w.WriteHeader(&f.Header); err != nil {
			t.Fatal(f.Name, err)
		}
		w.Write(f.content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// noise is bytes that nothing is like, the same for the same seed.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// prose is a text of so many lines.
func prose(seed uint64, lines int) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	words := strings.Fields("return the value of this function when nothing else is known about it import export const default")
	var b bytes.Buffer
	for range lines {
		for range r.IntN(9) {
			b.WriteString(words[r.IntN(len(words))])
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d\n", r.IntN(1000))
	}
	return b.Bytes()
}

// tree draws the files of a layer, some of them like those of another.
func tree(t *rapid.T, like []file) []file {
	var files []file
	for _, f := range like {
		switch rapid.IntRange(0, 5).Draw(t, "fate") {
		case 0: // gone
			continue
		case 1:
			f.ModTime = f.ModTime.Add(time.Hour)
		case 2:
			if len(f.content) > 0 {
				f.content = edited(t, f.content)
			}
		case 3:
			if f.Typeflag == tar.TypeReg {
				f.Name = "moved/" + f.Name
			}
		}
		files = append(files, f)
	}
	for range rapid.IntRange(0, 6).Draw(t, "files") {
		f := file{Header: tar.Header{
			Name:    rapid.SampledFrom([]string{"", "usr/lib/", "app/", "usr/share/" + strings.Repeat("long/", 30)}).Draw(t, "folder") + rapid.StringMatching(`[a-z]{1,8}(-1\.[0-9])?(\.(js|so|gz))?`).Draw(t, "name"),
			Mode:    rapid.SampledFrom([]int64{0o644, 0o755, 0o4755}).Draw(t, "mode"),
			Uid:     rapid.SampledFrom([]int{0, 0, 1000, 3_000_000}).Draw(t, "uid"),
			Uname:   rapid.SampledFrom([]string{"", "root", "node"}).Draw(t, "uname"),
			ModTime: time.Unix(rapid.Int64Range(0, 2_000_000_000).Draw(t, "mtime"), rapid.SampledFrom([]int64{0, 0, 123456789}).Draw(t, "ns")),
		}}
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			f.Typeflag, f.Name = tar.TypeDir, f.Name+".d/"
		case 1:
			f.Typeflag, f.Linkname = tar.TypeSymlink, rapid.SampledFrom([]string{"x", "../lib/y", strings.Repeat("far/", 40)}).Draw(t, "target")
		case 2:
			f.Typeflag, f.Devmajor, f.Devminor = tar.TypeChar, 1, 300
		case 3:
			f.Typeflag = tar.TypeFifo
		case 4:
			f.Typeflag, f.Name = tar.TypeReg, "usr/.wh.gone"
		case 5:
			f.Typeflag, f.content = tar.TypeReg, noise(rapid.Uint64Max(5).Draw(t, "seed"), rapid.SampledFrom([]int{0, 1, 511, 512, 3000, 70_000}).Draw(t, "size"))
			f.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00"}
		case 6:
			if len(files) > 0 && files[len(files)-1].Typeflag == tar.TypeReg {
				f.Typeflag, f.Linkname = tar.TypeLink, files[len(files)-1].Name
			}
		default:
			f.Typeflag, f.content = tar.TypeReg, prose(rapid.Uint64Max(5).Draw(t, "seed"), rapid.IntRange(0, 150).Draw(t, "lines"))
		}
		files = append(files, f)
	}
	return files
}

// edited changes a content here and there.
func edited(t *rapid.T, b []byte) []byte {
	b = bytes.Clone(b)
	for range rapid.IntRange(1, 20).Draw(t, "edits") {
		i := rapid.IntRange(0, len(b)).Draw(t, "at")
		j := min(len(b), i+rapid.IntRange(0, 40).Draw(t, "out"))
		in := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "in")
		b = append(b[:i:i], append(in, b[j:]...)...)
	}
	return b
}

// spoiled changes a tar in ways that no writer would, but that a layer's tar may be like.
func spoiled(t *rapid.T, b []byte) []byte {
	b = bytes.Clone(b)
	switch rapid.IntRange(0, 7).Draw(t, "spoil") {
	case 0: // no end
		b = b[:len(b)-1024]
	case 1: // a blocking factor, and what tar -A leaves
		b = append(b, make([]byte, 8192)...)
	case 2:
		b = append(b, "what is this?"...)
	case 3:
		b = b[:rapid.IntRange(0, len(b)).Draw(t, "cut")]
	case 4:
		if len(b) > 0 {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "byte")] ^= 0x41
		}
	case 5:
		b = append(b, b...)
	}
	return b
}

func TestADeltaMakesTheNewImageOfTheOldOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var old, new [][]byte
		for range rapid.IntRange(0, 3).Draw(t, "layers") {
			files := tree(t, nil)
			old = append(old, spoiled(t, pack(t, files...)))
			switch rapid.IntRange(0, 3).Draw(t, "change") {
			case 0:
				new = append(new, old[len(old)-1])
			case 1:
				new = append(new, old[rapid.IntRange(0, len(old)-1).Draw(t, "other")])
			default:
				new = append(new, spoiled(t, pack(t, tree(t, files)...)))
			}
		}
		b := same(t, old, new)
		if !bytes.Equal(b, made(t, old, new)) {
			t.Fatal("the same images gave another delta")
		}
	})
}

// raw is a header block with a right checksum.
func raw(change func(h []byte)) []byte {
	h := make([]byte, 512)
	copy(h, "file")
	copy(h[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00        0")
	copy(h[257:], "ustar\x0000")
	change(h)
	copy(h[148:], "        ")
	n := 0
	for _, c := range h {
		n += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", n))
	return h
}

func TestAnyTarComesBackAsItWas(t *testing.T) {
	block := func(s string) []byte { return append([]byte(s), make([]byte, -len(s)&511)...) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	end := make([]byte, 1024)
	plain := raw(func([]byte) {})
	for name, b := range map[string][]byte{
		"nothing":                      {},
		"no tar at all":                []byte("this is no tar"),
		"a large thing that is no tar": noise(1, 70_000),
		"zeros alone":                  make([]byte, 12_345),
		"a GNU long name": join(raw(func(h []byte) {
			copy(h, "././@LongLink")
			copy(h[124:], "00000000454")
			h[156] = 'L'
		}), block(strings.Repeat("n", 299)+"\x00"), raw(func(h []byte) { copy(h, strings.Repeat("n", 100)) }), end),
		"a GNU long name that is not ended by a zero": join(raw(func(h []byte) {
			copy(h[124:], "00000000004")
			h[156] = 'L'
		}), block("name"), plain, end),
		"a long name for nothing": raw(func(h []byte) { h[156] = 'L' }),
		"an old GNU sparse file": join(raw(func(h []byte) {
			copy(h[257:], "ustar  \x00")
			copy(h[124:], "00000001000")
			h[156], h[482] = 'S', 1
		}), append(bytes.Repeat([]byte{7}, 504), 1, 0, 0, 0, 0, 0, 0, 0), append(bytes.Repeat([]byte{8}, 504), make([]byte, 8)...), noise(3, 512), end),
		"a size in base 256":   join(raw(func(h []byte) { copy(h[124:], "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05") }), block("hello"), end),
		"a size below zero":    join(raw(func(h []byte) { copy(h[124:], bytes.Repeat([]byte{255}, 12)) }), end),
		"a size beyond all":    join(raw(func(h []byte) { copy(h[124:], "77777777777") }), end),
		"garbage in padding":   join(raw(func(h []byte) { copy(h[124:], "00000000005") }), append([]byte("hello"), noise(4, 507)...), end),
		"a wrong checksum":     join(plain, append([]byte("x"), plain[1:]...), end),
		"numbers with spaces":  join(raw(func(h []byte) { copy(h[100:], "   644 \x00     0 \x00     0 \x00          5 ") }), block("hello"), end),
		"no numbers":           join(raw(func(h []byte) { copy(h[100:], bytes.Repeat([]byte{0}, 48)) }), end),
		"letters for numbers":  join(raw(func(h []byte) { copy(h[100:], "rw-r--r--") }), end),
		"a V7 header":          join(raw(func(h []byte) { clear(h[156:]) }), end),
		"an unknown kind":      join(raw(func(h []byte) { h[156] = 'Z'; copy(h[124:], "00000000005") }), block("hello"), end),
		"a link with a size":   join(raw(func(h []byte) { h[156] = '1'; copy(h[157:], "target"); copy(h[124:], "00000000005") }), end),
		"a folder with a size": join(raw(func(h []byte) { h[156] = '5'; copy(h[124:], "00000000005") }), end),
		"global records":       join(raw(func(h []byte) { h[156] = 'g'; copy(h[124:], "00000000013") }), block("11 k=value\n"), plain, end),
		"records out of form":  join(raw(func(h []byte) { h[156] = 'x'; copy(h[124:], "00000000013") }), block("99 k=value\n"), plain, end),
		"records twice":        join(raw(func(h []byte) { h[156] = 'x'; copy(h[124:], "00000000013") }), block("11 k=value\n"), raw(func(h []byte) { h[156] = 'x'; copy(h[124:], "00000000013") }), block("11 k=other\n"), plain, end),
		"a size in records":    join(raw(func(h []byte) { h[156] = 'x'; copy(h[124:], "00000000011") }), block("9 size=5\n"), raw(func(h []byte) { copy(h[124:], "00000000007") }), block("hello"), end),
		"two tars in one":      join(plain, end, plain, end),
		"a half last block":    join(plain, make([]byte, 700)),
		"junk behind the end":  join(plain, end, []byte("junk")),
		"a name of bytes":      join(raw(func(h []byte) { copy(h, "caf\xe9/\xff\x01") }), end),
		"names going up":       join(raw(func(h []byte) { copy(h, "../../etc/passwd") }), end),
		"the same name again":  join(plain, plain, plain, end),
	} {
		t.Run(name, func(t *testing.T) {
			other := join(raw(func(h []byte) { copy(h, "before") }), b)
			same(t, nil, [][]byte{b})
			same(t, [][]byte{b}, [][]byte{other})
			same(t, [][]byte{other}, [][]byte{b})
		})
	}
}

// unpacked is a layer as a container engine unpacks it.
func unpacked(t *testing.T, b []byte) string {
	t.Helper()
	dir := t.TempDir()
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(dir, h.Name)
		if strings.HasPrefix(filepath.Base(p), ".wh.") {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(p, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, p)
		case tar.TypeLink:
			err = os.Link(filepath.Join(dir, h.Linkname), p)
		case tar.TypeReg:
			var content []byte
			if content, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(p, content, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// base and next are an image and the one after it.
func base(t *testing.T) (old, next [][]byte) {
	dir := func(name string) file {
		return file{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}}
	}
	text, lib := prose(1, 600), noise(2, 100_000)
	changed := bytes.Replace(text, []byte("value"), []byte("number"), 40)
	old = [][]byte{
		pack(t, dir("etc/"), file{Header: tar.Header{Name: "etc/os-release"}, content: []byte("VERSION=1\n")}),
		pack(t, dir("app/"),
			file{Header: tar.Header{Name: "app/main.js"}, content: text},
			file{Header: tar.Header{Name: "app/lib-1.2.3.so"}, content: lib},
			file{Header: tar.Header{Name: "app/link", Typeflag: tar.TypeLink, Linkname: "app/main.js"}},
			file{Header: tar.Header{Name: "app/to", Typeflag: tar.TypeSymlink, Linkname: "main.js"}},
			file{Header: tar.Header{Name: "app/.wh.gone"}},
			file{Header: tar.Header{Name: "deep/down/below"}, content: []byte("x")}),
	}
	next = [][]byte{old[0], pack(t, dir("app/"),
		file{Header: tar.Header{Name: "app/main.js"}, content: changed},
		file{Header: tar.Header{Name: "app/lib-1.2.4.so"}, content: append(noise(3, 100), lib...)},
		file{Header: tar.Header{Name: "app/copy"}, content: text},
		file{Header: tar.Header{Name: "app/to", Typeflag: tar.TypeSymlink, Linkname: "main.js"}},
		file{Header: tar.Header{Name: "app/new"}, content: noise(9, 5000)})}
	return old, next
}

func TestUnpackedFoldersServeAsWellAsTars(t *testing.T) {
	old, new := base(t)
	b := same(t, old, new)
	var folders []string
	for _, l := range old {
		folders = append(folders, unpacked(t, l))
	}
	_, layers, err := apply(delta.FolderBasis(id(image(old...).Config), folders), b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]byte{nil, new[1]}, layers); diff != "" {
		t.Error("another image came out")
	}
	// What is unpacked is checked: another name, and then another content.
	extra := filepath.Join(folders[1], "app", "extra")
	if err := os.WriteFile(extra, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := apply(delta.FolderBasis(id(image(old...).Config), folders), b); !errors.Is(err, delta.ErrBase) {
		t.Errorf("with a file too many: %v", err)
	}
	os.Remove(extra)
	lib := filepath.Join(folders[1], "app", "lib-1.2.3.so")
	content, err := os.ReadFile(lib)
	if err != nil {
		t.Fatal(err)
	}
	content[50_000] ^= 1
	if err := os.WriteFile(lib, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := apply(delta.FolderBasis(id(image(old...).Config), folders), b); !errors.Is(err, delta.ErrResult) {
		t.Errorf("with a bit that was changed: %v", err)
	}
	if err := os.WriteFile(filepath.Join(folders[1], "app", "main.js"), bytes.ToUpper(prose(1, 600)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := apply(delta.FolderBasis(id(image(old...).Config), folders), b); !errors.Is(err, delta.ErrResult) && !errors.Is(err, delta.ErrFormat) {
		t.Errorf("with a file that was changed: %v", err)
	}
	if err := os.Truncate(filepath.Join(folders[1], "app", "main.js"), 100); err != nil {
		t.Fatal(err)
	}
	if _, _, err := apply(delta.FolderBasis(id(image(old...).Config), folders), b); err == nil {
		t.Error("with a file that was cut off, nothing was wrong")
	}
}

func TestWhatIsLikeTheOldImageTakesLittle(t *testing.T) {
	old, new := base(t)
	if b := made(t, old, new); len(b) > 6500 { // 5,100 bytes are noise
		t.Errorf("%d bytes", len(b))
	}
	// A tree in which nothing but a time changes.
	var files []file
	for i := range 10_000 {
		if i%20 == 0 {
			files = append(files, file{Header: tar.Header{Name: fmt.Sprintf("node_modules/package-%04d/", i/20), Typeflag: tar.TypeDir, Mode: 0o755}})
		}
		files = append(files, file{Header: tar.Header{Name: fmt.Sprintf("node_modules/package-%04d/lib/file%02d.js", i/20, i%20)}, content: noise(uint64(i), 40)})
	}
	before := pack(t, files...)
	for i := range files {
		files[i].ModTime = time.Unix(1_700_000_000, 0)
	}
	if b := same(t, [][]byte{before}, [][]byte{pack(t, files...)}); len(b) > 1000 {
		t.Errorf("a new time for 10,500 entries takes %d bytes", len(b))
	}
}

func TestAnotherImageIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	old, new := base(t)
	b := made(t, old, new)
	basis, err := tarBasis(new)
	if err != nil {
		t.Fatal(err)
	}
	if _, layers, err := apply(basis, b); !errors.Is(err, delta.ErrBase) || len(layers) > 1 && len(layers[1]) > 0 {
		t.Errorf("another image: %v", err)
	}
	// One that says it is the right one.
	changed := [][]byte{old[0], pack(t, file{Header: tar.Header{Name: "app/main.js"}})}
	lying, err := delta.TarBasis(id(image(old...).Config), []io.ReaderAt{bytes.NewReader(changed[0]), bytes.NewReader(changed[1])}, []int64{int64(len(changed[0])), int64(len(changed[1]))})
	if err != nil {
		t.Fatal(err)
	}
	if _, layers, err := apply(lying, b); !errors.Is(err, delta.ErrBase) || len(layers) > 1 && len(layers[1]) > 0 {
		t.Errorf("an image with other files: %v", err)
	}
}

func TestADamagedDeltaIsRefused(t *testing.T) {
	old, new := base(t)
	b := made(t, old, new)
	basis, err := tarBasis(old)
	if err != nil {
		t.Fatal(err)
	}
	known := func(err error) bool {
		return errors.Is(err, delta.ErrFormat) || errors.Is(err, delta.ErrBase) || errors.Is(err, delta.ErrResult) || errors.Is(err, delta.ErrVersion)
	}
	for i := 0; i < len(b); i += 1 + len(b)/25 {
		damaged := bytes.Clone(b)
		damaged[i] ^= 1 << (i & 7)
		if _, _, err := apply(basis, damaged); !known(err) {
			t.Errorf("byte %d of %d flipped: %v", i, len(b), err)
		}
		if _, _, err := apply(basis, b[:i]); !known(err) {
			t.Errorf("%d bytes of %d: %v", i, len(b), err)
		}
	}
	b[7] = 99
	if _, err := delta.Open(bytes.NewReader(b)); !errors.Is(err, delta.ErrVersion) {
		t.Errorf("a later version: %v", err)
	}
}

func TestLayersAreReadInTheirOrder(t *testing.T) {
	old, new := base(t)
	b := made(t, old, [][]byte{new[1], new[1]})
	basis, err := tarBasis(old)
	if err != nil {
		t.Fatal(err)
	}
	d, err := delta.Open(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Layer(t.Context(), 1, basis, io.Discard); err == nil {
		t.Error("the second layer was read first")
	}
}

func TestALayerThatIsNotWhatItsDiffIDSaysIsNotCompared(t *testing.T) {
	old, new := image([]byte("a")), image([]byte("b"))
	new.Layers[0].DiffID = id([]byte("c"))
	if _, err := delta.Make(t.Context(), io.Discard, old, new, delta.Options{}); err == nil {
		t.Error("it was")
	}
}

func TestWhatIsStoppedLeavesNothingBehind(t *testing.T) {
	old, new := base(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	o := delta.Options{Dir: dir, Progress: func(done, all int64) {
		if done > 0 {
			cancel()
		}
	}}
	if _, err := delta.Make(ctx, io.Discard, image(old...), image(new...), o); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	b := made(t, old, new)
	basis, err := tarBasis(old)
	if err != nil {
		t.Fatal(err)
	}
	d, err := delta.Open(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Layer(ctx, 1, basis, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("reading, it ended with %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	text := prose(1, 100)
	old := [][]byte{pack(f, file{Header: tar.Header{Name: "a"}, content: text}, file{Header: tar.Header{Name: "b"}, content: noise(1, 1000)})}
	for _, new := range [][]byte{
		pack(f, file{Header: tar.Header{Name: "a"}, content: append([]byte("new"), text...)}),
		pack(f, file{Header: tar.Header{Name: "c"}, content: append([]byte("new"), noise(1, 1000)...)}),
		[]byte("no tar"),
	} {
		f.Add(made(f, old, [][]byte{new}))
	}
	basis, err := tarBasis(old)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := delta.Open(bytes.NewReader(b))
		if err != nil {
			return
		}
		for i, l := range d.Info().Layers {
			if l.Size > 1<<20 {
				return
			}
			if !l.Kept && d.Layer(t.Context(), i, basis, io.Discard) != nil {
				return
			}
		}
	})
}
