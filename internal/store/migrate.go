package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"github.com/dunlin/dunlin/internal/fault"
)

// migrations has a folder for each engine: the same numbers and names, and they make the same tables.
//
//go:embed migrations
var migrations embed.FS

// folder has the migrations of one engine.
func folder(dialect goose.Dialect) (fs.FS, error) {
	name := "sqlite"
	if dialect == goose.DialectPostgres {
		name = "postgres"
	}
	return fs.Sub(migrations, "migrations/"+name)
}

// migrate brings a database to the newest schema, forward only.
func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB) error {
	p, have, want, err := versions(ctx, dialect, db)
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate from schema %d to %d: %w", have, want, err)
	}
	return nil
}

// unchanged is migrate for who must not: it refuses a database that is not at the newest schema.
func unchanged(ctx context.Context, dialect goose.Dialect, db *sql.DB) error {
	_, have, want, err := versions(ctx, dialect, db)
	if err == nil && have < want {
		return fault.Newf(fault.Conflict, "the database has schema %d, this program wants %d", have, want).
			WithHint("start the server of this version first: it migrates the database")
	}
	return err
}

// versions are the schema that a database has and the newest one, which it is not beyond.
func versions(ctx context.Context, dialect goose.Dialect, db *sql.DB) (p *goose.Provider, have, want int64, err error) {
	dir, err := folder(dialect)
	if err != nil {
		return nil, 0, 0, err
	}
	if p, err = goose.NewProvider(dialect, db, dir); err != nil {
		return nil, 0, 0, fmt.Errorf("read migrations: %w", err)
	}
	if have, want, err = p.GetVersions(ctx); err != nil {
		return nil, 0, 0, fmt.Errorf("read schema version: %w", err)
	}
	if have > want {
		return nil, 0, 0, fault.Newf(fault.Conflict, "the database has schema %d, this program knows %d", have, want).
			WithHint("start the newer Dunlin that wrote it, or restore the backup from before the upgrade")
	}
	return p, have, want, nil
}
