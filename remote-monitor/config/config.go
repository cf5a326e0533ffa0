// Package config owns what Remote Monitor is told: the environment variables of the original and its own few, read
// into one checked configuration. It does not own running it.
package config

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Defaults and bounds.
const (
	DefaultInterval  = 50 * time.Millisecond
	DefaultHeartbeat = time.Minute
	MaxInputs        = 16
)

// Kinds of board.
const (
	NoBoard   = ""
	Simulated = "simulated"
)

// Config is a configuration that makes sense.
type Config struct {
	Device    string        // name of this device
	Board     string        // NoBoard or Simulated
	Seed      uint64        // of the simulated board
	Interval  time.Duration // between two scans
	Heartbeat time.Duration // between two signs of life
	Inputs    []Input       // by number
	Samples   bool          // Inputs are the built-in samples for the simulated board: none were given

	// Unused are variables that mean something to the original and nothing here, sorted.
	Unused []string
}

// Input is one detector.
type Input struct {
	Number               int // from 1, as printed on the board
	Name, Type, Location string
	Normal               int  // percent of the supply when all is quiet
	Tamper               *int // percent of the supply when somebody meddles; nil if not given
	TamperLabel          string
}

// Key is the input's name for people and machines, as the original composes it: Hall Motion Detector (Ground floor).
func (i Input) Key() string {
	key := strings.TrimSpace(i.Name + " " + i.Type)
	if i.Location != "" {
		key += " (" + i.Location + ")"
	}
	return key
}

// inputFields are the last parts of INPUT_<n>_….
var inputFields = []string{"NAME", "TYPE", "LOCATION", "VALUE_NORMAL", "VALUE_TAMPER"}

// Parse reads an environment in the form of os.Environ. It checks everything before it returns; the error names every
// variable that is wrong, one a line, and what to write instead. host is the device's name when no variable says it.
func Parse(environ []string, host string) (Config, error) {
	p := parser{env: map[string]string{}}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.TrimSpace(v) != "" {
			p.env[k] = strings.TrimSpace(v)
		}
	}
	c := Config{
		Device:    p.first(host, "BALENA_DEVICE_NAME_AT_INIT", "RESIN_DEVICE_NAME_AT_INIT"),
		Board:     p.board(),
		Seed:      p.seed(host),
		Interval:  p.duration("SAMPLE_INTERVAL", DefaultInterval, 10*time.Millisecond, 10*time.Second),
		Heartbeat: p.duration("REMOTE_MONITOR_HEARTBEAT", DefaultHeartbeat, time.Second, 24*time.Hour),
		Inputs:    p.inputs(),
	}
	p.unknown(&c)
	if len(p.errs) > 0 {
		return Config{}, errors.Join(p.errs...)
	}
	if c.Board == Simulated && len(c.Inputs) == 0 {
		c.Inputs, c.Samples = samples(), true
	}
	return c, nil
}

// samples are the detectors of a house that was not described.
func samples() []Input {
	open := 78
	in := func(n int, name, location string) Input {
		return Input{Number: n, Name: name, Type: "Motion Detector", Location: location, Normal: 29, Tamper: &open, TamperLabel: defaultLabel}
	}
	return []Input{in(1, "Hall", "Ground floor"), in(2, "Porch", "Outside"), in(3, "Landing", "First floor")}
}

const defaultLabel = "tamper"

// parser collects what is wrong instead of stopping at the first.
type parser struct {
	env  map[string]string
	errs []error
}

func (p *parser) wrong(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

// first is the first of the variables that is set.
func (p *parser) first(otherwise string, names ...string) string {
	for _, n := range names {
		if v := p.env[n]; v != "" {
			return v
		}
	}
	return otherwise
}

func (p *parser) board() string {
	v := p.env["REMOTE_MONITOR_BOARD"]
	switch {
	case v == NoBoard || v == Simulated:
	case closest(v, []string{Simulated}) != "":
		p.wrong("REMOTE_MONITOR_BOARD=%s: there is no such board; did you mean %s?", v, Simulated)
	default:
		p.wrong("REMOTE_MONITOR_BOARD=%s: there is no such board; this version has: %s", v, Simulated)
	}
	return v
}

// seed differs between devices unless it is set, so that the devices of a fleet do not all see the same people.
func (p *parser) seed(host string) uint64 {
	if v, ok := p.env["REMOTE_MONITOR_SEED"]; ok {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			p.wrong("REMOTE_MONITOR_SEED=%s: want a whole number, zero or more", v)
		}
		return n
	}
	h := fnv.New64a()
	h.Write([]byte(p.first(host, "BALENA_DEVICE_UUID", "RESIN_DEVICE_UUID")))
	return h.Sum64()
}

// duration reads 50ms or, as the original's constants are written, a number of seconds.
func (p *parser) duration(name string, otherwise, low, high time.Duration) time.Duration {
	v, ok := p.env[name]
	if !ok {
		return otherwise
	}
	d, err := time.ParseDuration(v)
	if f, numErr := strconv.ParseFloat(v, 64); numErr == nil {
		d, err = time.Duration(f*float64(time.Second)), nil
		if !(f >= 0 && f <= 1e9) {
			d = -1
		}
	}
	if err != nil {
		p.wrong("%s=%s: want a time such as %v, or a number of seconds", name, v, otherwise)
	} else if d < low || d > high {
		p.wrong("%s=%s: want a time from %v to %v", name, v, low, high)
	}
	return d
}

