package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/dunlin/dunlin/internal/fleet"
)

// DeltaQuestion is who asks for which delta.
type DeltaQuestion struct {
	Source, Target string // repositories, v2/<32 hex>
	// SourceDigest and TargetDigest are of the manifests; "" is whatever the images have.
	SourceDigest, TargetDigest string
	Format                     string
	// Device asks for it; 0 is somebody who may only look.
	Device int64
	// Most are how many deltas may wait that this device asked for first.
	Most int64
}

// askedAgain is how often the same question is written down.
const askedAgain = time.Minute

// AskDelta finds a delta. If a device asks and it is not there yet, it goes before those that nobody asks for; one that is
// not even known becomes a row, if the device is to run the target, could run the source, and has not too many waiting
// already. found is false if there is none and will be none.
func (db *DB) AskDelta(ctx context.Context, q DeltaQuestion) (d fleet.Delta, found bool, err error) {
	find := func(on interface {
		QueryRowContext(context.Context, string, ...any) *sql.Row
	}) (d fleet.Delta, asked int64, err error) {
		d, err = scanDelta(on.QueryRowContext(ctx, deltaColumns+`
			WHERE si.repository = $1 AND ti.repository = $2 AND x.format = $3`, q.Source, q.Target, q.Format))
		if err == nil {
			err = on.QueryRowContext(ctx, `SELECT COALESCE(asked_at, 0) FROM deltas WHERE id = $1`, d.ID).Scan(&asked)
		}
		return d, asked, err
	}
	d, asked, err := find(db.reader)
	there := err == nil
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return d, false, fmt.Errorf("look up delta from %s to %s: %w", q.Source, q.Target, err)
	}
	if there && (q.SourceDigest != "" && q.SourceDigest != d.Source.Digest || q.TargetDigest != "" && q.TargetDigest != d.Target.Digest) {
		return fleet.Delta{}, false, nil
	}
	now := db.now()
	switch {
	case there && d.Status.Settled() && d.Status != fleet.DeltaDropped:
		return d, true, nil
	case q.Device == 0, there && now-asked < askedAgain.Microseconds():
		return d, there && d.Status != fleet.DeltaDropped, nil
	}
	err = db.Write(ctx, func(tx *sql.Tx) error {
		if there && d.Status != fleet.DeltaDropped {
			_, err := tx.ExecContext(ctx, `UPDATE deltas SET asked_at = $1 WHERE id = $2 AND status IN ('waiting', 'running')`, now, d.ID)
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO deltas (created_at, modified_at, source, target, format, asked_at, asked_by)
			SELECT CAST($1 AS BIGINT), CAST($1 AS BIGINT), si.id, ti.id, CAST($2 AS TEXT), CAST($1 AS BIGINT), e.id
			FROM devices e JOIN fleets f ON f.id = e.fleet
			JOIN services s ON s.fleet = f.id
			JOIN images si ON si.service = s.id AND si.status = 'success' AND si.repository = $3
			JOIN images ti ON ti.service = s.id AND ti.status = 'success' AND ti.repository = $4
			WHERE e.id = $5 AND si.content_hash <> ti.content_hash
				AND ($6 = '' OR si.content_hash = $6) AND ($7 = '' OR ti.content_hash = $7)
				AND EXISTS (SELECT 1 FROM release_images ri WHERE ri.image = ti.id AND ri.release = COALESCE(e.pinned_release, f.target_release))
				AND EXISTS (SELECT 1 FROM release_images ri JOIN releases r ON r.id = ri.release
					WHERE ri.image = si.id AND r.status = 'success')
				AND (SELECT COUNT(*) FROM deltas w WHERE w.asked_by = e.id AND w.status IN ('waiting', 'running')) < $8
			ON CONFLICT (source, target, format) DO UPDATE SET modified_at = excluded.modified_at, status = 'waiting', reason = NULL,
				attempts = 0, not_before = 0, asked_at = excluded.asked_at, asked_by = excluded.asked_by
				WHERE deltas.status = 'dropped'`,
			now, q.Format, q.Source, q.Target, q.Device, q.SourceDigest, q.TargetDigest, q.Most); err != nil {
			return err
		}
		// Somebody may have asked the same in the meantime.
		d, _, err = find(tx)
		there = err == nil && d.Status != fleet.DeltaDropped
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return d, false, nil
	}
	if err != nil {
		return d, false, fmt.Errorf("ask for the delta from %s to %s: %w", q.Source, q.Target, err)
	}
	return d, there, nil
}

// RunningReleases are the releases that the devices of a fleet say they run which are to run another one, and how many do.
// Those that a device has of another fleet are not counted.
func (db *DB) RunningReleases(ctx context.Context, r fleet.Release) (map[int64]int, error) {
	rows, err := db.reader.QueryContext(ctx, `
		SELECT d.running_release, COUNT(*) FROM devices d JOIN fleets f ON f.id = d.fleet
		WHERE d.fleet = $1 AND d.running_release <> $2 AND COALESCE(d.pinned_release, f.target_release) = $2
		GROUP BY d.running_release`, r.Fleet, r.ID)
	if err != nil {
		return nil, fmt.Errorf("count what runs in fleet %d: %w", r.Fleet, err)
	}
	defer rows.Close()
	all := map[int64]int{}
	for rows.Next() {
		var id int64
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return nil, fmt.Errorf("count what runs in fleet %d: %w", r.Fleet, err)
		}
		all[id] = n
	}
	return all, rows.Err()
}

// DeltaBase is what a device that runs the release base downloads for the release target. Services that base has not
// are pulled whole, and images that have not changed are not pulled at all.
func (db *DB) DeltaBase(ctx context.Context, base, target int64, format string) (b fleet.DeltaBase, err error) {
	if b.Release, err = db.Release(ctx, base); err != nil {
		return b, err
	}
	rows, err := db.reader.QueryContext(ctx, `
		SELECT COALESCE(ti.image_size, 0), COALESCE(si.content_hash = ti.content_hash, FALSE), si.id IS NOT NULL,
			COALESCE(x.status, ''), COALESCE(x.size, 0), COALESCE(x.replaces, -1), COALESCE(x.reason, '')
		FROM release_images tr JOIN images ti ON ti.id = tr.image
		LEFT JOIN (SELECT i.id, i.service, i.content_hash FROM release_images sr JOIN images i ON i.id = sr.image WHERE sr.release = $1) si
			ON si.service = ti.service
		LEFT JOIN deltas x ON x.source = si.id AND x.target = ti.id AND x.format = $3
		WHERE tr.release = $2 ORDER BY ti.id`, base, target, format)
	if err != nil {
		return b, fmt.Errorf("list deltas from release %d to %d: %w", base, target, err)
	}
	defer rows.Close()
	b.Whole = true
	for rows.Next() {
		var whole, size, replaces int64
		var same, before bool
		var status fleet.DeltaStatus
		var reason string
		if err := rows.Scan(&whole, &same, &before, &status, &size, &replaces, &reason); err != nil {
			return b, fmt.Errorf("list deltas from release %d to %d: %w", base, target, err)
		}
		if same {
			continue
		}
		if replaces < 0 {
			replaces = whole
		}
		b.Replaces += replaces
		switch {
		case status == fleet.DeltaReady:
			b.Size += size
			b.Whole = false
		default:
			b.Size += replaces
			b.Unsettled = b.Unsettled || before && !status.Settled() || before && status == ""
			if b.Reason == "" {
				b.Reason = reason
			}
		}
	}
	return b, rows.Err()
}
