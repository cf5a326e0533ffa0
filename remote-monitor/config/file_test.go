package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

func itoa(n int) string { return strconv.Itoa(n) }

// exampleEnviron has what the example wants to know.
func exampleEnviron() []string {
	return []string{
		"MQTT_PASSWORD=mqtt-secret", "PAGE_TOKEN=page-secret", "HC_PING_URL=https://hc-ping.com/ping-secret",
		"SENTRY_DSN=https://sentry-secret@sentry.example.org/1", "RABBITMQ_PASSWORD=amqp-secret",
	}
}

func example(t *testing.T) config.Config {
	t.Helper()
	return good(t, config.Sources{File: "example.yaml", YAML: []byte(config.Example), Environ: exampleEnviron(), Host: "host"})
}

func TestTheExampleIsUnderstoodAsItsCommentsSay(t *testing.T) {
	c := example(t)
	golden := filepath.Join("testdata", "example.golden")
	got := c.Describe()
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("run it with UPDATE=1 if this is right:\n%s", d)
	}
}

func TestTheDefaultsThatTheExampleNamesAreThoseOfTheZones(t *testing.T) {
	c := example(t)
	said := map[string]zone.Settings{}
	for _, s := range c.Site.Zones {
		said[s.Name] = s
	}
	for name, like := range map[string]zone.Settings{
		"Landing": {Sensitivity: zone.Low, SilentAfter: said["Landing"].SilentAfter},
		"Attic":   {Filter: zone.Hampel},
		"Hall":    {ExitRoute: true, ConfirmWith: said["Hall"].ConfirmWith},
	} {
		is := said[name]
		like.Name, like.Group, like.Signal, like.Levels, like.Label, like.Bits = is.Name, is.Group, is.Signal, is.Levels, is.Label, is.Bits
		if d := cmp.Diff(like.Filled(), is.Filled()); d != "" {
			t.Errorf("%s: the example is no longer the default:\n%s", name, d)
		}
	}
	usual, err := zone.Resistors{}.Levels()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(usual, *said["Hall"].Levels); d != "" {
		t.Errorf("the resistors of the example are not the usual ones:\n%s", d)
	}
}

func TestADescriptionSaysWhatHolds(t *testing.T) {
	for _, c := range []struct{ zones, want, never string }{
		{`{name: A, input: "adc1:1"}`, "no zone seconds it", "or one pulse that is seconded"},
		{`{name: A, input: "adc1:1"}`, "after false ones, only when there are twice the pulses in twice the time", "when it is seconded"},
		{`{name: A, input: "adc1:1"}, {name: B, input: "adc1:2"}`, "after false ones, only when it is seconded", "no zone seconds it"},
		{`{name: A, input: "adc1:1", quarantine: {after: off, lone_pulses: off}}, {name: B, input: "adc1:2", policy: single}`, "it is an alarm\n", "after false ones"},
		{`{name: A, input: "adc1:1", refractory: off, stuck: off}`, "told each time\n", "is a fault\n    always"},
		{`{name: A, input: "adc1:1", sensitivity: high}`, "a candidate is each pulse\n", "pulses in 30s"},
	} {
		got := good(t, config.Sources{YAML: []byte("boards: {adc1: {kind: mcp3424}}\nzones: [" + c.zones + "]\n")}).Describe()
		if !strings.Contains(got, c.want) || strings.Contains(got, c.never) {
			t.Errorf("%s: want %q and not %q in\n%s", c.zones, c.want, c.never, got)
		}
	}
	open := good(t, config.Sources{YAML: []byte("mqtt: {url: \"mqtts://broker\", insecure: true}\n")})
	if !strings.Contains(open.Describe(), "any certificate is accepted") {
		t.Error(open.Describe())
	}
}

func TestAPasswordThatLooksLikeAPortIsNotShown(t *testing.T) {
	_, err := config.Load(config.Sources{Environ: []string{"REMOTE_MONITOR_MQTT_URL=mqtt://gate:123456789/x@broker"}})
	if err == nil || strings.Contains(err.Error(), "123456789") {
		t.Error(err)
	}
}

