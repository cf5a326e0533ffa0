package resource

import (
	"context"
	"fmt"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
)

// kind is what a field's value is and how it travels.
type kind uint8

const (
	number kind = iota + 1
	big         // an integer that travels as a string
	text
	boolean
	moment   // microseconds in the database, ISO 8601 with milliseconds on the wire
	document // JSON
	ref      // the id of a row of another resource
	// No field is one of these; a filter may be.
	real // a number with a fraction
	span // milliseconds
)

func (k kind) String() string {
	return [...]string{"nothing", "a number", "a number", "a string", "true or false", "a time", "JSON", "a number", "a number", "a duration"}[k]
}

// null is a NULL of the kind: PostgreSQL takes one without a type for a text.
func (k kind) null() string {
	switch k {
	case text, document:
		return `CAST(NULL AS TEXT)`
	case boolean:
		return `CAST(NULL AS BOOLEAN)`
	}
	return `CAST(NULL AS BIGINT)`
}

// write is what a change may do with a field.
type write uint8

const (
	onCreate  write = 1 << iota // may be given when the row is made
	onUpdate                    // may be changed
	must                        // must be given when the row is made
	orNull                      // may be null
	always    = onCreate | onUpdate
	atFirst   = onCreate | must
	mandatory = onCreate | onUpdate | must
)

// resource is one row of the table: what the world calls it and what it is made of.
type resource struct {
	name  string // and its synonyms, after spaces
	table string // or a SELECT in parentheses, which may ask for what a grant's condition may but {t}
	// fields besides id, created_at and modified_at, which each has unless it is virtual.
	fields  []field
	navs    []nav
	access  []grant
	virtual bool
	few     bool // an actor can reach few of the rows, and many rows of other resources by them; no grant of it has a via or a name
	// shown are fields that, asked for without a name, show another than their first.
	shown map[string]string
	// usersOnly names fields that, for every other kind of actor, are not there: what a build says quotes its source.
	usersOnly string
	// asked names fields that an answer has only if $select names them: they are long, or clients stumble over them.
	asked string
	// asks are what a creation may also say, or says in another way than the rows do: its rule makes fields of them.
	asks []field
	// place says whose the rows are, for the trail; nil: as what their access goes by.
	place *place
	// affects says whose targets a change of a row concerns; nil for nobody's.
	affects *affects
	before  rule // of a change, before the row is written
	after   rule // of a change, in the same transaction
}

// field is a value of a row.
type field struct {
	name  string // and its synonyms, after spaces
	kind  kind
	sql   string // column, or an expression in which {t} is the row and {now} the time; "" is the column of that name
	to    string // resource a ref leads to; "" for a ref that cannot be followed
	write write
}

// nav leads to the rows of another resource that refer to this row.
type nav struct {
	name string // and its synonyms, after spaces
	to   string
	by   string // field of the other resource
}

// affects is a fleet (NULL for none) and a device of it (NULL for all), in SQL, and a text of what targets have of the row
// {t}: a change that leaves all of them as they are concerns nobody. "" is what no change leaves as it is.
type affects struct{ fleet, device, target string }

// rule is what a resource asks of a change beyond access.
type rule func(ctx context.Context, w *change) error

// schema is the table by name and synonym; it never changes after it is made.
type schema map[string]*resource

func newSchema(table []resource) schema {
	s := schema{}
	for _, r := range table {
		if !r.virtual {
			r.fields = append(append([]field{{name: "id", kind: number}}, r.fields...),
				field{name: "created_at", kind: moment}, field{name: "modified_at", kind: moment})
		}
		for name := range strings.FieldsSeq(r.name) {
			s[name] = &r
		}
		r.name = first(r.name)
	}
	return s
}

// find looks a resource up by name or synonym.
func (s schema) find(name string) (*resource, error) {
	if r, ok := s[name]; ok {
		return r, nil
	}
	return nil, fault.Newf(fault.NotFound, "there is no resource %q", name)
}

// first is the name that is not a synonym.
func first(names string) string { return strings.Fields(names)[0] }

// called reports whether name is one of names.
func called(names, name string) bool {
	for n := range strings.FieldsSeq(names) {
		if n == name {
			return true
		}
	}
	return false
}

// field finds a field by name or synonym.
func (r *resource) field(name string) (field, bool) {
	for _, f := range r.fields {
		if called(f.name, name) {
			return f, true
		}
	}
	return field{}, false
}

// column is the column of the table behind a field, "" if it is computed.
func (f field) column() string {
	switch {
	case f.sql == "":
		return first(f.name)
	case strings.ContainsAny(f.sql, "{( '") || f.sql == "NULL" || f.sql == "FALSE":
		return ""
	}
	return f.sql
}

// unknown is the error of a name that r does not have.
func (r *resource) unknown(what, name string) error {
	return fault.Newf(fault.Invalid, "%s has no %s %q", r.name, what, name)
}

// relation is a step from a row to rows of another resource.
type relation struct {
	name   string // of the relation here, unique
	of, to *resource
	single bool
	by     string // of many rows: the field there that refers to the row here
	// from is the id of the row there, of a single relation.
	from func(c *compiler, here string) string
	// joins is the condition under which row there belongs to row here.
	joins func(c *compiler, here, there string) string
}

// relation finds the step of that name.
func (s schema) relation(r *resource, name string) (relation, error) {
	if f, ok := r.field(name); ok && f.kind == ref && f.to != "" {
		to, err := s.find(f.to)
		from := func(c *compiler, here string) string { return c.expr(f, here) }
		return relation{name: first(f.name), of: r, to: to, single: true, from: from, joins: func(c *compiler, here, there string) string {
			return there + ".id = " + from(c, here)
		}}, err
	}
	for _, n := range r.navs {
		if !called(n.name, name) {
			continue
		}
		to, err := s.find(n.to)
		if err != nil {
			return relation{}, err
		}
		by, ok := to.field(n.by)
		if !ok {
			return relation{}, fmt.Errorf("resource %s leads to %s by %s, which it has not", r.name, n.to, n.by)
		}
		return relation{name: r.name + "/" + first(n.name), of: r, to: to, by: first(by.name), joins: func(c *compiler, here, there string) string {
			return c.expr(by, there) + " = " + here + ".id"
		}}, nil
	}
	return relation{}, r.unknown("relation", name)
}
