package bus

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/vmihailenco/msgpack/v5"
)

// rabbit starts a RabbitMQ node of its own for a test, with its own port mapper.
func rabbit(t *testing.T) *program {
	t.Helper()
	path := need(t, "/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
	mapper := need(t, "epmd")
	dir, port, mapperPort := t.TempDir(), freePort(t), fmt.Sprint(freePort(t))
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	epmd := exec.Command(mapper, "-port", mapperPort, "-address", "127.0.0.1")
	epmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := epmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, path: path, dir: dir, addr: fmt.Sprintf("127.0.0.1:%d", port), env: []string{
		"HOME=" + dir,
		"ERL_EPMD_PORT=" + mapperPort,
		"ERL_EPMD_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODENAME=bus%d@localhost", port),
		fmt.Sprintf("RABBITMQ_NODE_PORT=%d", port),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", freePort(t)),
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "mnesia"),
		"RABBITMQ_LOG_BASE=" + filepath.Join(dir, "log"),
		"RABBITMQ_PID_FILE=" + filepath.Join(dir, "pid"),
		"RABBITMQ_CONFIG_FILE=" + write("rabbitmq.conf", fmt.Sprintf("listeners.tcp.1 = 127.0.0.1:%d\nlog.console.level = error\n", port)),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + write("plugins", "[].\n"),
		"RABBITMQ_CONF_ENV_FILE=" + write("env", ""),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
	}}
	write(".erlang.cookie", rand.Text())
	if err := os.Chmod(filepath.Join(dir, ".erlang.cookie"), 0o400); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stop()
		syscall.Kill(epmd.Process.Pid, syscall.SIGKILL)
		epmd.Wait()
		if t.Failed() {
			t.Logf("rabbitmq: %s", p.out)
		}
	})
	p.start()
	return p
}

// oldWorld is a peer as the original's event processor: it reads what boards send as that one does and sends the
// original's commands.
type oldWorld struct {
	t    *testing.T
	ch   *amqp.Channel
	mu   sync.Mutex
	got  []heard
	used int
}

// heard is a message as the event processor reads it: fields it does not know are passed over.
type heard struct {
	key string
	raw amqp.Delivery

	Timestamp string `msgpack:"timestamp"`
	Inputs    []struct {
		Name     string  `msgpack:"name"`
		Type     string  `msgpack:"type"`
		Location string  `msgpack:"location"`
		Key      string  `msgpack:"device_key"`
		Label    string  `msgpack:"device_label"`
		Sample   *int    `msgpack:"sample_value"`
		State    *string `msgpack:"state"`
		Detail   *string `msgpack:"event_detail"`
	} `msgpack:"inputs"`
	Outputs []struct {
		Type     string `msgpack:"type"`
		Location string `msgpack:"location"`
		Key      string `msgpack:"device_key"`
	} `msgpack:"outputs"`
	Event    string `msgpack:"event"`
	ID       string `msgpack:"event_id"`
	Replayed bool   `msgpack:"replayed"`
}

// triggers gives what the event processor acts on, in its order: it stops at an input of a type it cannot use.
func (h heard) triggers() (keys []string) {
	for _, in := range h.Inputs {
		kind := strings.ToLower(in.Type)
		switch {
		case strings.HasSuffix(kind, "detector"):
		case strings.HasSuffix(kind, "sensor"), strings.HasSuffix(kind, "contact"), strings.HasSuffix(kind, "meter"):
			continue
		default:
			return keys
		}
		if in.State != nil && (*in.State == "active" || *in.State == "on" || *in.State == "triggered") {
			keys = append(keys, in.Key)
		}
	}
	return keys
}

