package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/internal/delivery"
	"github.com/dunlin/dunlin/internal/delta"
	"github.com/dunlin/dunlin/internal/engine"
	"github.com/dunlin/dunlin/internal/engine/enginetest"
	"github.com/dunlin/dunlin/internal/wire"
)

// offered is a delta that the cloud has.
type offered struct {
	bytes    []byte
	from, to string
}

func digestOf(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func (c *cloud) token(w http.ResponseWriter, r *http.Request) {
	if name, password, _ := r.BasicAuth(); name != "d_"+deviceUUID || password != deviceKey {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	fmt.Fprint(w, `{"token":"pass"}`)
}

func (c *cloud) delta(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	d, ok := c.deltas[r.URL.Query().Get("src")+" "+r.URL.Query().Get("dest")]
	switch {
	case bearer(r) != "pass":
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
	case !ok:
		http.Error(w, "no delta", http.StatusNotFound)
	default:
		json.NewEncoder(w).Encode(wire.Delta{Blob: digestOf(d.bytes), Size: int64(len(d.bytes)), From: d.from, To: d.to})
	}
}

func (c *cloud) blob(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	var content []byte
	for _, d := range c.deltas {
		if strings.HasSuffix(r.URL.Path, "/blobs/"+digestOf(d.bytes)) {
			content = d.bytes
		}
	}
	c.mu.Unlock()
	if content == nil || bearer(r) != "pass" {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// pushLayers pushes image n, which has two layers; the lower is the same for all n.
func (b *bench) pushLayers(n int) delta.Image {
	b.t.Helper()
	layer := func(name, text string) []byte {
		var l bytes.Buffer
		w := tar.NewWriter(&l)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			b.t.Fatal(err)
		}
		io.WriteString(w, text)
		w.Close()
		return l.Bytes()
	}
	layers := [][]byte{layer("base", strings.Repeat("base\n", 1000)), layer("app", strings.Repeat(fmt.Sprintln("app", n), 1000))}
	var made delta.Image
	var ids []string
	for _, l := range layers {
		ids = append(ids, digestOf(l))
		made.Layers = append(made.Layers, delta.Layer{DiffID: digestOf(l), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l)), nil }})
	}
	var err error
	if made.Config, err = json.Marshal(map[string]any{"n": n, "rootfs": map[string]any{"type": "layers", "diff_ids": ids}}); err != nil {
		b.t.Fatal(err)
	}
	b.engine.Push(image(n), enginetest.Image{Size: 20_000, Takes: 20 * time.Second, Run: enginetest.Probe, Config: made.Config, Layers: layers})
	return made
}

// sell has the cloud offer a delta between two images.
func (b *bench) sell(from, to int) {
	b.t.Helper()
	old, next := b.pushLayers(from), b.pushLayers(to)
	var d bytes.Buffer
	if _, err := delta.Make(b.t.Context(), &d, old, next, delta.Options{Dir: b.t.TempDir()}); err != nil {
		b.t.Fatal(err)
	}
	b.cloud.set(func(c *cloud) {
		c.deltas = map[string]offered{image(from) + " " + image(to): {d.Bytes(), digestOf(old.Config), digestOf(next.Config)}}
	})
}

// wants has the cloud want one service of an image, with config variables.
func (b *bench) wants(commit string, n int, config map[string]string) {
	d := release(commit, map[string]wire.Service{"main": service(21, image(n), "")})
	d.Config = config
	b.cloud.want(d)
}

func TestAnUpdateComesAsADelta(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.sell(1, 2)
		b.wants(commitA, 1, nil)
		defer b.on()()
		wait(time.Minute)
		b.mustRun(map[string]int{"main": 1})
		b.wants(commitB, 2, nil)
		wait(time.Minute)
		b.mustRun(map[string]int{"main": 2})
		if n := b.engine.Fetched(image(2)); n > 1000 {
			t.Errorf("%d bytes of the image came from the registry", n)
		}
		if log := b.cloud.messages(); !slices.ContainsFunc(log, func(l string) bool {
			return strings.HasPrefix(l, "system: Downloading delta for image '"+image(2)+"' (")
		}) {
			t.Errorf("the log does not say that it is a delta:\n%s", strings.Join(log, "\n"))
		}
		last := int64(-1)
		for _, r := range b.cloud.taken() {
			p := r.body.Apps[fleetUUID].Releases[commitB].Services["main"].DownloadProgress
			if p != nil && *p < last {
				t.Errorf("progress went from %d to %d", last, *p)
			} else if p != nil {
				last = *p
			}
		}
	})
}

func TestADeltaThatFailsIsReported(t *testing.T) {
	for _, fallback := range []string{"", "wait"} {
		inBubble(t, func(t *testing.T, b *bench) {
			b.sell(1, 2)
			b.wants(commitA, 1, nil)
			defer b.on()()
			wait(time.Minute)
			b.engine.Before("load", func() error { return fmt.Errorf("the engine has a bad day") })
			b.wants(commitB, 2, map[string]string{"BALENA_SUPERVISOR_DELTA_FALLBACK": fallback})
			wait(2 * time.Minute)
			log := strings.Join(b.cloud.messages(), "\n")
			if fallback == "wait" {
				b.mustRun(map[string]int{"main": 1})
				if n := b.engine.Fetched(image(2)); n > 0 || !strings.Contains(log, "system: Failed to download image '"+image(2)+"' due to") {
					t.Errorf("%d bytes were pulled by a device that waits for deltas; its log:\n%s", n, log)
				}
				return
			}
			b.mustRun(map[string]int{"main": 2})
			if want := "system: Failed to download delta for image '" + image(2) + "' due to 'apply the delta: the engine has a bad day'; downloading the whole image"; !strings.Contains(log, want) {
				t.Errorf("the log does not say why:\n%s", log)
			}
		})
	}
}

