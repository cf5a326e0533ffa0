package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The measures of a session; the first is the original's.
const (
	heartbeatEvery = 5 * time.Second // without another message
	sendWindow     = 32              // events on their way without a confirmation
	prefetch       = 10              // commands on their way without an acknowledgement
)

// amqpSession is one connection.
type amqpSession struct {
	*AMQP
	conn     *amqp.Connection
	out      *amqp.Channel // for what is sent, with confirmations
	consumer sync.WaitGroup
	sent     uint64 // number of the last event that was sent
	behind   uint64 // events up to this number have waited
	last     time.Time
}

// run declares what the original declares, takes commands and sends until the connection ends or ctx does.
func (s *amqpSession) run(ctx, live context.Context) error {
	ended := s.conn.NotifyClose(make(chan *amqp.Error, 1))
	deliveries, err := s.declare()
	if err != nil {
		return err
	}
	gone := s.out.NotifyClose(make(chan *amqp.Error, 1))
	lost := make(chan struct{})
	s.consumer.Go(func() {
		defer close(lost)
		for d := range deliveries {
			s.deliver(d)
		}
	})
	s.store()
	s.behind = s.box.Newest()
	err = s.serve(ctx, live, lost)
	// Of several errors that a lost connection makes, the broker's own words say most.
	for _, c := range []chan *amqp.Error{gone, ended} {
		select {
		case why := <-c:
			if why != nil {
				err = why
			}
		default:
		}
	}
	return err
}

// serve sends until that fails, commands can no longer arrive, or ctx ends and what there was then is sent.
func (s *amqpSession) serve(ctx, live context.Context, lost <-chan struct{}) error {
	if err := s.heartbeat(live); err != nil { // the first is due at once
		return err
	}
	s.standing.up(time.Now())
	idle := time.NewTimer(heartbeatEvery)
	defer idle.Stop()
	for {
		if err := s.send(ctx, live); err != nil {
			return err
		}
		idle.Reset(time.Until(s.last.Add(heartbeatEvery)))
		select {
		case <-ctx.Done():
			s.store()
			return s.send(live, live)
		case <-lost: // the connection, its channel or the queue is gone
			return errors.New("commands can no longer be received")
		case <-s.work:
		case <-idle.C:
			if err := s.heartbeat(live); err != nil {
				return err
			}
		}
	}
}

func (s *amqpSession) store() {
	if err := s.box.Store(); err != nil {
		s.Log.Warn("outbox", "err", err)
	}
}

// declare makes the exchanges and the queue that the original makes and begins to consume.
func (s *amqpSession) declare() (<-chan amqp.Delivery, error) {
	var err error
	if s.out, err = s.conn.Channel(); err != nil {
		return nil, err
	}
	if err := s.out.Confirm(false); err != nil {
		return nil, err
	}
	for name, kind := range map[string]string{s.Exchange: amqp.ExchangeTopic, s.control(): amqp.ExchangeDirect} {
		if err := s.out.ExchangeDeclare(name, kind, false, false, false, false, nil); err != nil {
			if e := (*amqp.Error)(nil); errors.As(err, &e) && e.Code == amqp.PreconditionFailed {
				return nil, fmt.Errorf("the broker has an exchange %s of another kind than the original's (%s, not durable); delete it or choose another name: %w", name, kind, err)
			}
			return nil, err
		}
	}
	in, err := s.conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := in.Qos(prefetch, 0, false); err != nil {
		return nil, err
	}
	q, err := in.QueueDeclare("", false, false, true, false, nil)
	if err != nil {
		return nil, err
	}
	if err := in.QueueBind(q.Name, s.commandKey(), s.control(), false, nil); err != nil {
		return nil, err
	}
	return in.Consume(q.Name, "", false, false, false, false, nil)
}

