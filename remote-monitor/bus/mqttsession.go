package bus

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

// The times of a session.
const (
	recallGrace = 300 * time.Millisecond // for the broker to say what an earlier run announced
	recallMost  = 3 * time.Second        // however much it says
	refusedHold = 30 * time.Second       // before what the broker did not want is tried again
)

// session serves one connection until it ends or ctx does and what there was then is sent.
func (m *MQTT) session(ctx, link context.Context, conn *autopaho.ConnectionManager) {
	live, ended := living(ctx, link)
	defer ended()
	s := &mqttSession{MQTT: m, conn: conn}
	for len(m.seen) > 0 {
		<-m.seen // of an earlier connection
	}
	if !s.open(live) {
		return
	}
	for {
		s.send(ctx, live)
		select {
		case <-link.Done():
			return
		case <-ctx.Done():
			s.store()
			s.send(live, live)
			return
		case <-m.work:
		case <-s.retry:
			s.again()
		case old := <-m.seen:
			switch {
			case old.topic != m.Discovery+"/status":
				s.publishAll(live, s.takeBack(old))
			case string(old.payload) == online:
				s.announce = time.After(m.jitter())
			}
		case <-s.announce:
			s.announce = nil
			s.publishAll(live, m.announcement())
		}
	}
}

// mqttSession is one connection.
type mqttSession struct {
	*MQTT
	conn       *autopaho.ConnectionManager
	sent       uint64 // number of the last event that was sent
	behind     uint64 // events up to this number have waited
	complained bool
	lasting    string           // what will be refused as long as the connection stands
	refused    bool             // the broker did not take the last event
	failed     []*cell          // nor these
	retry      <-chan time.Time // when they are tried again; nil: nothing was refused
	taken      map[string]bool  // topics of announcements that were taken back
	announce   <-chan time.Time // when the site is announced again
}

// again tries what was refused once more.
func (s *mqttSession) again() {
	s.mu.Lock()
	for _, c := range s.failed {
		c.dirty = true
	}
	s.mu.Unlock()
	s.retry, s.failed, s.refused = nil, nil, false
}

func (s *mqttSession) store() {
	if err := s.box.Store(); err != nil {
		s.Log.Warn("outbox", "err", err)
	}
}

// open subscribes, announces the site, says how everything stands and that it is there.
func (s *mqttSession) open(live context.Context) bool {
	commands := []paho.SubscribeOptions{
		{Topic: s.base + "/output/+/set", QoS: 1, NoLocal: true, RetainAsPublished: true},
		{Topic: s.base + "/group/+/set", QoS: 1, NoLocal: true, RetainAsPublished: true},
	}
	if _, err := s.conn.Subscribe(live, &paho.Subscribe{Subscriptions: commands}); err != nil {
		s.lasting = "commands cannot be received: " + err.Error()
	}
	if s.Discovery != "-" {
		own := []paho.SubscribeOptions{
			{Topic: s.Discovery + "/status", QoS: 1, RetainHandling: 2},
			{Topic: s.Discovery + "/device/" + s.nodeID() + "/config", QoS: 1, NoLocal: true, RetainAsPublished: true},
			{Topic: s.Discovery + "/+/" + s.nodeID() + "/+/config", QoS: 1, NoLocal: true, RetainAsPublished: true},
		}
		if _, err := s.conn.Subscribe(live, &paho.Subscribe{Subscriptions: own}); err != nil {
			s.Log.Info("what was announced before cannot be read; entities that are gone stay in Home Assistant", "err", err)
		}
		s.publishAll(live, s.recall(live))
		s.publishAll(live, s.announcement())
	}
	s.mu.Lock()
	s.stale()
	s.mu.Unlock()
	s.sendStates(live)
	if err := s.publish(live, outgoing{topic: s.base + "/status", payload: []byte(online), retain: true}); err != nil && s.lasting == "" {
		s.lasting = "the broker does not take that the site is there: " + err.Error()
	}
	if live.Err() != nil {
		return false
	}
	s.store()
	s.behind = s.box.Newest()
	s.standing.up(time.Now())
	s.standing.complain(s.lasting)
	return true
}

// recall waits a moment for what an earlier run announced, and gives what takes back the parts that are no more.
func (s *mqttSession) recall(live context.Context) (out []outgoing) {
	grace, most := time.NewTimer(recallGrace), time.NewTimer(recallMost)
	defer grace.Stop()
	defer most.Stop()
	for {
		select {
		case <-live.Done():
			return out
		case <-grace.C:
			return out
		case <-most.C:
			return out
		case old := <-s.seen:
			if old.topic != s.Discovery+"/status" {
				out = append(out, s.takeBack(old)...)
				grace.Reset(recallGrace / 4) // they come in one go
			}
		}
	}
}

// takeBack gives what takes an earlier announcement back, once a connection for each topic. Who announces it again is
// another site that calls itself the same, and two that take each other back would never come to an end.
func (s *mqttSession) takeBack(old outgoing) []outgoing {
	out := s.retire(old)
	switch {
	case len(out) == 0 || len(s.taken) == mostComponents:
		return nil
	case s.taken[old.topic]:
		if s.lasting == "" {
			s.lasting = "another device announces itself to Home Assistant as " + s.nodeID() + "; give one of them another name"
			s.standing.complain(s.lasting)
		}
		return nil
	case s.taken == nil:
		s.taken = map[string]bool{}
	}
	s.taken[old.topic] = true
	return out
}

