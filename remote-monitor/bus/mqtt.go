package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

// MQTT is a Broker over MQTT 5. The topics below <Prefix>/<Site.ID>:
//
//	status               online or offline, retained, also as the last will
//	input/<zone>/state   JSON, retained: motion, alarm, tamper and problem as ON or OFF, volts, percent, state, detail, time
//	output/<output>/state, group/<group>/state   JSON, retained
//	event                Event as JSON, at least once and in order, also those that happened while the broker was away
//	heartbeat            JSON: time, version, waiting, dropped
//	output/<output>/set, group/<group>/set       commands, see readWish; never retained
//	output/<output>/ack, group/<group>/ack       Ack as JSON; also to the response topic of a command that has one
//
// Home Assistant finds the site by itself. The session is clean: commands that were sent while there was no connection
// do not arrive, because they would be late.
//
// The exported fields are set before the first call of a method and not changed after it.
type MQTT struct {
	URL            string // mqtt://, mqtts://, ws:// or wss://; a user and password in it count if User is empty
	User, Password string
	ClientID       string      // empty: rm-<Site.ID>; unique at the broker
	TLS            *tls.Config // of mqtts and wss; nil: the system's authorities

	Prefix     string        // of topics; empty: rm
	Discovery  string        // Home Assistant's prefix; empty: homeassistant; "-": none
	Components bool          // one discovery message a component, for Home Assistant before 2024.11
	Expire     time.Duration // without a state for so long an entity becomes unavailable; 0: never

	Outbox    *Outbox // nil: in memory
	Site      Site
	OnCommand func(Command) // called for each command that can be understood; must return at once
	Log       *slog.Logger  // nil: nothing is logged

	once     sync.Once
	base     string // of topics
	box      *Outbox
	standing standing
	work     bell // something is to be sent
	acks     answers[outgoing]
	seen     chan outgoing        // retained discovery messages and Home Assistant's birth, as they arrive
	links    chan context.Context // connections that came up; each ends with its connection
	jitter   func() time.Duration // before the site is announced again
	hold     time.Duration        // before what was refused is tried again
	cells    []*cell              // in the order of the site
	byID     map[string]*cell     // "input/…", "output/…" and "group/…"
	groups   map[string]string    // group by what topics call it

	mu   sync.Mutex // guards what the cells say, and
	beat time.Time  // a heartbeat that is to be sent
}

// cell is one retained topic and the latest that is to be said on it.
type cell struct {
	topic string
	state any // a ZoneState, OutputState or GroupState; nil: not known yet
	dirty bool
}

// outgoing is a message.
type outgoing struct {
	topic       string
	payload     []byte
	retain      bool
	correlation []byte
}

var _ Broker = (*MQTT)(nil)

// The words of availability.
const (
	online  = "online"
	offline = "offline"
)

// prepare makes what the methods need out of the settings.
func (m *MQTT) prepare() {
	m.once.Do(func() {
		if m.Log == nil {
			m.Log = slog.New(slog.DiscardHandler)
		}
		if m.Prefix == "" {
			m.Prefix = "rm"
		}
		if m.Discovery == "" {
			m.Discovery = "homeassistant"
		}
		if m.ClientID == "" {
			m.ClientID = "rm-" + m.Site.ID
		}
		if m.box = m.Outbox; m.box == nil {
			m.box = inMemory()
		}
		if m.jitter == nil {
			m.jitter = haJitter
		}
		if m.hold == 0 {
			m.hold = refusedHold
		}
		m.base = m.Prefix + "/" + m.Site.ID
		m.standing = standing{name: "mqtt", log: m.Log, trouble: "not started"}
		m.work = make(bell, 1)
		m.seen = make(chan outgoing, 512)
		m.links = make(chan context.Context, 1)
		m.byID = map[string]*cell{}
		m.groups = map[string]string{}
		for _, z := range m.Site.Zones {
			m.cell("input/" + z.ID)
		}
		for _, o := range m.Site.Outputs {
			m.cell("output/" + o.ID)
		}
		for _, g := range m.Site.Groups {
			id := topicID(g)
			m.groups[id] = g
			m.cell("group/" + id)
		}
	})
}

