package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The types of event that tell of the stream itself, not of something that happened.
const (
	EventStart = "start" // the stream has begun: what is read from now on is told of when it changes
	EventReset = "reset" // events were missed: look at everything anew
)

// Event is one thing that happened. Ids are 0 for what it is not about.
type Event struct {
	ID           string          `json:"id"` // of the stream: what Events takes to go on after it
	Type         string          `json:"type"`
	Time         time.Time       `json:"time,omitzero"`
	Organization int64           `json:"organization,omitempty"`
	Fleet        int64           `json:"fleet,omitempty"`
	Device       int64           `json:"device,omitempty"`
	Release      int64           `json:"release,omitempty"`
	Data         json.RawMessage `json:"data,omitempty"` // of the type's own shape
}

// EventOptions choose events. The zero value asks for all from now on.
type EventOptions struct {
	Fleets, Devices []int64
	Types           []string    // device.online, or device for all of a device's
	After           string      // ID of the last event one knows
	Lost            func(error) // hears why a stream broke, before it is opened again; may be nil
}

// Events calls event for what happens, in order and each thing once, until ctx ends, event fails (its error is returned
// as it is), or the server says no. A stream that breaks is opened again where it was; what was missed for good is told
// by an event of type [EventReset].
func (c *Client) Events(ctx context.Context, o EventOptions, event func(Event) error) error {
	last := o.After
	return persist(ctx, o.Lost, func() (bool, error) { return c.events(ctx, o, &last, event) })
}

// events follows one connection after the event with the id last, and moves it on.
func (c *Client) events(ctx context.Context, o EventOptions, last *string, event func(Event) error) (alive bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(streamSilence, func() { cancel(errors.New("the stream fell silent")) })
	defer watchdog.Stop()

	q := url.Values{}
	for name, ids := range map[string][]int64{"fleet": o.Fleets, "device": o.Devices} {
		for _, id := range ids {
			q.Add(name, strconv.FormatInt(id, 10))
		}
	}
	if len(o.Types) > 0 {
		q.Set("types", strings.Join(o.Types, ","))
	}
	if *last != "" {
		q.Set("lastEventId", *last)
	}
	resp, err := c.open(ctx, http.MethodGet, "/events", q.Encode(), nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close() // only read
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	var data []byte
	id := *last
	for lines.Scan() {
		alive = true
		watchdog.Reset(streamSilence)
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			id = value
		case "data":
			data = append(data, value...)
		}
		if lines.Text() != "" { // an empty line ends an event
			continue
		}
		*last = id
		if data == nil {
			continue
		}
		var e Event
		if err := json.Unmarshal(slices.Clip(data), &e); err != nil {
			return alive, c.unreachable(ctx, fmt.Errorf("read event: %w", err))
		}
		e.ID, data = id, nil
		if err := event(e); err != nil {
			return alive, &lineError{err}
		}
	}
	err = lines.Err()
	if err == nil {
		err = io.EOF
	}
	return alive, c.unreachable(ctx, err)
}
