package resource

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/odata"
)

// The world's clock says 2026-03-01T13:00:00.123Z; the first device was seen 30 s ago, and has 512 of memory in use.
func TestFunctionsAndCalculationsAreTheSameOnEveryEngine(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	for filter, want := range map[string]bool{
		"startswith(device_name,'fir')":                                                    true,
		"startswith(device_name,'first')":                                                  true,
		"startswith(device_name,'firsts')":                                                 false,
		"startswith(device_name,'')":                                                       true,
		"startswith(device_name,'FIR')":                                                    false,
		"startswith(device_name,device_name)":                                              true,
		"startswith('first',device_name)":                                                  true,
		"not startswith(device_name,'x')":                                                  true,
		"startswith(note,'x') eq null":                                                     true,
		"endswith(device_name,'rst')":                                                      true,
		"contains(device_name,'irs')":                                                      true,
		"substringof('irs',device_name)":                                                   true,
		"tolower('FIRST') eq device_name":                                                  true,
		"toupper(device_name) eq 'FIRST'":                                                  true,
		"tolower('FÜR') eq 'fÜr'":                                                          true,
		"concat(device_name,'!') eq 'first!'":                                              true,
		"trim(concat('  ',device_name)) eq 'first'":                                        true,
		"replace(device_name,'ir','us') eq 'fusst'":                                        true,
		"length(device_name) eq 5":                                                         true,
		"length('äöü') eq 3":                                                               true,
		"indexof(device_name,'r') eq 2":                                                    true,
		"indexof(device_name,'x') eq -1":                                                   true,
		"substring(device_name,1) eq 'irst'":                                               true,
		"substring(device_name,1,3) eq 'irs'":                                              true,
		"substring(device_name,9) eq ''":                                                   true,
		"year(created_at) eq 2026":                                                         true,
		"month(created_at) eq 3 and day(created_at) eq 1":                                  true,
		"hour(created_at) eq 12 and minute(created_at) eq 0 and second(created_at) eq 0":   true,
		"date(created_at) eq date'2026-03-01'":                                             true,
		"year(datetime'2024-02-29T23:59:59Z') eq 2024":                                     true,
		"day(datetime'2024-02-29T23:59:59Z') eq 29":                                        true,
		"now() gt created_at":                                                              true,
		"now() eq datetime'2026-03-01T13:00:00.123Z'":                                      true,
		"last_connectivity_event lt now() sub duration'PT20S'":                             true,
		"last_connectivity_event lt now() sub duration'PT40S'":                             false,
		"now() sub last_connectivity_event eq duration'PT30S'":                             true,
		"created_at add duration'PT1H' eq now()":                                           true,
		"memory_usage add 1 eq 513":                                                        true,
		"memory_usage sub 1.5 eq 510.5":                                                    true,
		"memory_usage mul 100 div 1024 eq 50":                                              true,
		"memory_usage div 1000 lt 1 and memory_usage div 1000 gt 0":                        true,
		"memory_usage div 0 eq null":                                                       true,
		"memory_usage mod 10 eq 2":                                                         true,
		"memory_usage mod 0 eq null":                                                       true,
		"memory_usage mul 1e308 mul 1e308 mul 1e308 gt 1":                                  true,
		"memory_usage add 9223372036854775807 add 9223372036854775807 gt 1":                true,
		"round(memory_usage div 100) eq 5":                                                 true,
		"floor(memory_usage div -100) eq -6 and ceiling(memory_usage div 100) eq 6":        true,
		"(memory_usage add 1) mul 2 in (1026,7)":                                           true,
		"belongs_to__application/owns__device/$count($filter=device_name eq 'first') eq 1": true,
		"device_tag/$count($filter=value eq 'attic') eq 1 and device_tag/$count($filter=id lt 0) eq 0": true,
		"belongs_to__application/canAccess()":                                       true,
		"is_pinned_on__release/canAccess()":                                         false,
		"not is_pinned_on__release/any(r:r/id gt 0)":                                true,
		"is_running__release/any(r:r/belongs_to__application/slug eq 'acme/porch')": true,
	} {
		rows := w.get(me.user, me.in("device?$select=id&$filter=id eq {device} and ("+filter+")"))
		if got := len(rows) == 1; got != want {
			t.Errorf("%s: %v", filter, got)
		}
	}
	for filter, want := range map[string]string{
		"length(5) eq 1":                             "cannot be compared with a string",
		"year(device_name) eq 1":                     "cannot be compared with a time",
		"memory_usage add device_name eq 1":          "cannot be compared with a number",
		"now() add now() gt now()":                   "cannot be compared with a number",
		"substring(device_name,memory_usage) eq 'x'": "whole numbers from 0",
		"substring(device_name,-1) eq 'x'":           "whole numbers from 0",
		"created_at gt duration'PT1S'":               "cannot be compared",
		"device_tag/$count($filter=tag_key) eq 1":    "alone is no condition",
		"owns__device/$count($filter=id eq 1) gt 0":  `no relation "owns__device"`,
		"round(duration'PT1S') eq 1":                 "cannot be compared",
		"trim(null) eq 'x'":                          "cannot be compared",
	} {
		_, err := w.Read(context.Background(), me.user, ask(t, "device?$filter="+filter))
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), want) {
			t.Errorf("%s: %v, want %q", filter, err, want)
		}
	}
}

