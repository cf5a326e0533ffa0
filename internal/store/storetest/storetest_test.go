package storetest_test

import (
	"database/sql"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

func set(t *testing.T, db *store.DB, name string) {
	t.Helper()
	if err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO settings (name, value) VALUES ($1, 'set')`, name)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// names are the settings that set has made.
func names(t *testing.T, db *store.DB) string {
	t.Helper()
	rows, err := db.Reader().Query(`SELECT name FROM settings WHERE value = 'set' ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestEveryDatabaseIsItsOwn(t *testing.T) {
	var filled storetest.Template
	fill := func(db *store.DB) { set(t, db, "filled") }
	one, other, third := storetest.Open(t), filled.Open(t, fill), filled.Open(t, fill)
	set(t, one, "one")
	set(t, other, "other")
	for want, db := range map[string]*store.DB{"one": one, "filled other": other, "filled": third} {
		if got := names(t, db); got != want {
			t.Errorf("%q has %q", want, got)
		}
	}
	want := store.SQLite
	if os.Getenv("DUNLIN_TEST_POSTGRES") != "" {
		want = store.PostgreSQL
	}
	if one.Dialect() != want || other.Dialect() != want {
		t.Errorf("the engine is %s", one.Dialect())
	}
}

func TestADatabaseCanBeOpenedAgain(t *testing.T) {
	source := storetest.Source(t)
	db := storetest.OpenAt(t, source)
	set(t, db, "kept")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, storetest.OpenAt(t, source)); got != "kept" {
		t.Errorf("it has %q", got)
	}
}

func TestADatabaseGoesWithItsTest(t *testing.T) {
	var source string
	t.Run("a test", func(t *testing.T) {
		source = storetest.PostgreSQL(t)
		storetest.OpenAt(t, source)
	})
	if source == "" {
		t.Skip("runs with DUNLIN_TEST_POSTGRES")
	}
	u, err := url.Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	there := false
	db := storetest.Open(t)
	if err := db.Reader().QueryRow(`SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)`, name).Scan(&there); err != nil || there {
		t.Errorf("%s is still there: %v", name, err)
	}
}
