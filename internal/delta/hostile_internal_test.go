package delta

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/delta/entropy"
	"github.com/dunlin/dunlin/internal/delta/match"
	"github.com/dunlin/dunlin/internal/delta/member"
	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

// deep is an old image of a file that is far down. It counts how often one is opened.
type deep struct {
	names  []Name
	opened int
}

func newDeep(folders int) *deep {
	d := &deep{}
	path := ""
	for range folders {
		path += "a"
		d.names = append(d.names, Name{Path: path, Type: tar.TypeDir})
		path += "/"
	}
	d.names = append(d.names, Name{Path: path + "b", Type: tar.TypeReg})
	return d
}

func (d *deep) ID() string                { return "sha256:" + strings.Repeat("00", 32) }
func (d *deep) Names(int) ([]Name, error) { return d.names, nil }
func (d *deep) Open(int, string) (File, error) {
	d.opened++
	return memoryFile{bytes.NewReader(bytes.Repeat([]byte("x"), 60<<10))}, nil
}

// crafted is a delta of one layer of that size that says what say codes.
func crafted(t *testing.T, basis Basis, size int64, say func(x *codec)) []byte {
	t.Helper()
	var out bytes.Buffer
	out.WriteString(magic)
	out.WriteByte(version)
	x := newCodec(entropy.NewWriter(&out))
	names, err := basis.Names(0)
	if err != nil {
		t.Fatal(err)
	}
	head := &top{
		Info: Info{
			From: basis.ID(), FromDiff: []string{"sha256:" + strings.Repeat("ab", 32)}, Config: []byte("{}"),
			Layers: []LayerInfo{{DiffID: "sha256:" + strings.Repeat("cd", 32), Size: size}},
		},
		used: []bool{true}, listing: [][8]byte{tarfile.Digest(names)},
	}
	if err := head.code(x); err != nil {
		t.Fatal(err)
	}
	x.listings, x.lastIndex, x.basis = [][]Name{names}, make([]int, 1), basis
	if err := x.enter(-1); err != nil {
		t.Fatal(err)
	}
	say(x)
	x.c.Byte(&x.item, unitEnd)
	if err := x.c.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// refused is sure that a delta is given up for the work it makes.
func refused(t *testing.T, basis Basis, stream []byte) {
	t.Helper()
	d, err := Open(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Layer(t.Context(), 0, basis, io.Discard); !errors.Is(err, errWork) {
		t.Errorf("a delta of %d bytes ended with %v", len(stream), err)
	}
}

// byteOf codes a byte that is a copy of one of the old file.
func byteOf(x *codec) {
	c := &contents{kind: patched, size: 1, sources: []source{{0, len(x.listings[0]) - 1}}}
	x.c.Byte(&x.item, unitRaw)
	x.contents(c, "", tar.TypeReg, 0)
	x.c.Bool(&x.asScript, false)
	x.copyList([]match.Copy{{Old: 1, New: 0, Len: 1}}, c)
	x.res.At(0)
	x.res.Code(x.c, []byte{'x'}, nil, []byte{'x'})
}

func TestADeltaThatOpensFilesAndMakesNothingOfThemIsGivenUp(t *testing.T) {
	b := newDeep(500)
	const n = 3000
	stream := crafted(t, b, n, func(x *codec) {
		for range n {
			byteOf(x)
		}
	})
	b.opened = 0
	refused(t, b, stream)
	if b.opened < 10 || b.opened > 1000 {
		t.Errorf("%d files were opened, each far down", b.opened)
	}
}

func TestADeltaThatIsAllCommandsAndNoBytesIsGivenUp(t *testing.T) {
	b := newDeep(1)
	const n = 700_000
	refused(t, b, crafted(t, b, n, func(x *codec) {
		for range n {
			x.c.Byte(&x.item, unitZeros)
			x.c.Number(&x.zeros, 1)
		}
	}))
}

func TestArchivesOfManyEmptyMembersAreGivenUp(t *testing.T) {
	var archive []byte
	for range 30_000 {
		header := make([]byte, 30)
		copy(header, "PK\x03\x04")
		header[8] = 8
		archive = append(append(archive, header...), 3, 0) // an empty block, the last one
		archive = append(archive, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(nil)), 0)...)
	}
	_, recipe := member.Unpack(archive)
	if recipe == nil {
		t.Fatal("the archive cannot be opened")
	}
	b := newDeep(1)
	const n = 8
	refused(t, b, crafted(t, b, n*int64(len(archive)), func(x *codec) {
		for range n {
			x.c.Byte(&x.item, unitRaw)
			x.contents(&contents{kind: fresh, opened: true, size: int64(len(archive))}, "", tar.TypeReg, 0)
			recipe.Code(x.c)
			x.lit.Near(0, nil, nil)
			for left := recipe.Size(); left > 0; left -= min(left, pieceSize) {
				x.lit.Code(x.c, make([]byte, min(left, pieceSize)))
			}
		}
	}))
}
