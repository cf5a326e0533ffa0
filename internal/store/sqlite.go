package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// openSQLite opens the file at path and makes it, and its folder, if need be.
func openSQLite(ctx context.Context, path string, prepare prepare) (*DB, error) {
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
	writer, err := connectSQLite(path, "immediate", false)
	if err != nil {
		return nil, err
	}
	// SQLite has one writer, and waiting here is fairer than SQLITE_BUSY.
	writer.SetMaxOpenConns(1)
	if err := prepare(ctx, goose.DialectSQLite3, writer); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), writer.Close())
	}
	reader, err := connectSQLite(path, "deferred", true)
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	reader.SetMaxOpenConns(Readers)
	reader.SetMaxIdleConns(Readers)
	return &DB{dialect: SQLite, writer: writer, reader: reader}, nil
}

func connectSQLite(path, txlock string, readOnly bool) (*sql.DB, error) {
	q := url.Values{"_txlock": {txlock}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
		"temp_store(MEMORY)", // what is sorted is answered, and has its place in memory already
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

// explainSQLite is Explain for errors of SQLite; nil for others.
func explainSQLite(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return nil
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return uniqueViolation(err, failedColumns(e.Error()))
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return referenceViolation(err)
	case sqlite3.SQLITE_CONSTRAINT_CHECK:
		return checkViolation(err)
	case sqlite3.SQLITE_CONSTRAINT_NOTNULL:
		return missingValue(err, strings.Join(failedColumns(e.Error()), ", "))
	case sqlite3.SQLITE_FULL:
		return diskFull(err)
	}
	return nil
}

// failedColumns reads "…UNIQUE constraint failed: fleets.organization, fleets.name (2067)".
func failedColumns(text string) (names []string) {
	_, columns, found := strings.Cut(text, "constraint failed: ")
	if !found {
		return nil
	}
	if i := strings.LastIndex(columns, " ("); i >= 0 {
		columns = columns[:i]
	}
	for _, c := range strings.Split(columns, ",") {
		c = strings.TrimSpace(c)
		names = append(names, c[strings.LastIndexByte(c, '.')+1:])
	}
	return names
}
