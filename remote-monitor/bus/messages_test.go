package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/google/go-cmp/cmp"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

func TestTheOriginalsParameterIsReadSafely(t *testing.T) {
	for _, c := range []struct {
		params any
		length time.Duration
		why    string
	}{
		{nil, 0, ""},
		{"0", 0, ""},
		{"", 0, ""},
		{" 1.5 ", 1500 * time.Millisecond, ""},
		{"10", 10 * time.Second, ""},
		{3, 3 * time.Second, ""},
		{2.5, 2500 * time.Millisecond, ""},
		{"1e9", 1e9 * time.Second, ""}, // for the output to refuse
		{"1e300", math.MaxInt64, ""},
		{"1e999", math.MaxInt64, ""},
		{uint64(math.MaxUint64), math.MaxInt64, ""},
		{"abc", 0, "no number"},
		{"nan", 0, "no number"},
		{"inf", 0, "no number"},
		{"-1", 0, "less than no time"},
		{-5, 0, "less than no time"},
		{"-1e999", 0, "no number"},
		{true, 0, "neither text nor a number"},
		{[]any{1}, 0, "neither text nor a number"},
		{map[string]any{"a": 1}, 0, "neither text nor a number"},
	} {
		a := &AMQP{Site: house()}
		body, err := msgpack.Marshal(orderFor("Roof Siren", c.params, 1_700_000_000))
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.command(amqp.Delivery{Body: body})
		if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) || got.For != c.length || got.Output != "siren" {
			t.Errorf("%#v: %v, %v", c.params, got.For, err)
		}
	}
}

func TestACommandIsAsOldAsItsSenderSays(t *testing.T) {
	a := &AMQP{Site: house()}
	for what, c := range map[string]struct {
		timestamp any
		delivery  amqp.Delivery
		issued    time.Time
		id        string
	}{
		"in the body":          {1_700_000_000, amqp.Delivery{Timestamp: time.Unix(1, 0)}, time.Unix(1_700_000_000, 0).UTC(), "Roof Siren@1700000000"},
		"in the properties":    {"today", amqp.Delivery{Timestamp: time.Unix(1_700_000_001, 0)}, time.Unix(1_700_000_001, 0).UTC(), "Roof Siren@1700000001"},
		"nowhere":              {nil, amqp.Delivery{}, time.Time{}, ""},
		"beyond all calendars": {int64(math.MaxInt64), amqp.Delivery{}, time.Time{}, ""},
	} {
		body, err := msgpack.Marshal(orderFor("Roof Siren", "1", 0))
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := msgpack.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		m["timestamp"] = c.timestamp
		if c.delivery.Body, err = msgpack.Marshal(m); err != nil {
			t.Fatal(err)
		}
		got, err := a.command(c.delivery)
		if err != nil || !got.IssuedAt.Equal(c.issued) || got.ID != c.id {
			t.Errorf("%s: %v, %q, %v", what, got.IssuedAt, got.ID, err)
		}
	}
}

func TestLateAlarmsDoNotSetOffTheSiren(t *testing.T) {
	site := house()
	for _, c := range []struct {
		kind     string
		age      time.Duration
		replayed bool
		late     time.Duration
		want     string
	}{
		{"alarm", time.Hour, false, 0, "triggered"}, // the clock may be wrong; it was not kept waiting
		{"alarm", time.Minute, true, 0, "triggered"},
		{"alarm", 3 * time.Minute, true, 0, "late"},
		{"tamper", 3 * time.Minute, true, 0, "late"},
		{"alarm", time.Hour, true, -1, "triggered"},
		{"alarm", 2 * time.Second, true, time.Second, "late"},
		{"restore", time.Hour, true, 0, "OK"},
	} {
		a := &AMQP{Site: site, Late: c.late}
		a.prepare()
		s := amqpSession{AMQP: a}
		p := s.message(&stored{Event: Event{Time: time.Now().Add(-c.age), Kind: c.kind, Zone: "hall", Replayed: c.replayed}, Standing: []stands{{Zone: "back_door"}}})
		var h heard
		if err := msgpack.Unmarshal(p.Body, &h); err != nil {
			t.Fatal(err)
		}
		if got := *h.Inputs[0].State; got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
		if got := *h.Inputs[1].State; (got == "late") != (c.want == "late") {
			t.Errorf("%+v: the zone that stands is %s", c, got)
		}
	}
}

