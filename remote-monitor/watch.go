package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dunlin/dunlin/remote-monitor/board"
	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/config"
	"github.com/dunlin/dunlin/remote-monitor/metrics"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/page"
	"github.com/dunlin/dunlin/remote-monitor/ping"
	"github.com/dunlin/dunlin/remote-monitor/recording"
	"github.com/dunlin/dunlin/remote-monitor/sentry"
	"github.com/dunlin/dunlin/remote-monitor/syslog"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

// lastWords is how long brokers and others are given to pass on what they have when the monitor has ended. They take a
// second or two for it by themselves. Outputs are off by then.
const lastWords = 3 * time.Second

// healthSocket is where the running program says whether all is well: an abstract socket, which needs no file and ends
// with the program.
const healthSocket = "@remote-monitor"

// textLog is a log for people, on standard error.
func textLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func runMonitor(k *call) error {
	file := k.flags.String("config", "", "the configuration `FILE`; without it /data/remote-monitor.yaml or /etc/remote-monitor.yaml, if there is one")
	record := k.flags.String("record", "", "also write what the inputs read to `FILE`, as CSV")
	if err := k.parse(0, 0); err != nil {
		return err
	}
	c, err := k.configuration(*file)
	if err != nil {
		return err
	}
	return k.watch(c, *record)
}

// watch introduces the rooms to each other and runs them until the monitor ends.
func (k *call) watch(c config.Config, record string) (err error) {
	w := &watcher{call: k, config: c, log: textLog(k.stderr)}
	for _, n := range c.Notes {
		fmt.Fprintf(k.stderr, "remote-monitor: %s\n", n)
	}
	m := &monitor.Monitor{
		Version: version, Greeting: hello, Config: c, Open: opener(c), Undervoltage: monitor.FirmwareUndervoltage("/sys"),
	}
	if c.Samples {
		m.Greeting += "; no INPUT_1_NAME and so on is set, so these are sample zones"
	}
	if c.Data != "" {
		m.State = monitor.StateFile{Path: filepath.Join(c.Data, "state.json")}
	}
	if err := w.tell(m); err != nil {
		return err
	}
	m.Log = w.log
	if record != "" {
		rec, err := recording.Create(record, 0, 0)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rec.Close()) }()
		m.OnScan = recorder(rec, c, w.log)
	}
	if err := w.brokers(m); err != nil {
		return err
	}
	defer w.closeOutboxes()
	if err := w.show(m); err != nil {
		return err
	}
	w.beats(m)

	// What serves the monitor outlives it, so that its last words get out.
	ctx, stop := context.WithCancel(context.WithoutCancel(k.Context))
	defer stop()
	var serving sync.WaitGroup
	serve := func(ctx context.Context, s service) {
		if err := s.run(ctx); err != nil && ctx.Err() == nil {
			w.log.Error(s.name+" ended", "err", err)
		}
	}
	for _, s := range w.services {
		serving.Go(func() { serve(ctx, s) })
	}
	// The hardware watchdog is told of an orderly end alone. After any other it is left to run out, unless the next
	// start comes in time.
	orderly, released := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(released)
		if w.hardware != nil {
			ctx, release := context.WithCancel(context.WithoutCancel(k.Context))
			defer release()
			go func() { <-orderly; release() }()
			serve(ctx, service{"watchdog", w.hardware.Run})
		}
	}()
	if err = m.Run(k.Context); err == nil {
		close(orderly)
		<-released
	}
	if w.ending != nil {
		w.ending(err)
	}
	stop()
	over := make(chan struct{})
	go func() { serving.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(lastWords):
	}
	return err
}

// watcher is what watch puts together.
type watcher struct {
	*call
	config   config.Config
	log      *slog.Logger
	services []service
	outboxes []*bus.Outbox
	hardware *ping.Watchdog // nil: none
	ending   func(error)    // tells others how it ended
}

// service is something that runs as long as the monitor does.
type service struct {
	name string
	run  func(context.Context) error
}

func (w *watcher) serve(name string, run func(context.Context) error) {
	w.services = append(w.services, service{name, run})
}

// opener finds the board the configuration names.
func opener(c config.Config) func(context.Context) (board.Board, error) {
	return func(ctx context.Context) (board.Board, error) {
		switch {
		case c.NoStart:
			return nil, errors.New("NO_START is set, so nothing is watched")
		case len(c.Board.Chips) == 0:
			return nil, errors.New("no board is configured, so nothing is watched; set REMOTE_MONITOR_BOARD=simulated to try it without hardware")
		}
		return board.Open(ctx, c.Board)
	}
}

