package relay

import (
	"slices"
	"time"
)

// What is remembered of commands: for a day, but no more than so many, the oldest forgotten first.
const (
	rememberFor  = 24 * time.Hour
	rememberMost = 10_000
	longestID    = 128
)

// Memory is what has to survive a restart, ready for JSON: the answers to commands with an ID, so that a duplicate is
// still one. Nothing in it turns an output on.
type Memory struct {
	Commands []Remembered `json:"commands,omitempty"` // in the order they came
}

// Remembered is a command with an ID and its answers.
type Remembered struct {
	ID     string    `json:"id"`
	Output string    `json:"output"`
	Action Action    `json:"action"`
	At     time.Time `json:"at"`             // when it first came
	Until  time.Time `json:"until,omitzero"` // accepted: when the output goes off by it; zero if by another
	First  Answer    `json:"first"`
	Last   Answer    `json:"last,omitzero"`
}

// Answer is what an acknowledgement says.
type Answer struct {
	Status   AckStatus     `json:"status"`
	Reason   string        `json:"reason,omitempty"`
	On       time.Duration `json:"on,omitempty"`
	ReadBack bool          `json:"read_back,omitempty"`
	At       time.Time     `json:"at"`
}

type memory struct {
	inOrder []*record
	byID    map[string]*record
}

type record struct {
	Remembered
	orphan bool // accepted by a run of the program that has ended
}

// find returns what is known of a command's ID, or nil.
func (m *memory) find(id string, now time.Time) *record {
	if rec := m.byID[id]; rec != nil && now.Sub(rec.At) < rememberFor {
		return rec
	}
	return nil
}

// add remembers a command, and forgets what is too old or too much.
func (m *memory) add(rec *record) {
	old := 0
	for old < len(m.inOrder) && (len(m.inOrder)-old >= rememberMost || rec.At.Sub(m.inOrder[old].At) >= rememberFor) {
		if e := m.inOrder[old]; m.byID[e.ID] == e {
			delete(m.byID, e.ID)
		}
		old++
	}
	m.inOrder = append(slices.Delete(m.inOrder, 0, old), rec)
	m.byID[rec.ID] = rec
}

// Memory is what to keep for Resume. It shares nothing with r.
func (r *Relays) Memory() Memory {
	m := Memory{Commands: make([]Remembered, 0, len(r.memory.inOrder))}
	for _, rec := range r.memory.inOrder {
		m.Commands = append(m.Commands, rec.Remembered)
	}
	return m
}

// Resume takes over the memory of an earlier run of the program. It is called after New and before Start; it turns
// nothing on. Times in it that have not come yet, because the clock was set back, count as now.
func (r *Relays) Resume(m Memory, now time.Time) {
	for _, c := range m.Commands {
		if c.At.After(now) {
			c.At = now
		}
		if c.ID == "" || len(c.ID) > longestID || c.First.Status == "" || r.memory.byID[c.ID] != nil || now.Sub(c.At) >= rememberFor {
			continue
		}
		r.memory.add(&record{Remembered: c, orphan: c.First.Status == Accepted && c.Last.Status == ""})
	}
}

// orphans answers, at the first Start after Resume, the commands that cannot have come to their end: their output was
// found on, or their time would not be over yet. Of the others nothing is known but that they were accepted.
func (r *Relays) orphans(t *turn) {
	answered := map[string]bool{}
	for _, rec := range slices.Backward(r.memory.inOrder) { // only an output's last command can have been running
		if !rec.orphan {
			continue
		}
		rec.orphan = false
		o := r.named[rec.Output]
		if o == nil || answered[rec.Output] || rec.Until.IsZero() {
			continue
		}
		answered[rec.Output] = true
		found := slices.ContainsFunc(t.Events, func(e Event) bool { return e.Kind == FoundOn && e.Output == o.Name })
		if !found && !rec.Until.After(t.now) {
			continue
		}
		r.ack(t, rec, Ack{
			Command: Command{ID: rec.ID, Output: rec.Output, Action: rec.Action},
			Status:  ForcedOff,
			Reason:  "the program ended while the output was " + o.word(true),
		})
	}
}

// ack sends an acknowledgement and remembers it, if its command is remembered.
func (r *Relays) ack(t *turn, rec *record, a Ack) {
	a.Time = t.now
	t.Acks = append(t.Acks, a)
	if rec == nil {
		return
	}
	answer := Answer{Status: a.Status, Reason: a.Reason, On: a.On, ReadBack: a.ReadBack, At: a.Time}
	if rec.First.Status == "" {
		rec.First = answer
	} else {
		rec.Last = answer
	}
}

// repeat answers a duplicate with what was answered before.
func (t *turn) repeat(cmd Command, answers ...Answer) {
	for _, a := range answers {
		if a.Status != "" {
			t.Acks = append(t.Acks, Ack{Command: cmd, Status: a.Status, Reason: a.Reason, On: a.On, ReadBack: a.ReadBack, Time: a.At, Again: true})
		}
	}
}
