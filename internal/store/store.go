package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/dunlin/dunlin/internal/fault"
)

// Readers is how many statements may read at once, beside the one writer.
const Readers = 8

// Dialect is the engine a database is of, for the few statements whose text depends on it.
type Dialect uint8

const (
	SQLite Dialect = iota
	PostgreSQL
)

func (d Dialect) String() string {
	if d == PostgreSQL {
		return "PostgreSQL"
	}
	return "SQLite"
}

// DB is the database. All its methods may be called concurrently.
type DB struct {
	dialect Dialect
	writer  *sql.DB // one connection: writers wait for each other here, in the order they came
	reader  *sql.DB // the engine refuses to write on its connections; each transaction is a snapshot
	// Now is the clock of created_at and modified_at; nil means time.Now.
	Now func() time.Time
}

// Open opens the database at address, makes it if that is possible, and brings it to the newest schema. The address
// is the path of an SQLite file, also as sqlite://PATH, or postgres://USER:PASSWORD@HOST:PORT/DATABASE with the
// parameters and environment variables of libpq. A database that a newer Dunlin has written is refused. No error says
// the password.
func Open(ctx context.Context, address string) (*DB, error) {
	db, err := connect(ctx, address, migrate)
	if err != nil {
		return nil, err
	}
	if err := db.loadCatalog(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("load device types: %w", err), db.Close())
	}
	return db, nil
}

// Attach opens a database that a server uses, perhaps at this moment, and changes nothing about its schema: one that
// is not at the newest is refused.
func Attach(ctx context.Context, address string) (*DB, error) {
	if scheme, path := split(address); scheme == "sqlite" {
		if _, err := os.Stat(path); err != nil {
			return nil, fault.Wrap(fault.NotFound, err, "there is no database "+path).
				WithHint("say where the server keeps it, with --data or --database; the first start of the server makes it")
		}
	}
	return connect(ctx, address, unchanged)
}

// prepare makes a database fit for use when it is opened: migrate or unchanged.
type prepare func(ctx context.Context, dialect goose.Dialect, db *sql.DB) error

func connect(ctx context.Context, address string, prepare prepare) (*DB, error) {
	scheme, path := split(address)
	switch scheme {
	case "sqlite":
		return openSQLite(ctx, path, prepare)
	case "postgres", "postgresql":
		return openPostgres(ctx, address, prepare)
	}
	return nil, fault.Newf(fault.Invalid, "there is no database of the kind %q", scheme).
		WithHint("give the path of a file for SQLite, or postgres://user@host/database")
}

// split is the scheme of an address, and what follows it; what has none is the path of an SQLite file.
func split(address string) (scheme, path string) {
	scheme, path, found := strings.Cut(address, "://")
	if !found {
		return "sqlite", address
	}
	return scheme, path
}

// Dialect is the engine this database is of.
func (db *DB) Dialect() Dialect { return db.dialect }

// Close waits for statements under way and closes the database.
func (db *DB) Close() error {
	return errors.Join(db.reader.Close(), db.writer.Close())
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.reader.PingContext(ctx) }

// Reader is the pool for statements that only read. A statement that writes is refused by the engine.
func (db *DB) Reader() *sql.DB { return db.reader }

// Write runs f in one transaction, alone: no other Write to the database is under way, on either engine. So what f
// reads stays true until it has written. f's error rolls everything back; what the engine's constraints refuse comes
// out as Explain has it. f must not use db itself: the one writing connection is taken. After an error of a statement
// f ends, because PostgreSQL runs no further one in that transaction.
func (db *DB) Write(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return Explain(fmt.Errorf("begin: %w", err))
	}
	defer tx.Rollback() // after a commit there is nothing to roll back
	if db.dialect == PostgreSQL {
		if _, err := tx.ExecContext(ctx, takeTurn); err != nil {
			return Explain(fmt.Errorf("begin: %w", err))
		}
	}
	if err := f(tx); err != nil {
		return Explain(err)
	}
	if err := tx.Commit(); err != nil {
		return Explain(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// Micros is the form of a time in the database; the zero time is 0.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time is the time of a database value; 0 is the zero time.
func Time(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

func (db *DB) now() int64 {
	if db.Now != nil {
		return db.Now().UnixMicro()
	}
	return time.Now().UnixMicro()
}

// Explain gives an engine's errors the words of the protocol: a unique violation is a Conflict that says
// `"a" and "b" must be unique.`, with the columns' names. A full disk and a database that is away are Unavailable.
// Errors that say nothing to a caller pass unchanged, and so do those that are explained already.
func Explain(err error) error {
	if fault.KindOf(err) != fault.Internal {
		return err
	}
	if f := explainSQLite(err); f != nil {
		return f
	}
	if f := explainPostgres(err); f != nil {
		return f
	}
	return err
}

// Words of the violations, the same for both engines.

func uniqueViolation(err error, columns []string) error {
	if len(columns) == 0 {
		return fault.Wrap(fault.Conflict, err, "it must be unique.")
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		if c == "key_hash" {
			c = "key" // as clients know it
		}
		names[i] = `"` + c + `"`
	}
	return fault.Wrap(fault.Conflict, err, strings.Join(names, " and ")+" must be unique.")
}

func referenceViolation(err error) error {
	return fault.Wrap(fault.Conflict, err, "it refers to, or is referred to by, something else")
}

func checkViolation(err error) error {
	return fault.Wrap(fault.Invalid, err, "a value is not one of those that are possible")
}

func missingValue(err error, column string) error {
	return fault.Wrap(fault.Invalid, err, fmt.Sprintf("%q is required", column))
}

func diskFull(err error) error {
	return fault.Wrap(fault.Unavailable, err, "the server's disk is full")
}

// insertActor adds an actor row and returns its id.
func insertActor(ctx context.Context, tx *sql.Tx, kind string) (int64, error) {
	var id int64
	err := tx.QueryRowContext(ctx, `INSERT INTO actors (kind) VALUES ($1) RETURNING id`, kind).Scan(&id)
	return id, err
}

func nullInt(n int64) sql.NullInt64 { return sql.NullInt64{Int64: n, Valid: n != 0} }
