// Package secret owns finding a secret by the name of its variable: in the environment, in files, or in 1Password
// Connect. It does not own what a secret is for, and never logs one.
package secret

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Folder is where container engines put secrets.
const Folder = "/run/secrets"

// reference begins a value that 1Password has.
const reference = "op://"

// most bytes of a secret.
const most = 64 << 10

// Resolver looks secrets up. Its fields are not changed once it is in use; its methods may be called from several
// goroutines.
type Resolver struct {
	Environ []string // in the form of os.Environ
	Folder  string   // of files that are named like variables; empty: none

	// Cache is a file for what 1Password said, so that a device starts while Connect is away. Its secrets are in the
	// clear, as they are in Folder, readable by this user alone. Empty: none.
	Cache string

	Client *http.Client // nil: one with a time limit that follows no redirects
	Log    *slog.Logger // nil: nothing is logged

	mu    sync.Mutex
	env   map[string]string
	known map[string]string // references that were resolved, for the life of the Resolver
	gone  error             // Connect was away, and is asked no more: a start must not wait for each secret
}

// Lookup finds the value of a variable, and whether there is one. Of several places the last wins: the variable NAME,
// the file that NAME_FILE names, and the file NAME, or name, in Folder. A value op://vault/item/field or
// op://vault/item/section/field is a reference, and what 1Password Connect has there is returned; op://item/field is
// in the vault of OP_CONNECT_VAULT. Name may be such a reference itself. An error names the place and never the value.
func (r *Resolver) Lookup(ctx context.Context, name string) (string, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.HasPrefix(name, reference) {
		v, err := r.resolve(ctx, name)
		return v, err == nil, err
	}
	v, ok, err := r.plain(name)
	if err != nil || !strings.HasPrefix(v, reference) {
		return v, ok, err
	}
	if v, err = r.resolve(ctx, v); err != nil {
		return "", false, fmt.Errorf("%s: %w", name, err)
	}
	return v, true, nil
}

// plain finds a value without asking 1Password.
func (r *Resolver) plain(name string) (value string, found bool, err error) {
	if r.env == nil {
		r.env = map[string]string{}
		for _, kv := range r.Environ {
			if k, v, ok := strings.Cut(kv, "="); ok {
				r.env[k] = strings.TrimSpace(v)
			}
		}
	}
	if !isName(name) {
		return "", false, nil
	}
	// A variable that is set to nothing counts as not set: that is how a fleet takes one away.
	value, found = r.env[name], r.env[name] != ""
	if file := r.env[name+"_FILE"]; file != "" {
		if value, err = read(file); err != nil {
			return "", false, fmt.Errorf("%s_FILE: %w", name, err)
		}
		found = true
	}
	if r.Folder == "" {
		return value, found, nil
	}
	for _, file := range []string{name, strings.ToLower(name)} {
		v, err := read(filepath.Join(r.Folder, file))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotRegular) {
			continue
		}
		if err != nil {
			return "", false, fmt.Errorf("%s: %w", name, err)
		}
		return v, true, nil
	}
	return value, found, nil
}

// isName tells names of variables from what would leave the folder.
func isName(s string) bool {
	return s != "" && len(s) < 200 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_')
	})
}

var errNotRegular = errors.New("it is no file that can be read as one")

// read reads a file that has one secret. The line's end is not part of it.
func read(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("read %s: %w", file, errNotRegular)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", err
	}
	if len(text) > most {
		return "", fmt.Errorf("read %s: it has more than %d bytes, which is no secret", file, most)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

func (r *Resolver) log() *slog.Logger {
	if r.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Log
}
