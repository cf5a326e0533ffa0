package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/dunlin/dunlin/internal/delivery"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/plan"
)

const (
	// fetches is how many images travel at once; an engine fetches several layers of each at a time.
	fetches = 3
	// resync is the longest time between two looks at the engine; its events come sooner.
	resync = time.Minute
)

// How long an engine that neither answers nor fails is waited for. After that it is a failure like any other.
const (
	lookLimit = time.Minute
	stepLimit = 5 * time.Minute
	stopLimit = 2 * time.Minute // over the grace
	// stall is the longest time a fetch goes on without another percent: one of a big layer takes its time.
	stall = 30 * time.Minute
)

// engineGrace is what an engine gives a container that does not say how long it takes to stop.
const engineGrace = 10 * time.Second

// look is one look at the engine and at what is being done, for those who report it.
type look struct {
	known  bool
	state  engine.State
	target *target
	doing  map[string]plan.Step // under way, by subject
	failed map[string]bool      // subjects whose last try failed
	ran    map[string]string    // by fleet uuid: the release that last ran whole
}

// effort is what is known of the steps about one subject.
type effort struct {
	step   plan.Step
	cancel context.CancelFunc // of the try under way, or nil
	retry  backoff
	due    time.Time // of the next try, after one that failed
	failed bool
}

// pace is how often one step went well in a row. One that has to be taken again and again does not do what it should,
// and is not to keep the device busy.
type pace struct {
	times int
	last  time.Time
}

type outcome struct {
	subject   string
	err       error
	cancelled bool
}

// convergence brings the engine to the target. One goroutine owns it; steps run in others and say how they ended.
type convergence struct {
	*device
	efforts map[string]*effort
	paces   map[plan.Step]pace
	done    chan outcome
	tries   sync.WaitGroup
	slots   chan struct{}
	seen    *target           // the efforts are about
	lockers map[string]string // by fleet uuid: the service whose update lock is waited for
}