func TestAnAlarmThatWaitedAndIsNotOverIsNotLate(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	tamper := Event{ID: "1", Time: old, Kind: "tamper", Zone: "hall"}
	for name, c := range map[string]struct {
		then []Event
		want string
	}{
		"it stands":         {nil, "triggered"},
		"it is over":        {[]Event{{ID: "2", Kind: "restore", From: "tamper", Zone: "hall"}}, "late"},
		"another began":     {[]Event{{ID: "2", Kind: "restore", From: "tamper", Zone: "hall"}, {ID: "3", Kind: "tamper", Zone: "hall"}}, "late"},
		"it became a fault": {[]Event{{ID: "2", Kind: "fault", From: "tamper", Zone: "hall"}}, "late"},
		"disarmed":          {[]Event{{ID: "2", Kind: "restore", From: "alarm", Quiet: true, Zone: "hall"}}, "late"},
		"another zone":      {[]Event{{ID: "2", Kind: "restore", From: "tamper", Zone: "back_door"}}, "triggered"},
	} {
		a := &AMQP{Site: house()}
		for _, e := range append([]Event{tamper}, c.then...) {
			a.Event(e)
		}
		waited := stored{Event: tamper}
		waited.Replayed = true
		s := amqpSession{AMQP: a}
		var h heard
		if err := msgpack.Unmarshal(s.message(&waited).Body, &h); err != nil {
			t.Fatal(err)
		}
		if got := *h.Inputs[0].State; got != c.want {
			t.Errorf("%s: it is told as %s", name, got)
		}
	}
}

func TestWhoeverWasToldOfAnAlarmIsToldThatItIsOver(t *testing.T) {
	alarm, quiet := Event{Kind: "alarm", Zone: "hall"}, Event{Kind: "alarm", Zone: "hall", Quiet: true}
	over, disarmed := Event{Kind: "restore", From: "alarm", Zone: "hall"}, Event{Kind: "restore", From: "alarm", Zone: "hall", Quiet: true}
	unseconded := Event{Kind: "restore", From: "pre_alarm", Zone: "hall", Quiet: true}
	for name, c := range map[string]struct {
		events []Event
		waits  int
	}{
		"an alarm that ends":                       {[]Event{alarm, over}, 2},
		"an alarm that somebody disarms":           {[]Event{alarm, disarmed}, 2},
		"an alarm of which nobody was told":        {[]Event{quiet, disarmed}, 0},
		"a pre-alarm that nobody seconded":         {[]Event{unseconded}, 0},
		"a tamper that stood before the start":     {[]Event{{Kind: "restore", From: "tamper", Zone: "hall"}}, 1},
		"an alarm that ends, and then a quiet one": {[]Event{alarm, over, quiet, disarmed}, 2},
	} {
		a := &AMQP{Site: house()}
		for _, e := range c.events {
			a.Event(e)
		}
		if got := a.box.Waiting(); got != c.waits {
			t.Errorf("%s: %d messages, want %d", name, got, c.waits)
		}
	}
}

func TestALevelIsToldInEveryMessage(t *testing.T) {
	for _, level := range []bool{false, true} {
		a := &AMQP{Site: house(), Level: level}
		a.Zone("hall", ZoneState{State: "tamper", Tamper: true, Percent: 78.9})
		a.Zone("back_door", ZoneState{State: "alarm", Alarm: true})
		a.Event(Event{ID: "1", Time: time.Now(), Kind: "restore", From: "alarm", Zone: "back_door"})
		if err := a.box.Store(); err != nil {
			t.Fatal(err)
		}
		e, _ := a.box.Next(0)
		var is stored
		if err := json.Unmarshal(e.Data, &is); err != nil {
			t.Fatal(err)
		}
		var h heard
		if err := msgpack.Unmarshal((&amqpSession{AMQP: a}).message(&is).Body, &h); err != nil {
			t.Fatal(err)
		}
		hall, door := h.Inputs[0], h.Inputs[1]
		if *door.State != "OK" {
			t.Errorf("level %v: the door is %s", level, *door.State)
		}
		if level && (hall.State == nil || *hall.State != "triggered" || *hall.Sample != 78 || *hall.Detail != "tamper") || !level && hall.State != nil {
			t.Errorf("level %v: %+v", level, hall)
		}
	}
}

