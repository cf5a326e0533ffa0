package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Role is what a member may do (resource organization_membership_role). The names are owner, developer, operator and
// observer; balena's administrator and member are there too.
type Role struct {
	Row
	Name string `json:"name"`
}

// User is a person with an account (resource user), as fellow members see one.
type User struct {
	Row
	Username string `json:"username"`
}

// Member is a user in an organization (resource organization_membership).
type Member struct {
	Row
	CreatedAt    time.Time         `json:"created_at"`
	User         Ref[User]         `json:"user"`
	Organization Ref[Organization] `json:"is_member_of__organization"`
	Role         Ref[Role]         `json:"organization_membership_role"`
}

// Invite is somebody who was asked to join an organization and has not yet (resource
// invitee__is_invited_to__organization). Token is in the answer to whoever invites, and nowhere else.
type Invite struct {
	Row
	CreatedAt    time.Time         `json:"created_at"`
	Message      string            `json:"message"`
	Invitee      Ref[Invitee]      `json:"invitee"`
	Organization Ref[Organization] `json:"is_invited_to__organization"`
	Role         Ref[Role]         `json:"organization_membership_role"`
	Token        string            `json:"invitationToken"`
}

// Invitee is an address that was invited (resource invitee).
type Invitee struct {
	Row
	Email string `json:"email"`
}

// APIKey is a key that acts for somebody or something (resource api_key); the key itself is not in it.
type APIKey struct {
	Row
	CreatedAt   time.Time  `json:"created_at"`
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Expires     *time.Time `json:"expiry_date"` // nil for never
}

// AuditEvent is one thing that somebody did (resource audit).
type AuditEvent struct {
	Row
	CreatedAt time.Time       `json:"created_at"`
	Kind      string          `json:"actor_kind"` // user, device, application, nobody or server
	Who       string          `json:"actor_name"` // user name, device uuid or fleet slug
	Address   string          `json:"address"`    // IP address
	Verb      string          `json:"verb"`
	Resource  string          `json:"resource"`
	RowID     *int64          `json:"row_id"`
	Details   json.RawMessage `json:"details"`
}

// CreateOrganization makes an organization that the user owns. With handle "" the server makes one of the name. A
// taken handle is an *Error with status 409.
func (c *Client) CreateOrganization(ctx context.Context, name, handle string) (Organization, error) {
	body := map[string]any{"name": name}
	if handle != "" {
		body["handle"] = handle
	}
	return createRow[Organization](ctx, c, "organization", body)
}

// Roles lists the roles that a member of an organization can have, by name.
func (c *Client) Roles(ctx context.Context) ([]Role, error) {
	return Rows[Role](ctx, c, "organization_membership_role", Query{Select: []string{"id", "name"}, OrderBy: "name asc"})
}

// Members lists the members of an organization by user name.
func (c *Client) Members(ctx context.Context, organization int64) ([]Member, error) {
	return Rows[Member](ctx, c, "organization_membership", Query{
		Select: []string{"id", "created_at"}, Expand: []string{"user($select=id,username)", "organization_membership_role($select=id,name)"},
		Filter: Filter("is_member_of__organization eq ?", organization), OrderBy: "user/username asc",
	})
}

// AddMember makes a user a member of an organization. A user who is one already is an *Error with status 409.
func (c *Client) AddMember(ctx context.Context, organization int64, username string, role int64) error {
	return c.Create(ctx, "organization_membership", map[string]any{
		"username": username, "is_member_of__organization": organization, "organization_membership_role": role,
	}, nil)
}

// Invites lists those who were asked to join an organization and have not yet, oldest first.
func (c *Client) Invites(ctx context.Context, organization int64) ([]Invite, error) {
	return Rows[Invite](ctx, c, "invitee__is_invited_to__organization", Query{
		Select: []string{"id", "created_at", "message"},
		Expand: []string{"invitee($select=id,email)", "organization_membership_role($select=id,name)"},
		Filter: Filter("is_invited_to__organization eq ?", organization), OrderBy: "id asc",
	})
}

// Invite asks somebody to join an organization. Nothing is sent: the Token of the answer is for the inviter to hand on.
func (c *Client) Invite(ctx context.Context, organization int64, email string, role int64, message string) (Invite, error) {
	body := map[string]any{"is_invited_to__organization": organization, "invitee": email, "organization_membership_role": role}
	if message != "" {
		body["message"] = message
	}
	return createRow[Invite](ctx, c, "invitee__is_invited_to__organization", body)
}

// AcceptInvite joins the organization of an invitation.
func (c *Client) AcceptInvite(ctx context.Context, token string) error {
	return c.call(ctx, http.MethodPost, "/org/v1/invitation/"+url.PathEscape(token), "", nil, nil)
}

// APIKeys lists the keys of an actor, oldest first: a user's, a fleet's (its provisioning keys) or a device's.
func (c *Client) APIKeys(ctx context.Context, actor int64) ([]APIKey, error) {
	return Rows[APIKey](ctx, c, "api_key", Query{
		Select: []string{"id", "created_at", "name", "description", "expiry_date"},
		Filter: Filter("is_of__actor eq ?", actor), OrderBy: "id asc",
	})
}

// CreateAPIKey makes a key that can do what the user can. The server shows it this once, and wants a session whose
// user has given the password just now: otherwise it is an *Error with status 401 that says so.
func (c *Client) CreateAPIKey(ctx context.Context, name, description string, expires time.Time) (key string, err error) {
	body := map[string]any{"name": name, "expiryDate": nil}
	if description != "" {
		body["description"] = description
	}
	if !expires.IsZero() {
		body["expiryDate"] = expires.UTC().Format(isoMillis)
	}
	err = c.call(ctx, http.MethodPost, "/api-key/user/full", "", body, &key)
	return key, err
}

// Prove trades the client's session token and the user's password for a session with which keys can be made.
func (c *Client) Prove(ctx context.Context, password string) (token string, err error) {
	return c.token(ctx, http.MethodPost, "/user/v1/refresh-token", map[string]string{"password": password})
}

// FleetActor is the actor of a fleet: whose keys its provisioning keys are.
func (c *Client) FleetActor(ctx context.Context, fleet int64) (int64, error) {
	type row struct {
		Row
		Actor Ref[Row] `json:"actor"`
	}
	rows, err := Rows[row](ctx, c, Key("application", fleet), Query{Select: []string{"id", "actor"}})
	r, err := one(rows, err, "no such fleet")
	return r.Actor.ID, err
}

// Audit lists what was done where filter holds ("" for all the user may see), newest first.
func (c *Client) Audit(ctx context.Context, filter string, top int) ([]AuditEvent, error) {
	return Rows[AuditEvent](ctx, c, "audit", Query{Filter: filter, OrderBy: "id desc", Top: top})
}

// isoMillis is how times are written in bodies.
const isoMillis = "2006-01-02T15:04:05.000Z"
