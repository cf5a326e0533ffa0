package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/plan"
	"github.com/dunlin/dunlin/internal/wire"
)

// How soon what changed is reported.
const (
	reportSoon     = 500 * time.Millisecond // a service or a release changed its state
	reportProgress = 5 * time.Second        // a download went on
	reportSteady   = 10 * time.Second       // anything else, and everything while services change their state all the time
	reportMetrics  = 5 * time.Minute        // metrics alone

	// burst is how many reports may follow each other soon, and reportSteady how fast that is earned back: enough for an
	// update, too few for a service that keeps crashing.
	burst = 30
)

// said is a report's fields as they are sent, by name.
type said map[string]json.RawMessage

// metrics are the fields that change all the time, and by how much they have to change to be worth a report.
var metrics = map[string]float64{
	"cpu_usage": 20, "memory_usage": 10, "memory_total": 0, "storage_usage": 10, "storage_total": 0, "cpu_temp": 5, "is_undervolted": 0,
}

// reporter tells the server what changed. It is owned by one goroutine.
type reporter struct {
	*device
	acked   said // what the server knows
	states  string
	last    time.Time // of the last report
	numbers time.Time // of the last report with metrics
	sampled time.Time
	sample  wire.DeviceReport
	credit  float64 // reports that may go soon
	earned  time.Time
	again   backoff
	blocked time.Time // after a failure, until then
	storage string    // path of the engine's storage
}