func (m *MQTT) cell(id string) {
	c := &cell{topic: m.base + "/" + id + "/state"}
	m.byID[id] = c
	m.cells = append(m.cells, c)
}

// topicID is the name of a group as topics bear it: a name that they bear is kept.
func topicID(name string) string {
	if plain.MatchString(name) {
		return name
	}
	return strings.Map(func(r rune) rune {
		if r < 128 && plain.MatchString(string(r)) {
			return r
		}
		return '_'
	}, name)
}

// Zone implements Broker. A measured value that changes alone is told when it moved by a point, at most every
// ten seconds.
func (m *MQTT) Zone(id string, s ZoneState) {
	set(m, "input/", id, s, func(old ZoneState) bool {
		if s.State != old.State || s.Motion != old.Motion || s.Alarm != old.Alarm || s.Tamper != old.Tamper || s.Problem != old.Problem {
			return true
		}
		return s.Time.Sub(old.Time).Abs() >= 10*time.Second && (math.Abs(s.Percent-old.Percent) >= 1 || s.Detail != old.Detail)
	})
}

// Output implements Broker.
func (m *MQTT) Output(id string, s OutputState) {
	set(m, "output/", id, s, func(old OutputState) bool { return s.On != old.On || s.Problem != old.Problem })
}

// Group implements Broker.
func (m *MQTT) Group(id string, s GroupState) {
	set(m, "group/", topicID(id), s, func(old GroupState) bool { return s.State != old.State })
}

// set notes what is to be said of a thing, unless it is no news. It is called at each scan and so takes no memory then.
func set[T any](m *MQTT, kind, id string, s T, news func(old T) bool) {
	m.prepare()
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.byID[kind+id]
	if c == nil {
		return
	}
	if old, ok := c.state.(T); ok && !news(old) {
		return
	}
	c.state, c.dirty = s, true
	m.work.ring()
}

// Event implements Broker.
func (m *MQTT) Event(e Event) {
	m.prepare()
	m.box.Put(encode(sayable(e)))
}

// Heartbeat implements Broker. With Expire set it also says all states again.
func (m *MQTT) Heartbeat(now time.Time) {
	m.prepare()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beat = now
	if m.Expire > 0 {
		m.stale()
	}
	m.work.ring()
}

// stale has all states said again. The caller holds mu.
func (m *MQTT) stale() {
	for _, c := range m.cells {
		c.dirty = c.state != nil
	}
}

// Health implements Broker.
func (m *MQTT) Health() Health {
	m.prepare()
	return m.standing.health(m.box)
}

// check says what of the settings can never work, and gives the broker's address.
func (m *MQTT) check() (*url.URL, error) {
	u, err := url.Parse(m.URL)
	if err != nil {
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err // the whole would show the password
		}
		return nil, fmt.Errorf("cannot reach an MQTT broker: its URL makes no sense: %w", err)
	}
	port := map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}[u.Scheme]
	if port == "" || u.Hostname() == "" {
		return nil, errors.New("cannot reach an MQTT broker: its URL has to be mqtt://host:port, mqtts://, ws:// or wss://")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	if u.User != nil && m.User == "" {
		m.User = u.User.Username()
		m.Password, _ = u.User.Password()
	}
	u.User = nil // it would be in messages of errors
	if strings.ContainsAny(m.Prefix, "#+\x00") || strings.HasPrefix(m.Prefix, "$") || strings.HasPrefix(m.Prefix, "/") || strings.HasSuffix(m.Prefix, "/") {
		return nil, fmt.Errorf("cannot use %q as a prefix of topics: # and + and $ mean something else, and / separates", m.Prefix)
	}
	ids := []string{m.Site.ID}
	for _, z := range m.Site.Zones {
		ids = append(ids, z.ID)
	}
	for _, o := range m.Site.Outputs {
		ids = append(ids, o.ID)
	}
	for _, id := range ids {
		if !plain.MatchString(id) {
			return nil, fmt.Errorf("cannot use %q in topics: an id has letters, digits, _ and -", id)
		}
	}
	return u, nil
}

