package bus

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/google/go-cmp/cmp"
)

// peer is another client of the broker: it hears everything.
type peer struct {
	t    *testing.T
	c    *paho.Client
	mu   sync.Mutex
	got  []*paho.Publish
	used int
}

func newPeer(t *testing.T, addr, name string) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t}
	p.c = paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(r paho.PublishReceived) (bool, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.got = append(p.got, r.Packet)
			return true, nil
		},
	}})
	ctx, stop := context.WithTimeout(t.Context(), safety)
	defer stop()
	if _, err := p.c.Connect(ctx, &paho.Connect{ClientID: name, CleanStart: true, KeepAlive: 60}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.c.Disconnect(&paho.Disconnect{}) })
	if _, err := p.c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "#", QoS: 1, RetainAsPublished: true, NoLocal: true}}}); err != nil {
		t.Fatal(err)
	}
	return p
}

// await gives the next message on a topic whose payload has all the words; what comes before it is passed over.
func (p *peer) await(topic string, words ...string) *paho.Publish {
	p.t.Helper()
	var found *paho.Publish
	defer func() {
		if found == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, m := range p.got {
				p.t.Logf("heard %s: %.300s", m.Topic, m.Payload)
			}
		}
	}()
	eventually(p.t, topic+" "+strings.Join(words, " "), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
	next:
		for p.used < len(p.got) {
			m := p.got[p.used]
			p.used++
			if m.Topic != topic {
				continue
			}
			for _, w := range words {
				if !bytes.Contains(m.Payload, []byte(w)) {
					continue next
				}
			}
			found = m
			return true
		}
		return false
	})
	return found
}

// rewind lets await hear again what was heard.
func (p *peer) rewind() {
	p.mu.Lock()
	p.used = 0
	p.mu.Unlock()
}

// all gives what was heard on a topic.
func (p *peer) all(topic string) (list []*paho.Publish) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.got {
		if m.Topic == topic {
			list = append(list, m)
		}
	}
	return list
}

func (p *peer) send(m paho.Publish) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), safety)
	defer stop()
	m.QoS = 1
	if _, err := p.c.Publish(ctx, &m); err != nil {
		p.t.Fatal(err)
	}
}

// heard gives all events so far.
func (p *peer) heard() (list []Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.got {
		var e Event
		if strings.HasSuffix(m.Topic, "/event") && json.Unmarshal(m.Payload, &e) == nil {
			list = append(list, e)
		}
	}
	return list
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, got, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Error(d)
	}
}

func TestASiteIsSeenAndCommandedOverMQTT(t *testing.T) {
	t.Parallel()
	broker := mosquitto(t)
	way := newGate(t, broker.addr)
	log, said := logger(t)
	commands := make(chan Command, 10)
	m := &MQTT{URL: "mqtt://someone:s3cret@" + way.addr, Site: house(), Log: log, Expire: 3 * time.Minute,
		OnCommand: func(c Command) { commands <- c },
		jitter:    func() time.Duration { return 0 }}
	p := newPeer(t, broker.addr, "peer")
	if h := m.Health(); h.Connected || h.Name != "mqtt" || h.Trouble == "" {
		t.Errorf("before Run: %+v", h)
	}
	m.Zone("hall", ZoneState{Time: at(0), State: "normal"}) // replaced before anybody could hear it
	m.Zone("hall", ZoneState{Time: at(1), State: "alarm", Motion: true, Alarm: true, Volts: 2.54321, Percent: 50.8642, Detail: "two pulses in 30 s"})
	m.Zone("nowhere", ZoneState{})
	m.Output("siren", OutputState{Time: at(2), Problem: "the pin stays low"})
	m.Group("house", GroupState{Time: at(3), State: "exit", By: "page"})
	stop := running(t, m, m.Run)

	golden(t, "discovery.json", p.await("homeassistant/device/rm_gate/config").Payload)
	state := p.await("rm/gate/input/hall/state")
	if want := `{"motion":"ON","alarm":"ON","tamper":"OFF","problem":"OFF","volts":2.543,"percent":50.9,"state":"alarm","detail":"two pulses in 30 s","time":"2026-11-01T12:00:01Z"}`; string(state.Payload) != want || !state.Retain {
		t.Errorf("retain %v: %s", state.Retain, state.Payload)
	}
	if got := string(p.await("rm/gate/output/siren/state").Payload); got != `{"state":"OFF","problem":"ON","detail":"the pin stays low","time":"2026-11-01T12:00:02Z"}` {
		t.Error(got)
	}
	if got := string(p.await("rm/gate/group/house/state").Payload); got != `{"state":"arming","group_state":"exit","by":"page","time":"2026-11-01T12:00:03Z"}` {
		t.Error(got)
	}
	if s := p.await("rm/gate/status"); string(s.Payload) != online || !s.Retain {
		t.Errorf("%s, retain %v", s.Payload, s.Retain)
	}
	connected(t, m)

	m.Event(events(0, 1)[0])
	if e := p.await("rm/gate/event"); e.Retain || string(e.Payload) != `{"id":"e0","time":"2026-11-01T12:00:00Z","event":"alarm","zone":"hall","from":"normal","state":"alarm","value":51,"reason":"two pulses in 30 s"}` {
		t.Errorf("retain %v: %s", e.Retain, e.Payload)
	}
	eventually(t, "an empty outbox", func() bool { return m.Health().Waiting == 0 })

	// A command with everything.
	expiry := uint32(20)
	p.send(paho.Publish{Topic: "rm/gate/output/siren/set", Payload: []byte(`{"id":"c1","action":"press","for":2.5,"issued_at":"2026-11-01T12:00:05Z","ttl":60}`),
		Properties: &paho.PublishProperties{MessageExpiry: &expiry, ResponseTopic: "answers/me", CorrelationData: []byte("42")}})
	c := <-commands
	answer := c.Answer
	c.Answer = nil
	if d := cmp.Diff(Command{ID: "c1", Output: "siren", Action: "pulse", For: 2500 * time.Millisecond, IssuedAt: at(5), TTL: 20 * time.Second,
		Source: "mqtt", Who: "rm/gate/output/siren/set"}, c); d != "" {
		t.Error(d)
	}
	answer(Ack{Status: "accepted", Time: at(6)})
	answer(Ack{Status: "done", Seconds: 2.5, ReadBack: true, Time: at(8)})
	want := `{"id":"c1","output":"siren","status":"done","on_seconds":2.5,"read_back":true,"time":"2026-11-01T12:00:08Z"}`
	p.await("rm/gate/output/siren/ack", `"accepted"`)
	if a := p.await("answers/me", "done"); string(a.Payload) != want || string(a.Properties.CorrelationData) != "42" {
		t.Errorf("%s, correlation %s", a.Payload, a.Properties.CorrelationData)
	}
	p.rewind()
	if a := p.await("rm/gate/output/siren/ack", "done"); string(a.Payload) != want || a.Retain {
		t.Errorf("%s", a.Payload)
	}

	// Plain words, as Home Assistant sends them.
	for _, w := range []struct{ topic, word, output, group, action string }{
		{"output/siren", "ON", "siren", "", "on"}, {"output/siren", "OFF", "siren", "", "off"}, {"output/gate", "PRESS", "gate", "", "pulse"},
		{"group/house", "ARM_AWAY", "", "house", "arm"}, {"group/house", "DISARM", "", "house", "disarm"},
	} {
		p.send(paho.Publish{Topic: "rm/gate/" + w.topic + "/set", Payload: []byte(w.word)})
		if c := <-commands; c.Output != w.output || c.Group != w.group || c.Action != w.action || c.ID != "" {
			t.Errorf("%s %s: %+v", w.topic, w.word, c)
		}
	}

	// What is refused is answered.
	for _, r := range []struct {
		topic, payload, why string
		retain              bool
	}{
		{"output/siren", "ON", "retained", true},
		{"output/siren", "EXPLODE", "send ON, OFF, PRESS", false},
		{"output/siren", `{"action":"ON","fro":3}`, "fro", false},
		{"output/siren", `{"action":"ON","for":-3}`, "less than no time", false},
		{"output/nothing", "ON", "there is no output", false},
		{"group/house", "ON", "ARM_AWAY", false},
	} {
		p.send(paho.Publish{Topic: "rm/gate/" + r.topic + "/set", Payload: []byte(r.payload), Retain: r.retain})
		p.await("rm/gate/"+r.topic+"/ack", `"rejected"`, r.why)
	}

	// Home Assistant starts.
	p.send(paho.Publish{Topic: "homeassistant/status", Payload: []byte("online")})
	p.await("homeassistant/device/rm_gate/config")

	// A heartbeat says all states again, because entities expire.
	m.Heartbeat(at(60))
	p.await("rm/gate/input/hall/state", `"alarm"`)
	p.await("rm/gate/heartbeat", `{"time":"2026-11-01T12:01:00Z","version":"1.0.0","waiting":0,"dropped":0}`)

	// The connection breaks: others see it, and see it come back with all states and the command that was left
	// retained refused once more.
	way.close()
	if s := p.await("rm/gate/status"); string(s.Payload) != offline || !s.Retain {
		t.Errorf("%s, retain %v", s.Payload, s.Retain)
	}
	eventually(t, "no connection", func() bool { h := m.Health(); return !h.Connected && h.Trouble != "" })
	for i := range 5 { // all but the last are forgotten
		m.Zone("hall", ZoneState{Time: at(100 + i), State: []string{"normal", "alarm"}[i%2]})
	}
	way.open()
	p.await("rm/gate/input/hall/state", "12:01:44")
	p.await("rm/gate/output/siren/state")
	p.await("rm/gate/status", online)
	for _, m := range p.all("rm/gate/input/hall/state") {
		for i := range 4 {
			if strings.Contains(string(m.Payload), fmt.Sprintf("12:01:4%d", i)) {
				t.Errorf("a state in between was sent: %s", m.Payload)
			}
		}
	}

	// Leaving is seen as well.
	stop()
	p.await("rm/gate/status", offline)
	if strings.Contains(said.String(), "s3cret") {
		t.Error("the password is in the log")
	}
	select {
	case c := <-commands:
		t.Errorf("another command: %+v", c)
	default:
	}
}

func TestEventsOfAnOutageComeInOrderAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	broker := mosquitto(t)
	way := newGate(t, broker.addr)
	dir := t.TempDir()
	log, _ := logger(t)
	run := func() (*MQTT, func()) {
		m := &MQTT{URL: "mqtt://" + way.addr, Site: house(), Outbox: open(t, dir, 0), Log: log, Discovery: "-"}
		stop := running(t, m, m.Run)
		return m, func() {
			stop()
			if err := m.Outbox.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	tell := func(m *MQTT, list []Event) {
		for _, e := range list {
			m.Event(e)
		}
	}
	m, stop := run()
	connected(t, m)
	p := newPeer(t, broker.addr, "first")
	tell(m, events(0, 3))
	p.await("rm/gate/event", `"e2"`)
	eventually(t, "an empty outbox", func() bool { return m.Health().Waiting == 0 })
	if d := cmp.Diff(events(0, 3), p.heard()); d != "" {
		t.Error(d)
	}
	way.close()
	broker.stop()
	eventually(t, "no connection", func() bool { return !m.Health().Connected })
	tell(m, events(3, 200))
	eventually(t, "all stored", func() bool { return m.Health().Waiting == 197 })
	stop()

	m, stop = run()
	defer stop()
	if n := m.Health().Waiting; n != 197 {
		t.Errorf("%d wait after the restart", n)
	}
	tell(m, events(200, 203))
	broker.start()
	p = newPeer(t, broker.addr, "second")
	way.open()
	connected(t, m)
	tell(m, events(203, 205))
	p.await("rm/gate/event", `"e204"`)
	eventually(t, "an empty outbox", func() bool { return m.Health().Waiting == 0 })
	want := events(3, 205)
	for i := range want {
		want[i].Replayed = i < 200
	}
	if d := cmp.Diff(want, p.heard()); d != "" {
		t.Error(d)
	}
}

func TestConnectionsThatBreakMidStreamLoseNothing(t *testing.T) {
	t.Parallel()
	broker := mosquitto(t)
	way := newGate(t, broker.addr)
	log, _ := logger(t)
	m := &MQTT{URL: "mqtt://" + way.addr, Site: house(), Log: log, Discovery: "-"}
	p := newPeer(t, broker.addr, "peer")
	running(t, m, m.Run)
	connected(t, m)
	for i := range 3 {
		for _, e := range events(i*100, i*100+100) {
			m.Event(e)
		}
		p.await("rm/gate/event", fmt.Sprintf("%q", fmt.Sprint("e", i*100+10)))
		way.close() // in the middle of it
		way.open()
	}
	p.await("rm/gate/event", `"e299"`)
	eventually(t, "an empty outbox", func() bool { return m.Health().Waiting == 0 })
	next := 0
	for _, e := range p.heard() {
		var n int
		fmt.Sscanf(e.ID, "e%d", &n)
		switch {
		case n == next:
			next++
		case n > next:
			t.Fatalf("e%d is missing", next)
		case !e.Replayed:
			t.Errorf("e%d once more, and it does not say so", n)
		}
	}
	if h := m.Health(); next != 300 || h.Dropped != 0 {
		t.Errorf("%d events; %+v", next, h)
	}
}

func TestEntitiesThatAreGoneAreTakenBack(t *testing.T) {
	t.Parallel()
	broker := mosquitto(t)
	log, _ := logger(t)
	p := newPeer(t, broker.addr, "peer")
	const whole = "homeassistant/device/rm_gate/config"
	announce := func(change func(*MQTT)) {
		t.Helper()
		m := &MQTT{URL: "mqtt://" + broker.addr, Site: house(), Log: log}
		change(m)
		stop := running(t, m, m.Run)
		connected(t, m)
		stop()
	}
	// read gives the components of the messages of a device, by their fields.
	read := func(list []*paho.Publish) (all []map[string]map[string]any) {
		for _, m := range list {
			var d struct {
				Components map[string]map[string]any `json:"cmps"`
			}
			if len(m.Payload) > 0 {
				if err := json.Unmarshal(m.Payload, &d); err != nil {
					t.Error(err)
				}
			}
			all = append(all, d.Components)
		}
		return all
	}
	announce(func(*MQTT) {})
	announce(func(m *MQTT) { m.Site.Zones = m.Site.Zones[1:] })
	got := read(p.all(whole))
	if len(got) < 3 {
		t.Fatalf("%d messages", len(got))
	}
	first, between, last := got[0], got[len(got)-3], got[len(got)-1]
	if _, ok := first["hall_motion"]; !ok {
		t.Error("hall_motion was not there")
	}
	if d := cmp.Diff(map[string]any{"p": "binary_sensor"}, between["hall_motion"]); d != "" {
		t.Error(d)
	}
	if _, ok := last["hall_motion"]; ok || last["siren"] == nil || between["siren"]["unique_id"] != "rm_gate_siren" {
		t.Errorf("%v", last)
	}

	// Component by component, for an older Home Assistant: the device is taken back.
	announce(func(m *MQTT) { m.Components = true })
	if list := p.all(whole); len(list[len(list)-1].Payload) != 0 || !list[len(list)-1].Retain {
		t.Errorf("the device is still there: %s", list[len(list)-1].Payload)
	}
	golden(t, "component.json", p.await("homeassistant/binary_sensor/rm_gate/hall_motion/config").Payload)
	announce(func(m *MQTT) { m.Components, m.Site.Zones = true, m.Site.Zones[1:] })
	if list := p.all("homeassistant/binary_sensor/rm_gate/hall_motion/config"); len(list) != 2 || len(list[1].Payload) != 0 {
		t.Errorf("%d messages", len(list))
	}
	if list := p.all("homeassistant/switch/rm_gate/siren/config"); len(list) != 2 || len(list[1].Payload) == 0 {
		t.Errorf("the siren is gone")
	}

	// And back.
	announce(func(*MQTT) {})
	if list := p.all("homeassistant/switch/rm_gate/siren/config"); len(list[len(list)-1].Payload) != 0 {
		t.Error("the siren is there twice")
	}
	got = read(p.all(whole))
	if len(got[len(got)-1]) != len(first) {
		t.Errorf("%d components of %d", len(got[len(got)-1]), len(first))
	}
}

func TestTwoSitesOfOneNameDoNotTakeEachOtherBackForEver(t *testing.T) {
	t.Parallel()
	broker := mosquitto(t)
	log, _ := logger(t)
	p := newPeer(t, broker.addr, "peer")
	var twins []*MQTT
	for _, id := range []string{"one", "other"} {
		m := &MQTT{URL: "mqtt://" + broker.addr, ClientID: id, Site: house(), Log: log}
		if id == "one" {
			m.Site.Zones = m.Site.Zones[:1]
		} else {
			m.Site.Zones = m.Site.Zones[1:]
		}
		running(t, m, m.Run)
		connected(t, m)
		twins = append(twins, m)
	}
	const whole = "homeassistant/device/rm_gate/config"
	eventually(t, "the clash is told", func() bool {
		return strings.Contains(twins[0].Health().Trouble+twins[1].Health().Trouble, "another device announces itself")
	})
	if n := len(p.all(whole)); n > 10 {
		t.Errorf("they announced themselves %d times", n)
	}
	// Whoever else is there hears of events all the same.
	twins[0].Event(Event{ID: "1", Kind: "alarm", Zone: "hall"})
	p.await("rm/gate/event", `"alarm"`)
	if n := len(p.all(whole)); n > 10 {
		t.Errorf("they announced themselves %d times", n)
	}
}

func TestEncryptedAndWebSocketConnectionsWork(t *testing.T) {
	t.Parallel()
	broker := mosquitto(t)
	broker.stop()
	cert, pool := certificate(t, broker.dir)
	secure, web := freePort(t), freePort(t)
	conf, err := os.OpenFile(broker.args[1], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conf, "listener %d 127.0.0.1\ncertfile %s\nkeyfile %s\nlistener %d 127.0.0.1\nprotocol websockets\n", secure, cert, cert, web)
	if err := conf.Close(); err != nil {
		t.Fatal(err)
	}
	broker.start()
	log, _ := logger(t)
	for _, m := range []*MQTT{
		{URL: fmt.Sprintf("mqtts://127.0.0.1:%d", secure), TLS: &tls.Config{RootCAs: pool}},
		{URL: fmt.Sprintf("ws://127.0.0.1:%d/mqtt", web)},
	} {
		m.Site, m.Log, m.Discovery, m.ClientID = house(), log, "-", m.URL[:3]
		running(t, m, m.Run)
		connected(t, m)
	}
	stranger := &MQTT{URL: fmt.Sprintf("mqtts://127.0.0.1:%d", secure), Site: house(), Log: log}
	running(t, stranger, stranger.Run)
	eventually(t, "trouble", func() bool { return strings.Contains(stranger.Health().Trouble, "certificate") })
}

// certificate writes a certificate with its key for 127.0.0.1.
func certificate(t *testing.T, dir string) (path string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs})...)
	path = filepath.Join(dir, "broker.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return path, pool
}

