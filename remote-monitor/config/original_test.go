package config_test

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// env loads an environment alone.
func env(environ ...string) (config.Config, error) {
	return config.Load(config.Sources{Environ: environ, Host: "host"})
}

func good(t *testing.T, s config.Sources) config.Config {
	t.Helper()
	c, err := config.Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFleetVariablesConfigureABoard(t *testing.T) {
	got, err := env(
		"PATH=/bin", "RESIN_DEVICE_NAME_AT_INIT=old", "BALENA_DEVICE_NAME_AT_INIT=calm-otter",
		"SAMPLE_INTERVAL=0.1", "REMOTE_MONITOR_SEED=7",
		"INPUT_5_NAME=Door", "INPUT_5_TYPE=Contact Detector", "INPUT_5_VALUE_NORMAL=0",
		"INPUT_1_NAME=Hall", "INPUT_1_TYPE=Motion Detector", "INPUT_1_LOCATION=Ground floor", "INPUT_1_VALUE_NORMAL= 29 ", "INPUT_1_VALUE_TAMPER=78%",
		"INPUT_10_VALUE_NORMAL=50", "INPUT_3_NAME=", "INPUT_TAMPER_LABEL=Sabotage",
		"OUTPUT_1_TYPE=Siren", "OUTPUT_1_LOCATION=Outside", "OUTPUT_1_RELAY=relay3",
		"OUTPUT_2_TYPE=Light", "OUTPUT_2_LOCATION=Gate", "OUTPUT_2_RELAY=io2:4", "OUTPUT_2_MAX_ON=2 min",
		"RABBITMQ_SERVER_ADDRESS=192.168.1.100", "RABBITMQ_EXCHANGE=home", "RABBITMQ_DEVICE_TOPIC=ioboard",
		"CRONITOR_MONITOR_KEY=abc", "HC_PING_URL=https://hc-ping.com/1", "RSYSLOG_SERVER=logs", "INPUT_TAMPER_VALUE=9",
	)
	if err != nil {
		t.Fatal(err)
	}
	tamper := 78.0
	nowhere := zone.Band{Low: 1, High: 0}
	all := zone.Band{Low: math.Inf(-1), High: math.Inf(1)}
	levels := func(normal, tamper zone.Band) *zone.Levels {
		return &zone.Levels{Short: nowhere, Normal: normal, Alarm: all, Open: tamper}
	}
	adc := func(chip string, n int) board.Pin { return board.Pin{Chip: chip, Number: n} }
	want := config.Config{
		Device: "calm-otter", TimeZone: time.UTC, SupplyScale: 1, Interval: 100 * time.Millisecond, Heartbeat: time.Minute,
		Board: board.Config{
			Chips: []board.Chip{
				{Name: "adc1", Kind: board.MCP3424, Addresses: []uint16{0x68, 0x69}},
				{Name: "adc2", Kind: board.MCP3424, Addresses: []uint16{0x6A, 0x6B}},
				{Name: "io1", Kind: board.MCP23017, Addresses: []uint16{0x20}},
				{Name: "io2", Kind: board.MCP23017, Addresses: []uint16{0x21}},
			},
			Inputs:  []board.Pin{adc("adc1", 1), adc("adc2", 2), adc("adc1", 6)},
			Outputs: []board.Pin{adc("io1", 15), adc("io2", 4)},
			Seed:    7,
		},
		Zones: []config.Zone{
			{ID: "Hall", Name: "Hall", Pin: adc("adc1", 1), Type: "Motion Detector", Location: "Ground floor", Class: "motion",
				Key: "Hall Motion Detector (Ground floor)", Label: "Hall Motion Detector", Tamper: "Sabotage"},
			{ID: "Door", Name: "Door", Pin: adc("adc2", 2), Type: "Contact Detector", Class: "motion",
				Key: "Door Contact Detector ()", Label: "Door Contact Detector", Tamper: "Sabotage"},
			{ID: "input_10", Name: "Input 10", Pin: adc("adc1", 6), Type: "Detector", Class: "motion",
				Key: "Input 10 Detector ()", Label: "Input 10 Detector", Tamper: "Sabotage"},
		},
		Site: zone.Config{Zones: []zone.Settings{
			{Name: "Hall", Signal: zone.Loop, Levels: levels(zone.Band{Low: 19, High: 39}, zone.Band{Low: 68, High: 88}), Normal: 29, Tamper: &tamper, Label: "Sabotage", Bits: 12},
			{Name: "Door", Signal: zone.Loop, Levels: levels(zone.Band{Low: -10, High: 10}, nowhere), Label: "Sabotage", Bits: 12},
			{Name: "Input 10", Signal: zone.Loop, Levels: levels(zone.Band{Low: 40, High: 60}, nowhere), Normal: 50, Label: "Sabotage", Bits: 12},
		}},
		Outputs: []config.Output{
			{ID: "outside_siren", Name: "Outside Siren", Type: "Siren", Location: "Outside", Key: "Outside Siren"},
			{ID: "gate_light", Name: "Gate Light", Type: "Light", Location: "Gate", Key: "Gate Light"},
		},
		Relay: relay.Config{Outputs: []relay.Output{
			{Name: "outside_siren", Pin: adc("io1", 15), MaxOn: 10 * time.Second, Over: relay.Clamp},
			{Name: "gate_light", Pin: adc("io2", 4), MaxOn: 2 * time.Minute, Over: relay.Clamp},
		}},
		AMQP:   &config.AMQP{URL: "amqp://guest:guest@192.168.1.100:5672", Exchange: "home", Topic: "ioboard", Outbox: 10000},
		Ping:   config.Ping{URL: "https://hc-ping.com/1", Cronitor: "abc", Every: 5 * time.Minute},
		Syslog: &config.Syslog{Network: "udp", Address: "logs:514"},
		Notes: []string{
			"Outside Siren goes off after 10s at the latest, because no max_on is given",
			"INPUT_TAMPER_VALUE is set, and there is no use for it here",
		},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() })); d != "" {
		t.Error(d)
	}
}

