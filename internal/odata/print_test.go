package odata_test

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/internal/odata"
)

// print is the path and the query string that ask for q: the inverse of Parse.
func print(q *odata.Query) (path, rawQuery string) {
	path = q.Resource
	var key []string
	for _, k := range q.Key {
		if k.Name == "" {
			key = append(key, expr(k.Value))
		} else {
			key = append(key, k.Name+"="+expr(k.Value))
		}
	}
	if key != nil {
		path += "(" + strings.Join(key, ",") + ")"
	}
	if q.Count {
		path += "/$count"
	}
	if q.Action != "" {
		path += "/" + q.Action
	}
	var all []string
	for _, o := range options(q.Options) {
		name, value, _ := strings.Cut(o, "=")
		all = append(all, name+"="+url.QueryEscape(value))
	}
	return path, strings.Join(all, "&")
}

func options(o odata.Options) (all []string) {
	if o.Select != nil {
		all = append(all, "$select="+strings.Join(o.Select, ","))
	}
	var expands []string
	for _, e := range o.Expand {
		s := e.Name
		if e.Count {
			s += "/$count"
		}
		if inner := options(e.Options); inner != nil {
			s += "(" + strings.Join(inner, ";") + ")"
		}
		expands = append(expands, s)
	}
	if expands != nil {
		all = append(all, "$expand="+strings.Join(expands, ","))
	}
	if o.Filter != nil {
		all = append(all, "$filter="+expr(o.Filter))
	}
	var orders []string
	for _, by := range o.OrderBy {
		direction := " asc"
		if by.Desc {
			direction = " desc"
		}
		orders = append(orders, expr(by.By)+direction)
	}
	if orders != nil {
		all = append(all, "$orderby="+strings.Join(orders, ","))
	}
	if o.Top != nil {
		all = append(all, fmt.Sprintf("$top=%d", *o.Top))
	}
	if o.Skip != nil {
		all = append(all, fmt.Sprintf("$skip=%d", *o.Skip))
	}
	return all
}

func expr(x odata.Expr) string {
	join := func(all []odata.Expr, word string) string {
		var parts []string
		for _, x := range all {
			parts = append(parts, term(x))
		}
		return strings.Join(parts, " "+word+" ")
	}
	switch x := x.(type) {
	case odata.And:
		return join(x, "and")
	case odata.Or:
		return join(x, "or")
	case odata.Not:
		return "not " + term(x.X)
	case odata.Compare:
		return operand(x.Left) + " " + string(x.Op) + " " + operand(x.Right)
	case odata.In:
		var values []string
		for _, v := range x.Values {
			values = append(values, expr(v))
		}
		return operand(x.X) + " in (" + strings.Join(values, ",") + ")"
	case odata.Arith:
		return factor(x.Left) + " " + string(x.Op) + " " + factor(x.Right)
	case odata.Lambda:
		word := "any"
		if x.All {
			word = "all"
		}
		if x.Body == nil {
			return expr(x.Nav) + "/any()"
		}
		return expr(x.Nav) + "/" + word + "(" + x.Var + ":" + expr(x.Body) + ")"
	case odata.Call:
		var args []string
		for _, a := range x.Args {
			args = append(args, operand(a))
		}
		return x.Func + "(" + strings.Join(args, ",") + ")"
	case odata.Count:
		if x.Filter != nil {
			return expr(x.Nav) + "/$count($filter=" + expr(x.Filter) + ")"
		}
		return expr(x.Nav) + "/$count"
	case odata.Path:
		names := x.Names
		if x.Var != "" {
			names = append([]string{x.Var}, names...)
		}
		return strings.Join(names, "/")
	case odata.Literal:
		return literal(x.Value)
	}
	panic(fmt.Sprintf("an expression of type %T", x))
}

// term is x, in parentheses if it is a chain itself.
func term(x odata.Expr) string {
	switch x.(type) {
	case odata.And, odata.Or:
		return "(" + expr(x) + ")"
	}
	return expr(x)
}

// operand is x, in parentheses where precedence asks for them.
func operand(x odata.Expr) string {
	switch x.(type) {
	case odata.And, odata.Or, odata.Not, odata.Compare, odata.In:
		return "(" + expr(x) + ")"
	}
	return expr(x)
}

// factor is x, in parentheses if it is not a single thing.
func factor(x odata.Expr) string {
	if _, ok := x.(odata.Arith); ok {
		return "(" + expr(x) + ")"
	}
	return operand(x)
}

func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	case time.Time:
		return "datetime'" + v.Format(time.RFC3339Nano) + "'"
	case time.Duration:
		sign := ""
		if v < 0 {
			sign, v = "-", -v
		}
		return fmt.Sprintf("duration'%sPT%d.%09dS'", sign, v/time.Second, v%time.Second)
	case float64:
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return s
	}
	return fmt.Sprint(v)
}