func TestMessagePackIsReadAsTheLibraryWritesIt(t *testing.T) {
	value := rapid.Custom(func(t *rapid.T) any {
		return rapid.OneOf(
			rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.Uint64().AsAny(), rapid.Int8().AsAny(), rapid.Float64().AsAny(), rapid.Float32().AsAny(),
			rapid.String().AsAny(), rapid.SliceOf(rapid.Byte()).AsAny(), rapid.Just[any](time.Unix(1, 2)), rapid.Just[any](strings.Repeat("x", 70000)),
			rapid.SliceOfN(rapid.Int(), 0, 20).AsAny(), rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.Bool())).AsAny(),
		).Draw(t, "value")
	})
	rapid.Check(t, func(t *rapid.T) {
		v := value.Draw(t, "v")
		body, err := msgpack.Marshal([]any{v, "end"})
		if err != nil {
			t.Fatal(err)
		}
		read := func(what string, f func(*unpacker) any) {
			u := &unpacker{rest: body}
			if k, _, n, err := u.next(); k != sequence || n != 2 || err != nil {
				t.Fatalf("%s: %v %d %v", what, k, n, err)
			}
			got := f(u)
			end, err := u.scalar()
			if end != "end" || err != nil || len(u.rest) != 0 {
				t.Fatalf("%s of %#v ends at %#v, %v", what, v, end, err)
			}
			var want any
			switch v := v.(type) {
			case nil, bool, string, float64:
				want = v
			case int64:
				want = float64(v)
			case uint64:
				want = float64(v)
			case int8:
				want = float64(v)
			case float32:
				want = float64(v)
			case []byte:
				if v != nil {
					want = string(v)
				}
			default:
				if got == nil {
					return // an empty slice of the library's
				}
				want = other{}
			}
			if what == "scalar" && got != want && got == got {
				t.Fatalf("%#v is read as %#v", v, got)
			}
		}
		read("scalar", func(u *unpacker) any {
			got, err := u.scalar()
			if err != nil {
				t.Fatal(err)
			}
			return got
		})
		read("skip", func(u *unpacker) any {
			if err := u.skip(); err != nil {
				t.Fatal(err)
			}
			return nil
		})
	})
}

func FuzzTheOriginalsCommand(f *testing.F) {
	for _, params := range []any{nil, "1", "nan", "1e300", 5, []any{}} {
		b, err := msgpack.Marshal(orderFor("Roof Siren", params, 1_700_000_000))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, b := range []string{"", "\xdf\xff\xff\xff\xff", "\x81\xdb\xff\xff\xff\xff", "\x81\xa1x\xc9\xff\xff\xff\xff\x00", strings.Repeat("\x91", 60000), "\x81\xb0output_triggered\xc0", "\x82\xc0\xc0\xa9timestamp\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"} {
		f.Add([]byte(b))
	}
	a := &AMQP{Site: house()}
	a.prepare()
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := a.command(amqp.Delivery{Body: b, ReplyTo: "x"})
		if c.Output == "" {
			return
		}
		if c.For < 0 || c.TTL < 0 || c.Action != "pulse" || err != nil && c.For != 0 {
			t.Fatalf("%+v, %v", c, err)
		}
		if _, err := json.Marshal(c.IssuedAt); err != nil {
			t.Fatal(err)
		}
		c.Answer(Ack{Status: "rejected"})
	})
}

