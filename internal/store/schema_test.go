package store_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

// table is what statements may rely on, in words that both engines' catalogs can be put into.
type table struct {
	Columns  map[string]string // kind, NOT NULL, default, identity
	Keys     []string          // columns of the primary key and of unique constraints, in order
	Indices  map[string]string // by name
	Foreign  []string
	Checks   []string
	Triggers []string
}

func TestBothEnginesHaveTheSameTables(t *testing.T) {
	address := storetest.PostgreSQL(t)
	one, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "dunlin.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	other := storetest.OpenAt(t, address)
	sqlite, postgres := sqliteTables(t, one), postgresTables(t, other)
	if len(sqlite) < 30 {
		t.Fatalf("SQLite has %d tables", len(sqlite))
	}
	if diff := cmp.Diff(sqlite, postgres); diff != "" {
		t.Errorf("SQLite (-) and PostgreSQL (+) differ:\n%s", diff)
	}
	views := func(db *store.DB, query string) []string { return texts(t, db, query) }
	if diff := cmp.Diff(
		views(one, `SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'view' ORDER BY 1`),
		views(other, `SELECT table_name || '.' || column_name FROM information_schema.columns JOIN information_schema.views USING (table_schema, table_name)
			WHERE table_schema = 'public' ORDER BY (table_name || '.' || column_name) COLLATE "C"`)); diff != "" {
		t.Errorf("views of SQLite (-) and PostgreSQL (+) differ:\n%s", diff)
	}
}

func TestTextIsComparedByItsBytes(t *testing.T) {
	db := storetest.OpenAt(t, storetest.PostgreSQL(t))
	if other := texts(t, db, `
		SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C' ORDER BY 1`); len(other) > 0 {
		t.Errorf("columns that sort otherwise than on SQLite; they need COLLATE \"C\": %s", other)
	}
}

func sqliteTables(t *testing.T, db *store.DB) map[string]table {
	t.Helper()
	all := map[string]table{}
	in := regexp.MustCompile(`CHECK \((\w+) IN \(([^)]*)\)\)`)
	for _, r := range rows(t, db, `SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name <> 'goose_db_version'`) {
		name, text := r[0], r[1]
		made := table{Columns: map[string]string{}, Indices: map[string]string{}}
		for _, c := range rows(t, db, `SELECT name, type, "notnull", COALESCE(dflt_value, ''), pk FROM pragma_table_info($1)`, name) {
			kind := c[1]
			if kind == "INTEGER" && strings.Contains(text, "PRIMARY KEY AUTOINCREMENT") {
				kind = "BIGINT identity"
			}
			made.Columns[c[0]] = words(kind, c[2] == "1" || c[4] == "1", c[3])
		}
		for _, i := range rows(t, db, `SELECT name, "unique", origin FROM pragma_index_list($1)`, name) {
			columns := strings.Join(texts(t, db, `SELECT name FROM pragma_index_info($1) ORDER BY seqno`, i[0]), ", ")
			if i[2] != "c" {
				made.Keys = append(made.Keys, columns)
				continue
			}
			where := ""
			if definition := texts(t, db, `SELECT sql FROM sqlite_schema WHERE name = $1`, i[0]); strings.Contains(definition[0], " WHERE ") || strings.Contains(definition[0], "\n  WHERE ") {
				where = definition[0][strings.LastIndex(definition[0], "WHERE ")+len("WHERE "):]
			}
			made.Indices[i[0]] = index(columns, i[1] == "1", where)
		}
		if strings.Contains(text, "INTEGER PRIMARY KEY") { // the row itself, for SQLite
			made.Keys = append(made.Keys, "id")
		}
		for _, f := range rows(t, db, `SELECT "from", "table", "to", on_delete FROM pragma_foreign_key_list($1)`, name) {
			made.Foreign = append(made.Foreign, strings.Join(f, " "))
		}
		for _, c := range in.FindAllStringSubmatch(text, -1) {
			made.Checks = append(made.Checks, c[1]+" "+c[2])
		}
		if strings.Count(text, "CHECK") != len(made.Checks) {
			t.Errorf("this test cannot read the checks of %s", name)
		}
		made.Triggers = texts(t, db, `SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = $1`, name)
		all[name] = made.sorted()
	}
	return all
}

