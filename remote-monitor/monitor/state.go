package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// stateVersion changes when an older program could not read what a newer one keeps.
const stateVersion = 1

// largestState bounds what is read at the start. A day of commands is far less.
const largestState = 8 << 20

// Kept is what survives a restart.
type Kept struct {
	Version int                 `json:"version"`
	Zones   zone.Memory         `json:"zones"`
	Outputs relay.Memory        `json:"outputs"`
	Asked   map[string]Answered `json:"asked,omitempty"` // commands for groups, by id
}

// Answered is what a command for a group was told, for when it comes again.
type Answered struct {
	Time time.Time `json:"time"`
	Ack  bus.Ack   `json:"ack"`
}

// StateFile keeps it in one file, which is always whole: a new one takes the place of the old one after it has reached
// the disk.
type StateFile struct{ Path string }

// Load returns what was kept; the zero Kept when there is nothing. A file that makes no sense is put aside, and the
// error says where: it is never a reason not to start.
func (s StateFile) Load() (Kept, error) {
	if s.Path == "" {
		return Kept{}, nil
	}
	b, err := s.read()
	if errors.Is(err, fs.ErrNotExist) {
		return Kept{}, nil
	}
	var k Kept
	if err == nil {
		err = json.Unmarshal(b, &k)
	}
	if err == nil && k.Version != stateVersion {
		err = fmt.Errorf("it is of version %d, and this program keeps version %d", k.Version, stateVersion)
	}
	if err == nil {
		return k, nil
	}
	aside := s.Path + ".damaged"
	if e := os.Rename(s.Path, aside); e != nil {
		return Kept{}, fmt.Errorf("read state %s: %w; it could not be put aside: %w", s.Path, err, e)
	}
	return Kept{}, fmt.Errorf("read state %s: %w; it is now %s, and nothing is remembered", s.Path, err, aside)
}

func (s StateFile) read() ([]byte, error) {
	info, err := os.Stat(s.Path)
	if err != nil {
		return nil, err
	}
	if info.Size() > largestState {
		return nil, fmt.Errorf("it has %d bytes, at most %d make sense", info.Size(), largestState)
	}
	return os.ReadFile(s.Path)
}

// Save keeps b, which is the JSON of a Kept. When it returns, b is on the disk, or what was there before still is.
func (s StateFile) Save(b []byte) error {
	if s.Path == "" {
		return nil
	}
	dir := filepath.Dir(s.Path)
	if err := renameio.WriteFile(s.Path, b, 0o600, renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	// The new name is on the disk when the folder is.
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}