func newOldWorld(t *testing.T, addr string) *oldWorld {
	t.Helper()
	w := &oldWorld{t: t}
	conn, err := amqp.Dial("amqp://guest:guest@" + addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.ch, err = conn.Channel()
	must(err)
	must(w.ch.ExchangeDeclare("home_automation", "topic", false, false, false, false, nil))
	must(w.ch.ExchangeDeclare("home_automation_control", "direct", false, false, false, false, nil))
	q, err := w.ch.QueueDeclare("", false, false, true, false, nil)
	must(err)
	must(w.ch.QueueBind(q.Name, "event.#", "home_automation", false, nil))
	ds, err := w.ch.Consume(q.Name, "", true, true, false, false, nil)
	must(err)
	wg.Go(func() {
		for d := range ds {
			h := heard{key: d.RoutingKey, raw: d}
			if err := msgpack.Unmarshal(d.Body, &h); err != nil {
				t.Errorf("%s: %v", d.RoutingKey, err)
			}
			w.mu.Lock()
			w.got = append(w.got, h)
			w.mu.Unlock()
		}
	})
	return w
}

// await gives the next message of a kind, notify or heartbeat.
func (w *oldWorld) await(kind string) (h heard) {
	w.t.Helper()
	eventually(w.t, kind, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for w.used < len(w.got) {
			h = w.got[w.used]
			if w.used++; strings.Contains(h.key, "."+kind+".") {
				return true
			}
		}
		return false
	})
	return h
}

// command sends what the event processor sends for an output, with the expiration that it gives.
func (w *oldWorld) command(body map[string]any, p amqp.Publishing) {
	w.t.Helper()
	var err error
	if p.Body == nil {
		if p.Body, err = msgpack.Marshal(body); err != nil {
			w.t.Fatal(err)
		}
	}
	p.Expiration = "60000"
	if err := w.ch.PublishWithContext(w.t.Context(), "home_automation_control", "event.trigger.ioboard", false, false, p); err != nil {
		w.t.Fatal(err)
	}
}