// report tells the server how the device is until ctx ends.
func (d *device) report(ctx context.Context) error {
	r := &reporter{device: d, acked: said{}, credit: burst, earned: time.Now(), again: backoff{first: 15 * time.Second, most: 5 * time.Minute}}
	for {
		look, looked := d.seen.get()
		progress, moved := d.progress.get()
		now := time.Now()
		r.measure(ctx, now)
		full, states := r.full(look, progress)
		wait := reportMetrics
		if fresh := difference(r.acked, full); len(fresh) > 0 {
			if wait = r.due(fresh, states, now).Sub(now); wait <= 0 {
				r.send(ctx, fresh, states)
				continue
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-looked:
		case <-moved:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// due is when the fresh fields may be sent.
func (r *reporter) due(fresh said, states string, now time.Time) time.Time {
	at := r.last.Add(reportSteady)
	onlyMetrics := true
	for k := range fresh {
		if _, ok := metrics[k]; !ok {
			onlyMetrics = false
		}
	}
	switch {
	case r.last.IsZero():
		at = now
	case onlyMetrics:
		at = r.numbers.Add(reportMetrics)
	case states != r.states && r.afford(now):
		at = r.last.Add(reportSoon)
	case fresh["apps"] != nil && states == r.states:
		at = r.last.Add(reportProgress)
	}
	if at.Before(r.blocked) {
		return r.blocked
	}
	return at
}

// afford earns credit and reports whether there is any.
func (r *reporter) afford(now time.Time) bool {
	r.credit = min(r.credit+now.Sub(r.earned).Seconds()/reportSteady.Seconds(), burst)
	r.earned = now
	return r.credit >= 1
}

func (r *reporter) send(ctx context.Context, fresh said, states string) {
	a, err := r.server.call(ctx, request{
		method: "PATCH", path: "/device/v3/state", key: r.config.DeviceAPIKey, body: map[string]said{r.config.UUID: fresh},
	})
	if err == nil {
		err = a.refused(http.StatusOK, http.StatusNoContent)
	}
	now := time.Now()
	r.last = now
	if err != nil {
		wait := max(r.again.next(), a.retryAfter())
		r.blocked = now.Add(wait)
		if ctx.Err() == nil {
			r.Log.Warn("report not taken", "err", err, "retry", wait.Round(time.Second))
		}
		return
	}
	r.again.reset()
	r.blocked = time.Time{}
	r.credit = max(r.credit-1, 0)
	maps.Copy(r.acked, fresh)
	r.states = states
	for k := range fresh {
		if _, ok := metrics[k]; ok {
			r.numbers = now
		}
	}
	r.ledger.contacted()
}

// difference is what of full the server does not know, metrics only if they changed by enough to matter.
func difference(acked, full said) said {
	fresh := said{}
	for k, v := range full {
		old, known := acked[k]
		if known && string(old) == string(v) {
			continue
		}
		if least := metrics[k]; known && least > 0 {
			var a, b float64
			if json.Unmarshal(old, &a) == nil && json.Unmarshal(v, &b) == nil && max(a-b, b-a) < least {
				continue
			}
		}
		fresh[k] = v
	}
	return fresh
}

// measure takes the machine's figures when they are old.
func (r *reporter) measure(ctx context.Context, now time.Time) {
	if !r.sampled.IsZero() && now.Sub(r.sampled) < reportSteady {
		return
	}
	r.sampled = now
	if r.storage == "" {
		ctx, cancel := context.WithTimeout(ctx, lookLimit)
		if info, err := r.Engine.Info(ctx); err == nil {
			r.storage = info.Root
		}
		cancel()
	}
	var d wire.DeviceReport
	word := func(field **string, s string) {
		if s != "" {
			*field = &s
		}
	}
	word(&d.OSVersion, r.host.osVersion())
	word(&d.OSVariant, r.host.osVariant())
	word(&d.SupervisorVersion, r.Version)
	word(&d.IPAddress, r.host.addresses())
	word(&d.MACAddress, r.host.macs())
	word(&d.CPUID, r.host.cpuID())
	d.Status, d.ProvisioningState = new("Idle"), new("")
	d.Undervolted = new(r.host.undervolted())
	if percent, ok := r.host.cpu(); ok {
		d.CPUUsage = &percent
	}
	if used, total, ok := r.host.memory(); ok {
		d.MemoryUsage, d.MemoryTotal = &used, &total
	}
	if celsius, ok := r.host.temperature(); ok {
		d.CPUTemp = &celsius
	}
	for _, path := range []string{r.storage, r.Data} {
		if device, used, total, ok := r.host.storage(path); ok {
			d.StorageDevice, d.StorageUsage, d.StorageTotal = &device, &used, &total
			break
		}
	}
	r.sample = d
}

// full is everything there is to say, and a text that changes when a service or a release changes its state.
func (r *reporter) full(l look, progress map[string]int) (full said, states string) {
	d := r.sample
	if l.known && l.target != nil {
		d.Apps = apps(l, progress)
		states = fmt.Sprint(stateOf(d.Apps))
	}
	b, err := json.Marshal(d)
	if err == nil {
		err = json.Unmarshal(b, &full)
	}
	if err != nil {
		panic("encode report: " + err.Error()) // it is plain data
	}
	return full, states
}

// stateOf is apps without how far downloads are.
func stateOf(apps map[string]wire.AppReport) string {
	bare := maps.Clone(apps)
	for uuid, app := range bare {
		app.Releases = maps.Clone(app.Releases)
		for commit, release := range app.Releases {
			release.Services = maps.Clone(release.Services)
			for name, s := range release.Services {
				s.DownloadProgress = nil
				release.Services[name] = s
			}
			app.Releases[commit] = release
		}
		bare[uuid] = app
	}
	b, err := json.Marshal(bare)
	if err != nil {
		panic("encode report: " + err.Error()) // it is plain data
	}
	return string(b)
}

// apps is what the device says of its fleets' releases: the one it should run, and what it still runs of the one before.
func apps(l look, progress map[string]int) map[string]wire.AppReport {
	all := map[string]wire.AppReport{}
	for _, app := range l.target.plan.Apps {
		w, ok := l.target.releases[app.UUID]
		if !ok {
			continue
		}
		report := wire.AppReport{ReleaseUUID: l.ran[app.UUID], Releases: map[string]wire.ReleaseReport{}}
		v := appView{look: l, app: app, wanted: w, progress: progress, last: report.ReleaseUUID}
		if report.ReleaseUUID == "" {
			report.ReleaseUUID = v.oldest()
		}
		if w.commit != "" {
			report.Releases[w.commit] = v.next()
		}
		v.before(report.Releases)
		all[app.UUID] = report
	}
	return all
}

// appView is one app of a look.
type appView struct {
	look
	app      plan.App
	wanted   wanted
	progress map[string]int
	last     string // the release that last ran whole
}

// next is the release that should run.
func (v appView) next() wire.ReleaseReport {
	r := wire.ReleaseReport{Services: map[string]wire.ServiceReport{}}
	if v.app.Frozen {
		r.UpdateStatus = wire.Rejected
		return r
	}
	missing, unmade, made, failed, fetching := false, false, false, false, false
	for _, s := range v.app.Services {
		c := v.container(s)
		image := s.Container.Image
		out := wire.ServiceReport{Image: v.wanted.images[s.Name]}
		subject, fetch := plan.Create{Name: s.Container.Name}.Subject(), plan.Fetch{Image: image}.Subject()
		failed = failed || v.failed[subject] && v.doing[subject] == nil || v.failed[fetch] && v.doing[fetch] == nil
		if c != nil {
			made = made || c.Status != engine.Created
			out.Status = v.status(*c, s.Stopped)
			r.Services[s.Name] = out
			continue
		}
		unmade = true
		switch _, here := plan.Present(v.state.Images, image); {
		case !here:
			missing = true
			fetching = fetching || v.doing[fetch] != nil
			percent := int64(v.progress[image])
			out.Status, out.DownloadProgress = wire.StatusDownloading, &percent
		case v.doing[subject] != nil:
			made = true
			out.Status = wire.StatusInstalling
		default:
			out.Status = wire.StatusDownloaded
			if v.last == v.wanted.commit {
				// Only what is around it changes; its predecessor is of the same release.
				if old := v.predecessor(s.Name); old != nil {
					out.Status = v.status(*old, false)
				}
			}
		}
		r.Services[s.Name] = out
	}
	switch {
	case plan.Settled(plan.State{State: v.state}, v.target.plan, v.app.UUID):
		r.UpdateStatus = wire.Done
	case failed && !fetching:
		r.UpdateStatus = wire.Aborted
	case missing:
		r.UpdateStatus = wire.Downloading
	case unmade && !made:
		r.UpdateStatus = wire.Downloaded
	default:
		r.UpdateStatus = wire.Applying
	}
	return r
}

// before adds what still runs of other releases.
func (v appView) before(releases map[string]wire.ReleaseReport) {
	for _, c := range v.state.Containers {
		if !v.app.Owns(c.Labels) || v.isWanted(c) {
			continue
		}
		// A container that was kept over several releases is of the last of them.
		commit := v.last
		if commit == "" || commit == v.wanted.commit {
			commit = c.Labels[engine.LabelRelease]
		}
		if commit == "" || commit == v.wanted.commit {
			continue
		}
		r, ok := releases[commit]
		if !ok {
			r = wire.ReleaseReport{UpdateStatus: wire.Done, Services: map[string]wire.ServiceReport{}}
		}
		r.Services[c.Labels[engine.LabelServiceName]] = wire.ServiceReport{Image: c.Image, Status: v.status(c, false)}
		releases[commit] = r
	}
}

func (v appView) container(s plan.Service) *engine.Container {
	for i, c := range v.state.Containers {
		if s.Is(c) && v.app.Owns(c.Labels) {
			return &v.state.Containers[i]
		}
	}
	return nil
}

func (v appView) isWanted(c engine.Container) bool {
	for _, s := range v.app.Services {
		if s.Is(c) {
			return true
		}
	}
	return false
}

func (v appView) predecessor(service string) *engine.Container {
	for i, c := range v.state.Containers {
		if v.app.Owns(c.Labels) && c.Labels[engine.LabelServiceName] == service && !v.isWanted(c) {
			return &v.state.Containers[i]
		}
	}
	return nil
}

// oldest is the release of what runs, when the ledger does not know: on a device whose ledger was lost.
func (v appView) oldest() string {
	for _, c := range v.state.Containers {
		if v.app.Owns(c.Labels) && plan.Up(c) && !v.isWanted(c) {
			return c.Labels[engine.LabelRelease]
		}
	}
	return ""
}

// status is a container's state in the supervisor's words.
func (v appView) status(c engine.Container, stopped bool) string {
	switch v.doing["container "+c.Name].(type) {
	case plan.Start:
		return wire.StatusStarting
	case plan.Stop:
		return wire.StatusStopping
	}
	switch c.Status {
	case engine.Created:
		return wire.StatusInstalled
	case engine.Running:
		return wire.StatusRunning
	case engine.Restarting:
		return wire.StatusRestarting
	case engine.Exited:
		if stopped {
			return wire.StatusStopped
		}
		return wire.StatusExited
	case engine.Dead:
		return wire.StatusDead
	default:
		return string(c.Status) // paused, removing: as the supervisor, which has no word of its own
	}
}
