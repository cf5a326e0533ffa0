package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Defaults of what tells others.
const (
	defaultOutbox   = 10_000
	defaultPrefix   = "rm"
	defaultFind     = "homeassistant"
	defaultExchange = "home_automation"
	defaultTopic    = "ioboard"
	defaultListen   = "127.0.0.1:8080"
	defaultEvery    = 5 * time.Minute
	leastToken      = 8
)

// amqpParts are what an AMQP address is put together from.
type amqpParts struct {
	server, user, password name
}

// integrations reads the parts of the file that tell others.
func (d *draft) integrations(m *mapping) {
	m.under("mqtt", "mqtt", func(m *mapping) {
		c := d.mqtt()
		if at, ok := m.text("url", &c.URL); ok {
			d.mqttURL(at, c)
		}
		m.text("user", &c.User)
		m.text("password", &c.Password)
		m.text("client_id", &c.ClientID)
		m.text("ca", &c.CA)
		m.text("cert", &c.Cert)
		m.text("key", &c.Key)
		m.yes("insecure", &c.Insecure)
		if at, ok := m.text("prefix", &c.Prefix); ok {
			c.Prefix = strings.Trim(c.Prefix, "/")
			d.topic(at, "prefix", c.Prefix)
		}
		if v, ok := m.value("discovery"); ok && isOff(v.text) {
			c.Discovery = "-"
		} else if at, ok := m.text("discovery", &c.Discovery); ok {
			d.topic(at, "discovery", c.Discovery)
		}
		m.yes("components", &c.Components)
		if _, _, given := m.ask("expire"); given {
			m.durationOr(0, "expire", &c.Expire, time.Second, 30*day)
			d.expireSaid = true
		}
		m.whole("outbox", &c.Outbox, 1, 1_000_000)
		if _, _, given := m.ask("url"); !given && c.URL == "" && d.env.lookup("REMOTE_MONITOR_MQTT_URL") == "" {
			m.wrong(m.at, "want url: where the broker is, such as mqtt://broker:1883")
		}
		if (c.Cert == "") != (c.Key == "") {
			m.wrong(m.at, "cert and key are of use only together; give both, or none")
		}
	})
	m.under("amqp", "amqp", func(m *mapping) {
		c := d.amqp()
		p := &d.amqpParts
		p.server.at, _ = m.text("url", &p.server.text)
		p.user.at, _ = m.text("user", &p.user.text)
		p.password.at, _ = m.text("password", &p.password.text)
		m.text("exchange", &c.Exchange)
		if at, ok := m.text("topic", &c.Topic); ok && !isID(c.Topic) {
			m.wrong(at, "topic: %s: want letters, digits, _ and -", quoted(c.Topic))
		}
		m.yes("level", &c.Level)
		m.text("ca", &c.CA)
		m.whole("outbox", &c.Outbox, 1, 1_000_000)
		if _, _, given := m.ask("url"); !given && d.env.lookup("REMOTE_MONITOR_AMQP_URL") == "" && d.env.lookup("RABBITMQ_SERVER_ADDRESS") == "" {
			m.wrong(m.at, "want url: where the broker is, such as amqp://user:password@broker:5672")
		}
	})
	m.under("page", "page", func(m *mapping) {
		c := d.page()
		if at, ok := m.text("listen", &c.Listen); ok {
			d.listen(at, c)
		}
		if at, ok := m.text("token", &c.Token); ok {
			d.token(at, c)
		}
		m.yes("metrics", &c.Metrics)
	})
	m.under("ping", "ping", func(m *mapping) {
		if at, ok := m.text("url", &d.Ping.URL); ok {
			d.httpURL(at, "ping: url", d.Ping.URL)
		}
		m.text("cronitor", &d.Ping.Cronitor)
		m.duration("every", &d.Ping.Every, 10*time.Second, day)
	})
	m.under("syslog", "syslog", func(m *mapping) {
		var address, ca string
		at, ok := m.text("address", &address)
		if !ok {
			if _, _, given := m.ask("address"); !given {
				m.wrong(m.at, "want address: where logs go, such as udp://logs:514")
			}
		}
		m.text("ca", &ca)
		if ok {
			d.syslog(at, address, ca)
		}
	})
	if at, ok := m.text("sentry", &d.Sentry); ok {
		d.httpURL(at, "sentry", d.Sentry)
	}
}

func (d *draft) mqtt() *MQTT {
	if d.MQTT == nil {
		d.MQTT = &MQTT{Prefix: defaultPrefix, Discovery: defaultFind, Outbox: defaultOutbox}
	}
	return d.MQTT
}

