package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// NewUser is what an account begins with.
type NewUser struct {
	Username     string
	Email        string // lower case; "" for none
	PasswordHash string
	JWTSecret    string // new sessions carry it; changing it ends them
}

// Login is a user with what proves that a person is that user.
type Login struct {
	fleet.User
	PasswordHash string // "" lets nobody in by password
	JWTSecret    string
}

// HasUsers reports whether there is any account.
func (db *DB) HasUsers(ctx context.Context) (bool, error) {
	var there bool
	if err := db.reader.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM users)`).Scan(&there); err != nil {
		return false, fmt.Errorf("look for users: %w", err)
	}
	return there, nil
}

// AddUser adds an account, an organization of the same name and the membership that joins them.
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
	var err error
	if u.Actor, err = insertActor(ctx, tx, "user"); err != nil {
		return u, err
	}
	if err := tx.QueryRowContext(ctx, `
		INSERT INTO users (created_at, modified_at, actor, username, email, password_hash, jwt_secret)
		VALUES ($1, $1, $2, $3, $4, $5, $6) RETURNING id`,
		now, u.Actor, n.Username, nullText(n.Email), n.PasswordHash, n.JWTSecret).Scan(&u.ID); err != nil {
		return u, err
	}
	var organization int64
	if err := tx.QueryRowContext(ctx, `
		INSERT INTO organizations (created_at, modified_at, handle, name) VALUES ($1, $1, $2, $2) RETURNING id`,
		now, n.Username).Scan(&organization); err != nil {
		return u, err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO organization_memberships (created_at, modified_at, user_id, organization) VALUES ($1, $1, $2, $3)`,
		now, u.ID, organization)
	return u, err
}

const loginColumns = `SELECT id, actor, username, COALESCE(email, ''), password_hash, jwt_secret FROM users `

func scanLogin(row *sql.Row) (l Login, err error) {
	err = row.Scan(&l.ID, &l.Actor, &l.Username, &l.Email, &l.PasswordHash, &l.JWTSecret)
	if errors.Is(err, sql.ErrNoRows) {
		return Login{}, fault.New(fault.NotFound, "there is no such user")
	}
	if err != nil {
		return Login{}, fmt.Errorf("load user: %w", err)
	}
	return l, nil
}

// Login finds a user by user name or email, both in lower case. No user name has an @, so at most one has it.
func (db *DB) Login(ctx context.Context, name string) (Login, error) {
	return scanLogin(db.reader.QueryRowContext(ctx, loginColumns+`WHERE username = $1 OR email = $1`, name))
}

// LoginOf finds a user by id.
func (db *DB) LoginOf(ctx context.Context, user int64) (Login, error) {
	return scanLogin(db.reader.QueryRowContext(ctx, loginColumns+`WHERE id = $1`, user))
}

// SetPassword gives a user another password and, by the new secret, ends every session.
func (db *DB) SetPassword(ctx context.Context, user int64, hash, jwtSecret string) error {
	return db.Write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `
			UPDATE users SET password_hash = $1, jwt_secret = $2, modified_at = $3 WHERE id = $4`,
			hash, jwtSecret, db.now(), user)
		if err != nil {
			return fmt.Errorf("set password of user %d: %w", user, err)
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, fault.New(fault.NotFound, "there is no such user"))
		}
		return nil
	})
}
