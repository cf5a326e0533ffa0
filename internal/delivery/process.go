package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/dunlin/dunlin/internal/delta"
)

// Command is the word by which the agent's program is told to apply a delta; it is not for people.
const Command = "apply-delta"

const (
	// heap is what an applying process may take before it looks for garbage at every turn, in bytes.
	heap = 30 << 20
	// ceiling is what it may have mapped to write to, in bytes. The runtime maps 64 MiB at a time, so that this is its
	// heap of a good delta, and once more as much.
	ceiling = 192 << 20
	// Processor time that it may take: so many seconds, and one for so many bytes of the new layers. The slowest devices
	// take a tenth of that.
	leastSeconds   = 120
	bytesPerSecond = 64 << 10
	// mostSaid bounds what is read of why it failed, in bytes.
	mostSaid = 8 << 10
)

// Process applies each delta in a process of its own, which takes with it whatever it takes when it ends: a delta that
// breaks it down, or wants more than its share of the device, is one that failed, and the agent goes on.
type Process struct {
	// Program and Args run Work.
	Program string
	Args    []string
}

// known are the errors that callers branch on, in the order of their numbers between the processes.
func known() []error {
	return []error{nil, delta.ErrFormat, delta.ErrVersion, delta.ErrBase, delta.ErrResult}
}

// failure is what a process says when it could not.
type failure struct {
	Known int    `json:"known,omitempty"` // which of these it is; 0 is another
	Why   string `json:"why"`
}

func (f failure) Error() string { return f.Why }

func (f failure) Unwrap() error {
	if all := known(); f.Known > 0 && f.Known < len(all) {
		return all[f.Known]
	}
	return nil
}

// Apply is an Applier.
func (p Process) Apply(ctx context.Context, t Task, w io.Writer) error {
	text, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("tell what to apply: %w", err)
	}
	cmd := exec.CommandContext(ctx, p.Program, p.Args...)
	cmd.Env = []string{fmt.Sprintf("GOMEMLIMIT=%d", heap), "GOGC=50", "GOMAXPROCS=2", "GOTRACEBACK=single"}
	said := &beginning{}
	cmd.Stdout, cmd.Stderr = w, said
	// Its end stays open: the process ends when it closes, as it does when this one is killed.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start applying: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start applying: %w", err), stdin.Close())
	}
	_, told := stdin.Write(append(text, '\n'))
	err = cmd.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	var f failure
	if json.Unmarshal(said.Bytes(), &f) == nil && f.Why != "" {
		return f
	}
	first, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
	return errors.Join(fmt.Errorf("the process that applies it ended: %w: %s", err, first), told)
}

// beginning keeps the first of what is written.
type beginning struct{ bytes.Buffer }

func (b *beginning) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), mostSaid-b.Len())])
	return len(p), nil
}

// Work is the process that applies one delta: it reads the task, writes what an Applier does and returns the exit code.
func Work(in io.Reader, out, errOut io.Writer) int {
	err := obey(in, out)
	if err == nil {
		return 0
	}
	f := failure{Why: err.Error()}
	for i, one := range known() {
		if one != nil && errors.Is(err, one) {
			f.Known = i
			break
		}
	}
	if err := json.NewEncoder(errOut).Encode(f); err != nil {
		return 2
	}
	return 1
}

func obey(in io.Reader, out io.Writer) error {
	d := json.NewDecoder(in)
	var t Task
	if err := d.Decode(&t); err != nil {
		return fmt.Errorf("read what to apply: %w", err)
	}
	go func() {
		// Nothing more is said. When it ends, nobody is there for whom to go on.
		_, _ = io.Copy(io.Discard, in)
		os.Exit(3)
	}()
	// What is short of memory loses this process first.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("900"), 0) // some containers do not allow it
	// What it has written to, not what it has reserved.
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: ceiling, Max: ceiling}); err != nil {
		return fmt.Errorf("bound the memory of applying: %w", err)
	}
	return Apply(context.Background(), t, &timed{w: out})
}

// timed bounds the processor time of this process by what it is about to make.
type timed struct {
	w    io.Writer
	told bool
}

func (t *timed) Write(p []byte) (int, error) {
	if !t.told {
		t.told = true
		var h head
		line, _, _ := bytes.Cut(p, []byte("\n"))
		if err := json.Unmarshal(line, &h); err != nil {
			return 0, fmt.Errorf("see how large it will be: %w", err)
		}
		seconds := uint64(leastSeconds + h.Bytes/bytesPerSecond)
		if err := syscall.Setrlimit(syscall.RLIMIT_CPU, &syscall.Rlimit{Cur: seconds, Max: seconds}); err != nil {
			return 0, fmt.Errorf("bound the time of applying: %w", err)
		}
	}
	return t.w.Write(p)
}
