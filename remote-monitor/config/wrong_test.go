package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/config"
)

func TestWhatIsWrongIsToldWithItsPlaceAndWhatToWrite(t *testing.T) {
	const adc = "boards: {adc1: {kind: mcp3424}}\n"
	for _, c := range []struct{ yaml, want string }{
		{"devise: x", `site.yaml:1:1: there is no key "devise" here; did you mean device?`},
		{"colour: red", `site.yaml:1:1: there is no key "colour" here; there are: device, time_zone, data, interval, heartbeat, warm_up, common_hold, watchdog, boards, supply, defaults, zones, groups, outputs, max_simultaneous, rules, mqtt, amqp, page, ping, syslog, sentry`},
		{"device: a\ndevice: b", "site.yaml:2:1: device is given twice"},
		{"device:", "site.yaml:1:9: device has no value; write one, or leave the key out"},
		{"device: [a]", "site.yaml:1:9: device: want one value, not a list"},
		{"device: \"\"", "site.yaml:1:9: device: want a text in one line"},
		{"just text", "site.yaml:1:1: want keys and values here, such as key: value"},
		{"- a", "site.yaml:1:1: want keys and values here, such as key: value"},
		{"a: [1", "site.yaml:1:4: this is not YAML: sequence end token ']' not found"},
		{"device: a\n---\ndevice: b", "site.yaml:3:7: a second document begins; write everything in one"},
		{"device: &a x", "site.yaml:1:9: anchors, aliases and << are not read here; write the value out, or put what zones share under defaults:"},
		{"device: !!str x", "site.yaml:1:9: tags, directives and ? keys are not read here; write plain keys and values"},
		{"interval: soon", `site.yaml:1:11: interval: "soon": want a time such as 500ms, 10 s, 2 min or 1h30m, or a number of seconds`},
		{"interval: 1h", `site.yaml:1:11: interval: "1h": want a time from 10ms to 10s`},
		{"time_zone: Mars", `site.yaml:1:12: time_zone: there is no time zone "Mars"; want one such as Europe/Berlin or UTC`},
		{"device: ${NAME}", "site.yaml:1:9: device: ${NAME} is not set; set the variable NAME, or NAME_FILE to a file that has it, or write ${NAME:-something} for a default"},
		{"device: ${}", "site.yaml:1:9: device: ${} names no variable; want letters, digits and _, and write $${ for the characters themselves"},
		{"device: ${NAME", "site.yaml:1:9: device: a ${ has no }; write $${ for the characters themselves"},
		{"device: op://a/b/c", "site.yaml:1:9: device: op://a/b/c cannot be read: OP_CONNECT_HOST and OP_CONNECT_TOKEN are not set"},
		{"warm_up: 2h", `site.yaml:1:10: warm_up: "2h": want a time from 0s to 1h, or off`},

		{"boards: {a b: {kind: iio, device: x}}", "site.yaml:1:10: board a b: want a name of letters, digits, _ and -, such as adc1"},
		{"boards: {a: {}}", "site.yaml:1:10: board a: want its kind: one of mcp3424, ads1115, mcp23017, pca9535, pcf8574, iio, gpiochip and simulated"},
		{"boards: {a: {kind: mcp3242}}", `site.yaml:1:20: board a: kind: "mcp3242" is none of its values; did you mean mcp3424?`},
		{"boards: {a: {kind: ADC-Pi}}", `site.yaml:1:20: board a: kind: "ADC-Pi" is a product; its chip is mcp3424, with both of its addresses: {kind: mcp3424, address: [0x68, 0x69]}`},
		{"boards: {a: {kind: mcp23017, address: twenty}}", `site.yaml:1:39: board a: address: "twenty": want an address such as 0x20`},
		{"boards: {a: {kind: mcp23017, address: 0x30}}", "site.yaml:1:10: board a: 0x30 is no address of a board of kind mcp23017; want 0x20 to 0x27"},
		{"boards: {a: {kind: pcf8574, address: 0x30}}", "site.yaml:1:10: board a: 0x30 is no address of a board of kind pcf8574; want 0x20 to 0x27 or 0x38 to 0x3f"},
		{"boards: {a: {kind: mcp23017}, b: {kind: pca9535, bus: /dev/i2c-1}}", "site.yaml:1:31: board b: a is at address 0x20 of bus 1 as well; each chip needs an address of its own"},
		{"boards: {a: {kind: mcp23017, address: [0x20, 0x21]}}", "site.yaml:1:10: board a: a board of kind mcp23017 has at most 1 addresses"},
		{"boards: {a: {kind: mcp3424, bits: 13}}", "site.yaml:1:10: board a: bits: 13: want one of 12 14 16 18"},
		{"boards: {a: {kind: mcp3424, gain: 3}}", "site.yaml:1:10: board a: gain: 3: want one of 1 2 4 8"},
		{"boards: {a: {kind: pca9535, pull_up: true}}", "site.yaml:1:10: board a: a chip of kind pca9535 has no pull-ups; put a resistor to the supply at each input"},
		{"boards: {a: {kind: gpiochip}}", "site.yaml:1:10: board a: want device: the name of the driver or of the device, such as mcp3424 or gpiochip0"},
		{"boards: {a: {kind: iio, device: x, address: 0x68}}", "site.yaml:1:10: board a: a board of kind iio has no address; want device: the name of its driver"},
		{"boards: {a: {kind: mcp3424, seed: 1}}", "site.yaml:1:10: board a: seed is for simulated boards"},
		{adc + "supply: {scale: 2}", "site.yaml:2:10: supply: want the input that measures the supply, such as input: adc1:8"},
		{"boards: {io: {kind: mcp23017}}\nsupply: {input: io:1}", "site.yaml:2:17: supply: its voltage needs a converter, and io is a board of kind mcp23017"},

		{"zones: {name: a}", "site.yaml:1:8: zones: want a list: a line with - for each zone"},
		{adc + "zones: [{input: adc1:1}]", "site.yaml:2:10: zone 1: want a name"},
		{adc + "zones: [{name: A}]", "site.yaml:2:16: zone A: want an input, such as input: adc1:1"},
		{"zones: [{name: A, input: adc1:1}]", `site.yaml:1:26: zone A: adc1:1: there is no board "adc1"; describe it under boards:`},
		{adc + "zones: [{name: A, input: adc1}]", `site.yaml:2:26: zone A: "adc1" is no terminal: want the name of a chip and a number from 1, such as adc1:3`},
		{adc + "zones: [{name: A, input: acd1:1}]", `site.yaml:2:26: zone A: acd1:1: there is no board "acd1"; did you mean adc1?`},
		{"boards: {adc1: {kind: mcp3424, address: 0x68}}\nzones: [{name: A, input: adc1:5}]", "site.yaml:2:26: zone A: adc1:5: the inputs of adc1 are 1 to 4"},
		{"boards: {io: {kind: mcp23017}}\nzones: [{name: A, input: io:8}]", "site.yaml:2:26: zone A: io:8: the terminals 8 and 16 of an mcp23017 may be outputs only, as its newer datasheets say; use another one"},
		{adc + "zones: [{name: A, input: adc1:1}, {name: B, input: adc1:1}]", "site.yaml:2:52: zone B: adc1:1 is zone A already"},
		{adc + "zones: [{name: A, input: adc1:1}, {name: A, input: adc1:2}]", "site.yaml:2:42: zone A: another zone has this name; choose another one"},
		{adc + "zones: [{name: A, id: 1 2, input: adc1:1}]", `site.yaml:2:23: zone A: id: "1 2": want letters, digits, _ and -`},
		{adc + "zones: [{name: A, id: x, input: adc1:1}, {name: B, id: x, input: adc1:2}]", "site.yaml:2:56: zone B: id: x is the id of zone A"},
		{adc + "zones: [{name: A, input: adc1:1, signal: contact}]", "site.yaml:2:26: zone A: signal: contact needs a line, and adc1 is a board of kind mcp3424; choose signal: loop and give its levels"},
		{"boards: {io: {kind: mcp23017}}\nzones: [{name: A, input: io:1, signal: analog}]", "site.yaml:2:26: zone A: signal: analog needs a converter, and io is a board of kind mcp23017; choose signal: contact, or an input such as adc1:1"},
		{adc + "zones: [{name: A, input: adc1:1, signal: edges}]", "site.yaml:2:26: zone A: signal: edges is for recordings and has no input; take the input out, or choose loop, analog or contact"},
		{adc + "zones: [{name: A, input: adc1:1, invert: true}]", "site.yaml:2:16: zone A: invert is for signal: contact; a loop says what its levels mean"},
		{adc + "zones: [{name: A, input: adc1:1, sensitivity: medium}]", `site.yaml:2:47: zone A: sensitivity: "medium" is none of its values; there are: low, normal, high`},
		{adc + "zones: [{name: A, input: adc1:1, pulses: 21}]", `site.yaml:2:42: zone A: pulses: "21": want a whole number from 1 to 20`},
		{adc + "zones: [{name: A, input: adc1:1, invert: perhaps}]", `site.yaml:2:42: zone A: invert: "perhaps": want true or false`},
		{adc + "zones: [{name: A, input: adc1:1, class: moton}]", `site.yaml:2:16: zone A: class: Home Assistant has no class "moton"; did you mean motion?`},
		{adc + "zones: [{name: A, input: adc1:1, group: house}]", `site.yaml:2:41: zone A: there is no group "house"; there is none; describe it under groups:`},
		{adc + "zones: [{name: A, input: adc1:1, entry_delay: true}]", "site.yaml:2:16: zone A: entry_delay is of a group that is armed; give the zone a group"},
		{adc + "zones: [{name: A, input: adc1:1, confirm_with: [A, B]}]", `site.yaml:2:52: zone A: confirm_with: there is no zone "B"; there are: A`},
		{adc + "zones: [{name: A, input: adc1:1, quarantine: {after: zero}}]", `site.yaml:2:54: zone A, quarantine: after: "zero": want a whole number from 1 to 100, or off`},
		{adc + "zones: [{name: A, input: adc1:1, signal: analog, analog: {leave: 7}}]", "site.yaml:2:50: zone A: motion is over below leave times the noise, so leave cannot be above enter"},
		{adc + "zones: [{name: A, input: adc1:1, profile: legacy}]", "site.yaml:2:16: zone A: profile: legacy is for loops and needs around: with the normal value and, if there is one, the tamper value"},
		{adc + "zones: [{name: A, input: adc1:1, levels: {normal: 29}}]", "site.yaml:2:43: zone A, levels: want normal and alarm: the percentages of the supply when all is quiet and when something moves"},
		{adc + "zones: [{name: A, input: adc1:1, levels: {normal: 29, alarm: 30}}]", "site.yaml:2:43: zone A, levels: normal, 29 %, and alarm, 30 %, are too close to be told apart: they need 8 points between them"},
		{adc + "zones: [{name: A, input: adc1:1, levels: {normal: 29, alarm: [40, 60]}}]", "site.yaml:2:43: zone A, levels: give all levels as one percentage each, or all as bands"},
		{adc + "zones: [{name: A, input: adc1:1, levels: {normal: [20, 40], alarm: [40, 60], open: [30, 100]}}]", "site.yaml:2:43: zone A, levels: the bands of normal and open overlap"},
		{adc + "zones: [{name: A, input: adc1:1, levels: {normal: [40, 20], alarm: [50, 60]}}]", "site.yaml:2:43: zone A, levels: normal: want one percentage, or the lower and the upper end of a band: [22, 36]"},
		{adc + "zones: [{name: A, input: adc1:1, levels: {normal: half, alarm: 20}}]", `site.yaml:2:51: zone A, levels: normal: "half": want a percentage of the supply, 0 to 100`},
		{adc + "zones: [{name: A, input: adc1:1, resistors: {alarm: 4z}}]", `site.yaml:2:53: zone A, resistors: alarm: "4z": want a resistance in ohms, such as 4700, 4.7k or 4k7`},
		{adc + "zones: [{name: A, input: adc1:1, around: {tamper: 30}}]", "site.yaml:2:43: zone A, around: want normal: the percentage of the supply when all is quiet"},
		{adc + "zones: [{name: A, input: adc1:1, around: {normal: 29, tamper: 30}}]", "site.yaml:2:63: zone A, around: tamper: 30: it is within 10 of normal, 29, and would never be seen"},
		{adc + "zones: [{name: A, input: adc1:1, around: {normal: 29}, levels: {normal: 29, alarm: 51}}]", "site.yaml:2:43: zone A: resistors, levels and around exclude each other; keep one"},

		{"groups: [{name: the house}]", "site.yaml:1:17: group the house: want a name of letters, digits, _ and -, such as the_house"},
		{"groups: [{name: a}, {name: a}]", "site.yaml:1:28: group a: another group has this name; choose another one"},
		{"groups: [{name: a, input: switch}]", `site.yaml:1:27: group a: input: there is no zone "switch"; there is none`},
		{"groups: [{name: a, schedule: [mon-fri 8:00-9:00]}]", "site.yaml:1:40: group a: schedule: want one value, not keys; put one that has a : in it in quotes"},
		{"groups: [{name: a, schedule: ['mon-fry 8:00-9:00']}]", `site.yaml:1:31: group a: schedule: "mon-fry 8:00-9:00": "fry" is no day; the days are mon, tue, wed, thu, fri, sat and sun`},
		{"groups: [{name: a, schedule: [8-9]}]", `site.yaml:1:31: group a: schedule: "8-9": "8" is no time of the day; want HH:MM, 00:00 to 24:00`},
		{"groups: [{name: a, schedule: ['08:00-08:00']}]", `site.yaml:1:31: group a: schedule: "08:00-08:00": it begins when it ends; write 00:00-24:00 for the whole day`},

		{"outputs: [{name: A}]", "site.yaml:1:18: output A: want a pin, such as pin: io1:1"},
		{adc + "outputs: [{name: A, pin: adc1:1}]", "site.yaml:2:26: output A: adc1:1: a board of kind mcp3424 has no outputs; want one such as io1:1"},
		{"boards: {io: {kind: pca9535}}\noutputs: [{name: A, pin: io:1}]", "site.yaml:2:26: output A: a board of kind pca9535 has its lines high when power comes, so the relay would switch by itself; use a relay with active: low, or say pulled_down: true if the line has a pull-down resistor"},
		{"boards: {io: {kind: mcp23017}}\noutputs: [{name: A, pin: io:1, max_on: 2h}]", `site.yaml:2:40: output A: max_on: "2h": want at most 1h; only an output that is latching: true, and has a lease, may be on for longer`},
		{"boards: {io: {kind: mcp23017}}\noutputs: [{name: A, pin: io:1, max_on: .inf}]", `site.yaml:2:40: output A: max_on: ".inf": want a time such as 500ms, 10 s, 2 min or 1h30m, or a number of seconds`},
		{"boards: {io: {kind: mcp23017}}\noutputs: [{name: A, pin: io:1, max_on: 1e9}]", `site.yaml:2:40: output A: max_on: "1e9": want a time from 10ms to 1h`},
		{"boards: {io: {kind: mcp23017}}\noutputs: [{name: A, pin: io:1, max_on: -1}]", `site.yaml:2:40: output A: max_on: "-1": want a time from 10ms to 1h`},
		{"boards: {io: {kind: mcp23017}}\noutputs: [{name: A, pin: io:1, pulse: 20 s}]", "site.yaml:2:39: output A: pulse: 20s is longer than the output may be on, 10s"},
		{"boards: {io: {kind: mcp23017}}\noutputs: [{name: A, pin: io:1, latching: true}]", "site.yaml:2:18: output A: latching: true needs a lease: the output goes off when no command came for so long, such as lease: 10 min"},
		{"boards: {io: {kind: mcp23017}}\noutputs: [{name: A, pin: io:1, lease: 10}]", "site.yaml:2:18: output A: lease is for an output that is latching: true"},
		{"boards: {io: {kind: mcp23017}}\noutputs: [{name: A, pin: io:1, dead_time: 1}]", "site.yaml:2:18: output A: dead_time is the time between outputs that are exclusive: give exclusive the name of such a set"},
		{"boards: {io: {kind: mcp23017}}\noutputs: [{name: A, pin: io:1, safe: on, exclusive: x}]", "site.yaml:2:18: output A: safe: on and exclusive exclude each other: a stop would turn it on beside the others of x"},
		{"boards: {io: {kind: mcp23017}}\noutputs: [{name: A, pin: io:1, sources: [rules]}]", `site.yaml:2:42: output A: sources: "rules" commands nothing; did you mean rule?`},
		{"boards: {io: {kind: mcp23017}}\nzones: [{name: Z, input: io:1}]\noutputs: [{name: A, pin: io:1}]", "site.yaml:3:26: output A: io:1 is zone Z already"},

		{"rules: [{outputs: A}]", "site.yaml:1:10: rule 1: want when: what has to happen, such as when: alarm"},
		{"rules: [{when: alarm}]", "site.yaml:1:10: rule 1: want outputs: what it drives"},
		{"rules: [{when: tampered, outputs: A}]", `site.yaml:1:16: rule 1: when: "tampered" never happens; did you mean tamper?`},
		{"rules: [{when: armed, outputs: A}]", "site.yaml:1:10: rule 1: when: armed is of a group, and there are no groups"},

		{"mqtt: {}", "site.yaml:1:1: mqtt: want url: where the broker is, such as mqtt://broker:1883"},
		{"mqtt: {url: broker}", "site.yaml:1:13: mqtt: url: want an address that begins with mqtt:// or mqtts:// or ws:// or wss://"},
		{"mqtt: {url: 'mqtt://a:p#w@b'}", "site.yaml:1:13: mqtt: url: this is no address; a password in it needs %40 for @, %3A for : and %2F for /"},
		{"mqtt: {url: mqtt://b, prefix: a/#}", `site.yaml:1:31: mqtt: prefix: "a/#": want letters, digits, _ and -, and / between parts`},
		{"mqtt: {url: mqtt://b, cert: a}", "site.yaml:1:8: mqtt: cert and key are of use only together; give both, or none"},
		{"amqp: {url: amqp://b, password: x}", "site.yaml:1:33: amqp: a password without a user is of no use; give the user too"},
		{"page: {listen: here}", `site.yaml:1:16: page: listen: "here": want host:port, such as :8080 for everybody or 127.0.0.1:8080 for this machine alone`},
		{"page: {token: abc}", "site.yaml:1:15: page: token: it is too short to be a secret; want at least 8 characters"},
		{"syslog: {address: udp://x, ca: f}", "site.yaml:1:19: syslog: ca is of use only with tls://"},
		{"sentry: yes", "site.yaml:1:9: sentry: want an address that begins with https:// or http://"},
	} {
		_, err := config.Load(config.Sources{File: "site.yaml", YAML: []byte(c.yaml), Host: "host"})
		if err == nil {
			t.Errorf("%s\nis taken, want %s", c.yaml, c.want)
			continue
		}
		var e config.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %T is no config.Error", c.yaml, err)
		}
		found := false
		for _, line := range e {
			found = found || line == c.want
		}
		if !found {
			t.Errorf("%s\ngot  %v\nwant %s", c.yaml, err, c.want)
		}
	}
}

