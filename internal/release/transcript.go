package release

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// maxLog bounds the build log that a release keeps, in bytes; the end of a longer one is kept.
const maxLog = 300 << 10

// transcript sends lines to whoever watches and keeps the end of them for the release. It may be written to
// concurrently; a watcher that went away does not end the build by itself.
type transcript struct {
	mu   sync.Mutex
	out  io.Writer
	kept bytes.Buffer
}

func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out.Write(b) // the watcher's going shows in the context
	t.kept.Write(b)
	if over := t.kept.Len() - maxLog; over > maxLog/4 {
		t.kept.Next(over)
	}
	return len(b), nil
}

// keep adds text to what is kept, and says nothing.
func (t *transcript) keep(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept.WriteString(text)
}

func (t *transcript) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

func (t *transcript) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.kept.Bytes()
	if len(b) > maxLog {
		b = b[len(b)-maxLog:]
	}
	return string(bytes.ToValidUTF8(b, []byte("�")))
}
