package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dunlin/dunlin/internal/fleet"
)

// Audit is one thing that somebody did, for the trail.
type Audit struct {
	Time     time.Time   // the zero time is now
	Actor    fleet.Actor // who, by which key and from where; the zero Actor is nobody who was known
	Server   bool        // instead of an actor: the server by itself, or who sits at its console
	Verb     string      // create, change, delete, login, refuse, push, …
	Resource string      // by its v7 name
	Row      int64       // of the resource; 0 for none in particular
	// Organization and Fleet are whose it was; 0 for none. The owners of the organization read it.
	Organization, Fleet int64
	// Details say what was written, in a JSON object. No password, key, token, nor the value of a variable is for here.
	Details map[string]any
}

// AddAudit puts a row on the trail, in the transaction of what it tells of: both are there, or neither.
func AddAudit(ctx context.Context, tx *sql.Tx, a Audit) error {
	if a.Time.IsZero() {
		a.Time = time.Now()
	}
	kind := a.Actor.Kind.String()
	if a.Server {
		kind = "server"
	}
	details := []byte(`{}`)
	if len(a.Details) > 0 {
		var err error
		if details, err = json.Marshal(a.Details); err != nil {
			return fmt.Errorf("audit %s of %s: %w", a.Verb, a.Resource, err)
		}
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO audit_events (created_at, modified_at, actor, actor_kind, actor_name, api_key, address,
			verb, resource, row_id, organization, fleet, details)
		VALUES ($1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		a.Time.UnixMicro(), nullInt(a.Actor.Actor), kind, a.Actor.Name, nullInt(a.Actor.Key), a.Actor.Address,
		a.Verb, a.Resource, nullInt(a.Row), nullInt(a.Organization), nullInt(a.Fleet), string(details))
	if err != nil {
		return fmt.Errorf("audit %s of %s: %w", a.Verb, a.Resource, err)
	}
	return nil
}

// Audit puts a row on the trail of something that is no change of a row: a login, a push, an upload.
func (db *DB) Audit(ctx context.Context, a Audit) error {
	if a.Time.IsZero() {
		a.Time = Time(db.now())
	}
	return db.Write(ctx, func(tx *sql.Tx) error { return AddAudit(ctx, tx, a) })
}
