package resource

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
	"github.com/dunlin/dunlin/internal/store"
)

// change is one change under way, inside its transaction. Rules read and amend it.
type change struct {
	*Model
	tx    *sql.Tx
	actor fleet.Actor
	now   int64 // microseconds
	verb  verb
	res   *resource
	ids   []int64        // rows it concerns; of a creation only after the row is written
	body  map[string]any // what is to be written, by the fields' first names: int64, string, bool or nil
	// columns are what rules write besides, by the columns' names.
	columns map[string]any
	touched touched
	// What other rooms hear of once it is committed.
	gone      []string // uuids of devices
	cancelled []int64  // releases
}

// touched are the devices whose targets may have changed, by fleet; device 0 stands for all of them.
type touched map[int64]map[int64]bool

func (t touched) add(fleet, device int64) {
	if t[fleet] == nil {
		t[fleet] = map[int64]bool{}
	}
	t[fleet][device] = true
}

// Create makes the row that body, a JSON object, describes, and returns it as the actor sees it.
func (m *Model) Create(ctx context.Context, actor fleet.Actor, q *odata.Query, body []byte) (id int64, row json.RawMessage, err error) {
	w, err := m.begin(actor, q, create)
	if err != nil {
		return 0, nil, err
	}
	if q.Key != nil || q.Count {
		return 0, nil, fault.New(fault.Invalid, "a row is made in the collection, without a key")
	}
	if err := w.decode(body); err != nil {
		return 0, nil, err
	}
	err = m.store.Write(ctx, func(tx *sql.Tx) error {
		w.tx = tx
		if err := w.run(ctx, func() error { return w.insert(ctx) }); err != nil {
			return err
		}
		row, err = w.row(ctx)
		return err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("create %s: %w", w.res.name, err)
	}
	if err := w.after(ctx); err != nil {
		return 0, nil, fmt.Errorf("create %s: %w", w.res.name, err)
	}
	return w.ids[0], row, nil
}

// Update writes what body, a JSON object, has into all rows that q names and the actor may change. No such row is no
// error.
func (m *Model) Update(ctx context.Context, actor fleet.Actor, q *odata.Query, body []byte) error {
	w, err := m.begin(actor, q, update)
	if err != nil {
		return err
	}
	if err := w.decode(body); err != nil {
		return err
	}
	return w.change(ctx, q, func() error { return w.update(ctx) })
}

// Delete removes all rows that q names and the actor may delete. No such row is no error, but for a fleet named by
// its key.
func (m *Model) Delete(ctx context.Context, actor fleet.Actor, q *odata.Query) error {
	w, err := m.begin(actor, q, remove)
	if err != nil {
		return err
	}
	return w.change(ctx, q, func() error {
		return w.each(ctx, func(list string) (string, []any) {
			return `DELETE FROM ` + w.res.table + ` WHERE id IN ` + list, nil
		})
	})
}

// begin checks that the actor may do v with some row at all, before anything else is looked at.
func (m *Model) begin(actor fleet.Actor, q *odata.Query, v verb) (*change, error) {
	res, err := m.schema.find(q.Resource)
	if err != nil {
		return nil, err
	}
	if _, err := m.compiler(actor).rule(res, "t", v, q); err != nil {
		return nil, err
	}
	return &change{
		Model: m, actor: actor, now: m.now().UnixMicro(), verb: v, res: res,
		body: map[string]any{}, columns: map[string]any{}, touched: touched{},
	}, nil
}

// change runs a change of rows that are there.
func (w *change) change(ctx context.Context, q *odata.Query, write func() error) error {
	if q.Key == nil && q.Filter == nil {
		return fault.Newf(fault.Invalid, "which %s is meant? name it by a key or by $filter", w.res.name)
	}
	err := w.choose(ctx, q)
	if err == nil && len(w.ids) > 0 {
		err = w.store.Write(ctx, func(tx *sql.Tx) error {
			w.tx = tx
			if err := w.recheck(ctx, q); err != nil || len(w.ids) == 0 {
				return err
			}
			return w.run(ctx, write)
		})
	}
	if err == nil && len(w.ids) == 0 && w.verb == remove && w.res.name == "application" && q.Key != nil {
		err = fault.New(fault.NotFound, "there is no such application")
	}
	if err == nil {
		err = w.after(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", w.verb, w.res.name, err)
	}
	return nil
}

// run is a change between its rules. Afterwards the rows must still, or already, be the actor's to change.
func (w *change) run(ctx context.Context, write func() error) error {
	if err := w.references(ctx); err != nil {
		return err
	}
	if err := w.touch(ctx); err != nil {
		return err
	}
	if w.res.before != nil {
		if err := w.res.before(ctx, w); err != nil {
			return err
		}
	}
	if err := w.leave(ctx); err != nil {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	if w.res.after != nil {
		if err := w.res.after(ctx, w); err != nil {
			return err
		}
	}
	if w.verb == remove {
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
	return w.touch(ctx)
}

// after tells the other rooms, once the change is committed.
func (w *change) after(ctx context.Context) error {
	if w.res.name == "application" {
		switch {
		case w.verb == create && w.Created != nil:
			if err := w.Created(ctx, w.ids[0], w.columns["slug"].(string)); err != nil {
				undo := context.WithoutCancel(ctx)
				if gone := w.Delete(undo, w.actor, &odata.Query{Resource: "application", Key: []odata.KeyPart{{Value: odata.Literal{Value: w.ids[0]}}}}); gone != nil {
					return fmt.Errorf("%w (and take it away again: %w)", err, gone)
				}
				return err
			}
		case w.verb == remove && w.Removed != nil:
			for _, id := range w.ids {
				w.Removed(context.WithoutCancel(ctx), id) // what is gone is gone, whoever still listens
			}
		}
	}
	if w.DevicesGone != nil && len(w.gone) > 0 {
		w.DevicesGone(context.WithoutCancel(ctx), w.gone)
	}
	if w.Cancelled != nil {
		for _, id := range w.cancelled {
			w.Cancelled(id)
		}
	}
	if w.Changed == nil {
		return nil
	}
	for _, f := range slices.Sorted(maps.Keys(w.touched)) {
		devices := slices.Sorted(maps.Keys(w.touched[f]))
		if devices[0] == 0 {
			devices = nil
		}
		w.Changed(f, devices)
	}
	return nil
}

// rules is a compiler that knows what is written.
func (w *change) rules() *compiler {
	c := w.compiler(w.actor)
	c.writes = slices.Sorted(maps.Keys(w.body))
	return c
}

// choose finds the rows that q names and the actor may do this with. It only reads, before the transaction: while a
// hostile filter is at work, other changes go on.
func (w *change) choose(ctx context.Context, q *odata.Query) error {
	c := w.rules()
	rule, err := c.rule(w.res, "t", w.verb, q)
	if err != nil {
		return err
	}
	where, err := c.selection(w.res, "t", q)
	if err != nil {
		return err
	}
	ids, err := fetch(ctx, w.reader, w.patience, `SELECT `+gathered(`SELECT t.id AS j FROM `+w.res.table+` t WHERE `+
		joined(append(where, rule), ` AND `)+` ORDER BY t.id`), c.args)
	if err != nil {
		return err
	}
	return json.Unmarshal(ids, &w.ids)
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
		f, _ := w.res.field(name)
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

// touch notes whose targets the rows concern, as they are now.
func (w *change) touch(ctx context.Context) error {
	if w.res.affects == nil {
		return nil
	}
	a := *w.res.affects
	for list := range lists(w.ids) {
		statement := `SELECT ` + a.fleet + `, COALESCE(` + a.device + `, 0) FROM ` + w.res.table + ` t WHERE t.id IN ` + list
		if err := w.touched.read(w.tx.QueryContext(ctx, strings.ReplaceAll(statement, "{t}", "t"))); err != nil {
			return err
		}
	}
	return nil
}

// leave notes the devices that are about to be deleted, or to become another organization's.
func (w *change) leave(ctx context.Context) error {
	var condition string
	to, moves := w.id("belongs_to__application")
	switch {
	case w.res.name == "application" && w.verb == remove:
		condition = `d.fleet IN `
	case w.res.name == "device" && w.verb == remove:
		condition = `d.id IN `
	case w.res.name == "device" && moves:
		condition = `(SELECT o.organization FROM fleets o WHERE o.id = d.fleet) <> (SELECT o.organization FROM fleets o WHERE o.id = ` +
			strconv.FormatInt(to, 10) + `) AND d.id IN `
	default:
		return nil
	}
	for list := range lists(w.ids) {
		uuids, err := column[string](w.tx.QueryContext(ctx, `SELECT d.uuid FROM devices d WHERE `+condition+list+` ORDER BY d.id`))
		if err != nil {
			return err
		}
		w.gone = append(w.gone, uuids...)
	}
	return nil
}

// read adds rows of a fleet and a device.
func (t touched) read(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var f, d int64
		if err := rows.Scan(&f, &d); err != nil {
			return err
		}
		t.add(f, d)
	}
	return rows.Err()
}

// written are the columns to write, in an order that never varies, and their values.
func (w *change) written() (columns []string, values []any) {
	all := maps.Clone(w.columns)
	all["modified_at"] = w.now
	for name, v := range w.body {
		f, _ := w.res.field(name)
		if column := f.column(); column != "" {
			all[column] = v
		}
	}
	for _, column := range slices.Sorted(maps.Keys(all)) {
		columns, values = append(columns, column), append(values, all[column])
	}
	return columns, values
}

func (w *change) insert(ctx context.Context) error {
	w.columns["created_at"] = w.now
	columns, values := w.written()
	var marks []string
	for i := range columns {
		marks = append(marks, "$"+strconv.Itoa(i+1))
	}
	var id int64
	err := w.tx.QueryRowContext(ctx, `INSERT INTO `+w.res.table+` (`+strings.Join(columns, `, `)+`) VALUES (`+
		strings.Join(marks, `, `)+`) RETURNING id`, values...).Scan(&id)
	w.ids = []int64{id}
	return w.explain(err)
}

func (w *change) update(ctx context.Context) error {
	columns, values := w.written()
	for i, column := range columns {
		columns[i] = column + ` = $` + strconv.Itoa(i+1)
	}
	return w.each(ctx, func(list string) (string, []any) {
		return `UPDATE ` + w.res.table + ` SET ` + strings.Join(columns, `, `) + ` WHERE id IN ` + list, values
	})
}

// each runs a statement for all rows, some at a time.
func (w *change) each(ctx context.Context, statement func(list string) (string, []any)) error {
	for list := range lists(w.ids) {
		text, args := statement(list)
		if _, err := w.tx.ExecContext(ctx, text, args...); err != nil {
			return w.explain(err)
		}
	}
	return nil
}

// explain says a conflict in the model's words instead of the columns'.
func (w *change) explain(err error) error {
	if err == nil || !fault.Is(store.Explain(err), fault.Conflict) {
		return err
	}
	message := fault.Message(store.Explain(err))
	for _, f := range w.res.fields {
		if column := f.column(); column != "" {
			message = strings.ReplaceAll(message, `"`+column+`"`, `"`+first(f.name)+`"`)
		}
	}
	return fault.New(fault.Conflict, message)
}

// row is the row that was made, as the actor sees it.
func (w *change) row(ctx context.Context) (json.RawMessage, error) {
	least := json.RawMessage(fmt.Sprintf(`{"id":%d}`, w.ids[0]))
	c := w.compiler(w.actor)
	statement, err := c.query(w.res, &odata.Query{Key: []odata.KeyPart{{Value: odata.Literal{Value: w.ids[0]}}}})
	if fault.Is(err, fault.Denied) {
		return least, nil
	}
	if err != nil {
		return nil, err
	}
	rows, err := fetch(ctx, w.tx, w.patience, statement, c.args)
	if err != nil {
		return nil, err
	}
	if row := rows[len(`[`) : len(rows)-len(`]`)]; len(row) > 0 {
		return row, nil
	}
	return least, nil
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
