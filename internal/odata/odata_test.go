package odata_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/odata"
)

// asked are queries that clients send, with their trees written out by print.
var asked = []struct{ path, query string }{
	{"device", ""},
	{"device(5)", ""},
	{"device(uuid='7cf02a6')", "$select=id,uuid"},
	{"service(application=5,service_name='main')", ""},
	{"device/$count", "$filter=is_online eq true"},
	{"application", "$filter=is_directly_accessible_by__user/any(dau:1 eq 1) and (slug eq 'o/f' or uuid eq 'o/f')"},
	{"application", "$select=id,app_name,slug&$expand=is_for__device_type($select=slug),owns__device($select=is_online)&$orderby=app_name"},
	{"device_type", "$filter=is_default_for__application/any(idfa:idfa/is_host eq true and idfa/is_archived eq false and idfa/owns__release/any(r:r/status eq 'success' and r/is_final eq true))&$expand=is_of__cpu_architecture($select=slug)"},
	{"release", "$select=id&$expand=release_image($select=id;$expand=image($select=is_stored_at__image_location;$top=1))&$filter=belongs_to__application eq 5 and status eq 'success'&$orderby=id desc&$top=1"},
	{"device", "$filter=startswith(uuid,'7cf02a6') and not contains(tolower(device_name),'o''clock')"},
	{"device", "$filter=id in (7,8) or belongs_to__application/slug in ('a/b','c/d')"},
	{"device", "$filter=created_at gt datetime'2026-01-01T00:00:00Z' and note ne null and owns__device/$count gt 1"},
	{"service", "$expand=image/$count,device_service_environment_variable/$count($filter=name eq 'A')&$skip=3"},
	{"device", "$filter=device_tag/all(t:t/value eq 't') and device_tag/any()&$orderby=belongs_to__application/app_name desc,device_tag/$count"},
	{"device(uuid='7cf02a6')/canAccess", ""},
	{"release_asset(5)/beginUpload", ""},
	{"organization", "$filter=application/canAccess()"},
	{"application", "$filter=owns__device/$count($filter=is_online eq true) ge 1&$orderby=owns__device/$count($filter=is_online eq true) asc,id desc"},
	{"device", "$filter=last_connectivity_event lt now() sub duration'P1DT2H' or memory_usage mul 100 div memory_total gt 90"},
	{"device", "$filter=length(concat(trim(device_name),substring(uuid,0,7))) gt 12 and year(created_at) eq 2026 and indexof(uuid,'a') eq -1"},
}

func TestWhatClientsAskIsReadAndWrittenTheSame(t *testing.T) {
	for _, a := range asked {
		q, err := odata.Parse(a.path, escape(a.query))
		if err != nil {
			t.Errorf("%s?%s: %v", a.path, a.query, err)
			continue
		}
		path, raw := print(q)
		query, err := url.QueryUnescape(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(a.query, "&") {
			part = strings.ReplaceAll(part, "P1DT2H", "PT93600.000000000S")
			part = strings.ReplaceAll(part, "application/canAccess()", "application/any()")
			part = strings.ReplaceAll(part, "memory_usage mul 100 div memory_total", "(memory_usage mul 100) div memory_total")
			if path != a.path || !strings.Contains(query, part) {
				t.Errorf("%s?%s\nis written %s?%s", a.path, a.query, path, query)
				break
			}
		}
	}
}

// escape encodes as the stock CLI does: $ ( ) , : = ; stay as they are.
func escape(query string) string {
	r := strings.NewReplacer(" ", "%20", "'", "%27", "+", "%2B")
	return r.Replace(query)
}

func TestTheTreeOfAFilterFollowsPrecedence(t *testing.T) {
	field := func(names ...string) odata.Path { return odata.Path{Names: names} }
	eq := func(l odata.Expr, v any) odata.Expr {
		return odata.Compare{Op: "eq", Left: l, Right: odata.Literal{Value: v}}
	}
	for _, c := range []struct {
		filter string
		want   odata.Expr
	}{
		{"a eq 1 or b eq 2 and not c", odata.Or{eq(field("a"), int64(1)), odata.And{eq(field("b"), int64(2)), odata.Not{X: field("c")}}}},
		{"(a eq 1 or b eq 2) and c eq null", odata.And{odata.Or{eq(field("a"), int64(1)), eq(field("b"), int64(2))}, eq(field("c"), nil)}},
		{"a eq 'it''s' or a eq ''", odata.Or{eq(field("a"), "it's"), eq(field("a"), "")}},
		{"a eq -1.5", eq(field("a"), -1.5)},
		{"n/any(v:v/x eq 1 and w/x eq 1)", odata.Lambda{Nav: field("n"), Var: "v", Body: odata.And{
			eq(odata.Path{Var: "v", Names: []string{"x"}}, int64(1)), eq(field("w", "x"), int64(1))}}},
		{"a eq datetime'2026-05-01T10:00:00+02:00'", eq(field("a"), time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC))},
		{"a eq @x", eq(field("a"), "from the alias")},
		{"a eq datetime'2026-05-01T10:00:00 02:00'", eq(field("a"), time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC))},
		{"a eq date'2026-05-01'", eq(field("a"), time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC))},
		{"a eq duration'-P1DT2H3M4.5S'", eq(field("a"), -(26*time.Hour + 3*time.Minute + 4500*time.Millisecond))},
		{"a add 2 mul 3 sub 4 eq 1", eq(odata.Arith{Op: "sub", Left: odata.Arith{Op: "add", Left: field("a"), Right: odata.Arith{
			Op: "mul", Left: odata.Literal{Value: int64(2)}, Right: odata.Literal{Value: int64(3)}}}, Right: odata.Literal{Value: int64(4)}}, int64(1))},
		{"now() gt a", odata.Compare{Op: "gt", Left: odata.Call{Func: "now"}, Right: field("a")}},
		{"a/canAccess()", odata.Lambda{Nav: field("a")}},
		{"a/b/$count($filter=c) eq 1", eq(odata.Count{Nav: field("a", "b"), Filter: field("c")}, int64(1))},
		{"add eq 1 and in in (1)", odata.And{eq(field("add"), int64(1)), odata.In{X: field("in"), Values: []odata.Literal{{Value: int64(1)}}}}},
	} {
		q, err := odata.Parse("r", "$filter="+url.QueryEscape(c.filter)+"&@x="+url.QueryEscape("'from the alias'"))
		if err != nil {
			t.Errorf("%s: %v", c.filter, err)
			continue
		}
		if diff := cmp.Diff(c.want, q.Filter); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.filter, diff)
		}
	}
}

