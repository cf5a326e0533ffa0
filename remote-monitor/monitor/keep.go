package monitor

import (
	"bytes"
	"log/slog"
	"time"
)

// How often the state is written: soon after something that must survive, seldom for the rest. Cards wear out.
const (
	keepSoon   = time.Second
	keepSeldom = 30 * time.Second
)

// patience is how long the loop waits for the disk when it has to.
const patience = 250 * time.Millisecond

// keeper takes the state from the loop to the disk. One goroutine, run, writes.
type keeper struct {
	file StateFile
	log  *slog.Logger
	next chan state // the newest one that is not written
	done chan struct{}
}

// state is what is to be written; saved is closed afterwards.
type state struct {
	json  []byte
	saved chan struct{}
}

func newKeeper(file StateFile, log *slog.Logger) *keeper {
	return &keeper{file: file, log: log, next: make(chan state, 1), done: make(chan struct{})}
}

func (k *keeper) run() {
	defer close(k.done)
	var last []byte
	failing := false // as was said; the text of the error differs each time
	for s := range k.next {
		if !bytes.Equal(s.json, last) {
			if err := k.file.Save(s.json); err == nil {
				last, failing = s.json, false
			} else if !failing {
				failing = true
				k.log.Warn("a restart will not know of what happened", "err", err)
			}
		}
		close(s.saved)
	}
}

// keep hands over a state and does not wait; one that has not been begun is forgotten for it.
func (k *keeper) keep(b []byte) (saved <-chan struct{}) {
	s := state{b, make(chan struct{})}
	select {
	case old := <-k.next:
		close(old.saved)
	default:
	}
	k.next <- s
	return s.saved
}

// end says that no state follows.
func (k *keeper) end() { close(k.next) }

// wait waits until the last state is written, or until within has passed.
func (k *keeper) wait(within time.Duration) {
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-k.done:
	case <-t.C:
		k.log.Warn("the disk is slow: the last state may not have been kept")
	}
}