func TestADescriptionHasNoSecrets(t *testing.T) {
	c := example(t)
	if strings.Contains(c.Describe(), "secret") {
		t.Errorf("it says:\n%s", c.Describe())
	}
	// They are in the configuration, so the check can fail.
	if c.MQTT.Password != "mqtt-secret" || c.Page.Token != "page-secret" || !strings.Contains(c.AMQP.URL, "gate:amqp-secret@") || !strings.Contains(c.Sentry, "secret") {
		t.Error("a secret is missing")
	}
}

// The example is the reference of the format: every key that anybody asks for is in it. What keys a part has is told
// by the error about one that is not there.
func TestTheExampleHasEveryKey(t *testing.T) {
	const nonsense = "xyzzyxyzzy"
	known := 0
	lines := strings.Split(config.Example, "\n")
	for i, line := range lines {
		trimmed := strings.TrimLeft(line, " ")
		key, _, ok := strings.Cut(strings.TrimPrefix(trimmed, "- "), ":")
		if !ok || strings.HasPrefix(trimmed, "#") || strings.ContainsAny(key, " #") {
			continue
		}
		indent := strings.Repeat(" ", len(line)-len(trimmed))
		if strings.HasPrefix(trimmed, "- ") {
			indent += "  "
		}
		tries := []string{strings.Join(lines[:i], "\n") + "\n" + strings.Replace(line, key+":", nonsense+": 1\n"+indent+key+":", 1) + "\n" + strings.Join(lines[i+1:], "\n")}
		if before, after, flow := strings.Cut(line, "{"); flow && !strings.HasPrefix(after, "NAME") && !strings.Contains(before, "$") {
			tries = append(tries, strings.Join(lines[:i], "\n")+"\n"+before+"{"+nonsense+": 1, "+after+"\n"+strings.Join(lines[i+1:], "\n"))
		}
		for _, text := range tries {
			_, err := config.Load(config.Sources{File: "example.yaml", YAML: []byte(text), Environ: exampleEnviron(), Host: "host"})
			if err == nil {
				t.Fatalf("line %d: a key that makes no sense is taken", i+1)
			}
			_, list, ok := strings.Cut(err.Error(), `there is no key "`+nonsense+`" here; there are: `)
			if !ok {
				if strings.Contains(err.Error(), nonsense) { // boards: any key is a name there
					continue
				}
				t.Fatalf("line %d: %v", i+1, err)
			}
			list, _, _ = strings.Cut(list, "\n")
			for _, k := range strings.Split(list, ", ") {
				known++
				if !strings.Contains(config.Example, k+": ") && !strings.Contains(config.Example, k+":\n") {
					t.Errorf("the example does not have the key %s", k)
				}
			}
		}
	}
	if known < 1000 {
		t.Errorf("only %d keys were looked for; is the test still about the example?", known)
	}
}

func TestDefaultsAreForZonesThatDoNotSayItThemselves(t *testing.T) {
	c := good(t, config.Sources{Host: "host", YAML: []byte(`
boards: {adc1: {kind: mcp3424, bits: 14}}
defaults:
  pulses: 4
  window: 45 s
  refractory: off
  levels: {normal: 44, alarm: 56, open: 78, short: 0}
  confirm_with: [A, B]
  swinger: {after: off}
zones:
  - {name: A, input: adc1:1}
  - {name: B, input: adc1:2, sensitivity: high, around: {normal: 50}, confirm_with: []}
  - {name: C, input: adc1:3, signal: analog, refractory: 5, swinger: {quiet: 1h}}
`)})
	a, b, z := c.Site.Zones[0], c.Site.Zones[1], c.Site.Zones[2]
	if a.Pulses != 4 || a.Window != 45*time.Second || a.Refractory != -1 || a.Levels.Normal.Low != 25 || len(a.ConfirmWith) != 1 || a.SwingerAfter != -1 || a.Bits != 14 {
		t.Errorf("A is %+v", a)
	}
	if b.Sensitivity != zone.High || b.Pulses != 0 || b.Window != 0 || b.Levels.Normal.Low != 40 || b.ConfirmWith == nil || len(b.ConfirmWith) != 0 {
		t.Errorf("B is %+v", b)
	}
	if z.Levels != nil || z.Refractory != 5*time.Second || len(z.ConfirmWith) != 2 || z.SwingerAfter != -1 || z.SwingerQuiet != time.Hour {
		t.Errorf("C is %+v", z)
	}
}

