package delta

import (
	"errors"
	"fmt"
	"io"

	"github.com/dunlin/dunlin/internal/delta/entropy"
	"github.com/dunlin/dunlin/internal/delta/literal"
	"github.com/dunlin/dunlin/internal/delta/residue"
	"github.com/dunlin/dunlin/internal/delta/tarfile"
)

// codec writes a delta's stream, or reads it.
type codec struct {
	c     *entropy.Coder
	heads tarfile.Heads
	lit   *literal.Model
	res   *residue.Model

	basis    Basis
	listings [][]Name // of the old layers; nil of those that are not used

	what                   [4][8]entropy.Byte
	wasWhat                byte
	sourceCount            entropy.Number
	sourceOwn              entropy.Prob
	sourceLayer            entropy.Byte
	sourceNext             entropy.Prob
	sourceJump             entropy.Number
	lastIndex              []int // of each layer
	freshSize, patchedSize entropy.Number
	copies                 struct {
		count entropy.Number
		gap   [8]entropy.Number
		line  [4][8]entropy.Prob
		off   [8][4]entropy.Number
		len   [8]entropy.Number
	}
	laid      entropy.Prob
	opened    [2]entropy.Prob
	wasOpened int
	asScript  entropy.Prob
	edits     edits
	item      entropy.Byte
	likeLayer entropy.Byte
	zeros     entropy.Number
	padded    entropy.Prob

	made, spent      int64 // bytes of layers, and work done for them; see work
	err              error
	buf, pred, kinds []byte

	parts [parts]int64
	part  int
	mark  int64
}

// Parts of a delta, for its figures.
const (
	partHead = iota
	partEntries
	partCopies
	partLayout
	partResidue
	partLiteral
	parts
)

func newCodec(c *entropy.Coder) *codec {
	return &codec{c: c, lit: literal.New(), res: residue.New(),
		buf: make([]byte, pieceSize), pred: make([]byte, pieceSize), kinds: make([]byte, pieceSize)}
}

// count says what the bytes from here on are for.
func (x *codec) count(part int) {
	n := x.c.Size()
	x.parts[x.part] += n - x.mark
	x.part, x.mark = part, n
}

func (x *codec) fail(err error) {
	if x.err == nil {
		x.err = err
	}
}

// failed is the first thing that went wrong.
func (x *codec) failed() error {
	if err := x.c.Err(); err != nil && x.err == nil {
		x.err = err
		if errors.Is(err, io.ErrUnexpectedEOF) && x.c.Reading() {
			x.err = fmt.Errorf("%w: it ends too early", ErrFormat)
		}
	}
	return x.err
}

// Work is counted in what it takes to look at a byte. There is some for nothing, and so much for each byte that is made:
// several times what a good delta takes. Whoever reads a delta cannot trust it with more, because what makes work may
// travel in almost no bytes.
const (
	workFree  = 1 << 28
	workTimes = 64

	workUnit    = 512      // something in a tar
	workFile    = 16 << 10 // an old file that is opened, and a folder of its path
	workFolder  = 512
	workPiece   = 64 // of a recipe
	workDeflate = 4 << 10
	workCopy    = 16
	workFed     = 8       // a byte that the literals are fed with
	workChunk   = 2 << 10 // of a program in which places are predicted, and for each of its KiB that are touched
)

var errWork = fmt.Errorf("%w: it makes more work than what it makes is worth", ErrFormat)

// work counts some, and fails if it is too much. An encoder finds that out when it checks what it made.
func (x *codec) work(n int64) {
	if !x.c.Reading() {
		return
	}
	if x.spent += n; x.spent < 0 || x.spent-workFree > workTimes*x.made {
		x.fail(errWork)
	}
}

// raw codes bytes of which nothing is known.
func (x *codec) raw(b []byte) []byte {
	for i := range b {
		b[i] = byte(x.c.Raw(8, uint64(b[i])))
	}
	return b
}

// port is the one of two that the direction asks for.
func (x *codec) port(r reader, w io.Writer) port {
	if x.c.Reading() {
		return port{w: &making{w, x}}
	}
	return port{r: r}
}

// making counts the bytes of a layer that are made.
type making struct {
	w io.Writer
	x *codec
}

func (m *making) Write(p []byte) (int, error) {
	m.x.made += int64(len(p))
	return m.w.Write(p)
}
