package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/delivery"
	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/engine"
)

func TestAnImageComesAsADelta(t *testing.T) {
	on(t, func(b *bench) {
		b.must(b.bring(b.Context(), b.next, standard))
		b.asDelta(b.next)
		size := int64(len(b.ware(b.old, b.next).bytes))
		if b.offered[0] != size || b.shop.total() != size {
			b.Errorf("offered %v, sent %d of %d bytes", b.offered, b.shop.total(), size)
		}
		if p := slices.Compact(slices.Clone(b.percents)); !slices.IsSorted(p) || p[len(p)-1] != 100 || len(p) < 40 {
			b.Errorf("percents %v", p)
		}
		if err := b.bring(b.Context(), b.next, standard); err != nil {
			b.Errorf("what is here is brought again: %v", err)
		}
	})
}

func TestWithoutABaseOrWithDeltasOffAnImageComesWhole(t *testing.T) {
	for name, change := range map[string]func(b *bench, p *delivery.Policy){
		"deltas are off":         func(_ *bench, p *delivery.Policy) { p.Deltas = false },
		"the base is not here":   func(b *bench, _ *delivery.Policy) { b.must(b.engine.RemoveImage(b.Context(), b.old.ref)) },
		"the server offers none": func(b *bench, _ *delivery.Policy) { clear(b.shop.deltas) },
		"it offers one of balena's": func(b *bench, _ *delivery.Policy) {
			b.shop.doors = []func(http.ResponseWriter){func(w http.ResponseWriter) { fmt.Fprint(w, `{"name":"hub.test/v2/x:delta-1"}`) }}
		},
		"it sends elsewhere": func(b *bench, _ *delivery.Policy) {
			b.shop.doors = []func(http.ResponseWriter){func(w http.ResponseWriter) {
				w.Header().Set("Location", "http://elsewhere.test/")
				w.WriteHeader(http.StatusFound)
			}}
		},
		"it offers one from another image": func(b *bench, _ *delivery.Policy) {
			w := b.ware(b.old, b.next)
			w.from = b.middle.id()
			b.shop.deltas[b.old.ref+" "+b.next.ref] = w
		},
	} {
		t.Run(name, func(t *testing.T) {
			on(t, func(b *bench) {
				p := standard
				p.Wait = true // which is about deltas that there are
				change(b, &p)
				b.must(b.bring(b.Context(), b.next, p))
				b.asPull(b.next, 0)
			})
		})
	}
}

func TestATransferThatBreaksTwentyTimesCostsItsBytesOnce(t *testing.T) {
	on(t, func(b *bench) {
		size := int64(len(b.ware(b.old, b.next).bytes))
		for i := range int64(20) {
			b.shop.cuts = append(b.shop.cuts, size/25+i*37)
		}
		b.must(b.bring(b.Context(), b.next, standard))
		b.asDelta(b.next)
		if len(b.shop.transfers()) != 21 {
			b.Errorf("%d transfers", len(b.shop.transfers()))
		}
		if b.shop.total() != size {
			b.Errorf("%d bytes were sent of a delta of %d", b.shop.total(), size)
		}
	})
}

func TestALaterAgentGoesOnAtTheByte(t *testing.T) {
	on(t, func(b *bench) {
		size := int64(len(b.ware(b.old, b.next).bytes))
		for range 5 {
			ctx, cancel := context.WithCancel(b.Context())
			until := b.shop.total() + size/6
			b.shop.watchers = []func(){func() {
				if b.shop.total() >= until {
					cancel()
					time.Sleep(time.Second) // nothing more is sent before that is known
				}
			}}
			if err := b.bring(ctx, b.next, standard); !errors.Is(err, context.Canceled) {
				b.Fatalf("got %v", err)
			}
			b.tidy()
		}
		b.shop.watchers = nil
		b.must(b.bring(b.Context(), b.next, standard))
		b.asDelta(b.next)
		// What was on its way when an agent ended is the piece that was not read.
		if extra := b.shop.total() - size; extra > 5*1000 {
			b.Errorf("%d bytes were sent twice", extra)
		}
	})
}

func TestAServerThatStandsStillIsAskedAgain(t *testing.T) {
	on(t, func(b *bench) {
		b.shop.still = 10_000
		began := time.Now()
		p := standard
		p.Retries = 2
		b.must(b.bring(b.Context(), b.next, p))
		b.asPull(b.next, 1)
		if took := time.Since(began); took < 3*p.RequestTimeout || took > 4*p.RequestTimeout {
			b.Errorf("it was waited for %v", took)
		}
		if b.shop.total() > 12_000 {
			b.Errorf("%d bytes were sent", b.shop.total())
		}
	})
}

