// Package storetest owns the databases of tests: a new one for each test, of the engine the tests run on, gone when the
// test is over. It is no part of the product, and it does not fill databases with rows.
//
// The engine is SQLite, or, with DUNLIN_TEST_POSTGRES, the PostgreSQL server of that URL. Its role must be allowed to
// create databases; those that are there already are left alone.
package storetest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/dunlin/dunlin/internal/store"
)

// current is this process's databases on the PostgreSQL server, and empty the one that has nothing but the schema and
// the catalog. They outlive single tests, which is why they are of the whole process.
var (
	current process
	empty   Template
)

// Open opens a new database with the newest schema and the built-in catalog. It is closed when the test is over.
func Open(t testing.TB) *store.DB {
	t.Helper()
	return empty.Open(t, func(*store.DB) {})
}

// Source makes an empty database and says where it is, as store.Open and `dunlin server --database` take it: for
// tests that open it more than once, as after a restart. On PostgreSQL it is gone when the test is over, together with
// the connections that are open to it then.
func Source(t testing.TB) string {
	t.Helper()
	if server := os.Getenv(variable); server != "" {
		return current.copy(t, server, "template0")
	}
	return filepath.Join(t.TempDir(), "dunlin.db")
}

// Environment gives a server process a new PostgreSQL database. On SQLite it is empty, and the server makes the file that
// it makes by itself.
func Environment(t testing.TB) []string {
	t.Helper()
	if os.Getenv(variable) == "" {
		return nil
	}
	return []string{"DUNLIN_DATABASE=" + Source(t)}
}

// OpenAt opens the database that Source made. It is closed when the test is over, if it is not closed by then.
func OpenAt(t testing.TB, source string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// Template is a database with rows in it, filled by the first test of the process that wants one and copied for each.
// Its zero value is ready; tests may use it concurrently.
type Template struct {
	once sync.Once
	made bool
	file []byte // SQLite
	name string // PostgreSQL
}

// Open opens a copy of the template. fill, which must not keep db, is called once a process.
func (p *Template) Open(t testing.TB, fill func(db *store.DB)) *store.DB {
	t.Helper()
	server := os.Getenv(variable)
	p.once.Do(func() {
		if server != "" {
			p.name = current.template(t, server, fill)
		} else {
			p.file = fileWith(t, fill)
		}
		p.made = true
	})
	switch {
	case !p.made:
		t.Fatal("the database that tests copy could not be made; see the first failure")
	case server != "":
		return OpenAt(t, current.copy(t, server, p.name))
	}
	source := Source(t)
	if err := os.WriteFile(source, p.file, 0o600); err != nil {
		t.Fatal(err)
	}
	return OpenAt(t, source)
}

func fileWith(t testing.TB, fill func(db *store.DB)) []byte {
	t.Helper()
	source := Source(t)
	db := OpenAt(t, source)
	fill(db)
	if err := db.Close(); err != nil { // all of it is in the one file now
		t.Fatal(err)
	}
	file, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// PostgreSQL is Source for tests of that engine alone; they are skipped without one.
func PostgreSQL(t testing.TB) string {
	t.Helper()
	if os.Getenv(variable) == "" {
		t.Skip("runs with " + variable)
	}
	return Source(t)
}