func TestADoorIsBelievedAtOnceAndMayStayOpen(t *testing.T) {
	c := good(t, config.Sources{Host: "host", YAML: []byte(`
boards: {adc1: {kind: mcp3424}, io: {kind: mcp23017}}
zones:
  - {name: Hall, input: adc1:1}
  - {name: Back door, input: io:1}
  - {name: Front, class: door, input: adc1:2, policy: prefer_confirm, pulses: 2, stuck: 1h}
`)})
	if s := c.Site.Zones[0]; s.Sensitivity != "" || s.Policy != "" || s.Stuck != 0 {
		t.Errorf("a motion detector has %+v", s)
	}
	if s := c.Site.Zones[1]; s.Sensitivity != zone.High || s.Policy != zone.Single || s.Stuck >= 0 || c.Zones[1].Type != "Door Detector" {
		t.Errorf("a door has %+v", s)
	}
	if s := c.Site.Zones[2]; s.Sensitivity != "" || s.Pulses != 2 || s.Policy != zone.Prefer || s.Stuck != time.Hour {
		t.Errorf("a door that says otherwise has %+v", s)
	}
}

func TestIDsAreMadeOfNamesAndNoTwoAreTheSame(t *testing.T) {
	c := good(t, config.Sources{Host: "host", YAML: []byte(`
boards: {adc1: {kind: mcp3424}, io: {kind: mcp23017}}
zones:
  - {name: Hall-1, input: adc1:1}
  - {name: Upper floor!, input: adc1:2}
  - {name: "Upper floor?", input: adc1:3}
  - {name: Küche, input: adc1:4}
  - {name: Диван, input: adc1:5}
  - {name: Other, id: hall-2, input: adc1:6}
outputs:
  - {name: upper floor, pin: io:1}
`)})
	var ids []string
	for _, z := range c.Zones {
		ids = append(ids, z.ID)
	}
	ids = append(ids, c.Outputs[0].ID, c.Relay.Outputs[0].Name)
	if d := cmp.Diff([]string{"Hall-1", "upper_floor", "upper_floor_2", "kueche", "zone_5", "hall-2", "upper_floor_3", "upper_floor_3"}, ids); d != "" {
		t.Error(d)
	}
}

func TestAPasswordInABrokersAddressIsTakenOutOfIt(t *testing.T) {
	c := good(t, config.Sources{Host: "host", YAML: []byte("mqtt: {url: 'mqtts://gate:p%40ss@broker:8884'}")})
	if c.MQTT.URL != "mqtts://broker:8884" || c.MQTT.User != "gate" || c.MQTT.Password != "p@ss" {
		t.Errorf("got %+v", c.MQTT)
	}
}

func TestMeasuredLevelsBecomeTheBandsOfTheirResistors(t *testing.T) {
	load := func(how string) zone.Levels {
		c := good(t, config.Sources{Host: "host", YAML: []byte("boards: {a: {kind: mcp3424}}\nzones: [{name: A, input: a:1, " + how + "}]")})
		return *c.Site.Zones[0].Levels
	}
	if d := cmp.Diff(zone.Points{Short: 0, Normal: 29, Alarm: 51, Open: 78}.Levels(), load("levels: {open: 78, normal: 29, short: 0, alarm: 51}")); d != "" {
		t.Error(d)
	}
	r, err := zone.Resistors{EndOfLine: 4700}.Levels()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, load("resistors: {pull_up: 4.7k, end_of_line: 4k7, alarm: 4700, input: 16800 ohm}")); d != "" {
		t.Error(d)
	}
	// A contact that closes the loop alarms below normal; a cut wire is nowhere, so it is a fault.
	l := load("levels: {normal: 50, alarm: 20}")
	if l.Alarm != (zone.Band{Low: 8, High: 32}) || l.Normal != (zone.Band{Low: 38, High: 62}) || l.Open.Low <= l.Open.High || l.Short.Low <= l.Short.High {
		t.Errorf("got %+v", l)
	}
}

