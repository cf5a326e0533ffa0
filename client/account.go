package client

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Actor is who a token speaks for.
type Actor struct {
	ID       int64  `json:"id"`
	Type     string `json:"actorType"`   // user, application or device
	TypeID   int64  `json:"actorTypeId"` // id of the user, the fleet or the device
	Username string `json:"username,omitempty"`
	Email    string `json:"email,omitempty"`
	Slug     string `json:"slug,omitempty"`
	UUID     string `json:"uuid,omitempty"`
}

// Info is what a server says of itself to anyone.
type Info struct {
	Deployment   string `json:"deployment"`
	GitServerURL string `json:"gitServerUrl"` // ssh://git@HOST:PORT
	APIURL       string `json:"apiUrl"`
}

// Login trades a user name, or e-mail address, and a password for a session token. A wrong pair is an *Error with
// status 401.
func (c *Client) Login(ctx context.Context, user, password string) (token string, err error) {
	return c.token(ctx, http.MethodPost, "/login_", map[string]string{"username": user, "password": password})
}

// Refresh trades the client's session token for a younger one. API keys cannot be refreshed.
func (c *Client) Refresh(ctx context.Context) (token string, err error) {
	return c.token(ctx, http.MethodGet, "/user/v1/refresh-token", nil)
}

func (c *Client) token(ctx context.Context, method, path string, body any) (string, error) {
	var token text
	if err := c.call(ctx, method, path, "", body, &token); err != nil {
		return "", err
	}
	// What is no token, a web page say, does not go into a header.
	if token == "" || len(token) > 8<<10 || strings.ContainsFunc(string(token), func(r rune) bool { return r <= ' ' || r > '~' || r == '<' }) {
		return "", fmt.Errorf("%s did not answer with a token, as a Dunlin server does", c.URL)
	}
	return string(token), nil
}

// Whoami asks who the client's token speaks for. Status 401 means that it speaks for nobody.
func (c *Client) Whoami(ctx context.Context) (a Actor, err error) {
	err = c.call(ctx, http.MethodGet, "/actor/v1/whoami", "", nil, &a)
	return a, err
}

// Info asks the server about itself; no token is needed.
func (c *Client) Info(ctx context.Context) (i Info, err error) {
	err = c.call(ctx, http.MethodGet, "/config", "", nil, &i)
	return i, err
}

// NewKey is a provisioning key to be made.
type NewKey struct {
	Fleet       int64
	Name        string    // "" for none
	Description string    // "" for none
	Expires     time.Time // the zero time for never
}

// CreateProvisioningKey makes a key with which devices join a fleet, and nothing else can be done. The server
// shows it this once.
func (c *Client) CreateProvisioningKey(ctx context.Context, k NewKey) (key string, err error) {
	body := map[string]any{
		"actorType": "application", "actorTypeId": k.Fleet, "roles": []string{"provisioning-api-key"}, "expiryDate": nil,
	}
	if k.Name != "" {
		body["name"] = k.Name
	}
	if k.Description != "" {
		body["description"] = k.Description
	}
	if !k.Expires.IsZero() {
		body["expiryDate"] = k.Expires.UTC().Format(isoMillis)
	}
	err = c.call(ctx, http.MethodPost, "/api-key/v2/", "", body, &key)
	return key, err
}

// SSHKeys lists the user's public keys, oldest first.
func (c *Client) SSHKeys(ctx context.Context) ([]SSHKey, error) {
	return Rows[SSHKey](ctx, c, "user__has__public_key", Query{OrderBy: "id asc"})
}

// AddSSHKey adds a public key to a user.
func (c *Client) AddSSHKey(ctx context.Context, user int64, title, publicKey string) (SSHKey, error) {
	return createRow[SSHKey](ctx, c, "user__has__public_key", map[string]any{"title": title, "public_key": publicKey, "user": user})
}

// VariableNames says which names of variables mean something to the device itself.
type VariableNames struct {
	ReservedNames         []string `json:"reservedNames"`
	ReservedNamespaces    []string `json:"reservedNamespaces"`
	WhiteListedNames      []string `json:"whiteListedNames"`
	WhiteListedNamespaces []string `json:"whiteListedNamespaces"`
	BlackListedNames      []string `json:"blackListedNames"`
}

// Config reports whether a variable of that name is a config variable: the device obeys it, containers never see
// it. The server decides which of those names may be set.
func (v VariableNames) Config(name string) bool {
	starts := func(prefix string) bool { return prefix != "" && strings.HasPrefix(name, prefix) }
	return slices.ContainsFunc(v.ReservedNamespaces, starts) || slices.Contains(v.WhiteListedNames, name) ||
		slices.ContainsFunc(v.WhiteListedNamespaces, starts)
}

// VariableNames asks which names mean something to the device.
func (c *Client) VariableNames(ctx context.Context) (v VariableNames, err error) {
	err = c.call(ctx, http.MethodGet, "/config/vars", "", nil, &v)
	return v, err
}
