package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// NewUser is what an account begins with.
type NewUser struct {
	Username      string
	Email         string // lower case; "" for none
	PasswordHash  string
	JWTSecret     string // new sessions carry it; changing it ends them
	Administrator bool
	// By made the account. The zero Actor: the new user, from By.Address.
	By fleet.Actor
	// Console: the server itself, or who sits at its console, made it.
	Console bool
	// Invitation is the hash of the token the account is made for and accepts; "" for none.
	Invitation string
}

// Login is a user with what proves that a person is that user.
type Login struct {
	fleet.User
	Administrator bool
	PasswordHash  string // "" lets nobody in by password
	JWTSecret     string
}

// Account is a user as who runs the server sees it.
type Account struct {
	fleet.User
	Administrator bool
	Created       time.Time
	LastLogin     time.Time // with the password; zero for never, or not of late
}

// HasUsers reports whether there is any account.
func (db *DB) HasUsers(ctx context.Context) (bool, error) {
	var there bool
	if err := db.reader.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM users)`).Scan(&there); err != nil {
		return false, fmt.Errorf("look for users: %w", err)
	}
	return there, nil
}

// AddUser adds an account, an organization of the same name and the membership that joins them. A name or email that
// is taken is fault.Conflict, an invitation that is not good fault.NotFound.
func (db *DB) AddUser(ctx context.Context, n NewUser) (u fleet.User, err error) {
	err = db.Write(ctx, func(tx *sql.Tx) error {
		u, err = addUser(ctx, tx, db.now(), n)
		return err
	})
	if err != nil {
		return fleet.User{}, fmt.Errorf("add user %s: %w", n.Username, err)
	}
	return u, nil
}

// AddFirstUser is AddUser while there is no account; afterwards it does nothing and made is false.
func (db *DB) AddFirstUser(ctx context.Context, n NewUser) (u fleet.User, made bool, err error) {
	err = db.Write(ctx, func(tx *sql.Tx) error {
		var there bool
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM users)`).Scan(&there); err != nil || there {
			return err
		}
		made = true
		u, err = addUser(ctx, tx, db.now(), n)
		return err
	})
	if err != nil {
		return fleet.User{}, false, fmt.Errorf("add first user %s: %w", n.Username, err)
	}
	return u, made, nil
}

func addUser(ctx context.Context, tx *sql.Tx, now int64, n NewUser) (fleet.User, error) {
	u := fleet.User{Username: n.Username, Email: n.Email}
	if err := free(ctx, tx, n); err != nil {
		return u, err
	}
	var err error
	if u.Actor, err = insertActor(ctx, tx, "user"); err != nil {
		return u, err
	}
	if err := tx.QueryRowContext(ctx, `
		INSERT INTO users (created_at, modified_at, actor, username, email, password_hash, jwt_secret, is_administrator)
		VALUES ($1, $1, $2, $3, $4, $5, $6, $7) RETURNING id`,
		now, u.Actor, n.Username, nullText(n.Email), n.PasswordHash, n.JWTSecret, n.Administrator).Scan(&u.ID); err != nil {
		return u, err
	}
	var organization int64
	if err := tx.QueryRowContext(ctx, `
		INSERT INTO organizations (created_at, modified_at, handle, name) VALUES ($1, $1, $2, $2) RETURNING id`,
		now, n.Username).Scan(&organization); err != nil {
		return u, err
	}
	if err := AddOwner(ctx, tx, u.ID, organization, now); err != nil {
		return u, err
	}
	itself := fleet.Actor{Kind: fleet.UserActor, Actor: u.Actor, ID: u.ID, Name: u.Username, Address: n.By.Address}
	by := n.By
	if by.Kind == fleet.Nobody && !n.Console {
		by = itself
	}
	details := map[string]any{"username": n.Username}
	if n.Administrator {
		details["is_administrator"] = true
	}
	if err := AddAudit(ctx, tx, Audit{Time: Time(now), Actor: by, Server: n.Console, Verb: "create", Resource: "user",
		Row: u.ID, Details: details}); err != nil {
		return u, err
	}
	if n.Invitation != "" {
		_, err = acceptInvite(ctx, tx, now, itself, n.Invitation)
	}
	return u, err
}

// nameTaken: a user or an organization is called $1. A user's name is the handle of an organization too, if not now then
// when there is one.
const nameTaken = `(EXISTS (SELECT 1 FROM users WHERE username = $1) OR EXISTS (SELECT 1 FROM organizations WHERE handle = $1))`

// free says in a person's words that a name or an email is taken.
func free(ctx context.Context, tx *sql.Tx, n NewUser) error {
	var name, email bool
	if err := tx.QueryRowContext(ctx, `SELECT `+nameTaken+`, EXISTS (SELECT 1 FROM users WHERE email = $2)`,
		n.Username, nullText(n.Email)).Scan(&name, &email); err != nil {
		return fmt.Errorf("look for %s: %w", n.Username, err)
	}
	switch {
	case email:
		return fault.New(fault.Conflict, "This email is already taken")
	case name:
		return fault.Newf(fault.Conflict, "the name %q is taken by a user or an organization", n.Username).WithHint("choose another user name")
	}
	return nil
}

