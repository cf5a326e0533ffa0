package resource

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// growing are the tables that grow with the devices and the pushes of all tenants.
const growing = `devices releases images release_images image_installs service_installs api_keys actors audit_events ` +
	`device_tags release_tags image_labels device_variables device_config_variables device_service_variables fleet_variables service_variables`

// stock are the requests of the stock CLI, SDK and supervisor that read, or that choose the rows of a change, with who
// asks if it is not the user.
var stock = []struct{ who, verb, request string }{
	{"", "GET", "api_key?$select=id,created_at,name,description,expiry_date&$filter=is_of__actor eq {actor of user}&$orderby=name asc"},
	{"", "GET", "application({application})?$filter=is_directly_accessible_by__user/any(dau:1 eq 1)&$select=app_name,slug"},
	{"", "GET", "application({application})?$select=id&$expand=is_for__device_type($select=id;$expand=is_of__cpu_architecture($select=slug))"},
	{"", "GET", "application({application})"},
	{"", "GET", "application?$filter=is_directly_accessible_by__user/any(dau:1 eq 1) and (slug eq 'acme/porch' or uuid eq 'acme/porch')&$expand=application_type($select=name,slug,supports_multicontainer),is_for__device_type($select=slug;$expand=is_of__cpu_architecture($select=slug)),should_be_running__release($select=commit)"},
	{"", "GET", "application?$filter=is_directly_accessible_by__user/any(dau:1 eq 1)&$orderby=app_name asc&$select=id,app_name,slug&$expand=is_for__device_type($select=slug),owns__device($select=is_online)"},
	{"", "GET", "application?$filter=slug eq 'acme/porch' or uuid eq 'acme/porch'&$select=id&$expand=owns__release($select=id;$top=1;$filter=is_final eq true and is_passing_tests eq true and is_invalidated eq false and status eq 'success';$orderby=created_at desc)"},
	{"", "GET", "application?$filter=slug eq 'acme/porch' or uuid eq 'acme/porch'&$select=id&$expand=service($select=id;$filter=service_name eq 'main')"},
	{"", "GET", "application?$select=is_for__device_type&$expand=application_tag($select=tag_key,value),is_for__device_type($select=slug),owns__release($select=id,known_issue_list,raw_version,variant,phase;$expand=release_tag($select=tag_key,value);$filter=is_final eq true and is_invalidated eq false and status eq 'success')&$filter=is_host eq true and is_for__device_type/any(dt:dt/slug in ('generic-amd64'))"},
	{"", "GET", "application_environment_variable?$orderby=name asc&$filter=application eq {application}"},
	{"", "GET", "device(uuid='{uuid}')?$expand=device_tag($select=tag_key,value),belongs_to__application($select=app_name,slug),is_of__device_type($select=slug),is_running__release($select=commit)"},
	{"", "GET", "device(uuid='{uuid}')?$expand=image_install($select=id,download_progress,status,install_date;$filter=status ne 'deleted';$expand=installs__image($select=id;$expand=is_a_build_of__service($select=id,service_name)),is_provided_by__release($select=id,commit,raw_version;$expand=belongs_to__application($select=slug))),belongs_to__application($select=slug),is_running__release($select=commit)"},
	{"", "GET", "device(uuid='{uuid}')?$select=overall_status,overall_progress,should_be_running__release"},
	{"", "GET", "device(uuid='{uuid}')?$select=uuid&$expand=is_pinned_on__release($select=commit),belongs_to__application($select=slug)"},
	{"", "GET", "device/$count"},
	{"", "GET", "device?$filter=startswith(uuid,'0000000')&$select=id,uuid"},
	{"", "GET", "device?$orderby=device_name asc&$select=id,belongs_to__application,is_of__device_type&$filter=uuid eq '{uuid}'&$expand=is_of__device_type($select=is_of__cpu_architecture;$expand=is_of__cpu_architecture($select=slug))"},
	{"", "GET", "device?$orderby=device_name asc&$select=uuid&$filter=belongs_to__application eq {application}"},
	{"", "GET", "device?$select=id,uuid,device_name,status,is_online,supervisor_version,os_version&$expand=belongs_to__application($select=app_name,slug),is_of__device_type($select=slug),is_running__release($select=commit)&$orderby=device_name asc"},
	{"", "GET", "device_config_variable?$select=value&$filter=device eq {device} and name eq 'RESIN_SUPERVISOR_LOCAL_MODE'"},
	{"", "GET", "device_environment_variable?$orderby=name asc&$filter=device eq {device}"},
	{"", "GET", "device_service_environment_variable?$filter=service_install/any(si:si/device eq {device})&$expand=service_install($expand=installs__service)"},
	{"", "GET", "device_tag?$orderby=tag_key asc&$filter=device eq {device}"},
	{"", "GET", "device_tag"},
	{"", "GET", "device_tag?$filter=tag_key eq 'site'"},
	{"", "GET", "release_tag?$filter=release/any(r:r/belongs_to__application eq {application})"},
	{"", "GET", "device_type?$orderby=name asc&$select=slug&$top=1&$filter=device_type_alias/any(dta:dta/is_referenced_by__alias eq 'generic-amd64')"},
	{"", "GET", "device_type?$orderby=name asc&$select=slug,name&$filter=is_default_for__application/any(idfa:idfa/is_host eq true and idfa/is_archived eq false and idfa/owns__release/any(r:r/status eq 'success' and r/is_final eq true and r/is_invalidated eq false))&$expand=is_of__cpu_architecture($select=slug),device_type_alias($select=is_referenced_by__alias;$orderby=is_referenced_by__alias asc)"},
	{"", "GET", "organization?$orderby=name asc&$select=name,handle&$filter=organization_membership/any(orm:orm/user eq {user})"},
	{"", "GET", "release({release})?$select=id&$expand=release_asset($orderby=id asc;$select=id,asset_key)"},
	{"", "GET", "release?$filter=belongs_to__application eq {application}&$orderby=created_at desc&$select=id,commit,created_at,status,raw_version,is_final"},
	{"", "GET", "release?$filter=commit eq '000000000000000000000000000000e0' and belongs_to__application eq {application} and status eq 'success'&$select=id&$top=1&$orderby=created_at desc"},
	{"", "GET", "release?$filter=startswith(commit,'000000')&$select=id,commit,created_at,status,raw_version,is_final,build_log,start_timestamp,end_timestamp&$expand=release_tag($select=tag_key,value)"},
	{"", "GET", "release?$select=id&$filter=belongs_to__application eq {application} and status eq 'success'&$expand=release_image($select=id;$expand=image($select=is_stored_at__image_location))&$orderby=id desc&$top=1"},
	{"", "GET", "service(application={application},service_name='main')"},
	{"", "GET", "service_environment_variable?$orderby=name asc&$filter=service/any(s:s/application eq {application})&$expand=service"},
	{"", "GET", "service_install?$select=id&$filter=device eq {device} and installs__service eq {service}"},
	{"", "GET", "user__has__public_key"},
	{"device", "GET", "device?$select=id&$filter=uuid eq '{uuid}'"},
	{"provisioning", "GET", "device?$select=id&$filter=uuid eq '{uuid}'"},
	{"device", "GET", "application?$select=id,slug"},
	{"device", "GET", "release?$filter=belongs_to__application eq {application} and commit eq '000000000000000000000000000000e0' and status eq 'success'&$select=id"},
	{"device", "GET", "device_tag?$filter=device eq {device}"},
	{"", "PATCH", "device?$filter=id in ({device})"},
	{"", "PATCH", "device(uuid='{uuid}')"},
	{"", "PATCH", "device_environment_variable({device_environment_variable})"},
	{"", "PATCH", "image({image})"},
	{"", "PATCH", "release({release})"},
	{"", "DELETE", "api_key({api_key})"},
	{"", "DELETE", "device?$filter=id in ({device})"},
	{"", "DELETE", "device_tag?$filter=device eq {device} and tag_key eq 't'"},
	{"device", "PATCH", "device({device})"},
}

