// Package logs owns the log lines of devices on disk: one folder of segments per device, how long they are kept,
// reading them back and following them as they come. It does not own how lines travel, who may read them, or what
// a line says.
//
// A segment is a file of JSON lines, readable with any tool. The lines of a device are numbered as they arrive, and
// a segment's name starts with the number of its first line. Nobody is handed a line from memory: a follower reads
// the same files, woken when they grow, so that the disk is the queue and a slow reader holds nobody up.
package logs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/wire"
)

// What a zero field of Store stands for.
const (
	DefaultSegmentBytes = 1 << 20
	DefaultDeviceBytes  = 16 << 20
	DefaultMaxAge       = 30 * 24 * time.Hour
)

// openFiles bounds the files that are open at one moment, whatever the number of devices and readers.
const openFiles = 64

// Store keeps the log lines of all devices below one folder. Set the fields before the first call; all methods may
// be called concurrently. One process at a time may use a folder.
type Store struct {
	Dir          string           // made when the first line comes
	SegmentBytes int64            // size at which a new segment starts; zero means DefaultSegmentBytes
	DeviceBytes  int64            // kept per device, at least the newest segment; zero means DefaultDeviceBytes
	MaxAge       time.Duration    // older lines are not read back, and Run removes them; zero means DefaultMaxAge
	Now          func() time.Time // nil means time.Now
	Log          *slog.Logger     // nil discards

	mu      sync.Mutex
	devices map[string]*device // those in use, and those used since the last sweep
	files   chan struct{}      // one token per open file
}

// Append stores lines in the given order, each stamped with the time the server took it. When it has returned, the
// lines are in the operating system's hands: a killed server loses none of them, a machine that loses power the
// last seconds. On an error some first lines may be stored; what was there before is whole in any case.
func (s *Store) Append(ctx context.Context, uuid string, lines []wire.LogLine) error {
	if len(lines) == 0 {
		return nil
	}
	err := s.inTurn(ctx, uuid, func(d *device) error { return d.append(ctx, lines) })
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil && fault.KindOf(err) == fault.Internal:
		return fault.Wrap(fault.Unavailable, fmt.Errorf("append to log of device %s: %w", uuid, err), "the log cannot be stored at the moment")
	default:
		return fmt.Errorf("append to log of device %s: %w", uuid, err)
	}
}

