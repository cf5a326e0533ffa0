// Package trust owns the server's TLS identity: its certificate and key, given in files or issued by a private
// authority that is made at the first start. It does not own who connects, nor certificates from a public authority.
package trust

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
)

// How often Run looks whether the certificate is due, and whether given files changed.
const (
	dueEvery     = time.Hour
	changedEvery = time.Minute
)

// Identity is a certificate with its key, which may be exchanged while it is in use. All its methods may be called
// concurrently, but for Run and Reload, of which one runs at a time.
type Identity struct {
	// Log hears of exchanges in Run; nil for silence. It is set before Run.
	Log *slog.Logger

	current atomic.Pointer[tls.Certificate]
	every   time.Duration
	root    []byte // PEM; nil if the certificate is not of the private authority
	// renew is the certificate that is right at a time, or nil if the current one is.
	renew func(now time.Time, current *tls.Certificate) (*tls.Certificate, error)
}

// Load opens the private authority in a folder, or makes it, and issues a certificate for the hosts: DNS names, of
// which the first label may be *, and IP addresses. The authority is good for 20 years and its key never leaves the
// folder; a certificate is good for 397 days at most and issued again when hosts change and 30 days before its end.
func Load(dir string, hosts []string, now time.Time) (*Identity, error) {
	names, err := parseHosts(hosts)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open certificates: %w", err)
	}
	ca, err := openAuthority(filepath.Join(dir, "authority.pem"), now)
	if err != nil {
		return nil, err
	}
	id := &Identity{every: dueEvery, root: ca.rootPEM()}
	path := filepath.Join(dir, "server.pem")
	id.renew = func(now time.Time, current *tls.Certificate) (*tls.Certificate, error) {
		starting := current == nil
		if starting {
			current = readServer(path)
		}
		switch {
		case current == nil || !ca.suits(current.Leaf, names, now):
			return ca.issue(path, names, now)
		case starting:
			return current, nil
		}
		return nil, nil
	}
	if err := id.Reload(now); err != nil {
		return nil, err
	}
	return id, nil
}

// Files uses a certificate with its chain and its key from two PEM files, and notices when they are exchanged.
func Files(cert, key string) (*Identity, error) {
	var seen [2][]byte
	id := &Identity{every: changedEvery}
	id.renew = func(_ time.Time, current *tls.Certificate) (*tls.Certificate, error) {
		var texts [2][]byte
		for i, path := range []string{cert, key} {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, fault.Wrap(fault.Invalid, err, fmt.Sprintf("the TLS file %s cannot be read", path)).
					WithHint("check the path and that the server's user may read it")
			}
			texts[i] = text
		}
		if current != nil && bytes.Equal(texts[0], seen[0]) && bytes.Equal(texts[1], seen[1]) {
			return nil, nil
		}
		pair, err := tls.X509KeyPair(texts[0], texts[1])
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, fmt.Sprintf("%s and %s are not a certificate and its key", cert, key)).
				WithHint("both are PEM; the first has the server's certificate before those of its authorities")
		}
		seen = texts
		return &pair, nil
	}
	if err := id.Reload(time.Time{}); err != nil {
		return nil, err
	}
	return id, nil
}

// Reload exchanges the certificate if it is due or its files changed. After an error the one from before stays.
func (id *Identity) Reload(now time.Time) error {
	next, err := id.renew(now, id.current.Load())
	if err != nil {
		return err
	}
	if next != nil {
		id.current.Store(next)
	}
	return nil
}

// Run keeps the certificate right until the context ends, and then returns nil.
func (id *Identity) Run(ctx context.Context) error {
	log := id.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	tick := time.NewTicker(id.every)
	defer tick.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		before := id.current.Load()
		switch err := id.Reload(time.Now()); {
		case err != nil && !failing: // once, not each time
			failing = true
			log.Error("the certificate could not be exchanged; the one from before stays", "err", err, "until", id.NotAfter())
		case err == nil:
			failing = false
		}
		if id.current.Load() != before {
			log.Info("certificate exchanged", "until", id.NotAfter())
		}
	}
}

// TLSConfig is the configuration of a server with this identity, of TLS 1.2 and later. It follows exchanges.
func (id *Identity) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.current.Load(), nil },
	}
}

// RootPEM is the certificate that clients have to trust, or nil if they need none beyond those they have.
func (id *Identity) RootPEM() []byte { return bytes.Clone(id.root) }

// NotAfter is when the present certificate ends.
func (id *Identity) NotAfter() time.Time { return id.current.Load().Leaf.NotAfter }

// readServer is the certificate issued before, or nil: another one is issued for one that cannot be read.
func readServer(path string) *tls.Certificate {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil
	}
	return &pair
}

// blocks takes a PEM text with one certificate and one key apart.
func blocks(text []byte) (cert, key []byte, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE" && cert == nil:
			cert = block.Bytes
		case block.Type == "PRIVATE KEY" && key == nil:
			key = block.Bytes
		default:
			return nil, nil, fmt.Errorf("it has an unexpected block %q", block.Type)
		}
	}
	if cert == nil || key == nil {
		return nil, nil, errors.New("it lacks the certificate or the key")
	}
	return cert, key, nil
}

// encode is a PEM text with one certificate and its key.
func encode(cert []byte, key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...), nil
}
