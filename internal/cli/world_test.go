package cli_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dunlin/dunlin/client"
	"github.com/dunlin/dunlin/internal/api"
	"github.com/dunlin/dunlin/internal/asset"
	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/hub"
	"github.com/dunlin/dunlin/internal/logs"
	"github.com/dunlin/dunlin/internal/release"
	"github.com/dunlin/dunlin/internal/resource"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
	"github.com/dunlin/dunlin/internal/wire"
)

// world is a server with people, fleets, devices and releases in it, on a database of its own.
type world struct {
	t        testing.TB
	db       *store.DB
	auth     *auth.Auth
	logs     *logs.Store
	model    *resource.Model
	pipeline *release.Pipeline
	held     atomic.Bool // no build ends
	assets   *asset.Store
	hub      *hub.Hub
	http     *httptest.Server
	users    map[string]string // API keys
}

const password = "correct horse battery"

// newWorld starts a server and fills it:
//
//	admin/porch   raspberrypi4-64; brave-heron online on 1.1.0, calm-otter offline for 3 h on its way, odd one never seen
//	admin/garden  generic-amd64, tracks nothing; another brave-heron, offline for 5 days
//	bob/secret    somebody else's, with a device and a release
//
// porch has releases 1.0.0, 1.1.0 (the target, two services), a failed one, and the draft 2.0.0.
func newWorld(t testing.TB, dir string) *world {
	w := &world{t: t, logs: &logs.Store{Dir: filepath.Join(dir, "logs")}, users: map[string]string{}}
	w.db = storetest.Open(t)
	// All that is made was made 2 h ago, however slow the machine is.
	w.db.Now = func() time.Time { return time.Now().Add(-150 * time.Minute) }
	keys, err := auth.OpenKeyring(filepath.Join(dir, "keys"))
	w.must(err)
	w.auth = &auth.Auth{Store: w.db, Keys: keys, Issuer: "test", Service: "test"}
	w.model = resource.New(w.db)
	w.model.SSHFingerprint = auth.ParseSSHKey
	w.model.DeltaFormats = []string{"dunlin"}
	w.assets, w.hub = &asset.Store{Dir: filepath.Join(dir, "assets")}, &hub.Hub{}
	w.model.Wrote = func(e resource.Write) {
		for f, devices := range e.Fleets {
			for _, d := range devices {
				w.hub.Publish(hub.Event{Type: "device." + e.Verb, Fleet: f, Device: d})
			}
		}
	}
	w.pipeline = w.builder(dir)
	w.model.Cancelled = w.pipeline.Cancel
	w.http = httptest.NewServer(w.handler())
	for _, name := range []string{"admin", "bob"} {
		u, err := w.auth.NewUser(t.Context(), name, name+"@example.com", password)
		w.must(err)
		w.users[name], err = w.auth.NewKey(t.Context(), auth.KeySpec{Actor: u.Actor, Role: fleet.RoleUser})
		w.must(err)
	}
	porch := w.fleet("admin", "porch", "raspberrypi4-64")
	garden := w.fleet("admin", "garden", "generic-amd64")
	w.must(w.as("admin").Patch(t.Context(), client.Key("application", garden), client.Query{}, map[string]any{"should_track_latest_release": false}))
	secret := w.fleet("bob", "secret", "generic-amd64")

	heron := w.device(porch, "7cf02a6e", "brave-heron", "raspberrypi4-64")
	otter := w.device(porch, "7cf09b31", "calm-otter", "raspberrypi4-64")
	odd := w.device(porch, "a1b2c3d4", "odd one", "raspberrypi4-64")
	other := w.device(garden, "dd00beef", "brave-heron", "generic-amd64")
	w.device(secret, "beefbeef", "hidden-wren", "generic-amd64")

	old := w.release(porch, "11aa", "1.0.0", "main")
	now := w.release(porch, "22bb", "1.1.0", "main", "sensor")
	w.failed(porch, "33cc")
	w.draft(porch, "44dd", "2.0.0")
	w.release(secret, "55ee", "9.9.9", "main")

	w.observe(heron, now, "Running")
	w.observe(otter, old, "Running")
	w.seen(heron, time.Now().Add(time.Hour).UnixMicro()) // for as long as the test may take
	w.seen(otter, time.Now().Add(-3*time.Hour-10*time.Minute).UnixMicro())
	w.seen(other, time.Now().Add(-5*24*time.Hour-time.Minute).UnixMicro())
	w.seen(odd, nil)
	return w
}

