package monitor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// The bounds of commands from outside.
const (
	waitingCommands = 64             // for the loop
	openCommands    = 1024           // accepted, and their end not told yet
	rememberFor     = 24 * time.Hour // a command for a group is known by its id
	rememberMost    = 4096
	longestWord     = 128             // an id
	skew            = 5 * time.Minute // a sender's clock may be ahead by so much
	walkFor         = 10 * time.Minute
	walkLongest     = time.Hour
)

// What a command for a group, or for the whole site, may want besides relay.Action.
const (
	Arm      = "arm"
	ArmForce = "arm_force" // although a zone is not normal
	Disarm   = "disarm"
	Walk     = "walk"     // a walk test of the site, for Command.For; it has no output and no group
	WalkEnd  = "walk_end" // and its end
)

// received is a command and when it came.
type received struct {
	bus.Command
	at time.Time
}

// Command passes a wish to the loop and returns at once. When too many wait already, or the loop has ended, it is
// rejected on the spot.
func (m *Monitor) Command(c bus.Command) {
	m.init()
	if c.Answer == nil {
		c.Answer = func(bus.Ack) {}
	}
	m.mu.Lock()
	full := true
	if !m.seen.ended {
		select {
		case m.commands <- received{c, time.Now()}:
			full = false
		default:
		}
	}
	ended := m.seen.ended
	m.mu.Unlock()
	switch {
	case ended:
		c.Answer(rejected(c, time.Now(), "the monitor is stopping"))
	case full:
		c.Answer(rejected(c, time.Now(), fmt.Sprintf("%d commands are waiting already; try again", waitingCommands)))
	}
}

func rejected(c bus.Command, now time.Time, reason string) bus.Ack {
	return bus.Ack{ID: c.ID, Output: c.Output, Group: c.Group, Status: string(relay.Rejected), Reason: reason, Time: now.UTC()}
}

// follow does what a command wants, or says why not.
func (l *loop) follow(ctx context.Context, c received) {
	now := time.Now()
	switch waited := now.Sub(c.at); {
	case len(c.ID) > longestWord:
		c.ID = c.ID[:longestWord]
		l.refuse(now, c.Command, fmt.Sprintf("its id is longer than %d characters; send a UUID", longestWord))
	case c.Retained:
		l.refuse(now, c.Command, "it came from the broker's memory; send commands without the retain flag")
	case waited > goodFor(c.Command):
		l.refuse(now, c.Command, fmt.Sprintf("it waited here for %v and is good for %v", waited.Round(time.Second), goodFor(c.Command)))
	case c.Output != "" && c.Group != "":
		l.refuse(now, c.Command, "it names an output and a group; send one command for each")
	case c.Output != "":
		l.output(ctx, now, c.Command)
	case c.Group != "":
		l.group(ctx, now, c.Command)
	case c.Action == Walk || c.Action == WalkEnd:
		l.walk(ctx, now, c.Command)
	default:
		l.refuse(now, c.Command, "it names neither an output nor a group")
	}
}

func goodFor(c bus.Command) time.Duration {
	if c.TTL > 0 {
		return c.TTL
	}
	return relay.DefaultTTL
}

// stale is why a command for a group or the site comes too late, or too early; empty if it comes in time. The room of
// outputs judges its own.
func stale(c bus.Command, now time.Time) string {
	age := now.Round(0).Sub(c.IssuedAt)
	switch {
	case c.IssuedAt.IsZero():
	case age > goodFor(c):
		return fmt.Sprintf("it was sent %v ago and is good for %v; if it was not, set the sender's clock", age.Round(time.Second), goodFor(c))
	case age < -skew:
		return fmt.Sprintf("it was sent %v from now; set the sender's clock", -age.Round(time.Second))
	}
	return ""
}

