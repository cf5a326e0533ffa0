package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/relay"
)

func (c Config) describeOutputs(w *writer) {
	if len(c.Outputs) == 0 {
		w.title("No outputs")
		return
	}
	w.title("Outputs")
	for i, o := range c.Outputs {
		b := c.Relay.Outputs[i]
		where := o.Type
		if o.Location != "" {
			where += ", " + o.Location
		}
		w.line(1, "%s (%s) at %s: %s", o.Name, o.ID, b.Pin, where)
		level, safe := "high", "off"
		if b.Active == relay.ActiveLow {
			level = "low"
		}
		if b.SafeOn {
			safe = "on"
		}
		w.line(2, "on when the line is %s; %s at the start, at the stop and in trouble", level, safe)
		bound := fmt.Sprintf("on for %s unless told otherwise", span(or(b.On, relay.DefaultOn)))
		if b.Latching {
			bound += fmt.Sprintf("; off when no command came for %s", span(b.Lease))
		}
		if b.MaxOn > 0 {
			bound += fmt.Sprintf(", at most %s", span(b.MaxOn))
			if b.Over == relay.Clamp {
				bound += "; longer commands are shortened"
			} else {
				bound += "; longer commands are refused"
			}
		}
		w.line(2, "%s", bound)
		var more []string
		switch b.Retrigger {
		case relay.Ignore:
			more = append(more, "a command while it is on changes nothing")
		case relay.Restart:
			more = append(more, "a command while it is on begins its time anew")
		}
		if b.Exclusive != "" {
			more = append(more, fmt.Sprintf("never on together with others of %s, and %s between them", b.Exclusive, span(or(b.Dead, relay.DefaultDead))))
		}
		if b.MinOff > 0 {
			more = append(more, "off for at least "+span(b.MinOff))
		}
		if b.PerMinute > 0 {
			more = append(more, fmt.Sprintf("on at most %d times a minute", b.PerMinute))
		}
		if b.Sources != nil {
			more = append(more, "commanded by "+list(b.Sources)+" alone")
		}
		if len(more) > 0 {
			w.line(2, "%s", strings.Join(more, "; "))
		}
	}
	if n := c.Relay.MaxSimultaneous; n > 0 {
		w.line(1, "at most %d of them are on at once", n)
	}
}

func (c Config) describeRules(w *writer) {
	if len(c.Rules) == 0 {
		return
	}
	w.title("Rules")
	names := map[string]string{}
	for _, o := range c.Outputs {
		names[o.ID] = o.Name
	}
	for _, r := range c.Rules {
		var kinds, outputs []string
		for _, k := range r.On {
			kinds = append(kinds, strings.ReplaceAll(string(k), "_", "-"))
		}
		for _, o := range r.Outputs {
			outputs = append(outputs, names[o])
		}
		where := "anything"
		switch {
		case len(r.Zones) > 0 && len(r.Groups) > 0:
			where = strings.Join(r.Zones, " or ") + ", or the group " + strings.Join(r.Groups, " or ")
		case len(r.Zones) > 0:
			where = strings.Join(r.Zones, " or ")
		case len(r.Groups) > 0:
			where = "the group " + strings.Join(r.Groups, " or ")
		}
		line := fmt.Sprintf("%s: on %s of %s", r.Name, strings.Join(kinds, " or "), where)
		if len(r.Armed) > 0 {
			line += ", while " + list(r.Armed) + " is armed"
		}
		if len(r.Disarmed) > 0 {
			line += ", while " + list(r.Disarmed) + " is disarmed"
		}
		if len(r.Between) > 0 {
			line += ", " + describeSpans(r.Between)
		}
		line += ", turn " + list(outputs)
		switch {
		case r.Action == relay.Off:
			line += " off"
		case r.Action == relay.Pulse && r.For == 0:
			line += " on for its time"
		case r.For > 0:
			line += " on for " + span(r.For)
		default:
			line += " on"
		}
		if r.Every > 0 {
			line += fmt.Sprintf(", at most every %s", span(r.Every))
		}
		w.line(1, "%s", line)
	}
}

// describeOthers says who is told. Addresses are shown without what may be secret in them.
func (c Config) describeOthers(w *writer) {
	w.title("Told to others")
	if c.MQTT == nil && c.AMQP == nil && c.Page == nil && c.Ping.URL == "" && c.Ping.Cronitor == "" && c.Syslog == nil && c.Sentry == "" {
		w.line(1, "nothing; events are lines of JSON on standard output")
		return
	}
	if m := c.MQTT; m != nil {
		w.line(1, "MQTT: %s%s as %s, topics %s/…%s", plain(m.URL), as(m.User, m.Password), m.ClientID, m.Prefix, discovery(m))
		w.line(2, "up to %d events wait on disk", m.Outbox)
		if m.Insecure {
			w.line(2, "any certificate is accepted, so anybody on the way can read the password and send commands")
		}
	}
	if a := c.AMQP; a != nil {
		u, err := url.Parse(a.URL)
		user, password := "", ""
		if err == nil && u.User != nil {
			user = u.User.Username()
			password, _ = u.User.Password()
		}
		w.line(1, "AMQP: %s%s, exchange %s, device topic %s", plain(a.URL), as(user, password), a.Exchange, a.Topic)
		w.line(2, "up to %d events wait on disk", a.Outbox)
		if a.Level {
			w.line(2, "an input is marked triggered in each message while it alarms")
		}
	}
	if p := c.Page; p != nil {
		buttons, metrics := "without buttons", ""
		if p.Token != "" {
			buttons = "with buttons behind a token"
		}
		if p.Metrics {
			metrics = ", and metrics"
		}
		w.line(1, "status page at %s %s%s", p.Listen, buttons, metrics)
	}
	if c.Ping.URL != "" {
		w.line(1, "Healthchecks: %s every %s", plain(c.Ping.URL), span(c.Ping.Every))
	}
	if c.Ping.Cronitor != "" {
		w.line(1, "Cronitor: every %s", span(c.Ping.Every))
	}
	if s := c.Syslog; s != nil {
		w.line(1, "syslog: %s://%s", s.Network, s.Address)
	}
	if c.Sentry != "" {
		w.line(1, "Sentry: %s", plain(c.Sentry))
	}
}

// plain is an address's scheme and host: the rest may be a secret.
func plain(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an address"
	}
	return u.Scheme + "://" + u.Host
}

func as(user, password string) string {
	switch {
	case user == "":
		return ""
	case password == "":
		return ", user " + user + " without a password"
	default:
		return ", user " + user
	}
}

func discovery(m *MQTT) string {
	switch {
	case m.Discovery == "-":
		return ""
	case m.Components:
		return ", found by Home Assistant under " + m.Discovery + ", a message for each component"
	default:
		return ", found by Home Assistant under " + m.Discovery
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

func orNumber(f, otherwise float64) float64 {
	if f == 0 {
		return otherwise
	}
	return f
}

// describeOr is a time, its default when it is zero, or a word when it is negative.
func describeOr(d, otherwise time.Duration, off string) string {
	if d < 0 {
		return off
	}
	return span(or(d, otherwise))
}
