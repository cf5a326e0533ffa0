package config

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Variable is one environment variable that means something here.
type Variable struct {
	Name    string
	Meaning string
	Default string // in words; empty: nothing
}

// Variables are those of this program and of the original, for help texts. Those of inputs and outputs have <n>.
func Variables() []Variable {
	return []Variable{
		{"REMOTE_MONITOR_CONFIG", "the YAML file, or the original's app.conf", "/data/remote-monitor.yaml or /etc/remote-monitor.yaml if it is there"},
		{"REMOTE_MONITOR_YAML", "the YAML file itself, for fleets", ""},
		{"REMOTE_MONITOR_APP_CONF", "the original's app.conf, beside a YAML file", ""},
		{"REMOTE_MONITOR_BOARD", "simulated: no hardware is needed; original: the original's wiring", "original, if inputs or outputs are given"},
		{"REMOTE_MONITOR_SEED", "number that makes the simulated board repeat itself", "follows the device"},
		{"REMOTE_MONITOR_DEVICE", "name of this device", "the platform's, or the host's"},
		{"REMOTE_MONITOR_TIME_ZONE", "time zone of schedules and rules, e.g. Europe/Berlin", "UTC"},
		{"REMOTE_MONITOR_DATA", "folder for what is kept over restarts", "/data if it is there"},
		{"REMOTE_MONITOR_HEARTBEAT", "time between two signs of life", "1m"},
		{"REMOTE_MONITOR_PROFILE", "legacy: the original's algorithm for the inputs INPUT_<n>", "pipeline"},
		{"REMOTE_MONITOR_SENSITIVITY", "low, normal or high, for the inputs INPUT_<n>", "normal"},
		{"REMOTE_MONITOR_POLICY", "single, prefer_confirm or require_confirm, for the inputs INPUT_<n>", "prefer_confirm"},
		{"REMOTE_MONITOR_MQTT_URL", "MQTT broker, e.g. mqtt://broker:1883", "no MQTT"},
		{"REMOTE_MONITOR_MQTT_USER", "its user", ""},
		{"REMOTE_MONITOR_MQTT_PASSWORD", "its password", ""},
		{"REMOTE_MONITOR_MQTT_PREFIX", "first part of all topics", defaultPrefix},
		{"REMOTE_MONITOR_AMQP_URL", "RabbitMQ broker, e.g. amqp://user:password@broker", "no AMQP"},
		{"REMOTE_MONITOR_AMQP_LEVEL", "true: an input is marked triggered in each message while it alarms", "false"},
		{"REMOTE_MONITOR_PAGE_LISTEN", "where the status page is served, e.g. :8080", "no page"},
		{"REMOTE_MONITOR_PAGE_TOKEN", "token for its buttons", "no buttons"},
		{"REMOTE_MONITOR_SYSLOG", "where logs go, e.g. udp://logs:514, tcp:// or tls://", ""},
		{"REMOTE_MONITOR_WATCHDOG", "hardware watchdog, e.g. /dev/watchdog", ""},
		{"SENTRY_DSN", "where errors are reported", ""},
		{"SAMPLE_INTERVAL", "time between two scans", "50ms"},
		{"INPUT_<n>_NAME", "name of input n, 1 to 16", "Input <n>"},
		{"INPUT_<n>_TYPE", "what it is, e.g. Motion Detector", "Detector"},
		{"INPUT_<n>_LOCATION", "where it is", ""},
		{"INPUT_<n>_VALUE_NORMAL", "percentage of the supply when all is quiet; required for each input", ""},
		{"INPUT_<n>_VALUE_TAMPER", "percentage of the supply when somebody meddles", "a tamper looks like an alarm"},
		{"INPUT_<n>_ADDRESS", "its terminal, e.g. adc1:5", "the original's wiring"},
		{"INPUT_TAMPER_LABEL", "what a tamper is called", "tamper"},
		{"OUTPUT_<n>_TYPE", "what output n is, e.g. Siren, 1 to 16", "Output"},
		{"OUTPUT_<n>_LOCATION", "where it is", "Output <n>"},
		{"OUTPUT_<n>_RELAY", "its relay, 1 to 8 of the original's wiring, or a pin such as io1:3; required for each output", ""},
		{"OUTPUT_<n>_MAX_ON", "longest time it may be on", "10s"},
		{"RABBITMQ_SERVER_ADDRESS", "RabbitMQ broker", "no AMQP"},
		{"RABBITMQ_EXCHANGE", "its exchange", defaultExchange},
		{"RABBITMQ_DEVICE_TOPIC", "the topic of this kind of device", defaultTopic},
		{"HC_PING_URL", "Healthchecks address that is told that all is well", ""},
		{"CRONITOR_MONITOR_KEY", "Cronitor monitor that is told that all is well", ""},
		{"RSYSLOG_SERVER", "where logs go, over UDP; with @ before it over TCP", ""},
		{"NO_START", "anything: stay up and do nothing", ""},
		{"OP_CONNECT_HOST", "1Password Connect server that has what op://vault/item/field names", ""},
		{"OP_CONNECT_TOKEN", "its token", ""},
		{"OP_CONNECT_VAULT", "the vault of op://item/field", ""},
	}
}