func TestAWishIsReadToTheLetter(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    wish
		why     string
	}{
		{"ON", wish{action: "on"}, ""},
		{" off\n", wish{action: "off"}, ""},
		{"PRESS", wish{action: "pulse"}, ""},
		{`{"action":"pulse","for":0.25}`, wish{action: "pulse", length: 250 * time.Millisecond}, ""},
		{`{"id":"x","action":"on","ttl":5,"issued_at":1793534400.5}`, wish{id: "x", action: "on", ttl: 5 * time.Second, issued: at(0).Add(500 * time.Millisecond)}, ""},
		{`{"action":"on","issued_at":"2026-11-01T13:00:00+01:00"}`, wish{action: "on", issued: at(0)}, ""},
		{`{"action":"on","for":1e300}`, wish{action: "on", length: math.MaxInt64}, ""},
		{`{"action":"on","issued_at":null}`, wish{action: "on"}, ""},
		{"", wish{}, "empty"},
		{"1", wish{}, "no command"},
		{`{"action":"on"`, wish{}, "cannot be read"},
		{`{"action":"on"} {}`, wish{}, "something follows"},
		{`{"for":3}`, wish{}, "no command"},
		{`{"action":"on","ttl":-1}`, wish{}, "ttl"},
		{`{"action":"on","for":"3"}`, wish{}, "cannot be read"},
		{`{"action":"on","issued_at":"yesterday"}`, wish{}, "issued_at"},
		{`{"action":"on","issued_at":1e300}`, wish{}, "issued_at"},
		{`{"action":"on","id":"` + strings.Repeat("x", 200) + `"}`, wish{}, "too long"},
		{strings.Repeat("x", 5000), wish{}, "too long"},
		{`["on"]`, wish{}, "no command"},
	} {
		got, err := readWish([]byte(c.payload), outputActions)
		if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%.60s: %v", c.payload, err)
		}
		if d := cmp.Diff(c.want, got, cmp.AllowUnexported(wish{})); err == nil && d != "" {
			t.Errorf("%s: %s", c.payload, d)
		}
	}
}

func FuzzACommandOverMQTT(f *testing.F) {
	for _, p := range []string{"ON", "", `{"action":"press","for":3,"id":"x","issued_at":1,"ttl":2}`, `{"action":"on","issued_at":"9999-12-31T23:59:59-23:00"}`, "{", "\xff", strings.Repeat(`{"a":`, 1000)} {
		f.Add("output/siren/set", []byte(p), "answers", []byte("1"))
		f.Add("group/house/set", []byte(p), "rm/gate/output/siren/set", []byte{})
	}
	f.Add("output/#/set", []byte("ON"), "+", []byte{})
	f.Add("output/a/b/set", []byte("ON"), "\x00", []byte{})
	taken := 0
	m := &MQTT{Site: house(), OnCommand: func(c Command) {
		taken++
		if c.For < 0 || c.TTL < 0 || c.Action == "" || (c.Output == "") == (c.Group == "") || c.Retained {
			panic(fmt.Sprintf("%+v", c))
		}
		c.Answer(Ack{Status: "done", Seconds: math.NaN()})
	}}
	m.prepare()
	f.Fuzz(func(t *testing.T, topic string, payload []byte, response string, correlation []byte) {
		before := taken
		m.command(topic, &paho.Publish{Topic: "rm/gate/" + topic, Payload: payload, Properties: &paho.PublishProperties{ResponseTopic: response, CorrelationData: correlation}})
		for a, ok := m.acks.next(); ok; a, ok = m.acks.next() {
			if strings.ContainsAny(a.topic, "#+\x00") || a.topic == "" || strings.HasSuffix(a.topic, "/set") || strings.HasPrefix(a.topic, "homeassistant/") || len(a.topic) > 600 {
				t.Fatalf("an answer on %q", a.topic)
			}
			var ack Ack
			if err := json.Unmarshal(a.payload, &ack); err != nil {
				t.Fatal(err)
			}
			if (ack.Status == "rejected") == (taken > before) || ack.Status == "rejected" && ack.Reason == "" {
				t.Fatalf("%+v, taken %v", ack, taken > before)
			}
		}
	})
}

