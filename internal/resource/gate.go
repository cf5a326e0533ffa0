package resource

import (
	"context"
	"sync"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// Whoever asks a long question makes others wait: the database has few readers. So all questions together leave some of
// them to those who only want to know who is asking, or what a device should run, and of one asker only a few are
// answered at a time. Nobody, who has no name to be counted by, is one asker, and has less patience than others.
const (
	questions       = store.Readers - 2 // of all together
	ofOne           = 3                 // of one asker
	ofNobody        = 2
	nobodysPatience = 10 // of a question of nobody's: this part of the others'
)

// gate lets questions in. Its zero value is not of use; see newGate.
type gate struct {
	all chan struct{} // a token for each question under way

	mu     sync.Mutex // guards askers
	askers map[int64]*asker
}

// asker is somebody who has questions under way, or waiting.
type asker struct {
	places  chan struct{}
	present int // questions that know of it
}

func newGate() *gate { return &gate{all: make(chan struct{}, questions), askers: map[int64]*asker{}} }

// enter waits for a place, at most for so long; leave gives it back.
func (g *gate) enter(ctx context.Context, actor fleet.Actor, patience time.Duration) (leave func(), err error) {
	a := g.arrive(actor)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for i, places := range []chan struct{}{a.places, g.all} {
		select {
		case places <- struct{}{}:
			continue
		case <-timer.C:
			err = fault.New(fault.Limited, "too many questions are being answered").WithWait(patience).WithHint("ask fewer at a time, or for less")
		case <-ctx.Done():
			err = ctx.Err()
		}
		if i > 0 {
			<-a.places
		}
		g.depart(actor, a)
		return nil, err
	}
	return func() {
		<-g.all
		<-a.places
		g.depart(actor, a)
	}, nil
}

func (g *gate) arrive(actor fleet.Actor) *asker {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.askers[actor.Actor]
	if a == nil {
		n := ofOne
		if actor.Kind == fleet.Nobody {
			n = ofNobody
		}
		a = &asker{places: make(chan struct{}, n)}
		g.askers[actor.Actor] = a
	}
	a.present++
	return a
}

func (g *gate) depart(actor fleet.Actor, a *asker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.present--; a.present == 0 {
		delete(g.askers, actor.Actor)
	}
}