// without names are variables that the original reads and this program has no use for.
var without = []string{"INPUT_TAMPER_VALUE", "TEST_ON_START_ADDRESS", "TEST_ON_START_PORT", "RSYSLOG_TEMPLATE", "OP_VAULT"}

// Fields of the original's variables, the last parts of INPUT_<n>_… and OUTPUT_<n>_….
var (
	inputFields  = []string{"NAME", "TYPE", "LOCATION", "VALUE_NORMAL", "VALUE_TAMPER", "ADDRESS"}
	outputFields = []string{"TYPE", "LOCATION", "RELAY", "MAX_ON"}
)

// most inputs and outputs that the variables describe.
const mostNumbered = 16

// variables is the environment, with what files and vaults have instead of it.
type variables struct {
	*problems
	set    map[string]string
	named  map[string]bool // variables that the YAML file names
	secret func(name string) (string, bool, error)
	failed map[string]bool
}

func newVariables(p *problems, s Sources) *variables {
	v := &variables{problems: p, set: environment(s.Environ), named: map[string]bool{}, secret: s.Secret, failed: map[string]bool{}}
	if v.secret == nil {
		v.secret = func(name string) (string, bool, error) {
			value, ok := v.set[name]
			return value, ok, nil
		}
	}
	return v
}

// inFile is what ${NAME} of the YAML file stands for.
func (v *variables) inFile(name string) (string, bool, error) {
	v.named[name] = true
	return v.secret(name)
}

// lookup is the value of a variable, wherever it comes from; empty: there is none.
func (v *variables) lookup(name string) string {
	value, _, err := v.secret(name)
	if err != nil {
		if !v.failed[name] {
			v.failed[name] = true
			v.wrong(place{source: name}, "%v", err)
		}
		return ""
	}
	return strings.TrimSpace(value)
}

// first is the first of the variables that is set.
func (v *variables) first(names ...string) string {
	for _, n := range names {
		if value := v.lookup(n); value != "" {
			return value
		}
	}
	return ""
}

// numbered takes INPUT_<n>_<field> or OUTPUT_<n>_<field> apart.
func numbered(prefix string, fields []string, name string) (n int, field string, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, "", false
	}
	digits, field, ok := strings.Cut(rest, "_")
	n, err := strconv.Atoi(digits)
	ok = ok && err == nil && digits == strconv.Itoa(n) && n >= 1 && n <= mostNumbered && slices.Contains(fields, field)
	return n, field, ok
}

// duration reads a variable's 50ms or, as the original's constants are written, a number of seconds.
func (v *variables) duration(name string, to *time.Duration, low, high time.Duration) {
	s := v.lookup(name)
	if s == "" {
		return
	}
	d, ok := parseDuration(s)
	switch {
	case !ok:
		v.wrong(place{}, "%s=%s: want a time such as 50ms or 10s, or a number of seconds", name, s)
	case d < low || d > high:
		v.wrong(place{}, "%s=%s: want a time from %s to %s", name, s, span(low), span(high))
	default:
		*to = d
	}
}

// pick reads a variable that is one of words.
func pick[T any](v *variables, name string, to *T, words ...word[T]) {
	s := v.lookup(name)
	if s == "" {
		return
	}
	for _, w := range words {
		if strings.EqualFold(w.name, s) {
			*to = w.value
			return
		}
	}
	v.wrong(place{}, "%s=%s: it is none of its values; %s", name, s, instead(s, wordNames(words)))
}

