package resource

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/odata"
)

// call compiles a function. What has a value of the kind of its arguments names each of them once: nested in itself, it
// would double the statement each time.
func (c *compiler) call(s scope, x odata.Call) (value, error) {
	args := make([]value, len(x.Args))
	for i, a := range x.Args {
		var err error
		if args[i], err = c.operand(s, a); err != nil {
			return value{}, err
		}
	}
	switch x.Func {
	case "now":
		return value{sql: strconv.FormatInt(c.now/1000, 10), kind: moment}, nil
	case "year", "month", "day", "hour", "minute", "second", "date":
		return c.calendar(x.Func, args[0])
	case "round", "floor", "ceiling":
		return c.rounded(x.Func, args[0])
	case "substring":
		return c.substring(args)
	case "startswith":
		return c.startsWith(args[0], args[1])
	}
	if x.Func == "replace" {
		if err := c.grow(args[1], args[2]); err != nil {
			return value{}, err
		}
	}
	texts := make([]string, len(args))
	for i, a := range args {
		var err error
		if texts[i], err = c.sql(a, text); err != nil {
			return value{}, err
		}
	}
	switch x.Func {
	case "tolower":
		return value{sql: c.dialect.letters(`lower`, texts[0]), kind: text}, nil
	case "toupper":
		return value{sql: c.dialect.letters(`upper`, texts[0]), kind: text}, nil
	case "trim":
		return value{sql: `trim(` + texts[0] + `)`, kind: text}, nil
	case "concat":
		return value{sql: `(` + texts[0] + ` || ` + texts[1] + `)`, kind: text}, nil
	case "replace":
		return value{sql: `replace(` + strings.Join(texts, `, `) + `)`, kind: text}, nil
	case "length":
		return value{sql: `length(` + texts[0] + `)`, kind: number}, nil
	case "indexof":
		return value{sql: `(` + c.dialect.position(texts[0], texts[1]) + ` - 1)`, kind: number}, nil
	case "contains":
		return value{sql: `(` + c.dialect.position(texts[0], texts[1]) + ` > 0)`, kind: boolean}, nil
	case "substringof":
		return value{sql: `(` + c.dialect.position(texts[1], texts[0]) + ` > 0)`, kind: boolean}, nil
	case "endswith":
		from := `length(` + texts[0] + `) - length(` + texts[1] + `) + 1`
		return value{sql: `(length(` + texts[1] + `) <= length(` + texts[0] + `) AND substr(` + texts[0] + `, ` + from + `) = ` + texts[1] + `)`, kind: boolean}, nil
	}
	return value{}, invalid("there is no function %q", x.Func)
}

// maxGrowth is how many times as long as a field all replacements of a query together may make a text.
const maxGrowth = 8

// grow counts how much longer a replacement may make a text. Inside each other a few of them would make gigabytes of one
// letter, and an engine does not stop in the middle of a text.
func (c *compiler) grow(from, to value) error {
	if from.literal == nil || to.literal == nil {
		return invalid("what replace looks for and what it puts there are texts, not fields")
	}
	before, _ := from.literal.Value.(string)
	behind, _ := to.literal.Value.(string)
	if before == "" || len(behind) <= len(before) {
		return nil
	}
	if c.growth = max(c.growth, 1) * ((len(behind) + len(before) - 1) / len(before)); c.growth > maxGrowth {
		return invalid("the replacements make a text more than %d times as long", maxGrowth)
	}
	return nil
}

// startsWith is a range of texts where it can be, so that an index serves a uuid of which only the beginning is known.
func (c *compiler) startsWith(whole, part value) (value, error) {
	w, err := c.sql(whole, text)
	if err != nil {
		return value{}, err
	}
	if part.literal != nil {
		prefix, ok := part.literal.Value.(string)
		if ok && prefix != "" && whole.literal == nil {
			is := c.dialect.rare(w + ` >= ` + c.arg(prefix))
			if end, ok := after(prefix); ok {
				is += ` AND ` + c.dialect.rare(w+` < `+c.arg(end))
			}
			return value{sql: `(` + is + `)`, kind: boolean}, nil
		}
	}
	p, err := c.sql(part, text)
	return value{sql: `(substr(` + w + `, 1, length(` + p + `)) = ` + p + `)`, kind: boolean}, err
}

