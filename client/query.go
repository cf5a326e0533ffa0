package client

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Query chooses rows and what is read of them. The zero value asks for all columns of all rows.
type Query struct {
	Select  []string // columns
	Expand  []string // related rows, each as OData writes it: "owns__device($select=id;$top=3)"
	Filter  string   // see [Filter]
	OrderBy string   // "created_at desc"
	Top     int      // at most this many rows; 0 for all
	Skip    int
}

func (q Query) encode() string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			// OData servers differ in whether + is a space.
			parts = append(parts, name+"="+strings.ReplaceAll(url.QueryEscape(value), "+", "%20"))
		}
	}
	add("$select", strings.Join(q.Select, ","))
	add("$expand", strings.Join(q.Expand, ","))
	add("$filter", q.Filter)
	add("$orderby", q.OrderBy)
	if q.Top > 0 {
		add("$top", strconv.Itoa(q.Top))
	}
	if q.Skip > 0 {
		add("$skip", strconv.Itoa(q.Skip))
	}
	return strings.Join(parts, "&")
}

// Filter writes a $filter: each ? of the format becomes the literal of an argument, so that what a person typed
// stays a value. Arguments are strings, integers, booleans, times and nil. It panics when their number differs
// from the number of ?, or their type is another.
func Filter(format string, args ...any) string {
	parts := strings.Split(format, "?")
	if len(parts) != len(args)+1 {
		panic(fmt.Sprintf("client: filter %q with %d arguments", format, len(args)))
	}
	var b strings.Builder
	for i, p := range parts {
		b.WriteString(p)
		if i < len(args) {
			b.WriteString(literal(args[i]))
		}
	}
	return b.String()
}

// And joins the filters that say something.
func And(filters ...string) string {
	filters = slices.DeleteFunc(slices.Clone(filters), func(f string) bool { return f == "" })
	if len(filters) < 2 {
		return strings.Join(filters, "")
	}
	return "(" + strings.Join(filters, ") and (") + ")"
}

// Key is the path of one row: by id, Key("device", 7), or by a natural key, Key("device", "uuid", "7cf0…").
// Names and values alternate when there are several.
func Key(resource string, key ...any) string {
	if len(key) == 1 {
		return resource + "(" + keyPart(key[0]) + ")"
	}
	if len(key)%2 != 0 || len(key) == 0 {
		panic(fmt.Sprintf("client: key of %s with %d parts", resource, len(key)))
	}
	var parts []string
	for i := 0; i < len(key); i += 2 {
		parts = append(parts, fmt.Sprintf("%s=%s", key[i], keyPart(key[i+1])))
	}
	return resource + "(" + strings.Join(parts, ",") + ")"
}

// keyPart is a literal in a path, with quotes as they are.
func keyPart(v any) string { return strings.ReplaceAll(url.PathEscape(literal(v)), "%27", "'") }

// literal is how OData 4 writes a value; a quote inside a string is doubled.
func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return "datetime'" + v.UTC().Format(isoMillis) + "'"
	}
	panic(fmt.Sprintf("client: a %T is no literal", v))
}

// isoMillis is how times are written in bodies.
const isoMillis = "2006-01-02T15:04:05.000Z"
