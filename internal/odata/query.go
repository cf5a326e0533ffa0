package odata

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dunlin/dunlin/internal/fault"
)

// Parse reads the path below the model's root, percent-decoded (`device(uuid='…')`), and the raw query string.
// Options that do not begin with $ or @ belong to others and are passed over. Every error is fault.Invalid and says
// where it is.
func Parse(path, rawQuery string) (*Query, error) {
	if len(path) > maxQuery || len(rawQuery) > maxQuery {
		return nil, fault.Newf(fault.TooLarge, "the query is over %d bytes", maxQuery)
	}
	b := &budget{aliases: map[string]Literal{}}
	options, err := split(rawQuery)
	if err != nil {
		return nil, err
	}
	for _, o := range options {
		name, ok := strings.CutPrefix(o.name, "@")
		if !ok {
			continue
		}
		p := &parser{text: o.value, what: o.name, budget: b}
		l, err := p.literal()
		if err == nil {
			err = p.end()
		}
		if err != nil {
			return nil, err
		}
		b.aliases[name] = l
	}
	q := &Query{}
	if err := q.path(&parser{text: path, what: "the path", budget: b}); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, o := range options {
		if !strings.HasPrefix(o.name, "$") {
			continue
		}
		p := &parser{text: o.value, what: o.name, budget: b}
		if err := q.option(p, o.name, seen); err != nil {
			return nil, err
		}
		if err := p.end(); err != nil {
			return nil, err
		}
	}
	return q, nil
}

type option struct{ name, value string }

// split takes a query string apart. url.ParseQuery would refuse the semicolons that clients leave bare in $expand.
func split(rawQuery string) ([]option, error) {
	var all []option
	for part := range strings.SplitSeq(rawQuery, "&") {
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || !strings.HasPrefix(name, "$") && !strings.HasPrefix(name, "@") {
			continue
		}
		value, err = url.QueryUnescape(value)
		if err != nil || !utf8.ValidString(value) || !utf8.ValidString(name) || strings.ContainsRune(value, 0) {
			return nil, fault.Wrap(fault.Invalid, err, "the query string is not percent-encoded text")
		}
		all = append(all, option{name, value})
	}
	return all, nil
}

// path takes RESOURCE[(KEY)][/$count|/ACTION][/].
func (q *Query) path(p *parser) (err error) {
	if !utf8.ValidString(p.text) || strings.ContainsRune(p.text, 0) {
		return fault.New(fault.Invalid, "the path is not text")
	}
	if q.Resource, err = p.name(); err != nil {
		return err
	}
	if p.eat('(') {
		if err := q.key(p); err != nil {
			return err
		}
	}
	if p.eat('/') && p.at < len(p.text) {
		if strings.HasPrefix(p.text[p.at:], "$count") {
			p.at += len("$count")
			q.Count = true
		} else if q.Action, err = p.name(); err != nil {
			return p.want("$count or the name of an action")
		}
		p.eat('/')
	}
	return p.end()
}

func (q *Query) key(p *parser) error {
	for {
		var k KeyPart
		l, bare, err := p.maybeLiteral()
		switch {
		case err != nil:
			return err
		case bare:
			k.Value = l
		default:
			if k.Name, err = p.name(); err != nil {
				return err
			}
			if err := p.need('='); err != nil {
				return err
			}
			if k.Value, err = p.literal(); err != nil {
				return err
			}
		}
		if slices.ContainsFunc(q.Key, func(o KeyPart) bool { return o.Name == k.Name || o.Name == "" || k.Name == "" }) {
			return p.fail("a key of several parts names each of them once")
		}
		if k.Value.Value == nil {
			return p.fail("no part of a key is null")
		}
		q.Key = append(q.Key, k)
		if p.eat(')') {
			return nil
		}
		if err := p.need(','); err != nil {
			return err
		}
	}
}

// option takes the value of one option. seen are the ones there were.
func (o *Options) option(p *parser, name string, seen map[string]bool) (err error) {
	if seen[name] {
		return p.fail("%s is there twice", name)
	}
	seen[name] = true
	switch name {
	case "$select":
		if p.eat('*') { // every field, as if nothing were said
			return nil
		}
		o.Select, err = list(p, (*parser).name)
	case "$expand":
		o.Expand, err = list(p, (*parser).expand)
	case "$filter":
		o.Filter, err = p.or()
	case "$orderby":
		o.OrderBy, err = list(p, (*parser).order)
	case "$top":
		o.Top, err = p.natural()
	case "$skip":
		o.Skip, err = p.natural()
	case "$count":
		// The number of all rows beside the rows; nobody reads it from this protocol's answers, which have no place for it.
		if !p.eatWord("true") && !p.eatWord("false") {
			return p.want("true or false")
		}
	case "$inlinecount":
		// The same in an older spelling.
		if !p.eatWord("allpages") && !p.eatWord("none") {
			return p.want("allpages or none")
		}
	case "$format":
		// There is one format.
		p.at = len(p.text)
	default:
		return fault.Newf(fault.Invalid, "there is no option %q", name)
	}
	return err
}

// list takes one or more things with commas between them.
func list[T any](p *parser, one func(*parser) (T, error)) ([]T, error) {
	var all []T
	for {
		v, err := one(p)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
		if !p.eat(',') {
			return all, nil
		}
	}
}

// expand takes NAME[/$count][(OPTION;OPTION)].
func (p *parser) expand() (e Expand, err error) {
	if e.Name, err = p.name(); err != nil {
		return e, err
	}
	if p.eat('/') {
		if !strings.HasPrefix(p.text[p.at:], "$count") {
			return e, p.want("$count")
		}
		p.at += len("$count")
		e.Count = true
	}
	if !p.eat('(') {
		return e, nil
	}
	if err := p.enter(); err != nil {
		return e, err
	}
	defer p.leave()
	seen := map[string]bool{}
	for {
		begin := p.at
		if p.need('$') != nil {
			return e, p.want("an option")
		}
		w := p.word()
		p.at += len(w)
		if err := p.need('='); err != nil {
			return e, err
		}
		if w == "format" {
			return e, p.failAt(begin, "$format is no option of an expansion")
		}
		if err := e.option(p, "$"+w, seen); err != nil {
			return e, err
		}
		if p.eat(')') {
			return e, nil
		}
		if p.need(';') != nil {
			return e, p.want(`";" or ")"`)
		}
	}
}

// order takes PATH [asc|desc], where the path may end in /$count. Without a direction it is descending: not what OData
// says, but what the balena API does, and `$orderby=created_at&$top=1` must be the same row here.
func (p *parser) order() (o Order, err error) {
	begin := p.at
	x, err := p.path()
	if err != nil {
		return o, err
	}
	if _, ok := x.(Lambda); ok {
		return o, p.failAt(begin, "rows cannot be sorted by any or all")
	}
	o.By, o.Desc = x, true
	switch w := p.word(); strings.ToLower(w) {
	case "asc":
		o.Desc = false
		fallthrough
	case "desc":
		p.at += len(w)
	}
	return o, nil
}

// natural takes a number from 0 to a million.
func (p *parser) natural() (*int, error) {
	begin := p.at
	l, err := p.literal()
	if err != nil {
		return nil, err
	}
	n, ok := l.Value.(int64)
	if !ok || n < 0 || n > 1_000_000 {
		return nil, p.failAt(begin, "want a whole number from 0 to 1000000")
	}
	i := int(n)
	return &i, nil
}
