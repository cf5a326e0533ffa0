package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/store"
)

// argon2id with OWASP's first choice for 19 MiB. Two at a time bound the memory that logins can take.
const (
	argonMemory  = 19 * 1024 // KiB
	argonTime    = 2
	argonThreads = 1
	argonKey     = 32
	hashesAtOnce = 2

	minPassword = 8    // bytes
	maxPassword = 1024 // bytes

	triesPerName    = 10
	triesPerAddress = 100
	triesWithin     = 2 * time.Hour
	triesRemembered = 20_000 // names and addresses; about 2 MB
)

// passwords guards the checking of passwords. Its zero value is ready.
type passwords struct {
	once  sync.Once
	slots chan struct{}
	tries tries
	// memory is argon2's, in KiB; 0 means argonMemory, and less is for tests that try many passwords.
	memory uint32
}

func (p *passwords) cost() uint32 {
	if p.memory != 0 {
		return p.memory
	}
	return argonMemory
}

// prove is the user of that name, if the password is theirs.
func (a *Auth) prove(ctx context.Context, name, password, remoteIP string) (store.Login, error) {
	now, byName, byAddress := a.now(), "name "+name, address(remoteIP)
	if wait := a.passwords.tries.take(now, byAddress, triesPerAddress); wait > 0 {
		return store.Login{}, limited(wait)
	}
	if wait := a.passwords.tries.take(now, byName, triesPerName); wait > 0 {
		return store.Login{}, limited(wait)
	}
	user, err := a.Store.Login(ctx, name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return store.Login{}, err
	}
	// An unknown user costs as much as a known one: the empty hash is worked on and never matches.
	same, err := a.verify(ctx, user.PasswordHash, password)
	if err != nil {
		return store.Login{}, err
	}
	if !same {
		return store.Login{}, fault.New(fault.Unauthenticated, "the user name or the password is wrong")
	}
	a.passwords.tries.forgive(byAddress, false)
	a.passwords.tries.forgive(byName, true)
	return user, nil
}

func limited(wait time.Duration) error {
	return fault.New(fault.Limited, "too many wrong passwords").
		WithHint(fmt.Sprintf("try again in %s", wait.Round(time.Minute)+time.Minute))
}

// address is what counts as one place of origin: an IPv4 address or an IPv6 network of 64 bits; "" is not counted.
func address(remoteIP string) string {
	if remoteIP == "" {
		return ""
	}
	ip, err := netip.ParseAddr(remoteIP)
	if err != nil {
		return "from " + remoteIP
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			ip = p.Addr()
		}
	}
	return "from " + ip.String()
}

// argon runs f while no more than hashesAtOnce others do.
func (a *Auth) argon(ctx context.Context, f func()) error {
	a.passwords.once.Do(func() { a.passwords.slots = make(chan struct{}, hashesAtOnce) })
	select {
	case a.passwords.slots <- struct{}{}:
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err(), "too many logins at once")
	}
	defer func() { <-a.passwords.slots }()
	f()
	return nil
}

// hash is a password in PHC form: $argon2id$v=19$m=19456,t=2,p=1$salt$hash.
func (a *Auth) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, 16)
	rand.Read(salt) // it never fails
	var key []byte
	memory := a.passwords.cost()
	if err := a.argon(ctx, func() {
		key = argon2.IDKey([]byte(password), salt, argonTime, memory, argonThreads, argonKey)
	}); err != nil {
		return "", err
	}
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, argonTime, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// verify reports whether a password is the one of a PHC string. It works as hard on a string that is none.
func (a *Auth) verify(ctx context.Context, phc, password string) (bool, error) {
	p, ok := parsePHC(phc)
	if !ok {
		p = phcHash{memory: a.passwords.cost(), time: argonTime, threads: argonThreads, salt: make([]byte, 16), key: make([]byte, argonKey)}
	}
	if len(password) > maxPassword {
		ok, password = false, "" // nobody has one so long
	}
	var key []byte
	if err := a.argon(ctx, func() {
		key = argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.threads, uint32(len(p.key)))
	}); err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(key, p.key) == 1 && ok, nil
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

// tries counts attempts within a window that starts with the first of them. Its zero value is ready; its memory is
// bounded by triesRemembered, beyond which the oldest window is forgotten.
type tries struct {
	mu      sync.Mutex
	windows map[[sha256.Size]byte]window
}

type window struct {
	n     int
	since time.Time
}

// take counts one attempt, or says how long to wait. An empty key is not counted.
func (t *tries) take(now time.Time, key string, most int) (wait time.Duration) {
	if key == "" {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.windows == nil {
		t.windows = map[[sha256.Size]byte]window{}
	}
	id := sha256.Sum256([]byte(key))
	w, there := t.windows[id]
	if !there || now.Sub(w.since) >= triesWithin {
		if !there && len(t.windows) >= triesRemembered {
			t.forget(now)
		}
		w = window{since: now}
	}
	if w.n >= most {
		return w.since.Add(triesWithin).Sub(now)
	}
	w.n++
	t.windows[id] = w
	return 0
}

// forgive takes one attempt back, or all of them.
func (t *tries) forgive(key string, all bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := sha256.Sum256([]byte(key))
	w, there := t.windows[id]
	switch {
	case !there:
	case all || w.n <= 1:
		delete(t.windows, id)
	default:
		w.n--
		t.windows[id] = w
	}
}

// forget makes room: every window that is over goes, or else the oldest.
func (t *tries) forget(now time.Time) {
	var oldest [sha256.Size]byte
	since := now
	for id, w := range t.windows {
		if now.Sub(w.since) >= triesWithin {
			delete(t.windows, id)
		} else if !w.since.After(since) {
			oldest, since = id, w.since
		}
	}
	if len(t.windows) >= triesRemembered {
		delete(t.windows, oldest)
	}
}
