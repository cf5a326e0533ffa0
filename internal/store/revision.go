package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dunlin/dunlin/internal/fault"
)

// FinalizeRelease makes a release final inside tx: it gets the next revision among the releases of its fleet that
// have the same version (build part apart) and is a draft no more. A release that is final already is left as it is.
// The one writer keeps two releases from taking the same number; the unique index would refuse the second.
func FinalizeRelease(ctx context.Context, tx *sql.Tx, release int64, now int64) error {
	var final bool
	err := tx.QueryRowContext(ctx, `SELECT revision IS NOT NULL FROM releases WHERE id = $1`, release).Scan(&final)
	if errors.Is(err, sql.ErrNoRows) {
		return fault.New(fault.NotFound, "there is no such release")
	}
	if err != nil {
		return fmt.Errorf("finalize release %d: %w", release, err)
	}
	if final {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE releases SET draft = FALSE, finalized_at = $1, modified_at = $1, update_timestamp = $1, revision = (
			SELECT COALESCE(MAX(o.revision) + 1, 0) FROM releases o
			WHERE o.fleet = releases.fleet AND o.semver_major = releases.semver_major AND o.semver_minor = releases.semver_minor
				AND o.semver_patch = releases.semver_patch AND o.semver_prerelease = releases.semver_prerelease
				AND o.variant = releases.variant)
		WHERE id = $2`, now, release); err != nil {
		return fmt.Errorf("finalize release %d: %w", release, err)
	}
	return nil
}

// FollowLatest moves the target of a fleet that tracks the latest to its newest release that is successful, final,
// valid and passing its tests, or to none if it has none. The newest is the one that was begun last (protocol §5.3).
// moved is false if the fleet does not track the latest, or the target is there already.
func FollowLatest(ctx context.Context, tx *sql.Tx, fleet int64, now int64) (moved bool, err error) {
	done, err := tx.ExecContext(ctx, `
		WITH latest AS (
			SELECT id FROM releases
			WHERE fleet = $1 AND status = 'success' AND revision IS NOT NULL AND NOT is_invalidated AND is_passing_tests
			ORDER BY start_timestamp DESC, id DESC LIMIT 1)
		UPDATE fleets SET target_release = (SELECT id FROM latest), modified_at = $2
		WHERE id = $1 AND track_latest AND target_release IS DISTINCT FROM (SELECT id FROM latest)`, fleet, now)
	if err != nil {
		return false, fmt.Errorf("follow the latest release of fleet %d: %w", fleet, err)
	}
	n, err := done.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("follow the latest release of fleet %d: %w", fleet, err)
	}
	return n > 0, nil
}