func TestRulesAreHeldToWhatTheirOutputsMayDo(t *testing.T) {
	const site = `
boards: {adc1: {kind: mcp3424}, io: {kind: mcp23017}}
zones: [{name: Hall, input: adc1:1}, {name: The cellar, input: adc1:2}]
groups: [{name: house}]
outputs:
  - {name: Lamp, pin: io:1}
  - {name: Bell, pin: io:2, sources: [mqtt]}
  - {name: Long, pin: io:3, too_long: clamp}
  - {name: The long one, pin: io:4}
rules:
  - `
	for _, c := range []struct{ rule, want string }{
		{"{when: alarm, outputs: Lamp}", ""},
		{"{when: alarm, outputs: the_long_one, zones: the_cellar}", ""},
		{"{when: alarm, outputs: [Lamp, Long], for: 5 s, zones: Hall, armed: house, between: 22:00-06:00}", ""},
		{"{when: alarm, outputs: Long, for: 1 min}", ""},
		{"{when: [armed, alarm], zones: Hall, groups: house, outputs: Lamp}", ""},
		{"{when: alarm, outputs: Lamb}", `rule 1: there is no output "Lamb"; did you mean Lamp?`},
		{"{when: alarm, outputs: Lamp, for: 11 s}", "rule 1: for: 11s is longer than output Lamp may be on, 10s; shorten it, or raise max_on"},
		{"{when: alarm, outputs: Lamp, for: 1 s, action: off}", "rule 1: for is how long an output is on; action: off has none"},
		{"{when: alarm, outputs: Bell}", "rule 1: output Bell takes no commands from rules; add rule to its sources"},
		{"{when: alarm, outputs: Lamp, zones: Hell}", `rule 1: there is no zone "Hell"; did you mean Hall?`},
		{"{when: alarm, outputs: Lamp, armed: hause}", `rule 1: there is no group "hause"; did you mean house?`},
		{"{when: armed, outputs: Lamp, zones: Hall}", "rule 1: when: armed is of a group; give groups: rather than zones:"},
		{"{when: alarm, outputs: Lamp, armed: house, disarmed: house}", "rule 1: group house cannot be armed and disarmed at once"},
		{"{name: a, when: alarm, outputs: Lamp}\n  - {name: a, when: alarm, outputs: Lamp}", "rule a: another rule has this name; choose another one"},
	} {
		_, err := config.Load(config.Sources{File: "site.yaml", YAML: []byte(site + c.rule), Host: "host"})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.rule, err)
		case c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), c.want)):
			t.Errorf("%s\ngot  %v\nwant %s", c.rule, err, c.want)
		}
	}
}

func TestAllMistakesOfAFileAreToldInTheOrderOfItsLines(t *testing.T) {
	_, err := config.Load(config.Sources{File: "site.yaml", Host: "host", Environ: []string{"INPUT_99_NAME=x"}, YAML: []byte(`
boards:
  adc1: {kind: mcp3424}
zones:
  - name: Hall
    input: adc1:1
    group: huose
    sensitivty: low
  - name: Porch
    input: adc1:99
groups:
  - {name: house, exit_delay: soon}
intervall: 1
`)})
	var e config.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	var places []string
	for _, line := range e {
		places = append(places, strings.SplitN(line, " ", 2)[0])
	}
	want := []string{"site.yaml:7:12:", "site.yaml:8:5:", "site.yaml:10:12:", "site.yaml:12:31:", "site.yaml:13:1:", "INPUT_99_NAME:"}
	if d := cmp.Diff(want, places); d != "" {
		t.Errorf("%v\n%s", err, d)
	}
}
