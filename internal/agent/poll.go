package agent

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/dunlin/dunlin/internal/wire"
)

const (
	// hold is how long a server that can is asked to hold an unchanged answer.
	hold = 50 * time.Second
	// held is the least a server must have held an answer to be asked again at once.
	held = hold / 2

	defaultPoll  = 15 * time.Minute
	shortestPoll = time.Second
	// mostChanges is how many changes in a row are fetched at once. A server that always answers with another text has
	// nothing to say.
	mostChanges = 20
	// jitter keeps a fleet that was switched on together from asking together, as the supervisor does.
	jitter = time.Minute
)

// poll asks for the target until ctx ends. A server that holds its answer is asked all the time, any other one at the
// poll interval.
func (d *device) poll(ctx context.Context) error {
	again := backoff{first: 15 * time.Second, most: d.pollInterval()}
	changes := 0
	for {
		asked := time.Now()
		before, _ := d.ledger.target()
		a, err := d.ask(ctx)
		if ctx.Err() != nil {
			return nil
		}
		took := time.Since(asked)
		if changes++; a.status != http.StatusOK || bytes.Equal(a.body, before) {
			changes = 0
		}
		changed := changes > 0 && changes <= mostChanges
		var wait time.Duration
		switch {
		case err != nil:
			again.most = max(d.pollInterval(), again.first)
			wait = max(again.next(), a.retryAfter())
			d.Log.Warn("no target from the server; what runs goes on", "err", err, "retry", wait.Round(time.Second))
		case changed, a.header.Get("Preference-Applied") != "", took >= held:
			again.reset()
			wait = shortestPoll - took
		default:
			again.reset()
			interval := d.pollInterval()
			wait = interval + rand.N(min(interval, jitter))
		}
		if err := sleep(ctx, wait); err != nil {
			return nil
		}
	}
}

// ask is one look at the target. Whatever the answer, what was known stays until there is better.
func (d *device) ask(ctx context.Context) (answer, error) {
	_, etag := d.ledger.target()
	header := map[string]string{wire.HeaderPrefer: "wait=" + strconv.Itoa(int(hold/time.Second))}
	if etag != "" {
		header["If-None-Match"] = etag
	}
	a, err := d.server.call(ctx, request{
		method: "GET", path: "/device/v3/" + d.config.UUID + "/state", key: d.config.DeviceAPIKey, header: header, timeout: hold + 15*time.Second,
	})
	if err != nil {
		return a, err
	}
	if err := a.refused(http.StatusOK, http.StatusNotModified); err != nil {
		return a, err
	}
	d.ledger.contacted()
	if a.status == http.StatusNotModified {
		return a, nil
	}
	if err := d.accept(a.body); err != nil {
		return a, err
	}
	d.ledger.write(func(b *book) { b.Target, b.ETag = a.body, a.header.Get("ETag") })
	return a, nil
}

// accept makes a target the one to reach.
func (d *device) accept(body []byte) error {
	t, err := wire.ParseTarget(body, d.config.UUID)
	if err != nil {
		return err
	}
	if d.ledger.nameAtInit() == "" && t.Name != "" {
		d.ledger.write(func(b *book) { b.NameAtInit = t.Name })
	}
	next := translate(t, d.facts())
	next.plan.Registries = d.ledger.registries(next)
	for _, app := range next.rejected {
		d.Log.Error("a release cannot run here; what runs goes on", "fleet", app.uuid, "release", app.release, "err", app.err)
		d.system("Release '" + app.release + "' cannot run on this device: " + app.err.Error())
	}
	for _, w := range next.warnings {
		d.Log.Warn("part of a release is ignored", "why", w)
		d.system("Warning: " + w)
	}
	d.target.set(next)
	return nil
}

func (d *device) facts() facts {
	return facts{
		uuid: d.config.UUID, deviceType: d.config.DeviceType, arch: d.host.arch(), name: d.ledger.nameAtInit(), osVersion: d.host.osVersion(),
		apiKey: d.config.DeviceAPIKey, apiURL: d.config.APIEndpoint, socket: d.Socket,
	}
}

// pollInterval is what the target says, else what the config says, else balena's default.
func (d *device) pollInterval() time.Duration {
	var ms string
	if t, _ := d.target.get(); t != nil {
		ms = t.setting(wire.ConfigPollInterval)
	}
	n, err := strconv.ParseInt(cmp.Or(ms, d.config.PollInterval.String()), 10, 32)
	if err != nil || n <= 0 {
		return defaultPoll
	}
	return max(time.Duration(n)*time.Millisecond, shortestPoll)
}

// setting is a config variable under either of its prefixes; the newer one wins.
func (t *target) setting(name string) string {
	const old, now = "RESIN_", "BALENA_"
	if v, ok := t.config[now+name[len(old):]]; ok {
		return v
	}
	return t.config[name]
}

// refusalOf returns the refusal in err's chain, or nil.
func refusalOf(err error) *refusal {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}
