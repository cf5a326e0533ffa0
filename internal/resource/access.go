package resource

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
)

// verb is what an actor wants with rows.
type verb uint8

const (
	read verb = 1 << iota
	create
	update
	remove
	hold // make API keys for it
	all  = read | create | update | remove
)

func (v verb) String() string {
	switch v {
	case read:
		return "read"
	case create:
		return "create"
	case update:
		return "change"
	case remove:
		return "delete"
	}
	return "make keys for"
}

// who is a set of kinds of actor.
type who uint8

const (
	nobody       who = 1 << fleet.Nobody
	user         who = 1 << fleet.UserActor
	device       who = 1 << fleet.DeviceActor
	provisioning who = 1 << fleet.FleetActor
	known            = user | device | provisioning
	anyone           = nobody | known
)

// grant lets some actors do something with some rows. What no grant allows is denied.
type grant struct {
	who  who
	may  verb
	rows string // a condition in which {t} is the row, {me} the actor's user, device or fleet, {actor} its actor row, {fleet} its fleet, {now} the time
	via  string // instead: the rows whose reference of this name leads to a row the actor may read or, to do more than read, change
	// named: only to a query that names the row by this field.
	named string
	only  string // fields that may be changed, with spaces between; "" is all that can be
}

// everyRow is the condition of what is for all.
const everyRow = "TRUE"

// registering: the device was made within the hour and has not been heard of since, so that its registration may have
// gone without an answer (protocol §1.4). Later a fleet's key, which is on every card, opens no device of it.
const registering = `{t}.created_at >= {now} - 3600000000 AND COALESCE({t}.last_seen, 0) <= {t}.created_at AND {t}.status IS NULL`

// myFleets are the fleets of the organizations a user is a member of.
const myFleets = `(SELECT f.id FROM fleets f JOIN organization_memberships m ON m.organization = f.organization WHERE m.user_id = {me})`

// rule is the condition under which the actor may do v with the row t of r. q is the query that asks for the row, nil
// if none does directly.
func (c *compiler) rule(r *resource, t string, v verb, q *odata.Query) (string, error) {
	var rows []string
	for _, g := range r.access {
		if g.who&(1<<c.actor.Kind) == 0 || g.may&v == 0 || v == update && !g.covers(c.writes) || g.named != "" && !names(q, g.named) {
			continue
		}
		if g.via == "" {
			rows = append(rows, c.fill(g.rows, t))
			continue
		}
		rel, err := c.schema.relation(r, g.via)
		if err != nil {
			return "", err
		}
		there, through := c.alias(), read
		if v != read {
			through = update
		}
		writes := c.writes
		c.writes = nil // they are not the other resource's
		above, err := c.rule(rel.to, there, through, nil)
		c.writes = writes
		if fault.Is(err, fault.Denied) {
			continue
		}
		if err != nil {
			return "", err
		}
		rows = append(rows, `EXISTS (SELECT 1 FROM `+rel.to.table+` `+there+` WHERE `+rel.joins(c, t, there)+` AND `+above+`)`)
	}
	if len(rows) == 0 {
		return "", c.denied(r, v)
	}
	return `(` + joined(rows, ` OR `) + `)`, nil
}

// covers reports whether the grant is for a change of all these fields.
func (g grant) covers(fields []string) bool {
	return g.only == "" || !slices.ContainsFunc(fields, func(name string) bool { return !called(g.only, name) })
}

// field finds a field that the actor may see.
func (c *compiler) field(r *resource, name string) (field, bool) {
	f, ok := r.field(name)
	return f, ok && c.sees(r, f)
}

func (c *compiler) sees(r *resource, f field) bool {
	return c.actor.Kind == fleet.UserActor || !called(r.usersOnly, first(f.name))
}

// denied says that no grant lets the actor do v with any row of r.
func (c *compiler) denied(r *resource, v verb) error {
	if c.actor.Kind == fleet.Nobody {
		return fault.New(fault.Unauthenticated, "Unauthorized")
	}
	what := r.name
	if len(c.writes) > 0 {
		what = strings.Join(c.writes, " and ") + " of " + what
	}
	return fault.Newf(fault.Denied, "a key of this kind (%s) may not %s %s", c.actor.Kind, v, what)
}

// fill puts the row and the actor into a condition. The numbers are the server's own.
func (c *compiler) fill(condition, t string) string {
	return strings.NewReplacer("{t}", t, "{me}", strconv.FormatInt(c.actor.ID, 10),
		"{actor}", strconv.FormatInt(c.actor.Actor, 10), "{fleet}", strconv.FormatInt(c.actor.Fleet, 10),
		"{now}", strconv.FormatInt(c.now, 10)).Replace(condition)
}

// names reports whether every row that q asks for has a certain value of a field.
func names(q *odata.Query, name string) bool {
	if q == nil {
		return false
	}
	for _, k := range q.Key {
		if k.Name == name {
			return true
		}
	}
	parts, ok := q.Filter.(odata.And)
	if !ok {
		parts = odata.And{q.Filter}
	}
	for _, x := range parts {
		e, ok := x.(odata.Compare)
		if !ok || e.Op != "eq" {
			continue
		}
		left, field := e.Left.(odata.Path)
		right, value := e.Right.(odata.Literal)
		if field && value && left.Var == "" && len(left.Names) == 1 && left.Names[0] == name && right.Value != nil {
			return true
		}
	}
	return false
}
