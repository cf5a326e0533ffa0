package odata

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/fault"
)

// parser reads one text: the path, or the value of one option.
type parser struct {
	text  string
	at    int // bytes read
	what  string
	depth int
	vars  []string // of the lambdas around the place it is at
	*budget
}

// budget is what all parsers of one query share.
type budget struct {
	nodes, values int
	aliased       int // bytes
	aliases       map[string]Literal
}

// fail is the error of the place p is at.
func (p *parser) fail(format string, args ...any) error {
	return p.failAt(p.at, format, args...)
}

func (p *parser) failAt(at int, format string, args ...any) error {
	at = min(at, len(p.text))
	return fault.Newf(fault.Invalid, "cannot read %s at character %d: %s", p.what, utf8.RuneCountInString(p.text[:at])+1,
		fmt.Sprintf(format, args...))
}

// want is the error of finding something else than what.
func (p *parser) want(what string) error {
	if p.at >= len(p.text) {
		return p.fail("want %s, found the end", what)
	}
	rest := p.text[p.at:]
	if len(rest) > 20 {
		rest = rest[:20] + "…"
	}
	return p.fail("want %s, found %q", what, strings.ToValidUTF8(rest, "?"))
}

// node counts one more part of the tree.
func (p *parser) node() error {
	p.nodes++
	if p.nodes > maxNodes {
		return p.fail("the query has more than %d parts", maxNodes)
	}
	return nil
}

// enter goes one level down; the caller defers leave.
func (p *parser) enter() error {
	p.depth++
	if p.depth > maxDepth {
		return p.fail("it is nested more than %d deep", maxDepth)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

func (p *parser) space() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t') {
		p.at++
	}
}

// peek reports whether c comes next, after space.
func (p *parser) peek(c byte) bool {
	p.space()
	return p.at < len(p.text) && p.text[p.at] == c
}

// eat takes c if it comes next, after space.
func (p *parser) eat(c byte) bool {
	if !p.peek(c) {
		return false
	}
	p.at++
	return true
}

func (p *parser) need(c byte) error {
	if !p.eat(c) {
		return p.want(strconv.Quote(string(c)))
	}
	return nil
}

// end is nil if all is read.
func (p *parser) end() error {
	p.space()
	if p.at < len(p.text) {
		return p.want("the end")
	}
	return nil
}

func letter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// word is the name that comes next, "" if none does; it is not taken.
func (p *parser) word() string {
	p.space()
	i := p.at
	for i < len(p.text) && (letter(p.text[i]) || i > p.at && digit(p.text[i])) {
		i++
	}
	return p.text[p.at:i]
}

// name takes a name.
func (p *parser) name() (string, error) {
	w := p.word()
	if w == "" {
		return "", p.want("a name")
	}
	if len(w) > maxName {
		return "", p.fail("a name is longer than %d bytes", maxName)
	}
	p.at += len(w)
	return w, p.node()
}

// eatWord takes w if it is the next word.
func (p *parser) eatWord(w string) bool {
	if p.word() != w {
		return false
	}
	p.at += len(w)
	return true
}

// literal takes a value.
func (p *parser) literal() (Literal, error) {
	l, ok, err := p.maybeLiteral()
	if err == nil && !ok {
		err = p.want("a value")
	}
	return l, err
}

// maybeLiteral takes a value if one comes next.
func (p *parser) maybeLiteral() (l Literal, ok bool, err error) {
	p.space()
	if p.at >= len(p.text) {
		return l, false, nil
	}
	switch c := p.text[p.at]; {
	case c == '\'':
		s, err := p.quoted()
		return Literal{s}, true, err
	case c == '-' || digit(c):
		l, err := p.number()
		return l, true, err
	case c == '@':
		begin := p.at
		p.at++
		name, err := p.name()
		if err != nil {
			return l, true, err
		}
		l, known := p.aliases[name]
		if !known {
			return l, true, p.failAt(begin, "there is no parameter @%s", name)
		}
		if text, ok := l.Value.(string); ok {
			p.aliased += len(text)
		}
		if p.aliased > maxAlias {
			return l, true, p.failAt(begin, "the parameters stand for more than %d bytes", maxAlias)
		}
		return l, true, nil
	}
	w := p.word()
	switch w {
	case "true", "false":
		p.at += len(w)
		return Literal{w == "true"}, true, nil
	case "null":
		p.at += len(w)
		return Literal{}, true, nil
	case "datetime", "date", "datetimeoffset":
		begin := p.at
		s, ok, err := p.prefixed(w)
		if !ok || err != nil {
			return l, ok, err
		}
		t, err := ParseTime(s)
		if err != nil {
			return l, true, p.failAt(begin, "%s", fault.Message(err))
		}
		return Literal{t}, true, nil
	case "duration":
		begin := p.at
		s, ok, err := p.prefixed(w)
		if !ok || err != nil {
			return l, ok, err
		}
		d, ok := parseDuration(s)
		if !ok {
			return l, true, p.failAt(begin, "%q is not a duration; write it as P1DT12H30M5S", s)
		}
		return Literal{d}, true, nil
	}
	return l, false, nil
}