func (d *draft) amqp() *AMQP {
	if d.AMQP == nil {
		d.AMQP = &AMQP{Exchange: defaultExchange, Topic: defaultTopic, Outbox: defaultOutbox}
	}
	return d.AMQP
}

func (d *draft) page() *Page {
	if d.Page == nil {
		d.Page = &Page{Listen: defaultListen, Metrics: true}
	}
	return d.Page
}

// topic refuses what a broker would take for a pattern or would not take at all.
func (d *draft) topic(at place, key, topic string) {
	for part := range strings.SplitSeq(topic, "/") {
		if !isID(part) {
			d.wrong(at, "mqtt: %s: %s: want letters, digits, _ and -, and / between parts", key, quoted(topic))
			return
		}
	}
}

// address parses a URL without showing it when it is wrong: it may have a password in it.
func address(s string, schemes ...string) (*url.URL, error) {
	want := fmt.Errorf("want an address that begins with %s://", strings.Join(schemes, ":// or "))
	if !strings.Contains(s, "://") {
		return nil, want
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("this is no address; a password in it needs %%40 for @, %%3A for : and %%2F for /")
	}
	if !slices.Contains(schemes, u.Scheme) {
		return nil, want
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("the address has no host")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			if strings.Contains(s, "@") { // then it may be half a password
				p = "what follows the host"
			}
			return nil, fmt.Errorf("%s is no port; want 1 to 65535", p)
		}
	}
	return u, nil
}

func (d *draft) httpURL(at place, key, s string) {
	if _, err := address(s, "https", "http"); err != nil {
		d.wrong(at, "%s%v", prefix(key), err)
	}
}

// mqttURL checks the broker's address and takes user and password out of it, so that they are in no log.
func (d *draft) mqttURL(at place, c *MQTT) {
	u, err := address(c.URL, "mqtt", "mqtts", "ws", "wss")
	if err != nil {
		d.wrong(at, "mqtt: url: %v", err)
		return
	}
	if u.User != nil {
		c.User = u.User.Username()
		if p, given := u.User.Password(); given {
			c.Password = p
		}
		u.User = nil
	}
	c.URL = u.String()
}

// amqpURL puts the address together: the original gave a host alone, and RabbitMQ's own user.
func (d *draft) amqpURL() {
	p := d.amqpParts
	if d.AMQP == nil || p.server.text == "" {
		return
	}
	s := p.server.text
	if !strings.Contains(s, "://") {
		if strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "[") {
			s = "[" + s + "]"
		}
		s = "amqp://" + s
	}
	u, err := address(s, "amqp", "amqps")
	if err != nil {
		d.wrong(p.server.at, "amqp: %v", err)
		return
	}
	switch {
	case p.user.text != "":
		u.User = url.UserPassword(p.user.text, p.password.text)
	case p.password.text != "":
		d.wrong(p.password.at, "amqp: a password without a user is of no use; give the user too")
	case u.User == nil:
		u.User = url.UserPassword("guest", "guest")
	}
	if u.Port() == "" {
		port := ":5672"
		if u.Scheme == "amqps" {
			port = ":5671"
		}
		u.Host += port
	}
	d.AMQP.URL = u.String()
}

func (d *draft) listen(at place, c *Page) {
	if _, err := strconv.ParseUint(c.Listen, 10, 16); err == nil {
		c.Listen = ":" + c.Listen
	}
	_, port, err := net.SplitHostPort(c.Listen)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || n == 0 {
		d.wrong(at, "page: listen: %s: want host:port, such as :8080 for everybody or 127.0.0.1:8080 for this machine alone", quoted(c.Listen))
	}
}

func (d *draft) token(at place, c *Page) {
	if len(c.Token) < leastToken {
		d.wrong(at, "page: token: it is too short to be a secret; want at least %d characters", leastToken)
	}
}

// syslog reads where logs go: udp://host:514, tcp:// or tls://, or, as the original has it, a host with a @ before
// it for TCP.
func (d *draft) syslog(at place, s, ca string) {
	if !strings.Contains(s, "://") {
		scheme := "udp://"
		if rest, tcp := strings.CutPrefix(s, "@"); tcp {
			scheme, s = "tcp://", rest
		}
		s = scheme + s
	}
	u, err := address(s, "udp", "tcp", "tls")
	if err != nil {
		d.wrong(at, "syslog: %v", err)
		return
	}
	if ca != "" && u.Scheme != "tls" {
		d.wrong(at, "syslog: ca is of use only with tls://")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"udp": "514", "tcp": "514", "tls": "6514"}[u.Scheme]
	}
	d.Syslog = &Syslog{Network: u.Scheme, Address: net.JoinHostPort(u.Hostname(), port), CA: ca}
}