func TestADamagedTransferIsBegunAnewOnce(t *testing.T) {
	on(t, func(b *bench) {
		b.shop.damage = 1
		b.must(b.bring(b.Context(), b.next, standard))
		b.asDelta(b.next)
		if len(b.shop.transfers()) != 2 {
			b.Errorf("transfers: %v", b.shop.transfers())
		}
	})
	on(t, func(b *bench) {
		b.shop.damage = 100
		b.must(b.bring(b.Context(), b.next, standard))
		b.asPull(b.next, 1)
		if len(b.shop.transfers()) != 2 {
			b.Errorf("transfers: %v", b.shop.transfers())
		}
	})
}

func TestADeviceThatWaitsDoesNotPayForADamagedDeltaAgainTheSameDay(t *testing.T) {
	on(t, func(b *bench) {
		b.shop.damage = 2
		p := standard
		p.Wait = true
		for range 3 {
			if err := b.bring(b.Context(), b.next, p); err == nil || !strings.Contains(err.Error(), "digest") {
				b.Errorf("got %v", err)
			}
		}
		if n := len(b.shop.transfers()); n != 2 {
			b.Errorf("%d transfers", n)
		}
		bad, err := filepath.Glob(filepath.Join(b.dir, "*.bad"))
		if err != nil || len(bad) != 1 {
			b.Fatalf("what is remembered of it: %v, %v", bad, err)
		}
		yesterday := time.Now().Add(-25 * time.Hour)
		b.must(os.Chtimes(bad[0], yesterday, yesterday))
		b.must(b.bring(b.Context(), b.next, p))
		b.asDelta(b.next)
	})
}

func TestAServerWithoutRangesCostsAPartAndNotTheImage(t *testing.T) {
	on(t, func(b *bench) {
		p := standard
		p.Wait = true
		w := b.ware(b.old, b.next)
		part := filepath.Join(b.dir, stem(b.next)+"-"+strings.TrimPrefix(digest(w.bytes), "sha256:")+".part")
		b.must(os.MkdirAll(b.dir, 0o700))
		b.must(os.WriteFile(part, w.bytes[:len(w.bytes)*9/10], 0o600))
		b.shop.anew = true
		_ = b.bring(b.Context(), b.next, p) // it may be refused, for what it costs
		b.must(b.bring(b.Context(), b.next, p))
		b.asDelta(b.next)
	})
}

func TestAProcessThatDiesIsADeltaThatFailed(t *testing.T) {
	on(t, func(b *bench) {
		b.apply = delivery.Process{Program: "/bin/sh", Args: []string{"-c", "kill -9 $$"}}.Apply
		b.must(b.bring(b.Context(), b.next, standard))
		b.asPull(b.next, 1)
		if !strings.Contains(b.failed[0].Error(), "killed") {
			b.Errorf("the reason is %v", b.failed[0])
		}
	})
}

func TestAProcessThatHangsEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	w := writing(func(p []byte) (int, error) {
		cancel(enough)
		return len(p), nil
	})
	err := delivery.Process{Program: "/bin/sh", Args: []string{"-c", "echo; exec sleep 1000"}}.Apply(ctx, delivery.Task{}, w)
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

type writing func(p []byte) (int, error)

func (w writing) Write(p []byte) (int, error) { return w(p) }

