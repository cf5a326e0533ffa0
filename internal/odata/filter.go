package odata

import (
	"slices"
	"strconv"
	"strings"
)

// or takes AND [or AND]….
func (p *parser) or() (Expr, error) {
	return p.chain("or", (*parser).and, func(all []Expr) Expr { return Or(all) })
}

// and takes UNARY [and UNARY]….
func (p *parser) and() (Expr, error) {
	return p.chain("and", (*parser).unary, func(all []Expr) Expr { return And(all) })
}

func (p *parser) chain(word string, part func(*parser) (Expr, error), join func([]Expr) Expr) (Expr, error) {
	var all []Expr
	for {
		x, err := part(p)
		if err != nil {
			return nil, err
		}
		all = append(all, x)
		if !p.eatWord(word) {
			break
		}
		if err := p.node(); err != nil {
			return nil, err
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return join(all), nil
}

// unary takes [not] COMPARISON.
func (p *parser) unary() (Expr, error) {
	if !p.eatWord("not") {
		return p.comparison()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.unary()
	if err != nil {
		return nil, err
	}
	return Not{x}, p.node()
}

// comparison takes SUM [OP SUM] or SUM in (VALUE, …).
func (p *parser) comparison() (Expr, error) {
	left, err := p.sum()
	if err != nil {
		return nil, err
	}
	switch op := p.word(); op {
	case "eq", "ne", "gt", "ge", "lt", "le":
		p.at += len(op)
		if err := p.node(); err != nil {
			return nil, err
		}
		right, err := p.sum()
		if err != nil {
			return nil, err
		}
		return Compare{Op(op), left, right}, nil
	case "in":
		p.at += len(op)
		values, err := p.values()
		if err != nil {
			return nil, err
		}
		return In{left, values}, p.node()
	}
	return left, nil
}

// sum takes PRODUCT [add|sub PRODUCT]….
func (p *parser) sum() (Expr, error) { return p.arith((*parser).product, "add", "sub") }

// product takes OPERAND [mul|div|mod OPERAND]….
func (p *parser) product() (Expr, error) { return p.arith((*parser).operand, "mul", "div", "mod") }

func (p *parser) arith(part func(*parser) (Expr, error), ops ...string) (Expr, error) {
	left, err := part(p)
	if err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		op := p.word()
		if !slices.Contains(ops, op) {
			return left, nil
		}
		if n == maxDepth {
			return nil, p.fail("a calculation has more than %d steps", maxDepth)
		}
		p.at += len(op)
		if err := p.node(); err != nil {
			return nil, err
		}
		right, err := part(p)
		if err != nil {
			return nil, err
		}
		left = Arith{Op(op), left, right}
	}
}

func (p *parser) values() ([]Literal, error) {
	if err := p.need('('); err != nil {
		return nil, err
	}
	all, err := list(p, func(p *parser) (Literal, error) {
		p.budget.values++
		if p.budget.values > maxValues {
			return Literal{}, p.fail("the query has more than %d values behind \"in\"", maxValues)
		}
		return p.literal()
	})
	if err != nil {
		return nil, err
	}
	return all, p.need(')')
}

// operand takes a value, a function, a path, or an expression in parentheses.
func (p *parser) operand() (Expr, error) {
	if l, ok, err := p.maybeLiteral(); err != nil || ok {
		if err == nil {
			err = p.node()
		}
		return l, err
	}
	if p.eat('(') {
		if err := p.enter(); err != nil {
			return nil, err
		}
		defer p.leave()
		x, err := p.or()
		if err != nil {
			return nil, err
		}
		return x, p.need(')')
	}
	begin, w := p.at, p.word()
	if w == "" {
		return nil, p.want("an expression")
	}
	if end := begin + len(w); end < len(p.text) && p.text[end] == '(' {
		takes, known := functions[w]
		if !known {
			return nil, p.fail("there is no function %q", w)
		}
		p.at = end + 1
		return p.call(w, takes)
	}
	return p.path()
}

func (p *parser) call(name string, takes [2]int) (Expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	begin := p.at
	var args []Expr
	if !p.peek(')') {
		var err error
		if args, err = list(p, (*parser).or); err != nil {
			return nil, err
		}
	}
	if n := len(args); n < takes[0] || n > takes[1] {
		number := strconv.Itoa(takes[0])
		if takes[1] > takes[0] {
			number += " or " + strconv.Itoa(takes[1])
		}
		return nil, p.failAt(begin, "%s takes %s arguments, not %d", name, number, n)
	}
	if err := p.need(')'); err != nil {
		return nil, err
	}
	return Call{name, args}, p.node()
}

// path takes NAME/NAME…, which may end in /$count, /$count($filter=…), /any(…), /all(…) or /canAccess(). The last is
// any(): a row that the asker may not reach is not there.
func (p *parser) path() (Expr, error) {
	var path Path
	first, err := p.name()
	if err != nil {
		return nil, err
	}
	if slices.Contains(p.vars, first) {
		path.Var = first
	} else {
		path.Names = append(path.Names, first)
	}
	for p.at < len(p.text) && p.text[p.at] == '/' {
		p.at++
		if strings.HasPrefix(p.text[p.at:], "$count") && len(path.Names) > 0 {
			p.at += len("$count")
			return p.count(path)
		}
		w, err := p.name()
		if err != nil {
			return nil, err
		}
		if (w == "any" || w == "all") && len(path.Names) > 0 && p.eat('(') {
			return p.lambda(path, w == "all")
		}
		if w == "canAccess" && len(path.Names) > 0 && p.eat('(') {
			return Lambda{Nav: path}, p.need(')')
		}
		path.Names = append(path.Names, w)
		if len(path.Names) > maxDepth {
			return nil, p.fail("the path has more than %d names", maxDepth)
		}
	}
	if len(path.Names) == 0 {
		return nil, p.want(`"/" and a field of ` + first)
	}
	return path, nil
}

// count takes what may come after /$count: nothing, or ($filter=EXPRESSION).
func (p *parser) count(nav Path) (Expr, error) {
	c := Count{Nav: nav}
	if p.at >= len(p.text) || p.text[p.at] != '(' {
		return c, nil
	}
	p.at++
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	const option = "$filter="
	if p.space(); !strings.HasPrefix(p.text[p.at:], option) {
		return nil, p.want(option)
	}
	p.at += len(option)
	var err error
	if c.Filter, err = p.or(); err != nil {
		return nil, err
	}
	return c, p.need(')')
}

// lambda takes VAR:EXPRESSION), or only the parenthesis.
func (p *parser) lambda(nav Path, all bool) (Expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	l := Lambda{Nav: nav, All: all}
	if !all && p.eat(')') {
		return l, nil
	}
	var err error
	if l.Var, err = p.name(); err != nil {
		return nil, err
	}
	if err := p.need(':'); err != nil {
		return nil, err
	}
	p.vars = append(p.vars, l.Var)
	defer func() { p.vars = p.vars[:len(p.vars)-1] }()
	if l.Body, err = p.or(); err != nil {
		return nil, err
	}
	return l, p.need(')')
}
