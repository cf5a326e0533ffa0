package delivery

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/dunlin/dunlin/internal/archive"
	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/engine"
)

// heap is what this process may take more while it applies a delta before it looks for garbage at every turn, in bytes.
const heap = 24 << 20

// frugal has the process collect its garbage earlier, and returns what ends that: a device has not the memory for as much
// garbage as there is of use. There is one apply at a time.
func frugal() (end func()) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before := debug.SetMemoryLimit(-1) // only asks
	debug.SetMemoryLimit(min(before, int64(m.Sys-m.HeapReleased)+heap))
	return func() { debug.SetMemoryLimit(before) }
}

// apply makes the new image of the old one and the file, and loads it. The file stays, whatever comes of it: its digest
// is right, and a device that waits for deltas should not pay for the same bytes again.
func (d *Delivery) apply(ctx context.Context, o Order, offer offer, layers engine.Layers, file string, m *meter) error {
	if limit := o.Policy.ApplyTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("it takes longer than %v", limit))
		defer cancel()
	}
	defer frugal()()
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
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	x, err := delta.Open(bufio.NewReaderSize(f, 64<<10))
	if err != nil {
		return err
	}
	info := x.Info()
	switch id := fmt.Sprintf("sha256:%x", sha256.Sum256(info.Config)); {
	case info.From != offer.From || info.To != offer.To:
		return fmt.Errorf("%w: it is for other images than it was offered for", delta.ErrFormat)
	case id != info.To:
		return fmt.Errorf("%w: its image is %s and not %s", delta.ErrFormat, id, info.To)
	case layers.DiffIDs != nil && !slices.Equal(layers.DiffIDs, info.FromDiff):
		return fmt.Errorf("%w: its layers are others", delta.ErrBase)
	}
	work := &work{meter: m}
	for _, l := range info.Layers {
		if !l.Kept {
			work.all += l.Size
		}
	}
	if err := d.roomFor(ctx, work.all); err != nil {
		return err
	}
	basis, done, err := d.basis(ctx, o.Base, offer.From, layers)
	if err != nil {
		return err
	}
	defer done()
	var contents []archive.Content
	for i, l := range info.Layers {
		c := archive.Content{DiffID: l.DiffID, Size: l.Size}
		if !l.Kept {
			c.Write = func(w io.Writer) error { return x.Layer(ctx, i, basis, io.MultiWriter(w, work)) }
		}
		contents = append(contents, c)
	}
	return d.load(ctx, info, contents)
}

// load has the engine take in the image while it is being made.
func (d *Delivery) load(ctx context.Context, info delta.Info, contents []archive.Content) error {
	r, w := io.Pipe()
	made := make(chan error, 1)
	go func() {
		buffer := bufio.NewWriterSize(w, 64<<10)
		err := archive.Write(buffer, info.Config, []string{engine.Loaded}, contents)
		if err == nil {
			err = buffer.Flush()
		}
		// What is in the buffer of one that failed is not written: the engine sees that the end is missing.
		w.CloseWithError(err)
		made <- err
	}()
	err := d.engine.Load(ctx, r)
	r.CloseWithError(errGone)
	// The reason is the maker's, unless it stopped because nobody read on.
	if why := <-made; why != nil && !errors.Is(why, errGone) && !errors.Is(why, io.ErrClosedPipe) {
		return why
	}
	if err != nil {
		return err
	}
	got, err := d.engine.Layers(ctx, engine.Loaded)
	if err == nil && got.ID != "" && got.ID != info.To {
		err = fmt.Errorf("%w: the engine made %s of it", delta.ErrResult, got.ID)
	}
	return err
}

var errGone = errors.New("the engine reads no more")

// work counts what was made of the new layers.
type work struct {
	meter     *meter
	done, all int64
}

func (w *work) Write(p []byte) (int, error) {
	w.done += int64(len(p))
	w.meter.bytes(w.done, w.all)
	return len(p), nil
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

// basis is the old image: as the engine has unpacked it, or where that cannot be read, as it exports it. done gives back
// what it took.
func (d *Delivery) basis(ctx context.Context, ref, id string, layers engine.Layers) (basis delta.Basis, done func(), err error) {
	if layers.Folders != nil {
		return delta.FolderBasis(id, layers.Folders), func() {}, nil
	}
	began := time.Now()
	state, err := d.engine.Inspect(ctx)
	if err != nil {
		return nil, nil, err
	}
	var size int64
	for _, i := range state.Images {
		if slices.Contains(i.References, ref) {
			size = i.Size
		}
	}
	room, err := d.free(d.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("see what room there is for the old image: %w", err)
	}
	// Its layers may be there compressed and not.
	if need := 2*size + reserve; need > room {
		return nil, nil, fmt.Errorf("export the old image: %w: %d of %d bytes are free", errSpace, room, need)
	}
	folder := filepath.Join(d.dir, exports)
	defer func() {
		if err != nil {
			d.remove(folder)
		}
	}()
	path := filepath.Join(folder, "image.tar")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, nil, fmt.Errorf("export the old image: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("export the old image: %w", err)
	}
	err = d.engine.Export(ctx, ref, &bounded{f, room - reserve})
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, nil, fmt.Errorf("export the old image: %w", err)
	}
	image, err := archive.Open(path, archive.Options{Dir: folder})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: read the export of the old image: %w", delta.ErrBase, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, image.Close())
		}
	}()
	tars, sizes := make([]io.ReaderAt, len(image.Layers)), make([]int64, len(image.Layers))
	for i := range image.Layers {
		if tars[i], sizes[i], err = image.Random(i); err != nil {
			return nil, nil, err
		}
	}
	if basis, err = delta.TarBasis(image.ID, tars, sizes); err != nil {
		return nil, nil, err
	}
	d.log.Debug("the old image was exported", "image", ref, "bytes", size, "took", time.Since(began).Round(time.Millisecond))
	return basis, func() {
		if err := image.Close(); err != nil {
			d.log.Warn("a file of a delivery is left over", "err", err)
		}
		d.remove(folder)
	}, nil
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