// refuse answers a command that nothing comes of.
func (l *loop) refuse(now time.Time, c bus.Command, reason string) {
	c.Answer(rejected(c, now, reason))
	l.turnedDown(now, c.Output, c.Group, who(c), reason)
}

// turnedDown tells people who look at events that a wish was not granted.
func (l *loop) turnedDown(now time.Time, output, group, by, reason string) {
	l.Log.Warn("command rejected", "output", output, "group", group, "by", by, "reason", reason)
	e := bus.Event{ID: l.nextID(now), Time: now.UTC(), Kind: Rejected, Output: output, Group: group, By: by, Reason: reason}
	l.remember(e)
	l.out.say(now, e)
}

// who is who sent a command, for people.
func who(c bus.Command) string {
	switch {
	case c.Who == "":
		return c.Source
	case c.Source == "":
		return c.Who
	}
	return c.Source + " " + c.Who
}

// output passes a command on to the outputs. Its number is what finds the sender again when the output goes off.
func (l *loop) output(ctx context.Context, now time.Time, c bus.Command) {
	if !slices.ContainsFunc(l.Config.Relay.Outputs, func(o relay.Output) bool { return o.Name == c.Output }) {
		var ids []string
		for _, o := range l.Config.Relay.Outputs {
			ids = append(ids, o.Name)
		}
		l.refuse(now, c, fmt.Sprintf("there is no output %.40q; there is %s", c.Output, list(ids)))
		return
	}
	l.ref++
	l.asked[l.ref] = c
	delete(l.asked, l.ref-openCommands)
	l.outcome(l.relays.Do(ctx, now, relay.Command{
		ID: c.ID, Output: c.Output, Action: relay.Action(c.Action), For: c.For, IssuedAt: c.IssuedAt, TTL: c.TTL,
		Source: c.Source, Who: c.Who, Retained: c.Retained, Ref: l.ref,
	}))
}

// answer gives an acknowledgement of the outputs to whoever asked, and turned-down wishes of rules to the events.
func (l *loop) answer(a relay.Ack) {
	for _, o := range l.Observers {
		o.Ack(a)
	}
	c, ok := l.asked[a.Command.Ref]
	if ok {
		c.Answer(bus.Ack{
			ID: a.Command.ID, Output: a.Command.Output, Status: string(a.Status), Reason: a.Reason,
			Seconds: round(a.On.Seconds(), 1000), ReadBack: a.ReadBack, Time: a.Time.UTC(),
		})
	}
	if a.Command.ID != "" {
		l.soon = true
	}
	if a.Status != relay.Accepted {
		delete(l.asked, a.Command.Ref)
	}
	if a.Status == relay.Rejected && !a.Again {
		l.turnedDown(a.Time, a.Command.Output, "", who(bus.Command{Source: a.Command.Source, Who: a.Command.Who}), a.Reason)
	}
}

