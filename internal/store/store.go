package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/dunlin/dunlin/internal/fault"
)

//go:embed migrations
var migrations embed.FS

// readers is how many statements may read at once; SQLite serves them beside the one writer.
const readers = 8

// DB is the database. All its methods may be called concurrently.
type DB struct {
	writer *sql.DB // one connection: SQLite has one writer, and waiting here is fairer than SQLITE_BUSY
	reader *sql.DB // query_only
	// Now is the clock of created_at and modified_at; nil means time.Now.
	Now func() time.Time
}

// Open opens the SQLite file at path, creates it if need be, and brings it to the newest schema. It refuses a
// file that a newer Dunlin has written.
func Open(ctx context.Context, path string) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	// The engine would make it readable for everybody, and its side files after it.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	writer, err := connect(path, "immediate", false)
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	if err := migrate(ctx, writer); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), writer.Close())
	}
	reader, err := connect(path, "deferred", true)
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	db := &DB{writer: writer, reader: reader}
	if err := db.loadCatalog(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("load device types: %w", err), db.Close())
	}
	return db, nil
}

func connect(path, txlock string, readOnly bool) (*sql.DB, error) {
	q := url.Values{"_txlock": {txlock}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
	}}
	if readOnly {
		q.Add("_pragma", "query_only(ON)")
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if have > want {
		return fault.Newf(fault.Conflict, "the database has schema %d, this program knows %d", have, want).
			WithHint("start the newer Dunlin that wrote it, or restore the backup from before the upgrade")
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate from schema %d to %d: %w", have, want, err)
	}
	return nil
}

// Close waits for statements under way and closes the file.
func (db *DB) Close() error {
	return errors.Join(db.reader.Close(), db.writer.Close())
}

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.reader.PingContext(ctx) }

// Reader is the pool for statements that only read. A statement that writes is refused by the engine.
func (db *DB) Reader() *sql.DB { return db.reader }

// Write runs f in one transaction. f's error rolls everything back; unique violations come out as fault.Conflict.
// f must not use db itself: the one writing connection is taken.
func (db *DB) Write(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // after a commit there is nothing to roll back
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

// Explain gives an engine's constraint violations the words of the protocol: a unique violation is a Conflict that
// says `"a" and "b" must be unique.`, with the columns' names; other errors pass unchanged.
func Explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fault.Wrap(fault.Conflict, err, uniqueMessage(e.Error()))
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return fault.Wrap(fault.Conflict, err, "it refers to, or is referred to by, something else")
	case sqlite3.SQLITE_FULL:
		return fault.Wrap(fault.Unavailable, err, "the server's disk is full")
	}
	return err
}

// uniqueMessage turns "…UNIQUE constraint failed: fleets.organization, fleets.name (2067)" into the protocol's words.
func uniqueMessage(text string) string {
	_, columns, found := strings.Cut(text, "constraint failed: ")
	if !found {
		return "it must be unique."
	}
	if i := strings.LastIndex(columns, " ("); i >= 0 {
		columns = columns[:i]
	}
	var names []string
	for _, c := range strings.Split(columns, ",") {
		c = strings.TrimSpace(c)
		if i := strings.LastIndexByte(c, '.'); i >= 0 {
			c = c[i+1:]
		}
		if c == "key_hash" {
			c = "key" // as clients know it
		}
		names = append(names, `"`+c+`"`)
	}
	return strings.Join(names, " and ") + " must be unique."
}

// insertActor adds an actor row and returns its id.
func insertActor(ctx context.Context, tx *sql.Tx, kind string) (int64, error) {
	var id int64
	err := tx.QueryRowContext(ctx, `INSERT INTO actors (kind) VALUES ($1) RETURNING id`, kind).Scan(&id)
	return id, err
}

func nullInt(n int64) sql.NullInt64 { return sql.NullInt64{Int64: n, Valid: n != 0} }