// send sends what there is, unless ctx ends in between, and waits until the broker has it.
func (s *amqpSession) send(ctx, live context.Context) error {
	for r, ok := s.acks.next(); ok; r, ok = s.acks.next() {
		// A queue for answers that is gone takes nothing; the broker confirms that, too.
		if err := s.publish(live, "", r.to, amqp.Publishing{CorrelationId: r.correlation, Timestamp: r.ack.Time, Body: packAck(r)}); err != nil {
			return err
		}
	}
	s.mu.Lock()
	beat := s.beat
	s.beat = false
	s.mu.Unlock()
	if beat {
		if err := s.heartbeat(live); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		if more, err := s.sendEvents(live); err != nil || !more {
			return err
		}
	}
	return nil
}

// heartbeat sends a sign of life. It is never stored.
func (s *amqpSession) heartbeat(live context.Context) error {
	now := time.Now()
	s.last = now
	return s.publish(live, s.Exchange, s.key("heartbeat"), amqp.Publishing{
		MessageId: fmt.Sprintf("%s-heartbeat-%d", s.Site.ID, now.UnixMilli()), Timestamp: now, Body: s.pack(now, nil, "")})
}

// sendEvents sends the oldest events that wait, not more than a window of them, and takes those out of the outbox that
// the broker has confirmed.
func (s *amqpSession) sendEvents(live context.Context) (more bool, err error) {
	type flight struct {
		number  uint64
		confirm *amqp.DeferredConfirmation
	}
	var flights []flight
	for len(flights) < sendWindow {
		e, ok := s.box.Next(s.sent)
		if !ok {
			break
		}
		s.sent = e.Number
		f := flight{number: e.Number}
		var is stored
		if err := json.Unmarshal(e.Data, &is); err == nil {
			is.Replayed = e.Number <= s.behind
			if f.confirm, err = s.publishing(live, s.Exchange, s.key("notify"), s.message(&is)); err != nil {
				return false, err
			}
			s.last = time.Now()
		} // otherwise another program wrote it, and it is only taken out
		flights = append(flights, f)
	}
	for _, f := range flights {
		if f.confirm != nil {
			if err := s.confirmed(live, f.confirm); err != nil {
				return false, err
			}
		}
		s.box.Done(f.number)
	}
	return len(flights) == sendWindow, nil
}

// message is an event as it is sent.
func (s *amqpSession) message(is *stored) amqp.Publishing {
	state := stateOf(is.Kind)
	if state == triggered && is.Replayed && s.Late > 0 && time.Since(is.Time) > s.Late && !s.stillStands(is.Event) {
		state = "late"
	}
	p := amqp.Publishing{MessageId: is.ID[:min(len(is.ID), 255)], Timestamp: is.Time, Body: s.pack(is.Time, is, state)}
	if is.Replayed {
		p.Headers = amqp.Table{"replayed": true}
	}
	return p
}

// publish sends a message and waits until the broker has it.
func (s *amqpSession) publish(live context.Context, exchange, key string, p amqp.Publishing) error {
	c, err := s.publishing(live, exchange, key, p)
	if err != nil {
		return err
	}
	return s.confirmed(live, c)
}

func (s *amqpSession) publishing(live context.Context, exchange, key string, p amqp.Publishing) (*amqp.DeferredConfirmation, error) {
	p.AppId, p.ContentType = "remote-monitor", "application/x-msgpack"
	return s.out.PublishWithDeferredConfirmWithContext(live, exchange, key, false, false, p)
}

// confirmed waits until the broker has a message.
func (s *amqpSession) confirmed(live context.Context, c *amqp.DeferredConfirmation) error {
	wait, stop := context.WithTimeout(live, patience)
	defer stop()
	switch ok, err := c.WaitContext(wait); {
	case err != nil && live.Err() == nil:
		return fmt.Errorf("the broker did not confirm a message within %v", patience)
	case err != nil:
		return err
	case !ok:
		return errors.New("the broker did not take a message, or the connection was lost")
	}
	return nil
}