func TestARelayMayBeGivenByItsNumber(t *testing.T) {
	c := good(t, config.Sources{Environ: []string{"OUTPUT_1_TYPE=Siren", "OUTPUT_1_RELAY=1", "OUTPUT_4_TYPE=Light", "OUTPUT_4_RELAY= 8 "}})
	if a, b := c.Relay.Outputs[0].Pin.String(), c.Relay.Outputs[1].Pin.String(); a != "io1:1" || b != "io2:1" {
		t.Errorf("they are at %s and %s", a, b)
	}
	if _, err := env("OUTPUT_1_TYPE=Siren", "OUTPUT_1_RELAY=9"); err == nil || !strings.Contains(err.Error(), "OUTPUT_1_RELAY=9: there is no such relay") {
		t.Error(err)
	}
}

func TestAVariableThatNamesABrokerLeavesItsUser(t *testing.T) {
	yaml := []byte("amqp: {url: \"amqp://broker\", user: gate, password: opensesame}\nmqtt: {url: \"mqtt://broker\", user: gate, password: opensesame}\n")
	for _, c := range []struct{ environ, amqp, user, password string }{
		{"X=", "amqp://gate:opensesame@broker:5672", "gate", "opensesame"},
		{"REMOTE_MONITOR_AMQP_URL=amqp://other", "amqp://gate:opensesame@other:5672", "gate", "opensesame"},
		{"RABBITMQ_SERVER_ADDRESS=other", "amqp://gate:opensesame@other:5672", "gate", "opensesame"},
		{"REMOTE_MONITOR_AMQP_URL=amqp://me:mine@other", "amqp://me:mine@other:5672", "gate", "opensesame"},
		{"REMOTE_MONITOR_MQTT_URL=mqtt://me@other", "amqp://gate:opensesame@broker:5672", "me", "opensesame"},
		{"REMOTE_MONITOR_MQTT_URL=mqtt://me:mine@other", "amqp://gate:opensesame@broker:5672", "me", "mine"},
	} {
		got := good(t, config.Sources{YAML: yaml, Environ: []string{c.environ}})
		if got.AMQP.URL != c.amqp || got.MQTT.User != c.user || got.MQTT.Password != c.password {
			t.Errorf("%s: %s, and %s with %s", c.environ, got.AMQP.URL, got.MQTT.User, got.MQTT.Password)
		}
	}
}

