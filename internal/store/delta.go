package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/dunlin/dunlin/internal/fleet"
)

const deltaColumns = `
	SELECT x.id, x.format, x.status, COALESCE(x.reason, ''), x.attempts, COALESCE(x.replaces, 0),
		COALESCE(x.manifest, ''), COALESCE(x.name, ''), COALESCE(x.blob, ''), COALESCE(x.size, 0),
		COALESCE(x.from_config, ''), COALESCE(x.to_config, ''),
		si.id, si.location, si.repository, COALESCE(si.content_hash, ''), ti.id, ti.location, ti.repository, COALESCE(ti.content_hash, '')
	FROM deltas x JOIN images si ON si.id = x.source JOIN images ti ON ti.id = x.target `

func scanDelta(row interface{ Scan(...any) error }) (d fleet.Delta, err error) {
	a, s, t := &d.Artifact, &d.Source, &d.Target
	err = row.Scan(&d.ID, &d.Format, &d.Status, &d.Reason, &d.Attempts, &d.Replaces, &a.Manifest, &a.Name, &a.Blob, &a.Size, &a.From, &a.To,
		&s.ID, &s.Location, &s.Repository, &s.Digest, &t.ID, &t.Location, &t.Repository, &t.Digest)
	return d, err
}

// before is the release that came before the release t of its fleet, as fleets that track the latest follow them.
const before = `(SELECT p.id FROM releases p WHERE p.fleet = t.fleet AND p.status = 'success' AND p.revision IS NOT NULL
	AND NOT p.is_invalidated AND (p.start_timestamp, p.id) < (t.start_timestamp, t.id) ORDER BY p.start_timestamp DESC, p.id DESC LIMIT 1)`

// wantedDeltas are the pairs of images (source, target) between which devices are to move: from what they say they run
// to what they should run, and from the release before a fleet's target to that, for devices that have said nothing yet.
// Only images of one service that differ are pairs. Many devices make few moves: those are found once. It is in
// steps, and that the services are the same is said in a way that no index has, so that no engine begins with all images of
// a service and joins them with each other.
const wantedDeltas = `
	moves (base, target) AS MATERIALIZED (
		SELECT d.running_release, COALESCE(d.pinned_release, f.target_release) FROM devices d JOIN fleets f ON f.id = d.fleet
		WHERE d.running_release IS NOT NULL
		UNION
		SELECT ` + before + `, t.id FROM fleets f JOIN releases t ON t.id = f.target_release
	),
	sources (id, service, content_hash, target) AS MATERIALIZED (
		SELECT i.id, i.service, i.content_hash, m.target FROM moves m
		JOIN release_images ri ON ri.release = m.base JOIN images i ON i.id = ri.image
		WHERE m.base <> m.target AND i.status = 'success'
	),
	wanted (source, target) AS MATERIALIZED (
		SELECT DISTINCT s.id, i.id FROM sources s
		JOIN release_images ri ON ri.release = s.target JOIN images i ON i.id = ri.image
		WHERE i.service - s.service = 0 AND i.status = 'success' AND i.content_hash <> s.content_hash
	)`

// needed is the condition under which the delta x is still of use to somebody: it is wanted, as above, or was asked for; what
// nobody has asked for since $1 is forgotten.
const needed = `(x.by_hand OR COALESCE(x.asked_at, 0) >= $1
	OR EXISTS (
		SELECT 1 FROM release_images sr JOIN devices d ON d.running_release = sr.release JOIN fleets f ON f.id = d.fleet
		JOIN release_images tr ON tr.image = x.target AND tr.release = COALESCE(d.pinned_release, f.target_release)
		WHERE sr.image = x.source AND tr.release <> sr.release)
	OR EXISTS (
		SELECT 1 FROM release_images tr JOIN releases t ON t.id = tr.release JOIN fleets f ON f.target_release = t.id
		JOIN release_images sr ON sr.image = x.source AND sr.release = ` + before + `
		WHERE tr.image = x.target))`

