package logs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dunlin/dunlin/internal/wire"
)

// device is what is known in memory of one device's log. Its files are written only by who holds its turn.
type device struct {
	store *Store
	uuid  string
	dir   string
	users int           // guarded by Store.mu
	turn  chan struct{} // holds one token while somebody writes

	mu     sync.Mutex
	loaded bool // view agrees with the files; false before the first look and after a failure in the middle
	view   view
}

// view is a log at one moment. Every line of it is whole on the disk.
type view struct {
	segments []segment     // oldest first
	next     int64         // number the next line will get
	removed  bool          // the log is gone for good
	changed  chan struct{} // closed when there is another view
}

func (d *device) look() view {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.view
}

// show publishes a view; segments is not changed afterwards.
func (d *device) show(segments []segment, next int64, removed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.view.changed)
	d.view = view{segments: segments, next: next, removed: removed, changed: make(chan struct{})}
}

func (d *device) remove() { d.show(nil, d.look().next, true) }

// forget makes the next turn look at the files again.
func (d *device) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loaded = false
}

// load looks at the files once, and takes a line off the end that a killed server left half written.
func (d *device) load(ctx context.Context) error {
	d.mu.Lock()
	loaded, next := d.loaded, d.view.next
	d.mu.Unlock()
	if loaded {
		return nil
	}
	segments, err := list(d.dir)
	if err != nil {
		return err
	}
	if n := len(segments); n > 0 {
		last := &segments[n-1]
		lines, size, err := d.repair(ctx, *last)
		if err != nil {
			return err
		}
		last.size = size
		next = max(next, last.first+lines)
	}
	d.show(segments, next, false)
	d.mu.Lock()
	d.loaded = true
	d.mu.Unlock()
	return nil
}

// append writes lines to the newest segment and to as many new ones as they need.
func (d *device) append(ctx context.Context, lines []wire.LogLine) error {
	if err := d.load(ctx); err != nil {
		return err
	}
	now := d.store.now().UnixMilli()
	v := d.look()
	segments, next := slices.Clone(v.segments), v.next
	var batch []byte
	var count int64

	flush := func() error {
		if count == 0 {
			return nil
		}
		last := &segments[len(segments)-1]
		if err := d.write(ctx, *last, batch); err != nil {
			return err
		}
		last.size += int64(len(batch))
		next += count
		d.show(slices.Clone(segments), next, false)
		batch, count = batch[:0], 0
		return nil
	}
	for _, l := range lines {
		b := encode(l, now)
		if n := len(segments); n == 0 || !fits(segments[n-1].size+int64(len(batch)), len(b), d.store.segmentBytes()) {
			if err := flush(); err != nil {
				return err
			}
			segments = append(segments, segment{first: next, start: now})
		}
		batch = append(batch, b...)
		count++
	}
	if err := flush(); err != nil {
		return err
	}
	if kept := d.store.fitting(segments); len(kept) < len(segments) {
		d.show(slices.Clone(kept), next, false)
		return d.unlink(segments[:len(segments)-len(kept)])
	}
	return nil
}

// fits reports whether a segment of size bytes takes n more. An empty one takes any line.
func fits(size int64, n int, limit int64) bool { return size == 0 || size+int64(n) <= limit }

// write adds whole lines to a segment or, on an error, nothing.
func (d *device) write(ctx context.Context, s segment, lines []byte) (err error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	f, done, err := d.store.open(ctx, filepath.Join(d.dir, s.name()), os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	defer done()
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			d.forget()
		}
	}()
	if _, err := f.WriteAt(lines, s.size); err != nil {
		return errors.Join(err, f.Truncate(s.size))
	}
	return nil
}

// unlink removes the files of segments. Readers were told before: who still reads an old view skips what is gone.
func (d *device) unlink(segments []segment) error {
	for _, s := range segments {
		if err := os.Remove(filepath.Join(d.dir, s.name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.forget()
			return err
		}
	}
	return nil
}
