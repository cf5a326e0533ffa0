package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/dunlin/dunlin/internal/fleet"
)

// loadCatalog brings the tables of architectures, device types and application types up to the built-in catalog.
// Rows are added and renamed, never removed: devices may refer to them.
func (db *DB) loadCatalog(ctx context.Context) error {
	now := db.now()
	return db.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO application_types (created_at, modified_at, slug, name, supports_multicontainer)
			VALUES ($1, $1, 'default', 'Default', TRUE) ON CONFLICT (slug) DO NOTHING`, now); err != nil {
			return err
		}
		for _, a := range fleet.Architectures {
			if _, err := tx.ExecContext(ctx, `
				INSERT INTO cpu_architectures (created_at, modified_at, slug) VALUES ($1, $1, $2)
				ON CONFLICT (slug) DO NOTHING`, now, a.Slug); err != nil {
				return fmt.Errorf("architecture %s: %w", a.Slug, err)
			}
		}
		for _, t := range fleet.DeviceTypes {
			var id int64
			if err := tx.QueryRowContext(ctx, `
				INSERT INTO device_types (created_at, modified_at, slug, name, cpu_architecture)
				SELECT $1, $1, $2, $3, id FROM cpu_architectures WHERE slug = $4
				ON CONFLICT (slug) DO UPDATE SET name = excluded.name
				RETURNING id`, now, t.Slug, t.Name, t.Arch).Scan(&id); err != nil {
				return fmt.Errorf("device type %s: %w", t.Slug, err)
			}
			for _, alias := range append([]string{t.Slug}, t.Aliases...) {
				if _, err := tx.ExecContext(ctx, `
					INSERT INTO device_type_aliases (created_at, modified_at, device_type, alias) VALUES ($1, $1, $2, $3)
					ON CONFLICT (alias) DO NOTHING`, now, id, alias); err != nil {
					return fmt.Errorf("alias %s: %w", alias, err)
				}
			}
		}
		return nil
	})
}
