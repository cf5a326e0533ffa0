package resource

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
)

// maxActions is how many actions one request may ask about.
const maxActions = 20

// CanAccess answers the action canAccess: those of the rows that q names on which the actor may do what body says,
// {"action":"tunnel-22222"} or one of several, {"action":{"or":[…]}}. No such row is fault.Denied, as a row that is
// not there.
func (m *Model) CanAccess(ctx context.Context, actor fleet.Actor, q *odata.Query, body []byte) (json.RawMessage, error) {
	res, err := m.schema.find(q.Resource)
	if err != nil {
		return nil, err
	}
	if q.Key == nil && q.Filter == nil {
		return nil, fault.Newf(fault.Invalid, "which %s is meant? name it by a key or by $filter", res.name)
	}
	actions, err := actionsOf(body)
	if err != nil {
		return nil, err
	}
	c := m.compiler(actor)
	var may []string
	for _, action := range actions {
		var rule string
		if rule, err = c.rule(res, "t", wants(action), nil); err == nil {
			may = append(may, rule)
		} else if !fault.Is(err, fault.Denied) {
			return nil, err
		}
	}
	if may == nil {
		return nil, err
	}
	// Of a row that he may not even see, nobody learns anything.
	sees, err := c.rule(res, "t", read, q)
	if err != nil {
		return nil, err
	}
	where, err := c.selection(res, "t", q)
	if err != nil {
		return nil, err
	}
	where = append(where, sees, joined(may, ` OR `))
	rows, err := m.read(ctx, actor, c.dialect.list(`SELECT '{"id":' || t.id || '}' AS j FROM `+c.table(res)+` t WHERE `+
		joined(where, ` AND `)+` ORDER BY t.id`), c.args)
	if err != nil {
		return nil, err
	}
	if rows == "[]" {
		return nil, fault.Newf(fault.Denied, "you may not %s this %s", strings.Join(actions, " or "), res.name)
	}
	return envelope(rows), nil
}

// actionsOf reads what canAccess is asked about.
func actionsOf(body []byte) ([]string, error) {
	var one struct{ Action string }
	var some struct{ Action struct{ Or []string } }
	switch {
	case json.Unmarshal(body, &one) == nil && one.Action != "":
		return []string{one.Action}, nil
	case json.Unmarshal(body, &some) == nil && len(some.Action.Or) > 0 && len(some.Action.Or) <= maxActions:
		return some.Action.Or, nil
	}
	return nil, fault.New(fault.Invalid, `the body of canAccess is {"action":"…"} or {"action":{"or":["…"]}}`)
}

// wants is the verb of an action. What is not a verb of the model is done with the thing itself: a tunnel to it, a call
// of its supervisor.
func wants(action string) verb {
	switch action {
	case "read":
		return read
	case "update":
		return update
	case "delete":
		return remove
	}
	return operate
}
