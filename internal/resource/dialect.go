package resource

import (
	"strings"

	"github.com/dunlin/dunlin/internal/store"
)

// dialect is the one place that knows what the two engines spell differently. Rows leave the database as JSON text that
// is put together there, so that a query with all its expansions is one statement; both engines write the same bytes.
type dialect store.Dialect

func (d dialect) either(sqlite, postgres string) string {
	if store.Dialect(d) == store.PostgreSQL {
		return postgres
	}
	return sqlite
}

// quoted is a text as JSON, null for NULL.
func (d dialect) quoted(x string) string {
	return d.either(`json_quote(`+x+`)`, `COALESCE(to_json(CAST(`+x+` AS TEXT))::text, 'null')`)
}

// iso is a time in microseconds as JSON, to the millisecond and never rounded up.
func (d dialect) iso(x string) string {
	return d.either(
		`COALESCE('"' || strftime('%Y-%m-%dT%H:%M:%fZ', (`+x+` / 1000) / 1000.0, 'unixepoch') || '"', 'null')`,
		`COALESCE(to_char(to_timestamp((`+x+` / 1000) / 1000.0) AT TIME ZONE 'UTC', '"\""YYYY-MM-DD"T"HH24:MI:SS.MS"Z\""'), 'null')`)
}

// part is a part of a time in milliseconds, as a number: year, month or day.
func (d dialect) part(name, x string) string {
	letter := map[string]string{"year": "Y", "month": "m", "day": "d"}[name]
	return d.either(
		`CAST(strftime('%`+letter+`', `+x+` / 1000, 'unixepoch') AS INTEGER)`,
		`CAST(EXTRACT(`+strings.ToUpper(name)+` FROM to_timestamp(`+x+` / 1000) AT TIME ZONE 'UTC') AS BIGINT)`)
}

// documentText is a JSON column as it is. On SQLite, where anybody may have edited the file, what is no JSON is null.
func (d dialect) documentText(x string) string {
	return d.either(`CASE WHEN json_valid(`+x+`) THEN `+x+` ELSE 'null' END`, `COALESCE(`+x+`, 'null')`)
}

// position is where part begins in x, from 1; 0 if it does not occur.
func (d dialect) position(x, part string) string {
	return d.either(`instr(`+x+`, `+part+`)`, `strpos(`+x+`, `+part+`)`)
}

// letters is x with its letters small or capital (lower, upper). The letters are those of ASCII.
func (d dialect) letters(function, x string) string {
	return d.either(function+`(`+x+`)`, function+`((`+x+`) COLLATE "C")`)
}

// real is a number as one that has a fraction. PostgreSQL's has no bounds: where SQLite has an infinity, its own
// floating-point numbers have an error.
func (d dialect) real(x string) string {
	return d.either(`CAST(`+x+` AS REAL)`, `CAST(`+x+` AS NUMERIC)`)
}

// rare is a condition that few rows meet. SQLite, which does not know how texts are distributed, takes it for one that
// a quarter does.
func (d dialect) rare(condition string) string {
	return d.either(`likelihood(`+condition+`, 0.001)`, condition)
}

// list is the JSON array of the column j of the rows of query, in their order.
func (d dialect) list(query string) string {
	return `SELECT '[' || COALESCE(` + d.either(`group_concat`, `string_agg`) + `(j, ','), '') || ']' FROM (` + query + `) AS g`
}

// truth is a boolean as JSON.
func truth(x string) string {
	return `CASE ` + x + ` WHEN TRUE THEN 'true' WHEN FALSE THEN 'false' ELSE 'null' END`
}

// numeral is a number as JSON.
func numeral(x string) string { return `COALESCE(CAST(` + x + ` AS TEXT), 'null')` }

// numeralText is a number as a JSON string, for those too big for a JavaScript number.
func numeralText(x string) string { return `COALESCE('"' || CAST(` + x + ` AS TEXT) || '"', 'null')` }

// deferred is a reference that was not followed.
func deferred(x string) string {
	return `COALESCE('{"__id":' || CAST(` + x + ` AS TEXT) || '}', 'null')`
}

// joined puts terms together with an operator as a balanced tree: SQLite bounds the depth of an expression, and a
// chain of || copies its whole beginning at each step.
func joined(terms []string, operator string) string {
	if len(terms) == 1 {
		return terms[0]
	}
	half := len(terms) / 2
	return `(` + joined(terms[:half], operator) + operator + joined(terms[half:], operator) + `)`
}

// constant is a string constant.
func constant(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }
