package agent

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/wire"
)

// followers read the containers' logs into the buffer, one for each life of each container. One goroutine owns it.
type followers struct {
	*device
	ended  chan life
	active map[string]bool
	read   map[string]time.Time // by container: when the life that was read to its end began
	last   map[string]time.Time // by container: the last line that was read
	mu     sync.Mutex           // guards last
}

// life is a container from a start to its end.
type life struct {
	container string
	began     time.Time
	err       error
}

// follow reads what containers write until ctx ends.
func (d *device) follow(ctx context.Context) error {
	f := &followers{device: d, ended: make(chan life), active: map[string]bool{}, read: map[string]time.Time{}, last: map[string]time.Time{}}
	var readers sync.WaitGroup
	defer readers.Wait()
	for {
		l, looked := d.seen.get()
		if l.known && d.logging() {
			f.begin(ctx, l.state, &readers)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-looked:
		case e := <-f.ended:
			delete(f.active, e.container)
			if e.err == nil || errors.Is(e.err, engine.ErrNotFound) {
				f.read[e.container] = e.began
			} else {
				d.Log.Debug("container log cut off", "container", e.container, "err", e.err)
			}
		}
	}
}

// logging reports whether the device is to ship lines.
func (d *device) logging() bool {
	t, _ := d.target.get()
	return t == nil || !strings.EqualFold(t.setting("RESIN_SUPERVISOR_LOG_CONTROL"), "false")
}

// begin starts a reader for every life that has none. A life that is over is read too: it may have been a short one.
func (f *followers) begin(ctx context.Context, state engine.State, readers *sync.WaitGroup) {
	there := func(name string) bool {
		return slices.ContainsFunc(state.Containers, func(c engine.Container) bool { return c.Name == name })
	}
	f.ledger.keepCursors(there)
	f.mu.Lock()
	for name := range f.last {
		if !there(name) {
			delete(f.last, name)
			delete(f.read, name)
		}
	}
	f.mu.Unlock()
	for _, c := range state.Containers {
		level := logLevel(c)
		if c.StartedAt.IsZero() || f.active[c.Name] || f.read[c.Name].Equal(c.StartedAt) || level == "none" || c.Status == engine.Removing {
			continue
		}
		f.active[c.Name] = true
		readers.Go(func() {
			err := f.Engine.Logs(ctx, c.Name, f.since(c.Name), func(l engine.Line) { f.line(c, level, l) })
			if err != nil && !errors.Is(err, engine.ErrNotFound) {
				// The engine is away, or was a moment ago.
				_ = sleep(ctx, 2*time.Second)
			}
			select {
			case f.ended <- life{c.Name, c.StartedAt, err}:
			case <-ctx.Done():
			}
		})
	}
}

// since is the last line that was read in this life of the agent, or sent in an earlier one.
func (f *followers) since(container string) time.Time {
	f.mu.Lock()
	at, ok := f.last[container]
	f.mu.Unlock()
	if ok {
		return at
	}
	return f.ledger.cursor(container)
}

func (f *followers) line(c engine.Container, level string, l engine.Line) {
	f.mu.Lock()
	f.last[c.Name] = l.Time
	f.mu.Unlock()
	if level == "err" && !l.Stderr || !f.logging() {
		return
	}
	// A terminal's line ends in a carriage return.
	out := wire.LogLine{Message: strings.TrimRight(l.Message, "\r"), Timestamp: l.Time.UnixMilli(), IsStdErr: l.Stderr}
	if id, err := strconv.ParseInt(c.Labels[engine.LabelServiceID], 10, 64); err == nil {
		out.ServiceID = &id
	}
	f.lines.add(entry{line: out, container: c.Name, at: l.Time})
}

// logLevel is what a service wants shipped, as its BALENA_LOGS_LEVEL says: none, err or all.
func logLevel(c engine.Container) string {
	for _, name := range []string{"BALENA_LOGS_LEVEL=", "RESIN_LOGS_LEVEL="} {
		for _, e := range c.Env {
			switch v, ok := strings.CutPrefix(e, name); {
			case ok && v == "none":
				return "none"
			case ok && (v == "err" || v == "error"):
				return "err"
			}
		}
	}
	return "all"
}
