package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

func TestWhatConstraintsRefuseIsSaidInTheSameWords(t *testing.T) {
	db := storetest.Open(t)
	ada := addUser(t, db, "ada")
	home, _ := addFleet(t, db, ada, "home")
	const tag = `INSERT INTO fleet_tags (created_at, modified_at, fleet, tag_key, value) VALUES (1, 1, $1, $2, 'v')`
	write(t, db, tag, home.ID, "k")
	for name, c := range map[string]struct {
		statement string
		args      []any
		kind      fault.Kind
		message   string
	}{
		"one column":             {`INSERT INTO organizations (created_at, modified_at, handle, name) VALUES (1, 1, 'ada', 'b')`, nil, fault.Conflict, `"handle" must be unique.`},
		"two columns":            {tag, []any{home.ID, "k"}, fault.Conflict, `"fleet" and "tag_key" must be unique.`},
		"what looks like more":   {`UPDATE fleets SET uuid = 'x)=(y', slug = 'x)=(y' WHERE id = $1`, []any{home.ID}, 0, ``},
		"a primary key":          {`INSERT INTO settings (name, value) VALUES ('catalog', 'x')`, nil, fault.Conflict, `"name" must be unique.`},
		"what is not there":      {tag, []any{home.ID + 1000, "k"}, fault.Conflict, `it refers to, or is referred to by, something else`},
		"what is referred to":    {`DELETE FROM cpu_architectures`, nil, fault.Conflict, `it refers to, or is referred to by, something else`},
		"a value of a list":      {`UPDATE fleets SET class = 'flock' WHERE id = $1`, []any{home.ID}, fault.Invalid, `a value is not one of those that are possible`},
		"a value that is a must": {tag, []any{home.ID, nil}, fault.Invalid, `"tag_key" is required`},
	} {
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(t.Context(), c.statement, c.args...); err != nil {
				return fmt.Errorf("do it: %w", err)
			}
			return nil
		})
		if c.message == "" && err == nil {
			continue
		}
		if !fault.Is(err, c.kind) || fault.Message(err) != c.message {
			t.Errorf("%s: %s, %q, %v", name, fault.KindOf(err), fault.Message(err), err)
		}
	}
	mine := fault.New(fault.Denied, "mine")
	if err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(tag, home.ID, "k")
		return errors.Join(mine, err)
	}); fault.Message(err) != "mine" {
		t.Errorf("what was explained is explained again: %v", err)
	}
}