func postgresTables(t *testing.T, db *store.DB) map[string]table {
	t.Helper()
	all := map[string]table{}
	anyOf := regexp.MustCompile(`^CHECK \(\((\w+) = ANY \(ARRAY\[(.*)\]\)\)\)$`)
	for _, name := range texts(t, db, `SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'goose_db_version'`) {
		made := table{Columns: map[string]string{}, Indices: map[string]string{}}
		for _, c := range rows(t, db, `
			SELECT column_name, data_type, is_nullable, COALESCE(column_default, ''), is_identity FROM information_schema.columns
			WHERE table_schema = 'public' AND table_name = $1`, name) {
			kind := strings.ToUpper(c[1])
			if c[4] == "YES" {
				kind += " identity"
			}
			made.Columns[c[0]] = words(kind, c[2] == "NO", c[3])
		}
		for _, i := range rows(t, db, `
			SELECT c.relname, i.indisunique::text, EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u'))::text,
				(SELECT string_agg(pg_get_indexdef(i.indexrelid, n, TRUE), ', ' ORDER BY n) FROM generate_series(1, i.indnkeyatts) n),
				COALESCE(pg_get_expr(i.indpred, i.indrelid), '')
			FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1::regclass`, name) {
			if i[2] == "true" {
				made.Keys = append(made.Keys, i[3])
				continue
			}
			made.Indices[i[0]] = index(i[3], i[1] == "true", i[4])
		}
		for _, f := range rows(t, db, `
			SELECT a.attname, k.confrelid::regclass::text, b.attname, k.confdeltype::text FROM pg_constraint k
			JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
			JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
			WHERE k.contype = 'f' AND k.conrelid = $1::regclass`, name) {
			f[3] = map[string]string{"a": "NO ACTION", "c": "CASCADE", "n": "SET NULL"}[f[3]]
			made.Foreign = append(made.Foreign, strings.Join(f, " "))
		}
		for _, text := range texts(t, db, `SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND conrelid = $1::regclass`, name) {
			c := anyOf.FindStringSubmatch(text)
			if c == nil {
				t.Errorf("this test cannot read the check %s of %s", text, name)
				continue
			}
			made.Checks = append(made.Checks, c[1]+" "+strings.ReplaceAll(c[2], "::text", ""))
		}
		made.Triggers = texts(t, db, `SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = $1::regclass`, name)
		all[name] = made.sorted()
	}
	return all
}

func words(kind string, required bool, fallback string) string {
	if required {
		kind += " NOT NULL"
	}
	if fallback = strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(fallback, "::text"), "::bigint")); fallback != "" {
		kind += " DEFAULT " + fallback
	}
	return kind
}

func index(columns string, unique bool, where string) string {
	if unique {
		columns += " unique"
	}
	if where != "" {
		columns += " where " + strings.Join(strings.Fields(strings.NewReplacer("(", "", ")", "", "::text", "").Replace(where)), " ")
	}
	return columns
}

func (t table) sorted() table {
	for _, list := range [][]string{t.Keys, t.Foreign, t.Checks, t.Triggers} {
		slices.Sort(list)
	}
	return t
}

// rows are the rows of a query as texts.
func rows(t *testing.T, db *store.DB, query string, args ...any) (all [][]string) {
	t.Helper()
	r, err := db.Reader().QueryContext(context.Background(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer r.Close()
	columns, err := r.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for r.Next() {
		row, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := r.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var values []string
		for _, v := range row {
			values = append(values, v.String)
		}
		all = append(all, values)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// texts is the first column of a query.
func texts(t *testing.T, db *store.DB, query string, args ...any) (all []string) {
	t.Helper()
	for _, r := range rows(t, db, query, args...) {
		all = append(all, r[0])
	}
	return all
}
