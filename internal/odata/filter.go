package odata

import (
	"slices"
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

// comparison takes OPERAND [OP OPERAND] or OPERAND in (VALUE, …).
func (p *parser) comparison() (Expr, error) {
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	switch op := p.word(); op {
	case "eq", "ne", "gt", "ge", "lt", "le":
		p.at += len(op)
		if err := p.node(); err != nil {
			return nil, err
		}
		right, err := p.operand()
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
		arity, known := functions[w]
		if !known {
			return nil, p.fail("there is no function %q", w)
		}
		p.at = end + 1
		return p.call(w, arity)
	}
	return p.path()
}

func (p *parser) call(name string, arity int) (Expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	begin := p.at
	args, err := list(p, (*parser).operand)
	if err != nil {
		return nil, err
	}
	if len(args) != arity {
		return nil, p.failAt(begin, "%s takes %d arguments, not %d", name, arity, len(args))
	}
	if err := p.need(')'); err != nil {
		return nil, err
	}
	return Call{name, args}, p.node()
}

// path takes NAME/NAME…, which may end in /$count, /any(…) or /all(…).
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
			return Count{path}, nil
		}
		w, err := p.name()
		if err != nil {
			return nil, err
		}
		if (w == "any" || w == "all") && len(path.Names) > 0 && p.eat('(') {
			return p.lambda(path, w == "all")
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
