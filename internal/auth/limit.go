package auth

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"
)

// limit lets burst attempts of one key through at once and then one in every interval (the generic cell rate
// algorithm). What it remembers of a key is one time. Beyond keep keys the one that was used longest ago is forgotten,
// in constant time. burst, every and keep do not change; its methods may be called concurrently.
type limit struct {
	burst int
	every time.Duration
	keep  int

	mu    sync.Mutex // guards the rest
	order *list.List // of *gauge, the one used last at the back
	keys  map[[16]byte]*list.Element
}

type gauge struct {
	key  [16]byte
	full time.Time // from then on the whole burst is there again
}

// take counts one attempt, or says how long it takes until the next one may be. A key of "" is not counted.
func (l *limit) take(now time.Time, key string) (wait time.Duration) {
	if key == "" {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.gauge(key)
	full := g.full
	if full.Before(now) {
		full = now
	}
	if wait = full.Sub(now) - time.Duration(l.burst-1)*l.every; wait > 0 {
		return wait
	}
	g.full = full.Add(l.every)
	return 0
}

// giveBack takes back one attempt that was counted.
func (l *limit) giveBack(key string) {
	if key == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.gauge(key)
	g.full = g.full.Add(-l.every)
}

// forget takes back all attempts.
func (l *limit) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.keys[digest(key)]; ok {
		l.drop(e)
	}
}

// gauge is what is remembered of a key. mu is held.
func (l *limit) gauge(key string) *gauge {
	if l.keys == nil {
		l.keys, l.order = map[[16]byte]*list.Element{}, list.New()
	}
	id := digest(key)
	if e, ok := l.keys[id]; ok {
		l.order.MoveToBack(e)
		return e.Value.(*gauge)
	}
	if len(l.keys) >= l.keep {
		l.drop(l.order.Front())
	}
	g := &gauge{key: id}
	l.keys[id] = l.order.PushBack(g)
	return g
}

func (l *limit) drop(e *list.Element) {
	delete(l.keys, l.order.Remove(e).(*gauge).key)
}

// digest bounds what a key takes: names come from strangers.
func digest(key string) (id [16]byte) {
	sum := sha256.Sum256([]byte(key))
	copy(id[:], sum[:])
	return id
}
