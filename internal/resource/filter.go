package resource

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/odata"
)

// scope is where names are looked up: a row, and the rows that the lambdas around it name.
type scope struct {
	res  *resource
	row  string
	vars map[string]scope
}

// with is s inside a lambda.
func (s scope) with(name string, inner scope) scope {
	vars := map[string]scope{}
	for n, v := range s.vars {
		vars[n] = v
	}
	vars[name] = inner
	s.vars = vars
	return s
}

// value is a side of a comparison: an expression, or a literal that takes the kind of the other side.
type value struct {
	sql     string
	kind    kind
	literal *odata.Literal
}

func invalid(format string, args ...any) error { return fault.Newf(fault.Invalid, format, args...) }

// condition compiles an expression that is true or not.
func (c *compiler) condition(s scope, x odata.Expr) (string, error) {
	switch x := x.(type) {
	case odata.And:
		return c.chain(s, x, ` AND `)
	case odata.Or:
		return c.chain(s, x, ` OR `)
	case odata.Not:
		is, err := c.condition(s, x.X)
		return `(NOT ` + is + `)`, err
	case odata.Compare:
		left, err := c.operand(s, x.Left)
		if err != nil {
			return "", err
		}
		right, err := c.operand(s, x.Right)
		if err != nil {
			return "", err
		}
		return c.compare(x.Op, left, right)
	case odata.In:
		return c.in(s, x)
	case odata.Lambda:
		return c.lambda(s, x)
	}
	v, err := c.operand(s, x)
	if err != nil {
		return "", err
	}
	if v.literal != nil {
		b, ok := v.literal.Value.(bool)
		if !ok {
			return "", invalid("a value alone is no condition")
		}
		return strings.ToUpper(strconv.FormatBool(b)), nil
	}
	if v.kind != boolean {
		return "", invalid("%s alone is no condition", v.kind)
	}
	return v.sql, nil
}

func (c *compiler) chain(s scope, parts []odata.Expr, operator string) (string, error) {
	all := make([]string, len(parts))
	for i, x := range parts {
		var err error
		if all[i], err = c.condition(s, x); err != nil {
			return "", err
		}
	}
	return joined(all, operator), nil
}

// operand compiles an expression that has a value.
func (c *compiler) operand(s scope, x odata.Expr) (value, error) {
	switch x := x.(type) {
	case odata.Literal:
		return value{literal: &x}, nil
	case odata.Path:
		return c.path(s, x)
	case odata.Count:
		return c.count(s, x)
	case odata.Call:
		return c.call(s, x)
	case odata.Arith:
		return c.arith(s, x)
	}
	is, err := c.condition(s, x)
	return value{sql: `(` + is + `)`, kind: boolean}, err
}

// origin is the row that a path begins at.
func (s scope) origin(p odata.Path) scope {
	if p.Var == "" {
		return s
	}
	at := s.vars[p.Var]
	at.vars = s.vars
	return at
}

// walk goes along the single relations of names, and hands the last row to end, whose expression it wraps. A row on
// the way that is not there, or not to be seen, makes the whole NULL.
func (c *compiler) walk(s scope, names []string, end func(s scope) (value, error)) (value, error) {
	if len(names) == 0 {
		return end(s)
	}
	rel, err := c.schema.relation(s.res, names[0])
	if err != nil {
		return value{}, err
	}
	if !rel.single {
		return value{}, invalid("%s of %s leads to many rows; ask with any or all", names[0], s.res.name)
	}
	there, where, err := c.step(rel, s.row)
	if err != nil {
		return value{}, err
	}
	v, err := c.walk(scope{rel.to, there, s.vars}, names[1:], end)
	if err != nil {
		return value{}, err
	}
	v.sql = fmt.Sprintf(`(SELECT %s FROM %s %s WHERE %s)`, v.sql, c.table(rel.to), there, joined(where, ` AND `))
	return v, nil
}

func (c *compiler) path(s scope, p odata.Path) (value, error) {
	last := len(p.Names) - 1
	return c.walk(s.origin(p), p.Names[:last], func(s scope) (value, error) {
		f, ok := c.field(s.res, p.Names[last])
		if !ok {
			return value{}, s.res.unknown("field", p.Names[last])
		}
		v := value{sql: c.expr(f, s.row), kind: f.kind}
		if f.kind == moment {
			v.sql = `(` + v.sql + ` / 1000)` // compared as it is shown
		}
		return v, nil
	})
}

