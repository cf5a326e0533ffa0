package tarfile

import (
	"archive/tar"
	"errors"
	"slices"
	"strings"

	"github.com/dunlin/dunlin/internal/delta/entropy"
)

// Heads is what is known of the headers to come, and the models of what they are otherwise.
type Heads struct {
	names []Name // of the old layer that is most like this one, as Order has them
	c     *entropy.Coder
	err   error
	was   int             // how the last few names were coded
	pos   int             // where in it the next name is likely to be
	last  string          // the name before, as it was in its header
	lead  string          // what names begin with that paths do not: nothing, "./" or "/"
	links map[byte]string // by type, where the last one led

	like     [256]*[block]byte // the last header of each kind
	metaLike [256]*[block]byte
	keys     []string // of extended records
	values   []string // of each key, the last
	owners   [64]owner
	groups   [64]owner

	how, kind    [8]entropy.Byte
	jump         entropy.Number
	shared       entropy.Number
	length       entropy.Number
	text         text
	metaCount    [2]entropy.Number
	metaKind     entropy.Byte
	metaName     [4]entropy.Prob
	metaTime     entropy.Prob
	metaText     entropy.Prob
	recordCount  entropy.Number
	recordKey    [33]entropy.Byte
	recordValue  [33]entropy.Prob
	guess        [6]guesser
	same         [2]entropy.Prob
	at           entropy.Number
	byt          [8]entropy.Byte
	linkAsListed [2]entropy.Prob
}

type owner struct {
	id   int64
	name [32]byte
	set  bool
}

// How a name is coded.
const (
	nextName  = iota // the next of the listing
	laterName        // another of the listing
	otherName
	hows
)

// initial is a header as Go's archive/tar writes it.
func initial() *[block]byte {
	var h [block]byte
	for _, f := range []field{fieldMode, fieldUID, fieldGID, fieldMajor, fieldMinor} {
		f.setText(&h, "0000000")
	}
	fieldSize.setText(&h, "00000000000")
	fieldMtime.setText(&h, "00000000000")
	fieldSum.setText(&h, "000000\x00 ")
	copy(h[257:], "ustar\x0000")
	return &h
}

// text is a model of short texts: names, mostly.
type text struct{ p []entropy.Prob }

const textBits = 18

func (m *text) code(c *entropy.Coder, before string, b []byte) {
	if m.p == nil {
		m.p = make([]entropy.Prob, 1<<textBits+256)
	}
	var h uint32
	for i := max(0, len(before)-3); i < len(before); i++ {
		h = h<<8 | uint32(before[i])
	}
	for i := range b {
		at := h & 0xffffff * 0x9e3779b1 >> (32 - textBits + 8) << 8
		b[i] = byte(c.Tree(m.p[at:at+256], 8, uint32(b[i])))
		h = h<<8 | uint32(b[i])
	}
}

// tail codes a text that is likely to begin like another.
func (h *Heads) tail(s, like string, limit int) string {
	n := 0
	for n < len(s) && n < len(like) && s[n] == like[n] {
		n++
	}
	dir := strings.LastIndexByte(like, '/') + 1
	n = dir + int(h.c.Signed(&h.shared, int64(n-dir)))
	size := int(min(h.c.Number(&h.length, uint64(max(len(s)-n, 0))), uint64(limit)+1))
	if n < 0 || n > len(like) || size > limit || n+size > limit {
		h.fail()
		return ""
	}
	b := make([]byte, size)
	if !h.c.Reading() {
		copy(b, s[n:])
	}
	h.text.code(h.c, like[:n], b)
	return like[:n] + string(b)
}

// Contents is asked, in the middle of an entry's headers, to code what an entry contains: how many bytes, and whether that is
// another file than the old image has. path is "" if the name stands for none; class is what the listing has there: 1 a
// regular file, 2 a folder, 3 a symbolic link, 0 nothing.
type Contents func(path string, kind byte, class int) (size int64, changed bool, err error)

// errDamaged is the error of what no writer writes.
var errDamaged = errors.New("an entry says what cannot be")

func (h *Heads) fail() {
	if h.err == nil {
		h.err = errDamaged
	}
}

func (h *Heads) failed() error {
	if h.err == nil {
		h.err = h.c.Err()
	}
	return h.err
}

// Begin begins a layer; names are of the old layer that is most like it, sorted by Order.
func (h *Heads) Begin(names []Name) { h.names, h.pos = names, 0 }

// Code writes or reads the headers of an entry. Writing, all of it must be there; reading, all but Data and Pad will be.
func (h *Heads) Code(c *entropy.Coder, e *Entry, contents Contents) error {
	h.c, h.err = c, nil
	h.entry(e, contents)
	return h.failed()
}

