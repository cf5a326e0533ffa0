package monitor

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// told passes an event of a zone or a group on to all who want to know.
func (l *loop) told(e zone.Event) {
	for _, o := range l.Observers {
		o.Zone(e)
	}
	l.armed(e)
	if survives(e.Kind) {
		l.soon = true
	}
	if e.Kind == zone.Suppressed || e.Kind == zone.CommonMode {
		return // observers count them, and the status of a zone has its own; in a storm there are many
	}
	b := l.names.event(e)
	l.out.say(time.Now(), b)
	if e.Kind == zone.Motion || e.Kind == zone.Still {
		return // brokers see it in the state of the zone; it would fill what is kept while they are away
	}
	l.remember(b)
	for _, broker := range l.Brokers {
		broker.Event(b)
	}
}

// survives says whether an event changes what a restart must not lose.
func survives(k zone.Kind) bool {
	switch k {
	case zone.Motion, zone.Still, zone.Suppressed, zone.CommonMode, zone.Warm:
		return false
	}
	return true
}

// outcome tells what became of outputs and of commands.
func (l *loop) outcome(o relay.Outcome) {
	if len(o.Events) == 0 && len(o.Acks) == 0 {
		return
	}
	now := time.Now()
	l.lookAtOutputs(now)
	for _, e := range o.Events {
		switch {
		case e.Output == "" && e.Kind == relay.Mismatch:
			l.deaf[e.Chip] = true
		case e.Output == "" && e.Kind == relay.Recovered:
			delete(l.deaf, e.Chip)
		}
		for _, w := range l.Observers {
			w.Output(e)
		}
		l.tell(now, outputEvent(l.nextID(e.Time), e))
	}
	for _, a := range o.Acks {
		l.answer(a)
	}
}

// aboutSite tells of the board, the supply or the program.
func (l *loop) aboutSite(now time.Time, kind, reason string) {
	l.mu.Lock()
	l.seen.trouble = l.trouble
	l.mu.Unlock()
	l.tell(now, bus.Event{ID: l.nextID(now), Time: now.UTC(), Kind: kind, Reason: reason})
}

// tell passes an event to lines, brokers and the page.
func (l *loop) tell(now time.Time, e bus.Event) {
	l.out.say(now, e)
	l.remember(e)
	for _, b := range l.Brokers {
		b.Event(e)
	}
}

func (l *loop) nextID(t time.Time) string {
	l.events++
	return eventID(t, l.events)
}

func (l *loop) remember(e bus.Event) {
	l.mu.Lock()
	l.seen.remember(e)
	l.mu.Unlock()
}

// lookAtOutputs tells brokers of outputs that changed, as they were read back.
func (l *loop) lookAtOutputs(now time.Time) {
	all := l.relays.Status(now)
	l.mu.Lock()
	l.seen.outputs = all
	l.mu.Unlock()
	for i, s := range all {
		state := bus.OutputState{On: s.On, Problem: s.Fault}
		old := l.outputs[i]
		if new := old.Time.IsZero(); !new && old.On == state.On && old.Problem == state.Problem {
			continue
		}
		state.Time = now.UTC()
		l.outputs[i] = state
		for _, b := range l.Brokers {
			b.Output(s.Name, state)
		}
	}
}

