package client

import (
	"context"
	"encoding/json"
	"time"
)

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

// Audit lists what was done where filter holds ("" for all the user may see), newest first.
func (c *Client) Audit(ctx context.Context, filter string, top int) ([]AuditEvent, error) {
	return Rows[AuditEvent](ctx, c, "audit", Query{Filter: filter, OrderBy: "id desc", Top: top})
}
