package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// sound holds what Load promises of what it takes, whatever it was given.
func sound(t *testing.T, c config.Config, err error) {
	t.Helper()
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if line == "" {
				t.Errorf("a line of the error is empty: %q", err)
			}
		}
		return
	}
	if len(c.Zones) != len(c.Site.Zones) || len(c.Outputs) != len(c.Relay.Outputs) || c.TimeZone == nil || c.Interval < 10*time.Millisecond || c.Heartbeat < time.Second {
		t.Fatalf("took %+v", c)
	}
	if _, err := zone.New(c.Site, time.Unix(0, 0)); err != nil {
		t.Errorf("the zones refuse it: %v", err)
	}
	if _, err := relay.New(c.Relay); err != nil {
		t.Errorf("the relays refuse it: %v", err)
	}
	if len(c.Board.Chips) > 0 {
		if err := board.Check(c.Board); err != nil {
			t.Errorf("the board refuses it: %v", err)
		}
	}
	ids := map[string]bool{}
	for i, z := range c.Zones {
		if z.ID == "" || ids[z.ID] || z.Name != c.Site.Zones[i].Name || strings.Trim(z.ID, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			t.Errorf("zone %d is %+v", i, z)
		}
		ids[z.ID] = true
	}
	for i, o := range c.Outputs {
		b := c.Relay.Outputs[i]
		if ids[o.ID] || o.ID != b.Name || b.MaxOn > relay.LongestMaxOn && !b.Latching || b.MaxOn <= 0 && b.Lease <= 0 {
			t.Errorf("output %d is %+v, %+v", i, o, b)
		}
		ids[o.ID] = true
	}
	for _, r := range c.Rules {
		if len(r.Outputs) == 0 || len(r.On) == 0 {
			t.Errorf("a rule is %+v", r)
		}
		for _, o := range r.Outputs {
			if !ids[o] {
				t.Errorf("rule %s drives %q, which there is not", r.Name, o)
			}
		}
	}
	if c.Describe() == "" {
		t.Error("it has no description")
	}
}

func FuzzAnyFileIsReadOrRefused(f *testing.F) {
	f.Add(config.Example)
	for _, part := range strings.Split(config.Example, "\n\n") {
		f.Add(part)
	}
	f.Add("zones: [{name: ${X}, input: op://a/b/c}]")
	f.Add(strings.Repeat("[", 100))
	f.Add(strings.Repeat("- ", 100))
	f.Add("a: {b: {c: [d: e]}}\n? x\n: y")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 8<<10 && text != config.Example {
			return // the YAML parser takes long for long lines that make no sense
		}
		c, err := config.Load(config.Sources{File: "f", YAML: []byte(text), Environ: append(exampleEnviron(), "X=y"), Host: "host"})
		sound(t, c, err)
	})
}

func FuzzAnyAppConfIsReadOrRefused(f *testing.F) {
	f.Add("[app]\ndevice_name=%(A)s\n[input_address]\nI1=adc1:1\n[input_normal_values]\nI1=%(N)s\n", "A", "x")
	f.Add("[output_type]\nO1=x\n[output_relay]\nO1=relay1\n[relay_address]\nrelay1=io1:1\n", "OUTPUT_1_MAX_ON", "3")
	f.Add("[adc_address]\nadc1=0x68,0x69\n[io_address]\nio1=0x20", "A", "B")
	f.Add("[DEFAULT]\na=%(b)s\nb=%(a)s%(a)s\n[app]\ndevice_name=%(a)s", "N", "29")
	f.Fuzz(func(t *testing.T, text, k, v string) {
		c, err := config.Load(config.Sources{AppConf: []byte(text), Environ: []string{k + "=" + v, "N=29"}, Host: "host"})
		sound(t, c, err)
	})
}

func FuzzAnyEnvironmentIsReadOrRefused(f *testing.F) {
	for _, v := range config.Variables() {
		f.Add(strings.ReplaceAll(v.Name, "<n>", "1"), v.Default)
	}
	f.Add("INPUT_1_VALUE_NORMAL", "50")
	f.Add("SAMPLE_INTERVAL", "-1e400")
	f.Add("REMOTE_MONITOR_", "\xff")
	f.Add("REMOTE_MONITOR_MQTT_URL", "mqtt://a:b@c")
	f.Fuzz(func(t *testing.T, k, v string) {
		c, err := config.Load(config.Sources{Environ: []string{k + "=" + v, "INPUT_2_VALUE_NORMAL=29", "OUTPUT_3_RELAY=relay3"}, Host: "host"})
		sound(t, c, err)
	})
}