func (h *Heads) entry(e *Entry, contents Contents) {
	listed := h.nameOf(e)
	var class int // what the listing has there
	if listed != nil {
		switch listed.Type {
		case tar.TypeReg:
			class = 1
		case tar.TypeDir:
			class = 2
		case tar.TypeSymlink:
			class = 3
		}
	}
	kind := h.c.Byte(&h.kind[class], e.Head[fieldType])
	e.Head[fieldType] = kind
	p, _ := Clean(e.Name)
	size, changed, err := contents(p, kind, class)
	if err != nil {
		h.err = err
		return
	}
	e.Size = size

	// The link's target, for what it is.
	if kind == tar.TypeLink || kind == tar.TypeSymlink {
		like, i := h.links[kind], 0
		if kind == tar.TypeSymlink && class == 3 {
			i = 1
			like = listed.Link
		}
		if h.c.Bool(&h.linkAsListed[i], e.Link == like) {
			e.Link = like
		} else {
			e.Link = h.tail(e.Link, like, metaLimit)
		}
		if h.links == nil {
			h.links = map[byte]string{}
		}
		h.links[kind] = e.Link
	} else if h.c.Reading() {
		e.Link = ""
	}

	pred := initial()
	if like := h.like[kind]; like != nil {
		*pred = *like
	} else if like := h.like['0']; like != nil {
		*pred = *like
	}
	pred[fieldType] = kind
	h.numbers(&e.Head, pred, e.Name, changed)
	fieldSize.set(pred, e.Size)
	mtime, _ := fieldMtime.number(pred)

	// What goes before it.
	link := e.Link
	if kind != tar.TypeLink && kind != tar.TypeSymlink {
		link = ""
	}
	h.metasOf(e, link, mtime)
	var longName, longLink bool
	for _, m := range e.Metas {
		switch m.kind() {
		case 'L':
			longName = true
		case 'K':
			longLink = true
		case 'x':
			list, _ := records(m.Body)
			for _, r := range list {
				longName = longName || r.key == "path"
				longLink = longLink || r.key == "linkpath"
			}
		}
	}
	name, prefix := e.Name, ""
	if longName {
		name = ascii(name)
		if len(name) > 100 && kind != tar.TypeDir {
			name = strings.TrimRight(name[:100], "/")
		}
	} else {
		prefix, name = split(name)
	}
	if longLink {
		link = ascii(link)
	}
	fieldName.setText(pred, name)
	if string(pred[257:263]) == "ustar\x00" {
		fieldPrefix.setText(pred, prefix)
	}
	fieldLink.setText(pred, link)
	fieldSum.set(pred, sum(pred))
	h.patch(pred, &e.Head, 0)

	if h.like[kind] == nil {
		h.like[kind] = new([block]byte)
	}
	*h.like[kind] = e.Head
	h.last = e.Name
	h.own(&h.owners, fieldUID, fieldUname, &e.Head)
	h.own(&h.groups, fieldGID, fieldGname, &e.Head)
}

// nameOf codes an entry's name, and returns what the listing has of that name.
func (h *Heads) nameOf(e *Entry) *Name {
	find := func(p string) (int, bool) { return slices.BinarySearchFunc(h.names, p, ByPath) }
	how, to := byte(otherName), 0
	if !h.c.Reading() {
		if p, ok := Clean(e.Name); ok {
			if i, ok := find(p); ok && h.render(i) == e.Name {
				if how, to = laterName, i; i == h.pos {
					how = nextName
				}
			}
		}
	}
	switch how = h.c.Byte(&h.how[h.was&3], how); how {
	case nextName:
		to = h.pos
	case laterName:
		to = h.pos + int(h.c.Signed(&h.jump, int64(to-h.pos)))
	default:
		how = otherName
		e.Name = h.tail(e.Name, h.last, metaLimit)
		h.lead = ""
		switch {
		case strings.HasPrefix(e.Name, "./"):
			h.lead = "./"
		case strings.HasPrefix(e.Name, "/"):
			h.lead = "/"
		}
		to = -1
	}
	h.was = h.was<<2 | int(how)
	if how != otherName {
		if to < 0 || to >= len(h.names) {
			h.fail()
			return nil
		}
		e.Name = h.render(to)
		h.pos = to + 1
		return &h.names[to]
	}
	p, ok := Clean(e.Name)
	if !ok {
		return nil
	}
	i, found := find(p)
	if h.pos = i; found {
		h.pos++
		return &h.names[i]
	}
	return nil
}

// render is a name of the listing as headers have it.
func (h *Heads) render(i int) string {
	s := h.lead + h.names[i].Path
	if h.names[i].Type == tar.TypeDir {
		s += "/"
	}
	return s
}

// patch codes what a header is other than predicted.
func (h *Heads) patch(pred, b *[block]byte, which int) {
	if h.c.Bool(&h.same[which], *pred == *b) {
		*b = *pred
		return
	}
	for i := 0; ; i++ {
		n := i
		for n < block && pred[n] == b[n] {
			n++
		}
		n = i + int(min(h.c.Number(&h.at, uint64(n-i)), block))
		copy(b[i:min(n, block)], pred[i:])
		if i = n; i >= block {
			break
		}
		b[i] = h.c.Byte(&h.byt[i>>6], b[i])
	}
}

// ascii leaves out what is not ASCII, as Go does where the true name is elsewhere.
func ascii(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= 128 }) < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] < 128 {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// split is a name in two parts, as ustar has it if it is longer than 100 bytes; name is empty if there is no such place.
func split(s string) (prefix, name string) {
	if len(s) <= 100 {
		return "", s
	}
	n := min(len(s), 156)
	if s[n-1] == '/' {
		n--
	}
	i := strings.LastIndexByte(s[:n], '/')
	if i <= 0 || len(s)-i-1 > 100 || len(s)-i-1 == 0 || i > 155 {
		return "", ""
	}
	return s[:i], s[i+1:]
}
