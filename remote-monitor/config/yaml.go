package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// reader reads one YAML document. Each part asks for the keys it knows; a key nobody asked for is an error. That
// makes what is read, what is checked and what is suggested one list.
type reader struct {
	*problems
	source string
	secret func(name string) (string, bool, error)
}

// Bounds of a document. The parser calls itself for each level of nesting, so nesting is bounded before it runs.
const (
	mostBytes  = 128 << 10
	mostNested = 32
	mostIndent = 256
)

// document parses text. It returns nil when there is nothing in it, or when problems say why.
func (r *reader) document(text []byte) *mapping {
	if len(text) > mostBytes {
		r.wrong(place{source: r.source}, "it has %d bytes; more than %d are not read", len(text), mostBytes)
		return nil
	}
	tokens := lexer.Tokenize(string(text))
	if !r.plain(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		at, why := place{source: r.source}, err.Error()
		var syntax interface {
			GetToken() *token.Token
			GetMessage() string
		}
		if errors.As(err, &syntax) {
			at, why = r.at(syntax.GetToken()), syntax.GetMessage()
		}
		r.wrong(at, "this is not YAML: %s", why)
		return nil
	}
	var root *mapping
	for _, d := range file.Docs {
		switch {
		case d.Body == nil:
		case root != nil:
			r.wrong(r.at(d.Body.GetToken()), "a second document begins; write everything in one")
			return nil
		default:
			if root = r.mapping(d.Body, ""); root == nil {
				return nil
			}
		}
	}
	return root
}

// plain refuses what nobody needs here, and nesting that only an attacker writes.
func (r *reader) plain(tokens token.Tokens) bool {
	depth, run := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			r.wrong(r.at(t), "anchors, aliases and << are not read here; write the value out, or put what zones share under defaults:")
			return false
		case token.TagType, token.DirectiveType, token.MappingKeyType:
			r.wrong(r.at(t), "tags, directives and ? keys are not read here; write plain keys and values")
			return false
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		}
		run++
		if t.Type != token.SequenceEntryType {
			run = 0
		}
		if depth > mostNested || run > mostNested || t.Position != nil && t.Position.IndentNum > mostIndent {
			r.wrong(r.at(t), "nothing here is nested this deep")
			return false
		}
	}
	return true
}

func (r *reader) at(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{source: r.source}
	}
	return place{r.source, max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// mapping is a set of keys and values. what says whose they are, for errors: "zone Hall".
type mapping struct {
	r      *reader
	at     place
	what   string
	values map[string]ast.Node
	keys   []key
	asked  []string
}

type key struct {
	name string
	at   place
}

// mapping reads node as keys and values; an empty value has none.
func (r *reader) mapping(node ast.Node, what string) *mapping {
	m := &mapping{r: r, what: what, values: map[string]ast.Node{}, at: r.at(node.GetToken())}
	var pairs []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.NullNode:
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		r.wrong(m.at, "%swant keys and values here, such as key: value", prefix(what))
		return nil
	}
	for i, p := range pairs {
		k := key{p.Key.GetToken().Value, r.at(p.Key.GetToken())}
		if i == 0 {
			m.at = k.at
		}
		if _, again := m.values[k.name]; again {
			r.wrong(k.at, "%s%s is given twice", prefix(what), k.name)
			continue
		}
		m.values[k.name] = p.Value
		m.keys = append(m.keys, k)
	}
	return m
}

func prefix(what string) string {
	if what == "" {
		return ""
	}
	return what + ": "
}

func (m *mapping) wrong(at place, format string, args ...any) {
	m.r.wrong(at, "%s%s", prefix(m.what), fmt.Sprintf(format, args...))
}

// ask notes that key means something here and tells where it is, if it is.
func (m *mapping) ask(name string) (ast.Node, place, bool) {
	if !slices.Contains(m.asked, name) {
		m.asked = append(m.asked, name)
	}
	v, ok := m.values[name]
	for _, k := range m.keys {
		if k.name == name {
			return v, k.at, ok
		}
	}
	return nil, m.at, false
}

// done refuses the keys nobody asked for.
func (m *mapping) done() {
	for _, k := range m.keys {
		if !slices.Contains(m.asked, k.name) && len(m.r.found) < mostKept {
			m.wrong(k.at, "there is no key %s here; %s", quoted(k.name), instead(k.name, m.asked))
		}
	}
}

// scalars reads a list of values; a single value is a list of one. given tells that the key is there.
func (m *mapping) scalars(name string) (all []scalar, given bool) {
	node, _, ok := m.ask(name)
	if !ok {
		return nil, false
	}
	nodes := []ast.Node{node}
	switch n := node.(type) {
	case *ast.SequenceNode:
		nodes = n.Values
	case *ast.NullNode:
		nodes = nil
	}
	for _, n := range nodes {
		if s, ok := m.scalar(name, n); ok {
			all = append(all, s)
		}
	}
	return all, true
}

// each reads a list of mappings.
func (m *mapping) each(name, what string, read func(*mapping)) (at place, given bool) {
	node, at, ok := m.ask(name)
	if !ok {
		return at, false
	}
	switch n := node.(type) {
	case *ast.NullNode:
	case *ast.SequenceNode:
		for i, v := range n.Values {
			if sub := m.r.mapping(v, fmt.Sprintf("%s %d", what, i+1)); sub != nil {
				read(sub)
				sub.done()
			}
		}
	default:
		m.wrong(m.r.at(node.GetToken()), "%s: want a list: a line with - for each %s", name, what)
	}
	return at, true
}

// under reads the mapping below a key.
func (m *mapping) under(name, what string, read func(*mapping)) (at place, given bool) {
	node, at, ok := m.ask(name)
	if !ok {
		return at, false
	}
	if sub := m.r.mapping(node, strings.TrimPrefix(m.what+", "+what, ", ")); sub != nil {
		if len(sub.keys) == 0 {
			sub.at = at
		}
		read(sub)
		sub.done()
	}
	return at, true
}
