package enginetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
)

// Image is an image in a Fake's registry. The zero value is public, has no bytes, arrives at once and runs until
// it is stopped.
type Image struct {
	Size   int64                         // bytes, on the way and on the engine's storage
	Takes  time.Duration                 // how long all of it is on its way
	Labels map[string]string             // that its containers get
	Access func(engine.Credentials) bool // who may pull it; nil: everyone
	Errors []error                       // what the next pulls answer half way, in turn; then they work
	Forged bool                          // its content is not what its digest says
	Run    func(World) Behaviour         // what each start of a container of it does; it must not call the Fake
	// Config and Layers are what it holds, for Load, Layers and Export: the config, whose digest is its ID, and the
	// layers' tars that the config names. They may be nil.
	Config []byte
	Layers [][]byte
}

// Push puts an image into the registry under ref (HOST/v2/HEX@sha256:…). References with one digest are one image.
func (f *Fake) Push(ref string, i Image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i.Errors = slices.Clone(i.Errors)
	f.registry[ref] = &i
}

// Hold has pulls of ref stop half way, until the function it returns is called.
func (f *Fake) Hold(ref string) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	f.held[ref] = gate
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.held[ref] == gate {
			delete(f.held, ref)
			close(gate)
		}
	}
}

// Fetched is how many bytes of ref travelled, all pulls together.
func (f *Fake) Fetched(ref string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fetched[ref]
}

// image is the image a reference names here, or nil.
func (f *Fake) image(ref string) *image {
	_, digest, _ := strings.Cut(ref, "@")
	if i := f.images[digest]; i != nil && slices.Contains(i.References, ref) {
		return i
	}
	return nil
}

// pullSteps is how many parts an image arrives in.
const pullSteps = 10

// Pull keeps the contract.
func (f *Fake) Pull(ctx context.Context, ref string, auth engine.Credentials, progress func(percent int)) error {
	if progress == nil {
		progress = func(int) {}
	}
	if err := f.enter(ctx, "pull", ref); err != nil {
		return err
	}
	if err := f.pull(ctx, ref, auth, progress); err != nil {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	return f.call(&f.after, "pull", ref)
}

func (f *Fake) pull(ctx context.Context, ref string, auth engine.Credentials, progress func(percent int)) error {
	_, digest, _ := strings.Cut(ref, "@")
	f.mu.Lock()
	here, of := f.image(ref) != nil, f.registry[ref]
	f.mu.Unlock()
	switch {
	case here:
		progress(100)
		return nil
	case of == nil:
		return engine.ErrNotFound
	case of.Access != nil && !of.Access(auth):
		return engine.ErrDenied
	}
	if f.name(ref, digest, of) {
		progress(100)
		return nil
	}
	for last := -1; ; {
		if err := f.gate(ctx, ref, digest, of); err != nil {
			return err
		}
		percent, err := f.arrive(ref, digest, of)
		if err != nil {
			return err
		}
		if percent > last {
			last = percent
			progress(percent)
		}
		if percent == 100 {
			return nil
		}
	}
}

// gate waits for the next part to arrive.
func (f *Fake) gate(ctx context.Context, ref, digest string, of *Image) error {
	f.mu.Lock()
	gate := f.held[ref]
	half := f.arrived[digest]*2 >= of.Size
	var err error
	if half && len(of.Errors) > 0 {
		err = of.Errors[0]
		of.Errors = of.Errors[1:]
	}
	known := f.images[digest] != nil
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if known {
		return nil
	}
	if half && gate != nil {
		if err := wait(ctx, gate, time.Time{}); err != nil {
			return err
		}
	}
	if of.Takes > 0 {
		return wait(ctx, nil, time.Now().Add(of.Takes/pullSteps))
	}
	return ctx.Err()
}

// arrive takes in the next part, and the image when that was the last.
func (f *Fake) arrive(ref, digest string, of *Image) (percent int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance(time.Now())
	if f.away {
		return 0, engine.ErrUnavailable
	}
	if i := f.images[digest]; i != nil { // under another reference: nothing has to travel
		if !slices.Contains(i.References, ref) {
			i.References = append(i.References, ref)
			f.touch()
		}
		return 100, nil
	}
	part := min(max(of.Size/pullSteps, 1), of.Size-f.arrived[digest])
	if f.capacity > 0 && f.used()+f.arrived[digest]+part > f.capacity {
		delete(f.arrived, digest)
		return 0, engine.ErrDiskFull
	}
	f.arrived[digest] += part
	f.fetched[ref] += part
	if f.arrived[digest] < of.Size {
		return int(f.arrived[digest] * 99 / of.Size), nil
	}
	delete(f.arrived, digest)
	if of.Forged {
		return 0, errors.New("the content is not what its digest says")
	}
	f.images[digest] = &image{Image: engine.Image{ID: of.id(digest), References: []string{ref}, Size: of.Size}, of: of}
	f.touch()
	return 100, nil
}

// RemoveImage keeps the contract.
func (f *Fake) RemoveImage(ctx context.Context, ref string) error {
	return f.act(ctx, "remove image", ref, func(time.Time) error {
		if ref == engine.Loaded {
			f.loaded = nil
			return nil
		}
		i := f.image(ref)
		if i == nil {
			return nil
		}
		for _, c := range f.containers {
			if c.Image == ref {
				return fmt.Errorf("remove image %s: container %s uses it", ref, cmp.Or(c.Name, c.ID))
			}
		}
		if i.References = slices.DeleteFunc(i.References, func(r string) bool { return r == ref }); len(i.References) == 0 {
			_, digest, _ := strings.Cut(ref, "@")
			delete(f.images, digest)
		}
		f.touch()
		return nil
	})
}
