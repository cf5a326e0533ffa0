package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dunlin/dunlin/internal/fault"
)

// Supervisor is the port and the key of a device's own API, as the device reported them. One that has not said them yet
// is fault.Unavailable.
func (db *DB) Supervisor(ctx context.Context, device int64) (port int64, key string, err error) {
	err = db.reader.QueryRowContext(ctx, `SELECT COALESCE(api_port, 0), COALESCE(api_secret, '') FROM devices WHERE id = $1`, device).
		Scan(&port, &key)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, "", fault.New(fault.NotFound, "there is no such device")
	}
	if err != nil {
		return 0, "", fmt.Errorf("load supervisor of device %d: %w", device, err)
	}
	if key == "" {
		return 0, "", fault.New(fault.Unavailable, "the device has not said yet how its supervisor is reached")
	}
	return port, key, nil
}
