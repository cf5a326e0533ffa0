package bus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
)

// DefaultOutbox is how many entries an outbox keeps when nothing else is said.
const DefaultOutbox = 10_000

// The bounds of an outbox besides the number of its entries.
const (
	longestEntry = 16 << 10  // bytes; what is longer is not taken
	mostBytes    = 16 << 20  // of all entries together
	segmentSize  = 256 << 10 // a file that has grown so long is followed by another
)

// Outbox keeps what is to be sent until somebody has acknowledged it, in order and over restarts. When it is full the
// oldest entry makes room.
//
// On disk it is a few files of records with checksums. A record is written before its entry is handed out, which is
// enough to survive the end of the process at any moment. It is synced to the medium at most once a second and only
// while something waits: an entry that is sent and acknowledged at once never wears the flash of an SD card, and
// a loss of power costs at most the second before it. What is damaged on disk is left out and the rest is kept.
//
// Put, Added, Waiting and Dropped never touch the disk and may be called from anywhere, at any time. Store, Next, Newest, Done,
// Sync and Close do, one at a time.
type Outbox struct {
	max  int
	dir  string
	lock *os.File

	added   chan struct{} // something was put
	waiting atomic.Int64
	dropped atomic.Uint64

	mu    sync.Mutex
	fresh [][]byte // put and not yet stored

	// files is held while the disk is read and written, which is its purpose: nobody who must not wait takes it.
	files    sync.Mutex
	last     uint64  // number of the newest entry
	index    []place // of what waits, oldest first
	bytes    int64   // of what waits
	segments []*segment
	named    uint64   // number in the name of the newest file
	out      *os.File // the last of segments, open for writing; nil: the next entry begins one
	synced   uint64   // entries up to here are on the medium
	trouble  error    // why the disk is not used at the moment
}

// Entry is something that waits.
type Entry struct {
	Number uint64 // grows by the time it was put
	Data   []byte
}

// place is where an entry is.
type place struct {
	number uint64
	in     *segment // nil: in data
	at     int64    // of its record
	size   int32    // of its data
	data   []byte
}

// segment is one file.
type segment struct {
	path string
	size int64
	live int // entries in it that wait
}

// OpenOutbox reads the outbox in folder dir and makes the folder if there is none. An empty dir is an outbox in
// memory. No more than limit entries are kept, DefaultOutbox if it is 0. It fails when the folder cannot be used or
// another process uses it.
func OpenOutbox(dir string, limit int) (*Outbox, error) {
	o := inMemory()
	if limit > 0 {
		o.max = limit
	}
	if o.dir = dir; dir == "" {
		return o, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open outbox: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use the outbox in %s: another process has it open; end that one or give this one a folder of its own", dir), lock.Close())
	}
	o.lock = lock
	if err := o.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("open outbox: %w", err), lock.Close())
	}
	return o, nil
}

// inMemory is an outbox without a folder.
func inMemory() *Outbox { return &Outbox{max: DefaultOutbox, added: make(chan struct{}, 1)} }

// read finds what waits in the files. They are not written to again: the next entry begins a new one, so that a torn
// end stays where it is until its file goes.
func (o *Outbox) read() error {
	paths, err := filepath.Glob(filepath.Join(o.dir, "*"+segmentSuffix))
	if err != nil {
		return err
	}
	sort.Strings(paths)
	var done uint64
	for _, path := range paths {
		n, ok := segmentNumber(path)
		if !ok {
			continue // not one of ours
		}
		o.named = n
		b := readSegment(path)
		s := &segment{path: path, size: int64(len(b))}
		o.segments = append(o.segments, s)
		scan(b, func(at int, r record) {
			switch {
			case r.number > highest: // nobody puts so many
			case r.kind == kindDone:
				done = max(done, r.number)
				o.last = max(o.last, r.number)
			case r.number > o.last:
				o.last = r.number
				o.index = append(o.index, place{number: r.number, in: s, at: int64(at), size: int32(len(r.data))})
				o.bytes += int64(len(r.data))
				s.live++
			}
		})
	}
	o.synced = o.last
	o.forget(done)
	if over := len(o.index) - o.max; over > 0 { // the limit was higher
		n := o.index[over-1].number
		o.forget(n)
		o.dropped.Add(uint64(over))
		o.mark(n)
	}
	o.sweep()
	o.waiting.Store(int64(len(o.index)))
	return nil
}

// Put takes an entry. It keeps data.
func (o *Outbox) Put(data []byte) {
	if len(data) > longestEntry {
		o.dropped.Add(1)
		return
	}
	o.mu.Lock()
	o.fresh = append(o.fresh, data)
	if len(o.fresh) > o.max { // nobody stores, or the disk hangs
		o.fresh = append(o.fresh[:0], o.fresh[1:]...)
		o.dropped.Add(1)
		o.waiting.Add(-1)
	}
	o.waiting.Add(1)
	o.mu.Unlock()
	select {
	case o.added <- struct{}{}:
	default:
	}
}

// Waiting is how many entries have been put and not been done.
func (o *Outbox) Waiting() int { return max(0, int(o.waiting.Load())) }

// Dropped is how many entries were lost since the start: because there was no room, because one was too long, or
// because its record was damaged.
func (o *Outbox) Dropped() uint64 { return o.dropped.Load() }

// Added is sent to when something was put after the last Store.
func (o *Outbox) Added() <-chan struct{} { return o.added }

