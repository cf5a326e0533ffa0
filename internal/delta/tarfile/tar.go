// Package tarfile takes the tars of layers apart and codes their headers: block by block, so that any tar comes back as it
// was, and by what the headers before and an old layer's names let expect, so that what is usual takes next to nothing. It
// does not code contents.
package tarfile

import (
	"bytes"
	"io"
	"strconv"
	"strings"
)

// Block is the size of a tar's blocks, in bytes.
const Block = 512

const block = Block

// What may stand before an entry's header: so many records, each of so many bytes.
const (
	metasLimit = 8
	metaLimit  = 64 << 10
)

// Fields of a header block (POSIX.1-1988 ustar; GNU tar and Go's archive/tar share them).
type field struct{ at, size int }

var (
	fieldName   = field{0, 100}
	fieldMode   = field{100, 8}
	fieldUID    = field{108, 8}
	fieldGID    = field{116, 8}
	fieldSize   = field{124, 12}
	fieldMtime  = field{136, 12}
	fieldSum    = field{148, 8}
	fieldType   = 156
	fieldLink   = field{157, 100}
	fieldUname  = field{265, 32}
	fieldGname  = field{297, 32}
	fieldMajor  = field{329, 8}
	fieldMinor  = field{337, 8}
	fieldPrefix = field{345, 155}
)

func (f field) of(b *[block]byte) []byte { return b[f.at : f.at+f.size] }

// text is a field's text, up to its first IsZero.
func (f field) text(b *[block]byte) string {
	s := f.of(b)
	if i := bytes.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	return string(s)
}

// number is the number in a field, 0 if there is none: octal digits, or two's complement behind a first bit that is set.
func (f field) number(b *[block]byte) (v int64, ok bool) {
	s := f.of(b)
	if s[0]&0x80 != 0 {
		if s[0]&0x40 != 0 {
			return 0, false // negative
		}
		v = int64(s[0] & 0x3f)
		for _, c := range s[1:] {
			if v>>54 != 0 {
				return 0, false
			}
			v = v<<8 | int64(c)
		}
		return v, true
	}
	s = bytes.Trim(s, " \x00")
	for _, c := range s {
		if c < '0' || c > '7' {
			return 0, false
		}
		v = v<<3 | int64(c-'0')
	}
	return v, true
}

// set writes a number in the manner of what the field holds: the same digits, the same end.
func (f field) set(b *[block]byte, v int64) {
	s := f.of(b)
	if old, ok := f.number(b); ok && old == v {
		return
	}
	end := len(s)
	for end > 0 && (s[end-1] == 0 || s[end-1] == ' ') {
		end--
	}
	if end == 0 {
		end = len(s) - 1
	}
	if s[0]&0x80 != 0 || v>>(3*end) != 0 {
		for i := len(s) - 1; i >= 0; i-- {
			s[i] = byte(v)
			v >>= 8
		}
		s[0] |= 0x80
		return
	}
	pad := byte('0')
	if s[0] == ' ' {
		pad = ' '
	}
	for i := end - 1; i >= 0; i-- {
		if s[i] = byte('0' + v&7); v == 0 && i < end-1 {
			s[i] = pad
		}
		v >>= 3
	}
}

// setText writes a text, as much of it as fits.
func (f field) setText(b *[block]byte, s string) {
	clear(f.of(b)[copy(f.of(b), s):])
}

// sum is the sum of a header's bytes, its own field counted as spaces.
func sum(b *[block]byte) (n int64) {
	for _, c := range b {
		n += int64(c)
	}
	for _, c := range fieldSum.of(b) {
		n += ' ' - int64(c)
	}
	return n
}

// Meta is a header before the header: extended records (x), or a long name (L) or link (K) as GNU tar has them.
type Meta struct {
	Head [block]byte
	Body []byte
}

func (m *Meta) kind() byte { return m.Head[fieldType] }

// record is one extended record.
type record struct{ key, value string }

// records are the extended records in a body. ok is false unless they are written as they always are.
func records(body []byte) (r []record, ok bool) {
	for len(body) > 0 {
		i := bytes.IndexByte(body, ' ')
		if i < 1 || i > 8 {
			return nil, false
		}
		n, err := strconv.Atoi(string(body[:i]))
		if err != nil || n < i+3 || n > len(body) || body[n-1] != '\n' {
			return nil, false
		}
		key, value, found := strings.Cut(string(body[i+1:n-1]), "=")
		x := record{key, value}
		if !found || x.size() != n || body[0] == '0' {
			return nil, false
		}
		r, body = append(r, x), body[n:]
	}
	return r, true
}

// size is the length of a record as it is written, its own number counted.
func (r record) size() int {
	n := len(r.key) + len(r.value) + 3
	size := n + len(strconv.Itoa(n))
	if len(strconv.Itoa(size)) != size-n {
		size = n + len(strconv.Itoa(size))
	}
	return size
}

