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
	schema  schema
	dialect dialect
	actor   fleet.Actor
	now     int64 // microseconds
	args    []any
	rows    int      // aliases given out
	growth  int      // how many times as long replacements make a text; 0 is 1
	trail   []string // relations to many rows that lead to where it is
	writes  []string // fields that a change writes
	asset   func(fleet.Actor) (before, after string)
	// sets are the WITH clauses of a query by what they select; nil: what they select stands where it is asked for.
	sets map[string]string
	with []string
	// broad: the rows are looked for from those of the actor; else a row that is found is looked at, whether it is his.
	broad bool
	// readable are rows of the statement that pass the rule of reading, and with them what belongs to them.
	readable map[string]bool
}

func (m *Model) compiler(actor fleet.Actor) *compiler {
	return &compiler{schema: m.schema, dialect: dialect(m.store.Dialect()), actor: actor, now: m.now().UnixMicro(), asset: m.asset, readable: map[string]bool{}}
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
	sql := strings.NewReplacer("{t}", t, "{now}", strconv.FormatInt(c.now, 10), "{me}", strconv.FormatInt(c.actor.ID, 10)).Replace(f.sql)
	if strings.Contains(sql, "{asset before}") {
		before, after := c.asset(c.actor)
		sql = strings.NewReplacer("{asset before}", constant(before), "{asset after}", constant(after)).Replace(sql)
	}
	return sql
}

// query is the statement of a whole query: one value, the rows as a JSON array, or their number.
func (c *compiler) query(r *resource, q *odata.Query) (string, error) {
	c.sets = map[string]string{}
	t := c.alias()
	c.broad = !pointed(r, q)
	access, err := c.rule(r, t, read, q)
	c.broad = false
	if err != nil {
		return "", err
	}
	c.readable[t] = !slices.ContainsFunc(r.access, func(g grant) bool { return g.named != "" && c.applies(g, read, q) })
	where, err := c.selection(r, t, q)
	if err != nil {
		return "", err
	}
	where = append([]string{access}, where...)
	if q.Count {
		return c.statement(`SELECT CAST(COUNT(*) AS TEXT) FROM ` + c.table(r) + ` ` + t + ` WHERE ` + joined(where, ` AND `)), nil
	}
	rows, err := c.rowsOf(r, t, where, q.Options)
	return c.statement(c.dialect.list(rows)), err
}

// statement is a SELECT with the sets it refers to.
func (c *compiler) statement(query string) string {
	if len(c.with) == 0 {
		return query
	}
	return `WITH ` + strings.Join(c.with, `, `) + ` ` + query
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
	var from joins
	object, err := c.object(r, t, o, &from)
	if err != nil {
		return "", err
	}
	order, err := c.order(r, t, o.OrderBy)
	if err != nil {
		return "", err
	}
	statement := `SELECT ` + object + ` AS j FROM ` + c.table(r) + ` ` + t + strings.Join(from, ``) + ` WHERE ` + joined(where, ` AND `) + order
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

// joins are LEFT JOIN clauses of one SELECT.
type joins []string

// maxJoins is far under the 64 that SQLite takes, and what either engine plans in a moment.
const maxJoins = 8

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
		if v.sql == "NULL" || v.sql == "FALSE" {
			continue // all rows are alike in it, and PostgreSQL takes no constant here
		}
		if o.Desc {
			by = append(by, v.sql+` DESC NULLS FIRST`)
		} else {
			by = append(by, v.sql+` ASC NULLS LAST`)
		}
	}
	return ` ORDER BY ` + strings.Join(append(by, t+".id"), `, `), nil
}

