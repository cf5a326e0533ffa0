package dockerengine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/moby/moby/client"
)

// Logs keeps the contract.
func (e *Engine) Logs(ctx context.Context, name string, since time.Time, line func(engine.Line)) error {
	return e.do(ctx, "logs of container "+name, func(api *client.Client) error {
		r, err := find(ctx, api, name)
		if err != nil {
			return err
		}
		options := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: true, Timestamps: true}
		if !since.IsZero() {
			options.Since = since.UTC().Format(time.RFC3339Nano)
		}
		stream, err := api.ContainerLogs(ctx, r.Container.ID, options)
		if err != nil {
			return err
		}
		defer stream.Close()
		after := func(l engine.Line) {
			if l.Time.After(since) { // engines begin with since itself
				line(l)
			}
		}
		if r.Container.Config.Tty {
			err = readTerminal(stream, after)
		} else {
			err = readFrames(stream, after)
		}
		if err == nil {
			err = ctx.Err()
		}
		return err
	})
}

// An engine writes each piece of output it logged with the time before it, RFC 3339 and a space. A piece is a line
// with its end, or 16 KiB of a longer one without, whose next piece has the same time.
const (
	pieceSize  = 16 << 10
	longestTag = 64 // of a time and its space, generously
)

// readFrames reads the stream of a container without a terminal: frames of one piece each with a header that says
// which output it is of and how long (Docker Engine API, "Attach to a container", stream format).
func readFrames(r io.Reader, line func(engine.Line)) error {
	in := bufio.NewReaderSize(r, 32<<10)
	outputs := [2]*assembler{{line: line}, {line: line, stderr: true}}
	for {
		var header [8]byte
		if _, err := io.ReadFull(in, header[:]); err != nil {
			for _, a := range outputs {
				a.finish()
			}
			return ended(err)
		}
		frame := &io.LimitedReader{R: in, N: int64(binary.BigEndian.Uint32(header[4:]))}
		var a *assembler
		switch header[0] {
		case 0, 1:
			a = outputs[0]
		case 2:
			a = outputs[1]
		case 3: // the engine itself: what it cannot read of the log
			text, err := io.ReadAll(io.LimitReader(frame, 1<<10))
			return errors.Join(fmt.Errorf("the engine says: %s", text), ended(err))
		default:
			return fmt.Errorf("log stream: no output has number %d", header[0])
		}
		if err := a.frame(frame); err != nil {
			return ended(err)
		}
	}
}

// frame adds the piece in r.
func (a *assembler) frame(r *io.LimitedReader) error {
	var buf [4 << 10]byte
	var head []byte
	tagged := false
	for r.N > 0 {
		n, err := r.Read(buf[:])
		piece := buf[:n]
		if !tagged {
			head = append(head, piece...)
			i := bytes.IndexByte(head, ' ')
			if i < 0 && len(head) < longestTag && r.N > 0 {
				piece = nil
			} else {
				tagged = true
				piece = a.tag(head, i)
			}
		}
		a.add(piece)
		if err != nil {
			a.finish()
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// tag takes the time off a piece; i is where its space is. What has none keeps the time before.
func (a *assembler) tag(piece []byte, i int) []byte {
	if i > 0 {
		if t, err := time.Parse(time.RFC3339Nano, string(piece[:i])); err == nil {
			if !a.open {
				a.time = t
			}
			return piece[i+1:]
		}
	}
	return piece
}

// readTerminal reads the stream of a container with a terminal: pieces behind each other, with nothing that says
// where one of a long line ends but its size and the time it shares with the next.
func readTerminal(r io.Reader, line func(engine.Line)) error {
	in := bufio.NewReaderSize(r, 32<<10)
	a := &assembler{line: line, terminal: true}
	defer a.finish()
	for {
		tag, err := terminalTag(in)
		if err != nil {
			return ended(err)
		}
		a.tag(tag, len(tag)-1)
		for size, whole := 0, false; !whole; {
			if _, err := in.Peek(1); err != nil {
				return ended(err)
			}
			part, _ := in.Peek(min(in.Buffered(), pieceSize-size))
			if i := bytes.IndexByte(part, '\n'); i >= 0 {
				part, whole = part[:i+1], true
			}
			a.add(part)
			size += len(part)
			in.Discard(len(part))
			if size == pieceSize && !whole {
				size = 0
				if next, _ := in.Peek(len(tag)); len(tag) > 0 && bytes.Equal(next, tag) {
					in.Discard(len(tag))
				}
			}
		}
	}
}

// terminalTag reads the time and its space at the beginning of a line; nil if there is none. It asks for no byte more
// than it needs: the next line may be long in coming.
func terminalTag(in *bufio.Reader) ([]byte, error) {
	for n := 1; n <= longestTag; n++ {
		head, err := in.Peek(n)
		if len(head) == 0 {
			return nil, err
		}
		if err != nil || head[n-1] == '\n' {
			break
		}
		if head[n-1] != ' ' {
			continue
		}
		if _, err := time.Parse(time.RFC3339Nano, string(head[:n-1])); err != nil {
			break
		}
		tag := bytes.Clone(head)
		_, err = in.Discard(n)
		return tag, err
	}
	return nil, nil
}

// ended is the error a stream ended with, nil if it ended as it should.
func ended(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// assembler makes lines of the pieces of one output.
type assembler struct {
	line     func(engine.Line)
	stderr   bool
	terminal bool
	time     time.Time // of the open line
	open     bool      // something of the line has come
	parts    int       // of the open line that were handed on
	rest     []byte
}

// add adds output, which may hold any number of line ends.
func (a *assembler) add(piece []byte) {
	for len(piece) > 0 {
		text, after, whole := bytes.Cut(piece, []byte("\n"))
		a.open = true
		a.rest = append(a.rest, text...)
		for len(a.rest) > engine.MaxLine {
			n := engine.MaxLine
			for n > engine.MaxLine-utf8.UTFMax && !utf8.RuneStart(a.rest[n]) {
				n--
			}
			a.hand(a.rest[:n])
			a.rest = append(a.rest[:0], a.rest[n:]...)
		}
		if whole {
			a.finish()
		}
		piece = after
	}
}

// finish hands on what there is of the open line.
func (a *assembler) finish() {
	if !a.open {
		return
	}
	if a.terminal {
		a.rest = bytes.TrimSuffix(a.rest, []byte("\r"))
	}
	if len(a.rest) > 0 || a.parts == 0 {
		a.hand(a.rest)
	}
	a.open, a.parts, a.rest = false, 0, a.rest[:0]
}

func (a *assembler) hand(text []byte) {
	a.parts++
	a.line(engine.Line{Time: a.time, Stderr: a.stderr, Message: string(text)})
}
