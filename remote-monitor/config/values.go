package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// scalar is one value. shown is how it was written, for errors: a secret is not shown.
type scalar struct {
	at          place
	text, shown string
}

// scalar reads the value of a node. A list or a mapping is none.
func (m *mapping) scalar(name string, node ast.Node) (scalar, bool) {
	at := m.r.at(node.GetToken())
	var text string
	interpolated := false
	switch n := node.(type) {
	case *ast.StringNode:
		text, interpolated = n.Value, true
	case *ast.LiteralNode:
		text, interpolated = strings.TrimSuffix(n.Value.Value, "\n"), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		text = node.GetToken().Value
	case *ast.NullNode:
		m.wrong(at, "%s has no value; write one, or leave the key out", name)
		return scalar{}, false
	case *ast.MappingNode, *ast.MappingValueNode:
		m.wrong(at, "%s: want one value, not keys; put one that has a : in it in quotes", name)
		return scalar{}, false
	default:
		m.wrong(at, "%s: want one value, not a list", name)
		return scalar{}, false
	}
	s := scalar{at: at, text: text, shown: quoted(text)}
	if interpolated {
		var err error
		if s.text, err = interpolate(text, m.r.secret); err != nil {
			m.wrong(at, "%s: %v", name, err)
			return scalar{}, false
		}
	}
	return s, true
}

// value reads the one value of a key. It is not ok when the key is not there or has been complained about.
func (m *mapping) value(name string) (s scalar, ok bool) {
	node, _, ok := m.ask(name)
	if !ok {
		return scalar{}, false
	}
	return m.scalar(name, node)
}

// name reads a reference to something that is looked up later. One that is wrong is told once, here.
func (m *mapping) name(key string, to *name) {
	var ok bool
	if to.at, ok = m.text(key, &to.text); !ok {
		if _, _, given := m.ask(key); given {
			to.text = unreadable
		}
	}
}

// unreadable is a name that was given and complained about.
const unreadable = "\x00"

// text reads a value that is not empty. It returns where it stands, or where it would.
func (m *mapping) text(name string, to *string) (place, bool) {
	s, ok := m.value(name)
	if !ok {
		_, at, _ := m.ask(name)
		return at, false
	}
	if s.text = strings.TrimSpace(s.text); s.text == "" || strings.ContainsFunc(s.text, func(r rune) bool { return r < ' ' }) {
		m.wrong(s.at, "%s: want a text in one line", name)
		return s.at, false
	}
	*to = s.text
	return s.at, true
}

// yes reads a truth.
func (m *mapping) yes(name string, to *bool) {
	if s, ok := m.value(name); ok {
		b, known := truth(s.text)
		if !known {
			m.wrong(s.at, "%s: %s: want true or false", name, s.shown)
			return
		}
		*to = b
	}
}

func truth(s string) (value, known bool) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "yes", "on", "1":
		return true, true
	case "false", "no", "off", "0":
		return false, true
	}
	return false, false
}

// number reads a number from low to high.
func (m *mapping) number(name string, to *float64, low, high float64) (place, bool) {
	s, ok := m.value(name)
	if !ok {
		return m.at, false
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(s.text), "%")), 64)
	if err != nil || !(f >= low && f <= high) {
		m.wrong(s.at, "%s: %s: want a number %s", name, s.shown, between(low, high, func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }))
		return s.at, false
	}
	*to = f
	return s.at, true
}

// whole reads a whole number from low to high.
func (m *mapping) whole(name string, to *int, low, high int) {
	if s, ok := m.value(name); ok {
		n, err := strconv.ParseInt(strings.TrimSpace(s.text), 0, 32)
		if err != nil || int(n) < low || int(n) > high {
			m.wrong(s.at, "%s: %s: want a whole number %s", name, s.shown, between(low, high, strconv.Itoa))
			return
		}
		*to = int(n)
	}
}

// wholeOrOff reads a whole number, or off, which is -1.
func (m *mapping) wholeOrOff(name string, to *int, low, high int) {
	if s, ok := m.value(name); ok {
		n, err := strconv.ParseInt(strings.TrimSpace(s.text), 0, 32)
		switch {
		case isOff(s.text):
			*to = -1
		case err != nil || int(n) < low || int(n) > high:
			m.wrong(s.at, "%s: %s: want a whole number %s, or off", name, s.shown, between(low, high, strconv.Itoa))
		default:
			*to = int(n)
		}
	}
}

func between[T any](low, high T, show func(T) string) string {
	return "from " + show(low) + " to " + show(high)
}

