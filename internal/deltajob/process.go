package deltajob

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/fault"
)

// Encoder makes deltas; Process is one.
type Encoder interface {
	// Encode makes a delta, until ctx ends. Its files are then in the task's folder.
	Encode(ctx context.Context, t Task) (Made, error)
}

// Command is the word by which a program is told to make a delta; it is not for people.
const Command = "delta-encoder"

// niceness puts what is made behind all else that wants the processor.
const niceness = 15

// Process makes each delta in a process of its own.
type Process struct {
	// Program and Args run Work.
	Program string
	Args    []string
	// Memory is how much it may use, in bytes; 0 means 1 GiB. Three times that and it is ended.
	Memory int64
	// Unlimited does not end it: the race detector's memory is not its own.
	Unlimited bool
	Log       *slog.Logger
}

// order is what the process is told: a task whose files are open, from 3 on, the old image's layers first.
type order struct {
	Format  string  `json:"format"`
	Dir     string  `json:"dir"`
	Limit   int64   `json:"limit"`
	Disk    int64   `json:"disk,omitempty"`
	Memory  int64   `json:"memory"`
	Ceiling uint64  `json:"ceiling,omitempty"`
	Old     picture `json:"old"`
	New     picture `json:"new"`
}

// picture is an image without its files.
type picture struct {
	Manifest Descriptor `json:"manifest"`
	Config   []byte     `json:"config"`
	ID       string     `json:"id"`
	DiffIDs  []string   `json:"diffIds"`
	Sizes    []int64    `json:"sizes"`
}

// outcome is what the process says.
type outcome struct {
	Made    *Made  `json:"made,omitempty"`
	Useless bool   `json:"useless,omitempty"`
	Invalid bool   `json:"invalid,omitempty"` // it will never be made
	Error   string `json:"error,omitempty"`
}

// Encode runs the process. It ends with ctx, and when this process ends, however that does.
func (p Process) Encode(ctx context.Context, t Task) (Made, error) {
	memory := p.Memory
	if memory <= 0 {
		memory = 1 << 30
	}
	dir, err := filepath.Abs(t.Dir)
	if err != nil {
		return Made{}, fmt.Errorf("find the folder of a delta: %w", err)
	}
	o := order{Format: t.Format, Dir: dir, Limit: t.Limit, Disk: t.Disk, Memory: memory, Old: t.Old.picture(), New: t.New.picture()}
	if !p.Unlimited {
		o.Ceiling = uint64(3*memory) + 256<<20
	}
	text, err := json.Marshal(o)
	if err != nil {
		return Made{}, fmt.Errorf("tell what to make: %w", err)
	}
	cmd := exec.CommandContext(ctx, p.Program, p.Args...)
	cmd.Env = []string{"TMPDIR=" + dir, fmt.Sprintf("GOMEMLIMIT=%d", memory), "GOMAXPROCS=2", "GOTRACEBACK=single"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, image := range []*Image{t.Old, t.New} {
		for _, l := range image.Layers {
			cmd.ExtraFiles = append(cmd.ExtraFiles, l.File)
		}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return Made{}, fmt.Errorf("start the encoder: %w", err)
	}
	out, said := &clipped{most: 16 << 20}, &clipped{most: 8 << 10}
	cmd.Stdout, cmd.Stderr = out, said
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return Made{}, errors.Join(fmt.Errorf("start the encoder: %w", err), stdin.Close())
	}
	// The other end stays open: the encoder ends when it closes, as it does when this process is killed.
	_, told := stdin.Write(append(text, '\n'))
	err = cmd.Wait()
	if ctx.Err() != nil {
		return Made{}, context.Cause(ctx)
	}
	p.tell(t, cmd.ProcessState)
	if err != nil {
		return Made{}, fmt.Errorf("the encoder ended early: %w: %s", err, firstLines(said.String(), dir))
	}
	var result outcome
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		return Made{}, errors.Join(fmt.Errorf("read what the encoder says: %w", err), told)
	}
	reason := strings.ReplaceAll(result.Error, dir+string(filepath.Separator), "")
	switch {
	case result.Useless:
		return Made{}, ErrUseless
	case result.Invalid:
		return Made{}, fault.New(fault.Invalid, reason)
	case result.Made == nil:
		return Made{}, errors.New(reason)
	}
	return *result.Made, nil
}