// NameTaken reports whether a user or an organization has a name.
func (db *DB) NameTaken(ctx context.Context, name string) (taken bool, err error) {
	if err := db.reader.QueryRowContext(ctx, `SELECT `+nameTaken, name).Scan(&taken); err != nil {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	return taken, nil
}

const loginColumns = `SELECT id, actor, username, COALESCE(email, ''), is_administrator, password_hash, jwt_secret FROM users `

func scanLogin(row *sql.Row) (l Login, err error) {
	err = row.Scan(&l.ID, &l.Actor, &l.Username, &l.Email, &l.Administrator, &l.PasswordHash, &l.JWTSecret)
	if errors.Is(err, sql.ErrNoRows) {
		return Login{}, noUser()
	}
	if err != nil {
		return Login{}, fmt.Errorf("load user: %w", err)
	}
	return l, nil
}

func noUser() error { return fault.New(fault.NotFound, "there is no such user") }

// Login finds a user by user name or email, both in lower case. No user name has an @, so at most one has it.
func (db *DB) Login(ctx context.Context, name string) (Login, error) {
	return scanLogin(db.reader.QueryRowContext(ctx, loginColumns+`WHERE username = $1 OR email = $1`, name))
}

// LoginOf finds a user by id.
func (db *DB) LoginOf(ctx context.Context, user int64) (Login, error) {
	return scanLogin(db.reader.QueryRowContext(ctx, loginColumns+`WHERE id = $1`, user))
}

// placesKept are the places a user is remembered to have logged in from, the latest ones.
const placesKept = 16

// LoggedIn records that a user gave the right password, from a place; "" is nowhere in particular.
func (db *DB) LoggedIn(ctx context.Context, by fleet.Actor, place string) error {
	return db.Write(ctx, func(tx *sql.Tx) error {
		now := db.now()
		if place != "" {
			if _, err := tx.ExecContext(ctx, `
				INSERT INTO login_places (user_id, place, seen_at) VALUES ($1, $2, $3)
				ON CONFLICT (user_id, place) DO UPDATE SET seen_at = excluded.seen_at`, by.ID, place, now); err != nil {
				return fmt.Errorf("remember place of user %d: %w", by.ID, err)
			}
			if _, err := tx.ExecContext(ctx, `
				DELETE FROM login_places WHERE user_id = $1 AND place NOT IN (
					SELECT place FROM login_places WHERE user_id = $1 ORDER BY seen_at DESC, place LIMIT $2)`,
				by.ID, placesKept); err != nil {
				return fmt.Errorf("forget places of user %d: %w", by.ID, err)
			}
		}
		return AddAudit(ctx, tx, Audit{Time: Time(now), Actor: by, Verb: "login", Resource: "user", Row: by.ID})
	})
}

// KnowsPlace reports whether a user logged in from a place since a time.
func (db *DB) KnowsPlace(ctx context.Context, user int64, place string, since time.Time) (known bool, err error) {
	if err := db.reader.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM login_places WHERE user_id = $1 AND place = $2 AND seen_at > $3)`,
		user, place, since.UnixMicro()).Scan(&known); err != nil {
		return false, fmt.Errorf("look up places of user %d: %w", user, err)
	}
	return known, nil
}

// SetPassword gives a user another password and, by the new secret, ends every session. by is who did it; the zero
// Actor is who sits at the server's console.
func (db *DB) SetPassword(ctx context.Context, by fleet.Actor, user int64, hash, jwtSecret string) error {
	return db.Write(ctx, func(tx *sql.Tx) error {
		now := db.now()
		if err := touched(tx.ExecContext(ctx, `
			UPDATE users SET password_hash = $1, jwt_secret = $2, modified_at = $3 WHERE id = $4`,
			hash, jwtSecret, now, user)); err != nil {
			return fmt.Errorf("set password of user %d: %w", user, err)
		}
		return AddAudit(ctx, tx, Audit{Time: Time(now), Actor: by, Server: by.Kind == fleet.Nobody, Verb: "change",
			Resource: "user", Row: user, Details: map[string]any{"changed": []string{"password"}}})
	})
}

// Rehash keeps the same password as another hash, unless the password has changed since the old hash was read.
func (db *DB) Rehash(ctx context.Context, user int64, old, hash string) error {
	return db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3`, hash, user, old)
		if err != nil {
			return fmt.Errorf("rehash password of user %d: %w", user, err)
		}
		return nil
	})
}

// touched turns a change of no row into fault.NotFound.
func touched(done sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := done.RowsAffected()
	if err == nil && n == 0 {
		err = noUser()
	}
	return err
}

