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
		return port{w: w}
	}
	return port{r: r}
}