func TestWhatAProcessSaysIsTheErrorItHad(t *testing.T) {
	program := agent(t)
	t.Chdir(t.TempDir()) // an agent's data folder may be named from where it was started
	if err := os.WriteFile("delta", []byte("no delta at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := delivery.Process{Program: program, Args: []string{delivery.Command}}.Apply(t.Context(), delivery.Task{Delta: "delta"}, io.Discard)
	if !errors.Is(err, delta.ErrFormat) || err.Error() != delta.ErrFormat.Error() {
		t.Errorf("got %v", err)
	}
}

func TestAFileThatAPowerCutDamagedIsFound(t *testing.T) {
	on(t, func(b *bench) {
		w := b.ware(b.old, b.next)
		part := filepath.Join(b.dir, stem(b.next)+"-"+strings.TrimPrefix(digest(w.bytes), "sha256:")+".part")
		b.must(os.MkdirAll(b.dir, 0o700))
		b.must(os.WriteFile(part, make([]byte, len(w.bytes)/2), 0o600)) // as long as it was, and empty
		b.must(b.bring(b.Context(), b.next, standard))
		b.asDelta(b.next)
		if want := fmt.Sprintf("bytes=%d-", len(w.bytes)/2); len(b.shop.transfers()) != 2 || b.shop.transfers()[0] != want || b.shop.transfers()[1] != "bytes=0-" {
			b.Errorf("transfers: %v", b.shop.transfers())
		}
	})
}

func TestAServerThatSendsTheBeginningAgainIsNotPaidTwice(t *testing.T) {
	on(t, func(b *bench) {
		// Ranges it does not know; what it sends is as long as a delta may be.
		size := int64(300_000)
		b.shop.deltas[b.old.ref+" "+b.next.ref] = ware{noise(3, int(size)), b.old.id(), b.next.id()}
		b.shop.anew, b.shop.cuts = true, []int64{60_000, size - 100}
		b.must(b.bring(b.Context(), b.next, standard))
		b.asPull(b.next, 1)
		if !strings.Contains(b.failed[0].Error(), "sends again") {
			b.Errorf("the reason is %v", b.failed[0])
		}
		if most := size + size/100 + 64<<10; b.shop.total() > most || len(b.shop.transfers()) != 3 {
			b.Errorf("%d bytes were sent, %d are allowed; transfers %v", b.shop.total(), most, b.shop.transfers())
		}
	})
}

func status(code int, after string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(code)
	}
}

func TestADeltaThatIsBeingMadeIsWaitedFor(t *testing.T) {
	on(t, func(b *bench) {
		b.shop.doors = []func(http.ResponseWriter){status(504, "90"), status(504, "7"), status(502, "")}
		b.must(b.bring(b.Context(), b.next, standard))
		b.asDelta(b.next)
		for i, least := range []time.Duration{90 * time.Second, 7 * time.Second, 4 * time.Second} {
			if got := b.shop.asked[i+1].Sub(b.shop.asked[i]); got < least || got > 2*least+2*time.Second {
				b.Errorf("after answer %d it was asked again in %v, want %v", i+1, got, least)
			}
		}
	})
}

func TestADeltaThatIsNeverReadyIsGivenUp(t *testing.T) {
	forever := slices.Repeat([]func(http.ResponseWriter){status(504, "5")}, 100)
	on(t, func(b *bench) {
		b.shop.doors = forever
		b.must(b.bring(b.Context(), b.next, standard))
		b.asPull(b.next, 1)
		if n := len(b.shop.asked); n < standard.Retries-3 || n > standard.Retries+1 {
			b.Errorf("asked %d times", n)
		}
	})
	on(t, func(b *bench) {
		b.shop.doors = forever
		p := standard
		p.Wait = true
		if err := b.bring(b.Context(), b.next, p); err == nil || !strings.Contains(err.Error(), "504") {
			b.Errorf("got %v", err)
		}
		if n := b.engine.Fetched(b.next.ref); n > 0 {
			b.Errorf("%d bytes were pulled by a device that waits for deltas", n)
		}
	})
}

func TestAServerThatKeepsADeviceWaitingIsNotWaitedForMuchLonger(t *testing.T) {
	slow := func(w http.ResponseWriter) {
		time.Sleep(45 * time.Second)
		status(504, "5")(w)
	}
	on(t, func(b *bench) {
		b.shop.doors = slices.Repeat([]func(http.ResponseWriter){slow}, 100)
		p := standard
		p.Retries, p.Interval = 30, 10*time.Second
		began := time.Now()
		b.must(b.bring(b.Context(), b.next, p))
		b.asPull(b.next, 1)
		if took := time.Since(began); took < 5*time.Minute || took > 6*time.Minute {
			b.Errorf("the whole image was fetched after %v", took)
		}
	})
}

func TestATokenThatHasExpiredIsRenewed(t *testing.T) {
	on(t, func(b *bench) {
		half := int64(len(b.ware(b.old, b.next).bytes)) / 2
		b.shop.cuts = []int64{half}
		b.shop.watchers = []func(){func() { b.shop.set(func(s *shop) { s.expired = s.sent >= half && len(s.ranges) == 1 }) }}
		b.must(b.bring(b.Context(), b.next, standard))
		b.asDelta(b.next)
		if b.shop.tokens != 2 {
			b.Errorf("%d tokens", b.shop.tokens)
		}
	})
	on(t, func(b *bench) {
		b.shop.doors = slices.Repeat([]func(http.ResponseWriter){status(401, "")}, 100)
		b.must(b.bring(b.Context(), b.next, standard))
		b.asPull(b.next, 1)
		if n := len(b.shop.asked); n != 2 || b.shop.tokens != 2 {
			b.Errorf("asked %d times with %d tokens that are no good", n, b.shop.tokens)
		}
	})
}

func TestTwoDevicesOnDifferentBasesGetTheSameImage(t *testing.T) {
	on(t, func(b *bench) {
		other := newBench(b.T)
		other.must(other.engine.Pull(b.Context(), other.middle.ref, engine.Credentials{}, nil))
		other.must(other.engine.RemoveImage(b.Context(), other.old.ref))
		other.offer(other.middle, other.next)
		other.old = other.middle
		for _, d := range []*bench{b, other} {
			d.must(d.bring(d.Context(), d.next, standard))
			d.asDelta(d.next)
		}
		if b.next.ref != other.next.ref || bytes.Equal(b.ware(b.old, b.next).bytes, other.ware(other.old, other.next).bytes) {
			b.Error("this test has one base or two images")
		}
	})
}

func TestSeveralDeltasAreAppliedOneAfterTheOther(t *testing.T) {
	on(t, func(b *bench) {
		b.offer(b.old, b.middle)
		d := b.delivery()
		var mu sync.Mutex
		loading, most := 0, 0
		b.engine.Before("export", func() error {
			mu.Lock()
			loading++
			most = max(most, loading)
			mu.Unlock()
			time.Sleep(time.Second)
			return nil
		})
		b.engine.After("load", func() error {
			mu.Lock()
			defer mu.Unlock()
			loading--
			return nil
		})
		var wg sync.WaitGroup
		for _, p := range []picture{b.middle, b.next} {
			wg.Go(func() {
				if err := d.Bring(b.Context(), delivery.Order{Image: p.ref, Base: b.old.ref, Policy: standard}); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		b.here(b.middle)
		b.here(b.next)
		if most != 1 || b.engine.Fetched(b.middle.ref)+b.engine.Fetched(b.next.ref) > 2000 {
			b.Errorf("%d applied at a time; pulled %d and %d bytes", most, b.engine.Fetched(b.middle.ref), b.engine.Fetched(b.next.ref))
		}
	})
}

// stem begins the names of the files of a delivery.
func stem(p picture) string { return digest([]byte(p.ref))[len("sha256:"):][:16] }

func TestWhatNobodyWantsAnyMoreIsRemoved(t *testing.T) {
	on(t, func(b *bench) {
		b.offer(b.old, b.middle)
		for _, p := range []picture{b.middle, b.next} {
			b.shop.cuts = []int64{10_000}
			p0 := standard
			p0.Retries, p0.Wait = 0, true
			if b.bring(b.Context(), p, p0) == nil {
				b.Fatal("the transfer did not break off")
			}
		}
		d := b.delivery()
		b.must(os.MkdirAll(filepath.Join(b.dir, "base"), 0o700))
		d.Clean([]string{b.next.ref, b.old.ref})
		files, err := os.ReadDir(b.dir)
		b.must(err)
		if len(files) != 2 || !strings.HasPrefix(files[0].Name(), stem(b.next)) && !strings.HasPrefix(files[1].Name(), stem(b.next)) {
			b.Errorf("after cleaning: %v", files)
		}
		d.Recover(b.Context())
		b.tidy()
		b.shop.set(func(s *shop) { s.ranges = nil })
		b.must(b.bring(b.Context(), b.next, standard))
		b.asDelta(b.next)
		if !slices.Equal(b.shop.transfers(), []string{"bytes=10000-"}) {
			b.Errorf("transfers: %v", b.shop.transfers())
		}
	})
}

func TestAnotherDeltaOfTheSameImageReplacesThePartOfTheFirst(t *testing.T) {
	on(t, func(b *bench) {
		b.must(os.MkdirAll(b.dir, 0o700))
		b.must(os.WriteFile(filepath.Join(b.dir, stem(b.next)+"-"+strings.Repeat("0", 64)+".part"), []byte("x"), 0o600))
		b.shop.cuts = []int64{10_000}
		p := standard
		p.Retries, p.Wait = 0, true
		if b.bring(b.Context(), b.next, p) == nil {
			b.Fatal("the transfer did not break off")
		}
		if files, err := os.ReadDir(b.dir); err != nil || len(files) != 1 {
			b.Errorf("files: %v, %v", files, err)
		}
	})
}