// WantDeltas brings the rows of deltas of a format up to what devices need: it adds those that are missing, and takes
// away those that wait and that nobody needs any more, as far as nobody has asked for them since a moment. It returns
// how many there are to be made.
func (db *DB) WantDeltas(ctx context.Context, format string, since time.Time) (waiting int64, err error) {
	// Most of the time nothing is to be written, and no writer is kept waiting.
	var missing, stale bool
	if err := db.reader.QueryRowContext(ctx, `WITH `+wantedDeltas+`
		SELECT EXISTS (SELECT 1 FROM wanted w WHERE NOT EXISTS (
				SELECT 1 FROM deltas x WHERE x.source = w.source AND x.target = w.target AND x.format = $2)),
			EXISTS (SELECT 1 FROM deltas x WHERE x.format = $2 AND x.status = 'waiting' AND NOT `+needed+`)`,
		since.UnixMicro(), format).Scan(&missing, &stale); err != nil {
		return 0, fmt.Errorf("list wanted deltas: %w", err)
	}
	if missing || stale {
		now := db.now()
		if err := db.Write(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, `WITH `+wantedDeltas+`
				INSERT INTO deltas (created_at, modified_at, source, target, format)
				SELECT CAST($1 AS BIGINT), CAST($1 AS BIGINT), w.source, w.target, CAST($2 AS TEXT) FROM wanted w WHERE TRUE
				ON CONFLICT (source, target, format) DO NOTHING`, now, format); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `
				DELETE FROM deltas WHERE id IN (
					SELECT x.id FROM deltas x WHERE x.format = $2 AND x.status = 'waiting' AND NOT `+needed+`)`, since.UnixMicro(), format)
			return err
		}); err != nil {
			return 0, fmt.Errorf("record wanted deltas: %w", err)
		}
	}
	err = db.reader.QueryRowContext(ctx, `SELECT COUNT(*) FROM deltas WHERE format = $1 AND status = 'waiting'`, format).Scan(&waiting)
	if err != nil {
		return 0, fmt.Errorf("count waiting deltas: %w", err)
	}
	return waiting, nil
}

// ClaimDelta takes the delta that is to be made next and leases it: what somebody asks for goes first, then newer
// targets before older ones, and of one target the newer sources. One whose maker was lost most times already is given
// up instead. found is false when nothing is to be made before next; next is zero when nothing waits.
func (db *DB) ClaimDelta(ctx context.Context, format string, lease time.Duration, most int64) (d fleet.Delta, found bool, next time.Time, err error) {
	now := db.now()
	err = db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE deltas SET status = 'failed', modified_at = $1, ended_at = $1, leased_until = NULL,
				reason = 'the server ended each time while it was being made'
			WHERE format = $2 AND attempts >= $3 AND status = 'running' AND leased_until < $1`, now, format, most); err != nil {
			return err
		}
		var id int64
		// Organizations take turns: nobody waits for all of another's.
		err := tx.QueryRowContext(ctx, `
			WITH owned AS (
				SELECT x.id, f.organization, x.started_at FROM deltas x
				JOIN images i ON i.id = x.target JOIN services s ON s.id = i.service JOIN fleets f ON f.id = s.fleet
			), served AS (
				SELECT organization, MAX(started_at) AS at FROM owned GROUP BY organization
			)
			UPDATE deltas SET status = 'running', modified_at = $1, started_at = $1, ended_at = NULL, attempts = attempts + 1,
				leased_until = $3
			WHERE id = (SELECT d.id FROM deltas d JOIN owned o ON o.id = d.id JOIN served s ON s.organization = o.organization
				WHERE d.format = $2 AND (d.status = 'waiting' AND d.not_before <= $1 OR d.status = 'running' AND d.leased_until < $1)
				ORDER BY COALESCE(s.at, 0), CASE WHEN d.attempts = 0 THEN 0 ELSE 1 END,
					CASE WHEN d.by_hand OR d.asked_at IS NOT NULL THEN 0 ELSE 1 END, d.target DESC, d.source DESC, d.id LIMIT 1)
			RETURNING id`, now, format, now+lease.Microseconds()).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			var at sql.NullInt64
			err = tx.QueryRowContext(ctx, `
				SELECT MIN(CASE WHEN status = 'waiting' THEN not_before ELSE leased_until END) FROM deltas
				WHERE format = $1 AND status IN ('waiting', 'running')`, format).Scan(&at)
			next = Time(at.Int64)
			return err
		}
		if err != nil {
			return err
		}
		found = true
		d, err = scanDelta(tx.QueryRowContext(ctx, deltaColumns+`WHERE x.id = $1`, id))
		return err
	})
	if err != nil {
		return d, false, next, fmt.Errorf("claim a delta: %w", err)
	}
	return d, found, next, nil
}

// ReleaseDeltas gives back all deltas that are leased, as those of a server that was killed are.
func (db *DB) ReleaseDeltas(ctx context.Context) error {
	var leased bool
	if err := db.reader.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM deltas WHERE status = 'running')`).Scan(&leased); err != nil || !leased {
		return err
	}
	now := db.now()
	return db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE deltas SET leased_until = 0, modified_at = $1 WHERE status = 'running'`, now)
		return err
	})
}

// KeepDelta extends the lease of a delta that is being made. kept is false when it is no longer the caller's to make:
// its images are gone, somebody removed it, or nobody has needed it since a moment.
func (db *DB) KeepDelta(ctx context.Context, d fleet.Delta, lease time.Duration, since time.Time) (kept bool, err error) {
	// Whether it is needed is found out while others may write.
	if err := db.reader.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM deltas x WHERE x.id = $2 AND x.status = 'running' AND x.attempts = $3 AND `+needed+`)`,
		since.UnixMicro(), d.ID, d.Attempts).Scan(&kept); err != nil {
		return false, fmt.Errorf("keep delta %d: %w", d.ID, err)
	}
	if !kept {
		return false, nil
	}
	return db.setDelta(ctx, d, `leased_until = $4`, db.now()+lease.Microseconds())
}

