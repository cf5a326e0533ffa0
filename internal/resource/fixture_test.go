package resource

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

// began is the time of the world below.
var began = time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)

// world is a server with two tenants who have the same things: of each kind of row, the first tenant has the first
// ids and the second tenant the next ones.
type world struct {
	*Model
	t       testing.TB
	db      *store.DB
	clock   time.Time
	tenants [2]tenant
}

// tenant is one organization with one fleet of two devices. Its user owns it; there is one more member of each rank, a
// friend who is no more than a member of it and operator of the fleet, and a teammate who is so by a team.
type tenant struct {
	user, device, provisioning                              fleet.Actor
	developer, operator, observer, member, friend, teammate fleet.Actor
	ids                                                     map[string]int64 // one row of each resource, by name
	uuid                                                    string           // of the device
}

// empties are the resources that have no rows.
const empties = "permission role__has__permission user__has__role user__has__permission api_key__has__permission config scheduled_job_run service_instance"

// template is the database of every world, made by the first test that wants one.
var template struct {
	storetest.Template
	tenants [2]tenant
}

func newWorld(t testing.TB) *world {
	t.Helper()
	db := template.Open(t, func(db *store.DB) {
		w := worldOn(t, db)
		w.leaveRoom()
		for i, name := range []string{"acme", "globex"} {
			template.tenants[i] = w.tenant(name, i)
		}
	})
	w := worldOn(t, db)
	w.tenants = template.tenants
	return w
}