func TestAVariableThatTheFileNamesIsNoStrangeOne(t *testing.T) {
	yaml := []byte("device: ${REMOTE_MONITOR_NICKNAME}\namqp: {url: broker, user: gate, password: \"${RABBITMQ_PASSWORD}\"}\n")
	c := good(t, config.Sources{YAML: yaml, Environ: []string{"REMOTE_MONITOR_NICKNAME=owl", "RABBITMQ_PASSWORD=opensesame"}})
	if c.Device != "owl" || strings.Contains(c.Describe(), "RABBITMQ_PASSWORD") {
		t.Error(c.Describe())
	}
}

func TestTheLegacyProfileIsTheOriginalsAlgorithm(t *testing.T) {
	c, err := env("INPUT_1_NAME=Hall", "INPUT_1_VALUE_NORMAL=29", "REMOTE_MONITOR_PROFILE=legacy")
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Site.Zones[0]; s.Profile != zone.Legacy || s.Normal != 29 {
		t.Errorf("got %+v", s)
	}
}

func TestOnlyTheBoardsOfTheOriginalThatAreUsedAreThere(t *testing.T) {
	c, err := env("INPUT_1_VALUE_NORMAL=29")
	if err != nil || len(c.Board.Chips) != 1 || c.Board.Chips[0].Name != "adc1" {
		t.Errorf("got %+v, %v", c.Board, err)
	}
}

func TestInputsOfOneNameAreToldApart(t *testing.T) {
	c, err := env("INPUT_1_NAME=Hall", "INPUT_1_TYPE=Motion Detector", "INPUT_1_VALUE_NORMAL=29",
		"INPUT_2_NAME=Hall", "INPUT_2_TYPE=Door Detector", "INPUT_2_VALUE_NORMAL=29")
	if err != nil {
		t.Fatal(err)
	}
	a, b := c.Zones[0], c.Zones[1]
	if a.Name != "Hall Motion Detector" || b.Name != "Hall Door Detector" || a.Key != "Hall Motion Detector ()" || a.ID == b.ID || b.Class != "door" {
		t.Errorf("got %+v and %+v", a, b)
	}
}

func TestNothingSetIsNoBoardAndNoInputs(t *testing.T) {
	got, err := env()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Board.Chips) != 0 || got.Zones != nil || got.Device != "host" || got.Interval != 50*time.Millisecond || got.Samples || len(got.Notes) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestASimulatedBoardWithoutInputsHasSampleZones(t *testing.T) {
	got, err := env("REMOTE_MONITOR_BOARD=simulated")
	if err != nil {
		t.Fatal(err)
	}
	if !got.Samples || len(got.Zones) != 3 || len(got.Board.Chips) != 1 || len(got.Board.Loops) != 3 || len(got.Rules) != 1 || got.Site.WarmUp >= 0 {
		t.Errorf("got %+v", got)
	}
	if got.Rules[0].Outputs[0] != got.Outputs[0].ID {
		t.Errorf("the rule drives %v, and the output is %v", got.Rules[0].Outputs, got.Outputs[0].ID)
	}
	legacy, err := env("REMOTE_MONITOR_BOARD=simulated", "REMOTE_MONITOR_PROFILE=legacy")
	if err != nil || legacy.Site.Zones[2].Profile != zone.Legacy || legacy.Site.Zones[2].Normal != 29 {
		t.Errorf("got %+v, %v", legacy.Site.Zones, err)
	}
}

