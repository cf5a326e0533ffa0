package agent

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/enginetest"
	"github.com/dunlin/dunlin/internal/wire"
)

const (
	deviceUUID = "5ea4ae56dadb4ceca87ce2b79983b355"
	deviceKey  = "e6f3366f2db74a2fb1d2924826e649ba"
	fleetUUID  = "f1eeaf1eeaf1eeaf1eeaf1eeaf1eea00"
	commitA    = "abcdefabcdefabcdefabcdefabcdef12"
	commitB    = "bbbbbbabcdefabcdefabcdefabcdef12"
)

// cloud is a server that speaks the device protocol as the recording server did, over connections in memory so that it
// lives in a synctest bubble.
type cloud struct {
	conns chan net.Conn
	gone  chan struct{}

	mu       sync.Mutex
	target   []byte
	etag     string
	changed  chan struct{}
	holds    bool // Prefer: wait
	down     bool // every answer is 503
	patchErr int  // status of the next reports' answers
	patchFor int  // how many of them
	tries    []time.Time
	spent    bool // the provisioning key is good for registration alone
	etags    []string
	polls    []time.Time
	reports  []sent
	lines    []wire.LogLine
	streams  int // log streams that were opened
	open     int // log streams that are open
	hangUp   int // lines after which the next stream is answered
	register func(wire.Registration) (int, string)
	devices  map[string]int64 // uuid → id, as the provisioning key sees them
	keys     map[string]string
	deltas   map[string]offered // by "BASE IMAGE"
	asked    int                // questions for a delta
}

// sent is one report and when it came.
type sent struct {
	at   time.Time
	body wire.DeviceReport
	raw  json.RawMessage
}

