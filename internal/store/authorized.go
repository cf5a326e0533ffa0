package store

import (
	"context"
	"database/sql"
	"fmt"
)

// AuthorizedKeys are the SSH keys of a user, by name, that open the devices of a fleet: all of them if the user is a
// member of the organization that owns the fleet, else none.
func (db *DB) AuthorizedKeys(ctx context.Context, username string, fleetID int64) ([]string, error) {
	rows, err := db.reader.QueryContext(ctx, `
		SELECT k.public_key FROM ssh_keys k JOIN users u ON u.id = k.user_id
		JOIN organization_memberships m ON m.user_id = u.id JOIN fleets f ON f.organization = m.organization
		WHERE u.username = $1 AND f.id = $2 ORDER BY k.id`, username, fleetID)
	if err != nil {
		return nil, fmt.Errorf("load SSH keys of %s: %w", username, err)
	}
	keys, err := collect(rows, func(rows *sql.Rows) (key string, err error) { return key, rows.Scan(&key) })
	if err != nil {
		return nil, fmt.Errorf("load SSH keys of %s: %w", username, err)
	}
	return keys, nil
}