// NameDelta records what a delta that is being made will be in the registry, before it is put there. named is false when it
// is no longer the caller's to make.
func (db *DB) NameDelta(ctx context.Context, d fleet.Delta) (named bool, err error) {
	a := d.Artifact
	return db.setDelta(ctx, d, `manifest = $4, name = $5, blob = $6, size = $7, from_config = $8, to_config = $9, replaces = $10`,
		a.Manifest, a.Name, a.Blob, a.Size, a.From, a.To, d.Replaces)
}

// EndDelta records the outcome of an attempt: d's status, reason and replaced bytes. One that waits again does so until a
// moment. ended is false when it was no longer the caller's to make.
func (db *DB) EndDelta(ctx context.Context, d fleet.Delta, until time.Time) (ended bool, err error) {
	set := `status = $4, reason = $5, not_before = $6, leased_until = NULL, ended_at = $1, replaces = $7`
	if d.Status != fleet.DeltaReady {
		set += `, manifest = NULL, name = NULL, blob = NULL, size = NULL`
	}
	if d.Status.Settled() {
		set += `, by_hand = FALSE, asked_at = NULL, asked_by = NULL`
	}
	return db.setDelta(ctx, d, set, string(d.Status), nullText(d.Reason), Micros(until), nullInt(d.Replaces))
}

// PutBackDelta gives a delta back whose attempt was broken off and is not to count.
func (db *DB) PutBackDelta(ctx context.Context, d fleet.Delta) error {
	_, err := db.setDelta(ctx, d, `status = 'waiting', attempts = attempts - 1, leased_until = NULL,
		manifest = NULL, name = NULL, blob = NULL, size = NULL`)
	return err
}

// setDelta writes columns of a delta that is still the caller's to make; the arguments begin with $4.
func (db *DB) setDelta(ctx context.Context, d fleet.Delta, set string, args ...any) (done bool, err error) {
	now := db.now()
	err = db.Write(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE deltas SET modified_at = $1, `+set+` WHERE id = $2 AND status = 'running' AND attempts = $3`,
			append([]any{now, d.ID, d.Attempts}, args...)...)
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		done = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("record delta %d: %w", d.ID, err)
	}
	return done, nil
}

// Delta finds a delta by its id; found is false if it is gone.
func (db *DB) Delta(ctx context.Context, id int64) (d fleet.Delta, found bool, err error) {
	d, err = scanDelta(db.reader.QueryRowContext(ctx, deltaColumns+`WHERE x.id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return d, false, nil
	}
	if err != nil {
		return d, false, fmt.Errorf("load delta %d: %w", id, err)
	}
	return d, true, nil
}

