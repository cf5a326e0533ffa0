// Package registry owns the images: the OCI distribution API under /v2/ over a folder, with the token check at its
// door and the collection of what nobody needs. It does not own who may have which token, nor which images exist.
//
// It is distribution's registry in this process. Two things of it are process-wide: its log goes through logrus'
// standard logger, which New takes over; and it registers collectors (registry_storage_…) with Prometheus' default
// registerer, so the server shows a registerer of its own.
package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
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
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/token" // the kind of access controller configured below
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/google/renameio/v2"
)

// Config says where the images are and whose tokens open them.
type Config struct {
	Dir       string // made if need be, for its owner alone
	Service   string // audience of tokens
	Issuer    string // of tokens
	TokenPath string // where clients get tokens, on the same origin: /auth/v1/token
	JWKS      []byte // public keys of tokens, RFC 7517; ES256 only
	// Now is the clock of Collect; nil means time.Now. Tokens are checked against the real one.
	Now func() time.Time
	Log *slog.Logger
}

// Registry is an http.Handler for /v2/. All its methods may be called concurrently.
type Registry struct {
	app    *handlers.App
	images distribution.Namespace // the same store, with deletion
	driver driver.StorageDriver
	dir    string
	now    func() time.Time
	log    *slog.Logger

	// collecting is held for reading by requests that make something of what is there already (a layer linked, a
	// manifest put), and for writing by Collect. No client's bytes are waited for while it is held.
	collecting sync.RWMutex
}

// New opens the registry in a folder. What it starts is distribution's own and ends with the process: one goroutine
// that waits for events nobody subscribed to.
func New(ctx context.Context, c Config) (r *Registry, err error) {
	r = &Registry{dir: c.Dir, now: c.Now, log: c.Log}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for _, dir := range []string{r.path(repositories), r.path(blobs)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open registry: %w", err)
		}
	}
	secret, err := uploadSecret(filepath.Join(c.Dir, "upload.key"))
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	jwks := filepath.Join(c.Dir, "jwks.json")
	if err := renameio.WriteFile(jwks, c.JWKS, 0o600); err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	takeOverLog(r.log)

	// Panicking is how distribution refuses a configuration.
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("open registry: %v", p)
		}
	}()
	r.app = handlers.NewApp(ctx, configure(c, secret, jwks))
	r.driver = filesystem.New(filesystem.DriverParameters{RootDirectory: c.Dir, MaxThreads: 25})
	r.images, err = storage.NewRegistry(ctx, r.driver, storage.EnableDelete)
	if err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	return r, nil
}

func configure(c Config, secret, jwks string) *configuration.Configuration {
	var d configuration.Configuration
	d.Storage = configuration.Storage{
		"filesystem": {"rootdirectory": c.Dir},
		// Clients never delete: Collect does. There is no cache of what blobs there are, for it would go on after
		// Collect saying that they are there. Collect also ends uploads that nobody goes on with.
		"delete":      {"enabled": false},
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
	}
	d.Auth = configuration.Auth{"token": {
		"realm": c.TokenPath, "autoredirect": true, "autoredirectpath": c.TokenPath,
		"issuer": c.Issuer, "service": c.Service, "jwks": jwks, "signingalgorithms": []any{"ES256"},
	}}
	d.HTTP.Secret = secret
	d.HTTP.RelativeURLs = true // right under every host name
	d.HTTP.Headers = http.Header{"X-Content-Type-Options": {"nosniff"}}
	return &d
}

// uploadSecret signs the state of uploads that clients carry from request to request, so it outlives the process.
func uploadSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, 32)
		rand.Read(key) // it never fails
		text = []byte(hex.EncodeToString(key) + "\n")
		err = renameio.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return "", err
	}
	secret := string(bytes.TrimSpace(text))
	if len(secret) < 64 {
		return "", fmt.Errorf("%s is damaged; remove it, and uploads under way begin again", path)
	}
	return secret, nil
}

// ServeHTTP answers /v2/…. A request without the right token is told where to get one, at the host and by the scheme
// that the client used; behind a proxy that ends TLS, X-Forwarded-Proto says which.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	in := req.WithContext(req.Context()) // a shallow copy
	in.Header = req.Header.Clone()
	in.Header.Set("X-Forwarded-Proto", scheme(req))

	switch req.Method {
	case http.MethodPost:
		// It begins an upload or mounts a layer of another repository, and has no body of meaning.
		in.Body = http.NoBody
		r.collecting.RLock()
		defer r.collecting.RUnlock()
	case http.MethodPut:
		body := &lastByte{body: req.Body, then: r.collecting.RLock}
		in.Body = body
		defer func() {
			if body.seen {
				r.collecting.RUnlock()
			}
		}()
	}
	r.app.ServeHTTP(w, in)
}

func scheme(req *http.Request) string {
	if req.TLS != nil {
		return "https"
	}
	proto, _, _ := strings.Cut(req.Header.Get("X-Forwarded-Proto"), ",")
	if strings.EqualFold(strings.TrimSpace(proto), "https") {
		return "https"
	}
	return "http"
}

// lastByte calls then once, when the body has been read to its end and before the reader knows: whatever a handler
// does with the whole body, it does after then.
type lastByte struct {
	body io.ReadCloser
	then func()
	seen bool
}

func (b *lastByte) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil && !b.seen {
		b.seen = true
		b.then()
	}
	return n, err
}

func (b *lastByte) Close() error { return b.body.Close() }

// Size is how many bytes the registry's folder holds.
func (r *Registry) Size(ctx context.Context) (int64, error) {
	n, err := sizeOf(ctx, r.dir)
	if err != nil {
		return 0, fmt.Errorf("measure registry: %w", err)
	}
	return n, nil
}