func FuzzAnEarlierAnnouncement(f *testing.F) {
	m := &MQTT{Site: house()}
	m.prepare()
	f.Add(m.announcement()[0].payload)
	f.Add([]byte(`{"cmps":{"old":{"p":"switch"},"bad key":{"p":"switch"},"no_platform":{}}}`))
	f.Add([]byte(`{"cmps":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list := m.retire(outgoing{topic: m.deviceTopic(), payload: b, retain: true})
		if len(list) != 0 && len(list) != 2 {
			t.Fatalf("%d messages", len(list))
		}
		if len(list) == 2 {
			if d := cmp.Diff(string(m.announcement()[0].payload), string(list[1].payload)); d != "" {
				t.Fatal(d)
			}
			if len(announced(list[0].payload)) <= len(announced(list[1].payload)) {
				t.Fatal("nothing is taken back")
			}
		}
	})
}

func TestEntitiesHaveKeysOfTheirOwn(t *testing.T) {
	m := &MQTT{Site: Site{ID: "s", Zones: []Zone{{ID: "hall", Name: "Hall", Analog: true}, {ID: "hall_motion", Name: "Hall motion", Analog: true}},
		Outputs: []Output{{ID: "hall_alarm", Name: "Hall alarm"}, {ID: "hall_motion", Name: "x"}}, Groups: []string{"hall", "erste Etage"}}}
	m.prepare()
	all := m.components()
	if want := 2*5 + 2*2 + 2; len(all) != want {
		t.Errorf("%d entities, want %d", len(all), want)
	}
	seen := map[string]bool{}
	for key, c := range all {
		if !plain.MatchString(key) || !plain.MatchString(c.UniqueID) || seen[c.UniqueID] {
			t.Errorf("%s: %s", key, c.UniqueID)
		}
		seen[c.UniqueID] = true
	}
	if c := all["erste_Etage_panel"]; c.Command != "rm/s/group/erste_Etage/set" || c.Name != "erste Etage" {
		t.Errorf("%+v", c)
	}
	// A command for the group comes with the name that the group has.
	var got Command
	m.OnCommand = func(c Command) { got = c }
	m.command("group/erste_Etage/set", &paho.Publish{Payload: []byte("ARM_AWAY")})
	if got.Group != "erste Etage" {
		t.Errorf("%+v", got)
	}
	m.Group("erste Etage", GroupState{State: "armed"})
	if b := encode(said(m.byID["group/erste_Etage"].state)); !strings.Contains(string(b), "armed_away") {
		t.Errorf("%s", b)
	}
}

func TestAPanelSpeaksHomeAssistantsWords(t *testing.T) {
	for state, want := range map[string]string{"disarmed": "disarmed", "exit": "arming", "armed": "armed_away", "entry": "pending", "alarm": "triggered"} {
		if b := encode(said(GroupState{State: state})); !strings.Contains(string(b), `"state":"`+want+`"`) {
			t.Errorf("%s: %s", state, b)
		}
	}
}

func TestAValueThatIsNoneIsNull(t *testing.T) {
	b := encode(said(ZoneState{Volts: math.NaN(), Percent: math.Inf(1)}))
	if !strings.Contains(string(b), `"volts":null,"percent":null`) {
		t.Errorf("%s", b)
	}
	m := &MQTT{Site: house()}
	m.Event(Event{ID: "1", Time: time.Unix(1<<40, 0), Seconds: math.NaN(), Percent: ptr(math.NaN()), Volts: ptr(math.Inf(-1))})
	if n := m.Health().Waiting; n != 1 {
		t.Errorf("%d wait", n)
	}
}

func TestWhatWaitsIsOnTheMediumWithinASecond(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log, _ := logger(t)
		o := open(t, dir, 0)
		synced := func() uint64 {
			o.files.Lock()
			defer o.files.Unlock()
			return o.synced
		}
		stored := make(bell, 1)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			keep(ctx, o, stored, log)
		}()
		synctest.Wait()
		o.Put([]byte("one"))
		<-stored
		if got := all(o); len(got) != 1 || synced() != 0 {
			t.Errorf("%v, synced up to %d", got, synced())
		}
		time.Sleep(syncEvery + time.Millisecond)
		synctest.Wait()
		if synced() != 1 {
			t.Errorf("synced up to %d", synced())
		}
		o.Put([]byte("two"))
		stop()
		<-done
		if synced() != 2 {
			t.Errorf("synced up to %d at the end", synced())
		}
		o.Close()
	})
}