// DeltaIn finds a delta inside tx.
func DeltaIn(ctx context.Context, tx *sql.Tx, id int64) (fleet.Delta, error) {
	d, err := scanDelta(tx.QueryRowContext(ctx, deltaColumns+`WHERE x.id = $1`, id))
	return d, missing(err, "delta", id)
}

// KeptDeltas are the deltas that are ready, least recently used first.
func (db *DB) KeptDeltas(ctx context.Context) ([]fleet.Delta, error) {
	rows, err := db.reader.QueryContext(ctx, deltaColumns+`
		WHERE x.status = 'ready' ORDER BY CASE WHEN COALESCE(x.last_used_at, 0) > x.ended_at THEN x.last_used_at ELSE x.ended_at END, x.id`)
	if err != nil {
		return nil, fmt.Errorf("list deltas: %w", err)
	}
	all, err := collect(rows, func(rows *sql.Rows) (fleet.Delta, error) { return scanDelta(rows) })
	if err != nil {
		return nil, fmt.Errorf("list deltas: %w", err)
	}
	return all, nil
}

// DropDelta takes a delta that is ready out of use, with the reason; dropped is false if it is not ready any more.
func (db *DB) DropDelta(ctx context.Context, id int64, reason string) (dropped bool, err error) {
	now := db.now()
	err = db.Write(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `
			UPDATE deltas SET modified_at = $1, status = 'dropped', reason = $2, manifest = NULL, name = NULL, blob = NULL
			WHERE id = $3 AND status = 'ready'`, now, reason, id)
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		dropped = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("drop delta %d: %w", id, err)
	}
	return dropped, nil
}

// ArtifactNamed reports whether a delta names a manifest of a repository; BlobNamed whether one names a blob.
func (db *DB) ArtifactNamed(ctx context.Context, repository, manifest string) (named bool, err error) {
	err = db.reader.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM deltas x JOIN images i ON i.id = x.target WHERE i.repository = $1 AND x.manifest = $2)`,
		repository, manifest).Scan(&named)
	if err != nil {
		return false, fmt.Errorf("look up artifact %s of %s: %w", manifest, repository, err)
	}
	return named, nil
}

// BlobNamed: see ArtifactNamed.
func (db *DB) BlobNamed(ctx context.Context, blob string) (named bool, err error) {
	err = db.reader.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM deltas WHERE blob = $1)`, blob).Scan(&named)
	if err != nil {
		return false, fmt.Errorf("look up blob %s: %w", blob, err)
	}
	return named, nil
}

// UsedDeltas records how deltas were used.
func (db *DB) UsedDeltas(ctx context.Context, uses map[int64]fleet.DeltaUse) error {
	if len(uses) == 0 {
		return nil
	}
	err := db.Write(ctx, func(tx *sql.Tx) error {
		for id, u := range uses {
			if _, err := tx.ExecContext(ctx, `
				UPDATE deltas SET used = used + $1, last_used_at = $2 WHERE id = $3`, u.Times, Micros(u.Last), id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record the use of deltas: %w", err)
	}
	return nil
}

// CountDeltas counts deltas by status.
func (db *DB) CountDeltas(ctx context.Context) ([]fleet.DeltaCount, error) {
	rows, err := db.reader.QueryContext(ctx, `
		SELECT status, COUNT(*), CAST(COALESCE(SUM(CASE WHEN status = 'ready' THEN size ELSE 0 END), 0) AS BIGINT) FROM deltas GROUP BY status ORDER BY status`)
	if err != nil {
		return nil, fmt.Errorf("count deltas: %w", err)
	}
	all, err := collect(rows, func(rows *sql.Rows) (c fleet.DeltaCount, err error) {
		return c, rows.Scan(&c.Status, &c.Count, &c.Bytes)
	})
	if err != nil {
		return nil, fmt.Errorf("count deltas: %w", err)
	}
	return all, nil
}
