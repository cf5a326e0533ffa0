package resource

import (
	"context"
	"database/sql"
	"fmt"
	"maps"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// crowd gives a tenant more fleets, and what belongs to them: of each device two services installed, three tags, two
// variables and a key; of each fleet 50 releases of two images.
func (w *world) crowd(x tenant, fleets, devices int) {
	w.t.Helper()
	err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
		for n := range fleets {
			if err := crowdFleet(tx, x, n, devices); err != nil {
				return fmt.Errorf("fleet %d: %w", n, err)
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// strangers are that many other organizations of one fleet each.
func (w *world) strangers(organizations, devices int) {
	w.t.Helper()
	err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
		for n := range organizations {
			x := tenant{user: fleet.Actor{Name: fmt.Sprintf("stranger%d", n)}, ids: maps.Clone(w.tenants[1].ids)}
			var id int64
			if err := tx.QueryRow(`INSERT INTO organizations (created_at, modified_at, handle, name) VALUES ($1, $1, $2, $2) RETURNING id`,
				began.UnixMicro(), x.user.Name).Scan(&id); err != nil {
				return err
			}
			x.ids["organization"] = id
			if err := crowdFleet(tx, x, 0, devices); err != nil {
				return fmt.Errorf("organization %d: %w", n, err)
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// crowdFleet makes one more fleet of a tenant. Its statements are ones of both engines.
func crowdFleet(tx *sql.Tx, x tenant, n, devices int) error {
	const numbers = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) `
	at := began.UnixMicro()
	actor, err := store.NewActor(context.Background(), tx, "application")
	if err != nil {
		return err
	}
	name := fmt.Sprintf("crowd%d", n)
	var id, before int64
	if err := tx.QueryRow(`INSERT INTO fleets (created_at, modified_at, actor, organization, name, slug, uuid, device_type, application_type)
		VALUES ($1, $1, $2, $3, $4, $5, $6, $7, $8) RETURNING id`, at, actor, x.ids["organization"], name, x.user.Name+"/"+name,
		fmt.Sprintf("%032x", actor), x.ids["device_type"], x.ids["application_type"]).Scan(&id); err != nil {
		return err
	}
	if err := tx.QueryRow(`SELECT MAX(id) FROM actors`).Scan(&before); err != nil {
		return err
	}
	for _, s := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO services (created_at, modified_at, fleet, name) VALUES ($1, $1, $2, 'service0'), ($1, $1, $2, 'service1')`, []any{at, id}},
		{fmt.Sprintf(numbers, 50) + `INSERT INTO releases (created_at, modified_at, fleet, commit_id, status, revision, composition, start_timestamp, update_timestamp)
			SELECT $1, $1, f.id, f.id || 'c' || (1000 + i), 'success', i - 1, '{"version":"2.1","services":{"service0":{},"service1":{}}}', $1, $1
			FROM n CROSS JOIN fleets f WHERE f.id = $2`, []any{at, id}},
		{`INSERT INTO release_tags (created_at, modified_at, release, tag_key, value)
			SELECT $1, $1, r.id, 'ok', 'yes' FROM releases r WHERE r.fleet = $2`, []any{at, id}},
		{`INSERT INTO images (created_at, modified_at, service, location, repository, content_hash, image_size, status, start_timestamp)
			SELECT $1, $1, s.id, 'h/v2/' || r.id || 'x' || s.id, 'v2/' || r.id || 'x' || s.id, 'sha256:00', 123456789, 'success', $1
			FROM releases r JOIN services s ON s.fleet = r.fleet WHERE r.fleet = $2`, []any{at, id}},
		{`INSERT INTO release_images (created_at, modified_at, image, release)
			SELECT $1, $1, i.id, r.id FROM releases r JOIN services s ON s.fleet = r.fleet JOIN images i ON i.service = s.id
			WHERE r.fleet = $2 AND i.location = 'h/v2/' || r.id || 'x' || s.id`, []any{at, id}},
		{`INSERT INTO image_labels (created_at, modified_at, release_image, label_name, value)
			SELECT $1, $1, p.id, 'label', '1' FROM release_images p JOIN releases r ON r.id = p.release WHERE r.fleet = $2`, []any{at, id}},
		{fmt.Sprintf(numbers, devices) + `INSERT INTO actors (kind) SELECT 'device' FROM n`, nil},
		{`INSERT INTO devices (created_at, modified_at, actor, fleet, device_type, uuid, name, last_seen, running_release, status,
				os_version, os_variant, supervisor_version, ip_address, mac_address, public_address, memory_usage, memory_total, cpu_usage, cpu_temp)
			SELECT $1, $1, a.id, $2, $3, (1000000000 + a.id * 7919) || 'dddddddddddddddddddddd', 'bold-heron-' || (a.id * 7919 % 100003), $4 - a.id * 1000,
				(SELECT MIN(r.id) + a.id % 50 FROM releases r WHERE r.fleet = $2), 'Idle', 'balenaOS 6.5.1+rev1', 'prod', '17.0.1',
				'192.168.1.7 192.168.2.8', '00:11:22:33:44:55', '203.0.113.9', 400, 1000, 12, 47
			FROM actors a WHERE a.id > $5`, []any{at, id, x.ids["device_type"], at + 3_600_000_000, before}},
		{`INSERT INTO api_keys (created_at, modified_at, actor, key_hash, role)
			SELECT $1, $1, a.id, 'crowd' || a.id, 'device-api-key' FROM actors a WHERE a.id > $2`, []any{at, before}},
		{`INSERT INTO service_installs (created_at, modified_at, device, service)
			SELECT $1, $1, d.id, s.id FROM devices d JOIN services s ON s.fleet = d.fleet WHERE d.fleet = $2`, []any{at, id}},
		{`INSERT INTO image_installs (created_at, modified_at, device, image, release, install_date, status)
			SELECT $1, $1, d.id, p.image, p.release, $1, 'Running' FROM devices d JOIN release_images p ON p.release = d.running_release WHERE d.fleet = $2`, []any{at, id}},
		{`INSERT INTO device_tags (created_at, modified_at, device, tag_key, value)
			SELECT $1, $1, d.id, k.tag_key, 'v' || d.id FROM devices d CROSS JOIN (SELECT 'site' AS tag_key UNION ALL SELECT 'room' UNION ALL SELECT 'rack') k WHERE d.fleet = $2`, []any{at, id}},
		{`INSERT INTO device_variables (created_at, modified_at, device, name, value)
			SELECT $1, $1, d.id, 'A', 'v' || d.id FROM devices d WHERE d.fleet = $2`, []any{at, id}},
		{`INSERT INTO device_config_variables (created_at, modified_at, device, name, value)
			SELECT $1, $1, d.id, 'RESIN_SUPERVISOR_LOCAL_MODE', '0' FROM devices d WHERE d.fleet = $2`, []any{at, id}},
		{`INSERT INTO device_service_variables (created_at, modified_at, service_install, name, value)
			SELECT $1, $1, i.id, 'A', 'v' FROM service_installs i JOIN devices d ON d.id = i.device WHERE d.fleet = $2`, []any{at, id}},
		{fmt.Sprintf(numbers, devices) + `INSERT INTO fleet_variables (created_at, modified_at, fleet, name, value) SELECT $1, $1, $2, 'A' || i, 'v' FROM n`, []any{at, id}},
		{fmt.Sprintf(numbers, devices) + `INSERT INTO service_variables (created_at, modified_at, service, name, value)
			SELECT $1, $1, (SELECT MIN(s.id) FROM services s WHERE s.fleet = $2), 'A' || i, 'v' FROM n`, []any{at, id}},
		{fmt.Sprintf(numbers, devices) + `INSERT INTO audit_events (created_at, modified_at, actor_kind, verb, resource, organization, fleet)
			SELECT $1, $1, 'server', 'change', 'device', $2, $3 FROM n`, []any{at, x.ids["organization"], id}},
		{`UPDATE fleets SET target_release = (SELECT MAX(r.id) FROM releases r WHERE r.fleet = $1) WHERE id = $1`, []any{id}},
	} {
		if _, err := tx.Exec(s.text, s.args...); err != nil {
			return fmt.Errorf("%s: %w", s.text, err)
		}
	}
	return nil
}

// analyze tells the engine how much there is of what.
func (w *world) analyze() {
	w.t.Helper()
	err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`ANALYZE`)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}
