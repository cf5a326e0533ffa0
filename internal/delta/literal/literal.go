// Package literal codes the bytes that no old file has: by what came shortly before, and by what is likely to follow. It
// does not know which bytes those are.
//
// It has two ways to do so. The dense one mixes what contexts of several lengths say of each bit; it is the smaller and
// takes about half a second for a megabyte, in both directions. The fast one finds matches and is read at tens of
// megabytes a second. Both know all bytes so far, whichever way they came.
package literal

import "github.com/dunlin/dunlin/internal/delta/entropy"

const (
	// Window is how far back it remembers, in bytes.
	Window = 8 << 20
	// Piece is the size of the largest piece, in bytes.
	Piece = 1 << 20
	// Free is how many bytes a writer codes densely without being allowed to.
	Free = 1 << 20
)

const (
	beforeLimit  = 16  // bytes before a piece that are looked at
	insteadLimit = 64  // and in its place
	short        = 256 // pieces say little of themselves
)

// The kinds of contents.
const (
	text     = iota
	other    // of no known structure
	x86      // machine code, x86-64
	arm64    // machine code, of words of four bytes
	kindBits = 2
)

// Model is what was learned of the bytes so far. It takes 8 MiB, and for each of the two ways it is used in about 5 and
// 0.1 MiB; a writer that uses the fast one up to 110 MiB.
type Model struct {
	window []byte // a ring
	at     uint32 // the number of bytes so far, modulo 2^32
	allow  int64

	// Of the next piece: its offset, and what is near it.
	offset  int64
	before  []byte
	instead []byte

	way   entropy.Prob
	kind  [1 << kindBits][1 << kindBits]entropy.Prob // by the one before
	phase [4]entropy.Prob
	last  uint32 // kind

	dense *dense
	fast  *fast
	parse *parser // of a writer
	plain []byte  // of a writer: the piece
}

// New returns a model that knows nothing yet.
func New() *Model {
	return &Model{
		window: make([]byte, Window), allow: Free,
		before: make([]byte, 0, beforeLimit), instead: make([]byte, 0, insteadLimit),
	}
}

// Allow lets a writer code so many more bytes densely. A reader need not be told.
func (m *Model) Allow(n int64) { m.allow += n }

// Near tells the model where in its file the next piece is, which bytes come before it there, and which an old file has
// instead of it or from there on; it looks at the last 16 of the ones and the first 64 of the others. If it is not called,
// a piece follows the one before it.
func (m *Model) Near(offset int64, before, instead []byte) {
	m.offset = offset
	m.before = append(m.before[:0], before[max(len(before)-beforeLimit, 0):]...)
	m.instead = append(m.instead[:0], instead[:min(len(instead), insteadLimit)]...)
}

// Feed tells the model bytes that came otherwise and may come again.
func (m *Model) Feed(p []byte) {
	m.put(m.at, p)
	if m.parse != nil {
		m.parse.feed(p)
	}
	m.at += uint32(len(p))
}

// Code writes p, or fills it with what was written. The pieces must be the same in both directions, and of at most Piece
// bytes.
func (m *Model) Code(c *entropy.Coder, p []byte) {
	if len(p) == 0 {
		return
	}
	kind, phase, dense := uint32(text), uint32(0), false
	if !c.Reading() {
		kind, phase = m.guess(p)
		dense = m.allow >= int64(len(p))
	}
	kind = c.Tree(m.kind[m.last][:], kindBits, kind)
	m.last = kind
	if kind == arm64 {
		phase = c.Tree(m.phase[:], 2, (phase+uint32(m.offset))&3) - uint32(m.offset)
	} else {
		phase = -uint32(m.offset)
	}
	phase &= 3
	dense = c.Bool(&m.way, dense)

	at := uint32(m.offset)
	filter(m.before, at-uint32(len(m.before)), kind, phase+uint32(len(m.before)))
	filter(m.instead, at, kind, phase)
	m.Feed(m.before)
	m.Feed(m.instead)
	in := p
	if !c.Reading() {
		m.plain = append(m.plain[:0], p...)
		in = m.plain
		filter(in, at, kind, phase)
	}
	if dense {
		m.codeDense(c, in, kind, phase)
	} else {
		m.codeFast(c, in, kind, phase)
	}
	if c.Reading() {
		unfilter(p, at, kind, phase)
	}
	m.at += uint32(len(p))
	m.offset += int64(len(p))
	m.before, m.instead = m.before[:0], m.instead[:0]
}

// guess is guess for the next piece.
func (m *Model) guess(p []byte) (kind, phase uint32) {
	kind, phase = guess(p)
	if len(p) >= short || kind == text {
		return kind, phase
	}
	if m.last == text {
		return other, 0
	}
	return m.last, -uint32(m.offset) & 3
}

func (m *Model) codeDense(c *entropy.Coder, p []byte, kind, phase uint32) {
	m.allow -= int64(len(p))
	if m.dense == nil {
		m.dense = newDense()
	}
	m.dense.learn(m.window, m.at)
	m.dense.near(m.before, uint32(len(m.instead)))
	m.dense.code(c, m.window, p, kind, phase)
	if m.parse != nil {
		m.parse.feed(p)
	}
}

func (m *Model) codeFast(c *entropy.Coder, p []byte, kind, phase uint32) {
	if m.fast == nil {
		m.fast = newFast()
	}
	m.fast.instead(uint32(len(m.instead)))
	if c.Reading() {
		m.fast.read(c, m.window, m.at, len(p), kind, phase)
		for n := 0; n < len(p); {
			n += copy(p[n:], m.window[(m.at+uint32(n))&(Window-1):])
		}
		return
	}
	if m.parse == nil {
		m.parse = newParser()
		if m.at >= Window {
			m.parse.feed(m.window[m.at&(Window-1):])
		}
		m.parse.feed(m.window[:m.at&(Window-1)])
	}
	m.parse.write(c, m.fast, p, kind, phase)
	m.put(m.at, p)
}

// put puts p into the window.
func (m *Model) put(at uint32, p []byte) {
	for len(p) > 0 {
		n := copy(m.window[at&(Window-1):], p)
		p = p[n:]
		at += uint32(n)
	}
}
