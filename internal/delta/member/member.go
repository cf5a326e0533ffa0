// Package member opens compressed files, so that what is inside can be compared: gzip files, and the members of zip
// archives, whose compression can be done again to the byte. It does not know what for.
//
// Deflate leaves its maker free in what it looks for and where it ends a block, so a stream is opened only if one of the
// usual makers (zlib, and the gzip program, at any level) writes the very same bytes again.
package member

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"

	"github.com/dunlin/dunlin/internal/delta/entropy"
)

// Limit is the size in bytes, compressed or not, from which on files are left as they are: who applies a delta holds
// the plain form of the old file in memory.
const Limit = 8 << 20

const (
	// mostInflated is how much of a file is decompressed in all, and mostBroken how many streams are tried that cannot be:
	// bytes that look like the beginning of one cost nothing to write.
	mostInflated = 2 * Limit
	mostBroken   = 1000
)

// Recipe is how a compressed file is made of its plain form: the pieces of the file in their order, a compressed one being
// plain in the plain form.
type Recipe struct {
	pieces []piece
}

// piece is bytes as they are, or a deflate stream.
type piece struct {
	size    int // in the plain form
	deflate bool
	dialect dialect
	// trailer: a gzip trailer follows, which has the content's checksum and size. It is not in the plain form.
	trailer bool
}

// trailerSize is CRC-32 and size (RFC 1952 §2.3.1).
const trailerSize = 8

// Unpack opens a new file. r is nil if there is nothing compressed in it that can be made again exactly.
func Unpack(file []byte) (plain []byte, r *Recipe) {
	plain, pieces, opened := open(file, true)
	if !opened {
		return nil, nil
	}
	return plain, &Recipe{pieces}
}

// Plain is the plain form of an old file: what Unpack would return, but for members that cannot be made again, which are
// opened too. It is a function of the file's bytes. nil means that there is nothing compressed in it.
func Plain(file []byte) []byte {
	plain, _, opened := open(file, false)
	if !opened {
		return nil
	}
	return plain
}

// open takes a file apart; of what is to be repeated only streams are opened for which that is possible.
func open(file []byte, repeatable bool) (plain []byte, pieces []piece, opened bool) {
	if len(file) > Limit {
		return nil, nil, false
	}
	var find func([]byte) int
	switch {
	case bytes.HasPrefix(file, gzipMagic):
		find = gzipStream
	case bytes.HasPrefix(file, zipMagic):
		find = zipStream
	default:
		return nil, nil, false
	}
	raw, from := 0, 0 // what is not in plain yet, and where to look for the next stream
	usual := usualFor(file)
	inflated, broken := 0, 0
	for from < len(file) && inflated <= mostInflated && broken <= mostBroken {
		at := find(file[from:])
		if at < 0 {
			break
		}
		at += from
		content, size, err := inflate(file[at:], Limit-len(plain)-(at-raw))
		if errors.Is(err, errTooLarge) {
			return nil, nil, false
		}
		inflated += len(content)
		from = max(at, from+1)
		if err != nil {
			broken++
			continue
		}
		p := piece{size: len(content), deflate: true}
		if repeatable {
			var ok bool
			if p.dialect, ok = repeat(content, file[at:at+size], usual); !ok {
				continue
			}
			usual = append([]dialect{p.dialect}, usual...)[:len(usual)]
		}
		if at > raw {
			pieces = append(pieces, piece{size: at - raw})
		}
		pieces = append(pieces, p)
		plain = append(append(plain, file[raw:at]...), content...)
		raw = at + size
		if end := raw + trailerSize; end <= len(file) && bytes.Equal(file[raw:end], trailer(crc32.ChecksumIEEE(content), len(content))) {
			pieces[len(pieces)-1].trailer = true
			raw = end
		}
		from = raw
		opened = true
	}
	if rest := len(file) - raw; rest > 0 {
		if len(plain)+rest > Limit {
			return nil, nil, false
		}
		pieces = append(pieces, piece{size: rest})
		plain = append(plain, file[raw:]...)
	}
	return plain, pieces, opened
}

func trailer(sum uint32, size int) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, sum), uint32(size))
}

var (
	gzipMagic = []byte{0x1f, 0x8b, 8}
	zipMagic  = []byte("PK\x03\x04")
)