func TestASimulatedBoardStandsInForAnyOther(t *testing.T) {
	c := good(t, config.Sources{YAML: []byte(config.Example), Environ: append(exampleEnviron(), "REMOTE_MONITOR_BOARD=simulated")})
	if len(c.Board.Chips) != 1 || c.Board.Chips[0].Kind != board.Simulation {
		t.Errorf("its boards are %+v", c.Board.Chips)
	}
	pins := map[board.Pin]bool{}
	for i, z := range c.Zones {
		if z.Pin.Number < 1 || z.Pin.Number > 16 || pins[z.Pin] {
			t.Errorf("zone %s is at %s", z.Name, z.Pin)
		}
		pins[z.Pin] = true
		if s := c.Site.Zones[i].Signal; s == zone.Contact && z.Name != "Key switch" {
			t.Errorf("zone %s has the signal %s, which nothing moves", z.Name, s)
		}
	}
	for _, o := range c.Relay.Outputs {
		if o.Pin.Number < 17 || pins[o.Pin] {
			t.Errorf("output %s is at %s", o.Name, o.Pin)
		}
		pins[o.Pin] = true
	}
	if c.Supply != (board.Pin{}) {
		t.Errorf("the supply is at %s", c.Supply)
	}
	// The original's inputs keep their numbers.
	c, err := env("REMOTE_MONITOR_BOARD=simulated", "INPUT_10_VALUE_NORMAL=50", "INPUT_2_VALUE_NORMAL=50")
	if err != nil || c.Zones[0].Pin.String() != "sim:2" || c.Zones[1].Pin.String() != "sim:10" {
		t.Errorf("got %+v, %v", c.Zones, err)
	}
}

// Whatever levels are configured, the simulated detector shows three states that its zone can tell apart.
func TestASimulatedDetectorFitsItsInput(t *testing.T) {
	apart := func(a, b float64) bool { return math.Abs(a-b) > 0.10+1e-9 }
	for normal := 0; normal <= 100; normal++ {
		for tamper := -1; tamper <= 100; tamper += 3 {
			environ := []string{"REMOTE_MONITOR_BOARD=simulated", "INPUT_1_VALUE_NORMAL=" + itoa(normal)}
			if tamper >= 0 {
				if !apart(float64(normal)/100, float64(tamper)/100) {
					continue // refused
				}
				environ = append(environ, "INPUT_1_VALUE_TAMPER="+itoa(tamper))
			}
			c, err := env(environ...)
			if err != nil {
				t.Fatal(err)
			}
			l := c.Board.Loops[board.Pin{Chip: "sim", Number: 1}]
			if !apart(l.Idle, l.Active) || !apart(l.Idle, l.Open) || !apart(l.Active, l.Open) || min(l.Idle, l.Active, l.Open) < 0 || max(l.Idle, l.Active, l.Open) > 1 {
				t.Errorf("normal %d, tamper %d: %+v", normal, tamper, l)
			}
		}
	}
}

func TestTwoDevicesSeeDifferentPeopleAndOneSeesTheSameAgain(t *testing.T) {
	seed := func(uuid string) uint64 {
		c, err := env("BALENA_DEVICE_UUID=" + uuid)
		if err != nil {
			t.Fatal(err)
		}
		return c.Board.Seed
	}
	if first, again := seed("a"), seed("a"); first != again || first == seed("b") {
		t.Error("the seed does not follow the device")
	}
}