func TestADeviceWithDeltasOffAsksForNone(t *testing.T) {
	for _, off := range []string{"0", "false"} {
		inBubble(t, func(t *testing.T, b *bench) {
			b.sell(1, 2)
			b.wants(commitA, 1, map[string]string{"RESIN_SUPERVISOR_DELTA": off})
			defer b.on()()
			wait(time.Minute)
			b.wants(commitB, 2, map[string]string{"RESIN_SUPERVISOR_DELTA": off})
			wait(time.Minute)
			b.mustRun(map[string]int{"main": 2})
			b.cloud.set(func(c *cloud) {
				if c.asked > 0 {
					t.Errorf("it asked %d times", c.asked)
				}
			})
		})
	}
}

func TestConfigVariablesSayHowDeltasAreUsed(t *testing.T) {
	standard := delivery.Policy{Deltas: true, Retries: 30, Interval: 10 * time.Second, RequestTimeout: 59 * time.Second}
	for name, tt := range map[string]struct {
		config map[string]string
		change func(*delivery.Policy)
	}{
		"none":                  {nil, func(*delivery.Policy) {}},
		"on":                    {map[string]string{"RESIN_SUPERVISOR_DELTA": "1"}, func(*delivery.Policy) {}},
		"off":                   {map[string]string{"BALENA_SUPERVISOR_DELTA": "0"}, func(p *delivery.Policy) { p.Deltas = false }},
		"the newer prefix wins": {map[string]string{"BALENA_SUPERVISOR_DELTA": "1", "RESIN_SUPERVISOR_DELTA": "0"}, func(*delivery.Policy) {}},
		"figures": {
			map[string]string{
				"RESIN_SUPERVISOR_DELTA_RETRY_COUNT": "3", "RESIN_SUPERVISOR_DELTA_RETRY_INTERVAL": "500",
				"BALENA_SUPERVISOR_DELTA_REQUEST_TIMEOUT": "7000", "BALENA_SUPERVISOR_DELTA_APPLY_TIMEOUT": "60000", "RESIN_SUPERVISOR_DELTA_FALLBACK": "Wait",
			},
			func(p *delivery.Policy) {
				*p = delivery.Policy{Deltas: true, Wait: true, Retries: 3, Interval: 500 * time.Millisecond, RequestTimeout: 7 * time.Second, ApplyTimeout: time.Minute}
			},
		},
		"nonsense": {
			map[string]string{
				"RESIN_SUPERVISOR_DELTA_RETRY_COUNT": "-3", "RESIN_SUPERVISOR_DELTA_RETRY_INTERVAL": "soon", "RESIN_SUPERVISOR_DELTA": "perhaps",
				"RESIN_SUPERVISOR_DELTA_REQUEST_TIMEOUT": "", "RESIN_SUPERVISOR_DELTA_APPLY_TIMEOUT": "1e9", "RESIN_SUPERVISOR_DELTA_FALLBACK": "no",
			},
			func(*delivery.Policy) {},
		},
	} {
		want := standard
		tt.change(&want)
		if diff := cmp.Diff(want, (&target{config: tt.config}).deltas()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestAnAgentKilledAnywhereInADeltaIsFollowedByOneThatGetsThere kills the agent at every call of an update by a delta.
func TestAnAgentKilledAnywhereInADeltaIsFollowedByOneThatGetsThere(t *testing.T) {
	for _, when := range []string{"before", "during", "after"} {
		for n := int64(1); ; n++ {
			died := false
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.sell(1, 2)
				b.wants(commitA, 1, nil)
				off := b.on()
				wait(time.Minute)
				b.mustRun(map[string]int{"main": 1})
				off()
				b.wants(commitB, 2, nil)
				ctx, kill := context.WithCancel(t.Context())
				m := &mortal{Engine: b.engine, when: when, kill: kill}
				m.left.Store(n)
				first := b.agent(m)
				ended := make(chan error, 1)
				go func() { ended <- first.Run(ctx) }()
				wait(time.Minute)
				kill()
				if err := <-ended; err != nil {
					t.Errorf("the killed agent ended with %v", err)
				}
				first.HTTP.CloseIdleConnections()
				defer b.on()()
				wait(time.Minute)
				b.mustRun(map[string]int{"main": 2})
				if fetched := b.engine.Fetched(image(2)); fetched > 2000 {
					t.Errorf("%d bytes came from the registry", fetched)
				}
				if _, err := b.engine.Layers(t.Context(), engine.Loaded); err == nil {
					t.Error("what was loaded is there still")
				}
				if s := b.engine.All(); len(s.Images) != 1 || len(s.Containers) != 1 {
					t.Errorf("left over: %d images, %d containers", len(s.Images), len(s.Containers))
				}
				died = m.dead.Load()
			})
			if t.Failed() {
				t.Fatalf("killed %s call %d", when, n)
			}
			if !died {
				if n < 8 {
					t.Fatalf("the update took only %d calls", n-1)
				}
				break
			}
		}
	}
}
