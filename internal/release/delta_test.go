package release_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

func TestTheRolloutTellsWhatDevicesDownloadAsSoonAsItIsKnown(t *testing.T) {
	p := open(t)
	p.DeltaFormat = "dunlin"
	runs := func(d fleet.Device, r fleet.Release) {
		t.Helper()
		if err := p.Store.Observe(t.Context(), d, store.Observation{Apps: true, UpdateStatus: "done", Running: r.Commit}); err != nil {
			t.Fatal(err)
		}
	}
	first, err := p.Push(t.Context(), push(1, ""), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	one, three, five := p.device("a"), p.device("bbb"), p.device("ccccc")
	runs(one, first)
	second, err := p.Push(t.Context(), push(2, "println(2)"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	runs(three, second)
	runs(five, second)
	third, err := p.Push(t.Context(), push(3, "println(3)"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []fleet.Device{one, three, five} {
		p.Hub.Heard(d, 60_000)
	}
	delta := func(from fleet.Release, status string, size int64) {
		p.exec(`INSERT INTO deltas (created_at, modified_at, source, target, format, status, size, replaces, reason, ended_at)
			SELECT 1, 1, s.image, t.image, 'dunlin', $1, $2, 14200000, 'it is not smaller', 1 FROM release_images s, release_images t
			WHERE s.release = $3 AND t.release = $4`, status, size, from.ID, third.ID)
	}
	delta(first, "waiting", 0)
	delta(second, "ready", 23_000)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	told := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- p.Rollout(ctx, third, io.MultiWriter(&out, notice{"r1 → r2", told, &sync.Once{}}))
	}()
	<-told
	runs(three, third)
	p.exec(`UPDATE deltas SET status = 'useless' WHERE status = 'waiting'`)
	runs(five, third)
	runs(one, third)
	p.Hub.Reported(porch)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"  r1 → r2: 23 kB instead of 14.2 MB, 2 devices\n", "  r0 → r2: 14.2 MB without a delta (it is not smaller), 1 device\n", "running on 3 of 3",
	} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("%q is not there once in\n%s", want, &out)
		}
	}
}