// A tenant with a dozen devices pays for a dozen, whoever else is on the server.
func TestNoRequestOfAStockClientScansABigTable(t *testing.T) {
	w := newWorld(t)
	w.strangers(40, 100)
	if w.db.Dialect() == store.SQLite { // which nobody analyzes, while PostgreSQL does by itself
		t.Run("as the engine is", w.noScans)
	}
	w.analyze()
	t.Run("analyzed", w.noScans)
}

// A set that depends on the row would be made anew for each.
func TestAConditionOnBothRowsIsNoSet(t *testing.T) {
	w := newWorld(t)
	for request, set := range map[string]bool{
		"release_tag?$filter=release/any(r:r/note eq 'x')":   true,
		"release_tag?$filter=release/any(r:r/note eq value)": false,
	} {
		statement, _ := w.compiled(t, w.tenants[0].user, "GET", request)
		if strings.Contains(statement, "t1.release IS NOT NULL AND t1.release IN (SELECT") != set {
			t.Errorf("%s: %s", request, statement)
		}
	}
}

func (w *world) noScans(t *testing.T) {
	me := w.tenants[0]
	for _, s := range stock {
		actor := me.user
		if s.who != "" {
			actor = me.actors()[s.who]
		}
		statement, args := w.compiled(t, actor, s.verb, me.in(s.request))
		scans := scansSQLite
		if w.db.Dialect() == store.PostgreSQL {
			scans = scansPostgres
		}
		found, plan := scans(t, w.db.Reader(), statement, args)
		for _, table := range found {
			if called(growing, table) {
				t.Errorf("%s %s %s scans all %s:\n%s\n%s", s.who, s.verb, s.request, table, statement, plan)
			}
		}
	}
}

