package store_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

func TestTheCatalogIsLoadedOnceHoweverOftenTheServerStarts(t *testing.T) {
	source := storetest.Source(t)
	db := storetest.OpenAt(t, source)
	counts := func(db *store.DB) (all string) {
		for _, table := range []string{"actors", "organizations", "device_manufacturers", "device_families", "device_types", "device_type_aliases", "fleets", "releases"} {
			all += fmt.Sprint(table, " ", number(t, db, `SELECT COUNT(*) FROM `+table), ", ")
		}
		return all
	}
	first := counts(db)
	older(t, db)
	write(t, db, `UPDATE device_types SET name = 'older', contract = NULL, family = NULL WHERE slug = 'raspberrypi5'`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = storetest.OpenAt(t, source)
	if again := counts(db); again != first {
		t.Errorf("at first there are %s\nthen %s", first, again)
	}
	var name, contract, family, maker string
	if err := db.Reader().QueryRow(`SELECT t.name, t.contract, f.slug, m.slug FROM device_types t JOIN device_families f ON f.id = t.family
		JOIN device_manufacturers m ON m.id = f.manufacturer WHERE t.slug = 'raspberrypi5'`).Scan(&name, &contract, &family, &maker); err != nil {
		t.Fatal(err)
	}
	var c struct {
		Slug, Type string
		Data       struct{ Arch string }
	}
	if err := json.Unmarshal([]byte(contract), &c); err != nil || c.Slug != "raspberrypi5" || c.Type != "hw.device-type" || c.Data.Arch != "aarch64" ||
		name != "Raspberry Pi 5 & CM5" || family != "raspberry-pi" || maker != "raspberry-pi" {
		t.Errorf("%s %s %s %s %v", name, contract, family, maker, err)
	}
}

// older makes the catalog in the database one of an older program.
func older(t *testing.T, db *store.DB) {
	t.Helper()
	write(t, db, `UPDATE settings SET value = 'older' WHERE name = 'catalog'`)
}

func TestEachSystemIsAPublicFleetWithItsNewestVersion(t *testing.T) {
	db := storetest.Open(t)
	for _, d := range fleet.DeviceTypes {
		r, want := d.Release()
		var version string
		err := db.Reader().QueryRow(`
			SELECT r.semver_major || '.' || r.semver_minor || '.' || r.semver_patch || CASE WHEN r.semver_build = '' THEN '' ELSE '+' || r.semver_build END
			FROM fleets f JOIN device_types t ON t.id = f.device_type JOIN organizations o ON o.id = f.organization
			JOIN releases r ON r.id = f.target_release AND r.fleet = f.id
			WHERE t.slug = $1 AND f.slug = 'balena_os/' || t.slug AND f.is_host AND f.is_public AND o.handle = 'balena_os'
				AND r.status = 'success' AND r.revision = 0 AND NOT r.is_invalidated`, d.Slug).Scan(&version)
		if want && (err != nil || version != r.Version) || !want && err != sql.ErrNoRows {
			t.Errorf("%s has version %q, want %q: %v", d.Slug, version, r.Version, err)
		}
	}
	if n := number(t, db, `SELECT COUNT(*) FROM fleet_access`); n != 0 {
		t.Errorf("%d users have a role in them", n)
	}
	ids, err := db.FleetIDs(t.Context())
	if err != nil || len(ids) != 0 {
		t.Errorf("to push to there are %v: %v", ids, err)
	}
}

func TestANewVersionIsAddedAndFollowed(t *testing.T) {
	source := storetest.Source(t)
	db := storetest.OpenAt(t, source)
	older(t, db)
	write(t, db, `UPDATE releases SET commit_id = '00', semver_major = 1 WHERE fleet = (SELECT id FROM fleets WHERE slug = 'balena_os/intel-nuc')`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = storetest.OpenAt(t, source)
	if n := number(t, db, `SELECT COUNT(*) FROM releases r JOIN fleets f ON f.id = r.fleet WHERE f.slug = 'balena_os/intel-nuc'`); n != 2 {
		t.Errorf("there are %d versions", n)
	}
	if n := number(t, db, `SELECT r.semver_major FROM releases r JOIN fleets f ON f.target_release = r.id WHERE f.slug = 'balena_os/intel-nuc'`); n != 7 {
		t.Errorf("the newest is of %d", n)
	}
}

func TestAnOrganizationOfPeopleKeepsItsHandleAndItsFleets(t *testing.T) {
	source := storetest.Source(t)
	db := storetest.OpenAt(t, source)
	older(t, db)
	write(t, db, `DELETE FROM organizations`)
	u := addUser(t, db, "balena_os")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = storetest.OpenAt(t, source)
	if n := number(t, db, `SELECT COUNT(*) FROM fleets`); n != 0 {
		t.Errorf("user %d has %d fleets that he did not make", u.ID, n)
	}
}