// Store writes what was put. When the disk fails the entries are kept in memory and the error says why, once for each
// time that it begins.
func (o *Outbox) Store() error {
	o.files.Lock()
	defer o.files.Unlock()
	o.mu.Lock()
	fresh := o.fresh
	o.fresh = nil
	o.mu.Unlock()
	var told error
	for _, data := range fresh {
		o.last++
		p := place{number: o.last, size: int32(len(data)), data: data}
		if o.dir != "" {
			err := o.write(&p, data)
			if err != nil && o.trouble == nil {
				told = fmt.Errorf("store for later: %w; kept in memory", err)
			}
			o.trouble = err
		}
		o.index = append(o.index, p)
		o.bytes += int64(len(data))
		for len(o.index) > o.max || o.bytes > mostBytes {
			o.drop()
		}
	}
	return told
}

// write adds the record of an entry to the files and makes p say where.
func (o *Outbox) write(p *place, data []byte) error {
	s, at, err := o.append(record{kindEntry, p.number, data})
	if err != nil {
		return err
	}
	s.live++
	p.in, p.at, p.data = s, at, nil
	return nil
}

// append writes one record at the end of the last file, or of a new one if that has grown long. What a failed write
// leaves is cut off.
func (o *Outbox) append(r record) (s *segment, at int64, err error) {
	if o.out != nil && o.segments[len(o.segments)-1].size >= segmentSize {
		err := errors.Join(o.sync(), o.out.Close())
		if o.out = nil; err != nil {
			return nil, 0, err
		}
	}
	if o.out == nil {
		path := filepath.Join(o.dir, segmentName(o.named+1))
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, 0, err
		}
		o.named++
		o.out = f
		o.segments = append(o.segments, &segment{path: path})
	}
	s = o.segments[len(o.segments)-1]
	at = s.size
	b := r.encode()
	if _, err := o.out.WriteAt(b, at); err != nil {
		return nil, 0, errors.Join(err, o.out.Truncate(at))
	}
	s.size += int64(len(b))
	return s, at, nil
}

// Next gives the oldest entry that waits and is newer than number after; false if there is none. The data is the
// caller's.
func (o *Outbox) Next(after uint64) (Entry, bool) {
	o.files.Lock()
	defer o.files.Unlock()
	for {
		i := sort.Search(len(o.index), func(i int) bool { return o.index[i].number > after })
		if i == len(o.index) {
			return Entry{}, false
		}
		p := o.index[i]
		if p.in == nil {
			return Entry{p.number, append([]byte(nil), p.data...)}, true
		}
		if data, err := p.read(); err == nil {
			return Entry{p.number, data}, true
		}
		o.remove(i) // damaged on disk since it was written
		o.dropped.Add(1)
	}
}

// Newest is the number of the newest entry that is stored, 0 if there never was one.
func (o *Outbox) Newest() uint64 {
	o.files.Lock()
	defer o.files.Unlock()
	return o.last
}

// Done says that all entries up to number n have arrived and need not be kept.
func (o *Outbox) Done(n uint64) {
	o.files.Lock()
	defer o.files.Unlock()
	if len(o.index) == 0 || o.index[0].number > n {
		return
	}
	o.forget(n)
	o.mark(n)
}

// drop gives up the oldest entry.
func (o *Outbox) drop() {
	n := o.index[0].number
	o.forget(n)
	o.dropped.Add(1)
	o.mark(n)
}

// forget takes all entries up to number n out of the index.
func (o *Outbox) forget(n uint64) {
	for len(o.index) > 0 && o.index[0].number <= n {
		o.remove(0)
	}
}

// remove takes one entry out of the index.
func (o *Outbox) remove(i int) {
	p := o.index[i]
	if p.in != nil {
		p.in.live--
	}
	o.bytes -= int64(p.size)
	o.waiting.Add(-1)
	if i == 0 {
		o.index[0] = place{}
		o.index = o.index[1:]
		return
	}
	o.index = append(o.index[:i], o.index[i+1:]...)
}

// mark makes it known on disk that all up to number n are done. A mark that cannot be written costs a repetition
// after the next start, which receivers have to bear with anyway.
func (o *Outbox) mark(n uint64) {
	if o.sweep(); o.dir == "" || len(o.index) == 0 {
		return
	}
	o.append(record{kind: kindDone, number: n})
}

// sweep removes the files in which nothing waits, oldest first and no further than the first in which something does:
// what comes after it may say what of it is done. The file that is written to is emptied instead, so that in quiet
// times nothing of it reaches the medium.
func (o *Outbox) sweep() {
	for len(o.segments) > 0 && o.segments[0].live == 0 {
		s := o.segments[0]
		if len(o.segments) == 1 && o.out != nil {
			if s.size > 0 && o.out.Truncate(0) == nil {
				s.size = 0
			}
			return
		}
		os.Remove(s.path) // one that stays is read again after the next start, and then repeats what it has
		o.segments = o.segments[1:]
	}
}

// Sync brings what waits to the medium if it is not there yet.
func (o *Outbox) Sync() error {
	o.files.Lock()
	defer o.files.Unlock()
	return o.sync()
}

func (o *Outbox) sync() error {
	if o.out == nil || len(o.index) == 0 || o.index[len(o.index)-1].number <= o.synced {
		return nil
	}
	newest := o.index[len(o.index)-1].number
	if err := o.out.Sync(); err != nil {
		return fmt.Errorf("sync outbox: %w", err)
	}
	dir, err := os.Open(o.dir) // a new file is found again only if its folder was synced, too
	if err != nil {
		return fmt.Errorf("sync outbox: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync outbox: %w", err)
	}
	o.synced = newest
	return nil
}

// Close stores and syncs what was put, and lets go of the folder. The outbox is not used after it.
func (o *Outbox) Close() error {
	err := errors.Join(o.Store(), o.Sync())
	o.files.Lock()
	defer o.files.Unlock()
	if o.out != nil {
		err = errors.Join(err, o.out.Close())
		o.out = nil
	}
	if o.lock != nil {
		err = errors.Join(err, o.lock.Close())
		o.lock = nil
	}
	return err
}
