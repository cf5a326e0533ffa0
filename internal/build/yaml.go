package build

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/dunlin/dunlin/internal/fault"
)

// Bounds of a YAML file of a push. Nesting is bounded before a parser sees the file, because parsers recurse; nodes are
// counted with every alias written out, because whoever walks the tree does so too.
const (
	maxYAML      = 128 << 10
	maxYAMLDepth = 64
	maxYAMLNodes = 100_000
)

// node is a value of a YAML file that knows its line. Aliases and merge keys are already resolved; an aliased node is
// shared, so nodes are never changed.
type node struct {
	line  int
	kind  nodeKind
	raw   string // of a scalar: as it is written, without quotes
	value any    // of a scalar: string, int64, uint64, float64, bool or nil
	pairs []pair
	items []*node
	size  int // nodes in it, aliases written out
}

type nodeKind uint8

const (
	scalarNode nodeKind = iota
	mapNode
	listNode
)

type pair struct {
	key   string
	line  int
	value *node
}

// parseYAML reads the one document of a file. name is for messages, which are fault.Invalid with the line.
func parseYAML(name string, text []byte) (n *node, err error) {
	if len(text) > maxYAML {
		return nil, fault.Newf(fault.TooLarge, "%s is larger than %d KiB", name, maxYAML>>10)
	}
	if line := nestedTooDeep(text); line > 0 {
		return nil, at(name, line, "values are nested too deep")
	}
	// The parser is not ours and the text is foreign: a panic there is an unreadable file here.
	defer func() {
		if r := recover(); r != nil {
			n, err = nil, fault.Wrap(fault.Invalid, fmt.Errorf("parser: %v", r), name+" cannot be read as YAML")
		}
	}()
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			return nil, at(name, syntax.GetToken().Position.Line, "%s", syntax.GetMessage())
		}
		return nil, fault.Wrap(fault.Invalid, err, name+" cannot be read as YAML")
	}
	r := yamlReader{file: name, anchors: map[string]*node{}}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if n != nil {
			return nil, at(name, lineOf(doc.Body), "a second document begins here, and there may be only one")
		}
		if n, err = r.node(doc.Body, 0); err != nil {
			return nil, err
		}
	}
	if n == nil {
		n = &node{line: 1, size: 1}
	}
	return n, nil
}

// at is a complaint about a line of a file.
func at(file string, line int, format string, args ...any) *fault.Error {
	if line <= 0 {
		return fault.Newf(fault.Invalid, "%s: %s", file, fmt.Sprintf(format, args...))
	}
	return fault.Newf(fault.Invalid, "%s:%d: %s", file, line, fmt.Sprintf(format, args...))
}

// nestedTooDeep finds the first line that nests deeper than any file written by hand: brackets that are open, wherever
// they stand, and "- - - -" and "? ? ?" at the start of a line. Nesting by indentation alone needs a column a level, so
// indentation is bounded too.
func nestedTooDeep(text []byte) int {
	open := 0
	for i, line := range strings.Split(string(text), "\n") {
		rest := strings.TrimLeft(line, " \t")
		depth := (len(line) - len(rest)) / 2
		for {
			cut := strings.TrimLeft(rest, "-?:")
			if len(cut) == len(rest) || (cut != "" && cut[0] != ' ' && cut[0] != '\t') {
				break
			}
			depth += len(rest) - len(cut)
			rest = strings.TrimLeft(cut, " \t")
		}
		if rest != "" && depth > maxYAMLDepth {
			return i + 1
		}
		for _, c := range rest {
			switch c {
			case '[', '{':
				open++
			case ']', '}':
				open = max(open-1, 0)
			}
			if open > maxYAMLDepth {
				return i + 1
			}
		}
	}
	return 0
}

type yamlReader struct {
	file    string
	anchors map[string]*node
}

func (r *yamlReader) node(n ast.Node, depth int) (*node, error) {
	if depth > maxYAMLDepth {
		return nil, at(r.file, lineOf(n), "values are nested too deep")
	}
	out, err := r.read(n, depth)
	if err != nil {
		return nil, err
	}
	if out.size > maxYAMLNodes {
		return nil, at(r.file, lineOf(n), "aliases make this larger than %d values", maxYAMLNodes)
	}
	return out, nil
}