func (c *compiler) count(s scope, x odata.Count) (value, error) {
	last := len(x.Nav.Names) - 1
	return c.walk(s.origin(x.Nav), x.Nav.Names[:last], func(s scope) (value, error) {
		rel, err := c.schema.relation(s.res, x.Nav.Names[last])
		if err != nil {
			return value{}, err
		}
		if err := c.follow(rel); err != nil {
			return value{}, err
		}
		defer c.back(rel)
		there, where, err := c.step(rel, s.row)
		if err == nil && x.Filter != nil {
			var is string
			is, err = c.condition(scope{rel.to, there, s.vars}, x.Filter)
			where = append(where, is)
		}
		if err != nil {
			return value{}, err
		}
		return value{sql: c.number(rel.to, there, where), kind: number}, nil
	})
}

func (c *compiler) lambda(s scope, x odata.Lambda) (string, error) {
	last := len(x.Nav.Names) - 1
	v, err := c.walk(s.origin(x.Nav), x.Nav.Names[:last], func(at scope) (value, error) {
		rel, err := c.schema.relation(at.res, x.Nav.Names[last])
		if err != nil {
			return value{}, err
		}
		if err := c.follow(rel); err != nil {
			return value{}, err
		}
		defer c.back(rel)
		outside := c.rows
		there, where, err := c.step(rel, at.row)
		if err != nil {
			return value{}, err
		}
		not := ``
		if x.Body != nil {
			is, err := c.condition(s.with(x.Var, scope{res: rel.to, row: there}), x.Body)
			if err != nil {
				return value{}, err
			}
			if x.All {
				not, is = `NOT `, `(`+is+`) IS NOT TRUE`
			}
			where = append(where, is)
		}
		return value{sql: `(` + not + c.exists(rel, at.row, there, where, outside) + `)`, kind: boolean}, nil
	})
	return v.sql, err
}

// exists is the condition that where, of which the first part joins the row there to the row here, is true of some row
// there. The rows up to outside are those around it.
func (c *compiler) exists(rel relation, here, there string, where []string, outside int) string {
	from := ` FROM ` + c.table(rel.to) + ` ` + there + ` WHERE `
	rest := `TRUE`
	if len(where) > 1 {
		rest = joined(where[1:], ` AND `)
	}
	if (rel.single || rel.to.virtual) && !mentions(rest, outside) {
		// Found once for all rows here, and the way to them: SQLite goes the other way only.
		id, by := here+`.id`, there+`.id`
		if rel.single {
			id = rel.from(c, here)
		} else if f, ok := rel.to.field(rel.by); ok {
			by = c.expr(f, there)
		}
		return `(` + id + ` IS NOT NULL AND ` + id + ` IN (SELECT ` + by + from + rest + `))`
	}
	return `EXISTS (SELECT 1` + from + joined(where, ` AND `) + `)`
}

// mentions reports whether sql speaks of one of the first rows of the statement.
func mentions(sql string, rows int) bool {
	for _, m := range aliases.FindAllStringSubmatch(sql, -1) {
		if n, err := strconv.Atoi(m[1]); err == nil && n <= rows {
			return true
		}
	}
	return false
}

// aliases are the names that compiler.alias gives.
var aliases = regexp.MustCompile(`\bt([0-9]+)\.`)

var operators = map[odata.Op]string{"eq": ` = `, "ne": ` IS DISTINCT FROM `, "gt": ` > `, "ge": ` >= `, "lt": ` < `, "le": ` <= `}

// compare compiles a comparison. Nothing equals NULL but null itself, and everything else is unequal to it.
func (c *compiler) compare(op odata.Op, left, right value) (string, error) {
	if left.literal != nil && right.literal != nil {
		return constantly(op, left.literal.Value, right.literal.Value)
	}
	for _, v := range []struct{ one, other value }{{left, right}, {right, left}} {
		if v.other.literal == nil || v.other.literal.Value != nil {
			continue
		}
		switch op {
		case "eq":
			return `(` + v.one.sql + ` IS NULL)`, nil
		case "ne":
			return `(` + v.one.sql + ` IS NOT NULL)`, nil
		}
		return "", invalid("null is neither more nor less than anything")
	}
	like := left.kind
	if left.literal != nil {
		like = right.kind
	}
	if like == document {
		return "", invalid("JSON cannot be compared")
	}
	l, err := c.sql(left, like)
	if err != nil {
		return "", err
	}
	r, err := c.sql(right, like)
	if err != nil {
		return "", err
	}
	return `(` + l + operators[op] + r + `)`, nil
}

