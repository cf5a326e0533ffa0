package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	maxLine        = 1 << 20
	historyTimeout = 5 * time.Minute   // all that is kept can be many megabytes
	streamSilence  = 150 * time.Second // a living stream has a heartbeat every 58 s
	firstBackoff   = time.Second
	lastBackoff    = 30 * time.Second
)

// Line is one line of a device's log.
type Line struct {
	Message   string `json:"message"`
	Timestamp int64  `json:"timestamp"` // when it was written, by the device's clock, ms since 1970
	CreatedAt int64  `json:"createdAt"` // when the server took it, ms since 1970
	IsSystem  bool   `json:"isSystem"`  // said by the agent, not by a service
	IsStdErr  bool   `json:"isStdErr"`
	ServiceID int64  `json:"serviceId,omitempty"`
}

// Time is when the line was written.
func (l Line) Time() time.Time { return time.UnixMilli(l.Timestamp) }

// Count of all lines that are kept.
const AllLines = -1

// LogOptions chooses lines. The zero value is no line of history; AllLines is all.
type LogOptions struct {
	Count  int       // of the newest lines of history; AllLines for all
	Since  time.Time // no lines of history that the server took before it; the zero time for no limit
	Follow bool      // go on with new lines until the context ends

	// Position, if it is not nil, is where reading goes on and where it got to. With one that has been used before,
	// Count and Since are not looked at.
	Position *Position
	// Lost, if it is not nil, is told each time a followed stream breaks and is about to be opened again.
	Lost func(err error)
}

// Position is a place in the log of one device. The zero value is before everything. It belongs to one reader.
type Position struct {
	set  bool
	at   int64  // the greatest CreatedAt seen
	seen []Line // lines with that CreatedAt, in order; a history may have begun in their middle

	replaying bool // a new stream repeats what was seen
	next      int  // the line of seen it has yet to repeat
}

// reopen makes ready for a stream that starts again with the lines of p.at.
func (p *Position) reopen() { p.replaying, p.next = true, 0 }

// fresh takes note of a line, and reports whether it has not been seen before. A server stamps many lines with the
// same millisecond, so what a stream repeats is over only when it has repeated all of seen.
func (p *Position) fresh(l Line) bool {
	if p.replaying {
		switch {
		case l.CreatedAt < p.at:
			return false
		case l.CreatedAt == p.at && p.next < len(p.seen):
			if l == p.seen[p.next] {
				p.next++
			}
			return false
		}
		p.replaying = false
	}
	switch {
	case l.CreatedAt > p.at:
		p.at, p.seen = l.CreatedAt, append(p.seen[:0], l)
	case l.CreatedAt == p.at:
		p.seen = append(p.seen, l)
	}
	// A smaller stamp than before: the server's clock was set back. The line is new all the same.
	return true
}

// Logs calls line for the lines of a device's log in the order the server took them, each once. Without Follow it
// ends with the history. With Follow it opens a broken stream again, from where it was, until ctx ends or the
// server says no; a server that cannot be reached in the first place is an error. It returns the first error of
// line as it is.
func (c *Client) Logs(ctx context.Context, uuid string, o LogOptions, line func(Line) error) error {
	p := o.Position
	if p == nil {
		p = &Position{}
	}
	if !p.set {
		if err := c.history(ctx, uuid, o, p, line); err != nil {
			return err
		}
	}
	if !o.Follow {
		return nil
	}
	return persist(ctx, o.Lost, func() (bool, error) { return c.stream(ctx, uuid, p, line) })
}

// persist opens a stream again whenever it breaks, less often the longer nobody is there, until ctx ends, the server
// says no, or the caller's own function fails (a *lineError). lost, if not nil, hears why it broke.
func persist(ctx context.Context, lost func(error), once func() (alive bool, err error)) error {
	for backoff := firstBackoff; ; {
		alive, err := once()
		var said *lineError
		switch status := StatusOf(err); {
		case errors.As(err, &said):
			return said.err
		case ctx.Err() != nil:
			return ctx.Err()
		case status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout:
			return err
		}
		if lost != nil {
			lost(err)
		}
		if alive {
			backoff = firstBackoff
		}
		if err := sleep(ctx, backoff); err != nil {
			return err
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// lineError is an error of the caller's function, which ends everything.
type lineError struct{ err error }

func (e *lineError) Error() string { return e.err.Error() }

// history reads the lines that are there. When none is wanted it asks for the newest all the same, so that the
// position is known and a stream that breaks before its first line loses nothing.
func (c *Client) history(ctx context.Context, uuid string, o LogOptions, p *Position, line func(Line) error) error {
	q := url.Values{}
	switch {
	case o.Count == AllLines:
		q.Set("count", "all")
	default:
		q.Set("count", strconv.Itoa(max(o.Count, 1)))
	}
	if !o.Since.IsZero() {
		q.Set("start", strconv.FormatInt(o.Since.UnixMilli(), 10))
	}
	slow := *c
	slow.Timeout = max(c.Timeout, historyTimeout)
	var lines []Line
	p.at = max(o.Since.UnixMilli(), 0) // the zero time is long before 1970
	if err := slow.call(ctx, http.MethodGet, logPath(uuid), q.Encode(), nil, &lines); err != nil {
		return err
	}
	p.set = true
	for _, l := range lines {
		p.fresh(l)
		if o.Count == 0 {
			continue
		}
		if err := line(l); err != nil {
			return err
		}
	}
	return nil
}

// stream follows one connection, from the position on, until it breaks. alive reports whether anything came.
func (c *Client) stream(ctx context.Context, uuid string, p *Position, line func(Line) error) (alive bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(streamSilence, func() { cancel(errors.New("the stream fell silent")) })
	defer watchdog.Stop()

	p.reopen()
	q := url.Values{"stream": {"1"}, "count": {"all"}}
	if p.at > 0 {
		q.Set("start", strconv.FormatInt(p.at, 10))
	}
	resp, err := c.open(ctx, http.MethodGet, logPath(uuid), q.Encode(), nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close() // only read
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		alive = true
		watchdog.Reset(streamSilence)
		if len(lines.Bytes()) == 0 {
			continue // a heartbeat
		}
		var l Line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return alive, c.unreachable(ctx, fmt.Errorf("read log line: %w", err))
		}
		if !p.fresh(l) {
			continue
		}
		if err := line(l); err != nil {
			return alive, &lineError{err}
		}
	}
	err = lines.Err()
	if err == nil {
		err = io.EOF
	}
	return alive, c.unreachable(ctx, err)
}

func logPath(uuid string) string { return "/device/v2/" + url.PathEscape(uuid) + "/logs" }