// Run implements Broker.
func (m *MQTT) Run(ctx context.Context) error {
	m.prepare()
	u, err := m.check()
	if err != nil {
		m.standing.down(time.Now(), err.Error())
		return err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	keeper.Go(func() { keep(life, m.box, m.work, m.Log) })
	defer keeper.Wait()
	defer end()
	conn, err := autopaho.NewConnection(life, m.dialling(life, u))
	if err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			end()
			<-conn.Done()
			m.standing.stopped(time.Now())
			return nil
		case link := <-m.links:
			m.session(ctx, link, conn)
		}
	}
}

// dialling is what autopaho has to know.
func (m *MQTT) dialling(life context.Context, u *url.URL) autopaho.ClientConfig {
	// The functions below are called by one goroutine of autopaho, which they have to themselves; only the last two
	// are not.
	var since time.Time // when the last connection came up
	var short int       // connections in a row that did not stand long
	cut := func() {}
	return autopaho.ClientConfig{
		ServerUrls:      []*url.URL{u},
		TlsCfg:          m.TLS,
		KeepAlive:       30,
		ConnectTimeout:  patience,
		ConnectUsername: m.User,
		ConnectPassword: []byte(m.Password),
		WillMessage:     &paho.WillMessage{Topic: m.base + "/status", Payload: []byte(offline), QoS: 1, Retain: true},
		WillProperties:  &paho.WillProperties{},
		ConnectPacketBuilder: func(c *paho.Connect, _ *url.URL) (*paho.Connect, error) {
			inFlight, size := uint16(32), m.largest()
			c.CleanStart = true
			c.Properties = &paho.ConnectProperties{ReceiveMaximum: &inFlight, MaximumPacketSize: &size, RequestProblemInfo: true}
			return c, nil
		},
		// Leaving is an end like any other: the broker tells it by the will.
		DisconnectPacketBuilder: func() *paho.Disconnect { return &paho.Disconnect{ReasonCode: 0x04} },
		ReconnectBackoff: func(attempt int) time.Duration {
			if attempt == 0 && !since.IsZero() {
				if short++; time.Since(since) >= stoodLong {
					short = 0
				}
			}
			return pause(max(attempt, short))
		},
		OnConnectionUp: func(*autopaho.ConnectionManager, *paho.Connack) {
			since = time.Now()
			var link context.Context
			link, cut = context.WithCancel(life)
			select {
			case <-m.links: // one that ended before anybody looked at it
			default:
			}
			m.links <- link
		},
		OnConnectionDown: func() bool {
			cut()
			if life.Err() == nil {
				m.standing.down(time.Now(), "the connection was lost")
			}
			return true
		},
		OnConnectError: func(err error) {
			if life.Err() == nil {
				m.standing.down(time.Now(), err.Error())
			}
		},
		ClientConfig: paho.ClientConfig{
			ClientID:      m.ClientID,
			PacketTimeout: patience,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){
				func(r paho.PublishReceived) (bool, error) { m.received(r.Packet); return true, nil },
			},
			OnServerDisconnect: func(d *paho.Disconnect) {
				why := fmt.Sprintf("reason 0x%02x", d.ReasonCode)
				if d.ReasonCode == 0x8e {
					why = fmt.Sprintf("another client calls itself %s, too; give one of them another client id", m.ClientID)
				}
				m.Log.Warn("broker ended the connection", "broker", "mqtt", "err", why)
			},
		},
	}
}