// Tail reads the last count lines back, oldest first; a negative count means all that are kept. Of these, lines
// the server took before since are left out. A device without a log has no lines, which is not an error. The
// answer is bounded by count and DeviceBytes; nothing else is held in memory.
func (s *Store) Tail(ctx context.Context, uuid string, count int, since time.Time) ([]wire.LogLine, error) {
	var lines []wire.LogLine
	err := s.reading(ctx, uuid, count, func(d *device, v view, c cursor) error {
		for more := true; more; {
			var got []wire.LogLine
			var err error
			if got, _, more, err = d.read(ctx, v, &c); err != nil {
				return err
			}
			for _, l := range got {
				if since.IsZero() || l.CreatedAt >= since.UnixMilli() {
					lines = append(lines, l)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read log of device %s: %w", uuid, err)
	}
	return lines, nil
}

// Follow calls line for the last count lines, oldest first (a negative count means all that are kept), and then
// for each line as it comes, with no gap and no line twice. It never holds Append up: a reader so slow that lines
// went out of retention before it came to them is told how many, in a system line in their place.
//
// It returns the first error of line, ctx's error when ctx ends, and a NotFound fault when the log is removed.
func (s *Store) Follow(ctx context.Context, uuid string, count int, line func(wire.LogLine) error) error {
	err := s.reading(ctx, uuid, count, func(d *device, v view, c cursor) error {
		for {
			lines, missed, more, err := d.read(ctx, v, &c)
			if err != nil {
				return err
			}
			if missed > 0 {
				lines = append([]wire.LogLine{s.missed(missed)}, lines...)
			}
			for _, l := range lines {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := line(l); err != nil {
					return err
				}
			}
			if !more {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-v.changed:
				}
			}
			if v = d.look(); v.removed {
				return fault.New(fault.NotFound, "the log was removed")
			}
		}
	})
	if err != nil {
		return fmt.Errorf("follow log of device %s: %w", uuid, err)
	}
	return nil
}

// Remove deletes the log of a device and ends those who follow it. A device without a log is not an error.
func (s *Store) Remove(uuid string) error {
	err := s.inTurn(context.Background(), uuid, func(d *device) error {
		if err := os.RemoveAll(d.dir); err != nil {
			d.forget() // some files may be gone
			return err
		}
		d.remove()
		s.mu.Lock()
		delete(s.devices, uuid)
		s.mu.Unlock()
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove log of device %s: %w", uuid, err)
	}
	return nil
}

func (s *Store) missed(n int64) wire.LogLine {
	now := s.now().UnixMilli()
	text := fmt.Sprintf("%d log lines are missing here: they were read too late and are no longer kept", n)
	if n == 1 {
		text = "1 log line is missing here: it was read too late and is no longer kept"
	}
	return wire.LogLine{Message: text, Timestamp: now, CreatedAt: now, IsSystem: true}
}

// uuids are the names a device's folder may have: nothing that means anything to a file system.
var uuids = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

// inTurn calls f while nobody else writes to the device's log.
func (s *Store) inTurn(ctx context.Context, uuid string, f func(*device) error) error {
	if !uuids.MatchString(uuid) {
		return fault.New(fault.Invalid, "a device uuid is up to 64 lower-case hexadecimal digits")
	}
	for {
		again, err := s.oneTurn(ctx, uuid, f)
		if !again {
			return err
		}
	}
}

// oneTurn says again when the log was removed while it waited: the log of that name is another one by now.
func (s *Store) oneTurn(ctx context.Context, uuid string, f func(*device) error) (again bool, err error) {
	d := s.hold(uuid)
	defer s.release(d)
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-d.turn }()
	if d.look().removed {
		return true, nil
	}
	return false, f(d)
}

// reading calls f with the log as it is now and a cursor before its last count lines.
func (s *Store) reading(ctx context.Context, uuid string, count int, f func(*device, view, cursor) error) error {
	var v view
	var d *device
	err := s.inTurn(ctx, uuid, func(got *device) error {
		if err := got.load(ctx); err != nil {
			return err
		}
		d, v = s.hold(uuid), got.look()
		return nil
	})
	if err != nil {
		return err
	}
	defer s.release(d)
	return f(d, v, v.last(count))
}

// hold finds the state of a device's log and keeps it in memory until release.
func (s *Store) hold(uuid string) *device {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.devices == nil {
		s.devices = map[string]*device{}
		s.files = make(chan struct{}, openFiles)
	}
	d := s.devices[uuid]
	if d == nil {
		d = &device{store: s, uuid: uuid, dir: filepath.Join(s.Dir, uuid), turn: make(chan struct{}, 1), view: view{changed: make(chan struct{})}}
		s.devices[uuid] = d
	}
	d.users++
	return d
}

// release drops the state at once when it says nothing; the sweep drops the rest.
func (s *Store) release(d *device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.users--
	if d.users == 0 && len(d.look().segments) == 0 && s.devices[d.uuid] == d {
		delete(s.devices, d.uuid)
	}
}

// open opens a file when fewer than openFiles are open.
func (s *Store) open(ctx context.Context, path string, flag int) (f *os.File, done func(), err error) {
	select {
	case s.files <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if f, err = os.OpenFile(path, flag, 0o600); err != nil {
		<-s.files
		return nil, nil, err
	}
	return f, func() { <-s.files }, nil
}

func (s *Store) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Store) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.New(slog.DiscardHandler)
}

func (s *Store) segmentBytes() int64   { return orElse(s.SegmentBytes, DefaultSegmentBytes) }
func (s *Store) deviceBytes() int64    { return orElse(s.DeviceBytes, DefaultDeviceBytes) }
func (s *Store) maxAge() time.Duration { return orElse(s.MaxAge, DefaultMaxAge) }

// cutoff is the time, in ms since 1970, before which lines are no longer kept.
func (s *Store) cutoff() int64 { return s.now().Add(-s.maxAge()).UnixMilli() }

func orElse[T int64 | time.Duration](v, zero T) T {
	if v <= 0 {
		return zero
	}
	return v
}