// What is found by a range of texts is what begins so, whatever the characters: those at the ends of what UTF-8 can say
// have no next one.
func TestTheBeginningOfATextIsFoundAsItIs(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	words := []string{""}
	for range 2 {
		for _, word := range slices.Clone(words) {
			for _, letter := range []rune{'a', 'b', '%', 0xd7ff, 0xe000, utf8.MaxRune} {
				words = append(words, word+string(letter))
			}
		}
	}
	slices.Sort(words)
	words = slices.Compact(words)
	err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
		for i, word := range words {
			if _, err := tx.Exec(`INSERT INTO device_tags (created_at, modified_at, device, tag_key, value) VALUES (1, 1, $1, $2, $3)`,
				me.ids["second device"], fmt.Sprint("word", i), word); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range words {
		want := 0
		for _, word := range words {
			if strings.HasPrefix(word, prefix) {
				want++
			}
		}
		request := "device_tag/$count?$filter=startswith(value,'" + percent(prefix) + "') and device eq {second device}"
		body, err := w.Read(context.Background(), me.user, ask(t, me.in(request)))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(body); got != fmt.Sprintf(`{"d":%d}`, want) {
			t.Errorf("%d begin with %q, found %s", want, prefix, got)
		}
	}
}

// What a text holds is no matter to who reads the answer.
func TestATextComesOutOfJSONAsItWentIn(t *testing.T) {
	w := newWorld(t)
	me := w.tenants[0]
	rapid.Check(t, func(t *rapid.T) {
		note := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("\x01\b\f\n\r\t\x1f\"\\/\u2028")))).
			Filter(func(s string) bool { return !strings.ContainsRune(s, 0) }).Draw(t, "note")
		err := w.db.Write(context.Background(), func(tx *sql.Tx) error {
			_, err := tx.Exec(`UPDATE devices SET note = $1 WHERE id = $2`, note, me.ids["device"])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.get(me.user, me.in("device({device})?$select=note"))[0]["note"]; got != note {
			t.Fatalf("%q is read as %q", note, got)
		}
		if got := len(w.get(me.user, "device?$select=id&$filter=note eq '"+percent(note)+"'")); got != 1 {
			t.Fatalf("%q finds %d devices", note, got)
		}
	})
}

// percent is a text as a part of a string in a request of ask, which leaves alone what is encoded.
func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(strings.ReplaceAll(s, "'", "''")) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// What the compiler lets through, the engine answers: neither a type nor a number out of bounds is found out there.
func TestEveryFilterIsAnsweredOrRefusedBeforeTheEngineSeesIt(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		r := w.schema[rapid.SampledFrom([]string{"device", "release", "image", "image_install", "application", "api_key"}).Draw(t, "resource")]
		d := drawing{t, w.schema}
		q := &odata.Query{Resource: r.name, Options: odata.Options{Select: []string{"id"}, Filter: d.condition(r, 3)}}
		if order, ok := d.field(r, text, moment, number, boolean); ok {
			q.OrderBy = []odata.Order{{By: order}}
		}
		if body, err := w.Read(context.Background(), w.tenants[0].user, q); err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatalf("%#v: %s %v", q.Filter, body, err)
		}
	})
}

