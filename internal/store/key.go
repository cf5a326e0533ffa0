package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// NewKey is an API key to add; the key itself never comes here.
type NewKey struct {
	Actor             int64
	Role              string // a fleet.Role
	Hash              string // hex SHA-256 of the key
	Name, Description string
	Expiry            time.Time // zero for never
	By                fleet.Actor
}

// roleKind is the kind of actor that may hold a key of a role.
var roleKind = map[string]string{
	fleet.RoleProvisioning: "application",
	fleet.RoleDevice:       "device",
	fleet.RoleUser:         "user",
	fleet.RoleNamedUser:    "user",
}

// expiredKept is how long a key that has expired is still shown. Tools make a short-lived one for every device they
// register, and nobody removes those.
const expiredKept = 30 * 24 * time.Hour

// AddKey adds an API key and returns its id. A role that an actor of that kind cannot hold is fault.Invalid, a key
// that is there already fault.Conflict.
func (db *DB) AddKey(ctx context.Context, n NewKey) (id int64, err error) {
	kind, ok := roleKind[n.Role]
	if !ok {
		return 0, fault.Newf(fault.Invalid, "there is no API key role %q", n.Role)
	}
	err = db.Write(ctx, func(tx *sql.Tx) error {
		now := db.now()
		if _, err := tx.ExecContext(ctx, `DELETE FROM api_keys WHERE actor = $1 AND expiry_date < $2`,
			n.Actor, now-expiredKept.Microseconds()); err != nil {
			return err
		}
		err := tx.QueryRowContext(ctx, `
			INSERT INTO api_keys (created_at, modified_at, actor, key_hash, role, name, description, expiry_date)
			SELECT $1, $1, id, $3, $4, $5, $6, $7 FROM actors WHERE id = $2 AND kind = $8 RETURNING id`,
			now, n.Actor, n.Hash, n.Role, nullText(n.Name), nullText(n.Description), nullInt(Micros(n.Expiry)),
			kind).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.Newf(fault.Invalid, "a %s is for one %s, and this is none", n.Role, kind)
		}
		if err != nil {
			return err
		}
		a := Audit{Time: Time(now), Actor: n.By, Server: n.By.Kind == fleet.Nobody, Verb: "create", Resource: "api_key",
			Row: id, Details: map[string]any{"role": n.Role, "name": n.Name}}
		if !n.Expiry.IsZero() {
			a.Details["expiry_date"] = n.Expiry.UTC()
		}
		if err := tx.QueryRowContext(ctx, `
			SELECT COALESCE(f.organization, 0), COALESCE(f.id, 0) FROM actors a LEFT JOIN devices d ON d.actor = a.id
			LEFT JOIN fleets f ON f.actor = a.id OR f.id = d.fleet WHERE a.id = $1`,
			n.Actor).Scan(&a.Organization, &a.Fleet); err != nil {
			return err
		}
		return AddAudit(ctx, tx, a)
	})
	if err != nil {
		return 0, fmt.Errorf("add API key: %w", err)
	}
	return id, nil
}

// KeyActor is who holds the key of this hash at a time. A key that is unknown or expired, or whose user, device or
// fleet is gone, is fault.NotFound.
func (db *DB) KeyActor(ctx context.Context, hash string, now time.Time) (fleet.Actor, error) {
	a := fleet.Actor{}
	var kind string
	err := db.reader.QueryRowContext(ctx, `
		SELECT k.id, k.actor, a.kind, COALESCE(u.id, d.id, f.id), COALESCE(d.fleet, f.id, 0),
			COALESCE(u.username, d.uuid, f.slug), COALESCE(u.is_administrator, FALSE)
		FROM api_keys k JOIN actors a ON a.id = k.actor
		LEFT JOIN users u ON a.kind = 'user' AND u.actor = a.id
		LEFT JOIN devices d ON a.kind = 'device' AND d.actor = a.id
		LEFT JOIN fleets f ON a.kind = 'application' AND f.actor = a.id
		WHERE k.key_hash = $1 AND (k.expiry_date IS NULL OR k.expiry_date > $2)
			AND COALESCE(u.id, d.id, f.id) IS NOT NULL`,
		hash, now.UnixMicro()).Scan(&a.Key, &a.Actor, &kind, &a.ID, &a.Fleet, &a.Name, &a.Administrator)
	if errors.Is(err, sql.ErrNoRows) {
		return fleet.Actor{}, fault.New(fault.NotFound, "there is no such API key")
	}
	if err != nil {
		return fleet.Actor{}, fmt.Errorf("look up API key: %w", err)
	}
	switch kind {
	case "user":
		a.Kind = fleet.UserActor
	case "device":
		a.Kind = fleet.DeviceActor
	case "application":
		a.Kind = fleet.FleetActor
	}
	return a, nil
}

// KeyStands reports whether an API key is there and has not expired.
func (db *DB) KeyStands(ctx context.Context, key int64, now time.Time) (stands bool, err error) {
	if err := db.reader.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM api_keys WHERE id = $1 AND (expiry_date IS NULL OR expiry_date > $2))`,
		key, now.UnixMicro()).Scan(&stands); err != nil {
		return false, fmt.Errorf("look up API key: %w", err)
	}
	return stands, nil
}
