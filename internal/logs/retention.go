package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// sweepEvery is the time between two looks at what is too old.
const sweepEvery = time.Hour

// Run removes what is over the bounds of size and age, at once and then every hour, until ctx ends, which is not an
// error. A device's log that cannot be swept is logged and left to the next time.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log().Warn("sweep of device logs incomplete", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweep visits every folder. It also drops the memory of logs nobody uses.
func (s *Store) sweep(ctx context.Context) error {
	s.mu.Lock()
	for uuid, d := range s.devices {
		if d.users == 0 {
			delete(s.devices, uuid)
		}
	}
	s.mu.Unlock()

	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs error
	for _, e := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !e.IsDir() || !uuids.MatchString(e.Name()) {
			continue
		}
		if err := s.inTurn(ctx, e.Name(), func(d *device) error { return d.expire(ctx) }); err != nil {
			errs = errors.Join(errs, fmt.Errorf("device %s: %w", e.Name(), err))
		}
	}
	return errs
}

// expire removes the segments of one device that are over the bounds. It does not load the log: counting lines
// would read a file of each of thousands of devices.
func (d *device) expire(ctx context.Context) error {
	d.mu.Lock()
	loaded, v := d.loaded, d.view
	d.mu.Unlock()
	segments := v.segments
	if !loaded {
		var err error
		if segments, err = list(d.dir); err != nil {
			return err
		}
	}
	kept, cutoff := d.store.fitting(segments), d.store.cutoff()
	for len(kept) > 0 && d.older(ctx, kept, cutoff) {
		kept = kept[1:]
	}
	if len(kept) == len(segments) {
		return nil
	}
	if loaded {
		d.show(kept, v.next, false)
	}
	if err := d.unlink(segments[:len(segments)-len(kept)]); err != nil {
		return err
	}
	if len(kept) == 0 {
		_ = os.Remove(d.dir) // a folder with something else in it stays
	}
	return nil
}

// fitting is the end of segments that is within DeviceBytes; at least the newest one.
func (s *Store) fitting(segments []segment) []segment {
	var total int64
	for i := len(segments) - 1; i >= 0; i-- {
		total += segments[i].size
		if total > s.deviceBytes() && i < len(segments)-1 {
			return segments[i+1:]
		}
	}
	return segments
}

// older reports whether every line of the first of segments was taken before cutoff: as it was if the second one
// was begun before, or, for the only one, if its last line says so.
func (d *device) older(ctx context.Context, segments []segment, cutoff int64) bool {
	if len(segments) > 1 {
		return segments[1].start < cutoff
	}
	s := segments[0]
	if s.start >= cutoff {
		return false
	}
	end, err := d.chunk(ctx, s, max(0, s.size-chunkBytes))
	if err != nil {
		return false
	}
	lines := bytes.Split(end, []byte{'\n'})
	for _, b := range slices.Backward(lines) { // the last one may be torn
		if l, ok := decode(b); ok {
			return l.CreatedAt < cutoff
		}
	}
	return true
}
