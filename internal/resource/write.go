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
	given map[string]any // body as the caller gave it, for the trail
	// columns are what rules write besides, by the columns' names.
	columns map[string]any
	// answer is what a rule tells who makes the row, this once, beside the row: a JSON member.
	answer map[string]string
	// kept: the rows stay whose they are, though they may no longer be the actor's to change.
	kept    bool
	touched touched
	// memo is what a rule keeps of a row, by its id, until the row is written.
	memo    map[int64]int64
	places  places
	details map[string]any // what rules tell the trail
	// What other rooms hear of once it is committed.
	gone      []string // uuids of devices
	removed   []int64  // fleets
	cancelled []int64  // releases
	deltas    []fleet.Delta
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
	if len(w.body) == 0 {
		return nil // what was given is of no meaning here
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
	res, err := m.asked(q)
	if err != nil {
		return nil, err
	}
	if _, err := m.compiler(actor).rule(res, "t", v, q); err != nil {
		return nil, err
	}
	return &change{
		Model: m, actor: actor, now: m.now().UnixMicro(), verb: v, res: res,
		body: map[string]any{}, columns: map[string]any{}, touched: touched{}, details: map[string]any{},
	}, nil
}

// change runs a change of rows that are there.
func (w *change) change(ctx context.Context, q *odata.Query, write func() error) error {
	if q.Key == nil && q.Filter == nil {
		return fault.Newf(fault.Invalid, "which %s is meant? name it by a key or by $filter", w.res.name)
	}
	var err error
	if w.ids, err = w.choose(ctx, q, w.verb); err == nil && len(w.ids) == 0 {
		err = w.beyond(ctx, q)
	}
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
	was, err := w.seen(ctx)
	if err != nil {
		return err
	}
	if err := w.locate(ctx); err != nil {
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
	if w.verb != remove {
		if err := w.owned(ctx); err != nil {
			return err
		}
		if err := w.locate(ctx); err != nil {
			return err
		}
	}
	if err := w.touch(ctx, was); err != nil {
		return err
	}
	return w.audit(ctx)
}

// after tells the other rooms, once the change is committed.
func (w *change) after(ctx context.Context) error {
	if w.res.name == "application" && w.verb == create && w.Created != nil {
		if err := w.Created(ctx, w.ids[0], w.columns["slug"].(string)); err != nil {
			if gone := w.withdraw(context.WithoutCancel(ctx)); gone != nil {
				return fmt.Errorf("%w (and take it away again: %w)", err, gone)
			}
			return err
		}
	}
	if w.Removed != nil {
		for _, id := range w.removed {
			w.Removed(context.WithoutCancel(ctx), id) // what is gone is gone, whoever still listens
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
	if w.DeltasGone != nil && len(w.deltas) > 0 {
		w.DeltasGone(context.WithoutCancel(ctx), w.deltas)
	}
	if w.Wrote != nil {
		for _, wrote := range w.wrote() {
			w.Wrote(wrote)
		}
	}
	if w.Changed == nil {
		return nil
	}
	for _, f := range slices.Sorted(maps.Keys(w.touched)) {
		w.Changed(f, w.touched.of(f))
	}
	return nil
}

// withdraw takes a fleet away again that was just made, whoever may delete one.
func (w *change) withdraw(ctx context.Context) error {
	err := w.store.Write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM fleets WHERE id = $1`, w.ids[0]); err != nil {
			return err
		}
		w.tx, w.verb = tx, remove
		return w.audit(ctx)
	})
	if err == nil && w.Removed != nil {
		w.Removed(ctx, w.ids[0])
	}
	return err
}

// rules is a compiler that knows what is written.
func (w *change) rules() *compiler {
	c := w.compiler(w.actor)
	c.writes = slices.Sorted(maps.Keys(w.body))
	return c
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
	if err := w.welcome(ctx); err != nil {
		return err
	}
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
	var words []string
	for _, f := range w.res.fields {
		if column := f.column(); column != "" {
			words = append(words, `"`+column+`"`, `"`+first(f.name)+`"`)
		}
	}
	return fault.New(fault.Conflict, strings.NewReplacer(words...).Replace(fault.Message(store.Explain(err))))
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
		return w.tell(json.RawMessage(row))
	}
	return w.tell(least)
}

// tell adds the answer to a row.
func (w *change) tell(row json.RawMessage) (json.RawMessage, error) {
	if len(w.answer) == 0 {
		return row, nil
	}
	more, err := json.Marshal(w.answer)
	if err != nil {
		return nil, err
	}
	return slices.Concat(row[:len(row)-len(`}`)], json.RawMessage(`,`), more[len(`{`):]), nil
}
