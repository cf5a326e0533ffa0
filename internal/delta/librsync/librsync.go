// Package librsync writes and applies deltas in librsync's format, which is what balenaEngine applies on devices. It knows
// no image: an old file and a new one.
//
// The format says "copy so many bytes from there" and "these bytes". librsync itself finds copies by blocks of the old
// file, whole and at their places; the format allows any offset and length, and that is used here: every match is found,
// at every byte, and the cheapest sequence of them is written. Devices apply it unchanged.
package librsync

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Magic begins a delta (librsync's RS_DELTA_MAGIC), most significant byte first.
const Magic = 0x72730236

// Commands. A copy has a byte 0x45 + 4·a + b, then its offset in 1<<a bytes and its length in 1<<b, most significant
// byte first; a literal up to 64 bytes is its length as the command, a longer one 0x41 + a and its length in 1<<a bytes.
const (
	opEnd     = 0x00
	shortMost = 0x40
	opLiteral = 0x41
	opCopy    = 0x45
	opAfter   = 0x55 // the first that means nothing
)

// ErrFormat means that bytes are no delta in this format, or a damaged one.
var ErrFormat = errors.New("this is no librsync delta, or a damaged one")

// width is which of 1, 2, 4 or 8 bytes hold a number, as an exponent.
func width(n int64) int {
	switch {
	case n < 1<<8:
		return 0
	case n < 1<<16:
		return 1
	case n < 1<<32:
		return 2
	}
	return 3
}

func appendNumber(b []byte, n int64, width int) []byte {
	for i := 8<<width - 8; i >= 0; i -= 8 {
		b = append(b, byte(n>>i))
	}
	return b
}

// writer writes commands; copies that continue each other become one.
type writer struct {
	w       *bufio.Writer
	scratch []byte
	from    int64
	length  int64 // of the copy that is not written yet
}

func newWriter(w io.Writer) (*writer, error) {
	o := &writer{w: bufio.NewWriterSize(w, 64<<10)}
	_, err := o.w.Write(binary.BigEndian.AppendUint32(nil, Magic))
	return o, err
}

func (o *writer) copy(from, length int64) error {
	if o.length > 0 && o.from+o.length == from {
		o.length += length
		return nil
	}
	if err := o.flush(); err != nil {
		return err
	}
	o.from, o.length = from, length
	return nil
}

// flush writes the copy that waits for its continuation.
func (o *writer) flush() error {
	if o.length == 0 {
		return nil
	}
	a, b := width(o.from), width(o.length)
	o.scratch = append(o.scratch[:0], byte(opCopy+4*a+b))
	o.scratch = appendNumber(appendNumber(o.scratch, o.from, a), o.length, b)
	o.length = 0
	_, err := o.w.Write(o.scratch)
	return err
}

func (o *writer) literal(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if err := o.flush(); err != nil {
		return err
	}
	if len(p) <= shortMost {
		o.scratch = append(o.scratch[:0], byte(len(p)))
	} else {
		a := width(int64(len(p)))
		o.scratch = appendNumber(append(o.scratch[:0], byte(opLiteral+a)), int64(len(p)), a)
	}
	if _, err := o.w.Write(o.scratch); err != nil {
		return err
	}
	_, err := o.w.Write(p)
	return err
}

func (o *writer) end() error {
	if err := o.flush(); err != nil {
		return err
	}
	if err := o.w.WriteByte(opEnd); err != nil {
		return err
	}
	return o.w.Flush()
}

// Apply makes the new file of the old one, of which it reads what it needs, and a delta. A delta that asks for what is not
// there is ErrFormat; one that makes more than most bytes too.
func Apply(ctx context.Context, w io.Writer, old io.ReaderAt, size int64, delta io.Reader, most int64) error {
	r := bufio.NewReader(delta)
	magic, err := number(r, 2)
	if err != nil {
		return err
	}
	if magic != Magic {
		return ErrFormat
	}
	buf := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		op, err := r.ReadByte()
		if err != nil {
			return broken(err)
		}
		var from io.Reader
		var length int64
		switch {
		case op == opEnd:
			if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: there is more after its end", ErrFormat)
			}
			return nil
		case op <= shortMost:
			from, length = r, int64(op)
		case op < opCopy:
			if length, err = number(r, int(op-opLiteral)); err != nil {
				return err
			}
			from = r
		case op < opAfter:
			at, err := number(r, int(op-opCopy)/4)
			if err != nil {
				return err
			}
			if length, err = number(r, int(op-opCopy)%4); err != nil {
				return err
			}
			if at < 0 || length < 0 || at > size || length > size-at {
				return fmt.Errorf("%w: it copies what the old file has not", ErrFormat)
			}
			from = io.NewSectionReader(old, at, length)
		default:
			return fmt.Errorf("%w: command %#x", ErrFormat, op)
		}
		if length < 0 || length > most {
			return fmt.Errorf("%w: it makes more than it may", ErrFormat)
		}
		most -= length
		if _, err := io.CopyBuffer(onlyWriter{w}, onlyReader{io.LimitReader(from, length)}, buf); err != nil {
			return err
		}
		if from == r && r.Buffered() == 0 {
			if _, err := r.Peek(1); err != nil {
				return broken(err)
			}
		}
	}
}

// onlyWriter and onlyReader keep io.CopyBuffer to its buffer.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// broken is an error of reading a delta; its end is none of the reader's.
func broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", ErrFormat)
	}
	return err
}

// number reads one of 1<<width bytes.
func number(r io.Reader, width int) (int64, error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[8-1<<width:]); err != nil {
		return 0, broken(err)
	}
	return int64(binary.BigEndian.Uint64(b[:])), nil
}