func TestAParameterOfThePathComesFromTheQuery(t *testing.T) {
	q, err := odata.Parse("device(uuid=@uuid)/", "@uuid=%27abc%27&apikey=%zz;is-not-ours&%zz=1&$filter=id%20eq%20@id&@id=-7")
	if err != nil {
		t.Fatal(err)
	}
	want := []odata.KeyPart{{Name: "uuid", Value: odata.Literal{Value: "abc"}}}
	if diff := cmp.Diff(want, q.Key); diff != "" {
		t.Error(diff)
	}
	filter := odata.Compare{Op: "eq", Left: odata.Path{Names: []string{"id"}}, Right: odata.Literal{Value: int64(-7)}}
	if diff := cmp.Diff(odata.Expr(filter), q.Filter); diff != "" {
		t.Error(diff)
	}
}

func TestRowsAreSortedAsBalenaSortsThem(t *testing.T) {
	q, err := odata.Parse("device", "$orderby=a,b+asc,c+DESC,d+Asc&$select=*&$inlinecount=allpages&$count=true&$format=json")
	if err != nil {
		t.Fatal(err)
	}
	by := func(name string, desc bool) odata.Order {
		return odata.Order{By: odata.Path{Names: []string{name}}, Desc: desc}
	}
	want := &odata.Query{Resource: "device", Options: odata.Options{OrderBy: []odata.Order{by("a", true), by("b", false), by("c", true), by("d", false)}}}
	if diff := cmp.Diff(want, q); diff != "" {
		t.Error(diff)
	}
}

func TestAParameterIsNoWayToALongerQuery(t *testing.T) {
	uses := strings.Repeat("@x,", 100) + "@x"
	if _, err := odata.Parse("r", "$filter=a+in+("+uses+")&@x='"+strings.Repeat("a", 1000)+"'"); err != nil {
		t.Error(err)
	}
	_, err := odata.Parse("r", "$filter=a+in+("+uses+")&@x='"+strings.Repeat("a", 10_000)+"'")
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "stand for more than") {
		t.Error(err)
	}
}