func TestWhatMakesNoSenseIsRefusedWithWhatToWrite(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"REMOTE_MONITOR_BOARD=simulatd", "REMOTE_MONITOR_BOARD=simulatd: there is no such board; did you mean simulated?"},
		{"REMOTE_MONITOR_BOARD=arduino", "this version has: simulated, original"},
		{"REMOTE_MONITOR_BORD=simulated", "did you mean REMOTE_MONITOR_BOARD?"},
		{"REMOTE_MONITOR_SEED=-1", "want a whole number"},
		{"SAMPLE_INTERVAL=fast", "want a time such as 50ms"},
		{"SAMPLE_INTERVAL=0", "want a time from 10ms to 10s"},
		{"SAMPLE_INTERVAL=NaN", "want a time from 10ms to 10s"},
		{"SAMPLE_INTERVAL=1e300", "want a time from 10ms to 10s"},
		{"SAMPLE_INTERVALS=1", "did you mean SAMPLE_INTERVAL?"},
		{"INPUT_1_NAM=Hall", "did you mean INPUT_1_NAME?"},
		{"INPUT_1_VALUE_NORMAL2=Hall", "did you mean INPUT_1_VALUE_NORMAL?"},
		{"INPUT_17_NAME=Hall", "inputs are INPUT_1_NAME to INPUT_16_NAME"},
		{"INPUT_01_NAME=Hall", "no such variable"},
		{"INPUT_0_NAME=Hall", "no such variable"},
		{"INPUT_1_NAME=Hall", "INPUT_1_VALUE_NORMAL is not set: input 1 needs the percentage of the supply it has when all is quiet"},
		{"INPUT_1_VALUE_NORMAL=1.5", "INPUT_1_VALUE_NORMAL=1.5: want a whole percentage of the supply"},
		{"INPUT_1_VALUE_NORMAL=101", "0 to 100"},
		{"INPUT_1_VALUE_NORMAL=50,INPUT_1_VALUE_TAMPER=-1", "INPUT_1_VALUE_TAMPER=-1"},
		{"INPUT_1_VALUE_NORMAL=50,INPUT_1_VALUE_TAMPER=60", "INPUT_1_VALUE_TAMPER=60: it is within 10 of INPUT_1_VALUE_NORMAL=50 and would never be seen"},
		{"INPUT_1_VALUE_NORMAL=50,INPUT_1_NAME=A,INPUT_2_VALUE_NORMAL=50,INPUT_2_NAME=A", "inputs 1 and 2 are both"},
		{"INPUT_1_VALUE_NORMAL=50,INPUT_1_ADDRESS=adc1:9", "INPUT_1_ADDRESS: zone Input 1: adc1:9: the inputs of adc1 are 1 to 8"},
		{"INPUT_1_VALUE_NORMAL=50,INPUT_1_ADDRESS=adc1:2,INPUT_2_VALUE_NORMAL=50", "adc1:2 is zone Input 1 already"},
		{"OUTPUT_1_TYPE=Siren", "OUTPUT_1_RELAY is not set: output 1 needs the relay it switches, such as relay1"},
		{"OUTPUT_1_RELAY=relai1", "did you mean relay1?"},
		{"OUTPUT_1_RELAY=relay1,OUTPUT_2_RELAY=relay1", "OUTPUT_2_RELAY: output Output 2 Output: io1:1 is output Output 1 Output already"},
		{"OUTPUT_1_RELAY=relay1,OUTPUT_1_MAX_ON=2h", "OUTPUT_1_MAX_ON=2h: want a time from 10ms to 1h"},
		{"OUTPUT_1_RELAI=relay1", "did you mean OUTPUT_1_RELAY?"},
		{"OUTPUT_17_RELAY=relay1", "outputs are OUTPUT_1_TYPE to OUTPUT_16_TYPE"},
		{"REMOTE_MONITOR_PROFILE=legasy,INPUT_1_VALUE_NORMAL=1", "did you mean legacy?"},
		{"REMOTE_MONITOR_TIME_ZONE=Berlin", `there is no time zone "Berlin"`},
		{"REMOTE_MONITOR_MQTT_URL=broker", "REMOTE_MONITOR_MQTT_URL: mqtt: url: want an address that begins with mqtt://"},
		{"RABBITMQ_SERVER_ADDRESS=http://x", "RABBITMQ_SERVER_ADDRESS: amqp: want an address that begins with amqp:// or amqps://"},
		{"RABBITMQ_SERVER_ADDRESS=x,RABBITMQ_DEVICE_TOPIC=a.b", "want letters, digits, _ and -"},
		{"RABBITMQ_EXCHANG=x", "did you mean RABBITMQ_EXCHANGE?"},
		{"REMOTE_MONITOR_PAGE_LISTEN=here", "want host:port"},
		{"REMOTE_MONITOR_PAGE_LISTEN=:80,REMOTE_MONITOR_PAGE_TOKEN=short", "too short to be a secret"},
		{"HC_PING_URL=hc-ping.com/1", "https:// or http://"},
		{"RSYSLOG_SERVER=logs:99999", "99999 is no port"},
		{"REMOTE_MONITOR_AMQP_LEVEL=perhaps,RABBITMQ_SERVER_ADDRESS=x", "want true or false"},
	} {
		_, err := env(strings.Split(c.env, ",")...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want it to say %q", c.env, err, c.want)
		}
	}
}

