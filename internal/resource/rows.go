package resource

import (
	"context"
	"database/sql"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
)

// Which rows a change concerns, and whether they and what it refers to are the actor's.

// choose finds the rows that q names and the actor may do this with. It only reads, before the transaction: while a
// hostile filter is at work, other changes go on.
func (w *change) choose(ctx context.Context, q *odata.Query, v verb) (chosen []int64, err error) {
	c := w.rules()
	rule, err := c.rule(w.res, "t", v, q)
	if err != nil {
		return nil, err
	}
	where, err := c.selection(w.res, "t", q)
	if err != nil {
		return nil, err
	}
	ids, err := w.read(ctx, w.actor, c.dialect.list(`SELECT CAST(t.id AS TEXT) AS j FROM `+w.res.table+` t WHERE `+
		joined(append(where, rule), ` AND `)+` ORDER BY t.id`), c.args)
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal([]byte(ids), &chosen)
	return chosen, err
}

// beyond is the error of a change that found no row, when there are rows that the user may look at and not change: to
// answer as if all were done would deceive him. Of what he may not even see he hears nothing. A device is answered as
// if all were done: a supervisor would ask the same again for ever.
func (w *change) beyond(ctx context.Context, q *odata.Query) error {
	if w.actor.Kind != fleet.UserActor {
		return nil
	}
	seen, err := w.choose(ctx, q, read)
	if err != nil || len(seen) == 0 {
		return nil // what cannot be looked at cannot be told of
	}
	return fault.Newf(fault.Denied, "you may look at this %s, but not %s it", w.res.name, w.verb).
		WithHint("ask an owner of its organization for another role")
}

// recheck leaves out the chosen rows that meanwhile are gone, or no longer the actor's.
func (w *change) recheck(ctx context.Context, q *odata.Query) error {
	c := w.rules()
	rule, err := c.rule(w.res, "t", w.verb, q)
	if err != nil {
		return err
	}
	var still []int64
	for list := range lists(w.ids) {
		ids, err := column[int64](w.tx.QueryContext(ctx, `SELECT t.id FROM `+w.res.table+` t WHERE t.id IN `+list+` AND `+rule+` ORDER BY t.id`, c.args...))
		if err != nil {
			return err
		}
		still = append(still, ids...)
	}
	w.ids = still
	return nil
}

// column reads the only column of rows.
func column[T any](rows *sql.Rows, err error) (all []T, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// references checks that what the change refers to is there for the actor. What is not there and what he may not see
// are answered alike.
func (w *change) references(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(w.body)) {
		f, _ := w.field(name)
		id, ok := w.body[name].(int64)
		if !ok || f.kind != ref || f.to == "" {
			continue
		}
		to, err := w.schema.find(f.to)
		if err != nil {
			return err
		}
		c := w.compiler(w.actor)
		rule, err := c.rule(to, "t", read, nil)
		if err != nil {
			return err
		}
		var there bool
		if err := w.tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+to.table+` t WHERE t.id = `+c.arg(id)+` AND `+rule+`)`, c.args...).Scan(&there); err != nil {
			return err
		}
		if !there {
			return fault.Newf(fault.Denied, "there is no %s %d that you may use", to.name, id)
		}
	}
	return nil
}

// leave notes the fleets and devices that are about to be deleted, and the devices that are about to become another
// organization's.
func (w *change) leave(ctx context.Context) error {
	condition, of := "", w.ids
	to, moves := w.id("belongs_to__application")
	organization, hands := w.id("organization")
	switch {
	case w.res.name == "organization" && w.verb == remove:
		for list := range lists(w.ids) {
			fleets, err := column[int64](w.tx.QueryContext(ctx, `SELECT f.id FROM fleets f WHERE f.organization IN `+list+` ORDER BY f.id`))
			if err != nil {
				return err
			}
			w.removed = append(w.removed, fleets...)
		}
		condition, of = `d.fleet IN `, w.removed
	case w.res.name == "application" && w.verb == remove:
		w.removed = w.ids
		condition = `d.fleet IN `
	case w.res.name == "application" && w.verb == update && hands:
		condition = `(SELECT o.organization FROM fleets o WHERE o.id = d.fleet) <> ` + strconv.FormatInt(organization, 10) + ` AND d.fleet IN `
	case w.res.name == "device" && w.verb == remove:
		condition = `d.id IN `
	case w.res.name == "device" && moves:
		condition = `(SELECT o.organization FROM fleets o WHERE o.id = d.fleet) <> (SELECT o.organization FROM fleets o WHERE o.id = ` +
			strconv.FormatInt(to, 10) + `) AND d.id IN `
	default:
		return nil
	}
	for list := range lists(of) {
		uuids, err := column[string](w.tx.QueryContext(ctx, `SELECT d.uuid FROM devices d WHERE `+condition+list+` ORDER BY d.id`))
		if err != nil {
			return err
		}
		w.gone = append(w.gone, uuids...)
	}
	return nil
}

// owned checks that the rows, as they are now written, are the actor's to write.
func (w *change) owned(ctx context.Context) error {
	if w.kept {
		return nil
	}
	c := w.rules()
	rule, err := c.rule(w.res, "t", w.verb, nil)
	if err != nil {
		return err
	}
	left := 0
	for list := range lists(w.ids) {
		var n int
		if err := w.tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+w.res.table+` t WHERE t.id IN `+list+` AND `+rule, c.args...).Scan(&n); err != nil {
			return err
		}
		left += n
	}
	if left != len(w.ids) {
		return fault.Newf(fault.Denied, "you may not %s this %s", w.verb, w.res.name)
	}
	return nil
}

// welcome checks, before a row is made, that it will be the actor's: a row that is not made because its name is taken
// must not tell a stranger whose names are taken. It cannot where a grant goes by the row's own id; owned checks all.
func (w *change) welcome(ctx context.Context) error {
	c := w.rules()
	for _, g := range w.res.access {
		if c.applies(g, create, nil) && strings.Contains(g.rows, "{t}.id") {
			return nil
		}
	}
	row := map[string]string{}
	for _, f := range w.res.fields {
		if column := f.column(); column != "" {
			row[column] = f.kind.null()
		}
	}
	columns, values := w.written()
	for i, column := range columns {
		switch v := values[i].(type) { // PostgreSQL takes what has no type for a text
		case int64:
			row[column] = `CAST(` + c.arg(v) + ` AS BIGINT)`
		case bool:
			row[column] = `CAST(` + c.arg(v) + ` AS BOOLEAN)`
		case string:
			row[column] = `CAST(` + c.arg(v) + ` AS TEXT)`
		}
	}
	var parts []string
	for _, column := range slices.Sorted(maps.Keys(row)) {
		parts = append(parts, row[column]+` AS `+column)
	}
	rule, err := c.rule(w.res, "t", create, nil)
	if err != nil {
		return err
	}
	var may bool
	if err := w.tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM (SELECT `+strings.Join(parts, `, `)+`) t WHERE `+rule+`)`, c.args...).Scan(&may); err != nil {
		return err
	}
	if !may {
		return fault.Newf(fault.Denied, "you may not create this %s", w.res.name)
	}
	return nil
}

// lists are ids as SQL lists of bounded length.
func lists(ids []int64) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for some := range slices.Chunk(ids, 500) {
			list := make([]string, len(some))
			for i, id := range some {
				list[i] = strconv.FormatInt(id, 10)
			}
			if !yield(`(` + strings.Join(list, `, `) + `)`) {
				return
			}
		}
	}
}