// isOff tells a value that switches something off.
func isOff(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "off", "none", "never", "no", "false", "-":
		return true
	}
	return false
}

// duration reads a time from low to high.
func (m *mapping) duration(name string, to *time.Duration, low, high time.Duration) (place, bool) {
	s, ok := m.value(name)
	if !ok {
		return m.at, false
	}
	d, ok := parseDuration(s.text)
	if !ok {
		m.wrong(s.at, "%s: %s: want a time such as 500ms, 10 s, 2 min or 1h30m, or a number of seconds", name, s.shown)
		return s.at, false
	}
	if d < low || d > high {
		m.wrong(s.at, "%s: %s: want a time %s", name, s.shown, between(low, high, span))
		return s.at, false
	}
	*to = d
	return s.at, true
}

// durationOr reads a time from low to high, or off or 0, which is written as off.
func (m *mapping) durationOr(off time.Duration, name string, to *time.Duration, low, high time.Duration) {
	s, ok := m.value(name)
	if !ok {
		return
	}
	switch d, ok := parseDuration(s.text); {
	case isOff(s.text) || ok && d == 0:
		*to = off
	case !ok:
		m.wrong(s.at, "%s: %s: want a time such as 500ms, 10 s, 2 min or 1h30m, a number of seconds, or off", name, s.shown)
	case d < low || d > high:
		m.wrong(s.at, "%s: %s: want a time %s, or off", name, s.shown, between(low, high, span))
	default:
		*to = d
	}
}

// word is one of the values that a key may have.
type word[T any] struct {
	name  string
	value T
}

// choice reads one of words.
func choice[T any](m *mapping, name string, to *T, words ...word[T]) (place, bool) {
	s, ok := m.value(name)
	if !ok {
		return m.at, false
	}
	var names []string
	for _, w := range words {
		if strings.EqualFold(strings.TrimSpace(s.text), w.name) {
			*to = w.value
			return s.at, true
		}
		names = append(names, w.name)
	}
	m.wrong(s.at, "%s: %s is none of its values; %s", name, s.shown, instead(s.text, names))
	return s.at, false
}

// same makes words of values that are called as they are written.
func same[T ~string](values ...T) (words []word[T]) {
	for _, v := range values {
		words = append(words, word[T]{string(v), v})
	}
	return words
}

// interpolate puts values in the place of ${NAME} and ${NAME:-otherwise}; $${ is a ${ that stays.
func interpolate(s string, lookup func(string) (string, bool, error)) (string, error) {
	var out strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			out.WriteString(s)
			break
		}
		if i > 0 && s[i-1] == '$' {
			out.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		out.WriteString(s[:i])
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return "", errors.New("a ${ has no }; write $${ for the characters themselves")
		}
		name, otherwise, hasDefault := strings.Cut(s[i+2:i+end], ":-")
		if !isVariable(name) {
			return "", fmt.Errorf("${%s} names no variable; want letters, digits and _, and write $${ for the characters themselves", name)
		}
		v, ok, err := lookup(name)
		switch {
		case err != nil:
			return "", fmt.Errorf("${%s}: %w", name, err)
		case ok:
			out.WriteString(v)
		case hasDefault:
			out.WriteString(otherwise)
		default:
			return "", fmt.Errorf("${%s} is not set; set the variable %[1]s, or %[1]s_FILE to a file that has it, or write ${%[1]s:-something} for a default", name)
		}
		s = s[i+end+1:]
	}
	if s := out.String(); strings.HasPrefix(s, "op://") {
		v, ok, err := lookup(s)
		if err != nil {
			return "", err
		}
		if !ok {
			return "", fmt.Errorf("%s cannot be read: OP_CONNECT_HOST and OP_CONNECT_TOKEN are not set", s)
		}
		return v, nil
	}
	return out.String(), nil
}

func isVariable(s string) bool {
	return isID(s) && !strings.Contains(s, "-") && !(s[0] >= '0' && s[0] <= '9')
}

// ohms reads a resistance: 4700, 4.7k or 4k7; none is infinite.
func ohms(s string) (float64, bool) {
	s = strings.TrimSpace(strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(s), "Ω"), "ohm"))
	if isOff(s) {
		return math.Inf(1), true
	}
	factor := 1.0
	if i := strings.IndexAny(s, "kKM"); i >= 0 {
		factor = 1e3
		if s[i] == 'M' {
			factor = 1e6
		}
		if i == len(s)-1 {
			s = s[:i]
		} else {
			s = s[:i] + "." + s[i+1:]
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	return f * factor, err == nil && f > 0 && !math.IsInf(f, 0)
}