// gzipStream is where the stream of the next gzip member begins (RFC 1952 §2.3), -1 if there is none.
func gzipStream(file []byte) int {
	if len(file) < 10 || !bytes.HasPrefix(file, gzipMagic) {
		return -1
	}
	const (
		headerSum = 1 << 1
		extra     = 1 << 2
		name      = 1 << 3
		comment   = 1 << 4
	)
	flags, at := file[3], 10
	if flags&extra != 0 {
		if len(file) < at+2 {
			return -1
		}
		at += 2 + int(binary.LittleEndian.Uint16(file[at:]))
	}
	for _, text := range []byte{name, comment} {
		if flags&text == 0 {
			continue
		}
		if at > len(file) {
			return -1
		}
		n := bytes.IndexByte(file[at:], 0)
		if n < 0 {
			return -1
		}
		at += n + 1
	}
	if flags&headerSum != 0 {
		at += 2
	}
	if at >= len(file) {
		return -1
	}
	return at
}

// zipStream is where the stream of the next deflated member begins (APPNOTE §4.3.7), -1 if there is none.
func zipStream(file []byte) int {
	const header = 30
	for at := 0; ; {
		n := bytes.Index(file[at:], zipMagic)
		if n < 0 || len(file) < at+n+header {
			return -1
		}
		at += n
		begin := at + header + int(binary.LittleEndian.Uint16(file[at+26:])) + int(binary.LittleEndian.Uint16(file[at+28:]))
		if binary.LittleEndian.Uint16(file[at+8:]) == 8 && begin < len(file) {
			return begin
		}
		at += len(zipMagic)
	}
}

var errTooLarge = errors.New("more than is opened")

// inflate opens a stream, and says how long it is.
func inflate(b []byte, most int) (content []byte, size int, err error) {
	in := bytes.NewReader(b)
	content, err = io.ReadAll(io.LimitReader(flate.NewReader(in), int64(max(most, 0))+1))
	if err == nil && len(content) > most {
		err = errTooLarge
	}
	return content, len(b) - in.Len(), err
}

// usualFor are the dialects to try, the likeliest first.
func usualFor(file []byte) []dialect {
	zlib, gzip := dialect{Level: 6, Memory: 8}, dialect{GZIP: true, Level: 6}
	usual := []dialect{zlib}
	if bytes.HasPrefix(file, gzipMagic) && len(file) > 9 {
		gzip.Level, zlib.Level = 9, 9
		usual = []dialect{gzip, zlib, {GZIP: true, Level: 6}, {Level: 6, Memory: 8}}
		if best, fastest := byte(2), byte(4); file[8] != best {
			usual = []dialect{usual[2], usual[3], usual[0], usual[1]}
			if file[8] == fastest {
				usual = append([]dialect{{GZIP: true, Level: 1}, {Level: 1, Memory: 8}}, usual...)
			}
		}
	}
	for _, d := range []dialect{{Memory: 8}, {GZIP: true}, {Memory: 9}} {
		for _, d.Level = range []int{9, 6, 1, 8, 7, 5, 4, 3, 2} {
			usual = append(usual, d)
		}
	}
	return usual
}

// repeat finds a dialect that makes the stream again.
func repeat(content, stream []byte, usual []dialect) (dialect, bool) {
	for i, d := range usual {
		if tried(d, usual[:i]) {
			continue
		}
		same := &comparer{want: stream}
		z := newDeflater(same, d)
		if _, err := z.Write(content); err != nil {
			continue
		}
		if err := z.Close(); err == nil && len(same.want) == 0 {
			return d, true
		}
	}
	return dialect{}, false
}

func tried(d dialect, before []dialect) bool {
	for _, b := range before {
		if b == d {
			return true
		}
	}
	return false
}

// comparer fails as soon as something else is written than is wanted.
type comparer struct{ want []byte }

var errDifferent = errors.New("it comes out differently")

func (c *comparer) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(c.want, p) {
		return 0, errDifferent
	}
	c.want = c.want[len(p):]
	return len(p), nil
}

// maxPieces bounds what a reader believes.
const maxPieces = 1 << 16