// publish tells brokers of zones and groups that changed, or of all of them and the outputs.
func (l *loop) publish(now, t time.Time, all bool) {
	var zones []zone.Status
	var groups []zone.GroupStatus
	l.withPanel(func(p *zone.Panel) { zones, groups = p.Zones(t), p.Groups(t) })
	for i, z := range zones {
		if !z.Known && z.State == zone.Normal {
			continue // it was never read: there is nothing to tell yet
		}
		state := bus.ZoneState{
			State: string(z.State), Motion: z.Motion, Alarm: z.State == zone.InAlarm, Tamper: z.State == zone.Tampered,
			Problem: z.State == zone.Unfit, Detail: z.Reason,
		}
		old := l.zones[i]
		same := !old.Time.IsZero()
		old.Time, old.Volts, old.Percent = time.Time{}, 0, 0
		if same && old == state && !all {
			continue
		}
		state.Time = now.UTC()
		if v := number(z.Volts, 1000); v != nil {
			state.Volts = *v
		}
		if v := number(z.Percent, 10); v != nil {
			state.Percent = *v
		}
		l.zones[i] = state
		for _, b := range l.Brokers {
			b.Zone(l.names.ids[i], state)
		}
	}
	for i, g := range groups {
		state := bus.GroupState{State: string(g.State), By: g.By}
		old := l.groups[i]
		same := !old.Time.IsZero()
		old.Time = time.Time{}
		if same && old == state && !all {
			continue
		}
		state.Time = now.UTC()
		l.groups[i] = state
		for _, b := range l.Brokers {
			b.Group(g.Name, state)
		}
	}
	if !all {
		return
	}
	for i, o := range l.outputs {
		o.Time = now.UTC()
		for _, b := range l.Brokers {
			b.Output(l.Config.Outputs[i].ID, o)
		}
	}
}

// second is what need not be done in every turn.
func (l *loop) second(now, t time.Time) {
	l.lookAtOutputs(now)
	beat := !now.Before(l.beatAt) && l.Config.Heartbeat > 0
	l.publish(now, t, beat)
	if beat {
		for !now.Before(l.beatAt) {
			l.beatAt = l.beatAt.Add(l.Config.Heartbeat)
		}
		l.out.say(now, Line{Time: now.UTC(), Event: Heartbeat, Reason: l.status()})
		for _, b := range l.Brokers {
			b.Heartbeat(now)
		}
	}
	if l.Beat == nil {
		return
	}
	brokers := l.brokers()
	l.mu.Lock()
	unhealthy := l.seen.unhealthy(l.Config, brokers, now)
	l.mu.Unlock()
	status := l.status()
	if unhealthy != "" && unhealthy != status {
		status = unhealthy + "; " + status
	}
	l.Beat(now, unhealthy == "", status)
}

// status is the site in a few words.
func (l *loop) status() string {
	if l.trouble != "" {
		return l.trouble
	}
	var words []string
	for i, z := range l.zones {
		if z.State != string(zone.Normal) {
			words = append(words, l.Config.Zones[i].Name+": "+z.State)
		}
	}
	for i, o := range l.outputs {
		if o.Problem != "" {
			words = append(words, l.Config.Outputs[i].Name+": "+o.Problem)
		}
	}
	if l.low {
		words = append(words, "the supply is low")
	}
	if l.supply.unknown != "" {
		words = append(words, "the supply is not measured: "+l.supply.unknown)
	}
	if len(words) == 0 {
		return "all zones are normal"
	}
	return strings.Join(words, "; ")
}

// keep hands what must survive a restart to the disk, when it is time or in any case.
func (l *loop) keep(now bool) {
	if l.State.Path == "" {
		return
	}
	since := time.Since(l.keptAt)
	if !now && since < keepSeldom && (!l.soon || since < keepSoon) {
		return
	}
	l.kept.Outputs = l.relays.Memory()
	l.save()
}

// keepOutputs is called before a command that must not be followed twice is followed. The loop waits for the disk, but
// not for a slow one, and a broken one does not make the outputs useless.
func (l *loop) keepOutputs(m relay.Memory) error {
	l.kept.Outputs = m
	saved := l.save()
	if saved == nil {
		return nil
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-saved:
	case <-t.C:
		l.Log.Warn("the disk is slow: a command is followed before it is remembered")
	}
	return nil
}

// save hands the state to the disk. The channel is closed when it is there, or could not be kept; it is nil when
// nothing is kept.
func (l *loop) save() <-chan struct{} {
	if l.State.Path == "" {
		return nil
	}
	l.soon, l.keptAt = false, time.Now()
	l.kept.Version = stateVersion
	l.withPanel(func(p *zone.Panel) { l.kept.Zones = p.Memory() })
	b, err := json.Marshal(l.kept)
	if err != nil {
		l.Log.Error("the state cannot be written down", "err", err)
		return nil
	}
	return l.keeper.keep(b)
}