// handler is the front door that the commands talk to.
func (w *world) handler() http.Handler {
	a := &api.API{
		Model: w.model, Auth: w.auth, Logs: w.logs, Keys: w.db, Log: slog.New(slog.DiscardHandler),
		Config:  api.Config{Deployment: "dunlin", GitServerURL: "ssh://git@dunlin.example.com:2222"},
		Builder: w.pipeline, Assets: w.assets, AssetRows: w.db, Events: w.hub,
	}
	w.model.AssetLink = a.AssetLink
	return a.Handler()
}

func (w *world) close() {
	w.http.CloseClientConnections()
	w.http.Close()
	w.pipeline.Wait()
	w.must(w.db.Close())
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// as is a client of somebody.
func (w *world) as(user string) *client.Client {
	return &client.Client{URL: w.http.URL, Token: w.users[user]}
}

func (w *world) fleet(user, name, deviceType string) int64 {
	w.t.Helper()
	ctx, c := w.t.Context(), w.as(user)
	types, err := c.DeviceTypes(ctx, client.Filter("slug eq ?", deviceType))
	w.must(err)
	who, err := c.Whoami(ctx)
	w.must(err)
	orgs, err := c.Organizations(ctx, who.TypeID)
	w.must(err)
	f, err := c.CreateFleet(ctx, client.NewFleet{Name: name, Organization: orgs[0].ID, DeviceType: types[0].ID})
	w.must(err)
	return f.ID
}

// organization adds one with admin and a fleet in it, so that admin is in two.
func (w *world) organization(name, fleetName string) {
	w.must(w.db.Write(w.t.Context(), func(tx *sql.Tx) error {
		var id int64
		if err := tx.QueryRow(`INSERT INTO organizations (created_at, modified_at, handle, name) VALUES (1, 1, $1, $1) RETURNING id`, name).Scan(&id); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO organization_memberships (created_at, modified_at, user_id, organization)
			SELECT 1, 1, id, $1 FROM users WHERE username = 'admin'`, id)
		return err
	}))
	ctx, c := w.t.Context(), w.as("admin")
	types, err := c.DeviceTypes(ctx, "slug eq 'generic-amd64'")
	w.must(err)
	who, err := c.Whoami(ctx)
	w.must(err)
	orgs, err := c.Organizations(ctx, who.TypeID)
	w.must(err)
	for _, o := range orgs {
		if o.Handle == name {
			_, err := c.CreateFleet(ctx, client.NewFleet{Name: fleetName, Organization: o.ID, DeviceType: types[0].ID})
			w.must(err)
		}
	}
}

// hex32 makes the 32 digits that begin so.
func hex32(begin string) string { return begin + strings.Repeat("0", 32-len(begin)) }

func (w *world) device(fleetID int64, uuid, name, deviceType string) fleet.Device {
	w.t.Helper()
	d, err := w.db.RegisterDevice(w.t.Context(), store.NewDevice{
		Fleet: fleetID, UUID: hex32(uuid), DeviceType: deviceType, KeyHash: auth.HashKey("key of " + uuid), Name: name,
		Names: func(int) string { return name }, SupervisorVersion: "0.1.0", OSVersion: "Debian 12",
	})
	w.must(err)
	return d
}

// build begins a release and builds its services.
func (w *world) build(n store.NewRelease, version string, services ...string) fleet.Release {
	w.t.Helper()
	ctx := w.t.Context()
	v, err := fleet.ParseVersion(version)
	w.must(err)
	n.Commit = hex32(n.Commit)
	r, _, err := w.db.BeginRelease(ctx, n)
	w.must(err)
	o := store.Outline{Composition: []byte(`{"services":{}}`), Version: v}
	for i, name := range services {
		repository := "v2/" + hex32(fmt.Sprintf("%s%02d", n.Commit[:4], i))
		o.Services = append(o.Services, store.OutlineService{Name: name, Repository: repository, Location: "test/" + repository})
	}
	images, err := w.db.Outlined(ctx, r, o)
	w.must(err)
	for _, image := range images {
		w.must(w.db.ImageBuilt(ctx, image.ID, store.Built{Digest: "sha256:" + strings.Repeat(n.Commit[:4], 16), Size: 5_200_000}))
	}
	r, err = w.db.Release(ctx, r.ID)
	w.must(err)
	return r
}

func (w *world) release(fleetID int64, commit, version string, services ...string) fleet.Release {
	w.t.Helper()
	r := w.build(store.NewRelease{Fleet: fleetID, Commit: commit}, version, services...)
	_, err := w.db.Succeed(w.t.Context(), r, "step 1\nstep 2\n")
	w.must(err)
	return r
}

func (w *world) draft(fleetID int64, commit, version string) {
	w.t.Helper()
	r := w.build(store.NewRelease{Fleet: fleetID, Commit: commit, Draft: true}, version, "main")
	_, err := w.db.Succeed(w.t.Context(), r, "")
	w.must(err)
}

func (w *world) failed(fleetID int64, commit string) {
	w.t.Helper()
	r := w.build(store.NewRelease{Fleet: fleetID, Commit: commit}, "1.2.0")
	w.must(w.db.Fail(w.t.Context(), r.ID, fleet.Failed, "go build: exit status 1", "step 1\ngo build: exit status 1\n"))
}

// observe lets a device say that it runs a release, with all its services.
func (w *world) observe(d fleet.Device, r fleet.Release, status string) {
	w.t.Helper()
	rows, err := w.db.Reader().QueryContext(w.t.Context(), `
		SELECT i.location FROM images i JOIN release_images ri ON ri.image = i.id WHERE ri.release = $1`, r.ID)
	w.must(err)
	defer rows.Close() // only read
	var installs []store.Install
	for rows.Next() {
		var location string
		w.must(rows.Scan(&location))
		installs = append(installs, store.Install{Location: location, Commit: r.Commit, Status: status})
	}
	w.must(rows.Err())
	w.must(w.db.Observe(w.t.Context(), d, store.Observation{
		Columns: map[string]any{
			"ip_address": "10.0.0.2", "cpu_usage": 7, "cpu_temp": 48, "memory_usage": 212, "memory_total": 3792,
			"storage_usage": 1200, "storage_total": 29000,
		},
		Apps: true, Running: r.Commit, Installs: installs, UpdateStatus: "done",
	}))
}

// delta ends the making of a delta.
func (w *world) delta(id, status, size, replaces string) {
	w.t.Helper()
	w.must(w.db.Write(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE deltas SET status = $1, size = CAST($2 AS BIGINT), replaces = CAST($3 AS BIGINT), manifest = $4,
			reason = CASE WHEN $1 = 'useless' THEN 'it is not smaller' END WHERE id = CAST($5 AS BIGINT)`,
			status, size, replaces, "sha256:"+strings.Repeat("e", 64), id)
		return err
	}))
}

// seen lets a device have been heard of last at a time in microseconds, or, with nil, never.
func (w *world) seen(d fleet.Device, micros any) {
	w.t.Helper()
	w.must(w.db.Write(w.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE devices SET last_seen = $1 WHERE id = $2`, micros, d.ID)
		return err
	}))
}

// log adds a line to a device's log, written so many seconds after midnight of 2026-01-02, by a service or, with "",
// by the agent. A message that begins with ! is of standard error.
func (w *world) log(uuid, service string, second int64, message string) error {
	d, err := w.db.Device(context.Background(), hex32(uuid))
	if err != nil {
		return err
	}
	line := wire.LogLine{Timestamp: 1767312000_000 + second*1000, IsSystem: service == ""}
	line.Message, line.IsStdErr = strings.CutPrefix(message, "!")
	if service != "" {
		var id int64
		if err := w.db.Reader().QueryRow(`SELECT id FROM services WHERE fleet = $1 AND name = $2`, d.Fleet, service).Scan(&id); err != nil {
			return err
		}
		line.ServiceID = &id
	}
	return w.logs.Append(context.Background(), d.UUID, []wire.LogLine{line})
}