// variables puts what the environment says over what the file says. Zones and outputs are not among it: they are in
// one place or in the other.
func (d *draft) variables() {
	v := d.env
	over := func(name string, had bool, set func(at place, value string)) {
		value := v.lookup(name)
		if value == "" {
			return
		}
		if had {
			d.note("%s is set and is used instead of what the file says", name)
		}
		set(place{source: name}, value)
	}
	text := func(name string, to *string) {
		over(name, *to != "" && *to != v.lookup(name), func(_ place, value string) { *to = value })
	}
	text("REMOTE_MONITOR_DEVICE", &d.Device)
	text("REMOTE_MONITOR_DATA", &d.Data)
	text("REMOTE_MONITOR_WATCHDOG", &d.Watchdog)
	over("REMOTE_MONITOR_TIME_ZONE", d.TimeZone != nil, func(at place, value string) {
		tz, err := location(value)
		if err != nil {
			d.wrong(at, "%v", err)
			return
		}
		d.TimeZone = tz
	})
	v.duration("REMOTE_MONITOR_HEARTBEAT", &d.Heartbeat, time.Second, day)
	v.duration("SAMPLE_INTERVAL", &d.Interval, leastInterval, mostInterval)
	d.seeds()

	over("REMOTE_MONITOR_MQTT_URL", d.MQTT != nil && d.MQTT.URL != "", func(at place, value string) {
		d.mqtt().URL = value
		d.mqttURL(at, d.mqtt())
	})
	if d.MQTT != nil {
		text("REMOTE_MONITOR_MQTT_USER", &d.MQTT.User)
		text("REMOTE_MONITOR_MQTT_PASSWORD", &d.MQTT.Password)
		over("REMOTE_MONITOR_MQTT_PREFIX", false, func(at place, value string) {
			d.MQTT.Prefix = strings.Trim(value, "/")
			d.topic(at, "prefix", d.MQTT.Prefix)
		})
	} else {
		d.useless("REMOTE_MONITOR_MQTT_URL", "REMOTE_MONITOR_MQTT_USER", "REMOTE_MONITOR_MQTT_PASSWORD", "REMOTE_MONITOR_MQTT_PREFIX")
	}

	server := func(at place, value string) {
		d.amqp()
		d.amqpParts.server = name{value, at}
		if u, err := address(value, "amqp", "amqps"); err == nil && u.User != nil {
			d.amqpParts.user, d.amqpParts.password = name{}, name{} // it has its own
		}
	}
	for _, name := range []string{"RABBITMQ_SERVER_ADDRESS", "REMOTE_MONITOR_AMQP_URL"} {
		had := d.amqpParts.server.text
		over(name, had != "" && had != v.lookup(name), server)
	}
	if d.AMQP != nil {
		over("RABBITMQ_EXCHANGE", false, func(_ place, value string) { d.AMQP.Exchange = value })
		over("RABBITMQ_DEVICE_TOPIC", false, func(at place, value string) {
			if d.AMQP.Topic = value; !isID(value) {
				d.wrong(at, "%s: want letters, digits, _ and -", quoted(value))
			}
		})
		if s := v.lookup("REMOTE_MONITOR_AMQP_LEVEL"); s != "" {
			on, known := truth(s)
			if !known {
				d.wrong(place{}, "REMOTE_MONITOR_AMQP_LEVEL=%s: want true or false", s)
			}
			d.AMQP.Level = on
		}
	} else {
		d.useless("RABBITMQ_SERVER_ADDRESS", "RABBITMQ_EXCHANGE", "RABBITMQ_DEVICE_TOPIC", "REMOTE_MONITOR_AMQP_LEVEL")
	}

	over("REMOTE_MONITOR_PAGE_LISTEN", false, func(at place, value string) {
		d.page().Listen = value
		d.listen(at, d.page())
	})
	if d.Page != nil {
		over("REMOTE_MONITOR_PAGE_TOKEN", d.Page.Token != "", func(at place, value string) {
			d.Page.Token = value
			d.token(at, d.Page)
		})
	} else {
		d.useless("REMOTE_MONITOR_PAGE_LISTEN", "REMOTE_MONITOR_PAGE_TOKEN")
	}
	over("HC_PING_URL", d.Ping.URL != "" && d.Ping.URL != v.lookup("HC_PING_URL"), func(at place, value string) {
		d.Ping.URL = value
		d.httpURL(at, "", value)
	})
	text("CRONITOR_MONITOR_KEY", &d.Ping.Cronitor)
	over("RSYSLOG_SERVER", d.Syslog != nil, func(at place, value string) { d.syslog(at, value, "") })
	over("REMOTE_MONITOR_SYSLOG", d.Syslog != nil, func(at place, value string) { d.syslog(at, value, "") })
	over("SENTRY_DSN", d.Sentry != "" && d.Sentry != v.lookup("SENTRY_DSN"), func(at place, value string) {
		d.Sentry = value
		d.httpURL(at, "", value)
	})
}

