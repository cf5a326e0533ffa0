package build

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// maxLine is how much of a line a pusher is shown, in bytes.
const maxLine = 4000

// lines writes whole lines for a person: each with the service's name before it, without terminal controls, and
// without the server's own folders. It may be used concurrently.
type lines struct {
	prefix string
	hide   *strings.Replacer

	mu   sync.Mutex // guards what follows
	w    io.Writer
	rest []byte // of a line that has not ended
}

func newLines(w io.Writer, prefix, project string, folders ...string) *lines {
	pairs := []string{project + "/", "", project, "."}
	for _, f := range folders {
		if abs, err := filepath.Abs(f); err == nil {
			pairs = append(pairs, abs+"/", "", abs, ".")
		}
	}
	return &lines{w: w, prefix: prefix, hide: strings.NewReplacer(pairs...)}
}

// printf writes one line. A pusher who went away does not fail the build: errors of the writer are not looked at.
func (l *lines) printf(format string, args ...any) {
	line := l.prefix + l.clean(fmt.Sprintf(format, args...)) + "\n"
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(l.w, line)
}

// Write takes the output of a program as it comes and writes the lines that are complete.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.rest = append(l.rest, p...)
	var done []string
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 && len(l.rest) > maxLine {
			i = maxLine
		}
		if i < 0 {
			break
		}
		done = append(done, string(l.rest[:i]))
		l.rest = bytes.TrimPrefix(l.rest[i:], []byte("\n"))
	}
	l.mu.Unlock()
	for _, line := range done {
		l.printf("%s", line)
	}
	return len(p), nil
}

// flush writes a last line that had no end.
func (l *lines) flush() {
	l.mu.Lock()
	rest := string(l.rest)
	l.rest = nil
	l.mu.Unlock()
	if rest != "" {
		l.printf("%s", rest)
	}
}

var escapes = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])`)

// clean makes one printable line of text: of a progress bar its last state.
func (l *lines) clean(text string) string {
	text = strings.TrimRight(text, "\r\n")
	if i := strings.LastIndexByte(text, '\r'); i >= 0 {
		text = text[i+1:]
	}
	text = l.hide.Replace(escapes.ReplaceAllString(text, ""))
	text = strings.Map(func(r rune) rune {
		if (r < ' ' && r != '\t') || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
	return shorten(text, maxLine)
}

// shorten cuts text to at most n bytes, at a rune.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// brief is a duration as a person says it.
func brief(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
