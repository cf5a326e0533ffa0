package resource

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// Write is a change of rows that was committed, for who tells others of it.
type Write struct {
	Actor    fleet.Actor
	Verb     string // create, change or delete
	Resource string // by its v7 name
	IDs      []int64
	// Fleets are those it concerns, each with the devices of it; no devices means all of them.
	Fleets       map[int64][]int64
	Organization int64 // whose rows they are; 0 for nobody's
}

// place says whose a row {t} is, in SQL; "" is nobody's.
type place struct{ organization, fleet, device string }

// placed is the place of one row.
type placed struct{ id, organization, fleet, device int64 }

// places are those of rows before a change and after it, each once.
type places struct {
	all   []placed
	known map[placed]bool
}

// ofFleet is the place of a row that a fleet has.
func ofFleet(id string) *place {
	return &place{organization: "(SELECT o.organization FROM fleets o WHERE o.id = " + id + ")", fleet: id}
}

// place is the place of r's rows: its own, or that of what its access goes by.
func (s schema) place(r *resource) (place, error) {
	if r.place != nil {
		return *r.place, nil
	}
	for _, g := range r.access {
		f, ok := r.field(g.via)
		if g.via == "" || !ok {
			continue
		}
		to, err := s.find(f.to)
		if err != nil {
			return place{}, err
		}
		above, err := s.place(to)
		if err != nil {
			return place{}, err
		}
		by := f.sql
		if column := f.column(); column != "" {
			by = "{t}." + column
		}
		up := func(x string) string {
			if x == "" {
				return ""
			}
			p := "in_" + to.name // no resource is in one of its own kind
			return `(SELECT ` + strings.ReplaceAll(x, "{t}", p) + ` FROM ` + to.table + ` ` + p + ` WHERE ` + p + `.id = ` + by + `)`
		}
		return place{up(above.organization), up(above.fleet), up(above.device)}, nil
	}
	return place{}, nil
}

// locate notes whose the rows are now: before a change and after it that may not be the same.
func (w *change) locate(ctx context.Context) error {
	p, err := w.schema.place(w.res)
	if err != nil {
		return err
	}
	number := func(x string) string {
		if x == "" {
			return "0"
		}
		return "COALESCE(" + strings.ReplaceAll(x, "{t}", "t") + ", 0)"
	}
	for list := range lists(w.ids) {
		if err := w.places.read(w.tx.QueryContext(ctx, `SELECT t.id, `+number(p.organization)+`, `+number(p.fleet)+`, `+number(p.device)+
			` FROM `+w.res.table+` t WHERE t.id IN `+list+` ORDER BY t.id`)); err != nil {
			return err
		}
	}
	return nil
}

// read adds places that are not among them yet.
func (p *places) read(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	if p.known == nil {
		p.known = map[placed]bool{}
	}
	for rows.Next() {
		var at placed
		if err := rows.Scan(&at.id, &at.organization, &at.fleet, &at.device); err != nil {
			return err
		}
		if !p.known[at] {
			p.known[at], p.all = true, append(p.all, at)
		}
	}
	return rows.Err()
}

// auditedRows is how many rows of one change have a row each on the trail; the rest of them have one together.
const auditedRows = 100

// audit puts the change on the trail.
func (w *change) audit(ctx context.Context) error {
	entry := store.Audit{
		Time: time.UnixMicro(w.now), Actor: w.actor, Verb: w.verb.String(), Resource: w.res.name, Details: w.told(),
	}
	more := map[placed]int{}
	for i, at := range w.places.all {
		if i >= auditedRows {
			more[placed{organization: at.organization, fleet: at.fleet}]++
			continue
		}
		entry.Row, entry.Organization, entry.Fleet = at.id, at.organization, at.fleet
		if err := store.AddAudit(ctx, w.tx, entry); err != nil {
			return err
		}
	}
	entry.Row = 0
	for _, at := range slices.SortedFunc(maps.Keys(more), func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.organization, b.organization), cmp.Compare(a.fleet, b.fleet))
	}) {
		entry.Organization, entry.Fleet, entry.Details["rows"] = at.organization, at.fleet, more[at]
		if err := store.AddAudit(ctx, w.tx, entry); err != nil {
			return err
		}
	}
	return nil
}

// told are texts whose values the trail may have; of the others, and of documents, it has the names. Numbers,
// references, times and what is true or not have no secrets.
const told = "app_name commit device_name handle invitee name service_name status tag_key title username"

// toldBytes bounds such a text.
const toldBytes = 255

// told is what the trail says of a change: the fields that were written, and the values that are nobody's secret.
func (w *change) told() map[string]any {
	details := maps.Clone(w.details)
	var withheld []string
	for _, name := range slices.Sorted(maps.Keys(w.given)) {
		f, _ := w.field(name)
		switch v := w.given[name].(type) {
		case int64:
			details[name] = v
			if f.kind == moment {
				details[name] = time.UnixMicro(v).UTC().Format("2006-01-02T15:04:05.000Z")
			}
		case nil, bool:
			details[name] = v
		case string:
			if called(told, name) {
				details[name] = clipped(v)
				continue
			}
			withheld = append(withheld, name)
		default:
			withheld = append(withheld, name)
		}
	}
	if len(withheld) > 0 {
		details["withheld"] = withheld
	}
	return details
}

// clipped is a text of bounded length.
func clipped(s string) string {
	if len(s) <= toldBytes {
		return s
	}
	s = s[:toldBytes]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}

// wrote is the change for Wrote: one for each organization whose rows it concerns.
func (w *change) wrote() []Write {
	type sum struct {
		ids     map[int64]bool
		touched touched
	}
	all := map[int64]sum{}
	for _, at := range w.places.all {
		one, ok := all[at.organization]
		if !ok {
			one = sum{map[int64]bool{}, touched{}}
			all[at.organization] = one
		}
		one.ids[at.id] = true
		if at.fleet != 0 {
			one.touched.add(at.fleet, at.device)
		}
	}
	var writes []Write
	for _, organization := range slices.Sorted(maps.Keys(all)) {
		one := Write{
			Actor: w.actor, Verb: w.verb.String(), Resource: w.res.name, Organization: organization,
			IDs: slices.Sorted(maps.Keys(all[organization].ids)), Fleets: map[int64][]int64{},
		}
		for f := range all[organization].touched {
			one.Fleets[f] = all[organization].touched.of(f)
		}
		writes = append(writes, one)
	}
	return writes
}
