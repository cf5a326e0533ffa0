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

// InviteLife is how long an invitation is good.
const InviteLife = 14 * 24 * time.Hour

// Invitation is what its token is for.
type Invitation struct {
	ID           int64
	Organization int64 // invited to, or whose fleet it is
	Fleet        int64 // 0: to the organization
	Name         string
	Role         string
	Email        string // of whoever was invited
	Message      string
	Created      time.Time

	role int64
}

// Resource is where invitations of its kind are in the public model.
func (i Invitation) Resource() string {
	if i.Fleet != 0 {
		return "invitee__is_invited_to__application"
	}
	return "invitee__is_invited_to__organization"
}

// An invitation of either kind, by the hash of its token and the time after which it was made.
const inviteQuery = `
	SELECT v.id, o.id, 0, o.handle, r.name, e.email, COALESCE(v.message, ''), v.created_at, v.role
	FROM organization_invites v JOIN organizations o ON o.id = v.organization JOIN roles r ON r.id = v.role
	JOIN invitees e ON e.id = v.invitee WHERE v.token_hash = $1 AND v.created_at > $2
	UNION ALL
	SELECT v.id, f.organization, f.id, f.slug, r.name, e.email, COALESCE(v.message, ''), v.created_at, v.role
	FROM fleet_invites v JOIN fleets f ON f.id = v.fleet JOIN roles r ON r.id = v.role
	JOIN invitees e ON e.id = v.invitee WHERE v.token_hash = $1 AND v.created_at > $2`

func scanInvite(row *sql.Row) (i Invitation, err error) {
	var created int64
	err = row.Scan(&i.ID, &i.Organization, &i.Fleet, &i.Name, &i.Role, &i.Email, &i.Message, &created, &i.role)
	if errors.Is(err, sql.ErrNoRows) {
		return Invitation{}, fault.New(fault.NotFound, "there is no such invitation").
			WithHint("it may be used, revoked or older than 14 days; ask for another one")
	}
	if err != nil {
		return Invitation{}, fmt.Errorf("load invitation: %w", err)
	}
	i.Created = Time(created)
	return i, nil
}

// Invitation is the one whose token has this hash.
func (db *DB) Invitation(ctx context.Context, tokenHash string) (Invitation, error) {
	return scanInvite(db.reader.QueryRowContext(ctx, inviteQuery, tokenHash, db.now()-InviteLife.Microseconds()))
}

// AcceptInvite makes a user a member by an invitation, which is used up. The token alone decides, not the address it
// was sent to. A role the user has there already is raised, never lowered.
func (db *DB) AcceptInvite(ctx context.Context, user fleet.Actor, tokenHash string) (i Invitation, err error) {
	err = db.Write(ctx, func(tx *sql.Tx) error {
		i, err = acceptInvite(ctx, tx, db.now(), user, tokenHash)
		return err
	})
	return i, err
}

// DeclineInvite uses an invitation up without making anybody a member.
func (db *DB) DeclineInvite(ctx context.Context, user fleet.Actor, tokenHash string) error {
	return db.Write(ctx, func(tx *sql.Tx) error {
		now := db.now()
		i, err := takeInvite(ctx, tx, now, tokenHash)
		if err != nil {
			return err
		}
		return AddAudit(ctx, tx, Audit{Time: Time(now), Actor: user, Verb: "decline", Resource: i.Resource(), Row: i.ID,
			Organization: i.Organization, Fleet: i.Fleet, Details: map[string]any{"role": i.Role}})
	})
}

func acceptInvite(ctx context.Context, tx *sql.Tx, now int64, user fleet.Actor, tokenHash string) (Invitation, error) {
	i, err := takeInvite(ctx, tx, now, tokenHash)
	if err != nil {
		return i, err
	}
	table, column, of := "organization_memberships", "organization", i.Organization
	if i.Fleet != 0 {
		table, column, of = "fleet_memberships", "fleet", i.Fleet
	}
	// Who has a role in a fleet is a member of its organization, if of the lowest rank.
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO organization_memberships (created_at, modified_at, user_id, organization, role)
		SELECT $1, $1, $2, $3, id FROM roles WHERE name = 'member'
		ON CONFLICT (user_id, organization) DO NOTHING`, now, user.ID, i.Organization); err != nil {
		return i, fmt.Errorf("accept invitation: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO `+table+` (created_at, modified_at, user_id, `+column+`, role) VALUES ($1, $1, $2, $3, $4)
		ON CONFLICT (user_id, `+column+`) DO UPDATE SET role = excluded.role, modified_at = excluded.modified_at
		WHERE (SELECT n.rank FROM roles n WHERE n.id = excluded.role) > (SELECT o.rank FROM roles o WHERE o.id = `+table+`.role)`,
		now, user.ID, of, i.role); err != nil {
		return i, fmt.Errorf("accept invitation: %w", err)
	}
	return i, AddAudit(ctx, tx, Audit{Time: Time(now), Actor: user, Verb: "accept", Resource: i.Resource(), Row: i.ID,
		Organization: i.Organization, Fleet: i.Fleet, Details: map[string]any{"role": i.Role}})
}

// takeInvite uses an invitation up, and forgets the address it was for if no other one is for it.
func takeInvite(ctx context.Context, tx *sql.Tx, now int64, tokenHash string) (Invitation, error) {
	i, err := scanInvite(tx.QueryRowContext(ctx, inviteQuery, tokenHash, now-InviteLife.Microseconds()))
	if err != nil {
		return i, err
	}
	table := "organization_invites"
	if i.Fleet != 0 {
		table = "fleet_invites"
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE id = $1`, i.ID); err != nil {
		return i, fmt.Errorf("use up invitation: %w", err)
	}
	return i, ForgetInvitees(ctx, tx, i.Organization)
}
