package client

import (
	"context"
	"net/http"
	"time"
)

// APIKey is a key that acts for somebody or something (resource api_key); the key itself is not in it.
type APIKey struct {
	Row
	CreatedAt   time.Time  `json:"created_at"`
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Expires     *time.Time `json:"expiry_date"` // nil for never
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