// object is the row t as a JSON object. What it needs of other rows may be joined to its SELECT.
func (c *compiler) object(r *resource, t string, o odata.Options, from *joins) (string, error) {
	var parts []string
	opening := `{"`
	add := func(name, value string) {
		opening += name + `":`
		if fixed, ok := fixed[value]; ok {
			opening += fixed + `,"`
			return
		}
		parts = append(parts, constant(opening), value)
		opening = `,"`
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
			name := first(f.name)
			if called(r.asked, name) {
				continue
			}
			if another, ok := r.shown[name]; ok {
				name = another
			}
			if !expanded[name] && c.sees(r, f) {
				add(name, c.json(f, t))
			}
		}
	}
	for _, e := range o.Expand {
		inner, err := c.expansion(r, t, e, from)
		if err != nil {
			return "", err
		}
		add(e.Name, inner)
	}
	closing := strings.TrimSuffix(strings.TrimSuffix(opening, `"`), `,`) + `}`
	return joined(append(parts, constant(closing)), ` || `), nil
}

// fixed are values that are the same in every row, as JSON.
var fixed = map[string]string{"NULL": "null", "FALSE": "false", "TRUE": "true"}

// json is a field of the row t as JSON.
func (c *compiler) json(f field, t string) string {
	x := c.expr(f, t)
	if _, ok := fixed[x]; ok {
		return x
	}
	switch f.kind {
	case number:
		return numeral(x)
	case big:
		return numeralText(x)
	case boolean:
		return truth(x)
	case moment:
		return c.dialect.iso(x)
	case document:
		return c.dialect.documentText(x)
	case ref:
		return deferred(x)
	}
	return c.dialect.quoted(x)
}

// expansion is what a relation of the row t leads to, as JSON: an array, or a number. A relation to one row becomes a
// join, which costs a third less than a subquery for each row, unless a rule leads on to further rows: PostgreSQL would
// look at all of those first.
func (c *compiler) expansion(r *resource, t string, e odata.Expand, from *joins) (string, error) {
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
		return numeral(c.number(rel.to, there, where)), nil
	}
	if rel.single && e.Top == nil && e.Skip == nil && len(*from) < maxJoins && !strings.Contains(joined(where, ``), `EXISTS`) {
		*from = append(*from, ` LEFT JOIN `+c.table(rel.to)+` `+there+` ON `+joined(where, ` AND `))
		if _, err := c.order(rel.to, there, e.OrderBy); err != nil { // there is nothing to sort, but what makes no sense is said
			return "", err
		}
		object, err := c.object(rel.to, there, e.Options, from)
		if err != nil {
			return "", err
		}
		return `CASE WHEN ` + there + `.id IS NULL THEN '[]' ELSE '[' || ` + object + ` || ']' END`, nil
	}
	rows, err := c.rowsOf(rel.to, there, where, e.Options)
	if err != nil {
		return "", err
	}
	return `(` + c.dialect.list(rows) + `)`, nil
}

// step goes from the row here to the rows of a relation that the actor may read.
func (c *compiler) step(rel relation, here string) (there string, where []string, err error) {
	there = c.alias()
	access, err := c.rule(rel.to, there, read, nil)
	if err != nil {
		return "", nil, err
	}
	c.readable[there] = true
	where = []string{rel.joins(c, here, there)}
	if !c.readable[here] || !c.inherits(rel) {
		where = append(where, access)
	}
	return there, where, nil
}

// inherits reports whether the rows of a relation may be read because the row here may, which has been asked already.
func (c *compiler) inherits(rel relation) bool {
	return !rel.single && slices.ContainsFunc(rel.to.access, func(g grant) bool {
		if g.via == "" || !c.applies(g, read, nil) {
			return false
		}
		f, ok := rel.to.field(g.via)
		to, err := c.schema.find(f.to)
		return ok && first(f.name) == rel.by && err == nil && to == rel.of
	})
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

// number is how many rows of r meet where.
func (c *compiler) number(r *resource, t string, where []string) string {
	return fmt.Sprintf(`(SELECT COUNT(*) FROM %s %s WHERE %s)`, c.table(r), t, joined(where, ` AND `))
}