// order is the original's command.
func orderFor(key string, params any, unix int64) map[string]any {
	return map[string]any{
		"timestamp":    unix,
		"active_input": map[string]any{"name": "Hall", "type": "Motion Detector", "sample_value": 51, "nested": []any{map[string]any{}}},
		"output_triggered": map[string]any{"device_key": key, "device_type": "Siren", "device_label": "Siren", "device_params": params,
			"trigger_topic": "event.trigger.ioboard", "trigger_interval": 60, "device_enabled": true},
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
}

func TestTheOriginalsPlaceIsTaken(t *testing.T) {
	t.Parallel()
	broker := rabbit(t)
	way := newGate(t, broker.addr)
	log, said := logger(t)
	// Somebody with a wrong password; the broker takes its time to say so.
	strangerLog, strangerSaid := logger(t)
	stranger := &AMQP{URL: "amqp://guest:s3cret@" + broker.addr, Log: strangerLog}
	running(t, stranger, stranger.Run)
	world := newOldWorld(t, broker.addr) // its exchanges are there first, not durable
	commands := make(chan Command, 10)
	dir := t.TempDir()
	site := house()
	site.Zones = append([]Zone{{ID: "odd", Name: "Odd", Type: "PIR", Location: "Attic"}}, site.Zones...)
	site.Zones[1].Tamper = "sabotage"
	a := &AMQP{URL: "amqp://guest:guest@" + way.addr, DeviceName: "garden", Site: site, Log: log, Late: -1,
		Outbox: open(t, dir, 0), OnCommand: func(c Command) { commands <- c }}
	stop := running(t, a, a.Run)

	first := world.await("heartbeat")
	if first.key != "event.heartbeat.ioboard.garden" || len(first.triggers()) != 0 || len(first.Inputs) != 3 || len(first.Outputs) != 2 {
		t.Errorf("%+v", first)
	}
	if _, err := time.Parse("2006-01-02T15:04:05Z", first.Timestamp); err != nil {
		t.Error(err)
	}
	if in := first.Inputs[0]; in.Name != "Hall" || in.Key != "Hall Motion Detector (Hall)" || in.Label != "Hall Motion Detector" || in.State != nil || in.Sample != nil {
		t.Errorf("%+v", in)
	}
	if out := first.Outputs[0]; out.Key != "Roof Siren" || out.Type != "Siren" || out.Location != "Roof" {
		t.Errorf("%+v", out)
	}
	if last := first.Inputs[2]; last.Type != "PIR" {
		t.Errorf("an input that the event processor stumbles over is not the last: %+v", first.Inputs)
	}
	if n := strings.Count(said.String(), "does not end in Detector"); n != 1 {
		t.Errorf("warned %d times", n)
	}
	connected(t, a)

	// What is told, and how.
	quiet := events(9, 10)[0]
	quiet.Quiet = true
	for _, e := range []Event{quiet, {ID: "m", Kind: "motion", Zone: "hall"}, {ID: "p", Kind: "restore", From: "pre_alarm", Zone: "hall"}, {ID: "g", Kind: "armed", Group: "house"}} {
		a.Event(e) // nobody hears of these
	}
	for _, e := range []struct {
		event                 Event
		trigger, state, value string
		detail                any
	}{
		{Event{ID: "1", Time: at(1), Kind: "alarm", Zone: "hall", Percent: ptr(51.9)}, "Hall Motion Detector (Hall)", "triggered", "51", nil},
		{Event{ID: "2", Time: at(2), Kind: "tamper", Zone: "hall", Percent: ptr(78)}, "Hall Motion Detector (Hall)", "triggered", "78", "sabotage"},
		{Event{ID: "3", Time: at(3), Kind: "fault", Zone: "back_door", Reason: "nothing was read for 3 s"}, "", "fault", "", "fault: nothing was read for 3 s"},
		{Event{ID: "4", Time: at(4), Kind: "restore", From: "fault", Zone: "back_door", Percent: ptr(0)}, "", "OK", "0", nil},
	} {
		a.Event(e.event)
		h := world.await("notify")
		if got := strings.Join(h.triggers(), " "); got != e.trigger || h.ID != e.event.ID || h.key != "event.notify.ioboard.garden" || h.Event != e.event.Kind || h.Replayed {
			t.Errorf("%s: triggers %q: %+v", e.event.ID, got, h)
		}
		if h.Timestamp != e.event.Time.Format("2006-01-02T15:04:05Z") || len(h.Inputs) != 3 || len(h.Outputs) != 2 {
			t.Errorf("%s: %+v", e.event.ID, h)
		}
		if r := h.raw; r.MessageId != e.event.ID || r.AppId != "remote-monitor" || r.ContentType != "application/x-msgpack" || !r.Timestamp.Equal(e.event.Time) {
			t.Errorf("%s: %+v", e.event.ID, r)
		}
		for _, in := range h.Inputs {
			switch mine := strings.EqualFold(strings.ReplaceAll(in.Name, " ", "_"), e.event.Zone); {
			case mine && (in.State == nil || *in.State != e.state):
				t.Errorf("%s: state %v", e.event.ID, in.State)
			case mine && (in.Sample == nil) != (e.value == "") || in.Sample != nil && fmt.Sprint(*in.Sample) != e.value:
				t.Errorf("%s: value %v", e.event.ID, in.Sample)
			case mine && (e.detail == nil) != (in.Detail == nil) || in.Detail != nil && *in.Detail != e.detail:
				t.Errorf("%s: detail %v", e.event.ID, in.Detail)
			case !mine && in.State != nil:
				t.Errorf("%s: %s has a state", e.event.ID, in.Name)
			}
		}
		var raw map[string]any
		if err := msgpack.Unmarshal(h.raw.Body, &raw); err != nil {
			t.Fatal(err)
		}
		in := raw["inputs"].([]any)[0].(map[string]any)
		if v, ok := in["event_detail"]; (in["state"] != nil) != ok {
			t.Errorf("%s: event_detail %v, %v", e.event.ID, v, ok)
		}
	}

	// The original's commands.
	world.command(orderFor("Front Light", "1", 1), amqp.Publishing{})                              // another board's
	world.command(map[string]any{"something": "else", "output_triggered": nil}, amqp.Publishing{}) // another message
	world.command(nil, amqp.Publishing{Body: []byte("\xde\xff\xff garbage")})
	world.command(orderFor("Roof Siren", "abc", 1), amqp.Publishing{})
	world.command(orderFor("Roof Siren", "-1", 1), amqp.Publishing{})
	now := time.Now().Unix()
	world.command(orderFor("Roof Siren", "2.5", now), amqp.Publishing{})
	c := <-commands
	c.Answer(Ack{Status: "accepted"}) // goes nowhere: nobody asked for it
	c.Answer = nil
	if d := cmp.Diff(Command{ID: fmt.Sprintf("Roof Siren@%d", now), Output: "siren", Action: "pulse", For: 2500 * time.Millisecond,
		IssuedAt: time.Unix(now, 0).UTC(), TTL: time.Minute, Source: "amqp", Who: "event.trigger.ioboard"}, c); d != "" {
		t.Error(d)
	}
	answers, err := world.ch.QueueDeclare("", false, false, true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := world.ch.Consume(answers.Name, "", true, true, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	world.command(orderFor("Drive Gate Opener", nil, now), amqp.Publishing{ReplyTo: answers.Name, CorrelationId: "42", MessageId: "mine"})
	c = <-commands
	if c.ID != "mine" || c.Output != "gate" || c.For != 0 {
		t.Errorf("%+v", c)
	}
	c.Answer(Ack{Status: "done", Seconds: 1, ReadBack: true, Time: at(7)})
	r := <-reply
	var ack map[string]any
	if err := msgpack.Unmarshal(r.Body, &ack); err != nil || r.CorrelationId != "42" {
		t.Errorf("%v, %s", err, r.CorrelationId)
	}
	if d := cmp.Diff(map[string]any{"id": "mine", "output": "gate", "status": "done", "reason": "", "on_seconds": 1.0, "read_back": true, "time": "2026-11-01T12:00:07Z",
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, ack); d != "" {
		t.Error(d)
	}
	world.command(orderFor("Roof Siren", "nan", now), amqp.Publishing{ReplyTo: answers.Name})
	if r = <-reply; !strings.Contains(string(r.Body), "rejected") || !strings.Contains(string(r.Body), "NaN") {
		t.Errorf("%q", r.Body)
	}

	// Idle for five seconds: a heartbeat by itself.
	from := len(world.got)
	eventually(t, "a heartbeat", func() bool {
		world.mu.Lock()
		defer world.mu.Unlock()
		return len(world.got) > from
	})
	world.await("heartbeat")

	// An outage, and a restart of the program in it.
	way.close()
	eventually(t, "no connection", func() bool { return !a.Health().Connected })
	for _, e := range events(0, 150) {
		a.Event(e)
	}
	eventually(t, "all stored", func() bool { return a.Health().Waiting == 150 })
	stop()
	if err := a.Outbox.Close(); err != nil {
		t.Error(err)
	}
	b := &AMQP{URL: a.URL, DeviceName: "garden", Site: site, Log: log, Late: -1, Outbox: open(t, dir, 0)}
	defer b.Outbox.Close()
	running(t, b, b.Run)
	for _, e := range events(150, 160) {
		b.Event(e)
	}
	broker.stop() // and the broker, too
	broker.start()
	world = newOldWorld(t, broker.addr)
	way.open()
	connected(t, b)
	for _, e := range events(160, 161) {
		b.Event(e)
	}
	for i := range 161 {
		h := world.await("notify")
		if h.ID != fmt.Sprint("e", i) || h.Timestamp != at(i).Format("2006-01-02T15:04:05Z") || h.Replayed != (i < 160) || len(h.triggers()) != 1 {
			t.Fatalf("message %d: %+v", i, h)
		}
		if _, ok := h.raw.Headers["replayed"]; ok != h.Replayed {
			t.Errorf("message %d: headers %v", i, h.raw.Headers)
		}
	}
	eventually(t, "an empty outbox", func() bool { return b.Health().Waiting == 0 })

	t.Run("an exchange of another kind is named", func(t *testing.T) {
		if err := world.ch.ExchangeDeclare("firm", "topic", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		x := &AMQP{URL: "amqp://guest:guest@" + broker.addr, Exchange: "firm", Site: house(), Log: log}
		running(t, x, x.Run)
		eventually(t, "trouble", func() bool { return strings.Contains(x.Health().Trouble, "exchange firm of another kind") })
	})
	eventually(t, "trouble", func() bool { return strings.Contains(strangerSaid.String(), "403") })
	if strings.Contains(strangerSaid.String()+stranger.Health().Trouble, "s3cret") {
		t.Error("the password is told")
	}
}

func TestAnAMQPBrokerThatIsNotThereIsTroubleAndNotTheEnd(t *testing.T) {
	log, _ := logger(t)
	a := &AMQP{URL: fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d", freePort(t)), Site: house(), Log: log}
	stop := running(t, a, a.Run)
	eventually(t, "trouble", func() bool { return strings.Contains(a.Health().Trouble, "refused") })
	stop()
	for name, url := range map[string]string{"no URL": "", "another protocol": "http://localhost", "not a URL": "amqp://user:s3cret@lo calhost"} {
		a := &AMQP{URL: url, Site: house()}
		err := a.Run(context.Background())
		if err == nil || a.Health().Trouble != err.Error() || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
