package client

import (
	"context"
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
