// Package resource owns the public resource model: balena's v7 names, the fields and relations behind them, which rows
// an actor may see or change, and the rules of a change. It turns one odata tree into one SQL statement, with the
// access rule of every level in it. It knows no HTTP, and makes no git repository and wakes no device itself: it calls
// who does. It is larger than a room should be because the model is: a quarter of it is the table in table*.go, another
// quarter the rules of its nouns in rules*.go.
package resource

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
	"github.com/dunlin/dunlin/internal/store"
)

// Model answers queries and makes changes. Its methods may be called concurrently; its fields are set before that.
type Model struct {
	store    *store.DB
	reader   querier // of store
	schema   schema
	v6       schema
	patience time.Duration // a read may take so long
	gate     *gate
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Changed is called after a change that may concern what devices should run; no devices means the whole fleet.
	// It must not block. nil: nobody wants to know.
	Changed func(fleet int64, devices []int64)
	// Wrote is called after every change that was committed, once for each organization whose rows it concerns. It must
	// not block. nil: nobody wants to know.
	Wrote func(Write)
	// Created is called after a fleet was made; an error takes the fleet away again. nil: nothing is to be done.
	Created func(ctx context.Context, fleet int64, slug string) error
	// Removed is called after a fleet was deleted. nil: nothing is to be done.
	Removed func(ctx context.Context, fleet int64)
	// DevicesGone is called after devices were deleted, alone or with their fleet, or moved to a fleet of another
	// organization: what is kept of them by uuid alone is not for who has that uuid next. nil: nothing is to be done.
	DevicesGone func(ctx context.Context, uuids []string)
	// Cancelled is called after a running release was cancelled. nil: nobody builds.
	Cancelled func(release int64)
	// DeltaFormats are those that deltas can be made in, first the one that is meant where nobody says; none: no delta is made.
	DeltaFormats []string
	// DeltasGone is called after deltas were deleted by themselves: they may still be in the registry. nil: they are not.
	DeltasGone func(ctx context.Context, deltas []fleet.Delta)
	// Location makes up where a new image is kept: its repository, v2/<32 hex>, and that with the registry's host before
	// it. nil: no image can be made.
	Location func() (repository, location string)
	// AssetLink is what comes before and after the id of a release_asset in the address its content is fetched from. Stock
	// clients send no token there, so the link is good by itself, for what the actor may read and for a while. nil: the
	// link is the id alone.
	AssetLink func(actor fleet.Actor) (before, after string)
	// SSHFingerprint reads one public key in authorized_keys form; its error is for the caller to read. nil: no key
	// can be added.
	SSHFingerprint func(key string) (normalised, fingerprint string, err error)
}

// readPatience is what a hostile query may cost, also one that chooses the rows of a change.
const readPatience = 20 * time.Second

// New makes a model of what is in db.
func New(db *store.DB) *Model {
	return &Model{store: db, reader: db.Reader(), schema: newSchema(table()), v6: newSchema(tableV6()), patience: readPatience,
		gate: newGate()}
}

// querier is a transaction, or the pool of readers.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (m *Model) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

// Read answers a query with the protocol's body: {"d":[…]}, or {"d":n} for a count. Rows that are not there and rows
// the actor may not see look alike.
func (m *Model) Read(ctx context.Context, actor fleet.Actor, q *odata.Query) (json.RawMessage, error) {
	res, err := m.asked(q)
	if err != nil {
		return nil, err
	}
	c := m.compiler(actor)
	statement, err := c.query(res, q)
	if err != nil {
		return nil, err
	}
	d, err := m.read(ctx, actor, statement, c.args)
	if err != nil {
		return nil, err
	}
	return envelope(d), nil
}

// read is fetch for an actor, once there is a place for the question.
func (m *Model) read(ctx context.Context, actor fleet.Actor, statement string, args []any) (string, error) {
	patience := m.patience
	if actor.Kind == fleet.Nobody {
		patience /= nobodysPatience
	}
	leave, err := m.gate.enter(ctx, actor, patience)
	if err != nil {
		return "", err
	}
	defer leave()
	return fetch(ctx, m.reader, patience, statement, args)
}

// asked is the resource of a query that asks for rows, and for nothing to be done with them.
func (m *Model) asked(q *odata.Query) (*resource, error) {
	res, err := m.schema.find(q.Resource)
	if err == nil && q.Action != "" {
		err = fault.Newf(fault.NotFound, "%s has no action %q here", res.name, q.Action)
	}
	return res, err
}

// envelope is a value as the protocol's body.
func envelope(d string) json.RawMessage {
	body := make(json.RawMessage, 0, len(`{"d":`)+len(d)+len(`}`))
	return append(append(append(body, `{"d":`...), d...), '}')
}

// fetch runs a statement that has one value, a text. SQLite can be interrupted only before it shows the first row, so
// all the work is in that one. A statement that takes longer than patience is fault.TooLarge.
func fetch(ctx context.Context, db querier, patience time.Duration, statement string, args []any) (string, error) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var value string
	err := db.QueryRowContext(limited, statement, args...).Scan(&value)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return "", fault.Wrap(fault.TooLarge, err, fmt.Sprintf("the query takes longer than %v", patience)).
			WithHint("ask for fewer rows, or expand less")
	}
	if err != nil {
		return "", fmt.Errorf("query resources: %w", err)
	}
	return value, nil
}

// Find reads one row into a struct, in the name of actor. path has a key; it and options are as in odata.Parse. found is
// false if there is no such row, or none the actor may see.
func (m *Model) Find(ctx context.Context, actor fleet.Actor, path, options string, into any) (found bool, err error) {
	q, err := odata.Parse(path, options)
	if err != nil {
		return false, err
	}
	body, err := m.Read(ctx, actor, q)
	if err != nil {
		return false, err
	}
	var answer struct {
		D []json.RawMessage `json:"d"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	if len(answer.D) == 0 {
		return false, nil
	}
	if err := json.Unmarshal(answer.D[0], into); err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return true, nil
}

// KeyHolder is the actor row of a device or an application that actor may make API keys for. One a user may look at and no
// more is fault.Denied; any other it may not is fault.NotFound, as one that is not there.
func (m *Model) KeyHolder(ctx context.Context, actor fleet.Actor, name string, id int64) (int64, error) {
	res, err := m.schema.find(name)
	if err != nil {
		return 0, err
	}
	c := m.compiler(actor)
	rule, err := c.rule(res, "t", hold, nil)
	if err != nil {
		return 0, err
	}
	var holder int64
	err = m.store.Reader().QueryRowContext(ctx, `SELECT t.actor FROM `+res.table+` t WHERE t.id = `+c.arg(id)+` AND `+rule, c.args...).Scan(&holder)
	if errors.Is(err, sql.ErrNoRows) {
		var seen struct{ ID int64 }
		if found, err := m.Find(ctx, actor, fmt.Sprintf("%s(%d)", res.name, id), "$select=id", &seen); err == nil && found && actor.Kind == fleet.UserActor {
			return 0, fault.Newf(fault.Denied, "you may look at this %s, but make no keys for it", res.name).
				WithHint("ask an owner of its organization for another role")
		}
		return 0, fault.Newf(fault.NotFound, "there is no such %s", res.name)
	}
	if err != nil {
		return 0, fmt.Errorf("find %s %d: %w", res.name, id, err)
	}
	return holder, nil
}
