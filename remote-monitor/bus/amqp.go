package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// usualLate is the age from which the original's event processor tells nobody of a message.
const usualLate = 2 * time.Minute

// AMQP is a Broker over AMQP 0-9-1 that speaks as the original did: the same exchanges, none of them durable, the same
// routing keys, bodies in MessagePack with the same fields. It can take the original's place beside its event
// processor. Fields that the original had not are added where consumers pass over them.
//
// Told is what the original told: an alarm and a tamper as state "triggered", and beyond that a fault as "fault" and
// the end of each as "OK". Everything else that is an Event, and an alarm nobody is to be notified of, is not for
// these consumers.
//
// The exported fields are set before the first call of a method and not changed after it.
type AMQP struct {
	URL        string      // amqp:// or amqps://, user and password included
	Exchange   string      // of events; commands come from <Exchange>_control; empty: home_automation
	Topic      string      // of the routing keys; empty: ioboard
	DeviceName string      // the last word of the routing keys; empty: Site.Name
	TLS        *tls.Config // of amqps; nil: the system's authorities

	// Level marks an input triggered in every message while it alarms. Otherwise only the message that tells of its
	// alarm does, because the event processor counts each such message as one more detection.
	Level bool

	// Late is the age from which an alarm that waited in the outbox is told as state "late" instead of "triggered",
	// so that a broker that comes back does not set off the siren for what happened long ago. One that is not over yet
	// is told as it is, however long it waited. 0: two minutes; less: never.
	Late time.Duration

	Outbox    *Outbox // nil: in memory
	Site      Site
	OnCommand func(Command) // called for each command for an output of the site; must return at once
	Log       *slog.Logger  // nil: nothing is logged

	once     sync.Once
	box      *Outbox
	standing standing
	work     bell // something is to be sent
	acks     answers[reply]

	mu    sync.Mutex
	zones map[string]ZoneState // as they stand
	begun map[string]string    // alarms and tampers that were told and are not over: the event's ID by zone
	beat  bool                 // a heartbeat is wanted now
}

// reply is an acknowledgement on its way to who asked.
type reply struct {
	to, correlation string
	ack             Ack

	traceparent, baggage string // of the command
}

// stored is what waits in the outbox: an event, and with Level the zones that alarmed when it happened.
type stored struct {
	Event
	Standing []stands `json:"standing,omitempty"`
}

// stands is a zone that alarms.
type stands struct {
	Zone   string   `json:"zone"`
	Value  *float64 `json:"value,omitempty"`
	Tamper bool     `json:"tamper,omitempty"`
}

var _ Broker = (*AMQP)(nil)

func (a *AMQP) prepare() {
	a.once.Do(func() {
		if a.Log == nil {
			a.Log = slog.New(slog.DiscardHandler)
		}
		if a.Exchange == "" {
			a.Exchange = "home_automation"
		}
		if a.Topic == "" {
			a.Topic = "ioboard"
		}
		if a.DeviceName == "" {
			a.DeviceName = a.Site.Name
		}
		if a.Late == 0 {
			a.Late = usualLate
		}
		if a.box = a.Outbox; a.box == nil {
			a.box = inMemory()
		}
		a.standing = standing{name: "amqp", log: a.Log, trouble: "not started"}
		a.work = make(bell, 1)
		a.zones, a.begun = map[string]ZoneState{}, map[string]string{}
	})
}

// Zone implements Broker. It is told only with events.
func (a *AMQP) Zone(id string, s ZoneState) {
	a.prepare()
	if !a.Level {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.Alarm || s.Tamper {
		a.zones[id] = s
	} else {
		delete(a.zones, id)
	}
}

// Output implements Broker. The original's consumers have no place for it.
func (a *AMQP) Output(string, OutputState) {}

// Group implements Broker. The original's consumers have no place for it.
func (a *AMQP) Group(string, GroupState) {}

// Event implements Broker.
func (a *AMQP) Event(e Event) {
	a.prepare()
	a.mu.Lock()
	_, begun := a.begun[e.Zone]
	if !told(e, begun) {
		a.mu.Unlock()
		return
	}
	s := stored{Event: sayable(e)}
	if delete(a.begun, e.Zone); stateOf(e.Kind) == triggered {
		a.begun[e.Zone] = e.ID
	}
	if a.Level {
		for _, z := range a.Site.Zones {
			if is, ok := a.zones[z.ID]; ok && z.ID != e.Zone {
				s.Standing = append(s.Standing, stands{z.ID, finite(&is.Percent), is.Tamper})
			}
		}
	}
	a.mu.Unlock()
	a.box.Put(encode(s))
}

// told says whether the original's consumers hear of an event; begun: they were told of an alarm of this zone, and not
// that it is over. Then they hear that it is, also where nobody else is to be notified: they would keep its escalation.
func told(e Event, begun bool) bool {
	switch {
	case e.Zone == "":
		return false
	case e.Kind == "restore":
		return begun || !e.Quiet && e.From != "pre_alarm"
	}
	return !e.Quiet && (e.Kind == "alarm" || e.Kind == "tamper" || e.Kind == "fault")
}

// stillStands tells an alarm or tamper that is not over.
func (a *AMQP) stillStands(e Event) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, ok := a.begun[e.Zone]
	return ok && id == e.ID
}

