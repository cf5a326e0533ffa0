// Package store owns every SQL statement and migration of the server. There are two engines, SQLite and PostgreSQL, and
// one text for both ($1, ON CONFLICT, RETURNING, BIGINT microseconds, JSON as TEXT); each has a folder of migrations of
// its own, that make the same tables. It owns no rules: what may be written is decided before it is called. It is
// larger than a room should be because every room's needs end here: a file for each noun.
package store