// constantly is a comparison of two literals: TRUE or FALSE.
func constantly(op odata.Op, left, right any) (string, error) {
	order, comparable := 1, false
	switch l := left.(type) {
	case string:
		if r, ok := right.(string); ok {
			order, comparable = cmp.Compare(l, r), true
		}
	case int64:
		switch r := right.(type) {
		case int64:
			order, comparable = cmp.Compare(l, r), true
		case float64:
			order, comparable = cmp.Compare(float64(l), r), true
		}
	case float64:
		switch r := right.(type) {
		case int64:
			order, comparable = cmp.Compare(l, float64(r)), true
		case float64:
			order, comparable = cmp.Compare(l, r), true
		}
	case time.Time:
		if r, ok := right.(time.Time); ok {
			order, comparable = l.Compare(r), true
		}
	case time.Duration:
		if r, ok := right.(time.Duration); ok {
			order, comparable = cmp.Compare(l, r), true
		}
	case bool:
		if r, ok := right.(bool); ok && (op == "eq" || op == "ne") {
			comparable = true
			if l == r {
				order = 0
			}
		}
	}
	switch {
	case comparable:
	case left != nil && right != nil, op != "eq" && op != "ne":
		return "", invalid("%s and %s cannot be compared", inWords(left), inWords(right))
	case left == nil && right == nil:
		order = 0
	}
	is := map[odata.Op]bool{
		"eq": order == 0, "ne": order != 0, "gt": order > 0, "ge": order >= 0, "lt": order < 0, "le": order <= 0,
	}[op]
	return strings.ToUpper(strconv.FormatBool(is)), nil
}

func (c *compiler) in(s scope, x odata.In) (string, error) {
	v, err := c.operand(s, x.X)
	if err != nil {
		return "", err
	}
	_, field := x.X.(odata.Path)
	if v.literal != nil || v.kind == document || v.kind == boolean && !field { // a condition in a list in a list … would grow without bounds
		return "", invalid("only a field can be in a list of values")
	}
	var values, is []string
	for _, l := range x.Values {
		if l.Value == nil {
			is = append(is, v.sql+` IS NULL`)
			continue
		}
		r, err := c.sql(value{literal: &l}, v.kind)
		if err != nil {
			return "", err
		}
		values = append(values, r)
	}
	if values != nil {
		is = append(is, v.sql+` IN (`+strings.Join(values, `, `)+`)`)
	}
	return `(` + strings.Join(is, ` OR `) + `)`, nil
}

// numeric: its values can be compared with other numbers, and calculated with.
func (k kind) numeric() bool { return k == number || k == big || k == ref || k == real }

// sql is a value as one of kind like. Numbers and booleans are written out, texts are arguments.
func (c *compiler) sql(v value, like kind) (string, error) {
	if v.literal == nil {
		if v.kind != like && !(v.kind.numeric() && like.numeric()) {
			return "", invalid("%s cannot be compared with %s", v.kind, like)
		}
		return v.sql, nil
	}
	switch l := v.literal.Value.(type) {
	case int64:
		if like.numeric() {
			return strconv.FormatInt(l, 10), nil
		}
	case float64:
		if like.numeric() {
			return strconv.FormatFloat(l, 'e', -1, 64), nil
		}
	case bool:
		if like == boolean {
			return strings.ToUpper(strconv.FormatBool(l)), nil
		}
	case time.Time:
		if like == moment {
			return strconv.FormatInt(l.UnixMilli(), 10), nil
		}
	case time.Duration:
		if like == span {
			return strconv.FormatInt(l.Milliseconds(), 10), nil
		}
	case string:
		switch {
		case like == text:
			return c.arg(l), nil
		case like == moment:
			t, err := odata.ParseTime(l)
			return strconv.FormatInt(t.UnixMilli(), 10), err
		case like.numeric():
			if n, err := strconv.ParseInt(l, 10, 64); err == nil {
				return strconv.FormatInt(n, 10), nil
			}
		}
	}
	return "", invalid("%s cannot be compared with %s", inWords(v.literal.Value), like)
}

// inWords is a literal in an error.
func inWords(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "'" + v + "'"
	}
	return fmt.Sprint(v)
}
