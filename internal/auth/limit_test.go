package auth

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever the order of attempts: never more than the burst at once, and never more than one an interval after that.
func TestALimitLetsABurstThroughAndThenOneAnInterval(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		burst := rapid.IntRange(1, 5).Draw(t, "burst")
		l := &limit{burst: burst, every: time.Minute, keep: 10}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var passed []time.Time
		for range rapid.IntRange(1, 60).Draw(t, "attempts") {
			now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "pause")) * time.Second)
			wait := l.take(now, "k")
			if wait < 0 || wait > time.Minute {
				t.Fatalf("wait %v", wait)
			}
			if wait > 0 {
				// What it says is when the next one passes, and not sooner.
				if again := l.take(now.Add(wait-time.Nanosecond), "k"); again == 0 {
					t.Fatalf("an attempt before the end of the wait of %v passes", wait)
				}
				if rapid.Bool().Draw(t, "wait for it") {
					now = now.Add(wait)
					if again := l.take(now, "k"); again != 0 {
						t.Fatalf("after the wait of %v there are %v more", wait, again)
					}
					passed = append(passed, now)
				}
				continue
			}
			passed = append(passed, now)
		}
		for i := range passed {
			for j := i; j < len(passed); j++ {
				if most := burst + int(passed[j].Sub(passed[i])/time.Minute); j-i+1 > most {
					t.Fatalf("%d passed within %v, want at most %d", j-i+1, passed[j].Sub(passed[i]), most)
				}
			}
		}
	})
}

func TestALimitForgetsWhatWasUsedLongestAgo(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l := &limit{burst: 1, every: time.Hour, keep: 100}
	limited := func(key string) bool { return l.take(now, key) > 0 }
	limited("first")
	for i := range 98 {
		limited(fmt.Sprint(i))
	}
	if !limited("first") { // and so it is used again
		t.Fatal("the first is forgotten while there is room")
	}
	for i := range 99 {
		limited(fmt.Sprint("more ", i))
	}
	if len(l.keys) != 100 || l.order.Len() != 100 {
		t.Fatalf("%d and %d are remembered, want 100", len(l.keys), l.order.Len())
	}
	if !limited("first") {
		t.Error("the first is forgotten, and others were used longer ago")
	}
	if limited("0") {
		t.Error("what was used longest ago is remembered")
	}
}

func TestALimitTakesBack(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l := &limit{burst: 2, every: time.Hour, keep: 10}
	for range 20 {
		if l.take(now, "k") > 0 {
			t.Fatal("an attempt that was taken back counts")
		}
		l.giveBack("k")
	}
	// Nor does it make room for more than the burst.
	l.giveBack("other")
	l.giveBack("other")
	n := 0
	for l.take(now, "other") == 0 {
		n++
	}
	if n != 2 {
		t.Errorf("%d passed after two were taken back that never were, want 2", n)
	}
	l.forget("other")
	if l.take(now, "other") > 0 {
		t.Error("what is forgotten counts")
	}
	for range 50 {
		if l.take(now, "") > 0 {
			t.Fatal("nobody in particular is limited")
		}
	}
}

func BenchmarkAMillionNames(b *testing.B) {
	l := &limit{burst: 10, every: time.Minute, keep: strangersKept}
	now := time.Now()
	for i := range b.N {
		l.take(now, fmt.Sprint("name ", i))
	}
}
