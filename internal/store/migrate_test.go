package store_test

import (
	"context"
	"database/sql"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

// at makes a database with the schema of an older version and fills it.
func at(t *testing.T, version int64, fill string) (source string) {
	t.Helper()
	source = storetest.Source(t)
	dialect, driver, folder, name := goose.DialectSQLite3, "sqlite", "migrations/sqlite", "file:"+source+"?_pragma=foreign_keys(ON)"
	if strings.HasPrefix(source, "postgres") {
		dialect, driver, folder, name = goose.DialectPostgres, "pgx", "migrations/postgres", source
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(dialect, db, os.DirFS(folder))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
	for _, statement := range strings.Split(fill, ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return source
}

// second is an installation of schema 2: two people, each with an organization, a fleet, a release and a device.
const second = `
INSERT INTO actors (id, kind) VALUES (101, 'user'), (102, 'user'), (103, 'application'), (104, 'application'), (105, 'device'), (106, 'device');
INSERT INTO users (id, created_at, modified_at, actor, username, email, password_hash, jwt_secret) VALUES
	(201, 5, 6, 101, 'ada', 'ada@example.org', 'h', 's'), (202, 5, 6, 102, 'eve', NULL, 'h', 's');
INSERT INTO organizations (id, created_at, modified_at, handle, name) VALUES (301, 5, 6, 'ada', 'ada'), (302, 5, 6, 'eve', 'eve');
INSERT INTO organization_memberships (id, created_at, modified_at, user_id, organization) VALUES (401, 5, 6, 201, 301), (402, 5, 6, 202, 302);
INSERT INTO api_keys (id, created_at, modified_at, actor, key_hash, role, name, expiry_date) VALUES
	(501, 5, 6, 101, 'k1', 'named-user-api-key', 'laptop', NULL), (502, 5, 6, 105, 'k2', 'device-api-key', NULL, 99);
INSERT INTO ssh_keys (id, created_at, modified_at, user_id, title, public_key, fingerprint) VALUES (551, 5, 6, 201, 'laptop', 'ssh-ed25519 A', 'SHA256:a');
INSERT INTO cpu_architectures (id, created_at, modified_at, slug) VALUES (601, 5, 6, 'aarch64');
INSERT INTO device_types (id, created_at, modified_at, slug, name, cpu_architecture) VALUES (602, 5, 6, 'raspberrypi4-64', 'Pi', 601);
INSERT INTO device_type_aliases (id, created_at, modified_at, device_type, alias) VALUES (603, 5, 6, 602, 'raspberrypi4-64');
INSERT INTO application_types (id, created_at, modified_at, slug, name) VALUES (604, 5, 6, 'default', 'Default');
INSERT INTO fleets (id, created_at, modified_at, actor, organization, name, slug, uuid, device_type, application_type) VALUES
	(701, 5, 6, 103, 301, 'porch', 'ada/porch', 'f1', 602, 604), (702, 5, 6, 104, 302, 'barn', 'eve/barn', 'f2', 602, 604);
INSERT INTO releases (id, created_at, modified_at, fleet, commit_id, created_by, status, start_timestamp, update_timestamp, revision) VALUES
	(801, 5, 6, 701, 'c1', 201, 'success', 7, 8, 0), (802, 5, 6, 702, 'c1', 202, 'running', 7, 8, NULL);
UPDATE fleets SET target_release = 801 WHERE id = 701;
INSERT INTO services (id, created_at, modified_at, fleet, name) VALUES (851, 5, 6, 701, 'main');
INSERT INTO images (id, created_at, modified_at, service, location, repository, status, start_timestamp) VALUES (852, 5, 6, 851, 'h/v2/a', 'v2/a', 'success', 7);
INSERT INTO release_images (id, created_at, modified_at, image, release) VALUES (853, 5, 6, 852, 801);
INSERT INTO devices (id, created_at, modified_at, actor, fleet, device_type, uuid, name, pinned_release, is_undervolted) VALUES
	(901, 5, 6, 105, 701, 602, 'd1', 'heron', 801, TRUE), (902, 5, 6, 106, 702, 602, 'd2', 'otter', NULL, FALSE);
INSERT INTO device_variables (id, created_at, modified_at, device, name, value) VALUES (951, 5, 6, 901, 'A', 'b');
INSERT INTO device_tags (id, created_at, modified_at, device, tag_key, value) VALUES (952, 5, 6, 901, 'where', 'porch');
INSERT INTO service_installs (id, created_at, modified_at, device, service) VALUES (953, 5, 6, 901, 851);
INSERT INTO image_installs (id, created_at, modified_at, device, image, release, install_date, status) VALUES (954, 5, 6, 901, 852, 801, 7, 'Running')
`

func TestAnOlderDatabaseKeepsItsRows(t *testing.T) {
	db := storetest.OpenAt(t, at(t, 2, second))
	for _, c := range []struct {
		query string
		want  [][]string
	}{
		{`SELECT username, email, CASE WHEN is_administrator THEN 'yes' ELSE 'no' END FROM users ORDER BY id`, [][]string{{"ada", "ada@example.org", "yes"}, {"eve", "", "no"}}},
		{`SELECT m.user_id, r.name FROM organization_memberships m JOIN roles r ON r.id = m.role ORDER BY m.id`, [][]string{{"201", "owner"}, {"202", "owner"}}},
		{`SELECT name, target_release FROM fleets WHERE id IN (701, 702) ORDER BY id`, [][]string{{"porch", "801"}, {"barn", ""}}},
		{`SELECT commit_id, status, created_by, revision FROM releases WHERE id IN (801, 802) ORDER BY id`, [][]string{{"c1", "success", "201", "0"}, {"c1", "running", "202", ""}}},
		{`SELECT uuid, pinned_release, CASE WHEN is_undervolted THEN 'yes' ELSE 'no' END, CASE WHEN is_active THEN 'yes' ELSE 'no' END FROM devices ORDER BY id`, [][]string{{"d1", "801", "yes", "yes"}, {"d2", "", "no", "yes"}}},
		{`SELECT name, expiry_date FROM api_keys ORDER BY id`, [][]string{{"laptop", ""}, {"", "99"}}},
		{`SELECT id FROM ssh_keys UNION ALL SELECT id FROM image_installs UNION ALL SELECT id FROM device_tags UNION ALL SELECT id FROM device_variables`,
			[][]string{{"551"}, {"954"}, {"952"}, {"951"}}},
	} {
		got := rows(t, db, c.query)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s\n%s", c.query, diff)
		}
	}
	for user, want := range map[int64]fleet.Rank{201: fleet.Owner, 202: fleet.Member} {
		if rank, err := db.Rank(t.Context(), user, 701); rank != want || err != nil {
			t.Errorf("user %d has rank %v of the fleet, %v", user, rank, err)
		}
	}
	d, err := db.Device(t.Context(), "d1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := db.Parts(t.Context(), d)
	if err != nil || p.Release == nil || p.Release.ID != 801 || len(p.Services) != 1 || p.DeviceVariables["A"] != "b" {
		t.Errorf("the device's target is made of %+v, %v", p, err)
	}
	// The built-in roles have ids of their own, and the next one comes after them.
	write(t, db, `INSERT INTO roles (created_at, modified_at, name, rank, of_organization, of_fleet) VALUES (1, 1, 'guest', 1, TRUE, TRUE)`)
	if got := texts(t, db, `SELECT id FROM roles WHERE name = 'guest' AND id = (SELECT COUNT(*) FROM roles)`); len(got) != 1 {
		t.Error("the next role has no id that follows")
	}
	for _, table := range []string{"roles", "organizations", "device_types", "settings"} {
		if len(rows(t, db, `SELECT 1 FROM `+table)) == 0 {
			t.Errorf("%s is empty", table)
		}
	}
}

func TestEveryReferenceOfAnOlderDatabaseHolds(t *testing.T) {
	source := at(t, 2, second)
	db := storetest.OpenAt(t, source)
	if db.Dialect() == store.SQLite {
		if broken := rows(t, db, `SELECT * FROM pragma_foreign_key_check`); len(broken) > 0 {
			t.Errorf("broken references: %s", broken)
		}
	}
	// A fleet goes with all that is of it, and so does its actor.
	if err := db.Write(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM fleets WHERE id = 701`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"image_installs", "device_tags", "release_images", "images", "services"} {
		if left := rows(t, db, `SELECT id FROM `+table); len(left) > 0 {
			t.Errorf("%s: %s outlived their fleet", table, left)
		}
	}
	if left := rows(t, db, `SELECT id FROM actors WHERE id IN (103, 105)`); len(left) > 0 {
		t.Errorf("actors %s outlived their nouns", left)
	}
	if left := rows(t, db, `SELECT id FROM api_keys`); len(left) != 1 {
		t.Errorf("keys %s are left", left)
	}
}
