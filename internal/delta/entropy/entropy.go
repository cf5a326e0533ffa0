// Package entropy is an arithmetic coder with adaptive models: what is likely takes little space. It does not know what
// the numbers mean.
//
// A Coder writes or reads, and every method serves both: it is given a value, and returns the value that travels. Writing,
// that is the one it was given; reading, the given one is ignored. So whoever describes a format describes it once, and the
// two directions cannot disagree:
//
//	h.length = c.Number(&m.length, h.length)
//
// All arithmetic is on integers, so that a delta made on one processor is read on another. Nothing here may be used
// concurrently.
package entropy

import (
	"encoding/binary"
	"io"
)

// Coder writes symbols to a stream, or reads them from one.
//
// What is left to say is where in an interval of 64-bit numbers the stream lies. A symbol narrows it; when less than 32
// bits are left, the upper 32, which are decided but for a carry, go out.
type Coder struct {
	width   uint64 // of the interval, at least least
	at      uint64 // writing: where it begins; reading: how far behind its beginning the stream lies
	reading bool

	buf  []byte // writing: what went out and was not written yet; reading: what was read ahead
	next int    // reading: the next byte in buf
	past int    // reading: bytes taken from beyond the end
	sent int64  // writing: bytes that left buf
	w    io.Writer
	r    io.Reader
	err  error
}

const (
	least  = 1 << 32  // the width below which 32 bits go out
	buffer = 16 << 10 // of a stream, in bytes
	beyond = 8        // bytes a reader is ahead of the last symbol, at most
)

// NewWriter returns a Coder that writes to w; Close ends the stream.
func NewWriter(w io.Writer) *Coder {
	return &Coder{width: ^uint64(0), w: w, buf: make([]byte, 0, buffer+4)}
}

// NewReader returns a Coder that reads what another has written. It reads ahead.
func NewReader(r io.Reader) *Coder {
	c := &Coder{width: ^uint64(0), reading: true, r: r, buf: make([]byte, 0, buffer)}
	c.at = uint64(c.word())<<32 | uint64(c.word())
	return c
}

// Reading reports whether the coder reads.
func (c *Coder) Reading() bool { return c.reading }

// Err is the first error of the stream beneath, io.ErrUnexpectedEOF if it ends too early. After an error a reader goes on
// with arbitrary values, so what they stand for must be bounded by who asks, and Err looked at before anything is
// believed.
func (c *Coder) Err() error { return c.err }

// Close writes what is left to write: the shortest number in the interval, which is of four bytes at most. It does not
// close the stream beneath.
func (c *Coder) Close() error {
	if c.reading {
		return c.err
	}
	for n := 0; n <= 4; n++ {
		rest := ^uint64(0) >> (8 * n) // what n bytes leave open
		v := c.at &^ rest
		if v < c.at {
			v += rest + 1 // 0 if it carries
		}
		if v-c.at >= c.width {
			continue
		}
		if v < c.at {
			c.carry()
		}
		for ; n > 0; n-- {
			c.buf = append(c.buf, byte(v>>56))
			v <<= 8
		}
		break
	}
	c.write(len(c.buf))
	return c.err
}

// carry adds one to what went out.
func (c *Coder) carry() {
	for i := len(c.buf) - 1; i >= 0; i-- {
		if c.buf[i]++; c.buf[i] != 0 {
			return
		}
	}
}

// write writes the first n bytes of what went out.
func (c *Coder) write(n int) {
	if c.err == nil && n > 0 {
		_, c.err = c.w.Write(c.buf[:n])
	}
	c.sent += int64(n)
	c.buf = c.buf[:copy(c.buf, c.buf[n:])]
}

// Size is how many bytes were written so far, but for the last few, which are not decided.
func (c *Coder) Size() int64 { return c.sent + int64(len(c.buf)) }

// shift makes room in the interval, which is narrower than least.
func (c *Coder) shift() {
	if c.reading {
		c.at = c.at<<32 | uint64(c.word())
		c.width <<= 32
		return
	}
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(c.at>>32))
	c.at <<= 32
	c.width <<= 32
	if len(c.buf) < buffer {
		return
	}
	// A carry goes up to the last byte that is not 255.
	n := len(c.buf) - 1
	for n > 0 && c.buf[n] == 255 {
		n--
	}
	c.write(n)
}

// word is the stream's next 32 bits. Beyond the end there are zeros, and the last symbols may need some of them.
func (c *Coder) word() uint32 {
	if len(c.buf)-c.next >= 4 {
		v := binary.BigEndian.Uint32(c.buf[c.next:])
		c.next += 4
		return v
	}
	var v uint32
	for range 4 {
		if c.next == len(c.buf) {
			c.fill()
		}
		v <<= 8
		if c.next < len(c.buf) {
			v |= uint32(c.buf[c.next])
			c.next++
		}
	}
	return v
}

// fill reads ahead, or counts a byte that is not there.
func (c *Coder) fill() {
	if c.past == 0 {
		for range 100 {
			n, err := c.r.Read(c.buf[:cap(c.buf)])
			if c.buf, c.next = c.buf[:n], 0; n > 0 {
				return
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				c.fail(err)
				break
			}
		}
	}
	if c.past++; c.past > beyond {
		c.past = beyond + 1
		c.fail(io.ErrUnexpectedEOF)
	}
}

func (c *Coder) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// zero narrows the interval to its upper part, from bound on.
func (c *Coder) zero(bound uint64) {
	c.width -= bound
	if c.reading {
		c.at -= bound
		return
	}
	if c.at += bound; c.at < bound {
		c.carry()
	}
}

// Likely codes a bit that is 1 with a probability of p/65536; p is from 1 to 65535.
func (c *Coder) Likely(p uint32, bit int) int {
	bound := c.width >> 16 * uint64(p)
	if c.reading {
		if bit = 0; c.at < bound {
			bit = 1
		}
	}
	if bit != 0 {
		c.width = bound
	} else {
		c.zero(bound)
	}
	if c.width < least {
		c.shift()
	}
	return bit
}

// Raw codes the lower bits of a number that nothing is known of.
func (c *Coder) Raw(width int, v uint64) uint64 {
	var out uint64
	for width > 0 {
		n := min(width, 16)
		width -= n
		part := v >> width & (1<<n - 1)
		each := c.width >> n
		if c.reading {
			part = min(c.at/each, 1<<n-1)
		}
		rest := c.width - part*each
		c.zero(part * each)
		if c.width = each; part == 1<<n-1 {
			c.width = rest // nothing of the interval is lost
		}
		if c.width < least {
			c.shift()
		}
		out = out<<n | part
	}
	return out
}