func TestWhatTheBrokerDoesNotWantIsSaidAndTriedAgain(t *testing.T) {
	t.Parallel()
	broker := mosquitto(t)
	broker.stop()
	rules := filepath.Join(broker.dir, "rules")
	allow := func(text string) {
		t.Helper()
		if err := os.WriteFile(rules, []byte("topic readwrite #\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	allow("topic deny rm/gate/event\ntopic deny rm/gate/output/siren/state\n")
	conf, err := os.ReadFile(broker.args[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broker.args[1], append(conf, "acl_file "+rules+"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	broker.start()
	log, _ := logger(t)
	m := &MQTT{URL: "mqtt://" + broker.addr, Site: house(), Log: log, Discovery: "-", hold: 20 * time.Millisecond}
	running(t, m, m.Run)
	connected(t, m)
	p := newPeer(t, broker.addr, "peer")
	m.Event(events(0, 1)[0])
	m.Output("siren", OutputState{Time: at(0), On: true})
	m.Output("gate", OutputState{Time: at(0), On: true})
	p.await("rm/gate/output/gate/state", `"ON"`) // what is allowed goes on
	eventually(t, "trouble", func() bool { h := m.Health(); return h.Connected && h.Trouble != "" })
	if h := m.Health(); h.Waiting != 1 || h.Dropped != 0 {
		t.Errorf("%+v", h)
	}
	allow("")
	if err := syscall.Kill(broker.cmd.Process.Pid, syscall.SIGHUP); err != nil { // it reads its rules anew
		t.Fatal(err)
	}
	p.await("rm/gate/output/siren/state", `"ON"`)
	p.rewind()
	p.await("rm/gate/event", `"e0"`, `"replayed":true`)
	eventually(t, "no trouble", func() bool { h := m.Health(); return h.Waiting == 0 && h.Trouble == "" })
}

func TestSettingsThatCanNeverWorkEndTheRun(t *testing.T) {
	for name, m := range map[string]*MQTT{
		"no URL":           {Site: house()},
		"another protocol": {URL: "http://localhost", Site: house()},
		"not a URL":        {URL: "mqtt://user:s3cret@lo calhost", Site: house()},
		"no host":          {URL: "mqtt://:1883", Site: house()},
		"a wildcard":       {URL: "mqtt://localhost", Prefix: "rm/#", Site: house()},
		"a site's name":    {URL: "mqtt://localhost", Site: Site{ID: "my site"}},
		"a zone's name":    {URL: "mqtt://localhost", Site: Site{ID: "gate", Zones: []Zone{{ID: "a/b"}}}},
	} {
		err := m.Run(t.Context())
		if err == nil || m.Health().Trouble != err.Error() {
			t.Errorf("%s: %v, %+v", name, err, m.Health())
			continue
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABrokerThatIsNotThereIsTroubleAndNotTheEnd(t *testing.T) {
	log, said := logger(t)
	m := &MQTT{URL: fmt.Sprintf("mqtt://user:s3cret@127.0.0.1:%d", freePort(t)), Site: house(), Log: log}
	stop := running(t, m, m.Run)
	eventually(t, "trouble", func() bool { return strings.Contains(m.Health().Trouble, "refused") })
	stop()
	if strings.Contains(said.String(), "s3cret") {
		t.Error(said)
	}
}

func TestPausesGrowAndEnd(t *testing.T) {
	if pause(0) != 0 {
		t.Error("the first attempt waits")
	}
	for n := 1; n < 100; n++ {
		least, most := longPause/2, longPause
		if n < 7 { // a quarter of a second doubles six times until it is long
			least, most = firstPause<<(n-1)/2, firstPause<<(n-1)
		} else if n == 7 {
			least = 8 * time.Second
		}
		if p := pause(n); p < least || p > most {
			t.Errorf("pause %d is %v", n, p)
		}
	}
}

func TestAValueThatTremblesIsNoNews(t *testing.T) {
	m := &MQTT{Site: house()}
	s := ZoneState{Time: at(0), State: "normal", Percent: 29}
	news := func(change func(*ZoneState)) bool {
		was := s
		change(&s)
		m.Zone("hall", s)
		c := m.byID["input/hall"]
		fresh := c.dirty
		if c.dirty = false; !fresh {
			s = was
		}
		return fresh
	}
	for _, step := range []struct {
		what   string
		want   bool
		change func(*ZoneState)
	}{
		{"the first", true, func(*ZoneState) {}},
		{"nothing", false, func(s *ZoneState) { s.Time = at(1) }},
		{"a jump at once", false, func(s *ZoneState) { s.Time, s.Percent = at(2), 40 }},
		{"a small move later", false, func(s *ZoneState) { s.Time, s.Percent = at(20), 29.5 }},
		{"a jump later", true, func(s *ZoneState) { s.Time, s.Percent = at(21), 31 }},
		{"motion", true, func(s *ZoneState) { s.Time, s.Motion = at(22), true }},
		{"a jump after the clock was set back", true, func(s *ZoneState) { s.Time, s.Percent = at(-3600), 50 }},
	} {
		if got := news(step.change); got != step.want {
			t.Errorf("%s: %v", step.what, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { m.Zone("hall", s) }); n > 0 {
		t.Errorf("%v allocations for no news", n)
	}
}
