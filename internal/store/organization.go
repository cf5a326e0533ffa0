package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"

	"github.com/dunlin/dunlin/internal/fleet"
)

// What a change of people and their organizations needs beyond its own row, inside the transaction of that change.

// FreeHandle is wanted, or with a number after it if an organization or a user has that name.
func FreeHandle(ctx context.Context, tx *sql.Tx, wanted string) (string, error) {
	handle := wanted
	for n := 2; ; n++ {
		var taken bool
		if err := tx.QueryRowContext(ctx, `SELECT `+nameTaken, handle).Scan(&taken); err != nil {
			return "", fmt.Errorf("look for handle %s: %w", handle, err)
		}
		if !taken {
			return handle, nil
		}
		handle = wanted + "_" + strconv.Itoa(n)
	}
}

// RenameFleets gives the fleets of an organization the slugs that its handle makes, and returns them.
func RenameFleets(ctx context.Context, tx *sql.Tx, organization, now int64) ([]int64, error) {
	fleets, err := column[int64](tx.QueryContext(ctx, `
		UPDATE fleets SET modified_at = $1, slug = (SELECT o.handle FROM organizations o WHERE o.id = $2) || '/' || lower(name)
		WHERE organization = $2 RETURNING id`, now, organization))
	if err != nil {
		return nil, fmt.Errorf("rename fleets of organization %d: %w", organization, err)
	}
	return fleets, nil
}

// AddOwner makes a user the owner of an organization that has none yet.
func AddOwner(ctx context.Context, tx *sql.Tx, user, organization, now int64) error {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO organization_memberships (created_at, modified_at, user_id, organization, role)
		SELECT $1, $1, $2, $3, id FROM roles WHERE name = 'owner'`, now, user, organization); err != nil {
		return fmt.Errorf("add owner of organization %d: %w", organization, err)
	}
	return nil
}

// Owned reports whether an organization has an owner.
func Owned(ctx context.Context, tx *sql.Tx, organization int64) (owned bool, err error) {
	err = tx.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM organization_memberships m JOIN roles r ON r.id = m.role
		WHERE m.organization = $1 AND r.rank >= $2)`, organization, int64(fleet.Owner)).Scan(&owned)
	if err != nil {
		return false, fmt.Errorf("look for owners of organization %d: %w", organization, err)
	}
	return owned, nil
}

// InOrganization reports whether a user is a member of an organization.
func InOrganization(ctx context.Context, tx *sql.Tx, user, organization int64) (member bool, err error) {
	err = tx.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM organization_memberships WHERE user_id = $1 AND organization = $2)`,
		user, organization).Scan(&member)
	if err != nil {
		return false, fmt.Errorf("look up membership of user %d: %w", user, err)
	}
	return member, nil
}

// OrganizationOfTeam is whose a team is.
func OrganizationOfTeam(ctx context.Context, tx *sql.Tx, team int64) (organization int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT organization FROM teams WHERE id = $1`, team).Scan(&organization)
	return organization, missing(err, "team", team)
}

// ForgetMember ends what somebody who leaves an organization has there by membership: teams and single fleets.
func ForgetMember(ctx context.Context, tx *sql.Tx, membership int64) error {
	for _, statement := range []string{
		`DELETE FROM team_memberships WHERE user_id = (SELECT m.user_id FROM organization_memberships m WHERE m.id = $1)
			AND team IN (SELECT t.id FROM teams t JOIN organization_memberships m ON m.organization = t.organization WHERE m.id = $1)`,
		`DELETE FROM fleet_memberships WHERE user_id = (SELECT m.user_id FROM organization_memberships m WHERE m.id = $1)
			AND fleet IN (SELECT f.id FROM fleets f JOIN organization_memberships m ON m.organization = f.organization WHERE m.id = $1)`,
	} {
		if _, err := tx.ExecContext(ctx, statement, membership); err != nil {
			return fmt.Errorf("end membership %d: %w", membership, err)
		}
	}
	return nil
}

// Role is the id of a role by its name.
func Role(ctx context.Context, tx *sql.Tx, name string) (id int64, err error) {
	if err := tx.QueryRowContext(ctx, `SELECT id FROM roles WHERE name = $1`, name).Scan(&id); err != nil {
		return 0, fmt.Errorf("find role %s: %w", name, err)
	}
	return id, nil
}

// Invitee is the row of whoever an organization invites by an email, in lower case. Invitations of theirs that are no
// longer good are gone afterwards.
func Invitee(ctx context.Context, tx *sql.Tx, organization int64, email string, now int64) (id int64, err error) {
	if err := tx.QueryRowContext(ctx, `
		INSERT INTO invitees (created_at, modified_at, organization, email) VALUES ($1, $1, $2, $3)
		ON CONFLICT (organization, email) DO UPDATE SET modified_at = excluded.modified_at RETURNING id`,
		now, organization, email).Scan(&id); err != nil {
		return 0, fmt.Errorf("add invitee: %w", err)
	}
	for _, table := range []string{"organization_invites", "fleet_invites"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE invitee = $1 AND created_at <= $2`,
			id, now-InviteLife.Microseconds()); err != nil {
			return 0, fmt.Errorf("forget old invitations: %w", err)
		}
	}
	return id, nil
}

// ForgetInvitees removes those of an organization that no invitation is for any more.
func ForgetInvitees(ctx context.Context, tx *sql.Tx, organization int64) error {
	if _, err := tx.ExecContext(ctx, `
		DELETE FROM invitees WHERE organization = $1
			AND NOT EXISTS (SELECT 1 FROM organization_invites v WHERE v.invitee = invitees.id)
			AND NOT EXISTS (SELECT 1 FROM fleet_invites v WHERE v.invitee = invitees.id)`, organization); err != nil {
		return fmt.Errorf("forget invitees of organization %d: %w", organization, err)
	}
	return nil
}
