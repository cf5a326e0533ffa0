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

// Member reports whether a user is in the organization that owns a fleet.
func (db *DB) Member(ctx context.Context, user, fleetID int64) (bool, error) {
	var member bool
	if err := db.reader.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM fleets f JOIN organization_memberships m ON m.organization = f.organization
		WHERE f.id = $1 AND m.user_id = $2)`, fleetID, user).Scan(&member); err != nil {
		return false, fmt.Errorf("look up membership of user %d: %w", user, err)
	}
	return member, nil
}

// MemberFleet finds a fleet of one of a user's organizations by its slug. One that is not there and one that is
// somebody else's are the same fault.NotFound.
func (db *DB) MemberFleet(ctx context.Context, user int64, slug string) (fleet.Fleet, error) {
	f, err := scanFleet(db.reader.QueryRowContext(ctx, fleetColumns+`
		JOIN organization_memberships m ON m.organization = f.organization WHERE f.slug = $1 AND m.user_id = $2`, slug, user))
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
// out. It reads the images of its own fleet's releases.
func (db *DB) DeviceRepositories(ctx context.Context, device int64, names []string) (map[string]RepositoryAccess, error) {
	return db.repositories(ctx, `
		SELECT i.repository, FALSE FROM devices d
		JOIN releases r ON r.fleet = d.fleet JOIN release_images ri ON ri.release = r.id
		JOIN images i ON i.id = ri.image JOIN services s ON s.id = i.service AND s.fleet = d.fleet
		WHERE d.id = $1`, device, names)
}

// UserRepositories is what a user may do with repositories: read those of the organizations the user is in, and
// write those of them whose image is being made.
func (db *DB) UserRepositories(ctx context.Context, user int64, names []string) (map[string]RepositoryAccess, error) {
	return db.repositories(ctx, `
		SELECT i.repository, i.status = 'running' FROM images i
		JOIN services s ON s.id = i.service JOIN fleets f ON f.id = s.fleet
		JOIN organization_memberships m ON m.organization = f.organization
		WHERE m.user_id = $1`, user, names)
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
