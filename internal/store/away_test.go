package store_test

import (
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/store"
	"github.com/dunlin/dunlin/internal/store/storetest"
)

const secret = "sesame-Open+9"

func TestAnAddressThatCannotBeUsedIsSaidWithoutItsPassword(t *testing.T) {
	for _, address := range []string{
		"mysql://dunlin:" + secret + "@localhost/dunlin",
		"postgres://dunlin:" + secret + "/x@localhost/dunlin",
		"postgres://dunlin:" + secret + "%zz@localhost/dunlin",
		"postgres://dunlin:" + secret + "@localhost:port/dunlin",
		"postgres://dunlin:" + secret + "@localhost/dunlin?sslmode=maybe",
		"postgres://dunlin:" + secret + "@localhost/dunlin?sslmode=" + secret,
		"postgres://dunlin:" + secret + "@localhost/dunlin?connect_timeout=x",
		"postgres://dunlin:" + secret + "@localhost/dunlin?connect_timeout=" + secret,
		"postgres://dunlin:" + secret + "@localhost/dunlin?sslmode=verify-full&sslrootcert=/no/such/file",
	} {
		_, err := store.Open(t.Context(), address)
		if !fault.Is(err, fault.Invalid) || fault.Hint(err) == "" {
			t.Errorf("%s: %v", address, err)
		}
		if text := fmt.Sprint(err) + fault.Hint(err); strings.Contains(text, secret) {
			t.Errorf("%s: the password is said: %s", address, text)
		}
	}
}

func TestAServerThatIsAwayIsSaidAtTheStart(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), "postgres://dunlin:"+secret+"@"+closed.Addr().String()+"/dunlin")
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Message(err), closed.Addr().String()) || fault.Hint(err) == "" {
		t.Errorf("got %q, %v", fault.Message(err), err)
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the password is said: %v", err)
	}
}

func TestWhoIsNotLetInIsToldWhy(t *testing.T) {
	address := func(change func(u *url.URL)) string {
		u, err := url.Parse(storetest.PostgreSQL(t))
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		return u.String()
	}
	for name, c := range map[string]struct{ address, message, hint string }{
		"a wrong password":             {address(func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), secret) }), "password authentication failed", "DUNLIN_DATABASE"},
		"a role that is not there":     {address(func(u *url.URL) { u.User = url.UserPassword("nobody", secret) }), "nobody", "DUNLIN_DATABASE"},
		"a database that is not there": {address(func(u *url.URL) { u.Path = "/no_such" }), `database "no_such" does not exist`, `CREATE DATABASE "no_such"`},
	} {
		_, err := store.Open(t.Context(), c.address)
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Message(err), c.message) || !strings.Contains(fault.Hint(err), c.hint) {
			t.Errorf("%s: %v; hint: %s", name, err, fault.Hint(err))
		}
		if strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("%s: the password is said: %v", name, err)
		}
	}
}

func TestADatabaseThatKeepsNoUnicodeIsRefused(t *testing.T) {
	source := storetest.PostgreSQL(t)
	admin, err := sql.Open("pgx", source)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	u, err := url.Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/") + "_ascii"
	if _, err := admin.ExecContext(t.Context(), `CREATE DATABASE `+name+` ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := admin.Exec(`DROP DATABASE ` + name); err != nil {
			t.Error(err)
		}
	}()
	u.Path = "/" + name
	if _, err := store.Open(t.Context(), u.String()); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Message(err), "SQL_ASCII") {
		t.Errorf("got %v", err)
	}
}

func TestADatabaseThatGoesAwayIsUnavailableUntilItIsBack(t *testing.T) {
	u, err := url.Parse(storetest.PostgreSQL(t))
	if err != nil {
		t.Fatal(err)
	}
	road := newRoad(t, u.Host)
	u.Host = road.address
	u.RawQuery = "sslmode=disable"
	db := storetest.OpenAt(t, u.String())
	add := func() error {
		return db.Write(t.Context(), func(tx *sql.Tx) error {
			return store.AddAudit(t.Context(), tx, store.Audit{Verb: "look", Resource: "sky"})
		})
	}
	road.close()
	for range 3 {
		if _, err := db.HasUsers(t.Context()); !fault.Is(err, fault.Unavailable) {
			t.Errorf("read: %v", err)
		}
		if err := add(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("write: %v", err)
		}
		if err := db.Ping(t.Context()); !fault.Is(err, fault.Unavailable) {
			t.Errorf("ping: %v", err)
		}
	}
	road.open()
	if _, err := db.HasUsers(t.Context()); err != nil {
		t.Errorf("read: %v", err)
	}
	if err := add(); err != nil {
		t.Errorf("write: %v", err)
	}
	// It also goes while a statement is under way.
	if err := db.Write(t.Context(), func(tx *sql.Tx) error {
		road.close()
		_, err := tx.Exec(`DELETE FROM audit_events`)
		return err
	}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("amid a transaction: %v", err)
	}
	road.open()
	if err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM audit_events`)
		road.close()
		return err
	}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("at the commit: %v", err)
	}
	road.open()
	if got := texts(t, db, `SELECT COUNT(*)::text FROM audit_events WHERE verb = 'look'`); got[0] != "1" {
		t.Errorf("%s rows are left", got[0])
	}
}

// road is the way to a server, which can be closed.
type road struct {
	t           *testing.T
	to, address string
	mu          sync.Mutex
	listener    net.Listener
	travellers  []net.Conn
	ended       sync.WaitGroup
}

func newRoad(t *testing.T, to string) *road {
	r := &road{t: t, to: to, address: "127.0.0.1:0"}
	r.open()
	t.Cleanup(r.close)
	return r
}

func (r *road) open() {
	l, err := net.Listen("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listener, r.address = l, l.Addr().String()
	r.ended.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", r.to)
			if err != nil {
				from.Close()
				continue
			}
			r.mu.Lock()
			r.travellers = append(r.travellers, from, to)
			r.mu.Unlock()
			for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
				r.ended.Go(func() {
					io.Copy(pair[0], pair[1]) // it ends with the road
					pair[0].Close()
					pair[1].Close()
				})
			}
		}
	})
}

func (r *road) close() {
	r.mu.Lock()
	r.listener.Close()
	for _, c := range r.travellers {
		c.Close()
	}
	r.travellers = nil
	r.mu.Unlock()
	r.ended.Wait()
}
