package monitor

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// Line is what the program says of itself; what happens at the site is said as a bus.Event.
type Line struct {
	Time  time.Time `json:"time"` // UTC
	Event string    `json:"event"`

	// Of a start.
	Version string `json:"version,omitempty"`
	Device  string `json:"device,omitempty"`
	Zones   *int   `json:"zones,omitempty"`

	Reason string `json:"reason"`
}

// The events of Line.
const (
	Start     = "start"
	Stop      = "stop"
	Heartbeat = "heartbeat"
	Lost      = "lost" // lines that nobody read in time are gone
)

// The kinds of bus.Event that no zone and no output tells of.
const (
	Fault    = "fault"   // of the board, the supply or the program
	Restore  = "restore" // of what was last told as a fault of the same
	Rejected = "rejected"

	// Again is an alarm of which nobody is to be notified again: a word of its own, so that whoever notifies of every
	// alarm does what is meant.
	Again = "alarm_again"
)

// Lines returns a function that writes each line it is given as JSON, in one write.
func Lines(w io.Writer) func(any) error {
	return func(line any) error {
		b, err := json.Marshal(line)
		if err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
		if _, err := w.Write(append(b, '\n')); err != nil {
			return fmt.Errorf("write event: %w", err)
		}
		return nil
	}
}

// names finds what zones are called outside of their room.
type names struct {
	zones map[string]int // by name
	ids   []string
}

func newNames(c config.Config) names {
	n := names{zones: map[string]int{}}
	for i, z := range c.Zones {
		n.zones[z.Name] = i
		n.ids = append(n.ids, z.ID)
	}
	return n
}

// Words puts events of a configuration's zones and groups into the words of brokers and lines, for who replays a
// recording. Zones it does not know keep their names.
func Words(c config.Config) func(zone.Event) bus.Event {
	n := newNames(c)
	return n.event
}

// event puts an event of a zone or a group into the words of brokers and lines.
func (n *names) event(e zone.Event) bus.Event {
	b := bus.Event{
		ID: e.ID, Time: e.Time.UTC(), Kind: string(e.Kind), Group: e.Group, From: string(e.From), State: string(e.State),
		Seconds: round(e.Duration.Seconds(), 1000), Confirmed: e.Confirmed, Quiet: e.Quiet, Pulses: e.Pulses, By: e.By, Stage: string(e.Stage),
		Reason: e.Reason,
	}
	if e.Kind == zone.Alarm && e.Quiet {
		b.Kind = Again
	}
	if !e.Until.IsZero() {
		b.Until = e.Until.UTC().Round(0)
	}
	if e.Zone != "" {
		b.Zone = n.id(e.Zone)
		b.Percent, b.Volts = number(e.Percent, 10), number(e.Volts, 1000)
	}
	if e.By != "" && e.Zone != "" {
		b.By = n.id(e.By)
	}
	return b
}

func (n *names) id(name string) string {
	if i, ok := n.zones[name]; ok {
		return n.ids[i]
	}
	return name
}

// outputEvent does the same with an event of an output.
func outputEvent(id string, e relay.Event) bus.Event {
	b := bus.Event{ID: id, Time: e.Time.UTC(), Kind: string(e.Kind), Output: e.Output, Seconds: round(e.On.Seconds(), 1000), Reason: e.Reason}
	if e.Output == "" && e.Chip != "" {
		b.Reason = e.Chip + ": " + e.Reason
	}
	return b
}

// eventID is unique over restarts, because time passes between two of them, and no event of a zone has the same.
func eventID(t time.Time, n uint64) string {
	return strconv.FormatInt(t.UnixMilli(), 36) + "-m" + strconv.FormatUint(n, 36)
}

// number is v rounded to a part of one; nil when it is no number, for which JSON has no word.
func number(v, part float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	v = round(v, part)
	return &v
}

func round(v, part float64) float64 { return math.Round(v*part) / part }
