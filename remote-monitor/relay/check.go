package relay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
)

// Sources of commands. Local ones are not limited in their rate: a rule that turns on ten lamps is no attack.
const (
	fromRule     = "rule"
	fromSchedule = "schedule"
)

var sources = []string{fromRule, fromSchedule, "mqtt", "amqp", "page"}

const (
	perMinute = 30
	letters   = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
)

// check reports all that makes no sense, each thing with the output, the value and what to do.
func check(c Config) error {
	var errs []error
	if c.MaxSimultaneous < 0 {
		errs = append(errs, fmt.Errorf("max_simultaneous %d: give how many outputs may be on at once, or 0 for no limit", c.MaxSimultaneous))
	}
	names := map[string]bool{}
	pins := map[board.Pin]string{}
	for _, o := range c.Outputs {
		wrong := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("output %q: "+format, append([]any{o.Name}, args...)...))
		}
		if o.Name == "" || strings.Trim(o.Name, letters) != "" {
			wrong("the name may have letters, digits, _ and - only; choose another")
		}
		if names[o.Name] {
			wrong("the name is taken; give each output its own")
		}
		names[o.Name] = true
		switch other, taken := pins[o.Pin]; {
		case o.Pin.Chip == "" || o.Pin.Number < 1:
			wrong("it has no pin; give it one such as io1:3")
		case taken:
			wrong("pin %s drives output %q already; give each output its own", o.Pin, other)
		}
		pins[o.Pin] = o.Name
		checkTimes(o, wrong)
		checkWords(o, wrong)
	}
	return errors.Join(errs...)
}

func checkTimes(o Output, wrong func(string, ...any)) {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"max_on", o.MaxOn}, {"on", o.On}, {"lease", o.Lease}, {"dead", o.Dead}, {"min_off", o.MinOff}} {
		if d.value < 0 {
			wrong("%s %s is negative; give a time above zero, or leave it out", d.name, d.value)
		}
	}
	switch {
	case o.Latching && o.Lease == 0:
		wrong("it is latching and has no lease; give the time after which it goes off when no command renews it, such as lease: 10m")
	case !o.Latching && o.Lease != 0:
		wrong("a lease of %s has no use unless it is latching; leave one out or add the other", o.Lease)
	}
	if o.MaxOn > LongestMaxOn && !o.Latching {
		wrong("max_on %s is longer than %s; shorten it, or make the output latching with a lease", o.MaxOn, LongestMaxOn)
	}
	if longest := withDefaults(o).longest(); o.On > longest {
		wrong("on %s is longer than its max_on of %s; shorten one or lengthen the other", o.On, longest)
	}
	if o.PerMinute < 0 {
		wrong("per_minute %d: give how often it may go on in a minute, or leave it out for %d", o.PerMinute, perMinute)
	}
}

func checkWords(o Output, wrong func(string, ...any)) {
	if o.Active != ActiveHigh && o.Active != ActiveLow {
		wrong("active %q: write low, or leave it out for high", o.Active)
	}
	if o.Over != Reject && o.Over != Clamp {
		wrong("over %q: write clamp, or leave it out to reject commands that are too long", o.Over)
	}
	if !slices.Contains([]Retrigger{Extend, Ignore, Restart}, o.Retrigger) {
		wrong("retrigger %q: write ignore or restart, or leave it out to extend", o.Retrigger)
	}
	if o.SafeOn && o.Exclusive != "" {
		wrong("its safe state is on and it is in the exclusive group %q: a stop would turn it on beside the others; take it out of the group", o.Exclusive)
	}
	for _, s := range o.Sources {
		if !slices.Contains(sources, s) {
			wrong("there is no source %q of commands; the sources are %q", s, sources)
		}
	}
}

// withDefaults fills in what was left out.
func withDefaults(o Output) Output {
	if o.MaxOn == 0 && !o.Latching {
		o.MaxOn = DefaultMaxOn
	}
	if o.On == 0 {
		o.On = min(DefaultOn, o.longest())
	}
	if o.Dead == 0 {
		o.Dead = DefaultDead
	}
	if o.PerMinute == 0 {
		o.PerMinute = perMinute
	}
	return o
}

// longest is how long a command may ask for.
func (o Output) longest() time.Duration {
	if o.MaxOn == 0 {
		return LongestMaxOn // Latching without a limit of its own
	}
	return o.MaxOn
}
