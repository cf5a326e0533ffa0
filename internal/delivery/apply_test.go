package delivery_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/engine"
)

func TestRoomIsSeenToBeforeAnythingIsWritten(t *testing.T) {
	for where, fails := range map[string]int{"delta": 1, "fake": 1} {
		t.Run(where, func(t *testing.T) {
			on(t, func(b *bench) {
				b.room = func(path string) (int64, error) {
					if strings.HasSuffix(path, where) {
						return 1 << 20, nil
					}
					return 1 << 40, nil
				}
				b.must(b.bring(b.Context(), b.next, standard))
				b.asPull(b.next, fails)
				if where == "delta" && b.shop.total() > 0 {
					b.Errorf("%d bytes were fetched without the room for them", b.shop.total())
				}
				if calls := strings.Join(b.engine.Trace(), "\n"); strings.Contains(calls, "load ") {
					b.Errorf("something was loaded:\n%s", calls)
				}
			})
		})
	}
}

// What is wrong with a delta or its base is seen before the new image has a name.
func TestADeltaThatDoesNotFitChangesNothing(t *testing.T) {
	for name, spoil := range map[string]func(b *bench, w *ware){
		"it is noise":             func(_ *bench, w *ware) { w.bytes = noise(9, 10_000) },
		"it is cut off":           func(_ *bench, w *ware) { w.bytes = w.bytes[:len(w.bytes)*2/3] },
		"a bit of it is wrong":    func(_ *bench, w *ware) { w.bytes = slices.Clone(w.bytes); w.bytes[len(w.bytes)/2] ^= 4 },
		"it is of another image":  func(b *bench, w *ware) { b.offer(b.old, b.middle); w.bytes = b.ware(b.old, b.middle).bytes },
		"it is from another base": func(b *bench, w *ware) { b.offer(b.middle, b.next); w.bytes = b.ware(b.middle, b.next).bytes },
		"the base is damaged on the disk": func(b *bench, _ *ware) {
			damaged := b.old
			damaged.layers = [][]byte{damaged.layers[0], bytes.Replace(damaged.layers[1], noise(2, 100), noise(8, 100), 1)}
			b.must(b.engine.RemoveImage(b.Context(), b.old.ref))
			b.engine.Push(b.old.ref, image(damaged))
			b.must(b.engine.Pull(b.Context(), b.old.ref, engine.Credentials{}, nil))
		},
		"the base goes meanwhile": func(b *bench, _ *ware) {
			b.engine.Before("export", func() error { return b.engine.RemoveImage(b.Context(), b.old.ref) })
		},
		"the engine is full": func(b *bench, _ *ware) {
			b.engine.Before("load", func() error { return engine.ErrDiskFull })
		},
	} {
		for _, waits := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", waits ", waits), func(t *testing.T) {
				on(t, func(b *bench) {
					w := b.ware(b.old, b.next)
					spoil(b, &w)
					b.shop.set(func(s *shop) { s.deltas[b.old.ref+" "+b.next.ref] = w })
					p := standard
					p.Wait = waits
					err := b.bring(b.Context(), b.next, p)
					if !waits {
						b.must(err)
						b.asPull(b.next, 1)
						return
					}
					if err == nil || len(b.failed) > 0 {
						b.Errorf("got %v, and %v", err, b.failed)
					}
					b.tidy()
					if s, err := b.engine.Inspect(b.Context()); err != nil || slices.ContainsFunc(s.Images, func(i engine.Image) bool { return i.References[0] == b.next.ref }) {
						b.Errorf("there is an image: %+v, %v", s.Images, err)
					}
					if b.bring(b.Context(), b.next, p) == nil && name != "the base goes meanwhile" || b.shop.total() > int64(len(w.bytes)) {
						b.Errorf("a second try went well, or the same %d bytes came again: %d", len(w.bytes), b.shop.total())
					}
				})
			})
		}
	}
}

func TestAnEngineThatGoesAwayFindsTheDeltaWhenItIsBack(t *testing.T) {
	for _, call := range []string{"layers", "info", "export", "load"} {
		t.Run(call, func(t *testing.T) {
			on(t, func(b *bench) {
				gone := false
				b.engine.Before(call, func() error {
					if !gone {
						gone = true
						b.engine.Away(true)
					}
					return nil
				})
				if err := b.bring(b.Context(), b.next, standard); !errors.Is(err, engine.ErrUnavailable) {
					b.Fatalf("got %v", err)
				}
				if len(b.failed) > 0 {
					b.Errorf("a delta was given up for %v", b.failed)
				}
				b.engine.Away(false)
				b.must(b.bring(b.Context(), b.next, standard))
				b.asDelta(b.next)
				if size := int64(len(b.ware(b.old, b.next).bytes)); b.shop.total() != size {
					b.Errorf("%d bytes were sent of a delta of %d", b.shop.total(), size)
				}
			})
		})
	}
}

func TestAManifestThatDoesNotComeAtOnceIsAskedForAgain(t *testing.T) {
	on(t, func(b *bench) {
		failures := 3
		b.engine.Before("pull "+b.next.ref, func() error {
			if failures--; failures >= 0 {
				return errors.New("connection reset by peer")
			}
			return nil
		})
		b.must(b.bring(b.Context(), b.next, standard))
		b.asDelta(b.next)
	})
}

func TestApplyingHasItsLimit(t *testing.T) {
	on(t, func(b *bench) {
		b.engine.Before("load", func() error { time.Sleep(time.Minute); return nil })
		p := standard
		p.ApplyTimeout = 30 * time.Second
		b.must(b.bring(b.Context(), b.next, p))
		b.asPull(b.next, 1)
		// The pull goes on where the delta was.
		after := slices.Compact(slices.DeleteFunc(slices.Clone(b.percents), func(p int) bool { return p <= 50 }))
		if len(after) < 9 {
			b.Errorf("percents %v", b.percents)
		}
		if !strings.Contains(b.failed[0].Error(), "longer than 30s") {
			b.Errorf("the reason is %v", b.failed[0])
		}
	})
}

func TestADeltaOfALaterFormatIsAReasonToPull(t *testing.T) {
	on(t, func(b *bench) {
		w := b.ware(b.old, b.next)
		w.bytes = slices.Clone(w.bytes)
		for i := range 16 { // whatever byte of the beginning is the version
			later := slices.Clone(w.bytes)
			later[i]++
			if _, err := delta.Open(bytes.NewReader(later)); errors.Is(err, delta.ErrVersion) {
				w.bytes = later
			}
		}
		b.shop.set(func(s *shop) { s.deltas[b.old.ref+" "+b.next.ref] = w })
		b.must(b.bring(b.Context(), b.next, standard))
		b.asPull(b.next, 1)
		if !errors.Is(b.failed[0], delta.ErrVersion) {
			b.Errorf("the reason is %v", b.failed[0])
		}
	})
}
