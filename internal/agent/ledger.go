package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"github.com/dunlin/dunlin/internal/plan"
)

// ledger is what a device remembers over a reboot. The book is written durably and seldom; how far the logs were
// sent is written often and without care, for all it costs is lines sent twice.
type ledger struct {
	data string
	log  *slog.Logger

	saving sync.Mutex // one save at a time, so that the newest is the last

	mu      sync.Mutex
	book    book
	cursors map[string]time.Time // by container: the last line the server has
	dirty   bool                 // cursors changed since they were written
	contact time.Time            // when the server last answered, to a few minutes; it is the book's time
}

// book is ledger.json.
type book struct {
	UUID string `json:"uuid"` // whose it is; another identity starts another book
	// Target is the body of the last good answer and ETag its name.
	Target json.RawMessage `json:"target,omitempty"`
	ETag   string          `json:"etag,omitempty"`
	// NameAtInit is the device's name when it was first told: a device that is renamed does not restart its services.
	NameAtInit string `json:"nameAtInit,omitempty"`
	// Releases are the commits that the device last ran whole, by fleet uuid.
	Releases map[string]string `json:"releases,omitempty"`
	// Registries are the hosts of all images that targets have named, sorted: the images the agent may remove.
	Registries []string `json:"registries,omitempty"`
}

func openLedger(data, uuid string, log *slog.Logger) *ledger {
	l := &ledger{data: data, log: log, cursors: map[string]time.Time{}}
	if b, err := readBook(data); err != nil {
		log.Warn("the ledger cannot be read; starting a new one", "err", err)
	} else if b.UUID == uuid {
		l.book = b
	}
	l.book.UUID = uuid
	if info, err := os.Stat(l.path("ledger.json")); err == nil {
		l.contact = info.ModTime()
	}
	if b, err := os.ReadFile(l.path("logs.json")); err == nil && json.Unmarshal(b, &l.cursors) != nil {
		l.cursors = map[string]time.Time{}
	}
	return l
}

func readBook(data string) (book, error) {
	var b book
	text, err := os.ReadFile(filepath.Join(data, "ledger.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return b, fmt.Errorf("read ledger: %w", err)
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return book{}, fmt.Errorf("decode ledger: %w", err)
	}
	return b, nil
}

func (l *ledger) path(name string) string { return filepath.Join(l.data, name) }

func (l *ledger) target() (body []byte, etag string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book.Target, l.book.ETag
}

func (l *ledger) nameAtInit() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book.NameAtInit
}

// releases is not to be changed by anybody.
func (l *ledger) releases() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book.Releases
}

// write changes the book and saves it. What cannot be saved (a full disk) is still remembered until the agent ends.
func (l *ledger) write(change func(*book)) {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	change(&l.book)
	b, err := json.Marshal(l.book)
	contact := l.contact
	l.mu.Unlock()
	if err == nil {
		err = renameio.WriteFile(l.path("ledger.json"), b, 0o600, renameio.WithStaticPermissions(0o600))
	}
	if err == nil && !contact.IsZero() {
		err = os.Chtimes(l.path("ledger.json"), contact, contact)
	}
	if err != nil {
		l.log.Error("the ledger cannot be saved; after a restart without a network the device may go back", "err", err)
	}
}

// ran remembers that the device runs a release of an app whole.
func (l *ledger) ran(app, commit string) {
	if l.releases()[app] == commit {
		return
	}
	l.write(func(b *book) {
		b.Releases = maps.Clone(b.Releases)
		if b.Releases == nil {
			b.Releases = map[string]string{}
		}
		b.Releases[app] = commit
	})
}

// registries adds the hosts of a target's images to the ones that are remembered, and returns all of them.
func (l *ledger) registries(t *target) []string {
	l.mu.Lock()
	all := slices.Clone(l.book.Registries)
	l.mu.Unlock()
	before := len(all)
	for _, w := range t.releases {
		for _, ref := range w.images {
			if host := plan.Registry(ref); !slices.Contains(all, host) {
				all = append(all, host)
			}
		}
	}
	if len(all) != before {
		slices.Sort(all)
		l.write(func(b *book) { b.Registries = all })
	}
	return all
}

// contacted remembers that the server answered.
func (l *ledger) contacted() {
	now := time.Now()
	l.mu.Lock()
	fresh := now.Sub(l.contact) < 5*time.Minute
	if !fresh {
		l.contact = now
	}
	l.mu.Unlock()
	if fresh {
		return
	}
	if err := os.Chtimes(l.path("ledger.json"), now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.log.Debug("time of contact not kept", "err", err)
	}
}

func (l *ledger) cursor(container string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cursors[container]
}

// sent moves a container's cursor on.
func (l *ledger) sent(container string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.After(l.cursors[container]) {
		l.cursors[container] = at
		l.dirty = true
	}
}

// keepCursors forgets the containers that are gone.
func (l *ledger) keepCursors(there func(container string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.cursors {
		if !there(name) {
			delete(l.cursors, name)
			l.dirty = true
		}
	}
}

func (l *ledger) saveCursors() error {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	changed := l.dirty
	b, err := json.Marshal(l.cursors)
	l.dirty = false
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("encode log cursors: %w", err)
	}
	if !changed {
		return nil
	}
	temporary := l.path("logs.json.new")
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		return fmt.Errorf("save log cursors: %w", err)
	}
	if err := os.Rename(temporary, l.path("logs.json")); err != nil {
		return fmt.Errorf("save log cursors: %w", err)
	}
	return nil
}
