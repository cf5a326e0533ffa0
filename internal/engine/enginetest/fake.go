package enginetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

// Fake is an engine in memory that passes the suite. It has no goroutine but those of Events, which end with their
// context, and no clock but time.Now and timers, so that it lives in a synctest bubble (make it inside): what its
// containers do by themselves happens when somebody looks, at the times it was due. No lock is held while it calls a
// hook, progress or line. All methods may be called concurrently.
//
// Images come from its registry (Push); a container does what its image's Run says. Beyond the contract it can be
// away (Away), full (Capacity), slow and stubborn (Image, Hold), start with any state (Put), be restarted (Restart),
// and fail or stop the caller at any call (Before, After).
type Fake struct {
	mu         sync.Mutex
	containers map[string]*container
	networks   map[string]engine.Network
	volumes    map[string]*volume
	images     map[string]*image // by digest
	loaded     *image            // or nil
	registry   map[string]*Image // by reference
	held       map[string]chan struct{}
	arrived    map[string]int64 // bytes of a digest that a pull cut short left
	fetched    map[string]int64 // bytes of a reference that travelled, all pulls together
	capacity   int64
	away       bool
	made       int // numbers ids
	trace      []string
	before     []hook
	after      []hook
	changes    int           // counts what Events tells of
	wake       chan struct{} // closed and replaced at every change
}

type hook struct {
	op string
	f  func() error
}

type volume struct {
	engine.Volume
	files map[string]*string
}

type image struct {
	engine.Image
	of *Image
}

// NewFake returns an empty engine with an empty registry.
func NewFake() *Fake {
	return &Fake{
		containers: map[string]*container{}, networks: map[string]engine.Network{}, volumes: map[string]*volume{},
		images: map[string]*image{}, registry: map[string]*Image{}, held: map[string]chan struct{}{},
		arrived: map[string]int64{}, fetched: map[string]int64{}, wake: make(chan struct{}),
	}
}

var _ engine.Engine = (*Fake)(nil)

// Before has f called before every call of op: the beginning of Trace's lines ("start", "create network") or a whole
// one ("start web"), or "info", "inspect", "layers", "export" and "logs", which leave no trace.
// When f returns an error, that is what the call returns, and nothing happens. f may panic, to stop the caller as if
// it had been killed there. Hooks are called in the order they were added, without a lock.
func (f *Fake) Before(op string, fn func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = append(f.before, hook{op, fn})
}

// After is Before, but f is called when the call has done its work, and an error of f is returned although it has.
func (f *Fake) After(op string, fn func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = append(f.after, hook{op, fn})
}

// Trace returns the calls that change something, in the order they came, as "pull REF", "load NAME", "remove image REF",
// "create network NAME", "remove network NAME", "create volume NAME", "remove volume NAME", "create NAME",
// "start NAME", "stop NAME", "rename NAME TO", "remove NAME". Calls that a Before hook stopped are not among them;
// calls that failed or changed nothing are.
func (f *Fake) Trace() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.trace)
}

// ForgetTrace empties Trace.
func (f *Fake) ForgetTrace() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trace = nil
}

// Away takes the engine away, or gives it back. While it is away every call is ErrUnavailable; its containers run on.
func (f *Fake) Away(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
	f.touch()
}

// Capacity sets how many bytes of images the engine has room for; 0 is any number.
func (f *Fake) Capacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = bytes
}

// Put adds objects as they are, supervised or not, replacing those of the same name, so that a test can begin anywhere.
// A container that is put running does what its image does from now on if that is known, and runs on if it is not.
func (f *Fake) Put(s engine.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, i := range s.Images {
		for _, ref := range i.References {
			_, digest, _ := strings.Cut(ref, "@")
			f.images[digest] = &image{Image: engine.Image{ID: i.ID, References: slices.Clone(i.References), Size: i.Size}, of: f.registry[ref]}
		}
	}
	for _, n := range s.Networks {
		f.networks[n.Name] = copyNetwork(n)
	}
	for _, v := range s.Volumes {
		f.volumes[v.Name] = &volume{Volume: copyVolume(v), files: map[string]*string{}}
	}
	for _, c := range s.Containers {
		x := &container{Container: normal(c)}
		if x.ID == "" {
			x.ID = f.id("container")
		}
		if x.Status == "" {
			x.Status = engine.Created
		}
		f.containers[c.Name] = x
		if x.Status == engine.Running {
			f.run(x, now)
		}
	}
	f.touch()
}

