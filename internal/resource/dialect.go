package resource

import "strings"

// This file is the one place that knows how SQLite spells what PostgreSQL spells otherwise. Rows leave the database as
// JSON text that is put together there, so that a query with all its expansions is one statement.

// quoted is a text as JSON, null for NULL. PostgreSQL: COALESCE(to_json(x)::text, 'null').
func quoted(x string) string { return `json_quote(` + x + `)` }

// truth is a boolean as JSON.
func truth(x string) string {
	return `CASE ` + x + ` WHEN TRUE THEN 'true' WHEN FALSE THEN 'false' ELSE 'null' END`
}

// iso is a time in microseconds as JSON, to the millisecond and never rounded up.
// PostgreSQL: to_char(to_timestamp((x / 1000) / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"').
func iso(x string) string {
	return `COALESCE('"' || strftime('%Y-%m-%dT%H:%M:%fZ', (` + x + ` / 1000) / 1000.0, 'unixepoch') || '"', 'null')`
}

// documentText is a JSON column as it is; what is no JSON is null. PostgreSQL: COALESCE(x, 'null') of a checked column.
func documentText(x string) string {
	return `CASE WHEN json_valid(` + x + `) THEN ` + x + ` ELSE 'null' END`
}

// position is where part begins in x, from 1; 0 if it does not occur. PostgreSQL: strpos(x, part).
func position(x, part string) string { return `instr(` + x + `, ` + part + `)` }

// gathered is the JSON array of the column j of the rows of query, in their order. PostgreSQL: string_agg.
func gathered(query string) string {
	return `(SELECT '[' || COALESCE(group_concat(j, ','), '') || ']' FROM (` + query + `))`
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