// useless notes variables that only mean something together with the first, which is not set.
func (d *draft) useless(first string, others ...string) {
	for _, o := range others {
		if d.env.lookup(o) != "" {
			d.note("%s is set, and without %s it is of no use", o, first)
		}
	}
}

// board reads REMOTE_MONITOR_BOARD.
func (d *draft) board() {
	switch v := d.env.lookup("REMOTE_MONITOR_BOARD"); {
	case v == "" || v == "original":
	case v == "simulated":
		d.simulated = true
	case closest(v, boardNames) != "":
		d.wrong(place{}, "REMOTE_MONITOR_BOARD=%s: there is no such board; did you mean %s?", v, closest(v, boardNames))
	default:
		d.wrong(place{}, "REMOTE_MONITOR_BOARD=%s: there is no such board; this version has: %s; boards of your own are described in a YAML file", v, strings.Join(boardNames, ", "))
	}
}

var boardNames = []string{"simulated", "original"}

// seeds differ between devices unless one is set, so that the devices of a fleet do not all see the same people.
func (d *draft) seeds() {
	if s := d.env.lookup("REMOTE_MONITOR_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			d.wrong(place{}, "REMOTE_MONITOR_SEED=%s: want a whole number, zero or more", s)
		}
		d.seed = &n
	}
}

// seedOf is the seed of a device that was given none.
func seedOf(device string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(device))
	return h.Sum64()
}

// inputSettings are the pipeline's knobs for the original's inputs.
func (d *draft) inputSettings() (s zone.Settings) {
	pick(d.env, "REMOTE_MONITOR_PROFILE", &s.Profile, profiles...)
	pick(d.env, "REMOTE_MONITOR_SENSITIVITY", &s.Sensitivity, sensitivities...)
	pick(d.env, "REMOTE_MONITOR_POLICY", &s.Policy, policies...)
	return s
}

// unknown refuses names that can only be meant for this program and that it does not know: a misspelt detector is
// a detector that watches nothing. The original's variables for what this program does not do are noted.
func (d *draft) unknown() {
	var own []string
	for _, v := range Variables() {
		if !strings.Contains(v.Name, "<n>") {
			own = append(own, v.Name)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(d.env.set)) {
		_, _, input := numbered("INPUT_", inputFields, k)
		_, _, output := numbered("OUTPUT_", outputFields, k)
		file, isFile := strings.CutSuffix(k, "_FILE")
		switch {
		case input || output || slices.Contains(own, k) || isFile && slices.Contains(own, file):
		case d.env.named[k] || isFile && d.env.named[file]:
		case slices.Contains(without, k):
			d.note("%s is set, and there is no use for it here", k)
		case hasAnyPrefix(k, "INPUT_", "OUTPUT_", "RABBITMQ_", "REMOTE_MONITOR_", "SAMPLE_"):
			d.strange(k, own)
		}
	}
}

func (d *draft) strange(k string, own []string) {
	names := slices.Clone(own)
	for n := 1; n <= mostNumbered; n++ {
		for prefix, fields := range map[string][]string{"INPUT_": inputFields, "OUTPUT_": outputFields} {
			if p := fmt.Sprintf("%s%d_", prefix, n); strings.HasPrefix(k, p) {
				for _, f := range fields {
					names = append(names, p+f)
				}
			}
		}
	}
	numbered := strings.ContainsAny(strings.TrimPrefix(k, "OUTPUT_"), "0123456789")
	switch c := closest(k, names); {
	case c != "":
		d.wrong(place{}, "%s: there is no such variable; did you mean %s?", k, c)
	case strings.HasPrefix(k, "RABBITMQ_") || strings.HasPrefix(k, "OUTPUT_") && !numbered:
		d.note("%s is set, and there is no use for it here", k) // others have such names too
	case strings.HasPrefix(k, "OUTPUT_"):
		d.wrong(place{}, "%s: there is no such variable; outputs are OUTPUT_1_TYPE to OUTPUT_%d_TYPE, with %s", k, mostNumbered, strings.Join(outputFields, ", "))
	case strings.HasPrefix(k, "INPUT_"):
		d.wrong(place{}, "%s: there is no such variable; inputs are INPUT_1_NAME to INPUT_%d_NAME, with %s", k, mostNumbered, strings.Join(inputFields, ", "))
	default:
		d.wrong(place{}, "%s: there is no such variable; see remote-monitor --help for those there are", k)
	}
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
