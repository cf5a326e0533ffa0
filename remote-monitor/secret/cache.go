package secret

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"

	"github.com/google/renameio/v2"
)

// mode of the cache: its secrets are this user's.
const mode = 0o600

// cached is what Connect said of a reference the last time.
func (r *Resolver) cached(p place) (string, bool) {
	all, err := r.load()
	if err != nil {
		r.log().Warn("the kept secrets cannot be read", "err", err)
		return "", false
	}
	v, ok := all[p.String()]
	return v, ok
}

// load reads the cache. One that others can read is not trusted: what stands there may not come from here.
func (r *Resolver) load() (map[string]string, error) {
	all := map[string]string{}
	if r.Cache == "" {
		return all, nil
	}
	info, err := os.Lstat(r.Cache)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&^mode != 0 {
		return nil, fmt.Errorf("%s is open to others (%v); remove it", r.Cache, info.Mode())
	}
	if info.Size() > mostBody {
		return nil, fmt.Errorf("%s has %d bytes, which is too much; remove it", r.Cache, info.Size())
	}
	text, err := os.ReadFile(r.Cache)
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(text, &all) != nil {
		return nil, fmt.Errorf("%s is damaged; remove it", r.Cache)
	}
	return all, nil
}

// keep writes a secret to the cache.
func (r *Resolver) keep(p place, v string) error {
	if r.Cache == "" {
		return nil
	}
	all, err := r.load()
	if err != nil {
		all = map[string]string{} // it cannot be read, so nothing is lost
	}
	if all == nil {
		all = map[string]string{}
	}
	if old, ok := all[p.String()]; ok && old == v && err == nil {
		return nil
	}
	next := maps.Clone(all)
	next[p.String()] = v
	text, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(r.Cache, append(text, '\n'), mode, renameio.IgnoreUmask())
}