func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	_, err := env("SAMPLE_INTERVAL=x", "REMOTE_MONITOR_SEED=x", "INPUT_1_NAME=Hall")
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v, want three lines", err)
	}
}

func TestNoStartStaysUpWhateverElseIsSaid(t *testing.T) {
	c, err := env("NO_START=1", "INPUT_1_NAME=Hall")
	if err != nil || !c.NoStart || c.Zones != nil || len(c.Notes) != 2 || !strings.Contains(c.Notes[1], "INPUT_1_VALUE_NORMAL is not set") {
		t.Errorf("got %+v, %v", c, err)
	}
	if c, err = env("NO_START="); err != nil || c.NoStart {
		t.Errorf("got %+v, %v for one that is set to nothing", c, err)
	}
}

func TestVariablesWithoutUseAreNoted(t *testing.T) {
	c, err := env("TEST_ON_START_ADDRESS=x", "OUTPUT_DIR=/tmp", "RABBITMQ_DEFAULT_USER=x", "RABBITMQ_EXCHANGE=x", "REMOTE_MONITOR_PAGE_TOKEN=xxxxxxxxxx", "REMOTE_MONITOR_PROFILE=legacy")
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(c.Notes, "\n")
	for _, name := range []string{"TEST_ON_START_ADDRESS", "OUTPUT_DIR", "RABBITMQ_DEFAULT_USER", "RABBITMQ_EXCHANGE", "REMOTE_MONITOR_PAGE_TOKEN", "REMOTE_MONITOR_PROFILE"} {
		if strings.Count(notes, name+" is set") != 1 {
			t.Errorf("%s is not noted once in:\n%s", name, notes)
		}
	}
}