// leaveRoom keeps the ids of the tenants' rows where they are while the built-in catalog grows: golden files have them.
func (w *world) leaveRoom() {
	w.t.Helper()
	err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
		for _, table := range []string{"actors", "organizations", "fleets", "releases"} {
			statement := `UPDATE sqlite_sequence SET seq = 1000 WHERE name = '` + table + `'`
			if w.db.Dialect() == store.PostgreSQL {
				statement = `ALTER TABLE ` + table + ` ALTER COLUMN id RESTART WITH 1001`
			}
			if _, err := tx.Exec(statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// worldOn is a world without tenants on a database.
func worldOn(t testing.TB, db *store.DB) *world {
	w := &world{Model: New(db), t: t, db: db, clock: began.Add(time.Hour)}
	w.Now = func() time.Time { return w.clock }
	db.Now = w.Now
	w.DeltaFormats = []string{"dunlin"}
	w.SSHFingerprint = func(key string) (string, string, error) {
		kind, _, ok := strings.Cut(key, " ")
		if !ok || !strings.HasPrefix(kind, "ssh-") {
			return "", "", fault.New(fault.Invalid, "this is no SSH public key")
		}
		return strings.TrimSpace(key), "SHA256:" + strings.TrimSpace(key), nil
	}
	return w
}

// tenant fills the database for one organization. The rows are written as they are, without rules.
func (w *world) tenant(name string, n int) tenant {
	w.t.Helper()
	at := began.UnixMicro()
	ids := map[string]int64{}
	err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
		insert := func(resource, table, columns string, values ...any) int64 {
			marks, all := "$1, $1", []any{at}
			for i, v := range values {
				marks += fmt.Sprintf(", $%d", i+2)
				all = append(all, v)
			}
			var id int64
			if err := tx.QueryRow(`INSERT INTO `+table+` (created_at, modified_at, `+columns+`) VALUES (`+marks+`) RETURNING id`, all...).Scan(&id); err != nil {
				w.t.Fatalf("%s: %v", table, err)
			}
			ids[resource] = id
			return id
		}
		actor := func(kind string) int64 {
			id, err := store.NewActor(context.Background(), tx, kind)
			if err != nil {
				w.t.Fatal(err)
			}
			ids["actor of "+kind] = id
			return id
		}
		catalog := func(query string) (id int64) {
			if err := tx.QueryRow(query).Scan(&id); err != nil {
				w.t.Fatal(err)
			}
			return id
		}
		ids["cpu_architecture"] = catalog(`SELECT id FROM cpu_architectures WHERE slug = 'aarch64'`)
		if n == 0 { // a type of our own, so that the built-in catalog may grow
			for _, statement := range []string{
				`INSERT INTO device_types (id, created_at, modified_at, slug, name, cpu_architecture)
					SELECT 1000, $1, $1, 'testpi-64', 'Test Pi', id FROM cpu_architectures WHERE slug = 'aarch64'`,
				`INSERT INTO device_type_aliases (id, created_at, modified_at, device_type, alias) VALUES (1000, $1, $1, 1000, 'testpi')`,
			} {
				if _, err := tx.Exec(statement, at); err != nil {
					w.t.Fatal(err)
				}
			}
		}
		pi := int64(1000)
		ids["device_type"], ids["device_type_alias"] = pi, 1000
		ids["application_type"] = catalog(`SELECT id FROM application_types`)

		user := insert("user", "users", "actor, username, email, password_hash, jwt_secret", actor("user"), name, name+"@example.org", "SECRET-HASH", "SECRET-JWT")
		org := insert("organization", "organizations", "handle, name", name, strings.ToUpper(name))
		insert("organization_membership", "organization_memberships", "user_id, organization", user, org)
		insert("user__has__public_key", "ssh_keys", "user_id, title, public_key, fingerprint", user, "laptop", "ssh-ed25519 AAAA"+name, "SHA256:"+name)
		app := insert("application", "fleets", "actor, organization, name, slug, uuid, device_type, application_type",
			actor("application"), org, "porch", name+"/porch", fmt.Sprintf("%032x", 0xf0+n), pi, ids["application_type"])
		insert("api_key", "api_keys", "actor, key_hash, role, name", ids["actor of application"], "SECRET-KEY"+name, fleet.RoleProvisioning, "card")
		svc := insert("service", "services", "fleet, name", app, "main")
		insert("failed release", "releases", "fleet, commit_id, status, start_timestamp, update_timestamp", app, fmt.Sprintf("%032x", 0xa0+n), "failed", at, at)
		insert("running release", "releases", "fleet, commit_id, status, start_timestamp, update_timestamp", app, fmt.Sprintf("%032x", 0xb0+n), "running", at, at)
		insert("draft release", "releases", "fleet, commit_id, status, semver_major, semver_prerelease, draft, start_timestamp, update_timestamp", app, fmt.Sprintf("%032x", 0xc0+n), "success", 1, "rc.1", true, at, at)
		insert("old release", "releases", "fleet, commit_id, status, revision, start_timestamp, update_timestamp", app, fmt.Sprintf("%032x", 0xd0+n), "success", 0, at, at)
		release := insert("release", "releases", "fleet, commit_id, status, revision, composition, contract, note, start_timestamp, update_timestamp",
			app, fmt.Sprintf("%032x", 0xe0+n), "success", 1, `{"services":{"main":{"image":"x"}}}`, `{"type":"sw.block"}`, "it's \"fine\"\n", at, at)
		image := insert("image", "images", "service, location, repository, content_hash, image_size, status, start_timestamp",
			svc, fmt.Sprintf("h/v2/%032x", n), fmt.Sprintf("v2/%032x", n), "sha256:00", int64(1)<<40, "success", at)
		link := insert("release_image", "release_images", "image, release", image, release)
		insert("delta", "deltas", "source, target, format, status, reason, manifest, blob, size, replaces, ended_at", image, image, "dunlin", "failed",
			"it's no \"tar\"", "sha256:02", "sha256:03", 7, int64(1)<<40, at)
		insert("image_label", "image_labels", "release_image, label_name, value", link, "io.balena.features.dbus", "1")
		insert("image_environment_variable", "image_variables", "release_image, name, value", link, "A", "image")
		insert("application_environment_variable", "fleet_variables", "fleet, name, value", app, "A", "fleet")
		insert("application_config_variable", "fleet_config_variables", "fleet, name, value", app, "RESIN_HOST_CONFIG_gpu_mem", "16")
		insert("service_environment_variable", "service_variables", "service, name, value", svc, "A", "service")
		insert("application_tag", "fleet_tags", "fleet, tag_key, value", app, "site", name)
		insert("release_tag", "release_tags", "release, tag_key, value", release, "ok", "yes")
		insert("second device", "devices", "actor, fleet, device_type, uuid, name", actor("device"), app, pi, fmt.Sprintf("%032x", 0x20+n), "second")
		dev := insert("device", "devices", "actor, fleet, device_type, uuid, name, last_seen, running_release, memory_usage, status",
			actor("device"), app, pi, fmt.Sprintf("%032x", 0x10+n), "first", w.clock.UnixMicro()-30_000_000, ids["old release"], 512, "Idle")
		insert("device_environment_variable", "device_variables", "device, name, value", dev, "A", "device")
		insert("device_config_variable", "device_config_variables", "device, name, value", dev, "RESIN_SUPERVISOR_POLL_INTERVAL", "60000")
		insert("device_tag", "device_tags", "device, tag_key, value", dev, "room", "attic")
		insert("service_install of the second device", "service_installs", "device, service", ids["second device"], svc)
		install := insert("service_install", "service_installs", "device, service", dev, svc)
		insert("device_service_environment_variable", "device_service_variables", "service_install, name, value", install, "A", "both")
		insert("image_install", "image_installs", "device, image, release, install_date, status", dev, image, release, at, "Running")
		insert("service_label", "service_labels", "service, label_name, value", svc, "io.balena.features.dbus", "1")
		insert("image_profile", "image_profiles", "release_image, profile_name", link, "debug")
		insert("application_profile", "fleet_profiles", "fleet, profile_name, on_fleet", app, "debug", app)
		insert("build_environment_variable", "build_variables", "fleet, name, value", app, "A", "build")
		insert("release_asset", "release_assets", "release, asset_key, filename, content_type, size, checksum, blob",
			release, "notes", "notes.txt", "text/plain", 4, "sha256:00", "SECRET-BLOB"+name)

		membership := ids["organization_membership"]
		for i, role := range []string{"developer", "operator", "observer", "member", "friend", "teammate"} {
			id, err := store.NewActor(context.Background(), tx, "user")
			if err != nil {
				return err
			}
			ids["actor of "+role] = id
			insert(role, "users", "actor, username, email, password_hash, jwt_secret", id, name+"-"+role, name+role+"@example.org", "SECRET-HASH", "SECRET-JWT")
			insert("membership of "+role, "organization_memberships", "user_id, organization, role", ids[role], org, []int{2, 3, 4, 6, 6, 6}[i])
		}
		insert("organization_membership_tag", "organization_membership_tags", "membership, tag_key, value", membership, "desk", "2")
		insert("user_application_membership", "fleet_memberships", "user_id, fleet, role", ids["friend"], app, 3)
		team := insert("team", "teams", "organization, name, description", org, "crew", "who looks after it")
		insert("team_membership", "team_memberships", "user_id, team", ids["teammate"], team)
		insert("team_application_access", "team_fleets", "team, fleet, role", team, app, 3)
		insert("invitee", "invitees", "organization, email", org, "new@example.org")
		insert("organization_invite", "organization_invites", "invitee, organization, role, message, token_hash, created_by",
			ids["invitee"], org, 6, "come", "SECRET-INVITE-"+name, user)
		insert("application_invite", "fleet_invites", "invitee, fleet, role, token_hash, created_by", ids["invitee"], app, 4, "SECRET-FLEET-INVITE-"+name, user)
		insert("audit", "audit_events", "actor, actor_kind, actor_name, address, verb, resource, row_id, organization, fleet, details",
			ids["actor of user"], "user", name, "192.0.2.1", "create", "application", app, org, app, `{"app_name":"porch"}`)
		_, err := tx.Exec(`UPDATE fleets SET target_release = $1 WHERE id = $2`, release, app)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ids["user__has_direct_access_to__application"] = ids["application"]
	ids["actor"], ids["api_key__has__role"] = ids["actor of user"], ids["api_key"]
	person := func(role string) fleet.Actor {
		return fleet.Actor{Kind: fleet.UserActor, Actor: ids["actor of "+role], ID: ids[role], Name: name + "-" + role}
	}
	app := ids["application"]
	return tenant{
		user:         fleet.Actor{Kind: fleet.UserActor, Actor: ids["actor of user"], ID: ids["user"], Name: name},
		device:       fleet.Actor{Kind: fleet.DeviceActor, Actor: ids["actor of device"], ID: ids["device"], Fleet: app, Key: 1},
		provisioning: fleet.Actor{Kind: fleet.FleetActor, Actor: ids["actor of application"], ID: app, Fleet: app, Key: 1},
		developer:    person("developer"), operator: person("operator"), observer: person("observer"), member: person("member"),
		friend: person("friend"), teammate: person("teammate"),
		ids: ids, uuid: fmt.Sprintf("%032x", 0x10+n),
	}
}

// ask parses path?query, in which spaces stand for themselves.
func ask(t testing.TB, request string) *odata.Query {
	t.Helper()
	path, query, _ := strings.Cut(request, "?")
	q, err := odata.Parse(path, strings.NewReplacer(" ", "%20", "+", "%2B").Replace(query))
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return q
}

// get reads rows as an actor.
func (w *world) get(a fleet.Actor, request string) []map[string]any {
	w.t.Helper()
	body, err := w.Read(context.Background(), a, ask(w.t, request))
	if err != nil {
		w.t.Fatalf("GET %s: %v", request, err)
	}
	var answer struct{ D []map[string]any }
	if err := json.Unmarshal(body, &answer); err != nil {
		w.t.Fatalf("GET %s: %v in %s", request, err, body)
	}
	return answer.D
}

func (w *world) post(a fleet.Actor, request, body string) (map[string]any, error) {
	w.t.Helper()
	_, row, err := w.Create(context.Background(), a, ask(w.t, request), []byte(body))
	if err != nil {
		return nil, err
	}
	var made map[string]any
	if err := json.Unmarshal(row, &made); err != nil {
		w.t.Fatalf("POST %s: %v in %s", request, err, row)
	}
	return made, nil
}

func (w *world) patch(a fleet.Actor, request, body string) error {
	w.t.Helper()
	return w.Update(context.Background(), a, ask(w.t, request), []byte(body))
}

func (w *world) drop(a fleet.Actor, request string) error {
	w.t.Helper()
	return w.Delete(context.Background(), a, ask(w.t, request))
}

// in puts the ids of a tenant into a request: {device} is its device's.
func (x tenant) in(request string) string {
	for name, id := range x.ids {
		request = strings.ReplaceAll(request, "{"+name+"}", fmt.Sprint(id))
	}
	return strings.ReplaceAll(request, "{uuid}", x.uuid)
}
