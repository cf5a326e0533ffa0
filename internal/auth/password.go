package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"

	"github.com/dunlin/dunlin/internal/fault"
)

// argon2id with OWASP's first choice of parameters. RFC 9106 would rather have 64 MiB, which is more than a small
// server has to spare for its logins; against guessing at the door the limits do more. Two at a time bound the memory.
const (
	argonMemory  = 19 * 1024 // KiB
	argonTime    = 2
	argonThreads = 1
	argonKey     = 32
	hashesAtOnce = 2

	minPassword = 10   // characters
	maxPassword = 1024 // bytes
)

// hashing bounds and makes the hashes of passwords. Its zero value is ready.
type hashing struct {
	once  sync.Once
	slots chan struct{}
	// memory is argon2's, in KiB; 0 means argonMemory, and less is for tests that try many passwords.
	memory uint32
}

func (h *hashing) cost() uint32 {
	if h.memory != 0 {
		return h.memory
	}
	return argonMemory
}

// argon runs f while no more than hashesAtOnce others do.
func (h *hashing) argon(ctx context.Context, f func()) error {
	h.once.Do(func() { h.slots = make(chan struct{}, hashesAtOnce) })
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err(), "too many logins at once")
	}
	defer func() { <-h.slots }()
	f()
	return nil
}

// hash is a password in PHC form: $argon2id$v=19$m=19456,t=2,p=1$salt$hash.
func (h *hashing) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, 16)
	rand.Read(salt) // it never fails
	var key []byte
	memory := h.cost()
	if err := h.argon(ctx, func() {
		key = argon2.IDKey([]byte(password), salt, argonTime, memory, argonThreads, argonKey)
	}); err != nil {
		return "", err
	}
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, argonTime, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// verify reports whether a password is the one of a PHC string. It works as hard on a string that is none.
func (h *hashing) verify(ctx context.Context, phc, password string) (bool, error) {
	p, ok := parsePHC(phc)
	if !ok {
		p = phcHash{memory: h.cost(), time: argonTime, threads: argonThreads, salt: make([]byte, 16), key: make([]byte, argonKey)}
	}
	if len(password) > maxPassword {
		ok, password = false, "" // nobody has one so long
	}
	var key []byte
	if err := h.argon(ctx, func() {
		key = argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, uint32(len(p.key)))
	}); err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(key, p.key) == 1 && ok, nil
}

// cheap reports whether a hash costs less to guess at than a new one would.
func (h *hashing) cheap(phc string) bool {
	p, ok := parsePHC(phc)
	return ok && (p.memory < h.cost() || p.time < argonTime || len(p.key) < argonKey)
}

type phcHash struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

// parsePHC reads an argon2id hash whose cost is within what a login may take.
func parsePHC(phc string) (p phcHash, ok bool) {
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, false
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.threads); err != nil ||
		p.memory > 256*1024 || p.time < 1 || p.time > 16 || p.threads < 1 {
		return p, false
	}
	var err1, err2 error
	p.salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	p.key, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	return p, err1 == nil && err2 == nil && len(p.salt) >= 8 && len(p.key) >= 16 && len(p.key) <= 64
}