// fleet is an environment as the original's fleets have it: all seven inputs and four outputs.
func fleet() []string {
	return []string{
		"RESIN_DEVICE_NAME_AT_INIT=gate-board", "INPUT_TAMPER_LABEL=Tampered", "INPUT_TAMPER_VALUE=78", "CRONITOR_MONITOR_KEY=k",
		"RABBITMQ_SERVER_ADDRESS=broker", "RABBITMQ_EXCHANGE=home_automation", "RABBITMQ_DEVICE_TOPIC=ioboard", "RSYSLOG_SERVER=@logs:1514",
		"HC_PING_URL=https://hc-ping.com/1", "OP_CONNECT_HOST=http://connect:8080", "OP_CONNECT_TOKEN=t", "OP_CONNECT_VAULT=Home",
		"INPUT_1_NAME=Hall", "INPUT_1_TYPE=Motion Detector", "INPUT_1_LOCATION=House", "INPUT_1_VALUE_NORMAL=29", "INPUT_1_VALUE_TAMPER=78",
		"INPUT_2_NAME=Porch", "INPUT_2_TYPE=Motion Detector", "INPUT_2_LOCATION=Outside", "INPUT_2_VALUE_NORMAL=29", "INPUT_2_VALUE_TAMPER=78",
		"INPUT_3_NAME=Garage", "INPUT_3_TYPE=Door Detector", "INPUT_3_LOCATION=Outside", "INPUT_3_VALUE_NORMAL=50", "INPUT_3_VALUE_TAMPER=100",
		"INPUT_5_NAME=Attic", "INPUT_5_TYPE=Motion Detector", "INPUT_5_LOCATION=House", "INPUT_5_VALUE_NORMAL=29",
		"INPUT_7_NAME=Cellar", "INPUT_7_TYPE=Motion Detector", "INPUT_7_LOCATION=House", "INPUT_7_VALUE_NORMAL=29", "INPUT_7_VALUE_TAMPER=78",
		"OUTPUT_1_LOCATION=Front", "OUTPUT_1_TYPE=Light", "OUTPUT_1_RELAY=relay1",
		"OUTPUT_2_LOCATION=Gate", "OUTPUT_2_TYPE=Lock", "OUTPUT_2_RELAY=relay8",
	}
}