func (p *parser) inputs() []Input {
	fields := map[int]map[string]string{}
	for k, v := range p.env {
		if n, field, ok := inputVariable(k); ok {
			if fields[n] == nil {
				fields[n] = map[string]string{}
			}
			fields[n][field] = v
		}
	}
	label := p.first(defaultLabel, "INPUT_TAMPER_LABEL")
	taken := map[string]int{}
	var inputs []Input
	for _, n := range slices.Sorted(maps.Keys(fields)) {
		f := fields[n]
		in := Input{Number: n, Name: f["NAME"], Type: f["TYPE"], Location: f["LOCATION"], TamperLabel: label}
		if in.Name == "" {
			in.Name = fmt.Sprint("Input ", n)
		}
		if in.Type == "" {
			in.Type = "Detector"
		}
		if f["VALUE_NORMAL"] == "" {
			p.wrong("INPUT_%d_VALUE_NORMAL is not set: input %d needs the percentage of the supply it has when all is quiet", n, n)
		} else {
			in.Normal = p.percent(n, "VALUE_NORMAL", f)
		}
		if f["VALUE_TAMPER"] != "" {
			t := p.percent(n, "VALUE_TAMPER", f)
			in.Tamper = &t
			if d := t - in.Normal; f["VALUE_NORMAL"] != "" && -zone.Tolerance <= d && d <= zone.Tolerance {
				p.wrong("INPUT_%d_VALUE_TAMPER=%d: it is within %d of INPUT_%d_VALUE_NORMAL=%d and would never be seen", n, t, zone.Tolerance, n, in.Normal)
			}
		}
		if other, ok := taken[in.Key()]; ok {
			p.wrong("INPUT_%d_NAME: inputs %d and %d are both %q; give one of them another name, type or location", n, other, n, in.Key())
		}
		taken[in.Key()] = n
		inputs = append(inputs, in)
	}
	return inputs
}

func (p *parser) percent(n int, field string, f map[string]string) int {
	v, err := strconv.Atoi(strings.TrimSuffix(f[field], "%"))
	if err != nil || v < 0 || v > 100 {
		p.wrong("INPUT_%d_%s=%s: want a whole percentage of the supply, 0 to 100", n, field, f[field])
	}
	return v
}

// inputVariable takes INPUT_<n>_<field> apart.
func inputVariable(name string) (n int, field string, ok bool) {
	rest, ok := strings.CutPrefix(name, "INPUT_")
	if !ok {
		return 0, "", false
	}
	number, field, ok := strings.Cut(rest, "_")
	n, err := strconv.Atoi(number)
	ok = ok && err == nil && number == strconv.Itoa(n) && n >= 1 && n <= MaxInputs && slices.Contains(inputFields, field)
	return n, field, ok
}

// own are the variables of this program besides the inputs'.
var own = []string{"REMOTE_MONITOR_BOARD", "REMOTE_MONITOR_SEED", "REMOTE_MONITOR_HEARTBEAT", "SAMPLE_INTERVAL", "INPUT_TAMPER_LABEL"}

// originals are variables that the original reads and this version does not need or do.
var originals = []string{"INPUT_TAMPER_VALUE", "CRONITOR_MONITOR_KEY", "HC_PING_URL", "RSYSLOG_SERVER"}

// unknown refuses names that can only be meant for this program and that it does not know: a misspelt detector is
// a detector that watches nothing. The original's variables for what this version does not do are listed.
func (p *parser) unknown(c *Config) {
	for _, k := range slices.Sorted(maps.Keys(p.env)) {
		_, _, input := inputVariable(k)
		switch {
		case input || slices.Contains(own, k):
		case slices.Contains(originals, k) || strings.HasPrefix(k, "OUTPUT_") || strings.HasPrefix(k, "RABBITMQ_"):
			c.Unused = append(c.Unused, k)
		case strings.HasPrefix(k, "INPUT_") || strings.HasPrefix(k, "REMOTE_MONITOR_") || strings.HasPrefix(k, "SAMPLE_"):
			if s := closest(k, p.known(k)); s != "" {
				p.wrong("%s: there is no such variable; did you mean %s?", k, s)
			} else {
				p.wrong("%s: there is no such variable; inputs are INPUT_1_NAME to INPUT_%d_NAME, with %s", k, MaxInputs, strings.Join(inputFields, ", "))
			}
		}
	}
}

// known are the names that k may have been meant to be.
func (p *parser) known(k string) []string {
	names := slices.Clone(own)
	for n := 1; n <= MaxInputs; n++ {
		if prefix := fmt.Sprintf("INPUT_%d_", n); strings.HasPrefix(k, prefix) {
			for _, f := range inputFields {
				names = append(names, prefix+f)
			}
		}
	}
	return names
}

// closest is the candidate with the fewest changed letters, "" if none is close.
func closest(word string, candidates []string) string {
	best, most := "", 1+len(word)/4
	for _, c := range candidates {
		if d := distance(word, c); d <= most {
			best, most = c, d-1
		}
	}
	return best
}

// distance counts inserted, deleted and replaced letters (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