// converge looks, decides and acts until ctx ends. What runs goes on then; what was half done is seen by the next
// agent's first look.
func (d *device) converge(ctx context.Context) error {
	c := &convergence{device: d, efforts: map[string]*effort{}, paces: map[plan.Step]pace{}, done: make(chan outcome), slots: make(chan struct{}, fetches), lockers: map[string]string{}}
	ctx, cancel := context.WithCancel(ctx)
	defer c.tries.Wait()
	defer cancel()
	c.tries.Go(func() { d.delivery.Recover(ctx) })
	events := d.Engine.Events(ctx)
	away := backoff{first: time.Second, most: 30 * time.Second}
	for {
		next := resync
		if err := c.round(ctx, &next); ctx.Err() != nil {
			return nil
		} else if err != nil {
			next = away.next()
			d.Log.Warn("the container engine does not answer; what runs goes on", "err", err, "retry", next.Round(time.Second))
		} else {
			away.reset()
		}
		t, changed := d.target.get()
		if t != c.seen {
			continue
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-events:
		case <-changed:
		case <-timer.C:
		case o := <-c.done:
			c.ended(o)
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// round is one look, one decision and the start of what follows from it. next is shortened to the time when something
// that failed is due again.
func (c *convergence) round(ctx context.Context, next *time.Duration) error {
	t, _ := c.target.get()
	if t != c.seen {
		c.furnish(t)
		c.delivery.Clean(t.images())
	}
	if t != c.seen && (c.seen == nil || !reflect.DeepEqual(t.plan, c.seen.plan)) {
		// What failed for the old target may go well for the new one, but not because a server says the same again.
		for subject, e := range c.efforts {
			if e.cancel == nil {
				delete(c.efforts, subject)
			} else {
				e.retry.reset()
			}
		}
		clear(c.paces)
	}
	c.seen = t
	state, err := c.inspect(ctx)
	if err != nil {
		return err
	}
	if t != nil {
		now := time.Now()
		for _, s := range plan.Next(c.state(state, now), t.plan) {
			if wait := c.paces[s].wait(now); wait > 0 {
				*next = min(*next, wait)
				continue
			}
			if stop, ok := s.(plan.Stop); ok && c.locked(stop, state, t, now) {
				continue
			}
			c.begin(ctx, s, t)
		}
		for _, e := range c.efforts {
			if e.cancel == nil && e.due.After(now) {
				*next = min(*next, e.due.Sub(now))
			}
		}
		for uuid, w := range t.releases {
			if plan.Settled(plan.State{State: state}, t.plan, uuid) {
				c.ledger.ran(uuid, w.commit)
			}
		}
	}
	c.publish(state, t)
	return nil
}

func (c *convergence) inspect(ctx context.Context) (engine.State, error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	return c.Engine.Inspect(ctx)
}

// state adds to what the engine holds what is under way and what has to wait.
func (c *convergence) state(s engine.State, now time.Time) plan.State {
	cur := plan.State{State: s, Fetching: map[string]bool{}, Busy: map[string]bool{}}
	for subject, e := range c.efforts {
		if e.cancel == nil && !e.due.After(now) {
			continue
		}
		if f, ok := e.step.(plan.Fetch); ok {
			cur.Fetching[f.Image] = true
		} else {
			cur.Busy[subject] = true
		}
	}
	return cur
}

func (c *convergence) publish(state engine.State, t *target) {
	l := look{known: true, state: state, target: t, doing: map[string]plan.Step{}, failed: map[string]bool{}, ran: c.ledger.releases()}
	for subject, e := range c.efforts {
		if e.cancel != nil {
			l.doing[subject] = e.step
		}
		if e.failed {
			l.failed[subject] = true
		}
	}
	c.device.seen.set(l)
	c.progress.update(func(old map[string]int) map[string]int {
		now := maps.Clone(old)
		maps.DeleteFunc(now, func(ref string, _ int) bool { return l.doing[plan.Fetch{Image: ref}.Subject()] == nil })
		return now
	})
}

// begin starts a step. Its goroutine ends with the step, or soon after ctx.
func (c *convergence) begin(ctx context.Context, s plan.Step, t *target) {
	subject := s.Subject()
	e := c.efforts[subject]
	if _, ok := s.(plan.Cancel); ok {
		if e != nil && e.cancel != nil {
			e.cancel()
		} else {
			delete(c.efforts, subject)
		}
		return
	}
	if e == nil {
		e = newEffort()
		c.efforts[subject] = e
	}
	e.step = s
	life := ctx
	ctx, e.cancel = context.WithCancel(ctx)
	c.tries.Go(func() {
		err := c.act(ctx, s, t)
		select {
		case c.done <- outcome{subject, err, ctx.Err() != nil}:
		case <-life.Done():
		}
	})
}

func newEffort() *effort { return &effort{retry: backoff{first: time.Second, most: 5 * time.Minute}} }

// ended takes note of how a step ended.
func (c *convergence) ended(o outcome) {
	e := c.efforts[o.subject]
	if e == nil || e.cancel == nil {
		return
	}
	e.cancel()
	e.cancel = nil
	if o.err == nil {
		c.paces[e.step] = c.paces[e.step].again(time.Now())
	}
	if o.err == nil || o.cancelled {
		delete(c.efforts, o.subject)
		return
	}
	e.failed = true
	wait := e.retry.next()
	if _, ok := e.step.(plan.RemoveImage); ok {
		// What somebody else uses is his to keep, and asking often changes nothing.
		wait = max(wait, 10*time.Minute)
	}
	e.due = time.Now().Add(wait)
}

func (p pace) again(now time.Time) pace {
	if now.Sub(p.last) > 10*time.Minute {
		p.times = 0
	}
	return pace{p.times + 1, now}
}

// wait is how long the step has to wait: not at all for the first few times.
func (p pace) wait(now time.Time) time.Duration {
	const free = 3
	if p.times < free {
		return 0
	}
	return min(time.Second<<min(p.times-free, 16), 5*time.Minute) - now.Sub(p.last)
}

// act takes one step, and says so.
func (c *convergence) act(ctx context.Context, s plan.Step, t *target) error {
	says := words(s, t)
	var err error
	if f, ok := s.(plan.Fetch); ok {
		err = c.fetch(ctx, f, t, says)
	} else {
		says.start(c.device)
		err = c.take(ctx, s, t)
	}
	switch {
	case err == nil:
		says.end(c.device)
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		says.fail(c.device, reason(err))
		c.Log.Warn("step failed", "step", fmt.Sprintf("%T", s), "subject", s.Subject(), "err", err)
	}
	return err
}

// fetch brings an image when there is a slot for it.
func (c *convergence) fetch(ctx context.Context, f plan.Fetch, t *target, says sentences) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	says.start(c.device)
	c.percent(f.Image, 0)
	var who engine.Credentials
	if plan.Pushed(f.Image) { // another registry is not to learn the device's key
		who = engine.Credentials{Username: c.username(), Password: c.config.DeviceAPIKey}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	of := "delta for image '" + f.Image + "'"
	err := c.delivery.Bring(ctx, delivery.Order{
		Image: f.Image, Base: f.Base, Auth: who, Policy: t.deltas(),
		Progress: func(percent int) {
			watchdog.Reset(stall)
			c.percent(f.Image, percent)
		},
		Offered: func(bytes int64) { c.system(fmt.Sprintf("Downloading %s (%d KiB)", of, (bytes+1023)>>10)) },
		Failed: func(why error) {
			c.system("Failed to download " + of + " due to '" + reason(why) + "'; downloading the whole image")
		},
	})
	if err != nil && context.Cause(ctx) == errStalled {
		return errStalled
	}
	return err
}

var errStalled = fmt.Errorf("nothing more of it came for %v", stall)

func (c *convergence) percent(ref string, percent int) {
	c.progress.update(func(old map[string]int) map[string]int {
		now := maps.Clone(old)
		if now == nil {
			now = map[string]int{}
		}
		now[ref] = percent
		return now
	})
}

// limit is how long the engine has for a step that is not a fetch.
func limit(s plan.Step) time.Duration {
	if stop, ok := s.(plan.Stop); ok {
		return cmp.Or(stop.Grace, engineGrace) + stopLimit
	}
	return stepLimit
}

// take has the engine do what is not a fetch.
func (c *convergence) take(ctx context.Context, s plan.Step, t *target) error {
	within := limit(s)
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := c.order(ctx, s, t)
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		return fmt.Errorf("the container engine has not done it in %v: %w", within, err)
	}
	return err
}

func (c *convergence) order(ctx context.Context, s plan.Step, t *target) error {
	switch s := s.(type) {
	case plan.RemoveImage:
		return c.Engine.RemoveImage(ctx, s.Image)
	case plan.CreateNetwork:
		for _, n := range t.app(s.App).Networks {
			if n.Name == s.Name {
				return c.Engine.CreateNetwork(ctx, n)
			}
		}
	case plan.RemoveNetwork:
		return c.Engine.RemoveNetwork(ctx, s.Name)
	case plan.CreateVolume:
		for _, v := range t.app(s.App).Volumes {
			if v.Name == s.Name {
				return c.Engine.CreateVolume(ctx, v)
			}
		}
	case plan.RemoveVolume:
		return c.Engine.RemoveVolume(ctx, s.Name)
	case plan.Create:
		for _, w := range t.app(s.App).Services {
			if w.Name == s.Service {
				made := w.Container
				made.Labels = maps.Clone(made.Labels)
				made.Image, made.Labels[engine.LabelImage] = s.Image, s.Image
				return c.Engine.Create(ctx, made)
			}
		}
	case plan.Start:
		return c.Engine.Start(ctx, s.Name)
	case plan.Stop:
		return c.Engine.Stop(ctx, s.Name, s.Grace)
	case plan.Remove:
		return c.Engine.Remove(ctx, s.Name)
	}
	panic(fmt.Sprintf("plan made a step nobody can take: %#v", s))
}

func (t *target) app(uuid string) plan.App {
	for _, a := range t.plan.Apps {
		if a.UUID == uuid {
			return a
		}
	}
	return plan.App{}
}

// sentences are what the device's log says of a step, in the supervisor's words.
type sentences struct{ doing, done, failed string }

func (s sentences) start(d *device) {
	if s.doing != "" {
		d.system(s.doing)
	}
}

func (s sentences) end(d *device) {
	if s.done != "" {
		d.system(s.done)
	}
}

func (s sentences) fail(d *device, why string) { d.system(s.failed + " due to '" + why + "'") }

func words(s plan.Step, t *target) sentences {
	service := func(verb, begun, ended, app, name string) sentences {
		// A service is called by its name and its image.
		of := "service '" + name
		for _, w := range t.app(app).Services {
			if w.Name == name {
				of += " " + plan.Content(w.Container.Image)
			}
		}
		return sentences{begun + " " + of + "'", ended + " " + of + "'", "Failed to " + verb + " " + of + "'"}
	}
	// Networks and volumes go by the names their authors gave them.
	simple := func(verb, begun, kind, name string) sentences {
		_, short, _ := strings.Cut(name, "_")
		of := kind + " '" + short + "'"
		return sentences{begun + " " + of, "", "Failed to " + verb + " " + of}
	}
	switch s := s.(type) {
	case plan.Fetch:
		of := "image '" + s.Image + "'"
		return sentences{"Downloading " + of, "Downloaded " + of, "Failed to download " + of}
	case plan.RemoveImage:
		of := "image '" + s.Image + "'"
		return sentences{"Deleting " + of, "Deleted " + of, "Failed to delete " + of}
	case plan.CreateNetwork:
		return simple("create", "Creating", "network", s.Name)
	case plan.RemoveNetwork:
		return simple("remove", "Removing", "network", s.Name)
	case plan.CreateVolume:
		return simple("create", "Creating", "volume", s.Name)
	case plan.RemoveVolume:
		return simple("remove", "Removing", "volume", s.Name)
	case plan.Create:
		return service("install", "Installing", "Installed", s.App, s.Service)
	case plan.Start:
		return service("start", "Starting", "Started", s.App, s.Service)
	case plan.Stop:
		return service("kill", "Killing", "Killed", s.App, s.Service)
	case plan.Remove:
		return sentences{"", "", "Failed to remove service '" + s.Service + "'"}
	}
	return sentences{}
}

// reason is a step's error in words for the device's owner.
func reason(err error) string {
	switch {
	case errors.Is(err, engine.ErrDiskFull):
		return "the device's disk is full; what runs goes on, and it is tried again. Make room, or give the service the label " +
			"io.balena.update.strategy=delete-then-download"
	case errors.Is(err, engine.ErrDenied):
		return "the registry refused this device's key; it is tried again"
	case errors.Is(err, engine.ErrUnavailable):
		return "the container engine does not answer"
	}
	return strings.TrimSpace(err.Error())
}
