package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// SetAsset records the file of a release asset, for an actor that may change it, and says whose it is. One that was
// deleted meanwhile is fault.NotFound.
func (db *DB) SetAsset(ctx context.Context, by fleet.Actor, id int64, a fleet.Asset) (fleetID, organization int64, err error) {
	now := db.now()
	err = db.Write(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `
			UPDATE release_assets SET modified_at = $1, filename = $2, content_type = $3, size = $4, checksum = $5, blob = $6
			WHERE id = $7 RETURNING (SELECT r.fleet FROM releases r WHERE r.id = release)`,
			now, a.Filename, a.ContentType, a.Size, "sha256:"+a.SHA256, a.SHA256, id).Scan(&fleetID)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "there is no such release asset")
		}
		if err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, `SELECT organization FROM fleets WHERE id = $1`, fleetID).Scan(&organization); err != nil {
			return err
		}
		return AddAudit(ctx, tx, Audit{
			Time: Time(now), Actor: by, Verb: "upload", Resource: "release_asset", Row: id, Organization: organization, Fleet: fleetID,
			Details: map[string]any{"filename": a.Filename, "size": a.Size, "checksum": "sha256:" + a.SHA256},
		})
	})
	if err != nil {
		return 0, 0, fmt.Errorf("record release asset %d: %w", id, err)
	}
	return fleetID, organization, nil
}

// AssetFiles are the files that release assets have, by the SHA-256 of their content.
func (db *DB) AssetFiles(ctx context.Context) (map[string]bool, error) {
	sums, err := column[string](db.reader.QueryContext(ctx, `SELECT blob FROM release_assets WHERE blob IS NOT NULL`))
	if err != nil {
		return nil, fmt.Errorf("list release assets: %w", err)
	}
	all := map[string]bool{}
	for _, sum := range sums {
		all[sum] = true
	}
	return all, nil
}
