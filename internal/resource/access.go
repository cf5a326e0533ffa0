package resource

import (
	"fmt"
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
	hold    // make API keys for it
	operate // reach it: tunnels, calls of its supervisor
	all     = read | create | update | remove
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
	case operate:
		return "operate"
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
	who who
	may verb
	// rows is a condition in which {t} is the row, {me} the actor's user, device or fleet, {actor} its actor row, {fleet}
	// its fleet, {administrator} whether it is a user who may make accounts, {now} the time. What a user may do goes by
	// rank: see fleetsOf and organizationsOf.
	rows string
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

// fleetsOf are the fleets in which a user has at least that rank: `{t}.fleet IN ` + fleetsOf(fleet.Operator). They do
// not depend on the row, and a query computes them once however often it asks (see compiler.shared).
func fleetsOf(rank fleet.Rank) string { return fmt.Sprintf("{fleets:%d}", rank) }

// organizationsOf are the organizations in which a user has at least that rank.
func organizationsOf(rank fleet.Rank) string { return fmt.Sprintf("{organizations:%d}", rank) }

// myFleets are the fleets a user may look at.
var myFleets = fleetsOf(fleet.Observer)

// rule is the condition under which the actor may do v with the row t of r. q is the query that asks for the row, nil
// if none does directly.
func (c *compiler) rule(r *resource, t string, v verb, q *odata.Query) (string, error) {
	if r.few && v == read {
		set, err := c.reach(r, v)
		return t + `.id IN ` + set, err
	}
	var rows []string
	for _, g := range r.access {
		if !c.applies(g, v, q) {
			continue
		}
		if g.via == "" {
			rows = append(rows, c.fill(g.rows, t))
			continue
		}
		is, err := c.via(r, t, g, v)
		if fault.Is(err, fault.Denied) {
			continue
		}
		if err != nil {
			return "", err
		}
		rows = append(rows, is)
	}
	if len(rows) == 0 {
		return "", c.denied(r, v)
	}
	return `(` + joined(rows, ` OR `) + `)`, nil
}

// applies reports whether a grant is for the actor and what it wants. One for administrators is none for others, whom
// an OR with it would cost an index.
func (c *compiler) applies(g grant, v verb, q *odata.Query) bool {
	if strings.HasPrefix(g.rows, "{administrator}") && !c.actor.Administrator {
		return false
	}
	return g.who&(1<<c.actor.Kind) != 0 && g.may&v != 0 && (v != update || g.covers(c.writes)) && (g.named == "" || names(q, g.named))
}

// via is the condition of a grant that goes by another row.
func (c *compiler) via(r *resource, t string, g grant, v verb) (string, error) {
	rel, err := c.schema.relation(r, g.via)
	if err != nil {
		return "", err
	}
	through := read
	if v != read {
		through = update
	}
	defer func(writes []string) { c.writes = writes }(c.writes)
	c.writes = nil // they are not the other resource's
	if rel.to.few {
		set, err := c.reach(rel.to, through)
		return rel.from(c, t) + ` IN ` + set, err
	}
	there := c.alias()
	above, err := c.rule(rel.to, there, through, nil)
	if c.broad {
		return rel.from(c, t) + ` IN (SELECT ` + there + `.id FROM ` + c.table(rel.to) + ` ` + there + ` WHERE ` + above + `)`, err
	}
	return `EXISTS (SELECT 1 FROM ` + c.table(rel.to) + ` ` + there + ` WHERE ` + rel.joins(c, t, there) + ` AND ` + above + `)`, err
}

// pointed reports whether q names few rows of r: one, or those that belong to one.
func pointed(r *resource, q *odata.Query) bool {
	if q.Key != nil {
		return true
	}
	return slices.ContainsFunc(conditions(q), func(x odata.Expr) bool {
		var to odata.Path
		switch x := x.(type) {
		case odata.Compare:
			p, field := x.Left.(odata.Path)
			_, value := x.Right.(odata.Literal)
			if !field || !value || x.Op != "eq" {
				return false
			}
			to = p
		case odata.In:
			to, _ = x.X.(odata.Path)
		case odata.Lambda:
			to = x.Nav
		}
		if len(to.Names) != 1 {
			return false
		}
		f, ok := r.field(to.Names[0])
		return ok && (f.kind == ref || f.name == "id")
	})
}

// reach is the set of the ids of all rows of a resource that the actor may do v with. It is for resources of which an
// actor reaches few rows: an index leads from it to what belongs to them, where an OR of conditions would be a scan.
func (c *compiler) reach(r *resource, v verb) (string, error) {
	var parts []string
	for _, g := range r.access {
		if !c.applies(g, v, nil) {
			continue
		}
		if set, ok := strings.CutPrefix(g.rows, "{t}.id IN {"); ok && strings.IndexByte(set, '}') == len(set)-1 {
			parts = append(parts, `SELECT a.id FROM `+c.fill("{"+set, "")+` a`)
			continue
		}
		t := c.alias()
		parts = append(parts, `SELECT `+t+`.id FROM `+r.table+` `+t+` WHERE `+c.fill(g.rows, t))
	}
	if len(parts) == 0 {
		return "", c.denied(r, v)
	}
	return c.shared(strings.Join(parts, ` UNION `)), nil
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
	if !strings.Contains(condition, "{") {
		return condition
	}
	condition = strings.NewReplacer("{t}", t, "{me}", strconv.FormatInt(c.actor.ID, 10),
		"{actor}", strconv.FormatInt(c.actor.Actor, 10), "{fleet}", strconv.FormatInt(c.actor.Fleet, 10),
		"{administrator}", strings.ToUpper(strconv.FormatBool(c.actor.Administrator)),
		"{now}", strconv.FormatInt(c.now, 10)).Replace(condition)
	for rank := fleet.Member; rank <= fleet.Owner; rank++ {
		condition = c.set(condition, fleetsOf(rank), fmt.Sprintf(
			"SELECT DISTINCT a.fleet AS id FROM fleet_access a WHERE a.user_id = %d AND a.rank >= %d", c.actor.ID, rank))
		condition = c.set(condition, organizationsOf(rank), fmt.Sprintf(
			"SELECT m.organization AS id FROM organization_memberships m JOIN roles r ON r.id = m.role WHERE m.user_id = %d AND r.rank >= %d", c.actor.ID, rank))
	}
	return condition
}

// set puts a set in place of its mark.
func (c *compiler) set(condition, mark, query string) string {
	if !strings.Contains(condition, mark) {
		return condition
	}
	return strings.ReplaceAll(condition, mark, c.shared(query))
}

// shared is a SELECT of ids that depends on no row: in a query it stands once, before everything else, and is computed
// once however often it is asked for.
func (c *compiler) shared(query string) string {
	if c.sets == nil {
		return `(` + query + `)`
	}
	name, ok := c.sets[query]
	if !ok {
		name = "s" + strconv.Itoa(len(c.sets)+1)
		c.sets[query] = name
		c.with = append(c.with, name+` (id) AS MATERIALIZED (`+query+`)`)
	}
	return `(SELECT ` + name + `.id FROM ` + name + `)`
}

// table is what a resource is selected from.
func (c *compiler) table(r *resource) string { return c.fill(r.table, "") }

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
	for _, x := range conditions(q) {
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

// conditions are what the filter of q says of all rows that it asks for.
func conditions(q *odata.Query) []odata.Expr {
	if all, ok := q.Filter.(odata.And); ok {
		return all
	}
	return []odata.Expr{q.Filter}
}