// Accounts are all users, in the order they came.
func (db *DB) Accounts(ctx context.Context) ([]Account, error) {
	rows, err := db.reader.QueryContext(ctx, `
		SELECT u.id, u.actor, u.username, COALESCE(u.email, ''), u.is_administrator, u.created_at,
			COALESCE((SELECT MAX(p.seen_at) FROM login_places p WHERE p.user_id = u.id), 0)
		FROM users u ORDER BY u.id`)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	all, err := collect(rows, func(rows *sql.Rows) (a Account, err error) {
		var created, last int64
		err = rows.Scan(&a.ID, &a.Actor, &a.Username, &a.Email, &a.Administrator, &created, &last)
		a.Created, a.LastLogin = Time(created), Time(last)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return all, nil
}

// SetAdministrator says whether a user may make accounts. The last one who may cannot lose it: that is
// fault.Conflict.
func (db *DB) SetAdministrator(ctx context.Context, by fleet.Actor, user int64, may bool) error {
	return db.Write(ctx, func(tx *sql.Tx) error {
		now := db.now()
		if !may {
			if err := notTheLast(ctx, tx, user); err != nil {
				return err
			}
		}
		if err := touched(tx.ExecContext(ctx, `UPDATE users SET is_administrator = $1, modified_at = $2 WHERE id = $3`,
			may, now, user)); err != nil {
			return fmt.Errorf("change user %d: %w", user, err)
		}
		return AddAudit(ctx, tx, Audit{Time: Time(now), Actor: by, Server: by.Kind == fleet.Nobody, Verb: "change",
			Resource: "user", Row: user, Details: map[string]any{"is_administrator": may}})
	})
}

// notTheLast refuses to do without the last administrator.
func notTheLast(ctx context.Context, tx *sql.Tx, user int64) error {
	var last bool
	if err := tx.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM users WHERE id = $1 AND is_administrator)
			AND NOT EXISTS (SELECT 1 FROM users WHERE id <> $1 AND is_administrator)`, user).Scan(&last); err != nil {
		return fmt.Errorf("look for administrators: %w", err)
	}
	if last {
		return fault.New(fault.Conflict, "this is the server's last administrator").WithHint("make another user administrator first")
	}
	return nil
}

// DeleteUser ends an account with its keys and memberships. An organization that would be left without an owner goes
// too if nothing is in it; one with fleets or other members is a fault.Conflict that names it. So is the last
// administrator.
func (db *DB) DeleteUser(ctx context.Context, by fleet.Actor, user int64) error {
	err := db.Write(ctx, func(tx *sql.Tx) error {
		if err := notTheLast(ctx, tx, user); err != nil {
			return err
		}
		empty, kept, err := orphans(ctx, tx, user)
		if err != nil {
			return err
		}
		if len(kept) > 0 {
			return fault.Newf(fault.Conflict, "the account is the only owner of %s", strings.Join(kept, ", ")).
				WithHint("make somebody else owner, or delete the organization with its fleets")
		}
		for _, o := range empty {
			if _, err := tx.ExecContext(ctx, `DELETE FROM organizations WHERE id = $1`, o); err != nil {
				return err
			}
		}
		var name string
		err = tx.QueryRowContext(ctx, `DELETE FROM users WHERE id = $1 RETURNING username`, user).Scan(&name)
		if errors.Is(err, sql.ErrNoRows) {
			return noUser()
		}
		if err != nil {
			return err
		}
		return AddAudit(ctx, tx, Audit{Time: Time(db.now()), Actor: by, Server: by.Kind == fleet.Nobody, Verb: "delete",
			Resource: "user", Row: user, Details: map[string]any{"username": name}})
	})
	if err != nil {
		return fmt.Errorf("delete user %d: %w", user, err)
	}
	return nil
}

// orphans are the organizations that have no owner but this user: those with nobody and nothing else in them, and
// the handles of the rest.
func orphans(ctx context.Context, tx *sql.Tx, user int64) (empty []int64, kept []string, err error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT o.id, o.handle, EXISTS (SELECT 1 FROM fleets f WHERE f.organization = o.id)
			OR EXISTS (SELECT 1 FROM organization_memberships x WHERE x.organization = o.id AND x.user_id <> $1)
		FROM organizations o JOIN organization_memberships m ON m.organization = o.id AND m.user_id = $1
		JOIN roles r ON r.id = m.role
		WHERE r.rank = $2 AND NOT EXISTS (
			SELECT 1 FROM organization_memberships x JOIN roles y ON y.id = x.role
			WHERE x.organization = o.id AND x.user_id <> $1 AND y.rank = $2)
		ORDER BY o.handle`, user, int64(fleet.Owner))
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var handle string
		var used bool
		if err := rows.Scan(&id, &handle, &used); err != nil {
			return nil, nil, err
		}
		if used {
			kept = append(kept, handle)
		} else {
			empty = append(empty, id)
		}
	}
	return empty, kept, rows.Err()
}
