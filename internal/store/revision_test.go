package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

// releases is a database with one fleet, and a way to add releases to it.
func releases(t *testing.T) (db *store.DB, add func(columns string) int64) {
	t.Helper()
	db = storetest.Open(t)
	inTx(t, db, func(tx *sql.Tx) error {
		for _, statement := range []string{
			`INSERT INTO actors (id, kind) VALUES (901, 'application')`,
			`INSERT INTO organizations (id, created_at, modified_at, handle, name) VALUES (901, 1, 1, 'o', 'o')`,
			`INSERT INTO fleets (id, created_at, modified_at, actor, organization, name, slug, uuid, device_type, application_type)
				SELECT 901, 1, 1, 901, 901, 'f', 'o/f', '00', MIN(t.id), MIN(a.id) FROM device_types t, application_types a`,
		} {
			if _, err := tx.Exec(statement); err != nil {
				return err
			}
		}
		return nil
	})
	n := 0
	return db, func(columns string) (id int64) {
		n++
		inTx(t, db, func(tx *sql.Tx) error {
			if err := tx.QueryRow(`INSERT INTO releases (created_at, modified_at, fleet, commit_id, status, start_timestamp, update_timestamp)
				VALUES (1, 1, 901, $1, 'success', 1, 1) RETURNING id`, fmt.Sprintf("%032x", n)).Scan(&id); err != nil {
				return err
			}
			_, err := tx.Exec(`UPDATE releases SET `+columns+` WHERE id = $1`, id)
			return err
		})
		return id
	}
}

func inTx(t *testing.T, db *store.DB, f func(tx *sql.Tx) error) {
	t.Helper()
	if err := db.Write(context.Background(), f); err != nil {
		t.Fatal(err)
	}
}

func TestRevisionsCountTheReleasesOfOneVersion(t *testing.T) {
	db, add := releases(t)
	for i, c := range []struct {
		columns string
		want    int64
	}{
		{"semver_major = 1", 0},
		{"semver_major = 1", 1},
		{"semver_major = 1, semver_prerelease = 'rc'", 0},
		{"semver_major = 1, semver_build = 'x'", 2},
		{"semver_major = 1, variant = 'prod'", 0},
		{"semver_minor = 1", 0},
		{"semver_major = 1, status = 'failed'", 3},
	} {
		id := add(c.columns)
		for range 2 { // the second time changes nothing
			inTx(t, db, func(tx *sql.Tx) error { return store.FinalizeRelease(t.Context(), tx, id, 7) })
		}
		var revision, at int64
		var draft bool
		if err := db.Reader().QueryRow(`SELECT revision, finalized_at, draft FROM releases WHERE id = $1`, id).Scan(&revision, &at, &draft); err != nil {
			t.Fatal(err)
		}
		if revision != c.want || at != 7 || draft {
			t.Errorf("release %d (%s): revision %d, want %d; finalized at %d, draft %v", i+1, c.columns, revision, c.want, at, draft)
		}
	}
	err := db.Write(t.Context(), func(tx *sql.Tx) error { return store.FinalizeRelease(t.Context(), tx, 99999, 7) })
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("a release that is not there: %v", err)
	}
}

func TestAFleetFollowsItsNewestGoodRelease(t *testing.T) {
	db, add := releases(t)
	follow := func(wantMoved bool, want int64, why string) {
		t.Helper()
		var moved bool
		inTx(t, db, func(tx *sql.Tx) (err error) {
			moved, err = store.FollowLatest(t.Context(), tx, 901, 7)
			return err
		})
		var target sql.NullInt64
		if err := db.Reader().QueryRow(`SELECT target_release FROM fleets WHERE id = 901`).Scan(&target); err != nil {
			t.Fatal(err)
		}
		if moved != wantMoved || target.Int64 != want {
			t.Errorf("%s: moved %v, target %d; want %v, %d", why, moved, target.Int64, wantMoved, want)
		}
	}
	set := func(statement string) {
		inTx(t, db, func(tx *sql.Tx) error { _, err := tx.Exec(statement); return err })
	}
	follow(false, 0, "without releases")
	first := add("revision = 0")
	follow(true, first, "the first")
	follow(false, first, "nothing new")
	add("revision = NULL")
	add("revision = 1, status = 'failed'")
	add("revision = 2, is_invalidated = TRUE")
	add("revision = 3, is_passing_tests = FALSE")
	follow(false, first, "drafts, failures, invalid and failing ones")
	second := add("revision = 4")
	set(`UPDATE fleets SET track_latest = FALSE`)
	follow(false, first, "a fleet that does not track the latest")
	set(`UPDATE fleets SET track_latest = TRUE`)
	follow(true, second, "a fleet that does again")
	set(`UPDATE releases SET is_invalidated = TRUE`)
	follow(true, 0, "nothing good is left")
}
