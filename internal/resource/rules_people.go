package resource

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"net/mail"
	"regexp"
	"strings"
	"unicode"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/store"
)

// describeKey is the rule of what may be said of an API key (protocol §6.5, limits).
func describeKey(ctx context.Context, w *change) error {
	// A key to an account that was to end does not make itself, or another one of the account, last.
	if _, lasts := w.body["expiry_date"]; lasts && w.actor.Key != 0 {
		for list := range lists(w.ids) {
			own, err := column[int64](w.tx.QueryContext(ctx, `SELECT t.id FROM api_keys t WHERE t.id IN `+list+` AND t.actor = $1`, w.actor.Actor))
			if err != nil {
				return err
			}
			if len(own) > 0 {
				return fault.New(fault.Denied, "an API key cannot say when keys of its own account expire").WithHint("log in with the password first")
			}
		}
	}
	name, named := w.body["name"].(string)
	if named && strings.TrimSpace(name) == "" {
		return fault.New(fault.Invalid, "an API key's name cannot be empty")
	}
	if len(name) > 50 || len(w.text("description")) > 150 {
		return fault.New(fault.Invalid, "an API key's name has at most 50 bytes, its description at most 150")
	}
	return nil
}

// addSSHKey is the rule of SSH keys: a user adds them for himself, and no key belongs to two.
func addSSHKey(ctx context.Context, w *change) error {
	if w.verb != create {
		return nil
	}
	if _, ok := w.body["user"]; !ok {
		w.body["user"] = w.actor.ID
	}
	title := strings.TrimSpace(w.text("title"))
	if title == "" || len(title) > 255 {
		return fault.New(fault.Invalid, "an SSH key's title has 1 to 255 bytes")
	}
	if w.SSHFingerprint == nil {
		return fault.New(fault.Unavailable, "this server takes no SSH keys")
	}
	key, fingerprint, err := w.SSHFingerprint(w.text("public_key"))
	if err != nil {
		return err
	}
	taken, err := store.SSHKeyTaken(ctx, w.tx, fingerprint)
	if err != nil {
		return err
	}
	if taken {
		return fault.New(fault.Conflict, `"public_key" must be unique.`).WithHint("the key is known to this server already; use another one")
	}
	w.body["title"], w.body["public_key"] = title, key
	w.columns["fingerprint"] = fingerprint
	return nil
}

// checkName is the rule of what people name.
func checkName(_ context.Context, w *change) error {
	name, ok := w.body["name"].(string)
	if !ok {
		return nil
	}
	name = strings.TrimSpace(name)
	if name == "" || len(name) > 100 || strings.ContainsFunc(name, unicode.IsControl) {
		return fault.New(fault.Invalid, "a name has 1 to 100 bytes and no line breaks")
	}
	w.body["name"] = name
	return nil
}