func TestAnErrorSaysWhereItIs(t *testing.T) {
	for _, c := range []struct{ path, query, want string }{
		{"device", "$filter=a eq", "$filter at character 5: want an expression, found the end"},
		{"device", "$filter=ä eq 1", "$filter at character 1: want an expression"},
		{"device", "$filter=a eq 'x", "$filter at character 6: the string is not closed"},
		{"device", "$filter=a eq 1 b", `$filter at character 8: want the end, found "b"`},
		{"device", "$filter=sleep(1)", `there is no function "sleep"`},
		{"device", "$filter=startswith(a)", "startswith takes 2 arguments, not 1"},
		{"device", "$filter=a eq @y", "there is no parameter @y"},
		{"device", "$filter=a/any(v:v eq 1)", `want "/" and a field of v`},
		{"device", "$filter=a eq 99999999999999999999", "is not a whole number of 64 bits"},
		{"device", "$filter=a eq datetime'yesterday'", "is not a time"},
		{"device", "$top=-1", "want a whole number"},
		{"device", "$top=1&$top=2", "$top is there twice"},
		{"device", "$compute=a", `there is no option "$compute"`},
		{"device", "$expand=a($select=b", `want ";" or ")"`},
		{"device", "$expand=a(b)", "want an option"},
		{"device", "$orderby=a/any()", "cannot be sorted"},
		{"device", "$select=", "want a name, found the end"},
		{"device", "$filter=%zz", "not percent-encoded"},
		{"device", "$filter=a eq '%00'", "not percent-encoded"},
		{"device(1,2)", "", "names each of them once"},
		{"device(null)", "", "no part of a key is null"},
		{"device(1", "", `want ","`},
		{"device(1)/5", "", "want $count or the name of an action"},
		{"device(1)/uuid/x", "", "want the end"},
		{"device", "$filter=now(1)", "now takes 0 arguments, not 1"},
		{"device", "$filter=substring(a)", "substring takes 2 or 3 arguments, not 1"},
		{"device", "$filter=a eq duration'P'", "is not a duration"},
		{"device", "$filter=a eq duration'P1DT'", "is not a duration"},
		{"device", "$filter=a eq duration'P999999D'", "is not a duration"},
		{"device", "$filter=a/$count($top=1) eq 1", "want $filter="},
		{"device", "$inlinecount=some", "want allpages or none"},
		{"", "", "want a name"},
		{"device(a=1,a=2)", "", "names each of them once"},
	} {
		_, err := odata.Parse(c.path, strings.ReplaceAll(c.query, " ", "+"))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), c.want) {
			t.Errorf("%s?%s: %v, want %q", c.path, c.query, err, c.want)
		}
	}
}

func TestAHostileQueryIsRefusedBeforeItGrows(t *testing.T) {
	for name, query := range map[string]string{
		"parentheses": "$filter=" + strings.Repeat("(", 50_000),
		"nots":        "$filter=" + strings.Repeat("not ", 20_000) + "a",
		"expansions":  "$expand=" + strings.Repeat("a($expand=", 10_000),
		"calls":       "$filter=" + strings.Repeat("tolower(", 10_000),
		"lambdas":     "$filter=" + strings.Repeat("a/any(b:b/", 9_000),
		"terms":       "$filter=" + strings.Repeat("a or ", 20_000) + "a",
		"values":      "$filter=a in (" + strings.Repeat("1,", 20_000) + "1)",
		"names":       "$select=" + strings.Repeat("a,", 20_000) + "a",
		"path":        "$filter=" + strings.Repeat("a/", 20_000) + "a",
		"sums":        "$filter=a eq " + strings.Repeat("1 add ", 15_000) + "1",
		"counts":      "$filter=" + strings.Repeat("a/$count($filter=", 5000),
		"length":      "$filter=a eq '" + strings.Repeat("a", 200_000) + "'",
	} {
		_, err := odata.Parse("r", strings.ReplaceAll(query, " ", "+"))
		if k := fault.KindOf(err); err == nil || k != fault.Invalid && k != fault.TooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhateverIsWrittenIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &odata.Query{
			Resource: name.Draw(t, "resource"), Options: drawOptions(t, 3),
		}
		switch rapid.IntRange(0, 2).Draw(t, "tail") {
		case 1:
			q.Count = true
		case 2:
			q.Action = name.Draw(t, "action")
		}
		switch rapid.IntRange(0, 2).Draw(t, "key") {
		case 1:
			q.Key = []odata.KeyPart{{Value: odata.Literal{Value: rapid.Int64().Draw(t, "id")}}}
		case 2:
			for i := range rapid.IntRange(1, 3).Draw(t, "parts") {
				q.Key = append(q.Key, odata.KeyPart{Name: fmt.Sprintf("k%d", i), Value: odata.Literal{Value: rapid.String().Filter(text).Draw(t, "value")}})
			}
		}
		path, raw := print(q)
		got, err := odata.Parse(path, raw)
		if err != nil {
			t.Fatalf("%s?%s: %v", path, raw, err)
		}
		if diff := cmp.Diff(q, got); diff != "" {
			t.Fatalf("%s?%s (-written +read)\n%s", path, raw, diff)
		}
	})
}

var name = rapid.StringMatching(`[a-z][a-z_]{0,5}[0-9]?x`) // the x keeps it apart from the words of the language

func text(s string) bool { return !strings.ContainsRune(s, 0) }

