package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dunlin/dunlin/internal/engine"
)

// The values of a compose file as they come in JSON: numbers or strings, one or a list, a map or a list of pairs.

// text is a string, or what a number or a truth looks like as one. null is "".
func text(raw json.RawMessage) (string, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "", errors.New("no value")
	}
	switch raw[0] {
	case '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	case '{', '[':
		return "", fmt.Errorf("want one value, not %.40s", raw)
	case 'n':
		return "", nil
	default:
		return string(raw), nil
	}
}

// texts is a list, or one string as a list of one.
func texts(raw json.RawMessage) ([]string, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || raw[0] != '[' {
		s, err := text(raw)
		if err != nil || s == "" {
			return nil, err
		}
		return []string{s}, nil
	}
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	list := make([]string, 0, len(all))
	for _, r := range all {
		s, err := text(r)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// pairs is a map, or a list of NAME=value; a name alone has the value "".
func pairs(raw json.RawMessage) (map[string]string, error) {
	m := map[string]string{}
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '{' {
		var all map[string]json.RawMessage
		if err := json.Unmarshal(raw, &all); err != nil {
			return nil, err
		}
		for k, r := range all {
			v, err := text(r)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
			m[k] = v
		}
		return m, nil
	}
	list, err := texts(raw)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		k, v, _ := strings.Cut(s, "=")
		m[k] = v
	}
	return m, nil
}

// object is a map with its keys in snake_case, whichever way they were written.
func object(raw json.RawMessage) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	snaked := make(map[string]json.RawMessage, len(m))
	for k, v := range m {
		if s := snake(k); s == k || m[s] == nil {
			snaked[s] = v
		}
	}
	return snaked, nil
}

// snake makes capAdd and cap_add the same word.
func snake(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

func truth(raw json.RawMessage) (bool, error) {
	s, err := text(raw)
	if err != nil {
		return false, err
	}
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off", "":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

func whole(raw json.RawMessage) (int64, error) {
	f, err := float(raw)
	if err != nil {
		return 0, err
	}
	if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, fmt.Errorf("%v is not a whole number", f)
	}
	return int64(f), nil
}

func float(raw json.RawMessage) (float64, error) {
	s, err := text(raw)
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return f, nil
}

// size is a number of bytes: 1024, "64k", "1.5gb".
func size(raw json.RawMessage) (int64, error) {
	s, err := text(raw)
	if err != nil {
		return 0, err
	}
	s = strings.ToLower(strings.TrimSpace(s))
	digits := strings.TrimRight(s, "bkmgti ")
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(s[len(digits):]), "b"), "i")
	power := strings.Index("kmgt", unit) + 1
	if unit == "" {
		power = 0
	}
	f, err := strconv.ParseFloat(digits, 64)
	f *= float64(int64(1) << (10 * power))
	if err != nil || len(unit) > 1 || !(math.Abs(f) < 1<<60) {
		return 0, fmt.Errorf("%q is not a size, like 64m or 1gb", s)
	}
	return int64(f), nil
}

// duration is "1m30s" or a number of seconds.
func duration(raw json.RawMessage) (time.Duration, error) {
	s, err := text(raw)
	if err != nil {
		return 0, err
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f >= 0 && f < 1e9 {
		return time.Duration(f * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration, like 1m30s", s)
	}
	return d, nil
}

// command is a list of words, or one line that a shell would split into them.
func command(raw json.RawMessage) ([]string, error) {
	if raw = bytes.TrimSpace(raw); len(raw) > 0 && raw[0] == '[' {
		return texts(raw)
	}
	s, err := text(raw)
	if err != nil {
		return nil, err
	}
	return split(s)
}

// split cuts a line into words as a shell does, without expanding anything.
func split(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	inWord, escaped := false, false
	for _, r := range s {
		switch {
		case escaped:
			if quote == '"' && r != '"' && r != '\\' && r != '$' && r != '`' {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, inWord = r, true
		case unicode.IsSpace(r):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("%q ends in the middle of a quotation", s)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// maxPorts bounds what ranges may stand for.
const maxPorts = 4096

// ports is a list in the short form [[IP:]HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTOCOL] or the long one.
func ports(raw json.RawMessage) ([]engine.Port, error) {
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	var list []engine.Port
	for _, r := range all {
		var some []engine.Port
		var err error
		if r = bytes.TrimSpace(r); len(r) > 0 && r[0] == '{' {
			some, err = longPort(r)
		} else {
			var s string
			if s, err = text(r); err == nil {
				some, err = shortPort(s)
			}
		}
		if err != nil {
			return nil, err
		}
		if list = append(list, some...); len(list) > maxPorts {
			return nil, fmt.Errorf("more than %d ports", maxPorts)
		}
	}
	return list, nil
}

func longPort(raw json.RawMessage) ([]engine.Port, error) {
	m, err := object(raw)
	if err != nil {
		return nil, err
	}
	var got [4]string
	for i, key := range []string{"target", "published", "protocol", "host_ip"} {
		if m[key] == nil {
			continue
		}
		if got[i], err = text(m[key]); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return portRange(got[3], got[1], got[0], got[2])
}

func shortPort(s string) ([]engine.Port, error) {
	rest, protocol, _ := strings.Cut(s, "/")
	host, ip := "", ""
	inside := rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host, inside = rest[:i], rest[i+1:]
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			ip, host = strings.Trim(host[:i], "[]"), host[i+1:]
		}
	}
	return portRange(ip, host, inside, protocol)
}

func portRange(ip, host, inside, protocol string) ([]engine.Port, error) {
	if protocol == "" {
		protocol = "tcp"
	}
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return nil, fmt.Errorf("port %s: no protocol %q", inside, protocol)
	}
	first, last, err := span(inside)
	if err != nil {
		return nil, err
	}
	var from, to uint16
	if host != "" && host != "0" {
		if from, to, err = span(host); err != nil {
			return nil, err
		}
		if to-from != last-first {
			return nil, fmt.Errorf("ports %s and %s are not equally many", host, inside)
		}
	}
	var list []engine.Port
	for i := 0; i <= int(last-first); i++ {
		p := engine.Port{HostIP: ip, Container: first + uint16(i), Protocol: protocol}
		if from != 0 {
			p.Host = from + uint16(i)
		}
		list = append(list, p)
	}
	return list, nil
}

func span(s string) (first, last uint16, err error) {
	low, high, ranged := strings.Cut(s, "-")
	if !ranged {
		high = low
	}
	a, err := strconv.ParseUint(low, 10, 16)
	b, err2 := strconv.ParseUint(high, 10, 16)
	if err != nil || err2 != nil || a == 0 || b < a {
		return 0, 0, fmt.Errorf("%q is not a port, 1 to 65535, or a range of them", s)
	}
	return uint16(a), uint16(b), nil
}
