package monitor

import (
	"fmt"
	"time"
)

// waitingLines is how many lines may wait for a reader of standard output before they are thrown away.
const waitingLines = 1024

// out takes lines from the loop to Emit without the loop waiting. One goroutine, run, writes.
type out struct {
	emit  func(any) error
	lines chan any
	lost  int        // lines since the queue was full; the loop's own
	fails chan error // what Emit said, once
	done  chan struct{}
}

func newOut(emit func(any) error) *out {
	return &out{emit: emit, lines: make(chan any, waitingLines), fails: make(chan error, 1), done: make(chan struct{})}
}

func (o *out) run() {
	defer close(o.done)
	for line := range o.lines {
		if err := o.emit(line); err != nil {
			o.fails <- err
			for range o.lines {
			}
			return
		}
	}
}

// say queues a line. When the queue was full, the next line that fits says how many are missing before it.
func (o *out) say(now time.Time, line any) {
	if o.lost > 0 {
		select {
		case o.lines <- Line{Time: now.UTC(), Event: Lost, Reason: fmt.Sprintf("%d lines are missing here: nobody read them", o.lost)}:
			o.lost = 0
		default:
		}
	}
	select {
	case o.lines <- line:
	default:
		o.lost++
	}
}

// end says that no line follows.
func (o *out) end() { close(o.lines) }

// wait waits until all lines are written, or until within has passed.
func (o *out) wait(within time.Duration) error {
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-o.done:
	case <-t.C:
		return fmt.Errorf("write event: nobody reads, %d lines are lost", len(o.lines)+o.lost)
	}
	select {
	case err := <-o.fails:
		return err
	default:
		return nil
	}
}