func TestTimesOfTheWeek(t *testing.T) {
	h := time.Hour
	for text, want := range map[string]zone.Span{
		"22:00-06:00":                   {From: 22 * h, To: 6 * h},
		"mon-fri 08:00-17:30":           {Days: []time.Weekday{1, 2, 3, 4, 5}, From: 8 * h, To: 17*h + 30*time.Minute},
		"sat,sun 00:00-24:00":           {Days: []time.Weekday{6, 0}, To: 24 * h},
		"fri-mon 9:00 - 10:00":          {Days: []time.Weekday{5, 6, 0, 1}, From: 9 * h, To: 10 * h},
		"Monday, wed-thu   09:00-10:00": {Days: []time.Weekday{1, 3, 4}, From: 9 * h, To: 10 * h},
	} {
		c := good(t, config.Sources{Host: "host", YAML: []byte("groups: [{name: a, schedule: [\"" + text + "\"]}]")})
		if d := cmp.Diff([]zone.Span{want}, c.Site.Groups[0].Schedule); d != "" {
			t.Errorf("%s:\n%s", text, d)
		}
	}
	for _, text := range []string{"", "mon", "mon tue 08:00-09:00", "08:00", "24:00-06:00", "08:60-09:00", "08:0-09:00", "-1:00-02:00", "24:01-01:00", "mon- 08:00-09:00"} {
		if _, err := config.Load(config.Sources{Host: "host", YAML: []byte("groups: [{name: a, schedule: [\"" + text + "\"]}]")}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestVariablesAreUsedInsteadOfTheFileAndThatIsNoted(t *testing.T) {
	c := good(t, config.Sources{File: "site.yaml", Host: "host", YAML: []byte(`
device: a
heartbeat: 2 min
mqtt: {url: "mqtt://u:p%40@old:1883"}
page: {listen: 8081}
`), Environ: []string{"REMOTE_MONITOR_DEVICE=b", "REMOTE_MONITOR_HEARTBEAT=10", "REMOTE_MONITOR_MQTT_URL=mqtts://new", "REMOTE_MONITOR_DATA=/d", "REMOTE_MONITOR_PAGE_TOKEN=0123456789"}})
	if c.Device != "b" || c.Heartbeat != 10*time.Second || c.MQTT.URL != "mqtts://new" || c.MQTT.User != "u" || c.MQTT.Password != "p@" || c.Data != "/d" ||
		c.Page.Listen != ":8081" || c.Page.Token != "0123456789" || c.MQTT.Expire != 30*time.Second || c.MQTT.ClientID != "remote-monitor-b" {
		t.Errorf("got %+v, %+v, %+v", c, c.MQTT, c.Page)
	}
	notes := strings.Join(c.Notes, "\n")
	if !strings.Contains(notes, "REMOTE_MONITOR_DEVICE is set and is used instead of what the file says") || strings.Contains(notes, "REMOTE_MONITOR_DATA") {
		t.Errorf("the notes are %s", notes)
	}
}

func TestZonesAreDescribedInOnePlace(t *testing.T) {
	const boards = "boards: {adc1: {kind: mcp3424}, io1: {kind: mcp23017}}\n"
	input := []string{"INPUT_2_NAME=Hall", "INPUT_2_VALUE_NORMAL=29"}
	_, err := config.Load(config.Sources{File: "site.yaml", YAML: []byte(boards + "zones: [{name: A, input: adc1:1}]"), Environ: input, Host: "host"})
	if want := "site.yaml:2:1: zones are described here, and by INPUT_2_NAME as well; keep one of them"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	// Zones of the one and outputs and rules of the other go together, and so do boards.
	c := good(t, config.Sources{File: "site.yaml", YAML: []byte(boards + "outputs: [{name: Lamp, pin: io1:1}]\nrules: [{when: motion, zones: Hall, outputs: Lamp}]"), Environ: input, Host: "host"})
	if len(c.Zones) != 1 || len(c.Outputs) != 1 || len(c.Rules) != 1 || len(c.Board.Chips) != 2 {
		t.Errorf("got %s", c.Describe())
	}
	_, err = config.Load(config.Sources{File: "site.yaml", YAML: []byte(boards + "outputs: [{name: Lamp, pin: io1:1}]"), Environ: []string{"OUTPUT_1_RELAY=relay2"}, Host: "host"})
	if want := "site.yaml:2:1: outputs are described here, and by OUTPUT_1_RELAY as well; keep one of them"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestSecretsComeFromWhereTheyAreLookedUp(t *testing.T) {
	asked := map[string]int{}
	secrets := map[string]string{"PW": "from a file", "REMOTE_MONITOR_PAGE_TOKEN": "0123456789", "op://v/i/f": "from 1Password"}
	s := config.Sources{Host: "host", File: "site.yaml", YAML: []byte("mqtt: {url: mqtt://b, user: \"${PW:-x}$${y}${Z:-z}\", password: op://v/i/f}\npage: {}"),
		Secret: func(name string) (string, bool, error) {
			asked[name]++
			v, ok := secrets[name]
			return v, ok, nil
		}}
	c := good(t, s)
	if c.MQTT.User != "from a file${y}z" || c.MQTT.Password != "from 1Password" || c.Page.Token != "0123456789" {
		t.Errorf("got %+v, %+v", c.MQTT, c.Page)
	}
	s.Secret = func(name string) (string, bool, error) {
		if name == "op://v/i/f" || name == "PW" {
			return "", false, errors.New("the vault is shut")
		}
		return "", false, nil
	}
	if _, err := config.Load(s); err == nil || !strings.Contains(err.Error(), "site.yaml:1:63: mqtt: password: the vault is shut") {
		t.Errorf("got %v", err)
	}
	// What was interpolated is not shown when it is wrong.
	s = config.Sources{Host: "host", File: "site.yaml", YAML: []byte("interval: ${PW}"), Environ: []string{"PW=hunter2"}}
	if _, err := config.Load(s); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "${PW}") {
		t.Errorf("got %v", err)
	}
}

func TestWhatAConverterCannotDoInTimeIsNoted(t *testing.T) {
	c := good(t, config.Sources{Host: "host", YAML: []byte("boards: {a: {kind: mcp3424, bits: 16}}\nzones: [{name: A, input: a:1}, {name: B, input: a:2}]")})
	if notes := strings.Join(c.Notes, "\n"); !strings.Contains(notes, "board a needs about 140ms for its inputs at 16 bits") {
		t.Errorf("the notes are %s", notes)
	}
}

func TestReadFindsTheFileThatIsNamed(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	yaml, conf := write("site.yaml", "device: a"), write("app.conf", "[app]\ndevice_name=c")
	device := func(file string, environ ...string) string {
		t.Helper()
		s, err := config.Read(file, environ, "host")
		if err != nil {
			t.Fatal(err)
		}
		return good(t, s).Device
	}
	for _, c := range []struct{ want, got string }{
		{"a", device(yaml)},
		{"a", device("", "REMOTE_MONITOR_CONFIG="+yaml)},
		{"a", device(yaml, "REMOTE_MONITOR_CONFIG=/elsewhere")},
		{"b", device("", "REMOTE_MONITOR_YAML=device: b")},
		{"c", device(conf)},
		{"c", device("", "REMOTE_MONITOR_APP_CONF="+conf)},
		{"a", device(yaml, "REMOTE_MONITOR_APP_CONF="+conf)},
		{"host", device(write("empty.yaml", ""))},
	} {
		if c.got != c.want {
			t.Errorf("the device is %q, want %q", c.got, c.want)
		}
	}
	for _, c := range []struct {
		file string
		env  []string
		want string
	}{
		{filepath.Join(dir, "none.yaml"), nil, "there is no such file"},
		{dir, nil, "cannot read the configuration"},
		{yaml, []string{"REMOTE_MONITOR_YAML=device: b"}, "keep one of them"},
		{conf, []string{"REMOTE_MONITOR_APP_CONF=" + conf}, "keep one of them"},
	} {
		if _, err := config.Read(c.file, c.env, "host"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: got %v, want %q", c.file, c.env, err, c.want)
		}
	}
}

func TestAnOutputThatSaysNothingIsBounded(t *testing.T) {
	c := good(t, config.Sources{Host: "host", YAML: []byte("boards: {io: {kind: mcp23017}}\noutputs: [{name: A, pin: io:1}, {name: B, pin: io:2, latching: true, lease: 1 min}, {name: C, pin: io:3, max_on: 500ms}]")})
	if a := c.Relay.Outputs[0]; a.MaxOn != relay.DefaultMaxOn || a.Over != relay.Reject || a.SafeOn {
		t.Errorf("A is %+v", a)
	}
	if b := c.Relay.Outputs[1]; b.MaxOn != 0 || b.Lease != time.Minute {
		t.Errorf("B is %+v", b)
	}
	if c := c.Relay.Outputs[2]; c.On != 500*time.Millisecond {
		t.Errorf("C is %+v", c)
	}
	if len(c.Notes) != 1 || c.Notes[0] != "A goes off after 10s at the latest, because no max_on is given" {
		t.Errorf("the notes are %q", c.Notes)
	}
}