// tell logs what a delta has cost.
func (p Process) tell(t Task, state *os.ProcessState) {
	if p.Log == nil {
		return
	}
	usage, _ := state.SysUsage().(*syscall.Rusage)
	var peak int64
	if usage != nil {
		peak = int64(usage.Maxrss) << 10 // KiB on Linux
	}
	p.Log.Debug("encoder ended", "format", t.Format, "to", t.New.ID, "cpu", (state.UserTime() + state.SystemTime()).Round(time.Millisecond), "peakBytes", peak)
}

func (i *Image) picture() picture {
	p := picture{Manifest: i.Manifest, Config: i.Config, ID: i.ID}
	for _, l := range i.Layers {
		p.DiffIDs, p.Sizes = append(p.DiffIDs, l.DiffID), append(p.Sizes, l.Size)
	}
	return p
}

// open is the image of a picture whose files are open from fd on.
func (p picture) open(fd int) (*Image, int) {
	i := &Image{Manifest: p.Manifest, Config: p.Config, ID: p.ID}
	for n := range p.DiffIDs {
		i.Layers = append(i.Layers, Layer{DiffID: p.DiffIDs[n], Size: p.Sizes[n], File: os.NewFile(uintptr(fd), fmt.Sprintf("layer %d", n))})
		fd++
	}
	return i, fd
}

// firstLines are the beginning of what a process said before it ended, without the folder it worked in.
func firstLines(text, dir string) string {
	lines := strings.SplitN(strings.ReplaceAll(text, dir+string(filepath.Separator), ""), "\n", 4)
	return strings.TrimSpace(strings.Join(lines[:min(3, len(lines))], "; "))
}

// clipped keeps the beginning of what is written.
type clipped struct {
	bytes.Buffer
	most int
}

func (c *clipped) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:max(0, min(len(p), c.most-c.Len()))])
	return len(p), nil
}

// Work is the process that makes one delta: it reads the order, makes, says what it made and returns the exit code.
func Work(in io.Reader, out, errOut io.Writer, makers map[string]Maker) int {
	var o order
	d := json.NewDecoder(in)
	if err := d.Decode(&o); err != nil {
		fmt.Fprintln(errOut, "read the order:", err)
		return 2
	}
	go func() {
		// Nothing more is said. When it ends, nobody is there for whom to go on.
		_, _ = io.Copy(io.Discard, in)
		os.Exit(3)
	}()
	if err := humble(o); err != nil {
		fmt.Fprintln(errOut, "take the place of a process in the background:", err)
		return 2
	}
	result := o.make(makers)
	if err := json.NewEncoder(out).Encode(result); err != nil {
		fmt.Fprintln(errOut, "say what was made:", err)
		return 2
	}
	return 0
}

func (o order) make(makers map[string]Maker) outcome {
	maker := makers[o.Format]
	if maker == nil {
		return outcome{Invalid: true, Error: fmt.Sprintf("there is no format %q", o.Format)}
	}
	t := Task{Format: o.Format, Limit: o.Limit, Dir: o.Dir, Disk: o.Disk, Memory: o.Memory * 3 / 4}
	var fd int
	t.Old, fd = o.Old.open(3)
	t.New, _ = o.New.open(fd)
	made, err := maker(context.Background(), t)
	switch {
	case errors.Is(err, ErrUseless):
		return outcome{Useless: true, Error: err.Error()}
	case errors.Is(err, delta.ErrDisk), errors.Is(err, syscall.EFBIG):
		return outcome{Invalid: true, Error: errRoom.Error()}
	case err != nil:
		return outcome{Invalid: fault.Is(err, fault.Invalid), Error: err.Error()}
	}
	return outcome{Made: &made}
}

// humble lets everything else on the machine go first, also when memory is short.
func humble(o order) error {
	// This process leads a group of its own, so that all its threads are meant.
	if err := syscall.Setpriority(syscall.PRIO_PGRP, 0, niceness); err != nil {
		return err
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("900"), 0) // some containers do not allow it
	if o.Disk > 0 {
		// Of a single file; all of them are counted where they are written, or seen in time.
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(o.Disk), Max: uint64(o.Disk)}); err != nil {
			return err
		}
	}
	if o.Ceiling == 0 {
		return nil
	}
	// What it has written to, not what it has reserved.
	return syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: o.Ceiling, Max: o.Ceiling})
}
