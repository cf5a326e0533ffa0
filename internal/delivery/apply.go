package delivery

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/engine"
)

// make makes the new image of the old one and the file, and loads it. The file stays, whatever comes of it: its digest
// is right, and a device that waits for deltas should not pay for the same bytes again.
func (d *Delivery) make(ctx context.Context, o Order, offer offer, layers engine.Layers, file string, m *meter) error {
	if limit := o.Policy.ApplyTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("it takes longer than %v", limit))
		defer cancel()
	}
	err := d.applyFile(ctx, o, offer, layers, file, m)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("apply the delta: %w", err)
}

func (d *Delivery) applyFile(ctx context.Context, o Order, offer offer, layers engine.Layers, file string, m *meter) error {
	t := Task{Delta: file, From: offer.From, To: offer.To, Folders: layers.Folders, DiffIDs: layers.DiffIDs}
	if t.Folders == nil {
		image, done, err := d.export(ctx, o.Base)
		if err != nil {
			return err
		}
		defer done()
		t.Image = image
	}
	return d.load(ctx, t, m)
}

// load has the engine take in the image while it is being made.
func (d *Delivery) load(ctx context.Context, t Task, m *meter) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	made := make(chan error, 1)
	go func() {
		err := d.apply(ctx, t, w)
		w.CloseWithError(err)
		made <- err
	}()
	err := d.take(ctx, bufio.NewReaderSize(r, 64<<10), m)
	// A maker that nobody listens to is not waited for.
	r.CloseWithError(errGone)
	if err != nil {
		cancel()
	}
	// The reason is the maker's, unless it stopped because nobody read on.
	if why := <-made; why != nil && !errors.Is(why, errGone) && !errors.Is(why, io.ErrClosedPipe) && !errors.Is(why, context.Canceled) {
		return why
	}
	if err != nil {
		return err
	}
	got, err := d.engine.Layers(ctx, engine.Loaded)
	if err == nil && got.ID != "" && got.ID != t.To {
		err = fmt.Errorf("%w: the engine made %s of it", delta.ErrResult, got.ID)
	}
	return err
}

// take gives the engine what a maker writes.
func (d *Delivery) take(ctx context.Context, r *bufio.Reader, m *meter) error {
	all, err := readHead(r)
	if err != nil {
		return err
	}
	if err := d.roomFor(ctx, all); err != nil {
		return err
	}
	return d.engine.Load(ctx, &work{r: r, meter: m, all: all})
}

var errGone = errors.New("the engine reads no more")

// work counts what the engine has taken of the new layers.
type work struct {
	r         io.Reader
	meter     *meter
	done, all int64
}

func (w *work) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.done += int64(n)
	w.meter.bytes(w.done, w.all)
	return n, err
}

// roomFor sees that the engine has the room for new layers of that many bytes: it writes what it is given to a file of
// its own before it unpacks it.
func (d *Delivery) roomFor(ctx context.Context, bytes int64) error {
	info, err := d.engine.Info(ctx)
	if err != nil {
		return err
	}
	room, err := d.free(info.Root)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the engine's storage cannot be seen from here; it says itself when it is full
	}
	if err != nil {
		return fmt.Errorf("see what room the engine has: %w", err)
	}
	if need := 2*bytes + reserve; need > room {
		return fmt.Errorf("%w in the engine's storage: %d of %d bytes are free", errSpace, room, need)
	}
	return nil
}

// exports is the folder in the delivery's own that an old image is exported to.
const exports = "base"

// export has the engine write the old image to a file, where its folders cannot be read. done gives back what it took.
func (d *Delivery) export(ctx context.Context, ref string) (path string, done func(), err error) {
	began := time.Now()
	state, err := d.engine.Inspect(ctx)
	if err != nil {
		return "", nil, err
	}
	var size int64
	for _, i := range state.Images {
		if slices.Contains(i.References, ref) {
			size = i.Size
		}
	}
	room, err := d.free(d.dir)
	if err != nil {
		return "", nil, fmt.Errorf("see what room there is for the old image: %w", err)
	}
	// Its layers may be there compressed and not.
	if need := 2*size + reserve; need > room {
		return "", nil, fmt.Errorf("export the old image: %w: %d of %d bytes are free", errSpace, room, need)
	}
	folder := filepath.Join(d.dir, exports)
	defer func() {
		if err != nil {
			d.remove(folder)
		}
	}()
	path = filepath.Join(folder, "image.tar")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", nil, fmt.Errorf("export the old image: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", nil, fmt.Errorf("export the old image: %w", err)
	}
	err = d.engine.Export(ctx, ref, &bounded{f, room - reserve})
	if err := errors.Join(err, f.Close()); err != nil {
		return "", nil, fmt.Errorf("export the old image: %w", err)
	}
	d.log.Debug("the old image was exported", "image", ref, "bytes", size, "took", time.Since(began).Round(time.Millisecond))
	return path, func() { d.remove(folder) }, nil
}

// bounded writes no more than it may.
type bounded struct {
	w    io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, errSpace
	}
	b.left -= int64(len(p))
	return b.w.Write(p)
}
