package bus

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// triggered is the state that the event processor acts on. Any other ends what it began.
const triggered = "triggered"

// stateOf is how an event is told to the original's consumers.
func stateOf(kind string) string {
	switch kind {
	case "alarm", "tamper":
		return triggered
	case "restore":
		return "OK"
	}
	return kind
}

// pack makes the body of a message: of an event whose zone is in state, or of a heartbeat if is is nil. All inputs and
// outputs are listed, and only inputs that have something to tell have a state.
func (a *AMQP) pack(at time.Time, is *stored, state string) []byte {
	body := []field{{"timestamp", at.UTC().Format("2006-01-02T15:04:05Z")}, {"inputs", a.inputs(is, state)}, {"outputs", a.outputs()}}
	if is != nil {
		body = append(body, field{"event_id", is.ID}, field{"event", is.Kind}, field{"event_time", is.Time.UTC().Format("2006-01-02T15:04:05.000Z")})
		if is.Replayed {
			body = append(body, field{"replayed", true})
		}
	}
	p := newPacker()
	p.fields(body...)
	return p.buf.Bytes()
}

// inputs lists the zones. Those of a type that the event processor stumbles over come last, because it passes over
// all that follow such a one.
func (a *AMQP) inputs(is *stored, state string) [][]field {
	list := make([][]field, 0, len(a.Site.Zones))
	for _, usable := range []bool{true, false} {
		for _, z := range a.Site.Zones {
			if detector(z.Type) == usable {
				list = append(list, input(z, is, state))
			}
		}
	}
	return list
}

func input(z Zone, is *stored, state string) []field {
	label := z.Label
	if label == "" {
		label = z.Name + " " + z.Type
	}
	key := z.Key
	if key == "" {
		key = label + " (" + z.Location + ")"
	}
	f := []field{{"name", z.Name}, {"type", z.Type}, {"location", z.Location}, {"device_key", key}, {"device_label", label}}
	if is == nil {
		return f
	}
	tell := func(value *float64, state string, detail any) []field {
		if v, ok := whole(value); ok {
			f = append(f, field{"sample_value", v})
		}
		return append(f, field{"state", state}, field{"event_detail", detail})
	}
	tamper := z.Tamper
	if tamper == "" {
		tamper = "tamper"
	}
	if z.ID == is.Zone {
		var detail any
		switch is.Kind {
		case "tamper":
			detail = tamper
		case "fault":
			detail = "fault: " + is.Reason
		}
		return tell(is.Percent, state, detail)
	}
	for _, s := range is.Standing {
		if s.Zone == z.ID {
			var detail any
			if s.Tamper {
				detail = tamper
			}
			level := triggered
			if state == "late" {
				level = state
			}
			return tell(s.Value, level, detail)
		}
	}
	return f
}

// whole is a value in percent as the original sends it.
func whole(v *float64) (int64, bool) {
	if v == nil || math.IsNaN(*v) || math.Abs(*v) > 1e6 {
		return 0, false
	}
	return int64(*v), true
}

func (a *AMQP) outputs() [][]field {
	list := make([][]field, 0, len(a.Site.Outputs))
	for _, o := range a.Site.Outputs {
		list = append(list, []field{{"type", o.Type}, {"location", o.Location}, {"device_key", outputKey(o)}})
	}
	return list
}

func outputKey(o Output) string {
	if o.Key != "" {
		return o.Key
	}
	return o.Location + " " + o.Type
}

// packAck makes the body of an answer, with the names that Ack has in JSON, and the trace that the command was part of
// under the names that the event processor reads.
func packAck(r reply) []byte {
	a, p := r.ack, newPacker()
	all := []field{{"id", a.ID}, {"output", a.Output}, {"status", a.Status}, {"reason", a.Reason},
		{"on_seconds", a.Seconds}, {"read_back", a.ReadBack}, {"time", a.Time.UTC().Format(time.RFC3339Nano)}}
	for _, f := range []struct{ name, text string }{{"traceparent", r.traceparent}, {"baggage", r.baggage}} {
		if f.text != "" {
			all = append(all, field{f.name, f.text})
		}
	}
	p.fields(all...)
	return p.buf.Bytes()
}

