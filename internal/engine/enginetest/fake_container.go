package enginetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/engine"
)

// container is one container of a Fake: what Inspect shows, what it will do and when.
type container struct {
	engine.Container
	does    Behaviour
	byHand  bool // stopped by Stop: its restart policy rests
	exitAt  time.Time
	code    int // at exitAt
	againAt time.Time
	delay   time.Duration // before the next restart
	checkAt time.Time
	failed  int // checks in a row
	unsaid  []engine.Line
	lines   []engine.Line
}

// An engine waits this long before it restarts a container, and twice as long each time it ends again within steady.
const (
	firstDelay   = 100 * time.Millisecond
	longestDelay = time.Minute
	steady       = 10 * time.Second
)

// defaultGrace is what a container gets to end in when nobody says otherwise.
const defaultGrace = 10 * time.Second

func (c *container) alive() bool { return c.Status == engine.Running || c.Status == engine.Paused }

func (c *container) inspect() engine.Container { return normal(c.Container) }

// due is when c next does something by itself, or zero.
func (c *container) due() time.Time {
	var at time.Time
	for _, t := range []time.Time{c.exitAt, c.againAt, c.checkAt} {
		at = earlier(at, t)
	}
	if len(c.unsaid) > 0 {
		at = earlier(at, c.unsaid[0].Time)
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (f *Fake) due() time.Time {
	var at time.Time
	for _, c := range f.containers {
		at = earlier(at, c.due())
	}
	return at
}

// advance does everything that was due by now, in the order it was.
func (f *Fake) advance(now time.Time) {
	for {
		var next *container
		for _, name := range slices.Sorted(maps.Keys(f.containers)) {
			c := f.containers[name]
			if at := c.due(); !at.IsZero() && !at.After(now) && (next == nil || at.Before(next.due())) {
				next = c
			}
		}
		if next == nil {
			return
		}
		switch at := next.due(); {
		case len(next.unsaid) > 0 && next.unsaid[0].Time.Equal(at): // a last line comes before its container's end
			next.lines = append(next.lines, next.unsaid[0])
			next.unsaid = next.unsaid[1:]
			close(f.wake) // Logs wants to know, Events does not
			f.wake = make(chan struct{})
		case next.checkAt.Equal(at):
			f.check(next)
		case next.exitAt.Equal(at):
			f.end(next, at)
		default:
			f.run(next, at)
		}
	}
}

// run starts c at the time at.
func (f *Fake) run(c *container, at time.Time) {
	c.does = Behaviour{}
	if i := f.image(c.Image); i != nil && i.of != nil && i.of.Run != nil {
		c.does = i.of.Run(World{Container: c.inspect(), files: f.filesOf(c), lookup: f.lookupOf(c)})
	}
	c.Status, c.StartedAt, c.FinishedAt, c.ExitCode = engine.Running, at, time.Time{}, 0
	c.exitAt, c.againAt, c.checkAt, c.failed, c.Health = time.Time{}, time.Time{}, time.Time{}, 0, ""
	if c.does.Exits {
		c.exitAt, c.code = at.Add(c.does.After), c.does.Code
	}
	if h := c.Healthcheck; h != nil && len(h.Test) > 0 && h.Test[0] != "NONE" {
		c.Health, c.checkAt = "starting", at.Add(interval(h))
	}
	for _, w := range c.does.Lines {
		f.say(c, at.Add(w.After), w.Stderr, w.Message)
	}
	f.touch()
}

// say has c write a line, at a time that no line of it has yet.
func (f *Fake) say(c *container, at time.Time, stderr bool, text string) {
	last := c.unsaid
	if len(last) == 0 {
		last = c.lines
	}
	if n := len(last); n > 0 && !at.After(last[n-1].Time) {
		at = last[n-1].Time.Add(1)
	}
	for {
		n := min(len(text), engine.MaxLine)
		for n < len(text) && n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		c.unsaid = append(c.unsaid, engine.Line{Time: at, Stderr: stderr, Message: text[:n]})
		if text = text[n:]; text == "" {
			return
		}
	}
}

// end ends c's process at the time at, and has its restart policy decide what follows.
func (f *Fake) end(c *container, at time.Time) {
	for len(c.unsaid) > 0 { // what it wrote in its last nanoseconds
		if !c.unsaid[0].Time.After(at.Add(time.Microsecond)) {
			c.lines = append(c.lines, c.unsaid[0])
		}
		c.unsaid = c.unsaid[1:]
	}
	ran := at.Sub(c.StartedAt)
	c.Status, c.ExitCode, c.FinishedAt, c.Health = engine.Exited, c.code, at, ""
	c.exitAt, c.checkAt = time.Time{}, time.Time{}
	policy, limit := restart(c.Restart)
	again := !c.byHand && (policy == "always" || policy == "unless-stopped" ||
		policy == "on-failure" && c.code != 0 && (limit == 0 || c.Restarts < limit))
	if again {
		if c.delay == 0 || ran > steady {
			c.delay = firstDelay
		}
		c.Restarts++
		c.Status, c.againAt = engine.Restarting, at.Add(c.delay)
		c.delay = min(2*c.delay, longestDelay)
	}
	f.touch()
}

// check does one health check of c. When nothing can change any more there is no next one.
func (f *Fake) check(c *container) {
	at, h := c.checkAt, c.Healthcheck
	c.checkAt = time.Time{}
	if !c.does.Unhealthy {
		c.Health = "healthy"
		f.touch()
		return
	}
	if at.Sub(c.StartedAt) > h.StartPeriod {
		c.failed++
	}
	limit := h.Retries
	if limit == 0 {
		limit = 3
	}
	if c.failed >= limit {
		c.Health = "unhealthy"
		f.touch()
		return
	}
	c.checkAt = at.Add(interval(h))
}

func interval(h *engine.Healthcheck) time.Duration {
	if h.Interval == 0 {
		return 30 * time.Second
	}
	return h.Interval
}

func restart(policy string) (name string, limit int) {
	name, n, _ := strings.Cut(policy, ":")
	fmt.Sscan(n, &limit)
	return name, limit
}

// Create keeps the contract.
func (f *Fake) Create(ctx context.Context, c engine.Container) error {
	return f.act(ctx, "create", c.Name, func(now time.Time) error {
		if old, ok := f.containers[c.Name]; ok {
			if err := ours(old.Labels, "container", c.Name); err != nil {
				return err
			}
			for k, v := range c.Labels {
				if had, ok := old.Labels[k]; !ok || had != v {
					return fmt.Errorf("create container %s: there is one of that name made for something else", c.Name)
				}
			}
			return nil
		}
		i := f.image(c.Image)
		if i == nil {
			return fmt.Errorf("create container %s: image %s: %w", c.Name, c.Image, engine.ErrNotFound)
		}
		for _, e := range c.Networks {
			if n, ok := f.networks[e.Network]; !ok || !supervised(n.Labels) {
				return fmt.Errorf("create container %s: network %s: %w", c.Name, e.Network, engine.ErrNotFound)
			}
		}
		for _, m := range c.Mounts {
			if v, ok := f.volumes[m.Volume]; m.Volume != "" && (!ok || !supervised(v.Labels)) {
				return fmt.Errorf("create container %s: volume %s: %w", c.Name, m.Volume, engine.ErrNotFound)
			}
		}
		x := &container{Container: normal(c)}
		x.Labels = owned(x.Labels)
		if i.of != nil {
			for k, v := range i.of.Labels {
				if _, ok := x.Labels[k]; !ok {
					x.Labels[k] = v
				}
			}
		}
		x.ID, x.Status, x.CreatedAt = f.id("container"), engine.Created, now
		x.Health, x.ExitCode, x.Restarts, x.StartedAt, x.FinishedAt = "", 0, 0, time.Time{}, time.Time{}
		f.containers[c.Name] = x
		f.touch()
		return nil
	})
}

// container returns the supervised container of that name, or ErrNotFound.
func (f *Fake) container(doing, name string) (*container, error) {
	if c, ok := f.containers[name]; ok && supervised(c.Labels) {
		return c, nil
	}
	return nil, fmt.Errorf("%s container %s: %w", doing, name, engine.ErrNotFound)
}

// Start keeps the contract.
func (f *Fake) Start(ctx context.Context, name string) error {
	return f.act(ctx, "start", name, func(now time.Time) error {
		c, err := f.container("start", name)
		if err != nil || c.alive() {
			return err
		}
		for _, e := range c.Networks {
			if _, ok := f.networks[e.Network]; !ok {
				return fmt.Errorf("start container %s: network %s: %w", name, e.Network, engine.ErrNotFound)
			}
		}
		c.byHand, c.delay, c.Restarts = false, 0, 0
		f.run(c, now)
		f.advance(now)
		return nil
	})
}

// Stop keeps the contract.
func (f *Fake) Stop(ctx context.Context, name string, grace time.Duration) error {
	if err := f.enter(ctx, "stop", name); err != nil {
		return err
	}
	f.mu.Lock()
	now := time.Now()
	f.advance(now)
	c, err := f.container("stop", name)
	if err == nil {
		f.stop(c, now, grace)
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	for {
		f.mu.Lock()
		f.advance(time.Now())
		gone, wake, due := !c.alive(), f.wake, c.exitAt
		f.mu.Unlock()
		if gone {
			return f.call(&f.after, "stop", name)
		}
		if err := wait(ctx, wake, due); err != nil {
			return fmt.Errorf("stop container %s: %w", name, err)
		}
	}
}

func (f *Fake) stop(c *container, now time.Time, grace time.Duration) {
	c.byHand = true
	switch {
	case c.Status == engine.Restarting:
		c.Status, c.againAt = engine.Exited, time.Time{}
		f.touch()
	case !c.alive():
	case c.does.Deaf:
		if grace == 0 {
			grace = c.StopGrace
		}
		if grace == 0 {
			grace = defaultGrace
		}
		if at := now.Add(wholeSeconds(grace)); c.exitAt.IsZero() || at.Before(c.exitAt) {
			c.exitAt, c.code = at, 137
		}
		f.touch()
	default:
		c.code = 0
		f.end(c, now)
	}
}

// Rename keeps the contract.
func (f *Fake) Rename(ctx context.Context, name, to string) error {
	return f.act(ctx, "rename", name+" "+to, func(time.Time) error {
		c, err := f.container("rename", name)
		if err != nil {
			_, err = f.container("rename", to)
			if err != nil {
				return fmt.Errorf("rename container %s: %w", name, engine.ErrNotFound)
			}
			return nil
		}
		if name == to {
			return nil
		}
		if _, taken := f.containers[to]; taken {
			return fmt.Errorf("rename container %s: the name %s is taken", name, to)
		}
		delete(f.containers, name)
		c.Name = to
		f.containers[to] = c
		f.touch()
		return nil
	})
}

// Remove keeps the contract.
func (f *Fake) Remove(ctx context.Context, name string) error {
	return f.act(ctx, "remove", name, func(now time.Time) error {
		c, err := f.container("remove", name)
		if err != nil {
			return nil
		}
		c.byHand = true
		if c.alive() {
			c.code = 137
			f.end(c, now)
		}
		c.exitAt, c.againAt, c.checkAt, c.unsaid = time.Time{}, time.Time{}, time.Time{}, nil
		delete(f.containers, name)
		f.touch()
		return nil
	})
}

// Logs keeps the contract.
func (f *Fake) Logs(ctx context.Context, name string, since time.Time, line func(engine.Line)) error {
	if err := f.look(ctx, "logs"); err != nil {
		return err
	}
	f.mu.Lock()
	c, err := f.container("logs of", name)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	for read := 0; ; {
		f.mu.Lock()
		f.advance(time.Now())
		fresh := slices.Clone(c.lines[read:])
		over, away := !c.alive(), f.away
		wake, due := f.wake, f.due()
		f.mu.Unlock()
		read += len(fresh)
		for _, l := range fresh {
			if l.Time.After(since) {
				line(l)
			}
		}
		if away {
			return fmt.Errorf("logs of container %s: %w", name, engine.ErrUnavailable)
		}
		if over {
			return nil
		}
		if err := wait(ctx, wake, due); err != nil {
			return fmt.Errorf("logs of container %s: %w", name, err)
		}
	}
}

// Exit ends a running container with a code, as if its program had ended by itself.
func (f *Fake) Exit(name string, code int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.advance(now)
	if c := f.containers[name]; c != nil && c.alive() {
		c.code = code
		f.end(c, now)
	}
}

// Write has a running container write a line.
func (f *Fake) Write(name string, stderr bool, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.advance(now)
	if c := f.containers[name]; c != nil && c.alive() {
		f.say(c, now, stderr, text)
	}
	close(f.wake)
	f.wake = make(chan struct{})
}

// Restart restarts the engine, as a reboot of its device does: what ran is killed, and starts again if its restart
// policy says so; "always" also brings back what Stop stopped.
func (f *Fake) Restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.advance(now)
	for _, name := range slices.Sorted(maps.Keys(f.containers)) {
		c := f.containers[name]
		ran, byHand := c.alive() || c.Status == engine.Restarting, c.byHand
		if c.alive() {
			c.code, c.byHand = 255, true // only this one end is not answered with a restart
			f.end(c, now)
			c.byHand = byHand
		}
		policy, _ := restart(c.Restart)
		switch {
		case policy == "always" && c.Status != engine.Created,
			policy == "unless-stopped" && ran && !byHand,
			policy == "on-failure" && ran && !byHand:
			c.delay, c.byHand = 0, false
			f.run(c, now)
		case c.Status == engine.Restarting:
			c.Status, c.againAt = engine.Exited, time.Time{}
		}
	}
	f.advance(now)
	f.touch()
}

func (f *Fake) filesOf(c *container) func(string) (*string, bool) {
	return func(path string) (*string, bool) {
		for _, m := range c.Mounts {
			v := f.volumes[m.Volume]
			if rest, ok := strings.CutPrefix(path, m.Target+"/"); ok && v != nil {
				if v.files[rest] == nil {
					v.files[rest] = new(string)
				}
				return v.files[rest], true
			}
		}
		return nil, false
	}
}

// lookupOf finds the aliases and names of what runs on a network of c.
func (f *Fake) lookupOf(c *container) func(string) bool {
	return func(host string) bool {
		for _, mine := range c.Networks {
			for _, other := range f.containers {
				for _, e := range other.Networks {
					if e.Network == mine.Network && other.alive() && (other.Name == host || slices.Contains(e.Aliases, host)) {
						return true
					}
				}
			}
		}
		return false
	}
}