// All is Inspect with the objects that are not supervised.
func (f *Fake) All() engine.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance(time.Now())
	return f.state(func(map[string]string) bool { return true })
}

// Info says that it is a fake of this machine's architecture.
func (f *Fake) Info(ctx context.Context) (engine.Info, error) {
	if err := f.look(ctx, "info"); err != nil {
		return engine.Info{}, err
	}
	return engine.Info{Name: "Fake", Version: "1", Arch: runtime.GOARCH, Root: "/var/lib/fake"}, nil
}

// Inspect keeps the contract.
func (f *Fake) Inspect(ctx context.Context) (engine.State, error) {
	if err := f.look(ctx, "inspect"); err != nil {
		return engine.State{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance(time.Now())
	return f.state(supervised), nil
}

func (f *Fake) state(show func(labels map[string]string) bool) engine.State {
	var s engine.State
	for _, name := range slices.Sorted(maps.Keys(f.containers)) {
		if c := f.containers[name]; show(c.Labels) {
			s.Containers = append(s.Containers, c.inspect())
		}
	}
	for _, digest := range slices.Sorted(maps.Keys(f.images)) {
		i := f.images[digest].Image
		i.References = slices.Sorted(slices.Values(i.References))
		s.Images = append(s.Images, i)
	}
	slices.SortFunc(s.Images, func(a, b engine.Image) int { return strings.Compare(a.References[0], b.References[0]) })
	for _, name := range slices.Sorted(maps.Keys(f.networks)) {
		if n := f.networks[name]; show(n.Labels) {
			s.Networks = append(s.Networks, copyNetwork(n))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.volumes)) {
		if v := f.volumes[name]; show(v.Labels) {
			s.Volumes = append(s.Volumes, copyVolume(v.Volume))
		}
	}
	return s
}

// CreateNetwork keeps the contract.
func (f *Fake) CreateNetwork(ctx context.Context, n engine.Network) error {
	return f.act(ctx, "create network", n.Name, func(time.Time) error {
		if old, ok := f.networks[n.Name]; ok {
			return ours(old.Labels, "network", n.Name)
		}
		n = copyNetwork(n)
		n.Labels = owned(n.Labels)
		f.networks[n.Name] = n
		f.touch()
		return nil
	})
}

// RemoveNetwork keeps the contract.
func (f *Fake) RemoveNetwork(ctx context.Context, name string) error {
	return f.act(ctx, "remove network", name, func(time.Time) error {
		if !supervised(f.networks[name].Labels) {
			return nil
		}
		for _, c := range f.containers {
			if c.alive() && slices.ContainsFunc(c.Networks, func(e engine.Endpoint) bool { return e.Network == name }) {
				return fmt.Errorf("remove network %s: container %s uses it", name, c.Name)
			}
		}
		delete(f.networks, name)
		f.touch()
		return nil
	})
}

// CreateVolume keeps the contract.
func (f *Fake) CreateVolume(ctx context.Context, v engine.Volume) error {
	return f.act(ctx, "create volume", v.Name, func(time.Time) error {
		if old, ok := f.volumes[v.Name]; ok {
			return ours(old.Labels, "volume", v.Name)
		}
		v = copyVolume(v)
		v.Labels = owned(v.Labels)
		f.volumes[v.Name] = &volume{Volume: v, files: map[string]*string{}}
		f.touch()
		return nil
	})
}

// RemoveVolume keeps the contract.
func (f *Fake) RemoveVolume(ctx context.Context, name string) error {
	return f.act(ctx, "remove volume", name, func(time.Time) error {
		v, ok := f.volumes[name]
		if !ok || !supervised(v.Labels) {
			return nil
		}
		for _, c := range f.containers {
			if slices.ContainsFunc(c.Mounts, func(m engine.Mount) bool { return m.Volume == name }) {
				return fmt.Errorf("remove volume %s: container %s uses it", name, c.Name)
			}
		}
		delete(f.volumes, name)
		f.touch()
		return nil
	})
}

// Events keeps the contract.
func (f *Fake) Events(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	f.mu.Lock()
	f.advance(time.Now())
	seen := f.changes
	f.mu.Unlock()
	go func() {
		defer close(out)
		for {
			f.mu.Lock()
			f.advance(time.Now())
			changed := !f.away && f.changes != seen
			if changed {
				seen = f.changes
			}
			wake, due := f.wake, f.due()
			f.mu.Unlock()
			if changed {
				select {
				case out <- struct{}{}:
				default:
				}
			}
			if wait(ctx, wake, due) != nil {
				return
			}
		}
	}()
	return out
}

// act is every call that changes something: hooks, trace, and do under the lock with all that was due done. Who
// changes something calls touch.
func (f *Fake) act(ctx context.Context, op, what string, do func(now time.Time) error) error {
	if err := f.enter(ctx, op, what); err != nil {
		return err
	}
	f.mu.Lock()
	now := time.Now()
	f.advance(now)
	err := do(now)
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.call(&f.after, op, what)
}

// enter calls the hooks, sees whether the engine can answer and writes the trace.
func (f *Fake) enter(ctx context.Context, op, what string) error {
	if err := f.call(&f.before, op, what); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trace = append(f.trace, op+" "+what)
	return f.answer(ctx, op+" "+what)
}

// look is enter for calls that change nothing: they have hooks but no trace.
func (f *Fake) look(ctx context.Context, op string) error {
	if err := f.call(&f.before, op, ""); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answer(ctx, op)
}

func (f *Fake) answer(ctx context.Context, doing string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if f.away {
		return fmt.Errorf("%s: %w", doing, engine.ErrUnavailable)
	}
	return nil
}

func (f *Fake) call(hooks *[]hook, op, what string) error {
	f.mu.Lock()
	now := slices.Clone(*hooks)
	f.mu.Unlock()
	for _, h := range now {
		if h.op == op || h.op == op+" "+what {
			if err := h.f(); err != nil {
				return err
			}
		}
	}
	return nil
}

// touch tells everyone who waits that something changed.
func (f *Fake) touch() {
	f.changes++
	close(f.wake)
	f.wake = make(chan struct{})
}

func (f *Fake) id(of string) string {
	f.made++
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, of, f.made)))
}

// wait returns when wake is closed, when due has come (the zero time never comes) or, with its error, when ctx ends.
func wait(ctx context.Context, wake <-chan struct{}, due time.Time) error {
	var timer <-chan time.Time
	if !due.IsZero() {
		t := time.NewTimer(time.Until(due))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wake:
	case <-timer:
	}
	return nil
}

func supervised(labels map[string]string) bool {
	_, ok := labels[engine.LabelSupervised]
	return ok
}

func owned(labels map[string]string) map[string]string {
	if supervised(labels) {
		return labels
	}
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[engine.LabelSupervised] = "true"
	return labels
}

var errForeign = errors.New("something that is not supervised has that name")

func ours(labels map[string]string, kind, name string) error {
	if !supervised(labels) {
		return fmt.Errorf("create %s %s: %w", kind, name, errForeign)
	}
	return nil
}

func copyNetwork(n engine.Network) engine.Network {
	n.Labels, n.Options, n.IPAM = maps.Clone(n.Labels), maps.Clone(n.Options), slices.Clone(n.IPAM)
	return n
}

func copyVolume(v engine.Volume) engine.Volume {
	v.Labels, v.DriverOpts = maps.Clone(v.Labels), maps.Clone(v.DriverOpts)
	return v
}
