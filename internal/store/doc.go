// Package store owns every SQL statement and migration of the server. SQLite is the engine; the text keeps to what
// PostgreSQL also reads ($1, ON CONFLICT, RETURNING, BIGINT microseconds, JSON as TEXT), so that a second engine
// is a second migrations folder. It owns no rules: what may be written is decided before it is called.
package store