// Code writes or reads a recipe; reading, r is not looked at. It returns nil for one that is out of bounds.
func (r *Recipe) Code(c *entropy.Coder) *Recipe {
	var m struct {
		pieces, raw, content entropy.Number
		deflate, trailer     entropy.Prob
		same                 entropy.Prob
		level, memory        [16]entropy.Prob
		gzip                 entropy.Prob
	}
	if c.Reading() {
		r = &Recipe{}
	}
	n := c.Number(&m.pieces, uint64(len(r.pieces)))
	if n > maxPieces {
		return nil
	}
	out := &Recipe{}
	total := uint64(0)
	before := dialect{Level: 6, Memory: 8}
	for i := range int(n) {
		var p piece
		if !c.Reading() {
			p = r.pieces[i]
		}
		if p.deflate = c.Bool(&m.deflate, p.deflate); !p.deflate {
			size := c.Number(&m.raw, uint64(p.size))
			if size == 0 {
				return nil
			}
			total += min(size, Limit+1)
			p.size = int(min(size, Limit))
		} else {
			size := c.Number(&m.content, uint64(p.size))
			total += min(size, Limit+1)
			p.size = int(min(size, Limit))
			p.trailer = c.Bool(&m.trailer, p.trailer)
			if same := c.Bool(&m.same, p.dialect == before); same {
				p.dialect = before
			} else {
				p.dialect.GZIP = c.Bool(&m.gzip, p.dialect.GZIP)
				p.dialect.Level = int(c.Tree(m.level[:], 4, uint32(p.dialect.Level)))
				p.dialect.Memory = int(c.Tree(m.memory[:], 4, uint32(p.dialect.Memory)))
			}
			if !p.dialect.known() {
				return nil
			}
			before = p.dialect
		}
		if total > Limit || c.Err() != nil {
			return nil
		}
		out.pieces = append(out.pieces, p)
	}
	return out
}

func (d dialect) known() bool {
	return d.Level >= 1 && d.Level <= 9 && (d.GZIP && d.Memory == 0 || !d.GZIP && (d.Memory == 8 || d.Memory == 9))
}

// Size is the size of the plain form, in bytes.
func (r *Recipe) Size() int64 {
	var size int64
	for _, p := range r.pieces {
		size += int64(p.size)
	}
	return size
}

// Pieces is of how many pieces the file is made, and how many of them are compressed.
func (r *Recipe) Pieces() (all, streams int64) {
	for _, p := range r.pieces {
		if p.deflate {
			streams++
		}
	}
	return int64(len(r.pieces)), streams
}

// Writer returns a writer that takes the plain form and writes the file to w. Close ends it, and not w; it is an error if
// less than the plain form was written.
func (r *Recipe) Writer(w io.Writer) io.WriteCloser {
	return &packer{w: w, pieces: r.pieces}
}

type packer struct {
	w      io.Writer
	pieces []piece // the first is the one being written
	done   int     // of it
	z      *deflater
	sum    hash.Hash32
	err    error
}

func (p *packer) Write(b []byte) (int, error) {
	written := len(b)
	for p.err == nil {
		p.step()
		if len(p.pieces) == 0 || len(b) == 0 {
			break
		}
		n := min(len(b), p.pieces[0].size-p.done)
		if p.pieces[0].deflate {
			_, p.err = p.z.Write(b[:n])
			_, _ = p.sum.Write(b[:n]) // a hash takes everything
		} else {
			_, p.err = p.w.Write(b[:n])
		}
		p.done += n
		b = b[n:]
	}
	if p.err == nil && len(b) > 0 {
		p.err = errors.New("more was written than the file is made of")
	}
	return written - len(b), p.err
}

// step ends the pieces that are whole, and begins the next.
func (p *packer) step() {
	for p.err == nil && len(p.pieces) > 0 {
		now := p.pieces[0]
		if now.deflate && p.z == nil {
			p.z, p.sum = newDeflater(p.w, now.dialect), crc32.NewIEEE()
		}
		if p.done < now.size {
			return
		}
		if now.deflate {
			p.err = p.z.Close()
			if now.trailer && p.err == nil {
				_, p.err = p.w.Write(trailer(p.sum.Sum32(), now.size))
			}
		}
		p.pieces, p.done, p.z = p.pieces[1:], 0, nil
	}
}

// Close ends the file.
func (p *packer) Close() error {
	p.step()
	if p.err == nil && len(p.pieces) > 0 {
		p.err = errors.New("less was written than the file is made of")
	}
	return p.err
}
