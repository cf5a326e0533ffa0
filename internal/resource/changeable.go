package resource

import (
	"context"
	"fmt"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
)

// Changeable are those of some rows of a resource of which the actor may change the named fields: for what is done with
// a row and is no change of it, such as telling a device to restart.
func (m *Model) Changeable(ctx context.Context, actor fleet.Actor, name string, ids []int64, fields ...string) (may []int64, err error) {
	res, err := m.schema.find(name)
	if err != nil {
		return nil, err
	}
	for list := range lists(ids) {
		c := m.compiler(actor)
		c.writes = fields
		rule, err := c.rule(res, "t", update, nil)
		if fault.Is(err, fault.Denied) || fault.Is(err, fault.Unauthenticated) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		some, err := column[int64](m.store.Reader().QueryContext(ctx, `SELECT t.id FROM `+res.table+` t WHERE t.id IN `+list+` AND `+rule+` ORDER BY t.id`, c.args...))
		if err != nil {
			return nil, fmt.Errorf("find changeable %s: %w", res.name, err)
		}
		may = append(may, some...)
	}
	return may, nil
}
