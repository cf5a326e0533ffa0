package resource

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
)

// compiler makes one statement. Names in it come from the table alone; what a caller wrote is in args.
type compiler struct {
	schema schema
	actor  fleet.Actor
	now    int64 // microseconds
	args   []any
	rows   int      // aliases given out
	trail  []string // relations to many rows that lead to where it is
	writes []string // fields that a change writes
}

func (m *Model) compiler(actor fleet.Actor) *compiler {
	return &compiler{schema: m.schema, actor: actor, now: m.now().UnixMicro()}
}

// arg is the placeholder of a value.
func (c *compiler) arg(v any) string {
	c.args = append(c.args, v)
	return "$" + strconv.Itoa(len(c.args))
}

// alias is a name for one more row in the statement.
func (c *compiler) alias() string {
	c.rows++
	return "t" + strconv.Itoa(c.rows)
}

// expr is the value of a field of the row t.
func (c *compiler) expr(f field, t string) string {
	if column := f.column(); column != "" {
		return t + "." + column
	}
	return strings.NewReplacer("{t}", t, "{now}", strconv.FormatInt(c.now, 10)).Replace(f.sql)
}

// query is the statement of a whole query: one value, the rows as a JSON array, or their number.
func (c *compiler) query(r *resource, q *odata.Query) (string, error) {
	t := c.alias()
	access, err := c.rule(r, t, read, q)
	if err != nil {
		return "", err
	}
	where, err := c.selection(r, t, q)
	if err != nil {
		return "", err
	}
	where = append([]string{access}, where...)
	if q.Count {
		return `SELECT COUNT(*) FROM ` + r.table + ` ` + t + ` WHERE ` + joined(where, ` AND `), nil
	}
	rows, err := c.rowsOf(r, t, where, q.Options)
	return `SELECT ` + gathered(rows), err
}

// selection is the key and the filter of a query as conditions.
func (c *compiler) selection(r *resource, t string, q *odata.Query) ([]string, error) {
	var where []string
	for _, k := range q.Key {
		if k.Name == "" {
			k.Name = "id"
		}
		f, ok := c.field(r, k.Name)
		if !ok || f.kind != number && f.kind != text && f.kind != ref {
			return nil, r.unknown("key", k.Name)
		}
		is, err := c.compare("eq", value{sql: c.expr(f, t), kind: f.kind}, value{literal: &k.Value})
		if err != nil {
			return nil, err
		}
		where = append(where, is)
	}
	if q.Filter != nil {
		is, err := c.condition(scope{r, t, nil}, q.Filter)
		if err != nil {
			return nil, err
		}
		where = append(where, is)
	}
	return where, nil
}

// rowsOf is the SELECT of rows as JSON, in the order and number that o asks for.
func (c *compiler) rowsOf(r *resource, t string, where []string, o odata.Options) (string, error) {
	object, err := c.object(r, t, o)
	if err != nil {
		return "", err
	}
	order, err := c.order(r, t, o.OrderBy)
	if err != nil {
		return "", err
	}
	statement := `SELECT ` + object + ` AS j FROM ` + r.table + ` ` + t + ` WHERE ` + joined(where, ` AND `) + order
	if o.Top != nil || o.Skip != nil {
		limit := int64(1) << 62
		if o.Top != nil {
			limit = int64(*o.Top)
		}
		statement += ` LIMIT ` + strconv.FormatInt(limit, 10)
		if o.Skip != nil {
			statement += ` OFFSET ` + strconv.Itoa(*o.Skip)
		}
	}
	return statement, nil
}

// order is the ORDER BY. The id comes last, so that an order never varies.
func (c *compiler) order(r *resource, t string, orders []odata.Order) (string, error) {
	var by []string
	for _, o := range orders {
		v, err := c.operand(scope{r, t, nil}, o.By)
		if err != nil {
			return "", err
		}
		if v.kind == document {
			return "", fault.New(fault.Invalid, "rows cannot be sorted by JSON")
		}
		if o.Desc {
			by = append(by, v.sql+` DESC NULLS FIRST`)
		} else {
			by = append(by, v.sql+` ASC NULLS LAST`)
		}
	}
	return ` ORDER BY ` + strings.Join(append(by, t+".id"), `, `), nil
}