func drawOptions(t *rapid.T, depth int) (o odata.Options) {
	if rapid.Bool().Draw(t, "select") {
		o.Select = rapid.SliceOfN(name, 1, 3).Draw(t, "fields")
	}
	if depth > 0 {
		for range rapid.IntRange(0, 2).Draw(t, "expands") {
			o.Expand = append(o.Expand, odata.Expand{
				Name: name.Draw(t, "expand"), Count: rapid.Bool().Draw(t, "counts"), Options: drawOptions(t, depth-1),
			})
		}
	}
	if rapid.Bool().Draw(t, "filter") {
		o.Filter = drawExpr(t, 3, nil)
	}
	for range rapid.IntRange(0, 2).Draw(t, "orders") {
		by := odata.Order{By: drawPath(t, nil), Desc: rapid.Bool().Draw(t, "desc")}
		if rapid.Bool().Draw(t, "by count") {
			by.By = odata.Count{Nav: drawPath(t, nil)}
		}
		o.OrderBy = append(o.OrderBy, by)
	}
	if rapid.Bool().Draw(t, "top") {
		n := rapid.IntRange(0, 100).Draw(t, "n")
		o.Top = &n
	}
	return o
}

func drawPath(t *rapid.T, vars []string) odata.Path {
	p := odata.Path{Names: rapid.SliceOfN(name, 1, 3).Draw(t, "path")}
	if len(vars) > 0 && rapid.Bool().Draw(t, "of a variable") {
		p.Var = rapid.SampledFrom(vars).Draw(t, "variable")
	}
	return p
}

func drawLiteral(t *rapid.T) odata.Literal {
	switch rapid.IntRange(0, 6).Draw(t, "literal") {
	case 5:
		return odata.Literal{Value: time.Duration(rapid.Int64Range(-1<<59, 1<<59).Draw(t, "duration"))}
	case 0:
		return odata.Literal{}
	case 1:
		return odata.Literal{Value: rapid.Bool().Draw(t, "bool")}
	case 2:
		return odata.Literal{Value: rapid.Int64().Draw(t, "int")}
	case 3:
		return odata.Literal{Value: rapid.Float64().Draw(t, "float")}
	case 4:
		return odata.Literal{Value: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "time"), 1000).UTC()}
	}
	return odata.Literal{Value: rapid.String().Filter(text).Draw(t, "string")}
}

func drawExpr(t *rapid.T, depth int, vars []string) odata.Expr {
	if depth == 0 {
		if rapid.Bool().Draw(t, "leaf") {
			return drawLiteral(t)
		}
		return drawPath(t, vars)
	}
	sub := func() odata.Expr { return drawExpr(t, depth-1, vars) }
	switch rapid.IntRange(0, 11).Draw(t, "expr") {
	case 0:
		return odata.And{sub(), sub(), sub()}
	case 1:
		return odata.Or{sub(), sub()}
	case 2:
		return odata.Not{X: sub()}
	case 3:
		return odata.In{X: sub(), Values: []odata.Literal{drawLiteral(t), drawLiteral(t)}}
	case 4:
		l := odata.Lambda{Nav: drawPath(t, vars)}
		if rapid.Bool().Draw(t, "body") {
			l.All = rapid.Bool().Draw(t, "all")
			l.Var = fmt.Sprintf("v%d", len(vars))
			l.Body = drawExpr(t, depth-1, append(vars[:len(vars):len(vars)], l.Var))
		}
		return l
	case 5:
		return odata.Call{Func: "startswith", Args: []odata.Expr{sub(), sub()}}
	case 6:
		return odata.Count{Nav: drawPath(t, vars)}
	case 7:
		return odata.Count{Nav: drawPath(t, vars), Filter: drawExpr(t, depth-1, vars)}
	case 8:
		return odata.Call{Func: "substring", Args: []odata.Expr{sub(), sub(), sub()}}
	case 9:
		op := rapid.SampledFrom([]odata.Op{"add", "sub", "mul", "div", "mod"}).Draw(t, "op")
		return odata.Arith{Op: op, Left: sub(), Right: sub()}
	}
	op := rapid.SampledFrom([]odata.Op{"eq", "ne", "gt", "ge", "lt", "le"}).Draw(t, "op")
	return odata.Compare{Op: op, Left: sub(), Right: sub()}
}

func FuzzParse(f *testing.F) {
	for _, a := range asked {
		f.Add(a.path, escape(a.query))
	}
	f.Add("device(@x)", "@x=5&$orderby=a%20desc,b/$count")
	f.Add("device(", "$filter=((((&$expand=a($expand=b($expand=c")
	f.Fuzz(func(t *testing.T, path, query string) {
		q, err := odata.Parse(path, query)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.TooLarge {
				t.Fatalf("%q?%q: an unclassified error: %v", path, query, err)
			}
			return
		}
		path, raw := print(q)
		again, err := odata.Parse(path, raw)
		if err != nil {
			t.Fatalf("%s?%s is written and not read: %v", path, raw, err)
		}
		if diff := cmp.Diff(q, again); diff != "" {
			t.Fatalf("%s?%s (-first +second)\n%s", path, raw, diff)
		}
	})
}
