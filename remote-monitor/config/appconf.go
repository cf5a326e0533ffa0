package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// appConf is the original's file: sections of keys and values. Keys are compared without regard to case, as Python's
// configparser does, and values may have %(NAME)s for a variable or another key.
type appConf struct {
	*problems
	source   string
	sections map[string]*section
	env      *variables
	expanded int    // names that were replaced
	within   string // the key whose value is being read
}

type section struct {
	name    string
	at      place
	options []option
}

type option struct {
	name, text string
	at         place
}

// Sections of the original. Those without are of its earlier versions, or of parts that this program does not have.
var (
	confSections = []string{
		"app", "rabbitmq", "adc_address", "io_address", "relay_address", "input_address", "input_location", "input_name",
		"input_type", "input_normal_values", "input_tamper_values", "output_location", "output_type", "output_relay",
	}
	confWithout = []string{"creds", "zmq", "serial", "house_alarm_decoder", "botoflow", "default"}
)

// parseAppConf takes the file apart.
func parseAppConf(p *problems, source string, text []byte, env *variables) *appConf {
	c := &appConf{problems: p, source: source, sections: map[string]*section{}, env: env}
	if len(text) > mostBytes {
		c.wrong(place{source: source}, "it has %d bytes; more than %d are not read", len(text), mostBytes)
		return c
	}
	var in *section
	for i, line := range strings.Split(strings.TrimPrefix(string(text), "\uFEFF"), "\n") {
		at := place{source: source, line: i + 1}
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			name, ok := strings.CutSuffix(line[1:], "]")
			if name = strings.TrimSpace(name); !ok || name == "" {
				c.wrong(at, "%s is no section; want its name in brackets, such as [input_name]", quoted(line))
				continue
			}
			lower := strings.ToLower(name)
			if c.sections[lower] != nil {
				c.wrong(at, "the section [%s] is there twice; put its lines together", name)
			}
			in = &section{name: name, at: at}
			c.sections[lower] = in
		default:
			n := strings.IndexAny(line, "=:")
			if n <= 0 {
				c.wrong(at, "%s is neither a section nor a key; want key = value", quoted(line))
				continue
			}
			o := option{strings.TrimSpace(line[:n]), strings.TrimSpace(line[n+1:]), at}
			switch {
			case in == nil:
				c.wrong(at, "%s stands before the first section; want [app] or another one above it", quoted(o.name))
			case in.option(o.name) != nil:
				c.wrong(at, "%s is there twice in [%s]; keep one", o.name, in.name)
			default:
				in.options = append(in.options, o)
			}
		}
	}
	return c
}

func (s *section) option(name string) *option {
	if s == nil {
		return nil
	}
	for i := range s.options {
		if strings.EqualFold(s.options[i].name, name) {
			return &s.options[i]
		}
	}
	return nil
}

// value is the text of a key with all %(NAME)s replaced; a variable that is not set is empty, as it is when a device
// has no use for it. at is where the key stands, or where it would.
func (c *appConf) value(in, key string) (text string, at place) {
	s := c.sections[in]
	o := s.option(key)
	if o == nil {
		return "", place{source: fmt.Sprintf("%s: [%s] %s", c.source, in, key)}
	}
	at = place{source: fmt.Sprintf("%s: [%s] %s", o.at, in, o.name)}
	c.within = o.name
	text, err := c.expand(s, o.text, 0)
	if err != nil {
		c.wrong(at, "%v", err)
		return "", at
	}
	return strings.TrimSpace(text), at
}

// Bounds of keys that name each other: how deep, and how often in all.
const (
	mostDeep     = 10
	mostExpanded = 10_000
)

// expand replaces %(NAME)s and %%.
func (c *appConf) expand(s *section, text string, depth int) (string, error) {
	if c.expanded++; depth > mostDeep || c.expanded > mostExpanded {
		return "", errors.New("its %(…)s go round in a circle")
	}
	var out strings.Builder
	for {
		i := strings.IndexByte(text, '%')
		if i < 0 {
			out.WriteString(text)
			return out.String(), nil
		}
		out.WriteString(text[:i])
		text = text[i:]
		if strings.HasPrefix(text, "%%") {
			out.WriteByte('%')
			text = text[2:]
			continue
		}
		end := strings.Index(text, ")s")
		if !strings.HasPrefix(text, "%(") || end < 0 {
			return "", errors.New("a % stands alone; write %(NAME)s for a variable, or %% for the character itself")
		}
		name := text[2:end]
		text = text[end+2:]
		v, err := c.named(s, name, depth)
		if err != nil {
			return "", err
		}
		if out.WriteString(v); out.Len() > mostBytes {
			return "", errors.New("it becomes too long")
		}
	}
}

// named is what %(name)s stands for: a variable, or a key of the section or of [DEFAULT].
func (c *appConf) named(s *section, name string, depth int) (string, error) {
	if v := c.env.lookup(name); v != "" {
		return v, nil
	}
	for _, in := range []*section{s, c.sections["default"]} {
		// A key whose value is a variable of the same name, as in cronitor_monitor_key=%(CRONITOR_MONITOR_KEY)s, means the
		// variable and not itself.
		if o := in.option(name); o != nil && !strings.EqualFold(name, c.within) {
			outer := c.within
			c.within = o.name
			text, err := c.expand(in, o.text, depth+1)
			c.within = outer
			return text, err
		}
	}
	if rest, ok := strings.CutPrefix(name, "RESIN_"); ok { // what the platform called it before 2018
		return c.env.lookup("BALENA_" + rest), nil
	}
	return "", nil
}

// check refuses sections that are nearly right, and notes those that have no use.
func (c *appConf) check(note func(string, ...any)) {
	for _, lower := range slices.Sorted(maps.Keys(c.sections)) {
		s := c.sections[lower]
		switch {
		case slices.Contains(confSections, lower):
		case slices.Contains(confWithout, lower):
			if lower != "default" {
				note("%s: the section [%s] has no use here", c.source, s.name)
			}
		default:
			c.wrong(s.at, "there is no section [%s]; %s", s.name, instead(lower, confSections))
		}
	}
	for in, keys := range map[string][]string{
		"app":      {"device_name", "tamper_label", "tamper_value", "cronitor_monitor_key", "eth0_ip", "meter_sample_interval_seconds"},
		"rabbitmq": {"server_address", "mq_exchange", "device_topic"},
	} {
		if s := c.sections[in]; s != nil {
			for _, o := range s.options {
				if !slices.Contains(keys, strings.ToLower(o.name)) {
					c.wrong(o.at, "[%s] has no key %s; %s", s.name, o.name, instead(o.name, keys))
				}
			}
		}
	}
}