// after is the first text behind all that begin with prefix; false if there is none. Both engines compare the bytes of
// UTF-8, whose order is that of the characters.
func after(prefix string) (string, bool) {
	for prefix != "" {
		last, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		switch {
		case last == utf8.MaxRune:
			continue
		case last+1 >= 0xd800 && last+1 < 0xe000: // halves of UTF-16 pairs are no characters
			last = 0xe000 - 1
		}
		return prefix + string(last+1), true
	}
	return "", false
}

// substring takes a text, where to begin, from 0, and how many characters; without the last, all.
func (c *compiler) substring(args []value) (value, error) {
	x, err := c.sql(args[0], text)
	if err != nil {
		return value{}, err
	}
	list := x
	for i, a := range args[1:] {
		var n int64 = -1
		if a.literal != nil {
			n, _ = a.literal.Value.(int64)
		}
		if n < 0 || n > longest {
			return value{}, invalid("the numbers of substring are whole numbers from 0 to %d", longest)
		}
		if i == 0 {
			n++
		}
		list += `, ` + strconv.FormatInt(n, 10)
	}
	return value{sql: `substr(` + list + `)`, kind: text}, nil
}

// calendar is a part of a time, in UTC.
func (c *compiler) calendar(name string, v value) (value, error) {
	x, err := c.sql(v, moment)
	if err != nil {
		return value{}, err
	}
	switch name {
	case "date":
		return value{sql: `(` + x + ` / 86400000 * 86400000)`, kind: moment}, nil
	case "hour":
		return value{sql: `(` + x + ` / 3600000 % 24)`, kind: number}, nil
	case "minute":
		return value{sql: `(` + x + ` / 60000 % 60)`, kind: number}, nil
	case "second":
		return value{sql: `(` + x + ` / 1000 % 60)`, kind: number}, nil
	}
	return value{sql: c.dialect.part(name, x), kind: number}, nil
}

func (c *compiler) rounded(name string, v value) (value, error) {
	x, err := c.sql(v, real)
	if err != nil {
		return value{}, err
	}
	if name == "ceiling" {
		name = "ceil"
	}
	return value{sql: name + `(` + c.dialect.real(x) + `)`, kind: real}, nil
}

// arith compiles a calculation: with numbers, or with a time or a duration and a duration. What is divided by nothing
// is null.
func (c *compiler) arith(s scope, x odata.Arith) (value, error) {
	left, err := c.operand(s, x.Left)
	if err != nil {
		return value{}, err
	}
	right, err := c.operand(s, x.Right)
	if err != nil {
		return value{}, err
	}
	if kind, ok := sumOfTimes(x.Op, left, right); ok {
		l, err := c.sql(left, left.of())
		if err != nil {
			return value{}, err
		}
		r, err := c.sql(right, right.of())
		return value{sql: `(` + l + calculations[x.Op] + r + `)`, kind: kind}, err
	}
	l, err := c.sql(left, real)
	if err != nil {
		return value{}, err
	}
	r, err := c.sql(right, real)
	if err != nil {
		return value{}, err
	}
	l, r = c.dialect.real(l), c.dialect.real(r)
	switch x.Op {
	case "mod": // of whole numbers, as one engine has it
		l, r = `trunc(`+l+`)`, `NULLIF(trunc(`+r+`), 0)`
	case "div":
		r = `NULLIF(` + r + `, 0)`
	}
	return value{sql: `(` + l + calculations[x.Op] + r + `)`, kind: real}, nil
}

var calculations = map[odata.Op]string{"add": ` + `, "sub": ` - `, "mul": ` * `, "div": ` / `, "mod": ` % `}

// of is the kind of a time or a duration, also of a literal one.
func (v value) of() kind {
	if v.literal == nil {
		return v.kind
	}
	switch v.literal.Value.(type) {
	case time.Time:
		return moment
	case time.Duration:
		return span
	}
	return 0
}

// sumOfTimes reports whether a calculation is one of times, and what comes of it.
func sumOfTimes(op odata.Op, left, right value) (kind, bool) {
	switch l, r := left.of(), right.of(); {
	case (op == "add" || op == "sub") && (l == moment || l == span) && r == span:
		return l, true
	case op == "sub" && l == moment && r == moment:
		return span, true
	}
	return 0, false
}
