package agent

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dunlin/dunlin/internal/wire"
)

// Status is what a device knows of itself without asking anybody. It holds no key.
type Status struct {
	UUID, Name, Server string
	Registered         bool
	Contact            time.Time // when the server last answered, to five minutes; zero: never
	Fleets             []FleetStatus
}

// FleetStatus is a fleet the device is to run.
type FleetStatus struct {
	UUID, Name string
	Runs       string // the commit it last ran whole, or ""
	Wanted     string // the commit it should run, or ""
}

// ReadStatus reads a data folder, beside a running agent or without one.
func ReadStatus(data string) (Status, error) {
	c, err := LoadConfig(data)
	if err != nil {
		return Status{}, err
	}
	s := Status{UUID: c.UUID, Name: c.DeviceName, Server: c.APIEndpoint, Registered: c.Registered()}
	b, err := readBook(data)
	if err != nil {
		return Status{}, err
	}
	if b.UUID != c.UUID || b.Target == nil {
		return s, nil
	}
	info, err := os.Stat(filepath.Join(data, "ledger.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Status{}, err
	}
	if err == nil {
		s.Contact = info.ModTime()
	}
	t, err := wire.ParseTarget(b.Target, b.UUID)
	if err != nil {
		return Status{}, err
	}
	s.Name = t.Name
	for _, uuid := range slices.Sorted(maps.Keys(t.Apps)) {
		f := FleetStatus{UUID: uuid, Name: t.Apps[uuid].Name, Runs: b.Releases[uuid]}
		for commit := range t.Apps[uuid].Releases { // at most one
			f.Wanted = commit
		}
		s.Fleets = append(s.Fleets, f)
	}
	return s, nil
}
