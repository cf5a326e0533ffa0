package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/dunlin/dunlin/internal/fault"
)

// Keyring is the secrets kept beside the database and never in it: a copy of the database opens nothing.
type Keyring struct {
	session []byte            // of HS256 sessions
	token   *ecdsa.PrivateKey // of ES256 registry tokens
	id      string            // of token, an RFC 7638 thumbprint
	jwks    []byte
}

// OpenKeyring reads the secrets in a folder and makes those that are not there yet, readable by the owner alone.
// A file that is there and cannot be read is never replaced.
func OpenKeyring(dir string) (*Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	k := &Keyring{}
	if err := keep(filepath.Join(dir, "session.key"), newSessionKey, k.readSessionKey); err != nil {
		return nil, err
	}
	if err := keep(filepath.Join(dir, "token.key"), newTokenKey, k.readTokenKey); err != nil {
		return nil, err
	}
	return k, k.describe()
}

// keep reads a file, or makes it whole or not at all.
func keep(path string, create func() ([]byte, error), read func([]byte) error) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = create(); err == nil {
			err = renameio.WriteFile(path, text, 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("open keyring: %w", err)
	}
	if err := read(text); err != nil {
		return fault.Wrap(fault.Invalid, err, fmt.Sprintf("the key file %s is damaged", path)).
			WithHint("restore it from a backup, or remove it: a new one ends every session and registry token, nothing else")
	}
	return nil
}

func newSessionKey() ([]byte, error) {
	key := make([]byte, 32)
	rand.Read(key) // it never fails
	return []byte(hex.EncodeToString(key) + "\n"), nil
}

func (k *Keyring) readSessionKey(text []byte) error {
	key, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		return err
	}
	if len(key) != 32 {
		return fmt.Errorf("it has %d bytes, not 32", len(key))
	}
	k.session = key
	return nil
}

func newTokenKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (k *Keyring) readTokenKey(text []byte) error {
	block, _ := pem.Decode(text)
	if block == nil {
		return errors.New("it is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return errors.New("it is not a P-256 key")
	}
	k.token = ec
	return nil
}

// describe works out the public half as a JSON Web Key, whose id is its thumbprint.
func (k *Keyring) describe() error {
	point, err := k.token.PublicKey.Bytes() // 4, x, y, each of 32 bytes
	if err != nil {
		return fmt.Errorf("open keyring: %w", err)
	}
	x, y := base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:])
	// RFC 7638: the required members, in this order, without white space.
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	k.id = base64.RawURLEncoding.EncodeToString(sum[:])
	k.jwks, err = json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": k.id, "use": "sig", "alg": "ES256"}}})
	return err
}

// JWKS is the public key of registry tokens as a JSON Web Key Set (RFC 7517).
func (k *Keyring) JWKS() []byte { return bytes.Clone(k.jwks) }

// PublicKey is the public key of registry tokens.
func (k *Keyring) PublicKey() *ecdsa.PublicKey { return &k.token.PublicKey }
