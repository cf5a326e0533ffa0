package cli

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dunlin/dunlin/client"
)

// bar shows on a terminal how far something is; elsewhere nothing is shown. set may be called from anywhere.
type bar struct {
	what      string // what is being done
	done, all atomic.Int64
	end       chan struct{}
	ended     chan struct{}
}

// newBar begins to show; stop ends it.
func newBar(w io.Writer, what string) *bar {
	b := &bar{what: what, end: make(chan struct{}), ended: make(chan struct{})}
	go b.show(w, colours(w)) // a terminal that can take a line back
	return b
}

func (b *bar) set(done, all int64) {
	b.done.Store(done)
	b.all.Store(all)
}

// stop takes the bar away. It must be called once.
func (b *bar) stop() {
	close(b.end)
	<-b.ended
}

func (b *bar) show(w io.Writer, live bool) {
	defer close(b.ended)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if live {
				_, _ = fmt.Fprintf(w, "\r%s\x1b[K", b.line()) // for the eye alone
			}
		case <-b.end:
			if live {
				_, _ = fmt.Fprint(w, "\r\x1b[K") // likewise
			}
			return
		}
	}
}

// line is what the bar looks like now.
func (b *bar) line() string {
	const width = 24
	done, all := b.done.Load(), b.all.Load()
	if all <= 0 || done > all {
		return b.what + "…"
	}
	full := int(done * width / all)
	return fmt.Sprintf("%s  %s%s %3d %%  %s of %s", b.what, strings.Repeat("━", full), strings.Repeat("─", width-full), done*100/all,
		orNothing(size(client.Bytes(done))), size(client.Bytes(all)))
}

func orNothing(s string) string {
	if s == "" {
		return "0 B"
	}
	return s
}