// What the parser lets through, as deep as it does, is no burden to the engine.
func TestADeepFilterStaysSmall(t *testing.T) {
	w := newWorld(t)
	nested := func(n int, before, inside, after string) string {
		return strings.Repeat(before, n) + inside + strings.Repeat(after, n)
	}
	sum := "1"
	for range 9 {
		sum = "(" + sum + strings.Repeat(" mod 7", 23) + ")"
	}
	for _, filter := range []string{
		nested(20, "date(", "created_at", ")") + " ne null",
		nested(20, "(", "(id in (null,1))", " in (null,true))"),
		nested(20, "round(", "memory_usage", ")") + " gt 0",
		nested(20, "concat(", "uuid", ",uuid)") + " ne null",
		nested(20, "replace(", "uuid", ",'a','b')") + " ne null",
		nested(20, "(", "is_online", " eq true)"),
		nested(11, "not (", "is_online", ")"),
		nested(20, "startswith(tolower(uuid),uuid) and (", "is_online", ")"),
		nested(9, "belongs_to__application/any(a:a/should_be_running__release/any(r:r/", "id eq 1", "))"),
		sum + " ne null",
		nested(7, "belongs_to__application/organization/application/$count($filter=", "id eq 1", ") gt 0"),
	} {
		q := ask(t, "device?$filter="+filter)
		c := w.compiler(w.tenants[0].user)
		r, _ := w.schema.find("device")
		if statement, err := c.query(r, q); len(statement) > 100_000 {
			t.Errorf("%s: %d bytes of SQL, %v", filter, len(statement), err)
			continue
		}
		if _, err := w.Read(context.Background(), w.tenants[0].user, q); err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", filter, err)
		}
	}
}

// An engine does not stop in the middle of a text: eight of these inside each other took 2.5 GB and twice the patience.
func TestReplacementsMakeNoHugeText(t *testing.T) {
	w := newWorld(t)
	for filter, ok := range map[string]bool{
		"replace(device_name,'i','12345678') eq 'f12345678rst'":                                               true,
		"replace(device_name,'i','123456789') eq 'x'":                                                         false,
		"replace(replace(replace(device_name,'i','12'),'1','34'),'3','56') eq 'x'":                            true,
		"replace(replace(replace(replace(device_name,'i','12'),'1','34'),'3','56'),'5','78') eq 'x'":          false,
		"replace(device_name,'i','1234') eq 'x' or replace(device_name,'i','1234') eq 'y'":                    false,
		"replace(device_name,'irst','1234567890123456789012345678901') eq 'f1234567890123456789012345678901'": true,
		"replace(device_name,'','x') eq 'first'":                                                              true,
		"replace(device_name,device_name,'x') eq 'x'":                                                         false,
		"replace(device_name,'i',device_name) eq 'x'":                                                         false,
	} {
		_, err := w.Read(context.Background(), w.tenants[0].user, ask(t, "device?$select=id&$filter="+filter))
		if ok != (err == nil) || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", filter, err)
		}
	}
}

// drawing draws filters, most of which make sense.
type drawing struct {
	t *rapid.T
	schema
}

// field is a field of one of some kinds, or of a row that a reference leads to.
func (d drawing) field(r *resource, kinds ...kind) (odata.Path, bool) {
	var names []string
	for _, f := range r.fields {
		if slices.Contains(kinds, f.kind) {
			names = append(names, first(f.name))
		}
	}
	if names == nil {
		return odata.Path{}, false
	}
	return odata.Path{Names: []string{rapid.SampledFrom(names).Draw(d.t, "field")}}, true
}

func (d drawing) value(values ...any) odata.Expr {
	return odata.Literal{Value: rapid.SampledFrom(values).Draw(d.t, "value")}
}

func (d drawing) call(args []odata.Expr, names ...string) odata.Expr {
	return odata.Call{Func: rapid.SampledFrom(names).Draw(d.t, "function"), Args: args}
}

func (d drawing) op(ops ...odata.Op) odata.Op { return rapid.SampledFrom(ops).Draw(d.t, "op") }