// deliver takes one command. The broker is told that it arrived when it was understood, or that it need not be sent
// again when it was not.
func (a *AMQP) deliver(d amqp.Delivery) {
	c, err := a.command(d)
	if err != nil {
		a.Log.Warn("command refused", "key", d.RoutingKey, "err", err)
		if c.Output != "" {
			c.Answer(Ack{Status: "rejected", Reason: err.Error(), Time: time.Now()})
		}
		d.Reject(false) // fails only if the connection is gone, which ends the session
		return
	}
	if c.Output != "" {
		if a.OnCommand == nil {
			c.Answer(Ack{Status: "rejected", Reason: "commands are not taken here", Time: time.Now()})
		} else {
			a.OnCommand(c)
		}
	}
	d.Ack(false)
}

// command reads a delivery. Without an Output it is none of this site's business: all boards hear the same key. With
// an error and an Output it is for this site and cannot be followed.
func (a *AMQP) command(d amqp.Delivery) (c Command, err error) {
	o, err := readOrder(d.Body)
	if err != nil || o.key == "" {
		return c, err
	}
	for _, out := range a.Site.Outputs {
		if outputKey(out) == o.key {
			c.Output = out.ID
		}
	}
	if c.Output == "" {
		return c, nil
	}
	c.Action, c.Source, c.Who = "pulse", "amqp", d.RoutingKey
	if c.IssuedAt = moment(o.timestamp); c.IssuedAt.IsZero() && d.Timestamp.Unix() > 0 {
		c.IssuedAt = moment(float64(d.Timestamp.Unix()))
	}
	if ms, err := strconv.ParseUint(d.Expiration, 10, 32); err == nil {
		c.TTL = max(time.Duration(ms)*time.Millisecond, time.Nanosecond)
	}
	switch {
	case d.MessageId != "" && len(d.MessageId) <= longestID:
		c.ID = d.MessageId
	case !c.IssuedAt.IsZero():
		// The original gives no id. The same command for the same output at the same second is a repetition.
		c.ID = fmt.Sprintf("%s@%d", o.key, c.IssuedAt.Unix())
	}
	c.Answer = func(ack Ack) {
		if d.ReplyTo == "" {
			return
		}
		if ack.ID == "" {
			ack.ID = c.ID
		}
		if ack.Output == "" {
			ack.Output = c.Output
		}
		a.acks.put(reply{to: d.ReplyTo, correlation: d.CorrelationId, ack: ack, traceparent: o.traceparent, baggage: o.baggage})
		a.work.ring()
	}
	c.For, err = o.length()
	return c, err
}

// order is what of the original's command matters.
type order struct {
	timestamp float64
	key       string
	params    any // string, float64, or nil; anything else is none that could be followed

	traceparent, baggage string // W3C Trace Context, passed on as it is
}

// longestTrace bounds what is passed on.
const longestTrace = 1024

// length is how long the output is to be on; 0 is its own time.
func (o order) length() (time.Duration, error) {
	switch p := o.params.(type) {
	case nil:
		return 0, nil
	case float64:
		return seconds(p)
	case string:
		if p = strings.TrimSpace(p); p == "" {
			return 0, nil
		}
		v, err := strconv.ParseFloat(p, 64)
		if errors.Is(err, strconv.ErrRange) && v > 0 {
			return math.MaxInt64, nil
		}
		if err != nil {
			return 0, fmt.Errorf("device_params %.40q is no number of seconds", p)
		}
		return seconds(v)
	}
	return 0, errors.New("device_params is neither text nor a number")
}

var errNoOrder = errors.New("not a command: the body is no map in MessagePack")

// readOrder reads {"timestamp": …, "output_triggered": {"device_key": …, "device_params": …, …}, …}. An order without
// a key is a message of another kind.
func readOrder(body []byte) (o order, err error) {
	if len(body) > 64<<10 {
		return o, fmt.Errorf("not a command: %d bytes are too long", len(body))
	}
	u := unpacker{rest: body}
	err = u.fields(func(name string) error {
		switch name {
		case "timestamp":
			v, err := u.scalar()
			o.timestamp, _ = v.(float64)
			return err
		case "traceparent", "baggage":
			v, err := u.scalar()
			if text, ok := v.(string); ok && len(text) <= longestTrace {
				if name == "baggage" {
					o.baggage = text
				} else {
					o.traceparent = text
				}
			}
			return err
		case "output_triggered":
			if !u.atMap() {
				return u.skip()
			}
			return u.fields(func(name string) error {
				switch name {
				case "device_key":
					v, err := u.scalar()
					o.key, _ = v.(string)
					return err
				case "device_params":
					v, err := u.scalar()
					o.params = v
					return err
				}
				return u.skip()
			})
		}
		return u.skip()
	})
	if err != nil || len(u.rest) > 0 {
		return order{}, errNoOrder
	}
	return o, nil
}
