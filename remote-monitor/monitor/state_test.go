package monitor_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dunlin/dunlin/remote-monitor/bus"
	"github.com/dunlin/dunlin/remote-monitor/monitor"
	"github.com/dunlin/dunlin/remote-monitor/relay"
	"github.com/dunlin/dunlin/remote-monitor/zone"
)

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedStateIsPutAsideAndStopsNothing(t *testing.T) {
	for name, text := range map[string]string{
		"cut off":            `{"version":1,"zones":{"Seq":12,"Zon`,
		"empty":              ``,
		"of another kind":    `[1,2,3]`,
		"of a later day":     `{"version":99}`,
		"with wrong types":   `{"version":1,"zones":"none"}`,
		"too large to be it": strings.Repeat(" ", 9<<20),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "state.json")
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				b, s := newBench(), &said{}
				m := watching(b, s)
				m.State.Path = file
				var log strings.Builder
				m.Log = slog.New(slog.NewTextHandler(&log, nil))
				stop := start(t, m)
				pass(time.Second)
				ask(m, bus.Command{Group: "house", Action: "arm"})
				pass(2 * time.Minute)
				if err := stop(); err != nil {
					t.Error(err)
				}
				if aside, err := os.ReadFile(file + ".damaged"); err != nil || string(aside) != text {
					t.Errorf("what was damaged is lost: %v", err)
				}
				if !strings.Contains(log.String(), "nothing is remembered") {
					t.Errorf("nothing was said: %s", log.String())
				}
				if k, err := m.State.Load(); err != nil || k.Zones.Groups["house"].State != zone.GroupArmed {
					t.Errorf("the new state: %+v, %v", k, err)
				}
			})
		})
	}
}

func TestAStateThatCannotBeWrittenIsSaidOnceAndStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := newBench(), &said{}
		m := watching(b, s)
		m.State.Path = filepath.Join(t.TempDir(), "no", "such", "folder", "state.json")
		var log strings.Builder
		m.Log = slog.New(slog.NewTextHandler(&log, nil))
		stop := start(t, m)
		pass(10 * time.Minute)
		a := ask(m, bus.Command{ID: "one", Output: "gate", Action: "pulse"})
		pass(3 * time.Second)
		if d := cmp.Diff([]string{"accepted", "done"}, a.statuses()); d != "" {
			t.Error(d)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "a restart will not know"); n != 1 {
			t.Errorf("it was said %d times: %s", n, log.String())
		}
	})
}

func TestTheStateIsWrittenSoonAfterWhatMustSurviveAndElseSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state.json")
		b := newBench()
		m := watching(b, &said{})
		m.State.Path = file
		start(t, m)
		pass(10 * time.Second)
		b.set(func() { b.percent[1] = open })
		pass(2 * time.Second)
		k, err := m.State.Load()
		if err != nil || k.Zones.Zones["Hall"].Tamper == "" {
			t.Errorf("a tamper of two seconds ago is not kept: %+v, %v", k, err)
		}
		writes := 0
		last, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		for range 3600 {
			pass(time.Second)
			if now, err := os.Stat(file); err != nil || !os.SameFile(now, last) { // each write is a new file
				last = now
				writes++
			}
		}
		if writes > 3 {
			t.Errorf("%d writes in an hour in which nothing happened", writes)
		}
	})
}

func TestACommandIsOnTheDiskBeforeItsOutputIsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		m := watching(b, &said{})
		m.State.Path = filepath.Join(t.TempDir(), "state.json")
		start(t, m)
		pass(10 * time.Second)
		var kept []byte
		b.set(func() {
			b.wrote = func(levels uint16) {
				if levels != 0 {
					kept, _ = os.ReadFile(m.State.Path)
				}
			}
		})
		ask(m, bus.Command{ID: "01J8ZK", Output: "gate", Action: "pulse"})
		if !strings.Contains(string(kept), "01J8ZK") {
			t.Errorf("when the gate went on the disk had: %s", kept)
		}
	})
}

// What is on the disk is read by rooms that must take anything.
func FuzzAStateFileNeverStopsTheStart(f *testing.F) {
	f.Add(`{"version":1,"zones":{"Seq":12,"Zones":{"Hall":{"Tamper":"cut","Since":"2001-01-01T00:00:00Z"}},"Groups":{"house":{"State":"exit","By":"x"}}}}`)
	f.Add(`{"version":1,"outputs":{"commands":[{"id":"one","output":"gate","action":"pulse","at":"2001-01-01T00:00:00Z","first":{"status":"accepted","at":"2001-01-01T00:00:00Z"}}],"rested":{"gate":"9999-01-01T00:00:00Z"}}}`)
	f.Add(`{"version":1,"asked":{"one":{"time":"2001-01-01T00:00:00Z","ack":{"status":"done"}}}}`)
	f.Add(`{"version":1,"asked":null,"zones":{"Zones":{"Door":{"Pulses":[{}],"Lone":["0001-01-01T00:00:00Z"],"Quarantine":"9999-12-31T23:59:59Z"}}}}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		file := monitor.StateFile{Path: filepath.Join(t.TempDir(), "state.json")}
		if err := os.WriteFile(file.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := file.Load()
		if _, aside := os.Stat(file.Path); (err != nil) != os.IsNotExist(aside) {
			t.Errorf("%v, and the file: %v", err, aside)
		}
		c := site()
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		p, err := zone.New(c.Site, now)
		if err != nil {
			t.Fatal(err)
		}
		p.Resume(k.Zones, now)
		p.Advance(now.Add(time.Hour))
		r, err := relay.New(c.Relay)
		if err != nil {
			t.Fatal(err)
		}
		r.Resume(k.Outputs, now)
		r.Start(t.Context(), now, newBench().Banks())
	})
}
