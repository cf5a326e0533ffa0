package source

import (
	"context"
	"sync"
)

// keyed is a lock per key. The zero value is ready.
type keyed struct {
	mu sync.Mutex
	m  map[string]*turn
}

type turn struct {
	held  chan struct{} // capacity 1; full while somebody holds the key
	users int           // holders and waiters; guarded by keyed.mu
}

// lock waits for key until ctx ends. waiting, if not nil, is called once when it is not free.
func (k *keyed) lock(ctx context.Context, key string, waiting func()) (unlock func(), err error) {
	k.mu.Lock()
	if k.m == nil {
		k.m = map[string]*turn{}
	}
	t := k.m[key]
	if t == nil {
		t = &turn{held: make(chan struct{}, 1)}
		k.m[key] = t
	}
	t.users++
	k.mu.Unlock()

	select {
	case t.held <- struct{}{}:
	default:
		if waiting != nil {
			waiting()
		}
		select {
		case t.held <- struct{}{}:
		case <-ctx.Done():
			k.leave(key, t)
			return nil, context.Cause(ctx)
		}
	}
	return sync.OnceFunc(func() {
		<-t.held
		k.leave(key, t)
	}), nil
}

func (k *keyed) leave(key string, t *turn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(k.m, key)
	}
}