// tell sends events to standard output, and with the log to syslog and Sentry.
func (w *watcher) tell(m *monitor.Monitor) error {
	lines := monitor.Lines(w.stdout)
	m.Emit = lines
	own := w.log // for who is told of the others' errors
	handlers := all{own.Handler()}
	if s := w.config.Syslog; s != nil {
		sink, err := syslog.New(syslog.Settings{Network: s.Network, Address: s.Address, CA: s.CA, Host: w.config.Device, App: "remote-monitor", Log: own})
		if err != nil {
			return config.Error{"syslog: " + err.Error()}
		}
		w.serve("syslog", sink.Run)
		handlers = append(handlers, sink.Handler(slog.LevelInfo))
		m.Emit = func(line any) error {
			forward(sink, line)
			return lines(line)
		}
	}
	if w.config.Sentry != "" {
		client, err := sentry.New(sentry.Settings{DSN: w.config.Sentry, Release: "remote-monitor@" + version, Device: w.config.Device, Log: own})
		if err != nil {
			return config.Error{"sentry: " + err.Error()}
		}
		w.serve("sentry", client.Run)
		handlers = append(handlers, client.Handler())
		m.Panicked = client.Panicked
	}
	w.log = slog.New(handlers)
	return nil
}

// forward says an event to syslog, as bad as it is.
func forward(sink *syslog.Writer, line any) {
	switch e := line.(type) {
	case bus.Event:
		severity := syslog.Info
		switch e.Kind {
		case string(zone.Alarm), string(zone.Tamper):
			severity = syslog.Alert
		case string(zone.Fault), "output_fault", "output_unconfirmed", "forced_off", "expander_reset":
			severity = syslog.Err
		case string(zone.PreAlarm), string(zone.Silent):
			severity = syslog.Warning
		}
		if e.Quiet {
			severity = syslog.Info
		}
		data := []syslog.Param{{Name: "id", Value: e.ID}}
		for _, p := range []syslog.Param{{Name: "zone", Value: e.Zone}, {Name: "output", Value: e.Output}, {Name: "group", Value: e.Group}, {Name: "state", Value: e.State}} {
			if p.Value != "" {
				data = append(data, p)
			}
		}
		sink.Event(e.Time, severity, e.Kind, e.Reason, data...)
	case monitor.Line:
		sink.Event(e.Time, syslog.Info, e.Event, e.Reason)
	}
}

// all is several handlers of one log.
type all []slog.Handler

func (a all) Enabled(ctx context.Context, l slog.Level) bool {
	return slices.ContainsFunc(a, func(h slog.Handler) bool { return h.Enabled(ctx, l) })
}

func (a all) Handle(ctx context.Context, r slog.Record) error {
	var errs []error
	for _, h := range a {
		if h.Enabled(ctx, r.Level) {
			errs = append(errs, h.Handle(ctx, r.Clone()))
		}
	}
	return errors.Join(errs...)
}