// prefixed takes WORD'TEXT'. ok is false if no text follows the word, and then nothing is taken.
func (p *parser) prefixed(word string) (text string, ok bool, err error) {
	if end := p.at + len(word); end >= len(p.text) || p.text[end] != '\'' {
		return "", false, nil
	}
	p.at += len(word)
	text, err = p.quoted()
	return text, true, err
}

// durations is what parseDuration reads; there is at least one digit.
var durations = regexp.MustCompile(`^(-?)P(?:(\d{1,6})D)?(?:T(?:(\d{1,8})H)?(?:(\d{1,9})M)?(?:(\d{1,10})(?:\.(\d{1,9}))?S)?)?$`)

// parseDuration reads an ISO 8601 duration of days and less.
func parseDuration(s string) (d time.Duration, ok bool) {
	m := durations.FindStringSubmatch(s)
	if m == nil || !strings.ContainsAny(s, "0123456789") || strings.HasSuffix(s, "T") {
		return 0, false
	}
	for i, unit := range []int64{24 * 3600, 3600, 60, 1} {
		if m[2+i] == "" {
			continue
		}
		n, err := strconv.ParseInt(m[2+i], 10, 64)
		if err != nil || n > maxSeconds/unit {
			return 0, false
		}
		d += time.Duration(n*unit) * time.Second
	}
	if m[6] != "" {
		n, err := strconv.ParseInt((m[6] + "00000000")[:9], 10, 64)
		if err != nil {
			return 0, false
		}
		d += time.Duration(n)
	}
	if m[1] != "" {
		d = -d
	}
	return d, true
}

// maxSeconds bounds each part of a duration, so that their sum is one: 60 years.
const maxSeconds = 60 * 366 * 24 * 3600

// ParseTime reads a time as the protocol writes it: ISO 8601; without a zone it is UTC. A zone's plus sign may have
// become a space on its way through a query string.
func ParseTime(s string) (time.Time, error) {
	plus := strings.Replace(s, " ", "+", 1)
	for _, form := range dateForms {
		if t, err := time.Parse(form, plus); err == nil && t.UTC().Year() > 0 && t.UTC().Year() < 10000 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fault.Newf(fault.Invalid, "%q is not a time; write it as 2006-01-02T15:04:05.000Z", s)
}

// quoted takes a string in single quotes, in which ” stands for one.
func (p *parser) quoted() (string, error) {
	begin := p.at
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		if p.text[p.at] != '\'' {
			b.WriteByte(p.text[p.at])
			continue
		}
		if p.at+1 < len(p.text) && p.text[p.at+1] == '\'' {
			b.WriteByte('\'')
			p.at++
			continue
		}
		p.at++
		return b.String(), nil
	}
	return "", p.failAt(begin, "the string is not closed")
}

// number takes an integer or a decimal number.
func (p *parser) number() (Literal, error) {
	begin, whole := p.at, true
	i := p.at
	if p.text[i] == '-' {
		i++
	}
	for ; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case digit(c):
			continue
		case c == '.', c|0x20 == 'e', (c == '-' || c == '+') && p.text[i-1]|0x20 == 'e':
			whole = false
			continue
		}
		break
	}
	s := p.text[begin:i]
	p.at = i
	if i < len(p.text) && letter(p.text[i]) {
		return Literal{}, p.failAt(begin, "%q is not a number", p.text[begin:i+1])
	}
	if whole {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return Literal{}, p.failAt(begin, "%q is not a whole number of 64 bits", s)
		}
		return Literal{n}, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return Literal{}, p.failAt(begin, "%q is not a number", s)
	}
	return Literal{f}, nil
}
