package deviceapi

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/wire"
)

// Bounds of one log stream. Devices close a stream that has nothing to say after a minute.
const (
	streamIdle   = 2 * time.Minute
	streamWindow = 10 * time.Second
	streamLines  = 10_000 // per window; more are counted, not kept
	streamBatch  = 500
)

// logStream takes a device's log lines as they come (protocol §3.1). It answers only when the device has ended the
// stream: any earlier answer is a failure to a stock supervisor.
func (s *Server) logStream(w http.ResponseWriter, r *http.Request) error {
	d, err := s.speaking(r, r.PathValue("uuid"))
	if err != nil {
		return err
	}
	if r.Header.Get("Content-Type") != wire.ContentTypeLogs {
		http.Error(w, "a log stream is "+wire.ContentTypeLogs, http.StatusUnsupportedMediaType)
		return nil
	}
	// Without this an error in the middle would wait for a quarter of a megabyte more of the stream.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	p := &patient{ctx: r.Context(), body: r.Body, control: http.NewResponseController(w)}
	defer context.AfterFunc(r.Context(), p.hurry)()
	body := io.Reader(p)
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "the log stream is not gzip")
		}
		body = z
	case "", "identity":
	default:
		http.Error(w, "a log stream is gzip or plain, not "+encoding, http.StatusUnsupportedMediaType)
		return nil
	}
	// What is read is kept, also when the device breaks off in the middle of it.
	keep := func(lines []wire.LogLine) error {
		return s.Logs.Append(context.WithoutCancel(r.Context()), d.UUID, lines)
	}
	if err := copyLines(body, keep); err != nil {
		if r.Context().Err() != nil {
			return r.Context().Err()
		}
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// copyLines hands the lines of a stream to keep, in batches that end whenever the stream pauses.
func copyLines(stream io.Reader, keep func([]wire.LogLine) error) error {
	in := bufio.NewReaderSize(stream, wire.MaxLogLine)
	m := meter{}
	var batch []wire.LogLine
	flush := func(last bool) error {
		if batch = append(batch, m.warning(last)...); len(batch) == 0 {
			return nil
		}
		err := keep(batch)
		batch = batch[:0]
		return err
	}
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			// Longer than any honest line: drop it to its end.
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			line = nil
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			l, ok, parseErr := wire.ParseLogLine(line)
			if parseErr != nil && err == nil {
				return errors.Join(flush(true), fault.Wrap(fault.Invalid, parseErr, "the log stream is not lines of JSON"))
			}
			if ok && m.admit(time.Now()) {
				batch = append(batch, l)
			}
		}
		if err != nil || !whole(in) || len(batch) >= streamBatch {
			if e := flush(err != nil); e != nil {
				return fmt.Errorf("keep log lines: %w", e)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fault.Wrap(fault.Invalid, err, "the log stream broke off")
		}
	}
}

// whole reports whether another whole line has arrived already, so that reading it does not block.
func whole(in *bufio.Reader) bool {
	arrived, err := in.Peek(in.Buffered())
	return err == nil && bytes.IndexByte(arrived, '\n') >= 0
}

// meter keeps a chattering device from filling its own log in minutes.
type meter struct {
	began      time.Time
	lines      int
	suppressed int
}

func (m *meter) admit(now time.Time) bool {
	if now.Sub(m.began) >= streamWindow {
		m.began, m.lines = now, 0
	}
	m.lines++
	if m.lines > streamLines {
		m.suppressed++
		return false
	}
	return true
}

// warning is the line that stands for those that were suppressed, once the window has passed or the stream ends.
func (m *meter) warning(last bool) []wire.LogLine {
	if m.suppressed == 0 || m.lines > streamLines && !last {
		return nil
	}
	l := wire.LogLine{
		Message:   fmt.Sprintf("Warning: Suppressed %d message(s) due to rate limiting", m.suppressed),
		Timestamp: time.Now().UnixMilli(), IsSystem: true,
	}
	m.suppressed = 0
	return []wire.LogLine{l}
}

// patient gives a device streamIdle for every piece of its stream, and nothing more once the request has ended.
type patient struct {
	ctx     context.Context // of the one request that is being read
	body    io.Reader
	control *http.ResponseController
}

// hurry ends a read that is under way.
func (p *patient) hurry() { _ = p.control.SetReadDeadline(time.Unix(1, 0)) }

func (p *patient) Read(b []byte) (int, error) {
	// A server that cannot set deadlines (a test's recorder) reads without one.
	if err := p.control.SetReadDeadline(time.Now().Add(streamIdle)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	if err := p.ctx.Err(); err != nil {
		return 0, err // the end came before the deadline was set, so it has not hurried this read
	}
	return p.body.Read(b)
}
