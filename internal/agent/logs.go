package agent

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/dunlin/dunlin/internal/wire"
)

const (
	bufferSize = 256 << 10 // bytes of messages that wait to be sent
	lineCost   = 64        // bytes a line costs beside its message

	logGather    = 100 * time.Millisecond // lines are flushed together that long after the first
	logKeepAlive = 20 * time.Second       // an idle stream says that it lives
	logIdle      = time.Minute            // and is closed when nothing was written for that long
	logGoodbye   = 5 * time.Second        // for the server to answer to the end
)

// entry is a line on its way: what is sent, and which cursor it moves.
type entry struct {
	line      wire.LogLine
	container string // "" for the agent's own
	at        time.Time
}

func (e entry) cost() int { return len(e.line.Message) + lineCost }

// buffer holds the lines that wait. When it is full the oldest go, and it counts them.
type buffer struct {
	mu      sync.Mutex
	entries []entry
	bytes   int
	dropped int
	ready   chan struct{} // holds a token while there may be lines
}

func newBuffer() *buffer { return &buffer{ready: make(chan struct{}, 1)} }

func (b *buffer) add(e entry) {
	b.mu.Lock()
	b.entries = append(b.entries, e)
	b.bytes += e.cost()
	b.trim()
	b.mu.Unlock()
	b.signal()
}

func (b *buffer) signal() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// trim drops the oldest lines of a buffer that is too full. The caller holds the lock.
func (b *buffer) trim() {
	n := 0
	for b.bytes > bufferSize && n < len(b.entries) {
		b.bytes -= b.entries[n].cost()
		n++
	}
	b.dropped += n
	b.entries = b.entries[n:]
}

// batch is what was taken out of a buffer, with how many lines are missing before it.
type batch struct {
	entries []entry
	dropped int
}

func (b *buffer) take() batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := batch{b.entries, b.dropped}
	b.entries, b.bytes, b.dropped = nil, 0, 0
	return t
}

// giveBack puts lines that were not sent before those that came since.
func (b *buffer) giveBack(t batch) {
	if t.empty() {
		return
	}
	b.mu.Lock()
	b.entries = append(t.entries, b.entries...)
	b.dropped += t.dropped
	for _, e := range t.entries {
		b.bytes += e.cost()
	}
	b.trim()
	b.mu.Unlock()
	b.signal()
}

func (t batch) empty() bool { return len(t.entries) == 0 && t.dropped == 0 }

// lines are what is sent of a batch: a line in the place of the missing ones, and the lines.
func (t batch) lines(now time.Time) []wire.LogLine {
	var list []wire.LogLine
	if t.dropped > 0 {
		if len(t.entries) > 0 {
			now = t.entries[0].at
		}
		list = append(list, systemLine(fmt.Sprintf("Dropped %d log lines: more were written than could be sent", t.dropped), now))
	}
	for _, e := range t.entries {
		list = append(list, e.line)
	}
	return list
}

func systemLine(message string, at time.Time) wire.LogLine {
	return wire.LogLine{Message: message, Timestamp: at.UnixMilli(), IsSystem: true}
}

// system writes a line of the agent's own into the device's log.
func (d *device) system(message string) {
	if !d.logging() {
		return
	}
	now := time.Now()
	d.lines.add(entry{line: systemLine(message, now), at: now})
}

