package monitor

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Event is one line of what Remote Monitor says.
type Event struct {
	Time  time.Time `json:"time"`
	Event Kind      `json:"event"`
	Zone  string    `json:"zone,omitempty"`  // which zone; empty for the program and the board as a whole
	Input int       `json:"input,omitempty"` // of the board, from 1
	Value *float64  `json:"value,omitempty"` // percent of the supply, to one decimal

	// Of a start.
	Version string `json:"version,omitempty"`
	Device  string `json:"device,omitempty"`
	Zones   *int   `json:"zones,omitempty"`

	Reason string `json:"reason"`
}

// Kind is what an event is about.
type Kind string

// The kinds of event. Those of a zone are the zone's own words.
const (
	Start     Kind = "start"
	Stop      Kind = "stop"
	Heartbeat Kind = "heartbeat"
	Fault     Kind = "fault"   // without a zone: of the board
	Restore   Kind = "restore" // without a zone: of the board
)

// Lines writes each event as one line of JSON, in one write.
func Lines(w io.Writer) func(Event) error {
	return func(e Event) error {
		e.Time = e.Time.UTC()
		b, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
		if _, err := w.Write(append(b, '\n')); err != nil {
			return fmt.Errorf("write event: %w", err)
		}
		return nil
	}
}
