package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// Rank is what a user may do with a fleet, by whichever of the ways that lead there gives most. fleet.Member, 0, is
// nothing: also of a fleet that is not there.
func (db *DB) Rank(ctx context.Context, user, fleetID int64) (rank fleet.Rank, err error) {
	if err := db.reader.QueryRowContext(ctx, `
		SELECT COALESCE(MAX(rank), 0) FROM fleet_access WHERE user_id = $1 AND fleet = $2`, user, fleetID).Scan(&rank); err != nil {
		return 0, fmt.Errorf("look up access of user %d: %w", user, err)
	}
	return rank, nil
}

// MemberFleet finds a fleet that a user may at least look at by its slug. One that is not there and one that is
// somebody else's are the same fault.NotFound.
func (db *DB) MemberFleet(ctx context.Context, user int64, slug string) (fleet.Fleet, error) {
	f, err := scanFleet(db.reader.QueryRowContext(ctx, fleetColumns+`
		WHERE f.slug = $1 AND f.id IN (SELECT a.fleet FROM fleet_access a WHERE a.user_id = $2 AND a.rank >= $3)`,
		slug, user, int64(fleet.Observer)))
	if errors.Is(err, sql.ErrNoRows) {
		return f, fault.New(fault.NotFound, "there is no such fleet")
	}
	if err != nil {
		return f, fmt.Errorf("load fleet %s: %w", slug, err)
	}
	return f, nil
}

// RepositoryAccess is what may be done with an image's repository.
type RepositoryAccess struct{ Pull, Push bool }

// DeviceRepositories is what a device of a fleet may do with repositories; those it may do nothing with are left
// out. It reads the images of its own fleet's releases, and those of public fleets: its operating system is one.
func (db *DB) DeviceRepositories(ctx context.Context, device int64, names []string) (map[string]RepositoryAccess, error) {
	return db.repositories(ctx, `
		SELECT i.repository, FALSE FROM devices d
		JOIN fleets f ON f.id = d.fleet OR f.is_public
		JOIN releases r ON r.fleet = f.id JOIN release_images ri ON ri.release = r.id
		JOIN images i ON i.id = ri.image JOIN services s ON s.id = i.service AND s.fleet = f.id
		WHERE d.id = $1`, device, names)
}

// UserRepositories is what a user may do with repositories: an observer of the fleet reads them, and anybody those of
// a public one; a developer writes those whose image is being made, unless it is this server that makes it.
func (db *DB) UserRepositories(ctx context.Context, user int64, names []string) (map[string]RepositoryAccess, error) {
	return db.repositories(ctx, fmt.Sprintf(`
		SELECT i.repository, i.status = 'running'
			AND s.fleet IN (SELECT a.fleet FROM fleet_access a WHERE a.user_id = $1 AND a.rank >= %d)
			AND NOT EXISTS (SELECT 1 FROM release_images ri JOIN releases r ON r.id = ri.release WHERE ri.image = i.id AND NOT r.deployed)
		FROM images i JOIN services s ON s.id = i.service JOIN fleets f ON f.id = s.fleet
		WHERE (f.is_public OR s.fleet IN (SELECT a.fleet FROM fleet_access a WHERE a.user_id = $1 AND a.rank >= %d))`,
		fleet.Developer, fleet.Observer), user, names)
}

// repositories runs a query of (repository, may push) for one asker, narrowed to names.
func (db *DB) repositories(ctx context.Context, query string, asker int64, names []string) (map[string]RepositoryAccess, error) {
	all := map[string]RepositoryAccess{}
	if len(names) == 0 {
		return all, nil
	}
	args, places := []any{asker}, make([]string, len(names))
	for i, name := range names {
		args = append(args, name)
		places[i] = fmt.Sprintf("$%d", len(args))
	}
	rows, err := db.reader.QueryContext(ctx, query+` AND i.repository IN (`+strings.Join(places, ", ")+`)`, args...)
	if err != nil {
		return nil, fmt.Errorf("look up repositories: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var push bool
		if err := rows.Scan(&name, &push); err != nil {
			return nil, fmt.Errorf("look up repositories: %w", err)
		}
		all[name] = RepositoryAccess{Pull: true, Push: push}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look up repositories: %w", err)
	}
	return all, nil
}

// ImageRepositories are the repositories of images that are made or being made. One whose build came to nothing is
// not among them, and its layers may go.
func (db *DB) ImageRepositories(ctx context.Context) (map[string]bool, error) {
	rows, err := db.reader.QueryContext(ctx, `SELECT repository FROM images WHERE status IN ('running', 'success')`)
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	defer rows.Close()
	all := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("list repositories: %w", err)
		}
		all[name] = true
	}
	return all, rows.Err()
}
