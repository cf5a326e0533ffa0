package main

import (
	"bytes"
	"database/sql"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/auth"
	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

// typed is what `dunlin server …` prints.
func typed(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := serverCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// The server runs, as far as the database is concerned, all the while.
func TestWhoSitsAtTheServerManagesAccountsWhileItRuns(t *testing.T) {
	source := storetest.Source(t)
	db := storetest.OpenAt(t, source)
	running := &auth.Auth{Store: db}
	if _, _, err := running.FirstUser(t.Context(), "admin", "admin@example.org", "nobody knows any more"); err != nil {
		t.Fatal(err)
	}
	do := func(stdin string, args ...string) string {
		t.Helper()
		out, err := typed(t, stdin, append([]string{"user"}, append(args, "--database", source)...)...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return out
	}
	refused := func(kind fault.Kind, stdin string, args ...string) string {
		t.Helper()
		out, err := typed(t, stdin, append([]string{"user"}, append(args, "--database", source)...)...)
		if !fault.Is(err, kind) {
			t.Errorf("%v: %v, want %v\n%s", args, err, kind, out)
		}
		return fault.Message(err)
	}
	may := func(name, password string) bool {
		t.Helper()
		keys, err := auth.OpenKeyring(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		_, err = (&auth.Auth{Store: db, Keys: keys}).Login(t.Context(), name, password, "")
		if err != nil && !fault.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
		return err == nil
	}
	shown := regexp.MustCompile(`password (\S+) \(it is shown only now\)`)

	out := do("", "password", "admin@example.org")
	m := shown.FindStringSubmatch(out)
	if m == nil || !may("admin", m[1]) || may("admin", "nobody knows any more") {
		t.Errorf("a lost password: %s", out)
	}
	if out := do("from a file, with spaces\n", "password", "admin", "--password-stdin"); strings.Contains(out, "spaces") || !may("admin", "from a file, with spaces") {
		t.Errorf("a password of one's own: %s", out)
	}
	out = do("", "add", "ada", "--email", "Ada@Example.org")
	if m := shown.FindStringSubmatch(out); m == nil || !may("ada@example.org", m[1]) {
		t.Errorf("a new user: %s", out)
	}
	do("long enough\n", "add", "root", "--administrator", "--password-stdin")
	if got := refused(fault.Conflict, "long enough\n", "add", "ada", "--password-stdin"); !strings.Contains(got, `"ada"`) {
		t.Errorf("twice: %s", got)
	}
	refused(fault.Invalid, "short\n", "add", "bob", "--password-stdin")
	refused(fault.NotFound, "", "password", "nobody-here")

	do("", "administrator", "ada")
	do("", "administrator", "admin", "--revoke")
	do("", "delete", "root")
	if got := refused(fault.Conflict, "", "administrator", "ada", "--revoke"); !strings.Contains(got, "last administrator") {
		t.Errorf("the last one: %s", got)
	}
	refused(fault.Conflict, "", "delete", "ada")
	list := regexp.MustCompile(`(?m) +`).ReplaceAllString(do("", "list"), " ")
	for _, want := range []string{"NAME EMAIL ADMINISTRATOR CREATED LAST LOGIN\n", "\nadmin admin@example.org no ", "\nada ada@example.org yes "} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	if strings.Contains(list, "root") {
		t.Errorf("who was deleted is listed:\n%s", list)
	}
	var n int
	if err := db.Reader().QueryRow(`SELECT COUNT(*) FROM audit_events WHERE actor_kind = 'server' AND resource = 'user'`).Scan(&n); err != nil || n != 8 {
		t.Errorf("%d rows on the trail, %v", n, err)
	}
}

func TestOnlyADatabaseThatIsThereIsWorkedOn(t *testing.T) {
	dir := t.TempDir()
	if out, err := typed(t, "", "user", "list", "--data", dir); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v\n%s", err, out)
	}
	if found, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(found) > 0 {
		t.Errorf("made %v, %v", found, err)
	}
	help, err := typed(t, "", "user", "password", "--help")
	if err != nil || !strings.Contains(help, "--database") || strings.Contains(help, "--tls-cert") {
		t.Errorf("%v\n%s", err, help)
	}
}

// A command that is newer than the server that runs must not migrate under its feet.
func TestADatabaseOfAnotherVersionIsLeftAlone(t *testing.T) {
	source := storetest.Source(t)
	db := storetest.OpenAt(t, source)
	if _, err := (&auth.Auth{Store: db}).Add(t.Context(), auth.NewAccount{Username: "ada", Password: "long enough"}); err != nil {
		t.Fatal(err)
	}
	version := func(change string) {
		t.Helper()
		if err := db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), change)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	version(`UPDATE goose_db_version SET version_id = 999 WHERE version_id = (SELECT MAX(version_id) FROM goose_db_version)`)
	if out, err := typed(t, "", "user", "list", "--database", source); !fault.Is(err, fault.Conflict) {
		t.Errorf("a newer one: %v\n%s", err, out)
	}
	version(`DELETE FROM goose_db_version WHERE version_id = 999`)
	if out, err := typed(t, "", "user", "list", "--database", source); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Hint(err), "migrates") {
		t.Errorf("an older one: %v\n%s", err, out)
	}
}