// group arms or disarms. The same command again gets the same answer, and the same wish again changes nothing.
func (l *loop) group(ctx context.Context, now time.Time, c bus.Command) {
	if c.ID != "" {
		if before, ok := l.kept.Asked[c.ID]; ok {
			c.Answer(before.Ack)
			return
		}
	}
	if reason := stale(c, now); reason != "" {
		l.refuse(now, c, reason)
		return
	}
	groups := l.Config.Site.Groups
	if !slices.ContainsFunc(groups, func(g zone.Group) bool { return g.Name == c.Group }) {
		var ids []string
		for _, g := range groups {
			ids = append(ids, g.Name)
		}
		l.refuse(now, c, fmt.Sprintf("there is no group %.40q; there is %s", c.Group, list(ids)))
		return
	}
	if c.Action != Arm && c.Action != ArmForce && c.Action != Disarm {
		l.refuse(now, c, fmt.Sprintf("a group cannot %.40q; it can %s, %s and %s", c.Action, Arm, ArmForce, Disarm))
		return
	}
	var events []zone.Event
	var state zone.GroupState
	t := l.now(ctx)
	l.withPanel(func(p *zone.Panel) {
		if c.Action == Disarm {
			events = p.Disarm(t, c.Group, who(c))
		} else {
			events = p.Arm(t, c.Group, who(c), c.Action == ArmForce)
		}
		for _, g := range p.Groups(t) {
			if g.Name == c.Group {
				state = g.State
			}
		}
	})
	ack := bus.Ack{ID: c.ID, Group: c.Group, Status: string(relay.Done), ReadBack: true, Time: now.UTC()}
	switch {
	case c.Action == Disarm && state == zone.GroupDisarmed:
	case c.Action == Disarm || state == zone.GroupDisarmed:
		ack.Status, ack.ReadBack, ack.Reason = string(relay.Rejected), false, "the group is "+string(state)
		for _, e := range events {
			if e.Kind == zone.Refused && e.Group == c.Group {
				ack.Reason = e.Reason
			}
		}
	case state == zone.GroupExit:
		ack.Status, ack.ReadBack, ack.Reason = string(relay.Accepted), false, "the exit delay runs"
	}
	l.acknowledge(c, ack)
	if ack.Status == string(relay.Accepted) {
		l.arming = append(l.arming, c)
		if len(l.arming) > waitingCommands {
			l.arming = l.arming[1:]
		}
	}
	l.happened(ctx, t, events)
	l.soon = true
}

// acknowledge answers a command for a group and remembers the answer.
func (l *loop) acknowledge(c bus.Command, a bus.Ack) {
	c.Answer(a)
	if c.ID == "" {
		return
	}
	asked := l.kept.Asked
	if len(asked) >= rememberMost {
		l.forget(a.Time)
	}
	asked[c.ID] = Answered{Time: a.Time, Ack: a}
}

// forget drops answers that are a day old, and the oldest if there are still too many.
func (l *loop) forget(now time.Time) {
	oldest := ""
	for id, a := range l.kept.Asked {
		if now.Sub(a.Time) > rememberFor {
			delete(l.kept.Asked, id)
		} else if oldest == "" || a.Time.Before(l.kept.Asked[oldest].Time) {
			oldest = id
		}
	}
	if len(l.kept.Asked) >= rememberMost {
		delete(l.kept.Asked, oldest)
	}
}

// armed tells those who wait for the end of an exit delay how it ended.
func (l *loop) armed(e zone.Event) {
	if len(l.arming) == 0 || e.Zone != "" {
		return
	}
	status, reason := relay.Done, ""
	switch e.Kind {
	case zone.Armed:
	case zone.Disarmed, zone.Refused:
		status, reason = relay.Failed, e.Reason
	default:
		return
	}
	l.arming = slices.DeleteFunc(l.arming, func(c bus.Command) bool {
		if c.Group != e.Group {
			return false
		}
		l.acknowledge(c, bus.Ack{ID: c.ID, Group: c.Group, Status: string(status), Reason: reason, ReadBack: status == relay.Done, Time: e.Time.UTC()})
		return true
	})
}

// walk begins or ends a walk test.
func (l *loop) walk(ctx context.Context, now time.Time, c bus.Command) {
	if reason := stale(c, now); reason != "" {
		l.refuse(now, c, reason)
		return
	}
	t := l.now(ctx)
	until := time.Time{}
	if c.Action == Walk {
		length := c.For
		if length <= 0 {
			length = walkFor
		}
		until = t.Add(min(length, walkLongest))
	}
	var events []zone.Event
	l.withPanel(func(p *zone.Panel) { events = p.WalkTest(t, until) })
	c.Answer(bus.Ack{ID: c.ID, Status: string(relay.Done), ReadBack: true, Time: now.UTC()})
	l.happened(ctx, t, events)
}

// list is what there is, in words.
func list(ids []string) string {
	if len(ids) == 0 {
		return "none"
	}
	return strings.Join(ids, ", ")
}