// Heartbeat implements Broker. Heartbeats go out by themselves as often as the original's; this asks for one more.
func (a *AMQP) Heartbeat(time.Time) {
	a.prepare()
	a.mu.Lock()
	a.beat = true
	a.mu.Unlock()
	a.work.ring()
}

// Health implements Broker.
func (a *AMQP) Health() Health {
	a.prepare()
	return a.standing.health(a.box)
}

// check says what of the settings can never work.
func (a *AMQP) check() error {
	if _, err := amqp.ParseURI(a.URL); err != nil {
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err // the whole would show the password
		}
		return fmt.Errorf("cannot reach RabbitMQ: its URL has to be amqp://user:password@host:port/vhost or amqps://: %w", err)
	}
	for _, key := range []string{a.key("heartbeat"), a.commandKey(), a.control()} {
		if len(key) > 255 {
			return fmt.Errorf("cannot use the routing key %.40q…: it is longer than 255 bytes", key)
		}
	}
	return nil
}

func (a *AMQP) key(kind string) string { return "event." + kind + "." + a.Topic + "." + a.DeviceName }
func (a *AMQP) commandKey() string     { return "event.trigger." + a.Topic }
func (a *AMQP) control() string        { return a.Exchange + "_control" }

// Run implements Broker.
func (a *AMQP) Run(ctx context.Context) error {
	a.prepare()
	if err := a.check(); err != nil {
		a.standing.down(time.Now(), err.Error())
		return err
	}
	for _, z := range a.Site.Zones {
		if !detector(z.Type) {
			a.Log.Warn("the original's event processor passes over this input, because its type does not end in Detector", "zone", z.Name, "type", z.Type)
		}
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	keeper.Go(func() { keep(life, a.box, a.work, a.Log) })
	defer keeper.Wait()
	defer end()
	for failures := 0; ; {
		stood, err := a.connect(ctx)
		if ctx.Err() != nil {
			a.standing.stopped(time.Now())
			return nil
		}
		a.standing.down(time.Now(), err.Error())
		if failures++; stood >= stoodLong {
			failures = 1
		}
		select {
		case <-ctx.Done():
			a.standing.stopped(time.Now())
			return nil
		case <-time.After(pause(failures)):
		}
	}
}

// detector says whether the event processor takes a type of input for one that can trigger.
func detector(kind string) bool { return strings.HasSuffix(strings.ToLower(kind), "detector") }

// connect serves one connection until it ends or ctx does, and gives how long it stood.
func (a *AMQP) connect(ctx context.Context) (stood time.Duration, err error) {
	live, ended := living(ctx, context.WithoutCancel(ctx))
	defer ended()
	properties := amqp.NewConnectionProperties()
	properties["product"], properties["version"] = "remote-monitor", a.Site.Version
	properties.SetClientConnectionName(a.DeviceName)
	conn, err := amqp.DialConfig(a.URL, amqp.Config{
		Heartbeat:       10 * time.Second,
		TLSClientConfig: a.TLS.Clone(), // the library writes into it
		Properties:      properties,
		Dial: func(network, addr string) (net.Conn, error) {
			d := net.Dialer{Timeout: patience}
			c, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(live, func() { c.SetDeadline(time.Now().Add(farewell)) }) // for the greeting, too
			return c, c.SetDeadline(time.Now().Add(patience))                           // the library takes it back when the greeting is over
		},
	})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	s := &amqpSession{AMQP: a, conn: conn}
	err = s.run(ctx, live)
	conn.CloseDeadline(time.Now().Add(farewell)) // whatever it says, the connection is closed
	s.consumer.Wait()
	return time.Since(began), err
}