func (d drawing) condition(r *resource, depth int) odata.Expr {
	choice := rapid.IntRange(0, 9).Draw(d.t, "condition")
	if depth == 0 {
		choice %= 4
	}
	compare := func(x func(*resource, int) odata.Expr) odata.Expr {
		return odata.Compare{Op: d.op("eq", "ne", "gt", "ge", "lt", "le"), Left: x(r, depth), Right: x(r, depth)}
	}
	switch choice {
	case 0:
		return compare(d.text)
	case 1:
		return compare(d.moment)
	case 2:
		return compare(d.number)
	case 4:
		return odata.And{d.condition(r, depth-1), d.condition(r, depth-1)}
	case 5:
		return odata.Or{odata.Not{X: d.condition(r, depth-1)}, d.condition(r, depth-1)}
	case 6, 7:
		if len(r.navs) > 0 {
			n := rapid.SampledFrom(r.navs).Draw(d.t, "nav")
			return odata.Lambda{Nav: odata.Path{Names: []string{first(n.name)}}, All: choice == 6, Var: "x", Body: odata.Or{
				d.condition(r, 0), odata.Compare{Op: "eq", Left: odata.Path{Var: "x", Names: []string{"id"}}, Right: d.number(r, 0)}}}
		}
	case 8:
		f, ok := d.field(r, text)
		return odata.And{odata.In{X: f, Values: []odata.Literal{{Value: "a"}, {}, {Value: ""}}}, odata.Literal{Value: ok}}
	case 9:
		return d.call([]odata.Expr{d.text(r, depth-1), d.text(r, depth-1)}, "startswith", "endswith", "contains", "substringof")
	}
	if f, ok := d.field(r, boolean); ok {
		return f
	}
	return d.value(true, false)
}

func (d drawing) text(r *resource, depth int) odata.Expr {
	choice := rapid.IntRange(0, 6).Draw(d.t, "text")
	if depth <= 0 {
		choice %= 2
	}
	sub := func() odata.Expr { return d.text(r, depth-1) }
	switch choice {
	case 2:
		return d.call([]odata.Expr{sub()}, "tolower", "toupper", "trim")
	case 3:
		return odata.Call{Func: "concat", Args: []odata.Expr{sub(), sub()}}
	case 4:
		return odata.Call{Func: "replace", Args: []odata.Expr{sub(), sub(), sub()}}
	case 5:
		return odata.Call{Func: "substring", Args: []odata.Expr{sub(), d.value(int64(0), int64(3))}}
	case 6:
		return odata.Call{Func: "substring", Args: []odata.Expr{sub(), d.value(int64(0), int64(3)), d.value(int64(0), int64(100_000))}}
	case 1:
		if f, ok := d.field(r, text); ok {
			return f
		}
	}
	return d.value("", "a", "ä'\U0010FFFF", "2026-03-01", nil)
}

func (d drawing) moment(r *resource, depth int) odata.Expr {
	choice := rapid.IntRange(0, 5).Draw(d.t, "moment")
	if depth <= 0 {
		choice %= 2
	}
	switch choice {
	case 2:
		return odata.Call{Func: "now"}
	case 3:
		return odata.Arith{Op: d.op("add", "sub"), Left: d.instant(r, depth-1), Right: d.value(24*time.Hour, -time.Millisecond, time.Duration(math.MaxInt64))}
	case 4:
		return odata.Call{Func: "date", Args: []odata.Expr{d.instant(r, depth-1)}}
	}
	return d.instant(r, depth)
}

// instant is a moment that is no text.
func (d drawing) instant(r *resource, depth int) odata.Expr {
	if f, ok := d.field(r, moment); ok && (depth > 0 || rapid.Bool().Draw(d.t, "of the row")) {
		return f
	}
	return d.value(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))
}

func (d drawing) number(r *resource, depth int) odata.Expr {
	choice := rapid.IntRange(0, 7).Draw(d.t, "number")
	if depth <= 0 {
		choice %= 2
	}
	sub := func() odata.Expr { return d.number(r, depth-1) }
	switch choice {
	case 1:
		if f, ok := d.field(r, number, big, ref); ok {
			return f
		}
	case 2, 3:
		return odata.Arith{Op: d.op("add", "sub", "mul", "div", "mod"), Left: sub(), Right: sub()}
	case 4:
		return d.call([]odata.Expr{d.text(r, depth-1)}, "length")
	case 5:
		return d.call([]odata.Expr{d.instant(r, depth-1)}, "year", "month", "day", "hour", "minute", "second")
	case 6:
		return d.call([]odata.Expr{sub()}, "round", "floor", "ceiling")
	case 7:
		if len(r.navs) > 0 {
			n := rapid.SampledFrom(r.navs).Draw(d.t, "nav")
			return odata.Count{Nav: odata.Path{Names: []string{first(n.name)}}, Filter: d.condition(d.schema[n.to], 0)}
		}
	}
	return d.value(int64(0), int64(-7), int64(math.MaxInt64), int64(math.MinInt64), 0.0, 1.5, -1e308, 5e-324)
}