// compiled is the statement of a query, or the one that chooses the rows of a change.
func (w *world) compiled(t *testing.T, a fleet.Actor, method, request string) (string, []any) {
	t.Helper()
	q := ask(t, request)
	r, err := w.schema.find(q.Resource)
	if err != nil {
		t.Fatal(err)
	}
	c := w.compiler(a)
	if method == "GET" {
		statement, err := c.query(r, q)
		if err != nil {
			t.Fatalf("%s: %v", request, err)
		}
		return statement, c.args
	}
	v := update
	if method == "DELETE" {
		v = remove
	} else if r.name == "device" {
		c.writes = []string{"note"}
	}
	rule, err := c.rule(r, "t", v, q)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	where, err := c.selection(r, "t", q)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return `SELECT t.id FROM ` + r.table + ` t WHERE ` + joined(append(where, rule), ` AND `) + ` ORDER BY t.id`, c.args
}

var sources = regexp.MustCompile(`(?:FROM|JOIN) (\w+) (?:AS )?(\w+)`)

// scansSQLite are the tables that the plan of a statement reads from end to end.
func scansSQLite(t *testing.T, db *sql.DB, statement string, args []any) (tables []string, plan string) {
	t.Helper()
	named := map[string][]string{}
	for _, m := range sources.FindAllStringSubmatch(statement, -1) {
		named[m[2]] = append(named[m[2]], m[1])
	}
	rows, err := db.Query(`EXPLAIN QUERY PLAN `+statement, args...)
	if err != nil {
		t.Fatalf("%v in %s", err, statement)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, cost int
		var detail string
		if err := rows.Scan(&id, &parent, &cost, &detail); err != nil {
			t.Fatal(err)
		}
		plan += fmt.Sprintf("%d under %d: %s\n", id, parent, detail)
		if words := strings.Fields(detail); words[0] == "SCAN" {
			tables = append(append(tables, words[1]), named[words[1]]...)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return tables, plan
}

// scansPostgres are the tables that the plan of a statement reads from end to end, or by an index from end to end.
func scansPostgres(t *testing.T, db *sql.DB, statement string, args []any) (tables []string, plan string) {
	t.Helper()
	if err := db.QueryRow(`EXPLAIN (FORMAT JSON) `+statement, args...).Scan(&plan); err != nil {
		t.Fatalf("%v in %s", err, statement)
	}
	var parsed []struct{ Plan node }
	if err := json.Unmarshal([]byte(plan), &parsed); err != nil {
		t.Fatalf("%v in %s", err, plan)
	}
	var walk func(n node)
	walk = func(n node) {
		if n.Relation != "" && n.Condition == "" && n.Kind != "Bitmap Heap Scan" && n.Kind != "Tid Scan" {
			tables = append(tables, n.Relation)
		}
		for _, below := range n.Plans {
			walk(below)
		}
	}
	walk(parsed[0].Plan)
	return tables, plan
}

// node is a node of a plan of PostgreSQL.
type node struct {
	Kind      string `json:"Node Type"`
	Relation  string `json:"Relation Name"`
	Condition string `json:"Index Cond"`
	Plans     []node
}
