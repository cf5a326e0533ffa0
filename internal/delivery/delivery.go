// Package delivery brings an image to a device: as a delta from an image it has, else as a pull. It owns the transfer of
// the delta, its resumption, its budget of bytes, and what is done when it fails. It does not own when an image is
// brought, what a delta is (package delta), nor the engine.
//
// A delta is fetched into a file in the delivery's folder, checked, and applied in one pass: the layers stream from the
// old image's into the engine, which gives the new image its name only by a pull of its manifest. So nothing that goes
// wrong on the way can leave an image that is not the one of the reference, and what is not finished leaves a file that
// the next delivery of the same image goes on with.
package delivery

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

// Delivery brings images. Make one with New. All methods may be called concurrently.
type Delivery struct {
	dir    string
	engine engine.Engine
	server Server
	log    *slog.Logger
	free   func(path string) (int64, error)
	apply  Applier
	// applying holds a token while a delta is applied: a device has the memory for one, and an engine loads one at a
	// time.
	applying chan struct{}
}

// Options are what a Delivery works with.
type Options struct {
	Dir    string // folder of its own for what is under way; made when it is needed
	Engine engine.Engine
	Server Server
	Log    *slog.Logger // nil: nowhere
	// Free is how many bytes the file system of a path has room for; nil asks it.
	Free func(path string) (int64, error)
	// Apply makes new images; nil is Apply itself. A device has Process.Apply, so that no delta takes the agent down.
	Apply Applier
}

// New returns a Delivery. It starts nothing.
func New(o Options) *Delivery {
	d := &Delivery{dir: o.Dir, engine: o.Engine, server: o.Server, log: o.Log, free: o.Free, apply: o.Apply, applying: make(chan struct{}, 1)}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.free == nil {
		d.free = free
	}
	if d.apply == nil {
		d.apply = Apply
	}
	return d
}

// Policy is how deltas are used. The zero value does not use them.
type Policy struct {
	Deltas bool
	// Wait means that an image comes as a delta or not at all while the server has a delta of it: a delta that fails is
	// the delivery's failure, not the reason for a pull.
	Wait bool
	// Retries is how often in a row the server is asked again, be it for the delta or for the rest of one, before it
	// has failed; Interval is the longest time between, unless the server names one.
	Retries  int
	Interval time.Duration
	// RequestTimeout is how long an answer may take, and how long a transfer may stand still; 0 is a minute.
	RequestTimeout time.Duration
	// ApplyTimeout is how long applying may take; 0 is no limit.
	ApplyTimeout time.Duration
}

// Order is an image to bring.
type Order struct {
	Image  string // HOST/v2/HEX@sha256:…
	Base   string // reference of an image that is here and most likely resembles it, or ""
	Auth   engine.Credentials
	Policy Policy

	// These are called one at a time, and may be nil.

	// Progress gets percents that never go down, the last one 100 if all went well; some come more than once.
	Progress func(percent int)
	// Offered is told of the delta that will be fetched, of that many bytes.
	Offered func(bytes int64)
	// Failed is told why a delta that was offered was given up for a pull.
	Failed func(why error)
}

// errNone means that the server offers no delta, or none that could be applied here.
var errNone = errors.New("there is no delta")

// Bring brings an image; one that is here already is no work. When ctx ends, or the device does, the same Bring goes on
// where this one was.
func (d *Delivery) Bring(ctx context.Context, o Order) error {
	m := &meter{tell: o.Progress, last: -1}
	if o.Policy.Deltas && o.Base != "" && o.Base != o.Image {
		switch err := d.delta(ctx, o, m); {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("bring %s: %w", o.Image, ctx.Err())
		case errors.Is(err, errNone):
			d.log.Debug("no delta", "image", o.Image, "base", o.Base, "why", err)
		case o.Policy.Wait, errors.Is(err, engine.ErrUnavailable):
			return fmt.Errorf("bring %s as a delta: %w", o.Image, err)
		default:
			d.log.Warn("a delta failed; the whole image is fetched", "image", o.Image, "base", o.Base, "err", err)
			if o.Failed != nil {
				o.Failed(err)
			}
		}
	}
	m.rest()
	err := d.engine.Pull(ctx, o.Image, o.Auth, m.part)
	if err == nil {
		d.discard(o.Image)
	}
	return err
}