// ship sends the lines until ctx ends: one stream, opened when there is something to say.
func (d *device) ship(ctx context.Context) error {
	again := backoff{first: 5 * time.Second, most: 5 * time.Minute}
	for {
		select {
		case <-ctx.Done():
			// The last words of a short life still go out, if the server is there.
			if taken := d.lines.take(); !taken.empty() {
				d.lines.giveBack(taken)
				_ = d.stream(ctx)
			}
			return nil
		case <-d.lines.ready:
		}
		opened := time.Now()
		err := d.stream(ctx)
		if err := d.ledger.saveCursors(); err != nil {
			d.Log.Debug("log cursors not kept", "err", err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(opened) >= logIdle {
			again.reset()
		}
		if err == nil {
			continue
		}
		d.lines.signal() // what was not sent waits
		wait := again.next()
		if r := refusalOf(err); r != nil {
			wait = max(wait, r.retryAfter())
		}
		d.Log.Debug("log stream ended", "err", err, "retry", wait.Round(time.Second))
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// stream is one log stream, from its first lines to its end by idleness, by an error or by ctx.
func (d *device) stream(ctx context.Context) error {
	// The request outlives ctx by the time it takes to end it in order.
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(logGoodbye, cancel) })
	defer stop()
	reader, writer := io.Pipe()
	req, err := d.server.request(call, "POST", "/device/v2/"+d.config.UUID+"/log-stream", d.config.DeviceAPIKey, reader)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", wire.ContentTypeLogs)
	req.Header.Set("Content-Encoding", "gzip")
	// A server that will not have the stream says so before lines are lost in it.
	req.Header.Set("Expect", "100-continue")
	answered := make(chan error, 1)
	go func() {
		resp, err := d.server.http.Do(req)
		if err == nil {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
			resp.Body.Close()
			err = &refusal{answer{resp.StatusCode, resp.Header, body}}
		}
		reader.CloseWithError(err)
		answered <- err
	}()
	s := &logStream{device: d, pipe: writer, zip: gzip.NewWriter(writer)}
	err = s.run(ctx, answered)
	if err != nil {
		writer.CloseWithError(err)
		cancel()
	}
	var goodbye error
	select {
	case goodbye = <-answered:
	case <-time.After(logGoodbye):
		cancel()
		goodbye = errors.Join(errors.New("the server did not answer the end of the log stream"), <-answered)
	}
	if r := refusalOf(goodbye); err == nil && r != nil && r.status < 300 {
		return nil
	}
	return errors.Join(err, goodbye)
}

// logStream writes one stream's body.
type logStream struct {
	*device
	pipe *io.PipeWriter
	zip  *gzip.Writer
}

// run writes until it ends the body by itself (nil), or cannot go on. A server that answers before has had enough.
func (s *logStream) run(ctx context.Context, answered chan error) error {
	written := time.Now()
	saved := written
	for {
		if err := s.flush(); err != nil {
			return err
		}
		if now := time.Now(); now.Sub(saved) >= 5*time.Second {
			saved = now
			if err := s.ledger.saveCursors(); err != nil {
				s.Log.Debug("log cursors not kept", "err", err)
			}
		}
		alive := time.NewTimer(logKeepAlive)
		select {
		case <-s.lines.ready:
			alive.Stop()
			written = time.Now()
			if sleep(ctx, logGather) == nil {
				continue
			}
			if err := s.flush(); err != nil {
				return err
			}
			return s.close()
		case err := <-answered:
			alive.Stop()
			answered <- err
			return errors.New("the server ended the log stream")
		case <-ctx.Done():
			alive.Stop()
			if err := s.flush(); err != nil {
				return err
			}
			return s.close()
		case <-alive.C:
			if time.Since(written) >= logIdle {
				return s.close()
			}
			if _, err := s.zip.Write([]byte("\n")); err != nil {
				return fmt.Errorf("write log stream: %w", err)
			}
			if err := s.zip.Flush(); err != nil {
				return fmt.Errorf("write log stream: %w", err)
			}
		}
	}
}

// flush sends what waits. Lines count as sent when they have left; those that have not go back to the buffer.
func (s *logStream) flush() error {
	taken := s.lines.take()
	if taken.empty() {
		return nil
	}
	err := func() error {
		for _, l := range taken.lines(time.Now()) {
			b, err := json.Marshal(l)
			if err != nil {
				return err
			}
			if _, err := s.zip.Write(append(b, '\n')); err != nil {
				return err
			}
		}
		return s.zip.Flush()
	}()
	if err != nil {
		s.lines.giveBack(taken)
		return fmt.Errorf("write log stream: %w", err)
	}
	for _, e := range taken.entries {
		if e.container != "" {
			s.ledger.sent(e.container, e.at)
		}
	}
	return nil
}

func (s *logStream) close() error {
	if err := s.zip.Close(); err != nil {
		return fmt.Errorf("end log stream: %w", err)
	}
	return s.pipe.Close()
}
