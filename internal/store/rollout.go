package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/dunlin/dunlin/internal/fleet"
)

// Progress is how far one device is with the release it should run.
type Progress struct {
	Device   fleet.Device
	Installs []InstallState // of that release's images
}

// InstallState is the last reported state of one image on a device.
type InstallState struct {
	Service  string
	Status   string
	Progress int64 // percent; -1 when nothing is being fetched
}

// Rollout is how far the devices are that should run a release, by name.
func (db *DB) Rollout(ctx context.Context, r fleet.Release) ([]Progress, error) {
	rows, err := db.reader.QueryContext(ctx, deviceColumns+`
		JOIN fleets f ON f.id = d.fleet
		WHERE d.fleet = $1 AND COALESCE(d.pinned_release, f.target_release) = $2 ORDER BY d.name`, r.Fleet, r.ID)
	if err != nil {
		return nil, fmt.Errorf("follow release %d: %w", r.ID, err)
	}
	all, err := collect(rows, func(rows *sql.Rows) (Progress, error) {
		d, err := scanDevice(rows)
		return Progress{Device: d}, err
	})
	if err != nil {
		return nil, fmt.Errorf("follow release %d: %w", r.ID, err)
	}
	index := make(map[int64]int, len(all))
	for i, p := range all {
		index[p.Device.ID] = i
	}
	type installed struct {
		device int64
		state  InstallState
	}
	rows, err = db.reader.QueryContext(ctx, `
		SELECT ii.device, s.name, ii.status, COALESCE(ii.download_progress, -1)
		FROM image_installs ii JOIN images im ON im.id = ii.image JOIN services s ON s.id = im.service
		WHERE ii.release = $1 AND ii.status <> 'deleted' ORDER BY s.name`, r.ID)
	if err != nil {
		return nil, fmt.Errorf("follow release %d: %w", r.ID, err)
	}
	states, err := collect(rows, func(rows *sql.Rows) (i installed, err error) {
		return i, rows.Scan(&i.device, &i.state.Service, &i.state.Status, &i.state.Progress)
	})
	if err != nil {
		return nil, fmt.Errorf("follow release %d: %w", r.ID, err)
	}
	for _, i := range states {
		if at, ok := index[i.device]; ok {
			all[at].Installs = append(all[at].Installs, i.state)
		}
	}
	return all, nil
}

// Retarget makes a release the fleet's target if the fleet tracks the latest and the release is fit to be one; moved
// is false otherwise, or if the target is there already.
func (db *DB) Retarget(ctx context.Context, r fleet.Release) (moved bool, err error) {
	now := db.now()
	err = db.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `
			UPDATE fleets SET target_release = $1, modified_at = $2
			WHERE id = $3 AND track_latest AND COALESCE(target_release, 0) <> $1 AND EXISTS (
				SELECT 1 FROM releases WHERE id = $1 AND status = 'success' AND revision IS NOT NULL
					AND NOT is_invalidated AND is_passing_tests)`, r.ID, now, r.Fleet)
		if err != nil {
			return err
		}
		n, err := done.RowsAffected()
		moved = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("retarget fleet %d: %w", r.Fleet, err)
	}
	return moved, nil
}

// column reads the only column of rows.
func column[T any](rows *sql.Rows, err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return collect(rows, func(rows *sql.Rows) (v T, err error) {
		err = rows.Scan(&v)
		return v, err
	})
}

// collect reads all rows with scan and closes them.
func collect[T any](rows *sql.Rows, scan func(*sql.Rows) (T, error)) ([]T, error) {
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}