// delta brings an image as a delta.
func (d *Delivery) delta(ctx context.Context, o Order, m *meter) error {
	layers, err := d.engine.Layers(ctx, o.Base)
	if errors.Is(err, engine.ErrNotFound) || errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("%w: %w", errNone, err)
	}
	if err != nil {
		return err
	}
	s := &session{Server: d.server, order: o, alive: m.alive}
	offer, err := s.ask(ctx)
	if err != nil {
		return err
	}
	if layers.ID != "" && layers.ID != offer.From {
		return fmt.Errorf("%w: it is from %s, and %s is here", errNone, offer.From, layers.ID)
	}
	if o.Offered != nil {
		o.Offered(offer.Size)
	}
	m.within(0, 50)
	file, err := d.fetch(ctx, s, offer, m)
	if err != nil {
		return err
	}
	m.within(50, 98)
	select {
	case d.applying <- struct{}{}:
		defer func() { <-d.applying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	defer d.unload(ctx)
	if err := d.make(ctx, o, offer, layers, file, m); err != nil {
		return err
	}
	if err := d.name(ctx, o); err != nil {
		return err
	}
	d.discard(o.Image)
	m.within(0, 100)
	m.part(100)
	return nil
}

// name gives what was loaded its name: a pull of a manifest.
func (d *Delivery) name(ctx context.Context, o Order) error {
	tries := o.Policy.tries()
	for {
		err := d.engine.Pull(ctx, o.Image, o.Auth, nil)
		if err == nil || errors.Is(err, engine.ErrUnavailable) || errors.Is(err, engine.ErrDenied) || errors.Is(err, engine.ErrNotFound) {
			return err
		}
		if err := tries.again(ctx, 0, err); err != nil {
			return err
		}
	}
}

// unload gives up what was loaded: by then it has its name, or nobody wants it.
func (d *Delivery) unload(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := d.engine.RemoveImage(ctx, engine.Loaded); err != nil {
		d.log.Warn("an image that was loaded is not given up; the next start does it", "err", err)
	}
}

// Clean removes the files of deliveries of other images than these.
func (d *Delivery) Clean(wanted []string) {
	keep := map[string]bool{exports: true} // that is Recover's
	for _, image := range wanted {
		keep[stem(image)] = true
	}
	files, err := os.ReadDir(d.dir)
	if err != nil {
		return // nothing was ever under way
	}
	for _, f := range files {
		if of, _, _ := strings.Cut(f.Name(), "-"); !keep[of] {
			d.remove(filepath.Join(d.dir, f.Name()))
		}
	}
}

// Recover gives up what an agent that was killed while it applied a delta left behind. It is called once, after New.
func (d *Delivery) Recover(ctx context.Context) {
	if _, err := os.Stat(d.dir); err != nil {
		return // nothing was ever under way
	}
	select {
	case d.applying <- struct{}{}:
		defer func() { <-d.applying }()
		d.remove(filepath.Join(d.dir, exports))
		d.unload(ctx)
	case <-ctx.Done():
	}
}

// discard removes the files of an image but those of these names.
func (d *Delivery) discard(image string, but ...string) {
	files, err := os.ReadDir(d.dir)
	if err != nil {
		return // nothing was ever under way
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), stem(image)+"-") && !slices.Contains(but, f.Name()) {
			d.remove(filepath.Join(d.dir, f.Name()))
		}
	}
}

func (d *Delivery) remove(path string) {
	if err := os.RemoveAll(path); err != nil {
		d.log.Warn("a file of a delivery is left over", "err", err)
	}
}

// stem is the beginning of the names of an image's files.
func stem(image string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(image)))[:16] }

// meter makes one percentage of the parts of a delivery.
type meter struct {
	tell     func(percent int)
	from, to int // of the part at hand
	last     int
}

func (m *meter) within(from, to int) { m.from, m.to = from, to }

// rest makes what is left one part.
func (m *meter) rest() { m.within(max(m.last, 0), 100) }

// part takes the percent of the part at hand.
func (m *meter) part(percent int) { m.at(m.from + (m.to-m.from)*percent/100) }

// bytes takes how much of the part at hand is done.
func (m *meter) bytes(done, all int64) {
	if all > 0 {
		m.part(int(float64(min(done, all)) / float64(all) * 100))
	}
}

func (m *meter) at(percent int) {
	if percent > m.last {
		m.last = percent
		m.alive()
	}
}

// alive says the percent again, for whoever watches over standstills.
func (m *meter) alive() {
	if m.tell != nil {
		m.tell(max(m.last, 0))
	}
}

// tries counts tries in a row that brought nothing.
type tries struct {
	policy Policy
	failed int
}

func (p Policy) tries() *tries { return &tries{policy: p} }

// again waits for the next try, at least that long, and returns why if there is none, or the error of ctx.
func (t *tries) again(ctx context.Context, least time.Duration, why error) error {
	if t.failed >= t.policy.Retries {
		return why
	}
	wait := min(time.Second<<min(t.failed, 16), max(t.policy.Interval, 0))
	t.failed++
	wait = max(wait, least)
	timer := time.NewTimer(wait + rand.N(wait/4+1)) // a fleet that failed together does not come back together
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// went takes note of a try that brought something.
func (t *tries) went() { t.failed = 0 }
