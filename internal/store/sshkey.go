package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// NewSSHKey is a public key to add.
type NewSSHKey struct {
	User        int64
	Title       string
	PublicKey   string // authorized_keys form, without options
	Fingerprint string // SHA256:…
}

// AddSSHKey lets a user in by one more SSH key and returns its id. A key opens one account only: one that any
// user has already is fault.Conflict.
func (db *DB) AddSSHKey(ctx context.Context, n NewSSHKey) (id int64, err error) {
	err = db.Write(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `
			INSERT INTO ssh_keys (created_at, modified_at, user_id, title, public_key, fingerprint)
			VALUES ($1, $1, $2, $3, $4, $5) RETURNING id`,
			db.now(), n.User, n.Title, n.PublicKey, n.Fingerprint).Scan(&id)
	})
	if err != nil {
		return 0, fmt.Errorf("add SSH key %s: %w", n.Fingerprint, err)
	}
	return id, nil
}

// SSHKeyActor is the user whose SSH key has this fingerprint.
func (db *DB) SSHKeyActor(ctx context.Context, fingerprint string) (fleet.Actor, error) {
	a := fleet.Actor{Kind: fleet.UserActor}
	err := db.reader.QueryRowContext(ctx, `
		SELECT u.actor, u.id, u.username, u.is_administrator FROM ssh_keys k JOIN users u ON u.id = k.user_id
		WHERE k.fingerprint = $1`, fingerprint).Scan(&a.Actor, &a.ID, &a.Name, &a.Administrator)
	if errors.Is(err, sql.ErrNoRows) {
		return fleet.Actor{}, fault.New(fault.NotFound, "nobody has this SSH key")
	}
	if err != nil {
		return fleet.Actor{}, fmt.Errorf("look up SSH key: %w", err)
	}
	return a, nil
}