func (a all) WithAttrs(attrs []slog.Attr) slog.Handler {
	return a.each(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (a all) WithGroup(name string) slog.Handler {
	return a.each(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (a all) each(f func(slog.Handler) slog.Handler) all {
	b := make(all, len(a))
	for i, h := range a {
		b[i] = f(h)
	}
	return b
}

// site is what brokers are told of.
func (w *watcher) site() bus.Site {
	c := w.config
	s := bus.Site{ID: config.ID(c.Device), Name: c.Device, Version: version}
	var kinds []string
	for _, chip := range c.Board.Chips {
		if k := string(chip.Kind); len(kinds) == 0 || kinds[len(kinds)-1] != k {
			kinds = append(kinds, k)
		}
	}
	s.Model = strings.Join(kinds, " + ")
	for i, z := range c.Zones {
		set := c.Site.Zones[i]
		s.Zones = append(s.Zones, bus.Zone{
			ID: z.ID, Name: z.Name, Type: z.Type, Location: z.Location, Class: z.Class, Group: set.Group,
			Analog: set.Signal == zone.Loop || set.Signal == zone.Analog || set.Signal == "", Key: z.Key, Label: z.Label, Tamper: z.Tamper,
		})
	}
	for i, o := range c.Outputs {
		s.Outputs = append(s.Outputs, bus.Output{ID: o.ID, Name: o.Name, Type: o.Type, Location: o.Location, Key: o.Key, Momentary: c.Relay.Outputs[i].Momentary()})
	}
	for _, g := range c.Site.Groups {
		s.Groups = append(s.Groups, g.Name)
	}
	return s
}

// outbox is what bridges the time a broker is away. Without a disk that can be used it is kept in memory: to watch and
// lose events over a restart is better than not to watch.
func (w *watcher) outbox(name string, limit int) (*bus.Outbox, error) {
	folder := ""
	if w.config.Data != "" {
		folder = filepath.Join(w.config.Data, "outbox-"+name)
	}
	box, err := bus.OpenOutbox(folder, limit)
	if err != nil {
		w.log.Error("events that wait for the broker are kept in memory alone", "err", err)
		if box, err = bus.OpenOutbox("", limit); err != nil {
			return nil, err
		}
	}
	w.outboxes = append(w.outboxes, box)
	return box, nil
}

func (w *watcher) closeOutboxes() {
	for _, box := range w.outboxes {
		if err := box.Close(); err != nil {
			w.log.Error("close outbox", "err", err)
		}
	}
}

func (w *watcher) brokers(m *monitor.Monitor) error {
	site := w.site()
	if c := w.config.MQTT; c != nil {
		secure, err := tlsOf(c.CA, c.Cert, c.Key, c.Insecure)
		if err != nil {
			return config.Error{"mqtt: " + err.Error()}
		}
		box, err := w.outbox("mqtt", c.Outbox)
		if err != nil {
			return err
		}
		b := &bus.MQTT{
			URL: c.URL, User: c.User, Password: c.Password, ClientID: c.ClientID, TLS: secure, Prefix: c.Prefix, Discovery: c.Discovery,
			Components: c.Components, Expire: c.Expire, Outbox: box, Site: site, OnCommand: m.Command, Log: w.log,
		}
		m.Brokers = append(m.Brokers, b)
		w.serve("mqtt", b.Run)
	}
	if c := w.config.AMQP; c != nil {
		secure, err := tlsOf(c.CA, "", "", false)
		if err != nil {
			return config.Error{"amqp: " + err.Error()}
		}
		box, err := w.outbox("amqp", c.Outbox)
		if err != nil {
			return err
		}
		b := &bus.AMQP{
			URL: c.URL, Exchange: c.Exchange, Topic: c.Topic, DeviceName: w.config.Device, TLS: secure, Level: c.Level, Outbox: box, Site: site,
			OnCommand: m.Command, Log: w.log,
		}
		m.Brokers = append(m.Brokers, b)
		w.serve("amqp", b.Run)
	}
	return nil
}

// tlsOf is what a broker's connection is checked by; nil: what the system has.
func tlsOf(ca, cert, key string, insecure bool) (*tls.Config, error) {
	if ca == "" && cert == "" && !insecure {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if ca != "" {
		b, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read the authorities: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", ca)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("read the client's certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// show serves the status page, the metrics and the health of the monitor.
func (w *watcher) show(m *monitor.Monitor) error {
	counts := metrics.New(m.Snapshot)
	m.Observers = append(m.Observers, counts)

	p := &page.Page{Snapshot: m.Snapshot, Frames: m.Frames, Log: w.log}
	if local, err := net.Listen("unix", healthSocket); err != nil {
		w.log.Warn("remote-monitor health will not work: is another one running?", "err", err)
	} else {
		w.serve("health", p.Health(local))
	}
	c := w.config.Page
	if c == nil {
		return nil
	}
	p.Command, p.Token = m.Command, c.Token
	if c.Metrics {
		p.Metrics = counts
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("cannot serve the status page at %s: %w; give it another address", c.Listen, err)
	}
	w.serve("page", func(ctx context.Context) error { return p.Serve(ctx, l) })
	return nil
}

// beats tells those who wait for a sign of life from inside the loop.
func (w *watcher) beats(m *monitor.Monitor) {
	c := w.config
	pinger := &ping.Pinger{URL: c.Ping.URL, Cronitor: c.Ping.Cronitor, Every: c.Ping.Every, Host: c.Device, Log: w.log}
	if c.Ping.URL != "" || c.Ping.Cronitor != "" {
		w.serve("ping", pinger.Run)
		w.ending = func(err error) {
			if err != nil {
				pinger.Ends(failed)
			}
		}
	}
	manager := &ping.Service{Log: w.log}
	w.serve("systemd", manager.Run)
	if c.Watchdog != "" {
		w.hardware = &ping.Watchdog{Path: c.Watchdog, Log: w.log}
	}
	m.Beat = func(now time.Time, healthy bool, status string) {
		pinger.Beat(now, healthy, status)
		manager.Beat()
		if w.hardware != nil {
			w.hardware.Beat()
		}
	}
}

// recorder writes each scan. A disk that is full ends the recording and not the watch.
func recorder(out *recording.Writer, c config.Config, log *slog.Logger) func(zone.Scan) {
	r := &recording.Recorder{Writer: out, Zones: c.Site.Zones}
	broken := false
	return func(s zone.Scan) {
		if broken {
			return
		}
		if err := r.Scan(s); err != nil {
			broken = true
			log.Error("recording ended", "err", err)
		}
	}
}

func runHealth(k *call) error {
	if err := k.parse(0, 0); err != nil {
		return err
	}
	client := &http.Client{Timeout: 4 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", healthSocket)
		},
	}}
	res, err := client.Get("http://remote-monitor/healthz")
	if err != nil {
		return fmt.Errorf("nobody answers, so no remote-monitor runs in this container or on this machine: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(text)))
	}
	_, err = k.stdout.Write(text)
	return err
}