// send sends what there is, unless ctx ends in between: answers and states before events, so that those who look now
// see now.
func (s *mqttSession) send(ctx, live context.Context) {
	for ctx.Err() == nil && live.Err() == nil {
		for ack, ok := s.acks.next(); ok; ack, ok = s.acks.next() {
			s.complainOf(live, s.publish(live, ack))
		}
		s.sendStates(live)
		s.sendBeat(live)
		if s.refused || !s.sendEvent(live) {
			break
		}
	}
	if s.complained && s.retry == nil { // whatever was refused before is accepted
		s.complained = false
		s.standing.complain(s.lasting)
	}
}

// sendStates sends the states that changed.
func (s *mqttSession) sendStates(live context.Context) {
	for _, c := range s.cells {
		s.mu.Lock()
		state, dirty := c.state, c.dirty
		c.dirty = false
		s.mu.Unlock()
		if !dirty {
			continue
		}
		if err := s.publish(live, outgoing{topic: c.topic, payload: encode(said(state)), retain: true}); err != nil {
			s.complainOf(live, err)
			if !slices.Contains(s.failed, c) {
				s.failed = append(s.failed, c)
			}
			s.later()
		}
	}
}

// later has again called in a while.
func (s *mqttSession) later() {
	if s.retry == nil {
		s.retry = time.After(s.hold)
	}
}

func (s *mqttSession) sendBeat(live context.Context) {
	s.mu.Lock()
	beat := s.beat
	s.beat = time.Time{}
	s.mu.Unlock()
	if beat.IsZero() {
		return
	}
	s.complainOf(live, s.publish(live, outgoing{topic: s.base + "/heartbeat", payload: encode(struct {
		Time    time.Time `json:"time"`
		Version string    `json:"version"`
		Waiting int       `json:"waiting"`
		Dropped uint64    `json:"dropped"`
	}{utc(beat), s.Site.Version, s.box.Waiting(), s.box.Dropped()})}))
}

// sendEvent sends the oldest event that waits; false if there is none or it could not be sent.
func (s *mqttSession) sendEvent(live context.Context) bool {
	e, ok := s.box.Next(s.sent)
	if !ok {
		return false
	}
	payload := e.Data
	if e.Number <= s.behind {
		var event Event
		if err := json.Unmarshal(e.Data, &event); err == nil {
			event.Replayed = true
			payload = encode(event)
		}
	}
	err := s.publish(live, outgoing{topic: s.base + "/event", payload: payload})
	if err != nil {
		s.complainOf(live, err)
		s.refused = true
		s.later()
		s.behind = max(s.behind, e.Number)
		return false
	}
	s.sent = e.Number
	s.box.Done(e.Number)
	return true
}

func (s *mqttSession) publishAll(live context.Context, all []outgoing) {
	for _, o := range all {
		s.complainOf(live, s.publish(live, o))
	}
}

// publish sends a message and waits until the broker has it.
func (s *mqttSession) publish(live context.Context, o outgoing) error {
	_, err := s.conn.Publish(live, &paho.Publish{
		Topic: o.topic, QoS: 1, Retain: o.retain, Payload: o.payload,
		Properties: &paho.PublishProperties{CorrelationData: o.correlation},
	})
	return err
}

// complainOf notes that a broker did not take a message although it is there.
func (s *mqttSession) complainOf(live context.Context, err error) {
	if err != nil && live.Err() == nil && !errors.Is(err, autopaho.ConnectionDownError) {
		s.complained = true
		s.standing.complain(err.Error())
	}
}

// said is a state as it is told. Measured values that are none are left out.
func said(state any) any {
	word := func(on bool) string {
		if on {
			return "ON"
		}
		return "OFF"
	}
	round := func(v, to float64) *float64 {
		v = math.Round(v*to) / to
		return finite(&v)
	}
	switch s := state.(type) {
	case ZoneState:
		return struct {
			Motion  string    `json:"motion"`
			Alarm   string    `json:"alarm"`
			Tamper  string    `json:"tamper"`
			Problem string    `json:"problem"`
			Volts   *float64  `json:"volts"`
			Percent *float64  `json:"percent"`
			State   string    `json:"state"`
			Detail  string    `json:"detail"`
			Time    time.Time `json:"time"`
		}{word(s.Motion), word(s.Alarm), word(s.Tamper), word(s.Problem), round(s.Volts, 1000), round(s.Percent, 10), s.State, s.Detail, utc(s.Time)}
	case OutputState:
		return struct {
			State   string    `json:"state"`
			Problem string    `json:"problem"`
			Detail  string    `json:"detail"`
			Time    time.Time `json:"time"`
		}{word(s.On), word(s.Problem != ""), s.Problem, utc(s.Time)}
	case GroupState:
		// The words of Home Assistant's alarm panels.
		panel, ok := map[string]string{"exit": "arming", "armed": "armed_away", "entry": "pending", "alarm": "triggered"}[s.State]
		if !ok {
			panel = "disarmed"
		}
		return struct {
			State string    `json:"state"`
			Group string    `json:"group_state"`
			By    string    `json:"by,omitempty"`
			Time  time.Time `json:"time"`
		}{panel, s.State, s.By, utc(s.Time)}
	}
	return state
}

// received is called by autopaho for each message, one after the other.
func (m *MQTT) received(p *paho.Publish) {
	if rest, ok := strings.CutPrefix(p.Topic, m.base+"/"); ok {
		m.command(rest, p)
		return
	}
	select {
	case m.seen <- outgoing{topic: p.Topic, payload: p.Payload, retain: p.Retain}:
	default: // more than an earlier run can have announced
	}
}