// object is the row t as a JSON object.
func (c *compiler) object(r *resource, t string, o odata.Options) (string, error) {
	var parts []string
	add := func(name, value string) {
		opening := `,"`
		if len(parts) == 0 {
			opening = `{"`
		}
		parts = append(parts, constant(opening+name+`":`), value)
	}
	expanded := map[string]bool{}
	for _, e := range o.Expand {
		if expanded[e.Name] {
			return "", fault.Newf(fault.Invalid, "%s is expanded twice", e.Name)
		}
		expanded[e.Name] = true
	}
	selected := map[string]bool{}
	for _, name := range o.Select {
		f, ok := c.field(r, name)
		if !ok {
			return "", r.unknown("field", name)
		}
		if !selected[name] && !expanded[name] {
			add(name, c.json(f, t))
		}
		selected[name] = true
	}
	if o.Select == nil {
		for _, f := range r.fields {
			if name := first(f.name); !expanded[name] && c.sees(r, f) {
				add(name, c.json(f, t))
			}
		}
	}
	for _, e := range o.Expand {
		inner, err := c.expansion(r, t, e)
		if err != nil {
			return "", err
		}
		add(e.Name, inner)
	}
	return joined(append(parts, `'}'`), ` || `), nil
}

// json is a field of the row t as JSON.
func (c *compiler) json(f field, t string) string {
	x := c.expr(f, t)
	switch f.kind {
	case number:
		return numeral(x)
	case big:
		return numeralText(x)
	case boolean:
		return truth(x)
	case moment:
		return iso(x)
	case document:
		return documentText(x)
	case ref:
		return deferred(x)
	}
	return quoted(x)
}

// expansion is what a relation of the row t leads to, as JSON: an array, or a number.
func (c *compiler) expansion(r *resource, t string, e odata.Expand) (string, error) {
	rel, err := c.schema.relation(r, e.Name)
	if err != nil {
		return "", err
	}
	if err := c.follow(rel); err != nil {
		return "", err
	}
	defer c.back(rel)
	there, where, err := c.step(rel, t)
	if err != nil {
		return "", err
	}
	if e.Filter != nil {
		is, err := c.condition(scope{rel.to, there, nil}, e.Filter)
		if err != nil {
			return "", err
		}
		where = append(where, is)
	}
	if e.Count {
		return numeral(count(rel.to, there, where)), nil
	}
	rows, err := c.rowsOf(rel.to, there, where, e.Options)
	if err != nil {
		return "", err
	}
	return gathered(rows), nil
}

// step goes from the row here to the rows of a relation that the actor may read.
func (c *compiler) step(rel relation, here string) (there string, where []string, err error) {
	there = c.alias()
	access, err := c.rule(rel.to, there, read, nil)
	if err != nil {
		return "", nil, err
	}
	return there, []string{rel.joins(c, here, there), access}, nil
}

// follow notes that a relation is followed; the caller defers back. One to many rows is followed once on the way to
// any place: to and fro between a fleet and its devices, each turn would be as many times as long as the last.
func (c *compiler) follow(rel relation) error {
	if rel.single {
		return nil
	}
	if slices.Contains(c.trail, rel.name) {
		return invalid("%s is followed twice on the way to one row", rel.name)
	}
	c.trail = append(c.trail, rel.name)
	return nil
}

func (c *compiler) back(rel relation) {
	if !rel.single {
		c.trail = c.trail[:len(c.trail)-1]
	}
}

func count(r *resource, t string, where []string) string {
	return fmt.Sprintf(`(SELECT COUNT(*) FROM %s %s WHERE %s)`, r.table, t, joined(where, ` AND `))
}
