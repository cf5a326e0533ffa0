package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

const fleetColumns = `
	SELECT f.id, f.actor, f.organization, f.name, f.slug, f.uuid, t.slug, a.slug, f.track_latest,
		COALESCE(f.target_release, 0), f.root_commit
	FROM fleets f JOIN device_types t ON t.id = f.device_type JOIN cpu_architectures a ON a.id = t.cpu_architecture `

func scanFleet(row interface{ Scan(...any) error }) (f fleet.Fleet, err error) {
	err = row.Scan(&f.ID, &f.Actor, &f.Organization, &f.Name, &f.Slug, &f.UUID, &f.DeviceType, &f.Arch, &f.TrackLatest,
		&f.Target, &f.RootCommit)
	return f, err
}

// Fleet finds a fleet by its id.
func (db *DB) Fleet(ctx context.Context, id int64) (fleet.Fleet, error) {
	f, err := scanFleet(db.reader.QueryRowContext(ctx, fleetColumns+`WHERE f.id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return f, fault.New(fault.NotFound, "there is no such fleet")
	}
	if err != nil {
		return f, fmt.Errorf("load fleet %d: %w", id, err)
	}
	return f, nil
}

// FleetByUUID finds a fleet by its uuid.
func (db *DB) FleetByUUID(ctx context.Context, uuid string) (fleet.Fleet, error) {
	f, err := scanFleet(db.reader.QueryRowContext(ctx, fleetColumns+`WHERE f.uuid = $1`, uuid))
	if errors.Is(err, sql.ErrNoRows) {
		return f, fault.New(fault.NotFound, "there is no such fleet")
	}
	if err != nil {
		return f, fmt.Errorf("load fleet %s: %w", uuid, err)
	}
	return f, nil
}

// FleetIDs are the ids of all fleets that people own: the catalog's host systems have nothing to push to.
func (db *DB) FleetIDs(ctx context.Context) ([]int64, error) {
	all, err := column[int64](db.reader.QueryContext(ctx, `
		SELECT f.id FROM fleets f JOIN organizations o ON o.id = f.organization
		WHERE NOT f.is_host OR o.handle <> $1 ORDER BY f.id`, HostOrganization))
	if err != nil {
		return nil, fmt.Errorf("list fleets: %w", err)
	}
	return all, nil
}

// RememberRoot records the first commit of a fleet's history: the first push's, or the one that force put there.
func (db *DB) RememberRoot(ctx context.Context, fleetID int64, root string) error {
	return db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE fleets SET root_commit = $1 WHERE id = $2`, root, fleetID)
		return err
	})
}

// BuildVariables are the build arguments that a fleet gives all its builds.
func (db *DB) BuildVariables(ctx context.Context, fleetID int64) (map[string]string, error) {
	all, err := pairs(db.reader.QueryContext(ctx, `SELECT name, value FROM build_variables WHERE fleet = $1`, fleetID))
	if err != nil {
		return nil, fmt.Errorf("load build variables of fleet %d: %w", fleetID, err)
	}
	return all, nil
}
