package store

import (
	"context"
	"fmt"

	"github.com/dunlin/dunlin/internal/fleet"
)

// AuthorizedKeys are the SSH keys of a user, by name, that open the devices of a fleet: all of them for one who
// operates devices there, else none.
func (db *DB) AuthorizedKeys(ctx context.Context, username string, fleetID int64) ([]string, error) {
	keys, err := column[string](db.reader.QueryContext(ctx, `
		SELECT k.public_key FROM ssh_keys k JOIN users u ON u.id = k.user_id
		WHERE u.username = $1 AND EXISTS (
			SELECT 1 FROM fleet_access a WHERE a.user_id = u.id AND a.fleet = $2 AND a.rank >= $3)
		ORDER BY k.id`, username, fleetID, int64(fleet.Operator)))
	if err != nil {
		return nil, fmt.Errorf("load SSH keys of %s: %w", username, err)
	}
	return keys, nil
}