func (r *yamlReader) read(n ast.Node, depth int) (*node, error) {
	out := &node{line: lineOf(n), size: 1}
	switch v := n.(type) {
	case nil, *ast.NullNode:
	case *ast.StringNode:
		out.raw, out.value = v.Value, v.Value
	case *ast.LiteralNode:
		if v.Value != nil {
			out.raw, out.value = v.Value.Value, v.Value.Value
		}
	case *ast.IntegerNode:
		out.raw, out.value = v.Token.Value, v.Value
	case *ast.FloatNode:
		out.raw, out.value = v.Token.Value, v.Value
		if math.IsInf(v.Value, 0) || math.IsNaN(v.Value) {
			out.value = v.Token.Value
		}
	case *ast.BoolNode:
		out.raw, out.value = v.Token.Value, v.Value
	case *ast.InfinityNode:
		out.raw, out.value = v.Token.Value, v.Token.Value
	case *ast.NanNode:
		out.raw, out.value = v.Token.Value, v.Token.Value
	case *ast.AnchorNode:
		inner, err := r.node(v.Value, depth+1)
		if err != nil {
			return nil, err
		}
		r.anchors[v.Name.GetToken().Value] = inner
		return inner, nil
	case *ast.AliasNode:
		name := v.Value.GetToken().Value
		target, ok := r.anchors[name]
		if !ok {
			return nil, at(r.file, lineOf(n), "*%s has no &%s before it", name, name)
		}
		return target, nil
	case *ast.TagNode:
		inner, err := r.node(v.Value, depth+1)
		if err != nil {
			return nil, err
		}
		switch tag := v.Start.Value; tag {
		case "!!map", "!!seq", "!!int", "!!float", "!!bool", "!!null":
			return inner, nil
		case "!!str":
			text := *inner
			text.value = text.raw
			return &text, nil
		default:
			return nil, at(r.file, lineOf(n), "the tag %s is not supported", shorten(tag, 40))
		}
	case *ast.SequenceNode:
		out.kind = listNode
		for _, item := range v.Values {
			in, err := r.node(item, depth+1)
			if err != nil {
				return nil, err
			}
			out.items, out.size = append(out.items, in), out.size+in.size
		}
	case *ast.MappingNode:
		out.kind = mapNode
		return out, r.pairs(out, v.Values, depth)
	case *ast.MappingValueNode:
		out.kind = mapNode
		return out, r.pairs(out, []*ast.MappingValueNode{v}, depth)
	default:
		return nil, at(r.file, lineOf(n), "a %s is not expected here", strings.ToLower(n.Type().String()))
	}
	return out, nil
}

// pairs fills a map: its own keys first, then those that merge keys bring and it has not.
func (r *yamlReader) pairs(out *node, values []*ast.MappingValueNode, depth int) error {
	var merged []*node
	have := map[string]bool{}
	for _, v := range values {
		in, err := r.node(v.Value, depth+1)
		if err != nil {
			return err
		}
		out.size += in.size
		if v.Key.IsMergeKey() {
			from := []*node{in}
			if in.kind == listNode {
				from = in.items
			}
			for _, m := range from {
				if m.kind != mapNode {
					return at(r.file, lineOf(v.Key), "only a map can be merged with <<")
				}
			}
			merged = append(merged, from...)
			continue
		}
		line := lineOf(v.Key)
		var scalar ast.Node = v.Key
		if k, ok := v.Key.(*ast.MappingKeyNode); ok {
			scalar = k.Value
		}
		key, err := r.node(scalar, depth+1)
		if err != nil {
			return err
		}
		if key.kind != scalarNode {
			return at(r.file, line, "a key has to be a plain word")
		}
		if have[key.raw] {
			return at(r.file, line, "%q is here for the second time", shorten(key.raw, 80))
		}
		have[key.raw] = true
		out.pairs = append(out.pairs, pair{key.raw, line, in})
	}
	for _, m := range merged {
		for _, p := range m.pairs {
			if !have[p.key] {
				have[p.key] = true
				out.pairs = append(out.pairs, p)
			}
		}
	}
	return nil
}

func lineOf(n ast.Node) int {
	if n == nil {
		return 0
	}
	var t *token.Token
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && m.Values[0].Key != nil {
		t = m.Values[0].Key.GetToken()
	} else if mv, ok := n.(*ast.MappingValueNode); ok && mv.Key != nil {
		t = mv.Key.GetToken()
	} else {
		t = n.GetToken()
	}
	if t == nil || t.Position == nil {
		return 0
	}
	return t.Position.Line
}

// get returns the value of a key, or nil. It is nil-safe, so that look-ups chain.
func (n *node) get(key string) *node {
	if n == nil {
		return nil
	}
	for _, p := range n.pairs {
		if p.key == key {
			return p.value
		}
	}
	return nil
}

// lineAt is the line of the deepest key of path that exists.
func (n *node) lineAt(path ...string) int {
	line := n.line
	for _, key := range path {
		found := false
		for _, p := range n.pairs {
			if p.key == key {
				line, n, found = p.line, p.value, true
				break
			}
		}
		if !found {
			break
		}
	}
	return line
}

// text is a scalar's text as it is written; ok is false for maps, lists and null.
func (n *node) text() (s string, ok bool) {
	if n == nil || n.kind != scalarNode || n.value == nil {
		return "", false
	}
	return n.raw, true
}

// plain is the node as JSON has it: map[string]any, []any and scalars, nothing shared.
func (n *node) plain() any {
	switch n.kind {
	case mapNode:
		m := make(map[string]any, len(n.pairs))
		for _, p := range n.pairs {
			m[p.key] = p.value.plain()
		}
		return m
	case listNode:
		l := make([]any, 0, len(n.items))
		for _, i := range n.items {
			l = append(l, i.plain())
		}
		return l
	}
	if u, ok := n.value.(uint64); ok && u <= math.MaxInt64 {
		return int(u)
	}
	if i, ok := n.value.(int64); ok {
		return int(i)
	}
	return n.value
}