func newCloud(t *testing.T) *cloud {
	c := &cloud{
		conns: make(chan net.Conn), gone: make(chan struct{}), changed: make(chan struct{}), holds: true,
		devices: map[string]int64{}, keys: map[string]string{deviceUUID: deviceKey},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /device/v3/{uuid}/state", c.state)
	mux.HandleFunc("PATCH /device/v3/state", c.patch)
	mux.HandleFunc("POST /device/v2/{uuid}/log-stream", c.logs)
	mux.HandleFunc("POST /device/register", c.registers)
	mux.HandleFunc("GET /v7/device", c.device)
	mux.HandleFunc("GET /v7/application", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"d":[{"id":7,"slug":"admin/fleet1"}]}`)
	})
	mux.HandleFunc("POST /api-key/device/{id}/device-key", c.exchange)
	mux.HandleFunc("GET /auth/v1/token", c.token)
	mux.HandleFunc("GET /api/v3/delta", c.delta)
	mux.HandleFunc("GET /v2/", c.blob)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		down := c.down
		c.mu.Unlock()
		if down {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	})}
	go server.Serve(c)
	t.Cleanup(func() { server.Close() })
	return c
}

func (c *cloud) Accept() (net.Conn, error) {
	select {
	case conn := <-c.conns:
		return conn, nil
	case <-c.gone:
		return nil, net.ErrClosed
	}
}

func (c *cloud) Close() error {
	close(c.gone)
	return nil
}

func (c *cloud) Addr() net.Addr { return &net.UnixAddr{Name: "cloud"} }

func (c *cloud) client() *http.Client {
	return &http.Client{Transport: &http.Transport{ExpectContinueTimeout: 5 * time.Second, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		near, far := net.Pipe()
		select {
		case c.conns <- far:
			return near, nil
		case <-c.gone:
			return nil, errors.New("network is unreachable")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}}
}

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func (c *cloud) allowed(w http.ResponseWriter, r *http.Request, uuid string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key := c.keys[uuid]; key == "" || key != bearer(r) {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return false
	}
	return true
}

func (c *cloud) state(w http.ResponseWriter, r *http.Request) {
	if !c.allowed(w, r, r.PathValue("uuid")) {
		return
	}
	c.mu.Lock()
	c.polls = append(c.polls, time.Now())
	c.etags = append(c.etags, r.Header.Get("If-None-Match"))
	c.mu.Unlock()
	wait, _ := strconv.Atoi(strings.TrimPrefix(r.Header.Get("Prefer"), "wait="))
	late := time.After(time.Duration(wait) * time.Second)
	for {
		c.mu.Lock()
		body, etag, changed, holds := c.target, c.etag, c.changed, c.holds
		c.mu.Unlock()
		if body != nil && r.Header.Get("If-None-Match") != etag {
			w.Header().Set("ETag", etag)
			w.Write(body)
			return
		}
		if holds {
			select {
			case <-changed:
				continue
			case <-late:
			case <-r.Context().Done():
				return
			case <-c.gone:
			}
		}
		w.WriteHeader(http.StatusNotModified)
		return
	}
}

// want makes a target the one to answer with.
func (c *cloud) want(d wire.DeviceTarget) {
	b, err := json.Marshal(wire.Target{deviceUUID: d})
	if err != nil {
		panic(err)
	}
	c.wantBytes(b)
}

func (c *cloud) wantBytes(b []byte) {
	sum := sha256.Sum256(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.target, c.etag = b, `W/"`+hex.EncodeToString(sum[:8])+`"`
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cloud) set(f func(*cloud)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}

func (c *cloud) patch(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var raw map[string]json.RawMessage
	report, err := wire.ParseReport(bytes.NewReader(b))
	if err != nil || json.Unmarshal(b, &raw) != nil {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	for uuid, d := range report {
		if !c.allowed(w, r, uuid) {
			return
		}
		c.mu.Lock()
		c.tries = append(c.tries, time.Now())
		status := 0
		if c.patchFor > 0 {
			c.patchFor--
			status = c.patchErr
		} else {
			c.reports = append(c.reports, sent{time.Now(), d, raw[uuid]})
		}
		c.mu.Unlock()
		if status != 0 {
			http.Error(w, "no", status)
			return
		}
	}
}

func (c *cloud) logs(w http.ResponseWriter, r *http.Request) {
	if !c.allowed(w, r, r.PathValue("uuid")) {
		return
	}
	if r.Header.Get("Content-Type") != wire.ContentTypeLogs || r.Header.Get("Content-Encoding") != "gzip" {
		http.Error(w, "wrong type", http.StatusUnsupportedMediaType)
		return
	}
	// Else the answer waits until the client has sent a good part of a body that does not end.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		panic(err)
	}
	c.set(func(c *cloud) { c.streams++; c.open++ })
	defer c.set(func(c *cloud) { c.open-- })
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s := bufio.NewScanner(z)
	for s.Scan() {
		if len(s.Bytes()) == 0 {
			continue
		}
		l, ok, err := wire.ParseLogLine(s.Bytes())
		if err != nil || !ok {
			http.Error(w, "bad line", http.StatusBadRequest)
			return
		}
		enough := false
		c.set(func(c *cloud) {
			if enough = c.down; enough {
				return
			}
			c.lines = append(c.lines, l)
			if c.hangUp > 0 {
				c.hangUp--
				enough = c.hangUp == 0
			}
		})
		if enough {
			http.Error(w, "enough", http.StatusServiceUnavailable)
			return
		}
	}
	w.WriteHeader(http.StatusCreated)
}

func (c *cloud) registers(w http.ResponseWriter, r *http.Request) {
	var reg wire.Registration
	if err := json.NewDecoder(r.Body).Decode(&reg); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	status, text := http.StatusCreated, ""
	if c.register != nil {
		status, text = c.register(reg)
	}
	if status != http.StatusCreated {
		http.Error(w, text, status)
		return
	}
	id := int64(1000 + len(c.devices))
	c.devices[reg.UUID], c.keys[reg.UUID] = id, reg.APIKey
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(wire.Registered{ID: id, UUID: reg.UUID, APIKey: reg.APIKey})
}

func (c *cloud) device(w http.ResponseWriter, r *http.Request) {
	uuid := strings.Trim(strings.TrimPrefix(r.URL.Query().Get("$filter"), "uuid eq "), "'")
	c.mu.Lock()
	defer c.mu.Unlock()
	id, known := c.devices[uuid]
	switch key := bearer(r); {
	case key == "provision" && c.spent:
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
	case key == "provision" && known, key != "" && key == c.keys[uuid]:
		fmt.Fprintf(w, `{"d":[{"id":%d}]}`, id)
	case key == "provision":
		fmt.Fprint(w, `{"d":[]}`)
	default:
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
	}
}

func (c *cloud) exchange(w http.ResponseWriter, r *http.Request) {
	var body struct{ APIKey string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || bearer(r) != "provision" {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for uuid, id := range c.devices {
		if strconv.FormatInt(id, 10) == r.PathValue("id") {
			c.keys[uuid] = body.APIKey
		}
	}
	fmt.Fprintf(w, "%q", body.APIKey)
}

// messages are the lines so far, as "system: …" and "SERVICE-ID: …".
func (c *cloud) messages() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for _, l := range c.lines {
		who := "system"
		if l.ServiceID != nil {
			who = strconv.FormatInt(*l.ServiceID, 10)
		}
		list = append(list, who+": "+l.Message)
	}
	return list
}

// statuses are the update states of a release in the order they were reported, each once in a row.
func (c *cloud) statuses(commit string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for _, r := range c.reports {
		for _, app := range r.body.Apps {
			if s := string(app.Releases[commit].UpdateStatus); s != "" && (len(list) == 0 || list[len(list)-1] != s) {
				list = append(list, s)
			}
		}
	}
	return list
}

// bench is a device on a test bench: an engine, a server and an agent that can be switched on and off.
type bench struct {
	t      *testing.T
	cloud  *cloud
	engine *enginetest.Fake
	data   string
	root   string
}

// newBench makes a registered device. It is called in a synctest bubble.
func newBench(t *testing.T) *bench {
	b := &bench{t: t, cloud: newCloud(t), engine: enginetest.NewFake(), data: t.TempDir(), root: t.TempDir()}
	b.file("etc/os-release", `PRETTY_NAME="balenaOS 6.0.0"`+"\nVARIANT_ID=prod\n")
	b.file("proc/meminfo", "MemTotal: 24684544 kB\nMemAvailable: 23592960 kB\n")
	b.file("proc/stat", "cpu  63 0 0 37 0 0 0 0 0 0\n")
	b.file("sys/class/thermal/thermal_zone0/temp", "48312\n")
	b.save(Config{
		APIEndpoint: "http://cloud", ApplicationID: "7", DeviceType: "generic-amd64", UUID: deviceUUID, DeviceAPIKey: deviceKey,
		DeviceID: 1001, RegisteredAt: "1795340479",
	})
	return b
}

func (b *bench) file(path, text string) {
	path = filepath.Join(b.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) save(c Config) {
	b.t.Helper()
	if err := c.Save(b.data); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) agent(e engine.Engine) *Agent {
	return &Agent{
		Data: b.data, Engine: e, Socket: "/run/docker.sock", Version: "0.1.0", HTTP: b.cloud.client(), Root: b.root,
		Log: slog.New(slog.NewTextHandler(b.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// on switches an agent on; off switches it off and waits until it is.
func (b *bench) on() (off func()) { return b.onWith(b.engine) }

func (b *bench) onWith(e engine.Engine) (off func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	a := b.agent(e)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("the agent ended with %v", err)
		}
		a.HTTP.CloseIdleConnections()
	}
}

// inBubble runs a test of a device with a clock of its own.
func inBubble(t *testing.T, test func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) { test(t, newBench(t)) })
}

// taken is the reports that were taken so far.
func (c *cloud) taken() []sent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.reports)
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func image(n int) string {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return fmt.Sprintf("reg.test/v2/%032x@sha256:%x", n, sum)
}

// service is a service of a target; composition is JSON or "".
func service(id int64, image, composition string) wire.Service {
	s := wire.Service{ID: id, ImageID: id + 100, Image: image, Environment: map[string]string{"FOO": "bar"}}
	if composition != "" {
		s.Composition = json.RawMessage(composition)
	}
	return s
}

func release(commit string, services map[string]wire.Service) wire.DeviceTarget {
	return wire.DeviceTarget{Name: "test-device", Config: map[string]string{}, Apps: map[string]wire.App{
		fleetUUID: {ID: 7, Name: "fleet1", Slug: "admin/fleet1", Class: "fleet", Releases: map[string]wire.Release{
			commit: {ID: 42, Services: services, Volumes: map[string]json.RawMessage{"data": json.RawMessage("{}")}},
		}},
	}}
}

// running are the services that run, with the number of their image.
func (b *bench) running() map[string]int {
	up := map[string]int{}
	for _, c := range b.engine.All().Containers {
		if c.Status == engine.Running {
			location, _, _ := strings.Cut(c.Image, "@")
			n, err := strconv.ParseInt(location[len(location)-32:], 16, 32)
			if err != nil {
				b.t.Error(err)
			}
			up[c.Labels[engine.LabelServiceName]] = int(n)
		}
	}
	return up
}

func (b *bench) push(numbers ...int) {
	for _, n := range numbers {
		b.engine.Push(image(n), enginetest.Image{Size: 1000, Takes: 2 * time.Second, Run: enginetest.Probe})
	}
}

// pushSlow pushes an image that is on its way for that long.
func (b *bench) pushSlow(n int, takes time.Duration) {
	b.engine.Push(image(n), enginetest.Image{Size: 1000, Takes: takes, Run: enginetest.Probe})
}

func (b *bench) mustRun(want map[string]int) {
	b.t.Helper()
	if got := b.running(); !maps.Equal(got, want) {
		b.t.Fatalf("running services and their images are %v, want %v\nlast: %v", got, want, b.engine.Trace())
	}
}