func TestAppConfIsUnderstoodAsItIs(t *testing.T) {
	conf, err := os.ReadFile(filepath.Join("testdata", "app.conf"))
	if err != nil {
		t.Fatal(err)
	}
	file := good(t, config.Sources{AppConfFile: "app.conf", AppConf: conf, Environ: fleet(), Host: "host"})
	alone := good(t, config.Sources{Environ: fleet(), Host: "host"})
	// The original's wiring is what app.conf says, so the variables alone give the same.
	file.Notes, alone.Notes = nil, nil
	if d := cmp.Diff(alone, file, cmp.Comparer(func(a, b *time.Location) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if len(file.Zones) != 5 || file.Zones[4].Pin.String() != "adc2:1" || file.Relay.Outputs[1].Pin.String() != "io2:1" ||
		file.Device != "gate-board" || *file.Syslog != (config.Syslog{Network: "tcp", Address: "logs:1514"}) || file.Zones[0].Tamper != "Tampered" {
		t.Errorf("got %s", file.Describe())
	}
}

func TestAVariableOfAppConfThatIsNotSetIsEmpty(t *testing.T) {
	conf, err := os.ReadFile(filepath.Join("testdata", "app.conf"))
	if err != nil {
		t.Fatal(err)
	}
	c := good(t, config.Sources{AppConfFile: "app.conf", AppConf: conf, Host: "host", Environ: []string{"INPUT_1_NAME=Hall", "INPUT_1_VALUE_NORMAL=29"}})
	if len(c.Zones) != 1 || c.Ping.Cronitor != "" {
		t.Errorf("got %s", c.Describe())
	}
}

func TestKeysThatNameEachOtherEndlesslyAreRefused(t *testing.T) {
	conf := "[app]\n"
	for i := range 8 {
		conf += "k" + itoa(i) + "=" + strings.Repeat("%(k"+itoa(i+1)+")s", 100) + "\n"
	}
	_, err := config.Load(config.Sources{AppConf: []byte(conf + "device_name=%(k0)s\n")})
	if err == nil || !strings.Contains(err.Error(), "round in a circle") {
		t.Errorf("got %.200v", err)
	}
}

func TestAppConfDescribesAnotherWiring(t *testing.T) {
	c := good(t, config.Sources{Host: "host", Environ: []string{"WHERE=Cellar", "INPUT_1_NAME=Other", "INPUT_9_NAME=Nine"}, AppConf: []byte(`
; another board
[DEFAULT]
kind = Motion Detector
[adc_address]
ADC9 = 0x6c,0x6d
[io_address]
io1: 0x24
[relay_address]
bell = io1:3
[input_address]
I1 = adc9:8
[input_name]
I1 = 100%% sure
[input_type]
I1 = %(kind)s
[input_location]
I1 = %(WHERE)s
[input_normal_values]
I1 = 44
[output_type]
O2 = Bell
[output_location]
O2 = Hall
[output_relay]
O2 = bell
[zmq]
pubsub_port = 5556
`)})
	if len(c.Zones) != 1 || c.Zones[0].Key != "100% sure Motion Detector (Cellar)" || c.Zones[0].Pin != (board.Pin{Chip: "adc9", Number: 8}) {
		t.Errorf("got %+v", c.Zones)
	}
	if len(c.Board.Chips) != 2 || c.Board.Chips[0].Addresses[1] != 0x6d || c.Relay.Outputs[0].Pin.String() != "io1:3" {
		t.Errorf("got %+v", c.Board)
	}
	if notes := strings.Join(c.Notes, "\n"); !strings.Contains(notes, "[zmq] has no use here") || !strings.Contains(notes, "INPUT_9_NAME is set, and app.conf has no input 9") {
		t.Errorf("the notes are %s", notes)
	}
}

func TestAppConfThatMakesNoSenseIsRefusedWithItsLine(t *testing.T) {
	const fine = "[input_address]\nI1=adc1:1\n[input_normal_values]\nI1=29\n"
	for _, c := range []struct{ conf, want string }{
		{"I1=1\n", `app.conf:1: "I1" stands before the first section`},
		{"[app\n", `app.conf:1: "[app" is no section`},
		{"[app]\nnonsense\n", `app.conf:2: "nonsense" is neither a section nor a key`},
		{"[app]\n[APP]\n", "app.conf:2: the section [APP] is there twice"},
		{"[app]\ntamper_label=a\nTamper_Label=b\n", "app.conf:3: Tamper_Label is there twice in [app]"},
		{"[input_adress]\nI1=adc1:1\n", "app.conf:1: there is no section [input_adress]; did you mean input_address?"},
		{"[app]\ntamper_lable=x\n", "app.conf:2: [app] has no key tamper_lable; did you mean tamper_label?"},
		{"[adc_address]\nadc1=68\nadc2=0x68,0x69,0x6a\n", `app.conf:3: [adc_address] adc2: "0x68,0x69,0x6a": want two addresses such as 0x68,0x69`},
		{"[adc_address]\nadc1=0x20\n" + fine, "app.conf:2: [adc_address] adc1: board adc1: 0x20 is no address of a board of kind mcp3424; want 0x68 to 0x6f"},
		{"[input_address]\nI1=adc1:1\n[input_normal_values]\nI1=high\n", "app.conf:4: [input_normal_values] I1=high: want a whole percentage"},
		{"[input_name]\nI3=Hall\n", "app.conf: [input_address] has no line for number 3, which other sections have; add one"},
		{"[input_address]\nI1=adc5:1\n[input_normal_values]\nI1=29\n", `app.conf:2: [input_address] I1: zone Input 1: adc5:1: there is no board "adc5"; did you mean adc1?`},
		{"[input_name]\nhall=Hall\n", `app.conf:2: "hall": want a letter and a number from 1 to 16`},
		{fine + "[input_name]\nI1=50%\n", "app.conf:6: [input_name] I1: a % stands alone"},
		{fine + "[input_name]\nI1=%(a)s\na1=%(I1)s\n", "round in a circle"},
		{"[output_type]\nO1=Bell\n[output_relay]\nO1=relay9\n[relay_address]\nrelay1=io1:1\n", "app.conf:4: [output_relay] O1=relay9: there is no such relay; did you mean relay1?"},
	} {
		environ := []string{}
		if strings.Contains(c.conf, "%(a)s") {
			c.conf = strings.ReplaceAll(c.conf, "%(a)s", "%(a1)s")
		}
		_, err := config.Load(config.Sources{AppConfFile: "app.conf", AppConf: []byte(c.conf), Environ: environ})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\ngot  %v\nwant %q", c.conf, err, c.want)
		}
	}
}
