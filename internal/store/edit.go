package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// What a change of a resource needs beyond its own row, inside the transaction of that change.

// NewActor makes the actor of something: a user, a device or an application.
func NewActor(ctx context.Context, tx *sql.Tx, kind string) (int64, error) {
	id, err := insertActor(ctx, tx, kind)
	if err != nil {
		return 0, fmt.Errorf("make actor: %w", err)
	}
	return id, nil
}

// Handle is the handle of an organization.
func Handle(ctx context.Context, tx *sql.Tx, organization int64) (handle string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT handle FROM organizations WHERE id = $1`, organization).Scan(&handle)
	return handle, missing(err, "organization", organization)
}

// DefaultApplicationType is the type of a fleet of which nobody said another.
func DefaultApplicationType(ctx context.Context, tx *sql.Tx) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT id FROM application_types WHERE slug = 'default'`).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("find default application type: %w", err)
	}
	return id, nil
}

// FleetIn finds a fleet inside tx.
func FleetIn(ctx context.Context, tx *sql.Tx, id int64) (fleet.Fleet, error) {
	f, err := scanFleet(tx.QueryRowContext(ctx, fleetColumns+`WHERE f.id = $1`, id))
	return f, missing(err, "fleet", id)
}

// DeviceIn finds a device inside tx.
func DeviceIn(ctx context.Context, tx *sql.Tx, id int64) (fleet.Device, error) {
	d, err := scanDevice(tx.QueryRowContext(ctx, deviceColumns+`WHERE d.id = $1`, id))
	return d, missing(err, "device", id)
}

// ReleaseIn finds a release inside tx.
func ReleaseIn(ctx context.Context, tx *sql.Tx, id int64) (fleet.Release, error) {
	r, err := scanRelease(tx.QueryRowContext(ctx, releaseColumns+`WHERE id = $1`, id))
	return r, missing(err, "release", id)
}

func missing(err error, what string, id int64) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.Newf(fault.NotFound, "there is no such %s", what)
	}
	if err != nil {
		return fmt.Errorf("load %s %d: %w", what, id, err)
	}
	return nil
}

// SSHKeyTaken reports whether some user has the key of that fingerprint.
func SSHKeyTaken(ctx context.Context, tx *sql.Tx, fingerprint string) (taken bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM ssh_keys WHERE fingerprint = $1)`, fingerprint).Scan(&taken)
	if err != nil {
		return false, fmt.Errorf("find SSH key: %w", err)
	}
	return taken, nil
}

// Settle makes devices that were moved at home in the fleets they are in now: they forget releases of another fleet,
// pinned or running, and have the services of their own one, with no variables yet.
func Settle(ctx context.Context, tx *sql.Tx, devices []int64, now int64) error {
	for _, id := range devices {
		for _, column := range []string{"running_release", "pinned_release"} {
			if _, err := tx.ExecContext(ctx, `
				UPDATE devices SET `+column+` = NULL WHERE id = $1
					AND `+column+` IN (SELECT r.id FROM releases r WHERE r.fleet <> devices.fleet)`, id); err != nil {
				return fmt.Errorf("settle device %d: %w", id, err)
			}
		}
		if _, err := tx.ExecContext(ctx, `
			DELETE FROM service_installs WHERE device = $1 AND service NOT IN (
				SELECT s.id FROM services s JOIN devices d ON d.fleet = s.fleet WHERE d.id = $1)`, id); err != nil {
			return fmt.Errorf("settle device %d: %w", id, err)
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO service_installs (created_at, modified_at, device, service)
			SELECT $1, $1, d.id, s.id FROM devices d JOIN services s ON s.fleet = d.fleet WHERE d.id = $2
			ON CONFLICT (device, service) DO NOTHING`, now, id); err != nil {
			return fmt.Errorf("settle device %d: %w", id, err)
		}
	}
	return nil
}

// CancelRelease ends a running release and its unfinished images.
func CancelRelease(ctx context.Context, tx *sql.Tx, release int64, now int64) error {
	if _, err := tx.ExecContext(ctx, `
		UPDATE images SET status = 'cancelled', modified_at = $1, end_timestamp = $1
		WHERE status = 'running' AND id IN (SELECT image FROM release_images WHERE release = $2)`, now, release); err != nil {
		return fmt.Errorf("cancel release %d: %w", release, err)
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE releases SET status = 'cancelled', modified_at = $1, end_timestamp = $1, update_timestamp = $1
		WHERE id = $2 AND status = 'running'`, now, release); err != nil {
		return fmt.Errorf("cancel release %d: %w", release, err)
	}
	return nil
}