func (r record) append(b []byte) []byte {
	b = strconv.AppendInt(b, int64(r.size()), 10)
	b = append(b, ' ')
	b = append(b, r.key...)
	b = append(b, '=')
	b = append(b, r.value...)
	return append(b, '\n')
}

// Entry is an entry of a tar: headers, contents, padding.
type Entry struct {
	Metas []Meta
	Head  [block]byte
	// Name and Link are as the headers have them all together; unclean, maybe.
	Name, Link string
	Data, Size int64 // the contents' place in the tar and their length
	Pad        []byte
	Odd        bool // it may be unpacked otherwise than its header says
}

// Kind is the entry's type as archive/tar has it.
func (e *Entry) Kind() byte {
	if k := e.Head[fieldType]; k != 0 {
		return k
	}
	return '0'
}

// End is where the next entry begins.
func (e *Entry) End() int64 { return e.Data + e.Size + int64(len(e.Pad)) }

// Padding is how many bytes follow so many, up to the next block.
func Padding(n int64) int64 { return -n & (block - 1) }

// Read reads the entry at a place in a tar. It returns nil if there is none, or not all of it.
func Read(r io.ReaderAt, at, size int64) (*Entry, error) {
	e := &Entry{Data: at}
	var paxSize, name, link string
	for {
		if size-e.Data < block {
			return nil, nil
		}
		if err := ReadFull(r, e.Head[:], e.Data); err != nil {
			return nil, err
		}
		n, ok := fieldSize.number(&e.Head)
		if want, sumOK := fieldSum.number(&e.Head); !ok || !sumOK || want != sum(&e.Head) {
			return nil, nil
		}
		e.Data += block
		k := e.Kind()
		if k != 'x' && k != 'L' && k != 'K' {
			e.Size = n
			break
		}
		if n > metaLimit || n > size-e.Data {
			return nil, nil
		}
		m := Meta{Head: e.Head, Body: make([]byte, n)}
		if err := ReadFull(r, m.Body, e.Data); err != nil {
			return nil, err
		}
		pad := make([]byte, Padding(n))
		if int64(len(pad)) > size-e.Data-n {
			return nil, nil
		}
		if err := ReadFull(r, pad, e.Data+n); err != nil {
			return nil, err
		}
		if !IsZero(pad) || len(e.Metas) == metasLimit {
			return nil, nil
		}
		for i := range e.Metas {
			e.Odd = e.Odd || e.Metas[i].kind() == k
		}
		e.Metas = append(e.Metas, m)
		e.Data += n + Padding(n)
		switch k {
		case 'L':
			name = untilZero(m.Body)
		case 'K':
			link = untilZero(m.Body)
		case 'x':
			list, ok := records(m.Body)
			e.Odd = e.Odd || !ok
			for _, x := range list {
				switch {
				case x.key == "path":
					name = x.value
				case x.key == "linkpath":
					link = x.value
				case x.key == "size":
					paxSize = x.value
				case strings.HasPrefix(x.key, "GNU.sparse."):
					e.Odd = true
				}
			}
		}
	}
	if e.Name = name; name == "" {
		e.Name = fieldName.text(&e.Head)
		if p := fieldPrefix.text(&e.Head); p != "" && string(e.Head[257:263]) == "ustar\x00" {
			e.Name = p + "/" + e.Name
		}
	}
	if e.Link = link; link == "" {
		e.Link = fieldLink.text(&e.Head)
	}
	if paxSize != "" {
		n, err := strconv.ParseInt(paxSize, 10, 64)
		if err != nil || n < 0 {
			return nil, nil
		}
		e.Size = n
	}
	switch k := e.Kind(); k {
	case '0', '7':
		e.Odd = e.Odd || strings.HasSuffix(e.Name, "/")
	case '1', '2', '3', '4', '5', '6':
		e.Size = 0
	case 'g':
	case 'S': // what follows the header are more pieces of its map, as long as they say so
		e.Odd = true
		at := e.Data
		for more := e.Head[482]; more != 0 && size-at >= block; at += block {
			var b [block]byte
			if err := ReadFull(r, b[:], at); err != nil {
				return nil, err
			}
			more = b[504]
		}
		e.Size += at - e.Data
	default:
		e.Odd = true
	}
	if e.Size > size-e.Data || Padding(e.Size) > size-e.Data-e.Size {
		return nil, nil
	}
	e.Pad = make([]byte, Padding(e.Size))
	if err := ReadFull(r, e.Pad, e.Data+e.Size); err != nil {
		return nil, err
	}
	return e, nil
}

func untilZero(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// IsZero reports whether there is nothing but zeros.
func IsZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// ReadFull reads all of p, which must be there.
func ReadFull(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
