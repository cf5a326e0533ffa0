package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// ImageOfRelease is where an image of a fleet is kept, and the commit of its release; found is false if the release does
// not have it, or is another fleet's.
func (db *DB) ImageOfRelease(ctx context.Context, fleetID, image, release int64) (location, commit string, found bool, err error) {
	err = db.reader.QueryRowContext(ctx, `
		SELECT im.location, r.commit_id FROM release_images ri JOIN images im ON im.id = ri.image JOIN releases r ON r.id = ri.release
		WHERE ri.image = $1 AND ri.release = $2 AND r.fleet = $3`, image, release, fleetID).Scan(&location, &commit)
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", false, nil
	}
	if err != nil {
		return "", "", false, fmt.Errorf("find image %d of release %d: %w", image, release, err)
	}
	return location, commit, true, nil
}

// SetTags writes tags of a device, and removes those whose value is nil.
func (db *DB) SetTags(ctx context.Context, by fleet.Actor, device fleet.Device, tags map[string]*string) error {
	now := db.now()
	keys := slices.Sorted(maps.Keys(tags))
	for _, key := range keys {
		if value := tags[key]; value != nil {
			if err := fleet.CheckTag(key, *value); err != nil {
				return err
			}
		}
	}
	err := db.Write(ctx, func(tx *sql.Tx) error {
		for _, key := range keys {
			var err error
			if value := tags[key]; value == nil {
				_, err = tx.ExecContext(ctx, `DELETE FROM device_tags WHERE device = $1 AND tag_key = $2`, device.ID, key)
			} else {
				_, err = tx.ExecContext(ctx, `
					INSERT INTO device_tags (created_at, modified_at, device, tag_key, value) VALUES ($1, $1, $2, $3, $4)
					ON CONFLICT (device, tag_key) DO UPDATE SET modified_at = excluded.modified_at, value = excluded.value`,
					now, device.ID, key, *value)
			}
			if err != nil {
				return err
			}
		}
		var organization int64
		err := tx.QueryRowContext(ctx, `SELECT organization FROM fleets WHERE id = $1`, device.Fleet).Scan(&organization)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "there is no such fleet")
		}
		if err != nil {
			return err
		}
		return AddAudit(ctx, tx, Audit{Time: Time(now), Actor: by, Verb: "change", Resource: "device_tag",
			Organization: organization, Fleet: device.Fleet, Details: map[string]any{"device": device.ID, "tag_key": keys}})
	})
	if err != nil {
		return fmt.Errorf("set tags of device %d: %w", device.ID, err)
	}
	return nil
}

// HostKeys are the SSH keys of all who may enter the hosts of a fleet's devices: those who operate them.
func (db *DB) HostKeys(ctx context.Context, fleetID int64) ([]string, error) {
	keys, err := column[string](db.reader.QueryContext(ctx, `
		SELECT k.public_key FROM ssh_keys k
		WHERE k.user_id IN (SELECT a.user_id FROM fleet_access a WHERE a.fleet = $1 AND a.rank >= $2) ORDER BY k.id`,
		fleetID, int64(fleet.Operator)))
	if err != nil {
		return nil, fmt.Errorf("load SSH keys of fleet %d: %w", fleetID, err)
	}
	return keys, nil
}
