package release

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/wire"
)

// recheck is how long a change of presence may go unnoticed by someone who watches a rollout; reports are noticed
// at once.
const recheck = 2 * time.Second

// Rollout writes how the devices take a release, a line for each change, until every online device that should run
// it does, or ctx ends. Offline devices are counted, never waited for.
func (pl *Pipeline) Rollout(ctx context.Context, r fleet.Release, out io.Writer) error {
	t := &transcript{out: out}
	if r.Draft() {
		t.line("It is a draft: no device takes it until it is final. Try it on one: dunlin device pin DEVICE %s", short(r.Commit))
		return nil
	}
	reported, stop := pl.Hub.Watch(r.Fleet)
	defer stop()
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	told, remembered := pl.announcementOf(r)
	w := rollout{Pipeline: pl, t: t, told: told, said: map[string]string{}, late: !remembered, bases: maps.Clone(told.bases)}
	for {
		f, err := pl.Store.Fleet(ctx, r.Fleet)
		if err != nil {
			return err
		}
		switch {
		case f.Target != r.ID && f.TrackLatest:
			t.line("Another release has become the fleet's target; devices take that one")
			return nil
		case f.Target != r.ID:
			t.line("The fleet does not track the latest release: devices stay where they are. To move them to it: dunlin release pin %s --fleet %s", short(r.Commit), f.Slug)
			return nil
		}
		all, err := pl.Store.Rollout(ctx, r)
		if err != nil {
			return err
		}
		if err := w.deltas(ctx, r); err != nil {
			return err
		}
		if w.show(r, all) {
			return nil
		}
		select {
		case <-reported:
		case <-tick.C:
		case <-ctx.Done():
			t.line("%s; the devices go on by themselves", w.summary(len(all)))
			return nil
		}
	}
}

// rollout is what one watcher has been told so far.
type rollout struct {
	*Pipeline
	t       *transcript
	told    announcement
	late    bool              // how long the devices at hand have been running it is not known
	said    map[string]string // last line about each device, by uuid
	bases   map[int64]int     // devices by the release they come from, as far as nothing was said of it
	running int
	offline int
}

// show writes what changed and reports whether nobody needs to be waited for.
func (w *rollout) show(r fleet.Release, all []store.Progress) (done bool) {
	w.running, w.offline = 0, 0
	if len(all) == 0 {
		w.t.line("No device follows the fleet yet; the first one that does will take this release")
		return true
	}
	for _, p := range all {
		d := p.Device
		runs := d.Running == r.ID && settled(p)
		online := w.Hub.Online(d)
		var state string
		switch {
		case runs:
			w.running++
			state = "running"
			if w.late {
				state = "running it already"
			}
		case !online:
			w.offline++
			continue
		default:
			state = doing(p)
		}
		if w.said[d.UUID] == state || runs && strings.HasPrefix(w.said[d.UUID], "running") {
			continue
		}
		w.said[d.UUID] = state
		if state == "running" {
			state = fmt.Sprintf("running after %s, %s travelled", seconds(time.Since(w.told.at)),
				bytesOf(w.Hub.Travelled(d.UUID)-w.told.sent[d.UUID]))
		}
		w.t.line("  %s: %s", d.Name, state)
	}
	w.late = false
	if w.running+w.offline < len(all) {
		return false
	}
	w.t.line("%s", w.summary(len(all)))
	return true
}

// deltas writes, for each release that devices come from, what they download, as soon as it is known.
func (w *rollout) deltas(ctx context.Context, r fleet.Release) error {
	if w.DeltaFormat == "" {
		return nil
	}
	for _, base := range slices.Sorted(maps.Keys(w.bases)) {
		b, err := w.Store.DeltaBase(ctx, base, r.ID, w.DeltaFormat)
		if fault.Is(err, fault.NotFound) {
			delete(w.bases, base) // it was deleted
			continue
		}
		if err != nil {
			return err
		}
		if b.Unsettled {
			continue
		}
		w.t.line("  %s → %s: %s, %s", revision(b.Release), revision(r), downloads(b), devices(w.bases[base]))
		delete(w.bases, base)
	}
	return nil
}

// downloads is what a device downloads, in words.
func downloads(b fleet.DeltaBase) string {
	switch {
	case b.Replaces == 0:
		return "nothing to download"
	case b.Whole && b.Reason != "":
		return fmt.Sprintf("%s without a delta (%s)", bytesOf(b.Size), b.Reason)
	case b.Whole:
		return bytesOf(b.Size) + " without a delta"
	}
	return fmt.Sprintf("%s instead of %s", bytesOf(b.Size), bytesOf(b.Replaces))
}

// revision is a release in as few letters as tell it from the others of its fleet, where people give no versions.
func revision(r fleet.Release) string {
	switch {
	case r.Draft():
		return short(r.Commit)
	case r.Version == fleet.Version{}:
		return fmt.Sprintf("r%d", r.Revision)
	}
	return r.Version.Raw(r.Revision)
}

func devices(n int) string {
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}

// summary is the rollout in one line.
func (w *rollout) summary(all int) string {
	parts := []string{fmt.Sprintf("running on %d of %d", w.running, all)}
	if w.offline > 0 {
		parts = append(parts, fmt.Sprintf("%d offline (takes it when it returns)", w.offline))
	}
	if waiting := all - w.running - w.offline; waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d under way", waiting))
	}
	return strings.Join(parts, ", ")
}

// settled reports whether a device has nothing left to do for the release.
func settled(p store.Progress) bool {
	if s := wire.UpdateStatus(p.Device.UpdateState); s != wire.Done && s != "" {
		return false
	}
	for _, i := range p.Installs {
		if i.Status != wire.StatusRunning && i.Status != wire.StatusStopped && i.Status != wire.StatusExited {
			return false
		}
	}
	return true
}

// doing is a device's way to the release in words.
func doing(p store.Progress) string {
	var busy []string
	for _, i := range p.Installs {
		word := strings.ToLower(i.Status)
		if i.Progress >= 0 && i.Status == wire.StatusDownloading {
			word = fmt.Sprintf("%s %d %%", word, i.Progress)
		}
		busy = append(busy, i.Service+" "+word)
	}
	switch {
	case len(busy) > 0:
		return strings.Join(busy, ", ")
	case p.Device.UpdateState == string(wire.Rejected), p.Device.UpdateState == string(wire.Aborted):
		return "update " + p.Device.UpdateState
	}
	return "told of it"
}

// bytesOf is a size as people read it.
func bytesOf(n int64) string {
	switch {
	case n >= 1e8:
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}