func TestTextSortsTheSameOnBothEngines(t *testing.T) {
	db := storetest.Open(t)
	want := []string{"", "2", "10", "B", "_", "a", "a-b", "ab", "b", "ä", "中"}
	slices.Sort(want)
	for _, name := range want {
		write(t, db, `INSERT INTO settings (name, value) VALUES ($1, 'sorted')`, name)
	}
	if got := texts(t, db, `SELECT name FROM settings WHERE value = 'sorted' ORDER BY name`); !cmp.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWritersWaitForEachOther(t *testing.T) {
	source := storetest.Source(t)
	servers := []*store.DB{storetest.OpenAt(t, source), storetest.OpenAt(t, source)}
	write(t, servers[0], `INSERT INTO settings (name, value) VALUES ('n', '0')`)
	const each = 30
	var all sync.WaitGroup
	for _, db := range servers {
		for range 3 {
			all.Go(func() {
				for range each / 3 {
					if err := db.Write(t.Context(), func(tx *sql.Tx) error {
						var n int
						if err := tx.QueryRow(`SELECT value FROM settings WHERE name = 'n'`).Scan(&n); err != nil {
							return err
						}
						_, err := tx.Exec(`UPDATE settings SET value = $1 WHERE name = 'n'`, fmt.Sprint(n+1))
						return err
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
	if got := texts(t, servers[0], `SELECT value FROM settings WHERE name = 'n'`); got[0] != fmt.Sprint(2*each) {
		t.Errorf("%s of %d additions are left", got[0], 2*each)
	}
}

func TestAReadingTransactionIsASnapshotAndCannotWrite(t *testing.T) {
	db := storetest.Open(t)
	tx, err := db.Reader().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() // it only reads
	count := func() (n int) {
		if err := tx.QueryRow(`SELECT COUNT(*) FROM settings`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := count()
	write(t, db, `INSERT INTO settings (name, value) VALUES ('n', 'x')`)
	if after := count(); after != before {
		t.Errorf("%d rows, then %d", before, after)
	}
	if _, err := tx.Exec(`DELETE FROM settings`); err == nil {
		t.Error("a reader writes")
	}
	if _, err := db.Reader().Exec(`DELETE FROM settings`); err == nil {
		t.Error("a reader writes without a transaction")
	}
}

func TestAStatementEndsWithItsContext(t *testing.T) {
	db := storetest.Open(t)
	endless := `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n`
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		cancelled := time.AfterFunc(20*time.Millisecond, cancel)
		var n int
		if err := db.Reader().QueryRowContext(ctx, endless).Scan(&n); err == nil || fault.Is(err, fault.Unavailable) {
			t.Errorf("the statement ended with %v", err)
		}
		cancelled.Stop()
		if _, err := db.HasUsers(t.Context()); err != nil {
			t.Errorf("after it: %v", err)
		}
	}
	// A writer that waits for its turn gives up too.
	if err := db.Write(t.Context(), func(*sql.Tx) error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := db.Write(ctx, func(*sql.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("waiting ended with %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestADatabaseOfANewerServerIsRefused(t *testing.T) {
	source := storetest.Source(t)
	db := storetest.OpenAt(t, source)
	write(t, db, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, TRUE)`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), source); !fault.Is(err, fault.Conflict) || fault.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
}

// waiting returns when somebody waits for an advisory lock of the database.
func waiting(t *testing.T, db *sql.DB) {
	t.Helper()
	for range 10_000 {
		var there bool
		if err := db.QueryRowContext(t.Context(), `
			SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)`).Scan(&there); err != nil {
			t.Fatal(err)
		}
		if there {
			return
		}
	}
	t.Fatal("nobody waits")
}

func TestAWriterSeesWhatWasWrittenWhileItWaited(t *testing.T) {
	source := storetest.PostgreSQL(t)
	one, other := storetest.OpenAt(t, source), storetest.OpenAt(t, source)
	ended := make(chan error)
	write := func(db *store.DB, before func()) error {
		return db.Write(t.Context(), func(tx *sql.Tx) error {
			before()
			_, err := tx.Exec(`
				INSERT INTO settings (name, value) VALUES ('n', 'x') ON CONFLICT (name) DO UPDATE SET value = settings.value || 'x'`)
			return err
		})
	}
	if err := write(one, func() {
		go func() { ended <- write(other, func() {}) }()
		waiting(t, one.Reader())
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := texts(t, one, `SELECT value FROM settings WHERE name = 'n'`); !cmp.Equal(got, []string{"xx"}) {
		t.Errorf("got %q", got)
	}
}

func TestAServerWaitsForAnotherThatMigrates(t *testing.T) {
	source := storetest.PostgreSQL(t)
	db, err := sql.Open("pgx", source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	migrating, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer migrating.Close()
	if _, err := migrating.ExecContext(t.Context(), `SELECT pg_advisory_lock(7310589392)`); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		db, err := store.Open(t.Context(), source)
		if err == nil {
			err = db.Close()
		}
		ended <- err
	}()
	waiting(t, db)
	var tables int
	if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables); err != nil || tables > 0 {
		t.Errorf("it made %d tables, %v", tables, err)
	}
	if _, err := migrating.ExecContext(t.Context(), `SELECT pg_advisory_unlock(7310589392)`); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServersThatStartAtOnceAllStart(t *testing.T) {
	source := storetest.PostgreSQL(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			db, err := store.Open(t.Context(), source)
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	db := storetest.OpenAt(t, source)
	if got := texts(t, db, `SELECT version_id::text FROM goose_db_version ORDER BY id`); len(got) < 4 || len(slices.Compact(got)) != len(got) {
		t.Errorf("versions %s", got)
	}
}

func TestTextThatPostgreSQLCannotKeepIsTheCallersMistake(t *testing.T) {
	db := storetest.OpenAt(t, storetest.PostgreSQL(t))
	for _, text := range []string{"a\x00b", "\xff"} {
		if _, err := db.Device(t.Context(), text); !fault.Is(err, fault.Invalid) {
			t.Errorf("read %q: %v", text, err)
		}
		if err := db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.Exec(`INSERT INTO settings (name, value) VALUES ('x', $1)`, sql.NullString{String: text, Valid: true})
			return err
		}); !fault.Is(err, fault.Invalid) {
			t.Errorf("write %q: %v", text, err)
		}
	}
	long := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz", 3000)
	for i := range 3000 { // what repeats is compressed, and fits
		long = long[:i*36] + fmt.Sprintf("%036x", i*7919*104729) + long[(i+1)*36:]
	}
	if err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO settings (name, value) VALUES ($1, '')`, long)
		return err
	}); !fault.Is(err, fault.TooLarge) {
		t.Errorf("a name of %d characters: %v", len(long), err)
	}
}

func TestAnSQLiteFileMayBeGivenAsAURL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "d.db")
	for i, address := range []string{path, "sqlite://" + path} {
		db, err := store.Open(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		if db.Dialect() != store.SQLite {
			t.Errorf("%s is %s", address, db.Dialect())
		}
		if there, err := db.HasUsers(t.Context()); there != (i == 1) || err != nil {
			t.Errorf("%s: users: %v, %v", address, there, err)
		}
		addUser(t, db, fmt.Sprint("ada", i))
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