var (
	handle   = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9_-]{0,98}[a-z0-9])?$`)
	noHandle = regexp.MustCompile(`[^a-z0-9]+`)
)

// editOrganization is the rule of organizations before they are written: each has a handle that begins the slugs of
// its fleets.
func editOrganization(ctx context.Context, w *change) error {
	if w.verb == remove {
		for list := range lists(w.ids) {
			fleets, err := column[string](w.tx.QueryContext(ctx, `SELECT f.slug FROM fleets f WHERE f.organization IN `+list+` ORDER BY f.slug LIMIT 100`))
			if err != nil {
				return err
			}
			if len(fleets) > 0 {
				w.details["fleets"] = fleets
			}
		}
		return nil
	}
	if err := checkName(ctx, w); err != nil {
		return err
	}
	given, ok := w.body["handle"].(string)
	switch {
	case ok:
		given = strings.ToLower(given)
		if !handle.MatchString(given) {
			return fault.Newf(fault.Invalid, "%q cannot be an organization's handle", given).
				WithHint("use 1 to 100 lower-case letters, digits, dashes and underscores, and none of the latter two first or last")
		}
		w.body["handle"] = given
	case w.verb == create:
		made := strings.Trim(noHandle.ReplaceAllString(strings.ToLower(w.text("name")), "_"), "_")
		if made = strings.TrimRight(made[:min(len(made), 90)], "_"); made == "" {
			made = "organization"
		}
		free, err := store.FreeHandle(ctx, w.tx, made)
		if err != nil {
			return err
		}
		w.body["handle"] = free
	}
	return nil
}

// ownOrganization is the rule of organizations after they are written: whoever makes one owns it, and its fleets go by
// its handle.
func ownOrganization(ctx context.Context, w *change) error {
	_, renamed := w.body["handle"]
	for _, id := range w.ids {
		switch {
		case w.verb == create:
			if err := store.AddOwner(ctx, w.tx, w.actor.ID, id, w.now); err != nil {
				return err
			}
		case w.verb == update && renamed:
			fleets, err := store.RenameFleets(ctx, w.tx, id, w.now)
			if err != nil {
				return err
			}
			for _, f := range fleets {
				w.touched.add(f, 0)
			}
		}
	}
	return nil
}

// member finds the user that a body names, by number or by name, and puts him in. One the actor may not see and one
// that is not there are answered alike.
func (w *change) member(ctx context.Context) (int64, error) {
	name, named := w.body["username"].(string)
	delete(w.body, "username")
	id, ok := w.body["user"].(int64)
	if ok == named {
		return 0, fault.Newf(fault.Invalid, "%s needs user or username, one of the two", w.res.name)
	}
	if ok {
		return id, nil // references has looked
	}
	users, err := w.schema.find("user")
	if err != nil {
		return 0, err
	}
	c := w.compiler(w.actor)
	rule, err := c.rule(users, "t", read, nil)
	if err != nil {
		return 0, err
	}
	err = w.tx.QueryRowContext(ctx, `SELECT t.id FROM users t WHERE t.username = `+c.arg(strings.ToLower(name))+` AND `+rule, c.args...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fault.Newf(fault.NotFound, "there is no user %q that you may add", name).
			WithHint("invite somebody who is in none of your organizations")
	}
	if err != nil {
		return 0, err
	}
	w.body["user"] = id
	return id, nil
}

// role puts in a role if the body names none.
func (w *change) role(ctx context.Context, field, otherwise string) (err error) {
	if _, ok := w.body[field]; !ok {
		w.body[field], err = store.Role(ctx, w.tx, otherwise)
	}
	return err
}

// editMembership is the rule of an organization's members before they are written.
func editMembership(ctx context.Context, w *change) error {
	w.kept = w.verb == update // an owner may step back
	switch w.verb {
	case create:
		if _, err := w.member(ctx); err != nil {
			return err
		}
		return w.role(ctx, "organization_membership_role", "member")
	case remove:
		for _, id := range w.ids {
			if err := store.ForgetMember(ctx, w.tx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepOwner is the rule of an organization's members after they are written: one of them owns it.
func keepOwner(ctx context.Context, w *change) error {
	for _, at := range w.places.all {
		owned, err := store.Owned(ctx, w.tx, at.organization)
		if err != nil {
			return err
		}
		if !owned {
			return fault.New(fault.Conflict, "an organization keeps at least one owner").
				WithHint("make another member owner first, or delete the organization")
		}
	}
	return nil
}

// joins is an error if a user is not a member of the organization whose thing he is to have.
func (w *change) joins(ctx context.Context, user, organization int64) error {
	there, err := store.InOrganization(ctx, w.tx, user, organization)
	if err == nil && !there {
		err = fault.New(fault.Invalid, "only a member of the organization can be added").WithHint("add or invite him to the organization first")
	}
	return err
}

// addFleetMember is the rule of who has a role in one fleet.
func addFleetMember(ctx context.Context, w *change) error {
	if w.verb != create {
		return nil
	}
	user, err := w.member(ctx)
	if err != nil {
		return err
	}
	id, _ := w.id("is_member_of__application")
	f, err := store.FleetIn(ctx, w.tx, id)
	if err != nil {
		return err
	}
	if err := w.joins(ctx, user, f.Organization); err != nil {
		return err
	}
	return w.role(ctx, "application_membership_role", "developer")
}

// addTeamMember is the rule of who is in a team.
func addTeamMember(ctx context.Context, w *change) error {
	if w.verb != create {
		return nil
	}
	user, err := w.member(ctx)
	if err != nil {
		return err
	}
	team, _ := w.id("is_member_of__team")
	organization, err := store.OrganizationOfTeam(ctx, w.tx, team)
	if err != nil {
		return err
	}
	return w.joins(ctx, user, organization)
}

// addTeamFleet is the rule of what fleets a team may use: its organization's.
func addTeamFleet(ctx context.Context, w *change) error {
	if w.verb != create {
		return nil
	}
	team, _ := w.id("team")
	organization, err := store.OrganizationOfTeam(ctx, w.tx, team)
	if err != nil {
		return err
	}
	id, _ := w.id("grants_access_to__application")
	f, err := store.FleetIn(ctx, w.tx, id)
	if err != nil {
		return err
	}
	if f.Organization != organization {
		return fault.New(fault.Invalid, "the fleet and the team are of two organizations")
	}
	return nil
}

// inviteToOrganization is the rule of invitations to an organization.
func inviteToOrganization(ctx context.Context, w *change) error {
	if w.verb != create {
		return nil
	}
	organization, _ := w.id("is_invited_to__organization")
	if err := w.invite(ctx, organization); err != nil {
		return err
	}
	return w.role(ctx, "organization_membership_role", "member")
}

// inviteToFleet is the rule of invitations to one fleet.
func inviteToFleet(ctx context.Context, w *change) error {
	if w.verb != create {
		return nil
	}
	id, _ := w.id("is_invited_to__application")
	f, err := store.FleetIn(ctx, w.tx, id)
	if err != nil {
		return err
	}
	if err := w.invite(ctx, f.Organization); err != nil {
		return err
	}
	return w.role(ctx, "application_membership_role", "developer")
}

// invite makes the token of an invitation. Only its hash is kept: the inviter has it from the answer.
func (w *change) invite(ctx context.Context, organization int64) error {
	email := strings.ToLower(strings.TrimSpace(w.text("invitee")))
	if parsed, err := mail.ParseAddress(email); err != nil || parsed.Address != email || len(email) > 254 {
		return fault.Newf(fault.Invalid, "%q is not an email address", email)
	}
	if len(w.text("message")) > 10_000 {
		return fault.New(fault.TooLarge, "the message is over 10000 bytes")
	}
	invitee, err := store.Invitee(ctx, w.tx, organization, email, w.now)
	if err != nil {
		return err
	}
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	token := hex.EncodeToString(random[:])
	hash := sha256.Sum256([]byte(token))
	w.body["invitee"] = invitee
	w.columns["token_hash"], w.columns["created_by"] = hex.EncodeToString(hash[:]), w.actor.ID
	w.answer = map[string]string{"invitationToken": token}
	return nil
}

// forgetInvitees is the rule of invitations after they are revoked.
func forgetInvitees(ctx context.Context, w *change) error {
	if w.verb != remove {
		return nil
	}
	done := map[int64]bool{}
	for _, at := range w.places.all {
		if done[at.organization] {
			continue
		}
		done[at.organization] = true
		if err := store.ForgetInvitees(ctx, w.tx, at.organization); err != nil {
			return err
		}
	}
	return nil
}
