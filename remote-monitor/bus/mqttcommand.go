package bus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// The bounds of a command.
const (
	longestCommand = 4 << 10 // bytes
	longestID      = 128
	longestTopic   = 512
)

// wish is what a payload asks for.
type wish struct {
	id     string
	action string
	length time.Duration
	issued time.Time
	ttl    time.Duration
}

// actions are the words of a payload.
type actions map[string]string

var (
	outputActions = actions{"ON": "on", "OFF": "off", "PRESS": "pulse", "PULSE": "pulse"}
	groupActions  = actions{"ARM": "arm", "ARM_AWAY": "arm", "DISARM": "disarm"}
)

// readWish reads the payload of a command: a word, or JSON with that word as action:
//
//	{"id": "…", "action": "press", "for": seconds, "issued_at": RFC 3339 or Unix seconds, "ttl": seconds}
//
// All but the action may be left out; anything else is refused, so that a slip of the pen does nothing by halves.
func readWish(payload []byte, words actions) (w wish, err error) {
	payload = bytes.TrimSpace(payload)
	switch {
	case len(payload) > longestCommand:
		return w, fmt.Errorf("%d bytes are too long for a command; %d is the most", len(payload), longestCommand)
	case len(payload) == 0:
		return w, errors.New("an empty payload is no command")
	case payload[0] != '{':
		w.action, err = words.read(string(payload))
		return w, err
	}
	var j struct {
		ID       string          `json:"id"`
		Action   string          `json:"action"`
		For      float64         `json:"for"`
		IssuedAt json.RawMessage `json:"issued_at"`
		TTL      float64         `json:"ttl"`
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return w, fmt.Errorf("cannot be read: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return w, errors.New("cannot be read: something follows the command")
	}
	if len(j.ID) > longestID {
		return w, fmt.Errorf("an id of %d bytes is too long; %d is the most", len(j.ID), longestID)
	}
	w.id = j.ID
	if w.action, err = words.read(j.Action); err != nil {
		return w, err
	}
	if w.length, err = seconds(j.For); err != nil {
		return w, fmt.Errorf("for: %w", err)
	}
	if w.ttl, err = seconds(j.TTL); err != nil {
		return w, fmt.Errorf("ttl: %w", err)
	}
	if w.issued, err = readTime(j.IssuedAt); err != nil {
		return w, fmt.Errorf("issued_at: %w", err)
	}
	return w, nil
}

// read gives the action that a word stands for.
func (a actions) read(word string) (string, error) {
	if action, ok := a[strings.ToUpper(word)]; ok {
		return action, nil
	}
	if a["ARM"] != "" {
		return "", fmt.Errorf("%.40q is no command for a group; send ARM_AWAY, DISARM or JSON", word)
	}
	return "", fmt.Errorf("%.40q is no command for an output; send ON, OFF, PRESS or JSON", word)
}

// readTime reads a time as JSON has it: text of RFC 3339 or a number of seconds since 1970.
func readTime(raw json.RawMessage) (t time.Time, err error) {
	if len(raw) == 0 || string(raw) == "null" {
		return t, nil
	}
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &t); err != nil {
			return t, fmt.Errorf("%.40s is no time of RFC 3339", raw)
		}
	} else {
		var unix float64
		if err := json.Unmarshal(raw, &unix); err != nil {
			return t, fmt.Errorf("%.40s is no time", raw)
		}
		t = moment(unix)
	}
	if t = t.UTC(); t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("%.40s is no time", raw)
	}
	return t, nil
}

// command takes a message below the site's topics.
func (m *MQTT) command(rest string, p *paho.Publish) {
	kind, rest, _ := strings.Cut(rest, "/")
	id, ok := strings.CutSuffix(rest, "/set")
	if !ok || kind != "output" && kind != "group" {
		return
	}
	c := Command{Source: "mqtt", Who: p.Topic, Retained: p.Retain}
	known, words := false, outputActions
	if kind == "group" {
		words = groupActions
		c.Group, known = m.groups[id]
	} else {
		c.Output, known = id, m.byID["output/"+id] != nil
	}
	response, correlation := "", []byte(nil)
	if p.Properties != nil {
		response, correlation = p.Properties.ResponseTopic, p.Properties.CorrelationData
	}
	if len(response) > longestTopic || len(correlation) > longestCommand || strings.ContainsAny(response, "#+\x00") ||
		strings.HasPrefix(response, "$") || strings.HasPrefix(response, m.base+"/") || strings.HasPrefix(response, m.Discovery+"/") {
		response = "" // nothing that a broker would end the connection for, or that others take from us at our word
	}
	w, err := readWish(p.Payload, words)
	c.ID, c.Action, c.For, c.IssuedAt, c.TTL = w.id, w.action, w.length, w.issued, w.ttl
	if p.Properties != nil && p.Properties.MessageExpiry != nil {
		if left := time.Duration(*p.Properties.MessageExpiry) * time.Second; c.TTL == 0 || left < c.TTL {
			c.TTL = max(left, time.Nanosecond)
		}
	}
	c.Answer = func(a Ack) {
		if a.ID == "" {
			a.ID = c.ID
		}
		if a.Output == "" && a.Group == "" {
			a.Output, a.Group = c.Output, c.Group
		}
		if finite(&a.Seconds) == nil {
			a.Seconds = 0
		}
		a.Time = utc(a.Time)
		b := encode(a)
		if plain.MatchString(id) {
			m.acks.put(outgoing{topic: m.base + "/" + kind + "/" + id + "/ack", payload: b})
		}
		if response != "" {
			m.acks.put(outgoing{topic: response, payload: b, correlation: correlation})
		}
		m.work.ring()
	}
	why := ""
	switch {
	case p.Retain:
		why = "a retained command is refused: it would be followed again at each connection; send it without retain"
	case !known:
		why = fmt.Sprintf("there is no %s %.40q", kind, id)
	case err != nil:
		why = err.Error()
	case m.OnCommand == nil:
		why = "commands are not taken here"
	default:
		m.OnCommand(c)
		return
	}
	m.Log.Info("command refused", "topic", p.Topic, "err", why)
	c.Answer(Ack{Status: "rejected", Reason: why, Time: time.Now()})
}
