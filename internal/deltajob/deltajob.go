// Package deltajob owns the deltas of a fleet's releases: which pairs of images are worth one, made in the background, kept
// within bounds, found by who asks. It does not own how a difference is made, nor what a device does with it.
//
// A delta is a row before anything is made (store), and an artifact in the registry, in the repository of its target, when
// it is. It is made in a process of its own: the memory of it is bounded and given back, it stands behind everything else
// for the processor, and what breaks it down, a damaged image or a mistake of ours, breaks nothing else.
package deltajob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/registry"
	"github.com/dunlin/dunlin/internal/store"
)

const (
	survey   = time.Minute      // how often what devices need is looked at, beside when something says that it changed
	flush    = 10 * time.Second // how often use is written down
	patience = 15 * time.Minute // a delta that a device asked for is made for so long after it asked
	attempts = 4                // before a delta is given up
	perAsker = 16               // deltas of one device's asking that may wait
)

// Causes with which an attempt is ended from outside.
var (
	errUnneeded = errors.New("nobody needs it any more")
	errRoom     = errors.New("it takes more room than there is for deltas")
)

// Jobs makes deltas and finds them. Its fields are set before the first call; its methods may be called concurrently.
type Jobs struct {
	Store    *store.DB
	Registry *registry.Registry
	Encoder  Encoder
	// Formats are the kinds of delta that can be made; the first is made by itself for what devices need, the others when
	// somebody asks.
	Formats []string
	// Parallel is how many are made at the same time. 0 makes none; those that are there are found all the same.
	Parallel int
	// Space bounds the bytes of deltas that are kept, together with what is at work; 0 is no bound.
	Space int64
	// Limit is how long one attempt may take; 0 means 30 minutes.
	Limit time.Duration
	// Wait is how long Find waits for a delta that is being made; 0 does not wait.
	Wait time.Duration
	// Dir is a folder for what is at work, on the registry's file system. Nothing in it outlives the server.
	Dir string
	// Lease is how long a delta that is being made is left alone after its maker was last heard of; 0 means 30 s. Three times
	// as often it is looked at whether it is still needed and what room it takes.
	Lease time.Duration
	// Backoff is how long after so many attempts the next one comes; nil means half a minute and four times as long each time.
	Backoff func(attempts int64) time.Duration
	// Ended is told of each attempt that has an outcome, and Saved of the bytes that a device did not have to fetch. May be nil.
	Ended func(d fleet.Delta, took time.Duration)
	Saved func(bytes int64)
	// Now is the clock of use; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger

	// keeping is held while artifacts are put, counted and dropped: two deltas may be the same bytes.
	keeping sync.Mutex

	once sync.Once
	wake chan struct{} // holds one token: what devices need may have changed
	more chan struct{} // a token for each maker that may find something to do

	mu      sync.Mutex
	waiting map[int64]*awaited // by delta
	kept    map[string]kept    // what a device fetches, by repository@digest
	uses    map[int64]fleet.DeltaUse
}

// kept is a delta in the registry.
type kept struct{ id, saves int64 }

func (j *Jobs) init() {
	j.once.Do(func() {
		j.wake, j.more = make(chan struct{}, 1), make(chan struct{}, max(1, j.Parallel))
		j.waiting, j.kept, j.uses = map[int64]*awaited{}, map[string]kept{}, map[int64]fleet.DeltaUse{}
	})
}

// Recover takes up what a stopped or killed server left: what was being made waits again, and what it was made of is
// removed. It is called before Run, and by one server alone.
func (j *Jobs) Recover(ctx context.Context) error {
	j.init()
	if err := os.RemoveAll(j.Dir); err != nil {
		return fmt.Errorf("clear the folder of deltas: %w", err)
	}
	if err := j.Store.ReleaseDeltas(ctx); err != nil {
		return fmt.Errorf("take up deltas: %w", err)
	}
	all, err := j.Store.KeptDeltas(ctx)
	if err != nil {
		return err
	}
	for _, d := range all {
		j.know(d)
	}
	return nil
}

// Poke has what devices need looked at. It does not block.
func (j *Jobs) Poke() {
	j.init()
	select {
	case j.wake <- struct{}{}:
	default: // a token waits already
	}
}

// Run makes what devices need and what is asked for, until ctx ends.
func (j *Jobs) Run(ctx context.Context) error {
	j.init()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		j.look(ctx)
		return nil
	})
	for range j.Parallel {
		g.Go(func() error {
			j.work(ctx)
			return nil
		})
	}
	return g.Wait()
}

// look keeps the rows up to what devices need and writes down what is used.
func (j *Jobs) look(ctx context.Context) {
	every, often := time.NewTicker(survey), time.NewTicker(flush)
	defer every.Stop()
	defer often.Stop()
	j.Poke()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			j.write(last)
			cancel()
			return
		case <-often.C:
			j.write(ctx)
			continue
		case <-every.C:
		case <-j.wake:
		}
		if j.Parallel == 0 || len(j.Formats) == 0 {
			continue
		}
		waiting, err := j.Store.WantDeltas(ctx, j.Formats[0], j.now().Add(-patience))
		if err != nil {
			if ctx.Err() == nil {
				j.log().Warn("what deltas devices need was not looked at", "err", err)
			}
			continue
		}
		if waiting > 0 {
			j.call()
		}
	}
}

// call has makers look for something to do.
func (j *Jobs) call() {
	for range cap(j.more) {
		select {
		case j.more <- struct{}{}:
		default:
			return
		}
	}
}

// work makes one delta after the other.
func (j *Jobs) work(ctx context.Context) {
	for ctx.Err() == nil {
		wait := survey
		for _, format := range j.Formats {
			d, found, next, err := j.Store.ClaimDelta(ctx, format, j.lease(), attempts)
			switch {
			case err != nil:
				if ctx.Err() == nil {
					j.log().Warn("no delta claimed", "err", err)
				}
			case found:
				j.make(ctx, d)
				wait = 0
			case !next.IsZero():
				wait = min(wait, max(next.Sub(j.now()), 0)+time.Millisecond)
			}
		}
		if wait == 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-j.more:
		}
		timer.Stop()
	}
}

// Collect takes artifacts out of the registry that no delta names: of images that were deleted, or of another database. It
// is called before the registry's own collection, which removes their content.
func (j *Jobs) Collect(ctx context.Context) error {
	j.keeping.Lock()
	defer j.keeping.Unlock()
	return j.Registry.CollectArtifacts(ctx, delta.MediaType, func(repository, manifest string) (bool, error) {
		return j.Store.ArtifactNamed(ctx, repository, manifest)
	})
}

func (j *Jobs) now() time.Time {
	if j.Now != nil {
		return j.Now()
	}
	return time.Now()
}

func (j *Jobs) log() *slog.Logger {
	if j.Log != nil {
		return j.Log
	}
	return slog.New(slog.DiscardHandler)
}

func (j *Jobs) limit() time.Duration { return cmp.Or(j.Limit, 30*time.Minute) }

func (j *Jobs) lease() time.Duration { return cmp.Or(j.Lease, 30*time.Second) }

func (j *Jobs) backoff(attempts int64) time.Duration {
	if j.Backoff != nil {
		return j.Backoff(attempts)
	}
	return 30 * time.Second << (2 * min(attempts-1, 5))
}
