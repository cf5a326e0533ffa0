package storetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"hash/fnv"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/dunlin/dunlin/internal/store"
)

// variable names the PostgreSQL server of the tests.
const variable = "DUNLIN_TEST_POSTGRES"

// prefix begins the name of every database made here; the token of the process that made it follows, and then a number.
const prefix = "dunlin_test_"

// process makes databases on one server. It holds a lock on its token while it lives, so that the next process can tell
// what a dead one left, its templates for one, and drop it.
type process struct {
	mu    sync.Mutex
	admin *sql.DB
	token string
	made  int
}

// open connects to the server's own database once, and clears away what dead processes left.
func (p *process) open(t testing.TB, server string) {
	t.Helper()
	if p.admin != nil {
		return
	}
	ctx := context.Background()
	admin, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	session, err := admin.Conn(ctx) // kept until the process ends, and the lock with it
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	p.token = strings.ToLower(rand.Text())[:12]
	if _, err := session.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, lock(p.token)); err != nil {
		t.Fatal(err)
	}
	p.admin = admin
	p.sweep(t, session)
}

func (p *process) sweep(t testing.TB, session *sql.Conn) {
	t.Helper()
	ctx := context.Background()
	rows, err := session.QueryContext(ctx, `SELECT datname FROM pg_database WHERE starts_with(datname, $1)`, prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		token, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "_")
		if token == p.token {
			continue
		}
		var dead bool
		if err := session.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, lock(token)).Scan(&dead); err != nil {
			t.Fatal(err)
		}
		if !dead {
			continue
		}
		// Another process may be at the same; the lock is its or ours.
		if _, err := session.ExecContext(ctx, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`); err != nil {
			t.Fatal(err)
		}
		if _, err := session.ExecContext(ctx, `SELECT pg_advisory_unlock($1)`, lock(token)); err != nil {
			t.Fatal(err)
		}
	}
}

// create makes a database like another one and gives its name.
func (p *process) create(t testing.TB, server, like string) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open(t, server)
	p.made++
	name := fmt.Sprintf("%s%s_%d", prefix, p.token, p.made)
	// The engine lets nobody copy a database that somebody is connected to; whoever closes a connection is not
	// waited for, so this may have to be said again.
	var err error
	for range 100 {
		if _, err = p.admin.ExecContext(context.Background(), `CREATE DATABASE `+name+` ENCODING 'UTF8' TEMPLATE `+like); err == nil {
			return name
		}
		if !strings.Contains(err.Error(), "55006") { // object_in_use
			break
		}
		if _, err := p.admin.ExecContext(context.Background(), `SELECT pg_sleep(0.02)`); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("make a database like %s: %v", like, err)
	return ""
}

// copy makes a database like another one for one test and gives its address.
func (p *process) copy(t testing.TB, server, like string) string {
	t.Helper()
	name := p.create(t, server, like)
	t.Cleanup(func() {
		if _, err := p.admin.ExecContext(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	return address(t, server, name)
}

// template makes a database that lives as long as the process, and gives its name.
func (p *process) template(t testing.TB, server string, fill func(db *store.DB)) string {
	t.Helper()
	name := p.create(t, server, "template0")
	db := OpenAt(t, address(t, server, name))
	fill(db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// address is the URL of another database of the server.
func address(t testing.TB, server, database string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s is no URL", variable)
	}
	u.Path = "/" + database
	return u.String()
}

// lock is the advisory lock of a token.
func lock(token string) int64 {
	h := fnv.New64a()
	h.Write([]byte(prefix + token))
	return int64(h.Sum64())
}
