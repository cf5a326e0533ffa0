package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/wire"
)

// segment is one file of a device's log.
type segment struct {
	first int64 // number of its first line
	start int64 // when it was begun, ms since 1970
	size  int64 // bytes of whole lines
}

// name sorts by the number of the first line.
func (s segment) name() string { return fmt.Sprintf("%016d-%d.ndjson", s.first, s.start) }

var names = regexp.MustCompile(`^(\d{16})-(\d{1,18})\.ndjson$`)

// list finds the segments of a folder, oldest first. Other files are left alone; no folder is no segments.
func list(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var segments []segment
	for _, e := range entries {
		m := names.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		first, _ := strconv.ParseInt(m[1], 10, 64)
		start, _ := strconv.ParseInt(m[2], 10, 64)
		segments = append(segments, segment{first: first, start: start, size: info.Size()})
	}
	slices.SortFunc(segments, func(a, b segment) int { return int(a.first - b.first) })
	return segments, nil
}

// chunkBytes is read at a time; the longest whole line fits in it.
const chunkBytes = 2 * wire.MaxLogLine

// repair counts the lines of a segment and takes off what stands behind the last of them.
func (d *device) repair(ctx context.Context, s segment) (lines, size int64, err error) {
	f, done, err := d.store.open(ctx, filepath.Join(d.dir, s.name()), os.O_RDWR)
	if err != nil {
		return 0, 0, err
	}
	defer done()
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := make([]byte, chunkBytes)
	var at int64
	for {
		n, err := f.Read(buf)
		lines += int64(bytes.Count(buf[:n], []byte{'\n'}))
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			size = at + int64(i) + 1
		}
		at += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if at > size {
		err = f.Truncate(size)
	}
	return lines, size, err
}

// cursor is a place in a log.
type cursor struct {
	segment int64 // first line of the segment it is in
	offset  int64 // in that segment
	line    int64 // number of the line at offset
	from    int64 // lines before this number are passed over
	torn    bool  // offset is inside of a line that is too long to be one
}

// last is the place before the last count lines; all of them if count is negative.
func (v view) last(count int) cursor {
	c := cursor{segment: v.next, line: v.next}
	if n := len(v.segments); n > 0 && count == 0 {
		s := v.segments[n-1]
		return cursor{segment: s.first, offset: s.size, line: v.next}
	}
	if count >= 0 {
		c.from = v.next - int64(count)
	}
	for _, s := range slices.Backward(v.segments) {
		c.segment, c.line = s.first, s.first
		if c.line <= c.from {
			break
		}
	}
	c.from = max(c.from, c.line)
	return c
}

// settle moves c to the segment it should read from next, and counts the lines that are no longer there.
// ok is false at the end of the log.
func (v view) settle(c *cursor) (s segment, missed int64, ok bool) {
	for _, s := range v.segments {
		switch {
		case s.first < c.segment, s.first == c.segment && c.offset >= s.size:
			continue
		case s.first > c.segment:
			missed = max(0, s.first-max(c.line, c.from))
			*c = cursor{segment: s.first, line: s.first, from: max(c.from, s.first)}
		}
		if c.offset < s.size {
			return s, missed, true
		}
	}
	return segment{}, missed, false
}

// read returns some lines from c on and moves c behind them. more is false when c is at the end of v; missed lines
// were to come before the returned ones and are not kept any more. Bytes that are no line are passed over.
func (d *device) read(ctx context.Context, v view, c *cursor) (lines []wire.LogLine, missed int64, more bool, err error) {
	s, missed, ok := v.settle(c)
	if !ok {
		return nil, missed, false, nil
	}
	buf, err := d.chunk(ctx, s, c.offset)
	if err != nil {
		return nil, missed, false, err
	}
	if len(buf) == 0 { // retention was faster: the next segment's number tells how many lines are gone
		c.offset = s.size
		return nil, missed, true, nil
	}
	cutoff := d.store.cutoff()
	rest := buf
	for {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		if c.line >= c.from && !c.torn {
			if l, ok := decode(rest[:i]); ok && l.CreatedAt >= cutoff {
				lines = append(lines, l)
			}
		}
		c.line++
		c.torn = false
		rest = rest[i+1:]
	}
	switch {
	case c.offset+int64(len(buf)) >= s.size: // nothing whole comes behind in this segment
		c.offset, c.torn = s.size, false
	case len(rest) == len(buf):
		c.offset, c.torn = c.offset+int64(len(buf)), true
	default:
		c.offset += int64(len(buf) - len(rest))
	}
	return lines, missed, true, nil
}

// chunk reads up to chunkBytes of a segment; none if the file is gone or shorter.
func (d *device) chunk(ctx context.Context, s segment, offset int64) (buf []byte, err error) {
	f, done, err := d.store.open(ctx, filepath.Join(d.dir, s.name()), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer done()
	defer f.Close()
	buf = make([]byte, min(chunkBytes, s.size-offset))
	n, err := f.ReadAt(buf, offset)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return buf[:n], nil
}

// encode makes one line of a segment, at most wire.MaxLogLine long.
func encode(l wire.LogLine, now int64) []byte {
	l.CreatedAt = now
	if n := wire.MaxLogMessage; len(l.Message) > n {
		for n > 0 && !utf8.RuneStart(l.Message[n]) {
			n--
		}
		l.Message = l.Message[:n]
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		panic("logs: a log line is always JSON: " + err.Error())
	}
	return b.Bytes()
}

// decode reads one line of a segment; ok is false for what encode did not make.
func decode(b []byte) (l wire.LogLine, ok bool) {
	err := json.Unmarshal(b, &l)
	return l, err == nil && l.CreatedAt > 0
}
